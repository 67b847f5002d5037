//! Bytes that are not kept one by one, each way of a channel in one stream: its digest, and a copy of what came first.

use bytes::Bytes;
use cofferdam_recorder::{Direction, RecorderStopped, StreamKeeper};

use crate::session::{control::Ended, end::End, live::Session};

/// Both ways of a channel.
pub(super) struct Streams {
    channel: u32,
    keep: u64,
    to_target: Option<StreamKeeper>,
    to_person: Option<StreamKeeper>,
}

impl Streams {
    /// Of each way the first `keep` bytes are kept.
    pub(super) fn new(channel: u32, keep: u64) -> Self {
        Self { channel, keep, to_target: None, to_person: None }
    }

    /// Nothing has passed yet.
    pub(super) fn are_empty(&self) -> bool {
        self.to_target.is_none() && self.to_person.is_none()
    }

    /// Records what passes, before it goes on. What the recorder did not take ends the session.
    pub(super) async fn record(
        &mut self,
        session: &Session,
        direction: Direction,
        bytes: &Bytes,
    ) -> Result<(), Ended> {
        let way = match direction {
            Direction::ToTarget => &mut self.to_target,
            Direction::ToPerson => &mut self.to_person,
        };
        let keeper = way.get_or_insert_with(|| {
            StreamKeeper::keeping(session.recorder().clone(), self.channel, direction, self.keep)
        });
        kept(session, keeper.record(bytes, session.now().micros()).await)
    }

    /// Nothing follows.
    pub(super) async fn finish(&mut self, session: &Session) {
        for keeper in [self.to_target.take(), self.to_person.take()].into_iter().flatten() {
            // An error has ended the session already.
            kept(session, keeper.finish().await.map(drop)).unwrap_or_default();
        }
    }
}

fn kept(session: &Session, recorded: Result<(), RecorderStopped>) -> Result<(), Ended> {
    recorded.map_err(|e| {
        session.control().end(End::RecorderFailed { why: e.to_string() });
        Ended
    })
}
