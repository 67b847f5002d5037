//! What goes beside the desktop on static channels: clipboard, devices and sound.

use super::machine::{Act, Machine, Side};
use crate::{
    channels::{chunks, clipboard, devices::Terms},
    event::{Direction, Dropped, Event},
    mcs::Data,
    rewrite::Broken,
};

impl Machine {
    /// A chunk on the clipboard's channel.
    pub(super) fn clip(
        &mut self,
        direction: Direction,
        data: Data<'_>,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        let mut terms = Terms { policy: &self.policy, frozen: self.frozen, files: &mut *self.files };
        let passed = self.clipboard.chunk(direction, data.payload, &mut terms)?;
        if passed.dropped {
            self.dropped(Dropped::ClipboardContent, acts);
        }
        let listed = matches!(passed.event, Some(Event::ClipboardFiles { .. }));
        acts.extend(passed.event.map(Act::Tell));
        let ways = [
            (clipboard::opposite(direction), passed.answer.into_iter().collect()),
            (direction, passed.forward),
        ];
        let files = self.policy.any_clipboard_files();
        self.pass(data.channel, &ways, |message| files.then(|| clipboard::noted(message, listed)), acts)
    }

    /// A chunk on the channel of devices.
    pub(super) fn device(
        &mut self,
        direction: Direction,
        data: Data<'_>,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        let mut terms = Terms { policy: &self.policy, frozen: self.frozen, files: &mut *self.files };
        let passed = self.devices.chunk(direction, data.payload, &mut terms)?;
        if passed.dropped {
            self.dropped(Dropped::DeviceMessage, acts);
        }
        acts.extend(passed.events.into_iter().map(Act::Tell));
        let ways = [(Direction::ToPerson, passed.to_person), (Direction::ToTarget, passed.to_target)];
        let known = |message: &[u8]| {
            let known = passed.contents_from.unwrap_or(message.len());
            message.get(..known).unwrap_or(message).to_vec()
        };
        self.pass(data.channel, &ways, |message| Some(known(message)), acts)
    }

    /// A chunk on the channel of sound.
    pub(super) fn hear(
        &mut self,
        direction: Direction,
        data: Data<'_>,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        let passed = self.sound.chunk(direction, data.payload, self.frozen)?;
        self.heard(passed.dropped, passed.event, acts);
        passed
            .forward
            .iter()
            .try_for_each(|message| self.send_whole(direction.into(), data.channel, message, acts))
    }

    /// Tells of sound, by whatever channel; that something was taken out only where that is not because of a suspension.
    pub(super) fn heard(&mut self, unheard: bool, event: Option<Event>, acts: &mut Vec<Act>) {
        if unheard && !self.frozen {
            self.dropped(Dropped::Sound, acts);
        }
        acts.extend(event.map(Act::Tell));
    }

    /// Sends a message of a static channel, in chunks.
    fn send_whole(&self, to: Side, channel: u16, message: &[u8], acts: &mut Vec<Act>) -> Result<(), Broken> {
        chunks::pieces(message).iter().try_for_each(|piece| self.send(to, channel, piece, acts))
    }

    /// Sends messages of a channel that files pass on, in chunks: once it is told what happened to files, and what `noted` has of
    /// each message.
    fn pass(
        &self,
        channel: u16,
        ways: &[(Direction, Vec<Vec<u8>>)],
        noted: impl Fn(&[u8]) -> Option<Vec<u8>>,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        acts.push(Act::Tell(Event::Files));
        for (direction, messages) in ways {
            let noted = messages.iter().filter_map(|message| noted(message));
            acts.extend(
                noted.map(|noted| {
                    Act::Tell(Event::DeviceMessage { direction: *direction, bytes: noted.into() })
                }),
            );
        }
        for (direction, messages) in ways {
            for message in messages {
                self.send_whole((*direction).into(), channel, message, acts)?;
            }
        }
        Ok(())
    }
}
