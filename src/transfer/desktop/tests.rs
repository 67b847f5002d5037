//! What a desktop's target does with files of the person's machine.

mod clipboard;

use super::*;
use crate::transfer::Budget;
use crate::transfer::testing::{Log, open_rules, rules_for, rules_of_a_site, sha};
use crate::transfer::{FileRules, PathRules};

fn rules() -> DesktopRules {
    DesktopRules {
        files: FileRules { keep_uploads: true, ..open_rules() },
        to_target: true,
        to_person: true,
        printers: true,
        paths: PathRules::any(),
        largest: None,
        clipboard: ClipboardRules {
            to_target: true,
            to_person: true,
            paths: PathRules::any(),
            largest: None,
        },
        keep_downloads: 1 << 20,
        standing: Standing::new(|| true),
    }
}

fn reading(path: &str) -> Opening<'_> {
    Opening {
        place: Place::Drive,
        path,
        reads: true,
        writes: false,
        changes: false,
        makes: false,
        empties: false,
        removes: false,
        folder: None,
    }
}

fn writing(path: &str) -> Opening<'_> {
    Opening { reads: false, writes: true, makes: true, empties: true, folder: Some(false), ..reading(path) }
}

fn opened(files: &mut DesktopFiles, opening: Opening<'_>) -> u32 {
    let number = files.open(&opening).expect("refused");
    files.opened(number, Ok(()));
    number
}

fn take(files: &mut DesktopFiles, file: u32, offset: u64, data: &'static [u8]) -> bool {
    files.ask(file, offset + 1000) && files.pass(file, Direction::ToTarget, offset, &Bytes::from_static(data))
}

fn give(files: &mut DesktopFiles, file: u32, offset: u64, data: &'static [u8]) -> bool {
    let passes = files.pass(file, Direction::ToPerson, offset, &Bytes::from_static(data));
    if passes {
        files.taken(file, Ok(()));
    }
    passes
}

/// Everything that is to be recorded.
fn steps(files: &DesktopFiles) -> Vec<Step> {
    let next = || {
        let step = files.next_step()?;
        files.recorded();
        Some(step)
    };
    std::iter::from_fn(next).collect()
}

/// What became of things, without their beginnings.
fn log(files: &DesktopFiles) -> Log {
    let mut log = Log::default();
    log.take(steps(files));
    log.events.retain(|event| !event.started);
    log
}

/// What has begun, as operation and path.
fn started(files: &DesktopFiles) -> Vec<(Operation, String)> {
    let begun = |step| match step {
        Step::Event(event) if event.started => Some((event.operation, event.path)),
        _ => None,
    };
    steps(files).into_iter().filter_map(begun).collect()
}

/// The refusals, as operation and path.
fn refusals(log: &Log) -> Vec<(Operation, &str)> {
    log.events.iter().filter(|e| e.refused.is_some()).map(|e| (e.operation, e.path.as_str())).collect()
}

#[test]
fn what_the_target_reads_whole_is_an_upload_with_its_hash_and_a_copy() {
    let mut files = DesktopFiles::new(rules());
    let file = opened(&mut files, reading("/share/a.csv"));
    assert!(take(&mut files, file, 0, b"pressure"));
    assert!(take(&mut files, file, 8, b"=4"));
    files.ends(file, 10);
    files.close(file, Ok(()));
    let log = log(&files);
    let [event] = &log.events[..] else { panic!("{log:?}") };
    assert_eq!((event.operation, event.path.as_str(), event.bytes), (Operation::Upload, "/share/a.csv", 10));
    assert_eq!((event.sha256, event.whole, event.file), (sha(b"pressure=4"), true, Some(file)));
    assert_eq!(log.kept, [(file, 0, b"pressure=4".to_vec())]);
}

