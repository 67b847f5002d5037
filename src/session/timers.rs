//! All deadlines of a session in one table, as a pure function of what happened and of the time.

use cofferdam_access::clock::Timestamp;

/// Warnings before the absolute end, seconds.
const BEFORE_END: [i64; 2] = [600, 60];
/// Warning before idle ends the session, seconds.
const BEFORE_IDLE: i64 = 30;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Tell the person.
    Notice(String),
    /// The window's end.
    Expired,
    /// Idle for too long.
    Idle,
    /// Policy may answer otherwise, because of the time.
    AskPolicy,
}

/// The deadlines.
#[derive(Debug)]
pub(crate) struct Timers {
    not_after: Timestamp,
    idle_seconds: u32,
    /// Warnings before the end that are still to come, by index into `BEFORE_END`.
    warned: [bool; 2],
    warned_idle_at: Option<Timestamp>,
    ask_policy_at: Option<Timestamp>,
}

impl Timers {
    /// For a session that starts at `now` and must be over at `not_after`; warnings whose time has passed already are not given.
    pub(crate) fn new(now: Timestamp, not_after: Timestamp, idle_seconds: u32) -> Self {
        let mut timers =
            Self { not_after, idle_seconds, warned: [false; 2], warned_idle_at: None, ask_policy_at: None };
        timers.skip_passed(now);
        timers
    }

    fn skip_passed(&mut self, now: Timestamp) {
        for (warned, before) in self.warned.iter_mut().zip(BEFORE_END) {
            *warned = now >= self.not_after.plus_seconds(-before);
        }
    }

    /// The absolute end moved (a shortened window, a fresh approval).
    pub(crate) fn set_not_after(&mut self, now: Timestamp, not_after: Timestamp) {
        if not_after != self.not_after {
            self.not_after = not_after;
            self.skip_passed(now);
        }
    }

    /// When policy may answer otherwise because of the time alone; none: never.
    pub(crate) fn set_ask_policy(&mut self, at: Option<Timestamp>) {
        self.ask_policy_at = at;
    }

    /// What is due at `now`, given the last human input. Asked again until it says nothing.
    pub(crate) fn due(&mut self, now: Timestamp, last_input: Timestamp) -> Option<Due> {
        if now >= self.not_after {
            return Some(Due::Expired);
        }
        if self.ask_policy_at.take_if(|at| now >= *at).is_some() {
            return Some(Due::AskPolicy);
        }
        if self.idle_seconds > 0 {
            let idle_end = last_input.plus_seconds(self.idle_seconds.into());
            if now >= idle_end {
                return Some(Due::Idle);
            }
            if now >= idle_end.plus_seconds(-BEFORE_IDLE) && self.warned_idle_at != Some(last_input) {
                self.warned_idle_at = Some(last_input);
                return Some(Due::Notice(format!("no input: the session ends in {} s", left(now, idle_end))));
            }
        }
        for (warned, before) in self.warned.iter_mut().zip(BEFORE_END) {
            if !*warned && now >= self.not_after.plus_seconds(-before) {
                *warned = true;
                let minutes = (left(now, self.not_after) + 30) / 60;
                return Some(Due::Notice(format!("the access window ends in {} min", minutes.max(1))));
            }
        }
        None
    }

    /// When to ask next: the earliest moment at which something becomes due.
    pub(crate) fn next(&self, last_input: Timestamp) -> Timestamp {
        let mut next = self.ask_policy_at.map_or(self.not_after, |at| at.min(self.not_after));
        for (warned, before) in self.warned.iter().zip(BEFORE_END) {
            if !warned {
                next = next.min(self.not_after.plus_seconds(-before));
            }
        }
        if self.idle_seconds > 0 {
            let idle_end = last_input.plus_seconds(self.idle_seconds.into());
            let idle_next = if self.warned_idle_at == Some(last_input) {
                idle_end
            } else {
                idle_end.plus_seconds(-BEFORE_IDLE)
            };
            next = next.min(idle_next);
        }
        next
    }
}

/// Whole seconds left, rounded up.
fn left(now: Timestamp, end: Timestamp) -> i64 {
    (end.since(now) + 999_999) / 1_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Timestamp = Timestamp(1_700_000_000_000_000);

    #[test]
    fn warns_ten_minutes_and_one_minute_before_the_end_and_then_expires() {
        let mut t = Timers::new(T0, T0.plus_seconds(3600), 0);
        assert_eq!(t.due(T0, T0), None);
        assert_eq!(t.next(T0), T0.plus_seconds(3000));
        let at = T0.plus_seconds(3000);
        assert_eq!(t.due(at, T0), Some(Due::Notice("the access window ends in 10 min".into())));
        assert_eq!(t.due(at, T0), None);
        let at = T0.plus_seconds(3540);
        assert_eq!(t.due(at, T0), Some(Due::Notice("the access window ends in 1 min".into())));
        assert_eq!(t.due(T0.plus_seconds(3600), T0), Some(Due::Expired));
    }

    #[test]
    fn idle_counts_from_the_last_input_and_warns_once_for_each() {
        let mut t = Timers::new(T0, T0.plus_seconds(86_400), 300);
        assert!(matches!(t.due(T0.plus_seconds(271), T0), Some(Due::Notice(_))));
        assert_eq!(t.due(T0.plus_seconds(272), T0), None);
        let typed = T0.plus_seconds(280);
        assert_eq!(t.due(T0.plus_seconds(310), typed), None);
        assert!(matches!(t.due(typed.plus_seconds(270), typed), Some(Due::Notice(_))));
        assert_eq!(t.due(typed.plus_seconds(300), typed), Some(Due::Idle));
    }

    #[test]
    fn policy_is_asked_at_the_moment_from_which_it_may_answer_otherwise_and_once() {
        let mut t = Timers::new(T0, T0.plus_seconds(3600), 0);
        let at = T0.plus_seconds(40);
        t.set_ask_policy(Some(at));
        assert_eq!((t.due(T0, T0), t.next(T0)), (None, at));
        assert_eq!(t.due(at, T0), Some(Due::AskPolicy));
        assert_eq!((t.due(at, T0), t.next(T0)), (None, T0.plus_seconds(3000)));
        // The end comes first.
        t.set_ask_policy(Some(T0.plus_seconds(3600)));
        assert_eq!(t.due(T0.plus_seconds(3600), T0), Some(Due::Expired));
    }

    proptest! {
        #[test]
        fn following_next_never_misses_the_end(length in 1i64..100_000, idle in 0u32..5000, typed in 0i64..100_000) {
            let end = T0.plus_seconds(length);
            let mut t = Timers::new(T0, end, idle);
            let last = T0.plus_seconds(typed.min(length));
            let mut now = T0;
            for _ in 0..20 {
                while let Some(due) = t.due(now, last) {
                    if matches!(due, Due::Expired) { prop_assert!(now >= end); return Ok(()); }
                    if matches!(due, Due::Idle) { prop_assert!(now.since(last) >= i64::from(idle) * 1_000_000); return Ok(()); }
                }
                let next = t.next(last);
                prop_assert!(next > now, "the table must always move on");
                now = next;
            }
            prop_assert!(false, "never ended");
        }
    }
}
