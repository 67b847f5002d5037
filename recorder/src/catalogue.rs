//! What a search looks at first: one file for many recordings that says which of them may hold a text.
//!
//! A hint and nothing more. It orders a search and never shortens it, so that a catalogue which is missing, old or
//! forged can hide nothing. Its key is wrapped to those who can read the recordings, and moves on with each entry: the
//! process that writes it cannot open what it wrote.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    codec::Cursor,
    error::{ReadError, RecordError},
    header::{RecordingId, sha256_one},
    keys::{Identity, Key, KeyFile, Keys, MAX_KEY_FILE, Recipients},
    wire::TAG_LEN,
};

/// File name ending of catalogues.
const CATALOGUE: &str = ".cofcat";
const MAGIC: [u8; 8] = *b"COFCAT\0\x01";
const ENTRY: &[u8] = b"cofferdam catalogue entry v1";
const NEXT: &[u8] = b"cofferdam catalogue next v1";
/// Bits of a filter while it is filled; it is folded to what its text needs.
const BITS: usize = 1 << 20;
/// Smallest filter, bits.
const LEAST_BITS: usize = 1 << 9;

/// Which runs of three bytes a text holds, upper and lower case alike. One bit each in a table that is folded in half
/// as long as less than a sixth of it is set.
pub(crate) struct Filter {
    bits: Vec<u64>,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self { bits: vec![0; BITS / 64] }
    }

    /// Takes a line of text.
    pub(crate) fn add(&mut self, text: &str) {
        let mask = self.bits.len() * 64 - 1;
        for place in places(&text.to_lowercase()) {
            if let Some(word) = self.bits.get_mut((place & mask) / 64) {
                *word |= 1 << (place % 64);
            }
        }
    }

    fn folded(mut self) -> Vec<u8> {
        loop {
            let set: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
            let half = self.bits.len() / 2;
            if set as usize * 6 > self.bits.len() * 64 / 2 || half * 64 < LEAST_BITS {
                return self.bits.iter().flat_map(|word| word.to_le_bytes()).collect();
            }
            let (low, high) = self.bits.split_at_mut(half);
            low.iter_mut().zip(high).for_each(|(to, from)| *to |= *from);
            self.bits.truncate(half);
        }
    }
}

/// The bits of a lower-case text, as places in the largest table.
fn places(text: &str) -> impl Iterator<Item = usize> {
    text.as_bytes().windows(3).map(|run| {
        let run = run.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        // Multiplication spreads neighbours (Knuth, TAOCP 6.4); the high bits are the good ones.
        (run.wrapping_mul(2_654_435_761) >> 12) as usize
    })
}

/// Whether a folded filter may hold a text with these places.
fn may_hold(filter: &[u8], wanted: &[usize]) -> bool {
    let bits = filter.len() * 8;
    bits.is_power_of_two()
        && wanted.iter().all(|place| {
            let place = place & (bits - 1);
            filter.get(place / 8).is_some_and(|byte| byte & (1 << (place % 8)) != 0)
        })
}

/// Seals and opens entries in their order; each has a key of its own.
struct Ratchet {
    key: Key,
    salt: [u8; 32],
}

impl Ratchet {
    /// The key of the next entry; the one that led to it is gone afterwards.
    fn step(&mut self) -> Result<Key, ReadError> {
        let [entry, next] = self.key.derive_each(&self.salt, [ENTRY, NEXT])?;
        self.key = next;
        Ok(entry)
    }
}

/// What seals and opens one entry.
fn sealer(key: &Key) -> Result<LessSafeKey, ReadError> {
    let key =
        UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(|_| ReadError::Limit("a catalogue's key"))?;
    Ok(LessSafeKey::new(key))
}

/// Each key seals one entry.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The catalogue that a recorder appends to.
pub(crate) struct Writer {
    file: File,
    ratchet: Ratchet,
}

