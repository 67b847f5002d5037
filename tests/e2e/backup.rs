//! A gateway that is backed up while it works, and exists again elsewhere.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_vault::{Root, SystemEntropy};

use crate::support::{
    Done, Gateway, Live, RealSshd,
    cli::{id_of, state_of},
    new_database, run,
};

/// Whoever keeps backups: a file with an identity, and its recipient.
fn keeper(gateway: &Gateway, name: &str) -> (PathBuf, String) {
    let root = Root::generate(&SystemEntropy).unwrap();
    let file = gateway.scratch(name);
    fs::write(&file, root.to_text().unwrap().expose()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (file, root.recipient())
}

fn restore(backup: &Path, identity: &Path, to: &Path) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("restore").arg(backup).arg("--identity").arg(identity).arg("--to").arg(to);
    run(command)
}

#[test]
fn a_gateway_backed_up_while_it_works_exists_again_elsewhere_with_its_secrets() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    gateway.runs_as_a_service();
    target.join_by(&gateway, "password");
    let (identity, recipient) = keeper(&gateway, "keeper");
    let mut shell = Live::on_pump(&gateway);
    let backup = gateway.scratch("night.backup");
    let make = ["backup", "--to", backup.to_str().unwrap(), "--recipient", &recipient];
    let told = gateway.cofferdam(make).ok().out();
    assert!(told.contains("not in it: recordings"), "{told}");
    assert_eq!(gateway.audit("backup.made").len(), 1);
    // Nobody waited for it, no copy of the database is left, and it never replaces a file.
    shell.send("echo still-$((40+2))\r");
    shell.expect("still-42");
    let folder = gateway.config().parent().unwrap().to_owned();
    let left = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with('.')));
    gateway.cofferdam(make).failed().said("exists");
    let content = fs::read(&backup).unwrap();
    for plain in ["SQLite format", "AGE-SECRET-KEY", "OPENSSH PRIVATE KEY"] {
        assert!(!content.windows(plain.len()).any(|w| w == plain.as_bytes()), "{plain}");
    }
    // The machine burns down, with its folder.
    gateway.crash();
    let restored = gateway.restored(|to| {
        restore(&backup, &identity, to).ok();
    });
    run(restored.vera().ssh("workshop", ["echo back-$((40+2))"])).ok().said("back-42");
    restored.cofferdam(["audit", "verify"]).ok();
    assert_eq!(restored.audit("backup.restored").len(), 1);
    let sessions = restored.sessions();
    assert!(sessions.iter().all(|s| state_of(s).starts_with("ended")), "{sessions:#?}");
    restored.cofferdam(["doctor"]).never_said("audit log is not whole");
}

#[test]
fn a_backup_for_others_cut_or_altered_says_so_and_restores_nothing() {
    let gateway = Gateway::start();
    let ((identity, recipient), (stranger, _)) = (keeper(&gateway, "keeper"), keeper(&gateway, "stranger"));
    let backup = gateway.scratch("good.backup");
    gateway.cofferdam(["backup", "--to", backup.to_str().unwrap(), "--recipient", &recipient]).ok();
    let to = gateway.scratch("restored");
    let nothing_there = || {
        assert!(!to.exists());
        assert!(!to.with_extension("partial").exists());
    };
    restore(&backup, &stranger, &to).failed().said("the identity does not open this backup");
    nothing_there();
    let content = fs::read(&backup).unwrap();
    let odd = gateway.scratch("odd.backup");
    for (cut, flip) in
        [(content.len() / 2, None), (content.len() - 1, None), (0, None), (content.len(), Some(2))]
    {
        let mut altered = content[..cut].to_vec();
        if let Some(part) = flip {
            let at = altered.len() / part;
            altered[at] ^= 1;
        }
        fs::write(&odd, altered).unwrap();
        restore(&odd, &identity, &to).failed().said("nothing was restored");
        nothing_there();
    }
    fs::create_dir(&to).unwrap();
    restore(&backup, &identity, &to).failed().said("is there already");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    // A recipient that is none leaves no file that could be taken for a backup.
    let none = gateway.scratch("none.backup");
    gateway.cofferdam(["backup", "--to", none.to_str().unwrap(), "--recipient", "age1nobody"]).failed();
    assert!(!none.exists());
    // Without the vault's identity the rest is there, and the configuration names what is missing.
    let partial = gateway.scratch("partial.backup");
    let make = ["backup", "--without-vault-identity", "--to", partial.to_str().unwrap(), "--recipient"];
    gateway.cofferdam(make.into_iter().chain([recipient.as_str()])).ok().said("the vault's identity");
    let to = gateway.scratch("restored-partly");
    restore(&partial, &identity, &to).ok().said("vault_identity");
    assert!(to.join("cofferdam.sqlite").exists() && !to.join("keys/vault_identity").exists());
}

#[test]
fn a_gateway_on_postgresql_is_restored_with_the_dump_that_its_backup_holds() {
    let mut gateway = Gateway::start_on_postgres();
    gateway.runs_as_a_service();
    let target = RealSshd::start();
    target.join_by(&gateway, "password");
    let (identity, recipient) = keeper(&gateway, "keeper");
    let backup = gateway.scratch("night.backup");
    gateway.cofferdam(["backup", "--to", backup.to_str().unwrap(), "--recipient", &recipient]).ok();
    let sessions: Vec<String> = gateway.sessions().iter().map(id_of).collect();
    gateway.crash();
    let restored = gateway.restored(|to| {
        restore(&backup, &identity, to).ok().said("pg_restore");
        let url = new_database();
        let mut load = Command::new("pg_restore");
        load.args(["--no-owner", "--exit-on-error", "--dbname", &url]).arg(to.join("database.pgdump"));
        run(load).ok();
        let file = to.join("cofferdam.toml");
        let config = fs::read_to_string(&file).unwrap();
        let before = toml::from_str::<toml::Table>(&config).unwrap()["store"]["url"].to_string();
        fs::write(&file, config.replacen(&before, &toml::Value::String(url).to_string(), 1)).unwrap();
    });
    run(restored.vera().ssh("workshop", ["echo back-$((40+2))"])).ok().said("back-42");
    restored.cofferdam(["audit", "verify"]).ok();
    assert_eq!(restored.sessions().len(), sessions.len() + 1);
}
