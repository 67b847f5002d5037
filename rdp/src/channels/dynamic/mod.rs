//! Dynamic channels (MS-RDPEDYC): the target asks to open them by name, and most names are answered here.

mod display;
mod graphics;
mod incoming;
mod sound;

use std::collections::HashSet;

use self::{display::Display, graphics::GraphicsChannel, sound::SoundChannel};
use super::{
    ChannelPolicy, chunk,
    pipeline::{self, Drawn, Pipeline},
    whole,
};
use crate::{
    banner::Area,
    event::{Direction, Event},
    rewrite::{Broken, capabilities::Graphics},
    wire::Reader,
};

/// Most dynamic channels open at once.
const MAX_OPEN: usize = 32;
/// `CreationStatus` of a channel that nobody listens on: `E_FAIL`-like, negative.
const NO_LISTENER: u32 = 0xc000_0001;
/// Version 2 has no compression and no way over UDP.
const VERSION: u16 = 2;

/// The longest PDU (MS-RDPEDYC 2.2.3).
const LONGEST: usize = 1600;

const CREATE: u8 = 1;
const DATA_FIRST: u8 = 2;
const DATA: u8 = 3;
const CLOSE: u8 = 4;
const CAPABILITIES: u8 = 5;

/// What becomes of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The chunks that go on.
    pub(crate) forward: Vec<Vec<u8>>,
    /// The chunk that goes back to where it came from.
    pub(crate) answer: Option<Vec<u8>>,
    /// The channel that was asked for and refused.
    pub(crate) refused: Option<String>,
    /// The message was dropped.
    pub(crate) dropped: bool,
    /// What the target draws with it.
    pub(crate) drawn: Option<Drawn>,
    /// The client no longer shows what the target draws.
    pub(crate) gave_up: bool,
    /// Told before anything goes on.
    pub(crate) event: Option<Event>,
    /// Something about sound was taken out.
    pub(crate) unheard: bool,
}

/// The dynamic channels of a session.
#[derive(Debug, Default)]
pub(crate) struct Dynamic {
    open: HashSet<u32>,
    graphics: Option<GraphicsChannel>,
    /// There was one. What a client keeps of it, the next one does not know.
    had_graphics: bool,
    /// The target has closed these; the client's answers are due.
    closing: HashSet<u32>,
    display: Option<Display>,
    sound: Option<SoundChannel>,
    /// How often it was told that sound begins or ends, by channels that are closed.
    sound_told: u32,
}

impl Dynamic {
    /// From the target.
    pub(crate) fn target(
        &mut self,
        bytes: &[u8],
        policy: &ChannelPolicy,
        frozen: bool,
    ) -> Result<Passed, Broken> {
        let message = whole(bytes)?;
        let (command, mut at) = command(message)?;
        if command == CAPABILITIES {
            return capabilities(message);
        }
        let head = message.first().copied().unwrap_or(0);
        let id = id(head, &mut at)?;
        match command {
            CREATE => Ok(self.create(message, (head, id), at.0, bytes, policy)),
            DATA_FIRST | DATA if self.open.contains(&id) => {
                if let Some(sound) = self.sound_on(id) {
                    return sound.data(Direction::ToPerson, (command, head), at, frozen);
                }
                if let Some(graphics) = self.graphics_on(id) {
                    return graphics.target((command, head), at);
                }
                if let Some(display) = self.display.as_mut().filter(|display| display.id == id) {
                    display.caps(at.0);
                }
                Ok(pass(bytes))
            }
            CLOSE if self.open.contains(&id) => {
                let mut passed = pass(bytes);
                if let Some(graphics) = self.graphics_on(id) {
                    let plain = graphics.pipeline.forget();
                    if !plain.is_empty() {
                        passed.forward.splice(0..0, pieces(id, &pipeline::pack(&plain)));
                        passed.drawn = Some(Drawn { plain, ..Drawn::default() });
                    }
                }
                passed.event = self.close(id);
                if self.closing.len() < MAX_OPEN {
                    self.closing.insert(id);
                }
                Ok(passed)
            }
            _ => Ok(Passed { dropped: true, ..Passed::default() }),
        }
    }

