//! What is asked of the policy engine, and the record it leaves: the five answers, for every decision.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{DecisionId, Login, Name, SessionId, WindowId},
    people::{Duty, OrganisationKind},
    site::{AccountRef, Credential, Criticality, PlantState, Protocol},
    window::{Approval, Limits, Operation},
};

/// How the person proved the first factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A password.
    Password,
    /// A plain SSH key.
    Key,
    /// A key held by a security key (`sk-ssh-ed25519`).
    SkKey,
    /// An SSH user certificate of the configured CA.
    Certificate,
    /// A passkey that verified its user (WebAuthn).
    Passkey,
}

impl DeviceKind {
    /// As written in policies and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Key => "key",
            Self::SkKey => "sk_key",
            Self::Certificate => "certificate",
            Self::Passkey => "passkey",
        }
    }
}

/// The device as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Fingerprint of the key that signed (`SHA256:…`); none for a password.
    pub key_fingerprint: Option<String>,
    /// How the first factor was proved.
    pub kind: DeviceKind,
    /// The security key verified its user (PIN or fingerprint), not only a touch.
    pub user_verified: bool,
    /// What the client says it is; shown, never trusted.
    pub client_version: String,
}

/// What served as second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactorKind {
    /// A time-based code.
    Totp,
    /// A recovery code.
    Recovery,
    /// A security key that verified its user: counts as both factors.
    SkUserVerified,
    /// A passkey that verified its user: counts as both factors.
    Passkey,
    /// An earlier second factor that policy lets count for a while.
    Remembered,
}

impl SecondFactorKind {
    /// As written in policies and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Recovery => "recovery",
            Self::SkUserVerified => "sk_user_verified",
            Self::Passkey => "passkey",
            Self::Remembered => "remembered",
        }
    }
}

/// A proved second factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// What it was.
    pub kind: SecondFactorKind,
    /// When it was proved; for a remembered one, when it was proved originally.
    pub at: Timestamp,
    /// For a remembered one: the windows for which it counts. Unused otherwise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub windows: BTreeSet<WindowId>,
}

/// The factors that a person proved at this log-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factors {
    /// The first.
    pub first: DeviceKind,
    /// The second, if there was one.
    pub second: Option<SecondFactor>,
}

/// What is known about behaviour before the session starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The source address is new for this person.
    pub new_source: bool,
    /// The same person has a live session from another address.
    pub elsewhere: bool,
    /// Refused decisions for this person in the last hour.
    pub recent_refusals: u32,
}

/// Somebody wants to reach something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    /// The session that asks.
    pub session: SessionId,
    /// Who.
    pub user: Name,
    /// To which asset.
    pub asset: Name,
    /// As which account; none: the asset's default.
    pub login: Option<Login>,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where.
    pub source: SocketAddr,
    /// With which device.
    pub device: Device,
    /// With which factors.
    pub factors: Factors,
    /// What is known about behaviour.
    pub observed: Observed,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Allowed.
    Permit,
    /// Everything fits but that no open window covers it.
    NeedsWindow,
    /// Refused.
    Deny,
}

impl Outcome {
    /// As written in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::NeedsWindow => "needs_window",
            Self::Deny => "deny",
        }
    }
}

/// First answer: who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The name given.
    pub user: Name,
    /// The person's full name; empty when unknown.
    pub full_name: String,
    /// Their organisation.
    pub organisation: Option<Name>,
    /// The plant or a vendor.
    pub organisation_kind: Option<OrganisationKind>,
    /// Their duties.
    pub duties: BTreeSet<Duty>,
    /// Known and active.
    pub active: bool,
    /// The factors they proved.
    pub factors: Factors,
    /// The second factor counts for this decision.
    pub second_factor_fresh: bool,
}

/// Second answer: from which device, in what state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAnswer {
    /// The device.
    #[serde(flatten)]
    pub device: Device,
    /// The address it came from.
    pub source: IpAddr,
    /// The zone of that address.
    pub zone: Option<Name>,
}

/// Third answer: for which resource, with what least privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceAnswer {
    /// The asset asked for.
    pub asset: Name,
    /// The account, where one was found.
    pub account: Option<AccountRef>,
    /// By which protocol.
    pub protocol: Protocol,
    /// The asset's zone.
    pub zone: Option<Name>,
    /// How much harm it can do.
    pub criticality: Option<Criticality>,
    /// A crown jewel.
    pub crown_jewel: bool,
    /// How the secret would be presented.
    pub credential: Option<Credential>,
    /// The operations that the window allows.
    pub operations: BTreeSet<Operation>,
    /// The limits that go with it.
    pub limits: Limits,
}

/// Fourth answer: in which operational context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextAnswer {
    /// The plant's state in the asset's zone.
    pub plant_state: Option<PlantState>,
    /// The window that was looked at.
    pub window: Option<WindowId>,
    /// Digest of its request, lower-case hexadecimal.
    pub window_digest: Option<String>,
    /// Who approved it.
    pub approvals: Vec<Approval>,
    /// Its purpose.
    pub purpose: String,
    /// Its work order.
    pub work_order: String,
    /// Its effective end.
    pub window_end: Option<Timestamp>,
    /// The conduit that leads there.
    pub conduit: Option<Name>,
    /// The moment in the site's time zone.
    pub local_time: String,
}

/// Fifth answer: does the behaviour fit the expected work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehaviourAnswer {
    /// It fits, as far as can be known before the session.
    pub fits: bool,
    /// What is known.
    pub observed: Observed,
    /// The same in plain sentences.
    pub notes: Vec<String>,
}

/// One decision with its five answers: kept for good, shown by `session show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Its id.
    pub id: DecisionId,
    /// When it was made.
    pub at: Timestamp,
    /// For which session.
    pub session: SessionId,
    /// What was asked (`connect`, or a channel's action).
    pub action: String,
    /// What was decided.
    pub outcome: Outcome,
    /// Who asks.
    pub who: Who,
    /// From which device.
    pub device: DeviceAnswer,
    /// For which resource.
    pub resource: ResourceAnswer,
    /// In which context.
    pub context: ContextAnswer,
    /// Does the behaviour fit.
    pub behaviour: BehaviourAnswer,
    /// The policies that decided, by id.
    pub policies: Vec<String>,
    /// Digest of the policy set, lower-case hexadecimal.
    pub policy_set: String,
    /// The revision of the snapshot.
    pub revision: u64,
    /// Why, as plain sentences that say what to do next.
    pub reasons: Vec<String>,
}

impl DecisionRecord {
    /// SHA-256 of the record's JSON (fields in the order of their declaration), lower-case hexadecimal.
    pub fn digest(&self) -> String {
        // A record is plain data: its JSON cannot fail. An empty text would only make a digest that matches nothing.
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(digest(&SHA256, &json))
    }
}

impl fmt::Display for DecisionRecord {
    /// One line for people: the outcome and the reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome.as_str(), self.reasons.join("; "))
    }
}
