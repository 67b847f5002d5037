//! Analysers of a session's streams and context. All are pure: bytes, observations and `now` in, findings out.
//!
//! - [`echo`] decides which typed bytes may be stored readable;
//! - [`human`] tells the person's keys from what the terminal sends by itself;
//! - [`line`] knows the command line as it stands on the person's screen;
//! - [`triggers`] turns observations into findings with a response.

pub(crate) mod echo;
pub(crate) mod human;
pub(crate) mod line;
pub(crate) mod triggers;

mod vt;
