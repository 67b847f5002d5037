//! Sessions for programs: which there are, why they were allowed, and orders to live ones.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use cofferdam_access::{
    ids::{Name, SessionId},
    people::Duty,
    store::{FindingFilter, FindingRecord, OrderKind, SessionFilter, SessionRecord},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Body;
use crate::{
    error::{Failure, Problem},
    pages::{
        control,
        windows::act::{self, Step},
    },
    routes::{Routes, Rule, WATCHERS},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

/// Who may see sessions: those who watch them, and those who look into recordings.
const READERS: Rule = Rule::AnyOf(&[Duty::Operations, Duty::Security, Duty::Investigator]);
/// Most sessions in one answer.
const MOST: u32 = 200;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/sessions", READERS, "read", list)
        .api_get("/api/v1/sessions/{id}", READERS, "read", show)
        .api_post("/api/v1/sessions/{id}/suspend", WATCHERS, "control", suspend)
        .api_post("/api/v1/sessions/{id}/resume", WATCHERS, "control", resume)
        .api_post("/api/v1/sessions/{id}/message", WATCHERS, "control", message)
        .api_post("/api/v1/sessions/{id}/end", WATCHERS, "control", end)
        .api_post("/api/v1/sessions/{id}/shorten", WATCHERS, "control", shorten)
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Its id; its recording has the same.
    id: String,
    /// The person.
    user: String,
    /// The machine.
    asset: String,
    /// `login@asset`.
    account: String,
    /// `ssh`, `rdp` …
    protocol: &'static str,
    /// `authenticating`, `waiting`, `active`, `suspended` or `ended`.
    state: &'static str,
    /// Why it ended.
    reason: Option<String>,
    /// RFC 3339, UTC.
    started: String,
    /// RFC 3339, UTC.
    ended: Option<String>,
    /// The window it went through.
    window: Option<String>,
    /// The address the person came from.
    source: String,
    /// The gateway that carries it.
    node: String,
    /// Digest of the sealed recording, hexadecimal.
    recording_digest: Option<String>,
    /// Only of sessions of the node that answers: the absolute end as it stands.
    ends: Option<String>,
    /// Only of sessions of the node that answers: the last human input.
    last_input: Option<String>,
    /// Only of sessions of the node that answers: why it stands still.
    frozen: Option<String>,
    /// Only of sessions of the node that answers: people who watch it.
    watchers: Option<u32>,
}

impl SessionView {
    fn new(app: &App, s: SessionRecord) -> Self {
        let live = app.live.get(s.id);
        Self {
            id: s.id.to_string(),
            user: s.person.to_string(),
            account: format!("{}@{}", s.login, s.asset),
            asset: s.asset.to_string(),
            protocol: s.protocol.as_str(),
            state: s.state.as_str(),
            reason: s.end_reason,
            started: s.started_at.to_string(),
            ended: s.ended_at.map(|at| at.to_string()),
            window: s.window.map(|w| w.to_string()),
            source: s.source.to_string(),
            node: s.node,
            recording_digest: s.recording_digest,
            ends: live.as_ref().map(|l| l.not_after.to_string()),
            last_input: live.as_ref().map(|l| l.last_input.to_string()),
            watchers: live.as_ref().map(|l| l.watchers),
            frozen: live.and_then(|l| l.frozen),
        }
    }
}

/// Something that was found in a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindingView {
    id: String,
    at: String,
    trigger: String,
    severity: String,
    text: String,
    response: String,
}

impl From<FindingRecord> for FindingView {
    fn from(f: FindingRecord) -> Self {
        Self {
            id: f.id.to_string(),
            at: f.at.to_string(),
            trigger: f.trigger,
            severity: f.severity,
            text: f.text,
            response: f.response,
        }
    }
}

/// An order that was given to a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderView {
    id: String,
    order: &'static str,
    by: String,
    reason: String,
    at: String,
    outcome: Option<String>,
}

/// A session with the decision that allowed it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionInFull {
    #[serde(flatten)]
    session: SessionView,
    /// The five answers, and the policies that decided.
    #[schema(value_type = Object)]
    decision: serde_json::Value,
    findings: Vec<FindingView>,
    orders: Vec<OrderView>,
}

/// Which sessions.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Which {
    /// Only of this person.
    user: Option<String>,
    /// Only to this machine.
    asset: Option<String>,
    /// Only those that have not ended.
    open: bool,
    /// Only older ones than this id (for paging).
    before: Option<String>,
    /// Most sessions, 1 to 200.
    limit: Option<u32>,
}

fn name(text: Option<&str>) -> Result<Option<Name>, Failure> {
    text.map(|t| Name::new(t).map_err(Failure::invalid)).transpose()
}

pub(super) fn parsed(id: &str) -> Result<SessionId, Failure> {
    id.parse().map_err(|_| Failure::NotFound)
}

