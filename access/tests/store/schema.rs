use cofferdam_access::audit::{AuditEvent, AuditKind};
use cofferdam_access::store::{Database, SCHEMA_VERSION, Store, StoreError, TallyKey};

use crate::support::{NOW, TestDb, keys, signer, system};

on_both!(
    a_database_without_schema_asks_for_migration,
    migrating_twice_does_nothing_the_second_time,
    two_processes_may_migrate_at_once,
    a_newer_schema_refuses_an_older_program,
    a_write_cut_short_leaves_nothing_behind,
    a_database_that_broke_off_is_found_again,
);

async fn a_database_without_schema_asks_for_migration(db: TestDb) {
    if let Database::Sqlite(path) = &db.database {
        std::fs::write(path, b"").unwrap();
    }
    let error = Store::open(&db.database, signer(1), None).await.unwrap_err();
    assert!(matches!(error, StoreError::OlderSchema { found: 0, .. }), "{error}");
}

async fn migrating_twice_does_nothing_the_second_time(db: TestDb) {
    let first = Store::migrate(&db.database, NOW).await.unwrap();
    assert_eq!((first.from, first.to), (0, SCHEMA_VERSION));
    assert!(!first.steps.is_empty());
    let second = Store::migrate(&db.database, NOW).await.unwrap();
    assert_eq!((second.from, second.steps.len()), (SCHEMA_VERSION, 0));
}

async fn two_processes_may_migrate_at_once(db: TestDb) {
    let (a, b) = tokio::join!(Store::migrate(&db.database, NOW), Store::migrate(&db.database, NOW));
    let steps = a.unwrap().steps.len() + b.unwrap().steps.len();
    assert_eq!(steps, usize::try_from(SCHEMA_VERSION).unwrap(), "one of the two took every step");
}

async fn a_newer_schema_refuses_an_older_program(db: TestDb) {
    db.store().await.close().await;
    db.tamper("INSERT INTO schema_migration (version, name, digest, at) VALUES (999, 'future', '', 0)").await;
    let error = Store::open(&db.database, signer(1), None).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
    let error = Store::migrate(&db.database, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error}");
}

async fn a_write_cut_short_leaves_nothing_behind(db: TestDb) {
    let store = db.store().await;
    for i in 0..60u32 {
        let writing = store.clone();
        let task = tokio::spawn(async move {
            let event = AuditEvent::new(AuditKind::LoginFailed, "vera").with("n", i);
            writing.note_failure(&system(), &[TallyKey::Account("vera".into())], 600, event).await
        });
        // Let it come a different way each time, then drop it where it stands.
        for _ in 0..i * 7 {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _cut_short = task.await;
    }
    // Writers stand in one line: once this one is through, a commit that was under way when its task was dropped has
    // either happened or not.
    store.record(&system(), AuditEvent::new(AuditKind::LoginFailed, "vera")).await.unwrap();
    let entries = store.verify_audit(keys(), Some(&db.checkpoints())).await.unwrap();
    assert!(entries.is_whole(), "{entries:?}");
    let tally = store.tallies(&[TallyKey::Account("vera".into())]).await.unwrap()[0];
    assert_eq!(
        tally.map_or(0, |t| t.failures) + 1,
        entries.entries,
        "each change has its entry and no other"
    );
}

async fn a_database_that_broke_off_is_found_again(db: TestDb) {
    let store = db.store().await;
    store.record(&system(), AuditEvent::new(AuditKind::LoginFailed, "vera")).await.unwrap();
    if let Database::Postgres(_) = &db.database {
        db.tamper(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }
    store.record(&system(), AuditEvent::new(AuditKind::LoginFailed, "vera")).await.unwrap();
    assert_eq!(store.head().await.unwrap().unwrap().seq, 2);
}

#[tokio::test]
async fn a_server_that_is_away_refuses_and_says_so() {
    let nowhere = Database::parse("postgres://nobody:hush@localhost/x?host=/nonexistent").unwrap();
    let error = Store::open(&nowhere, signer(1), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hush"));
    assert!(Database::parse("mysql://x").is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let db = TestDb::sqlite();
    let store = db.store().await;
    store.record(&system(), AuditEvent::new(AuditKind::LoginFailed, "vera")).await.unwrap();
    for entry in std::fs::read_dir(db.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}
