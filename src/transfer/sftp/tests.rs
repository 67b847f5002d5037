use bytes::BufMut;
use proptest::prelude::*;

use super::*;
use crate::transfer::testing::{From::*, Log, open_rules, play, rules_for, rules_with_budget, sha};

fn packet(kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = vec![kind];
    fill(&mut body);
    let mut packet = (body.len() as u32).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

trait Fields {
    fn text(&mut self, text: &[u8]) -> &mut Self;
}

impl Fields for Vec<u8> {
    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.put_u32(text.len() as u32);
        self.extend_from_slice(text);
        self
    }
}

fn init() -> Vec<u8> {
    packet(1, |p| p.put_u32(6))
}

fn version() -> Vec<u8> {
    packet(2, |p| {
        p.put_u32(3);
        p.text(b"posix-rename@openssh.com").text(b"1");
    })
}

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    packet(3, |p| {
        p.put_u32(id);
        p.text(path.as_bytes());
        p.put_u32(flags);
        p.put_u32(0);
    })
}

fn close(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(4, |p| {
        p.put_u32(id);
        p.text(handle);
    })
}

fn read(id: u32, handle: &[u8], offset: u64, size: u32) -> Vec<u8> {
    packet(5, |p| {
        p.put_u32(id);
        p.text(handle);
        p.put_u64(offset);
        p.put_u32(size);
    })
}

fn write(id: u32, handle: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    packet(6, |p| {
        p.put_u32(id);
        p.text(handle);
        p.put_u64(offset);
        p.text(data);
    })
}

fn paths(kind: u8, id: u32, paths: &[&str]) -> Vec<u8> {
    packet(kind, |p| {
        p.put_u32(id);
        for path in paths {
            p.text(path.as_bytes());
        }
    })
}

fn status(id: u32, code: u32) -> Vec<u8> {
    wire::status(id, code, "").to_vec()
}

fn handle(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(102, |p| {
        p.put_u32(id);
        p.text(handle);
    })
}

fn data(id: u32, data: &[u8]) -> Vec<u8> {
    packet(103, |p| {
        p.put_u32(id);
        p.text(data);
    })
}

/// Plays `script` whole, and checks that no cutting changes the result.
fn run(rules: FileRules, script: &[(crate::transfer::testing::From, Vec<u8>)]) -> Log {
    let left = rules.max_bytes.as_ref().map(crate::transfer::Budget::left);
    let fresh = || FileRules {
        max_bytes: left.map(crate::transfer::Budget::new),
        numbers: crate::transfer::FileNumbers::default(),
        ..rules.clone()
    };
    let whole = play(&mut SftpInspector::new(fresh()), script, usize::MAX >> 1);
    for cut in [1, 3, 7, 64] {
        assert_eq!(play(&mut SftpInspector::new(fresh()), script, cut), whole, "cut {cut}");
    }
    whole
}

fn greeted(
    rest: Vec<(crate::transfer::testing::From, Vec<u8>)>,
) -> Vec<(crate::transfer::testing::From, Vec<u8>)> {
    let mut script = vec![(Person, init()), (Target, version())];
    script.extend(rest);
    script
}

#[test]
fn an_upload_is_hashed_kept_and_reported_when_the_target_confirms_its_close() {
    let mut rules = open_rules();
    rules.keep_uploads = true;
    let log = run(
        rules,
        &greeted(vec![
            (Person, open(1, "plc.bin", 2 | 8 | 16)),
            (Target, handle(1, b"h")),
            (Person, [write(2, b"h", 0, b"hello "), write(3, b"h", 6, b"world")].concat()),
            (Target, [status(2, 0), status(3, 0)].concat()),
            (Person, close(4, b"h")),
            (Target, status(4, 0)),
        ]),
    );
    assert_eq!(log.end, None);
    assert_eq!(log.events.len(), 1);
    let event = &log.events[0];
    assert_eq!((event.operation, event.path.as_str(), event.bytes), (Operation::Upload, "plc.bin", 11));
    assert!(event.whole, "{event:?}");
    assert_eq!(event.sha256, sha(b"hello world"));
    assert_eq!(log.kept, vec![(1, 0, b"hello world".to_vec())]);
    assert_eq!(event.file, Some(1));
    assert!(log.to_target.starts_with(&wire::init()));
}

