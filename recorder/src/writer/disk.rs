//! The shared journal file as the commit thread uses it.

use std::{io, sync::Arc};

use super::journal::{self, name};
use crate::{
    error::{RecordError, storage as storage_error},
    storage::{SpoolFile, Storage},
};

/// The journal of this run.
pub(crate) struct Disk {
    storage: Arc<dyn Storage>,
    number: u64,
    journal: Box<dyn SpoolFile>,
    /// A session failed while its last stretches stood in the journal only: they are kept for the
    /// next start.
    pinned: bool,
}

impl Disk {
    pub(crate) fn new(storage: Arc<dyn Storage>, old: &[String]) -> Result<Self, RecordError> {
        let numbers = old.iter().filter_map(|n| journal::number(n));
        let number = numbers.max().map_or(0, |n| n.saturating_add(1));
        let journal = storage.create(&name(number)).map_err(storage_error("creating the journal"))?;
        storage.sync_names().map_err(storage_error("creating the journal"))?;
        Ok(Self { storage, number, journal, pinned: false })
    }

    pub(crate) fn len(&self) -> u64 {
        self.journal.len()
    }

    /// Makes a batch durable, or leaves the journal as it was.
    pub(crate) fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let before = self.journal.len();
        self.journal.append(batch)?;
        if let Err(e) = self.journal.sync() {
            // What a failed sync left on the disk is unknown: the batch is written again.
            self.journal.truncate(before)?;
            return Err(e);
        }
        Ok(())
    }

    pub(crate) fn pin(&mut self) {
        self.pinned = true;
    }

    /// Empties the journal: everything in it stands, durable, in its own file.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if !self.pinned {
            return self.journal.truncate(0);
        }
        let next = self.storage.create(&name(self.number + 1))?;
        self.storage.sync_names()?;
        self.number += 1;
        self.journal = next;
        self.pinned = false;
        Ok(())
    }

    /// Removes the journal when the service ends in good order.
    pub(crate) fn close(mut self) {
        if self.pinned || self.clear().is_err() {
            return;
        }
        // An empty journal that stays behind does no harm.
        self.storage.remove(&name(self.number)).ok();
    }
}
