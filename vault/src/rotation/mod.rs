//! Changing the secrets of targets, and knowing that they were changed.
//!
//! [`Engine`] does one attempt at one account and never loses it; [`Scheduler`] works through those that are due; a
//! [`Ledger`] keeps where each stands; a [`Rotator`] knows how one kind of account is changed, proved and mended.
//! `docs/vault.md` explains the states and what a crash leaves.

mod attempt;
pub mod directory;
mod directory_look;
mod engine;
mod finding;
mod ledger;
mod look;
pub mod mariadb;
mod memory;
pub mod password;
pub mod plugin;
pub mod postgres;
mod reach;
mod record;
mod rotator;
mod scheduler;
pub mod ssh;
mod tls;

pub use engine::{Clock, Engine, EngineError, Keeper, Outcome};
pub use finding::{Finding, FindingKind};
pub use ledger::{Claim, LONGEST_CLAIM, Ledger, LedgerError};
pub use look::{FoundAccount, Look};
pub use memory::MemoryLedger;
pub use reach::{Address, Dial, Direct, SecretSource};
pub use record::{FORMER_SECRETS, Progress, Reason, Record, SealedBytes, Secrets, State, Want};
pub use rotator::{Backoff, Dependent, Fault, Managed, OnDrift, Plan, Rotator, Verdict};
pub use scheduler::{Fleet, Limits, PASS, Pass, Reporter, Scheduler, Trouble};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use ssh::look::read_all as read_look;
pub use tls::TlsTrust;
