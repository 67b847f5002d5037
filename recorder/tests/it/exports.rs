//! What leaves the recorder: casts, transcripts, lists, files, bundles; and what is found in it.

use crate::support::*;
use bytes::Bytes;
use cofferdam_recorder::*;
use std::{ops::ControlFlow, path::Path, process::Command};

fn typed(text: &str) -> Event {
    Event::Input { channel: 0, data: Bytes::copy_from_slice(text.as_bytes()), masked: false }
}

/// A short shell session: a command, an upload, a password.
async fn shell(world: &World, id: &str, user: &str, command: &str) {
    let service = world.service();
    let mut header = header(id);
    header.user = user.into();
    let session = service.start(header).await.unwrap();
    let upload = |sha256: Option<String>, outcome: &str| {
        Event::File(Box::new(FileOp {
            channel: 1,
            file: 1,
            op: "upload".into(),
            path: "/srv/../prog.st".into(),
            target: None,
            direction: Some(Direction::ToTarget),
            size: 6,
            file_size: None,
            sha256,
            outcome: outcome.into(),
            note: String::new(),
        }))
    };
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"abcdef");
    let events = [
        Event::ChannelOpen { channel: 0, what: "shell".into() },
        Event::Resize { channel: 0, cols: 60, rows: 10 },
        output("\x1b[1mpump\x1b[0m:~# "),
        typed(&format!("{command}\r")),
        output(&format!("{command}\r\n")),
        output("stopped: Größe \r\n\x1b[32mok\x1b[0m\r\n"),
        Event::Resize { channel: 0, cols: 100, rows: 30 },
        Event::Input { channel: 0, data: Bytes::from_static(b"hunter2\r"), masked: true },
        upload(None, "started"),
        Event::FileContent { file: 1, offset: 0, data: Bytes::from_static(b"abc") },
        Event::FileContent { file: 1, offset: 3, data: Bytes::from_static(b"def") },
        upload(Some(hex::encode(sum)), "done"),
        Event::Output { channel: 0, data: Bytes::from_static(&[0xc3]) },
        Event::Output { channel: 0, data: Bytes::from_static(&[0xa4, 0xff]) },
        Event::ChannelClose { channel: 0, exit: Some(3) },
    ];
    for event in events {
        world.pass(250_000);
        session.record(event).await.unwrap();
    }
    session.finish(End::because("closed")).await.unwrap();
}

fn cast(recording: &Recording, version: CastVersion) -> String {
    let mut out = Vec::new();
    let options = CastOptions { input: true, ..CastOptions::of(version) };
    export_asciicast(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn casts_hold_the_session_and_never_the_password() {
    let world = World::new();
    shell(&world, "r1", "vera", "systemctl stop pump").await;
    let mut recording = Recording::open(world.path("r1")).unwrap();
    // Not even for somebody who may reveal it.
    recording.unlock(&world.revealer).unwrap();
    let (v2, v3) = (cast(&recording, CastVersion::V2), cast(&recording, CastVersion::V3));
    for (cast, version) in [(&v2, 2), (&v3, 3)] {
        assert!(!cast.contains("hunter2"));
        let lines: Vec<serde_json::Value> = cast.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["version"], version);
        assert_eq!(lines[0]["timestamp"], T0 / 1_000_000);
        assert!(lines.iter().any(|l| l[1] == "r" && l[2] == "100x30"));
        assert!(lines.iter().any(|l| l[1] == "i" && l[2] == "systemctl stop pump\r"));
        assert!(lines.iter().any(|l| l[1] == "o" && l[2] == "ä\u{fffd}"));
    }
    assert!(v2.contains("[0.250000, \"o\", \"\\u001b[1mpump"), "{v2}");
    assert!(v3.contains("\"x\", \"3\""), "{v3}");
}

#[tokio::test]
async fn the_stock_player_takes_a_cast() {
    let world = World::new();
    shell(&world, "r1", "vera", "systemctl stop pump").await;
    let file = world.dir.path().join("r1.cast");
    std::fs::write(&file, cast(&world.open("r1"), CastVersion::V2)).unwrap();
    // It asks for a terminal; `script` gives it one.
    let cat = format!("asciinema cat {}", file.display());
    let out = Command::new("script").args(["-qec", &cat, "/dev/null"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stdout).contains("systemctl stop pump"));
}

#[tokio::test]
async fn transcripts_are_rendered_and_lists_hold_every_event() {
    let world = World::new();
    shell(&world, "r1", "vera", "systemctl stop pump").await;
    let recording = world.open("r1");
    let mut text = Vec::new();
    export_transcript(&recording, None, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("pump:~# systemctl stop pump\nstopped: Größe\nok\n"), "{text:?}");
    let mut lines = Vec::new();
    export_jsonl(&recording, &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count(), 16);
    assert!(!lines.contains("hunter2"));
    let masked = lines.lines().find(|l| l.contains("masked_input")).unwrap();
    assert!(masked.contains("\"len\":8"), "{masked}");
}

#[tokio::test]
async fn uploaded_files_come_out_whole_and_stay_in_their_folder() {
    let world = World::new();
    shell(&world, "r1", "vera", "ls").await;
    let folder = world.dir.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    let files = export_files(&world.open("r1"), &folder, 1 << 20).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(folder.join("1-prog.st")).unwrap(), b"abcdef");
    assert_eq!(files[0].matches, Some(true));
    assert_eq!(files[0].source, "/srv/../prog.st");
    assert!(export_files(&world.open("r1"), &folder, 1 << 20).is_err(), "nothing is overwritten");
}

