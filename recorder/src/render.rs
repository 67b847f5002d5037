//! What the terminal showed: output as rendered by a virtual terminal, never as raw bytes.

use avt::{
    Line, Operation, ScreenKind, Terminal,
    observer::{Observation, Observer},
    parser::Function,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::event::Event;

/// Largest terminal that is rendered; a size beyond is cut down to it.
const MAX_COLS: usize = 1000;
const MAX_ROWS: usize = 500;
/// Size until the session says another.
const COLS: usize = 80;
const ROWS: usize = 24;
/// Longest line of text, in bytes; a longer one is given out in parts.
const MAX_LINE: usize = 64 * 1024;

/// The terminal of one channel.
pub struct Screen {
    terminal: Terminal,
    capture: Capture,
    /// The bytes of a character that has not all arrived.
    partial: Vec<u8>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new(COLS, ROWS)
    }
}

impl Screen {
    /// An empty terminal.
    pub fn new(cols: usize, rows: usize) -> Self {
        let terminal = make(cols, rows);
        Self { terminal, capture: Capture::default(), partial: Vec::new() }
    }

    /// A terminal whose scrolled and entered lines are collected; the caller takes them regularly.
    pub(crate) fn collecting() -> Self {
        let mut screen = Self::default();
        screen.capture.collects = true;
        screen
    }

    /// How many scrolled lines wait to be taken.
    pub(crate) fn scrolled(&self) -> usize {
        self.capture.lines.len()
    }

    /// A terminal as [`Self::dump`] gave it out.
    pub fn restore(cols: usize, rows: usize, dump: &str) -> Self {
        let mut screen = Self::new(cols, rows);
        screen.write(dump);
        screen
    }

