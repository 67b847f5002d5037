//! Asking for a window: the form, what it comes to with what will be recorded, and sending it with a fresh factor.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    site::{PlantState, Protocol},
    window::{Operation, Window},
};
use serde::Deserialize;

use super::{
    act,
    form::{self, Offered, Typed, Wrong},
    view::{self, Text},
};
use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame},
    services::App,
    viewer::Viewer,
};

#[derive(Template)]
#[template(path = "windows/request.html")]
struct RequestPage {
    frame: Frame,
    offered: Vec<Offered>,
    typed: Typed,
    wrong: Wrong,
    /// Where the viewer comes from, as the policy sees it.
    address: String,
    longest: String,
}

impl RequestPage {
    fn has(&self, list: &[String], value: &str) -> bool {
        list.iter().any(|v| v == value)
    }

    fn operations(&self) -> [(&'static str, &'static str); 3] {
        Operation::ALL.map(|o| {
            let text = match o {
                Operation::View => "look, read files and values",
                Operation::Operate => "shells, commands, set points",
                Operation::Program => "change logic or firmware",
            };
            (o.as_str(), text)
        })
    }

    fn states(&self) -> [&'static str; 4] {
        PlantState::ALL.map(PlantState::as_str)
    }

    /// Each protocol that is offered, with what is kept of it.
    fn kept(&self) -> Vec<(&'static str, &'static str)> {
        let protocols: std::collections::BTreeSet<Protocol> =
            self.offered.iter().flat_map(|o| o.protocols.iter().copied()).collect();
        protocols.into_iter().map(|p| (p.as_str(), form::recorded(p))).collect()
    }
}

#[derive(Template)]
#[template(path = "windows/confirm.html")]
struct ConfirmPage {
    frame: Frame,
    text: Text,
    fields: Vec<(&'static str, String)>,
    /// What is recorded: machine and protocol, and what of it.
    kept: Vec<(String, &'static str)>,
    digest: String,
    problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct From {
    /// A window to ask for again.
    #[serde(default)]
    from: String,
    /// An account to ask for.
    #[serde(default)]
    account: String,
}

pub(super) async fn blank(
    State(app): State<App>,
    viewer: Viewer,
    Query(from): Query<From>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/windows/new");
    let mut typed = Typed::default();
    if !from.from.is_empty() {
        let window = act::visible(&app, &viewer, &from.from).await?.window;
        typed = Typed::again(&window, frame.zone.zone()?);
    }
    if !from.account.is_empty() {
        typed.accounts = vec![from.account];
    }
    let offered = form::offered(&app, &viewer);
    page(&app, &viewer, frame, offered, typed, Wrong::default())
}

fn page(
    app: &App,
    viewer: &Viewer,
    frame: Frame,
    offered: Vec<Offered>,
    typed: Typed,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let status = if wrong.0.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let longest = i64::from(app.snapshot().site.settings.longest_window_seconds);
    let page = RequestPage {
        address: viewer.address().to_string(),
        longest: view::length(frame.now, frame.now.plus_seconds(longest)),
        frame,
        offered,
        typed,
        wrong,
    };
    Ok((status, frame::page(&page)?).into_response())
}

pub(super) async fn check(
    State(app): State<App>,
    viewer: Viewer,
    Form(typed): Form<Typed>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/windows/new");
    let offered = form::offered(&app, &viewer);
    if typed.change.is_empty() {
        confirm(&app, &viewer, frame, offered, typed, None)
    } else {
        page(&app, &viewer, frame, offered, typed, Wrong::default())
    }
}

pub(super) async fn send(
    State(app): State<App>,
    viewer: Viewer,
    Form(typed): Form<Typed>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/windows/new");
    let offered = form::offered(&app, &viewer);
    let asked = match typed.read(&app, &viewer, frame.zone.zone()?, &offered) {
        Ok(asked) => asked,
        Err(wrong) => return page(&app, &viewer, frame, offered, typed, wrong),
    };
    match act::request(&app, &viewer, &asked, &typed.step()).await {
        Ok(window) => Ok(Redirect::to(&format!("/windows/{}", window.id())).into_response()),
        Err(problem @ (Failure::Internal | Failure::Unavailable(_))) => Err(problem),
        Err(problem) => confirm(&app, &viewer, frame, offered, typed, Some(problem)),
    }
}

fn confirm(
    app: &App,
    viewer: &Viewer,
    frame: Frame,
    offered: Vec<Offered>,
    typed: Typed,
    problem: Option<Failure>,
) -> Result<Response, Failure> {
    let asked = match typed.read(app, viewer, frame.zone.zone()?, &offered) {
        Ok(asked) => asked,
        Err(wrong) => return page(app, viewer, frame, offered, typed, wrong),
    };
    let digest = asked.purpose().digest;
    let window = Window::requested(asked.0);
    let concerned = view::assets(&window);
    let kept = offered
        .iter()
        .filter(|o| concerned.contains(&&o.asset))
        .flat_map(|o| {
            o.protocols.iter().map(|p| (format!("{}, {}", o.asset, p.as_str()), form::recorded(*p)))
        })
        .collect();
    let status = problem.as_ref().map_or(StatusCode::OK, Failure::status);
    let page = ConfirmPage {
        text: Text::new(&frame, &app.snapshot(), &window),
        fields: typed.fields(),
        kept,
        digest,
        problem: problem.map(|p| frame::sentence(&p.to_string())),
        frame,
    };
    Ok((status, frame::page(&page)?).into_response())
}
