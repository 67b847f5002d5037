//! Reads the target's error messages out of an rsync stream (protocol 30 and later).
//!
//! A reading that fails only means that no more messages are read: the stream itself passes unchanged, and nothing
//! is decided by what is read here.

/// `MPLEX_BASE` of rsync's io.c: added to the tag of every frame.
const BASE: u8 = 7;
/// Longest message that is kept.
const MAX_TEXT: usize = 512;
/// `CF_VARINT_FLIST_FLAGS` of compat.c: both sides also exchange lists of algorithms.
const NEGOTIATES: u64 = 1 << 7;
/// The stream is multiplexed from this version on in the form that is read here.
const OLDEST: u32 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Version,
    Flags,
    /// Lists of algorithms that are still to come.
    Lists(u8),
    Seed,
    Header,
    Text {
        error: bool,
        left: usize,
    },
    Skip {
        left: usize,
    },
    Lost,
}

/// The reader; holds one field or message at a time.
#[derive(Debug)]
pub(super) struct Messages {
    at: At,
    field: Vec<u8>,
    compression: bool,
    version: Option<u32>,
    first_error: Option<String>,
}

impl Messages {
    /// `compression`: the command line asks for compression and leaves the method open.
    pub(super) fn new(compression: bool) -> Self {
        Self { at: At::Version, field: Vec::new(), compression, version: None, first_error: None }
    }

    /// The target's protocol version.
    pub(super) fn version(&self) -> Option<u32> {
        self.version
    }

    /// The first error it reported.
    pub(super) fn first_error(&self) -> Option<String> {
        self.first_error.clone()
    }

    pub(super) fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.at != At::Lost {
            match self.at {
                At::Text { left, .. } | At::Skip { left } => {
                    let (now, rest) = data.split_at(left.min(data.len()));
                    data = rest;
                    self.inside(now, left - now.len());
                }
                _ => {
                    let (first, rest) = data.split_at(1);
                    data = rest;
                    self.field.extend_from_slice(first);
                    self.field();
                }
            }
        }
    }

    fn inside(&mut self, now: &[u8], left: usize) {
        if let At::Text { error, .. } = self.at {
            let room = MAX_TEXT.saturating_sub(self.field.len()).min(now.len());
            self.field.extend_from_slice(now.get(..room).unwrap_or_default());
            self.at = At::Text { error, left };
            if left == 0 {
                if error && self.first_error.is_none() {
                    self.first_error = Some(String::from_utf8_lossy(&self.field).trim_end().to_owned());
                }
                self.next(At::Header);
            }
        } else if left == 0 {
            self.next(At::Header);
        } else {
            self.at = At::Skip { left };
        }
    }

    fn next(&mut self, at: At) {
        self.at = at;
        self.field.clear();
    }

    /// One more byte of a short field has come.
    fn field(&mut self) {
        match self.at {
            At::Version => {
                if let Some(version) = self.field.first_chunk().map(|b| u32::from_le_bytes(*b)) {
                    self.version = Some(version);
                    self.next(if (OLDEST..=255).contains(&version) { At::Flags } else { At::Lost });
                }
            }
            At::Flags => match varint(&self.field) {
                Varint::More => {}
                Varint::Bad => self.next(At::Lost),
                Varint::Is(flags) if flags & NEGOTIATES != 0 => {
                    self.next(At::Lists(1 + u8::from(self.compression)));
                }
                Varint::Is(_) => self.next(At::Seed),
            },
            At::Lists(left) => {
                let whole = match self.field.as_slice() {
                    [first, ..] if first & 0x80 == 0 => 1 + usize::from(*first),
                    [first, second, ..] => 2 + usize::from(first & 0x7f) * 256 + usize::from(*second),
                    _ => return,
                };
                if self.field.len() >= whole {
                    self.next(if left > 1 { At::Lists(left - 1) } else { At::Seed });
                }
            }
            At::Seed if self.field.len() == 4 => self.next(At::Header),
            At::Header => {
                if let [a, b, c, tag] = *self.field.as_slice() {
                    self.header(tag, u32::from_le_bytes([a, b, c, 0]) as usize);
                }
            }
            _ => {}
        }
    }

    /// A frame's tag (`enum msgcode` of rsync.h) and length.
    fn header(&mut self, tag: u8, left: usize) {
        let at = match tag.checked_sub(BASE) {
            // MSG_ERROR_XFER, MSG_ERROR, MSG_ERROR_SOCKET, MSG_ERROR_UTF8.
            Some(1 | 3 | 5 | 8) => At::Text { error: true, left },
            Some(0 | 2 | 4 | 6 | 7 | 9 | 10 | 22 | 33 | 42 | 86 | 100..=102) => At::Skip { left },
            _ => At::Lost,
        };
        self.next(at);
        if left == 0 && at != At::Lost {
            self.next(At::Header);
        }
    }
}

enum Varint {
    More,
    Bad,
    Is(u64),
}

/// rsync's own variable-length integer (io.c, `read_varint`): the leading ones of the first byte count the bytes
/// that follow.
fn varint(bytes: &[u8]) -> Varint {
    let Some((first, rest)) = bytes.split_first() else { return Varint::More };
    let extra = first.leading_ones() as usize;
    if extra > 4 {
        return Varint::Bad;
    }
    if rest.len() < extra {
        return Varint::More;
    }
    let low = rest.iter().take(extra).rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    let mask = 0xffu64 >> (extra + 1).min(8);
    Varint::Is(low | (u64::from(*first) & mask) << (8 * extra))
}
