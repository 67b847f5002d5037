//! Sound of the target at the person (MS-RDPEA, on `rdpsnd` or a dynamic channel): formats, blocks of sound, and that they were played. Every message is
//! read and written anew, nothing goes by UDP, and no sound goes the other way.

use super::chunks::Partial;
use crate::{
    event::{Direction, Event, SoundFormat},
    rewrite::Broken,
    wire::{Reader, u16_at},
};

/// The longest message: a second of sound of the best kind, and more.
pub(super) const LIMIT: usize = 1024 * 1024;
/// Most formats in a list, and bytes that describe one beyond its head.
const FORMATS: usize = 128;
const EXTRA: usize = 64;
/// Most blocks, and questions about the network, that a client has not answered.
const UNANSWERED: u32 = 64;
/// How often a session is told that sound begins or ends.
const TOLD: u32 = 64;

/// Types of messages (MS-RDPEA 2.2.1).
mod kind {
    pub(super) const CLOSE: u8 = 1;
    pub(super) const WAVE_INFO: u8 = 2;
    pub(super) const VOLUME: u8 = 3;
    pub(super) const PITCH: u8 = 4;
    pub(super) const WAVE_CONFIRM: u8 = 5;
    pub(super) const TRAINING: u8 = 6;
    pub(super) const FORMATS: u8 = 7;
    pub(super) const QUALITY: u8 = 0xc;
    pub(super) const WAVE2: u8 = 0xd;
}

/// The flags of a client that say something: it plays, and has a volume and a pitch.
const CAPABLE: u32 = 7;
/// The newest version that is written down.
const VERSION: u16 = 8;

const WRONG: Broken = Broken("message about sound");

/// What becomes of one chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Told before anything goes on.
    pub(crate) event: Option<Event>,
    /// The message that goes on.
    pub(crate) forward: Option<Vec<u8>>,
    /// Something was taken out.
    pub(crate) dropped: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sound {
    from_target: Partial<LIMIT>,
    from_person: Partial<LIMIT>,
    /// What the target offers, and what of it the client plays.
    offered: Vec<Vec<u8>>,
    agreed: Vec<Vec<u8>>,
    /// Bytes of the block whose head has come: they follow without one. Not while that is not to be heard.
    block: Option<(usize, bool)>,
    blocks: u32,
    trainings: u32,
    /// What is being played, and how much of it.
    plays: Option<usize>,
    bytes: u64,
    told: u32,
}

impl Sound {
    /// A chunk from one side. Suspended sessions are silent.
    pub(crate) fn chunk(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        frozen: bool,
    ) -> Result<Passed, Broken> {
        let whole = match direction {
            Direction::ToPerson => self.from_target.add(bytes)?,
            Direction::ToTarget => self.from_person.add(bytes)?,
        };
        match whole {
            Some(message) => self.message(direction, &message, frozen),
            None => Ok(Passed::default()),
        }
    }

    /// A whole message from one side.
    pub(super) fn message(
        &mut self,
        direction: Direction,
        message: &[u8],
        frozen: bool,
    ) -> Result<Passed, Broken> {
        match direction {
            Direction::ToPerson => self.target(message, frozen),
            Direction::ToTarget => self.person(message).ok_or(WRONG),
        }
    }

    /// In a session that was told of sound so often before.
    pub(super) fn after(told: u32) -> Self {
        Self { told, ..Self::default() }
    }

    /// How often the session was told.
    pub(super) fn told(&self) -> u32 {
        self.told
    }

    /// Nothing is played any more: what there is to tell.
    pub(super) fn ends(&mut self) -> Option<Event> {
        let event = self.plays.take().map(|_| Event::Sound { plays: None, bytes: self.bytes });
        self.bytes = 0;
        self.tell(event)
    }

