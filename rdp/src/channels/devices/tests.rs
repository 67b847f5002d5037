//! Drives and printers, message by message.

mod unread;

use proptest::prelude::*;

use super::*;
use crate::{
    channels::notes::Notes,
    event::Direction::{ToPerson, ToTarget},
};

const DENIED: u32 = status::ACCESS_DENIED;

/// Both sides, agreed, with one drive `share` (1).
struct Scene {
    devices: Devices,
    notes: Notes,
    policy: ChannelPolicy,
    frozen: bool,
}

impl Scene {
    fn new() -> Self {
        let policy = ChannelPolicy {
            drives_to_target: true,
            drives_to_person: true,
            printers: true,
            ..ChannelPolicy::default()
        };
        Self { devices: Devices::default(), notes: Notes::default(), policy, frozen: false }
    }

    fn with_drive() -> Self {
        let mut scene = Self::new();
        scene.say(ToTarget, announce(&[(8, 1, b"share", &[])]));
        scene
    }

    fn try_say(&mut self, direction: Direction, message: Vec<u8>) -> Result<Passed, Broken> {
        let mut terms = Terms { policy: &self.policy, frozen: self.frozen, files: &mut self.notes };
        self.devices.message(direction, message, &mut terms)
    }

    #[track_caller]
    fn say(&mut self, direction: Direction, message: Vec<u8>) -> Passed {
        self.try_say(direction, message).unwrap()
    }

    /// A request that goes on as it is.
    #[track_caller]
    fn asks(&mut self, message: Vec<u8>) {
        let passed = self.say(ToPerson, message.clone());
        assert_eq!((passed.to_person, passed.to_target), (vec![message], vec![]));
    }

    /// A request that the target is answered.
    #[track_caller]
    fn denied(&mut self, message: Vec<u8>) -> u32 {
        let passed = self.say(ToPerson, message);
        assert!(passed.to_person.is_empty(), "it reached the person");
        let [answer] = &passed.to_target[..] else { panic!("{passed:?}") };
        status_of(answer)
    }

    /// Opens `path` as file number `id` of the person's machine.
    #[track_caller]
    fn open(&mut self, path: &str, access: u32, disposition: u32, id: u32) {
        self.asks(create(path, access, disposition, 0, 900));
        let answer = completion((1, 900), 0, &[&id.to_le_bytes(), &[1]]);
        assert_eq!(self.say(ToTarget, answer.clone()).to_target, [answer]);
    }
}

