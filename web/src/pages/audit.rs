//! The audit log: looked through by kind, actor, subject and time, verified on demand, downloaded as signed.

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    audit::{AuditEntry, AuditKind},
    store::AuditFilter,
};
use serde::Deserialize;

use crate::{
    admin::{
        Background,
        audit::{self, Wanted},
    },
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    routes::{AUDITORS, Routes},
    services::App,
    viewer::Viewer,
};

/// Entries on one page.
const PAGE: u32 = 50;
/// Characters of an entry's details in the list.
const LONGEST: usize = 160;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/audit", AUDITORS, list)
        .get("/audit/export", AUDITORS, export)
        .get("/audit/{seq}", AUDITORS, show)
        .post("/audit/verify", AUDITORS, verify)
}

struct Row {
    seq: u64,
    at: Moment,
    kind: String,
    actor: String,
    subject: String,
    details: String,
    hash: String,
}

/// What is known about the chain.
#[derive(Default)]
struct Chain {
    running: Option<Moment>,
    /// The last verification that the log itself tells of.
    verified: Option<Verified>,
    /// Why the last one of this process could not be done, or the first bad entry that it found.
    problem: Option<String>,
    head: Option<Head>,
}

struct Verified {
    at: Moment,
    by: String,
    whole: bool,
    entries: u64,
}

struct Head {
    seq: u64,
    at: Moment,
    key: String,
    hash: String,
    signature: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    wanted: Wanted,
    kinds: Vec<&'static str>,
    chain: Chain,
    rows: Vec<Row>,
    newer: Option<String>,
    older: Option<String>,
    export: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "audit-entry.html")]
struct EntryPage {
    frame: Frame,
    entry: AuditEntry,
    at: Moment,
    body: String,
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/audit");
    // One more than is shown tells whether there is more.
    let (mut entries, problem) = match audit::page(&app, &wanted, PAGE + 1).await {
        Ok(entries) => (entries, None),
        Err(Failure::Invalid(text)) => (Vec::new(), Some(text)),
        Err(other) => return Err(other),
    };
    let more = entries.len() > PAGE as usize;
    let back = wanted.after.is_some();
    if more && back {
        entries.remove(0);
    }
    entries.truncate(PAGE as usize);
    let (first, last) = (entries.first().map(|e| e.seq), entries.last().map(|e| e.seq));
    let page = AuditPage {
        kinds: AuditKind::ALL.iter().map(|k| k.as_str()).collect(),
        chain: chain(&app, &frame).await?,
        older: last
            .filter(|seq| *seq > 1 && (more || back))
            .map(|seq| address("/audit", &wanted, Some(("before", seq)))),
        newer: first
            .filter(|_| wanted.before.is_some() || (more && back))
            .map(|seq| address("/audit", &wanted, Some(("after", seq)))),
        export: address("/audit/export", &wanted, None),
        rows: entries.into_iter().map(|e| row(&frame, e)).collect(),
        problem,
        wanted,
        frame,
    };
    frame::page(&page)
}

/// The same question at another place.
fn address(path: &str, wanted: &Wanted, place: Option<(&str, u64)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let fields = [
        ("kind", &wanted.kind),
        ("actor", &wanted.actor),
        ("subject", &wanted.subject),
        ("from", &wanted.from),
        ("until", &wanted.until),
    ];
    for (name, value) in fields.into_iter().filter(|(_, v)| !v.is_empty()) {
        query.append_pair(name, value);
    }
    if let Some((name, seq)) = place {
        query.append_pair(name, &seq.to_string());
    }
    format!("{path}?{}", query.finish())
}

fn row(frame: &Frame, entry: AuditEntry) -> Row {
    let mut details: String = entry.body.chars().take(LONGEST).collect();
    if details.len() < entry.body.len() {
        details.push('…');
    }
    Row {
        seq: entry.seq,
        at: frame.at(&entry.at),
        kind: entry.kind,
        actor: entry.actor,
        subject: entry.subject,
        details,
        hash: entry.hash.chars().take(8).collect(),
    }
}

