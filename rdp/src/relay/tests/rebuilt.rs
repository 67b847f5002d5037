//! Desktops that are built anew, and what may be drawn and done meanwhile.

use super::*;

#[test]
fn nothing_of_our_own_is_drawn_on_a_desktop_that_is_not_ready_for_it() {
    let mut machine = machine();
    machine.desktop = Desktop::default();
    let (demand, confirm) = capabilities(false, (800, 600));
    let ready = from_target(IO, &share_data(FONT_MAP, &[0; 8]));
    assert_eq!(machine.canvas(), None);
    // Font map while no desktop is there: of a target that plays.
    machine.target(&ready).unwrap();
    assert_eq!(machine.canvas(), None);
    machine.target(&demand).unwrap();
    machine.person(&confirm).unwrap();
    assert_eq!(machine.canvas(), None);
    machine.target(&ready).unwrap();
    assert_eq!(machine.canvas(), Some((800, 600)));
    machine.target(&from_target(IO, &END)).unwrap();
    assert_eq!(machine.canvas(), None, "it is being built anew");
}

/// A Deactivate All as xrdp says it: without anything behind its header. And what says that a desktop is built.
pub(super) const END: [u8; 6] = [6, 0, 0x16, 0, 0xed, 3];
pub(super) const FONT_MAP: u8 = 0x28;

/// A Demand Active of a target that draws again what it is asked for, or does not; and the client's answer.
pub(super) fn capabilities(refreshes: bool, (width, height): (u16, u16)) -> (Pdu, Pdu) {
    let mut general = [0; 24];
    general[..4].copy_from_slice(&[1, 0, 24, 0]);
    general[22] = u8::from(refreshes);
    let mut bitmap = [0; 28];
    bitmap[..12].copy_from_slice(&[2, 0, 28, 0, 32, 0, 1, 0, 1, 0, 1, 0]);
    bitmap[12..16].copy_from_slice(&[width, height].map(u16::to_le_bytes).concat());
    let sets = [&[2, 0, 0, 0], general.as_slice(), &bitmap].concat();
    let len = u16::try_from(sets.len()).unwrap().to_le_bytes();
    let whole = |kind: u8, source: u16, originator: &[u8]| {
        let body = [&[7, 0, 0, 0], originator, &[0, 0], &len, &sets, &[0; 4]].concat();
        let total = u16::try_from(body.len() + 6).unwrap();
        [[total, 0x10 | u16::from(kind), source].map(u16::to_le_bytes).concat(), body].concat()
    };
    (from_target(IO, &whole(1, mcs::SERVER, &[])), from_person(IO, &whole(3, USER, &[0xea, 3])))
}

#[test]
fn what_a_target_draws_before_a_client_has_built_its_desktop_anew_is_asked_for_again() {
    let bitmap = Pdu { form: Form::FastPath, bytes: Bytes::from_static(&[0, 7, 1, 2, 0, 1, 0]) };
    let slow = from_target(IO, &share_data(share::UPDATE, &[1, 0, 0, 0]));
    for refreshes in [true, false] {
        let mut machine = machine();
        let (demand, confirm) = capabilities(refreshes, (800, 600));
        let acts = machine.target(&from_target(IO, &END)).unwrap();
        let [Act::Send(Side::Person, bytes)] = &acts[..] else { panic!("{acts:?}") };
        let data = mcs::data(bytes, mcs::INDICATION).unwrap();
        assert_eq!(data.payload[..6], [13, 0, 0x16, 0, 0xed, 3]);
        assert_eq!(data.payload.len(), 13, "clients want all of it");
        machine.target(&demand).unwrap();
        assert!(machine.target(&bitmap).unwrap().is_empty(), "there is nothing to draw on");
        machine.person(&confirm).unwrap();
        for pdu in [&bitmap, &slow] {
            assert_eq!(machine.target(pdu).unwrap().is_empty(), refreshes, "it would not come again");
        }
        let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
        let asked = sent(&acts, Side::Target);
        assert_eq!(asked.len(), usize::from(refreshes));
        if let [bytes] = &asked[..] {
            let data = mcs::data(bytes, mcs::REQUEST).unwrap();
            assert_eq!((data.initiator, data.channel), (USER, IO));
            let [pdu] = share::split(data.payload).unwrap()[..] else { panic!() };
            let asked = pdu.data().unwrap();
            assert_eq!((asked.kind, asked.body), (0x21, &[1, 0, 0, 0, 0, 0, 0, 0, 0x1f, 3, 0x57, 2][..]));
        }
        assert_eq!(machine.target(&bitmap).unwrap().len(), 2);
    }
}

/// A machine whose desktop is being built anew: the client has confirmed it.
pub(super) fn rebuilding() -> Machine {
    let mut machine = machine();
    let (demand, confirm) = capabilities(true, (800, 600));
    machine.target(&from_target(IO, &END)).unwrap();
    machine.target(&demand).unwrap();
    machine.person(&confirm).unwrap();
    machine
}

