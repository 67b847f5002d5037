//! Fast-path updates that come in fragments (MS-RDPBCGR 2.2.9.1.2.1).

use std::borrow::Cow;

use ironrdp_pdu::fast_path::Fragmentation;

use super::Fault;

/// The least that a target may send in fragments, however small the desktop: a fragment's head and a large pointer.
const LEAST: usize = 1 << 20;

/// Puts fragments together.
#[derive(Debug)]
pub(super) struct Fragments {
    kept: Vec<u8>,
    code: Option<u8>,
    most: usize,
}

impl Fragments {
    /// For a desktop of so many pixels: an update is never longer than the whole of it, uncompressed, and some.
    pub(super) fn new(area: usize) -> Self {
        Self { kept: Vec::new(), code: None, most: LEAST.max(area * 4 + area) }
    }

    /// Takes a fragment; gives the whole update once it is there.
    pub(super) fn take<'a>(
        &mut self,
        place: Fragmentation,
        code: u8,
        data: &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, Fault> {
        match place {
            Fragmentation::Single => {
                self.forget();
                return Ok(Some(Cow::Borrowed(data)));
            }
            Fragmentation::First => {
                self.forget();
                self.code = Some(code);
            }
            Fragmentation::Next | Fragmentation::Last if self.code != Some(code) => {
                self.forget();
                return Err("a fragment has no beginning");
            }
            Fragmentation::Next | Fragmentation::Last => {}
        }
        if self.kept.len() + data.len() > self.most {
            self.forget();
            return Err("an update in fragments is longer than any picture");
        }
        self.kept.extend_from_slice(data);
        if place != Fragmentation::Last {
            return Ok(None);
        }
        self.code = None;
        Ok(Some(Cow::Owned(std::mem::take(&mut self.kept))))
    }

    fn forget(&mut self) {
        (self.kept, self.code) = (Vec::new(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_one_update_and_stray_ones_are_faults() {
        let mut fragments = Fragments::new(100);
        assert_eq!(fragments.take(Fragmentation::First, 1, b"ab"), Ok(None));
        assert_eq!(fragments.take(Fragmentation::Next, 1, b"c"), Ok(None));
        assert_eq!(fragments.take(Fragmentation::Last, 1, b"d").unwrap().unwrap(), &b"abcd"[..]);
        assert!(fragments.take(Fragmentation::Last, 1, b"d").is_err());
        assert_eq!(fragments.take(Fragmentation::First, 1, b"ab"), Ok(None));
        assert!(fragments.take(Fragmentation::Last, 4, b"d").is_err(), "of another update");
        assert_eq!(fragments.take(Fragmentation::Single, 4, b"x").unwrap().unwrap(), &b"x"[..]);
    }

    #[test]
    fn a_flood_of_fragments_is_bounded() {
        let mut fragments = Fragments::new(100);
        fragments.take(Fragmentation::First, 1, &[]).unwrap();
        let piece = [0; 10_000];
        let taken = (0..1000).take_while(|_| fragments.take(Fragmentation::Next, 1, &piece).is_ok()).count();
        assert_eq!(taken, LEAST / piece.len());
        assert!(fragments.kept.capacity() == 0);
    }
}
