//! The root wrapped by a key that never leaves a PKCS#11 token: an HSM, a smart card, or SoftHSM in tests.
//!
//! The root itself is encrypted (RSA-OAEP or AES-GCM) and kept in a file; only the token decrypts it. Who exchanges that
//! file for one of their own gets no further than the keyring, which is sealed under the true root. The token's module is
//! a library of its maker, loaded when it is needed and not before; it runs inside the vault process and is trusted.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use zeroize::Zeroizing;

use super::UnsealError;
use crate::entropy::{self, Entropy};
use crate::keyfile;
use crate::root::{Root, VaultId};
use crate::secret::SecretBytes;

const TITLE: &str = "cofferdam root wrapped by a PKCS#11 token, form 1";
const IV_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
/// RSA of 8192 bits gives 1024 bytes.
const MAX_WRAPPED: usize = 4096;

/// Why the token did not do it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module is not there, or is none.
    #[error(
        "{module} is no PKCS#11 module that can be loaded ({reason}); install the token's driver, or correct the path"
    )]
    Module {
        /// The path.
        module: PathBuf,
        /// Why.
        reason: String,
    },
    /// No token of that name.
    #[error("there is no token {wanted:?}; connect it. There are: {found}")]
    NoToken {
        /// Its label.
        wanted: String,
        /// The labels of those that are there.
        found: String,
    },
    /// The PIN is wrong.
    #[error(
        "token {0:?} does not take the PIN; correct the PIN's file before it locks itself, which some do after three tries"
    )]
    WrongPin(String),
    /// The PIN is locked.
    #[error("token {0:?} has locked its PIN; unlock it with its maker's tool")]
    Locked(String),
    /// No such key, or several.
    #[error(
        "token {token:?} has {found} keys {key:?} that can be used for this; there has to be exactly one"
    )]
    Key {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// How many.
        found: usize,
    },
    /// The file is no wrapped root.
    #[error("{0} holds no root wrapped by a token; restore it from a backup")]
    NotWrapped(PathBuf),
    /// The token decrypted something else.
    #[error(
        "what token {token:?} decrypted is not the root of vault {vault}; it was wrapped by another key, or altered"
    )]
    NotTheRoot {
        /// The token's label.
        token: String,
        /// The vault.
        vault: VaultId,
    },
    /// The token's own word.
    #[error("token {token:?} could not {action}: {reason}; look at the token with its maker's tool")]
    Refused {
        /// The token's label.
        token: String,
        /// What was being done.
        action: &'static str,
        /// What it said.
        reason: String,
    },
}

/// How the root is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCipher {
    /// RSA-OAEP with SHA-256: what to take where the token can.
    RsaOaepSha256,
    /// RSA-OAEP with SHA-1, for older tokens (and SoftHSM 2): OAEP does not need a hash without collisions.
    RsaOaepSha1,
    /// AES-256-GCM, for tokens with secret keys.
    AesGcm,
}

impl TokenCipher {
    const ALL: [Self; 3] = [Self::RsaOaepSha256, Self::RsaOaepSha1, Self::AesGcm];

    /// Its name in the file and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaepSha256 => "rsa-oaep-sha256",
            Self::RsaOaepSha1 => "rsa-oaep-sha1",
            Self::AesGcm => "aes-gcm",
        }
    }

    /// By that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// The class of the key that encrypts, and of the one that decrypts, and what both are.
    fn keys(self) -> (ObjectClass, ObjectClass, KeyType) {
        match self {
            Self::RsaOaepSha256 | Self::RsaOaepSha1 => {
                (ObjectClass::PUBLIC_KEY, ObjectClass::PRIVATE_KEY, KeyType::RSA)
            }
            Self::AesGcm => (ObjectClass::SECRET_KEY, ObjectClass::SECRET_KEY, KeyType::AES),
        }
    }
}

/// Which key on which token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The module: a shared library, by its whole path.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
    /// The file with the PIN (mode 0600).
    pub pin_file: PathBuf,
}

