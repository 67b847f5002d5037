//! The other end: what the network-facing process, and the command line, call.
//!
//! One request and one response at a time. A connection that failed once stays failed: half an answer must not become the
//! answer to the next question.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::{Certificate, PrivateKey, PublicKey};

use super::message::{MaterialForm, PublicKeys, Request, Response, Status};
use super::registry::Claim;
use super::wire::{Frame, PROTOCOL_VERSION, Passing, WireError};
use crate::checkout::{HeldCheckOut, RotationDue};
use crate::lease::Material;
use crate::ledger::HeldLease;
use crate::seal::{Context, KeyProcess, SealError};
use crate::secret::{SecretBytes, SecretString};
use crate::unseal::{GateEvent, Phase};

/// How long an answer may take. Unsealing by passphrase takes a second or two, a slow token some more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The process has gone, or does not answer.
    #[error(
        "the vault process does not answer ({0}); the gateway has to be restarted, and the vault unsealed again"
    )]
    Gone(String),
    /// Nobody has unsealed the vault.
    #[error("{0}")]
    Sealed(String),
    /// It said no, and why.
    #[error("{0}")]
    Refused(String),
    /// It answered something else than was asked.
    #[error(
        "the vault process answered something else than was asked; both have to be the same version of the program"
    )]
    Protocol,
}

struct Link {
    stream: UnixStream,
    incoming: Frame,
    outgoing: Frame,
}

