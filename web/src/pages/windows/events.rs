//! What happened to a window and in it: from the audit log and the sessions.

use cofferdam_access::{
    audit::{AuditEntry, AuditKind},
    ids::{Name, WindowId},
    site::Site,
    store::{AuditFilter, SessionFilter, Store, StoreError},
};

use super::view::full_name;
use crate::{
    frame::{Frame, Moment},
    pages::ends::in_words,
};

/// Most sessions of one window that its page lists.
const MOST_SESSIONS: u32 = 50;
/// Most events that it lists.
const MOST_EVENTS: u32 = 50;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: Moment,
    /// Good or bad, for the mark.
    pub(crate) tone: &'static str,
    /// Who.
    pub(crate) who: String,
    /// Did what.
    pub(crate) what: String,
}

/// A session through a window.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: String,
    /// The person, in full.
    pub(crate) person: String,
    /// The account it led to.
    pub(crate) account: String,
    /// By which protocol.
    pub(crate) protocol: &'static str,
    /// Where it stands.
    pub(crate) state: &'static str,
    /// When it began.
    pub(crate) since: Moment,
    /// When and why it ended.
    pub(crate) ended: Option<(Moment, String)>,
}

/// What the audit log says about the window, the newest first.
pub(crate) async fn events(
    store: &Store,
    frame: &Frame,
    site: &Site,
    id: WindowId,
) -> Result<Vec<Event>, StoreError> {
    let filter = AuditFilter { subject: Some(id.to_string()), limit: MOST_EVENTS, ..AuditFilter::default() };
    Ok(store.audit(&filter).await?.iter().map(|e| event(frame, site, e)).collect())
}

fn event(frame: &Frame, site: &Site, entry: &AuditEntry) -> Event {
    let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or_default();
    let text = |field: &str| body.get(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let named = |name: &str| Name::new(name).map_or_else(|_| name.to_owned(), |name| full_name(site, &name));
    let who = match text("for").as_str() {
        "" => named(&entry.actor),
        person => format!("{} (through {})", named(person), entry.actor),
    };
    let is = |kind: AuditKind| entry.kind == kind.as_str();
    let moment = |field: &str| {
        let at = text(field).parse().map(cofferdam_access::clock::Timestamp::from_jiff);
        at.map_or_else(|_| text(field), |at| frame.at(&at).site)
    };
    let (tone, what) = if is(AuditKind::WindowRequested) {
        ("", "asked for this window".to_owned())
    } else if is(AuditKind::WindowApproved) {
        let remark = match text("remark") {
            none if none.is_empty() => none,
            remark => format!(": “{remark}”"),
        };
        ("t-ok", format!("approved as {}{remark}", text("duty")))
    } else if is(AuditKind::WindowRefused) {
        let suggested = if text("suggested_start").is_empty() {
            String::new()
        } else {
            format!("; suggested {} to {}", moment("suggested_start"), moment("suggested_end"))
        };
        ("t-bad", format!("refused: {}{suggested}", text("reason")))
    } else if is(AuditKind::WindowWithdrawn) {
        ("t-off", "took the request back".to_owned())
    } else if is(AuditKind::WindowRevoked) {
        ("t-bad", format!("revoked it: {}", text("reason")))
    } else if is(AuditKind::WindowShortened) {
        ("t-warn", format!("brought the end forward to {}", moment("end")))
    } else {
        ("", entry.kind.clone())
    };
    Event { at: frame.at(&entry.at), tone, who, what }
}

/// Sessions through the window, the newest first.
pub(crate) async fn sessions(
    store: &Store,
    frame: &Frame,
    site: &Site,
    id: WindowId,
) -> Result<Vec<Session>, StoreError> {
    let filter = SessionFilter { window: Some(id), limit: MOST_SESSIONS, ..SessionFilter::default() };
    let found = store.sessions(&filter).await?;
    Ok(found
        .iter()
        .map(|s| Session {
            id: s.id.to_string(),
            person: full_name(site, &s.person),
            account: format!("{}@{}", s.login, s.asset),
            protocol: s.protocol.as_str(),
            state: s.state.as_str(),
            since: frame.at(&s.started_at),
            ended: s
                .ended_at
                .map(|at| (frame.at(&at), in_words(s.end_reason.as_deref().unwrap_or_default()))),
        })
        .collect())
}
