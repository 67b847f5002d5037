//! CredSSP (MS-CSSP 3.1.5) toward a target over SPNEGO and Kerberos (RFC 4178, RFC 4120, MS-KILE), and nothing else: where a
//! realm is configured, NTLM is never offered, never taken, and never fallen back to.
//!
//! The library computes tickets and tokens; this asks the KDC for it, within bounds, drives CredSSP, and keeps errors apart.
//! CredSSP itself is written out here rather than taken from the library, because the library's client asks for a ticket under
//! the session key of the target's own ticket (user to user), which targets of other makers do not know, takes versions of
//! CredSSP whose binding was broken (CVE-2018-0886), and prints the delegated password at debug level.
//!
//! # The secret
//! It is wiped here wherever it is copied. The library makes copies that it does not wipe: the password as text while it asks
//! the KDC and derives the key, and what it seals for the target.

mod as_rep;
mod delegation;
pub(crate) mod kdc;
mod words;

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use aws_lc_rs::{constant_time, digest, rand};
use cofferdam_vault::SecretString;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, CredentialUse, Credentials, CredentialsBuffers,
    DataRepresentation, EncryptionFlags, KerberosConfig, Negotiate, NegotiateConfig, SecurityBuffer,
    SecurityBufferRef, SecurityStatus, Sspi as _, SspiImpl, Username, credssp::TsRequest,
    generator::GeneratorState,
};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use self::kdc::Questions;
pub use self::{
    kdc::{KdcStream, Kdcs},
    words::KerberosError,
};
use crate::{
    credssp::{LIMIT, ProveError, ROUNDS, send},
    wire::{Leg, WireError},
};

/// The version of CredSSP that we speak, and the oldest that binds itself to the key by a hash with a nonce.
const VERSION: u32 = 6;
const OLDEST: u32 = 5;

/// The largest token toward a target: what Windows takes. The library adds lengths up in 16 bits, which this keeps away.
const TOKEN: usize = 48_000;

/// The head of a token that wraps a message (RFC 4121 4.2.6.2), as the library wants it apart.
const WRAP_HEAD: usize = 16;

const TO_TARGET: &[u8] = b"CredSSP Client-To-Server Binding Hash\0";
const TO_US: &[u8] = b"CredSSP Server-To-Client Binding Hash\0";

/// The realm that a target belongs to.
#[derive(Clone)]
pub struct Kerberos {
    /// Its name, in capitals as realms are written.
    pub realm: String,
    /// The name that the realm knows the target by: the ticket is for `TERMSRV/` and this.
    pub host: String,
    /// The way to its KDCs.
    pub kdcs: Arc<dyn Kdcs>,
}

impl Kerberos {
    fn service(&self) -> String {
        format!("TERMSRV/{}", self.host)
    }
}

impl fmt::Debug for Kerberos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kerberos")
            .field("realm", &self.realm)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Proves the account to a target by a ticket of its realm, bound to the key that TLS showed, and delegates it.
pub(crate) async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    public_key: &[u8],
    account: (&str, Option<&str>),
    password: &SecretString,
    realm: &Kerberos,
) -> Result<(), ProveError> {
    let mut context = Context::new(realm, account.0, password)?;
    let mut token = context.step(Vec::new()).await?;
    for _ in 0..ROUNDS {
        let established = context.established;
        let mut message = TsRequest { version: VERSION, ..TsRequest::default() };
        message.nego_tokens = Some(token).filter(|token| !token.is_empty());
        if established {
            return delegate(leg, &mut context, message, public_key, account, password).await;
        }
        send(leg, &message).await?;
        let reply = reply(leg).await?.nego_tokens.unwrap_or_default();
        token = context.step(reply).await?;
    }
    Err(ProveError::Protocol("CredSSP goes on and on"))
}

