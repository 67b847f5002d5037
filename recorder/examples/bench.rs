//! Measures the recorder: `benches/recorder/run [--folder DIR] [--hours N] [PART…]`, the parts being shell, writer, digest, many,
//! large, search, desktop and ocr (which needs Tesseract). Prints one line for each figure; the load is synthetic and the same each time.
//!
//! What recording costs a relay cannot be measured by switching it off, for there is no such switch. It is the processor
//! time for each GiB that digest and writer (random data: kept in full) print here, as a share of what the gateway takes
//! for a GiB in `benches/ssh/run`, where the recorder is always on.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has no result")]

#[path = "parts/desktop.rs"]
mod desktop;
#[path = "parts/ocr.rs"]
mod ocr;

use bytes::Bytes;
use cofferdam_recorder::*;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

const T0: i64 = 1_790_000_000_000_000;
const MIB: f64 = 1024.0 * 1024.0;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

struct Bench {
    folder: PathBuf,
    signer: Arc<CheckpointSigner>,
    reader: Identity,
    now: Arc<AtomicI64>,
}

impl Bench {
    fn service(&self, name: &str, change: impl FnOnce(&mut RecorderConfig)) -> RecorderService {
        let recipients = Recipients { read: vec![self.reader.recipient()], reveal: vec![] };
        let mut config = RecorderConfig::new(self.folder.join(name), recipients);
        config.low_space = 0;
        change(&mut config);
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || now.load(Ordering::Relaxed));
        RecorderService::open(config, Arc::clone(&self.signer), clock).unwrap()
    }

    fn open(&self, path: &Path) -> Recording {
        let mut recording = Recording::open(path).unwrap();
        recording.unlock(&self.reader).unwrap();
        recording
    }
}

fn header(id: &str) -> Header {
    Header {
        id: id.parse().unwrap(),
        session: id.into(),
        protocol: "ssh".into(),
        user: "vera".into(),
        organisation: String::new(),
        asset: "pump-hmi".into(),
        zone: String::new(),
        account: String::new(),
        node: String::new(),
        started: T0,
        decision_sha256: String::new(),
        labels: Default::default(),
    }
}

/// Seconds of CPU that this process used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Log-like terminal output.
fn terminal_text(random: &mut Random, len: usize) -> String {
    let mut text = String::new();
    while text.len() < len {
        text += &format!(
            "\x1b[32mNov 23 12:{:02}:{:02}\x1b[0m pump-hmi plcd[{}]: cycle {} pressure={}.{} bar valve={} state=RUN\r\n",
            random.below(60),
            random.below(60),
            random.below(30_000),
            random.below(1_000_000),
            random.below(16),
            random.below(1000),
            random.below(100),
        );
    }
    text
}

/// What ordinary commands print on this machine; the same command may be given again.
fn outputs() -> &'static [(String, String)] {
    static OUTPUTS: std::sync::OnceLock<Vec<(String, String)>> = std::sync::OnceLock::new();
    OUTPUTS.get_or_init(|| {
        let commands = [
            "ls -la /etc",
            "ps aux | head -40",
            "df -h",
            "cat /etc/services | head -80",
            "dpkg -l | tail -50",
            "mount | head -30",
            "cat /etc/ssh/ssh_config",
            "ls -la /usr/lib | head -60",
            "grep -rn root /etc/passwd /etc/group",
            "cat /proc/meminfo",
            "find /usr/share/doc -name copyright | head -60",
            "tail -40 /var/log/dpkg.log",
            "cat /etc/os-release",
            "ls /usr/bin | head -120",
        ];
        let run = |command: &str| {
            let out = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).replace('\n', "\r\n")
        };
        commands.iter().map(|command| ((*command).to_owned(), run(command))).collect()
    })
}

