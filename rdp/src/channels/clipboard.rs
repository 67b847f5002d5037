//! The clipboard (MS-RDPECLIP), text only. What is offered is cut down to Unicode text, what is fetched is reported before
//! it goes on, and each direction is allowed by itself. Files are never offered, so that nobody can ask for them.

use super::{ChannelPolicy, chunks::Partial};
use crate::{
    event::{Direction, Event},
    rewrite::Broken,
    wire::{Reader, u16_at, u32_at},
};

/// The longest message: a text of half a million characters.
const LIMIT: usize = 1024 * 1024;
/// `CF_UNICODETEXT`.
const TEXT: u32 = 13;

const READY: u16 = 1;
const LIST: u16 = 2;
const LIST_RESPONSE: u16 = 3;
const DATA_REQUEST: u16 = 4;
const DATA_RESPONSE: u16 = 5;
const CAPABILITIES: u16 = 7;
const OK: u16 = 1;
const FAIL: u16 = 2;
/// `CB_USE_LONG_FORMAT_NAMES`.
const LONG_NAMES: u32 = 2;

/// What becomes of one message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Passed {
    /// The message that goes on.
    pub(crate) forward: Option<Vec<u8>>,
    /// The message that goes back.
    pub(crate) answer: Option<Vec<u8>>,
    /// What is told before.
    pub(crate) event: Option<Event>,
    /// Something was taken out.
    pub(crate) dropped: bool,
}

/// One side's part.
#[derive(Debug, Default)]
struct End {
    partial: Partial<LIMIT>,
    long_names: bool,
    /// Its list was sent on, and the other side has not answered it.
    listed: bool,
    /// It asked for the other side's text, and waits.
    asked: bool,
}

/// A clipboard between two sides.
#[derive(Debug, Default)]
pub(crate) struct Clipboard {
    person: End,
    target: End,
}

impl Clipboard {
    /// A chunk from one side. `frozen` holds everything back.
    pub(crate) fn chunk(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        policy: &ChannelPolicy,
        frozen: bool,
    ) -> Result<Passed, Broken> {
        let Some(message) = self.ends(direction).0.partial.add(bytes)? else { return Ok(Passed::default()) };
        let read = || Some((u16_at(&message, 0)?, u16_at(&message, 2)?, message.get(8..)?));
        let (kind, flags, body) = read().ok_or(Broken("clipboard"))?;
        if u32_at(&message, 4).and_then(|len| usize::try_from(len).ok()).is_none_or(|len| len > body.len()) {
            return Err(Broken("clipboard"));
        }
        let may = |direction| !frozen && policy.clipboard(direction);
        Ok(match kind {
            READY if direction == Direction::ToPerson => forward(READY, 0, &[]),
            CAPABILITIES => self.capabilities(direction, body),
            LIST => self.list(direction, body, flags, may(direction)),
            LIST_RESPONSE if std::mem::take(&mut self.ends(direction).1.listed) => {
                forward(kind, flags & 3, &[])
            }
            // Who asks, asks for what goes the other way.
            DATA_REQUEST => self.request(direction, body, may(opposite(direction))),
            DATA_RESPONSE if std::mem::take(&mut self.ends(direction).1.asked) => {
                response(direction, flags, body, may(direction))
            }
            _ => Passed { dropped: true, ..Passed::default() },
        })
    }

    /// The end that a message in this direction comes from, and the other.
    fn ends(&mut self, direction: Direction) -> (&mut End, &mut End) {
        match direction {
            Direction::ToTarget => (&mut self.person, &mut self.target),
            Direction::ToPerson => (&mut self.target, &mut self.person),
        }
    }

    /// Long names of formats, and nothing about files.
    fn capabilities(&mut self, direction: Direction, body: &[u8]) -> Passed {
        // One general set of twelve bytes behind the number of sets (2.2.2.1.1.1).
        let flags = u32_at(body, 12).unwrap_or(0) & LONG_NAMES;
        self.ends(direction).0.long_names = flags != 0;
        let body = [[1, 0, 0, 0], [1, 0, 12, 0], 2_u32.to_le_bytes(), flags.to_le_bytes()].concat();
        forward(CAPABILITIES, 0, &body)
    }