async fn chain(app: &App, frame: &Frame) -> Result<Chain, Failure> {
    let state = app.background.verification();
    let filter = AuditFilter { kind: Some(AuditKind::AuditVerified), limit: 1, ..AuditFilter::default() };
    let verified = app.store.audit(&filter).await?.into_iter().next().map(|e| {
        let body: serde_json::Value = serde_json::from_str(&e.body).unwrap_or_default();
        Verified {
            at: frame.at(&e.at),
            by: e.actor,
            whole: body.get("whole").and_then(serde_json::Value::as_bool).unwrap_or(false),
            entries: body.get("entries").and_then(serde_json::Value::as_u64).unwrap_or(0),
        }
    });
    let problem = state.last.and_then(|(_, outcome)| match outcome {
        Err(text) => Some(text),
        Ok(report) => {
            report.first_bad.or(report.checkpoint_problems.into_iter().next()).map(|b| b.to_string())
        }
    });
    let head = app.store.head().await?.map(|h| Head {
        seq: h.seq,
        at: frame.at(&h.at),
        key: h.key_id,
        hash: h.hash,
        signature: h.signature,
    });
    Ok(Chain { running: frame.zone.maybe(state.running), verified, problem, head })
}

async fn show(State(app): State<App>, viewer: Viewer, Path(seq): Path<u64>) -> Result<Response, Failure> {
    let entry = app.store.audit_entry(seq).await?;
    let frame = Frame::new(&app, &viewer, "/audit");
    // A body is JSON text; one that is not was edited, and is shown as the text that it is.
    let body = serde_json::from_str::<serde_json::Value>(&entry.body)
        .and_then(|v| serde_json::to_string_pretty(&v))
        .unwrap_or_else(|_| entry.body.clone());
    let at = frame.at(&entry.at);
    frame::page(&EntryPage { at, body, entry, frame })
}

#[derive(Deserialize)]
struct Nothing {}

