//! Where the keyring's document is kept: behind a trait, with a file as the simplest answer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::keyring::KeyringDocument;

/// No keyring is larger.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a keyring was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyringStoreError {
    /// Another process changed it meanwhile.
    #[error("the keyring was changed by another process meanwhile; look at it anew and try again")]
    Changed,
    /// The system or the database refused.
    #[error("the keyring {place}: {reason}; look at its place and the space left there")]
    Place {
        /// Where.
        place: String,
        /// What was said.
        reason: String,
    },
}

/// Keeps the one keyring of a vault.
pub trait KeyringStore: Send + Sync {
    /// The keyring, if there is one yet.
    ///
    /// # Errors
    /// When it cannot be told.
    fn load(&self) -> Result<Option<KeyringDocument>, KeyringStoreError>;

    /// Puts `new` in the place of `old`, durably, and only if `old` is what is there: of two processes that re-key at
    /// once, one is refused.
    ///
    /// # Errors
    /// [`KeyringStoreError::Changed`] when something else is there.
    fn replace(&self, old: Option<&KeyringDocument>, new: &KeyringDocument) -> Result<(), KeyringStoreError>;
}

/// A keyring in a file (mode 0600). A lock beside it keeps two processes apart.
#[derive(Debug, Clone)]
pub struct FileKeyring(PathBuf);

impl FileKeyring {
    /// The keyring at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn read(&self) -> io::Result<Option<KeyringDocument>> {
        let file = match File::open(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(KeyringDocument::from_bytes(bytes)))
    }

    /// Whole or not at all: a new file, synced, that takes the old one's name.
    fn write(&self, new: &KeyringDocument) -> io::Result<()> {
        let draft = self.beside(".new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(new.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.0)?;
        let folder = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    fn locked(&self) -> io::Result<Flock<File>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(self.beside(".lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
    }

    fn error(&self, e: &io::Error) -> KeyringStoreError {
        KeyringStoreError::Place { place: self.0.display().to_string(), reason: e.to_string() }
    }
}

impl KeyringStore for FileKeyring {
    fn load(&self) -> Result<Option<KeyringDocument>, KeyringStoreError> {
        self.read().map_err(|e| self.error(&e))
    }

    fn replace(&self, old: Option<&KeyringDocument>, new: &KeyringDocument) -> Result<(), KeyringStoreError> {
        let _lock = self.locked().map_err(|e| self.error(&e))?;
        if self.read().map_err(|e| self.error(&e))?.as_ref() != old {
            return Err(KeyringStoreError::Changed);
        }
        self.write(new).map_err(|e| self.error(&e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn of_two_processes_that_rekey_at_once_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileKeyring::new(dir.path().join("keyring"));
        let document = |n| KeyringDocument::from_bytes(vec![n; 40]);
        assert!(store.load().unwrap().is_none());
        store.replace(None, &document(1)).unwrap();
        assert!(matches!(store.replace(None, &document(2)), Err(KeyringStoreError::Changed)));
        store.replace(Some(&document(1)), &document(2)).unwrap();
        let late = store.replace(Some(&document(1)), &document(3));
        assert!(matches!(late, Err(KeyringStoreError::Changed)));
        assert_eq!(store.load().unwrap(), Some(document(2)));
        assert_eq!(std::fs::metadata(dir.path().join("keyring")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_draft_that_a_crash_left_behind_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileKeyring::new(dir.path().join("keyring"));
        std::fs::write(dir.path().join("keyring.new"), b"half a key").unwrap();
        assert!(store.load().unwrap().is_none());
        store.replace(None, &KeyringDocument::from_bytes(vec![1])).unwrap();
        assert_eq!(store.load().unwrap(), Some(KeyringDocument::from_bytes(vec![1])));
    }
}