#[test]
fn what_nobody_demanded_cannot_be_confirmed_and_what_is_recorded_is_never_smaller() {
    let (demand, _) = capabilities(true, (1024, 768));
    let (_, small) = capabilities(true, (8, 1000));
    let mut machine = machine();
    assert!(machine.person(&small).is_err());
    machine.target(&from_target(IO, &END)).unwrap();
    machine.target(&demand).unwrap();
    let acts = machine.person(&small).unwrap();
    let [Act::Tell(Event::Activated(begun)), Act::Send(Side::Target, _)] = &acts[..] else {
        panic!("{acts:?}")
    };
    assert_eq!((begun.width, begun.height), (1024, 1000));
}

#[test]
fn hands_act_only_where_is_shown_what_they_do_and_what_was_down_is_let_go() {
    let mut machine = machine();
    machine.person(&fast(&KEY_DOWN)).unwrap();
    let (demand, confirm) = capabilities(true, (800, 600));
    machine.target(&from_target(IO, &END)).unwrap();
    let key_up = fast(&[4, 4, 1, 0x1e]);
    assert!(machine.person(&key_up).unwrap().is_empty());
    machine.target(&demand).unwrap();
    machine.person(&confirm).unwrap();
    let other = fast(&[4, 4, 0, 0x20]);
    assert!(machine.person(&other).unwrap().is_empty(), "a client that never asks for its font map");
    let locks = fast(&[4, 3, 0x62]);
    assert!(matches!(machine.person(&locks).unwrap()[..], [Act::Tell(Event::Locks(2)), Act::Hands(_)]));
    let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
    assert!(told(&acts, &Event::Key(Key { code: 0x1e, extended: false, extended1: false, down: false })));
    assert_eq!(sent(&acts, Side::Target).len(), 2, "the desktop is asked for, and the key let go");
    assert_eq!(sent(&machine.person(&other).unwrap(), Side::Target).len(), 1);
}

#[test]
fn a_session_that_freezes_while_its_desktop_is_built_anew_lets_go_when_there_is_one() {
    let mut machine = machine();
    machine.person(&fast(&KEY_DOWN)).unwrap();
    machine.person(&fast(&[4, 9, 0x20, 0, 0x90, 5, 0, 9, 0])).unwrap();
    machine.target(&from_target(IO, &END)).unwrap();
    assert!(machine.freeze().unwrap().is_empty(), "nobody would hear it");
    let (demand, confirm) = capabilities(true, (800, 600));
    machine.target(&demand).unwrap();
    machine.person(&confirm).unwrap();
    let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
    let events =
        acts.iter().filter(|act| matches!(act, Act::Tell(Event::Key(_) | Event::Pointer(_)))).count();
    assert_eq!(events, 2, "{acts:?}");
    assert!(machine.person(&fast(&KEY_DOWN)).unwrap().is_empty());
    // Which keys are locked is a word of the person's, too: it waits until they are heard.
    assert!(machine.person(&fast(&[4, 3, 0x62])).unwrap().is_empty());
    assert!(machine.freeze().unwrap().is_empty());
    let acts = machine.thaw().unwrap();
    assert!(matches!(acts[..], [Act::Tell(Event::Locks(2)), Act::Send(Side::Target, _)]), "{acts:?}");
    assert!(machine.thaw().unwrap().is_empty(), "once");
}

#[test]
fn what_else_a_target_says_waits_until_the_desktop_is_built_anew() {
    let mut machine = rebuilding();
    let create = from_target(DYNAMIC, &chunk(&[0x50, 0, 1, 0]));
    let bell = from_target(IO, &share_data(0x22, &[0; 8]));
    let name = [[1, 0, 0, 0].as_slice(), b"s\0v\0c\0-\0e\0n\0g\0"].concat();
    let notice = from_target(IO, &share_data(0x26, &name));
    // A bitmap, which is asked for again, and a pointer, which never comes again.
    let both = fast(&[0, 10, 1, 2, 0, 1, 0, 5, 0, 0]);
    for pdu in [&create, &bell, &both] {
        assert!(machine.target(pdu).unwrap().is_empty());
    }
    assert!(matches!(machine.target(&notice).unwrap()[..], [Act::Tell(Event::LoggedOn)]));
    assert_eq!(
        sent(
            &machine.target(&from_target(IO, &share_data(0x14, &[4, 0, 0, 0, 0, 0, 0, 0]))).unwrap(),
            Side::Person
        )
        .len(),
        1
    );
    let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
    let said = sent(&acts, Side::Person);
    assert_eq!(said.len(), 5, "{acts:?}");
    assert_eq!(said[1], create.bytes);
    assert!(
        acts.iter()
            .any(|act| matches!(act, Act::Show(ScreenPdu::Desktop(pdu)) if pdu[..] == [0, 0x80, 6, 5, 0, 0]))
    );
    // Too much of it does not wait.
    let mut machine = rebuilding();
    let measured = from_target(MESSAGES, &[&[0, 0x10][..], &[7; 1000]].concat());
    let size = measured.bytes.len() + size_of::<Act>();
    let mut passed = Vec::new();
    for _ in 0..400 {
        passed.push(sent(&machine.target(&measured).unwrap(), Side::Person).len());
    }
    let at = 256 * 1024 / size;
    assert_eq!((passed.iter().sum::<usize>(), passed[at]), (at + 1, at + 1), "and what follows waits again");
}
