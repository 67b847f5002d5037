//! Bitmap data (MS-RDPBCGR 2.2.9.1.1.3.1.2.2) and uncompressed surface bits (2.2.9.2.1) onto the picture.

use ironrdp_graphics::{rdp6::BitmapStreamDecoder, rle};
use ironrdp_pdu::{
    bitmap::{BitmapData, Compression},
    geometry::{ExclusiveRectangle, InclusiveRectangle},
    surface_commands::ExtendedBitmapDataPdu,
};

use super::{
    Fault,
    image::{Area, Image},
};

/// Colours of a palette.
pub(super) type Colours = [[u8; 3]; 256];

/// How the bytes of a pixel make a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Indexed,
    Bits15,
    Bits16,
    Bgr,
    Bgrx,
    Rgb,
}

impl Depth {
    fn of(bits: u16) -> Result<Self, Fault> {
        Ok(match bits {
            8 => Self::Indexed,
            15 => Self::Bits15,
            16 => Self::Bits16,
            24 => Self::Bgr,
            32 => Self::Bgrx,
            _ => return Err("a bitmap has a depth that does not exist"),
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Indexed => 1,
            Self::Bits15 | Self::Bits16 => 2,
            Self::Bgr | Self::Rgb => 3,
            Self::Bgrx => 4,
        }
    }
}

/// What decoding bitmaps needs from one to the next.
#[derive(Debug)]
pub(super) struct Bitmaps {
    colours: Box<Colours>,
    planar: BitmapStreamDecoder,
    unpacked: Vec<u8>,
}

impl Default for Bitmaps {
    fn default() -> Self {
        Self {
            colours: Box::new([[0; 3]; 256]),
            planar: BitmapStreamDecoder::default(),
            unpacked: Vec::new(),
        }
    }
}

impl Bitmaps {
    /// The palette as it stands.
    pub(super) fn colours(&self) -> &Colours {
        &self.colours
    }

    /// A palette (MS-RDPBCGR 2.2.9.1.1.3.1.1.1) behind its type and padding: the number of colours, then red, green and blue of each.
    pub(super) fn palette(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (count, rest) = data.split_first_chunk::<4>().ok_or("a palette is cut off")?;
        let count = u32::from_le_bytes(*count) as usize;
        let (colours, _) = rest.as_chunks::<3>();
        if count > self.colours.len() || colours.len() < count {
            return Err("a palette has not the colours that it says");
        }
        for (to, from) in self.colours.iter_mut().zip(colours.iter().take(count)) {
            *to = *from;
        }
        Ok(())
    }

    /// Shows a bitmap.
    pub(super) fn show(&mut self, bitmap: &BitmapData<'_>, image: &mut Image) -> Result<(), Fault> {
        let InclusiveRectangle { left, top, right, bottom } = bitmap.rectangle;
        let span = |from: u16, to: u16| (usize::from(to) + 1).saturating_sub(usize::from(from));
        let (width, height) = (usize::from(bitmap.width), usize::from(bitmap.height));
        // The bitmap may be wider than its place (padding to four pixels); a place beyond the desktop's edge is cut.
        let edge = image.size();
        let area = Area {
            left: usize::from(left),
            top: usize::from(top),
            width: span(left, right.min(edge.0.saturating_sub(1))).min(width),
            height: span(top, bottom.min(edge.1.saturating_sub(1))).min(height),
        };
        if !image.holds(area) {
            return Err("a bitmap lies beside the desktop");
        }
        if width * height > image.area().max(64 * 64) * 2 {
            return Err("a bitmap is larger than the desktop");
        }
        let depth = Depth::of(bitmap.bits_per_pixel)?;
        if !bitmap.compression_flags.contains(Compression::BITMAP_COMPRESSION) {
            let stride = (width * depth.bytes()).next_multiple_of(4);
            return put(image, area, bitmap.bitmap_data, (depth, stride, height), &self.colours);
        }
        self.unpacked.clear();
        let depth = match depth {
            Depth::Bgrx => {
                let to = &mut self.unpacked;
                let done = self.planar.decode_bitmap_stream_to_rgb24(bitmap.bitmap_data, to, width, height);
                done.map_err(|_| "a planar bitmap cannot be unpacked")?;
                Depth::Rgb
            }
            depth => {
                let bits = usize::from(bitmap.bits_per_pixel);
                let done = rle::decompress(bitmap.bitmap_data, &mut self.unpacked, width, height, bits);
                done.map_err(|_| "a bitmap cannot be unpacked")?;
                depth
            }
        };
        put(image, area, &self.unpacked, (depth, width * depth.bytes(), height), &self.colours)
    }

