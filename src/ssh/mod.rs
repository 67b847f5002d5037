//! SSH: the front toward the person, the target leg, the menu and the channels.

pub(crate) mod algorithms;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod front;
pub(crate) mod jump;
pub(crate) mod listener;
pub(crate) mod login;
pub(crate) mod menu;
pub(crate) mod target;
pub(crate) mod wire;

/// Flow-control window of a channel, bytes (RFC 4254 §5.2): OpenSSH's own, so that a long way is no slower than without
/// the gateway.
pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;
/// Largest packet that a peer may send, bytes: what OpenSSH uses.
pub(crate) const PACKET: u32 = 32 * 1024;
/// Packets that wait for one channel's relay before its connection is read no further; with `PACKET` the bound of what a
/// stalled reader can hold: 3 MiB. The library grants window as packets arrive and stops reading the connection when
/// this queue is full, so a smaller one would let a command that never reads its input hold up its own output.
pub(crate) const CHANNEL_QUEUE: usize = 96;
