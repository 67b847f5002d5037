use cofferdam_access::audit::{Act, AuditKind};
use cofferdam_access::ids::{DeletionId, SessionId};
use cofferdam_access::people::{Duty, User};
use cofferdam_access::retention::{DELETION_SECONDS, Deletion, DeletionRequest, DeletionStanding};
use cofferdam_access::store::{AuditFilter, OpenOutcome, Opening, RecordingFilter, SessionEnd, Store};
use proptest::prelude::*;

use crate::support::{NOW, TestDb, by, checked, keys, name, rng, session, site, system};

on_both!(
    two_people_of_two_duties_delete_exactly_what_was_listed,
    one_person_or_one_duty_deletes_nothing,
    a_hold_beats_an_approval_that_comes_later,
    whoever_lifted_a_hold_does_not_delete,
    a_request_lapses_by_itself_and_a_refused_one_stays_refused,
    what_decides_on_keeping_is_noted_when_the_session_opens,
    files_are_erased_after_the_deletion_and_once,
);

const PEOPLE: [(&str, &[Duty]); 7] = [
    ("ivan", &[Duty::Investigator]),
    ("ida", &[Duty::Investigator]),
    ("ada", &[Duty::Administrator]),
    ("anton", &[Duty::Administrator]),
    ("duo", &[Duty::Investigator, Duty::Administrator]),
    ("sam", &[Duty::Security]),
    ("vera", &[Duty::Vendor]),
];

/// A store with these people and so many sessions of vera's, ended and recorded.
async fn world(db: &TestDb, sessions: usize) -> (Store, Vec<SessionId>) {
    let store = db.store().await;
    let mut site = site();
    let like = site.users.first().unwrap().clone();
    site.users.retain(|u| !PEOPLE.iter().any(|(n, _)| u.name.as_str() == *n));
    site.users.extend(PEOPLE.iter().map(|(n, duties)| User {
        name: name(n),
        duties: duties.iter().copied().collect(),
        ssh_keys: vec![],
        ..like.clone()
    }));
    let wanted = checked(site);
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&by("ada"), &wanted, &plan).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..sessions {
        let new = session("gw");
        let opened = store.open_session(&by("vera"), &new, &Opening::default()).await.unwrap();
        assert!(matches!(opened, OpenOutcome::Opened { .. }));
        let end = SessionEnd {
            reason: "closed".into(),
            recording_digest: Some(format!("{n:064x}")),
            ..SessionEnd::default()
        };
        store.close_session(&system(), new.id, &end).await.unwrap();
        ids.push(new.id);
    }
    (store, ids)
}

async fn ask(store: &Store, who: &str, duty: Duty, ids: &[SessionId]) -> Result<Deletion, String> {
    let mut recordings = std::collections::BTreeMap::new();
    for id in ids {
        recordings.insert(*id, store.recording(*id).await.unwrap().digest);
    }
    let request = DeletionRequest {
        id: DeletionId::new(NOW, &mut rng()),
        requested_by: name(who),
        duty,
        requested_at: NOW,
        expires: NOW.plus_seconds(DELETION_SECONDS),
        reason: "kept long enough".into(),
        recordings,
    };
    store.request_deletion(&by(who), &request).await.map_err(|e| e.to_string())?;
    Ok(store.deletion(request.id).await.unwrap())
}

async fn agree(store: &Store, who: &str, duty: Duty, what: &Deletion) -> Result<Deletion, String> {
    let request = &what.request;
    store.approve_deletion(&by(who), request.id, duty, request.digest()).await.map_err(|e| e.to_string())
}

async fn deleted(store: &Store) -> Vec<SessionId> {
    let filter = RecordingFilter { deleted: Some(true), ..RecordingFilter::default() };
    store.recordings(&filter).await.unwrap().iter().map(|r| r.session).collect()
}

