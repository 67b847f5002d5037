//! Where one PDU ends and the next begins, and a connection read PDU by PDU.
//!
//! Two forms share a connection (MS-RDPBCGR 5.3.8 and 2.2.9.1.2): TPKT (RFC 1006 section 6), whose first byte is 3, and
//! fast-path, whose two lowest bits are 0. Both carry a length of at most 16 bits, which is all that bounds a PDU and
//! all that is kept of an unfinished one.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

/// Bytes asked of a socket at once.
const READ: usize = 32 * 1024;

/// What went wrong with a connection as such.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what is no RDP. Names the part; carries nothing of the bytes.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// The two forms of a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// TPKT around X.224, usually around MCS.
    Tpkt,
    /// Fast-path input or output.
    FastPath,
}

/// One whole PDU with its envelope.
#[derive(Debug, Clone)]
pub(crate) struct Pdu {
    pub(crate) form: Form,
    pub(crate) bytes: Bytes,
}

/// The form and length of the PDU at the start of `bytes`; `None` when its head is not there yet.
pub(crate) fn measure(bytes: &[u8]) -> Result<Option<(Form, usize)>, WireError> {
    match *bytes {
        [3, _, high, low, ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len < 7 { Err(WireError::Malformed("TPKT length")) } else { Ok(Some((Form::Tpkt, len))) }
        }
        [3, ..] | [] => Ok(None),
        [first, ..] if first & 3 != 0 => Err(WireError::Malformed("first byte of a PDU")),
        [_, length, ..] if length & 0x80 == 0 => fast_path(usize::from(length), 2),
        [_, high, low, ..] => fast_path(usize::from(u16::from_be_bytes([high & 0x7f, low])), 3),
        _ => Ok(None),
    }
}

fn fast_path(len: usize, head: usize) -> Result<Option<(Form, usize)>, WireError> {
    if len <= head { Err(WireError::Malformed("fast-path length")) } else { Ok(Some((Form::FastPath, len))) }
}

/// Takes the PDU at the start of `buffer`, when it is whole.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Pdu>, WireError> {
    match measure(buffer)? {
        Some((form, len)) if buffer.len() >= len => {
            Ok(Some(Pdu { form, bytes: buffer.split_to(len).freeze() }))
        }
        _ => Ok(None),
    }
}

/// A connection and what was read from it beyond the last PDU.
#[derive(Debug)]
pub(crate) struct Leg<S> {
    pub(crate) stream: S,
    pub(crate) inbound: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, inbound: BytesMut::new() }
    }

    /// The stream alone. What a peer sent too early, before it may know that it speaks to the next layer, is an
    /// injection (clear text that TLS would take for its own), so that there must be nothing.
    pub(crate) fn into_stream(self) -> Result<S, WireError> {
        if self.inbound.is_empty() { Ok(self.stream) } else { Err(WireError::Malformed("bytes before TLS")) }
    }

    /// The next PDU of at most `limit` bytes.
    pub(crate) async fn pdu(&mut self, limit: usize) -> Result<Pdu, WireError> {
        loop {
            if measure(&self.inbound)?.is_some_and(|(_, len)| len > limit) {
                return Err(WireError::Malformed("length of a PDU at this point"));
            }
            if let Some(pdu) = take(&mut self.inbound)? {
                return Ok(pdu);
            }
            self.fill().await?;
        }
    }

    /// One DER value, as CredSSP frames its messages (MS-CSSP 2.2.1), of at most `limit` bytes.
    pub(crate) async fn der(&mut self, limit: usize) -> Result<Bytes, WireError> {
        loop {
            match measure_der(&self.inbound)? {
                Some(len) if len > limit => return Err(WireError::Malformed("length of a CredSSP message")),
                Some(len) if self.inbound.len() >= len => return Ok(self.inbound.split_to(len).freeze()),
                _ => self.fill().await?,
            }
        }
    }

    /// Exactly four bytes: the early user authorisation result (MS-RDPBCGR 2.2.10.2).
    pub(crate) async fn word(&mut self) -> Result<u32, WireError> {
        while self.inbound.len() < 4 {
            self.fill().await?;
        }
        Ok(self.inbound.get_u32_le())
    }

    /// The next TPKT of at most `limit` bytes, in a buffer of its own that is wiped: it may hold a secret. Nothing behind it
    /// is read.
    pub(crate) async fn wiped(&mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
        let mut head = [0; 4];
        self.exact(&mut head).await?;
        let len = match measure(&head)? {
            Some((Form::Tpkt, len)) if len <= limit => len,
            _ => return Err(WireError::Malformed("PDU at this point")),
        };
        let mut pdu = Zeroizing::new(vec![0; len]);
        let (start, rest) = pdu.split_at_mut(head.len());
        start.copy_from_slice(&head);
        self.exact(rest).await?;
        Ok(pdu)
    }

    async fn exact(&mut self, into: &mut [u8]) -> Result<(), WireError> {
        let (head, rest) = into.split_at_mut(into.len().min(self.inbound.len()));
        self.inbound.copy_to_slice(head);
        match self.stream.read_exact(rest).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(WireError::Closed),
            read => Ok(read.map(drop)?),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads once. Nothing is lost when the future is dropped.
    pub(crate) async fn fill(&mut self) -> Result<(), WireError> {
        fill(&mut self.stream, &mut self.inbound).await
    }
}

