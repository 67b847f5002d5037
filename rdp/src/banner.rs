//! Words over a desktop, for a person whose client can show nothing else: a box at the top, drawn as a target would draw it,
//! and taken away by drawing what is below it.

use std::convert::Infallible;

use embedded_graphics::{
    Drawable as _, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoTextStyle, iso_8859_1::FONT_10X20},
    pixelcolor::{Rgb888, RgbColor as _},
    text::{Baseline, Text},
};
use ironrdp_core::encode_vec;
use ironrdp_pdu::{
    bitmap::{BitmapData, BitmapUpdateData, Compression},
    geometry::InclusiveRectangle,
};

use crate::rewrite::Broken;

/// Pixels of a character, and around the text.
const LETTER: (u16, u16) = (10, 20);
const EDGE: u16 = 12;
/// Longest line, and most lines.
const COLUMNS: u16 = 80;
const LINES: usize = 4;
/// The line below the box.
const RULE: u16 = 3;

const BACK: [u8; 3] = [0x1b, 0x26, 0x31];
const INK: Rgb888 = Rgb888::new(0xff, 0xff, 0xff);
const MARK: [u8; 3] = [0xe0, 0x8a, 0x1e];

/// Bytes of pixels in one update: with its heads it fits every envelope that it goes in.
const PIECE: usize = 12 * 1024;

/// A part of the desktop, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// From the left edge.
    pub left: u16,
    /// From the upper edge.
    pub top: u16,
    /// How wide.
    pub width: u16,
    /// How high.
    pub height: u16,
}

/// Words, drawn.
#[derive(Debug)]
pub(crate) struct Banner {
    pub(crate) area: Area,
    /// Red, green and blue, row by row.
    pub(crate) rgb: Vec<u8>,
}

impl Banner {
    /// `text` in the middle of the upper edge of a desktop of that size; nothing where there is nothing to say or no room.
    pub(crate) fn new(text: &str, desktop: (u16, u16)) -> Option<Self> {
        let room = desktop.0.saturating_sub(2 * EDGE) / LETTER.0;
        let lines = wrap(text, room.min(COLUMNS).into());
        let longest = u16::try_from(lines.iter().map(|line| line.chars().count()).max()?).ok()?;
        let count = u16::try_from(lines.len()).ok()?;
        // Rows of a bitmap are multiples of four bytes, whatever the colour depth.
        let width = (longest * LETTER.0 + 2 * EDGE) & !3;
        let height = count * LETTER.1 + 2 * EDGE + RULE;
        if longest == 0 || width > desktop.0 || height > desktop.1 {
            return None;
        }
        let area = Area { left: (desktop.0 - width) / 2, top: 0, width, height };
        let rows = |colour: [u8; 3], count: u16| colour.repeat(usize::from(width) * usize::from(count));
        let rgb = [rows(BACK, height - RULE), rows(MARK, RULE)].concat();
        let mut banner = Self { area, rgb };
        let style = MonoTextStyle::new(&FONT_10X20, INK);
        for (line, y) in lines.iter().zip((i32::from(EDGE)..).step_by(LETTER.1.into())) {
            let at = Point::new(EDGE.into(), y);
            let Ok(_) = Text::with_baseline(line, at, style, Baseline::Top).draw(&mut banner);
        }
        Some(banner)
    }
}

/// Lines of at most so many characters, broken at spaces where there are any; cut off where there are too many.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if columns == 0 {
        return lines;
    }
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        for piece in letters.chunks(columns) {
            let piece: String = piece.iter().collect();
            match lines.last_mut().filter(|line| line.chars().count() + 1 + piece.chars().count() <= columns)
            {
                Some(line) => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                None => lines.push(piece),
            }
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(columns.saturating_sub(3)).chain("...".chars()).collect();
        }
    }
    lines
}

impl OriginDimensions for Banner {
    fn size(&self) -> Size {
        Size::new(self.area.width.into(), self.area.height.into())
    }
}

