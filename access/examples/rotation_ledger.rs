//! Rotates a simulated fleet with the ledger in a real database, and prints rate and memory:
//! `cargo run --release -p cofferdam-access --example rotation_ledger -- sqlite:PATH` (or `postgres://…`; must be empty).
//!
//! Further arguments: accounts (10000), at once (64), milliseconds that a target takes for a step (20). All that a gateway
//! does is done but the network: secrets are sealed, each step is a transaction of its own with its signed audit entry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement for the terminal")]

#[path = "../../vault/tests/support/simulated.rs"]
#[allow(dead_code, reason = "shared with the vault's tests")]
mod simulated;

#[path = "parts/signer.rs"]
mod signer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use cofferdam_access::{
    apply::CheckedSite,
    audit::{Act, AuditKeys},
    clock::{Clock as _, SystemClock, Timestamp},
    site::{AccountRef, Site},
    store::{Database, Store},
};
use cofferdam_vault::{
    Context, Sealer, SecretBytes, SystemEntropy,
    rotation::{Engine, Limits, Outcome, Reporter, Scheduler, Trouble},
};
use signer::Signer;
use simulated::{SimulatedFleet, Target};

/// Accounts of one machine: as many as the scheduler works on there at once.
const ON_ONE_MACHINE: u64 = 4;

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

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, usual: u64| arguments.get(at).map_or(usual, |n| n.parse().expect("a number"));
    let database = Database::parse(arguments.get(1).expect("sqlite:PATH or postgres://…")).unwrap();
    let (accounts, at_once, step) = (number(2, 10_000), number(3, 64), number(4, 20));
    let began = SystemClock.now();
    Store::migrate(&database, began).await.unwrap();
    let signer = Arc::new(Signer(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()));
    let keys = AuditKeys::of(&*signer);
    let store = Store::open(&database, signer, None).await.unwrap();
    let sealer = Sealer::ephemeral(Arc::new(SystemEntropy));
    let fleet = describe(&store, &sealer, accounts, Duration::from_millis(step)).await;
    let before = memory("VmRSS");

    let failures = Arc::new(Failures::default());
    let engine = Engine::new(
        "bench",
        Arc::new(store.rotation_ledger(Arc::new(SystemClock))),
        Arc::new(sealer.clone()),
        Arc::new(SystemEntropy),
        Arc::new(|| SystemClock.now().micros()),
    );
    let limits = Limits { at_once: usize::try_from(at_once).unwrap(), ..Limits::default() };
    let scheduler = Scheduler::new(Arc::new(engine), Arc::new(fleet), failures.clone(), limits);
    let (began, mut rotated) = (SystemClock.now(), 0);
    // A pass takes a bounded number of accounts.
    loop {
        let pass = scheduler.pass().await.unwrap();
        if pass.rotated == 0 {
            break;
        }
        rotated += pass.rotated;
    }
    let took = seconds(SystemClock.now().since(began));
    println!(
        "{rotated} of {accounts} rotated in {took:.1} s: {:.0}/s, {at_once} at a time, {step} ms a step; {} failed",
        f64::from(u32::try_from(rotated).unwrap()) / took,
        failures.0.load(Ordering::Relaxed),
    );
    println!("memory: {} MiB before, {} MiB at most", before / 1024, memory("VmHWM") / 1024);
    let report = store.verify_audit(keys, None).await.unwrap();
    println!("{} audit entries, whole: {}", report.entries, report.is_whole());
    store.close().await;
}

fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

/// Machines with accounts whose secrets the vault has and changes.
async fn describe(store: &Store, sealer: &Sealer, accounts: u64, step: Duration) -> SimulatedFleet {
    let mut text = "[[organisations]]\nname = \"plant\"\nkind = \"plant\"\n\n[[zones]]\nname = \"cell\"\n\n\
                    [[conduits]]\nname = \"in\"\nfrom = \"cell\"\nto = \"cell\"\nprotocols = [\"ssh\"]\n"
        .to_owned();
    for machine in 0..accounts.div_ceil(ON_ONE_MACHINE) {
        let address = format!("10.{}.{}.{}", machine / 40_000, machine / 200 % 200, machine % 200 + 1);
        text.push_str(&format!(
            "\n[[assets]]\nname = \"m-{machine}\"\nzone = \"cell\"\naddress = \"{address}\"\n\
             endpoints = [{{ protocol = \"ssh\", port = 22 }}]\n"
        ));
    }
    let mut names = Vec::new();
    for n in 0..accounts {
        let (asset, login) = (format!("m-{}", n / ON_ONE_MACHINE), format!("op{}", n % ON_ONE_MACHINE));
        text.push_str(&format!(
            "\n[[accounts]]\nasset = \"{asset}\"\nlogin = \"{login}\"\ncredential = \"password\"\n\
             [accounts.rotation]\nevery_days = 30\n"
        ));
        names.push(AccountRef::try_from(format!("{login}@{asset}")).unwrap());
    }
    let site: Site = toml::from_str(&text).unwrap();
    let wanted = CheckedSite::new(site, &|_| Ok(())).unwrap();
    let plan = store.plan_site(&wanted).await.unwrap();
    let act = || Act::system("figures", SystemClock.now());
    store.apply_site(&act(), &wanted, &plan).await.unwrap();
    let mut fleet = SimulatedFleet::default();
    let mut managed: BTreeMap<AccountRef, Timestamp> = BTreeMap::new();
    for name in names {
        let first = format!("first-{name}");
        let secret = SecretBytes::from(first.clone().into_bytes());
        let sealed = sealer.seal(&Context::account(name.to_string()), &secret).unwrap();
        store.set_secret(&act(), &name, &sealed).await.unwrap();
        let host = Some(name.asset.to_string());
        let target = Target { takes: step, host, ..Target::new(&first) };
        fleet.targets.insert(name.to_string(), Arc::new(target));
        managed.insert(name, SystemClock.now());
    }
    store.manage_rotations(&act(), &managed).await.unwrap();
    fleet
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
