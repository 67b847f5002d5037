//! A recording on disk: what anybody may see of it, and how it is unlocked.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{Events, events::Held, tail::Tail};
use crate::{
    chain::{self, Walker},
    crypt::{Opener, Sealer},
    error::ReadError,
    header::{Hash, Header, ReadPreamble},
    keys::{Identity, KeyFile, Keys, MAX_KEY_FILE, commitment},
    segment::{FOOTER_LEN, Footer, HEAD_LEN, kind},
    sign::VerifyingKey,
    storage::Source,
    wire::Mask,
    writer::{INDEX, IndexEntry, KEYS, OCR, RECORDING, SealInfo, parse_index},
};

/// Most places that are remembered of a recording without an index.
const MAX_PLACES: usize = 1 << 20;

/// A recording, open for reading. Its header and seal are in clear text; events need [`Self::unlock`].
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    pub(super) file: File,
    preamble: ReadPreamble,
    seal: Option<SealInfo>,
    /// Where the events end: the index of a sealed recording, else unknown.
    end: Option<u64>,
    entries: Vec<IndexEntry>,
    keys: Option<Keys>,
}

impl Recording {
    /// Opens a recording, sealed or still growing. Nothing is proven yet: see [`crate::verify()`].
    ///
    /// # Errors
    /// When the file cannot be read, is no recording, or is of a newer version.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let path = path.into();
        let file = File::open(&path)?;
        let preamble = chain::read_preamble(&file)?;
        let mut recording =
            Self { path, file, preamble, seal: None, end: None, entries: Vec::new(), keys: None };
        recording.read_trailer();
        if recording.seal.is_none() {
            recording.scan()?;
        }
        Ok(recording)
    }

    /// What the recording is about.
    pub fn header(&self) -> &Header {
        &self.preamble.preamble.header
    }

    /// The seal, where there is one: a growing or broken-off recording has none.
    pub fn seal(&self) -> Option<&SealInfo> {
        self.seal.as_ref()
    }

    /// The public key that the file names as its signer. A hint: verify with your own copy.
    pub fn claimed_signer(&self) -> Option<VerifyingKey> {
        self.preamble.preamble.signer.parse().ok()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The side file with the wrapped keys.
    pub fn key_path(&self) -> PathBuf {
        self.side(KEYS)
    }

    /// The side file with the search index.
    pub fn index_path(&self) -> PathBuf {
        self.side(INDEX)
    }

    /// The side file with what was read off a desktop's pictures.
    pub fn ocr_path(&self) -> PathBuf {
        self.side(OCR)
    }

    fn side(&self, ending: &str) -> PathBuf {
        side_file(&self.path, ending)
    }

    /// Time of the last event, as far as the clear text tells: microseconds since 1970, UTC.
    pub fn ended(&self) -> i64 {
        let last = self.entries.last().map_or(self.header().started, |e| e.first);
        self.seal.as_ref().map_or(last, |seal| seal.ended)
    }

    /// Unlocks the events with an identity that they are wrapped to. Masked input shows only where
    /// the identity is also a reveal recipient.
    ///
    /// # Errors
    /// When the key file is missing or of another recording, or the identity is no recipient.
    pub fn unlock(&mut self, identity: &Identity) -> Result<(), ReadError> {
        let keys = read_key_file(&self.key_path())?.unwrap(identity)?;
        self.use_keys(keys)
    }

    /// Whether an identity with the right to masked input unlocked it.
    pub fn reveals(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.reveal.is_some())
    }

    pub(crate) fn use_keys(&mut self, mut keys: Keys) -> Result<(), ReadError> {
        let preamble = &self.preamble.preamble;
        let id = &preamble.header.id;
        if hex::encode(commitment(id, &keys.data, false)) != preamble.data_key {
            return Err(ReadError::WrongKey);
        }
        if let Some(key) = &keys.reveal
            && Some(hex::encode(commitment(id, key, true))) != preamble.reveal_key
        {
            keys.reveal = None;
        }
        self.keys = Some(keys);
        Ok(())
    }

    pub(crate) fn keys(&self) -> Result<&Keys, ReadError> {
        self.keys.as_ref().ok_or(ReadError::Locked)
    }

    /// All events from the start.
    ///
    /// # Errors
    /// When the recording is locked.
    pub fn events(&self) -> Result<Events<'_>, ReadError> {
        self.events_from(i64::MIN)
    }

    /// The events from a time on (microseconds since 1970, UTC); finds the place by the index.
    ///
    /// # Errors
    /// When the recording is locked.
    pub fn events_from(&self, time: i64) -> Result<Events<'_>, ReadError> {
        let parts = self.reading()?;
        Ok(Events::new(Held::Theirs(self), parts, self.place_before(time), time))
    }

    /// All events from the start, for a reader that keeps the recording open by itself.
    pub(crate) fn into_events(self) -> Result<Events<'static>, ReadError> {
        let parts = self.reading()?;
        let start = self.preamble.len;
        Ok(Events::new(Held::Own(Box::new(self)), parts, start, i64::MIN))
    }

    /// The events from a desktop's last key frame at or before a time on, from the start where there is none.
    pub(crate) fn events_from_key_frame(&self, time: i64) -> Result<Events<'_>, ReadError> {
        let parts = self.reading()?;
        Ok(Events::new(Held::Theirs(self), parts, self.key_frame_before(time), i64::MIN))
    }

    /// The same from the last key frame of all, for a reader that keeps the recording open by itself.
    pub(crate) fn into_events_from_key_frame(self) -> Result<Events<'static>, ReadError> {
        let parts = self.reading()?;
        let start = self.key_frame_before(i64::MAX);
        Ok(Events::new(Held::Own(Box::new(self)), parts, start, i64::MIN))
    }

    /// What reading takes: whoever opens segments, the journal of a growing recording, and masked input where it may be
    /// read.
    fn reading(&self) -> Result<(Opener, Option<Tail>, Option<Mask>), ReadError> {
        let keys = self.keys()?;
        let opener = || {
            let sealer = Sealer::new(&keys.data, self.preamble.digest);
            Opener::new(sealer.ok_or(ReadError::Limit("the data key"))?)
        };
        let growing = self.seal.is_none();
        let tail =
            growing.then(|| Ok::<_, ReadError>(Tail::new(&self.path, self.header().id.clone(), opener()?)));
        let mask = keys.reveal.as_ref().and_then(|key| Mask::new(key, self.preamble.digest));
        Ok((opener()?, tail.transpose()?, mask))
    }

    /// The events from a place in the stream of their text on.
    pub(crate) fn events_at(&self, stream: u64) -> Result<Events<'_>, ReadError> {
        let mut events = self.events()?;
        let after = self.entries.partition_point(|entry| entry.stream <= stream);
        let before = self.entries.get(..after).unwrap_or_default();
        if let Some(entry) = before.iter().rev().find(|entry| entry.fresh) {
            events.start_at(entry.offset);
        }
        events.skip_to(stream);
        Ok(events)
    }

    /// Binds side files to this recording.
    pub(crate) fn digest(&self) -> &Hash {
        &self.preamble.digest
    }

    /// Byte offset of the last known good start whose first event is before `time`. (One that starts
    /// at that very time may follow another that ends at it.)
    fn place_before(&self, time: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.first < time);
        let before = self.entries.get(..after).unwrap_or_default();
        before.iter().rev().find(|entry| entry.fresh).map_or(self.preamble.len, |entry| entry.offset)
    }

    fn key_frame_before(&self, time: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.first <= time);
        let before = self.entries.get(..after).unwrap_or_default();
        before.iter().rev().find(|entry| entry.key_frame).map_or(self.preamble.len, |entry| entry.offset)
    }

    pub(super) fn events_end(&self) -> Option<u64> {
        self.end
    }

    /// Looks again at a recording that was still growing: `true` once it is sealed.
    pub(super) fn sealed_end(&self) -> Option<u64> {
        self.trailer().map(|(_, _, end)| end)
    }

    fn read_trailer(&mut self) {
        if let Some((seal, entries, end)) = self.trailer() {
            self.seal = Some(seal);
            self.entries = entries;
            self.end = Some(end);
        }
    }

    fn trailer(&self) -> Option<(SealInfo, Vec<IndexEntry>, u64)> {
        let size = self.file.size().ok()?;
        let mut bytes = [0; FOOTER_LEN];
        let at = size.checked_sub(FOOTER_LEN as u64)?;
        Source::read_at(&self.file, &mut bytes, at).ok()?;
        let footer = Footer::parse(&bytes)?;
        let mut walker = Walker::new(&self.file, footer.index);
        if walker.read().ok()?.head.kind != kind::INDEX {
            return None;
        }
        let entries = parse_index(&walker.body)?;
        let mut walker = Walker::new(&self.file, footer.seal);
        if walker.read().ok()?.head.kind != kind::SEAL || walker.offset != at {
            return None;
        }
        let seal = serde_json::from_slice(&walker.body).ok()?;
        Some((seal, entries, footer.index))
    }

    /// Finds the good starts of a recording without an index, by its heads.
    fn scan(&mut self) -> Result<(), ReadError> {
        let size = self.file.size()?;
        let mut walker = Walker::new(&self.file, self.preamble.len);
        let (mut every, mut seen) = (1usize, 0usize);
        let mut entries: Vec<IndexEntry> = Vec::new();
        while walker.offset.saturating_add(HEAD_LEN as u64) <= size {
            let offset = walker.offset;
            let head = match walker.peek() {
                Ok(head) => head,
                Err(ReadError::Io(e)) => return Err(e.into()),
                Err(_) => break,
            };
            walker.skip(&head);
            let rises = entries.last().is_none_or(|last| last.first <= head.first);
            if !head.has_events() || !head.is_fresh() || !rises {
                continue;
            }
            seen += 1;
            if seen.is_multiple_of(every) {
                entries.push(IndexEntry {
                    offset,
                    first: head.first,
                    stream: head.stream,
                    fresh: true,
                    key_frame: head.is_key_frame(),
                });
            }
            if entries.len() >= MAX_PLACES {
                every *= 2;
                let mut n = 0usize;
                entries.retain(|_| {
                    n += 1;
                    n.is_multiple_of(2)
                });
            }
        }
        self.entries = entries;
        Ok(())
    }
}

