//! Recordings for programs: found, read, proved, held and taken out. Each reading is audited as on the pages.

use axum::{
    Json,
    extract::{Path, Query, State},
    response::Response,
};
use cofferdam_access::clock::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{body::Body, sessions::parsed};
use crate::{
    error::Problem,
    frame::Clock,
    pages::recordings::{self, Asked, Listed},
    recordings::{RecordedLine, Verified},
    routes::{INVESTIGATORS, Routes},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

/// Most lines of a transcript in one answer; the download has all.
const LINES: usize = 10_000;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/recordings", INVESTIGATORS, "investigate", list)
        .api_get("/api/v1/recordings/{id}", INVESTIGATORS, "investigate", show)
        .api_get("/api/v1/recordings/{id}/transcript", INVESTIGATORS, "investigate", transcript)
        .api_get("/api/v1/recordings/{id}/download/{form}", INVESTIGATORS, "investigate", download)
        .api_post("/api/v1/recordings/{id}/verify", INVESTIGATORS, "investigate", verify)
        .api_post("/api/v1/recordings/{id}/hold", INVESTIGATORS, "investigate", hold)
        .api_post("/api/v1/recordings/{id}/lift", INVESTIGATORS, "investigate", lift)
}

/// A line of a recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineView {
    /// RFC 3339, UTC.
    at: String,
    /// Seconds since the session began.
    second: f64,
    /// `screen`, `command`, `file`, `finding` …
    kind: &'static str,
    /// As rendered.
    text: String,
}

impl LineView {
    fn new(started: Timestamp, line: RecordedLine) -> Self {
        Self {
            // Exact to the microsecond for 285 years.
            #[allow(clippy::cast_precision_loss)]
            second: line.at.since(started).max(0) as f64 / 1e6,
            at: line.at.to_string(),
            kind: line.kind,
            text: line.text,
        }
    }
}

/// A recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingView {
    /// Its id: its session's.
    id: String,
    /// The person.
    user: String,
    /// The machine.
    asset: String,
    /// RFC 3339, UTC.
    started: String,
    /// RFC 3339, UTC.
    ended: Option<String>,
    /// Digest of the seal, hexadecimal.
    digest: Option<String>,
    /// `sealed`, `growing`, `not sealed` or `deleted`.
    state: &'static str,
    /// A legal hold stands on it.
    held: bool,
    /// How many findings there were.
    findings: usize,
    /// The worst of them.
    worst: Option<String>,
    /// Where what was searched for was found.
    hits: Vec<LineView>,
}

impl From<Listed> for RecordingView {
    fn from(l: Listed) -> Self {
        let state = l.proof().0;
        let s = l.session;
        Self {
            hits: l.hits.into_iter().map(|hit| LineView::new(s.started_at, hit)).collect(),
            id: s.id.to_string(),
            user: s.person.to_string(),
            asset: s.asset.to_string(),
            started: s.started_at.to_string(),
            ended: s.ended_at.map(|at| at.to_string()),
            digest: s.recording_digest,
            state,
            held: l.held,
            findings: l.findings,
            worst: Some(l.severity).filter(|s| !s.is_empty()),
        }
    }
}

/// Recordings, the newest first. With `q`, `file` or `finding` what was recorded is searched, and the audit log says for
/// what.
#[utoipa::path(get, path = "/api/v1/recordings", tag = "recordings",
    params(("q" = Option<String>, Query, description = "text typed or shown"),
        ("file" = Option<String>, Query, description = "a file's name"),
        ("finding" = Option<String>, Query, description = "a finding's text, or `any`"),
        ("who" = Option<String>, Query, description = "a person"), ("asset" = Option<String>, Query, description = "a machine"),
        ("from" = Option<String>, Query, description = "a day or a time"), ("to" = Option<String>, Query, description = "a day or a time"),
        ("before" = Option<String>, Query, description = "only older ones than this id")),
    responses((status = 200, body = [RecordingView])))]
pub(crate) async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<RecordingView>>, Problem> {
    let clock = Clock::new(&app.snapshot().site.settings.time_zone);
    let found = recordings::find(&app, &viewer, &asked, &clock).await?;
    Ok(Json(found.listed.into_iter().map(Into::into).collect()))
}

