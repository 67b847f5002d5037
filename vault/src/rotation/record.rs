//! What is remembered of one account's rotation, and how it is written down.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::finding::FindingKind;
use super::rotator::Backoff;

/// How many secrets that once opened the target, or may have, are kept besides current and candidate. Each of them costs a
/// failed log-in when the right one is looked for; targets that lock accounts do so after five or more.
pub const FORMER_SECRETS: usize = 2;

/// A sealed secret: what the ledger keeps. It says nothing without the vault's key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBytes(pub Vec<u8>);

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[sealed, {} bytes]", self.0.len())
    }
}

impl Serialize for SealedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SealedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// Where an account stands. Each state says which stored secrets may open the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The current secret opens the target.
    Idle,
    /// A candidate is kept, and certainly nothing of it was sent: the current secret opens the target.
    Stored,
    /// The candidate is being sent, or was when the process ended: current or candidate opens the target.
    Sent,
    /// The answer did not come, or made no sense: current or candidate opens the target.
    Unsure,
    /// The candidate was proved and is the current secret now. What depends on it is still to be told, or what it replaces
    /// is still to be removed.
    Verified,
    /// Given up until a person asks again. All secrets are kept.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Stored => "candidate stored",
            Self::Sent => "change sent",
            Self::Unsure => "unsure",
            Self::Verified => "verified",
            Self::Failed => "failed",
        })
    }
}

/// Why a secret is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is old enough.
    Schedule,
    /// A session used it.
    AfterUse,
    /// An envelope was opened.
    BreakGlass,
    /// A person saw it.
    CheckedOut,
    /// A person asked.
    Demand,
    /// The target did not take it any more.
    Drift,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "schedule",
            Self::AfterUse => "after use",
            Self::BreakGlass => "after break-glass",
            Self::CheckedOut => "checked out",
            Self::Demand => "on demand",
            Self::Drift => "drift",
        })
    }
}

/// A request for a rotation. It stands beside the record, so that asking never collides with a rotation that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Counts the requests for this account, from 1.
    pub number: u64,
    /// Why the last of them was made.
    pub reason: Reason,
}

/// The secrets of an account, all sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The one that is known, or was last known, to open the target. Sessions are given this one.
    pub current: SealedBytes,
    /// The one that shall replace it.
    pub candidate: Option<SealedBytes>,
    /// Those that opened the target before, or may have been sent to it; the newest first, [`FORMER_SECRETS`] at most.
    pub former: Vec<SealedBytes>,
}

impl Secrets {
    /// Every secret that may open the target, the likeliest first.
    pub fn all(&self) -> impl Iterator<Item = &SealedBytes> {
        self.candidate.iter().chain(std::iter::once(&self.current)).chain(&self.former)
    }

    pub(super) fn retire(&mut self, secret: SealedBytes) {
        self.former.insert(0, secret);
        self.former.truncate(FORMER_SECRETS);
    }
}

/// All that is known of an account's rotation but for the request and the version, which are the ledger's own columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it stands.
    pub state: State,
    /// The secrets.
    pub secrets: Secrets,
    /// Why the rotation that runs was begun; none between rotations.
    pub reason: Option<Reason>,
    /// The last request that a rotation was begun for.
    pub answered: u64,
    /// Attempts in this rotation that the target answered, and that did not end well.
    pub attempts: u32,
    /// Attempts since the target last answered.
    pub silences: u32,
    /// When the account is next to be looked at, in UTC microseconds.
    pub next_at: i64,
    /// When this was last written, in UTC microseconds.
    pub touched_at: i64,
    /// When the current secret was proved after a change.
    pub rotated_at: Option<i64>,
    /// When the target last took the current secret.
    pub verified_at: Option<i64>,
    /// When the target was last asked about it, and answered.
    pub checked_at: Option<i64>,
    /// Since when it does not work.
    pub failing_since: Option<i64>,
    /// What was the matter last, as a plain sentence.
    pub trouble: Option<String>,
    /// The findings that were raised since it last worked, so that each is raised once.
    pub raised: Vec<FindingKind>,
    /// Whether what the current secret replaced still has to be removed from the target.
    pub unfinished: bool,
    /// Dependents that have not been given the current secret.
    pub stale: Vec<String>,
}

/// One account in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The account's id; secrets are sealed for it.
    pub account: String,
    /// Counts the writes. A write names the version that it replaces.
    pub version: u64,
    /// The last request, if there ever was one.
    pub want: Option<Want>,
    /// The rest.
    pub progress: Progress,
}

impl Progress {
    /// An account whose secret has just come into the vault, to be looked at `next_at` (UTC microseconds).
    #[must_use]
    pub fn new(current: SealedBytes, next_at: i64, now: i64) -> Self {
        Self {
            state: State::Idle,
            secrets: Secrets { current, candidate: None, former: Vec::new() },
            reason: None,
            answered: 0,
            attempts: 0,
            silences: 0,
            next_at,
            touched_at: now,
            rotated_at: None,
            verified_at: None,
            checked_at: None,
            failing_since: None,
            trouble: None,
            raised: Vec::new(),
            unfinished: false,
            stale: Vec::new(),
        }
    }

    /// The account is well: nothing that went wrong before counts any more.
    pub(super) fn well(&mut self) {
        self.attempts = 0;
        self.silences = 0;
        self.failing_since = None;
        self.trouble = None;
        self.raised.clear();
    }

    pub(super) fn troubled(&mut self, clause: &str, now: i64) {
        self.failing_since.get_or_insert(now);
        self.trouble = Some(clause.to_owned());
    }
}

impl Record {
    /// The request that no rotation has been begun for yet.
    #[must_use]
    pub fn open_request(&self) -> Option<Reason> {
        self.want.filter(|want| want.number > self.progress.answered).map(|want| want.reason)
    }

    /// Whether there is something to do at `now`. A ledger selects by the same rule.
    ///
    /// A record from the future means that the clock was set back; waiting for its `next_at` could take years.
    #[must_use]
    pub fn is_due(&self, now: i64) -> bool {
        self.progress.next_at <= now || self.progress.touched_at > now || self.open_request().is_some()
    }

    /// A rotation has been begun for the last request, or what is under way answers it.
    pub(super) fn answer_request(&mut self) {
        self.progress.answered = self.want.map_or(0, |want| want.number);
    }

    /// Lets the account wait as after a failure, though the target was not asked. What was requested is not forgotten.
    pub(super) fn postpone(&mut self, trouble: &str, backoff: &Backoff, now: i64) {
        if let Some(reason) = self.open_request() {
            self.answer_request();
            let progress = &mut self.progress;
            progress.reason.get_or_insert(reason);
            if progress.state == State::Failed {
                let under_way = progress.secrets.candidate.is_some();
                progress.state = if under_way { State::Unsure } else { State::Idle };
            }
        }
        let progress = &mut self.progress;
        progress.attempts = progress.attempts.saturating_add(1);
        progress.troubled(trouble, now);
        progress.next_at = now.saturating_add(backoff.wait(progress.attempts, 0));
        progress.touched_at = now;
    }
}
