//! What can go wrong with the store, by whose fault it is.

/// A failure of the store. No text here carries a bound value, so none can carry a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The environment's: the database is away, full, locked or broke off.
    #[error("the database does not answer ({what}): {reason}; check that it runs, is reachable and has room")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// The database's own words.
        reason: String,
    },
    /// The operator's: a newer program has used this database.
    #[error(
        "the database has schema {found}, this program knows {known}: use the program version that made it, or newer"
    )]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The operator's: the database has not been migrated.
    #[error("the database has schema {found}, this program needs {needed}: run `cofferdam migrate`")]
    OlderSchema {
        /// The version found; 0 for an empty database.
        found: i64,
        /// The version needed.
        needed: i64,
    },
    /// The operator's: the database address cannot be used.
    #[error("the database address cannot be used: {0}")]
    BadAddress(String),
    /// The caller's: no such thing.
    #[error("there is no {what} {name:?}: check the listing")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// The name or id asked for.
        name: String,
    },
    /// The caller's: it exists already.
    #[error("the {what} {name:?} exists already")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// The name or id given.
        name: String,
    },
    /// The caller's: somebody else was faster.
    #[error("the {what} changed meanwhile: look at it again and repeat if it still suits")]
    Changed {
        /// What changed.
        what: &'static str,
    },
    /// The caller's: the change is not allowed in the present state.
    #[error("{0}")]
    Refused(String),
    /// Nobody's we know of: a row is not what this program wrote.
    #[error("the database holds a damaged {what}: {reason}; verify the audit log and restore a backup")]
    Damaged {
        /// What is damaged.
        what: &'static str,
        /// In what way.
        reason: String,
    },
    /// The environment's: the checkpoint file beside the database.
    #[error("the checkpoint file {path} cannot be used: {reason}")]
    Checkpoints {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl StoreError {
    pub(crate) fn damaged(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { what, reason: reason.to_string() }
    }

    pub(crate) fn not_found(what: &'static str, name: impl std::fmt::Display) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }

    /// Translates a driver's error; what was being done goes into the text.
    pub(super) fn from_sqlx(what: &'static str, error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. } => Self::damaged(what, error),
            sqlx::Error::Configuration(e) => Self::BadAddress(e.to_string()),
            other => Self::Unavailable { what, reason: other.to_string() },
        }
    }

    /// Whether trying again later can help (the database was away or busy).
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Changed { .. })
    }
}
