//! The person's side: log-in, and what each channel they open becomes.
//!
//! Invariant: no channel is served before `auth_succeeded`; nothing here dials.
//!
//! What is needed for a moment only (a log-in, an audit entry) is boxed where it is awaited, here and in the channels: else
//! its room would be part of every idle connection.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use cofferdam_access::ids::{Login as AccountLogin, Name};
use russh::{
    Channel, ChannelId, MethodKind, MethodSet, Pty,
    keys::Certificate,
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    channel::{
        forward::{self, Wanted},
        session, start,
    },
    connection::{Connection, Identity, Named},
    login::{Answer, Login},
};
use crate::gateway::Gateway;

/// One connection's handler.
pub(crate) struct Front {
    gateway: Arc<Gateway>,
    cut: CancellationToken,
    logged_in: CancellationToken,
    login: Login,
    /// Set for a jump: the person is known, and the asset is named by the outer connection.
    inside: Option<(Identity, Name)>,
    /// For a jump: the account that the inner log-in names.
    account: Option<AccountLogin>,
    connection: Arc<OnceLock<Arc<Connection>>>,
    /// Places for channels; one goes with each channel's task.
    channels: Arc<Semaphore>,
}

impl Front {
    /// For a connection that just arrived.
    pub(crate) fn new(gateway: Arc<Gateway>, peer: SocketAddr, cut: CancellationToken) -> Self {
        let places = gateway.limits.max_channels_per_session as usize;
        Self {
            login: Login::new(gateway.clone(), peer),
            gateway,
            cut,
            logged_in: CancellationToken::new(),
            inside: None,
            account: None,
            connection: Arc::default(),
            channels: Arc::new(Semaphore::new(places)),
        }
    }

    /// For an SSH connection to `asset` inside something whose person is known: another connection, or the web interface.
    pub(crate) fn inside(
        gateway: Arc<Gateway>,
        identity: Identity,
        asset: Name,
        cut: CancellationToken,
    ) -> Self {
        let mut front = Self::new(gateway, identity.source, cut);
        front.inside = Some((identity, asset));
        front
    }

    /// Cancelled once log-in has succeeded.
    pub(crate) fn logged_in(&self) -> CancellationToken {
        self.logged_in.clone()
    }

    /// Where the connection stands once log-in has succeeded.
    pub(crate) fn connection(&self) -> Arc<OnceLock<Arc<Connection>>> {
        self.connection.clone()
    }

    fn authenticated(&self) -> Option<&Arc<Connection>> {
        self.connection.get()
    }
}

/// The answer of the log-in as the library wants it.
fn auth(answer: Answer) -> Auth {
    match answer {
        Answer::Accept => Auth::Accept,
        Answer::Reject => Auth::Reject { proceed_with_methods: None, partial_success: false },
        Answer::ThenAsk => {
            let methods = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
            Auth::Reject { proceed_with_methods: Some(methods), partial_success: true }
        }
        Answer::Ask { prompt } => Auth::Partial {
            name: "".into(),
            instructions: "".into(),
            prompts: vec![(prompt.into(), false)].into(),
        },
        Answer::Say { text } => {
            Auth::Partial { name: "".into(), instructions: text.into(), prompts: Vec::new().into() }
        }
    }
}

impl Handler for Front {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        if self.inside.is_none() {
            return Ok(auth(Answer::Reject));
        }
        self.account = AccountLogin::new(user).ok();
        Ok(if self.account.is_some() { Auth::Accept } else { auth(Answer::Reject) })
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // Only spares a signature that could not help; proves nothing.
        let known = self.inside.is_none() && self.login.may_sign(user, offer.public_key);
        Ok(if known { Auth::Accept } else { auth(Answer::Reject) })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if self.inside.is_some() {
            return Ok(auth(Answer::Reject));
        }
        Ok(auth(Box::pin(self.login.key(user, key.public_key)).await))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        if self.inside.is_some() {
            return Ok(auth(Answer::Reject));
        }
        Ok(auth(Box::pin(self.login.certificate(user, certificate)).await))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        if self.inside.is_some() {
            return Ok(auth(Answer::Reject));
        }
        Ok(auth(Box::pin(self.login.password(user, password)).await))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        if self.inside.is_some() {
            return Ok(auth(Answer::Reject));
        }
        let typed = response.map(|mut answers| answers.next().unwrap_or_default());
        Ok(auth(Box::pin(self.login.interactive(user, typed.as_deref())).await))
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        if self.inside.is_some() {
            return Ok(None);
        }
        if self.gateway.vault_gate.is_open().await {
            return Ok(self.gateway.banner.clone());
        }
        // Codes cannot be checked either: a right one must not look wrong without a word.
        let sealed = "The vault of this gateway is sealed: nobody can log in until it is unsealed. Tell the site's administrator.\r\n";
        Ok(Some([self.gateway.banner.as_deref().unwrap_or_default(), sealed].concat()))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let (identity, named) = match &self.inside {
            Some((identity, asset)) => {
                (identity.clone(), Some(Named { asset: asset.clone(), login: self.account.clone() }))
            }
            None => {
                let Some(done) = self.login.done() else {
                    // Cannot be: the library says so only after `Accept`. If it does, nobody gets in.
                    return Err(russh::Error::NotAuthenticated);
                };
                done
            }
        };
        let mut identity = identity;
        if self.inside.is_none() {
            let version = String::from_utf8_lossy(session.remote_sshid());
            identity.device.client_version = version.chars().filter(|c| !c.is_control()).take(128).collect();
        }
        let connection = Arc::new(Connection::new(
            self.gateway.clone(),
            identity,
            session.handle(),
            self.cut.clone(),
            named,
        ));
        if self.connection.set(connection).is_err() {
            return Err(russh::Error::Inconsistent);
        }
        self.logged_in.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(connection) = self.authenticated().cloned() else { return Ok(()) };
        let Ok(place) = self.channels.clone().try_acquire_owned() else {
            reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            session::serve(connection, channel).await;
            drop(place);
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        origin: &str,
        origin_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(connection) = self.authenticated().cloned() else { return Ok(()) };
        let origin: String =
            format!("{origin}:{origin_port}").chars().filter(|c| !c.is_control()).take(128).collect();
        let wanted =
            Wanted { host: host.chars().take(255).collect(), port: u16::try_from(port).unwrap_or(0), origin };
        if self.inside.is_some() || wanted.port == 0 || host.len() > 255 {
            let why = "no forward leads there from here";
            Box::pin(self.gateway.audit_refused_forward(&connection.identity, None, &wanted, why)).await;
            reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let Ok(place) = self.channels.clone().try_acquire_owned() else {
            reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        tokio::spawn(async move {
            forward::serve(connection, channel, reply, wanted).await;
            drop(place);
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // The gateway's own terminal; whether the target gives one shows in its answer to what is started on it.
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let allowed = start::may_pass(&self.gateway.snapshots.borrow().site.settings.environment, name);
        if allowed { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refused("agent forwarding").await;
        session.channel_failure(channel)?;
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refused("X11 forwarding").await;
        session.channel_failure(channel)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refused(&format!("remote forwarding from {address}:{port}")).await;
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.refused(&format!("remote forwarding from socket {path}")).await;
        Ok(false)
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refused(&format!("forwarding to socket {path}")).await;
        reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

impl Front {
    /// A forbidden kind of forwarding was tried: audited as a blocked lateral movement.
    async fn refused(&self, what: &str) {
        if let Some(connection) = self.authenticated() {
            Box::pin(self.gateway.audit_forbidden(&connection.identity, what)).await;
        }
    }
}
