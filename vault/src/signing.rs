//! The Ed25519 keys that sign audit entries and recording checkpoints.

use std::fmt;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::keyfile::{self, KeyFileError};
use crate::secret::SecretBytes;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Length of an Ed25519 public key in bytes.
const PUBLIC_KEY_BYTES: usize = 32;

/// Why a signing key could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The key file itself is at fault.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file holds something else than an Ed25519 private key.
    #[error("{path} holds no Ed25519 private key (PKCS#8, PEM); restore the key from a backup")]
    NotAKey {
        /// The file, as given.
        path: String,
    },
    /// The machine's random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The cryptographic library refused a valid request.
    #[error("the cryptographic library could not {action}; this is a fault of the program, report it")]
    Library {
        /// What was being done.
        action: &'static str,
    },
    /// A public key was not 32 bytes of hexadecimal.
    #[error("not an Ed25519 public key; expected {} hexadecimal digits", PUBLIC_KEY_BYTES * 2)]
    PublicKeyForm,
    /// The signature does not belong to this key and these bytes.
    #[error(
        "the signature by key {key_id} does not match; what was signed has been altered, or another key signed it"
    )]
    Mismatch {
        /// The key that should have signed.
        key_id: KeyId,
    },
}

/// Names a key: the first 8 bytes of the SHA-256 of its public key, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    fn of(public_key: &[u8]) -> Self {
        let mut id = [0; 8];
        for (to, from) in id.iter_mut().zip(digest(&SHA256, public_key).as_ref()) {
            *to = *from;
        }
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ed25519 private key (RFC 8032).
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

impl SigningKey {
    /// A new key, held in memory only.
    ///
    /// # Errors
    /// [`SigningError::Entropy`] when there is no randomness.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, SigningError> {
        let seed = Zeroizing::new(entropy::bytes::<32>(entropy)?);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
            .map_err(|_| SigningError::Library { action: "make an Ed25519 key" })?;
        Self::from_pair(pair)
    }

    /// Makes a new key and writes it to `path` (PKCS#8 as PEM, mode 0600; `openssl pkey` reads it).
    ///
    /// # Errors
    /// [`SigningError::File`] when the file exists already or cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, SigningError> {
        let key = Self::generate(entropy)?;
        keyfile::create(path, &key.to_pem()?)?;
        Ok(key)
    }

    /// Loads a key that [`create`](Self::create) wrote.
    ///
    /// # Errors
    /// [`SigningError::File`] for a file that is missing or can be read by others, [`SigningError::NotAKey`]
    /// for another content.
    pub fn load(path: &Path) -> Result<Self, SigningError> {
        let content = keyfile::load(path)?;
        Self::from_pem(&content)?.ok_or_else(|| SigningError::NotAKey { path: path.display().to_string() })
    }

    /// Signs `message`; 64 bytes (RFC 8032 §5.1.6).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The name of this key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.public.key_id()
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, SigningError> {
        let public = VerifyingKey::from_bytes(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    fn to_pem(&self) -> Result<SecretBytes, SigningError> {
        let der: Pkcs8V1Der<'_> =
            self.pair.as_der().map_err(|_| SigningError::Library { action: "encode an Ed25519 key" })?;
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        Ok(SecretBytes::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", body.as_str()).into_bytes()))
    }

    fn from_pem(content: &SecretBytes) -> Result<Option<Self>, SigningError> {
        let Ok(text) = content.to_text() else { return Ok(None) };
        let Some(body) =
            text.expose().trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END))
        else {
            return Ok(None);
        };
        let joined = Zeroizing::new(body.split_whitespace().collect::<String>());
        let Ok(der) = STANDARD.decode(joined.as_bytes()).map(Zeroizing::new) else { return Ok(None) };
        match Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            Ok(pair) => Self::from_pair(pair).map(Some),
            Err(_) => Ok(None),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id())
    }
}

/// An Ed25519 public key. Text form: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; PUBLIC_KEY_BYTES]);

impl VerifyingKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`SigningError::PublicKeyForm`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SigningError> {
        <[u8; PUBLIC_KEY_BYTES]>::try_from(bytes).map(Self).map_err(|_| SigningError::PublicKeyForm)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// The name of this key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// Checks that `signature` is by this key over exactly `message`.
    ///
    /// # Errors
    /// [`SigningError::Mismatch`] when it is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SigningError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| SigningError::Mismatch { key_id: self.key_id() })
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = SigningError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::decode(text.trim()).map_err(|_| SigningError::PublicKeyForm)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn a_key_survives_its_file_and_signs_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let made = SigningKey::create(&path, &SystemEntropy).unwrap();
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(made.sign(b"entry"), loaded.sign(b"entry"));
        assert_eq!(made.key_id(), loaded.key_id());
        loaded.public_key().verify(b"entry", &made.sign(b"entry")).unwrap();
    }

    #[test]
    fn a_changed_message_or_signature_is_refused_and_names_the_key() {
        let key = SigningKey::generate(&SystemEntropy).unwrap();
        let mut signature = key.sign(b"entry");
        let error = key.public_key().verify(b"Entry", &signature).unwrap_err();
        assert!(error.to_string().contains(&key.key_id().to_string()));
        signature[0] ^= 1;
        assert!(key.public_key().verify(b"entry", &signature).is_err());
        assert!(key.public_key().verify(b"entry", b"").is_err());
    }

    #[test]
    fn the_public_key_has_a_text_form() {
        let key = *SigningKey::generate(&SystemEntropy).unwrap().public_key();
        assert_eq!(key.to_string().parse::<VerifyingKey>().unwrap(), key);
        assert!("zz".parse::<VerifyingKey>().is_err());
        assert_eq!(key.key_id().to_string().len(), 16);
    }

    #[test]
    fn a_file_with_another_content_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        keyfile::create(&path, &SecretBytes::from(b"topsecret".to_vec())).unwrap();
        let text = SigningKey::load(&path).unwrap_err().to_string();
        assert!(text.contains("no Ed25519") && !text.contains("topsecret"), "{text}");
    }
}
