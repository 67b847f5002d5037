//! Sessions: one transaction when one opens, one when it ends.

use std::{net::IpAddr, str::FromStr};

use serde::Serialize;

use super::{
    Store,
    change::{Change, to_i64},
    checkouts,
    db::{Row, args},
    decisions::{DecisionRecord, put_decision},
    error::StoreError,
    filter::Select,
    logins::{RememberedFactor, put_factor},
    recordings,
    usage::note_source,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind, Checkpoint},
    clock::Timestamp,
    ids::{DecisionId, Login, Name, SessionId, WindowId},
    site::{AccountRef, Protocol},
};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// The target is being dialled and logged in to.
    Authenticating,
    /// Waits for somebody (an approval, a second factor).
    Waiting,
    /// Bytes flow.
    Active,
    /// Frozen both ways.
    Suspended,
    /// Over.
    Ended,
}

impl SessionState {
    /// All but the end.
    pub const OPEN: [Self; 4] = [Self::Authenticating, Self::Waiting, Self::Active, Self::Suspended];

    /// As written in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticating => "authenticating",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

impl FromStr for SessionState {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Authenticating, Self::Waiting, Self::Active, Self::Suspended, Self::Ended]
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| {
                format!(
                    "{s:?} is not a session state: use authenticating, waiting, active, suspended or ended"
                )
            })
    }
}

/// A session about to open.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The person.
    pub person: Name,
    /// The asset it leads to.
    pub asset: Name,
    /// The account on it.
    pub login: Login,
    /// What it speaks.
    pub protocol: Protocol,
    /// The address the person comes from.
    pub source: IpAddr,
    /// Fingerprint of the key that the device proved, if it did.
    pub device_key: Option<String>,
    /// The window it goes through.
    pub window: Option<WindowId>,
    /// The decision that allowed it.
    pub decision: DecisionId,
    /// The gateway that holds it.
    pub node: String,
    /// The state it opens in.
    pub state: SessionState,
    /// Where it is recorded.
    pub recording: Option<String>,
}

/// What belongs to the opening and is written with it, in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Decisions not yet kept, with the one that allowed the session.
    pub decisions: Vec<DecisionRecord>,
    /// A second factor that counts from now until then.
    pub remember: Option<(RememberedFactor, Timestamp)>,
    /// The account takes one session at a time: refuse if one is open.
    pub exclusive: bool,
}

/// Whether the session opened.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenOutcome {
    /// It did, and the audit log says so.
    Opened {
        /// Proof of the audit entry, for the recording to carry.
        checkpoint: Checkpoint,
        /// The person never came from this address before.
        new_source: bool,
    },
    /// The account is exclusive and this session holds it; nothing was written.
    AccountBusy(SessionId),
    /// The account is exclusive and a person has it checked out, as the text says; nothing was written.
    AccountCheckedOut(String),
}

/// How a session ended.
#[derive(Debug, Clone, Default)]
pub struct SessionEnd {
    /// Why, as a fixed word (`closed`, `idle`, `window_end`, `killed`, …).
    pub reason: String,
    /// More about it, for people.
    pub detail: Option<String>,
    /// Digest of the sealed recording, lower-case hexadecimal.
    pub recording_digest: Option<String>,
    /// Bytes from the person to the target.
    pub bytes_up: u64,
    /// Bytes from the target to the person.
    pub bytes_down: u64,
    /// Decisions of the session not yet kept.
    pub decisions: Vec<DecisionRecord>,
}

/// A session as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The person.
    pub person: Name,
    /// The asset.
    pub asset: Name,
    /// The account on it.
    pub login: Login,
    /// What it speaks.
    pub protocol: Protocol,
    /// The address the person came from.
    pub source: IpAddr,
    /// Fingerprint of the device's key.
    pub device_key: Option<String>,
    /// The window.
    pub window: Option<WindowId>,
    /// The decision that allowed it.
    pub decision: DecisionId,
    /// The gateway that holds or held it.
    pub node: String,
    /// Where it stands.
    pub state: SessionState,
    /// When it opened.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Where it is recorded.
    pub recording: Option<String>,
    /// Digest of the sealed recording.
    pub recording_digest: Option<String>,
    /// Bytes from the person to the target.
    pub bytes_up: u64,
    /// Bytes from the target to the person.
    pub bytes_down: u64,
}

