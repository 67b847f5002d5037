//! Seeing secrets, once for pages and API: asked for, agreed to, shown once, returned. The rules are those of
//! [`cofferdam_access::checking_out`]; what shows a secret is the program's ([`Secrets`]).

use std::fmt;

use async_trait::async_trait;
use cofferdam_access::{
    audit::Act,
    checking_out::{self, CheckingOutError, Coming},
    checkout::{Checkout, CheckoutRefusal, CheckoutRequest, CheckoutStanding},
    decision::DeviceKind,
    ids::{CheckoutId, Name},
    local_time::parse_duration,
    people::Duty,
    site::AccountRef,
    store::{CheckoutFilter, ShownSecret},
    window::RequestDigest,
};
use cofferdam_vault::{SecretBytes, SecretString};

use crate::{
    error::Failure,
    routes::Rule,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::{Credential, Viewer},
};

/// The plant's own people. Vendors see no secret, and none of what is asked about any.
pub(crate) const INSIDE: Rule =
    Rule::AnyOf(&[Duty::Engineer, Duty::Operations, Duty::Security, Duty::Administrator, Duty::Investigator]);
/// Those of them who see all check-outs, not only their own.
const OVERSEERS: [Duty; 4] = [Duty::Operations, Duty::Security, Duty::Administrator, Duty::Investigator];
/// The fixed name of agreeing.
pub(crate) const AGREE: &str = "vault agree";
/// The fixed name of seeing.
pub(crate) const SEE: &str = "vault checkout";
/// Most check-outs in one listing.
const MOST: u32 = 200;

/// Shows secrets.
#[async_trait]
pub trait Secrets: Send + Sync + fmt::Debug {
    /// The secret of a check-out that the store has opened in `act`. One that cannot be shown is over.
    ///
    /// # Errors
    /// Why not, for people.
    async fn show(&self, act: &Act, shown: &ShownSecret) -> Result<SecretBytes, String>;

    /// Where the vault is.
    async fn gate(&self) -> Gate;

    /// Gives the vault what `by` has typed: a share of its root, or its passphrase.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    async fn unseal(&self, by: &Name, typed: SecretString) -> Result<Gate, String>;
}

/// Where the vault is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// Whether it opens anything.
    pub open: bool,
    /// The same for people: by whom it was opened, how many shares are there.
    pub text: String,
    /// The generations of its keys that are in use, the oldest first.
    pub generations: Vec<u32>,
    /// What is typed here to open it, where the configuration allows that: `share` or `passphrase`.
    pub takes: Option<&'static str>,
}

impl From<CheckingOutError> for Failure {
    fn from(e: CheckingOutError) -> Self {
        match e {
            CheckingOutError::Denied(_) => Self::Forbidden(e.to_string()),
            CheckingOutError::Refused(e) => e.into(),
            CheckingOutError::Store(e) => e.into(),
        }
    }
}

impl From<CheckoutRefusal> for Failure {
    fn from(e: CheckoutRefusal) -> Self {
        use CheckoutRefusal as R;
        let text = e.to_string();
        match e {
            R::Seconds | R::Text(_) | R::Times | R::OtherText => Self::Invalid(text),
            R::NotWaiting | R::Lapsed | R::AgreedAlready(_) | R::DutyAgreedAlready(_) => Self::Conflict(text),
            R::NotActive(_)
            | R::NotAnAgreeingDuty(_)
            | R::DutyNotHeld { .. }
            | R::OwnRequest(_)
            | R::MayNotRefuse(_) => Self::Forbidden(text),
        }
    }
}

/// How the viewer comes.
pub(crate) fn coming(viewer: &Viewer) -> Coming {
    let first = match &viewer.credential {
        Credential::Session { factors, .. } => factors.first,
        Credential::Token { .. } => DeviceKind::Password,
    };
    Coming { source: Some(viewer.address()), first }
}

/// Whether the viewer asked for it.
pub(crate) fn owns(viewer: &Viewer, checkout: &Checkout) -> bool {
    checkout.request.person == viewer.user.name
}

/// Those that the viewer may see, the newest first.
pub(crate) async fn list(app: &App, viewer: &Viewer) -> Result<Vec<Checkout>, Failure> {
    let own = (!viewer.holds_any(&OVERSEERS)).then(|| viewer.user.name.clone());
    Ok(app.store.checkouts(&CheckoutFilter { state: None, person: own, limit: MOST }).await?)
}

/// One that the viewer may see.
pub(crate) async fn visible(app: &App, viewer: &Viewer, id: &str) -> Result<Checkout, Failure> {
    let id = id.parse::<CheckoutId>().map_err(|_| Failure::NotFound)?;
    let checkout = app.store.checkout(id).await?;
    let may = owns(viewer, &checkout) || viewer.holds_any(&OVERSEERS);
    if may { Ok(checkout) } else { Err(Failure::NotFound) }
}

