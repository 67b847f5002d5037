//! Sealed, shares arriving, open, sealed again: the one place where the vault's keys come and go.
//!
//! Everything that needs a key has a clone of the same [`Sealer`], which answers "the vault is sealed" until the gate
//! opens it. Shares are few, live for minutes, and are from different people; a wrong combination drops them all. What
//! happened is kept, with names, until the audit log has taken it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::UnsealError;
use super::shares::{Share, ShareError, combine};
use crate::keyring::{KeyringDocument, KeyringError};
use crate::keyring_store::{KeyringStore, KeyringStoreError};
use crate::root::{Root, VaultId};
use crate::seal::{NextKeyring, SealError, Sealer};
use crate::secret::SecretString;

/// Longest name of a person, bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Happenings that are kept for the audit log; past it the refused attempts among them are only counted.
const MAX_EVENTS: usize = 1024;

/// Why the gate did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It is open.
    #[error(
        "the vault is open already, since {since}, by {by}; to unseal it anew, run `cofferdam vault seal` first"
    )]
    AlreadyOpen {
        /// UTC microseconds.
        since: i64,
        /// By whom.
        by: String,
    },
    /// The keyring is not where it has to be.
    #[error(
        "the vault's keyring is not there; restore it from a backup. Without it only what was sealed before the first re-keying could be opened, and a new one would not fit to the rest"
    )]
    NoKeyring,
    /// One person gave two shares.
    #[error("{by} has given a share already; the next one has to come from another person")]
    SamePerson {
        /// Who.
        by: String,
    },
    /// The name cannot stand in the audit log.
    #[error(
        "a name of 1 to {MAX_NAME_BYTES} bytes without control characters is needed, so that the audit log can say who it was"
    )]
    Name,
    /// What was given does not open it.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The keyring's place.
    #[error(transparent)]
    Store(#[from] KeyringStoreError),
    /// The keys could not be used or changed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<ShareError> for GateError {
    fn from(e: ShareError) -> Self {
        Self::Unseal(e.into())
    }
}

impl From<KeyringError> for GateError {
    fn from(e: KeyringError) -> Self {
        Self::Unseal(e.into())
    }
}

/// One thing for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateEvent {
    /// When, in UTC microseconds.
    pub at: i64,
    /// Who did it.
    pub by: String,
    /// What.
    pub what: Happened,
}

/// See [`GateEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A share was given.
    ShareGiven {
        /// Its number.
        number: u8,
        /// How many are there now.
        given: u8,
        /// How many are needed.
        needed: u8,
    },
    /// The shares that were there are gone.
    SharesDropped {
        /// Why.
        why: String,
    },
    /// The vault was opened.
    Opened {
        /// The people who brought the root, or its shares.
        people: Vec<String>,
    },
    /// An attempt failed.
    Refused {
        /// Why.
        why: String,
    },
    /// The vault was sealed again.
    Sealed,
    /// It was re-keyed.
    Rekeyed {
        /// The generation that seals now.
        generation: u32,
    },
    /// A generation was retired.
    Retired {
        /// Which.
        generation: u32,
    },
    /// The keyring was put under another root.
    Rerooted {
        /// The vault's new name.
        vault: VaultId,
    },
}

/// Where the gate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has brought anything yet, or it was sealed again.
    Sealed,
    /// Some shares are there.
    Waiting(Progress),
    /// Everything works.
    Open {
        /// Since when, in UTC microseconds.
        since: i64,
        /// Who opened it.
        people: Vec<String>,
    },
}

/// How far the shares are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Who gave which share, by its number.
    pub given: Vec<(u8, String)>,
    /// How many are needed.
    pub needed: u8,
    /// When the oldest one is dropped, in UTC microseconds.
    pub expires: i64,
}

enum State {
    Sealed(Vec<Given>),
    Open { since: i64, people: Vec<String> },
}

struct Given {
    share: Share,
    by: String,
    at: i64,
}

struct Inner {
    state: State,
    document: Option<KeyringDocument>,
    events: VecDeque<GateEvent>,
    refused_unkept: u64,
}

/// See the module.
pub struct Gate {
    sealer: Sealer,
    keyrings: Arc<dyn KeyringStore>,
    share_micros: i64,
    needs_keyring: bool,
    inner: Mutex<Inner>,
}

impl Gate {
    /// A sealed gate before `sealer`, whose keyring is in `keyrings`; a share waits `share_seconds` for the others.
    #[must_use]
    pub fn new(sealer: Sealer, keyrings: Arc<dyn KeyringStore>, share_seconds: u32) -> Self {
        sealer.lock();
        let inner = Inner {
            state: State::Sealed(Vec::new()),
            document: None,
            events: VecDeque::new(),
            refused_unkept: 0,
        };
        let share_micros = i64::from(share_seconds).saturating_mul(1_000_000);
        Self { sealer, keyrings, share_micros, needs_keyring: false, inner: Mutex::new(inner) }
    }

    /// Refuses to open without a keyring: for every vault that has had one.
    #[must_use]
    pub fn requiring_keyring(mut self) -> Self {
        self.needs_keyring = true;
        self
    }

