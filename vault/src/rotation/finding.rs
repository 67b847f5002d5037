//! What people have to know: an account that cannot be rotated, or that is not what the vault believes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::record::Record;

/// What is the matter with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The target takes no secret that the vault has: somebody else changed it.
    Drift,
    /// The target takes an older secret: it was put back to an earlier state.
    Restored,
    /// No secret opens the target and nothing can set a new one.
    Lost,
    /// The target did not do what was asked, as often as the plan allows.
    GaveUp,
    /// The target has not answered for as many attempts as the plan allows.
    Offline,
    /// Whoever answers in the target's place is not the target.
    Impostor,
    /// The new secret works, but what it replaced could not be removed, or a dependent not be told.
    Unfinished,
}

impl FindingKind {
    /// The name in machine-readable form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Restored => "restored",
            Self::Lost => "lost",
            Self::GaveUp => "gave_up",
            Self::Offline => "offline",
            Self::Impostor => "impostor",
            Self::Unfinished => "unfinished",
        }
    }
}

impl FindingKind {
    /// What people read: the account, what is the matter, what to do.
    pub(super) fn sentence(self, record: &Record) -> String {
        let account = &record.account;
        let trouble = record.progress.trouble.as_deref().unwrap_or("no reason is known");
        match self {
            Self::Drift => format!(
                "account {account}: somebody changed the secret behind the vault's back: {trouble}; find out who, then give \
                 the vault the new secret, or let it set one by another account"
            ),
            Self::Restored => format!(
                "account {account}: the target takes an older secret than the vault's current one; if it was not restored \
                 from a backup, find out who set it back"
            ),
            Self::Lost => format!(
                "account {account}: none of the secrets that the vault keeps opens the target ({trouble}); name an account \
                 that may set a new one, or set it at the target and give it to the vault"
            ),
            Self::GaveUp => format!(
                "account {account}: rotation was given up after {} attempts: {trouble}; mend that, then ask for a rotation; \
                 every secret that may be valid is kept",
                record.progress.attempts
            ),
            Self::Offline => format!(
                "account {account}: the target has not answered {} times in a row: {trouble}; it is tried on, less often",
                record.progress.silences
            ),
            Self::Impostor => format!(
                "account {account}: another machine answers in the target's place: {trouble}; nothing was sent to it; compare \
                 its key at the machine itself before trusting it"
            ),
            Self::Unfinished => format!(
                "account {account}: the new secret works, but {trouble}; it is tried on, and the work can be done by hand"
            ),
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding. Each kind is raised once until the account is well again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The account.
    pub account: String,
    /// What is the matter.
    pub kind: FindingKind,
    /// The same as a plain sentence, with what to do next. Never a secret.
    pub sentence: String,
    /// When it was noticed, in UTC microseconds.
    pub at: i64,
}
