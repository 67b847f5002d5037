//! Toward the person: X.224 negotiation (MS-RDPBCGR 2.2.1.1), TLS, CredSSP with one-time tokens.

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
    person::Person,
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
}

/// A token that proves a log-in.
#[derive(Debug)]
pub struct Candidate {
    /// Names it in [`Accepted::token`].
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
    /// No open token fits what was typed; the client was told that the log-on failed.
    #[error("no open token fits")]
    Refused {
        /// The user name that was tried, when it came so far.
        user: Option<String>,
    },
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

/// A person who proved a token, and waits.
#[derive(Debug)]
pub struct Accepted<S> {
    pub(crate) leg: Leg<Person<S>>,
    pub(crate) token: String,
    pub(crate) user: String,
    /// What the client asked for at first, which it checks in the Connect Response.
    pub(crate) requested: SecurityProtocol,
    /// The client waits for the early user authorisation result (MS-RDPBCGR 2.2.10.2).
    pub(crate) early: bool,
}

impl<S> Accepted<S> {
    /// The id of the token that was proved. To be used up now, before anything else.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The user name as the client sent it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Brings a connection to the point at which a person has proved a token. No target is involved.
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
    let Some(protocol) = choose(offered) else {
        leg.send(&confirm(ConnectionConfirm::Failure { code: FailureCode::HYBRID_REQUIRED_BY_SERVER })?)
            .await?;
        return Err(FrontError::NoNla);
    };
    leg.send(&chosen(protocol)?).await?;
    let stream =
        TlsAcceptor::from(config.tls.clone()).accept(leg.into_stream()?).await.map_err(FrontError::Tls)?;
    prove(Leg::new(Person::Tls(Box::new(stream))), config, tokens, (offered, protocol)).await
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
    Ok(Accepted { leg, token: proven.id, user: proven.user, requested, early })
}

/// What a connection request offers. Cookie and routing token in it are what anybody may have written: they decide nothing
/// and go nowhere.
fn offered(request: &[u8]) -> Result<SecurityProtocol, FrontError> {
    let request =
        decode::<X224<ConnectionRequest>>(request).map_err(|_| FrontError::Protocol("connection request"))?;
    Ok(request.0.protocol)
}

fn chosen(protocol: SecurityProtocol) -> Result<Vec<u8>, FrontError> {
    confirm(ConnectionConfirm::Response { flags: ResponseFlags::EXTENDED_CLIENT_DATA_SUPPORTED, protocol })
}

/// The strongest of what the client offers that proves a token; nothing less.
fn choose(offered: SecurityProtocol) -> Option<SecurityProtocol> {
    [SecurityProtocol::HYBRID_EX, SecurityProtocol::HYBRID].into_iter().find(|one| offered.contains(*one))
}

fn confirm(answer: ConnectionConfirm) -> Result<Vec<u8>, FrontError> {
    encode_vec(&X224(answer)).map_err(|_| FrontError::Protocol("connection confirm"))
}
