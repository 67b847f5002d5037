//! What passes and what does not, PDU by PDU.

mod rebuilt;
mod waited;

use bytes::Bytes;
use ironrdp_pdu::nego::SecurityProtocol;

use super::{
    desktop::Desktop,
    machine::{Act, DEVICES, Machine, Side},
};
use crate::{
    banner::{Area, updates},
    channels::{ChannelPolicy, chunk, chunks, pipeline},
    event::{Direction, Dropped, Event, Key, ScreenPdu},
    fuzzing::{account, open_policy},
    mcs::{self, Data},
    rewrite::Broken,
    share::{self, ShareData},
    tap::{Start, Tap},
    wire::{Form, Pdu},
};

const IO: u16 = 1003;
const PROTOCOL: SecurityProtocol = SecurityProtocol::SSL;
const SOUND: u16 = 1006;
const DENIED: u16 = 1007;
const MESSAGES: u16 = 1008;
const USER: u16 = 1009;

fn machine() -> Machine {
    Machine::running(open_policy(), account())
}

fn from_person(channel: u16, payload: &[u8]) -> Pdu {
    let data = Data { initiator: USER, channel, payload };
    Pdu { form: Form::Tpkt, bytes: mcs::encode(mcs::REQUEST, data).unwrap() }
}

fn from_target(channel: u16, payload: &[u8]) -> Pdu {
    let data = Data { initiator: mcs::SERVER, channel, payload };
    Pdu { form: Form::Tpkt, bytes: mcs::encode(mcs::INDICATION, data).unwrap() }
}

fn share_data(kind: u8, body: &[u8]) -> Vec<u8> {
    share::encode_data(ShareData { share_id: 7, source: mcs::SERVER, kind, body }).unwrap()
}

fn fast(bytes: &[u8]) -> Pdu {
    Pdu { form: Form::FastPath, bytes: Bytes::copy_from_slice(bytes) }
}

/// What was sent to a side.
fn sent(acts: &[Act], to: Side) -> Vec<Bytes> {
    let sent = |act: &Act| match act {
        Act::Send(side, bytes) if *side == to => Some(bytes.clone()),
        Act::Hands(bytes) if to == Side::Target => Some(bytes.clone()),
        _ => None,
    };
    acts.iter().filter_map(sent).collect()
}

fn told(acts: &[Act], event: &Event) -> bool {
    acts.iter().any(|act| matches!(act, Act::Tell(told) if told == event))
}

const KEY_DOWN: [u8; 4] = [4, 4, 0, 0x1e];

#[test]
fn input_is_told_before_it_goes_on() {
    let acts = machine().person(&fast(&KEY_DOWN)).unwrap();
    let key = Key { code: 0x1e, extended: false, extended1: false, down: true };
    assert!(
        matches!(&acts[..], [Act::Tell(Event::Key(told)), Act::Hands(bytes)] if *told == key && bytes[..] == KEY_DOWN)
    );
}

#[test]
fn what_is_on_the_clipboard_is_told_and_decided_on_before_it_goes_on() {
    let mut machine = machine();
    let clipboard = |kind: u8, flags: u8, body: &[u8]| {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        chunk(&[&[kind, 0, flags, 0][..], &len, body].concat())
    };
    machine.target(&from_target(1005, &clipboard(2, 0, &[&[13, 0, 0, 0][..], &[0; 32]].concat()))).unwrap();
    machine.person(&from_person(1005, &clipboard(4, 0, &[13, 0, 0, 0]))).unwrap();
    let acts = machine.target(&from_target(1005, &clipboard(5, 1, b"a\0b\0\0\0"))).unwrap();
    let [Act::Tell(text), Act::Tell(files), Act::Tell(noted), Act::Send(Side::Person, _)] = &acts[..] else {
        panic!("{acts:?}")
    };
    let expected = Event::ClipboardText { direction: Direction::ToPerson, text: "ab".to_owned() };
    assert_eq!((text, files), (&expected, &Event::Files));
    // Of the text itself, which is masked, nothing is told a second time.
    let bytes = Bytes::from_static(b"\x05\0\x01\0\x06\0\0\0");
    assert_eq!(noted, &Event::DeviceMessage { direction: Direction::ToPerson, bytes });
}

