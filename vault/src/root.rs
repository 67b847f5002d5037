//! The root of the vault's keys: one age X25519 identity, which opens the keyring and nothing else.
//!
//! Where it comes from is the affair of [`crate::unseal`]; it is dropped (and wiped) as soon as the keyring is open.

use std::fmt;

use age::x25519::{Identity, Recipient};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bech32::{FromBase32 as _, ToBase32 as _, Variant};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::secret::{SecretBytes, SecretString};

/// Length of the secret half in bytes (RFC 7748 §5).
pub const ROOT_BYTES: usize = 32;

/// The human-readable part of an age secret key, before it is put in capitals.
const SECRET_KEY_PREFIX: &str = "age-secret-key-";

/// The text held no identity. Carries nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no age X25519 identity (a line AGE-SECRET-KEY-1…) in it")]
pub struct NotARoot;

/// Names a root without saying anything about its secret: the first 8 bytes of a SHA-256 over its public half, shown as
/// 16 hexadecimal digits. Shares, keyrings and wrapped roots carry it, so that a foreign one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId([u8; Self::BYTES]);

impl VaultId {
    /// Its length in bytes.
    pub const BYTES: usize = 8;

    /// From its bytes, as a share or a keyring carries them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    fn of(recipient: &Recipient) -> Self {
        let mut text = b"cofferdam vault id v1\0".to_vec();
        text.extend_from_slice(recipient.to_string().as_bytes());
        let mut id = [0; Self::BYTES];
        for (to, from) in id.iter_mut().zip(digest(&SHA256, &text).as_ref()) {
            *to = *from;
        }
        Self(id)
    }
}

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See the module. Neither `Clone` nor shown.
pub struct Root {
    secret: Zeroizing<[u8; ROOT_BYTES]>,
    identity: Identity,
    recipient: Recipient,
}

impl Root {
    /// A new root, written down nowhere yet.
    ///
    /// # Errors
    /// [`EntropyError`] when there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let secret = Zeroizing::new(entropy::bytes::<ROOT_BYTES>(entropy)?);
        // Any 32 bytes are an X25519 secret.
        Self::from_secret(secret.as_ref()).map_err(|NotARoot| EntropyError)
    }

    /// From the 32 bytes of its secret half.
    ///
    /// # Errors
    /// [`NotARoot`] for another length.
    pub fn from_secret(secret: &[u8]) -> Result<Self, NotARoot> {
        let secret = <[u8; ROOT_BYTES]>::try_from(secret).map(Zeroizing::new).map_err(|_| NotARoot)?;
        let identity = text_of(&secret)?.parse::<Identity>().map_err(|_| NotARoot)?;
        let recipient = identity.to_public();
        Ok(Self { secret, identity, recipient })
    }

    /// From the text of an identity file, as `age-keygen` writes it: comments, and one line `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    /// [`NotARoot`] for any other text.
    pub fn from_text(text: &SecretString) -> Result<Self, NotARoot> {
        let mut lines =
            text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or(NotARoot)?;
        let (prefix, data, variant) = bech32::decode(line).map_err(|_| NotARoot)?;
        if !prefix.eq_ignore_ascii_case(SECRET_KEY_PREFIX) || variant != Variant::Bech32 {
            return Err(NotARoot);
        }
        let secret = Zeroizing::new(Vec::<u8>::from_base32(&data).map_err(|_| NotARoot)?);
        Self::from_secret(&secret)
    }

    /// As [`from_text`](Self::from_text), from bytes.
    ///
    /// # Errors
    /// [`NotARoot`] for any other content.
    pub fn from_content(content: &SecretBytes) -> Result<Self, NotARoot> {
        Self::from_text(&content.to_text().map_err(|_| NotARoot)?)
    }

    /// The text of an identity file, to be encrypted or written with mode 0600.
    ///
    /// # Errors
    /// Never for a root that was made by this type.
    pub fn to_text(&self) -> Result<SecretString, NotARoot> {
        let line = text_of(&self.secret)?;
        Ok(SecretString::new(format!("# public key: {}\n{}\n", self.recipient, line.as_str())))
    }

    /// The public half (`age1…`).
    #[must_use]
    pub fn recipient(&self) -> String {
        self.recipient.to_string()
    }

    /// The name of the vault that this root opens.
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        VaultId::of(&self.recipient)
    }

    /// The secret half. Named so that every use can be found by a search.
    #[must_use]
    pub fn expose(&self) -> &[u8; ROOT_BYTES] {
        &self.secret
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key that seals the keyring (HKDF-SHA256, RFC 5869). Not the root itself: the process keeps this one while it
    /// is open, so that a keyring which another node renewed can be read without unsealing again.
    pub(crate) fn ring_key(&self) -> Result<Zeroizing<[u8; ROOT_BYTES]>, NotARoot> {
        let mut key = Zeroizing::new([0; ROOT_BYTES]);
        Salt::new(HKDF_SHA256, b"cofferdam vault root v1")
            .extract(self.secret.as_ref())
            .expand(&[b"keyring"], Length)
            .and_then(|okm| okm.fill(key.as_mut()))
            .map_err(|_| NotARoot)?;
        Ok(key)
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        ROOT_BYTES
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.vault_id())
    }
}

fn text_of(secret: &[u8; ROOT_BYTES]) -> Result<Zeroizing<String>, NotARoot> {
    let mut text = bech32::encode(SECRET_KEY_PREFIX, secret.to_base32(), Variant::Bech32)
        .map(Zeroizing::new)
        .map_err(|_| NotARoot)?;
    text.make_ascii_uppercase();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn the_text_is_the_one_that_age_itself_reads_and_writes() {
        let root = Root::generate(&SystemEntropy).unwrap();
        let theirs = root.identity.to_string();
        assert!(root.to_text().unwrap().expose().contains(theirs.expose_secret()));
        let identity = Identity::generate();
        let text = SecretString::from(identity.to_string().expose_secret());
        assert_eq!(Root::from_text(&text).unwrap().recipient(), identity.to_public().to_string());
    }

    #[test]
    fn a_root_survives_its_text_and_hides_itself() {
        let root = Root::generate(&SystemEntropy).unwrap();
        let again = Root::from_text(&root.to_text().unwrap()).unwrap();
        assert_eq!(root.expose(), again.expose());
        assert_eq!(root.vault_id(), again.vault_id());
        assert_eq!(format!("{root:?}"), format!("Root({})", root.vault_id()));
    }

    #[test]
    fn other_texts_are_no_roots_and_are_not_shown() {
        let public = Root::generate(&SystemEntropy).unwrap().recipient();
        for text in ["", "# only a comment\n", "hunter2", &public, "AGE-SECRET-KEY-1QQQQ"] {
            let error = Root::from_text(&SecretString::from(text)).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn two_roots_have_two_ids_and_two_ring_keys() {
        let (a, b) = (Root::generate(&SystemEntropy).unwrap(), Root::generate(&SystemEntropy).unwrap());
        assert_ne!(a.vault_id(), b.vault_id());
        assert_ne!(*a.ring_key().unwrap(), *b.ring_key().unwrap());
        assert_ne!(a.ring_key().unwrap().as_ref(), a.expose());
    }
}
