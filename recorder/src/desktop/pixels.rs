//! A picture that somebody else holds, as the encoder looks at it.

use super::{Grid, Place};

/// In which order the four bytes of a pixel stand; the one that is not a colour is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Red, green, blue, anything.
    Rgbx,
    /// Blue, green, red, anything.
    Bgrx,
}

/// A picture: four bytes each pixel, rows without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    pub(super) grid: Grid,
    order: Order,
    bytes: &'a [u8],
}

impl<'a> Pixels<'a> {
    /// A picture of that size; `None` where the bytes do not make one, or no desktop has that size.
    pub fn new(width: u16, height: u16, order: Order, bytes: &'a [u8]) -> Option<Self> {
        let grid = Grid::new(width, height)?;
        let whole = usize::from(width) * usize::from(height) * 4;
        (bytes.len() == whole).then_some(Self { grid, order, bytes })
    }

    /// The pixels of a tile as red, green and blue, row by row.
    pub(super) fn tile(&self, place: Place, out: &mut Vec<u8>) {
        out.clear();
        let stride = usize::from(self.grid.width) * 4;
        for y in place.y..place.y + place.height {
            let start = y * stride + place.x * 4;
            let row = self.bytes.get(start..start + place.width * 4).unwrap_or_default();
            for pixel in row.as_chunks::<4>().0 {
                let [a, g, c, _] = *pixel;
                out.extend_from_slice(&match self.order {
                    Order::Rgbx => [a, g, c],
                    Order::Bgrx => [c, g, a],
                });
            }
        }
    }
}
