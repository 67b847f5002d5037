//! Display Control (MS-RDPEDISP): the channel by which a client asks for another size.

use crate::{
    relay::MAX_PIXELS,
    wire::{Reader, u32_at},
};

/// The channel while it is open.
#[derive(Debug)]
pub(super) struct Display {
    pub(super) id: u32,
    /// Most monitors that the target takes.
    most: u32,
}

/// `DISPLAYCONTROL_PDU_TYPE_CAPS` and `DISPLAYCONTROL_PDU_TYPE_MONITOR_LAYOUT`.
const DISPLAY_CAPS: u32 = 5;
const MONITOR_LAYOUT: u32 = 2;
/// Most monitors that are believed in.
const MONITORS: u32 = 16;
/// The sides of a monitor (MS-RDPEDISP 2.2.2.2.1).
const SIDES: std::ops::RangeInclusive<u32> = 200..=8192;

impl Display {
    /// One monitor, until the target says otherwise.
    pub(super) fn new(id: u32) -> Self {
        Self { id, most: 1 }
    }

    /// What the target says: how many monitors it takes (2.2.2.1).
    pub(super) fn caps(&mut self, message: &[u8]) {
        if let (Some(DISPLAY_CAPS), Some(most)) = (u32_at(message, 0), u32_at(message, 8)) {
            self.most = most.min(MONITORS);
        }
    }

    /// Whether the person's client asks for what there can be, in the form that there is for it (2.2.2.2). Targets trust the
    /// number.
    pub(super) fn may_ask(&self, message: &[u8]) -> bool {
        let read = || -> Option<bool> {
            let mut at = Reader(message);
            let (kind, len, size, count) = (at.u32()?, at.u32()?, at.u32()?, at.u32()?);
            let fits = kind == MONITOR_LAYOUT
                && usize::try_from(len).is_ok_and(|len| len == message.len())
                && size == 40
                && (1..=self.most).contains(&count)
                && u64::from(len) == 16 + 40 * u64::from(count);
            let mut pixels = 0;
            for _ in 0..count.min(MONITORS) {
                let monitor = at.take(40)?;
                let (width, height) = (u32_at(monitor, 12)?, u32_at(monitor, 16)?);
                if !SIDES.contains(&width) || !SIDES.contains(&height) || width % 2 != 0 {
                    return Some(false);
                }
                pixels += width * height;
            }
            Some(fits && pixels <= MAX_PIXELS)
        };
        read().unwrap_or(false)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a client asks for with monitors of these sizes.
    pub(crate) fn layout(monitors: &[(u32, u32)]) -> Vec<u8> {
        let count = u32::try_from(monitors.len()).unwrap();
        let head = [MONITOR_LAYOUT, 16 + 40 * count, 40, count];
        let monitors =
            monitors.iter().flat_map(|(width, height)| [1, 0, 0, *width, *height, 0, 0, 0, 100, 100]);
        head.into_iter().chain(monitors).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn only_sizes_that_there_can_be_are_asked_for_on_as_many_monitors_as_the_target_takes() {
        let mut display = Display::new(7);
        assert!(display.may_ask(&layout(&[(1280, 900)])) && display.may_ask(&layout(&[(200, 8192)])));
        let two = layout(&[(1280, 900), (1280, 900)]);
        assert!(!display.may_ask(&two), "one, unless the target says otherwise");
        display.caps(&[DISPLAY_CAPS, 20, 2, 8192, 8192].map(u32::to_le_bytes).concat());
        assert!(display.may_ask(&two));
        display.caps(&[DISPLAY_CAPS, 20, u32::MAX, 8192, 8192].map(u32::to_le_bytes).concat());
        assert!(!display.may_ask(&layout(&[(200, 200); 17])));
        for wrong in
            [(1281, 900), (198, 900), (8194, 900), (1280, 199), (1280, u32::MAX), (0, 0), (8192, 8192)]
        {
            assert!(!display.may_ask(&layout(&[wrong])), "{wrong:?}");
        }
        assert!(!display.may_ask(&layout(&[])) && !display.may_ask(&[]));
        let good = layout(&[(1280, 900)]);
        assert!(
            !display.may_ask(&[good.as_slice(), &[0]].concat()) && !display.may_ask(&good[..good.len() - 1])
        );
        for (at, value) in [(0, 3), (4, 55), (8, 44), (12, 2), (12, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(!display.may_ask(&bad), "{at}");
        }
    }
}
