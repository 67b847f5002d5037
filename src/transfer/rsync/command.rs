//! The command line of `rsync --server`.

use super::options::Options;
use crate::transfer::command::Word;
use crate::transfer::path::{Reach, normalise};
use crate::transfer::scp::Refused;
use crate::transfer::site::{Act, CHANGE, Why};
use crate::transfer::{FileEvent, FileRules, Operation};

/// Single letters that carry no argument and start nothing else. `e` begins the list of capabilities and ends them.
const LETTERS: &str = "vlogDtprzcbunAXHIixSWRkKLOJUNEqadmyhC0";
/// Letters and options that follow symbolic links out of the tree.
const LINK_LETTERS: &str = "LkK";
const LINK_OPTION: &str = "--copy-unsafe-links";

/// Options that change how, but not what or where.
const HARMLESS: &[&str] = &[
    "--append",
    "--append-verify",
    "--bwlimit",
    "--checksum-choice",
    "--checksum-seed",
    "--compress-choice",
    "--compress-level",
    "--debug",
    "--delay-updates",
    "--existing",
    "--force",
    "--from0",
    "--fuzzy",
    "--groupmap",
    "--iconv",
    "--ignore-errors",
    "--ignore-existing",
    "--ignore-missing-args",
    "--info",
    "--inplace",
    "--list-only",
    "--log-format",
    "--max-alloc",
    "--max-delete",
    "--max-size",
    "--min-size",
    "--mkpath",
    "--modify-window",
    "--msgs2stderr",
    "--new-compress",
    "--no-W",
    "--no-i-r",
    "--no-implied-dirs",
    "--no-msgs2stderr",
    "--no-r",
    "--no-relative",
    "--numeric-ids",
    "--old-compress",
    "--open-noatime",
    "--out-format",
    "--outbuf",
    "--partial",
    "--preallocate",
    "--prune-empty-dirs",
    "--safe-links",
    "--size-only",
    "--skip-compress",
    "--sparse",
    "--specials",
    "--stats",
    "--stop-after",
    "--stop-at",
    "--suffix",
    "--timeout",
    "--use-qsort",
    "--usermap",
    "--chown",
];
/// Options that remove at the destination.
const DELETING: &[&str] = &[
    "--delete",
    "--delete-after",
    "--delete-before",
    "--delete-delay",
    "--delete-during",
    "--delete-excluded",
    "--delete-missing-args",
];
/// Options that remove at the source.
const REMOVING_SOURCE: &[&str] = &["--remove-source-files", "--remove-sent-files"];
/// Options that name another folder on the target, with `=PATH` or as the next word.
const FOLDERS: &[&str] =
    &["--backup-dir", "--compare-dest", "--copy-dest", "--link-dest", "--partial-dir", "--temp-dir"];
/// Options whose value may be the next word.
const WITH_VALUE: &[&str] = &["--max-alloc", "--suffix", "--skip-compress", "--debug", "--info", "--iconv"];

/// Options that take a value and that a client writes as `--name=value`.
const ASSIGNED: &[&str] = &[
    "--bwlimit",
    "--checksum-choice",
    "--checksum-seed",
    "--chown",
    "--compress-choice",
    "--compress-level",
    "--files-from",
    "--groupmap",
    "--log-format",
    "--max-delete",
    "--max-size",
    "--min-size",
    "--modify-window",
    "--out-format",
    "--outbuf",
    "--stop-after",
    "--stop-at",
    "--timeout",
    "--usermap",
];

/// What an `rsync --server` will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RsyncCommand {
    /// `--sender`: the target sends.
    sender: bool,
    letters: String,
    /// What `-e` lists.
    capabilities: String,
    /// Long options with their values, in order.
    long: Vec<(String, Option<String>)>,
    deletes: bool,
    removes_source: bool,
    follows_links: bool,
    folders: Vec<String>,
    /// The first option that is not known to be harmless.
    unknown: Option<String>,
    paths: Vec<Word>,
}

impl RsyncCommand {
    /// Reads the words behind `rsync`. `None` where they do not begin with `--server`.
    pub(crate) fn read(words: &[Word]) -> Option<Self> {
        let (first, mut rest) = words.split_first()?;
        if first.text != "--server" {
            return None;
        }
        let mut command = Self {
            sender: false,
            letters: String::new(),
            capabilities: String::new(),
            long: Vec::new(),
            deletes: false,
            removes_source: false,
            follows_links: false,
            folders: Vec::new(),
            unknown: None,
            paths: Vec::new(),
        };
        while let Some((word, after)) = rest.split_first() {
            // The first word that is no option is "." and stands before the paths; options may not follow it, but
            // popt would take them, so they are looked at below.
            if !word.text.starts_with('-') || word.text == "-" {
                break;
            }
            rest = command.option(word, after);
        }
        let (dot, paths) = rest.split_first()?;
        if dot.text != "." || paths.iter().any(|path| path.text.starts_with('-')) {
            command.unknown.get_or_insert_with(|| "paths that look like options".to_owned());
        }
        command.paths = paths.to_vec();
        Some(command)
    }

