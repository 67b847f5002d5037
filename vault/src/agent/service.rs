//! What the vault process does with a request that the table allows: no socket, no frame, one request in and one response
//! out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::PublicKey;
use russh::keys::ssh_key::LineEnding;

use super::allow::{Role, allow};
use super::harden::Hardening;
use super::limits::{Bounds, Meter};
use super::message::{MaterialForm, PublicKeys, Request, Response, Status};
use super::registry::{Claim, Entitlement, Registry};
use super::wire::{PROTOCOL_VERSION, Passing};
use crate::ca::{HostTerms, SshCa};
use crate::checkout::{ViewError, ViewWarrant};
use crate::envelope::{Envelope, Label};
use crate::lease::{Lease, Material, Vault, Warrant};
use crate::root::Root;
use crate::seal::{Context, SealError};
use crate::secret::{SecretBytes, SecretString};
use crate::signing::SigningKey;
use crate::totp::{STEP_SECONDS, check_code};
use crate::unseal::{Gate, Phase};

/// Where the time comes from (UTC microseconds).
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

const MICROSECONDS: i64 = 1_000_000;
const MAX_ID_BYTES: usize = 255;
const MAX_SIGNED_BYTES: usize = 64 * 1024;
const MAX_PRINCIPALS: usize = 8;
const MAX_HOST_CERTIFICATE_SECONDS: i64 = 48 * 3600;

/// An entry of the audit log; its number follows.
const AUDIT_ENTRY: &[u8] = b"cofferdam audit entry v1\0";
/// What else is signed. Anything that begins otherwise is not: the key is no oracle.
const SIGNED: &[&[u8]] = &[
    b"cofferdam recording checkpoint v1\0",
    b"cofferdam recording header v1\0",
    b"cofferdam evidence bundle v1\0",
];

/// The keys that are not in the keyring.
#[derive(Debug, Default)]
pub struct Keys {
    /// Signs the audit log and recordings, also while the vault is sealed.
    pub signing: Option<SigningKey>,
    /// The gateway's own host keys: host certificates are made for these and for no other.
    pub host_keys: Vec<PublicKey>,
    /// Who can open break-glass envelopes (`age1…`): not for a caller to say.
    pub envelope_recipients: Vec<String>,
}

/// Brings the root from where the configuration says: a file, a credential, a token. `passphrase` is there when a person
/// has typed one.
pub trait RootSource: Send + Sync {
    /// The root.
    ///
    /// # Errors
    /// A text that says what next, and nothing of the root or the passphrase.
    fn root(&self, passphrase: Option<&SecretString>) -> Result<Root, String>;
}

/// What the vault process asks others for.
pub struct Ports {
    /// Who is entitled to what.
    pub registry: Arc<dyn Registry>,
    /// Where the root comes from without shares.
    pub root: Option<Arc<dyn RootSource>>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// What one connection holds: its leases end with it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    leases: HashMap<u64, Lease>,
    next: u64,
}

