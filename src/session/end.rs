//! Why a session ended: one list for every protocol, so that audit, recording and the person's screen agree.

/// Why a session ended. The code goes into audit and listings, the sentence to the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The person closed it.
    Closed,
    /// The target closed it.
    TargetClosed,
    /// No human input for the idle time.
    Idle {
        /// The idle time, seconds.
        seconds: u32,
    },
    /// Policy no longer allows it; the code names what changed (`window_ended`, `user_disabled`, …).
    Policy {
        /// Stable code.
        code: &'static str,
        /// What changed and what next.
        sentence: String,
    },
    /// The recording stopped.
    RecorderFailed {
        /// What failed, for the operator's log; not shown to the person.
        why: String,
    },
    /// A person or operator ended it.
    Killed {
        /// Who.
        by: String,
        /// Their reason; may be empty.
        reason: String,
    },
    /// A trigger ended it.
    Finding {
        /// Name of the trigger.
        trigger: String,
    },
    /// The target could not be reached or refused the secret.
    TargetFailed {
        /// For the operator's log.
        why: String,
        /// For the person.
        sentence: String,
    },
    /// The person's client said what is not let through.
    ClientFailed {
        /// For the operator's log.
        why: String,
        /// For the person.
        sentence: String,
    },
    /// The gateway stops.
    Shutdown,
    /// Something of ours failed.
    Internal {
        /// For the operator's log.
        why: String,
    },
}

impl End {
    /// The stable code for audit, recording and listings.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Closed => "closed",
            Self::TargetClosed => "target_closed",
            Self::Idle { .. } => "idle",
            Self::Policy { code, .. } => code,
            Self::RecorderFailed { .. } => "recorder_failed",
            Self::Killed { .. } => "killed",
            Self::Finding { .. } => "finding",
            Self::TargetFailed { .. } => "target_failed",
            Self::ClientFailed { .. } => "client_failed",
            Self::Shutdown => "shutdown",
            Self::Internal { .. } => "internal",
        }
    }

    /// Whether the person should be told, and what.
    pub(crate) fn sentence(&self) -> Option<String> {
        Some(match self {
            Self::Closed => return None,
            Self::TargetClosed => "session ended: the target closed the connection; connect again".to_owned(),
            Self::Idle { seconds } => {
                format!("session ended: no input for {} min; connect again to go on", seconds / 60)
            }
            Self::Policy { sentence, .. } => format!("session ended: {sentence}"),
            Self::RecorderFailed { .. } => {
                "session ended: it could not be recorded any longer; tell the site's administrator".to_owned()
            }
            Self::Killed { by, reason } if reason.is_empty() => format!("session killed by {by}"),
            Self::Killed { by, reason } => format!("session killed by {by}: {reason}"),
            Self::Finding { .. } => {
                "session ended: what happened in it does not fit the approved work; talk to the site's security duty"
                    .to_owned()
            }
            Self::TargetFailed { sentence, .. } | Self::ClientFailed { sentence, .. } => sentence.clone(),
            Self::Shutdown => "session ended: the gateway is being stopped; try again in a few minutes".to_owned(),
            Self::Internal { .. } => "session ended: a fault in the gateway; tell the site's administrator".to_owned(),
        })
    }

    /// More for the operator: who, why, which.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Policy { sentence, .. } => sentence.clone(),
            Self::RecorderFailed { why }
            | Self::TargetFailed { why, .. }
            | Self::ClientFailed { why, .. }
            | Self::Internal { why } => why.clone(),
            Self::Killed { by, reason } => format!("by {by}: {reason}"),
            Self::Finding { trigger } => trigger.clone(),
            Self::Idle { seconds } => format!("{seconds} s without input"),
            _ => String::new(),
        }
    }
}

/// Why a session is frozen for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frozen {
    /// A person or operator suspended it.
    Suspended {
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
    /// A trigger suspended it.
    Finding {
        /// Name of the trigger.
        trigger: String,
    },
    /// It leads to a supervised asset, and nobody watches it.
    Unwatched,
}

impl Frozen {
    /// What the person reads.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Unwatched => "this asset is supervised: the session waits until an approver of the site watches it; what you \
                 type meanwhile is not sent"
                .to_owned(),
            Self::Suspended { by, reason } => {
                let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                format!("session suspended by {by}{why}; what you type meanwhile is not sent")
            }
            Self::Finding { .. } => {
                "session suspended: what happened in it does not fit the approved work, and the site looks at it; what you \
                 type meanwhile is not sent"
                    .to_owned()
            }
        }
    }
}
