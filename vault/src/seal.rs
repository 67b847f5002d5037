//! Sealing: how a secret rests in the database.
//!
//! Each secret has a data key of its own. The data key is wrapped by age to the newest generation of the keyring; the
//! secret is encrypted under it with AES-256-GCM, whose additional data is the [`Context`]. A row that is put in
//! another's place therefore does not open, and re-keying means wrapping data keys anew ([`Sealer::rewrap`]), not
//! touching the secrets.
//!
//! ```text
//! version     1 byte   0x02
//! generation  4 bytes  big-endian, of the key that the data key is wrapped to
//! length      2 bytes  big-endian, of the wrapped data key
//! wrapped     n bytes  an age v1 file (binary) that holds the 32-byte data key
//! nonce      12 bytes
//! body        m bytes  AES-256-GCM ciphertext and its 16-byte tag
//! ```
//!
//! Form 1 is the same without the generation, which is then 0: it is what a vault without a keyring writes, and stays
//! readable.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::keyfile::{self, KeyFileError};
use crate::keyring::{Generation, GenerationInfo, KeyringDocument, KeyringError, Ring};
use crate::root::{Root, VaultId};
use crate::secret::SecretBytes;

/// A form without a number of generation: it is 0.
const PLAIN: u8 = 1;
/// The form that names its generation.
const NUMBERED: u8 = 2;
/// The form of the body, part of its additional data. Both forms above share it, so that a secret of the first becomes
/// one of the second without being decrypted.
const BODY_FORM: u8 = 1;
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
    /// It was sealed under a generation that is not open here.
    #[error(
        "the sealed secret of {context} needs generation {generation} of the keyring, which is not open here: another node has re-keyed the vault, or the keyring is an old copy; read the keyring anew"
    )]
    UnknownGeneration {
        /// What it is the secret of.
        context: Context,
        /// The number of the generation.
        generation: u32,
    },
    /// The keyring could not be opened or changed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The process that holds the keys did not do it, and says why.
    #[error("{0}")]
    Process(String),
    /// Nobody has unsealed the vault yet, or somebody has sealed it again.
    #[error(
        "the vault is sealed: nothing that needs its keys works until it is open; run `cofferdam vault unseal`"
    )]
    Sealed,
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

    /// What kind of thing it is the secret of.
    #[must_use]
    pub fn purpose(&self) -> &'static str {
        self.purpose
    }

    /// The id of the thing.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Additional data of the AEAD. Both parts carry their length, so that no two contexts share one form.
    fn additional_data(&self) -> Vec<u8> {
        let mut out = b"cofferdam sealed secret".to_vec();
        out.push(BODY_FORM);
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

/// A change of the keyring that is not in use yet: store the document first, then [`Sealer::adopt`] it. In the other
/// order a crash would leave secrets behind that no stored keyring opens.
#[must_use = "a keyring that is not stored and adopted changes nothing"]
pub struct NextKeyring {
    document: KeyringDocument,
    ring: Ring,
}

impl NextKeyring {
    /// What to store.
    #[must_use]
    pub fn document(&self) -> &KeyringDocument {
        &self.document
    }

    /// The generation that seals once this is adopted.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.ring.newest().number
    }
}

impl fmt::Debug for NextKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NextKeyring(generation {})", self.generation())
    }
}

/// Where the keys are when they are in another process ([`crate::agent::Client`]). It seals, and opens as far as whoever
/// asks may: the process that faces the network may not.
pub trait KeyProcess: Send + Sync {
    /// As [`Sealer::seal`].
    ///
    /// # Errors
    /// [`SealError::Sealed`], or [`SealError::Process`] with what was said.
    fn seal(&self, context: &Context, secret: &SecretBytes) -> Result<Vec<u8>, SealError>;

    /// As [`Sealer::open`].
    ///
    /// # Errors
    /// As [`Self::seal`].
    fn open(&self, context: &Context, sealed: &[u8]) -> Result<SecretBytes, SealError>;

    /// As [`Sealer::recipient`].
    fn recipient(&self) -> String;
}

/// Seals and opens secrets with the vault's keyring, while it is open; or has it done by the process that holds the keys.
///
/// Clones share the keyring: one that is re-keyed re-keys all, one that is closed closes all. So a program hands out
/// clones when it starts, sealed, and opens them once somebody has unsealed the vault ([`crate::unseal::Gate`]).
#[derive(Clone)]
pub struct Sealer {
    state: Arc<RwLock<State>>,
    process: Option<Arc<dyn KeyProcess>>,
    entropy: Arc<dyn Entropy>,
}

