//! The file as a document: where each key stands, and which keys exist at all.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeArray, DeTable, DeValue};

use super::{
    introspect,
    problem::{ConfigError, Fault, Place, Problem, problem},
};

/// A parsed file with the byte ranges of its keys and values, by dotted path (`ssh.host_key_files.0`).
pub(super) struct Document {
    file: PathBuf,
    text: String,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    /// The key, or the value for a list's item.
    at: Range<usize>,
    value: Range<usize>,
    is_table: bool,
}

impl Document {
    /// Parses `text`, the content of `file`.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut document = Self { file: file.to_owned(), text: text.to_owned(), entries: BTreeMap::new() };
        match DeTable::parse(text) {
            Ok(root) => document.add_table("", root.get_ref()),
            Err(e) => {
                let place = e.span().map(|span| document.place_of(span.start));
                let fault = Fault::Syntax(one_line(e.message()));
                return Err(ConfigError::Invalid(vec![problem(file, place, "", fault)]));
            }
        }
        Ok(document)
    }

    /// Reports every key that no section has.
    pub(super) fn refuse_unknown_keys(&self) -> Result<(), ConfigError> {
        let sections = introspect::sections();
        let section_names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        let mut problems = Vec::new();
        for path in self.entries.keys() {
            let (section, key) = path.split_once('.').unwrap_or((path, ""));
            let known = sections.iter().find(|(name, _)| *name == section);
            let (wanted, candidates) = match known {
                None if key.is_empty() => (section, section_names.as_slice()),
                // An item below an unknown section, or a list's item: its parent was judged already.
                None => continue,
                Some((_, keys)) if !key.is_empty() && !key.contains('.') => (key, *keys),
                Some(_) => continue,
            };
            if !candidates.contains(&wanted) {
                let suggestion = nearest(wanted, candidates);
                problems.push(self.problem(path, Fault::UnknownKey { suggestion }));
            }
        }
        ConfigError::from_problems(problems)
    }

    /// Turns a deserialisation error into one that names the key.
    pub(super) fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let innermost = error.span().and_then(|span| self.path_at(&span));
        let message = one_line(error.message());
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let found = match missing {
            Some(field) => {
                let section = innermost.filter(|path| self.entries.get(path).is_some_and(|e| e.is_table));
                let key = section.map_or_else(|| field.to_owned(), |section| format!("{section}.{field}"));
                self.problem(&key, Fault::Missing)
            }
            None => match innermost {
                Some(path) => self.problem(&path, Fault::WrongType(message)),
                None => {
                    let place = error.span().map(|span| self.place_of(span.start));
                    problem(&self.file, place, "", Fault::WrongType(message))
                }
            },
        };
        ConfigError::Invalid(vec![found])
    }

    /// A problem with `key`, placed where the key stands, or at its section if it does not stand anywhere.
    pub(super) fn problem(&self, key: &str, fault: Fault) -> Problem {
        let mut known = key;
        let entry = loop {
            match (self.entries.get(known), known.rsplit_once('.')) {
                (Some(entry), _) => break Some(entry),
                (None, Some((parent, _))) => known = parent,
                (None, None) => break None,
            }
        };
        problem(&self.file, entry.map(|e| self.place_of(e.at.start)), key, fault)
    }

    /// The text with these keys' values exchanged. A key that does not stand in it has its default, and keeps it.
    pub(super) fn with_values<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut exchanged: Vec<(Range<usize>, String)> = values
            .into_iter()
            .filter_map(|(key, value)| {
                let entry = self.entries.get(key).filter(|entry| !entry.is_table)?;
                Some((entry.value.clone(), toml::Value::String(value.to_owned()).to_string()))
            })
            .collect();
        // From the end, so that no range moves before its turn.
        exchanged.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.clone();
        for (range, value) in exchanged {
            text.replace_range(range, &value);
        }
        text
    }

    /// The file's own path.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            self.add(path, key.span(), value.span(), value.get_ref());
        }
    }

    fn add_items(&mut self, prefix: &str, items: &DeArray<'_>) {
        for (index, item) in items.iter().enumerate() {
            self.add(format!("{prefix}.{index}"), item.span(), item.span(), item.get_ref());
        }
    }

    fn add(&mut self, path: String, at: Range<usize>, value_span: Range<usize>, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.add_table(&path, table),
            DeValue::Array(items) => self.add_items(&path, items),
            _ => {}
        }
        let is_table = value.is_table();
        self.entries.insert(path, Entry { at, value: value_span, is_table });
    }

    /// The innermost key whose name or value covers `span`.
    fn path_at(&self, span: &Range<usize>) -> Option<String> {
        let covers = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
        self.entries
            .iter()
            .filter(|(_, e)| covers(&e.at) || covers(&e.value))
            .max_by_key(|(path, _)| path.len())
            .map(|(path, _)| path.clone())
    }

    fn place_of(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The candidate that a slip of the finger away from `wanted` would give.
fn nearest(wanted: &str, candidates: &[&str]) -> Option<String> {
    let allowed = (wanted.chars().count() / 3).clamp(1, 4);
    let same_words = |c: &str| c.split('_').all(|word| wanted.split(['_', '-']).any(|w| w == word));
    candidates
        .iter()
        .map(|c| (distance(wanted, c), *c))
        .filter(|(d, c)| *d <= allowed || same_words(c) || c.starts_with(&format!("{wanted}_")))
        .min()
        .map(|(_, c)| c.to_owned())
}

/// Edit distance (Levenshtein) in characters; the inputs are keys, so short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(128).enumerate() {
        let mut next = vec![i + 1];
        for ((cb, diagonal), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(usize::MAX);
            next.push((diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
