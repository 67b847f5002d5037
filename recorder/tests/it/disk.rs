//! Disks that are full, read-only, slow or broken.

use crate::support::*;
use cofferdam_recorder::*;
use std::{
    io,
    path::Path,
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

/// What goes wrong; shared by a folder and its files.
#[derive(Default)]
struct Faults {
    /// An errno for every write; 0 for none.
    append: AtomicI32,
    sync: AtomicI32,
    /// Only files of this ending are concerned by `sync`.
    only_recordings: AtomicBool,
    /// Writes wait while this is set.
    stuck: Mutex<bool>,
    moved: Condvar,
}

impl Faults {
    fn fail(errno: &AtomicI32) -> io::Result<()> {
        match errno.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn stick(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.moved.notify_all();
    }
}

struct FaultyFolder {
    inner: LocalFolder,
    faults: Arc<Faults>,
}

struct FaultyFile {
    inner: Box<dyn SpoolFile>,
    faults: Arc<Faults>,
    recording: bool,
}

impl FaultyFolder {
    fn wrap(&self, inner: io::Result<Box<dyn SpoolFile>>, name: &str) -> io::Result<Box<dyn SpoolFile>> {
        let (faults, recording) = (Arc::clone(&self.faults), name.ends_with(".cofrec"));
        Ok(Box::new(FaultyFile { inner: inner?, faults, recording }))
    }
}

impl Storage for FaultyFolder {
    fn create(&self, name: &str) -> io::Result<Box<dyn SpoolFile>> {
        self.wrap(self.inner.create(name), name)
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn SpoolFile>> {
        self.wrap(self.inner.open(name), name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        Faults::fail(&self.faults.append)?;
        self.inner.replace(name, bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()
    }
    fn sync_everything(&self) -> io::Result<()> {
        Faults::fail(&self.faults.sync)?;
        self.inner.sync_everything()
    }
    fn free(&self) -> io::Result<u64> {
        self.inner.free()
    }
}

impl SpoolFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stuck = self.faults.stuck.lock().unwrap();
        drop(self.faults.moved.wait_while(stuck, |stuck| *stuck).unwrap());
        Faults::fail(&self.faults.append)?;
        self.inner.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()?;
        if self.recording || !self.faults.only_recordings.load(Ordering::SeqCst) {
            Faults::fail(&self.faults.sync)?;
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

fn faulty(world: &World, fail_after: Duration) -> (RecorderService, Arc<Faults>) {
    let mut config = world.config();
    config.fail_after = fail_after;
    config.retry_interval = Duration::from_millis(5);
    let faults = Arc::new(Faults::default());
    let inner = LocalFolder::open(&config.folder).unwrap();
    let folder = FaultyFolder { inner, faults: Arc::clone(&faults) };
    let service =
        RecorderService::open_on(Arc::new(folder), config, Arc::clone(&world.signer), world.clock());
    (service.unwrap(), faults)
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(40);

async fn frozen(session: &SessionRecorder) {
    let is = |status: &Status| matches!(status, Status::Frozen { .. });
    session.status().wait_for(is).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_freezes_and_when_room_returns_nothing_is_lost() {
    for (append, sync) in [(ENOSPC, 0), (0, ENOSPC), (EROFS, 0), (0, EIO)] {
        let world = World::new();
        let (service, faults) = faulty(&world, LONG);
        let session = service.start(header("r1")).await.unwrap();
        session.record(output("before ")).await.unwrap();
        session.flush().await.unwrap();
        faults.append.store(append, Ordering::SeqCst);
        faults.sync.store(sync, Ordering::SeqCst);
        session.record(output("during ")).await.unwrap();
        frozen(&session).await;
        assert!(!service.health().accepts_sessions());
        assert!(matches!(service.start(header("r2")).await, Err(RecordError::Frozen { .. })));
        // Nothing is accepted while it is frozen.
        let waiting = session.record(output("after"));
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(30), waiting.as_mut()).await;
        assert!(early.is_err(), "accepted while frozen");
        faults.append.store(0, Ordering::SeqCst);
        faults.sync.store(0, Ordering::SeqCst);
        waiting.await.unwrap();
        assert_eq!(*session.status().borrow(), Status::Healthy);
        assert!(service.health().last_error.is_some());
        session.finish(End::because("closed")).await.unwrap();
        assert_eq!(all_output(&world.events("r1")), b"before during after");
        assert!(world.verify("r1").is_whole());
    }
}

#[tokio::test]
async fn a_full_disk_that_stays_full_ends_every_session_and_the_rest_is_recovered() {
    let world = World::new();
    let (service, faults) = faulty(&world, SHORT);
    let session = service.start(header("r1")).await.unwrap();
    let idle = service.start(header("r2")).await.unwrap();
    session.record(output("durable ")).await.unwrap();
    session.flush().await.unwrap();
    faults.append.store(ENOSPC, Ordering::SeqCst);
    session.record(output("lost")).await.unwrap();
    let failed = |status: &Status| matches!(status, Status::Failed { .. });
    session.status().wait_for(failed).await.unwrap();
    idle.status().wait_for(failed).await.unwrap();
    let refused = session.record(output("more")).await.unwrap_err();
    assert!(refused.why.contains("refuses data"), "{refused}");
    assert!(session.finish(End::because("recorder")).await.is_err());
    assert_eq!(service.health().waiting, 0);
    assert!(service.start(header("r3")).await.is_err());
    faults.append.store(0, Ordering::SeqCst);
    while service.health().frozen.is_some() {
        tokio::task::yield_now().await;
    }
    let next = service.start(header("r4")).await.unwrap();
    next.record(output("again")).await.unwrap();
    next.finish(End::because("closed")).await.unwrap();
    drop((session, idle, next, service));
    let recovered = world.service().recover();
    assert_eq!(recovered.len(), 2, "{recovered:?}");
    assert_eq!(all_output(&world.events("r1")), b"durable ");
    for id in ["r1", "r2", "r4"] {
        assert!(world.verify(id).is_whole(), "{id}");
    }
    assert!(world.verify("r1").seal.unwrap().recovered);
}

#[tokio::test]
async fn one_broken_file_ends_its_own_session_only() {
    let world = World::new();
    let (service, faults) = faulty(&world, LONG);
    faults.only_recordings.store(true, Ordering::SeqCst);
    let (broken, other) =
        (service.start(header("r1")).await.unwrap(), service.start(header("r2")).await.unwrap());
    faults.sync.store(EIO, Ordering::SeqCst);
    broken.record(output(&"x".repeat(100_000))).await.unwrap();
    assert!(broken.flush().await.is_err());
    assert!(matches!(*broken.status().borrow(), Status::Failed { .. }));
    faults.sync.store(0, Ordering::SeqCst);
    other.record(output("fine")).await.unwrap();
    other.finish(End::because("closed")).await.unwrap();
    assert!(world.verify("r2").is_whole());
}

#[tokio::test]
async fn a_disk_that_hangs_freezes_before_more_is_accepted() {
    let world = World::new();
    let (service, faults) = faulty(&world, LONG);
    let session = service.start(header("r1")).await.unwrap();
    faults.stick(true);
    session.record(output("a")).await.unwrap();
    world.pass(4_000_000);
    let waiting = session.record(output("b"));
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(30), waiting.as_mut()).await.is_err());
    assert!(matches!(*session.status().borrow(), Status::Frozen { .. }));
    faults.stick(false);
    waiting.await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(all_output(&world.events("r1")), b"ab");
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes() {
    let world = World::new();
    let (service, faults) = faulty(&world, LONG);
    let session = service.start(header("r1")).await.unwrap();
    faults.stick(true);
    let mut accepted = 0usize;
    let block = output(&"y".repeat(60_000));
    while let Ok(done) = tokio::time::timeout(Duration::from_millis(50), session.record(block.clone())).await
    {
        done.unwrap();
        accepted += 60_000;
    }
    assert!(accepted > 3 << 20 && accepted <= 4 << 20, "{accepted}");
    assert!(service.health().waiting <= (4 << 20) + 1000);
    faults.stick(false);
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(all_output(&world.events("r1")).len(), accepted);
    assert_eq!(service.health().waiting, 0);
}

#[tokio::test]
async fn too_little_free_space_refuses_new_sessions_early() {
    let world = World::new();
    let mut config = world.config();
    config.low_space = u64::MAX;
    let service = world.service_with(config);
    assert!(!service.health().accepts_sessions());
    assert!(matches!(service.start(header("r1")).await, Err(RecordError::LowSpace { .. })));
    assert!(!world.path("r1").exists());
}

#[tokio::test]
async fn a_corrupt_recording_keeps_no_other_from_being_closed_or_listed() {
    let world = World::new();
    let service = world.service();
    let (one, two) = (service.start(header("r1")).await.unwrap(), service.start(header("r2")).await.unwrap());
    one.record(output("1")).await.unwrap();
    two.record(output("2")).await.unwrap();
    one.finish(End::because("closed")).await.unwrap();
    two.flush().await.unwrap();
    // As a crash leaves it: the second is copied before it is sealed.
    let folder = world.dir.path().join("rec");
    let saved = world.dir.path().join("saved");
    std::fs::create_dir(&saved).unwrap();
    for name in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()) {
        std::fs::copy(folder.join(&name), saved.join(&name)).unwrap();
    }
    drop((one, two, service));
    std::fs::write(saved.join("bad.cofrec"), b"COFFREC\0garbage").unwrap();
    std::fs::write(saved.join("worse.cofrec"), b"").unwrap();
    let mut config = world.config();
    config.folder = saved.clone();
    let recovered = world.service_with(config).recover();
    let closed = |r: &&Recovered| matches!(r.outcome, RecoveryOutcome::Closed { from_journal: 1, .. });
    assert_eq!(recovered.iter().filter(closed).map(|r| r.name.as_str()).collect::<Vec<_>>(), ["r2"]);
    assert_eq!(recovered.len(), 3);
    let listed = list(&saved).unwrap();
    assert_eq!(listed.iter().filter(|f| f.listed.is_ok()).count(), 2);
    assert_eq!(listed.len(), 4);
    let report = verify(&saved.join("r2.cofrec"), &world.signer.public_key(), &[]).unwrap();
    assert!(report.is_whole() && report.recovered_from.is_some(), "{report:?}");
}

/// A small memory disk, unmounted when dropped; absent where the test may not mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn a_really_full_disk_freezes_and_goes_on_when_room_is_made() {
    let Some(disk) = SmallDisk::new("2m") else {
        eprintln!("not run: mounting a small disk needs root");
        return;
    };
    let world = World::new();
    let mut config = world.config();
    config.folder = disk.path().join("rec");
    // What is accepted must fit once the ballast is gone.
    config.queue_bytes = 200_000;
    config.retry_interval = Duration::from_millis(5);
    let service = world.service_with(config);
    let session = service.start(header("r1")).await.unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1_000_000]).unwrap();
    let mut sent = Vec::new();
    let mut status = session.status();
    let mut random = 1u64;
    // Noise, so that it does not shrink; until the disk is full.
    while !matches!(*status.borrow_and_update(), Status::Frozen { .. }) {
        let noise: Vec<u8> = (0..20_000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        let event = Event::Output { channel: 0, data: noise.clone().into() };
        let mut recording = std::pin::pin!(session.record(event));
        tokio::select! {
            done = &mut recording => done.unwrap(),
            () = async { status.wait_for(|s| matches!(s, Status::Frozen { .. })).await.map(drop).unwrap() } => {
                std::fs::remove_file(&ballast).unwrap();
                recording.await.unwrap();
                sent.extend_from_slice(&noise);
                break;
            }
        }
        sent.extend_from_slice(&noise);
    }
    std::fs::remove_file(&ballast).ok();
    session.status().wait_for(|s| *s == Status::Healthy).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    let path = disk.path().join("rec/r1.cofrec");
    let mut recording = Recording::open(&path).unwrap();
    recording.unlock(&world.reader).unwrap();
    let events: Vec<_> = recording.events().unwrap().map(Result::unwrap).collect();
    assert!(all_output(&events) == sent);
    assert!(verify(&path, &world.signer.public_key(), &[]).unwrap().is_whole());
}
