//! Decisions over random worlds.

use proptest::prelude::*;

use super::*;
use crate::people::Duty;

/// Everything that has to be so for a session to start, each of which may fail.
#[derive(Debug, Clone)]
struct Conditions {
    user_enabled: bool,
    asset_enabled: bool,
    account_enabled: bool,
    conduit: bool,
    zone_known: bool,
    approvals: usize,
    revoked: bool,
    named: bool,
    minutes: i64,
    plant: PlantState,
    states: Vec<PlantState>,
    factor_age: Option<i64>,
    site_permits_all: bool,
}

fn mostly() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.95)
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let site = (mostly(), mostly(), mostly(), mostly(), mostly(), any::<bool>());
    let approvals = prop_oneof![8 => Just(2usize), 1 => Just(1), 1 => Just(0)];
    let window = (approvals, prop::bool::weighted(0.1), mostly(), 30i64..210);
    let state = prop::sample::select(&PlantState::ALL[..]);
    let plant = (state.clone(), prop::collection::vec(state, 0..3));
    let age = prop_oneof![1 => Just(None), 8 => (-10i64..700).prop_map(Some)];
    (site, window, plant, age).prop_map(|(s, w, p, factor_age)| Conditions {
        user_enabled: s.0,
        asset_enabled: s.1,
        account_enabled: s.2,
        conduit: s.3,
        zone_known: s.4,
        site_permits_all: s.5,
        approvals: w.0,
        revoked: w.1,
        named: w.2,
        minutes: w.3,
        plant: p.0,
        states: p.1,
        factor_age,
    })
}

impl Conditions {
    fn world(&self) -> Snapshot {
        let mut site = site();
        user_mut(&mut site, "vera").disabled = !self.user_enabled;
        site.assets[0].disabled = !self.asset_enabled;
        site.accounts[1].disabled = !self.account_enabled;
        if !self.conduit {
            site.conduits.clear();
        }
        if self.site_permits_all {
            let text = "permit (principal, action, resource);".to_owned();
            site.policies = vec![PolicyFile { name: name("own"), text }];
        }
        let mut request = asked();
        request.plant_states = self.states.iter().copied().collect();
        if !self.named {
            request.users = [name("emil")].into();
        }
        let mut window = Window::requested(request);
        let digest = window.request.digest();
        let approvers = [("olga", Duty::Operations), ("sam", Duty::Security)];
        for (who, duty) in approvers.into_iter().take(self.approvals) {
            let _step = window.approve(&person(who), duty, digest, NOON).unwrap();
        }
        if self.revoked && self.approvals == 2 {
            window.revoke(&person("sam"), "x", NOON).unwrap();
        }
        let mut world = snapshot(site, vec![window]);
        world.plant.insert(name("cell-1"), self.plant);
        world
    }

    /// What the words of the product say, written down a second time.
    fn should_start(&self) -> bool {
        let state = if self.states.is_empty() {
            self.plant != PlantState::Emergency
        } else {
            self.states.contains(&self.plant)
        };
        let on_time = (60..180).contains(&self.minutes);
        let factor = self.factor_age.is_some_and(|a| (-5..SECOND_FACTOR_FRESH_SECONDS).contains(&a));
        self.user_enabled
            && self.asset_enabled
            && self.account_enabled
            && self.conduit
            && self.zone_known
            && self.approvals == 2
            && !self.revoked
            && self.named
            && on_time
            && state
            && factor
    }
}

proptest! {
    #[test]
    fn a_session_starts_exactly_when_every_condition_holds(c in conditions()) {
        let mut world = c.world();
        let now = NOON.plus_seconds(c.minutes * 60);
        world.taken_at = now;
        let mut request = access("pump-hmi", now);
        if !c.zone_known {
            request.source = SocketAddr::from(([192, 0, 2, 1], 1));
        }
        match (c.factor_age, request.factors.second.as_mut()) {
            (Some(age), Some(second)) => second.at = now.plus_seconds(-age),
            _ => request.factors.second = None,
        }
        let decision = ask(&world, &request, now);
        let record = decision.record();
        prop_assert_eq!(record.outcome == Outcome::Permit, c.should_start(), "{}", record);
        prop_assert!(!record.reasons.is_empty() && !record.policies.is_empty());
        if let Decision::Permit(grant, _) = &decision {
            prop_assert_eq!(grant.recheck(&world, now), Recheck::StillGood { not_after: asked().end });
        }
    }

    #[test]
    fn a_live_session_ends_as_soon_as_any_condition_fails(c in conditions()) {
        let first = world();
        let grant = grant(&first);
        let now = NOON.plus_seconds(c.minutes * 60);
        let mut world = c.world();
        // The approved text is the one that the grant holds, or it is another window.
        let same_text = c.named && c.states.is_empty();
        world.taken_at = now;
        let still = matches!(grant.recheck(&world, now), Recheck::StillGood { .. });
        // Its factor is bound, its address is its own, and the clock may not lie before the decision.
        let fixed = Conditions { factor_age: Some(0), zone_known: true, ..c };
        let in_order = now >= INSIDE.plus_seconds(-5);
        prop_assert_eq!(still, fixed.should_start() && same_text && in_order);
    }

    #[test]
    fn path_patterns_let_no_dots_through(path in "[/a.*]{0,40}", pattern in "/[/a.*]{0,40}") {
        let listed = crate::policy::channel::path_is_listed(&path, std::slice::from_ref(&pattern));
        if path.split('/').any(|n| n == "..") || !path.starts_with('/') {
            prop_assert!(!listed);
        }
    }

    #[test]
    fn no_forward_leaves_the_window(
        host in "[a-z0-9.:-]{0,16}|10\\.[12]\\.0\\.[5-9]|plc-[0-9]|pump-hmi|eng-ws",
        port in prop::sample::select(vec![22u16, 502, 503, 3389, 5432, 2022]),
    ) {
        let world = world();
        let grant = grant(&world);
        let wanted = ChannelRequest::Forward { host: &host, port };
        if let ChannelDecision::Permit(ChannelPermit::Forward(p)) = grant.decide_channel(&world, wanted, INSIDE) {
            let crate::policy::Way::Dial(dial) = p.way() else { panic!("{p:?}") };
            let (asset, dial) = (p.asset().as_str(), dial.to_string());
            let covered = matches!(
                (asset, dial.as_str()),
                ("plc-7", "10.1.0.7:502") | ("pump-hmi", "10.1.0.5:5432")
            );
            prop_assert!(covered, "{asset} {dial}");
        }
    }
}
