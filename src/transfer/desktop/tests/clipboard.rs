//! Files on the clipboard of one side, which the other fetches.

use super::*;

/// A file on the clipboard that the target fetches, or the person.
fn copied(path: &str, to: Direction) -> Opening<'_> {
    let gives = to == Direction::ToPerson;
    Opening {
        place: Place::Clipboard,
        reads: !gives,
        writes: gives,
        makes: gives,
        empties: gives,
        folder: Some(false),
        ..reading(path)
    }
}

/// Fetches a part, and whether it passed.
fn fetch(files: &mut DesktopFiles, file: u32, to: Direction, offset: u64, data: &'static [u8]) -> bool {
    files.ask(file, offset + 1000) && files.pass(file, to, offset, &Bytes::from_static(data))
}

#[test]
fn a_copied_file_has_its_hash_and_a_copy_whichever_way_it_goes_and_in_whatever_order() {
    for (to, operation) in
        [(Direction::ToTarget, Operation::Upload), (Direction::ToPerson, Operation::Download)]
    {
        let mut files = DesktopFiles::new(rules());
        let opening = copied("/clipboard/a.csv", to);
        assert!(files.offer(&opening, Some(12)));
        let file = opened(&mut files, opening);
        files.size(file, 12);
        for (offset, data) in [(8, b"end!".as_slice()), (0, b"pres"), (0, b"pres"), (4, b"sure")] {
            assert!(fetch(&mut files, file, to, offset, data));
        }
        files.close(file, Ok(()));
        let steps = steps(&files);
        assert!(matches!(&steps[0], Step::Event(event) if event.started && event.operation == operation));
        let again = Step::Digest { operation, data: Bytes::from_static(b"pres") };
        assert_eq!(steps.iter().filter(|step| **step == again).count(), 1, "the same once more");
        let mut log = Log::default();
        log.take(steps);
        let event = log.events.last().unwrap();
        assert_eq!((event.operation, event.path.as_str(), event.bytes), (operation, "/clipboard/a.csv", 16));
        assert_eq!((event.sha256, event.whole, event.file), (sha(b"pressureend!"), true, Some(file)));
        let kept: Vec<_> = log.kept.iter().map(|(file, offset, data)| (*file, *offset, data.len())).collect();
        assert_eq!(kept, [(file, 8, 4), (file, 0, 8)], "each part once");
    }
}

#[test]
fn a_copied_file_that_changes_meanwhile_or_is_fetched_in_part_is_not_called_whole() {
    for to in [Direction::ToTarget, Direction::ToPerson] {
        let mut files = DesktopFiles::new(rules());
        let changed = opened(&mut files, copied("/clipboard/changed", to));
        files.size(changed, 4);
        assert!(fetch(&mut files, changed, to, 0, b"abcd") && fetch(&mut files, changed, to, 0, b"abXd"));
        files.close(changed, Ok(()));
        let part = opened(&mut files, copied("/clipboard/part", to));
        files.size(part, 9);
        assert!(fetch(&mut files, part, to, 0, b"abcd"));
        files.finish();
        let log = log(&files);
        assert_eq!(log.events.len(), 2, "{log:?}");
        assert!(log.events.iter().all(|event| !event.whole && event.note.is_some()), "{log:?}");
        assert_eq!(log.events[0].sha256, None);
        assert_eq!(log.kept.len(), 3, "both of what is different");
    }
}

