//! Example decisions: a site writes down what must be allowed and what must not, and `policy test` tries it.

use std::{collections::BTreeSet, str::FromStr};

use serde::Deserialize;

use super::{WhatIf, what_if};
use crate::{
    clock::Timestamp,
    decision::{DeviceKind, Outcome},
    ids::{Login, Name, WindowId},
    people::Duty,
    site::{AccountRef, PlantState, Protocol},
    snapshot::Snapshot,
    window::{Approval, Limits, Operation, Standing, Window, WindowRequest},
};

/// Why examples cannot be run. The fault is the file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExampleError {
    /// Not a file of examples.
    #[error("the examples do not parse: {0}; see docs/policy.md for the form")]
    Parse(String),
    /// One example says something that cannot be.
    #[error("example {name:?}: {problem}")]
    Example {
        /// Which.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// How one example came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleResult {
    /// Its name.
    pub name: String,
    /// What was expected.
    pub expected: Outcome,
    /// What was decided.
    pub decided: Outcome,
    /// The outcome is the expected one, and the reasons hold the expected words.
    pub passed: bool,
    /// The deciding policies, by id.
    pub policies: Vec<String>,
    /// The reasons.
    pub reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    example: Vec<Example>,
}

/// One example. What it leaves out is the ordinary case: a key and a fresh code, over ssh, with an approved window.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    user: Name,
    asset: Name,
    #[serde(default)]
    login: Option<Login>,
    #[serde(default = "ssh")]
    protocol: Protocol,
    source: String,
    /// In the site's time zone, as people write it; counted from the moment of the test.
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    first: FirstFactor,
    #[serde(default)]
    second: Second,
    #[serde(default)]
    window: WindowIs,
    #[serde(default = "operate")]
    operations: BTreeSet<Operation>,
    #[serde(default)]
    window_plant_states: BTreeSet<PlantState>,
    /// The plant's state in the asset's zone.
    #[serde(default)]
    plant_state: Option<PlantState>,
    expect: Outcome,
    /// Words that the reasons must hold.
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum FirstFactor {
    #[default]
    Key,
    Password,
    SkKey,
    Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Second {
    #[default]
    Code,
    None,
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum WindowIs {
    #[default]
    Approved,
    Requested,
    Upcoming,
    Ended,
    None,
    /// Those of the snapshot, as they are.
    Real,
}

fn ssh() -> Protocol {
    Protocol::Ssh
}

fn operate() -> BTreeSet<Operation> {
    BTreeSet::from([Operation::Operate])
}

/// Runs the examples in `text` (TOML) against the site and policies of `snapshot`. Windows are made for each example,
/// so that it depends on nothing that happens to be approved today; `window = "real"` takes the present ones instead.
///
/// # Errors
/// When the text is not TOML of the right form, or an example names a time or address that does not parse.
pub fn run_examples(
    snapshot: &Snapshot,
    text: &str,
    now: Timestamp,
    random: &mut dyn rand::RngCore,
) -> Result<Vec<ExampleResult>, ExampleError> {
    let file: File = toml::from_str(text).map_err(|e| ExampleError::Parse(e.to_string()))?;
    file.example.iter().map(|e| run(snapshot, e, now, random)).collect()
}

fn run(
    snapshot: &Snapshot,
    example: &Example,
    now: Timestamp,
    random: &mut dyn rand::RngCore,
) -> Result<ExampleResult, ExampleError> {
    let problem = |problem: String| ExampleError::Example { name: example.name.clone(), problem };
    let at = match (&example.at, snapshot.policies.zone()) {
        (Some(text), Some(zone)) => zone.parse(text, now).map_err(|e| problem(e.to_string()))?,
        _ => now,
    };
    let source = std::net::IpAddr::from_str(&example.source)
        .map_err(|_| problem(format!("{:?} is not an address", example.source)))?;
    let mut world = snapshot.clone();
    if example.window != WindowIs::Real {
        world.windows = made_window(&world, example, at, random).into_iter().collect();
    }
    let question = WhatIf {
        user: example.user.clone(),
        asset: example.asset.clone(),
        login: example.login.clone(),
        protocol: example.protocol,
        source,
        at,
        plant_state: example.plant_state,
        first: match example.first {
            FirstFactor::Key => DeviceKind::Key,
            FirstFactor::Password => DeviceKind::Password,
            FirstFactor::SkKey => DeviceKind::SkKey,
            FirstFactor::Certificate => DeviceKind::Certificate,
        },
        second_age: match example.second {
            Second::None => None,
            Second::Code => Some(0),
            Second::Stale => Some(super::SECOND_FACTOR_FRESH_SECONDS * 2),
        },
    };
    let record = what_if(&world, &question, random);
    let said = record.reasons.join("; ");
    Ok(ExampleResult {
        name: example.name.clone(),
        expected: example.expect,
        decided: record.outcome,
        passed: record.outcome == example.expect && said.contains(&example.reason),
        policies: record.policies,
        reasons: record.reasons,
    })
}

/// The window that the example says there is.
fn made_window(
    world: &Snapshot,
    example: &Example,
    at: Timestamp,
    random: &mut dyn rand::RngCore,
) -> Option<Window> {
    let (from, to) = match example.window {
        WindowIs::None | WindowIs::Real => return None,
        WindowIs::Approved | WindowIs::Requested => (-3_600, 3_600),
        WindowIs::Upcoming => (3_600, 7_200),
        WindowIs::Ended => (-7_200, -3_600),
    };
    let login = example
        .login
        .clone()
        .or_else(|| world.site.default_account(&example.asset).map(|a| a.login.clone()))?;
    let request = WindowRequest {
        id: WindowId::new(at, random),
        requested_by: example.user.clone(),
        requested_at: at.plus_seconds(from - 3_600),
        users: BTreeSet::from([example.user.clone()]),
        accounts: BTreeSet::from([AccountRef { asset: example.asset.clone(), login }]),
        forwards: BTreeSet::new(),
        operations: example.operations.clone(),
        purpose: "an example".to_owned(),
        work_order: String::new(),
        start: at.plus_seconds(from),
        end: at.plus_seconds(to),
        plant_states: example.window_plant_states.clone(),
        limits: Limits::default(),
        extends: None,
    };
    let digest = request.digest().to_string();
    let mut window = Window::requested(request);
    if example.window != WindowIs::Requested {
        let approver = |name: &str, duty| {
            // These two names exist nowhere else: the examples' windows never leave this function's caller.
            Some(Approval {
                by: Name::new(name).ok()?,
                duty,
                digest: digest.clone(),
                at: at.plus_seconds(from - 60),
                remark: None,
            })
        };
        window.approvals = [
            approver("example.operations", Duty::Operations)?,
            approver("example.security", Duty::Security)?,
        ]
        .to_vec();
        window.standing = Standing::Approved;
    }
    Some(window)
}
