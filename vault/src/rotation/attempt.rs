//! One attempt at one account: the steps between claiming it and letting it go.

use std::future::Future;

use super::engine::{Engine, EngineError, Outcome, extend};
use super::finding::{Finding, FindingKind};
use super::ledger::{Claim, LedgerError};
use super::record::{Progress, Reason, Record, SealedBytes, State};
use super::rotator::{Fault, Managed, OnDrift, Verdict};
use crate::entropy;
use crate::secret::SecretBytes;

/// A rotation is sent once, and once more when it turns out that the target goes by an older secret.
const SENDS: u32 = 2;
/// Never, unless a person asks.
const NEVER: i64 = i64::MAX;

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Makes a candidate.
    Begin(Reason),
    /// Sends it.
    Send,
    /// Finds out which secret opens the target.
    Resolve,
    /// The same, when it is neither the candidate nor the current one.
    Search,
    /// Sets the candidate by another account.
    Mend,
    /// Removes what was replaced, tells dependents.
    Finish,
    /// Asks whether the current secret is still taken.
    Check,
    /// The account has been let go.
    Done,
}

pub(super) struct Attempt<'a> {
    engine: &'a Engine,
    managed: &'a Managed,
    pub(super) claim: Claim,
    record: Record,
    /// What the target answered to the change in this attempt; not believed, but told.
    answer: Option<Fault>,
    sends: u32,
    rotated: Option<Reason>,
    verified: bool,
    findings: Vec<Finding>,
    /// How many of them the ledger has.
    kept: usize,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(engine: &'a Engine, managed: &'a Managed, claim: Claim, record: Record) -> Self {
        Self {
            engine,
            managed,
            claim,
            record,
            answer: None,
            sends: 0,
            rotated: None,
            verified: false,
            findings: Vec::new(),
            kept: 0,
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome {
            state: self.record.progress.state,
            rotated: self.rotated,
            verified: self.verified,
            trouble: self.record.progress.trouble,
            findings: self.findings,
            next_at: self.record.progress.next_at,
        }
    }

    pub(super) async fn run(&mut self, check: bool) -> Result<(), EngineError> {
        let mut step = self.first(check).await?;
        while step != Step::Done {
            step = match step {
                Step::Begin(reason) => self.begin(reason)?,
                Step::Send => self.send().await?,
                Step::Resolve => self.resolve().await?,
                Step::Search => self.search().await?,
                Step::Mend => self.mend().await?,
                Step::Finish => self.finish().await?,
                Step::Check => self.check().await?,
                Step::Done => Step::Done,
            };
        }
        Ok(())
    }

    /// The attempt ended by a fault that is not the target's. The account waits, so that it is not tried in a loop.
    pub(super) async fn set_aside(&mut self, error: &EngineError) {
        if matches!(error, EngineError::Ledger(_)) {
            // After a conflict it is another's; after a fault of the store the claim ends by itself. Nothing is lost when
            // this release does not come through either.
            drop(self.engine.ledger.release(&self.record.account, &self.claim).await);
            return;
        }
        self.record.postpone(&error.to_string(), &self.managed.plan.backoff, self.now());
        // Should this fail, too, the claim ends by itself, and the account is as the ledger says.
        drop(self.write(true).await);
    }

    async fn first(&mut self, check: bool) -> Result<Step, EngineError> {
        let request = self.record.open_request();
        let now = self.now();
        let progress = &self.record.progress;
        let under_way = progress.secrets.candidate.is_some();
        if under_way && (progress.state != State::Failed || request.is_some() || check) {
            if request.is_some() {
                // The candidate has been shown to nobody: what was asked for is what is under way. It is a fresh start.
                self.record.answer_request();
                self.progress().attempts = 0;
                self.progress().silences = 0;
            }
            return Ok(if self.record.progress.state == State::Stored { Step::Send } else { Step::Resolve });
        }
        if let Some(reason) = request {
            self.progress().attempts = 0;
            self.progress().silences = 0;
            return Ok(Step::Begin(reason));
        }
        match (progress.state, progress.reason) {
            (State::Verified, _) => Ok(Step::Finish),
            (State::Failed, _) if check => Ok(Step::Check),
            (State::Failed, _) => self.settle(State::Failed).await,
            (_, Some(reason)) => Ok(Step::Begin(reason)),
            (_, None) if self.too_old(now) => Ok(Step::Begin(Reason::Schedule)),
            (_, None) if check || self.check_due(now) => Ok(Step::Check),
            (_, None) => self.settle(State::Idle).await,
        }
    }

    /// The candidate is opened again before it is sent: one that could not be would lose the account.
    fn begin(&mut self, reason: Reason) -> Result<Step, EngineError> {
        let candidate = self.new_candidate()?;
        self.record.answer_request();
        let progress = self.progress();
        progress.secrets.candidate = Some(candidate);
        progress.reason = Some(reason);
        progress.state = State::Stored;
        Ok(Step::Send)
    }

    async fn send(&mut self) -> Result<Step, EngineError> {
        self.sends += 1;
        let (Some(candidate), current) = (self.open_candidate()?, self.open_current()?) else {
            return Ok(Step::Resolve);
        };
        self.before_sending().await?;
        let asked = self.managed.rotator.change(&current, &candidate);
        match self.timed(asked, Fault::Unsure).await {
            Ok(()) => self.answer = None,
            // Nothing was sent, the rotator says, and nothing is risked by believing it: the candidate stays, and what
            // opens the target is asked after the next attempt.
            Err(fault @ (Fault::Unreachable(_) | Fault::Impostor(_))) => {
                return self.retry(State::Stored, &fault).await;
            }
            Err(fault) => self.answer = Some(fault),
        }
        Ok(Step::Resolve)
    }

    /// Asks for the candidate first: where both are valid for a while, it is the one that counts.
    async fn resolve(&mut self) -> Result<Step, EngineError> {
        let Some(candidate) = self.open_candidate()? else { return Ok(Step::Check) };
        match self.ask(&candidate).await {
            Ok(Verdict::Opens) => return self.promote().await,
            Ok(Verdict::Refused) => {}
            Err(fault) => return self.retry(State::Unsure, &fault).await,
        }
        let current = self.open_current()?;
        match self.ask(&current).await {
            Ok(Verdict::Opens) => self.not_changed().await,
            Ok(Verdict::Refused) => Ok(Step::Search),
            Err(fault) => self.retry(State::Unsure, &fault).await,
        }
    }

    /// The current secret opens the target, and the candidate does not.
    async fn not_changed(&mut self) -> Result<Step, EngineError> {
        match self.answer.take() {
            None if self.sends == 0 => Ok(Step::Send),
            None => {
                let fault = Fault::Denied(
                    "it said that it changed the secret, but still takes the old one only".into(),
                );
                self.retry(State::Unsure, &fault).await
            }
            Some(fault @ Fault::Rejected(_)) => {
                self.abandon_candidate();
                self.retry(State::Idle, &fault).await
            }
            // It may still be on its way to do it.
            Some(fault @ Fault::Unsure(_)) => self.retry(State::Unsure, &fault).await,
            Some(fault) => self.retry(State::Stored, &fault).await,
        }
    }

    async fn search(&mut self) -> Result<Step, EngineError> {
        // A change without an answer may have arrived between the two questions.
        if matches!(self.answer, Some(Fault::Unsure(_))) || self.sends == 0 {
            let Some(candidate) = self.open_candidate()? else { return Ok(Step::Check) };
            match self.ask(&candidate).await {
                Ok(Verdict::Opens) => return self.promote().await,
                Ok(Verdict::Refused) => {}
                Err(fault) => return self.retry(State::Unsure, &fault).await,
            }
        }
        match self.try_former().await {
            Ok(true) => {
                self.progress().state = State::Stored;
                if self.sends < SENDS {
                    return Ok(Step::Send);
                }
                let fault = self.answer.take().unwrap_or_else(|| {
                    Fault::Denied("it goes by an older secret and does not take the new one".into())
                });
                self.retry(State::Stored, &fault).await
            }
            Ok(false) if self.managed.rotator.reconciles() => Ok(Step::Mend),
            Ok(false) => self.give_up(FindingKind::Lost).await,
            Err(Stop::Target(fault)) => self.retry(State::Unsure, &fault).await,
            Err(Stop::Engine(error)) => Err(error),
        }
    }

    async fn mend(&mut self) -> Result<Step, EngineError> {
        let Some(candidate) = self.open_candidate()? else { return Ok(Step::Check) };
        self.before_sending().await?;
        let asked = self.managed.rotator.reconcile(&candidate);
        if let Err(fault) = self.timed(asked, Fault::Unsure).await {
            if matches!(fault, Fault::Rejected(_)) {
                let other = self.new_candidate()?;
                self.abandon_candidate();
                self.progress().secrets.candidate = Some(other);
            }
            return self.retry(State::Unsure, &fault).await;
        }
        match self.ask(&candidate).await {
            Ok(Verdict::Opens) => self.promote().await,
            Ok(Verdict::Refused) => {
                let fault = Fault::Denied(
                    "the other account set a new secret, but the target does not take it".into(),
                );
                self.retry(State::Unsure, &fault).await
            }
            Err(fault) => self.retry(State::Unsure, &fault).await,
        }
    }

    /// The candidate was proved: from here on it is the current secret.
    async fn promote(&mut self) -> Result<Step, EngineError> {
        let now = self.now();
        let unfinished = self.managed.rotator.finishes();
        let stale = self.managed.dependents.iter().map(|d| d.name().to_owned()).collect();
        // Requests made up to here are answered by a secret that nobody has seen yet.
        self.record.answer_request();
        let progress = self.progress();
        if let Some(candidate) = progress.secrets.candidate.take() {
            let replaced = std::mem::replace(&mut progress.secrets.current, candidate);
            progress.secrets.retire(replaced);
        }
        progress.well();
        progress.rotated_at = Some(now);
        progress.verified_at = Some(now);
        progress.checked_at = Some(now);
        progress.unfinished |= unfinished;
        progress.stale = stale;
        let reason = progress.reason.take();
        let open_ends = progress.unfinished || !progress.stale.is_empty();
        (self.rotated, self.verified) = (reason.or(Some(Reason::Demand)), true);
        if !open_ends {
            return self.settle(State::Idle).await;
        }
        let progress = self.progress();
        progress.state = State::Verified;
        progress.next_at = now;
        self.write(false).await?;
        Ok(Step::Finish)
    }

    async fn finish(&mut self) -> Result<Step, EngineError> {
        let current = self.open_current()?;
        let mut last = None;
        if self.record.progress.unfinished {
            let mut former = Vec::new();
            for sealed in &self.record.progress.secrets.former {
                former.push(self.open(sealed)?);
            }
            let asked = self.managed.rotator.finish(&current, &former);
            match self.timed(asked, Fault::Unreachable).await {
                Ok(()) => self.progress().unfinished = false,
                Err(fault) => last = Some(format!("what was replaced is still valid on the target: {fault}")),
            }
        }
        for dependent in &self.managed.dependents {
            let name = dependent.name();
            if !self.record.progress.stale.iter().any(|stale| stale == name) {
                continue;
            }
            match self.timed(dependent.update(&current), Fault::Unreachable).await {
                Ok(()) => self.progress().stale.retain(|stale| stale != name),
                Err(fault) => last = Some(format!("{name} has not been given the new secret: {fault}")),
            }
        }
        // A dependent that is no longer listed need not be told.
        let listed = |name: &String| self.managed.dependents.iter().any(|d| d.name() == name);
        self.record.progress.stale.retain(listed);
        match last {
            None => {
                self.progress().well();
                self.settle(State::Idle).await
            }
            Some(trouble) => self.finish_later(&trouble).await,
        }
    }

    /// Tried on for good, at the ceiling's pace in the end: it does no harm, and the old secret must not stay valid.
    async fn finish_later(&mut self, trouble: &str) -> Result<Step, EngineError> {
        self.troubled(trouble);
        let attempts = self.record.progress.attempts.saturating_add(1);
        self.progress().attempts = attempts;
        self.progress().state = State::Verified;
        if attempts >= self.managed.plan.attempts {
            self.raise(FindingKind::Unfinished);
        }
        self.wait(attempts, self.chance()?);
        self.write(true).await?;
        Ok(Step::Done)
    }

    async fn check(&mut self) -> Result<Step, EngineError> {
        let state = self.record.progress.state;
        let current = self.open_current()?;
        match self.ask(&current).await {
            Ok(Verdict::Opens) => {
                let now = self.now();
                self.progress().well();
                self.progress().verified_at = Some(now);
                self.progress().checked_at = Some(now);
                self.verified = true;
                self.settle(State::Idle).await
            }
            Ok(Verdict::Refused) => self.drifted().await,
            Err(fault) => self.retry(state, &fault).await,
        }
    }

    async fn drifted(&mut self) -> Result<Step, EngineError> {
        let mends = self.managed.plan.on_drift == OnDrift::Mend;
        match self.try_former().await {
            Ok(true) if mends => Ok(Step::Begin(Reason::Drift)),
            Ok(true) => self.settle(State::Idle).await,
            Ok(false) => {
                self.troubled("it does not take the secret that the vault has, nor one it had before");
                self.raise(FindingKind::Drift);
                if mends && self.managed.rotator.reconciles() {
                    self.begin(Reason::Drift)?;
                    return Ok(Step::Mend);
                }
                let state = self.record.progress.state;
                // Not asked again before the next check is due: every time is a failed log-in at the target.
                self.progress().checked_at = Some(self.now());
                self.settle(state).await
            }
            Err(Stop::Target(fault)) => self.retry(self.record.progress.state, &fault).await,
            Err(Stop::Engine(error)) => Err(error),
        }
    }

    /// Whether a former secret opens the target. That one is the current secret then.
    async fn try_former(&mut self) -> Result<bool, Stop> {
        for at in 0..self.record.progress.secrets.former.len() {
            let Some(sealed) = self.record.progress.secrets.former.get(at) else { break };
            let secret = self.open(sealed).map_err(Stop::Engine)?;
            if self.ask(&secret).await.map_err(Stop::Target)? == Verdict::Opens {
                let now = self.now();
                self.progress().verified_at = Some(now);
                self.progress().checked_at = Some(now);
                let secrets = &mut self.progress().secrets;
                let found = secrets.former.remove(at);
                let replaced = std::mem::replace(&mut secrets.current, found);
                secrets.retire(replaced);
                self.troubled("it takes an older secret than the vault's current one");
                self.raise(FindingKind::Restored);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the account go until it is due by plan.
    async fn settle(&mut self, state: State) -> Result<Step, EngineError> {
        let now = self.now();
        let next_at = match (state, self.record.progress.reason) {
            (State::Failed, _) => NEVER,
            // A rotation that was put off.
            (_, Some(_)) => now,
            (_, None) => self.next_look(now),
        };
        let progress = self.progress();
        progress.state = state;
        progress.next_at = next_at;
        self.write(true).await?;
        Ok(Step::Done)
    }

    /// Lets the account go until it is tried again, or for good when it was tried often enough.
    async fn retry(&mut self, state: State, fault: &Fault) -> Result<Step, EngineError> {
        let silent = matches!(fault, Fault::Unreachable(_) | Fault::Impostor(_));
        let progress = self.progress();
        progress.state = state;
        if silent {
            progress.silences = progress.silences.saturating_add(1);
        } else {
            progress.silences = 0;
            progress.attempts = progress.attempts.saturating_add(1);
        }
        let (attempts, silences) = (progress.attempts, progress.silences);
        self.troubled(&fault.to_string());
        if matches!(fault, Fault::Impostor(_)) {
            self.raise(FindingKind::Impostor);
        }
        if !silent && attempts >= self.managed.plan.attempts {
            return self.give_up(FindingKind::GaveUp).await;
        }
        if silent && silences >= self.managed.plan.attempts {
            self.raise(FindingKind::Offline);
        }
        self.wait(if silent { silences } else { attempts }, self.chance()?);
        self.write(true).await?;
        Ok(Step::Done)
    }

    async fn give_up(&mut self, kind: FindingKind) -> Result<Step, EngineError> {
        if let Some(answer) = self.answer.take() {
            self.troubled(&answer.to_string());
        }
        self.raise(kind);
        self.progress().reason = None;
        self.settle(State::Failed).await
    }

    /// The point after which the target may be changed.
    async fn before_sending(&mut self) -> Result<(), EngineError> {
        self.progress().state = State::Sent;
        self.write(false).await?;
        // The write may have waited for a lock longer than the claim lasts.
        if self.claim.holds(self.now()) {
            Ok(())
        } else {
            Err(LedgerError::Conflict { account: self.record.account.clone() }.into())
        }
    }

    async fn write(&mut self, release: bool) -> Result<(), EngineError> {
        let now = self.now();
        self.progress().touched_at = now;
        extend(&mut self.claim, self.managed, now);
        let new = self.findings.get(self.kept..).unwrap_or_default();
        self.record = self.engine.ledger.write(&self.record, new, &self.claim, release).await?;
        self.kept = self.findings.len();
        Ok(())
    }

    async fn ask(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        self.timed(self.managed.rotator.verify(secret), Fault::Unreachable).await
    }

    async fn timed<T>(
        &self,
        asked: impl Future<Output = Result<T, Fault>>,
        late: fn(String) -> Fault,
    ) -> Result<T, Fault> {
        let patience = self.managed.plan.patience;
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(late(format!("it did not answer within {} s", patience.as_secs()))),
        }
    }

    fn new_candidate(&self) -> Result<SealedBytes, EngineError> {
        let account = &self.record.account;
        let candidate = self
            .managed
            .rotator
            .candidate(self.engine.entropy.as_ref())
            .map_err(|source| EngineError::Policy { account: account.clone(), source })?;
        Ok(SealedBytes(self.engine.keeper.seal(account, &candidate)?))
    }

    /// It may have reached the target after all, however late: it is kept among the former ones.
    fn abandon_candidate(&mut self) {
        let secrets = &mut self.progress().secrets;
        if let Some(candidate) = secrets.candidate.take() {
            secrets.retire(candidate);
        }
    }

    fn open(&self, sealed: &SealedBytes) -> Result<SecretBytes, EngineError> {
        Ok(self.engine.keeper.open(&self.record.account, &sealed.0)?)
    }

    fn open_current(&self) -> Result<SecretBytes, EngineError> {
        self.open(&self.record.progress.secrets.current)
    }

    fn open_candidate(&self) -> Result<Option<SecretBytes>, EngineError> {
        self.record.progress.secrets.candidate.as_ref().map(|sealed| self.open(sealed)).transpose()
    }

    fn progress(&mut self) -> &mut Progress {
        &mut self.record.progress
    }

    fn now(&self) -> i64 {
        self.engine.clock.now()
    }

    fn chance(&self) -> Result<u8, EngineError> {
        let [chance] = entropy::bytes::<1>(self.engine.entropy.as_ref())?;
        Ok(chance)
    }

    fn wait(&mut self, failures: u32, chance: u8) {
        let wait = self.managed.plan.backoff.wait(failures, chance);
        let next_at = self.now().saturating_add(wait);
        self.progress().next_at = next_at;
    }

    fn troubled(&mut self, clause: &str) {
        let now = self.now();
        self.progress().troubled(clause, now);
    }

    fn raise(&mut self, kind: FindingKind) {
        if self.record.progress.raised.contains(&kind) {
            return;
        }
        self.record.progress.raised.push(kind);
        let finding = Finding {
            account: self.record.account.clone(),
            kind,
            sentence: kind.sentence(&self.record),
            at: self.now(),
        };
        self.findings.push(finding);
    }

    /// A secret from the future means that the clock was set back: its age is unknown, so it counts from now.
    fn too_old(&self, now: i64) -> bool {
        due(self.record.progress.rotated_at, self.managed.plan.rotate_every, now)
    }

    fn check_due(&self, now: i64) -> bool {
        due(self.record.progress.checked_at, self.managed.plan.verify_every, now)
    }

    fn next_look(&mut self, now: i64) -> i64 {
        let plan = &self.managed.plan;
        let progress = &mut self.record.progress;
        for time in [&mut progress.rotated_at, &mut progress.verified_at, &mut progress.checked_at] {
            *time = time.map(|time| time.min(now));
        }
        let at = |since: Option<i64>, every: Option<std::time::Duration>| {
            every.map_or(NEVER, |every| since.unwrap_or(now).saturating_add(micros(every)))
        };
        at(progress.rotated_at, plan.rotate_every).min(at(progress.checked_at, plan.verify_every))
    }
}

/// Why a search among former secrets ended before its end.
enum Stop {
    Target(Fault),
    Engine(EngineError),
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn due(since: Option<i64>, every: Option<std::time::Duration>, now: i64) -> bool {
    every.is_some_and(|every| since.is_none_or(|since| since.saturating_add(micros(every)) <= now))
}
