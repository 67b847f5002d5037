//! The queue of requests, which updates by itself.

use std::convert::Infallible;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{
    error::Failure,
    frame::{self, Frame, WORKERS},
    pages::windows::view::Line,
    routes::APPROVERS,
    services::App,
    streams::{self, Use},
    viewer::Viewer,
};

/// Which part of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
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

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    /// What it asks for.
    pub(super) line: Line,
    /// Where the decision, or the window, is shown.
    pub(super) path: String,
    /// What to look out for: class and words.
    pub(super) marks: Vec<(&'static str, &'static str)>,
    /// Who approved already.
    pub(super) first: String,
}

#[derive(Template)]
#[template(path = "approvals/rows.html")]
pub(super) struct Rows<'a> {
    /// Which part it is.
    pub(super) tab: Tab,
    /// What is in it.
    pub(super) requests: Vec<&'a Request>,
    /// How many wait for the viewer.
    pub(super) mine: usize,
    /// How many wait for others.
    pub(super) others: usize,
    /// More wait than are shown.
    pub(super) more: bool,
}

#[derive(Template)]
#[template(path = "approvals/queue.html")]
struct QueuePage<'a> {
    frame: Frame,
    tab: Tab,
    requests: Vec<&'a Request>,
    mine: usize,
    others: usize,
    more: bool,
    mark: u64,
    may_ask: bool,
}

impl<'a> QueuePage<'a> {
    fn new(frame: Frame, rows: Rows<'a>, mark: u64, may_ask: bool) -> Self {
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
    let mark = app.desk.mark(&app.snapshot());
    let queue = app.desk.queue(&app, mark).await?;
    let frame = Frame::new(&app, &viewer, "/approvals");
    let rows = queue.rows(&app, &viewer, wanted.tab).await?;
    let may_ask = WORKERS.admits(&viewer.user);
    frame::page(&QueuePage::new(frame, rows, mark, may_ask))
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
        let now = app.desk.mark(&snapshots.borrow_and_update().clone());
        if shown != Some(now) {
            // What cannot be read now: the browser connects anew, and finds what it missed.
            let Ok(html) = rows(app, viewer, wanted.tab, now).await else { return };
            if send.send(Event::default().data(&*html)).await.is_err() {
                return;
            }
            shown = Some(now);
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

async fn rows(app: &App, viewer: &Viewer, tab: Tab, mark: u64) -> Result<std::sync::Arc<str>, Failure> {
    app.desk.queue(app, mark).await?.html(app, viewer, tab).await
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
            let rows = Rows { tab, requests: vec![&request], mine: 1, others: 0, more: true };
            let page = QueuePage::new(frame, rows, 7, false);
            let html = page.render().unwrap();
            assert!(html.contains("W-9a8057") && !html.contains("<script>sam"), "{html}");
            let empty = Rows { tab, requests: Vec::new(), mine: 0, others: 0, more: false };
            assert!(empty.render().unwrap().contains("empty"));
        }
    }
}
