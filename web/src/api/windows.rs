//! Windows and the decisions on them, for programs: the same rules as the pages.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, WindowId},
    store::WindowFilter,
    window::{ApprovalStep, Limits, Standing, Times, Window},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Failure, Problem},
    frame::{Clock, WORKERS},
    pages::windows::{
        act::{self, Step},
        form::{self, Typed},
    },
    routes::{APPROVERS, Routes, Rule},
    services::App,
    viewer::Viewer,
};

/// Most windows in one answer.
const MOST: u32 = 200;
/// Scopes that may end a window early: deciding, any that the person may end; asking, what they asked for themselves.
const ENDERS: [&str; 2] = ["decide", "request"];

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/windows", Rule::LoggedIn, "read", list)
        .api_post("/api/v1/windows", WORKERS, "request", request)
        .api_get("/api/v1/windows/{id}", Rule::LoggedIn, "read", show)
        .api_post("/api/v1/windows/{id}/approve", APPROVERS, "decide", approve)
        .api_post("/api/v1/windows/{id}/refuse", APPROVERS, "decide", refuse)
        .api_post("/api/v1/windows/{id}/withdraw", Rule::LoggedIn, "request", withdraw)
        .api_post("/api/v1/windows/{id}/extend", WORKERS, "request", extend)
        .api_post("/api/v1/windows/{id}/shorten", Rule::LoggedIn, ENDERS, shorten)
        .api_post("/api/v1/windows/{id}/revoke", Rule::LoggedIn, ENDERS, revoke)
}

/// One person's yes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalBody {
    /// Who.
    by: String,
    /// As what.
    duty: &'static str,
    /// Digest of the text approved.
    digest: String,
    /// When, RFC 3339.
    at: String,
    /// What they said with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

/// Times that would suit instead.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimesBody {
    /// First moment, RFC 3339.
    start: String,
    /// End, RFC 3339.
    end: String,
}

/// Limits on files.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsBody {
    /// Most bytes, all sessions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    /// Path patterns; none: any path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    /// Files may be read, not written.
    read_only_files: bool,
}

impl From<&Limits> for LimitsBody {
    fn from(l: &Limits) -> Self {
        Self { file_bytes: l.file_bytes, paths: l.paths.clone(), read_only_files: l.read_only_files }
    }
}

/// A window: what was asked for and what became of it. The names are those of `cofferdam window list --json`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WindowBody {
    id: String,
    /// As kept: `requested`, `approved`, `refused`, `withdrawn`, `revoked`.
    state: &'static str,
    /// Where it stands now: also `upcoming`, `open`, `ended`, `lapsed`.
    phase: &'static str,
    requested_by: String,
    requested_at: String,
    users: Vec<String>,
    /// `login@asset`.
    accounts: Vec<String>,
    forwards: Vec<String>,
    operations: Vec<&'static str>,
    purpose: String,
    work_order: String,
    start: String,
    /// The end as it stands.
    end: String,
    requested_end: String,
    shortened_to: Option<String>,
    plant_states: Vec<&'static str>,
    limits: LimitsBody,
    extends: Option<String>,
    /// SHA-256 of the text that is approved.
    digest: String,
    approvals: Vec<ApprovalBody>,
    ended_by: Option<String>,
    reason: Option<String>,
    /// With a refusal: times that would suit.
    suggested: Option<TimesBody>,
}

