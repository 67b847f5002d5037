//! One window: the text that is approved, how far it is, what happened, and what the viewer may do to it.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    clock::Timestamp,
    people::Duty,
    store::StoredWindow,
    window::{Phase, Standing, Window},
};
use serde::Deserialize;

use super::{
    act::{self, Step},
    events::{self, Event, Session},
    view::{self, Progress, Text},
};
use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    routes::INVESTIGATORS,
    services::App,
    viewer::Viewer,
};

/// What the viewer may do now.
#[derive(Debug, Clone, Copy, Default)]
struct May {
    decide: bool,
    withdraw: bool,
    extend: bool,
    end: bool,
    ask_again: bool,
    replay: bool,
}

impl May {
    fn of(viewer: &Viewer, window: &Window, phase: Phase) -> Self {
        let own = act::owns(viewer, window);
        let asked = window.request.requested_by == viewer.user.name;
        let running = matches!(phase, Phase::Upcoming | Phase::Open);
        let ends = asked || viewer.holds_any(&[Duty::Operations, Duty::Security, Duty::Administrator]);
        Self {
            decide: phase == Phase::Requested && !own && !viewer.approving_duties().is_empty(),
            withdraw: phase == Phase::Requested && asked,
            extend: running && own && window.shortened_to.is_none(),
            end: ends && (running || phase == Phase::Unproven),
            ask_again: own && phase.is_final(),
            replay: INVESTIGATORS.admits(&viewer.user),
        }
    }
}

#[derive(Template)]
#[template(path = "windows/show.html")]
struct WindowPage {
    frame: Frame,
    id: String,
    short: String,
    phase: &'static str,
    pill: &'static str,
    steps: Vec<Progress>,
    text: Text,
    /// Who ended it, why, and times that were suggested.
    verdict: Option<(String, String)>,
    suggested: Option<(Moment, Moment)>,
    events: Vec<Event>,
    sessions: Vec<Session>,
    later: Vec<(String, String)>,
    may: May,
    end_typed: String,
    revoke_digest: String,
    problem: Option<String>,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    page(&app, &viewer, &window, None).await
}

/// The page, with what went wrong where something did.
async fn page(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    problem: Option<Failure>,
) -> Result<Response, Failure> {
    let frame = Frame::new(app, viewer, "/windows");
    let snapshot = app.snapshot();
    let (site, id) = (&snapshot.site, window.id());
    let phase = window.phase(frame.now);
    let (verdict, suggested) = match &window.standing {
        Standing::Refused { by, reason, suggested, .. } => {
            (Some((view::full_name(site, by), reason.clone())), *suggested)
        }
        Standing::Revoked { by, reason, .. } => (Some((view::full_name(site, by), reason.clone())), None),
        Standing::Requested | Standing::Approved | Standing::Withdrawn { .. } => (None, None),
    };
    let extending = snapshot.windows.iter().filter(|w| w.request.extends == Some(id));
    let status = problem.as_ref().map_or(StatusCode::OK, Failure::status);
    let page = WindowPage {
        short: view::short(id),
        phase: phase.as_str(),
        pill: view::pill(phase),
        steps: view::progress(&frame, site, window),
        text: Text::new(&frame, &snapshot, window),
        verdict,
        suggested: suggested.map(|t| (frame.at(&t.start), frame.at(&t.end))),
        events: events::events(&app.store, &frame, site, id).await?,
        sessions: events::sessions(&app.store, &frame, site, id).await?,
        later: extending.map(|w| (w.id().to_string(), view::short(w.id()))).collect(),
        may: May::of(viewer, window, phase),
        end_typed: view::typed(frame.zone.zone()?, window.effective_end()),
        revoke_digest: act::revocation_purpose(id).digest,
        problem: problem.map(|p| frame::sentence(&p.to_string())),
        id: id.to_string(),
        frame,
    };
    Ok((status, frame::page(&page)?).into_response())
}

/// Back to the window, or its page again with what is wrong.
async fn done(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    result: Result<Window, Failure>,
) -> Result<Response, Failure> {
    match result {
        Ok(window) => Ok(Redirect::to(&format!("/windows/{}", window.id())).into_response()),
        Err(problem @ (Failure::Internal | Failure::Unavailable(_))) => Err(problem),
        Err(problem) => page(app, viewer, window, Some(problem)).await,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn withdraw(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = act::withdraw(&app, &viewer, window.id()).await;
    done(&app, &viewer, &window, result).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Revoking {
    reason: String,
    #[serde(flatten)]
    step: Step,
}

pub(super) async fn revoke(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(revoking): Form<Revoking>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = act::revoke(&app, &viewer, &window, &revoking.reason, &revoking.step).await;
    done(&app, &viewer, &window, result).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Extending {
    end: String,
    purpose: String,
    #[serde(flatten)]
    step: Step,
}

#[derive(Template)]
#[template(path = "windows/extend.html")]
struct ExtendPage {
    frame: Frame,
    id: String,
    short: String,
    /// What would be asked for; none while something is wrong.
    text: Option<Text>,
    end: String,
    purpose: String,
    digest: String,
    problem: Option<String>,
}

pub(super) async fn check_extension(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(extending): Form<Extending>,
) -> Result<Response, Failure> {
    let StoredWindow { window, .. } = act::visible(&app, &viewer, &id).await?;
    extension_page(&app, &viewer, &window, &extending, None).await
}

pub(super) async fn extend(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(extending): Form<Extending>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = match read_end(&app, &extending.end, window.effective_end()) {
        Ok(end) => act::extend(&app, &viewer, &window, end, &extending.purpose, &extending.step).await,
        Err(problem) => Err(problem),
    };
    match result {
        Ok(asked) => Ok(Redirect::to(&format!("/windows/{}", asked.id())).into_response()),
        Err(problem) => extension_page(&app, &viewer, &window, &extending, Some(problem)).await,
    }
}

/// What would be asked for, with the step-up that sends it; or what is wrong, with everything typed kept.
async fn extension_page(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    extending: &Extending,
    problem: Option<Failure>,
) -> Result<Response, Failure> {
    let tried = match read_end(app, &extending.end, window.effective_end()) {
        Ok(end) => act::try_extension(app, viewer, window, end, &extending.purpose).await,
        Err(problem) => Err(problem),
    };
    let frame = Frame::new(app, viewer, "/windows");
    let (text, end, digest, problem) = match tried {
        Ok(request) => {
            let digest = act::extension_purpose(window.id(), request.end, &extending.purpose).digest;
            let end = view::typed(frame.zone.zone()?, request.end);
            let text = Text::new(&frame, &app.snapshot(), &Window::requested(request));
            (Some(text), end, digest, problem)
        }
        Err(wrong) => (None, extending.end.clone(), String::new(), Some(wrong)),
    };
    let status = problem.as_ref().map_or(StatusCode::OK, Failure::status);
    let page = ExtendPage {
        id: window.id().to_string(),
        short: view::short(window.id()),
        text,
        end,
        purpose: extending.purpose.clone(),
        digest,
        problem: problem.map(|p| frame::sentence(&p.to_string())),
        frame,
    };
    Ok((status, frame::page(&page)?).into_response())
}

/// A moment as people type it; `+2h` counts from `base`.
pub(super) fn read_end(app: &App, text: &str, base: Timestamp) -> Result<Timestamp, Failure> {
    let clock = frame::Clock::new(&app.snapshot().site.settings.time_zone);
    clock.zone()?.parse(text, base).map_err(Failure::invalid)
}
