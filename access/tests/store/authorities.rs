//! Authorities and revocations, as several processes change them.

use cofferdam_access::{
    audit::AuditKind,
    authority::{Stage, Which},
    store::{AuditFilter, NewAuthority, StoreError},
};
use cofferdam_vault::Purpose;

use crate::support::{NOW, TestDb, keys, system};

on_both!(
    an_authority_is_replaced_in_its_order_and_no_other,
    a_switch_late_in_the_overlap_leaves_every_certificate_its_life,
    a_successor_in_wrong_hands_is_given_up_and_the_present_one_goes_on,
    a_revoked_certificate_is_listed_with_who_and_why,
    of_two_processes_that_rotate_one_is_refused,
);

const DAY: i64 = 86_400;

fn new(id: &str) -> NewAuthority {
    NewAuthority {
        purpose: Purpose::User,
        id: id.into(),
        public_key: format!("ssh-ed25519 {id}"),
        sealed: b"sealed".to_vec(),
        overlap_seconds: 30 * DAY,
        signs_from: None,
    }
}

fn later(days: i64) -> cofferdam_access::audit::Act {
    let mut act = system();
    act.at = NOW.plus_seconds(days * DAY);
    act
}

async fn an_authority_is_replaced_in_its_order_and_no_other(db: TestDb) {
    let store = db.store().await;
    let refused = store.rotate_authority(&later(0), &new("b")).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotFound { .. }), "{refused}");
    assert!(store.know_authority(&later(0), Purpose::User, "a", "ssh-ed25519 a").await.unwrap());
    assert!(!store.know_authority(&later(0), Purpose::User, "x", "ssh-ed25519 x").await.unwrap());
    assert!(store.switch_authority(&later(0), Purpose::User, NOW).await.is_err());
    assert!(store.finish_authority(&later(0), Purpose::User).await.is_err());
    store.rotate_authority(&later(0), &new("b")).await.unwrap();
    assert!(store.finish_authority(&later(40), Purpose::User).await.is_err(), "nothing signs in its place");
    store.switch_authority(&later(1), Purpose::User, NOW.plus_seconds(2 * DAY)).await.unwrap();
    let all = store.authorities().await.unwrap();
    let signs = |days| all.signing(Purpose::User, NOW.plus_seconds(days * DAY)).unwrap().id.clone();
    assert_eq!((signs(1), signs(2)), ("a".to_owned(), "b".to_owned()));
    assert_eq!(store.finish_authority(&later(3), Purpose::User).await.unwrap(), "a");
    // The next rotation may begin, and takes the private key of what ended away.
    store.rotate_authority(&later(4), &new("c")).await.unwrap();
    store.switch_authority(&later(5), Purpose::User, later(5).at).await.unwrap();
    store.rotate_authority(&later(60), &new("d")).await.unwrap();
    let all = store.authorities().await.unwrap();
    let kept: Vec<_> = all.0.iter().map(|a| (a.id.as_str(), a.sealed.is_some())).collect();
    assert_eq!(kept, [("a", false), ("b", false), ("c", true), ("d", true)]);
    let kinds = [AuditKind::AuthorityKnown, AuditKind::AuthorityRotated, AuditKind::AuthoritySwitched];
    for (kind, count) in kinds.into_iter().zip([1, 3, 2]) {
        let filter = AuditFilter { kind: Some(kind), ..AuditFilter::default() };
        assert_eq!(store.audit(&filter).await.unwrap().len(), count, "{kind}");
    }
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole());
}

async fn a_switch_late_in_the_overlap_leaves_every_certificate_its_life(db: TestDb) {
    let store = db.store().await;
    store.know_authority(&later(0), Purpose::User, "a", "ssh-ed25519 a").await.unwrap();
    store.rotate_authority(&later(0), &new("b")).await.unwrap();
    let until = store.switch_authority(&later(35), Purpose::User, later(35).at).await.unwrap();
    assert_eq!(until, later(36).at);
    let all = store.authorities().await.unwrap();
    assert_eq!(all.stage(&all.0[0], later(35).at), Stage::Retiring);
    assert_eq!(all.stage(&all.0[0], later(36).at), Stage::Finished);
    let timed = NewAuthority { signs_from: Some(later(100).at), overlap_seconds: DAY, ..new("c") };
    store.rotate_authority(&later(50), &timed).await.unwrap();
    let all = store.authorities().await.unwrap();
    assert_eq!(all.signing(Purpose::User, later(100).at).unwrap().id, "c");
    assert_eq!(all.0[1].trusted_until, Some(later(101).at));
}

async fn a_successor_in_wrong_hands_is_given_up_and_the_present_one_goes_on(db: TestDb) {
    let store = db.store().await;
    store.know_authority(&later(0), Purpose::User, "a", "ssh-ed25519 a").await.unwrap();
    assert!(store.revoke_authority(&later(0), Purpose::User, "a", "leaked").await.is_err(), "it signs");
    store.rotate_authority(&later(0), &new("b")).await.unwrap();
    store.revoke_authority(&later(1), Purpose::User, "b", "leaked").await.unwrap();
    let all = store.authorities().await.unwrap();
    assert_eq!(all.signing(Purpose::User, later(90).at).unwrap().id, "a");
    assert_eq!(all.krl(&[], later(1).at).authorities, ["ssh-ed25519 b"]);
    assert_eq!(all.published(Purpose::User, later(90).at).count(), 1);
    store.rotate_authority(&later(2), &new("c")).await.unwrap();
}

async fn a_revoked_certificate_is_listed_with_who_and_why(db: TestDb) {
    let store = db.store().await;
    for which in [Which::Serial(u64::MAX), Which::KeyId("cofferdam:s:vera".into())] {
        store.revoke_certificate(&later(0), Purpose::User, &which, "left the firm").await.unwrap();
        store.revoke_certificate(&later(0), Purpose::User, &which, "left the firm for good").await.unwrap();
    }
    let listed = store.revoked_certificates(later(1).at).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|r| r.reason == "left the firm for good" && !r.by.is_empty()));
    assert!(listed.iter().any(|r| r.which == Which::Serial(u64::MAX)));
    assert!(store.revoked_certificates(later(10).at).await.unwrap().is_empty());
}

async fn of_two_processes_that_rotate_one_is_refused(db: TestDb) {
    let (one, other) = (db.store().await, db.another().await);
    let act = later(0);
    let (a, b) = tokio::join!(
        one.know_authority(&act, Purpose::User, "a", "ssh-ed25519 a"),
        other.know_authority(&act, Purpose::User, "b", "ssh-ed25519 b"),
    );
    assert!(a.unwrap() ^ b.unwrap());
    let (c, d) = (new("c"), new("d"));
    let (c, d) = tokio::join!(one.rotate_authority(&act, &c), other.rotate_authority(&act, &d));
    assert!(c.is_ok() ^ d.is_ok(), "{c:?} {d:?}");
}
