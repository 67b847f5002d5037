//! The vault as a process of its own: it holds the keys, and what faces the network does not.
//!
//! As in OpenSSH's privilege separation, a small typed protocol stands between the two: frames with a length and a bound,
//! messages that are refused when anything in them is unknown, and a list of what each [`Role`] may ask in each phase
//! ([`allow`]). The process that faces the network talks over the socket that it made before it started this one; people
//! who operate the vault talk over a socket in a folder that only the vault's user can enter, and the kernel says who they
//! are.
//!
//! What a network-facing process that an attacker has taken over can still ask for, and what bounds it, stands in
//! `docs/vault.md`. In short: it can use accounts for sessions that the [`Registry`] confirms, at a bounded rate; it can
//! neither list nor export secrets, nor read a person's second factor, nor sign the audit log's past anew.

mod allow;
mod client;
mod harden;
mod limits;
mod message;
mod registry;
mod server;
mod service;
mod spawn;
mod wire;

pub use allow::Role;
pub use client::{Client, ClientError, RemoteLease};
pub use harden::{Hardening, Measure, harden};
pub use limits::Bounds;
pub use message::{PublicKeys, Status};
pub use registry::{Claim, Credentialed, Entitlement, Refusal, Registry, Told, dangerous};
pub use server::{Server, bind_private, serve_operators};
pub use service::{Clock, Keys, Ports, RootSource, Service};
pub use spawn::{Spawned, ignore_stop_signals, parent_socket, spawn};
pub use wire::{MAX_FRAME, PROTOCOL_VERSION, WireError};

/// Both kinds of message, from a frame's content.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_messages(bytes: &[u8]) {
    // Whatever it is, it is a message or it is refused.
    std::hint::black_box(wire::decode::<message::Request>(bytes).is_ok());
    std::hint::black_box(wire::decode::<message::Response>(bytes).is_ok());
}

#[cfg(test)]
mod tests;
