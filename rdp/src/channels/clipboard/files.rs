//! Files on a clipboard (MS-RDPECLIP 2.2.5.2.3, 2.2.5.3, 2.2.5.4): a list of names and sizes, and contents part by part. Only
//! what the caller allows is in the list that goes on, and contents end where the owner says that the file does. Requests go
//! to the owner with numbers of our own, so that an answer that comes late is nobody else's.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{FAIL, FILE_REQUEST, FILE_RESPONSE, OK, message};
use crate::{
    channels::devices::path,
    event::Direction,
    files::{Files, Opening, Place},
    rewrite::Broken,
    wire::{Reader, u32_at},
};

/// Most files and folders of one list.
const MAX_FILES: usize = 512;
/// Most questions that wait for the owner.
const MAX_WAITING: usize = 64;
/// Most bytes of one part.
pub(super) const MAX_PART: u32 = 1024 * 1024;

/// The first name of all paths here. No drive has it: it is longer than their names may be.
const ROOT: &str = "clipboard";
/// Bytes of one file's description (2.2.5.2.3.1), and of its name: 260 characters with the zero at the end.
const DESCRIPTION: usize = 592;
const NAME: usize = 520;
/// Bytes of a description before the name.
const BEFORE_NAME: usize = DESCRIPTION - NAME;
/// `FD_ATTRIBUTES`, `FD_WRITESTIME`, `FD_FILESIZE`, `FD_PROGRESSUI`.
const ATTRIBUTES: u32 = 0x4;
const WRITTEN: u32 = 0x20;
const SIZED: u32 = 0x40;
const PROGRESS: u32 = 0x4000;
/// Attributes that are passed on: read-only, hidden, system, folder, archive, normal.
const KNOWN_ATTRIBUTES: u32 = 0xb7;
const FOLDER: u32 = 0x10;
/// `FILECONTENTS_SIZE` and `FILECONTENTS_RANGE`.
const SIZE: u32 = 1;
const RANGE: u32 = 2;

const NOT_ONE_FILE: &str = "the name is none that means one file on every machine";
const TOO_MANY: &str = "these are more than 512 files: copy them in several turns";

/// A file or folder of a list.
#[derive(Debug)]
pub(super) struct Offered {
    /// Its place in the owner's list.
    index: u32,
    path: String,
    size: Option<u64>,
    folder: bool,
    open: Option<Open>,
}

/// A file of which contents have been asked for.
#[derive(Debug)]
struct Open {
    number: u32,
    /// Parts that the owner was asked for.
    waiting: usize,
    reached: Reached,
    /// The owner has nothing from here on.
    end: Option<u64>,
}

/// How far a file has passed.
#[derive(Debug, Default)]
struct Reached {
    /// From its first byte without a gap.
    to: u64,
    /// Beyond a gap: beginnings and ends.
    beyond: BTreeMap<u64, u64>,
}

/// What the owner was asked for.
#[derive(Debug)]
struct Waiting {
    /// The number that the other side gave it.
    stream: u32,
    /// Its place in our list.
    file: usize,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Size,
    Part { offset: u64, len: u32 },
}

/// A list of files as it goes on.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) list: Vec<Offered>,
    pub(super) bytes: Vec<u8>,
    pub(super) paths: Vec<String>,
}

/// The files on one side's clipboard.
#[derive(Debug, Default)]
pub(super) struct ClipFiles {
    /// The number that this side gave the format.
    pub(super) format: Option<u32>,
    list: Vec<Offered>,
    waiting: BTreeMap<u32, Waiting>,
    last: u32,
}

impl ClipFiles {
    /// Another clipboard takes the place of this one. What is told to who waits for something of it.
    pub(super) fn replace(&mut self, format: Option<u32>, files: &mut dyn Files) -> Vec<Vec<u8>> {
        self.format = format;
        for open in self.list.drain(..).filter_map(|file| file.open) {
            files.close(open.number, Ok(()));
        }
        std::mem::take(&mut self.waiting).into_values().map(|waiting| refusal(waiting.stream)).collect()
    }

