//! A desktop as its events leave it.

use bytes::Bytes;

use super::{
    Grid,
    tile::{self, Tile},
};
use crate::{codec::Cursor, error::ReadError, event::Event};

/// Longest side of a pointer's shape, in pixels.
pub(super) const MAX_POINTER: u16 = 96;

/// Where the pointer is and how it looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pointed {
    /// Pixels from the left.
    pub x: u16,
    /// Pixels from the top.
    pub y: u16,
    /// The buttons that are down.
    pub buttons: u8,
    pub(super) shape: Shape,
}

/// How the pointer looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// As the viewer's system shows it.
    #[default]
    Usual,
    /// Not at all.
    Hidden,
    /// Like this.
    Image { width: u16, height: u16, hot: (u16, u16), chunks: Bytes },
}

impl Shape {
    pub(super) fn pack(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Hidden => out.push(0),
            Self::Usual => out.push(1),
            Self::Image { width, height, hot, chunks } => {
                out.push(2);
                for number in [width, height, &hot.0, &hot.1] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(chunks);
            }
        }
        out.into()
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(data);
        Some(match c.u8()? {
            0 => Self::Hidden,
            1 => Self::Usual,
            2 => {
                let (width, height, hot) = (c.u16()?, c.u16()?, (c.u16()?, c.u16()?));
                let fits = |side: u16| (1..=MAX_POINTER).contains(&side);
                if !fits(width) || !fits(height) {
                    return None;
                }
                Self::Image { width, height, hot, chunks: Bytes::copy_from_slice(c.rest()) }
            }
            _ => return None,
        })
    }
}

/// A desktop's picture at a moment. Tiles stay packed until somebody looks at them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesktopScreen {
    pub(super) grid: Grid,
    pub(super) tiles: Vec<Option<Tile>>,
    pub(super) pointed: Pointed,
    pub(super) layout: Option<u32>,
    /// A part of a frame was shown, and the rest is still to come.
    half: bool,
}

impl DesktopScreen {
    /// Width and height in pixels; zeros before the first key frame.
    pub fn size(&self) -> (u16, u16) {
        (self.grid.width, self.grid.height)
    }

    /// Whether there is a picture, and all of its last frame is shown.
    pub fn is_whole(&self) -> bool {
        !self.tiles.is_empty() && !self.half
    }

    /// The pointer.
    pub fn pointed(&self) -> &Pointed {
        &self.pointed
    }

    /// The layout of the keyboard, where it is known.
    pub fn layout(&self) -> Option<u32> {
        self.layout
    }

    /// Shows an event of this desktop's channel; others change nothing. Whether the picture or the pointer changed.
    ///
    /// # Errors
    /// When the event is malformed, which it is not unless whoever wrote the recording wanted that.
    pub fn apply(&mut self, event: &Event) -> Result<bool, ReadError> {
        let bad = || ReadError::damaged(0, "a desktop's event is malformed");
        match event {
            Event::KeyFrame { width, height, .. } => {
                self.grid = Grid::new(*width, *height).ok_or_else(bad)?;
                self.tiles.clear();
                self.tiles.resize(self.grid.tiles(), None);
                self.half = true;
            }
            Event::Tiles { more, data, .. } => {
                self.tiles(data).ok_or_else(bad)?;
                self.half = *more;
            }
            Event::Pointer { x, y, buttons, .. } => {
                (self.pointed.x, self.pointed.y, self.pointed.buttons) = (*x, *y, *buttons);
            }
            Event::PointerShape { data, .. } => self.pointed.shape = Shape::parse(data).ok_or_else(bad)?,
            Event::Keyboard { layout, .. } => {
                self.layout = Some(*layout);
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tiles(&mut self, data: &[u8]) -> Option<()> {
        let mut c = Cursor::new(data);
        while !c.is_empty() {
            let (number, tile) = tile::next(&mut c)?;
            *self.tiles.get_mut(number)? = Some(tile);
        }
        Some(())
    }

    /// The picture as red, green and blue, row by row, without the pointer.
    ///
    /// # Errors
    /// When a tile cannot be unpacked.
    pub fn picture(&self) -> Result<Vec<u8>, ReadError> {
        let stride = usize::from(self.grid.width) * 3;
        let mut picture = vec![0; stride * usize::from(self.grid.height)];
        for (number, tile) in self.tiles.iter().enumerate() {
            let (Some(tile), Some(place)) = (tile, self.grid.place(number)) else { continue };
            let rgb = tile.unpack(place.width, place.height)?;
            for (row, from) in rgb.chunks_exact(place.width * 3).enumerate() {
                let start = (place.y + row) * stride + place.x * 3;
                if let Some(to) = picture.get_mut(start..start + from.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
        Ok(picture)
    }

    /// The picture with the pointer painted on it.
    ///
    /// # Errors
    /// When a tile or the shape cannot be unpacked.
    pub fn picture_with_pointer(&self) -> Result<Vec<u8>, ReadError> {
        let mut picture = self.picture()?;
        let (width, height, hot, rgba) = match &self.pointed.shape {
            Shape::Hidden => return Ok(picture),
            Shape::Usual => (CROSS, CROSS, (CROSS / 2, CROSS / 2), cross()),
            Shape::Image { width, height, hot, chunks } => {
                let rgba = tile::unpack(chunks, usize::from(*width), usize::from(*height), 4)?;
                (*width, *height, *hot, rgba)
            }
        };
        for (n, [r, g, b, alpha]) in
            rgba.as_chunks::<4>().0.iter().enumerate().take(usize::from(width) * usize::from(height))
        {
            let (column, row) = (n % usize::from(width), n / usize::from(width));
            let x = (usize::from(self.pointed.x) + column).checked_sub(usize::from(hot.0));
            let y = (usize::from(self.pointed.y) + row).checked_sub(usize::from(hot.1));
            let inside = |at: Option<usize>, side: u16| at.filter(|at| *at < usize::from(side));
            let (Some(x), Some(y)) = (inside(x, self.grid.width), inside(y, self.grid.height)) else {
                continue;
            };
            let at = (y * usize::from(self.grid.width) + x) * 3;
            for (to, from) in picture.iter_mut().skip(at).take(3).zip([r, g, b]) {
                let mixed = u32::from(*from) * u32::from(*alpha) + u32::from(*to) * (255 - u32::from(*alpha));
                *to = (mixed / 255) as u8;
            }
        }
        Ok(picture)
    }
}

/// Pixels along the side of the mark that stands for a pointer of which only the place is known.
const CROSS: u16 = 15;

/// A white cross with a black edge.
fn cross() -> Vec<u8> {
    let middle = CROSS / 2;
    let near = |at: u16, far: u16| at.abs_diff(middle) <= far;
    let pixel = |n: u16| {
        let (x, y) = (n % CROSS, n / CROSS);
        match (near(x, 0) || near(y, 0), near(x, 1) || near(y, 1)) {
            (true, _) => [255, 255, 255, 255],
            (false, true) => [0, 0, 0, 255],
            (false, false) => [0; 4],
        }
    };
    (0..CROSS * CROSS).flat_map(pixel).collect()
}
