//! Log-ins to the web interface: sessions, challenges, passkeys, tokens. Of a cookie or token only its digest is kept.

use std::collections::HashMap;

use super::{
    Store,
    change::{Change, Quiet},
    db::{Row, args},
    error::StoreError,
    filter::Select,
    people::ensure_row,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    decision::{Factors, SecondFactorKind},
    ids::{ApiTokenId, Name, WebSessionId},
};

/// `seen_at` is written no more often than this, seconds: a page a second must not be a write a second.
const SEEN_EVERY: i64 = 30;
/// Most passkeys of one person.
const MOST_PASSKEYS: u64 = 16;
/// Most tokens of one person that still work.
const MOST_TOKENS: u64 = 32;

/// A log-in to the web interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSession {
    /// Its id; knowing it gives nothing.
    pub id: WebSessionId,
    /// Who logged in.
    pub person: Name,
    /// How they proved it.
    pub factors: Factors,
    /// The address it was opened from.
    pub source: String,
    /// What the browser calls itself; shown, never trusted.
    pub client: String,
    /// When.
    pub created_at: Timestamp,
    /// The last request, to within half a minute.
    pub seen_at: Timestamp,
    /// The absolute end.
    pub expires_at: Timestamp,
}

/// A passkey as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPasskey {
    /// The credential's id, base64url.
    pub id: String,
    /// Whose.
    pub person: Name,
    /// What its owner calls it.
    pub name: String,
    /// Public key and counter, as the WebAuthn library writes them (JSON).
    pub body: String,
    /// When it was enrolled.
    pub created_at: Timestamp,
    /// When it last proved somebody.
    pub used_at: Option<Timestamp>,
}

/// A token of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id; knowing it gives nothing.
    pub id: ApiTokenId,
    /// For whom it acts.
    pub person: Name,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// First moment at which it no longer works.
    pub expires_at: Timestamp,
    /// The last use, to within half a minute.
    pub used_at: Option<Timestamp>,
}

const SESSION: &str =
    "SELECT id, person, factors, source, client, created_at, seen_at, expires_at FROM web_session";
const PASSKEY: &str = "SELECT id, person, name, body, created_at, used_at FROM passkey";
const TOKEN: &str = "SELECT id, person, name, scopes, created_at, expires_at, used_at FROM api_token";

impl Store {
    /// Keeps a log-in under the digest of its cookie and writes [`AuditKind::WebSessionOpened`].
    pub async fn open_web_session(
        &self,
        act: &Act,
        digest: &str,
        session: &WebSession,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let factors =
            serde_json::to_string(&session.factors).map_err(|e| StoreError::damaged("web session", e))?;
        change
            .execute(
                "INSERT INTO web_session (digest, id, person, factors, source, client, created_at, seen_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
                args![
                    digest,
                    session.id.to_string(),
                    &session.person,
                    factors,
                    &session.source,
                    &session.client,
                    session.created_at,
                    session.expires_at,
                ],
            )
            .await?;
        change.execute("DELETE FROM web_session WHERE expires_at <= $1", args![act.at]).await?;
        let event = AuditEvent::new(AuditKind::WebSessionOpened, session.id)
            .with("person", session.person.as_str())
            .with("first_factor", session.factors.first.as_str())
            .with_some("second_factor", session.factors.second.as_ref().map(|s| s.kind.as_str()));
        change.commit(event).await.map(drop)
    }

    /// The log-in behind a cookie's digest, if it is neither over nor idle for `idle_seconds` at `now`. Notes that it was
    /// used.
    pub async fn web_session(
        &self,
        digest: &str,
        idle_seconds: u32,
        now: Timestamp,
    ) -> Result<Option<WebSession>, StoreError> {
        let sql = format!("{SESSION} WHERE digest = $1 AND expires_at > $2 AND seen_at > $3");
        let idle_since = now.plus_seconds(-i64::from(idle_seconds));
        let Some(row) = self.0.pools.row(sql, args![digest, now, idle_since]).await? else { return Ok(None) };
        let session = web_session(&row)?;
        if session.seen_at.plus_seconds(SEEN_EVERY) <= now {
            self.seen(now, "UPDATE web_session SET seen_at = $2 WHERE digest = $1 AND seen_at < $2", digest)
                .await?;
        }
        Ok(Some(session))
    }

