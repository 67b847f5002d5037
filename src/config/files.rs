//! The files and folders that the configuration names: do they exist, and who else can touch them?

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path};

use nix::unistd::{Group, User, geteuid};

use super::{
    Config,
    document::Document,
    problem::{Fault, FileFault, Problem},
    settings::Unseal,
};

/// What a path is used for, and so who may touch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Only its owner may read it.
    Secret,
    /// Anybody may read it; only its owner may change it.
    Trusted,
    /// A folder that only its owner may change.
    Folder,
}

/// Appends what is wrong with the files that `config` names, and with the configuration file itself.
pub(super) fn check(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let mut owners = vec![0, geteuid().as_raw()];
    // The vault process may have a user of its own, whose files the gateway cannot even read.
    for (key, name) in [("run.user", &config.run.user), ("vault.user", &config.vault.user)] {
        let Some(name) = name else { continue };
        match identity(User::from_name(name)) {
            Some(user) => owners.push(user.uid.as_raw()),
            None => problems.push(document.problem(key, Fault::NoSuchIdentity("user"))),
        }
    }
    if let Some(name) = &config.run.group
        && identity(Group::from_name(name)).is_none()
    {
        problems.push(document.problem("run.group", Fault::NoSuchIdentity("group")));
    }
    if let Err(fault) = look(document.file(), Use::Trusted, &owners) {
        problems.push(super::problem::problem(document.file(), None, "", fault.into()));
    }
    for (key, path, purpose) in named(config) {
        // A folder that is not there yet is made by the process that needs it, with the right mode.
        if purpose == Use::Folder && !path.exists() {
            continue;
        }
        if let Err(fault) = look(path, purpose, &owners) {
            problems.push(document.problem(&key, fault.into()));
        }
    }
}

/// Every path of `config` that exists before the process starts, with its key.
pub(super) fn named(config: &Config) -> Vec<(String, &Path, Use)> {
    let mut all: Vec<(String, &Path, Use)> = vec![
        ("audit.signing_key_file".into(), &config.audit.signing_key_file, Use::Secret),
        ("vault.ssh_user_ca_file".into(), &config.vault.ssh_user_ca_file, Use::Secret),
        ("vault.ssh_host_ca_file".into(), &config.vault.ssh_host_ca_file, Use::Secret),
        ("recordings.dir".into(), &config.recordings.dir, Use::Folder),
    ];
    for (index, path) in config.ssh.host_key_files.iter().enumerate() {
        all.push((format!("ssh.host_key_files.{index}"), path, Use::Secret));
    }
    for (index, path) in config.ssh.trusted_user_ca_files.iter().enumerate() {
        all.push((format!("ssh.trusted_user_ca_files.{index}"), path, Use::Trusted));
    }
    if let Some(path) = &config.store.password_file {
        all.push(("store.password_file".into(), path, Use::Secret));
    }
    if let Some(s3) = &config.s3 {
        all.push(("s3.access_key_file".into(), &s3.access_key_file, Use::Secret));
        all.push(("s3.secret_key_file".into(), &s3.secret_key_file, Use::Secret));
        all.extend(s3.ca_file.iter().map(|path| ("s3.ca_file".into(), path.as_path(), Use::Trusted)));
    }
    if let Some(web) = &config.web {
        all.push(("web.certificate_file".into(), &web.certificate_file, Use::Trusted));
        all.push(("web.key_file".into(), &web.key_file, Use::Secret));
    }
    if let Some(rdp) = &config.rdp {
        all.extend(
            rdp.certificate_file.iter().map(|p| ("rdp.certificate_file".into(), p.as_path(), Use::Trusted)),
        );
        all.extend(rdp.key_file.iter().map(|p| ("rdp.key_file".into(), p.as_path(), Use::Secret)));
    }
    if let Some(mail) = &config.mail {
        all.extend(
            mail.password_file.iter().map(|p| ("mail.password_file".into(), p.as_path(), Use::Secret)),
        );
        all.extend(mail.ca_file.iter().map(|p| ("mail.ca_file".into(), p.as_path(), Use::Trusted)));
    }
    if let Some(hook) = &config.webhook {
        all.push(("webhook.secret_file".into(), &hook.secret_file, Use::Secret));
        all.extend(hook.ca_file.iter().map(|p| ("webhook.ca_file".into(), p.as_path(), Use::Trusted)));
    }
    if !matches!(config.vault.unseal(), Unseal::Credential | Unseal::Shares) {
        all.push(("vault.identity_file".into(), &config.vault.identity_file, Use::Secret));
    }
    if let Some(token) = &config.vault.token {
        all.push(("vault.token.module".into(), &token.module, Use::Trusted));
        all.push(("vault.token.pin_file".into(), &token.pin_file, Use::Secret));
    }
    if let Some(path) = &config.vault.plugins_dir {
        all.push(("vault.plugins_dir".into(), path, Use::Folder));
    }
    if let Some(path) = &config.recordings.replay_identity_file {
        all.push(("recordings.replay_identity_file".into(), path, Use::Secret));
    }
    all
}

/// A look-up that failed is an identity that is not there: the process would not be able to become it either.
fn identity<T>(found: nix::Result<Option<T>>) -> Option<T> {
    found.ok().flatten()
}

/// Whether only root or this process's user may change an executable and the folder that it is in.
pub(crate) fn trusted(program: &Path) -> Result<(), FileFault> {
    let owners = [0, geteuid().as_raw()];
    if let Some(folder) = program.parent() {
        look(folder, Use::Folder, &owners)?;
    }
    look(program, Use::Trusted, &owners)
}

fn look(path: &Path, purpose: Use, owners: &[u32]) -> Result<(), FileFault> {
    let metadata =
        std::fs::metadata(path).map_err(|source| FileFault::Unreachable { path: path.to_owned(), source })?;
    judge(path, purpose, &Facts::from(&metadata), owners)
}

/// What counts about a file.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) is_file: bool,
    pub(super) is_folder: bool,
    pub(super) owner: u32,
    pub(super) mode: u32,
}

impl From<&Metadata> for Facts {
    fn from(m: &Metadata) -> Self {
        Self { is_file: m.is_file(), is_folder: m.is_dir(), owner: m.uid(), mode: m.mode() & 0o7777 }
    }
}

/// The rule itself; `owners` are the user ids that are trusted.
pub(super) fn judge(path: &Path, purpose: Use, facts: &Facts, owners: &[u32]) -> Result<(), FileFault> {
    let path_owned = || path.to_owned();
    match purpose {
        Use::Folder if !facts.is_folder => return Err(FileFault::NotFolder(path_owned())),
        Use::Secret | Use::Trusted if !facts.is_file => return Err(FileFault::NotRegular(path_owned())),
        _ => {}
    }
    if !owners.contains(&facts.owner) {
        return Err(FileFault::Stranger { path: path_owned(), owner: facts.owner });
    }
    let mode = facts.mode & 0o777;
    match purpose {
        Use::Secret if mode & 0o077 != 0 => Err(FileFault::SecretExposed { path: path_owned(), mode }),
        Use::Trusted | Use::Folder if mode & 0o022 != 0 => {
            Err(FileFault::Writable { path: path_owned(), mode })
        }
        _ => Ok(()),
    }
}
