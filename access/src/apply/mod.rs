//! The site as code: checking a described site and planning the way to it.
//!
//! Pure: text and values in, faults and a plan out. [`crate::store::Store::apply_site`] carries a plan out; [`Proposal`] is the
//! way there for everybody who changes the site.

mod check;
mod edit;
mod history;
mod plan;
mod proposal;

pub use check::{CheckedSite, SiteFault};
pub use edit::Edit;
pub use history::before;
pub use plan::{FieldChange, ItemKind, Plan, PlanStep, Verb};
pub use proposal::{Proposal, ProposalError};

pub(crate) use plan::{Item, items};