/// See the module.
pub struct Service {
    gate: Gate,
    vault: Vault,
    keys: Keys,
    ports: Ports,
    bounds: Bounds,
    clock: Clock,
    hardening: Hardening,
    meter: Meter,
    sessions: Meter,
    codes: Meter,
    steps: Mutex<HashMap<String, u64>>,
    last_entry: Mutex<u64>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Service {
    /// Behind `gate`, with certificates by `authority` where there is one.
    #[must_use]
    pub fn new(
        gate: Gate,
        authority: Option<Arc<SshCa>>,
        keys: Keys,
        ports: Ports,
        bounds: Bounds,
        clock: Clock,
        hardening: Hardening,
    ) -> Self {
        let vault = Vault::new(gate.sealer().clone(), authority);
        Self {
            gate,
            vault,
            keys,
            ports,
            bounds,
            clock,
            hardening,
            meter: Meter::default(),
            sessions: Meter::default(),
            codes: Meter::default(),
            steps: Mutex::default(),
            last_entry: Mutex::default(),
        }
    }

    /// The gate: the process opens it itself at its start where the configuration says how.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Leases and check-outs.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Opens the gate by the configured source, as the service itself; does nothing where a person is needed.
    ///
    /// # Errors
    /// Why it stayed sealed, and what next.
    pub fn open_by_itself(&self) -> Result<(), String> {
        let source = self.ports.root.as_ref().ok_or("no source of the root is configured")?;
        let root = source.root(None)?;
        self.gate.open(&root, "the service", self.now()).map_err(|e| e.to_string())
    }

    /// Answers one request of a connection in that role.
    pub(super) fn answer(&self, role: Role, connection: &mut Connection, request: Request) -> Response {
        let open = matches!(self.gate.phase(self.now()), Phase::Open { .. });
        if !allow(role, open, self.bounds.network_may_unseal, &request) {
            return self.not_allowed(role, open, &request);
        }
        self.act(role, connection, request).unwrap_or_else(|text| {
            // It may have been sealed meanwhile.
            let sealed = text == SealError::Sealed.to_string();
            Response::Refused { sealed, text }
        })
    }

    fn not_allowed(&self, role: Role, open: bool, request: &Request) -> Response {
        if !open && allow(role, true, self.bounds.network_may_unseal, request) {
            return Response::Refused { sealed: true, text: SealError::Sealed.to_string() };
        }
        let text = match (open, request) {
            (true, Request::Share { .. } | Request::Passphrase { .. } | Request::Configured { .. }) => {
                "the vault is open already; to unseal it anew, run `cofferdam vault seal` first"
            }
            _ => "this end of the connection may not ask that",
        };
        Response::Refused { sealed: false, text: text.to_owned() }
    }

    fn act(&self, role: Role, connection: &mut Connection, request: Request) -> Result<Response, String> {
        match request {
            Request::Hello { .. } => Err("a greeting comes once".into()),
            Request::Status => Ok(Response::Status(Box::new(self.status()))),
            Request::PublicKeys => self.public_keys().map(Response::PublicKeys),
            Request::Share { code, by } => self.share(code, &by),
            Request::Passphrase { passphrase, by } => {
                let passphrase = passphrase.into_text().map_err(text)?;
                self.open(Some(&passphrase), &by)
            }
            Request::Configured { by } => self.open(None, &by),
            Request::TakeEvents => {
                let (events, lost) = self.gate.take_events();
                Ok(Response::Events { events: events.into_iter().map(Into::into).collect(), lost })
            }
            Request::Sign { message } => self.sign(&message).map(Response::Signature),
            Request::Lease(claim) => self.lease(connection, &claim),
            Request::Return { lease } => {
                let lease = connection.leases.remove(&lease).ok_or("there is no such lease")?;
                Ok(Response::Due(lease.give_back().into_iter().map(Into::into).collect()))
            }
            Request::HostCertificate { host_key, principals, seconds } => {
                self.host_certificate(&host_key, principals, seconds).map(Response::Certificate)
            }
            Request::CheckCode { person, sealed, code, last_used } => {
                self.check_code(&person, &sealed, code, last_used).map(Response::Step)
            }
            Request::SealSecret { purpose, id, secret } => {
                self.bounded("seals", self.bounds.seals_per_minute)?;
                let context = self.context(&purpose, id)?;
                let sealed = self.gate.sealer().seal(&context, &secret.into_bytes()).map_err(text)?;
                Ok(Response::Sealed(sealed))
            }
            Request::OpenSecret { id, sealed } => self.open_secret(id, &sealed).map(Response::Secret),
            Request::CheckOut { checkout_id } => self.check_out(&checkout_id),
            Request::GiveBack { checkout_id } => {
                let due = self.vault.give_back(&checkout_id).map_err(text)?;
                Ok(Response::Due(vec![due.into()]))
            }
            Request::Envelope { id, account_id, version, sealed } => {
                self.envelope(id, account_id, version, &sealed).map(Response::Envelope)
            }
            Request::Expire => {
                Ok(Response::Due(self.vault.expire(self.now()).into_iter().map(Into::into).collect()))
            }
            other => self.operate(role, other),
        }
    }

    /// The operator's part.
    fn operate(&self, role: Role, request: Request) -> Result<Response, String> {
        debug_assert_eq!(role, Role::Operator);
        match request {
            Request::Seal { by } => {
                self.gate.seal(&by, self.now()).map_err(text)?;
                Ok(Response::Done)
            }
            Request::Rekey { by } => self.gate.rekey(&by, self.now()).map(Response::Generation).map_err(text),
            Request::Retire { generation, by } => {
                self.gate.retire(generation, &by, self.now()).map_err(text)?;
                Ok(Response::Done)
            }
            Request::Refresh => self.gate.refresh().map(Response::Generation).map_err(text),
            Request::Rewrap { purpose, id, sealed } => {
                let context = self.context(&purpose, id)?;
                self.gate.sealer().rewrap(&context, &sealed).map(Response::Rewrapped).map_err(text)
            }
            Request::Held => Ok(Response::Held {
                leases: self.vault.held().into_iter().map(Into::into).collect(),
                check_outs: self.vault.checked_out().into_iter().map(Into::into).collect(),
            }),
            _ => Err("this end of the connection may not ask that".into()),
        }
    }

    fn status(&self) -> Status {
        let sealer = self.gate.sealer();
        Status {
            phase: self.gate.phase(self.now()).into(),
            vault_id: sealer.vault_id().ok().map(|id| id.to_string()),
            recipient: sealer.recipient(),
            generations: Status::generations(&sealer.generations().unwrap_or_default()),
            hardening: self.hardening.clone(),
            leases: self.vault.held().len(),
            check_outs: self.vault.checked_out().len(),
            process_id: std::process::id(),
        }
    }

    fn public_keys(&self) -> Result<PublicKeys, String> {
        let line = |key: &PublicKey| key.to_openssh().map_err(text);
        let authority = self.vault.authority();
        Ok(PublicKeys {
            signing: self.keys.signing.as_ref().map(|key| key.public_key().to_string()),
            user_authority: authority.map(|a| line(&a.user_public_key())).transpose()?,
            host_authority: authority.map(|a| line(&a.host_public_key())).transpose()?,
        })
    }

    fn share(&self, code: Passing, by: &str) -> Result<Response, String> {
        let code = code.into_text().map_err(text)?;
        let phase = self.gate.contribute(&code, by, self.now()).map_err(text)?;
        Ok(Response::Phase(phase.into()))
    }

    fn open(&self, passphrase: Option<&SecretString>, by: &str) -> Result<Response, String> {
        self.bounded("unseals", self.bounds.unseals_per_minute)?;
        let source = self.ports.root.as_ref().ok_or("this vault is opened by shares; give one")?;
        let root = source.root(passphrase).inspect_err(|why| self.gate.refused(why, by, self.now()))?;
        self.gate.open(&root, by, self.now()).map_err(text)?;
        Ok(Response::Phase(self.gate.phase(self.now()).into()))
    }

    /// Nothing but what the product signs; and an entry of the audit log never before the last one that was signed, so
    /// that a process that was taken over cannot write the log's past anew.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.keys.signing.as_ref().ok_or("this vault process has no signing key")?;
        if message.len() > MAX_SIGNED_BYTES {
            return Err("the message is too long to be signed".into());
        }
        if let Some(rest) = message.strip_prefix(AUDIT_ENTRY) {
            let (number, _) = rest.split_first_chunk::<8>().ok_or("an audit entry without a number")?;
            let number = u64::from_be_bytes(*number);
            let mut last = self.last_entry.lock().unwrap_or_else(PoisonError::into_inner);
            if number < *last {
                return Err(format!(
                    "audit entry {number} comes before entry {last}, which was signed already"
                ));
            }
            *last = number;
        } else if !SIGNED.iter().any(|prefix| message.starts_with(prefix)) {
            return Err("only audit entries and recordings are signed".into());
        }
        Ok(key.sign(message))
    }