/// See the module. Calls wait; an asynchronous caller puts them on a thread that may.
pub struct Client(Mutex<Option<Link>>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Greets over a socket that is there already ([`super::spawn`]).
    ///
    /// # Errors
    /// [`ClientError::Gone`], [`ClientError::Protocol`].
    pub fn over(stream: UnixStream) -> Result<Self, ClientError> {
        let gone = |e: std::io::Error| ClientError::Gone(e.to_string());
        stream.set_read_timeout(Some(PATIENCE)).map_err(gone)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(gone)?;
        let client = Self(Mutex::new(Some(Link { stream, incoming: Frame::new(), outgoing: Frame::new() })));
        match client.ask(&Request::Hello { version: PROTOCOL_VERSION })? {
            Response::Welcome { version: PROTOCOL_VERSION } => Ok(client),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Connects to the operators' socket.
    ///
    /// # Errors
    /// [`ClientError::Gone`] when nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(path).map_err(|e| ClientError::Gone(format!("{}: {e}", path.display())))?;
        Self::over(stream)
    }

    /// Where the vault is, and what protects it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status)? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }

    /// The public halves of its keys.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn public_keys(&self) -> Result<PublicKeys, ClientError> {
        match self.ask(&Request::PublicKeys)? {
            Response::PublicKeys(keys) => Ok(keys),
            other => Err(unexpected(other)),
        }
    }

    /// Gives a share.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what is wrong with it.
    pub fn give_share(&self, code: &SecretString, by: &str) -> Result<Phase, ClientError> {
        self.phase(&Request::Share { code: Passing::text(code), by: by.to_owned() })
    }

    /// Unseals with a passphrase.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it does not open.
    pub fn give_passphrase(&self, passphrase: &SecretString, by: &str) -> Result<Phase, ClientError> {
        self.phase(&Request::Passphrase { passphrase: Passing::text(passphrase), by: by.to_owned() })
    }

    /// Unseals by the configured source: a file, a credential, a token.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what is wrong with it.
    pub fn unseal_as_configured(&self, by: &str) -> Result<Phase, ClientError> {
        self.phase(&Request::Configured { by: by.to_owned() })
    }

    /// What happened at the gate since the last call, for the audit log, and how many refused attempts were not kept.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn take_events(&self) -> Result<(Vec<GateEvent>, u64), ClientError> {
        match self.ask(&Request::TakeEvents)? {
            Response::Events { events, lost } => Ok((events.into_iter().map(Into::into).collect(), lost)),
            other => Err(unexpected(other)),
        }
    }

    /// Signs an entry of the audit log, or a part of a recording; 64 bytes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for anything else, and for an entry from before the last one.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ClientError> {
        match self.ask(&Request::Sign { message: message.to_vec() })? {
            Response::Signature(signature) => Ok(signature),
            other => Err(unexpected(other)),
        }
    }

    /// Checks out what a session logs in with.
    ///
    /// # Errors
    /// [`ClientError::Sealed`]; [`ClientError::Refused`] with a text for the operator's log.
    pub fn lease(self: &Arc<Self>, claim: Claim) -> Result<RemoteLease, ClientError> {
        let (account_id, session_id) = (claim.account_id.clone(), claim.session_id.clone());
        match self.ask(&Request::Lease(claim))? {
            Response::Leased { lease, not_after, material } => {
                // Made first: if the material is of no use, dropping this gives the lease back.
                let mut made = RemoteLease {
                    client: Arc::clone(self),
                    lease: Some(lease),
                    material: None,
                    not_after,
                    account_id,
                    session_id,
                };
                made.material = Some(material_of(material)?);
                Ok(made)
            }
            other => Err(unexpected(other)),
        }
    }

    /// A certificate for one of the gateway's own host keys, OpenSSH one-line form.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn host_certificate(
        &self,
        host_key: &PublicKey,
        principals: Vec<String>,
        seconds: i64,
    ) -> Result<Certificate, ClientError> {
        let host_key = host_key.to_openssh().map_err(|_| ClientError::Protocol)?;
        match self.ask(&Request::HostCertificate { host_key, principals, seconds })? {
            Response::Certificate(line) => {
                Certificate::from_openssh(&line).map_err(|_| ClientError::Protocol)
            }
            other => Err(unexpected(other)),
        }
    }

    /// The step whose code this is, if it is one; the seed stays in the vault process.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn check_code(
        &self,
        person: &str,
        sealed: &[u8],
        code: &SecretString,
        last_used: Option<u64>,
    ) -> Result<Option<u64>, ClientError> {
        let (person, sealed) = (person.to_owned(), sealed.to_vec());
        match self.ask(&Request::CheckCode { person, sealed, code: Passing::text(code), last_used })? {
            Response::Step(step) => Ok(step),
            other => Err(unexpected(other)),
        }
    }

    /// Seals a secret for the store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn seal_secret(&self, context: &Context, secret: &SecretBytes) -> Result<Vec<u8>, ClientError> {
        let (purpose, id) = (context.purpose().to_owned(), context.id().to_owned());
        match self.ask(&Request::SealSecret { purpose, id, secret: Passing::bytes(secret) })? {
            Response::Sealed(sealed) => Ok(sealed),
            other => Err(unexpected(other)),
        }
    }

    /// A sealed secret's content, for changing it on its target.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an account that the site does not want changed, and for everybody but the process that
    /// changes secrets.
    pub fn open_secret(&self, account_id: &str, sealed: &[u8]) -> Result<SecretBytes, ClientError> {
        let (id, sealed) = (account_id.to_owned(), sealed.to_vec());
        match self.ask(&Request::OpenSecret { id, sealed })? {
            Response::Secret(secret) => Ok(secret.into_bytes()),
            other => Err(unexpected(other)),
        }
    }

    /// Shows a secret to a person, once, for a check-out that the registry knows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn check_out(&self, checkout_id: &str) -> Result<SecretBytes, ClientError> {
        match self.ask(&Request::CheckOut { checkout_id: checkout_id.to_owned() })? {
            Response::Secret(secret) => Ok(secret.into_bytes()),
            other => Err(unexpected(other)),
        }
    }

    /// Returns a check-out.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is no such check-out.
    pub fn give_back(&self, checkout_id: &str) -> Result<Vec<RotationDue>, ClientError> {
        self.due(&Request::GiveBack { checkout_id: checkout_id.to_owned() })
    }

    /// Ends the check-outs whose end has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn expire(&self) -> Result<Vec<RotationDue>, ClientError> {
        self.due(&Request::Expire)
    }

    /// Makes a break-glass envelope of a sealed secret, for the recipients that the vault process knows; its text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn envelope(
        &self,
        id: &str,
        account_id: &str,
        version: u64,
        sealed: &[u8],
    ) -> Result<String, ClientError> {
        let (id, account_id, sealed) = (id.to_owned(), account_id.to_owned(), sealed.to_vec());
        match self.ask(&Request::Envelope { id, account_id, version, sealed })? {
            Response::Envelope(text) => Ok(text),
            other => Err(unexpected(other)),
        }
    }

    /// Seals the vault.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn seal_vault(&self, by: &str) -> Result<(), ClientError> {
        self.done(&Request::Seal { by: by.to_owned() })
    }

    /// Makes a new generation; answers its number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rekey(&self, by: &str) -> Result<u32, ClientError> {
        self.generation(&Request::Rekey { by: by.to_owned() })
    }

    /// Takes a generation out of the keyring.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn retire(&self, generation: u32, by: &str) -> Result<(), ClientError> {
        self.done(&Request::Retire { generation, by: by.to_owned() })
    }

    /// Reads the keyring anew; answers the generation that seals now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn refresh(&self) -> Result<u32, ClientError> {
        self.generation(&Request::Refresh)
    }

    /// The same secret with its data key wrapped to the newest generation; none when it is already.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rewrap(&self, context: &Context, sealed: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        let (purpose, id) = (context.purpose().to_owned(), context.id().to_owned());
        match self.ask(&Request::Rewrap { purpose, id, sealed: sealed.to_vec() })? {
            Response::Rewrapped(sealed) => Ok(sealed),
            other => Err(unexpected(other)),
        }
    }

    /// What is out: to sessions, and to people.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn held(&self) -> Result<(Vec<HeldLease>, Vec<HeldCheckOut>), ClientError> {
        match self.ask(&Request::Held)? {
            Response::Held { leases, check_outs } => Ok((
                leases.into_iter().map(Into::into).collect(),
                check_outs.into_iter().map(Into::into).collect(),
            )),
            other => Err(unexpected(other)),
        }
    }

    fn phase(&self, request: &Request) -> Result<Phase, ClientError> {
        match self.ask(request)? {
            Response::Phase(phase) => Ok(phase.into()),
            other => Err(unexpected(other)),
        }
    }

    fn due(&self, request: &Request) -> Result<Vec<RotationDue>, ClientError> {
        match self.ask(request)? {
            Response::Due(due) => Ok(due.into_iter().map(Into::into).collect()),
            other => Err(unexpected(other)),
        }
    }

    fn generation(&self, request: &Request) -> Result<u32, ClientError> {
        match self.ask(request)? {
            Response::Generation(number) => Ok(number),
            other => Err(unexpected(other)),
        }
    }

    fn done(&self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Response::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || ClientError::Gone("the connection has failed before".into());
        let Link { stream, incoming, outgoing } = link.as_mut().ok_or_else(gone)?;
        let answered = match outgoing.write(stream, request) {
            // Nothing was sent: the connection is as good as before.
            Err(e @ WireError::DoesNotFit) => return Err(ClientError::Refused(e.to_string())),
            Err(e) => Err(e),
            Ok(()) => incoming.read::<Response>(stream).and_then(|r| r.ok_or(WireError::Closed)),
        };
        answered.map_err(|e| {
            *link = None;
            ClientError::Gone(e.to_string())
        })
    }
}

