use cofferdam_access::audit::{AuditEvent, AuditKeys, AuditKind, AuditReport, Problem};
use cofferdam_access::store::{AuditFilter, Store};
use proptest::{prelude::*, strategy::ValueTree};

use crate::support::{NOW, TestDb, at, keys, signer, system};

on_both!(
    entries_are_numbered_without_gaps_and_verify,
    a_hundred_writers_of_two_nodes_leave_one_whole_chain,
    an_edited_entry_is_named,
    an_entry_deleted_in_the_middle_is_named,
    an_entry_inserted_with_its_own_hash_is_named,
    two_entries_that_change_places_are_found,
    a_signature_by_another_key_is_found,
    a_deleted_tail_is_found_through_checkpoints,
    an_emptied_log_is_found_through_checkpoints,
    a_forged_checkpoint_proves_nothing_and_is_reported,
    entries_of_a_retired_key_stay_valid,
    a_retired_key_signs_nothing_new,
    text_of_a_peer_cannot_break_a_write,
    a_signer_that_fails_lets_nothing_change,
    random_edits_are_always_found,
);

async fn fill(store: &Store, n: usize) {
    for i in 0..n {
        let event = AuditEvent::new(AuditKind::LoginFailed, format!("vera{i}")).with("n", i as u64);
        store.record(&at(i as i64), event).await.unwrap();
    }
}

async fn verify(db: &TestDb, store: &Store) -> AuditReport {
    store.verify_audit(keys(), Some(&db.checkpoints())).await.unwrap()
}

/// The number and problem of the first bad entry.
async fn first_bad(db: &TestDb, store: &Store) -> (u64, Problem) {
    let bad = verify(db, store).await.first_bad.expect("found");
    (bad.seq, bad.problem)
}

async fn entries_are_numbered_without_gaps_and_verify(db: TestDb) {
    let store = db.store().await;
    let empty = verify(&db, &store).await;
    assert!(empty.is_whole() && empty.entries == 0);
    fill(&store, 150).await;
    let report = verify(&db, &store).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.entries, 150);
    assert!(report.checkpoints >= 2, "a checkpoint goes out now and then by itself");
    let all = store.audit(&AuditFilter { after: Some(0), ..AuditFilter::default() }).await.unwrap();
    assert!(all.iter().enumerate().all(|(i, e)| e.seq == i as u64 + 1));
    let newest = store.audit(&AuditFilter { limit: 2, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(newest.iter().map(|e| e.seq).collect::<Vec<_>>(), [150, 149]);
}

async fn a_hundred_writers_of_two_nodes_leave_one_whole_chain(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..100 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { fill(&store, 2).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let report = verify(&db, &stores[0]).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.entries, 200);
}

async fn an_edited_entry_is_named(db: TestDb) {
    let store = db.store().await;
    fill(&store, 10).await;
    assert_eq!(db.tamper("UPDATE audit SET actor = 'mallory' WHERE seq = 4").await, 1);
    assert_eq!(first_bad(&db, &store).await, (4, Problem::Edited));
}

#[tokio::test]
async fn an_entry_with_rubbish_in_it_is_named() {
    // PostgreSQL keeps types; SQLite takes anything anywhere.
    let db = TestDb::sqlite();
    let store = db.store().await;
    fill(&store, 5).await;
    db.tamper("UPDATE audit SET at = 'yesterday' WHERE seq = 3").await;
    assert_eq!(first_bad(&db, &store).await, (3, Problem::Unreadable));
    db.tamper("UPDATE audit SET at = x'00', seq = 'three' WHERE seq = 3").await;
    assert_eq!(first_bad(&db, &store).await, (3, Problem::Missing));
    db.tamper("DELETE FROM audit WHERE seq < 'a'").await;
    assert_eq!(first_bad(&db, &store).await, (1, Problem::Unreadable));
}

async fn an_entry_deleted_in_the_middle_is_named(db: TestDb) {
    let store = db.store().await;
    fill(&store, 10).await;
    db.tamper("DELETE FROM audit WHERE seq = 7").await;
    assert_eq!(first_bad(&db, &store).await, (7, Problem::Missing));
    // Closing the gap does not help.
    db.tamper("UPDATE audit SET seq = seq - 1 WHERE seq > 7").await;
    assert_eq!(first_bad(&db, &store).await, (7, Problem::Edited));
}

async fn an_entry_inserted_with_its_own_hash_is_named(db: TestDb) {
    let store = db.store().await;
    fill(&store, 5).await;
    let mut forged =
        store.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap().remove(0);
    forged.prev_hash.clone_from(&forged.hash);
    forged.seq = 6;
    forged.hash = forged.computed_hash();
    db.tamper(&format!(
        "INSERT INTO audit (seq, at, kind, actor, subject, body, prev_hash, hash, key_id, signature) \
         VALUES (6, {}, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        forged.at.micros(),
        forged.kind,
        forged.actor,
        forged.subject,
        forged.body,
        forged.prev_hash,
        forged.hash,
        forged.key_id,
        forged.signature
    ))
    .await;
    assert_eq!(first_bad(&db, &store).await, (6, Problem::BadSignature));
}

async fn two_entries_that_change_places_are_found(db: TestDb) {
    let store = db.store().await;
    fill(&store, 6).await;
    db.tamper("UPDATE audit SET seq = 100 WHERE seq = 2").await;
    db.tamper("UPDATE audit SET seq = 2 WHERE seq = 3").await;
    db.tamper("UPDATE audit SET seq = 3 WHERE seq = 100").await;
    assert_eq!(first_bad(&db, &store).await, (2, Problem::Edited));
}

async fn a_signature_by_another_key_is_found(db: TestDb) {
    let store = db.store().await;
    fill(&store, 3).await;
    // Somebody with the database and a key of their own goes on where the log is.
    let other = Store::open(&db.database, signer(2), None).await.unwrap();
    fill(&other, 1).await;
    assert_eq!(first_bad(&db, &store).await, (4, Problem::UnknownKey("test-2".into())));
    db.tamper("UPDATE audit SET key_id = 'test-1' WHERE seq = 4").await;
    assert_eq!(first_bad(&db, &store).await, (4, Problem::BadSignature));
}

async fn a_deleted_tail_is_found_through_checkpoints(db: TestDb) {
    let store = db.store().await;
    fill(&store, 10).await;
    let checkpoint = store.checkpoint().await.unwrap().unwrap();
    assert_eq!(checkpoint.seq, 10);
    assert_eq!(
        store.checkpoint().await.unwrap(),
        Some(checkpoint.clone()),
        "asking again writes nothing new"
    );
    db.tamper("DELETE FROM audit WHERE seq > 8").await;
    let hash = &store.head().await.unwrap().unwrap().hash;
    db.tamper(&format!("UPDATE audit_head SET seq = 8, hash = '{hash}'")).await;
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole(), "the log alone cannot tell");
    assert_eq!(first_bad(&db, &store).await, (9, Problem::Missing));
    // Writing on over the hole does not hide it.
    fill(&store, 5).await;
    assert_eq!(first_bad(&db, &store).await, (10, Problem::CheckpointDiffers));
}

