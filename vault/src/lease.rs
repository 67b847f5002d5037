//! Leases: a secret leaves the vault only against a warrant, for one session, and is counted until returned.

use std::fmt;
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey};

use crate::ca::{CaError, CertificateTerms, SshCa};
use crate::checkout::{Because, CheckOuts, RotationDue};
use crate::ledger::{Entry, HeldLease, Ledger, Sharing};
use crate::seal::{Context, SealError, Sealer};
use crate::secret::{SecretBytes, SecretString};

/// The proof that policy allowed one dial. Access's grant implements it; the vault asks for nothing else and
/// gives nothing without it.
pub trait Warrant: Send + Sync {
    /// The id of the account that may be used.
    fn account_id(&self) -> &str;
    /// The id of the session it may be used in.
    fn session_id(&self) -> &str;
    /// The person's name, for the key id of a certificate.
    fn user_name(&self) -> &str;
    /// The name to log in with on the target.
    fn login_name(&self) -> &str;
    /// When the permission ends, in UTC microseconds.
    fn not_after(&self) -> i64;
}

/// Why a lease was not given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The warrant's end has passed.
    #[error("the permission to use account {account_id} has ended; ask for a new window")]
    Ended {
        /// The account.
        account_id: String,
    },
    /// The account is exclusive and in use, or is wanted exclusively while in use.
    #[error(
        "account {account_id} is checked out exclusively by session {holder}; wait until that session ends, or end it"
    )]
    InUse {
        /// The account.
        account_id: String,
        /// A session that holds it.
        holder: String,
    },
    /// The material was taken from this lease before.
    #[error("the secret of account {account_id} was taken from this lease already; ask for a new lease")]
    AlreadyTaken {
        /// The account.
        account_id: String,
    },
    /// The sealed secret does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It opened, but is not of the kind that the account says.
    #[error("the secret of account {account_id} is no {expected}; set it again")]
    WrongKind {
        /// The account.
        account_id: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The account wants a certificate, and there is no authority.
    #[error(
        "account {account_id} uses certificates, but this vault has no SSH authority; run `cofferdam init` to make one"
    )]
    NoAuthority {
        /// The account.
        account_id: String,
    },
    /// The certificate could not be made.
    #[error(transparent)]
    Authority(#[from] CaError),
}

impl LeaseError {
    fn in_use(held: HeldLease) -> Self {
        Self::InUse { account_id: held.account_id, holder: held.session_id }
    }
}

/// What is put in at the target in the person's stead.
pub enum Material {
    /// A password.
    Password(SecretString),
    /// A private key that the target knows.
    PrivateKey(Box<PrivateKey>),
    /// A key made for this session and the certificate that makes it valid.
    Certificate {
        /// The key; it exists nowhere else.
        key: Box<PrivateKey>,
        /// Its certificate by the vault's user authority.
        certificate: Box<Certificate>,
    },
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password([redacted])",
            Self::PrivateKey(_) => "PrivateKey([redacted])",
            Self::Certificate { .. } => "Certificate([redacted])",
        })
    }
}

/// An account's secret as the store keeps it, together with how it may be used.
#[derive(Debug)]
pub struct SealedSecret {
    pub(crate) source: Source,
    pub(crate) sharing: Sharing,
}

pub(crate) enum Source {
    Password(Vec<u8>),
    PrivateKey(Vec<u8>),
    Certificate(CertificateTerms),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "sealed password",
            Self::PrivateKey(_) => "sealed private key",
            Self::Certificate(_) => "certificate",
        })
    }
}

impl SealedSecret {
    /// A password, sealed with [`Context::account`].
    #[must_use]
    pub fn password(sealed: Vec<u8>, sharing: Sharing) -> Self {
        Self { source: Source::Password(sealed), sharing }
    }

    /// A private key (OpenSSH, PKCS#8 or PuTTY text, without passphrase), sealed with [`Context::account`].
    #[must_use]
    pub fn private_key(sealed: Vec<u8>, sharing: Sharing) -> Self {
        Self { source: Source::PrivateKey(sealed), sharing }
    }

    /// Nothing stored: a certificate is made for each session.
    #[must_use]
    pub fn certificate(terms: CertificateTerms, sharing: Sharing) -> Self {
        Self { source: Source::Certificate(terms), sharing }
    }
}

/// Opens secrets for warrants and counts who has what.
#[derive(Debug)]
pub struct Vault {
    sealer: Sealer,
    authority: Option<Arc<SshCa>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) check_outs: CheckOuts,
}

impl Vault {
    /// A vault that opens with `sealer` and, where accounts use certificates, issues them by `authority`.
    #[must_use]
    pub fn new(sealer: Sealer, authority: Option<Arc<SshCa>>) -> Self {
        Self { sealer, authority, ledger: Arc::default(), check_outs: CheckOuts::default() }
    }

