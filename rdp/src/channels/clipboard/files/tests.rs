//! Files on a clipboard, message by message, between two scripted peers.

use proptest::prelude::*;

use super::*;
use crate::{
    channels::{
        ChannelPolicy,
        clipboard::{
            CAPABILITIES, Clipboard, DATA_REQUEST, DATA_RESPONSE, FILES, LIST, LIST_RESPONSE, Passed,
        },
        devices::Terms,
        notes::Notes,
    },
    event::{
        Direction::{ToPerson, ToTarget},
        Event,
    },
};

/// The number that an owner gives the format.
const NUMBER: u32 = 0xc0bc;
const LOCK: u16 = 10;
const UNLOCK: u16 = 11;

/// Both sides, agreed on files, and who decides on them.
struct Scene {
    clipboard: Clipboard,
    notes: Notes,
    policy: ChannelPolicy,
    frozen: bool,
}

impl Scene {
    fn new() -> Self {
        Self::agreed(ChannelPolicy {
            clipboard_files_to_target: true,
            clipboard_files_to_person: true,
            ..ChannelPolicy::default()
        })
    }

    fn agreed(policy: ChannelPolicy) -> Self {
        let mut scene =
            Self { clipboard: Clipboard::default(), notes: Notes::default(), policy, frozen: false };
        for direction in [ToPerson, ToTarget] {
            scene.say(direction, CAPABILITIES, 0, &capabilities(0x3e));
        }
        scene
    }

    /// The owner's list has been fetched; contents go in `direction`.
    fn with(direction: Direction, files: &[(&str, u64)]) -> Self {
        let mut scene = Self::new();
        let listed = scene.lists(direction, &list(files));
        assert_eq!(listed.forward.len(), 1);
        scene.notes.said.clear();
        scene
    }

