//! A desktop as a row of messages for a browser, from a recording or as it happens.
//!
//! A message is `length of the rest (4) ‖ kind (1) ‖ milliseconds since the recording began (4) ‖ fields`, numbers
//! little-endian. Kinds and fields: 64 key frame (width, height, 2 bytes each), 65 tiles (1 where more of the frame follows,
//! else 0; then as in the event), 66 pointer (x, y, 2 bytes each; buttons), 67 shape (as in the event), 1 what happened (JSON:
//! `kind`, `text`), 2 end of this stretch (1 where there is nothing behind it, else 0), 3 a small picture (PNG).

use std::io::Write;

use serde_json::json;

use super::{DesktopPlayer, DesktopScreen};
use crate::{
    error::ReadError,
    event::{Event, TimedEvent},
    lines::TextLine,
    read::Recording,
};

const MARK: u8 = 1;
const STRETCH: u8 = 2;
const STILL: u8 = 3;
const KEY_FRAME: u8 = 64;
const TILES: u8 = 65;
const POINTER: u8 = 66;
const SHAPE: u8 = 67;
/// Tiles of this length make a message.
const FULL: usize = 48 * 1024;

/// Writes the messages of one desktop.
#[derive(Debug, Clone, Copy)]
pub struct DesktopStream {
    started: i64,
}

impl DesktopStream {
    /// For a recording that began then: microseconds since 1970, UTC.
    pub fn new(started: i64) -> Self {
        Self { started }
    }

    fn message(&self, out: &mut Vec<u8>, kind: u8, at: i64, fields: &[&[u8]]) {
        let millis = at.saturating_sub(self.started).max(0) / 1000;
        let length: usize = 5 + fields.iter().map(|field| field.len()).sum::<usize>();
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(&u32::try_from(millis).unwrap_or(u32::MAX).to_le_bytes());
        fields.iter().for_each(|field| out.extend_from_slice(field));
    }

    /// The whole picture as it stands at a time; nothing where there is none yet.
    pub fn picture(&self, screen: &DesktopScreen, at: i64) -> Vec<u8> {
        let mut out = Vec::new();
        let (width, height) = screen.size();
        if screen.tiles.is_empty() {
            return out;
        }
        self.message(&mut out, KEY_FRAME, at, &[&width.to_le_bytes(), &height.to_le_bytes()]);
        let mut tiles = Vec::new();
        for (number, tile) in screen.tiles.iter().enumerate() {
            if let Some(tile) = tile {
                tile.push(&mut tiles, number);
            }
            if tiles.len() > FULL {
                self.message(&mut out, TILES, at, &[&[1], &tiles]);
                tiles.clear();
            }
        }
        self.message(&mut out, TILES, at, &[&[0], &tiles]);
        self.message(&mut out, SHAPE, at, &[&screen.pointed.shape.pack()]);
        let pointed = &screen.pointed;
        self.pointer(&mut out, at, pointed.x, pointed.y, pointed.buttons);
        out
    }

    fn pointer(&self, out: &mut Vec<u8>, at: i64, x: u16, y: u16, buttons: u8) {
        self.message(out, POINTER, at, &[&x.to_le_bytes(), &y.to_le_bytes(), &[buttons]]);
    }

