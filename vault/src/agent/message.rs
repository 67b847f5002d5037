//! What the two processes say to each other. Everything is a closed enum: what is not in it is refused.

use serde::{Deserialize, Serialize};

use super::harden::Hardening;
use super::registry::Claim;
use super::wire::Passing;
use crate::checkout::{Because, HeldCheckOut, RotationDue};
use crate::keyring::GenerationInfo;
use crate::ledger::{HeldLease, Sharing};
use crate::root::VaultId;
use crate::unseal::{GateEvent, Happened, Phase, Progress};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// First, and only then.
    Hello {
        version: u16,
    },
    Status,
    PublicKeys,
    /// Bringing the root.
    Share {
        code: Passing,
        by: String,
    },
    Passphrase {
        passphrase: Passing,
        by: String,
    },
    Configured {
        by: String,
    },
    /// For the audit log.
    TakeEvents,
    Sign {
        message: Vec<u8>,
    },
    /// For sessions.
    Lease(Claim),
    Return {
        lease: u64,
    },
    HostCertificate {
        host_key: String,
        principals: Vec<String>,
        seconds: i64,
    },
    CheckCode {
        person: String,
        sealed: Vec<u8>,
        code: Passing,
        last_used: Option<u64>,
    },
    SealSecret {
        purpose: String,
        id: String,
        secret: Passing,
    },
    /// For rotation: the secret of an account that the site wants changed.
    OpenSecret {
        id: String,
        sealed: Vec<u8>,
    },
    /// For people who see a secret.
    CheckOut {
        checkout_id: String,
    },
    GiveBack {
        checkout_id: String,
    },
    Expire,
    /// For the day on which nothing runs.
    Envelope {
        id: String,
        account_id: String,
        version: u64,
        sealed: Vec<u8>,
    },
    /// For people who operate the vault.
    Seal {
        by: String,
    },
    Rekey {
        by: String,
    },
    Retire {
        generation: u32,
        by: String,
    },
    Refresh,
    Rewrap {
        purpose: String,
        id: String,
        sealed: Vec<u8>,
    },
    Held,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Welcome { version: u16 },
    Status(Box<Status>),
    PublicKeys(PublicKeys),
    Phase(PhaseForm),
    Events { events: Vec<EventForm>, lost: u64 },
    Signature(Vec<u8>),
    Leased { lease: u64, not_after: i64, material: MaterialForm },
    Due(Vec<DueForm>),
    Certificate(String),
    Step(Option<u64>),
    Sealed(Vec<u8>),
    Secret(Passing),
    Envelope(String),
    Generation(u32),
    Rewrapped(Option<Vec<u8>>),
    Held { leases: Vec<HeldForm>, check_outs: Vec<CheckOutForm> },
    Done,
    Refused { sealed: bool, text: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum MaterialForm {
    Password(Passing),
    PrivateKey(Passing),
    Certificate { key: Passing, certificate: String },
}

/// What the vault process says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where the gate is.
    pub phase: PhaseForm,
    /// The vault's name, 16 hexadecimal digits; none while it is sealed.
    pub vault_id: Option<String>,
    /// The public half of the newest generation; empty if the vault has not been open yet.
    pub recipient: String,
    /// The generations that are open, the oldest first: number, made at (UTC microseconds), public half.
    pub generations: Vec<(u32, i64, String)>,
    /// What protects the process's memory.
    pub hardening: Hardening,
    /// How many leases are out.
    pub leases: usize,
    /// How many check-outs are open.
    pub check_outs: usize,
    /// The id of the vault process.
    pub process_id: u32,
}

impl Status {
    /// Whether keys can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, PhaseForm::Open { .. })
    }

    pub(super) fn generations(list: &[GenerationInfo]) -> Vec<(u32, i64, String)> {
        list.iter().map(|g| (g.number, g.made_at, g.recipient.clone())).collect()
    }
}

/// The public halves of what the vault process signs with. None where it has no such key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeys {
    /// The key of the audit log and of recordings (Ed25519, 64 hexadecimal digits).
    pub signing: Option<String>,
    /// The authority for users, OpenSSH one-line form.
    pub user_authority: Option<String>,
    /// The authority for hosts.
    pub host_authority: Option<String>,
}

/// [`Phase`] on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseForm {
    /// As [`Phase::Sealed`].
    Sealed,
    /// As [`Phase::Waiting`].
    Waiting {
        /// Who gave which share.
        given: Vec<(u8, String)>,
        /// How many are needed.
        needed: u8,
        /// When the oldest is dropped.
        expires: i64,
    },
    /// As [`Phase::Open`].
    Open {
        /// Since when.
        since: i64,
        /// Who opened it.
        people: Vec<String>,
    },
}

impl From<Phase> for PhaseForm {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Sealed => Self::Sealed,
            Phase::Waiting(Progress { given, needed, expires }) => Self::Waiting { given, needed, expires },
            Phase::Open { since, people } => Self::Open { since, people },
        }
    }
}

