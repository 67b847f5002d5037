//! Starts gateways and real peers, and speaks for people.

mod browser;
pub(crate) mod cli;
pub(crate) mod desktop;
mod disk;
mod done;
mod gateway;
mod live;
pub(crate) mod person;
mod postgres;
#[path = "../../rdp/tests/it/realm.rs"]
#[allow(dead_code, reason = "the RDP crate's own tests use the rest of it")]
pub(crate) mod realm;
mod s3;
mod sshd;
#[path = "../../rdp/tests/it/targets.rs"]
#[allow(dead_code, reason = "the RDP crate's own tests use the rest of it")]
pub(crate) mod targets;

pub(crate) use browser::as_json;
pub(crate) use done::{Done, run, run_with_input};
pub(crate) use gateway::{Gateway, TOKENS};
pub(crate) use live::{CUT, Live};
pub(crate) use person::Person;
pub(crate) use postgres::new_database;
pub(crate) use s3::S3Server;
pub(crate) use sshd::{RealSshd, as_root};

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A file under `tests/peers/`.
pub(crate) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The Python that has the peers' libraries: `./test` names it, and it stays where `./test` made it.
pub(crate) fn python() -> PathBuf {
    std::env::var_os("COFFERDAM_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/venv/bin/python"),
        PathBuf::from,
    )
}

/// Asks `probe` again and again until it gives something, for at most `longest`; says how long that took.
#[track_caller]
pub(crate) fn wait_for<T>(
    what: &str,
    longest: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return (found, start.elapsed());
        }
        assert!(start.elapsed() < longest, "{what}: not within {longest:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `length` bytes that do not repeat or compress (a linear congruential generator's high bytes).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}
