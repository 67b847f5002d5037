//! The clipboard (MS-RDPECLIP): text and files. What is offered is cut down to Unicode text and the one format that is a list
//! of files, what is fetched is reported before it goes on, and each kind is allowed in each direction by itself. What is not
//! allowed is never offered, so that nobody can ask for it. Clipboards are not locked: who copies something else ends what is
//! still being fetched.

mod files;

use std::collections::VecDeque;

use super::{
    chunks::{Arrived, Partial},
    devices::Terms,
};
use crate::{
    event::{Direction, Event},
    rewrite::Broken,
    wire::{Reader, u16_at, u32_at},
};
use files::{ClipFiles, MAX_PART};

/// The longest message: a text of half a million characters, or a part of a file and its head.
const LIMIT: usize = MAX_PART as usize + 64;
/// `CF_UNICODETEXT`.
const TEXT: u32 = 13;
/// The name of the format whose data are a list of files. Its number is the sender's choice.
const FILES: &str = "FileGroupDescriptorW";

const READY: u16 = 1;
const LIST: u16 = 2;
const LIST_RESPONSE: u16 = 3;
const DATA_REQUEST: u16 = 4;
const DATA_RESPONSE: u16 = 5;
const CAPABILITIES: u16 = 7;
const FILE_REQUEST: u16 = 8;
const FILE_RESPONSE: u16 = 9;
const OK: u16 = 1;
const FAIL: u16 = 2;
/// `CB_USE_LONG_FORMAT_NAMES`.
const LONG_NAMES: u32 = 2;
/// `CB_STREAM_FILECLIP_ENABLED`, `CB_FILECLIP_NO_FILE_PATHS` and `CB_HUGE_FILE_SUPPORT_ENABLED`.
const STREAMS: u32 = 4;
const NO_PATHS: u32 = 8;
const HUGE: u32 = 0x20;

/// What becomes of one message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Passed {
    /// The messages that go on.
    pub(crate) forward: Vec<Vec<u8>>,
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
    /// It can give and take files.
    streams: bool,
    /// Its list was sent on, and the other side has not answered it.
    listed: bool,
    /// What it asked for of what the other side has, and waits for: answers have no numbers and come in this order.
    asked: VecDeque<Asked>,
    files: ClipFiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Text,
    Files,
    /// Something that is refused here, when its turn has come.
    Refused,
}

/// Most questions of one side that wait for answers. xrdp asks for each program that wants to paste.
const MAX_ASKED: usize = 8;

impl Terms<'_> {
    fn may_text(&self, direction: Direction) -> bool {
        !self.frozen && self.policy.clipboard(direction)
    }

    fn may_files(&self, direction: Direction) -> bool {
        !self.frozen && self.policy.clipboard_files(direction)
    }
}

/// A clipboard between two sides.
#[derive(Debug, Default)]
pub(crate) struct Clipboard {
    person: End,
    target: End,
}

impl Clipboard {
    /// A chunk from one side.
    pub(crate) fn chunk(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        match self.ends(direction).0.partial.add_or_cut(bytes)? {
            Some(Arrived::Whole(message)) => self.message(direction, &message, terms),
            Some(Arrived::Cut(beginning)) => self.too_long(direction, &beginning, terms),
            None => Ok(Passed::default()),
        }
    }

    /// A message of which there is more than is kept: what was asked for is answered with no, so that nobody waits.
    fn too_long(
        &mut self,
        direction: Direction,
        beginning: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let Some(kind @ (DATA_RESPONSE | FILE_RESPONSE)) = u16_at(beginning, 0) else { return Ok(dropped()) };
        if kind == DATA_RESPONSE && self.ends(direction).0.files.format.is_some() {
            files::say_too_many(terms.files);
        }
        let number = beginning.get(8..12).filter(|_| kind == FILE_RESPONSE).unwrap_or_default();
        let passed = self.message(direction, &message(kind, FAIL, number), terms)?;
        Ok(Passed { dropped: true, ..passed })
    }

