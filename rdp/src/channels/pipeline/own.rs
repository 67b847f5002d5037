//! What the gateway itself says: a surface of its own for words over a desktop, and what makes all clients show the same.

use super::pdu::{
    CREATE_SURFACE, DELETE_SURFACE, END_FRAME, MAP_SURFACE_TO_OUTPUT, SOLID_FILL, START_FRAME,
    SURFACE_TO_SURFACE, WIRE_TO_SURFACE_1, encode,
};
use crate::banner::Area;

/// `PIXEL_FORMAT_XRGB_8888`.
const XRGB: u8 = 0x20;
/// Numbers that no target uses: they count from 0.
const HIGHEST: u16 = 0xfff0;
/// The first number of a frame of ours.
const FRAMES: u32 = 0xc0ff_0000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Own {
    stands: Option<(u16, Area)>,
    frames: u16,
}

impl Own {
    /// Whether it has this number.
    pub(super) fn is(&self, surface: u16) -> bool {
        self.stands.is_some_and(|(own, _)| own == surface)
    }

    /// Red, green and blue in an area: what is to be drawn in a frame.
    pub(super) fn paint(&mut self, area: Area, rgb: &[u8], taken: impl Fn(u16) -> bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let surface = match self.stands {
            Some((surface, stands)) if stands == area => surface,
            _ => {
                out.extend(self.clear());
                let surface = (0..=HIGHEST).rev().find(|surface| !taken(*surface))?;
                self.stands = Some((surface, area));
                let size = [surface, area.width, area.height].map(u16::to_le_bytes).concat();
                out.extend(encode(CREATE_SURFACE, &[size.as_slice(), &[XRGB]].concat()));
                let place = [u32::from(area.left), u32::from(area.top)].map(u32::to_le_bytes).concat();
                let body = [surface.to_le_bytes().as_slice(), &[0; 2], &place].concat();
                out.extend(encode(MAP_SURFACE_TO_OUTPUT, &body));
                surface
            }
        };
        let pixels: Vec<u8> = rgb
            .as_chunks::<3>()
            .0
            .iter()
            .flat_map(|[red, green, blue]| [*blue, *green, *red, 0xff])
            .collect();
        let len = u32::try_from(pixels.len()).ok()?;
        let body = [
            [surface, 0].map(u16::to_le_bytes).concat().as_slice(),
            &[XRGB],
            &[0, 0, area.width, area.height].map(u16::to_le_bytes).concat(),
            &len.to_le_bytes(),
            &pixels,
        ]
        .concat();
        out.extend(encode(WIRE_TO_SURFACE_1, &body));
        Some(out)
    }

    /// A frame of ours around that, and its number.
    pub(super) fn frame(&mut self, drawn: &[u8]) -> (Vec<u8>, u32) {
        let frame = FRAMES | u32::from(self.frames);
        self.frames = self.frames.wrapping_add(1);
        let start = encode(START_FRAME, &[0, frame].map(u32::to_le_bytes).concat());
        ([start.as_slice(), drawn, &encode(END_FRAME, &frame.to_le_bytes())].concat(), frame)
    }

    /// Nothing stands there any more.
    pub(super) fn clear(&mut self) -> Vec<u8> {
        self.stands.take().map(|(surface, _)| delete(surface)).unwrap_or_default()
    }
}

/// A surface is gone.
pub(super) fn delete(surface: u16) -> Vec<u8> {
    encode(DELETE_SURFACE, &surface.to_le_bytes())
}

/// All of a surface is black: what is on a new one is what each client thinks.
pub(super) fn blacken(surface: u16, (width, height): (u16, u16)) -> Vec<u8> {
    let body = [surface, 0, 0xff00, 1, 0, 0, width, height].map(u16::to_le_bytes).concat();
    encode(SOLID_FILL, &body)
}

/// All of a surface onto itself: what is on one that has been placed is shown by all clients then, else by some.
pub(super) fn show(surface: u16, (width, height): (u16, u16)) -> Vec<u8> {
    let body = [surface, surface, 0, 0, width, height, 1, 0, 0].map(u16::to_le_bytes).concat();
    encode(SURFACE_TO_SURFACE, &body)
}
