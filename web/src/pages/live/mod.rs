//! Live sessions: all of them at a glance, one of them as it happens, and what can be done to it.

mod board;
pub(crate) mod control;
#[cfg(test)]
pub(crate) mod duties;
mod show;
mod socket;

pub(crate) use board::Board;

use askama::Template;
use axum::{extract::State, response::Response};
use cofferdam_access::{
    clock::Timestamp,
    ids::SessionId,
    store::{FindingFilter, SessionFilter, SessionRecord, SessionState},
};

use crate::{
    error::Failure,
    frame::{self, Clock, Frame, Moment},
    routes::{Routes, WATCHERS},
    services::{App, Services},
    viewer::Viewer,
    watching::LiveSession,
};

/// Most sessions on one page.
const MOST: u32 = 200;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/live", WATCHERS, list)
        .get("/live/events", WATCHERS, board::events)
        .get("/live/{id}", WATCHERS, show::show)
        .get("/live/{id}/socket", WATCHERS, socket::connect)
        .post("/live/{id}/suspend", WATCHERS, control::suspend)
        .post("/live/{id}/resume", WATCHERS, control::resume)
        .post("/live/{id}/message", WATCHERS, control::message)
        .post("/live/{id}/end", WATCHERS, control::end)
}

/// An open session with what this node knows of it.
#[derive(Debug, Clone)]
pub(crate) struct OpenSession {
    pub(crate) record: SessionRecord,
    pub(crate) live: Option<LiveSession>,
    /// The worst severity and how many findings.
    pub(crate) findings: Option<(String, usize)>,
}

/// All open sessions, the newest first.
pub(crate) async fn open_sessions(services: &Services) -> Result<Vec<OpenSession>, Failure> {
    let filter = SessionFilter { open_only: true, limit: MOST, ..SessionFilter::default() };
    let records = services.store.sessions(&filter).await?;
    let oldest = records.iter().map(|r| r.started_at).min().unwrap_or_default();
    // One question for all of them, not one each.
    let since = FindingFilter { from: Some(oldest), ..FindingFilter::default() };
    let findings = if records.is_empty() { Vec::new() } else { services.store.findings(&since).await? };
    let live = services.live.list();
    let with = |record: SessionRecord| {
        let own: Vec<_> = findings.iter().filter(|f| f.session == Some(record.id)).collect();
        let worst = own.iter().max_by_key(|f| rank(&f.severity)).map(|f| (f.severity.clone(), own.len()));
        OpenSession { live: live.iter().find(|l| l.id == record.id).cloned(), findings: worst, record }
    };
    Ok(records.into_iter().map(with).collect())
}

/// How bad a severity is.
pub(crate) fn rank(severity: &str) -> usize {
    ["info", "low", "medium", "high", "critical"].iter().position(|s| *s == severity).unwrap_or(5)
}

/// Where a session stands in one word.
pub(crate) fn state(record: &SessionRecord, live: Option<&LiveSession>) -> &'static str {
    match live {
        _ if record.state == SessionState::Ended => "ended",
        Some(live) if live.unwatched => "waiting",
        Some(live) if live.frozen.is_some() => "suspended",
        _ => record.state.as_str(),
    }
}

struct Row {
    id: String,
    person: String,
    asset: String,
    login: String,
    protocol: &'static str,
    state: &'static str,
    jewel: bool,
    started: Moment,
    last_input: Option<Moment>,
    until: Option<Moment>,
    severity: String,
    findings: usize,
    watchers: u32,
}

/// The part of the page that follows what happens. The same for everybody who may see it.
#[derive(Template)]
#[template(path = "live_rows.html")]
struct Rows {
    rows: Vec<Row>,
    waiting: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "live.html")]
struct LivePage {
    frame: Frame,
    rows: Vec<Row>,
    waiting: Vec<(String, String, String)>,
}

async fn rows(services: &Services, clock: &Clock) -> Result<Rows, Failure> {
    let snapshot = services.snapshot();
    let row = |s: OpenSession| {
        let (severity, findings) = s.findings.unwrap_or_default();
        let asset = snapshot.site.asset(&s.record.asset);
        let known = s.live.as_ref();
        Row {
            state: state(&s.record, known),
            last_input: known.map(|l| clock.at(to_second(l.last_input))),
            until: known.map(|l| clock.at(l.not_after)),
            watchers: known.map_or(0, |l| l.watchers),
            jewel: asset.is_some_and(|a| a.crown_jewel),
            id: s.record.id.to_string(),
            person: snapshot
                .site
                .user(&s.record.person)
                .filter(|u| !u.full_name.is_empty())
                .map_or_else(|| s.record.person.to_string(), |u| u.full_name.clone()),
            asset: s.record.asset.to_string(),
            login: s.record.login.to_string(),
            protocol: s.record.protocol.as_str(),
            started: clock.at(s.record.started_at),
            severity,
            findings,
        }
    };
    let rows: Vec<Row> = open_sessions(services).await?.into_iter().map(row).collect();
    let waits = rows.iter().filter(|r| r.state == "waiting");
    let waiting = waits.map(|r| (r.id.clone(), r.person.clone(), r.asset.clone())).collect();
    Ok(Rows { rows, waiting })
}

fn to_second(at: Timestamp) -> Timestamp {
    Timestamp(at.micros().div_euclid(1_000_000) * 1_000_000)
}

async fn list(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/live");
    let Rows { rows, waiting } = rows(&app, &frame.zone).await?;
    frame::page(&LivePage { rows, waiting, frame })
}

fn parsed(id: &str) -> Result<SessionId, Failure> {
    id.parse().map_err(|_| Failure::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(frame: &Frame) -> Rows {
        let at = frame.at(&frame.now);
        let row = Row {
            id: "id".into(),
            person: "<script>vera</script>".into(),
            asset: "plc-7".into(),
            login: "root".into(),
            protocol: "ssh",
            state: "waiting",
            jewel: true,
            started: at.clone(),
            last_input: Some(at.clone()),
            until: Some(at),
            severity: "high".into(),
            findings: 2,
            watchers: 1,
        };
        Rows { waiting: vec![("id".into(), "<script>".into(), "plc-7".into())], rows: vec![row] }
    }

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/live");
        let Rows { rows, waiting } = sample(&frame);
        let html = LivePage { rows, waiting, frame: frame.clone() }.render().unwrap();
        assert!(html.contains("crown jewel") && !html.contains("<script>vera"));
        let empty = LivePage { rows: Vec::new(), waiting: Vec::new(), frame };
        assert!(empty.render().unwrap().contains("No session is running"));
    }

    #[test]
    fn a_severity_that_nobody_knows_counts_as_the_worst() {
        assert!(rank("critical") > rank("high") && rank("strange") > rank("critical"));
    }
}
