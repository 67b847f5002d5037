//! Paths: normal form, the patterns that rules are made of, and a form that is safe to show.

use std::fmt::Write as _;

/// Longest path that is let through, in bytes (Linux's `PATH_MAX`).
pub(crate) const MAX_PATH: usize = 4096;
/// Most patterns in one set.
const MAX_PATTERNS: usize = 256;

/// A pattern that cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPattern {
    /// Not absolute.
    #[error("path pattern {0:?} is not absolute: start it with /")]
    Relative(String),
    /// Holds `.`, `..`, an empty name or a NUL.
    #[error("path pattern {0:?} holds an empty name, `.`, `..` or a control character: write the plain path")]
    NotNormal(String),
    /// `**` is only a whole name.
    #[error("path pattern {0:?} uses ** inside a name: put it between slashes")]
    StarStar(String),
    /// Too long or too many.
    #[error("too many path patterns, or one is longer than {MAX_PATH} bytes: use fewer, wider ones")]
    TooMany,
}

/// How near a path is to what the patterns allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// No pattern can match here or below.
    Outside,
    /// Something further below may be allowed.
    Ancestor,
    /// Something directly inside may be allowed: listing it is needed to get there.
    Parent,
    /// Allowed itself.
    Inside,
}

/// A set of absolute path patterns: `*` stands for any part of one name, `**` for any number of names.
/// The empty set allows every path. `/a/**` covers `/a` too.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathRules(Vec<Vec<Vec<u8>>>);

