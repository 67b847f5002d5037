//! What is kept of a session: the recording, the audit, the decision; and what must stand in none of them.

use std::{fs, path::Path};

use crate::support::{Gateway, Live, RealSshd, cli::id_of, run, wait_for};

#[test]
fn a_session_is_recorded_and_its_recording_is_whole() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let done = vera.on_a_terminal(
        &vera.ssh("pump-hmi", ["-tt"]),
        &[("# ", "echo seen-by-$((40+2))-the-recorder\r"), ("seen-by-42", "exit\r")],
    );
    done.ok();
    let id = id_of(&gateway.only_session());
    gateway.cofferdam(["recording", "verify", &id]).ok();
    gateway.cofferdam(["recording", "export", &id, "--format", "text"]).ok().said("seen-by-42-the-recorder");
    let cast = gateway.cofferdam(["recording", "export", &id, "--format", "asciicast-v2"]).ok().out();
    assert!(cast.starts_with("{\"version\": 2") || cast.starts_with("{\"version\":2"), "{cast}");
    let file = gateway.scratch("session.cast");
    fs::write(&file, cast).unwrap();
    let mut player = std::process::Command::new("asciinema");
    player.arg("cat").arg(&file).env("LC_ALL", "C.UTF-8");
    // It wants a terminal of its own to play on.
    vera.on_a_terminal(&player, &[]).ok().said("seen-by-42-the-recorder");
    let found = gateway.list(&["recording", "search", "seen-by-42"]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// Debian's asciinema knows version 2 only; version 3 is shown to the player that the replay page has.
#[test]
fn an_asciicast_of_version_3_plays_in_asciinemas_player() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    vera.on_a_terminal(
        &vera.ssh("pump-hmi", ["-tt"]),
        &[("# ", "echo third-$((40+2))-version\r"), ("third-42", "exit\r")],
    )
    .ok();
    let id = id_of(&gateway.only_session());
    let cast = gateway.cofferdam(["recording", "export", &id, "--format", "asciicast-v3"]).ok().out();
    assert!(cast.starts_with("{\"version\":3"), "{cast}");
    let file = gateway.scratch("session.cast");
    fs::write(&file, cast).unwrap();
    gateway.browse(
        "cast.mjs",
        &[
            ("COFFERDAM_CAST", file.to_str().unwrap()),
            ("COFFERDAM_RECORDING", &id),
            ("COFFERDAM_SHOWS", "third-42-version"),
        ],
    );
}

#[test]
fn an_edited_recording_is_found() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi", ["echo one; echo two"])).ok();
    let id = id_of(&gateway.only_session());
    let file = gateway.session(&id)["recording"]["path"].as_str().unwrap().to_owned();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    gateway.cofferdam(["recording", "verify", &id]).exited(1);
}

#[test]
fn the_decision_answers_the_five_questions() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
    let shown = gateway.session(&id_of(&gateway.only_session())).to_string();
    for word in ["vera", "pump-hmi", "window", "operate", "polic"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
}

#[test]
fn the_audit_of_a_days_work_is_whole_and_an_edit_is_found() {
    let mut gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
    run(gateway.person("emil").ssh("pump-hmi", ["true"])).failed();
    gateway.cofferdam(["audit", "verify"]).ok();
    gateway.crash();
    let mut edit = std::process::Command::new(crate::support::python());
    edit.arg(crate::support::peer("edit_audit.py")).arg(gateway.config());
    run(edit).ok();
    gateway.cofferdam(["audit", "verify"]).exited(1);
}

#[test]
fn the_targets_secret_and_the_persons_codes_stand_nowhere() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let (password, code) = {
        let vera = gateway.vera();
        let code = vera.code();
        let mut ssh = vera.ssh_with(crate::support::person::First::Password, "workshop", ["-v", "true"]);
        ssh.env("COFFERDAM_CODE", &code);
        let done = run(ssh).ok();
        assert!(!done.err().contains(&vera.password));
        (vera.password.clone(), code)
    };
    let audit = gateway.audit_text();
    gateway.crash();
    let key = fs::read_to_string(target.account_key()).unwrap();
    let secret_line = key.lines().nth(3).unwrap();
    for secret in [password.as_str(), secret_line] {
        assert!(!gateway.log().contains(secret), "a secret stands in the log");
        assert!(!audit.contains(secret), "a secret stands in the audit");
    }
    // Six digits may stand in a time stamp by chance; in quotes or after "code" they do not.
    for text in [gateway.log(), audit] {
        assert!(
            !text.contains(&format!("\"{code}\"")) && !text.contains(&format!("code={code}")),
            "a code was written down"
        );
    }
    let config = gateway.config();
    for file in files_below(config.parent().unwrap()) {
        let bytes = fs::read(&file).unwrap_or_default();
        let holds = |secret: &str| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!holds(secret_line), "the target's key stands in {}", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => all.extend(files_below(&path)),
            kind if kind.is_file() => all.push(path),
            _ => {}
        }
    }
    all
}

#[test]
fn a_session_stops_when_its_recording_cannot_be_written() {
    let gateway = Gateway::start();
    let mut shell = Live::start(gateway.vera().ssh("pump-hmi", ["-tt"]));
    shell.expect("# ");
    let id = id_of(&gateway.only_session());
    let file = gateway.session(&id)["recording"]["path"].as_str().unwrap().to_owned();
    gateway.limit_file_size(Some(fs::metadata(&file).unwrap().len()));
    for _ in 0..50 {
        shell.send("head -c 100000 /dev/urandom | base64\r");
    }
    shell.ended_within(std::time::Duration::from_secs(60));
    gateway.limit_file_size(None);
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
}

#[test]
fn nothing_listens_off_loopback() {
    let gateway = Gateway::start();
    assert!(gateway.ssh_address().ip().is_loopback());
    let mut ss = std::process::Command::new("ss");
    ss.args(["-ltnpH"]);
    let listening = run(ss).ok().out();
    let own = format!("pid={},", gateway.pid());
    for line in listening.lines().filter(|l| l.contains(&own)) {
        assert!(line.contains("127.0.0.1:") || line.contains("[::1]:"), "{line}");
    }
}

#[test]
fn the_catalogue_and_missing_indexes_are_made_anew_by_command_and_that_is_noted() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi", ["echo needle-in-a-haystack"])).ok();
    let id = id_of(&gateway.only_session());
    let file = gateway.session(&id)["recording"]["path"].as_str().unwrap().to_owned();
    let folder = Path::new(&file).parent().unwrap();
    let index = Path::new(&file).with_extension("cofidx");
    wait_for("the index", std::time::Duration::from_secs(20), || index.exists().then_some(()));
    fs::remove_file(&index).unwrap();
    let done = gateway.cofferdam(["recording", "reindex", "--as", "ivan", "--json"]).ok().out();
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!((done["indexes"].as_u64(), done["catalogued"].as_u64()), (Some(1), Some(1)), "{done}");
    assert!(index.exists());
    let catalogues = files_below(folder).into_iter().filter(|f| f.extension().is_some_and(|e| e == "cofcat"));
    assert_eq!(catalogues.count(), 1, "the new one took the old one's place");
    assert_eq!(gateway.list(&["recording", "search", "needle-in-a-haystack"]).len(), 1);
    let noted = gateway.audit("recording.played");
    assert!(noted.iter().any(|entry| entry.to_string().contains("index")), "{noted:#?}");
}
