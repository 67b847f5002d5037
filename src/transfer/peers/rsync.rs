//! rsync as client and as server, with the inspector between them.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use super::super::testing::{Log, open_rules, rules_for, rules_of_a_site, rules_with_budget, sha};
use super::super::{FileEvent, FileRules, Operation};
use super::{Bench, found, noise, there};

struct Trees(Bench);

impl Trees {
    fn new() -> Self {
        assert!(there("/usr/bin/rsync"), "install rsync");
        let trees = Self(Bench::new());
        fs::create_dir(trees.near("t")).unwrap();
        fs::create_dir(trees.0.far("d")).unwrap();
        trees
    }

    fn near(&self, name: &str) -> std::path::PathBuf {
        self.0.path("near").join(name)
    }

    fn put(&self, name: &str, contents: &[u8]) {
        let path = self.near("t").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn run(&self, options: &[&str], from: &str, to: &str, rules: FileRules) -> (bool, String, Option<Log>) {
        let mut rsync = Command::new("rsync");
        rsync.args(["-e", &self.0.ssh()]).args(options).args([from, to]);
        self.0.run(&mut rsync, "", rules)
    }

    /// `t/` to the far `d/`; has to succeed.
    fn up(&self, options: &[&str]) -> Log {
        self.up_within(options, open_rules())
    }

    fn up_within(&self, options: &[&str], rules: FileRules) -> Log {
        let (good, said, log) = self.run(options, "t/", &format!("gw:{}/", self.0.far("d")), rules);
        assert!(good, "{options:?}: {said} {log:?}");
        log.unwrap()
    }

    /// The far `d/` to `back/`; has to succeed.
    fn down(&self, options: &[&str]) -> Log {
        let (good, said, log) = self.run(options, &format!("gw:{}/", self.0.far("d")), "back/", open_rules());
        assert!(good, "{options:?}: {said} {log:?}");
        log.unwrap()
    }

    /// The event for `name` below `d`.
    fn event(&self, log: &Log, operation: Operation, name: &str) -> FileEvent {
        let path = format!("{}/{name}", self.0.far("d"));
        let found: Vec<_> =
            log.events.iter().filter(|event| event.operation == operation && event.path == path).collect();
        assert_eq!(found.len(), 1, "{operation} {path}: {:#?}", log.events);
        found[0].clone()
    }

    fn whole(&self, log: &Log, operation: Operation, name: &str, contents: &[u8]) -> FileEvent {
        let event = self.event(log, operation, name);
        let size = contents.len() as u64;
        assert_eq!((event.bytes, event.size), (size, Some(size)), "{name}: {:?}", event.note);
        assert_eq!(event.sha256, sha(contents), "{name}: {:?}", event.note);
        assert!(event.whole && event.refused.is_none() && event.error.is_none(), "{event:?}");
        event
    }
}

fn moved(log: &Log, operation: Operation) -> usize {
    log.events.iter().filter(|event| event.operation == operation).count()
}

/// Awkward names, sizes and nesting, with links and an empty folder.
const NAMES: &[(&str, usize)] = &[
    ("a", 0),
    ("a.b/c", 1),
    ("a-b/z", 40_000),
    ("b/line\nfeed", 100),
    ("b/Prüfstand 7 ☃", 70_000),
    ("b/c/d/e/f", 3),
    ("ab", 300_000),
    ("b.txt", 5),
    ("z/-rf", 9),
];

#[test]
fn each_file_is_an_event_with_its_path_size_and_hash_both_ways() {
    let trees = Trees::new();
    for (name, size) in NAMES {
        trees.put(name, &noise(*size));
    }
    let long = format!("long/{}", "n".repeat(250));
    trees.put(&long, b"long");
    fs::create_dir(trees.near("t/empty")).unwrap();
    symlink("a", trees.near("t/link")).unwrap();
    let keeping = || FileRules { keep_uploads: true, ..open_rules() };
    for options in [
        &["-a"][..],
        &["-rt", "--checksum-choice=md5"],
        &["-ac", "--numeric-ids"],
        &["-aR", "--no-R"],
        &["-aUS"],
        &["-rlptD", "--protocol=30"],
        &["-aHv", "--stats", "--progress"],
    ] {
        fs::remove_dir_all(trees.0.far("d")).unwrap();
        fs::create_dir(trees.0.far("d")).unwrap();
        fs::remove_dir_all(trees.near("back")).unwrap_or(());
        let log = trees.up_within(options, keeping());
        for (name, size) in NAMES {
            let event = trees.whole(&log, Operation::Upload, name, &noise(*size));
            let kept: Vec<u8> = log
                .kept
                .iter()
                .filter(|kept| Some(kept.0) == event.file)
                .flat_map(|kept| kept.2.clone())
                .collect();
            assert!(event.file.is_some() && kept == noise(*size), "{name}");
        }
        trees.whole(&log, Operation::Upload, &long, b"long");
        assert_eq!(moved(&log, Operation::Upload), NAMES.len() + 1, "{options:?}");
        trees.event(&log, Operation::Mkdir, "empty");
        if !options.contains(&"-rt") {
            assert_eq!(trees.event(&log, Operation::Symlink, "link").to.as_deref(), Some("a"));
        }
        let log = trees.down(options);
        for (name, size) in NAMES {
            trees.whole(&log, Operation::Download, name, &noise(*size));
            assert_eq!(fs::read(trees.near("back").join(name)).unwrap(), noise(*size));
        }
        assert_eq!(log.events.len(), NAMES.len() + 1, "{options:?}");
    }
}

/// Names of the bytes around `/`, nested, so that folders and files sort in every way beside each other. Each file holds
/// its own name: an index taken for another one would show in the hash.
#[test]
fn every_index_means_the_file_that_rsync_means() {
    let trees = Trees::new();
    let picks = noise(4000);
    let mut names = std::collections::BTreeSet::new();
    for pick in picks.chunks_exact(8) {
        let letters: Vec<&str> =
            pick.iter().map(|byte| ["-", ".", "/", "0", "a", "/", "é", " "][usize::from(byte % 8)]).collect();
        let parts: Vec<String> = letters
            .concat()
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| format!("{part}x"))
            .collect();
        // The last part differs from every folder's.
        let name = format!("{}{}", parts.join("/"), pick[0] % 3);
        if !parts.is_empty() && names.insert(name.clone()) {
            trees.put(&name, name.as_bytes());
        }
    }
    assert!(names.len() > 300);
    let (up, down) = (trees.up(&["-a"]), trees.down(&["-aH"]));
    for name in &names {
        trees.whole(&up, Operation::Upload, name, name.as_bytes());
        trees.whole(&down, Operation::Download, name, name.as_bytes());
    }
}

