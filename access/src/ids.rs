//! Identifiers: one type each, so that none can be passed for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

/// What is wrong with an identifier or a name that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("{0:?} is not an id: copy it from the listing")]
    NotAnId(String),
    /// Not a name.
    #[error(
        "{0:?} is not a name: use 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or a digit"
    )]
    NotAName(String),
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7, RFC 9562 §5.7) for something made at `now`; `random` fills what the time leaves open.
            pub fn new(now: Timestamp, random: &mut dyn rand::RngCore) -> Self {
                let mut bytes = [0u8; 10];
                random.fill_bytes(&mut bytes);
                let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}({})", stringify!($name), self.0) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Uuid::try_parse(s).map(Self).map_err(|_| IdError::NotAnId(s.chars().take(64).collect()))
            }
        }
    )+};
}

ids! {
    /// A brokered connection.
    SessionId,
    /// An access window.
    WindowId,
    /// One decision of the policy engine, kept with its five answers.
    DecisionId,
    /// One log-in attempt, from the first byte to its outcome.
    LoginId,
    /// One order to a live session (suspend, resume, end, message).
    OrderId,
    /// One finding of a trigger.
    FindingId,
    /// A request to delete recordings.
    DeletionId,
    /// A request to see a secret, and the check-out that came of it.
    CheckoutId,
    /// A break-glass envelope.
    EnvelopeId,
    /// A message on its way out.
    NotificationId,
    /// A log-in to the web interface.
    WebSessionId,
    /// A token of the API.
    ApiTokenId,
    /// A single-use token for a desktop.
    DesktopTokenId,
}

/// The name of a person, organisation, zone, conduit, asset or policy: stable, unique among its kind, safe in a file
/// name, an SSH user name and a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks `s`: 1 to 63 of `a-z 0-9 - _ .`, starting with a letter or digit.
    pub fn new(s: &str) -> Result<Self, IdError> {
        let ok = (1..=63).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
            && s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if ok { Ok(Self(s.to_owned())) } else { Err(IdError::NotAName(s.chars().take(64).collect())) }
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        Self::new(&s)
    }
}
impl From<Name> for String {
    fn from(n: Name) -> Self {
        n.0
    }
}
impl FromStr for Name {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::new(s)
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The login of an account on an asset, as the target knows it (`root`, `svc_hist`, `PLANT\eng`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Login(String);

impl Login {
    /// Checks `s`: 1 to 104 printable ASCII characters without space, `+`, `@`, `:`, `/` or quotes.
    pub fn new(s: &str) -> Result<Self, IdError> {
        let ok = (1..=104).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_graphic() && !b"+@:/\"'`".contains(&b))
            && !s.starts_with('-');
        if ok { Ok(Self(s.to_owned())) } else { Err(IdError::NotAName(s.chars().take(64).collect())) }
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for Login {
    type Error = IdError;
    fn try_from(s: String) -> Result<Self, IdError> {
        Self::new(&s)
    }
}
impl From<Login> for String {
    fn from(n: Login) -> Self {
        n.0
    }
}
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
