//! Desktops for programs: a token for one log-in by RDP. It takes what the page takes.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::body::Body;
use crate::{
    error::Problem, frame::WORKERS, pages::desktop, routes::Routes, services::App, step_up::Proof,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.api_post("/api/v1/desktops", WORKERS, "connect", open)
}

#[derive(OpenApi)]
#[openapi(paths(open))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Which desktop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The machine.
    asset: String,
    /// The account there.
    login: String,
    /// A fresh code of the person's authenticator, or a recovery code.
    #[serde(default)]
    code: String,
}

/// What opens it once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pass {
    /// Where to connect: `host:port`.
    address: String,
    /// The user name for the client.
    user_name: String,
    /// The password for the client: works once.
    token: String,
    /// RFC 3339, UTC.
    expires: String,
}

/// A token for one log-in to a desktop, within a minute; takes a fresh code.
#[utoipa::path(post, path = "/api/v1/desktops", request_body = Wanted, tag = "sessions",
    responses((status = 200, body = Pass), (status = 403), (status = 404), (status = 409)))]
pub(crate) async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Pass>, Problem> {
    let proof = Proof { code: &wanted.code, ..Proof::default() };
    let opened = desktop::pass(&app, &viewer, &wanted.asset, &wanted.login, proof).await?;
    let address = app.services.desktops.as_ref().map(|d| d.address().to_owned()).unwrap_or_default();
    Ok(Json(Pass {
        address,
        user_name: opened.pass.user_name,
        token: opened.pass.token.to_string(),
        expires: opened.pass.expires_at.to_string(),
    }))
}
