//! The line the person is looking at, rendered from what the target shows, so that the command about to run is known
//! when they press Enter: history, completion and editing count, because the screen counts and not the keys.
//!
//! Only the current line is kept, with the rows that it wraps over. What a full-screen program shows (the alternate
//! screen) is no command line.

use super::vt::{Token, Vt};

/// Cells kept of one line.
const MAX_CELLS: usize = 4096;
/// A prompt that nobody pointed out is looked for in this many characters.
const MAX_PROMPT: usize = 120;
/// The second cell of a wide character.
const FILLER: char = '\0';

/// Follows one terminal.
#[derive(Debug)]
pub(crate) struct LineTracker {
    vt: Vt,
    utf8: Vec<u8>,
    cells: Vec<char>,
    cursor: usize,
    width: usize,
    /// The cursor stands behind the last column and has not wrapped yet.
    wrap_due: bool,
    alternate: bool,
    /// Where the cursor stood when the person began to type on this line.
    prompt: Option<usize>,
}

impl LineTracker {
    /// For a terminal of `width` columns.
    pub(crate) fn new(width: u16) -> Self {
        Self {
            vt: Vt::default(),
            utf8: Vec::new(),
            cells: Vec::new(),
            cursor: 0,
            width: usize::from(width.max(1)),
            wrap_due: false,
            alternate: false,
            prompt: None,
        }
    }

    /// The terminal has `width` columns from now on.
    pub(crate) fn resize(&mut self, width: u16) {
        self.width = usize::from(width.max(1));
        self.wrap_due = false;
    }

    /// The person pressed a key: what stands before the cursor on a fresh line is the prompt.
    pub(crate) fn typed(&mut self) {
        self.prompt.get_or_insert(self.cursor);
    }

    /// Whether a full-screen program is shown.
    pub(crate) fn alternate_screen(&self) -> bool {
        self.alternate
    }

    /// The target showed `data`.
    pub(crate) fn shown(&mut self, data: &[u8]) {
        for byte in data {
            match self.vt.feed(*byte) {
                Token::Nothing => {}
                Token::Text(byte) => self.text(byte),
                Token::Control(byte) => self.control(byte),
                Token::Sequence { mark: 0, params, last } => self.sequence(params, last),
                Token::Sequence { mark: b'?', params, last: last @ (b'h' | b'l') } => {
                    if params.iter().any(|p| matches!(p, 47 | 1047 | 1049)) {
                        self.alternate = last == b'h';
                        self.clear();
                    }
                }
                Token::Sequence { .. } => {}
            }
        }
    }

    /// The whole line, prompt included.
    pub(crate) fn line(&self) -> String {
        let text: String = self.cells.iter().filter(|c| **c != FILLER).collect();
        text.trim().to_owned()
    }

