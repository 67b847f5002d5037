//! One session: what goes in comes out, to those who may see it.

use crate::support::*;
use bytes::Bytes;
use cofferdam_recorder::*;
use proptest::prelude::*;

fn one_of_each() -> Vec<Event> {
    vec![
        Event::ChannelOpen { channel: 0, what: r#"{"kind":"shell"}"#.into() },
        Event::Resize { channel: 0, cols: 80, rows: 24 },
        output("hello\r\n"),
        Event::Stderr { channel: 0, data: Bytes::from_static(b"oops") },
        Event::Input { channel: 0, data: Bytes::from_static(b"ls\r"), masked: false },
        Event::Notice { text: "your window ends in five minutes".into() },
        Event::Suspend { by: "olga".into() },
        Event::Resume { by: "olga".into() },
        Event::File(Box::new(FileOp {
            channel: 1,
            file: 7,
            op: "upload".into(),
            path: "/etc/motd".into(),
            target: None,
            direction: Some(Direction::ToTarget),
            size: 3,
            file_size: None,
            sha256: Some("00".repeat(32)),
            outcome: "done".into(),
            note: String::new(),
        })),
        Event::FileContent { file: 7, offset: 0, data: Bytes::from_static(b"abc") },
        Event::Forward(Box::new(Forward {
            channel: 2,
            kind: "local".into(),
            host: "plc-7".into(),
            port: 502,
            origin: "127.0.0.1:4000".into(),
            refused: Some("no conduit".into()),
        })),
        Event::Finding(Box::new(Finding {
            trigger: "mass-delete".into(),
            severity: "high".into(),
            text: "rm -rf".into(),
            response: "suspend".into(),
        })),
        Event::Decision(Box::new(Decision {
            action: "ssh.shell".into(),
            allowed: true,
            policies: vec!["p1".into()],
            reasons: vec![],
        })),
        Event::Operation(Box::new(Operation {
            channel: 3,
            direction: Direction::ToTarget,
            protocol: "modbus".into(),
            what: "write 100 = 5".into(),
            refused: None,
        })),
        Event::StreamDigest(StreamDigest {
            channel: 4,
            direction: Direction::ToPerson,
            bytes: u64::MAX,
            sha256: [9; 32],
            since: 5,
            last: true,
        }),
        Event::AuditAnchor(Box::new(AuditAnchor { entry: 12, hash: "ff".into() })),
        Event::KeyFrame { channel: 5, width: 1280, height: 800 },
        Event::Tiles { channel: 5, more: true, data: Bytes::from_static(b"tiles") },
        Event::Pointer { channel: 5, x: 70, y: 8191, buttons: 3 },
        Event::PointerShape { channel: 5, data: Bytes::from_static(b"\x01") },
        Event::Keyboard { channel: 5, layout: 0x0001_0407 },
        Event::Clipboard(Box::new(Clipboard {
            channel: 5,
            direction: Direction::ToPerson,
            format: "text".into(),
            size: 9,
            refused: Some("not allowed".into()),
        })),
        Event::ChannelClose { channel: 0, exit: Some(-1) },
        Event::ChannelClose { channel: 1, exit: None },
    ]
}

#[tokio::test]
async fn every_kind_of_event_comes_back_as_it_was_with_its_time() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    for event in one_of_each() {
        world.pass(1500);
        session.record(event).await.unwrap();
    }
    let sealed = session.finish(End::because("closed")).await.unwrap();
    let events = world.events("r1");
    let (last, rest) = events.split_last().unwrap();
    assert_eq!(rest.iter().map(|e| e.event.clone()).collect::<Vec<_>>(), one_of_each());
    assert_eq!(last.event, Event::End(Box::new(End::because("closed"))));
    assert!(rest.iter().enumerate().all(|(n, e)| e.at == T0 + 1500 * (n as i64 + 1)));
    let report = world.verify("r1");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.digest, sealed.digest);
    assert_eq!(sealed.events, events.len() as u64);
    assert_eq!(report.bytes, sealed.bytes);
    assert_eq!(report.segments, sealed.segments);
    assert!(session.record(output("late")).await.is_err());
    assert!(session.finish(End::because("again")).await.is_err());
}

