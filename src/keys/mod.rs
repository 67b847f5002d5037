//! The vault's keys, as the processes of one gateway share them.
//!
//! ```text
//! cofferdam serve ── socket ──► the vault process ── socket ──► the rotation process
//! faces the network             holds the keys                  faces targets
//! no key                        no network but the database     gets secrets of accounts that are rotated
//! ```
//!
//! Three processes of one program. [`start`] is the gateway's end; [`process`] the vault's; [`rotation`] the third. Each
//! runs what `cofferdam_vault::agent` gives it and adds what only this program knows: the store as the registry of who is
//! entitled to what ([`registry`]), the configuration as the source of the root ([`source`]).

mod gate_log;
mod process;
mod registry;
mod rotation;
mod signing;
mod source;
mod start;

pub(crate) use gate_log::{KnownGate, OVER_WEB, follow_gate, is_open};
pub(crate) use process::{PROCESS_COMMAND, main as process_main};
pub(crate) use rotation::{ROTATION_COMMAND, main as rotation_main};
pub(crate) use signing::{RemoteFactors, RemoteSigner, recording_signer};
pub(crate) use source::root_of;
pub(crate) use start::{KeyProcess, start};