/// Reads once into `buffer`. Nothing is lost when the future is dropped.
pub(crate) async fn fill<R: AsyncRead + Unpin>(
    stream: &mut R,
    buffer: &mut BytesMut,
) -> Result<(), WireError> {
    buffer.reserve(READ);
    match stream.read_buf(buffer).await? {
        0 => Err(WireError::Closed),
        _ => Ok(()),
    }
}

/// The length of the DER sequence at the start of `bytes`, with its head.
fn measure_der(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    match *bytes {
        [0x30, short, ..] if short < 0x80 => Ok(Some(2 + usize::from(short))),
        [0x30, 0x81, len, ..] => Ok(Some(3 + usize::from(len))),
        [0x30, 0x82, high, low, ..] => Ok(Some(4 + usize::from(u16::from_be_bytes([high, low])))),
        [] | [0x30] | [0x30, 0x81] | [0x30, 0x82] | [0x30, 0x82, _] => Ok(None),
        _ => Err(WireError::Malformed("CredSSP message")),
    }
}

/// Reads little-endian fields of a peer's bytes. Every read beyond the end is `None`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*head))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }
}

/// The little-endian word at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Reader(bytes.get(at..)?).u16()
}

/// The little-endian double word at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Reader(bytes.get(at..)?).u32()
}

/// Overwrites the bytes at `at`; nothing happens where they are not all there.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end)) {
        slot.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_measured_and_nothing_else_is() {
        assert!(matches!(measure(&[3, 0, 0, 9]), Ok(Some((Form::Tpkt, 9)))));
        assert!(matches!(measure(&[0, 5]), Ok(Some((Form::FastPath, 5)))));
        assert!(matches!(measure(&[0x80, 0x81, 2]), Ok(Some((Form::FastPath, 258)))));
        assert!(matches!(measure(&[0, 0x81]), Ok(None)));
        assert!(measure(&[3, 0, 0, 6]).is_err(), "shorter than its own head");
        assert!(measure(&[0, 2]).is_err(), "a fast-path PDU of nothing");
        assert!(measure(b"GET / HTTP/1.1").is_err());
        assert!(measure(&[1, 0, 0]).is_err());
    }

    #[tokio::test]
    async fn bytes_in_the_clear_behind_the_last_pdu_before_tls_are_refused() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&[3, 0, 0, 7, 2, 0xf0, 0x80, 0x16]).await.unwrap();
        let mut leg = Leg::new(near);
        assert_eq!(leg.pdu(100).await.unwrap().bytes.len(), 7);
        assert!(leg.into_stream().is_err());
    }

    #[tokio::test]
    async fn what_may_hold_a_secret_is_read_alone() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&[3, 0, 0, 8, 2, 0xf0, 0x80, 0x64, 3, 0, 0, 8]).await.unwrap();
        let mut leg = Leg::new(near);
        leg.inbound.extend_from_slice(&[3, 0, 0, 7, 2, 0xf0]);
        // What was read too far is not lost: its last byte is still in the stream.
        assert_eq!(leg.wiped(100).await.unwrap()[..], [3, 0, 0, 7, 2, 0xf0, 3]);
        let mut other = Leg::new(tokio::io::duplex(8).0);
        assert!(matches!(other.wiped(100).await, Err(WireError::Closed)));
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&[3, 0, 0x40, 0, 2]).await.unwrap();
        assert!(matches!(Leg::new(near).wiped(100).await, Err(WireError::Malformed(_))));
    }

    #[tokio::test]
    async fn a_pdu_longer_than_this_point_allows_is_refused_before_it_is_read() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&[3, 0, 0xff, 0xff]).await.unwrap();
        assert!(matches!(Leg::new(near).pdu(1000).await, Err(WireError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn measuring_never_panics_and_never_asks_for_more_than_64_kib(bytes in prop::collection::vec(any::<u8>(), 0..9)) {
            if let Ok(Some((_, len))) = measure(&bytes) {
                prop_assert!(len <= 0xffff);
            }
            drop(measure_der(&bytes));
        }
    }
}
