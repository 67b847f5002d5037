//! The ledger of what is checked out: by sessions and by people, one table, so that exclusive means exclusive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether several sessions may use an account at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any number.
    Shared,
    /// One.
    Exclusive,
}

/// One lease that is out, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The account.
    pub account_id: String,
    /// The session that has it, or the check-out of a person.
    pub session_id: String,
    /// The person.
    pub user_name: String,
    /// Whether nobody else may have it.
    pub sharing: Sharing,
    /// Since when, in UTC microseconds.
    pub since: i64,
}

/// Everything that is out.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Leases>);

#[derive(Debug, Default)]
struct Leases {
    next: u64,
    leases: HashMap<u64, HeldLease>,
}

impl Ledger {
    /// A panic elsewhere leaves the map whole: each change to it is a single insert or remove.
    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that are out, the oldest first.
    pub(crate) fn held(&self) -> Vec<HeldLease> {
        let mut all: Vec<HeldLease> = self.lock().leases.values().cloned().collect();
        all.sort_by(|a, b| (a.since, &a.session_id).cmp(&(b.since, &b.session_id)));
        all
    }

    /// Enters `lease`, unless it and one that is out exclude each other: then that one is the answer.
    pub(crate) fn enter(this: &Arc<Self>, lease: HeldLease) -> Result<Entry, HeldLease> {
        let mut table = this.lock();
        let conflict = table.leases.values().find(|held| {
            held.account_id == lease.account_id
                && (lease.sharing == Sharing::Exclusive || held.sharing == Sharing::Exclusive)
        });
        if let Some(held) = conflict {
            return Err(held.clone());
        }
        let number = table.next;
        table.next += 1;
        let account_id = lease.account_id.clone();
        table.leases.insert(number, lease);
        drop(table);
        Ok(Entry { number, account_id, ledger: Arc::clone(this) })
    }
}

/// A place in the ledger. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Entry {
    number: u64,
    pub(crate) account_id: String,
    ledger: Arc<Ledger>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.lock().leases.remove(&self.number);
    }
}
