//! `pump-hmi`: an SSH host for the demo that plays an operator panel.
//!
//! Everything on it is emulated: a small shell with commands of its own, on a disk that is one folder of the
//! real machine. It starts no process, follows no link and dials nowhere, so that the demo can be shown on
//! any machine.
//!
//! Invariant: no path of the emulated disk leaves its folder ([`vfs`]).
//! Invariant: bytes wait in bounded queues only; a reader that stalls stops the writer ([`io`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cofferdam_vault::SecretString;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Config, run_stream};
use russh::{Disconnect, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod arithmetic;
mod channel;
mod commands;
mod host;
mod io;
mod parse;
mod scp;
mod seed;
mod server;
mod sftp;
mod shell;
#[cfg(test)]
mod tests;
mod tty;
mod vfs;
mod web;

/// Connections at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 256;
/// How long connections get to end when the host is stopped.
const FAREWELL: Duration = Duration::from_secs(2);

/// Says what time it is, in UTC microseconds.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a login proves itself.
#[derive(Debug)]
pub(crate) enum Auth {
    /// By this password, until `passwd` or `chpasswd` changes it.
    Password(SecretString),
    /// By a user certificate of this authority whose principal is the login.
    TrustedCa(PublicKey),
}

/// What the host is made of.
pub(crate) struct PumpHmi {
    /// The key that it shows.
    pub(crate) host_key: PrivateKey,
    /// Logins and their proofs; a login may stand here several times.
    pub(crate) accounts: Vec<(String, Auth)>,
    /// The folder that is its disk. It must exist; files are put in that are not there yet.
    pub(crate) root: PathBuf,
    /// Its clock.
    pub(crate) clock: Clock,
}

/// Why the host could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpHmiError {
    /// Its disk could not be filled.
    #[error(
        "the disk of pump-hmi at {root} could not be prepared: {source}; check the folder and the space left"
    )]
    Disk {
        /// The folder.
        root: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its listener failed.
    #[error("pump-hmi can take no connections: {0}; check the limit of open files")]
    Listener(std::io::Error),
}

/// Serves connections of `listener` until `shutdown`.
///
/// # Errors
/// [`PumpHmiError`] when the disk cannot be prepared or the listener fails for good.
pub(crate) async fn serve(
    listener: TcpListener,
    config: PumpHmi,
    shutdown: CancellationToken,
) -> Result<(), PumpHmiError> {
    let root = config.root.clone();
    let disk = vfs::Vfs::new(config.root);
    let logins: Vec<&str> = config.accounts.iter().map(|(login, _)| login.as_str()).collect();
    seed::seed(&disk, &logins, (config.clock)()).map_err(|source| PumpHmiError::Disk { root, source })?;
    let host = Arc::new(host::Host::new(disk, config.clock, config.accounts));
    let ssh = Arc::new(ssh_config(config.host_key));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(PumpHmiError::Listener(error)),
            },
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let connection = server::Connection::new(Arc::clone(&host), Some(peer));
        let (ssh, shutdown) = (Arc::clone(&ssh), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connect(ssh, stream, connection, shutdown).await {
                tracing::debug!(target: "demo", host = host::HOSTNAME, %peer, %error, "connection ended");
            }
        });
    }
    connections.close();
    if tokio::time::timeout(FAREWELL, connections.wait()).await.is_err() {
        tracing::debug!(target: "demo", host = host::HOSTNAME, "connections were cut");
    }
    Ok(())
}

async fn connect(
    ssh: Arc<Config>,
    stream: TcpStream,
    connection: server::Connection,
    shutdown: CancellationToken,
) -> Result<(), russh::Error> {
    stream.set_nodelay(true)?;
    let mut session = tokio::select! {
        session = run_stream(ssh, stream, connection) => session?,
        () = shutdown.cancelled() => return Ok(()),
    };
    tokio::select! {
        ended = &mut session => ended,
        () = shutdown.cancelled() => {
            let text = "the host is going down".to_owned();
            session.handle().disconnect(Disconnect::ByApplication, text, "en".to_owned()).await
        }
    }
}

fn ssh_config(host_key: PrivateKey) -> Config {
    Config {
        server_id: russh::SshId::Standard("SSH-2.0-PumpHMI_4.2".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        max_auth_attempts: 6,
        // A person may think for as long as the gateway lets them; a peer that is gone is found by this.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(60)),
        nodelay: true,
        ..Config::default()
    }
}

/// Errors of one connection, not of the listener (accept(2)).
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}
