//! The crate against real clients and targets: xfreerdp and rdesktop, xrdp and FreeRDP's shadow server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod desktop;
mod gateway;
mod graphics;
mod kerberos;
mod lobby;
mod log_in;
mod realm;
mod session;
mod sound;
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
mod targets;
