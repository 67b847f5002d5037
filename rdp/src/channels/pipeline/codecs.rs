//! What codecs say before their pixels, as far as decoders read it differently: only that goes on which all of them read alike.

use std::collections::HashSet;

use crate::{
    rewrite::Broken,
    wire::{Reader, u32_at},
};

/// A tile's side, pixels.
const TILE: u16 = 64;
/// The largest glyph that every decoder keeps, pixels.
const GLYPH: usize = 1024;

/// What was there before in ClearCodec.
#[derive(Debug, Default)]
pub(super) struct Clear {
    /// The number that comes next; any, where decoders begin to count.
    pub(super) due: Option<u8>,
    /// A client may still know bars of pixels that the recording's decoder does not: they have to be forgotten first.
    pub(super) must_reset: bool,
}

/// ClearCodec (MS-RDPEGFX 2.2.4.1).
pub(super) fn clear_codec(data: &[u8], area: usize, known: &mut Clear) -> Result<(), Broken> {
    const INDEX: u8 = 1;
    const HIT: u8 = 2;
    const RESET: u8 = 4;
    let read = || -> Option<bool> {
        let mut at = Reader(data);
        let (flags, number) = (at.u8()?, at.u8()?);
        let fits = flags & !(INDEX | HIT | RESET) == 0
            && known.due.is_none_or(|due| due == number)
            && (!known.must_reset || flags & RESET != 0);
        *known = Clear { due: Some(number.wrapping_add(1)), must_reset: false };
        if flags & INDEX != 0 {
            at.u16()?;
        }
        if flags & HIT != 0 {
            // Nothing but what is kept.
            return Some(fits && flags & INDEX != 0 && at.0.is_empty() && area <= GLYPH);
        }
        let (residual, bands, subcodecs) = (at.u32()?, at.u32()?, at.u32()?);
        let [residual, bands, subcodecs] = [residual, bands, subcodecs].map(|len| usize::try_from(len).ok());
        at.take(residual?)?;
        at.take(bands?)?;
        let glyph = flags & INDEX == 0 || area <= GLYPH;
        Some(fits && glyph && Some(at.0.len()) == subcodecs && opaque(at)?)
    };
    let mut read = read;
    if read().unwrap_or(false) { Ok(()) } else { Err(Broken("ClearCodec")) }
}

/// Whether the parts of other codecs (2.2.4.1.1.3) have no transparency of their own, which not every decoder looks at.
fn opaque(mut at: Reader<'_>) -> Option<bool> {
    const NSCODEC: u8 = 1;
    while !at.0.is_empty() {
        at.take(8)?;
        let (len, codec) = (at.u32()?, at.u8()?);
        let data = at.take(usize::try_from(len).ok()?)?;
        if codec == NSCODEC && u32_at(data, 12)? != 0 {
            return Some(false);
        }
    }
    Some(true)
}

/// RemoteFX (MS-RDPRFX 2.2.2) for a part of a surface of this size: one frame, and regions in that part.
pub(super) fn remote_fx(data: &[u8], (width, height): (u16, u16)) -> Result<(), Broken> {
    const FRAME_BEGIN: u16 = 0xccc4;
    const FRAME_END: u16 = 0xccc5;
    const REGION: u16 = 0xccc6;
    const TILES: u16 = 0xccc7;
    let read = || -> Option<bool> {
        let mut order = Vec::new();
        let mut fits = width > 0 && height > 0;
        blocks(data, |kind, body| {
            if matches!(kind, FRAME_BEGIN | FRAME_END | REGION | TILES) {
                order.push(kind);
            }
            if kind == REGION {
                let mut at = Reader(body);
                at.take(3)?;
                let count = at.u16()?;
                fits &= count > 0;
                for _ in 0..count {
                    fits &= within(&mut at, u32::from(width), u32::from(height))?;
                }
            }
            (order.len() <= 4).then_some(())
        })?;
        Some(fits && order == [FRAME_BEGIN, REGION, TILES, FRAME_END])
    };
    if read().unwrap_or(false) { Ok(()) } else { Err(Broken("RemoteFX")) }
}

