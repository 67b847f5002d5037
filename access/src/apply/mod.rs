//! The site as code: checking a described site and planning the way to it.
//!
//! Pure: text and values in, faults and a plan out. [`crate::store::Store::apply_site`] carries a plan out.

mod check;
mod plan;

pub use check::{CheckedSite, SiteFault};
pub use plan::{FieldChange, ItemKind, Plan, PlanStep, Verb};

pub(crate) use plan::{Item, items};
