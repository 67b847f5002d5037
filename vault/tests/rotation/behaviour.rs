//! What people see: states, findings, drift, requests, dependents.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Clock as _, Dependent, Engine, Fault, FindingKind, Keeper, Ledger, Managed, MemoryLedger, OnDrift, Plan,
    Progress, Reason, SealedBytes, State,
};
use cofferdam_vault::{Sealer, SecretBytes, SystemEntropy};

use crate::bench::*;
use crate::simulated::*;

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

#[tokio::test]
async fn the_ledger_in_memory_keeps_what_every_ledger_has_to() {
    let ledger = MemoryLedger::default();
    for (account, since) in [("account-1", START - 2), ("account-2", START - 1)] {
        ledger.insert(account, Progress::new(SealedBytes(vec![1, 2, 3]), since, START - DAY));
    }
    crate::contract::check(&ledger, "account-1", "account-2", START).await;
}
