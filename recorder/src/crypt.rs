//! Bodies: zstd, then AES-256-GCM; and back, within the limits of the format.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    error::{ReadError, RecordError},
    header::Hash,
    keys::Key,
    segment::{BODY_FLAGS, CORE_LEN, ENCRYPTED, HEAD_LEN, HISTORY, Head, MAX_PLAIN, PRIMER, ZSTD},
    wire::TAG_LEN,
};

/// The most of the text before a segment that may help to compress it.
pub(crate) const HISTORY_LEN: usize = 64 * 1024;
/// [`Head::history`] counts in these.
const HISTORY_UNIT: usize = 16;
/// From this length on a segment is compressed on its own: the text before it would not pay.
pub(crate) const ALONE: usize = 32 * 1024;
/// What short segments are compressed against: common terminal text. Part of format version 1.
pub(crate) const PRIMER_TEXT: &[u8] = include_bytes!("primer.bin");
/// zstd levels: what is long or soon replaced must be quick, what stays is worth the care.
const QUICK: i32 = 1;
const CAREFUL: i32 = 5;

/// Compressors and scratch space; one per thread, never one per session.
pub(crate) struct Tools {
    alone: Compressor<'static>,
    primed: Compressor<'static>,
    body: Vec<u8>,
    dictionary: Vec<u8>,
}

impl Tools {
    pub(crate) fn new() -> Result<Self, RecordError> {
        let failed = |_| RecordError::Crypto("making a compressor");
        Ok(Self {
            alone: Compressor::new(QUICK).map_err(failed)?,
            primed: Compressor::new(CAREFUL).map_err(failed)?,
            body: Vec::new(),
            dictionary: Vec::new(),
        })
    }

    /// Compresses into `self.body`; returns the flags that say how.
    fn compress(&mut self, plain: &[u8], history: Option<&[u8]>, stays: bool) -> u8 {
        self.body.clear();
        self.body.reserve(zstd::zstd_safe::compress_bound(plain.len()) + TAG_LEN);
        let alone = plain.len() >= ALONE && history.is_none();
        let (flags, done) = if alone {
            (ZSTD, self.alone.compress_to_buffer(plain, &mut self.body))
        } else {
            dictionary(&mut self.dictionary, Some(history.unwrap_or_default()));
            let level = if stays { CAREFUL } else { QUICK };
            let set = self.primed.set_dictionary(level, &self.dictionary);
            let history_flag = if history.is_some() { HISTORY } else { 0 };
            let done = set.and_then(|()| self.primed.compress_to_buffer(plain, &mut self.body));
            (ZSTD | PRIMER | history_flag, done)
        };
        match done {
            Ok(n) if n < plain.len() => flags,
            // It does not shrink, or zstd failed: keep it as it is, which is always possible.
            _ => {
                self.body.clear();
                self.body.extend_from_slice(plain);
                0
            }
        }
    }
}

fn dictionary(out: &mut Vec<u8>, history: Option<&[u8]>) {
    out.clear();
    out.extend_from_slice(PRIMER_TEXT);
    out.extend_from_slice(history.unwrap_or_default());
}

/// The data key of a recording, ready for use, bound to its header.
pub(crate) struct Sealer {
    key: LessSafeKey,
    header: Hash,
}

impl Sealer {
    pub(crate) fn new(key: &Key, header: Hash) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.bytes()).ok()?;
        Some(Self { key: LessSafeKey::new(key), header })
    }

    fn nonce(count: u32) -> Nonce {
        let [a, b, c, d] = count.to_le_bytes();
        Nonce::assume_unique_for_key([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    fn aad(&self, core: &[u8; CORE_LEN]) -> [u8; 32 + CORE_LEN] {
        let mut out = [0; 32 + CORE_LEN];
        for (to, from) in out.iter_mut().zip(self.header.iter().chain(core)) {
            *to = *from;
        }
        out
    }

    /// Makes the body of a segment. `head` comes back with its lengths and body flags; its nonce
    /// must never have been used with this key. `stays`: it is worth compressing well.
    pub(crate) fn seal<'t>(
        &self,
        tools: &'t mut Tools,
        head: &mut Head,
        plain: &[u8],
        history: Option<&[u8]>,
        stays: bool,
    ) -> Result<&'t [u8], RecordError> {
        // A reader may know more of the text before than this writer kept: say exactly how much.
        let history = history.map(|h| last(h, h.len().min(HISTORY_LEN) / HISTORY_UNIT * HISTORY_UNIT));
        let history = history.filter(|h| !h.is_empty());
        head.flags = (head.flags & !BODY_FLAGS) | tools.compress(plain, history, stays) | ENCRYPTED;
        let helps = history.filter(|_| head.flags & HISTORY != 0);
        head.history = helps.map_or(0, |history| (history.len() / HISTORY_UNIT) as u16);
        head.plain_len = plain.len() as u32;
        head.body_len = (tools.body.len() + TAG_LEN) as u32;
        let aad = Aad::from(self.aad(&head.core()));
        self.key
            .seal_in_place_append_tag(Self::nonce(head.nonce), aad, &mut tools.body)
            .map_err(|_| RecordError::Crypto("encrypting a segment"))?;
        Ok(&tools.body)
    }

    /// Opens the body of a segment, in place; the plain text may still be compressed.
    fn open<'b>(&self, head: &Head, body: &'b mut [u8]) -> Option<&'b [u8]> {
        let aad = Aad::from(self.aad(&head.core()));
        self.key.open_in_place(Self::nonce(head.nonce), aad, body).ok().map(|plain| &*plain)
    }
}

