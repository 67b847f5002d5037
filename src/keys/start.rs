//! The gateway's end: starts the vault process, and does not outlive it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use cofferdam_vault::agent::{Client, ClientError, Spawned, spawn};
use tokio::sync::oneshot;

use russh::keys::PrivateKey;

use super::process::{HOST_KEY, PROCESS_COMMAND};

/// Why the vault process did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The program could not be started again.
    #[error(
        "the vault process could not be started: {0}; look at the user that it shall run as (vault.user)"
    )]
    Spawn(#[from] std::io::Error),
    /// The public half of a host key could not be written out.
    #[error("a host key cannot be told to the vault process: {0}")]
    HostKey(#[from] russh::keys::ssh_key::Error),
    /// It did not greet.
    #[error("the vault process ended before it greeted: its own message above says why ({0})")]
    Greeting(#[from] ClientError),
}

/// The vault process of this gateway.
#[derive(Debug)]
pub(crate) struct KeyProcess {
    /// How it is asked.
    pub(crate) client: Arc<Client>,
    /// Comes when it has ended.
    pub(crate) ended: oneshot::Receiver<String>,
}

/// Starts it for the configuration at `config`, as `user` (user and group id) where root starts it. `own` are the addresses
/// where this gateway listens, `host_keys` the keys that it may have certificates for: a vault process with a user of its own
/// cannot read the gateway's files.
///
/// # Errors
/// [`StartError`].
pub(crate) fn start(
    config: &Path,
    own: &[SocketAddr],
    host_keys: &[PrivateKey],
    user: Option<(u32, u32)>,
) -> Result<KeyProcess, StartError> {
    let mut command = Command::new(this_program()?);
    command.arg(PROCESS_COMMAND).arg(config).args(own.iter().map(ToString::to_string)).current_dir("/");
    for key in host_keys {
        command.arg(HOST_KEY).arg(key.public_key().to_openssh()?);
    }
    let (spawned, stream) = spawn(command, user)?;
    let client = Arc::new(Client::over(stream)?);
    Ok(KeyProcess { client, ended: watch(spawned)? })
}

/// A thread that waits for the process's end.
fn watch(mut spawned: Spawned) -> std::io::Result<oneshot::Receiver<String>> {
    let (tell, ended) = oneshot::channel();
    std::thread::Builder::new().name("vault-watch".into()).stack_size(128 * 1024).spawn(move || {
        let how = spawned.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        // Nobody listens any more when the gateway is ending itself.
        tell.send(how).unwrap_or_default();
    })?;
    Ok(ended)
}

/// The program that runs, also where its file was replaced by a newer one meanwhile.
pub(super) fn this_program() -> std::io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    Ok(if named.exists() { named } else { PathBuf::from("/proc/self/exe") })
}
