//! The web interface: where a vendor asks, two people approve, somebody watches, and an investigator replays.
//!
//! A request goes through, in this order: security headers, the rule of its route ([`routes`]), the form's own proof that it
//! comes from our page ([`form`]), and only then its handler. Pages (`pages`) and API (`api`) call the same rules of
//! `cofferdam-access`; handlers see neither a connection pool nor a key.
//!
//! Invariant: a route without a rule cannot be added, and the walk in the tests asks every route as everybody.
//!
//! Invariant: no inline script or style, no token in an address but single-use ones, no redirect to another site.

mod admin;
mod api;
mod assets;
mod checkouts;
mod cookies;
mod desktops;
mod error;
mod form;
mod frame;
mod headers;
mod pages;
mod passkeys;
mod recordings;
mod routes;
mod serve;
mod services;
mod sockets;
mod step_up;
mod streams;
mod terminals;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod viewer;
mod watching;

pub use checkouts::{Gate, Secrets};
pub use desktops::{DesktopPass, DesktopRequest, Desktops, OpenDesktop, Told};
pub use recordings::{
    Export, Exporting, Found, RecordedLine, RecordedLines, Recordings, RecordingsError, Search, Verified,
};
pub use routes::{Listed, Rule, Scopes, listing};
pub use serve::{Listening, WebError, serve};
pub use services::{Health, HealthItem, Services, Settings};
pub use terminals::{Shown, Size, Terminal, TerminalRequest, Terminals, Typed};
pub use tls::{Certificates, ENDS_SOON, Served, TlsError, make_authority};
pub use watching::{LiveSession, LiveSessions, Watched, Watching};