impl From<PhaseForm> for Phase {
    fn from(form: PhaseForm) -> Self {
        match form {
            PhaseForm::Sealed => Self::Sealed,
            PhaseForm::Waiting { given, needed, expires } => {
                Self::Waiting(Progress { given, needed, expires })
            }
            PhaseForm::Open { since, people } => Self::Open { since, people },
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventForm {
    at: i64,
    by: String,
    what: HappenedForm,
}

#[derive(Debug, Serialize, Deserialize)]
enum HappenedForm {
    ShareGiven { number: u8, given: u8, needed: u8 },
    SharesDropped { why: String },
    Opened { people: Vec<String> },
    Refused { why: String },
    Sealed,
    Rekeyed { generation: u32 },
    Retired { generation: u32 },
    Rerooted { vault: [u8; VaultId::BYTES] },
}

impl From<GateEvent> for EventForm {
    fn from(event: GateEvent) -> Self {
        let what = match event.what {
            Happened::ShareGiven { number, given, needed } => {
                HappenedForm::ShareGiven { number, given, needed }
            }
            Happened::SharesDropped { why } => HappenedForm::SharesDropped { why },
            Happened::Opened { people } => HappenedForm::Opened { people },
            Happened::Refused { why } => HappenedForm::Refused { why },
            Happened::Sealed => HappenedForm::Sealed,
            Happened::Rekeyed { generation } => HappenedForm::Rekeyed { generation },
            Happened::Retired { generation } => HappenedForm::Retired { generation },
            Happened::Rerooted { vault } => HappenedForm::Rerooted { vault: *vault.as_bytes() },
        };
        Self { at: event.at, by: event.by, what }
    }
}

impl From<EventForm> for GateEvent {
    fn from(form: EventForm) -> Self {
        let what = match form.what {
            HappenedForm::ShareGiven { number, given, needed } => {
                Happened::ShareGiven { number, given, needed }
            }
            HappenedForm::SharesDropped { why } => Happened::SharesDropped { why },
            HappenedForm::Opened { people } => Happened::Opened { people },
            HappenedForm::Refused { why } => Happened::Refused { why },
            HappenedForm::Sealed => Happened::Sealed,
            HappenedForm::Rekeyed { generation } => Happened::Rekeyed { generation },
            HappenedForm::Retired { generation } => Happened::Retired { generation },
            HappenedForm::Rerooted { vault } => Happened::Rerooted { vault: VaultId::from_bytes(vault) },
        };
        Self { at: form.at, by: form.by, what }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DueForm {
    account_id: String,
    because: BecauseForm,
}

#[derive(Debug, Serialize, Deserialize)]
enum BecauseForm {
    SessionEnded(String),
    Returned(String),
    Expired(String),
    EnvelopeOpened(String),
}

impl From<RotationDue> for DueForm {
    fn from(due: RotationDue) -> Self {
        let because = match due.because {
            Because::SessionEnded(id) => BecauseForm::SessionEnded(id),
            Because::Returned(id) => BecauseForm::Returned(id),
            Because::Expired(id) => BecauseForm::Expired(id),
            Because::EnvelopeOpened(id) => BecauseForm::EnvelopeOpened(id),
        };
        Self { account_id: due.account_id, because }
    }
}

impl From<DueForm> for RotationDue {
    fn from(form: DueForm) -> Self {
        let because = match form.because {
            BecauseForm::SessionEnded(id) => Because::SessionEnded(id),
            BecauseForm::Returned(id) => Because::Returned(id),
            BecauseForm::Expired(id) => Because::Expired(id),
            BecauseForm::EnvelopeOpened(id) => Because::EnvelopeOpened(id),
        };
        Self { account_id: form.account_id, because }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeldForm {
    account_id: String,
    session_id: String,
    user_name: String,
    exclusive: bool,
    since: i64,
}

impl From<HeldLease> for HeldForm {
    fn from(held: HeldLease) -> Self {
        Self {
            account_id: held.account_id,
            session_id: held.session_id,
            user_name: held.user_name,
            exclusive: held.sharing == Sharing::Exclusive,
            since: held.since,
        }
    }
}

impl From<HeldForm> for HeldLease {
    fn from(form: HeldForm) -> Self {
        Self {
            account_id: form.account_id,
            session_id: form.session_id,
            user_name: form.user_name,
            sharing: sharing(form.exclusive),
            since: form.since,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckOutForm {
    checkout_id: String,
    account_id: String,
    user_name: String,
    since: i64,
    not_after: i64,
    exclusive: bool,
}

impl From<HeldCheckOut> for CheckOutForm {
    fn from(held: HeldCheckOut) -> Self {
        Self {
            checkout_id: held.checkout_id,
            account_id: held.account_id,
            user_name: held.user_name,
            since: held.since,
            not_after: held.not_after,
            exclusive: held.sharing == Sharing::Exclusive,
        }
    }
}

impl From<CheckOutForm> for HeldCheckOut {
    fn from(form: CheckOutForm) -> Self {
        Self {
            checkout_id: form.checkout_id,
            account_id: form.account_id,
            user_name: form.user_name,
            since: form.since,
            not_after: form.not_after,
            sharing: sharing(form.exclusive),
        }
    }
}

fn sharing(exclusive: bool) -> Sharing {
    if exclusive { Sharing::Exclusive } else { Sharing::Shared }
}
