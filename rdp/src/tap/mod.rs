//! The recording tap: decodes a copy of what the target sends, so that the recording holds pictures and nobody needs a decoder
//! at replay. Bytes and `now` in, pictures out; no socket, no clock.
//!
//! Understood: bitmap updates on the fast and the slow path (MS-RDPBCGR 2.2.9.1.1.3.1.2, 2.2.9.1.2.1.2), raw, interleaved RLE at
//! 8 to 24 bits and RDP 6.0 planar at 32; palettes; uncompressed surface bits; pointers; a resize by another Demand Active; and
//! the graphics pipeline, as the relay lets it through.
//! What the relay does not let through (drawing orders, bulk compression, other codecs) is counted as undecodable.
//!
//! Invariant: nothing that a target sends makes the tap panic, or hold more than a picture, a fragment buffer of the size of one,
//! and a bounded cache of pointers.
//! Invariant: what cannot be decoded is never passed over in silence: it is counted, and beyond [`MOST_FAULTS`] it is an error
//! that ends the session.

mod bitmap;
mod fragments;
mod image;
mod pipeline;
mod pointer;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ironrdp_core::{ReadCursor, decode_cursor};
use ironrdp_egfx::pdu::GfxPdu;
use ironrdp_pdu::{
    bitmap::BitmapUpdateData,
    fast_path::{EncryptionFlags, FastPathHeader, FastPathUpdate, FastPathUpdatePdu, UpdateCode},
    mcs::{McsMessage, SendDataIndication},
    rdp::{
        capability_sets::CapabilitySet,
        headers::{CompressionFlags, ShareControlHeader, ShareControlPdu, ShareDataPdu},
    },
    slow_path::{self, GraphicsUpdateType},
    surface_commands::{SurfaceBitsPdu, SurfaceCommand},
    x224::X224,
};

use bitmap::Bitmaps;
use fragments::Fragments;
pub use image::{Image, TILE};
use pipeline::Pipeline;
use pointer::Pointers;
pub use pointer::{PointerChange, PointerShape};

use crate::event::ScreenPdu;

/// Updates that may fail to decode between two sizes of the desktop; one more ends the session.
pub const MOST_FAULTS: u32 = 8;
/// And in all of a session, however often a target begins its desktop anew.
pub const MOST_FAULTS_EVER: u32 = 4 * MOST_FAULTS;
/// Pictures come at most this often: 10 a second, in microseconds.
const FRAME: i64 = 100_000;
/// Surface bits as they are (MS-RDPBCGR 2.2.9.2.1.1).
const NO_CODEC: u8 = 0;
/// Changes of the pointer that wait to be taken; older ones are forgotten.
const MOST_POINTER_CHANGES: usize = 64;

/// Why the tap gave up: the session cannot be recorded and must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The target sent too much that cannot be decoded.
    #[error(
        "the target sent {count} updates that cannot be recorded, the last because {why}; check what the relay lets through"
    )]
    Undecodable {
        /// How many.
        count: u32,
        /// What was wrong with the last.
        why: &'static str,
    },
    /// A desktop of this size cannot be recorded.
    #[error("a desktop of {width}x{height} cannot be recorded; use a smaller one")]
    Size {
        /// Pixels in a row.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// Where the session stands when the tap begins: behind the first Font Map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Pixels in a row, as confirmed.
    pub width: u16,
    /// Rows, as confirmed.
    pub height: u16,
    /// The MCS id of the I/O channel. Other channels are passed over.
    pub io_channel: u16,
}

/// What changed since the last frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The picture.
    pub image: &'a Image,
    /// The tiles that may have changed, row by row, [`TILE`] pixels square.
    pub changed: Vec<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Tap {
    io_channel: u16,
    image: Image,
    bitmaps: Bitmaps,
    fragments: Fragments,
    pipeline: Option<Pipeline>,
    pointers: Pointers,
    pointer_changes: Vec<PointerChange>,
    shown: Option<i64>,
    in_a_row: u32,
    faults: u32,
}

/// Why one update could not be decoded.
type Fault = &'static str;

impl Tap {
    /// A black picture.
    ///
    /// # Errors
    /// When no desktop of that size can be recorded.
    pub fn new(start: Start) -> Result<Self, TapError> {
        let Start { width, height, io_channel } = start;
        let image = Image::new(width, height).ok_or(TapError::Size { width, height })?;
        Ok(Self {
            io_channel,
            fragments: Fragments::new(image.area()),
            image,
            bitmaps: Bitmaps::default(),
            pipeline: None,
            pointers: Pointers::default(),
            pointer_changes: Vec::new(),
            shown: None,
            in_a_row: 0,
            faults: 0,
        })
    }

