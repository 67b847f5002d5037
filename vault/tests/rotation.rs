//! The rotation engine against targets that fail in every way, and a process that ends at every point.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/simulated.rs"]
#[allow(dead_code, reason = "shared with the example that measures")]
mod simulated;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Backoff, Claim, Clock as _, Dependent, Engine, EngineError, FORMER_SECRETS, Fault, FindingKind, Keeper,
    Ledger, LedgerError, Limits, Managed, MemoryLedger, OnDrift, Outcome, Plan, Progress, Reason, Record,
    Reporter, Scheduler, SealedBytes, State, Trouble,
};
use cofferdam_vault::{Context, SealError, Sealer, SecretBytes, SystemEntropy};
use proptest::prelude::*;
use simulated::*;
use tokio::task::yield_now;

const ACCOUNT: &str = "root@pump-hmi";
const FIRST: &str = "the-first-secret";

/// Seals so fast that ten thousand rotations take seconds; the engine must treat it as opaque all the same.
struct FastKeeper;

impl Keeper for FastKeeper {
    fn seal(&self, account: &str, secret: &SecretBytes) -> Result<Vec<u8>, SealError> {
        Ok([account.as_bytes(), b"|", &secret.expose().iter().map(|b| b ^ 0xa5).collect::<Vec<_>>()].concat())
    }

    fn open(&self, account: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let prefix = [account.as_bytes(), b"|"].concat();
        let body = sealed
            .strip_prefix(prefix.as_slice())
            .ok_or_else(|| SealError::Refused { context: Context::account(account) })?;
        Ok(SecretBytes::new(body.iter().map(|b| b ^ 0xa5).collect()))
    }
}

/// A ledger that can be interrupted around every call, and that fails by chance before or after it wrote.
#[derive(Default)]
struct ShakyLedger {
    inner: MemoryLedger,
    chance: Option<Arc<Seeded>>,
}

