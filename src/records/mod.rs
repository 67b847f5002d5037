//! Recordings as the command line and the web use them: opened by id wherever they stand, listed, searched, proved,
//! exported, and followed while they grow.
//!
//! Whoever calls has authorised the reader; each call that shows what was recorded takes the [`Act`] of *who reads*, and
//! writes it into the audit log before anything is decrypted: what cannot be noted is not read. Listings and proofs show
//! nothing that is confidential and take none.
//!
//! Files are read on threads for blocking work, never on those of the runtime.

mod export;
mod files;
mod follow;
mod open;
mod search;
mod shelf;
mod verdict;

use std::{path::PathBuf, sync::Arc};

use cofferdam_access::{
    audit::{Act, AuditEvent},
    clock::Timestamp,
    ids::{IdError, SessionId},
    store::{AuditFilter, Deleted, KeptRecording, RecordingFilter, Store, StoreError},
};
use cofferdam_recorder::{Anchor, Archive, ReadError, RecordingId, RemoteError};

use crate::context::{Context, ContextError};

pub(crate) use export::Form;
pub(crate) use search::{InOne, Most};
pub(crate) use shelf::{Known, Listing, Shelf, Shelved};
pub(crate) use verdict::{Fault, Proof, Verdict};

/// Why recordings could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// Something that the configuration names.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recording.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The object store.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The id is no session's.
    #[error(transparent)]
    Id(#[from] IdError),
    /// There is no such recording.
    #[error(
        "there is no recording {id} in {}{}: `cofferdam recording list` names those there are",
        folder.display(),
        if *archive { " nor in the object store" } else { "" }
    )]
    Nowhere {
        /// Its id.
        id: RecordingId,
        /// Where it was looked for …
        folder: PathBuf,
        /// … and whether in an object store too.
        archive: bool,
    },
    /// Two people deleted it.
    #[error("the recording {id} was deleted on {} by {} and {}", deleted.at, deleted.requested_by, deleted.approved_by)]
    Deleted {
        /// Its id.
        id: RecordingId,
        /// When, and by whom.
        deleted: Box<Deleted>,
    },
    /// The session that was to be followed is over.
    #[error("the session has ended: play it with `cofferdam recording play {0}`")]
    Ended(SessionId),
    /// The session that was to be followed runs on another machine.
    #[error("the session runs on node {node:?} and its recording is not on this machine: watch it there")]
    Elsewhere {
        /// That machine's name.
        node: String,
    },
    /// The session that was to be followed has no recording that can be named.
    #[error("the session has no recording yet: {0}")]
    Unnamed(String),
    /// What the audit log says of the recording cannot be used.
    #[error("{0}: verify the audit log first")]
    Audit(String),
    /// Files are as large as there is no room for.
    #[error("the files take {} MiB while they are put together, and the disk has too little room for that: use `cofferdam recording export --format files` where there is more", needed >> 20)]
    NoRoom {
        /// How much room, bytes.
        needed: u64,
    },
    /// Reading or writing a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Work on another thread broke off; the log has its panic.
    #[error("reading was broken off: look into the log, and report this")]
    BrokenOff,
}

impl RecordsError {
    fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Records {
    context: Arc<Context>,
    store: Store,
    shelf: Shelf,
}

impl Records {
    /// The recordings of the folder that `context` names and of `archive`, with what `store` knows of them.
    pub(crate) fn new(context: Arc<Context>, store: Store, archive: Option<Archive>) -> Self {
        let shelf = Shelf::new(context.config.recordings.dir.clone(), archive);
        Self { context, store, shelf }
    }

    /// Where they stand: to hold one, or to see the bare files.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// All recordings, each once, by what stands in clear text.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) async fn list(&self) -> Result<Listing, RecordsError> {
        self.shelf.list().await
    }

    /// What the store knows of a recording, if anything.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) async fn kept(&self, id: &RecordingId) -> Result<Option<KeptRecording>, RecordsError> {
        let Ok(session) = id.as_str().parse::<SessionId>() else { return Ok(None) };
        match self.store.recording(session).await {
            Ok(kept) => Ok(Some(kept)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// What the audit log keeps of a recording's chain, and which of its entries cannot be read.
    async fn anchors(&self, id: &RecordingId) -> Result<(Vec<Anchor>, Vec<String>), RecordsError> {
        let filter = AuditFilter {
            kind: Some(cofferdam_access::audit::AuditKind::RecordingCheckpoint),
            subject: Some(id.to_string()),
            after: Some(0),
            ..AuditFilter::default()
        };
        let (mut anchors, mut problems) = (Vec::new(), Vec::new());
        for entry in self.store.audit(&filter).await? {
            match serde_json::from_str(&entry.body) {
                Ok(anchor) => anchors.push(anchor),
                Err(_) => {
                    problems.push(format!("audit entry {} holds no checkpoint that can be read", entry.seq));
                }
            }
        }
        Ok((anchors, problems))
    }

    /// Notes who reads what, before anything is shown.
    async fn note(&self, reader: &Act, event: AuditEvent) -> Result<(), RecordsError> {
        self.store.record(reader, event).await?;
        Ok(())
    }
}

/// All recordings that the store knows and that fit, a page at a time.
///
/// # Errors
/// When the store cannot be asked.
pub(crate) async fn all_kept(
    store: &Store,
    mut filter: RecordingFilter,
) -> Result<Vec<KeptRecording>, StoreError> {
    let mut all = Vec::new();
    loop {
        let page = store.recordings(&filter).await?;
        let Some(last) = page.last() else { return Ok(all) };
        filter.after = Some(last.session);
        all.extend(page);
    }
}

/// A moment as the recorder writes it.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp(micros)
}

/// Does work that reads files, on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RecordsError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RecordsError::BrokenOff)
}
