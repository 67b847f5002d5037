//! The keyring: generations of vault keys, several of them open at once, the newest one in use for what is sealed now.
//!
//! Each generation is an age X25519 identity; the data keys of secrets are wrapped to its public half. All generations
//! lie in one document, sealed under a key that only the root gives: who can write the database can neither add a
//! generation of their own (and so read what is sealed from then on) nor take one away unnoticed.
//!
//! ```text
//! version   1 byte   0x01
//! vault     8 bytes  the root's VaultId
//! nonce    12 bytes
//! body               AES-256-GCM over: count 2 bytes, then per generation
//!                    number 4 bytes, made at 8 bytes (UTC microseconds), secret 32 bytes; all big-endian
//! tag      16 bytes
//! ```
//!
//! Generation 0 is the identity that [`Sealer::create`](crate::Sealer::create) wrote before there was a keyring: it is
//! a member like any other, so that the root can be exchanged without touching what it once sealed.

use std::collections::BTreeMap;
use std::fmt;

use age::x25519::{Identity, Recipient};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::root::{NotARoot, ROOT_BYTES, Root, VaultId};
use crate::seal::cipher;

const VERSION: u8 = 1;
const GENERATION_BYTES: usize = 4 + 8 + ROOT_BYTES;
/// A re-keying every week fills it after twenty years; old generations are retired long before.
pub const MAX_GENERATIONS: usize = 1024;

/// Why a keyring does not open, or cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It was sealed under another root.
    #[error(
        "the keyring belongs to vault {found}, and the identity opens vault {given}; give the identity of vault {found}, or restore the keyring that belongs to this one"
    )]
    Foreign {
        /// Whose it is.
        found: VaultId,
        /// Whose identity was given.
        given: VaultId,
    },
    /// It was altered or cut.
    #[error("the keyring of vault {vault} does not open: it was altered; restore it from a backup")]
    Altered {
        /// Whose it is.
        vault: VaultId,
    },
    /// It is no keyring at all.
    #[error("these bytes are no keyring; restore it from a backup")]
    NotAKeyring,
    /// It was written by a newer program.
    #[error(
        "the keyring has form {0}, which this program does not know; use the newer program that wrote it"
    )]
    Version(u8),
    /// It lacks a generation that is open here.
    #[error(
        "the keyring lacks generation {0}, which is in use here: it is an old copy; restore the newest one"
    )]
    Stale(u32),
    /// There is no room for one more.
    #[error("the keyring holds {MAX_GENERATIONS} generations; retire those that no secret uses any more")]
    Full,
    /// The newest generation, or one that is not there, was to be retired.
    #[error("generation {0} cannot be retired: it is the newest one, or is not in the keyring")]
    NotRetirable(u32),
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

impl From<NotARoot> for KeyringError {
    fn from(_: NotARoot) -> Self {
        Self::Library { action: "use a generation's key" }
    }
}

/// A sealed keyring, as the store or a file keeps it. Says nothing without the root.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyringDocument(Vec<u8>);

impl KeyringDocument {
    /// From what was stored.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The vault that it says it belongs to, not yet proven; none for bytes that are no keyring.
    #[must_use]
    pub fn vault_id(&self) -> Option<VaultId> {
        self.0.get(1..1 + VaultId::BYTES)?.try_into().ok().map(VaultId::from_bytes)
    }
}

impl fmt::Debug for KeyringDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyringDocument({} bytes)", self.0.len())
    }
}

/// One generation, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Its number; the newest one seals.
    pub number: u32,
    /// When it was made, in UTC microseconds; 0 for an identity from before there was a keyring.
    pub made_at: i64,
    /// Its public half (`age1…`).
    pub recipient: String,
}

/// One generation's key.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) identity: Identity,
    pub(crate) recipient: Recipient,
    secret: Zeroizing<[u8; ROOT_BYTES]>,
    made_at: i64,
}

impl Generation {
    fn from_secret(number: u32, made_at: i64, secret: &[u8]) -> Result<Self, NotARoot> {
        let root = Root::from_secret(secret)?;
        let identity = root.identity().clone();
        Ok(Self {
            number,
            recipient: identity.to_public(),
            identity,
            secret: Zeroizing::new(*root.expose()),
            made_at,
        })
    }
}

/// All generations that are open, and the key that their document is sealed under.
#[derive(Clone)]
pub(crate) struct Ring {
    vault: VaultId,
    seal_key: Zeroizing<[u8; ROOT_BYTES]>,
    older: BTreeMap<u32, Generation>,
    newest: Generation,
}

impl Ring {
    /// The simplest one: the root itself is generation 0, and there is no document.
    pub(crate) fn of_root(root: &Root) -> Result<Self, KeyringError> {
        Ok(Self {
            vault: root.vault_id(),
            seal_key: root.ring_key()?,
            older: BTreeMap::new(),
            newest: Generation::from_secret(0, 0, root.expose())?,
        })
    }