#[test]
fn a_part_that_is_read_again_counts_once_where_it_is_the_same_and_takes_the_hash_away_where_it_is_not() {
    for (again, hash, kept) in [(b"abcd".as_slice(), sha(b"abcd"), 1), (b"abXd", None, 2), (b"bcd", None, 2)]
    {
        let mut files = DesktopFiles::new(rules());
        let file = opened(&mut files, reading("/share/a"));
        assert!(take(&mut files, file, 0, b"abcd"));
        let offset = 4 - again.len() as u64;
        assert!(files.pass(file, Direction::ToTarget, offset, &Bytes::from_static(again)));
        files.size(file, 4);
        files.close(file, Ok(()));
        let log = log(&files);
        assert_eq!((log.events[0].sha256, log.events[0].bytes), (hash, 4 + again.len() as u64));
        assert_eq!(log.events[0].whole, hash.is_some());
        assert_eq!(log.kept.len(), kept, "what is different is kept too");
    }
}

#[test]
fn what_the_target_writes_is_a_download_of_which_the_site_says_how_much_is_kept() {
    let mut files = DesktopFiles::new(DesktopRules { keep_downloads: 6, ..rules() });
    let file = opened(&mut files, writing("/share/out"));
    assert!(give(&mut files, file, 0, b"abcd"));
    files.close(file, Ok(()));
    let second = opened(&mut files, writing("/share/more"));
    assert!(give(&mut files, second, 0, b"efgh"));
    files.close(second, Ok(()));
    let log = log(&files);
    let [first, other] = &log.events[..] else { panic!("{log:?}") };
    assert_eq!((first.operation, first.sha256, first.whole), (Operation::Download, sha(b"abcd"), true));
    assert_eq!(first.note, None);
    assert_eq!((other.sha256, other.whole), (sha(b"efgh"), true));
    assert!(other.note.as_ref().unwrap().contains("not kept in full"));
    assert_eq!(log.kept, [(file, 0, b"abcd".to_vec())]);
}

#[test]
fn a_file_that_the_person_did_not_confirm_or_that_was_not_emptied_is_not_called_whole() {
    let mut files = DesktopFiles::new(rules());
    let lost = opened(&mut files, writing("/share/lost"));
    assert!(give(&mut files, lost, 0, b"abcd"));
    let failed = opened(&mut files, writing("/share/failed"));
    assert!(files.pass(failed, Direction::ToPerson, 0, &Bytes::from_static(b"abcd")));
    files.taken(failed, Err(0xc000_007f));
    files.close(failed, Ok(()));
    let patched = opened(&mut files, Opening { empties: false, makes: false, ..writing("/share/patched") });
    assert!(give(&mut files, patched, 0, b"abcd"));
    files.close(patched, Ok(()));
    let sized = opened(&mut files, writing("/share/sized"));
    let change = files.change(sized, Change::Resize(8)).unwrap();
    files.changed(change, Ok(()));
    assert!(give(&mut files, sized, 0, b"abcd"));
    files.close(sized, Ok(()));
    files.finish();
    let log = log(&files);
    let whole: Vec<_> = log.events.iter().filter(|e| e.whole).collect();
    assert!(whole.is_empty(), "{whole:?}");
    assert_eq!(log.events.iter().filter(|e| e.operation == Operation::Download).count(), 4);
    assert!(log.events.iter().any(|e| e.error.as_ref().is_some_and(|e| e.contains("0xc000007f"))));
}

#[test]
fn each_way_is_allowed_by_itself() {
    let mut files = DesktopFiles::new(DesktopRules { to_person: false, ..rules() });
    assert_eq!(files.open(&writing("/share/a")), None);
    assert_eq!(files.open(&Opening { removes: true, ..reading("/share/a") }), None);
    assert_eq!(files.open(&Opening { changes: true, ..reading("/share/b") }), None);
    let file = opened(&mut files, reading("/share/a"));
    assert!(take(&mut files, file, 0, b"a"));
    assert!(!give(&mut files, file, 0, b"b"));
    for change in [Change::Remove, Change::Rename("/share/b"), Change::Resize(0), Change::Attributes] {
        assert_eq!(files.change(file, change), None, "{change:?}");
    }
    let mut files = DesktopFiles::new(DesktopRules { to_target: false, ..rules() });
    let file = opened(&mut files, writing("/share/a"));
    assert!(give(&mut files, file, 0, b"a"));
    assert_eq!(files.open(&Opening { folder: Some(false), ..reading("/share/a") }), None);
    let folder = opened(&mut files, reading("/share"));
    assert!(files.list(folder), "the way to a file is open");
    assert!(!files.ask(folder, 0), "and contents are not");
    for upload in [false, true] {
        let conduit = FileRules { may_upload: upload, may_download: !upload, ..open_rules() };
        let mut files = DesktopFiles::new(DesktopRules { files: conduit, ..rules() });
        let file = Opening { folder: Some(false), ..reading("/share/a") };
        assert_eq!(
            (files.open(&file).is_some(), files.open(&writing("/share/a")).is_some()),
            (upload, !upload)
        );
    }
    let read_only = FileRules { read_only: true, ..open_rules() };
    let mut files = DesktopFiles::new(DesktopRules { files: read_only, ..rules() });
    assert_eq!(
        files.open(&Opening { folder: Some(false), ..reading("/share/a") }),
        None,
        "it changes the target"
    );
}