/// What may be told stays when the keys have gone.
#[derive(Default)]
struct State {
    ring: Option<Arc<Ring>>,
    recipient: String,
}

impl Sealer {
    /// One that is closed: everything answers [`SealError::Sealed`] until a keyring is put in.
    #[must_use]
    pub fn sealed(entropy: Arc<dyn Entropy>) -> Self {
        Self { state: Arc::default(), process: None, entropy }
    }

    /// One that holds no key: `process` is asked each time.
    #[must_use]
    pub fn elsewhere(process: Arc<dyn KeyProcess>, entropy: Arc<dyn Entropy>) -> Self {
        Self { state: Arc::default(), process: Some(process), entropy }
    }

    /// Makes a new identity and writes it to `path`, in the form of `age-keygen`, with mode 0600.
    ///
    /// # Errors
    /// [`SealError::File`] when the file exists already or cannot be written.
    pub fn create(path: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, SealError> {
        let root = Root::generate(entropy.as_ref())?;
        let text = root.to_text().map_err(|_| SealError::Library { action: "write an identity" })?;
        keyfile::create(path, &SecretBytes::from(&text))?;
        Self::from_root(&root, entropy)
    }

    /// Loads the identity that [`create`](Self::create) or `age-keygen` wrote.
    ///
    /// # Errors
    /// [`SealError::File`] for a file that is missing or can be read by others, [`SealError::NotAnIdentity`]
    /// for another content.
    pub fn load(path: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, SealError> {
        let root = Root::from_content(&keyfile::load(path)?)
            .map_err(|_| SealError::NotAnIdentity { path: path.display().to_string() })?;
        Self::from_root(&root, entropy)
    }

    /// A vault without a keyring: the root itself is generation 0. [`rekey`](Self::rekey) gives it one.
    ///
    /// # Errors
    /// [`SealError::Keyring`] when the library refuses.
    pub fn from_root(root: &Root, entropy: Arc<dyn Entropy>) -> Result<Self, SealError> {
        Ok(Self::over(Ring::of_root(root)?, entropy))
    }

    /// A new vault's keyring with its first generation, to be stored. `now` is in UTC microseconds.
    ///
    /// # Errors
    /// [`KeyringError::Entropy`] when there is no randomness.
    pub fn new_keyring(
        root: &Root,
        entropy: &dyn Entropy,
        now: i64,
    ) -> Result<KeyringDocument, KeyringError> {
        Ring::first(root, entropy, now)?.seal(entropy)
    }

    /// Opens a stored keyring: one decryption, however many secrets there are.
    ///
    /// # Errors
    /// [`SealError::Keyring`] when it is another vault's, or was altered.
    pub fn open_keyring(
        root: &Root,
        document: &KeyringDocument,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, SealError> {
        Ok(Self::over(Ring::open(root, document)?, entropy))
    }

    /// A sealer whose identity is never written down: what it seals opens in this process only.
    ///
    /// # Panics
    /// When the machine's random source fails: there is nothing that such a sealer could be made of.
    #[must_use]
    pub fn ephemeral(entropy: Arc<dyn Entropy>) -> Self {
        let made = Root::generate(entropy.as_ref()).map_err(SealError::from);
        match made.and_then(|root| Self::from_root(&root, Arc::clone(&entropy))) {
            Ok(sealer) => sealer,
            Err(e) => panic!("{e}"),
        }
    }

    /// The public half of the newest generation (`age1…`); empty if the vault has not been open yet.
    #[must_use]
    pub fn recipient(&self) -> String {
        if let Some(process) = &self.process {
            return process.recipient();
        }
        self.state.read().unwrap_or_else(PoisonError::into_inner).recipient.clone()
    }

    /// The vault whose keyring is open.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn vault_id(&self) -> Result<VaultId, SealError> {
        Ok(self.ring()?.vault_id())
    }

    /// The number of the generation that seals now.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn generation(&self) -> Result<u32, SealError> {
        Ok(self.ring()?.newest().number)
    }

    /// All generations that are open, the oldest first.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, SealError> {
        Ok(self.ring()?.list())
    }