fn status_of(answer: &[u8]) -> u32 {
    assert_eq!(&answer[..4], [0x72, 0x44, 0x43, 0x49]);
    crate::wire::u32_at(answer, 12).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn announce(devices: &[(u32, u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut body = u32::try_from(devices.len()).unwrap().to_le_bytes().to_vec();
    for (kind, id, name, data) in devices {
        let mut dos = name.to_vec();
        dos.resize(8, 0);
        body.extend([kind.to_le_bytes(), id.to_le_bytes()].concat());
        body.extend(dos);
        body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        body.extend(*data);
    }
    pdu::message(pdu::DEVICES, &[&body])
}

fn irp((device, file): Key, number: u32, (major, minor): (u32, u32), body: &[u8]) -> Vec<u8> {
    let head: Vec<u8> = [device, file, number, major, minor].iter().flat_map(|n| n.to_le_bytes()).collect();
    pdu::message(pdu::REQUEST, &[&head, body])
}

fn create(path: &str, access: u32, disposition: u32, options: u32, number: u32) -> Vec<u8> {
    let path = utf16(path);
    let len = u32::try_from(path.len()).unwrap();
    let body = [
        access.to_le_bytes().as_slice(),
        &[0; 16],
        &disposition.to_le_bytes(),
        &options.to_le_bytes(),
        &len.to_le_bytes(),
        &path,
    ]
    .concat();
    irp((1, 0), number, (0, 0), &body)
}

fn read(file: u32, number: u32, offset: u64, len: u32) -> Vec<u8> {
    irp((1, file), number, (3, 0), &[len.to_le_bytes().as_slice(), &offset.to_le_bytes(), &[0; 20]].concat())
}

fn write(device: u32, file: u32, number: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let body = [len.to_le_bytes().as_slice(), &offset.to_le_bytes(), &[0; 20], data].concat();
    irp((device, file), number, (4, 0), &body)
}

fn set(file: u32, number: u32, class: u32, buffer: &[u8]) -> Vec<u8> {
    let len = u32::try_from(buffer.len()).unwrap();
    irp(
        (1, file),
        number,
        (6, 0),
        &[class.to_le_bytes().as_slice(), &len.to_le_bytes(), &[0; 24], buffer].concat(),
    )
}

fn list(file: u32, number: u32, first: u8, path: &str) -> Vec<u8> {
    let path = utf16(path);
    let len = u32::try_from(path.len()).unwrap();
    let body = [&[3, 0, 0, 0, first], len.to_le_bytes().as_slice(), &[0; 23], &path].concat();
    irp((1, file), number, (12, 1), &body)
}

fn answered(number: u32, data: &[u8]) -> Vec<u8> {
    completion((1, number), 0, &[&u32::try_from(data.len()).unwrap().to_le_bytes(), data])
}

const READ: u32 = 0x8000_0000;
const WRITE: u32 = 0x4000_0000;

#[test]
fn only_drives_and_printers_that_are_allowed_are_shown_to_the_target() {
    let text = |text: &str| utf16(text);
    let (driver, print) = (text("PS"), text("Office/3"));
    let lengths = [8u32, 0, 0, u32::try_from(driver.len()).unwrap(), u32::try_from(print.len()).unwrap(), 3];
    let mut printer: Vec<u8> = lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
    printer.extend([driver, print, vec![1, 2, 3]].concat());
    let all = announce(&[
        (8, 1, b"share", b"long name"),
        (0x20, 2, b"SCARD", &[]),
        (1, 3, b"COM1", &[]),
        (2, 4, b"LPT1", &[]),
        (4, 5, b"PRN1", &printer),
        (77, 6, b"what", &[]),
        (8, 7, b"share", &[]),
    ]);
    let mut scene = Scene::new();
    let passed = scene.say(ToTarget, all.clone());
    let [announced] = &passed.to_target[..] else { panic!("{passed:?}") };
    let shown = pdu::devices(Reader(&announced[4..])).unwrap();
    let names: Vec<_> = shown.iter().map(|d| (d.kind, d.name.as_str())).collect();
    assert_eq!(names, [(Kind::Drive, "share"), (Kind::Printer, "Office_3")]);
    assert!(!announced.windows(4).any(|w| w == b"long") && !announced.ends_with(&[1, 2, 3]));
    let refused: Vec<_> = passed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::DeviceRefused { kind, name } => Some((*kind, name.as_str())),
            _ => None,
        })
        .collect();
    let others =
        [("smart card", "SCARD"), ("serial port", "COM1"), ("parallel port", "LPT1"), ("device", "what")];
    assert_eq!(refused, [others.as_slice(), &[("drive", "share")]].concat());
    assert_eq!(passed.to_person.len(), 5, "the client is told which are not used");

    for (drives, printers) in [(false, true), (true, false), (false, false)] {
        let mut scene = Scene::new();
        scene.policy = ChannelPolicy { drives_to_target: drives, printers, ..ChannelPolicy::default() };
        let passed = scene.say(ToTarget, all.clone());
        let shown: usize =
            passed.to_target.iter().map(|m| pdu::devices(Reader(&m[4..])).unwrap().len()).sum();
        assert_eq!(shown, usize::from(drives) + usize::from(printers));
    }
}

#[test]
fn capabilities_name_only_what_is_allowed_and_the_log_on_is_told_when_all_is_agreed() {
    let set = |kind: u16, len: u16| {
        let mut set = [kind.to_le_bytes(), len.to_le_bytes()].concat();
        set.resize(usize::from(len), 0xff);
        set
    };
    let sets = [set(1, 44), set(2, 8), set(3, 8), set(4, 8), set(5, 8)].concat();
    let capabilities = |packet| pdu::message(packet, &[&[5, 0, 0, 0], &sets]);
    let mut scene = Scene::new();
    scene.policy.printers = false;
    let early = scene.say(ToTarget, capabilities(pdu::CLIENT_CAPABILITIES));
    assert!(early.dropped && early.to_target.is_empty(), "nobody asked");
    let logged_on = pdu::message(pdu::LOGGED_ON, &[]);
    assert!(scene.say(ToPerson, logged_on.clone()).to_person.is_empty(), "too early");
    let asked = scene.say(ToPerson, capabilities(pdu::SERVER_CAPABILITIES)).to_person;
    let general = [[1, 0, 44, 0].as_slice(), &[0xff; 24], &[7, 0, 0, 0], &[1, 0, 0, 0], &[0; 8]].concat();
    assert_eq!(asked, [pdu::message(pdu::SERVER_CAPABILITIES, &[&[2, 0, 0, 0], &general, &set(4, 8)])]);
    let id = pdu::message(pdu::CLIENT_ID, &[&[1, 0, 99, 0, 7, 0, 0, 0]]);
    let known = pdu::message(pdu::CLIENT_ID, &[&[1, 0, 13, 0, 7, 0, 0, 0]]);
    assert_eq!(scene.say(ToPerson, id).to_person, [known]);
    let passed = scene.say(ToTarget, capabilities(pdu::CLIENT_CAPABILITIES));
    assert_eq!((passed.to_target.len(), passed.to_person), (1, vec![logged_on]));
}

#[test]
fn a_file_is_followed_from_its_opening_to_its_close() {
    let mut scene = Scene::with_drive();
    scene.open("\\in\\recipe.csv", READ, 1, 40);
    scene.asks(read(40, 1, 0, 8));
    let part = answered(1, b"pressure");
    assert_eq!(scene.say(ToTarget, part.clone()).to_target, [part]);
    scene.asks(read(40, 2, 8, 8));
    scene.say(ToTarget, answered(2, b"=4"));
    scene.asks(irp((1, 40), 3, (5, 0), &[[5, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[0; 24]].concat()));
    let standard = [[0; 8].as_slice(), &10u64.to_le_bytes(), &[0; 6]].concat();
    scene.say(ToTarget, answered(3, &standard));
    scene.asks(irp((1, 40), 4, (2, 0), &[0; 32]));
    scene.say(ToTarget, completion((1, 4), 0, &[&[0; 4]]));
    assert_eq!(
        scene.notes.said,
        [
            "open /share/in/recipe.csv r",
            "opened 1 true",
            "ask 1 8",
            "pass 1 ToTarget 0 pressure",
            "ask 1 16",
            "pass 1 ToTarget 8 =4",
            "ends 1 10",
            "size 1 10",
            "close 1 true"
        ]
    );
    scene.notes.said.clear();
    scene.open("\\out.txt", WRITE | 0x1_0000, 5, 41);
    scene.asks(write(1, 41, 5, 0, b"done"));
    scene.say(ToTarget, completion((1, 5), 0, &[&4u32.to_le_bytes(), &[0]]));
    scene.asks(set(41, 6, 20, &4u64.to_le_bytes()));
    let rename = [[0, 0].as_slice(), &14u32.to_le_bytes(), &utf16("\\b.txt")].concat();
    scene.asks(set(41, 7, 10, &rename));
    scene.asks(set(41, 8, 13, &[1]));
    scene.say(ToTarget, completion((1, 8), 0xc000_0022, &[]));
    assert_eq!(
        scene.notes.said,
        [
            "open /share/out.txt wcme",
            "opened 2 true",
            "pass 2 ToPerson 0 done",
            "taken 2 true",
            "change 2 Resize(4)",
            "change 2 Rename(\"/share/b.txt\")",
            "change 2 Remove",
            "changed 5 false"
        ]
    );
}

#[test]
fn what_is_refused_is_answered_with_its_own_number_and_the_person_never_hears_of_it() {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ, 1, 40);
    for (what, request) in [
        ("open", create("\\b", READ, 1, 0, 7)),
        ("ask", read(40, 7, 0, 8)),
        ("pass", write(1, 40, 7, 0, b"x")),
        ("list", list(40, 7, 1, "\\a\\*")),
        ("change", set(40, 7, 13, &[])),
    ] {
        scene.notes.no = [what].into();
        let passed = scene.say(ToPerson, request);
        assert!(passed.to_person.is_empty(), "{what}");
        assert_eq!(passed.to_target, [refusal((1, 7), DENIED)], "{what}");
    }
    // What the person's machine already answered, too.
    scene.notes.no.clear();
    scene.asks(read(40, 8, 0, 8));
    scene.notes.no = ["pass"].into();
    assert_eq!(scene.say(ToTarget, answered(8, b"secret")).to_target, [refusal((1, 8), DENIED)]);
}

#[test]
fn paths_that_lead_out_of_the_drive_are_refused_by_name() {
    let mut scene = Scene::with_drive();
    for path in
        ["\\..\\..\\etc\\shadow", "\\a\\..\\b", "..", "\\a.txt:stream", "\\NUL", "\\SECRET~1.TXT", "/../etc"]
    {
        assert_eq!(scene.denied(create(path, READ, 1, 0, 1)), DENIED, "{path}");
    }
    assert_eq!(scene.notes.said[0], "refused \\..\\..\\etc\\shadow");
    scene.open("\\a", WRITE, 1, 40);
    let rename = [[0, 0].as_slice(), &14u32.to_le_bytes(), &utf16("\\..\\bb")].concat();
    assert_eq!(scene.denied(set(40, 2, 10, &rename)), DENIED);
    let rooted = [[0, 1].as_slice(), &4u32.to_le_bytes(), &utf16("\\b")].concat();
    assert_eq!(scene.denied(set(40, 2, 10, &rooted)), status::INVALID_PARAMETER);
    // A listing names a folder of its own, which has to be the one that is open.
    for elsewhere in ["\\*", "\\b\\*", "\\a\\..\\*", "\\a\\..", "*"] {
        assert_eq!(scene.denied(list(40, 3, 1, elsewhere)), DENIED, "{elsewhere}");
    }
    scene.asks(list(40, 3, 1, "\\a\\*.csv"));
    let more = list(40, 4, 0, "\\b\\*");
    let passed = scene.say(ToPerson, more);
    assert_eq!(passed.to_person[0].len(), request::HEAD + 32, "a path where none belongs is cut off");
    assert_eq!(scene.denied(create("\\5", READ, 1, 0x2000, 5)), status::INVALID_PARAMETER, "by number");
}

#[test]
fn nothing_passes_for_devices_and_files_that_the_target_was_not_given() {
    let mut scene = Scene::with_drive();
    scene.say(ToTarget, announce(&[(0x20, 2, b"SCARD", &[])]));
    for device in [2, 9] {
        let request = irp((device, 0), 1, (0xe, 0), &[0; 32]);
        assert_eq!(scene.denied(request), status::NO_SUCH_DEVICE);
    }
    assert_eq!(scene.denied(read(77, 1, 0, 1)), status::INVALID_HANDLE);
    scene.open("\\a", READ, 1, 40);
    assert_eq!(scene.denied(irp((1, 40), 2, (0xe, 0), &[0; 32])), status::NOT_SUPPORTED, "control codes");
    assert_eq!(scene.denied(irp((1, 40), 2, (12, 2), &[0; 32])), status::NOT_SUPPORTED, "notices");
    assert_eq!(scene.denied(set(40, 2, 11, &[0; 40])), status::NOT_SUPPORTED, "hard links");
    // An answer that nobody asked for.
    let passed = scene.say(ToTarget, answered(55, b"here"));
    assert!(passed.dropped && passed.to_target.is_empty());
    // Printers keep nothing on the person's machine.
    assert!(scene.say(ToPerson, [0x52, 0x50, 0x43, 0x50, 1, 0, 0, 0].to_vec()).dropped);
}

#[test]
fn a_session_that_is_suspended_only_closes_files() {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ, 1, 40);
    scene.asks(read(40, 1, 0, 4));
    scene.frozen = true;
    assert_eq!(scene.say(ToTarget, answered(1, b"data")).to_target, [refusal((1, 1), DENIED)]);
    assert_eq!(scene.denied(read(40, 2, 0, 4)), DENIED);
    assert_eq!(scene.denied(create("\\b", READ, 1, 0, 2)), DENIED);
    assert!(scene.say(ToTarget, announce(&[(8, 3, b"more", &[])])).to_target.is_empty());
    scene.asks(irp((1, 40), 3, (2, 0), &[0; 32]));
    assert!(!scene.notes.said.iter().any(|said| said.starts_with("pass")), "{:?}", scene.notes.said);
}

