//! Reading, verifying and adding to the audit log.

use super::{
    Store,
    change::to_i64,
    db::{Row, Sql, Value, args},
    error::StoreError,
    filter::Select,
};
use crate::{
    audit::{
        Act, AuditEntry, AuditEvent, AuditKeys, AuditKind, AuditReport, BadEntry, ChainVerifier, Checkpoint,
        CheckpointFile, Problem,
    },
    clock::Timestamp,
};

/// Entries read at a time while verifying.
const PAGE: u32 = 1000;
/// How far entries may stand from where their time would put them, because a clock went back.
const CLOCK_SLACK: i64 = 10_000;
/// Most problems of the checkpoint file that are listed.
const MAX_LISTED: usize = 16;

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this kind.
    pub kind: Option<AuditKind>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only about this subject.
    pub subject: Option<String>,
    /// Only entries from this moment on.
    pub from: Option<Timestamp>,
    /// Only entries before this moment.
    pub until: Option<Timestamp>,
    /// Only entries with a higher number; the listing then starts with the lowest (for export and following).
    pub after: Option<u64>,
    /// Only entries with a lower number (for paging back).
    pub before: Option<u64>,
    /// Most entries; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

impl Store {
    /// Writes an event for something that changed nothing in the store (a refused log-in, a blocked forward …).
    pub async fn record(&self, act: &Act, event: AuditEvent) -> Result<Checkpoint, StoreError> {
        self.change(act).await?.commit(event).await
    }

    /// Writes several events in one transaction; does nothing for none.
    pub async fn record_all(
        &self,
        act: &Act,
        events: Vec<AuditEvent>,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let mut events = events.into_iter();
        let Some(first) = events.next() else { return Ok(None) };
        self.change(act).await?.commit_all(first, events).await.map(Some)
    }