/// The accounts whose secret policy lets the viewer ask for, now.
pub(crate) fn choices(app: &App, viewer: &Viewer) -> Vec<AccountRef> {
    let (snapshot, now) = (app.snapshot(), app.now());
    let coming = coming(viewer);
    let may = |account: &AccountRef| {
        let request =
            CheckoutRequest::new(account, &viewer.user.name, 3600, "a question", now, &mut rand::rng());
        checking_out::check(&snapshot, &coming, &viewer.user, &request, now).is_ok()
    };
    let accounts = snapshot.site.accounts.iter().filter(|a| a.checkout).map(|a| a.reference());
    accounts.filter(may).collect()
}

/// Asks, for the viewer.
pub(crate) async fn ask(
    app: &App,
    viewer: &Viewer,
    account: &str,
    reason: &str,
    duration: &str,
) -> Result<Checkout, Failure> {
    let account = AccountRef::try_from(account.trim().to_owned())
        .map_err(|_| Failure::Invalid("name an account as login@asset".into()))?;
    let seconds = parse_duration(duration).map_err(Failure::invalid)?;
    let now = app.now();
    let request = CheckoutRequest::new(&account, &viewer.user.name, seconds, reason, now, &mut rand::rng());
    let (snapshot, act) = (app.snapshot(), viewer.act(now));
    Ok(checking_out::ask(&app.store, &snapshot, &act, &coming(viewer), &viewer.user, &request).await?)
}

/// The viewer agrees to exactly the text behind `digest`.
pub(crate) async fn agree(
    app: &App,
    viewer: &Viewer,
    checkout: &Checkout,
    duty: Option<Duty>,
    digest: &str,
    remark: &str,
    proof: Proof<'_>,
) -> Result<Checkout, Failure> {
    let digest: RequestDigest = digest.parse().map_err(Failure::invalid)?;
    let held = || viewer.approving_duties().first().copied();
    let duty = duty.or_else(|| checkout.open_duty(&viewer.user)).or_else(held).ok_or_else(|| {
        Failure::Forbidden("you hold no duty that agrees to check-outs: operations and security do".into())
    })?;
    // Tried on a copy first: a code is not spent on what the rules refuse anyway.
    checkout.clone().agree(&viewer.user, duty, digest, remark, app.now())?;
    let purpose = Purpose::of_digest(AGREE, digest.to_string());
    let act = step_up::prove(app, viewer, &purpose, proof).await?.act;
    Ok(app.store.agree_to_checkout(&act, checkout.id(), duty, digest, remark).await?)
}

/// The viewer says no, or takes their own request back.
pub(crate) async fn refuse(
    app: &App,
    viewer: &Viewer,
    checkout: &Checkout,
    reason: &str,
) -> Result<Checkout, Failure> {
    let act = viewer.act(app.now());
    Ok(app.store.refuse_checkout(&act, checkout.id(), &viewer.user.name, reason).await?)
}

/// Opens the viewer's own check-out, and answers its secret: once.
pub(crate) async fn see(
    app: &App,
    viewer: &Viewer,
    checkout: &Checkout,
    proof: Proof<'_>,
) -> Result<(Checkout, SecretString), Failure> {
    if !owns(viewer, checkout) {
        return Err(Failure::Forbidden("only whoever asked sees the secret: ask for it yourself".into()));
    }
    // A code is not spent on what is over anyway.
    checkout.waits(app.now())?;
    let purpose = Purpose::of_digest(SEE, checkout.request.digest().to_string());
    let proved = step_up::prove(app, viewer, &purpose, proof).await?;
    let (snapshot, coming) = (app.snapshot(), coming(viewer));
    let opening =
        checking_out::open(&app.store, &snapshot, &proved.act, &coming, proved.second, checkout.id());
    let shown = opening.await?;
    let secret = app.secrets.show(&proved.act, &shown).await.map_err(Failure::Unavailable)?;
    let text = secret.to_text().map_err(|_| {
        Failure::Unavailable("the secret is no text: return it, and see it on the command line".into())
    })?;
    Ok((shown.checkout, text))
}

/// Whether the viewer may return it: whoever has it, and those who oversee.
pub(crate) fn may_return(viewer: &Viewer, checkout: &Checkout) -> bool {
    let entitled = viewer.holds_any(&[Duty::Operations, Duty::Security, Duty::Administrator]);
    checkout.standing == CheckoutStanding::Open && (owns(viewer, checkout) || entitled)
}

/// Returns it.
pub(crate) async fn give_back(app: &App, viewer: &Viewer, checkout: &Checkout) -> Result<Checkout, Failure> {
    if !may_return(viewer, checkout) {
        return Err(Failure::Conflict("it is not open, or not yours to return".into()));
    }
    Ok(app.store.return_checkout(&viewer.act(app.now()), checkout.id()).await?)
}
