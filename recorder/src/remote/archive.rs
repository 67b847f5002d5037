//! Recordings that are in the store, for whoever reads them.

use futures::{StreamExt, TryStreamExt, stream};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    error::{RemoteError, local},
    manifest::{self, HOLD, KEYS, MANIFEST, MAX_MANIFEST, Manifest, StoredFile, object, part_name},
    store::RemoteStore,
};
use crate::{
    header::{Header, RecordingId},
    keys::MAX_KEY_FILE,
    storage::replace_file,
    writer::{self, RECORDING, SealInfo},
};

/// Manifests that are fetched at once for a listing.
const AT_ONCE: usize = 16;
/// Longest reason of a hold, in bytes.
const MAX_REASON: u64 = 4096;

/// A recording in the store as a listing shows it; only its manifest was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// What it is about.
    pub header: Header,
    /// Its seal.
    pub seal: SealInfo,
    /// Bytes of the recording.
    pub bytes: u64,
}

/// Reads recordings that only the store has, through a bounded folder of copies.
#[derive(Debug, Clone)]
pub struct Archive {
    store: RemoteStore,
    cache: PathBuf,
    cache_bytes: u64,
}

impl Archive {
    /// `cache` is made (readable by this user only) when it is first needed. The copies in it take at most `cache_bytes`,
    /// or as much as the one recording that is read.
    pub fn new(store: RemoteStore, cache: PathBuf, cache_bytes: u64) -> Self {
        Self { store, cache, cache_bytes }
    }

    /// The ids of all recordings of which the store has something, in order; also those still on their way.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn ids(&self) -> Result<Vec<RecordingId>, RemoteError> {
        let mut ids: Vec<RecordingId> =
            self.store.list("").await?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// The recordings in the store, in order of their ids; one whose manifest is damaged stands among the others as its
    /// error. Those still on their way have no manifest and are left out.
    ///
    /// # Errors
    /// When the store cannot be listed, or does not answer.
    pub async fn list(&self) -> Result<Vec<(RecordingId, Result<Archived, RemoteError>)>, RemoteError> {
        let ids = self.ids().await?;
        let found = stream::iter(ids).map(|id| async move {
            match self.look(&id).await {
                Ok(archived) => Ok(Some((id, Ok(archived)))),
                Err(RemoteError::Unknown(_)) => Ok(None),
                Err(e) if e.concerns_all() => Err(e),
                Err(e) => Ok(Some((id, Err(e)))),
            }
        });
        let listed: Vec<Option<_>> = found.buffered(AT_ONCE).try_collect().await?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// One recording as [`Self::list`] shows it.
    ///
    /// # Errors
    /// [`RemoteError::Unknown`] when the store has no whole recording of that name.
    async fn look(&self, id: &RecordingId) -> Result<Archived, RemoteError> {
        let manifest = self.manifest(id).await?;
        let bytes = manifest.bytes();
        Ok(Archived { header: manifest.header, seal: manifest.seal, bytes })
    }

    /// Brings a recording here and gives its path; everything is held against the manifest's digests first. The key file is
    /// fetched each time: who may read can change.
    ///
    /// # Errors
    /// [`RemoteError::Unknown`] when the store has no whole recording of that name; else what is wrong with it.
    pub async fn fetch(&self, id: &RecordingId) -> Result<PathBuf, RemoteError> {
        let manifest = self.manifest(id).await?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.cache)
            .map_err(local("making the folder of copies"))?;
        let keys = self.store.get(&object(id, KEYS), MAX_KEY_FILE).await?;
        let path = self.copy(id, RECORDING);
        self.make_room(id, manifest.files.iter().map(|file| file.bytes).sum())
            .map_err(local("making room for a copy"))?;
        replace_file(&self.copy(id, writer::KEYS), &keys).map_err(local("writing a copy"))?;
        // The recording comes last: where it is, the others are.
        for file in manifest.files.iter().rev() {
            let ending = if file.name == manifest::RECORDING {
                RECORDING.to_owned()
            } else {
                format!(".{}", file.name)
            };
            self.fetch_file(id, file, &self.copy(id, &ending)).await?;
        }
        Ok(path)
    }

    async fn fetch_file(&self, id: &RecordingId, file: &StoredFile, to: &Path) -> Result<(), RemoteError> {
        if is_copy(to, file) {
            return Ok(());
        }
        let fresh = to.with_extension(format!("{}.new", std::process::id()));
        let fetched = self.fetch_parts(id, file, &fresh).await;
        let done = fetched.and_then(|()| fs::rename(&fresh, to).map_err(local("writing a copy")));
        if done.is_err() {
            // The half-made copy helps nobody; the first error is the one to report.
            fs::remove_file(&fresh).ok();
        }
        done
    }

