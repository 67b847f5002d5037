//! What a person does with their hands, on both ways (MS-RDPBCGR 2.2.8.1.1.3 and 2.2.8.1.2).

use super::Broken;
use crate::{
    event::{Event, Key, Pointer},
    wire::Reader,
};

/// The events in a fast-path input PDU. An event that is not known is refused: it could be one that types.
pub(crate) fn fast_path(pdu: &[u8]) -> Result<Vec<Event>, Broken> {
    read_fast_path(pdu).ok_or(Broken("fast-path input"))
}

fn read_fast_path(pdu: &[u8]) -> Option<Vec<Event>> {
    let mut at = Reader(pdu);
    let head = at.u8()?;
    // Encryption and checksum belong to standard RDP security.
    if head & 0xc0 != 0 {
        return None;
    }
    if at.u8()? & 0x80 != 0 {
        at.u8()?;
    }
    let count = match (head >> 2) & 0xf {
        0 => at.u8()?,
        few => few,
    };
    let mut events = Vec::with_capacity(count.into());
    for _ in 0..count {
        let head = at.u8()?;
        let flags = head & 0x1f;
        match head >> 5 {
            0 => events.push(key(at.u8()?, flags & 1 == 0, flags & 2 != 0, flags & 4 != 0)),
            kind @ (1 | 2 | 5) => events.push(pointer(&mut at, kind == 2, kind == 5)?),
            3 => events.push(Event::Locks(flags)),
            4 => events.push(Event::Character { unit: at.u16()?, down: flags & 1 == 0 }),
            // A time stamp for measurements.
            6 => drop(at.u32()?),
            _ => return None,
        }
    }
    at.0.is_empty().then_some(events)
}

/// The events in the body of a slow-path input PDU.
pub(crate) fn slow_path(body: &[u8]) -> Result<Vec<Event>, Broken> {
    read_slow_path(body).ok_or(Broken("input"))
}

fn read_slow_path(body: &[u8]) -> Option<Vec<Event>> {
    let mut at = Reader(body);
    let count = at.u16()?;
    at.u16()?;
    let mut events = Vec::new();
    for _ in 0..count {
        at.u32()?;
        let kind = at.u16()?;
        let mut event = Reader(at.take(6)?);
        let flags = event.u16()?;
        match kind {
            // Synchronisation: the first word is padding, the second the lock keys.
            0 => events.push(Event::Locks(u8::try_from(event.u16()? & 0x1f).ok()?)),
            4 => events.push(key(
                u8::try_from(event.u16()? & 0xff).ok()?,
                flags & 0x8000 == 0,
                flags & 0x100 != 0,
                flags & 0x200 != 0,
            )),
            5 => events.push(Event::Character { unit: event.u16()?, down: flags & 0x8000 == 0 }),
            0x8001 | 0x8002 | 0x8004 => {
                let (x, y) = (event.u16()?, event.u16()?);
                let (extended, relative) = (kind == 0x8002, kind == 0x8004);
                events.push(Event::Pointer(Pointer { x, y, flags, extended, relative }));
            }
            _ => return None,
        }
    }
    Some(events)
}

fn key(code: u8, down: bool, extended: bool, extended1: bool) -> Event {
    Event::Key(Key { code, extended, extended1, down })
}

fn pointer(at: &mut Reader<'_>, extended: bool, relative: bool) -> Option<Event> {
    let (flags, x, y) = (at.u16()?, at.u16()?, at.u16()?);
    Some(Event::Pointer(Pointer { x, y, flags, extended, relative }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_the_pointer_are_read_on_both_ways() {
        let a = Event::Key(Key { code: 0x1e, extended: false, extended1: false, down: true });
        let up = Event::Key(Key { code: 0x48, extended: true, extended1: false, down: false });
        let click =
            Event::Pointer(Pointer { x: 300, y: 20, flags: 0x9000, extended: false, relative: false });
        let fast = [12, 14, 0, 0x1e, 3, 0x48, 0x20, 0, 0x90, 0x2c, 1, 20, 0];
        assert_eq!(fast_path(&fast), Ok(vec![a.clone(), up.clone(), click.clone()]));
        let mut slow = vec![3, 0, 0, 0];
        slow.extend([0, 0, 0, 0, 4, 0, 0, 0, 0x1e, 0, 0, 0]);
        slow.extend([0, 0, 0, 0, 4, 0, 0, 0x81, 0x48, 0, 0, 0]);
        slow.extend([0, 0, 0, 0, 1, 0x80, 0, 0x90, 0x2c, 1, 20, 0]);
        assert_eq!(slow_path(&slow), Ok(vec![a, up, click]));
    }

    #[test]
    fn an_event_that_is_not_known_or_lies_about_its_number_is_refused() {
        assert!(fast_path(&[4, 3, 0xe0]).is_err());
        assert!(fast_path(&[8, 4, 0, 0x1e]).is_err(), "two are promised");
        assert!(fast_path(&[4, 5, 0, 0x1e, 0]).is_err(), "a third byte hides behind one event");
        assert!(fast_path(&[0x84, 4, 0, 0x1e]).is_err(), "encrypted");
        assert!(slow_path(&[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            drop(fast_path(&bytes));
            drop(slow_path(&bytes));
        }
    }
}