    fn list(&mut self, direction: Direction, body: &[u8], flags: u16, may: bool) -> Passed {
        let long = self.person.long_names && self.target.long_names;
        let text = offers_text(body, long);
        if !may {
            return Passed {
                answer: Some(message(LIST_RESPONSE, OK, &[])),
                dropped: true,
                ..Passed::default()
            };
        }
        self.ends(direction).0.listed = true;
        let mut list = Vec::new();
        if text {
            list.extend(TEXT.to_le_bytes());
            list.resize(if long { 6 } else { 36 }, 0);
        }
        // Names are empty, so that it does not matter which characters they would have.
        forward(LIST, flags & 4, &list)
    }

    fn request(&mut self, direction: Direction, body: &[u8], may: bool) -> Passed {
        let (asking, _) = self.ends(direction);
        if !may || asking.asked || u32_at(body, 0) != Some(TEXT) {
            return Passed {
                answer: Some(message(DATA_RESPONSE, FAIL, &[])),
                dropped: true,
                ..Passed::default()
            };
        }
        asking.asked = true;
        forward(DATA_REQUEST, 0, &TEXT.to_le_bytes())
    }
}

fn response(direction: Direction, flags: u16, body: &[u8], may: bool) -> Passed {
    if flags & OK == 0 || !may {
        return forward(DATA_RESPONSE, FAIL, &[]);
    }
    let mut units = Vec::new();
    let mut at = Reader(body);
    while let Some(unit @ 1..) = at.u16() {
        units.push(unit);
    }
    // What goes on is what was reported, to the last character.
    let text = String::from_utf16_lossy(&units);
    let written: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    Passed { event: Some(Event::ClipboardText { direction, text }), ..forward(DATA_RESPONSE, OK, &written) }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::ToTarget => Direction::ToPerson,
        Direction::ToPerson => Direction::ToTarget,
    }
}

/// Whether a list of formats (2.2.3.1) has Unicode text in it.
fn offers_text(body: &[u8], long: bool) -> bool {
    let mut at = Reader(body);
    while let Some(format) = at.u32() {
        if format == TEXT {
            return true;
        }
        if long {
            while at.u16().is_some_and(|unit| unit != 0) {}
        } else if at.take(32).is_none() {
            break;
        }
    }
    false
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [kind.to_le_bytes().as_slice(), &flags.to_le_bytes(), &len.to_le_bytes(), body].concat()
}

