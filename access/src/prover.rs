//! Checks of what people prove with (passwords, codes), for every way in: SSH, the web, the command line. One place, so
//! that no way in is checked less than another.
//!
//! Guesses are counted before they are looked at ([`crate::ratelimit`]), the work is the same for names that nobody has,
//! and a code counts only if the store marked it used in the same transaction that audits what it was for.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    audit::{Act, Actor, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::Name,
    login::{CodeCheck, Enrolled, Event, LoggedIn, LoginMachine, Step},
    password::{Costs, StoredPassword, verify_or_dummy},
    ratelimit::{Attempt, Budgets, Limit, RateLimiter},
    recovery::{self, RecoveryHash},
    site::Site,
    store::{CodeUse, Credentials, Store, StoreError, TallyKey},
    totp::TotpSecret,
};

/// Password checks at a time: each takes memory on purpose.
const CHECKS: usize = 2;
/// A count of failures starts anew after so long without one, seconds.
const FORGET_FAILURES: u32 = 3600;

/// What people's authenticators share with us. The vault implements it: what is kept is opened where its keys are, and
/// nowhere else.
pub trait SecondFactors: Send + Sync + fmt::Debug {
    /// The time step whose code `code` is, later than `last_used`; none for a wrong or used one, and when it was sealed
    /// for somebody else, is damaged, or the vault is sealed.
    fn step_of(
        &self,
        person: &Name,
        sealed: &[u8],
        code: &str,
        now: Timestamp,
        last_used: Option<u64>,
    ) -> Option<u64>;
    /// Whether codes can be checked at all: not while the vault is sealed. Does not wait.
    fn ready(&self) -> bool {
        true
    }
    /// Seals a secret for `person`, to be kept; none when the vault cannot.
    fn seal(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>>;
    /// Seals a secret that `person` is being shown, for a few minutes, for this process alone.
    fn set_aside(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>>;
    /// What [`Self::set_aside`] sealed for `person`.
    fn take_up(&self, person: &Name, sealed: &[u8]) -> Option<TotpSecret>;
}

/// See the module.
#[derive(Debug)]
pub struct Prover {
    store: Store,
    factors: Arc<dyn SecondFactors>,
    limiter: Mutex<RateLimiter>,
    checks: Semaphore,
}

impl Prover {
    /// With full budgets.
    pub fn new(store: Store, factors: Arc<dyn SecondFactors>) -> Self {
        Self {
            store,
            factors,
            limiter: Mutex::new(RateLimiter::new(Budgets::default())),
            checks: Semaphore::new(CHECKS),
        }
    }

    /// Counts a guess at `user` from `source`; says whether it may be looked at.
    pub fn may_guess(&self, user: Option<&Name>, source: IpAddr, now: Timestamp) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if limiter.source(source, now) != Limit::Go {
            return false;
        }
        user.is_none_or(|u| limiter.account(u, source, Attempt::Guess, now) == Limit::Go)
    }

    /// `user` completed a log-in, both factors, from `source`.
    pub fn succeeded(&self, user: &Name, source: IpAddr, now: Timestamp) {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).succeeded(user, source, now);
    }

