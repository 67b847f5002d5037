//! Keeping and deleting finished recordings: holds, what has expired, and removal. Who may do it,
//! and the audit of it, is the caller's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::ReadError,
    read::{list, side_file},
    storage::replace_file,
    writer::{INDEX, KEYS},
};

pub(crate) const HOLD: &str = ".hold";
/// Longest reason of a hold, in bytes.
const MAX_REASON: usize = 4096;
/// Everything that belongs to a recording beside itself.
const SIDES: [&str; 5] = [KEYS, INDEX, ".torn", ".lost", HOLD];

/// A failure to delete a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The operator: somebody holds it.
    #[error("the recording is held ({0}); lift the hold first")]
    Held(String),
    /// The operator: it is not finished.
    #[error("the recording has no seal yet; end the session, or start the recorder once to close it")]
    NotSealed,
    /// The environment: the files could not be read or removed.
    #[error("the recording could not be deleted: {0}; check the folder's permissions")]
    Io(#[from] io::Error),
    /// The file: it cannot be read as a recording.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Puts a recording on hold: [`delete`] refuses it and [`expired`] leaves it out.
///
/// # Errors
/// When the mark cannot be written.
pub fn hold(path: &Path, reason: &str) -> io::Result<()> {
    let reason: String = reason.chars().take(MAX_REASON / 4).collect();
    replace_file(&side_file(path, HOLD), reason.as_bytes())
}

/// Lifts a hold, where there is one.
///
/// # Errors
/// When the mark cannot be removed.
pub fn lift_hold(path: &Path) -> io::Result<()> {
    match fs::remove_file(side_file(path, HOLD)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Why a recording is held; `None` where it is not.
///
/// # Errors
/// When the mark is there and cannot be read: take it for held.
pub fn hold_of(path: &Path) -> io::Result<Option<String>> {
    match fs::read(side_file(path, HOLD)) {
        Ok(reason) => Ok(Some(String::from_utf8_lossy(&reason).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The sealed recordings of a folder that ended before a time (microseconds since 1970, UTC) and
/// are not held.
///
/// # Errors
/// When the folder cannot be read.
pub fn expired(folder: &Path, before: i64) -> Result<Vec<PathBuf>, ReadError> {
    let sealed = list(folder)?.into_iter().filter_map(|found| found.listed.ok());
    let old = sealed.filter(|r| r.seal.as_ref().is_some_and(|seal| seal.ended < before));
    Ok(old.map(|r| r.path).filter(|path| matches!(hold_of(path), Ok(None))).collect())
}

/// Deletes a sealed recording and everything beside it. The keys go first: what a crash leaves
/// behind nobody can read.
///
/// # Errors
/// When it is held, not sealed, or cannot be removed.
pub fn delete(path: &Path) -> Result<(), DeleteError> {
    if let Some(reason) = hold_of(path)? {
        return Err(DeleteError::Held(reason));
    }
    if crate::read::Recording::open(path)?.seal().is_none() {
        return Err(DeleteError::NotSealed);
    }
    for side in SIDES {
        match fs::remove_file(side_file(path, side)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(fs::remove_file(path)?)
}

/// Bytes that a folder of recordings takes.
///
/// # Errors
/// When the folder cannot be read.
pub fn disk_use(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata().map_or(0, |m| m.len());
    }
    Ok(bytes)
}