#[test]
fn patterns_of_the_site_and_of_the_window_both_hold() {
    let paths = PathRules::parse(&["/share/drop/*.csv"]).unwrap();
    let window = rules_for(&["/share/**"]);
    let mut files = DesktopFiles::new(DesktopRules { paths, files: window, ..rules() });
    let file = opened(&mut files, Opening { folder: Some(false), ..reading("/share/drop/a.csv") });
    assert!(take(&mut files, file, 0, b"a"));
    for refused in ["/share/drop/a.txt", "/share/drop/x/a.csv", "/share/a.csv", "/other/drop/a.csv"] {
        assert_eq!(files.open(&Opening { folder: Some(false), ..reading(refused) }), None, "{refused}");
        assert_eq!(files.open(&writing(refused)), None, "{refused}");
    }
    assert_eq!(files.change(file, Change::Rename("/share/drop/a.exe")), None);
    let root = opened(&mut files, Opening { folder: Some(true), ..reading("/share") });
    assert!(!files.list(root), "nothing in it is allowed by itself");
    let drop = opened(&mut files, Opening { folder: Some(true), ..reading("/share/drop") });
    assert!(files.list(drop));
    let log = log(&files);
    assert!(refusals(&log).contains(&(Operation::Upload, "/share/drop/a.txt")));
    assert!(refusals(&log).contains(&(Operation::Download, "/share/a.csv")));
    // The window's own patterns alone.
    let mut files = DesktopFiles::new(DesktopRules { files: rules_for(&["/share/x"]), ..rules() });
    assert_eq!(files.open(&Opening { folder: Some(false), ..reading("/share/y") }), None);
}

#[test]
fn sizes_and_the_budget_hold_and_nothing_follows_what_was_refused() {
    let mut files = DesktopFiles::new(DesktopRules { largest: Some(6), ..rules() });
    let file = opened(&mut files, reading("/share/large"));
    assert!(take(&mut files, file, 0, b"abcd"));
    assert!(!take(&mut files, file, 4, b"efgh"));
    assert!(!take(&mut files, file, 0, b"abcd"), "nothing follows");
    let known = opened(&mut files, reading("/share/known"));
    files.size(known, 7);
    assert!(!files.ask(known, 1), "it is known to be too large");
    let out = opened(&mut files, writing("/share/out"));
    assert!(!give(&mut files, out, 4, b"abc"));
    assert_eq!(files.change(out, Change::Resize(7)), None);
    files.close(file, Ok(()));
    let log = log(&files);
    let large: Vec<_> = log.events.iter().filter(|e| e.path == "/share/large").collect();
    assert_eq!(large.len(), 2, "one refusal and the end: {large:?}");
    assert!(!large[1].whole && large[1].bytes == 4);

    let budget = FileRules { max_bytes: Some(Budget::new(5)), ..open_rules() };
    let mut files = DesktopFiles::new(DesktopRules { files: budget, ..rules() });
    let up = opened(&mut files, reading("/share/a"));
    assert!(take(&mut files, up, 0, b"abc"));
    let down = opened(&mut files, writing("/share/b"));
    assert!(!give(&mut files, down, 0, b"abc"));
    let log = super::tests::log(&files);
    assert!(log.events[0].refused.as_ref().unwrap().contains("window's limit"));
}

