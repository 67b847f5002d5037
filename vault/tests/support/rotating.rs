//! An engine around one account of a real target.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Engine, Fault, Keeper, Ledger, Managed, MemoryLedger, Outcome, Plan, Progress, Reason, Rotator,
    SealedBytes, SecretSource,
};
use cofferdam_vault::{Sealer, SecretBytes, SystemEntropy};

const ACCOUNT: &str = "acc-7";
/// 2026-11-23 06:00:00 UTC, in microseconds.
const START: i64 = 1_795_413_600_000_000;

/// One account, sealed for real.
pub(crate) struct Rotating {
    ledger: Arc<MemoryLedger>,
    sealer: Arc<Sealer>,
    engine: Engine,
    managed: Managed,
}

impl Rotating {
    pub(crate) fn new(rotator: impl Rotator + 'static, first: &str) -> Self {
        Self::of(rotator, SecretBytes::from(first.as_bytes().to_vec()))
    }

    pub(crate) fn of(rotator: impl Rotator + 'static, first: SecretBytes) -> Self {
        let sealer = Arc::new(Sealer::ephemeral(Arc::new(SystemEntropy)));
        let ledger = Arc::new(MemoryLedger::default());
        let sealed = Keeper::seal(sealer.as_ref(), ACCOUNT, &first).unwrap();
        ledger.insert(ACCOUNT, Progress::new(SealedBytes(sealed), START, START));
        let time = AtomicI64::new(START);
        let engine = Engine::new(
            "test",
            Arc::clone(&ledger) as Arc<dyn Ledger>,
            Arc::clone(&sealer) as Arc<dyn Keeper>,
            Arc::new(SystemEntropy),
            Arc::new(move || time.fetch_add(1, Ordering::SeqCst)),
        );
        let managed = Managed {
            target: "target".into(),
            rotator: Arc::new(rotator),
            plan: Plan::default(),
            dependents: Vec::new(),
        };
        Self { ledger, sealer, engine, managed }
    }

    #[allow(dead_code, reason = "not every kind needs another plan")]
    pub(crate) fn plan(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.managed.plan);
        self
    }

    pub(crate) async fn rotate(&self, reason: Reason) -> Outcome {
        self.engine.rotate(ACCOUNT, &self.managed, reason).await.unwrap()
    }

    #[allow(dead_code, reason = "not every kind is checked")]
    pub(crate) async fn verify(&self) -> Outcome {
        self.engine.verify(ACCOUNT, &self.managed).await.unwrap()
    }

    /// The current secret in the clear.
    pub(crate) fn current(&self) -> SecretBytes {
        let sealed = self.ledger.record(ACCOUNT).unwrap().progress.secrets.current;
        Keeper::open(self.sealer.as_ref(), ACCOUNT, &sealed.0).unwrap()
    }
}

/// Another account's secret that a test knows.
#[derive(Debug)]
pub(crate) struct Fixed(SecretBytes);

impl Fixed {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(SecretBytes::from(bytes)))
    }
}

#[async_trait]
impl SecretSource for Fixed {
    async fn secret(&self) -> Result<SecretBytes, Fault> {
        Ok(SecretBytes::from(self.0.expose().to_vec()))
    }
}
