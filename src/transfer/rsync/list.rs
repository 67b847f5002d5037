//! The list of files (`recv_file_entry` of flist.c), protocol 30 to 32 without incremental recursion.

use std::cmp::Ordering;
use std::num::NonZeroU32;

use super::options::Options;
use super::wire::{Cursor, MAX_NAME, Stop};

/// Most files in one list.
const MAX_FILES: usize = 1_000_000;
/// Most bytes of names in one list.
const MAX_BYTES: usize = 64 << 20;

const SAME_MODE: u32 = 1 << 1;
const EXTENDED: u32 = 1 << 2;
const SAME_USER: u32 = 1 << 3;
const SAME_GROUP: u32 = 1 << 4;
const SAME_NAME: u32 = 1 << 5;
const LONG_NAME: u32 = 1 << 6;
const SAME_TIME: u32 = 1 << 7;
const SAME_MAJOR: u32 = 1 << 8;
const LINKED: u32 = 1 << 9;
const USER_FOLLOWS: u32 = 1 << 10;
const GROUP_FOLLOWS: u32 = 1 << 11;
/// Of an entry that is [`LINKED`]; of the end of the list: an error code follows.
const FIRST_LINK: u32 = 1 << 12;
const NANOSECONDS: u32 = 1 << 13;
const SAME_ACCESS_TIME: u32 = 1 << 14;
const CREATED_AS_CHANGED: u32 = 1 << 17;

/// What an entry is, by the type bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Device,
    /// A socket or a pipe.
    Special,
    /// An argument that is missing and is to be removed on the other side.
    Missing,
}

impl Kind {
    fn of(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Folder,
            0o120_000 => Self::Link,
            0o020_000 | 0o060_000 => Self::Device,
            0o010_000 | 0o140_000 => Self::Special,
            0 if mode == 0 => Self::Missing,
            _ => return None,
        })
    }
}

/// One file as the sender lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Where a symbolic link points to.
    pub(super) link: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    name: u16,
    link: u16,
    size: u64,
    kind: Kind,
    mode: u32,
}

/// What of the two sides' agreement the list depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) protocol: u32,
    /// `CF_VARINT_FLIST_FLAGS`.
    pub(super) wide_flags: bool,
    /// `CF_SAFE_FLIST`, or implied by the protocol.
    pub(super) safe_end: bool,
    /// Bytes of each file's checksum with `-c`.
    pub(super) checksum: usize,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// One more entry, the last one of the list.
    Entry,
    /// The list is complete.
    End,
}

