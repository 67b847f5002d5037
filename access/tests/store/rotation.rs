//! The ledger of rotations: the vault's own engine drives it, against a target in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use cofferdam_access::{
    audit::{Act, AuditKind},
    clock::{Clock, Timestamp},
    store::{AuditFilter, FindingFilter, Store},
};
use cofferdam_vault::{
    Context, Entropy, Sealer, SecretBytes, SystemEntropy,
    rotation::{
        Claim, Engine, Fault, Finding, FindingKind, Ledger, LedgerError, Managed, Plan, Reason, Rotator,
        State, Verdict, password::PolicyError,
    },
};

#[path = "../../../vault/tests/support/contract.rs"]
mod contract;

use crate::support::{NOW, TestDb, account, by, system, with_site};

const ROOT: &str = "root@pump-hmi";

on_both!(
    a_rotation_changes_what_sessions_get_and_says_so_in_the_audit,
    of_two_nodes_one_rotates_an_account_and_a_lost_one_is_replaced,
    a_secret_that_a_person_sets_during_a_rotation_keeps_what_was_sent,
    only_accounts_that_the_site_wants_rotated_are_due,
    one_that_was_turned_off_on_the_way_stays_in_sight,
    a_finding_is_kept_with_the_progress_that_says_so_or_not_at_all,
    it_keeps_what_every_ledger_has_to,
);

#[derive(Debug, Clone)]
struct Now(Arc<AtomicI64>);

impl Now {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW.micros())))
    }
}

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A target that takes one secret, and is silent after a change when told to be.
#[derive(Debug, Default)]
struct Target {
    takes: Mutex<Vec<u8>>,
    silent: Mutex<bool>,
}

#[async_trait]
impl Rotator for Target {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes).unwrap();
        Ok(SecretBytes::new(hex::encode(bytes).into_bytes()))
    }

    async fn change(&self, _: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        *self.takes.lock().unwrap() = candidate.expose().to_vec();
        if *self.silent.lock().unwrap() { Err(Fault::Unsure("the connection broke".into())) } else { Ok(()) }
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        if *self.silent.lock().unwrap() {
            return Err(Fault::Unreachable("it does not answer".into()));
        }
        let opens = *self.takes.lock().unwrap() == secret.expose();
        Ok(if opens { Verdict::Opens } else { Verdict::Refused })
    }
}

struct World {
    store: Store,
    sealer: Sealer,
    target: Arc<Target>,
    managed: Managed,
    now: Now,
}

impl World {
    async fn new(db: &TestDb) -> Self {
        let store = with_site(db).await;
        let sealer = Sealer::ephemeral(Arc::new(SystemEntropy));
        let sealed = sealer.seal(&Context::account(ROOT), &SecretBytes::new(b"hush-first".to_vec())).unwrap();
        store.set_secret(&by("ada"), &account(ROOT), &sealed).await.unwrap();
        let managed = BTreeMap::from([(account(ROOT), NOW.plus_seconds(60))]);
        assert_eq!(store.manage_rotations(&system(), &managed).await.unwrap(), 1);
        assert_eq!(store.manage_rotations(&system(), &managed).await.unwrap(), 0, "again it is nothing new");
        let target = Arc::new(Target::default());
        *target.takes.lock().unwrap() = b"hush-first".to_vec();
        let managed = Managed {
            target: "pump-hmi".into(),
            rotator: target.clone(),
            plan: Plan::default(),
            dependents: Vec::new(),
        };
        Self { store, sealer, target, managed, now: Now::new() }
    }

    fn engine(&self, node: &str) -> Engine {
        let now = self.now.clone();
        Engine::new(
            node,
            Arc::new(self.store.rotation_ledger(Arc::new(self.now.clone()))),
            Arc::new(self.sealer.clone()),
            Arc::new(SystemEntropy),
            Arc::new(move || now.now().micros()),
        )
    }

    /// What a session would be given.
    async fn given(&self) -> Vec<u8> {
        let sealed = self.store.secret(&account(ROOT)).await.unwrap().unwrap();
        self.sealer.open(&Context::account(ROOT), &sealed.sealed).unwrap().expose().to_vec()
    }

