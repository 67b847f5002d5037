//! Recordings on their way to an object store that fails in every way it can.

use crate::{faulty_store::FaultyStore, support::*};
use cofferdam_recorder::*;
use object_store::{ObjectStoreExt, path::Path as Name};
use proptest::prelude::*;
use std::{
    os::unix::fs::PermissionsExt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A recorder, a store, and what ships from one to the other.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) store: FaultyStore,
    pub(crate) config: UploadConfig,
}

const PART: u64 = 100_000;
pub(crate) const MINUTE: i64 = 60_000_000;

impl Site {
    pub(crate) fn new() -> Self {
        let config =
            UploadConfig { part_bytes: PART, part_interval: Duration::from_secs(60), spool_bytes: 1 << 30 };
        Self { world: World::new(), store: FaultyStore::default(), config }
    }

    pub(crate) fn remote(&self) -> RemoteStore {
        let store = Arc::new(self.store.clone());
        RemoteStore::on(store, "plant/a").unwrap().with_timeout(Duration::from_millis(200))
    }

    pub(crate) fn uploader(&self, service: &RecorderService) -> Uploader {
        Uploader::new(service, self.remote(), self.config.clone(), Arc::new(|| 1.0))
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::new(self.remote(), self.world.dir.path().join("copies"), 10 << 20)
    }

    pub(crate) fn local_files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.world.dir.path().join("rec")).unwrap();
        let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock" && !name.ends_with(".cofjrn"));
        names.sort();
        names
    }

    /// What stands in the store proves itself, and its output is this.
    async fn assert_archived(&self, id: &str, sent: &[u8]) {
        let path = self.archive().fetch(&id.parse().unwrap()).await.unwrap();
        let mut recording = Recording::open(&path).unwrap();
        recording.unlock(&self.world.reader).unwrap();
        let events: Vec<_> = recording.events().unwrap().map(Result::unwrap).collect();
        assert!(all_output(&events) == sent, "{id} came back different");
        let report = verify(&path, &self.world.signer.public_key(), &[]).unwrap();
        assert!(report.is_whole(), "{:?}", report.problems);
    }
}

/// `blocks` times 65,536 bytes that do not compress; each is made durable.
pub(crate) async fn send(session: &SessionRecorder, blocks: usize, sent: &mut Vec<u8>) {
    for _ in 0..blocks {
        let noise: Vec<u8> = std::iter::repeat_with(rand_byte).take(65_536).collect();
        session.record(Event::Output { channel: 0, data: noise.clone().into() }).await.unwrap();
        session.flush().await.unwrap();
        sent.extend_from_slice(&noise);
    }
}

fn rand_byte() -> u8 {
    use std::sync::atomic::AtomicU64;
    static STATE: AtomicU64 = AtomicU64::new(7);
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8
}

pub(crate) async fn finish(session: SessionRecorder) {
    session.finish(End::because("closed")).await.unwrap();
}

#[tokio::test]
async fn a_live_session_is_shipped_as_it_grows_and_leaves_the_machine_once_it_is_sealed_and_proven() {
    let site = Site::new();
    let service = site.world.service();
    let uploader = site.uploader(&service);
    let session = service.start(header("r1")).await.unwrap();
    let mut sent = Vec::new();
    send(&session, 4, &mut sent).await;
    let round = uploader.round().await;
    assert!(round.failures.is_empty() && round.parts == 2, "{round:?}");
    // Less than a part waits until its time has come.
    assert_eq!(uploader.round().await.parts, 0);
    send(&session, 1, &mut sent).await;
    assert_eq!(uploader.round().await.parts, 0);
    site.world.pass(MINUTE);
    assert_eq!(uploader.round().await.parts, 1);
    assert_eq!(uploader.round().await.parts, 0);
    assert!(site.archive().list().await.unwrap().is_empty(), "it is not whole yet");
    send(&session, 1, &mut sent).await;
    finish(session).await;
    let sealed = site.world.verify("r1");
    let round = uploader.round().await;
    assert_eq!(round.finished, ["r1".parse().unwrap()], "{round:?}");
    assert_eq!(site.local_files(), [] as [&str; 0]);
    let listed = site.archive().list().await.unwrap();
    let (id, archived) = &listed[0];
    let archived = archived.as_ref().unwrap();
    assert_eq!((id.as_str(), listed.len()), ("r1", 1));
    assert_eq!((archived.header.user.as_str(), archived.seal.end.reason.as_str()), ("vera", "closed"));
    site.assert_archived("r1", &sent).await;
    let path = site.archive().fetch(id).await.unwrap();
    assert_eq!(
        verify(&path, &site.world.signer.public_key(), &site.world.anchors()).unwrap().digest,
        sealed.digest
    );
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // Nothing is left to do, and nothing is done.
    let puts = site.store.parts_put();
    assert!(uploader.round().await.finished.is_empty());
    assert_eq!(site.store.parts_put(), puts);
}

