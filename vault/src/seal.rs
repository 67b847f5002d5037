//! Sealing: how a secret rests in the database.
//!
//! Each secret has a data key of its own. The data key is wrapped by age to the vault's X25519 identity; the
//! secret is encrypted under it with AES-256-GCM, whose additional data is the [`Context`]. A row that is put
//! in another's place therefore does not open, and changing the vault's identity means wrapping data keys
//! anew, not touching the secrets.
//!
//! ```text
//! version  1 byte   0x01
//! length   2 bytes  big-endian, of the wrapped data key
//! wrapped  n bytes  an age v1 file (binary) that holds the 32-byte data key
//! nonce   12 bytes
//! body     m bytes  AES-256-GCM ciphertext and its 16-byte tag
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::keyfile::{self, KeyFileError};
use crate::secret::SecretBytes;

const VERSION: u8 = 1;
const DATA_KEY_BYTES: usize = 32;
/// An age file with one X25519 stanza and 32 bytes of content takes some 250 bytes.
const MAX_WRAPPED_BYTES: usize = 4096;

/// The largest secret that is sealed, in bytes: generous for the longest private key.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Why a secret could not be sealed or opened. No text holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The identity file itself is at fault.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file holds no age identity.
    #[error(
        "{path} holds no age X25519 identity (a line AGE-SECRET-KEY-1…); restore the vault's identity from a backup"
    )]
    NotAnIdentity {
        /// The file, as given.
        path: String,
    },
    /// The sealed bytes do not open for this context and identity.
    #[error(
        "the sealed secret of {context} does not open: it was altered, belongs to something else, or was sealed for another vault identity; restore it from a backup or set it again"
    )]
    Refused {
        /// What it should have been the secret of.
        context: Context,
    },
    /// The sealed bytes were written by a newer program.
    #[error(
        "the sealed secret of {context} has form {version}, which this program does not know; use the newer program that wrote it"
    )]
    Version {
        /// What it is the secret of.
        context: Context,
        /// The form's number.
        version: u8,
    },
    /// The secret is longer than [`MAX_SECRET_BYTES`].
    #[error("the secret of {context} is longer than {MAX_SECRET_BYTES} bytes; store a shorter one")]
    TooLong {
        /// What it is the secret of.
        context: Context,
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
}

/// What a secret is bound to: a purpose and the id of the row that it belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Context {
    purpose: &'static str,
    id: String,
}

impl Context {
    /// The secret of the account with this id.
    #[must_use]
    pub fn account(id: impl Into<String>) -> Self {
        Self::new("account", id)
    }

    /// The secret of another thing, such as a person's TOTP seed.
    #[must_use]
    pub fn new(purpose: &'static str, id: impl Into<String>) -> Self {
        Self { purpose, id: id.into() }
    }

    /// Additional data of the AEAD. Both parts carry their length, so that no two contexts share one form.
    fn additional_data(&self) -> Vec<u8> {
        let mut out = b"cofferdam sealed secret".to_vec();
        out.push(VERSION);
        for part in [self.purpose, &self.id] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.purpose, self.id)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Seals and opens secrets with the vault's age identity.
#[derive(Clone)]
pub struct Sealer {
    identity: Identity,
    recipient: Recipient,
    entropy: Arc<dyn Entropy>,
}

impl Sealer {
    /// Makes a new identity and writes it to `path`, in the form of `age-keygen`, with mode 0600.
    ///
    /// # Errors
    /// [`SealError::File`] when the file exists already or cannot be written.
    pub fn create(path: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, SealError> {
        let sealer = Self::ephemeral(entropy);
        let text =
            format!("# public key: {}\n{}\n", sealer.recipient, sealer.identity.to_string().expose_secret());
        keyfile::create(path, &SecretBytes::new(text.into_bytes()))?;
        Ok(sealer)
    }

    /// Loads the identity that [`create`](Self::create) or `age-keygen` wrote.
    ///
    /// # Errors
    /// [`SealError::File`] for a file that is missing or can be read by others, [`SealError::NotAnIdentity`]
    /// for another content.
    pub fn load(path: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, SealError> {
        let not_one = || SealError::NotAnIdentity { path: path.display().to_string() };
        let text = keyfile::load(path)?.to_text().map_err(|_| not_one())?;
        let line =
            text.expose().lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let identity = line.ok_or_else(not_one)?.parse::<Identity>().map_err(|_| not_one())?;
        Ok(Self::from_identity(identity, entropy))
    }

    /// A sealer whose identity is never written down: what it seals opens in this process only.
    #[must_use]
    pub fn ephemeral(entropy: Arc<dyn Entropy>) -> Self {
        Self::from_identity(Identity::generate(), entropy)
    }

    /// The public half of the identity (`age1…`), to show and to back up.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.recipient.to_string()
    }

    /// Encrypts `secret` so that it opens with this identity and exactly this `context`.
    ///
    /// # Errors
    /// [`SealError::TooLong`]; [`SealError::Entropy`] when there is no randomness.
    pub fn seal(&self, context: &Context, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        if secret.len() > MAX_SECRET_BYTES {
            return Err(SealError::TooLong { context: context.clone() });
        }
        let data_key = Zeroizing::new(entropy::bytes::<DATA_KEY_BYTES>(self.entropy.as_ref())?);
        let nonce = entropy::bytes::<NONCE_LEN>(self.entropy.as_ref())?;
        let wrapped = age::encrypt(&self.recipient, data_key.as_ref())
            .map_err(|_| SealError::Library { action: "wrap a data key" })?;
        let length =
            u16::try_from(wrapped.len()).map_err(|_| SealError::Library { action: "wrap a data key" })?;

        // The buffer is encrypted in place; room for the tag keeps the plaintext from being copied elsewhere.
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(secret.expose());
        cipher(&data_key)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.additional_data()),
                &mut *body,
            )
            .map_err(|_| SealError::Library { action: "encrypt a secret" })?;