    async fn audited(&self, kind: AuditKind) -> usize {
        let all = self.store.audit(&AuditFilter::default()).await.unwrap();
        all.iter().filter(|entry| entry.kind == kind.as_str()).count()
    }
}

async fn a_rotation_changes_what_sessions_get_and_says_so_in_the_audit(db: TestDb) {
    let world = World::new(&db).await;
    let outcome = world.engine("a").rotate(ROOT, &world.managed, Reason::Demand).await.unwrap();
    assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::Demand)));
    let given = world.given().await;
    assert_ne!(given, b"hush-first");
    assert_eq!(given, *world.target.takes.lock().unwrap());
    let history = world.store.secret_history(&account(ROOT)).await.unwrap();
    assert_eq!(
        history.iter().map(|h| (h.version, h.action.as_str())).collect::<Vec<_>>(),
        [(2, "rotated"), (1, "set")]
    );
    assert_eq!(world.audited(AuditKind::SecretRotated).await, 1);
    assert_eq!(world.audited(AuditKind::RotationWanted).await, 1);
    assert!(world.audited(AuditKind::RotationStep).await >= 2, "each step is in the audit");
    let standing = world.store.rotation(&account(ROOT)).await.unwrap().unwrap();
    assert_eq!((standing.state, standing.reason, standing.is_between()), (State::Idle, None, false));
    assert_eq!(standing.rotated_at, Some(NOW));
    let shown = format!("{:?}", world.store.audit(&AuditFilter::default()).await.unwrap());
    assert!(
        !shown.contains(std::str::from_utf8(&given).unwrap()) && !shown.contains("hush-first"),
        "{shown}"
    );
}

async fn of_two_nodes_one_rotates_an_account_and_a_lost_one_is_replaced(db: TestDb) {
    let world = World::new(&db).await;
    let ledger = world.store.rotation_ledger(Arc::new(world.now.clone()));
    let now = NOW.micros();
    let lost = Claim { holder: "a/1".into(), until: now + 60_000_000 };
    let record = ledger.claim(ROOT, &lost, now).await.unwrap();
    let held = world.engine("b").rotate(ROOT, &world.managed, Reason::Demand).await;
    assert!(held.unwrap_err().to_string().contains("a/1"));
    assert_eq!(ledger.due(now + 1, 10).await.unwrap(), Vec::<String>::new(), "claimed");
    world.now.0.fetch_add(61_000_000, Ordering::Relaxed);
    assert_eq!(ledger.due(now + 61_000_000, 10).await.unwrap(), [ROOT]);
    world.engine("b").advance(ROOT, &world.managed).await.unwrap();
    let late = ledger.write(&record, &[], &lost, true).await;
    assert!(matches!(late, Err(LedgerError::Conflict { .. })), "{late:?}");
    assert_eq!(world.given().await, *world.target.takes.lock().unwrap());
    ledger.release(ROOT, &lost).await.unwrap();
    let nobody = ledger.claim("nobody@pump-hmi", &lost, now).await;
    assert!(matches!(nobody, Err(LedgerError::Unknown { .. })), "{nobody:?}");
}

async fn a_finding_is_kept_with_the_progress_that_says_so_or_not_at_all(db: TestDb) {
    let world = World::new(&db).await;
    let ledger = world.store.rotation_ledger(Arc::new(world.now.clone()));
    let now = NOW.micros();
    let claim = Claim { holder: "a/1".into(), until: now + 60_000_000 };
    let mut record = ledger.claim(ROOT, &claim, now).await.unwrap();
    record.progress.raised.push(FindingKind::Impostor);
    let finding = Finding {
        account: ROOT.into(),
        kind: FindingKind::Impostor,
        sentence: "another answers".into(),
        at: now,
    };
    let written = ledger.write(&record, std::slice::from_ref(&finding), &claim, false).await.unwrap();
    assert_eq!(written.progress.raised, [FindingKind::Impostor]);
    // The same write again, as after an answer that was lost: neither part of it is done twice.
    let stale = ledger.write(&record, &[finding], &claim, false).await;
    assert!(matches!(stale, Err(LedgerError::Conflict { .. })), "{stale:?}");
    let kept = world.store.findings(&FindingFilter::default()).await.unwrap();
    let said: Vec<_> =
        kept.iter().map(|f| (f.trigger.as_str(), f.severity.as_str(), f.text.as_str())).collect();
    assert_eq!(said, [("rotation_impostor", "critical", "another answers")]);
    assert_eq!(world.audited(AuditKind::Finding).await, 1);
}

