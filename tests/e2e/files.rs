//! File transfer: whole files, both scp protocols, and the events that are made of them.

use std::{fs, path::Path, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};

use crate::support::{Gateway, Live, Person, RealSshd, noise, run, run_with_input, wait_for};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// Uploads `bytes` by scp with `protocol` ("-O" old, "-s" SFTP), fetches them again, and compares.
fn there_and_back(
    gateway: &Gateway,
    vera: &Person<'_>,
    place: &str,
    folder: &str,
    protocol: &str,
    bytes: &[u8],
) {
    let (sent, returned) = (gateway.scratch("sent"), gateway.scratch("returned"));
    fs::write(&sent, bytes).unwrap();
    let remote = vera.remote(place, &format!("{folder}/carried"));
    let mut up = vera.transfer("scp");
    up.arg(protocol).arg(&sent).arg(&remote);
    run(up).ok();
    let mut down = vera.transfer("scp");
    down.arg(protocol).arg(&remote).arg(&returned);
    run(down).ok();
    assert!(fs::read(&returned).unwrap() == bytes, "{protocol}: the file changed on its way");
}

#[test]
fn scp_both_protocols_carry_a_file_whole() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    let bytes = noise(5_000_001);
    for protocol in ["-O", "-s"] {
        there_and_back(&gateway, &vera, "workshop", &target.home.to_string_lossy(), protocol, &bytes);
    }
    there_and_back(&gateway, &vera, "workshop", &target.home.to_string_lossy(), "-s", b"");
}

#[test]
fn scp_reaches_the_demos_own_host() {
    let gateway = Gateway::start();
    there_and_back(&gateway, &gateway.vera(), "pump-hmi", "/tmp", "-s", &noise(70_000));
}

#[test]
fn rsync_carries_a_tree() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    let tree = gateway.scratch("tree");
    for folder in ["", "a", "a/b", "empty"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for (name, size) in [("one", 1), ("a/two", 100_000), ("a/b/a name with spaces", 3_000_000)] {
        fs::write(tree.join(name), noise(size)).unwrap();
    }
    let remote = vera.remote("workshop", &format!("{}/tree/", target.home.display()));
    let rsync = |from: &str, to: &str| {
        let mut command = vera.transfer("rsync");
        command.args(["-a", "--delete", "--stats", from, to]);
        run(command).ok()
    };
    let local = format!("{}/", tree.display());
    rsync(&local, &remote);
    assert_same_tree(&tree, &target.home.join("tree"));
    fs::remove_file(tree.join("one")).unwrap();
    rsync(&local, &remote);
    assert_same_tree(&tree, &target.home.join("tree"));
    let fetched = gateway.scratch("fetched");
    rsync(&remote, &format!("{}/", fetched.display()));
    assert_same_tree(&tree, &fetched);
    // Every file is an event with its path, its size and its hash, each way.
    let mut seen = Vec::new();
    for session in gateway.sessions() {
        let shown = gateway.cofferdam(["recording", "show", session["id"].as_str().unwrap(), "--json"]).ok();
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let lines =
            shown["events"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap().to_owned());
        seen.extend(lines.collect::<Vec<_>>());
    }
    let place = target.home.join("tree");
    for (name, size) in [("a/two", 100_000), ("a/b/a name with spaces", 3_000_000)] {
        let parts = [place.join(name).display().to_string(), size.to_string(), sha256(&noise(size))];
        for way in ["upload", "download"] {
            let told = |line: &&String| line.contains(way) && parts.iter().all(|part| line.contains(part));
            assert!(seen.iter().any(|line| told(&line)), "no {way} of {parts:?}: {seen:#?}");
        }
    }
    let removed = place.join("one").display().to_string();
    assert!(seen.iter().any(|line| line.contains("remove") && line.contains(&removed)), "{seen:#?}");
}

fn assert_same_tree(left: &Path, right: &Path) {
    let mut diff = std::process::Command::new("diff");
    diff.arg("-r").arg(left).arg(right);
    run(diff).ok();
}

#[test]
fn sftp_lists_renames_and_removes() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let local = gateway.scratch("local");
    fs::write(&local, "pump curve\n").unwrap();
    let batch = format!(
        "cd /tmp\nput {} first\nls -l\nrename first second\nget second {}.back\nrm second\nls -l\n",
        local.display(),
        local.display()
    );
    let mut sftp = vera.transfer("sftp");
    sftp.args(["-oBatchMode=no", "-b", "-"]).arg(vera.remote("pump-hmi", "/tmp"));
    run_with_input(sftp, batch.as_bytes()).ok().said("first");
    assert_eq!(fs::read_to_string(format!("{}.back", local.display())).unwrap(), "pump curve\n");
}

