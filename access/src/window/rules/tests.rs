use proptest::prelude::*;

use super::*;
use crate::{
    fixture::{NOON, account, approved, asked, name, person, rng, site},
    window::text::START_SLACK_SECONDS,
};

#[test]
fn two_people_of_two_duties_open_a_window_and_nothing_less_does() {
    let mut w = Window::requested(asked());
    let digest = w.request.digest();
    assert_eq!(w.phase(w.request.start), Phase::Requested);
    let first = w.approve(&person("olga"), Duty::Operations, digest, NOON).unwrap();
    assert_eq!(first, ApprovalStep::Waits { missing: Duty::Security });
    assert_eq!(w.phase(w.request.start), Phase::Requested);
    assert_eq!(
        w.approve(&person("olga"), Duty::Operations, digest, NOON),
        Err(Refusal::AlreadyApproved(name("olga")))
    );
    assert_eq!(
        w.approve(&person("otto"), Duty::Operations, digest, NOON),
        Err(Refusal::DutyAlreadyApproved(Duty::Operations))
    );
    assert_eq!(
        w.approve(&person("otto"), Duty::Security, digest, NOON),
        Err(Refusal::DutyNotHeld { who: name("otto"), duty: Duty::Security })
    );
    assert_eq!(
        w.approve(&person("ada"), Duty::Administrator, digest, NOON),
        Err(Refusal::NotAnApprovingDuty(Duty::Administrator))
    );
    assert_eq!(w.approve(&person("sam"), Duty::Security, digest, NOON).unwrap(), ApprovalStep::Approved);
    assert_eq!(w.phase(NOON), Phase::Upcoming);
    assert_eq!(w.phase(w.request.start), Phase::Open);
    assert_eq!(w.phase(w.request.end), Phase::Ended);
}

#[test]
fn a_remark_is_kept_with_the_approval_and_changes_nothing_of_what_is_approved() {
    let mut w = Window::requested(asked());
    let digest = w.request.digest();
    let olga = person("olga");
    for wrong in ["x".repeat(501), "two\nlines".into(), "turned \u{202e}".into(), "\u{1b}[2J".into()] {
        let refusal = w.approve_saying(&olga, Duty::Operations, digest, &wrong, NOON).unwrap_err();
        assert!(matches!(refusal, Refusal::Reason(_)), "{wrong:?}: {refusal}");
    }
    assert!(w.approvals.is_empty());
    let _step = w.approve_saying(&olga, Duty::Operations, digest, "  mind valve 7 ", NOON).unwrap();
    let _step = w.approve_saying(&person("sam"), Duty::Security, digest, " ", NOON).unwrap();
    let remarks: Vec<Option<&str>> = w.approvals.iter().map(|a| a.remark.as_deref()).collect();
    assert_eq!(remarks, [Some("mind valve 7"), None]);
    assert!(w.is_proven() && w.request.digest() == digest);
}

#[test]
fn one_person_with_both_duties_counts_once() {
    let mut w = Window::requested(asked());
    let digest = w.request.digest();
    let _step = w.approve(&person("both"), Duty::Operations, digest, NOON).unwrap();
    assert!(w.approve(&person("both"), Duty::Security, digest, NOON).is_err());
    assert!(!w.is_proven());
}

#[test]
fn requesters_and_users_of_a_window_do_not_approve_it() {
    for approver in ["olga", "sam"] {
        let mut own = asked();
        own.requested_by = name(approver);
        let mut used = asked();
        used.users.insert(name(approver));
        for request in [own, used] {
            let mut w = Window::requested(request);
            let digest = w.request.digest();
            let duty = if approver == "olga" { Duty::Operations } else { Duty::Security };
            let refusal = w.approve(&person(approver), duty, digest, NOON).unwrap_err();
            assert_eq!(refusal, Refusal::OwnWindow(name(approver)));
        }
    }
}

