//! The one way to write: a transaction that ends with its audit events.

use super::{
    Store,
    db::{DbTx, Row, Sql, Value, args},
    error::StoreError,
};
use crate::{
    audit::{Act, AuditEntry, AuditEvent, Checkpoint, signed_bytes},
    clock::Timestamp,
};

/// A checkpoint goes into the file after this many entries …
const CHECKPOINT_EVERY: u64 = 64;
/// … or when the one in the file is this old, seconds.
const CHECKPOINT_SECONDS: i64 = 60;

/// How far the checkpoint file is.
#[derive(Debug, Default)]
pub(super) struct LastCheckpoint {
    seq: u64,
    at: Option<Timestamp>,
}

/// Changes that need no audit event, each with its reason.
#[derive(Debug, Clone, Copy)]
pub(super) enum Quiet {
    /// Bytes of files moved: the recording holds every file operation with its size and digest.
    FileBytes,
    /// A log-in or token was used again: what it was used for has events of its own.
    Seen,
    /// A question to a browser, kept until it is answered: the answer has the event.
    Question,
    /// A message is on its way out: what it tells of has its event.
    Outbox,
    /// A node keeps others off an account for a while: what it does there has events of its own.
    Claim,
    /// Rows that have ended by themselves are swept; nothing could use them any more.
    Expired,
}

/// A write under way. Dropped without a commit it leaves nothing behind.
pub(super) struct Change<'s> {
    store: &'s Store,
    tx: DbTx,
    act: Act,
    seq: u64,
    hash: String,
    policy_sees_it: bool,
}

impl Store {
    /// Begins a change. From here on no other process writes until it is committed or dropped, so keep it short: no
    /// waiting for anything but the database in between.
    pub(super) async fn change(&self, act: &Act) -> Result<Change<'_>, StoreError> {
        let mut tx = self.0.pools.begin_write().await?;
        let head = if self.0.pools.is_postgres() {
            "SELECT seq, hash FROM audit_head WHERE id = 1 FOR UPDATE"
        } else {
            "SELECT seq, hash FROM audit_head WHERE id = 1"
        };
        let head =
            tx.row(head, vec![]).await?.ok_or_else(|| StoreError::damaged("audit log", "it has no head"))?;
        Ok(Change {
            store: self,
            seq: head.count("seq")?,
            hash: head.text("hash")?,
            tx,
            act: act.clone(),
            policy_sees_it: false,
        })
    }
}

