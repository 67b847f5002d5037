//! The lines that an scp source sends.

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// `C0644 12 name`
    File { size: u64, name: &'a [u8] },
    /// `D0755 0 name`
    Folder { name: &'a [u8] },
    /// `E`
    End,
    /// `T1 0 1 0`
    Times,
    /// A warning or an error; nobody answers it.
    Message(String),
}

impl<'a> Record<'a> {
    /// Reads a line that ends in a line feed.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, &'static str> {
        const BROKEN: &str = "sent a record that is not well-formed";
        let line = line.strip_suffix(b"\n").ok_or(BROKEN)?;
        let (kind, rest) = line.split_first().ok_or(BROKEN)?;
        match kind {
            1 | 2 => Ok(Self::Message(String::from_utf8_lossy(rest).chars().take(512).collect())),
            b'E' if rest.is_empty() => Ok(Self::End),
            b'T' => times(rest).then_some(Self::Times).ok_or(BROKEN),
            b'C' => {
                entry(rest).ok_or(BROKEN).and_then(|(size, name)| Ok(Self::File { size, name: good(name)? }))
            }
            b'D' => entry(rest).ok_or(BROKEN).and_then(|(_, name)| Ok(Self::Folder { name: good(name)? })),
            _ => Err(BROKEN),
        }
    }
}

/// `MODE SIZE NAME`
fn entry(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (mode, rest) = rest.split_at_checked(4)?;
    if !mode.iter().all(|b| (b'0'..=b'7').contains(b)) {
        return None;
    }
    let rest = rest.strip_prefix(b" ")?;
    let space = rest.iter().position(|b| *b == b' ')?;
    let size = number(rest.get(..space)?)?;
    Some((size, rest.get(space + 1..)?))
}

/// Four numbers.
fn times(rest: &[u8]) -> bool {
    let mut parts = rest.split(|b| *b == b' ');
    let four = parts.by_ref().take(4).filter(|part| number(part).is_some()).count() == 4;
    four && parts.next().is_none()
}

/// Decimal digits only, and not more than a file can have.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= i64::MAX as u64).then_some(number)
}

/// A plain name.
fn good(name: &[u8]) -> Result<&[u8], &'static str> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err("sent a name that would leave the folder");
    }
    if name.iter().any(|b| *b < 0x20 || *b == 0x7f) {
        return Err("sent a name with control characters");
    }
    Ok(name)
}
