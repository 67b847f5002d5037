//! End to end: the real binary, real clients, a real target. One file per behaviour area; a test's name is a sentence.
//!
//! The peers are Debian's own programs and are part of what is tested: one that is missing is a failure, never a skip
//! (`./test` installs them).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

#[path = "e2e/authorities.rs"]
mod authorities;
#[path = "e2e/backup.rs"]
mod backup;
#[path = "e2e/checking_out.rs"]
mod checking_out;
#[path = "e2e/connecting.rs"]
mod connecting;
#[path = "e2e/discovering.rs"]
mod discovering;
#[path = "e2e/ending.rs"]
mod ending;
#[path = "e2e/files.rs"]
mod files;
#[path = "e2e/forwarding.rs"]
mod forwarding;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/keeping.rs"]
mod keeping;
#[path = "e2e/object_store.rs"]
mod object_store;
#[path = "e2e/peers.rs"]
mod peers;
#[path = "e2e/planted.rs"]
mod planted;
#[path = "e2e/postgres.rs"]
mod postgres;
#[path = "e2e/rdp.rs"]
mod rdp;
#[path = "e2e/rdp_clients.rs"]
mod rdp_clients;
#[path = "e2e/rdp_files.rs"]
mod rdp_files;
#[path = "e2e/rdp_held.rs"]
mod rdp_held;
#[path = "e2e/reading.rs"]
mod reading;
#[path = "e2e/records.rs"]
mod records;
#[path = "e2e/rotating.rs"]
mod rotating;
#[path = "e2e/second_factor.rs"]
mod second_factor;
#[path = "e2e/vault_process.rs"]
mod vault_process;
#[path = "e2e/watching.rs"]
mod watching;
#[path = "e2e/web_desktop.rs"]
mod web_desktop;
#[path = "e2e/web_enrolling.rs"]
mod web_enrolling;
#[path = "e2e/web_pages.rs"]
mod web_pages;
#[path = "e2e/web_recordings.rs"]
mod web_recordings;
#[path = "e2e/web_supervised.rs"]
mod web_supervised;
#[path = "e2e/web_terminal.rs"]
mod web_terminal;
#[path = "e2e/web_windows.rs"]
mod web_windows;