    /// One generation more, which seals everything from its adoption on; all before it stay readable. `now` is in UTC
    /// microseconds.
    ///
    /// # Errors
    /// [`KeyringError::Full`]; [`KeyringError::Entropy`] when there is no randomness.
    pub fn rekey(&self, now: i64) -> Result<NextKeyring, SealError> {
        self.next(self.ring()?.with_next(self.entropy.as_ref(), now)?)
    }

    /// The same generations under another root: for a new passphrase, token or set of shares.
    ///
    /// # Errors
    /// [`KeyringError::Entropy`] when there is no randomness.
    pub fn reroot(&self, root: &Root) -> Result<NextKeyring, SealError> {
        self.next(self.ring()?.under(root)?)
    }

    /// Without a generation: only when [`rewrap`](Self::rewrap) has had every secret, or they are lost.
    ///
    /// # Errors
    /// [`KeyringError::NotRetirable`] for the newest one, or one that is not there.
    pub fn retire(&self, generation: u32) -> Result<NextKeyring, SealError> {
        self.next(self.ring()?.without(generation)?)
    }

    /// Takes a stored change into use, in all clones at once. What is being sealed or opened meanwhile is not disturbed; a
    /// vault that was sealed meanwhile stays so.
    pub fn adopt(&self, next: NextKeyring) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.ring.is_some() {
            *state = State::of(next.ring);
        }
    }

    /// Takes a keyring into use that another process stored; answers the generation that seals now.
    ///
    /// # Errors
    /// [`KeyringError::Stale`] for an old copy, [`KeyringError::Foreign`] after a change of the root: unseal anew then.
    pub fn refresh(&self, document: &KeyringDocument) -> Result<u32, SealError> {
        let ring = self.ring()?.reopen(document)?;
        let number = ring.newest().number;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::of(ring);
        Ok(number)
    }

    /// Opens all clones with `root`: by its keyring, or by the root itself for a vault that has none.
    pub(crate) fn unlock(&self, root: &Root, document: Option<&KeyringDocument>) -> Result<(), KeyringError> {
        let ring = match document {
            Some(document) => Ring::open(root, document)?,
            None => Ring::of_root(root)?,
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::of(ring);
        Ok(())
    }

    /// Closes all clones: the keys are wiped as soon as the last use that is going on has ended.
    pub(crate) fn lock(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).ring = None;
    }

    /// Encrypts `secret` so that it opens with this keyring and exactly this `context`.
    ///
    /// # Errors
    /// [`SealError::TooLong`]; [`SealError::Entropy`] when there is no randomness.
    pub fn seal(&self, context: &Context, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        if secret.len() > MAX_SECRET_BYTES {
            return Err(SealError::TooLong { context: context.clone() });
        }
        if let Some(process) = &self.process {
            return process.seal(context, secret);
        }
        let ring = self.ring()?;
        let data_key = Zeroizing::new(entropy::bytes::<DATA_KEY_BYTES>(self.entropy.as_ref())?);
        let nonce = entropy::bytes::<NONCE_LEN>(self.entropy.as_ref())?;

        // The buffer is encrypted in place; room for the tag keeps the plaintext from being copied elsewhere.
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(secret.expose());
        data_cipher(&data_key)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.additional_data()),
                &mut *body,
            )
            .map_err(|_| SealError::Library { action: "encrypt a secret" })?;
        let mut out = wrap(ring.newest(), &data_key)?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Opens what [`seal`](Self::seal) made for the same context.
    ///
    /// # Errors
    /// [`SealError::Refused`], which names the context, for anything altered, swapped or foreign;
    /// [`SealError::UnknownGeneration`] for a key that is not open here; [`SealError::Version`] for a form that is not
    /// known.
    pub fn open(&self, context: &Context, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        if let Some(process) = &self.process {
            return process.open(context, sealed);
        }
        let refused = || SealError::Refused { context: context.clone() };
        let parts = Parts::of(context, sealed)?;
        let (nonce, body) = parts.rest.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        if body.len() > MAX_SECRET_BYTES + AES_256_GCM.tag_len() {
            return Err(refused());
        }
        let data_key = unwrap(&*self.ring()?, context, &parts)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = data_cipher(&data_key)?
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

    /// The same secret with its data key wrapped to the newest generation; none when it is already. The ciphertext of the
    /// secret is copied as it is, and its plaintext never comes to be.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that damage of the ciphertext itself is found only when it is opened.
    pub fn rewrap(&self, context: &Context, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let parts = Parts::of(context, sealed)?;
        let ring = self.ring()?;
        if parts.generation == ring.newest().number {
            return Ok(None);
        }
        let data_key = unwrap(&ring, context, &parts)?;
        let mut out = wrap(ring.newest(), &data_key)?;
        out.extend_from_slice(parts.rest);
        Ok(Some(out))
    }

    /// The generation that a sealed secret needs: for counting what is left to re-wrap before one is retired.
    ///
    /// # Errors
    /// [`SealError::Refused`] and [`SealError::Version`] for what is no sealed secret.
    pub fn generation_of(context: &Context, sealed: &[u8]) -> Result<u32, SealError> {
        Parts::of(context, sealed).map(|parts| parts.generation)
    }

    fn next(&self, ring: Ring) -> Result<NextKeyring, SealError> {
        Ok(NextKeyring { document: ring.seal(self.entropy.as_ref())?, ring })
    }

    fn ring(&self) -> Result<Arc<Ring>, SealError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match (&state.ring, &self.process) {
            (Some(ring), _) => Ok(Arc::clone(ring)),
            (None, None) => Err(SealError::Sealed),
            (None, Some(_)) => Err(SealError::Process(
                "the keys are in the vault process, which alone changes its keyring; use `cofferdam vault`"
                    .into(),
            )),
        }
    }

    fn over(ring: Ring, entropy: Arc<dyn Entropy>) -> Self {
        Self { state: Arc::new(RwLock::new(State::of(ring))), process: None, entropy }
    }
}