    fn target(&mut self, message: &[u8], frozen: bool) -> Result<Passed, Broken> {
        if let Some((len, heard)) = self.block.take() {
            if message.len() != len {
                return Err(WRONG);
            }
            self.bytes += if heard { len as u64 } else { 0 };
            // The head had its first four bytes, in whose place there is padding.
            let bytes = [&[0; 4], message.get(4..).unwrap_or_default()].concat();
            return Ok(Passed { forward: heard.then_some(bytes), dropped: !heard, ..Passed::default() });
        }
        let (kind, body, len) = split(message).ok_or(WRONG)?;
        let heard = !frozen && self.blocks < UNANSWERED;
        match kind {
            kind::FORMATS => {
                let (head, formats) = formats(body).ok_or(WRONG)?;
                self.offered = formats;
                self.agreed.clear();
                let written = written_formats(0, 0, 0, head, &self.offered);
                Ok(Passed { forward: Some(written), ..Passed::default() })
            }
            kind::WAVE_INFO => {
                let rest = usize::from(len).checked_sub(8).filter(|_| body.len() == 12).ok_or(WRONG)?;
                self.block = Some((rest, heard));
                self.plays(body, message, heard)
            }
            kind::WAVE2 => {
                self.bytes += if heard { body.len() as u64 } else { 0 };
                self.plays(body, message, heard)
            }
            kind::CLOSE => {
                Ok(Passed { event: self.ends(), forward: Some(framed(kind, &[])), dropped: false })
            }
            kind::VOLUME | kind::PITCH => {
                let value = body.get(..4).ok_or(WRONG)?;
                Ok(Passed { forward: Some(framed(kind, value)), ..Passed::default() })
            }
            kind::TRAINING if self.trainings < UNANSWERED => {
                self.trainings += 1;
                let head = body.get(..4).ok_or(WRONG)?;
                // What is behind it only takes time.
                let padding = vec![0; body.len() - head.len()];
                Ok(Passed { forward: Some(framed(kind, &[head, &padding].concat())), ..Passed::default() })
            }
            // Encrypted sound, and sound by UDP.
            _ => Ok(Passed { dropped: true, ..Passed::default() }),
        }
    }

    /// A block of sound, whose number among the formats is in its head.
    fn plays(&mut self, body: &[u8], message: &[u8], heard: bool) -> Result<Passed, Broken> {
        let format = usize::from(u16_at(body, 2).ok_or(WRONG)?);
        let known = self.agreed.get(format).ok_or(Broken("format of sound"))?;
        if !heard {
            return Ok(Passed { dropped: true, ..Passed::default() });
        }
        self.blocks += 1;
        let begins = self.plays.replace(format) != Some(format);
        let event = begins.then(|| Event::Sound { plays: described(known), bytes: 0 });
        let mut bytes = message.to_vec();
        // Padding, in its head and behind the block's number.
        for at in [1, 9, 10, 11] {
            crate::wire::put(&mut bytes, at, &[0]);
        }
        Ok(Passed { event: self.tell(event), forward: Some(bytes), dropped: false })
    }

    fn tell(&mut self, event: Option<Event>) -> Option<Event> {
        event.filter(|_| {
            self.told = self.told.saturating_add(1);
            self.told <= TOLD
        })
    }

    fn person(&mut self, message: &[u8]) -> Option<Passed> {
        let (kind, body, _) = split(message)?;
        let forward = match kind {
            // Once for each list of the target's, of which it is a part.
            kind::FORMATS if self.agreed.is_empty() => {
                let mut at = Reader(body);
                let (flags, volume, pitch) = (at.u32()?, at.u32()?, at.u32()?);
                let (head, formats) = formats(body)?;
                self.agreed = formats.into_iter().filter(|format| self.offered.contains(format)).collect();
                Some(written_formats(flags & CAPABLE, volume, pitch, head, &self.agreed))
            }
            kind::QUALITY => {
                let mode = u16_at(body, 0).filter(|mode| *mode <= 2)?;
                Some(framed(kind, &[mode.to_le_bytes(), [0, 0]].concat()))
            }
            kind::TRAINING if self.trainings > 0 => {
                self.trainings -= 1;
                Some(framed(kind, body.get(..4)?))
            }
            kind::WAVE_CONFIRM if self.blocks > 0 => {
                self.blocks -= 1;
                Some(framed(kind, &[body.get(..3)?, &[0]].concat()))
            }
            _ => None,
        };
        Some(Passed { dropped: forward.is_none(), forward, event: None })
    }
}

/// The type of a message, its body, and the length that its head says: of a block of sound, more than the body.
fn split(message: &[u8]) -> Option<(u8, &[u8], u16)> {
    let mut at = Reader(message);
    let (kind, _, len) = (at.u8()?, at.u8()?, at.u16()?);
    let fits = kind == kind::WAVE_INFO || kind == kind::WAVE2 || usize::from(len) == at.0.len();
    fits.then_some((kind, at.0, len))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&[kind, 0], len.as_slice(), body].concat()
}