#[test]
fn the_screen_is_shown_to_the_watcher_before_it_goes_on() {
    let bitmap = [0, 7, 1, 2, 0, 9, 9];
    let acts = machine().target(&fast(&bitmap)).unwrap();
    assert!(
        matches!(&acts[..], [Act::Show(ScreenPdu::Desktop(shown)), Act::Send(Side::Person, bytes)] if shown == bytes)
    );
    let slow = from_target(IO, &share_data(2, &[1, 0, 0, 0]));
    let acts = machine().target(&slow).unwrap();
    assert!(matches!(&acts[..], [Act::Show(_), Act::Send(Side::Person, bytes)] if *bytes == slow.bytes));
}

#[test]
fn a_frozen_session_takes_nothing_and_lets_held_keys_go() {
    let mut machine = machine();
    machine.person(&fast(&KEY_DOWN)).unwrap();
    let acts = machine.freeze().unwrap();
    let released = Event::Key(Key { code: 0x1e, extended: false, extended1: false, down: false });
    assert!(told(&acts, &released));
    let pdu = &sent(&acts, Side::Target)[0];
    let data = mcs::data(pdu, mcs::REQUEST).unwrap();
    let input = share::split(data.payload).unwrap()[0].data().unwrap();
    assert_eq!(crate::rewrite::input::slow_path(input.body), Ok(vec![released]));

    let slow =
        share_data(0x1c, &[[1, 0, 0, 0].as_slice(), &[0, 0, 0, 0, 4, 0, 0, 0, 0x1e, 0, 0, 0]].concat());
    for pdu in [fast(&KEY_DOWN), from_person(IO, &slow)] {
        assert!(machine.person(&pdu).unwrap().is_empty());
    }
    assert_eq!(
        sent(&machine.target(&fast(&[0, 7, 1, 2, 0, 9, 9])).unwrap(), Side::Person).len(),
        1,
        "it still shows"
    );
    machine.thaw().unwrap();
    assert_eq!(sent(&machine.person(&from_person(IO, &slow)).unwrap(), Side::Target).len(), 1);
    assert!(machine.freeze().unwrap().len() == 2, "and the key is held again");
}

#[test]
fn a_redirection_ends_the_session_also_behind_another_pdu() {
    let redirect = [6, 0, 0x1a, 0, 0xea, 3];
    for payload in [redirect.to_vec(), [share_data(0x1f, &[1, 0, 0xea, 3]).as_slice(), &redirect].concat()] {
        assert!(matches!(machine().target(&from_target(IO, &payload)), Err(Broken(_))));
    }
}

#[test]
fn neither_a_reconnect_cookie_nor_a_name_reaches_the_person() {
    let cookie =
        [[3, 0, 0, 0, 38, 0, 1, 0, 0, 0].as_slice(), &[28, 0, 0, 0], &[0xaa; 28], &[0; 570]].concat();
    let mut machine = machine();
    let acts = machine.target(&from_target(IO, &share_data(0x26, &cookie))).unwrap();
    assert!(sent(&acts, Side::Person).is_empty());
    assert!(told(&acts, &Event::Dropped(Dropped::ReconnectCookie)));
    let name = [[1, 0, 0, 0].as_slice(), b"s\0v\0c\0-\0e\0n\0g\0"].concat();
    let acts = machine.target(&from_target(IO, &share_data(0x26, &name))).unwrap();
    assert!(told(&acts, &Event::LoggedOn));
    assert!(!sent(&acts, Side::Person)[0].windows(4).any(|four| four == b"s\0v\0"));
}

#[test]
fn drawing_orders_are_not_shown_to_anybody() {
    let mut machine = machine();
    let acts = machine.target(&from_target(IO, &share_data(2, &[0, 0, 0, 0, 1, 0, 0, 0]))).unwrap();
    assert!(matches!(&acts[..], [Act::Tell(Event::Dropped(Dropped::DrawingOrders))]));
    let acts = machine.target(&fast(&[0, 7, 0, 2, 0, 9, 9])).unwrap();
    assert!(acts.is_empty(), "said once");
}

#[test]
fn no_way_beside_the_connection_is_agreed_on() {
    let mut machine = machine();
    // SEC_TRANSPORT_REQ and SEC_TRANSPORT_RSP.
    assert!(
        sent(&machine.target(&from_target(MESSAGES, &[2, 0, 0, 0, 1, 0, 0, 0])).unwrap(), Side::Person)
            .is_empty()
    );
    assert!(
        sent(&machine.person(&from_person(MESSAGES, &[4, 0, 0, 0, 1, 0, 0, 0])).unwrap(), Side::Target)
            .is_empty()
    );
    // Measurements pass.
    assert_eq!(
        sent(&machine.target(&from_target(MESSAGES, &[0, 0x10, 0, 0, 6, 0, 0, 0])).unwrap(), Side::Person)
            .len(),
        1
    );
    assert_eq!(
        sent(&machine.person(&from_person(MESSAGES, &[0, 0x20, 0, 0, 6, 1, 0, 0])).unwrap(), Side::Target)
            .len(),
        1
    );
}

