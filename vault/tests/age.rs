//! What has to open without this program opens with `age` itself, and the other way round.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cofferdam_vault::backup::BackupWriter;
use cofferdam_vault::envelope::{Envelope, Label};
use cofferdam_vault::unseal::{create_file, from_file, from_passphrase};
use cofferdam_vault::{Root, SecretBytes, SecretString, SystemEntropy};

fn run(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; ./test installs it"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

fn identity(dir: &Path) -> Root {
    let path = dir.join("identity");
    run(Command::new("age-keygen").arg("-o").arg(&path));
    from_file(&path).unwrap()
}

#[test]
fn an_identity_of_age_keygen_is_a_root_and_ours_is_one_for_age() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = identity(dir.path());
    let shown = run(Command::new("age-keygen").arg("-y").arg(dir.path().join("identity")));
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), theirs.recipient());
    let (ours, path) = (Root::generate(&SystemEntropy).unwrap(), dir.path().join("ours"));
    create_file(&path, &ours).unwrap();
    let shown = run(Command::new("age-keygen").arg("-y").arg(path));
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), ours.recipient());
}

/// `age -p` asks a terminal, which `script` gives it.
#[test]
fn an_identity_that_age_encrypted_with_a_passphrase_opens() {
    let dir = tempfile::tempdir().unwrap();
    let root = identity(dir.path());
    let mut script = Command::new("script")
        .args(["-qec", "age -p -o sealed.age identity", "/dev/null"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut typed = script.stdin.take().unwrap();
    typed.write_all(b"correct horse battery\ncorrect horse battery\n").unwrap();
    assert!(script.wait().unwrap().success());
    let path = dir.path().join("sealed.age");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let opened = from_passphrase(&path, &SecretString::from("correct horse battery")).unwrap();
    assert_eq!(opened.vault_id(), root.vault_id());
    assert!(from_passphrase(&path, &SecretString::from("another horse battery")).is_err());
}

#[test]
fn a_break_glass_envelope_opens_with_nothing_but_age() {
    let dir = tempfile::tempdir().unwrap();
    let label = Label {
        id: "e-1".into(),
        account: "pump-hmi/root".into(),
        made_at: 1_795_413_600_000_000,
        version: 7,
        recipients: vec![identity(dir.path()).recipient()],
    };
    let text = Envelope::seal(label, &SecretBytes::from(b"hunter2".to_vec())).unwrap().to_text().unwrap();
    let file = dir.path().join("envelope.age");
    fs::write(&file, &text[text.find("-----BEGIN").unwrap()..]).unwrap();
    let out = run(Command::new("age").arg("-d").arg("-i").arg(dir.path().join("identity")).arg(file));
    let opened = String::from_utf8(out.stdout).unwrap();
    assert!(opened.starts_with("account: pump-hmi/root\n") && opened.ends_with("\n\nhunter2"), "{opened}");
}

#[test]
fn a_backup_is_restored_with_nothing_but_age_and_tar() {
    let dir = tempfile::tempdir().unwrap();
    let recipients = [identity(dir.path()).recipient()];
    let mut writer = BackupWriter::new(Vec::new(), &recipients, "gw-1", 1_795_413_600_000_000).unwrap();
    writer.add("store.sqlite", 300_000, &mut vec![7; 300_000].as_slice()).unwrap();
    writer.add("keys/vault_keyring", 5, &mut b"sealed".take(5)).unwrap();
    let (_, file) = writer.finish().unwrap();
    let path = dir.path().join("backup.age");
    fs::write(&path, file).unwrap();
    let mut age = Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(dir.path().join("identity"))
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let folder = dir.path().join("restored");
    fs::create_dir(&folder).unwrap();
    run(Command::new("tar").arg("-x").arg("-C").arg(&folder).stdin(age.stdout.take().unwrap()));
    assert!(age.wait().unwrap().success());
    run(Command::new("sha256sum").args(["--strict", "-c", "SHA256SUMS"]).current_dir(&folder));
    assert_eq!(fs::read(folder.join("keys/vault_keyring")).unwrap(), b"seale");
    assert!(fs::read_to_string(folder.join("COFFERDAM-BACKUP")).unwrap().contains("by: gw-1"));
}
