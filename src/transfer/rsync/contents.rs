//! The contents of the file that is passing: unpacked where they are packed, counted, hashed, kept.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use zstd::stream::raw::{DParameter, Decoder, Operation as _};

use super::terms::Packed;
use crate::transfer::Step;

/// Unpacked at a time.
const PART: usize = 64 << 10;
/// Most that one run of packed bytes, at most 16 KiB, may unpack to: hundreds of megabytes of zeros are packed as tightly.
const MAX_UNPACKED: usize = 256 << 20;
/// Most of it that may have to be held: a part that is the same as the one before is held once.
const MAX_HELD: usize = 8 << 20;
/// Largest window of the packing method, as a power of two; rsync's own levels need less.
const WINDOW: u32 = 23;

/// Unpacks contents. rsync packs all files of a transfer as one stream.
pub(super) enum Unpacker {
    /// Contents pass as they are.
    Plain,
    Zstd {
        decoder: Decoder<'static>,
        part: Vec<u8>,
        last: Bytes,
        /// Of the run of packed bytes that is passing.
        unpacked: usize,
        held: usize,
    },
    /// Not unpacked, or given up; the reason as a reader of the event should know it.
    Not(&'static str),
}

impl Unpacker {
    pub(super) fn new(packed: Packed) -> Self {
        match packed {
            Packed::No => Self::Plain,
            Packed::Zstd => Self::zstd().unwrap_or(Self::Not("no hash: the packed contents cannot be read")),
            Packed::Other("lz4") => Self::Not("no hash: the contents are packed by lz4"),
            Packed::Other(_) => Self::Not("no hash: the contents are packed by zlib"),
        }
    }

    fn zstd() -> Option<Self> {
        let mut decoder = Decoder::new().ok()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).ok()?;
        Some(Self::Zstd { decoder, part: vec![0; PART], last: Bytes::new(), unpacked: 0, held: 0 })
    }

    /// Whether this can tell the contents.
    pub(super) fn reads(&self) -> bool {
        !matches!(self, Self::Not(_))
    }

    /// Unpacks `data`, `first` of its run, and hands over the parts. An error is the reason why nothing more is
    /// unpacked in this transfer.
    fn unpack(&mut self, data: &[u8], first: bool, take: &mut dyn FnMut(Bytes)) -> Result<(), &'static str> {
        let Self::Zstd { decoder, part, last, unpacked, held } = self else { return Ok(()) };
        if first {
            (*unpacked, *held) = (0, 0);
        }
        let mut data = data;
        let why = loop {
            let Ok(status) = decoder.run_on_buffers(data, part) else {
                break "no hash: the packed contents cannot be read";
            };
            data = data.get(status.bytes_read..).unwrap_or_default();
            let written = part.get(..status.bytes_written).unwrap_or_default();
            if *last != written {
                *last = Bytes::copy_from_slice(written);
                *held += written.len();
            }
            *unpacked += written.len();
            take(last.clone());
            let stuck = status.bytes_read == 0 && written.is_empty();
            if data.is_empty() && written.len() < part.len() {
                return Ok(());
            }
            if stuck || *unpacked > MAX_UNPACKED || *held > MAX_HELD {
                break "no hash: the contents are packed more tightly than is unpacked here";
            }
        };
        *self = Self::Not(why);
        Err(why)
    }
}

/// A file whose contents are passing.
pub(super) struct Contents {
    pub(super) index: u32,
    /// What the list says.
    pub(super) size: u64,
    /// The number of the copy, where one is kept.
    pub(super) number: Option<u32>,
    /// Bytes of contents that passed, unpacked where that is possible.
    pub(super) bytes: u64,
    /// Bytes that passed as they were sent.
    pub(super) packed: u64,
    hash: Context,
    /// Contents that the receiver had already are part of the file.
    pub(super) matched: bool,
    spoilt: Option<&'static str>,
}

impl Contents {
    /// `spoilt`: why the bytes that pass are not the whole file.
    pub(super) fn new(index: u32, size: u64, number: Option<u32>, spoilt: Option<&'static str>) -> Self {
        let hash = Context::new(&SHA256);
        Self { index, size, number, bytes: 0, packed: 0, hash, matched: false, spoilt }
    }

    /// Plain contents.
    pub(super) fn plain(&mut self, data: &Bytes, out: &mut Vec<Step>) {
        self.packed += data.len() as u64;
        self.add(data.clone(), out);
    }

    /// Packed contents, `first` of their run. An error: from here on nothing is unpacked.
    pub(super) fn packed(
        &mut self,
        data: &Bytes,
        first: bool,
        unpacker: &mut Unpacker,
        out: &mut Vec<Step>,
    ) -> Result<(), &'static str> {
        self.packed += data.len() as u64;
        if let Unpacker::Not(why) = unpacker {
            self.spoilt = Some(why);
            self.add(data.clone(), out);
            return Ok(());
        }
        let result = unpacker.unpack(data, first, &mut |part| self.add(part, out));
        if let Err(why) = result {
            self.spoilt = Some(why);
        }
        result
    }

    fn add(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if data.is_empty() {
            return;
        }
        if self.hashes() {
            self.hash.update(&data);
        }
        let offset = self.bytes;
        self.bytes += data.len() as u64;
        if let Some(file) = self.number {
            out.push(Step::Keep { file, offset, data });
        }
    }

    fn hashes(&self) -> bool {
        self.spoilt.is_none() && !self.matched
    }

    /// Why the bytes that passed do not tell the file.
    pub(super) fn spoilt(&self) -> Option<&'static str> {
        self.spoilt.or(self.matched.then_some("no hash: rsync sent only what was different"))
    }

    /// SHA-256 over what has passed, from the file's first byte on.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        if !self.hashes() {
            return None;
        }
        self.hash.clone().finish().as_ref().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::testing::sha;

    /// Unpacks `packed` in runs as rsync makes them.
    fn unpack(packed: &[u8], number: Option<u32>) -> (Contents, Result<(), &'static str>, usize) {
        let mut unpacker = Unpacker::new(Packed::Zstd);
        let mut contents = Contents::new(0, 0, number, None);
        let mut out = Vec::new();
        for run in packed.chunks(16_383) {
            let result = contents.packed(&Bytes::copy_from_slice(run), true, &mut unpacker, &mut out);
            if result.is_err() {
                return (contents, result, out.len());
            }
        }
        (contents, Ok(()), out.len())
    }

    #[test]
    fn what_repeats_closely_is_unpacked_and_what_repeats_at_a_distance_only_so_far() {
        let zeros = vec![0; 50 << 20];
        let (contents, result, kept) = unpack(&zstd::bulk::compress(&zeros, 3).unwrap(), Some(1));
        assert_eq!((result, contents.digest()), (Ok(()), sha(&zeros)));
        assert!(kept >= zeros.len() / PART);
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let part: Vec<u8> = (0..PART + 7).map(|_| noise()).collect();
        let (contents, result, kept) = unpack(&zstd::bulk::compress(&part.repeat(300), 3).unwrap(), Some(1));
        assert!(result.is_err() && contents.digest().is_none());
        assert!(contents.spoilt().is_some_and(|why| why.contains("more tightly")));
        assert!(kept * PART < 2 * MAX_HELD, "{kept} parts were held");
        assert!(unpack(b"not packed at all", None).1.is_err());
    }
}
