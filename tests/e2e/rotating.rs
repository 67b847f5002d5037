//! Secrets that change behind the sessions that use them, on a real sshd with a real account.

use std::{process::Command, time::Duration};

use crate::support::{Gateway, RealSshd, cli::id_of, run, wait_for};

/// The target's account with its password in the vault, rotated as `how` says.
fn rotated(gateway: &Gateway, target: &RealSshd, how: &str) -> String {
    target.join_by(gateway, "password");
    gateway.change_site(|site| {
        let accounts = site["accounts"].as_array_mut().unwrap();
        let account = accounts.iter_mut().find(|a| a["asset"].as_str() == Some("workshop")).unwrap();
        let how: toml::Table = how.parse().unwrap();
        account.as_table_mut().unwrap().insert("rotation".to_owned(), how.into());
    });
    format!("{}@workshop", target.login)
}

/// Whether the target takes the password that it had at first.
fn takes_the_first_password(target: &RealSshd) -> bool {
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
    let mut live = crate::support::Live::start(gateway.vera().ssh("workshop", ["-tt", "sh"]));
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

/// A device of the site's own: its password stands in a file, and an executable knows how to change it.
#[test]
fn a_plug_in_rotates_what_the_vault_does_not_know_itself() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    let folder = gateway.scratch("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("toy-device");
    std::fs::copy(crate::support::peer("toy_device.py"), &program).unwrap();
    for path in [&folder, &program] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    gateway.restart_with(|text| {
        text.replace(
            "# plugins_dir = \"/etc/cofferdam/plugins\"",
            &format!("plugins_dir = {:?}", folder.display().to_string()),
        )
    });
    let how = "by = \"plugin\"\nevery_days = 0\nserver = { plugin = { name = \"toy-device\", settings = { first = \"known-to-the-target-only\" } } }";
    let account = rotated(&gateway, &target, how);
    let told = gateway.cofferdam(["vault", "rotate", &account]).ok().out();
    assert!(told.contains("takes the new one"), "{told}");
    gateway.cofferdam(["vault", "verify", &account]).ok();
    // Whoever could write there could be asked for secrets.
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    gateway.cofferdam(["vault", "rotate", &account]).failed();
}