fn bundle(world: &World) -> Vec<u8> {
    let parts = BundleParts {
        recording: world.path("r1"),
        documents: vec![("decision.json".into(), b"{}".to_vec()), ("audit.jsonl".into(), b"{}\n".to_vec())],
        anchors: world.anchors(),
        created: T0,
    };
    let mut out = Vec::new();
    write_bundle(&parts, &world.signer, &mut out).unwrap();
    out
}

fn check(world: &World, bytes: &[u8], key: &VerifyingKey) -> bool {
    let file = world.dir.path().join("bundle.tar");
    std::fs::write(&file, bytes).unwrap();
    verify_bundle(&file, key).is_ok_and(|report| report.is_whole())
}

#[tokio::test]
async fn a_bundle_proves_itself_and_any_change_is_found() {
    let world = World::new();
    shell(&world, "r1", "vera", "ls").await;
    let bytes = bundle(&world);
    let key = world.signer.public_key();
    assert!(check(&world, &bytes, &key));
    assert!(!check(&world, &bytes, &CheckpointSigner::generate().unwrap().public_key()));
    for at in (0..bytes.len()).step_by(37) {
        let mut forged = bytes.clone();
        forged[at] ^= 0x20;
        assert!(!check(&world, &forged, &key), "byte {at}");
    }
    assert!(!check(&world, &bytes[..bytes.len() - 512], &key));
    assert!(!check(&world, &[bytes.as_slice(), b"x"].concat(), &key));
}

#[tokio::test]
async fn the_stock_tar_opens_a_bundle() {
    let world = World::new();
    shell(&world, "r1", "vera", "ls").await;
    let file = world.dir.path().join("bundle.tar");
    std::fs::write(&file, bundle(&world)).unwrap();
    let out = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let names = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && names.contains("recording.cofrec") && names.contains("decision.json"));
}

fn find(folder: &Path, identity: &Identity, query: &Query) -> (Vec<Hit>, Searched) {
    let mut hits = Vec::new();
    let searched = search(folder, identity, query, 2, |hit| {
        hits.push(hit);
        ControlFlow::Continue(())
    });
    hits.sort_by_key(|hit| (hit.path.clone(), hit.line.at));
    (hits, searched.unwrap())
}

#[tokio::test]
async fn search_answers_who_ran_what_with_and_without_an_index() {
    let world = World::new();
    shell(&world, "r1", "vera", "systemctl stop pump").await;
    shell(&world, "r2", "emil", "systemctl status pump").await;
    let folder = world.dir.path().join("rec");
    let query =
        Query { text: "SystemCtl stop".into(), kinds: Kinds::Only(LineKind::Command), ..Query::default() };
    let (before, searched) = find(&folder, &world.reader, &query);
    assert_eq!(searched.recordings, 2);
    for id in ["r1", "r2"] {
        build_index(&world.open(id)).unwrap();
        let index = std::fs::read(world.path(id).with_extension("cofidx")).unwrap();
        assert!(!index.windows(9).any(|w| w == b"systemctl"), "the index is not in clear text");
    }
    let (after, _) = find(&folder, &world.reader, &query);
    assert_eq!(before, after);
    assert_eq!(after.len(), 1);
    assert_eq!((after[0].header.user.as_str(), after[0].line.text.as_str()), ("vera", "systemctl stop pump"));
    assert_eq!(after[0].line.at, T0 + 4 * 250_000);
    let emil = Query { text: "pump".into(), user: Some("emil".into()), ..Query::default() };
    let (hits, searched) = find(&folder, &world.reader, &emil);
    assert!(!hits.is_empty() && hits.iter().all(|h| h.header.user == "emil"));
    assert_eq!(searched.recordings, 1);
    let password = Query { text: "hunter2".into(), ..Query::default() };
    assert!(find(&folder, &world.revealer, &password).0.is_empty());
    let (hits, searched) = find(&folder, &Identity::generate(), &query);
    assert!(hits.is_empty() && searched.skipped.len() == 2);
}

#[tokio::test]
async fn the_recorder_makes_the_index_although_it_cannot_read_the_recording_later() {
    let world = World::new();
    let mut config = world.config();
    config.index = true;
    let service = world.service_with(config);
    let session = service.start(header("r1")).await.unwrap();
    session.record(Event::Resize { channel: 0, cols: 80, rows: 24 }).await.unwrap();
    session.record(output("needle\r\n")).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
    let index = world.open("r1").index_path();
    while !index.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let query = Query { text: "needle".into(), ..Query::default() };
    assert_eq!(find(&world.dir.path().join("rec"), &world.reader, &query).0.len(), 1);
}

