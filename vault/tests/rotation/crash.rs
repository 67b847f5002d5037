//! The process ends at every point, nodes sleep and wake up, targets do half: no account is lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cofferdam_vault::rotation::{Backoff, EngineError, Ledger as _, LedgerError, Reason, State};
use proptest::prelude::*;

use crate::bench::*;
use crate::simulated::*;

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
