//! A fleet of targets in memory that do what targets do: hang, drop, refuse, do half, and lie.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam_vault::rotation::password::PolicyError;
use cofferdam_vault::rotation::{Clock, Dependent, Fault, Fleet, Managed, Plan, Rotator, Verdict};
use cofferdam_vault::{Entropy, EntropyError, SecretBytes};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::task::yield_now;

/// 2026-11-23 06:00:00 UTC, in microseconds.
pub(crate) const START: i64 = 1_795_413_600_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// A clock that a test sets.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub(crate) fn set(&self, at: i64) {
        self.0.store(at, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Randomness that a seed decides.
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<StdRng>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    pub(crate) fn below(&self, n: usize) -> usize {
        self.0.lock().unwrap().random_range(0..n)
    }
}

impl Entropy for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.lock().unwrap().fill_bytes(out);
        Ok(())
    }
}

/// What a target does with a change, besides doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mischief {
    None,
    Unreachable,
    Impostor,
    /// Nothing is done, and the connection drops.
    DropsBefore,
    /// It is done, and the connection drops.
    DropsAfter,
    /// It is done, and said to have been rejected.
    DoneButRejected,
    /// Its policy does not like the candidate.
    Rejects,
    Denies,
    /// It says that it did, and did not.
    Lies,
    /// Nothing is done, and no answer comes.
    HangsBefore,
    /// It is done, and no answer comes.
    HangsAfter,
    /// The connection drops, and it is done all the same, some questions later.
    Late(u32),
}

pub(crate) const MISCHIEF: [Mischief; 15] = [
    Mischief::None,
    Mischief::Unreachable,
    Mischief::Impostor,
    Mischief::DropsBefore,
    Mischief::DropsAfter,
    Mischief::DoneButRejected,
    Mischief::Rejects,
    Mischief::Denies,
    Mischief::Lies,
    Mischief::HangsBefore,
    Mischief::HangsAfter,
    Mischief::Late(1),
    Mischief::Late(2),
    Mischief::Late(3),
    Mischief::Late(4),
];

/// One target with one account.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) secret: Mutex<Vec<u8>>,
    /// What it does with the changes to come, in order; then nothing special.
    pub(crate) script: Mutex<Vec<Mischief>>,
    /// Changes that are still on their way, with the questions until they arrive.
    pub(crate) late: Mutex<Vec<(u32, Vec<u8>)>>,
    /// With these, it picks from all mischief by chance, one time in two.
    pub(crate) chance: Option<Arc<Seeded>>,
    pub(crate) offline: std::sync::atomic::AtomicBool,
    pub(crate) reconciles: bool,
    pub(crate) changes: AtomicU32,
    pub(crate) asked: AtomicU32,
    pub(crate) busy: AtomicUsize,
    pub(crate) busiest: AtomicUsize,
    /// How long it takes for each step.
    pub(crate) takes: Duration,
    /// The machine that it is on, shared with others; none: its own.
    pub(crate) host: Option<String>,
}

