//! The leg toward the target: dial, check the pinned host key, present the secret.
//!
//! Invariant: nothing is sent to a target whose host key is not pinned; the secret goes only to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cofferdam_access::policy::DestinationRules;
use cofferdam_vault::{Material, SecretString};
use russh::{
    MethodKind, MethodSet,
    client::{self, AuthResult, KeyboardInteractiveAuthResponse},
    keys::{PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{algorithms, wire::Wire};

/// Most bytes of a target's banner that the person sees.
const BANNER: usize = 4096;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
/// Most questions that a target may ask at log-in.
const QUESTIONS: usize = 8;

/// What to dial and whom to expect.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// For messages: the asset's name.
    pub(crate) asset: String,
    /// Host name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// The account's login on the target.
    pub(crate) login: String,
    /// Pinned host keys, OpenSSH one-line form.
    pub(crate) host_keys: Vec<String>,
    /// Old algorithms that the asset needs.
    pub(crate) dangerous_algorithms: Vec<String>,
    /// How long it may take to answer and agree on keys, and again to take the secret; not the questions that the
    /// person answers.
    pub(crate) patience: Duration,
}

/// Why the target could not be reached: what the operator's log gets, and what the person reads.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct TargetError {
    /// For the operator.
    pub(crate) why: String,
    /// For the person: why, and what next; never the secret, never the address.
    pub(crate) sentence: String,
    /// Fingerprint of a host key that was shown and is not pinned: somebody may be in between.
    pub(crate) impostor: Option<String>,
}

impl TargetError {
    /// Both texts.
    pub(crate) fn new(why: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { why: why.into(), sentence: sentence.into(), impostor: None }
    }
}

/// A question of the target's own second factor, passed on to the person.
#[derive(Debug)]
pub(crate) struct Question {
    /// What the target asks, as it wrote it.
    pub(crate) prompt: String,
    /// Whether what is typed may be shown.
    pub(crate) echo: bool,
    /// Where the answer goes.
    pub(crate) answer: tokio::sync::oneshot::Sender<SecretString>,
}

/// Asks the person; absent where there is nobody to ask (no terminal).
pub(crate) type Asker = mpsc::Sender<Question>;

/// An authenticated connection to a target.
pub(crate) struct TargetLeg {
    /// Opens channels on it.
    pub(crate) handle: client::Handle<Watchman>,
    /// The target's banner, cut to a sane length; to be shown to the person.
    pub(crate) banner: Option<String>,
}

impl std::fmt::Debug for TargetLeg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetLeg").finish_non_exhaustive()
    }
}

/// Guards the connection: checks the host key, and refuses every channel that the target tries to open.
#[derive(Debug)]
pub(crate) struct Watchman {
    pinned: Vec<PublicKey>,
    seen: mpsc::Sender<Seen>,
}

#[derive(Debug)]
enum Seen {
    WrongKey(String),
    Banner(String),
}

impl client::Handler for Watchman {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = key.public_key();
        let known = self.pinned.iter().any(|p| p.key_data() == key.key_data());
        if !known {
            let print = key.fingerprint(russh::keys::HashAlg::Sha256).to_string();
            // A full or closed queue loses a message for the log, not the refusal.
            self.seen.try_send(Seen::WrongKey(print)).unwrap_or_default();
        }
        Ok(known)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), Self::Error> {
        let text: String = banner.chars().take(BANNER).collect();
        self.seen.try_send(Seen::Banner(text)).unwrap_or_default();
        Ok(())
    }

    // A target never opens a channel toward the person: dropping the reply refuses it.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: russh::Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: russh::Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_agent_forward(
        &mut self,
        _: russh::Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_session(
        &mut self,
        _: russh::Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: russh::Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: russh::Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
    async fn server_channel_open_x11(
        &mut self,
        _: russh::Channel<client::Msg>,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }
}

