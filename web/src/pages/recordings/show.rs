//! One recording: its replay with transcript and marks, why it was allowed, its proof, and who looked at it.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use cofferdam_access::{
    audit::{AuditEntry, AuditKind},
    clock::Timestamp,
    decision::DecisionRecord,
    ids::SessionId,
    retention::kept_until,
    site::Protocol,
    store::{AuditFilter, FindingFilter, KeptRecording, SessionRecord, SessionState},
};
use futures::future::try_join_all;
use serde::Deserialize;

use super::{At, keep, length, parsed, place};
use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    headers::With,
    pages::ends::in_words,
    recordings::{RecordedLine, Verified},
    services::App,
    viewer::Viewer,
};

/// Lines of the transcript on the page; the download has all of them.
const LINES: usize = 3000;
/// Who looked in each way, at most so many.
const LOOKED: u32 = 30;

struct Line {
    at: At,
    tone: &'static str,
    kind: &'static str,
}

struct Looked {
    who: String,
    at: Moment,
    what: String,
}

struct Approved {
    by: String,
    duty: &'static str,
    at: Moment,
    remark: String,
}

/// The five answers in words.
struct Answers {
    who: String,
    device: String,
    resource: String,
    context: String,
    behaviour: String,
    policies: String,
    fits: bool,
    approvals: Vec<Approved>,
    digest: Vec<String>,
}

struct Finding {
    at: At,
    severity: String,
    text: String,
}

struct Proof {
    pill: &'static str,
    word: &'static str,
    summary: String,
    faults: Vec<String>,
}

#[derive(Template)]
#[template(path = "recording.html")]
struct RecordingPage {
    frame: Frame,
    id: String,
    person: String,
    asset: String,
    login: String,
    protocol: &'static str,
    desktop: bool,
    seconds: i64,
    started: Moment,
    length: String,
    end_reason: String,
    live: bool,
    window: Option<String>,
    lines: Vec<Line>,
    more: bool,
    problem: Option<String>,
    answers: Option<Answers>,
    findings: Vec<Finding>,
    proof: Option<Proof>,
    sealed: Option<String>,
    held: Option<(String, Moment, String)>,
    deleted: Option<(String, String, Moment)>,
    kept_until: Option<Moment>,
    may_lift: bool,
    lift_digest: String,
    looked: Vec<Looked>,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    page(&app, &viewer, parsed(&id)?, None).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn verify(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response, Failure> {
    let id = parsed(&id)?;
    app.store.recording(id).await?;
    let verified = app.recordings.verify(id).await?;
    page(&app, &viewer, id, Some(verified)).await
}

async fn page(
    app: &App,
    viewer: &Viewer,
    id: SessionId,
    verified: Option<Verified>,
) -> Result<Response, Failure> {
    let record = app.store.session(id).await?;
    let kept = app.store.recording(id).await?;
    let frame = Frame::new(app, viewer, "/recordings");
    // Before the list of who looked, so that this look is on it.
    let transcript = app.recordings.transcript(&viewer.act(app.now()), id, LINES).await;
    let (lines, more, problem) = match transcript {
        Ok(lines) => (lines.lines, lines.more, None),
        Err(e) => (Vec::new(), false, Some(frame::sentence(&e.to_string()))),
    };
    let decision = app.store.decision(record.decision).await?;
    let decision: Option<DecisionRecord> = serde_json::from_str(&decision.body).ok();
    let desktop = record.protocol == Protocol::Rdp;
    let mut response = frame::page(&RecordingPage {
        lines: lines.iter().map(|l| line(record.started_at, l)).collect(),
        more,
        problem,
        answers: decision.as_ref().map(|d| answers(&frame, d)),
        findings: findings(app, &record).await?,
        proof: verified.as_ref().map(|v| proof(&frame, v)),
        sealed: record.recording_digest.clone(),
        held: kept.hold.as_ref().map(|h| (h.by.clone(), frame.at(&h.at), h.reason.clone())),
        deleted: kept
            .deleted
            .as_ref()
            .map(|d| (d.requested_by.to_string(), d.approved_by.to_string(), frame.at(&d.at))),
        kept_until: until(app, &kept).map(|at| frame.at(&at)),
        may_lift: viewer.user.duties.iter().any(|d| d.lifts_holds()),
        lift_digest: keep::purpose(id).digest,
        looked: looked(app, &frame, id).await?,
        person: decision
            .map(|d| d.who.full_name)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| record.person.to_string()),
        id: id.to_string(),
        asset: record.asset.to_string(),
        login: record.login.to_string(),
        protocol: record.protocol.as_str(),
        desktop,
        seconds: seconds(record.started_at, record.ended_at.unwrap_or_else(|| app.now())),
        started: frame.at(&record.started_at),
        length: length(record.started_at, record.ended_at),
        live: record.state != SessionState::Ended,
        end_reason: in_words(record.end_reason.as_deref().unwrap_or_default()),
        window: record.window.map(|w| w.to_string()),
        frame,
    })?;
    if !desktop {
        response.extensions_mut().insert(With::Player);
    }
    Ok(response)
}

/// Whole seconds, begun ones too.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.micros().saturating_sub(from.micros()).max(0) / 1_000_000 + 1
}

