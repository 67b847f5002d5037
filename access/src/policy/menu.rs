//! What is open to a person, and what they may ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    compiled::Verdict,
    facts::{Act, Freshness, Person, Question, Scope, Thing},
};
use crate::{
    clock::Timestamp,
    decision::{Device, DeviceKind, Factors, Observed},
    ids::{Login, Name, WindowId},
    site::{AccountRef, Protocol},
    snapshot::Snapshot,
    window::{Phase, Target},
};

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MenuState {
    /// May be used now.
    Open {
        /// By which window.
        window: WindowId,
        /// Until when, extensions included.
        until: Timestamp,
    },
    /// A window is approved and begins later.
    Upcoming {
        /// Which.
        window: WindowId,
        /// When it begins.
        from: Timestamp,
        /// When it ends.
        until: Timestamp,
    },
    /// A window waits for approvals.
    Waiting {
        /// Which.
        window: WindowId,
    },
    /// There is no window: it may be asked for.
    MayAsk,
    /// There is a window, but something else stands in the way now (plant state, policy): see the decision's reasons.
    Blocked {
        /// Which.
        window: WindowId,
    },
}

/// One account that a person may use, or may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    /// The asset.
    pub asset: Name,
    /// What people call it; may be empty.
    pub title: String,
    /// The account.
    pub login: Login,
    /// Whether it is the account used when none is named.
    pub default: bool,
    /// By which protocol.
    pub protocol: Protocol,
    /// Where it stands.
    pub state: MenuState,
}

/// Everything that a conduit lets `user` reach from `source`: what is open first, then what is coming, waiting, to be
/// asked for, and blocked; by name within each. Empty for people unknown or not active, and while policies cannot be
/// used. A second factor is taken for granted: the decision at the start of the session asks for it.
pub fn reachable(snapshot: &Snapshot, user: &Name, source: IpAddr, now: Timestamp) -> Vec<MenuEntry> {
    let site = &snapshot.site;
    let Some(user) = site.user(user).filter(|u| u.is_active(now)) else { return Vec::new() };
    if snapshot.policies.problem().is_some() {
        return Vec::new();
    }
    let device = Device {
        key_fingerprint: None,
        kind: DeviceKind::Key,
        user_verified: false,
        client_version: String::new(),
    };
    let factors = Factors { first: DeviceKind::Key, second: None };
    let observed = Observed::default();
    let person = Person::new(snapshot, user, source, &device, &factors, &observed, now);
    let Some(from) = person.zone else { return Vec::new() };
    let assets: BTreeMap<&Name, _> = site.assets.iter().map(|a| (&a.name, a)).collect();
    // Which windows could matter is settled once, so that a site of a thousand assets costs no product of both.
    let named: BTreeSet<&AccountRef> = snapshot
        .windows
        .iter()
        .filter(|w| w.request.users.contains(&user.name))
        .flat_map(|w| &w.request.accounts)
        .collect();
    let mut entries = Vec::new();
    for account in site.accounts.iter().filter(|a| !a.disabled) {
        let Some(asset) = assets.get(&account.asset).filter(|a| !a.disabled) else { continue };
        let reference = AccountRef { asset: asset.name.clone(), login: account.login.clone() };
        let default =
            account.default || site.default_account(&asset.name).is_some_and(|d| d.login == account.login);
        for endpoint in &asset.endpoints {
            if site.conduits_to(from, asset, endpoint.protocol).next().is_none() {
                continue;
            }
            let state = if named.contains(&reference) {
                let thing = Thing::new(snapshot, person.zone, asset, Some(account), endpoint.protocol);
                let target = Target::Account(&reference);
                let scope = Scope::best(snapshot, &user.name, target, thing.plant, |_| false, now);
                let factor = Freshness { present: true, fresh: true, age_seconds: 0 };
                state(snapshot, &Question { act: Act::Connect, person, thing, scope, factor, now })
            } else {
                MenuState::MayAsk
            };
            entries.push(MenuEntry {
                asset: asset.name.clone(),
                title: asset.title.clone(),
                login: account.login.clone(),
                default,
                protocol: endpoint.protocol,
                state,
            });
        }
    }
    entries.sort_by(|a, b| key(a).cmp(&key(b)));
    entries
}

fn key(e: &MenuEntry) -> (u8, &Name, bool, &Login, Protocol) {
    let rank = match e.state {
        MenuState::Open { .. } => 0,
        MenuState::Upcoming { .. } => 1,
        MenuState::Waiting { .. } => 2,
        MenuState::Blocked { .. } => 3,
        MenuState::MayAsk => 4,
    };
    (rank, &e.asset, !e.default, &e.login, e.protocol)
}

fn state(snapshot: &Snapshot, q: &Question<'_>) -> MenuState {
    let Some(window) = q.scope.window else { return MenuState::MayAsk };
    let id = window.id();
    if q.scope.open {
        return match snapshot.policies.ask(q) {
            Verdict::Allow(_proof, _) => MenuState::Open { window: id, until: q.scope.end },
            _ => MenuState::Blocked { window: id },
        };
    }
    match window.phase(q.now) {
        Phase::Upcoming => MenuState::Upcoming { window: id, from: window.request.start, until: q.scope.end },
        Phase::Requested => MenuState::Waiting { window: id },
        _ => MenuState::MayAsk,
    }
}