    /// Lists entries: the newest first, or the oldest first with `after`.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let span = match (filter.from, filter.until) {
            (None, None) => None,
            (from, until) => Some(self.audit_span(from, until).await?),
        };
        let (sql, values) = select(filter, span);
        self.0.pools.rows(sql, values).await?.iter().map(entry).collect()
    }

    /// Numbers around the entries of a span of time, both excluded, so that they are found by number whatever else is
    /// asked for. Times rise with numbers but where a clock went back: that far they may lie apart.
    pub(super) async fn audit_span(
        &self,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(i64, i64), StoreError> {
        let after = match from {
            Some(at) => {
                self.first_since(at).await?.map_or(i64::MAX - 1, |seq| seq.saturating_sub(CLOCK_SLACK))
            }
            None => 0,
        };
        let before = match until {
            Some(at) => self.first_since(at).await?.map_or(i64::MAX, |seq| seq.saturating_add(CLOCK_SLACK)),
            None => i64::MAX,
        };
        Ok((after, before))
    }

    async fn first_since(&self, at: Timestamp) -> Result<Option<i64>, StoreError> {
        let row =
            self.0.pools.row("SELECT seq FROM audit WHERE at >= $1 ORDER BY at LIMIT 1", args![at]).await?;
        row.map(|r| r.int("seq")).transpose()
    }

    /// The entry of that number.
    pub async fn audit_entry(&self, seq: u64) -> Result<AuditEntry, StoreError> {
        let filter = AuditFilter { after: Some(seq.saturating_sub(1)), limit: 1, ..AuditFilter::default() };
        let found = self.audit(&filter).await?.into_iter().find(|e| e.seq == seq);
        found.ok_or_else(|| StoreError::not_found("audit entry", seq))
    }

    /// Checks the whole log with the key that this store signs with and its file of checkpoints, and notes the outcome in
    /// the log. The outcome counts whether or not it could be noted; the error of that comes beside it.
    pub async fn verify_own_audit(&self, act: &Act) -> Result<(AuditReport, Option<StoreError>), StoreError> {
        let keys = AuditKeys::of(self.0.signer.as_ref());
        let report = self.verify_audit(keys, self.0.checkpoints.as_ref()).await?;
        let event = AuditEvent::new(AuditKind::AuditVerified, "audit")
            .with("whole", report.is_whole())
            .with("entries", report.entries)
            .with_some("first_bad", report.first_bad.as_ref().map(|b| b.seq));
        let noted = self.record(act, event).await;
        Ok((report, noted.err()))
    }

    /// The newest entry's checkpoint; none for an empty log.
    pub async fn head(&self) -> Result<Option<Checkpoint>, StoreError> {
        let newest = self.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await?;
        Ok(newest.first().map(AuditEntry::checkpoint))
    }

    /// Checks the whole log against `keys` and, if given, a file of checkpoints. Reads a page at a time, so memory does
    /// not grow with the log; writers are not held up.
    pub async fn verify_audit(
        &self,
        keys: AuditKeys,
        checkpoints: Option<&CheckpointFile>,
    ) -> Result<AuditReport, StoreError> {
        let mut chain = ChainVerifier::new(keys);
        // The end is read first: what is appended meanwhile is checked too, and cannot look like too much.
        let (head_seq, head_hash) = self.recorded_head().await?;
        let (mut page, mut unreadable) = self.page_after(0).await?;
        while let Some(after) = page.last().map(|e| e.seq) {
            // Signatures take the processor's time, so not on a thread that others wait for; the next page is read meanwhile.
            let checking = tokio::task::spawn_blocking(move || {
                let mut at_head = None;
                for entry in &page {
                    if !chain.push(entry) {
                        break;
                    }
                    if entry.seq == head_seq {
                        at_head = Some(entry.hash.clone());
                    }
                }
                (chain, at_head)
            });
            let (checked, next) = tokio::join!(checking, self.page_after(after));
            let (back, at_head) = checked.map_err(|e| StoreError::damaged("verification", e))?;
            chain = back;
            if at_head.is_some_and(|hash| hash != head_hash) {
                chain.note(BadEntry { seq: head_seq, problem: Problem::HeadDiffers });
            }
            // Once something is bad nothing after it counts.
            if unreadable || chain.next() <= after {
                break;
            }
            (page, unreadable) = next?;
        }
        if unreadable {
            chain.note(BadEntry { seq: chain.next(), problem: Problem::Unreadable });
        }
        if chain.next() <= head_seq {
            chain.expect_end(head_seq, &head_hash);
        } else {
            let (now_seq, now_hash) = self.recorded_head().await?;
            // Entries beyond the head that the log remembers were not written by it.
            if chain.next().saturating_sub(1) > now_seq {
                chain.expect_end(now_seq, &now_hash);
            }
        }
        let misnumbered = self.0.pools.row("SELECT COUNT(*) AS n FROM audit WHERE seq < 1", vec![]).await?;
        if misnumbered.map_or(Ok(0), |r| r.int("n"))? > 0 {
            chain.note(BadEntry { seq: 0, problem: Problem::OutOfOrder });
        }
        let (count, problems) = match checkpoints {
            Some(file) => self.compare(&mut chain, file).await?,
            None => (0, Vec::new()),
        };
        Ok(chain.report(count, problems))
    }

    /// Compares each checkpoint of the file with the log.
    async fn compare(
        &self,
        chain: &mut ChainVerifier,
        file: &CheckpointFile,
    ) -> Result<(u64, Vec<BadEntry>), StoreError> {
        let failed = |e: std::io::Error| StoreError::Checkpoints {
            path: file.path().display().to_string(),
            reason: e.to_string(),
        };
        let (mut count, mut problems) = (0, Vec::new());
        for line in file.read().map_err(failed)? {
            let bad = match line.map_err(failed)? {
                Err(number) => Some(BadEntry { seq: 0, problem: Problem::UnreadableCheckpoint(number) }),
                Ok(c) if chain.keys().check(&c).is_err() => {
                    Some(BadEntry { seq: c.seq, problem: Problem::ForgedCheckpoint })
                }
                Ok(c) => {
                    count += 1;
                    self.compare_one(chain, &c).await?;
                    None
                }
            };
            if let Some(bad) = bad
                && problems.len() < MAX_LISTED
            {
                problems.push(bad);
            }
        }
        Ok((count, problems))
    }

    async fn compare_one(&self, chain: &mut ChainVerifier, c: &Checkpoint) -> Result<(), StoreError> {
        let row = self.0.pools.row("SELECT hash FROM audit WHERE seq = $1", args![to_i64(c.seq)]).await?;
        match row.map(|r| r.text("hash")).transpose()? {
            Some(hash) if hash == c.hash => {}
            Some(_) => chain.note(BadEntry { seq: c.seq, problem: Problem::CheckpointDiffers }),
            // The first missing entry is right after the good ones, wherever the checkpoint stands.
            None => chain.note(BadEntry { seq: chain.next().min(c.seq), problem: Problem::Missing }),
        }
        Ok(())
    }

    async fn recorded_head(&self) -> Result<(u64, String), StoreError> {
        let head = self
            .0
            .pools
            .row("SELECT seq, hash FROM audit_head WHERE id = 1", vec![])
            .await?
            .ok_or_else(|| StoreError::damaged("audit log", "it has no head"))?;
        Ok((head.count("seq")?, head.text("hash")?))
    }

    /// The entries after `seq` up to the first that cannot be read, and whether there is such a one.
    async fn page_after(&self, seq: u64) -> Result<(Vec<AuditEntry>, bool), StoreError> {
        let filter = AuditFilter { after: Some(seq), limit: PAGE, ..AuditFilter::default() };
        let (sql, values) = select(&filter, None);
        let rows = self.0.pools.rows(sql, values).await?;
        let entries: Vec<_> = rows.iter().map_while(|r| entry(r).ok()).collect();
        let unreadable = entries.len() < rows.len();
        Ok((entries, unreadable))
    }
}