/// RemoteFX by tiles that become better (MS-RDPEGFX 2.2.4.2), on a surface of which `known` tiles have been drawn: at most one
/// region, in one frame, and nothing becomes better that was not there. Answers with how many tiles there are.
pub(super) fn progressive(
    data: &[u8],
    (width, height): (u16, u16),
    known: &mut HashSet<(u16, u16)>,
) -> Result<usize, Broken> {
    const FRAME_BEGIN: u16 = 0xccc1;
    const FRAME_END: u16 = 0xccc2;
    const REGION: u16 = 0xccc4;
    let columns_rows = (width.div_ceil(TILE), height.div_ceil(TILE));
    let mut tiles = 0;
    let mut read = || -> Option<bool> {
        let mut order = Vec::new();
        blocks(data, |kind, body| {
            if matches!(kind, FRAME_BEGIN | FRAME_END | REGION) {
                order.push(kind);
            }
            if kind == REGION {
                tiles += region(body, columns_rows, known)?;
            }
            (order.len() <= 3).then_some(())
        })?;
        Some(
            order == [FRAME_BEGIN, REGION, FRAME_END]
                || order == [FRAME_BEGIN, FRAME_END]
                || order.is_empty(),
        )
    };
    if read().unwrap_or(false) { Ok(tiles) } else { Err(Broken("progressive RemoteFX")) }
}

/// The tiles in a region (2.2.4.2.1.5).
fn region(body: &[u8], (columns, rows): (u16, u16), known: &mut HashSet<(u16, u16)>) -> Option<usize> {
    const SIMPLE: u16 = 0xccc5;
    const FIRST: u16 = 0xccc6;
    const UPGRADE: u16 = 0xccc7;
    let mut at = Reader(body);
    at.u8()?;
    let (rects, quants, progressive) = (at.u16()?, at.u8()?, at.u8()?);
    at.u8()?;
    let (count, len) = (at.u16()?, at.u32()?);
    for _ in 0..rects {
        within(&mut at, u32::from(columns) * u32::from(TILE), u32::from(rows) * u32::from(TILE))
            .filter(|fits| *fits)?;
    }
    at.take(5 * usize::from(quants) + 16 * usize::from(progressive))?;
    if usize::try_from(len) != Ok(at.0.len()) {
        return None;
    }
    let mut tiles = 0;
    blocks(at.0, |kind, body| {
        let mut at = Reader(body);
        at.take(3)?;
        let place = (at.u16()?, at.u16()?);
        tiles += 1;
        let fits = place.0 < columns && place.1 < rows;
        match kind {
            SIMPLE | FIRST => {
                known.insert(place);
                fits.then_some(())
            }
            UPGRADE => (fits && known.contains(&place)).then_some(()),
            _ => None,
        }
    })?;
    (tiles == usize::from(count)).then_some(tiles)
}

/// A rectangle of left, top, width and height: whether it lies in that much.
fn within(at: &mut Reader<'_>, width: u32, height: u32) -> Option<bool> {
    let [left, top, wide, high] = [at.u16()?, at.u16()?, at.u16()?, at.u16()?].map(u32::from);
    Some(left + wide <= width && top + high <= height)
}

/// Blocks of a kind and a length, which has both, one behind the other and nothing besides.
fn blocks<'a>(data: &'a [u8], mut each: impl FnMut(u16, &'a [u8]) -> Option<()>) -> Option<()> {
    let mut at = Reader(data);
    while !at.0.is_empty() {
        let (kind, len) = (at.u16()?, at.u32()?);
        let body = at.take(usize::try_from(len).ok()?.checked_sub(6)?)?;
        each(kind, body)?;
    }
    Some(())
}
