//! The SSH authorities and what of them is revoked.

use cofferdam_vault::{MAX_CERTIFICATE_SECONDS, Purpose};

use super::{
    Store,
    change::Change,
    db::{Row, args},
    error::StoreError,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    authority::{Authorities, Authority, LISTED_SECONDS, Revoked, Stage, Which},
    clock::Timestamp,
};

const COLUMNS: &str =
    "id, purpose, public_key, sealed, made_at, made_by, signs_from, trusted_until, finished_at";

/// An authority that is to take over.
#[derive(Debug, Clone)]
pub struct NewAuthority {
    /// What it signs.
    pub purpose: Purpose,
    /// The fingerprint of its public key.
    pub id: String,
    /// Its public key, one line.
    pub public_key: String,
    /// Its private key, sealed by the vault.
    pub sealed: Vec<u8>,
    /// How long the old one stays trusted, seconds.
    pub overlap_seconds: i64,
    /// When it takes over by itself; none: when somebody says so.
    pub signs_from: Option<Timestamp>,
}

impl Store {
    /// All authorities, the oldest first.
    pub async fn authorities(&self) -> Result<Authorities, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM authority ORDER BY made_at, id");
        let rows = self.0.pools.rows(sql, vec![]).await?;
        rows.iter().map(authority).collect::<Result<_, _>>().map(Authorities)
    }

    /// Takes note of the authority in the configured file, which signs until another takes over. Answers whether it was
    /// new: only the first of each purpose is taken.
    pub async fn know_authority(
        &self,
        act: &Act,
        purpose: Purpose,
        id: &str,
        public_key: &str,
    ) -> Result<bool, StoreError> {
        if self.authorities().await?.0.iter().any(|a| a.purpose == purpose) {
            return Ok(false);
        }
        let mut change = self.change(act).await?;
        if all(&mut change).await?.0.iter().any(|a| a.purpose == purpose) {
            change.abandon().await?;
            return Ok(false);
        }
        change
            .execute(
                "INSERT INTO authority (id, purpose, public_key, made_at, made_by, signs_from) \
                 VALUES ($1, $2, $3, $4, $5, 0)",
                args![id, purpose.as_str(), public_key, act.at, act.actor.as_str()],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::AuthorityKnown, id).with("purpose", purpose.as_str());
        change.commit(event).await?;
        Ok(true)
    }

    /// Publishes an authority that is to take over, and gives the present one its end.
    pub async fn rotate_authority(&self, act: &Act, new: &NewAuthority) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let (purpose, known) = (new.purpose, all(&mut change).await?);
        let Some(present) = known.signing(purpose, act.at) else {
            return Err(StoreError::not_found("authority", purpose));
        };
        let under_way = [Stage::Next, Stage::Retiring].iter().find_map(|s| known.at(purpose, *s, act.at));
        if let Some(other) = under_way {
            return Err(StoreError::Refused(format!(
                "the {purpose} authority is being replaced already ({} is {}): see `cofferdam vault ca status`, finish that \
                 first",
                other.id,
                known.stage(other, act.at).as_str()
            )));
        }
        if new.signs_from.is_some_and(|from| from <= act.at) {
            return Err(StoreError::Refused(
                "the time at which the new authority takes over has passed: name a later one".into(),
            ));
        }
        let end = act.at.plus_seconds(new.overlap_seconds);
        let end = new.signs_from.map_or(end, |from| end.max(safe_end(from)));
        change
            .execute(
                "INSERT INTO authority (id, purpose, public_key, sealed, made_at, made_by, signs_from) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                args![
                    &new.id,
                    purpose.as_str(),
                    &new.public_key,
                    new.sealed.as_slice(),
                    act.at,
                    act.actor.as_str(),
                    new.signs_from,
                ],
            )
            .await?;
        ends(&mut change, &present.id, end).await?;
        // Whatever ended by itself since: nobody needs its private key.
        for over in known.0.iter().filter(|a| known.stage(a, act.at) == Stage::Finished) {
            change.execute("UPDATE authority SET sealed = NULL WHERE id = $1", args![&over.id]).await?;
        }
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::AuthorityRotated, &new.id)
            .with("purpose", purpose.as_str())
            .with("replaces", present.id.as_str())
            .with("trusted_until", end.to_string())
            .with_some("signs_from", new.signs_from.map(|from| from.to_string()));
        change.commit(event).await.map(drop)
    }

    /// Says from when on the new authority signs. The old one stays trusted for at least as long as a certificate lives
    /// after that; answers until when.
    pub async fn switch_authority(
        &self,
        act: &Act,
        purpose: Purpose,
        from: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let mut change = self.change(act).await?;
        let known = all(&mut change).await?;
        let (Some(next), Some(present)) =
            (known.at(purpose, Stage::Next, act.at), known.signing(purpose, act.at))
        else {
            return Err(StoreError::Refused(format!(
                "no new {purpose} authority waits: publish one with `cofferdam vault ca rotate {purpose}`"
            )));
        };
        let from = from.max(act.at);
        let end = present.trusted_until.unwrap_or(from).max(safe_end(from));
        change.execute("UPDATE authority SET signs_from = $1 WHERE id = $2", args![from, &next.id]).await?;
        ends(&mut change, &present.id, end).await?;
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::AuthoritySwitched, &next.id)
            .with("purpose", purpose.as_str())
            .with("signs_from", from.to_string())
            .with("trusted_until", end.to_string());
        change.commit(event).await?;
        Ok(end)
    }

    /// Ends the trust in the authority that was replaced; answers its id. Its private key is gone from the store.
    pub async fn finish_authority(&self, act: &Act, purpose: Purpose) -> Result<String, StoreError> {
        let mut change = self.change(act).await?;
        let known = all(&mut change).await?;
        let Some(old) = known.at(purpose, Stage::Retiring, act.at) else {
            let why = match known.at(purpose, Stage::Next, act.at) {
                Some(_) => format!(
                    "the new {purpose} authority does not sign yet: when everything trusts it, `cofferdam vault ca switch \
                     {purpose}`"
                ),
                None => format!("no {purpose} authority waits for its end: see `cofferdam vault ca status`"),
            };
            return Err(StoreError::Refused(why));
        };
        end_now(&mut change, act, old).await?;
        let id = old.id.clone();
        let event = AuditEvent::new(AuditKind::AuthorityFinished, &id).with("purpose", purpose.as_str());
        change.commit(event).await?;
        Ok(id)
    }

    /// Ends the trust in an authority that does not sign, whatever was planned: its key is in wrong hands.
    pub async fn revoke_authority(
        &self,
        act: &Act,
        purpose: Purpose,
        id: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let known = all(&mut change).await?;
        let one = known.0.iter().find(|a| a.purpose == purpose && a.id == id);
        let one = one.ok_or_else(|| StoreError::not_found("authority", id))?;
        match known.stage(one, act.at) {
            Stage::Signing => {
                return Err(StoreError::Refused(format!(
                    "{id} signs: first `cofferdam vault ca rotate {purpose}`, let targets trust the new one, `switch`, then \
                     revoke this one"
                )));
            }
            Stage::Finished => return Err(StoreError::Refused(format!("{id} counts no more already"))),
            // Without its successor the present one goes on.
            Stage::Next => {
                if let Some(present) = known.signing(purpose, act.at) {
                    change
                        .execute(
                            "UPDATE authority SET trusted_until = NULL WHERE id = $1",
                            args![&present.id],
                        )
                        .await?;
                }
            }
            Stage::Retiring => {}
        }
        end_now(&mut change, act, one).await?;
        let event = AuditEvent::new(AuditKind::AuthorityFinished, id)
            .with("purpose", purpose.as_str())
            .with("reason", reason);
        change.commit(event).await.map(drop)
    }

    /// Puts a single certificate on the revocation list.
    pub async fn revoke_certificate(
        &self,
        act: &Act,
        purpose: Purpose,
        which: &Which,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let (kind, value) = named(which);
        change
            .execute(
                "INSERT INTO revoked_certificate (purpose, kind, value, at, listed_until, actor, reason) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (purpose, kind, value) DO UPDATE SET \
                 at = excluded.at, listed_until = excluded.listed_until, actor = excluded.actor, \
                 reason = excluded.reason",
                args![
                    purpose.as_str(),
                    kind,
                    &value,
                    act.at,
                    act.at.plus_seconds(LISTED_SECONDS),
                    act.actor.as_str(),
                    reason,
                ],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::CertificateRevoked, &value)
            .with("purpose", purpose.as_str())
            .with("by", kind)
            .with("reason", reason);
        change.commit(event).await.map(drop)
    }

    /// The certificates that are on the revocation list now, the newest first.
    pub async fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<Revoked>, StoreError> {
        let rows = self
            .0
            .pools
            .rows(
                "SELECT purpose, kind, value, at, actor, reason FROM revoked_certificate \
                 WHERE listed_until > $1 ORDER BY at DESC, value",
                args![now],
            )
            .await?;
        rows.iter().map(revoked).collect()
    }
}

