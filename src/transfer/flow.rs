//! The contents of one file in one direction: counted, and hashed as far as they pass in order.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};

/// Bytes that may wait for an earlier part, over all files of one channel.
pub(super) const WAITING_BYTES: usize = 4 << 20;
/// Runs that may wait in one file.
const WAITING_RUNS: usize = 64;

const OUT_OF_ORDER: &str = "no hash: the contents did not pass in order";
const REWRITTEN: &str = "no hash: a part was written twice";

/// What a part that comes again means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Read again: the first reading counts.
    Ignore,
    /// Written again: the earlier bytes are no longer in the file.
    Spoils,
}

/// Room for parts that came too early; shared by the files of one channel.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(WAITING_BYTES)
    }
}

/// Contents that pass.
pub(super) struct Flow {
    repeat: Repeat,
    bytes: u64,
    position: u64,
    hash: Option<Context>,
    waiting: BTreeMap<u64, Vec<u8>>,
    spoilt: Option<&'static str>,
}

impl Flow {
    /// Nothing has passed yet.
    pub(super) fn new(repeat: Repeat) -> Self {
        Self { repeat, bytes: 0, position: 0, hash: None, waiting: BTreeMap::new(), spoilt: None }
    }

    /// Bytes that passed, repeats included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The end of what has passed without a gap from the first byte on.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Why there is no hash.
    pub(super) fn spoilt(&self) -> Option<&'static str> {
        self.spoilt.or((!self.waiting.is_empty()).then_some(OUT_OF_ORDER))
    }

    /// Gives the hash up.
    pub(super) fn spoil(&mut self, why: &'static str, room: &mut Room) {
        self.spoilt.get_or_insert(why);
        self.hash = None;
        self.release(room);
    }

    /// Gives back what waits. Call before dropping.
    pub(super) fn release(&mut self, room: &mut Room) {
        for run in std::mem::take(&mut self.waiting).values() {
            room.0 += run.len();
        }
    }

    /// SHA-256 of what has passed from the first byte on without a gap.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        if self.spoilt().is_some() {
            return None;
        }
        let context = self.hash.clone().unwrap_or_else(|| Context::new(&SHA256));
        context.finish().as_ref().try_into().ok()
    }

    /// Bytes passed that had passed before.
    pub(super) fn repeat(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Takes `data` that belongs at `offset`.
    pub(super) fn add(&mut self, offset: u64, data: &[u8], room: &mut Room) {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if self.spoilt.is_some() || data.is_empty() {
            return;
        }
        if offset > self.position {
            self.wait(offset, data, room);
            return;
        }
        let Some(fresh) = self.fresh(offset, data) else {
            self.spoil(REWRITTEN, room);
            return;
        };
        self.hash(fresh);
        while let Some(entry) = self.waiting.first_entry() {
            let start = *entry.key();
            if start > self.position {
                break;
            }
            let run = entry.remove();
            room.0 += run.len();
            let Some(fresh) = self.fresh(start, &run) else {
                self.spoil(REWRITTEN, room);
                return;
            };
            self.hash(fresh);
        }
    }

    /// The part of `data` that lies behind the position; `None` when a repeat spoils the hash.
    fn fresh<'a>(&self, offset: u64, data: &'a [u8]) -> Option<&'a [u8]> {
        let seen = self.position.saturating_sub(offset);
        if seen > 0 && self.repeat == Repeat::Spoils {
            return None;
        }
        let seen = usize::try_from(seen).unwrap_or(usize::MAX).min(data.len());
        data.get(seen..)
    }

    fn hash(&mut self, data: &[u8]) {
        self.hash.get_or_insert_with(|| Context::new(&SHA256)).update(data);
        self.position = self.position.saturating_add(data.len() as u64);
    }

    fn wait(&mut self, offset: u64, data: &[u8], room: &mut Room) {
        let end = offset.saturating_add(data.len() as u64);
        let before = self
            .waiting
            .range(..=offset)
            .next_back()
            .map(|(start, run)| start.saturating_add(run.len() as u64));
        let overlaps = before.is_some_and(|before| before > offset)
            || self.waiting.range(offset..).next().is_some_and(|(start, _)| *start < end);
        let joins = before == Some(offset);
        if overlaps || data.len() > room.0 || (!joins && self.waiting.len() >= WAITING_RUNS) {
            self.spoil(OUT_OF_ORDER, room);
            return;
        }
        room.0 -= data.len();
        if joins && let Some((_, run)) = self.waiting.range_mut(..=offset).next_back() {
            run.extend_from_slice(data);
        } else {
            self.waiting.insert(offset, data.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::digest;
    use proptest::prelude::*;

    fn sha(data: &[u8]) -> [u8; 32] {
        digest(&SHA256, data).as_ref().try_into().unwrap()
    }

    #[test]
    fn parts_that_come_early_wait_and_then_count() {
        let mut room = Room::default();
        let mut flow = Flow::new(Repeat::Spoils);
        flow.add(3, b"def", &mut room);
        assert_eq!(flow.digest(), None);
        flow.add(6, b"g", &mut room);
        flow.add(0, b"abc", &mut room);
        assert_eq!(flow.digest(), Some(sha(b"abcdefg")));
        assert_eq!(room.0, WAITING_BYTES);
    }

    #[test]
    fn a_part_read_again_is_ignored_and_a_part_written_again_spoils_the_hash() {
        let mut room = Room::default();
        for (repeat, hash) in [(Repeat::Ignore, Some(sha(b"abcd"))), (Repeat::Spoils, None)] {
            let mut flow = Flow::new(repeat);
            flow.add(0, b"abc", &mut room);
            flow.add(1, b"bcd", &mut room);
            assert_eq!(flow.digest(), hash);
        }
    }

    #[test]
    fn what_waits_is_bounded_over_all_files() {
        let mut room = Room::default();
        let mut flows: Vec<Flow> = (0..10).map(|_| Flow::new(Repeat::Spoils)).collect();
        for flow in &mut flows {
            flow.add(1, &vec![0; WAITING_BYTES / 4], &mut room);
        }
        assert_eq!(flows.iter().filter(|f| f.waiting.is_empty()).count(), 6);
        flows.iter_mut().for_each(|f| f.release(&mut room));
        assert_eq!(room.0, WAITING_BYTES);
    }

    proptest! {
        #[test]
        fn any_order_of_the_parts_gives_the_same_hash(
            sizes in proptest::collection::vec(1usize..50, 1..30),
            seed in proptest::collection::vec(any::<u32>(), 30),
        ) {
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| i as u8).collect();
            let mut parts = Vec::new();
            let mut at = 0;
            for (size, key) in sizes.iter().zip(seed) {
                parts.push((key, at, &whole[at..at + size]));
                at += size;
            }
            parts.sort();
            let mut room = Room::default();
            let mut flow = Flow::new(Repeat::Spoils);
            for (_, at, part) in parts {
                flow.add(at as u64, part, &mut room);
            }
            prop_assert_eq!(flow.digest(), Some(sha(&whole)));
            prop_assert_eq!(room.0, WAITING_BYTES);
        }

        #[test]
        fn no_offsets_panic(parts in proptest::collection::vec((any::<u64>(), 0usize..9), 0..40), small in any::<bool>()) {
            let mut room = Room::default();
            let mut flow = Flow::new(if small { Repeat::Ignore } else { Repeat::Spoils });
            for (offset, size) in parts {
                flow.add(if small { offset % 64 } else { offset }, &vec![1; size], &mut room);
            }
            flow.digest();
            flow.release(&mut room);
            prop_assert_eq!(room.0, WAITING_BYTES);
        }
    }
}
