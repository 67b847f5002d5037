//! Every parser of a peer's bytes, as a function of bytes alone: what `fuzz/` drives and the tests replay.

use std::{collections::HashSet, hint::black_box};

use bytes::Bytes;
use ironrdp_core::{ReadCursor, decode_cursor};
use ironrdp_egfx::pdu::GfxPdu;
use ironrdp_pdu::nego::SecurityProtocol;

use crate::{
    back::{BackConfig, Security},
    channels::{
        ChannelPolicy,
        clipboard::Clipboard,
        devices::{Devices, Terms},
        pipeline::{self, Pipeline},
    },
    cleanpath, credssp,
    event::{Direction, Event, ScreenPdu},
    files::{Change, Files, Opening},
    front,
    mcs::{self, Data},
    relay::{Act, Lobby, Machine, Side},
    rewrite::{
        capabilities::{Graphics, confirm_active, demand_active},
        connect,
        info::{client_info, typed},
    },
    tap::{Start, Tap},
    wire::{self, Form, Pdu, Reader},
};

/// Most PDUs of one input.
const MAX_PDUS: usize = 256;

/// The account of a session that is only fuzzed.
pub(crate) fn account() -> BackConfig {
    BackConfig {
        pin: crate::Pin::default(),
        security: Security::TlsLogin,
        user: "svc-eng".to_owned(),
        domain: None,
        password: SECRET.into(),
        kerberos: None,
    }
}

/// The password in [`account`], which must never be seen on the person's side.
pub(crate) const SECRET: &str = "Vault-Secret-1";

/// A policy that lets everything through that can be let through, so that everything is read.
pub(crate) fn open_policy() -> ChannelPolicy {
    ChannelPolicy {
        resize: true,
        sound: true,
        clipboard_to_target: true,
        clipboard_to_person: true,
        clipboard_files_to_target: true,
        clipboard_files_to_person: true,
        drives_to_target: true,
        drives_to_person: true,
        printers: true,
        graphics: Graphics::Pipeline,
    }
}

/// A conversation of both sides in a session that runs. Each PDU: a byte that says who sends it and how it is wrapped, a
/// length, the bytes. Whatever comes out is a whole PDU, and the account is in nothing that the person gets.
pub fn fuzz_session(bytes: &[u8]) {
    let mut machine = Machine::running(open_policy(), account());
    converse(&mut machine, bytes);
}

/// As [`fuzz_session`], from the first PDU of a connection on.
pub fn fuzz_beginning(bytes: &[u8]) {
    let all = SecurityProtocol::SSL | SecurityProtocol::HYBRID;
    let mut machine =
        Machine::new(open_policy(), Box::new(crate::NoFiles), account(), SecurityProtocol::SSL, all);
    converse(&mut machine, bytes);
}

/// As [`fuzz_session`], with a client that waited at a desktop of our own; what it says is also heard there.
pub fn fuzz_lobby(bytes: &[u8]) {
    let (mut lobby, mut at) = (Lobby::begun(), Reader(bytes));
    for _ in 0..MAX_PDUS {
        let Some((how, len)) = at.u8().zip(at.u16()) else { break };
        let Some(body) = at.take(usize::from(len).min(at.0.len())) else { break };
        let Some(pdu) = wrap(how & !1, body) else { continue };
        let Ok(answers) = lobby.said(&pdu) else { break };
        check(answers.into_iter().map(|answer| Act::Send(Side::Person, answer)).collect());
    }
    let mut machine = Machine::waited(open_policy(), account());
    converse(&mut machine, bytes);
}

fn converse(machine: &mut Machine, bytes: &[u8]) {
    // A fuzzer reads the secret out of the comparison below. A target may send what it knows: only what we add would be a leak.
    if has_secret(bytes) {
        return;
    }
    let (mut at, mut begun) = (Reader(bytes), machine.has_desktop());
    for _ in 0..MAX_PDUS {
        let Some((how, len)) = at.u8().zip(at.u16()) else { return };
        let len = usize::from(len).min(at.0.len());
        let Some(pdu) = at.take(len).and_then(|body| wrap(how, body)) else { continue };
        let acts = if how & 1 == 0 { machine.person(&pdu) } else { machine.target(&pdu) };
        let Ok(acts) = acts else { return };
        for act in &acts {
            begun |= matches!(act, Act::Tell(Event::Activated(_)));
            assert!(begun || !matches!(act, Act::Show(_)), "something is shown before there is a desktop");
        }
        if how & 0x80 != 0 {
            // As the relay does where the target did not take them yet.
            for act in &acts {
                if let Act::Hands(bytes) = act {
                    machine.unsaid(bytes);
                }
            }
            check(machine.freeze().unwrap_or_default());
        } else {
            check(machine.thaw().unwrap_or_default());
        }
        check(acts);
    }
    black_box((machine.farewell(1), machine.leave()));
}