#[test]
fn every_file_is_an_event_with_path_size_digest_and_direction() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let bytes = noise(123_457);
    there_and_back(&gateway, &vera, "pump-hmi", "/tmp", "-s", &bytes);
    let mut seen = Vec::new();
    for session in gateway.sessions() {
        let id = session["id"].as_str().unwrap();
        let events = gateway.cofferdam(["recording", "export", id, "--format", "jsonl"]).ok().out();
        seen.extend(events.lines().filter(|l| l.contains("carried")).map(str::to_owned));
    }
    let digest = sha256(&bytes);
    for direction in ["upload", "download"] {
        let found = seen.iter().any(|e| e.contains(direction) && e.contains(&digest) && e.contains("123457"));
        assert!(found, "no {direction} event of {digest}: {seen:#?}");
    }
}

#[test]
fn an_upload_is_kept_for_evidence() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let bytes = noise(50_000);
    let sent = gateway.scratch("firmware.bin");
    fs::write(&sent, &bytes).unwrap();
    let mut up = vera.transfer("scp");
    up.arg("-s").arg(&sent).arg(vera.remote("pump-hmi", "/tmp/firmware.bin"));
    run(up).ok();
    let id = gateway.only_session()["id"].as_str().unwrap().to_owned();
    let folder = gateway.scratch("evidence");
    gateway
        .cofferdam(["recording", "export", &id, "--format", "files", "--output", &folder.to_string_lossy()])
        .ok();
    let kept: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    assert!(kept.contains(&bytes), "{} files, none of them what was sent", kept.len());
}

#[test]
fn a_sites_own_policy_decides_each_file_of_sftp_scp_and_rsync_also_once_it_changes() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    let (program, data) = (gateway.scratch("a.exe"), gateway.scratch("a.csv"));
    for file in [&program, &data] {
        fs::write(file, noise(5000)).unwrap();
    }
    let up = |with: &[&str], file: &Path| {
        let mut command = vera.transfer(with[0]);
        let folder = format!("{}/", target.home.display());
        command.args(&with[1..]).arg(file).arg(vera.remote("workshop", &folder));
        run(command)
    };
    let ways: [&[&str]; 3] = [&["scp", "-s"], &["scp", "-O"], &["rsync", "-a"]];
    for way in ways {
        up(way, &program).ok();
    }
    let text = "@reason(\"no programs by this way\")\nforbid (principal, action == Action::\"file_write\", resource)\n\
                when { context.path like \"*.exe\" || context.bytes > 100000 };";
    let policy =
        toml::Table::from_iter([("name".to_owned(), "files".into()), ("text".to_owned(), text.into())]);
    gateway.change_site(|site| {
        site.insert("policies".to_owned(), vec![toml::Value::from(policy)].into());
    });
    fs::remove_file(target.home.join("a.exe")).unwrap();
    let large = gateway.scratch("large.csv");
    fs::write(&large, noise(200_000)).unwrap();
    for way in ways {
        up(way, &data).ok();
        up(way, &program).failed();
        assert!(!target.home.join("a.exe").exists(), "{way:?}");
        up(way, &large).failed();
        let there = fs::metadata(target.home.join("large.csv")).map_or(0, |m| m.len());
        assert!(there <= 100_000, "{way:?}: {there}");
    }
    let told = gateway.sessions().iter().any(|session| {
        let id = session["id"].as_str().unwrap();
        gateway
            .cofferdam(["recording", "export", id, "--format", "jsonl"])
            .ok()
            .out()
            .contains("no programs by this way")
    });
    assert!(told, "no event names the reason");
}

#[test]
fn uploads_on_several_channels_of_one_session_are_all_exported() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let socket = gateway.scratch("mux");
    let control = format!("-oControlPath={}", socket.display());
    let mut master =
        Live::start(vera.ssh("pump-hmi", [&control, "-oControlMaster=yes", "-oControlPersist=no", "-N"]));
    wait_for("the connection to share", Duration::from_secs(20), || socket.exists().then_some(()));
    let mut files = Vec::new();
    for number in 0..3u8 {
        let (name, bytes) = (format!("part-{number}"), vec![number; 1000 + usize::from(number)]);
        let sent = gateway.scratch(&name);
        fs::write(&sent, &bytes).unwrap();
        let mut up = vera.transfer("scp");
        up.args(["-s", &control]);
        up.arg(&sent).arg(vera.remote("pump-hmi", &format!("/tmp/{name}")));
        run(up).ok();
        files.push(bytes);
    }
    master.kill();
    wait_for("the session's end", Duration::from_secs(10), || {
        gateway.live_sessions().is_empty().then_some(())
    });
    let id = gateway.only_session()["id"].as_str().unwrap().to_owned();
    let folder = gateway.scratch("evidence");
    gateway
        .cofferdam(["recording", "export", &id, "--format", "files", "--output", &folder.to_string_lossy()])
        .ok();
    let mut kept: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    kept.sort();
    assert!(kept == files, "{} files kept", kept.len());
}
