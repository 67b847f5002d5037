//! The relay of a channel that carries file transfer: each operation is understood, allowed or refused, and kept as an
//! event before its bytes go on.

use std::sync::Arc;

use cofferdam_recorder::{Direction, Event, FileOp, StreamKeeper};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};
use tokio::sync::Mutex;

use super::relay::{Outcome, close_keepers, control_down, control_up, kept};
use crate::{
    detect::triggers::Observation,
    session::{control::Ended, live::Session},
    transfer::{self, FileEvent, Inspector, Step},
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
    steps: Vec<Step>,
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
            steps: Vec::new(),
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
                shared.inspector.from_person(data, &mut shared.steps);
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
            shared.inspector.from_target(data, &mut shared.steps);
            if self.take(&mut shared.steps, person).await?.over {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The channel is over: what was under way is said, the digests are final.
    pub(crate) async fn close(self) {
        let Self { session, channel, shared } = self;
        let Shared { mut inspector, mut steps, up, down } = shared.into_inner();
        inspector.close(&mut steps);
        for step in steps {
            if let Step::Event(event) = step {
                // An error has ended the session already.
                keep_event(&session, channel, event).await.unwrap_or_default();
            }
        }
        close_keepers(&session, [up, down]).await;
    }

    /// Records every step that is evidence, then writes what is for the person; what is for the target is the caller's.
    async fn take(
        &self,
        steps: &mut Vec<Step>,
        person: &ChannelWriteHalf<server::Msg>,
    ) -> Result<Onward, Ended> {
        let mut onward = Onward::default();
        let mut to_person = Vec::new();
        for step in steps.drain(..) {
            match step {
                Step::ToTarget(data) => onward.to_target.push(data),
                Step::ToPerson(data) => to_person.push(data),
                Step::Event(event) => Box::pin(keep_event(&self.session, self.channel, event)).await?,
                Step::Keep { file, offset, data } => {
                    self.session.record(Event::FileContent { file, offset, data }).await?;
                }
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

/// Records one file operation, counts it, and lets the triggers see it.
pub(super) async fn keep_event(session: &Session, channel: u32, event: FileEvent) -> Result<(), Ended> {
    let over = event.refused.as_deref().is_some_and(|why| why.contains("window's limit"));
    session.add_moved(event.bytes);
    session.record(Event::File(Box::new(op(channel, event)))).await?;
    // The inspectors stop a transfer at the limit; that somebody wanted more is what the trigger is for.
    if let Some(limit) = session.grant().limits().file_bytes.filter(|_| over) {
        session
            .observe(Observation::FileBytes { total: limit.saturating_add(1), limit: Some(limit) })
            .await?;
    }
    Ok(())
}

#[derive(Default)]
struct Onward {
    to_target: Vec<bytes::Bytes>,
    over: bool,
}

fn op(channel: u32, event: FileEvent) -> FileOp {
    FileOp {
        channel,
        file: event.file.unwrap_or_default(),
        op: event.operation.name().to_owned(),
        path: transfer::printable(&event.path),
        target: event.to.as_deref().map(transfer::printable),
        direction: match event.operation {
            transfer::Operation::Upload => Some(Direction::ToTarget),
            transfer::Operation::Download => Some(Direction::ToPerson),
            _ => None,
        },
        size: event.bytes,
        file_size: event.size,
        sha256: event.sha256.map(hex::encode),
        outcome: match (&event.refused, &event.error, event.whole || event.bytes == 0) {
            (Some(_), _, _) => "refused",
            (None, Some(_), _) => "failed",
            (None, None, true) => "done",
            (None, None, false) => "partial",
        }
        .to_owned(),
        note: [event.refused, event.error, event.note].into_iter().flatten().collect::<Vec<_>>().join("; "),
    }
}