async fn an_emptied_log_is_found_through_checkpoints(db: TestDb) {
    let store = db.store().await;
    fill(&store, 3).await;
    store.checkpoint().await.unwrap();
    db.tamper("DELETE FROM audit").await;
    assert_eq!(first_bad(&db, &store).await, (1, Problem::Missing), "the head remembers");
    db.tamper("UPDATE audit_head SET seq = 0, hash = '0000000000000000000000000000000000000000000000000000000000000000'")
        .await;
    assert_eq!(first_bad(&db, &store).await, (1, Problem::Missing), "the checkpoint remembers");
}

async fn a_forged_checkpoint_proves_nothing_and_is_reported(db: TestDb) {
    let store = db.store().await;
    fill(&store, 3).await;
    let mut forged = store.checkpoint().await.unwrap().unwrap();
    forged.seq = 9;
    db.checkpoints().append(&forged, false).unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(db.checkpoints().path())
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"rubbish\n"))
        .unwrap();
    let report = verify(&db, &store).await;
    assert_eq!(report.first_bad, None);
    assert!(!report.is_whole());
    let problems: Vec<_> = report.checkpoint_problems.iter().map(|p| &p.problem).collect();
    assert!(problems.contains(&&Problem::ForgedCheckpoint), "{problems:?}");
    assert!(matches!(problems.last(), Some(Problem::UnreadableCheckpoint(_))), "{problems:?}");
}

fn rotated(last_seq: Option<u64>) -> AuditKeys {
    let old = cofferdam_access::audit::AuditSigner::public_key(&*signer(1));
    AuditKeys::of(&*signer(2)).with_retired("test-1", &old, last_seq)
}

async fn entries_of_a_retired_key_stay_valid(db: TestDb) {
    let store = db.store().await;
    fill(&store, 3).await;
    let next = Store::open(&db.database, signer(2), None).await.unwrap();
    fill(&next, 3).await;
    let report = next.verify_audit(rotated(Some(3)), Some(&db.checkpoints())).await.unwrap();
    assert!(report.is_whole() && report.entries == 6, "{report:?}");
}

async fn a_retired_key_signs_nothing_new(db: TestDb) {
    let store = db.store().await;
    fill(&store, 4).await;
    let report = store.verify_audit(rotated(Some(3)), None).await.unwrap();
    let bad = report.first_bad.unwrap();
    assert_eq!((bad.seq, bad.problem), (4, Problem::RetiredKey("test-1".into())));
}