#[tokio::test]
async fn masked_input_shows_only_to_those_who_may_reveal() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    let secret = Bytes::from_static(b"hunter2-hunter2");
    session.record(Event::Input { channel: 0, data: secret.clone(), masked: true }).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(world.events("r1")[0].event, Event::MaskedInput { channel: 0, len: 15 });
    let mut recording = Recording::open(world.path("r1")).unwrap();
    recording.unlock(&world.revealer).unwrap();
    let seen = recording.events().unwrap().next().unwrap().unwrap().event;
    assert_eq!(seen, Event::Input { channel: 0, data: secret, masked: true });
    assert!(matches!(recording.unlock(&Identity::generate()), Err(ReadError::NotARecipient)));
}

#[tokio::test]
async fn without_a_reveal_recipient_masked_input_is_not_kept() {
    let world = World::new();
    let mut config = world.config();
    config.recipients.reveal.clear();
    let session = world.service_with(config).start(header("r1")).await.unwrap();
    let data = Bytes::from_static(b"secret");
    session.record(Event::Input { channel: 0, data, masked: true }).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(world.events("r1")[0].event, Event::MaskedInput { channel: 0, len: 6 });
}

#[tokio::test]
async fn adding_and_removing_readers_leaves_the_recording_untouched() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    session.record(output("x")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    let before = std::fs::read(world.path("r1")).unwrap();
    let fresh = Identity::generate();
    let to = Recipients { read: vec![fresh.recipient()], reveal: vec![] };
    rewrap(&world.path("r1"), &world.reader, &to).unwrap();
    assert_eq!(std::fs::read(world.path("r1")).unwrap(), before);
    assert!(world.verify("r1").is_whole());
    let mut recording = Recording::open(world.path("r1")).unwrap();
    assert!(matches!(recording.unlock(&world.reader), Err(ReadError::NotARecipient)));
    recording.unlock(&fresh).unwrap();
    assert_eq!(recording.events().unwrap().count(), 2);
    let none = Recipients::default();
    assert!(rewrap(&world.path("r1"), &fresh, &none).is_err());
}

