//! SIGKILL at random moments: what was acknowledged as durable is there after the restart.

use crate::support::*;
use bytes::Bytes;
use cofferdam_recorder::*;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

const SESSIONS: usize = 6;

/// Not a test of its own: the process that is killed.
#[test]
#[ignore = "started and killed by the crash test"]
fn child() {
    let Ok(folder) = std::env::var("CRASH_FOLDER") else { return };
    let env = |name: &str| std::env::var(name).unwrap();
    let recipient = Recipient::from_str(&env("CRASH_RECIPIENT")).unwrap();
    let seed = hex::decode(env("CRASH_SEED")).unwrap();
    let round = env("CRASH_ROUND");
    let mut config = RecorderConfig::new(folder, Recipients { read: vec![recipient], reveal: vec![] });
    config.flush_interval = Duration::from_millis(30);
    config.checkpoint_interval = Duration::from_millis(200);
    config.low_space = 0;
    let began = Instant::now();
    let clock: Clock = Arc::new(move || T0 + began.elapsed().as_micros() as i64);
    let signer = Arc::new(CheckpointSigner::from_seed(&seed).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let service = RecorderService::open(config, signer, clock).unwrap();
        let mut tasks = Vec::new();
        for n in 0..SESSIONS {
            let id = format!("k{round}-{n}");
            let session = service.start(header(&id)).await.unwrap();
            println!("START {id}");
            tasks.push(tokio::spawn(load(session, id, n)));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Counts in its output; says how far it is durable.
async fn load(session: SessionRecorder, id: String, n: usize) {
    for count in 0u64.. {
        let mut text = format!("{count:016}\n").into_bytes();
        // Some sessions only trickle, some write whole segments.
        text.resize(if n.is_multiple_of(2) { 17 } else { 9000 * n }, b'.');
        session.record(Event::Output { channel: 0, data: Bytes::from(text) }).await.unwrap();
        if count % 5 == 0 {
            session.flush().await.unwrap();
            println!("ACK {id} {count}");
        }
        if n == 4 && count == 40 {
            session.finish(End::because("closed")).await.unwrap();
            println!("DONE {id} {count}");
            return;
        }
    }
}

#[test]
fn nothing_that_was_durable_is_lost_by_sigkill() {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20u64);
    let world = World::new();
    let seed = hex::encode(world.signer.seed().unwrap().as_slice());
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_micros(150_000 + (random >> 33) % 700_000);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env("CRASH_FOLDER", world.dir.path().join("rec"))
            .env("CRASH_RECIPIENT", world.reader.recipient().to_string())
            .env("CRASH_SEED", &seed)
            .env("CRASH_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The life is counted from the first sign of it, however busy the machine is.
        let mut seen: Vec<String> = lines
            .by_ref()
            .map(Result::unwrap)
            .take_while(|l| !l.contains(&format!("-{}", SESSIONS - 1)))
            .collect();
        std::thread::sleep(life);
        child.kill().unwrap();
        seen.extend(lines.map_while(Result::ok));
        child.wait().unwrap();
        check(&world, round, &seen);
    }
}

fn check(world: &World, round: u64, seen: &[String]) {
    let service = world.service();
    let recovered = service.recover();
    for closed in &recovered {
        assert!(matches!(closed.outcome, RecoveryOutcome::Closed { .. }), "{closed:?}");
    }
    drop(service);
    for n in 0..SESSIONS {
        let id = format!("k{round}-{n}");
        if !world.path(&id).exists() {
            assert!(!seen.iter().any(|line| line.contains(&id)));
            continue;
        }
        let acked = seen
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("ACK {id} "))?.trim().parse::<u64>().ok())
            .max();
        let report = world.verify(&id);
        assert!(report.is_whole(), "{id}: {:?}", report.problems);
        let text = all_output(&world.events(&id));
        let size = if n % 2 == 0 { 17 } else { 9000 * n };
        let counts: Vec<u64> = text
            .chunks_exact(size)
            .map(|c| std::str::from_utf8(&c[..16]).unwrap().parse().unwrap())
            .collect();
        assert!(counts.iter().enumerate().all(|(n, c)| n as u64 == *c), "{id}: a gap");
        let last = counts.last().copied();
        assert!(last >= acked, "{id}: durable up to {acked:?}, found up to {last:?}");
    }
}
