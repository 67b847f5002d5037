//! Everything that a gateway needs to exist again, in one file for those who hold an identity; and back.
//!
//! In it: the database at one moment, the configuration, the keys and certificates that it names, and the checkpoints of
//! the audit log. Not in it: recordings (files that are encrypted already, to be copied as they are), plug-ins, and what
//! the vault is opened with where that is no file.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use cofferdam_access::{
    audit::{Act, Actor, AuditEvent, AuditKind},
    clock::Timestamp,
};
use cofferdam_vault::{
    Root, SecretBytes,
    backup::{self, BackupError, BackupWriter, Manifest, is_member_name},
    keyfile,
};
use serde_json::json;
use tempfile::TempDir;

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, bytes, utc},
};
use crate::{
    config::{Config, Portable, StoreUrl},
    context::{Context, os_user},
    privileges,
};

/// The configuration's name in a backup.
const CONFIGURATION: &str = "cofferdam.toml";
/// PostgreSQL's dump in a backup.
const DUMP: &str = "database.pgdump";

/// `cofferdam backup`
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Who can restore it (age recipient); several may be given
    #[arg(long = "recipient", value_name = "AGE1…", required = true)]
    recipients: Vec<String>,
    /// Leave the vault's identity out: whoever restores needs it from elsewhere
    #[arg(long)]
    without_vault_identity: bool,
    /// Leave the database out: PostgreSQL's dump is taken otherwise
    #[arg(long)]
    without_database: bool,
}

/// `cofferdam restore`
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// The age identity of one of its recipients; only its owner may read that file
    #[arg(long, value_name = "KEYFILE")]
    identity: PathBuf,
    /// The folder to restore into; it must not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl From<BackupError> for CliError {
    fn from(e: BackupError) -> Self {
        Self::failed(e.to_string())
    }
}

/// `cofferdam backup` of what the configuration at `path` names.
pub(crate) async fn back_up(args: &BackupArgs, path: &Path) -> Result<Reply, CliError> {
    let (config, portable) = Portable::load(path)?;
    if args.without_database && portable.database.is_some() {
        return Err(CliError::failed("--without-database: an SQLite database is part of every backup"));
    }
    let desk = Desk::with(Context::new(config)).await?;
    let reply = make(&desk, args, &portable).await;
    desk.close().await;
    reply
}

async fn make(desk: &Desk, args: &BackupArgs, portable: &Portable) -> Result<Reply, CliError> {
    let act = desk.own_act();
    let shown = args.to.display().to_string();
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.to);
    let file = opened.map_err(CliError::io(shown.clone()))?;
    let written = write(desk, args, portable, &file, act.at).await;
    let manifest = match written {
        Ok(manifest) => manifest,
        Err(e) => {
            // A backup that ends in its middle is none.
            fs::remove_file(&args.to).map_err(CliError::io(shown))?;
            return Err(e);
        }
    };
    let event = AuditEvent::new(AuditKind::BackupMade, &shown)
        .with("sha256", manifest.file_sha256.as_str())
        .with("recipients", args.recipients.clone())
        .with("files", manifest.members.len());
    desk.store.record(&act, event).await?;
    let size = fs::metadata(&args.to).map_err(CliError::io(shown.clone()))?.len();
    let left = left_out(&desk.context.config, args);
    let text = format!(
        "{shown}: {} files, {}\nSHA-256  {}\nnot in it: {}\nrestore it with: cofferdam restore {shown} --identity KEYFILE \
         --to DIR",
        manifest.members.len(),
        bytes(size),
        manifest.file_sha256,
        left.join("; "),
    );
    let members: Vec<&str> = manifest.members.iter().map(|m| m.name.as_str()).collect();
    let json = json!({
        "id": manifest.file_sha256, "file": shown, "bytes": size, "sha256": manifest.file_sha256, "made_at": utc(act.at),
        "members": members, "not_in_it": left,
    });
    Ok(Reply::new(text, json))
}

/// What whoever restores has to bring along.
fn left_out(config: &Config, args: &BackupArgs) -> Vec<String> {
    let mut left = vec![match &config.s3 {
        None => format!("recordings (encrypted files: copy {} as it is)", config.recordings.dir.display()),
        Some(s3) => format!("recordings (encrypted, in the bucket {})", s3.bucket),
    }];
    left.extend(config.vault.plugins_dir.iter().map(|dir| format!("plug-ins ({})", dir.display())));
    if let Some(name) = &config.vault.identity_credential {
        left.push(format!(
            "the vault's identity (systemd's credential {name}: without it no secret opens again)"
        ));
    } else if args.without_vault_identity {
        left.push("the vault's identity (without it no secret opens again)".to_owned());
    }
    if args.without_database {
        left.push("the database (take PostgreSQL's dump at the same time)".to_owned());
    }
    left
}