/// An hour of ordinary shell work: (microseconds since the start, event).
fn shell_hour(seed: u64) -> Vec<(i64, Event)> {
    let mut random = Random(seed);
    let mut out = vec![(0, Event::Resize { channel: 0, cols: 120, rows: 40 })];
    let mut at = 1_000_000i64;
    let put = |at: i64, text: String| (at, Event::Output { channel: 0, data: text.into() });
    while at < 3_600_000_000 {
        let prompt = "\x1b]0;vera@pump-hmi: ~\x07\x1b[01;32mvera@pump-hmi\x1b[00m:\x1b[01;34m~\x1b[00m$ ";
        out.push(put(at, prompt.into()));
        at += random.below(12_000_000) as i64 + 2_000_000;
        let (command, printed) = &outputs()[random.below(outputs().len() as u64) as usize];
        for c in command.chars() {
            out.push((at, Event::Input { channel: 0, data: c.to_string().into(), masked: false }));
            out.push(put(at + 2_000, c.to_string()));
            at += 90_000 + random.below(160_000) as i64;
        }
        out.push((at, Event::Input { channel: 0, data: "\r".into(), masked: false }));
        at += 30_000;
        out.push(put(at, "\r\n".into()));
        for block in printed.as_bytes().chunks(1024) {
            out.push(put(at, String::from_utf8_lossy(block).into_owned()));
            at += 1_000;
        }
        at += random.below(14_000_000) as i64;
    }
    out
}

/// Records events so that the segments are as they would be in real time.
async fn replay(bench: &Bench, service: &RecorderService, id: &str, events: &[(i64, Event)]) -> Sealed {
    bench.now.store(T0, Ordering::Relaxed);
    let session = service.start(header(id)).await.unwrap();
    let mut flushed = 0;
    for (at, event) in events {
        if at - flushed >= 10_000_000 {
            session.flush().await.unwrap();
            flushed = *at;
        }
        bench.now.store(T0 + at, Ordering::Relaxed);
        session.record(event.clone()).await.unwrap();
    }
    session.finish(End::because("closed")).await.unwrap()
}

async fn writer(bench: &Bench) {
    for (name, random_data) in [("terminal-like", false), ("random", true)] {
        let service = bench.service(&format!("writer-{random_data}"), |c| c.index = false);
        let session = service.start(header("w1")).await.unwrap();
        let mut random = Random(1);
        let blocks: Vec<Bytes> = (0..64)
            .map(|_| match random_data {
                true => (0..32_768).map(|_| random.below(256) as u8).collect::<Vec<u8>>().into(),
                false => terminal_text(&mut random, 32_768).into(),
            })
            .collect();
        let (began, before, total) = (Instant::now(), cpu(), 1usize << 30);
        let mut sent = 0;
        while sent < total {
            let data = blocks[(sent / 32_768) % 64].clone();
            sent += data.len();
            session.record(Event::Output { channel: 0, data }).await.unwrap();
        }
        session.flush().await.unwrap();
        let (wall, used) = (began.elapsed().as_secs_f64(), cpu() - before);
        let mib = sent as f64 / MIB;
        println!(
            "writer, {name}: {:.0} MB/s durable, {:.0} MB/s for each core used, {:.2} CPU s for each GiB",
            mib / wall,
            mib / used,
            used * 1024.0 / mib
        );
        let sealed = session.finish(End::because("closed")).await.unwrap();
        println!("  file {:.1} MB of {mib:.0} MB", sealed.bytes as f64 / MIB);
    }
}

