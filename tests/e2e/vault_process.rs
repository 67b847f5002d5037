//! The vault as a process of its own: started with the gateway, sealed where a person is needed, and never outlived by it.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::support::{Gateway, Live, run, run_with_input, wait_for};

/// The process ids and command lines of the descendants of `parent`.
fn descendants(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut parents = vec![parent];
    while let Some(parent) = parents.pop() {
        let tasks = Path::new("/proc").join(parent.to_string()).join("task");
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                let child = child.parse().unwrap();
                found.push((child, line));
                parents.push(child);
            }
        }
    }
    found
}

fn the_one(gateway: &Gateway, command: &str) -> u32 {
    let (pid, _) = wait_for(command, Duration::from_secs(20), || {
        descendants(gateway.pid()).into_iter().find(|(_, line)| line.contains(command)).map(|(pid, _)| pid)
    });
    pid
}

fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:") && !l.contains('Z'))
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// `cofferdam vault …` with lines on standard input.
fn vault(gateway: &Gateway, arguments: &[&str], typed: &str) -> crate::support::Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("vault").args(arguments).arg("--config").arg(gateway.config());
    run_with_input(command, typed.as_bytes())
}

/// Gives the configuration's `[vault]` these lines in place of its identity file.
fn opened_by(config: String, lines: &str) -> String {
    let old = "identity_file = \"keys/vault_identity\"";
    assert!(config.contains(old));
    config.replacen(old, lines, 1)
}

#[test]
fn keys_are_in_a_process_of_their_own_and_all_three_end_together() {
    let mut gateway = Gateway::start();
    let (vault, rotation) = (the_one(&gateway, "vault-process"), the_one(&gateway, "rotation-process"));
    // Neither another process of this user nor a core file gets at its memory; root still could.
    let status = gateway.cofferdam(["vault", "status"]).ok().out();
    assert!(status.contains("the vault is open") && status.contains("core files       in force"), "{status}");
    // One that rotates is started anew; nothing else notices.
    kill(rotation);
    let anew = wait_for("another rotation process", Duration::from_secs(20), || {
        let all = descendants(gateway.pid());
        all.into_iter().find(|(pid, line)| line.contains("rotation-process") && *pid != rotation)
    });
    let rotation = anew.0.0;
    run(gateway.vera().ssh("pump-hmi", ["echo on-$((40+2))"])).ok().said("on-42");
    gateway.crash();
    for pid in [vault, rotation] {
        wait_for("the end of what it started", Duration::from_secs(10), || (!is_alive(pid)).then_some(()));
    }
}

