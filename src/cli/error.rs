//! Why a command did not do what was asked.

use cofferdam_access::{
    apply::ProposalError,
    control::ControlError,
    ids::IdError,
    local_time::TimeError,
    policy::{ExampleError, PolicyError},
    retention::DeletionRefusal,
    store::StoreError,
    window::{Refusal, RequestError},
    windowing::WindowError,
};
use cofferdam_recorder::{ReadError, RemoteError};
use cofferdam_vault::{KeyFileError, SealError, SigningError};

use crate::{config::ConfigError, context::ContextError, records::RecordsError};

/// A command failed: one line (or one per fault) for standard error, which says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that the configuration names.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name or id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A request for a window.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The rules of windows.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rules of deleting recordings.
    #[error(transparent)]
    Deletion(#[from] DeletionRefusal),
    /// The policies.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Example decisions.
    #[error(transparent)]
    Examples(#[from] ExampleError),
    /// A described site, all its faults.
    #[error(transparent)]
    Site(#[from] ProposalError),
    /// A recording.
    #[error(transparent)]
    Recording(#[from] ReadError),
    /// The object store.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Recordings as a whole.
    #[error(transparent)]
    Records(RecordsError),
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A secret.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A signing key.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// Reading or writing.
    #[error("{what}: {source}")]
    Io {
        /// What was being read or written.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The person did not prove who they are. Says nothing about which part was wrong.
    #[error("{0}")]
    NotProved(String),
    /// Anything that needs no kind of its own; the text says what to do.
    #[error("{0}")]
    Failed(String),
    /// The reader of our output is gone; nothing to say.
    #[error("the reader of the output is gone")]
    Quiet,
}

impl From<ControlError> for CliError {
    fn from(e: ControlError) -> Self {
        match e {
            ControlError::Store(e) => e.into(),
            e => Self::failed(e.to_string()),
        }
    }
}

impl From<WindowError> for CliError {
    fn from(e: WindowError) -> Self {
        match e {
            WindowError::Refused(e) => e.into(),
            WindowError::Request(e) => e.into(),
            WindowError::Store(e) => e.into(),
        }
    }
}

impl From<RecordsError> for CliError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Read(ReadError::Export(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                Self::Quiet
            }
            other => Self::Records(other),
        }
    }
}

impl CliError {
    /// An input or output error, with what it was about.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| {
            if source.kind() == std::io::ErrorKind::BrokenPipe {
                Self::Quiet
            } else {
                Self::Io { what, source }
            }
        }
    }

    /// A failure in words.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}
