//! The vault's own figures: opening a vault with many secrets, leases, re-keying.
//!
//! `cargo run --release -p cofferdam-vault --example vault_bench -- [SECRETS]` (100,000 if nothing is said) prints one line each.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cofferdam_vault::agent::dangerous::BelieveCaller;
use cofferdam_vault::agent::{
    Bounds, Claim, Client, Credentialed, Keys, Ports, Server, Service, Told, harden,
};
use cofferdam_vault::unseal::{Gate, combine, split};
use cofferdam_vault::{
    Context, Entropy, FileKeyring, KeyringStore as _, Root, SealedSecret, Sealer, SecretBytes, Sharing,
    SystemEntropy, Vault, Warrant,
};

const LEASES: usize = 20_000;
const NOW: i64 = 1_795_413_600_000_000;
const HOUR: i64 = 3_600_000_000;

struct Paper(String);

impl Warrant for Paper {
    fn account_id(&self) -> &str {
        &self.0
    }
    fn session_id(&self) -> &str {
        "s-1"
    }
    fn user_name(&self) -> &str {
        "vera"
    }
    fn login_name(&self) -> &str {
        "root"
    }
    fn not_after(&self) -> i64 {
        NOW + HOUR
    }
}

fn main() {
    let secrets: usize = std::env::args().nth(1).map_or(100_000, |n| n.parse().unwrap());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let root = Root::generate(&SystemEntropy).unwrap();
    let document = Sealer::new_keyring(&root, &SystemEntropy, NOW).unwrap();
    let sealer = Sealer::open_keyring(&root, &document, entropy.clone()).unwrap();

    let begun = Instant::now();
    let rows: Vec<(String, Vec<u8>)> = (0..secrets)
        .map(|i| {
            let id = format!("host-{i}/root");
            let secret = SecretBytes::from(format!("secret of {i}").into_bytes());
            let sealed = sealer.seal(&Context::account(&id), &secret).unwrap();
            (id, sealed)
        })
        .collect();
    report("seal", secrets, begun.elapsed());

    // Three of five people, their shares typed, the keyring opened, and the first and the last secret read.
    let shares = split(&root, 3, 5, &SystemEntropy).unwrap();
    let begun = Instant::now();
    let again = combine(&shares[1..4]).unwrap();
    let opened = Sealer::open_keyring(&again, &document, entropy.clone()).unwrap();
    for (id, sealed) in [rows.first().unwrap(), rows.last().unwrap()] {
        opened.open(&Context::account(id), sealed).unwrap();
    }
    println!("unseal with {secrets} secrets: {:?} (shares, keyring, two of the secrets)", begun.elapsed());

    let vault = Vault::new(opened.clone(), None);
    let mut times = Vec::with_capacity(LEASES);
    for i in 0..LEASES {
        let (id, sealed) = &rows[i % rows.len()];
        let begun = Instant::now();
        let lease =
            vault.lease(&Paper(id.clone()), SealedSecret::password(sealed.clone(), Sharing::Shared), NOW);
        times.push(begun.elapsed());
        drop(lease.unwrap());
    }
    percentiles("lease, in the process", times);
    percentiles("lease, over the socket", over_the_socket(&root, &document, &rows));

    let next = opened.rekey(NOW).unwrap();
    opened.adopt(next);
    let begun = Instant::now();
    for (id, sealed) in &rows {
        opened.rewrap(&Context::account(id), sealed).unwrap().unwrap();
    }
    report("re-wrap", secrets, begun.elapsed());
}

fn over_the_socket(
    root: &Root,
    document: &cofferdam_vault::KeyringDocument,
    rows: &[(String, Vec<u8>)],
) -> Vec<Duration> {
    let dir = std::env::temp_dir().join(format!("cofferdam-bench-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let keyrings = Arc::new(FileKeyring::new(dir.join("keyring")));
    keyrings.replace(None, document).unwrap();
    let gate = Gate::new(Sealer::sealed(Arc::new(SystemEntropy)), keyrings, 600);
    gate.open(root, "the bench", NOW).unwrap();
    let bounds = Bounds { leases_per_minute: u32::MAX, ..Bounds::default() };
    let ports = Ports { registry: Arc::new(BelieveCaller), root: None };
    let service = Service::new(gate, None, Keys::default(), ports, bounds, Arc::new(|| NOW), harden());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::new(Arc::new(service));
    let served = thread::spawn(move || server.serve_network(theirs));
    let client = Arc::new(Client::over(ours).unwrap());
    let times = (0..LEASES)
        .map(|i| {
            let (id, sealed) = &rows[i % rows.len()];
            let told = Told {
                user_name: "vera".into(),
                login_name: "root".into(),
                not_after: NOW + HOUR,
                exclusive: false,
                credential: Credentialed::Password(sealed.clone()),
            };
            let claim = Claim {
                session_id: format!("s-{i}"),
                account_id: id.clone(),
                decision_sha256: String::new(),
                told: Some(told),
            };
            let begun = Instant::now();
            let lease = client.lease(claim).unwrap();
            let took = begun.elapsed();
            lease.give_back().unwrap();
            took
        })
        .collect();
    drop(client);
    served.join().unwrap().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    times
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what}: {count} in {took:.2?}, {:.0}/s", count as f64 / took.as_secs_f64());
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?} ({} leases)", at(0.5), at(0.99), at(1.0), times.len());
}
