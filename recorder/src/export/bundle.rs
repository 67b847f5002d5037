//! The evidence bundle: one file with the recording and everything that it is judged by.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{Read, Write},
    path::PathBuf,
};

use super::tar;
use crate::{
    error::ReadError,
    header::sha256_one,
    read::{Recording, side_file},
    sign::CheckpointSigner,
    verify::Anchor,
    writer::KEYS,
};

pub(super) const RECORDING_NAME: &str = "recording.cofrec";
pub(super) const KEYS_NAME: &str = "recording.cofkeys";
pub(super) const ANCHORS_NAME: &str = "anchors.json";
pub(super) const KEY_NAME: &str = "public-key.txt";
pub(super) const MANIFEST_NAME: &str = "manifest.json";
pub(super) const SIGNATURE_NAME: &str = "manifest.sig";
const README_NAME: &str = "README.txt";
pub(super) const SIGN_CONTEXT: &[u8] = b"cofferdam evidence bundle v1\0";
const README: &str = "This is an evidence bundle of Cofferdam: a tar archive of plain files.\n\
\n\
recording.cofrec   the recording; its form is described in docs/recording-format.md\n\
recording.cofkeys  its keys, wrapped to the people who may read it (age)\n\
anchors.json       the checkpoints of the recording that the audit log holds\n\
public-key.txt     the key that signed; compare it with one that you got another way\n\
manifest.json      name, size and SHA-256 of every file above and beside\n\
manifest.sig       Ed25519 signature over \"cofferdam evidence bundle v1\", a zero byte and manifest.json\n\
\n\
Prove it with: cofferdam recording verify FILE\n";

/// What goes into a bundle.
#[derive(Debug, Clone)]
pub struct BundleParts {
    /// The recording; its key file lies beside it.
    pub recording: PathBuf,
    /// Further files by name (letters, digits, `.`, `-`, `_`): the decision record, approvals, policy
    /// version, audit excerpt.
    pub documents: Vec<(String, Vec<u8>)>,
    /// The checkpoints of this recording in the audit log.
    pub anchors: Vec<Anchor>,
    /// Now: microseconds since 1970, UTC.
    pub created: i64,
}

/// One file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// The manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) recording: String,
    pub(super) created: i64,
    pub(super) files: Vec<Listed>,
}

/// Writes a bundle and signs its manifest.
///
/// # Errors
/// When the recording or its key file cannot be read, a name does not fit, or `out` fails.
pub fn write_bundle(
    parts: &BundleParts,
    signer: &CheckpointSigner,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let recording = Recording::open(&parts.recording)?;
    let keys =
        std::fs::read(side_file(&parts.recording, KEYS)).map_err(|e| ReadError::KeyFile(e.to_string()))?;
    let json_failed = |_| ReadError::Limit("the bundle's lists could not be written");
    let anchors = serde_json::to_vec_pretty(&parts.anchors).map_err(json_failed)?;
    let mut bundle =
        Bundle { out, seconds: u64::try_from(parts.created / 1_000_000).unwrap_or(0), files: Vec::new() };
    bundle.add(README_NAME, README.as_bytes(), true)?;
    bundle.add_recording(&parts.recording)?;
    bundle.add(KEYS_NAME, &keys, true)?;
    bundle.add(ANCHORS_NAME, &anchors, true)?;
    bundle.add(KEY_NAME, format!("{}\n", signer.public_key()).as_bytes(), true)?;
    for (name, bytes) in &parts.documents {
        bundle.add(name, bytes, true)?;
    }
    let manifest = Manifest {
        version: 1,
        recording: recording.header().id.to_string(),
        created: parts.created,
        files: std::mem::take(&mut bundle.files),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(json_failed)?;
    let signature = signer.sign(&[SIGN_CONTEXT, &manifest].concat())?;
    bundle.add(MANIFEST_NAME, &manifest, false)?;
    bundle.add(SIGNATURE_NAME, hex::encode(signature).as_bytes(), false)?;
    tar::end(bundle.out).and_then(|()| bundle.out.flush()).map_err(ReadError::Export)
}

struct Bundle<'o, W> {
    out: &'o mut W,
    seconds: u64,
    files: Vec<Listed>,
}

impl<W: Write> Bundle<'_, W> {
    fn add(&mut self, name: &str, bytes: &[u8], listed: bool) -> Result<(), ReadError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !name.chars().all(fits) || name.starts_with('.') || self.files.iter().any(|f| f.name == name) {
            return Err(ReadError::Missing("usable name for a file of the bundle"));
        }
        let size = bytes.len() as u64;
        let header = tar::header(name, size, self.seconds).map_err(ReadError::Export)?;
        self.put(&header)?;
        self.put(bytes)?;
        tar::pad(self.out, size).map_err(ReadError::Export)?;
        if listed {
            let sha256 = hex::encode(sha256_one(bytes));
            self.files.push(Listed { name: name.to_owned(), size, sha256 });
        }
        Ok(())
    }

    fn add_recording(&mut self, path: &std::path::Path) -> Result<(), ReadError> {
        let file = File::open(path)?;
        // One that still grows is taken as long as it is now.
        let size = file.metadata()?.len();
        let header = tar::header(RECORDING_NAME, size, self.seconds).map_err(ReadError::Export)?;
        self.put(&header)?;
        let mut digest = Context::new(&SHA256);
        let mut rest = file.take(size);
        let mut buf = vec![0; 256 * 1024];
        let mut done = 0;
        while done < size {
            let got = rest.read(&mut buf)?;
            let read = buf.get(..got).filter(|read| !read.is_empty());
            let read = read.ok_or_else(|| ReadError::damaged(done, "the recording became shorter"))?;
            digest.update(read);
            self.put(read)?;
            done += got as u64;
        }
        tar::pad(self.out, size).map_err(ReadError::Export)?;
        let sha256 = hex::encode(digest.finish());
        self.files.push(Listed { name: RECORDING_NAME.to_owned(), size, sha256 });
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.out.write_all(bytes).map_err(ReadError::Export)
    }
}