#[test]
fn asking_for_whatever_is_allowed_is_asking_to_read() {
    let mut scene = Scene::with_drive();
    let passed = scene.say(ToPerson, create("\\a", 0x0200_0000, 1, 0, 1));
    assert_eq!(passed.to_person, [create("\\a", 0x0012_0089, 1, 0, 1)]);
    assert_eq!(scene.notes.said, ["open /share/a r"]);
}

#[test]
fn a_path_has_one_separator_when_it_goes_on() {
    let mut scene = Scene::with_drive();
    let passed = scene.say(ToPerson, create("/in/a.csv", READ, 1, 0, 1));
    assert_eq!(passed.to_person, [create("\\in\\a.csv", READ, 1, 0, 1)]);
    assert_eq!(scene.notes.said, ["open /share/in/a.csv r"]);
    scene.open("\\in", WRITE, 1, 40);
    let passed = scene.say(ToPerson, list(40, 2, 1, "/in/*"));
    assert_eq!(passed.to_person, [list(40, 2, 1, "\\in\\*")]);
    let rename = |to: &str| [[0, 0].as_slice(), &14u32.to_le_bytes(), &utf16(to)].concat();
    let passed = scene.say(ToPerson, set(40, 3, 10, &rename("/b.txt")));
    assert_eq!(passed.to_person, [set(40, 3, 10, &rename("\\b.txt"))]);
}