    fn lease(&self, connection: &mut Connection, claim: &Claim) -> Result<Response, String> {
        let now = self.now();
        for id in [&claim.session_id, &claim.account_id] {
            checked_id(id)?;
        }
        self.bounded("leases", self.bounds.leases_per_minute)?;
        if self.vault.held().len() >= self.bounds.live_leases {
            return Err("as many leases are out as may be; end sessions first".into());
        }
        let found = self.ports.registry.session(claim, now).map_err(text)?;
        let longest = self.bounds.longest_entitlement_seconds.saturating_mul(MICROSECONDS);
        if found.not_after > now.saturating_add(longest) {
            return Err(format!("the entitlement of session {} has no end in sight", claim.session_id));
        }
        // Counted when everything else is in order, so that a refusal does not cost an honest session its lease.
        let once = self.bounds.leases_per_session;
        if found.not_after > now && !self.sessions.allows(&claim.session_id, once, now, found.not_after) {
            return Err(format!("session {} has had its lease already; open a new one", claim.session_id));
        }
        let sealed = found.credential.clone().into_sealed(found.sharing);
        let mut lease = self.vault.lease(&Found { claim, found: &found }, sealed, now).map_err(text)?;
        let material = form_of(lease.material().map_err(text)?)?;
        connection.next = connection.next.wrapping_add(1);
        let number = connection.next;
        let not_after = lease.not_after();
        connection.leases.insert(number, lease);
        Ok(Response::Leased { lease: number, not_after, material })
    }

