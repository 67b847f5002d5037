//! Sound by a dynamic channel (MS-RDPEA 2.1): the messages of the static one. Newer targets take this way where a client has it.

use super::{Passed, incoming::Gathered, pieces};
use crate::{
    channels::sound::{self, LIMIT, Sound},
    event::{Direction, Event},
    rewrite::Broken,
    wire::Reader,
};

/// Its name. Another one is for a way over UDP, which there is not.
pub(super) const NAME: &[u8] = b"AUDIO_PLAYBACK_DVC";

/// The channel while it is open.
#[derive(Debug)]
pub(super) struct SoundChannel {
    pub(super) id: u32,
    sound: Sound,
    of_target: Gathered<LIMIT>,
    of_person: Gathered<LIMIT>,
}

impl SoundChannel {
    /// One in a session that was told of sound so often before.
    pub(super) fn new(id: u32, told: u32) -> Self {
        Self { id, sound: Sound::after(told), of_target: Gathered::default(), of_person: Gathered::default() }
    }

    /// A PDU from one side. Suspended sessions are silent.
    pub(super) fn data(
        &mut self,
        direction: Direction,
        head: (u8, u8),
        at: Reader<'_>,
        frozen: bool,
    ) -> Result<Passed, Broken> {
        let whole = match direction {
            Direction::ToPerson => self.of_target.add(head, at)?,
            Direction::ToTarget => self.of_person.add(head, at)?,
        };
        let Some(message) = whole else { return Ok(Passed::default()) };
        let sound::Passed { event, forward, dropped } = self.sound.message(direction, &message, frozen)?;
        let forward = forward.map(|message| pieces(self.id, &message)).unwrap_or_default();
        Ok(Passed { event, forward, dropped, unheard: dropped, ..Passed::default() })
    }

    /// What there is to tell when it is closed, and how often that was told.
    pub(super) fn ends(mut self) -> (Option<Event>, u32) {
        let event = self.sound.ends();
        (event, self.sound.told())
    }
}
