//! Whether a person may see a secret now.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    compiled::{Allowed, Verdict},
    decide::unfit,
    facts::{Act, Freshness, Path, Person, Question, Scope, Thing},
    reasons,
};
use crate::{
    clock::Timestamp,
    decision::{Device, Factors, Observed},
    ids::Name,
    site::{AccountRef, Protocol},
    snapshot::Snapshot,
};

/// Who wants to see which secret, and what is known about it.
#[derive(Debug, Clone)]
pub struct ViewQuestion<'q> {
    /// Who.
    pub person: &'q Name,
    /// Whose secret.
    pub account: &'q AccountRef,
    /// The address they come from; none: the gateway's own command line.
    pub source: Option<IpAddr>,
    /// How they proved who they are.
    pub factors: &'q Factors,
    /// How many other people of as many duties agreed to exactly this.
    pub agreed: usize,
    /// For how long, seconds.
    pub seconds: i64,
}

/// Policy lets this person see this one secret. Only [`decide_view`] makes one; it cannot be copied, stored or built by
/// hand, so that nothing shows a secret without a decision.
///
/// ```compile_fail
/// fn copy(p: &cofferdam_access::policy::ViewPermit) -> cofferdam_access::policy::ViewPermit { p.clone() }
/// ```
#[derive(Debug)]
pub struct ViewPermit {
    pub(crate) person: Name,
    pub(crate) account: AccountRef,
    pub(crate) agreed: usize,
    pub(crate) seconds: i64,
    /// When the second factor was proved.
    pub(crate) proved_at: Timestamp,
    pub(crate) policies: Vec<String>,
    _proof: Allowed,
}

/// The answer to a [`ViewQuestion`].
#[must_use]
#[derive(Debug)]
pub enum ViewDecision {
    /// Allowed.
    Permit(ViewPermit),
    /// Refused.
    Deny {
        /// The policies that decided.
        policies: Vec<String>,
        /// Why, a sentence each.
        reasons: Vec<String>,
    },
}