/// The side file of a recording.
pub(crate) fn side_file(path: &Path, ending: &str) -> PathBuf {
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix(RECORDING).unwrap_or(&stem);
    path.with_file_name(format!("{stem}{ending}"))
}

pub(crate) fn read_key_file(path: &Path) -> Result<KeyFile, ReadError> {
    use std::io::Read;
    let missing = |e: std::io::Error| ReadError::KeyFile(e.to_string());
    let mut bytes = Vec::new();
    File::open(path).and_then(|f| f.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes)).map_err(missing)?;
    KeyFile::parse(&bytes)
}

/// A recording as a listing shows it; nothing is decrypted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// What it is about.
    pub header: Header,
    /// Its seal; absent while it grows, or where it broke off.
    pub seal: Option<SealInfo>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// One file of a listing.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it is, or why it cannot be read.
    pub listed: Result<Listed, ReadError>,
}

/// Lists the recordings of a folder, oldest name first. A damaged file stands among the others as
/// its error.
///
/// # Errors
/// When the folder itself cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Found>, ReadError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| RECORDING.strip_prefix('.').is_some_and(|r| e == r)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| Found { path: path.clone(), listed: listed(path) }).collect())
}

/// What a listing shows of one file.
pub(crate) fn listed(path: PathBuf) -> Result<Listed, ReadError> {
    let file = File::open(&path)?;
    let preamble = chain::read_preamble(&file)?;
    let bytes = file.size()?;
    let mut recording =
        Recording { path, file, preamble, seal: None, end: None, entries: Vec::new(), keys: None };
    recording.read_trailer();
    let Recording { path, preamble, seal, .. } = recording;
    Ok(Listed { path, header: preamble.preamble.header, seal, bytes })
}