    fn try_say(
        &mut self,
        direction: Direction,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<Passed, Broken> {
        let mut terms = Terms { policy: &self.policy, frozen: self.frozen, files: &mut self.notes };
        self.clipboard.message(direction, &message(kind, flags, body), &mut terms)
    }

    fn say(&mut self, direction: Direction, kind: u16, flags: u16, body: &[u8]) -> Passed {
        self.try_say(direction, kind, flags, body).unwrap()
    }

    /// The owner offers files, the other side asks for the list, and the owner gives it.
    fn lists(&mut self, direction: Direction, list: &[u8]) -> Passed {
        self.say(direction, LIST, 0, &formats(&[(NUMBER, FILES)]));
        self.say(back(direction), DATA_REQUEST, 0, &NUMBER.to_le_bytes());
        self.say(direction, DATA_RESPONSE, OK, list)
    }

    /// A part is asked for: the number of the question that the owner gets.
    #[track_caller]
    fn asks(&mut self, direction: Direction, stream: u32, index: u32, offset: u64, len: u32) -> u32 {
        let passed = self.say(back(direction), FILE_REQUEST, 0, &request(stream, index, RANGE, offset, len));
        let [onward] = &passed.forward[..] else { panic!("{passed:?}") };
        u32_at(onward, 8).unwrap()
    }

    #[track_caller]
    fn denied(&mut self, direction: Direction, body: &[u8]) {
        let passed = self.say(back(direction), FILE_REQUEST, 0, body);
        assert_eq!((passed.forward, passed.answer), (vec![], Some(refusal(7))));
    }

    fn answers(&mut self, direction: Direction, number: u32, data: &[u8]) -> Vec<Vec<u8>> {
        let body = [number.to_le_bytes().as_slice(), data].concat();
        self.say(direction, FILE_RESPONSE, OK, &body).forward
    }
}

fn back(direction: Direction) -> Direction {
    if direction == ToTarget { ToPerson } else { ToTarget }
}

fn capabilities(flags: u32) -> Vec<u8> {
    [[1, 0, 0, 0], [1, 0, 12, 0], [2, 0, 0, 0], flags.to_le_bytes()].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn formats(formats: &[(u32, &str)]) -> Vec<u8> {
    formats
        .iter()
        .flat_map(|(number, name)| [number.to_le_bytes().to_vec(), utf16(name), vec![0, 0]].concat())
        .collect()
}

/// A description as peers write it: with whatever was in their memory where nothing belongs.
fn description(name: &[u8], flags: u32, attributes: u32, size: u64) -> Vec<u8> {
    let mut bytes = [0xee; DESCRIPTION];
    bytes[..4].copy_from_slice(&flags.to_le_bytes());
    bytes[36..40].copy_from_slice(&attributes.to_le_bytes());
    bytes[56..64].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    bytes[64..68].copy_from_slice(&u32::try_from(size >> 32).unwrap().to_le_bytes());
    bytes[68..72].copy_from_slice(&u32::try_from(size & 0xffff_ffff).unwrap().to_le_bytes());
    bytes[72..72 + name.len()].copy_from_slice(name);
    if name.len() < NAME {
        bytes[72 + name.len()..74 + name.len()].fill(0);
    }
    bytes.to_vec()
}

fn list(files: &[(&str, u64)]) -> Vec<u8> {
    let count = u32::try_from(files.len()).unwrap().to_le_bytes().to_vec();
    let described = files.iter().map(|(name, size)| description(&utf16(name), 0x4064, 0x20, *size));
    [count].into_iter().chain(described).flatten().collect()
}

fn request(stream: u32, index: u32, kind: u32, offset: u64, len: u32) -> Vec<u8> {
    let low = u32::try_from(offset & 0xffff_ffff).unwrap();
    let high = u32::try_from(offset >> 32).unwrap();
    // With the number of a lock behind it, as xrdp writes it.
    [stream, index, kind, low, high, len, 0].into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_copied_file_is_told_by_name_fetched_in_parts_and_over_with_the_last() {
    for (direction, mode, way) in [(ToTarget, "r", "ToTarget"), (ToPerson, "wme", "ToPerson")] {
        let mut scene = Scene::new();
        let passed = scene.say(direction, LIST, 0, &formats(&[(1, "Other"), (NUMBER, FILES), (13, "")]));
        assert_eq!(passed.forward, [message(LIST, 0, &formats(&[(NUMBER, FILES)]))], "nothing but files");
        let answer = scene.say(back(direction), LIST_RESPONSE, OK, &[]);
        assert_eq!(answer.forward, [message(LIST_RESPONSE, OK, &[])]);
        let ask = scene.say(back(direction), DATA_REQUEST, 0, &NUMBER.to_le_bytes());
        assert_eq!(ask.forward, [message(DATA_REQUEST, 0, &NUMBER.to_le_bytes())]);
        let passed = scene.say(direction, DATA_RESPONSE, OK, &list(&[("in\\a.csv", 10)]));
        let paths = vec!["/clipboard/in/a.csv".to_owned()];
        assert_eq!(passed.event, Some(Event::ClipboardFiles { direction, paths }));
        assert_eq!(passed.forward[0].len(), 8 + 4 + DESCRIPTION);
        let first = scene.asks(direction, 70, 0, 0, 8);
        assert_eq!(
            scene.answers(direction, first, b"pressure"),
            [message(FILE_RESPONSE, OK, b"\x46\0\0\0pressure")]
        );
        let second = scene.asks(direction, 70, 0, 8, 100);
        assert_ne!(second, first, "each question has a number of its own");
        assert_eq!(scene.answers(direction, second, b"=4"), [message(FILE_RESPONSE, OK, b"\x46\0\0\0=4")]);
        // Some ask once more to see that it is the end, which is known here.
        let passed = scene.say(back(direction), FILE_REQUEST, 0, &request(70, 0, RANGE, 10, 100));
        assert_eq!(
            (passed.forward, passed.answer),
            (vec![], Some(message(FILE_RESPONSE, OK, b"\x46\0\0\0")))
        );
        assert_eq!(
            scene.notes.said,
            [
                format!("offer /clipboard/in/a.csv {} Some(10)", &mode[..1]),
                format!("open clip /clipboard/in/a.csv {mode}"),
                "opened 1 true".to_owned(),
                "size 1 10".to_owned(),
                "ask 1 8".to_owned(),
                format!("pass 1 {way} 0 pressure"),
                "ask 1 10".to_owned(),
                format!("pass 1 {way} 8 =4"),
                "close 1 true".to_owned(),
            ]
        );
    }
}

#[test]
fn files_are_neither_offered_nor_fetched_where_they_are_not_allowed() {
    let text = ChannelPolicy { clipboard_to_target: true, clipboard_to_person: true, ..Default::default() };
    for (policy, allowed) in [
        (text, None),
        (ChannelPolicy { clipboard_files_to_target: true, ..text }, Some(ToTarget)),
        (ChannelPolicy { clipboard_files_to_person: true, ..text }, Some(ToPerson)),
    ] {
        for direction in [ToTarget, ToPerson].into_iter().filter(|way| Some(*way) != allowed) {
            let mut scene = Scene::agreed(policy);
            let passed = scene.say(direction, LIST, 0, &formats(&[(NUMBER, FILES), (13, "")]));
            assert_eq!(passed.forward, [message(LIST, 0, &formats(&[(13, "")]))]);
            assert!(!passed.dropped, "the text is there");
            let passed = scene.say(direction, LIST, 0, &formats(&[(NUMBER, FILES)]));
            assert!(passed.dropped && passed.forward == [message(LIST, 0, &[])], "nothing can be pasted");
            let passed = scene.say(back(direction), DATA_REQUEST, 0, &NUMBER.to_le_bytes());
            assert_eq!(passed.answer, Some(message(DATA_RESPONSE, FAIL, &[])));
            assert!(scene.say(direction, DATA_RESPONSE, OK, &list(&[("a", 1)])).dropped, "nobody asked");
            scene.denied(direction, &request(7, 0, RANGE, 0, 1));
            let answer = [1u32.to_le_bytes().as_slice(), b"contents"].concat();
            assert!(scene.say(direction, FILE_RESPONSE, OK, &answer).dropped);
            assert!(scene.notes.said.is_empty(), "{:?}", scene.notes.said);
        }
    }
    // And text is not, where only files are.
    let mut scene = Scene::new();
    let passed = scene.say(ToTarget, LIST, 0, &formats(&[(13, "")]));
    assert!(passed.dropped && passed.forward == [message(LIST, 0, &[])]);
    let passed = scene.say(ToPerson, DATA_REQUEST, 0, &13u32.to_le_bytes());
    assert_eq!(passed.answer, Some(message(DATA_RESPONSE, FAIL, &[])));
}

#[test]
fn capabilities_say_files_where_they_may_go_some_way_and_never_locks_or_whole_paths() {
    let files = ChannelPolicy { clipboard_files_to_person: true, ..Default::default() };
    let text = ChannelPolicy { clipboard_to_person: true, ..Default::default() };
    for (policy, said, kept) in
        [(files, 0x3e, 0x2e), (files, 0x16, 0xe), (files, 0x3a, 2), (text, 0x3e, 2), (files, 0, 0)]
    {
        let mut scene = Scene { policy, ..Scene::new() };
        let passed = scene.say(ToPerson, CAPABILITIES, 0, &capabilities(said));
        assert_eq!(passed.forward, [message(CAPABILITIES, 0, &capabilities(kept))]);
    }
    // Without both sides' word there are none; nor where names of formats are cut.
    for flags in [2, 0x3c] {
        let mut scene = Scene::new();
        scene.say(ToTarget, CAPABILITIES, 0, &capabilities(flags));
        let short = [NUMBER.to_le_bytes().as_slice(), &utf16(FILES)[..32]].concat();
        for offered in [formats(&[(NUMBER, FILES)]), short] {
            let passed = scene.say(ToTarget, LIST, 0, &offered);
            assert!(passed.dropped && passed.forward.is_empty());
        }
    }
    let mut scene = Scene::with(ToTarget, &[("a", 1)]);
    for kind in [LOCK, UNLOCK] {
        let passed = scene.say(ToPerson, kind, 0, &[1, 0, 0, 0]);
        assert!(passed.dropped && passed.forward.is_empty());
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_in_the_list_and_the_others_keep_the_owners_places() {
    let mut scene = Scene::new();
    let bad = [
        "..\\up",
        "a\\..\\..\\b",
        "C:\\a",
        "\\a",
        "\\\\host\\share\\a",
        "a:stream",
        "NUL",
        "a/b",
        "a ",
        "a.",
        "SECRET~1.TXT",
        "a\\\\b",
        "",
        ".",
        "a\u{1}",
        "a*",
    ];
    let files: Vec<(&str, u64)> = bad.iter().map(|name| (*name, 1)).chain([("good.csv", 4)]).collect();
    let passed = scene.lists(ToTarget, &list(&files));
    let Some(Event::ClipboardFiles { paths, .. }) = passed.event else { panic!("{passed:?}") };
    assert_eq!(paths, ["/clipboard/good.csv"]);
    let refused: Vec<_> = scene.notes.said.iter().filter(|said| said.starts_with("refused")).collect();
    assert_eq!(refused.len(), bad.len(), "{refused:?}");
    assert_eq!(refused[0], "refused /clipboard/..\\up");
    let passed = scene.say(ToPerson, FILE_REQUEST, 0, &request(9, 0, RANGE, 0, 4));
    assert_eq!(u32_at(&passed.forward[0], 12), Some(16), "the owner's own place");
    // One that has no end, and one that is no UTF-16.
    for name in [utf16(&"a".repeat(260)), vec![0, 0xd8]] {
        let whole = [1u32.to_le_bytes().to_vec(), description(&name, 0x40, 0, 1)].concat();
        let passed = Scene::new().lists(ToTarget, &whole);
        assert_eq!(passed.forward, [message(DATA_RESPONSE, FAIL, &[])]);
    }
}

#[test]
fn a_description_goes_on_with_what_was_read_and_nothing_besides() {
    let mut scene = Scene::new();
    let folder = description(&utf16("in\\sub\\"), 0xffff_ffff, 0xffff_ff31, 5 << 32 | 6);
    let plain = description(&utf16("b"), 0, 0xffff_ffff, 9);
    let passed = scene.lists(ToTarget, &[2u32.to_le_bytes().to_vec(), folder, plain].concat());
    let body = &passed.forward[0][8..];
    let (first, second) = body[4..].split_at(DESCRIPTION);
    let read = [0x4064u32, 0, 0, 0, 0, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0x0403_0201, 0x0807_0605, 5, 6];
    let read: Vec<u8> = read.into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(first[..72], read);
    assert_eq!(first[72..84], utf16("in\\sub"), "without the separator at its end");
    assert!(first[84..].iter().all(|byte| *byte == 0));
    assert!(second[..72].iter().all(|byte| *byte == 0), "what is not said to be there is not");
    // A folder has no contents.
    scene.denied(ToTarget, &request(7, 0, RANGE, 0, 1));
    scene.denied(ToTarget, &request(7, 0, SIZE, 0, 8));
    // More than it says that it is: what xrdp writes behind its messages.
    let mut scene = Scene::new();
    scene.say(ToTarget, LIST, 0, &formats(&[(NUMBER, FILES)]));
    scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    let padded = [message(DATA_RESPONSE, OK, &list(&[("a", 1)])).as_slice(), b"rest"].concat();
    let mut terms = Terms { policy: &scene.policy, frozen: false, files: &mut scene.notes };
    let passed = scene.clipboard.message(ToTarget, &padded, &mut terms).unwrap();
    assert_eq!(passed.forward[0].len(), 8 + 4 + DESCRIPTION);
}

#[test]
fn what_the_caller_refuses_is_answered_here_and_the_owner_never_hears_of_it() {
    let mut scene = Scene::new();
    scene.notes.no = ["offer"].into();
    let passed = scene.lists(ToTarget, &list(&[("secret", 1)]));
    assert_eq!((passed.forward, passed.event), (vec![message(DATA_RESPONSE, FAIL, &[])], None));
    for (what, kind) in [("open", RANGE), ("ask", RANGE), ("stands", SIZE)] {
        let mut scene = Scene::with(ToTarget, &[("a", 4)]);
        scene.notes.no = [what].into();
        scene.denied(ToTarget, &request(7, 0, kind, 0, 4));
    }
    for (what, kind, data) in [("pass", RANGE, b"data".as_slice()), ("stands", SIZE, &[0; 8])] {
        let mut scene = Scene::with(ToTarget, &[("a", 4)]);
        scene.say(ToPerson, FILE_REQUEST, 0, &request(7, 0, kind, 0, 4));
        scene.notes.no = [what].into();
        assert_eq!(scene.answers(ToTarget, 1, data), [refusal(7)], "{what}");
    }
}

#[test]
fn a_size_is_asked_for_in_one_form_and_is_what_contents_end_at() {
    let mut scene = Scene::new();
    let unsized_file = [1u32.to_le_bytes().to_vec(), description(&utf16("a"), 0, 0, 0)].concat();
    scene.lists(ToTarget, &unsized_file);
    let passed = scene.say(ToPerson, FILE_REQUEST, 0, &request(7, 0, SIZE, 3, 0));
    assert_eq!(passed.forward, [message(FILE_REQUEST, 0, &request(1, 0, SIZE, 0, 8)[..24])]);
    scene.answers(ToTarget, 1, &4u64.to_le_bytes());
    let passed = scene.say(ToPerson, FILE_REQUEST, 0, &request(7, 0, RANGE, 0, 100));
    assert_eq!(passed.forward, [message(FILE_REQUEST, 0, &request(2, 0, RANGE, 0, 4)[..24])]);
    // Where no size is known a part that is short says where the end is.
    let mut scene = Scene::new();
    scene.lists(ToTarget, &unsized_file);
    let number = scene.asks(ToTarget, 7, 0, 0, 100);
    scene.answers(ToTarget, number, b"all");
    assert_eq!(scene.notes.said[4..], ["pass 1 ToTarget 0 all", "ends 1 3", "close 1 true"]);
    // An empty file is over with nothing.
    let mut scene = Scene::with(ToPerson, &[("empty", 0)]);
    let number = scene.asks(ToPerson, 7, 0, 0, 100);
    assert_eq!(scene.answers(ToPerson, number, b"").len(), 1);
    assert_eq!(scene.notes.said.last().unwrap(), "close 1 true");
}

#[test]
fn parts_may_come_in_any_order_and_twice_and_the_file_is_over_when_all_of_it_passed() {
    let mut scene = Scene::with(ToTarget, &[("a", 12)]);
    let last = scene.asks(ToTarget, 1, 0, 8, 4);
    let first = scene.asks(ToTarget, 2, 0, 0, 4);
    let again = scene.asks(ToTarget, 2, 0, 0, 4);
    assert_eq!(scene.answers(ToTarget, last, b"8901").len(), 1);
    assert_eq!(scene.answers(ToTarget, again, b"0123").len(), 1);
    assert_eq!(scene.answers(ToTarget, first, b"0123").len(), 1);
    let middle = scene.asks(ToTarget, 3, 0, 4, 4);
    assert!(!scene.notes.said.iter().any(|said| said.starts_with("close")));
    let refused = [middle.to_le_bytes().as_slice(), b"or what"].concat();
    assert_eq!(scene.say(ToTarget, FILE_RESPONSE, FAIL, &refused).forward, [refusal(3)], "the owner's no");
    let middle = scene.asks(ToTarget, 3, 0, 4, 4);
    assert_eq!(scene.answers(ToTarget, middle, b"4567").len(), 1);
    assert_eq!(scene.notes.said.last().unwrap(), "close 1 true");
}

#[test]
fn another_clipboard_leaves_nobody_waiting_and_what_comes_late_is_nobody_elses() {
    let mut scene = Scene::with(ToTarget, &[("a", 4), ("b", 4)]);
    let late = scene.asks(ToTarget, 70, 0, 0, 4);
    let passed = scene.say(ToTarget, LIST, 0, &formats(&[(NUMBER, FILES)]));
    assert_eq!(passed.forward, [refusal(70), message(LIST, 0, &formats(&[(NUMBER, FILES)]))]);
    assert_eq!(scene.notes.said.last().unwrap(), "close 1 true");
    scene.denied(ToTarget, &request(7, 0, RANGE, 0, 4));
    scene.lists(ToTarget, &list(&[("c", 4)]));
    let number = scene.asks(ToTarget, 70, 0, 0, 4);
    assert_ne!(number, late);
    let old = [late.to_le_bytes().as_slice(), b"olda"].concat();
    assert!(scene.say(ToTarget, FILE_RESPONSE, OK, &old).dropped);
    assert_eq!(scene.answers(ToTarget, number, b"newc").len(), 1);
    // Nor is an answer of the side that owns nothing taken for one.
    let mut scene = Scene::with(ToTarget, &[("a", 4)]);
    let number = scene.asks(ToTarget, 70, 0, 0, 4);
    let forged = [number.to_le_bytes().as_slice(), b"mine"].concat();
    assert!(scene.say(ToPerson, FILE_RESPONSE, OK, &forged).dropped);
    assert_eq!(scene.answers(ToTarget, number, b"data").len(), 1);
}

#[test]
fn nothing_passes_while_the_session_is_suspended() {
    let mut scene = Scene::with(ToTarget, &[("a", 8)]);
    let number = scene.asks(ToTarget, 70, 0, 0, 4);
    scene.frozen = true;
    assert_eq!(scene.answers(ToTarget, number, b"data"), [refusal(70)]);
    scene.denied(ToTarget, &request(7, 0, RANGE, 4, 4));
    scene.denied(ToTarget, &request(7, 0, SIZE, 0, 8));
    let passed = scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    assert_eq!(passed.answer, Some(message(DATA_RESPONSE, FAIL, &[])));
    assert!(!scene.notes.said.iter().any(|said| said.starts_with("pass")), "{:?}", scene.notes.said);
    scene.frozen = false;
    let number = scene.asks(ToTarget, 70, 0, 0, 8);
    assert_eq!(scene.answers(ToTarget, number, b"contents").len(), 1);
    // A list that was asked for before.
    let mut scene = Scene::new();
    scene.say(ToTarget, LIST, 0, &formats(&[(NUMBER, FILES)]));
    scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    scene.frozen = true;
    let passed = scene.say(ToTarget, DATA_RESPONSE, OK, &list(&[("a", 1)]));
    assert_eq!((passed.forward, passed.event), (vec![message(DATA_RESPONSE, FAIL, &[])], None));
}

#[test]
fn what_is_listed_asked_and_given_is_bounded() {
    let many: Vec<(&str, u64)> = vec![("a", 1); MAX_FILES + 1];
    let mut scene = Scene::new();
    let passed = scene.lists(ToTarget, &list(&many));
    assert_eq!(passed.forward, [message(DATA_RESPONSE, FAIL, &[])]);
    assert_eq!(scene.notes.said, ["refused /clipboard"]);
    assert_eq!(scene.lists(ToTarget, &list(&many[1..])).forward[0].len(), 8 + 4 + MAX_FILES * DESCRIPTION);
    let mut scene = Scene::with(ToTarget, &[("a", u64::MAX)]);
    scene.denied(ToTarget, &request(7, 0, RANGE, 0, MAX_PART + 1));
    scene.denied(ToTarget, &request(7, 0, SIZE | RANGE, 0, 8));
    scene.denied(ToTarget, &request(7, 1, RANGE, 0, 8));
    scene.denied(ToTarget, &request(7, u32::MAX, RANGE, 0, 8));
    for cut in 4..24 {
        scene.denied(ToTarget, &request(7, 0, RANGE, 0, 8)[..cut]);
    }
    for stream in 0..u32::try_from(MAX_WAITING).unwrap() {
        scene.asks(ToTarget, stream, 0, u64::MAX - 9, 8);
    }
    scene.denied(ToTarget, &request(7, 0, RANGE, 0, 8));
    let mut reached = Reached::default();
    for n in 0..1000 {
        reached.add(2 * n + 1, 2 * n + 2);
    }
    assert!(reached.beyond.len() <= MAX_WAITING);
}

#[test]
fn what_does_not_match_its_question_ends_the_session() {
    for (kind, data) in [(RANGE, b"fives".as_slice()), (SIZE, &[0; 7]), (SIZE, &[0; 9])] {
        let mut scene = Scene::with(ToTarget, &[("a", 9)]);
        scene.say(ToPerson, FILE_REQUEST, 0, &request(7, 0, kind, 0, 4));
        let body = [1u32.to_le_bytes().as_slice(), data].concat();
        assert!(scene.try_say(ToTarget, FILE_RESPONSE, OK, &body).is_err());
    }
    let whole = list(&[("a", 1), ("b", 2)]);
    for cut in 0..whole.len() {
        let mut scene = Scene::new();
        scene.say(ToTarget, LIST, 0, &formats(&[(NUMBER, FILES)]));
        scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
        assert!(scene.try_say(ToTarget, DATA_RESPONSE, OK, &whole[..cut]).is_err(), "cut at {cut}");
    }
    let mut scene = Scene::with(ToTarget, &[("a", 1)]);
    assert!(scene.try_say(ToPerson, FILE_REQUEST, 0, &[1, 2, 3]).is_err());
    assert!(scene.try_say(ToTarget, FILE_RESPONSE, OK, &[1, 2, 3]).is_err());
}

proptest! {
    #[test]
    fn no_messages_make_it_panic_or_pass_more_than_was_asked_for(
        messages in prop::collection::vec((any::<bool>(), 0u16..12, 0u32..4, prop::collection::vec(any::<u8>(), 0..60)), 0..16)
    ) {
        let mut scene = Scene::with(ToTarget, &[("a", 100), ("b", 0)]);
        scene.lists(ToPerson, &list(&[("c", 50)]));
        for (up, kind, word, body) in messages {
            let direction = if up { ToTarget } else { ToPerson };
            let body = [word.to_le_bytes().as_slice(), &body].concat();
            drop(scene.try_say(direction, kind, OK, &body));
            let Ok(passed) = scene.try_say(direction, FILE_REQUEST, 0, &request(word, 0, RANGE, u64::from(kind), 30))
                else { continue };
            let bound = passed.forward.iter().all(|onward| onward.len() == 32);
            prop_assert!(bound);
        }
        let opened = scene.notes.said.iter().filter(|said| said.starts_with("open ")).count();
        let closed = scene.notes.said.iter().filter(|said| said.starts_with("close ")).count();
        prop_assert!(closed <= opened);
    }
}

#[test]
fn a_list_that_is_far_too_long_is_refused_and_nobody_waits() {
    let names: Vec<String> = (0..2000).map(|number| format!("{number}.csv")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut scene = Scene::new();
    scene.say(ToTarget, LIST, 0, &formats(&[(NUMBER, FILES)]));
    scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    let mut passed = Passed::default();
    for piece in crate::channels::chunks::pieces(&message(DATA_RESPONSE, OK, &list(&files))) {
        let mut terms = Terms { policy: &scene.policy, frozen: false, files: &mut scene.notes };
        passed = scene.clipboard.chunk(ToTarget, &piece, &mut terms).unwrap();
    }
    assert_eq!(passed.forward, [message(DATA_RESPONSE, FAIL, &[])]);
    assert!(passed.dropped && scene.notes.said == ["refused /clipboard"], "{:?}", scene.notes.said);
    // The next one is read as ever.
    assert!(scene.lists(ToTarget, &list(&[("a", 1)])).event.is_some());
}

#[test]
fn who_asks_for_the_same_list_again_ends_nothing_and_another_list_ends_all() {
    let mut scene = Scene::with(ToTarget, &[("a", 8)]);
    let number = scene.asks(ToTarget, 70, 0, 0, 8);
    scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    assert_eq!(scene.say(ToTarget, DATA_RESPONSE, OK, &list(&[("a", 8)])).forward.len(), 1);
    assert_eq!(scene.answers(ToTarget, number, b"pres"), [message(FILE_RESPONSE, OK, b"\x46\0\0\0pres")]);
    let number = scene.asks(ToTarget, 70, 0, 4, 4);
    scene.say(ToPerson, DATA_REQUEST, 0, &NUMBER.to_le_bytes());
    let passed = scene.say(ToTarget, DATA_RESPONSE, OK, &list(&[("b", 8)]));
    assert_eq!(passed.forward[0], refusal(70), "who waits is told");
    assert!(scene.answers(ToTarget, number, b"sure").is_empty());
}

#[test]
fn a_size_that_is_not_the_lists_is_no_answer() {
    let mut scene = Scene::with(ToTarget, &[("a", 8)]);
    for (size, passes) in [(9u64, false), (8, true)] {
        let passed = scene.say(ToPerson, FILE_REQUEST, 0, &request(7, 0, SIZE, 0, 8));
        let number = u32_at(&passed.forward[0], 8).unwrap();
        let told = scene.answers(ToTarget, number, &size.to_le_bytes());
        assert_eq!(told == [refusal(7)], !passes, "{told:?}");
    }
}

#[test]
fn what_a_recording_has_of_a_message_is_all_but_names_and_contents() {
    use crate::channels::clipboard::noted;
    let described = message(DATA_RESPONSE, OK, &list(&[("secret name", 8), ("b", 9)]));
    let kept = noted(&described, true);
    assert_eq!(kept.len(), 12 + 2 * 72);
    assert_eq!(kept[12..84], described[12..84]);
    assert!(!kept.windows(4).any(|window| window == utf16("se")), "a name");
    assert_eq!(noted(&message(DATA_RESPONSE, OK, &utf16("text")), false).len(), 8);
    let question = message(FILE_REQUEST, 0, &request(7, 0, RANGE, u64::MAX, 4));
    assert_eq!(noted(&question, false), question);
    assert_eq!(noted(&message(FILE_RESPONSE, OK, &[1; 500]), false).len(), 20);
}