    fn graphics_on(&mut self, id: u32) -> Option<&mut GraphicsChannel> {
        self.graphics.as_mut().filter(|graphics| graphics.id == id)
    }

    fn sound_on(&mut self, id: u32) -> Option<&mut SoundChannel> {
        self.sound.as_mut().filter(|sound| sound.id == id)
    }

    /// What there is to tell of its end.
    fn close(&mut self, id: u32) -> Option<Event> {
        self.graphics.take_if(|graphics| graphics.id == id);
        self.display.take_if(|display| display.id == id);
        self.open.remove(&id);
        let (event, told) = self.sound.take_if(|sound| sound.id == id)?.ends();
        self.sound_told = told;
        event
    }

    /// Whether that is a size that can be had.
    fn asks_well(&self, id: u32, message: &[u8]) -> bool {
        self.display.as_ref().is_some_and(|display| display.id == id && display.may_ask(message))
    }

    /// The graphics pipeline, where the target draws by it.
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        self.graphics.as_ref().map(|graphics| &graphics.pipeline).filter(|pipeline| pipeline.draws())
    }

    /// Chunks that draw this over the desktop where the target draws by the graphics pipeline.
    pub(crate) fn paint(&mut self, area: Area, rgb: &[u8]) -> Vec<Vec<u8>> {
        self.say(|pipeline| pipeline.paint(area, rgb))
    }

    /// Chunks that take away where that was drawn.
    pub(crate) fn clear(&mut self) -> Vec<Vec<u8>> {
        self.say(Pipeline::clear)
    }

    fn say(&mut self, words: impl FnOnce(&mut Pipeline) -> Vec<u8>) -> Vec<Vec<u8>> {
        let Some(graphics) = &mut self.graphics else { return Vec::new() };
        match words(&mut graphics.pipeline) {
            plain if plain.is_empty() => Vec::new(),
            plain => pieces(graphics.id, &pipeline::pack(&plain)),
        }
    }

    fn create(
        &mut self,
        message: &[u8],
        (head, id): (u8, u32),
        name: &[u8],
        bytes: &[u8],
        policy: &ChannelPolicy,
    ) -> Passed {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = name.get(..end).unwrap_or_default();
        // The identifier may have been another channel's. That of the pipeline stays open: what it has drawn is to be seen.
        let taken = self.graphics_on(id).is_some();
        let event = if taken { None } else { self.close(id) };
        let graphics =
            name == pipeline::NAME && policy.graphics == Graphics::Pipeline && self.graphics.is_none();
        let sound = name == sound::NAME && policy.sound && self.sound.is_none();
        if (graphics || sound || allowed(name, policy)) && !taken && self.open.len() < MAX_OPEN {
            self.open.insert(id);
            if graphics {
                let again = std::mem::replace(&mut self.had_graphics, true);
                self.graphics = Some(GraphicsChannel::new(id, again));
            } else if sound {
                self.sound = Some(SoundChannel::new(id, self.sound_told));
            } else {
                self.display = Some(Display::new(id));
            }
            return Passed { event, ..pass(bytes) };
        }
        let id_len = id_len(head).unwrap_or(1);
        let mut answer = message.get(..=id_len).unwrap_or_default().to_vec();
        // Only the length of the identifier and the command remain in the first byte.
        if let Some(first) = answer.first_mut() {
            *first &= 0xf3;
        }
        answer.extend(NO_LISTENER.to_le_bytes());
        let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        let refused = Some(name.iter().take(64).map(printable).collect());
        Passed { answer: Some(chunk(&answer)), refused, event, ..Passed::default() }
    }

    /// From the person.
    pub(crate) fn person(&mut self, bytes: &[u8], frozen: bool) -> Result<Passed, Broken> {
        let message = whole(bytes)?;
        let (command, mut at) = command(message)?;
        if command == CAPABILITIES {
            return capabilities(message);
        }
        let head = message.first().copied().unwrap_or(0);
        let id = id(head, &mut at)?;
        let open = self.open.contains(&id);
        // An answer to the target is none about what has the number now.
        if command == CLOSE && self.closing.remove(&id) {
            return Ok(pass(bytes));
        }
        // A client that cannot show something closes the channel, and goes on with the keyboard.
        let gave_up = command == CLOSE && self.pipeline().is_some() && self.graphics_on(id).is_some();
        let asks_well = command == DATA && self.asks_well(id, at.0);
        match command {
            CREATE if open => {
                let status = at.u32().ok_or(Broken("dynamic channel"))?;
                let event = if status & 0x8000_0000 != 0 { self.close(id) } else { None };
                Ok(Passed { event, ..pass(bytes) })
            }
            DATA_FIRST | DATA if open => {
                // That it was heard, and what it can play.
                if let Some(sound) = self.sound_on(id) {
                    return sound.data(Direction::ToTarget, (command, head), at, frozen);
                }
                match self.graphics_on(id) {
                    // What it says there is that it has drawn: it goes on drawing while its hands are tied.
                    Some(graphics) => graphics.person((command, head), at),
                    None if !frozen && asks_well => Ok(pass(bytes)),
                    None => Ok(Passed { dropped: true, ..Passed::default() }),
                }
            }
            CLOSE if open => {
                let event = self.close(id);
                Ok(Passed { gave_up, event, ..pass(bytes) })
            }
            _ => Ok(Passed { dropped: true, ..Passed::default() }),
        }
    }
}

