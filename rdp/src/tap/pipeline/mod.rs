//! The graphics pipeline (MS-RDPEGFX): surfaces that the target draws on, of which some are to be seen. The library decodes; the
//! surfaces, their places and the cache are kept here, where nothing is passed over in silence.
//!
//! The relay has judged each PDU ([`crate::channels::pipeline`]): there is no surface and no entry of the cache that it has
//! not counted.

mod canvas;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironrdp_dvc::DvcProcessor as _;
use ironrdp_egfx::{
    client::{BitmapUpdate, GraphicsPipelineClient, GraphicsPipelineHandler},
    pdu::{Codec1Type, GfxPdu},
};
use ironrdp_graphics::zgfx::wrap_uncompressed;

use self::canvas::{Canvas, Part};
use super::{Fault, image::Image};

/// The library wants a number for the channel, and does nothing with it.
const CHANNEL: u32 = 1;

/// A target's surfaces, from the version that it has agreed to on.
pub(super) struct Pipeline {
    decoder: GraphicsPipelineClient,
    canvas: Shared,
    undecoded: u64,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("undecoded", &self.undecoded).finish_non_exhaustive()
    }
}

/// What the decoder draws on.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Canvas>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Canvas> {
        // A decoder that failed in the midst of it has already cost the session a fault.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GraphicsPipelineHandler for Shared {
    fn on_bitmap_updated(&mut self, update: &BitmapUpdate) {
        // It says how transparent a window is; the desktop has nothing behind it.
        if update.codec_id != Codec1Type::Alpha {
            let part = Part::of(&update.destination_rectangle);
            // Where ClearCodec has no layer, what was there stays.
            let holes = update.codec_id == Codec1Type::ClearCodec;
            self.lock().draw(update.surface_id, part, update.data.as_chunks().0, holes);
        }
    }

    fn on_unhandled_pdu(&mut self, _: &GfxPdu) {
        self.lock().unknown = true;
    }
}

impl Pipeline {
    /// No surface, and nothing that later pixels could refer to.
    pub(super) fn new() -> Self {
        let canvas = Shared::default();
        let decoder = GraphicsPipelineClient::new(Box::new(canvas.clone()), None);
        Self { decoder, canvas, undecoded: 0 }
    }

    /// Takes a PDU, of which `whole` are the bytes; at the end of a frame shows in the picture what it has changed there.
    pub(super) fn feed(&mut self, pdu: &GfxPdu, whole: &[u8], image: &mut Image) -> Result<(), Fault> {
        self.draw(pdu, whole)?;
        if let GfxPdu::EndFrame(_) = pdu {
            self.canvas.lock().show(image);
        }
        Ok(())
    }

    /// A picture of another size with all that is to be seen.
    pub(super) fn anew(&self, mut image: Image) -> Image {
        let mut canvas = self.canvas.lock();
        canvas.all_changed();
        canvas.show(&mut image);
        drop(canvas);
        image
    }

    fn draw(&mut self, pdu: &GfxPdu, whole: &[u8]) -> Result<(), Fault> {
        let mut canvas = self.canvas.lock();
        match pdu {
            GfxPdu::SolidFill(fill) => return canvas.fill(fill),
            GfxPdu::SurfaceToSurface(copy) => return canvas.copy(copy),
            GfxPdu::SurfaceToCache(keep) => return canvas.keep(keep),
            GfxPdu::CacheToSurface(show) => return canvas.show_kept(show),
            GfxPdu::EvictCacheEntry(evict) => {
                canvas.evict(evict.cache_slot);
                return Ok(());
            }
            GfxPdu::MapSurfaceToOutput(map) => {
                return canvas.place(map.surface_id, map.output_origin_x, map.output_origin_y);
            }
            GfxPdu::CreateSurface(create) => canvas.create(create.surface_id, create.width, create.height),
            GfxPdu::DeleteSurface(delete) => canvas.delete(delete.surface_id),
            GfxPdu::ResetGraphics(_) => canvas.reset(),
            GfxPdu::CapabilitiesConfirm(_)
            | GfxPdu::StartFrame(_)
            | GfxPdu::EndFrame(_)
            | GfxPdu::WireToSurface1(_)
            | GfxPdu::WireToSurface2(_)
            | GfxPdu::DeleteEncodingContext(_) => {}
            _ => return Err("the graphics pipeline has a PDU that is not shown"),
        }
        // What is kept as a glyph has no holes: decoders would not keep the same (MS-RDPEGFX 2.2.4.1, flags).
        canvas.glyph = matches!(pdu, GfxPdu::WireToSurface1(pixels)
            if pixels.codec_id == Codec1Type::ClearCodec && pixels.bitmap_data.first().is_some_and(|flags| flags & 3 == 1));
        drop(canvas);
        // What it has to say to the target, the person's client says.
        let decoded = self.decoder.process(CHANNEL, &wrap_uncompressed(whole));
        if decoded.is_err() || self.decoder.dropped_updates() != self.undecoded {
            self.undecoded = self.decoder.dropped_updates();
            return Err("pixels of the graphics pipeline cannot be decoded");
        }
        if std::mem::take(&mut self.canvas.lock().unknown) {
            return Err("the graphics pipeline has a codec that is not decoded");
        }
        Ok(())
    }
}
