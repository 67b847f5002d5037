use proptest::prelude::*;

use super::*;
use crate::transfer::command::{Kind, detect};
use crate::transfer::testing::{From::*, Log, open_rules, play, rules_for, rules_with_budget, sha};

fn inspector(command: &str, rules: FileRules) -> Result<ScpInspector, Box<Refused>> {
    match detect(command) {
        Some(Kind::Scp(command)) => ScpInspector::new(command, rules, None),
        other => panic!("{command}: {other:?}"),
    }
}

fn run(command: &str, rules: FileRules, script: &[(crate::transfer::testing::From, &[u8])]) -> Log {
    let script: Vec<_> = script.iter().map(|(from, data)| (*from, data.to_vec())).collect();
    let left = rules.max_bytes.as_ref().map(crate::transfer::Budget::left);
    let fresh = || FileRules {
        max_bytes: left.map(crate::transfer::Budget::new),
        numbers: crate::transfer::FileNumbers::default(),
        ..rules.clone()
    };
    let whole = play(&mut inspector(command, fresh()).unwrap(), &script, usize::MAX >> 1);
    for cut in [1, 2, 5] {
        assert_eq!(play(&mut inspector(command, fresh()).unwrap(), &script, cut), whole);
    }
    whole
}

#[test]
fn a_folder_is_uploaded_file_by_file() {
    let mut rules = open_rules();
    rules.keep_uploads = true;
    let log = run(
        "scp -r -p -t /srv/",
        rules,
        &[
            (Target, b"\0"),
            (Person, b"T1 0 1 0\n"),
            (Target, b"\0"),
            (Person, b"D0755 0 drop\n"),
            (Target, b"\0"),
            (Person, b"C0644 5 a b.bin\n"),
            (Target, b"\0"),
            (Person, b"hello\0"),
            (Target, b"\0"),
            (Person, b"C0644 0 empty\n"),
            (Target, b"\0"),
            (Person, b"\0"),
            (Target, b"\0"),
            (Person, b"E\n"),
            (Target, b"\0"),
        ],
    );
    assert_eq!(log.end, None);
    let files: Vec<_> =
        log.events.iter().map(|e| (e.operation, e.path.as_str(), e.bytes, e.sha256, e.whole)).collect();
    assert_eq!(
        files,
        [
            (Operation::Mkdir, "/srv/drop", 0, None, false),
            (Operation::Upload, "/srv/drop/a b.bin", 5, sha(b"hello"), true),
            (Operation::Upload, "/srv/drop/empty", 0, sha(b""), true),
        ]
    );
    assert_eq!(log.kept, [(1, 0, b"hello".to_vec())]);
}

#[test]
fn a_download_is_followed_and_a_targets_error_is_told() {
    let log = run(
        "scp -f /var/log/x /var/log/*.txt /nope",
        open_rules(),
        &[
            (Person, b"\0"),
            (Target, b"C0644 3 x\n"),
            (Person, b"\0"),
            (Target, b"abc\0"),
            (Person, b"\0"),
            (Target, b"C0644 1 y.txt\n"),
            (Person, b"\x01disk full\n"),
            (Target, b"\x01scp: /nope: No such file or directory\n"),
        ],
    );
    assert_eq!(log.end, None);
    assert_eq!((log.events[0].whole, log.events[0].sha256), (true, sha(b"abc")));
    assert_eq!(log.events[1].path, "/var/log/y.txt");
    assert_eq!(log.events[1].error.as_deref(), Some("disk full"));
    assert!(log.events[2].error.as_ref().unwrap().contains("No such file"));
}

#[test]
fn names_and_turns_that_a_peer_must_not_use_end_the_channel() {
    for (command, script) in [
        ("scp -f /a/x", vec![(Person, &b"\0"[..]), (Target, b"C0644 3 .bashrc\n")]),
        ("scp -f /a/x", vec![(Person, b"\0"), (Target, b"C0644 3 ..\n")]),
        ("scp -f /a/x", vec![(Person, b"\0"), (Target, b"D0755 0 x\n")]),
        ("scp -f /a/x", vec![(Person, b"\0"), (Target, b"C0644 3 ../x\n")]),
        ("scp -r -f /a/x", vec![(Person, b"\0"), (Target, b"D0755 0 .\n")]),
        ("scp -f '/a/x*'", vec![(Person, b"\0"), (Target, b"C0644 3 xy\n")]),
        ("scp -f /a/x*", vec![(Person, b"\0"), (Target, b"C0644 3 x\x1b[2J\n")]),
        ("scp -t /a", vec![(Target, b"\0"), (Person, b"C0644 3 a\n"), (Target, b"\0"), (Person, b"abcd\0")]),
        ("scp -t /a", vec![(Target, b"\0"), (Person, b"C0644 3 a\nabc\0")]),
        ("scp -t /a", vec![(Target, b"\0"), (Person, b"C0644 99999999999999999999 a\n")]),
        ("scp -t /a", vec![(Target, b"\0"), (Person, b"C0644 -1 a\n")]),
        ("scp -t /a", vec![(Target, b"\0"), (Person, b"E\n")]),
        ("scp -t /a", vec![(Target, b"Welcome!\n")]),
        ("scp -t /a", vec![(Target, b"\0\0")]),
    ] {
        assert!(run(command, open_rules(), &script).end.is_some(), "{command} {script:?}");
    }
    let long = [b"C0644 1 ".as_slice(), &[b'a'; 5000]].concat();
    assert!(run("scp -t /a", open_rules(), &[(Target, b"\0"), (Person, &long)]).end.is_some());
}