#[tokio::test]
async fn the_index_goes_along() {
    let site = Site::new();
    let mut config = site.world.config();
    config.index = true;
    let service = site.world.service_with(config);
    let session = service.start(header("r1")).await.unwrap();
    session.record(output("find the needle\r\n")).await.unwrap();
    finish(session).await;
    let uploader = site.uploader(&service);
    while uploader.round().await.finished.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let path = site.archive().fetch(&"r1".parse().unwrap()).await.unwrap();
    assert!(path.with_extension("cofidx").exists());
    // The catalogue, which is of all recordings, stays.
    let left = site.local_files();
    assert!(left.iter().all(|name| name.ends_with(".cofcat")), "{left:?}");
}

#[tokio::test]
async fn a_start_after_a_crash_goes_on_where_the_store_ends() {
    let site = Site::new();
    let mut sent = Vec::new();
    {
        let service = site.world.service();
        let session = service.start(header("r1")).await.unwrap();
        send(&session, 8, &mut sent).await;
        *site.store.faults.puts_left.lock().unwrap() = Some(2);
        let round = site.uploader(&service).round().await;
        assert_eq!((round.parts, round.failures.len()), (2, 1), "{round:?}");
        // As a crash leaves it: neither sealed nor told.
        let folder = site.world.dir.path().join("rec");
        let saved = site.world.dir.path().join("saved");
        std::fs::rename(&folder, &saved).unwrap();
        drop((session, service));
        std::fs::remove_dir_all(&folder).ok();
        std::fs::rename(&saved, &folder).unwrap();
        let path = site.world.path("r1");
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = find_index_segment(&bytes) {
            bytes.truncate(at);
        }
        std::fs::write(&path, bytes).unwrap();
    }
    *site.store.faults.puts_left.lock().unwrap() = None;
    let service = site.world.service();
    assert_eq!(service.recover().len(), 1);
    let uploader = site.uploader(&service);
    let round = uploader.round().await;
    assert_eq!(round.finished.len(), 1, "{round:?}");
    let puts = site.store.faults.puts.lock().unwrap().clone();
    let firsts = puts.iter().filter(|name| name.ends_with("recording-000001.part")).count();
    assert_eq!(firsts, 1, "what the store had was stored again: {puts:?}");
    site.assert_archived("r1", &sent).await;
}

/// Where the clear-text end of a sealed recording begins.
fn find_index_segment(bytes: &[u8]) -> Option<usize> {
    let footer = bytes.len().checked_sub(24)?;
    bytes[footer..].starts_with(b"COFFEND\0").then(|| {
        usize::try_from(u64::from_le_bytes(bytes[footer + 8..footer + 16].try_into().unwrap())).unwrap()
    })
}