async fn two_people_of_two_duties_delete_exactly_what_was_listed(db: TestDb) {
    let (store, ids) = world(&db, 3).await;
    let asked = ask(&store, "ivan", Duty::Investigator, &ids[..2]).await.unwrap();
    assert!(deleted(&store).await.is_empty(), "asking deletes nothing");
    let done = agree(&store, "ada", Duty::Administrator, &asked).await.unwrap();
    assert!(matches!(done.standing, DeletionStanding::CarriedOut { ref by, .. } if by.as_str() == "ada"));
    let mut gone = deleted(&store).await;
    gone.sort();
    let mut wanted = ids[..2].to_vec();
    wanted.sort();
    assert_eq!(gone, wanted);
    let explained = store.recording(ids[0]).await.unwrap().deleted.unwrap();
    assert_eq!((explained.requested_by.as_str(), explained.approved_by.as_str()), ("ivan", "ada"));
    let filter = AuditFilter { kind: Some(AuditKind::RecordingDeleted), ..AuditFilter::default() };
    let entries = store.audit(&filter).await.unwrap();
    assert_eq!(entries.len(), 2, "one entry for each recording");
    let first = entries.iter().find(|e| e.subject == ids[0].to_string()).unwrap();
    assert!(first.body.contains(&format!("{:064x}", 0)), "with its digest: {}", first.body);
    let again = agree(&store, "anton", Duty::Administrator, &asked).await.unwrap_err();
    assert!(again.contains("no longer waits"), "{again}");
    let anew = ask(&store, "ivan", Duty::Investigator, &ids[..1]).await.unwrap_err();
    assert!(anew.contains("was deleted on"), "{anew}");
    assert!(store.hold_recording(&system(), ids[0], "late").await.is_err());
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole());
}

async fn one_person_or_one_duty_deletes_nothing(db: TestDb) {
    let (store, ids) = world(&db, 1).await;
    for (who, duty) in [("ivan", Duty::Administrator), ("vera", Duty::Vendor), ("sam", Duty::Security)] {
        ask(&store, who, duty, &ids).await.unwrap_err();
    }
    let own = ask(&store, "duo", Duty::Investigator, &ids).await.unwrap();
    let why = agree(&store, "duo", Duty::Administrator, &own).await.unwrap_err();
    assert!(why.contains("somebody else"), "{why}");
    let asked = ask(&store, "ivan", Duty::Investigator, &ids).await.unwrap();
    let why = agree(&store, "ida", Duty::Investigator, &asked).await.unwrap_err();
    assert!(why.contains("other duty"), "{why}");
    agree(&store, "ida", Duty::Administrator, &asked).await.unwrap_err();
    agree(&store, "sam", Duty::Security, &asked).await.unwrap_err();
    let mut other = asked.clone();
    other.request.reason = "something else".into();
    let why = agree(&store, "ada", Duty::Administrator, &other).await.unwrap_err();
    assert!(why.contains("another list"), "{why}");
    assert!(deleted(&store).await.is_empty());
}

async fn a_hold_beats_an_approval_that_comes_later(db: TestDb) {
    let (store, ids) = world(&db, 2).await;
    let asked = ask(&store, "ivan", Duty::Investigator, &ids).await.unwrap();
    store.hold_recording(&system(), ids[1], "case 12").await.unwrap();
    let why = agree(&store, "ada", Duty::Administrator, &asked).await.unwrap_err();
    assert!(why.contains("is held (case 12)"), "{why}");
    assert!(deleted(&store).await.is_empty(), "all of the list or nothing");
    let why = ask(&store, "ivan", Duty::Investigator, &ids[1..]).await.unwrap_err();
    assert!(why.contains("is held"), "{why}");
    assert!(store.lift_hold(&by("ada"), ids[1], "over").await.is_err(), "not an administrator's to lift");
    store.lift_hold(&by("sam"), ids[1], "case 12 is closed").await.unwrap();
    agree(&store, "ada", Duty::Administrator, &asked).await.unwrap();
    assert_eq!(deleted(&store).await.len(), 2);
}

async fn whoever_lifted_a_hold_does_not_delete(db: TestDb) {
    let (store, ids) = world(&db, 1).await;
    store.hold_recording(&system(), ids[0], "case 12").await.unwrap();
    store.lift_hold(&by("ivan"), ids[0], "over").await.unwrap();
    let why = ask(&store, "ivan", Duty::Investigator, &ids).await.unwrap_err();
    assert!(why.contains("lifted a hold"), "{why}");
    let asked = ask(&store, "ada", Duty::Administrator, &ids).await.unwrap();
    let why = agree(&store, "ivan", Duty::Investigator, &asked).await.unwrap_err();
    assert!(why.contains("lifted a hold"), "{why}");
    agree(&store, "ida", Duty::Investigator, &asked).await.unwrap();
}

