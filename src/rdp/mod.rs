//! Desktops by RDP: log-in by a single-use token, then a session like any other: decision, record, watch, timers, orders
//! and ends are those of `gateway` and `session`; the protocol itself is in `cofferdam-rdp`.

mod carry;
mod connection;
mod dial;
pub(crate) mod listener;
mod says;
mod streams;
mod tap;
pub(crate) mod tokens;
mod watch;
mod words;
