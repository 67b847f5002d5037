//! Toward the person: X.224 negotiation (MS-RDPBCGR 2.2.1.1), TLS, CredSSP with one-time tokens; where that is allowed, also
//! clients without NLA, which type into their Client Info what proves who they are.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_vault::SecretString;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    nego::{ConnectionConfirm, ConnectionRequest, FailureCode, ResponseFlags, SecurityProtocol},
    x224::X224,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{
    cleanpath,
    credssp::{self, AcceptError},
    event::Ending,
    opening::{self, Opened},
    parting,
    person::Person,
    relay::Lobby,
    rewrite::info,
    wire::{Leg, WireError},
};

/// The longest connection request: an X.224 length indicator is one byte.
const REQUEST: usize = 4 + 1 + 255;

/// How the gateway shows itself.
#[derive(Clone)]
pub struct FrontConfig {
    /// Certificate and key. Without resumption, and from TLS 1.2 on.
    pub tls: Arc<rustls::ServerConfig>,
    /// [`subject_public_key`](crate::subject_public_key) of that certificate.
    pub subject_public_key: Vec<u8>,
    /// That certificate, DER. Browsers are shown it inside what the web protects.
    pub certificate: Vec<u8>,
    /// Time from the first byte to the proof.
    pub login_time: Duration,
    /// Clients that offer TLS and no NLA may log in. They send what they type through TLS, to whoever shows a certificate that
    /// the person accepts.
    pub without_nla: bool,
}

impl fmt::Debug for FrontConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontConfig").field("login_time", &self.login_time).finish_non_exhaustive()
    }
}

/// Who may log in.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// The tokens that are open for the user name as the client sent it, without its domain. A handful at most; nobody has
    /// proved anything yet when this is asked, and nothing is used up by it.
    async fn candidates(&self, user: &str) -> Vec<Candidate>;

    /// What a client without NLA typed. None: it proves nothing, which has been noted.
    async fn typed(&self, user: &str, password: &SecretString) -> Option<Proof>;
}

/// What somebody logged in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The token of this id. To be used up now, before anything else.
    Token(String),
    /// What they typed, which [`Tokens::typed`] has looked at.
    Typed,
}

/// A token that proves a log-in.
#[derive(Debug)]
pub struct Candidate {
    /// Names it in [`Proof::Token`].
    pub id: String,
    /// What the client is given as a password.
    pub password: SecretString,
}

/// Why a person did not get in.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The client did not finish in time.
    #[error("no log-in within the time for it")]
    Slow,
    /// The client offers less than network level authentication; it was told what is needed.
    #[error("the client does not offer network level authentication (NLA)")]
    NoNla,
    /// The client offers not even TLS; it was told so.
    #[error("the client offers standard RDP security only")]
    NoTls,
    /// No open token fits what was typed; the client was told that the log-on failed.
    #[error("no open token fits")]
    Refused {
        /// The user name that was tried, when it came so far.
        user: Option<String>,
    },
    /// What a client without NLA typed proves nothing; it was told so.
    #[error("what was typed proves nothing")]
    NotProved,
    /// TLS failed.
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    /// The client broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    /// The connection.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<AcceptError> for FrontError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Wire(error) => Self::Wire(error),
            AcceptError::Refused { user } => Self::Refused { user },
            AcceptError::Protocol(what) => Self::Protocol(what),
        }
    }
}

/// A person who proved who they are, and waits.
#[derive(Debug)]
pub struct Accepted<S> {
    pub(crate) leg: Leg<Person<S>>,
    proof: Proof,
    user: String,
    /// What the client asked for at first, which it checks in the Connect Response.
    pub(crate) requested: SecurityProtocol,
    /// The client waits for the early user authorisation result (MS-RDPBCGR 2.2.10.2).
    pub(crate) early: bool,
    /// What a client without NLA has said beyond its proof.
    pub(crate) opened: Option<Opened>,
    /// The person's keyboard, where the client does not know it.
    pub(crate) keyboard: Option<u32>,
    /// The desktop on which it waits, once it is seated at one.
    pub(crate) lobby: Option<Lobby>,
}

impl<S> Accepted<S> {
    /// Somebody who proved it so, and of whom nothing else is known.
    pub(crate) fn of(leg: Leg<Person<S>>, proof: Proof) -> Self {
        let requested = SecurityProtocol::empty();
        Self {
            leg,
            proof,
            user: String::new(),
            requested,
            early: false,
            opened: None,
            keyboard: None,
            lobby: None,
        }
    }

    /// With the layout of the person's keyboard (a Windows identifier, such as 0x0407), for a client that does not know it.
    #[must_use]
    pub fn with_keyboard(self, layout: Option<u32>) -> Self {
        Self { keyboard: layout, ..self }
    }

    /// By what.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The user name as the client sent it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Brings a connection to the point at which a person has proved who they are. No target is involved.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &FrontConfig,
    tokens: &dyn Tokens,
) -> Result<Accepted<S>, FrontError> {
    tokio::time::timeout(config.login_time, log_in(stream, config, tokens))
        .await
        .map_err(|_| FrontError::Slow)?
}

