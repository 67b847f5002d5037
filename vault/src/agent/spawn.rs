//! How the vault process is started, without a path and without `unsafe`: the socket is its standard input.
//!
//! Neither outlives the other. When the network-facing process ends, however it ends, the kernel closes its end of the
//! socket, and the vault process reads the end of its input and leaves. When the vault process ends, every call of the
//! [`Client`](super::Client) says so, and [`Spawned::wait`] returns. (`PR_SET_PDEATHSIG` is not used: it is tied to the
//! *thread* that started the child, and an asynchronous runtime ends threads as it likes.)

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{geteuid, getppid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::harden::raise_lock_limit;

/// A vault process that this one started.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
}

impl Spawned {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended. Whoever faces the network must not go on without it.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Whether it has ended, without waiting.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

/// Starts `command` as the vault process, with one end of a new socket pair as its standard input, and gives the other
/// end. `user` is the user and group that it runs as, which only root can say; supplementary groups are dropped then.
///
/// It gets a process group of its own, so that a key press meant for this process does not end it first.
///
/// # Errors
/// When the system refuses.
pub fn spawn(mut command: Command, user: Option<(u32, u32)>) -> io::Result<(Spawned, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    if geteuid().is_root() {
        // The child may not raise it once it is somebody else.
        raise_lock_limit();
    }
    command.stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let child = command.spawn()?;
    Ok((Spawned { child }, ours))
}

/// The socket to the process that started this one, out of its standard input.
///
/// # Errors
/// When standard input is no such socket, or another process than the parent made it.
pub fn parent_socket() -> io::Result<UnixStream> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let wrong =
        || io::Error::other("standard input is no socket of the gateway; `cofferdam serve` starts this");
    let peer = getsockopt(&stream, PeerCredentials).map_err(|_| wrong())?;
    if peer.pid() == getppid().as_raw() { Ok(stream) } else { Err(wrong()) }
}

/// Keeps the signals that stop the whole service from stopping this process first: its parent still has to sign the end of
/// its audit log. They are caught, for all threads, and nothing is done about them.
///
/// # Errors
/// When the system refuses.
pub fn ignore_stop_signals() -> io::Result<()> {
    let noticed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&noticed))?;
    }
    Ok(())
}