#[tokio::test]
async fn a_file_that_a_crash_cut_behind_what_was_shipped_replaces_it() {
    let site = Site::new();
    let mut sent = Vec::new();
    let service = site.world.service();
    let session = service.start(header("r1")).await.unwrap();
    send(&session, 2, &mut sent).await;
    let short = std::fs::read(site.world.path("r1")).unwrap();
    let mut more = sent.clone();
    send(&session, 6, &mut more).await;
    assert!(site.uploader(&service).round().await.parts >= 3);
    drop((session, service));
    // A disk that lied about what is durable: the file comes back shorter than what the store has.
    std::fs::write(site.world.path("r1"), short).unwrap();
    let service = site.world.service();
    assert_eq!(service.recover().len(), 1);
    let round = site.uploader(&service).round().await;
    assert_eq!(round.finished.len(), 1, "{round:?}");
    site.assert_archived("r1", &sent).await;
    let names = site.store.names().await;
    assert!(!names.iter().any(|name| name.ends_with("recording-000003.part")), "{names:?}");
}

#[tokio::test]
async fn a_part_that_is_lost_or_altered_is_found_and_stored_again() {
    for (flips, loses) in [(1, 0), (0, 1), (2, 0), (1, 1)] {
        let site = Site::new();
        let service = site.world.service();
        let uploader = site.uploader(&service);
        let session = service.start(header("r1")).await.unwrap();
        let mut sent = Vec::new();
        send(&session, 4, &mut sent).await;
        site.store.faults.flips.store(flips, Ordering::SeqCst);
        site.store.faults.loses.store(loses, Ordering::SeqCst);
        uploader.round().await;
        finish(session).await;
        let round = uploader.round().await;
        assert_eq!(round.finished.len(), 1, "{round:?}");
        site.assert_archived("r1", &sent).await;
    }
}

#[tokio::test]
async fn a_store_that_goes_on_losing_parts_never_gets_the_spool_removed() {
    for lose in [true, false] {
        let site = Site::new();
        let service = site.world.service();
        let uploader = site.uploader(&service);
        let session = service.start(header("r1")).await.unwrap();
        let mut sent = Vec::new();
        send(&session, 3, &mut sent).await;
        finish(session).await;
        let bad = if lose { &site.store.faults.loses } else { &site.store.faults.flips };
        bad.store(usize::MAX, Ordering::SeqCst);
        for _ in 0..3 {
            let round = uploader.round().await;
            assert!(round.finished.is_empty());
            assert!(matches!(round.failures[0], (Some(_), RemoteError::Altered { .. })), "{round:?}");
        }
        // It counts as not stored at all.
        uploader.watch();
        let size = std::fs::metadata(site.world.path("r1")).unwrap().len();
        assert_eq!(service.health().backlog.unwrap().bytes, size);
        assert!(site.archive().list().await.unwrap().is_empty(), "it has no manifest");
        assert!(site.world.verify("r1").is_whole());
        bad.store(0, Ordering::SeqCst);
        assert_eq!(uploader.round().await.finished.len(), 1);
        site.assert_archived("r1", &sent).await;
    }
}

#[tokio::test]
async fn a_store_that_is_down_or_hangs_is_tried_again_ever_more_slowly_and_nothing_is_lost() {
    for hangs in [false, true] {
        let site = Site::new();
        let service = site.world.service();
        let uploader = site.uploader(&service);
        let session = service.start(header("r1")).await.unwrap();
        let mut sent = Vec::new();
        send(&session, 3, &mut sent).await;
        let fault = if hangs { &site.store.faults.hangs } else { &site.store.faults.down };
        fault.store(true, Ordering::SeqCst);
        assert_eq!(uploader.pause(), Duration::from_secs(1));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let round = uploader.round().await;
            let said = round.failures[0].1.to_string();
            assert!(said.contains(if hangs { "no answer in time" } else { "500" }), "{said}");
            pauses.push(uploader.pause());
        }
        assert!(pauses.is_sorted() && pauses[0] == Duration::from_secs(2), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&Duration::from_secs(60)));
        assert!(service.health().last_error.is_some());
        // The session does not notice: the disk is what counts.
        send(&session, 1, &mut sent).await;
        finish(session).await;
        fault.store(false, Ordering::SeqCst);
        assert_eq!(uploader.round().await.finished.len(), 1);
        assert_eq!(uploader.pause(), Duration::from_secs(1));
        site.assert_archived("r1", &sent).await;
    }
}