impl DrawTarget for Banner {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        let width = usize::from(self.area.width);
        for Pixel(point, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(point.x), usize::try_from(point.y)) else { continue };
            let at = (y * width + x) * 3;
            if x < width
                && let Some(pixel) = self.rgb.get_mut(at..at + 3)
            {
                pixel.copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

/// The bodies of updates (MS-RDPBCGR 2.2.9.1.1.3.1.2) that paint `area` with `rgb`, row by row, at a colour depth of 15, 16,
/// 24 or 32 bits. Nothing at another depth, or where the pixels are not those of the area.
pub(crate) fn updates(area: Area, rgb: &[u8], depth: u16) -> Result<Vec<Vec<u8>>, Broken> {
    let width = usize::from(area.width);
    let bytes = match depth {
        15 | 16 => 2,
        24 => 3,
        32 => 4,
        _ => return Ok(Vec::new()),
    };
    if width == 0 || rgb.len() != width * usize::from(area.height) * 3 {
        return Ok(Vec::new());
    }
    let rows = (PIECE / (width * bytes)).max(1);
    let mut top = area.top;
    let mut out = Vec::new();
    for piece in rgb.chunks(width * 3 * rows) {
        let height = u16::try_from(piece.len() / (width * 3)).map_err(|_| Broken("banner"))?;
        let mut data = Vec::with_capacity(piece.len() / 3 * bytes);
        // From the bottom up.
        for row in piece.chunks(width * 3).rev() {
            row.as_chunks::<3>().0.iter().for_each(|pixel| push(&mut data, *pixel, depth));
        }
        let rectangle = InclusiveRectangle {
            left: area.left,
            top,
            right: area.left + area.width - 1,
            bottom: top + height - 1,
        };
        let bitmap = BitmapData {
            rectangle,
            width: area.width,
            height,
            bits_per_pixel: depth,
            compression_flags: Compression::empty(),
            compressed_data_header: None,
            bitmap_data: &data,
        };
        let update = BitmapUpdateData { rectangles: vec![bitmap] };
        out.push(encode_vec(&update).map_err(|_| Broken("banner"))?);
        top += height;
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, [red, green, blue]: [u8; 3], depth: u16) {
    let (r, g, b) = (u16::from(red), u16::from(green), u16::from(blue));
    match depth {
        15 => out.extend(((r >> 3) << 10 | (g >> 3) << 5 | b >> 3).to_le_bytes()),
        16 => out.extend(((r >> 3) << 11 | (g >> 2) << 5 | b >> 3).to_le_bytes()),
        24 => out.extend([blue, green, red]),
        _ => out.extend([blue, green, red, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_wrapped_cut_and_never_wider_than_the_desktop() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh\u{1b}", 4), ["abcd", "efgh", "?"]);
        assert!(wrap(" ", 9).is_empty() && wrap("x", 0).is_empty());
        let long = wrap(&"word ".repeat(99), 12);
        assert_eq!(long.len(), LINES);
        assert!(long[LINES - 1].ends_with("..."));
        assert!(Banner::new("", (1024, 768)).is_none() && Banner::new("hello", (8, 8)).is_none());
    }

    #[test]
    fn a_banner_has_ink_and_its_pixels_fill_its_area() {
        let banner = Banner::new("The window ends in 10 minutes", (1024, 768)).unwrap();
        let area = banner.area;
        assert_eq!(banner.rgb.len(), usize::from(area.width) * usize::from(area.height) * 3);
        assert_eq!((area.top, area.width % 4, area.left), (0, 0, (1024 - area.width) / 2));
        let inked = banner.rgb.as_chunks::<3>().0.iter().filter(|p| **p == [255; 3]).count();
        assert!(inked > 300, "{inked}");
        assert!(banner.rgb.ends_with(&MARK) && banner.rgb.starts_with(&BACK));
    }

    /// As a tap, and so the client, sees it.
    #[test]
    fn updates_paint_what_was_meant_at_every_depth() {
        let area = Area { left: 100, top: 0, width: 640, height: 67 };
        let rgb: Vec<u8> =
            (0..640 * 67).flat_map(|n| [(n / 640) as u8 & 0xf8, n as u8 & 0xf8, 0x80]).collect();
        for depth in [15, 16, 24, 32] {
            let updates = updates(area, &rgb, depth).unwrap();
            assert!(updates.len() > 1 && updates.iter().all(|u| u.len() < 16 * 1024), "{depth}");
            let mut rows = 0;
            for update in &updates {
                let read: BitmapUpdateData<'_> = ironrdp_core::decode(update).unwrap();
                let bitmap = &read.rectangles[0];
                assert_eq!((bitmap.width, bitmap.bits_per_pixel, bitmap.rectangle.top), (640, depth, rows));
                rows += bitmap.height;
            }
            assert_eq!(rows, 67);
        }
        assert!(updates(area, &rgb, 8).unwrap().is_empty());
        assert!(updates(area, &rgb[3..], 32).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_words_fit_any_desktop(text in any::<String>(), width in any::<u16>(), height in any::<u16>()) {
            if let Some(banner) = Banner::new(&text, (width, height)) {
                let area = banner.area;
                prop_assert!(area.left + area.width <= width && area.top + area.height <= height);
                prop_assert_eq!(banner.rgb.len(), usize::from(area.width) * usize::from(area.height) * 3);
            }
        }
    }
}
