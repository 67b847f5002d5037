//! Share control and share data PDUs (MS-RDPBCGR 2.2.8.1.1.1).

use bytes::{BufMut as _, BytesMut};

use crate::{
    rewrite::Broken,
    wire::{u16_at, u32_at},
};

/// `PDUTYPE_DEMANDACTIVEPDU`.
pub(crate) const DEMAND_ACTIVE: u16 = 1;
/// `PDUTYPE_CONFIRMACTIVEPDU`.
pub(crate) const CONFIRM_ACTIVE: u16 = 3;
/// `PDUTYPE_DEACTIVATEALLPDU`.
pub(crate) const DEACTIVATE_ALL: u16 = 6;
/// `PDUTYPE_DATAPDU`.
pub(crate) const DATA: u16 = 7;
/// `PDUTYPE_SERVER_REDIR_PKT`.
pub(crate) const SERVER_REDIRECT: u16 = 10;

/// `PDUTYPE2_UPDATE`.
pub(crate) const UPDATE: u8 = 0x02;

/// Protocol version in the upper bits of the type.
const VERSION: u16 = 0x10;
/// Share control and share data header together.
pub(crate) const DATA_HEAD: usize = 18;

/// One share control PDU, from its header on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a> {
    pub(crate) kind: u16,
    pub(crate) bytes: &'a [u8],
}

/// The share data PDU in a [`Share`] of kind [`DATA`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareData<'a> {
    pub(crate) share_id: u32,
    pub(crate) source: u16,
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

/// Whether user data on the desktop's channel begin with a share control header rather than a security header: licences
/// and share PDUs come on the same channel (MS-RDPBCGR 2.2.1.12).
pub(crate) fn is_share(payload: &[u8]) -> bool {
    u16_at(payload, 2).is_some_and(|kind| kind & 0xfff0 == VERSION)
}

/// All PDUs in the data of one MCS PDU: clients read on, so that each has to be looked at.
pub(crate) fn split(mut payload: &[u8]) -> Result<Vec<Share<'_>>, Broken> {
    let mut found = Vec::new();
    while !payload.is_empty() {
        let len = u16_at(payload, 0).ok_or(Broken("share control header"))?;
        // A flow PDU has this marker for its length; nobody sends them (MS-RDPBCGR 2.2.8.1.1.1.1).
        if len == 0x8000 {
            payload = payload.get(8..).ok_or(Broken("flow PDU"))?;
            continue;
        }
        let kind = u16_at(payload, 2).ok_or(Broken("share control header"))?;
        if len < 4 || kind & 0xfff0 != VERSION {
            return Err(Broken("share control header"));
        }
        let (bytes, rest) = payload.split_at_checked(len.into()).ok_or(Broken("share control length"))?;
        found.push(Share { kind: kind & 0xf, bytes });
        payload = rest;
    }
    Ok(found)
}

impl<'a> Share<'a> {
    /// Its share data header and body. Compressed data are refused: compression was never negotiated.
    pub(crate) fn data(&self) -> Result<ShareData<'a>, Broken> {
        let field = || -> Option<_> {
            Some((u32_at(self.bytes, 6)?, u16_at(self.bytes, 4)?, *self.bytes.get(14)?, *self.bytes.get(15)?))
        };
        let (share_id, source, kind, compressed) = field().ok_or(Broken("share data header"))?;
        if compressed & 0x20 != 0 {
            return Err(Broken("compression, which was not negotiated"));
        }
        let body = self.bytes.get(DATA_HEAD..).ok_or(Broken("share data header"))?;
        Ok(ShareData { share_id, source, kind, body })
    }
}

/// Writes a Deactivate All PDU (MS-RDPBCGR 2.2.3.1). xrdp's ends behind its header, which the browser's client refuses.
pub(crate) fn deactivate_all(share_id: u32, source: u16) -> Vec<u8> {
    const LEN: u16 = 13;
    let head = [LEN, VERSION | DEACTIVATE_ALL, source].map(u16::to_le_bytes).concat();
    // A source descriptor of one byte, which is zero.
    [head.as_slice(), &share_id.to_le_bytes(), &[1, 0, 0]].concat()
}

/// Writes a share data PDU.
pub(crate) fn encode_data(data: ShareData<'_>) -> Result<Vec<u8>, Broken> {
    let total =
        u16::try_from(DATA_HEAD + data.body.len()).map_err(|_| Broken("length of what was rewritten"))?;
    let mut out = BytesMut::with_capacity(total.into());
    out.put_u16_le(total);
    out.put_u16_le(VERSION | DATA);
    out.put_u16_le(data.source);
    out.put_u32_le(data.share_id);
    // Padding, and the low-priority stream.
    out.put_slice(&[0, 1]);
    out.put_u16_le(total);
    out.put_u8(data.kind);
    // Neither compressed nor any length of it.
    out.put_slice(&[0, 0, 0]);
    out.put_slice(data.body);
    Ok(out.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pdu_in_one_envelope_is_found() {
        let one =
            encode_data(ShareData { share_id: 7, source: 1002, kind: 0x2f, body: &[1, 2, 3, 4] }).unwrap();
        let both = [one.as_slice(), &[0, 0x80, 0, 0x41, 0, 0, 0, 0], &[4, 0, 0x1a, 0]].concat();
        let found = split(&both).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].data().unwrap().body, [1, 2, 3, 4]);
        assert_eq!(found[1].kind, SERVER_REDIRECT);
        assert!(split(&both[..both.len() - 1]).is_err(), "a length that lies");
    }

    #[test]
    fn compressed_data_are_refused() {
        let mut pdu = encode_data(ShareData { share_id: 7, source: 1002, kind: 2, body: &[0; 8] }).unwrap();
        pdu[15] = 0x21;
        assert!(split(&pdu).unwrap()[0].data().is_err());
    }
}
