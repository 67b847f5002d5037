//! The machine that changes one account's secret without ever losing it.
//!
//! ```text
//!            ┌───────────── the target does not answer ──────────────┐
//!            ▼                                                       │
//!  idle ─► stored ─► sent ─► (change) ─► (verify candidate) ─opens─► verified ─► (finish, dependents) ─► idle
//!            ▲         ▲                   │           │
//!            │         └── after a crash ──┘           └─ no answer ─► unsure ─► (verify candidate) …
//!            └── the current one still opens ──────────── neither opens ─► (former, other account)
//! ```
//!
//! Invariant: a candidate is in the ledger before it is sent, and stays until it or another secret was proved.
//! Invariant: what a target answers to a change is not believed; only what it takes at a log-in is.
//! Invariant: the same candidate is sent again until the target rejects it, so that a node that comes back from a long
//! pause sends nothing that the ledger does not hold.

use std::fmt;
use std::sync::Arc;

use super::attempt::Attempt;
use super::finding::Finding;
use super::ledger::{Claim, Ledger, LedgerError};
use super::record::{Reason, Record, State};
use super::rotator::{Managed, Plan};
use crate::entropy::{self, Entropy, EntropyError};
use crate::rotation::password::PolicyError;
use crate::seal::{Context, SealError, Sealer};
use crate::secret::SecretBytes;

const SECOND: i64 = 1_000_000;
/// What a claim lasts beyond the steps that it is for.
const SPARE: i64 = 60 * SECOND;

/// Tells the time, in UTC microseconds.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> i64;
}

impl<F: Fn() -> i64 + Send + Sync> Clock for F {
    fn now(&self) -> i64 {
        self()
    }
}

/// Seals and opens the secrets of accounts.
pub trait Keeper: Send + Sync {
    /// Seals `secret` for `account`.
    ///
    /// # Errors
    /// [`SealError`].
    fn seal(&self, account: &str, secret: &SecretBytes) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for `account`.
    ///
    /// # Errors
    /// [`SealError`], which names the account when the row was tampered with.
    fn open(&self, account: &str, sealed: &[u8]) -> Result<SecretBytes, SealError>;
}

impl Keeper for Sealer {
    fn seal(&self, account: &str, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        Sealer::seal(self, &Context::account(account), secret)
    }

    fn open(&self, account: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        Sealer::open(self, &Context::account(account), sealed)
    }
}

/// Why an account could not even be worked on. What its target did is in [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A stored secret does not open, or a new one cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No candidate can be made.
    #[error("account {account}: {source}")]
    Policy {
        /// The account.
        account: String,
        /// What is wrong with its policy.
        source: PolicyError,
    },
    /// The machine's random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Two dependents of one name: which of them has been told could not be kept.
    #[error("account {account} names two dependents {name:?}; give each a name of its own")]
    Dependents {
        /// The account.
        account: String,
        /// The name.
        name: String,
    },
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the account stands now.
    pub state: State,
    /// Whether the secret was changed, and the new one proved.
    pub rotated: Option<Reason>,
    /// Whether the target was seen to take the current secret.
    pub verified: bool,
    /// What went wrong, as a plain sentence.
    pub trouble: Option<String>,
    /// What people have to know now.
    pub findings: Vec<Finding>,
    /// When the account is looked at next, in UTC microseconds; the far end of time when a person has to ask.
    pub next_at: i64,
}

/// Rotates and checks accounts, one attempt at a time.
pub struct Engine {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) clock: Arc<dyn Clock>,
    node: String,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Whatever is due.
    Due,
    /// Asking the target, though nothing may be due.
    Check,
}

impl Engine {
    /// An engine of the node `node` (its name is shown to other nodes).
    #[must_use]
    pub fn new(
        node: impl Into<String>,
        ledger: Arc<dyn Ledger>,
        keeper: Arc<dyn Keeper>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { ledger, keeper, entropy, clock, node: node.into() }
    }

    /// Asks for a rotation: it is due from now on, also when one is running just now (which may have begun before the
    /// reason came up). Survives a crash once it has answered.
    ///
    /// # Errors
    /// [`EngineError::Ledger`].
    pub async fn request(&self, account: &str, reason: Reason) -> Result<u64, EngineError> {
        Ok(self.ledger.want(account, reason).await?)
    }