async fn a_request_lapses_by_itself_and_a_refused_one_stays_refused(db: TestDb) {
    let (store, ids) = world(&db, 1).await;
    let asked = ask(&store, "ivan", Duty::Investigator, &ids).await.unwrap();
    let late = Act::person(&name("ada"), NOW.plus_seconds(DELETION_SECONDS));
    let (id, digest) = (asked.request.id, asked.request.digest());
    let why = store.approve_deletion(&late, id, Duty::Administrator, digest).await.unwrap_err().to_string();
    assert!(why.contains("lapsed"), "{why}");
    store.refuse_deletion(&system(), id, &name("ada"), "look again").await.unwrap();
    let why = agree(&store, "ada", Duty::Administrator, &asked).await.unwrap_err();
    assert!(why.contains("no longer waits"), "{why}");
    assert!(deleted(&store).await.is_empty());
}

async fn what_decides_on_keeping_is_noted_when_the_session_opens(db: TestDb) {
    let (store, ids) = world(&db, 1).await;
    let kept = store.recording(ids[0]).await.unwrap();
    assert_eq!(kept.zone.as_ref().map(|z| z.as_str()), Some("pumps"));
    assert_eq!(kept.crown_jewel, Some(false));
    let open = session("gw");
    assert!(matches!(
        store.open_session(&by("vera"), &open, &Opening::default()).await.unwrap(),
        OpenOutcome::Opened { .. }
    ));
    let why = ask(&store, "ivan", Duty::Investigator, &[open.id]).await.unwrap_err();
    assert!(why.contains("has not ended"), "{why}");
    let ended = RecordingFilter { ended_before: Some(NOW.plus_seconds(1)), ..RecordingFilter::default() };
    assert_eq!(store.recordings(&ended).await.unwrap().len(), 1);
}

async fn files_are_erased_after_the_deletion_and_once(db: TestDb) {
    let (store, ids) = world(&db, 2).await;
    let due = RecordingFilter { to_erase: true, node: Some("gw".into()), ..RecordingFilter::default() };
    assert!(store.recordings(&due).await.unwrap().is_empty());
    let asked = ask(&store, "ivan", Duty::Investigator, &ids[..1]).await.unwrap();
    agree(&store, "ada", Duty::Administrator, &asked).await.unwrap();
    assert_eq!(store.recordings(&due).await.unwrap().len(), 1);
    assert!(store.deletion_is_proven(ids[0]).await.unwrap());
    assert!(!store.deletion_is_proven(ids[1]).await.unwrap());
    for _ in 0..2 {
        store.recording_erased(&system(), ids[0]).await.unwrap();
        // One that was not deleted cannot be erased.
        store.recording_erased(&system(), ids[1]).await.unwrap();
    }
    assert!(store.recordings(&due).await.unwrap().is_empty());
    assert!(store.recording(ids[0]).await.unwrap().deleted.unwrap().erased_at.is_some());
    let filter = AuditFilter { kind: Some(AuditKind::RecordingErased), ..AuditFilter::default() };
    assert_eq!(store.audit(&filter).await.unwrap().len(), 1);
    // Nobody can move the proof to another recording.
    let sql = format!("UPDATE audit SET subject = '{}' WHERE kind = 'recording.deleted'", ids[1]);
    db.tamper(&sql).await;
    assert!(!store.deletion_is_proven(ids[1]).await.unwrap());
}

#[derive(Debug, Clone)]
enum Move {
    Ask { who: usize, duty: usize, which: Vec<usize> },
    Agree { who: usize, duty: usize, request: usize },
    Refuse { who: usize, request: usize },
    Hold { which: usize },
    Lift { who: usize, which: usize },
}

const DUTIES: [Duty; 3] = [Duty::Investigator, Duty::Administrator, Duty::Security];
const SESSIONS: usize = 3;