/// Sessions, the newest first.
#[utoipa::path(get, path = "/api/v1/sessions", params(Which), tag = "sessions",
    responses((status = 200, body = [SessionView])))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<SessionView>>, Problem> {
    let filter = SessionFilter {
        person: name(which.user.as_deref())?,
        asset: name(which.asset.as_deref())?,
        open_only: which.open,
        before: which.before.as_deref().map(parsed).transpose()?,
        limit: which.limit.unwrap_or(MOST).clamp(1, MOST),
        ..SessionFilter::default()
    };
    let sessions = app.store.sessions(&filter).await?;
    Ok(Json(sessions.into_iter().map(|s| SessionView::new(&app, s)).collect()))
}

/// One session with why it was allowed, what was found and what was ordered.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", params(("id" = String, Path, description = "its id")),
    tag = "sessions", responses((status = 200, body = SessionInFull), (status = 404)))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<SessionInFull>, Problem> {
    let id = parsed(&id)?;
    let session = app.store.session(id).await?;
    let decision = app.store.decision(session.decision).await?.body;
    let filter = FindingFilter { session: Some(id), ..FindingFilter::default() };
    let findings = app.store.findings(&filter).await?.into_iter().map(Into::into).collect();
    let order = |o: cofferdam_access::store::Order| OrderView {
        id: o.id.to_string(),
        order: o.kind.as_str(),
        by: o.by,
        reason: o.reason,
        at: o.at.to_string(),
        outcome: o.outcome,
    };
    Ok(Json(SessionInFull {
        session: SessionView::new(&app, session),
        decision: serde_json::from_str(&decision).unwrap_or(serde_json::Value::String(decision)),
        findings,
        orders: app.store.orders_of(id).await?.into_iter().map(order).collect(),
    }))
}

/// What is wanted of a session.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Why, or the message; the person concerned reads it.
    text: String,
    /// A fresh code of the authenticator, to end or to resume.
    code: String,
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Given {
    /// The order's id.
    id: String,
    /// The session.
    session: String,
    /// What was ordered.
    order: &'static str,
    /// What came of it; absent while the node has not confirmed it.
    outcome: Option<String>,
}

async fn give(
    app: &App,
    viewer: &Viewer,
    id: &str,
    kind: OrderKind,
    wanted: &Wanted,
) -> Result<Json<Given>, Problem> {
    let session = parsed(id)?;
    let proof = Proof { code: &wanted.code, ..Proof::default() };
    let (order, outcome) = control::give(app, viewer, session, kind, &wanted.text, proof).await?;
    Ok(Json(Given { id: order.to_string(), session: session.to_string(), order: kind.as_str(), outcome }))
}

/// Freezes a session both ways.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/suspend", params(("id" = String, Path, description = "its id")),
    request_body = Wanted, tag = "sessions", responses((status = 200, body = Given), (status = 404), (status = 409)))]
pub(crate) async fn suspend(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Given>, Problem> {
    give(&app, &viewer, &id, OrderKind::Suspend, &wanted).await
}

/// Lets a suspended session go on; takes a fresh code.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/resume", params(("id" = String, Path, description = "its id")),
    request_body = Wanted, tag = "sessions", responses((status = 200, body = Given), (status = 403), (status = 404), (status = 409)))]
pub(crate) async fn resume(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Given>, Problem> {
    give(&app, &viewer, &id, OrderKind::Resume, &wanted).await
}

/// Shows a text to the person.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/message", params(("id" = String, Path, description = "its id")),
    request_body = Wanted, tag = "sessions", responses((status = 200, body = Given), (status = 404), (status = 409)))]
pub(crate) async fn message(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Given>, Problem> {
    give(&app, &viewer, &id, OrderKind::Message, &wanted).await
}

/// Ends a session now; takes a fresh code.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/end", params(("id" = String, Path, description = "its id")),
    request_body = Wanted, tag = "sessions", responses((status = 200, body = Given), (status = 403), (status = 404), (status = 409)))]
pub(crate) async fn end(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Given>, Problem> {
    give(&app, &viewer, &id, OrderKind::End, &wanted).await
}

/// Another end for a session's window.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEnd {
    /// RFC 3339, a time in the site's zone (`22:00`), or from now (`+30m`).
    end: String,
    /// A fresh code of the person.
    #[serde(default)]
    code: String,
}

/// When a window ends now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ends {
    /// The session.
    id: String,
    /// RFC 3339, UTC.
    ends: String,
}

/// Brings the end of the session's window forward; takes a fresh code.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/shorten", params(("id" = String, Path, description = "its id")),
    request_body = NewEnd, tag = "sessions", responses((status = 200, body = Ends), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(crate) async fn shorten(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(wanted): Body<NewEnd>,
) -> Result<Json<Ends>, Problem> {
    let session = app.store.session(parsed(&id)?).await?;
    let window = app.store.window(session.window.ok_or(Failure::NotFound)?).await?.window;
    let end = super::windows::moment(&app, &wanted.end, app.now())?;
    let window = act::shorten(&app, &viewer, &window, end, &Step::of_code(wanted.code)).await?;
    Ok(Json(Ends { id: session.id.to_string(), ends: window.effective_end().to_string() }))
}

/// What these routes say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, suspend, resume, message, end, shorten))]
struct Document;

/// This part of the document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    <Document as utoipa::OpenApi>::openapi()
}
