//! The files that moved through a session, as far as their content was kept, in one archive (tar).
//!
//! Contents come in the order in which they moved, and an archive wants one file after the other: in between they stand in a
//! folder of their own beside the recordings, which is removed however it ends.

use std::{
    fs::{self, DirBuilder, File},
    io::{Read as _, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use cofferdam_access::audit::Act;
use cofferdam_recorder::{Event, ExtractedFile, ReadError, Recording, RecordingId, export_files};

use super::{Records, RecordsError, blocking, export::exported};

/// Where files stand while an archive is made, below the folder of recordings.
const FOLDER: &str = "exporting";
/// Content of one file beyond this is left out, bytes: a file with a hole of any size can be claimed.
const LARGEST: u64 = 16 << 30;
/// The list of the files, as the archive names it.
const LIST: &str = "files.json";

impl Records {
    /// Writes the files that moved, as far as they were kept, and a list of them with sizes and digests.
    ///
    /// # Errors
    /// As [`Self::open`]; when there is too little room on the disk; [`ReadError::Export`] when `out` takes no more.
    pub(crate) async fn files(
        &self,
        reader: &Act,
        id: &RecordingId,
        out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let recording = self.open_noting(reader, id, exported(id, "files")).await?;
        let place = self.shelf.folder().join(FOLDER);
        let reserve = self.context.config.recordings.warn_free_bytes;
        blocking(move || archive(&recording, &place, reserve, out)).await?
    }

    /// Removes what exports of an earlier process left. To be called before the first of this one.
    pub(crate) fn clear_exports(&self) {
        let place = self.shelf.folder().join(FOLDER);
        if place.exists()
            && let Err(e) = fs::remove_dir_all(&place)
        {
            tracing::warn!(path = %place.display(), error = %e, "what an export left behind could not be removed");
        }
    }
}

/// A folder of one export; gone when this is.
struct Workplace(PathBuf);

impl Workplace {
    fn make(place: &Path) -> Result<Self, RecordsError> {
        let folder = place.join(format!("{:016x}", rand::random::<u64>()));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(RecordsError::io(&folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), error = %e, "what an export left behind could not be removed");
        }
    }
}

fn archive(recording: &Recording, place: &Path, reserve: u64, out: impl Write) -> Result<(), RecordsError> {
    let folder = Workplace::make(place)?;
    let (needed, free) = (contents(recording)?, free(place)?);
    // Sessions are refused and stand still when the disk is full: an export must not bring that about.
    if needed.saturating_add(reserve) > free {
        return Err(RecordsError::NoRoom { needed });
    }
    let files = export_files(recording, &folder.0, LARGEST)?;
    let list = serde_json::to_vec_pretty(&files.iter().map(listed).collect::<Vec<_>>())
        .map_err(|e| ReadError::Export(e.into()))?;
    let seconds = u64::try_from(recording.header().started / 1_000_000).unwrap_or(0);
    let mut tar = tar::Builder::new(out);
    let mut add = |name: &str, size: u64, from: &mut dyn std::io::Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        tar.append_data(&mut header, name, from).map_err(ReadError::Export)
    };
    add(LIST, list.len() as u64, &mut list.as_slice())?;
    for file in &files {
        let from = File::open(&file.path).map_err(RecordsError::io(&file.path))?;
        add(&named(file), file.bytes, &mut from.take(file.bytes))?;
        // Given back as soon as it has gone out.
        fs::remove_file(&file.path).map_err(RecordsError::io(&file.path))?;
    }
    let mut out = tar.into_inner().map_err(ReadError::Export)?;
    Ok(out.flush().map_err(ReadError::Export)?)
}

fn named(file: &ExtractedFile) -> String {
    file.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn listed(file: &ExtractedFile) -> serde_json::Value {
    serde_json::json!({
        "file": named(file), "source": file.source, "direction": file.direction, "bytes": file.bytes,
        "sha256": file.sha256, "matches": file.matches,
    })
}

/// Bytes of content that the recording holds.
fn contents(recording: &Recording) -> Result<u64, RecordsError> {
    let mut bytes = 0u64;
    for event in recording.events()? {
        if let Event::FileContent { data, .. } = event?.event {
            bytes = bytes.saturating_add(data.len() as u64);
        }
    }
    Ok(bytes)
}

/// Bytes that are free where `place` is.
fn free(place: &Path) -> Result<u64, RecordsError> {
    let vfs = nix::sys::statvfs::statvfs(place).map_err(|e| RecordsError::io(place)(e.into()))?;
    Ok(vfs.blocks_available().saturating_mul(vfs.fragment_size()))
}
