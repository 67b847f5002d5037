//! SIGKILL at random moments under load: what was acknowledged is there after the restart.

use crate::support::*;
use bytes::Bytes;
use cofferdam_recorder::*;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Recordings of one round. Those with an even number trickle, the others write whole segments.
const SESSIONS: usize = 6;
/// Rounds side by side: more processes than the machine has cores, so that a kill comes at any point of their work.
const SIDE_BY_SIDE: u64 = 4;
/// What was accepted this long before the kill is there, whether anybody waited for it or not.
const PROMISE: Duration = Duration::from_secs(1);

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
            println!("START {id} 0");
            tasks.push(tokio::spawn(load(session, id, n)));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Counts in its output; says what was accepted and how far it is durable.
async fn load(session: SessionRecorder, id: String, n: usize) {
    for count in 0u64.. {
        let mut text = format!("{count:016}\n").into_bytes();
        text.resize(length(n), b'.');
        session.record(Event::Output { channel: 0, data: Bytes::from(text) }).await.unwrap();
        println!("TOOK {id} {count}");
        if n == 2 {
            // Nobody ever waits for this one: it relies on the recorder's own flushes.
            tokio::time::sleep(Duration::from_millis(3)).await;
        } else if count % 5 == 0 {
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

fn length(n: usize) -> usize {
    if n.is_multiple_of(2) { 17 } else { 9000 * n }
}

/// The same moments every time, as far as a machine allows.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_sigkill() {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200u64);
    let old: u64 = thread::scope(|scope| {
        let runs: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|part| {
                let share = rounds / SIDE_BY_SIDE + u64::from(part < rounds % SIDE_BY_SIDE);
                scope.spawn(move || kill_again_and_again(part, share))
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(old > 0, "no round lived long enough to try the promise of one second");
}

/// Returns how many acceptances were older than [`PROMISE`] when their process was killed.
fn kill_again_and_again(part: u64, rounds: u64) -> u64 {
    let world = World::new();
    let seed = hex::encode(world.signer.seed().unwrap().as_slice());
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ part << 7);
    let mut old = 0;
    for round in 0..rounds {
        // From the first moments, while recordings are still being started, on. Every tenth lives longer than the promise.
        let micros = if round % 10 == 3 { 1_050_000 + random.below(300_000) } else { random.below(300_000) };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env("CRASH_FOLDER", world.dir.path().join("rec"))
            .env("CRASH_RECIPIENT", world.reader.recipient().to_string())
            .env("CRASH_SEED", &seed)
            .env("CRASH_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, killed) = kill_after(child, Duration::from_micros(micros));
        old += check(&world, round, &said, killed);
    }
    old
}

/// A line of the child, and when it was heard: not before what it says had happened.
type Said = (String, Instant);

/// Kills the child that long after its first sign of life, however busy the machine is.
fn kill_after(mut child: Child, life: Duration) -> (Vec<Said>, Instant) {
    let (first, alive) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let listener = thread::spawn(move || {
        let mut said = Vec::new();
        for line in out.lines().map_while(Result::ok) {
            // Whoever waits for the first line is gone by the second.
            if line.contains("START") {
                first.send(()).ok();
            }
            said.push((line, Instant::now()));
        }
        said
    });
    alive.recv_timeout(Duration::from_secs(60)).unwrap();
    thread::sleep(life);
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    (listener.join().unwrap(), killed)
}

/// What the child said of one recording.
#[derive(Default)]
struct Story {
    started: bool,
    done: bool,
    /// The highest number that has to be there.
    owed: Option<u64>,
    old: u64,
}

fn stories(said: &[Said], killed: Instant) -> HashMap<String, Story> {
    let mut stories: HashMap<String, Story> = HashMap::new();
    for (line, heard) in said {
        // The last line may be torn; the harness's own lines are none of ours. It writes its first without a line's end.
        let words: Vec<&str> = line.split(' ').collect();
        let [.., what, id, count] = words.as_slice() else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        let old = killed.saturating_duration_since(*heard) > PROMISE;
        let story = stories.entry((*id).to_owned()).or_default();
        match *what {
            "START" => story.started = true,
            "DONE" => story.done = true,
            "ACK" => story.owed = story.owed.max(Some(count)),
            "TOOK" if old => {
                story.owed = story.owed.max(Some(count));
                story.old += 1;
            }
            _ => {}
        }
    }
    stories
}

fn check(world: &World, round: u64, said: &[Said], killed: Instant) -> u64 {
    let stories = stories(said, killed);
    let service = world.service();
    let recovered = service.recover();
    drop(service);
    let mut old = 0;
    for n in 0..SESSIONS {
        let id = format!("k{round}-{n}");
        let default = Story::default();
        let story = stories.get(&id).unwrap_or(&default);
        old += story.old;
        if !world.path(&id).exists() {
            assert!(!story.started, "{id} was started and is gone");
            continue;
        }
        let closed = recovered.iter().find(|r| r.name.starts_with(&id));
        if !story.started
            && matches!(closed, Some(Recovered { outcome: RecoveryOutcome::Damaged { .. }, .. }))
        {
            // Killed before its header was written, and nobody was told that it had started.
            continue;
        }
        let report = world.verify(&id);
        assert!(report.is_whole(), "{id}: {:?}", report.problems);
        let seal = report.seal.as_ref().unwrap_or_else(|| panic!("{id} is not sealed"));
        match closed {
            Some(r) => {
                assert!(matches!(r.outcome, RecoveryOutcome::Closed { .. }), "{r:?}");
                assert!(seal.recovered && !story.done, "{id}: closed after the crash, and not marked so");
            }
            None => assert!(!seal.recovered && n == 4, "{id}: marked, and recovery does not tell of it"),
        }
        let text = all_output(&world.events(&id));
        let counts: Vec<u64> = text
            .chunks_exact(length(n))
            .map(|c| std::str::from_utf8(&c[..16]).unwrap().parse().unwrap())
            .collect();
        assert!(counts.iter().enumerate().all(|(n, c)| n as u64 == *c), "{id}: a gap");
        let last = counts.last().copied();
        assert!(last >= story.owed, "{id}: acknowledged up to {:?}, found up to {last:?}", story.owed);
    }
    old
}
