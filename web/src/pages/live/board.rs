//! The listing that follows what happens: made once for everybody who looks at it, and sent only when it has changed.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use askama::Template;
use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::watch;

use super::rows;
use crate::{
    error::Failure,
    frame::Clock,
    routes::WATCHERS,
    services::App,
    streams::{self, Use},
    viewer::Viewer,
};

/// How often it is made anew while somebody looks.
const EVERY: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Board {
    shown: watch::Sender<Arc<str>>,
    /// Whether somebody makes it.
    made: Mutex<bool>,
}

impl Default for Board {
    fn default() -> Self {
        Self { shown: watch::Sender::new(Arc::from("")), made: Mutex::new(false) }
    }
}

impl Board {
    /// What is shown from now on.
    fn look(self: &Arc<Self>, app: &App) -> watch::Receiver<Arc<str>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.shown.subscribe();
        if !std::mem::replace(&mut *made, true) {
            tokio::spawn(make(self.clone(), app.clone()));
        }
        receiver
    }

    /// Whether nobody looks any more; then nobody makes it either.
    fn deserted(&self) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shown.receiver_count() == 0 {
            *made = false;
        }
        !*made
    }
}

async fn make(board: Arc<Board>, app: App) {
    let mut snapshots = app.snapshots.clone();
    while !board.deserted() {
        let clock = Clock::new(&app.snapshot().site.settings.time_zone);
        // What cannot be read now is shown when it can.
        if let Ok(rows) = rows(&app, &clock).await
            && let Ok(html) = rows.render()
        {
            board.shown.send_if_modified(|shown| {
                let new = **shown != *html;
                if new {
                    *shown = Arc::from(html);
                }
                new
            });
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

pub(super) async fn events(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let place = app.streams.enter(&viewer.user.name)?;
    let shown = app.board.look(&app);
    let over: Pin<Box<dyn Future<Output = ()> + Send>> = {
        let app = app.clone();
        Box::pin(async move { streams::over(&app, &viewer, WATCHERS, Use::Shows).await })
    };
    let events = stream::unfold((shown, place), async |(mut shown, place)| {
        shown.changed().await.ok()?;
        let html = shown.borrow_and_update().clone();
        Some((Ok::<_, Infallible>(Event::default().event("rows").data(&*html)), (shown, place)))
    });
    let last = stream::once(async { Ok(Event::default().event("over").data("")) });
    let events = events.take_until(over.fuse()).chain(last);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