/// Names of channels that pass as they are. Not touch input, sound of the person's, cameras, USB, WebAuthn.
fn allowed(name: &[u8], policy: &ChannelPolicy) -> bool {
    policy.resize && name == b"Microsoft::Windows::RDS::DisplayControl"
}

/// A message in PDUs of a channel, each in a chunk of its own.
fn pieces(id: u32, message: &[u8]) -> Vec<Vec<u8>> {
    let (kind, id) = match id {
        0..=0xff => (0, id.to_le_bytes().into_iter().take(1).collect::<Vec<_>>()),
        0x100..=0xffff => (1, id.to_le_bytes().into_iter().take(2).collect()),
        _ => (2, id.to_le_bytes().to_vec()),
    };
    let alone = LONGEST - 1 - id.len();
    if message.len() <= alone {
        return vec![chunk(&[&[DATA << 4 | kind], id.as_slice(), message].concat())];
    }
    let total = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes();
    let (first, rest) = message.split_at(alone - total.len());
    let first = chunk(&[&[DATA_FIRST << 4 | 2 << 2 | kind], id.as_slice(), &total, first].concat());
    let next = |piece: &[u8]| chunk(&[&[DATA << 4 | kind], id.as_slice(), piece].concat());
    std::iter::once(first).chain(rest.chunks(alone).map(next)).collect()
}

fn pass(bytes: &[u8]) -> Passed {
    Passed { forward: vec![bytes.to_vec()], ..Passed::default() }
}

/// Announces no more than version 2.
fn capabilities(message: &[u8]) -> Result<Passed, Broken> {
    let mut message = message.to_vec();
    let version = crate::wire::u16_at(&message, 2).ok_or(Broken("dynamic channel"))?;
    crate::wire::put(&mut message, 2, &version.min(VERSION).to_le_bytes());
    Ok(Passed { forward: vec![chunk(&message)], ..Passed::default() })
}

fn command(message: &[u8]) -> Result<(u8, Reader<'_>), Broken> {
    let mut at = Reader(message);
    Ok((at.u8().ok_or(Broken("dynamic channel"))? >> 4, at))
}

fn id_len(head: u8) -> Option<usize> {
    match head & 3 {
        0 => Some(1),
        1 => Some(2),
        2 => Some(4),
        _ => None,
    }
}

