//! What follows when somebody has seen a secret, in the transaction that says so: the vault is asked to change it, or a
//! finding says that people have to.

use cofferdam_vault::rotation::Reason;

use super::{
    change::Change,
    error::StoreError,
    findings::{self, FindingRecord},
    rotation, site,
};
use crate::{
    audit::{Act, AuditEvent},
    checkout::Followed,
    ids::FindingId,
    site::{Account, AccountRef, Asset},
};

/// Somebody saw the secret of an account that nothing changes by itself.
const SEEN: &str = "secret_seen";

/// Asks for the secret to be changed. `what` says who saw it and how, as the beginning of a sentence.
pub(super) async fn follow(
    change: &mut Change<'_>,
    act: &Act,
    account: &AccountRef,
    reason: Reason,
    what: &str,
) -> Result<(Followed, AuditEvent), StoreError> {
    if let Some((number, event)) = wanted(change, account, reason).await? {
        return Ok((Followed::Rotation(number), event));
    }
    let text = format!("{what}: {}", by_hand(account));
    let event = finding(change, act, SEEN, "medium", text).await?;
    Ok((Followed::ByHand, event))
}

/// What people have to do where the vault does nothing by itself.
pub(super) fn by_hand(account: &AccountRef) -> String {
    format!(
        "the vault does not change this secret by itself; change it on the target by hand, then run `cofferdam account \
         set-secret {account}`"
    )
}

/// Asks for a rotation, where the site wants the account rotated.
pub(super) async fn wanted(
    change: &mut Change<'_>,
    account: &AccountRef,
    reason: Reason,
) -> Result<Option<(u64, AuditEvent)>, StoreError> {
    let described: Option<Account> = site::item(change, "account", account).await?;
    let asset: Option<Asset> = site::item(change, "asset", &account.asset).await?;
    let reachable = asset.is_some_and(|a| !a.disabled);
    if !reachable || described.is_none_or(|a| a.disabled || a.rotation.is_none()) {
        return Ok(None);
    }
    rotation::want(change, account, reason, true).await
}

/// A finding that is in no session, with its messages; answers its event.
pub(super) async fn finding(
    change: &mut Change<'_>,
    act: &Act,
    trigger: &str,
    severity: &str,
    text: String,
) -> Result<AuditEvent, StoreError> {
    let record = FindingRecord {
        id: FindingId::new(act.at, &mut rand::rng()),
        session: None,
        at: act.at,
        trigger: trigger.to_owned(),
        severity: severity.to_owned(),
        text,
        response: "notify".to_owned(),
    };
    findings::put_finding(change, act, &record).await
}
