//! A message of a dynamic channel, which arrives in PDUs (MS-RDPEDYC 2.2.3).

use super::{DATA, DATA_FIRST};
use crate::{rewrite::Broken, wire::Reader};

/// How much of a message has not come yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    left: usize,
}

impl Incoming {
    /// What a PDU carries of a message of at most so many bytes, and whether that is the end of it.
    pub(super) fn take<'a>(
        &mut self,
        (command, head): (u8, u8),
        mut at: Reader<'a>,
        most: usize,
    ) -> Result<(&'a [u8], bool), Broken> {
        let broken = Broken("message of a dynamic channel");
        match (command, self.left) {
            (DATA, 0) => return Ok((at.0, true)),
            (DATA, _) => {}
            (DATA_FIRST, 0) => {
                let total = match head >> 2 & 3 {
                    0 => at.u8().map(u32::from),
                    1 => at.u16().map(u32::from),
                    2 => at.u32(),
                    _ => None,
                };
                let total = total.and_then(|total| usize::try_from(total).ok());
                self.left = total.filter(|total| (1..=most).contains(total)).ok_or(broken)?;
            }
            _ => return Err(broken),
        }
        self.left = self.left.checked_sub(at.0.len()).ok_or(broken)?;
        Ok((at.0, self.left == 0))
    }
}

/// A message that is kept until all of it has come, of at most so many bytes.
#[derive(Debug, Default)]
pub(super) struct Gathered<const LIMIT: usize> {
    incoming: Incoming,
    bytes: Vec<u8>,
}

impl<const LIMIT: usize> Gathered<LIMIT> {
    /// The message, once it is whole.
    pub(super) fn add(&mut self, head: (u8, u8), at: Reader<'_>) -> Result<Option<Vec<u8>>, Broken> {
        let (part, is_last) = self.incoming.take(head, at, LIMIT)?;
        self.bytes.extend(part);
        Ok(is_last.then(|| std::mem::take(&mut self.bytes)))
    }
}
