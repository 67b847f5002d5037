//! How the target wants the pointer to look (MS-RDPBCGR 2.2.9.1.1.4).

use std::{collections::BTreeMap, sync::Arc};

use ironrdp_graphics::pointer::{DecodedPointer, PointerBitmapTarget};
use ironrdp_pdu::pointer::PointerUpdateData;

use super::{Fault, bitmap::Colours};

/// Most shapes that are kept; a client announces fewer (MS-RDPBCGR 2.2.7.1.5).
const MOST: usize = 128;
/// Longest side of a shape (MS-RDPBCGR 2.2.7.2.7).
const MAX_SIDE: u16 = 384;

/// The pointer is another from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointerChange {
    /// As the person's own system shows it.
    Usual,
    /// Not shown.
    Hidden,
    /// Moved by the target.
    At {
        /// Pixels from the left.
        x: u16,
        /// Pixels from the top.
        y: u16,
    },
    /// It looks like this.
    Shape(Arc<PointerShape>),
}

/// A pointer's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerShape {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// The place in it that points.
    pub hot: (u16, u16),
    /// Red, green, blue and opacity, row by row.
    pub rgba: Vec<u8>,
}

/// The shapes that the target may come back to.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    kept: BTreeMap<u16, Arc<PointerShape>>,
}

impl Pointers {
    pub(super) fn update(
        &mut self,
        update: &PointerUpdateData<'_>,
        colours: &Colours,
    ) -> Result<PointerChange, Fault> {
        let target = PointerBitmapTarget::Accelerated;
        let (index, decoded) = match update {
            PointerUpdateData::SetHidden => return Ok(PointerChange::Hidden),
            PointerUpdateData::SetDefault => return Ok(PointerChange::Usual),
            PointerUpdateData::SetPosition(at) => return Ok(PointerChange::At { x: at.x, y: at.y }),
            PointerUpdateData::Cached(cached) => {
                let shape = self.kept.get(&cached.cache_index).cloned();
                return Ok(shape.map_or(PointerChange::Usual, PointerChange::Shape));
            }
            PointerUpdateData::Color(color) if fits(color.width, color.height) => {
                (color.cache_index, DecodedPointer::decode_color_pointer_attribute(color, target))
            }
            PointerUpdateData::New(new) if fits(new.color_pointer.width, new.color_pointer.height) => {
                let index = new.color_pointer.cache_index;
                (index, DecodedPointer::decode_pointer_attribute_with_palette(new, target, Some(colours)))
            }
            PointerUpdateData::Large(large) if fits(large.width, large.height) => {
                (large.cache_index, DecodedPointer::decode_large_pointer_attribute(large, target))
            }
            _ => return Err("a pointer is larger than any"),
        };
        let decoded = decoded.map_err(|_| "a pointer cannot be unpacked")?;
        let shape = Arc::new(PointerShape {
            width: decoded.width,
            height: decoded.height,
            hot: (decoded.hotspot_x, decoded.hotspot_y),
            rgba: decoded.bitmap_data,
        });
        if self.kept.len() < MOST || self.kept.contains_key(&index) {
            self.kept.insert(index, shape.clone());
        }
        Ok(PointerChange::Shape(shape))
    }
}

fn fits(width: u16, height: u16) -> bool {
    width <= MAX_SIDE && height <= MAX_SIDE
}
