//! The graphics pipeline (MS-RDPEGFX): a dynamic channel by which a target draws on surfaces, with codecs of its own and a
//! cache. Unpacked here and judged PDU by PDU, so that a client and the recording read the same; without H.264, which the
//! recording does not decode, and without what a client kept of other sessions.
//!
//! Invariant: a client is shown nothing that the recording's decoder refuses for its size or does not know: surfaces, cache,
//! work and messages are counted here, and whoever exceeds them breaks the protocol.
//! Invariant: where clients read the same PDUs in different ways, they are not let through, or made to say one thing: drawing is
//! in frames, places do not overlap, surfaces begin black and are gone when a client may think so.

mod caps;
mod codecs;
#[cfg(test)]
pub(crate) mod made;
mod own;
mod pdu;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use ironrdp_graphics::zgfx::wrap_uncompressed;

pub(super) use self::unpack::LONGEST;
use self::{
    caps::Offer,
    codecs::Clear,
    own::{Own, blacken, delete, show},
    pdu::{Asked, BROKEN, Message, Rect, words},
    unpack::Unpack,
};
use crate::{banner::Area, rewrite::Broken, wire::u32_at};

/// The name of the channel (MS-RDPEGFX 2.1).
pub(crate) const NAME: &[u8] = b"Microsoft::Windows::RDS::Graphics";

/// Longest message of a client: acknowledgements, and a list of what it kept of other sessions, which is left out.
pub(super) const LONGEST_OF_PERSON: usize = 128 << 10;

/// Most surfaces at once; a desktop has one for each screen.
const SURFACES: usize = 256;
/// The longest side of a desktop; the recorder takes no more.
const SIDE: u32 = 8192;
/// Pixels that all surfaces may have together, however small the desktop; else twice as many as it has.
const LEAST_PIXELS: usize = 4 << 20;
/// A message may draw so many times as many.
const TIMES: usize = 16;
/// Of a small cache (3.3.1.4): slots, counted from 1, and bytes.
const SLOTS: u16 = 4096;
const CACHE: usize = 16 << 20;
/// Codecs that the recording decodes: none, RemoteFX, ClearCodec, planar, and alpha, which the screen does not show.
const UNCOMPRESSED: u16 = 0;
const REMOTE_FX: u16 = 3;
const CLEAR_CODEC: u16 = 8;
const PLANAR: u16 = 10;
const ALPHA: u16 = 12;
/// RemoteFX by tiles that become better.
const PROGRESSIVE: u16 = 9;
const TILE: usize = 64 * 64;
/// Frames of our own whose acknowledgement may still come, and of the target.
const OWN_FRAMES: usize = 64;
const FRAMES: usize = 1024;
/// Most frames of ours that one message of the target makes necessary.
const OWN_FRAMES_OF_A_MESSAGE: usize = 2 * SURFACES;
/// `SUSPEND_FRAME_ACKNOWLEDGEMENT` (2.2.2.13).
const SUSPEND: u32 = 0xffff_ffff;

const SURFACE: Broken = Broken("surface of the graphics pipeline");
const IN_CACHE: Broken = Broken("cache of the graphics pipeline");
const PIXELS: Broken = Broken("pixels of the graphics pipeline");
const FRAME: Broken = Broken("frame of the graphics pipeline");

/// What becomes of a message of the target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// PDUs for the client alone, which come first.
    pub(crate) ours: Vec<u8>,
    /// The PDUs that go on, not packed.
    pub(crate) plain: Vec<u8>,
    /// The desktop begins anew, with this size.
    pub(crate) size: Option<(u16, u16)>,
    /// Something was left out.
    pub(crate) dropped: bool,
}

/// A surface of the target.
#[derive(Debug)]
struct Surface {
    size: (u16, u16),
    place: Option<(u32, u32)>,
    /// Tiles of it that have been drawn; in which frame the last were, by its number and in the order of all.
    tiles: HashSet<(u16, u16)>,
    tiled: Option<(u32, u64)>,
}

impl Surface {
    fn all(&self) -> Rect {
        Rect::new([0, 0, self.size.0, self.size.1])
    }
}