/// The rest of it once both have proved themselves: the binding to the key, both ways, then the credentials.
async fn delegate<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    context: &mut Context<'_>,
    mut message: TsRequest,
    public_key: &[u8],
    (user, domain): (&str, Option<&str>),
    password: &SecretString,
) -> Result<(), ProveError> {
    let mut nonce = [0; 32];
    rand::fill(&mut nonce).map_err(|_| ProveError::Protocol("no random numbers"))?;
    let bound = |way: &[u8]| digest::digest(&digest::SHA256, &[way, &nonce, public_key].concat());
    message.pub_key_auth = Some(context.seal(bound(TO_TARGET).as_ref())?);
    message.client_nonce = Some(nonce);
    send(leg, &message).await?;
    let theirs = reply(leg).await?.pub_key_auth.ok_or(ProveError::Protocol("no binding to its key"))?;
    let theirs = context.unseal(&theirs)?;
    if constant_time::verify_slices_are_equal(&theirs, bound(TO_US).as_ref()).is_err() {
        return Err(KerberosError::Binding.into());
    }
    let domain = domain.unwrap_or(&context.realm.realm).to_owned();
    let credentials = delegation::credentials(&domain, user, password)
        .ok_or(ProveError::Protocol("length of the secret"))?;
    let message =
        TsRequest { version: VERSION, auth_info: Some(context.seal(&credentials)?), ..TsRequest::default() };
    Ok(send(leg, &message).await?)
}

async fn reply<S: AsyncRead + AsyncWrite + Unpin>(leg: &mut Leg<S>) -> Result<TsRequest, ProveError> {
    let reply = leg.der(LIMIT).await.map_err(|error| match error {
        // FreeRDP's server answers a token that it does not know with one of the largest size.
        WireError::Malformed(_) => KerberosError::Target.into(),
        WireError::Closed => KerberosError::Closed.into(),
        WireError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => KerberosError::Closed.into(),
        WireError::Io(e) if e.kind() == io::ErrorKind::ConnectionReset => KerberosError::Closed.into(),
        other => ProveError::Wire(other),
    })?;
    let reply = contained(|| TsRequest::from_buffer(&reply))
        .and_then(Result::ok)
        .ok_or(ProveError::Protocol("CredSSP message"))?;
    if let Some(status) = reply.error_code.filter(|status| status.0 != 0) {
        return Err(ProveError::Refused(status.0));
    }
    if reply.version < OLDEST {
        return Err(KerberosError::Outdated(reply.version).into());
    }
    Ok(reply)
}

/// What the library computes. It panics on some bytes of a KDC or target, which is an error like any other here.
fn contained<T>(compute: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(compute)).ok()
}

/// Our end of SPNEGO.
struct Context<'a> {
    realm: &'a Kerberos,
    library: Negotiate,
    credentials: Option<CredentialsBuffers>,
    questions: Questions<'a>,
    established: bool,
}

impl<'a> Context<'a> {
    fn new(realm: &'a Kerberos, user: &'a str, password: &'a SecretString) -> Result<Self, ProveError> {
        let failed = |_| ProveError::Protocol("Kerberos cannot start");
        let name = "COFFERDAM".to_owned();
        // The library is told of no KDC that exists: whatever it wants to ask goes where the site says.
        let config = Box::new(KerberosConfig::new(kdc::NOWHERE, name.clone()));
        let only = Some("kerberos,!ntlm,!pku2u".to_owned());
        let mut library = Negotiate::new_client(NegotiateConfig::new(config, only, name)).map_err(failed)?;
        let username = Username::new_down_level_logon_name(user, &realm.realm)
            .map_err(|_| ProveError::Protocol("user name of the account"))?;
        let identity = AuthIdentity { username, password: password.expose().to_owned().into() };
        let credentials = library
            .acquire_credentials_handle()
            .with_credential_use(CredentialUse::Outbound)
            .with_auth_data(&Credentials::AuthIdentity(identity))
            .execute(&mut library)
            .map_err(failed)?
            .credentials_handle;
        Ok(Self {
            realm,
            library,
            credentials,
            questions: Questions::new(realm, user, password),
            established: false,
        })
    }