/// A site whose store is down, and a session that has recorded more than may wait.
async fn overfull(
    site: &mut Site,
    fail_after: Duration,
) -> (RecorderService, Uploader, SessionRecorder, Vec<u8>) {
    site.config.spool_bytes = 300_000;
    let mut config = site.world.config();
    config.fail_after = fail_after;
    let service = site.world.service_with(config);
    let uploader = site.uploader(&service);
    site.store.faults.down.store(true, Ordering::SeqCst);
    let session = service.start(header("r1")).await.unwrap();
    let mut sent = Vec::new();
    send(&session, 4, &mut sent).await;
    uploader.round().await;
    uploader.watch();
    assert_eq!(*session.status().borrow(), Status::Healthy);
    // Three quarters: new sessions are refused, those there are go on.
    assert!(!service.health().accepts_sessions());
    assert!(matches!(service.start(header("r2")).await, Err(RecordError::Backlog { .. })));
    send(&session, 2, &mut sent).await;
    uploader.watch();
    (service, uploader, session, sent)
}

#[tokio::test]
async fn too_much_that_waits_freezes_and_goes_on_once_the_store_takes_it() {
    let mut site = Site::new();
    let (service, uploader, session, mut sent) = overfull(&mut site, Duration::from_secs(600)).await;
    let Status::Frozen { why, .. } = session.status().borrow().clone() else { panic!("not frozen") };
    assert!(why.contains("object store") && why.contains("500"), "{why}");
    assert!(service.health().frozen.is_some());
    assert!(matches!(service.start(header("r2")).await, Err(RecordError::Frozen { .. })));
    let waiting = session.record(output("after"));
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), waiting.as_mut()).await;
    assert!(early.is_err(), "accepted while frozen");
    site.store.faults.down.store(false, Ordering::SeqCst);
    uploader.round().await;
    uploader.watch();
    waiting.await.unwrap();
    sent.extend_from_slice(b"after");
    assert_eq!(*session.status().borrow(), Status::Healthy);
    assert!(service.health().accepts_sessions());
    finish(session.clone()).await;
    assert_eq!(uploader.round().await.finished.len(), 1);
    site.assert_archived("r1", &sent).await;
}

#[tokio::test]
async fn too_much_that_goes_on_waiting_ends_the_session_which_is_still_sealed_and_shipped_later() {
    let mut site = Site::new();
    let (service, uploader, session, sent) = overfull(&mut site, Duration::from_secs(20)).await;
    site.world.pass(19_000_000);
    uploader.watch();
    assert!(matches!(*session.status().borrow(), Status::Frozen { .. }));
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.record(output("never")).await }
    });
    site.world.pass(1_000_000);
    tokio::task::yield_now().await;
    uploader.watch();
    assert!(matches!(*session.status().borrow(), Status::Failed { .. }));
    assert!(waiting.await.unwrap().is_err());
    finish(session).await;
    assert!(site.world.verify("r1").is_whole());
    assert!(matches!(service.start(header("r2")).await, Err(RecordError::Frozen { .. })));
    site.store.faults.down.store(false, Ordering::SeqCst);
    uploader.round().await;
    uploader.watch();
    site.assert_archived("r1", &sent).await;
    let next = service.start(header("r2")).await.unwrap();
    next.record(output("again")).await.unwrap();
    finish(next).await;
}

