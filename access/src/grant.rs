//! The proof that policy allowed one dial.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    clock::Timestamp,
    decision::{AccessRequest, Device, Factors, Observed},
    ids::{DecisionId, Name, SessionId, WindowId},
    policy::Allowed,
    site::{AccountRef, Credential, Desktop, Protocol},
    window::{Limits, Operation, WindowRequest},
};

/// Where to connect: as the site describes it, never as a person typed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dial {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Policy allowed this session to dial this one endpoint with this one account. Only [`crate::policy::decide`] makes
/// one; it cannot be copied, stored or built by hand, so that code without a decision has nothing to dial with.
///
/// ```compile_fail
/// fn forge() -> cofferdam_access::grant::Grant {
///     cofferdam_access::grant::Grant { decision: todo!() }
/// }
/// ```
/// ```compile_fail
/// fn copy(g: &cofferdam_access::grant::Grant) -> cofferdam_access::grant::Grant { g.clone() }
/// ```
#[derive(Debug)]
pub struct Grant {
    pub(crate) parts: GrantParts,
}

/// What a grant holds. Built by the policy engine; without an [`Allowed`] it is only data.
#[derive(Debug)]
pub(crate) struct GrantParts {
    pub(crate) session: SessionId,
    pub(crate) decision: DecisionId,
    pub(crate) decided_at: Timestamp,
    pub(crate) user: Name,
    pub(crate) account: AccountRef,
    pub(crate) protocol: Protocol,
    pub(crate) dial: Dial,
    pub(crate) host_keys: Vec<String>,
    pub(crate) dangerous_ssh_algorithms: Vec<String>,
    pub(crate) desktop: Option<Desktop>,
    pub(crate) credential: Credential,
    pub(crate) exclusive: bool,
    pub(crate) window: WindowRequest,
    pub(crate) not_after: Timestamp,
    pub(crate) keep_full_bytes: u64,
    pub(crate) idle_seconds: u32,
    pub(crate) source: SocketAddr,
    pub(crate) device: Device,
    pub(crate) factors: Factors,
    pub(crate) observed: Observed,
}

impl Grant {
    /// Turns data into a grant: costs the proof that Cedar said yes to it.
    pub(crate) fn new(_proof: Allowed, parts: GrantParts) -> Self {
        Self { parts }
    }
    /// The session it is for.
    pub fn session(&self) -> SessionId {
        self.parts.session
    }
    /// The decision it came from.
    pub fn decision(&self) -> DecisionId {
        self.parts.decision
    }
    /// When that was decided.
    pub fn decided_at(&self) -> Timestamp {
        self.parts.decided_at
    }
    /// Who it is for.
    pub fn user(&self) -> &Name {
        &self.parts.user
    }
    /// The account to use.
    pub fn account(&self) -> &AccountRef {
        &self.parts.account
    }
    /// What the endpoint speaks.
    pub fn protocol(&self) -> Protocol {
        self.parts.protocol
    }
    /// Where to connect.
    pub fn dial(&self) -> &Dial {
        &self.parts.dial
    }
    /// Pinned SSH host keys, OpenSSH one-line form. Empty: an SSH connection must be refused.
    pub fn host_keys(&self) -> &[String] {
        &self.parts.host_keys
    }
    /// Weak SSH algorithms that this device needs.
    pub fn dangerous_ssh_algorithms(&self) -> &[String] {
        &self.parts.dangerous_ssh_algorithms
    }
    /// How the asset's desktop is reached, and what may pass besides the screen. Without a pinned key in it an RDP
    /// connection must be refused.
    pub fn desktop(&self) -> Option<&Desktop> {
        self.parts.desktop.as_ref()
    }
    /// How the account's secret is presented.
    pub fn credential(&self) -> Credential {
        self.parts.credential
    }
    /// Whether the account takes one session at a time.
    pub fn exclusive(&self) -> bool {
        self.parts.exclusive
    }
    /// The window that allows it.
    pub fn window(&self) -> WindowId {
        self.parts.window.id
    }
    /// The purpose that was approved.
    pub fn purpose(&self) -> &str {
        &self.parts.window.purpose
    }
    /// The work order that was approved; may be empty.
    pub fn work_order(&self) -> &str {
        &self.parts.window.work_order
    }
    /// The moment at which the session has to end, as decided. [`Grant::recheck`] tells a later or an earlier one.
    pub fn not_after(&self) -> Timestamp {
        self.parts.not_after
    }
    /// What may be done.
    pub fn operations(&self) -> &BTreeSet<Operation> {
        &self.parts.window.operations
    }
    /// The limits that go with the window.
    pub fn limits(&self) -> &Limits {
        &self.parts.window.limits
    }
    /// How much of a channel without a terminal is kept in full, bytes.
    pub fn keep_full_bytes(&self) -> u64 {
        self.parts.keep_full_bytes
    }
    /// Idle time without human input after which the session ends, seconds.
    pub fn idle_seconds(&self) -> u32 {
        self.parts.idle_seconds
    }
    /// The address that the person came from.
    pub fn source(&self) -> IpAddr {
        self.parts.source.ip()
    }

    /// The request that this grant answered, for asking again.
    pub(crate) fn as_request(&self) -> AccessRequest {
        let p = &self.parts;
        AccessRequest {
            session: p.session,
            user: p.user.clone(),
            asset: p.account.asset.clone(),
            login: Some(p.account.login.clone()),
            protocol: p.protocol,
            source: p.source,
            device: p.device.clone(),
            factors: p.factors.clone(),
            observed: p.observed.clone(),
        }
    }
}