fn id(head: u8, at: &mut Reader<'_>) -> Result<u32, Broken> {
    let id = match id_len(head) {
        Some(1) => at.u8().map(u32::from),
        Some(2) => at.u16().map(u32::from),
        Some(_) => at.u32(),
        None => None,
    };
    id.ok_or(Broken("dynamic channel"))
}

#[cfg(test)]
mod tests {
    use super::{display::tests::layout, *};
    use proptest::prelude::*;

    fn create(id: u8, name: &str) -> Vec<u8> {
        chunk(&[[0x10, id].as_slice(), name.as_bytes(), &[0]].concat())
    }

    #[test]
    fn a_channel_that_is_not_allowed_is_answered_for_the_person_and_its_data_go_nowhere() {
        let (mut dynamic, policy) =
            (Dynamic::default(), ChannelPolicy { resize: true, ..Default::default() });
        for name in [
            "AUDIO_INPUT",
            "AUDIO_PLAYBACK_DVC",
            "AUDIO_PLAYBACK_LOSSY_DVC",
            "URBDRC",
            "Microsoft::Windows::RDS::Graphics",
            "RDCamera_Device_Enumerator",
            "WebAuthN_Channel",
        ] {
            let passed = dynamic.target(&create(3, name), &policy, false).unwrap();
            assert!(passed.forward.is_empty());
            assert_eq!(passed.answer, Some(chunk(&[0x10, 3, 1, 0, 0, 0xc0])));
            assert_eq!(passed.refused.as_deref(), Some(name));
            assert!(dynamic.target(&chunk(&[0x30, 3, 9]), &policy, false).unwrap().dropped);
            assert!(dynamic.person(&chunk(&[0x30, 3, 9]), false).unwrap().dropped);
        }
    }

    #[test]
    fn display_control_passes_where_resizing_is_allowed_and_not_while_frozen() {
        let (mut dynamic, policy) =
            (Dynamic::default(), ChannelPolicy { resize: true, ..Default::default() });
        let open = create(7, "Microsoft::Windows::RDS::DisplayControl");
        assert_eq!(dynamic.target(&open, &policy, false).unwrap().forward, std::slice::from_ref(&open));
        let data = chunk(&[&[0x30, 7], layout(&[(1280, 900)]).as_slice()].concat());
        assert_eq!(dynamic.person(&data, false).unwrap().forward, std::slice::from_ref(&data));
        assert!(dynamic.person(&data, true).unwrap().dropped);
        // Its number used again by another name takes its right away.
        dynamic.target(&create(7, "URBDRC"), &policy, false).unwrap();
        assert!(dynamic.person(&data, false).unwrap().dropped);
        assert!(
            Dynamic::default().target(&open, &ChannelPolicy::default(), false).unwrap().refused.is_some()
        );
    }

