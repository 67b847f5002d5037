//! A ledger in memory: for simulated fleets, and the model that a ledger in a database is held against.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::finding::Finding;
use super::ledger::{Claim, Ledger, LedgerError};
use super::record::{Progress, Reason, Record, Want};

/// Keeps records as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<HashMap<String, Row>>);

#[derive(Debug)]
struct Row {
    record: Record,
    findings: Vec<Finding>,
    claim: Option<Claim>,
}

impl MemoryLedger {
    /// Enters an account, or replaces it.
    pub fn insert(&self, account: &str, progress: Progress) {
        let record = Record { account: account.to_owned(), version: 1, want: None, progress };
        self.lock().insert(account.to_owned(), Row { record, findings: Vec::new(), claim: None });
    }

    /// The record as it is kept.
    #[must_use]
    pub fn record(&self, account: &str) -> Option<Record> {
        self.lock().get(account).map(|row| row.record.clone())
    }

    /// The findings that were kept, the oldest first.
    #[must_use]
    pub fn findings(&self, account: &str) -> Vec<Finding> {
        self.lock().get(account).map(|row| row.findings.clone()).unwrap_or_default()
    }

    /// Each change of a row is one assignment, so that a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(account: &str) -> LedgerError {
    LedgerError::Unknown { account: account.to_owned() }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn want(&self, account: &str, reason: Reason) -> Result<u64, LedgerError> {
        let mut rows = self.lock();
        let row = rows.get_mut(account).ok_or_else(|| unknown(account))?;
        let number = row.record.want.map_or(0, |want| want.number) + 1;
        row.record.want = Some(Want { number, reason });
        Ok(number)
    }

    async fn due(&self, now: i64, limit: usize) -> Result<Vec<String>, LedgerError> {
        let rows = self.lock();
        let mut due: Vec<(i64, &String)> = rows
            .iter()
            .filter(|(_, row)| row.record.is_due(now) && !row.claim.as_ref().is_some_and(|c| c.holds(now)))
            .map(|(account, row)| (row.record.progress.next_at, account))
            .collect();
        due.sort_unstable();
        Ok(due.into_iter().take(limit).map(|(_, account)| account.clone()).collect())
    }

    async fn claim(&self, account: &str, claim: &Claim, now: i64) -> Result<Record, LedgerError> {
        let mut rows = self.lock();
        let row = rows.get_mut(account).ok_or_else(|| unknown(account))?;
        if let Some(other) = row.claim.as_ref().filter(|other| other.holds(now)) {
            return Err(LedgerError::Held { account: account.to_owned(), holder: other.holder.clone() });
        }
        row.claim = Some(claim.clone());
        Ok(row.record.clone())
    }

    async fn write(
        &self,
        record: &Record,
        findings: &[Finding],
        claim: &Claim,
        release: bool,
    ) -> Result<Record, LedgerError> {
        let mut rows = self.lock();
        let row = rows.get_mut(&record.account).ok_or_else(|| unknown(&record.account))?;
        let mine = row.claim.as_ref().is_some_and(|held| held.holder == claim.holder);
        if !mine || row.record.version != record.version {
            return Err(LedgerError::Conflict { account: record.account.clone() });
        }
        row.record.progress = record.progress.clone();
        row.record.version += 1;
        row.findings.extend_from_slice(findings);
        row.claim = (!release).then(|| claim.clone());
        Ok(row.record.clone())
    }

    async fn release(&self, account: &str, claim: &Claim) -> Result<(), LedgerError> {
        let mut rows = self.lock();
        if let Some(row) = rows.get_mut(account)
            && row.claim.as_ref().is_some_and(|held| held.holder == claim.holder)
        {
            row.claim = None;
        }
        Ok(())
    }
}
