//! Makes the events of a desktop from its pictures and from what its person does.

use super::{
    Grid, Pixels,
    keys::{ClipboardText, Key},
    screen::{MAX_POINTER, Shape},
    tile::{self, MAX_PACKED},
};
use crate::{
    event::Event,
    header::{Hash, sha256_one},
    wire::MAX_DATA,
};

/// So long after a key frame there may be another: 10 s.
const KEY_SOON: i64 = 10_000_000;
/// So long after a key frame there is another as soon as anything changes: 60 s.
const KEY_LATE: i64 = 60_000_000;
/// A tile's number and length in front of it.
const TILE_HEAD: usize = 16;
/// An event takes tiles up to this length, so that the next one fits too.
const FULL: usize = MAX_DATA - MAX_PACKED - TILE_HEAD;

/// Which tiles of a picture may differ from the one before.
#[derive(Debug, Clone, Copy)]
pub enum Changed<'a> {
    /// Any.
    All,
    /// Those of these numbers: row by row, [`super::TILE`] pixels square.
    Tiles(&'a [u32]),
}

/// Compares pictures with what it has seen, and packs what differs. Holds a digest of each tile, not the picture.
///
/// A key frame costs as much as the whole picture, and reading on from one costs what came behind it. So there is another
/// one when 10 s have passed and the tiles since take as much as the key frame did, at the latest after a minute: a
/// recording is never more than twice as long for them, and a seek never reads much more than one picture and 10 s.
#[derive(Debug)]
pub struct DesktopEncoder {
    channel: u32,
    grid: Grid,
    tiles: Vec<Hash>,
    /// Time of the last key frame, and bytes in it and since.
    key: Option<i64>,
    key_bytes: usize,
    bytes_since: usize,
    pointer: Option<(u16, u16, u8)>,
    shape: Shape,
    layout: Option<u32>,
    scratch: Vec<u8>,
}

impl DesktopEncoder {
    /// For a desktop that has this channel's number in its session.
    pub fn new(channel: u32) -> Self {
        Self {
            channel,
            grid: Grid::default(),
            tiles: Vec::new(),
            key: None,
            key_bytes: 0,
            bytes_since: 0,
            pointer: None,
            shape: Shape::default(),
            layout: None,
            scratch: Vec::new(),
        }
    }

    /// What is new in a picture, seen at a time (microseconds); nothing where it looks as before.
    pub fn frame(&mut self, picture: &Pixels<'_>, changed: Changed<'_>, at: i64) -> Vec<Event> {
        if self.key.is_none() || picture.grid != self.grid {
            return self.key_frame(picture, at);
        }
        let all = self.grid.tiles();
        let mut parts = Parts::default();
        match changed {
            Changed::All => (0..all).for_each(|number| self.tile(picture, number, &mut parts)),
            Changed::Tiles(numbers) => {
                numbers.iter().for_each(|number| self.tile(picture, *number as usize, &mut parts));
            }
        }
        if parts.bytes == 0 {
            return Vec::new();
        }
        self.bytes_since += parts.bytes;
        if self.is_due(at) {
            return self.key_frame(picture, at);
        }
        self.tiles_of(parts)
    }

    fn is_due(&self, at: i64) -> bool {
        let since = at.saturating_sub(self.key.unwrap_or(at));
        since >= KEY_LATE || (since >= KEY_SOON && self.bytes_since >= self.key_bytes)
    }

    fn key_frame(&mut self, picture: &Pixels<'_>, at: i64) -> Vec<Event> {
        self.grid = picture.grid;
        self.tiles.clear();
        self.tiles.resize(self.grid.tiles(), Hash::default());
        let mut parts = Parts::default();
        for number in 0..self.grid.tiles() {
            self.tile(picture, number, &mut parts);
        }
        (self.key, self.key_bytes, self.bytes_since) = (Some(at), parts.bytes, 0);
        let channel = self.channel;
        let mut events = vec![Event::KeyFrame { channel, width: self.grid.width, height: self.grid.height }];
        events.append(&mut self.tiles_of(parts));
        events.push(Event::PointerShape { channel, data: self.shape.pack() });
        events.extend(self.pointer.map(|(x, y, buttons)| Event::Pointer { channel, x, y, buttons }));
        events.extend(self.layout.map(|layout| Event::Keyboard { channel, layout }));
        events
    }

    /// Packs a tile where it differs from what was seen there.
    fn tile(&mut self, picture: &Pixels<'_>, number: usize, parts: &mut Parts) {
        let (Some(place), Some(seen)) = (self.grid.place(number), self.tiles.get_mut(number)) else { return };
        picture.tile(place, &mut self.scratch);
        let digest = sha256_one(&self.scratch);
        if std::mem::replace(seen, digest) != digest {
            parts.push(|out| tile::push(out, number, &self.scratch, place.width));
        }
    }

