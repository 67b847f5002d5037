//! What the operator decides about recording.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::Checkpoint;
use crate::keys::Recipients;

/// Tells the time: microseconds since 1970, UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Is told of each checkpoint, on the commit thread: hand it on, do not wait.
pub type CheckpointHook = Arc<dyn Fn(&Checkpoint) + Send + Sync>;

/// How recordings are written.
#[derive(Clone)]
pub struct RecorderConfig {
    /// The local folder.
    pub folder: PathBuf,
    /// Who can read what is recorded from now on.
    pub recipients: Recipients,
    /// How long an accepted event may wait before it is made durable; at most 1 s.
    pub flush_interval: Duration,
    /// How often short stretches become a signed segment of their own file.
    pub checkpoint_interval: Duration,
    /// Bytes that one session may have waiting; then [`super::SessionRecorder::record`] waits.
    pub queue_bytes: usize,
    /// Bytes that all sessions together may have waiting.
    pub total_queue_bytes: usize,
    /// Below this many free bytes no new session starts.
    pub low_space: u64,
    /// How long recording may be frozen before the sessions fail.
    pub fail_after: Duration,
    /// How often a frozen disk is tried again.
    pub retry_interval: Duration,
    /// An accepted event that is not durable after this long freezes its session.
    pub slow_after: Duration,
    /// Threads that compress and encrypt when there is much to do.
    pub threads: usize,
    /// Bytes of the shared journal from which on everything in it is moved to its own file.
    pub journal_bytes: u64,
    /// Whether the index of each recording is made when it is sealed. It is encrypted to the same
    /// readers; without it search and seeking read the recording itself.
    pub index: bool,
    /// Whether somebody reads desktops' pictures afterwards ([`crate::DesktopReader`]), for whom a recording that goes to an
    /// object store waits an hour.
    pub ocr: bool,
    /// Is told of each checkpoint.
    pub on_checkpoint: Option<CheckpointHook>,
}

impl RecorderConfig {
    /// The usual values, for this folder and these readers.
    pub fn new(folder: impl Into<PathBuf>, recipients: Recipients) -> Self {
        Self {
            folder: folder.into(),
            recipients,
            flush_interval: Duration::from_millis(500),
            checkpoint_interval: Duration::from_secs(10),
            queue_bytes: 4 << 20,
            total_queue_bytes: 256 << 20,
            low_space: 256 << 20,
            fail_after: Duration::from_secs(30),
            retry_interval: Duration::from_millis(250),
            slow_after: Duration::from_secs(3),
            threads: 2,
            journal_bytes: 64 << 20,
            index: true,
            ocr: false,
            on_checkpoint: None,
        }
    }
}

impl fmt::Debug for RecorderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderConfig").field("folder", &self.folder).finish_non_exhaustive()
    }
}