    /// The same for a session in which another desktop was before: its faults, palette, pointers, and the surfaces of the graphics pipeline,
    /// which a client keeps, too.
    #[must_use]
    pub fn after(self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let Self { faults, pipeline, image, bitmaps, pointers, pointer_changes, .. } = before;
        // What a client has of a desktop that is as large as before, it keeps.
        let image = match &pipeline {
            _ if image.size() == self.image.size() => image,
            Some(pipeline) => pipeline.anew(self.image),
            None => self.image,
        };
        Self { faults, pipeline, image, bitmaps, pointers, pointer_changes, ..self }
    }

    /// Takes what a target draws.
    ///
    /// # Errors
    /// When too much could not be decoded, or the desktop's size became one that cannot be recorded.
    pub fn draw(&mut self, pdu: &ScreenPdu) -> Result<(), TapError> {
        match pdu {
            ScreenPdu::Desktop(pdu) => self.feed(pdu),
            // What later pixels refer to, clients would have and the picture not: nothing is borne.
            ScreenPdu::Pipeline(pdus) => match self.carefully(|tap| tap.pipeline(pdus))? {
                Ok(()) => Ok(()),
                Err(why) => Err(TapError::Undecodable { count: 1, why }),
            },
        }
    }

    /// Takes a whole PDU of the target: fast path, or TPKT.
    ///
    /// # Errors
    /// When too much could not be decoded, or the desktop's size became one that cannot be recorded.
    pub fn feed(&mut self, pdu: &[u8]) -> Result<(), TapError> {
        match self.carefully(|tap| tap.decode(pdu))? {
            Ok(()) => Ok(()),
            Err(why) => self.fault(why),
        }
    }

    fn carefully(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<Result<(), Fault>, TapError>,
    ) -> Result<Result<(), Fault>, TapError> {
        // The libraries that decode are careful; should one not be, it costs the session and not the process.
        let done = catch_unwind(AssertUnwindSafe(|| decode(self)));
        done.unwrap_or(Ok(Err("the decoder failed")))
    }

    fn fault(&mut self, why: Fault) -> Result<(), TapError> {
        self.in_a_row += 1;
        self.faults = self.faults.saturating_add(1);
        if self.in_a_row > MOST_FAULTS || self.faults > MOST_FAULTS_EVER {
            return Err(TapError::Undecodable { count: self.in_a_row.max(self.faults), why });
        }
        Ok(())
    }

    /// How many updates could not be decoded so far: the picture may be wrong where they were.
    pub fn faults(&self) -> u32 {
        self.faults
    }

    fn decode(&mut self, pdu: &[u8]) -> Result<Result<(), Fault>, TapError> {
        match pdu.first() {
            // TPKT's version.
            Some(3) => self.slow_path(pdu),
            Some(first) if first & 3 == 0 => Ok(self.fast_path(pdu)),
            _ => Ok(Err("it is no PDU of RDP")),
        }
    }

    /// MS-RDPBCGR 2.2.9.1.2.
    fn fast_path(&mut self, pdu: &[u8]) -> Result<(), Fault> {
        let mut src = ReadCursor::new(pdu);
        let header = decode_cursor::<FastPathHeader>(&mut src).map_err(|_| "its header is malformed")?;
        if header.flags != EncryptionFlags::empty() {
            return Err("it is encrypted by standard security");
        }
        if header.data_length != src.len() {
            return Err("its length is not the one it says");
        }
        // What follows one that cannot be decoded is shown by clients, and so it is here.
        let mut done = Ok(());
        while !src.is_empty() {
            let update =
                decode_cursor::<FastPathUpdatePdu<'_>>(&mut src).map_err(|_| "an update is malformed")?;
            if update.compression_flags.is_some_and(|flags| flags.contains(CompressionFlags::COMPRESSED)) {
                done = done.and(Err("an update is compressed"));
                continue;
            }
            let code = update.update_code;
            let shown = match self.fragments.take(update.fragmentation, code.as_u8(), update.data) {
                Ok(Some(whole)) => self.update(code, &whole),
                Ok(None) => Ok(()),
                Err(fault) => Err(fault),
            };
            done = done.and(shown);
        }
        done
    }