fn moves(people: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Move>> {
    let (who, duty) = (people, 0..DUTIES.len());
    let which = prop::collection::vec(0..SESSIONS, 1..3);
    let step = prop_oneof![
        4 => (who.clone(), duty.clone(), which).prop_map(|(who, duty, which)| Move::Ask { who, duty, which }),
        6 => (who.clone(), duty, 0..6usize).prop_map(|(who, duty, request)| Move::Agree { who, duty, request }),
        1 => (who.clone(), 0..6usize).prop_map(|(who, request)| Move::Refuse { who, request }),
        1 => (0..SESSIONS).prop_map(|which| Move::Hold { which }),
        1 => (who, 0..SESSIONS).prop_map(|(who, which)| Move::Lift { who, which }),
    ];
    prop::collection::vec(step, 1..30)
}

/// Makes the moves; after each, whatever is deleted was deleted as it must be. Answers how many are.
async fn make(moves: Vec<Move>) -> usize {
    let db = TestDb::sqlite();
    let (store, ids) = world(&db, SESSIONS).await;
    let mut requests: Vec<Deletion> = Vec::new();
    for step in moves {
        let before = store.recordings(&RecordingFilter::default()).await.unwrap();
        match &step {
            Move::Ask { who, duty, which } => {
                let which: Vec<_> = which.iter().map(|n| ids[*n]).collect();
                requests.extend(ask(&store, PEOPLE[*who].0, DUTIES[*duty], &which).await.ok());
            }
            Move::Agree { who, duty, request } => {
                if let Some(asked) = requests.get(*request) {
                    agree(&store, PEOPLE[*who].0, DUTIES[*duty], asked).await.ok();
                }
            }
            Move::Refuse { who, request } => {
                if let Some(asked) = requests.get(*request) {
                    let who = name(PEOPLE[*who].0);
                    store.refuse_deletion(&system(), asked.request.id, &who, "no").await.ok();
                }
            }
            Move::Hold { which } => {
                store.hold_recording(&system(), ids[*which], "case").await.ok();
            }
            Move::Lift { who, which } => {
                store.lift_hold(&by(PEOPLE[*who].0), ids[*which], "over").await.ok();
            }
        }
        for was in before {
            let Some(gone) = store.recording(was.session).await.unwrap().deleted else { continue };
            if let Some(before) = was.deleted {
                assert_eq!(before, gone, "what is deleted stays so");
                continue;
            }
            assert!(matches!(step, Move::Agree { .. }), "{step:?} deleted something");
            assert!(was.hold.is_none(), "a held recording was deleted");
            let done = store.deletion(gone.request).await.unwrap();
            let DeletionStanding::CarriedOut { by, duty, .. } = &done.standing else {
                panic!("deleted, and the request is {:?}", done.standing)
            };
            let holds = |who: &str, duty| PEOPLE.iter().any(|(n, d)| *n == who && d.contains(&duty));
            assert_ne!(*by, done.request.requested_by);
            assert_ne!(*duty, done.request.duty);
            assert!(
                holds(by.as_str(), *duty) && holds(done.request.requested_by.as_str(), done.request.duty)
            );
            for who in [by, &done.request.requested_by] {
                assert!(!was.lifters.contains(who) && was.person != *who);
            }
        }
    }
    let count = deleted(&store).await.len();
    let filter = AuditFilter { kind: Some(AuditKind::RecordingDeleted), ..AuditFilter::default() };
    assert_eq!(store.audit(&filter).await.unwrap().len(), count);
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole());
    count
}

fn run(moves: Vec<Move>) -> usize {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(make(moves))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_one_person_does_deletes_anything(who in 0..PEOPLE.len(), moves in moves(0..1)) {
        let moves = moves.into_iter().map(|step| by_one(step, who)).collect();
        prop_assert_eq!(run(moves), 0);
    }

    #[test]
    fn nothing_two_people_of_one_duty_do_deletes_anything(moves in moves(0..2)) {
        prop_assert_eq!(run(moves), 0);
    }

    #[test]
    fn whatever_anybody_does_only_two_of_two_duties_delete_and_nothing_held(moves in moves(0..PEOPLE.len())) {
        run(moves);
    }
}

fn by_one(step: Move, one: usize) -> Move {
    match step {
        Move::Ask { duty, which, .. } => Move::Ask { who: one, duty, which },
        Move::Agree { duty, request, .. } => Move::Agree { who: one, duty, request },
        Move::Refuse { request, .. } => Move::Refuse { who: one, request },
        Move::Lift { which, .. } => Move::Lift { who: one, which },
        hold @ Move::Hold { .. } => hold,
    }
}

/// The properties above say nothing if nothing is ever deleted.
#[test]
fn the_moves_of_the_properties_can_delete() {
    let ask = Move::Ask { who: 0, duty: 0, which: vec![0, 1] };
    assert_eq!(run(vec![ask, Move::Agree { who: 2, duty: 1, request: 0 }]), 2);
}
