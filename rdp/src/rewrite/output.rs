//! What a target may draw (MS-RDPBCGR 2.2.9.1): bitmaps, surface bits and pointers. Drawing orders are taken out, because no
//! recording would show them, and what is seen must be what is recorded.

use bytes::Bytes;

use super::Broken;
use crate::wire::{Reader, u16_at};

/// `FASTPATH_UPDATETYPE_ORDERS`, and the slow-path type of the same.
const ORDERS: u8 = 0;

/// What became of an update PDU.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// What goes on; `None` when nothing is left.
    pub(crate) pdu: Option<Bytes>,
    /// Drawing orders were taken out.
    pub(crate) orders: bool,
    /// Something that is not known was taken out.
    pub(crate) unknown: bool,
    /// Something that draws beside the graphics pipeline was taken out.
    pub(crate) beside: bool,
}

/// What is left out of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    /// What draws, for the target draws by the graphics pipeline.
    Drawing,
    /// What draws, but for the palette: nothing is shown at the moment, and what is drawn is asked for again.
    Pixels,
}

/// A fast-path output PDU, envelope and all.
pub(crate) fn fast_path(pdu: &Bytes, without: Without) -> Result<Drawn, Broken> {
    read_fast_path(pdu, without).ok_or(Broken("fast-path output"))
}

fn read_fast_path(pdu: &Bytes, without: Without) -> Option<Drawn> {
    let mut at = Reader(pdu);
    let head = at.u8()?;
    if head & 0xc0 != 0 {
        return None;
    }
    if at.u8()? & 0x80 != 0 {
        at.u8()?;
    }
    let (mut kept, mut orders, mut unknown, mut beside) = (Vec::new(), false, false, false);
    while !at.0.is_empty() {
        let whole = at.0;
        let head = at.u8()?;
        // Two bits say that a byte of compression flags follows; compression was not negotiated.
        if head & 0xc0 != 0 {
            return None;
        }
        let len = at.u16()?;
        at.take(len.into())?;
        let update = whole.get(..3 + usize::from(len))?;
        match head & 0xf {
            ORDERS => orders = true,
            // Bitmap, palette, surface commands.
            1 | 4 if without != Without::Nothing => beside = true,
            2 if without == Without::Drawing => beside = true,
            // Bitmap, palette, synchronise, surface commands, pointers of all kinds.
            1..=6 | 8..=12 => kept.push(update),
            _ => unknown = true,
        }
    }
    let pdu = match (orders || unknown || beside, kept.is_empty()) {
        (false, _) => Some(pdu.clone()),
        (true, true) => None,
        (true, false) => Some(envelope(head, &kept.concat())?),
    };
    Some(Drawn { pdu, orders, unknown, beside })
}

fn envelope(head: u8, updates: &[u8]) -> Option<Bytes> {
    let [high, low] = u16::try_from(updates.len() + 3).ok().filter(|len| *len < 0x8000)?.to_be_bytes();
    Some([[head, high | 0x80, low].as_slice(), updates].concat().into())
}

/// Whether the body of a slow-path update is a palette (MS-RDPBCGR 2.2.9.1.1.3.1.1).
pub(crate) fn is_palette(body: &[u8]) -> bool {
    u16_at(body, 0) == Some(2)
}

/// Whether the body of a slow-path update may pass. `None` when it is cut short.
pub(crate) fn slow_path(body: &[u8]) -> Option<bool> {
    u16_at(body, 0).map(|kind| kind != u16::from(ORDERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_are_taken_out_and_the_rest_stays() {
        let bitmap = [1, 2, 0, 0xaa, 0xbb];
        let order = [0, 3, 0, 1, 2, 3];
        let pdu = Bytes::from([[0, 13].as_slice(), &bitmap, &order].concat());
        let drawn = fast_path(&pdu, Without::Nothing).unwrap();
        assert!(drawn.orders && !drawn.unknown);
        assert_eq!(drawn.pdu.unwrap(), [[0, 0x80, 8].as_slice(), &bitmap].concat());
        let pdu = Bytes::from([[0, 8].as_slice(), &order].concat());
        assert_eq!(fast_path(&pdu, Without::Nothing).unwrap().pdu, None);
        let pointer = [5, 0, 0];
        let pdu = Bytes::from([[0, 10].as_slice(), &bitmap, &pointer].concat());
        let drawn = fast_path(&pdu, Without::Drawing).unwrap();
        assert!(drawn.beside && !drawn.orders, "the graphics pipeline draws alone");
        assert_eq!(drawn.pdu.unwrap(), [[0, 0x80, 6].as_slice(), &pointer].concat());
        let palette = [2, 1, 0, 7];
        let pdu = Bytes::from([[0, 14].as_slice(), &bitmap, &palette, &pointer].concat());
        let kept = fast_path(&pdu, Without::Pixels).unwrap().pdu.unwrap();
        assert_eq!(
            kept,
            [[0, 0x80, 10].as_slice(), &palette, &pointer].concat(),
            "a palette does not come again"
        );
        let pdu = Bytes::from([[0, 7].as_slice(), &bitmap].concat());
        assert_eq!(
            fast_path(&pdu, Without::Nothing),
            Ok(Drawn { pdu: Some(pdu.clone()), orders: false, unknown: false, beside: false })
        );
    }

    #[test]
    fn compression_encryption_and_lying_lengths_are_refused() {
        assert!(fast_path(&Bytes::from_static(&[0, 8, 0x81, 0x21, 2, 0, 1, 2]), Without::Nothing).is_err());
        assert!(fast_path(&Bytes::from_static(&[0x80, 7, 1, 2, 0, 1, 2]), Without::Nothing).is_err());
        assert!(fast_path(&Bytes::from_static(&[0, 7, 1, 3, 0, 1, 2]), Without::Nothing).is_err());
    }

    proptest! {
        #[test]
        fn what_goes_on_is_accepted_again_unchanged(bytes in prop::collection::vec(any::<u8>(), 2..200)) {
            if let Ok(Drawn { pdu: Some(pdu), .. }) = fast_path(&bytes.into(), Without::Nothing) {
                prop_assert_eq!(fast_path(&pdu, Without::Nothing), Ok(Drawn { pdu: Some(pdu.clone()), orders: false, unknown: false, beside: false }));
            }
        }
    }
}
