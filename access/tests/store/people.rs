use cofferdam_access::audit::{AuditEvent, AuditKind};
use cofferdam_access::store::{
    AuditFilter, CodeUse, Enrolment, EnrolmentOutcome, RememberedFactor, SecondFactorSetUp, StoreError,
    Tally, TallyKey,
};

use crate::support::{NOW, TestDb, account, at, by, name, system, with_site};

on_both!(
    one_code_works_once_across_two_nodes,
    an_earlier_step_never_works_after_a_later_one,
    a_code_of_somebody_without_second_factor_never_works,
    a_recovery_code_works_once_across_two_nodes,
    an_invitation_enrols_once,
    an_invitation_that_is_over_does_nothing,
    a_new_invitation_ends_the_one_before,
    failures_are_counted_per_key_and_forgotten,
    a_remembered_factor_counts_only_for_the_same_four_things,
    secrets_are_versioned_and_their_history_holds_no_value,
    nothing_secret_is_in_debug_or_audit,
);

fn used() -> AuditEvent {
    AuditEvent::new(AuditKind::SecondFactorUsed, "vera")
}

async fn one_code_works_once_across_two_nodes(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let vera = name("vera");
    stores[0].set_totp(&system(), &vera, b"sealed").await.unwrap();
    for step in 100..110 {
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..6 {
            let (store, vera) = (stores[i % 2].clone(), vera.clone());
            tasks.spawn(
                async move { store.use_totp_step(&system(), &vera, step, &[], used()).await.unwrap() },
            );
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(outcomes.iter().filter(|o| **o == CodeUse::Accepted).count(), 1, "step {step}");
    }
    let filter = |kind| AuditFilter { kind: Some(kind), ..AuditFilter::default() };
    assert_eq!(stores[0].audit(&filter(AuditKind::SecondFactorUsed)).await.unwrap().len(), 10);
    assert_eq!(stores[0].audit(&filter(AuditKind::SecondFactorReplayed)).await.unwrap().len(), 50);
}

async fn an_earlier_step_never_works_after_a_later_one(db: TestDb) {
    let store = db.store().await;
    let vera = name("vera");
    store.set_totp(&system(), &vera, b"sealed").await.unwrap();
    assert_eq!(store.use_totp_step(&system(), &vera, 8, &[], used()).await.unwrap(), CodeUse::Accepted);
    assert_eq!(store.use_totp_step(&system(), &vera, 7, &[], used()).await.unwrap(), CodeUse::Refused);
    // Also not when the credentials were removed and set up anew in between.
    store.remove_credentials(&system(), &vera).await.unwrap();
    assert_eq!(store.use_totp_step(&system(), &vera, 9, &[], used()).await.unwrap(), CodeUse::Refused);
    store.set_totp(&system(), &vera, b"sealed").await.unwrap();
    assert_eq!(store.use_totp_step(&system(), &vera, 8, &[], used()).await.unwrap(), CodeUse::Refused);
    assert_eq!(store.use_totp_step(&system(), &vera, 9, &[], used()).await.unwrap(), CodeUse::Accepted);
}

async fn a_code_of_somebody_without_second_factor_never_works(db: TestDb) {
    let store = db.store().await;
    let vera = name("vera");
    assert_eq!(store.use_totp_step(&system(), &vera, 8, &[], used()).await.unwrap(), CodeUse::Refused);
    store.set_password(&system(), &vera, "$argon2id$x").await.unwrap();
    assert_eq!(store.use_totp_step(&system(), &vera, 8, &[], used()).await.unwrap(), CodeUse::Refused);
}

async fn a_recovery_code_works_once_across_two_nodes(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let vera = name("vera");
    stores[0].set_recovery_codes(&system(), &vera, &["d1".into(), "d2".into()]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..6 {
        let (store, vera) = (stores[i % 2].clone(), vera.clone());
        tasks.spawn(
            async move { store.use_recovery_code(&system(), &vera, "d1", &[], used()).await.unwrap() },
        );
    }
    assert_eq!(tasks.join_all().await.iter().filter(|o| **o == CodeUse::Accepted).count(), 1);
    assert_eq!(stores[1].recovery_digests(&vera).await.unwrap(), ["d2"]);
    assert_eq!(stores[1].credentials(&vera).await.unwrap().unwrap().recovery_codes_left, 1);
    let unknown = stores[1].use_recovery_code(&system(), &vera, "d3", &[], used()).await.unwrap();
    assert_eq!(unknown, CodeUse::Refused);
}

fn enrolment() -> Enrolment<'static> {
    static CODES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["r1".into()]);
    Enrolment {
        password_hash: "$argon2id$hush",
        second: SecondFactorSetUp::Totp { sealed: b"hush", step: 5 },
        recovery_digests: &CODES,
    }
}

