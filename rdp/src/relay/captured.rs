//! Connections that real clients made to real targets, as they were captured inside TLS, sent through the relay: what must not
//! get through does not. mstsc and Windows are not among them.

use bytes::Bytes;
use ironrdp_core::decode;
use ironrdp_pdu::{
    gcc::{ClientEarlyCapabilityFlags, ClientGccBlocks},
    mcs::{ConnectInitial, ConnectResponse},
    nego::SecurityProtocol,
    x224::{X224, X224Data},
};

use super::machine::{Act, Machine, Side};
use crate::{
    channels::ChannelPolicy,
    event::{Dropped, Event},
    files::NoFiles,
    fuzzing::{SECRET, account},
    mcs,
    rewrite::capabilities::Graphics,
    wire::{self, Pdu, Reader, u16_at},
};

pub(super) const XFREERDP: &str = include_str!("captured/xfreerdp-xrdp.txt");
const RDESKTOP: &str = include_str!("captured/rdesktop-xrdp.txt");
const WESTON: &str = include_str!("captured/xfreerdp-weston.txt");
const SHADOW: &str = include_str!("captured/xfreerdp-shadow.txt");
const ALL: [&str; 4] = [XFREERDP, RDESKTOP, WESTON, SHADOW];

/// What a client asked for at first, where it differs from what its connection became.
const ASKED: SecurityProtocol = SecurityProtocol::SSL.union(SecurityProtocol::HYBRID);

/// What lets everything through, but by bitmaps.
fn open_policy() -> ChannelPolicy {
    ChannelPolicy { graphics: Graphics::Lossless, ..crate::fuzzing::open_policy() }
}

/// The PDUs of a capture, each with whether it is the client's.
fn pdus(capture: &str) -> Vec<(bool, Bytes)> {
    let line = |line: &str| {
        let (who, digits) = line.split_once(' ').unwrap();
        let bytes = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        (who == "c", bytes.collect::<Vec<u8>>().into())
    };
    capture.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

/// What came out of the relay on both sides, and what it told.
#[derive(Default)]
struct Through {
    target: Vec<Bytes>,
    person: Vec<Bytes>,
    told: Vec<Event>,
}

fn through(capture: &str, policy: ChannelPolicy) -> Through {
    let mut machine = Machine::new(policy, Box::new(NoFiles), account(), SecurityProtocol::SSL, ASKED);
    let mut through = Through::default();
    for (number, (client, bytes)) in pdus(capture).into_iter().enumerate() {
        let (form, len) = wire::measure(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        let pdu = Pdu { form, bytes };
        let acts = if client { machine.person(&pdu) } else { machine.target(&pdu) };
        for act in acts.unwrap_or_else(|e| panic!("PDU {number}: {e}")) {
            match act {
                Act::Send(Side::Target, bytes) | Act::Hands(bytes) => through.target.push(bytes),
                Act::Send(Side::Person, bytes) => through.person.push(bytes),
                Act::Tell(event) => through.told.push(event),
                Act::Show(_) | Act::Anew | Act::Left(_) => {}
            }
        }
    }
    through
}

fn has(pdus: &[Bytes], text: &str) -> bool {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let found =
        |pdu: &Bytes, text: &[u8]| pdu.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text));
    pdus.iter().any(|pdu| found(pdu, text.as_bytes()) || found(pdu, &wide))
}

pub(super) fn of(capture: &str, client: bool) -> Vec<Bytes> {
    pdus(capture).into_iter().filter(|(who, _)| *who == client).map(|(_, bytes)| bytes).collect()
}

fn initial(pdu: &[u8]) -> ClientGccBlocks {
    let data = decode::<X224<X224Data<'_>>>(pdu).unwrap().0.data;
    decode::<ConnectInitial>(&data).unwrap().conference_create_request.into_gcc_blocks()
}

/// The capability sets of a Confirm Active, by their kinds.
fn confirmed(pdus: &[Bytes]) -> Vec<(u16, Vec<u8>)> {
    let share = |pdu: &Bytes| {
        let data = mcs::data(pdu, mcs::REQUEST).ok()?;
        (u16_at(data.payload, 2) == Some(0x13)).then(|| data.payload.to_vec())
    };
    let pdu = pdus.iter().find_map(share).expect("a confirm active");
    let mut at = Reader(&pdu[12..]);
    let (name, _) = (at.u16().unwrap(), at.u16().unwrap());
    at.take(name.into()).unwrap();
    let count = at.u16().unwrap();
    at.u16().unwrap();
    let mut set = |_| {
        let set = at.take(u16_at(at.0, 2).unwrap().into()).unwrap().to_vec();
        (u16_at(&set, 0).unwrap(), set)
    };
    (0..count).map(&mut set).collect()
}

#[test]
fn nothing_of_the_person_but_their_desk_reaches_a_target() {
    for capture in ALL {
        let asked = of(capture, true);
        let passed = through(capture, ChannelPolicy::default());
        for planted in ["vera", "EVIL", "rdpdr", "cliprdr", "rdpsnd"] {
            assert!(has(&asked, planted), "{planted} is in the capture");
            assert!(!has(&passed.target, planted), "{planted} came through");
        }
        for planted in ["VncPass1", "Planted-1", "cmd.exe", "evil"] {
            assert!(!has(&passed.target, planted), "{planted} came through");
        }
        // The account came in their place, and stays on its side.
        assert!(has(&passed.target, SECRET) && has(&passed.target, "svc-eng"));
        assert!(!has(&passed.person, SECRET) && !has(&passed.person, "svc-eng"));
        assert!(
            passed.told.iter().any(|event| matches!(event, Event::Activated(_))),
            "it came to its desktop"
        );
    }
    let asked = of(XFREERDP, true);
    assert!(has(&asked, "VncPass1") && has(&asked, "cmd.exe") && has(&asked, "evil"));
}

