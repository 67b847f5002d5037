//! The relay of a channel that carries file transfer: each operation is understood, allowed or refused, and kept as an
//! event before its bytes go on.

use std::sync::Arc;

use cofferdam_recorder::{Direction, Event, StreamKeeper};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};
use tokio::sync::Mutex;

use super::relay::{Outcome, close_keepers, control_down, control_up, kept};
use crate::{
    session::{control::Ended, files::record_event, live::Session},
    transfer::{Inspector, Step, Unrecorded},
};

/// Both directions of one channel. The lock orders what is written to the person: an answer of the gateway's own never
/// lands inside a packet of the target's.
pub(crate) struct Files {
    session: Arc<Session>,
    channel: u32,
    shared: Mutex<Shared>,
}

struct Shared {
    inspector: Box<dyn Inspector>,
    /// What it says to one packet; empty between two.
    said: Vec<Step>,
    steps: Unrecorded,
    up: StreamKeeper,
    down: StreamKeeper,
}

impl Files {
    /// For one channel.
    pub(crate) fn new(session: Arc<Session>, channel: u32, inspector: Box<dyn Inspector>) -> Self {
        // Uploads are kept as files; of what is read, the stream is, as of any channel without a terminal.
        let keeper = |direction| {
            let full = if direction == Direction::ToPerson { session.grant().keep_full_bytes() } else { 0 };
            StreamKeeper::keeping(session.recorder().clone(), channel, direction, full)
        };
        let shared = Mutex::new(Shared {
            inspector,
            said: Vec::new(),
            steps: Unrecorded::default(),
            up: keeper(Direction::ToTarget),
            down: keeper(Direction::ToPerson),
        });
        Self { session, channel, shared }
    }

    /// Person → target.
    pub(super) async fn up(
        &self,
        read: &mut ChannelReadHalf,
        person: &ChannelWriteHalf<server::Msg>,
        target: &ChannelWriteHalf<client::Msg>,
    ) -> Result<(), Ended> {
        let session = &*self.session;
        while let Some(message) = read.wait().await {
            let ChannelMsg::Data { data } = message else {
                if !control_up(session, self.channel, message, target).await? {
                    return Ok(());
                }
                continue;
            };
            session.control().running().await?;
            session.heard_person(data.len());
            let onward = {
                let mut shared = self.shared.lock().await;
                let shared = &mut *shared;
                kept(session, shared.up.record(&data, session.now().micros()).await)?;
                shared.inspector.from_person(data, &mut shared.said);
                shared.steps.extend(shared.said.drain(..));
                self.take(&mut shared.steps, person).await?
            };
            for data in onward.to_target {
                if target.data_bytes(data).await.is_err() {
                    return Ok(());
                }
            }
            if onward.over {
                return Ok(());
            }
        }
        target.close().await.unwrap_or_default();
        Ok(())
    }

    /// Target → person.
    pub(super) async fn down(
        &self,
        read: &mut ChannelReadHalf,
        person: &ChannelWriteHalf<server::Msg>,
        handle: &server::Handle,
        outcome: &mut Outcome,
    ) -> Result<(), Ended> {
        let session = &*self.session;
        while let Some(message) = read.wait().await {
            let ChannelMsg::Data { data } = message else {
                if !control_down(session, self.channel, message, person, handle, outcome).await? {
                    return Ok(());
                }
                continue;
            };
            session.control().running().await?;
            session.heard_target(data.len());
            let mut shared = self.shared.lock().await;
            let shared = &mut *shared;
            kept(session, shared.down.record(&data, session.now().micros()).await)?;
            shared.inspector.from_target(data, &mut shared.said);
            shared.steps.extend(shared.said.drain(..));
            if self.take(&mut shared.steps, person).await?.over {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The channel is over: what was not recorded yet is, and what was under way is said, the digests are final.
    pub(crate) async fn close(self) {
        let mut shared = self.shared.into_inner();
        shared.inspector.close(&mut shared.said);
        shared.steps.extend(shared.said);
        while let Some(step) = shared.steps.first() {
            // An error has ended the session already.
            keep(&self.session, self.channel, &step).await.unwrap_or_default();
            shared.steps.recorded();
            if let Step::Event(event) = step {
                self.session.add_moved(event.bytes);
            }
        }
        close_keepers(&self.session, [shared.up, shared.down]).await;
    }

    /// Records every step that is evidence, then writes what is for the person; what is for the target is the caller's.
    async fn take(
        &self,
        steps: &mut Unrecorded,
        person: &ChannelWriteHalf<server::Msg>,
    ) -> Result<Onward, Ended> {
        let mut onward = Onward::default();
        let mut to_person = Vec::new();
        while let Some(step) = steps.first() {
            keep(&self.session, self.channel, &step).await?;
            steps.recorded();
            match step {
                Step::ToTarget(data) => onward.to_target.push(data),
                Step::ToPerson(data) => to_person.push(data),
                Step::Event(event) => self.session.add_moved(event.bytes),
                Step::End { say } => {
                    self.session.say(&say).await?;
                    to_person.clear();
                    onward.to_target.clear();
                    onward.over = true;
                    person
                        .extended_data_bytes(1, crate::session::live::on_screen(&say))
                        .await
                        .unwrap_or_default();
                    break;
                }
                // The keepers of the channel have seen everything already.
                Step::Keep { .. } | Step::Digest { .. } => {}
            }
        }
        // A suspended or ended session forwards nothing, whatever was decided a moment ago.
        self.session.control().running().await?;
        for data in to_person {
            if person.data_bytes(data).await.is_err() {
                onward.over = true;
                break;
            }
        }
        Ok(onward)
    }
}

/// Records a step that is evidence.
async fn keep(session: &Session, channel: u32, step: &Step) -> Result<(), Ended> {
    match step {
        Step::Event(event) => Box::pin(record_event(session, channel, event.clone())).await,
        Step::Keep { file, offset, data } => {
            session.record(Event::FileContent { file: *file, offset: *offset, data: data.clone() }).await
        }
        Step::ToTarget(_) | Step::ToPerson(_) | Step::Digest { .. } | Step::End { .. } => Ok(()),
    }
}

#[derive(Default)]
struct Onward {
    to_target: Vec<bytes::Bytes>,
    over: bool,
}