fn until(app: &App, kept: &KeptRecording) -> Option<Timestamp> {
    let site = &app.snapshot().site;
    kept_until(site, &kept.asset, kept.zone.as_ref(), kept.crown_jewel, kept.ended_at?)
}

fn line(started: Timestamp, line: &RecordedLine) -> Line {
    let tone = match line.kind {
        "finding" => "t-bad",
        "suspend" | "forward" => "t-warn",
        "command" | "screen" | "ocr" => "",
        _ => "t-info",
    };
    // The kind stands before it already.
    let text = line.text.strip_prefix(line.kind).and_then(|t| t.strip_prefix(": ")).unwrap_or(&line.text);
    Line { at: place(started, line.at, text), tone, kind: line.kind }
}

async fn findings(app: &App, record: &SessionRecord) -> Result<Vec<Finding>, Failure> {
    let filter = FindingFilter { session: Some(record.id), ..FindingFilter::default() };
    let mut found = app.store.findings(&filter).await?;
    found.reverse();
    let finding = |f: cofferdam_access::store::FindingRecord| Finding {
        at: place(record.started_at, f.at, ""),
        severity: f.severity,
        text: format!("{} ({})", f.text, f.response),
    };
    Ok(found.into_iter().map(finding).collect())
}

fn proof(frame: &Frame, verified: &Verified) -> Proof {
    let until = verified.proven_until.map(|at| format!(", up to {}", frame.at(&at).site)).unwrap_or_default();
    let summary = format!(
        "{} chained segments, {} signatures and {} entries of the audit log were checked{until}, at {}.",
        verified.segments,
        verified.signatures,
        verified.anchors,
        frame.at(&frame.now).site
    );
    let (pill, word) =
        if verified.whole { ("p-verified", "whole and unaltered") } else { ("p-broken", "not whole") };
    Proof { pill, word, summary, faults: verified.faults.iter().map(|f| frame::sentence(f)).collect() }
}

fn answers(frame: &Frame, d: &DecisionRecord) -> Answers {
    let name = |n: Option<&cofferdam_access::ids::Name>| n.map_or("unknown".to_owned(), ToString::to_string);
    let second = d.who.factors.second.as_ref().map_or("no second factor", |s| s.kind.as_str());
    let full_name = if d.who.full_name.is_empty() { d.who.user.as_str() } else { &d.who.full_name };
    let key = d.device.device.key_fingerprint.as_deref().unwrap_or("none");
    let operations: Vec<&str> = d.resource.operations.iter().map(|o| o.as_str()).collect();
    let account =
        d.resource.account.as_ref().map_or_else(|| d.resource.asset.to_string(), ToString::to_string);
    let plant = d.context.plant_state.map_or("unknown", |s| s.as_str());
    let notes: String = d.behaviour.notes.iter().map(|n| format!("; {n}")).collect();
    let digest = d.context.window_digest.clone().unwrap_or_default();
    Answers {
        who: format!(
            "{full_name} of {}, as {}; {} and {second}",
            name(d.who.organisation.as_ref()),
            frame::named(&d.who.duties),
            d.who.factors.first.as_str()
        ),
        device: format!(
            "{} from {} in zone {}; key {key}; says it is {}",
            d.device.device.kind.as_str(),
            d.device.source,
            name(d.device.zone.as_ref()),
            d.device.device.client_version
        ),
        resource: format!(
            "{account} by {} in zone {}{}; {}",
            d.resource.protocol.as_str(),
            name(d.resource.zone.as_ref()),
            if d.resource.crown_jewel { ", a crown jewel" } else { "" },
            operations.join(", ")
        ),
        context: format!(
            "plant in {plant}; {}; {}, work order {}",
            d.context.local_time,
            d.context.purpose,
            if d.context.work_order.is_empty() { "none" } else { &d.context.work_order }
        ),
        behaviour: format!("{}{notes}", if d.behaviour.fits { "as expected" } else { "unusual" }),
        policies: d.policies.join(", "),
        fits: d.behaviour.fits,
        approvals: d
            .context
            .approvals
            .iter()
            .map(|a| Approved {
                by: a.by.to_string(),
                duty: a.duty.as_str(),
                at: frame.at(&a.at),
                remark: a.remark.clone().unwrap_or_default(),
            })
            .collect(),
        digest: digest.as_bytes().chunks(8).map(|part| String::from_utf8_lossy(part).into_owned()).collect(),
    }
}

