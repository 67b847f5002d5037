//! How PDUs of the graphics pipeline are built: as strictly as the decoder of the recording reads them, so that a client
//! cannot find in the same bytes what the recording has not.

use crate::{
    rewrite::Broken,
    wire::{Reader, u16_at, u32_at},
};

pub(super) const WIRE_TO_SURFACE_1: u16 = 0x01;
pub(super) const WIRE_TO_SURFACE_2: u16 = 0x02;
pub(super) const DELETE_ENCODING_CONTEXT: u16 = 0x03;
pub(super) const SOLID_FILL: u16 = 0x04;
pub(super) const SURFACE_TO_SURFACE: u16 = 0x05;
pub(super) const SURFACE_TO_CACHE: u16 = 0x06;
pub(super) const CACHE_TO_SURFACE: u16 = 0x07;
pub(super) const EVICT_CACHE_ENTRY: u16 = 0x08;
pub(super) const CREATE_SURFACE: u16 = 0x09;
pub(super) const DELETE_SURFACE: u16 = 0x0a;
pub(super) const START_FRAME: u16 = 0x0b;
pub(super) const END_FRAME: u16 = 0x0c;
pub(super) const FRAME_ACKNOWLEDGE: u16 = 0x0d;
pub(super) const RESET_GRAPHICS: u16 = 0x0e;
pub(super) const MAP_SURFACE_TO_OUTPUT: u16 = 0x0f;
pub(super) const CACHE_IMPORT_OFFER: u16 = 0x10;
pub(super) const CAPS_ADVERTISE: u16 = 0x12;
pub(super) const CAPS_CONFIRM: u16 = 0x13;
pub(super) const QOE_FRAME_ACKNOWLEDGE: u16 = 0x16;

/// Command, flags and length (MS-RDPEGFX 2.2.1.5).
const HEAD: usize = 8;
/// A Reset Graphics PDU is padded to this (2.2.2.14).
const RESET: usize = 340 - HEAD;
/// Most monitors in it.
const MONITORS: u32 = 16;

/// One PDU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
    /// With its head.
    pub(super) whole: &'a [u8],
}

/// The PDUs in a message of the channel. Nothing comes behind one that is broken.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Broken>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = first(&mut bytes).ok_or(BROKEN);
        if found.is_err() {
            bytes = &[];
        }
        Some(found)
    })
}

pub(super) const BROKEN: Broken = Broken("PDU of the graphics pipeline");

fn first<'a>(bytes: &mut &'a [u8]) -> Option<Message<'a>> {
    let kind = u16_at(bytes, 0)?;
    // There are no flags.
    u16_at(bytes, 2).filter(|flags| *flags == 0)?;
    let len = usize::try_from(u32_at(bytes, 4)?).ok()?;
    let (whole, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(Message { kind, body: whole.get(HEAD..)?, whole })
}

/// A PDU around its body.
pub(super) fn encode(kind: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + HEAD).unwrap_or(u32::MAX);
    [kind.to_le_bytes().as_slice(), &[0; 2], &len.to_le_bytes(), body].concat()
}

/// A part of a surface: left and top in it, right and bottom behind it (2.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) left: u16,
    pub(super) top: u16,
    pub(super) right: u16,
    pub(super) bottom: u16,
}

impl Rect {
    /// Not turned around, and wholly on a surface of that size.
    pub(super) fn is_on(self, (width, height): (u16, u16)) -> bool {
        self.left <= self.right && self.top <= self.bottom && self.right <= width && self.bottom <= height
    }

    /// Of these sides.
    pub(super) fn new([left, top, right, bottom]: [u16; 4]) -> Self {
        Self { left, top, right, bottom }
    }

    /// Width and height.
    pub(super) fn size(self) -> (u16, u16) {
        (self.right.saturating_sub(self.left), self.bottom.saturating_sub(self.top))
    }

    /// One of that size at that point; `None` beyond what there are numbers for.
    pub(super) fn at([left, top]: [u16; 2], (width, height): (u16, u16)) -> Option<Self> {
        Some(Self { left, top, right: left.checked_add(width)?, bottom: top.checked_add(height)? })
    }

