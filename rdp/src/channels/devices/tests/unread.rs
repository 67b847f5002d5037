//! Nothing passes that nobody reads, and little while nothing may.

use super::*;

/// What is there, and what is left of it when everything that is not read is gone.
#[track_caller]
fn cleaned(scene: &mut Scene, request: Vec<u8>) -> Vec<u8> {
    let mut passed = scene.say(ToPerson, request);
    assert!(passed.to_target.is_empty(), "refused");
    passed.to_person.remove(0)
}

/// A request of 32 bytes of fields, the rest of which is `fill`.
fn fields(file: Key, number: u32, major: u32, said: &[u8], fill: u8, behind: &[u8]) -> Vec<u8> {
    let mut body = said.to_vec();
    body.resize(32, fill);
    body.extend(behind);
    irp(file, number, (major, if fill == 0 || major == 12 { 0 } else { 9 }), &body)
}

fn drive_with_file() -> Scene {
    let mut scene = Scene::with_drive();
    scene.open("\\a", READ | WRITE, 1, 40);
    scene
}

#[test]
fn padding_of_requests_is_zero_whatever_the_target_writes_there() {
    let mut scene = drive_with_file();
    let word = |n: u32| n.to_le_bytes();
    let offset = 7u64.to_le_bytes();
    let cases: [(u32, Vec<u8>, Vec<u8>); 5] = [
        (3, [word(4).as_slice(), &offset].concat(), Vec::new()),
        (4, [word(4).as_slice(), &offset].concat(), b"abcd".to_vec()),
        (6, [word(20), word(8)].concat(), offset.to_vec()),
        (17, [word(2), word(1), word(1)].concat(), vec![3; 16]),
        (2, Vec::new(), Vec::new()),
    ];
    for (number, (major, said, behind)) in (1..).zip(cases) {
        let clean = fields((1, 40), number, major, &said, 0, &behind);
        let dirty = fields((1, 40), number, major, &said, 0xff, &behind);
        assert_eq!(cleaned(&mut scene, dirty), clean, "{major}");
    }
    let mut scene = drive_with_file();
    for (number, major, class) in [(1, 5, 5), (2, 10, 3)] {
        let said = [word(class), word(64)].concat();
        let dirty = fields((1, 40), number, major, &said, 0xff, &[0xff; 64]);
        assert_eq!(cleaned(&mut scene, dirty), fields((1, 40), number, major, &said, 0, &[0; 64]), "{major}");
    }
    let mut lock = fields((1, 40), 3, 17, &[word(2), word(u32::MAX), word(0)].concat(), 0, &[]);
    let waits = request::HEAD + 4;
    lock = cleaned(&mut scene, lock);
    assert_eq!(lock[waits..waits + 4], [1, 0, 0, 0]);
    let mut listing = list(40, 4, 7, "\\a\\*");
    listing[request::HEAD + 9..request::HEAD + 32].fill(0xff);
    assert_eq!(cleaned(&mut scene, listing), list(40, 4, 1, "\\a\\*"));
}

#[test]
fn an_opening_says_nothing_but_what_is_known_of_openings() {
    let mut scene = Scene::with_drive();
    let mut dirty = create("\\b", READ | 0x0c00_0000, 1, 0xff00_0000, 1);
    dirty[8..12].fill(0xff);
    dirty[20..24].fill(0xff);
    let body = request::HEAD;
    dirty[body + 4..body + 20].fill(0xff);
    let mut clean = create("\\b", READ, 1, 0, 1);
    clean[body + 12..body + 20].copy_from_slice(&[0xb7, 0x31, 0, 0, 7, 0, 0, 0]);
    assert_eq!(cleaned(&mut scene, dirty), clean);

    let mut scene = Scene::new();
    let data = [[0; 16].as_slice(), &6u32.to_le_bytes(), &[0; 4], &utf16("A3")].concat();
    scene.say(ToTarget, announce(&[(4, 1, b"PRN1", &data)]));
    let job = cleaned(&mut scene, create("\\letter in a path", WRITE, 1, 0, 1));
    assert_eq!(job.len(), request::CONTENTS, "printers have no paths");
    assert_eq!(job[request::CONTENTS - 4..], [0; 4]);
}

