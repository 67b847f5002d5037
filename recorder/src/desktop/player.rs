//! A desktop's recording from any time on.

use super::DesktopScreen;
use crate::{
    error::ReadError,
    event::{Event, TimedEvent},
    header::Header,
    read::{Events, Recording},
};

/// Protocols whose sessions show a desktop.
const DESKTOPS: [&str; 2] = ["rdp", "vnc"];

/// Reads one desktop of an unlocked recording: its picture at a time, and what happens from there on.
pub struct DesktopPlayer<'r> {
    screen: DesktopScreen,
    events: Events<'r>,
    channel: Option<u32>,
    /// Read already, and not yet due.
    next: Option<TimedEvent>,
}

impl<'r> DesktopPlayer<'r> {
    /// Whether a recording of that header shows a desktop rather than a terminal.
    pub fn plays(header: &Header) -> bool {
        DESKTOPS.contains(&header.protocol.as_str())
    }

    /// Goes to a time (microseconds since 1970, UTC): of the channel given, or of the first desktop that is met. Before the
    /// first key frame the picture is empty.
    ///
    /// # Errors
    /// When the recording is locked or damaged before that time.
    pub fn seek(recording: &'r Recording, channel: Option<u32>, time: i64) -> Result<Self, ReadError> {
        let events = recording.events_from_key_frame(time)?;
        let mut player = Self { screen: DesktopScreen::default(), events, channel, next: None };
        while let Some(event) = player.read()? {
            if event.at > time {
                player.next = Some(event);
                break;
            }
            player.show(&event)?;
        }
        Ok(player)
    }

    /// The picture as it stands.
    pub fn screen(&self) -> &DesktopScreen {
        &self.screen
    }

    /// The next event of the recording, also of other channels, already shown where it changes the picture; `None` at the
    /// present end.
    ///
    /// # Errors
    /// When a segment is damaged; the next call goes on behind it where that is possible.
    pub fn advance(&mut self) -> Result<Option<TimedEvent>, ReadError> {
        let event = match self.next.take() {
            Some(event) => Some(event),
            None => self.read()?,
        };
        if let Some(event) = &event {
            self.show(event)?;
        }
        Ok(event)
    }

    /// The time of the next event, where there is one.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn peek(&mut self) -> Result<Option<i64>, ReadError> {
        if self.next.is_none() {
            self.next = self.read()?;
        }
        Ok(self.next.as_ref().map(|event| event.at))
    }

    fn read(&mut self) -> Result<Option<TimedEvent>, ReadError> {
        self.events.next().transpose()
    }

    fn show(&mut self, event: &TimedEvent) -> Result<(), ReadError> {
        if self.channel.is_none() && matches!(event.event, Event::KeyFrame { .. }) {
            self.channel = event.event.channel();
        }
        if self.channel.is_some() && event.event.channel() == self.channel {
            self.screen.apply(&event.event)?;
        }
        Ok(())
    }
}

/// Whether an event changes what a desktop shows.
pub(crate) fn is_picture(event: &Event) -> bool {
    use Event::{KeyFrame, Pointer, PointerShape, Tiles};
    matches!(event, KeyFrame { .. } | Tiles { .. } | Pointer { .. } | PointerShape { .. })
}

impl std::fmt::Debug for DesktopPlayer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DesktopPlayer({:?})", self.channel)
    }
}
