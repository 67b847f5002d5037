//! What a target asks of a device (MS-RDPEFS 2.2.1.4, 2.2.3.3), read.

use std::ops::Range;

use bytes::Bytes;

use super::{answer, path};
use crate::wire::{Reader, put, u32_at};

/// Bytes of a request before what its kind says.
pub(super) const HEAD: usize = 24;
/// Where the number of the open file stands.
const FILE: usize = 8;
/// Where the contents of a WRITE begin.
pub(super) const CONTENTS: usize = HEAD + 32;
/// Most bytes that are read at once: what fits into the longest message.
const MAX_READ: u32 = super::LIMIT as u32 - 1024;

/// The last place in a file.
const MAX_OFFSET: u64 = i64::MAX as u64;
/// Most bytes of a buffer that comes with a question, which holds nothing.
const MAX_QUERY: u32 = 4096;
/// Most ranges that are locked at once.
const MAX_LOCKS: u32 = 64;

const CREATE: u32 = 0;
const CLOSE: u32 = 2;
const READ: u32 = 3;
const WRITE: u32 = 4;
const QUERY_INFORMATION: u32 = 5;
const SET_INFORMATION: u32 = 6;
const QUERY_VOLUME: u32 = 0x0a;
const DIRECTORY: u32 = 0x0c;
const LOCK: u32 = 0x11;
/// `FileRenameInformation` (MS-FSCC 2.4).
const RENAME: u32 = 10;
/// `IRP_MN_QUERY_DIRECTORY`.
const QUERY_DIRECTORY: u32 = 1;

/// Whose question it is, and about what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Head {
    pub(super) device: u32,
    pub(super) file: u32,
    pub(super) completion: u32,
    pub(super) major: u32,
    minor: u32,
}

/// A request's kind, and what the kind says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Create(Create),
    Close,
    Read {
        offset: u64,
        len: u32,
    },
    /// The contents follow the request's [`CONTENTS`].
    Write {
        offset: u64,
    },
    /// Times, size and the like; the kind of answer.
    Look {
        class: u32,
    },
    /// The drive's own figures; the kind of answer.
    Volume {
        class: u32,
    },
    /// Names: of a folder as the target names it, or more of the same; the kind of answer.
    List {
        class: u32,
        first: Option<String>,
    },
    /// A path of the drive, not in normal form.
    Rename(String),
    Remove,
    Resize(u64),
    Allocate(u64),
    Attributes,
    Lock,
    /// Nothing that anybody needs: control codes of devices, notices of changes, quotas, links.
    Other,
}

/// A file to be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Create {
    /// As the target names it.
    pub(super) path: String,
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) changes: bool,
    pub(super) makes: bool,
    pub(super) empties: bool,
    pub(super) removes: bool,
    pub(super) folder: Option<bool>,
}

/// The head of a request, behind the message's own.
pub(super) fn head(body: &mut Reader<'_>) -> Option<Head> {
    Some(Head {
        device: body.u32()?,
        file: body.u32()?,
        completion: body.u32()?,
        major: body.u32()?,
        minor: body.u32()?,
    })
}

/// Reads a whole request; what goes on if it is allowed is nothing but what was read: everything else is zero. `None`: it is
/// truncated, or its lengths lie.
pub(super) fn read(head: &Head, mut message: Vec<u8>) -> Option<(Request, Bytes)> {
    let request = match (head.major, head.minor) {
        (DIRECTORY, QUERY_DIRECTORY) => list(&mut message)?,
        (major, _) => {
            // Only a folder's questions have kinds of their own.
            put(&mut message, HEAD - 4, &[0; 4]);
            if major == CREATE { Request::Create(create(&mut message)?) } else { plain(major, &mut message)? }
        }
    };
    Some((request, message.into()))
}

/// A print job's CREATE: printers have no paths.
pub(super) fn job(create: &Bytes) -> Bytes {
    let mut message = create.to_vec();
    message.truncate(CONTENTS);
    wipe(&mut message, CONTENTS - 4..CONTENTS);
    message.into()
}

