//! What the sessions and the operator are told about the state of recording.

/// The state of one session's recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Events are accepted.
    Healthy,
    /// Nothing is accepted for now; nothing accepted is lost. Hold the session and tell the person.
    Frozen {
        /// Why, in words.
        why: String,
        /// Since when: microseconds since 1970, UTC.
        since: i64,
    },
    /// The recording stopped for good: end the session.
    Failed {
        /// Why, in words.
        why: String,
    },
}

/// What the local folder holds and the object store does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes that wait.
    pub bytes: u64,
    /// Beyond this many every session stands still.
    pub bound: u64,
}

impl Backlog {
    /// Whether no new session may start: three quarters of the bound are used.
    pub fn is_high(&self) -> bool {
        self.bytes >= self.bound - self.bound / 4
    }

    /// Whether nothing more may be recorded.
    pub fn is_beyond(&self) -> bool {
        self.bytes > self.bound
    }
}

/// The state of the whole recorder, for `doctor`, metrics and the decision to let a session start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Bytes free in the recording folder; absent where the folder could not be asked.
    pub free: Option<u64>,
    /// Below this many no session starts.
    pub needed: u64,
    /// Why recording is frozen, and since when.
    pub frozen: Option<(String, i64)>,
    /// The last failure, whether cured or not, and when it was.
    pub last_error: Option<(String, i64)>,
    /// Sessions being recorded.
    pub live: usize,
    /// Bytes accepted that are not yet durable.
    pub waiting: usize,
    /// What waits for the object store; absent without one.
    pub backlog: Option<Backlog>,
}

impl Health {
    /// Whether a new session may start.
    pub fn accepts_sessions(&self) -> bool {
        self.frozen.is_none()
            && self.free.is_some_and(|free| free >= self.needed)
            && !self.backlog.is_some_and(|backlog| backlog.is_high())
    }
}