fn wrap(how: u8, body: &[u8]) -> Option<Pdu> {
    let channel = match (how >> 2) & 7 {
        0 => {
            let (form, len) = wire::measure(body).ok()??;
            return (len == body.len()).then(|| Pdu { form, bytes: Bytes::copy_from_slice(body) });
        }
        channel => 1002 + u16::from(channel),
    };
    let (kind, initiator) = if how & 1 == 0 { (mcs::REQUEST, 1009) } else { (mcs::INDICATION, mcs::SERVER) };
    let bytes = mcs::encode(kind, Data { initiator, channel, payload: body }).ok()?;
    Some(Pdu { form: Form::Tpkt, bytes })
}

fn has_secret(bytes: &[u8]) -> bool {
    let secret: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.windows(secret.len()).any(|window| window == secret)
}

fn check(acts: Vec<Act>) {
    for act in acts {
        let (bytes, person) = match act {
            Act::Send(side, bytes) => (bytes, side == Side::Person),
            Act::Hands(bytes) => (bytes, false),
            _ => continue,
        };
        assert!(matches!(wire::measure(&bytes), Ok(Some((_, len))) if len == bytes.len()), "{bytes:?}");
        assert!(!person || !has_secret(&bytes), "the secret is on its way to the person");
    }
}

/// A browser's first message (RDCleanPath). What is read of it is a connection request, and as long as there was room for.
pub fn fuzz_cleanpath(bytes: &[u8]) {
    if let Some(request) = cleanpath::request(bytes) {
        assert!(request.len() <= bytes.len(), "more than was said");
        black_box(front::offered(&request).is_ok());
    }
}

/// What both sides say about devices, to a session with a drive, whole messages. Each: a byte that says from whom, a length,
/// the bytes. Nobody gets what the other side's rules do not allow for: contents only of files that are open.
pub fn fuzz_devices(bytes: &[u8]) {
    let policy = open_policy();
    let (mut devices, mut files) = (Devices::default(), Witness::default());
    for (direction, frozen, message) in messages(bytes) {
        let mut terms = Terms { policy: &policy, frozen, files: &mut files };
        let Ok(passed) = devices.message(direction, message.to_vec(), &mut terms) else { return };
        for message in passed.to_person.iter().chain(&passed.to_target) {
            assert!(message.len() >= 4, "a message without its head");
            let contents = passed.contents_from.and_then(|from| message.get(from..)).unwrap_or_default();
            let told = contents.is_empty() || files.passing.iter().any(|passing| passing == contents);
            // What says no is longer than its head, too.
            assert!(told || contents == [0], "contents that nobody was told of");
        }
        files.passing.clear();
    }
}

/// Which way each message of an input goes, whether the session is suspended then, and the message.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (Direction, bool, &[u8])> {
    let mut at = Reader(bytes);
    let next = move || {
        let (how, len) = at.u8().zip(at.u16())?;
        let message = at.take(usize::from(len).min(at.0.len()))?;
        let direction = if how & 1 == 0 { Direction::ToTarget } else { Direction::ToPerson };
        Some((direction, how & 0x80 != 0, message))
    };
    std::iter::from_fn(next).take(MAX_PDUS)
}

/// What both sides say on the clipboard's channel, whole messages in the form of [`fuzz_devices`]. The same holds.
pub fn fuzz_clipboard(bytes: &[u8]) {
    let policy = open_policy();
    let (mut clipboard, mut files) = (Clipboard::default(), Witness::default());
    for (direction, frozen, message) in messages(bytes) {
        let mut terms = Terms { policy: &policy, frozen, files: &mut files };
        let Ok(passed) = clipboard.message(direction, message, &mut terms) else { return };
        for message in passed.forward.iter().chain(&passed.answer) {
            let said = wire::u32_at(message, 4).and_then(|len| usize::try_from(len).ok());
            assert_eq!(said, message.len().checked_sub(8), "a length that lies");
            // `CB_FILECONTENTS_RESPONSE`: behind its number a size, or contents.
            if message.starts_with(&[9, 0]) {
                let contents = message.get(12..).unwrap_or_default();
                let told = matches!(contents.len(), 0 | 8)
                    || files.passing.iter().any(|passing| passing == contents);
                assert!(told, "contents that nobody was told of");
            }
        }
        files.passing.clear();
    }
}

/// What both sides say on the channel of the graphics pipeline once they have agreed on a version, whole messages in the form
/// of [`fuzz_devices`]; those of the target as they are, or where the second bit says so packed. Whatever goes on is what the
/// recording's decoder reads.
pub fn fuzz_pipeline(bytes: &[u8]) {
    let mut pipeline = Pipeline::begun();
    let Ok(mut tap) = Tap::new(Start { width: 200, height: 100, io_channel: 1003 }) else { return };
    let (begin, more) = Pipeline::beginning();
    black_box(tap.draw(&ScreenPdu::Pipeline([begin, more].concat().into())).is_ok());
    for (direction, frozen, message) in messages(bytes) {
        if direction == Direction::ToTarget {
            if pipeline.person(message).is_err() {
                return;
            }
            continue;
        }
        let packed = if frozen { message.to_vec() } else { pipeline::pack(message) };
        let Ok(drawn) = pipeline.target(&packed) else { return };
        let mut src = ReadCursor::new(&drawn.plain);
        while !src.is_empty() {
            assert!(decode_cursor::<GfxPdu>(&mut src).is_ok(), "a PDU that the recording cannot read");
        }
        if tap.draw(&ScreenPdu::Pipeline(drawn.plain.into())).is_err() {
            return;
        }
        let (width, height) = tap.image().size();
        assert_eq!(tap.image().rgbx().len(), usize::from(width) * usize::from(height) * 4);
    }
}

