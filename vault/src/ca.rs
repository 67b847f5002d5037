//! The built-in SSH authority: user certificates that live for one session, and host certificates for the
//! gateway itself (OpenSSH PROTOCOL.certkeys).

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::authority::{AuthorityKey, Purpose, authority_id};
use crate::entropy::{self, Entropy, EntropyError};
use crate::keyfile::{self, KeyFileError};
use crate::lease::Warrant;
use crate::secret::SecretBytes;

/// The longest life of a user certificate, in seconds, however late its warrant ends.
pub const MAX_CERTIFICATE_SECONDS: i64 = 24 * 60 * 60;

/// How far back a certificate starts, for targets whose clock is behind, in seconds.
const BACKDATE_SECONDS: i64 = 60;
/// sshd writes key id and principals to its log in whole; a bound keeps the line readable.
const MAX_NAME_BYTES: usize = 255;
const NONCE_BYTES: usize = 32;
const MICROSECONDS: i64 = 1_000_000;

/// Why a certificate could not be made, or the authority not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key file itself is at fault.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file holds no private key in the OpenSSH form.
    #[error("{path} holds no OpenSSH private key; restore the authority's key from a backup")]
    NotAKey {
        /// The file, as given.
        path: String,
    },
    /// The machine's random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The warrant or the life asked for ends before a certificate could begin.
    #[error("no certificate is made for {subject}: its end has come; ask for a new window")]
    Ended {
        /// Who or what it was for.
        subject: String,
    },
    /// A name is empty, too long, or has characters that would forge a line in a log.
    #[error(
        "{what} cannot stand in a certificate; use 1 to {MAX_NAME_BYTES} printable characters without commas"
    )]
    Name {
        /// Which name.
        what: &'static str,
    },
    /// What the store kept opens and is no authority's key.
    #[error(
        "the authority's key in the store is none; restore the store from a backup, or rotate the authority again"
    )]
    Stored,
    /// Another key should sign, and it is not here.
    #[error(
        "the {purpose} authority that should sign now is not open here: look at `cofferdam vault ca status` and at this \
         node's log"
    )]
    Withheld {
        /// Which authority.
        purpose: Purpose,
    },
    /// The certificate library refused.
    #[error("the certificate could not be made: {0}; this is a fault of the program, report it")]
    Library(#[from] ssh_key::Error),
}

/// What a user certificate allows besides logging in with a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateTerms {
    /// Whether the target should let this session forward ports.
    pub port_forwarding: bool,
    /// Addresses that the target should accept it from (the gateway's own); empty for any.
    pub source_addresses: Vec<IpAddr>,
}

/// What a host certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTerms {
    /// The names by which clients ask for the host.
    pub principals: Vec<String>,
    /// How long it lives from now, in seconds.
    pub seconds: i64,
}

/// The two keys that sign. They are apart, so that trusting one says nothing about the other, and each can be replaced
/// while everything goes on.
pub struct SshCa {
    user: RwLock<Signing>,
    host: RwLock<Signing>,
    entropy: Arc<dyn Entropy>,
}

/// Who signs for one purpose.
#[derive(Clone)]
struct Signing {
    public: PublicKey,
    /// None: another should, and is not here.
    key: Option<Arc<PrivateKey>>,
}

impl From<PrivateKey> for Signing {
    fn from(key: PrivateKey) -> Self {
        Self { public: key.public_key().clone(), key: Some(Arc::new(key)) }
    }
}

impl SshCa {
    /// A new authority, held in memory only.
    ///
    /// # Errors
    /// [`CaError::Entropy`] when there is no randomness.
    pub fn generate(entropy: Arc<dyn Entropy>) -> Result<Self, CaError> {
        let user = fresh_key(entropy.as_ref(), "cofferdam user authority")?;
        let host = fresh_key(entropy.as_ref(), "cofferdam host authority")?;
        Ok(Self::of(user, host, entropy))
    }

    fn of(user: PrivateKey, host: PrivateKey, entropy: Arc<dyn Entropy>) -> Self {
        Self { user: RwLock::new(user.into()), host: RwLock::new(host.into()), entropy }
    }