async fn an_invitation_enrols_once(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let vera = name("vera");
    stores[0].invite(&by("ada"), &vera, "inv", NOW.plus_seconds(60)).await.unwrap();
    let (a, b) = tokio::join!(async { stores[0].enrol(&at(1), "inv", &enrolment()).await.unwrap() }, async {
        stores[1].enrol(&at(1), "inv", &enrolment()).await.unwrap()
    });
    let won = |o: &EnrolmentOutcome| *o == EnrolmentOutcome::Enrolled(name("vera"));
    assert!(won(&a) != won(&b), "{a:?} {b:?}");
    let kept = stores[0].credentials(&vera).await.unwrap().unwrap();
    assert_eq!(kept.password_hash.as_deref().map(String::as_str), Some("$argon2id$hush"));
    assert_eq!((kept.totp_step, kept.enrolled_at), (5, Some(NOW.plus_seconds(1))));
    assert_eq!(stores[0].use_totp_step(&at(2), &vera, 5, &[], used()).await.unwrap(), CodeUse::Refused);
}

async fn an_invitation_that_is_over_does_nothing(db: TestDb) {
    let store = db.store().await;
    store.invite(&by("ada"), &name("vera"), "inv", NOW.plus_seconds(60)).await.unwrap();
    let late = store.enrol(&at(60), "inv", &enrolment()).await.unwrap();
    assert_eq!(late, EnrolmentOutcome::InvitationRefused);
    assert!(store.credentials(&name("vera")).await.unwrap().is_none());
    let wrong = store.enrol(&at(1), "other", &enrolment()).await.unwrap();
    assert_eq!(wrong, EnrolmentOutcome::InvitationRefused);
}

async fn a_new_invitation_ends_the_one_before(db: TestDb) {
    let store = db.store().await;
    store.invite(&by("ada"), &name("vera"), "one", NOW.plus_seconds(60)).await.unwrap();
    store.invite(&by("ada"), &name("vera"), "two", NOW.plus_seconds(60)).await.unwrap();
    assert!(store.invitation("one").await.unwrap().is_none());
    assert_eq!(store.invitation("two").await.unwrap().unwrap().person, name("vera"));
}

async fn failures_are_counted_per_key_and_forgotten(db: TestDb) {
    let store = db.store().await;
    let keys = [TallyKey::Source("192.0.2.1".into()), TallyKey::Account("nobody\0here".into())];
    let failed = || AuditEvent::new(AuditKind::LoginFailed, "nobody");
    store.note_failure(&at(0), &keys, 600, failed()).await.unwrap();
    store.note_failure(&at(10), &keys[..1], 600, failed()).await.unwrap();
    let seen = store.tallies(&keys).await.unwrap();
    let first = Tally { failures: 2, first_at: NOW, last_at: NOW.plus_seconds(10) };
    assert_eq!(seen, [Some(first), Some(Tally { failures: 1, first_at: NOW, last_at: NOW })]);
    // A long pause starts the count anew.
    store.note_failure(&at(1000), &keys[..1], 600, failed()).await.unwrap();
    assert_eq!(store.tallies(&keys[..1]).await.unwrap()[0].unwrap().failures, 1);
    // A code that works clears it.
    store.set_totp(&system(), &name("vera"), b"sealed").await.unwrap();
    let outcome = store.use_totp_step(&at(1001), &name("vera"), 3, &keys[..1], used()).await.unwrap();
    assert_eq!(outcome, CodeUse::Accepted);
    assert_eq!(store.tallies(&keys[..1]).await.unwrap(), [None]);
    // And what nobody touches for a day goes by itself.
    store.note_failure(&at(100_000), &keys[..1], 600, failed()).await.unwrap();
    assert_eq!(store.tallies(&keys[1..]).await.unwrap(), [None]);
}