    fn tiles_of(&self, parts: Parts) -> Vec<Event> {
        let Parts { mut done, open, .. } = parts;
        if !open.is_empty() {
            done.push(open);
        }
        let last = done.len().saturating_sub(1);
        let event = |(n, data): (usize, Vec<u8>)| Event::Tiles {
            channel: self.channel,
            more: n != last,
            data: data.into(),
        };
        done.into_iter().enumerate().map(event).collect()
    }

    /// Where the pointer is now; `None` where it was there already.
    pub fn pointer(&mut self, x: u16, y: u16, buttons: u8) -> Option<Event> {
        let new = Some((x, y, buttons));
        let moved = std::mem::replace(&mut self.pointer, new) != new;
        moved.then_some(Event::Pointer { channel: self.channel, x, y, buttons })
    }

    /// The pointer looks as the person's own system shows it.
    pub fn usual_pointer(&mut self) -> Option<Event> {
        self.shape(Shape::Usual)
    }

    /// The pointer is not shown.
    pub fn hidden_pointer(&mut self) -> Option<Event> {
        self.shape(Shape::Hidden)
    }

    /// The pointer looks like this: red, green, blue and opacity, row by row; `hot` is the place that points. One that is too
    /// large or makes no picture is taken for the usual one.
    pub fn pointer_shape(&mut self, width: u16, height: u16, hot: (u16, u16), rgba: &[u8]) -> Option<Event> {
        let fits = |side: u16| (1..=MAX_POINTER).contains(&side);
        if !fits(width) || !fits(height) || rgba.len() != usize::from(width) * usize::from(height) * 4 {
            return self.shape(Shape::Usual);
        }
        let chunks = tile::chunks(rgba, usize::from(width), 4).into();
        self.shape(Shape::Image { width, height, hot, chunks })
    }

    fn shape(&mut self, shape: Shape) -> Option<Event> {
        if shape == self.shape {
            return None;
        }
        let data = shape.pack();
        self.shape = shape;
        Some(Event::PointerShape { channel: self.channel, data })
    }

    /// The layout by which the keys that follow are meant; `None` where it is known already.
    pub fn keyboard(&mut self, layout: u32) -> Option<Event> {
        let new = self.layout.replace(layout) != Some(layout);
        new.then_some(Event::Keyboard { channel: self.channel, layout })
    }

    /// Keys that the person pressed and let go: masked input.
    pub fn keys(&self, keys: &[Key]) -> Vec<Event> {
        self.masked(Key::pack(keys))
    }

    /// Text that went through the clipboard: masked input. That it did is to be said by [`Event::Clipboard`].
    pub fn clipboard(&self, text: &ClipboardText) -> Vec<Event> {
        self.masked(text.pack())
    }

    fn masked(&self, pieces: Vec<Vec<u8>>) -> Vec<Event> {
        let event = |data: Vec<u8>| Event::Input { channel: self.channel, data: data.into(), masked: true };
        pieces.into_iter().map(event).collect()
    }
}

/// Packed tiles, in pieces that an event can take.
#[derive(Debug, Default)]
struct Parts {
    done: Vec<Vec<u8>>,
    open: Vec<u8>,
    bytes: usize,
}