fn forward(kind: u16, flags: u16, body: &[u8]) -> Passed {
    Passed { forward: Some(message(kind, flags, body)), ..Passed::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::chunks::pieces;
    use crate::event::Direction::{ToPerson, ToTarget};
    use proptest::prelude::*;

    fn policy(to_target: bool, to_person: bool) -> ChannelPolicy {
        ChannelPolicy { clipboard_to_target: to_target, clipboard_to_person: to_person, ..Default::default() }
    }

    fn say(
        clipboard: &mut Clipboard,
        direction: Direction,
        policy: &ChannelPolicy,
        message: &[u8],
    ) -> Passed {
        let mut passed = Passed::default();
        for piece in pieces(message) {
            passed = clipboard.chunk(direction, &piece, policy, false).unwrap();
        }
        passed
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    /// Both have agreed on long names.
    fn ready() -> Clipboard {
        let mut clipboard = Clipboard::default();
        let body = [[1, 0, 0, 0], [1, 0, 12, 0], [2, 0, 0, 0], [0x3e, 0, 0, 0]].concat();
        for direction in [ToPerson, ToTarget] {
            let passed =
                say(&mut clipboard, direction, &policy(true, true), &message(CAPABILITIES, 0, &body));
            assert_eq!(passed.forward.unwrap()[20..], [2, 0, 0, 0], "nothing about files");
        }
        clipboard
    }

    fn files_and_text() -> Vec<u8> {
        let files = [[0x01, 0xc0, 0, 0].as_slice(), &utf16("FileGroupDescriptorW")].concat();
        message(LIST, 0, &[files.as_slice(), &[13, 0, 0, 0, 0, 0]].concat())
    }

    #[test]
    fn text_is_reported_before_it_goes_on_and_files_are_never_offered() {
        let (mut clipboard, allowed) = (ready(), policy(true, false));
        let passed = say(&mut clipboard, ToTarget, &allowed, &files_and_text());
        assert_eq!(passed.forward, Some(message(LIST, 0, &[13, 0, 0, 0, 0, 0])));
        let passed = say(&mut clipboard, ToPerson, &allowed, &message(LIST_RESPONSE, OK, &[]));
        assert_eq!(passed.forward, Some(message(LIST_RESPONSE, OK, &[])));
        let ask = message(DATA_REQUEST, 0, &[13, 0, 0, 0]);
        assert_eq!(say(&mut clipboard, ToPerson, &allowed, &ask).forward, Some(ask));
        let long = "a valve ".repeat(2000);
        let passed = say(&mut clipboard, ToTarget, &allowed, &message(DATA_RESPONSE, OK, &utf16(&long)));
        assert_eq!(passed.event, Some(Event::ClipboardText { direction: ToTarget, text: long.clone() }));
        assert_eq!(passed.forward, Some(message(DATA_RESPONSE, OK, &utf16(&long))));
        // Nobody asked a second time.
        assert!(say(&mut clipboard, ToTarget, &allowed, &message(DATA_RESPONSE, OK, &utf16("x"))).dropped);
    }

    #[test]
    fn a_direction_that_is_not_allowed_is_answered_here() {
        let (mut clipboard, allowed) = (ready(), policy(true, false));
        let passed = say(&mut clipboard, ToPerson, &allowed, &files_and_text());
        assert_eq!((passed.forward, passed.answer), (None, Some(message(LIST_RESPONSE, OK, &[]))));
        let passed = say(&mut clipboard, ToTarget, &allowed, &message(DATA_REQUEST, 0, &[13, 0, 0, 0]));
        assert_eq!((passed.forward, passed.answer), (None, Some(message(DATA_RESPONSE, FAIL, &[]))));
        assert!(
            say(&mut clipboard, ToPerson, &allowed, &message(DATA_RESPONSE, OK, &utf16("secret"))).dropped
        );
    }

    #[test]
    fn nothing_but_text_is_fetched_and_nothing_while_frozen() {
        let (mut clipboard, allowed) = (ready(), policy(true, true));
        for format in [1_u32, 8, 0xc001] {
            let passed =
                say(&mut clipboard, ToTarget, &allowed, &message(DATA_REQUEST, 0, &format.to_le_bytes()));
            assert_eq!(passed.answer, Some(message(DATA_RESPONSE, FAIL, &[])));
        }
        for kind in [6, 8, 9, 10, 11, 99] {
            assert!(say(&mut clipboard, ToTarget, &allowed, &message(kind, 0, &[0; 40])).dropped);
        }
        let ask = &pieces(&message(DATA_REQUEST, 0, &[13, 0, 0, 0]))[0];
        assert!(clipboard.chunk(ToPerson, ask, &allowed, true).unwrap().forward.is_none());
        say(&mut clipboard, ToPerson, &allowed, &message(DATA_REQUEST, 0, &[13, 0, 0, 0]));
        let answer = &pieces(&message(DATA_RESPONSE, OK, &utf16("late")))[0];
        let passed = clipboard.chunk(ToTarget, answer, &allowed, true).unwrap();
        assert_eq!((passed.forward, passed.event), (Some(message(DATA_RESPONSE, FAIL, &[])), None));
    }

    #[test]
    fn a_message_that_is_too_long_or_lies_about_its_length_is_refused() {
        let mut clipboard = ready();
        let huge = [u32::MAX.to_le_bytes().as_slice(), &[1, 0, 0, 0], &[0; 20]].concat();
        assert!(clipboard.chunk(ToTarget, &huge, &policy(true, true), false).is_err());
        let over = [8_u32.to_le_bytes().as_slice(), &[3, 0, 0, 0], &[0; 20]].concat();
        assert!(clipboard.chunk(ToTarget, &over, &policy(true, true), false).is_err());
        let lies = pieces(&[5, 0, 1, 0, 0xff, 0, 0, 0]);
        assert!(clipboard.chunk(ToTarget, &lies[0], &policy(true, true), false).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(messages in prop::collection::vec((any::<bool>(), 0u16..12, prop::collection::vec(any::<u8>(), 0..60)), 0..8)) {
            let (mut clipboard, policy) = (Clipboard::default(), policy(true, true));
            for (up, kind, body) in messages {
                let direction = if up { ToTarget } else { ToPerson };
                for piece in pieces(&message(kind, 1, &body)) {
                    drop(clipboard.chunk(direction, &piece, &policy, false));
                }
                drop(clipboard.chunk(direction, &body, &policy, false));
            }
        }
    }
}
