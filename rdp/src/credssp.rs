//! CredSSP (MS-CSSP 3.1.5), both ends, over NTLM. The library computes; this drives it, bounds it and keeps its errors apart.
//! Over Kerberos, toward a target, it is in `kerberos`.
//!
//! The library logs whole messages at debug level (log targets `sspi`, and `ironrdp_*` where its sequences are used): what
//! configures logging has to keep those targets at `warn`, whatever an operator asks for.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_vault::SecretString;
use sspi::{
    AuthIdentity, Credentials, Username,
    credssp::{
        ClientMode, ClientState, CredSspClient, CredSspMode, CredSspServer, CredentialsProxy, NStatusCode,
        ServerMode, ServerState, TsRequest,
    },
    generator::GeneratorState,
    ntlm::NtlmConfig,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    front::{Candidate, Tokens},
    kerberos::KerberosError,
    wire::{Leg, Reader, WireError, u16_at, u32_at},
};

/// The largest message. NTLM's are some hundred bytes; the library adds lengths up in 16 bits, which this keeps far away.
pub(crate) const LIMIT: usize = 8 * 1024;

/// Most messages of one log-in: negotiate, authenticate, key, credentials, and as many to spare.
pub(crate) const ROUNDS: usize = 8;

/// Most one-time tokens that one user name may have open.
const MAX_CANDIDATES: usize = 16;

/// How a log-in toward us went wrong.
#[derive(Debug)]
pub(crate) enum AcceptError {
    Wire(WireError),
    /// No token fits; the client was told so.
    Refused {
        user: Option<String>,
    },
    /// It broke the protocol.
    Protocol(&'static str),
}

impl From<WireError> for AcceptError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Who logged in.
pub(crate) struct Proven {
    pub(crate) user: String,
    pub(crate) id: String,
}

/// The person's side: asks `tokens` for what may be proved, and says which was.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    public_key: &[u8],
    tokens: &dyn Tokens,
) -> Result<Proven, AcceptError> {
    let offered = Offered::default();
    // The name is what an NTLM challenge calls this server; it is no secret and no address.
    let mode = ServerMode::Ntlm(NtlmConfig::new("COFFERDAM".to_owned()));
    let mut server = CredSspServer::new(public_key.to_vec(), offered.clone(), mode)
        .map_err(|_| AcceptError::Protocol("CredSSP cannot start"))?;
    let mut user = None;
    for _ in 0..ROUNDS {
        let message = leg.der(LIMIT).await?;
        let message =
            TsRequest::from_buffer(&message).map_err(|_| AcceptError::Protocol("CredSSP message"))?;
        if let Some(name) = message.nego_tokens.as_deref().and_then(ntlm_user) {
            offered.set(tokens.candidates(&name).await);
            user = Some(name);
        }
        let state = run(server.process(message).start());
        match state {
            Some(Ok(ServerState::ReplyNeeded(reply))) => send(leg, &reply).await?,
            Some(Ok(ServerState::Finished(identity))) => {
                let proven = user.take().and_then(|user| {
                    let id = offered.holder(identity.password.as_ref())?;
                    Some(Proven { user, id })
                });
                return proven.ok_or(AcceptError::Refused { user: None });
            }
            Some(Err(_)) | None => {
                // One answer for every fault: who guesses learns nothing from it.
                let reply =
                    TsRequest { error_code: Some(NStatusCode::LOGON_FAILURE), ..TsRequest::default() };
                send(leg, &reply).await?;
                return Err(AcceptError::Refused { user });
            }
        }
    }
    Err(AcceptError::Protocol("CredSSP goes on and on"))
}