impl KeyProcess for Client {
    fn seal(&self, context: &Context, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        self.seal_secret(context, secret).map_err(not_done)
    }

    fn open(&self, context: &Context, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        if context.purpose() != Context::account("").purpose() {
            return Err(SealError::Process(format!("{context} is opened by the vault process alone")));
        }
        self.open_secret(context.id(), sealed).map_err(not_done)
    }

    fn recipient(&self) -> String {
        self.status().map(|status| status.recipient).unwrap_or_default()
    }
}

fn not_done(e: ClientError) -> SealError {
    match e {
        ClientError::Sealed(_) => SealError::Sealed,
        other => SealError::Process(other.to_string()),
    }
}

fn unexpected(response: Response) -> ClientError {
    match response {
        Response::Refused { sealed: true, text } => ClientError::Sealed(text),
        Response::Refused { sealed: false, text } => ClientError::Refused(text),
        _ => ClientError::Protocol,
    }
}

fn material_of(form: MaterialForm) -> Result<Material, ClientError> {
    let key = |pem: Passing| {
        let pem = pem.into_text().map_err(|_| ClientError::Protocol)?;
        PrivateKey::from_openssh(pem.expose()).map(Box::new).map_err(|_| ClientError::Protocol)
    };
    Ok(match form {
        MaterialForm::Password(password) => {
            Material::Password(password.into_text().map_err(|_| ClientError::Protocol)?)
        }
        MaterialForm::PrivateKey(pem) => Material::PrivateKey(key(pem)?),
        MaterialForm::Certificate { key: pem, certificate } => Material::Certificate {
            key: key(pem)?,
            certificate: Certificate::from_openssh(&certificate)
                .map(Box::new)
                .map_err(|_| ClientError::Protocol)?,
        },
    })
}

/// A lease from the vault process. Dropping it gives it back, and loses what is due then: end it by
/// [`give_back`](Self::give_back).
#[derive(Debug)]
#[must_use = "a lease that is dropped has been returned"]
pub struct RemoteLease {
    client: Arc<Client>,
    lease: Option<u64>,
    material: Option<Material>,
    not_after: i64,
    account_id: String,
    session_id: String,
}

impl RemoteLease {
    /// Hands out the secret, once.
    pub fn material(&mut self) -> Option<Material> {
        self.material.take()
    }

    /// The account whose secret this is.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The session that has it.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// When the permission behind it ends, in UTC microseconds.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Returns it, and says whether the account's secret is now due to be changed.
    ///
    /// # Errors
    /// [`ClientError::Gone`]: the vault process has ended, and with it the lease. What the session used is due all the
    /// same.
    pub fn give_back(mut self) -> Result<Option<RotationDue>, ClientError> {
        let Some(lease) = self.lease.take() else { return Ok(None) };
        Ok(self.client.due(&Request::Return { lease })?.into_iter().next())
    }
}

impl Drop for RemoteLease {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Nobody is left to be told; the vault process gives it back itself when the connection ends.
            self.client.due(&Request::Return { lease }).map(drop).unwrap_or_default();
        }
    }
}