    /// The owner gives its list, and contents would go in `direction`. `None`: nothing of it may go on.
    pub(super) fn listed(
        &self,
        body: &[u8],
        direction: Direction,
        files: &mut dyn Files,
    ) -> Result<Option<Listed>, Broken> {
        let wrong = Broken("list of files");
        let mut at = Reader(body);
        let count = at.u32().and_then(|count| usize::try_from(count).ok()).ok_or(wrong)?;
        if count > MAX_FILES {
            say_too_many(files);
            return Ok(None);
        }
        let (mut list, mut described) = (Vec::new(), Vec::new());
        for index in 0..count {
            let index = u32::try_from(index).map_err(|_| wrong)?;
            let description = at.take(DESCRIPTION).ok_or(wrong)?;
            match described_file(index, description).ok_or(wrong)? {
                Ok((offered, bytes)) => {
                    if files.offer(&offered.opening(direction), offered.size) {
                        described.extend(bytes);
                        list.push(offered);
                    }
                }
                Err(name) => files.refused(&format!("/{ROOT}/{name}"), NOT_ONE_FILE),
            }
        }
        let count = u32::try_from(list.len()).map_err(|_| wrong)?;
        let paths = list.iter().map(|file| file.path.clone()).collect();
        let bytes = [count.to_le_bytes().as_slice(), &described].concat();
        Ok((count > 0).then_some(Listed { list, bytes, paths }))
    }

    /// Whether these are the files that are here.
    pub(super) fn is(&self, listed: &Listed) -> bool {
        let same = |(here, there): (&Offered, &Offered)| {
            (here.index, &here.path, here.folder) == (there.index, &there.path, there.folder)
                && (there.size.is_none() || there.size == here.size)
        };
        self.list.len() == listed.list.len() && self.list.iter().zip(&listed.list).all(same)
    }

    /// These files are here from now on.
    pub(super) fn take(&mut self, list: Vec<Offered>) {
        self.list = list;
    }

    /// Somebody asks for a size or for contents, which would go in `direction`: what the owner is asked, or what is answered.
    pub(super) fn ask(
        &mut self,
        body: &[u8],
        direction: Direction,
        may: bool,
        files: &mut dyn Files,
    ) -> Result<Result<Vec<u8>, Vec<u8>>, Broken> {
        let mut at = Reader(body);
        let stream = at.u32().ok_or(Broken("request for contents"))?;
        let no = refusal(stream);
        let mut read = || Some((at.u32()?, at.u32()?, [at.u32()?, at.u32()?], at.u32()?));
        let Some((place, kind, [low, high], len)) = read() else { return Ok(Err(no)) };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let may = may && self.waiting.len() < MAX_WAITING;
        let Some(file) = self.list.get_mut(place).filter(|file| may && !file.folder) else {
            return Ok(Err(no));
        };
        let offset = u64::from(low) | u64::from(high) << 32;
        let asked = match kind {
            // What a length would say of a size is always the same.
            SIZE if files.stands() => Asked::Size,
            RANGE if file.size.is_some_and(|size| offset >= size) && offset > 0 => {
                return Ok(Err(answer(stream, &[])));
            }
            RANGE if len <= MAX_PART => {
                let len = file.within(offset, len);
                if !file.fetch(offset, len, direction, files) {
                    return Ok(Err(no));
                }
                Asked::Part { offset, len }
            }
            _ => return Ok(Err(no)),
        };
        self.last = self.last.wrapping_add(1);
        let (low, high, len) = match asked {
            Asked::Size => (0, 0, 8),
            Asked::Part { len, .. } => (low, high, len),
        };
        let fields = [self.last, file.index, kind, low, high, len].map(u32::to_le_bytes);
        self.waiting.insert(self.last, Waiting { stream, file: place, asked });
        Ok(Ok(message(FILE_REQUEST, 0, fields.as_flattened())))
    }

