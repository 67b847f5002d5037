//! Where the vault's [`Root`] comes from when the program starts: a file, a passphrase, a credential of systemd, a PKCS#11
//! token, or k of n people.
//!
//! Each way ends in the same root; changing the way ([`crate::Sealer::reroot`]) touches no secret. The [`Gate`] is what
//! stands between them and the keys: it is sealed until somebody has brought the root, and on order again.

mod gate;
mod shares;
mod token;

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::scrypt;
use zeroize::Zeroizing;

pub use gate::{Gate, GateError, GateEvent, Happened, MAX_NAME_BYTES, Phase, Progress};
pub use shares::{MAX_SHARES, MIN_THRESHOLD, Share, ShareError, combine, split};
pub use token::{Token, TokenCipher, TokenError, WrappedRoot};

use crate::keyfile::{self, KeyFileError, MAX_KEY_FILE_BYTES};
use crate::keyring::KeyringError;
use crate::root::Root;
use crate::secret::{SecretBytes, SecretString};

/// The fewest characters of a passphrase that is taken for a new file.
pub const MIN_PASSPHRASE_CHARS: usize = 12;
/// scrypt's work for a new file, as a power of two: about a second, and 256 MiB for that time.
pub const PASSPHRASE_WORK: u8 = 18;
/// The most work that a file may ask for: a file that somebody exchanged must not hold up the start for hours.
const MAX_PASSPHRASE_WORK: u8 = 20;

/// Why a root could not be had. No text holds any part of it, or of what it was asked with.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The file itself is at fault.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file holds no identity.
    #[error(
        "{path} holds no age X25519 identity (a line AGE-SECRET-KEY-1…); restore the vault's identity from a backup"
    )]
    NotAnIdentity {
        /// The file, as given.
        path: PathBuf,
    },
    /// The passphrase does not open the file.
    #[error("the passphrase does not open {path}; try again, mind the keyboard's layout and capitals")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The file is not encrypted with a passphrase, or was cut.
    #[error("{path} is not encrypted with a passphrase, or was altered; restore it from a backup")]
    NotPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The file asks for more work than this program does.
    #[error(
        "{path} asks for 2^{work} steps of scrypt, at most 2^{MAX_PASSPHRASE_WORK} are done; encrypt it anew"
    )]
    TooMuchWork {
        /// The file.
        path: PathBuf,
        /// The power of two.
        work: u8,
    },
    /// A new passphrase is too short.
    #[error(
        "the passphrase has fewer than {MIN_PASSPHRASE_CHARS} characters; choose a longer one, such as five words"
    )]
    ShortPassphrase,
    /// The service manager gave no credentials.
    #[error(
        "there is no folder of credentials: CREDENTIALS_DIRECTORY is not set; start the service by systemd with LoadCredentialEncrypted={name}:FILE"
    )]
    NoCredentials {
        /// The credential that was asked for.
        name: String,
    },
    /// The credential's name would lead elsewhere.
    #[error("{name:?} is no name of a credential; use letters, digits, '.', '_' and '-'")]
    CredentialName {
        /// The name.
        name: String,
    },
    /// The credential is missing, or open to others.
    #[error("credential {name}: {reason}; look at LoadCredentialEncrypted= in the service's unit")]
    Credential {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A share is at fault, or the shares do not fit together.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The token did not open the root.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The keyring does not open with this root.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The cryptographic library refused a valid request.
    #[error("the cryptographic library could not {action}; this is a fault of the program, report it")]
    Library {
        /// What was being done.
        action: &'static str,
    },
}

/// Reads an identity file, as [`crate::Sealer::create`] and `age-keygen` write it.
///
/// # Errors
/// [`UnsealError::File`] for a file that is missing or can be read by others, [`UnsealError::NotAnIdentity`].
pub fn from_file(path: &Path) -> Result<Root, UnsealError> {
    let content = keyfile::load(path)?;
    Root::from_content(&content).map_err(|_| UnsealError::NotAnIdentity { path: path.to_owned() })
}

/// Writes an identity file with mode 0600; never over another one.
///
/// # Errors
/// [`UnsealError::File`].
pub fn create_file(path: &Path, root: &Root) -> Result<(), UnsealError> {
    let text = root.to_text().map_err(|_| UnsealError::Library { action: "write an identity" })?;
    Ok(keyfile::create(path, &SecretBytes::from(&text))?)
}

/// Opens an identity file that is encrypted with a passphrase, as [`create_with_passphrase`] and `age -p` write it
/// (armored or not).
///
/// # Errors
/// [`UnsealError::WrongPassphrase`]; [`UnsealError::NotPassphrase`] and [`UnsealError::TooMuchWork`] for another file.
pub fn from_passphrase(path: &Path, passphrase: &SecretString) -> Result<Root, UnsealError> {
    let content = keyfile::load(path)?;
    let mut identity = scrypt::Identity::new(passphrase.expose().to_owned().into());
    identity.set_max_work_factor(MAX_PASSPHRASE_WORK);
    let plain = age::decrypt(&identity, content.expose()).map_err(|e| match e {
        age::DecryptError::ExcessiveWork { required, .. } => {
            UnsealError::TooMuchWork { path: path.to_owned(), work: required }
        }
        // age tells a wrong passphrase from a damaged body by where it fails.
        age::DecryptError::KeyDecryptionFailed | age::DecryptError::DecryptionFailed => {
            UnsealError::WrongPassphrase { path: path.to_owned() }
        }
        _ => UnsealError::NotPassphrase { path: path.to_owned() },
    })?;
    Root::from_content(&SecretBytes::new(plain))
        .map_err(|_| UnsealError::NotAnIdentity { path: path.to_owned() })
}

