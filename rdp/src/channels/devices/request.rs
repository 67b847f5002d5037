//! What a target asks of a device (MS-RDPEFS 2.2.1.4, 2.2.3.3), read.

use bytes::Bytes;

use super::path;
use crate::wire::{Reader, put, u32_at};

/// Bytes of a request before what its kind says.
pub(super) const HEAD: usize = 24;
/// Where the contents of a WRITE begin.
pub(super) const CONTENTS: usize = HEAD + 32;
/// Most bytes that are read at once: what fits into the longest message.
const MAX_READ: u32 = super::LIMIT as u32 - 1024;

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
    /// The drive's own figures.
    Volume,
    /// Names: of a folder as the target names it, or more of the same.
    List {
        first: Option<String>,
    },
    /// A path of the drive, not in normal form.
    Rename(String),
    Remove,
    Resize(u64),
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

/// Reads a whole request; what goes on if it is allowed is nothing but what was read. `None`: it is truncated, or its
/// lengths lie.
pub(super) fn read(head: &Head, mut message: Vec<u8>) -> Option<(Request, Bytes)> {
    let request = match (head.major, head.minor) {
        (CREATE, _) => Request::Create(create(&mut message)?),
        (DIRECTORY, QUERY_DIRECTORY) => list(&mut message)?,
        _ => plain(head.major, &mut message)?,
    };
    Some((request, message.into()))
}

/// A request with 32 bytes of fields and padding, and perhaps something behind them.
fn plain(major: u32, message: &mut Vec<u8>) -> Option<Request> {
    if major == SET_INFORMATION && u32_at(message, HEAD) == Some(RENAME) {
        path::one_separator(message, CONTENTS + 6);
    }
    let body = message.get(HEAD..)?;
    let behind = match major {
        CLOSE | READ => 0,
        WRITE => u32_at(body, 0)?,
        QUERY_INFORMATION | QUERY_VOLUME | SET_INFORMATION => u32_at(body, 4)?,
        LOCK => u32_at(body, 8)?.checked_mul(16)?,
        _ => return Some(Request::Other),
    };
    let behind = body.get(32..)?.get(..usize::try_from(behind).ok()?)?;
    let request = match major {
        CLOSE => Request::Close,
        READ => {
            let (len, offset) = (u32_at(body, 0)?, u64_at(body, 4)?);
            if len > MAX_READ {
                return None;
            }
            Request::Read { offset, len }
        }
        WRITE => Request::Write { offset: u64_at(body, 4)? },
        QUERY_INFORMATION => Request::Look { class: u32_at(body, 0)? },
        QUERY_VOLUME => Request::Volume,
        SET_INFORMATION => set(u32_at(body, 0)?, behind)?,
        _ => Request::Lock,
    };
    let used = CONTENTS + behind.len();
    message.truncate(used);
    Some(request)
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
    /// `MAXIMUM_ALLOWED` and `FILE_GENERIC_READ`.
    const MAXIMUM: u32 = 0x0200_0000;
    const GENERIC_READ: u32 = 0x0012_0089;
    /// `FILE_DIRECTORY_FILE`, `FILE_NON_DIRECTORY_FILE`, `FILE_DELETE_ON_CLOSE`, `FILE_OPEN_BY_FILE_ID`.
    const FOLDER: u32 = 0x1;
    const NO_FOLDER: u32 = 0x40;
    const REMOVES: u32 = 0x1000;
    const BY_NUMBER: u32 = 0x2000;
    path::one_separator(message, CONTENTS);
    let mut at = Reader(message.get(HEAD..)?);
    let mut access = at.u32()?;
    at.take(16)?;
    let (disposition, options, len) = (at.u32()?, at.u32()?, usize::try_from(at.u32()?).ok()?);
    let path = path::text(at.take(len)?)?;
    message.truncate(HEAD + 32 + len);
    if access & MAXIMUM != 0 {
        access = access & !MAXIMUM | GENERIC_READ;
        put(message, HEAD, &access.to_le_bytes());
    }
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
    // Full, both names, only names, plain (MS-FSCC 2.4).
    if !matches!(class, 1 | 2 | 3 | 12) {
        return Some(Request::Other);
    }
    if first == 0 {
        message.truncate(HEAD + FIXED);
        put(message, HEAD + 5, &[0; 4]);
        return Some(Request::List { first: None });
    }
    let path = path::text(path)?;
    message.truncate(HEAD + FIXED + len);
    Some(Request::List { first: Some(path) })
}

/// A change by SET_INFORMATION (2.2.3.3.9), by class (MS-FSCC 2.4).
fn set(class: u32, buffer: &[u8]) -> Option<Request> {
    Some(match class {
        4 => Request::Attributes,
        RENAME => {
            let mut at = Reader(buffer);
            let (_replace, root, len) = (at.u8()?, at.u8()?, usize::try_from(at.u32()?).ok()?);
            let path = path::text(at.take(len)?)?;
            // Nothing but the drive itself is where a path starts.
            (root == 0).then_some(Request::Rename(path))?
        }
        13 if buffer.first() == Some(&0) => Request::Attributes,
        13 => Request::Remove,
        19 | 20 => Request::Resize(u64_at(buffer, 0)?),
        _ => Request::Other,
    })
}
