use proptest::prelude::*;

use super::*;
use crate::transfer::command::{Kind, detect};
use crate::transfer::testing::{From, From::*, open_rules, play, rules_for, rules_with_budget, sha};

const PUSH: &str = "rsync --server -vlogDtprze.iLsfxCIvu . /srv/drop/";
const PULL: &str = "rsync --server --sender -vlogDtprze.iLsfxCIvu . /srv/drop/a '/srv/drop/b c'";

fn inspector(command: &str, rules: FileRules) -> Result<RsyncInspector, Box<Refused>> {
    match detect(command) {
        Some(Kind::Rsync(command)) => RsyncInspector::new(command, rules, None),
        other => panic!("{command}: {other:?}"),
    }
}

/// The greeting of the target: version 32, flags without incremental recursion, lists of methods, the seed.
fn greeting(packs: bool) -> Vec<u8> {
    let packing = if packs { &b"\x04zstd"[..] } else { b"" };
    [&32u32.to_le_bytes()[..], &[0x81, 0xfe], b"\x05xxh64", packing, &[1, 2, 3, 4]].concat()
}

/// The greeting of the person's side, in two parts: the second answers the target's.
fn answer(packs: bool) -> (Vec<u8>, Vec<u8>) {
    let packing = if packs { &b"\x08zstd lz4"[..] } else { b"" };
    (31u32.to_le_bytes().to_vec(), [b"\x0cxxh128 xxh64", packing].concat())
}

fn frame(tag: u8, data: &[u8]) -> Vec<u8> {
    [&[data.len() as u8, 0, 0, 7 + tag], data].concat()
}

#[test]
fn what_is_not_rsync_is_one_event_with_direction_path_and_bytes() {
    let script =
        [(Person, [&31u32.to_le_bytes()[..], b"xyz"].concat()), (Target, 32u32.to_le_bytes().to_vec())];
    for cut in [1, 2, 100] {
        let log = play(&mut inspector(PUSH, open_rules()).unwrap(), &script, cut);
        assert_eq!(log.events.len(), 1);
        let event = &log.events[0];
        assert_eq!((event.operation, event.path.as_str(), event.bytes), (Operation::Upload, "/srv/drop/", 3));
        assert!(event.note.as_ref().unwrap().contains("out of turn"), "{event:?}");
        assert_eq!(log.to_target.len(), 7);
        let log = play(&mut inspector(PULL, open_rules()).unwrap(), &script, cut);
        assert_eq!(log.events[0].operation, Operation::Download);
        assert!(log.events[0].note.as_ref().unwrap().contains("also /srv/drop/b c"));
    }
}

