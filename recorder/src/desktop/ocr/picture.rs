//! The part of a desktop that changed, as a program that reads letters likes it: grey, and large.

use crate::{
    desktop::{DesktopScreen, Place},
    error::ReadError,
};

use super::words::Line;

/// So many rows above and below what changed are looked at, too: a line of text may cross a tile's edge.
const AROUND: usize = 24;
/// Up to so many pixels a picture is enlarged: letters on screens are smaller than those that such programs learnt.
const ENLARGED: usize = 4 << 20;
/// How much.
const SCALE: usize = 2;
/// What stands where nothing is looked at.
const BLANK: u8 = 255;

/// The rows of a desktop that are looked at, over its whole width: a line of text is read whole, wherever it changed.
pub(super) struct Band {
    /// For each row, whether it is looked at.
    rows: Vec<bool>,
    /// What changed.
    changed: Vec<Place>,
    /// From the first row that is looked at …
    top: usize,
    /// … to behind the last.
    bottom: usize,
}

impl Band {
    /// The rows around these tiles; `None`: there are none.
    pub(super) fn around(screen: &DesktopScreen, changed: &[usize]) -> Option<Self> {
        let mut rows = vec![false; usize::from(screen.size().1)];
        let changed: Vec<Place> = changed.iter().filter_map(|tile| screen.grid.place(*tile)).collect();
        for place in &changed {
            let from = place.y.saturating_sub(AROUND);
            rows.iter_mut().take(place.y + place.height + AROUND).skip(from).for_each(|row| *row = true);
        }
        let top = rows.iter().position(|row| *row)?;
        let bottom = rows.iter().rposition(|row| *row)? + 1;
        Some(Self { rows, changed, top, bottom })
    }

    fn has(&self, row: usize) -> bool {
        self.rows.get(row).copied().unwrap_or(false)
    }

    /// Whether a line that stood on the screen was looked at again.
    pub(super) fn covers(&self, line: &Line) -> bool {
        (line.top..line.bottom).any(|row| self.has(row))
    }

    /// Whether a line lies where something changed.
    pub(super) fn touches(&self, line: &Line) -> bool {
        self.changed.iter().any(|place| {
            line.left < place.x + place.width
                && place.x < line.right
                && line.top < place.y + place.height
                && place.y < line.bottom
        })
    }
}

/// A grey picture of a part of a desktop.
pub(super) struct Grey {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    /// The desktop's row that is the picture's first.
    top: usize,
    /// Pixels of the picture for one of the desktop, each way.
    scale: usize,
}

/// The rows of a band; those between them that are not looked at are blank.
pub(super) fn grey(screen: &DesktopScreen, band: &Band) -> Result<Grey, ReadError> {
    let (width, height) = (usize::from(screen.size().0), band.bottom - band.top);
    let mut pixels = vec![BLANK; width * height];
    for (number, tile) in screen.tiles.iter().enumerate() {
        let (Some(tile), Some(place)) = (tile, screen.grid.place(number)) else { continue };
        let rows = place.y..place.y + place.height;
        if !rows.clone().any(|row| band.has(row)) {
            continue;
        }
        let rgb = tile.unpack(place.width, place.height)?;
        for (row, from) in rows.zip(rgb.chunks_exact(place.width * 3)).filter(|(row, _)| band.has(*row)) {
            let start = (row - band.top) * width + place.x;
            let to = pixels.get_mut(start..start + place.width).unwrap_or_default();
            for (to, [r, g, b]) in to.iter_mut().zip(from.as_chunks::<3>().0) {
                *to = ((u32::from(*r) * 77 + u32::from(*g) * 150 + u32::from(*b) * 29) >> 8) as u8;
            }
        }
    }
    let picture = Grey { width, height, pixels, top: band.top, scale: 1 };
    Ok(if width * height <= ENLARGED { picture.enlarged() } else { picture })
}