    #[test]
    fn sound_is_judged_here_as_on_its_static_channel_and_ends_with_it() {
        let (mut dynamic, policy) = (Dynamic::default(), ChannelPolicy { sound: true, ..Default::default() });
        let open = create(9, "AUDIO_PLAYBACK_DVC");
        assert_eq!(dynamic.target(&open, &policy, false).unwrap().forward, std::slice::from_ref(&open));
        let lossy = create(10, "AUDIO_PLAYBACK_LOSSY_DVC");
        assert!(dynamic.target(&lossy, &policy, false).unwrap().refused.is_some());
        let pcm = [1, 0, 2, 0, 0x44, 0xac, 0, 0, 0x10, 0xb1, 2, 0, 4, 0, 16, 0, 0, 0];
        let list =
            [&[7, 0, 38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 1, 0, 0, 8, 0, 0], &pcm[..]]
                .concat();
        // In two PDUs; the port for UDP does not go on.
        let (first, rest) = list.split_at(20);
        let first = chunk(&[&[0x20, 9, 42], first].concat());
        assert!(dynamic.target(&first, &policy, false).unwrap().forward.is_empty());
        let passed = dynamic.target(&chunk(&[&[0x30, 9], rest].concat()), &policy, false).unwrap();
        let mut anew = list.clone();
        anew[16..18].copy_from_slice(&[0, 0]);
        assert_eq!(passed.forward, [chunk(&[&[0x30, 9], &anew[..]].concat())]);
        assert!(!dynamic.person(&chunk(&[&[0x30, 9], &anew[..]].concat()), true).unwrap().dropped);
        // What is said between two parts of a message belongs to neither.
        let mut lies = Dynamic::default();
        lies.target(&open, &policy, false).unwrap();
        lies.target(&first, &policy, false).unwrap();
        assert!(lies.target(&first, &policy, false).is_err());
        let endless = chunk(&[0x28, 9, 0, 0, 0x20, 0, 1]);
        let mut lies = Dynamic::default();
        lies.target(&open, &policy, false).unwrap();
        assert!(lies.target(&endless, &policy, false).is_err(), "longer than any message");
        let wave = chunk(&[0x30, 9, 0xd, 0, 14, 0, 1, 2, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
        let silent = dynamic.target(&wave, &policy, true).unwrap();
        assert!(silent.dropped && silent.unheard, "a suspended session is silent");
        let heard = dynamic.target(&wave, &policy, false).unwrap();
        assert!(matches!(heard.event, Some(Event::Sound { plays: Some(_), .. })) && heard.forward.len() == 1);
        let closed = dynamic.target(&chunk(&[0x40, 9]), &policy, false).unwrap();
        assert_eq!(closed.event, Some(Event::Sound { plays: None, bytes: 14 }));
        assert!(dynamic.target(&wave, &policy, false).unwrap().dropped);
        assert!(dynamic.person(&wave, false).unwrap().dropped, "what is said on it goes nowhere");
        // The client's answer goes on, once, and not as the end of what the target opens meanwhile.
        let close = chunk(&[0x40, 9]);
        dynamic.target(&open, &policy, false).unwrap();
        assert_eq!(dynamic.person(&close, false).unwrap(), pass(&close));
        dynamic.target(&first, &policy, false).unwrap();
        dynamic.target(&chunk(&[&[0x30, 9], rest].concat()), &policy, false).unwrap();
        dynamic.person(&chunk(&[&[0x30, 9], &anew[..]].concat()), true).unwrap();
        dynamic.target(&wave, &policy, false).unwrap();
        let closed = dynamic.person(&close, false).unwrap();
        assert_eq!(closed.event, Some(Event::Sound { plays: None, bytes: 14 }), "also by the client");
        assert!(dynamic.person(&close, false).unwrap().dropped);
    }

    #[test]
    fn no_version_with_compression_is_agreed_on() {
        let mut dynamic = Dynamic::default();
        let passed = dynamic
            .target(&chunk(&[0x50, 0, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8]), &ChannelPolicy::default(), false)
            .unwrap();
        assert_eq!(passed.forward, [chunk(&[0x50, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8])]);
        let compressed = chunk(&[0x70, 7, 1, 2]);
        assert!(dynamic.target(&compressed, &ChannelPolicy::default(), false).unwrap().dropped);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let (mut dynamic, policy) = (Dynamic::default(), ChannelPolicy { resize: true, sound: true, graphics: Graphics::Pipeline, ..Default::default() });
            for (id, name) in [(1, "AUDIO_PLAYBACK_DVC"), (2, "Microsoft::Windows::RDS::DisplayControl"), (3, "Microsoft::Windows::RDS::Graphics")] {
                prop_assert_eq!(dynamic.target(&create(id, name), &policy, false).unwrap().refused, None);
            }
            for (target, mut message) in messages {
                // Mostly data on one of them.
                if let [head, id, ..] = &mut message[..] {
                    *head = if *head & 0x80 == 0 { 0x20 | *head & 0x1c } else { *head };
                    *id &= 3;
                }
                let bytes = chunk(&message);
                drop(if target { dynamic.target(&bytes, &policy, false) } else { dynamic.person(&bytes, false) });
                drop(dynamic.person(&message, true));
            }
        }
    }
}