    /// Makes a new authority and writes its two keys (OpenSSH form, mode 0600).
    ///
    /// # Errors
    /// [`CaError::File`] when a file exists already or cannot be written.
    pub fn create(user: &Path, host: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, CaError> {
        let user_key = fresh_key(entropy.as_ref(), "cofferdam user authority")?;
        let host_key = fresh_key(entropy.as_ref(), "cofferdam host authority")?;
        for (path, key) in [(user, &user_key), (host, &host_key)] {
            let text = key.to_openssh(LineEnding::LF)?;
            keyfile::create(path, &SecretBytes::new(text.as_bytes().to_vec()))?;
        }
        Ok(Self::of(user_key, host_key, entropy))
    }

    /// Loads the keys that [`create`](Self::create) or `ssh-keygen` wrote.
    ///
    /// # Errors
    /// [`CaError::File`] for a file that is missing or can be read by others, [`CaError::NotAKey`] for
    /// another content.
    pub fn load(user: &Path, host: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, CaError> {
        Ok(Self::of(load_key(user)?, load_key(host)?, entropy))
    }

    /// From now on that key signs.
    pub fn adopt(&self, purpose: Purpose, key: AuthorityKey) {
        self.put(purpose, key.into_key().into());
    }

    /// From now on nothing is signed, until a key is adopted: another one should sign, and is not here.
    pub fn withhold(&self, purpose: Purpose) {
        self.put(purpose, Signing { key: None, ..self.signing(purpose) });
    }

    /// The name of who signs now; none while that is withheld.
    #[must_use]
    pub fn signs(&self, purpose: Purpose) -> Option<String> {
        let signing = self.signing(purpose);
        signing.key.map(|_| authority_id(&signing.public))
    }

    /// The key that targets trust: a line for sshd's `TrustedUserCAKeys`.
    #[must_use]
    pub fn user_public_key(&self) -> PublicKey {
        self.signing(Purpose::User).public
    }

    /// The key that clients trust: after `@cert-authority * ` a line for `known_hosts`.
    #[must_use]
    pub fn host_public_key(&self) -> PublicKey {
        self.signing(Purpose::Host).public
    }

    /// The key that signs for that purpose, public half.
    #[must_use]
    pub fn public_key(&self, purpose: Purpose) -> PublicKey {
        self.signing(purpose).public
    }

    fn slot(&self, purpose: Purpose) -> &RwLock<Signing> {
        match purpose {
            Purpose::User => &self.user,
            Purpose::Host => &self.host,
        }
    }

    fn signing(&self, purpose: Purpose) -> Signing {
        self.slot(purpose).read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, purpose: Purpose, signing: Signing) {
        *self.slot(purpose).write().unwrap_or_else(PoisonError::into_inner) = signing;
    }

    fn key(&self, purpose: Purpose) -> Result<Arc<PrivateKey>, CaError> {
        self.signing(purpose).key.ok_or(CaError::Withheld { purpose })
    }

    /// A fresh key and its certificate for the warrant's session. `now` is in UTC microseconds.
    ///
    /// Valid for the warrant's login name only, from a minute ago until the warrant ends, at most
    /// [`MAX_CERTIFICATE_SECONDS`]; the key id is `cofferdam:<session>:<user>`, which sshd writes to its log.
    ///
    /// # Errors
    /// [`CaError::Ended`] when less than a second is left, [`CaError::Name`] for a name that cannot stand in
    /// a certificate.
    pub fn issue_user(
        &self,
        warrant: &dyn Warrant,
        terms: &CertificateTerms,
        now: i64,
    ) -> Result<(PrivateKey, Certificate), CaError> {
        let principal = checked(warrant.login_name(), "the account's login name")?;
        let key_id = format!("cofferdam:{}:{}", warrant.session_id(), warrant.user_name());
        checked(&key_id, "the session's id or the person's name")?;
        let now = now.div_euclid(MICROSECONDS);
        // Rounded down: the certificate never outlives the warrant.
        let end =
            warrant.not_after().div_euclid(MICROSECONDS).min(now.saturating_add(MAX_CERTIFICATE_SECONDS));
        if end <= now {
            return Err(CaError::Ended { subject: format!("account {}", warrant.account_id()) });
        }

        let key = fresh_key(self.entropy.as_ref(), "")?;
        let mut builder = self.builder(key.public_key(), now, end)?;
        builder.cert_type(CertType::User)?.key_id(key_id)?.valid_principal(principal)?;
        builder.extension("permit-pty", "")?;
        if terms.port_forwarding {
            builder.extension("permit-port-forwarding", "")?;
        }
        if !terms.source_addresses.is_empty() {
            let list: Vec<String> = terms.source_addresses.iter().map(single_address).collect();
            builder.critical_option("source-address", list.join(","))?;
        }
        Ok((key, builder.sign(self.key(Purpose::User)?.as_ref())?))
    }

    /// A certificate for a host key of the gateway, so that `ssh -J` shows a host that clients can check.
    /// `now` is in UTC microseconds.
    ///
    /// # Errors
    /// [`CaError::Ended`] for a life of no length, [`CaError::Name`] for a principal that cannot stand in a
    /// certificate, or when there is none (a certificate without principals would be valid for every host).
    pub fn issue_host(
        &self,
        host_key: &PublicKey,
        terms: &HostTerms,
        now: i64,
    ) -> Result<Certificate, CaError> {
        let now = now.div_euclid(MICROSECONDS);
        let end = now.saturating_add(terms.seconds);
        let Some(first) = terms.principals.first() else {
            return Err(CaError::Name { what: "an empty list of host names" });
        };
        if end <= now {
            return Err(CaError::Ended { subject: format!("host {first}") });
        }
        let mut builder = self.builder(host_key, now, end)?;
        builder.cert_type(CertType::Host)?;
        builder.key_id(format!("cofferdam:host:{}", checked(first, "the host's name")?))?;
        for principal in &terms.principals {
            builder.valid_principal(checked(principal, "the host's name")?)?;
        }
        Ok(builder.sign(self.key(Purpose::Host)?.as_ref())?)
    }

    fn builder(&self, key: &PublicKey, now: i64, end: i64) -> Result<Builder, CaError> {
        let start = u64::try_from(now.saturating_sub(BACKDATE_SECONDS)).unwrap_or(0);
        let end = u64::try_from(end).unwrap_or(0);
        let nonce = entropy::bytes::<NONCE_BYTES>(self.entropy.as_ref())?;
        let serial = u64::from_be_bytes(entropy::bytes::<8>(self.entropy.as_ref())?);
        let mut builder = Builder::new(nonce, key.key_data().clone(), start, end)?;
        builder.serial(serial)?;
        Ok(builder)
    }
}

impl fmt::Debug for SshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshCa")
            .field("user", &authority_id(&self.user_public_key()))
            .field("host", &authority_id(&self.host_public_key()))
            .finish_non_exhaustive()
    }
}

