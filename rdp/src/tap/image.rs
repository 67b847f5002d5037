//! The picture as it stands, and which parts of it changed.

/// Pixels along the side of a tile.
pub const TILE: u16 = 64;
/// Longest side, and most pixels: 8K. The recorder takes no more.
const MAX_SIDE: u16 = 8192;
const MAX_AREA: usize = 1 << 25;

/// A picture: red, green, blue and a byte that means nothing for each pixel, rows without gaps.
#[derive(Clone)]
pub struct Image {
    width: u16,
    height: u16,
    pixels: Vec<u8>,
    dirty: Vec<bool>,
    any: bool,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

/// A part of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Image {
    /// Black; `None` where no desktop has that size.
    pub(super) fn new(width: u16, height: u16) -> Option<Self> {
        let fits = |side: u16| (1..=MAX_SIDE).contains(&side);
        let area = usize::from(width) * usize::from(height);
        if !fits(width) || !fits(height) || area > MAX_AREA {
            return None;
        }
        let tiles = usize::from(width.div_ceil(TILE)) * usize::from(height.div_ceil(TILE));
        Some(Self { width, height, pixels: vec![0; area * 4], dirty: vec![true; tiles], any: true })
    }

    /// Width and height.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// The pixels: red, green, blue, anything.
    pub fn rgbx(&self) -> &[u8] {
        &self.pixels
    }

    /// A part of it: red, green and blue, row by row. `None` where it is not wholly in the picture.
    pub fn crop(&self, part: crate::Area) -> Option<Vec<u8>> {
        let [left, top, width, height] = [part.left, part.top, part.width, part.height].map(usize::from);
        let area = Area { left, top, width, height };
        if !self.holds(area) {
            return None;
        }
        let stride = usize::from(self.width) * 4;
        let mut rgb = Vec::with_capacity(area.width * area.height * 3);
        for y in area.top..area.top + area.height {
            let start = y * stride + area.left * 4;
            let row = self.pixels.get(start..start + area.width * 4)?;
            rgb.extend(row.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]));
        }
        Some(rgb)
    }

    pub(super) fn area(&self) -> usize {
        self.pixels.len() / 4
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.any
    }

    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        self.any = false;
        let tiles = self.dirty.iter_mut().zip(0..);
        tiles.filter_map(|(dirty, number)| std::mem::take(dirty).then_some(number)).collect()
    }

    /// Whether a part lies wholly in the picture.
    pub(super) fn holds(&self, area: Area) -> bool {
        let inside = |from: usize, length: usize, side: u16| from + length <= usize::from(side);
        area.width > 0
            && area.height > 0
            && inside(area.left, area.width, self.width)
            && inside(area.top, area.height, self.height)
    }

    /// Puts pixels into a part that the picture holds, a row of it at a time.
    pub(super) fn put(&mut self, area: Area, mut row: impl FnMut(usize, &mut [[u8; 4]])) {
        if !self.holds(area) {
            return;
        }
        let stride = usize::from(self.width) * 4;
        for y in 0..area.height {
            let start = (area.top + y) * stride + area.left * 4;
            if let Some(to) = self.pixels.get_mut(start..start + area.width * 4) {
                row(y, to.as_chunks_mut::<4>().0);
            }
        }
        self.mark(area);
    }

    fn mark(&mut self, area: Area) {
        let side = usize::from(TILE);
        let columns = usize::from(self.width).div_ceil(side);
        for row in area.top / side..=(area.top + area.height - 1) / side {
            for column in area.left / side..=(area.left + area.width - 1) / side {
                if let Some(dirty) = self.dirty.get_mut(row * columns + column) {
                    *dirty = true;
                }
            }
        }
        self.any = true;
    }
}