/// The channel while it is open.
pub(crate) struct Pipeline {
    unpack: Unpack,
    offer: Offer,
    /// The target has taken one of the versions: what it draws is shown.
    confirmed: bool,
    /// It has once, so that it draws by nothing else.
    agreed: bool,
    surfaces: BTreeMap<u16, Surface>,
    /// Pixels of all of them.
    pixels: usize,
    /// The size of what is in each slot of the cache, and the bytes of all.
    cache: HashMap<u16, (u16, u16)>,
    cached: usize,
    size: Option<(u16, u16)>,
    /// The frame that has begun, how many have, and those that the client may acknowledge, each with how many frames of ours were
    /// before it.
    frame: Option<u32>,
    serial: u64,
    started: VecDeque<(u32, u32)>,
    clear: Clear,
    /// Pixels that a message draws, and frames of ours that it makes.
    drawn: usize,
    framed: usize,
    own: Own,
    /// Frames of ours, which the target knows nothing of, and how many there have been.
    frames: VecDeque<u32>,
    ours: u32,
    /// The client has said with a frame of ours that it acknowledges no more.
    silent: bool,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A channel that has just been opened, for the first time or `again`.
    pub(crate) fn new(again: bool) -> Self {
        Self {
            clear: Clear { due: None, must_reset: again },
            unpack: Unpack::default(),
            offer: Offer::default(),
            confirmed: false,
            agreed: false,
            surfaces: BTreeMap::new(),
            pixels: 0,
            cache: HashMap::new(),
            cached: 0,
            size: None,
            frame: None,
            serial: 0,
            started: VecDeque::new(),
            drawn: 0,
            framed: 0,
            own: Own::default(),
            frames: VecDeque::new(),
            ours: 0,
            silent: false,
        }
    }

