//! MCS data PDUs (T.125 `SendDataRequest` and `SendDataIndication`) with their TPKT and X.224 envelope.
//!
//! Read here and not by the library because what follows the data inside the envelope must not be overlooked: clients read
//! on to the end of the TPKT, so that a second PDU could hide behind the one that was looked at.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::rewrite::Broken;

/// `0x64`: `SendDataRequest`, from the client.
pub(crate) const REQUEST: u8 = 25 << 2;
/// `0x68`: `SendDataIndication`, from the server.
pub(crate) const INDICATION: u8 = 26 << 2;
/// Identifiers of users count from here.
const BASE: u16 = 1001;
/// The MCS user that the server itself is (MS-RDPBCGR 2.2.8.1.1.1.1).
pub(crate) const SERVER: u16 = 0x03ea;

/// One MCS data PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data<'a> {
    pub(crate) initiator: u16,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

/// The first byte of the MCS PDU in a TPKT: its kind in the upper six bits.
pub(crate) fn kind(pdu: &[u8]) -> Option<u8> {
    match pdu {
        [3, _, _, _, 2, 0xf0, 0x80, kind, ..] => Some(kind & !3),
        _ => None,
    }
}

/// A data PDU of `kind`, whose data end where the TPKT ends.
pub(crate) fn data(pdu: &[u8], kind: u8) -> Result<Data<'_>, Broken> {
    let (initiator, channel, rest) = match *pdu {
        [3, _, _, _, 2, 0xf0, 0x80, first, i1, i2, c1, c2, _, ref rest @ ..] if first & !3 == kind => {
            (u16::from_be_bytes([i1, i2]), u16::from_be_bytes([c1, c2]), rest)
        }
        _ => return Err(Broken("MCS data")),
    };
    let (len, payload) = match *rest {
        [short, ref payload @ ..] if short < 0x80 => (usize::from(short), payload),
        [high, low, ref payload @ ..] => (usize::from(u16::from_be_bytes([high & 0x7f, low])), payload),
        _ => return Err(Broken("MCS data")),
    };
    let initiator = initiator.checked_add(BASE).ok_or(Broken("MCS user"))?;
    if payload.len() == len { Ok(Data { initiator, channel, payload }) } else { Err(Broken("MCS length")) }
}

/// Writes a data PDU of `kind`.
pub(crate) fn encode(kind: u8, data: Data<'_>) -> Result<Bytes, Broken> {
    let len = data.payload.len();
    let total = len + if len < 0x80 { 14 } else { 15 };
    let (Ok(total16), Ok(len16), Some(initiator)) =
        (u16::try_from(total), u16::try_from(len), data.initiator.checked_sub(BASE))
    else {
        return Err(Broken("length of what was rewritten"));
    };
    if len > 0x7fff {
        return Err(Broken("length of what was rewritten"));
    }
    let mut out = BytesMut::with_capacity(total);
    out.put_slice(&[3, 0]);
    out.put_u16(total16);
    out.put_slice(&[2, 0xf0, 0x80, kind]);
    out.put_u16(initiator);
    out.put_u16(data.channel);
    out.put_u8(0x70);
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.put_u8(short),
        _ => out.put_u16(0x8000 | len16),
    }
    out.put_slice(data.payload);
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_hides_behind_the_data() {
        let data_in = Data { initiator: SERVER, channel: 1003, payload: &[7; 20] };
        let pdu = encode(INDICATION, data_in).unwrap();
        assert_eq!(data(&pdu, INDICATION), Ok(data_in));
        let mut longer = pdu.to_vec();
        longer.push(0);
        assert!(data(&longer, INDICATION).is_err());
        assert!(data(&pdu[..pdu.len() - 1], INDICATION).is_err());
        assert!(data(&pdu, REQUEST).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(channel: u16, initiator in 1001u16.., payload in prop::collection::vec(any::<u8>(), 0..400)) {
            let data_in = Data { initiator, channel, payload: &payload };
            let pdu = encode(REQUEST, data_in).unwrap();
            prop_assert_eq!(data(&pdu, REQUEST), Ok(data_in));
            prop_assert_eq!(crate::wire::measure(&pdu).unwrap().unwrap().1, pdu.len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            std::hint::black_box(data(&bytes, REQUEST).is_ok());
            let behind = [[3, 0, 0, 40, 2, 0xf0, 0x80, INDICATION].as_slice(), &bytes].concat();
            std::hint::black_box(data(&behind, INDICATION).is_ok());
        }
    }
}