#[test]
fn data_on_a_denied_channel_go_nowhere() {
    let mut machine = machine();
    let acts = machine.person(&from_person(DENIED, &[1; 20])).unwrap();
    assert!(matches!(&acts[..], [Act::Tell(Event::Dropped(Dropped::ChannelData))]));
    assert!(machine.target(&from_target(DENIED, &[1; 20])).unwrap().is_empty());
    assert!(machine.person(&from_person(2000, &[1; 20])).unwrap().is_empty());
}

#[test]
fn a_hidden_window_does_not_stop_the_drawing() {
    let mut machine = machine();
    assert!(
        sent(&machine.person(&from_person(IO, &share_data(0x23, &[0, 0, 0, 0]))).unwrap(), Side::Target)
            .is_empty()
    );
    let show = share_data(0x23, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 3, 0xff, 2]);
    assert_eq!(sent(&machine.person(&from_person(IO, &show)).unwrap(), Side::Target).len(), 1);
}

#[test]
fn nobody_speaks_for_another_user() {
    let data = Data { initiator: USER + 1, channel: IO, payload: &share_data(0x1c, &[0, 0, 0, 0]) };
    let pdu = Pdu { form: Form::Tpkt, bytes: mcs::encode(mcs::REQUEST, data).unwrap() };
    assert!(machine().person(&pdu).is_err());
}

#[test]
fn what_is_answered_in_the_servers_name_goes_on_in_the_clients() {
    let answer = |channel, payload: &[u8]| {
        let data = Data { initiator: mcs::SERVER, channel, payload };
        Pdu { form: Form::Tpkt, bytes: mcs::encode(mcs::REQUEST, data).unwrap() }
    };
    let initiator = |acts: Vec<Act>| {
        let sent = sent(&acts, Side::Target);
        mcs::data(&sent[0], mcs::REQUEST).unwrap().initiator
    };
    let sound = answer(SOUND, &chunk(&[0xc, 0, 4, 0, 2, 0, 0, 0]));
    assert_eq!(initiator(machine().person(&sound).unwrap()), USER);
    let mut beginning = machine();
    beginning.licensed = false;
    let licence = answer(IO, &[0x80, 0, 0, 0, 0x15, 3, 4, 0]);
    assert_eq!(initiator(beginning.person(&licence).unwrap()), USER);
}

#[test]
fn what_the_target_says_at_its_end_is_told_and_passed() {
    let mut machine = machine();
    let acts = machine.target(&from_target(IO, &share_data(0x2f, &[0xc, 0, 0, 0]))).unwrap();
    assert!(told(&acts, &Event::TargetSays { code: 0xc }));
    assert_eq!(sent(&acts, Side::Person).len(), 1);
    assert_eq!(machine.target_says(), Some(0xc));
}

#[test]
fn a_desktop_that_would_fill_the_memory_is_refused() {
    assert!(Machine::check_size((3840, 2160)).is_ok());
    assert!(Machine::check_size((0xffff, 0xffff)).is_err());
    assert!(Machine::check_size((0, 768)).is_err());
}

#[test]
fn nothing_passes_out_of_turn() {
    let all = ironrdp_pdu::nego::SecurityProtocol::SSL;
    let begin = || Machine::new(ChannelPolicy::default(), Box::new(crate::NoFiles), account(), all, all);
    assert!(begin().person(&fast(&KEY_DOWN)).is_err());
    assert!(begin().person(&from_person(IO, &[0x40, 0, 0, 0])).is_err());
    assert!(begin().target(&fast(&[0, 7, 1, 2, 0, 9, 9])).is_err());
    assert!(begin().farewell(1).is_empty() && begin().leave().is_none());
}

