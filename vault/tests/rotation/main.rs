//! The rotation engine against targets that fail in every way, and a process that ends at every point.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod behaviour;
mod bench;
#[path = "../support/contract.rs"]
mod contract;
mod crash;
mod scheduler;
#[path = "../support/simulated.rs"]
#[allow(dead_code, reason = "shared with the example that measures")]
mod simulated;
