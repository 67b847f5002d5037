//! What the shared journal holds of a growing recording and its own file does not yet. Whoever follows a recording reads
//! it too: the file alone lags behind by as long as short stretches wait in the journal.

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::{
    crypt::Opener,
    header::RecordingId,
    segment::Head,
    storage::read_full_at,
    writer::journal::{self, MAX_RECORD, SUM_LEN},
};

/// How much of the journal is read at once; more only where a single record is longer.
const PIECE: usize = 64 * 1024;

/// Reads the journal of a recorder that may be another process, for one recording.
///
/// Nothing here is an error: whatever the journal does not give, the recording's own file gives a little later.
pub(super) struct Tail {
    folder: PathBuf,
    id: RecordingId,
    opener: Opener,
    journal: Option<(u64, File)>,
    /// Where the next record starts, and the sum that ends the one before: the writer empties the journal and fills it
    /// anew, and only the sum tells that the place is still the same.
    offset: u64,
    before: Option<[u8; SUM_LEN]>,
    buf: Vec<u8>,
}

impl Tail {
    /// For the recording at `path`; `opener` is of its data key.
    pub(super) fn new(path: &Path, id: RecordingId, opener: Opener) -> Self {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { folder, id, opener, journal: None, offset: 0, before: None, buf: Vec::new() }
    }

    /// The next stretch that goes on at `place` in the stream of the recording's text, if the journal holds it.
    pub(super) fn next(&mut self, place: u64) -> Option<(Head, Vec<u8>)> {
        self.choose_journal()?;
        let mut piece = PIECE;
        loop {
            let got = self.read(piece)?;
            let mut rest = self.buf.get(..got).unwrap_or_default();
            let mut moved = false;
            while let Some(record) = journal::next(&mut rest) {
                if record.id == self.id && record.head.stream > place {
                    // What lies between went straight into the file: it comes first.
                    return None;
                }
                moved = true;
                self.offset += record.bytes.len() as u64;
                self.before = record.bytes.last_chunk().copied();
                if record.id != self.id || !self.opener.follows(&record.head) {
                    continue;
                }
                // Those that the file holds already are opened too: the later ones build on them.
                let mut body = record.body.to_vec();
                let Ok(text) = self.opener.open(&record.head, &mut body, self.offset) else { continue };
                if record.head.stream + text.len() as u64 > place {
                    return Some((record.head, text));
                }
            }
            match (moved, got == piece) {
                (true, _) => piece = PIECE,
                // One record is longer than the piece; else it is the end, or a record that is just being written.
                (false, true) if piece < MAX_RECORD => piece = MAX_RECORD,
                (false, _) => return None,
            }
        }
    }

    /// Fills the buffer from where the reading stands, or from the start where the journal was emptied meanwhile.
    fn read(&mut self, piece: usize) -> Option<usize> {
        let (_, file) = self.journal.as_ref()?;
        if let Some(before) = self.before {
            let mut now = [0; SUM_LEN];
            let at = self.offset.saturating_sub(SUM_LEN as u64);
            if file.read_exact_at(&mut now, at).is_err() || now != before {
                (self.offset, self.before) = (0, None);
            }
        }
        self.buf.resize(piece, 0);
        read_full_at(file, &mut self.buf, self.offset).ok()
    }

    /// The journal with the highest number is the one that is written.
    fn choose_journal(&mut self) -> Option<()> {
        if let Some((number, file)) = &self.journal {
            let next = self.folder.join(journal::name(number + 1)).exists();
            if !next && file.metadata().is_ok_and(|meta| meta.nlink() > 0) {
                return Some(());
            }
        }
        let names = std::fs::read_dir(&self.folder).ok()?.filter_map(Result::ok);
        let number = names.filter_map(|entry| journal::number(entry.file_name().to_str()?)).max();
        let opened = number.and_then(|n| Some((n, File::open(self.folder.join(journal::name(n))).ok()?)));
        (self.journal, self.offset, self.before) = (opened, 0, None);
        self.journal.as_ref().map(|_| ())
    }
}
