//! Paths on a person's drive, as a target names them.
//!
//! The person's machine may be a Windows machine, where one file has many names. A name that could mean another file than
//! the one that was judged is refused, whatever the machine is.

use crate::wire::Reader;

/// Longest path, UTF-16 units.
const MAX_UNITS: usize = 1024;
/// Longest name, UTF-16 units.
const MAX_NAME: usize = 255;

/// Characters that are in no name, or mean something else in one: a stream of NTFS, a wildcard, another separator.
const NOT_IN_NAMES: &[char] = &['/', ':', '*', '?', '"', '<', '>', '|'];

/// Names of devices, which Windows finds in every folder (with any ending).
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"];

/// The text in a UTF-16 field that may end in zeros. `None`: no UTF-16, too long, or with a zero inside.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    if !bytes.len().is_multiple_of(2) || bytes.len() > 2 * MAX_UNITS + 2 {
        return None;
    }
    let mut units = Vec::new();
    let mut at = Reader(bytes);
    while let Some(unit) = at.u16() {
        units.push(unit);
    }
    while units.last() == Some(&0) {
        units.pop();
    }
    if units.len() > MAX_UNITS || units.contains(&0) {
        return None;
    }
    String::from_utf16(&units).ok()
}

/// Puts `\` in the place of every `/`, which some targets write: what goes on has one separator.
pub(super) fn one_separator(message: &mut [u8], at: usize) {
    for unit in message.get_mut(at..).unwrap_or_default().as_chunks_mut().0 {
        if *unit == [b'/', 0] {
            *unit = [b'\\', 0];
        }
    }
}

/// The path below `drive` in normal form, `/DRIVE/FOLDER/FILE`. `None`: it is not one that can be judged.
pub(crate) fn normal(drive: &str, path: &str) -> Option<String> {
    let mut normal = format!("/{drive}");
    let inner = match path.strip_prefix('\\') {
        Some(inner) => inner,
        None if path.is_empty() => "",
        None => return None,
    };
    if inner.is_empty() {
        return Some(normal);
    }
    let inner = inner.strip_suffix('\\').unwrap_or(inner);
    for name in inner.split('\\') {
        if !plain(name) {
            return None;
        }
        normal.push('/');
        normal.push_str(name);
    }
    Some(normal)
}

/// Splits what a listing asks for into its folder and the pattern for names.
pub(super) fn folder(path: &str) -> Option<(&str, &str)> {
    let (folder, pattern) = path.rsplit_once('\\')?;
    let dots = !pattern.is_empty() && pattern.chars().all(|c| c == '.' || c == ' ');
    (!dots && !pattern.contains(['/', ':'])).then_some((folder, pattern))
}

/// Whether a name means one file, whatever machine reads it.
fn plain(name: &str) -> bool {
    let shown = !name.chars().any(|c| c.is_control() || NOT_IN_NAMES.contains(&c));
    // Windows drops dots and spaces at the end, so that "..  " is "..".
    let ends = name.ends_with(['.', ' ']);
    !name.is_empty()
        && name.encode_utf16().count() <= MAX_NAME
        && shown
        && !ends
        && !device(name)
        && !short(name)
}

fn device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_uppercase();
    let numbered = ["COM", "LPT"].iter().any(|port| {
        let number = stem.strip_prefix(port).unwrap_or_default();
        number.chars().count() == 1 && number.chars().all(|c| c.is_ascii_digit() || "¹²³".contains(c))
    });
    numbered || DEVICES.contains(&stem.as_str())
}

/// A name as `LONGNA~1.TXT`, which stands for another one; some servers put one letter in the place of the number.
fn short(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let Some((head, number)) = stem.rsplit_once('~') else { return false };
    stem.chars().count() <= 8
        && ending.chars().count() <= 3
        && !head.is_empty()
        && !number.is_empty()
        && (number.bytes().all(|b| b.is_ascii_digit()) || number.len() == 1 && number.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_has_one_form_and_one_that_could_mean_another_file_has_none() {
        for (path, form) in [
            ("", "/c"),
            ("\\", "/c"),
            ("\\a", "/c/a"),
            ("\\a\\b c\\d.txt", "/c/a/b c/d.txt"),
            ("\\a\\", "/c/a"),
            ("\\Prüfstand~.txt", "/c/Prüfstand~.txt"),
            ("\\.profile", "/c/.profile"),
        ] {
            assert_eq!(normal("c", path).as_deref(), Some(form), "{path}");
        }
        for path in [
            "a",
            "..",
            "\\..",
            "\\a\\..\\b",
            "\\a\\.",
            "\\a\\..  ",
            "\\..\\..\\etc\\passwd",
            "\\a\\\\b",
            "\\\\",
            "\\a/b",
            "\\/etc",
            "\\a.txt:secret",
            "\\a.txt::$DATA",
            "\\a.",
            "\\a ",
            "\\NUL",
            "\\a\\com1.txt",
            "\\lpt²",
            "\\SECRET~1",
            "\\secre~12.txt",
            "\\a*",
            "\\a?",
            "\\a\u{7}",
        ] {
            assert_eq!(normal("c", path), None, "{path:?}");
        }
    }

    #[test]
    fn text_is_utf_16_without_zeros_inside() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        assert_eq!(text(&utf16("\\a\0")).as_deref(), Some("\\a"));
        assert_eq!(text(&utf16("\\a\0b")), None);
        assert_eq!(text(&[0x5c]), None, "half a unit");
        assert_eq!(text(&[0x00, 0xd8]), None, "half a character");
        assert_eq!(text(&utf16(&"a".repeat(MAX_UNITS + 1))), None);
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_its_drive(path in "(\\\\|\\.|[a-c ~1:/]){0,24}") {
            if let Some(normal) = normal("c", &path) {
                prop_assert!(normal.starts_with("/c"));
                prop_assert!(normal.split('/').skip(1).all(|n| !n.is_empty() && n != "." && n != ".."));
            }
        }
    }
}
