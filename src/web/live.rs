//! Live sessions of this node, for the web interface.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use cofferdam_access::{
    audit::Act,
    ids::{Name, SessionId},
    store::SessionState,
};
use cofferdam_recorder::{CastCode, CastEvent, DesktopStream, Followed, LiveEvent};
use cofferdam_web::{LiveSession, LiveSessions, Watched, Watching};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use crate::{
    gateway::Gateway,
    records::{Records, RecordsError, at},
    session::{end::Frozen, live::Session},
};

/// People who watch at once; each takes a thread that reads.
const WATCHERS: usize = 64;
/// Events that wait for one of them.
const WAITING: usize = 64;

/// See the module.
pub(super) struct Live {
    gateway: Arc<Gateway>,
    records: Records,
    places: Arc<Semaphore>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// The sessions of `gateway`, whose recordings are among `records`.
    pub(super) fn new(gateway: Arc<Gateway>, records: Records) -> Self {
        Self { gateway, records, places: Arc::new(Semaphore::new(WATCHERS)) }
    }
}

#[async_trait]
impl LiveSessions for Live {
    fn list(&self) -> Vec<LiveSession> {
        self.gateway.registry.all().iter().map(|s| seen(s)).collect()
    }

    fn get(&self, id: SessionId) -> Option<LiveSession> {
        self.gateway.registry.get(id).map(|s| seen(&s))
    }

    async fn watch(&self, act: &Act, who: &Name, id: SessionId) -> Result<Watching, String> {
        let over = "the session has ended, or runs on another node";
        let session = self.gateway.registry.get(id).ok_or(over)?;
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| "as many people watch as may: try again in a moment")?;
        let followed = self.records.follow(act, id, None).await.map_err(|e| match e {
            RecordsError::Ended(_) | RecordsError::Elsewhere { .. } => over.to_owned(),
            other => {
                warn!(session = %id, error = %other, "a session cannot be watched");
                "the session cannot be shown at the moment; the gateway's log says why".to_owned()
            }
        })?;
        let Followed { header, joined, events } = followed;
        let stream = DesktopStream::new(header.started);
        let desktop = joined.desktop.as_ref().map(|screen| stream.picture(screen, joined.at).into());
        let (to, watched) = mpsc::channel(WAITING);
        let watcher = Watcher { gateway: self.gateway.clone(), session, who: who.clone(), place };
        watcher.arrives().await;
        tokio::spawn(async move {
            pass_on(events, stream, to).await;
            watcher.leaves().await;
        });
        let (columns, rows) = (joined.cols, joined.rows);
        Ok(Watching { columns, rows, screen: joined.dump, desktop, events: watched })
    }
}

/// Somebody who watches. On a supervised asset the session goes on only while there is one.
struct Watcher {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    who: Name,
    place: OwnedSemaphorePermit,
}

impl Watcher {
    /// Nobody supervises themselves.
    fn counts(&self) -> bool {
        self.session.grant().user() != &self.who
    }

    async fn arrives(&self) {
        if self.counts() && self.session.watched(self.who.as_str()).await {
            self.gateway.note_state(self.session.id(), SessionState::Active, self.who.as_str()).await;
        }
    }

    async fn leaves(self) {
        if self.counts() && self.session.unwatched().await {
            self.gateway.note_state(self.session.id(), SessionState::Waiting, self.who.as_str()).await;
        }
        drop(self.place);
    }
}

/// Until the session ends or the page goes away.
async fn pass_on(
    mut events: mpsc::Receiver<Result<LiveEvent, cofferdam_recorder::ReadError>>,
    stream: DesktopStream,
    to: mpsc::Sender<Watched>,
) {
    loop {
        let event = tokio::select! {
            () = to.closed() => return,
            event = events.recv() => event,
        };
        let watched = match event {
            Some(Ok(event)) => watched(event, stream),
            Some(Err(e)) => {
                warn!(error = %e, "a session cannot be watched any longer");
                Some(Watched::Failed("the rest cannot be shown; the gateway's log says why".into()))
            }
            None => return,
        };
        if let Some(watched) = watched
            && to.send(watched).await.is_err()
        {
            return;
        }
    }
}

fn watched(event: LiveEvent, stream: DesktopStream) -> Option<Watched> {
    match event {
        LiveEvent::Desktop(event) => Some(Watched::Desktop(stream.event(&event).into())),
        LiveEvent::Cast(event) => shown(event),
        LiveEvent::Mark(line) => {
            Some(Watched::Mark { at: at(line.at), kind: line.kind.as_str().to_owned(), text: line.text })
        }
        LiveEvent::View(_) => Some(Watched::Cleared),
    }
}

/// What changes the picture; the rest comes as marks.
fn shown(event: CastEvent) -> Option<Watched> {
    if let Some((columns, rows)) = event.size() {
        return Some(Watched::Size { columns, rows });
    }
    (event.code == CastCode::Output).then_some(Watched::Output(event.text))
}

fn seen(session: &Session) -> LiveSession {
    let frozen = session.control().frozen();
    LiveSession {
        id: session.id(),
        last_input: session.last_input(),
        not_after: session.not_after(),
        idle_seconds: session.grant().idle_seconds(),
        unwatched: frozen == Some(Frozen::Unwatched),
        frozen: frozen.map(|f| f.sentence()),
        watchers: session.watchers(),
        bytes: session.bytes(),
    }
}