async fn many(bench: &Bench) {
    let service = bench.service("many", |c| c.index = false);
    let before = rss();
    let mut sessions = Vec::new();
    let began = Instant::now();
    for n in 0..5000 {
        sessions.push(service.start(header(&format!("s{n}"))).await.unwrap());
    }
    println!("start: {:.2} ms each", began.elapsed().as_secs_f64() / 5.0);
    println!("idle session: {:.1} KiB of memory", (rss() - before) / 5000.0 / 1024.0);
    let mut random = Random(2);
    let text = terminal_text(&mut random, 1 << 20);
    let bytes = Bytes::from(text);
    let (began, used) = (Instant::now(), cpu());
    const SECONDS: u64 = 25;
    let mut late = Duration::ZERO;
    for tick in 0..SECONDS * 10 {
        bench.now.store(T0 + tick as i64 * 100_000, Ordering::Relaxed);
        for session in sessions.iter().skip(tick as usize % 10).step_by(10) {
            let at = random.below((1 << 20) - 1024) as usize;
            let data = bytes.slice(at..at + 1024);
            session.record(Event::Output { channel: 0, data }).await.unwrap();
        }
        let due = Duration::from_millis(100) * (tick as u32 + 1);
        late = late.max(began.elapsed().saturating_sub(due));
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
    }
    let flush = Instant::now();
    sessions[0].flush().await.unwrap();
    println!(
        "5,000 sessions at 1 KiB/s: {:.2} cores, relay at most {:.0} ms late, a flush {:.0} ms, {:.1} KiB each",
        (cpu() - used) / began.elapsed().as_secs_f64(),
        late.as_secs_f64() * 1000.0,
        flush.elapsed().as_secs_f64() * 1000.0,
        (rss() - before) / 5000.0 / 1024.0,
    );
    println!("  status {:?}", *sessions[7].status().borrow());
    let began = Instant::now();
    drop(sessions);
    drop(service);
    println!("  sealing 5,000: {:.1} s", began.elapsed().as_secs_f64());
}

async fn shell(bench: &Bench) {
    let service = bench.service("shell", |c| {
        c.flush_interval = Duration::from_secs(60);
        c.checkpoint_interval = Duration::from_nanos(1);
        // The clock of the load runs far ahead of the disk.
        c.slow_after = Duration::from_secs(1 << 30);
        c.index = false;
    });
    let sealed = replay(bench, &service, "hour", &shell_hour(3)).await;
    let path = bench.folder.join("shell/hour.cofrec");
    let recording = bench.open(&path);
    let mut cast = Vec::new();
    let options = CastOptions::of(CastVersion::V2);
    export_asciicast(&recording, options, &mut cast).unwrap();
    let mut with_input = Vec::new();
    export_asciicast(&recording, CastOptions { input: true, ..options }, &mut with_input).unwrap();
    let share = |n: usize| 100.0 * sealed.bytes as f64 / n as f64;
    println!(
        "an hour of shell: {} bytes in {} segments; {:.1}% of the asciicast ({} bytes), {:.1}% of one with input",
        sealed.bytes,
        sealed.segments,
        share(cast.len()),
        cast.len(),
        share(with_input.len())
    );
    let keys = std::fs::metadata(recording.key_path()).unwrap().len();
    println!("  key file {keys} bytes");
    build_index(&recording).unwrap();
    println!("  index {} bytes", std::fs::metadata(recording.index_path()).unwrap().len());
    // A day of it.
    let day: Vec<(i64, Event)> = (0..24)
        .flat_map(|h| shell_hour(h + 10).into_iter().map(move |(at, e)| (at + h as i64 * 3_600_000_000, e)))
        .collect();
    let sealed = replay(bench, &service, "day", &day).await;
    let began = Instant::now();
    let recording = bench.open(&bench.folder.join("shell/day.cofrec"));
    let opened = began.elapsed();
    let began = Instant::now();
    for n in 0..20 {
        let from = T0 + n * 4_000_000_000;
        recording.events_from(from).unwrap().next().unwrap().unwrap();
    }
    println!(
        "24 hours: {} bytes, open and unlock {:.1} ms, seek {:.2} ms",
        sealed.bytes,
        opened.as_secs_f64() * 1000.0,
        began.elapsed().as_secs_f64() * 50.0
    );
}