impl PathRules {
    /// Every path.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn any() -> Self {
        Self::default()
    }

    /// No path, and no folder's names.
    pub(crate) fn none() -> Self {
        // No name is empty, and no folder is directly above two that are.
        Self(vec![vec![Vec::new(), Vec::new()]])
    }

    /// Reads patterns; a bad one is an error and never a pattern that matches nothing.
    pub(crate) fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        if patterns.len() > MAX_PATTERNS {
            return Err(BadPattern::TooMany);
        }
        patterns.iter().map(|p| parse_one(p.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether some paths are out of bounds.
    pub(crate) fn restrict(&self) -> bool {
        !self.0.is_empty()
    }

    /// How near `path` (in normal form, see [`normalise`]) is to what is allowed.
    pub(crate) fn reach(&self, path: &[u8]) -> Reach {
        if self.0.is_empty() {
            return Reach::Inside;
        }
        let mut best = Reach::Outside;
        for pattern in &self.0 {
            best = best.max(reach_one(pattern, path));
        }
        best
    }

    /// Whether everything below `path` (in normal form) is allowed, whatever its name.
    pub(crate) fn covers_below(&self, path: &[u8]) -> bool {
        let open_ended = |pattern: &Vec<Vec<u8>>| pattern.last().is_some_and(|last| last == b"**");
        self.0.is_empty() || self.0.iter().any(|p| open_ended(p) && reach_one(p, path) == Reach::Inside)
    }

    /// Whether whatever is allowed below `to` is allowed below `from` (both in normal form), too.
    pub(crate) fn no_more_below(&self, from: &[u8], to: &[u8]) -> bool {
        let same = |pattern: &Vec<Vec<u8>>| {
            let positions = live(pattern, to).into_iter().zip(live(pattern, from)).take(pattern.len());
            positions.into_iter().all(|(to, from)| !to || from)
        };
        self.covers_below(from) || self.0.iter().all(same)
    }
}

fn parse_one(pattern: &str) -> Result<Vec<Vec<u8>>, BadPattern> {
    if pattern.len() > MAX_PATH {
        return Err(BadPattern::TooMany);
    }
    let Some(rest) = pattern.strip_prefix('/') else {
        return Err(BadPattern::Relative(pattern.to_owned()));
    };
    let mut names = Vec::new();
    for name in rest.split('/') {
        if rest.is_empty() {
            break;
        }
        if name.is_empty() || name == "." || name == ".." || name.contains(char::is_control) {
            return Err(BadPattern::NotNormal(pattern.to_owned()));
        }
        if name != "**" && name.contains("**") {
            return Err(BadPattern::StarStar(pattern.to_owned()));
        }
        names.push(name.as_bytes().to_vec());
    }
    Ok(names)
}

/// The positions in the pattern that `path` leads to. They run side by side, so that no pattern costs more than its length per
/// name.
fn live(pattern: &[Vec<u8>], path: &[u8]) -> Vec<bool> {
    let end = pattern.len();
    let mut live = vec![false; end + 1];
    live[0] = true;
    spread(pattern, &mut live);
    for name in names(path) {
        let mut next = vec![false; end + 1];
        for (i, part) in pattern.iter().enumerate().filter(|(i, _)| live[*i]) {
            if part == b"**" {
                next[i] = true;
            } else if name_matches(part, name) {
                next[i + 1] = true;
            }
        }
        spread(pattern, &mut next);
        live = next;
    }
    live
}

fn reach_one(pattern: &[Vec<u8>], path: &[u8]) -> Reach {
    let end = pattern.len();
    let live = live(pattern, path);
    if live[end] {
        Reach::Inside
    } else if end > 0 && live[end - 1] {
        Reach::Parent
    } else if live.contains(&true) {
        Reach::Ancestor
    } else {
        Reach::Outside
    }
}

fn spread(pattern: &[Vec<u8>], live: &mut [bool]) {
    for (i, part) in pattern.iter().enumerate() {
        if live[i] && part == b"**" {
            live[i + 1] = true;
        }
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty())
}

/// `*` in `part` stands for any run of bytes of `name`.
fn name_matches(part: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match part.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    part.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// The absolute path without `.`, `..` and doubled slashes. `None` when `path` is relative and `base` is not known.
pub(crate) fn normalise(path: &[u8], base: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let base = if path.starts_with(b"/") { b"".as_slice() } else { base? };
    for name in names(base).chain(names(path)) {
        match name {
            b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut whole = Vec::with_capacity(path.len() + base.len() + 1);
    for part in &parts {
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    Some(whole)
}

/// The folder that holds `path` (in normal form).
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(at) => path.get(..at).unwrap_or(b"/"),
    }
}

/// `text` with everything that a terminal or a bidirectional layout would act on written as an escape.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if !acts {
            shown.push(c);
        } else if (c as u32) < 0x100 {
            // Writing into a String cannot fail.
            write!(shown, "\\x{:02x}", c as u32).unwrap_or_default();
        } else {
            write!(shown, "\\u{{{:x}}}", c as u32).unwrap_or_default();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_reaches_its_files_their_folder_and_the_way_there() {
        let rules = PathRules::parse(&["/srv/drop/*.bin", "/opt/**", "/home/*/in/**/*.csv"]).unwrap();
        for (path, reach) in [
            ("/srv/drop/a.bin", Reach::Inside),
            ("/srv/drop/a.txt", Reach::Outside),
            ("/srv/drop", Reach::Parent),
            ("/srv", Reach::Ancestor),
            ("/", Reach::Ancestor),
            ("/etc", Reach::Outside),
            ("/opt", Reach::Inside),
            ("/opt/a/b", Reach::Inside),
            ("/home/vera/in/a.csv", Reach::Inside),
            ("/home/vera/in/x/y/a.csv", Reach::Inside),
            ("/home/vera/in/x/y", Reach::Parent),
            ("/home/vera", Reach::Ancestor),
            ("/home/vera/out/a.csv", Reach::Outside),
        ] {
            assert_eq!(rules.reach(path.as_bytes()), reach, "{path}");
        }
        assert_eq!(PathRules::any().reach(b"/x"), Reach::Inside);
        assert_eq!(PathRules::parse(&["/"]).unwrap().reach(b"/"), Reach::Inside);
        assert_eq!(PathRules::parse(&["/"]).unwrap().reach(b"/a"), Reach::Outside);
    }

    #[test]
    fn no_path_means_none() {
        for path in ["/", "/a", "/a/b", "//"] {
            assert!(PathRules::none().reach(path.as_bytes()) < Reach::Parent, "{path}");
            assert!(!PathRules::none().covers_below(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_new_name_that_allows_no_more_below_it_is_found() {
        let rules = PathRules::parse(&["/srv/*", "/open/**", "/home/*/in/**/*.csv"]).unwrap();
        for (from, to, no_more) in [
            ("/srv/x", "/open/x", false),
            ("/srv/a.part", "/srv/a", true),
            ("/open/x", "/srv/x", true),
            ("/open/x", "/open/y", true),
            ("/home/vera/in/a.csv", "/home/vera/in/b.csv", true),
            ("/srv/x", "/home/vera/in/x.csv", false),
        ] {
            assert_eq!(rules.no_more_below(from.as_bytes(), to.as_bytes()), no_more, "{from} {to}");
        }
    }

    #[test]
    fn a_bad_pattern_is_an_error_and_not_one_that_never_matches() {
        for bad in ["", "a/b", "/a/../b", "/a//b", "/a/", "/a/x**", "/a\0"] {
            assert!(PathRules::parse(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn normal_form_needs_a_base_only_for_relative_paths() {
        assert_eq!(normalise(b"/a/./b//../c", None).unwrap(), b"/a/c");
        assert_eq!(normalise(b"/../..", None).unwrap(), b"/");
        assert_eq!(normalise(b"x/../y", Some(b"/home/v")).unwrap(), b"/home/v/y");
        assert_eq!(normalise(b"", Some(b"/home/v")).unwrap(), b"/home/v");
        assert_eq!(normalise(b"x", None), None);
        assert_eq!(parent(b"/a/b"), b"/a");
        assert_eq!(parent(b"/a"), b"/");
    }

    #[test]
    fn shown_text_carries_no_escape() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\u{9b}d\n"), "a\\x1b[2Jb\\u{202e}c\\x9bd\\x0a");
        assert_eq!(printable("Prüfstand 7.bin"), "Prüfstand 7.bin");
    }

    proptest! {
        #[test]
        fn normal_form_is_stable_and_holds_no_dots(path in "(/|[a-c.]|\\.\\.){0,24}") {
            let once = normalise(path.as_bytes(), Some(b"/base")).unwrap();
            prop_assert_eq!(normalise(&once, None).unwrap(), once.clone());
            prop_assert!(names(&once).all(|n| n != b".." && n != b"."));
        }

        #[test]
        fn any_pattern_matches_itself_and_no_input_panics(pattern in "(/[a-c*]{1,3}){1,4}", path in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(rules) = PathRules::parse(&[&pattern]) {
                prop_assert_eq!(rules.reach(pattern.as_bytes()), Reach::Inside);
                rules.reach(&path);
            }
        }
    }
}
