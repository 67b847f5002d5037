//! Works through the accounts that are due, so many at a time.

use std::collections::{HashMap, VecDeque};
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

/// How much is done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Accounts, at least one.
    pub at_once: usize,
    /// Accounts of one target, at least one: a target that hangs must not take all places, and an sshd drops connections
    /// beyond some that have not logged in yet.
    pub per_target: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_once: 64, per_target: 4 }
    }
}

/// Runs passes.
pub struct Scheduler {
    engine: Arc<Engine>,
    fleet: Arc<dyn Fleet>,
    reporter: Arc<dyn Reporter>,
    limits: Limits,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Works within `limits`.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        fleet: Arc<dyn Fleet>,
        reporter: Arc<dyn Reporter>,
        limits: Limits,
    ) -> Self {
        let limits = Limits { at_once: limits.at_once.max(1), per_target: limits.per_target.max(1) };
        Self { engine, fleet, reporter, limits }
    }

    /// Tries every account that is due (the [`PASS`] longest due of them) once, and answers when the last one is done.
    ///
    /// Dropping it drops what runs: the accounts go on from where the ledger says.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be asked for due accounts.
    pub async fn pass(&self) -> Result<Pass, LedgerError> {
        let mut queue: VecDeque<String> = self.engine.ledger.due(self.engine.clock.now(), PASS).await?.into();
        let mut work = Work { pass: Pass { tried: queue.len(), ..Pass::default() }, ..Work::default() };
        loop {
            while work.running.len() < self.limits.at_once
                && let Some(account) = queue.pop_front()
            {
                self.start(account, &mut work).await;
            }
            match self.one_done(&mut work).await {
                None => return Ok(work.pass),
                // A place at that target is free: whoever waited for it is next.
                Some(target) => {
                    if let Some(next) = work.parked.get_mut(&target).and_then(VecDeque::pop_front) {
                        queue.push_front(next);
                    }
                }
            }
        }
    }

    /// Starts with one account, or parks it until its target has a place.
    async fn start(&self, account: String, work: &mut Work) {
        let managed = match self.fleet.managed(&account).await {
            Ok(managed) => managed,
            Err(why) => return self.unmanaged(&account, why, work).await,
        };
        let target = managed.target.clone();
        let busy = work.busy.entry(target.clone()).or_default();
        if *busy >= self.limits.per_target {
            work.parked.entry(target).or_default().push_back(account);
            return;
        }
        *busy += 1;
        let (engine, reporter) = (Arc::clone(&self.engine), Arc::clone(&self.reporter));
        let name = account.clone();
        let handle = work.running.spawn(async move {
            let result = engine.advance(&name, &managed).await.map_err(Trouble::from);
            let done = Done::of(&result);
            reporter.report(&name, result).await;
            done
        });
        work.names.insert(handle.id(), (account, target));
    }

    /// Not tried again in each pass, however long nobody describes it.
    async fn unmanaged(&self, account: &str, why: String, work: &mut Work) {
        work.pass.troubled += 1;
        let trouble = match self.engine.postpone(account, &why).await {
            Ok(()) => Trouble::Unmanaged { account: account.to_owned(), why },
            Err(error) => error.into(),
        };
        self.reporter.report(account, Err(trouble)).await;
    }

    /// Waits for one account, and answers its target; none when nothing runs.
    async fn one_done(&self, work: &mut Work) -> Option<String> {
        let (id, done) = match work.running.join_next_with_id().await? {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        let (account, target) = work.names.remove(&id)?;
        match done {
            Some(done) => {
                work.pass.rotated += usize::from(done.rotated);
                work.pass.troubled += usize::from(done.troubled);
            }
            None => {
                work.pass.troubled += 1;
                let trouble = Trouble::Broken { account: account.clone() };
                self.reporter.report(&account, Err(trouble)).await;
            }
        }
        if let Some(busy) = work.busy.get_mut(&target) {
            *busy = busy.saturating_sub(1);
        }
        Some(target)
    }
}

/// What a pass has in its hands.
#[derive(Default)]
struct Work {
    pass: Pass,
    running: JoinSet<Done>,
    /// Account and target of each that runs.
    names: HashMap<Id, (String, String)>,
    /// How many run at each target.
    busy: HashMap<String, usize>,
    /// Accounts whose target has no place; while there is one, another of that target runs.
    parked: HashMap<String, VecDeque<String>>,
}

struct Done {
    rotated: bool,
    troubled: bool,
}

impl Done {
    fn of(result: &Result<Outcome, Trouble>) -> Self {
        match result {
            Ok(outcome) => Self { rotated: outcome.rotated.is_some(), troubled: outcome.trouble.is_some() },
            Err(_) => Self { rotated: false, troubled: true },
        }
    }
}