/// Allows everything, and fails when it is told of a file that is not open.
#[derive(Debug, Default)]
struct Witness {
    open: HashSet<u32>,
    last: u32,
    /// What was allowed to pass, and has not been seen to.
    passing: Vec<Bytes>,
}

impl Witness {
    fn is_open(&self, file: u32) -> bool {
        assert!(self.open.contains(&file), "a file that is not open");
        true
    }
}

impl Files for Witness {
    fn stands(&self) -> bool {
        true
    }
    fn offer(&mut self, opening: &Opening<'_>, _size: Option<u64>) -> bool {
        let names: Vec<&str> = opening.path.split('/').collect();
        assert!(names.len() > 1 && !names.iter().any(|n| matches!(*n, "." | "..")), "{:?}", opening.path);
        true
    }
    fn open(&mut self, opening: &Opening<'_>) -> Option<u32> {
        self.offer(opening, None);
        self.last += 1;
        self.open.insert(self.last);
        Some(self.last)
    }
    fn opened(&mut self, file: u32, status: Result<(), u32>) {
        self.is_open(file);
        if status.is_err() {
            self.open.remove(&file);
        }
    }
    fn lock(&mut self, file: u32) -> bool {
        self.is_open(file)
    }
    fn list(&mut self, file: u32) -> bool {
        self.is_open(file)
    }
    fn ask(&mut self, file: u32, _end: u64) -> bool {
        self.is_open(file)
    }
    fn pass(&mut self, file: u32, direction: Direction, _offset: u64, data: &Bytes) -> bool {
        self.passing.push(data.clone());
        // What was asked for may come after the close.
        direction == Direction::ToTarget || self.is_open(file)
    }
    fn taken(&mut self, _file: u32, _status: Result<(), u32>) {}
    fn ends(&mut self, _file: u32, _offset: u64) {}
    fn size(&mut self, _file: u32, _size: u64) {}
    fn change(&mut self, file: u32, _change: Change<'_>) -> Option<u32> {
        self.is_open(file).then_some(0)
    }
    fn changed(&mut self, _change: u32, _status: Result<(), u32>) {}
    fn close(&mut self, file: u32, _status: Result<(), u32>) {
        assert!(self.open.remove(&file), "closed twice");
    }
    fn refused(&mut self, _path: &str, _why: &'static str) {}
}

/// What comes once at the beginning of a connection, without the conversation around it.
pub fn fuzz_connect(bytes: &[u8]) {
    let all = SecurityProtocol::SSL | SecurityProtocol::HYBRID;
    black_box(connect::connect_initial(bytes, SecurityProtocol::SSL, &open_policy(), None).is_ok());
    black_box(connect::connect_response(bytes, all, 3).is_ok());
    black_box(connect::without_messages(bytes).is_ok());
    black_box(typed(bytes).is_ok());
    black_box(client_info(bytes, &account(), false).is_ok());
    black_box(confirm_active(bytes).is_ok());
    black_box(demand_active(bytes).is_ok());
}

/// A CredSSP message, before anybody has proved anything.
pub fn fuzz_credssp(bytes: &[u8]) {
    black_box(credssp::ntlm_user(bytes));
    black_box(sspi::credssp::TsRequest::from_buffer(bytes).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Target = fn(&[u8]);
    const ALL: [(&str, Target); 8] = [
        ("session", fuzz_session),
        ("beginning", fuzz_beginning),
        ("lobby", fuzz_lobby),
        ("connect", fuzz_connect),
        ("credssp", fuzz_credssp),
        ("devices", fuzz_devices),
        ("clipboard", fuzz_clipboard),
        ("pipeline", fuzz_pipeline),
    ];

    /// Every input that is kept in `fuzz/corpus` for a target: what once broke something stays tried.
    #[test]
    fn what_is_kept_for_the_fuzzer_breaks_nothing() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in ALL {
            let mut seen = 0;
            for entry in std::fs::read_dir(corpus.join(format!("rdp_{name}"))).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                seen += 1;
            }
            assert!(seen > 0, "{name} has no seeds");
        }
    }

    proptest! {
        #[test]
        fn no_parser_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
            for (_, target) in ALL {
                target(&bytes);
            }
        }

        #[test]
        fn no_conversation_panics(pdus in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
            let mut bytes = Vec::new();
            for (how, body) in pdus {
                bytes.push(how);
                bytes.extend(u16::try_from(body.len()).unwrap().to_le_bytes());
                bytes.extend(body);
            }
            fuzz_session(&bytes);
            fuzz_beginning(&bytes);
            fuzz_lobby(&bytes);
        }
    }
}
