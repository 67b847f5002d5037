//! Requests for windows that come from a live connection rather than from the command line.

use std::collections::BTreeSet;

use cofferdam_access::{
    audit::Act,
    ids::WindowId,
    policy::MenuEntry,
    site::AccountRef,
    window::{Limits, Operation, WindowRequest},
    windowing,
};

use super::Gateway;
use crate::ssh::connection::Identity;

impl Gateway {
    /// Asks for a window on one account, in the site's time zone. Says what happens next; the error says what is wrong.
    pub(crate) async fn ask_for_window(
        &self,
        who: &Identity,
        entry: &MenuEntry,
        purpose: &str,
        work_order: &str,
        start: &str,
        length: &str,
    ) -> Result<String, String> {
        let now = self.clock.now();
        let snapshot = self.snapshots.borrow().clone();
        let zone = snapshot.policies.zone().ok_or("the policies cannot be used at the moment")?;
        let start = zone.parse(start, now).map_err(|e| e.to_string())?;
        let end = zone
            .parse(&format!("+{}", length.trim().trim_start_matches('+')), start)
            .map_err(|e| e.to_string())?;
        let request = WindowRequest {
            id: WindowId::new(now, &mut rand::rng()),
            requested_by: who.user.clone(),
            requested_at: now,
            users: BTreeSet::from([who.user.clone()]),
            accounts: BTreeSet::from([AccountRef { asset: entry.asset.clone(), login: entry.login.clone() }]),
            forwards: BTreeSet::new(),
            operations: BTreeSet::from([Operation::View, Operation::Operate]),
            purpose: purpose.trim().to_owned(),
            work_order: work_order.trim().to_owned(),
            start,
            end,
            plant_states: BTreeSet::new(),
            limits: Limits::default(),
            extends: None,
        };
        let act = Act::person(&who.user, now).from(who.source.ip());
        let window = windowing::request(&self.store, &act, &snapshot.site, request)
            .await
            .map_err(|e| e.to_string())?;
        Ok(format!(
            "asked for, until {}: it opens when operations and security have both approved it",
            zone.show(window.effective_end())
        ))
    }
}
