//! What log-ins leave behind: counts of failures, and second factors that count for a while.

use std::net::IpAddr;

use super::{
    Store,
    change::{Change, Quiet},
    db::args,
    error::StoreError,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{Name, WindowId},
};

/// Tallies untouched for this long are swept, seconds.
const SWEEP_SECONDS: i64 = 24 * 3600;
/// Longest subject of a tally that is kept, characters: people may try any name.
const MAX_SUBJECT: usize = 64;

/// What failures are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TallyKey {
    /// By where they come from: an address, or a network where the rule counts by network.
    Source(String),
    /// By the name that was tried, whether it exists or not.
    Account(String),
}

impl TallyKey {
    fn parts(&self) -> (&'static str, String) {
        let (scope, subject) = match self {
            Self::Source(s) => ("source", s),
            Self::Account(s) => ("account", s),
        };
        let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        (scope, subject.chars().take(MAX_SUBJECT).map(clean).collect())
    }
}

/// Failures counted under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many in a row, with no success and no long pause between.
    pub failures: u64,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
}

/// A second factor that counts for a while: only for the same person, device key, address and window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedFactor {
    /// The person.
    pub person: Name,
    /// Fingerprint of the key that the device proved.
    pub device_key: String,
    /// The address the person came from.
    pub source: IpAddr,
    /// The window it was given for.
    pub window: Option<WindowId>,
}

impl RememberedFactor {
    fn parts(&self) -> (String, String) {
        let window = self.window.map(|w| w.to_string()).unwrap_or_default();
        (self.source.to_canonical().to_string(), window)
    }
}

impl Store {
    /// Counts a failure under each key and writes `event`. A count whose last failure is longer ago than
    /// `forget_after_seconds` starts again at 1.
    pub async fn note_failure(
        &self,
        act: &Act,
        keys: &[TallyKey],
        forget_after_seconds: u32,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let stale = act.at.plus_seconds(-i64::from(forget_after_seconds));
        for key in keys {
            let (scope, subject) = key.parts();
            change
                .execute(
                    "INSERT INTO tally (scope, subject, failures, first_at, last_at) VALUES ($1, $2, 1, $3, $3) \
                     ON CONFLICT (scope, subject) DO UPDATE SET \
                     failures = CASE WHEN tally.last_at < $4 THEN 1 ELSE tally.failures + 1 END, \
                     first_at = CASE WHEN tally.last_at < $4 THEN $3 ELSE tally.first_at END, \
                     last_at = $3",
                    args![scope, subject, act.at, stale],
                )
                .await?;
        }
        // Names and addresses are the attacker's choice, so old ones must go by themselves.
        change
            .execute("DELETE FROM tally WHERE last_at < $1", args![act.at.plus_seconds(-SWEEP_SECONDS)])
            .await?;
        change.commit(event).await.map(drop)
    }

    /// The failures counted under each key, in the order of the keys.
    pub async fn tallies(&self, keys: &[TallyKey]) -> Result<Vec<Option<Tally>>, StoreError> {
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            let (scope, subject) = key.parts();
            let row = self
                .0
                .pools
                .row(
                    "SELECT failures, first_at, last_at FROM tally WHERE scope = $1 AND subject = $2",
                    args![scope, subject],
                )
                .await?;
            out.push(
                row.map(|r| {
                    Ok(Tally {
                        failures: r.count("failures")?,
                        first_at: r.time("first_at")?,
                        last_at: r.time("last_at")?,
                    })
                })
                .transpose()?,
            );
        }
        Ok(out)
    }

    /// Forgets the failures under these keys and writes `event` (a log-in that worked, or somebody who unlocked it).
    pub async fn clear_tallies(
        &self,
        act: &Act,
        keys: &[TallyKey],
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        forget_tallies(&mut change, keys).await?;
        change.commit(event).await.map(drop)
    }

    /// Until when the second factor counts, if it still does at `now`.
    pub async fn remembered_until(
        &self,
        factor: &RememberedFactor,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (source, window) = factor.parts();
        let row = self
            .0
            .pools
            .row(
                "SELECT until FROM remembered_factor WHERE person = $1 AND device_key = $2 AND source = $3 \
                 AND window_id = $4 AND until > $5",
                args![&factor.person, &factor.device_key, source, window, now],
            )
            .await?;
        row.map(|r| r.time("until")).transpose()
    }

    /// Lets the second factor count until `until`. Where a session is opened anyway, give it to
    /// [`Store::open_session`] instead: that is one transaction less.
    pub async fn remember_factor(
        &self,
        act: &Act,
        factor: &RememberedFactor,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let event = put_factor(&mut change, factor, until).await?;
        change.commit(event).await.map(drop)
    }

    /// Drops what is remembered for a person.
    pub async fn forget_factors(&self, act: &Act, person: &Name) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        change.execute("DELETE FROM remembered_factor WHERE person = $1", args![person]).await?;
        change.policy_sees_it();
        change.commit(AuditEvent::new(AuditKind::SecondFactorForgotten, person)).await.map(drop)
    }

    /// Sweeps rows that have ended by themselves. To be called now and then.
    pub async fn sweep(&self, act: &Act) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        change.execute("DELETE FROM remembered_factor WHERE until <= $1", args![act.at]).await?;
        change
            .execute("DELETE FROM tally WHERE last_at < $1", args![act.at.plus_seconds(-SWEEP_SECONDS)])
            .await?;
        change.execute("DELETE FROM desktop_token WHERE expires_at <= $1", args![act.at]).await?;
        change.commit_quietly(Quiet::Expired).await
    }
}

/// Remembers the factor and answers the event to write.
pub(super) async fn put_factor(
    change: &mut Change<'_>,
    factor: &RememberedFactor,
    until: Timestamp,
) -> Result<AuditEvent, StoreError> {
    let (source, window) = factor.parts();
    let event = AuditEvent::new(AuditKind::SecondFactorRemembered, &factor.person)
        .with("device_key", factor.device_key.as_str())
        .with("for_source", source.as_str())
        .with("window", window.as_str())
        .with("until", until.micros());
    change
        .execute(
            "INSERT INTO remembered_factor (person, device_key, source, window_id, until) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (person, device_key, source, window_id) DO UPDATE SET until = excluded.until",
            args![&factor.person, &factor.device_key, source, window, until],
        )
        .await?;
    Ok(event)
}

pub(super) async fn forget_tallies(change: &mut Change<'_>, keys: &[TallyKey]) -> Result<(), StoreError> {
    for key in keys {
        let (scope, subject) = key.parts();
        change.execute("DELETE FROM tally WHERE scope = $1 AND subject = $2", args![scope, subject]).await?;
    }
    Ok(())
}