#[test]
fn a_changed_text_or_a_forged_row_opens_nothing() {
    let mut w = approved(asked(), NOON);
    w.request.accounts.insert(account("root@pump-hmi"));
    assert_eq!(w.phase(w.request.start), Phase::Unproven);
    let mut forged = Window::requested(asked());
    forged.standing = Standing::Approved;
    assert_eq!(forged.phase(forged.request.start), Phase::Unproven);
    let mut waiting = Window::requested(asked());
    let old = waiting.request.digest();
    waiting.request.end = waiting.request.end.plus_seconds(1);
    assert_eq!(waiting.approve(&person("olga"), Duty::Operations, old, NOON), Err(Refusal::OtherText));
}

#[test]
fn approvals_after_the_end_or_by_the_inactive_are_refused() {
    let mut w = Window::requested(asked());
    let digest = w.request.digest();
    let end = w.request.end;
    assert_eq!(w.phase(end), Phase::Lapsed);
    assert_eq!(w.approve(&person("olga"), Duty::Operations, digest, end), Err(Refusal::Ended));
    let mut gone = person("olga");
    gone.valid_until = Some(NOON);
    assert_eq!(w.approve(&gone, Duty::Operations, digest, NOON), Err(Refusal::NotActive(name("olga"))));
}

#[test]
fn refused_and_withdrawn_windows_stay_closed() {
    let mut w = Window::requested(asked());
    let digest = w.request.digest();
    assert!(matches!(w.refuse(&person("sam"), Duty::Security, " ", None, NOON), Err(Refusal::Reason(_))));
    w.refuse(&person("sam"), Duty::Security, "not today", None, NOON).unwrap();
    assert_eq!(w.approve(&person("olga"), Duty::Operations, digest, NOON), Err(Refusal::NotWaiting));
    assert_eq!(w.phase(w.request.start), Phase::Refused);

    let mut w = Window::requested(asked());
    assert_eq!(w.withdraw(&person("emil"), NOON), Err(Refusal::NotTheRequester(name("vera"))));
    w.withdraw(&person("vera"), NOON).unwrap();
    assert_eq!(w.phase(w.request.start), Phase::Withdrawn);
    let mut w = approved(asked(), NOON);
    assert_eq!(w.withdraw(&person("vera"), NOON), Err(Refusal::NotWaiting));
}

#[test]
fn revoking_ends_for_good_and_only_by_those_who_may() {
    let mut w = approved(asked(), NOON);
    assert_eq!(w.revoke(&person("emil"), "no", NOON), Err(Refusal::MayNotEnd(name("emil"))));
    w.revoke(&person("ada"), "incident 4", NOON).unwrap();
    assert_eq!(w.phase(w.request.start), Phase::Revoked);
    assert_eq!(w.revoke(&person("ada"), "again", NOON), Err(Refusal::Ended));
    let mut never = Window::requested(asked());
    assert_eq!(never.revoke(&person("olga"), "no", NOON), Err(Refusal::NotApproved));
}

#[test]
fn an_extension_is_the_same_work_with_fresh_approvals() {
    let w = approved(asked(), NOON);
    let now = w.request.start.plus_seconds(60);
    let id = WindowId::new(now, &mut rng(7));
    let later = w.request.end.plus_seconds(3600);
    let request = w.extension(id, &name("vera"), later, "not done".to_owned(), now).unwrap();
    assert_ne!(request.digest(), w.request.digest());
    w.validate_extension(&request, now).unwrap();
    request.validate(&site(), now).unwrap();
    let e = Window::requested(request.clone());
    assert_eq!(e.phase(now), Phase::Requested);
    let mut wider = request.clone();
    wider.accounts.insert(account("root@pump-hmi"));
    assert_eq!(w.validate_extension(&wider, now), Err(RequestError::NotAnExtension));
    let mut gap = request;
    gap.start = w.request.end.plus_seconds(1);
    assert_eq!(w.validate_extension(&gap, now), Err(RequestError::NotAnExtension));
    let mut short = w.clone();
    short.shorten(&person("sam"), now.plus_seconds(60), now).unwrap();
    assert_eq!(
        short.extension(id, &name("vera"), later, "x".to_owned(), now),
        Err(RequestError::NotExtendable)
    );
}

