use proptest::prelude::*;

use super::*;
use crate::transfer::command::{Kind, detect};
use crate::transfer::testing::{From::*, open_rules, play, rules_for, rules_with_budget};

const PUSH: &str = "rsync --server -vlogDtprze.iLsfxCIvu . /srv/drop/";
const PULL: &str = "rsync --server --sender -vlogDtprze.iLsfxCIvu . /srv/drop/a '/srv/drop/b c'";

fn inspector(command: &str, rules: FileRules) -> Result<RsyncInspector, Box<Refused>> {
    match detect(command) {
        Some(Kind::Rsync(command)) => RsyncInspector::new(command, rules, None),
        other => panic!("{command}: {other:?}"),
    }
}

#[test]
fn one_event_tells_direction_path_bytes_and_version() {
    let script =
        [(Person, [&31u32.to_le_bytes()[..], b"xyz"].concat()), (Target, 32u32.to_le_bytes().to_vec())];
    let log = play(&mut inspector(PUSH, open_rules()).unwrap(), &script, 2);
    assert_eq!(log.events.len(), 1);
    let event = &log.events[0];
    assert_eq!((event.operation, event.path.as_str(), event.bytes), (Operation::Upload, "/srv/drop/", 7));
    assert!(event.note.as_ref().unwrap().contains("protocol 31"));
    let log = play(&mut inspector(PULL, open_rules()).unwrap(), &script, 2);
    assert_eq!((log.events[0].operation, log.events[0].bytes), (Operation::Download, 4));
    assert!(log.events[0].note.as_ref().unwrap().contains("also /srv/drop/b c"));
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
        ("rsync --server --sender -r . /one/x.bin", false),
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
    for cut in [1, 3, 100] {
        let log = play(&mut inspector(PUSH, rules_with_budget(5)).unwrap(), &[(Person, vec![1; 9])], cut);
        assert_eq!(log.to_target.len(), 5);
        assert!(log.end.is_some());
        assert!(log.events[0].refused.is_some());
    }
}

#[test]
fn an_error_message_of_the_target_is_read_out_of_the_stream() {
    let text = b"rsync: [sender] link_stat \"/nope\" failed: No such file or directory (2)\n";
    let mut stream = 32u32.to_le_bytes().to_vec();
    stream.extend([0x81, 0xff]);
    stream.extend(b"\x05xxh64\x04zstd");
    stream.extend([1, 2, 3, 4]);
    stream.extend([3, 0, 0, 7, b'a', b'b', b'c']);
    stream.extend([text.len() as u8, 0, 0, 7 + 1]);
    stream.extend(text);
    for cut in [1, 7, 1000] {
        let log = play(&mut inspector(PULL, open_rules()).unwrap(), &[(Target, stream.clone())], cut);
        assert!(log.events[0].error.as_ref().unwrap().contains("No such file"), "{cut}");
    }
}

proptest! {
    #[test]
    fn no_stream_panics_and_no_cutting_changes_the_result(
        script in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..10),
        greet in any::<bool>(),
        cut in 1usize..20,
    ) {
        let mut script: Vec<_> = script.into_iter().map(|(p, data)| (if p { Person } else { Target }, data)).collect();
        if greet {
            script.insert(0, (Target, vec![32, 0, 0, 0, 0x3f, 1, 2, 3, 4]));
        }
        let whole = play(&mut inspector(PULL, rules_with_budget(70)).unwrap(), &script, usize::MAX >> 1);
        let pieces = play(&mut inspector(PULL, rules_with_budget(70)).unwrap(), &script, cut);
        prop_assert_eq!(whole, pieces);
    }
}