#[tokio::test]
async fn a_damaged_file_stays_here_and_keeps_no_other_back() {
    let site = Site::new();
    let service = site.world.service();
    std::fs::write(site.world.path("bad"), b"COFFREC\0garbage").unwrap();
    let session = service.start(header("r1")).await.unwrap();
    session.record(output("fine")).await.unwrap();
    finish(session).await;
    let uploader = site.uploader(&service);
    let round = uploader.round().await;
    assert!(round.failures.is_empty(), "{round:?}");
    assert_eq!(round.finished, ["r1".parse().unwrap()]);
    assert_eq!(site.local_files(), ["bad.cofrec"]);
    uploader.watch();
    assert_eq!(service.health().backlog.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_server_without_conditional_puts_is_looked_at_first() {
    let site = Site::new();
    site.store.faults.unconditional.store(true, Ordering::SeqCst);
    let service = site.world.service();
    let session = service.start(header("r1")).await.unwrap();
    let mut sent = Vec::new();
    send(&session, 3, &mut sent).await;
    finish(session).await;
    // Somebody else's part of that name is replaced.
    site.store.inner.put(&Name::from("plant/a/r1/recording-000001.part"), "strange".into()).await.unwrap();
    assert_eq!(site.uploader(&service).round().await.finished.len(), 1);
    site.assert_archived("r1", &sent).await;
}

#[tokio::test]
async fn a_hold_goes_along_and_beats_deletion() {
    let site = Site::new();
    let service = site.world.service();
    let id: RecordingId = "r1".parse().unwrap();
    let session = service.start(header("r1")).await.unwrap();
    finish(session).await;
    hold(&site.world.path("r1"), "case 7").unwrap();
    assert_eq!(site.uploader(&service).round().await.finished.len(), 1);
    assert_eq!(site.local_files(), [] as [&str; 0]);
    let archive = site.archive();
    assert_eq!(archive.hold_of(&id).await.unwrap().as_deref(), Some("case 7"));
    assert!(matches!(archive.delete(&id).await, Err(RemoteError::Held(_))));
    archive.lift_hold(&id).await.unwrap();
    archive.lift_hold(&id).await.unwrap();
    archive.fetch(&id).await.unwrap();
    archive.delete(&id).await.unwrap();
    assert_eq!(site.store.names().await, [] as [&str; 0]);
    assert!(matches!(archive.fetch(&id).await, Err(RemoteError::Unknown(_))));
    assert!(matches!(archive.delete(&id).await, Err(RemoteError::Unknown(_))));
    let copies = std::fs::read_dir(site.world.dir.path().join("copies")).unwrap().count();
    assert_eq!(copies, 0);
}

#[tokio::test]
async fn what_a_store_returns_is_held_against_the_manifest_and_copies_are_bounded() {
    let site = Site::new();
    let service = site.world.service();
    for id in ["r1", "r2", "r3"] {
        let session = service.start(header(id)).await.unwrap();
        send(&session, 4, &mut Vec::new()).await;
        finish(session).await;
    }
    assert_eq!(site.uploader(&service).round().await.finished.len(), 3);
    let copies = site.world.dir.path().join("copies");
    let archive = Archive::new(site.remote(), copies.clone(), 600_000);
    for id in ["r1", "r2", "r3"] {
        archive.fetch(&id.parse().unwrap()).await.unwrap();
        let used: u64 =
            std::fs::read_dir(&copies).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(used < 600_000, "{used}");
    }
    assert!(!copies.join("r1.cofrec").exists() && copies.join("r3.cofrec").exists());
    site.store.damage("plant/a/r1/recording-000002.part").await;
    let refused = archive.fetch(&"r1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(&refused, RemoteError::Altered { name, .. } if name.contains("000002")), "{refused}");
    assert!(!copies.join("r1.cofrec").exists());
    // A copy that somebody changed is fetched anew.
    let path = archive.fetch(&"r3".parse().unwrap()).await.unwrap();
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, vec![0; good.len()]).unwrap();
    assert!(std::fs::read(archive.fetch(&"r3".parse().unwrap()).await.unwrap()).unwrap() == good);
    site.store.damage("plant/a/r2/manifest.json").await;
    let listed = archive.list().await.unwrap();
    let good: Vec<bool> = listed.iter().map(|(_, archived)| archived.is_ok()).collect();
    assert_eq!(good.len(), 3);
    assert!(good[0] && good[2]);
}

#[tokio::test]
async fn side_files_that_a_crash_left_behind_are_removed() {
    let site = Site::new();
    let service = site.world.service();
    for id in ["r1", "r2"] {
        finish(service.start(header(id)).await.unwrap()).await;
    }
    let keys = site.world.path("r1").with_extension("cofkeys");
    let saved = std::fs::read(&keys).unwrap();
    let uploader = site.uploader(&service);
    assert_eq!(uploader.round().await.finished.len(), 2);
    std::fs::write(&keys, saved).unwrap();
    let unknown = keys.with_file_name("unknown.cofkeys");
    std::fs::write(&unknown, b"of a recording that the store does not have").unwrap();
    uploader.round().await;
    assert_eq!(site.local_files(), ["unknown.cofkeys"]);
}

/// What may happen between two rounds.
#[derive(Debug, Clone)]
enum Happening {
    Record(usize),
    Finish,
    Flip(usize),
    Lose(usize),
    StopAfter(usize),
    Down(bool),
    Damage(usize),
    Restart,
    Minute,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1usize..4).prop_map(Happening::Record),
        1 => Just(Happening::Finish),
        1 => (1usize..3).prop_map(Happening::Flip),
        1 => (1usize..3).prop_map(Happening::Lose),
        2 => (0usize..4).prop_map(Happening::StopAfter),
        1 => any::<bool>().prop_map(Happening::Down),
        1 => (0usize..8).prop_map(Happening::Damage),
        1 => Just(Happening::Restart),
        2 => Just(Happening::Minute),
    ]
}

