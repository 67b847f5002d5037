//! Access windows: an immutable request that becomes valid when two different people of two different duties approve
//! exactly that text.
//!
//! The types are here; [`text`] says what exactly is approved and what may be asked for, [`rules`] what people may do
//! to a window and what it then covers.

pub mod rules;
pub mod text;

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use self::{
    rules::{ApprovalStep, Coverage, Phase, Refusal, Target},
    text::RequestError,
};
use crate::{
    clock::Timestamp,
    ids::{Name, WindowId},
    people::Duty,
    site::{AccountRef, PlantState},
};

/// What may be done inside a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Look: read files, watch, read values. (A shell can do more than look: see the policy notes.)
    View,
    /// Operate: shells, commands, upload files, write values within limits.
    Operate,
    /// Program: change a controller's program or firmware.
    Program,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 3] = [Self::View, Self::Operate, Self::Program];
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Program => "program",
        }
    }
    /// Whether a window that lists this operation allows `wanted`: looking is part of operating and of programming,
    /// but programming a controller does not bring a shell, nor the other way round.
    pub const fn includes(self, wanted: Self) -> bool {
        matches!(
            (self, wanted),
            (_, Self::View) | (Self::Operate, Self::Operate) | (Self::Program, Self::Program)
        )
    }
}

/// Limits that go with a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most bytes of files moved in all sessions of the window together, either way; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Only these paths may be touched by file transfer (`*` within a name, `**` across folders); empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Files may be read but not written.
    #[serde(skip_serializing_if = "crate::people::is_false")]
    pub read_only_files: bool,
}

/// What somebody asks for. Immutable: a change is another request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRequest {
    /// Its id.
    pub id: WindowId,
    /// Who asks.
    pub requested_by: Name,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Who may use it (often the requester alone).
    pub users: BTreeSet<Name>,
    /// Accounts on assets that may be used. A tunnel to a device without log-in uses its account with credential `none`.
    pub accounts: BTreeSet<AccountRef>,
    /// Assets whose endpoints may be reached through forwards, besides those of `accounts`.
    #[serde(default)]
    pub forwards: BTreeSet<Name>,
    /// What may be done.
    pub operations: BTreeSet<Operation>,
    /// Why, in plain words.
    pub purpose: String,
    /// The work order's number; may be empty.
    #[serde(default)]
    pub work_order: String,
    /// First moment, UTC.
    pub start: Timestamp,
    /// First moment that is no longer inside, UTC.
    pub end: Timestamp,
    /// Plant states in which it may be used; empty: any but emergency.
    #[serde(default)]
    pub plant_states: BTreeSet<PlantState>,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// The window that this one extends.
    #[serde(default)]
    pub extends: Option<WindowId>,
}

/// SHA-256 over the canonical text of a request: what an approver approves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestDigest(pub [u8; 32]);

impl RequestDigest {
    /// SHA-256 of a canonical text.
    pub(crate) fn of(text: &str) -> Self {
        let mut out = [0u8; 32];
        let sum = digest(&SHA256, text.as_bytes());
        out.iter_mut().zip(sum.as_ref()).for_each(|(o, b)| *o = *b);
        Self(out)
    }
}

impl fmt::Display for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for RequestDigest {
    type Err = Refusal;
    /// From 64 hexadecimal digits, as shown.
    fn from_str(s: &str) -> Result<Self, Refusal> {
        let mut digest = [0u8; 32];
        hex::decode_to_slice(s.trim(), &mut digest).map_err(|_| Refusal::NotADigest)?;
        Ok(Self(digest))
    }
}

/// One person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: Name,
    /// As what.
    pub duty: Duty,
    /// Digest of the exact request, lower-case hexadecimal.
    pub digest: String,
    /// When.
    pub at: Timestamp,
    /// What they said with it, if anything; no part of what is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// From when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// First moment.
    pub start: Timestamp,
    /// First moment that is no longer inside.
    pub end: Timestamp,
}

/// Where a window stands, apart from the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Standing {
    /// Waits for approvals.
    Requested,
    /// Two people of two duties approved.
    Approved,
    /// Somebody refused.
    Refused {
        /// Who refused.
        by: Name,
        /// Their reason.
        reason: String,
        /// When.
        at: Timestamp,
        /// Times that would suit instead, to be asked for anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggested: Option<Times>,
    },
    /// The requester took it back before it was approved.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Ended early for good.
    Revoked {
        /// Who revoked.
        by: Name,
        /// Their reason.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

/// A window: the request and what people said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What was asked for.
    pub request: WindowRequest,
    /// Approvals so far.
    pub approvals: Vec<Approval>,
    /// Where it stands.
    pub standing: Standing,
    /// An earlier end that somebody set; never later than the request's.
    #[serde(default)]
    pub shortened_to: Option<Timestamp>,
}