#[tokio::test]
async fn a_long_session_with_pauses_and_bursts_comes_back_whole_and_seeks() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    let mut sent = Vec::new();
    for n in 0..300u32 {
        world.pass(1_000_000);
        let len = if n % 50 == 49 { 300_000 } else { 40 + n as usize };
        let text: String = format!("line {n} ").chars().cycle().take(len).collect();
        sent.extend_from_slice(text.as_bytes());
        session.record(output(&text)).await.unwrap();
        if n % 3 == 0 {
            session.flush().await.unwrap();
        }
    }
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(all_output(&world.events("r1")), sent);
    assert!(world.verify("r1").is_whole());
    let recording = world.open("r1");
    for second in [0i64, 1, 17, 50, 123, 249, 250, 299, 300] {
        let from = T0 + second * 1_000_000;
        let events: Vec<_> = recording.events_from(from).unwrap().map(Result::unwrap).collect();
        assert!(events.iter().all(|e| e.at >= from));
        let expected = recording.events().unwrap().filter(|e| e.as_ref().unwrap().at >= from).count();
        assert_eq!(events.len(), expected, "from second {second}");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Write { len: usize, noise: bool, channel: u32 },
    Flush,
    Pass(i64),
    Merge,
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![5 => 0usize..300, 2 => 0usize..40_000, 1 => 60_000usize..400_000];
    let write = (len, any::<bool>(), 0u32..3);
    let write = write.prop_map(|(len, noise, channel)| Act::Write { len, noise, channel });
    let other = prop_oneof![Just(Act::Flush), (0i64..20_000_000).prop_map(Act::Pass), Just(Act::Merge)];
    prop_oneof![3 => write, 2 => other]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_however_it_is_flushed_comes_back(acts in prop::collection::vec(act(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World::new();
        let sent = runtime.block_on(play(&world, &acts));
        let mut got: Vec<Vec<u8>> = vec![vec![]; 3];
        for event in world.events("r1") {
            if let Event::Output { channel, data } = event.event {
                got[channel as usize].extend_from_slice(&data);
            }
        }
        prop_assert!(got == sent);
        prop_assert!(world.verify("r1").is_whole());
    }
}

async fn play(world: &World, acts: &[Act]) -> Vec<Vec<u8>> {
    let mut config = world.config();
    // Merges follow the flush after them at once.
    config.checkpoint_interval = std::time::Duration::from_micros(1);
    config.flush_interval = std::time::Duration::from_secs(1);
    // The clock of the test runs ahead of the disk.
    config.slow_after = std::time::Duration::from_secs(1 << 30);
    let session = world.service_with(config).start(header("r1")).await.unwrap();
    let mut sent: Vec<Vec<u8>> = vec![vec![]; 3];
    let mut random = 7u64;
    for act in acts {
        match act {
            Act::Write { len, noise, channel } => {
                let mut byte = || {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if *noise { (random >> 56) as u8 } else { b"abcd \r\n"[(random >> 61) as usize % 7] }
                };
                let data: Bytes = (0..*len).map(|_| byte()).collect::<Vec<u8>>().into();
                sent[*channel as usize].extend_from_slice(&data);
                session.record(Event::Output { channel: *channel, data }).await.unwrap();
            }
            Act::Flush => session.flush().await.unwrap(),
            Act::Pass(micros) => world.pass(*micros),
            Act::Merge => {
                session.record(Event::Notice { text: "x".into() }).await.unwrap();
                session.flush().await.unwrap();
            }
        }
    }
    session.finish(End::because("closed")).await.unwrap();
    sent
}

#[tokio::test]
async fn a_growing_recording_can_be_followed_to_its_end() {
    let world = World::new();
    let mut config = world.config();
    config.checkpoint_interval = std::time::Duration::from_millis(1);
    let session = world.service_with(config).start(header("r1")).await.unwrap();
    let recording = world.open("r1");
    let mut events = recording.events().unwrap();
    assert!(matches!(events.advance().unwrap(), Next::Waiting));
    session.record(output("one")).await.unwrap();
    let first = loop {
        if let Next::Event(event) = events.advance().unwrap() {
            break event;
        }
        session.flush().await.unwrap();
        tokio::task::yield_now().await;
    };
    assert_eq!(first.event, output("one"));
    session.record(output("two")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert!(matches!(events.advance().unwrap(), Next::Event(e) if e.event == output("two")));
    assert!(matches!(events.advance().unwrap(), Next::Event(_)));
    assert!(matches!(events.advance().unwrap(), Next::Ended));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever waits in the journal, went straight into the file or was moved there: a follower sees it as soon as it is
    /// durable, once, and in order.
    #[test]
    fn a_follower_sees_what_is_durable_and_sees_it_once(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(&acts));
    }
}

async fn follow(acts: &[Act]) {
    let world = World::new();
    let mut config = world.config();
    config.slow_after = std::time::Duration::from_secs(1 << 30);
    config.checkpoint_interval = std::time::Duration::from_millis(5);
    let service = world.service_with(config);
    let session = service.start(header("r1")).await.unwrap();
    // Somebody else keeps the journal from being emptied, now and then.
    let other = service.start(header("r2")).await.unwrap();
    let recording = world.open("r1");
    let mut events = recording.events().unwrap();
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    for (n, act) in acts.iter().enumerate() {
        match act {
            Act::Write { len, channel, .. } => {
                let data: Bytes = vec![b'a' + (n % 26) as u8; *len].into();
                sent.extend_from_slice(&data);
                session.record(Event::Output { channel: *channel, data }).await.unwrap();
            }
            Act::Pass(micros) => {
                world.pass(*micros);
                other.record(output("elsewhere")).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(6)).await;
            }
            Act::Flush | Act::Merge => {
                session.flush().await.unwrap();
                while let Next::Event(event) = events.advance().unwrap() {
                    seen.extend(all_output(&[event]));
                }
                assert!(seen == sent, "{} of {} bytes seen", seen.len(), sent.len());
            }
        }
    }
    session.finish(End::because("closed")).await.unwrap();
    loop {
        match events.advance().unwrap() {
            Next::Event(event) => seen.extend(all_output(&[event])),
            Next::Waiting => panic!("a sealed recording has an end"),
            Next::Ended => break,
        }
    }
    assert!(seen == sent);
}

#[tokio::test]
async fn a_follower_need_not_wait_until_the_journal_is_moved() {
    let world = World::new();
    let mut config = world.config();
    config.checkpoint_interval = std::time::Duration::from_secs(3600);
    let session = world.service_with(config).start(header("r1")).await.unwrap();
    let recording = world.open("r1");
    let mut events = recording.events().unwrap();
    for text in ["one", "two", "three"] {
        world.pass(1_000_000);
        session.record(output(text)).await.unwrap();
        session.flush().await.unwrap();
        let Next::Event(event) = events.advance().unwrap() else { panic!("{text} is durable and not seen") };
        assert_eq!((event.at, event.event), (world.clock()(), output(text)));
        assert!(matches!(events.advance().unwrap(), Next::Waiting));
    }
    // Somebody who comes later sees the same.
    assert_eq!(all_output(&world.events("r1")), b"onetwothree");
    session.finish(End::because("closed")).await.unwrap();
    assert!(matches!(events.advance().unwrap(), Next::Event(_)), "the end");
    assert!(matches!(events.advance().unwrap(), Next::Ended));
}

#[tokio::test]
async fn a_live_viewer_sees_events_but_not_masked_input() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    let mut live = session.watch_live();
    session.record(output("hi")).await.unwrap();
    let data = Bytes::from_static(b"pw");
    session.record(Event::Input { channel: 0, data, masked: true }).await.unwrap();
    assert_eq!(live.recv().await.unwrap().event, output("hi"));
    assert_eq!(live.recv().await.unwrap().event, Event::MaskedInput { channel: 0, len: 2 });
    session.finish(End::because("closed")).await.unwrap();
    assert!(live.recv().await.is_err());
}