/// A request with 32 bytes of fields and padding, and perhaps something behind them.
fn plain(major: u32, message: &mut Vec<u8>) -> Option<Request> {
    if major == SET_INFORMATION && u32_at(message, HEAD) == Some(RENAME) {
        path::one_separator(message, CONTENTS + 6);
    }
    let body = message.get(HEAD..)?;
    // What is behind the fields, and how many bytes of those say something.
    let (behind, fields) = match major {
        CLOSE => (0, 0),
        READ => (0, 12),
        WRITE => (u32_at(body, 0)?, 12),
        QUERY_INFORMATION | QUERY_VOLUME => (u32_at(body, 4).filter(|len| *len <= MAX_QUERY)?, 8),
        SET_INFORMATION => (u32_at(body, 4)?, 8),
        LOCK => (u32_at(body, 8).filter(|locks| *locks <= MAX_LOCKS)? * 16, 12),
        _ => return Some(Request::Other),
    };
    let used = CONTENTS.checked_add(usize::try_from(behind).ok()?)?;
    if message.len() < used {
        return None;
    }
    message.truncate(used);
    wipe(message, HEAD + fields..CONTENTS);
    let (first, second) = (u32_at(message, HEAD)?, u64_at(message, HEAD + 4)?);
    Some(match major {
        CLOSE => Request::Close,
        READ if first > MAX_READ => return None,
        // Negative places mean the end, or wherever the last one ended.
        READ | WRITE if second > MAX_OFFSET => return None,
        READ => Request::Read { offset: second, len: first },
        WRITE => Request::Write { offset: second },
        QUERY_INFORMATION | QUERY_VOLUME => {
            // The question is in the fields.
            wipe(message, CONTENTS..used);
            let volume = major == QUERY_VOLUME;
            let known = if volume { answer::VOLUME } else { answer::FILE };
            if !known.contains(&first) {
                Request::Other
            } else if volume {
                Request::Volume { class: first }
            } else {
                Request::Look { class: first }
            }
        }
        SET_INFORMATION => set(first, message.get_mut(CONTENTS..)?)?,
        _ => {
            // One bit of this word says whether to wait.
            let waits = message.get(HEAD + 4)? & 1;
            put(message, HEAD + 4, &[waits, 0, 0, 0]);
            Request::Lock
        }
    })
}

/// Zeros in the place of what nobody reads.
pub(super) fn wipe(bytes: &mut [u8], range: Range<usize>) {
    if let Some(unread) = bytes.get_mut(range) {
        unread.fill(0);
    }
}

/// The little-endian quad word at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

