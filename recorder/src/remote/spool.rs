//! What of a recording's local file may go to the store, and where it is cut into parts.

use std::{fs::File, io, path::Path};

use super::error::{RemoteError, local};
use crate::{
    chain::{self, Walker},
    header::{Hash, to_hash},
    read::{Listed, listed},
    segment::{FOOTER_LEN, kind},
    storage::{Source, read_full_at},
};

/// Bytes that are hashed at once.
const STEP: usize = 256 * 1024;

/// A local recording as the uploader sees it.
pub(super) struct Spooled {
    pub(super) file: File,
    /// Header and seal.
    pub(super) listed: Listed,
    /// How far it holds whole segments that will never change; the whole file once it is sealed.
    pub(super) end: u64,
}

impl Spooled {
    /// Looks at a file of which `known` bytes were seen to be whole before.
    pub(super) fn open(path: &Path, known: u64) -> Result<Self, RemoteError> {
        let listed = listed(path.to_owned())?;
        let file = File::open(path).map_err(local("opening a recording"))?;
        let end = match listed.seal {
            Some(_) => listed.bytes,
            None => whole_until(&file, known)?,
        };
        // What the writer has not made durable yet could be gone after a power cut, and come back different.
        file.sync_data().map_err(local("making a recording durable"))?;
        Ok(Self { file, listed, end })
    }

    /// Where the part that starts at `from` ends: at the end of a segment, after at least `least` bytes if there are so
    /// many.
    pub(super) fn cut(&self, from: u64, least: u64) -> Result<u64, RemoteError> {
        let first = chain::read_preamble(&self.file)?.len;
        let mut walker = Walker::new(&self.file, from.max(first));
        while walker.offset.saturating_sub(from) < least && walker.offset < self.end {
            match walker.peek() {
                Ok(head) => walker.skip(&head),
                // The footer, or a damaged place: that is for the verifier to find, wherever the file is.
                Err(_) => walker.offset = self.end.min(from.saturating_add(least)),
            }
        }
        let rest = self.end.saturating_sub(walker.offset);
        let footer = self.listed.seal.is_some() && rest <= FOOTER_LEN as u64;
        Ok(if footer { self.end } else { walker.offset.min(self.end) })
    }
}

/// Segments in a growing file that are written in full. Index and seal count only once the file is sealed: after a crash
/// they are made anew.
fn whole_until(file: &File, known: u64) -> Result<u64, RemoteError> {
    let first = chain::read_preamble(file)?.len;
    let size = file.size().map_err(local("reading a recording"))?;
    let mut walker = Walker::new(file, known.max(first));
    while let Ok(head) = walker.peek() {
        let end = walker.offset.saturating_add(head.total_len());
        if end > size || matches!(head.kind, kind::INDEX | kind::SEAL) {
            break;
        }
        walker.skip(&head);
    }
    Ok(walker.offset)
}

/// The bytes from one offset to another; fails where the file is shorter.
pub(super) fn read_range(file: &File, from: u64, to: u64) -> Result<Vec<u8>, RemoteError> {
    let short = || local("reading a recording")(io::Error::from(io::ErrorKind::UnexpectedEof));
    let len = usize::try_from(to.saturating_sub(from)).map_err(|_| short())?;
    let mut bytes = vec![0; len];
    let got = read_full_at(file, &mut bytes, from).map_err(local("reading a recording"))?;
    if got < len { Err(short()) } else { Ok(bytes) }
}

/// SHA-256 of each part that ends at one of `ends`, and of the whole up to the last.
pub(super) fn digests(file: &File, ends: &[u64]) -> Result<(Vec<Hash>, Hash), RemoteError> {
    use aws_lc_rs::digest::{Context, SHA256};
    let mut whole = Context::new(&SHA256);
    let mut parts = Vec::with_capacity(ends.len());
    let mut at = 0;
    for end in ends {
        let mut part = Context::new(&SHA256);
        while at < *end {
            let to = end.min(&(at + STEP as u64)).to_owned();
            let bytes = read_range(file, at, to)?;
            part.update(&bytes);
            whole.update(&bytes);
            at = to;
        }
        parts.push(to_hash(part.finish().as_ref()));
    }
    Ok((parts, to_hash(whole.finish().as_ref())))
}