/// Decides whether the secret may be shown at `now`.
pub fn decide_view(snapshot: &Snapshot, question: &ViewQuestion<'_>, now: Timestamp) -> ViewDecision {
    let deny = |policy: &str, reason: String| ViewDecision::Deny {
        policies: vec![policy.to_owned()],
        reasons: vec![reason],
    };
    if let Some((policy, reason)) = unfit(snapshot, now) {
        return deny(policy, reason);
    }
    let site = &snapshot.site;
    let Some(user) = site.user(question.person) else {
        let who = question.person;
        return deny(
            "structure:known-person",
            format!("{who} is not a person of this site: ask an administrator"),
        );
    };
    let named = site.account(question.account).zip(site.asset(&question.account.asset));
    let Some((account, asset)) = named else {
        let what = question.account;
        return deny("structure:known-account", format!("there is no account {what} here: check its name"));
    };
    let device = Device {
        key_fingerprint: None,
        kind: question.factors.first,
        user_verified: false,
        client_version: String::new(),
    };
    let source = question.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let observed = Observed::default();
    let person = Person::new(snapshot, user, source, &device, question.factors, &observed, now);
    // Nothing is connected to: neither a protocol nor a way there plays a part.
    let thing =
        Thing { path: Path::none(), ..Thing::new(snapshot, None, asset, Some(account), Protocol::Tcp) };
    let asked = Question {
        act: Act::ViewSecret { agreed: question.agreed, seconds: question.seconds },
        person,
        thing,
        scope: Scope::none(),
        factor: Freshness::just_proved(question.factors, now),
        now,
    };
    match snapshot.policies.ask(&asked) {
        Verdict::Broken(reason) => deny("structure:policies-usable", reason),
        Verdict::Deny(policies) => ViewDecision::Deny {
            reasons: reasons::of_refusal(&snapshot.policies, &policies, &asked),
            policies,
        },
        Verdict::Allow(proof, policies) => {
            // Cedar says yes only with a second factor; that there is one is checked all the same.
            let Some(second) = question.factors.second.as_ref().filter(|_| asked.factor.fresh) else {
                return deny(
                    "cofferdam:seeing-takes-a-fresh-factor",
                    "no second factor was proved".to_owned(),
                );
            };
            ViewDecision::Permit(ViewPermit {
                person: user.name.clone(),
                account: question.account.clone(),
                agreed: question.agreed,
                seconds: question.seconds,
                proved_at: second.at,
                policies,
                _proof: proof,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decision::{DeviceKind, SecondFactor, SecondFactorKind},
        fixture::{NOON, account, name, site, snapshot},
        site::{PolicyFile, Site},
    };

    /// The fixture's site, whose `root@pump-hmi` may be seen, changed by `change`.
    fn world(change: impl FnOnce(&mut Site)) -> Snapshot {
        let mut site = site();
        let root = site.accounts.iter_mut().find(|a| a.reference() == account("root@pump-hmi")).unwrap();
        root.credential = crate::site::Credential::Password;
        root.checkout = true;
        site.assets.iter_mut().for_each(|a| a.crown_jewel = false);
        change(&mut site);
        snapshot(site, vec![])
    }

    fn factors(age: i64, kind: SecondFactorKind) -> Factors {
        let second = SecondFactor { kind, at: NOON.plus_seconds(-age), windows: Default::default() };
        Factors { first: DeviceKind::Password, second: Some(second) }
    }

    /// `Ok` with nothing, or the policies that refuse.
    fn ask(world: &Snapshot, who: &str, factors: &Factors, agreed: usize) -> Result<(), String> {
        let (person, account) = (name(who), account("root@pump-hmi"));
        let question =
            ViewQuestion { person: &person, account: &account, source: None, factors, agreed, seconds: 3600 };
        match decide_view(world, &question, NOON) {
            ViewDecision::Permit(permit) => {
                assert_eq!((permit.person, permit.agreed), (person, agreed));
                Ok(())
            }
            ViewDecision::Deny { policies, reasons } => Err(format!("{policies:?} {reasons:?}")),
        }
    }

    #[test]
    fn nobody_sees_a_secret_unless_the_account_says_so_and_vendors_never() {
        let (fresh, all) = (factors(0, SecondFactorKind::Totp), "permit(principal, action, resource);");
        let own = |site: &mut Site| site.policies = vec![PolicyFile { name: name("own"), text: all.into() }];
        let shut = world(|site| {
            site.accounts.iter_mut().for_each(|a| a.checkout = false);
            own(site);
        });
        for who in ["vera", "emil", "olga", "sam", "ada", "nobody"] {
            let refused = ask(&shut, who, &fresh, 2).unwrap_err();
            assert!(who == "nobody" || refused.contains("where-the-account-says"), "{refused}");
        }
        let open = world(|_| ());
        for (who, may) in [("vera", false), ("emil", true), ("olga", true), ("ada", true), ("sam", false)] {
            assert_eq!(ask(&open, who, &fresh, 0).is_ok(), may, "{who}");
        }
        let wider = world(own);
        assert!(ask(&wider, "sam", &fresh, 0).is_ok(), "a site's own permit widens who");
        assert!(ask(&wider, "vera", &fresh, 0).unwrap_err().contains("outsiders"));
    }

    #[test]
    fn an_old_a_remembered_and_no_second_factor_show_nothing() {
        let open = world(|_| ());
        let none = Factors { first: DeviceKind::Password, second: None };
        let remembered = factors(0, SecondFactorKind::Remembered);
        for factors in
            [none, remembered, factors(301, SecondFactorKind::Totp), factors(-1, SecondFactorKind::Totp)]
        {
            let refused = ask(&open, "emil", &factors, 0).unwrap_err();
            assert!(refused.contains("fresh-factor"), "{refused}");
        }
        assert!(ask(&open, "emil", &factors(300, SecondFactorKind::Passkey), 0).is_ok());
    }

    #[test]
    fn a_crown_jewel_takes_two_others_whatever_a_site_permits() {
        let fresh = factors(0, SecondFactorKind::Totp);
        let jewel = world(|site| {
            site.assets.iter_mut().for_each(|a| a.crown_jewel = true);
            site.policies =
                vec![PolicyFile { name: name("own"), text: "permit(principal, action, resource);".into() }];
        });
        for agreed in [0, 1] {
            assert!(
                ask(&jewel, "emil", &fresh, agreed).unwrap_err().contains("crown-jewel-takes-two-others")
            );
        }
        assert!(ask(&jewel, "emil", &fresh, 2).is_ok());
    }

    #[test]
    fn a_site_takes_away_by_what_is_asked() {
        let fresh = factors(0, SecondFactorKind::Totp);
        let text = "forbid(principal, action == Action::\"view_secret\", resource) when { context.view_minutes > 30 };";
        let bounded = world(|s| s.policies = vec![PolicyFile { name: name("own"), text: text.into() }]);
        assert!(ask(&bounded, "emil", &fresh, 0).unwrap_err().contains("own:"));
        let asleep = world(|s| s.users.iter_mut().for_each(|u| u.disabled = true));
        assert!(ask(&asleep, "emil", &fresh, 0).unwrap_err().contains("person-must-be-active"));
        let shut = world(|s| s.accounts.iter_mut().for_each(|a| a.disabled = true));
        assert!(ask(&shut, "emil", &fresh, 0).unwrap_err().contains("resource-must-be-enabled"));
    }
}
