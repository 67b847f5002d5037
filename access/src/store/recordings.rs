//! Recordings as far as the store knows them: how long they are kept, what holds them, and their deletion. The rules of who
//! may are in [`crate::retention`]; here they are asked in the transaction that writes, with the people as the site has
//! them at that moment.

use serde::Serialize;

use super::{
    Store,
    audit::AuditFilter,
    change::Change,
    db::{Row, Sql, Value, args},
    error::StoreError,
    filter::Select,
    sessions::NewSession,
    site,
};
use crate::{
    audit::{Act, AuditEvent, AuditKeys, AuditKind},
    clock::Timestamp,
    ids::{DeletionId, Login, Name, SessionId},
    people::{Duty, User},
    retention::{Deletion, DeletionRequest, DeletionStanding},
    site::Asset,
    window::RequestDigest,
};

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Who placed it, as the audit log names them.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// That a recording was deleted by two people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// When the second person agreed.
    pub at: Timestamp,
    /// The request.
    pub request: DeletionId,
    /// Who asked.
    pub requested_by: Name,
    /// Who agreed.
    pub approved_by: Name,
    /// When its files were gone; none: that is still to be done.
    pub erased_at: Option<Timestamp>,
}

/// A recording as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptRecording {
    /// Its session, whose id is the recording's.
    pub session: SessionId,
    /// The person.
    pub person: Name,
    /// The asset.
    pub asset: Name,
    /// The account on it.
    pub login: Login,
    /// The gateway that recorded it.
    pub node: String,
    /// The asset's zone when the session opened, if that is known.
    pub zone: Option<Name>,
    /// Whether the asset was a crown jewel then, if that is known.
    pub crown_jewel: Option<bool>,
    /// When the session opened.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Digest of the seal, lower-case hexadecimal, if the recording was sealed in order.
    pub digest: Option<String>,
    /// What holds it.
    pub hold: Option<Hold>,
    /// Who ever lifted a hold from it: they take no part in its deletion.
    pub lifters: Vec<Name>,
    /// Its deletion, if it was deleted.
    pub deleted: Option<Deleted>,
}

/// Which recordings to list.
#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    /// Only recorded by this gateway.
    pub node: Option<String>,
    /// Only sessions that ended before this moment.
    pub ended_before: Option<Timestamp>,
    /// Only those deleted (`true`) or not (`false`).
    pub deleted: Option<bool>,
    /// Only those deleted whose files are still to be erased.
    pub to_erase: bool,
    /// Only ids after this one, which are newer (for paging).
    pub after: Option<SessionId>,
    /// Most rows; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

const ALL: &str = "SELECT s.id, s.person, s.asset, s.login, s.node, s.started_at, s.ended_at, s.recording_digest, r.zone, \
                   r.crown_jewel, r.held_by, r.held_at, r.held_reason, r.lifters, r.deletion, r.deleted_at, \
                   r.requested_by, r.approved_by, r.erased_at FROM recording r JOIN session s ON s.id = r.session";
/// Notes what decides how long the recording of a new session is kept.
pub(super) async fn insert(change: &mut Change<'_>, new: &NewSession) -> Result<(), StoreError> {
    let asset: Option<Asset> = site::item(change, "asset", &new.asset).await?;
    let zone = asset.as_ref().map(|a| a.zone.to_string());
    let jewel = asset.as_ref().map(|a| i64::from(a.crown_jewel));
    change
        .execute(
            "INSERT INTO recording (session, zone, crown_jewel) VALUES ($1, $2, $3)",
            args![new.id.to_string(), zone, jewel],
        )
        .await?;
    Ok(())
}

impl Store {
    /// The recording of that session, as the store knows it.
    pub async fn recording(&self, id: SessionId) -> Result<KeptRecording, StoreError> {
        let (sql, values) = one(id);
        let row = self.0.pools.row(sql, values).await?;
        kept(&row.ok_or_else(|| StoreError::not_found("recording", id))?)
    }

