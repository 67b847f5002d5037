//! The store: everything that must outlive a process, on SQLite (one file) or PostgreSQL (several nodes).
//!
//! Invariant: a change is written only by [`change::Change`], which cannot be committed without an audit event; the few
//! counters for which an event would say nothing are listed in [`change::Quiet`]. No connection leaves this module.
//!
//! Invariant: writers of all processes and nodes stand in one line (SQLite's write lock; on PostgreSQL the locked head of
//! the audit log), so a change sees all changes before it, and two can never both win a race.

mod audit;
mod authorities;
mod change;
mod checkouts;
mod db;
mod decisions;
mod desktops;
mod discovery;
mod envelopes;
mod error;
mod figures;
mod filter;
mod findings;
mod glance;
mod keyring;
mod logins;
mod migrate;
mod notifications;
mod orders;
mod past;
mod people;
mod plant;
mod recordings;
mod rotation;
mod secrets;
mod seen;
mod sessions;
mod site;
mod usage;
mod web;
mod windows;

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{
    audit::{AuditSigner, CheckpointFile},
    clock::Timestamp,
};

pub use audit::AuditFilter;
pub use authorities::NewAuthority;
pub use checkouts::{CheckoutFilter, ShownSecret};
pub use db::Database;
pub use decisions::{DecisionFilter, DecisionRecord};
pub use desktops::{DESKTOP_TOKEN_SECONDS, DesktopToken, StandingToken};
pub use envelopes::{EnvelopeLabel, KeptEnvelope};
pub use error::StoreError;
pub use figures::Figures;
pub use findings::{FindingFilter, FindingRecord};
pub use glance::Glance;
pub use logins::{RememberedFactor, Tally, TallyKey};
pub use migrate::{MigrationReport, SCHEMA_VERSION};
pub use notifications::Notification;
pub use orders::{Order, OrderKind};
pub use people::{
    CodeUse, Credentials, Enrolled, Enrolment, EnrolmentOutcome, Invitation, SecondFactorSetUp,
    invitation_digest, new_invitation,
};
pub use plant::PlantStateRecord;
pub use recordings::{Deleted, Hold, KeptRecording, RecordingFilter};
pub use rotation::{RotationLedger, RotationStanding};
pub use secrets::{SealedSecret, SecretHistory};
pub use sessions::{
    NewSession, OpenOutcome, Opening, SessionEnd, SessionFilter, SessionRecord, SessionState,
};
pub use site::{Applied, PolicyView};
pub use web::{ApiToken, StoredPasskey, WebSession};
pub use windows::{StoredWindow, WindowFilter};

/// A handle to the store; clones share its connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pools: db::Pools,
    signer: Arc<dyn AuditSigner>,
    checkpoints: Option<CheckpointFile>,
    changing_file: Option<std::path::PathBuf>,
    /// The newest checkpoint that this process has put into the file.
    checkpointed: std::sync::Mutex<change::LastCheckpoint>,
    revision: watch::Sender<u64>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.pools.is_postgres() { "postgres" } else { "sqlite" };
        f.debug_struct("Store").field("database", &kind).finish_non_exhaustive()
    }
}

impl Store {
    /// Brings the database to the schema of this program, making it if need be. Several processes may try at once.
    pub async fn migrate(database: &Database, now: Timestamp) -> Result<MigrationReport, StoreError> {
        migrate::migrate(database, now).await
    }

    /// Opens a database that has exactly this program's schema. Every change will be signed by `signer`; checkpoints go
    /// into `checkpoints`, which should lie where whoever can write the database cannot.
    pub async fn open(
        database: &Database,
        signer: Arc<dyn AuditSigner>,
        checkpoints: Option<CheckpointFile>,
    ) -> Result<Self, StoreError> {
        let pools = db::Pools::open(database, false).await?;
        migrate::check(&pools).await?;
        let store = Self(Arc::new(Inner {
            pools,
            signer,
            checkpoints,
            changing_file: match database {
                Database::Sqlite(path) => {
                    let mut file = path.clone().into_os_string();
                    file.push("-wal");
                    Some(file.into())
                }
                Database::Postgres(_) => None,
            },
            checkpointed: std::sync::Mutex::default(),
            revision: watch::Sender::new(0),
        }));
        let now = store.revision().await?;
        store.0.revision.send_replace(now);
        Ok(store)
    }

    /// The number that moves with every change that a decision or a live session can depend on: site, windows, plant
    /// state, people's credentials, orders. One row by its key: cheap enough to ask ten times a second.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        self.0
            .pools
            .row("SELECT value FROM counter WHERE name = 'revision'", vec![])
            .await?
            .ok_or_else(|| StoreError::damaged("counter", "no revision"))?
            .count("value")
    }

    /// Moves at once with changes made through this handle and its clones. Changes of other processes are seen by
    /// [`Store::revision`] only.
    pub fn watch_revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// A file that changes with every change of any process, where there is one (SQLite's write-ahead log): looking at
    /// it is cheaper than asking. It changes a moment *before* the change can be read.
    fn changing_file(&self) -> Option<&std::path::Path> {
        self.0.changing_file.as_deref()
    }

    /// Writes all that an SQLite store holds at one moment into a new file, for a backup; nobody waits for it. The folder
    /// should be one that only this user enters: the copy has the mode that the process gives new files.
    pub async fn copy_to(&self, file: &std::path::Path) -> Result<(), StoreError> {
        self.0.pools.copy_to(file).await
    }

    /// Whether several nodes can share this store.
    pub fn is_shared(&self) -> bool {
        self.0.pools.is_postgres()
    }

    /// Waits for what is under way and closes all connections.
    pub async fn close(&self) {
        self.0.pools.close().await;
    }
}

/// The most rows that one call lists.
pub const MAX_ROWS: u32 = 1000;