/// A CREATE (2.2.1.4.1). Asking for whatever is allowed becomes asking to read.
fn create(message: &mut Vec<u8>) -> Option<Create> {
    const READS: u32 = 0x1 | 0x20 | 0x1000_0000 | 0x2000_0000 | 0x8000_0000;
    const WRITES: u32 = 0x2 | 0x4 | 0x1000_0000 | 0x4000_0000;
    // Extended attributes, children, attributes, removal, rights, owner, the audit's own.
    const CHANGES: u32 = 0x10 | 0x40 | 0x100 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x1000_0000 | 0x0100_0000;
    /// `FILE_APPEND_DATA` and `FILE_WRITE_DATA`.
    const APPENDS: u32 = 0x4;
    const WRITES_DATA: u32 = 0x2;
    /// `MAXIMUM_ALLOWED` and `FILE_GENERIC_READ`.
    const MAXIMUM: u32 = 0x0200_0000;
    const GENERIC_READ: u32 = 0x0012_0089;
    /// `FILE_DIRECTORY_FILE`, `FILE_NON_DIRECTORY_FILE`, `FILE_DELETE_ON_CLOSE`, `FILE_OPEN_BY_FILE_ID`.
    const FOLDER: u32 = 0x1;
    const NO_FOLDER: u32 = 0x40;
    const REMOVES: u32 = 0x1000;
    const BY_NUMBER: u32 = 0x2000;
    /// Rights, attributes, ways to share and options that exist (MS-SMB2 2.2.13).
    const RIGHTS: u32 = 0xf31f_01ff;
    const ATTRIBUTES: u32 = 0x0000_31b7;
    const SHARES: u32 = 0x7;
    const OPTIONS: u32 = 0x00f0_fb7f;
    path::one_separator(message, CONTENTS);
    let mut at = Reader(message.get(HEAD..)?);
    let mut access = at.u32()? & RIGHTS;
    // How much room it needs is a hint that no file needs.
    at.take(8)?;
    let (attributes, shares) = (at.u32()? & ATTRIBUTES, at.u32()? & SHARES);
    let (disposition, options, len) = (at.u32()?, at.u32()? & OPTIONS, usize::try_from(at.u32()?).ok()?);
    let path = path::text(at.take(len)?)?;
    message.truncate(HEAD + 32 + len);
    if access & MAXIMUM != 0 {
        access = access & !MAXIMUM | GENERIC_READ;
    }
    // Where contents go must not depend on how long the file is: by the right to append alone they go to its end.
    if access & APPENDS != 0 {
        access |= WRITES_DATA;
    }
    // Which file is open yet is nobody's to say.
    wipe(message, FILE..FILE + 4);
    let fields = [access, 0, 0, attributes, shares, disposition, options];
    put(message, HEAD, &fields.map(u32::to_le_bytes).concat());
    // FILE_SUPERSEDE 0, FILE_OPEN 1, FILE_CREATE 2, FILE_OPEN_IF 3, FILE_OVERWRITE 4, FILE_OVERWRITE_IF 5.
    if disposition > 5 || options & BY_NUMBER != 0 || options & FOLDER != 0 && options & NO_FOLDER != 0 {
        return None;
    }
    Some(Create {
        path,
        reads: access & READS != 0,
        writes: access & WRITES != 0,
        changes: access & CHANGES != 0,
        makes: disposition != 1,
        empties: matches!(disposition, 0 | 2 | 4 | 5),
        removes: options & REMOVES != 0,
        folder: match (options & FOLDER != 0, options & NO_FOLDER != 0) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
    })
}

/// A listing (2.2.3.3.10), which has a path only where it begins.
fn list(message: &mut Vec<u8>) -> Option<Request> {
    const FIXED: usize = 4 + 1 + 4 + 23;
    path::one_separator(message, HEAD + FIXED);
    let mut at = Reader(message.get(HEAD..)?);
    let (class, first, len) = (at.u32()?, at.u8()?, usize::try_from(at.u32()?).ok()?);
    at.take(23)?;
    let path = at.take(len)?;
    if !answer::NAMES.contains(&class) {
        return Some(Request::Other);
    }
    let (first, len) = if first == 0 { (None, 0) } else { (Some(path::text(path)?), len) };
    message.truncate(HEAD + FIXED + len);
    wipe(message, HEAD + 9..HEAD + FIXED);
    put(message, HEAD + 4, &[u8::from(first.is_some())]);
    put(message, HEAD + 5, &u32::try_from(len).ok()?.to_le_bytes());
    Some(Request::List { class, first })
}

/// A change by SET_INFORMATION (2.2.3.3.9), by class (MS-FSCC 2.4). Each has a length of its own.
fn set(class: u32, buffer: &mut [u8]) -> Option<Request> {
    Some(match (class, buffer.len()) {
        (4, 36 | 40) => {
            wipe(buffer, 36..buffer.len());
            Request::Attributes
        }
        (RENAME, _) => {
            let mut at = Reader(buffer);
            let (replaces, root, len) = (at.u8()?, at.u8()?, usize::try_from(at.u32()?).ok()?);
            // Nothing but the drive itself is where a path starts.
            if at.0.len() != len || root != 0 {
                return None;
            }
            let path = path::text(at.0)?;
            put(buffer, 0, &[u8::from(replaces != 0)]);
            Request::Rename(path)
        }
        (13, 0 | 1) => match buffer.first_mut() {
            Some(0) => Request::Attributes,
            Some(removes) => {
                *removes = 1;
                Request::Remove
            }
            None => Request::Remove,
        },
        (19 | 20, 8) => {
            let size = u64_at(buffer, 0).filter(|size| *size <= MAX_OFFSET)?;
            if class == 19 { Request::Allocate(size) } else { Request::Resize(size) }
        }
        (4 | 13 | 19 | 20, _) => return None,
        _ => Request::Other,
    })
}
