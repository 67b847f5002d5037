//! Break-glass envelopes as the store knows them.

use cofferdam_access::{
    audit::AuditKind,
    ids::EnvelopeId,
    people::{Duty, User},
    site::{Rotation, Site},
    store::{AuditFilter, EnvelopeLabel, FindingFilter, Store, StoreError},
};
use cofferdam_vault::rotation::Reason;

use crate::support::{NOW, TestDb, account, at, by, checked, name, rng, site};

const ROOT: &str = "root@pump-hmi";

on_both!(
    an_envelope_is_outdated_once_the_secret_changes,
    opening_one_is_loud_and_the_change_follows_when_it_said,
    an_envelope_that_was_opened_elsewhere_is_told_and_changed_at_once,
    only_an_administrator_makes_one_of_the_secret_as_it_is,
);

async fn world(db: &TestDb, rotated: bool) -> Store {
    let store = db.store().await;
    let mut site: Site = site();
    let like = site.users.first().unwrap().clone();
    site.users.push(User {
        name: name("ada"),
        duties: [Duty::Administrator].into(),
        ssh_keys: vec![],
        ..like
    });
    if rotated {
        let root = site.accounts.iter_mut().find(|a| a.reference() == account(ROOT)).unwrap();
        root.rotation = Some(toml::from_str::<Rotation>("every_days = 30").unwrap());
    }
    let wanted = checked(site);
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&by("ada"), &wanted, &plan).await.unwrap();
    store.set_secret(&by("ada"), &account(ROOT), b"sealed").await.unwrap();
    store
}

fn label(version: u64) -> EnvelopeLabel {
    EnvelopeLabel {
        id: EnvelopeId::new(NOW, &mut rng()),
        account: account(ROOT),
        version,
        made_at: NOW,
        recipients: vec!["age1example".into()],
    }
}

async fn an_envelope_is_outdated_once_the_secret_changes(db: TestDb) {
    let store = world(&db, true).await;
    store.make_envelope(&by("ada"), &label(1)).await.unwrap();
    let kept = store.envelopes().await.unwrap();
    assert_eq!((kept.len(), kept[0].outdated, kept[0].made_by.as_str()), (1, false, "ada"));
    store.set_secret(&by("ada"), &account(ROOT), b"another").await.unwrap();
    assert!(store.envelopes().await.unwrap()[0].outdated);
    store.remove_secret(&by("ada"), &account(ROOT)).await.unwrap();
    assert!(store.envelopes().await.unwrap()[0].outdated);
}

async fn opening_one_is_loud_and_the_change_follows_when_it_said(db: TestDb) {
    let store = world(&db, true).await;
    let label = label(1);
    store.make_envelope(&by("ada"), &label).await.unwrap();
    store.open_envelope(&by("ada"), &label, NOW.plus_seconds(3600)).await.unwrap();
    let found = store.findings(&FindingFilter::default()).await.unwrap();
    assert_eq!((found[0].trigger.as_str(), found[0].severity.as_str()), ("envelope_opened", "critical"));
    assert!(found[0].text.contains("ada opened"), "{}", found[0].text);
    assert!(store.notifications_waiting().await.unwrap() > 0, "people and programs are told");
    assert!(store.change_opened_envelopes(&at(3599)).await.unwrap().is_empty());
    assert_eq!(store.change_opened_envelopes(&at(3600)).await.unwrap(), [account(ROOT)]);
    assert!(store.change_opened_envelopes(&at(3601)).await.unwrap().is_empty(), "once");
    let standing = store.rotation(&account(ROOT)).await.unwrap().unwrap();
    assert_eq!(standing.reason, Some(Reason::BreakGlass));
    let kept = store.envelopes().await.unwrap();
    assert_eq!(kept[0].opened_by.as_deref(), Some("ada"));
    let filter = AuditFilter { kind: Some(AuditKind::EnvelopeOpened), ..AuditFilter::default() };
    assert_eq!(store.audit(&filter).await.unwrap().len(), 1);
}

async fn an_envelope_that_was_opened_elsewhere_is_told_and_changed_at_once(db: TestDb) {
    let store = world(&db, false).await;
    store.make_envelope(&by("ada"), &label(1)).await.unwrap();
    assert_eq!(store.envelope_was_opened(&by("ada"), &account(ROOT), NOW).await.unwrap(), 1);
    let found = store.findings(&FindingFilter::default()).await.unwrap();
    assert!(found[0].text.contains("by hand"), "nothing rotates it: {}", found[0].text);
    assert!(store.change_opened_envelopes(&at(10)).await.unwrap().is_empty(), "that was done");
    // Of an envelope that nobody wrote down it can be told, too.
    assert_eq!(store.envelope_was_opened(&by("ada"), &account(ROOT), NOW).await.unwrap(), 0);
    assert_eq!(store.findings(&FindingFilter::default()).await.unwrap().len(), 2);
}

async fn only_an_administrator_makes_one_of_the_secret_as_it_is(db: TestDb) {
    let store = world(&db, true).await;
    let refused = store.make_envelope(&by("olga"), &label(1)).await.unwrap_err();
    assert!(refused.to_string().contains("administrators can"), "{refused}");
    let other = store.make_envelope(&by("ada"), &label(2)).await.unwrap_err();
    assert!(matches!(other, StoreError::Changed { .. }), "{other}");
    assert!(store.envelopes().await.unwrap().is_empty());
}