#[test]
fn the_sites_policies_are_asked_for_each_file() {
    let mut files = DesktopFiles::new(DesktopRules { files: rules_of_a_site(), ..rules() });
    // What the target reads is written there; what it writes is read from there.
    assert_eq!(files.open(&Opening { folder: Some(false), ..reading("/share/a.exe") }), None);
    assert_eq!(files.open(&writing("/share/a.key")), None);
    let file = opened(&mut files, writing("/share/a.exe"));
    assert_eq!(files.change(file, Change::Rename("/share/a.csv")), None, "a second name for it");
    let large = opened(&mut files, reading("/share/large"));
    assert!(!take(&mut files, large, 0, &[b'x'; 1001]));
}

#[test]
fn rules_that_the_site_has_changed_allow_nothing_more() {
    let holds = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = holds.clone();
    let standing = Standing::new(move || asked.load(std::sync::atomic::Ordering::Relaxed));
    let mut files = DesktopFiles::new(DesktopRules { standing, ..rules() });
    let up = opened(&mut files, reading("/share/a"));
    let down = opened(&mut files, writing("/share/b"));
    assert!(take(&mut files, up, 0, b"a") && give(&mut files, down, 0, b"b"));
    holds.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(!take(&mut files, up, 1, b"a") && !give(&mut files, down, 1, b"b"));
    assert!(!files.pass(up, Direction::ToTarget, 1, &Bytes::from_static(b"asked before")));
    assert_eq!(files.open(&reading("/share/c")), None);
    assert_eq!(files.change(down, Change::Remove), None);
    assert!(!files.stands(), "nor is anything said that is about no contents");
}

#[test]
fn print_jobs_come_one_after_the_other_whatever_their_offsets_say() {
    let job = Opening { place: Place::Printer, ..writing("/A3/print job") };
    let mut files = DesktopFiles::new(DesktopRules { to_person: false, to_target: false, ..rules() });
    let file = opened(&mut files, job);
    assert!(give(&mut files, file, 0, b"%!PS") && give(&mut files, file, 0, b" page"));
    files.close(file, Ok(()));
    let log = log(&files);
    assert_eq!(log.events[0].sha256, sha(b"%!PS page"));
    assert_eq!(log.kept, [(file, 0, b"%!PS page".to_vec())]);
    let mut files = DesktopFiles::new(DesktopRules { printers: false, ..rules() });
    assert_eq!(files.open(&job), None);
}

#[test]
fn folders_removals_and_names_are_events_once_the_persons_machine_has_answered() {
    let mut files = DesktopFiles::new(rules());
    let folder = Opening { folder: Some(true), writes: false, empties: false, ..writing("/share/new") };
    let made = opened(&mut files, folder);
    files.close(made, Ok(()));
    let file = opened(&mut files, Opening { removes: true, ..reading("/share/old") });
    let renamed = files.change(file, Change::Rename("/share/older")).unwrap();
    files.changed(renamed, Ok(()));
    let removed = files.change(file, Change::Remove).unwrap();
    files.changed(removed, Err(0xc000_0022));
    files.close(file, Ok(()));
    let missing = files.open(&reading("/share/missing")).unwrap();
    files.opened(missing, Err(0xc000_0034));
    let log = log(&files);
    let seen: Vec<_> = log.events.iter().map(|e| (e.operation, e.to.as_deref(), e.error.is_some())).collect();
    assert_eq!(
        seen,
        [
            (Operation::Mkdir, None, false),
            (Operation::Rename, Some("/share/older"), false),
            (Operation::Remove, None, true),
            (Operation::Remove, None, false),
        ]
    );
}

#[test]
fn what_may_change_something_is_told_before_it_goes_on() {
    let mut files = DesktopFiles::new(rules());
    let read = opened(&mut files, reading("/share/read"));
    assert!(take(&mut files, read, 0, b"a"));
    assert_eq!(started(&files), [(Operation::Upload, "/share/read".to_owned())], "before its first contents");
    assert!(take(&mut files, read, 1, b"b"));
    assert!(started(&files).is_empty(), "once");
    let folder = Opening { folder: Some(true), writes: false, empties: false, ..writing("/share/new") };
    for (opening, operation) in [
        (writing("/share/a"), Operation::Download),
        (folder, Operation::Mkdir),
        (Opening { removes: true, ..reading("/share/b") }, Operation::Remove),
        (Opening { changes: true, ..reading("/share/c") }, Operation::SetAttributes),
    ] {
        files.open(&opening).unwrap();
        assert_eq!(started(&files), [(operation, opening.path.to_owned())]);
    }
    for (change, operation) in [
        (Change::Rename("/share/other"), Operation::Rename),
        (Change::Remove, Operation::Remove),
        (Change::Resize(3), Operation::SetAttributes),
        (Change::Allocate(3), Operation::SetAttributes),
        (Change::Attributes, Operation::SetAttributes),
    ] {
        files.change(read, change).unwrap();
        assert_eq!(started(&files), [(operation, "/share/read".to_owned())]);
    }
}