#[tokio::test]
async fn a_session_that_is_dropped_is_sealed_all_the_same() {
    let world = World::new();
    let service = world.service();
    let session = service.start(header("r1")).await.unwrap();
    session.record(output("x")).await.unwrap();
    drop(session);
    drop(service);
    assert!(world.verify("r1").is_whole());
    assert_eq!(world.events("r1").len(), 2);
}

#[tokio::test]
async fn the_same_id_is_refused_and_the_first_recording_stays() {
    let world = World::new();
    let service = world.service();
    let session = service.start(header("r1")).await.unwrap();
    assert!(matches!(service.start(header("r1")).await, Err(RecordError::Exists(_))));
    session.record(output("x")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    assert_eq!(world.events("r1").len(), 2);
}

#[tokio::test]
async fn two_services_never_share_a_folder() {
    let world = World::new();
    let _first = world.service();
    let second = RecorderService::open(world.config(), world.signer.clone(), world.clock());
    assert!(matches!(second, Err(RecordError::Storage { .. })));
}

#[tokio::test]
async fn a_clock_that_jumps_back_does_not_reorder_events() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    world.pass(5_000_000);
    session.record(output("a")).await.unwrap();
    world.pass(-60_000_000);
    session.record(output("b")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    let events = world.events("r1");
    assert!(events.is_sorted_by_key(|e| e.at));
    assert_eq!(all_output(&events), b"ab");
}

#[tokio::test]
async fn a_stream_is_kept_in_full_first_and_then_as_a_digest() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    let mut keeper = StreamKeeper::keeping(session.clone(), 3, Direction::ToPerson, 1000);
    let mut whole = Vec::new();
    for n in 0..50u8 {
        let data = Bytes::from(vec![n; 100]);
        whole.extend_from_slice(&data);
        world.pass(100_000);
        let now = world.clock()();
        if !keeper.digest_only(&data, now) {
            keeper.record(&data, now).await.unwrap();
        }
    }
    keeper.finish().await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    let events = world.events("r1");
    assert_eq!(all_output(&events), &whole[..1000]);
    let digests: Vec<StreamDigest> = events
        .iter()
        .filter_map(|e| match e.event {
            Event::StreamDigest(d) => Some(d),
            _ => None,
        })
        .collect();
    assert!(digests.len() >= 5, "one each second and a last one: {digests:?}");
    let last = digests.last().unwrap();
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &whole);
    assert_eq!(last.sha256.as_slice(), expected.as_ref());
    assert_eq!((last.bytes, last.since, last.last), (5000, 1000, true));
}

#[tokio::test]
async fn checkpoints_reach_the_audit_log_and_show_a_cut() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    for n in 0..40 {
        world.pass(11_000_000);
        session.record(output(&format!("{n}").repeat(70_000))).await.unwrap();
        session.flush().await.unwrap();
    }
    session.finish(End::because("closed")).await.unwrap();
    let report = world.verify("r1");
    assert!(report.is_whole() && report.anchors > 30, "{report:?}");
    let bytes = std::fs::read(world.path("r1")).unwrap();
    std::fs::write(world.path("r1"), &bytes[..bytes.len() / 2]).unwrap();
    let report = world.verify("r1");
    assert!(report.problems.iter().any(|p| p.kind == ProblemKind::Truncated));
    assert!(report.untrusted_from().is_some());
}