impl ShakyLedger {
    fn shake(&self) -> Result<(), LedgerError> {
        match &self.chance {
            Some(chance) if chance.below(24) == 0 => Err(LedgerError::Store("the database is away".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Ledger for ShakyLedger {
    async fn want(&self, account: &str, reason: Reason) -> Result<u64, LedgerError> {
        self.inner.want(account, reason).await
    }
    async fn due(&self, now: i64, limit: usize) -> Result<Vec<String>, LedgerError> {
        self.inner.due(now, limit).await
    }
    async fn claim(&self, account: &str, claim: &Claim, now: i64) -> Result<Record, LedgerError> {
        yield_now().await;
        let answer = self.inner.claim(account, claim, now).await;
        yield_now().await;
        answer
    }
    async fn write(&self, record: &Record, claim: &Claim, release: bool) -> Result<Record, LedgerError> {
        yield_now().await;
        self.shake()?;
        let answer = self.inner.write(record, claim, release).await;
        yield_now().await;
        self.shake()?;
        answer
    }
    async fn release(&self, account: &str, claim: &Claim) -> Result<(), LedgerError> {
        yield_now().await;
        self.inner.release(account, claim).await
    }
}

/// One account, its target, and an engine.
struct Bench {
    ledger: Arc<ShakyLedger>,
    clock: TestClock,
    target: Arc<Target>,
    managed: Managed,
    engine: Engine,
}

impl Bench {
    fn new(target: Target) -> Self {
        Self::with(target, ShakyLedger::default(), 1)
    }

    fn with(target: Target, ledger: ShakyLedger, seed: u64) -> Self {
        let clock = TestClock::new();
        let sealed = FastKeeper.seal(ACCOUNT, &SecretBytes::from(FIRST.as_bytes().to_vec())).unwrap();
        ledger.inner.insert(ACCOUNT, Progress::new(SealedBytes(sealed), START, START));
        let (ledger, target) = (Arc::new(ledger), Arc::new(target));
        let managed = Managed {
            target: ACCOUNT.into(),
            rotator: Arc::new(SimulatedRotator(Arc::clone(&target))),
            plan: Plan::default(),
            dependents: Vec::new(),
        };
        let engine = engine("node-a", &ledger, &clock, seed);
        Self { ledger, clock, target, managed, engine }
    }

    fn record(&self) -> Record {
        self.ledger.inner.record(ACCOUNT).unwrap()
    }

    fn state(&self) -> State {
        self.record().progress.state
    }

    /// What must hold at every moment: a stored secret opens the target.
    fn open_to_somebody(&self) -> bool {
        let record = self.record();
        let secrets = &record.progress.secrets;
        assert!(secrets.former.len() <= FORMER_SECRETS);
        secrets.all().any(|sealed| {
            FastKeeper.open(ACCOUNT, &sealed.0).is_ok_and(|secret| self.target.takes(secret.expose()))
        })
    }

    fn current_opens(&self) -> bool {
        let current = self.record().progress.secrets.current;
        self.target.takes(FastKeeper.open(ACCOUNT, &current.0).unwrap().expose())
    }

    async fn advance(&self) -> Outcome {
        self.engine.advance(ACCOUNT, &self.managed).await.unwrap()
    }

    async fn rotate(&self, reason: Reason) -> Outcome {
        self.engine.rotate(ACCOUNT, &self.managed, reason).await.unwrap()
    }

    /// To the time at which the account is due, and a little.
    fn wait_until_due(&self) {
        let next_at = self.record().progress.next_at;
        self.clock.set(next_at.max(self.clock.now()) + 1);
    }

    /// Past any claim that a process left behind.
    fn outlive_claims(&self) {
        self.clock.advance(cofferdam_vault::rotation::LONGEST_CLAIM);
    }
}

fn engine(node: &str, ledger: &Arc<ShakyLedger>, clock: &TestClock, seed: u64) -> Engine {
    Engine::new(
        node,
        Arc::clone(ledger) as Arc<dyn Ledger>,
        Arc::new(FastKeeper),
        Arc::new(Seeded::new(seed)),
        Arc::new(clock.clone()),
    )
}

/// Runs `future` for `polls` polls and then drops it, as the end of the process would; `after_each` looks in between.
async fn crash_after<F: Future>(
    future: F,
    polls: usize,
    mut after_each: impl FnMut(usize),
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        let answer = future.as_mut().poll(cx);
        after_each(polled);
        answer.map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_changed_proved_and_only_then_current() {
    let bench = Bench::new(Target::new(FIRST));
    let outcome = bench.rotate(Reason::Demand).await;
    assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::Demand)));
    assert!(outcome.verified && outcome.findings.is_empty() && bench.current_opens());
    let progress = bench.record().progress;
    assert!(progress.secrets.candidate.is_none());
    assert_eq!(progress.secrets.former.len(), 1, "the replaced one is kept for a target that is put back");
    assert!(!bench.target.takes(FIRST.as_bytes()));
    assert_eq!(outcome.next_at, START + DAY, "the daily check comes first");
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_of_any_half_done_change_leaves_a_stored_secret_that_opens() {
    for mischief in MISCHIEF {
        for reconciles in [false, true] {
            for crash in 1..200 {
                let target = Target { reconciles, ..Target::scripted(FIRST, &[mischief]) };
                let bench = Bench::new(target);
                bench.ledger.inner.want(ACCOUNT, Reason::Demand).await.unwrap();
                let done = crash_after(bench.engine.advance(ACCOUNT, &bench.managed), crash, |polled| {
                    assert!(bench.open_to_somebody(), "{mischief:?}: lost at poll {polled}");
                })
                .await;
                let whole = done.is_some();
                // The next process takes over once the dead one's claim has ended.
                for _ in 0..4 {
                    bench.outlive_claims();
                    bench.clock.advance(DAY);
                    bench.advance().await;
                    assert!(bench.open_to_somebody());
                }
                assert_eq!(bench.state(), State::Idle, "{mischief:?}, crash after {crash} polls");
                assert!(bench.current_opens(), "{mischief:?}, crash after {crash} polls");
                assert!(!bench.target.takes(FIRST.as_bytes()), "{mischief:?}: not rotated in the end");
                if whole {
                    break;
                }
            }
        }
    }
}

/// Crashes, failing targets and a failing ledger by chance, `rotations` times over. Answers how many crashes there were.
async fn torment(rotations: u64, first_seed: u64) -> u64 {
    let mut crashes = 0;
    for seed in first_seed..first_seed + rotations {
        let chance = Arc::new(Seeded::new(seed));
        let target = Target { reconciles: seed % 2 == 0, ..Target::by_chance(FIRST, Arc::clone(&chance)) };
        let ledger = ShakyLedger { chance: Some(Arc::clone(&chance)), ..ShakyLedger::default() };
        let bench = Bench::with(target, ledger, seed);
        bench.ledger.inner.want(ACCOUNT, Reason::Schedule).await.unwrap();
        for _ in 0..3 {
            let crash = 1 + chance.below(40);
            let done = crash_after(bench.engine.advance(ACCOUNT, &bench.managed), crash, |polled| {
                assert!(bench.open_to_somebody(), "seed {seed}: lost at poll {polled}");
            })
            .await;
            crashes += u64::from(done.is_none());
            bench.outlive_claims();
        }
        settle(&bench, seed).await;
    }
    crashes
}

/// From here on people see to it: whatever was given up is asked for again, until the account is well.
async fn settle(bench: &Bench, seed: u64) {
    for _ in 0..200 {
        bench.ledger.inner.want(ACCOUNT, Reason::Demand).await.unwrap();
        let outcome = bench.engine.advance(ACCOUNT, &bench.managed).await;
        assert!(bench.open_to_somebody(), "seed {seed}: lost while settling");
        if outcome.is_ok_and(|o| o.rotated.is_some()) {
            assert!(bench.current_opens(), "seed {seed}: said to be rotated, and was not");
            assert_eq!(bench.state(), State::Idle);
            return;
        }
        bench.outlive_claims();
    }
    panic!("seed {seed}: does not settle: {:?}", bench.record());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_rotations_with_a_random_crash_in_each_lose_no_account() {
    let crashes = torment(10_000, 1).await;
    assert!(crashes > 5_000, "the crashes come too late to say anything: {crashes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_seed_whatever_finds_a_lost_account(seed in any::<u32>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(torment(8, u64::from(seed)));
    }

    #[test]
    fn a_wait_grows_to_its_ceiling_and_never_overflows(failures in any::<u32>(), chance in any::<u8>(), first in 0_u64..10_000_000, ceiling in any::<u64>()) {
        let backoff = Backoff { first: Duration::from_secs(first), ceiling: Duration::from_secs(ceiling) };
        let wait = backoff.wait(failures, chance);
        prop_assert!(wait >= 1);
        let bound = i64::try_from(Duration::from_secs(ceiling).as_micros()).unwrap_or(i64::MAX);
        prop_assert!(wait <= bound.max(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_wakes_up_after_its_claim_ended_loses_nothing() {
    for sleeps_after in 1..60 {
        if !sleep_and_wake(sleeps_after, &[]).await {
            return;
        }
    }
    panic!("the attempt never ended");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_was_rejected_may_still_arrive_from_a_node_that_slept() {
    // The node that takes over is told that the target does not like it, and uses another one; then the sleeper wakes up,
    // logged in long since, and the target takes what it sends.
    for sleeps_after in 1..60 {
        if !sleep_and_wake(sleeps_after, &[Mischief::Rejects]).await {
            return;
        }
    }
    panic!("the attempt never ended");
}

/// One node sleeps in the middle of its attempt, another takes over and finishes, then the first goes on. Answers whether it
/// was asleep at all.
async fn sleep_and_wake(sleeps_after: usize, script: &[Mischief]) -> bool {
    let bench = Bench::new(Target::scripted(FIRST, script));
    let other = engine("node-b", &bench.ledger, &bench.clock, 2);
    bench.ledger.inner.want(ACCOUNT, Reason::Demand).await.unwrap();

    let mut sleeper = pin!(bench.engine.advance(ACCOUNT, &bench.managed));
    let early = crash_after(sleeper.as_mut(), sleeps_after, |_| ()).await;
    bench.outlive_claims();
    // The other node finishes the rotation, as far as the target lets it.
    for _ in 0..2 {
        other.advance(ACCOUNT, &bench.managed).await.unwrap();
        assert!(bench.open_to_somebody(), "after {sleeps_after} polls");
        bench.clock.advance(60 * SECOND);
    }
    if early.is_some() {
        return false;
    }
    // The sleeper goes on as if nothing had been.
    let late = crash_after(sleeper, usize::MAX, |_| {
        assert!(bench.open_to_somebody(), "lost by a sleeper after {sleeps_after} polls");
    });
    match late.await.unwrap() {
        Err(EngineError::Ledger(LedgerError::Conflict { .. } | LedgerError::Held { .. })) | Ok(_) => {}
        other => panic!("after {sleeps_after} polls: {other:?}"),
    }
    for _ in 0..4 {
        bench.outlive_claims();
        bench.clock.advance(DAY);
        other.advance(ACCOUNT, &bench.managed).await.unwrap();
        assert!(bench.open_to_somebody());
    }
    assert_eq!(bench.state(), State::Idle);
    assert!(bench.current_opens(), "after {sleeps_after} polls");
    true
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_only_one_rotates_an_account() {
    let bench = Bench::new(Target::new(FIRST));
    let other = engine("node-b", &bench.ledger, &bench.clock, 2);
    bench.ledger.inner.want(ACCOUNT, Reason::Demand).await.unwrap();
    let (a, b) =
        tokio::join!(bench.engine.advance(ACCOUNT, &bench.managed), other.advance(ACCOUNT, &bench.managed));
    let refused = [&a, &b].into_iter().filter(|r| r.is_err()).count();
    assert_eq!(refused, 1, "{a:?} {b:?}");
    let text = a.err().or(b.err()).unwrap().to_string();
    assert!(text.contains("is being rotated by node-") && text.contains(ACCOUNT), "{text}");
    assert_eq!(bench.target.changes.load(Ordering::SeqCst), 1);
    assert!(bench.current_opens());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_changes_and_drops_the_connection_is_asked_instead_of_believed() {
    for mischief in [Mischief::DropsAfter, Mischief::HangsAfter, Mischief::DoneButRejected] {
        let bench = Bench::new(Target::scripted(FIRST, &[mischief]));
        let outcome = bench.rotate(Reason::AfterUse).await;
        assert_eq!(outcome.rotated, Some(Reason::AfterUse), "{mischief:?}");
        assert!(bench.current_opens());
        assert_eq!(bench.target.changes.load(Ordering::SeqCst), 1, "nothing was sent twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_says_it_changed_and_did_not_is_never_called_rotated() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::Lies; 50]));
    let mut outcome = bench.rotate(Reason::Demand).await;
    while outcome.state != State::Failed {
        assert_eq!((outcome.rotated, outcome.state), (None, State::Unsure));
        assert!(bench.current_opens());
        bench.wait_until_due();
        outcome = bench.advance().await;
    }
    let sentence = &outcome.findings[0].sentence;
    assert!(sentence.contains("still takes the old one only") && sentence.contains(ACCOUNT), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_offline_for_weeks_is_reported_once_and_rotated_when_it_is_back() {
    let bench = Bench::new(Target::new(FIRST));
    bench.target.is_offline(true);
    let mut findings = bench.rotate(Reason::Schedule).await.findings;
    let end = START + 21 * DAY;
    let mut attempts = 0;
    while bench.clock.now() < end {
        bench.wait_until_due();
        let outcome = bench.advance().await;
        assert_eq!(outcome.state, State::Stored, "nothing was sent, so the old secret is known to be valid");
        findings.extend(outcome.findings);
        attempts += 1;
    }
    assert!((80..250).contains(&attempts), "{attempts} attempts in three weeks");
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.kind, FindingKind::Offline);
    assert!(finding.sentence.contains("has not answered 6 times in a row"), "{}", finding.sentence);
    bench.target.is_offline(false);
    bench.wait_until_due();
    let outcome = bench.advance().await;
    assert_eq!(outcome.rotated, Some(Reason::Schedule));
    assert!(bench.current_opens() && bench.record().progress.failing_since.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_offline_in_the_middle_stays_unsure_until_it_is_back() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::HangsAfter]));
    bench.ledger.inner.want(ACCOUNT, Reason::Demand).await.unwrap();
    let attempt = bench.engine.advance(ACCOUNT, &bench.managed);
    crash_after(attempt, 400, |_| {
        if bench.target.changes.load(Ordering::SeqCst) > 0 {
            bench.target.is_offline(true);
        }
    })
    .await
    .unwrap()
    .unwrap();
    for _ in 0..40 {
        assert_eq!(bench.state(), State::Unsure);
        bench.wait_until_due();
        bench.advance().await;
    }
    bench.target.is_offline(false);
    bench.wait_until_due();
    assert_eq!(bench.advance().await.rotated, Some(Reason::Demand));
    assert!(bench.current_opens());
}

#[tokio::test(start_paused = true)]
async fn a_password_that_the_target_rejects_is_replaced_and_in_the_end_given_up_with_the_reason() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::Rejects; 50]));
    let mut outcome = bench.rotate(Reason::Demand).await;
    let mut attempts = 1;
    while outcome.state != State::Failed {
        assert!(bench.current_opens() && outcome.findings.is_empty());
        bench.wait_until_due();
        outcome = bench.advance().await;
        attempts += 1;
    }
    assert_eq!(attempts, 6);
    let [finding] = outcome.findings.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(finding.kind, FindingKind::GaveUp);
    assert!(
        finding.sentence.contains("after 6 attempts: it wants a better password"),
        "{}",
        finding.sentence
    );
    assert_eq!(outcome.next_at, i64::MAX, "a person has to ask");
    // Nothing happens by itself, however long it takes; a person's word starts afresh.
    bench.clock.advance(400 * DAY);
    bench.advance().await;
    assert_eq!(bench.state(), State::Failed);
    bench.target.behave();
    assert_eq!(bench.rotate(Reason::Demand).await.rotated, Some(Reason::Demand));
    assert!(bench.current_opens());
}

#[tokio::test(start_paused = true)]
async fn another_machine_in_the_targets_place_gets_nothing_and_is_a_finding_at_once() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::Impostor, Mischief::Impostor]));
    let outcome = bench.rotate(Reason::Demand).await;
    assert_eq!(outcome.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Impostor]);
    bench.wait_until_due();
    assert!(bench.advance().await.findings.is_empty(), "said once");
    bench.wait_until_due();
    assert!(bench.advance().await.rotated.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_secret_changed_behind_our_back_is_a_finding_that_says_so() {
    let bench = Bench::new(Target::new(FIRST));
    bench.rotate(Reason::Demand).await;
    bench.target.set(b"somebody-else");
    bench.wait_until_due();
    let outcome = bench.advance().await;
    assert!(!outcome.verified && outcome.state == State::Idle);
    let [finding] = outcome.findings.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(finding.kind, FindingKind::Drift);
    assert!(finding.sentence.contains("behind the vault's back"), "{}", finding.sentence);
    let asked = bench.target.asked.load(Ordering::SeqCst);
    let again = bench.engine.verify(ACCOUNT, &bench.managed).await.unwrap();
    assert!(again.findings.is_empty() && !again.verified, "said once, still not well");
    assert_eq!(again.next_at, bench.clock.now() + DAY, "and asked again after a day, not in a loop");
    assert!(bench.target.asked.load(Ordering::SeqCst) - asked <= 3, "a few failed log-ins, not a lock-out");
}

#[tokio::test(start_paused = true)]
async fn drift_is_mended_by_the_other_account_where_the_plan_says_so() {
    let mut bench = Bench::new(Target { reconciles: true, ..Target::new(FIRST) });
    bench.managed.plan.on_drift = OnDrift::Mend;
    bench.rotate(Reason::Demand).await;
    bench.target.set(b"somebody-else");
    bench.wait_until_due();
    let outcome = bench.advance().await;
    assert_eq!(outcome.rotated, Some(Reason::Drift));
    assert_eq!(outcome.findings[0].kind, FindingKind::Drift, "mended, and still said");
    assert!(bench.current_opens() && outcome.verified);
}

#[tokio::test(start_paused = true)]
async fn a_target_restored_from_a_backup_is_opened_with_the_secret_of_that_time() {
    for mends in [OnDrift::Report, OnDrift::Mend] {
        let mut bench = Bench::new(Target::new(FIRST));
        bench.managed.plan.on_drift = mends;
        bench.rotate(Reason::Demand).await;
        bench.target.set(FIRST.as_bytes());
        let outcome = bench.engine.verify(ACCOUNT, &bench.managed).await.unwrap();
        assert_eq!(outcome.findings[0].kind, FindingKind::Restored);
        assert!(bench.current_opens(), "sessions get the secret that works");
        assert_eq!(outcome.rotated.is_some(), mends == OnDrift::Mend);
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_no_secret_opens_is_reported_lost_with_what_to_do() {
    let bench = Bench::new(Target::new("nobody told the vault"));
    let outcome = bench.rotate(Reason::Demand).await;
    assert_eq!((outcome.state, outcome.findings[0].kind), (State::Failed, FindingKind::Lost));
    let sentence = &outcome.findings[0].sentence;
    assert!(sentence.contains("name an account that may set a new one"), "{sentence}");
    assert!(bench.record().progress.secrets.candidate.is_some(), "every secret is kept");

    let bench = Bench::new(Target { reconciles: true, ..Target::new("nobody told the vault") });
    assert!(bench.rotate(Reason::Demand).await.rotated.is_some(), "unless another account sets it");
    assert!(bench.current_opens());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_and_back_neither_stops_rotation_nor_loses_anything() {
    let bench = Bench::new(Target::new(FIRST));
    bench.clock.set(START + 20_000 * DAY);
    assert_eq!(bench.advance().await.rotated, Some(Reason::Schedule));
    // Set right again: what was noted is of the future now.
    bench.clock.set(START + DAY);
    assert_eq!(bench.ledger.inner.due(bench.clock.now(), 9).await.unwrap(), [ACCOUNT]);
    let outcome = bench.advance().await;
    assert!(outcome.next_at <= START + 2 * DAY, "looked at again in a day, not in 54 years");
    assert!(bench.current_opens());
    for _ in 0..40 {
        bench.wait_until_due();
        bench.advance().await;
    }
    assert!(bench.record().progress.rotated_at.unwrap() > START + 20 * DAY);
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_a_clock_that_was_ahead_does_not_keep_others_out_for_years() {
    let bench = Bench::new(Target::new(FIRST));
    bench.clock.set(START + 20_000 * DAY);
    crash_after(bench.engine.advance(ACCOUNT, &bench.managed), 6, |_| ()).await;
    bench.clock.set(START + DAY);
    assert!(bench.advance().await.rotated.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_made_while_a_rotation_runs_is_not_forgotten() {
    let bench = Bench::new(Target::new(FIRST));
    bench.ledger.inner.want(ACCOUNT, Reason::Schedule).await.unwrap();
    let mut asked = false;
    crash_after(bench.engine.advance(ACCOUNT, &bench.managed), 400, |polled| {
        if polled == 4 && !asked {
            asked = true;
            futures::executor::block_on(bench.ledger.inner.want(ACCOUNT, Reason::BreakGlass)).unwrap();
        }
    })
    .await
    .unwrap()
    .unwrap();
    assert!(bench.current_opens());
    // Either this rotation answered it, with a secret that nobody had seen when it was asked for, or the next does.
    let record = bench.record();
    if let Some(reason) = record.open_request() {
        assert_eq!(reason, Reason::BreakGlass);
        assert_eq!(bench.advance().await.rotated, Some(Reason::BreakGlass));
    }
    assert!(bench.record().open_request().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_backoff_like_any_other_attempt() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::DropsBefore; 9]));
    bench.rotate(Reason::BreakGlass).await;
    let changes = bench.target.changes.load(Ordering::SeqCst);
    assert!(!bench.record().is_due(bench.clock.now()));
    bench.advance().await;
    assert_eq!(bench.target.changes.load(Ordering::SeqCst), changes, "nothing is hammered");
    bench.rotate(Reason::Demand).await;
    assert_eq!(bench.target.changes.load(Ordering::SeqCst), changes + 1, "a person may ask at once");
}

#[tokio::test(start_paused = true)]
async fn dependents_are_told_and_one_that_is_not_is_a_finding() {
    let mut bench = Bench::new(Target::new(FIRST));
    let (good, bad) = (Service::new("historian", 0), Service::new("backup job", 7));
    bench.managed.dependents = vec![Arc::clone(&bad) as Arc<dyn Dependent>, Arc::clone(&good) as _];
    let mut outcome = bench.rotate(Reason::Demand).await;
    assert_eq!((outcome.state, outcome.rotated), (State::Verified, Some(Reason::Demand)));
    assert!(bench.current_opens() && bench.target.takes(&good.has.lock().unwrap()));
    let mut findings = outcome.findings;
    while outcome.state != State::Idle {
        bench.wait_until_due();
        outcome = bench.advance().await;
        findings.extend(std::mem::take(&mut outcome.findings));
    }
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.kind, FindingKind::Unfinished);
    assert!(
        finding.sentence.contains("backup job has not been given the new secret"),
        "{}",
        finding.sentence
    );
    assert!(bench.target.takes(&bad.has.lock().unwrap()));
    assert_eq!(bench.target.changes.load(Ordering::SeqCst), 1, "the secret itself was changed once");
}

#[tokio::test(start_paused = true)]
async fn a_dependent_that_never_takes_it_does_not_stop_a_rotation_after_break_glass() {
    let mut bench = Bench::new(Target::new(FIRST));
    bench.managed.dependents = vec![Service::new("backup job", u32::MAX) as Arc<dyn Dependent>];
    bench.rotate(Reason::Demand).await;
    let before = bench.record().progress.secrets.current;
    assert_eq!(bench.rotate(Reason::BreakGlass).await.rotated, Some(Reason::BreakGlass));
    assert_ne!(bench.record().progress.secrets.current, before);
    assert!(bench.current_opens());
}

#[tokio::test(start_paused = true)]
async fn two_dependents_of_one_name_are_refused() {
    let mut bench = Bench::new(Target::new(FIRST));
    bench.managed.dependents =
        vec![Service::new("job", 0) as Arc<dyn Dependent>, Service::new("job", 0) as _];
    let text = bench.engine.advance(ACCOUNT, &bench.managed).await.unwrap_err().to_string();
    assert!(text.contains("\"job\"") && text.contains(ACCOUNT), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_tampered_row_is_refused_named_and_not_tried_in_a_loop() {
    let clock = TestClock::new();
    let sealer = Arc::new(Sealer::ephemeral(Arc::new(SystemEntropy)));
    let ledger = Arc::new(MemoryLedger::default());
    let mut sealed =
        Keeper::seal(sealer.as_ref(), ACCOUNT, &SecretBytes::from(FIRST.as_bytes().to_vec())).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    ledger.insert(ACCOUNT, Progress::new(SealedBytes(sealed), START, START));
    let engine = Engine::new(
        "node-a",
        Arc::clone(&ledger) as Arc<dyn Ledger>,
        sealer,
        Arc::new(SystemEntropy),
        Arc::new(clock.clone()),
    );
    let target = Arc::new(Target::new(FIRST));
    let managed = Managed {
        target: ACCOUNT.into(),
        rotator: Arc::new(SimulatedRotator(Arc::clone(&target))),
        plan: Plan::default(),
        dependents: Vec::new(),
    };
    let text = engine.rotate(ACCOUNT, &managed, Reason::Demand).await.unwrap_err().to_string();
    assert!(text.contains(ACCOUNT) && text.contains("altered"), "{text}");
    assert_eq!(target.changes.load(Ordering::SeqCst), 0, "nothing is sent without knowing what it replaces");
    assert!(!ledger.record(ACCOUNT).unwrap().is_due(clock.now()));
    assert!(ledger.record(ACCOUNT).unwrap().progress.trouble.unwrap().contains("altered"));
}

#[tokio::test(start_paused = true)]
async fn a_record_survives_being_written_as_text_and_shows_no_secret() {
    let bench = Bench::new(Target::scripted(FIRST, &[Mischief::DropsBefore]));
    bench.rotate(Reason::Demand).await;
    let progress = bench.record().progress;
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    assert!(!format!("{progress:?}").contains(FIRST) && !text.contains(FIRST));
}

/// Counts what is reported.
#[derive(Default)]
struct Counting(Mutex<Vec<(String, bool)>>);

#[async_trait]
impl Reporter for Counting {
    async fn report(&self, account: &str, result: Result<Outcome, Trouble>) {
        self.0.lock().unwrap().push((account.to_owned(), result.is_ok()));
    }
}

fn at_once(at_once: usize) -> Limits {
    Limits { at_once, per_target: 2 }
}

fn fleet_of(count: usize, target: impl Fn(usize) -> Target) -> (SimulatedFleet, Arc<ShakyLedger>) {
    let (mut fleet, ledger) = (SimulatedFleet::default(), Arc::new(ShakyLedger::default()));
    for n in 0..count {
        let account = format!("account-{n}");
        let sealed = FastKeeper.seal(&account, &SecretBytes::from(FIRST.as_bytes().to_vec())).unwrap();
        ledger.inner.insert(&account, Progress::new(SealedBytes(sealed), START, START));
        fleet.targets.insert(account, Arc::new(target(n)));
    }
    (fleet, ledger)
}

#[tokio::test(start_paused = true)]
async fn a_pass_tries_each_due_account_once_and_no_more_at_a_time_than_allowed() {
    let (fleet, ledger) = fleet_of(500, |n| Target {
        takes: Duration::from_millis(50),
        offline: (n % 10 == 0).into(),
        ..Target::new(FIRST)
    });
    ledger.inner.insert("not-described", Progress::new(SealedBytes(Vec::new()), START, START));
    let clock = TestClock::new();
    let (fleet, reporter) = (Arc::new(fleet), Arc::new(Counting::default()));
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let scheduler = Scheduler::new(engine, Arc::clone(&fleet) as _, Arc::clone(&reporter) as _, at_once(16));
    let began = tokio::time::Instant::now();
    let pass = scheduler.pass().await.unwrap();
    assert_eq!((pass.tried, pass.rotated, pass.troubled), (501, 450, 51));
    assert_eq!(reporter.0.lock().unwrap().len(), 501);
    assert!(!ledger.inner.record("not-described").unwrap().is_due(clock.now()), "it waits like any other");
    // 450 accounts take two steps of 50 ms and 50 take one: with 16 at a time no less than this.
    let least = Duration::from_millis(950 * 50 / 16);
    assert!(began.elapsed() >= least, "{:?} is too fast for 16 at a time", began.elapsed());
    assert!(began.elapsed() < least * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_hangs_takes_two_places_and_not_all() {
    // Two hundred accounts of one machine, due first, and a hundred elsewhere.
    let (fleet, ledger) = fleet_of(300, |n| {
        let slow = n < 200;
        Target {
            takes: if slow { Duration::from_secs(20) } else { Duration::from_millis(20) },
            host: slow.then(|| "plc-7".to_owned()),
            ..Target::new(FIRST)
        }
    });
    let (clock, fleet) = (TestClock::new(), Arc::new(fleet));
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let quick = Arc::new(Mutex::new(Vec::new()));
    struct Quick(Arc<Mutex<Vec<Duration>>>, tokio::time::Instant);
    #[async_trait]
    impl Reporter for Quick {
        async fn report(&self, account: &str, _: Result<Outcome, Trouble>) {
            let number: usize = account.trim_start_matches("account-").parse().unwrap();
            if number >= 200 {
                self.0.lock().unwrap().push(self.1.elapsed());
            }
        }
    }
    let reporter = Arc::new(Quick(Arc::clone(&quick), tokio::time::Instant::now()));
    let scheduler = Scheduler::new(engine, fleet as _, reporter, at_once(8));
    assert_eq!(scheduler.pass().await.unwrap().rotated, 300);
    let quick = quick.lock().unwrap();
    assert_eq!(quick.len(), 100);
    assert!(quick.iter().all(|took| *took < Duration::from_secs(2)), "{:?}", quick.iter().max());
}

#[tokio::test(start_paused = true)]
async fn a_request_outlives_a_policy_that_makes_no_password_and_an_account_nobody_describes() {
    #[derive(Debug)]
    struct NoPolicy(SimulatedRotator);
    #[async_trait]
    impl cofferdam_vault::rotation::Rotator for NoPolicy {
        fn candidate(
            &self,
            entropy: &dyn cofferdam_vault::Entropy,
        ) -> Result<SecretBytes, cofferdam_vault::rotation::password::PolicyError> {
            let policy = cofferdam_vault::rotation::password::PasswordPolicy::old_device(3);
            policy.generate("root", entropy).map(|password| SecretBytes::from(&password))
        }
        async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
            self.0.change(current, candidate).await
        }
        async fn verify(&self, secret: &SecretBytes) -> Result<cofferdam_vault::rotation::Verdict, Fault> {
            self.0.verify(secret).await
        }
    }
    let mut bench = Bench::new(Target::new(FIRST));
    bench.managed.plan.rotate_every = None;
    let good = bench.managed.clone();
    bench.managed.rotator = Arc::new(NoPolicy(SimulatedRotator(Arc::clone(&bench.target))));
    let error = bench.engine.rotate(ACCOUNT, &bench.managed, Reason::BreakGlass).await.unwrap_err();
    assert!(error.to_string().contains("found by trying"), "{error}");
    assert!(!bench.record().is_due(bench.clock.now()), "not in a loop");
    bench.managed = good;
    bench.wait_until_due();
    assert_eq!(bench.advance().await.rotated, Some(Reason::BreakGlass));

    bench.ledger.inner.want(ACCOUNT, Reason::AfterUse).await.unwrap();
    bench.engine.postpone(ACCOUNT, "the site does not describe it").await.unwrap();
    assert!(!bench.record().is_due(bench.clock.now()));
    assert_eq!(bench.record().progress.trouble.as_deref(), Some("the site does not describe it"));
    bench.wait_until_due();
    assert_eq!(bench.advance().await.rotated, Some(Reason::AfterUse));
}

#[tokio::test(start_paused = true)]
async fn a_rotator_that_panics_is_reported_and_stops_nobody_else() {
    #[derive(Debug)]
    struct Panics;
    #[async_trait]
    impl cofferdam_vault::rotation::Rotator for Panics {
        fn candidate(
            &self,
            _: &dyn cofferdam_vault::Entropy,
        ) -> Result<SecretBytes, cofferdam_vault::rotation::password::PolicyError> {
            Ok(SecretBytes::from(vec![1]))
        }
        async fn change(&self, _: &SecretBytes, _: &SecretBytes) -> Result<(), Fault> {
            panic!("a fault of ours")
        }
        async fn verify(&self, _: &SecretBytes) -> Result<cofferdam_vault::rotation::Verdict, Fault> {
            Ok(cofferdam_vault::rotation::Verdict::Opens)
        }
    }
    struct OnePanics(SimulatedFleet);
    #[async_trait]
    impl cofferdam_vault::rotation::Fleet for OnePanics {
        async fn managed(&self, account: &str) -> Result<Managed, String> {
            let mut managed = self.0.managed(account).await?;
            if account == "account-3" {
                managed.rotator = Arc::new(Panics);
            }
            Ok(managed)
        }
    }
    let (fleet, ledger) = fleet_of(8, |_| Target::new(FIRST));
    let clock = TestClock::new();
    let reporter = Arc::new(Counting::default());
    let engine = Arc::new(engine("node-a", &ledger, &clock, 3));
    let scheduler =
        Scheduler::new(engine, Arc::new(OnePanics(fleet)), Arc::clone(&reporter) as _, at_once(2));
    let pass = scheduler.pass().await.unwrap();
    assert_eq!((pass.tried, pass.rotated, pass.troubled), (8, 7, 1));
    assert!(reporter.0.lock().unwrap().contains(&("account-3".to_owned(), false)));
}
