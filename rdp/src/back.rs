//! Toward the target: its pinned key, then the secret. Nothing of MCS is sent yet.

use std::fmt;

use cofferdam_vault::SecretString;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    nego::{ConnectionConfirm, ConnectionRequest, FailureCode, RequestFlags, SecurityProtocol},
    x224::X224,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::{
    credssp::{self, ProveError},
    kerberos::{self, Kerberos, KerberosError},
    tls::{self, Pin, TlsError},
    wire::{Leg, WireError},
};

/// The longest connection confirm.
const CONFIRM: usize = 4 + 1 + 255;

/// How a target takes its log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Network level authentication: CredSSP before anything else. Windows.
    Nla,
    /// TLS, and the log-in in the Client Info PDU. xrdp.
    TlsLogin,
}

impl Security {
    fn wanted(self) -> &'static str {
        match self {
            Self::Nla => "NLA; if it is meant to be so, set the asset to TLS",
            Self::TlsLogin => "TLS without NLA; set the asset to NLA",
        }
    }
}

/// A target and the account on it.
pub struct BackConfig {
    /// The target's key.
    pub pin: Pin,
    /// How it takes the log-in. Another one is refused, a weaker one above all.
    pub security: Security,
    /// The account.
    pub user: String,
    /// Its domain.
    pub domain: Option<String>,
    /// Its secret.
    pub password: SecretString,
    /// With [`Security::Nla`]: the realm whose ticket proves the account. NTLM is then never used.
    pub kerberos: Option<Kerberos>,
}

impl fmt::Debug for BackConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackConfig").field("pin", &self.pin).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub enum BackError {
    /// It offers standard RDP security only, which protects nothing.
    #[error("the target offers standard RDP security only; enable TLS or NLA there")]
    StandardSecurity,
    /// It chose something else than what the asset says.
    #[error("the target does not offer {}", .0.wanted())]
    OtherSecurity(Security),
    /// It refused the negotiation.
    #[error("the target refused the connection: {0}")]
    Negotiation(FailureCode),
    /// It showed another key than the pinned one. No secret was sent.
    #[error("the target showed another key, {0}; if it was renewed, pin the new one")]
    Key(Pin),
    /// TLS failed.
    #[error("no TLS with the target: {0}")]
    Tls(String),
    /// It refused the account.
    #[error("the target refused the account: {0}")]
    LogOn(LogOn),
    /// There is no log-in by Kerberos, and no other one where that is to be used.
    #[error("{0}")]
    Kerberos(KerberosError),
    /// It broke the protocol.
    #[error("the target broke the protocol: {0}")]
    Protocol(&'static str),
    /// The connection.
    #[error("target: {0}")]
    Wire(#[from] WireError),
}

/// A target's reason to refuse an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogOn {
    /// User name or password are wrong.
    #[error("user name or password are wrong; rotate or set the secret")]
    Wrong,
    /// The password is too old.
    #[error("the password has expired; rotate it")]
    Expired,
    /// The account is locked.
    #[error("the account is locked")]
    Locked,
    /// The account is disabled.
    #[error("the account is disabled")]
    Disabled,
    /// The account may not log on this way, from here, or now.
    #[error("the account may not log on to this machine by remote desktop at this time")]
    NotAllowed,
    /// It closed the connection once it had the proof of the password, and said nothing.
    #[error("it closed the connection in the log-in, as some do when user name or password are wrong")]
    Unsaid,
    /// Another status of Windows.
    #[error("status {0:#010x}")]
    Other(u32),
}

impl LogOn {
    fn of(status: u32) -> Self {
        match status {
            0xc000_006d | 0xc000_006a | 0xc000_0064 => Self::Wrong,
            0xc000_0071 | 0xc000_0224 => Self::Expired,
            0xc000_0234 => Self::Locked,
            0xc000_0072 => Self::Disabled,
            0xc000_006e | 0xc000_006f | 0xc000_0070 | 0xc000_015b => Self::NotAllowed,
            other => Self::Other(other),
        }
    }
}

