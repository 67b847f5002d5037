//! What the built-in desktop shows.

use ironrdp_core::encode_vec;
use ironrdp_pdu::{
    bitmap::{BitmapData, BitmapUpdateData, Compression},
    geometry::InclusiveRectangle,
};

use super::{Fault, fast_path};

/// The screen's size.
pub(super) const WIDTH: u16 = 1024;
pub(super) const HEIGHT: u16 = 768;
/// A piece of the screen that is sent at a time.
const PIECE: (u16, u16) = (64, 32);
/// Marks of keys in one row.
const MARKS: u16 = 48;

const BACKGROUND: u32 = 0x0033_5577;
const PANEL: u32 = 0x00e8_ecef;
const WATER: u32 = 0x0020_80d0;
const EDGE: u32 = 0x0020_2830;
const CLICK: u32 = 0x00d0_4020;

/// A rectangle, its far edges outside.
#[derive(Debug, Clone, Copy)]
struct Area {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
}

const TANK: Area = Area { x: 120, y: 120, width: 200, height: 400 };
const KEYS: Area = Area { x: 40, y: 640, width: 16 * MARKS, height: 80 };

/// The picture and what of it the client has not been sent.
pub(super) struct Picture {
    pixels: Vec<u32>,
    changed: Vec<Area>,
    level: u16,
    rising: bool,
    keys: u16,
}

impl Picture {
    pub(super) fn new() -> Self {
        let mut picture = Self {
            pixels: vec![BACKGROUND; usize::from(WIDTH) * usize::from(HEIGHT)],
            changed: Vec::new(),
            level: TANK.height / 2,
            rising: true,
            keys: 0,
        };
        picture.fill(Area { x: 40, y: 40, width: WIDTH - 80, height: 560 }, PANEL);
        picture.fill(Area { x: TANK.x - 4, y: TANK.y, width: TANK.width + 8, height: TANK.height + 4 }, EDGE);
        picture.fill(KEYS, PANEL);
        picture.tank();
        picture.changed.clear();
        picture
    }

    /// The process goes on a little.
    pub(super) fn step(&mut self) {
        if self.level >= TANK.height - 20 {
            self.rising = false;
        } else if self.level <= 20 {
            self.rising = true;
        }
        self.level = if self.rising { self.level + 4 } else { self.level - 4 };
        self.tank();
    }

    /// A key was pressed: a mark whose colour tells which.
    pub(super) fn key(&mut self, code: u8) {
        if self.keys == MARKS {
            self.fill(KEYS, PANEL);
            self.keys = 0;
        }
        let code = u32::from(code);
        let colour = (code.wrapping_mul(0x0034_5f13) & 0x007f_7f7f) | 0x0010_1010;
        self.fill(Area { x: KEYS.x + 16 * self.keys + 2, y: KEYS.y + 8, width: 12, height: 64 }, colour);
        self.keys += 1;
    }

    /// Somebody clicked there.
    pub(super) fn click(&mut self, x: u16, y: u16) {
        let (x, y) = (x.min(WIDTH - 8), y.min(HEIGHT - 8));
        self.fill(Area { x, y, width: 8, height: 8 }, CLICK);
    }

    fn tank(&mut self) {
        let surface = TANK.y + TANK.height - self.level;
        self.fill(Area { x: TANK.x, y: TANK.y, width: TANK.width, height: surface - TANK.y }, 0x00ff_ffff);
        self.fill(Area { x: TANK.x, y: surface, width: TANK.width, height: self.level }, WATER);
        // Only around the surface has anything changed.
        self.changed.truncate(self.changed.len().saturating_sub(2));
        let from = surface.saturating_sub(8).max(TANK.y);
        let to = (surface + 8).min(TANK.y + TANK.height);
        self.changed.push(Area { x: TANK.x, y: from, width: TANK.width, height: to - from });
    }

    fn fill(&mut self, area: Area, colour: u32) {
        for y in area.y..area.y.saturating_add(area.height).min(HEIGHT) {
            let start = usize::from(y) * usize::from(WIDTH) + usize::from(area.x);
            if let Some(row) = self.pixels.get_mut(start..start + usize::from(area.width)) {
                row.fill(colour);
            }
        }
        self.changed.push(area);
    }

    /// Everything, as updates.
    pub(super) fn all(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        self.changed.clear();
        self.updates(Area { x: 0, y: 0, width: WIDTH, height: HEIGHT })
    }

    /// What has changed since it was last asked.
    pub(super) fn changes(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        let mut out = Vec::new();
        for area in std::mem::take(&mut self.changed) {
            out.extend(self.updates(area)?);
        }
        Ok(out)
    }

    fn updates(&self, area: Area) -> Result<Vec<Vec<u8>>, Fault> {
        let mut out = Vec::new();
        let (right, bottom) = ((area.x + area.width).min(WIDTH), (area.y + area.height).min(HEIGHT));
        for y in (area.y..bottom).step_by(PIECE.1.into()) {
            for x in (area.x..right).step_by(PIECE.0.into()) {
                let piece = Area { x, y, width: PIECE.0.min(right - x), height: PIECE.1.min(bottom - y) };
                out.push(self.update(piece)?);
            }
        }
        Ok(out)
    }

    /// One piece as an uncompressed bitmap: rows from the bottom up (MS-RDPBCGR 2.2.9.1.1.3.1.2.2).
    fn update(&self, piece: Area) -> Result<Vec<u8>, Fault> {
        let mut data = Vec::with_capacity(usize::from(piece.width) * usize::from(piece.height) * 4);
        for y in (piece.y..piece.y + piece.height).rev() {
            let start = usize::from(y) * usize::from(WIDTH) + usize::from(piece.x);
            let row = self.pixels.get(start..start + usize::from(piece.width)).unwrap_or_default();
            data.extend(row.iter().flat_map(|pixel| pixel.to_le_bytes()));
        }
        let rectangle = InclusiveRectangle {
            left: piece.x,
            top: piece.y,
            right: piece.x + piece.width - 1,
            bottom: piece.y + piece.height - 1,
        };
        let bitmap = BitmapData {
            rectangle,
            width: piece.width,
            height: piece.height,
            bits_per_pixel: 32,
            compression_flags: Compression::empty(),
            compressed_data_header: None,
            bitmap_data: &data,
        };
        fast_path(&encode_vec(&BitmapUpdateData { rectangles: vec![bitmap] })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_stays_on_the_screen_and_every_update_fits_a_fast_path_pdu() {
        let mut picture = Picture::new();
        assert_eq!(picture.all().unwrap().len(), 16 * 24);
        for i in 0..400u16 {
            picture.step();
            picture.key((i % 90) as u8);
            picture.click(i * 7, i * 5);
            for update in picture.changes().unwrap() {
                assert!(update.len() < 0x4000, "{}", update.len());
            }
        }
        assert!(picture.changes().unwrap().is_empty());
    }
}