#[test]
fn what_is_taken_back_is_let_go_where_it_was_a_release() {
    let mut machine = machine();
    let slow = |flags: u8| {
        let body = [[1, 0, 0, 0].as_slice(), &[0, 0, 0, 0, 4, 0, 0, flags, 0x1e, 0, 0, 0]].concat();
        from_person(IO, &share_data(0x1c, &body))
    };
    for up in [fast(&[4, 4, 1, 0x1e]), slow(0xc0)] {
        machine.person(&fast(&KEY_DOWN)).unwrap();
        let acts = machine.person(&up).unwrap();
        let [Act::Tell(_), Act::Hands(pdu)] = &acts[..] else { panic!("{acts:?}") };
        machine.unsaid(pdu);
        let acts = machine.freeze().unwrap();
        assert!(
            matches!(acts[..], [Act::Tell(Event::Key(Key { down: false, .. })), Act::Send(..)]),
            "{acts:?}"
        );
        machine.thaw().unwrap();
    }
}

#[test]
fn hands_of_somebody_who_cannot_see_do_nothing_and_let_go_and_the_rest_passes() {
    let mut machine = machine();
    machine.person(&fast(&KEY_DOWN)).unwrap();
    assert!(machine.see(true).unwrap().is_empty());
    let acts = machine.see(false).unwrap();
    assert!(
        matches!(acts[..], [Act::Tell(Event::Key(Key { down: false, .. })), Act::Send(Side::Target, _)]),
        "{acts:?}"
    );
    assert!(machine.see(false).unwrap().is_empty(), "once");
    assert!(machine.person(&fast(&KEY_DOWN)).unwrap().is_empty());
    let measured = from_person(MESSAGES, &[0, 0x20, 0, 0, 6, 1, 0, 0]);
    assert_eq!(machine.person(&measured).unwrap().len(), 1);
    machine.see(true).unwrap();
    assert_eq!(machine.person(&fast(&KEY_DOWN)).unwrap().len(), 2);
}

#[test]
fn at_the_end_nothing_stays_down() {
    let mut machine = machine();
    machine.person(&fast(&KEY_DOWN)).unwrap();
    assert_eq!(machine.let_all_go().len(), 1);
    assert!(machine.let_all_go().is_empty());
    machine.person(&fast(&KEY_DOWN)).unwrap();
    machine.target(&from_target(IO, &rebuilt::END)).unwrap();
    assert!(machine.let_all_go().is_empty(), "nobody would hear it");
}

#[test]
fn what_a_target_says_again_and_again_fills_no_log() {
    let mut machine = machine();
    let name = [[1, 0, 0, 0].as_slice(), b"s\0v\0c\0-\0e\0n\0g\0"].concat();
    let mut events = 0;
    for code in 1..100 {
        for body in
            [share_data(0x26, &name), share_data(0x2f, &[code, 0, 0, 0]), share_data(0x2f, &[code, 0, 0, 0])]
        {
            let acts = machine.target(&from_target(IO, &body)).unwrap();
            events += acts.iter().filter(|act| matches!(act, Act::Tell(_))).count();
        }
    }
    assert_eq!(events, 17, "that somebody logged on, and sixteen reasons");
    assert_eq!(machine.target_says(), Some(99));
}

#[test]
fn what_we_draw_passes_for_what_a_target_draws() {
    let mut machine = machine();
    machine.desktop = Desktop::begun((1024, 768), 16);
    let area = Area { left: 8, top: 0, width: 400, height: 40 };
    let rgb = vec![0x80; 400 * 40 * 3];
    let painted = machine.paint(area, &rgb).unwrap();
    assert_eq!(painted.len(), updates(area, &rgb, 16).unwrap().len());
    for bytes in painted {
        let acts = machine.target(&Pdu { form: Form::Tpkt, bytes }).unwrap();
        assert!(matches!(acts.as_slice(), [Act::Show(_), Act::Send(Side::Person, _)]), "{acts:?}");
    }
}

const CORNER: Area = Area { left: 0, top: 0, width: 8, height: 8 };

/// A tap that is given all that the machine shows; and what the person is sent.
fn watched(machine: &mut Machine, payload: &[u8]) -> (Vec<u8>, Vec<Bytes>) {
    let mut tap = Tap::new(Start { width: 64, height: 64, io_channel: IO }).unwrap();
    let mut sent = Vec::new();
    for act in machine.target(&from_target(IO, payload)).unwrap() {
        match act {
            Act::Show(pdu) => tap.draw(&pdu).unwrap(),
            Act::Send(Side::Person, bytes) => sent.push(bytes),
            _ => {}
        }
    }
    assert_eq!(tap.faults(), 0);
    (tap.image().crop(CORNER).unwrap(), sent)
}