impl State {
    fn of(ring: Ring) -> Self {
        Self { recipient: ring.newest().recipient.to_string(), ring: Some(Arc::new(ring)) }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.recipient())
    }
}

/// A sealed secret, taken apart but not opened.
struct Parts<'a> {
    generation: u32,
    wrapped: &'a [u8],
    /// Nonce and body.
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(context: &Context, sealed: &'a [u8]) -> Result<Self, SealError> {
        let refused = || SealError::Refused { context: context.clone() };
        let (&version, rest) = sealed.split_first().ok_or_else(refused)?;
        let (generation, rest) = match version {
            PLAIN => (0, rest),
            NUMBERED => {
                let (number, rest) = rest.split_first_chunk::<4>().ok_or_else(refused)?;
                (u32::from_be_bytes(*number), rest)
            }
            _ => return Err(SealError::Version { context: context.clone(), version }),
        };
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(refused)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > MAX_WRAPPED_BYTES {
            return Err(refused());
        }
        let (wrapped, rest) = rest.split_at_checked(length).ok_or_else(refused)?;
        Ok(Self { generation, wrapped, rest })
    }
}

fn unwrap(
    ring: &Ring,
    context: &Context,
    parts: &Parts<'_>,
) -> Result<Zeroizing<[u8; DATA_KEY_BYTES]>, SealError> {
    let refused = || SealError::Refused { context: context.clone() };
    let generation = ring.generation(parts.generation).ok_or_else(|| SealError::UnknownGeneration {
        context: context.clone(),
        generation: parts.generation,
    })?;
    let unwrapped =
        age::decrypt(&generation.identity, parts.wrapped).map(Zeroizing::new).map_err(|_| refused())?;
    <[u8; DATA_KEY_BYTES]>::try_from(unwrapped.as_slice()).map(Zeroizing::new).map_err(|_| refused())
}

/// The head of a sealed secret: everything before the nonce.
fn wrap(generation: &Generation, data_key: &[u8; DATA_KEY_BYTES]) -> Result<Vec<u8>, SealError> {
    let library = || SealError::Library { action: "wrap a data key" };
    let wrapped = age::encrypt(&generation.recipient, data_key).map_err(|_| library())?;
    let length = u16::try_from(wrapped.len()).map_err(|_| library())?;
    let mut out = match generation.number {
        0 => vec![PLAIN],
        number => [&[NUMBERED][..], &number.to_be_bytes()].concat(),
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&wrapped);
    Ok(out)
}

fn data_cipher(data_key: &[u8; DATA_KEY_BYTES]) -> Result<LessSafeKey, SealError> {
    cipher(data_key).ok_or(SealError::Library { action: "use a data key" })
}

/// AES-256-GCM under `key`.
pub(crate) fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).ok()
}

#[cfg(test)]
mod tests;
