//! As much of tar (POSIX.1-1988 ustar) as an evidence bundle needs: plain files in one folder.

use std::io::{self, Write};

use crate::{error::ReadError, storage::Source};

const BLOCK: usize = 512;
/// Longest name of a file in a bundle.
pub(super) const MAX_NAME: usize = 100;
/// Most files that a reader accepts.
const MAX_ENTRIES: usize = 10_000;

/// The header of one file.
pub(super) fn header(name: &str, size: u64, seconds: u64) -> io::Result<[u8; BLOCK]> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name in a bundle has 1 to 100 bytes"));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, &number(size));
    put(136, &number(seconds));
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (to, from) in block.iter_mut().skip(148).zip(sum.bytes()) {
        *to = from;
    }
    Ok(block)
}

/// Octal, or base 256 where that does not reach (as GNU tar does it).
fn number(value: u64) -> [u8; 12] {
    let mut out = [0; 12];
    if value < 1 << 33 {
        for (to, from) in out.iter_mut().zip(format!("{value:011o}").bytes()) {
            *to = from;
        }
        return out;
    }
    out[0] = 0x80;
    for (to, from) in out.iter_mut().rev().zip(value.to_le_bytes()) {
        *to = from;
    }
    out
}

fn parse_number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        return Some(u64::from_be_bytes(*field.last_chunk()?));
    }
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

/// Fills a file's last block.
pub(super) fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = (size % BLOCK as u64) as usize;
    out.write_all([0; BLOCK].get(..(BLOCK - rest) % BLOCK).unwrap_or_default())
}

/// The end of an archive.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The files of an archive. Anything but plain files and zeros at the end is refused.
pub(super) fn members(source: &impl Source) -> Result<Vec<Member>, ReadError> {
    let size = source.size()?;
    let mut members = Vec::new();
    let mut at = 0u64;
    loop {
        let bad = |what| ReadError::damaged(at, what);
        let mut block = [0; BLOCK];
        if source.read_at(&mut block, at)? < BLOCK {
            return Err(bad("the bundle is cut off"));
        }
        if block.iter().all(|b| *b == 0) {
            let mut last = [1; BLOCK];
            let got = source.read_at(&mut last, at + BLOCK as u64)?;
            let over = got == BLOCK && last.iter().all(|b| *b == 0) && at + 2 * BLOCK as u64 == size;
            return if over { Ok(members) } else { Err(bad("the bundle's end is altered")) };
        }
        let member = member(&block, at).ok_or_else(|| bad("a file's header in the bundle is malformed"))?;
        let padded = member.size.checked_next_multiple_of(BLOCK as u64).filter(|len| *len <= size);
        let next =
            padded.and_then(|len| member.offset.checked_add(len)).ok_or_else(|| bad("a size is wrong"))?;
        let mut padding = [0; BLOCK];
        let len = (next - member.offset - member.size) as usize;
        let padding = padding.get_mut(..len).ok_or_else(|| bad("a size is wrong"))?;
        if source.read_at(padding, member.offset + member.size)? < len || padding.iter().any(|b| *b != 0) {
            return Err(bad("something is hidden behind a file"));
        }
        at = next;
        if members.len() >= MAX_ENTRIES {
            return Err(ReadError::Limit("the bundle holds too many files"));
        }
        members.push(member);
    }
}

fn member(block: &[u8; BLOCK], at: u64) -> Option<Member> {
    let field = |from: usize, len: usize| block.get(from..from + len);
    let name: Vec<u8> = field(0, MAX_NAME)?.iter().copied().take_while(|b| *b != 0).collect();
    let name = String::from_utf8(name).ok()?;
    let size = parse_number(field(124, 12)?)?;
    let seconds = parse_number(field(136, 12)?)?;
    // Only exactly what the writer makes: a header with anything hidden in it is refused.
    (header(&name, size, seconds).ok()? == *block).then_some(Member { name, offset: at + BLOCK as u64, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_comes_back_and_sizes_reach_beyond_octal() {
        let mut out = Vec::new();
        for (name, data) in [("a.txt", b"hello".as_slice()), ("b", &[7; 512]), ("c", b"")] {
            out.extend_from_slice(&header(name, data.len() as u64, 1_790_000_000).unwrap());
            out.extend_from_slice(data);
            pad(&mut out, data.len() as u64).unwrap();
        }
        end(&mut out).unwrap();
        let found = members(&out.as_slice()).unwrap();
        let names: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.size)).collect();
        assert_eq!(names, [("a.txt", 5), ("b", 512), ("c", 0)]);
        assert!(members(&&out[..out.len() - 1]).is_err());
        for value in [0, 8, (1 << 33) - 1, 1 << 33, u64::MAX] {
            assert_eq!(parse_number(&number(value)), Some(value));
        }
    }
}