#[test]
fn what_a_target_packs_together_is_seen_and_recorded_one_by_one() {
    let (red, blue) = ([0xff, 0, 0].repeat(64), [0, 0, 0xff].repeat(64));
    let draw = |rgb: &[u8]| share_data(0x02, &updates(CORNER, rgb, 32).unwrap()[0]);
    let (synchronize, deactivate) = (share_data(0x1f, &[1, 0, 0xea, 3]), vec![6, 0, 0x16, 0, 0xea, 3]);

    let hidden = [synchronize.clone(), draw(&red)].concat();
    let (seen, sent) = watched(&mut machine(), &hidden);
    assert_eq!((seen, sent.len()), (red.clone(), 2), "behind a PDU that draws nothing");
    let (seen, _) = watched(&mut machine(), &[draw(&red), draw(&blue)].concat());
    assert_eq!(seen, blue, "two in a row");
    let (seen, _) = watched(&mut machine(), &[draw(&red), deactivate.clone()].concat());
    assert_eq!(seen, red, "before an end");
    let (seen, sent) = watched(&mut machine(), &[deactivate, draw(&red), synchronize].concat());
    assert_eq!((seen, sent.len()), (vec![0; 192], 2), "on a desktop that is no more");
}

#[test]
fn what_goes_on_about_devices_is_told_before_it_does() {
    let mut machine = machine();
    // A target that begins: an announcement of version 1.13.
    let announcement = b"rDnI\x01\0\x0d\0\x07\0\0\0";
    let [chunk] = &chunks::pieces(announcement)[..] else { panic!("more than one chunk") };
    let acts = machine.target(&from_target(DEVICES, chunk)).unwrap();
    let bytes = Bytes::from_static(announcement);
    let message = Event::DeviceMessage { direction: Direction::ToPerson, bytes };
    let at = |is: &dyn Fn(&Act) -> bool| acts.iter().position(is).expect("it is missing");
    let files = at(&|act| matches!(act, Act::Tell(Event::Files)));
    let noted = at(&|act| matches!(act, Act::Tell(told) if *told == message));
    let sent = at(&|act| matches!(act, Act::Send(..)));
    assert!(files < sent && noted < sent, "{acts:?}");
}

/// The channel of dynamic channels in [`Machine::running`].
const DYNAMIC: u16 = 1004;

#[test]
fn a_target_that_draws_by_the_graphics_pipeline_draws_by_nothing_else_and_is_shown_before_it_goes_on() {
    let mut machine = machine();
    machine.desktop = Desktop::begun((200, 100), 32);
    let bitmap = Pdu { form: Form::FastPath, bytes: Bytes::from_static(&[0, 7, 1, 2, 0, 1, 0]) };
    assert_eq!(machine.target(&bitmap).unwrap().len(), 2, "so far bitmaps are shown");
    let create = [&[0x10, 5], pipeline::NAME, &[0]].concat();
    machine.target(&from_target(DYNAMIC, &chunk(&create))).unwrap();
    machine.person(&from_person(DYNAMIC, &chunk(&[0x10, 5, 0, 0, 0, 0]))).unwrap();
    let again =
        machine.target(&from_target(DYNAMIC, &chunk(&[&[0x10, 6], pipeline::NAME, &[0]].concat()))).unwrap();
    assert!(
        matches!(&again[..], [Act::Tell(Event::ChannelRefused { .. }), Act::Send(Side::Target, _)]),
        "one is enough: {again:?}"
    );
    // Version 8, with flags of the client's own.
    let offer = [0x12, 0, 0, 0, 22, 0, 0, 0, 1, 0, 4, 0, 8, 0, 4, 0, 0, 0, 1, 0, 0, 0];
    machine.freeze().unwrap();
    let acts =
        machine.person(&from_person(DYNAMIC, &chunk(&[&[0x30, 5], offer.as_slice()].concat()))).unwrap();
    let [Act::Send(Side::Target, sent)] = &acts[..] else { panic!("{acts:?}") };
    assert_eq!(sent.last_chunk(), Some(&[3, 0, 0, 0]), "it is said while the person's hands are tied");
    let (confirm, rest) = pipeline::Pipeline::beginning();
    let plain = [confirm, rest].concat();
    let message = pipeline::pack(&plain);
    let data = [&[0x30, 5], message.as_slice()].concat();
    let acts = machine.target(&from_target(DYNAMIC, &chunk(&data))).unwrap();
    let [Act::Anew, Act::Show(ScreenPdu::Pipeline(shown)), Act::Send(Side::Person, _)] = &acts[..] else {
        panic!("{acts:?}")
    };
    // The client hears the flags that it said.
    assert!(shown.len() > plain.len() && shown[16..20] == [1, 0, 0, 0]);
    assert_eq!(machine.canvas(), Some((200, 100)));
    let acts = machine.target(&bitmap).unwrap();
    assert!(matches!(acts[..], [Act::Tell(Event::Dropped(Dropped::BesidePipeline))]), "{acts:?}");
    let slow = from_target(IO, &share_data(share::UPDATE, &[1, 0, 0, 0]));
    assert!(machine.target(&slow).unwrap().is_empty());
    // Words go the same way, in messages that are put together again, and are gone with the channel.
    let area = Area { left: 0, top: 0, width: 40, height: 20 };
    let painted = machine.paint(area, &[7; 2400]).unwrap();
    assert!(painted.len() > 2 && painted.iter().all(|pdu| pdu.len() < 1700));
    assert_eq!(machine.clear().unwrap().len(), 1);
    let acts = machine.target(&from_target(DYNAMIC, &chunk(&[0x40, 5]))).unwrap();
    assert!(
        matches!(
            acts[..],
            [Act::Show(ScreenPdu::Pipeline(_)), Act::Send(Side::Person, _), Act::Send(Side::Person, _)]
        ),
        "the client forgets its surface, which the watcher sees, and closes: {acts:?}"
    );
    let answer = from_person(DYNAMIC, &chunk(&[0x40, 5]));
    assert!(matches!(machine.person(&answer).unwrap()[..], [Act::Send(Side::Target, _)]));
    assert!(machine.person(&answer).unwrap().is_empty());
    assert_eq!(machine.target(&bitmap).unwrap().len(), 2, "without it bitmaps are shown again");
    machine.target(&from_target(DYNAMIC, &chunk(&create))).unwrap();
    machine.person(&from_person(DYNAMIC, &chunk(&[&[0x30, 5], offer.as_slice()].concat()))).unwrap();
    let acts = machine.target(&from_target(DYNAMIC, &chunk(&data))).unwrap();
    assert!(
        matches!(acts[..], [Act::Anew, Act::Show(_), Act::Send(Side::Person, _)]),
        "xrdp opens it anew: {acts:?}"
    );
}

