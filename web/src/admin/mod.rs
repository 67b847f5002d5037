//! What administrators do, once for pages and API: each function loads, asks the rules, and writes with the audit event.

pub(crate) mod audit;
mod background;
pub(crate) mod change;
pub(crate) mod people;
pub(crate) mod plant;
pub(crate) mod policies;
pub(crate) mod vault;

pub(crate) use background::{Background, METRICS_DAYS};