    /// A channel on which both sides have agreed on a version, of a desktop of 200 × 100 with one surface.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn begun() -> Self {
        let mut begun = Self::new(false);
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
        self.agreed
    }

    /// The size of a desktop on which something can be drawn now.
    pub(crate) fn canvas(&self) -> Option<(u16, u16)> {
        self.size.filter(|_| self.confirmed)
    }

    /// A part of a message of the target.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), Broken> {
        // Nobody has said yet what they can draw.
        if !self.agreed && self.offer.is_empty() {
            return Err(Broken("graphics pipeline, of which the client has not spoken"));
        }
        self.unpack.push(part)
    }

    /// The message is whole.
    pub(crate) fn finish(&mut self) -> Result<Drawn, Broken> {
        let unpacked = self.unpack.finish()?;
        let mut drawn = Drawn::default();
        (self.drawn, self.framed) = (0, 0);
        for pdu in pdu::split(&unpacked) {
            self.target_pdu(pdu?, &mut drawn)?;
        }
        Ok(drawn)
    }

    /// A whole message.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn target(&mut self, message: &[u8]) -> Result<Drawn, Broken> {
        self.push(message)?;
        self.finish()
    }

    fn target_pdu(&mut self, pdu: Message<'_>, drawn: &mut Drawn) -> Result<(), Broken> {
        let asked = pdu::read(pdu).ok_or(BROKEN)?;
        if let Asked::Confirm { version } = asked {
            let offer = std::mem::take(&mut self.offer);
            let body = offer.confirm(version).ok_or(Broken("version of the graphics pipeline"))?;
            (self.confirmed, self.agreed) = (true, true);
            drawn.plain.extend(pdu::encode(pdu::CAPS_CONFIRM, &body));
            return Ok(());
        }
        // Windows of remote applications, and what a client has of other sessions, were not offered. Before a version is
        // confirmed a client hears nothing (3.3.5.19).
        if !self.confirmed || asked == Asked::Else {
            drawn.dropped = true;
            return Ok(());
        }
        // Gone already, with a reset.
        if let Asked::Delete { surface } = asked
            && !self.surfaces.contains_key(&surface)
        {
            return Ok(());
        }
        if let Asked::Reset { size } = asked {
            self.reset(size, drawn)?;
        }
        // Some clients leave what was to be seen of it, and some do not.
        if let Asked::Delete { surface } = asked
            && self.surface(surface)?.place.is_some()
        {
            let black = blacken(surface, self.surface(surface)?.size);
            drawn.plain.extend(self.in_a_frame(black));
        }
        self.judge(asked)?;
        drawn.plain.extend(pdu.whole);
        // What clients make of these is not the same; so it is said.
        let more = match asked {
            Asked::Create { surface, size, .. } => blacken(surface, size),
            Asked::Map { surface, .. } => show(surface, self.surface(surface)?.size),
            _ => return Ok(()),
        };
        drawn.plain.extend(self.in_a_frame(more));
        if self.framed > OWN_FRAMES_OF_A_MESSAGE { Err(FRAME) } else { Ok(()) }
    }

    /// No surface outlives it, whatever a client thinks (2.2.2.14).
    fn reset(&mut self, (width, height): (u32, u32), drawn: &mut Drawn) -> Result<(), Broken> {
        let side = |pixels: u32| u16::try_from(pixels).ok().filter(|_| (1..=SIDE).contains(&pixels));
        let size = side(width).zip(side(height)).ok_or(Broken("size of the graphics pipeline"))?;
        if self.frame.is_some() {
            return Err(FRAME);
        }
        drawn.ours.extend(self.own.clear());
        drawn.plain.extend(self.surfaces.keys().flat_map(|surface| delete(*surface)));
        self.surfaces.clear();
        self.pixels = 0;
        // Decoders begin to count anew.
        self.clear.due = None;
        (self.size, drawn.size) = (Some(size), Some(size));
        Ok(())
    }

    /// Pixels that may be there, and drawn with one message.
    fn most(&self) -> usize {
        let desktop = self.size.map_or(0, |(width, height)| usize::from(width) * usize::from(height));
        LEAST_PIXELS.max(2 * desktop)
    }

    fn draw(&mut self, pixels: usize) -> Result<(), Broken> {
        if self.frame.is_none() {
            return Err(FRAME);
        }
        self.work(pixels)
    }

    fn work(&mut self, pixels: usize) -> Result<(), Broken> {
        self.drawn = self.drawn.saturating_add(pixels);
        if self.drawn <= TIMES * self.most() { Ok(()) } else { Err(Broken("work of the graphics pipeline")) }
    }

    fn judge(&mut self, asked: Asked<'_>) -> Result<(), Broken> {
        match asked {
            Asked::Pixels { surface, codec, format, rect, data } => {
                if pdu::format(format).is_none() || !rect.is_on(self.surface(surface)?.size) {
                    return Err(PIXELS);
                }
                self.draw(rect.area())?;
                match codec {
                    UNCOMPRESSED if data.len() == rect.area() * 4 => Ok(()),
                    REMOTE_FX => codecs::remote_fx(data, rect.size()),
                    CLEAR_CODEC => codecs::clear_codec(data, rect.area(), &mut self.clear),
                    PLANAR | ALPHA => Ok(()),
                    _ => Err(PIXELS),
                }
            }
            Asked::Tiles { surface, codec, data } => {
                let tiled = self.surfaces.get_mut(&surface).ok_or(SURFACE)?;
                let frame = self.frame.map(|frame| (frame, self.serial)).ok_or(FRAME)?;
                // Another frame of the same number is the same one to some clients, whose tiles may be shown again.
                if codec != PROGRESSIVE
                    || tiled.tiled.is_some_and(|last| last.0 == frame.0 && last.1 != frame.1)
                {
                    return Err(PIXELS);
                }
                tiled.tiled = Some(frame);
                let tiles = codecs::progressive(data, tiled.size, &mut tiled.tiles)?;
                self.draw(tiles * TILE)
            }
            Asked::Fill { surface, rects } => {
                let size = self.surface(surface)?.size;
                words(rects)
                    .map(Rect::new)
                    .try_for_each(|rect| if rect.is_on(size) { self.draw(rect.area()) } else { Err(SURFACE) })
            }
            Asked::Copy { from, to, rect, points } => {
                let copied = self.surface(from)?;
                // Some clients copy what the copy before has left there.
                let last = (points.len() / 4).saturating_sub(1);
                let puts = |(n, at): (usize, [u16; 2])| Some((n, Rect::at(at, rect.size())?));
                let again = from == to
                    && words(points)
                        .enumerate()
                        .filter_map(puts)
                        .any(|(n, put)| n < last && put.touches(rect));
                if !rect.is_on(copied.size) || again {
                    return Err(SURFACE);
                }
                self.put(to, rect.size(), points)
            }
            Asked::Keep { surface, slot, rect } => {
                let fits = rect.area() > 0 && rect.is_on(self.surface(surface)?.size);
                self.evict(slot);
                let all = self.cached + rect.area() * 4;
                if !fits || !(1..=SLOTS).contains(&slot) || all > CACHE {
                    return Err(IN_CACHE);
                }
                self.cache.insert(slot, rect.size());
                self.cached = all;
                self.work(rect.area())
            }
            Asked::Show { slot, surface, points } => {
                let size = *self.cache.get(&slot).ok_or(IN_CACHE)?;
                self.put(surface, size, points)
            }
            Asked::Evict { slot } => {
                self.evict(slot);
                Ok(())
            }
            Asked::Create { surface, size, format } => self.create(surface, size, format),
            Asked::Delete { surface } => {
                if let Some(gone) = self.surfaces.remove(&surface) {
                    self.pixels -= gone.all().area();
                }
                Ok(())
            }
            Asked::Map { surface, place } => self.place(surface, place),
            Asked::Start { frame } => {
                if self.frame.is_some() {
                    return Err(FRAME);
                }
                self.frames.retain(|own| *own != frame);
                self.frame = Some(frame);
                self.serial = self.serial.wrapping_add(1);
                if self.started.len() >= FRAMES {
                    self.started.pop_front();
                }
                self.started.push_back((frame, self.ours));
                Ok(())
            }
            Asked::End { frame } => {
                if self.frame.take() == Some(frame) {
                    Ok(())
                } else {
                    Err(FRAME)
                }
            }
            Asked::ForgetTiles | Asked::Reset { .. } | Asked::Confirm { .. } | Asked::Else => Ok(()),
        }
    }

    fn surface(&self, surface: u16) -> Result<&Surface, Broken> {
        self.surfaces.get(&surface).ok_or(SURFACE)
    }

    /// Something of that size at these points of a surface, and wholly on it.
    fn put(&mut self, surface: u16, size: (u16, u16), points: &[u8]) -> Result<(), Broken> {
        let on = self.surface(surface)?.size;
        words(points).try_for_each(|at| match Rect::at(at, size).filter(|put| put.is_on(on)) {
            Some(put) => self.draw(put.area()),
            None => Err(SURFACE),
        })
    }

    fn evict(&mut self, slot: u16) {
        if let Some((width, height)) = self.cache.remove(&slot) {
            self.cached -= usize::from(width) * usize::from(height) * 4;
        }
    }

    fn create(&mut self, surface: u16, size: (u16, u16), format: u8) -> Result<(), Broken> {
        let created = Surface { size, place: None, tiles: HashSet::new(), tiled: None };
        let pixels = self.pixels + created.all().area();
        let fits = created.all().area() > 0
            && pixels <= self.most()
            && self.surfaces.len() < SURFACES
            && pdu::format(format).is_some()
            && !self.own.is(surface)
            && !self.surfaces.contains_key(&surface);
        if !fits {
            return Err(SURFACE);
        }
        let area = created.all().area();
        self.surfaces.insert(surface, created);
        self.pixels = pixels;
        self.work(area)
    }

    /// Each has a place of its own: which of two is in front, clients do not agree on.
    fn place(&mut self, surface: u16, (x, y): (u32, u32)) -> Result<(), Broken> {
        let (width, height) = self.surface(surface)?.size;
        let beside = |at: u32, side: u16, other: u32, other_side: u16| {
            at >= other.saturating_add(other_side.into()) || other >= at.saturating_add(side.into())
        };
        let alone = self.surfaces.iter().filter(|(other, _)| **other != surface).all(|(_, other)| {
            other.place.is_none_or(|(left, top)| {
                beside(x, width, left, other.size.0) || beside(y, height, top, other.size.1)
            })
        });
        let area = self.surface(surface)?.all().area();
        match self.surfaces.get_mut(&surface) {
            // What was to be seen at another place would stay there at some clients.
            Some(placed) if alone && placed.place.is_none_or(|place| place == (x, y)) => {
                placed.place = Some((x, y));
                self.work(area)
            }
            _ => Err(SURFACE),
        }
    }

    /// A message of the person, of which what is left goes on; nothing where that is empty.
    pub(crate) fn person(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut kept = Vec::new();
        for pdu in pdu::split(message) {
            let pdu = pdu?;
            match pdu.kind {
                // Once more: a client that begins anew (3.3.5.19), and hears nothing until the target has, too.
                pdu::CAPS_ADVERTISE if self.offer.is_empty() => {
                    let (offer, lessened) = Offer::read(pdu.body)?;
                    self.anew();
                    self.offer = offer;
                    kept.extend(lessened);
                }
                pdu::FRAME_ACKNOWLEDGE => kept.extend(self.acknowledged(pdu).ok_or(BROKEN)?),
                pdu::QOE_FRAME_ACKNOWLEDGE => {
                    let frame = (pdu.body.len() == 12).then(|| u32_at(pdu.body, 0)).flatten();
                    let frame = frame.ok_or(BROKEN)?;
                    if self.started.iter().any(|(started, _)| *started == frame) {
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

    fn anew(&mut self) {
        self.surfaces.clear();
        self.pixels = 0;
        self.cache.clear();
        self.cached = 0;
        self.started.clear();
        self.frames.clear();
        self.own = Own::default();
        self.clear.due = None;
        (self.confirmed, self.frame, self.ours, self.silent) = (false, None, 0, false);
    }

    /// An acknowledgement as the target can understand it (2.2.2.13): of its own frames, and with their number.
    fn acknowledged(&mut self, pdu: Message<'_>) -> Option<Vec<u8>> {
        let body = <[u8; 12]>::try_from(pdu.body).ok()?;
        let (depth, frame, all) = (u32_at(&body, 0)?, u32_at(&body, 4)?, u32_at(&body, 8)?);
        if self.frames.contains(&frame) {
            self.silent |= depth == SUSPEND;
            return Some(Vec::new());
        }
        let Some((_, ours)) = self.started.iter().rev().find(|(started, _)| *started == frame) else {
            return Some(Vec::new());
        };
        Some(pdu::encode(
            pdu::FRAME_ACKNOWLEDGE,
            &[depth, frame, all.saturating_sub(*ours)].map(u32::to_le_bytes).concat(),
        ))
    }

    /// That the client acknowledges no more, for a target that has just been told of none.
    pub(crate) fn silence(&mut self) -> Option<Vec<u8>> {
        let (frame, _) = self.started.back().filter(|_| self.silent && self.frame.is_none())?;
        self.silent = false;
        Some(pdu::encode(pdu::FRAME_ACKNOWLEDGE, &[SUSPEND, *frame, 1].map(u32::to_le_bytes).concat()))
    }

    /// What makes a client forget all of it, before the target closes the channel: also what was to be seen of it.
    pub(crate) fn forget(&mut self) -> Vec<u8> {
        let placed = self.surfaces.iter().filter(|(_, surface)| surface.place.is_some());
        let black: Vec<u8> = placed.flat_map(|(id, surface)| blacken(*id, surface.size)).collect();
        let black = if black.is_empty() { black } else { self.in_a_frame(black) };
        let slots = self.cache.keys().map(|slot| pdu::encode(pdu::EVICT_CACHE_ENTRY, &slot.to_le_bytes()));
        let surfaces = self.surfaces.keys().map(|surface| delete(*surface));
        let all = [self.own.clear(), black].into_iter().chain(surfaces).chain(slots).flatten().collect();
        self.anew();
        all
    }

    /// What the gateway draws: with the target's frame if there is one, else in one of its own.
    fn in_a_frame(&mut self, drawn: Vec<u8>) -> Vec<u8> {
        if self.frame.is_some() {
            return drawn;
        }
        let (framed, frame) = self.own.frame(&drawn);
        if self.frames.len() >= OWN_FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        self.ours = self.ours.wrapping_add(1);
        self.framed += 1;
        framed
    }

    /// Draws over a part of the desktop, on a surface of our own: what the target's hold stays as it is.
    pub(crate) fn paint(&mut self, area: Area, rgb: &[u8]) -> Vec<u8> {
        let painted = self.own.paint(area, rgb, |surface| self.surfaces.contains_key(&surface));
        painted.map(|painted| self.in_a_frame(painted)).unwrap_or_default()
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
