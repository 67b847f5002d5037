//! Keeping and deleting finished recordings: the mark of a hold, removal, and the room they take. Who may
//! do it, when, and the audit of it, is the caller's.

use std::{fs, io, path::Path};

use crate::{
    catalogue,
    read::side_file,
    storage::replace_file,
    writer::{INDEX, KEYS, OCR},
};

pub(crate) const HOLD: &str = ".hold";
/// Beside the place of a recording that was deleted while an uploader may have been at it.
pub(crate) const GONE: &str = ".gone";
/// Longest reason of a hold, in bytes.
const MAX_REASON: usize = 4096;
/// Everything that belongs to a recording beside itself.
const SIDES: [&str; 5] = [KEYS, INDEX, OCR, ".torn", ".lost"];
/// Those of them that others make of a recording while it is deleted; they look afterwards whether it is still there.
const MADE: [&str; 2] = [INDEX, OCR];

/// A failure to delete a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The operator: somebody holds it.
    #[error("the recording is held ({0}); lift the hold first")]
    Held(String),
    /// The environment: the files could not be read or removed.
    #[error("the recording could not be deleted: {0}; check the folder's permissions")]
    Io(#[from] io::Error),
}

/// Puts a mark beside a recording: [`delete`] refuses it, whoever calls.
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
    remove(&side_file(path, HOLD))
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

/// Marks the place of a recording that is about to be deleted: an [`crate::Uploader`] that is in the middle of it, in this
/// process or another, takes back what it stored, and later removes the mark. For folders from which recordings go to an
/// object store; call before [`delete`].
///
/// # Errors
/// When it is held, or the mark cannot be written.
pub fn bury(path: &Path) -> Result<(), DeleteError> {
    match hold_of(path)? {
        Some(reason) => Err(DeleteError::Held(reason)),
        None => Ok(replace_file(&side_file(path, GONE), b"")?),
    }
}

/// Deletes a recording and everything beside it. The keys go first: what a crash leaves behind nobody
/// can read. What is gone already is no error, so that a deletion that broke off is finished by calling
/// again. The caller knows that nobody writes it any more; a damaged one goes like any other.
///
/// # Errors
/// When it is held or cannot be removed.
pub fn delete(path: &Path) -> Result<(), DeleteError> {
    if let Some(reason) = hold_of(path)? {
        return Err(DeleteError::Held(reason));
    }
    if let (Some(folder), Some(id)) = (path.parent(), path.file_stem()) {
        catalogue::forget(folder, &id.to_string_lossy())?;
    }
    for side in SIDES {
        remove(&side_file(path, side))?;
    }
    remove(path)?;
    for side in MADE {
        remove(&side_file(path, side))?;
    }
    match fs::File::open(path.parent().unwrap_or(Path::new("."))) {
        Ok(folder) => Ok(folder.sync_all()?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
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
