//! What a person's channels become: a shell, a command, a subsystem, a forward, a jump.

pub mod forward;
pub mod relay;
pub mod session;
pub mod start;