    /// Lists recordings, the oldest first.
    pub async fn recordings(&self, filter: &RecordingFilter) -> Result<Vec<KeptRecording>, StoreError> {
        let flag = |wanted: bool| wanted.then_some(0i64);
        let (sql, values) = Select::new(ALL)
            .and_some("s.node = ?", filter.node.as_ref())
            .and_some("s.ended_at < ?", filter.ended_before)
            .and_some("r.deleted_at > ?", flag(filter.deleted == Some(true)))
            .and_some("COALESCE(r.deleted_at, 0) = ?", flag(filter.deleted == Some(false)))
            .and_some("r.deleted_at > ? AND r.erased_at IS NULL", flag(filter.to_erase))
            .and_some("r.session > ?", filter.after.map(|id| id.to_string()))
            .finish("r.session", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(kept).collect()
    }

    /// Puts a recording on hold, or gives its hold another reason.
    pub async fn hold_recording(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let before = current(&mut change, id).await?;
        if let Some(deleted) = before.deleted {
            return Err(gone(id, &deleted));
        }
        let by = act.on_behalf_of.as_ref().map_or(act.actor.as_str(), Name::as_str).to_owned();
        change
            .execute(
                "UPDATE recording SET held_by = $2, held_at = $3, held_reason = $4 WHERE session = $1",
                args![id.to_string(), by, act.at, reason],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::RecordingHeld, id).with("held", true).with("reason", reason);
        change.commit(event).await.map(drop)
    }

    /// Lifts a hold. The actor is a person who proved to be there; from then on they take no part in the recording's
    /// deletion.
    pub async fn lift_hold(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        if !person.is_active(act.at) || !person.duties.iter().any(|d| d.lifts_holds()) {
            return Err(StoreError::Refused(format!(
                "{} may not lift a hold: investigators and security can",
                person.name
            )));
        }
        let before = current(&mut change, id).await?;
        let Some(hold) = before.hold else {
            return Err(StoreError::Refused(format!("{id} is not held")));
        };
        let mut lifters = before.lifters;
        if !lifters.contains(&person.name) {
            lifters.push(person.name);
        }
        let lifters = serde_json::to_string(&lifters).map_err(|e| StoreError::damaged("recording", e))?;
        change
            .execute(
                "UPDATE recording SET held_by = NULL, held_at = NULL, held_reason = NULL, lifters = $2 \
                 WHERE session = $1",
                args![id.to_string(), lifters],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::RecordingHeld, id)
            .with("held", false)
            .with("reason", reason)
            .with("held_since", hold.at.to_string())
            .with("held_for", hold.reason);
        change.commit(event).await.map(drop)
    }

    /// Keeps a request to delete. The actor is the requester, who proved to be there. Nothing is deleted yet.
    pub async fn request_deletion(&self, act: &Act, request: &DeletionRequest) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        request.validate(&person, act.at).map_err(refused)?;
        for (id, digest) in &request.recordings {
            let recording = current(&mut change, *id).await?;
            may_go(&recording, digest.as_deref(), &person.name)?;
        }
        let deletion = Deletion { request: request.clone(), standing: DeletionStanding::Waiting };
        change
            .execute(
                "INSERT INTO recording_deletion (id, state, expires_at, body) VALUES ($1, $2, $3, $4)",
                args![request.id.to_string(), "waiting", request.expires, json(&deletion)?],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::DeletionRequested, request.id)
            .with("duty", request.duty.as_str())
            .with("reason", request.reason.as_str())
            .with("recordings", request.recordings.len() as u64)
            .with("digest", request.digest().to_string())
            .with("expires", request.expires.to_string());
        change.commit(event).await.map(drop)
    }

    /// The request of that id.
    pub async fn deletion(&self, id: DeletionId) -> Result<Deletion, StoreError> {
        let row = self
            .0
            .pools
            .row("SELECT body FROM recording_deletion WHERE id = $1", args![id.to_string()])
            .await?;
        row.ok_or_else(|| StoreError::not_found("request to delete", id))?.json("body")
    }

    /// Lists requests to delete, the newest first.
    pub async fn deletions(&self, limit: u32) -> Result<Vec<Deletion>, StoreError> {
        let (sql, values) = Select::new("SELECT body FROM recording_deletion").finish("id DESC", limit);
        self.0.pools.rows(sql, values).await?.iter().map(|r| r.json("body")).collect()
    }

