//! Rotates a simulated fleet and prints rate and memory: `cargo run --release -p cofferdam-vault --example rotation_bench`.
//!
//! Arguments: accounts (10000), at once (64), milliseconds that a target takes for a step (20). Each target changes, and is
//! asked for proof, as real ones are; secrets are sealed for real; the ledger is in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement for the terminal")]

#[path = "../tests/support/simulated.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod simulated;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Engine, Keeper, Limits, MemoryLedger, Outcome, Progress, Reporter, Scheduler, SealedBytes, Trouble,
};
use cofferdam_vault::{Sealer, SecretBytes, SystemEntropy};
use simulated::{START, SimulatedFleet, Target, TestClock};

/// The product's allocator, set as there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Default)]
struct Failures(AtomicU64);

#[async_trait]
impl Reporter for Failures {
    async fn report(&self, _: &str, result: Result<Outcome, Trouble>) {
        if !result.is_ok_and(|outcome| outcome.rotated.is_some()) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn argument(at: usize, usual: u64) -> u64 {
    std::env::args().nth(at).map_or(usual, |text| text.parse().expect("a number"))
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (accounts, at_once, step) = (argument(1, 10_000), argument(2, 64), argument(3, 20));
    let sealer = Arc::new(Sealer::ephemeral(Arc::new(SystemEntropy)));
    let (ledger, mut fleet) = (Arc::new(MemoryLedger::default()), SimulatedFleet::default());
    for n in 0..accounts {
        let (account, first) = (format!("account-{n:05}"), format!("first-{n:05}"));
        let secret = SecretBytes::from(first.clone().into_bytes());
        let sealed = Keeper::seal(sealer.as_ref(), &account, &secret).unwrap();
        ledger.insert(&account, Progress::new(SealedBytes(sealed), START, START));
        let target = Target { takes: Duration::from_millis(step), ..Target::new(&first) };
        fleet.targets.insert(account, Arc::new(target));
    }
    let before = memory("VmRSS");
    let failures = Arc::new(Failures::default());
    let engine = Engine::new(
        "bench",
        Arc::clone(&ledger) as _,
        Arc::clone(&sealer) as _,
        Arc::new(SystemEntropy),
        Arc::new(TestClock::new()),
    );
    let scheduler = Scheduler::new(
        Arc::new(engine),
        Arc::new(fleet),
        Arc::clone(&failures) as _,
        Limits { at_once: usize::try_from(at_once).unwrap(), ..Limits::default() },
    );
    let began = Instant::now();
    let pass = scheduler.pass().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} of {accounts} rotated in {took:.1} s: {:.0}/s, {at_once} at a time, {step} ms a step; {} failed",
        pass.rotated,
        f64::from(u32::try_from(pass.rotated).unwrap()) / took,
        failures.0.load(Ordering::Relaxed),
    );
    println!("memory: {} MiB before, {} MiB at most", before / 1024, memory("VmHWM") / 1024);
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