    /// Seals the secret of an account, for the store to keep.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal(&self, account_id: &str, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&Context::account(account_id), secret)
    }

    /// What seals and opens.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The authority for certificates, if there is one.
    #[must_use]
    pub fn authority(&self) -> Option<&Arc<SshCa>> {
        self.authority.as_ref()
    }

    /// Checks out the secret of the warrant's account. `now` is in UTC microseconds.
    ///
    /// The lease counts from here until it is dropped. It is entered before the secret is opened, so that of
    /// two sessions that want an exclusive account at once only one ever sees it.
    ///
    /// # Errors
    /// [`LeaseError`]: the warrant has ended, the account is in use, the secret does not open or is of
    /// another kind, or the certificate cannot be made.
    pub fn lease(&self, warrant: &dyn Warrant, sealed: SealedSecret, now: i64) -> Result<Lease, LeaseError> {
        let account_id = warrant.account_id();
        if now >= warrant.not_after() {
            return Err(LeaseError::Ended { account_id: account_id.to_owned() });
        }
        let wanted = HeldLease {
            account_id: account_id.to_owned(),
            session_id: warrant.session_id().to_owned(),
            user_name: warrant.user_name().to_owned(),
            sharing: sealed.sharing,
            since: now,
        };
        let entry = Ledger::enter(&self.ledger, wanted).map_err(LeaseError::in_use)?;
        // What a session was given stays known to the target until it is changed; a certificate ends by itself.
        let rotates = !matches!(sealed.source, Source::Certificate(_));
        let material = self.produce(warrant, sealed.source, now)?;
        let session_id = warrant.session_id().to_owned();
        Ok(Lease { material: Some(material), not_after: warrant.not_after(), session_id, rotates, entry })
    }

    /// All leases that are out, oldest first.
    #[must_use]
    pub fn held(&self) -> Vec<HeldLease> {
        self.ledger.held()
    }

    fn produce(&self, warrant: &dyn Warrant, source: Source, now: i64) -> Result<Material, LeaseError> {
        let account_id = warrant.account_id();
        let wrong = |expected| LeaseError::WrongKind { account_id: account_id.to_owned(), expected };
        match source {
            Source::Password(sealed) => {
                let bytes = self.sealer.open(&Context::account(account_id), &sealed)?;
                Ok(Material::Password(bytes.to_text().map_err(|_| wrong("text password"))?))
            }
            Source::PrivateKey(sealed) => {
                let bytes = self.sealer.open(&Context::account(account_id), &sealed)?;
                let key = parse_private_key(&bytes).ok_or_else(|| wrong("private key without passphrase"))?;
                Ok(Material::PrivateKey(Box::new(key)))
            }
            Source::Certificate(terms) => {
                let authority = self
                    .authority
                    .as_ref()
                    .ok_or_else(|| LeaseError::NoAuthority { account_id: account_id.to_owned() })?;
                let (key, certificate) = authority.issue_user(warrant, &terms, now)?;
                Ok(Material::Certificate { key: Box::new(key), certificate: Box::new(certificate) })
            }
        }
    }
}

/// The OpenSSH form first: its decoder wipes what it handles.
fn parse_private_key(bytes: &SecretBytes) -> Option<PrivateKey> {
    let text = bytes.to_text().ok()?;
    let key = match PrivateKey::from_openssh(text.expose()) {
        Ok(key) => key,
        Err(_) => russh::keys::decode_secret_key(text.expose(), None).ok()?,
    };
    (!key.is_encrypted()).then_some(key)
}

/// A secret that is checked out. Dropping it returns it.
#[derive(Debug)]
#[must_use = "a lease that is dropped has been returned"]
pub struct Lease {
    material: Option<Material>,
    not_after: i64,
    session_id: String,
    rotates: bool,
    entry: Entry,
}

impl Lease {
    /// Hands out the secret, once.
    ///
    /// # Errors
    /// [`LeaseError::AlreadyTaken`] at the second call.
    pub fn material(&mut self) -> Result<Material, LeaseError> {
        self.material
            .take()
            .ok_or_else(|| LeaseError::AlreadyTaken { account_id: self.entry.account_id.clone() })
    }

    /// Returns it, and says whether the account's secret is now due to be changed: a certificate is not, it ends by
    /// itself.
    pub fn give_back(self) -> Option<RotationDue> {
        let because = Because::SessionEnded(self.session_id);
        self.rotates.then(|| RotationDue { account_id: self.entry.account_id.clone(), because })
    }