async fn write(
    desk: &Desk,
    args: &BackupArgs,
    portable: &Portable,
    file: &File,
    at: Timestamp,
) -> Result<Manifest, CliError> {
    let config = &desk.context.config;
    let node = &config.site.node;
    let made_by = if is_member_name(node) { node.as_str() } else { "gateway" };
    let mut writer = BackupWriter::new(BufWriter::new(file), &args.recipients, made_by, at.micros())?;
    writer.add(CONFIGURATION, portable.text.len() as u64, &mut portable.text.as_bytes())?;
    for named in &portable.files {
        if args.without_vault_identity && named.key == "vault.identity_file" {
            continue;
        }
        add_file(&mut writer, &named.name, &named.path, None)?;
    }
    // Before the database: a log that ends before its last checkpoint would count as cut.
    let checkpoints = &config.audit.checkpoint_file;
    let known = fs::metadata(checkpoints).ok().map(|m| m.len());
    let database = copy_database(desk, args).await?;
    if let Some(length) = known {
        add_file(&mut writer, &portable.checkpoints, checkpoints, Some(length))?;
    }
    if let Some((_folder, copy)) = &database {
        add_file(&mut writer, portable.database.as_deref().unwrap_or(DUMP), copy, None)?;
    }
    let (manifest, mut out) = writer.finish()?;
    let shown = args.to.display().to_string();
    out.flush().and_then(|()| file.sync_all()).map_err(CliError::io(shown))?;
    Ok(manifest)
}

/// `length`: of a file that grows, what was there at first.
fn add_file<W: Write>(
    writer: &mut BackupWriter<W>,
    name: &str,
    path: &Path,
    length: Option<u64>,
) -> Result<(), CliError> {
    let fault = || CliError::io(path.display().to_string());
    let file = File::open(path).map_err(fault())?;
    let whole = file.metadata().map_err(fault())?.len();
    let length = length.unwrap_or(whole);
    if length < whole {
        writer.add(name, length, &mut file.take(length))?;
    } else {
        writer.add(name, length, &mut &file)?;
    }
    Ok(())
}

/// The database as it is at one moment, in a folder of its own that goes when it is dropped: beside what is as secret.
async fn copy_database(desk: &Desk, args: &BackupArgs) -> Result<Option<(TempDir, PathBuf)>, CliError> {
    if args.without_database {
        return Ok(None);
    }
    let config = &desk.context.config;
    let beside = match &config.store.url {
        StoreUrl::Sqlite(path) => path.parent(),
        StoreUrl::Postgres(_) => config.audit.checkpoint_file.parent(),
    };
    let beside = beside.unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".cofferdam-backup-").tempdir_in(beside);
    let folder = folder.map_err(CliError::io(beside.display().to_string()))?;
    let copy = folder.path().join("copy");
    match &config.store.url {
        StoreUrl::Sqlite(_) => desk.store.copy_to(&copy).await?,
        StoreUrl::Postgres(url) => dump(config, url, folder.path(), &copy)?,
    }
    Ok(Some((folder, copy)))
}

