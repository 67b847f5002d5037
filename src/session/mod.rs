//! The life of one session, whatever the protocol.
pub mod control;
pub mod end;
pub mod timers;
