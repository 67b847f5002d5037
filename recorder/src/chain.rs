//! Walks the segments of a file in order and computes their chain; trusts nothing it reads.

use crate::{
    error::ReadError,
    header::{self, Hash, ReadPreamble},
    segment::{HEAD_LEN, Head, SEGMENT_MAGIC, link},
    sign::SIGNATURE_LEN,
    storage::Source,
};

/// A segment found in a file.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) head: Head,
    pub(crate) hash: Hash,
    pub(crate) signature: Option<[u8; SIGNATURE_LEN]>,
}

/// Reads the preamble of a file.
pub(crate) fn read_preamble(source: &(impl Source + ?Sized)) -> Result<ReadPreamble, ReadError> {
    let mut fixed = [0; header::FIXED];
    let got = source.read_at(&mut fixed, 0)?;
    let len = header::preamble_len(fixed.get(..got).unwrap_or_default())?;
    let mut bytes = vec![0; len];
    let got = source.read_at(&mut bytes, 0)?;
    header::decode(bytes.get(..got).unwrap_or_default())
}

/// Goes from segment to segment.
pub(crate) struct Walker<'s, S: ?Sized> {
    source: &'s S,
    /// Where the next segment is expected.
    pub(crate) offset: u64,
    /// The body of the segment found last.
    pub(crate) body: Vec<u8>,
}

impl<'s, S: Source + ?Sized> Walker<'s, S> {
    pub(crate) fn new(source: &'s S, offset: u64) -> Self {
        Self { source, offset, body: Vec::new() }
    }

    /// Reads only the head at the present place.
    pub(crate) fn peek(&self) -> Result<Head, ReadError> {
        let mut bytes = [0; HEAD_LEN];
        let got = self.source.read_at(&mut bytes, self.offset)?;
        Head::parse(bytes.get(..got).unwrap_or_default(), self.offset)
    }

    /// Goes on behind the segment at the present place without reading it.
    pub(crate) fn skip(&mut self, head: &Head) {
        self.offset = self.offset.saturating_add(head.total_len());
    }

    /// Reads the whole segment at the present place and goes on behind it.
    pub(crate) fn read(&mut self) -> Result<Found, ReadError> {
        let mut head_bytes = [0; HEAD_LEN];
        let offset = self.offset;
        let got = self.source.read_at(&mut head_bytes, offset)?;
        let head = Head::parse(head_bytes.get(..got).unwrap_or_default(), offset)?;
        let cut = || ReadError::damaged(offset, "a segment is cut off");
        self.body.resize(head.tail_len(), 0);
        if self.source.read_at(&mut self.body, offset + HEAD_LEN as u64)? < head.tail_len() {
            return Err(cut());
        }
        let signature = match head.is_signed() {
            true => Some(self.body.last_chunk::<SIGNATURE_LEN>().copied().ok_or_else(cut)?),
            false => None,
        };
        self.body.truncate(head.body_len as usize);
        self.skip(&head);
        Ok(Found { offset, head, hash: link(&head_bytes, &self.body), signature })
    }

    /// Looks for the next place behind the present one where a segment could start.
    pub(crate) fn resync(&mut self) -> Result<bool, ReadError> {
        const STEP: usize = 64 * 1024;
        let mut at = self.offset.saturating_add(1);
        let mut buf = vec![0; STEP];
        loop {
            let got = self.source.read_at(&mut buf, at)?;
            let seen = buf.get(..got).unwrap_or_default();
            for (place, window) in seen.windows(SEGMENT_MAGIC.len()).enumerate() {
                if window == SEGMENT_MAGIC {
                    self.offset = at + place as u64;
                    if self.peek().is_ok() {
                        return Ok(true);
                    }
                }
            }
            if got < STEP {
                return Ok(false);
            }
            // The marker may stand across the border of two steps.
            at += (STEP - SEGMENT_MAGIC.len() + 1) as u64;
        }
    }
}
