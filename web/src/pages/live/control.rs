//! What can be done to a live session. What restricts it takes a click; what ends it or lets it go on takes a fresh second
//! factor.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    control::{self, ControlError},
    ids::{OrderId, SessionId},
    store::{OrderKind, SessionState},
};
use serde::Deserialize;

use super::parsed;
use crate::{
    error::Failure,
    form::Form,
    services::App,
    step_up::{self, Proof, Purpose},
    viewer::Viewer,
};

/// How long a page waits for the node to carry an order out …
const PATIENCE: u32 = 20;
/// … looking so often.
const LOOK: Duration = Duration::from_millis(50);

impl From<ControlError> for Failure {
    fn from(e: ControlError) -> Self {
        match e {
            ControlError::Store(e) => e.into(),
            ControlError::Own(_) | ControlError::NotApproving(_) => Self::Forbidden(e.to_string()),
            ControlError::Empty | ControlError::TooLong => Self::Invalid(e.to_string()),
        }
    }
}

/// What a step-up for an order is bound to; none: the order takes none.
pub(crate) fn purpose(kind: OrderKind, id: SessionId) -> Option<Purpose> {
    let action = match kind {
        OrderKind::End => "session end",
        OrderKind::Resume => "session resume",
        OrderKind::Suspend | OrderKind::Message => return None,
    };
    Some(Purpose::new(action, &[&id.to_string()]))
}

/// Gives an order, after a fresh second factor where it takes one; answers it and what came of it, as far as that is known
/// within a second.
pub(crate) async fn give(
    app: &App,
    viewer: &Viewer,
    id: SessionId,
    kind: OrderKind,
    text: &str,
    proof: Proof<'_>,
) -> Result<(OrderId, Option<String>), Failure> {
    let mut act = viewer.act(app.now());
    // Everything that can be refused before a code is spent.
    let record = app.store.session(id).await?;
    if record.state == SessionState::Ended {
        return Err(Failure::Conflict("the session has ended already".into()));
    }
    control::text_of(kind, text)?;
    if kind == OrderKind::Resume {
        control::may_resume(&viewer.user, &record, act.at)?;
    }
    if let Some(purpose) = purpose(kind, id) {
        act = step_up::prove(app, viewer, &purpose, proof).await?.act;
    }
    let order = control::order(&app.store, &act, &viewer.user, id, kind, text).await?;
    for _ in 0..PATIENCE {
        let orders = app.store.orders_of(id).await?;
        if let Some(done) = orders.into_iter().find(|o| o.id == order && o.done_at.is_some()) {
            return Ok((order, done.outcome));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok((order, None))
}

#[derive(Debug, Deserialize)]
pub(super) struct Ordered {
    #[serde(default)]
    text: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn order(
    app: App,
    viewer: Viewer,
    id: &str,
    kind: OrderKind,
    form: Ordered,
) -> Result<Response, Failure> {
    let proof = Proof { code: &form.code, challenge: &form.challenge, credential: &form.credential };
    give(&app, &viewer, parsed(id)?, kind, &form.text, proof).await?;
    Ok(Redirect::to(&format!("/live/{}", parsed(id)?)).into_response())
}

pub(super) async fn suspend(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Ordered>,
) -> Result<Response, Failure> {
    order(app, viewer, &id, OrderKind::Suspend, form).await
}

pub(super) async fn resume(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Ordered>,
) -> Result<Response, Failure> {
    order(app, viewer, &id, OrderKind::Resume, form).await
}

pub(super) async fn message(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Ordered>,
) -> Result<Response, Failure> {
    order(app, viewer, &id, OrderKind::Message, form).await
}

pub(super) async fn end(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Ordered>,
) -> Result<Response, Failure> {
    order(app, viewer, &id, OrderKind::End, form).await
}

#[cfg(test)]
mod tests {
    use cofferdam_access::clock::Timestamp;

    use super::*;

    #[test]
    fn a_proof_for_one_order_or_session_serves_for_no_other() {
        let (one, other) =
            (SessionId::new(Timestamp(1), &mut rand::rng()), SessionId::new(Timestamp(2), &mut rand::rng()));
        assert!(purpose(OrderKind::End, one) != purpose(OrderKind::End, other));
        assert!(purpose(OrderKind::End, one) != purpose(OrderKind::Resume, one));
        assert!(purpose(OrderKind::Suspend, one).is_none());
    }
}
