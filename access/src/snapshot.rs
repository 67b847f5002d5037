//! What the policy engine sees: one immutable picture of the site, the plant and the windows.

use std::sync::Arc;

use crate::{
    clock::Timestamp,
    ids::{Name, WindowId},
    policy::CompiledPolicies,
    site::{PlantState, PlantStates, Site},
    window::{Phase, Window},
};

/// One picture of everything that decides. Made anew whenever any of it changes; never altered.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The described site.
    pub site: Arc<Site>,
    /// The plant's state per zone.
    pub plant: PlantStates,
    /// Windows that are not over, and those over that one of them extends (see [`Snapshot::relevant`]).
    pub windows: Vec<Window>,
    /// The policies, compiled once per revision of the site.
    pub policies: Arc<CompiledPolicies>,
    /// Counts up with every change.
    pub revision: u64,
    /// When the picture was taken.
    pub taken_at: Timestamp,
}

impl Snapshot {
    /// The window of that id, if the picture has it.
    pub fn window(&self, id: WindowId) -> Option<&Window> {
        self.windows.iter().find(|w| w.id() == id)
    }

    /// The state of the plant in `zone`; production where nobody said otherwise.
    pub fn plant_state(&self, zone: &Name) -> PlantState {
        self.plant.get(zone).copied().unwrap_or_default()
    }

    /// Whether every question gets the same answer from `other`, but for what the time changes. Orders and the like move the
    /// revision too, and then no session need be judged again.
    pub fn decides_like(&self, other: &Self) -> bool {
        let same_site = Arc::ptr_eq(&self.site, &other.site) && Arc::ptr_eq(&self.policies, &other.policies);
        same_site && self.plant == other.plant && self.windows == other.windows
    }

    /// Of `windows`, those that a picture taken at `now` has to hold: every one that is not over, and each one over
    /// that such a window extends, also in several steps (a session that began in it lives on through the extension).
    /// A window revoked, refused or withdrawn stands for itself by its absence.
    pub fn relevant(windows: Vec<Window>, now: Timestamp) -> Vec<Window> {
        let mut keep: Vec<bool> = windows.iter().map(|w| !w.phase(now).is_final()).collect();
        loop {
            let needed: Vec<WindowId> = windows
                .iter()
                .zip(&keep)
                .filter(|(_, kept)| **kept)
                .filter_map(|(w, _)| w.request.extends)
                .collect();
            let mut changed = false;
            for (w, kept) in windows.iter().zip(keep.iter_mut()) {
                if !*kept && w.phase(now) == Phase::Ended && needed.contains(&w.id()) {
                    *kept = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        windows.into_iter().zip(keep).filter(|(_, kept)| *kept).map(|(w, _)| w).collect()
    }
}
