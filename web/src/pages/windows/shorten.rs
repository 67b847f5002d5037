//! An earlier end: shown first, then done with a fresh factor that is bound to exactly that end.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::window::Window;
use serde::Deserialize;

use super::{
    act::{self, Step},
    events, show, view,
};
use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    services::App,
    viewer::Viewer,
};

#[derive(Debug, Deserialize)]
pub(super) struct Shortening {
    /// As typed; as sent again, the exact moment.
    end: String,
    #[serde(flatten)]
    step: Step,
}

#[derive(Template)]
#[template(path = "windows/shorten.html")]
struct ShortenPage {
    frame: Frame,
    id: String,
    short: String,
    /// The end as it stands.
    ends: Moment,
    /// The end as it would be; none while something is wrong.
    to: Option<Moment>,
    /// That end exactly, or what was typed.
    end: String,
    /// Sessions that run through the window now.
    running: usize,
    digest: String,
    problem: Option<String>,
}

pub(super) async fn check(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(shortening): Form<Shortening>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    page(&app, &viewer, &window, &shortening.end, None).await
}

pub(super) async fn send(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(shortening): Form<Shortening>,
) -> Result<Response, Failure> {
    let window = act::visible(&app, &viewer, &id).await?.window;
    let result = match show::read_end(&app, &shortening.end, app.now()) {
        Ok(end) => act::shorten(&app, &viewer, &window, end, &shortening.step).await,
        Err(problem) => Err(problem),
    };
    match result {
        Ok(window) => Ok(Redirect::to(&format!("/windows/{}", window.id())).into_response()),
        Err(problem @ (Failure::Internal | Failure::Unavailable(_))) => Err(problem),
        Err(problem) => page(&app, &viewer, &window, &shortening.end, Some(problem)).await,
    }
}

/// What would happen, with the step-up that does it; or what is wrong, with what was typed.
async fn page(
    app: &App,
    viewer: &Viewer,
    window: &Window,
    typed: &str,
    problem: Option<Failure>,
) -> Result<Response, Failure> {
    let frame = Frame::new(app, viewer, "/windows");
    let tried = show::read_end(app, typed, frame.now)
        .and_then(|end| act::try_shortening(app, viewer, window, end).map(|()| end));
    let (to, end, digest, problem) = match tried {
        Ok(end) => {
            let digest = act::shortening_purpose(window.id(), end).digest;
            (Some(frame.at(&end)), end.to_string(), digest, problem)
        }
        Err(wrong) => (None, typed.to_owned(), String::new(), Some(wrong)),
    };
    let sessions = events::sessions(&app.store, &frame, &app.snapshot().site, window.id()).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, Failure::status);
    let page = ShortenPage {
        id: window.id().to_string(),
        short: view::short(window.id()),
        ends: frame.at(&window.effective_end()),
        to,
        end,
        running: sessions.iter().filter(|s| s.ended.is_none()).count(),
        digest,
        problem: problem.map(|p| frame::sentence(&p.to_string())),
        frame,
    };
    Ok((status, frame::page(&page)?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders_with_what_was_typed_escaped() {
        for to in [true, false] {
            let frame = Frame::sample("/windows");
            let at = frame.at(&frame.now);
            let page = ShortenPage {
                id: "window".into(),
                short: "W-1".into(),
                ends: at.clone(),
                to: to.then_some(at),
                end: "\"><script>".into(),
                running: 2,
                digest: "d".repeat(64),
                problem: Some("<script>".into()),
                frame,
            };
            assert!(!page.render().unwrap().contains("<script>"));
        }
    }
}
