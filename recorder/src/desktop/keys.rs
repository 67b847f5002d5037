//! Keys and clipboard of a desktop. Both may hold passwords, so both stand in masked input, told apart by its first byte.

use std::ops::ControlFlow;

use crate::{
    error::ReadError,
    event::{Direction, Event, TimedEvent},
    lines::{LineKind, TextLine},
    read::Recording,
    wire::MAX_DATA,
};

mod layout;

const KEYS: u8 = 1;
const TO_TARGET: u8 = 2;
const TO_PERSON: u8 = 3;
/// Bytes of a key.
const KEY: usize = 3;
/// Text of one masked event, with its first byte.
const PIECE: usize = MAX_DATA - 1;
/// Text that nobody ended with Enter is given out after so long a pause: 5 s.
const PAUSE: i64 = 5_000_000;
/// … or when it is so long.
const LONG: usize = 1000;

/// A key that was pressed or let go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The scan code (set 1), or a UTF-16 unit.
    pub code: u16,
    /// It was let go.
    pub released: bool,
    /// One of the keys that send 0xE0 first.
    pub extended: bool,
    /// The code is a UTF-16 unit.
    pub unicode: bool,
}

impl std::fmt::Debug for Key {
    /// Says nothing of which key it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub(super) fn pack(keys: &[Self]) -> Vec<Vec<u8>> {
        let packed = |keys: &[Self]| {
            let mut data = vec![KEYS];
            for key in keys {
                let flags = u8::from(key.released) | u8::from(key.extended) << 1 | u8::from(key.unicode) << 2;
                data.push(flags);
                data.extend_from_slice(&key.code.to_le_bytes());
            }
            data
        };
        keys.chunks(PIECE / KEY).map(packed).collect()
    }

    fn parse([flags, low, high]: [u8; KEY]) -> Self {
        Self {
            code: u16::from_le_bytes([low, high]),
            released: flags & 1 != 0,
            extended: flags & 2 != 0,
            unicode: flags & 4 != 0,
        }
    }
}

/// Text that went through the clipboard.
#[derive(Clone, PartialEq, Eq)]
pub struct ClipboardText {
    /// Which way it went.
    pub direction: Direction,
    /// The text.
    pub text: String,
}

impl std::fmt::Debug for ClipboardText {
    /// Says nothing of the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClipboardText({:?}, …)", self.direction)
    }
}

impl ClipboardText {
    pub(super) fn pack(&self) -> Vec<Vec<u8>> {
        let first = if self.direction == Direction::ToTarget { TO_TARGET } else { TO_PERSON };
        let piece = |text: &[u8]| [&[first], text].concat();
        self.text.as_bytes().chunks(PIECE).map(piece).collect()
    }
}

/// Makes text of what was typed on desktops and of what went through their clipboards.
#[derive(Default)]
pub struct Typed {
    state: layout::State,
    layout: u32,
    text: String,
    /// When the first key of `text` was pressed, and the last.
    since: i64,
    last: i64,
}