impl Change<'_> {
    pub(super) async fn execute(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        self.tx.execute(sql, values).await
    }

    pub(super) async fn row(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        self.tx.row(sql, values).await
    }

    pub(super) async fn rows(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.tx.rows(sql, values).await
    }

    pub(super) fn at(&self) -> Timestamp {
        self.act.at
    }

    pub(super) fn actor(&self) -> &str {
        self.act.actor.as_str()
    }

    /// Says that decisions or live sessions depend on what changes here: the revision will move.
    pub(super) fn policy_sees_it(&mut self) {
        self.policy_sees_it = true;
    }

    /// Writes the event and commits. The answer proves the entry to whoever keeps it.
    pub(super) async fn commit(self, event: AuditEvent) -> Result<Checkpoint, StoreError> {
        self.commit_all(event, []).await
    }

    /// Writes several events and commits; the answer proves the last.
    pub(super) async fn commit_all(
        mut self,
        first: AuditEvent,
        more: impl IntoIterator<Item = AuditEvent>,
    ) -> Result<Checkpoint, StoreError> {
        let mut entry = self.append(&first).await?;
        for event in more {
            entry = self.append(&event).await?;
        }
        self.execute(
            "UPDATE audit_head SET seq = $1, hash = $2 WHERE id = 1",
            args![to_i64(entry.seq), &entry.hash],
        )
        .await?;
        let revision = if self.policy_sees_it { Some(self.bump().await?) } else { None };
        let Self { store, tx, .. } = self;
        tx.commit().await?;
        if let Some(revision) = revision {
            store.0.revision.send_if_modified(|r| {
                let newer = revision > *r;
                *r = revision.max(*r);
                newer
            });
        }
        let checkpoint = entry.checkpoint();
        store.note_checkpoint(&checkpoint);
        Ok(checkpoint)
    }

    /// Commits without an event; see [`Quiet`] for the few changes that may.
    pub(super) async fn commit_quietly(self, _why: Quiet) -> Result<(), StoreError> {
        self.tx.commit().await
    }

    /// Leaves everything as it was.
    pub(super) async fn abandon(self) -> Result<(), StoreError> {
        self.tx.rollback().await
    }

    async fn bump(&mut self) -> Result<u64, StoreError> {
        self.row("UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value", vec![])
            .await?
            .ok_or_else(|| StoreError::damaged("counter", "no revision"))?
            .count("value")
    }

    async fn append(&mut self, event: &AuditEvent) -> Result<AuditEntry, StoreError> {
        let signer = &self.store.0.signer;
        let mut entry = AuditEntry {
            seq: self.seq + 1,
            at: self.act.at,
            kind: event.kind().as_str().to_owned(),
            actor: self.act.actor.as_str().to_owned(),
            subject: event.subject().to_owned(),
            body: event.body_text(&self.act),
            prev_hash: self.hash.clone(),
            hash: String::new(),
            key_id: signer.key_id().to_owned(),
            signature: String::new(),
        };
        entry.hash = entry.computed_hash();
        let signature = signer.sign(&signed_bytes(entry.seq, entry.at, &entry.key_id, &entry.hash));
        if signature.len() != 64 {
            return Err(StoreError::Refused(
                "the audit key gave no signature, so nothing is changed: check the key store".into(),
            ));
        }
        entry.signature = hex::encode(signature);
        self.execute(
            "INSERT INTO audit (seq, at, kind, actor, subject, body, prev_hash, hash, key_id, signature) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            args![
                to_i64(entry.seq),
                entry.at,
                &entry.kind,
                &entry.actor,
                &entry.subject,
                &entry.body,
                &entry.prev_hash,
                &entry.hash,
                &entry.key_id,
                &entry.signature,
            ],
        )
        .await?;
        self.seq = entry.seq;
        self.hash.clone_from(&entry.hash);
        Ok(entry)
    }
}

impl Store {
    /// Puts a checkpoint into the file when it is due. A file that cannot be written is reported and not an error here:
    /// the change is committed. [`Store::checkpoint`] fails in that case, so it does not stay unseen.
    fn note_checkpoint(&self, checkpoint: &Checkpoint) {
        let Some(file) = &self.0.checkpoints else { return };
        let mut last = self.0.checkpointed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = last.at.is_none_or(|at| {
            checkpoint.seq >= last.seq.saturating_add(CHECKPOINT_EVERY)
                || checkpoint.at.since(at).saturating_abs() >= CHECKPOINT_SECONDS * 1_000_000
        });
        if due {
            match file.append(checkpoint, false) {
                Ok(()) => *last = LastCheckpoint { seq: checkpoint.seq, at: Some(checkpoint.at) },
                Err(e) => {
                    tracing::error!(path = %file.path().display(), error = %e, "audit checkpoint not written");
                }
            }
        }
    }

    /// Puts the newest entry's checkpoint into the file, waits until the disk has it, and answers it. Nothing is written
    /// if it is there already. To be called every few seconds and at the end.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(checkpoint) = self.head().await? else { return Ok(None) };
        let Some(file) = self.0.checkpoints.clone() else { return Ok(Some(checkpoint)) };
        let written = self.0.checkpointed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).seq;
        if checkpoint.seq > written {
            let path = file.path().display().to_string();
            let line = checkpoint.clone();
            tokio::task::spawn_blocking(move || file.append(&line, true))
                .await
                .map_err(std::io::Error::other)
                .and_then(|r| r)
                .map_err(|e| StoreError::Checkpoints { path, reason: e.to_string() })?;
            let mut last = self.0.checkpointed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if checkpoint.seq > last.seq {
                *last = LastCheckpoint { seq: checkpoint.seq, at: Some(checkpoint.at) };
            }
        }
        Ok(Some(checkpoint))
    }
}

/// As the databases keep numbers. Counts here never come near the bound.
pub(super) fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