    /// What seals and opens, while the gate is open.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Where the gate is at `now` (UTC microseconds).
    pub fn phase(&self, now: i64) -> Phase {
        let mut inner = self.lock();
        self.drop_expired(&mut inner, now);
        match &inner.state {
            State::Open { since, people } => Phase::Open { since: *since, people: people.clone() },
            State::Sealed(given) => progress(given, self.share_micros).map_or(Phase::Sealed, Phase::Waiting),
        }
    }

    /// Opens with the whole root, which one person (or the service itself) brought.
    ///
    /// # Errors
    /// [`GateError`]; the gate then stays as it was.
    pub fn open(&self, root: &Root, by: &str, now: i64) -> Result<(), GateError> {
        let mut inner = self.lock();
        let done = self.try_open(&mut inner, root, vec![checked_name(by)?.to_owned()], now);
        done.inspect_err(|e| refuse(&mut inner, by, now, e))
    }

    /// Takes one share; opens when it was the last one needed.
    ///
    /// # Errors
    /// [`GateError`]. A share that is refused leaves those before it where they are, unless together they are wrong: then
    /// all are dropped, because nobody can say which one it was.
    pub fn contribute(&self, code: &SecretString, by: &str, now: i64) -> Result<Phase, GateError> {
        let by = checked_name(by)?;
        {
            let mut inner = self.lock();
            self.drop_expired(&mut inner, now);
            self.take_share(&mut inner, code, by, now).inspect_err(|e| refuse(&mut inner, by, now, e))?;
        }
        Ok(self.phase(now))
    }

    /// Seals the vault: from now on nothing opens, in any part of the program.
    ///
    /// # Errors
    /// [`GateError::Name`].
    pub fn seal(&self, by: &str, now: i64) -> Result<(), GateError> {
        let by = checked_name(by)?;
        let mut inner = self.lock();
        self.sealer.lock();
        inner.state = State::Sealed(Vec::new());
        inner.document = None;
        note(&mut inner, by, now, Happened::Sealed);
        Ok(())
    }

    /// Makes a new generation, stores the keyring, and only then seals with it. Answers its number.
    ///
    /// # Errors
    /// [`GateError::Store`] when another node was faster; nothing has changed then.
    pub fn rekey(&self, by: &str, now: i64) -> Result<u32, GateError> {
        self.change(
            by,
            now,
            |sealer| sealer.rekey(now),
            |next| Happened::Rekeyed { generation: next.generation() },
        )
        .map(|next| next.generation())
    }

    /// Takes a generation out of the keyring that nothing is wrapped to any more. The caller has counted
    /// ([`Sealer::generation_of`]).
    ///
    /// # Errors
    /// [`GateError::Seal`] for the newest one, or one that is not there.
    pub fn retire(&self, generation: u32, by: &str, now: i64) -> Result<(), GateError> {
        self.change(by, now, |sealer| sealer.retire(generation), |_| Happened::Retired { generation })
            .map(drop)
    }

    /// Puts the keyring under another root. The old root opens nothing any more from then on.
    ///
    /// # Errors
    /// [`GateError::Store`] when another node was faster.
    pub fn reroot(&self, root: &Root, by: &str, now: i64) -> Result<(), GateError> {
        let vault = root.vault_id();
        self.change(by, now, |sealer| sealer.reroot(root), |_| Happened::Rerooted { vault }).map(drop)
    }

    /// Reads the keyring anew, after another node changed it. Answers the generation that seals now.
    ///
    /// # Errors
    /// [`GateError::Seal`] when it is an old copy or is under another root.
    pub fn refresh(&self) -> Result<u32, GateError> {
        let mut inner = self.lock();
        let document = self.keyrings.load()?;
        // What has not changed is not opened again: this is asked every second.
        if document != inner.document {
            if let Some(document) = &document {
                self.sealer.refresh(document)?;
            }
            inner.document = document;
        }
        Ok(self.sealer.generation()?)
    }

    /// What happened since the last call, the oldest first, and how many refused attempts were too many to keep. The
    /// caller writes it to the audit log.
    pub fn take_events(&self) -> (Vec<GateEvent>, u64) {
        let mut inner = self.lock();
        (inner.events.drain(..).collect(), std::mem::take(&mut inner.refused_unkept))
    }

    /// Notes an attempt that failed before it came to the gate: a wrong passphrase, a token that is not there.
    pub fn refused(&self, why: &str, by: &str, now: i64) {
        let by = checked_name(by).unwrap_or("somebody");
        note(&mut self.lock(), by, now, Happened::Refused { why: why.to_owned() });
    }