impl WindowBody {
    fn new(window: &Window, now: Timestamp) -> Self {
        let r = &window.request;
        let (ended_by, reason, suggested) = match &window.standing {
            Standing::Refused { by, reason, suggested, .. } => (Some(by), Some(reason), *suggested),
            Standing::Revoked { by, reason, .. } => (Some(by), Some(reason), None),
            Standing::Requested | Standing::Approved | Standing::Withdrawn { .. } => (None, None, None),
        };
        Self {
            id: r.id.to_string(),
            state: window.standing.as_str(),
            phase: window.phase(now).as_str(),
            requested_by: r.requested_by.to_string(),
            requested_at: r.requested_at.to_string(),
            users: texts(&r.users),
            accounts: texts(&r.accounts),
            forwards: texts(&r.forwards),
            operations: r.operations.iter().map(|o| o.as_str()).collect(),
            purpose: r.purpose.clone(),
            work_order: r.work_order.clone(),
            start: r.start.to_string(),
            end: window.effective_end().to_string(),
            requested_end: r.end.to_string(),
            shortened_to: window.shortened_to.map(|t| t.to_string()),
            plant_states: r.plant_states.iter().map(|s| s.as_str()).collect(),
            limits: LimitsBody::from(&r.limits),
            extends: r.extends.map(|w| w.to_string()),
            digest: r.digest().to_string(),
            approvals: window
                .approvals
                .iter()
                .map(|a| ApprovalBody {
                    by: a.by.to_string(),
                    duty: a.duty.as_str(),
                    digest: a.digest.clone(),
                    at: a.at.to_string(),
                    remark: a.remark.clone(),
                })
                .collect(),
            ended_by: ended_by.map(ToString::to_string),
            reason: reason.cloned(),
            suggested: suggested.map(|t| TimesBody { start: t.start.to_string(), end: t.end.to_string() }),
        }
    }
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|i| i.to_string()).collect()
}

fn body(app: &App, window: &Window) -> Json<WindowBody> {
    Json(WindowBody::new(window, app.now()))
}

/// Which windows.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// Only those that this person asked for or may use; who oversees nothing gets their own.
    person: Option<String>,
    /// Only those that lead to this asset.
    asset: Option<String>,
    /// Only in this state, as kept.
    state: Option<String>,
    /// Only ids before this one (for paging).
    before: Option<String>,
    /// Most windows, 200 at most.
    limit: Option<u32>,
}

/// Windows, the newest first.
#[utoipa::path(get, path = "/api/v1/windows", tag = "windows", params(Wanted),
    responses((status = 200, body = [WindowBody])))]
pub(super) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<WindowBody>>, Problem> {
    let name = |text: Option<&String>| text.map(|t| Name::new(t).map_err(Failure::invalid)).transpose();
    let before = wanted.before.as_deref().map(str::parse::<WindowId>).transpose();
    let state = match wanted.state.as_deref() {
        None => None,
        Some(text) => Some(act::state(text).ok_or_else(|| {
            Failure::Invalid("use requested, approved, refused, withdrawn or revoked for the state".into())
        })?),
    };
    let person = if viewer.holds_any(act::OVERSEERS) {
        name(wanted.person.as_ref())?
    } else {
        Some(viewer.user.name.clone())
    };
    let filter = WindowFilter {
        asset: name(wanted.asset.as_ref())?,
        before: before.map_err(Failure::invalid)?,
        limit: wanted.limit.unwrap_or(MOST).clamp(1, MOST),
        person,
        state,
        ..WindowFilter::default()
    };
    let now = app.now();
    let found = app.store.windows(&filter).await?;
    Ok(Json(found.iter().map(|w| WindowBody::new(&w.window, now)).collect()))
}

/// One window.
#[utoipa::path(get, path = "/api/v1/windows/{id}", tag = "windows", params(("id" = String, Path)),
    responses((status = 200, body = WindowBody), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<WindowBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    Ok(body(&app, &window))
}

/// What is asked for. Times as people write them: RFC 3339, or in the site's zone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestBody {
    /// `login@asset`, among those that are open to the person from where they are.
    accounts: Vec<String>,
    /// Further machines whose ports may be reached through forwards.
    #[serde(default)]
    forwards: Vec<String>,
    /// `view`, `operate`, `program`.
    operations: Vec<String>,
    /// Why, in plain words.
    purpose: String,
    #[serde(default)]
    work_order: String,
    start: String,
    end: String,
    /// Plant states in which it shall hold; none: any but emergency.
    #[serde(default)]
    plant_states: Vec<String>,
    /// Most bytes of files.
    #[serde(default)]
    file_bytes: Option<u64>,
    /// Path patterns for files.
    #[serde(default)]
    paths: Vec<String>,
    /// Files may be read, not written.
    #[serde(default)]
    read_only_files: bool,
    /// A fresh code of the person.
    code: String,
}