#[test]
fn what_is_said_of_a_change_is_as_long_as_its_kind() {
    let mut scene = drive_with_file();
    let rename = |len: u32| [[0, 0].as_slice(), &len.to_le_bytes(), &utf16("\\b.txt"), b"more"].concat();
    for (class, buffer) in [
        (4, vec![0; 35]),
        (4, vec![0; 41]),
        (13, vec![1, 0]),
        (19, vec![0; 9]),
        (20, vec![0; 7]),
        (10, rename(14)),
        (10, rename(19)),
    ] {
        let len = buffer.len();
        assert_eq!(scene.denied(set(40, 1, class, &buffer)), status::INVALID_PARAMETER, "{class} of {len}");
    }
    let times = [vec![1; 36], vec![0; 4]].concat();
    assert_eq!(cleaned(&mut scene, set(40, 1, 4, &[1; 40])), set(40, 1, 4, &times));
    assert_eq!(cleaned(&mut scene, set(40, 2, 13, &[9])), set(40, 2, 13, &[1]));
    let locks = |count: u32| {
        let said = [[2, 0, 0, 0], [0; 4], count.to_le_bytes()].concat();
        fields((1, 40), 3, 17, &said, 0, &vec![0; 16 * count as usize])
    };
    assert_eq!(scene.denied(locks(65)), status::INVALID_PARAMETER);
    scene.asks(locks(64));
    let asked = |class: u32, len: u32| {
        fields((1, 40), 4, 5, &[class, len].map(u32::to_le_bytes).concat(), 0, &vec![0; len as usize])
    };
    assert_eq!(scene.denied(asked(5, 4097)), status::INVALID_PARAMETER);
    assert_eq!(scene.denied(asked(18, 0)), status::NOT_SUPPORTED, "a kind that nobody needs");
}

#[test]
fn answers_are_as_long_as_what_was_asked() {
    let mut scene = drive_with_file();
    let look = |number, major, class: u32| fields((1, 40), number, major, &class.to_le_bytes(), 0, &[]);
    scene.asks(look(1, 5, 5));
    let kept = [[1; 22].as_slice(), &[0; 2]].concat();
    assert_eq!(scene.say(ToTarget, answered(1, &[1; 5000])).to_target, [answered(1, &kept)]);
    scene.asks(look(2, 10, 3));
    assert_eq!(scene.say(ToTarget, answered(2, &[1; 5000])).to_target, [answered(2, &[1; 24])]);
    let entry = [[0; 60].as_slice(), &4u32.to_le_bytes(), &[0; 29], b"a\0b\0"].concat();
    scene.asks(list(40, 3, 1, "\\a\\*"));
    assert_eq!(scene.say(ToTarget, answered(3, &entry)).to_target, [answered(3, &entry)]);
    scene.asks(list(40, 4, 1, "\\a\\*"));
    let more = [entry.as_slice(), b"unread"].concat();
    assert_eq!(scene.say(ToTarget, answered(4, &more)).to_target, [refusal((1, 4), DENIED)]);
    // As long as was asked, and no longer; whatever the person's machine says of that.
    scene.asks(set(40, 5, 20, &[0; 8]));
    let said = completion((1, 5), 0, &[&u32::MAX.to_le_bytes(), &[0]]);
    let told = completion((1, 5), 0, &[&8u32.to_le_bytes(), &[0]]);
    assert_eq!(scene.say(ToTarget, said).to_target, [told]);
    scene.asks(write(1, 40, 6, 0, b"abcd"));
    assert!(scene.try_say(ToTarget, completion((1, 6), 0, &[&5u32.to_le_bytes(), &[0]])).is_err());
}

