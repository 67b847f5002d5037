//! The vault process's end: one thread and two buffers per connection, a few connections at a time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Uid, User, geteuid};

use super::allow::Role;
use super::message::{Request, Response};
use super::service::{Connection, Service, greeting};
use super::wire::{Frame, WireError};

/// How long the other end may take to take an answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long an operator may say nothing.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(120);
/// Operators at a time.
const MAX_OPERATORS: usize = 8;

/// Serves connections of one service.
#[derive(Debug, Clone)]
pub struct Server {
    service: Arc<Service>,
}

impl Server {
    /// For that service.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    /// Serves the network-facing process until it closes the connection, which it also does when it ends, however it
    /// ends. Its leases are given back then.
    ///
    /// # Errors
    /// [`WireError`] when it spoke another protocol, or the connection failed.
    pub fn serve_network(&self, stream: UnixStream) -> Result<(), WireError> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        self.serve(stream, Role::Network, None)
    }

    /// Serves the process that changes secrets, over the socket that this one made before it started that one.
    ///
    /// # Errors
    /// As [`serve_network`](Self::serve_network).
    pub fn serve_rotation(&self, stream: UnixStream) -> Result<(), WireError> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        self.serve(stream, Role::Rotation, None)
    }

    /// Serves one operator. The kernel says who it is: `allowed` are the user ids that may, and root.
    ///
    /// # Errors
    /// As [`serve_network`](Self::serve_network); [`io::ErrorKind::PermissionDenied`] for anybody else.
    pub fn serve_operator(&self, stream: UnixStream, allowed: &[u32]) -> Result<(), WireError> {
        let peer = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
        if peer.uid() != 0 && peer.uid() != geteuid().as_raw() && !allowed.contains(&peer.uid()) {
            let text = format!("user id {} may not operate the vault", peer.uid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
        }
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        stream.set_read_timeout(Some(OPERATOR_PATIENCE))?;
        self.serve(stream, Role::Operator, Some(peer.uid()))
    }

    fn serve(&self, mut stream: UnixStream, role: Role, uid: Option<u32>) -> Result<(), WireError> {
        let (mut incoming, mut outgoing) = (Frame::new(), Frame::new());
        let Some(first) = incoming.read::<Request>(&mut stream)? else { return Ok(()) };
        let welcome = greeting(&first).ok_or(WireError::Unknown)?;
        outgoing.write(&mut stream, &welcome)?;
        let mut connection = Connection::default();
        while let Some(request) = incoming.read::<Request>(&mut stream)? {
            let request = signed_with_name(request, uid);
            let response = self.service.answer(role, &mut connection, request);
            match outgoing.write(&mut stream, &response) {
                // Ours to say, and the connection goes on: nothing of it was sent.
                Err(WireError::DoesNotFit) => {
                    let text = "the answer does not fit into a frame".to_owned();
                    outgoing.write(&mut stream, &Response::Refused { sealed: false, text })?;
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// An operator acts under the name that the system knows them by; root may act for somebody, and that is said too.
fn signed_with_name(mut request: Request, uid: Option<u32>) -> Request {
    let Some(uid) = uid else { return request };
    if let Request::Share { by, .. }
    | Request::Passphrase { by, .. }
    | Request::Configured { by }
    | Request::Seal { by }
    | Request::Rekey { by }
    | Request::Retire { by, .. } = &mut request
        && uid != 0
    {
        let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        *by = known.map_or_else(|| format!("uid-{uid}"), |user| user.name);
    }
    request
}

/// Binds a socket in a folder that only this user can enter; makes the folder if it is not there, and takes away a socket
/// that an earlier process left.
///
/// # Errors
/// When the folder belongs to somebody else or can be entered by others, or the system refuses.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the socket has to lie in a folder"))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let meta = fs::symlink_metadata(folder)?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let shown = folder.display();
        let text = format!("{shown} has to be a folder of this user alone; run: chmod 700 {shown}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves operators until the process ends, a few at a time, each on a thread of its own. `report` gets what went wrong
/// with one of them.
pub fn serve_operators(
    server: &Server,
    listener: &UnixListener,
    allowed: &[u32],
    report: impl Fn(&WireError) + Send + Sync + 'static,
) {
    let (busy, report) = (Arc::new(AtomicUsize::new(0)), Arc::new(report));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) => {
                report(&e.into());
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if busy.fetch_add(1, Ordering::AcqRel) >= MAX_OPERATORS {
            busy.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (server, allowed) = (server.clone(), allowed.to_vec());
        let (counter, theirs) = (Arc::clone(&busy), Arc::clone(&report));
        let work = move || {
            if let Err(e) = server.serve_operator(stream, &allowed) {
                theirs(&e);
            }
            counter.fetch_sub(1, Ordering::AcqRel);
        };
        if let Err(e) = thread::Builder::new().name("vault-operator".into()).spawn(work) {
            busy.fetch_sub(1, Ordering::AcqRel);
            report(&e.into());
        }
    }
}
