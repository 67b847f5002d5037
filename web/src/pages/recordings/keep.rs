//! Legal holds: set by whoever looks into recordings, lifted only with a fresh second factor.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{ids::SessionId, store::StoreError};
use serde::Deserialize;

use super::parsed;
use crate::{
    error::Failure,
    form::Form,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// Longest reason, characters.
const LONGEST: usize = 500;

/// What a step-up to lift a hold is bound to.
pub(super) fn purpose(id: SessionId) -> Purpose {
    Purpose::new("recording lift hold", &[&id.to_string()])
}

#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    reason: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

fn reason(text: &str) -> Result<&str, Failure> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST {
        return Err(Failure::Invalid(format!("give a reason of 1 to {LONGEST} characters")));
    }
    Ok(text)
}

/// Puts a recording on hold.
pub(crate) async fn put(app: &App, viewer: &Viewer, id: SessionId, why: &str) -> Result<(), Failure> {
    let why = reason(why)?;
    Ok(app.recordings.hold(&viewer.act(app.now()), id, why).await?)
}

/// Lifts a hold.
pub(crate) async fn take(
    app: &App,
    viewer: &Viewer,
    id: SessionId,
    why: &str,
    proof: Proof<'_>,
) -> Result<(), Failure> {
    let why = reason(why)?;
    // Asked before a code is spent; the store asks again.
    if !viewer.user.duties.iter().any(|d| d.lifts_holds()) {
        let refused = format!("{} may not lift a hold: investigators and security can", viewer.user.name);
        return Err(Failure::Forbidden(refused));
    }
    if app.store.recording(id).await?.hold.is_none() {
        return Err(StoreError::Refused("the recording is not held".into()).into());
    }
    let act = step_up::prove(app, viewer, &purpose(id), proof).await?.act;
    Ok(app.recordings.lift_hold(&act, id, why).await?)
}

pub(super) async fn hold(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Kept>,
) -> Result<Response, Failure> {
    let id = parsed(&id)?;
    put(&app, &viewer, id, &form.reason).await?;
    Ok(Redirect::to(&format!("/recordings/{id}#proof")).into_response())
}

pub(super) async fn lift(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Kept>,
) -> Result<Response, Failure> {
    let id = parsed(&id)?;
    let proof = Proof { code: &form.code, challenge: &form.challenge, credential: &form.credential };
    take(&app, &viewer, id, &form.reason, proof).await?;
    Ok(Redirect::to(&format!("/recordings/{id}#proof")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_needs_a_reason() {
        assert!(reason(" \t").is_err() && reason(&"x".repeat(501)).is_err());
        assert_eq!(reason(" case 7 ").unwrap(), "case 7");
    }
}