/// As [`accept`], for a browser: `stream` is what its WebSocket carries, inside the web's TLS and log-in.
pub async fn accept_browser<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &FrontConfig,
    tokens: &dyn Tokens,
) -> Result<Accepted<S>, FrontError> {
    let log_in = log_in_browser(stream, config, tokens);
    tokio::time::timeout(config.login_time, log_in).await.map_err(|_| FrontError::Slow)?
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &FrontConfig,
    tokens: &dyn Tokens,
) -> Result<Accepted<S>, FrontError> {
    let mut leg = Leg::new(stream);
    let request = leg.pdu(REQUEST).await?;
    let offered = offered(&request.bytes)?;
    let tls_alone = config.without_nla.then_some(SecurityProtocol::SSL).filter(|tls| offered.contains(*tls));
    let Some(protocol) = choose(offered).or(tls_alone) else {
        let (code, error) = if config.without_nla {
            (FailureCode::SSL_REQUIRED_BY_SERVER, FrontError::NoTls)
        } else {
            (FailureCode::HYBRID_REQUIRED_BY_SERVER, FrontError::NoNla)
        };
        leg.send(&confirm(ConnectionConfirm::Failure { code })?).await?;
        return Err(error);
    };
    leg.send(&chosen(protocol)?).await?;
    let stream =
        TlsAcceptor::from(config.tls.clone()).accept(leg.into_stream()?).await.map_err(FrontError::Tls)?;
    let leg = Leg::new(Person::Tls(Box::new(stream)));
    if protocol == SecurityProtocol::SSL {
        typed(leg, tokens, offered).await
    } else {
        prove(leg, config, tokens, (offered, protocol)).await
    }
}

async fn log_in_browser<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: &FrontConfig,
    tokens: &dyn Tokens,
) -> Result<Accepted<S>, FrontError> {
    let mut leg = Leg::new(Person::Web(stream));
    let message = leg.der(cleanpath::LIMIT).await?;
    let request = cleanpath::request(&message).ok_or(FrontError::Protocol("RDCleanPath request"))?;
    let offered = offered(&request)?;
    let protocol = choose(offered).ok_or(FrontError::NoNla)?;
    let answer = cleanpath::response(chosen(protocol)?, &config.certificate);
    leg.send(&answer.ok_or(FrontError::Protocol("RDCleanPath response"))?).await?;
    prove(leg, config, tokens, (offered, protocol)).await
}

async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    mut leg: Leg<Person<S>>,
    config: &FrontConfig,
    tokens: &dyn Tokens,
    (requested, protocol): (SecurityProtocol, SecurityProtocol),
) -> Result<Accepted<S>, FrontError> {
    let proven = credssp::accept(&mut leg, &config.subject_public_key, tokens).await?;
    let early = protocol == SecurityProtocol::HYBRID_EX;
    let proof = Proof::Token(proven.id);
    Ok(Accepted { user: proven.user, requested, early, ..Accepted::of(leg, proof) })
}

/// The log-in of a client without NLA: the beginning of a session with us alone, until it says what was typed.
async fn typed<S: AsyncRead + AsyncWrite + Unpin>(
    mut leg: Leg<Person<S>>,
    tokens: &dyn Tokens,
    requested: SecurityProtocol,
) -> Result<Accepted<S>, FrontError> {
    let mut opened = opening::open(&mut leg, requested).await?;
    let typed = info::typed(&opened.info).map_err(|broken| FrontError::Protocol(broken.0))?;
    let Some(proof) = tokens.typed(&typed.user, &typed.password).await else {
        // One answer for every fault.
        parting::in_time(parting::say(&mut leg, None, Ending::LogOn)).await;
        return Err(FrontError::NotProved);
    };
    opened.info = typed.rest.into();
    Ok(Accepted { user: typed.user, requested, opened: Some(opened), ..Accepted::of(leg, proof) })
}

/// What a connection request offers. Cookie and routing token in it are what anybody may have written: they decide nothing
/// and go nowhere.
pub(crate) fn offered(request: &[u8]) -> Result<SecurityProtocol, FrontError> {
    let request =
        decode::<X224<ConnectionRequest>>(request).map_err(|_| FrontError::Protocol("connection request"))?;
    Ok(request.0.protocol)
}

fn chosen(protocol: SecurityProtocol) -> Result<Vec<u8>, FrontError> {
    // Nobody knows yet whether the target draws by the graphics pipeline: where it may not, the client's word for it goes no
    // further, as with a target that has none.
    let flags = ResponseFlags::EXTENDED_CLIENT_DATA_SUPPORTED | ResponseFlags::DYNVC_GFX_PROTOCOL_SUPPORTED;
    confirm(ConnectionConfirm::Response { flags, protocol })
}

/// The strongest of what the client offers that proves a token; nothing less.
fn choose(offered: SecurityProtocol) -> Option<SecurityProtocol> {
    [SecurityProtocol::HYBRID_EX, SecurityProtocol::HYBRID].into_iter().find(|one| offered.contains(*one))
}

fn confirm(answer: ConnectionConfirm) -> Result<Vec<u8>, FrontError> {
    encode_vec(&X224(answer)).map_err(|_| FrontError::Protocol("connection confirm"))
}
