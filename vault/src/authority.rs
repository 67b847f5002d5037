//! New keys for the built-in SSH authorities, and what each of the two is for.

use std::fmt;
use std::str::FromStr;

use russh::keys::ssh_key::{HashAlg, LineEnding};
use russh::keys::{PrivateKey, PublicKey};

use crate::ca::{CaError, fresh_key};
use crate::entropy::Entropy;
use crate::secret::SecretBytes;

/// What an authority signs. The keys are apart, so that trusting one says nothing about the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Certificates with which sessions log in on targets.
    User,
    /// Certificates that the gateway shows to people's clients.
    Host,
}

impl Purpose {
    /// Both.
    pub const ALL: [Self; 2] = [Self::User, Self::Host];

    /// Its fixed name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is neither purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are two authorities: write user or host")]
pub struct UnknownPurpose;

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or(UnknownPurpose)
    }
}

/// The name of an authority: the SHA-256 fingerprint of its public key, as OpenSSH writes it.
#[must_use]
pub fn authority_id(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The private key of an authority, on its way to or from the store.
pub struct AuthorityKey(PrivateKey);

impl AuthorityKey {
    /// A new one.
    ///
    /// # Errors
    /// [`CaError::Entropy`] when there is no randomness.
    pub fn generate(entropy: &dyn Entropy, purpose: Purpose) -> Result<Self, CaError> {
        fresh_key(entropy, &format!("cofferdam {purpose} authority")).map(Self)
    }

    /// What is to be sealed.
    ///
    /// # Errors
    /// [`CaError::Library`] when the key cannot be written.
    pub fn to_secret(&self) -> Result<SecretBytes, CaError> {
        Ok(SecretBytes::new(self.0.to_openssh(LineEnding::LF)?.as_bytes().to_vec()))
    }

    /// From what [`Self::to_secret`] gave.
    ///
    /// # Errors
    /// [`CaError::Stored`] for any other content.
    pub fn from_secret(secret: &SecretBytes) -> Result<Self, CaError> {
        let text = secret.to_text().map_err(|_| CaError::Stored)?;
        PrivateKey::from_openssh(text.expose()).map(Self).map_err(|_| CaError::Stored)
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    pub(crate) fn into_key(self) -> PrivateKey {
        self.0
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", authority_id(self.public_key()))
    }
}
