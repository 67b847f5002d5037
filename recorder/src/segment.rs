//! The frame around each stretch of a recording: head, chain, signature.

use crate::{
    codec::Cursor,
    error::{ReadError, RecordError},
    header::{Hash, sha256},
    sign::{CheckpointSigner, SIGNATURE_LEN, VerifyingKey},
};

/// Bytes of a segment's head.
pub(crate) const HEAD_LEN: usize = 76;
/// The part of the head that the AEAD covers: what does not depend on the place in the chain.
pub(crate) const CORE_LEN: usize = 36;
/// First bytes of every segment.
pub(crate) const SEGMENT_MAGIC: [u8; 4] = *b"CSEG";
/// Longest plain text of one segment that a reader accepts.
pub(crate) const MAX_PLAIN: usize = 1024 * 1024;
/// Longest body of one segment that a reader accepts.
pub(crate) const MAX_BODY: usize = MAX_PLAIN + 64 * 1024;
/// Bytes at the end of a sealed recording.
pub(crate) const FOOTER_LEN: usize = 24;
const FOOTER_MAGIC: [u8; 8] = *b"COFFEND\0";
const SIGN_CONTEXT: &[u8] = b"cofferdam recording checkpoint v1\0";

/// Kinds of segment. 16 to 31 are kept for desktop recordings; a reader skips what it does not know.
pub(crate) mod kind {
    /// Events, encrypted.
    pub(crate) const EVENTS: u8 = 1;
    /// Where the segments stand, in clear text.
    pub(crate) const INDEX: u8 = 2;
    /// The end, in clear text, always signed.
    pub(crate) const SEAL: u8 = 3;
    /// The mark that a crash cut the recording and a later start closed it.
    pub(crate) const RECOVERED: u8 = 4;
}

/// Body is a zstd frame (RFC 8878).
pub(crate) const ZSTD: u8 = 0x01;
/// Body is encrypted.
pub(crate) const ENCRYPTED: u8 = 0x02;
/// Body is compressed against the text before it.
pub(crate) const HISTORY: u8 = 0x04;
/// Body is compressed against the primer (and, with [`HISTORY`], the text behind it).
pub(crate) const PRIMER: u8 = 0x08;
/// The flags that belong to the body; the others belong to the place in the chain.
pub(crate) const BODY_FLAGS: u8 = 0x0f;
/// A signature follows the body.
pub(crate) const SIGNED: u8 = 0x10;
/// The segment was taken from the journal after a crash.
pub(crate) const FROM_JOURNAL: u8 = 0x20;
/// The segment begins with a desktop's key frame.
pub(crate) const KEY_FRAME: u8 = 0x40;

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// With [`HISTORY`]: how much of the text before helps, in units of 16 bytes.
    pub(crate) history: u16,
    /// Bytes of the body, without the signature.
    pub(crate) body_len: u32,
    /// Bytes of the plain text.
    pub(crate) plain_len: u32,
    /// Where the plain text starts in the stream of all events' plain text.
    pub(crate) stream: u64,
    /// Time of the first event, microseconds since 1970, UTC.
    pub(crate) first: i64,
    /// Microseconds from the first event to the last.
    pub(crate) span: u32,
    /// Counts the encryptions under the data key.
    pub(crate) nonce: u32,
    pub(crate) seq: u32,
    pub(crate) prev: Hash,
}