pub(crate) fn fresh_key(source: &dyn Entropy, comment: &str) -> Result<PrivateKey, CaError> {
    let seed = Zeroizing::new(entropy::bytes::<32>(source)?);
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    Ok(key)
}

fn load_key(path: &Path) -> Result<PrivateKey, CaError> {
    let not_one = || CaError::NotAKey { path: path.display().to_string() };
    let text = keyfile::load(path)?.to_text().map_err(|_| not_one())?;
    let key = PrivateKey::from_openssh(text.expose()).map_err(|_| not_one())?;
    if key.is_encrypted() { Err(not_one()) } else { Ok(key) }
}

fn checked<'a>(name: &'a str, what: &'static str) -> Result<&'a str, CaError> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    if fits && !name.chars().any(|c| c.is_control() || c == ',') {
        Ok(name)
    } else {
        Err(CaError::Name { what })
    }
}

/// OpenSSH reads the list as CIDR blocks.
fn single_address(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(_) => format!("{address}/32"),
        IpAddr::V6(_) => format!("{address}/128"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::SystemEntropy;

    /// 2026-11-23 06:00:00 UTC, in microseconds.
    pub(crate) const NOW: i64 = 1_795_413_600_000_000;

    /// A warrant as a test wants it.
    pub(crate) struct Paper {
        pub(crate) account: String,
        pub(crate) session: String,
        pub(crate) login: String,
        pub(crate) not_after: i64,
    }

    impl Default for Paper {
        fn default() -> Self {
            Self {
                account: "acc-1".into(),
                session: "s-1".into(),
                login: "root".into(),
                not_after: NOW + 3600 * MICROSECONDS,
            }
        }
    }

    impl Warrant for Paper {
        fn account_id(&self) -> &str {
            &self.account
        }
        fn session_id(&self) -> &str {
            &self.session
        }
        fn user_name(&self) -> &str {
            "vera"
        }
        fn login_name(&self) -> &str {
            &self.login
        }
        fn not_after(&self) -> i64 {
            self.not_after
        }
    }

    fn authority() -> SshCa {
        SshCa::generate(Arc::new(SystemEntropy)).unwrap()
    }

    #[test]
    fn a_user_certificate_is_for_one_login_and_ends_with_the_warrant() {
        let authority = authority();
        let (key, certificate) =
            authority.issue_user(&Paper::default(), &CertificateTerms::default(), NOW).unwrap();
        assert_eq!(certificate.cert_type(), CertType::User);
        assert_eq!(certificate.valid_principals(), ["root"]);
        assert_eq!(certificate.key_id(), "cofferdam:s-1:vera");
        assert_eq!(certificate.public_key(), key.public_key().key_data());
        assert_eq!(certificate.signature_key(), authority.user_public_key().key_data());
        let seconds = u64::try_from(NOW / MICROSECONDS).unwrap();
        assert_eq!((certificate.valid_after(), certificate.valid_before()), (seconds - 60, seconds + 3600));
        let names: Vec<&str> = certificate.extensions().keys().map(String::as_str).collect();
        assert_eq!(names, ["permit-pty"]);
        assert!(certificate.critical_options().is_empty());
    }

    #[test]
    fn no_certificate_lives_longer_than_a_day_or_past_its_warrant() {
        let authority = authority();
        let far = Paper { not_after: i64::MAX, ..Paper::default() };
        let (_, certificate) = authority.issue_user(&far, &CertificateTerms::default(), NOW).unwrap();
        assert_eq!(
            certificate.valid_before(),
            u64::try_from(NOW / MICROSECONDS + MAX_CERTIFICATE_SECONDS).unwrap()
        );
        for not_after in [NOW + MICROSECONDS - 1, NOW, NOW - 1, i64::MIN] {
            let over = Paper { not_after, ..Paper::default() };
            assert!(matches!(
                authority.issue_user(&over, &CertificateTerms::default(), NOW),
                Err(CaError::Ended { .. })
            ));
        }
    }

    #[test]
    fn forwarding_and_source_addresses_are_there_only_when_asked() {
        let terms = CertificateTerms {
            port_forwarding: true,
            source_addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let (_, certificate) = authority().issue_user(&Paper::default(), &terms, NOW).unwrap();
        assert!(certificate.extensions().contains_key("permit-port-forwarding"));
        assert_eq!(certificate.critical_options().get("source-address").unwrap(), "10.1.2.3/32,fd00::1/128");
    }

    #[test]
    fn names_that_could_forge_a_log_line_or_a_second_principal_are_refused() {
        for login in ["", "root,admin", "root\nAccepted", &"x".repeat(256)] {
            let paper = Paper { login: login.into(), ..Paper::default() };
            assert!(matches!(
                authority().issue_user(&paper, &CertificateTerms::default(), NOW),
                Err(CaError::Name { .. })
            ));
        }
        let paper = Paper { session: "s\u{1b}[2J".into(), ..Paper::default() };
        assert!(authority().issue_user(&paper, &CertificateTerms::default(), NOW).is_err());
    }

    #[test]
    fn a_host_certificate_is_never_for_every_host() {
        let authority = authority();
        let key = fresh_key(&SystemEntropy, "").unwrap();
        let terms = HostTerms { principals: vec!["pump-hmi".into(), "10.0.0.7".into()], seconds: 3600 };
        let certificate = authority.issue_host(key.public_key(), &terms, NOW).unwrap();
        assert_eq!(certificate.cert_type(), CertType::Host);
        assert_eq!(certificate.valid_principals(), ["pump-hmi", "10.0.0.7"]);
        assert_eq!(certificate.signature_key(), authority.host_public_key().key_data());
        assert!(certificate.extensions().is_empty());
        let none = HostTerms { principals: vec![], seconds: 3600 };
        assert!(authority.issue_host(key.public_key(), &none, NOW).is_err());
        let over = HostTerms { seconds: 0, ..terms };
        assert!(matches!(authority.issue_host(key.public_key(), &over, NOW), Err(CaError::Ended { .. })));
    }

    #[test]
    fn a_key_that_is_adopted_signs_at_once_and_one_that_is_missing_signs_nothing() {
        let authority = authority();
        let old = authority.user_public_key();
        let new = AuthorityKey::generate(&SystemEntropy, Purpose::User).unwrap();
        let public = new.public_key().clone();
        let kept = new.to_secret().unwrap();
        authority.adopt(Purpose::User, AuthorityKey::from_secret(&kept).unwrap());
        let (_, certificate) =
            authority.issue_user(&Paper::default(), &CertificateTerms::default(), NOW).unwrap();
        assert_eq!(certificate.signature_key(), public.key_data());
        assert_ne!(old.key_data(), public.key_data());
        assert_eq!(authority.signs(Purpose::User), Some(authority_id(&public)));
        authority.withhold(Purpose::User);
        let refused = authority.issue_user(&Paper::default(), &CertificateTerms::default(), NOW);
        assert!(matches!(refused, Err(CaError::Withheld { purpose: Purpose::User })));
        assert_eq!(authority.signs(Purpose::User), None);
        assert!(AuthorityKey::from_secret(&SecretBytes::from(b"hunter2".to_vec())).is_err());
    }

    #[test]
    fn an_authority_survives_its_files_and_hides_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (user, host) = (dir.path().join("user_ca"), dir.path().join("host_ca"));
        let made = SshCa::create(&user, &host, Arc::new(SystemEntropy)).unwrap();
        let loaded = SshCa::load(&user, &host, Arc::new(SystemEntropy)).unwrap();
        assert_eq!(made.user_public_key(), loaded.user_public_key());
        assert_eq!(made.host_public_key(), loaded.host_public_key());
        assert!(format!("{made:?}").contains("SHA256:"));
    }
}