impl SessionRecord {
    /// The account that it is about.
    pub fn account(&self) -> AccountRef {
        AccountRef { asset: self.asset.clone(), login: self.login.clone() }
    }
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only of this person.
    pub person: Option<Name>,
    /// Only to this asset.
    pub asset: Option<Name>,
    /// Only through this window.
    pub window: Option<WindowId>,
    /// Only held by this node.
    pub node: Option<String>,
    /// Only in this state.
    pub state: Option<SessionState>,
    /// Only those that have not ended.
    pub open_only: bool,
    /// Only started from this moment on.
    pub from: Option<Timestamp>,
    /// Only started before this moment.
    pub until: Option<Timestamp>,
    /// Only ids before this one, which are older (for paging).
    pub before: Option<SessionId>,
    /// Most sessions; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

const ALL: &str = "SELECT id, person, asset, login, protocol, source, device_key, window_id, decision, node, state, \
                   started_at, ended_at, end_reason, recording, recording_digest, bytes_up, bytes_down FROM session";

impl Store {
    /// Opens a session: the row, its decisions, the remembered factor and [`AuditKind::SessionOpened`] in one
    /// transaction. If this fails there is no session.
    pub async fn open_session(
        &self,
        act: &Act,
        new: &NewSession,
        opening: &Opening,
    ) -> Result<OpenOutcome, StoreError> {
        let mut change = self.change(act).await?;
        if opening.exclusive
            && let Some(held) = held(&mut change, new).await?
        {
            change.abandon().await?;
            return Ok(held);
        }
        insert(&mut change, new).await?;
        let new_source = note_source(&mut change, &new.person, new.source).await?;
        let mut more = Vec::new();
        for decision in &opening.decisions {
            more.push(put_decision(&mut change, decision).await?);
        }
        if let Some((factor, until)) = &opening.remember {
            more.push(put_factor(&mut change, factor, *until).await?);
        }
        let opened = AuditEvent::new(AuditKind::SessionOpened, new.id)
            .with("person", new.person.as_str())
            .with("account", format!("{}@{}", new.login, new.asset))
            .with("protocol", new.protocol.as_str())
            .with("from", new.source.to_canonical().to_string())
            .with("decision", new.decision.to_string())
            .with("node", new.node.as_str())
            .with("new_source", new_source)
            .with_some("window", new.window.map(|w| w.to_string()))
            .with_some("device_key", new.device_key.clone());
        // The opening comes last, so that the checkpoint the recording carries covers its decisions too.
        more.push(opened);
        let mut events = more.into_iter();
        let first = events.next().ok_or_else(|| StoreError::damaged("session", "no event"))?;
        let checkpoint = change.commit_all(first, events).await?;
        Ok(OpenOutcome::Opened { checkpoint, new_source })
    }

    /// Ends a session: the row and [`AuditKind::SessionClosed`] with the recording's digest, in one transaction.
    pub async fn close_session(
        &self,
        act: &Act,
        id: SessionId,
        end: &SessionEnd,
    ) -> Result<Checkpoint, StoreError> {
        let mut change = self.change(act).await?;
        let closed = close(&mut change, &id.to_string(), end).await?;
        let mut events = Vec::new();
        for decision in &end.decisions {
            events.push(put_decision(&mut change, decision).await?);
        }
        // The end comes last, so that its checkpoint covers the decisions too.
        let mut events = events.into_iter().chain([closed]);
        let first = events.next().ok_or_else(|| StoreError::damaged("session", "no event"))?;
        change.commit_all(first, events).await
    }