#[test]
fn of_the_beginning_no_way_around_gets_through() {
    for capture in ALL {
        let passed = through(capture, open_policy());
        let (asked, got) = (initial(&of(capture, true)[0]), initial(&passed.target[0]));
        assert!(asked.cluster.is_some() && got.cluster.is_none(), "redirection, choice of a session");
        assert!(got.multi_transport_channel.is_none());
        let flags = got.core.optional_data.early_capability_flags.unwrap();
        assert!(!flags.contains(ClientEarlyCapabilityFlags::SUPPORT_DYN_VC_GFX_PROTOCOL));
        assert_eq!(got.core.optional_data.server_selected_protocol, Some(SecurityProtocol::SSL));
        assert_eq!(got.core.client_name, asked.core.client_name);
        // The client checks what it asked for.
        let response = |pdu: &[u8]| {
            let data = decode::<X224<X224Data<'_>>>(pdu).unwrap().0.data;
            decode::<ConnectResponse>(&data).unwrap().conference_create_response.into_gcc_blocks()
        };
        let told = response(&passed.person[0]);
        assert_eq!(told.core.optional_data.client_requested_protocols, Some(ASKED));
        assert!(told.multi_transport_channel.is_none());
        assert_eq!(told.network, response(&of(capture, false)[0]).network, "the same channels on both sides");
    }
    assert!(initial(&of(XFREERDP, true)[0]).multi_transport_channel.is_some(), "it is in the capture");
}

#[test]
fn of_capabilities_only_what_the_recorder_decodes_gets_through() {
    for (capture, refused) in [(XFREERDP, vec![10, 19, 29, 30]), (RDESKTOP, vec![10, 19])] {
        let asked = confirmed(&of(capture, true));
        let got = confirmed(&through(capture, ChannelPolicy::default()).target);
        for kind in refused {
            assert!(asked.iter().any(|(asked, _)| *asked == kind), "{kind} is in the capture");
            assert!(got.iter().all(|(got, _)| *got != kind), "{kind} came through");
        }
        let orders =
            |sets: &[(u16, Vec<u8>)]| sets.iter().find(|(kind, _)| *kind == 3).unwrap().1[36..68].to_vec();
        assert!(orders(&asked).iter().any(|order| *order != 0), "drawing orders are in the capture");
        assert!(orders(&got).iter().all(|order| *order == 0), "no drawing order came through");
        let glyphs = got.iter().find(|(kind, _)| *kind == 16).map(|(_, set)| set[48..50].to_vec());
        assert_eq!(glyphs, Some(vec![0, 0]));
    }
}

#[test]
fn of_a_target_no_drawing_order_and_no_denied_channel_gets_through() {
    let passed = through(RDESKTOP, ChannelPolicy::default());
    assert!(passed.told.contains(&Event::Dropped(Dropped::DrawingOrders)));
    let last = of(RDESKTOP, false).pop().unwrap();
    assert!(last[3] & 0xf == 0 && !passed.person.contains(&last), "an order is in the capture");
    for capture in ALL {
        let desktop = |pdu: &Bytes| match mcs::data(pdu, mcs::INDICATION) {
            Ok(data) => data.channel == 1003,
            Err(_) => true,
        };
        assert!(
            through(capture, ChannelPolicy::default()).person.iter().all(desktop),
            "another channel's data"
        );
    }
    assert!(through(SHADOW, ChannelPolicy::default()).told.contains(&Event::Dropped(Dropped::ChannelData)));
    // With dynamic channels allowed, those of sound and graphics are refused by name, before the client hears of them.
    let open = through(SHADOW, open_policy());
    for name in ["AUDIO_INPUT", "Microsoft::Windows::RDS::Graphics"] {
        assert!(has(&of(SHADOW, false), name), "{name} is in the capture");
        assert!(!has(&open.person, name), "{name} came through");
        assert!(open.told.contains(&Event::ChannelRefused { name: name.to_owned() }));
    }
}

#[test]
fn keys_and_the_pointer_of_both_forms_are_told_and_pass() {
    for capture in [XFREERDP, RDESKTOP, WESTON, SHADOW] {
        let passed = through(capture, ChannelPolicy::default());
        assert!(passed.told.iter().any(|event| matches!(event, Event::Pointer(_))));
        let sent = of(capture, true);
        let fast = sent.iter().filter(|pdu| pdu[0] != 3);
        assert!(fast.clone().all(|pdu| passed.target.contains(pdu)));
        assert_eq!(fast.count() == 0, capture == RDESKTOP);
    }
    for capture in [RDESKTOP, WESTON, SHADOW] {
        let keys = through(capture, ChannelPolicy::default()).told;
        assert!(keys.iter().any(|event| matches!(event, Event::Key(key) if key.code == 0x1e && key.down)));
    }
}
