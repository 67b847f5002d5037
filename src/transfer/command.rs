//! Recognises a file transfer in the command line of an exec request.

use std::borrow::Cow;

use super::rsync::{RsyncCommand, without_incremental};
use super::scp::ScpCommand;

/// A transfer that a client starts by exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Legacy scp (`scp -t` or `scp -f`).
    Scp(ScpCommand),
    /// `rsync --server`.
    Rsync(RsyncCommand),
    /// An SFTP server run by its path: follow it with the SFTP inspector.
    SftpServer,
}

/// One word as the target's shell will see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The text without quotes.
    pub(crate) text: String,
    /// The shell may turn it into other words: it holds a pattern or starts with `~`, not quoted.
    pub(crate) expands: bool,
}

/// What `command` transfers. `None`: it is not a plain call of scp, rsync or an SFTP server; then it is a command
/// like any other and it is for policy to say whether those may run.
pub(crate) fn detect(command: &str) -> Option<Kind> {
    let words = words(command)?;
    let (program, rest) = words.split_first()?;
    if program.expands {
        return None;
    }
    match program.text.rsplit('/').next()? {
        "scp" => ScpCommand::read(rest).map(Kind::Scp),
        "rsync" => RsyncCommand::read(rest).map(Kind::Rsync),
        "sftp-server" => Some(Kind::SftpServer),
        _ => None,
    }
}

/// What the target is asked to run for `command`: the same, but that rsync lists its files at once, which is what the
/// gateway follows.
pub(crate) fn for_target(command: &str) -> Cow<'_, str> {
    match detect(command) {
        Some(Kind::Rsync(_)) => Cow::Owned(without_incremental(command)),
        _ => Cow::Borrowed(command),
    }
}

/// Splits as a POSIX shell does. `None` for anything but one simple command: operators, substitutions, comments,
/// unfinished quotes.
fn words(command: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        let fresh = word.is_none();
        if matches!(c, ' ' | '\t') {
            words.extend(word.take());
            continue;
        }
        if matches!(c, ';' | '|' | '&' | '<' | '>' | '(' | ')' | '`' | '$' | '\n' | '\r' | '\0')
            || (c == '#' && fresh)
        {
            return None;
        }
        let word = word.get_or_insert_with(|| Word { text: String::new(), expands: false });
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.text.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '$' | '`' => return None,
                    '\\' => match chars.next()? {
                        c @ ('$' | '`' | '"' | '\\') => word.text.push(c),
                        '\n' => {}
                        c => word.text.extend(['\\', c]),
                    },
                    c => word.text.push(c),
                }
            },
            '\\' => word.text.push(chars.next().filter(|c| *c != '\n')?),
            c => {
                word.expands |= matches!(c, '*' | '?' | '[' | '{') || (c == '~' && fresh);
                word.text.push(c);
            }
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let plain =
            |command| -> Vec<String> { words(command).unwrap().into_iter().map(|w| w.text).collect() };
        assert_eq!(plain(r#"a 'b c'  "d\"e" f\ g '' "#), ["a", "b c", "d\"e", "f g", ""]);
        assert!(words("a *").unwrap()[1].expands);
        assert!(!words("a '*'").unwrap()[1].expands);
        for bad in ["a; b", "a $(b)", "a `b`", "a 'b", "a > b", "a && b", "a \"$b\"", "a\nb", "a # b"] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }

    #[test]
    fn transfers_are_told_from_other_commands() {
        assert!(matches!(detect("scp -t /tmp"), Some(Kind::Scp(_))));
        assert!(matches!(detect("/usr/bin/scp -r -p -f 'a b'"), Some(Kind::Scp(_))));
        assert!(matches!(detect("rsync --server -e.LsfxCIvu . /tmp"), Some(Kind::Rsync(_))));
        assert_eq!(detect("/usr/lib/openssh/sftp-server -R"), Some(Kind::SftpServer));
        for other in
            ["scp a host:b", "rsync a b", "scp -t /tmp; id", "ls", "", "scp -S evil -t /tmp", "scp -t"]
        {
            assert_eq!(detect(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_panics(command in any::<String>(), tail in "[-a-z .'\"*]{0,40}") {
            detect(&command);
            detect(&format!("scp -t {tail}"));
            detect(&format!("rsync --server {tail}"));
        }
    }
}