    /// Shows surface bits without a codec: rows from the bottom up, like a bitmap's.
    pub(super) fn surface(
        &self,
        place: &ExclusiveRectangle,
        data: &ExtendedBitmapDataPdu<'_>,
        image: &mut Image,
    ) -> Result<(), Fault> {
        let (width, height) = (usize::from(data.width), usize::from(data.height));
        let area = Area { left: usize::from(place.left), top: usize::from(place.top), width, height };
        if !image.holds(area) {
            return Err("surface bits lie beside the desktop");
        }
        let depth = Depth::of(u16::from(data.bpp))?;
        let stride = width * depth.bytes();
        put(image, area, data.data, (depth, stride, height), &self.colours)
    }
}

/// Puts rows that come from the bottom up into their place.
fn put(
    image: &mut Image,
    area: Area,
    bytes: &[u8],
    (depth, stride, rows): (Depth, usize, usize),
    colours: &Colours,
) -> Result<(), Fault> {
    if bytes.len() < stride * rows {
        return Err("a bitmap has fewer pixels than it says");
    }
    image.put(area, |y, to| {
        let start = (rows - 1 - y) * stride;
        let row = bytes.get(start..start + stride).unwrap_or_default();
        match depth {
            Depth::Indexed => {
                fill(to, row.as_chunks(), |[n]| colours.get(usize::from(n)).copied().unwrap_or_default())
            }
            Depth::Bits15 => fill(to, row.as_chunks(), |raw| bits15(u16::from_le_bytes(raw))),
            Depth::Bits16 => fill(to, row.as_chunks(), |raw| bits16(u16::from_le_bytes(raw))),
            Depth::Bgr => fill(to, row.as_chunks(), |[b, g, r]| [r, g, b]),
            Depth::Rgb => fill(to, row.as_chunks(), |rgb| rgb),
            Depth::Bgrx => fill(to, row.as_chunks(), |[b, g, r, _]| [r, g, b]),
        }
    });
    Ok(())
}

fn fill<const N: usize>(
    to: &mut [[u8; 4]],
    (from, _): (&[[u8; N]], &[u8]),
    colour: impl Fn([u8; N]) -> [u8; 3],
) {
    for (to, from) in to.iter_mut().zip(from) {
        let [r, g, b] = colour(*from);
        *to = [r, g, b, 255];
    }
}

/// Five bits of each colour, spread over eight as clients do it: the highest bits again below.
fn bits15(raw: u16) -> [u8; 3] {
    [five(raw >> 10), five(raw >> 5), five(raw)]
}

fn bits16(raw: u16) -> [u8; 3] {
    let green = raw >> 5 & 0x3f;
    [five(raw >> 11), (green << 2 | green >> 4) as u8, five(raw)]
}

fn five(raw: u16) -> u8 {
    let raw = raw & 0x1f;
    (raw << 3 | raw >> 2) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(rectangle: (u16, u16, u16, u16), size: (u16, u16), bits: u16, data: &[u8]) -> BitmapData<'_> {
        let (left, top, right, bottom) = rectangle;
        BitmapData {
            rectangle: InclusiveRectangle { left, top, right, bottom },
            width: size.0,
            height: size.1,
            bits_per_pixel: bits,
            compression_flags: Compression::empty(),
            compressed_data_header: None,
            bitmap_data: data,
        }
    }

    fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
        let at = (y * usize::from(image.size().0) + x) * 4;
        image.rgbx()[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn each_depth_makes_the_colours_it_should_from_the_bottom_up_and_without_padding() {
        let mut bitmaps = Bitmaps::default();
        bitmaps.palette(&[&2u32.to_le_bytes()[..], &[1, 2, 3, 200, 100, 50]].concat()).unwrap();
        // A column of two pixels: the lower one first, padded to four bytes each.
        type Case = (u16, [u8; 8], [u8; 3], [u8; 3]);
        let cases: [Case; 5] = [
            (8, [0, 9, 9, 9, 1, 9, 9, 9], [200, 100, 50], [1, 2, 3]),
            (15, [0x00, 0x7c, 9, 9, 0x1f, 0x00, 9, 9], [0, 0, 255], [255, 0, 0]),
            (16, [0xe0, 0x07, 9, 9, 0x10, 0x84, 9, 9], [132, 130, 132], [0, 255, 0]),
            (24, [3, 2, 1, 9, 6, 5, 4, 9], [4, 5, 6], [1, 2, 3]),
            (32, [3, 2, 1, 9, 6, 5, 4, 9], [4, 5, 6], [1, 2, 3]),
        ];
        for (bits, data, upper, lower) in cases {
            let mut image = Image::new(100, 100).unwrap();
            image.take_dirty();
            bitmaps.show(&bitmap((70, 63, 70, 64), (1, 2), bits, &data), &mut image).unwrap();
            assert_eq!((pixel(&image, 70, 63), pixel(&image, 70, 64)), (upper, lower), "{bits} bits");
            assert_eq!(image.take_dirty(), [1, 3]);
        }
    }

    #[test]
    fn a_place_beyond_the_edge_is_cut_and_one_beside_the_desktop_is_a_fault() {
        let mut bitmaps = Bitmaps::default();
        let mut image = Image::new(10, 10).unwrap();
        let data = [7; 4 * 4 * 4];
        bitmaps.show(&bitmap((8, 8, 11, 11), (4, 4), 32, &data), &mut image).unwrap();
        assert_eq!(pixel(&image, 9, 9), [7; 3]);
        assert!(bitmaps.show(&bitmap((10, 8, 13, 11), (4, 4), 32, &data), &mut image).is_err());
        assert!(bitmaps.show(&bitmap((9, 8, 5, 11), (4, 4), 32, &data), &mut image).is_err());
        assert!(bitmaps.show(&bitmap((0, 0, 3, 3), (4, 4), 32, &data[1..]), &mut image).is_err());
        assert!(bitmaps.show(&bitmap((0, 0, 3, 3), (4, 4), 17, &data), &mut image).is_err());
        assert!(bitmaps.show(&bitmap((0, 0, 3, 3), (60_000, 60_000), 32, &data), &mut image).is_err());
    }
}