impl Writer {
    /// Starts a catalogue in a folder, for those who can read what is recorded there.
    pub(crate) fn create(folder: &Path, to: &Recipients) -> Result<Self, RecordError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| RecordError::Crypto("naming a catalogue"))?;
        let id: RecordingId =
            hex::encode(random).parse().map_err(|_| RecordError::Crypto("naming a catalogue"))?;
        let keys = Keys { data: Key::generate()?, reveal: None };
        // Whoever may reveal can read; nothing in here is masked.
        let read = to.read.iter().chain(&to.reveal).cloned().collect();
        let wrapped = KeyFile::wrap(&id, &keys, &Recipients { read, reveal: Vec::new() })?.to_bytes()?;
        let start = [&MAGIC[..], &(wrapped.len() as u32).to_le_bytes(), &wrapped].concat();
        let failed = |source| RecordError::Storage { what: "starting a catalogue", source };
        let path = folder.join(format!("{id}{CATALOGUE}"));
        let mut file =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(&start).map_err(failed)?;
        Ok(Self { file, ratchet: Ratchet { key: keys.data, salt: sha256_one(&start) } })
    }

    /// Appends a recording. After an error the catalogue cannot be gone on with.
    pub(crate) fn add(&mut self, id: &RecordingId, filter: Filter) -> Result<(), ReadError> {
        let mut body = filter.folded();
        sealer(&self.ratchet.step()?)?
            .seal_in_place_append_tag(nonce(), Aad::from(id.as_str()), &mut body)
            .map_err(|_| ReadError::Limit("a catalogue's entry"))?;
        let id = id.as_str().as_bytes();
        let mut entry = vec![id.len() as u8];
        entry.extend_from_slice(id);
        entry.extend_from_slice(&(body.len() as u32).to_le_bytes());
        entry.extend_from_slice(&body);
        self.file.write_all(&entry).map_err(ReadError::Export)
    }

    /// Makes it durable.
    pub(crate) fn sync(&self) -> Result<(), ReadError> {
        self.file.sync_all().map_err(ReadError::Export)
    }

    /// Whether it still stands in its folder: another may have taken its place.
    pub(crate) fn is_there(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() > 0)
    }
}

/// What stands before the entries: all of it, and the wrapped key in it.
struct Start {
    bytes: Vec<u8>,
    wrapped: std::ops::RangeFrom<usize>,
}

impl Start {
    fn read(from: &mut impl Read) -> Option<Self> {
        let mut bytes = vec![0; MAGIC.len() + 4];
        from.read_exact(&mut bytes).ok()?;
        let mut c = Cursor::new(&bytes);
        let known = c.array::<8>()? == MAGIC;
        let len = c.u32().filter(|len| known && u64::from(*len) <= MAX_KEY_FILE)?;
        let head = bytes.len();
        let read = from.take(u64::from(len)).read_to_end(&mut bytes).ok()?;
        (read == len as usize).then_some(Self { bytes, wrapped: head.. })
    }

    /// The keys of the entries, for who may have them.
    fn unlock(&self, identity: &Identity) -> Option<Ratchet> {
        let wrapped = self.bytes.get(self.wrapped.clone())?;
        let keys = KeyFile::parse(wrapped).and_then(|file| file.unwrap(identity)).ok()?;
        Some(Ratchet { key: keys.data, salt: sha256_one(&self.bytes) })
    }
}

/// An entry as it stands: the recording, and where its sealed filter is.
struct Entry {
    id: String,
    at: u64,
    len: usize,
}

impl Entry {
    /// Its filter, into a buffer that serves many.
    fn open<'b>(&self, file: &File, key: &LessSafeKey, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        buffer.resize(self.len, 0);
        file.read_exact_at(buffer, self.at).ok()?;
        key.open_in_place(nonce(), Aad::from(self.id.as_str()), buffer).ok().map(|filter| &*filter)
    }
}