    /// The second person agrees to exactly what `digest` stands for, and the recordings are deleted: all of them or, if one
    /// is held or may not go, none. The actor is that person, who proved to be there. Holds, people and the list are looked
    /// at in this very transaction. The files are erased after it: see [`RecordingFilter::to_erase`].
    pub async fn approve_deletion(
        &self,
        act: &Act,
        id: DeletionId,
        duty: Duty,
        digest: RequestDigest,
    ) -> Result<Deletion, StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        let mut deletion = waiting(&mut change, id).await?;
        deletion.approve(&person, duty, digest, act.at).map_err(refused)?;
        let request = deletion.request.clone();
        // Whoever asked has to be somebody who may still ask.
        let requester = person_of(&mut change, request.requested_by.as_str()).await?;
        if !requester.is_active(act.at) || !requester.duties.contains(&request.duty) {
            return Err(StoreError::Refused(format!(
                "{} asked for this deletion and is no longer active as {}: ask anew",
                requester.name,
                request.duty.as_str()
            )));
        }
        let mut events = Vec::new();
        for (session, digest) in &request.recordings {
            let recording = current(&mut change, *session).await?;
            for who in [&request.requested_by, &person.name] {
                may_go(&recording, digest.as_deref(), who)?;
            }
            events.push(delete(&mut change, &recording, &request, &person.name, duty).await?);
        }
        change
            .execute(
                "UPDATE recording_deletion SET state = 'carried_out', body = $2 WHERE id = $1",
                args![id.to_string(), json(&deletion)?],
            )
            .await?;
        let approved = AuditEvent::new(AuditKind::DeletionApproved, id)
            .with("duty", duty.as_str())
            .with("requested_by", request.requested_by.as_str())
            .with("recordings", request.recordings.len() as u64)
            .with("digest", digest.to_string());
        change.commit_all(approved, events).await?;
        Ok(deletion)
    }

    /// Somebody says no to a request, for good.
    pub async fn refuse_deletion(
        &self,
        act: &Act,
        id: DeletionId,
        who: &Name,
        reason: &str,
    ) -> Result<Deletion, StoreError> {
        let mut change = self.change(act).await?;
        let person = person_of(&mut change, who.as_str()).await?;
        let mut deletion = waiting(&mut change, id).await?;
        deletion.refuse(&person, reason, act.at).map_err(refused)?;
        change
            .execute(
                "UPDATE recording_deletion SET state = 'refused', body = $2 WHERE id = $1",
                args![id.to_string(), json(&deletion)?],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::DeletionRefused, id).with("reason", reason.trim());
        change.commit(event).await?;
        Ok(deletion)
    }

    /// Whether the signed audit log says that the recording was deleted. A row that was edited in the database, or an
    /// entry that this site's key did not sign, erases nothing and explains nothing.
    pub async fn deletion_is_proven(&self, id: SessionId) -> Result<bool, StoreError> {
        let filter = AuditFilter {
            kind: Some(AuditKind::RecordingDeleted),
            subject: Some(id.to_string()),
            ..AuditFilter::default()
        };
        let keys = AuditKeys::of(&*self.0.signer);
        let entries = self.audit(&filter).await?;
        Ok(entries.iter().any(|e| e.computed_hash() == e.hash && keys.check(&e.checkpoint()).is_ok()))
    }

    /// Notes that the files of a deleted recording are gone.
    pub async fn recording_erased(&self, act: &Act, id: SessionId) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let done = change
            .execute(
                "UPDATE recording SET erased_at = $2 \
                 WHERE session = $1 AND deleted_at IS NOT NULL AND erased_at IS NULL",
                args![id.to_string(), act.at],
            )
            .await?;
        if done == 0 {
            // Another process was faster, and has said so.
            return change.abandon().await;
        }
        change.commit(AuditEvent::new(AuditKind::RecordingErased, id)).await.map(drop)
    }
}

/// Marks a recording deleted. Its entry in the audit log explains the hole in the archive for as long as the log lasts.
async fn delete(
    change: &mut Change<'_>,
    recording: &KeptRecording,
    request: &DeletionRequest,
    approved_by: &Name,
    duty: Duty,
) -> Result<AuditEvent, StoreError> {
    let (id, at) = (recording.session, change.at());
    let marked = change
        .execute(
            "UPDATE recording SET deletion = $2, deleted_at = $3, requested_by = $4, approved_by = $5 \
             WHERE session = $1 AND deleted_at IS NULL AND held_at IS NULL",
            args![id.to_string(), request.id.to_string(), at, &request.requested_by, approved_by],
        )
        .await?;
    if marked != 1 {
        return Err(StoreError::Changed { what: "recording" });
    }
    Ok(AuditEvent::new(AuditKind::RecordingDeleted, id)
        .with("request", request.id.to_string())
        .with("requested_by", request.requested_by.as_str())
        .with("requested_as", request.duty.as_str())
        .with("approved_by", approved_by.as_str())
        .with("approved_as", duty.as_str())
        .with("reason", request.reason.as_str())
        .with("person", recording.person.as_str())
        .with("account", format!("{}@{}", recording.login, recording.asset))
        .with("started", recording.started_at.to_string())
        .with_some("ended", recording.ended_at.map(|at| at.to_string()))
        .with_some("recording_digest", recording.digest.clone()))
}

