//! The listener: TLS, bounds on connections and on how slow a client may be, and the way of a request to its route.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, Uri, header, uri::PathAndQuery},
    middleware,
    response::{IntoResponse, Redirect, Response},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use url::Url;

use crate::{
    admin::Background,
    headers,
    passkeys::Passkeys,
    routes,
    services::{App, Services},
    tls::Certificates,
    viewer::Peer,
};

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(15);
/// How long open connections get at the end.
const LAST: Duration = Duration::from_secs(3);
/// Streams at once on one HTTP/2 connection.
const STREAMS: u32 = 64;

/// Why the interface does not start.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The operator's: the address that people use cannot carry passkeys.
    #[error("web.public_url {url}: {reason}; name the host that people type into their browser")]
    PublicUrl {
        /// As configured.
        url: Url,
        /// Why not.
        reason: String,
    },
}

/// Where the interface listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket for TLS.
    pub socket: TcpListener,
    /// A socket for plain HTTP that only leads to the other one.
    pub redirect: Option<TcpListener>,
}

/// Builds what handlers are given.
pub(crate) fn app(services: Arc<Services>) -> Result<App, WebError> {
    let passkeys = Passkeys::new(&services.public_url, &services.site)
        .map_err(|reason| WebError::PublicUrl { url: services.public_url.clone(), reason })?;
    Ok(App {
        services,
        passkeys: Arc::new(passkeys),
        streams: Arc::default(),
        doors: Arc::default(),
        desk: Arc::default(),
        board: Arc::default(),
        background: Arc::default(),
    })
}

/// Serves until `stop`; then open connections get a few seconds.
///
/// # Errors
/// When the public address cannot be used.
pub fn serve(
    services: Arc<Services>,
    listening: Listening,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), WebError> {
    let most = services.settings.max_connections;
    let public = services.public_url.clone();
    let app = app(services)?;
    let router = routes::router(app.clone()).layer(middleware::from_fn(headers::secure));
    // What takes longer than a page may is looked at before somebody asks.
    tasks.spawn(async move {
        if let Err(e) = Background::metrics(&app).await {
            tracing::warn!(error = %e, "the metrics could not be computed");
        }
    });
    if let Some(socket) = listening.redirect {
        tasks.spawn(redirect(socket, public, stop.clone()));
    }
    tasks.spawn(accept(listening.socket, router, certificates, most, stop));
    Ok(())
}

async fn accept(
    socket: TcpListener,
    router: Router,
    certificates: Arc<Certificates>,
    most: usize,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, mostly: a moment later there may be some.
                tracing::warn!(error = %e, "a web connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A full house closes at once, before any work.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (router, certificates, stop) = (router.clone(), certificates.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(e) = connection(stream, peer, router, &certificates, stop).await {
                tracing::debug!(error = %e, "a web connection broke off");
            }
            drop(place);
        });
    }
    connections.close();
    if tokio::time::timeout(LAST, connections.wait()).await.is_err() {
        tracing::debug!("some web connections were cut at the stop");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    certificates: &Certificates,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(certificates.config());
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let service = tower::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(with_peer(request.map(Body::new), peer))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let served =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(served);
    tokio::select! {
        done = served.as_mut() => done,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}

/// Puts the address of the connection into the request, and the host where HTTP/2 has it elsewhere (RFC 9113 §8.3.1).
fn with_peer(mut request: Request, peer: SocketAddr) -> Request {
    request.extensions_mut().insert(Peer(peer));
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// Leads everybody who comes without TLS to the public address; serves nothing else.
async fn redirect(socket: TcpListener, public: Url, stop: CancellationToken) {
    let lead = move |uri: Uri| {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        let to = public.as_str().trim_end_matches('/').to_owned() + &path;
        async move { lead_to(&to) }
    };
    let router: Router = Router::new().fallback(lead);
    let served = axum::serve(socket, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(e) = served.await {
        tracing::warn!(error = %e, "the listener that leads to HTTPS ended");
    }
}

fn lead_to(address: &str) -> Response {
    if HeaderValue::from_str(address).is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    Redirect::permanent(address).into_response()
}
