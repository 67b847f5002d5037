//! Files that hold a key: created so that only their owner can read them, and refused when others can.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::SecretBytes;

/// The largest key file that is read, in bytes. A real one is far smaller; the bound stops a wrong path
/// (a device, a log) from being read into memory.
pub const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// Why a key file could not be made or used. Every text names the file; none holds its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is a file already, and a key is never overwritten.
    #[error("{path} exists already; move it away first if a new key is really wanted")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error(
        "{path} does not exist; create it with `cofferdam init`, or correct the path in the configuration"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Group or others may read or change the file.
    #[error("{path} can be used by others (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns the file.
    #[error("{path} belongs to user id {owner}, not to {expected}; run: chown {expected} {path}")]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id this process runs with.
        expected: u32,
    },
    /// It is no ordinary file, or too large to be a key.
    #[error("{path} is not a key file; correct the path in the configuration")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {source}; check the folder, its owner and the space left")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Creates `path` with mode 0600, writes `content`, and waits until file and folder are on disk.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is a file already; otherwise what the system said. A file that could
/// not be written whole is removed again.
pub fn create(path: &Path, content: &SecretBytes) -> Result<(), KeyFileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => io_error(path, source),
        },
    )?;
    let written =
        file.write_all(content.expose()).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    written.map_err(|source| {
        // Half a key is worse than none: the next start would refuse it, and `create` would not replace it.
        match std::fs::remove_file(path) {
            Ok(()) => io_error(path, source),
            Err(second) => io_error(path, io::Error::new(second.kind(), format!("{source}; then {second}"))),
        }
    })
}

/// Reads `path` after checking the opened file itself, so that it cannot be exchanged in between.
///
/// # Errors
/// [`KeyFileError`] when the file is missing, is readable by others, belongs to somebody other than the
/// user of this process or root, or is no key file.
pub fn load(path: &Path) -> Result<SecretBytes, KeyFileError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => io_error(path, source),
    })?;
    let meta = file.metadata().map_err(|source| io_error(path, source))?;
    if !meta.is_file() || meta.len() > MAX_KEY_FILE_BYTES {
        return Err(KeyFileError::NotAKey { path: path.to_owned() });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let expected = nix::unistd::geteuid().as_raw();
    // Root may read the files of the user that the service runs as: whoever is root could be that user anyway.
    if expected != 0 && meta.uid() != expected && meta.uid() != 0 {
        return Err(KeyFileError::ForeignOwner { path: path.to_owned(), owner: meta.uid(), expected });
    }
    let capacity = usize::try_from(meta.len()).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(capacity + 1));
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut content).map_err(|source| io_error(path, source))?;
    Ok(SecretBytes::new(std::mem::take(&mut *content)))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn io_error(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_created_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path, &SecretBytes::from(b"abc".to_vec())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load(&path).unwrap().expose(), b"abc");
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path, &SecretBytes::from(b"abc".to_vec())).unwrap();
        let error = create(&path, &SecretBytes::from(b"xyz".to_vec())).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }));
        assert_eq!(load(&path).unwrap().expose(), b"abc");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path, &SecretBytes::from(b"abc".to_vec())).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let text = load(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        }
    }

    #[test]
    fn a_folder_a_large_file_and_a_missing_one_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(KeyFileError::NotAKey { .. })));
        assert!(matches!(load(&dir.path().join("none")), Err(KeyFileError::Missing { .. })));
        let big = dir.path().join("big");
        create(&big, &SecretBytes::from(vec![0; 70_000])).unwrap();
        assert!(matches!(load(&big), Err(KeyFileError::NotAKey { .. })));
    }
}