    /// Moves an open session to another state that is not the end. `event` says why; its subject should be the session.
    pub async fn set_session_state(
        &self,
        act: &Act,
        id: SessionId,
        state: SessionState,
        event: AuditEvent,
    ) -> Result<Checkpoint, StoreError> {
        if state == SessionState::Ended {
            return Err(StoreError::Refused("a session ends by `close_session`".into()));
        }
        let mut change = self.change(act).await?;
        let moved = change
            .execute(
                "UPDATE session SET state = $2 WHERE id = $1 AND ended_at IS NULL",
                args![id.to_string(), state.as_str()],
            )
            .await?;
        if moved == 0 {
            return Err(not_open(&mut change, &id.to_string()).await?);
        }
        change.commit(event).await
    }

    /// The session of that id.
    pub async fn session(&self, id: SessionId) -> Result<SessionRecord, StoreError> {
        let (sql, values) = Select::new(ALL).and("id = ?", id.to_string()).finish("id", 1);
        let row = self.0.pools.row(sql, values).await?;
        record(&row.ok_or_else(|| StoreError::not_found("session", id))?)
    }

    /// Lists sessions, the newest first.
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        let mut select = Select::new(ALL);
        if filter.open_only {
            // Found by index; as those whose state is not the end, all that ever were would be looked at.
            select = select.and_literal("ended_at IS NULL");
        }
        let (sql, values) = select
            .and_some("person = ?", filter.person.as_ref())
            .and_some("asset = ?", filter.asset.as_ref())
            .and_some("window_id = ?", filter.window.map(|w| w.to_string()))
            .and_some("node = ?", filter.node.as_ref())
            .and_some("state = ?", filter.state.map(SessionState::as_str))
            .and_some("started_at >= ?", filter.from)
            .and_some("started_at < ?", filter.until)
            .and_some("id < ?", filter.before.map(|id| id.to_string()))
            .finish("id DESC", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(record).collect()
    }