async fn verify(
    State(app): State<App>,
    viewer: Viewer,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response, Failure> {
    Background::verify(&app, viewer.act(app.now()));
    Ok(Redirect::to("/audit").into_response())
}

async fn export(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let body = audit::export(&app, &viewer, &wanted).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"audit.jsonl\"")),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Site;

    #[tokio::test]
    async fn entries_are_found_by_kind_actor_subject_and_time() {
        let site = Site::new().await;
        let ivan = site.log_in("ivan").await;
        site.ask(|_| ()).await;
        let shown = ivan.get("/audit?kind=window.requested&actor=vera").await;
        assert!(
            shown.text.contains("<td data-label=\"What\"><span>window.requested</span>"),
            "{}",
            shown.text
        );
        let other = ivan.get("/audit?kind=window.requested&actor=ada").await;
        assert!(other.text.contains("No entry fits"));
        let later = ivan.get("/audit?from=2027-01-01").await;
        assert!(later.text.contains("No entry fits"), "{}", later.text);
        let before = ivan.get("/audit?until=2027-01-01&subject=ivan").await;
        assert!(before.text.contains("login.succeeded"));
        let wrong = ivan.get("/audit?kind=nonsense").await;
        assert!(wrong.status == 200 && wrong.text.contains("is not a kind of audit event"));
    }

    #[tokio::test]
    async fn pages_go_back_and_forth_without_losing_or_repeating_an_entry() {
        let site = Site::new().await;
        let ivan = site.log_in("ivan").await;
        let event = |n: u64| cofferdam_access::audit::AuditEvent::new(AuditKind::ConfigChanged, n);
        site.store().record_all(&site.act("ada"), (0..120).map(event).collect()).await.unwrap();
        let seqs = |text: &str| -> Vec<u64> {
            text.split("<a href=\"/audit/")
                .skip(1)
                .filter_map(|t| t.split('"').next()?.parse().ok())
                .collect()
        };
        let link = |text: &str, rel: &str| {
            let (_, rest) = text.split_once(&format!("rel=\"{rel}\" href=\""))?;
            Some(rest.split_once('"')?.0.replace("&#38;", "&").replace("&amp;", "&"))
        };
        let first = ivan.get("/audit?kind=config.changed").await.text;
        let second = ivan.get(&link(&first, "next").unwrap()).await.text;
        let third = ivan.get(&link(&second, "next").unwrap()).await.text;
        let all = [seqs(&first), seqs(&second), seqs(&third)].concat();
        assert_eq!(all.len(), 120);
        assert!(all.windows(2).all(|w| w[0] > w[1]), "{all:?}");
        assert!(link(&third, "next").is_none() && link(&first, "prev").is_none());
        let back = ivan.get(&link(&third, "prev").unwrap()).await.text;
        assert_eq!(seqs(&back), seqs(&second));
    }

    #[tokio::test]
    async fn the_log_is_verified_on_demand_and_says_so_itself() {
        let site = Site::new().await;
        let ivan = site.log_in("ivan").await;
        assert!(ivan.get("/audit").await.text.contains("has not been verified"));
        assert_eq!(ivan.post("/audit/verify", &[]).await.status, 303);
        for _ in 0..200 {
            let shown = ivan.get("/audit").await;
            if shown.text.contains("The chain is whole") {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the verification never ended");
    }

    #[tokio::test]
    async fn the_download_holds_every_entry_as_signed_and_is_itself_noted() {
        let site = Site::new().await;
        let ivan = site.log_in("ivan").await;
        let answer = ivan.get("/audit/export").await;
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        let entries: Vec<AuditEntry> =
            answer.text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(
            entries.iter().enumerate().all(|(n, e)| e.seq == n as u64 + 1 && e.hash == e.computed_hash())
        );
        assert_eq!(entries.last().unwrap().kind, "audit.exported");
        assert_eq!(entries.last().unwrap().actor, "ivan");
    }

    #[tokio::test]
    async fn operations_and_vendors_do_not_read_the_log() {
        let site = Site::new().await;
        for person in ["vera", "emil", "olga"] {
            let browser = site.log_in(person).await;
            for path in ["/audit", "/audit/1", "/audit/export"] {
                assert_eq!(browser.get(path).await.status, 403, "{person} {path}");
            }
        }
    }

    #[test]
    fn the_pages_render_with_what_people_typed_escaped() {
        let frame = Frame::sample("/audit");
        let at = frame.at(&frame.now);
        let page = AuditPage {
            wanted: Wanted { actor: "\"><script>".into(), ..Wanted::default() },
            kinds: vec!["finding"],
            chain: Chain {
                running: Some(at.clone()),
                verified: Some(Verified { at: at.clone(), by: "<script>".into(), whole: false, entries: 7 }),
                problem: Some("<script>".into()),
                head: Some(Head {
                    seq: 7,
                    at: at.clone(),
                    key: "k".into(),
                    hash: "h".into(),
                    signature: "s".into(),
                }),
            },
            rows: vec![Row {
                seq: 7,
                at: at.clone(),
                kind: "finding".into(),
                actor: "<script>".into(),
                subject: "<script>".into(),
                details: "<script>".into(),
                hash: "0".into(),
            }],
            newer: Some("/audit?after=1&x=\"".into()),
            older: None,
            export: "/audit/export".into(),
            problem: Some("<script>".into()),
            frame: frame.clone(),
        };
        assert!(!page.render().unwrap().contains("<script>"));
        let entry = AuditEntry {
            seq: 7,
            at: frame.now,
            kind: "finding".into(),
            actor: "<script>".into(),
            subject: "<script>".into(),
            body: "<script>".into(),
            prev_hash: String::new(),
            hash: String::new(),
            key_id: String::new(),
            signature: String::new(),
        };
        let page = EntryPage { at, body: entry.body.clone(), entry, frame };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