#[test]
fn coverage_says_what_is_missing() {
    let w = approved(asked(), NOON);
    let t = w.request.start;
    let operator = account("operator@pump-hmi");
    let at = |user: &str, target, op, now, plant| w.covers(&name(user), target, op, now, plant);
    let account_target = Target::Account(&operator);
    let production = PlantState::Production;
    assert_eq!(at("vera", account_target, Operation::Operate, t, production), Coverage::Covered);
    assert_eq!(at("vera", account_target, Operation::View, t, production), Coverage::Covered);
    assert_eq!(at("vera", account_target, Operation::Program, t, production), Coverage::OtherOperations);
    assert_eq!(at("emil", account_target, Operation::View, t, production), Coverage::OtherPeople);
    let root = account("root@pump-hmi");
    assert_eq!(at("vera", Target::Account(&root), Operation::View, t, production), Coverage::OtherTargets);
    assert_eq!(
        at("vera", account_target, Operation::View, NOON, production),
        Coverage::NotOpen(Phase::Upcoming)
    );
    assert_eq!(
        at("vera", account_target, Operation::View, t, PlantState::Emergency),
        Coverage::PlantState(PlantState::Emergency)
    );
    assert_eq!(at("vera", Target::Asset(&name("plc-7")), Operation::View, t, production), Coverage::Covered);
}

#[test]
fn requests_that_cannot_be_are_refused_with_what_to_change() {
    let ok = asked();
    ok.validate(&site(), NOON).unwrap();
    let with = |change: &dyn Fn(&mut WindowRequest)| {
        let mut r = asked();
        change(&mut r);
        r.validate(&site(), NOON).unwrap_err().to_string()
    };
    assert!(with(&|r| r.users.clear()).contains("no person"));
    assert!(with(&|r| r.accounts.clear()).contains("no account"));
    assert!(with(&|r| r.operations.clear()).contains("no operation"));
    assert!(with(&|r| r.purpose = " ".to_owned()).contains("purpose is empty"));
    assert!(with(&|r| r.purpose = "a\u{1b}[2J".to_owned()).contains("control characters"));
    assert!(with(&|r| r.purpose = "a\u{202e}b".to_owned()).contains("control characters"));
    assert!(with(&|r| r.purpose = "x".repeat(2001)).contains("longer than"));
    assert!(with(&|r| r.work_order = "a\nb".to_owned()).contains("work order"));
    assert!(with(&|r| r.end = r.start).contains("at or before its start"));
    assert!(with(&|r| r.start = NOON.plus_seconds(-START_SLACK_SECONDS - 1)).contains("in the past"));
    assert!(with(&|r| r.end = r.start.plus_seconds(8 * 86_400)).contains("site allows"));
    assert!(with(&|r| r.users = BTreeSet::from([name("nobody")])).contains("nobody"));
    assert!(with(&|r| r.requested_by = name("nobody")).contains("nobody"));
    assert!(with(&|r| r.accounts = BTreeSet::from([account("x@pump-hmi")])).contains("x@pump-hmi"));
    assert!(with(&|r| r.forwards = BTreeSet::from([name("nothing")])).contains("nothing"));
    assert!(with(&|r| r.limits.paths = vec!["srv/*".to_owned()]).contains("not absolute"));
    for pattern in ["/srv/../etc", "/srv//a", "/srv/", "/srv/x**.bin"] {
        let refused = with(&|r| r.limits.paths = vec![pattern.to_owned()]);
        assert!(refused.contains("an empty name, . or .., or ** inside a name"), "{pattern}: {refused}");
    }
    assert!(with(&|r| r.requested_at = NOON.plus_seconds(-9999)).contains("make it again"));
}