    fn option<'a>(&mut self, word: &Word, after: &'a [Word]) -> &'a [Word] {
        let text = word.text.as_str();
        if word.expands {
            self.unknown.get_or_insert_with(|| text.to_owned());
        }
        if !text.starts_with("--") {
            self.short(text);
            return after;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        self.deletes |= DELETING.contains(&name);
        self.removes_source |= REMOVING_SOURCE.contains(&name);
        self.follows_links |= name == LINK_OPTION;
        self.long.push((name.to_owned(), value.map(str::to_owned)));
        // An option that takes the next word as its value would hide that word from what is read here.
        let takes_value = ASSIGNED.contains(&name);
        let may_take_value = takes_value || FOLDERS.contains(&name) || WITH_VALUE.contains(&name);
        if takes_value != value.is_some() && (takes_value || !may_take_value) {
            self.unknown.get_or_insert_with(|| text.to_owned());
        }
        let mut rest = after;
        let mut next = || {
            let (value, after) = rest.split_first()?;
            rest = after;
            Some(value.text.clone())
        };
        if FOLDERS.contains(&name) {
            match value.map(str::to_owned).or_else(&mut next) {
                Some(folder) => self.folders.push(folder),
                None => self.unknown = Some(name.to_owned()),
            }
        } else if WITH_VALUE.contains(&name) && value.is_none() {
            if next().is_none_or(|value| value.contains('/')) {
                self.unknown.get_or_insert_with(|| name.to_owned());
            }
        } else if name == "--suffix" && value.is_some_and(|value| value.contains('/')) {
            self.unknown.get_or_insert_with(|| text.to_owned());
        } else if name == "--sender" && value.is_none() {
            self.sender = true;
        } else if name == "--files-from" && value == Some("-") && self.sender {
            // The names come through the stream.
        } else if !(HARMLESS.contains(&name)
            || DELETING.contains(&name)
            || REMOVING_SOURCE.contains(&name)
            || name == LINK_OPTION)
        {
            self.unknown.get_or_insert_with(|| name.to_owned());
        }
        rest
    }

    fn short(&mut self, text: &str) {
        let letters = text.trim_start_matches('-');
        // Block size and modification window carry a number.
        if let Some(number) = letters.strip_prefix(['B', '@'])
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        {
            return;
        }
        for letter in letters.chars() {
            match letter {
                // "e." and "eLsfxCIvu" list capabilities; a server takes nothing to run from it.
                'e' => {
                    let rest = letters.split_once('e').map_or("", |(_, rest)| rest);
                    self.capabilities.push_str(rest);
                    if !rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
                        self.unknown.get_or_insert_with(|| "-e".to_owned());
                    }
                    break;
                }
                's' => {
                    self.unknown.get_or_insert_with(|| {
                        "-s, which hides the paths: use --no-secluded-args".to_owned()
                    });
                }
                c if LETTERS.contains(c) => self.letters.push(c),
                c => {
                    self.unknown.get_or_insert_with(|| format!("-{c}"));
                }
            }
        }
    }

    /// Which way the contents go.
    pub(crate) fn operation(&self) -> Operation {
        if self.sender { Operation::Download } else { Operation::Upload }
    }

    /// The paths on the target, as the command line has them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|word| word.text.as_str())
    }

    /// The command but for what `-e` lists.
    #[cfg(test)]
    pub(super) fn without_capabilities(self) -> Self {
        Self { capabilities: String::new(), ..self }
    }

    /// What the stream depends on.
    pub(super) fn options(&self) -> Options {
        Options::new(!self.sender, &self.letters, &self.capabilities, &self.long)
    }

    /// What is sent is removed at the source, on the target.
    pub(super) fn removes_source(&self) -> bool {
        self.sender && self.removes_source
    }

    /// The event for files that were removed along the way, where the stream does not tell which.
    pub(super) fn removal(&self) -> Option<FileEvent> {
        let note = match (self.sender, self.deletes, self.removes_source) {
            (false, true, _) => "what the source does not have was removed",
            (true, _, true) => "what was sent was removed",
            _ => return None,
        };
        let path = self.paths().next().unwrap_or_default();
        let mut event = FileEvent::new(Operation::Remove, path.as_bytes());
        event.note = Some(format!("{note}; the gateway could not follow which files"));
        Some(event)
    }

    /// Judges the command before it runs.
    pub(super) fn check(&self, rules: &FileRules, home: Option<&[u8]>) -> Result<(), Box<Refused>> {
        let path = self.paths().next().unwrap_or_default();
        let refuse = |path: &str, why: &str| Err(Box::new(Refused::new(self.operation(), path, why)));
        if let Some(option) = &self.unknown {
            return refuse(path, &format!("rsync with {option} cannot be followed"));
        }
        if self.paths.is_empty() {
            return refuse(path, "rsync without a path cannot be followed");
        }
        if rules.read_only && (!self.sender || self.removes_source) {
            return refuse(path, "this window allows reading only");
        }
        if !self.sender && !rules.may_upload {
            return refuse(path, "this window does not allow uploads");
        }
        if self.sender && !rules.may_download {
            return refuse(path, "this window does not allow downloads");
        }
        if !rules.by_path() {
            return Ok(());
        }
        if self.follows_links || self.letters.contains(|c| LINK_LETTERS.contains(c)) {
            return refuse(
                path,
                "single files are looked at here: rsync may not follow symbolic links past that",
            );
        }
        for word in &self.paths {
            if let Err(why) = self.check_word(word, rules, home) {
                return refuse(&word.text, &why);
            }
        }
        let base = self.paths.first().and_then(|word| normalise(word.text.as_bytes(), home));
        // Contents may come from there as well as go there.
        let acts: &[Act] = if self.sender { &[Act::Read] } else { &[CHANGE, Act::Read] };
        for folder in &self.folders {
            if let Err(why) = rules.check(folder.as_bytes(), base.as_deref(), Reach::Inside, acts) {
                return refuse(folder, &why);
            }
        }
        Ok(())
    }

    fn check_word(&self, word: &Word, rules: &FileRules, home: Option<&[u8]>) -> Result<(), Why> {
        if word.expands {
            return Err("the path is a pattern, and single files are looked at here: write it out".into());
        }
        let path = word.text.as_bytes();
        if self.covered(path, rules, home) {
            return rules.check(path, home, Reach::Inside, &[]);
        }
        rules.check(path, home, Reach::Parent, &[])?;
        if self.sender {
            return Ok(());
        }
        // What is not in the list of files cannot be held against the patterns.
        if !path.ends_with(b"/") {
            Err("not all of this path may be used: end it in / so that it is a folder".into())
        } else if self.deletes {
            Err("rsync may remove anything below this path, and not all of it may be used".into())
        } else if self.letters.contains('b') || self.long.iter().any(|(name, _)| name == "--mkpath") {
            Err("not all of this path may be used: leave --backup and --mkpath out".into())
        } else {
            Ok(())
        }
    }

    /// Whether `rules` allow everything below `path`, so that the names in the list need not be looked at.
    fn covered(&self, path: &[u8], rules: &FileRules, home: Option<&[u8]>) -> bool {
        let names_follow = self.long.iter().any(|(name, _)| name == "--files-from");
        !names_follow && normalise(path, home).is_some_and(|path| rules.covers_below(&path))
    }

    /// Whether each listed name has to be held against the rules.
    pub(super) fn goes_by_name(&self, rules: &FileRules, home: Option<&[u8]>) -> bool {
        rules.by_path() && !self.paths().all(|path| self.covered(path.as_bytes(), rules, home))
    }
}

