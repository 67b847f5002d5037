//! One account, its target, a ledger that can be interrupted, and an engine around them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Claim, Clock as _, Engine, FORMER_SECRETS, Finding, Keeper, Ledger, LedgerError, Managed, MemoryLedger,
    Outcome, Plan, Progress, Reason, Record, SealedBytes, State,
};
use cofferdam_vault::{Context, SealError, SecretBytes};
use tokio::task::yield_now;

use crate::simulated::*;

pub(crate) const ACCOUNT: &str = "root@pump-hmi";
pub(crate) const FIRST: &str = "the-first-secret";

/// Seals so fast that ten thousand rotations take seconds; the engine must treat it as opaque all the same.
pub(crate) struct FastKeeper;

impl Keeper for FastKeeper {
    fn seal(&self, account: &str, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        Ok([account.as_bytes(), b"|", &secret.expose().iter().map(|b| b ^ 0xa5).collect::<Vec<_>>()].concat())
    }

    fn open(&self, account: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let prefix = [account.as_bytes(), b"|"].concat();
        let body = sealed
            .strip_prefix(prefix.as_slice())
            .ok_or_else(|| SealError::Refused { context: Context::account(account) })?;
        Ok(SecretBytes::new(body.iter().map(|b| b ^ 0xa5).collect()))
    }
}

/// A ledger that can be interrupted around every call, and that fails by chance before or after it wrote.
#[derive(Default)]
pub(crate) struct ShakyLedger {
    pub(crate) inner: MemoryLedger,
    pub(crate) chance: Option<Arc<Seeded>>,
}

impl ShakyLedger {
    fn shake(&self) -> Result<(), LedgerError> {
        match &self.chance {
            Some(chance) if chance.below(24) == 0 => Err(LedgerError::Store("the database is away".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Ledger for ShakyLedger {
    async fn want(&self, account: &str, reason: Reason) -> Result<u64, LedgerError> {
        self.inner.want(account, reason).await
    }
    async fn due(&self, now: i64, limit: usize) -> Result<Vec<String>, LedgerError> {
        self.inner.due(now, limit).await
    }
    async fn claim(&self, account: &str, claim: &Claim, now: i64) -> Result<Record, LedgerError> {
        yield_now().await;
        let answer = self.inner.claim(account, claim, now).await;
        yield_now().await;
        answer
    }
    async fn write(
        &self,
        record: &Record,
        findings: &[Finding],
        claim: &Claim,
        release: bool,
    ) -> Result<Record, LedgerError> {
        yield_now().await;
        self.shake()?;
        let answer = self.inner.write(record, findings, claim, release).await;
        yield_now().await;
        self.shake()?;
        answer
    }
    async fn release(&self, account: &str, claim: &Claim) -> Result<(), LedgerError> {
        yield_now().await;
        self.inner.release(account, claim).await
    }
}

/// One account, its target, and an engine.
pub(crate) struct Bench {
    pub(crate) ledger: Arc<ShakyLedger>,
    pub(crate) clock: TestClock,
    pub(crate) target: Arc<Target>,
    pub(crate) managed: Managed,
    pub(crate) engine: Engine,
}

impl Bench {
    pub(crate) fn new(target: Target) -> Self {
        Self::with(target, ShakyLedger::default(), 1)
    }

    pub(crate) fn with(target: Target, ledger: ShakyLedger, seed: u64) -> Self {
        let clock = TestClock::new();
        let sealed = FastKeeper.seal(ACCOUNT, &SecretBytes::from(FIRST.as_bytes().to_vec())).unwrap();
        ledger.inner.insert(ACCOUNT, Progress::new(SealedBytes(sealed), START, START));
        let (ledger, target) = (Arc::new(ledger), Arc::new(target));
        let managed = Managed {
            target: ACCOUNT.into(),
            rotator: Arc::new(SimulatedRotator(Arc::clone(&target))),
            plan: Plan::default(),
            dependents: Vec::new(),
        };
        let engine = engine("node-a", &ledger, &clock, seed);
        Self { ledger, clock, target, managed, engine }
    }

    pub(crate) fn record(&self) -> Record {
        self.ledger.inner.record(ACCOUNT).unwrap()
    }

    pub(crate) fn state(&self) -> State {
        self.record().progress.state
    }

    /// What must hold at every moment: a stored secret opens the target.
    pub(crate) fn open_to_somebody(&self) -> bool {
        let record = self.record();
        let secrets = &record.progress.secrets;
        assert!(secrets.former.len() <= FORMER_SECRETS);
        secrets.all().any(|sealed| {
            FastKeeper.open(ACCOUNT, &sealed.0).is_ok_and(|secret| self.target.takes(secret.expose()))
        })
    }

    pub(crate) fn current_opens(&self) -> bool {
        let current = self.record().progress.secrets.current;
        self.target.takes(FastKeeper.open(ACCOUNT, &current.0).unwrap().expose())
    }

    pub(crate) async fn advance(&self) -> Outcome {
        self.engine.advance(ACCOUNT, &self.managed).await.unwrap()
    }

    pub(crate) async fn rotate(&self, reason: Reason) -> Outcome {
        self.engine.rotate(ACCOUNT, &self.managed, reason).await.unwrap()
    }

    /// To the time at which the account is due, and a little.
    pub(crate) fn wait_until_due(&self) {
        let next_at = self.record().progress.next_at;
        self.clock.set(next_at.max(self.clock.now()) + 1);
    }

    /// Past any claim that a process left behind.
    pub(crate) fn outlive_claims(&self) {
        self.clock.advance(cofferdam_vault::rotation::LONGEST_CLAIM);
    }
}

pub(crate) fn engine(node: &str, ledger: &Arc<ShakyLedger>, clock: &TestClock, seed: u64) -> Engine {
    Engine::new(
        node,
        Arc::clone(ledger) as Arc<dyn Ledger>,
        Arc::new(FastKeeper),
        Arc::new(Seeded::new(seed)),
        Arc::new(clock.clone()),
    )
}

/// Runs `future` for `polls` polls and then drops it, as the end of the process would; `after_each` looks in between.
pub(crate) async fn crash_after<F: Future>(
    future: F,
    polls: usize,
    mut after_each: impl FnMut(usize),
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        let answer = future.as_mut().poll(cx);
        after_each(polled);
        answer.map(Some)
    })
    .await
}
