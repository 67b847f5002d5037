//! Limits on log-in attempts that slow guessing down and lock nobody out.
//!
//! Three kinds of budget, each a token bucket that refills without anybody's help:
//!
//! - **source** (an IPv4 address, or an IPv6 /64): every attempt from it, whoever it is for. Exhausted: refused for a
//!   while. Hits only those who share the address.
//! - **account**: guesses at a person's password from sources at which that person never logged in before. Exhausted:
//!   refused for a while, for such sources only.
//! - **known**: the pair of a person and a source at which that person completed a log-in. Its guesses are counted
//!   here and not under the account.
//!
//! Why nobody is locked out for good: an attacker elsewhere can empty the account's budget, but not the budget of the
//! pair of the person and a place where they logged in before, and a proof by key is no guess and costs the account
//! nothing, from wherever it comes. A code is only asked for after the first factor, so that its budget can be emptied
//! only by who has that. What an attacker can still do is to slow down a person who uses a password from a new place;
//! every budget refills by itself, and no attempt pushes the next one further away.
//!
//! Memory is bounded: each table has a fixed size. The pairs stand in a table of their own, which only completed
//! log-ins enter, so that a flood of sources cannot push them out.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

use crate::{clock::Timestamp, ids::Name};

/// A bucket: how many attempts at once, and how long one takes to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Attempts at once.
    pub burst: u32,
    /// Seconds until one attempt has come back.
    pub refill_seconds: u32,
}

/// All budgets and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Of a source.
    pub source: Budget,
    /// Of an account from sources unknown to it.
    pub account: Budget,
    /// Of an account from a source known to it.
    pub known: Budget,
    /// Entries in each table.
    pub entries: usize,
    /// How long a source stays known after the last completed log-in, seconds.
    pub known_seconds: i64,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            source: Budget { burst: 30, refill_seconds: 4 },
            account: Budget { burst: 10, refill_seconds: 30 },
            known: Budget { burst: 10, refill_seconds: 15 },
            entries: 10_000,
            known_seconds: 90 * 86_400,
        }
    }
}

/// What an attempt tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// A guess is possible: a password, or a code.
    Guess,
    /// A proof by key or certificate: no guess.
    Proof,
}

/// Whether an attempt may go on.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It may.
    Go,
    /// It may not; what is tried is not even looked at.
    Wait {
        /// When the next attempt has come back, seconds from now (at least 1).
        seconds: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// The moment at which the bucket is full again. Attempts move it later; time does the rest.
    full_at: Timestamp,
    touched: Timestamp,
}

/// The budgets of all sources and accounts. One per process; put it behind a lock that is held for a look-up only.
#[derive(Debug)]
pub struct RateLimiter {
    budgets: Budgets,
    sources: HashMap<IpAddr, Bucket>,
    accounts: HashMap<Name, Bucket>,
    known: HashMap<(Name, IpAddr), Bucket>,
}

impl RateLimiter {
    /// All budgets full.
    pub fn new(budgets: Budgets) -> Self {
        Self { budgets, sources: HashMap::new(), accounts: HashMap::new(), known: HashMap::new() }
    }

    /// Counts a new connection or log-in attempt from `source`: ask before any work is done.
    pub fn source(&mut self, source: IpAddr, now: Timestamp) -> Limit {
        take(&mut self.sources, source_key(source), self.budgets.source, self.budgets.entries, now)
    }

    /// Counts one attempt at `user` from `source`. Asked for unknown names too, which fill the same table.
    pub fn account(&mut self, user: &Name, source: IpAddr, attempt: Attempt, now: Timestamp) -> Limit {
        if attempt == Attempt::Proof {
            return Limit::Go;
        }
        let pair = (user.clone(), source_key(source));
        let known = self
            .known
            .get(&pair)
            .is_some_and(|b| now.since(b.touched) < self.budgets.known_seconds.saturating_mul(1_000_000));
        if known {
            // Not touched: only a completed log-in keeps a source known.
            return match self.known.get_mut(&pair) {
                Some(bucket) => bucket.take(self.budgets.known, now),
                None => Limit::Go,
            };
        }
        take(&mut self.accounts, user.clone(), self.budgets.account, self.budgets.entries, now)
    }

    /// `user` completed a log-in, both factors, from `source`: the source is known from now on, its budget is full.
    pub fn succeeded(&mut self, user: &Name, source: IpAddr, now: Timestamp) {
        let bucket = Bucket { full_at: now, touched: now };
        make_room(&mut self.known, self.budgets.entries, now);
        self.known.insert((user.clone(), source_key(source)), bucket);
    }

    /// Takes up a completed log-in of an earlier run, as the store knows it.
    pub fn remember(&mut self, user: &Name, source: IpAddr, at: Timestamp) {
        self.succeeded(user, source, at);
    }

    /// Entries held, of all kinds.
    pub fn entries(&self) -> usize {
        self.sources.len() + self.accounts.len() + self.known.len()
    }
}

impl Bucket {
    fn take(&mut self, budget: Budget, now: Timestamp) -> Limit {
        let refill = i64::from(budget.refill_seconds.max(1)) * 1_000_000;
        let depth = refill.saturating_mul(i64::from(budget.burst.max(1)));
        // A clock that jumped back must not leave anybody waiting for longer than a whole bucket takes.
        let full_at = self.full_at.max(now).min(Timestamp(now.0.saturating_add(depth)));
        let after = Timestamp(full_at.0.saturating_add(refill));
        let wait = after.since(now) - depth;
        if wait > 0 {
            self.full_at = full_at;
            let seconds = u32::try_from(wait.div_euclid(1_000_000) + 1).unwrap_or(u32::MAX);
            return Limit::Wait { seconds };
        }
        self.full_at = after;
        Limit::Go
    }
}

fn take<K: Eq + Hash + Clone>(
    table: &mut HashMap<K, Bucket>,
    key: K,
    budget: Budget,
    most: usize,
    now: Timestamp,
) -> Limit {
    if !table.contains_key(&key) {
        make_room(table, most, now);
    }
    let bucket = table.entry(key).or_insert(Bucket { full_at: now, touched: now });
    bucket.touched = now;
    bucket.take(budget, now)
}

/// Makes room for one more by dropping the eighth that was untouched longest: those refilled most, and dropping many at
/// once keeps the cost of a flood low.
fn make_room<K: Eq + Hash + Clone>(table: &mut HashMap<K, Bucket>, most: usize, now: Timestamp) {
    let most = most.max(8);
    if table.len() < most {
        return;
    }
    let mut touched: Vec<Timestamp> = table.values().map(|b| b.touched).collect();
    touched.sort_unstable();
    let cut = touched.get(most / 8).copied().unwrap_or(now);
    let mut to_drop = most / 8 + 1;
    table.retain(|_, b| {
        let goes = to_drop > 0 && b.touched <= cut;
        to_drop -= usize::from(goes);
        !goes
    });
}

/// The address whose holders share a budget: IPv4 alone, IPv6 by its /64, which one line of a provider has.
fn source_key(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
#[path = "ratelimit/tests.rs"]
mod tests;