/// The list as far as it has come.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: Vec<Entry>,
    text: Vec<u8>,
    last_name: Vec<u8>,
    mode: u32,
    /// Places in the order in which both sides count, once the list is complete; the number is one more than the
    /// place among the entries.
    order: Vec<NonZeroU32>,
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that came last.
    pub(super) fn last(&self) -> Option<Listed<'_>> {
        self.listed(self.entries.last()?)
    }

    /// The entry that both sides mean by `index`.
    pub(super) fn get(&self, index: u32) -> Option<Listed<'_>> {
        let place = self.order.get(usize::try_from(index).ok()?)?.get() - 1;
        self.listed(self.entries.get(place as usize)?)
    }

    fn listed(&self, entry: &Entry) -> Option<Listed<'_>> {
        let text = self.text.get(entry.start as usize..)?;
        let (name, rest) = text.split_at_checked(usize::from(entry.name))?;
        let link = rest.get(..usize::from(entry.link))?;
        Some(Listed { name, kind: entry.kind, size: entry.size, link })
    }

    /// Reads one entry or the end.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        shape: Shape,
        options: &Options,
    ) -> Result<Read, Stop> {
        let Some(flags) = flags(cursor, shape)? else { return Ok(Read::End) };
        let shared = match flags & SAME_NAME {
            0 => 0,
            _ => usize::from(cursor.byte()?),
        };
        let Some(shared) = self.last_name.get(..shared) else {
            return Err(Stop::Bad("a name that begins as no other does"));
        };
        let rest = match flags & LONG_NAME {
            0 => usize::from(cursor.byte()?),
            _ => cursor.length(MAX_NAME)?,
        };
        if shared.len() + rest > MAX_NAME {
            return Err(Stop::Bad("a name that is too long"));
        }
        let rest = cursor.take(rest)?;
        let name = [shared, rest].concat();
        if !is_clean(&name) {
            return Err(Stop::Bad("a name that is not in its plain form"));
        }
        if flags & (LINKED | FIRST_LINK) == LINKED {
            let first = usize::try_from(cursor.varint()?).ok().and_then(|first| self.entries.get(first));
            let Some(first) = first.copied() else { return Err(Stop::Bad("a link to no file")) };
            let link = self.listed(&first).map(|first| first.link.to_vec()).unwrap_or_default();
            self.mode = first.mode;
            return self.add(name, &link, first.size, first.kind);
        }
        let mut size = cursor.size()?;
        if flags & SAME_TIME == 0 {
            cursor.varlong(4)?;
        }
        if flags & NANOSECONDS != 0 {
            cursor.varint()?;
        }
        if options.has('N') && flags & CREATED_AS_CHANGED == 0 {
            cursor.varlong(4)?;
        }
        let mode = if flags & SAME_MODE == 0 { cursor.int()? as u32 } else { self.mode };
        let Some(kind) = Kind::of(mode) else { return Err(Stop::Bad("a file of no known kind")) };
        if options.has('U') && kind != Kind::Folder && flags & SAME_ACCESS_TIME == 0 {
            cursor.varlong(4)?;
        }
        for (letter, same, named) in [('o', SAME_USER, USER_FOLLOWS), ('g', SAME_GROUP, GROUP_FOLLOWS)] {
            if options.has(letter) && flags & same == 0 {
                cursor.varint()?;
                if flags & named != 0 {
                    let length = usize::from(cursor.byte()?);
                    cursor.take(length)?;
                }
            }
        }
        let has_device = match kind {
            Kind::Device => options.has('D'),
            Kind::Special => options.specials && shape.protocol < 31,
            _ => false,
        };
        if has_device {
            if flags & SAME_MAJOR == 0 {
                cursor.varint()?;
            }
            cursor.varint()?;
            size = 0;
        }
        let link = match kind {
            Kind::Link if options.has('l') => {
                let length = cursor.length(MAX_NAME)?;
                cursor.take(length)?
            }
            _ => b"",
        };
        if options.has('c') && kind == Kind::File {
            cursor.take(shape.checksum)?;
        }
        self.mode = mode;
        self.add(name, link, size, kind)
    }

    fn add(&mut self, name: Vec<u8>, link: &[u8], size: u64, kind: Kind) -> Result<Read, Stop> {
        let (start, bytes) = (self.text.len(), name.len() + link.len());
        if self.entries.len() >= MAX_FILES || start + bytes > MAX_BYTES {
            return Err(Stop::Bad("a list of more than 1,000,000 names or 64 MiB of them"));
        }
        self.text.extend_from_slice(&name);
        self.text.extend_from_slice(link);
        // Both are bounded by the checks above.
        let (start, length) =
            (u32::try_from(start).unwrap_or(0), |part: &[u8]| u16::try_from(part.len()).unwrap_or(0));
        self.entries.push(Entry {
            start,
            name: length(&name),
            link: length(link),
            size,
            kind,
            mode: self.mode,
        });
        self.last_name = name;
        Ok(Read::Entry)
    }

    /// Brings the list into the order in which both sides count (`f_name_cmp` of flist.c).
    pub(super) fn sort(&mut self) {
        self.last_name = Vec::new();
        let mut order: Vec<NonZeroU32> =
            (1..=self.entries.len()).filter_map(|n| NonZeroU32::new(u32::try_from(n).ok()?)).collect();
        let key = |place: &NonZeroU32| {
            let entry = self.entries.get(place.get() as usize - 1).and_then(|entry| self.listed(entry));
            entry.map(|entry| (entry.name, entry.kind == Kind::Folder)).unwrap_or((b"", false))
        };
        order.sort_by(|a, b| compare(key(a), key(b)));
        self.order = order;
    }
}

