//! The index beside a recording: its text for search, and snapshots of its screens for seeking.
//! Encrypted under a key derived from the recording's data key, so that exactly those who can read
//! the recording can read its index; made from the recording, and made anew from it at any time. What was read off a
//! desktop's pictures stands in a file of the same form, under a key of its own.
//!
//! `magic · salt · chunk … · u64 offset of the directory chunk`; a chunk is `u8 kind · u32 number ·
//! u32 plain length · u32 body length · body`, its body zstd and then AES-256-GCM with the chunk's
//! number as nonce.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    catalogue::Filter,
    codec::{Cursor, put_varint},
    error::ReadError,
    header::Hash,
    lines::{LineKind, LineReader, TextLine},
    read::Recording,
    render::Screen,
    storage::Source,
    wire::TAG_LEN,
};

/// Length of what a file begins with.
const MAGIC: usize = 8;
const SALT: usize = 32;
const CHUNK_HEAD: usize = 13;
/// Longest plain text of a chunk that a reader accepts: the largest screen's dump and some.
const MAX_CHUNK: usize = 16 << 20;
/// Text of about this length makes a chunk.
const TEXT_CHUNK: usize = 256 * 1024;
/// A snapshot is taken after this much text of events, or this much time: 60 s.
const SNAPSHOT_BYTES: u64 = 1 << 20;
const SNAPSHOT_TIME: i64 = 60_000_000;
/// Most snapshots; from there on they stand farther apart.
const MAX_SNAPSHOTS: usize = 20_000;
const TEXT: u8 = 1;
const SNAPSHOT: u8 = 2;
const DIRECTORY: u8 = 3;

/// A side file of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The index.
    Index,
    /// What was read off a desktop's pictures.
    Ocr,
}

impl Side {
    const fn magic(self) -> [u8; MAGIC] {
        match self {
            Self::Index => *b"COFIDX\0\x03",
            Self::Ocr => *b"COFOCR\0\x01",
        }
    }

    /// Keeps one from being passed off as the other.
    const fn purpose(self) -> &'static [u8] {
        match self {
            Self::Index => b"cofferdam recording index v1",
            Self::Ocr => b"cofferdam recording ocr v1",
        }
    }

    fn path(self, recording: &Recording) -> PathBuf {
        match self {
            Self::Index => recording.index_path(),
            Self::Ocr => recording.ocr_path(),
        }
    }
}

/// Where a snapshot stands and what it shows.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    at: i64,
    channel: u32,
    cols: u32,
    rows: u32,
    /// The events from this place in the stream on are not yet in it.
    stream: u64,
    offset: u64,
}

struct Cipher {
    key: LessSafeKey,
    header: Hash,
}

impl Cipher {
    fn new(side: Side, recording: &Recording, salt: &[u8]) -> Result<Self, ReadError> {
        let key = recording.keys()?.data.derive(salt, side.purpose())?;
        let key =
            UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(|_| ReadError::Limit("the index key"))?;
        Ok(Self { key: LessSafeKey::new(key), header: *recording.digest() })
    }

