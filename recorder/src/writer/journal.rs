//! The journal: what is durable but not yet in its own file. One for all sessions of the process.
//!
//! A record is `magic · u32 length of the rest · id length · id · core of a segment head · body ·
//! first 16 bytes of SHA-256 over all before`. The body is sealed like a segment's.

use std::io;

use super::JOURNAL;
use crate::{
    codec::Cursor,
    header::{RecordingId, sha256_one},
    segment::{CORE_LEN, Head, MAX_BODY},
    storage::SpoolFile,
};

const MAGIC: [u8; 4] = *b"CJRN";
pub(crate) const SUM_LEN: usize = 16;
const PREFIX: usize = 8;
/// Longest record a reader accepts.
pub(crate) const MAX_RECORD: usize = MAX_BODY + CORE_LEN + SUM_LEN + 80;

/// The file name of a journal.
pub(crate) fn name(number: u64) -> String {
    format!("journal-{number}{JOURNAL}")
}

/// The number of the journal of that file name.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(JOURNAL)?.parse().ok()
}

/// Appends one record.
pub(crate) fn push(out: &mut Vec<u8>, id: &RecordingId, head: &Head, body: &[u8]) {
    let start = out.len();
    let name = id.as_str().as_bytes();
    let len = 1 + name.len() + CORE_LEN + body.len() + SUM_LEN;
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.push(name.len() as u8);
    out.extend_from_slice(name);
    out.extend_from_slice(&head.core());
    out.extend_from_slice(body);
    let sum = sha256_one(out.get(start..).unwrap_or_default());
    out.extend_from_slice(sum.get(..SUM_LEN).unwrap_or_default());
}

/// A record found in a journal.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) id: RecordingId,
    pub(crate) head: Head,
    pub(crate) body: &'a [u8],
    /// The record as it stands.
    pub(crate) bytes: &'a [u8],
}

/// Takes the next record; `None` where the rest is no whole record (the torn end of a crash).
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let mut c = Cursor::new(rest);
    if c.array::<4>()? != MAGIC {
        return None;
    }
    let len = c.u32()? as usize;
    if len > MAX_RECORD {
        return None;
    }
    let mut inner = Cursor::new(c.take(len.checked_sub(SUM_LEN)?)?);
    let sum = c.take(SUM_LEN)?;
    let summed = rest.get(..PREFIX + len - SUM_LEN)?;
    if sha256_one(summed).get(..SUM_LEN)? != sum {
        return None;
    }
    let name = inner.u8()? as usize;
    let id = std::str::from_utf8(inner.take(name)?).ok()?.parse().ok()?;
    let head = Head::parse_core(inner.take(CORE_LEN)?)?;
    head.check().ok()?;
    let body = inner.rest();
    if body.len() != head.body_len as usize {
        return None;
    }
    let (bytes, after) = rest.split_at_checked(PREFIX + len)?;
    *rest = after;
    Some(Record { id, head, body, bytes })
}

/// Reads a whole journal file; the writer keeps journals short.
pub(crate) fn read_all(file: &dyn SpoolFile, max: u64) -> io::Result<Vec<u8>> {
    let len = file.len().min(max);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads arbitrary bytes as a journal; for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_journal(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    std::iter::from_fn(|| next(&mut rest)).map(|record| record.body.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_torn_end_stops_the_reading() {
        let head = Head {
            kind: 1,
            flags: 3,
            history: 0,
            body_len: 5,
            plain_len: 9,
            stream: 1,
            first: 2,
            span: 3,
            nonce: 4,
            seq: 0,
            prev: [0; 32],
        };
        let id: RecordingId = "s-1".parse().unwrap();
        let mut bytes = Vec::new();
        push(&mut bytes, &id, &head, b"hello");
        push(&mut bytes, &id, &head, b"world");
        let mut rest = bytes.as_slice();
        assert_eq!(next(&mut rest).unwrap().body, b"hello");
        assert_eq!(next(&mut rest).unwrap().body, b"world");
        assert!(next(&mut rest).is_none());
        let mut torn = &bytes[..bytes.len() - 1];
        assert!(next(&mut torn).is_some());
        assert!(next(&mut torn).is_none());
    }
}
