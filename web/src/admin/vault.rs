//! Secrets that the vault changes: whoever describes the site asks for a change, and the gateway makes it.

use cofferdam_access::{site::AccountRef, store::RotationStanding};
use cofferdam_vault::rotation::Reason;

use crate::{
    error::Failure,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// The action's fixed name.
pub(crate) const ACTION: &str = "secret rotate";

/// An account that the site wants rotated, from its name in a path.
pub(crate) async fn read(app: &App, account: &str) -> Result<RotationStanding, Failure> {
    let account = AccountRef::try_from(account.to_owned()).map_err(|_| Failure::NotFound)?;
    app.store.rotation(&account).await?.ok_or(Failure::NotFound)
}

/// What it is stepped up for.
pub(crate) fn purpose(account: &AccountRef) -> Purpose {
    Purpose::new(ACTION, &[&account.to_string()])
}

/// Asks for a change; it is made within seconds, and where it stands can be read. Answers the request's number.
pub(crate) async fn rotate(
    app: &App,
    viewer: &Viewer,
    account: &AccountRef,
    proof: Proof<'_>,
) -> Result<u64, Failure> {
    let proved = step_up::prove(app, viewer, &purpose(account), proof).await?;
    Ok(app.store.want_rotation(&proved.act, account, Reason::Demand).await?)
}