/// Entries are looked up by number within what the most telling condition leaves, and the statement says so by comparing
/// whole keys of an index: a planner that may choose walks the log backwards instead, for a kind that was last written a
/// year ago.
fn select(filter: &AuditFilter, span: Option<(i64, i64)>) -> (Sql, Vec<Value>) {
    let (since, until) = span.unwrap_or((i64::MIN, i64::MAX));
    let after = since.max(filter.after.map_or(i64::MIN, to_i64));
    let before = until.min(filter.before.map_or(i64::MAX, to_i64));
    let (kind, actor, subject) =
        (filter.kind.map(AuditKind::as_str), filter.actor.as_ref(), filter.subject.as_ref());
    let all = Select::new(
        "SELECT seq, at, kind, actor, subject, body, prev_hash, hash, key_id, signature FROM audit",
    );
    let (some, orders) = match (kind, actor, subject) {
        (_, _, Some(subject)) => (
            all.and_key("(subject, seq) > (?, ?)", args![subject, after])
                .and_key("(subject, seq) < (?, ?)", args![subject, before])
                .and_some("kind = ?", kind)
                .and_some("actor = ?", actor),
            ["subject ASC, seq ASC", "subject DESC, seq DESC"],
        ),
        (Some(kind), Some(actor), None) => (
            all.and_key("(kind, actor, seq) > (?, ?, ?)", args![kind, actor, after])
                .and_key("(kind, actor, seq) < (?, ?, ?)", args![kind, actor, before]),
            ["kind ASC, actor ASC, seq ASC", "kind DESC, actor DESC, seq DESC"],
        ),
        (Some(kind), None, None) => (
            all.and_key("(kind, seq) > (?, ?)", args![kind, after])
                .and_key("(kind, seq) < (?, ?)", args![kind, before]),
            ["kind ASC, seq ASC", "kind DESC, seq DESC"],
        ),
        (None, Some(actor), None) => (
            all.and_key("(actor, seq) > (?, ?)", args![actor, after])
                .and_key("(actor, seq) < (?, ?)", args![actor, before]),
            ["actor ASC, seq ASC", "actor DESC, seq DESC"],
        ),
        // A number that is none must come too, for verification to name it: SQLite sorts it after all others.
        (None, None, None) => (
            all.and_some("seq > ?", Some(after).filter(|n| *n != i64::MIN))
                .and_some("seq < ?", Some(before).filter(|n| *n != i64::MAX)),
            ["seq ASC", "seq DESC"],
        ),
    };
    some.and_some("at >= ?", filter.from)
        .and_some("at < ?", filter.until)
        .finish(orders[usize::from(filter.after.is_none())], filter.limit)
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        seq: row.count("seq")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        actor: row.text("actor")?,
        subject: row.text("subject")?,
        body: row.text("body")?,
        prev_hash: row.text("prev_hash")?,
        hash: row.text("hash")?,
        key_id: row.text("key_id")?,
        signature: row.text("signature")?,
    })
}