/// The last certificate that was signed before `from` has ended then.
fn safe_end(from: Timestamp) -> Timestamp {
    from.plus_seconds(MAX_CERTIFICATE_SECONDS)
}

async fn all(change: &mut Change<'_>) -> Result<Authorities, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM authority ORDER BY made_at, id");
    change.rows(sql, vec![]).await?.iter().map(authority).collect::<Result<_, _>>().map(Authorities)
}

async fn ends(change: &mut Change<'_>, id: &str, at: Timestamp) -> Result<(), StoreError> {
    change.execute("UPDATE authority SET trusted_until = $1 WHERE id = $2", args![at, id]).await.map(drop)
}

async fn end_now(change: &mut Change<'_>, act: &Act, one: &Authority) -> Result<(), StoreError> {
    change.policy_sees_it();
    change
        .execute("UPDATE authority SET finished_at = $1, sealed = NULL WHERE id = $2", args![act.at, &one.id])
        .await
        .map(drop)
}

fn authority(row: &Row) -> Result<Authority, StoreError> {
    Ok(Authority {
        id: row.text("id")?,
        purpose: row.parsed("purpose")?,
        public_key: row.text("public_key")?,
        sealed: row.opt_bytes("sealed")?,
        made_at: row.time("made_at")?,
        made_by: row.text("made_by")?,
        signs_from: row.opt_time("signs_from")?,
        trusted_until: row.opt_time("trusted_until")?,
        finished_at: row.opt_time("finished_at")?,
    })
}

fn named(which: &Which) -> (&'static str, String) {
    match which {
        Which::Serial(serial) => ("serial", serial.to_string()),
        Which::KeyId(id) => ("key_id", id.clone()),
    }
}

fn revoked(row: &Row) -> Result<Revoked, StoreError> {
    let which = match row.text("kind")?.as_str() {
        "serial" => Which::Serial(row.parsed("value")?),
        "key_id" => Which::KeyId(row.text("value")?),
        other => return Err(StoreError::damaged("revoked certificate", other)),
    };
    Ok(Revoked {
        purpose: row.parsed("purpose")?,
        which,
        at: row.time("at")?,
        by: row.text("actor")?,
        reason: row.text("reason")?,
    })
}