    /// The account whose secret this is.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.entry.account_id
    }

    /// When the permission behind it ends, in UTC microseconds.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;
    use crate::ca::tests::{NOW, Paper};

    fn vault() -> Vault {
        let ca = SshCa::generate(Arc::new(SystemEntropy)).unwrap();
        Vault::new(Sealer::ephemeral(Arc::new(SystemEntropy)), Some(Arc::new(ca)))
    }

    fn password(vault: &Vault, sharing: Sharing) -> SealedSecret {
        SealedSecret::password(vault.seal("acc-1", &SecretBytes::from(b"hunter2".to_vec())).unwrap(), sharing)
    }

    #[test]
    fn a_lease_gives_its_material_once() {
        let vault = vault();
        let mut lease = vault.lease(&Paper::default(), password(&vault, Sharing::Shared), NOW).unwrap();
        assert!(!format!("{lease:?}").contains("hunter2"));
        assert!(matches!(lease.material(), Ok(Material::Password(p)) if p.expose() == "hunter2"));
        assert!(matches!(lease.material(), Err(LeaseError::AlreadyTaken { .. })));
    }

    #[test]
    fn an_exclusive_account_is_held_by_one_session_until_it_is_returned() {
        let vault = vault();
        let first = vault.lease(&Paper::default(), password(&vault, Sharing::Exclusive), NOW).unwrap();
        let second = Paper { session: "s-2".into(), ..Paper::default() };
        for sharing in [Sharing::Exclusive, Sharing::Shared] {
            let text = vault.lease(&second, password(&vault, sharing), NOW).unwrap_err().to_string();
            assert!(text.contains("acc-1") && text.contains("s-1"), "{text}");
        }
        drop(first);
        assert!(vault.held().is_empty());
        let _third = vault.lease(&second, password(&vault, Sharing::Exclusive), NOW).unwrap();
        assert_eq!(vault.held()[0].session_id, "s-2");
    }

    #[test]
    fn shared_leases_stand_side_by_side_but_keep_an_exclusive_one_out() {
        let vault = vault();
        let _a = vault.lease(&Paper::default(), password(&vault, Sharing::Shared), NOW).unwrap();
        let _b = vault.lease(&Paper::default(), password(&vault, Sharing::Shared), NOW).unwrap();
        assert_eq!(vault.held().len(), 2);
        assert!(vault.lease(&Paper::default(), password(&vault, Sharing::Exclusive), NOW).is_err());
    }

    #[test]
    fn a_warrant_that_has_ended_opens_nothing() {
        let vault = vault();
        let ended = Paper { not_after: NOW, ..Paper::default() };
        let error = vault.lease(&ended, password(&vault, Sharing::Shared), NOW).unwrap_err();
        assert!(matches!(error, LeaseError::Ended { .. }));
    }

    #[test]
    fn a_lease_that_fails_to_open_is_not_counted() {
        let vault = vault();
        let other = Paper { account: "acc-2".into(), ..Paper::default() };
        let error = vault.lease(&other, password(&vault, Sharing::Exclusive), NOW).unwrap_err();
        assert!(matches!(error, LeaseError::Seal(SealError::Refused { .. })));
        assert!(vault.held().is_empty());
    }

    #[test]
    fn private_keys_come_out_as_keys_and_other_text_does_not() {
        let vault = vault();
        let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        let pem = PrivateKey::from(pair).to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
        let sealed = vault.seal("acc-1", &SecretBytes::from(pem.as_bytes().to_vec())).unwrap();
        let mut lease =
            vault.lease(&Paper::default(), SealedSecret::private_key(sealed, Sharing::Shared), NOW).unwrap();
        assert!(matches!(lease.material(), Ok(Material::PrivateKey(_))));

        let sealed = vault.seal("acc-1", &SecretBytes::from(b"hunter2".to_vec())).unwrap();
        let error = vault.lease(&Paper::default(), SealedSecret::private_key(sealed, Sharing::Shared), NOW);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("acc-1") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_certificate_account_gets_a_fresh_key_each_time() {
        let vault = vault();
        let mut keys = Vec::new();
        for _ in 0..2 {
            let secret = SealedSecret::certificate(CertificateTerms::default(), Sharing::Shared);
            let mut lease = vault.lease(&Paper::default(), secret, NOW).unwrap();
            let Ok(Material::Certificate { key, certificate }) = lease.material() else {
                panic!("no certificate")
            };
            assert_eq!(certificate.public_key(), key.public_key().key_data());
            keys.push(key.public_key().clone());
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn a_returned_secret_is_due_to_be_changed_and_a_certificate_is_not() {
        let vault = vault();
        let lease = vault.lease(&Paper::default(), password(&vault, Sharing::Shared), NOW).unwrap();
        let due = lease.give_back().unwrap();
        assert_eq!(due.account_id, "acc-1");
        assert_eq!(due.because, Because::SessionEnded("s-1".into()));
        let secret = SealedSecret::certificate(CertificateTerms::default(), Sharing::Shared);
        assert!(vault.lease(&Paper::default(), secret, NOW).unwrap().give_back().is_none());
        assert!(vault.held().is_empty());
    }

    #[test]
    fn without_an_authority_a_certificate_account_says_so() {
        let vault = Vault::new(Sealer::ephemeral(Arc::new(SystemEntropy)), None);
        let secret = SealedSecret::certificate(CertificateTerms::default(), Sharing::Shared);
        let error = vault.lease(&Paper::default(), secret, NOW).unwrap_err();
        assert!(matches!(error, LeaseError::NoAuthority { .. }));
    }
}