/// The flags of an entry, or `None` at the end of the list.
fn flags(cursor: &mut Cursor<'_>, shape: Shape) -> Result<Option<u32>, Stop> {
    let flags = if shape.wide_flags {
        match cursor.varint()? as u32 {
            0 => {
                cursor.varint()?;
                return Ok(None);
            }
            flags => flags,
        }
    } else {
        match u32::from(cursor.byte()?) {
            0 => return Ok(None),
            low if low & EXTENDED != 0 => low | u32::from(cursor.byte()?) << 8,
            low => low,
        }
    };
    if !shape.wide_flags && flags == EXTENDED | FIRST_LINK {
        if !shape.safe_end {
            return Err(Stop::Bad("an end of the list that was not agreed"));
        }
        cursor.varint()?;
        return Ok(None);
    }
    Ok(Some(flags))
}

/// As an honest sender writes names: no empty part, no `.` but as the last part, no `..`, no NUL; from the root on only
/// with `-R`, which the receiver checks.
fn is_clean(name: &[u8]) -> bool {
    let name = match name {
        [b'/', rest @ ..] if !rest.is_empty() => rest,
        name => name,
    };
    let mut parts = name.split(|byte| *byte == b'/');
    let last = parts.next_back().unwrap_or_default();
    !last.is_empty()
        && last != b".."
        && !name.contains(&0)
        && parts.all(|part| !part.is_empty() && part != b"." && part != b"..")
}

/// In each folder first what is no folder, then the folders, each before its contents; by bytes, a folder's name as if
/// it ended in `/`. A `.` stands for its folder.
fn compare(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    // Folders that both lie in need not be looked at part by part.
    let same = a.0.iter().zip(b.0).take_while(|(a, b)| a == b).count();
    let start =
        a.0.get(..same).and_then(|same| same.iter().rposition(|byte| *byte == b'/')).map_or(0, |at| at + 1);
    let rest = |(name, folder): (_, bool)| key((<[u8]>::get(name, start..).unwrap_or_default(), folder));
    rest(a).cmp(rest(b))
}

fn key((name, folder): (&[u8], bool)) -> impl Iterator<Item = u8> + '_ {
    let mut parts = name.split(|byte| *byte == b'/').peekable();
    std::iter::from_fn(move || {
        let part = parts.next()?;
        let last = parts.peek().is_none();
        (!(last && folder && part == b".")).then_some((part, folder || !last))
    })
    .flat_map(|(part, folder)| {
        std::iter::once(u8::from(folder)).chain(part.iter().copied()).chain(folder.then_some(b'/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_rsync() {
        let sorted: [(&[u8], bool); 12] = [
            (b".", true),
            (b"a.txt", false),
            (b"b", false),
            (b"ba", false),
            (b"a-b", true),
            (b"a-b/z", false),
            (b"a", true),
            (b"a/y", false),
            (b"a/b", true),
            (b"a/b/c", false),
            (b"a0", true),
            (b"z", true),
        ];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.sort_by(|a, b| compare(*a, *b));
        assert_eq!(shuffled, sorted);
        assert_eq!(compare((b"a/.", true), (b"a", true)), Ordering::Equal);
    }

    #[test]
    fn only_plain_names_are_taken() {
        for (name, clean) in [
            (&b"a/b"[..], true),
            (b".", true),
            (b"a/.", true),
            (b"/a/b", true),
            (b"a\nb", true),
            (b"", false),
            (b"/", false),
            (b"a//b", false),
            (b"./a", false),
            (b"a/../b", false),
            (b"..", false),
            (b"a/", false),
            (b"a\0b", false),
        ] {
            assert_eq!(is_clean(name), clean, "{name:?}");
        }
    }
}
