//! Recordings that were deleted while an uploader may have been in the middle of them: what it stored is taken back.

use std::collections::BTreeMap;

use super::{error::RemoteError, store::RemoteStore};
use crate::{header::RecordingId, retention::GONE, storage::Storage, writer::RECORDING};

/// How long a mark stays after it was first seen, in microseconds: 1 h. A request that nobody waits for any more may still
/// be carried out by the store some time later.
const REMEMBERED: i64 = 3_600_000_000;

/// The marks that [`crate::bury`] left in a folder.
#[derive(Debug, Default)]
pub(super) struct Buried {
    /// When each was first seen.
    seen: BTreeMap<RecordingId, i64>,
}

impl Buried {
    /// The marks that are to be looked after now: new ones, and those old enough to go.
    pub(super) fn due(&mut self, names: &[String], now: i64) -> Vec<RecordingId> {
        let marks = names.iter().filter_map(|name| name.strip_suffix(GONE)?.parse::<RecordingId>().ok());
        let marks: Vec<RecordingId> = marks.collect();
        self.seen.retain(|id, _| marks.contains(id));
        marks.into_iter().filter(|id| self.seen.get(id).is_none_or(|since| old(*since, now))).collect()
    }

    /// Takes back what the store has of a recording, and lets go of its mark once that is old enough.
    pub(super) async fn look_after(
        &mut self,
        id: RecordingId,
        store: &RemoteStore,
        storage: &dyn Storage,
        now: i64,
    ) -> Result<(), RemoteError> {
        if store.erase(&id).await? {
            tracing::info!(recording = %id, "what the object store had of a deleted recording is taken back");
        }
        let is_here = storage.path(&format!("{id}{RECORDING}")).is_some_and(|path| path.exists());
        if old(*self.seen.entry(id.clone()).or_insert(now), now) && !is_here {
            storage.remove(&format!("{id}{GONE}")).map_err(super::error::local("removing a mark"))?;
            self.seen.remove(&id);
        }
        Ok(())
    }
}

fn old(since: i64, now: i64) -> bool {
    now.saturating_sub(since) >= REMEMBERED
}
