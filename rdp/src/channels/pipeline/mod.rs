//! The graphics pipeline (MS-RDPEGFX): a dynamic channel by which a target draws on surfaces, with codecs of its own and a
//! cache. Unpacked here and judged PDU by PDU, so that a client and the recording read the same; without H.264, which the
//! recording does not decode, and without what a client kept of other sessions.
//!
//! Invariant: a client is shown nothing that the recording's decoder refuses for its size or does not know: surfaces, cache
//! and messages are counted here, and whoever exceeds them breaks the protocol.

mod caps;
mod own;
mod pdu;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{HashMap, VecDeque};

use ironrdp_graphics::zgfx::wrap_uncompressed;

pub(super) use self::unpack::LONGEST;
use self::{
    caps::Offer,
    own::Own,
    pdu::{Asked, BROKEN, Message},
    unpack::Unpack,
};
use crate::{
    banner::Area,
    rewrite::Broken,
    wire::{put, u32_at},
};

/// The name of the channel (MS-RDPEGFX 2.1).
pub(crate) const NAME: &[u8] = b"Microsoft::Windows::RDS::Graphics";

/// Most surfaces at once; a desktop has one for each screen.
const SURFACES: usize = 256;
/// Pixels that all surfaces may have together, however small the desktop; else twice as many as it has.
const LEAST_PIXELS: usize = 4 << 20;
/// Of a small cache (3.3.1.4): slots, counted from 1, and bytes.
const SLOTS: u16 = 4096;
const CACHE: usize = 16 << 20;
/// Codecs that the recording decodes: none, RemoteFX, ClearCodec, planar, and alpha, which the screen does not show.
const CODECS: [u16; 5] = [0, 3, 8, 10, 12];
const UNCOMPRESSED: u16 = 0;
/// RemoteFX by tiles that become better.
const PROGRESSIVE: u16 = 9;
/// Frames of our own whose acknowledgement may still come.
const OWN_FRAMES: usize = 64;

const SURFACE: Broken = Broken("surface of the graphics pipeline");

/// What becomes of a message of the target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// The PDUs that go on, not packed.
    pub(crate) plain: Vec<u8>,
    /// The desktop begins anew, with this size.
    pub(crate) size: Option<(u16, u16)>,
    /// Something was left out.
    pub(crate) dropped: bool,
}

/// The channel while it is open.
pub(crate) struct Pipeline {
    unpack: Unpack,
    offer: Offer,
    /// The target has taken one of the versions: what it draws is shown.
    confirmed: bool,
    surfaces: HashMap<u16, (u16, u16)>,
    /// Bytes of what is in each slot of the cache.
    cache: HashMap<u16, usize>,
    size: Option<(u16, u16)>,
    own: Own,
    /// Frames of ours, which the target knows nothing of.
    frames: VecDeque<u32>,
    /// How many of them the client has counted.
    counted: u32,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A channel that has just been opened.
    pub(crate) fn new() -> Self {
        Self {
            unpack: Unpack::default(),
            offer: Offer::default(),
            confirmed: false,
            surfaces: HashMap::new(),
            cache: HashMap::new(),
            size: None,
            own: Own::default(),
            frames: VecDeque::new(),
            counted: 0,
        }
    }

