//! Capability sets in Demand Active and Confirm Active (MS-RDPBCGR 2.2.1.13 and 2.2.7): what the tap cannot decode is
//! never negotiated.

use super::Broken;
use crate::wire::{Reader, put, u16_at, u32_at};

/// Most capability sets; RDP knows 30.
const MAX_SETS: u16 = 64;

/// What the target may draw with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Graphics {
    /// Bitmap updates (raw, RLE and planar) and surface bits without a codec: all without loss.
    #[default]
    Lossless,
    /// The graphics pipeline (MS-RDPEGFX) besides, without H.264: its codecs lose a little, and cost less bandwidth when much
    /// moves.
    Pipeline,
}

/// What capabilities say about a desktop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) pdu: Vec<u8>,
    pub(crate) share_id: u32,
    pub(crate) size: (u16, u16),
    /// Bits for each pixel (`preferredBitsPerPixel`).
    pub(crate) depth: u16,
    /// Whoever sends it draws again what it is asked for (`refreshRectSupport`).
    pub(crate) refreshes: bool,
}

/// The client's Confirm Active for the target.
pub(crate) fn confirm_active(pdu: &[u8]) -> Result<Rewritten, Broken> {
    // Share control header, share identifier, originator; then lengths, name, sets.
    rewrite(pdu, 12, confirmed).ok_or(Broken("confirm active"))
}

/// The target's Demand Active for the client.
pub(crate) fn demand_active(pdu: &[u8]) -> Result<Rewritten, Broken> {
    rewrite(pdu, 10, demanded).ok_or(Broken("demand active"))
}

fn rewrite(pdu: &[u8], head: usize, keep: impl Fn(u16, &mut [u8]) -> bool) -> Option<Rewritten> {
    let share_id = u32_at(pdu, 6)?;
    let mut at = Reader(pdu.get(head..)?);
    let (name_len, combined) = (at.u16()?, at.u16()?);
    let name = at.take(name_len.into())?;
    let mut sets = Reader(at.take(combined.into())?);
    let count = sets.u16()?;
    sets.u16()?;
    if count > MAX_SETS {
        return None;
    }
    let (mut kept, mut number, mut size, mut depth, mut refreshes) = (Vec::new(), 0_u16, (0, 0), 0, false);
    for _ in 0..count {
        let (kind, len) = (u16_at(sets.0, 0)?, u16_at(sets.0, 2)?);
        let mut set = sets.take(usize::from(len).max(4))?.to_vec();
        if kind == BITMAP {
            size = (u16_at(&set, 12)?, u16_at(&set, 14)?);
            depth = u16_at(&set, 4)?;
        }
        if kind == GENERAL {
            refreshes = set.get(22) == Some(&1);
        }
        if keep(kind, &mut set) {
            kept.extend(set);
            number += 1;
        }
    }
    let mut out = pdu.get(..head)?.to_vec();
    out.extend(name_len.to_le_bytes());
    out.extend(u16::try_from(kept.len() + 4).ok()?.to_le_bytes());
    out.extend(name);
    out.extend([number.to_le_bytes(), [0, 0]].concat());
    out.extend(kept);
    // What follows the sets: the session identifier of a Demand Active, which clients ignore, and nothing else.
    out.extend(at.0.get(..4).unwrap_or_default());
    let total = u16::try_from(out.len()).ok()?;
    put(&mut out, 0, &total.to_le_bytes());
    Some(Rewritten { pdu: out, share_id, size, depth, refreshes })
}

const GENERAL: u16 = 1;
const BITMAP: u16 = 2;
const ORDER: u16 = 3;
const BITMAP_CACHE: u16 = 4;
const GLYPH_CACHE: u16 = 16;
const OFFSCREEN_CACHE: u16 = 17;
const VIRTUAL_CHANNEL: u16 = 20;
const SURFACE_COMMANDS: u16 = 28;
const BITMAP_CODECS: u16 = 29;
const FRAME_ACKNOWLEDGE: u16 = 30;

/// Sets that say nothing about drawing or channels that would have to be changed: control, window activation, pointer,
/// share, sound (a beep), input, font, brush, fragments, large pointers.
const PLAIN: [u16; 10] = [5, 7, 8, 9, 12, 13, 14, 15, 26, 27];

/// What the client confirms. Cache sets of later revisions, NineGrid, GDI+, remote applications, windows and desktop
/// composition are left out.
fn confirmed(kind: u16, set: &mut [u8]) -> bool {
    match kind {
        GENERAL => general(set),
        BITMAP => {
            // Planar without chroma subsampling and without reduced fidelity: what is drawn is what was there.
            if let Some(flags) = set.get_mut(23) {
                *flags &= !0x6;
            }
            true
        }
        ORDER => orders(set),
        BITMAP_CACHE => zero(set, 28),
        GLYPH_CACHE => zero(set, 48),
        OFFSCREEN_CACHE => zero(set, 4),
        VIRTUAL_CHANNEL => channel_compression(set),
        // Without a codec they carry pixels as they are; some targets draw in no other way.
        SURFACE_COMMANDS => true,
        kind => PLAIN.contains(&kind),
    }
}