/// Dials, checks the host key and logs in with `material`. `cut` closes the socket at once, also while this runs.
///
/// # Errors
/// [`TargetError`] with one text for the operator and another for the person.
pub(crate) async fn dial(
    to: &Destination,
    rules: &DestinationRules,
    material: Material,
    asker: Option<&Asker>,
    cut: &CancellationToken,
) -> Result<TargetLeg, TargetError> {
    let asset = &to.asset;
    let pinned: Vec<PublicKey> =
        to.host_keys.iter().filter_map(|k| PublicKey::from_openssh(k).ok()).collect();
    if pinned.is_empty() {
        return Err(TargetError::new(
            format!(
                "{asset} has no pinned host key; compare its fingerprint and run `cofferdam asset trust {asset}`"
            ),
            format!(
                "{asset} is not ready: nobody has confirmed its host key yet; ask the site's administrator"
            ),
        ));
    }
    let kinds: Vec<_> = pinned.iter().map(PublicKey::algorithm).collect();
    let preferred = algorithms::toward_target(&kinds, &to.dangerous_algorithms).map_err(|why| {
        TargetError::new(
            format!("{asset}: dangerous_ssh_algorithms: {why}"),
            format!("{asset} is not set up right; tell the site's administrator"),
        )
    })?;
    let config = Arc::new(client::Config {
        preferred,
        window_size: super::WINDOW,
        maximum_packet_size: super::PACKET,
        channel_buffer_size: super::CHANNEL_QUEUE,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        nodelay: true,
        ..Default::default()
    });

    let unreachable = |why: String| {
        TargetError::new(
            format!("{asset} at {}:{}: {why}", to.host, to.port),
            format!("{asset} does not answer; check with the site that it is running, then try again"),
        )
    };
    let (seen, mut sight) = mpsc::channel(4);
    let connecting = async {
        let socket = connect(&to.host, to.port, rules).await.map_err(&unreachable)?;
        socket.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let wire = Wire::new(socket, cut);
        let (closer, cut) = (wire.closer(), cut.clone());
        // Its channels may wait for a recorder that is behind, and not look at it.
        tokio::spawn(async move {
            cut.cancelled().await;
            closer.close();
        });
        client::connect_stream(config, wire, Watchman { pinned, seen })
            .await
            .map_err(|e| unreachable(format!("SSH set-up failed: {e}")))
    };
    let connected = tokio::select! {
        biased;
        () = cut.cancelled() => return Err(unreachable("the session ended".into())),
        r = tokio::time::timeout(to.patience, connecting) => r.unwrap_or_else(|_| Err(unreachable("no answer in time".into()))),
    };
    let mut handle = match connected {
        Ok(handle) => handle,
        Err(e) => {
            while let Ok(seen) = sight.try_recv() {
                if let Seen::WrongKey(print) = seen {
                    let mut error = TargetError::new(
                        format!(
                            "{asset} shows host key {print}, which is not pinned: if the machine was replaced, compare the \
                             fingerprint there and run `cofferdam asset trust {asset}`; if not, somebody may be in between"
                        ),
                        format!(
                            "{asset} shows another host key than the one the site trusts, so nothing was sent to it; tell \
                             the site's security duty"
                        ),
                    );
                    error.impostor = Some(print);
                    return Err(error);
                }
            }
            return Err(e);
        }
    };
    let logged_in = tokio::select! {
        biased;
        () = cut.cancelled() => return Err(unreachable("the session ended".into())),
        r = log_in(&mut handle, to, material, asker) => r,
    };
    logged_in?;
    let mut banner = None;
    while let Ok(seen) = sight.try_recv() {
        if let Seen::Banner(text) = seen {
            banner = Some(text);
        }
    }
    Ok(TargetLeg { handle, banner })
}

/// The addresses of `host` that may be dialled: asked for at the moment of the dial, because a name must not lead home.
///
/// # Errors
/// Why there is none, for the operator.
pub(crate) async fn allowed(
    host: &str,
    port: u16,
    rules: &DestinationRules,
) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|e| e.to_string())?;
    let mut refused = "the name has no address".to_owned();
    let mut allowed = Vec::new();
    for address in found.take(ADDRESSES) {
        match rules.check(address) {
            Ok(()) => allowed.push(address),
            Err(forbidden) => refused = forbidden.to_string(),
        }
    }
    if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
}