/// The last confirmed block, and the version, of a list of formats.
type Head = (u8, u16);

/// A list of formats, each as it is written (2.2.2.1, 2.2.2.2).
fn formats(body: &[u8]) -> Option<(Head, Vec<Vec<u8>>)> {
    let mut at = Reader(body);
    at.take(14)?;
    let (count, block, version) = (at.u16()?, at.u8()?, at.u16()?);
    at.u8()?;
    let mut formats = Vec::new();
    for _ in 0..count {
        let format = at.0;
        at.take(16)?;
        let extra = at.u16()?;
        at.take(extra.into())?;
        let format = format.get(..18 + usize::from(extra))?;
        if usize::from(extra) <= EXTRA && formats.len() < FORMATS {
            formats.push(format.to_vec());
        }
    }
    Some(((block, version.min(VERSION)), formats))
}

fn written_formats(
    flags: u32,
    volume: u32,
    pitch: u32,
    (block, version): Head,
    formats: &[Vec<u8>],
) -> Vec<u8> {
    let count = u16::try_from(formats.len()).unwrap_or(u16::MAX).to_le_bytes();
    let words = [flags, volume, pitch].map(u32::to_le_bytes).concat();
    // No port for UDP.
    let head = [words.as_slice(), &[0, 0], &count, &[block], &version.to_le_bytes(), &[0]].concat();
    framed(kind::FORMATS, &[head, formats.concat()].concat())
}

