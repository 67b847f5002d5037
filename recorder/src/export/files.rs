//! Files that moved through the session, as far as their content was kept.

use aws_lc_rs::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    error::ReadError,
    event::{Direction, Event, FileOp, TimedEvent},
    read::Recording,
};

/// Most files that are written out.
const MAX_FILES: usize = 100_000;

/// A file written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedFile {
    /// Where it was written.
    pub path: PathBuf,
    /// Its path on the target; empty where no operation named it.
    pub source: String,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// Bytes written.
    pub bytes: u64,
    /// SHA-256 of what was written, hexadecimal.
    pub sha256: String,
    /// Whether it is the digest that the session recorded; absent where it recorded none.
    pub matches: Option<bool>,
}

/// Writes the content of all files into an existing folder, as `number-name`. Files already there
/// are not overwritten; content beyond `max_bytes` of one file is left out.
///
/// # Errors
/// When the recording is locked or damaged, or a file cannot be written.
pub fn export_files(
    recording: &Recording,
    folder: &Path,
    max_bytes: u64,
) -> Result<Vec<ExtractedFile>, ReadError> {
    write(recording.events()?, folder, max_bytes)
}

pub(super) fn write(
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
    folder: &Path,
    max_bytes: u64,
) -> Result<Vec<ExtractedFile>, ReadError> {
    let mut operations: BTreeMap<u32, FileOp> = BTreeMap::new();
    let mut files: BTreeSet<u32> = BTreeSet::new();
    // The last file stays open: content comes in long runs of one file.
    let mut open: Option<(u32, File)> = None;
    for event in events {
        match event?.event {
            Event::File(op) if operations.len() < MAX_FILES || operations.contains_key(&op.file) => {
                let known = operations.entry(op.file).or_insert_with(|| op.as_ref().clone());
                if op.sha256.is_some() {
                    known.sha256 = op.sha256;
                }
            }
            Event::FileContent { file, offset, data } => {
                let end = offset.saturating_add(data.len() as u64);
                if end > max_bytes || (files.len() >= MAX_FILES && !files.contains(&file)) {
                    continue;
                }
                if open.as_ref().is_none_or(|(number, _)| *number != file) {
                    let fresh = files.insert(file);
                    open = Some((file, open_part(folder, file, fresh)?));
                }
                if let Some((_, out)) = &open {
                    out.write_all_at(&data, offset).map_err(ReadError::Export)?;
                }
            }
            _ => {}
        }
    }
    files.into_iter().map(|file| finish(folder, file, operations.get(&file))).collect()
}

fn part(folder: &Path, file: u32) -> PathBuf {
    folder.join(format!("{file}.part"))
}

fn open_part(folder: &Path, file: u32, fresh: bool) -> Result<File, ReadError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(fresh).mode(0o600);
    options.open(part(folder, file)).map_err(ReadError::Export)
}

fn finish(folder: &Path, file: u32, op: Option<&FileOp>) -> Result<ExtractedFile, ReadError> {
    let from = part(folder, file);
    let source = op.map_or("", |op| op.path.as_str());
    let path = folder.join(format!("{file}-{}", safe_name(source)));
    // A hard link refuses to replace what is there, which a rename would not.
    std::fs::hard_link(&from, &path).map_err(ReadError::Export)?;
    std::fs::remove_file(&from).map_err(ReadError::Export)?;
    let (bytes, sha256) = digest(&path)?;
    let known = op.and_then(|op| op.sha256.as_deref());
    Ok(ExtractedFile {
        path,
        source: source.to_owned(),
        direction: op.and_then(|op| op.direction),
        bytes,
        matches: known.map(|known| known.eq_ignore_ascii_case(&sha256)),
        sha256,
    })
}

fn digest(path: &Path) -> Result<(u64, String), ReadError> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buf = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let got = file.read(&mut buf)?;
        if got == 0 {
            return Ok((bytes, hex::encode(context.finish())));
        }
        bytes += got as u64;
        context.update(buf.get(..got).unwrap_or_default());
    }
}

/// The last part of a path on the target, made harmless on this machine.
fn safe_name(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("file");
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = last.chars().map(keep).take(100).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_target_cannot_leave_the_folder() {
        for path in ["../../etc/passwd", "..", "C:\\x\\..\\evil", "/", "a\0b/\n"] {
            let name = safe_name(path);
            assert!(!name.contains(['/', '\\', '\0']) && name != "..", "{path:?} became {name:?}");
        }
        assert_eq!(safe_name("/srv/plc/program.st"), "program.st");
    }
}