/// Connects to the first address of `host` that answers and may be dialled.
///
/// # Errors
/// What went wrong with the last address, for the operator.
pub(crate) async fn connect(host: &str, port: u16, rules: &DestinationRules) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in allowed(host, port, rules).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// One log-in: the secret first, then the target's own questions, if it has any.
async fn log_in(
    handle: &mut client::Handle<Watchman>,
    to: &Destination,
    material: Material,
    asker: Option<&Asker>,
) -> Result<(), TargetError> {
    let asset = &to.asset;
    let broken = |e: russh::Error| {
        TargetError::new(
            format!("{asset}: log-in as {} broke off: {e}", to.login),
            format!(
                "{asset} closed the connection during log-in; try again, then tell the site's administrator"
            ),
        )
    };
    let slow = |_| {
        TargetError::new(
            format!("{asset}: log-in as {} took too long", to.login),
            format!("{asset} does not finish the log-in; tell the site's administrator"),
        )
    };
    let first = async {
        match &material {
            Material::Password(secret) => handle.authenticate_password(&to.login, secret.expose()).await,
            Material::PrivateKey(key) => {
                let hash = handle.best_supported_rsa_hash().await?.flatten();
                let key = PrivateKeyWithHashAlg::new(Arc::new((**key).clone()), hash);
                handle.authenticate_publickey(&to.login, key).await
            }
            Material::Certificate { key, certificate } => {
                handle
                    .authenticate_openssh_cert(&to.login, Arc::new((**key).clone()), (**certificate).clone())
                    .await
            }
        }
    };
    match tokio::time::timeout(to.patience, first).await.map_err(slow)?.map_err(broken)? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { remaining_methods, partial_success } => {
            let password = match &material {
                // The target wants the password by keyboard-interactive instead (ESXi, many switches).
                Material::Password(secret) if !partial_success => Some(secret),
                _ => None,
            };
            if offers_questions(&remaining_methods) && (partial_success || password.is_some()) {
                return questions(handle, to, password, asker).await;
            }
            Err(refused(to))
        }
    }
}

fn offers_questions(methods: &MethodSet) -> bool {
    methods.contains(&MethodKind::KeyboardInteractive)
}

fn refused(to: &Destination) -> TargetError {
    TargetError::new(
        format!("{} refused the secret that the vault holds for {}: set or rotate it", to.asset, to.login),
        format!(
            "{} did not accept the site's own secret for {}; there is nothing to type: tell the site's administrator",
            to.asset, to.login
        ),
    )
}

/// Keyboard-interactive toward the target (RFC 4256): its question for the password is answered from the vault, any
/// other question goes to the person.
async fn questions(
    handle: &mut client::Handle<Watchman>,
    to: &Destination,
    mut password: Option<&SecretString>,
    asker: Option<&Asker>,
) -> Result<(), TargetError> {
    let asset = &to.asset;
    let broken = |e: russh::Error| {
        TargetError::new(
            format!("{asset}: log-in as {} broke off: {e}", to.login),
            format!(
                "{asset} closed the connection during log-in; try again, then tell the site's administrator"
            ),
        )
    };
    let mut response =
        handle.authenticate_keyboard_interactive_start(&to.login, None).await.map_err(broken)?;
    let mut asked = 0;
    loop {
        let prompts = match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(()),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Err(refused(to)),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let mut answers = Vec::with_capacity(prompts.len().min(QUESTIONS));
        for prompt in prompts {
            asked += 1;
            if asked > QUESTIONS {
                return Err(refused(to));
            }
            let secret = if prompt.echo { None } else { password.take() };
            match secret {
                Some(secret) => answers.push(secret.expose().to_owned()),
                None => answers.push(ask(asker, to, prompt.prompt, prompt.echo).await?.expose().to_owned()),
            }
        }
        response = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(broken)?;
    }
}

async fn ask(
    asker: Option<&Asker>,
    to: &Destination,
    prompt: String,
    echo: bool,
) -> Result<SecretString, TargetError> {
    let nobody = || {
        TargetError::new(
            format!("{} asks for a factor of its own, and the client has no terminal to ask on", to.asset),
            format!("{} asks for a code of its own: connect with a terminal (ssh -t)", to.asset),
        )
    };
    let asker = asker.ok_or_else(nobody)?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    asker.send(Question { prompt, echo, answer }).await.map_err(|_| nobody())?;
    answered.await.map_err(|_| nobody())
}
