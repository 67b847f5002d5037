//! What people do about check-outs, from policy and store and back. Every way in (web, API, command line) comes through here,
//! so that none is held to less.
//!
//! Who acts was proved by the caller; the [`Act`] says who it was and when.

use std::net::IpAddr;

use crate::{
    audit::{Act, AuditEvent, AuditKind},
    checkout::{Checkout, CheckoutRefusal, CheckoutRequest, OTHERS},
    clock::Timestamp,
    decision::{DeviceKind, Factors, SecondFactor, SecondFactorKind},
    ids::CheckoutId,
    people::User,
    policy::{ViewDecision, ViewPermit, ViewQuestion, decide_view},
    snapshot::Snapshot,
    store::{ShownSecret, Store, StoreError},
};

/// Why nothing was done about a check-out.
#[derive(Debug, thiserror::Error)]
pub enum CheckingOutError {
    /// Policy does not let this person see the secret.
    #[error("{}", .0.join("; "))]
    Denied(Vec<String>),
    /// The rules do not allow it to this person, or not now.
    #[error(transparent)]
    Refused(#[from] CheckoutRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How somebody comes who wants to see a secret.
#[derive(Debug, Clone)]
pub struct Coming {
    /// From which address; none: the gateway's own command line.
    pub source: Option<IpAddr>,
    /// How they proved the first factor.
    pub first: DeviceKind,
}

impl Coming {
    fn factors(&self, second: SecondFactor) -> Factors {
        Factors { first: self.first, second: Some(second) }
    }
}

/// Checks everything about a request that can be checked before anybody is asked for a code. Answers whether others have
/// to agree first.
///
/// # Errors
/// When the request is not well made, or policy would refuse the person whoever agreed.
pub fn check(
    snapshot: &Snapshot,
    coming: &Coming,
    person: &User,
    request: &CheckoutRequest,
    now: Timestamp,
) -> Result<bool, CheckingOutError> {
    request.validate(person, now)?;
    supposed(snapshot, coming, request, OTHERS, now)?;
    Ok(needs_others(snapshot, coming, request, now))
}

/// Whether policy lets the person see it only after others have agreed.
pub fn needs_others(snapshot: &Snapshot, coming: &Coming, request: &CheckoutRequest, now: Timestamp) -> bool {
    supposed(snapshot, coming, request, 0, now).is_err()
}

/// What policy would say with a second factor, which is asked for when the secret is shown.
fn supposed(
    snapshot: &Snapshot,
    coming: &Coming,
    request: &CheckoutRequest,
    agreed: usize,
    now: Timestamp,
) -> Result<ViewPermit, CheckingOutError> {
    let second = SecondFactor { kind: SecondFactorKind::Totp, at: now, windows: Default::default() };
    permit(snapshot, coming, request, &coming.factors(second), agreed, now)
}

/// Keeps a request, made at the moment of `act` by the person who acts. A refusal by policy is audited.
///
/// # Errors
/// As [`check`].
pub async fn ask(
    store: &Store,
    snapshot: &Snapshot,
    act: &Act,
    coming: &Coming,
    person: &User,
    request: &CheckoutRequest,
) -> Result<Checkout, CheckingOutError> {
    match check(snapshot, coming, person, request, act.at) {
        Ok(waits) => Ok(store.request_checkout(act, request, waits).await?),
        Err(error) => Err(denied(store, act, request, error).await),
    }
}

/// Opens a check-out for the person who asked, acts, and has just given `second`: the store says that it is shown, and
/// answers what the vault needs to show it.
///
/// # Errors
/// When policy refuses, not enough people agreed, the request no longer waits, or somebody has the account.
pub async fn open(
    store: &Store,
    snapshot: &Snapshot,
    act: &Act,
    coming: &Coming,
    second: SecondFactor,
    id: CheckoutId,
) -> Result<ShownSecret, CheckingOutError> {
    let checkout = store.checkout(id).await?;
    checkout.waits(act.at)?;
    let site = &snapshot.site;
    let agreed = checkout
        .agreed(|who, duty| site.user(who).is_some_and(|u| u.is_active(act.at) && u.duties.contains(&duty)));
    let factors = coming.factors(second);
    match permit(snapshot, coming, &checkout.request, &factors, agreed, act.at) {
        Ok(permit) => Ok(store.open_checkout(act, id, permit).await?),
        Err(error) => Err(denied(store, act, &checkout.request, error).await),
    }
}

fn permit(
    snapshot: &Snapshot,
    coming: &Coming,
    request: &CheckoutRequest,
    factors: &Factors,
    agreed: usize,
    now: Timestamp,
) -> Result<ViewPermit, CheckingOutError> {
    let question = ViewQuestion {
        person: &request.person,
        account: &request.account,
        source: coming.source,
        factors,
        agreed,
        seconds: request.seconds,
    };
    match decide_view(snapshot, &question, now) {
        ViewDecision::Permit(permit) => Ok(permit),
        ViewDecision::Deny { reasons, .. } => Err(CheckingOutError::Denied(reasons)),
    }
}

/// What policy refused stands in the audit log.
async fn denied(
    store: &Store,
    act: &Act,
    request: &CheckoutRequest,
    error: CheckingOutError,
) -> CheckingOutError {
    let CheckingOutError::Denied(reasons) = &error else { return error };
    let event = AuditEvent::new(AuditKind::CheckoutDenied, &request.account)
        .with("person", request.person.as_str())
        .with("reasons", reasons.clone());
    match store.record(act, event).await {
        Ok(_) => error,
        Err(e) => e.into(),
    }
}