#[test]
fn a_difference_has_no_hash_and_tells_how_much_passed() {
    let trees = Trees::new();
    let old = noise(400_000);
    trees.put("big", &old);
    trees.up(&["-a"]);
    let mut new = old;
    new.splice(100_000..100_010, *b"changed in the middle");
    trees.put("big", &new);
    // Changes within one second are not told from each other by the time alone.
    for options in [&["-aI"][..], &["-aIz"], &["-aI", "--inplace"]] {
        let log = trees.up(options);
        let event = trees.event(&log, Operation::Upload, "big");
        assert!(event.sha256.is_none() && event.whole, "{event:?}");
        assert!(event.bytes > 0 && event.bytes < 50_000, "{event:?}");
        assert_eq!(event.size, Some(new.len() as u64));
        assert!(event.note.unwrap().contains("different"));
        new[5] ^= 1;
        trees.put("big", &new);
    }
    assert_eq!(moved(&trees.up(&["-aI"]), Operation::Upload), 1);
    let log = trees.up(&["-a"]);
    assert_eq!(log.events.len(), 1, "{:?}", log.events);
    assert!(log.events[0].note.as_ref().unwrap().contains("no file was moved"));
    assert_eq!(log.events[0].bytes, 0);
}

#[test]
fn removals_on_the_target_are_events() {
    let trees = Trees::new();
    trees.put("stays", b"1");
    for when in ["--delete", "--delete-after", "--delete-before", "--delete-delay", "--delete-excluded"] {
        fs::create_dir(trees.0.far("d/old")).unwrap();
        fs::write(trees.0.far("d/old/er"), b"x").unwrap();
        let log = trees.up(&["-a", when, "--exclude=*.o", "--filter=P keep me"]);
        trees.event(&log, Operation::Remove, "old/er");
        trees.event(&log, Operation::Rmdir, "old");
        assert!(!fs::exists(trees.0.far("d/old")).unwrap());
    }
    let log = trees.down(&["-a", "--remove-source-files"]);
    trees.whole(&log, Operation::Download, "stays", b"1");
    trees.event(&log, Operation::Remove, "stays");
}

