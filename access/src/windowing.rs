//! What people do to access windows, from the store and back: load, ask the rules of [`crate::window`], write with the
//! audit event. Every way in (web, command line, the menu over SSH) comes through here, so that none is held to less.
//!
//! Who acts was proved by the caller; the [`Act`] says who it was and when.

use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{Name, WindowId},
    people::{Duty, User},
    site::Site,
    store::{Store, StoreError, StoredWindow},
    window::{ApprovalStep, Refusal, RequestDigest, RequestError, Times, Window, WindowRequest},
};

/// Why nothing was done to a window.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The rules do not allow it to this person, or not now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is asked for cannot be asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks everything about a request that can be checked before anybody is asked for a code.
///
/// # Errors
/// As [`WindowRequest::validate`]; for an extension also as [`Window::validate_extension`].
pub async fn check(
    store: &Store,
    site: &Site,
    request: &WindowRequest,
    now: Timestamp,
) -> Result<(), WindowError> {
    request.validate(site, now)?;
    if let Some(id) = request.extends {
        store.window(id).await?.window.validate_extension(request, now)?;
    }
    Ok(())
}

/// Keeps a request, made at the moment of `act`.
///
/// # Errors
/// As [`check`].
pub async fn request(
    store: &Store,
    act: &Act,
    site: &Site,
    mut request: WindowRequest,
) -> Result<Window, WindowError> {
    request.requested_at = act.at;
    check(store, site, &request, act.at).await?;
    Ok(store.insert_window(act, &Window::requested(request)).await?.window)
}

/// The request for more time for `id` that [`request`] then keeps: the same work until `end`, to be approved afresh.
///
/// # Errors
/// As [`Window::extension`] and [`check`].
pub async fn extension(
    store: &Store,
    site: &Site,
    id: WindowId,
    person: &Name,
    end: Timestamp,
    purpose: &str,
    now: Timestamp,
) -> Result<WindowRequest, WindowError> {
    let before = store.window(id).await?.window;
    let new = WindowId::new(now, &mut rand::rng());
    let request = before.extension(new, person, end, purpose.trim().to_owned(), now)?;
    request.validate(site, now)?;
    before.validate_extension(&request, now)?;
    Ok(request)
}

/// Records the yes of `person` to exactly the text behind `digest`, with a remark (empty for none).
///
/// # Errors
/// As [`Window::approve_saying`].
pub async fn approve(
    store: &Store,
    act: &Act,
    person: &User,
    id: WindowId,
    duty: Duty,
    digest: RequestDigest,
    remark: &str,
) -> Result<(Window, ApprovalStep), WindowError> {
    let StoredWindow { version, mut window } = store.window(id).await?;
    let step = window.approve_saying(person, duty, digest, remark, act.at)?;
    let event = AuditEvent::new(AuditKind::WindowApproved, id)
        .with("duty", duty.as_str())
        .with("digest", digest.to_string())
        .with_some("remark", window.approvals.last().and_then(|a| a.remark.clone()));
    Ok((store.update_window(act, version, &window, event).await?.window, step))
}

/// Records the no of `person`, as `duty` or as what they hold, with times that would suit instead if there are any.
///
/// # Errors
/// As [`Window::refuse`].
pub async fn refuse(
    store: &Store,
    act: &Act,
    person: &User,
    id: WindowId,
    duty: Option<Duty>,
    reason: &str,
    suggested: Option<Times>,
) -> Result<Window, WindowError> {
    let held = || person.duties.iter().copied().find(|d| d.approves());
    let duty = duty.or_else(held).ok_or_else(|| Refusal::DecidesNothing(person.name.clone()))?;
    let event = AuditEvent::new(AuditKind::WindowRefused, id)
        .with("duty", duty.as_str())
        .with("reason", reason.trim())
        .with_some("suggested_start", suggested.map(|t| t.start.to_string()))
        .with_some("suggested_end", suggested.map(|t| t.end.to_string()));
    change(store, act, id, event, |w| w.refuse(person, duty, reason, suggested, act.at)).await
}

/// Takes the request of `person` back.
///
/// # Errors
/// As [`Window::withdraw`].
pub async fn withdraw(store: &Store, act: &Act, person: &User, id: WindowId) -> Result<Window, WindowError> {
    let event = AuditEvent::new(AuditKind::WindowWithdrawn, id);
    change(store, act, id, event, |w| w.withdraw(person, act.at)).await
}

/// Ends an approved window for good; its sessions are cut.
///
/// # Errors
/// As [`Window::revoke`].
pub async fn revoke(
    store: &Store,
    act: &Act,
    person: &User,
    id: WindowId,
    reason: &str,
) -> Result<Window, WindowError> {
    let event = AuditEvent::new(AuditKind::WindowRevoked, id).with("reason", reason.trim());
    change(store, act, id, event, |w| w.revoke(person, reason, act.at)).await
}

/// Brings the end of an approved window forward to `end`.
///
/// # Errors
/// As [`Window::shorten`].
pub async fn shorten(
    store: &Store,
    act: &Act,
    person: &User,
    id: WindowId,
    end: Timestamp,
) -> Result<Window, WindowError> {
    let event = AuditEvent::new(AuditKind::WindowShortened, id).with("end", end.to_string());
    change(store, act, id, event, |w| w.shorten(person, end, act.at)).await
}

async fn change(
    store: &Store,
    act: &Act,
    id: WindowId,
    event: AuditEvent,
    rule: impl FnOnce(&mut Window) -> Result<(), Refusal>,
) -> Result<Window, WindowError> {
    let StoredWindow { version, mut window } = store.window(id).await?;
    rule(&mut window)?;
    Ok(store.update_window(act, version, &window, event).await?.window)
}