    /// Whether they have a pixel in common.
    pub(super) fn touches(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    /// How many pixels.
    pub(super) fn area(self) -> usize {
        let (width, height) = self.size();
        usize::from(width) * usize::from(height)
    }

    fn read(at: &mut Reader<'_>) -> Option<Self> {
        Some(Self::new([at.u16()?, at.u16()?, at.u16()?, at.u16()?]))
    }
}

/// What a target asks for, as far as it has to be known here. Bodies are exactly as long as they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Pixels for a part of a surface (2.2.2.1).
    Pixels { surface: u16, codec: u16, format: u8, rect: Rect, data: &'a [u8] },
    /// The same by tiles (2.2.2.2).
    Tiles { surface: u16, codec: u16, data: &'a [u8] },
    /// Tiles of a surface that are no longer refined (2.2.2.3).
    ForgetTiles,
    /// One colour in these rectangles, 8 bytes each (2.2.2.4).
    Fill { surface: u16, rects: &'a [u8] },
    /// From one surface to these points of another, 4 bytes each (2.2.2.5).
    Copy { from: u16, to: u16, rect: Rect, points: &'a [u8] },
    /// Into the cache (2.2.2.6).
    Keep { surface: u16, slot: u16, rect: Rect },
    /// Out of the cache (2.2.2.7).
    Show { slot: u16, surface: u16, points: &'a [u8] },
    /// 2.2.2.8.
    Evict { slot: u16 },
    /// 2.2.2.9.
    Create { surface: u16, size: (u16, u16), format: u8 },
    /// 2.2.2.10.
    Delete { surface: u16 },
    /// 2.2.2.11.
    Start { frame: u32 },
    /// 2.2.2.12.
    End { frame: u32 },
    /// The desktop has this size from now on, and no surface (2.2.2.14).
    Reset { size: (u32, u32) },
    /// A surface is to be seen (2.2.2.15).
    Map { surface: u16, place: (u32, u32) },
    /// 2.2.2.19.
    Confirm { version: u32 },
    /// For windows of remote applications, scaled surfaces, and what nobody knows.
    Else,
}

/// What a PDU of the target asks for; `None` where it is not built as it says.
pub(super) fn read(message: Message<'_>) -> Option<Asked<'_>> {
    let mut at = Reader(message.body);
    let asked = match message.kind {
        WIRE_TO_SURFACE_1 => {
            let (surface, codec, format) = (at.u16()?, at.u16()?, at.u8()?);
            let rect = Rect::read(&mut at)?;
            let len = usize::try_from(at.u32()?).ok()?;
            Asked::Pixels { surface, codec, format, rect, data: at.take(len)? }
        }
        WIRE_TO_SURFACE_2 => {
            let (surface, codec) = (at.u16()?, at.u16()?);
            at.u32()?;
            format(at.u8()?)?;
            let len = usize::try_from(at.u32()?).ok()?;
            Asked::Tiles { surface, codec, data: at.take(len)? }
        }
        DELETE_ENCODING_CONTEXT => {
            at.take(6)?;
            Asked::ForgetTiles
        }
        SOLID_FILL => {
            let surface = at.u16()?;
            at.u32()?;
            let count = usize::from(at.u16()?);
            Asked::Fill { surface, rects: at.take(8 * count)? }
        }
        SURFACE_TO_SURFACE => {
            let (from, to) = (at.u16()?, at.u16()?);
            let rect = Rect::read(&mut at)?;
            Asked::Copy { from, to, rect, points: points(&mut at)? }
        }
        SURFACE_TO_CACHE => {
            let surface = at.u16()?;
            at.take(8)?;
            let slot = at.u16()?;
            Asked::Keep { surface, slot, rect: Rect::read(&mut at)? }
        }
        CACHE_TO_SURFACE => {
            let (slot, surface) = (at.u16()?, at.u16()?);
            Asked::Show { slot, surface, points: points(&mut at)? }
        }
        EVICT_CACHE_ENTRY => Asked::Evict { slot: at.u16()? },
        CREATE_SURFACE => {
            let (surface, size) = (at.u16()?, (at.u16()?, at.u16()?));
            Asked::Create { surface, size, format: at.u8()? }
        }
        DELETE_SURFACE => Asked::Delete { surface: at.u16()? },
        START_FRAME => {
            at.u32()?;
            Asked::Start { frame: at.u32()? }
        }
        END_FRAME => Asked::End { frame: at.u32()? },
        RESET_GRAPHICS => {
            let (size, monitors) = ((at.u32()?, at.u32()?), at.u32()?);
            (monitors <= MONITORS && message.body.len() == RESET).then(|| at.take(RESET - 12))??;
            Asked::Reset { size }
        }
        MAP_SURFACE_TO_OUTPUT => {
            let surface = at.u16()?;
            at.u16()?;
            Asked::Map { surface, place: (at.u32()?, at.u32()?) }
        }
        CAPS_CONFIRM => {
            let (version, len) = (at.u32()?, at.u32()?);
            at.take(usize::try_from(len).ok()?)?;
            Asked::Confirm { version }
        }
        _ => return Some(Asked::Else),
    };
    at.0.is_empty().then_some(asked)
}

fn points<'a>(at: &mut Reader<'a>) -> Option<&'a [u8]> {
    let count = usize::from(at.u16()?);
    at.take(4 * count)
}

/// Numbers of 16 bits, so many in each.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u16; N]> {
    bytes.chunks_exact(2 * N).map(|one| std::array::from_fn(|n| u16_at(one, 2 * n).unwrap_or(0)))
}

/// `PIXEL_FORMAT_XRGB_8888` or `PIXEL_FORMAT_ARGB_8888` (2.2.1.4).
pub(super) fn format(format: u8) -> Option<u8> {
    Some(format).filter(|format| matches!(format, 0x20 | 0x21))
}