#[tokio::test]
async fn a_search_opens_the_likely_recordings_first_and_a_deleted_one_is_forgotten() {
    let world = World::new();
    let mut config = world.config();
    config.index = true;
    let service = world.service_with(config);
    for (id, text) in [("r0", "systemctl stop pump\r\n"), ("r1", "nothing of the kind\r\n")] {
        let session = service.start(header(id)).await.unwrap();
        session.record(Event::Resize { channel: 0, cols: 80, rows: 24 }).await.unwrap();
        session.record(output(text)).await.unwrap();
        session.finish(End::because("closed")).await.unwrap();
        let index = world.open(id).index_path();
        while !index.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    // Waits for the catalogue's entry, which follows the index.
    drop(service);
    // A newer one that no catalogue knows.
    shell(&world, "r9", "vera", "systemctl stop valve").await;
    let folder = world.dir.path().join("rec");
    // One thread: the hits come in the order in which recordings are opened.
    let found = |text: &str| {
        let query = Query { text: text.into(), ..Query::default() };
        let mut ids: Vec<String> = Vec::new();
        search(&folder, &world.reader, &query, 1, |hit| {
            ids.push(hit.header.id.to_string());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        ids.dedup();
        ids
    };
    assert_eq!(
        found("Systemctl STOP"),
        ["r0", "r9"],
        "likely first, and nothing is left out for being unknown"
    );
    assert_eq!(found("nothing of the kind"), ["r1"]);

    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let catalogues: Vec<_> = names.filter(|p| p.extension().is_some_and(|e| e == "cofcat")).collect();
    let [catalogue] = catalogues.as_slice() else { panic!("{catalogues:?}") };
    let before = std::fs::read(catalogue).unwrap();
    std::fs::remove_file(catalogue).unwrap();
    assert_eq!(found("systemctl stop"), ["r9", "r0"], "without a catalogue the newest first");

    std::fs::write(catalogue, &before).unwrap();
    delete(&world.path("r0")).unwrap();
    let after = std::fs::read(catalogue).unwrap();
    let changed = before.iter().zip(&after).filter(|(b, a)| b != a).count();
    assert!(before.len() == after.len() && changed > 60, "{changed} bytes overwritten");
    assert_eq!(found("systemctl stop"), ["r9"]);
}

#[tokio::test]
async fn a_hold_beats_deletion_and_deletion_leaves_nothing() {
    let world = World::new();
    shell(&world, "r1", "vera", "ls").await;
    let (path, folder) = (world.path("r1"), world.dir.path().join("rec"));
    build_index(&world.open("r1")).unwrap();
    hold(&path, "case 12").unwrap();
    assert!(matches!(delete(&path), Err(DeleteError::Held(why)) if why == "case 12"));
    lift_hold(&path).unwrap();
    lift_hold(&path).unwrap();
    assert!(disk_use(&folder).unwrap() > 1000);
    // A deletion that broke off behind the keys is finished by the next.
    std::fs::remove_file(world.open("r1").key_path()).unwrap();
    delete(&path).unwrap();
    assert_eq!(disk_use(&folder).unwrap(), 0);
    delete(&path).unwrap();
}

#[tokio::test]
async fn a_damaged_index_is_passed_over_and_made_anew() {
    let world = World::new();
    shell(&world, "r1", "vera", "systemctl stop pump").await;
    let recording = world.open("r1");
    build_index(&recording).unwrap();
    let path = recording.index_path();
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, bad).unwrap();
        let mut found = 0;
        let query = Query {
            text: "systemctl stop".into(),
            kinds: Kinds::Only(LineKind::Command),
            ..Query::default()
        };
        search_recording(&recording, &query, |_| {
            found += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, 1, "byte {at}");
        screen_at(&recording, 0, T0 + 2_000_000).unwrap();
    }
}

#[tokio::test]
async fn the_screen_at_a_time_is_the_same_with_and_without_snapshots() {
    let world = World::new();
    let session = world.service().start(header("r1")).await.unwrap();
    session.record(Event::Resize { channel: 0, cols: 80, rows: 24 }).await.unwrap();
    for n in 0..6000u32 {
        world.pass(100_000);
        let text = match n % 500 {
            0 => "\x1b[?1049h\x1b[2J\x1b[5;10Hfull screen".to_owned(),
            100 => "\x1b[?1049l".to_owned(),
            _ => format!("\x1b[{}mline {n} {}\r\n", 30 + n % 8, "x".repeat((n % 90) as usize)),
        };
        session.record(output(&text)).await.unwrap();
    }
    session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let times: Vec<i64> = (0..12).map(|n| T0 + n * 53_000_000 + 50_000).collect();
    let before: Vec<_> = times.iter().map(|t| screen_at(&recording, 0, *t).unwrap().dump()).collect();
    build_index(&recording).unwrap();
    let after: Vec<_> = times.iter().map(|t| screen_at(&recording, 0, *t).unwrap().dump()).collect();
    assert!(before == after);
}