impl Grey {
    /// Twice as large each way, what comes between two pixels being their mean.
    fn enlarged(&self) -> Self {
        let (width, height) = (self.width * SCALE, self.height * SCALE);
        let mut pixels = Vec::with_capacity(width * height);
        let at = |x: usize, y: usize| {
            let (x, y) = (x.min(self.width.saturating_sub(1)), y.min(self.height.saturating_sub(1)));
            u32::from(self.pixels.get(y * self.width + x).copied().unwrap_or(BLANK))
        };
        for y in 0..height {
            for x in 0..width {
                let (left, right) = (x / SCALE, x.div_ceil(SCALE));
                let (over, under) = (y / SCALE, y.div_ceil(SCALE));
                let sum = at(left, over) + at(right, over) + at(left, under) + at(right, under);
                pixels.push((sum / 4) as u8);
            }
        }
        Self { width, height, pixels, top: self.top, scale: self.scale * SCALE }
    }

    /// As a file (Portable Graymap, binary).
    pub(super) fn pgm(&self) -> Vec<u8> {
        let mut file = format!("P5\n{} {}\n255\n", self.width, self.height).into_bytes();
        file.extend_from_slice(&self.pixels);
        file
    }

    /// Whether what ends there lies in the picture.
    pub(super) fn holds(&self, right: usize, bottom: usize) -> bool {
        right <= self.width && bottom <= self.height
    }

    #[cfg(test)]
    pub(super) fn blank(width: usize, height: usize, top: usize, scale: usize) -> Self {
        Self { width, height, pixels: Vec::new(), top, scale }
    }

    /// A place in the picture, left and top, as one of the desktop.
    pub(super) fn place(&self, x: usize, y: usize) -> (usize, usize) {
        (x / self.scale, self.top + y / self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::{Changed, DesktopEncoder, Order, Pixels};

    fn screen() -> DesktopScreen {
        // Rows of their own colour, 128 × 320: two by five tiles.
        let pixels: Vec<u8> = (0..320u32).flat_map(|y| [(y / 2) as u8; 4].repeat(128)).collect();
        let mut screen = DesktopScreen::default();
        let picture = Pixels::new(128, 320, Order::Rgbx, &pixels).unwrap();
        for event in DesktopEncoder::new(0).frame(&picture, Changed::All, 0) {
            screen.apply(&event).unwrap();
        }
        screen
    }

    fn line(left: usize, top: usize) -> Line {
        Line { left, top, right: left + 40, bottom: top + 12, text: "x".into() }
    }

    #[test]
    fn a_picture_has_the_rows_around_what_changed_and_nothing_between() {
        let screen = screen();
        assert!(Band::around(&screen, &[]).is_none());
        // The second tile of the first row, and the first of the last.
        let band = Band::around(&screen, &[1, 8]).unwrap();
        assert_eq!((band.top, band.bottom), (0, 320));
        let rows: Vec<usize> = (0..320).filter(|row| !band.has(*row)).collect();
        assert_eq!((rows.first(), rows.last(), rows.len()), (Some(&88), Some(&231), 144));
        let picture = grey(&screen, &band).unwrap();
        assert_eq!((picture.width, picture.height, picture.scale), (256, 640, 2));
        let at = |y: usize| picture.pixels[y * 2 * 256];
        assert_eq!((at(80), at(150), at(300)), (40, BLANK, 150));
        let pgm = picture.pgm();
        assert!(pgm.starts_with(b"P5\n256 640\n255\n") && pgm.len() == 15 + 256 * 640);
        assert!(band.touches(&line(60, 30)) && !band.touches(&line(2, 30)) && band.covers(&line(2, 30)));
        assert!(!band.covers(&line(2, 150)));
        let low = grey(&screen, &Band::around(&screen, &[8]).unwrap()).unwrap();
        assert_eq!((low.height, low.place(10, 4)), (2 * 88, (5, 234)));
    }
}
