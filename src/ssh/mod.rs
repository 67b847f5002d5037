//! SSH: the front toward the person, the target leg, the menu and the channels.

pub mod algorithms;
pub mod target;
pub mod wire;

/// Flow-control window of a channel, bytes (RFC 4254 §5.2): large enough that a round trip of some milliseconds does
/// not slow a transfer.
pub const WINDOW: u32 = 4 * 1024 * 1024;
/// Largest packet that a peer may send, bytes: what OpenSSH uses.
pub const PACKET: u32 = 32 * 1024;
/// Packets that wait for one channel's relay before its connection is read no further; with `PACKET` the bound of
/// what a stalled reader can hold.
pub const CHANNEL_QUEUE: usize = 64;