    fn host_certificate(&self, key: &str, principals: Vec<String>, seconds: i64) -> Result<String, String> {
        self.bounded("certificates", self.bounds.certificates_per_minute)?;
        let authority = self.vault.authority().ok_or("this vault has no SSH authority")?;
        let key = PublicKey::from_openssh(key).map_err(text)?;
        if !self.keys.host_keys.iter().any(|own| own.key_data() == key.key_data()) {
            return Err("host certificates are made for the gateway's own host keys only".into());
        }
        if principals.len() > MAX_PRINCIPALS || seconds > MAX_HOST_CERTIFICATE_SECONDS {
            return Err("too many names, or too long a life, for one host certificate".into());
        }
        let made =
            authority.issue_host(&key, &HostTerms { principals, seconds }, self.now()).map_err(text)?;
        made.to_openssh().map_err(text)
    }

    /// The seed is opened, used and wiped here. Each step counts once in this process too, whatever the caller says was
    /// used last.
    fn check_code(
        &self,
        person: &str,
        sealed: &[u8],
        code: Passing,
        last_used: Option<u64>,
    ) -> Result<Option<u64>, String> {
        let now = self.now();
        if !self.codes.allows_within(checked_id(person)?, self.bounds.codes_per_person, 600, now) {
            return Err(format!("too many codes were tried for {person}; wait ten minutes"));
        }
        let context = self.context("totp", person.to_owned())?;
        let seed = self.gate.sealer().open(&context, sealed).map_err(text)?;
        let code = code.into_text().map_err(text)?;
        let seconds = u64::try_from(now / MICROSECONDS).unwrap_or(0);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = steps.get(person).copied().max(last_used);
        let step = check_code(&seed, &code, seconds, seen);
        if let Some(step) = step {
            // Older ones than the neighbours of the present step do not check any more.
            let oldest = (seconds / STEP_SECONDS).saturating_sub(2);
            steps.retain(|_, used| *used >= oldest);
            steps.insert(person.to_owned(), step);
        }
        Ok(step)
    }

    /// For rotation: a secret has to be known to be changed. Never one of an account that the site does not want changed.
    fn open_secret(&self, id: String, sealed: &[u8]) -> Result<Passing, String> {
        self.bounded("opens", self.bounds.opens_per_minute)?;
        self.ports.registry.rotated(checked_id(&id)?).map_err(text)?;
        let secret = self.gate.sealer().open(&Context::account(id), sealed).map_err(text)?;
        Ok(Passing::bytes(&secret))
    }