    /// Shows what an event of this terminal's channel puts on it.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Output { data, .. } | Event::Stderr { data, .. } => self.feed(data),
            Event::Resize { cols, rows, .. } => self.resize(usize::from(*cols), usize::from(*rows)),
            _ => {}
        }
    }

    /// Shows output; a character may be split over several calls.
    pub fn feed(&mut self, data: &[u8]) {
        let text = decode(&mut self.partial, data);
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        let fed = catch_unwind(AssertUnwindSafe(|| self.terminal.feed_with(text, &mut self.capture)));
        if fed.is_err() {
            // Output that the virtual terminal cannot bear costs the screen, not the investigation.
            let (cols, rows) = self.size();
            self.terminal = make(cols, rows);
        }
    }

    pub(crate) fn resize(&mut self, cols: usize, rows: usize) {
        let (cols, rows) = clamp(cols, rows);
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.terminal.resize_with(cols, rows, &mut self.capture);
        }));
        if done.is_err() {
            self.terminal = make(cols, rows);
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        self.terminal.size()
    }

    /// The visible rows, without the blanks at their ends.
    pub fn rows(&self) -> Vec<String> {
        self.terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect()
    }

    /// The visible text, rows that were only wrapped joined again.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut text = String::new();
        for line in self.terminal.screen().visible_lines() {
            text.extend(line.chars());
            if !line.is_wrapped() {
                lines.push(std::mem::take(&mut text).trim_end().to_owned());
            }
        }
        if !text.is_empty() {
            lines.push(text.trim_end().to_owned());
        }
        lines
    }

    /// The terminal's state as an escape sequence: written to an empty terminal of the same size it
    /// shows the same.
    pub fn dump(&self) -> String {
        self.terminal.dump()
    }

    /// The bytes of a character that has not all arrived.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.partial
    }

    /// Whether a full-screen program is shown.
    pub fn is_alternate(&self) -> bool {
        self.terminal.active_screen_kind() == ScreenKind::Alternate
    }

    /// The lines that scrolled off since the last call.
    pub(crate) fn take_scrolled(&mut self) -> Vec<String> {
        std::mem::take(&mut self.capture.lines)
    }

    /// What still stands on the screen (the primary one), as the end of a transcript.
    pub(crate) fn remaining(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut text = self.capture.pending.clone();
        for line in self.terminal.primary_screen().visible_lines() {
            text.extend(line.chars());
            if !line.is_wrapped() {
                lines.push(std::mem::take(&mut text).trim_end().to_owned());
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// The text in front of the cursor, on its line: the prompt, before anything is typed.
    pub(crate) fn before_cursor(&self) -> String {
        let Some((col, row)) = self.terminal.cursor().position() else { return String::new() };
        before(&self.terminal, row, Some(col))
    }

    /// Remembers the line that the cursor leaves next, as a command that was entered.
    pub(crate) fn expect_command(&mut self) {
        self.capture.entered = true;
    }

    /// The lines that were entered and left since the last call.
    pub(crate) fn take_entered(&mut self) -> Vec<String> {
        std::mem::take(&mut self.capture.commands)
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Screen({:?})", self.size())
    }
}

fn clamp(cols: usize, rows: usize) -> (usize, usize) {
    (cols.clamp(1, MAX_COLS), rows.clamp(1, MAX_ROWS))
}

fn make(cols: usize, rows: usize) -> Terminal {
    let (cols, rows) = clamp(cols, rows);
    #[allow(clippy::expect_used, reason = "the size was just made positive, the one condition")]
    Terminal::new(cols, rows).expect("a positive size")
}

/// The text of the line that `row` belongs to, up to `col` of that row.
fn before(terminal: &Terminal, row: usize, col: Option<usize>) -> String {
    let screen = terminal.screen();
    let wraps = |row: usize| screen.line(row).is_some_and(Line::is_wrapped);
    let mut start = row;
    while start > 0 && wraps(start - 1) {
        start -= 1;
    }
    let mut text: String = (start..row).filter_map(|n| screen.line(n)).flat_map(Line::chars).collect();
    let Some(line) = screen.line(row) else { return text };
    match col {
        Some(col) => text.extend(line.chars().take(col)),
        None => {
            text.extend(line.chars());
            let mut next = row;
            while wraps(next) {
                next += 1;
                text.extend(screen.line(next).into_iter().flat_map(Line::chars));
            }
        }
    }
    text
}

/// Collects lines as they leave the screen.
#[derive(Default)]
struct Capture {
    collects: bool,
    pending: String,
    lines: Vec<String>,
    entered: bool,
    commands: Vec<String>,
}

impl Capture {
    fn push(&mut self, line: &Line) {
        if !self.collects {
            return;
        }
        self.pending.extend(line.chars());
        if !line.is_wrapped() || self.pending.len() > MAX_LINE {
            self.lines.push(self.pending.trim_end().to_owned());
            self.pending.clear();
        }
    }
}

impl Observer for Capture {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let Operation::Function(function) = operation else { return };
        let terminal = context.terminal();
        match function {
            Function::Ris => terminal.primary_screen().visible_lines().for_each(|line| self.push(line)),
            Function::Lf if self.entered => {
                self.entered = false;
                if terminal.active_screen_kind() == ScreenKind::Primary {
                    let row = terminal.cursor().row;
                    self.commands.push(before(terminal, row, None).trim_end().to_owned());
                }
            }
            _ => {}
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.push(line);
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}

/// Text from bytes; an unfinished character at the end waits in `partial` for its rest.
pub(crate) fn decode(partial: &mut Vec<u8>, data: &[u8]) -> String {
    let mut bytes = std::mem::take(partial);
    bytes.extend_from_slice(data);
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(good) => {
                text.push_str(good);
                return text;
            }
            Err(e) => {
                let (good, bad) = rest.split_at(e.valid_up_to());
                text.push_str(&String::from_utf8_lossy(good));
                let Some(skip) = e.error_len() else {
                    partial.extend_from_slice(bad);
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = bad.get(skip..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_character_and_a_bad_byte() {
        let mut partial = Vec::new();
        assert_eq!(decode(&mut partial, &[b'a', 0xe2, 0x82]), "a");
        assert_eq!(decode(&mut partial, &[0xac, 0xff, b'b']), "€\u{fffd}b");
        assert!(partial.is_empty());
    }

    #[test]
    fn a_dump_restores_the_screen() {
        let mut screen = Screen::collecting();
        screen.resize(20, 3);
        screen.feed(b"one\r\ntwo\x1b[1;31m red\r\nthree\r\nfour");
        let again = Screen::restore(20, 3, &screen.dump());
        assert_eq!(screen.rows(), again.rows());
        assert_eq!(screen.take_scrolled(), ["one"]);
    }

    #[test]
    fn a_size_beyond_reason_is_cut_down() {
        let mut screen = Screen::default();
        screen.apply(&Event::Resize { channel: 0, cols: u16::MAX, rows: 0 });
        assert_eq!(screen.size(), (MAX_COLS, 1));
    }
}