#[test]
fn appended_files_tell_that_only_the_end_passed() {
    let trees = Trees::new();
    let bytes = noise(90_000);
    for option in ["--append", "--append-verify"] {
        trees.put("log", &bytes);
        fs::write(trees.0.far("d/log"), &bytes[..60_000]).unwrap();
        let log = trees.up(&["-a", "--partial", option]);
        let event = trees.event(&log, Operation::Upload, "log");
        assert_eq!((event.bytes, event.size, event.sha256), (30_000, Some(90_000), None));
        assert!(event.note.unwrap().contains("appended"));
    }
}

#[test]
fn packed_contents_are_unpacked_or_told_as_packed() {
    let trees = Trees::new();
    let text = b"pump curve, stage 2\n".repeat(20_000);
    trees.put("text", &text);
    trees.put("noise", &noise(200_000));
    trees.put("small.gz", b"x");
    let zeros = vec![0; 40_000_000];
    trees.put("zeros", &zeros);
    for (option, hashed) in [
        ("-z", true),
        ("--compress-level=4", true),
        ("--compress-choice=zstd", true),
        ("--compress-choice=lz4", false),
        ("--compress-choice=zlibx", false),
        ("--compress-choice=zlib", false),
    ] {
        fs::remove_dir_all(trees.0.far("d")).unwrap();
        fs::create_dir(trees.0.far("d")).unwrap();
        fs::remove_dir_all(trees.near("back")).unwrap_or(());
        let keeping = FileRules { keep_uploads: true, ..open_rules() };
        let (up, down) = (trees.up_within(&["-a", option], keeping), trees.down(&["-a", option]));
        for (log, operation) in [(up, Operation::Upload), (down, Operation::Download)] {
            for (name, bytes) in
                [("text", &text[..]), ("noise", &noise(200_000)), ("small.gz", b"x"), ("zeros", &zeros)]
            {
                if hashed {
                    trees.whole(&log, operation, name, bytes);
                    continue;
                }
                let event = trees.event(&log, operation, name);
                assert_eq!((event.size, event.sha256), (Some(bytes.len() as u64), None));
                assert!(event.note.unwrap().contains("packed by"));
            }
        }
        assert_eq!(fs::read(trees.near("back/text")).unwrap(), text);
    }
}

#[test]
fn hard_links_sparse_files_and_many_files_keep_their_places() {
    let trees = Trees::new();
    for n in 0..1500 {
        trees.put(&format!("{}/{n}", n % 37), format!("{n}").as_bytes());
    }
    trees.put("first", b"one file");
    fs::hard_link(trees.near("t/first"), trees.near("t/5/second")).unwrap();
    fs::hard_link(trees.near("t/first"), trees.near("t/0 third")).unwrap();
    fs::File::create(trees.near("t/sparse")).unwrap().set_len(3_000_000).unwrap();
    let log = trees.up(&["-aHS"]);
    assert_eq!(moved(&log, Operation::Upload), 1502);
    for n in 0..1500 {
        trees.whole(&log, Operation::Upload, &format!("{}/{n}", n % 37), format!("{n}").as_bytes());
    }
    trees.whole(&log, Operation::Upload, "sparse", &vec![0; 3_000_000]);
    assert_eq!(moved(&log, Operation::Link), 2, "{:?}", log.events);
    assert_eq!(fs::metadata(trees.0.far("d/first")).unwrap().nlink(), 3);
    let log = trees.down(&["-aHS"]);
    assert_eq!(log.events.len(), 1502);
    trees.whole(&log, Operation::Download, "36/36", b"36");
}

