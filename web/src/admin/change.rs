//! Every change of the described site: what it would change is shown, and only what was shown is done, by somebody who
//! proves to be there.

use cofferdam_access::apply::{Edit, Proposal};

use crate::{
    error::Failure,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// The action's fixed name.
pub(crate) const ACTION: &str = "site apply";

/// What `edit` would change now.
pub(crate) async fn propose(app: &App, edit: Edit) -> Result<Proposal, Failure> {
    let current = app.store.site().await?;
    edit.proposed(&current).map_err(Failure::invalid)
}

/// Does what `edit` says, if that is still what `digest` stands for. Nobody raises themselves: neither their duties nor
/// whether they may act.
pub(crate) async fn carry_out(
    app: &App,
    viewer: &Viewer,
    edit: Edit,
    digest: &str,
    proof: Proof<'_>,
) -> Result<Proposal, Failure> {
    let proposal = propose(app, edit).await?;
    if let Some(why) = proposal.refusal_for(&viewer.user.name) {
        return Err(Failure::Forbidden(why));
    }
    if proposal.digest() != digest {
        let why = "the site changed since this was shown, so nothing was done: look at the change again";
        return Err(Failure::Conflict(why.into()));
    }
    if proposal.plan().is_empty() {
        return Ok(proposal);
    }
    let purpose = Purpose::of_digest(ACTION, digest.to_owned());
    let proved = step_up::prove(app, viewer, &purpose, proof).await?;
    proposal.apply(&app.store, &proved.act).await?;
    Ok(proposal)
}
