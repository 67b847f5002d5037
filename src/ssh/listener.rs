//! Accepts people's connections, within limits that hold before anybody has logged in.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use russh::server;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{front::Front, wire::Wire};
use crate::gateway::Gateway;

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections in all, logged in or not.
    pub(crate) connections: usize,
    /// Connections of one source address that have not logged in yet.
    pub(crate) waiting_per_source: usize,
    /// How long a log-in may take, from accept to its end.
    pub(crate) login: Duration,
}

/// Accepts until `stop`; connections that are open then go on, tracked by `tasks`.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    socket: TcpListener,
    config: Arc<server::Config>,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let each = |stream, peer, holding| one(gateway.clone(), stream, peer, config.clone(), limits, holding);
    accept(socket, limits, stop, tasks, each).await;
}

/// Accepts until `stop` what the limits allow, and has `each` serve it, tracked by `tasks`.
pub(crate) async fn accept<F>(
    socket: TcpListener,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
    each: impl Fn(TcpStream, SocketAddr, Holding) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let waiting = Arc::new(Waiting::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(pair) => pair,
            Err(e) => {
                // Out of descriptors: wait for connections to end rather than spin.
                warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            debug!(source = %peer.ip(), "all places are taken; the connection is closed");
            continue;
        };
        let Some(ticket) = waiting.enter(network_of(peer.ip()), limits.waiting_per_source) else {
            debug!(source = %peer.ip(), "too many connections of this source wait for log-in; the connection is closed");
            continue;
        };
        if let Err(e) = stream.set_nodelay(true).and_then(|()| find_dead_peers(&stream)) {
            debug!(error = %e, "the connection closed at once");
            continue;
        }
        tasks.spawn(each(stream, peer, Holding { place, ticket }));
    }
}

/// The places that a connection takes: among all, and among those of its source that have not logged in.
#[derive(Debug)]
pub(crate) struct Holding {
    place: OwnedSemaphorePermit,
    ticket: Ticket,
}

impl Holding {
    /// Log-in is over: only the place among all is kept.
    pub(crate) fn logged_in(self) -> OwnedSemaphorePermit {
        let Self { place, ticket } = self;
        drop(ticket);
        place
    }
}

async fn one(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<server::Config>,
    limits: Limits,
    holding: Holding,
) {
    let cut = CancellationToken::new();
    let front = Front::new(gateway, peer, cut.clone());
    let logged_in = front.logged_in();
    let wire = Wire::new(stream, &cut);
    let serving = run(config, wire, front, cut.clone());
    tokio::pin!(serving);
    let in_time = tokio::select! {
        () = &mut serving => return,
        () = logged_in.cancelled() => true,
        () = tokio::time::sleep(limits.login) => false,
    };
    let place = holding.logged_in();
    if !in_time {
        debug!(source = %peer.ip(), "log-in took too long; the connection is closed");
        cut.cancel();
    }
    serving.await;
    drop(place);
}

/// Runs one SSH connection to its end, and ends what it carried. It is closed as soon as it is cut, though its channels may wait for
/// a recorder that is behind.
pub(crate) async fn run<S>(config: Arc<server::Config>, wire: Wire<S>, front: Front, cut: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = front.connection();
    let closer = wire.closer();
    match Box::pin(server::run_stream(config, wire, front)).await {
        Ok(mut session) => {
            let ended = tokio::select! {
                ended = &mut session => ended,
                () = cut.cancelled() => {
                    closer.close();
                    session.await
                }
            };
            if let Err(e) = ended {
                debug!(error = %e, "the connection ended with an error");
            }
        }
        Err(e) => debug!(error = %e, "the connection did not come up"),
    }
    // First: a channel that is about to open a session sees that it is too late.
    cut.cancel();
    if let Some(connection) = connection.get() {
        connection.closed().await;
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host is given.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// TCP's own keep-alive: a peer that vanished is noticed within two minutes, at no cost to the SSH connection.
fn find_dead_peers(stream: &TcpStream) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &60)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &15)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    Ok(())
}

/// Connections per source that have not logged in.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<IpAddr, usize>>);

/// One place among the waiting; given back on drop.
#[derive(Debug)]
struct Ticket {
    waiting: Arc<Waiting>,
    source: IpAddr,
}

impl Waiting {
    fn enter(self: &Arc<Self>, source: IpAddr, most: usize) -> Option<Ticket> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Ticket { waiting: self.clone(), source })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_its_places_back() {
        let waiting = Arc::new(Waiting::default());
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        let b: IpAddr = "192.0.2.2".parse().unwrap();
        let first = waiting.enter(a, 2).unwrap();
        let _second = waiting.enter(a, 2).unwrap();
        assert!(waiting.enter(a, 2).is_none());
        assert!(waiting.enter(b, 2).is_some());
        drop(first);
        assert!(waiting.enter(a, 2).is_some());
    }
}
