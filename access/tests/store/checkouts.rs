//! Check-outs, as every way in asks for them.

use cofferdam_access::{
    audit::{Act, AuditKind},
    checking_out::{self, CheckingOutError, Coming},
    checkout::{Checkout, CheckoutRequest, CheckoutStanding, Followed},
    decision::{DeviceKind, SecondFactor, SecondFactorKind},
    ids::CheckoutId,
    people::{Duty, User},
    policy::CompiledPolicies,
    site::{Credential, Rotation, Site},
    snapshot::Snapshot,
    store::{
        AuditFilter, CheckoutFilter, FindingFilter, OpenOutcome, Opening, SessionEnd, ShownSecret, Store,
    },
};
use cofferdam_vault::rotation::Reason;

use crate::support::{NOW, TestDb, account, by, checked, name, rng, session, site, system};

const ROOT: &str = "root@pump-hmi";

on_both!(
    what_is_shown_is_written_first_and_what_follows_with_its_return,
    a_check_out_that_nobody_returns_ends_by_itself,
    an_account_that_nothing_rotates_leaves_a_finding_for_people,
    a_crown_jewel_waits_for_two_others_who_still_hold_their_duties,
    a_row_that_was_edited_shows_nothing,
    an_exclusive_account_is_had_by_one_session_or_one_person,
    policy_that_changed_since_it_was_asked_refuses,
    one_code_and_one_moment_are_for_one_person,
);

const PEOPLE: [(&str, &str, &[Duty]); 6] = [
    ("emil", "works", &[Duty::Engineer]),
    ("olga", "works", &[Duty::Operations]),
    ("otto", "works", &[Duty::Operations]),
    ("sam", "works", &[Duty::Security]),
    ("ada", "works", &[Duty::Administrator]),
    ("vera", "pumpco", &[Duty::Vendor]),
];

/// A store whose `root@pump-hmi` may be seen and has a secret; the site as `change` leaves it.
async fn world(db: &TestDb, change: impl FnOnce(&mut Site)) -> Store {
    let store = db.store().await;
    let mut site = site();
    let like = site.users.first().unwrap().clone();
    site.users = PEOPLE
        .iter()
        .map(|(n, organisation, duties)| User {
            name: name(n),
            organisation: name(organisation),
            duties: duties.iter().copied().collect(),
            ssh_keys: vec![],
            ..like.clone()
        })
        .collect();
    site.policies.clear();
    let root = site.accounts.iter_mut().find(|a| a.reference() == account(ROOT)).unwrap();
    root.credential = Credential::Password;
    root.checkout = true;
    root.rotation = Some(toml::from_str::<Rotation>("every_days = 30").unwrap());
    site.assets.iter_mut().for_each(|a| a.host_keys.clear());
    change(&mut site);
    describe(&store, site).await;
    store.set_secret(&by("ada"), &account(ROOT), b"sealed").await.unwrap();
    store
}

async fn describe(store: &Store, site: Site) {
    let wanted = checked(site);
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&by("ada"), &wanted, &plan).await.unwrap();
}

async fn edit(store: &Store, change: impl FnOnce(&mut Site)) {
    let mut site = store.site().await.unwrap();
    change(&mut site);
    describe(store, site).await;
}

fn root(site: &mut Site) -> &mut cofferdam_access::site::Account {
    site.accounts.iter_mut().find(|a| a.reference() == account(ROOT)).unwrap()
}

async fn picture(store: &Store) -> Snapshot {
    let view = store.policy_view(NOW).await.unwrap();
    let policies = CompiledPolicies::compile(&view.site);
    Snapshot {
        site: view.site.into(),
        plant: view.plant_states,
        windows: vec![],
        policies: policies.into(),
        revision: view.revision,
        taken_at: NOW,
    }
}

const COMING: Coming = Coming { source: None, first: DeviceKind::Password };

async fn ask_as(store: &Store, who: &str) -> Result<Checkout, CheckingOutError> {
    let snapshot = picture(store).await;
    let request = CheckoutRequest::new(&account(ROOT), &name(who), 3600, "the panel hangs", NOW, &mut rng());
    let person = snapshot.site.user(&name(who)).unwrap();
    checking_out::ask(store, &snapshot, &by(who), &COMING, person, &request).await
}

async fn ask(store: &Store) -> Checkout {
    ask_as(store, "emil").await.unwrap()
}

async fn open_by(store: &Store, act: &Act, id: CheckoutId) -> Result<ShownSecret, String> {
    let second = SecondFactor { kind: SecondFactorKind::Totp, at: act.at, windows: Default::default() };
    let snapshot = picture(store).await;
    checking_out::open(store, &snapshot, act, &COMING, second, id).await.map_err(|e| e.to_string())
}

async fn open(store: &Store, id: CheckoutId) -> Result<ShownSecret, String> {
    open_by(store, &by("emil"), id).await
}

