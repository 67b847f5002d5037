//! Where records are kept, so that a crash loses nothing and two nodes never work on one account.

use async_trait::async_trait;

use super::finding::Finding;
use super::record::{Reason, Record};

/// The longest that a claim lasts, in microseconds. One that ends later was made by a clock that has been set back since,
/// and does not count.
pub const LONGEST_CLAIM: i64 = 60 * 60 * 1_000_000;

/// Why the ledger did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// There is no such account.
    #[error("account {account} is not in the ledger of rotations; give it a secret first")]
    Unknown {
        /// The account.
        account: String,
    },
    /// Another node works on it.
    #[error("account {account} is being rotated by {holder}; wait until it is done")]
    Held {
        /// The account.
        account: String,
        /// The node.
        holder: String,
    },
    /// The record is no longer the one that was read, or the claim has been lost.
    #[error("account {account} was changed by somebody else meanwhile; nothing was written")]
    Conflict {
        /// The account.
        account: String,
    },
    /// The store is away or damaged.
    #[error("the ledger of rotations cannot be used: {0}")]
    Store(String),
}

/// A claim on one account, made with [`Ledger::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who holds it: the node and a number that no other claim has, so that a node's own earlier claim is not taken for it.
    pub holder: String,
    /// When it ends by itself, in UTC microseconds.
    pub until: i64,
}

impl Claim {
    /// Whether it still keeps others out at `now`.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        now < self.until && self.until.saturating_sub(now) <= LONGEST_CLAIM
    }
}

/// Keeps one [`Record`] per account. All times are in UTC microseconds.
///
/// What an implementation has to keep: each method is one transaction; a write that was answered survives a crash; and
/// whoever keeps the secret for sessions elsewhere changes it in the same transaction as `progress.secrets.current`.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Notes that the account shall be rotated, whoever works on it now, and answers the request's number: one more than
    /// the last. Changes neither version nor progress.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::Store`].
    async fn want(&self, account: &str, reason: Reason) -> Result<u64, LedgerError>;

    /// Accounts that are due ([`Record::is_due`]) and not claimed, `limit` at most, the longest due first.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    async fn due(&self, now: i64, limit: usize) -> Result<Vec<String>, LedgerError>;

    /// Claims the account, unless another claim [holds](Claim::holds), and answers its record.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::Held`], [`LedgerError::Store`].
    async fn claim(&self, account: &str, claim: &Claim, now: i64) -> Result<Record, LedgerError>;

    /// Writes `record.progress` if the stored version is still `record.version` and the claim is still the holder's; then
    /// the claim lasts until `claim.until`, or ends if `release`. Answers the record's new version, with the request as it
    /// stands now. What the progress says was raised is kept with it or not at all: `findings` are those since the last
    /// write.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`], [`LedgerError::Store`]. After the latter it is not known whether it was written.
    async fn write(
        &self,
        record: &Record,
        findings: &[Finding],
        claim: &Claim,
        release: bool,
    ) -> Result<Record, LedgerError>;

    /// Ends the claim without writing, if it is still the holder's.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    async fn release(&self, account: &str, claim: &Claim) -> Result<(), LedgerError>;
}
