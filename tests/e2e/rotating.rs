//! Secrets that change behind the sessions that use them, on a real sshd with a real account.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::support::{Gateway, Live, RealSshd, cli::id_of, peer, run, wait_for};

/// The target's account with its password in the vault, rotated as `how` says.
pub(crate) fn rotated(gateway: &Gateway, target: &RealSshd, how: &str) -> String {
    target.join_by(gateway, "password");
    rotate_as(gateway, how);
    format!("{}@workshop", target.login)
}

/// Says how the account is rotated.
fn rotate_as(gateway: &Gateway, how: &str) {
    gateway.change_site(|site| {
        let accounts = site["accounts"].as_array_mut().unwrap();
        let account = accounts.iter_mut().find(|a| a["asset"].as_str() == Some("workshop")).unwrap();
        let how: toml::Table = how.parse().unwrap();
        account.as_table_mut().unwrap().insert("rotation".to_owned(), how.into());
    });
}

/// Whether the target takes the password that it had at first.
pub(crate) fn takes_the_first_password(target: &RealSshd) -> bool {
    let mut ssh = Command::new("sshpass");
    ssh.args(["-e", "ssh", "-F", "/dev/null", "-oIdentityAgent=none", "-oPubkeyAuthentication=no"])
        .args(["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oNumberOfPasswordPrompts=1"])
        .args(["-p", &target.address.port().to_string(), &format!("{}@127.0.0.1", target.login), "true"])
        .env("SSHPASS", target.password.as_ref().expect("tests with accounts need root or sudo"));
    run(ssh).code == Some(0)
}

#[test]
fn a_rotated_password_opens_sessions_and_the_old_one_opens_nothing() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    let account = rotated(&gateway, &target, "every_days = 0");
    assert!(takes_the_first_password(&target));
    run(gateway.vera().ssh("workshop", ["echo before-$((40+2))"])).ok().said("before-42");
    gateway.cofferdam(["vault", "verify"]).ok().said("yes");
    gateway.cofferdam(["vault", "rotate", &account]).ok().said("takes the new one");
    assert!(!takes_the_first_password(&target), "the old password still works");
    run(gateway.vera().ssh("workshop", ["echo after-$((40+2))"])).ok().said("after-42");
    let history = gateway.list(&["vault", "history", &account]);
    let actions: Vec<_> = history.iter().map(|h| h["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["rotated", "set"]);
    assert!(!gateway.audit("secret.rotated").is_empty());
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn a_secret_that_a_session_used_is_changed_when_it_ends_also_by_a_crash() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    let account = rotated(&gateway, &target, "every_days = 0\nafter_use = true");
    let rotations = |gateway: &Gateway| gateway.audit("secret.rotated").len();
    run(gateway.vera().ssh("workshop", ["true"])).ok();
    wait_for("the rotation after use", Duration::from_secs(30), || (rotations(&gateway) == 1).then_some(()));
    assert!(!takes_the_first_password(&target));
    let mut live = Live::start(gateway.vera().ssh("workshop", ["-tt", "sh"]));
    live.expect("$ ");
    gateway.crash_and_restart();
    wait_for("the rotation after the crash", Duration::from_secs(30), || {
        (rotations(&gateway) == 2).then_some(())
    });
    run(gateway.vera().ssh("workshop", ["true"])).ok();
    gateway.cofferdam(["vault", "verify", &account]).ok();
}

#[test]
fn a_password_changed_behind_the_vaults_back_is_a_finding_that_says_what_to_do() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    let account = rotated(&gateway, &target, "every_days = 0");
    gateway.cofferdam(["vault", "verify", &account]).ok();
    target.set_password("Somebody-elses-4711");
    let told = gateway.cofferdam(["vault", "verify", &account, "--json"]).exited(1).out();
    assert!(told.contains("behind the vault's back"), "{told}");
    assert!(!told.contains("4711"));
    assert!(gateway.list(&["vault", "history", &account]).iter().all(|h| id_of(h) == "1"));
}

#[test]
fn secrets_are_taken_over_from_a_csv_file_and_what_cannot_be_is_named() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    let account = rotated(&gateway, &target, "every_days = 0");
    target.set_password("Taken-over-4711");
    let file = gateway.scratch("secrets.csv");
    let rows = format!(
        "login,asset,secret\n{},workshop,Taken-over-4711\nghost,workshop,Unwanted-4712\n",
        target.login
    );
    fs::write(&file, rows).unwrap();
    let told =
        gateway.cofferdam(["vault", "import", "--yes", "--csv", file.to_str().unwrap()]).exited(1).out();
    assert!(told.contains("1 secrets are kept") && told.contains("no account ghost@workshop"), "{told}");
    assert!(!told.contains("4711") && !told.contains("4712"), "{told}");
    gateway.cofferdam(["vault", "verify", &account]).ok();
    run(gateway.vera().ssh("workshop", ["echo taken-$((40+2))"])).ok().said("taken-42");
}

/// A device that is asked by lines over TCP, and what its password is.
fn toy_device(password: &str) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::new(Mutex::new(password.to_owned()));
    let password = kept.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut password = password.lock().unwrap();
            let right = words.get(1).is_some_and(|given| *given == *password);
            if let (true, Some(new)) = (right, words.get(2)) {
                *password = (*new).to_owned();
            }
            stream.write_all(if right { b"yes\n" } else { b"no\n" }).unwrap();
        }
    });
    (port, kept)
}

#[test]
fn a_plug_in_rotates_what_the_vault_does_not_know_itself() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    let first = target.password.clone().expect("tests with accounts need root or sudo");
    let (port, kept) = toy_device(&first);
    let folder = gateway.scratch("plugins");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("toy-device");
    fs::copy(peer("toy_device.py"), &program).unwrap();
    for path in [&folder, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = format!("plugins_dir = {:?}", folder.display().to_string());
    gateway.restart_with(|text| text.replace("# plugins_dir = \"/etc/cofferdam/plugins\"", &line));
    let how = format!(
        "by = \"plugin\"\nevery_days = 0\nserver = {{ port = {port}, plugin = {{ name = \"toy-device\", network = true }} }}"
    );
    let account = rotated(&gateway, &target, &how);
    gateway.cofferdam(["vault", "rotate", &account]).ok().said("takes the new one");
    assert_ne!(*kept.lock().unwrap(), first);
    gateway.cofferdam(["vault", "verify", &account]).ok();
    // Without the network it cannot ask, and says so.
    let shut = how.replace("network = true", "network = false");
    rotate_as(&gateway, &shut);
    gateway.cofferdam(["vault", "verify", &account]).exited(1);
    // Whoever could write there would be given secrets.
    rotate_as(&gateway, &how);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    gateway.cofferdam(["vault", "rotate", &account]).failed();
}