    fn take_share(
        &self,
        inner: &mut Inner,
        code: &SecretString,
        by: &str,
        now: i64,
    ) -> Result<(), GateError> {
        let given = match &mut inner.state {
            State::Open { since, people } => {
                return Err(GateError::AlreadyOpen { since: *since, by: people.join(", ") });
            }
            State::Sealed(given) => given,
        };
        let share = Share::parse(code)?;
        // What the shares have to fit to, before the first of them is kept.
        if let Some(expected) = self.keyrings.load()?.and_then(|d| d.vault_id())
            && share.vault_id() != expected
        {
            let number = share.number();
            return Err(ShareError::Foreign { number, found: share.vault_id(), expected }.into());
        }
        for other in given.iter() {
            share.fits(&other.share)?;
            if other.by == by {
                return Err(GateError::SamePerson { by: by.to_owned() });
            }
        }
        let (number, needed) = (share.number(), share.needed());
        given.push(Given { share, by: by.to_owned(), at: now });
        let count = u8::try_from(given.len()).unwrap_or(u8::MAX);
        note(inner, by, now, Happened::ShareGiven { number, given: count, needed });
        if count < needed { Ok(()) } else { self.open_with_shares(inner, by, now) }
    }

    fn open_with_shares(&self, inner: &mut Inner, by: &str, now: i64) -> Result<(), GateError> {
        // Taken out first: whatever happens, no share stays behind.
        let State::Sealed(given) = std::mem::replace(&mut inner.state, State::Sealed(Vec::new())) else {
            return Ok(());
        };
        let (shares, people): (Vec<Share>, Vec<String>) = given.into_iter().map(|g| (g.share, g.by)).unzip();
        let opened = combine(&shares)
            .map_err(GateError::from)
            .and_then(|root| self.try_open(inner, &root, people, now));
        if opened.is_err() {
            let why = "they did not open the vault".to_owned();
            note(inner, by, now, Happened::SharesDropped { why });
        }
        opened
    }

    fn try_open(
        &self,
        inner: &mut Inner,
        root: &Root,
        people: Vec<String>,
        now: i64,
    ) -> Result<(), GateError> {
        if let State::Open { since, people } = &inner.state {
            return Err(GateError::AlreadyOpen { since: *since, by: people.join(", ") });
        }
        let document = self.keyrings.load()?;
        if self.needs_keyring && document.is_none() {
            return Err(GateError::NoKeyring);
        }
        self.sealer.unlock(root, document.as_ref())?;
        inner.document = document;
        let by = people.last().cloned().unwrap_or_default();
        note(inner, &by, now, Happened::Opened { people: people.clone() });
        inner.state = State::Open { since: now, people };
        Ok(())
    }

    fn change(
        &self,
        by: &str,
        now: i64,
        make: impl FnOnce(&Sealer) -> Result<NextKeyring, SealError>,
        what: impl FnOnce(&NextKeyring) -> Happened,
    ) -> Result<Changed, GateError> {
        let by = checked_name(by)?;
        let mut inner = self.lock();
        let next = make(&self.sealer)?;
        self.keyrings.replace(inner.document.as_ref(), next.document())?;
        inner.document = Some(next.document().clone());
        let (happened, generation) = (what(&next), next.generation());
        self.sealer.adopt(next);
        note(&mut inner, by, now, happened);
        Ok(Changed(generation))
    }

    /// A clock that jumped back drops them too: then nobody can say how long they have been there.
    fn drop_expired(&self, inner: &mut Inner, now: i64) {
        let State::Sealed(given) = &mut inner.state else { return };
        let before = given.len();
        given.retain(|g| (g.at..g.at.saturating_add(self.share_micros)).contains(&now));
        if given.len() < before {
            let why = format!("{} waited too long for the others", before - given.len());
            note(inner, "the vault", now, Happened::SharesDropped { why });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}

struct Changed(u32);

impl Changed {
    fn generation(&self) -> u32 {
        self.0
    }
}

fn progress(given: &[Given], live: i64) -> Option<Progress> {
    let needed = given.first()?.share.needed();
    let expires = given.iter().map(|g| g.at.saturating_add(live)).min()?;
    let given = given.iter().map(|g| (g.share.number(), g.by.clone())).collect();
    Some(Progress { given, needed, expires })
}

fn checked_name(by: &str) -> Result<&str, GateError> {
    let fits = !by.is_empty() && by.len() <= MAX_NAME_BYTES && !by.chars().any(char::is_control);
    if fits { Ok(by) } else { Err(GateError::Name) }
}

fn refuse(inner: &mut Inner, by: &str, now: i64, e: &GateError) {
    note(inner, by, now, Happened::Refused { why: e.to_string() });
}

fn note(inner: &mut Inner, by: &str, at: i64, what: Happened) {
    if inner.events.len() >= MAX_EVENTS && matches!(what, Happened::Refused { .. }) {
        inner.refused_unkept = inner.refused_unkept.saturating_add(1);
        return;
    }
    if inner.events.len() >= MAX_EVENTS {
        // Something that happened is worth more than an attempt that did not.
        let refused = inner.events.iter().position(|e| matches!(e.what, Happened::Refused { .. }));
        inner.events.remove(refused.unwrap_or(0));
        inner.refused_unkept = inner.refused_unkept.saturating_add(1);
    }
    inner.events.push_back(GateEvent { at, by: by.to_owned(), what });
}

#[cfg(test)]
mod tests;