#[test]
fn a_pipelined_download_is_whole_once_the_end_was_seen() {
    let log = run(
        open_rules(),
        &greeted(vec![
            (Person, open(1, "/log", 1)),
            (Target, handle(1, b"h")),
            (Person, [read(2, b"h", 0, 4), read(3, b"h", 4, 4), read(4, b"h", 8, 4)].concat()),
            (Target, [data(3, b"efgh"), data(2, b"abcd"), data(4, b"i")].concat()),
            (Person, read(5, b"h", 9, 4)),
            (Target, status(5, 1)),
            (Person, close(6, b"h")),
            (Target, status(6, 0)),
        ]),
    );
    let event = &log.events[0];
    assert!(event.whole, "{event:?}");
    assert_eq!((event.sha256, event.bytes), (sha(b"abcdefghi"), 9));
}

#[test]
fn a_channel_that_closes_early_reports_what_passed_as_a_part() {
    let log = run(
        open_rules(),
        &greeted(vec![
            (Person, open(1, "/a", 26)),
            (Target, handle(1, b"h")),
            (Person, write(2, b"h", 0, b"abc")),
            (Person, paths(13, 3, &["/gone"])),
        ]),
    );
    assert_eq!(log.events.len(), 2);
    assert!(log.events[0].error.is_some());
    assert_eq!((log.events[1].whole, log.events[1].bytes, log.events[1].sha256), (false, 3, sha(b"abc")));
}

#[test]
fn a_refused_request_is_answered_here_between_two_packets() {
    let mut rules = rules_for(&["/ok/**"]);
    rules.read_only = true;
    let body = vec![7; 100];
    let answer = data(2, &body);
    let log = run(
        rules,
        &greeted(vec![
            (Person, open(1, "/ok/a", 1)),
            (Target, handle(1, b"h")),
            (Person, read(2, b"h", 0, 100)),
            (Target, answer[..50].to_vec()),
            (Person, [paths(13, 3, &["/ok/x"]), open(4, "/etc/shadow", 1), open(5, "rel", 1)].concat()),
            (Target, answer[50..].to_vec()),
        ]),
    );
    let mut expected = [version(), handle(1, b"h"), answer].concat();
    assert!(log.to_person.starts_with(&expected));
    for (id, why) in [
        (3, "this window allows reading only"),
        (4, "the path is outside what this window allows"),
        (5, "the path is relative and the home folder is not known: use an absolute path"),
    ] {
        expected.extend(wire::status(id, 3, &format!("refused by the gateway: {why}")));
    }
    assert_eq!(log.to_person, expected);
    let refused: Vec<_> = log.events.iter().filter_map(|e| e.refused.as_deref()).collect();
    assert_eq!(refused.len(), 3);
    assert!(!log.to_target.windows(6).any(|w| w == b"shadow"));
}

#[test]
fn relative_paths_follow_the_start_folder() {
    let home = packet(104, |p| {
        p.put_u32(1);
        p.put_u32(1);
        p.text(b"/srv/drop").text(b"");
        p.put_u32(0);
    });
    let log = run(
        rules_for(&["/srv/drop/**"]),
        &greeted(vec![
            (Person, paths(16, 1, &["."])),
            (Target, home),
            (Person, [open(2, "a/../b", 1), open(3, "../x", 1), open(4, "c/../../drop/y", 1)].concat()),
        ]),
    );
    let refused: Vec<_> =
        log.events.iter().filter(|e| e.refused.is_some()).map(|e| e.path.as_str()).collect();
    assert_eq!(refused, ["../x"]);
}

#[test]
fn both_ends_of_a_rename_and_a_link_are_checked() {
    let script = |kind, pair: [&str; 2]| greeted(vec![(Person, paths(kind, 1, &pair))]);
    for (kind, pair, passes) in [
        (18, ["/ok/a", "/ok/b"], true),
        (18, ["/ok/a", "/etc/b"], false),
        (18, ["/etc/a", "/ok/b"], false),
        (20, ["b", "/ok/link"], true),
        (20, ["../etc/shadow", "/ok/link"], false),
        (20, ["/etc/shadow", "/ok/link"], false),
        (13, ["/ok/a\\..\\..\\x", ""], false),
        (13, ["/ok/a\0", ""], false),
    ] {
        let log = run(rules_for(&["/ok/**"]), &script(kind, pair));
        assert_eq!(log.events[0].refused.is_none(), passes, "{kind} {pair:?}");
    }
}