    /// A new vault's: one fresh generation, and the root is nothing but the root.
    pub(crate) fn first(root: &Root, entropy: &dyn Entropy, now: i64) -> Result<Self, KeyringError> {
        let secret = Zeroizing::new(entropy::bytes::<ROOT_BYTES>(entropy)?);
        Ok(Self {
            vault: root.vault_id(),
            seal_key: root.ring_key()?,
            older: BTreeMap::new(),
            newest: Generation::from_secret(1, now, secret.as_ref())?,
        })
    }

    pub(crate) fn open(root: &Root, document: &KeyringDocument) -> Result<Self, KeyringError> {
        Self::open_with(root.vault_id(), root.ring_key()?, document)
    }

    /// A document that another process wrote under the same root; refused if it lacks what is open here.
    pub(crate) fn reopen(&self, document: &KeyringDocument) -> Result<Self, KeyringError> {
        let next = Self::open_with(self.vault, self.seal_key.clone(), document)?;
        match self.newest.number > next.newest.number {
            true => Err(KeyringError::Stale(self.newest.number)),
            false => Ok(next),
        }
    }

    fn open_with(
        given: VaultId,
        seal_key: Zeroizing<[u8; ROOT_BYTES]>,
        document: &KeyringDocument,
    ) -> Result<Self, KeyringError> {
        let (&version, rest) = document.0.split_first().ok_or(KeyringError::NotAKeyring)?;
        if version != VERSION {
            return Err(KeyringError::Version(version));
        }
        let (found, rest) =
            rest.split_first_chunk::<{ VaultId::BYTES }>().ok_or(KeyringError::NotAKeyring)?;
        let found = VaultId::from_bytes(*found);
        if found != given {
            return Err(KeyringError::Foreign { found, given });
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeyringError::NotAKeyring)?;
        if body.len() > 2 + MAX_GENERATIONS * GENERATION_BYTES + AES_256_GCM.tag_len() {
            return Err(KeyringError::NotAKeyring);
        }
        let altered = || KeyringError::Altered { vault: found };
        let mut plain = Zeroizing::new(body.to_vec());
        let length = cipher(&seal_key)
            .ok_or(KeyringError::Library { action: "use the keyring's key" })?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(additional_data(found)),
                &mut plain,
            )
            .map_err(|_| altered())?
            .len();
        plain.truncate(length);
        let mut all = parse(&plain).ok_or_else(altered)?;
        let (_, newest) = all.pop_last().ok_or_else(altered)?;
        Ok(Self { vault: given, seal_key, older: all, newest })
    }

    pub(crate) fn seal(&self, entropy: &dyn Entropy) -> Result<KeyringDocument, KeyringError> {
        let count = self.older.len() + 1;
        let capacity = 2 + count * GENERATION_BYTES + AES_256_GCM.tag_len();
        let mut body = Zeroizing::new(Vec::with_capacity(capacity));
        body.extend_from_slice(&u16::try_from(count).map_err(|_| KeyringError::Full)?.to_be_bytes());
        for generation in self.all() {
            body.extend_from_slice(&generation.number.to_be_bytes());
            body.extend_from_slice(&generation.made_at.to_be_bytes());
            body.extend_from_slice(generation.secret.as_ref());
        }
        let nonce = entropy::bytes::<NONCE_LEN>(entropy)?;
        let library = || KeyringError::Library { action: "seal the keyring" };
        cipher(&self.seal_key)
            .ok_or_else(library)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(additional_data(self.vault)),
                &mut *body,
            )
            .map_err(|_| library())?;
        let mut out = vec![VERSION];
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&body);
        Ok(KeyringDocument(out))
    }

    /// The same with one generation more, which becomes the newest.
    pub(crate) fn with_next(&self, entropy: &dyn Entropy, now: i64) -> Result<Self, KeyringError> {
        if self.older.len() + 1 >= MAX_GENERATIONS {
            return Err(KeyringError::Full);
        }
        let number = self.newest.number.checked_add(1).ok_or(KeyringError::Full)?;
        let secret = Zeroizing::new(entropy::bytes::<ROOT_BYTES>(entropy)?);
        let mut next = self.clone();
        let before =
            std::mem::replace(&mut next.newest, Generation::from_secret(number, now, secret.as_ref())?);
        next.older.insert(before.number, before);
        Ok(next)
    }

    /// The same without a generation that nothing is wrapped to any more.
    pub(crate) fn without(&self, number: u32) -> Result<Self, KeyringError> {
        let mut next = self.clone();
        next.older.remove(&number).ok_or(KeyringError::NotRetirable(number))?;
        Ok(next)
    }

    /// The same generations under another root.
    pub(crate) fn under(&self, root: &Root) -> Result<Self, KeyringError> {
        Ok(Self { vault: root.vault_id(), seal_key: root.ring_key()?, ..self.clone() })
    }

    pub(crate) fn newest(&self) -> &Generation {
        &self.newest
    }

    pub(crate) fn generation(&self, number: u32) -> Option<&Generation> {
        if number == self.newest.number { Some(&self.newest) } else { self.older.get(&number) }
    }

    pub(crate) fn vault_id(&self) -> VaultId {
        self.vault
    }

    pub(crate) fn list(&self) -> Vec<GenerationInfo> {
        self.all()
            .map(|g| GenerationInfo {
                number: g.number,
                made_at: g.made_at,
                recipient: g.recipient.to_string(),
            })
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = &Generation> {
        self.older.values().chain(std::iter::once(&self.newest))
    }
}

