//! rsync's numbers and strings (io.c of rsync 3.4), read from bytes of which the rest may still be to come.

/// Longest path on the wire: `MAXPATHLEN` less its terminator.
pub(super) const MAX_NAME: usize = 4095;

/// Why a reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// More bytes are needed.
    More,
    /// The bytes are not what the protocol says.
    Bad(&'static str),
}

/// Reads from the start of `data`.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Stop> {
        let part = self.data.get(self.at..self.at.saturating_add(size)).ok_or(Stop::More)?;
        self.at += size;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.first_chunk().copied().ok_or(Stop::More)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// `read_shortint`.
    pub(super) fn short(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// `read_int`.
    pub(super) fn int(&mut self) -> Result<i32, Stop> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A count that cannot be negative.
    pub(super) fn count(&mut self) -> Result<u32, Stop> {
        u32::try_from(self.int()?).map_err(|_| Stop::Bad("a negative count"))
    }

    /// `read_varint`: the leading ones of the first byte count the bytes that follow.
    pub(super) fn varint(&mut self) -> Result<i32, Stop> {
        let first = self.byte()?;
        let extra = (first.leading_ones() as usize).min(6);
        if extra > 4 {
            return Err(Stop::Bad("a number that is too long"));
        }
        let low = little(self.take(extra)?);
        let value = low | u64::from(head(first, extra)) << (8 * extra);
        // What lies above 32 bits is dropped, as rsync does.
        Ok((value & 0xffff_ffff) as u32 as i32)
    }

    /// A length of at most `most`.
    pub(super) fn length(&mut self, most: usize) -> Result<usize, Stop> {
        let length = usize::try_from(self.varint()?).ok().filter(|length| *length <= most);
        length.ok_or(Stop::Bad("a text that is too long"))
    }

    /// `read_varlong` with at least `least` (1 to 8) bytes.
    pub(super) fn varlong(&mut self, least: usize) -> Result<i64, Stop> {
        let first = self.byte()?;
        let low = self.take(least.saturating_sub(1))?;
        let extra = (first.leading_ones() as usize).min(6);
        if least + extra > 9 {
            return Err(Stop::Bad("a number that is too long"));
        }
        let high = self.take(extra)?;
        let mut bytes = [0u8; 9];
        for (to, from) in bytes.iter_mut().zip(low.iter().chain(high).chain([&head(first, extra)])) {
            *to = *from;
        }
        let [a, b, c, d, e, f, g, h, _] = bytes;
        Ok(i64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// A size that cannot be negative.
    pub(super) fn size(&mut self) -> Result<u64, Stop> {
        u64::try_from(self.varlong(3)?).map_err(|_| Stop::Bad("a negative size"))
    }

    /// `read_vstring`.
    pub(super) fn string(&mut self, most: usize) -> Result<&'a [u8], Stop> {
        let first = self.byte()?;
        let length = match first & 0x80 {
            0 => usize::from(first),
            _ => usize::from(first & 0x7f) * 256 + usize::from(self.byte()?),
        };
        if length > most {
            return Err(Stop::Bad("a text that is too long"));
        }
        self.take(length)
    }
}

/// What the first byte of a number holds of the number itself, `extra` bytes following.
fn head(first: u8, extra: usize) -> u8 {
    match extra {
        0 => first,
        extra => first & (0xffu8 >> extra.min(7)),
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// An index into the file list, or one of the signs that stand in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// `NDX_DONE`.
    Done,
    /// `NDX_DEL_STATS`.
    Deletions,
    /// Any other negative number: only incremental recursion has them.
    Other,
    File(u32),
}

/// `read_ndx`: each index is told by its distance from the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indices {
    positive: u32,
    negative: u32,
}

impl Default for Indices {
    fn default() -> Self {
        // -1 and 1, as in rsync.
        Self { positive: u32::MAX, negative: 1 }
    }
}

impl Indices {
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<Index, Stop> {
        let mut first = cursor.byte()?;
        let negative = first == 0xff;
        if negative {
            first = cursor.byte()?;
        } else if first == 0 {
            return Ok(Index::Done);
        }
        let before = if negative { self.negative } else { self.positive };
        let number = if first != 0xfe {
            before.wrapping_add(u32::from(first))
        } else {
            let (high, low) = (cursor.byte()?, cursor.byte()?);
            if high & 0x80 == 0 {
                before.wrapping_add(u32::from(high) << 8 | u32::from(low))
            } else {
                let (second, third) = (cursor.byte()?, cursor.byte()?);
                u32::from_le_bytes([low, second, third, high & 0x7f])
            }
        };
        if number > i32::MAX as u32 {
            return Err(Stop::Bad("an index that is too large"));
        }
        if negative {
            self.negative = number;
            return Ok(if number == 3 { Index::Deletions } else { Index::Other });
        }
        self.positive = number;
        Ok(Index::File(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_rsync_writes_them() {
        let varint = |bytes: &[u8]| Cursor::new(bytes).varint();
        assert_eq!(varint(&[0x7f]), Ok(127));
        assert_eq!(varint(&[0x81, 0xff]), Ok(0x1ff));
        assert_eq!(varint(&[0xc1, 0x00, 0x02]), Ok(0x1_0200));
        assert_eq!(varint(&[0xf0, 0xff, 0xff, 0xff, 0xff]), Ok(-1));
        assert_eq!(varint(&[0x81]), Err(Stop::More));
        assert!(matches!(varint(&[0xf8, 0, 0, 0, 0, 0]), Err(Stop::Bad(_))));
        let varlong = |bytes: &[u8], least| Cursor::new(bytes).varlong(least);
        assert_eq!(varlong(&[0, 5, 0], 3), Ok(5));
        assert_eq!(varlong(&[0x01, 2, 3], 3), Ok(0x01_0302));
        assert_eq!(varlong(&[0x80, 2, 3, 0x90], 3), Ok(0x90_0302));
        assert_eq!(varlong(&[0xe0, 2, 3, 4, 5, 6], 3), Ok(0x06_0504_0302));
        assert_eq!(varlong(&[0x68, 1, 2, 3], 4), Ok(0x6803_0201));
        assert!(matches!(varlong(&[0xfc, 0, 0, 0, 0, 0, 0, 0, 0], 4), Err(Stop::Bad(_))));
    }

    #[test]
    fn indices_are_told_by_their_distance() {
        let mut indices = Indices::default();
        let mut cursor =
            Cursor::new(&[1, 1, 0xfe, 1, 0, 0, 0xfe, 0x80, 7, 0, 0, 0xff, 2, 0xff, 0xfe, 0x80, 101, 0, 0]);
        let mut next = || indices.read(&mut cursor);
        assert_eq!(next(), Ok(Index::File(0)));
        assert_eq!(next(), Ok(Index::File(1)));
        assert_eq!(next(), Ok(Index::File(257)));
        assert_eq!(next(), Ok(Index::Done));
        assert_eq!(next(), Ok(Index::File(7)));
        assert_eq!(next(), Ok(Index::Deletions));
        assert_eq!(next(), Ok(Index::Other));
        assert_eq!(next(), Err(Stop::More));
    }
}
