//! Messages of a static channel, cut into chunks (MS-RDPBCGR 2.2.6.1).

use super::{FIRST, LAST, compressed};
use crate::{rewrite::Broken, wire::Reader};

/// The largest piece of a message (MS-RDPBCGR 2.2.6.1).
const PIECE: usize = 1600;
/// `CHANNEL_FLAG_SHOW_PROTOCOL`.
const SHOW: u32 = 0x10;

/// The longest message that is let pass by where it is too long to be kept, and how much of its beginning is kept.
const LONGEST: usize = 64 * 1024 * 1024;
const BEGINNING: usize = 64;

/// A message of at most `LIMIT` bytes that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct Partial<const LIMIT: usize> {
    bytes: Vec<u8>,
    seen: usize,
    total: usize,
}

/// A message that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Whole(Vec<u8>),
    /// It was too long: its beginning.
    Cut(Vec<u8>),
}

impl<const LIMIT: usize> Partial<LIMIT> {
    /// Takes a chunk; answers with the message once it is whole. One that is too long is an error.
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.within(chunk, LIMIT)? {
            Some(Arrived::Whole(message)) => Ok(Some(message)),
            Some(Arrived::Cut(_)) => Err(Broken("size of a channel's message")),
            None => Ok(None),
        }
    }

    /// The same, where of a message that is too long for `LIMIT` its beginning is enough.
    pub(super) fn add_or_cut(&mut self, chunk: &[u8]) -> Result<Option<Arrived>, Broken> {
        self.within(chunk, LONGEST)
    }

    fn within(&mut self, chunk: &[u8], longest: usize) -> Result<Option<Arrived>, Broken> {
        let mut at = Reader(chunk);
        let (total, flags) = at.u32().zip(at.u32()).ok_or(Broken("channel header"))?;
        if compressed(chunk) {
            return Err(Broken("channel chunk"));
        }
        if flags & FIRST != 0 {
            self.bytes.clear();
            self.seen = 0;
            self.total = usize::try_from(total)
                .ok()
                .filter(|len| *len <= longest)
                .ok_or(Broken("size of a channel's message"))?;
        }
        self.seen += at.0.len();
        if self.seen > self.total {
            return Err(Broken("channel chunk"));
        }
        let cut = self.total > LIMIT;
        let room = if cut { BEGINNING.saturating_sub(self.bytes.len()) } else { LIMIT };
        self.bytes.extend(at.0.iter().take(room));
        if flags & LAST == 0 {
            return Ok(None);
        }
        self.total = 0;
        let message = std::mem::take(&mut self.bytes);
        Ok(Some(if cut { Arrived::Cut(message) } else { Arrived::Whole(message) }))
    }
}

/// Cuts a message into chunks.
pub(crate) fn pieces(message: &[u8]) -> Vec<Vec<u8>> {
    let total = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes();
    let count = message.chunks(PIECE).count();
    let piece = |(at, piece): (usize, &[u8])| {
        let first = if at == 0 { FIRST } else { 0 };
        let last = if at + 1 == count { LAST } else { 0 };
        [total.as_slice(), &(first | last | SHOW).to_le_bytes(), piece].concat()
    };
    message.chunks(PIECE).enumerate().map(piece).collect()
}
