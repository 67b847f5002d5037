//! What a person's machine answers to questions about files, folders and drives (MS-RDPEFS 2.2.3.4, MS-FSCC 2.4, 2.5):
//! as much of it as its kind has, everything that nobody reads zero.

use super::request::wipe;
use crate::wire::{Reader, u32_at};

/// Questions about a file that are answered: `FileBasicInformation`, `FileStandardInformation`,
/// `FileAttributeTagInformation`.
pub(super) const FILE: &[u32] = &[4, STANDARD, 35];
/// Questions about a drive: label, size, device, file system, full size.
pub(super) const VOLUME: &[u32] = &[LABEL, 3, 4, SYSTEM, 7];
/// Kinds of listings: plain, full, both names, only names.
pub(super) const NAMES: &[u32] = &[1, 2, BOTH, 12];

/// `FileStandardInformation`, whose second field is the size.
pub(super) const STANDARD: u32 = 5;
/// `FileFsVolumeInformation`.
const LABEL: u32 = 1;
/// `FileFsAttributeInformation`.
const SYSTEM: u32 = 5;
/// `FileBothDirectoryInformation`, with a second, short name.
const BOTH: u32 = 3;

/// Longest name, and longest label of a drive or name of its file system, bytes.
const MAX_NAME: usize = 255 * 2;
const MAX_LABEL: usize = 32 * 2;

/// What is known of a file.
pub(super) fn file(class: u32, data: &[u8]) -> Option<Vec<u8>> {
    let (longest, used) = match class {
        4 => (40, 36),
        STANDARD => (24, 22),
        35 => (8, 8),
        _ => return None,
    };
    Some(cut(data, longest, used))
}

/// What is known of a drive.
pub(super) fn volume(class: u32, data: &[u8]) -> Option<Vec<u8>> {
    match class {
        3 => Some(cut(data, 24, 24)),
        4 => Some(cut(data, 8, 8)),
        7 => Some(cut(data, 32, 32)),
        // Some clients leave the byte out that pads what is before the label.
        LABEL => [17, 18].into_iter().find_map(|head| named(data, 12, head, MAX_LABEL)),
        SYSTEM => named(data, 8, 12, MAX_LABEL),
        _ => None,
    }
}

/// One entry of a folder. `None`: it is not one, or not only one.
pub(super) fn entry(class: u32, data: &[u8]) -> Option<Vec<u8>> {
    // Where the name's length stands, and where the name may begin: some clients leave out a byte of padding.
    let (len, heads): (usize, &[usize]) = match class {
        1 => (60, &[64]),
        2 => (60, &[68]),
        BOTH => (60, &[93, 94]),
        12 => (8, &[12]),
        _ => return None,
    };
    let (mut entry, head) =
        heads.iter().find_map(|head| Some((named(data, len, *head, MAX_NAME)?, *head)))?;
    if u32_at(&entry, 0) != Some(0) || units(entry.get(head..)?).any(|unit| unit == 0) {
        return None;
    }
    // The number among its like, and whatever is between the name's length and the name: extended attributes, a short name.
    wipe(&mut entry, 4..8);
    wipe(&mut entry, len + 4..head);
    Some(entry)
}

fn cut(data: &[u8], longest: usize, used: usize) -> Vec<u8> {
    let mut data: Vec<u8> = data.iter().take(longest).copied().collect();
    let len = data.len();
    wipe(&mut data, used.min(len)..len);
    data
}

/// `data` where it is `head` bytes and the name whose length stands at `len`.
fn named(data: &[u8], len: usize, head: usize, most: usize) -> Option<Vec<u8>> {
    let name = usize::try_from(u32_at(data, len)?).ok()?;
    let fits = name <= most && name.is_multiple_of(2) && head.checked_add(name) == Some(data.len());
    fits.then(|| data.to_vec())
}

fn units(mut name: &[u8]) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let mut at = Reader(name);
        let unit = at.u16();
        name = at.0;
        unit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of a folder with all that is not its name's length or name at 0xff, but the offset to the next.
    fn entry_of(len: usize, head: usize, name: &[u8]) -> Vec<u8> {
        let mut entry = [[0; 4].as_slice(), &vec![0xff; head - 4], name].concat();
        crate::wire::put(&mut entry, len, &u32::try_from(name.len()).unwrap().to_le_bytes());
        entry
    }

    #[test]
    fn an_entry_of_a_folder_is_one_name_that_fits_and_nothing_besides() {
        for (class, len, head) in [(1, 60, 64), (2, 60, 68), (3, 60, 93), (3, 60, 94), (12, 8, 12)] {
            let whole = entry_of(len, head, b"a\0.\0b\0");
            let kept = entry(class, &whole).unwrap();
            assert_eq!((kept.len(), &kept[head..]), (whole.len(), b"a\0.\0b\0".as_slice()), "{class}");
            assert!(
                kept[4..8].iter().chain(&kept[len + 4..head]).all(|byte| *byte == 0),
                "{class}: unread bytes"
            );
            assert_eq!(
                entry(class, &[whole.as_slice(), &[0; 2]].concat()),
                None,
                "{class}: something behind it"
            );
            assert_eq!(entry(class, &whole[..whole.len() - 2]), None, "{class}: cut");
            let mut more = whole.clone();
            more[0] = 8;
            assert_eq!(entry(class, &more), None, "{class}: a second one");
            assert_eq!(entry(class, &entry_of(len, head, &[b'a', 0].repeat(256))), None, "{class}: too long");
            assert_eq!(entry(class, &entry_of(len, head, b"a\0\0\0")), None, "{class}: a zero inside");
            assert_eq!(entry(class, &entry_of(len, head, b"abc")), None, "{class}: half a character");
        }
        assert_eq!(entry(99, &[0; 99]), None);
    }

    #[test]
    fn figures_are_as_long_as_their_kind() {
        for (class, longest, used) in [(4, 40, 36), (5, 24, 22), (35, 8, 8)] {
            let kept = file(class, &[0xff; 99]).unwrap();
            assert_eq!(kept.iter().filter(|byte| **byte == 0xff).count(), used, "{class}");
            assert_eq!(kept.len(), longest, "{class}");
            assert_eq!(file(class, &[1; 5]), Some(vec![1; 5]), "{class}");
        }
        for (class, longest) in [(3, 24), (4, 8), (7, 32)] {
            assert_eq!(volume(class, &[0xff; 99]), Some(vec![0xff; longest]), "{class}");
        }
        let mut label = [0; 17].to_vec();
        label[12] = 4;
        label.extend(b"C\0:\0");
        assert_eq!(volume(1, &label), Some(label.clone()));
        assert_eq!(volume(1, &[label.as_slice(), b"more"].concat()), None);
        assert_eq!(
            volume(5, &[[0; 8].as_slice(), &[6, 0, 0, 0], b"F\0A\0T\0"].concat()).map(|v| v.len()),
            Some(18)
        );
        assert_eq!((file(18, &[0; 8]), volume(2, &[0; 8])), (None, None), "kinds that nobody needs");
    }
}
