//! Migrations: embedded, forward only.

use aws_lc_rs::digest;

use super::{
    db::{Database, DbTx, Pools, args},
    error::StoreError,
};
use crate::clock::Timestamp;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("../../../migrations/0001_first.sql") },
    Migration { version: 2, name: "retention", sql: include_str!("../../../migrations/0002_retention.sql") },
    Migration { version: 3, name: "web", sql: include_str!("../../../migrations/0003_web.sql") },
    Migration { version: 4, name: "web_admin", sql: include_str!("../../../migrations/0004_web_admin.sql") },
    Migration { version: 5, name: "web_scale", sql: include_str!("../../../migrations/0005_web_scale.sql") },
    Migration { version: 6, name: "rotation", sql: include_str!("../../../migrations/0006_rotation.sql") },
    Migration { version: 7, name: "checkouts", sql: include_str!("../../../migrations/0007_checkouts.sql") },
    Migration {
        version: 8,
        name: "authorities",
        sql: include_str!("../../../migrations/0008_authorities.sql"),
    },
    Migration { version: 9, name: "keyring", sql: include_str!("../../../migrations/0009_keyring.sql") },
    Migration { version: 10, name: "rdp", sql: include_str!("../../../migrations/0010_rdp.sql") },
];

/// The schema version that this program reads and writes.
pub const SCHEMA_VERSION: i64 = 10;

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// The version found; 0 for an empty database.
    pub from: i64,
    /// The version now.
    pub to: i64,
    /// Names of the steps taken.
    pub steps: Vec<String>,
}

/// Brings the database to [`SCHEMA_VERSION`], making it if need be. All steps are one transaction: it works whole or
/// not at all. Several processes may try at once.
pub(super) async fn migrate(database: &Database, now: Timestamp) -> Result<MigrationReport, StoreError> {
    let pools = Pools::open(database, true).await?;
    let report = run(&pools, now).await;
    pools.close().await;
    report
}

async fn run(pools: &Pools, now: Timestamp) -> Result<MigrationReport, StoreError> {
    let mut tx = pools.begin_write().await?;
    if pools.is_postgres() {
        // Two nodes that start together must not both create tables.
        tx.rows("SELECT pg_advisory_xact_lock(7261048)::text AS locked", vec![]).await?;
    }
    tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL, \
         digest TEXT NOT NULL, at BIGINT NOT NULL)",
        vec![],
    )
    .await?;
    let from = version_in(&mut tx).await?;
    if from > SCHEMA_VERSION {
        tx.rollback().await?;
        return Err(StoreError::NewerSchema { found: from, known: SCHEMA_VERSION });
    }
    let mut steps = Vec::new();
    for m in MIGRATIONS.iter().filter(|m| m.version > from) {
        tx.script(m.sql).await?;
        let digest = hex::encode(digest::digest(&digest::SHA256, m.sql.as_bytes()).as_ref());
        tx.execute(
            "INSERT INTO schema_migration (version, name, digest, at) VALUES ($1, $2, $3, $4)",
            args![m.version, m.name, digest, now],
        )
        .await?;
        steps.push(m.name.to_owned());
    }
    tx.commit().await?;
    Ok(MigrationReport { from, to: SCHEMA_VERSION, steps })
}

async fn version_in(tx: &mut DbTx) -> Result<i64, StoreError> {
    match tx.row("SELECT COALESCE(MAX(version), 0) AS v FROM schema_migration", vec![]).await? {
        Some(row) => row.int("v"),
        None => Ok(0),
    }
}

/// Refuses a database whose schema is not the one this program knows.
pub(super) async fn check(pools: &Pools) -> Result<(), StoreError> {
    let exists = if pools.is_postgres() {
        "SELECT COUNT(*) AS n FROM pg_catalog.pg_tables \
         WHERE schemaname = current_schema() AND tablename = 'schema_migration'"
    } else {
        "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'"
    };
    let exists = pools.row(exists, vec![]).await?.map_or(Ok(0), |r| r.int("n"))? > 0;
    let found = if exists {
        pools
            .row("SELECT COALESCE(MAX(version), 0) AS v FROM schema_migration", vec![])
            .await?
            .map_or(Ok(0), |r| r.int("v"))?
    } else {
        0
    };
    match found.cmp(&SCHEMA_VERSION) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION }),
        std::cmp::Ordering::Less => Err(StoreError::OlderSchema { found, needed: SCHEMA_VERSION }),
    }
}
