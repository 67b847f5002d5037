//! RDP between a person and a target.
//!
//! The gateway stands in the middle at the level of PDUs: both sides have their own TLS and their own log-in, the target's
//! secret is used on its side only, and what passes between them is judged PDU by PDU. A passive decoder beside it draws
//! what the person sees, for the recording.
//!
//! ```text
//!  person ── X.224 ── TLS ── CredSSP: one-time token ──► front ─┐
//!                                                               ├─► relay ─► Watch (events, screen), then the other side
//!  target ── X.224 ── TLS, pinned key ── CredSSP: secret ─► back ┘      └─ rewrite, channels
//! ```
//!
//! Nothing here dials, listens, stores or asks what time it is.
//!
//! # Logging
//! The libraries below log whole CredSSP messages at debug level. Whoever sets up logging keeps the log targets `sspi` and
//! `ironrdp_pdu`, `ironrdp_core` at `warn` or above, whatever an operator's filter says; [`NOISY_LOG_TARGETS`] names them.

mod back;
mod banner;
mod channels;
mod cleanpath;
mod credssp;
mod event;
mod files;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod kerberos;
mod mcs;
mod opening;
mod parting;
mod person;
mod relay;
mod rewrite;
mod share;
pub mod tap;
mod tls;
mod wire;

pub use back::{BackConfig, BackError, LogOn, Security, Target, connect, learn_key};
pub use banner::Area;
pub use channels::ChannelPolicy;
pub use event::{
    Activation, Client, Direction, Dropped, Ending, Event, Key, Order, Pointer, ScreenPdu, SoundFormat, Stop,
    Watch,
};
pub use files::{Change, Files, NoFiles, Opening, Place};
pub use front::{Accepted, Candidate, FrontConfig, FrontError, Proof, Tokens, accept, accept_browser};
pub use kerberos::{KdcStream, Kdcs, Kerberos, KerberosError};
pub use relay::{Finished, RelayError, relay};
pub use rewrite::{Broken, capabilities::Graphics};
pub use tls::{NotAPin, Pin, subject_public_key};
pub use wire::WireError;

/// Log targets (`tracing`) that must never be let through below `warn`: at debug level they print what proves a log-in.
pub const NOISY_LOG_TARGETS: [&str; 2] = ["sspi", "ironrdp"];