    /// Whether a log-in still stands, without counting as use of it: for streams that outlive their request.
    pub async fn web_session_stands(
        &self,
        id: WebSessionId,
        idle_seconds: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let idle_since = now.plus_seconds(-i64::from(idle_seconds));
        let row = self
            .0
            .pools
            .row(
                "SELECT id FROM web_session WHERE id = $1 AND expires_at > $2 AND seen_at > $3",
                args![id.to_string(), now, idle_since],
            )
            .await?;
        Ok(row.is_some())
    }

    /// Of these log-ins, those that are not over by `now`, each with its last use: for many streams at once.
    pub async fn web_sessions_standing(
        &self,
        ids: &[WebSessionId],
        now: Timestamp,
    ) -> Result<HashMap<WebSessionId, Timestamp>, StoreError> {
        let mut standing = HashMap::new();
        for some in ids.chunks(super::MAX_ROWS as usize) {
            let (sql, values) = Select::new("SELECT id, seen_at FROM web_session")
                .and("expires_at > ?", now)
                .and_in("id", some.iter().map(ToString::to_string))
                .finish("id", 0);
            for row in self.0.pools.rows(sql, values).await? {
                standing.insert(row.parsed("id")?, row.time("seen_at")?);
            }
        }
        Ok(standing)
    }

    async fn seen(&self, now: Timestamp, sql: &'static str, digest: &str) -> Result<(), StoreError> {
        let mut change = self.change(&Act::system("web", now)).await?;
        change.execute(sql, args![digest, now]).await?;
        change.commit_quietly(Quiet::Seen).await
    }

    /// The person's log-ins that are not over, the newest first.
    pub async fn web_sessions(&self, person: &Name, now: Timestamp) -> Result<Vec<WebSession>, StoreError> {
        let sql =
            format!("{SESSION} WHERE person = $1 AND expires_at > $2 ORDER BY created_at DESC LIMIT 1000");
        self.0.pools.rows(sql, args![person, now]).await?.iter().map(web_session).collect()
    }

