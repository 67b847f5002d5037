//! CSV (RFC 4180): a first line that names the columns, then one account a line.

use csv_core::{ReadRecordResult, Reader};
use zeroize::Zeroizing;

use super::{ImportError, Plan};
use crate::secret::SecretBytes;

/// Columns, and the names that other programs give them.
const COLUMNS: [(&str, &[&str]); 3] = [
    ("asset", &["asset", "host", "hostname", "server", "title", "system"]),
    ("login", &["login", "username", "user", "account", "user name", "login_username"]),
    ("secret", &["secret", "password", "login_password", "private_key"]),
];
const MAX_COLUMNS: usize = 64;
/// A record is at most the largest secret and its names.
const MAX_RECORD: usize = 128 * 1024;

/// Reads a plan out of a CSV file.
///
/// # Errors
/// [`ImportError::Header`], [`ImportError::TooMany`].
pub fn read_csv(content: &SecretBytes) -> Result<Plan, ImportError> {
    // A byte order mark is what spreadsheets write first.
    let content = content.expose();
    let mut rest = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut records = Records::new();
    let first = records
        .next(&mut rest)
        .map_or(Err("it is empty"), |r| r)
        .map_err(|reason| ImportError::Form { expected: "CSV file", reason: reason.into() })?;
    let places = columns(&first)?;
    let mut plan = Plan::default();
    while let Some(record) = records.next(&mut rest) {
        let place = format!("line {}", records.line);
        let record = match record {
            Ok(record) => record,
            Err(why) => {
                plan.refuse(place, why)?;
                continue;
            }
        };
        if record.iter().all(|field| field.is_empty()) {
            continue;
        }
        let field = |i: usize| places.get(i).and_then(|at| record.get(*at));
        let (Some(asset), Some(login), Some(secret)) = (field(0), field(1), field(2)) else {
            plan.refuse(place, "it has fewer columns than the first line; write \"\" for an empty one")?;
            continue;
        };
        match (std::str::from_utf8(asset), std::str::from_utf8(login)) {
            (Ok(asset), Ok(login)) => plan.add(place, asset, login, SecretBytes::new(secret.to_vec()))?,
            _ => plan.refuse(place, "its names are not UTF-8; save the file as UTF-8")?,
        }
    }
    Ok(plan)
}

fn columns(first: &[Zeroizing<Vec<u8>>]) -> Result<Vec<usize>, ImportError> {
    let names: Vec<String> =
        first.iter().map(|f| String::from_utf8_lossy(f).trim().to_ascii_lowercase()).collect();
    // The first name that any column has: "asset" before "title".
    let at = |known: &[&str]| known.iter().find_map(|k| names.iter().position(|n| n == k));
    COLUMNS.iter().map(|(missing, known)| at(known).ok_or(ImportError::Header { missing })).collect()
}

struct Records {
    reader: Reader,
    output: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
    /// The line on which the record that was read last begins.
    line: usize,
    /// Line feeds that have been read past.
    feeds: usize,
}

impl Records {
    fn new() -> Self {
        Self {
            reader: Reader::new(),
            output: Zeroizing::new(vec![0; MAX_RECORD]),
            ends: vec![0; MAX_COLUMNS],
            line: 1,
            feeds: 0,
        }
    }

    /// The next record; none at the end. One that is too long is skipped to its end and refused.
    fn next(&mut self, input: &mut &[u8]) -> Option<Result<Vec<Zeroizing<Vec<u8>>>, &'static str>> {
        let (mut filled, mut ended, mut too_long) = (0, 0, false);
        // Blank lines are read past here, so that a record is named by the line on which it begins.
        let blank = input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        self.read_past(input, blank);
        self.line = self.feeds + 1;
        loop {
            let output = self.output.get_mut(filled..).unwrap_or_default();
            let ends = self.ends.get_mut(ended..).unwrap_or_default();
            let (result, read, wrote, fields) = self.reader.read_record(input, output, ends);
            self.read_past(input, read);
            (filled, ended) = (filled + wrote, ended + fields);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (filled, ended, too_long) = (0, 0, true);
                }
                ReadRecordResult::Record if too_long => {
                    return Some(Err(
                        "it is longer than any account can be, or has too many columns; look for a quote that is not closed",
                    ));
                }
                ReadRecordResult::Record => return Some(Ok(self.fields(ended))),
                ReadRecordResult::End => return None,
            }
        }
    }

    fn read_past(&mut self, input: &mut &[u8], count: usize) {
        let (past, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
        self.feeds += past.iter().filter(|b| **b == b'\n').count();
        *input = rest;
    }

    fn fields(&self, ended: usize) -> Vec<Zeroizing<Vec<u8>>> {
        let mut from = 0;
        let ends = self.ends.iter().take(ended);
        ends.map(|to| {
            let field = self.output.get(from..*to).unwrap_or_default();
            from = *to;
            Zeroizing::new(field.to_vec())
        })
        .collect()
    }
}