    fn update(&mut self, code: UpdateCode, data: &[u8]) -> Result<(), Fault> {
        if code == UpdateCode::Synchronize {
            return Ok(());
        }
        let update = FastPathUpdate::decode_with_code(data, code).map_err(|_| "an update is malformed")?;
        match update {
            FastPathUpdate::Bitmap(update) => self.bitmap(&update),
            FastPathUpdate::SurfaceCommands(commands) => {
                commands.into_iter().map(|command| self.surface(&command)).fold(Ok(()), Result::and)
            }
            FastPathUpdate::Pointer(update) => self.pointer(update),
            FastPathUpdate::Palette(data) => self.bitmaps.palette(data.get(4..).unwrap_or_default()),
            FastPathUpdate::Orders(data) => no_orders(data),
        }
    }

    fn bitmap(&mut self, update: &BitmapUpdateData<'_>) -> Result<(), Fault> {
        let Self { bitmaps, image, .. } = self;
        update.rectangles.iter().map(|one| bitmaps.show(one, image)).fold(Ok(()), Result::and)
    }

    fn surface(&mut self, command: &SurfaceCommand<'_>) -> Result<(), Fault> {
        let (SurfaceCommand::SetSurfaceBits(bits) | SurfaceCommand::StreamSurfaceBits(bits)) = command else {
            return Ok(());
        };
        let SurfaceBitsPdu { destination, extended_bitmap_data: data } = bits;
        if data.codec_id != NO_CODEC {
            return Err("surface bits have a codec that is not decoded");
        }
        self.bitmaps.surface(destination, data, &mut self.image)
    }

    fn pointer(&mut self, update: ironrdp_pdu::pointer::PointerUpdateData<'_>) -> Result<(), Fault> {
        let change = self.pointers.update(&update, self.bitmaps.colours());
        if self.pointer_changes.len() >= MOST_POINTER_CHANGES {
            self.pointer_changes.remove(0);
        }
        self.pointer_changes.push(change?);
        Ok(())
    }