async fn agree(store: &Store, who: &str, duty: Duty, to: &Checkout) -> Result<Checkout, String> {
    let digest = to.request.digest();
    store.agree_to_checkout(&by(who), to.id(), duty, digest, "").await.map_err(|e| e.to_string())
}

async fn kinds(store: &Store) -> Vec<String> {
    let mut entries = store.audit(&AuditFilter::default()).await.unwrap();
    entries.sort_by_key(|e| e.seq);
    entries.into_iter().map(|e| e.kind).collect()
}

async fn what_is_shown_is_written_first_and_what_follows_with_its_return(db: TestDb) {
    let store = world(&db, |_| ()).await;
    let asked = ask(&store).await;
    let shown = open(&store, asked.id()).await.unwrap();
    assert_eq!((shown.secret.sealed.as_slice(), shown.secret.version), (&b"sealed"[..], 1));
    assert_eq!(shown.checkout.shown.as_ref().unwrap().until, NOW.plus_seconds(3600));
    let again = open(&store, asked.id()).await.unwrap_err();
    assert!(again.contains("no longer waits"), "it is shown once: {again}");
    let other = db.another().await;
    assert_eq!(other.shown_secret(asked.id()).await.unwrap().checkout, shown.checkout, "for a restart");
    let done = store.return_checkout(&by("emil"), asked.id()).await.unwrap();
    assert_eq!(done.followed, Some(Followed::Rotation(1)));
    let standing = store.rotation(&account(ROOT)).await.unwrap().unwrap();
    assert_eq!(standing.reason, Some(Reason::CheckedOut));
    let kinds = kinds(&store).await;
    assert_eq!(
        kinds[kinds.len() - 4..],
        ["checkout.requested", "checkout.opened", "checkout.returned", "rotation.wanted"]
    );
    assert!(store.return_checkout(&by("emil"), asked.id()).await.is_err());
    assert!(store.shown_secret(asked.id()).await.is_err());
    let log = store.audit(&AuditFilter::default()).await.unwrap();
    assert!(!format!("{log:?}").contains("sealed\""), "no value is in the log");
}

async fn a_check_out_that_nobody_returns_ends_by_itself(db: TestDb) {
    let store = world(&db, |_| ()).await;
    let asked = ask(&store).await;
    open(&store, asked.id()).await.unwrap();
    assert!(store.expire_checkouts(&crate::support::at(3599)).await.unwrap().is_empty());
    let late = db.another().await;
    let end = crate::support::at(3600);
    let (one, two) = tokio::join!(store.expire_checkouts(&end), late.expire_checkouts(&end));
    let ended = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(ended.len(), 1, "of two nodes one does it");
    assert!(matches!(ended[0].standing, CheckoutStanding::Expired { .. }));
    let standing = store.rotation(&account(ROOT)).await.unwrap().unwrap();
    assert_eq!(standing.reason, Some(Reason::CheckedOut));
    let filter = AuditFilter { kind: Some(AuditKind::RotationWanted), ..AuditFilter::default() };
    assert_eq!(store.audit(&filter).await.unwrap().len(), 1);
}

async fn an_account_that_nothing_rotates_leaves_a_finding_for_people(db: TestDb) {
    let store = world(&db, |site| root(site).rotation = None).await;
    let asked = ask(&store).await;
    open(&store, asked.id()).await.unwrap();
    let done = store.return_checkout(&by("emil"), asked.id()).await.unwrap();
    assert_eq!(done.followed, Some(Followed::ByHand));
    let found = store.findings(&FindingFilter::default()).await.unwrap();
    let text = &found[0].text;
    assert!(text.contains("emil has seen the secret of root@pump-hmi") && text.contains("by hand"), "{text}");
    assert_eq!((found.len(), found[0].trigger.as_str()), (1, "secret_seen"));
    assert!(store.rotation(&account(ROOT)).await.unwrap().is_none(), "it is not entered for rotation");
}

async fn a_crown_jewel_waits_for_two_others_who_still_hold_their_duties(db: TestDb) {
    let store = world(&db, |site| site.assets.iter_mut().for_each(|a| a.crown_jewel = true)).await;
    let asked = ask(&store).await;
    let refused = open(&store, asked.id()).await.unwrap_err();
    assert!(refused.contains("two other people"), "{refused}");
    agree(&store, "olga", Duty::Operations, &asked).await.unwrap();
    for (who, duty) in [("olga", Duty::Operations), ("otto", Duty::Operations), ("emil", Duty::Engineer)] {
        agree(&store, who, duty, &asked).await.unwrap_err();
    }
    assert!(open(&store, asked.id()).await.is_err(), "one is not enough");
    agree(&store, "sam", Duty::Security, &asked).await.unwrap();
    let disable = |site: &mut Site, off| {
        site.users.iter_mut().filter(|u| u.name == name("sam")).for_each(|u| u.disabled = off);
    };
    edit(&store, |site| disable(site, true)).await;
    assert!(open(&store, asked.id()).await.is_err(), "sam is here no longer");
    edit(&store, |site| disable(site, false)).await;
    let shown = open(&store, asked.id()).await.unwrap();
    assert!(shown.crown_jewel);
    assert_eq!(shown.checkout.agreements.len(), 2);
}

