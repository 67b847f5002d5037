//! What people do to windows, for pages and API alike: who may, what they prove, and the rules of
//! [`cofferdam_access::windowing`].

use std::collections::BTreeSet;

use cofferdam_access::{
    clock::Timestamp,
    ids::WindowId,
    people::Duty,
    store::StoredWindow,
    window::{ApprovalStep, Refusal, RequestDigest, RequestError, Times, Window, WindowRequest},
    windowing::{self, WindowError},
};
use serde::Deserialize;

use crate::{
    error::Failure,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// Those who see every window; others see their own.
pub(crate) const OVERSEERS: &[Duty] =
    &[Duty::Operations, Duty::Security, Duty::Administrator, Duty::Investigator];

impl From<Refusal> for Failure {
    fn from(e: Refusal) -> Self {
        let text = e.to_string();
        match e {
            Refusal::NotActive(_)
            | Refusal::NotAnApprovingDuty(_)
            | Refusal::DutyNotHeld { .. }
            | Refusal::DecidesNothing(_)
            | Refusal::OwnWindow(_)
            | Refusal::NotTheRequester(_)
            | Refusal::MayNotEnd(_) => Self::Forbidden(text),
            Refusal::AlreadyApproved(_)
            | Refusal::DutyAlreadyApproved(_)
            | Refusal::OtherText
            | Refusal::NotWaiting
            | Refusal::Ended
            | Refusal::NotApproved => Self::Conflict(text),
            Refusal::NotADigest | Refusal::NotEarlier { .. } | Refusal::Reason(_) => Self::Invalid(text),
        }
    }
}

impl From<WindowError> for Failure {
    fn from(e: WindowError) -> Self {
        match e {
            WindowError::Refused(e) => e.into(),
            WindowError::Request(e @ RequestError::NotExtendable) => Self::Conflict(e.to_string()),
            WindowError::Request(e) => Self::invalid(e),
            WindowError::Store(e) => e.into(),
        }
    }
}

/// The fields of a step-up, as forms send them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Step {
    /// A code; empty where a passkey is used.
    #[serde(default)]
    pub(crate) code: String,
    /// Which question the passkey answers.
    #[serde(default)]
    pub(crate) challenge: String,
    /// The passkey's answer.
    #[serde(default)]
    pub(crate) credential: String,
}

impl Step {
    /// With a code alone: what programs send.
    pub(crate) fn of_code(code: String) -> Self {
        Self { code, ..Self::default() }
    }

    fn proof(&self) -> Proof<'_> {
        Proof { code: &self.code, challenge: &self.challenge, credential: &self.credential }
    }
}

/// What somebody asks for, read and checked, but for who and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked(pub(crate) WindowRequest);

impl Asked {
    /// What a step-up for it is bound to: everything that it says, but for its id and the moment of asking, which are
    /// made when it is kept. Free text stands in quotes, so that none can pose as one of these lines.
    pub(crate) fn purpose(&self) -> Purpose {
        let text = self.0.canonical_text();
        let bound = text.lines().filter(|l| !l.starts_with("id: ") && !l.starts_with("requested-at: "));
        Purpose::new("window request", &bound.collect::<Vec<_>>())
    }
}

/// The states of windows as kept, by which listings can be narrowed.
pub(crate) const STATES: [&str; 5] = ["requested", "approved", "refused", "withdrawn", "revoked"];

/// The state of that name.
pub(crate) fn state(text: &str) -> Option<&'static str> {
    STATES.into_iter().find(|s| *s == text)
}

/// Whether the viewer may see the window.
pub(crate) fn sees(viewer: &Viewer, window: &Window) -> bool {
    owns(viewer, window) || viewer.holds_any(OVERSEERS)
}

/// Whether it is the viewer's own: they asked for it or may use it.
pub(crate) fn owns(viewer: &Viewer, window: &Window) -> bool {
    let name = &viewer.user.name;
    window.request.requested_by == *name || window.request.users.contains(name)
}

