//! The inspectors between real clients and real far sides, without a network: the client runs a small script in
//! place of `ssh`, which hands its pipes over; the test stands in the middle.

mod rsync;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use tempfile::TempDir;

use super::command::{Kind, detect, for_target};
use super::rsync::RsyncInspector;
use super::scp::ScpInspector;
use super::sftp::SftpInspector;
use super::testing::{From, Log, open_rules, rules_for, rules_of_a_site, sha};
use super::{FileRules, Inspector, Operation};

const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// Copies standard input to standard output. rsync hands over pipes that do not block, which `cat` cannot use.
const COPY: &str = r#"
sub ready { my ($fd, $in) = @_; my $set = ''; vec($set, $fd, 1) = 1;
  $in ? select($set, undef, undef, 1) : select(undef, $set, undef, 1); }
while (1) {
  my $size = sysread(STDIN, my $part, 32768);
  if (!defined $size) { $!{EAGAIN} or exit 1; ready(0, 1); next; }
  $size or last;
  for (my $at = 0; $at < $size;) {
    my $sent = syswrite(STDOUT, $part, $size - $at, $at);
    if (defined $sent) { $at += $sent; } else { $!{EAGAIN} or exit 1; ready(1, 0); }
  }
}
"#;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self { dir };
        for fifo in ["up", "down"] {
            assert!(Command::new("mkfifo").arg(bench.path(fifo)).status().unwrap().success());
        }
        // The command is the last word, or for rsync all words from its name on.
        let script = format!(
            "#!/bin/sh\nexec 3<&0\nfor word; do last=$word; done\n\
             while [ $# -gt 1 ]; do shift; if [ \"$1\" = rsync ]; then last=\"$*\"; break; fi; done\n\
             printf '%s' \"$last\" > '{0}/cmd.tmp'\nmv '{0}/cmd.tmp' '{0}/cmd'\n\
             perl '{0}/copy' <&3 > '{0}/up' &\nperl '{0}/copy' < '{0}/down'\nkill $! 2>/dev/null\nexit $(cat '{0}/code')\n",
            bench.dir.path().display()
        );
        fs::write(bench.path("copy"), COPY).unwrap();
        fs::write(bench.path("ssh"), script).unwrap();
        assert!(Command::new("chmod").arg("755").arg(bench.path("ssh")).status().unwrap().success());
        fs::write(bench.path("code"), "255").unwrap();
        fs::create_dir(bench.path("far")).unwrap();
        fs::create_dir(bench.path("near")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn far(&self, name: &str) -> String {
        self.path("far").join(name).display().to_string()
    }

    /// Runs `client` with `input` and stands in the middle. `None` where the rules refuse the command.
    fn run(&self, client: &mut Command, input: &str, rules: FileRules) -> (bool, String, Option<Log>) {
        fs::remove_file(self.path("cmd")).unwrap_or(());
        let mut child = client
            .current_dir(self.path("near"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let called = self.path("cmd");
        while !called.exists() && child.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
        let log = called.exists().then(|| self.middle(rules)).flatten();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.success(), said, log)
    }

    fn middle(&self, rules: FileRules) -> Option<Log> {
        let mut up = fs::File::open(self.path("up")).unwrap();
        let mut down = fs::OpenOptions::new().write(true).open(self.path("down")).unwrap();
        let command = fs::read_to_string(self.path("cmd")).unwrap();
        let (mut inspector, run): (Box<dyn Inspector>, String) = match detect(&command) {
            Some(Kind::Scp(scp)) => (Box::new(ScpInspector::new(scp, rules, None).ok()?), command),
            Some(Kind::Rsync(rsync)) => {
                let run = for_target(&command).into_owned();
                (Box::new(RsyncInspector::new(rsync, rules, None).ok()?), run)
            }
            _ => {
                assert_eq!(command, "sftp");
                (Box::new(SftpInspector::new(rules)), SFTP_SERVER.to_owned())
            }
        };
        let mut far = Command::new("sh")
            .args(["-c", &run])
            .current_dir(self.path("far"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, parts) = mpsc::channel();
        let mut far_out = far.stdout.take().unwrap();
        let mut far_in = far.stdin.take();
        let pump = |from: From, source: &mut dyn FnMut(&mut [u8]) -> usize| {
            let mut buffer = vec![0; 32 << 10];
            loop {
                let size = source(&mut buffer);
                sender.send((from, Bytes::copy_from_slice(&buffer[..size]))).unwrap();
                if size == 0 {
                    break;
                }
            }
        };
        let second = sender.clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = vec![0; 32 << 10];
                loop {
                    let size = far_out.read(&mut buffer).unwrap_or(0);
                    if second.send((From::Target, Bytes::copy_from_slice(&buffer[..size]))).is_err()
                        || size == 0
                    {
                        break;
                    }
                }
            });
            scope.spawn(|| pump(From::Person, &mut |buffer| up.read(buffer).unwrap_or(0)));
            let mut log = Log::default();
            let mut seen = (0, 0);
            for (from, data) in parts.iter() {
                if data.is_empty() && from == From::Target {
                    break;
                }
                if data.is_empty() {
                    far_in = None;
                    continue;
                }
                let mut out = Vec::new();
                match from {
                    From::Person => inspector.from_person(data, &mut out),
                    From::Target => inspector.from_target(data, &mut out),
                }
                log.take(out);
                if let Some(pipe) = &mut far_in {
                    pipe.write_all(&log.to_target[seen.0..]).unwrap_or(());
                }
                down.write_all(&log.to_person[seen.1..]).unwrap_or(());
                seen = (log.to_target.len(), log.to_person.len());
                if log.end.is_some() {
                    break;
                }
            }
            drop(far_in.take());
            // The client waits for the far side's status, as it would with ssh.
            let code = far.wait().unwrap().code().unwrap_or(255);
            fs::write(self.path("code"), code.to_string()).unwrap();
            drop(down);
            let mut out = Vec::new();
            inspector.close(&mut out);
            log.take_closing(out);
            Some(log)
        })
    }

    fn ssh(&self) -> String {
        self.path("ssh").display().to_string()
    }

    fn sftp(&self, batch: &str, rules: FileRules) -> (bool, String, Option<Log>) {
        self.run(Command::new("sftp").args(["-S", &self.ssh(), "-b", "-", "gw"]), batch, rules)
    }
}