/// By PostgreSQL's own program: a dump of another making would have to know every version of it.
fn dump(config: &Config, url: &str, folder: &Path, to: &Path) -> Result<(), CliError> {
    let mut file = OsString::from("--file=");
    file.push(to);
    let mut program = Command::new("pg_dump");
    program.args(["--format=custom", "--no-owner", "--no-privileges", "--no-password", "--dbname", url]);
    program.arg(file);
    if let Some(password) = &config.store.password_file {
        // Neither in an argument nor in the environment, where others could read it.
        let passwords = folder.join("passwords");
        keyfile::create(&passwords, &password_line(&keyfile::load(password)?))?;
        program.env("PGPASSFILE", passwords);
    }
    let instead = "install PostgreSQL's client programs of the server's version, or take the dump yourself and use \
                   --without-database";
    let done = program.output().map_err(|e| CliError::failed(format!("pg_dump: {e}; {instead}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(CliError::failed(format!("pg_dump took no dump: {}; {instead}", said.trim())))
}

/// A line of PostgreSQL's password file for every server; ':' and '\\' are escaped there.
fn password_line(password: &SecretBytes) -> SecretBytes {
    let mut line = b"*:*:*:*:".to_vec();
    for byte in password.expose().iter().filter(|b| !matches!(b, b'\r' | b'\n')) {
        if matches!(byte, b':' | b'\\') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.push(b'\n');
    SecretBytes::new(line)
}

/// `cofferdam restore`
pub(crate) async fn restore(args: &RestoreArgs) -> Result<Reply, CliError> {
    let key = args.identity.display();
    let identity = Root::from_content(&keyfile::load(&args.identity)?).map_err(|e| {
        CliError::failed(format!("{key}: {e}; name the identity of one of the backup's recipients"))
    })?;
    let shown = args.backup.display().to_string();
    let file = File::open(&args.backup).map_err(CliError::io(shown.clone()))?;
    // Nothing in it is compressed, so what it restores cannot be longer than itself.
    let most = file.metadata().map_err(CliError::io(shown))?.len();
    let manifest = backup::restore(file, &identity, &args.to, most)?;
    let noted = note_restored(&args.to, &manifest).await;
    let folder = args.to.display();
    let file = args.to.join(CONFIGURATION);
    let file = file.display();
    let dumped = manifest.members.iter().any(|m| m.name == DUMP);
    let mut next = Vec::new();
    if dumped {
        next.push(format!(
            "load the dump into an empty database: pg_restore --no-owner --dbname URL {folder}/{DUMP}"
        ));
    }
    next.push(format!(
        "look over addresses and paths in {file}, and bring what the backup does not hold (recordings)"
    ));
    next.push(format!("look it over: cofferdam doctor --config {file}"));
    next.push(format!("prove the log whole: cofferdam audit verify --config {file}"));
    next.push("start it only where the gateway that it is from does not run any more".to_owned());
    let steps: Vec<String> =
        next.iter().enumerate().map(|(i, step)| format!("  {}. {step}", i + 1)).collect();
    let note = match &noted {
        Ok(()) => String::new(),
        Err(e) => format!("\nnot noted in its audit log: {e}"),
    };
    let made = utc(Timestamp(manifest.made_at));
    let text = format!(
        "{folder}: {} files of the backup that {} made at {made}{note}\nnext:\n{}",
        manifest.members.len(),
        manifest.made_by,
        steps.join("\n"),
    );
    let json = json!({
        "id": manifest.file_sha256, "folder": folder.to_string(), "config": file.to_string(), "made_at": made,
        "made_by": manifest.made_by, "sha256": manifest.file_sha256, "files": manifest.members.len(),
        "noted": noted.is_ok(),
    });
    Ok(Reply::new(text, json))
}

/// The restored log says that it was restored. Not where its database is still to be loaded.
async fn note_restored(folder: &Path, manifest: &Manifest) -> Result<(), CliError> {
    let config = Config::load(&folder.join(CONFIGURATION))?;
    let user = config.run.user.clone();
    if matches!(config.store.url, StoreUrl::Postgres(_)) {
        give_away(folder, user.as_deref())?;
        return Err(CliError::failed("its database is to be loaded first"));
    }
    let context = Context::new(config);
    let store = context.open_store().await?;
    let event = AuditEvent::new(AuditKind::BackupRestored, folder.display())
        .with("sha256", manifest.file_sha256.as_str())
        .with("made_at", utc(Timestamp(manifest.made_at)))
        .with("made_by", manifest.made_by.as_str());
    let act = Act::new(Actor::operator(&os_user()), context.now());
    let noted = store.record(&act, event).await;
    let kept = store.checkpoint().await;
    store.close().await;
    give_away(folder, user.as_deref())?;
    noted?;
    kept?;
    Ok(())
}

/// What root restored belongs to the user that the gateway runs as.
fn give_away(folder: &Path, user: Option<&str>) -> Result<(), CliError> {
    match user.filter(|_| nix::unistd::geteuid().is_root()) {
        Some(user) => privileges::give_to(folder, user).map_err(|e| CliError::failed(e.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_cannot_end_its_field_of_the_password_file() {
        let line = password_line(&SecretBytes::from(b"a:b\\c\n".to_vec()));
        assert_eq!(line.expose(), b"*:*:*:*:a\\:b\\\\c\n");
    }
}