    fn nonce(number: u32) -> Nonce {
        let [a, b, c, d] = number.to_le_bytes();
        Nonce::assume_unique_for_key([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    fn aad(&self, kind: u8, plain_len: u32) -> Vec<u8> {
        [self.header.as_slice(), &[kind], &plain_len.to_le_bytes()].concat()
    }
}

/// Makes the index of an unlocked recording, anew where there is one.
///
/// # Errors
/// When the recording is locked or the index cannot be written.
pub fn build_index(recording: &Recording) -> Result<(), ReadError> {
    build_index_and_filter(recording).map(drop)
}

/// Makes the index, and what a catalogue says of its text.
pub(crate) fn build_index_and_filter(recording: &Recording) -> Result<Filter, ReadError> {
    make(recording, Side::Index, |mut writer| {
        let mut builder = Builder::new();
        let mut reader = LineReader::default();
        let mut lines = Vec::new();
        let mut events = recording.events()?;
        while let Some(event) = events.next() {
            // Damage is the verifier's to report; what can be read can be found.
            let Ok(event) = event else { continue };
            reader.event(&event, &mut lines);
            builder.text(&mut writer, &mut lines)?;
            builder.snapshots(&mut writer, &reader, event.at, events.stream_place())?;
        }
        reader.finish(&mut lines);
        builder.text(&mut writer, &mut lines)?;
        builder.finish(writer)
    })
}

/// Keeps what was read off a desktop's pictures; answers what a catalogue says of it.
pub(crate) fn write_ocr(recording: &Recording, mut lines: Vec<TextLine>) -> Result<Filter, ReadError> {
    make(recording, Side::Ocr, |mut writer| {
        let mut builder = Builder::new();
        builder.text(&mut writer, &mut lines)?;
        builder.finish(writer)
    })
}

/// Writes a side file, which takes the place of an older one once it is whole.
fn make(
    recording: &Recording,
    side: Side,
    write: impl FnOnce(Writer) -> Result<(File, Filter), ReadError>,
) -> Result<Filter, ReadError> {
    let path = side.path(recording);
    // Two may make the same index at once; whichever is done last stays.
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| ReadError::Limit("randomness"))?;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let fresh = path.with_extension(format!("{ending}.{}.new", hex::encode(random)));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let made = file.map_err(ReadError::Export).and_then(|file| {
        let (file, filter) = write(Writer::start(recording, side, file)?)?;
        file.sync_all().map_err(ReadError::Export)?;
        std::fs::rename(&fresh, &path).map_err(ReadError::Export)?;
        Ok(filter)
    });
    if made.is_err() {
        // The half-made file helps nobody; the first error is the one to report.
        std::fs::remove_file(&fresh).ok();
    } else if !recording.path().exists() {
        // It was deleted, or went to an object store, in the meantime.
        std::fs::remove_file(&path).ok();
    }
    made
}

struct Writer {
    out: BufWriter<File>,
    offset: u64,
    number: u32,
    cipher: Cipher,
}

impl Writer {
    fn start(recording: &Recording, side: Side, file: File) -> Result<Self, ReadError> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| ReadError::Limit("randomness"))?;
        let cipher = Cipher::new(side, recording, &salt)?;
        let mut writer = Self { out: BufWriter::new(file), offset: 0, number: 0, cipher };
        writer.put(&side.magic())?;
        writer.put(&salt)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes).map_err(ReadError::Export)
    }

    /// Writes a chunk; returns where it stands.
    fn chunk(&mut self, kind: u8, plain: &[u8]) -> Result<u64, ReadError> {
        let at = self.offset;
        let failed = || ReadError::Limit("the index");
        let plain_len = u32::try_from(plain.len()).map_err(|_| failed())?;
        let mut body = zstd::bulk::compress(plain, 3).map_err(ReadError::Export)?;
        let aad = Aad::from(self.cipher.aad(kind, plain_len));
        let nonce = Cipher::nonce(self.number);
        self.cipher.key.seal_in_place_append_tag(nonce, aad, &mut body).map_err(|_| failed())?;
        let mut head = vec![kind];
        for n in [self.number, plain_len, body.len() as u32] {
            head.extend_from_slice(&n.to_le_bytes());
        }
        self.number = self.number.checked_add(1).ok_or_else(failed)?;
        self.put(&head)?;
        self.put(&body)?;
        Ok(at)
    }
}

struct Builder {
    text: Vec<u8>,
    time: i64,
    snapshots: Vec<Snapshot>,
    last_at: Option<i64>,
    last_stream: u64,
    /// Text chunks written; the directory says it, so that none can be passed off as another kind.
    texts: u32,
    filter: Filter,
}

impl Builder {
    fn new() -> Self {
        Self {
            text: Vec::new(),
            time: 0,
            snapshots: Vec::new(),
            last_at: None,
            last_stream: 0,
            texts: 0,
            filter: Filter::new(),
        }
    }