#[test]
fn contents_of_which_no_copy_is_kept_go_into_a_digest_before_they_pass() {
    let mut files = DesktopFiles::new(DesktopRules { keep_downloads: 4, ..rules() });
    let file = opened(&mut files, writing("/share/out"));
    assert!(give(&mut files, file, 0, b"kept") && give(&mut files, file, 4, b"not"));
    let read = opened(&mut files, reading("/share/in"));
    assert!(take(&mut files, read, 0, b"in") && take(&mut files, read, 0, b"in"));
    let steps = steps(&files);
    let digested: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Digest { operation, data } => Some((*operation, data.as_ref())),
            _ => None,
        })
        .collect();
    assert_eq!(digested, [(Operation::Download, b"not".as_slice()), (Operation::Upload, b"in")]);
    let kept = steps.iter().filter(|step| matches!(step, Step::Keep { .. })).count();
    assert_eq!(kept, 2, "every part is in one or the other");
}

#[test]
fn a_step_is_the_next_one_until_it_is_recorded() {
    let mut files = DesktopFiles::new(rules());
    files.open(&writing("/share/a")).unwrap();
    let first = files.next_step();
    assert!(first.is_some());
    assert_eq!(files.next_step(), first, "whoever was to record it was stopped");
    files.finish();
    assert_eq!(files.next_step(), first);
    files.recorded();
    assert!(matches!(files.next_step(), Some(Step::Event(event)) if event.error.is_some()));
}

#[test]
fn names_of_a_folder_are_an_event_once_for_each_opening() {
    let mut files = DesktopFiles::new(rules());
    for _ in 0..2 {
        let folder = opened(&mut files, reading("/share"));
        assert!(files.list(folder) && files.list(folder));
        let listed: Vec<_> = log(&files).events.into_iter().map(|e| (e.operation, e.path)).collect();
        assert_eq!(listed, [(Operation::List, "/share".to_owned())]);
    }
}

#[test]
fn what_was_not_answered_when_the_session_ended_is_told() {
    let mut files = DesktopFiles::new(rules());
    let file = opened(&mut files, reading("/share/a"));
    files.change(file, Change::Rename("/share/b")).unwrap();
    files.change(file, Change::Remove).unwrap();
    files.open(&writing("/share/pending")).unwrap();
    files.open(&reading("/share/only read")).unwrap();
    opened(&mut files, Opening { removes: true, ..reading("/share/goes away") });
    files.finish();
    let log = log(&files);
    let told: Vec<_> = log.events.iter().map(|e| (e.operation, e.path.as_str())).collect();
    assert_eq!(
        told,
        [
            (Operation::Rename, "/share/a"),
            (Operation::Remove, "/share/a"),
            (Operation::Download, "/share/pending"),
            (Operation::Remove, "/share/goes away"),
        ]
    );
    assert!(log.events.iter().all(|event| event.error.is_some()), "{log:?}");
}

#[test]
fn a_folder_has_no_contents_and_whatever_came_is_told_besides() {
    let mut files = DesktopFiles::new(rules());
    let folder = opened(&mut files, Opening { folder: Some(true), ..writing("/share/new") });
    assert!(!give(&mut files, folder, 0, b"contents"));
    let other = opened(&mut files, Opening { folder: Some(true), ..reading("/share/old") });
    assert!(!take(&mut files, other, 0, b"contents"));
    assert!(!files.pass(other, Direction::ToTarget, 0, &Bytes::from_static(b"contents")));
    files.close(folder, Ok(()));
    let log = log(&files);
    let told: Vec<_> = log.events.iter().map(|e| (e.operation, e.refused.is_some())).collect();
    assert_eq!(told, [(Operation::Download, true), (Operation::Upload, true), (Operation::Mkdir, false)]);
    assert!(log.kept.is_empty() && log.digested.is_empty());
}

