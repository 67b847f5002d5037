//! Signed checkpoints, kept outside the database, so that a deleted tail of the log is found.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Longest line that is read from a checkpoint file, bytes.
const MAX_LINE: u64 = 4096;

/// Proof that the log had an entry of this number and hash. It is the signed part of that entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The entry's number.
    pub seq: u64,
    /// The entry's time.
    pub at: Timestamp,
    /// The entry's hash, lower-case hexadecimal.
    pub hash: String,
    /// Which key signed.
    pub key_id: String,
    /// Ed25519 signature, lower-case hexadecimal; see [`crate::audit::signed_bytes`].
    pub signature: String,
}

/// A file of checkpoints, one JSON object a line, only ever appended to.
#[derive(Debug, Clone)]
pub struct CheckpointFile(PathBuf);

impl CheckpointFile {
    /// The file at `path`; made when the first checkpoint is written, readable by its owner only.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Appends one line; `durable` waits until the disk has it. Lines of several processes do not mix: each is one
    /// write to a file opened for appending.
    pub fn append(&self, checkpoint: &Checkpoint, durable: bool) -> io::Result<()> {
        let mut line = serde_json::to_vec(checkpoint).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.0)?;
        file.write_all(&line)?;
        if durable { file.sync_data() } else { Ok(()) }
    }

    /// Reads the lines one by one; a line that is no checkpoint comes as its number. A missing file has none.
    pub fn read(&self) -> io::Result<impl Iterator<Item = io::Result<Result<Checkpoint, u64>>> + use<>> {
        let file = match File::open(&self.0) {
            Ok(f) => Some(f),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut reader = file.map(BufReader::new);
        let mut number = 0;
        Ok(std::iter::from_fn(move || {
            let reader = reader.as_mut()?;
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => None,
                Ok(_) => {
                    number += 1;
                    Some(Ok(serde_json::from_slice(&line).map_err(|_| number)))
                }
                Err(e) => Some(Err(e)),
            }
        }))
    }
}