async fn whatever_happens(happenings: Vec<Happening>) {
    let site = Site::new();
    let mut service = site.world.service();
    let mut uploader = site.uploader(&service);
    let mut session = Some(service.start(header("r1")).await.unwrap());
    let mut sent = Vec::new();
    for happening in happenings {
        match happening {
            Happening::Record(blocks) => {
                if let Some(session) = &session {
                    send(session, blocks, &mut sent).await;
                }
            }
            Happening::Finish => {
                if let Some(session) = session.take() {
                    finish(session).await;
                }
            }
            Happening::Flip(n) => site.store.faults.flips.store(n, Ordering::SeqCst),
            Happening::Lose(n) => site.store.faults.loses.store(n, Ordering::SeqCst),
            Happening::StopAfter(n) => *site.store.faults.puts_left.lock().unwrap() = Some(n),
            Happening::Down(down) => site.store.faults.down.store(down, Ordering::SeqCst),
            Happening::Damage(n) => {
                // Only while the recording is here: what is damaged later no uploader can mend.
                let parts: Vec<_> =
                    site.store.names().await.into_iter().filter(|n| n.ends_with(".part")).collect();
                if let Some(part) = parts.get(n).filter(|_| site.world.path("r1").exists()) {
                    site.store.damage(part).await;
                }
            }
            Happening::Restart => {
                drop((session.take(), uploader, service));
                service = site.world.service();
                service.recover();
                uploader = site.uploader(&service);
            }
            Happening::Minute => site.world.pass(MINUTE),
        }
        uploader.round().await;
        if !site.world.path("r1").exists() {
            site.store.faults.down.store(false, Ordering::SeqCst);
            site.assert_archived("r1", &sent).await;
        }
    }
    if let Some(session) = session.take() {
        finish(session).await;
    }
    site.store.faults.down.store(false, Ordering::SeqCst);
    *site.store.faults.puts_left.lock().unwrap() = None;
    for _ in 0..10 {
        uploader.round().await;
    }
    assert!(!site.world.path("r1").exists(), "it was never shipped");
    site.assert_archived("r1", &sent).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn at_any_moment_a_recording_is_whole_here_or_there(happenings in prop::collection::vec(happening(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(whatever_happens(happenings));
    }
}