/// The window, if the viewer may see it.
pub(crate) async fn visible(app: &App, viewer: &Viewer, id: &str) -> Result<StoredWindow, Failure> {
    let id: WindowId = id.parse().map_err(|_| Failure::NotFound)?;
    let found = app.store.window(id).await?;
    if sees(viewer, &found.window) { Ok(found) } else { Err(Failure::NotFound) }
}

/// Asks for a window. The fresh factor is bound to everything that is asked for.
pub(crate) async fn request(
    app: &App,
    viewer: &Viewer,
    asked: &Asked,
    step: &Step,
) -> Result<Window, Failure> {
    let snapshot = app.snapshot();
    let now = app.now();
    let wanted =
        WindowRequest { id: WindowId::new(now, &mut rand::rng()), requested_at: now, ..asked.0.clone() };
    // A code is not spent on what the rules refuse anyway.
    windowing::check(&app.store, &snapshot.site, &wanted, now).await?;
    let proved = step_up::prove(app, viewer, &asked.purpose(), step.proof()).await?;
    Ok(windowing::request(&app.store, &proved.act, &snapshot.site, wanted).await?)
}

/// What a step-up for an extension is bound to.
pub(crate) fn extension_purpose(id: WindowId, end: Timestamp, purpose: &str) -> Purpose {
    Purpose::new("window extend", &[&id.to_string(), &end.micros().to_string(), &plain(purpose)])
}

/// What an extension would ask for: nothing is written.
pub(crate) async fn try_extension(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    end: Timestamp,
    purpose: &str,
) -> Result<WindowRequest, Failure> {
    if !owns(viewer, window) {
        return Err(Failure::Forbidden("only those who may use a window can ask for more time".into()));
    }
    let (snapshot, name, purpose) = (app.snapshot(), &viewer.user.name, plain(purpose));
    let (site, now) = (&snapshot.site, app.now());
    Ok(windowing::extension(&app.store, site, window.id(), name, end, &purpose, now).await?)
}

/// Asks for more time: a new request, with fresh approvals.
pub(crate) async fn extend(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    end: Timestamp,
    purpose: &str,
    step: &Step,
) -> Result<Window, Failure> {
    try_extension(app, viewer, window, end, purpose).await?;
    let bound = extension_purpose(window.id(), end, purpose);
    let proved = step_up::prove(app, viewer, &bound, step.proof()).await?;
    let wanted = try_extension(app, viewer, window, end, purpose).await?;
    Ok(windowing::request(&app.store, &proved.act, &app.snapshot().site, wanted).await?)
}

/// What a step-up for an approval is bound to: the digest that the approver was shown.
pub(crate) fn approval_purpose(digest: RequestDigest) -> Purpose {
    Purpose::of_digest("window approve", digest.to_string())
}

/// Approves exactly the text behind `digest`, as shown to the viewer, with a remark (empty for none).
pub(crate) async fn approve(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    duty: Option<Duty>,
    digest: &str,
    remark: &str,
    step: &Step,
) -> Result<(Window, ApprovalStep), Failure> {
    let digest: RequestDigest = digest.parse()?;
    let duty = duty.or_else(|| window.open_duty(&viewer.user));
    // Who holds only a duty that approved already hears that, not that they hold none.
    let duty = duty.or_else(|| viewer.approving_duties().first().copied());
    let duty = duty.ok_or_else(|| Refusal::DecidesNothing(viewer.user.name.clone()))?;
    let (user, id) = (&viewer.user, window.id());
    let _step = window.clone().approve_saying(user, duty, digest, remark, app.now())?;
    let proved = step_up::prove(app, viewer, &approval_purpose(digest), step.proof()).await?;
    Ok(windowing::approve(&app.store, &proved.act, user, id, duty, digest, remark).await?)
}

/// Refuses, with times that would suit instead if there are any. It only restricts, so that it needs no fresh factor.
pub(crate) async fn refuse(
    app: &App,
    viewer: &Viewer,
    id: WindowId,
    duty: Option<Duty>,
    reason: &str,
    suggested: Option<Times>,
) -> Result<Window, Failure> {
    let act = viewer.act(app.now());
    Ok(windowing::refuse(&app.store, &act, &viewer.user, id, duty, reason, suggested).await?)
}

