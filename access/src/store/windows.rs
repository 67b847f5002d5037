//! Access windows. The rules are in [`crate::window`]; here stands that two changes at once cannot both be written, and
//! that what was asked for never changes.

use super::{
    Store,
    change::{Change, to_i64},
    db::{DbTx, Row, args},
    error::StoreError,
    filter::Select,
    notifications::tell_of_window,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{Name, WindowId},
    window::{Standing, Window},
};

/// A window and the version it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWindow {
    /// Moves with every change; give it back with one.
    pub version: u64,
    /// The window.
    pub window: Window,
}

/// Which windows to list.
#[derive(Debug, Clone, Default)]
pub struct WindowFilter {
    /// Only in this state: `requested`, `approved`, `refused`, `withdrawn` or `revoked`.
    pub state: Option<&'static str>,
    /// Only those that this person asked for or may use.
    pub person: Option<Name>,
    /// Only those that lead to this asset.
    pub asset: Option<Name>,
    /// Only those that end after this moment (by their request).
    pub ends_after: Option<Timestamp>,
    /// Only those that start before this moment.
    pub starts_before: Option<Timestamp>,
    /// Only ids before this one, which are older (for paging).
    pub before: Option<WindowId>,
    /// Most windows; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

impl Standing {
    /// The state's name, as kept, as listings write it and as [`WindowFilter::state`] takes it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Refused { .. } => "refused",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Revoked { .. } => "revoked",
        }
    }
}

const COLUMNS: &str = "SELECT w.version, w.body FROM access_window w";

impl Store {
    /// Keeps a new request and writes [`AuditKind::WindowRequested`].
    pub async fn insert_window(&self, act: &Act, window: &Window) -> Result<StoredWindow, StoreError> {
        let request = &window.request;
        let id = request.id.to_string();
        if window.standing != Standing::Requested
            || !window.approvals.is_empty()
            || window.shortened_to.is_some()
        {
            return Err(StoreError::Refused(
                "a new window starts without approvals: approve it after".into(),
            ));
        }
        let mut change = self.change(act).await?;
        let new = change
            .execute(
                "INSERT INTO access_window (id, version, state, requested_by, requested_at, start_at, end_at, body) \
                 VALUES ($1, 1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
                args![
                    &id,
                    window.standing.as_str(),
                    &request.requested_by,
                    request.requested_at,
                    request.start,
                    request.end,
                    json(window)?,
                ],
            )
            .await?;
        if new == 0 {
            return Err(StoreError::Exists { what: "window", name: id });
        }
        for person in &request.users {
            change
                .execute(
                    "INSERT INTO access_window_person (window_id, person) VALUES ($1, $2)",
                    args![&id, person],
                )
                .await?;
        }
        let assets: std::collections::BTreeSet<&Name> =
            request.accounts.iter().map(|a| &a.asset).chain(&request.forwards).collect();
        for asset in assets {
            change
                .execute(
                    "INSERT INTO access_window_asset (window_id, asset) VALUES ($1, $2)",
                    args![&id, asset],
                )
                .await?;
        }
        tell_of_window(&mut change, act, AuditKind::WindowRequested, window).await?;
        change.policy_sees_it();
        let request = serde_json::to_value(request).map_err(|e| StoreError::damaged("window", e))?;
        change.commit(AuditEvent::new(AuditKind::WindowRequested, &id).with("request", request)).await?;
        Ok(StoredWindow { version: 1, window: window.clone() })
    }

    /// The window of that id.
    pub async fn window(&self, id: WindowId) -> Result<StoredWindow, StoreError> {
        let row = self
            .0
            .pools
            .row("SELECT version, body FROM access_window WHERE id = $1", args![id.to_string()])
            .await?;
        stored(&row.ok_or_else(|| StoreError::not_found("window", id))?)
    }