    /// Ends one log-in of `person`; says whether there was one.
    pub async fn close_web_session(
        &self,
        act: &Act,
        person: &Name,
        id: WebSessionId,
    ) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let closed = change
            .execute("DELETE FROM web_session WHERE id = $1 AND person = $2", args![id.to_string(), person])
            .await?;
        if closed == 0 {
            change.abandon().await?;
            return Ok(false);
        }
        // Whoever streams to that browser looks again.
        change.policy_sees_it();
        change
            .commit(AuditEvent::new(AuditKind::WebSessionClosed, id).with("person", person.as_str()))
            .await?;
        Ok(true)
    }

    /// Keeps what a browser was asked, until `expires_at`. No event: nothing has happened yet.
    pub async fn put_challenge(
        &self,
        now: Timestamp,
        id: &str,
        purpose: &str,
        body: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.change(&Act::system("web", now)).await?;
        change.execute("DELETE FROM web_challenge WHERE expires_at <= $1", args![now]).await?;
        change
            .execute(
                "INSERT INTO web_challenge (id, purpose, body, expires_at) VALUES ($1, $2, $3, $4)",
                args![id, purpose, body, expires_at],
            )
            .await?;
        change.commit_quietly(Quiet::Question).await
    }

    /// Takes back what was asked, if it was asked for exactly this purpose and is not over: works once.
    pub async fn take_challenge(
        &self,
        now: Timestamp,
        id: &str,
        purpose: &str,
    ) -> Result<Option<String>, StoreError> {
        let mut change = self.change(&Act::system("web", now)).await?;
        let row = change
            .row(
                "DELETE FROM web_challenge WHERE id = $1 AND purpose = $2 AND expires_at > $3 RETURNING body",
                args![id, purpose, now],
            )
            .await?;
        let body = row.map(|r| r.text("body")).transpose()?;
        change.commit_quietly(Quiet::Question).await?;
        Ok(body)
    }

    /// The person's passkeys, the oldest first.
    pub async fn passkeys(&self, person: &Name) -> Result<Vec<StoredPasskey>, StoreError> {
        let sql = format!("{PASSKEY} WHERE person = $1 ORDER BY created_at LIMIT 100");
        self.0.pools.rows(sql, args![person]).await?.iter().map(passkey).collect()
    }

    /// The passkey of that credential id.
    pub async fn passkey(&self, id: &str) -> Result<Option<StoredPasskey>, StoreError> {
        let sql = format!("{PASSKEY} WHERE id = $1");
        self.0.pools.row(sql, args![id]).await?.as_ref().map(passkey).transpose()
    }

    /// Keeps a new passkey.
    pub async fn add_passkey(&self, act: &Act, new: &StoredPasskey) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        ensure_row(&mut change, &new.person).await?;
        put_passkey(&mut change, new).await?;
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::SecondFactorChanged, &new.person)
            .with("passkey_added", new.id.as_str())
            .with("name", new.name.as_str());
        change.commit(event).await.map(drop)
    }

    /// Removes one passkey of `person`; says whether there was one. The log-ins that a passkey opened end with it: which
    /// of them opened one is not kept, and whoever removes a stolen one wants its log-ins gone.
    pub async fn remove_passkey(&self, act: &Act, person: &Name, id: &str) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let gone =
            change.execute("DELETE FROM passkey WHERE id = $1 AND person = $2", args![id, person]).await?;
        if gone == 0 {
            change.abandon().await?;
            return Ok(false);
        }
        close_opened_by_passkey(&mut change, person).await?;
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::SecondFactorChanged, person).with("passkey_removed", id);
        change.commit(event).await?;
        Ok(true)
    }

    /// A passkey proved its owner: keeps its new counter and writes `event`. Refused if somebody changed it meanwhile,
    /// which two proofs at once with one counter would.
    pub async fn use_passkey(
        &self,
        act: &Act,
        before: &StoredPasskey,
        body: &str,
        event: AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let used = change
            .execute(
                "UPDATE passkey SET body = $3, used_at = $4 WHERE id = $1 AND body = $2",
                args![&before.id, &before.body, body, act.at],
            )
            .await?;
        if used == 0 {
            change.commit(AuditEvent::new(AuditKind::SecondFactorReplayed, &before.person)).await?;
            return Ok(false);
        }
        change.commit(event).await?;
        Ok(true)
    }

    /// Keeps a token under its digest.
    pub async fn add_token(&self, act: &Act, digest: &str, token: &ApiToken) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let standing = change
            .row(
                "SELECT COUNT(*) AS n FROM api_token WHERE person = $1 AND expires_at > $2",
                args![&token.person, act.at],
            )
            .await?;
        if standing.map(|r| r.count("n")).transpose()?.unwrap_or(0) >= MOST_TOKENS {
            return Err(StoreError::Refused(format!(
                "{} has {MOST_TOKENS} tokens already: revoke one first",
                token.person
            )));
        }
        let scopes = serde_json::to_string(&token.scopes).map_err(|e| StoreError::damaged("token", e))?;
        change
            .execute(
                "INSERT INTO api_token (digest, id, person, name, scopes, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                args![
                    digest,
                    token.id.to_string(),
                    &token.person,
                    &token.name,
                    &scopes,
                    token.created_at,
                    token.expires_at,
                ],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::TokenMade, token.id)
            .with("person", token.person.as_str())
            .with("name", token.name.as_str())
            .with("scopes", scopes)
            .with("expires_at", token.expires_at.micros());
        change.commit(event).await.map(drop)
    }

    /// The token of that digest, if it works at `now`. Notes that it was used.
    pub async fn token(&self, digest: &str, now: Timestamp) -> Result<Option<ApiToken>, StoreError> {
        let sql = format!("{TOKEN} WHERE digest = $1 AND expires_at > $2");
        let Some(row) = self.0.pools.row(sql, args![digest, now]).await? else { return Ok(None) };
        let token = api_token(&row)?;
        if token.used_at.is_none_or(|at| at.plus_seconds(SEEN_EVERY) <= now) {
            self.seen(
                now,
                "UPDATE api_token SET used_at = $2 WHERE digest = $1 AND (used_at IS NULL OR used_at < $2)",
                digest,
            )
            .await?;
        }
        Ok(Some(token))
    }

    /// The person's tokens that still work, the newest first.
    pub async fn tokens(&self, person: &Name, now: Timestamp) -> Result<Vec<ApiToken>, StoreError> {
        let sql =
            format!("{TOKEN} WHERE person = $1 AND expires_at > $2 ORDER BY created_at DESC LIMIT 1000");
        self.0.pools.rows(sql, args![person, now]).await?.iter().map(api_token).collect()
    }

    /// Revokes one token of `person`; says whether there was one.
    pub async fn revoke_token(&self, act: &Act, person: &Name, id: ApiTokenId) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let gone = change
            .execute("DELETE FROM api_token WHERE id = $1 AND person = $2", args![id.to_string(), person])
            .await?;
        if gone == 0 {
            change.abandon().await?;
            return Ok(false);
        }
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::TokenRevoked, id).with("person", person.as_str());
        change.commit(event).await?;
        Ok(true)
    }
}

