//! The life of one session, whatever the protocol.
pub(crate) mod control;
pub(crate) mod end;
pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod orders;
pub(crate) mod registry;
pub(crate) mod supervise;
pub(crate) mod timers;