/// A catalogue's entries, passing over their filters; what is torn at the end is left out.
struct Entries<R> {
    from: BufReader<R>,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Entries<R> {
    /// Nothing where this is no catalogue that this program knows.
    fn open(mut source: R) -> Option<(Start, Self)> {
        let end = source.seek(SeekFrom::End(0)).ok()?;
        source.rewind().ok()?;
        // Little more than the head of an entry: what is read ahead of it is the filter, which is passed over.
        let mut from = BufReader::with_capacity(128, source);
        let start = Start::read(&mut from)?;
        let at = start.bytes.len() as u64;
        Some((start, Self { from, at, end }))
    }

    fn read(&mut self) -> Option<Entry> {
        let mut len = [0];
        self.from.read_exact(&mut len).ok()?;
        let mut id = vec![0; usize::from(len[0])];
        self.from.read_exact(&mut id).ok()?;
        let id = String::from_utf8(id).ok()?;
        let mut len = [0; 4];
        self.from.read_exact(&mut len).ok()?;
        let len = u32::from_le_bytes(len);
        let at = self.at + 1 + id.len() as u64 + 4;
        self.at = at.checked_add(u64::from(len)).filter(|next| *next <= self.end)?;
        self.from.seek_relative(i64::from(len)).ok()?;
        Some(Entry { id, at, len: usize::try_from(len).ok()? })
    }
}

impl<R: Read + Seek> Iterator for Entries<R> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.read()
    }
}

/// The files of a folder's catalogues.
pub(crate) fn paths(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    names.filter(|path| path.to_string_lossy().ends_with(CATALOGUE)).collect()
}

/// The catalogues of a folder. One that cannot be read helps nobody and is left out.
fn catalogues(folder: &Path) -> impl Iterator<Item = (PathBuf, File)> {
    paths(folder).into_iter().filter_map(|path| {
        let file = File::open(&path).ok()?;
        Some((path, file))
    })
}

/// Removes a catalogue of which every entry stands in another now, or was forgotten. One that this identity cannot open
/// stays.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn remove_if_known(path: &Path, identity: &Identity, known: &BTreeSet<String>) -> io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let Some((start, entries)) = Entries::open(&file) else { return Ok(()) };
    let Some(mut ratchet) = start.unlock(identity) else { return Ok(()) };
    let mut buffer = Vec::new();
    for entry in entries {
        let Some(key) = ratchet.step().ok().and_then(|key| sealer(&key).ok()) else { return Ok(()) };
        if !known.contains(&entry.id) && entry.open(&file, &key, &mut buffer).is_some() {
            return Ok(());
        }
    }
    fs::remove_file(path)
}

/// What catalogues tell of a text: asked entry by entry, from as many threads as there are.
pub(crate) struct Sieve {
    files: Vec<File>,
    /// The names that sort last, which are the newest, first.
    entries: Vec<(Entry, usize, Key)>,
    wanted: Vec<usize>,
}

impl Sieve {
    /// Finds the entries that this identity can open, without opening them: that is most of the work and can be
    /// shared. Nothing of a text shorter than three bytes.
    pub(crate) fn new(folder: &Path, identity: &Identity, text: &str) -> Self {
        let wanted: Vec<usize> = places(&text.to_lowercase()).collect();
        let (mut files, mut all) = (Vec::new(), Vec::new());
        if wanted.is_empty() {
            return Self { files, entries: all, wanted };
        }
        for (_, file) in catalogues(folder) {
            // A catalogue that this identity cannot open tells nothing.
            let Some((start, entries)) = Entries::open(&file) else { continue };
            let Some(mut ratchet) = start.unlock(identity) else { continue };
            for entry in entries {
                let Ok(key) = ratchet.step() else { break };
                all.push((entry, files.len(), key));
            }
            files.push(file);
        }
        all.sort_unstable_by(|(a, ..), (b, ..)| b.id.cmp(&a.id));
        Self { files, entries: all, wanted }
    }

    /// The recording of the `n`th entry, and whether it may hold the text. An entry that was forgotten, or is damaged,
    /// says no. `None` behind the last.
    pub(crate) fn ask(&self, n: usize, buffer: &mut Vec<u8>) -> Option<(&str, bool)> {
        let (entry, file, key) = self.entries.get(n)?;
        let filter = self
            .files
            .get(*file)
            .zip(sealer(key).ok())
            .and_then(|(file, key)| entry.open(file, &key, buffer));
        Some((&entry.id, filter.is_some_and(|filter| may_hold(filter, &self.wanted))))
    }
}