async fn large(bench: &Bench) {
    let service = bench.service("large", |c| {
        c.index = false;
        c.slow_after = Duration::from_secs(1 << 30);
    });
    bench.now.store(T0, Ordering::Relaxed);
    let session = service.start(header("big")).await.unwrap();
    session.record(Event::Resize { channel: 0, cols: 120, rows: 40 }).await.unwrap();
    let mut random = Random(5);
    let blocks: Vec<Bytes> = (0..512).map(|_| terminal_text(&mut random, 8192).into()).collect();
    for n in 0..131_072i64 {
        bench.now.store(T0 + n * 100_000, Ordering::Relaxed);
        let data = blocks[random.below(512) as usize].clone();
        session.record(Event::Output { channel: 0, data }).await.unwrap();
    }
    let sealed = session.finish(End::because("closed")).await.unwrap();
    let path = bench.folder.join("large/big.cofrec");
    let recording = bench.open(&path);
    let began = Instant::now();
    build_index(&recording).unwrap();
    let took = began.elapsed().as_secs_f64();
    println!("index of 1 GiB of output: {took:.1} s ({:.0} MB/s)", sealed.plain_bytes as f64 / MIB / took);
    let began = Instant::now();
    let recording = bench.open(&path);
    let screen = screen_at(&recording, 0, T0 + 131_072 * 50_000).unwrap();
    println!(
        "1 GiB of output ({:.0} MB on disk), frame at its middle: {:.1} ms ({} rows)",
        sealed.bytes as f64 / MIB,
        began.elapsed().as_secs_f64() * 1000.0,
        screen.rows().len()
    );
}

fn proof(bench: &Bench) {
    let path = bench.folder.join("writer-true/w1.cofrec");
    let size = std::fs::metadata(&path).unwrap().len() as f64 / MIB;
    std::fs::read(&path).unwrap();
    let began = Instant::now();
    let report = verify(&path, &bench.signer.public_key(), &[]).unwrap();
    let speed = size / began.elapsed().as_secs_f64();
    let data = vec![7u8; 1 << 20];
    let began = Instant::now();
    for _ in 0..1024 {
        std::hint::black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data));
    }
    let sha = 1024.0 / began.elapsed().as_secs_f64();
    println!(
        "verify: {speed:.0} MB/s, SHA-256 alone {sha:.0} MB/s ({:.0}%), whole: {}",
        100.0 * speed / sha,
        report.is_whole()
    );
}

async fn digest(bench: &Bench) {
    let service = bench.service("digest", |_| ());
    let session = service.start(header("d1")).await.unwrap();
    let mut keeper = StreamKeeper::keeping(session.clone(), 0, Direction::ToPerson, 1 << 20);
    let data = Bytes::from(vec![3u8; 32 * 1024]);
    let (began, before) = (Instant::now(), cpu());
    for n in 0..65_536i64 {
        let now = T0 + n * 30;
        if !keeper.digest_only(&data, now) {
            keeper.record(&data, now).await.unwrap();
        }
    }
    println!(
        "digest mode: {:.2} GiB/s, {:.2} CPU s for each GiB",
        2.0 / began.elapsed().as_secs_f64(),
        (cpu() - before) / 2.0
    );
    keeper.finish().await.unwrap();
}

/// What an hour of shell work shows, without its single keys: what the index is made of, and quick to record.
fn shown_hour(seed: u64) -> Vec<(i64, Event)> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = vec![(0, Event::Resize { channel: 0, cols: 120, rows: 40 })];
    let mut at = 1_000_000i64;
    let put = |at: i64, text: String| (at, Event::Output { channel: 0, data: text.into() });
    while at < 3_600_000_000 {
        let (command, printed) = &outputs()[random.below(outputs().len() as u64) as usize];
        out.push(put(at, "vera@pump-hmi:~$ ".to_owned()));
        out.push((at, Event::Input { channel: 0, data: command.clone().into(), masked: false }));
        out.push(put(at + 2_000, command.clone()));
        out.push((at + 9_000, Event::Input { channel: 0, data: "\r".into(), masked: false }));
        out.push(put(at + 30_000, format!("\r\n{printed}")));
        at += random.below(40_000_000) as i64 + 10_000_000;
    }
    out
}