    /// The command that Enter would run now. `None`: nothing, or not a command line.
    pub(crate) fn command_at_enter(&self) -> Option<String> {
        if self.alternate {
            return None;
        }
        let from = self.prompt.filter(|at| *at > 0 && *at <= self.cells.len());
        let text = match from {
            Some(at) => self.cells.get(at..)?.iter().filter(|c| **c != FILLER).collect(),
            None => without_prompt(&self.line()).to_owned(),
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.cursor = 0;
        self.wrap_due = false;
        self.prompt = None;
    }

    fn text(&mut self, byte: u8) {
        if byte < 0x80 {
            self.utf8.clear();
            self.put(char::from(byte));
            return;
        }
        if byte >= 0xc0 {
            self.utf8.clear();
        }
        self.utf8.push(byte);
        match std::str::from_utf8(&self.utf8) {
            Ok(text) => {
                let c = text.chars().next();
                self.utf8.clear();
                c.into_iter().for_each(|c| self.put(c));
            }
            Err(error) if error.error_len().is_some() || self.utf8.len() >= 4 => {
                self.utf8.clear();
                self.put(char::REPLACEMENT_CHARACTER);
            }
            Err(_) => {}
        }
    }

    fn put(&mut self, c: char) {
        let columns = columns(c);
        for (i, c) in [c, FILLER].into_iter().take(columns).enumerate() {
            if self.cursor >= MAX_CELLS {
                return;
            }
            if self.cells.len() <= self.cursor {
                self.cells.resize(self.cursor + 1, ' ');
            }
            if let Some(cell) = self.cells.get_mut(self.cursor) {
                *cell = if i == 0 { c } else { FILLER };
            }
            self.cursor += 1;
        }
        self.wrap_due = columns > 0 && self.cursor.is_multiple_of(self.width);
    }

    fn row_start(&self) -> usize {
        let at = self.cursor - usize::from(self.wrap_due && self.cursor > 0);
        at - at % self.width
    }

    fn control(&mut self, byte: u8) {
        match byte {
            b'\r' => self.cursor = self.row_start(),
            // Down inside a line that goes over several rows; otherwise a new line.
            b'\n' if self.cells.len() > self.row_start() + self.width => {
                self.cursor = (self.cursor + self.width).min(self.cells.len());
            }
            b'\n' => self.clear(),
            0x08 => self.cursor = self.cursor.saturating_sub(1).max(self.row_start()),
            b'\t' => self.cursor = (self.cursor / 8 * 8 + 8).min(MAX_CELLS),
            _ => return,
        }
        self.wrap_due = false;
    }

    fn sequence(&mut self, params: [u16; 4], last: u8) {
        let [first, second, ..] = params.map(usize::from);
        let count = first.max(1);
        let (start, at) = (self.row_start(), self.cursor.min(self.cells.len()));
        let row_end = (start + self.width).min(self.cells.len());
        match last {
            b'C' => self.cursor = (self.cursor + count).min(start + self.width - 1).min(MAX_CELLS),
            b'D' => self.cursor = self.cursor.saturating_sub(count).max(start),
            b'A' => self.cursor = self.cursor.saturating_sub(count * self.width),
            b'B' => self.cursor = (self.cursor + count * self.width).min(self.cells.len()),
            b'G' => self.cursor = (start + count - 1).min(start + self.width - 1).min(MAX_CELLS),
            b'H' | b'f' => {
                // Elsewhere on the screen: another line.
                self.clear();
                self.cursor = second.saturating_sub(1).min(self.width - 1).min(MAX_CELLS);
            }
            b'K' => match first {
                0 if row_end == self.cells.len() => self.cells.truncate(at),
                0 => self.blank(at, row_end),
                1 => self.blank(start, (at + 1).min(row_end)),
                _ => self.blank(start, row_end),
            },
            b'J' => match first {
                0 => self.cells.truncate(at),
                1 => self.blank(0, at),
                _ => self.blank(0, self.cells.len()),
            },
            b'P' => drop(self.cells.drain(at..(at + count).min(self.cells.len()))),
            b'X' => self.blank(at, (at + count).min(self.cells.len())),
            b'@' => {
                let count = count.min(MAX_CELLS - at.min(MAX_CELLS));
                self.cells.splice(at..at, std::iter::repeat_n(' ', count));
                self.cells.truncate(MAX_CELLS);
            }
            _ => return,
        }
        self.wrap_due = false;
    }

    fn blank(&mut self, from: usize, to: usize) {
        if let Some(cells) = self.cells.get_mut(from..to) {
            cells.fill(' ');
        }
    }
}

/// Columns a character takes, near enough to follow a cursor: combining marks none, East Asian and emoji two.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Cuts a prompt off that ends in one of the usual signs.
fn without_prompt(line: &str) -> &str {
    let end = ["$ ", "# ", "> ", "% "]
        .iter()
        .filter_map(|sign| line.find(sign).map(|at| at + sign.len()))
        .filter(|at| *at <= MAX_PROMPT)
        .min();
    let bare = line.len() == 1 && line.ends_with(['$', '#', '>', '%']);
    let rest = end.and_then(|at| line.get(at..)).unwrap_or(if bare { "" } else { line });
    if end.is_none() && line.ends_with(['$', '#', '%']) && line.len() <= MAX_PROMPT { "" } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(shown: &str) -> Option<String> {
        let mut tracker = LineTracker::new(80);
        tracker.shown(shown.as_bytes());
        tracker.command_at_enter()
    }

    #[test]
    fn the_command_is_what_stands_on_the_line_after_editing() {
        for (shown, expected) in [
            ("vera@hmi:~$ ls -l", "ls -l"),
            ("root@hmi:~# rm x\x08\x08y z", "rm\u{79} z"),
            ("$ old command\r$ rm -rf /\x1b[K", "rm -rf /"),
            ("$ abc\x1b[2D\x1b[1PX", "aX"),
            ("$ ac\x1b[D\x1b[@b", "abc"),
            ("out\r\n\x1b]0;title\x07\x1b[01;32mv\x1b[0m$ id", "id"),
            ("PS C:\\Users\\v> dir", "dir"),
            ("hmi% größe 文字", "größe 文字"),
            ("$ x\x1b[5Gy", "x y"),
        ] {
            assert_eq!(command(shown).as_deref(), Some(expected), "{shown:?}");
        }
        assert_eq!(command("vera@hmi:~$ "), None);
        assert_eq!(command("$ vi\r\n\x1b[?1049h:wq"), None);
        assert_eq!(command("$ vi\r\n\x1b[?1049hx\x1b[?1049l$ id").as_deref(), Some("id"));
    }

    #[test]
    fn a_key_on_a_fresh_line_tells_where_an_unusual_prompt_ends() {
        let mut tracker = LineTracker::new(80);
        tracker.shown("plc-7 » ".as_bytes());
        tracker.typed();
        tracker.shown("write # 7".as_bytes());
        assert_eq!(tracker.command_at_enter().as_deref(), Some("write # 7"));
        tracker.shown(b"\r\n");
        tracker.shown("plc-7 » ".as_bytes());
        tracker.typed();
        assert_eq!(tracker.command_at_enter(), None);
    }

    #[test]
    fn a_command_that_wraps_over_rows_is_one_line() {
        let mut tracker = LineTracker::new(10);
        tracker.shown(b"$ 12345678");
        tracker.shown(b" \r9ab");
        assert_eq!(tracker.command_at_enter().as_deref(), Some("123456789ab"));
        tracker.shown(b"\x1b[A\rX\n\r9abc");
        assert_eq!(tracker.line(), "X 123456789abc");
    }

    proptest! {
        #[test]
        fn nothing_panics_memory_stays_small_and_cutting_changes_nothing(
            data in proptest::collection::vec(prop_oneof![
                Just(b"\x1b[".to_vec()), Just(b"999".to_vec()), Just(b"A".to_vec()), Just(b"B".to_vec()), Just(b"@".to_vec()), Just(b"\n".to_vec()),
                Just(b"P".to_vec()), Just(b"G".to_vec()), Just(b"\r".to_vec()), Just(vec![b'x'; 500]),
                proptest::collection::vec(any::<u8>(), 0..20)
            ], 0..60),
            width in 0u16..120,
        ) {
            let (mut whole, mut pieces) = (LineTracker::new(width), LineTracker::new(width));
            let data = data.concat();
            whole.shown(&data);
            data.chunks(1).for_each(|part| pieces.shown(part));
            prop_assert_eq!(whole.line(), pieces.line());
            prop_assert_eq!(whole.command_at_enter(), pieces.command_at_enter());
            prop_assert!(whole.cells.len() <= MAX_CELLS);
        }
    }
}