#[test]
fn the_canonical_text_is_stable() {
    let text = asked().canonical_text();
    let digest = asked().digest();
    assert_eq!(digest.to_string().parse::<super::super::RequestDigest>(), Ok(digest));
    assert_eq!("zz".parse::<super::super::RequestDigest>(), Err(Refusal::NotADigest));
    let id = asked().id;
    assert_eq!(
        text,
        format!(
            "cofferdam-window-request: 1\nid: {id}\nrequested-by: vera\n\
             requested-at: 2026-11-23T12:00:00Z 1795435200000000\nuser: vera\naccount: operator@pump-hmi\n\
             forward: plc-7\nforward: plc-9\noperation: operate\npurpose: \"replace the pump's drive\"\n\
             work-order: \"WO-17\"\nstart: 2026-11-23T13:00:00Z 1795438800000000\n\
             end: 2026-11-23T15:00:00Z 1795446000000000\nread-only-files: false\n"
        )
    );
}

/// One act of somebody on a window.
#[derive(Debug, Clone)]
enum Act {
    Approve { who: &'static str, duty: Duty, changed: bool },
    Shorten { who: &'static str, by: i64 },
    Revoke(&'static str),
    Withdraw(&'static str),
    Refuse(&'static str, Duty),
}

fn acts(people: &'static [&'static str], duties: &'static [Duty]) -> impl Strategy<Value = Vec<Act>> {
    let who = prop::sample::select(people);
    let duty = prop::sample::select(duties);
    let act = prop_oneof![
        5 => (who.clone(), duty.clone(), any::<bool>())
            .prop_map(|(who, duty, changed)| Act::Approve { who, duty, changed }),
        1 => (who.clone(), -10_000i64..10_000).prop_map(|(who, by)| Act::Shorten { who, by }),
        1 => who.clone().prop_map(Act::Revoke),
        1 => who.clone().prop_map(Act::Withdraw),
        1 => (who, duty).prop_map(|(w, d)| Act::Refuse(w, d)),
    ];
    prop::collection::vec(act, 0..24)
}

/// Does what is allowed of `acts`; refusals change nothing.
fn perform(w: &mut Window, acts: &[Act], now: Timestamp) {
    for act in acts {
        let before = w.clone();
        let done = match act {
            Act::Approve { who, duty, changed } => {
                let mut digest = w.request.digest();
                if *changed {
                    digest.0[0] ^= 1;
                }
                w.approve(&person(who), *duty, digest, now).is_ok()
            }
            Act::Shorten { who, by } => {
                let to = w.effective_end().plus_seconds(*by);
                w.shorten(&person(who), to, now).is_ok()
            }
            Act::Revoke(who) => w.revoke(&person(who), "r", now).is_ok(),
            Act::Withdraw(who) => w.withdraw(&person(who), now).is_ok(),
            Act::Refuse(who, duty) => w.refuse(&person(who), *duty, "r", None, now).is_ok(),
        };
        if !done {
            assert_eq!(*w, before, "a refused act changed the window");
        }
        assert!(w.effective_end() <= before.effective_end(), "an act moved the end later");
        assert_eq!(w.request, before.request);
    }
}

fn never_opens(w: &Window) -> bool {
    (0..4 * 3600).step_by(600).all(|s| w.phase(NOON.plus_seconds(s)) != Phase::Open)
}

const EVERY_DUTY: &[Duty] = &Duty::ALL;

proptest! {
    #[test]
    fn nothing_that_one_person_does_opens_a_window(
        pick in prop::sample::select(&["vera", "emil", "olga", "sam", "both", "ada"][..]),
        acts in acts(&["both"], EVERY_DUTY),
    ) {
        // The same acts, all by one person.
        let acts: Vec<Act> = acts.into_iter().map(|a| match a {
            Act::Approve { duty, changed, .. } => Act::Approve { who: pick, duty, changed },
            Act::Shorten { by, .. } => Act::Shorten { who: pick, by },
            Act::Revoke(_) => Act::Revoke(pick),
            Act::Withdraw(_) => Act::Withdraw(pick),
            Act::Refuse(_, d) => Act::Refuse(pick, d),
        }).collect();
        let mut w = Window::requested(asked());
        perform(&mut w, &acts, NOON);
        prop_assert!(never_opens(&w));
    }

    #[test]
    fn nothing_that_people_of_one_duty_do_opens_a_window(acts in acts(&["olga", "otto", "vera", "emil", "ada"], EVERY_DUTY)) {
        let mut w = Window::requested(asked());
        perform(&mut w, &acts, NOON);
        prop_assert!(never_opens(&w));
    }

    #[test]
    fn a_window_opens_only_as_its_approvals_prove(
        acts in acts(&["olga", "otto", "sam", "both", "vera", "emil", "ada"], EVERY_DUTY),
        by_vera in any::<bool>(),
    ) {
        let mut request = asked();
        if !by_vera { request.requested_by = name("olga"); request.users.insert(name("sam")); }
        let mut w = Window::requested(request);
        perform(&mut w, &acts, NOON);
        let people: BTreeSet<_> = w.approvals.iter().map(|a| a.by.clone()).collect();
        let duties: BTreeSet<_> = w.approvals.iter().map(|a| a.duty).collect();
        if !never_opens(&w) {
            prop_assert!(people.len() == 2 && duties.len() == 2);
            prop_assert!(!people.contains(&w.request.requested_by));
            prop_assert!(people.is_disjoint(&w.request.users));
        }
    }

    #[test]
    fn approvals_with_a_changed_text_never_open(field in 0usize..11, at in 0i64..3 * 3600) {
        let mut w = approved(asked(), NOON);
        let r = &mut w.request;
        match field {
            0 => r.id = WindowId::new(NOON, &mut rng(99)),
            1 => r.requested_by = name("emil"),
            2 => { r.users.insert(name("emil")); }
            3 => { r.accounts.insert(account("root@pump-hmi")); }
            4 => { r.forwards.insert(name("eng-ws")); }
            5 => { r.operations.insert(Operation::Program); }
            6 => r.purpose.push('x'),
            7 => r.end = r.end.plus_seconds(1),
            8 => r.start = r.start.plus_seconds(-1),
            9 => { r.plant_states.insert(PlantState::Emergency); }
            _ => r.limits.paths.push("/".to_owned()),
        }
        prop_assert_ne!(w.phase(NOON.plus_seconds(at)), Phase::Open);
    }

    #[test]
    fn open_lies_exactly_between_start_and_effective_end(offset in -100_000_000_000i64..100_000_000_000, cut in 1i64..7_200) {
        let mut w = approved(asked(), NOON);
        w.shorten(&person("sam"), w.request.end.plus_seconds(-cut), NOON).unwrap();
        let now = Timestamp(NOON.0 + offset);
        let inside = now >= w.request.start && now < w.request.end.plus_seconds(-cut);
        prop_assert_eq!(w.phase(now) == Phase::Open, inside);
    }

    #[test]
    fn no_free_text_poses_as_another_field(purpose in "[a-z\n:\"\\\\ ]{0,40}", order in "[a-z\n:\"\\\\ ]{0,40}") {
        let mut a = asked();
        a.purpose = purpose.clone();
        a.work_order = order.clone();
        prop_assert_eq!(a.canonical_text().lines().count(), asked().canonical_text().lines().count());
        let mut b = asked();
        b.purpose = order.clone();
        b.work_order = purpose.clone();
        prop_assert_eq!(a.digest() == b.digest(), purpose == order);
    }
}
