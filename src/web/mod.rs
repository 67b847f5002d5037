//! The web interface's side in this process: what its pages are given, and its listener.

mod health;
mod live;
mod messages;
mod recordings;
mod secrets;
mod terminal;

use std::{net::SocketAddr, sync::Arc};

use cofferdam_web::{Certificates, Desktops, Listening, Services, Settings};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, settings::Web},
    context::Context,
    gateway::Gateway,
    rdp::tokens::Issuer,
    records::Records,
};

/// The sockets, bound while the process may still bind them.
#[derive(Debug)]
pub(crate) struct Bound {
    settings: Web,
    listening: Listening,
    /// Where browsers connect.
    pub(crate) address: SocketAddr,
}

/// Binds what `[web]` names, if there is such a section.
///
/// # Errors
/// When an address is taken, or not ours.
pub(crate) async fn bind(config: &Config) -> Result<Option<Bound>, String> {
    let Some(settings) = config.web.clone() else { return Ok(None) };
    let bind = async |key: &str, address: SocketAddr| {
        TcpListener::bind(address)
            .await
            .map_err(|e| format!("{address}: {e}; choose another {key} or end what listens there"))
    };
    let socket = bind("web.listen", settings.listen).await?;
    let address = socket.local_addr().map_err(|e| e.to_string())?;
    let redirect = match settings.redirect_listen {
        Some(address) => Some(bind("web.redirect_listen", address).await?),
        None => None,
    };
    Ok(Some(Bound { settings, listening: Listening { socket, redirect }, address }))
}

/// Serves the pages until `stop`; recordings that only the object store has are read through `archive`, and `desktops` lets
/// people in to theirs where desktops are served.
///
/// # Errors
/// When the certificate or the public address cannot be used.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
    context: Arc<Context>,
    archive: Option<cofferdam_recorder::Archive>,
    bound: Bound,
    desktops: Option<Issuer>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), String> {
    let Bound { settings, listening, address } = bound;
    let config = &context.config;
    let certificates = Certificates::load(&settings.certificate_file, &settings.key_file)
        .map(Arc::new)
        .map_err(|e| e.to_string())?;
    let mut public_url = settings.public_url.clone();
    // Port 0 (demo, tests) became a real one.
    if settings.listen.port() == 0 && public_url.set_port(Some(address.port())).is_err() {
        return Err(format!("web.public_url {public_url} takes no port"));
    }
    let ssh_address = settings.ssh_address.clone().unwrap_or_else(|| {
        // Port 0 (demo, tests) became a real one.
        let port = gateway.destinations.own.first().unwrap_or(&config.ssh.listen).port();
        format!("{}:{port}", public_url.host_str().unwrap_or_default())
    });
    let records = Records::new(context.clone(), gateway.store.clone(), archive);
    records.clear_exports();
    let services = Services {
        site: config.site.name.clone(),
        node: gateway.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        ssh_address,
        public_url,
        clock: gateway.clock.clone(),
        store: gateway.store.clone(),
        snapshots: gateway.snapshots.clone(),
        prover: gateway.prover.clone(),
        live: Arc::new(live::Live::new(gateway.clone(), records.clone())),
        terminals: Arc::new(terminal::InsideTerminals::new(gateway.clone(), tasks.clone())),
        desktops: desktops.map(|issuer| Arc::new(issuer) as Arc<dyn Desktops>),
        recordings: Arc::new(recordings::Archive::new(records, gateway.store.clone())),
        secrets: Arc::new(secrets::Shown {
            gateway: gateway.clone(),
            unseal: config.vault.unseal(),
            over_web: config.vault.unseal_over_web,
        }),
        health: Arc::new(health::Health { gateway: gateway.clone(), certificates: certificates.clone() }),
        settings: Settings {
            idle_seconds: settings.idle_seconds,
            session_seconds: settings.session_seconds,
            max_connections: settings.max_connections as usize,
        },
    };
    messages::start(gateway, config, services.public_url.clone(), stop, tasks)?;
    tasks.spawn(certificates.clone().follow(gateway.clock.clone(), stop.clone()));
    cofferdam_web::serve(Arc::new(services), listening, certificates, stop.clone(), tasks)
        .map_err(|e| e.to_string())
}