impl Parts {
    fn push(&mut self, pack: impl FnOnce(&mut Vec<u8>)) {
        let before = self.open.len();
        pack(&mut self.open);
        self.bytes += self.open.len() - before;
        if self.open.len() > FULL {
            self.done.push(std::mem::take(&mut self.open));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::{DesktopScreen, Order};
    use bytes::Bytes;
    use proptest::prelude::*;

    const W: u16 = 150;
    const H: u16 = 100;

    fn picture(seed: u8) -> Vec<u8> {
        let pixel = |n: usize| [(n % 7) as u8 * seed, (n / 150) as u8, seed, 255];
        (0..usize::from(W) * usize::from(H)).flat_map(pixel).collect()
    }

    fn rgb(rgbx: &[u8]) -> Vec<u8> {
        rgbx.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect()
    }

    fn pixels(bytes: &[u8]) -> Pixels<'_> {
        Pixels::new(W, H, Order::Rgbx, bytes).unwrap()
    }

    fn is_key(events: &[Event]) -> bool {
        matches!(events.first(), Some(Event::KeyFrame { .. }))
    }

    fn data(events: &[Event]) -> usize {
        events.iter().map(crate::wire::data_len).sum()
    }

    #[test]
    fn what_looks_the_same_takes_nothing_and_a_pixel_takes_one_tile() {
        let mut encoder = DesktopEncoder::new(0);
        let mut bytes = picture(3);
        assert!(is_key(&encoder.frame(&pixels(&bytes), Changed::All, 0)));
        assert!(encoder.frame(&pixels(&bytes), Changed::All, 1).is_empty());
        bytes[0] ^= 1;
        bytes[3] ^= 1;
        let events = encoder.frame(&pixels(&bytes), Changed::All, 2);
        let mut screen = DesktopScreen::default();
        let whole = encoder.key_frame(&pixels(&bytes), 3);
        whole.iter().for_each(|event| assert!(screen.apply(event).is_ok()));
        assert!(data(&events) < data(&whole) / 3);
        assert_eq!(screen.picture().unwrap(), rgb(&bytes));
        bytes[3] ^= 1;
        assert!(encoder.frame(&pixels(&bytes), Changed::All, 4).is_empty(), "the fourth byte is no colour");
    }

    #[test]
    fn a_key_frame_comes_when_much_changed_for_ten_seconds_and_at_the_latest_after_a_minute() {
        let mut encoder = DesktopEncoder::new(0);
        let at = |seconds: i64| seconds * 1_000_000;
        assert!(is_key(&encoder.frame(&pixels(&picture(1)), Changed::All, 0)));
        assert!(!is_key(&encoder.frame(&pixels(&picture(2)), Changed::All, at(5))));
        assert!(!is_key(&encoder.frame(&pixels(&picture(3)), Changed::All, at(9))));
        assert!(is_key(&encoder.frame(&pixels(&picture(4)), Changed::All, at(10))));
        let mut bytes = picture(4);
        for second in 11..=69 {
            bytes[0] ^= 1;
            assert!(!is_key(&encoder.frame(&pixels(&bytes), Changed::Tiles(&[0]), at(second))), "{second}");
            bytes[0] ^= 1;
        }
        bytes[0] ^= 3;
        assert!(is_key(&encoder.frame(&pixels(&bytes), Changed::Tiles(&[0]), at(70))));
    }

    #[test]
    fn another_size_is_a_key_frame_and_brings_pointer_and_keyboard() {
        let mut encoder = DesktopEncoder::new(4);
        encoder.frame(&pixels(&picture(1)), Changed::All, 0);
        assert!(encoder.pointer(5, 6, 1).is_some() && encoder.pointer(5, 6, 1).is_none());
        assert!(encoder.keyboard(0x407).is_some() && encoder.keyboard(0x407).is_none());
        assert!(encoder.pointer_shape(2, 1, (0, 0), &[1, 2, 3, 255, 4, 5, 6, 0]).is_some());
        assert!(encoder.pointer_shape(2, 1, (0, 0), &[1, 2, 3, 255, 4, 5, 6, 0]).is_none());
        let small = vec![9; 10 * 10 * 4];
        let small = Pixels::new(10, 10, Order::Bgrx, &small).unwrap();
        let mut screen = DesktopScreen::default();
        for event in encoder.frame(&small, Changed::Tiles(&[]), 1) {
            assert_eq!(event.channel(), Some(4));
            screen.apply(&event).unwrap();
        }
        assert_eq!((screen.size(), screen.layout()), ((10, 10), Some(0x407)));
        assert_eq!((screen.pointed().x, screen.pointed().y, screen.pointed().buttons), (5, 6, 1));
        assert!(screen.is_whole());
        assert_ne!(screen.picture().unwrap(), screen.picture_with_pointer().unwrap());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_what_is_shown(
            changes in prop::collection::vec((0usize..15_000, 1usize..3000, any::<[u8; 3]>(), any::<bool>(), 0i64..20), 1..20)
        ) {
            let mut encoder = DesktopEncoder::new(0);
            let mut screen = DesktopScreen::default();
            let mut bytes = picture(1);
            let mut at = 0;
            for (from, len, [r, g, b], noise, seconds) in changes {
                at += seconds * 1_000_000;
                for n in from..(from + len).min(15_000) {
                    let r = if noise { r.wrapping_add((n * n) as u8) } else { r };
                    bytes[n * 4..n * 4 + 3].copy_from_slice(&[r, g, b]);
                }
                for event in encoder.frame(&pixels(&bytes), Changed::All, at) {
                    prop_assert!(crate::wire::data_len(&event) <= MAX_DATA);
                    screen.apply(&event).unwrap();
                }
                prop_assert!(screen.is_whole());
                prop_assert_eq!(screen.picture().unwrap(), rgb(&bytes));
            }
        }

        #[test]
        fn no_event_makes_a_screen_panic(
            size in any::<(u16, u16)>(),
            data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
        ) {
            let mut screen = DesktopScreen::default();
            screen.apply(&Event::KeyFrame { channel: 0, width: size.0 % 300, height: size.1 % 300 }).ok();
            for data in data {
                let data = Bytes::from(data);
                screen.apply(&Event::Tiles { channel: 0, more: false, data: data.clone() }).ok();
                screen.apply(&Event::PointerShape { channel: 0, data }).ok();
            }
            screen.picture_with_pointer().ok();
        }
    }
}