impl Typed {
    /// Takes the next event of a recording that reveals masked input; a line that is complete goes to `out`.
    pub fn event(&mut self, event: &TimedEvent, out: &mut Vec<TextLine>) {
        let at = event.at;
        let channel = event.event.channel().unwrap_or(0);
        match &event.event {
            Event::Keyboard { layout, .. } => self.layout = *layout,
            // A click goes on elsewhere.
            Event::Pointer { buttons, .. } if *buttons != 0 => self.flush(channel, out),
            Event::Input { data, masked: true, .. } => match data.split_first() {
                Some((&KEYS, keys)) => {
                    keys.as_chunks().0.iter().for_each(|key| self.key(at, channel, Key::parse(*key), out));
                }
                Some((&first @ (TO_TARGET | TO_PERSON), text)) => {
                    let way = if first == TO_TARGET { "to the target" } else { "to the person" };
                    let text = format!("clipboard {way}: {}", String::from_utf8_lossy(text));
                    out.push(TextLine { at, channel, kind: LineKind::Typed, text });
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn key(&mut self, at: i64, channel: u32, key: Key, out: &mut Vec<TextLine>) {
        if at.saturating_sub(self.last) > PAUSE || self.text.len() > LONG {
            self.flush(channel, out);
        }
        let Some(pressed) = self.state.press(self.layout, key) else { return };
        if self.text.is_empty() {
            self.since = at;
        }
        self.last = at;
        match pressed {
            layout::Pressed::Text(c) => self.text.push(c),
            layout::Pressed::Back => drop(self.text.pop()),
            layout::Pressed::Enter => self.flush(channel, out),
            layout::Pressed::Named(name) => self.text.push_str(&format!("<{name}>")),
        }
    }

    fn flush(&mut self, channel: u32, out: &mut Vec<TextLine>) {
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() {
            out.push(TextLine { at: self.since, channel, kind: LineKind::Typed, text });
        }
    }

    /// Gives out what was not ended.
    pub fn finish(mut self, out: &mut Vec<TextLine>) {
        self.flush(0, out);
    }
}

/// What was typed in an unlocked recording, and the texts that went through the clipboard; nothing for whoever may not read
/// masked input. `each` says when it has enough.
///
/// # Errors
/// When the recording is locked.
pub fn typed(
    recording: &Recording,
    mut each: impl FnMut(TextLine) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    if !recording.reveals() {
        return Ok(());
    }
    let (mut typed, mut lines) = (Typed::default(), Vec::new());
    // Damage is the verifier's to report; what can be read can be found.
    for event in recording.events()?.filter_map(Result::ok) {
        typed.event(&event, &mut lines);
        for line in lines.drain(..) {
            if each(line).is_break() {
                return Ok(());
            }
        }
    }
    typed.finish(&mut lines);
    for line in lines {
        if each(line).is_break() {
            break;
        }
    }
    Ok(())
}

impl std::fmt::Debug for Typed {
    /// Says nothing of the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::DesktopEncoder;

    fn stroke(code: u16) -> [Key; 2] {
        let key = Key { code, released: false, extended: false, unicode: false };
        [key, Key { released: true, ..key }]
    }

    fn lines(events: impl IntoIterator<Item = (i64, Event)>) -> Vec<(i64, String)> {
        let (mut typed, mut out) = (Typed::default(), Vec::new());
        for (at, event) in events {
            typed.event(&TimedEvent { at, event }, &mut out);
        }
        typed.finish(&mut out);
        out.into_iter().map(|line| (line.at, line.text)).collect()
    }

    #[test]
    fn keys_become_text_by_shift_backspace_and_layout() {
        let encoder = DesktopEncoder::new(0);
        let shift = Key { code: 0x2a, released: false, extended: false, unicode: false };
        let mut keys = vec![shift];
        keys.extend(stroke(0x1e)); // A
        keys.push(Key { released: true, ..shift });
        keys.extend(stroke(0x15)); // y, z in German
        keys.extend(stroke(0x30)); // b
        keys.extend(stroke(0x0e)); // back
        keys.extend(stroke(0x0f)); // tab
        keys.extend(stroke(0x1c)); // enter
        keys.push(Key { code: 0xe4, released: false, extended: false, unicode: true });
        let event = encoder.keys(&keys).remove(0);
        assert_eq!(lines([(5, event.clone())]), [(5, "Ay<Tab>".to_owned()), (5, "ä".to_owned())]);
        let german = Event::Keyboard { channel: 0, layout: 0x407 };
        assert_eq!(lines([(0, german), (5, event)])[0].1, "Az<Tab>");
    }

    #[test]
    fn a_pause_and_a_click_end_a_line() {
        let encoder = DesktopEncoder::new(0);
        let key = |code| encoder.keys(&stroke(code)).remove(0);
        let click = Event::Pointer { channel: 0, x: 1, y: 1, buttons: 1 };
        let second = 1_000_000;
        let told = lines([
            (0, key(0x1e)),
            (second, key(0x30)),
            (9 * second, key(0x2e)),
            (9 * second, click),
            (10 * second, key(0x20)),
        ]);
        let told: Vec<_> = told.iter().map(|(at, text)| (at / second, text.as_str())).collect();
        assert_eq!(told, [(0, "ab"), (9, "c"), (10, "d")]);
    }

    #[test]
    fn clipboard_text_of_any_length_comes_in_pieces_that_an_event_takes() {
        let text = ClipboardText { direction: Direction::ToTarget, text: "q".repeat(3 * MAX_DATA) };
        let events = DesktopEncoder::new(0).clipboard(&text);
        assert!(events.iter().all(|event| crate::wire::data_len(event) <= MAX_DATA));
        let told = lines(events.into_iter().map(|event| (0, event)));
        let length: usize = told.iter().map(|(_, text)| text.len() - "clipboard to the target: ".len()).sum();
        assert_eq!(length, 3 * MAX_DATA);
        assert!(!format!("{text:?}").contains('q'));
    }
}
