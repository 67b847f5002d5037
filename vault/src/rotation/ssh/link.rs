//! A connection to a target whose host key is pinned, and fixed commands on it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, MethodKind, MethodSet};
use zeroize::Zeroizing;

use crate::rotation::reach::{Address, SecretSource};
use crate::rotation::rotator::{Fault, Verdict, of_helper, text};
use crate::secret::SecretString;

/// The most that a command may say. More is a fault: nothing that is run here says much.
const OUTPUT: usize = 512 * 1024;
/// Questions of a target at log-in that are answered.
const QUESTIONS: usize = 4;

/// A target and what proves that it is the one.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Where it listens.
    pub address: Address,
    /// Its host keys. A target that shows another one gets nothing.
    pub host_keys: Vec<PublicKey>,
}

/// What is presented at the log-in.
pub(super) enum Credential<'a> {
    Password(&'a SecretString),
    Key(&'a PrivateKey),
}

/// Whether a target let us in.
pub(super) enum Entry {
    In(Link),
    /// It said that the credential is wrong.
    Refused,
}

/// A connection, logged in.
pub(super) struct Link(client::Handle<Watchman>);

/// What a command came to.
pub(super) struct Finished {
    pub(super) status: Option<u32>,
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
}

/// Checks the host key, and refuses whatever the target tries to open.
struct Watchman {
    pinned: Vec<PublicKey>,
    impostor: Arc<AtomicBool>,
}

macro_rules! refuse_channels {
    ($($name:ident($($kind:ty),*);)*) => {$(
        // Dropping the reply refuses it.
        async fn $name(
            &mut self,
            _: russh::Channel<client::Msg>,
            $(_: $kind,)*
            reply: client::ChannelOpenHandle,
            _: &mut client::Session,
        ) -> Result<(), Self::Error> {
            drop(reply);
            Ok(())
        }
    )*};
}

impl client::Handler for Watchman {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = key.public_key();
        let known = self.pinned.iter().any(|pinned| pinned.key_data() == key.key_data());
        self.impostor.store(!known, Ordering::SeqCst);
        Ok(known)
    }

    refuse_channels! {
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_agent_forward();
        server_channel_open_session();
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_direct_streamlocal(&str);
        server_channel_open_x11(&str, u32);
    }
}

impl SshTarget {
    /// Dials, checks the host key, and logs in.
    pub(super) async fn enter(&self, login: &str, credential: Credential<'_>) -> Result<Entry, Fault> {
        let mut handle = self.connect().await?;
        let answer = match &credential {
            Credential::Password(password) => {
                handle.authenticate_password(login, password.expose()).await.map_err(broke_off)?
            }
            Credential::Key(key) => {
                let hash = handle.best_supported_rsa_hash().await.map_err(broke_off)?.flatten();
                let key = PrivateKeyWithHashAlg::new(Arc::new((*key).clone()), hash);
                handle.authenticate_publickey(login, key).await.map_err(broke_off)?
            }
        };
        let AuthResult::Failure { remaining_methods, partial_success } = answer else {
            return Ok(Entry::In(Link(handle)));
        };
        if partial_success {
            return Err(Fault::Denied("it asks for a second factor, which rotation does not have".into()));
        }
        match credential {
            Credential::Password(password)
                if remaining_methods.contains(&MethodKind::KeyboardInteractive) =>
            {
                by_questions(handle, login, password).await
            }
            Credential::Password(_) => verdict(&remaining_methods, MethodKind::Password, "passwords"),
            Credential::Key(_) => verdict(&remaining_methods, MethodKind::PublicKey, "keys"),
        }
    }

    /// As [`enter`](Self::enter), where being refused is a fault.
    pub(super) async fn enter_or_fault(
        &self,
        login: &str,
        credential: Credential<'_>,
    ) -> Result<Link, Fault> {
        match self.enter(login, credential).await? {
            Entry::In(link) => Ok(link),
            Entry::Refused => {
                Err(Fault::Refused(format!("it does not take the secret that the vault has for {login}")))
            }
        }
    }

    async fn connect(&self) -> Result<client::Handle<Watchman>, Fault> {
        if self.host_keys.is_empty() {
            return Err(Fault::Denied(
                "no host key of it is pinned; compare its key and trust it first".into(),
            ));
        }
        let mut preferred = russh::Preferred::default();
        let pinned: Vec<Algorithm> = self.host_keys.iter().map(PublicKey::algorithm).collect();
        let mut kinds = preferred.key.to_vec();
        kinds.sort_by_key(|kind| !pinned.iter().any(|pinned| same_kind(pinned, kind)));
        preferred.key = Cow::Owned(kinds);
        let config = client::Config {
            preferred,
            nodelay: true,
            inactivity_timeout: Some(Duration::from_secs(120)),
            ..client::Config::default()
        };
        let impostor = Arc::new(AtomicBool::new(false));
        let watchman = Watchman { pinned: self.host_keys.clone(), impostor: Arc::clone(&impostor) };
        let stream = self.address.connect().await?;
        client::connect_stream(Arc::new(config), stream, watchman).await.map_err(|error| {
            if impostor.load(Ordering::SeqCst) {
                Fault::Impostor("it shows a host key that is not pinned".into())
            } else {
                Fault::Unreachable(format!("SSH could not be set up: {error}"))
            }
        })
    }
}