#[test]
fn a_print_job_is_a_file_that_is_only_written() {
    let mut scene = Scene::new();
    let data = [[0; 16].as_slice(), &6u32.to_le_bytes(), &[0; 4], &utf16("A3")].concat();
    scene.say(ToTarget, announce(&[(4, 5, b"PRN1", &data)]));
    let body = [[0; 28].as_slice(), &[0; 4]].concat();
    scene.asks(irp((5, 0), 1, (0, 0), &body));
    scene.say(ToTarget, completion((5, 1), 0, &[&[9, 0, 0, 0], &[0]]));
    scene.asks(write(5, 9, 2, 0, b"%!PS"));
    assert_eq!(scene.denied(irp((5, 9), 3, (3, 0), &[0; 32])), status::NOT_SUPPORTED);
    scene.asks(irp((5, 9), 4, (2, 0), &[0; 32]));
    assert_eq!(scene.notes.said, ["open print /A3/print job wme", "opened 1 true", "pass 1 ToPerson 0 %!PS"]);
}

#[test]
fn truncated_messages_and_lengths_that_lie_go_nowhere() {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ, 1, 40);
    // Requests: answered with an error, whole or at any place that they are cut.
    let rename = [[0, 0].as_slice(), &14u32.to_le_bytes(), &utf16("\\b.txt")].concat();
    for whole in [
        create("\\b", READ, 1, 0, 1),
        read(40, 1, 0, 4),
        write(1, 40, 1, 0, b"abcd"),
        set(40, 1, 10, &rename),
        list(40, 1, 1, "\\a\\*"),
    ] {
        for cut in request::HEAD..whole.len() {
            assert_eq!(
                scene.denied(whole[..cut].to_vec()),
                status::INVALID_PARAMETER,
                "{whole:?} cut at {cut}"
            );
        }
        for cut in 0..request::HEAD {
            assert!(scene.try_say(ToPerson, whole[..cut].to_vec()).is_err());
        }
    }
    let mut lies = write(1, 40, 1, 0, b"abcd");
    lies[request::HEAD..request::HEAD + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(scene.denied(lies), status::INVALID_PARAMETER);
    assert_eq!(scene.denied(read(40, 1, 0, u32::MAX)), status::INVALID_PARAMETER);
    // What is behind a request's end stays behind.
    let long = [read(40, 1, 0, 4).as_slice(), b"smuggled"].concat();
    assert_eq!(scene.say(ToPerson, long).to_person, [read(40, 1, 0, 4)]);
    // The same number twice, more than was asked for, and less than is said.
    assert!(scene.try_say(ToPerson, read(40, 1, 0, 4)).is_err());
    assert!(scene.try_say(ToTarget, answered(1, b"more than four")).is_err());
    scene.asks(read(40, 2, 0, 4));
    let mut short = answered(2, b"four");
    short.pop();
    assert!(scene.try_say(ToTarget, short).is_err());
    for message in [
        pdu::message(pdu::DEVICES, &[&u32::MAX.to_le_bytes()]),
        pdu::message(
            pdu::DEVICES,
            &[&[1, 0, 0, 0], &[8, 0, 0, 0, 9, 0, 0, 0], b"drive\0\0\0", &u32::MAX.to_le_bytes()],
        ),
        pdu::message(pdu::DEVICES_GONE, &[&[2, 0, 0, 0, 1, 0, 0, 0]]),
        pdu::message(pdu::CLIENT_NAME, &[&[1, 0, 0, 0, 0, 0, 0, 0], &u32::MAX.to_le_bytes()]),
        vec![0x72],
    ] {
        assert!(scene.try_say(ToTarget, message.clone()).is_err(), "{message:?}");
    }
    let sets = pdu::message(pdu::SERVER_CAPABILITIES, &[&[1, 0, 0, 0], &[1, 0, 44, 0, 2, 0, 0, 0]]);
    assert!(scene.try_say(ToPerson, sets).is_err());
}

