//! How much each thing may be asked for: what a process that was taken over gets is counted, whatever it says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const MICROSECONDS: i64 = 1_000_000;
/// Sessions and people that are remembered at a time; past it, new ones are refused until old ones have ended.
const MAX_REMEMBERED: usize = 100_000;

/// The bounds of one vault process. The defaults fit a gateway of some hundred sessions.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Leases in a minute, over all accounts.
    pub leases_per_minute: u32,
    /// Leases that are out at a time.
    pub live_leases: usize,
    /// Leases for one session, ever. A session dials once, and again if the target did not answer.
    pub leases_per_session: u32,
    /// Codes that are checked for one person in ten minutes.
    pub codes_per_person: u32,
    /// Secrets that are opened for rotation in a minute. A fleet of ten thousand is verified in a quarter of an hour.
    pub opens_per_minute: u32,
    /// Secrets that are sealed in a minute.
    pub seals_per_minute: u32,
    /// Host certificates in a minute.
    pub certificates_per_minute: u32,
    /// Times that a passphrase or the configured source is tried in a minute.
    pub unseals_per_minute: u32,
    /// How far ahead an entitlement may end, in seconds.
    pub longest_entitlement_seconds: i64,
    /// Purposes that secrets are sealed for ([`crate::Context::purpose`]); nothing else is sealed or opened.
    pub purposes: &'static [&'static str],
    /// Whether the network-facing process may bring shares and passphrases, which people then type into it.
    pub network_may_unseal: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            leases_per_minute: 600,
            live_leases: 2000,
            leases_per_session: 5,
            codes_per_person: 120,
            opens_per_minute: 6000,
            seals_per_minute: 6000,
            certificates_per_minute: 600,
            unseals_per_minute: 10,
            longest_entitlement_seconds: 31 * 24 * 3600,
            purposes: &["account", "totp", "ssh-authority"],
            network_may_unseal: false,
        }
    }
}

/// Counts of things in windows of time, by name.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<HashMap<String, Count>>);

#[derive(Debug)]
struct Count {
    until: i64,
    used: u32,
}

impl Meter {
    /// Counts one use of `name` and says whether it is one of the first `most` until `until` of the first of them.
    /// `now` before the window began (a clock that jumped back) changes nothing: the window stays.
    pub(super) fn allows(&self, name: &str, most: u32, now: i64, until: i64) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(name)
            && now < count.until
        {
            count.used = count.used.saturating_add(1);
            return count.used <= most;
        }
        if counts.len() >= MAX_REMEMBERED {
            counts.retain(|_, count| now < count.until);
        }
        if counts.len() >= MAX_REMEMBERED || most == 0 {
            return false;
        }
        counts.insert(name.to_owned(), Count { until, used: 1 });
        true
    }

    /// The same with a window of `seconds`.
    pub(super) fn allows_within(&self, name: &str, most: u32, seconds: i64, now: i64) -> bool {
        self.allows(name, most, now, now.saturating_add(seconds.saturating_mul(MICROSECONDS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * MICROSECONDS;

    #[test]
    fn what_is_over_the_bound_is_refused_until_its_window_ends() {
        let meter = Meter::default();
        let ask = |now| meter.allows_within("leases", 2, 60, now);
        assert_eq!([ask(0), ask(1), ask(2), ask(MINUTE - 1), ask(MINUTE)], [true, true, false, false, true]);
        assert!(meter.allows_within("other", 1, 60, 2), "names are counted apart");
    }

    #[test]
    fn a_clock_that_jumps_back_gives_nobody_a_new_budget() {
        let meter = Meter::default();
        assert!(meter.allows_within("s", 1, 60, 10 * MINUTE));
        assert!(!meter.allows_within("s", 1, 60, 0));
    }

    #[test]
    fn remembering_is_bounded_and_full_means_no() {
        let meter = Meter::default();
        for i in 0..MAX_REMEMBERED {
            assert!(meter.allows(&i.to_string(), 1, 0, 10));
        }
        assert!(!meter.allows("one more", 1, 0, 10));
        assert!(meter.allows("one more", 1, 10, 20), "those that have ended make room");
    }
}