/// A root that only the token opens; safe to store.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedRoot {
    vault: VaultId,
    cipher: TokenCipher,
    iv: Vec<u8>,
    wrapped: Vec<u8>,
}

impl fmt::Debug for WrappedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedRoot(vault {}, {})", self.vault, self.cipher.as_str())
    }
}

impl WrappedRoot {
    /// The vault whose root it is.
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        self.vault
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    /// [`UnsealError::File`].
    pub fn create(&self, path: &Path) -> Result<(), UnsealError> {
        let text = format!(
            "# {TITLE}\nvault: {}\ncipher: {}\niv: {}\nwrapped: {}\n",
            self.vault,
            self.cipher.as_str(),
            STANDARD.encode(&self.iv),
            STANDARD.encode(&self.wrapped)
        );
        Ok(keyfile::create(path, &SecretBytes::new(text.into_bytes()))?)
    }

    /// Reads what [`create`](Self::create) wrote.
    ///
    /// # Errors
    /// [`UnsealError::File`], [`TokenError::NotWrapped`].
    pub fn load(path: &Path) -> Result<Self, UnsealError> {
        let content = keyfile::load(path)?;
        let text = content.to_text().ok();
        let parsed = text.and_then(|text| Self::parse(text.expose()));
        Ok(parsed.ok_or_else(|| TokenError::NotWrapped(path.to_owned()))?)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|l| !l.starts_with('#'));
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(": ");
        let vault: [u8; VaultId::BYTES] = hex::decode(value("vault")?).ok()?.try_into().ok()?;
        let cipher = TokenCipher::from_name(value("cipher")?)?;
        let iv = STANDARD.decode(value("iv")?).ok()?;
        let wrapped = STANDARD.decode(value("wrapped")?).ok().filter(|w| w.len() <= MAX_WRAPPED)?;
        let iv_fits = iv.len() == if cipher == TokenCipher::AesGcm { IV_BYTES } else { 0 };
        iv_fits.then_some(Self { vault: VaultId::from_bytes(vault), cipher, iv, wrapped })
    }
}

impl Token {
    /// Wraps a root by the token's key.
    ///
    /// # Errors
    /// [`UnsealError::Token`]; [`UnsealError::File`] for the PIN's file.
    pub fn wrap(
        &self,
        root: &Root,
        cipher: TokenCipher,
        entropy: &dyn Entropy,
    ) -> Result<WrappedRoot, UnsealError> {
        let mut iv = match cipher {
            TokenCipher::AesGcm => entropy::bytes::<IV_BYTES>(entropy)
                .map_err(|_| UnsealError::Library { action: "make an initialisation vector" })?
                .to_vec(),
            _ => Vec::new(),
        };
        let vault = root.vault_id();
        let wrapped = self.with_key(cipher, cipher.keys().0, |session, key| {
            self.cipher(cipher, &mut iv, vault, |mechanism| session.encrypt(mechanism, key, root.expose()))
                .map_err(|e| self.refused("wrap the root", &e))
        })?;
        Ok(WrappedRoot { vault, cipher, iv, wrapped })
    }