/// Keeps a passkey within a change that audits it.
pub(super) async fn put_passkey(change: &mut Change<'_>, new: &StoredPasskey) -> Result<(), StoreError> {
    let count = change.row("SELECT COUNT(*) AS n FROM passkey WHERE person = $1", args![&new.person]).await?;
    if count.map(|r| r.count("n")).transpose()?.unwrap_or(0) >= MOST_PASSKEYS {
        return Err(StoreError::Refused(format!(
            "{} has {MOST_PASSKEYS} passkeys already: remove one first",
            new.person
        )));
    }
    let added = change
        .execute(
            "INSERT INTO passkey (id, person, name, body, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO NOTHING",
            args![&new.id, &new.person, &new.name, &new.body, new.created_at],
        )
        .await?;
    if added == 0 {
        return Err(StoreError::Exists { what: "passkey", name: new.name.clone() });
    }
    Ok(())
}

/// Ends all log-ins and tokens of a person: what they were opened with no longer counts.
pub(super) async fn close_all(change: &mut Change<'_>, person: &Name) -> Result<(), StoreError> {
    change.execute("DELETE FROM web_session WHERE person = $1", args![person]).await?;
    change.execute("DELETE FROM desktop_token WHERE person = $1", args![person]).await?;
    change.execute("DELETE FROM api_token WHERE person = $1", args![person]).await.map(drop)
}

async fn close_opened_by_passkey(change: &mut Change<'_>, person: &Name) -> Result<(), StoreError> {
    let all = change.rows(format!("{SESSION} WHERE person = $1"), args![person]).await?;
    for session in all.iter().map(web_session).collect::<Result<Vec<_>, _>>()? {
        if session.factors.second.is_some_and(|s| s.kind == SecondFactorKind::Passkey) {
            change.execute("DELETE FROM web_session WHERE id = $1", args![session.id.to_string()]).await?;
        }
    }
    Ok(())
}

fn web_session(row: &Row) -> Result<WebSession, StoreError> {
    Ok(WebSession {
        id: row.parsed("id")?,
        person: row.parsed("person")?,
        factors: row.json("factors")?,
        source: row.text("source")?,
        client: row.text("client")?,
        created_at: row.time("created_at")?,
        seen_at: row.time("seen_at")?,
        expires_at: row.time("expires_at")?,
    })
}

fn passkey(row: &Row) -> Result<StoredPasskey, StoreError> {
    Ok(StoredPasskey {
        id: row.text("id")?,
        person: row.parsed("person")?,
        name: row.text("name")?,
        body: row.text("body")?,
        created_at: row.time("created_at")?,
        used_at: row.opt_time("used_at")?,
    })
}

fn api_token(row: &Row) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: row.parsed("id")?,
        person: row.parsed("person")?,
        name: row.text("name")?,
        scopes: row.json("scopes")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        used_at: row.opt_time("used_at")?,
    })
}
