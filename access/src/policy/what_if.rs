//! Questions that somebody asks before anybody connects: could this person reach that account, then and from there.
//! Nothing is opened by asking, and the grant that a yes would give is dropped.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::decide;
use crate::{
    clock::Timestamp,
    decision::{
        AccessRequest, DecisionRecord, Device, DeviceKind, Factors, Observed, SecondFactor, SecondFactorKind,
    },
    ids::{Login, Name, SessionId},
    site::{PlantState, Protocol},
    snapshot::Snapshot,
};

/// A question. The windows are those of the picture that it is put to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIf {
    /// Who.
    pub user: Name,
    /// To which asset.
    pub asset: Name,
    /// As which account; none: the asset's default.
    pub login: Option<Login>,
    /// By which protocol.
    pub protocol: Protocol,
    /// From which address.
    pub source: IpAddr,
    /// When.
    pub at: Timestamp,
    /// The plant's state in the asset's zone then; none: as it is.
    pub plant_state: Option<PlantState>,
    /// How the first factor is proved.
    pub first: DeviceKind,
    /// How long before a second factor is given, seconds; none: there is none.
    pub second_age: Option<i64>,
}

/// Answers as policy would decide: the record says the outcome, the reasons and the policies that decided.
pub fn what_if(snapshot: &Snapshot, question: &WhatIf, random: &mut dyn rand::RngCore) -> DecisionRecord {
    let mut world = snapshot.clone();
    world.taken_at = question.at;
    let zone = world.site.asset(&question.asset).map(|a| a.zone.clone());
    if let (Some(zone), Some(state)) = (zone, question.plant_state) {
        world.plant.insert(zone, state);
    }
    let second = question.second_age.map(|age| SecondFactor {
        kind: SecondFactorKind::Totp,
        at: question.at.plus_seconds(-age),
        windows: BTreeSet::new(),
    });
    let request = AccessRequest {
        session: SessionId::new(question.at, random),
        user: question.user.clone(),
        asset: question.asset.clone(),
        login: question.login.clone(),
        protocol: question.protocol,
        source: SocketAddr::new(question.source, 0),
        device: Device {
            key_fingerprint: None,
            kind: question.first,
            user_verified: false,
            client_version: "a question".to_owned(),
        },
        factors: Factors { first: question.first, second },
        observed: Observed::default(),
    };
    decide(&world, &request, question.at, random).record().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decision::Outcome,
        fixture::{NOON, approved, asked, name, rng, site, snapshot},
    };

    fn question() -> WhatIf {
        WhatIf {
            user: name("vera"),
            asset: name("pump-hmi"),
            login: None,
            protocol: Protocol::Ssh,
            source: [10, 9, 0, 1].into(),
            at: NOON.plus_seconds(60),
            plant_state: None,
            first: DeviceKind::Key,
            second_age: Some(0),
        }
    }

    #[test]
    fn an_approved_window_permits_and_its_absence_asks_for_one() {
        let with = snapshot(site(), vec![approved(asked(), NOON)]);
        let at = with.windows[0].request.start.plus_seconds(60);
        let asked_then = WhatIf { at, ..question() };
        assert_eq!(what_if(&with, &asked_then, &mut rng(1)).outcome, Outcome::Permit);
        let without = snapshot(site(), vec![]);
        let record = what_if(&without, &asked_then, &mut rng(1));
        assert_eq!(record.outcome, Outcome::NeedsWindow);
        assert!(record.policies.iter().any(|p| p == "cofferdam:window-required"));
    }

    #[test]
    fn a_supposed_state_of_the_plant_counts_for_the_assets_zone_only() {
        let world = snapshot(site(), vec![]);
        let supposed = WhatIf { plant_state: Some(PlantState::Emergency), ..question() };
        assert_eq!(what_if(&world, &supposed, &mut rng(1)).context.plant_state, Some(PlantState::Emergency));
        assert_eq!(
            what_if(&world, &question(), &mut rng(1)).context.plant_state,
            Some(PlantState::Production)
        );
    }

    #[test]
    fn without_a_second_factor_nobody_gets_in() {
        let world = snapshot(site(), vec![approved(asked(), NOON)]);
        let at = world.windows[0].request.start.plus_seconds(60);
        let record = what_if(&world, &WhatIf { at, second_age: None, ..question() }, &mut rng(1));
        assert_eq!(record.outcome, Outcome::Deny);
        assert!(
            record.policies.iter().any(|p| p.contains("second-factor-required")),
            "{:?}",
            record.policies
        );
    }
}
