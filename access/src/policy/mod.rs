//! The policy engine: who may do what, decided from one snapshot, with the reasons.
//!
//! Rust establishes the facts (which window, which conduit, is the second factor fresh), Cedar decides over them, and
//! only Cedar's yes makes a [`crate::grant::Grant`]. Whatever cannot be established refuses.

mod channel;
mod compiled;
mod decide;
mod destination;
mod entities;
mod examples;
mod facts;
mod menu;
mod reasons;
mod recheck;
#[cfg(test)]
mod tests;
mod view;
mod what_if;

pub(crate) use self::compiled::Allowed;
pub use self::{
    channel::{ChannelDecision, ChannelPermit, ChannelRequest, FilePermit, ForwardPermit, Pass, Way},
    compiled::{CompiledPolicies, PolicyError, PolicyText},
    decide::{Decision, SECOND_FACTOR_FRESH_SECONDS, decide},
    destination::{DestinationRules, ForbiddenDestination},
    examples::{ExampleError, ExampleResult, run_examples},
    menu::{MenuEntry, MenuState, reachable},
    recheck::{EndReason, Recheck, recheck},
    view::{ViewDecision, ViewPermit, ViewQuestion, decide_view},
    what_if::{WhatIf, what_if},
};

/// The shipped policy whose refusal alone means: ask for a window.
pub(crate) const WINDOW_REQUIRED: &str = "cofferdam:window-required";