#[test]
fn what_is_open_and_what_waits_is_bounded() {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ, 1, 40);
    let waiting = u32::try_from(MAX_WAITING).unwrap();
    for number in 0..waiting {
        scene.asks(read(40, number, 0, 4));
    }
    assert_eq!(scene.denied(read(40, waiting, 0, 4)), status::TOO_MUCH);
    let mut scene = Scene::with_drive();
    for id in 0..u32::try_from(MAX_FILES).unwrap() {
        scene.open("\\a", READ, 1, id);
    }
    assert_eq!(scene.denied(create("\\a", READ, 1, 0, 1)), status::TOO_MUCH);
    let many: Vec<_> = (0..40u8).map(|n| vec![b'd', b'a' + n / 10, b'0' + n % 10]).collect();
    let many: Vec<(u32, u32, &[u8], &[u8])> =
        (10..).zip(&many).map(|(id, name)| (8, id, name.as_slice(), [].as_slice())).collect();
    scene.say(ToTarget, announce(&many));
    assert_eq!(scene.devices.shown.len(), MAX_DEVICES);
}

#[test]
fn a_drive_that_goes_away_leaves_nobody_waiting() {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ, 1, 40);
    scene.asks(read(40, 1, 0, 4));
    let passed =
        scene.say(ToTarget, pdu::message(pdu::DEVICES_GONE, &[&[2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]]));
    assert_eq!(
        passed.to_target,
        [refusal((1, 1), status::DEVICE_GONE), pdu::message(pdu::DEVICES_GONE, &[&[1, 0, 0, 0, 1, 0, 0, 0]])]
    );
    assert_eq!(scene.notes.said.last().unwrap(), "close 1 false");
    assert_eq!(scene.denied(read(40, 2, 0, 4)), status::NO_SUCH_DEVICE);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(messages in prop::collection::vec((any::<bool>(), 0usize..12, 0u32..20, prop::collection::vec(any::<u8>(), 0..80)), 0..12)) {
        const PACKETS: [u16; 12] = [
            pdu::SERVER_ANNOUNCE, pdu::CLIENT_ID, pdu::CLIENT_NAME, pdu::SERVER_CAPABILITIES, pdu::CLIENT_CAPABILITIES,
            pdu::LOGGED_ON, pdu::DEVICES, pdu::DEVICES_GONE, pdu::DEVICE_REPLY, pdu::REQUEST, pdu::COMPLETION, 0,
        ];
        let mut scene = Scene::with_drive();
        scene.open("\\a", READ | WRITE, 1, 0);
        for (up, packet, major, body) in messages {
            let direction = if up { ToTarget } else { ToPerson };
            drop(scene.try_say(direction, pdu::message(PACKETS[packet], &[&body])));
            drop(scene.try_say(ToPerson, irp((1, 0), major, (major, 1), &body)));
            drop(scene.try_say(ToTarget, completion((1, major), 0, &[&body])));
        }
    }
}