    /// To be called when a node starts, before it takes connections: its sessions that are still open were lost with the
    /// process. They end here with the reason `crash`, and are answered so that their recordings can be sealed.
    pub async fn end_orphans(&self, act: &Act, node: &str) -> Result<Vec<SessionRecord>, StoreError> {
        let mut orphans = Vec::new();
        let open = SessionState::OPEN.map(SessionState::as_str);
        loop {
            let mut change = self.change(act).await?;
            let (sql, values) =
                Select::new(ALL).and("node = ?", node).and_in("state", open).finish("id", 100);
            let batch = change.rows(sql, values).await?.iter().map(record).collect::<Result<Vec<_>, _>>()?;
            let end = SessionEnd { reason: "crash".to_owned(), ..SessionEnd::default() };
            let mut events = Vec::new();
            for session in &batch {
                events.push(close(&mut change, &session.id.to_string(), &end).await?);
            }
            let mut events = events.into_iter();
            let Some(first) = events.next() else {
                change.abandon().await?;
                return Ok(orphans);
            };
            change.commit_all(first, events).await?;
            orphans.extend(batch.into_iter().map(|s| SessionRecord {
                state: SessionState::Ended,
                ended_at: Some(act.at),
                end_reason: Some(end.reason.clone()),
                ..s
            }));
        }
    }
}

/// Why an exclusive account cannot be had: a session or a person has it.
async fn held(change: &mut Change<'_>, new: &NewSession) -> Result<Option<OpenOutcome>, StoreError> {
    if let Some(holder) = session_on(change, &new.asset, &new.login).await? {
        return Ok(Some(OpenOutcome::AccountBusy(holder)));
    }
    let holder = checkouts::holder(change, &new.asset, &new.login).await?;
    Ok(holder.map(|by| OpenOutcome::AccountCheckedOut(checkouts::in_use(&by))))
}

/// A session that is open on the account.
pub(super) async fn session_on(
    change: &mut Change<'_>,
    asset: &Name,
    login: &Login,
) -> Result<Option<SessionId>, StoreError> {
    let row = change
        .row(
            "SELECT id FROM session WHERE asset = $1 AND login = $2 \
             AND state IN ('authenticating', 'waiting', 'active', 'suspended') LIMIT 1",
            args![asset, login],
        )
        .await?;
    row.map(|r| r.parsed("id")).transpose()
}

async fn insert(change: &mut Change<'_>, new: &NewSession) -> Result<(), StoreError> {
    let at = change.at();
    let done = change
        .execute(
            "INSERT INTO session (id, person, asset, login, protocol, source, device_key, window_id, decision, node, \
             state, started_at, recording, bytes_up, bytes_down) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0) ON CONFLICT (id) DO NOTHING",
            args![
                new.id.to_string(),
                &new.person,
                &new.asset,
                &new.login,
                new.protocol.as_str(),
                new.source.to_canonical().to_string(),
                new.device_key.clone(),
                new.window.map(|w| w.to_string()),
                new.decision.to_string(),
                &new.node,
                new.state.as_str(),
                at,
                new.recording.clone(),
            ],
        )
        .await?;
    if done != 1 {
        return Err(StoreError::Exists { what: "session", name: new.id.to_string() });
    }
    if new.recording.is_some() {
        recordings::insert(change, new).await?;
    }
    Ok(())
}

async fn close(change: &mut Change<'_>, id: &str, end: &SessionEnd) -> Result<AuditEvent, StoreError> {
    let at = change.at();
    let row = change
        .row(
            "UPDATE session SET state = 'ended', ended_at = $2, end_reason = $3, recording_digest = $4, \
             bytes_up = $5, bytes_down = $6 WHERE id = $1 AND ended_at IS NULL \
             RETURNING person, asset, login, recording, started_at",
            args![
                id,
                at,
                &end.reason,
                end.recording_digest.clone(),
                to_i64(end.bytes_up),
                to_i64(end.bytes_down)
            ],
        )
        .await?;
    let Some(row) = row else { return Err(not_open(change, id).await?) };
    Ok(AuditEvent::new(AuditKind::SessionClosed, id)
        .with("person", row.text("person")?)
        .with("account", format!("{}@{}", row.text("login")?, row.text("asset")?))
        .with("reason", end.reason.as_str())
        .with("seconds", at.since(row.time("started_at")?) / 1_000_000)
        .with("bytes_up", end.bytes_up)
        .with("bytes_down", end.bytes_down)
        .with_some("detail", end.detail.clone())
        .with_some("recording", row.opt_text("recording")?)
        .with_some("recording_digest", end.recording_digest.clone()))
}

/// Why a session could not be moved: there is none, or it has ended.
pub(super) async fn not_open(change: &mut Change<'_>, id: &str) -> Result<StoreError, StoreError> {
    Ok(match change.row("SELECT end_reason FROM session WHERE id = $1", args![id]).await? {
        None => StoreError::not_found("session", id),
        Some(row) => StoreError::Refused(format!(
            "the session has ended already ({})",
            row.opt_text("end_reason")?.unwrap_or_default()
        )),
    })
}

fn record(row: &Row) -> Result<SessionRecord, StoreError> {
    let protocol = row.text("protocol")?;
    Ok(SessionRecord {
        id: row.parsed("id")?,
        person: row.parsed("person")?,
        asset: row.parsed("asset")?,
        login: Login::new(&row.text("login")?).map_err(|e| StoreError::damaged("session", e))?,
        protocol: serde_json::from_value(protocol.into()).map_err(|e| StoreError::damaged("session", e))?,
        source: row.parsed("source")?,
        device_key: row.opt_text("device_key")?,
        window: row.opt_parsed("window_id")?,
        decision: row.parsed("decision")?,
        node: row.text("node")?,
        state: row.parsed("state")?,
        started_at: row.time("started_at")?,
        ended_at: row.opt_time("ended_at")?,
        end_reason: row.opt_text("end_reason")?,
        recording: row.opt_text("recording")?,
        recording_digest: row.opt_text("recording_digest")?,
        bytes_up: row.count("bytes_up")?,
        bytes_down: row.count("bytes_down")?,
    })
}
