//! What a person holds down at the target: keys, characters, buttons. Whatever stays down because its release was held back would
//! go on acting: an X server repeats a key, and a machine runs as long as a button is pressed.

use std::collections::{BTreeSet, VecDeque};

use bytes::BufMut as _;

use crate::event::{Event, Key, Pointer};

/// Most characters that are down. Some clients never let one go, and nothing repeats them.
const CHARACTERS: usize = 64;
/// Events in one PDU.
const TOGETHER: usize = 64;

/// `PTRFLAGS_DOWN`, and `PTRXFLAGS_DOWN`.
const DOWN: u16 = 0x8000;
/// `PTRFLAGS_BUTTON1` to 3.
const BUTTONS: [u16; 3] = [0x1000, 0x2000, 0x4000];
/// `PTRXFLAGS_BUTTON1` and 2. A mouse that tells how far it moved has these among its other flags, unless a wheel turns.
const EXTENDED_BUTTONS: [u16; 2] = [1, 2];
/// `PTRFLAGS_WHEEL` and `PTRFLAGS_HWHEEL`.
const WHEELS: u16 = 0x600;

/// A button of a kind of mouse: its flag, whether it is an extended one, and whether the mouse tells how far it moved.
type Button = (u16, bool, bool);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hands {
    keys: BTreeSet<(u8, bool, bool)>,
    characters: VecDeque<u16>,
    buttons: BTreeSet<Button>,
    at: (u16, u16),
    /// Releases that the target has not been told.
    due: Vec<Event>,
    /// Which keys are locked, where it has not been told.
    locks: Option<u8>,
}

impl Hands {
    /// What goes on to the target.
    pub(super) fn act(&mut self, event: &Event) {
        match *event {
            Event::Key(Key { code, extended, extended1, down }) => {
                let key = (code, extended, extended1);
                if down {
                    self.keys.insert(key)
                } else {
                    self.keys.remove(&key)
                };
            }
            Event::Character { unit, down } => {
                self.characters.retain(|held| *held != unit);
                if down {
                    if self.characters.len() >= CHARACTERS {
                        self.characters.pop_front();
                    }
                    self.characters.push_back(unit);
                }
            }
            Event::Pointer(pointer) => {
                if !pointer.relative {
                    self.at = (pointer.x, pointer.y);
                }
                for button in buttons(pointer) {
                    if pointer.flags & DOWN != 0 {
                        self.buttons.insert(button)
                    } else {
                        self.buttons.remove(&button)
                    };
                }
            }
            Event::Locks(_) => self.locks = None,
            _ => {}
        }
    }

    /// What does not go on. A release of what is held is told later.
    pub(super) fn miss(&mut self, event: &Event) {
        match *event {
            Event::Key(Key { code, extended, extended1, down: false }) => {
                let was_down = self.keys.remove(&(code, extended, extended1));
                self.due.extend(was_down.then(|| event.clone()));
            }
            Event::Character { unit, down: false } if self.characters.contains(&unit) => {
                self.characters.retain(|held| *held != unit);
                self.due.push(event.clone());
            }
            Event::Pointer(pointer) if pointer.flags & DOWN == 0 => {
                for button in buttons(pointer) {
                    if self.buttons.remove(&button) {
                        let release = self.release(button);
                        self.due.push(release);
                    }
                }
            }
            Event::Locks(locks) => self.locks = Some(locks),
            _ => {}
        }
    }

    /// What was counted as gone on and did not: its releases are still to be told.
    pub(super) fn unsaid(&mut self, event: &Event) {
        match *event {
            Event::Key(Key { down: false, .. }) | Event::Character { down: false, .. } => {
                self.due.push(event.clone())
            }
            Event::Pointer(pointer) if pointer.flags & DOWN == 0 => {
                let releases: Vec<Event> = buttons(pointer).map(|button| self.release(button)).collect();
                self.due.extend(releases);
            }
            Event::Locks(locks) => self.locks = Some(locks),
            _ => {}
        }
    }

    /// Lets go of everything.
    pub(super) fn let_go(&mut self) {
        let keys = std::mem::take(&mut self.keys)
            .into_iter()
            .map(|(code, extended, extended1)| Event::Key(Key { code, extended, extended1, down: false }));
        self.due.extend(keys);
        let characters = std::mem::take(&mut self.characters).into_iter();
        self.due.extend(characters.map(|unit| Event::Character { unit, down: false }));
        let buttons = std::mem::take(&mut self.buttons);
        let releases: Vec<Event> = buttons.into_iter().map(|button| self.release(button)).collect();
        self.due.extend(releases);
    }

    /// The releases that the target is to be told now; and which keys are locked, where somebody's hands are free to say so.
    pub(super) fn due(&mut self, free: bool) -> Vec<Event> {
        let locks = if free { self.locks.take().map(Event::Locks) } else { None };
        std::mem::take(&mut self.due).into_iter().chain(locks).collect()
    }

    /// Where the pointer was last, or where it is.
    fn release(&self, (flags, extended, relative): Button) -> Event {
        let (x, y) = if relative { (0, 0) } else { self.at };
        Event::Pointer(Pointer { x, y, flags, extended, relative })
    }
}

fn buttons(pointer: Pointer) -> impl Iterator<Item = Button> {
    let usual: &[u16] = if pointer.extended { &[] } else { &BUTTONS };
    let more = pointer.extended || pointer.relative && pointer.flags & WHEELS == 0;
    let more: &[u16] = if more { &EXTENDED_BUTTONS } else { &[] };
    let pressed = usual.iter().chain(more).filter(move |button| pointer.flags & **button != 0);
    pressed.map(move |button| (*button, pointer.extended, pointer.relative))
}