/// One recording.
#[utoipa::path(get, path = "/api/v1/recordings/{id}", params(("id" = String, Path, description = "its id")),
    tag = "recordings", responses((status = 200, body = RecordingView), (status = 404)))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<RecordingView>, Problem> {
    let session = app.store.session(parsed(&id)?).await?;
    Ok(Json(recordings::looked_up(&app, session).await?.into()))
}

/// Text and events of a recording, with their times.
#[utoipa::path(get, path = "/api/v1/recordings/{id}/transcript", params(("id" = String, Path, description = "its id")),
    tag = "recordings", responses((status = 200, body = [LineView]), (status = 404), (status = 409)))]
pub(crate) async fn transcript(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Vec<LineView>>, Problem> {
    let session = app.store.session(parsed(&id)?).await?;
    let read = app.recordings.transcript(&viewer.act(app.now()), session.id, LINES).await?;
    Ok(Json(read.lines.into_iter().map(|line| LineView::new(session.started_at, line)).collect()))
}

/// A recording as `asciicast`, `text`, `events` (JSON lines), `bundle` (evidence) or `files` (an archive of the files that
/// moved, as far as they were kept).
#[utoipa::path(get, path = "/api/v1/recordings/{id}/download/{form}", tag = "recordings",
    params(("id" = String, Path, description = "its id"), ("form" = String, Path, description = "asciicast, text, events, bundle or files")),
    responses((status = 200), (status = 404), (status = 409)))]
pub(crate) async fn download(
    State(app): State<App>,
    viewer: Viewer,
    Path((id, form)): Path<(String, String)>,
) -> Result<Response, Problem> {
    Ok(recordings::send(&app, &viewer, parsed(&id)?, &form).await?)
}

/// What a proof found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifiedView {
    /// The recording.
    id: String,
    /// Nothing is wrong with it.
    whole: bool,
    /// Everything that is wrong.
    faults: Vec<String>,
    /// Chained segments that were read.
    segments: u32,
    /// Signatures that hold.
    signatures: u32,
    /// Entries of the audit log that fit.
    anchors: u32,
    /// The chain's last value, hexadecimal.
    digest: Option<String>,
    /// Up to here a signature covers the content.
    proven_until: Option<String>,
}

/// Proves a recording against its signatures, the audit log and the store.
#[utoipa::path(post, path = "/api/v1/recordings/{id}/verify", params(("id" = String, Path, description = "its id")),
    tag = "recordings", responses((status = 200, body = VerifiedView), (status = 404)))]
pub(crate) async fn verify(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<VerifiedView>, Problem> {
    let session = app.store.recording(parsed(&id)?).await?.session;
    let Verified { whole, faults, segments, signatures, anchors, digest, proven_until } =
        app.recordings.verify(session).await?;
    let proven_until = proven_until.map(|at| at.to_string());
    let id = session.to_string();
    Ok(Json(VerifiedView { id, whole, faults, segments, signatures, anchors, digest, proven_until }))
}

/// Why a recording has to be kept, or why no longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// In plain words.
    reason: String,
    /// A fresh code of the authenticator, to lift a hold.
    #[serde(default)]
    code: String,
}

/// Puts a recording on hold.
#[utoipa::path(post, path = "/api/v1/recordings/{id}/hold", params(("id" = String, Path, description = "its id")),
    request_body = Reason, tag = "recordings", responses((status = 200, body = RecordingView), (status = 404), (status = 422)))]
pub(crate) async fn hold(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(given): Body<Reason>,
) -> Result<Json<RecordingView>, Problem> {
    recordings::put(&app, &viewer, parsed(&id)?, &given.reason).await?;
    show(State(app), Path(id)).await
}

/// Lifts a hold; takes a fresh code.
#[utoipa::path(post, path = "/api/v1/recordings/{id}/lift", params(("id" = String, Path, description = "its id")),
    request_body = Reason, tag = "recordings", responses((status = 200, body = RecordingView), (status = 403), (status = 409)))]
pub(crate) async fn lift(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(given): Body<Reason>,
) -> Result<Json<RecordingView>, Problem> {
    let proof = Proof { code: &given.code, ..Proof::default() };
    recordings::take(&app, &viewer, parsed(&id)?, &given.reason, proof).await?;
    show(State(app), Path(id)).await
}

/// What these routes say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, show, transcript, download, verify, hold, lift))]
struct Document;

/// This part of the document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    <Document as utoipa::OpenApi>::openapi()
}