#[test]
fn no_other_name_of_a_folder_allows_more_of_what_is_in_it() {
    let script = |kind, pair: [&str; 2]| greeted(vec![(Person, paths(kind, 1, &pair))]);
    for (kind, pair, passes) in [
        (18, ["/srv/locked", "/open/locked"], false),
        (20, ["/srv/locked", "/open/link"], false),
        (18, ["/srv/a.part", "/srv/a"], true),
        (18, ["/open/new", "/srv/new"], true),
        (18, ["/open/a", "/open/b"], true),
        (20, ["/open/a", "/open/b"], true),
    ] {
        let log = run(rules_for(&["/srv/*", "/open/**"]), &script(kind, pair));
        assert_eq!(log.events[0].refused.is_none(), passes, "{kind} {pair:?}");
    }
}

#[test]
fn the_budget_stops_an_upload_and_a_download_at_the_byte() {
    let log = run(
        rules_with_budget(10),
        &greeted(vec![
            (Person, open(1, "/up", 26)),
            (Target, handle(1, b"h")),
            (
                Person,
                [write(2, b"h", 0, b"123456"), write(3, b"h", 6, b"78901"), write(4, b"h", 11, b"x")]
                    .concat(),
            ),
            (Target, status(2, 0)),
            (Person, close(5, b"h")),
            (Target, status(5, 0)),
            (Person, open(6, "/down", 1)),
            (Target, handle(6, b"h")),
            (Person, [read(7, b"h", 0, 100), read(8, b"h", 4, 100)].concat()),
            (Target, [data(7, b"abcd"), data(8, b"secret")].concat()),
            (Person, close(9, b"h")),
            (Target, status(9, 0)),
        ]),
    );
    assert!(!log.to_target.windows(5).any(|w| w == b"78901"));
    assert!(!log.to_person.windows(6).any(|w| w == b"secret"));
    let refused: Vec<_> =
        log.events.iter().map(|e| (e.path.as_str(), e.bytes, e.refused.is_some(), e.whole)).collect();
    assert_eq!(
        refused,
        [
            ("/up", 0, true, false),
            ("/up", 6, true, false),
            ("/down", 0, true, false),
            ("/down", 4, true, false)
        ]
    );
    assert_eq!(log.events[1].sha256, sha(b"123456"));
}

#[test]
fn a_guessed_handle_and_an_unknown_extension_do_not_pass() {
    let unknown = packet(200, |p| {
        p.put_u32(2);
        p.text(b"check-file-name").text(b"/etc/shadow");
    });
    let log = run(open_rules(), &greeted(vec![(Person, [write(1, b"h", 0, b"evil"), unknown].concat())]));
    assert_eq!(log.to_target, wire::init());
    assert_eq!(log.end, None);
    assert_eq!(log.events.len(), 1);
}

#[test]
fn broken_streams_end_with_a_reason() {
    let long = (70_000u32).to_be_bytes();
    for script in [
        vec![(Person, open(1, "/a", 1))],
        vec![(Person, packet(1, |p| p.put_u32(2)))],
        greeted(vec![(Person, [&long[..], &[3]].concat())]),
        greeted(vec![(Person, vec![0, 0, 0, 0, 3])]),
        greeted(vec![(Person, packet(3, |p| p.put_u32(1)))]),
        greeted(vec![(Person, [open(1, "/a", 1), open(1, "/b", 1)].concat())]),
        greeted(vec![(Target, status(1, 0))]),
        greeted(vec![(Person, open(1, "/a", 1)), (Target, data(1, b"x"))]),
        greeted(vec![(Person, open(1, "/a", 1)), (Target, status(1, 0))]),
        greeted(vec![(Person, (0..5000).flat_map(|id| paths(17, id, &["/a"])).collect())]),
        vec![(Person, init()), (Target, packet(2, |p| p.put_u32(6)))],
    ] {
        let log = run(open_rules(), &script);
        assert!(log.end.is_some(), "{script:?}");
    }
}

