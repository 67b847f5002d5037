//! One request, what there is to know about it, and the decision.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    people::Duty,
    window::{Times, Window},
};
use serde::Deserialize;

use super::facts::{self, Fact};
use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame},
    pages::windows::{
        act::{self, Step},
        events::{self, Event},
        view::{self, Progress, Text},
    },
    routes::INVESTIGATORS,
    services::App,
    viewer::Viewer,
};

/// What was typed into one of the forms, kept when it did not work.
#[derive(Debug, Default)]
struct Typed {
    reason: String,
    remark: String,
    start: String,
    end: String,
    /// Which form is open.
    open: &'static str,
}

#[derive(Template)]
#[template(path = "approvals/show.html")]
struct ApprovalPage {
    frame: Frame,
    id: String,
    short: String,
    phase: &'static str,
    pill: &'static str,
    steps: Vec<Progress>,
    text: Text,
    facts: Vec<Fact>,
    events: Vec<Event>,
    /// The duties that the viewer could decide as.
    duties: Vec<&'static str>,
    /// Why the viewer cannot decide.
    why_not: Option<String>,
    digest: String,
    typed: Typed,
    problem: Option<String>,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let typed = Typed { open: "approve", ..Typed::default() };
    page(&app, &viewer, &window, typed, None).await
}

async fn page(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    mut typed: Typed,
    problem: Option<Failure>,
) -> Result<Response, Failure> {
    let frame = Frame::new(app, viewer, "/approvals");
    let snapshot = app.snapshot();
    let site = &snapshot.site;
    let phase = window.phase(frame.now);
    let (duties, why_not) = deciding(app, viewer, window);
    if typed.start.is_empty() {
        let zone = frame.zone.zone()?;
        typed.start = view::typed(zone, window.request.start);
        typed.end = view::typed(zone, window.request.end);
    }
    let status = problem.as_ref().map_or(StatusCode::OK, Failure::status);
    let replays = INVESTIGATORS.admits(&viewer.user);
    let page = ApprovalPage {
        id: window.id().to_string(),
        short: view::short(window.id()),
        phase: phase.as_str(),
        pill: view::pill(phase),
        steps: view::progress(&frame, site, window),
        text: Text::new(&frame, &snapshot, window),
        facts: facts::gather(&app.store, &frame, &snapshot, window, replays).await?,
        events: events::events(&app.store, &frame, site, window.id()).await?,
        duties,
        why_not,
        digest: window.request.digest().to_string(),
        typed,
        problem: problem.map(|p| frame::sentence(&p.to_string())),
        frame,
    };
    Ok((status, frame::page(&page)?).into_response())
}

/// The duties among the viewer's that could approve now, or why none can: the rules are asked, on a copy.
fn deciding(app: &App, viewer: &Viewer, window: &Window) -> (Vec<&'static str>, Option<String>) {
    let digest = window.request.digest();
    let mut duties = Vec::new();
    let mut why = None;
    for duty in viewer.approving_duties() {
        match window.clone().approve(&viewer.user, duty, digest, app.now()) {
            Ok(_) => duties.push(duty.as_str()),
            Err(refusal) => why = Some(frame::sentence(&refusal.to_string())),
        }
    }
    if duties.is_empty() { (duties, why) } else { (duties, None) }
}

/// Back to the request, or its page again with what is wrong and what was typed.
async fn done(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    typed: Typed,
    result: Result<(), Failure>,
) -> Result<Response, Failure> {
    match result {
        Ok(()) => Ok(Redirect::to(&format!("/approvals/{}", window.id())).into_response()),
        Err(problem @ (Failure::Internal | Failure::Unavailable(_))) => Err(problem),
        // Read again: what is wrong may be that it changed.
        Err(problem) => {
            let window = act::visible(app, viewer, &window.id().to_string()).await?.window;
            page(app, viewer, &window, typed, Some(problem)).await
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Approving {
    digest: String,
    #[serde(default)]
    duty: String,
    #[serde(default)]
    remark: String,
    #[serde(flatten)]
    step: Step,
}

pub(super) async fn approve(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(approving): Form<Approving>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = match act::approving_duty(&approving.duty) {
        Ok(duty) => {
            let Approving { digest, remark, step, .. } = &approving;
            act::approve(&app, &viewer, &window, duty, digest, remark, step).await.map(drop)
        }
        Err(problem) => Err(problem),
    };
    let typed = Typed { remark: approving.remark, open: "approve", ..Typed::default() };
    done(&app, &viewer, &window, typed, result).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusing {
    reason: String,
    #[serde(default)]
    duty: String,
    #[serde(default)]
    start: String,
    #[serde(default)]
    end: String,
}

pub(super) async fn refuse(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(refusing): Form<Refusing>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = decline(&app, &viewer, &window, &refusing, None).await;
    let typed = Typed { reason: refusing.reason, open: "refuse", ..Typed::default() };
    done(&app, &viewer, &window, typed, result).await
}

/// A refusal with times that would suit: the requester can take them over into a new request.
pub(super) async fn suggest(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(refusing): Form<Refusing>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = match times(&app, &refusing.start, &refusing.end) {
        Ok(times) => decline(&app, &viewer, &window, &refusing, Some(times)).await,
        Err(problem) => Err(problem),
    };
    let Refusing { reason, start, end, .. } = refusing;
    done(&app, &viewer, &window, Typed { reason, start, end, open: "suggest", ..Typed::default() }, result)
        .await
}

async fn decline(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    refusing: &Refusing,
    suggested: Option<Times>,
) -> Result<(), Failure> {
    let duty: Option<Duty> = act::approving_duty(&refusing.duty)?;
    act::refuse(app, viewer, window.id(), duty, &refusing.reason, suggested).await.map(drop)
}

fn times(app: &App, start: &str, end: &str) -> Result<Times, Failure> {
    let clock = frame::Clock::new(&app.snapshot().site.settings.time_zone);
    let zone = clock.zone()?;
    let start = zone.parse(start, app.now()).map_err(Failure::invalid)?;
    let end = zone.parse(end, start).map_err(Failure::invalid)?;
    Ok(Times { start, end })
}