/// How our log-in at a target went wrong.
#[derive(Debug)]
pub(crate) enum ProveError {
    Wire(WireError),
    /// The target refused the account, with the status that it gave.
    Refused(u32),
    /// The target closed the connection once it had the proof of the password.
    Closed,
    Protocol(&'static str),
    /// Where Kerberos is to be used.
    Kerberos(KerberosError),
}

impl From<KerberosError> for ProveError {
    fn from(error: KerberosError) -> Self {
        Self::Kerberos(error)
    }
}

impl From<WireError> for ProveError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Our side toward a target: proves the account, bound to the key that TLS showed, and delegates it.
pub(crate) async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    public_key: &[u8],
    account: (&str, Option<&str>),
    password: &SecretString,
) -> Result<(), ProveError> {
    let username =
        Username::new(account.0, account.1).map_err(|_| ProveError::Protocol("user name of the account"))?;
    let identity = AuthIdentity { username, password: password.expose().to_owned().into() };
    let mut client = CredSspClient::new(
        public_key.to_vec(),
        Credentials::AuthIdentity(identity),
        CredSspMode::WithCredentials,
        ClientMode::Ntlm(NtlmConfig::new("COFFERDAM".to_owned())),
        "TERMSRV/target".to_owned(),
    )
    .map_err(|_| ProveError::Protocol("CredSSP cannot start"))?;
    let mut message = TsRequest::default();
    for round in 0..ROUNDS {
        let state = run(client.process(message).start());
        match state {
            Some(Ok(ClientState::ReplyNeeded(reply))) => send(leg, &reply).await?,
            Some(Ok(ClientState::FinalMessage(reply))) => return Ok(send(leg, &reply).await?),
            Some(Err(error)) => {
                return Err(error
                    .nstatus
                    .map_or(ProveError::Protocol("CredSSP"), |status| ProveError::Refused(status.0)));
            }
            None => return Err(ProveError::Protocol("CredSSP asks for Kerberos")),
        }
        let reply = match leg.der(LIMIT).await {
            // It had what proves the password by then.
            Err(WireError::Closed) if round > 0 => return Err(ProveError::Closed),
            reply => reply?,
        };
        message = TsRequest::from_buffer(&reply).map_err(|_| ProveError::Protocol("CredSSP message"))?;
    }
    Err(ProveError::Protocol("CredSSP goes on and on"))
}

/// What the library came to. `None` when it wants to ask the network, which NTLM never needs.
fn run<Y, T>(state: GeneratorState<Y, T>) -> Option<T> {
    match state {
        GeneratorState::Completed(result) => Some(result),
        GeneratorState::Suspended(_) => None,
    }
}

pub(crate) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    message: &TsRequest,
) -> Result<(), WireError> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    message.encode_ts_request(&mut *bytes).map_err(|_| WireError::Malformed("CredSSP reply"))?;
    leg.send(&bytes).await
}

/// The user name in an NTLM AUTHENTICATE message (MS-NLMP 2.2.1.3), also inside SPNEGO. Only used to look tokens up: what
/// proves it is the library's check of the same message.
pub(crate) fn ntlm_user(token: &[u8]) -> Option<String> {
    const SIGNATURE: &[u8] = b"NTLMSSP\0\x03\0\0\0";
    let at = token.windows(SIGNATURE.len()).position(|window| window == SIGNATURE)?;
    let message = token.get(at..)?;
    let (len, offset) = (u16_at(message, 36)?, u32_at(message, 40)?);
    let unicode = u32_at(message, 60)? & 1 != 0;
    let mut bytes = Reader(message.get(usize::try_from(offset).ok()?..)?);
    let name = bytes.take(len.into())?;
    if unicode { utf16(name) } else { String::from_utf8(name.to_vec()).ok() }
}

/// UTF-16, little-endian. It may be a secret: the text grows in one place, and none of it is left where it is no text.
pub(crate) fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|pair| {
        u16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0)])
    });
    let mut text = zeroize::Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for read in char::decode_utf16(units) {
        text.push(read.ok()?);
    }
    Some(std::mem::take(&mut *text))
}

/// The tokens that the user may prove, between us and the library.
#[derive(Debug, Clone, Default)]
struct Offered(Arc<Mutex<Vec<Candidate>>>);

impl Offered {
    fn set(&self, mut candidates: Vec<Candidate>) {
        candidates.truncate(MAX_CANDIDATES);
        // An empty token would be proved by anybody.
        candidates.retain(|candidate| !candidate.password.expose().is_empty());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = candidates;
    }

    /// Whose token the client delegated. It was proved to own one by then; a client that proves one and delegates another
    /// (or none: restricted administration) is refused.
    fn holder(&self, password: &str) -> Option<String> {
        let password = SecretString::from(password);
        let candidates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        candidates
            .iter()
            .find(|candidate| candidate.password == password)
            .map(|candidate| candidate.id.clone())
    }
}

impl CredentialsProxy for Offered {
    type AuthenticationData = AuthIdentity;

    fn auth_data_by_user(&mut self, username: &Username) -> io::Result<AuthIdentity> {
        self.auth_data_candidates_by_user(username)?.pop().ok_or_else(|| io::Error::other("no token"))
    }

    fn auth_data_candidates_by_user(&mut self, username: &Username) -> io::Result<Vec<AuthIdentity>> {
        let candidates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(candidates
            .iter()
            .map(|candidate| AuthIdentity {
                username: username.clone(),
                password: candidate.password.expose().to_owned().into(),
            })
            .collect())
    }

    fn auth_data(&mut self) -> io::Result<Vec<AuthIdentity>> {
        Ok(Vec::new())
    }
}