/// What the target demands: all that it knows, but no compression of channels, no cookie to reconnect with, no remote
/// applications.
fn demanded(kind: u16, set: &mut [u8]) -> bool {
    match kind {
        GENERAL => general(set),
        VIRTUAL_CHANNEL => channel_compression(set),
        BITMAP | ORDER | BITMAP_CACHE | GLYPH_CACHE | OFFSCREEN_CACHE | SURFACE_COMMANDS | BITMAP_CODECS
        | FRAME_ACKNOWLEDGE | 18 => true,
        kind => PLAIN.contains(&kind),
    }
}

/// No bulk compression, and no automatic reconnection.
fn general(set: &mut [u8]) -> bool {
    put(set, 12, &[0, 0]);
    if let Some(flags) = set.get_mut(14) {
        *flags &= !0x8;
    }
    zero_range(set, 16, 22);
    true
}

/// "Negotiated, and none": without the flag, some targets take a client for a broken one.
fn orders(set: &mut [u8]) -> bool {
    put(set, 34, &0x000a_u16.to_le_bytes());
    zero_range(set, 36, 68);
    zero_range(set, 70, 72);
    zero_range(set, 76, 80);
    true
}

fn channel_compression(set: &mut [u8]) -> bool {
    zero_range(set, 4, 8);
    true
}

fn zero(set: &mut [u8], from: usize) -> bool {
    let end = set.len();
    zero_range(set, from, end);
    true
}

fn zero_range(set: &mut [u8], from: usize, to: usize) {
    if let Some(range) = set.get_mut(from..to) {
        range.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(kind: u16, len: usize, fill: u8) -> Vec<u8> {
        let mut set = vec![fill; len];
        put(&mut set, 0, &kind.to_le_bytes());
        put(&mut set, 2, &u16::try_from(len).unwrap().to_le_bytes());
        set
    }

    /// Every set that RDP knows, full of bits.
    fn all() -> Vec<Vec<u8>> {
        let len = |kind| match kind {
            1 => 24,
            2 => 28,
            3 => 88,
            4 | 19 => 40,
            13 => 88,
            16 => 52,
            _ => 12,
        };
        (1..=30).map(|kind| set(kind, len(kind), 0xff)).collect()
    }

    fn confirm(sets: &[Vec<u8>]) -> Vec<u8> {
        let sets_len = sets.iter().map(Vec::len).sum::<usize>() + 4;
        let mut pdu = vec![0, 0, 0x13, 0, 0xef, 3, 1, 0, 2, 0, 0xea, 3, 6, 0];
        pdu.extend(u16::try_from(sets_len).unwrap().to_le_bytes());
        pdu.extend(b"MSTSC\0");
        pdu.extend([u8::try_from(sets.len()).unwrap(), 0, 0, 0]);
        pdu.extend(sets.concat());
        let total = u16::try_from(pdu.len()).unwrap();
        put(&mut pdu, 0, &total.to_le_bytes());
        pdu
    }

    fn kinds(pdu: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut at = Reader(&pdu[22..]);
        let count = at.u16().unwrap();
        at.u16();
        let mut sets = |_: u16| {
            let len = usize::from(u16_at(at.0, 2).unwrap());
            let set = at.take(len).unwrap().to_vec();
            (u16_at(&set, 0).unwrap(), set)
        };
        let found = (0..count).map(&mut sets).collect();
        assert!(at.0.is_empty(), "the lengths are right");
        found
    }

    #[test]
    fn nothing_is_confirmed_that_the_tap_cannot_decode() {
        let rewritten = confirm_active(&confirm(&all())).unwrap();
        assert_eq!((rewritten.share_id, rewritten.size), (0x0002_0001, (0xffff, 0xffff)));
        assert_eq!(usize::from(u16_at(&rewritten.pdu, 0).unwrap()), rewritten.pdu.len());
        let kept = kinds(&rewritten.pdu);
        let numbers: Vec<u16> = kept.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14, 15, 16, 17, 20, 26, 27, 28]);
        let of = |kind: u16| kept.iter().find(|(number, _)| *number == kind).unwrap().1.clone();
        assert_eq!(of(3)[34..68].iter().map(|byte| u32::from(*byte)).sum::<u32>(), 0xa, "no drawing order");
        assert!(of(4)[28..].iter().all(|byte| *byte == 0), "no bitmap cache");
        assert_eq!(of(16)[48..50], [0, 0], "no glyph cache");
        assert!(of(17)[4..].iter().all(|byte| *byte == 0), "no surface off the screen");
        assert_eq!(of(20)[4..8], [0; 4], "no compression of channels");
        assert_eq!(of(2)[23] & 0x6, 0, "nothing is lost in colours");
        assert_eq!((of(1)[12], of(1)[14] & 8), (0, 0), "no bulk compression, no reconnection");
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let good = confirm(&[set(2, 28, 1)]);
        assert!(confirm_active(&good).is_ok());
        for at in [12, 14, 22, 28] {
            let mut bad = good.clone();
            put(&mut bad, at, &[0xff, 0xff]);
            assert!(confirm_active(&bad).is_err(), "{at}");
        }
        assert!(confirm_active(&confirm(&vec![set(2, 28, 1); 65])).is_err(), "too many");
        assert!(confirm_active(&confirm(&[set(2, 8, 1)])).is_err(), "a set that is too short");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..300, value: u8) {
            drop(confirm_active(&bytes));
            drop(demand_active(&bytes));
            let mut pdu = confirm(&all());
            put(&mut pdu, at, &[value]);
            drop(confirm_active(&pdu));
            drop(demand_active(&pdu));
        }
    }
}
