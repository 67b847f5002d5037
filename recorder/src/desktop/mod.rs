//! What a recording holds of a desktop: its picture as tiles that changed, pointer, keys and clipboard.
//!
//! - [`DesktopEncoder`] compares pictures and makes the events; [`DesktopScreen`] shows them again.
//! - [`DesktopPlayer`] shows a recording from any time on: from the last key frame before it, the tiles between packed as they
//!   are, so that a seek unpacks each place of the picture once.
//! - [`DesktopStream`] brings the same to a browser, and small pictures along the recording.
//! - [`export_still`] and [`export_video`] give out pictures.
//! - [`DesktopReader`] has the text read off them.
//!
//! Invariant: what was typed and what went through the clipboard is masked input; the other events do not tell it.
//! Invariant: no size in an event is trusted: a picture beyond [`MAX_SIDE`] or [`MAX_AREA`] is refused.

mod encoder;
mod export;
mod keys;
mod ocr;
mod pixels;
mod player;
mod screen;
mod stills;
mod stream;
mod tile;

pub use encoder::{Changed, DesktopEncoder};
pub use export::{VideoOptions, export_still, export_video};
pub use keys::{ClipboardText, Key, Typed, typed};
pub use ocr::{DesktopReader, OcrLimits, OcrRead, Unread};
pub use pixels::{Order, Pixels};
pub use player::DesktopPlayer;
pub(crate) use player::is_picture;
pub use screen::{DesktopScreen, Pointed};
pub use stream::DesktopStream;

/// Pixels along the side of a tile.
pub const TILE: u16 = 64;
/// Longest side of a desktop, in pixels.
pub const MAX_SIDE: u16 = 8192;
/// Most pixels of a desktop: those of 8K.
pub const MAX_AREA: usize = 1 << 25;

/// The tiles that cover a desktop, row by row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Where a tile lies, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Grid {
    /// The grid of a desktop of that size; `None`: no desktop has it.
    pub(crate) fn new(width: u16, height: u16) -> Option<Self> {
        let fits = |side: u16| (1..=MAX_SIDE).contains(&side);
        let area = usize::from(width) * usize::from(height);
        (fits(width) && fits(height) && area <= MAX_AREA).then_some(Self { width, height })
    }

    pub(crate) fn columns(self) -> usize {
        usize::from(self.width).div_ceil(usize::from(TILE))
    }

    pub(crate) fn tiles(self) -> usize {
        self.columns() * usize::from(self.height).div_ceil(usize::from(TILE))
    }

    /// Where the tile of that number lies; `None`: there is none.
    pub(crate) fn place(self, number: usize) -> Option<Place> {
        if number >= self.tiles() {
            return None;
        }
        let side = usize::from(TILE);
        let (x, y) = (number % self.columns() * side, number / self.columns() * side);
        let width = side.min(usize::from(self.width) - x);
        Some(Place { x, y, width, height: side.min(usize::from(self.height) - y) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiles_of_a_grid_cover_each_pixel_once() {
        let grid = Grid::new(200, 130).unwrap();
        let mut seen = vec![0u8; 200 * 130];
        for number in 0..grid.tiles() {
            let place = grid.place(number).unwrap();
            for y in place.y..place.y + place.height {
                for x in place.x..place.x + place.width {
                    seen[y * 200 + x] += 1;
                }
            }
        }
        assert!(seen.iter().all(|n| *n == 1));
        assert_eq!((grid.tiles(), grid.place(grid.tiles())), (12, None));
    }

    #[test]
    fn sizes_that_no_desktop_has_are_refused() {
        for (width, height) in [(0, 10), (10, 0), (8193, 1), (8192, 8192)] {
            assert_eq!(Grid::new(width, height), None);
        }
        assert!(Grid::new(7680, 4320).is_some());
    }
}