    /// A channel on which both sides have agreed on a version, of a desktop of 200 × 100 with one surface.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn begun() -> Self {
        let mut begun = Self::new();
        let version = 0x0008_0004_u32;
        let offer = [&[1, 0], [version, 4, 0].map(u32::to_le_bytes).concat().as_slice()].concat();
        assert!(begun.person(&pdu::encode(pdu::CAPS_ADVERTISE, &offer)).is_ok());
        let (confirm, rest) = Self::beginning();
        assert!(
            begun.target(&pack(&[confirm, rest].concat())).is_ok_and(|drawn| begun.draws() && !drawn.dropped)
        );
        begun
    }

    /// What the target says to come there: the version that it takes, and its first surface.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn beginning() -> (Vec<u8>, Vec<u8>) {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let confirm = pdu::encode(pdu::CAPS_CONFIRM, &words(&[0x0008_0004, 4, 0]));
        let mut reset = words(&[200, 100, 0]);
        reset.resize(332, 0);
        let all = [
            pdu::encode(pdu::RESET_GRAPHICS, &reset),
            pdu::encode(pdu::CREATE_SURFACE, &[0, 0, 200, 0, 100, 0, 0x20]),
            pdu::encode(pdu::MAP_SURFACE_TO_OUTPUT, &[0; 12]),
        ];
        (confirm, all.concat())
    }

    /// Whether the target draws by it, and by nothing else.
    pub(crate) fn draws(&self) -> bool {
        self.confirmed
    }

    /// The size of a desktop on which something can be drawn now.
    pub(crate) fn canvas(&self) -> Option<(u16, u16)> {
        self.size.filter(|_| self.confirmed)
    }

    /// A message of the target.
    pub(crate) fn target(&mut self, message: &[u8]) -> Result<Drawn, Broken> {
        let unpacked = self.unpack.message(message)?;
        let mut drawn = Drawn::default();
        for pdu in pdu::split(&unpacked)? {
            self.target_pdu(pdu, &mut drawn)?;
        }
        Ok(drawn)
    }

    fn target_pdu(&mut self, pdu: Message<'_>, drawn: &mut Drawn) -> Result<(), Broken> {
        let asked = pdu::read(pdu).ok_or(BROKEN)?;
        if let Asked::Confirm { version } = asked {
            let body = self.offer.confirm(version).ok_or(Broken("version of the graphics pipeline"))?;
            self.begin();
            drawn.plain.extend(pdu::encode(pdu::CAPS_CONFIRM, &body));
            return Ok(());
        }
        // Windows of remote applications, and what a client has of other sessions, were not offered. Before a version is
        // confirmed a client hears nothing (3.3.5.19).
        if !self.confirmed || asked == Asked::Else {
            drawn.dropped = true;
            return Ok(());
        }
        self.judge(asked, drawn)?;
        drawn.plain.extend(pdu.whole);
        Ok(())
    }

    fn begin(&mut self) {
        self.surfaces.clear();
        self.cache.clear();
        self.frames.clear();
        self.own = Own::default();
        (self.confirmed, self.size, self.counted) = (true, None, 0);
    }

    fn judge(&mut self, asked: Asked, drawn: &mut Drawn) -> Result<(), Broken> {
        match asked {
            Asked::Pixels { surface, codec, format, rect, len } => {
                let fits = CODECS.contains(&codec)
                    && pdu::format(format).is_some()
                    && rect.is_on(self.surface(surface)?)
                    && (codec != UNCOMPRESSED || len == rect.area() * 4);
                if fits { Ok(()) } else { Err(Broken("pixels of the graphics pipeline")) }
            }
            Asked::Tiles { surface, codec } => {
                self.surface(surface)?;
                if codec == PROGRESSIVE { Ok(()) } else { Err(Broken("codec of the graphics pipeline")) }
            }
            Asked::Fill { surface } | Asked::Map { surface } => self.surface(surface).map(drop),
            Asked::Copy { from, to, rect } => {
                self.surface(to)?;
                if rect.is_on(self.surface(from)?) { Ok(()) } else { Err(SURFACE) }
            }
            Asked::Keep { surface, slot, rect } => {
                let size = self.surface(surface)?;
                self.cache.remove(&slot);
                let bytes = rect.area() * 4;
                let all = self.cache.values().sum::<usize>() + bytes;
                if bytes == 0 || !rect.is_on(size) || !(1..=SLOTS).contains(&slot) || all > CACHE {
                    return Err(Broken("cache of the graphics pipeline"));
                }
                self.cache.insert(slot, bytes);
                Ok(())
            }
            Asked::Show { slot, surface } => {
                self.surface(surface)?;
                match self.cache.contains_key(&slot) {
                    true => Ok(()),
                    false => Err(Broken("cache of the graphics pipeline")),
                }
            }
            Asked::Evict { slot } => {
                self.cache.remove(&slot);
                Ok(())
            }
            Asked::Create { surface, size, format } => self.create(surface, size, format),
            Asked::Delete { surface } => self.surfaces.remove(&surface).map(drop).ok_or(SURFACE),
            Asked::Start { frame } => {
                self.frames.retain(|own| *own != frame);
                Ok(())
            }
            Asked::Reset { size: (width, height) } => {
                let size = u16::try_from(width).ok().zip(u16::try_from(height).ok()).ok_or(SURFACE)?;
                self.surfaces.clear();
                self.own = Own::default();
                (self.size, drawn.size) = (Some(size), Some(size));
                Ok(())
            }
            Asked::ForgetTiles | Asked::End | Asked::Confirm { .. } | Asked::Else => Ok(()),
        }
    }

    fn surface(&self, surface: u16) -> Result<(u16, u16), Broken> {
        self.surfaces.get(&surface).copied().ok_or(SURFACE)
    }

    fn create(&mut self, surface: u16, size: (u16, u16), format: u8) -> Result<(), Broken> {
        let pixels = |(width, height): (u16, u16)| usize::from(width) * usize::from(height);
        let most = LEAST_PIXELS.max(2 * self.size.map_or(0, pixels));
        let all = self.surfaces.values().copied().map(pixels).sum::<usize>() + pixels(size);
        let fits = pixels(size) > 0
            && all <= most
            && self.surfaces.len() < SURFACES
            && pdu::format(format).is_some()
            && !self.own.is(surface);
        if !fits || self.surfaces.insert(surface, size).is_some() {
            return Err(SURFACE);
        }
        Ok(())
    }

    /// A message of the person, of which what is left goes on; nothing where that is empty.
    pub(crate) fn person(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut kept = Vec::new();
        for pdu in pdu::split(message)? {
            match pdu.kind {
                pdu::CAPS_ADVERTISE => {
                    let (offer, lessened) = Offer::read(pdu.body)?;
                    self.offer = offer;
                    kept.extend(lessened);
                }
                pdu::FRAME_ACKNOWLEDGE => kept.extend(self.acknowledged(pdu).ok_or(BROKEN)?),
                pdu::QOE_FRAME_ACKNOWLEDGE => {
                    let frame = (pdu.body.len() == 12).then(|| u32_at(pdu.body, 0)).flatten();
                    if !self.frames.contains(&frame.ok_or(BROKEN)?) {
                        kept.extend(pdu.whole);
                    }
                }
                // What it has of other sessions stays there: no recording holds it.
                pdu::CACHE_IMPORT_OFFER => {}
                _ => return Err(BROKEN),
            }
        }
        Ok(kept)
    }

    /// An acknowledgement as the target can understand it (2.2.2.13): of its own frames, and with their number.
    fn acknowledged(&mut self, pdu: Message<'_>) -> Option<Vec<u8>> {
        let body = <[u8; 12]>::try_from(pdu.body).ok()?;
        let (frame, all) = (u32_at(&body, 4)?, u32_at(&body, 8)?);
        if self.frames.contains(&frame) {
            self.counted = self.counted.saturating_add(1);
            return Some(Vec::new());
        }
        let mut pdu = pdu.whole.to_vec();
        put(&mut pdu, 16, &all.saturating_sub(self.counted).to_le_bytes());
        Some(pdu)
    }

    /// Draws over a part of the desktop, on a surface of our own: what the target's hold stays as it is.
    pub(crate) fn paint(&mut self, area: Area, rgb: &[u8]) -> Vec<u8> {
        let Some((plain, frame)) = self.own.paint(area, rgb, |surface| self.surfaces.contains_key(&surface))
        else {
            return Vec::new();
        };
        if self.frames.len() >= OWN_FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        plain
    }

    /// Takes the surface away, once it shows what is below it.
    pub(crate) fn clear(&mut self) -> Vec<u8> {
        self.own.clear()
    }
}

/// PDUs as a message of the channel (2.2.5): not compressed, for codecs leave nothing to gain, and because words of ours
/// would otherwise have to be in the history of what the target compressed.
pub(crate) fn pack(plain: &[u8]) -> Vec<u8> {
    wrap_uncompressed(plain)
}
