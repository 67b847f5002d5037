//! The pages, one file for each part of the work.

mod account;
mod approvals;
mod audit;
mod ca;
mod checkouts;
pub(crate) mod desktop;
mod ends;
mod enrol;
mod health;
mod home;
mod lines;
pub(crate) mod live;
pub(crate) mod login;
mod metrics;
mod people;
mod plant;
mod policies;
pub(crate) mod recordings;
mod site;
mod terminal;
mod vault;
pub(crate) mod windows;

use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    assets,
    error::{Failure, Problem},
    form::Form,
    passkeys::Question,
    routes::{Routes, Rule},
    services::App,
    step_up,
    viewer::Viewer,
};

pub(crate) use approvals::Desk;
pub(crate) use live::{Board, control};

/// All of them.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/assets/{print}/{name}", Rule::Public, assets::serve)
        .post("/step-up", Rule::LoggedIn, ask)
        .with(ca::routes)
        .with(login::routes)
        .with(enrol::routes)
        .with(account::routes)
        .with(home::routes)
        .with(windows::routes)
        .with(approvals::routes)
        .with(live::routes)
        .with(terminal::routes)
        .with(desktop::routes)
        .with(recordings::routes)
        .with(people::routes)
        .with(plant::routes)
        .with(site::routes)
        .with(policies::routes)
        .with(vault::routes)
        .with(checkouts::routes)
        .with(audit::routes)
        .with(metrics::routes)
        .with(health::routes)
}

#[derive(Debug, Deserialize)]
struct Wanted {
    action: String,
    digest: String,
}

/// A question for the viewer's passkey. The answer serves for the action and digest named here alone, and the action
/// itself computes the digest anew.
async fn ask(
    State(app): State<App>,
    viewer: Viewer,
    Form(wanted): Form<Wanted>,
) -> Result<Json<Question>, Problem> {
    let fits = wanted.action.len() <= 64
        && wanted.digest.len() == 64
        && wanted.digest.bytes().all(|b| b.is_ascii_hexdigit());
    if !fits {
        return Err(Failure::Invalid("there is no such action".into()).into());
    }
    Ok(Json(step_up::ask(&app, &viewer, &wanted.action, &wanted.digest).await?))
}