    fn text(&mut self, writer: &mut Writer, lines: &mut Vec<TextLine>) -> Result<(), ReadError> {
        for line in lines.drain(..) {
            self.filter.add(&line.text);
            push_line(&mut self.text, &mut self.time, &line);
            if self.text.len() >= TEXT_CHUNK {
                self.flush(writer)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, writer: &mut Writer) -> Result<(), ReadError> {
        if !self.text.is_empty() {
            writer.chunk(TEXT, &self.text)?;
            self.texts += 1;
        }
        self.text.clear();
        self.time = 0;
        Ok(())
    }

    fn snapshots(
        &mut self,
        writer: &mut Writer,
        reader: &LineReader,
        at: i64,
        stream: u64,
    ) -> Result<(), ReadError> {
        let since = at.saturating_sub(*self.last_at.get_or_insert(at));
        let far = (self.snapshots.len() / MAX_SNAPSHOTS + 1) as u64;
        let grown = stream.saturating_sub(self.last_stream) >= SNAPSHOT_BYTES * far;
        let moved =
            stream > self.last_stream.saturating_add(4096) && since >= SNAPSHOT_TIME * far.cast_signed();
        if !grown && !moved {
            return Ok(());
        }
        for (channel, screen) in reader.screens() {
            let (cols, rows) = screen.size();
            let offset = writer.chunk(SNAPSHOT, screen.dump().as_bytes())?;
            let (cols, rows) = (cols as u32, rows as u32);
            self.snapshots.push(Snapshot { at, channel, cols, rows, stream, offset });
        }
        (self.last_at, self.last_stream) = (Some(at), stream);
        Ok(())
    }

    fn finish(mut self, mut writer: Writer) -> Result<(File, Filter), ReadError> {
        self.flush(&mut writer)?;
        let mut directory = self.texts.to_le_bytes().to_vec();
        for s in &self.snapshots {
            directory.extend_from_slice(&s.at.to_le_bytes());
            for n in [s.channel, s.cols, s.rows] {
                directory.extend_from_slice(&n.to_le_bytes());
            }
            directory.extend_from_slice(&s.stream.to_le_bytes());
            directory.extend_from_slice(&s.offset.to_le_bytes());
        }
        let at = writer.chunk(DIRECTORY, &directory)?;
        writer.put(&at.to_le_bytes())?;
        let file = writer.out.into_inner().map_err(|e| ReadError::Export(e.into_error()))?;
        Ok((file, self.filter))
    }
}

fn push_line(out: &mut Vec<u8>, time: &mut i64, line: &TextLine) {
    // A line's time may lie before its forerunner's: it began to appear before.
    put_varint(out, line.at.wrapping_sub(*time).cast_unsigned());
    out.push(line.kind as u8);
    put_varint(out, u64::from(line.channel));
    put_varint(out, line.text.len() as u64);
    out.extend_from_slice(line.text.as_bytes());
    *time = line.at;
}

fn next_line<'a>(c: &mut Cursor<'a>, time: &mut i64) -> Option<(i64, LineKind, u32, &'a str)> {
    *time = time.wrapping_add(c.varint()?.cast_signed());
    let kind = *LineKind::ALL.get(usize::from(c.u8()?))?;
    let channel = c.varint_u32()?;
    let len = usize::try_from(c.varint()?).ok()?;
    let text = std::str::from_utf8(c.take(len)?).ok()?;
    Some((*time, kind, channel, text))
}

/// Calls `each` with every line of a text chunk; `Some(false)`: it said stop, `None`: the chunk is damaged.
fn lines_of(text: &[u8], each: &mut impl FnMut(i64, LineKind, u32, &str) -> bool) -> Option<bool> {
    let mut c = Cursor::new(text);
    let mut time = 0;
    while !c.is_empty() {
        let (at, kind, channel, text) = next_line(&mut c, &mut time)?;
        if !each(at, kind, channel, text) {
            return Some(false);
        }
    }
    Some(true)
}

/// The last snapshot of a channel before a time, from the directory's plain text.
fn last_before(directory: &[u8], channel: u32, time: i64) -> Option<Snapshot> {
    let mut c = Cursor::new(directory);
    c.u32()?;
    let mut best: Option<Snapshot> = None;
    while !c.is_empty() {
        let (at, channel_here) = (c.i64()?, c.u32()?);
        let (cols, rows) = (c.u32()?, c.u32()?);
        let (stream, offset) = (c.u64()?, c.u64()?);
        if at > time {
            break;
        }
        if channel_here == channel {
            best = Some(Snapshot { at, channel, cols, rows, stream, offset });
        }
    }
    best
}

/// Reads arbitrary bytes as the plain text of each kind of chunk; for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_chunks(bytes: &[u8]) {
    let mut length = 0;
    lines_of(bytes, &mut |_, _, _, text| {
        length += text.len();
        true
    });
    assert!(length <= bytes.len(), "more text than there are bytes");
    last_before(bytes, 0, i64::MAX);
    if let Ok(dump) = std::str::from_utf8(bytes) {
        Screen::restore(80, 24, dump);
    }
}

/// An index, open for reading.
pub(crate) struct Index {
    file: File,
    cipher: Cipher,
    size: u64,
}

