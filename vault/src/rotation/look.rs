//! What a look at a target for privileged accounts found, whatever kind of target it is.

use serde::{Deserialize, Serialize};

/// A privileged account that exists on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundAccount {
    /// Its login.
    pub login: String,
    /// What makes it privileged: `uid 0`, `group sudo`, `sudo`, `Domain Admins` …
    pub because: Vec<String>,
    /// Keys that open it, where that could be read.
    pub keys: Option<u32>,
    /// Whether it has a password that could open it, where that could be read.
    pub password: Option<bool>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The privileged accounts, by login.
    pub found: Vec<FoundAccount>,
    /// What could not be read, and what to do about it.
    pub gaps: Vec<String>,
}
