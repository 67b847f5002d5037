//! Gives up root once the sockets are open.

use nix::unistd::{Gid, Group, Uid, User, geteuid, setgid, setgroups, setuid};

use crate::config::Config;

/// Why the process could not become the configured user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    /// Nobody was named.
    #[error("started as root without run.user: name the user that the gateway shall run as")]
    NobodyNamed,
    /// No such user or group.
    #[error("there is no {kind} {name:?}: create it, or change run.{kind}")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Root is no way to run.
    #[error("run.user is root: name a user without privileges")]
    Root,
    /// The system refused.
    #[error("could not become {name}: {reason}")]
    System {
        /// The user.
        name: String,
        /// The system's word.
        reason: nix::Error,
    },
}

/// What becomes of root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// The process becomes the configured user.
    GivenUp,
    /// The demo stays who it is: it never listens beyond loopback.
    Kept,
}

/// Becomes the configured user when started as root; does nothing otherwise.
pub(crate) fn drop_to(config: &Config, root: Root) -> Result<(), PrivilegeError> {
    if !geteuid().is_root() || root == Root::Kept {
        return Ok(());
    }
    let name = config.run.user.clone().ok_or(PrivilegeError::NobodyNamed)?;
    let (uid, gid) = unprivileged(&name, config.run.group.as_deref())?;
    become_user(uid, gid).map_err(|reason| PrivilegeError::System { name, reason })
}

/// The user of that name, who must not be root, with that group or their own.
fn unprivileged(name: &str, group: Option<&str>) -> Result<(Uid, Gid), PrivilegeError> {
    let unknown = |kind, name: &str| PrivilegeError::Unknown { kind, name: name.to_owned() };
    let user = User::from_name(name).ok().flatten().ok_or_else(|| unknown("user", name))?;
    if user.uid.is_root() {
        return Err(PrivilegeError::Root);
    }
    let gid = match group {
        Some(group) => Group::from_name(group).ok().flatten().ok_or_else(|| unknown("group", group))?.gid,
        None => user.gid,
    };
    Ok((user.uid, gid))
}

/// The user and group that the vault process is started as: `vault.user`, else the gateway's own; none where this process
/// cannot choose, or stays who it is.
pub(crate) fn vault_user(config: &Config, root: Root) -> Result<Option<(u32, u32)>, PrivilegeError> {
    if !geteuid().is_root() || root == Root::Kept {
        return Ok(None);
    }
    let (uid, gid) = match (&config.vault.user, &config.run.user) {
        (Some(name), _) => unprivileged(name, None)?,
        (None, Some(name)) => unprivileged(name, config.run.group.as_deref())?,
        (None, None) => return Err(PrivilegeError::NobodyNamed),
    };
    Ok(Some((uid.as_raw(), gid.as_raw())))
}

/// Groups first: after `setuid` there is no right left to change them.
fn become_user(uid: Uid, gid: Gid) -> Result<(), nix::Error> {
    setgroups(&[gid])?;
    setgid(gid)?;
    setuid(uid)?;
    // The way back must be closed.
    match setuid(Uid::from_raw(0)) {
        Err(_) => Ok(()),
        Ok(()) => Err(nix::Error::EPERM),
    }
}

/// Gives a folder and everything in it to the user that the gateway will run as.
pub(crate) fn give_to(folder: &std::path::Path, name: &str) -> Result<(), PrivilegeError> {
    let (uid, gid) = unprivileged(name, None)?;
    let system = |reason| PrivilegeError::System { name: name.to_owned(), reason };
    let io = |e: std::io::Error| system(nix::Error::from_raw(e.raw_os_error().unwrap_or_default()));
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        // The link itself, where there is one: it must not lead this out of the folder.
        std::os::unix::fs::lchown(&path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(io)?;
        if std::fs::symlink_metadata(&path).map_err(io)?.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(io)? {
                waiting.push(entry.map_err(io)?.path());
            }
        }
    }
    Ok(())
}

/// Keeps what the process has in memory out of core files. A process that runs as a service is not dumpable either: no
/// other process of its user traces it or reads its memory, and a program that collects core files is given none.
pub(crate) fn keep_memory_private(root: Root) {
    use nix::sys::{
        prctl,
        resource::{Resource, setrlimit},
    };
    let no_files = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let private = if root == Root::Kept { Ok(()) } else { prctl::set_dumpable(false) };
    if let Err(e) = no_files.and(private) {
        tracing::warn!(error = %e, "core files could not be turned off: set LimitCORE=0 in the unit");
    }
}

/// Lets the process open as many files as the system allows it: each session needs two sockets and a recording.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(e) = raised {
        tracing::warn!(error = %e, "the limit on open files could not be raised");
    }
}
