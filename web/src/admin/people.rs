//! How people get in: invitations, and taking away what they prove with.

use cofferdam_access::{
    clock::Timestamp,
    ids::Name,
    people::User,
    store::{invitation_digest, new_invitation},
};
use zeroize::Zeroizing;

use crate::{
    error::Failure,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// Longest life of an invitation, hours.
pub(crate) const LONGEST_HOURS: i64 = 14 * 24;
/// The fixed name of inviting.
pub(crate) const INVITE: &str = "person invite";
/// The fixed name of taking away what a person proves with.
pub(crate) const REMOVE: &str = "credentials remove";

/// What an invitation is stepped up for.
pub(crate) fn invite_purpose(person: &Name) -> Purpose {
    Purpose::new(INVITE, &[person.as_str()])
}

/// What removing somebody's credentials is stepped up for.
pub(crate) fn remove_purpose(person: &Name) -> Purpose {
    Purpose::new(REMOVE, &[person.as_str()])
}

/// The person of that name, as the site describes them now.
pub(crate) fn known(app: &App, name: &str) -> Result<User, Failure> {
    let name = Name::new(name).map_err(|_| Failure::NotFound)?;
    app.snapshot().site.user(&name).cloned().ok_or(Failure::NotFound)
}

/// An invitation, shown once.
#[derive(Debug)]
pub(crate) struct Invited {
    /// The link; single-use.
    pub(crate) link: Zeroizing<String>,
    /// First moment at which it no longer works.
    pub(crate) until: Timestamp,
}

/// Invites somebody who cannot get in. Who can is not invited anew: whoever held the link would become them, with all their
/// duties, and they might not notice. Their credentials are removed first, which they do notice.
pub(crate) async fn invite(
    app: &App,
    viewer: &Viewer,
    person: &User,
    hours: i64,
    proof: Proof<'_>,
) -> Result<Invited, Failure> {
    if !(1..=LONGEST_HOURS).contains(&hours) {
        let why = format!("an invitation works 1 to {LONGEST_HOURS} hours: choose one of these");
        return Err(Failure::Invalid(why));
    }
    if !person.is_active(app.now()) {
        return Err(Failure::Conflict("the person is not active: enable them first".into()));
    }
    let kept = app.store.credentials(&person.name).await?;
    if kept.is_some_and(|k| k.password_hash.is_some() || k.totp_sealed.is_some() || k.passkeys > 0) {
        let why = "the person can log in already: remove their credentials first, so that they notice";
        return Err(Failure::Conflict(why.into()));
    }
    let proved = step_up::prove(app, viewer, &invite_purpose(&person.name), proof).await?;
    let until = proved.act.at.plus_seconds(hours * 3600);
    let code = new_invitation(&mut rand::rng());
    app.store.invite(&proved.act, &person.name, &invitation_digest(&code), until).await?;
    let mut address = app.public_url.clone();
    address.set_path("/enrol/");
    Ok(Invited { link: Zeroizing::new(format!("{address}{}", code.as_str())), until })
}

/// Removes everything by which the person can log in; their log-ins and sessions end.
pub(crate) async fn remove_credentials(
    app: &App,
    viewer: &Viewer,
    person: &User,
    proof: Proof<'_>,
) -> Result<(), Failure> {
    if person.name == viewer.user.name {
        let why =
            "these are your own: remove single devices on your account page, or ask another administrator";
        return Err(Failure::Conflict(why.into()));
    }
    let proved = step_up::prove(app, viewer, &remove_purpose(&person.name), proof).await?;
    app.store.remove_credentials(&proved.act, &person.name).await?;
    Ok(())
}