impl Target {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            secret: Mutex::new(secret.as_bytes().to_vec()),
            script: Mutex::default(),
            late: Mutex::default(),
            chance: None,
            offline: false.into(),
            reconciles: false,
            changes: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            busy: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
            takes: Duration::ZERO,
            host: None,
        }
    }

    pub(crate) fn scripted(secret: &str, script: &[Mischief]) -> Self {
        Self { script: Mutex::new(script.iter().rev().copied().collect()), ..Self::new(secret) }
    }

    pub(crate) fn by_chance(secret: &str, chance: Arc<Seeded>) -> Self {
        Self { chance: Some(chance), ..Self::new(secret) }
    }

    /// Whether `secret` opens it, without asking it.
    pub(crate) fn takes(&self, secret: &[u8]) -> bool {
        *self.secret.lock().unwrap() == secret
    }

    /// Somebody changes the secret behind the vault's back.
    pub(crate) fn set(&self, secret: &[u8]) {
        *self.secret.lock().unwrap() = secret.to_vec();
    }

    pub(crate) fn is_offline(&self, offline: bool) {
        self.offline.store(offline, Ordering::SeqCst);
    }

    pub(crate) fn behave(&self) {
        self.script.lock().unwrap().clear();
    }

    fn mischief(&self) -> Mischief {
        if let Some(chance) = &self.chance {
            let picked = chance.below(MISCHIEF.len() * 2);
            return MISCHIEF.get(picked).copied().unwrap_or(Mischief::None);
        }
        self.script.lock().unwrap().pop().unwrap_or(Mischief::None)
    }

    async fn step(&self) -> Result<(), Fault> {
        yield_now().await;
        self.arrive();
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        if self.offline.load(Ordering::SeqCst) {
            return Err(Fault::Unreachable("the target does not answer".into()));
        }
        Ok(())
    }

    fn arrive(&self) {
        let mut late = self.late.lock().unwrap();
        for (questions, secret) in late.iter_mut() {
            *questions -= 1;
            if *questions == 0 {
                self.set(secret);
            }
        }
        late.retain(|(questions, _)| *questions > 0);
    }

    /// The change itself, with `allowed` saying whether whoever asks may.
    async fn replace(&self, allowed: bool, candidate: &SecretBytes) -> Result<(), Fault> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let dropped = || Err(Fault::Unsure("the connection was lost before the answer".into()));
        let mischief = self.mischief();
        if mischief == Mischief::Unreachable {
            return Err(Fault::Unreachable("the target does not answer".into()));
        }
        if mischief == Mischief::Impostor {
            return Err(Fault::Impostor("its host key is another one".into()));
        }
        if !allowed {
            return Err(Fault::Refused("it does not take the secret for logging in".into()));
        }
        let done = matches!(
            mischief,
            Mischief::None | Mischief::DropsAfter | Mischief::DoneButRejected | Mischief::HangsAfter
        );
        if done {
            self.set(candidate.expose());
        }
        if let Mischief::Late(questions) = mischief {
            self.late.lock().unwrap().push((questions, candidate.expose().to_vec()));
        }
        yield_now().await;
        match mischief {
            Mischief::DropsBefore | Mischief::DropsAfter | Mischief::Late(_) => dropped(),
            Mischief::DoneButRejected | Mischief::Rejects => {
                Err(Fault::Rejected("it wants a better password".into()))
            }
            Mischief::Denies => Err(Fault::Denied("the account may not change its password".into())),
            Mischief::HangsBefore | Mischief::HangsAfter => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// The rotator of one simulated target.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedRotator(pub(crate) Arc<Target>);

#[async_trait]
impl Rotator for SimulatedRotator {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        let mut bytes = vec![0; 24];
        entropy.fill(&mut bytes)?;
        Ok(SecretBytes::new(bytes))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        let target = &self.0;
        let busy = target.busy.fetch_add(1, Ordering::SeqCst) + 1;
        target.busiest.fetch_max(busy, Ordering::SeqCst);
        // Logging in is one thing, and sending the command another, which may come much later.
        let allowed = target.takes(current.expose());
        let answer = match target.step().await {
            Ok(()) => target.replace(allowed, candidate).await,
            Err(fault) => Err(fault),
        };
        target.busy.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        self.0.step().await?;
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.chance.as_ref().is_some_and(|chance| chance.below(6) == 0) {
            return Err(Fault::Unreachable("the connection was lost".into()));
        }
        let verdict = if self.0.takes(secret.expose()) { Verdict::Opens } else { Verdict::Refused };
        yield_now().await;
        Ok(verdict)
    }

    fn reconciles(&self) -> bool {
        self.0.reconciles
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        self.0.step().await?;
        self.0.replace(true, candidate).await
    }
}

/// A service that has to be told, and fails as often as asked.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) fails: AtomicU32,
    pub(crate) has: Mutex<Vec<u8>>,
}

impl Service {
    pub(crate) fn new(name: &str, fails: u32) -> Arc<Self> {
        Arc::new(Self { name: name.into(), fails: AtomicU32::new(fails), has: Mutex::default() })
    }
}

#[async_trait]
impl Dependent for Service {
    fn name(&self) -> &str {
        &self.name
    }

    async fn update(&self, current: &SecretBytes) -> Result<(), Fault> {
        yield_now().await;
        let left = self.fails.load(Ordering::SeqCst);
        if left > 0 {
            self.fails.store(left - 1, Ordering::SeqCst);
            return Err(Fault::Denied("the service manager said no".into()));
        }
        *self.has.lock().unwrap() = current.expose().to_vec();
        Ok(())
    }
}

/// A fleet of simulated targets by account.
#[derive(Debug, Default)]
pub(crate) struct SimulatedFleet {
    pub(crate) targets: HashMap<String, Arc<Target>>,
    pub(crate) plan: Plan,
}

#[async_trait]
impl Fleet for SimulatedFleet {
    async fn managed(&self, account: &str) -> Result<Managed, String> {
        let target = self.targets.get(account).ok_or("the site does not describe it")?;
        Ok(Managed {
            target: target.host.clone().unwrap_or_else(|| account.to_owned()),
            rotator: Arc::new(SimulatedRotator(Arc::clone(target))),
            plan: self.plan.clone(),
            dependents: Vec::new(),
        })
    }
}