#[test]
fn capability_sets_of_drives_and_printers_have_one_length() {
    for kind in [2u16, 4] {
        let set = [kind.to_le_bytes().as_slice(), &[12, 0], &[0; 8]].concat();
        let sets = pdu::message(pdu::SERVER_CAPABILITIES, &[&[1, 0, 0, 0], &set]);
        assert!(Scene::new().try_say(ToPerson, sets).is_err(), "{kind}");
    }
}

/// What both sides say once at a beginning.
fn beginnings() -> [(Direction, Vec<u8>); 5] {
    let set = |packet| pdu::message(packet, &[&[1, 0, 0, 0], &[4, 0, 8, 0, 2, 0, 0, 0]]);
    let version = pdu::message(pdu::CLIENT_ID, &[&[1, 0, 13, 0, 7, 0, 0, 0]]);
    let name = pdu::message(pdu::CLIENT_NAME, &[&[0; 8], &2u32.to_le_bytes(), b"a\0"]);
    [
        (ToPerson, set(pdu::SERVER_CAPABILITIES)),
        (ToPerson, version.clone()),
        (ToTarget, version),
        (ToTarget, name),
        (ToTarget, set(pdu::CLIENT_CAPABILITIES)),
    ]
}

#[test]
fn what_is_said_at_the_beginning_is_said_once() {
    let mut scene = Scene::new();
    let announcement = pdu::message(pdu::SERVER_ANNOUNCE, &[&[1, 0, 13, 0, 7, 0, 0, 0]]);
    for round in 0..2 {
        assert_eq!(scene.say(ToPerson, announcement.clone()).to_person.len(), 1);
        for (direction, message) in beginnings() {
            let first = scene.say(direction, message.clone());
            assert_eq!(first.to_person.len() + first.to_target.len(), 1, "{round} {message:?}");
            let again = scene.say(direction, message.clone());
            assert!(again.dropped && again.to_person.is_empty() && again.to_target.is_empty(), "{message:?}");
        }
    }
}

#[test]
fn a_suspended_session_agrees_on_nothing_and_answers_who_offers_a_device() {
    let mut scene = Scene::with_drive();
    scene.frozen = true;
    let announcement = pdu::message(pdu::SERVER_ANNOUNCE, &[&[1, 0, 13, 0, 7, 0, 0, 0]]);
    for (direction, message) in beginnings().into_iter().chain([(ToPerson, announcement)]) {
        let passed = scene.say(direction, message.clone());
        assert!(passed.dropped && passed.to_person.is_empty() && passed.to_target.is_empty(), "{message:?}");
    }
    let offered = scene.say(ToTarget, announce(&[(8, 2, b"more", &[])]));
    assert_eq!(offered.to_person, [target::reply(2, DENIED)]);
    assert!(offered.to_target.is_empty() && offered.dropped);
    scene.frozen = false;
    assert_eq!(scene.devices.shown.len(), 1);
}

#[test]
fn rules_that_no_longer_stand_show_no_device_no_size_and_no_lock() {
    let mut scene = drive_with_file();
    let question = |number, major, class: u32| fields((1, 40), number, major, &class.to_le_bytes(), 0, &[]);
    scene.asks(question(1, 5, 5));
    scene.asks(question(2, 10, 3));
    scene.asks(list(40, 3, 1, "\\a\\*"));
    scene.notes.no = ["stands", "lock"].into();
    let mut entry = [0; 94].to_vec();
    entry[60] = 2;
    entry.extend(b"a\0");
    for (number, data) in [(1, [0; 24].as_slice()), (2, &[0; 24]), (3, &entry)] {
        let passed = scene.say(ToTarget, answered(number, data));
        assert_eq!(passed.to_target, [refusal((1, number), DENIED)], "asked before: {number}");
    }
    for (major, class) in [(5, 5), (10, 3), (17, 2)] {
        assert_eq!(scene.denied(question(4, major, class)), DENIED, "{major}");
    }
    let offered = scene.say(ToTarget, announce(&[(8, 2, b"more", &[])]));
    assert!(offered.to_target.is_empty());
    assert_eq!(offered.to_person, [target::reply(2, DENIED)]);
}