/// Whether a recording may be deleted, as it is and by this person among others.
fn may_go(recording: &KeptRecording, digest: Option<&str>, who: &Name) -> Result<(), StoreError> {
    let id = recording.session;
    if let Some(deleted) = &recording.deleted {
        return Err(gone(id, deleted));
    }
    let refuse = |why: String| Err(StoreError::Refused(why));
    if let Some(hold) = &recording.hold {
        return refuse(format!("{id} is held ({}): leave it out, or have the hold lifted", hold.reason));
    }
    if recording.ended_at.is_none() {
        return refuse(format!("the session {id} has not ended: leave it out"));
    }
    if recording.digest.as_deref() != digest {
        return refuse(format!("{id} has another digest than the request says: ask anew"));
    }
    if recording.person == *who {
        return refuse(format!("{id} shows what {who} did: two others have to delete it"));
    }
    if recording.lifters.contains(who) {
        return refuse(format!("{who} lifted a hold from {id}: two others have to delete it"));
    }
    Ok(())
}

fn gone(id: SessionId, deleted: &Deleted) -> StoreError {
    StoreError::Refused(format!(
        "{id} was deleted on {} by {} and {}",
        deleted.at, deleted.requested_by, deleted.approved_by
    ))
}

fn refused(why: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(why.to_string())
}

/// The person who acts, as the site has them now.
pub(super) async fn actor(change: &mut Change<'_>) -> Result<User, StoreError> {
    let name = change.actor().to_owned();
    person_of(change, &name).await
}

/// A person, as the site has them now.
pub(super) async fn person_of(change: &mut Change<'_>, name: &str) -> Result<User, StoreError> {
    site::item(change, "user", name).await?.ok_or_else(|| StoreError::not_found("person", name))
}

fn one(id: SessionId) -> (Sql, Vec<Value>) {
    Select::new(ALL).and("r.session = ?", id.to_string()).finish("r.session", 1)
}

async fn current(change: &mut Change<'_>, id: SessionId) -> Result<KeptRecording, StoreError> {
    let (sql, values) = one(id);
    let row = change.row(sql, values).await?;
    kept(&row.ok_or_else(|| StoreError::not_found("recording", id))?)
}

async fn waiting(change: &mut Change<'_>, id: DeletionId) -> Result<Deletion, StoreError> {
    let row = change.row("SELECT body FROM recording_deletion WHERE id = $1", args![id.to_string()]).await?;
    row.ok_or_else(|| StoreError::not_found("request to delete", id))?.json("body")
}

fn json(deletion: &Deletion) -> Result<String, StoreError> {
    serde_json::to_string(deletion).map_err(|e| StoreError::damaged("request to delete", e))
}

fn kept(row: &Row) -> Result<KeptRecording, StoreError> {
    let hold = match (row.opt_text("held_by")?, row.opt_time("held_at")?) {
        (Some(by), Some(at)) => {
            Some(Hold { by, at, reason: row.opt_text("held_reason")?.unwrap_or_default() })
        }
        _ => None,
    };
    let deleted = match row.opt_time("deleted_at")? {
        Some(at) => Some(Deleted {
            at,
            request: row.parsed("deletion")?,
            requested_by: row.parsed("requested_by")?,
            approved_by: row.parsed("approved_by")?,
            erased_at: row.opt_time("erased_at")?,
        }),
        None => None,
    };
    let lifters = row.opt_text("lifters")?.map(|text| serde_json::from_str(&text));
    Ok(KeptRecording {
        session: row.parsed("id")?,
        person: row.parsed("person")?,
        asset: row.parsed("asset")?,
        login: Login::new(&row.text("login")?).map_err(|e| StoreError::damaged("session", e))?,
        node: row.text("node")?,
        zone: row.opt_parsed("zone")?,
        crown_jewel: row.opt_int("crown_jewel")?.map(|n| n != 0),
        started_at: row.time("started_at")?,
        ended_at: row.opt_time("ended_at")?,
        digest: row.opt_text("recording_digest")?,
        hold,
        lifters: lifters.transpose().map_err(|e| StoreError::damaged("recording", e))?.unwrap_or_default(),
        deleted,
    })
}
