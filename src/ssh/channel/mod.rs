//! What a person's channels become: a shell, a command, a subsystem, a forward, a jump.

pub(crate) mod files;
pub(crate) mod forward;
pub(crate) mod relay;
pub(crate) mod session;
pub(crate) mod start;
