//! Which channel of a recording is shown, and its screen at any moment.

use crate::{
    desktop::DesktopPlayer,
    error::ReadError,
    event::{Event, TimedEvent},
    index::screen_at,
    read::Recording,
    render::Screen,
};

/// A channel as a player shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The channel's number in its session.
    pub channel: u32,
    /// Whether it has a terminal. Without one, a line feed alone begins a new line.
    pub terminal: bool,
}

impl View {
    /// The view of `channel`; without one, of the first that has a terminal, else of the first that shows anything. `None`:
    /// there is nothing to show. The numbers of all that can be shown stand in the recording's marks, with each resize
    /// and each command.
    ///
    /// # Errors
    /// When the recording is locked or damaged.
    pub fn of(recording: &Recording, channel: Option<u32>) -> Result<Option<Self>, ReadError> {
        if DesktopPlayer::plays(recording.header()) {
            // Hours of pictures, and no terminal among them.
            return recording.keys().map(|_| None);
        }
        Self::among(recording.events()?, channel)
    }

    pub(crate) fn among(
        events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
        channel: Option<u32>,
    ) -> Result<Option<Self>, ReadError> {
        let mut found = None;
        for event in events {
            Self::meet(&mut found, &event?.event, channel);
            if found.is_some_and(|view| view.terminal) {
                break;
            }
        }
        Ok(found)
    }

    /// Looks at the next event of a recording: a terminal is preferred to what came before it. Whether that changed
    /// anything.
    pub(crate) fn meet(found: &mut Option<Self>, event: &Event, wanted: Option<u32>) -> bool {
        let Some(channel) = event.channel().filter(|here| wanted.is_none_or(|wanted| wanted == *here)) else {
            return false;
        };
        let terminal = matches!(event, Event::Resize { .. });
        let shows = terminal || matches!(event, Event::Output { .. } | Event::Stderr { .. });
        if !shows || found.is_some_and(|view| view.terminal || !terminal) {
            return false;
        }
        *found = Some(Self { channel, terminal });
        true
    }

    /// Whether an event changes what is shown.
    pub fn shows(&self, event: &Event) -> bool {
        event.channel() == Some(self.channel)
            && matches!(event, Event::Output { .. } | Event::Stderr { .. } | Event::Resize { .. })
    }

    /// Shows an event that [`Self::shows`] has accepted.
    pub fn apply(&self, screen: &mut Screen, event: &Event) {
        match event {
            Event::Output { data, .. } | Event::Stderr { data, .. } if !self.terminal => {
                screen.feed(&with_returns(data));
            }
            other => screen.apply(other),
        }
    }

    /// The screen as it was at a time: of a terminal from the index's snapshots where there is an index, else from the
    /// start of the recording.
    ///
    /// # Errors
    /// When the recording is locked or damaged before that time.
    pub fn screen_at(&self, recording: &Recording, time: i64) -> Result<Screen, ReadError> {
        if self.terminal {
            return screen_at(recording, self.channel, time);
        }
        let mut screen = Screen::default();
        for event in recording.events()? {
            let event = event?;
            if event.at > time {
                break;
            }
            if self.shows(&event.event) {
                self.apply(&mut screen, &event.event);
            }
        }
        Ok(screen)
    }
}

/// What a terminal needs in order to begin each line at its left.
pub(crate) fn with_returns(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(data.len() + 16);
    for byte in data.iter().copied() {
        if byte == b'\n' {
            lines.push(b'\r');
        }
        lines.push(byte);
    }
    lines
}
