//! Where RDP clients connect, and how they and browsers are let in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cofferdam_rdp::FrontConfig;
use cofferdam_web::Certificates;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;
use url::Url;

use crate::{
    config::{
        Config,
        settings::{Rdp, Web},
    },
    gateway::Gateway,
    ssh::listener::{Limits, accept},
};

/// The socket, bound while the process may still bind it.
#[derive(Debug)]
pub(crate) struct Bound {
    settings: Rdp,
    web: Web,
    socket: TcpListener,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
}

/// Binds what `[rdp]` names, if there is such a section.
///
/// # Errors
/// When the address is taken, or not ours.
pub(crate) async fn bind(config: &Config) -> Result<Option<Bound>, String> {
    let (Some(settings), Some(web)) = (config.rdp.clone(), config.web.clone()) else { return Ok(None) };
    let socket = TcpListener::bind(settings.listen).await.map_err(|e| {
        format!("{}: {e}; choose another rdp.listen or end what listens there", settings.listen)
    })?;
    let address = socket.local_addr().map_err(|e| e.to_string())?;
    Ok(Some(Bound { settings, web, socket, address }))
}

impl Bound {
    /// What people are told to connect to.
    pub(crate) fn told(&self) -> String {
        told(&self.settings, &self.web.public_url, self.address.port())
    }

    /// How people are let in, by this socket and by the web.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub(crate) fn entrance(&self) -> Result<Entrance, String> {
        let Self { settings, web, .. } = self;
        let chain = settings.certificate_file.as_ref().unwrap_or(&web.certificate_file);
        let key = settings.key_file.as_ref().unwrap_or(&web.key_file);
        let certificates = Arc::new(Certificates::load(chain, key).map_err(|e| e.to_string())?);
        let login = Duration::from_secs(settings.login_grace_seconds.into());
        Ok(Entrance { certificates, login, without_nla: settings.allow_without_nla })
    }

    /// Serves desktops until `stop`; sessions that live then go on.
    pub(crate) fn start(
        self,
        entrance: Entrance,
        gateway: &Arc<Gateway>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let Self { settings, socket, address, .. } = self;
        tasks.spawn(entrance.certificates.clone().follow(gateway.clock.clone(), stop.clone()));
        let limits = Limits {
            connections: settings.max_connections as usize,
            waiting_per_source: settings.max_connections_per_source as usize,
            login: entrance.login,
        };
        let gateway = gateway.clone();
        let each = move |stream, peer, holding| {
            super::connection::serve(gateway.clone(), entrance.front(), stream, peer, holding)
        };
        tasks.spawn(accept(socket, limits, stop.clone(), tasks.clone(), each));
        info!(%address, "desktops are served");
    }
}

/// How the gateway shows itself to people who come to a desktop, and how long it waits for their proof.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    certificates: Arc<Certificates>,
    login: Duration,
    without_nla: bool,
}

impl Entrance {
    /// What clients are shown now, DER.
    pub(super) fn certificate(&self) -> Vec<u8> {
        self.certificates.served().certificate.clone()
    }

    /// With the certificate of now.
    pub(super) fn front(&self) -> FrontConfig {
        let served = self.certificates.served();
        FrontConfig {
            tls: served.config.clone(),
            subject_public_key: served.public_key.clone(),
            certificate: served.certificate.clone(),
            login_time: self.login,
            without_nla: self.without_nla,
        }
    }
}

fn told(settings: &Rdp, public_url: &Url, port: u16) -> String {
    match &settings.address {
        Some(address) if has_port(address) => address.clone(),
        Some(host) => format!("{host}:{port}"),
        None => format!("{}:{port}", public_url.host_str().unwrap_or_default()),
    }
}

/// Whether an address ends with a port: `gw:3389`, `[2001:db8::1]:3389`, but not `2001:db8::1`.
fn has_port(address: &str) -> bool {
    match address.rsplit_once(':') {
        Some((host, port)) => port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_a_host_and_a_port() {
        let settings = |address: &str| {
            let address = (!address.is_empty()).then(|| address.to_owned());
            let text = address.map_or_else(String::new, |a| format!("address = \"{a}\""));
            toml::from_str::<Rdp>(&text).unwrap()
        };
        let url = "https://gw.example:8443/".parse().unwrap();
        for (address, expected) in [
            ("", "gw.example:3390"),
            ("desk.example", "desk.example:3390"),
            ("desk.example:443", "desk.example:443"),
            ("[2001:db8::1]", "[2001:db8::1]:3390"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            assert_eq!(told(&settings(address), &url, 3390), expected);
        }
    }
}