        let mut out = Vec::with_capacity(1 + 2 + wrapped.len() + NONCE_LEN + body.len());
        out.push(VERSION);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&wrapped);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Opens what [`seal`](Self::seal) made for the same context.
    ///
    /// # Errors
    /// [`SealError::Refused`], which names the context, for anything altered, swapped or foreign;
    /// [`SealError::Version`] for a form that is not known.
    pub fn open(&self, context: &Context, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let refused = || SealError::Refused { context: context.clone() };
        let (&version, rest) = sealed.split_first().ok_or_else(refused)?;
        if version != VERSION {
            return Err(SealError::Version { context: context.clone(), version });
        }
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(refused)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > MAX_WRAPPED_BYTES {
            return Err(refused());
        }
        let (wrapped, rest) = rest.split_at_checked(length).ok_or_else(refused)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        if body.len() > MAX_SECRET_BYTES + AES_256_GCM.tag_len() {
            return Err(refused());
        }

        let unwrapped = age::decrypt(&self.identity, wrapped).map(Zeroizing::new).map_err(|_| refused())?;
        let data_key = <&[u8; DATA_KEY_BYTES]>::try_from(unwrapped.as_slice()).map_err(|_| refused())?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = cipher(data_key)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context.additional_data()),
                &mut plain,
            )
            .map_err(|_| refused())?
            .len();
        plain.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }

    fn from_identity(identity: Identity, entropy: Arc<dyn Entropy>) -> Self {
        let recipient = identity.to_public();
        Self { identity, recipient, entropy }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.recipient)
    }
}

fn cipher(data_key: &[u8; DATA_KEY_BYTES]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, data_key)
        .map(LessSafeKey::new)
        .map_err(|_| SealError::Library { action: "use a data key" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    fn sealer() -> Sealer {
        Sealer::ephemeral(Arc::new(SystemEntropy))
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_secret_is_refused() {
        let sealer = sealer();
        let context = Context::account("a1");
        let sealed = sealer.seal(&context, &SecretBytes::from(b"hunter2".to_vec())).unwrap();
        for at in 0..sealed.len() {
            // Bit 5 turns letters' case, bit 0 and 7 the rest: the textual part of age is covered too.
            for bit in [0, 5, 7] {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                assert!(sealer.open(&context, &altered).is_err(), "byte {at} bit {bit} went unnoticed");
            }
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(&context, &sealed[..length]).is_err(), "cut to {length}");
        }
        let mut longer = sealed;
        longer.push(0);
        assert!(sealer.open(&context, &longer).is_err());
    }

    #[test]
    fn a_row_swapped_with_another_is_refused_and_the_error_names_the_account() {
        let sealer = sealer();
        let sealed = sealer.seal(&Context::account("a1"), &SecretBytes::from(b"hunter2".to_vec())).unwrap();
        for other in [Context::account("a2"), Context::new("totp", "a1"), Context::new("accounta", "1")] {
            let text = sealer.open(&other, &sealed).unwrap_err().to_string();
            assert!(text.contains(&other.to_string()) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn another_identity_does_not_open_it() {
        let context = Context::account("a1");
        let sealed = sealer().seal(&context, &SecretBytes::from(b"x".to_vec())).unwrap();
        assert!(matches!(sealer().open(&context, &sealed), Err(SealError::Refused { .. })));
    }

    #[test]
    fn an_identity_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.age");
        let context = Context::account("a1");
        let made = Sealer::create(&path, Arc::new(SystemEntropy)).unwrap();
        let sealed = made.seal(&context, &SecretBytes::from(b"pw".to_vec())).unwrap();
        let loaded = Sealer::load(&path, Arc::new(SystemEntropy)).unwrap();
        assert_eq!(loaded.open(&context, &sealed).unwrap().expose(), b"pw");
        assert_eq!(made.recipient(), loaded.recipient());
        assert!(!format!("{made:?}").contains("SECRET"));
    }

    #[test]
    fn a_newer_form_is_named_as_such() {
        let error = sealer().open(&Context::account("a1"), &[9, 0, 0]).unwrap_err();
        assert!(matches!(error, SealError::Version { version: 9, .. }));
    }

    #[test]
    fn an_endless_secret_is_not_sealed() {
        let error = sealer().seal(&Context::account("a"), &SecretBytes::from(vec![0; MAX_SECRET_BYTES + 1]));
        assert!(matches!(error, Err(SealError::TooLong { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_sealed_opens_to_the_same_bytes(secret in proptest::collection::vec(any::<u8>(), 0..2000), id in ".{0,40}") {
            let sealer = sealer();
            let context = Context::account(id);
            let sealed = sealer.seal(&context, &SecretBytes::new(secret.clone())).unwrap();
            let opened = sealer.open(&context, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), secret.as_slice());
        }

        #[test]
        fn no_bytes_whatever_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut framed = vec![VERSION];
            framed.extend_from_slice(&bytes);
            prop_assert!(sealer().open(&Context::account("a"), &framed).is_err());
        }
    }
}
