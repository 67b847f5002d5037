//! The server's Ed25519 key that signs headers, checkpoints, seals and bundles.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::{fmt, str::FromStr, sync::Arc};
use zeroize::Zeroizing;

use crate::error::RecordError;

/// Bytes of an Ed25519 signature (RFC 8032 §5.1.6).
pub(crate) const SIGNATURE_LEN: usize = 64;

/// Has a message signed by a key that somebody else holds; none when they do not.
pub type SignElsewhere = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Signs recordings. Its public half, kept anywhere, proves them.
pub struct CheckpointSigner {
    key: Key,
    public: VerifyingKey,
}

enum Key {
    Here(Ed25519KeyPair),
    Elsewhere(SignElsewhere),
}

impl CheckpointSigner {
    /// A fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, RecordError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| RecordError::Crypto("making a signing key"))?;
        Self::new(pair)
    }

    /// A key from its 32-byte seed (RFC 8032 §5.1.5), as the vault keeps it.
    ///
    /// # Errors
    /// When the seed does not have 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, RecordError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| RecordError::Crypto("reading the signing key; it must have 32 bytes"))?;
        Self::new(pair)
    }

    /// One whose key another process holds. What that does not sign is not written: the recording fails.
    #[must_use]
    pub fn elsewhere(public: VerifyingKey, sign: SignElsewhere) -> Self {
        Self { key: Key::Elsewhere(sign), public }
    }

    /// The 32-byte seed, to be sealed in the vault.
    ///
    /// # Errors
    /// When the crypto library refuses to give it out.
    pub fn seed(&self) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
        let Key::Here(pair) = &self.key else {
            return Err(RecordError::Crypto("exporting the signing key, which another process holds"));
        };
        let seed = pair.seed().map_err(|_| RecordError::Crypto("exporting the signing key"))?;
        let raw: Curve25519SeedBin<'_> =
            seed.as_be_bytes().map_err(|_| RecordError::Crypto("exporting the signing key"))?;
        Ok(Zeroizing::new(raw.as_ref().to_vec()))
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, RecordError> {
        let raw = pair.public_key().as_ref().try_into();
        let public = VerifyingKey(raw.map_err(|_| RecordError::Crypto("reading the public key"))?);
        Ok(Self { key: Key::Here(pair), public })
    }

    /// The public half.
    pub fn public_key(&self) -> VerifyingKey {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], RecordError> {
        let refused = || RecordError::Crypto("signing; the process that holds the key does not answer");
        match &self.key {
            Key::Here(pair) => pair.sign(message).as_ref().try_into().map_err(|_| refused()),
            Key::Elsewhere(sign) => sign(message).and_then(|s| s.try_into().ok()).ok_or_else(refused),
        }
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointSigner({})", self.public)
    }
}

/// The public key that proves recordings; written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for VerifyingKey {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut key = [0; 32];
        hex::decode_to_slice(s.trim(), &mut key).map_err(|_| "a public key has 64 hexadecimal digits")?;
        Ok(Self(key))
    }
}
