//! People, their organisations and duties.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, ids::Name};

/// Whether an organisation is the plant itself or an outside company.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrganisationKind {
    /// The operator of the site.
    Plant,
    /// An outside company that serves machines.
    Vendor,
}

impl OrganisationKind {
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plant => "plant",
            Self::Vendor => "vendor",
        }
    }
}

/// A company: the plant, or a vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its unique name.
    pub name: Name,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The plant or a vendor.
    pub kind: OrganisationKind,
}

/// What a person is there for. A person may hold several; no approval counts for a duty that is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    /// Comes from outside to service machines.
    Vendor,
    /// Works on machines for the plant.
    Engineer,
    /// Runs the process; approves windows for it.
    Operations,
    /// Guards the site; approves windows for it.
    Security,
    /// Looks into what happened.
    Investigator,
    /// Describes the site; cannot approve.
    Administrator,
}

impl Duty {
    /// All duties.
    pub const ALL: [Self; 6] = [
        Self::Vendor,
        Self::Engineer,
        Self::Operations,
        Self::Security,
        Self::Investigator,
        Self::Administrator,
    ];
    /// Whether holders approve windows.
    pub const fn approves(self) -> bool {
        matches!(self, Self::Operations | Self::Security)
    }
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Engineer => "engineer",
            Self::Operations => "operations",
            Self::Security => "security",
            Self::Investigator => "investigator",
            Self::Administrator => "administrator",
        }
    }
}

/// A named person as the site file describes them: never a shared account, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The unique name they log in with.
    pub name: Name,
    /// Their full name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub full_name: String,
    /// Where notices go; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The organisation they belong to.
    pub organisation: Name,
    /// What they may act as.
    pub duties: BTreeSet<Duty>,
    /// SSH public keys they may log in with: OpenSSH one-line form (`ssh-ed25519 AAAA… comment`), no options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// Disabled people cannot log in, and their live sessions are cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// After this moment the person counts as disabled (UTC); outside people always have one or a contract end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

impl User {
    /// How the person stands at `now`, in a word: `active`, `disabled` or `expired`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (self.disabled, self.is_active(now)) {
            (true, _) => "disabled",
            (false, true) => "active",
            (false, false) => "expired",
        }
    }

    /// Whether the person may act at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        !self.disabled && self.valid_until.is_none_or(|end| now < end)
    }
}

pub(crate) fn is_false(b: &bool) -> bool {
    !*b
}
