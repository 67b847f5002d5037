//! The writing side: sessions put events into bounded queues, one commit thread makes them durable.
//!
//! Each flush (at most every half second by default) all waiting sessions are written together:
//! short stretches go, sealed, into one journal that all sessions share, so that one `fdatasync`
//! serves thousands of them; after ten seconds, or when there is enough, they become a segment of
//! the session's own file. After a crash the journal's stretches are appended to their files.

mod commit;
mod config;
mod disk;
mod health;
mod indexer;
pub(crate) mod journal;
mod lane;
mod queue;
mod recover;
mod service;
mod trailer;

pub use config::{CheckpointHook, Clock, RecorderConfig};
pub use health::{Backlog, Health, Status};
pub use queue::SessionRecorder;
pub use recover::{Recovered, RecoveryOutcome};
pub use service::RecorderService;
pub use trailer::{SealInfo, Sealed};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use journal::fuzz_journal;
pub(crate) use queue::lock;
pub(crate) use service::Core;
pub(crate) use trailer::{IndexEntry, parse_index};

use crate::{
    header::{Hash, RecordingId},
    sign::SIGNATURE_LEN,
};

/// File name ending of recordings.
pub(crate) const RECORDING: &str = ".cofrec";
/// File name ending of key files.
pub(crate) const KEYS: &str = ".cofkeys";
/// File name ending of a recording's index.
pub(crate) const INDEX: &str = ".cofidx";
/// File name ending of what was read off a desktop's pictures.
pub(crate) const OCR: &str = ".cofocr";
/// File name ending of the shared journal.
pub(crate) const JOURNAL: &str = ".cofjrn";

/// A signed point of the chain. Written to the audit log, it shows later that nothing behind it
/// was cut off or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The recording.
    pub recording: RecordingId,
    /// The segment's number.
    pub seq: u32,
    /// The chain's value there.
    pub hash: Hash,
    /// When it was signed: microseconds since 1970, UTC.
    pub at: i64,
    /// The signature that stands in the file.
    pub signature: [u8; SIGNATURE_LEN],
}
