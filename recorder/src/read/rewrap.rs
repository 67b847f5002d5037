//! Changing who can read a recording, without touching the recording.

use std::path::Path;

use super::recording::{Recording, read_key_file, side_file};
use crate::{
    error::{ReadError, RecordError},
    keys::{Identity, KeyFile, Recipients},
    storage::replace_file,
    writer::KEYS,
};

/// Who a recording is wrapped to, as the key file says: readers, and those who may reveal.
///
/// # Errors
/// When the key file is missing or unreadable.
pub fn recipients_of(path: &Path) -> Result<(Vec<String>, Vec<String>), ReadError> {
    let file = read_key_file(&side_file(path, KEYS))?;
    let (read, reveal) = file.recipients();
    Ok((read.to_vec(), reveal.to_vec()))
}

/// Wraps the keys of a recording anew, to exactly these recipients. Only the key file changes, in
/// one step. Who could read before and kept a copy of the old key file still can.
///
/// Without the right to masked input the reveal key cannot be wrapped: recipients for it must then
/// be left empty, and the masked input of this recording is given up.
///
/// # Errors
/// When the identity is no recipient, no reader is named, or the key file cannot be written.
pub fn rewrap(path: &Path, identity: &Identity, to: &Recipients) -> Result<(), ReadError> {
    let mut recording = Recording::open(path)?;
    recording.unlock(identity)?;
    if !to.reveal.is_empty() && !recording.reveals() {
        return Err(ReadError::NotARecipient);
    }
    let wrapped = KeyFile::wrap(&recording.header().id, recording.keys()?, to);
    let bytes = wrapped.and_then(|file| file.to_bytes()).map_err(|e| match e {
        RecordError::NoRecipients => ReadError::Missing("recipient to wrap its keys to"),
        other => ReadError::KeyFile(other.to_string()),
    })?;
    replace_file(&recording.key_path(), &bytes).map_err(ReadError::Io)
}
