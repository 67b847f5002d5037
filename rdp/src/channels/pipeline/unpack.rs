//! Messages of the target, unpacked (MS-RDPEGFX 2.2.5, 3.1.9.1), a segment as soon as it is there: unpacking costs time, and a
//! message has many.

use ironrdp_graphics::zgfx::Decompressor;

use crate::{
    rewrite::Broken,
    wire::{Reader, u16_at, u32_at},
};

/// The longest message, packed and unpacked: more than a screen of 4K by any codec but none.
pub(in crate::channels) const LONGEST: usize = 16 << 20;
/// The most that a segment may become, and the most that it may be: no packer makes one that is much longer.
const SEGMENT: usize = 65_535;
const PACKED: usize = 2 * SEGMENT;

const SINGLE: u8 = 0xe0;
const MULTIPART: u8 = 0xe1;
/// Descriptor, number of segments, bytes that they become.
const HEAD: usize = 7;

const BROKEN: Broken = Broken("packing of the graphics pipeline");

/// A message that arrives, and what was before it, to which it refers.
#[derive(Default)]
pub(super) struct Unpack {
    history: Decompressor,
    /// What has come and is not unpacked.
    packed: Vec<u8>,
    out: Vec<u8>,
    /// Of a message in several segments: how many follow, and what they all become.
    follow: Option<(u16, usize)>,
}

impl Unpack {
    /// Takes the next part of a message.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<(), Broken> {
        self.packed.extend_from_slice(part);
        if self.follow.is_none() && self.packed.first() == Some(&MULTIPART) {
            let Some((count, total)) = u16_at(&self.packed, 1).zip(u32_at(&self.packed, 3)) else {
                return Ok(());
            };
            let total = usize::try_from(total).ok().filter(|total| *total <= LONGEST).ok_or(BROKEN)?;
            self.packed.drain(..HEAD);
            self.follow = Some((count, total));
        }
        match self.follow {
            Some((count, total)) => self.segments(count, total),
            None if self.packed.len() > PACKED => Err(BROKEN),
            None => Ok(()),
        }
    }

    fn segments(&mut self, mut count: u16, total: usize) -> Result<(), Broken> {
        let packed = std::mem::take(&mut self.packed);
        let mut rest = packed.as_slice();
        while count > 0 {
            let mut at = Reader(rest);
            let Some(len) = at.u32() else { break };
            let len = usize::try_from(len).ok().filter(|len| *len <= PACKED).ok_or(BROKEN)?;
            let Some(segment) = at.take(len) else { break };
            self.segment(segment)?;
            if self.out.len() > total {
                return Err(BROKEN);
            }
            (rest, count) = (at.0, count - 1);
        }
        if count == 0 && !rest.is_empty() {
            return Err(BROKEN);
        }
        self.packed = rest.to_vec();
        self.follow = Some((count, total));
        Ok(())
    }

    /// The message is whole.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, Broken> {
        match self.follow.take() {
            Some((0, total)) if self.packed.is_empty() && self.out.len() == total => {}
            None => {
                let packed = std::mem::take(&mut self.packed);
                let (&SINGLE, segment) = packed.split_first().ok_or(BROKEN)? else { return Err(BROKEN) };
                self.segment(segment)?;
            }
            Some(_) => return Err(BROKEN),
        }
        Ok(std::mem::take(&mut self.out))
    }

    /// One at a time: the library bounds what a message becomes much higher.
    fn segment(&mut self, segment: &[u8]) -> Result<(), Broken> {
        let before = self.out.len();
        let single = [&[SINGLE], segment].concat();
        self.history.decompress(&single, &mut self.out).map_err(|_| BROKEN)?;
        if self.out.len() - before > SEGMENT { Err(BROKEN) } else { Ok(()) }
    }
}