    fn slow_path(&mut self, pdu: &[u8]) -> Result<Result<(), Fault>, TapError> {
        let Ok(X224(message)) = ironrdp_core::decode::<X224<McsMessage<'_>>>(pdu) else {
            return Ok(Err("its MCS part is malformed"));
        };
        let McsMessage::SendDataIndication(SendDataIndication { channel_id, user_data, .. }) = message else {
            return Ok(Ok(()));
        };
        if channel_id != self.io_channel {
            return Ok(Ok(()));
        }
        // What the library does not know of share control (flow control, redirection with basic security) shows nothing.
        let Ok(header) = ironrdp_core::decode::<ShareControlHeader>(&user_data) else {
            return Ok(if may_show(&user_data) { Err("its share data is malformed") } else { Ok(()) });
        };
        match header.share_control_pdu {
            ShareControlPdu::ServerDemandActive(demand) => {
                let size = demand.pdu.capability_sets.iter().find_map(|set| match set {
                    CapabilitySet::Bitmap(bitmap) => Some((bitmap.desktop_width, bitmap.desktop_height)),
                    _ => None,
                });
                size.map_or(Ok(()), |(width, height)| self.resize(width, height)).map(Ok)
            }
            ShareControlPdu::Data(data) => {
                let compressed = data.compression_flags.contains(CompressionFlags::COMPRESSED);
                Ok(match data.share_data_pdu {
                    ShareDataPdu::Update(_) | ShareDataPdu::Pointer(_) if compressed => {
                        Err("it is compressed")
                    }
                    ShareDataPdu::Compressed { .. } => Err("it is compressed"),
                    ShareDataPdu::Update(data) => self.slow_update(&data),
                    ShareDataPdu::Pointer(data) => {
                        let update = slow_path::decode_slow_path_pointer(&mut ReadCursor::new(&data));
                        update.map_err(|_| "a pointer is malformed").and_then(|update| self.pointer(update))
                    }
                    _ => Ok(()),
                })
            }
            _ => Ok(Ok(())),
        }
    }

    /// MS-RDPBCGR 2.2.9.1.1.3.1.
    fn slow_update(&mut self, data: &[u8]) -> Result<(), Fault> {
        let malformed = "an update is malformed";
        let mut src = ReadCursor::new(data);
        match slow_path::read_graphics_update_type(&mut src).map_err(|_| malformed)? {
            GraphicsUpdateType::Bitmap => {
                let update = slow_path::decode_slow_path_bitmap(&mut src).map_err(|_| malformed)?;
                self.bitmap(&update)
            }
            GraphicsUpdateType::Palette => self.bitmaps.palette(data.get(4..).unwrap_or_default()),
            GraphicsUpdateType::Orders => no_orders(data.get(4..).unwrap_or_default()),
            GraphicsUpdateType::Synchronize => Ok(()),
        }
    }

    /// PDUs of the graphics pipeline.
    fn pipeline(&mut self, pdus: &[u8]) -> Result<Result<(), Fault>, TapError> {
        let mut rest = pdus;
        while !rest.is_empty() {
            let mut src = ReadCursor::new(rest);
            let Ok(pdu) = decode_cursor::<GfxPdu>(&mut src) else {
                return Ok(Err("a PDU of the graphics pipeline is malformed"));
            };
            let (whole, after) = rest.split_at(rest.len() - src.len());
            rest = after;
            match &pdu {
                // Surfaces, cache and what pixels refer to begin anew (MS-RDPEGFX 3.3.5.19).
                GfxPdu::CapabilitiesConfirm(_) => self.pipeline = Some(Pipeline::new()),
                GfxPdu::ResetGraphics(reset) => {
                    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
                    self.resize_image(side(reset.width), side(reset.height))?;
                }
                _ => {}
            }
            let shown = match &mut self.pipeline {
                Some(pipeline) => pipeline.feed(&pdu, whole, &mut self.image),
                None => Err("the graphics pipeline has not begun"),
            };
            if shown.is_err() {
                return Ok(shown);
            }
        }
        Ok(Ok(()))
    }

    fn resize_image(&mut self, width: u16, height: u16) -> Result<(), TapError> {
        self.in_a_row = 0;
        if (width, height) != self.image.size() {
            self.image = Image::new(width, height).ok_or(TapError::Size { width, height })?;
        }
        Ok(())
    }

    /// The desktop has another size from now on; the target paints it anew. One that is the same keeps the picture.
    ///
    /// # Errors
    /// When no desktop of that size can be recorded.
    pub fn resize(&mut self, width: u16, height: u16) -> Result<(), TapError> {
        self.resize_image(width, height)?;
        self.fragments = Fragments::new(self.image.area());
        self.pointers = Pointers::default();
        Ok(())
    }

    /// The picture where it changed, at most ten times a second of `now` (microseconds of a clock that does not jump back).
    pub fn frame(&mut self, now: i64) -> Option<Frame<'_>> {
        if self.shown.is_some_and(|shown| now.saturating_sub(shown) < FRAME) || !self.image.is_dirty() {
            return None;
        }
        self.shown = Some(now);
        Some(self.rest())
    }

    /// The picture with what changed since the last frame, whenever that was: for the end of a session.
    pub fn rest(&mut self) -> Frame<'_> {
        let changed = self.image.take_dirty();
        Frame { image: &self.image, changed }
    }

    /// How the pointer changed since this was last asked, in order.
    pub fn take_pointer_changes(&mut self) -> Vec<PointerChange> {
        std::mem::take(&mut self.pointer_changes)
    }

    /// The picture.
    pub fn image(&self) -> &Image {
        &self.image
    }
}

/// Drawing orders are not decoded, and the relay lets nobody announce them. An empty list of them is sent all the same.
fn no_orders(data: &[u8]) -> Result<(), Fault> {
    match data.first_chunk() {
        Some([0, 0]) | None => Ok(()),
        Some(_) => Err("it holds drawing orders"),
    }
}

/// Whether share control that could not be read is of a kind that would have changed the picture: data (7), of which update
/// (2) and pointer (27).
fn may_show(user_data: &[u8]) -> bool {
    let is_data = user_data.get(2).is_some_and(|kind| kind & 0x0f == 7);
    is_data && user_data.get(14).is_some_and(|kind| matches!(kind, 2 | 27))
}

/// Arbitrary PDUs, each behind its length (2 bytes, little-endian); for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_tap(bytes: &[u8]) {
    let Ok(mut tap) = Tap::new(Start { width: 200, height: 100, io_channel: 1003 }) else { return };
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (pdu, after) = after.split_at(after.len().min(usize::from(u16::from_le_bytes(*length))));
        rest = after;
        if tap.feed(pdu).is_err() {
            return;
        }
        tap.take_pointer_changes();
        let (width, height) = tap.image().size();
        let frame = tap.rest();
        let tiles = usize::from(width).div_ceil(64) * usize::from(height).div_ceil(64);
        assert!(frame.changed.iter().all(|tile| (*tile as usize) < tiles), "a tile that there is not");
        assert_eq!(frame.image.rgbx().len(), usize::from(width) * usize::from(height) * 4);
    }
}
