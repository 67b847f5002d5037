use cofferdam_access::store::{SCHEMA_VERSION, Store, StoreError};

use crate::support::{NOW, TestDb, signer};

on_both!(
    a_database_without_schema_asks_for_migration,
    migrating_twice_does_nothing_the_second_time,
    two_processes_may_migrate_at_once,
    a_newer_schema_refuses_an_older_program,
);

async fn a_database_without_schema_asks_for_migration(db: TestDb) {
    if let cofferdam_access::store::Database::Sqlite(path) = &db.database {
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
    assert_eq!(steps, 1, "one of the two took the step");
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
