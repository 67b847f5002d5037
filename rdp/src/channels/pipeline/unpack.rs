//! Messages of the target, unpacked (MS-RDPEGFX 2.2.5, 3.1.9.1).

use ironrdp_graphics::zgfx::Decompressor;

use crate::{rewrite::Broken, wire::Reader};

/// The longest message, packed and unpacked: a screen of 4K as it is, and some.
pub(in crate::channels) const LONGEST: usize = 40 << 20;
/// The most that a segment may become.
const SEGMENT: usize = 65_535;

const SINGLE: u8 = 0xe0;
const MULTIPART: u8 = 0xe1;

const BROKEN: Broken = Broken("packing of the graphics pipeline");

/// What was unpacked so far refers to.
#[derive(Default)]
pub(super) struct Unpack(Decompressor);

impl Unpack {
    /// A whole message.
    pub(super) fn message(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut at = Reader(message);
        let mut out = Vec::new();
        match at.u8() {
            Some(SINGLE) => self.segment(at.0, &mut out)?,
            Some(MULTIPART) => {
                let (count, total) = at.u16().zip(at.u32()).ok_or(BROKEN)?;
                let total = usize::try_from(total).ok().filter(|total| *total <= LONGEST).ok_or(BROKEN)?;
                for _ in 0..count {
                    let len = at.u32().and_then(|len| usize::try_from(len).ok()).ok_or(BROKEN)?;
                    self.segment(at.take(len).ok_or(BROKEN)?, &mut out)?;
                    if out.len() > total {
                        return Err(BROKEN);
                    }
                }
                if out.len() != total || !at.0.is_empty() {
                    return Err(BROKEN);
                }
            }
            _ => return Err(BROKEN),
        }
        Ok(out)
    }

    /// One segment at a time: the library bounds what a message becomes much higher.
    fn segment(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        // No packer makes a segment that is much longer than what is in it.
        if segment.len() > 2 * SEGMENT {
            return Err(BROKEN);
        }
        let before = out.len();
        let single = [&[SINGLE], segment].concat();
        self.0.decompress(&single, out).map_err(|_| BROKEN)?;
        if out.len() - before > SEGMENT { Err(BROKEN) } else { Ok(()) }
    }
}