async fn looked(app: &App, frame: &Frame, id: SessionId) -> Result<Vec<Looked>, Failure> {
    let kinds = [
        AuditKind::RecordingPlayed,
        AuditKind::RecordingExported,
        AuditKind::SessionWatched,
        AuditKind::RecordingHeld,
    ];
    // By kind: the checkpoints of a long session would push everything else out.
    let of = async |kind| {
        let filter = AuditFilter {
            kind: Some(kind),
            subject: Some(id.to_string()),
            limit: LOOKED,
            ..AuditFilter::default()
        };
        app.store.audit(&filter).await
    };
    let mut entries: Vec<AuditEntry> = try_join_all(kinds.map(of)).await?.into_iter().flatten().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.seq));
    Ok(entries.iter().filter_map(|entry| look(frame, entry)).collect())
}

fn look(frame: &Frame, entry: &AuditEntry) -> Option<Looked> {
    let kind: AuditKind = entry.kind.parse().ok()?;
    let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or_default();
    let field = |name: &str| body.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let what = match kind {
        AuditKind::RecordingPlayed => match field("as").as_str() {
            "" => "replay".to_owned(),
            part => format!("replay: {part}"),
        },
        AuditKind::RecordingExported => format!("took it out as {}", field("format")),
        AuditKind::SessionWatched => "watched it live".to_owned(),
        AuditKind::RecordingHeld => format!("hold: {}", field("reason")),
        _ => return None,
    };
    Some(Looked { who: entry.actor.to_string(), at: frame.at(&entry.at), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/recordings");
        let at = frame.at(&frame.now);
        let verified =
            Verified { whole: false, faults: vec!["at byte 7: <script>".into()], ..Verified::default() };
        let hit = || At { seconds: "4.000".into(), clock: "00:04".into(), text: "<script>typed".into() };
        let mut page = RecordingPage {
            id: "recording-id".into(),
            person: "<script>Vera".into(),
            asset: "pump-hmi".into(),
            login: "root".into(),
            protocol: "ssh",
            desktop: false,
            seconds: 1,
            started: at.clone(),
            length: "1 s".into(),
            end_reason: "closed".into(),
            live: false,
            window: Some("w".into()),
            lines: vec![Line { at: hit(), tone: "t-bad", kind: "finding" }],
            more: true,
            problem: None,
            answers: Some(Answers {
                who: "<script>".into(),
                device: String::new(),
                resource: String::new(),
                context: String::new(),
                behaviour: String::new(),
                policies: String::new(),
                fits: false,
                approvals: vec![Approved {
                    by: "olga".into(),
                    duty: "operations",
                    at: at.clone(),
                    remark: "<script>".into(),
                }],
                digest: vec!["00000000".into()],
            }),
            findings: vec![Finding { at: hit(), severity: "high".into(), text: "<script>".into() }],
            proof: Some(proof(&frame, &verified)),
            sealed: Some("d".repeat(64)),
            held: Some(("sam".into(), at.clone(), "<script>case".into())),
            deleted: None,
            kept_until: Some(at.clone()),
            may_lift: true,
            lift_digest: "l".repeat(64),
            looked: vec![Looked { who: "ivan".into(), at, what: "<script>".into() }],
            frame,
        };
        let html = page.render().unwrap();
        assert!(html.contains("/recordings/recording-id/cast") && html.contains("not whole"));
        for text in ["<script>Vera", "<script>typed", "<script>case", "7: <script>", "<dd><script>"] {
            assert!(!html.contains(text), "{text}");
        }
        page.desktop = true;
        let html = page.render().unwrap();
        assert!(
            html.contains("/recordings/recording-id/desktop\" data-length=\"1\"") && html.contains("desk.js")
        );
        assert!(!html.contains("player.js") && !html.contains("asciicast"));
        assert!(html.contains("data-stills=\"/recordings/recording-id/stills\""));
    }
}