fn described(format: &[u8]) -> Option<SoundFormat> {
    let mut at = Reader(format);
    let (tag, channels, rate) = (at.u16()?, at.u16()?, at.u32()?);
    at.take(6)?;
    Some(SoundFormat { tag, channels, rate, bits: at.u16()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::chunk;
    use proptest::prelude::*;

    const PCM: [u8; 18] = [1, 0, 2, 0, 0x44, 0xac, 0, 0, 0x10, 0xb1, 2, 0, 4, 0, 16, 0, 0, 0];
    const ALAW: [u8; 18] = [6, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0, 0, 0];

    /// A list as a side may write it: with a port for UDP, and padding that says something.
    fn list(flags: u32, formats: &[[u8; 18]]) -> Vec<u8> {
        let count = u8::try_from(formats.len()).unwrap();
        let head = [flags, 7, 9].map(u32::to_le_bytes).concat();
        let head = [head.as_slice(), &[0x12, 0x34, count, 0, 0xff, 9, 0, 0xee]].concat();
        framed(kind::FORMATS, &[head, formats.concat()].concat())
    }

    fn say(sound: &mut Sound, direction: Direction, message: &[u8]) -> Result<Passed, Broken> {
        sound.chunk(direction, &chunk(message), false)
    }

    fn agreed() -> Sound {
        let mut sound = Sound::default();
        say(&mut sound, Direction::ToPerson, &list(0, &[PCM, ALAW])).unwrap();
        say(&mut sound, Direction::ToTarget, &list(7, &[ALAW])).unwrap();
        sound
    }

    const WAVE: [u8; 16] = [2, 0xee, 20, 0, 1, 2, 0, 0, 5, 0xee, 0xee, 0xee, 1, 2, 3, 4];

    #[test]
    fn lists_are_written_anew_without_udp_and_a_client_plays_only_what_is_offered() {
        let mut sound = Sound::default();
        let offered = say(&mut sound, Direction::ToPerson, &list(0xff, &[PCM])).unwrap().forward.unwrap();
        assert_eq!(offered[4..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 8, 0, 0]);
        assert_eq!(offered[24..], PCM);
        let chosen =
            say(&mut sound, Direction::ToTarget, &list(0xffff, &[ALAW, PCM])).unwrap().forward.unwrap();
        assert_eq!(chosen[4..8], [7, 0, 0, 0]);
        assert_eq!((chosen[18], &chosen[24..]), (1, &PCM[..]), "what was not offered carries nothing");
        assert!(say(&mut sound, Direction::ToTarget, &list(7, &[PCM])).unwrap().dropped, "once");
    }

    #[test]
    fn sound_is_told_when_it_begins_and_ends_and_answers_are_counted() {
        let mut sound = agreed();
        let confirm = framed(kind::WAVE_CONFIRM, &[1, 2, 5, 0xee]);
        assert!(say(&mut sound, Direction::ToTarget, &confirm).unwrap().dropped, "nothing was played");
        let passed = say(&mut sound, Direction::ToPerson, &WAVE).unwrap();
        let format = SoundFormat { tag: 6, channels: 1, rate: 8000, bits: 8 };
        assert_eq!(passed.event, Some(Event::Sound { plays: Some(format), bytes: 0 }));
        assert_eq!(passed.forward.unwrap(), [2, 0, 20, 0, 1, 2, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4]);
        let rest = say(&mut sound, Direction::ToPerson, &[0xee; 12]).unwrap();
        assert_eq!(rest.forward.unwrap(), [0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee]);
        assert_eq!(
            say(&mut sound, Direction::ToTarget, &confirm).unwrap().forward.unwrap(),
            framed(5, &[1, 2, 5, 0])
        );
        let wave2 = framed(kind::WAVE2, &[1, 2, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
        assert_eq!(say(&mut sound, Direction::ToPerson, &wave2).unwrap().event, None, "it goes on");
        let closed = say(&mut sound, Direction::ToPerson, &framed(kind::CLOSE, &[])).unwrap();
        assert_eq!(closed.event, Some(Event::Sound { plays: None, bytes: 26 }));
    }

    #[test]
    fn what_nobody_agreed_on_or_what_lies_about_its_length_is_refused() {
        for (at, wrong) in [(6, 1), (2, 7)] {
            let mut wave = WAVE;
            wave[at] = wrong;
            assert!(say(&mut agreed(), Direction::ToPerson, &wave).is_err(), "{at}");
        }
        let mut sound = agreed();
        say(&mut sound, Direction::ToPerson, &WAVE).unwrap();
        assert!(say(&mut sound, Direction::ToPerson, &[0; 13]).is_err(), "more than its head says");
        let mut short = list(0, &[PCM]);
        short.truncate(30);
        assert!(say(&mut Sound::default(), Direction::ToPerson, &short).is_err());
        assert!(say(&mut Sound::default(), Direction::ToTarget, &[7]).is_err());
        for kind in [8, 9, 0xa, 0xb, 0xee] {
            assert!(say(&mut agreed(), Direction::ToPerson, &framed(kind, &[0; 40])).unwrap().dropped);
            assert!(say(&mut agreed(), Direction::ToTarget, &framed(kind, &[0; 40])).unwrap().dropped);
        }
        assert!(say(&mut agreed(), Direction::ToTarget, &WAVE).unwrap().dropped, "no sound goes that way");
    }

    #[test]
    fn a_suspended_session_is_silent_and_goes_on_with_the_next_block() {
        let mut sound = agreed();
        assert!(sound.chunk(Direction::ToPerson, &chunk(&WAVE), true).unwrap().dropped);
        assert!(say(&mut sound, Direction::ToPerson, &[7; 12]).unwrap().forward.is_none(), "its other part");
        assert!(say(&mut sound, Direction::ToPerson, &WAVE).unwrap().forward.is_some());
        say(&mut sound, Direction::ToPerson, &[7; 12]).unwrap();
        let closed = say(&mut sound, Direction::ToPerson, &framed(kind::CLOSE, &[])).unwrap();
        assert_eq!(closed.event, Some(Event::Sound { plays: None, bytes: 12 }), "of what was heard");
    }

    #[test]
    fn a_flood_of_blocks_that_nobody_answers_is_bounded() {
        let mut sound = agreed();
        let mut passed = 0;
        for _ in 0..1000 {
            passed += u32::from(say(&mut sound, Direction::ToPerson, &WAVE).unwrap().forward.is_some());
            say(&mut sound, Direction::ToPerson, &[7; 12]).unwrap();
        }
        assert_eq!(passed, UNANSWERED);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_goes_on_has_a_length_that_fits(messages in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..8)) {
            let mut sound = agreed();
            for (to_target, frozen, message) in messages {
                let direction = if to_target { Direction::ToTarget } else { Direction::ToPerson };
                if let Ok(Passed { forward: Some(forward), .. }) = sound.chunk(direction, &chunk(&message), frozen)
                    && to_target
                {
                    prop_assert!(split(&forward).is_some());
                }
            }
        }
    }
}