async fn a_remembered_factor_counts_only_for_the_same_four_things(db: TestDb) {
    let store = db.store().await;
    let factor = RememberedFactor {
        person: name("vera"),
        device_key: "SHA256:abc".into(),
        source: "192.0.2.7".parse().unwrap(),
        window: None,
    };
    let until = NOW.plus_seconds(600);
    store.remember_factor(&by("vera"), &factor, until).await.unwrap();
    assert_eq!(store.remembered_until(&factor, NOW).await.unwrap(), Some(until));
    assert_eq!(store.remembered_until(&factor, until).await.unwrap(), None, "it ends by itself");
    let mut mapped = factor.clone();
    mapped.source = "::ffff:192.0.2.7".parse().unwrap();
    assert_eq!(store.remembered_until(&mapped, NOW).await.unwrap(), Some(until), "the same address");
    let window = cofferdam_access::ids::WindowId::new(NOW, &mut crate::support::rng());
    for other in [
        RememberedFactor { person: name("emil"), ..factor.clone() },
        RememberedFactor { device_key: "SHA256:abd".into(), ..factor.clone() },
        RememberedFactor { source: "192.0.2.8".parse().unwrap(), ..factor.clone() },
        RememberedFactor { window: Some(window), ..factor.clone() },
    ] {
        assert_eq!(store.remembered_until(&other, NOW).await.unwrap(), None, "{other:?}");
    }
    store.sweep(&at(601)).await.unwrap();
    store.remember_factor(&by("vera"), &factor, until).await.unwrap();
    store.set_totp(&system(), &name("vera"), b"new").await.unwrap();
    assert_eq!(store.remembered_until(&factor, NOW).await.unwrap(), None, "a new second factor ends it");
}

async fn secrets_are_versioned_and_their_history_holds_no_value(db: TestDb) {
    let store = with_site(&db).await;
    let root = account("root@pump-hmi");
    assert!(store.secret(&root).await.unwrap().is_none());
    let one = store.set_secret(&by("ada"), &root, b"hush-1").await.unwrap();
    let two = store.set_secret(&by("olga"), &root, b"hush-2").await.unwrap();
    assert_eq!((one, two), (1, 2));
    assert_eq!(store.secret(&root).await.unwrap().unwrap().sealed, b"hush-2");
    store.remove_secret(&by("ada"), &root).await.unwrap();
    assert!(store.secret(&root).await.unwrap().is_none());
    let four = store.set_secret(&by("ada"), &root, b"hush-4").await.unwrap();
    assert_eq!(four, 4, "versions never repeat");
    let actions: Vec<_> =
        store.secret_history(&root).await.unwrap().into_iter().map(|h| (h.version, h.by, h.action)).collect();
    let row = |v, by: &str, action: &str| (v, by.to_owned(), action.to_owned());
    assert_eq!(
        actions,
        [row(4, "ada", "set"), row(3, "ada", "removed"), row(2, "olga", "set"), row(1, "ada", "set")]
    );
    let unknown = store.set_secret(&by("ada"), &account("x@pump-hmi"), b"").await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
}

async fn nothing_secret_is_in_debug_or_audit(db: TestDb) {
    let store = with_site(&db).await;
    let vera = name("vera");
    let root = account("root@pump-hmi");
    store.invite(&by("ada"), &vera, "inv", NOW.plus_seconds(60)).await.unwrap();
    assert_eq!(
        store.enrol(&at(1), "inv", &enrolment()).await.unwrap(),
        EnrolmentOutcome::Enrolled(vera.clone())
    );
    store.set_secret(&by("ada"), &root, b"hush").await.unwrap();
    let mut shown = format!("{:?}{:?}", enrolment(), store);
    shown += &format!("{:?}", store.credentials(&vera).await.unwrap());
    shown += &format!("{:?}", store.secret(&root).await.unwrap());
    shown += &format!("{:?}", store.audit(&AuditFilter::default()).await.unwrap());
    let database = cofferdam_access::store::Database::Postgres("postgres://u:hush@h/d".into());
    shown += &format!("{database:?}");
    for secret in ["hush", &hex::encode("hush"), "104, 117, 115, 104", "inv\""] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