#[test]
fn what_may_be_a_folder_is_moved_and_removed_only_where_all_that_is_in_it_may_be() {
    let changing = |path| Opening { changes: true, ..reading(path) };
    let deep: &[&str] = &["/share/**"];
    for (site, window, all) in [
        (["/share/*", "/share/x/*.csv"].as_slice(), deep, false),
        (deep, ["/share/*"].as_slice(), false),
        (deep, deep, true),
    ] {
        let paths = PathRules::parse(site).unwrap();
        let mut files = DesktopFiles::new(DesktopRules { paths, files: rules_for(window), ..rules() });
        for folder in [None, Some(true), Some(false)] {
            let allowed = all || folder == Some(false);
            let file = opened(&mut files, Opening { folder, ..changing("/share/x") });
            for change in [Change::Rename("/share/y"), Change::Remove] {
                assert_eq!(files.change(file, change).is_some(), allowed, "{site:?} {window:?} {folder:?}");
            }
            let removing = Opening { removes: true, folder, ..reading("/share/x") };
            assert_eq!(files.open(&removing).is_some(), allowed, "{site:?} {window:?} {folder:?}");
        }
    }
    // Out of what is allowed as a whole, into what is not.
    let paths = PathRules::parse(&["/share/all/**", "/share/*"]).unwrap();
    let mut files = DesktopFiles::new(DesktopRules { paths, ..rules() });
    let file = opened(&mut files, changing("/share/all/x"));
    assert_eq!(files.change(file, Change::Rename("/share/x")), None);
    assert!(files.change(file, Change::Rename("/share/all/y")).is_some());
}

#[test]
fn what_is_refused_costs_nothing_of_the_budget() {
    let budget = Budget::new(10);
    let window = FileRules { max_bytes: Some(budget.clone()), ..open_rules() };
    let mut files = DesktopFiles::new(DesktopRules { largest: Some(4), files: window, ..rules() });
    let up = opened(&mut files, reading("/share/in"));
    let down = opened(&mut files, writing("/share/out"));
    assert!(!take(&mut files, up, 0, b"large") && !give(&mut files, down, 0, b"large"));
    assert!(!files.pass(up, Direction::ToTarget, 0, &Bytes::from_static(b"a")));
    assert!(!give(&mut files, down, 0, b"a"));
    assert_eq!(budget.left(), 10);
}

#[test]
fn what_is_read_and_what_is_written_through_one_opening_are_two_things() {
    // A write that is refused says nothing of what was read.
    let mut files = DesktopFiles::new(rules());
    let read = opened(&mut files, reading("/share/a"));
    assert!(take(&mut files, read, 0, b"pressure"));
    assert!(!give(&mut files, read, 0, b"x"));
    files.size(read, 8);
    files.close(read, Ok(()));
    let told = log(&files);
    let upload = told.events.last().unwrap();
    assert_eq!((upload.operation, upload.whole, upload.refused.as_ref()), (Operation::Upload, true, None));
    let refused = told.events.iter().find(|event| event.refused.is_some()).unwrap();
    assert_eq!(
        (refused.operation, refused.file),
        (Operation::Download, None),
        "the copy is of what was read"
    );
    // What cannot be read can be written.
    let mut files = DesktopFiles::new(DesktopRules { to_target: false, ..rules() });
    let both = opened(&mut files, Opening { reads: true, ..writing("/share/b") });
    assert!(!files.ask(both, 1));
    assert!(give(&mut files, both, 0, b"x"));
    // The copies of the two are two.
    let mut files = DesktopFiles::new(rules());
    let both =
        opened(&mut files, Opening { empties: false, makes: false, reads: true, ..writing("/share/c") });
    assert!(take(&mut files, both, 0, b"pressure"));
    assert!(give(&mut files, both, 0, b"00000000"));
    files.taken(both, Err(0xc000_007f));
    files.close(both, Ok(()));
    let log = log(&files);
    let [download, upload] = &log.events[..] else { panic!("{log:?}") };
    let (written, taken) = (download.file.unwrap(), upload.file.unwrap());
    assert_ne!(written, taken);
    assert_eq!(log.kept, [(taken, 0, b"pressure".to_vec()), (written, 0, b"00000000".to_vec())]);
    assert_eq!((upload.sha256, upload.error.as_ref()), (sha(b"pressure"), None));
    assert!(download.error.is_some());
}