impl Index {
    /// Opens a side file of an unlocked recording; `None` where there is none, or one that does not
    /// belong to it.
    pub(crate) fn open(recording: &Recording, side: Side) -> Result<Option<Self>, ReadError> {
        match open_file(side, &side.path(recording)) {
            Ok(Some((file, salt, size))) => {
                let cipher = Cipher::new(side, recording, &salt)?;
                Ok(Some(Self { file, cipher, size }))
            }
            Ok(None) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn head(&self, offset: u64) -> Option<(u8, u32, u32, u32)> {
        let mut head = [0; CHUNK_HEAD];
        if Source::read_at(&self.file, &mut head, offset).ok()? < CHUNK_HEAD {
            return None;
        }
        let mut c = Cursor::new(&head);
        let found = (c.u8()?, c.u32()?, c.u32()?, c.u32()?);
        let (plain, body) = (found.2 as usize, found.3 as usize);
        (plain <= MAX_CHUNK && body <= MAX_CHUNK + 64 * 1024 + TAG_LEN).then_some(found)
    }

    fn chunk(&self, offset: u64, expected: u8) -> Option<Vec<u8>> {
        let (kind, number, plain_len, body_len) = self.head(offset)?;
        if kind != expected {
            return None;
        }
        let mut body = vec![0; body_len as usize];
        let got = Source::read_at(&self.file, &mut body, offset + CHUNK_HEAD as u64).ok()?;
        if got < body.len() {
            return None;
        }
        let aad = Aad::from(self.cipher.aad(kind, plain_len));
        let packed = self.cipher.key.open_in_place(Cipher::nonce(number), aad, &mut body).ok()?;
        zstd::bulk::decompress(packed, plain_len as usize).ok()
    }

    /// Calls `each` with every line until it says stop; `false`: the index is damaged.
    pub(crate) fn lines(&self, mut each: impl FnMut(i64, LineKind, u32, &str) -> bool) -> bool {
        let mut offset = (MAGIC + SALT) as u64;
        let mut texts = 0;
        while offset < self.size {
            let Some((kind, _, _, body_len)) = self.head(offset) else { return false };
            match kind {
                TEXT => {
                    let Some(text) = self.chunk(offset, TEXT) else { return false };
                    texts += 1;
                    match lines_of(&text, &mut each) {
                        Some(true) => {}
                        Some(false) => return true,
                        None => return false,
                    }
                }
                DIRECTORY => {
                    let directory = self.chunk(offset, DIRECTORY).unwrap_or_default();
                    return Cursor::new(&directory).u32() == Some(texts);
                }
                SNAPSHOT => {}
                _ => return false,
            }
            offset += CHUNK_HEAD as u64 + u64::from(body_len);
        }
        false
    }

    /// The last screen of a channel before a time, and where in the stream it goes on.
    fn snapshot(&self, channel: u32, time: i64) -> Option<(Screen, u64)> {
        let mut at = [0; 8];
        Source::read_at(&self.file, &mut at, self.size.checked_sub(8)?).ok()?;
        let directory = self.chunk(u64::from_le_bytes(at), DIRECTORY)?;
        let best = last_before(&directory, channel, time)?;
        let dump = String::from_utf8(self.chunk(best.offset, SNAPSHOT)?).ok()?;
        Some((Screen::restore(best.cols as usize, best.rows as usize, &dump), best.stream))
    }
}

fn open_file(side: Side, path: &Path) -> io::Result<Option<(File, [u8; SALT], u64)>> {
    let file = File::open(path)?;
    let mut head = [0; MAGIC + SALT];
    let got = Source::read_at(&file, &mut head, 0)?;
    let mut c = Cursor::new(head.get(..got).unwrap_or_default());
    let (magic, salt) = (c.array::<MAGIC>(), c.array::<SALT>());
    let size = file.size()?;
    Ok(salt.filter(|_| magic == Some(side.magic())).map(|salt| (file, salt, size)))
}

/// The screen of a channel as it was at a time: from the index's snapshots where there is an index,
/// else from the start of the recording.
///
/// # Errors
/// When the recording is locked or damaged before that time.
pub fn screen_at(recording: &Recording, channel: u32, time: i64) -> Result<Screen, ReadError> {
    let snapshot = Index::open(recording, Side::Index)?.and_then(|index| index.snapshot(channel, time));
    let (mut screen, mut events) = match snapshot {
        Some((screen, stream)) => (screen, recording.events_at(stream)?),
        None => (Screen::default(), recording.events()?),
    };
    for event in &mut events {
        let event = event?;
        if event.at > time {
            break;
        }
        if event.event.channel() == Some(channel) {
            screen.apply(&event.event);
        }
    }
    Ok(screen)
}
