//! Messages of a static channel, cut into chunks (MS-RDPBCGR 2.2.6.1).

use super::{FIRST, LAST, compressed};
use crate::{rewrite::Broken, wire::Reader};

/// The largest piece of a message (MS-RDPBCGR 2.2.6.1).
const PIECE: usize = 1600;
/// `CHANNEL_FLAG_SHOW_PROTOCOL`.
const SHOW: u32 = 0x10;

/// A message of at most `LIMIT` bytes that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct Partial<const LIMIT: usize> {
    bytes: Vec<u8>,
    total: usize,
}

impl<const LIMIT: usize> Partial<LIMIT> {
    /// Takes a chunk; answers with the message once it is whole.
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        let mut at = Reader(chunk);
        let (total, flags) = at.u32().zip(at.u32()).ok_or(Broken("channel header"))?;
        if compressed(chunk) {
            return Err(Broken("channel chunk"));
        }
        if flags & FIRST != 0 {
            self.bytes.clear();
            self.total = usize::try_from(total)
                .ok()
                .filter(|len| *len <= LIMIT)
                .ok_or(Broken("size of a channel's message"))?;
        }
        if self.bytes.len() + at.0.len() > self.total {
            return Err(Broken("channel chunk"));
        }
        self.bytes.extend_from_slice(at.0);
        if flags & LAST == 0 {
            return Ok(None);
        }
        self.total = 0;
        Ok(Some(std::mem::take(&mut self.bytes)))
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
