//! A tile's pixels, packed: one colour, or the chunks of the Quite OK Image format (qoiformat.org), without its head and end
//! mark, which would be the same each time.

use bytes::Bytes;

use crate::{
    codec::{Cursor, put_varint},
    error::ReadError,
};

const SOLID: u8 = 0;
const QOI: u8 = 1;
/// What ends every QOI image.
const END: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];
const HEAD: usize = 14;

/// Longest packed tile that a reader accepts: four bytes for each pixel, and some.
pub(super) const MAX_PACKED: usize = 64 * 64 * 4 + 64;

/// A tile as it stands in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tile {
    /// All pixels have this colour.
    Solid([u8; 3]),
    /// QOI chunks.
    Qoi(Bytes),
}

/// Packs the pixels of tile `number` behind `out`.
pub(super) fn push(out: &mut Vec<u8>, number: usize, rgb: &[u8], width: usize) {
    let tile = match one_colour(rgb) {
        Some(colour) => Tile::Solid(colour),
        None => Tile::Qoi(chunks(rgb, width, 3).into()),
    };
    tile.push(out, number);
}

/// Takes the next tile off an event's data: its number and what it is.
pub(super) fn next(c: &mut Cursor<'_>) -> Option<(usize, Tile)> {
    let number = usize::try_from(c.varint()?).ok()?;
    let tile = match c.u8()? {
        SOLID => Tile::Solid(c.array()?),
        QOI => {
            let len = usize::try_from(c.varint()?).ok().filter(|len| *len <= MAX_PACKED)?;
            // A copy: the buffer that it stands in holds much else, and the tile may stay for hours.
            Tile::Qoi(Bytes::copy_from_slice(c.take(len)?))
        }
        _ => return None,
    };
    Some((number, tile))
}

impl Tile {
    /// Writes it behind `out`, as tile `number`.
    pub(super) fn push(&self, out: &mut Vec<u8>, number: usize) {
        put_varint(out, number as u64);
        match self {
            Self::Solid(colour) => {
                out.push(SOLID);
                out.extend_from_slice(colour);
            }
            Self::Qoi(chunks) => {
                out.push(QOI);
                put_varint(out, chunks.len() as u64);
                out.extend_from_slice(chunks);
            }
        }
    }

    /// The pixels as red, green and blue.
    pub(super) fn unpack(&self, width: usize, height: usize) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::Solid(colour) => Ok(colour.repeat(width * height)),
            Self::Qoi(chunks) => unpack(chunks, width, height, 3),
        }
    }
}

fn one_colour(rgb: &[u8]) -> Option<[u8; 3]> {
    let (pixels, _) = rgb.as_chunks::<3>();
    let first = pixels.first()?;
    pixels.iter().all(|pixel| pixel == first).then_some(*first)
}

/// QOI chunks of pixels with `channels` bytes each. Pixels that do not make a picture give none.
pub(super) fn chunks(pixels: &[u8], width: usize, channels: usize) -> Vec<u8> {
    let height = pixels.len() / (width * channels).max(1);
    let whole = qoi::encode_to_vec(pixels, width as u32, height as u32).unwrap_or_default();
    let end = whole.len().saturating_sub(END.len());
    whole.get(HEAD..end).unwrap_or_default().to_vec()
}

/// The pixels that QOI chunks hold.
pub(super) fn unpack(chunks: &[u8], width: usize, height: usize, channels: u8) -> Result<Vec<u8>, ReadError> {
    let mut whole = Vec::with_capacity(HEAD + chunks.len() + END.len());
    whole.extend_from_slice(b"qoif");
    whole.extend_from_slice(&(width as u32).to_be_bytes());
    whole.extend_from_slice(&(height as u32).to_be_bytes());
    whole.extend_from_slice(&[channels, 0]);
    whole.extend_from_slice(chunks);
    whole.extend_from_slice(&END);
    let (_, pixels) = qoi::decode_to_vec(&whole)
        .map_err(|_| ReadError::damaged(0, "a desktop's tile cannot be unpacked"))?;
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tile_comes_back(width in 1usize..65, height in 1usize..65, colours in 1u8..=255, seed: u64) {
            let mut state = seed;
            let rgb: Vec<u8> = (0..width * height * 3)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as u8 % colours
                })
                .collect();
            let mut packed = Vec::new();
            push(&mut packed, 7, &rgb, width);
            let mut c = Cursor::new(&packed);
            let (number, tile) = next(&mut c).unwrap();
            prop_assert!(c.is_empty() && number == 7);
            prop_assert_eq!(tile.unpack(width, height).unwrap(), rgb);
        }

        #[test]
        fn no_bytes_make_a_tile_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), side in 1usize..65) {
            let mut c = Cursor::new(&bytes);
            while let Some((_, tile)) = next(&mut c) {
                if let Ok(pixels) = tile.unpack(side, side) {
                    prop_assert_eq!(pixels.len(), side * side * 3);
                }
            }
        }
    }
}
