//! What the system does so that keys stay in memory and nowhere else: no core dumps, no tracing by the same user, no
//! swapping. What it refuses is reported, never silently done without.

use std::fmt;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Whether one measure is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// It is.
    InForce,
    /// It is not; why, and what to do about it.
    Refused(String),
}

impl Measure {
    fn of<E: fmt::Display>(done: Result<(), E>, what_next: &str) -> Self {
        match done {
            Ok(()) => Self::InForce,
            Err(e) => Self::Refused(format!("{e}; {what_next}")),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce => f.write_str("in force"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// What protects this process's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// No core file is ever written (`RLIMIT_CORE` 0).
    pub no_core: Measure,
    /// The process is not dumpable: other processes of the same user can neither trace it nor read its memory.
    pub not_dumpable: Measure,
    /// All memory, now and later, is locked: nothing of it reaches the swap space.
    pub locked: Measure,
}

/// Takes all measures; to be called once, before any key is read, and after the process has become its own user.
#[must_use]
pub fn harden() -> Hardening {
    Hardening {
        no_core: Measure::of(setrlimit(Resource::RLIMIT_CORE, 0, 0), "set LimitCORE=0 in the unit"),
        not_dumpable: Measure::of(not_dumpable(), "the kernel has to support PR_SET_DUMPABLE"),
        locked: Measure::of(
            lock_memory(),
            "set LimitMEMLOCK=infinity in the unit, and use encrypted swap space or none",
        ),
    }
}

/// The kernel is asked what it made of it: a promise that is not kept must not be reported as kept.
fn not_dumpable() -> Result<(), nix::Error> {
    prctl::set_dumpable(false)?;
    if prctl::get_dumpable()? { Err(nix::Error::EPERM) } else { Ok(()) }
}

/// Only without a limit: with one, the first allocation past it would end the process.
fn lock_memory() -> Result<(), String> {
    raise_lock_limit();
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|e| e.to_string())?;
    if soft != RLIM_INFINITY && !is_exempt() {
        return Err(format!("only {} KiB of memory may be locked", soft / 1024));
    }
    // On fault: what the process never touches holds no secret, and need not be in memory to be locked there.
    let on_fault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).map_err(|e| e.to_string())
}

/// Whether the limit does not count for this process: it has `CAP_IPC_LOCK`.
fn is_exempt() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
}

/// As far as this process may: to the end as root, else to its own hard limit. A child inherits it.
pub(super) fn raise_lock_limit() {
    let unlimited = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if unlimited.is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
    {
        // What is in force afterwards is read back where it matters.
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).unwrap_or_default();
    }
}
