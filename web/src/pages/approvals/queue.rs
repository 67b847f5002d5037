//! The queue of requests, which updates by itself.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use cofferdam_access::{
    snapshot::Snapshot,
    store::WindowFilter,
    window::{Phase, Window},
};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::facts::{self, Weight};
use crate::{
    error::Failure,
    frame::{self, Frame, WORKERS},
    pages::windows::{
        act,
        view::{Line, full_name},
    },
    routes::APPROVERS,
    services::App,
    streams::{self, Use},
    viewer::Viewer,
};

/// Requests that the queue shows.
const MOST: u32 = 100;

/// Which part of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tab {
    /// What the viewer can decide on.
    #[default]
    Mine,
    /// What waits for somebody else.
    Others,
    /// What is decided.
    Decided,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    tab: Tab,
    /// What the page shows already.
    #[serde(default)]
    mark: Option<u64>,
}

struct Request {
    line: Line,
    /// Where the decision, or the window, is shown.
    path: String,
    /// What to look out for: class and words.
    marks: Vec<(&'static str, &'static str)>,
    first: String,
}

#[derive(Template)]
#[template(path = "approvals/rows.html")]
struct Rows {
    tab: Tab,
    requests: Vec<Request>,
    mine: usize,
    others: usize,
    /// More wait than are shown.
    more: bool,
}

#[derive(Template)]
#[template(path = "approvals/queue.html")]
struct QueuePage {
    frame: Frame,
    tab: Tab,
    requests: Vec<Request>,
    mine: usize,
    others: usize,
    more: bool,
    mark: u64,
    may_ask: bool,
}

impl QueuePage {
    fn new(frame: Frame, rows: Rows, mark: u64, may_ask: bool) -> Self {
        let Rows { tab, requests, mine, others, more } = rows;
        Self { frame, tab, requests, mine, others, more, mark, may_ask }
    }
}

impl Tab {
    fn name(self) -> &'static str {
        match self {
            Self::Mine => "mine",
            Self::Others => "others",
            Self::Decided => "decided",
        }
    }
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    // Taken before the rows are read: what changes in between is sent once too often rather than never.
    let mark = mark(&app.snapshot());
    let frame = Frame::new(&app, &viewer, "/approvals");
    let rows = rows(&app, &viewer, &frame, wanted.tab).await?;
    let may_ask = WORKERS.admits(&viewer.user);
    frame::page(&QueuePage::new(frame, rows, mark, may_ask))
}

async fn rows(app: &App, viewer: &Viewer, frame: &Frame, tab: Tab) -> Result<Rows, Failure> {
    let snapshot = app.snapshot();
    let now = app.now();
    let pending =
        WindowFilter { state: Some("requested"), ends_after: Some(now), limit: MOST, ..Default::default() };
    let pending = app.store.windows(&pending).await?;
    let more = pending.len() >= MOST as usize;
    let (mine, others): (Vec<Window>, Vec<Window>) =
        pending.into_iter().map(|w| w.window).partition(|w| waits_for(viewer, w));
    let counts = (mine.len(), others.len());
    let shown = match tab {
        Tab::Mine => mine,
        Tab::Others => others,
        Tab::Decided => decided(app, now).await?,
    };
    let mut requests = Vec::with_capacity(shown.len());
    for window in &shown {
        let marks = if tab == Tab::Decided {
            Vec::new()
        } else {
            let facts = facts::gather(&app.store, frame, &snapshot, window, false).await?;
            look_out(&facts)
        };
        let first = window.approvals.first().map_or_else(
            || "none yet".to_owned(),
            |a| format!("{}, {}", full_name(&snapshot.site, &a.by), a.duty.as_str()),
        );
        let place = if tab == Tab::Decided { "windows" } else { "approvals" };
        requests.push(Request {
            line: Line::new(frame, &snapshot.site, window),
            path: format!("/{place}/{}", window.id()),
            marks,
            first,
        });
    }
    Ok(Rows { tab, requests, mine: counts.0, others: counts.1, more })
}

/// Whether the viewer could approve it now.
fn waits_for(viewer: &Viewer, window: &Window) -> bool {
    !act::owns(viewer, window)
        && window.open_duty(&viewer.user).is_some()
        && window.approvals.iter().all(|a| a.by != viewer.user.name)
}

async fn decided(app: &App, now: cofferdam_access::clock::Timestamp) -> Result<Vec<Window>, Failure> {
    let all = app.store.windows(&WindowFilter { limit: MOST, ..WindowFilter::default() }).await?;
    Ok(all.into_iter().map(|w| w.window).filter(|w| w.phase(now) != Phase::Requested).take(50).collect())
}

/// The marks of facts that matter, each once.
fn look_out(facts: &[facts::Fact]) -> Vec<(&'static str, &'static str)> {
    let mut marks = Vec::new();
    for fact in facts {
        if let Some(mark) = fact.mark
            && fact.weight <= Weight::Warn
            && !marks.iter().any(|(_, known)| *known == mark)
        {
            marks.push((if mark == "crown jewel" { "jewel" } else { fact.weight.class() }, mark));
        }
    }
    marks
}

/// Differs when the queue could look different: requests came, went or were approved, or the plant's state changed.
fn mark(snapshot: &Snapshot) -> u64 {
    let mut hash = DefaultHasher::new();
    for window in &snapshot.windows {
        (window.id(), window.standing.as_str(), window.approvals.len()).hash(&mut hash);
    }
    snapshot.plant.iter().for_each(|state| state.hash(&mut hash));
    hash.finish()
}

/// Sends the rows anew whenever they could look different, until the log-in ends.
pub(super) async fn stream(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let place = app.streams.enter(&viewer.user.name)?;
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = streams::over(&app, &viewer, APPROVERS, Use::Shows) => {}
            () = send.closed() => {}
            () = follow(&app, &viewer, &wanted, &send) => {}
        }
    });
    let events = futures::stream::unfold(receive, async |mut receive: mpsc::Receiver<Event>| {
        receive.recv().await.map(|event| (Ok::<_, Infallible>(event), receive))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

async fn follow(app: &App, viewer: &Viewer, wanted: &Wanted, send: &mpsc::Sender<Event>) {
    let mut snapshots = app.snapshots.clone();
    let mut shown = wanted.mark;
    loop {
        let now = mark(&snapshots.borrow_and_update());
        if shown != Some(now) {
            let frame = Frame::new(app, viewer, "/approvals");
            let html = match rows(app, viewer, &frame, wanted.tab).await {
                Ok(rows) => rows.render(),
                // The browser connects anew, and finds what it missed.
                Err(_) => return,
            };
            let Ok(html) = html else { return };
            if send.send(Event::default().data(html)).await.is_err() {
                return;
            }
            shown = Some(now);
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_renders_what_people_wrote_as_text() {
        for tab in [Tab::Mine, Tab::Others, Tab::Decided] {
            let frame = Frame::sample("/approvals");
            let request = Request {
                line: crate::pages::windows::sample_line(&frame),
                path: "/approvals/x".into(),
                marks: vec![("jewel", "crown jewel"), ("t-warn", "new origin")],
                first: "<script>sam</script>".into(),
            };
            let rows = Rows { tab, requests: vec![request], mine: 1, others: 0, more: true };
            let page = QueuePage::new(frame, rows, 7, false);
            let html = page.render().unwrap();
            assert!(html.contains("W-9a8057") && !html.contains("<script>sam"), "{html}");
            let empty = Rows { tab, requests: Vec::new(), mine: 0, others: 0, more: false };
            assert!(empty.render().unwrap().contains("empty"));
        }
    }
}