    /// Has the token open what [`wrap`](Self::wrap) made.
    ///
    /// # Errors
    /// [`UnsealError::Token`]; [`UnsealError::File`] for the PIN's file.
    pub fn unwrap(&self, wrapped: &WrappedRoot) -> Result<Root, UnsealError> {
        let (vault, mut iv) = (wrapped.vault, wrapped.iv.clone());
        let not_the_root = || TokenError::NotTheRoot { token: self.token.clone(), vault };
        let secret = self.with_key(wrapped.cipher, wrapped.cipher.keys().1, |session, key| {
            self.cipher(wrapped.cipher, &mut iv, vault, |mechanism| {
                session.decrypt(mechanism, key, &wrapped.wrapped).map(Zeroizing::new)
            })
            .map_err(|e| match e {
                Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange, _) => {
                    not_the_root()
                }
                e => self.refused("unwrap the root", &e),
            })
        })?;
        let root = Root::from_secret(&secret).map_err(|_| not_the_root())?;
        if root.vault_id() == vault { Ok(root) } else { Err(not_the_root().into()) }
    }

    /// Runs `work` with the mechanism. The vault's name is authenticated with the root where the cipher can.
    fn cipher<T>(
        &self,
        cipher: TokenCipher,
        iv: &mut [u8],
        vault: VaultId,
        work: impl FnOnce(&Mechanism<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let oaep =
            |hash, mgf| Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()));
        match cipher {
            TokenCipher::RsaOaepSha256 => work(&oaep(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)),
            TokenCipher::RsaOaepSha1 => work(&oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1)),
            TokenCipher::AesGcm => {
                work(&Mechanism::AesGcm(GcmParams::new(iv, vault.as_bytes(), TAG_BITS.into())?))
            }
        }
    }

    /// Logs in, finds the key, works, and leaves the module as it was.
    fn with_key<T>(
        &self,
        cipher: TokenCipher,
        class: ObjectClass,
        work: impl FnOnce(&Session, ObjectHandle) -> Result<T, TokenError>,
    ) -> Result<T, UnsealError> {
        let module = self.load_module()?;
        let done = self.session(&module).and_then(|session| {
            let key = self.find(&session, class, cipher.keys().2)?;
            let done = work(&session, key)?;
            session.logout().map_err(|e| self.refused("log out", &e))?;
            Ok(done)
        });
        let ended = module.finalize();
        let done = done?;
        ended.map_err(|e| self.refused("be left", &e))?;
        Ok(done)
    }

    fn load_module(&self) -> Result<Pkcs11, TokenError> {
        let fault = |e: Error| TokenError::Module { module: self.module.clone(), reason: e.to_string() };
        // A name without a path would be looked for where others may write.
        if !self.module.is_absolute() {
            let reason = "the path is not absolute".to_owned();
            return Err(TokenError::Module { module: self.module.clone(), reason });
        }
        let module = Pkcs11::new(&self.module).map_err(fault)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(fault)?;
        Ok(module)
    }

    fn session(&self, module: &Pkcs11) -> Result<Session, UnsealError> {
        let session =
            module.open_ro_session(self.slot(module)?).map_err(|e| self.refused("open a session", &e))?;
        let pin =
            keyfile::load(&self.pin_file)?.to_text().map_err(|_| TokenError::WrongPin(self.token.clone()))?;
        let pin = pin.expose().trim_end_matches(['\r', '\n']).to_owned().into();
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) => Ok(session),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked(self.token.clone()).into()),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                Err(TokenError::WrongPin(self.token.clone()).into())
            }
            Err(e) => Err(self.refused("log in", &e).into()),
        }
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, TokenError> {
        let refused = |e: Error| self.refused("be listed", &e);
        let mut found = Vec::new();
        for slot in module.get_slots_with_token().map_err(refused)? {
            let label = module.get_token_info(slot).map_err(refused)?.label().trim_end().to_owned();
            if label == self.token {
                return Ok(slot);
            }
            found.push(label);
        }
        Err(TokenError::NoToken { wanted: self.token.clone(), found: found.join(", ") })
    }

    fn find(&self, session: &Session, class: ObjectClass, kind: KeyType) -> Result<ObjectHandle, TokenError> {
        let template = [
            Attribute::Class(class),
            Attribute::KeyType(kind),
            Attribute::Label(self.key.as_bytes().to_vec()),
        ];
        let found = session.find_objects(&template).map_err(|e| self.refused("look for the key", &e))?;
        match found.as_slice() {
            [one] => Ok(*one),
            other => {
                Err(TokenError::Key { token: self.token.clone(), key: self.key.clone(), found: other.len() })
            }
        }
    }

    fn refused(&self, action: &'static str, e: &Error) -> TokenError {
        TokenError::Refused { token: self.token.clone(), action, reason: e.to_string() }
    }
}