async fn a_row_that_was_edited_shows_nothing(db: TestDb) {
    let store = world(&db, |site| site.assets.iter_mut().for_each(|a| a.crown_jewel = true)).await;
    let asked = ask(&store).await;
    agree(&store, "olga", Duty::Operations, &asked).await.unwrap();
    agree(&store, "sam", Duty::Security, &asked).await.unwrap();
    // Agreed to for an hour; somebody with the database in hand makes it eight.
    let changed =
        db.tamper("UPDATE checkout SET body = REPLACE(body, '\"seconds\":3600', '\"seconds\":28800')").await;
    assert_eq!(changed, 1);
    let refused = open(&store, asked.id()).await.unwrap_err();
    assert!(refused.contains("two other people"), "{refused}");
}

async fn an_exclusive_account_is_had_by_one_session_or_one_person(db: TestDb) {
    let store = world(&db, |site| root(site).exclusive = true).await;
    let exclusive = Opening { exclusive: true, ..Opening::default() };
    let holds = session("gw");
    let opened = store.open_session(&by("vera"), &holds, &exclusive).await.unwrap();
    assert!(matches!(opened, OpenOutcome::Opened { .. }));
    let asked = ask(&store).await;
    let refused = open(&store, asked.id()).await.unwrap_err();
    assert!(refused.contains(&holds.id.to_string()), "{refused}");
    store.close_session(&system(), holds.id, &SessionEnd::default()).await.unwrap();
    open(&store, asked.id()).await.unwrap();
    let busy = store.open_session(&by("vera"), &session("gw"), &exclusive).await.unwrap();
    assert!(matches!(&busy, OpenOutcome::AccountCheckedOut(why) if why.contains("emil")), "{busy:?}");
    let another = ask_as(&store, "olga").await.unwrap();
    let refused = open_by(&store, &by("olga"), another.id()).await.unwrap_err();
    assert!(refused.contains("checked out by emil"), "{refused}");
    store.return_checkout(&by("emil"), asked.id()).await.unwrap();
    open_by(&store, &by("olga"), another.id()).await.unwrap();
    edit(&store, |site| root(site).exclusive = false).await;
    let shared = ask(&store).await;
    open(&store, shared.id()).await.unwrap();
    let twice = ask(&store).await;
    assert!(open(&store, twice.id()).await.unwrap_err().contains("return that first"));
    let filter = CheckoutFilter { state: Some("open"), ..CheckoutFilter::default() };
    assert_eq!(store.checkouts(&filter).await.unwrap().len(), 2);
}

async fn policy_that_changed_since_it_was_asked_refuses(db: TestDb) {
    let store = world(&db, |_| ()).await;
    let vendor = ask_as(&store, "vera").await.unwrap_err();
    assert!(matches!(vendor, CheckingOutError::Denied(_)), "{vendor}");
    let kinds = kinds(&store).await;
    assert_eq!(kinds.last().unwrap(), "checkout.denied");
    let asked = ask(&store).await;
    let before = picture(&store).await;
    edit(&store, |site| root(site).checkout = false).await;
    assert!(open(&store, asked.id()).await.unwrap_err().contains("nobody may see"));
    // Decided over an older picture: the transaction looks again.
    let second = SecondFactor { kind: SecondFactorKind::Totp, at: NOW, windows: Default::default() };
    let stale = checking_out::open(&store, &before, &by("emil"), &COMING, second, asked.id()).await;
    assert!(stale.unwrap_err().to_string().contains("may not be seen"));
}

async fn one_code_and_one_moment_are_for_one_person(db: TestDb) {
    let store = world(&db, |_| ()).await;
    let asked = ask(&store).await;
    let other = open_by(&store, &by("olga"), asked.id()).await.unwrap_err();
    assert!(other.contains("only the person who asked"), "{other}");
    let tomorrow = Act::person(&name("emil"), asked.request.expires);
    let lapsed = open_by(&store, &tomorrow, asked.id()).await.unwrap_err();
    assert!(lapsed.contains("lapsed"), "{lapsed}");
    let back = store.refuse_checkout(&by("emil"), asked.id(), &name("emil"), "not needed").await.unwrap();
    assert!(matches!(back.standing, CheckoutStanding::Refused { .. }));
    assert!(open(&store, asked.id()).await.is_err());
}