#[test]
fn without_the_vault_process_nothing_goes_on() {
    let mut gateway = Gateway::start();
    let mut live = Live::on_pump(&gateway);
    kill(the_one(&gateway, "vault-process"));
    live.ended_within(Duration::from_secs(10));
    gateway.stopped_within(Duration::from_secs(20));
    assert!(gateway.log().contains("the vault process ended"), "{}", gateway.log());
    // The session could not be closed in the log, which nobody could sign: the next start does that.
    gateway.restart_with(|config| config);
    run(gateway.vera().ssh("pump-hmi", ["echo again-$((40+2))"])).ok().said("again-42");
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn a_vault_that_a_passphrase_opens_lets_nobody_in_until_somebody_has_typed_it() {
    let mut gateway = Gateway::start();
    let file = gateway.scratch("passphrase_root");
    let new = vault(
        &gateway,
        &["root", "passphrase", "--stdin", "--out", file.to_str().unwrap()],
        "long enough a phrase\nlong enough a phrase\n",
    );
    new.ok().said("opens nothing any more");
    let lines = format!("identity_file = {:?}\nunseal = \"passphrase\"", file.to_str().unwrap());
    gateway.restart_with(|config| opened_by(config, &lines));
    let status = gateway.cofferdam(["vault", "status"]).ok().out();
    assert!(status.contains("the vault is sealed"), "{status}");
    let refused = run(gateway.vera().ssh("pump-hmi", ["true"]));
    assert_ne!(refused.code, Some(0));
    assert!(refused.err().contains("vault of this gateway is sealed"), "{}", refused.err());
    // What changes nothing of the keys goes on, and is signed.
    gateway.cofferdam(["plant-state", "set", "cell-1", "maintenance", "--reason", "night shift"]).ok();
    let wrong = vault(&gateway, &["unseal", "--stdin"], "not the right phrase\n").exited(1);
    assert!(wrong.err().contains("does not open"), "{}", wrong.err());
    assert!(!wrong.err().contains("not the right phrase"));
    vault(&gateway, &["unseal", "--stdin"], "long enough a phrase\n").ok().said("the vault is open");
    run(gateway.vera().ssh("pump-hmi", ["echo open-$((40+2))"])).ok().said("open-42");
    // A code on the command line is checked by the running vault, and a new second factor sealed by it.
    gateway.cofferdam(["vault", "seal"]).ok();
    wait_for("the refusal", Duration::from_secs(5), || {
        (run(gateway.vera().ssh("pump-hmi", ["true"])).code != Some(0)).then_some(())
    });
    wait_for("the audit entries", Duration::from_secs(5), || {
        let all = ["vault.refused", "vault.unsealed", "vault.sealed"];
        all.iter().all(|kind| !gateway.audit(kind).is_empty()).then_some(())
    });
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn two_of_three_people_open_a_vault_together_and_one_alone_does_not() {
    let mut gateway = Gateway::start();
    let told = vault(&gateway, &["root", "shares", "--needed", "2", "--of", "3"], "").ok().out();
    let codes: Vec<&str> = told.lines().map(str::trim).filter(|l| l.len() > 90 && l.contains('-')).collect();
    assert_eq!(codes.len(), 3, "{told}");
    gateway.restart_with(|config| {
        opened_by(config, "identity_file = \"keys/vault_identity\"\nunseal = \"shares\"")
    });
    let give =
        |code: &str, by: &str| vault(&gateway, &["unseal", "--stdin", "--by", by], &format!("{code}\n"));
    give(codes[0], "olga").ok().said("1 of 2 shares");
    if nix::unistd::geteuid().is_root() {
        give(codes[2], "olga").exited(1);
        assert_ne!(run(gateway.vera().ssh("pump-hmi", ["true"])).code, Some(0));
        give(codes[2], "sam").ok().said("the vault is open (by olga, sam)");
        wait_for("a session", Duration::from_secs(5), || {
            (run(gateway.vera().ssh("pump-hmi", ["true"])).code == Some(0)).then_some(())
        });
    } else {
        // The system says who somebody is, whatever they say: one person gives one share.
        let again = give(codes[2], "sam").exited(1);
        assert!(again.err().contains("has given a share already"), "{}", again.err());
    }
}

#[test]
fn the_vault_is_rekeyed_under_live_sessions_and_an_old_key_is_retired() {
    let mut gateway = Gateway::start();
    let mut live = Live::on_pump(&gateway);
    gateway
        .cofferdam(["vault", "rekey"])
        .ok()
        .said("seals with generation 1")
        .said("0 are still under an older");
    live.send("echo still-$((40+2))\n");
    live.expect("still-42");
    run(gateway.vera().ssh("pump-hmi", ["echo new-$((40+2))"])).ok().said("new-42");
    gateway.cofferdam(["vault", "retire", "0"]).ok();
    gateway.cofferdam(["vault", "rekey"]).ok().said("generation 2");
    run(gateway.vera().ssh("pump-hmi", ["echo newer-$((40+2))"])).ok().said("newer-42");
    gateway.crash_and_restart();
    run(gateway.vera().ssh("pump-hmi", ["echo restarted-$((40+2))"])).ok().said("restarted-42");
    // The identity alone opens nothing that was sealed since: the keyring belongs to it.
    gateway.cofferdam(["vault", "retire", "2"]).exited(1);
    gateway.cofferdam(["audit", "verify"]).ok();
}
