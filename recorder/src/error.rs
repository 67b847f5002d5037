//! What can go wrong, by whose fault: the disk's, the file's, the reader's or the caller's.

use std::io;

/// A failure to write a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The environment: the disk or the folder refused.
    #[error(
        "the recording folder failed while {what}: {source}; check the disk, its free space and the folder's owner"
    )]
    Storage {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The environment: less free space than the configured threshold.
    #[error(
        "only {free} bytes are free for recordings and {needed} are required; make room or move old recordings"
    )]
    LowSpace {
        /// Bytes free now.
        free: u64,
        /// The configured threshold.
        needed: u64,
    },
    /// The environment: recording is frozen, so that no new session may start.
    #[error(
        "recording is frozen ({why}); new sessions are refused until disk and object store accept data again"
    )]
    Frozen {
        /// Why it is frozen.
        why: String,
    },
    /// The environment: so much waits for the object store that no new session may start.
    #[error(
        "{bytes} of at most {bound} bytes wait for the object store; see the log for why it does not take them"
    )]
    Backlog {
        /// Bytes that wait.
        bytes: u64,
        /// The configured bound.
        bound: u64,
    },
    /// The operator: nobody could read the recording.
    #[error("no recipient is configured who could read recordings; add at least one age recipient")]
    NoRecipients,
    /// The caller: the header does not fit the format.
    #[error("the recording header is not usable ({0}); correct the caller")]
    Header(String),
    /// The operator: a recording of this name is already there.
    #[error("a recording named {0} exists already; choose another id")]
    Exists(String),
    /// Ours or the crypto library's: a key operation failed.
    #[error("a cryptographic operation failed while {0}; restart the service and report this")]
    Crypto(&'static str),
    /// The recorder of this session has stopped.
    #[error(transparent)]
    Stopped(#[from] RecorderStopped),
}

/// The recorder no longer accepts events for this session: the session must stop too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the recording stopped ({why}); end the session")]
pub struct RecorderStopped {
    /// Why it stopped, in words for the audit log.
    pub why: String,
}

/// A failure to read a recording or one of its side files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The environment: the file could not be read.
    #[error("the recording could not be read: {0}; check the path and its permissions")]
    Io(#[from] io::Error),
    /// The file: not a recording at all.
    #[error("this is not a recording ({0}); choose a .cofrec file")]
    NotARecording(&'static str),
    /// The file: made by a newer program.
    #[error("the recording uses format version {0}, newer than this program reads; use a newer cofferdam")]
    NewerVersion(u16),
    /// The file: damaged or altered.
    #[error("the recording is damaged at byte {offset}: {what}; run verify for the whole picture")]
    Damaged {
        /// Byte offset in the file where it was seen.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The operator: the side file with the wrapped keys is not there.
    #[error("the key file of this recording is missing or unreadable ({0}); restore it from a backup")]
    KeyFile(String),
    /// The reader: their identity opens none of the wrapped keys.
    #[error(
        "this identity is not among the recipients of the recording; use an investigator's or the escrow key"
    )]
    NotARecipient,
    /// The file: the unwrapped key is not the one that the header commits to.
    #[error("the key file does not belong to this recording; restore the right one")]
    WrongKey,
    /// The caller: the content was asked for before unlocking.
    #[error("the recording is locked; unlock it with an identity first")]
    Locked,
    /// The file holds more than a limit of the format allows.
    #[error("the recording exceeds a limit of the format ({0}); it was not made by this program")]
    Limit(&'static str),
    /// A rendering or export could not be written.
    #[error("writing the export failed: {0}; check the disk and its free space")]
    Export(io::Error),
    /// The environment: a program that an export needs is not there, or failed.
    #[error("{tool} could not be used ({what}); install it, or choose another form of export")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What went wrong.
        what: String,
    },
    /// The caller: the content asked for is not there.
    #[error("the recording holds no {0}; choose another form of export")]
    Missing(&'static str),
}

/// Who closes or exports a recording could not sign it.
impl From<RecordError> for ReadError {
    fn from(e: RecordError) -> Self {
        Self::Io(io::Error::other(e))
    }
}

impl ReadError {
    pub(crate) fn damaged(offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { offset, what: what.into() }
    }
}

pub(crate) fn storage(what: &'static str) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError::Storage { what, source }
}
