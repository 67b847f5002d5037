use proptest::prelude::*;

use super::*;
use crate::fixture::{NOON, name};

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn drained(limiter: &mut RateLimiter, user: &str, from: IpAddr) -> usize {
    (0..1000).take_while(|_| limiter.account(&name(user), from, Attempt::Guess, NOON) == Limit::Go).count()
}

#[test]
fn guesses_from_new_places_are_limited_and_come_back() {
    let mut limiter = RateLimiter::new(Budgets::default());
    assert_eq!(drained(&mut limiter, "vera", ip(1)), 10);
    assert_eq!(drained(&mut limiter, "vera", ip(2)), 0, "another new place shares the account's budget");
    assert_eq!(drained(&mut limiter, "emil", ip(1)), 10, "another account does not");
    let Limit::Wait { seconds } = limiter.account(&name("vera"), ip(1), Attempt::Guess, NOON) else {
        panic!()
    };
    let later = NOON.plus_seconds(i64::from(seconds));
    assert_eq!(limiter.account(&name("vera"), ip(1), Attempt::Guess, later), Limit::Go);
}

#[test]
fn the_holder_gets_in_from_a_known_place_and_by_key_from_any() {
    let mut limiter = RateLimiter::new(Budgets::default());
    limiter.succeeded(&name("vera"), ip(7), NOON);
    for attacker in 100..200 {
        drained(&mut limiter, "vera", ip(attacker));
    }
    assert_eq!(limiter.account(&name("vera"), ip(8), Attempt::Proof, NOON), Limit::Go);
    assert_eq!(drained(&mut limiter, "vera", ip(7)), 10, "the known place has its own budget");
}

#[test]
fn a_place_is_forgotten_unless_log_ins_complete() {
    let mut limiter = RateLimiter::new(Budgets::default());
    limiter.succeeded(&name("vera"), ip(7), NOON);
    let much_later = NOON.plus_seconds(91 * 86_400);
    assert_eq!(limiter.account(&name("vera"), ip(7), Attempt::Guess, much_later), Limit::Go);
    assert_eq!(limiter.accounts.len(), 1, "counted under the account again");
}

#[test]
fn neighbours_in_one_ipv6_network_and_mapped_addresses_share_a_budget() {
    let mut limiter =
        RateLimiter::new(Budgets { source: Budget { burst: 1, refill_seconds: 60 }, ..Budgets::default() });
    assert_eq!(limiter.source("2001:db8::1".parse().unwrap(), NOON), Limit::Go);
    assert_ne!(limiter.source("2001:db8::ffff:2".parse().unwrap(), NOON), Limit::Go);
    assert_eq!(limiter.source("2001:db8:0:1::1".parse().unwrap(), NOON), Limit::Go);
    assert_eq!(limiter.source(ip(1), NOON), Limit::Go);
    assert_ne!(limiter.source("::ffff:192.0.2.1".parse().unwrap(), NOON), Limit::Go);
}

#[test]
fn a_flood_keeps_memory_bounded_and_known_places_in() {
    let mut limiter = RateLimiter::new(Budgets { entries: 100, ..Budgets::default() });
    limiter.succeeded(&name("vera"), ip(7), NOON);
    for i in 0..10_000u32 {
        let from = IpAddr::from(i.to_be_bytes());
        let _limit = limiter.source(from, NOON.plus_seconds(i64::from(i)));
        let _limit = limiter.account(&name(&format!("n{i}")), from, Attempt::Guess, NOON);
    }
    assert!(limiter.entries() <= 201, "{}", limiter.entries());
    assert!(limiter.known.contains_key(&(name("vera"), ip(7))));
}

proptest! {
    #[test]
    fn nobody_waits_longer_than_a_bucket_whatever_happened(
        times in prop::collection::vec(-10_000i64..10_000, 1..200),
    ) {
        let budgets = Budgets::default();
        let mut limiter = RateLimiter::new(budgets);
        let longest = u32::from(budgets.account.refill_seconds as u16) + 1;
        for t in times {
            // Also with a clock that jumps about.
            let now = NOON.plus_seconds(t);
            if let Limit::Wait { seconds } = limiter.account(&name("vera"), ip(1), Attempt::Guess, now) {
                prop_assert!(seconds >= 1 && seconds <= longest);
                let then = now.plus_seconds(i64::from(seconds));
                prop_assert_eq!(limiter.account(&name("vera"), ip(1), Attempt::Guess, then), Limit::Go);
            }
        }
    }

    #[test]
    fn no_more_get_through_than_burst_and_refill(gaps in prop::collection::vec(0i64..120, 1..300)) {
        let budgets = Budgets::default();
        let mut limiter = RateLimiter::new(budgets);
        let mut now = NOON;
        let mut through = 0i64;
        for gap in gaps {
            now = now.plus_seconds(gap);
            through += i64::from(limiter.account(&name("vera"), ip(1), Attempt::Guess, now) == Limit::Go);
            let elapsed = now.since(NOON) / 1_000_000;
            prop_assert!(through <= i64::from(budgets.account.burst) + elapsed / i64::from(budgets.account.refill_seconds) + 1);
        }
    }
}
