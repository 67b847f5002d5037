//! Works through the accounts that are due, so many at a time.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::{Id, JoinSet};

use super::engine::{Engine, EngineError, Outcome};
use super::ledger::LedgerError;
use super::rotator::Managed;

/// The most accounts of one pass: a bound for the names that are held in memory.
pub const PASS: usize = 20_000;

/// What knows the accounts: which kind, which address, which plan.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// How to rotate this account.
    ///
    /// # Errors
    /// A plain clause that says why it cannot be: `no host key is pinned`.
    async fn managed(&self, account: &str) -> Result<Managed, String>;
}

/// Takes what came of each attempt: writes audit entries, raises findings.
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Called after each attempt, before the next account takes its place.
    async fn report(&self, account: &str, result: Result<Outcome, Trouble>);
}

/// Why no attempt was made, or none that came to an outcome.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The fleet does not know how.
    #[error("account {account} cannot be rotated: {why}")]
    Unmanaged {
        /// The account.
        account: String,
        /// The fleet's clause.
        why: String,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A part of the program panicked. The account goes on from where the ledger says once its claim has ended.
    #[error("the rotation of account {account} broke off; this is a fault of the program, report it")]
    Broken {
        /// The account.
        account: String,
    },
}

/// How a pass went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Accounts that were tried.
    pub tried: usize,
    /// Secrets that were changed and proved.
    pub rotated: usize,
    /// Accounts of which there is something to report.
    pub troubled: usize,
}

/// Runs passes.
pub struct Scheduler {
    engine: Arc<Engine>,
    fleet: Arc<dyn Fleet>,
    reporter: Arc<dyn Reporter>,
    at_once: usize,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Works on at most `at_once` accounts at a time (one at least).
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        fleet: Arc<dyn Fleet>,
        reporter: Arc<dyn Reporter>,
        at_once: usize,
    ) -> Self {
        Self { engine, fleet, reporter, at_once: at_once.max(1) }
    }

    /// Tries every account that is due (the [`PASS`] longest due of them) once, and answers when the last one is done.
    ///
    /// Dropping it drops what runs: the accounts go on from where the ledger says.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be asked for due accounts.
    pub async fn pass(&self) -> Result<Pass, LedgerError> {
        let due = self.engine.ledger.due(self.engine.clock.now(), PASS).await?;
        let mut pass = Pass { tried: due.len(), ..Pass::default() };
        let mut running: JoinSet<Done> = JoinSet::new();
        let mut names: HashMap<Id, String> = HashMap::with_capacity(self.at_once);
        for account in due {
            if running.len() >= self.at_once {
                self.one_done(&mut running, &mut names, &mut pass).await;
            }
            let one = One {
                engine: Arc::clone(&self.engine),
                fleet: Arc::clone(&self.fleet),
                reporter: Arc::clone(&self.reporter),
                account: account.clone(),
            };
            names.insert(running.spawn(one.run()).id(), account);
        }
        while !running.is_empty() {
            self.one_done(&mut running, &mut names, &mut pass).await;
        }
        Ok(pass)
    }

    async fn one_done(&self, running: &mut JoinSet<Done>, names: &mut HashMap<Id, String>, pass: &mut Pass) {
        match running.join_next_with_id().await {
            Some(Ok((id, done))) => {
                names.remove(&id);
                pass.rotated += usize::from(done.rotated);
                pass.troubled += usize::from(done.troubled);
            }
            Some(Err(error)) => {
                pass.troubled += 1;
                if let Some(account) = names.remove(&error.id()) {
                    let trouble = Trouble::Broken { account: account.clone() };
                    self.reporter.report(&account, Err(trouble)).await;
                }
            }
            None => {}
        }
    }
}

struct Done {
    rotated: bool,
    troubled: bool,
}

/// One account of a pass.
struct One {
    engine: Arc<Engine>,
    fleet: Arc<dyn Fleet>,
    reporter: Arc<dyn Reporter>,
    account: String,
}

impl One {
    async fn run(self) -> Done {
        let result = match self.fleet.managed(&self.account).await {
            Ok(managed) => self.engine.advance(&self.account, &managed).await.map_err(Trouble::from),
            Err(why) => Err(Trouble::Unmanaged { account: self.account.clone(), why }),
        };
        let done = match &result {
            Ok(outcome) => Done { rotated: outcome.rotated.is_some(), troubled: outcome.trouble.is_some() },
            Err(_) => Done { rotated: false, troubled: true },
        };
        self.reporter.report(&self.account, result).await;
        done
    }
}