/// Overwrites what catalogues say of a recording.
///
/// # Errors
/// When a catalogue that names it cannot be written.
pub(crate) fn forget(folder: &Path, id: &str) -> io::Result<()> {
    for (path, file) in catalogues(folder) {
        let Some((_, entries)) = Entries::open(&file) else { continue };
        for entry in entries.filter(|entry| entry.id == id) {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(&vec![0; entry.len.max(TAG_LEN)], entry.at)?;
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Reads arbitrary bytes as a catalogue, and as a filter; for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some((start, entries)) = Entries::open(io::Cursor::new(bytes)) {
        let inner: usize = entries.map(|entry| entry.len + entry.id.len()).sum();
        assert!(start.bytes.len() + inner <= bytes.len() && start.wrapped.start < start.bytes.len() + 1);
    }
    may_hold(bytes, &[0, usize::MAX, 77]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        let mut filter = Filter::new();
        filter.add(text);
        filter
    }

    fn id(text: &str) -> RecordingId {
        text.parse().unwrap()
    }

    fn holds(hay: &str, needle: &str) -> bool {
        may_hold(&filter(hay).folded(), &places(&needle.to_lowercase()).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_never_misses_what_its_text_holds_and_rarely_takes_what_it_does_not() {
        let lines: Vec<String> =
            (0..4000u32).map(|n| format!("Line {} of PUMP {}", n, n.wrapping_mul(977))).collect();
        let text = filter(&lines.join(" ")).folded();
        let in_text = |needle: &str| may_hold(&text, &places(&needle.to_lowercase()).collect::<Vec<_>>());
        assert!(lines.iter().all(|line| in_text(line)));
        assert!(holds("PUMPE ÄNDERN", "ändern"));
        let wrong = (0..1000).filter(|n| in_text(&format!("valve-{n}-shut"))).count();
        assert!(wrong < 10, "{wrong} of 1000 taken for nothing");
        assert!(text.len() <= 16 * 1024, "{}", text.len());
    }

    #[test]
    fn a_catalogue_tells_its_readers_where_to_look_first_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, stranger) = (Identity::generate(), Identity::generate());
        let to = Recipients { read: vec![reader.recipient()], reveal: vec![] };
        let mut writer = Writer::create(folder.path(), &to).unwrap();
        for (name, text) in [("a", "systemctl stop pump"), ("b", "ls -la"), ("c", "Systemctl STOP valve")] {
            writer.add(&id(name), filter(text)).unwrap();
        }
        let found = |who, text| {
            let (sieve, mut buffer) = (Sieve::new(folder.path(), who, text), Vec::new());
            let mut asked =
                (0..).map_while(|n| sieve.ask(n, &mut buffer)).map(|(id, may)| (id.to_owned(), may));
            let mut all: Vec<_> = asked.by_ref().filter_map(|(id, may)| may.then_some(id)).collect();
            all.reverse();
            all.join(" ")
        };
        assert_eq!(found(&reader, "systemctl stop"), "a c");
        assert_eq!(found(&reader, "LS -la"), "b");
        assert_eq!(found(&reader, "ls"), "", "too short to tell");
        assert_eq!(found(&stranger, "systemctl stop"), "");
        forget(folder.path(), "a").unwrap();
        assert_eq!(found(&reader, "systemctl stop"), "c", "forgotten, and what stands behind it is not");
        // A torn end, as a crash leaves it, takes nothing with it.
        let path = paths(folder.path()).remove(0);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(found(&reader, "systemctl stop"), "");
        assert_eq!(found(&reader, "ls -la"), "b");
    }

    #[test]
    fn the_process_that_writes_a_catalogue_cannot_open_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Identity::generate();
        let to = Recipients { read: vec![reader.recipient()], reveal: vec![] };
        let mut writer = Writer::create(folder.path(), &to).unwrap();
        writer.add(&id("a"), filter("systemctl stop pump")).unwrap();
        let (_, file) = catalogues(folder.path()).next().unwrap();
        let (start, mut entries) = Entries::open(&file).unwrap();
        let (entry, mut buffer) = (entries.next().unwrap(), Vec::new());
        let first = sealer(&start.unlock(&reader).unwrap().step().unwrap()).unwrap();
        assert!(entry.open(&file, &first, &mut buffer).is_some());
        for _ in 0..3 {
            let key = sealer(&writer.ratchet.step().unwrap()).unwrap();
            assert!(entry.open(&file, &key, &mut buffer).is_none());
        }
    }
}
