use proptest::prelude::*;

use super::*;
use crate::fixture::{NOON, name, rng};

fn here() -> IpAddr {
    "10.9.1.1".parse().unwrap()
}

fn window() -> WindowId {
    WindowId::new(NOON, &mut rng(1))
}

fn vera() -> Enrolled {
    Enrolled {
        user: name("vera"),
        active: true,
        keys: BTreeSet::from(["SHA256:k1".to_owned()]),
        has_second_factor: true,
        remembered: vec![],
    }
}

fn login(enrolled: Option<Enrolled>) -> LoginMachine {
    LoginMachine::new(
        enrolled,
        here(),
        "SSH-2.0-OpenSSH_10.0",
        LoginRules { remember_seconds: 600, ..LoginRules::default() },
    )
}

fn key(fingerprint: &str) -> Event {
    Event::Key { fingerprint: fingerprint.to_owned(), user_verified: None }
}

const CODE_NEXT: Step = Step::Continue { methods: SECOND, partial: true };
const AGAIN: Step = Step::Continue { methods: FIRST, partial: false };

fn accepted(step: Step) -> LoggedIn {
    match step {
        Step::Accept(who) => *who,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_or_a_password_and_then_a_code() {
    for (event, kind) in
        [(key("SHA256:k1"), DeviceKind::Key), (Event::Password { ok: true }, DeviceKind::Password)]
    {
        let mut l = login(Some(vera()));
        assert_eq!(l.handle(event, NOON), CODE_NEXT);
        assert_eq!(l.handle(Event::ReadyForCode, NOON), Step::AskCode { prompt: CODE_PROMPT });
        let wrong = Step::Continue { methods: SECOND, partial: false };
        assert_eq!(l.handle(Event::Code(CodeCheck::Wrong), NOON), wrong);
        let who = accepted(l.handle(Event::Code(CodeCheck::Totp), NOON));
        assert_eq!((who.user, who.device.kind), (name("vera"), kind));
        assert_eq!(who.factors.second.unwrap().kind, SecondFactorKind::Totp);
        assert_eq!(l.handle(Event::Password { ok: true }, NOON), Step::Reject { message: TOO_MANY });
    }
}

#[test]
fn an_offered_key_proves_nothing() {
    let mut l = login(Some(vera()));
    assert_eq!(l.handle(Event::Offered { fingerprint: "SHA256:k1".to_owned() }, NOON), Step::Prove);
    let not_yet = l.handle(Event::Code(CodeCheck::Totp), NOON);
    assert_eq!(not_yet, AGAIN);
    assert_eq!(l.last_failure(), Some(Failure::OutOfTurn));
    for _ in 0..31 {
        let _step = l.handle(Event::Offered { fingerprint: "SHA256:x".to_owned() }, NOON);
    }
    assert_eq!(l.attempts_left(), 5, "offers are no attempts");
    assert_eq!(
        l.handle(Event::Offered { fingerprint: "SHA256:x".to_owned() }, NOON),
        Step::Reject { message: TOO_MANY }
    );
}

#[test]
fn a_security_key_that_verified_its_user_is_both_factors_and_a_touch_is_one() {
    let sk = |user_verified| Event::Key {
        fingerprint: "SHA256:k1".to_owned(),
        user_verified: Some(user_verified),
    };
    let who = accepted(login(Some(vera())).handle(sk(true), NOON));
    assert_eq!(who.device.kind, DeviceKind::SkKey);
    assert_eq!(who.factors.second.unwrap().kind, SecondFactorKind::SkUserVerified);
    assert_eq!(login(Some(vera())).handle(sk(false), NOON), CODE_NEXT);
    assert_eq!(login(None).handle(sk(true), NOON), AGAIN);
}

#[test]
fn a_certificate_is_for_its_person_its_time_and_its_addresses() {
    let certificate = || VerifiedCertificate {
        key_fingerprint: "SHA256:c".to_owned(),
        principals: BTreeSet::from(["vera".to_owned()]),
        valid_after: NOON.plus_seconds(-60),
        valid_before: NOON.plus_seconds(60),
        source_addresses: vec!["10.9.0.0/16".to_owned()],
        user_verified: None,
    };
    let step = |change: &dyn Fn(&mut VerifiedCertificate)| {
        let mut c = certificate();
        change(&mut c);
        login(Some(vera())).handle(Event::Certificate(c), NOON)
    };
    assert_eq!(step(&|_| {}), CODE_NEXT);
    assert_eq!(step(&|c| c.principals = BTreeSet::from(["emil".to_owned()])), AGAIN);
    assert_eq!(step(&|c| c.principals.clear()), AGAIN);
    assert_eq!(step(&|c| c.valid_before = NOON), AGAIN);
    assert_eq!(step(&|c| c.valid_after = NOON.plus_seconds(1)), AGAIN);
    assert_eq!(step(&|c| c.source_addresses = vec!["192.0.2.0/24".to_owned()]), AGAIN);
    assert_eq!(step(&|c| c.source_addresses = vec!["nonsense".to_owned()]), AGAIN);
}

#[test]
fn a_remembered_factor_counts_for_the_same_key_address_and_time_only() {
    let remembered = Remembered {
        at: NOON.plus_seconds(-599),
        key_fingerprint: "SHA256:k1".to_owned(),
        source: here(),
        window: window(),
    };
    let step = |change: &dyn Fn(&mut Remembered), event: Event| {
        let mut r = remembered.clone();
        change(&mut r);
        login(Some(Enrolled { remembered: vec![r], ..vera() })).handle(event, NOON)
    };
    let who = accepted(step(&|_| {}, key("SHA256:k1")));
    let second = who.factors.second.unwrap();
    assert_eq!((second.kind, second.at), (SecondFactorKind::Remembered, NOON.plus_seconds(-599)));
    assert_eq!(second.windows, BTreeSet::from([window()]));
    assert_eq!(step(&|r| r.at = NOON.plus_seconds(-600), key("SHA256:k1")), CODE_NEXT);
    assert_eq!(step(&|r| r.at = NOON.plus_seconds(1), key("SHA256:k1")), CODE_NEXT);
    assert_eq!(step(&|r| r.source = "10.9.1.2".parse().unwrap(), key("SHA256:k1")), CODE_NEXT);
    assert_eq!(step(&|r| r.key_fingerprint = "SHA256:k2".to_owned(), key("SHA256:k1")), CODE_NEXT);
    assert_eq!(step(&|_| {}, Event::Password { ok: true }), CODE_NEXT);
}

#[test]
fn who_has_no_second_factor_is_told_after_the_first_and_gets_no_further() {
    let mut l = login(Some(Enrolled { has_second_factor: false, ..vera() }));
    assert_eq!(l.handle(key("SHA256:k1"), NOON), Step::Reject { message: NO_SECOND_FACTOR });
}

#[test]
fn client_versions_are_made_safe() {
    let l = LoginMachine::new(
        None,
        here(),
        &format!("SSH-2.0-\u{1b}[2J\u{202e}{}", "x".repeat(500)),
        LoginRules::default(),
    );
    assert_eq!(l.client_version.chars().count(), LONGEST_CLIENT);
    assert!(!l.client_version.contains(['\u{1b}', '\u{202e}']));
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Offered { fingerprint: "SHA256:k1".to_owned() }),
        Just(Event::Offered { fingerprint: "SHA256:other".to_owned() }),
        Just(key("SHA256:k1")),
        Just(key("SHA256:other")),
        any::<bool>().prop_map(|ok| Event::Password { ok }),
        Just(Event::ReadyForCode),
        prop_oneof![Just(CodeCheck::Totp), Just(CodeCheck::Recovery), Just(CodeCheck::Wrong)]
            .prop_map(Event::Code),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn nobody_gets_in_without_both_factors_in_order(events in events()) {
        let mut l = login(Some(vera()));
        let mut first = false;
        for event in events {
            let proves_first = matches!(&event, Event::Key { fingerprint, .. } if fingerprint == "SHA256:k1")
                || event == Event::Password { ok: true };
            let proves_second = matches!(event, Event::Code(CodeCheck::Totp | CodeCheck::Recovery));
            let step = l.handle(event, NOON);
            prop_assert!(!matches!(step, Step::Accept(_)) || (first && proves_second));
            first |= proves_first;
        }
    }

    #[test]
    fn an_unknown_or_inactive_name_looks_like_a_known_one_with_wrong_proofs(events in events()) {
        // For the known one every proof is wrong; the unknown one may send what it likes.
        let wrong = |e: &Event| match e {
            Event::Offered { .. } => Event::Offered { fingerprint: "SHA256:other".to_owned() },
            Event::Key { .. } => key("SHA256:other"),
            Event::Password { .. } => Event::Password { ok: false },
            other => other.clone(),
        };
        let mut known = login(Some(vera()));
        let mut unknown = login(None);
        let mut inactive = login(Some(Enrolled { active: false, ..vera() }));
        for event in events {
            let expected = known.handle(wrong(&event), NOON);
            prop_assert_eq!(&unknown.handle(event.clone(), NOON), &expected);
            prop_assert_eq!(&inactive.handle(event, NOON), &expected);
        }
    }

    #[test]
    fn attempts_are_bounded(events in prop::collection::vec(any::<bool>(), 6..50)) {
        let mut l = login(Some(vera()));
        for (i, _) in events.iter().enumerate() {
            let step = l.handle(Event::Password { ok: false }, NOON);
            prop_assert_eq!(matches!(step, Step::Reject { .. }), i >= 5);
        }
        let late = l.handle(Event::Password { ok: true }, NOON);
        prop_assert_eq!(late, Step::Reject { message: TOO_MANY });
    }
}
