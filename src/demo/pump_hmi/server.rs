//! The SSH side: who may log in, and what a channel may ask for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};

use super::channel::{Idle, Task, command_line};
use super::host::Host;
use super::tty::Tty;
use super::web;

/// Session channels that one connection may have waiting for a request.
const MAX_IDLE: usize = 64;
/// Variables that a client may set per channel, and their longest form.
const MAX_VARIABLES: usize = 64;
const MAX_VARIABLE: usize = 4096;

/// One connection.
pub(super) struct Connection {
    host: Arc<Host>,
    peer: Option<SocketAddr>,
    login: Option<String>,
    idle: HashMap<ChannelId, Idle>,
}

impl Connection {
    pub(super) fn new(host: Arc<Host>, peer: Option<SocketAddr>) -> Self {
        Self { host, peer, login: None, idle: HashMap::new() }
    }

    fn decide(&mut self, login: &str, fits: bool) -> Auth {
        if fits {
            self.login = Some(login.to_owned());
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    fn start(
        &mut self,
        id: ChannelId,
        task: Option<Task>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        // Looked up before it is taken: a request that is refused leaves the channel as it was.
        match (task, self.login.clone()) {
            (Some(task), Some(login)) if self.idle.contains_key(&id) => {
                session.channel_success(id)?;
                if let Some(idle) = self.idle.remove(&id) {
                    idle.start(Arc::clone(&self.host), login, task, session.handle());
                }
                Ok(())
            }
            _ => session.channel_failure(id),
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let fits = self.host.password_fits(user, password);
        Ok(self.decide(user, fits))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // The library asks here with a certificate's bare key and does not show the certificate. Where an
        // authority is trusted the answer is left to the check of the certificate itself, which follows.
        Ok(if self.host.trusts_authority(user) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let fits = self.host.certificate_fits(user, certificate, self.peer.map(|peer| peer.ip()));
        Ok(self.decide(user, fits))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.idle.len() >= MAX_IDLE {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            self.idle.insert(channel.id(), Idle::new(channel));
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !web::is_here(host_to_connect, port_to_connect) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        reply.accept().await;
        tokio::spawn(async move {
            if let Err(error) = web::answer(channel.into_stream()).await {
                tracing::trace!(target: "demo", %error, "the panel's page was not read to its end");
            }
        });
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.idle.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.idle.get_mut(&channel) {
            Some(idle) if term.len() <= MAX_VARIABLE => {
                idle.tty = Some(Arc::new(Tty::new(term.to_owned(), col_width, row_height)));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let fits = name.len() + value.len() <= MAX_VARIABLE && !name.is_empty();
        match self.idle.get_mut(&channel) {
            Some(idle) if fits && idle.variables.len() < MAX_VARIABLES => {
                idle.variables.insert(name.to_owned(), value.to_owned());
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(channel, Some(Task::Shell), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, command_line(data).map(Task::Exec), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, (name == "sftp").then_some(Task::Sftp), session)
    }
}