    /// Takes the target's token, and answers with ours. The first one takes nothing, and asks the KDC.
    async fn step(&mut self, token: Vec<u8>) -> Result<Vec<u8>, KerberosError> {
        let theirs = Choice::of(&token);
        let mut input = [SecurityBuffer::new(token, BufferType::Token)];
        let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
        let service = self.realm.service();
        let mut asked = self
            .library
            .initialize_security_context()
            .with_credentials_handle(&mut self.credentials)
            .with_context_requirements(
                ClientRequestFlags::MUTUAL_AUTH
                    | ClientRequestFlags::INTEGRITY
                    | ClientRequestFlags::CONFIDENTIALITY,
            )
            .with_target_data_representation(DataRepresentation::Native)
            .with_target_name(&service)
            .with_input(&mut input)
            .with_output(&mut output);
        // Where the KDC had its say, what cannot be used is its; else the target's.
        let asking = self.questions.asked();
        let broken = |questions: &Questions<'_>| match theirs {
            Choice::Ntlm => KerberosError::Ntlm,
            Choice::Other if questions.asked() > asking => KerberosError::Answer,
            Choice::Other => KerberosError::Target,
        };
        let mut generator = SspiImpl::initialize_security_context_impl(&mut self.library, &mut asked)
            .map_err(|_| broken(&self.questions))?;
        let mut state = contained(|| generator.start());
        let result = loop {
            match state {
                Some(GeneratorState::Suspended(request)) => {
                    let answer = self.questions.ask(&request).await?;
                    state = contained(|| generator.resume(Ok(answer)));
                }
                Some(GeneratorState::Completed(result)) => break result,
                None => return Err(broken(&self.questions)),
            }
        };
        drop(generator);
        let result = result.map_err(|_| broken(&self.questions))?;
        self.established = result.status == SecurityStatus::Ok;
        let [output] = output;
        if output.buffer.len() > TOKEN {
            return Err(KerberosError::TicketSize);
        }
        Ok(output.buffer)
    }

    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, KerberosError> {
        let mut token = [0; 1024];
        let mut data = Zeroizing::new(plain.to_vec());
        let mut buffers = [
            SecurityBufferRef::token_buf(token.as_mut_slice()),
            SecurityBufferRef::data_buf(data.as_mut_slice()),
        ];
        let library = &mut self.library;
        contained(|| library.encrypt_message(EncryptionFlags::empty(), &mut buffers))
            .and_then(Result::ok)
            .ok_or(KerberosError::Target)?;
        Ok(buffers.iter().flat_map(|buffer| buffer.data().iter().copied()).collect())
    }

    fn unseal(&mut self, sealed: &[u8]) -> Result<Vec<u8>, KerberosError> {
        let mut sealed = sealed.to_vec();
        let (head, data) = sealed.split_at_mut_checked(WRAP_HEAD).ok_or(KerberosError::Target)?;
        let mut buffers = [SecurityBufferRef::data_buf(data), SecurityBufferRef::token_buf(head)];
        let library = &mut self.library;
        contained(|| library.decrypt_message(&mut buffers))
            .and_then(Result::ok)
            .ok_or(KerberosError::Target)?;
        let [plain, _] = buffers;
        Ok(plain.data().to_vec())
    }
}

/// What a target chose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Ntlm,
    Other,
}

impl Choice {
    /// The name of NTLM among SPNEGO's mechanisms (MS-SPNG 1.9), or a message of it without SPNEGO.
    fn of(token: &[u8]) -> Self {
        const NTLM: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];
        const MESSAGE: &[u8] = b"NTLMSSP\0";
        let has = |what: &[u8]| token.windows(what.len()).any(|window| window == what);
        if has(NTLM) || has(MESSAGE) { Self::Ntlm } else { Self::Other }
    }
}

#[cfg(test)]
mod tests;
