//! A live session, followed: its screen at the moment of joining, then what happens.

use std::time::Duration;

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    ids::SessionId,
    store::SessionState,
};
use cofferdam_recorder::{Followed, Live, LiveEvent, LiveNext, ReadError};
use tokio::sync::mpsc;

use super::{Records, RecordsError, blocking};

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(100);
/// Events that wait for whoever watches; a slow one makes the following slow, and nothing else.
const WAITING: usize = 256;
/// Events of the recording that are read in one go.
const AT_ONCE: usize = 64;

impl Records {
    /// Follows a session that goes on on this machine: one channel of it, or the first that has a terminal. Takes a thread
    /// for blocking work until the session ends or the receiver is dropped; whoever offers this bounds how many watch.
    ///
    /// # Errors
    /// When the session has ended or runs elsewhere, its recording cannot be read here, or the watching cannot be noted.
    pub(crate) async fn follow(
        &self,
        reader: &Act,
        id: SessionId,
        channel: Option<u32>,
    ) -> Result<Followed, RecordsError> {
        let session = self.store.session(id).await?;
        if session.state == SessionState::Ended {
            return Err(RecordsError::Ended(id));
        }
        let recording =
            session.recording.as_deref().unwrap_or_default().parse().map_err(RecordsError::Unnamed)?;
        let path = self.context.recording_path(&recording);
        if !path.exists() {
            return Err(RecordsError::Elsewhere { node: session.node });
        }
        let identity = self.context.replay_identity()?;
        self.note(reader, AuditEvent::new(AuditKind::SessionWatched, id)).await?;
        let (live, joined) = blocking(move || Live::join(&path, &identity, channel)).await??;
        let header = live.header().clone();
        let (told, events) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || tell(live, &told));
        Ok(Followed { header, joined, events })
    }
}

/// Passes on what happens until nobody listens or the recording is sealed.
fn tell(mut live: Live, told: &mpsc::Sender<Result<LiveEvent, ReadError>>) {
    while !told.is_closed() {
        match live.next(AT_ONCE) {
            Ok(LiveNext::Events(events)) => {
                for event in events {
                    if told.blocking_send(Ok(event)).is_err() {
                        return;
                    }
                }
            }
            Ok(LiveNext::Waiting) => std::thread::sleep(LOOK),
            Ok(LiveNext::Ended) => return,
            Err(error) => {
                // Whoever does not listen any more does not miss it.
                told.blocking_send(Err(error)).unwrap_or_default();
                return;
            }
        }
    }
}