    /// Lists windows, the newest first.
    pub async fn windows(&self, filter: &WindowFilter) -> Result<Vec<StoredWindow>, StoreError> {
        let (sql, values) = Select::new(COLUMNS)
            .and_some("w.state = ?", filter.state)
            .and_some(
                // Each half by its index: most windows are other people's.
                "w.id IN (SELECT p.window_id FROM access_window_person p WHERE p.person = ? \
                 UNION SELECT r.id FROM access_window r WHERE r.requested_by = ?)",
                filter.person.as_ref(),
            )
            .and_some(
                "EXISTS (SELECT 1 FROM access_window_asset a WHERE a.window_id = w.id AND a.asset = ?)",
                filter.asset.as_ref(),
            )
            .and_some("w.end_at > ?", filter.ends_after)
            .and_some("w.start_at < ?", filter.starts_before)
            .and_some("w.id < ?", filter.before.map(|id| id.to_string()))
            .finish("w.id DESC", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(stored).collect()
    }

    /// Writes what the rules made of a window that was read at `version`. Fails with [`StoreError::Changed`] if somebody
    /// changed it meanwhile: read it again and ask the rules anew. `event` says what was done.
    pub async fn update_window(
        &self,
        act: &Act,
        version: u64,
        window: &Window,
        event: AuditEvent,
    ) -> Result<StoredWindow, StoreError> {
        let id = window.request.id.to_string();
        let mut change = self.change(act).await?;
        let before = current(&mut change, &id).await?;
        if before.version != version {
            return Err(StoreError::Changed { what: "window" });
        }
        guard(&before.window, window, act)?;
        change
            .execute(
                "UPDATE access_window SET version = version + 1, state = $2, body = $3 WHERE id = $1",
                args![&id, window.standing.as_str(), json(window)?],
            )
            .await?;
        tell_of_window(&mut change, act, event.kind(), window).await?;
        change.policy_sees_it();
        let event = event.with("window", id).with("state", window.standing.as_str());
        change.commit(event).await?;
        Ok(StoredWindow { version: version + 1, window: window.clone() })
    }
}

/// A second line behind the rules of [`crate::window`]: whatever they come to, these things are never written.
fn guard(before: &Window, after: &Window, act: &Act) -> Result<(), StoreError> {
    let refuse = |why: &str| Err(StoreError::Refused(why.to_owned()));
    // What was approved is the request: it must be the same to the last letter.
    if before.request != after.request {
        return refuse("a window's request cannot be changed: make a new request");
    }
    let Some(new) = after.approvals.strip_prefix(before.approvals.as_slice()) else {
        return refuse("an approval that was given cannot be changed: revoke the window instead");
    };
    if new.len() > 1 || new.iter().any(|a| a.by.as_str() != act.actor.as_str()) {
        return refuse("an approval is written by the person who gives it, one at a time");
    }
    let ended = |s: &Standing| !matches!(s, Standing::Requested | Standing::Approved);
    if ended(&before.standing) && before != after {
        return refuse("the window has ended for good: make a new request");
    }
    let two = after.approvals.iter().any(|a| {
        a.by != after.request.requested_by
            && after.approvals.iter().any(|b| {
                b.by != a.by && b.duty != a.duty && b.digest == a.digest && b.by != after.request.requested_by
            })
    });
    if after.standing == Standing::Approved && !two {
        return refuse("a window needs the approval of two other people of two different duties");
    }
    let end = |w: &Window| w.shortened_to.map_or(w.request.end, |s| s.min(w.request.end));
    if end(after) > end(before) {
        return refuse("a window's end cannot be moved back: ask for an extension");
    }
    Ok(())
}

async fn current(change: &mut Change<'_>, id: &str) -> Result<StoredWindow, StoreError> {
    let row =
        change.row("SELECT version, body FROM access_window WHERE id = $1", args![id.to_owned()]).await?;
    stored(&row.ok_or_else(|| StoreError::not_found("window", id))?)
}

/// Windows that have not ended by their request, whatever their standing, so that a decision can say what became of one.
pub(super) async fn unfinished(tx: &mut DbTx, now: Timestamp) -> Result<Vec<Window>, StoreError> {
    let rows =
        tx.rows("SELECT version, body FROM access_window WHERE end_at > $1 ORDER BY id", args![now]).await?;
    rows.iter().map(|r| stored(r).map(|s| s.window)).collect()
}

fn stored(row: &Row) -> Result<StoredWindow, StoreError> {
    Ok(StoredWindow { version: row.count("version")?, window: row.json("body")? })
}

fn json(window: &Window) -> Result<String, StoreError> {
    serde_json::to_string(window).map_err(|e| StoreError::damaged("window", e))
}

impl Store {
    /// Adds to the bytes of files moved under a window and answers the new sum.
    pub async fn add_file_bytes(&self, act: &Act, window: WindowId, bytes: u64) -> Result<u64, StoreError> {
        super::usage::add(self, act, window, to_i64(bytes)).await
    }
}