#[test]
fn the_clipboard_has_switches_names_and_sizes_of_its_own() {
    let no = ClipboardRules { to_target: false, to_person: false, ..rules().clipboard };
    let mut files = DesktopFiles::new(DesktopRules { clipboard: no, ..rules() });
    for to in [Direction::ToTarget, Direction::ToPerson] {
        let opening = copied("/clipboard/a", to);
        assert!(!files.offer(&opening, None) && files.open(&opening).is_none(), "drives allow nothing here");
        let folder = Opening { folder: Some(true), ..opening };
        assert!(!files.offer(&folder, None));
    }
    let none = DesktopRules { to_target: false, to_person: false, ..rules() };
    for (to_target, to_person) in [(true, false), (false, true)] {
        let clipboard = ClipboardRules { to_target, to_person, ..rules().clipboard };
        let mut files = DesktopFiles::new(DesktopRules { clipboard, ..none.clone() });
        for (to, allowed) in [(Direction::ToTarget, to_target), (Direction::ToPerson, to_person)] {
            let opening = copied("/clipboard/a", to);
            assert_eq!(files.offer(&opening, Some(1)), allowed);
            assert_eq!(files.open(&opening).is_some(), allowed);
        }
    }
    let paths = PathRules::parse(&["/clipboard/in/*.csv"]).unwrap();
    let clipboard = ClipboardRules { paths, largest: Some(4), ..rules().clipboard };
    let mut files = DesktopFiles::new(DesktopRules { clipboard, largest: Some(1), ..rules() });
    for to in [Direction::ToTarget, Direction::ToPerson] {
        let folder = |path| Opening { folder: Some(true), ..copied(path, to) };
        assert!(files.offer(&folder("/clipboard/in"), None) && !files.offer(&folder("/clipboard/out"), None));
        assert!(files.offer(&copied("/clipboard/in/a.csv", to), Some(4)));
        assert!(!files.offer(&copied("/clipboard/in/large.csv", to), Some(5)));
        assert!(!files.offer(&copied("/clipboard/in/a.exe", to), Some(1)));
        assert_eq!(files.open(&copied("/clipboard/a.csv", to)), None);
        let file = opened(&mut files, copied("/clipboard/in/a.csv", to));
        assert!(fetch(&mut files, file, to, 0, b"abcd") && !fetch(&mut files, file, to, 4, b"e"));
        let known = opened(&mut files, copied("/clipboard/in/b.csv", to));
        files.size(known, 5);
        assert!(!files.ask(known, 1), "it is known to be too large");
    }
    let log = log(&files);
    assert!(refusals(&log).contains(&(Operation::Upload, "/clipboard/in/a.exe")));
    assert!(refusals(&log).contains(&(Operation::Download, "/clipboard/in/large.csv")));
    assert!(refusals(&log).contains(&(Operation::Download, "/clipboard/in/b.csv")));
}

#[test]
fn conduits_windows_policies_and_budgets_hold_for_copied_files_too() {
    let offers = |files: FileRules, path: &str, to| {
        DesktopFiles::new(DesktopRules { files, ..rules() }).offer(&copied(path, to), Some(10))
    };
    let (up, down) = (Direction::ToTarget, Direction::ToPerson);
    let only_in = FileRules { may_download: false, ..open_rules() };
    let only_out = FileRules { may_upload: false, ..open_rules() };
    let read_only = FileRules { read_only: true, ..open_rules() };
    for (files, in_allowed, out_allowed) in
        [(only_in, true, false), (only_out, false, true), (read_only, false, true)]
    {
        let offered = [up, down].map(|to| offers(files.clone(), "/clipboard/a", to));
        assert_eq!(offered, [in_allowed, out_allowed]);
    }
    assert!(!offers(rules_for(&["/share/**"]), "/clipboard/a", up), "the window's own patterns");
    // What the target gets is written there; what the person gets is read from there.
    assert!(!offers(rules_of_a_site(), "/clipboard/a.exe", up));
    assert!(!offers(rules_of_a_site(), "/clipboard/a.key", down));
    let budget = Budget::new(6);
    let files = FileRules { max_bytes: Some(budget.clone()), ..open_rules() };
    let mut files = DesktopFiles::new(DesktopRules { files, ..rules() });
    for (to, passes) in [(up, true), (down, false)] {
        let file = opened(&mut files, copied("/clipboard/a", to));
        assert_eq!(fetch(&mut files, file, to, 0, b"four"), passes);
    }
    assert_eq!(budget.left(), 2);
}

#[test]
fn copied_files_end_with_the_rules_that_they_were_allowed_by() {
    let holds = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = holds.clone();
    let standing = Standing::new(move || asked.load(std::sync::atomic::Ordering::Relaxed));
    let mut files = DesktopFiles::new(DesktopRules { standing, ..rules() });
    let open = [Direction::ToTarget, Direction::ToPerson].map(|to| {
        let file = opened(&mut files, copied("/clipboard/a", to));
        assert!(fetch(&mut files, file, to, 0, b"a"));
        (file, to)
    });
    holds.store(false, std::sync::atomic::Ordering::Relaxed);
    for (file, to) in open {
        assert!(!files.pass(file, to, 1, &Bytes::from_static(b"asked before")));
        assert!(!files.ask(file, 2) && !files.offer(&copied("/clipboard/b", to), None));
        assert_eq!(files.open(&copied("/clipboard/b", to)), None);
    }
}
