//! The text of an `authorized_keys` file (sshd(8)): one key added, others removed, everything else as it was, byte by byte.

/// The beginnings of the names of key types, which tell a key from the options before it.
const TYPES: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// What a line says, if it holds a key.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    /// As written, with quotes; empty for none.
    options: &'a str,
    /// The key in base64.
    blob: &'a str,
    comment: &'a str,
}

/// Adds the line `key` (type, base64, comment), with the options that the line of `beside` (base64) has: a key that was
/// bound to an address stays so. A key that is there already is not added again.
pub(super) fn add(file: &[u8], beside: Option<&str>, key: &str) -> Vec<u8> {
    let new = parse(key).map(|entry| entry.blob);
    let mut options = None;
    for line in split(file) {
        let Some(entry) = std::str::from_utf8(line).ok().and_then(parse) else { continue };
        if Some(entry.blob) == new {
            return file.to_vec();
        }
        if options.is_none() && beside == Some(entry.blob) {
            options = Some(entry.options.to_owned());
        }
    }
    let mut out = file.to_vec();
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    if let Some(options) = options.filter(|options| !options.is_empty()) {
        out.extend_from_slice(options.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(key.as_bytes());
    out.push(b'\n');
    out
}

/// Leaves out the lines whose key is one of `gone` (base64), or is not `kept` and has the comment `mark`: keys of ours that
/// an interrupted rotation left behind.
pub(super) fn remove(file: &[u8], kept: &str, gone: &[String], mark: &str) -> Vec<u8> {
    let ours = |line: &[u8]| {
        std::str::from_utf8(line).ok().and_then(parse).is_some_and(|entry| {
            entry.blob != kept && (entry.comment == mark || gone.iter().any(|blob| blob == entry.blob))
        })
    };
    split(file).filter(|line| !ours(line)).flatten().copied().collect()
}

/// Whether a line holds the key (base64).
pub(super) fn holds(file: &[u8], blob: &str) -> bool {
    split(file)
        .any(|line| std::str::from_utf8(line).ok().and_then(parse).is_some_and(|entry| entry.blob == blob))
}

/// Lines with their ends.
fn split(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|byte| *byte == b'\n')
}

fn parse(line: &str) -> Option<Entry<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (first, rest) = word(line)?;
    if is_type(first) {
        return entry("", rest);
    }
    let (kind, rest) = word(rest)?;
    if is_type(kind) { entry(first, rest) } else { None }
}

fn entry<'a>(options: &'a str, rest: &'a str) -> Option<Entry<'a>> {
    let (blob, comment) = word(rest)?;
    Some(Entry { options, blob, comment: comment.trim() })
}

fn is_type(word: &str) -> bool {
    TYPES.iter().any(|start| word.starts_with(start))
}

/// The text up to the first blank outside of quotes, and what follows. A backslash before a quote takes its meaning away.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let (mut quoted, mut escaped) = (false, false);
    let end = text
        .char_indices()
        .find(|(_, c)| {
            if *c == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = *c == '\\' && !escaped;
            c.is_ascii_whitespace() && !quoted
        })
        .map_or(text.len(), |(at, _)| at);
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOld";
    const NEW: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINew cofferdam:root@hmi";
    const NEW_BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAINew";
    const MARK: &str = "cofferdam:root@hmi";

    fn file() -> String {
        format!(
            "# vendor's note, do not touch\r\n\n\
             from=\"10.0.0.1\",command=\"echo \\\"a b\\\"\" ssh-ed25519 {OLD} {MARK}\n\
             ssh-rsa AAAAB3Nza emil@plant\n\
             cert-authority ecdsa-sha2-nistp256 AAAAE2Vj the site's authority\n\
             not a key at all \u{fc}\n\
             \tssh-ed25519 AAAALast no end of line"
        )
    }

    #[test]
    fn the_new_key_gets_the_options_of_the_old_one_and_foreign_lines_stay_as_they_are() {
        let file = file();
        let added = add(file.as_bytes(), Some(OLD), NEW);
        let expected = format!("{file}\nfrom=\"10.0.0.1\",command=\"echo \\\"a b\\\"\" {NEW}\n");
        assert_eq!(String::from_utf8(added.clone()).unwrap(), expected);
        let removed = String::from_utf8(remove(&added, NEW_BLOB, &[OLD.to_owned()], MARK)).unwrap();
        let old_line = file.lines().find(|line| line.contains(OLD)).unwrap();
        assert_eq!(removed, expected.replace(&format!("{old_line}\n"), ""));
    }

    #[test]
    fn a_key_is_not_added_twice_and_never_removed_when_it_is_the_one_that_counts() {
        let once = add(file().as_bytes(), Some(OLD), NEW);
        assert_eq!(add(&once, Some(OLD), NEW), once);
        assert!(holds(&remove(&once, NEW_BLOB, &[NEW_BLOB.to_owned()], MARK), NEW_BLOB));
    }

    #[test]
    fn what_an_interrupted_rotation_left_behind_is_removed_by_its_mark_alone() {
        let left = format!("ssh-ed25519 AAAALeft {MARK}\nssh-ed25519 AAAAOther {MARK}-2\n{NEW}\n");
        let removed = String::from_utf8(remove(left.as_bytes(), NEW_BLOB, &[], MARK)).unwrap();
        assert_eq!(removed, format!("ssh-ed25519 AAAAOther {MARK}-2\n{NEW}\n"));
    }

    #[test]
    fn a_key_in_a_comment_or_in_an_option_is_no_key() {
        for line in [
            format!("# ssh-ed25519 {OLD} x"),
            format!("command=\"ssh-ed25519 {OLD} x\" ssh-rsa AAAAB3 y"),
            format!("environment=\"A=\\\" ssh-ed25519 {OLD} x"),
        ] {
            assert!(!holds(line.as_bytes(), OLD), "{line}");
            assert_eq!(remove(line.as_bytes(), NEW_BLOB, &[OLD.to_owned()], MARK), line.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_panic_and_all_that_is_not_ours_stays(file in proptest::collection::vec(any::<u8>(), 0..400)) {
            let added = add(&file, Some(OLD), NEW);
            prop_assert!(added.starts_with(&file));
            prop_assert!(holds(&added, NEW_BLOB));
            prop_assert_eq!(remove(&file, NEW_BLOB, &[OLD.to_owned()], MARK), file);
        }

        #[test]
        fn lines_that_are_not_ours_stay_in_their_order(lines in proptest::collection::vec("[ -~]{1,60}", 0..12), at in 0_usize..12) {
            let mut lines = lines;
            let at = at.min(lines.len());
            lines.insert(at, format!("ssh-ed25519 {OLD} x"));
            let text = lines.join("\n");
            let done = remove(&add(text.as_bytes(), Some(OLD), NEW), NEW_BLOB, &[OLD.to_owned()], MARK);
            let kept: Vec<&str> = std::str::from_utf8(&done).unwrap().lines().collect();
            lines.remove(at);
            prop_assert_eq!(kept.last().copied(), Some(NEW));
            prop_assert_eq!(&kept[..kept.len() - 1], lines.as_slice());
        }
    }
}
