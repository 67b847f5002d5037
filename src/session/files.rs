//! What happened to one file of a session, whatever protocol carried it.

use cofferdam_recorder::{Direction, Event, FileOp};

use super::{control::Ended, live::Session};
use crate::{
    detect::triggers::Observation,
    transfer::{self, FileEvent},
};

/// Records one file operation, and lets the triggers see it. Whoever is stopped meanwhile may record it again; what it moved is
/// the caller's to count, once.
pub(crate) async fn record_event(session: &Session, channel: u32, event: FileEvent) -> Result<(), Ended> {
    let over = event.refused.as_deref().is_some_and(|why| why.contains("window's limit"));
    session.record(Event::File(Box::new(op(channel, event)))).await?;
    // The inspectors stop a transfer at the limit; that somebody wanted more is what the trigger is for.
    if let Some(limit) = session.grant().limits().file_bytes.filter(|_| over) {
        session
            .observe(Observation::FileBytes { total: limit.saturating_add(1), limit: Some(limit) })
            .await?;
    }
    Ok(())
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
            _ if event.started => "started",
            (Some(_), _, _) => "refused",
            (None, Some(_), _) => "failed",
            (None, None, true) => "done",
            (None, None, false) => "partial",
        }
        .to_owned(),
        note: [event.refused, event.error, event.note].into_iter().flatten().collect::<Vec<_>>().join("; "),
    }
}