/// Asks for a window.
#[utoipa::path(post, path = "/api/v1/windows", tag = "windows", request_body = RequestBody,
    responses((status = 201, body = WindowBody), (status = 422, description = "what to change"), (status = 403)))]
pub(super) async fn request(
    State(app): State<App>,
    viewer: Viewer,
    Json(wanted): Json<RequestBody>,
) -> Result<(StatusCode, Json<WindowBody>), Problem> {
    let typed = Typed {
        accounts: wanted.accounts,
        forwards: wanted.forwards,
        operations: wanted.operations,
        purpose: wanted.purpose,
        work_order: wanted.work_order,
        start: wanted.start,
        end: wanted.end,
        plant_states: wanted.plant_states,
        paths: wanted.paths.join("\n"),
        read_only: if wanted.read_only_files { "yes".into() } else { String::new() },
        ..Typed::default()
    };
    let clock = clock(&app);
    let offered = form::offered(&app, &viewer);
    let mut asked = typed.read(&app, &viewer, clock.zone()?, &offered).map_err(|wrong| {
        Failure::Invalid(wrong.0.iter().map(|(f, t)| format!("{f}: {t}")).collect::<Vec<_>>().join("; "))
    })?;
    asked.0.limits.file_bytes = wanted.file_bytes;
    let window = act::request(&app, &viewer, &asked, &Step::of_code(wanted.code)).await?;
    Ok((StatusCode::CREATED, body(&app, &window)))
}

/// An approval of exactly the text behind a digest.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveBody {
    /// The digest of the text that was read.
    digest: String,
    /// `operations` or `security`; none: the one that the person holds.
    #[serde(default)]
    duty: String,
    /// A remark, 500 characters at most; the second approver and whoever asked read it.
    #[serde(default)]
    remark: String,
    /// A fresh code of the person.
    code: String,
}

/// What an approval came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovedBody {
    /// Whose approval is still missing; none: it is approved.
    missing: Option<&'static str>,
    window: WindowBody,
}

/// Approves exactly the text behind the digest.
#[utoipa::path(post, path = "/api/v1/windows/{id}/approve", tag = "windows", request_body = ApproveBody,
    params(("id" = String, Path)),
    responses((status = 200, body = ApprovedBody), (status = 403, description = "not theirs to approve, or not proved"),
        (status = 409, description = "changed, approved by them or their duty already, or over")))]
pub(super) async fn approve(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(given): Json<ApproveBody>,
) -> Result<Json<ApprovedBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let duty = act::approving_duty(&given.duty)?;
    let step = Step::of_code(given.code);
    let (digest, remark) = (&given.digest, &given.remark);
    let (window, came_to) = act::approve(&app, &viewer, &window, duty, digest, remark, &step).await?;
    let missing = match came_to {
        ApprovalStep::Approved => None,
        ApprovalStep::Waits { missing } => Some(missing.as_str()),
    };
    Ok(Json(ApprovedBody { missing, window: WindowBody::new(&window, app.now()) }))
}

/// A refusal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefuseBody {
    /// Why; the requester reads it.
    reason: String,
    /// `operations` or `security`; none: the one that the person holds.
    #[serde(default)]
    duty: String,
    /// With `suggested_end`: times that would suit.
    #[serde(default)]
    suggested_start: Option<String>,
    #[serde(default)]
    suggested_end: Option<String>,
}

/// Refuses, for good.
#[utoipa::path(post, path = "/api/v1/windows/{id}/refuse", tag = "windows", request_body = RefuseBody,
    params(("id" = String, Path)), responses((status = 200, body = WindowBody), (status = 403), (status = 409)))]
pub(super) async fn refuse(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(given): Json<RefuseBody>,
) -> Result<Json<WindowBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let suggested = match (given.suggested_start, given.suggested_end) {
        (None, None) => None,
        (Some(start), Some(end)) => {
            let start = moment(&app, &start, app.now())?;
            Some(Times { start, end: moment(&app, &end, start)? })
        }
        _ => return Err(Failure::Invalid("suggest both a start and an end, or none".into()).into()),
    };
    let duty = act::approving_duty(&given.duty)?;
    let window = act::refuse(&app, &viewer, window.id(), duty, &given.reason, suggested).await?;
    Ok(body(&app, &window))
}

