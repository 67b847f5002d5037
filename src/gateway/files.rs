//! What a window and a conduit allow with files, and how much of the window's budget is left.

use std::sync::{Arc, PoisonError};

use cofferdam_access::{
    audit,
    grant::Grant,
    ids::WindowId,
    policy::{ChannelDecision, ChannelRequest},
    site::{Desktop, Direction},
    snapshot::Snapshot,
    window::Operation,
};
use tokio::sync::watch;
use tracing::error;

use super::Gateway;
use crate::{
    session::live::Session,
    transfer::{
        Budget, FileRules, PathRules, SitePolicy,
        desktop::{ClipboardRules, DesktopRules, Standing},
        site::{Act, FilePolicy},
    },
};

impl Gateway {
    /// The rules for one channel of this session.
    pub(crate) async fn file_rules(&self, session: &Arc<Session>) -> FileRules {
        let grant = session.grant();
        let limits = grant.limits();
        let snapshot = self.snapshots.borrow().clone();
        let (into, out) = ways_of(&snapshot, grant);
        let operations = grant.operations();
        let operate = operations.contains(&Operation::Operate) || operations.contains(&Operation::Program);
        let paths = PathRules::parse(&limits.paths);
        // Patterns that cannot be read allow nothing.
        let legible = paths.is_ok();
        FileRules {
            read_only: limits.read_only_files || !operate,
            may_upload: legible && into,
            may_download: legible && out,
            paths: paths.unwrap_or_else(|_| PathRules::none()),
            max_bytes: self.file_budget(grant).await,
            keep_uploads: true,
            numbers: session.file_numbers(),
            site: SitePolicy::new(Arc::new(LivePolicy {
                session: session.clone(),
                snapshots: self.snapshots.clone(),
            })),
        }
    }

    /// The rules for the files of one desktop: what its asset allows, within what any channel of the window may.
    pub(crate) async fn desktop_rules(&self, session: &Arc<Session>) -> DesktopRules {
        let grant = session.grant();
        let desktop = grant.desktop().cloned().unwrap_or_default();
        let paths = PathRules::parse(&desktop.drives_paths);
        // Patterns that cannot be read allow nothing, and no folder's names either.
        let legible = paths.is_ok();
        // Of the site as it is before anything is asked: whatever changes meanwhile is a change.
        let standing =
            if legible { self.standing(session, desktop.clone()) } else { Standing::new(|| false) };
        let copied = PathRules::parse(&desktop.clipboard_paths);
        let clipboard = ClipboardRules {
            to_target: copied.is_ok() && desktop.clipboard_files_to_target,
            to_person: copied.is_ok() && desktop.clipboard_files_to_person,
            paths: copied.unwrap_or_else(|_| PathRules::none()),
            largest: desktop.clipboard_file_bytes,
        };
        DesktopRules {
            files: self.file_rules(session).await,
            to_target: legible && desktop.drives_to_target,
            to_person: legible && desktop.drives_to_person,
            printers: desktop.printers,
            paths: paths.unwrap_or_else(|_| PathRules::none()),
            largest: desktop.drives_file_bytes,
            clipboard,
            keep_downloads: grant.keep_full_bytes(),
            standing,
        }
    }

    /// Whether the site still says of this desktop, and of the way to it, what it said when the session began.
    fn standing(&self, session: &Arc<Session>, then: Desktop) -> Standing {
        let (snapshots, session) = (self.snapshots.clone(), session.clone());
        let ways_then = ways_of(&snapshots.borrow(), session.grant());
        Standing::new(move || {
            let (snapshot, grant) = (snapshots.borrow(), session.grant());
            let now = snapshot.site.asset(&grant.account().asset).and_then(|asset| asset.rdp.as_ref());
            now.is_some_and(|now| now.same_files(&then)) && ways_of(&snapshot, grant) == ways_then
        })
    }

    /// What is left of the window's budget, shared by all its sessions on this node; none: no limit.
    async fn file_budget(&self, grant: &Grant) -> Option<Budget> {
        let limit = grant.limits().file_bytes?;
        let window = grant.window();
        if let Some(budget) = self.known_budget(window) {
            return Some(budget);
        }
        // What cannot be read counts as used up.
        let used = self.store.file_bytes(window).await.unwrap_or(u64::MAX);
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        Some(budgets.entry(window).or_insert_with(|| Budget::new(limit.saturating_sub(used))).clone())
    }

    fn known_budget(&self, window: WindowId) -> Option<Budget> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).get(&window).cloned()
    }

    /// Writes down what a channel has moved, so that other nodes and later sessions know.
    pub(crate) async fn note_files(&self, session: &Arc<Session>) {
        let bytes = session.take_moved();
        if bytes == 0 {
            return;
        }
        let act = audit::Act::system("gateway", self.clock.now());
        if let Err(e) = self.store.add_file_bytes(&act, session.grant().window(), bytes).await {
            error!(session = %session.id(), error = %e, "the bytes of files moved could not be noted");
        }
    }
}

/// The policies as they stand now, asked for one session's files.
struct LivePolicy {
    session: Arc<Session>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl FilePolicy for LivePolicy {
    fn looks(&self) -> bool {
        self.snapshots.borrow().policies.look_at_files()
    }

    fn looks_at_sizes(&self) -> bool {
        self.snapshots.borrow().policies.look_at_sizes()
    }

    fn ask(&self, act: Act, path: &str) -> Result<(), String> {
        let request = match act {
            Act::Read => ChannelRequest::FileRead { path },
            Act::Write { size } => ChannelRequest::FileWrite { path, size },
        };
        let snapshot = self.snapshots.borrow().clone();
        match self.session.grant().decide_channel(&snapshot, request, self.session.now()) {
            ChannelDecision::Permit(_) => Ok(()),
            ChannelDecision::Deny { reasons, .. } => Err(reasons.join("; ")),
        }
    }
}

/// Whether data may go in, and out, by the conduits by which the person comes.
pub(crate) fn ways_of(snapshot: &Snapshot, grant: &Grant) -> (bool, bool) {
    ways(&directions(snapshot, grant))
}

/// Whether data may go in, and out, by conduits of these directions.
fn ways(directions: &[Direction]) -> (bool, bool) {
    let passes = |way| directions.iter().any(|d| *d == Direction::Both || *d == way);
    (passes(Direction::In), passes(Direction::Out))
}

/// Directions of the conduits by which the person comes.
fn directions(snapshot: &Snapshot, grant: &Grant) -> Vec<Direction> {
    let site = &snapshot.site;
    let (Some(zone), Some(asset)) = (site.zone_of(grant.source()), site.asset(&grant.account().asset)) else {
        return Vec::new();
    };
    site.conduits_to(zone, asset, grant.protocol()).map(|c| c.direction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_the_ways_of_all_conduits_together() {
        for (directions, ways_of_them) in [
            ([Direction::In].as_slice(), (true, false)),
            (&[], (false, false)),
            (&[Direction::Out, Direction::Out], (false, true)),
            (&[Direction::In, Direction::Out], (true, true)),
            (&[Direction::Both], (true, true)),
        ] {
            assert_eq!(ways(directions), ways_of_them, "{directions:?}");
        }
    }
}