/// Takes the viewer's own request back.
pub(crate) async fn withdraw(app: &App, viewer: &Viewer, id: WindowId) -> Result<Window, Failure> {
    Ok(windowing::withdraw(&app.store, &viewer.act(app.now()), &viewer.user, id).await?)
}

/// What a step-up for revoking is bound to.
pub(crate) fn revocation_purpose(id: WindowId) -> Purpose {
    Purpose::new("window revoke", &[&id.to_string()])
}

/// Ends the window for good; its sessions are cut.
pub(crate) async fn revoke(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    reason: &str,
    step: &Step,
) -> Result<Window, Failure> {
    window.clone().revoke(&viewer.user, reason, app.now())?;
    let proved = step_up::prove(app, viewer, &revocation_purpose(window.id()), step.proof()).await?;
    Ok(windowing::revoke(&app.store, &proved.act, &viewer.user, window.id(), reason).await?)
}

/// What a step-up for an earlier end is bound to: the window and exactly that end.
pub(crate) fn shortening_purpose(id: WindowId, end: Timestamp) -> Purpose {
    Purpose::new("window shorten", &[&id.to_string(), &end.micros().to_string()])
}

/// Whether the viewer could bring the end forward to `end` now: nothing is written.
pub(crate) fn try_shortening(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    end: Timestamp,
) -> Result<(), Failure> {
    Ok(window.clone().shorten(&viewer.user, end, app.now())?)
}

/// Brings the end forward to exactly `end`.
pub(crate) async fn shorten(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    end: Timestamp,
    step: &Step,
) -> Result<Window, Failure> {
    try_shortening(app, viewer, window, end)?;
    let proved = step_up::prove(app, viewer, &shortening_purpose(window.id(), end), step.proof()).await?;
    Ok(windowing::shorten(&app.store, &proved.act, &viewer.user, window.id(), end).await?)
}

/// A text of several lines as a form sends it, with the line ends that are kept.
pub(crate) fn plain(text: &str) -> String {
    text.trim().replace("\r\n", "\n")
}

/// An approving duty by its name; none for no name.
pub(crate) fn approving_duty(text: &str) -> Result<Option<Duty>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let known = Duty::ALL.into_iter().find(|d| d.approves() && d.as_str() == text);
    known.map(Some).ok_or_else(|| Failure::Invalid("decide as operations or as security".into()))
}

/// Everything of `all` whose name is among `given`; fails for a name that is none.
pub(crate) fn among<T: Copy + Ord>(
    all: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> &'static str,
    given: &[String],
) -> Option<BTreeSet<T>> {
    let all: Vec<T> = all.into_iter().collect();
    given.iter().map(|g| all.iter().copied().find(|t| name(*t) == g)).collect()
}

#[cfg(test)]
mod tests {
    use cofferdam_access::{
        ids::Name,
        window::{Limits, Operation},
    };

    use super::*;

    #[test]
    fn a_step_up_for_a_request_is_bound_to_all_that_it_asks_for() {
        let at = Timestamp::from_seconds(1_795_600_000);
        let request = |purpose: &str, end: i64| {
            let request = WindowRequest {
                id: WindowId::new(at, &mut rand::rng()),
                requested_by: Name::new("vera").unwrap(),
                requested_at: at,
                users: BTreeSet::from([Name::new("vera").unwrap()]),
                accounts: BTreeSet::new(),
                forwards: BTreeSet::new(),
                operations: BTreeSet::from([Operation::View]),
                purpose: purpose.into(),
                work_order: String::new(),
                start: at,
                end: at.plus_seconds(end),
                plant_states: BTreeSet::new(),
                limits: Limits::default(),
                extends: None,
            };
            Asked(request).purpose()
        };
        assert_eq!(request("service", 60), request("service", 60), "the id does not matter");
        assert_ne!(request("service", 60), request("service", 61));
        assert_ne!(request("service", 60), request("servicing", 60));
    }
}