/// Takes the person's own request back.
#[utoipa::path(post, path = "/api/v1/windows/{id}/withdraw", tag = "windows", params(("id" = String, Path)),
    responses((status = 200, body = WindowBody), (status = 403), (status = 409)))]
pub(super) async fn withdraw(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<WindowBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let window = act::withdraw(&app, &viewer, window.id()).await?;
    Ok(body(&app, &window))
}

/// More time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendBody {
    /// The new end; `+2h` counts from the present end.
    end: String,
    /// Why more time is needed.
    purpose: String,
    /// A fresh code of the person.
    code: String,
}

/// Asks for more time: a new request, with fresh approvals.
#[utoipa::path(post, path = "/api/v1/windows/{id}/extend", tag = "windows", request_body = ExtendBody,
    params(("id" = String, Path)), responses((status = 201, body = WindowBody), (status = 403), (status = 409)))]
pub(super) async fn extend(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(given): Json<ExtendBody>,
) -> Result<(StatusCode, Json<WindowBody>), Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let end = moment(&app, &given.end, window.effective_end())?;
    let step = Step::of_code(given.code);
    let asked = act::extend(&app, &viewer, &window, end, &given.purpose, &step).await?;
    Ok((StatusCode::CREATED, body(&app, &asked)))
}

/// An earlier end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShortenBody {
    /// The new end: RFC 3339, a time in the site's zone (`22:00`), or from now (`+30m`).
    end: String,
    /// A fresh code of the person.
    #[serde(default)]
    code: String,
}

/// Brings the end forward; takes a fresh code. With the scope `decide` the end of any window that the person may end, with
/// `request` of their own requests only.
#[utoipa::path(post, path = "/api/v1/windows/{id}/shorten", tag = "windows", request_body = ShortenBody,
    params(("id" = String, Path)), responses((status = 200, body = WindowBody), (status = 403), (status = 409)))]
pub(super) async fn shorten(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(given): Json<ShortenBody>,
) -> Result<Json<WindowBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    within_scope(&viewer, &window)?;
    let end = moment(&app, &given.end, app.now())?;
    let window = act::shorten(&app, &viewer, &window, end, &Step::of_code(given.code)).await?;
    Ok(body(&app, &window))
}

/// An end for good.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    /// Why; the people concerned read it.
    reason: String,
    /// A fresh code of the person.
    code: String,
}

/// Ends an approved window for good; its sessions are cut. Scopes as for shortening.
#[utoipa::path(post, path = "/api/v1/windows/{id}/revoke", tag = "windows", request_body = RevokeBody,
    params(("id" = String, Path)), responses((status = 200, body = WindowBody), (status = 403), (status = 409)))]
pub(super) async fn revoke(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(given): Json<RevokeBody>,
) -> Result<Json<WindowBody>, Problem> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    within_scope(&viewer, &window)?;
    let step = Step::of_code(given.code);
    let window = act::revoke(&app, &viewer, &window, &given.reason, &step).await?;
    Ok(body(&app, &window))
}

/// A program that may only ask ends only what its own person asked for.
fn within_scope(viewer: &Viewer, window: &Window) -> Result<(), Failure> {
    let decides = viewer.has_scope("decide");
    if decides || window.request.requested_by == viewer.user.name {
        return Ok(());
    }
    let why = "this token may end only what its own person asked for: make one with the scope \"decide\"";
    Err(Failure::Forbidden(why.into()))
}

fn clock(app: &App) -> Clock {
    Clock::new(&app.snapshot().site.settings.time_zone)
}

/// A moment as people write it; `+2h` counts from `base`.
pub(super) fn moment(app: &App, text: &str, base: Timestamp) -> Result<Timestamp, Failure> {
    clock(app).zone()?.parse(text, base).map_err(Failure::invalid)
}

/// What these routes say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, request, approve, refuse, withdraw, extend, shorten, revoke))]
struct Document;

/// This part of the document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    <Document as utoipa::OpenApi>::openapi()
}
