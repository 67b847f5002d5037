//! Who may do what, and the proof of it.
//!
//! People, sites (zones, conduits, assets, accounts), access windows, plant state, policy, grants, the audit log and
//! the store. Nothing here opens a socket to a person or a target: the session code asks, and this crate answers.

pub mod apply;
pub mod audit;
pub mod authority;
pub mod checking_out;
pub mod checkout;
pub mod clock;
pub mod control;
pub mod decision;
pub mod discovery;
#[cfg(test)]
mod fixture;
pub mod grant;
pub mod ids;
pub mod local_time;
pub mod login;
pub mod metrics;
pub mod notice;
pub mod password;
pub mod people;
pub mod policy;
pub mod prover;
pub mod ratelimit;
pub mod recovery;
pub mod retention;
pub mod site;
pub mod snapshot;
pub mod store;
pub mod totp;
pub mod window;
pub mod windowing;