impl Head {
    pub(crate) fn core(&self) -> [u8; CORE_LEN] {
        let mut out = [0; CORE_LEN];
        let parts: [&[u8]; 8] = [
            &[self.kind, self.flags & BODY_FLAGS],
            &self.history.to_le_bytes(),
            &self.body_len.to_le_bytes(),
            &self.plain_len.to_le_bytes(),
            &self.stream.to_le_bytes(),
            &self.first.to_le_bytes(),
            &self.span.to_le_bytes(),
            &self.nonce.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    pub(crate) fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        let core = self.core();
        let seq = self.seq.to_le_bytes();
        let bytes = SEGMENT_MAGIC.iter().chain(&core).chain(&seq).chain(&self.prev);
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        out[5] = self.flags;
        out
    }

    pub(crate) fn parse_core(core: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(core);
        let (kind, flags) = (c.u8()?, c.u8()?);
        let history = c.u16()?;
        let (body_len, plain_len) = (c.u32()?, c.u32()?);
        let (stream, first) = (c.u64()?, c.i64()?);
        let (span, nonce) = (c.u32()?, c.u32()?);
        Some(Self {
            kind,
            flags,
            history,
            body_len,
            plain_len,
            stream,
            first,
            span,
            nonce,
            seq: 0,
            prev: [0; 32],
        })
    }

    /// Reads a head and holds it against the limits of the format.
    pub(crate) fn parse(bytes: &[u8], offset: u64) -> Result<Self, ReadError> {
        let cut = || ReadError::damaged(offset, "a segment's head is cut off");
        let mut c = Cursor::new(bytes);
        if c.array::<4>().ok_or_else(cut)? != SEGMENT_MAGIC {
            return Err(ReadError::damaged(offset, "no segment starts here"));
        }
        let core = c.take(CORE_LEN).ok_or_else(cut)?;
        let mut head = Self::parse_core(core).ok_or_else(cut)?;
        head.seq = c.u32().ok_or_else(cut)?;
        head.prev = c.array().ok_or_else(cut)?;
        head.check().map_err(|what| ReadError::damaged(offset, what))?;
        Ok(head)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.body_len as usize > MAX_BODY || self.plain_len as usize > MAX_PLAIN {
            return Err("a segment's length is beyond the format's limit");
        }
        Ok(())
    }

    pub(crate) fn is_signed(&self) -> bool {
        self.flags & SIGNED != 0
    }

    /// Bytes behind the head: body and, where there is one, signature.
    pub(crate) fn tail_len(&self) -> usize {
        self.body_len as usize + if self.is_signed() { SIGNATURE_LEN } else { 0 }
    }

    /// Bytes of the whole segment.
    pub(crate) fn total_len(&self) -> u64 {
        (HEAD_LEN + self.tail_len()) as u64
    }

    /// Time of the last event.
    pub(crate) fn last(&self) -> i64 {
        self.first.saturating_add(i64::from(self.span))
    }

    pub(crate) fn has_events(&self) -> bool {
        self.kind == kind::EVENTS
    }

    /// Whether a desktop's picture begins anew with its first event.
    pub(crate) fn is_key_frame(&self) -> bool {
        self.flags & KEY_FRAME != 0
    }

    /// Whether the body can be opened without the text before it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.flags & HISTORY == 0
    }
}

/// The link of the chain that this segment makes: SHA-256 of its head and body.
pub(crate) fn link(head: &[u8], body: &[u8]) -> Hash {
    sha256(&[head, body])
}

fn message(header: &Hash, seq: u32, hash: &Hash) -> Vec<u8> {
    [SIGN_CONTEXT, header, &seq.to_le_bytes(), hash].concat()
}

pub(crate) fn sign(
    signer: &CheckpointSigner,
    header: &Hash,
    seq: u32,
    hash: &Hash,
) -> Result<[u8; SIGNATURE_LEN], RecordError> {
    signer.sign(&message(header, seq, hash))
}

pub(crate) fn signature_holds(key: &VerifyingKey, header: &Hash, seq: u32, hash: &Hash, sig: &[u8]) -> bool {
    key.verify(&message(header, seq, hash), sig)
}

/// The last bytes of a sealed recording: where its index and its seal stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index: u64,
    pub(crate) seal: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [FOOTER_MAGIC.as_slice(), &self.index.to_le_bytes(), &self.seal.to_le_bytes()].concat()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(bytes);
        if c.array::<8>()? != FOOTER_MAGIC {
            return None;
        }
        Some(Self { index: c.u64()?, seal: c.u64()? })
    }
}

/// Appends a whole segment with a body in clear text; returns its link.
pub(crate) fn push_plain(
    out: &mut Vec<u8>,
    mut head: Head,
    body: &[u8],
    sign_with: Option<(&CheckpointSigner, &Hash)>,
) -> Result<Hash, RecordError> {
    head.body_len = body.len() as u32;
    head.plain_len = body.len() as u32;
    if sign_with.is_some() {
        head.flags |= SIGNED;
    }
    let bytes = head.encode();
    let hash = link(&bytes, body);
    out.extend_from_slice(&bytes);
    out.extend_from_slice(body);
    if let Some((signer, header)) = sign_with {
        out.extend_from_slice(&sign(signer, header, head.seq, &hash)?);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_limits_hold() {
        let head = Head {
            kind: kind::EVENTS,
            flags: ZSTD | ENCRYPTED | SIGNED,
            history: 0,
            body_len: 77,
            plain_len: 88,
            stream: 99,
            first: -5,
            span: 6,
            nonce: 7,
            seq: 8,
            prev: [9; 32],
        };
        assert_eq!(Head::parse(&head.encode(), 0).unwrap(), head);
        let big = Head { body_len: u32::MAX, ..head };
        assert!(Head::parse(&big.encode(), 0).is_err());
        assert!(Head::parse(&head.encode()[..70], 0).is_err());
    }
}
