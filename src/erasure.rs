//! Carries out what two people decided: the files of deleted recordings go.
//!
//! The decision is committed first, with its audit entries; the files follow. A crash in between leaves files that the
//! store knows to be deleted: the gateway's start, its housekeeping and every command about deletions finish the work.

use std::path::Path;

use cofferdam_access::{
    audit::{Act, Actor},
    clock::SharedClock,
    store::{RecordingFilter, Store, StoreError},
};
use cofferdam_recorder::{Archive, RecordingId, RemoteError, bury, delete};

use crate::context::recording_path;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    /// How many recordings' files are gone.
    pub(crate) done: u32,
    /// Recordings whose files could not be removed, each with the reason; they are tried again.
    pub(crate) left: Vec<(String, String)>,
}

/// Where a recording's files may be.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The folder of this machine.
    pub(crate) folder: &'a Path,
    /// The object store, where there is one.
    pub(crate) archive: Option<&'a Archive>,
}

impl Places<'_> {
    /// Removes a recording everywhere; what is gone already is no error. This machine's files go first: from them the
    /// store would be filled again.
    async fn remove(&self, id: &str) -> Result<(), String> {
        let id: RecordingId = id.parse()?;
        let path = recording_path(self.folder, &id);
        let leaves = self.archive.is_some();
        let remove = move || {
            // An uploader may be in the middle of it.
            if leaves {
                bury(&path)?;
            }
            delete(&path)
        };
        let removed = tokio::task::spawn_blocking(remove).await;
        removed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let Some(archive) = self.archive else { return Ok(()) };
        match archive.delete(&id).await {
            Ok(()) | Err(RemoteError::Unknown(_)) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Removes the files of every deleted recording of `node` that still has some.
///
/// # Errors
/// When the store cannot be asked or told; what is left is found again by the next call.
pub(crate) async fn erase_deleted(
    store: &Store,
    places: Places<'_>,
    node: &str,
    actor: &Actor,
    clock: &SharedClock,
) -> Result<Erased, StoreError> {
    let mut filter =
        RecordingFilter { node: Some(node.to_owned()), to_erase: true, ..RecordingFilter::default() };
    let mut outcome = Erased::default();
    loop {
        let batch = store.recordings(&filter).await?;
        let Some(last) = batch.last() else { return Ok(outcome) };
        filter.after = Some(last.session);
        for recording in batch {
            let id = recording.session.to_string();
            // What only the database says is not what two people decided.
            if !store.deletion_is_proven(recording.session).await? {
                let why =
                    "the audit log does not say that two people deleted it: run `cofferdam audit verify`";
                outcome.left.push((id, why.to_owned()));
                continue;
            }
            match places.remove(&id).await {
                Ok(()) => {
                    store.recording_erased(&Act::new(actor.clone(), clock.now()), recording.session).await?;
                    outcome.done += 1;
                }
                Err(why) => outcome.left.push((id, why)),
            }
        }
    }
}