    fn check_out(&self, checkout_id: &str) -> Result<Response, String> {
        let now = self.now();
        self.bounded("leases", self.bounds.leases_per_minute)?;
        let (terms, sealed) = self.ports.registry.view(checked_id(checkout_id)?, now).map_err(text)?;
        if terms.checkout_id != checkout_id {
            return Err("the registry answered for another check-out".into());
        }
        if terms.not_after > now && !self.sessions.allows(checkout_id, 1, now, terms.not_after) {
            return Err(format!("check-out {checkout_id} was shown already; ask for a new one"));
        }
        let warrant = ViewWarrant::new(terms, now).map_err(text)?;
        let secret = match self.vault.check_out(&warrant, &sealed, now) {
            // The ledger was brought to the store's state in the moment before: shown it was not, as counted above.
            Err(ViewError::Twice(id)) => {
                drop(self.vault.give_back(&id).map_err(text)?);
                self.vault.check_out(&warrant, &sealed, now).map_err(text)?
            }
            other => other.map_err(text)?,
        };
        Ok(Response::Secret(Passing::bytes(&secret)))
    }

    fn envelope(&self, id: String, account: String, version: u64, sealed: &[u8]) -> Result<String, String> {
        self.bounded("envelopes", self.bounds.leases_per_minute)?;
        let secret =
            self.gate.sealer().open(&self.context("account", account.clone())?, sealed).map_err(text)?;
        let recipients = self.keys.envelope_recipients.clone();
        let label = Label { id, account, made_at: self.now(), version, recipients };
        Envelope::seal(label, &secret).and_then(|e| e.to_text()).map_err(text)
    }

    fn context(&self, purpose: &str, id: String) -> Result<Context, String> {
        let known = self.bounds.purposes.iter().find(|known| **known == purpose);
        let purpose = known.ok_or("nothing is sealed for that purpose")?;
        checked_id(&id)?;
        Ok(Context::new(purpose, id))
    }

    fn bounded(&self, what: &'static str, per_minute: u32) -> Result<(), String> {
        match self.meter.allows_within(what, per_minute, 60, self.now()) {
            true => Ok(()),
            false => Err(format!("more than {per_minute} {what} in a minute; wait, and look for who asks")),
        }
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }
}

pub(super) fn greeting(request: &Request) -> Option<Response> {
    match request {
        Request::Hello { version: PROTOCOL_VERSION } => Some(Response::Welcome { version: PROTOCOL_VERSION }),
        _ => None,
    }
}

/// What the registry found, as the vault's warrant.
struct Found<'a> {
    claim: &'a Claim,
    found: &'a Entitlement,
}

impl Warrant for Found<'_> {
    fn account_id(&self) -> &str {
        &self.claim.account_id
    }
    fn session_id(&self) -> &str {
        &self.claim.session_id
    }
    fn user_name(&self) -> &str {
        &self.found.user_name
    }
    fn login_name(&self) -> &str {
        &self.found.login_name
    }
    fn not_after(&self) -> i64 {
        self.found.not_after
    }
}

fn form_of(material: Material) -> Result<MaterialForm, String> {
    let pem = |key: &russh::keys::PrivateKey| {
        let pem = key.to_openssh(LineEnding::LF).map_err(text)?;
        Ok::<_, String>(Passing::bytes(&SecretBytes::new(pem.as_bytes().to_vec())))
    };
    Ok(match material {
        Material::Password(password) => MaterialForm::Password(Passing::text(&password)),
        Material::PrivateKey(key) => MaterialForm::PrivateKey(pem(&key)?),
        Material::Certificate { key, certificate } => MaterialForm::Certificate {
            key: pem(&key)?,
            certificate: certificate.to_openssh().map_err(text)?,
        },
    })
}

fn checked_id(id: &str) -> Result<&str, String> {
    let fits = !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control);
    if fits { Ok(id) } else { Err("an id is empty, too long, or has control characters".into()) }
}

fn text(e: impl fmt::Display) -> String {
    e.to_string()
}