    /// A whole message from one side.
    pub(crate) fn message(
        &mut self,
        direction: Direction,
        message: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let read = || Some((u16_at(message, 0)?, u16_at(message, 2)?, u32_at(message, 4)?));
        let (kind, flags, len) = read().ok_or(Broken("clipboard"))?;
        let body = message.get(8..).unwrap_or_default();
        // Some targets write more than they say.
        let said = usize::try_from(len).ok().and_then(|len| body.get(..len)).ok_or(Broken("clipboard"))?;
        Ok(match kind {
            READY if direction == Direction::ToPerson => forward(READY, 0, &[]),
            CAPABILITIES => self.capabilities(direction, body, terms),
            LIST => self.list(direction, said, flags, terms),
            LIST_RESPONSE if std::mem::take(&mut self.ends(direction).1.listed) => {
                forward(kind, flags & 3, &[])
            }
            // Who asks, asks for what goes the other way.
            DATA_REQUEST => self.request(direction, body, terms),
            DATA_RESPONSE => {
                let mut passed = match self.ends(direction).1.asked.pop_front() {
                    Some(Asked::Text) => response(direction, flags, body, terms.may_text(direction)),
                    Some(Asked::Files) => self.files(direction, flags, said, terms)?,
                    // Refused ones are never first: nothing is waited for before them.
                    Some(Asked::Refused) | None => return Ok(dropped()),
                };
                let asked = &mut self.ends(direction).1.asked;
                while asked.pop_front_if(|next| *next == Asked::Refused).is_some() {
                    passed.forward.push(self::message(DATA_RESPONSE, FAIL, &[]));
                }
                passed
            }
            FILE_REQUEST => self.file_request(direction, said, terms)?,
            FILE_RESPONSE => self.file_response(direction, flags, said, terms)?,
            _ => dropped(),
        })
    }

    /// The end that a message in this direction comes from, and the other.
    fn ends(&mut self, direction: Direction) -> (&mut End, &mut End) {
        match direction {
            Direction::ToTarget => (&mut self.person, &mut self.target),
            Direction::ToPerson => (&mut self.target, &mut self.person),
        }
    }

    /// Long names of formats, and files where they may go some way; then no list has whole paths.
    fn capabilities(&mut self, direction: Direction, body: &[u8], terms: &Terms<'_>) -> Passed {
        // One general set of twelve bytes behind the number of sets (2.2.2.1.1.1).
        let all = u32_at(body, 12).unwrap_or(0);
        let streams = all & STREAMS != 0 && terms.policy.any_clipboard_files();
        let files = if streams { STREAMS | NO_PATHS | all & HUGE } else { 0 };
        let flags = all & LONG_NAMES | files;
        let (end, _) = self.ends(direction);
        (end.long_names, end.streams) = (flags & LONG_NAMES != 0, streams);
        let body = [[1, 0, 0, 0], [1, 0, 12, 0], 2_u32.to_le_bytes(), flags.to_le_bytes()].concat();
        forward(CAPABILITIES, 0, &body)
    }