impl From<ProveError> for BackError {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Wire(error) => Self::Wire(error),
            ProveError::Closed => Self::LogOn(LogOn::Unsaid),
            ProveError::Refused(status) => Self::LogOn(LogOn::of(status)),
            ProveError::Protocol(what) => Self::Protocol(what),
            ProveError::Kerberos(error) => Self::Kerberos(error),
        }
    }
}

/// A target that is reached and, with NLA, has taken the account.
#[derive(Debug)]
pub struct Target<S> {
    pub(crate) leg: Leg<TlsStream<S>>,
    pub(crate) selected: SecurityProtocol,
    pub(crate) account: BackConfig,
}

/// Connects to a target over `stream`: own connection request, TLS with the pinned key, then the account.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: BackConfig,
) -> Result<Target<S>, BackError> {
    // Hybrid clients offer TLS as well (MS-RDPBCGR 2.2.1.1.1); that a target then takes it is refused below.
    let offer = match config.security {
        Security::Nla => SecurityProtocol::SSL | SecurityProtocol::HYBRID | SecurityProtocol::HYBRID_EX,
        Security::TlsLogin => SecurityProtocol::SSL,
    };
    let (stream, selected) = negotiate(stream, offer).await?;
    let hybrid = SecurityProtocol::HYBRID | SecurityProtocol::HYBRID_EX;
    let fits = match config.security {
        Security::Nla => hybrid.contains(selected),
        Security::TlsLogin => selected == SecurityProtocol::SSL,
    };
    if !fits {
        return Err(BackError::OtherSecurity(config.security));
    }
    let (stream, shown) = tls::connect(stream, Some(config.pin)).await.map_err(BackError::from)?;
    let mut leg = Leg::new(stream);
    if config.security == Security::Nla {
        let account = (config.user.as_str(), config.domain.as_deref());
        match &config.kerberos {
            None => credssp::prove(&mut leg, &shown.public_key, account, &config.password).await?,
            Some(realm) => {
                kerberos::prove(&mut leg, &shown.public_key, account, &config.password, realm).await?;
            }
        }
        if selected == SecurityProtocol::HYBRID_EX && leg.word().await? != 0 {
            return Err(BackError::LogOn(LogOn::NotAllowed));
        }
    }
    Ok(Target { leg, selected, account: config })
}

/// The key that a target shows, for an administrator to compare and pin. Nothing is sent to it but the request for TLS.
pub async fn learn_key<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<Pin, BackError> {
    let offer = SecurityProtocol::SSL | SecurityProtocol::HYBRID | SecurityProtocol::HYBRID_EX;
    let (stream, _) = negotiate(stream, offer).await?;
    Ok(tls::connect(stream, None).await.map_err(BackError::from)?.1.pin)
}

impl From<TlsError> for BackError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Key(pin) => Self::Key(pin),
            TlsError::Handshake(what) => Self::Tls(what),
        }
    }
}

async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    offer: SecurityProtocol,
) -> Result<(S, SecurityProtocol), BackError> {
    let request = ConnectionRequest {
        nego_data: None,
        flags: RequestFlags::empty(),
        protocol: offer,
        correlation_info: None,
    };
    let request = encode_vec(&X224(request)).map_err(|_| BackError::Protocol("connection request"))?;
    let mut leg = Leg::new(stream);
    leg.send(&request).await?;
    let answer = leg.pdu(CONFIRM).await?;
    let answer = decode::<X224<ConnectionConfirm>>(&answer.bytes)
        .map_err(|_| BackError::Protocol("connection confirm"))?
        .0;
    match answer {
        ConnectionConfirm::Failure { code: FailureCode::SSL_NOT_ALLOWED_BY_SERVER } => {
            Err(BackError::StandardSecurity)
        }
        ConnectionConfirm::Failure { code } => Err(BackError::Negotiation(code)),
        ConnectionConfirm::Response { protocol, .. } if protocol.is_standard_rdp_security() => {
            Err(BackError::StandardSecurity)
        }
        ConnectionConfirm::Response { protocol, .. } if !offer.contains(protocol) => {
            Err(BackError::Protocol("a security protocol that was not offered"))
        }
        ConnectionConfirm::Response { protocol, .. } => Ok((leg.into_stream()?, protocol)),
    }
}