    /// The owner answers, and what it gives goes in `direction`: what who asked is told. `None`: nobody did.
    pub(super) fn answered(
        &mut self,
        flags: u16,
        body: &[u8],
        direction: Direction,
        may: bool,
        files: &mut dyn Files,
    ) -> Result<Option<Vec<u8>>, Broken> {
        let wrong = Broken("contents of a file");
        let mut at = Reader(body);
        let number = at.u32().ok_or(wrong)?;
        let Some(waiting) = self.waiting.remove(&number) else { return Ok(None) };
        let no = Some(refusal(waiting.stream));
        let Some(file) = self.list.get_mut(waiting.file) else { return Ok(no) };
        let given = flags & OK != 0;
        let data = at.0;
        let passes = match waiting.asked {
            Asked::Size if given => {
                let mut size = || Some(u64::from(at.u32()?) | u64::from(at.u32()?) << 32);
                let size = size().filter(|_| data.len() == 8).ok_or(wrong)?;
                may && files.stands() && file.has_size(size, files)
            }
            Asked::Size => false,
            Asked::Part { offset, len } => {
                if given && u32::try_from(data.len()).map_or(true, |got| got > len) {
                    return Err(wrong);
                }
                file.passes((offset, len), data, given && may, direction, files)
            }
        };
        Ok(if passes { Some(answer(waiting.stream, data)) } else { no })
    }
}

impl Offered {
    fn opening(&self, direction: Direction) -> Opening<'_> {
        let gives = direction == Direction::ToPerson;
        Opening {
            place: Place::Clipboard,
            path: &self.path,
            reads: !gives,
            writes: gives,
            changes: false,
            makes: gives,
            empties: gives,
            removes: false,
            folder: Some(self.folder),
        }
    }

    /// Whether this can be its size, which the list may have said already.
    fn has_size(&mut self, size: u64, files: &mut dyn Files) -> bool {
        if self.size.is_some_and(|listed| listed != size) {
            return false;
        }
        self.size = Some(size);
        if let Some(open) = &self.open {
            files.size(open.number, size);
        }
        true
    }

    /// As much of a length as the file has behind `offset`.
    fn within(&self, offset: u64, len: u32) -> u32 {
        let left = self.size.map(|size| size.saturating_sub(offset));
        left.map_or(len, |left| len.min(u32::try_from(left).unwrap_or(u32::MAX)))
    }

    /// Whether a part may be asked for.
    fn fetch(&mut self, offset: u64, len: u32, direction: Direction, files: &mut dyn Files) -> bool {
        if self.open.is_none() {
            let Some(number) = files.open(&self.opening(direction)) else { return false };
            // Nobody opens it but who asks.
            files.opened(number, Ok(()));
            if let Some(size) = self.size {
                files.size(number, size);
            }
            self.open = Some(Open { number, waiting: 0, reached: Reached::default(), end: None });
        }
        let Some(open) = &mut self.open else { return false };
        let passes = files.ask(open.number, offset.saturating_add(len.into()));
        open.waiting += usize::from(passes);
        passes
    }

    /// Whether a part may pass; the file is over with the last of it, since nobody says so.
    fn passes(
        &mut self,
        (offset, len): (u64, u32),
        data: &[u8],
        may: bool,
        direction: Direction,
        files: &mut dyn Files,
    ) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.waiting = open.waiting.saturating_sub(1);
        if !may || !files.pass(open.number, direction, offset, &Bytes::copy_from_slice(data)) {
            return false;
        }
        let end = offset.saturating_add(data.len() as u64);
        open.reached.add(offset, end);
        // A part that is short says where the file ends, unless that is known: some give less than they were asked for.
        let short = u32::try_from(data.len()).is_ok_and(|got| got < len);
        if short && (data.is_empty() || self.size.is_none()) {
            open.end = Some(open.end.map_or(end, |known| known.min(end)));
            files.ends(open.number, end);
        }
        let last = [self.size, open.end].into_iter().flatten().min();
        if open.waiting == 0 && last.is_some_and(|last| open.reached.to >= last) {
            files.close(open.number, Ok(()));
            self.open = None;
        }
        true
    }
}