#[test]
fn a_file_beyond_the_limit_is_skipped_and_the_next_goes_on() {
    let log = run(
        "scp -t /srv/",
        rules_with_budget(5),
        &[
            (Target, b"\0"),
            (Person, b"C0644 6 big\n"),
            (Person, b"C0644 5 ok\n"),
            (Target, b"\0"),
            (Person, b"hello\0"),
            (Target, b"\0"),
        ],
    );
    assert_eq!(log.to_target, b"C0644 5 ok\nhello\0");
    assert!(log.events[0].refused.is_some());
    assert!(log.events[1].whole);
    let log = run(
        "scp -f /srv/*",
        rules_with_budget(2),
        &[
            (Person, b"\0"),
            (Target, b"C0644 6 big\n"),
            (Target, b"C0644 1 ok\n"),
            (Person, b"\0"),
            (Target, b"x\0"),
        ],
    );
    assert!(log.to_target.starts_with(b"\0\x01refused by the gateway"));
    assert!(log.to_person.starts_with(b"\x01refused by the gateway"));
    assert_eq!(log.events.len(), 2);
}

#[test]
fn rules_are_checked_before_the_command_runs() {
    let refused = |command, rules| inspector(command, rules).is_err();
    let read_only = FileRules { read_only: true, ..open_rules() };
    assert!(refused("scp -t /a", read_only.clone()));
    assert!(!refused("scp -f /a", read_only));
    assert!(refused("scp -f /a", FileRules { may_download: false, ..open_rules() }));
    assert!(refused("scp -t /a", FileRules { may_upload: false, ..open_rules() }));
    for (command, passes) in [
        ("scp -t /ok/a.bin", true),
        ("scp -t /ok/", true),
        ("scp -d -t /ok", true),
        ("scp -t /ok", false),
        ("scp -t /ok/../etc/x.bin", false),
        ("scp -t rel.bin", false),
        ("scp -t ~/x.bin", false),
        ("scp -f /ok/*", true),
        ("scp -f /*/x", false),
        ("scp -f /ok/a.bin /etc/passwd", false),
    ] {
        assert_eq!(!refused(command, rules_for(&["/ok/*.bin"])), passes, "{command}");
    }
    let log = run(
        "scp -f /ok/*",
        rules_for(&["/ok/*.bin"]),
        &[(Person, b"\0"), (Target, b"C0644 1 x.txt\n"), (Target, b"C0644 1 y.bin\n"), (Person, b"\0")],
    );
    assert!(log.events[0].refused.is_some());
    assert_eq!(log.end, None);
}

proptest! {
    #[test]
    fn no_stream_panics_and_no_cutting_changes_the_result(
        script in proptest::collection::vec((any::<bool>(), prop_oneof![
            Just(b"\0".to_vec()), Just(b"C0644 3 x\n".to_vec()), Just(b"abc\0".to_vec()), Just(b"D0755 0 d\n".to_vec()),
            Just(b"E\n".to_vec()), Just(b"\x01no\n".to_vec()), Just(b"T1 0 1 0\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20),
        ]), 0..30),
        upload in any::<bool>(),
        cut in 1usize..9,
    ) {
        let command = if upload { "scp -r -t /ok/d" } else { "scp -r -f /ok/*" };
        let script: Vec<_> = script.into_iter().map(|(p, data)| (if p { Person } else { Target }, data)).collect();
        let whole = play(&mut inspector(command, rules_for(&["/ok/**"])).unwrap(), &script, usize::MAX >> 1);
        let pieces = play(&mut inspector(command, rules_for(&["/ok/**"])).unwrap(), &script, cut);
        prop_assert_eq!(whole, pieces);
    }
}
