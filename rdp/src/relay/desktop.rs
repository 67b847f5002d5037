//! How a desktop begins and is built anew (MS-RDPBCGR 1.3.1.1 and 1.3.1.3): what the target demands, and what the client confirms.
//!
//! Invariant: a client's word counts where it was asked for, and once; the picture that is recorded is never smaller than what
//! either of the two may show.

use std::collections::VecDeque;

use crate::rewrite::{Broken, capabilities::Rewritten};

/// Most demands that a client has not answered.
const DEMANDS: usize = 8;

/// What the target demanded.
#[derive(Debug, Clone, Copy, Default)]
struct Demand {
    share_id: u32,
    size: (u16, u16),
    depth: u16,
    refreshes: bool,
    /// Another demand came behind it, or the end of this desktop.
    over: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desktop {
    /// Not answered yet, in their order.
    demands: VecDeque<Demand>,
    /// The last one.
    demand: Demand,
    /// Size of what the client shows.
    size: (u16, u16),
    /// Capabilities are exchanged.
    active: bool,
    /// They have been once.
    began: bool,
    /// The client has the desktop's font map, the last of its beginning.
    ready: bool,
    /// The desktop is not the first of its session.
    again: bool,
}

impl Desktop {
    /// One that has begun.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn begun(size: (u16, u16), depth: u16) -> Self {
        let demand = Demand { size, depth, ..Demand::default() };
        Self { demand, size, active: true, began: true, ready: true, ..Self::default() }
    }

    /// One that is to follow another, which was not the target's, with that share.
    pub(super) fn after_another(share_id: u32) -> Self {
        Self { demand: Demand { share_id, ..Demand::default() }, again: true, ..Self::default() }
    }

    /// The target demands a desktop, once the one before is over: some clients do not answer it otherwise.
    pub(super) fn demanded(&mut self, demanded: &Rewritten) -> Result<(), Broken> {
        if self.active {
            return Err(Broken("demand active before the desktop's end"));
        }
        self.end();
        if self.demands.len() >= DEMANDS {
            return Err(Broken("demand active, which the client does not answer"));
        }
        let Rewritten { share_id, size, depth, refreshes, .. } = *demanded;
        self.demand = Demand { share_id, size, depth, refreshes, over: false };
        self.demands.push_back(self.demand);
        Ok(())
    }

    /// The desktop is over; another one is to come.
    pub(super) fn end(&mut self) {
        self.demands.iter_mut().for_each(|demand| demand.over = true);
        (self.active, self.ready) = (false, false);
        self.again |= self.began;
    }

    /// The client confirms the demand that it has not answered for longest. With the size to record, where that is the one that
    /// counts.
    pub(super) fn confirmed(&mut self, confirmed: &Rewritten) -> Result<Option<(u16, u16)>, Broken> {
        let demand = self.demands.pop_front().ok_or(Broken("confirm active, which nobody demanded"))?;
        if demand.share_id != confirmed.share_id {
            return Err(Broken("share of the client"));
        }
        if demand.over {
            return Ok(None);
        }
        self.size = confirmed.size;
        (self.active, self.began) = (true, true);
        Ok(Some((demand.size.0.max(confirmed.size.0), demand.size.1.max(confirmed.size.1))))
    }

    /// The client has been told the last of what makes it ready. Whether all of the desktop is to be asked for now: what was drawn
    /// before would not come again.
    pub(super) fn ready(&mut self) -> bool {
        self.ready = self.active;
        self.ready && self.again && self.demand.refreshes
    }

    /// Whether what the target draws is shown, and so whether hands may act. Once the desktop is built anew, the client draws only
    /// when all of it is there, and what comes before that is asked for again where that can be.
    pub(super) fn shows(&self) -> bool {
        if self.again && self.demand.refreshes { self.ready } else { self.active }
    }

    /// The client takes only what the desktop is built of: some end the connection with anything else.
    pub(super) fn is_being_rebuilt(&self) -> bool {
        self.again && !self.ready
    }

    /// Capabilities are exchanged.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// There has been a desktop.
    pub(super) fn has_begun(&self) -> bool {
        self.began
    }

    /// A size that the graphics pipeline has set.
    pub(super) fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
    }

    /// The size of a desktop that can be drawn on.
    pub(super) fn canvas(&self) -> Option<(u16, u16)> {
        self.ready.then_some(self.size)
    }

    /// Size of the target's.
    pub(super) fn target_size(&self) -> (u16, u16) {
        self.demand.size
    }

    /// Bits for each pixel.
    pub(super) fn depth(&self) -> u16 {
        self.demand.depth
    }

    /// What PDUs of the desktop carry.
    pub(super) fn share_id(&self) -> u32 {
        self.demand.share_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(share_id: u32, size: (u16, u16)) -> Rewritten {
        Rewritten { pdu: Vec::new(), share_id, size, depth: 32, refreshes: true }
    }

    #[test]
    fn what_nobody_demanded_cannot_be_confirmed_and_nothing_twice() {
        let mut desktop = Desktop::default();
        assert!(desktop.confirmed(&word(7, (800, 600))).is_err());
        desktop.demanded(&word(7, (800, 600))).unwrap();
        assert_eq!(desktop.confirmed(&word(7, (640, 700))), Ok(Some((800, 700))), "whoever shows more");
        assert!(desktop.confirmed(&word(7, (8, 8))).is_err());
        desktop.end();
        desktop.demanded(&word(7, (800, 600))).unwrap();
        assert!(desktop.confirmed(&word(8, (800, 600))).is_err(), "of another share");
    }

    #[test]
    fn only_the_last_demand_makes_a_desktop_and_only_if_it_is_not_over() {
        let mut desktop = Desktop::default();
        for size in [(800, 600), (1024, 768)] {
            desktop.demanded(&word(7, size)).unwrap();
            desktop.end();
        }
        desktop.demanded(&word(7, (1280, 800))).unwrap();
        for _ in 0..2 {
            assert_eq!(desktop.confirmed(&word(7, (800, 600))), Ok(None));
            assert!(!desktop.ready() && !desktop.shows());
        }
        assert_eq!(desktop.confirmed(&word(7, (1280, 800))), Ok(Some((1280, 800))));
        assert!(desktop.shows(), "the first desktop is drawn on at once");
        assert!(!desktop.ready() && desktop.canvas() == Some((1280, 800)));
        assert!(desktop.demanded(&word(7, (1280, 800))).is_err(), "it is not over");
        desktop.end();
        desktop.demanded(&word(7, (1280, 800))).unwrap();
        desktop.end();
        assert_eq!(desktop.confirmed(&word(7, (1280, 800))), Ok(None), "it was over before");
    }

    #[test]
    fn a_desktop_built_anew_shows_nothing_before_it_is_ready_and_is_then_asked_for() {
        let mut desktop = Desktop::begun((800, 600), 32);
        desktop.end();
        desktop.demanded(&word(7, (800, 600))).unwrap();
        desktop.confirmed(&word(7, (800, 600))).unwrap();
        assert!(desktop.is_being_rebuilt() && !desktop.shows());
        assert!(desktop.ready() && desktop.shows() && !desktop.is_being_rebuilt());
    }

    #[test]
    fn a_target_that_demands_without_end_is_one_that_breaks_the_protocol() {
        let mut desktop = Desktop::default();
        for _ in 0..DEMANDS {
            desktop.demanded(&word(7, (800, 600))).unwrap();
        }
        assert!(desktop.demanded(&word(7, (800, 600))).is_err());
    }
}