    /// Does for the account what is due: begins a rotation, goes on with one, or asks the target whether it still takes the
    /// secret. Does nothing when nothing is due. One attempt, no waiting between attempts.
    ///
    /// # Errors
    /// [`EngineError`]; the account is then as it was, or goes on from where the ledger says.
    pub async fn advance(&self, account: &str, managed: &Managed) -> Result<Outcome, EngineError> {
        self.attempt(account, managed, Purpose::Due).await
    }

    /// Rotates the account now.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn rotate(
        &self,
        account: &str,
        managed: &Managed,
        reason: Reason,
    ) -> Result<Outcome, EngineError> {
        self.request(account, reason).await?;
        self.advance(account, managed).await
    }

    /// Asks the target now whether it takes the current secret. A rotation that is under way goes on instead: it asks, too.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn verify(&self, account: &str, managed: &Managed) -> Result<Outcome, EngineError> {
        self.attempt(account, managed, Purpose::Check).await
    }

    /// Notes why the account cannot be worked on at all, and lets it wait as after any failure.
    ///
    /// # Errors
    /// [`EngineError::Ledger`].
    pub async fn postpone(&self, account: &str, why: &str) -> Result<(), EngineError> {
        let now = self.clock.now();
        let claim = self.claim_until(now.saturating_add(SPARE))?;
        let mut record = self.ledger.claim(account, &claim, now).await?;
        record.postpone(why, &Plan::default().backoff, now);
        self.ledger.write(&record, &[], &claim, true).await?;
        Ok(())
    }

    async fn attempt(
        &self,
        account: &str,
        managed: &Managed,
        purpose: Purpose,
    ) -> Result<Outcome, EngineError> {
        unique_names(account, managed)?;
        let now = self.clock.now();
        let claim = self.new_claim(managed, now)?;
        let record = self.ledger.claim(account, &claim, now).await?;
        if purpose == Purpose::Due && !record.is_due(now) {
            self.ledger.release(account, &claim).await?;
            return Ok(untouched(&record));
        }
        let mut attempt = Attempt::new(self, managed, claim, record);
        match attempt.run(purpose == Purpose::Check).await {
            Ok(()) => Ok(attempt.outcome()),
            Err(error) => {
                attempt.set_aside(&error).await;
                Err(error)
            }
        }
    }

    /// For as long as one run of all its steps may take.
    fn new_claim(&self, managed: &Managed, now: i64) -> Result<Claim, EngineError> {
        let mut claim = self.claim_until(now)?;
        extend(&mut claim, managed, now);
        Ok(claim)
    }

    /// By a name that no other claim has.
    fn claim_until(&self, until: i64) -> Result<Claim, EngineError> {
        let number = u64::from_be_bytes(entropy::bytes::<8>(self.entropy.as_ref())?);
        Ok(Claim { holder: format!("{}/{number:016x}", self.node), until })
    }
}

/// Sets the claim's end so that all steps between two writes fit in before it; each write moves it on.
pub(super) fn extend(claim: &mut Claim, managed: &Managed, now: i64) {
    let patience = i64::try_from(managed.plan.patience.as_micros()).unwrap_or(i64::MAX / 8);
    let steps = patience.saturating_mul(16).saturating_add(SPARE);
    claim.until = now.saturating_add(steps.min(super::ledger::LONGEST_CLAIM));
}

fn unique_names(account: &str, managed: &Managed) -> Result<(), EngineError> {
    let mut seen = std::collections::HashSet::new();
    match managed.dependents.iter().find(|dependent| !seen.insert(dependent.name())) {
        None => Ok(()),
        Some(twice) => {
            Err(EngineError::Dependents { account: account.to_owned(), name: twice.name().to_owned() })
        }
    }
}

fn untouched(record: &Record) -> Outcome {
    Outcome {
        state: record.progress.state,
        rotated: None,
        verified: false,
        trouble: record.progress.trouble.clone(),
        findings: Vec::new(),
        next_at: record.progress.next_at,
    }
}
