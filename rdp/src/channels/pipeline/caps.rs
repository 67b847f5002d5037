//! What a client says that it can draw (MS-RDPEGFX 2.2.3), lessened to what the recording decodes.

use super::pdu::{BROKEN, CAPS_ADVERTISE, encode};
use crate::{
    rewrite::Broken,
    wire::{Reader, u32_at},
};

/// Most sets; there are eleven versions.
const MAX_SETS: u16 = 64;

const SMALL_CACHE: u32 = 0x02;
const AVC420_ENABLED: u32 = 0x10;
const AVC_DISABLED: u32 = 0x20;
const AVC_THIN_CLIENT: u32 = 0x40;
const SCALED_MAP_DISABLE: u32 = 0x80;

/// What a client offered.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Version, and what the client itself said of it.
    sets: Vec<(u32, Vec<u8>)>,
}

impl Offer {
    /// Reads the sets of a client; answers with the PDU for the target. Of each version that is known it offers no H.264, a
    /// small cache and no scaled surfaces; others are left out.
    pub(super) fn read(body: &[u8]) -> Result<(Self, Vec<u8>), Broken> {
        let mut at = Reader(body);
        let count = at.u16().filter(|count| *count <= MAX_SETS).ok_or(BROKEN)?;
        let mut offer = Self::default();
        let mut kept = Vec::new();
        for _ in 0..count {
            let (version, len) = at.u32().zip(at.u32()).ok_or(BROKEN)?;
            let data = usize::try_from(len).ok().and_then(|len| at.take(len)).ok_or(BROKEN)?;
            let flags = (data.len() == 4).then(|| u32_at(data, 0)).flatten();
            let Some(flags) = flags.and_then(|flags| lessened(version, flags)) else { continue };
            offer.sets.push((version, data.to_vec()));
            kept.extend([version, 4, flags].map(u32::to_le_bytes).concat());
        }
        if !at.0.is_empty() || offer.sets.is_empty() {
            return Err(Broken("capabilities of the graphics pipeline"));
        }
        let count = u16::try_from(offer.sets.len()).unwrap_or(u16::MAX);
        Ok((offer, encode(CAPS_ADVERTISE, &[count.to_le_bytes().as_slice(), &kept].concat())))
    }

    /// Nothing was offered, or the target has taken it.
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// What the client said of a version that the target took: the body of a Caps Confirm for the client, which may check it.
    pub(super) fn confirm(&self, version: u32) -> Option<Vec<u8>> {
        let (_, said) = self.sets.iter().find(|(offered, _)| *offered == version)?;
        let len = u32::try_from(said.len()).ok()?;
        Some([version.to_le_bytes().as_slice(), &len.to_le_bytes(), said].concat())
    }
}

/// The flags of a version without what is not decoded. Version 10.1 has none, and stands for H.264.
fn lessened(version: u32, flags: u32) -> Option<u32> {
    match version {
        0x0008_0004 => Some(flags | SMALL_CACHE),
        0x0008_0105 => Some(flags & !AVC420_ENABLED | SMALL_CACHE),
        0x000a_0002 | 0x000a_0200 => Some(flags | AVC_DISABLED | SMALL_CACHE),
        // It has a small cache always.
        0x000a_0301 => Some(flags & !AVC_THIN_CLIENT | AVC_DISABLED),
        0x000a_0400 | 0x000a_0502 | 0x000a_0600 => {
            Some(flags & !AVC_THIN_CLIENT | AVC_DISABLED | SMALL_CACHE)
        }
        0x000a_0701 => Some(flags & !AVC_THIN_CLIENT | AVC_DISABLED | SMALL_CACHE | SCALED_MAP_DISABLE),
        _ => None,
    }
}
