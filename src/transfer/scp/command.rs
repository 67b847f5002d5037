//! The command line of a legacy scp.

use crate::transfer::command::Word;
use crate::transfer::path::{Reach, parent};
use crate::transfer::site::Why;
use crate::transfer::{FileRules, Operation};

use super::Refused;

/// What an `scp -t` or `scp -f` will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScpCommand {
    /// `-t`: the target is the sink.
    pub(super) upload: bool,
    /// `-r`
    pub(super) recursive: bool,
    /// `-d`: the path has to be a folder.
    folder: bool,
    paths: Vec<Word>,
}

impl ScpCommand {
    /// Reads the words behind `scp`. `None` where they are not those of the far side of a copy.
    pub(crate) fn read(words: &[Word]) -> Option<Self> {
        let (mut to, mut from, mut recursive, mut folder) = (false, false, false, false);
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word.text == "--" {
                rest = after;
                break;
            }
            let Some(letters) = word.text.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                break;
            };
            for letter in letters.chars() {
                match letter {
                    't' => to = true,
                    'f' => from = true,
                    'r' => recursive = true,
                    'd' => folder = true,
                    'p' | 'v' | 'q' => {}
                    _ => return None,
                }
            }
            rest = after;
        }
        let fits = to != from && !rest.is_empty() && (from || rest.len() == 1);
        fits.then(|| Self { upload: to, recursive, folder, paths: rest.to_vec() })
    }

    /// Judges what can be judged before it runs.
    pub(super) fn check(&self, rules: &FileRules, home: Option<&[u8]>) -> Result<(), Box<Refused>> {
        let operation = if self.upload { Operation::Upload } else { Operation::Download };
        let refuse = |path: &str, why: &str| Err(Box::new(Refused::new(operation, path, why)));
        let first = self.paths.first().map_or("", |word| word.text.as_str());
        if self.upload && rules.read_only {
            return refuse(first, "this window allows reading only");
        }
        if self.upload && !rules.may_upload {
            return refuse(first, "this window does not allow uploads");
        }
        if !self.upload && !rules.may_download {
            return refuse(first, "this window does not allow downloads");
        }
        for word in &self.paths {
            if let Err(why) = self.check_word(word, rules, home) {
                return refuse(&word.text, &why);
            }
        }
        Ok(())
    }

    fn check_word(&self, word: &Word, rules: &FileRules, home: Option<&[u8]>) -> Result<(), Why> {
        let path = word.text.as_bytes();
        if rules.by_path() && word.expands {
            let in_folder = !word.text.starts_with('~') && !parent(path).iter().any(|b| b"*?[{".contains(b));
            if self.upload || !in_folder || !path.contains(&b'/') {
                return Err("the path is a pattern, and single files are looked at here: write it out".into());
            }
            return rules.check(parent(path), home, Reach::Parent, &[]);
        }
        // Names inside a folder are checked when they come.
        let want = if self.is_folder() { Reach::Parent } else { Reach::Inside };
        rules.check(path, home, want, &[])
    }

    /// Whether the path of an upload is certainly a folder.
    pub(super) fn is_folder(&self) -> bool {
        self.upload && (self.folder || self.paths.first().is_some_and(|word| word.text.ends_with('/')))
    }

    pub(super) fn first_path(&self) -> Vec<u8> {
        self.paths.first().map(|word| word.text.clone().into_bytes()).unwrap_or_default()
    }

    /// Whether `name` may be what a path of a download stands for.
    pub(super) fn asked_for(&self, name: &[u8]) -> bool {
        self.paths.iter().any(|word| word_covers(word, name))
    }

    /// The path on the target of a `name` that was asked for.
    pub(super) fn path_asked(&self, name: &[u8]) -> Vec<u8> {
        let Some(word) = self.paths.iter().find(|word| word_covers(word, name)) else { return name.to_vec() };
        let path = word.text.trim_end_matches('/').as_bytes();
        match path.iter().rposition(|b| *b == b'/') {
            _ if word.text == "/" => super::join(b"/", name),
            Some(at) => super::join(path.get(..=at).unwrap_or_default(), name),
            None => name.to_vec(),
        }
    }
}

/// Braces, brackets and folders named by dots cannot be compared with a name: they cover every name.
fn word_covers(word: &Word, name: &[u8]) -> bool {
    let last = word.text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let open = matches!(last, "" | "." | "..") || (word.expands && last.contains(['[', '{', '~']));
    if open {
        return true;
    }
    if !word.expands {
        return last.as_bytes() == name;
    }
    matches(last.as_bytes(), name)
}

/// Shell pattern of `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(part) if part == c || *part == b'?' => {
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
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}