/// Contents that no compression shortens.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| step()).collect()
}

fn there(program: &str) -> bool {
    Path::new(program).exists()
}

fn found(log: &Log, operation: Operation, path: &str) -> super::FileEvent {
    log.events
        .iter()
        .find(|event| event.operation == operation && event.path.trim_end_matches('/').ends_with(path))
        .unwrap_or_else(|| panic!("no {operation} of {path} in {:#?}", log.events))
        .clone()
}

#[test]
fn openssh_sftp_passes_and_every_operation_is_an_event_with_the_right_hash() {
    assert!(there(SFTP_SERVER), "install openssh-sftp-server");
    let bench = Bench::new();
    let big = noise(3_000_001);
    fs::write(bench.path("near/big"), &big).unwrap();
    fs::write(bench.path("near/empty"), b"").unwrap();
    let batch = "put big\nput empty\nget big back\nmkdir d\nrename big d/big2\nln -s d/big2 l\nchmod 600 d/big2\nls -l d\nrm l\n\
                 rm d/big2\nrmdir d\n";
    let mut rules = open_rules();
    rules.keep_uploads = true;
    let (good, said, log) = bench.sftp(batch, rules);
    let log = log.unwrap();
    assert!(good, "{said}\n{:?}", log.end);
    for operation in [Operation::Upload, Operation::Download] {
        let event = found(&log, operation, "big");
        assert!(event.whole, "{event:?}");
        assert_eq!((event.bytes, event.sha256), (big.len() as u64, sha(&big)));
    }
    assert!(found(&log, Operation::Upload, "empty").whole);
    assert_eq!(log.kept.first().unwrap().2, big);
    assert_eq!(fs::read(bench.path("near/back")).unwrap(), big);
    assert!(found(&log, Operation::Rename, "big").to.unwrap().ends_with("d/big2"));
    let link = found(&log, Operation::Symlink, "l");
    assert_eq!(link.to.as_deref(), Some("d/big2"));
    assert_eq!(found(&log, Operation::SetAttributes, "big2").note.as_deref(), Some("mode 0600"));
    for (operation, path) in
        [(Operation::Mkdir, "d"), (Operation::List, "d"), (Operation::Remove, "l"), (Operation::Rmdir, "d")]
    {
        assert_eq!(found(&log, operation, path).error, None);
    }
}