#[test]
fn the_target_is_not_told_that_files_may_be_listed_folder_by_folder() {
    for (line, expected) in [
        (PUSH, "rsync --server -vlogDtprze.LsfxCIvu . /srv/drop/"),
        ("rsync --server -e.iLs . /a/-e.i", "rsync --server -e.Ls . /a/-e.i"),
        ("rsync --server -IXe.LsfxCIvu --delete . /a", "rsync --server -IXe.LsfxCIvu --delete . /a"),
        // Values and quoted words are left as they are, so that what was judged is what runs.
        ("rsync --server --backup-dir -e.i -e.i . /a", "rsync --server --backup-dir -e.i -e. . /a"),
        ("rsync --server --suffix='x -ei/../i y' . /a", "rsync --server --suffix='x -ei/../i y' . /a"),
        ("rsync --server --suffix='x -ei y' -e.i . /a", "rsync --server --suffix='x -ei y' -e. . /a"),
        (r"rsync --server --suffix=x\ -ei . /a", r"rsync --server --suffix=x\ -ei . /a"),
        (r"rsync --server --suffix=\~ -ei . /a", r"rsync --server --suffix=\~ -e . /a"),
        (r#"rsync --server --suffix="a\" -ei" -ei . /a"#, r#"rsync --server --suffix="a\" -ei" -e . /a"#),
    ] {
        assert_eq!(without_incremental(line), expected);
    }
}

#[test]
fn a_target_that_lists_folder_by_folder_or_speaks_another_version_is_not_followed() {
    for (version, flags, why) in [(32u32, 1u8, "folder by folder"), (29, 0, "version other than")] {
        let target = [&version.to_le_bytes()[..], &[flags, 1, 2, 3, 4]].concat();
        let script = [(Person, 32u32.to_le_bytes().to_vec()), (Target, target)];
        let log = play(&mut inspector(PULL, open_rules()).unwrap(), &script, 3);
        assert!(log.events[0].note.as_ref().unwrap().contains(why), "{:?}", log.events);
        let log = play(&mut inspector(PULL, rules_with_budget(900)).unwrap(), &script, 3);
        assert!(log.end.unwrap().contains(why));
    }
}

#[test]
fn options_that_escape_are_refused_by_name() {
    for option in [
        "--rsh=evil",
        "--remote-option=--x",
        "-M--x",
        "--log-file=/etc/x",
        "--daemon",
        "--write-devices",
        "--copy-devices",
        "--config=/x",
        "--files-from=/etc/list",
        "--only-write-batch=/x",
        "--read-batch=/x",
        "-s",
        "--secluded-args",
        "--fake-super",
        "-T/x",
        "-f",
        "--filter=x",
        "--rsync-path=x",
        "-e'sh -c id'",
        "--password-file=/x",
        "--partial-dir",
        "--exclude-from=/x",
        "--sender=1",
        "--log-format --numeric-ids",
        "--checksum-choice --append",
        "--numeric-ids=0",
        "--delete=x",
        "--timeout",
    ] {
        let refused = inspector(&format!("rsync --server {option} . /srv/drop/"), open_rules());
        assert!(refused.is_err(), "{option}");
    }
    assert!(inspector("rsync --server -r . /a --log-file=/x", open_rules()).is_err());
    assert!(inspector("rsync --server --copy-unsafe-links --write-devices . /a", open_rules()).is_err());
    assert!(inspector("rsync --server --suffix=../x . /a", open_rules()).is_err());
    assert!(inspector("rsync --server --suffix ../x . /a", open_rules()).is_err());
    assert!(inspector("rsync --server -r /a", open_rules()).is_err());
}

#[test]
fn rules_hold_for_direction_paths_and_everything_below() {
    let read_only = FileRules { read_only: true, ..open_rules() };
    assert!(inspector(PUSH, read_only.clone()).is_err());
    assert!(inspector(PULL, read_only.clone()).is_ok());
    assert!(inspector("rsync --server --sender --remove-source-files -r . /a", read_only).is_err());
    assert!(inspector(PULL, FileRules { may_download: false, ..open_rules() }).is_err());
    for (command, passes) in [
        (PUSH, true),
        ("rsync --server -r . /srv/other/", false),
        ("rsync --server -r . /srv/drop/../x", false),
        ("rsync --server -r . drop", false),
        ("rsync --server --sender -rL . /srv/drop", false),
        ("rsync --server -r --backup-dir=/etc . /srv/drop", false),
        ("rsync --server -r --backup-dir=old . /srv/drop", true),
        ("rsync --server -r --link-dest ../../x . /srv/drop", false),
        ("rsync --server --sender -r . /srv/drop/*", false),
        ("rsync --server --sender -r . /one/x.bin", true),
        ("rsync --server --sender -r . /two", false),
        ("rsync --server -t . /one/", true),
        ("rsync --server -tb . /one/", false),
        ("rsync --server -t --delete . /one/", false),
        ("rsync --server -t --mkpath . /one/", false),
        ("rsync --server --sender -t . /one/x.bin", true),
        ("rsync --server -t . /one/x.bin", false),
    ] {
        assert_eq!(
            inspector(command, rules_for(&["/srv/drop/**", "/one/*.bin"])).is_ok(),
            passes,
            "{command}"
        );
    }
}

#[test]
fn the_budget_cuts_the_stream_at_the_byte() {
    let (hello, methods) = answer(true);
    let mut files = frame(0, &[0, 0]);
    files.splice(0..0, methods);
    let script = [(Person, hello), (Target, greeting(true)), (Person, files.clone())];
    for cut in [1, 3, 100] {
        let log = play(&mut inspector(PUSH, rules_with_budget(9)).unwrap(), &script, cut);
        assert_eq!(log.to_target.len(), 9);
        assert!(log.end.is_some());
        assert!(log.events[0].refused.is_some());
        let log = play(&mut inspector(PUSH, rules_with_budget(100)).unwrap(), &script, cut);
        assert!(log.end.is_none() && log.to_target.len() == 4 + files.len());
    }
}

#[test]
fn an_error_message_of_the_target_is_read_out_of_the_stream() {
    let text = b"rsync: [sender] link_stat \"/nope\" failed: No such file or directory (2)\n";
    let (hello, methods) = answer(true);
    let script = [
        (Person, hello),
        (Target, greeting(true)),
        (Person, methods),
        (Target, [frame(2, b"abc"), frame(1, text)].concat()),
    ];
    for cut in [1, 7, 1000] {
        let log = play(&mut inspector(PULL, open_rules()).unwrap(), &script, cut);
        assert!(log.events[0].error.as_ref().unwrap().contains("No such file"), "{cut}");
        assert!(log.events[0].note.as_ref().unwrap().contains("protocol 31"));
    }
}

#[test]
fn options_whose_effect_on_the_stream_is_in_doubt_are_not_followed() {
    for option in [
        "-A",
        "-zz",
        "--iconv=utf-8",
        "--checksum-choice=md5 --checksum-choice=none",
        "--compress-choice=none --new-compress",
        "-R --no-relative",
        "-e.V",
    ] {
        let line = format!("rsync --server {option} -r . /srv/drop/");
        let log = play(&mut inspector(&line, open_rules()).unwrap(), &[(Person, vec![1; 9])], 4);
        assert_eq!((log.events.len(), log.events[0].bytes), (1, 9), "{option}");
        assert!(log.events[0].note.as_ref().unwrap().contains("was not followed (rsync with"));
        let refused = inspector(&line, rules_with_budget(50)).err().unwrap();
        assert!(refused.say.contains("leave"), "{option}: {}", refused.say);
    }
}

/// One file of five bytes, pushed whole, as rsync's own client sends it.
fn push_of_one_file() -> Vec<(From, Vec<u8>)> {
    let (hello, methods) = answer(false);
    // Flags, name, size, time and mode of the one entry; the end of the list.
    let list = [4, 1, b'a', 0, 5, 0, 0, 1, 2, 3, 0xa4, 0x81, 0, 0, 0, 0];
    // The file's index, what is to be done, no blocks, the contents, the checksum; three times "done".
    let item = [&[1, 0, 0xa0][..], &[0; 16], &[5, 0, 0, 0], b"hello", &[0; 4], &[9; 8], &[0, 0, 0]].concat();
    vec![
        (Person, hello),
        (Target, greeting(false)),
        (Person, [methods, frame(0, &list)].concat()),
        (Target, frame(0, &[0])),
        (Person, [frame(0, &item[..24]), frame(0, &item[24..])].concat()),
    ]
}

const PUSH_ONE: &str = "rsync --server -rte.LsfxCIvu . /srv/drop/";

#[test]
fn a_file_that_passes_whole_is_hashed_and_kept_however_it_is_cut() {
    for cut in 1..40 {
        let rules = FileRules { keep_uploads: true, ..rules_with_budget(200) };
        let log = play(&mut inspector(PUSH_ONE, rules).unwrap(), &push_of_one_file(), cut);
        assert_eq!(log.events.len(), 1, "{:?}", log.events);
        let event = &log.events[0];
        assert_eq!((event.path.as_str(), event.bytes, event.sha256), ("/srv/drop/a", 5, sha(b"hello")));
        assert_eq!(log.kept, [(1, 0, b"hello".to_vec())]);
        let log =
            play(&mut inspector(PUSH_ONE, rules_for(&["/srv/drop/b"])).unwrap(), &push_of_one_file(), cut);
        assert!(log.end.unwrap().contains("/srv/drop/a: the path is outside"));
        assert!(log.events[0].refused.is_some() && log.to_target.len() == 34, "{}", log.to_target.len());
    }
}

/// Plays `script` whole and cut, under each kind of rules; what comes of it has to be the same.
fn same_however_cut(command: &str, script: &[(From, Vec<u8>)], cut: usize) -> Result<(), TestCaseError> {
    let by_name = || rules_for(&["/srv/drop/*"]);
    let kinds: [&dyn Fn() -> FileRules; 4] = [&open_rules, &by_name, &|| rules_with_budget(70), &|| {
        FileRules { keep_uploads: true, ..open_rules() }
    }];
    for rules in kinds {
        let (Ok(mut one), Ok(mut two)) = (inspector(command, rules()), inspector(command, rules())) else {
            continue;
        };
        let (whole, pieces) = (play(&mut one, script, usize::MAX >> 1), play(&mut two, script, cut));
        prop_assert_eq!(whole, pieces);
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_the_target_runs_differs_in_nothing_but_the_capabilities(tail in "[-ei.sab/ '\"\\\\=]{0,40}", option in prop::sample::select(vec!["", "--suffix", "--temp-dir", "-re.i"])) {
        let line = format!("rsync --server {option} {tail} . /a");
        let judged = |line: &str| match detect(line) {
            Some(Kind::Rsync(command)) => Some(command.without_capabilities()),
            _ => None,
        };
        prop_assert_eq!(judged(&line), judged(&without_incremental(&line)));
    }

    #[test]
    fn no_stream_panics_and_no_cutting_changes_the_result(
        script in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..10),
        greets in any::<bool>(),
        command in prop::sample::select(vec![PUSH, PULL, PUSH_ONE, "rsync --server --sender -logDtprHcUze.Cv . /srv/drop/"]),
        cut in 1usize..20,
    ) {
        let packs = command != PUSH_ONE;
        let mut script: Vec<_> = script.into_iter().map(|(p, data)| (if p { Person } else { Target }, data)).collect();
        if greets {
            let (hello, methods) = answer(packs);
            script.splice(0..0, [(Person, hello), (Target, greeting(packs)), (Person, methods)]);
            for (_, data) in script.iter_mut().skip(3) {
                *data = frame(0, data);
            }
        }
        same_however_cut(command, &script, cut)?;
    }

    #[test]
    fn no_damage_to_a_good_stream_panics_or_depends_on_the_cutting(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
        options in prop::sample::select(vec!["", "H", "c", "og", "U", "m", "D", "z"]),
        cut in 1usize..20,
    ) {
        let mut script = push_of_one_file();
        for (part, at, byte) in damage {
            let (_, data) = part.get_mut(&mut script);
            *at.get_mut(data) = byte;
        }
        same_however_cut(&PUSH_ONE.replace("-rt", &format!("-rt{options}")), &script, cut)?;
    }
}
