//! What can go wrong between the spool and the store. What a server answers is never repeated: it may quote the request,
//! which carries the access key's name and the signature. Only its error code is, where that is a plain word.

use object_store::{Error as StoreError, client::HttpErrorKind};
use std::{error::Error, io};

use crate::error::ReadError;

/// A failure to bring recordings to the object store, or to get them back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The operator: the settings make no connection.
    #[error("the object store's settings are not usable ({0}); correct them")]
    Settings(String),
    /// The environment: nobody answers, or not in time.
    #[error("the object store does not answer ({0}); check its address, the network and its certificate")]
    Unreachable(&'static str),
    /// The operator: the keys are not taken.
    #[error("the object store refuses the access key ({0}); check access_key_file and secret_key_file")]
    Credentials(String),
    /// The operator: the keys are good and may not do this.
    #[error(
        "the object store does not allow to {what} ({code}); let this access key list, read, write and delete below its prefix"
    )]
    Forbidden {
        /// What was being done.
        what: &'static str,
        /// The store's word for it.
        code: String,
    },
    /// The operator: this machine's clock is not the store's.
    #[error("the object store says that the clock of this machine is wrong; set it")]
    Clock,
    /// The operator: there is no such bucket.
    #[error("the object store has no such bucket; create it, or correct its name")]
    NoBucket,
    /// The environment: the store failed.
    #[error("the object store failed to {what} ({code}); look at its own log")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// The store's word for it, or its HTTP status.
        code: String,
    },
    /// The store: an object that was stored is gone.
    #[error(
        "the object store does not have {0}; it is stored again where this machine still has it, else restore it from a backup of the store"
    )]
    Missing(String),
    /// The store: an object is not what was stored.
    #[error(
        "the object store returns {name} altered ({what}); it is stored again where this machine still has it, else restore it from a backup of the store"
    )]
    Altered {
        /// The object.
        name: String,
        /// What differs.
        what: &'static str,
    },
    /// The caller: no recording of that name is here or there.
    #[error(
        "there is no recording {0}, neither on this machine nor in the object store; `recording list` names them"
    )]
    Unknown(String),
    /// The operator: somebody holds it.
    #[error("the recording is held ({0}); lift the hold first")]
    Held(String),
    /// The environment: the local folder.
    #[error(
        "a local copy failed while {what}: {source}; check the disk, its free space and the folder's owner"
    )]
    Local {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file: a recording in the spool cannot be read.
    #[error(transparent)]
    Read(ReadError),
}

impl From<ReadError> for RemoteError {
    fn from(error: ReadError) -> Self {
        match error {
            // The disk's fault and not the file's: it may well be over at the next try.
            ReadError::Io(source) => Self::Local { what: "reading a recording", source },
            damaged => Self::Read(damaged),
        }
    }
}

impl RemoteError {
    /// Whether the store as a whole is concerned, rather than one recording.
    pub(super) fn concerns_all(&self) -> bool {
        !matches!(
            self,
            Self::Missing(_)
                | Self::Altered { .. }
                | Self::Unknown(_)
                | Self::Held(_)
                | Self::Local { .. }
                | Self::Read(_)
        )
    }

    /// What the library said while doing `what` to the object `name`, in words that repeat nothing secret.
    pub(super) fn of(error: &StoreError, what: &'static str, name: &str) -> Self {
        let text = error.to_string();
        let code = code_in(&text).unwrap_or_default();
        match (error, code) {
            (_, "NoSuchBucket") => Self::NoBucket,
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "AuthFailure"
                | "InvalidClientTokenId",
            ) => Self::Credentials(code.to_owned()),
            (_, "RequestTimeTooSkewed" | "RequestExpired") => Self::Clock,
            (StoreError::Unauthenticated { .. }, _) => Self::Credentials(or(code, "401")),
            (StoreError::PermissionDenied { .. }, _) => Self::Forbidden { what, code: or(code, "403") },
            (StoreError::NotFound { .. }, _) => Self::Missing(name.to_owned()),
            _ => match transport(error) {
                Some(why) if code.is_empty() => Self::Unreachable(why),
                _ => Self::Failed { what, code: or(code, status_in(&text).unwrap_or("no reason given")) },
            },
        }
    }
}

pub(super) fn local(what: &'static str) -> impl FnOnce(io::Error) -> RemoteError {
    move |source| RemoteError::Local { what, source }
}

fn or(code: &str, otherwise: &str) -> String {
    if code.is_empty() { otherwise.to_owned() } else { code.to_owned() }
}

/// The `<Code>` of an S3 error document, where it is a plain word.
fn code_in(text: &str) -> Option<&str> {
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some(code)
}

/// The HTTP status in the library's own words.
fn status_in(text: &str) -> Option<&str> {
    let status = text.split_once("status code: ")?.1.get(..3)?;
    status.bytes().all(|b| b.is_ascii_digit()).then_some(status)
}

/// Where no answer came: why.
fn transport(error: &StoreError) -> Option<&'static str> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<object_store::client::HttpError>() {
            return Some(match http.kind() {
                HttpErrorKind::Connect => "no connection",
                HttpErrorKind::Timeout => "no answer in time",
                HttpErrorKind::Decode => "not an answer of an S3 server",
                _ => "the connection broke off",
            });
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_code_of_an_answer_is_repeated() {
        let answer = |body: &str| StoreError::Generic { store: "S3", source: body.to_owned().into() };
        let told = |body: &str| RemoteError::of(&answer(body), "store", "x").to_string();
        let said =
            told("<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>");
        assert!(said.contains("SignatureDoesNotMatch") && !said.contains("AKIA1"), "{said}");
        assert!(said.contains("secret_key_file"), "{said}");
        let said = told("<Code>Evil\x1b[2J code</Code> status code: 503: secret");
        assert!(said.contains("503") && !said.contains("Evil") && !said.contains("secret"), "{said}");
        assert!(matches!(
            RemoteError::of(&answer("<Code>NoSuchBucket</Code>"), "list", ""),
            RemoteError::NoBucket
        ));
    }
}