/// Writes the root encrypted with a passphrase, mode 0600. `work` is scrypt's, usually [`PASSPHRASE_WORK`].
///
/// # Errors
/// [`UnsealError::ShortPassphrase`]; [`UnsealError::File`] when the file exists already or cannot be written.
pub fn create_with_passphrase(
    path: &Path,
    root: &Root,
    passphrase: &SecretString,
    work: u8,
) -> Result<(), UnsealError> {
    if passphrase.expose().chars().count() < MIN_PASSPHRASE_CHARS {
        return Err(UnsealError::ShortPassphrase);
    }
    let library = || UnsealError::Library { action: "encrypt an identity" };
    let text = root.to_text().map_err(|_| library())?;
    let mut recipient = scrypt::Recipient::new(passphrase.expose().to_owned().into());
    recipient.set_work_factor(work.clamp(1, MAX_PASSPHRASE_WORK));
    let encryptor = age::Encryptor::with_recipients(iter::once(&recipient as _)).map_err(|_| library())?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|_| library())?;
    writer.write_all(text.expose().as_bytes()).map_err(|_| library())?;
    writer.finish().map_err(|_| library())?;
    Ok(keyfile::create(path, &SecretBytes::new(sealed))?)
}

/// The folder in which systemd puts this service's credentials.
#[must_use]
pub fn credentials_folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Reads an identity that systemd decrypted for this service alone (`LoadCredentialEncrypted=`). `folder` is
/// [`credentials_folder`].
///
/// # Errors
/// [`UnsealError::NoCredentials`], [`UnsealError::CredentialName`], [`UnsealError::Credential`].
pub fn from_credential(folder: Option<&Path>, name: &str) -> Result<Root, UnsealError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(UnsealError::CredentialName { name: name.to_owned() });
    }
    let folder = folder.ok_or_else(|| UnsealError::NoCredentials { name: name.to_owned() })?;
    let fault = |reason: String| UnsealError::Credential { name: name.to_owned(), reason };
    let content = read_credential(&folder.join(name)).map_err(|e| fault(e.to_string()))?;
    Root::from_content(&content).map_err(|e| fault(e.to_string()))
}

/// systemd gives a service that is not root its credentials by an access control list, whose mask looks like rights of
/// the group; so the rule of [`keyfile::load`] is too strict here, and only rights of everybody are refused.
fn read_credential(path: &Path) -> io::Result<SecretBytes> {
    let no_follow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_KEY_FILE_BYTES {
        return Err(io::Error::other("it is no ordinary file of the size of a key"));
    }
    if meta.mode() & 0o007 != 0 {
        return Err(io::Error::other(format!("everybody can use it (mode {:04o})", meta.mode() & 0o7777)));
    }
    let mut content =
        Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1)));
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut content)?;
    Ok(SecretBytes::new(std::mem::take(&mut *content)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::SystemEntropy;

    /// Least work: the tests are about what happens, not about how long it takes.
    const WORK: u8 = 2;

    fn root() -> Root {
        Root::generate(&SystemEntropy).unwrap()
    }

    #[test]
    fn a_passphrase_opens_its_file_and_another_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.age");
        let (root, right) = (root(), SecretString::from("correct horse battery"));
        create_with_passphrase(&path, &root, &right, WORK).unwrap();
        assert_eq!(from_passphrase(&path, &right).unwrap().vault_id(), root.vault_id());
        let wrong = SecretString::from("incorrect horse battery");
        let error = from_passphrase(&path, &wrong).unwrap_err();
        assert!(matches!(error, UnsealError::WrongPassphrase { .. }), "{error}");
        assert!(!error.to_string().contains("horse"));
        let raw = std::fs::read(&path).unwrap();
        assert!(!raw.windows(10).any(|w| w == b"AGE-SECRET"), "the identity lies there in clear");
    }

    #[test]
    fn a_short_passphrase_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.age");
        let error = create_with_passphrase(&path, &root(), &SecretString::from("short"), WORK).unwrap_err();
        assert!(matches!(error, UnsealError::ShortPassphrase));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_not_encrypted_with_a_passphrase_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        create_file(&path, &root()).unwrap();
        let error = from_passphrase(&path, &SecretString::from("correct horse battery")).unwrap_err();
        assert!(matches!(error, UnsealError::NotPassphrase { .. }), "{error}");
        assert!(from_file(&path).is_ok());
    }

    #[test]
    fn a_credential_of_systemd_opens_and_one_open_to_everybody_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = root();
        create_file(&dir.path().join("vault-root"), &root).unwrap();
        let read = || from_credential(Some(dir.path()), "vault-root");
        assert_eq!(read().unwrap().vault_id(), root.vault_id());
        let mode = |mode| {
            std::fs::set_permissions(dir.path().join("vault-root"), std::fs::Permissions::from_mode(mode))
        };
        mode(0o440).unwrap();
        assert!(read().is_ok(), "the mask of an access control list looks like this");
        mode(0o444).unwrap();
        assert!(read().unwrap_err().to_string().contains("everybody"));
    }

    #[test]
    fn a_credential_cannot_lead_out_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        create_file(&dir.path().join("real"), &root()).unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
        for name in ["../real", "/etc/passwd", "", ".", "..", "a/b"] {
            let error = from_credential(Some(dir.path()), name).unwrap_err();
            assert!(matches!(error, UnsealError::CredentialName { .. }), "{name}: {error}");
        }
        assert!(matches!(from_credential(Some(dir.path()), "link"), Err(UnsealError::Credential { .. })));
        assert!(matches!(from_credential(None, "real"), Err(UnsealError::NoCredentials { .. })));
    }
}