/// `line`, an `rsync --server` command, without the capability that lets the target list files folder by folder: the
/// target decides by what the client says it can do, and the client follows what the target says. Only a plain word of
/// letters is touched, never a value or a path.
pub(crate) fn without_incremental(line: &str) -> String {
    let mut options = true;
    let mut value = false;
    let mut quote = None;
    line.split_inclusive(' ')
        .map(|piece| {
            let inside = quote.is_some();
            let mut chars = piece.chars();
            while let Some(c) = chars.next() {
                match (quote, c) {
                    (None, '\'' | '"') => quote = Some(c),
                    (Some(open), c) if open == c => quote = None,
                    // A blank behind a backslash does not end the word.
                    (None, '\\') if chars.next().is_none_or(|c| c == ' ') => options = false,
                    (Some('"'), '\\') => {
                        chars.next();
                    }
                    _ => {}
                }
            }
            let word = piece.trim_end_matches(' ');
            options &= word != ".";
            let plain = word.strip_prefix('-').is_some_and(|letters| {
                letters.starts_with(|c: char| c.is_ascii_alphabetic())
                    && letters.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
            });
            let is_value =
                std::mem::replace(&mut value, FOLDERS.contains(&word) || WITH_VALUE.contains(&word));
            match piece.split_once('e') {
                Some((before, after)) if options && plain && !inside && !is_value => {
                    format!("{before}e{}", after.replace('i', ""))
                }
                _ => piece.to_owned(),
            }
        })
        .collect()
}