#[test]
fn messages_of_the_graphics_pipeline_in_pieces_are_read_as_one_and_lying_ones_end_the_session() {
    let begin = || {
        let mut machine = machine();
        machine.target(&from_target(DYNAMIC, &chunk(&[&[0x10, 5], pipeline::NAME, &[0]].concat()))).unwrap();
        let offer = [0x12, 0, 0, 0, 22, 0, 0, 0, 1, 0, 4, 0, 8, 0, 4, 0, 0, 0, 1, 0, 0, 0];
        machine.person(&from_person(DYNAMIC, &chunk(&[&[0x30, 5], offer.as_slice()].concat()))).unwrap();
        machine
    };
    let (confirm, rest) = pipeline::Pipeline::beginning();
    let message = pipeline::pack(&[confirm, rest].concat());
    let (first, second) = message.split_at(100);
    let total = u16::try_from(message.len()).unwrap().to_le_bytes();
    let say = |machine: &mut Machine, head: &[u8], data: &[u8]| {
        machine.target(&from_target(DYNAMIC, &chunk(&[head, data].concat())))
    };
    let head = [0x24, 5, total[0], total[1]];
    let mut machine = begin();
    assert!(say(&mut machine, &head, first).unwrap().is_empty(), "nothing goes on before all is there");
    assert_eq!(say(&mut machine, &[0x30, 5], second).unwrap().len(), 3);

    let mut machine = begin();
    say(&mut machine, &head, first).unwrap();
    assert!(say(&mut machine, &head, first).is_err(), "another beginning in the midst of it");
    let mut machine = begin();
    say(&mut machine, &head, first).unwrap();
    assert!(say(&mut machine, &[0x30, 5], &[second, &[0]].concat()).is_err(), "more than was announced");
    assert!(say(&mut begin(), &[0x28, 5, 0, 0, 0, 4], first).is_err(), "64 MiB");
    // A client that gives up what is drawn there is one that left.
    let mut machine = begin();
    say(&mut machine, &[0x30, 5], &message).unwrap();
    let acts = machine.person(&from_person(DYNAMIC, &chunk(&[0x40, 5]))).unwrap();
    assert!(matches!(acts[..], [Act::Send(Side::Target, _), Act::Left(Side::Person)]), "{acts:?}");
    assert!(say(&mut begin(), &[0x24, 5, 0, 0], &[]).is_err(), "nothing");
}