async fn a_secret_that_a_person_sets_during_a_rotation_keeps_what_was_sent(db: TestDb) {
    let world = World::new(&db).await;
    *world.target.silent.lock().unwrap() = true;
    let outcome = world.engine("a").rotate(ROOT, &world.managed, Reason::Demand).await.unwrap();
    assert_eq!(outcome.rotated, None);
    assert!(world.store.rotation(&account(ROOT)).await.unwrap().unwrap().is_between());
    let sent = world.target.takes.lock().unwrap().clone();
    // A person believes to know better, and does not: the target has the candidate.
    let sealed = world.sealer.seal(&Context::account(ROOT), &SecretBytes::new(b"wrong".to_vec())).unwrap();
    world.store.set_secret(&by("ada"), &account(ROOT), &sealed).await.unwrap();
    *world.target.silent.lock().unwrap() = false;
    world.engine("a").verify(ROOT, &world.managed).await.unwrap();
    assert_ne!(sent, b"wrong");
    assert_eq!(
        world.given().await,
        *world.target.takes.lock().unwrap(),
        "what opens the target was still kept"
    );
}

async fn only_accounts_that_the_site_wants_rotated_are_due(db: TestDb) {
    let world = World::new(&db).await;
    let ledger = world.store.rotation_ledger(Arc::new(world.now.clone()));
    let later = NOW.plus_seconds(3600).micros();
    assert_eq!(ledger.due(later, 10).await.unwrap(), [ROOT]);
    assert_eq!(ledger.due(NOW.micros(), 10).await.unwrap(), Vec::<String>::new());
    assert_eq!(
        ledger.due(NOW.micros() - 1, 10).await.unwrap(),
        [ROOT],
        "a clock that was set back waits for nothing"
    );
    world.store.want_rotation(&by("ada"), &account(ROOT), Reason::Demand).await.unwrap();
    assert_eq!(ledger.due(NOW.micros(), 10).await.unwrap(), [ROOT]);
    world.store.manage_rotations(&system(), &BTreeMap::new()).await.unwrap();
    assert_eq!(ledger.due(later, 10).await.unwrap(), Vec::<String>::new());
    assert!(world.store.rotations().await.unwrap().is_empty());
    assert!(world.store.want_rotation(&by("ada"), &account(ROOT), Reason::Demand).await.is_err());
    assert_eq!(world.audited(AuditKind::RotationManaged).await, 2);
    world.store.remove_secret(&by("ada"), &account(ROOT)).await.unwrap();
    assert_eq!(db.count("SELECT COUNT(*) FROM rotation").await, 0);
}

async fn one_that_was_turned_off_on_the_way_stays_in_sight(db: TestDb) {
    let world = World::new(&db).await;
    *world.target.silent.lock().unwrap() = true;
    world.engine("a").rotate(ROOT, &world.managed, Reason::Demand).await.unwrap();
    world.store.manage_rotations(&system(), &BTreeMap::new()).await.unwrap();
    let listed = world.store.rotations().await.unwrap();
    assert!(!listed[0].on && listed[0].is_between(), "the target may have either secret: {listed:?}");
}

async fn it_keeps_what_every_ledger_has_to(db: TestDb) {
    let store = with_site(&db).await;
    let other = "operator@pump-hmi";
    for name in [ROOT, other] {
        store.set_secret(&by("ada"), &account(name), b"sealed").await.unwrap();
    }
    let first = |name, seconds| (account(name), NOW.plus_seconds(seconds));
    let entering = Act::system("test", NOW.plus_seconds(-60));
    store.manage_rotations(&entering, &BTreeMap::from([first(ROOT, -20), first(other, 0)])).await.unwrap();
    let ledger = store.rotation_ledger(Arc::new(Now::new()));
    contract::check(&ledger, ROOT, other, NOW.micros()).await;
}