impl Reached {
    fn add(&mut self, from: u64, to: u64) {
        // What is forgotten keeps the file open until the clipboard is another.
        if self.beyond.len() < MAX_WAITING {
            let known = self.beyond.entry(from).or_insert(to);
            *known = to.max(*known);
        } else if from <= self.to {
            self.to = self.to.max(to);
        }
        while let Some(first) = self.beyond.first_entry().filter(|first| *first.key() <= self.to) {
            self.to = self.to.max(first.remove());
        }
    }
}

/// A file of a list and its description with nothing in it but what was read, or its name where that could mean another file.
fn described_file(index: u32, description: &[u8]) -> Option<Result<(Offered, Vec<u8>), String>> {
    let flags = u32_at(description, 0)? & (ATTRIBUTES | WRITTEN | SIZED | PROGRESS);
    let given = |flag: u32, at: usize| Some(if flags & flag != 0 { u32_at(description, at)? } else { 0 });
    let attributes = given(ATTRIBUTES, 36)? & KNOWN_ATTRIBUTES;
    let written = [given(WRITTEN, 56)?, given(WRITTEN, 60)?];
    let (high, low) = (given(SIZED, 64)?, given(SIZED, 68)?);
    let name = description.get(BEFORE_NAME..)?;
    let end = name.as_chunks::<2>().0.iter().position(|unit| *unit == [0, 0]);
    let name = name.get(..end.map_or(NAME, |end| 2 * end))?;
    let Some(path) = end.and_then(|_| absolute(name)) else { return Some(Err(shown(name))) };
    let head = [&[flags][..], &[0; 8], &[attributes], &[0; 4], &written, &[high, low]].concat();
    let mut bytes: Vec<u8> = head.into_iter().flat_map(u32::to_le_bytes).collect();
    // In the one form that was judged.
    let inner = path.get(ROOT.len() + 2..)?.replace('/', "\\");
    bytes.extend(inner.encode_utf16().flat_map(u16::to_le_bytes));
    bytes.resize(DESCRIPTION, 0);
    let size = (flags & SIZED != 0).then_some(u64::from(low) | u64::from(high) << 32);
    Some(Ok((Offered { index, path, size, folder: attributes & FOLDER != 0, open: None }, bytes)))
}

/// The path of a name that is relative.
fn absolute(name: &[u8]) -> Option<String> {
    let name = path::text(name).filter(|name| !name.is_empty())?;
    path::normal(ROOT, &format!("\\{name}"))
}

fn shown(name: &[u8]) -> String {
    let units: Vec<u16> = name.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    String::from_utf16_lossy(&units)
}

/// There are more files than a list may have.
pub(super) fn say_too_many(files: &mut dyn Files) {
    files.refused(&format!("/{ROOT}"), TOO_MANY);
}

/// A whole message with a list of ours, without the names.
pub(super) fn without_names(message: &[u8]) -> Vec<u8> {
    let (head, entries) = message.split_at_checked(12).unwrap_or((message, &[]));
    let (entries, _) = entries.as_chunks::<DESCRIPTION>();
    let before = entries.iter().flat_map(|entry| entry.iter().take(BEFORE_NAME).copied());
    head.iter().copied().chain(before).collect()
}

/// Contents, or a size.
fn answer(stream: u32, data: &[u8]) -> Vec<u8> {
    message(FILE_RESPONSE, OK, &[stream.to_le_bytes().as_slice(), data].concat())
}

/// A request that is not granted.
fn refusal(stream: u32) -> Vec<u8> {
    message(FILE_RESPONSE, FAIL, &stream.to_le_bytes())
}

#[cfg(test)]
mod tests;