/// Opens bodies; keeps what the next one is compressed against.
pub(crate) struct Opener {
    sealer: Sealer,
    alone: Decompressor<'static>,
    primed: Decompressor<'static>,
    dictionary: Vec<u8>,
    history: Vec<u8>,
    /// Where in the stream `history` ends.
    at: Option<u64>,
}

impl Opener {
    pub(crate) fn new(sealer: Sealer) -> Result<Self, ReadError> {
        Ok(Self {
            sealer,
            alone: Decompressor::new()?,
            primed: Decompressor::new()?,
            dictionary: Vec::new(),
            history: Vec::new(),
            at: None,
        })
    }

    /// Whether the next segment can be opened here, or the reader must start at a fresh one.
    pub(crate) fn follows(&self, head: &Head) -> bool {
        head.is_fresh() || self.at == Some(head.stream)
    }

    /// The plain text of a segment. `body` is spent.
    pub(crate) fn open(&mut self, head: &Head, body: &mut [u8], offset: u64) -> Result<Vec<u8>, ReadError> {
        if head.plain_len as usize > MAX_PLAIN {
            return Err(ReadError::Limit("a segment's text is too long"));
        }
        let packed = if head.flags & ENCRYPTED != 0 {
            self.sealer
                .open(head, body)
                .ok_or_else(|| ReadError::damaged(offset + HEAD_LEN as u64, "a body does not decrypt"))?
        } else {
            body
        };
        if head.is_fresh() {
            self.history.clear();
        }
        let plain = Self::unpack(
            &mut self.alone,
            &mut self.primed,
            &mut self.dictionary,
            &self.history,
            head,
            packed,
        )
        .filter(|plain| plain.len() == head.plain_len as usize)
        .ok_or_else(|| ReadError::damaged(offset + HEAD_LEN as u64, "a body does not decompress"))?;
        push_history(&mut self.history, &plain, HISTORY_LEN);
        self.at = head.stream.checked_add(plain.len() as u64);
        Ok(plain)
    }

    fn unpack(
        alone: &mut Decompressor<'static>,
        primed: &mut Decompressor<'static>,
        scratch: &mut Vec<u8>,
        history: &[u8],
        head: &Head,
        packed: &[u8],
    ) -> Option<Vec<u8>> {
        if head.flags & ZSTD == 0 {
            return Some(packed.to_vec());
        }
        // The output buffer is the bound: zstd stops where it is full, whatever the frame promises.
        let mut plain = Vec::with_capacity(head.plain_len as usize);
        if head.flags & PRIMER == 0 {
            alone.decompress_to_buffer(packed, &mut plain).ok()?;
        } else {
            let used =
                (head.flags & HISTORY != 0).then(|| last(history, usize::from(head.history) * HISTORY_UNIT));
            dictionary(scratch, used);
            primed.set_dictionary(scratch).ok()?;
            primed.decompress_to_buffer(packed, &mut plain).ok()?;
        }
        Some(plain)
    }
}

/// Keeps the last `max` bytes.
pub(crate) fn push_history(history: &mut Vec<u8>, plain: &[u8], max: usize) {
    if plain.len() >= max {
        history.clear();
    }
    history.extend_from_slice(last(plain, max));
    let extra = history.len().saturating_sub(max);
    history.drain(..extra);
}

/// The last `n` bytes.
pub(crate) fn last(bytes: &[u8], n: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(n)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::sha256_one;

    #[test]
    fn the_primer_is_the_one_of_format_version_1() {
        assert_eq!(PRIMER_TEXT.len(), 1504);
        assert_eq!(
            hex::encode(sha256_one(PRIMER_TEXT)),
            "50d2ee74388f75b7b91630af76e3ae82b30c27732b132c54e08e60dfc7ee6549"
        );
    }

    #[test]
    fn a_frame_that_promises_more_than_the_head_is_refused() {
        let key = Key::generate().unwrap();
        let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).unwrap();
        let head = Head {
            kind: 1,
            flags: ZSTD,
            history: 0,
            body_len: bomb.len() as u32,
            plain_len: 1000,
            stream: 0,
            first: 0,
            span: 0,
            nonce: 1,
            seq: 0,
            prev: [0; 32],
        };
        let mut opener = Opener::new(Sealer::new(&key, [0; 32]).unwrap()).unwrap();
        assert!(opener.open(&head, &mut bomb.clone(), 0).is_err());
    }
}
