//! Passes over a fleet: bounds, order, panics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam_vault::SecretBytes;
use cofferdam_vault::rotation::{
    Clock as _, Fault, Keeper as _, Limits, Managed, Outcome, Progress, Reporter, Scheduler, SealedBytes,
    Trouble,
};

use crate::bench::*;
use crate::simulated::*;

/// Counts what is reported.
#[derive(Default)]
struct Counting(Mutex<Vec<(String, bool)>>);

#[async_trait]
impl Reporter for Counting {
    async fn report(&self, account: &str, result: Result<Outcome, Trouble>) {
        self.0.lock().unwrap().push((account.to_owned(), result.is_ok()));
    }
}

fn at_once(at_once: usize) -> Limits {
    Limits { at_once, per_target: 2 }
}

fn fleet_of(count: usize, target: impl Fn(usize) -> Target) -> (SimulatedFleet, Arc<ShakyLedger>) {
    let (mut fleet, ledger) = (SimulatedFleet::default(), Arc::new(ShakyLedger::default()));
    for n in 0..count {
        let account = format!("account-{n}");
        let sealed = FastKeeper.seal(&account, &SecretBytes::from(FIRST.as_bytes().to_vec())).unwrap();
        ledger.inner.insert(&account, Progress::new(SealedBytes(sealed), START, START));
        fleet.targets.insert(account, Arc::new(target(n)));
    }
    (fleet, ledger)
}

#[tokio::test(start_paused = true)]
async fn a_pass_tries_each_due_account_once_and_no_more_at_a_time_than_allowed() {
    let (fleet, ledger) = fleet_of(500, |n| Target {
        takes: Duration::from_millis(50),
        offline: (n % 10 == 0).into(),
        ..Target::new(FIRST)
    });
    ledger.inner.insert("not-described", Progress::new(SealedBytes(Vec::new()), START, START));
    let clock = TestClock::new();
    let (fleet, reporter) = (Arc::new(fleet), Arc::new(Counting::default()));
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let scheduler = Scheduler::new(engine, Arc::clone(&fleet) as _, Arc::clone(&reporter) as _, at_once(16));
    let began = tokio::time::Instant::now();
    let pass = scheduler.pass().await.unwrap();
    assert_eq!((pass.tried, pass.rotated, pass.troubled), (501, 450, 51));
    assert_eq!(reporter.0.lock().unwrap().len(), 501);
    assert!(!ledger.inner.record("not-described").unwrap().is_due(clock.now()), "it waits like any other");
    // 450 accounts take two steps of 50 ms and 50 take one: with 16 at a time no less than this.
    let least = Duration::from_millis(950 * 50 / 16);
    assert!(began.elapsed() >= least, "{:?} is too fast for 16 at a time", began.elapsed());
    assert!(began.elapsed() < least * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_hangs_takes_two_places_and_not_all() {
    // Two hundred accounts of one machine, due first, and a hundred elsewhere.
    let (fleet, ledger) = fleet_of(300, |n| {
        let slow = n < 200;
        Target {
            takes: if slow { Duration::from_secs(20) } else { Duration::from_millis(20) },
            host: slow.then(|| "plc-7".to_owned()),
            ..Target::new(FIRST)
        }
    });
    let (clock, fleet) = (TestClock::new(), Arc::new(fleet));
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let quick = Arc::new(Mutex::new(Vec::new()));
    struct Quick(Arc<Mutex<Vec<Duration>>>, tokio::time::Instant);
    #[async_trait]
    impl Reporter for Quick {
        async fn report(&self, account: &str, _: Result<Outcome, Trouble>) {
            let number: usize = account.trim_start_matches("account-").parse().unwrap();
            if number >= 200 {
                self.0.lock().unwrap().push(self.1.elapsed());
            }
        }
    }
    let reporter = Arc::new(Quick(Arc::clone(&quick), tokio::time::Instant::now()));
    let scheduler = Scheduler::new(engine, fleet as _, reporter, at_once(8));
    assert_eq!(scheduler.pass().await.unwrap().rotated, 300);
    let quick = quick.lock().unwrap();
    assert_eq!(quick.len(), 100);
    assert!(quick.iter().all(|took| *took < Duration::from_secs(2)), "{:?}", quick.iter().max());
}

#[tokio::test(start_paused = true)]
async fn a_rotator_that_panics_is_reported_and_stops_nobody_else() {
    #[derive(Debug)]
    struct Panics;
    #[async_trait]
    impl cofferdam_vault::rotation::Rotator for Panics {
        fn candidate(
            &self,
            _: &dyn cofferdam_vault::Entropy,
        ) -> Result<SecretBytes, cofferdam_vault::rotation::password::PolicyError> {
            Ok(SecretBytes::from(vec![1]))
        }
        async fn change(&self, _: &SecretBytes, _: &SecretBytes) -> Result<(), Fault> {
            panic!("a fault of ours")
        }
        async fn verify(&self, _: &SecretBytes) -> Result<cofferdam_vault::rotation::Verdict, Fault> {
            Ok(cofferdam_vault::rotation::Verdict::Opens)
        }
    }
    struct OnePanics(SimulatedFleet);
    #[async_trait]
    impl cofferdam_vault::rotation::Fleet for OnePanics {
        async fn managed(&self, account: &str) -> Result<Managed, String> {
            let mut managed = self.0.managed(account).await?;
            if account == "account-3" {
                managed.rotator = Arc::new(Panics);
            }
            Ok(managed)
        }
    }
    let (fleet, ledger) = fleet_of(8, |_| Target::new(FIRST));
    let clock = TestClock::new();
    let reporter = Arc::new(Counting::default());
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let scheduler =
        Scheduler::new(engine, Arc::new(OnePanics(fleet)), Arc::clone(&reporter) as _, at_once(2));
    let pass = scheduler.pass().await.unwrap();
    assert_eq!((pass.tried, pass.rotated, pass.troubled), (8, 7, 1));
    assert!(reporter.0.lock().unwrap().contains(&("account-3".to_owned(), false)));
}