#[test]
fn openssh_sftp_is_told_why_the_rules_refuse_and_goes_on() {
    let bench = Bench::new();
    fs::write(bench.path("near/a"), b"abc").unwrap();
    fs::write(bench.path("far/b"), b"abc").unwrap();
    let far = bench.far("");
    let mut rules = rules_for(&[&format!("{}/**", far.trim_end_matches('/'))]);
    rules.read_only = true;
    let (_, said, log) = bench.sftp("-put a\n-rm b\n-get /etc/hostname\nget b\n", rules);
    let log = log.unwrap();
    assert_eq!(log.end, None);
    assert_eq!(fs::read(bench.path("near/b")).unwrap(), b"abc", "{said}");
    assert!(!bench.path("far/a").exists() && bench.path("far/b").exists());
    assert!(!bench.path("near/hostname").exists());
    assert!(log.events.iter().filter(|event| event.refused.is_some()).count() >= 3, "{:#?}", log.events);
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn openssh_scp_over_both_protocols_is_followed() {
    for mode in ["-O", "-s"] {
        let big = noise(700_001);
        let bench = Bench::new();
        fs::create_dir(bench.path("near/t")).unwrap();
        fs::write(bench.path("near/t/big file"), &big).unwrap();
        let far = bench.far("");
        let mut scp = Command::new("scp");
        scp.args([mode, "-r", "-p", "-S", &bench.ssh(), "t", &format!("gw:{far}")]);
        let (good, said, log) = bench.run(&mut scp, "", open_rules());
        let log = log.unwrap();
        assert!(good, "{mode} {said} {:?}", log.end);
        let event = found(&log, Operation::Upload, "t/big file");
        assert_eq!((event.whole, event.sha256), (true, sha(&big)), "{mode} {event:?}");
        let mut scp = Command::new("scp");
        scp.args([mode, "-r", "-S", &bench.ssh(), &format!("gw:{far}t"), "back"]);
        let (good, said, log) = bench.run(&mut scp, "", open_rules());
        let log = log.unwrap();
        assert!(good, "{mode} {said} {:?}", log.end);
        let event = found(&log, Operation::Download, "t/big file");
        assert_eq!((event.whole, event.sha256), (true, sha(&big)), "{mode} {event:?}");
        assert_eq!(fs::read(bench.path("near/back/big file")).unwrap(), big);
    }
}

#[test]
fn the_sites_policies_bind_every_file_of_sftp_and_of_both_scp_protocols() {
    let bench = Bench::new();
    for (name, size) in
        [("near/a.exe", 3), ("near/small", 900), ("near/large", 1001), ("far/b.key", 3), ("far/b.txt", 3)]
    {
        fs::write(bench.path(name), noise(size)).unwrap();
    }
    let far = bench.far("");
    let batch = format!(
        "cd {far}\n-put a.exe\n-put large\n-put small\n-get b.key\n-get b.txt\n-rename b.key c.txt\n-ln b.key d.txt\n\
         -ln -s b.key e.txt\n-rename small f.exe\n-cp b.key g.txt\n-mkdir h.exe\nls\n"
    );
    let (_, said, log) = bench.sftp(&batch, rules_of_a_site());
    let log = log.unwrap();
    assert_eq!(log.end, None);
    let mut left: Vec<_> = fs::read_dir(bench.path("far")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    // Of the large file nothing passed beyond what was allowed.
    assert_eq!(left, ["b.key", "b.txt", "large", "small"], "{said}");
    assert!(fs::metadata(bench.path("far/large")).unwrap().len() <= 1000, "{said}");
    assert!(bench.path("near/b.txt").exists() && !bench.path("near/b.key").exists(), "{said}");
    assert!(said.contains("keys stay here") || said.contains("Permission denied"), "{said}");
    for why in ["keys stay here", "no programs", "too much at once"] {
        let told = |event: &super::FileEvent| event.refused.as_deref() == Some(why);
        assert!(log.events.iter().any(told), "{why}: {:#?}", log.events);
    }
    fs::remove_file(bench.path("far/large")).unwrap();
    for mode in ["-O", "-s"] {
        fs::remove_file(bench.path("near/b.txt")).unwrap();
        // A folder that is not written as one must not hide the file's name.
        let folder = far.trim_end_matches('/').to_owned();
        for (from, to) in
            [("a.exe", far.clone()), ("a.exe", folder), ("a.exe", bench.far("x.exe")), ("large", far.clone())]
        {
            let mut scp = Command::new("scp");
            scp.args([mode, "-S", &bench.ssh(), from, &format!("gw:{to}")]);
            let (good, said, _) = bench.run(&mut scp, "", rules_of_a_site());
            assert!(!good, "{mode} {from} {said}");
            assert!(!bench.path("far/a.exe").exists() && !bench.path("far/x.exe").exists(), "{mode} {said}");
        }
        for (name, passes) in [("b.key", false), ("b.txt", true)] {
            let mut scp = Command::new("scp");
            scp.args([mode, "-S", &bench.ssh(), &format!("gw:{}", bench.far(name)), name]);
            let (good, said, _) = bench.run(&mut scp, "", rules_of_a_site());
            assert_eq!(
                (good, bench.path("near").join(name).exists()),
                (passes, passes),
                "{mode} {name} {said}"
            );
        }
    }
}