/// Nothing has been changed by a log-in that breaks off.
fn broke_off(error: russh::Error) -> Fault {
    Fault::Unreachable(format!("the connection broke off during the log-in: {error}"))
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. })) || a == b
}

/// A target that does not offer the method at all has not said anything about the secret.
fn verdict(offered: &MethodSet, method: MethodKind, what: &str) -> Result<Entry, Fault> {
    if offered.contains(&method) {
        Ok(Entry::Refused)
    } else {
        Err(Fault::Denied(format!("it takes no {what} for this account; check its sshd_config")))
    }
}

/// The same password by keyboard-interactive (RFC 4256), for targets that want it so. Only the first question without
/// echo gets it.
async fn by_questions(
    mut handle: client::Handle<Watchman>,
    login: &str,
    password: &SecretString,
) -> Result<Entry, Fault> {
    let mut given = false;
    let mut answer = handle.authenticate_keyboard_interactive_start(login, None).await.map_err(broke_off)?;
    for _ in 0..QUESTIONS {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(Entry::In(Link(handle))),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(Entry::Refused),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let mut answers = Vec::new();
        for prompt in prompts {
            if prompt.echo || given {
                return Err(Fault::Denied("it asks more at the log-in than for the password".into()));
            }
            given = true;
            answers.push(password.expose().to_owned());
        }
        answer = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(broke_off)?;
    }
    Err(Fault::Denied("it does not come to an end with its questions at the log-in".into()))
}

impl Link {
    /// Runs `command`, which must be a fixed text, gives it `input` and closes it. What could not be heard to its end is
    /// [`Fault::Unsure`].
    pub(super) async fn run(&self, command: &str, input: &[u8]) -> Result<Finished, Fault> {
        let lost = |error: russh::Error| Fault::Unsure(format!("the connection broke off: {error}"));
        let channel = self
            .0
            .channel_open_session()
            .await
            .map_err(|error| Fault::Unreachable(format!("it opens no session for a command: {error}")))?;
        let (mut reading, writing) = channel.split();
        writing.exec(true, command).await.map_err(lost)?;
        let writes = async {
            let sent = match writing.data(input).await {
                Ok(()) => writing.eof().await,
                Err(error) => Err(error),
            };
            // A command that ends without reading all of it says more with its status.
            drop(sent);
        };
        let reads = async {
            let mut finished = Finished { status: None, out: Vec::new(), err: Vec::new() };
            while let Some(message) = reading.wait().await {
                match message {
                    ChannelMsg::Data { data } => finished.out.extend_from_slice(&data),
                    ChannelMsg::ExtendedData { data, .. } => finished.err.extend_from_slice(&data),
                    ChannelMsg::ExitStatus { exit_status } => finished.status = Some(exit_status),
                    ChannelMsg::Failure => {
                        return Err(Fault::Denied("it runs no commands for this account".into()));
                    }
                    ChannelMsg::Close => break,
                    _ => {}
                }
                if finished.out.len() + finished.err.len() > OUTPUT {
                    return Err(Fault::Unsure("it says more than a command of ours could".into()));
                }
            }
            Ok(finished)
        };
        let (finished, ()) = tokio::join!(reads, writes);
        let finished = finished?;
        if finished.status.is_none() {
            return Err(Fault::Unsure("the connection broke off before the command ended".into()));
        }
        Ok(finished)
    }

    /// Says good-bye; the target would note a broken connection otherwise.
    pub(super) async fn leave(self) {
        drop(self.0.disconnect(russh::Disconnect::ByApplication, "", "").await);
    }
}

/// Asks whether `credential` opens the account, and leaves.
pub(super) async fn opens(
    target: &SshTarget,
    login: &str,
    credential: Credential<'_>,
) -> Result<Verdict, Fault> {
    match target.enter(login, credential).await? {
        Entry::In(link) => {
            link.leave().await;
            Ok(Verdict::Opens)
        }
        Entry::Refused => Ok(Verdict::Refused),
    }
}

/// Logs in with the secret of another account: a private key where it reads as one, else a password. Whatever is the
/// matter with that account, nothing was sent that could change the one that it helps.
pub(super) async fn enter_as_helper(
    target: &SshTarget,
    login: &str,
    source: &dyn SecretSource,
) -> Result<Link, Fault> {
    let secret = source.secret().await?;
    let text = text(&secret)?;
    let entered = match PrivateKey::from_openssh(text.expose()) {
        Ok(key) => target.enter_or_fault(login, Credential::Key(&key)).await,
        Err(_) => target.enter_or_fault(login, Credential::Password(&text)).await,
    };
    entered.map_err(of_helper)
}

/// A name of an account that means nothing to `chpasswd` but itself.
pub(super) fn plain_login(login: &str) -> Result<&str, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$');
    if !login.is_empty() && login.len() <= 64 && !login.starts_with('-') && login.chars().all(plain) {
        Ok(login)
    } else {
        Err(Fault::Denied(
            "the account's name has characters that mean something else to chpasswd; rotate it by plug-in"
                .into(),
        ))
    }
}

/// Lines for a program's standard input, wiped afterwards.
pub(super) fn lines(parts: &[&[&str]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().flat_map(|line| line.iter()).map(|part| part.len()).sum::<usize>();
    let mut input = Zeroizing::new(Vec::with_capacity(length + parts.len()));
    for line in parts {
        line.iter().for_each(|part| input.extend_from_slice(part.as_bytes()));
        input.push(b'\n');
    }
    input
}