#[test]
fn what_happens_after_a_new_name_happens_to_the_new_name() {
    let mut files = DesktopFiles::new(rules());
    let file = opened(&mut files, Opening { changes: true, ..writing("/share/a") });
    let renamed = files.change(file, Change::Rename("/share/b")).unwrap();
    files.changed(renamed, Ok(()));
    let failed = files.change(file, Change::Rename("/share/c")).unwrap();
    files.changed(failed, Err(0xc000_0022));
    assert!(give(&mut files, file, 0, b"x"));
    let removed = files.change(file, Change::Remove).unwrap();
    files.changed(removed, Ok(()));
    files.close(file, Ok(()));
    let paths: Vec<_> = log(&files).events.into_iter().map(|e| (e.operation, e.path)).collect();
    let expected = [
        (Operation::Rename, "/share/a"),
        (Operation::Rename, "/share/b"),
        (Operation::Remove, "/share/b"),
        (Operation::Download, "/share/b"),
    ];
    assert_eq!(paths, expected.map(|(operation, path)| (operation, path.to_owned())));
}

#[test]
fn whatever_was_said_to_begin_is_said_to_end() {
    for opening in [
        Opening { changes: true, ..reading("/share/a") },
        Opening { makes: false, empties: false, ..writing("/share/a") },
    ] {
        let mut files = DesktopFiles::new(rules());
        let file = opened(&mut files, opening);
        let begun = started(&files);
        files.close(file, Ok(()));
        let ended: Vec<_> = log(&files).events.into_iter().map(|e| (e.operation, e.path)).collect();
        assert_eq!((begun.len(), &ended), (1, &begun), "{opening:?}");
    }
}

#[test]
fn a_drive_as_a_whole_is_neither_removed_nor_renamed() {
    let mut files = DesktopFiles::new(rules());
    assert_eq!(files.open(&Opening { removes: true, folder: Some(true), ..reading("/share") }), None);
    let root = opened(&mut files, Opening { changes: true, ..reading("/share") });
    let file = opened(&mut files, Opening { changes: true, ..reading("/share/a") });
    assert_eq!(files.change(root, Change::Remove), None);
    assert_eq!(files.change(root, Change::Rename("/share/x")), None);
    assert_eq!(files.change(file, Change::Rename("/share")), None);
}

#[test]
fn room_is_no_size_and_locks_are_for_who_may_write() {
    let mut files = DesktopFiles::new(DesktopRules { largest: Some(8), ..rules() });
    let file = opened(&mut files, writing("/share/a"));
    assert_eq!(files.change(file, Change::Allocate(9)), None);
    let room = files.change(file, Change::Allocate(8)).unwrap();
    files.changed(room, Ok(()));
    assert!(files.lock(file));
    assert!(give(&mut files, file, 0, b"abcd"));
    files.close(file, Ok(()));
    assert!(log(&files).events.iter().any(|event| event.whole && event.sha256 == sha(b"abcd")));
    let mut files = DesktopFiles::new(DesktopRules { to_person: false, ..rules() });
    let file = opened(&mut files, reading("/share/a"));
    assert!(!files.lock(file), "it keeps the person's own programs out");
}

#[test]
fn a_short_answer_is_the_end_only_where_nothing_comes_behind_it() {
    let mut files = DesktopFiles::new(rules());
    let file = opened(&mut files, reading("/share/a"));
    assert!(take(&mut files, file, 0, b"ab"));
    files.ends(file, 2);
    assert!(take(&mut files, file, 2, b"cd"));
    files.close(file, Ok(()));
    let log = log(&files);
    assert_eq!((log.events[0].sha256, log.events[0].whole), (sha(b"abcd"), false));
}