    /// Whether the password is theirs. The same work is done for a name that nobody has, and for people without one; a
    /// store that does not answer knows no password.
    pub async fn password(&self, user: Option<&Name>, password: Zeroizing<Vec<u8>>) -> bool {
        let kept = match user {
            Some(name) => self.store.credentials(name).await.ok().flatten(),
            None => None,
        };
        let stored =
            kept.and_then(|c| c.password_hash).and_then(|h| StoredPassword::from_phc(h.to_string()).ok());
        let Ok(_place) = self.checks.acquire().await else { return false };
        let check = move || verify_or_dummy(stored.as_ref(), &password, Costs::OWASP);
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    /// Checks a code and marks it used, in one transaction of the store that also writes the event that `made` gives for
    /// the kind of code (`totp`, `recovery`). What fails in between is a wrong code.
    pub async fn code(
        &self,
        act: &Act,
        user: &Name,
        code: &str,
        made: impl Fn(&'static str) -> AuditEvent,
    ) -> CodeCheck {
        let Ok(Some(kept)) = self.store.credentials(user).await else { return CodeCheck::Wrong };
        let tallies = tallies(Some(user), act.source);
        if let Some(step) = self.step_of(&kept, user, code, act.at).await {
            let used = self.store.use_totp_step(act, user, step, &tallies, made("totp")).await;
            return if matches!(used, Ok(CodeUse::Accepted)) { CodeCheck::Totp } else { CodeCheck::Wrong };
        }
        let Ok(digests) = self.store.recovery_digests(user).await else { return CodeCheck::Wrong };
        let hashes: Vec<RecoveryHash> = digests
            .iter()
            .filter_map(|d| hex::decode(d).ok().and_then(|b| b.try_into().ok()).map(RecoveryHash))
            .collect();
        let Some(digest) = recovery::find(&hashes, user, code).and_then(|i| hashes.get(i)) else {
            return CodeCheck::Wrong;
        };
        let digest = hex::encode(digest.0);
        let used = self.store.use_recovery_code(act, user, &digest, &tallies, made("recovery")).await;
        if matches!(used, Ok(CodeUse::Accepted)) { CodeCheck::Recovery } else { CodeCheck::Wrong }
    }

    /// What is known of a person who logs in without a key.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn enrolled(
        &self,
        site: &Site,
        name: &Name,
        now: Timestamp,
    ) -> Result<Option<Enrolled>, StoreError> {
        let Some(user) = site.user(name) else { return Ok(None) };
        let kept = self.store.credentials(name).await?;
        Ok(Some(Enrolled {
            user: name.clone(),
            active: user.is_active(now),
            keys: Default::default(),
            has_second_factor: kept.is_some_and(|c| c.totp_sealed.is_some() || c.recovery_codes_left > 0),
            remembered: Vec::new(),
        }))
    }

    /// Feeds the machine of a log-in with a password and a code that came at once, by the way in that `at` names. The code
    /// is looked at, and thereby used up, only after the password was right. Where this answers none, the machine knows why.
    pub async fn both(
        &self,
        machine: &mut LoginMachine,
        user: Option<&Name>,
        (source, now): (IpAddr, Timestamp),
        (password, code): (Zeroizing<Vec<u8>>, &str),
        at: &'static str,
    ) -> Option<LoggedIn> {
        let ok = self.password(user, password).await;
        let (Step::Continue { partial: true, .. }, Some(user)) =
            (machine.handle(Event::Password { ok }, now), user)
        else {
            return None;
        };
        let Step::AskCode { .. } = machine.handle(Event::ReadyForCode, now) else { return None };
        let made =
            |how| AuditEvent::new(AuditKind::LoginSucceeded, user).with("second_factor", how).with("at", at);
        let act = Act::person(user, now).from(source);
        let check = self.code(&act, user, code.trim(), made).await;
        match machine.handle(Event::Code(check), now) {
            Step::Accept(person) => Some(*person),
            _ => None,
        }
    }

    async fn step_of(&self, kept: &Credentials, user: &Name, code: &str, now: Timestamp) -> Option<u64> {
        let (factors, user, code) = (self.factors.clone(), user.clone(), Zeroizing::new(code.to_owned()));
        let (sealed, last) = (kept.totp_sealed.clone()?, Some(kept.totp_step).filter(|s| *s > 0));
        // It may ask another process.
        let check = move || factors.step_of(&user, &sealed, &code, now, last);
        tokio::task::spawn_blocking(check).await.ok().flatten()
    }

    /// Whether codes can be checked at all: a right one must not look wrong without a word.
    pub fn ready(&self) -> bool {
        self.factors.ready()
    }

    /// A new secret for `person`, sealed for the store.
    ///
    /// # Errors
    /// When the vault cannot seal.
    pub fn seal(&self, person: &Name, secret: &TotpSecret) -> Result<Vec<u8>, StoreError> {
        self.factors.seal(person, secret).ok_or_else(|| {
            StoreError::Refused("the vault cannot seal a second factor: look at its identity file".into())
        })
    }

    /// A secret that `person` is being shown, sealed for some minutes and for this process alone.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn set_aside(&self, person: &Name, secret: &TotpSecret) -> Result<Vec<u8>, StoreError> {
        let sealed = self.factors.set_aside(person, secret);
        sealed.ok_or_else(|| StoreError::Refused("a second factor cannot be sealed".into()))
    }

    /// What [`Self::set_aside`] sealed for `person`; none after a restart.
    pub fn take_up(&self, person: &Name, sealed: &[u8]) -> Option<TotpSecret> {
        self.factors.take_up(person, sealed)
    }

    /// Audits and counts an attempt that failed, made as `user` (none: not even a name) from `source`.
    ///
    /// # Errors
    /// When the store cannot write it. The attempt has failed all the same.
    pub async fn refused(
        &self,
        user: Option<&Name>,
        source: IpAddr,
        now: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        let act = Act::new(Actor::anonymous(), now).from(source);
        let subject = user.map_or_else(|| "(no such name)".to_owned(), ToString::to_string);
        let event = AuditEvent::new(AuditKind::LoginFailed, subject).with("reason", why);
        self.store.note_failure(&act, &tallies(user, Some(source)), FORGET_FAILURES, event).await
    }
}

fn tallies(user: Option<&Name>, source: Option<IpAddr>) -> Vec<TallyKey> {
    let source = source.map(|s| TallyKey::Source(s.to_canonical().to_string()));
    source.into_iter().chain(user.map(|u| TallyKey::Account(u.to_string()))).collect()
}
