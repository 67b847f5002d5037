//! What commands say: aligned tables for people, JSON for programs, and nothing from a peer that could steer a terminal.

use std::io::Write as _;

use cofferdam_access::{clock::Timestamp, local_time::SiteZone};
use serde_json::Value;

use super::error::CliError;
pub(crate) use crate::forms::{utc, utc_or_null};

/// What a command has to say, in both forms; `--json` chooses.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    /// For people; ends without a line break.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: Value,
    /// Whether what was looked at is as it should be; if not, the exit code is 1 although the command worked.
    pub(crate) ok: bool,
}

impl Reply {
    /// Both forms.
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, ok: true }
    }

    /// A listing.
    pub(crate) fn list(table: &Table, rows: Vec<Value>) -> Self {
        Self::new(table.to_string(), Value::Array(rows))
    }

    /// Nothing more: the command has printed what there was.
    pub(crate) fn nothing() -> Self {
        Self::new("", Value::Null)
    }

    /// The same, with exit code 1 unless `ok`.
    pub(crate) fn judged(self, ok: bool) -> Self {
        Self { ok, ..self }
    }

    /// Prints the form asked for.
    pub(crate) fn print(&self, as_json: bool) -> Result<(), CliError> {
        let text = match (&self.json, as_json) {
            (Value::Null, true) => return Ok(()),
            (json, true) => format!("{json:#}"),
            (_, false) if self.text.is_empty() => return Ok(()),
            (_, false) => self.text.clone(),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CliError::io("standard output"))
    }
}

/// Rows under headings, aligned.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; each cell is cleaned.
    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|c| clean_line(c.as_ref())).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.rows.is_empty() {
            return f.write_str("(none)");
        }
        let wide = |column: usize| {
            let head = self.headings.get(column).map_or(0, |h| h.len());
            let cells = self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
            cells.max().unwrap_or(0).max(head)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(wide).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> = cells.zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let heads: Vec<String> = self.headings.iter().map(|h| h.to_uppercase()).collect();
        f.write_str(&line(&mut heads.iter().map(String::as_str)))?;
        self.rows.iter().try_for_each(|r| write!(f, "\n{}", line(&mut r.iter().map(String::as_str))))
    }
}

/// `text` without characters that steer a terminal or rearrange a line; line breaks and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// As [`clean`], on one line.
pub(crate) fn clean_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if matches!(c, '\n' | '\t') {
                ' '
            } else if steers(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Control characters, and Unicode's invisible and direction-changing ones.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{00ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A moment for people, if there is one.
pub(crate) fn shown(zone: &SiteZone, at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |t| zone.show(t))
}

/// Anything that serialises, as JSON.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Value, CliError> {
    serde_json::to_value(value).map_err(unwritten)
}

/// Why there is no answer for programs.
pub(crate) fn unwritten(e: serde_json::Error) -> CliError {
    CliError::failed(format!("the answer cannot be written as JSON: {e}"))
}

/// A count of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (n, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (whole, rest, unit) = (whole / 1024, whole % 1024, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 { format!("{whole} {name}") } else { format!("{whole}.{} {name}", rest * 10 / 1024) }
}

/// Joins what has a text form.
pub(crate) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["name", "x"]);
        table.row(["a", "long"]);
        table.row(["bcdefg", ""]);
        assert_eq!(table.to_string(), "NAME    X\na       long\nbcdefg");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["name"]).to_string(), "(none)");
    }

    #[test]
    fn what_people_wrote_cannot_steer_the_terminal() {
        let evil = "a\u{1b}[2J\u{202e}b\nc\u{9b}1m";
        assert_eq!(clean_line(evil), "a\u{fffd}[2J\u{fffd}b c\u{fffd}1m");
        assert_eq!(clean("a\tb\nc\r"), "a\tb\nc\u{fffd}");
        let mut table = Table::new(&["x"]);
        table.row([evil]);
        assert!(!table.to_string().contains('\u{1b}'));
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (n, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB")]
        {
            assert_eq!(bytes(n), text);
        }
    }
}