/// Releases as bodies of input PDUs (MS-RDPBCGR 2.2.8.1.1.3).
pub(super) fn bodies(releases: &[Event]) -> Vec<Vec<u8>> {
    releases.chunks(TOGETHER).map(body).collect()
}

fn body(releases: &[Event]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16_le(u16::try_from(releases.len()).unwrap_or(u16::MAX));
    body.put_u16_le(0);
    for release in releases {
        // Its time, which servers ignore; its kind; and six bytes.
        let (kind, words): (u16, [u16; 3]) = match *release {
            // Released after having been down.
            Event::Key(Key { code, extended, extended1, .. }) => {
                let flags = 0xc000 | if extended { 0x100 } else { 0 } | if extended1 { 0x200 } else { 0 };
                (4, [flags, code.into(), 0])
            }
            Event::Character { unit, .. } => (5, [0x8000, unit, 0]),
            Event::Pointer(Pointer { x, y, flags, extended, relative }) => {
                let kind = match (extended, relative) {
                    (true, _) => 0x8002,
                    (false, true) => 0x8004,
                    (false, false) => 0x8001,
                };
                (kind, [flags, x, y])
            }
            Event::Locks(locks) => (0, [0, locks.into(), 0]),
            // Nothing else is held.
            _ => continue,
        };
        body.put_u32_le(0);
        body.put_u16_le(kind);
        words.into_iter().for_each(|word| body.put_u16_le(word));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::input;
    use proptest::prelude::*;

    fn key(code: u8, down: bool) -> Event {
        Event::Key(Key { code, extended: false, extended1: false, down })
    }

    fn pointer(x: u16, flags: u16, extended: bool) -> Event {
        Event::Pointer(Pointer { x, y: 9, flags, extended, relative: false })
    }

    #[test]
    fn everything_that_is_down_is_let_go_once_and_where_the_pointer_is() {
        let mut hands = Hands::default();
        for event in [
            key(0x1e, true),
            key(0x1f, true),
            key(0x1f, false),
            Event::Character { unit: 0xe4, down: true },
            pointer(5, 0x9000, false),
            pointer(7, 0x8001, true),
            pointer(300, 0x0800, false),
        ] {
            hands.act(&event);
        }
        hands.let_go();
        let expected = [
            key(0x1e, false),
            Event::Character { unit: 0xe4, down: false },
            pointer(300, 1, true),
            pointer(300, 0x1000, false),
        ];
        let due = hands.due(true);
        assert!(expected.iter().all(|event| due.contains(event)) && due.len() == expected.len(), "{due:?}");
        let [body] = &bodies(&due)[..] else { panic!() };
        assert_eq!(input::slow_path(body), Ok(due));
        hands.let_go();
        assert!(hands.due(true).is_empty());
    }

    #[test]
    fn junk_that_is_held_hides_no_key() {
        let mut hands = Hands::default();
        for code in 0..=u8::MAX {
            for (extended, extended1) in [(false, false), (true, false), (false, true), (true, true)] {
                hands.act(&Event::Key(Key { code, extended, extended1, down: true }));
            }
        }
        hands.let_go();
        let due = hands.due(true);
        assert_eq!(due.len(), 1024);
        let read: Vec<Event> = bodies(&due).iter().flat_map(|body| input::slow_path(body).unwrap()).collect();
        assert_eq!(read, due);
    }

    #[test]
    fn a_release_that_is_held_back_is_told_later_and_a_press_is_not() {
        let mut hands = Hands::default();
        hands.act(&key(0x1e, true));
        hands.act(&pointer(5, 0x9000, false));
        for event in [key(0x1e, false), key(0x20, true), key(0x20, false), pointer(8, 0x1000, false)] {
            hands.miss(&event);
        }
        assert_eq!(hands.due(true), [key(0x1e, false), pointer(5, 0x1000, false)]);
        let side = Pointer { x: 1, y: 1, flags: DOWN | 2, extended: false, relative: true };
        hands.act(&Event::Pointer(side));
        hands.act(&Event::Pointer(Pointer { flags: 0x0202, ..side }));
        hands.miss(&Event::Locks(2));
        hands.let_go();
        let release = Event::Pointer(Pointer { x: 0, y: 0, flags: 2, ..side });
        assert_eq!(hands.due(true), [release, Event::Locks(2)], "a wheel is no button");
        hands.unsaid(&key(0x30, true));
        hands.unsaid(&key(0x31, false));
        assert_eq!(hands.due(true), [key(0x31, false)]);
    }

    proptest! {
        /// A target that is told what passes, and what is due in the end, has nothing down.
        #[test]
        fn in_the_end_nothing_is_down(events in prop::collection::vec((0_u8..6, 0_u16..3, any::<bool>(), any::<bool>()), 0..60)) {
            let (mut hands, mut target) = (Hands::default(), Hands::default());
            for (kind, which, down, passes) in events {
                let event = match kind {
                    0 | 1 => Event::Key(Key { code: u8::try_from(which).unwrap(), extended: kind == 1, extended1: false, down }),
                    2 => Event::Character { unit: which, down },
                    _ => {
                        let extended = kind == 5;
                        let flag = if extended || kind == 4 && down == passes { 1 << (which % 2) } else { 0x1000 << which };
                        let flags = flag | if down { DOWN } else { 0 };
                        Event::Pointer(Pointer { x: which, y: 1, flags, extended, relative: kind == 4 })
                    }
                };
                if passes {
                    hands.act(&event);
                    target.act(&event);
                } else {
                    hands.miss(&event);
                }
            }
            hands.let_go();
            hands.due(true).iter().for_each(|event| target.act(event));
            prop_assert!(target.keys.is_empty() && target.characters.is_empty() && target.buttons.is_empty());
        }
    }
}
