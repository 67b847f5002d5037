//! Why, in plain sentences that say what to do next.

use super::{CompiledPolicies, facts::Question};
use crate::{
    local_time::time_left,
    site::Credential,
    window::{Phase, Window},
};

pub(crate) const fn credential(c: Credential) -> &'static str {
    match c {
        Credential::Password => "password",
        Credential::Key => "key",
        Credential::Certificate => "certificate",
        Credential::None => "none",
    }
}

/// What the deciding policies mean for this question; one sentence each. None decided: no policy permits it.
pub(crate) fn of_refusal(policies: &CompiledPolicies, ids: &[String], q: &Question<'_>) -> Vec<String> {
    if ids.is_empty() {
        return vec!["no policy permits this: ask an administrator".to_owned()];
    }
    ids.iter().map(|id| sentence(policies, id, q)).collect()
}

fn sentence(policies: &CompiledPolicies, id: &str, q: &Question<'_>) -> String {
    match id {
        super::WINDOW_REQUIRED => no_window(policies, q),
        "cofferdam:plant-state-must-be-allowed" => format!(
            "zone {} is in {}, and the approved window may not be used in that state: ask operations",
            q.thing.asset.zone,
            q.thing.plant.as_str()
        ),
        "cofferdam:conduit-required" => match q.person.zone {
            Some(from) => format!(
                "no conduit leads from zone {from} to {} by {}: connect from an allowed network, or ask an administrator",
                q.thing.asset.name,
                q.thing.protocol.as_str()
            ),
            None => format!(
                "your address {} is in no zone of this site: connect from an allowed network, or ask an administrator",
                q.person.source
            ),
        },
        "cofferdam:second-factor-required" if q.factor.present => {
            "the second factor is too old, or does not count for this window: connect again and give a code"
                .to_owned()
        }
        _ => policies
            .reason(id)
            .map_or_else(|| format!("policy {id} forbids it: ask an administrator"), str::to_owned),
    }
}

fn no_window(policies: &CompiledPolicies, q: &Question<'_>) -> String {
    let what = target(q);
    let who = &q.person.user.name;
    let show = |at| policies.zone().map_or_else(String::new, |z| z.show(at));
    let Some(window) = q.scope.window else {
        return format!("no window lets {who} use {what}: ask for one");
    };
    let id = window.id();
    match window.phase(q.now) {
        Phase::Upcoming => format!(
            "window {id} for {what} opens at {}, in {}: connect then",
            show(window.request.start),
            time_left(q.now, window.request.start)
        ),
        Phase::Requested => format!("window {id} for {what} waits for approval by {}", missing(window)),
        Phase::Ended => {
            format!("window {id} for {what} ended at {}: ask for a new one", show(window.effective_end()))
        }
        Phase::Unproven => format!(
            "window {id} is marked approved but its approvals do not prove it: ask for a new one, and tell an investigator"
        ),
        phase => format!("window {id} for {what} is {}: ask for a new one", phase.as_str()),
    }
}

/// The duties that have not approved yet.
fn missing(window: &Window) -> String {
    use crate::people::Duty::{Operations, Security};
    let missing: Vec<&str> = [Operations, Security]
        .into_iter()
        .filter(|d| window.approvals.iter().all(|a| a.duty != *d))
        .map(|d| d.as_str())
        .collect();
    missing.join(" and ")
}

/// The account or asset that is asked for, as people write it.
pub(crate) fn target(q: &Question<'_>) -> String {
    match q.thing.account {
        Some(a) => format!("{}@{}", a.login, a.asset),
        None => q.thing.asset.name.to_string(),
    }
}