#[test]
fn named_files_and_whole_paths_are_followed() {
    let trees = Trees::new();
    for name in ["x/one", "x/two", "y/three"] {
        trees.put(name, name.as_bytes());
    }
    fs::write(trees.near("names"), "x/one\n\ny/three\n").unwrap();
    let log = trees.up(&["-a", "--files-from=names"]);
    assert_eq!(moved(&log, Operation::Upload), 2);
    trees.whole(&log, Operation::Upload, "x/one", b"x/one");
    let log = trees.down(&["-a", "--files-from=names"]);
    assert_eq!(log.events.len(), 2);
    trees.whole(&log, Operation::Download, "y/three", b"y/three");
    let far = format!("gw:{}/./x/one", trees.0.far("d"));
    let (good, said, log) = trees.run(&["-aR"], &far, "back2/", open_rules());
    assert!(good, "{said}");
    trees.whole(&log.unwrap(), Operation::Download, "x/one", b"x/one");
    let (good, said, log) =
        trees.run(&["-aR"], "t/./x/two", &format!("gw:{}/", trees.0.far("d")), open_rules());
    assert!(good, "{said}");
    trees.whole(&log.unwrap(), Operation::Upload, "x/two", b"x/two");
}

#[test]
fn a_dry_run_moves_nothing_and_says_so() {
    let trees = Trees::new();
    trees.put("a", b"1");
    let log = trees.up(&["-avn", "--delete"]);
    assert_eq!(log.events.len(), 1, "{:?}", log.events);
    assert!(log.events[0].note.as_ref().unwrap().contains("dry run"));
    assert!(!fs::exists(trees.0.far("d/a")).unwrap());
}

#[test]
fn single_paths_are_enforced_file_by_file_before_anything_is_written() {
    let trees = Trees::new();
    trees.put("a.bin", &noise(50_000));
    let folder = format!("gw:{}/", trees.0.far("d"));
    let rules = || rules_for(&[&format!("{}/*.bin", trees.0.far("d"))]);
    let (good, said, log) = trees.run(&["-a"], "t/a.bin", &folder, rules());
    assert!(good, "{said}");
    trees.whole(&log.unwrap(), Operation::Upload, "a.bin", &noise(50_000));
    let (good, said, log) = trees.run(&["-a"], &format!("{folder}a.bin"), "back/", rules());
    assert!(good, "{said}");
    trees.whole(&log.unwrap(), Operation::Download, "a.bin", &noise(50_000));
    trees.put("b.bin", b"fine");
    trees.put("evil.sh", b"rm -rf /");
    fs::write(trees.0.far("d/secret"), b"s").unwrap();
    let mut rsync = Command::new("rsync");
    rsync.args(["-e", &trees.0.ssh(), "-a", "t/b.bin", "t/evil.sh", &folder]);
    let (good, _, log) = trees.0.run(&mut rsync, "", rules());
    let log = log.unwrap();
    assert!(!good && log.end.as_ref().unwrap().contains("evil.sh: the path is outside"), "{:?}", log.end);
    let event = trees.event(&log, Operation::Upload, "evil.sh");
    assert!(event.refused.is_some());
    assert!(!fs::exists(trees.0.far("d/b.bin")).unwrap() && !fs::exists(trees.0.far("d/evil.sh")).unwrap());
    let (good, _, log) = trees.run(&["-a"], &folder, "back/", rules());
    assert!(!good && log.unwrap().end.unwrap().contains("secret: the path is outside"));
    symlink("/etc/passwd", trees.near("t/l.bin")).unwrap();
    let (good, _, log) = trees.run(&["-a"], "t/l.bin", &folder, rules());
    assert!(!good && log.unwrap().end.unwrap().contains("the link leads outside"));
    for options in [&["-aA"][..], &["-aX"], &["-a", "--delete"], &["-ab"]] {
        let (good, _, log) = trees.run(options, "t/", &folder, rules());
        assert!(!good && log.is_none(), "{options:?}");
    }
    let (good, _, log) = trees.run(&["-a"], "t/a.bin", "gw:/etc/", rules());
    assert!(!good && log.is_none());
}