    fn list(&mut self, direction: Direction, body: &[u8], flags: u16, terms: &mut Terms<'_>) -> Passed {
        let long = self.person.long_names && self.target.long_names;
        let streams = long && self.person.streams && self.target.streams;
        let (may_text, may_files) = (terms.may_text(direction), streams && terms.may_files(direction));
        let offered = offered(body, long);
        let text = offered.text && may_text;
        let files = offered.files.filter(|_| may_files);
        let (owner, _) = self.ends(direction);
        // What was there before is not there any more.
        let mut messages = owner.files.replace(files, terms.files);
        if !may_text && !may_files {
            let answer = Some(message(LIST_RESPONSE, OK, &[]));
            return Passed { forward: messages, answer, event: None, dropped: true };
        }
        owner.listed = true;
        let mut list = Vec::new();
        if text {
            list.extend(TEXT.to_le_bytes());
            // The name is empty, so that it does not matter which characters it would have.
            list.resize(if long { 6 } else { 36 }, 0);
        }
        if let Some(number) = files {
            list.extend(number.to_le_bytes());
            list.extend(FILES.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        }
        messages.push(message(LIST, flags & 4, &list));
        // Somebody copied something, and nothing of it can be pasted.
        let dropped = list.is_empty() && (offered.text || offered.files.is_some());
        Passed { forward: messages, dropped, ..Passed::default() }
    }

    fn request(&mut self, direction: Direction, body: &[u8], terms: &Terms<'_>) -> Passed {
        let (asking, owner) = self.ends(direction);
        let way = opposite(direction);
        let asked = match u32_at(body, 0) {
            Some(TEXT) if terms.may_text(way) => Some((Asked::Text, TEXT)),
            Some(number) if owner.files.format == Some(number) && terms.may_files(way) => {
                Some((Asked::Files, number))
            }
            _ => None,
        };
        let full = asking.asked.len() >= MAX_ASKED;
        match asked {
            Some((asked, number)) if !full => {
                asking.asked.push_back(asked);
                forward(DATA_REQUEST, 0, &number.to_le_bytes())
            }
            None if !full && !asking.asked.is_empty() => {
                asking.asked.push_back(Asked::Refused);
                dropped()
            }
            _ => Passed { answer: Some(message(DATA_RESPONSE, FAIL, &[])), ..dropped() },
        }
    }

    /// The list of files that was asked for.
    fn files(
        &mut self,
        direction: Direction,
        flags: u16,
        body: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let files = &mut self.ends(direction).0.files;
        let may = flags & OK != 0 && terms.may_files(direction);
        let listed = if may { files.listed(body, direction, terms.files)? } else { None };
        // Whoever asks for the same once more ends nothing that is being fetched.
        let same = listed.as_ref().is_some_and(|listed| files.is(listed));
        let mut messages = if same { Vec::new() } else { files.replace(files.format, terms.files) };
        let event = match listed {
            Some(listed) => {
                if !same {
                    files.take(listed.list);
                }
                messages.push(message(DATA_RESPONSE, OK, &listed.bytes));
                Some(Event::ClipboardFiles { direction, paths: listed.paths })
            }
            None => {
                messages.push(message(DATA_RESPONSE, FAIL, &[]));
                None
            }
        };
        Ok(Passed { forward: messages, event, ..Passed::default() })
    }

    fn file_request(
        &mut self,
        direction: Direction,
        body: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let way = opposite(direction);
        let may = terms.may_files(way);
        let (_, owner) = self.ends(direction);
        Ok(match owner.files.ask(body, way, may, terms.files)? {
            Ok(onward) => Passed { forward: vec![onward], ..Passed::default() },
            Err(answer) => Passed { answer: Some(answer), dropped: !may, ..Passed::default() },
        })
    }

    fn file_response(
        &mut self,
        direction: Direction,
        flags: u16,
        body: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let may = terms.may_files(direction);
        let (owner, _) = self.ends(direction);
        let answered = owner.files.answered(flags, body, direction, may, terms.files)?;
        Ok(Passed {
            dropped: answered.is_none(),
            forward: answered.into_iter().collect(),
            ..Passed::default()
        })
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

/// The way back.
pub(crate) fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::ToTarget => Direction::ToPerson,
        Direction::ToPerson => Direction::ToTarget,
    }
}

/// What is understood in a list of formats (2.2.3.1).
#[derive(Debug, Default)]
struct Offered {
    text: bool,
    /// The number of the list of files.
    files: Option<u32>,
}

fn offered(body: &[u8], long: bool) -> Offered {
    let mut offered = Offered::default();
    let mut at = Reader(body);
    while let Some(format) = at.u32() {
        offered.text |= format == TEXT;
        if long {
            let name: Vec<u16> = std::iter::from_fn(|| at.u16().filter(|unit| *unit != 0)).collect();
            if format != TEXT && name.iter().copied().eq(FILES.encode_utf16()) {
                offered.files.get_or_insert(format);
            }
        } else if at.take(32).is_none() {
            break;
        }
    }
    offered
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [kind.to_le_bytes().as_slice(), &flags.to_le_bytes(), &len.to_le_bytes(), body].concat()
}

/// What a recording has of a message besides the text and the contents that it has anyway: of a list of files (`listed`), whose
/// names it has masked, everything but those.
pub(crate) fn noted(message: &[u8], listed: bool) -> Vec<u8> {
    match u16_at(message, 0) {
        Some(DATA_RESPONSE) if listed => files::without_names(message),
        Some(DATA_RESPONSE) => message.iter().take(8).copied().collect(),
        Some(FILE_RESPONSE) => message.iter().take(20).copied().collect(),
        _ => message.to_vec(),
    }
}

fn forward(kind: u16, flags: u16, body: &[u8]) -> Passed {
    Passed { forward: vec![message(kind, flags, body)], ..Passed::default() }
}

fn dropped() -> Passed {
    Passed { dropped: true, ..Passed::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{ChannelPolicy, chunks::pieces};
    use crate::event::Direction::{ToPerson, ToTarget};
    use crate::files::NoFiles;
    use proptest::prelude::*;

    fn policy(to_target: bool, to_person: bool) -> ChannelPolicy {
        ChannelPolicy { clipboard_to_target: to_target, clipboard_to_person: to_person, ..Default::default() }
    }

    fn chunk(
        clipboard: &mut Clipboard,
        direction: Direction,
        bytes: &[u8],
        policy: &ChannelPolicy,
        frozen: bool,
    ) -> Result<Passed, Broken> {
        clipboard.chunk(direction, bytes, &mut Terms { policy, frozen, files: &mut NoFiles })
    }

    fn say(
        clipboard: &mut Clipboard,
        direction: Direction,
        policy: &ChannelPolicy,
        message: &[u8],
    ) -> Passed {
        let mut passed = Passed::default();
        for piece in pieces(message) {
            passed = chunk(clipboard, direction, &piece, policy, false).unwrap();
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
            assert_eq!(passed.forward[0][20..], [2, 0, 0, 0], "nothing about files");
        }
        clipboard
    }

    fn files_and_text() -> Vec<u8> {
        let files = [[0x01, 0xc0, 0, 0].as_slice(), &utf16("FileGroupDescriptorW")].concat();
        message(LIST, 0, &[files.as_slice(), &[13, 0, 0, 0, 0, 0]].concat())
    }

    #[test]
    fn text_is_reported_before_it_goes_on_and_files_are_not_offered_unless_allowed() {
        let (mut clipboard, allowed) = (ready(), policy(true, false));
        let passed = say(&mut clipboard, ToTarget, &allowed, &files_and_text());
        assert_eq!(passed.forward, [message(LIST, 0, &[13, 0, 0, 0, 0, 0])]);
        let passed = say(&mut clipboard, ToPerson, &allowed, &message(LIST_RESPONSE, OK, &[]));
        assert_eq!(passed.forward, [message(LIST_RESPONSE, OK, &[])]);
        let ask = message(DATA_REQUEST, 0, &[13, 0, 0, 0]);
        assert_eq!(say(&mut clipboard, ToPerson, &allowed, &ask).forward, [ask]);
        let long = "a valve ".repeat(2000);
        let passed = say(&mut clipboard, ToTarget, &allowed, &message(DATA_RESPONSE, OK, &utf16(&long)));
        assert_eq!(passed.event, Some(Event::ClipboardText { direction: ToTarget, text: long.clone() }));
        assert_eq!(passed.forward, [message(DATA_RESPONSE, OK, &utf16(&long))]);
        // Nobody asked a second time.
        assert!(say(&mut clipboard, ToTarget, &allowed, &message(DATA_RESPONSE, OK, &utf16("x"))).dropped);
    }

    #[test]
    fn questions_that_come_before_an_answer_are_answered_in_their_order() {
        let (mut clipboard, allowed) = (ready(), policy(true, false));
        say(&mut clipboard, ToTarget, &allowed, &files_and_text());
        let ask = |format: u8| message(DATA_REQUEST, 0, &[format, 0, 0, 0]);
        let no = message(DATA_RESPONSE, FAIL, &[]);
        // Two programs on the desktop want to paste at once, and another a picture between them.
        for format in [13, 13, 8, 13] {
            let passed = say(&mut clipboard, ToPerson, &allowed, &ask(format));
            let forward = if format == 13 { vec![ask(13)] } else { vec![] };
            assert_eq!((passed.forward, passed.answer), (forward, None));
        }
        let text = |text| message(DATA_RESPONSE, OK, &utf16(text));
        let mut answered = |words| say(&mut clipboard, ToTarget, &allowed, &text(words)).forward;
        assert_eq!(answered("one"), [text("one")]);
        assert_eq!(answered("two"), [text("two"), no.clone()]);
        assert_eq!(answered("three"), [text("three")]);
        assert!(answered("four").is_empty());
        // And no more of them than can be kept.
        let refused = (0..20).filter(|_| {
            let passed = say(&mut clipboard, ToPerson, &allowed, &ask(13));
            passed.answer.as_ref() == Some(&no) && passed.forward.is_empty()
        });
        assert_eq!(refused.count(), 20 - MAX_ASKED);
    }

    #[test]
    fn a_direction_that_is_not_allowed_is_answered_here() {
        let (mut clipboard, allowed) = (ready(), policy(true, false));
        let passed = say(&mut clipboard, ToPerson, &allowed, &files_and_text());
        assert_eq!((passed.forward, passed.answer), (vec![], Some(message(LIST_RESPONSE, OK, &[]))));
        let passed = say(&mut clipboard, ToTarget, &allowed, &message(DATA_REQUEST, 0, &[13, 0, 0, 0]));
        assert_eq!((passed.forward, passed.answer), (vec![], Some(message(DATA_RESPONSE, FAIL, &[]))));
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
        assert!(chunk(&mut clipboard, ToPerson, ask, &allowed, true).unwrap().forward.is_empty());
        say(&mut clipboard, ToPerson, &allowed, &message(DATA_REQUEST, 0, &[13, 0, 0, 0]));
        let answer = &pieces(&message(DATA_RESPONSE, OK, &utf16("late")))[0];
        let passed = chunk(&mut clipboard, ToTarget, answer, &allowed, true).unwrap();
        assert_eq!((passed.forward, passed.event), (vec![message(DATA_RESPONSE, FAIL, &[])], None));
    }

    #[test]
    fn a_message_that_is_too_long_or_lies_about_its_length_is_refused() {
        let mut clipboard = ready();
        let huge = [u32::MAX.to_le_bytes().as_slice(), &[1, 0, 0, 0], &[0; 20]].concat();
        assert!(chunk(&mut clipboard, ToTarget, &huge, &policy(true, true), false).is_err());
        let over = [8_u32.to_le_bytes().as_slice(), &[3, 0, 0, 0], &[0; 20]].concat();
        assert!(chunk(&mut clipboard, ToTarget, &over, &policy(true, true), false).is_err());
        let lies = pieces(&[5, 0, 1, 0, 0xff, 0, 0, 0]);
        assert!(chunk(&mut clipboard, ToTarget, &lies[0], &policy(true, true), false).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(messages in prop::collection::vec((any::<bool>(), 0u16..12, prop::collection::vec(any::<u8>(), 0..60)), 0..8)) {
            let (mut clipboard, policy) = (Clipboard::default(), policy(true, true));
            for (up, kind, body) in messages {
                let direction = if up { ToTarget } else { ToPerson };
                for piece in pieces(&message(kind, 1, &body)) {
                    drop(chunk(&mut clipboard, direction, &piece, &policy, false));
                }
                drop(chunk(&mut clipboard, direction, &body, &policy, false));
            }
        }
    }
}