#[test]
fn an_empty_new_file_is_an_upload_and_an_open_without_a_transfer_is_nothing() {
    let log = run(
        open_rules(),
        &greeted(vec![
            (Person, [open(1, "/new", 26), open(2, "/old", 1)].concat()),
            (Target, [handle(1, b"a"), handle(2, b"b")].concat()),
            (Person, [close(3, b"a"), close(4, b"b")].concat()),
            (Target, [status(3, 0), status(4, 0)].concat()),
        ]),
    );
    assert_eq!(log.events.len(), 1);
    assert!(log.events[0].whole);
    assert_eq!(log.events[0].sha256, sha(b""));
}

#[test]
fn a_write_that_the_target_refuses_leaves_no_hash() {
    let log = run(
        open_rules(),
        &greeted(vec![
            (Person, open(1, "/a", 26)),
            (Target, handle(1, b"a")),
            (Person, write(2, b"a", 0, b"x")),
            (Target, wire::status(2, 4, "disk full").to_vec()),
            (Person, close(3, b"a")),
            (Target, status(3, 0)),
        ]),
    );
    assert_eq!(log.events[0].error.as_deref(), Some("disk full"));
    assert_eq!((log.events[0].sha256, log.events[0].whole), (None, false));
}

fn any_packet() -> impl Strategy<Value = (crate::transfer::testing::From, Vec<u8>)> {
    let id = 0u32..6;
    let name = prop_oneof![Just("/ok/a"), Just("/etc/b"), Just("."), Just("../x"), Just("")];
    let hand = prop_oneof![Just(b"a".as_slice()), Just(b"b".as_slice())];
    prop_oneof![
        (id.clone(), name.clone(), 0u32..64).prop_map(|(i, n, f)| (Person, open(i, n, f))),
        (id.clone(), hand.clone()).prop_map(|(i, h)| (Person, close(i, h))),
        (id.clone(), hand.clone(), 0u64..20, 0u32..20).prop_map(|(i, h, o, s)| (Person, read(i, h, o, s))),
        (id.clone(), hand.clone(), 0u64..20, proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(i, h, o, d)| (Person, write(i, h, o, &d))),
        (7u8..21, id.clone(), name.clone(), name).prop_map(|(k, i, a, b)| (Person, paths(k, i, &[a, b]))),
        (id.clone(), 0u32..5).prop_map(|(i, c)| (Target, status(i, c))),
        (id.clone(), hand).prop_map(|(i, h)| (Target, handle(i, h))),
        (id.clone(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(i, d)| (Target, data(i, &d))),
        (100u8..106, id).prop_map(|(k, i)| (Target, packet(k, |p| p.put_u32(i)))),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| (Person, bytes)),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| (Target, bytes)),
    ]
}

fn cuttable(budget: bool) -> FileRules {
    let mut rules = rules_for(&["/ok/**"]);
    rules.keep_uploads = true;
    rules.max_bytes = budget.then(|| crate::transfer::Budget::new(64));
    rules
}

proptest! {
    #[test]
    fn no_stream_panics_and_no_cutting_changes_the_result(
        script in proptest::collection::vec(any_packet(), 0..30),
        cut in 1usize..40,
        budget in any::<bool>(),
    ) {
        let script = greeted(script);
        let whole = play(&mut SftpInspector::new(cuttable(budget)), &script, usize::MAX >> 1);
        let pieces = play(&mut SftpInspector::new(cuttable(budget)), &script, cut);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn nothing_outside_the_allowed_folder_reaches_the_target(script in proptest::collection::vec(any_packet(), 0..30)) {
        let log = play(&mut SftpInspector::new(cuttable(false)), &greeted(script), 16);
        // Only names that are resolved or looked at on the way may leave the folder.
        let mut r = wire::Reader(&log.to_target);
        while let Some(body) = r.string() {
            if body.first() == Some(&3) {
                let mut fields = wire::Reader(&body[5..]);
                prop_assert_eq!(fields.string(), Some(b"/ok/a".as_slice()));
            }
        }
    }
}