async fn text_of_a_peer_cannot_break_a_write(db: TestDb) {
    let store = db.store().await;
    let nasty = format!("a\0b\x1b[31m'; DROP TABLE audit; --{}", "x".repeat(100_000));
    let event = AuditEvent::new(AuditKind::LoginFailed, &nasty)
        .with("tried", nasty.as_str())
        .with("long", "y".repeat(1 << 20));
    store.record(&system(), event).await.unwrap();
    let entry = store.audit(&AuditFilter::default()).await.unwrap().remove(0);
    assert!(entry.subject.chars().count() <= 256 && !entry.subject.chars().any(char::is_control));
    assert!(entry.body.contains("too_long"), "{}", entry.body);
    assert!(verify(&db, &store).await.is_whole());
}

#[derive(Debug)]
struct Broken;
impl cofferdam_access::audit::AuditSigner for Broken {
    fn sign(&self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
    fn key_id(&self) -> &str {
        "broken"
    }
    fn public_key(&self) -> Vec<u8> {
        vec![0; 32]
    }
}

async fn a_signer_that_fails_lets_nothing_change(db: TestDb) {
    let store = db.store().await;
    let broken = Store::open(&db.database, std::sync::Arc::new(Broken), None).await.unwrap();
    let person = crate::support::name("vera");
    broken.set_password(&system(), &person, "$argon2id$x").await.unwrap_err();
    assert!(store.credentials(&person).await.unwrap().is_none());
    assert_eq!(verify(&db, &store).await.entries, 0);
}

/// Edits that leave the log readable; each really changes something.
fn edit() -> impl Strategy<Value = String> {
    let seq = 1..=12u64;
    let text = prop::sample::select(vec!["kind", "actor", "subject", "body", "key_id"]);
    let hash = prop::sample::select(vec!["prev_hash", "hash", "signature"]);
    prop_oneof![
        (seq.clone(), text).prop_map(|(n, c)| format!("UPDATE audit SET {c} = {c} || 'x' WHERE seq = {n}")),
        (seq.clone(), hash).prop_map(|(n, c)| {
            format!("UPDATE audit SET {c} = 'ab' || substr({c}, 2, length({c}) - 2) || 'f' WHERE seq = {n}")
        }),
        (seq.clone(), any::<i32>().prop_filter("moves", |d| *d != 0))
            .prop_map(|(n, d)| format!("UPDATE audit SET at = at + ({d}) WHERE seq = {n}")),
        seq.clone().prop_map(|n| format!("DELETE FROM audit WHERE seq = {n}")),
        seq.clone().prop_map(|n| format!("DELETE FROM audit WHERE seq >= {n}")),
        seq.clone().prop_map(|n| format!("DELETE FROM audit WHERE seq <= {n}")),
        (seq.clone(), 13..40u64).prop_map(|(n, m)| format!("UPDATE audit SET seq = {m} WHERE seq = {n}")),
        seq.clone().prop_map(|n| format!("UPDATE audit SET seq = -{n} WHERE seq = {n}")),
        (seq.clone(), seq).prop_map(|(a, b)| {
            format!(
                "INSERT INTO audit SELECT {}, at, kind, actor, subject, body, prev_hash, hash, key_id, signature \
                 FROM audit WHERE seq = {b}",
                a as i64 - 20
            )
        }),
    ]
}

async fn random_edits_are_always_found(db: TestDb) {
    let store = db.store().await;
    fill(&store, 12).await;
    store.checkpoint().await.unwrap();
    assert!(verify(&db, &store).await.is_whole());
    db.tamper("CREATE TABLE saved AS SELECT * FROM audit").await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..60 {
        let edits = proptest::collection::vec(edit(), 1..4).new_tree(&mut runner).unwrap().current();
        let mut done = Vec::new();
        for sql in edits {
            if db.tamper(&sql).await > 0 {
                done.push(sql);
            }
        }
        let same = "SELECT 1 FROM audit a JOIN saved s ON a.seq = s.seq AND a.at = s.at AND a.kind = s.kind \
                    AND a.actor = s.actor AND a.subject = s.subject AND a.body = s.body AND a.prev_hash = s.prev_hash \
                    AND a.hash = s.hash AND a.key_id = s.key_id AND a.signature = s.signature";
        let untouched = db.count(&format!("SELECT COUNT(*) FROM ({same}) x")).await == 12
            && db.count("SELECT COUNT(*) FROM audit").await == 12;
        let report = verify(&db, &store).await;
        assert_eq!(report.is_whole(), untouched, "{done:?} gave {report:?}");
        db.tamper("DELETE FROM audit").await;
        db.tamper("INSERT INTO audit SELECT * FROM saved").await;
    }
    assert!(verify(&db, &store).await.is_whole(), "{NOW}");
}