    /// Writes a stretch of a recording: the picture as it stands at `from` (microseconds since 1970, UTC; before the first,
    /// nothing), then what changes, for at most so much time and about so many bytes, and where it ends.
    ///
    /// # Errors
    /// When the recording is locked or damaged, or `out` fails.
    pub fn write_stretch(
        &self,
        recording: &Recording,
        from: i64,
        (most_time, most_bytes): (i64, usize),
        out: &mut impl Write,
    ) -> Result<(), ReadError> {
        let mut player = DesktopPlayer::seek(recording, None, from)?;
        let first = self.picture(player.screen(), from);
        out.write_all(&first).map_err(ReadError::Export)?;
        let (until, mut bytes) = (from.saturating_add(most_time), 0);
        let (mut at, mut last) = (from, true);
        while let Some(next) = player.peek()? {
            // Between two frames, so that the next stretch begins with a whole picture; what happens at one moment stays together.
            if next >= until || (bytes > most_bytes && next > at && player.screen().is_whole()) {
                (at, last) = (next.min(until).saturating_sub(1).max(at), false);
                break;
            }
            let Some(event) = player.advance()? else { break };
            at = at.max(event.at);
            let message = self.event(&event);
            bytes += message.len();
            out.write_all(&message).map_err(ReadError::Export)?;
        }
        out.write_all(&self.stretch(at, last)).map_err(ReadError::Export)?;
        out.flush().map_err(ReadError::Export)
    }

    /// What an event changes on the desktop; nothing for others. Keys and clipboard are never among it.
    pub fn event(&self, event: &TimedEvent) -> Vec<u8> {
        let (at, mut out) = (event.at, Vec::new());
        match &event.event {
            Event::KeyFrame { width, height, .. } => {
                self.message(&mut out, KEY_FRAME, at, &[&width.to_le_bytes(), &height.to_le_bytes()]);
            }
            Event::Tiles { more, data, .. } => {
                self.message(&mut out, TILES, at, &[&[u8::from(*more)], data]);
            }
            Event::Pointer { x, y, buttons, .. } => self.pointer(&mut out, at, *x, *y, *buttons),
            Event::PointerShape { data, .. } => self.message(&mut out, SHAPE, at, &[data]),
            _ => {}
        }
        out
    }

    /// Something that happened.
    pub fn mark(&self, line: &TextLine) -> Vec<u8> {
        let mut out = Vec::new();
        let text = json!({"kind": line.kind.as_str(), "text": line.text}).to_string();
        self.message(&mut out, MARK, line.at, &[text.as_bytes()]);
        out
    }

    /// A small picture of that time, PNG.
    pub(super) fn still(&self, at: i64, picture: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.message(&mut out, STILL, at, &[picture]);
        out
    }

    /// The stretch that was asked for ends here; `last`: there is nothing behind it, at least for now.
    pub fn stretch(&self, at: i64, last: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.message(&mut out, STRETCH, at, &[&[u8::from(last)]]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::{Changed, DesktopEncoder, Order, Pixels};

    fn kinds(mut bytes: &[u8]) -> Vec<(u8, u32)> {
        let mut kinds = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let (message, after) = rest.split_at(u32::from_le_bytes(*length) as usize);
            kinds.push((message[0], u32::from_le_bytes(message[1..5].try_into().unwrap())));
            bytes = after;
        }
        kinds
    }

    #[test]
    fn a_picture_that_is_joined_is_the_one_that_events_made() {
        let noise: Vec<u8> =
            (0..300u32 * 200 * 4).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        let picture = Pixels::new(300, 200, Order::Rgbx, &noise).unwrap();
        let mut screen = DesktopScreen::default();
        let mut sent = Vec::new();
        let stream = DesktopStream::new(1_000_000);
        for event in DesktopEncoder::new(0).frame(&picture, Changed::All, 0) {
            screen.apply(&event).unwrap();
            sent.extend(stream.event(&TimedEvent { at: 3_500_000, event }));
        }
        let joined = stream.picture(&screen, 3_500_000);
        let kinds_of = |bytes: &[u8]| {
            let mut kinds = kinds(bytes);
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds_of(&joined), [(64, 2500), (65, 2500), (67, 2500), (66, 2500)]);
        assert_eq!(kinds_of(&sent), [(64, 2500), (65, 2500), (67, 2500)]);
        assert!(stream.picture(&DesktopScreen::default(), 0).is_empty());
        let keys = Event::Input { channel: 0, data: "secret".into(), masked: true };
        assert!(stream.event(&TimedEvent { at: 0, event: keys }).is_empty());
    }
}