#[test]
fn a_file_larger_than_what_is_left_is_refused_before_its_contents() {
    let trees = Trees::new();
    trees.put("a", &noise(10_000));
    trees.put("b", &noise(90_000));
    for options in [&["-a"][..], &["-az"]] {
        let rules = rules_with_budget(50_000);
        let (good, _, log) = trees.run(options, "t/", &format!("gw:{}/", trees.0.far("d")), rules);
        let log = log.unwrap();
        assert!(!good && log.end.as_ref().unwrap().contains("b: the file is larger"), "{:?}", log.end);
        trees.whole(&log, Operation::Upload, "a", &noise(10_000));
        assert!(log.to_target.len() < 13_000);
        fs::remove_file(trees.0.far("d/a")).unwrap_or(());
    }
}

#[test]
fn what_cannot_be_followed_passes_as_one_event_that_says_so() {
    let trees = Trees::new();
    trees.put("a", &noise(10_000));
    for option in ["-A", "-X", "--iconv=utf-8,latin1"] {
        let log = trees
            .up_within(&["-a", option, "--ignore-times"], FileRules { keep_uploads: true, ..open_rules() });
        assert_eq!(log.events.len(), 1);
        let event = &log.events[0];
        assert!(event.bytes > 0 && event.file.is_some() && event.sha256.is_none());
        assert!(event.note.as_ref().unwrap().contains("was not followed"), "{event:?}");
        assert_eq!(fs::read(trees.0.far("d/a")).unwrap(), noise(10_000));
    }
}

#[test]
fn a_missing_file_is_told() {
    let trees = Trees::new();
    let (good, _, log) = trees.run(
        &["-az", "--stderr=client"],
        &format!("gw:{}", trees.0.far("d/nope")),
        "back",
        open_rules(),
    );
    assert!(!good);
    let error = found(&log.unwrap(), Operation::Download, "nope").error;
    assert!(error.as_ref().is_some_and(|error| error.contains("No such file")), "{error:?}");
}

#[test]
fn the_sites_policies_bind_every_file_of_rsync() {
    let trees = Trees::new();
    trees.put("small", &noise(900));
    let to = format!("gw:{}/", trees.0.far("d"));
    let run = |options: &[&str]| trees.run(options, "t/", &to, rules_of_a_site());
    let (good, said, _) = run(&["-a"]);
    assert!(good, "{said}");
    for (name, contents) in [("a/x.exe", noise(3)), ("large", noise(1001))] {
        trees.put(name, &contents);
        let (good, said, _) = run(&["-a"]);
        assert!(!good && !std::path::Path::new(&trees.0.far("d")).join(name).exists(), "{said}");
        fs::remove_file(trees.near("t").join(name)).unwrap();
    }
    symlink("/etc/host.key", trees.near("t/link")).unwrap();
    assert!(!run(&["-a"]).0);
    fs::remove_file(trees.near("t/link")).unwrap();
    // What hides single files or their sizes from the gateway.
    for options in
        [&["-aA"][..], &["-a", "--delete"], &["-ab"], &["-az", "--compress-choice=zlib", "--ignore-times"]]
    {
        let (good, said, _) = run(options);
        assert!(!good, "{options:?}: {said}");
    }
    let (good, said, _) =
        trees.run(&["-a"], "t/small", &format!("gw:{}", trees.0.far("d/x.exe")), rules_of_a_site());
    assert!(!good, "{said}");
    fs::write(trees.0.far("d/host.key"), "key").unwrap();
    let down =
        |from: &str| trees.run(&["-a"], &format!("gw:{}", trees.0.far(from)), "back/", rules_of_a_site());
    assert!(!down("d/").0 && !trees.near("back/host.key").exists());
    assert!(!down("d/host.key").0 && !trees.near("back/host.key").exists());
    let (good, said, _) = down("d/small");
    assert!(good && trees.near("back/small").exists(), "{said}");
}
