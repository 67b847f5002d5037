//! One live session: its terminal as it happens, who and why, and what can be done to it.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use cofferdam_access::{
    clock::Timestamp,
    decision::DecisionRecord,
    site::Protocol,
    store::{FindingFilter, OrderKind, SessionRecord, SessionState},
};

use super::{control, parsed, state};
use crate::{
    error::Failure,
    frame::{self, Frame, Moment},
    pages::ends::in_words,
    routes::INVESTIGATORS,
    services::App,
    viewer::Viewer,
};

/// Something that happened, the newest first.
struct Happening {
    at: Moment,
    tone: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "live_session.html")]
struct SessionPage {
    frame: Frame,
    id: String,
    person: String,
    asset: String,
    login: String,
    protocol: &'static str,
    desktop: bool,
    source: String,
    node: String,
    started: Moment,
    state: &'static str,
    ended: Option<String>,
    frozen: Option<String>,
    window: Option<String>,
    purpose: String,
    work_order: String,
    client: String,
    until: Option<Moment>,
    last_input: Option<Moment>,
    idle_minutes: u32,
    watchers: u32,
    happenings: Vec<Happening>,
    watchable: bool,
    own: bool,
    recording: bool,
    end_digest: String,
    resume_digest: String,
    zone: String,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = parsed(&id)?;
    let record = app.store.session(id).await?;
    let live = app.live.get(id);
    let frame = Frame::new(&app, &viewer, "/live");
    let decision = app.store.decision(record.decision).await?;
    let decision: Option<DecisionRecord> = serde_json::from_str(&decision.body).ok();
    let ended = record.state == SessionState::Ended;
    let digest = |kind| control::purpose(kind, id).map(|p| p.digest).unwrap_or_default();
    let context = decision.as_ref().map(|d| &d.context);
    frame::page(&SessionPage {
        happenings: happenings(&app, &frame, &record).await?,
        person: decision
            .as_ref()
            .map(|d| d.who.full_name.clone())
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| record.person.to_string()),
        purpose: context.map(|c| c.purpose.clone()).unwrap_or_default(),
        work_order: context.map(|c| c.work_order.clone()).unwrap_or_default(),
        client: decision.as_ref().map(|d| d.device.device.client_version.clone()).unwrap_or_default(),
        state: state(&record, live.as_ref()),
        ended: ended.then(|| in_words(record.end_reason.as_deref().unwrap_or_default())),
        frozen: live.as_ref().and_then(|l| l.frozen.clone()),
        until: live.as_ref().map(|l| frame.at(&l.not_after)),
        last_input: live.as_ref().map(|l| frame.at(&l.last_input)),
        idle_minutes: live.as_ref().map_or(0, |l| l.idle_seconds / 60),
        watchers: live.as_ref().map_or(0, |l| l.watchers),
        watchable: live.is_some() && !ended,
        own: record.person == viewer.user.name,
        recording: ended && INVESTIGATORS.admits(&viewer.user),
        end_digest: digest(OrderKind::End),
        resume_digest: digest(OrderKind::Resume),
        zone: frame.zone.name().to_owned(),
        id: id.to_string(),
        asset: record.asset.to_string(),
        login: record.login.to_string(),
        protocol: record.protocol.as_str(),
        desktop: record.protocol == Protocol::Rdp,
        source: record.source.to_string(),
        node: record.node.clone(),
        started: frame.at(&record.started_at),
        window: record.window.map(|w| w.to_string()),
        frame,
    })
}

async fn happenings(app: &App, frame: &Frame, record: &SessionRecord) -> Result<Vec<Happening>, Failure> {
    let mut all: Vec<(Timestamp, Happening)> = Vec::new();
    let mut add =
        |at: Timestamp, tone, text: String| all.push((at, Happening { at: frame.at(&at), tone, text }));
    add(record.started_at, "t-ok", format!("{} connected from {}", record.person, record.source));
    for order in app.store.orders_of(record.id).await? {
        let reason = if order.reason.is_empty() { String::new() } else { format!(": {}", order.reason) };
        let outcome = order.outcome.unwrap_or_else(|| "not carried out yet".into());
        add(order.at, "t-info", format!("{} by {}{reason} ({outcome})", order.kind.as_str(), order.by));
    }
    let filter = FindingFilter { session: Some(record.id), ..FindingFilter::default() };
    for finding in app.store.findings(&filter).await? {
        let tone = if super::rank(&finding.severity) >= super::rank("high") { "t-bad" } else { "t-warn" };
        add(
            finding.at,
            tone,
            format!("finding, {}: {}; {}", finding.severity, finding.text, finding.response),
        );
    }
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(all.into_iter().map(|(_, happening)| happening).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/live");
        let at = frame.at(&frame.now);
        let page = |ended: Option<String>| SessionPage {
            id: "session-id".into(),
            person: "<script>Vera</script>".into(),
            asset: "pump-hmi".into(),
            login: "operator".into(),
            protocol: "ssh",
            desktop: false,
            source: "192.0.2.1".into(),
            node: "gw-1".into(),
            started: at.clone(),
            state: "suspended",
            watchable: ended.is_none(),
            recording: ended.is_some(),
            ended,
            frozen: Some("session suspended by olga".into()),
            window: Some("w".into()),
            purpose: "<script>purpose</script>".into(),
            work_order: "WO-1".into(),
            client: "SSH-2.0-<script>".into(),
            until: Some(at.clone()),
            last_input: Some(at.clone()),
            idle_minutes: 15,
            watchers: 1,
            happenings: vec![Happening { at: at.clone(), tone: "t-warn", text: "<script>finding".into() }],
            own: false,
            end_digest: "e".repeat(64),
            resume_digest: "r".repeat(64),
            zone: "Europe/Berlin".into(),
            frame: frame.clone(),
        };
        let html = page(None).render().unwrap();
        assert!(html.contains("/live/session-id/socket") && html.contains(&"e".repeat(64)));
        for people_text in ["<script>Vera", "<script>purpose", "0-<script>", "<script>finding"] {
            assert!(!html.contains(people_text), "{people_text}");
        }
        let desktop = SessionPage { desktop: true, ..page(None) }.render().unwrap();
        assert!(
            desktop.contains("data-desktop") && desktop.contains("desk.js") && !desktop.contains("xterm")
        );
        let html = page(Some("killed".into())).render().unwrap();
        assert!(html.contains("/recordings/session-id") && !html.contains("/live/session-id/socket"));
    }
}