/// Search over years of work. Synthetic: each recording is an hour of commands and what they printed, recorded and
/// indexed as any other, but without the time between and on a memory file system.
async fn searching(bench: &Bench, hours: u64) {
    let service = bench.service("search", |c| {
        c.flush_interval = Duration::from_secs(60);
        c.slow_after = Duration::from_secs(1 << 30);
    });
    let folder = bench.folder.join("search");
    let began = Instant::now();
    let mut bytes = 0;
    for n in 0..hours {
        let id = format!("h{n:05}");
        let mut events = shown_hour(n);
        for (wanted, text) in [(n % 100 == 7, "systemctl stop pump"), (n == 0, "dd if=firmware.bin")] {
            if wanted {
                events.push((
                    3_700_000_000,
                    Event::Output { channel: 0, data: format!("\r\n{text}\r\n").into() },
                ));
            }
        }
        bench.now.store(T0, Ordering::Relaxed);
        let session = service.start(header(&id)).await.unwrap();
        for (at, event) in events {
            bench.now.store(T0 + at, Ordering::Relaxed);
            session.record(event).await.unwrap();
        }
        session.finish(End::because("closed")).await.unwrap();
        // The indexer is one thread with a bounded queue, and this load runs ahead of it.
        let index = folder.join(format!("{id}.cofidx"));
        while !index.exists() {
            std::thread::sleep(Duration::from_micros(200));
        }
        bytes += std::fs::metadata(index).unwrap().len();
    }
    drop(service);
    let catalogues = std::fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let catalogues = catalogues.filter(|e| e.file_name().to_string_lossy().ends_with(".cofcat"));
    let catalogued: u64 = catalogues.map(|e| e.metadata().unwrap().len()).sum();
    println!(
        "recording and indexing {hours} hours: {:.1} s, {:.1} KiB of index each, {:.1} MiB of catalogue",
        began.elapsed().as_secs_f64(),
        bytes as f64 / 1024.0 / hours as f64,
        catalogued as f64 / MIB
    );
    for (name, text) in [
        ("in one of a hundred", "systemctl stop pump"),
        ("only in the oldest", "dd if=firmware.bin"),
        ("nowhere", "no such text anywhere"),
    ] {
        let query = Query { text: text.into(), ..Query::default() };
        let began = Instant::now();
        let mut first = None;
        let mut hits = 0;
        let searched = search(&folder, &bench.reader, &query, 2, |_| {
            first.get_or_insert(began.elapsed());
            hits += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        println!(
            "search {hours} hours, text {name}: first hit {:?}, all {hits} in {:.0} ms, {} searched, {} skipped",
            first,
            began.elapsed().as_secs_f64() * 1000.0,
            searched.recordings,
            searched.skipped.len()
        );
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let own = arguments.next_if(|a| a == "--folder").and_then(|_| arguments.next()).map(PathBuf::from);
    let hours = arguments.next_if(|a| a == "--hours").and_then(|_| arguments.next()?.parse().ok());
    let parts: Vec<String> = arguments.collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let folder = own.unwrap_or_else(|| std::env::temp_dir().join("cofferdam-recorder-bench"));
    std::fs::remove_dir_all(&folder).ok();
    let bench = Bench {
        folder: folder.clone(),
        signer: Arc::new(CheckpointSigner::generate().unwrap()),
        reader: Identity::generate(),
        now: Arc::new(AtomicI64::new(T0)),
    };
    let memory = Path::new("/dev/shm/cofferdam-recorder-bench");
    std::fs::remove_dir_all(memory).ok();
    // Years of work in a minute: these would wait for the disk most of the time.
    let in_memory = Bench {
        folder: if memory.parent().is_some_and(Path::is_dir) { memory.into() } else { folder.clone() },
        signer: Arc::clone(&bench.signer),
        reader: bench.reader.clone(),
        now: Arc::clone(&bench.now),
    };
    if wanted("shell") {
        shell(&in_memory).await;
    }
    if wanted("writer") {
        writer(&bench).await;
        proof(&bench);
    }
    if wanted("digest") {
        digest(&bench).await;
    }
    if wanted("many") {
        many(&bench).await;
    }
    if wanted("large") {
        large(&bench).await;
    }
    if wanted("search") {
        searching(&in_memory, hours.unwrap_or(10_000)).await;
    }
    if wanted("desktop") {
        desktop::desktop(&in_memory).await;
    }
    if wanted("ocr") {
        ocr::ocr(&in_memory).await;
    }
    std::fs::remove_dir_all(memory).ok();
    std::fs::remove_dir_all(&folder).ok();
}
