//! The vault as a process of its own: started with the gateway, sealed where a person is needed, and never outlived by it.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::support::{Gateway, Live, TOKENS, run, run_with_input, wait_for};

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
    command.env("SOFTHSM2_CONF", gateway.config().with_file_name(TOKENS));
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

#[test]
fn the_key_of_a_token_opens_the_vault_and_without_the_token_nothing_does() {
    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    let mut gateway = Gateway::start();
    let folder = gateway.config().parent().unwrap().to_owned();
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).unwrap();
    fs::write(folder.join(TOKENS), format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let util = |arguments: &[&str]| {
        let mut command = Command::new("softhsm2-util");
        command.args(arguments).env("SOFTHSM2_CONF", folder.join(TOKENS));
        run(command).ok();
    };
    util(&["--init-token", "--free", "--label", "plant", "--so-pin", "12345678", "--pin", "4711"]);
    let key = folder.join("token-key.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&key);
    run(openssl).ok();
    util(&[
        "--import",
        key.to_str().unwrap(),
        "--token",
        "plant",
        "--label",
        "root",
        "--id",
        "01",
        "--pin",
        "4711",
    ]);
    fs::remove_file(key).unwrap();
    let pin = folder.join("keys/token_pin");
    fs::write(&pin, "4711\n").unwrap();
    fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // The token is described first; it opens the vault from the next start on.
    let token = format!(
        "token = {{ module = {MODULE:?}, label = \"plant\", key = \"root\", pin_file = \"keys/token_pin\" }}"
    );
    let config = fs::read_to_string(gateway.config()).unwrap();
    let described = format!("identity_file = \"keys/vault_identity\"\n{token}");
    fs::write(gateway.config(), opened_by(config, &described)).unwrap();
    let out = folder.join("keys/token_root");
    let made = ["root", "token", "--cipher", "rsa-oaep-sha1", "--out", out.to_str().unwrap()];
    vault(&gateway, &made, "").ok().said("the token's key opens");
    gateway
        .restart_with(|config| opened_by(config, "identity_file = \"keys/token_root\"\nunseal = \"token\""));
    assert!(gateway.cofferdam(["vault", "status"]).ok().out().contains("the vault is open"));
    run(gateway.vera().ssh("pump-hmi", ["echo open-$((40+2))"])).ok().said("open-42");
    // The token is pulled out: the next start stays sealed, and says why.
    fs::rename(&tokens, folder.join("in-a-pocket")).unwrap();
    fs::create_dir(&tokens).unwrap();
    gateway.crash();
    let mut again = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    again.args(["demo", "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--rdp", "127.0.0.1:0", "--dir"]);
    again.arg(&folder).env("SOFTHSM2_CONF", folder.join(TOKENS));
    let mut again = Live::start(again);
    let (said, _) = wait_for("what is missing", Duration::from_secs(30), || {
        let said = again.transcript();
        said.contains("there is no token").then_some(said)
    });
    assert!(said.contains("the vault stays sealed"), "{said}");
    again.kill();
}

/// User and group ids of a process that count (`/proc/PID/status`).
fn owner(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn the_vault_process_has_a_user_of_its_own_whose_keys_the_gateway_cannot_read() {
    let mut gateway = Gateway::start_on_postgres();
    if !nix::unistd::geteuid().is_root() {
        // Only root can give it one. Without root all of it is one user's.
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!(owner(the_one(&gateway, "vault-process")), me);
        return;
    }
    let id = |name: &str| nix::unistd::User::from_name(name).unwrap().unwrap().uid;
    let (gateways, vaults) = (id("nobody"), id("daemon"));
    gateway.crash();
    let service = gateway.restored(|to| {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(gateway.config().parent().unwrap()).arg(to);
        run(copy).ok();
        let mut chown = Command::new("chown");
        chown.args(["-R", "nobody"]).arg(to);
        run(chown).ok();
        let keys = to.join("keys");
        for (folder, mode) in [(to, 0o711), (&keys, 0o711)] {
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        for key in ["vault_identity", "ssh_user_ca", "ssh_host_ca", "audit_signing"] {
            std::os::unix::fs::chown(keys.join(key), Some(vaults.as_raw()), None).unwrap();
        }
        let socket = to.join("vault-socket");
        std::os::unix::fs::chown(&socket, Some(vaults.as_raw()), None).unwrap();
        let file = to.join("cofferdam.toml");
        let config = fs::read_to_string(&file).unwrap();
        let config = config.replacen("# user = \"cofferdam\"", "user = \"nobody\"", 1);
        fs::write(&file, opened_by(config, "identity_file = \"keys/vault_identity\"\nuser = \"daemon\""))
            .unwrap();
        // It holds no secret, and both have to read it.
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    });
    let (vault, rotation) = (the_one(&service, "vault-process"), the_one(&service, "rotation-process"));
    assert_eq!(owner(vault), vaults.as_raw());
    assert_eq!(owner(service.pid()), gateways.as_raw());
    assert_ne!(owner(rotation), 0, "nothing of it stays root");
    let status = service.cofferdam(["vault", "status"]).ok().out();
    assert!(status.contains("the vault is open"), "{status}");
    // The user of the process that faces the network gets nothing from the files, or from the vault's memory.
    for path in [service.config().with_file_name("keys/vault_identity"), format!("/proc/{vault}/mem").into()]
    {
        let mut read = Command::new("runuser");
        read.args(["-u", "nobody", "--", "head", "-c", "1"]).arg(&path);
        run(read).failed();
    }
}
