//! Checks entries in order, in bounded memory, without a database.

use std::fmt;

use serde::Serialize;

use super::{AuditEntry, AuditKeys, Checkpoint, NO_HASH};
use crate::clock::Timestamp;

/// What is wrong with an entry or a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", content = "detail", rename_all = "snake_case")]
pub enum Problem {
    /// The content does not give the hash: somebody edited, moved or inserted it.
    Edited,
    /// The entry before it is not the one that it was written after.
    BrokenLink,
    /// There is no entry of this number, but there are later ones, or proof of later ones.
    Missing,
    /// The number does not follow the one before.
    OutOfOrder,
    /// It holds something that this program never writes.
    Unreadable,
    /// The signature does not fit.
    BadSignature,
    /// Signed with a key that is not known.
    UnknownKey(String),
    /// Signed with a key after it was retired.
    RetiredKey(String),
    /// A checkpoint proves another entry under this number.
    CheckpointDiffers,
    /// The entry is not the newest one that the log remembers writing.
    HeadDiffers,
    /// A line of the checkpoint file is no checkpoint; the number is the line's.
    UnreadableCheckpoint(u64),
    /// A checkpoint that this log did not sign; what it says does not count.
    ForgedCheckpoint,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => f.write_str("its content does not match its hash"),
            Self::BrokenLink => f.write_str("it does not follow the entry before it"),
            Self::Missing => f.write_str("it is missing"),
            Self::OutOfOrder => f.write_str("its number does not follow the one before"),
            Self::Unreadable => f.write_str("it cannot be read: something else was written into it"),
            Self::BadSignature => f.write_str("its signature does not fit"),
            Self::UnknownKey(k) => write!(f, "it is signed with the unknown key {k:?}"),
            Self::RetiredKey(k) => write!(f, "it is signed with key {k:?} after that was retired"),
            Self::CheckpointDiffers => f.write_str("a signed checkpoint proves another entry of this number"),
            Self::HeadDiffers => f.write_str("it is not the newest entry that the log remembers"),
            Self::UnreadableCheckpoint(line) => write!(f, "line {line} of the checkpoint file is damaged"),
            Self::ForgedCheckpoint => f.write_str("the checkpoint of this number is not signed by this log"),
        }
    }
}

/// The first bad entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadEntry {
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    #[serde(flatten)]
    pub problem: Problem,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.seq, self.problem)
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Entries checked and good.
    pub entries: u64,
    /// The newest good entry.
    pub last: Option<Checkpoint>,
    /// The first bad entry, if there is one.
    pub first_bad: Option<BadEntry>,
    /// Checkpoints compared with the log.
    pub checkpoints: u64,
    /// What is wrong with the checkpoint file itself (the log may still be whole).
    pub checkpoint_problems: Vec<BadEntry>,
    /// Entries whose time is before that of the one before: the clock jumped back there. The first few.
    pub clock_went_back: Vec<u64>,
}

impl AuditReport {
    /// Whether log and checkpoints are whole.
    pub fn is_whole(&self) -> bool {
        self.first_bad.is_none() && self.checkpoint_problems.is_empty()
    }
}

/// Most problems listed in a report.
pub(crate) const MAX_LISTED: usize = 16;

/// Takes entries in order and remembers the first bad one.
#[derive(Debug)]
pub struct ChainVerifier {
    keys: AuditKeys,
    next: u64,
    prev_hash: String,
    last: Option<Checkpoint>,
    last_at: Timestamp,
    bad: Option<BadEntry>,
    clock_went_back: Vec<u64>,
}

impl ChainVerifier {
    /// Begins before the first entry.
    pub fn new(keys: AuditKeys) -> Self {
        Self {
            keys,
            next: 1,
            prev_hash: NO_HASH.to_owned(),
            last: None,
            last_at: Timestamp(i64::MIN),
            bad: None,
            clock_went_back: Vec::new(),
        }
    }

    /// Takes the next entry; answers whether to go on.
    pub fn push(&mut self, entry: &AuditEntry) -> bool {
        if self.bad.is_some() {
            return false;
        }
        if let Err(bad) = self.check(entry) {
            self.bad = Some(bad);
            return false;
        }
        if entry.at < self.last_at && self.clock_went_back.len() < MAX_LISTED {
            self.clock_went_back.push(entry.seq);
        }
        self.last_at = entry.at;
        self.next = entry.seq.saturating_add(1);
        self.prev_hash.clone_from(&entry.hash);
        self.last = Some(entry.checkpoint());
        true
    }

    fn check(&self, entry: &AuditEntry) -> Result<(), BadEntry> {
        let bad = |problem| BadEntry { seq: entry.seq, problem };
        if entry.seq > self.next {
            return Err(BadEntry { seq: self.next, problem: Problem::Missing });
        }
        if entry.seq < self.next {
            return Err(bad(Problem::OutOfOrder));
        }
        if entry.computed_hash() != entry.hash {
            return Err(bad(Problem::Edited));
        }
        if entry.prev_hash != self.prev_hash {
            return Err(bad(Problem::BrokenLink));
        }
        self.keys.check(&entry.checkpoint()).map_err(bad)
    }

    /// The keys in use.
    pub fn keys(&self) -> &AuditKeys {
        &self.keys
    }

    /// The number expected next: all below were good.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Says that the log ends here although `seq` was written: compares with what is known about its end.
    pub(crate) fn expect_end(&mut self, seq: u64, hash: &str) {
        if self.bad.is_some() {
            return;
        }
        let good = self.next.saturating_sub(1);
        if seq > good {
            self.bad = Some(BadEntry { seq: self.next, problem: Problem::Missing });
        } else if seq < good || hash != self.prev_hash {
            self.bad = Some(BadEntry { seq: good, problem: Problem::HeadDiffers });
        }
    }

    /// Notes a fault found elsewhere; the lowest number is reported.
    pub(crate) fn note(&mut self, bad: BadEntry) {
        if self.bad.as_ref().is_none_or(|b| bad.seq < b.seq) {
            self.bad = Some(bad);
        }
    }

    /// What was found.
    pub fn report(self, checkpoints: u64, checkpoint_problems: Vec<BadEntry>) -> AuditReport {
        AuditReport {
            entries: self.next.saturating_sub(1),
            last: self.last,
            first_bad: self.bad,
            checkpoints,
            checkpoint_problems,
            clock_went_back: self.clock_went_back,
        }
    }
}