fn additional_data(vault: VaultId) -> Vec<u8> {
    let mut out = b"cofferdam keyring".to_vec();
    out.push(VERSION);
    out.extend_from_slice(vault.as_bytes());
    out
}

/// What the tag vouches for is still parsed strictly: a fault of ours must not become half a keyring.
fn parse(plain: &[u8]) -> Option<BTreeMap<u32, Generation>> {
    let (count, rest) = plain.split_first_chunk::<2>()?;
    let (entries, rest) = rest.as_chunks::<GENERATION_BYTES>();
    if !rest.is_empty() || usize::from(u16::from_be_bytes(*count)) != entries.len() {
        return None;
    }
    let mut all = BTreeMap::new();
    for entry in entries {
        let (number, rest) = entry.split_first_chunk::<4>()?;
        let (made_at, secret) = rest.split_first_chunk::<8>()?;
        let number = u32::from_be_bytes(*number);
        let generation = Generation::from_secret(number, i64::from_be_bytes(*made_at), secret).ok()?;
        if all.insert(number, generation).is_some() {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    fn root() -> Root {
        Root::generate(&SystemEntropy).unwrap()
    }

    #[test]
    fn a_keyring_survives_its_document_with_all_its_generations() {
        let root = root();
        let ring = Ring::first(&root, &SystemEntropy, 7).unwrap();
        let ring = ring.with_next(&SystemEntropy, 8).unwrap().with_next(&SystemEntropy, 9).unwrap();
        let document = ring.seal(&SystemEntropy).unwrap();
        assert_eq!(document.vault_id(), Some(root.vault_id()));
        let again = Ring::open(&root, &document).unwrap();
        assert_eq!(again.list(), ring.list());
        assert_eq!(again.newest().number, 3);
        assert_eq!(again.list().iter().map(|g| g.made_at).collect::<Vec<_>>(), [7, 8, 9]);
    }

    #[test]
    fn every_flipped_byte_of_a_keyring_is_refused() {
        let root = root();
        let document = Ring::first(&root, &SystemEntropy, 7).unwrap().seal(&SystemEntropy).unwrap();
        for at in 0..document.0.len() {
            let mut altered = document.clone();
            altered.0[at] ^= 0x10;
            assert!(Ring::open(&root, &altered).is_err(), "byte {at}");
            assert!(Ring::open(&root, &KeyringDocument(document.0[..at].to_vec())).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn the_keyring_of_another_vault_says_whose_it_is() {
        let (mine, theirs) = (root(), root());
        let document = Ring::first(&theirs, &SystemEntropy, 7).unwrap().seal(&SystemEntropy).unwrap();
        let text = Ring::open(&mine, &document).err().unwrap().to_string();
        assert!(text.contains(&theirs.vault_id().to_string()), "{text}");
    }

    #[test]
    fn who_can_write_the_database_cannot_add_a_generation() {
        // They know the public half and the form, but not the key that the document is sealed under.
        let (mine, theirs) = (root(), root());
        let mut forged = Ring::first(&theirs, &SystemEntropy, 7).unwrap();
        forged.vault = mine.vault_id();
        let error = Ring::open(&mine, &forged.seal(&SystemEntropy).unwrap()).err().unwrap();
        assert!(matches!(error, KeyringError::Altered { .. }));
    }

    #[test]
    fn an_old_copy_of_the_keyring_does_not_replace_a_newer_one() {
        let root = root();
        let first = Ring::first(&root, &SystemEntropy, 7).unwrap();
        let second = first.with_next(&SystemEntropy, 8).unwrap();
        let old = first.seal(&SystemEntropy).unwrap();
        assert!(matches!(second.reopen(&old), Err(KeyringError::Stale(2))));
        assert_eq!(first.reopen(&second.seal(&SystemEntropy).unwrap()).unwrap().newest().number, 2);
    }

    #[test]
    fn the_newest_generation_cannot_be_retired() {
        let ring = Ring::first(&root(), &SystemEntropy, 7).unwrap().with_next(&SystemEntropy, 8).unwrap();
        assert!(matches!(ring.without(2), Err(KeyringError::NotRetirable(2))));
        assert_eq!(ring.without(1).unwrap().list().len(), 1);
    }
}