    async fn fetch_parts(&self, id: &RecordingId, file: &StoredFile, to: &Path) -> Result<(), RemoteError> {
        let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
        let mut out = out.map_err(local("writing a copy"))?;
        for (index, part) in file.parts.iter().enumerate() {
            let name = object(id, &part_name(&file.name, index + 1));
            let write = |bytes: &[u8]| out.write_all(bytes).map_err(local("writing a copy"));
            let got = self.store.read(&name, part.bytes, write).await?;
            if !part.is(&got) {
                return Err(RemoteError::Altered { name, what: "its digest is not the manifest's" });
            }
        }
        drop(out);
        match is_copy(to, file) {
            true => Ok(()),
            false => {
                Err(RemoteError::Altered { name: object(id, MANIFEST), what: "the digest of the whole" })
            }
        }
    }

    /// Removes the oldest copies until `more` bytes fit; `keep` stays.
    fn make_room(&self, keep: &RecordingId, more: u64) -> io::Result<()> {
        let mut copies = Vec::new();
        for entry in fs::read_dir(&self.cache)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.split('.').next() != Some(keep.as_str()) {
                copies.push((meta.modified()?, entry.path(), meta.len()));
            }
        }
        copies.sort();
        let mut used = copies.iter().fold(more, |sum, (_, _, len)| sum.saturating_add(*len));
        for (_, path, len) in copies {
            if used <= self.cache_bytes {
                break;
            }
            fs::remove_file(path)?;
            used = used.saturating_sub(len);
        }
        Ok(())
    }

    fn copy(&self, id: &RecordingId, ending: &str) -> PathBuf {
        self.cache.join(format!("{id}{ending}"))
    }

    async fn manifest(&self, id: &RecordingId) -> Result<Manifest, RemoteError> {
        match self.store.get(&object(id, MANIFEST), MAX_MANIFEST).await {
            Ok(bytes) => Manifest::parse(id, &bytes),
            Err(RemoteError::Missing(_)) => Err(RemoteError::Unknown(id.to_string())),
            Err(e) => Err(e),
        }
    }

    /// Puts a recording on hold in the store, also one that is still on its way there.
    ///
    /// # Errors
    /// When the mark cannot be stored.
    pub async fn hold(&self, id: &RecordingId, reason: &str) -> Result<(), RemoteError> {
        let reason: String = reason.chars().take(MAX_REASON as usize / 4).collect();
        self.store.put(&object(id, HOLD), reason.into()).await
    }

    /// Lifts a hold in the store, where there is one.
    ///
    /// # Errors
    /// When the mark cannot be removed.
    pub async fn lift_hold(&self, id: &RecordingId) -> Result<(), RemoteError> {
        self.store.delete(&object(id, HOLD)).await
    }

    /// Why a recording is held in the store; `None` where it is not.
    ///
    /// # Errors
    /// When the store does not say: take it for held.
    pub async fn hold_of(&self, id: &RecordingId) -> Result<Option<String>, RemoteError> {
        match self.store.get(&object(id, HOLD), MAX_REASON).await {
            Ok(reason) => Ok(Some(String::from_utf8_lossy(&reason).into_owned())),
            Err(RemoteError::Missing(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes what the store has of a recording, whole or not, and its copy here.
    ///
    /// # Errors
    /// [`RemoteError::Held`] when it is held, [`RemoteError::Unknown`] when the store has nothing of that name.
    pub async fn delete(&self, id: &RecordingId) -> Result<(), RemoteError> {
        if let Some(reason) = self.hold_of(id).await? {
            return Err(RemoteError::Held(reason));
        }
        if !self.store.erase(id).await? {
            return Err(RemoteError::Unknown(id.to_string()));
        }
        for ending in [RECORDING, writer::KEYS, writer::INDEX, writer::OCR, ".torn"] {
            match fs::remove_file(self.copy(id, ending)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(local("removing a copy")(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a file is what the manifest says, byte for byte.
fn is_copy(path: &Path, wanted: &StoredFile) -> bool {
    let digest = || -> io::Result<String> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != wanted.bytes {
            return Ok(String::new());
        }
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut buf = vec![0; 256 * 1024];
        loop {
            match io::Read::read(&mut file, &mut buf)? {
                0 => return Ok(hex::encode(context.finish())),
                n => context.update(buf.get(..n).unwrap_or_default()),
            }
        }
    };
    digest().is_ok_and(|digest| digest == wanted.sha256)
}
