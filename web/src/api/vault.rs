//! Secrets that the vault changes: where each stands, who changed it, and asking for a change. Never a value.

use axum::{
    Json,
    extract::{Path, State},
};
use cofferdam_access::store::RotationStanding;
use cofferdam_vault::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::body::{Body, Code, Reply};
use crate::{
    admin::vault,
    checkouts::Gate,
    error::Failure,
    routes::{ADMINISTRATORS, Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/vault", SITE_READERS, "read", rotations)
        .api_get("/api/v1/vault/state", SITE_READERS, "read", state)
        .api_post("/api/v1/vault/unseal", SITE_READERS, "administer", unseal)
        .api_get("/api/v1/vault/{account}/history", SITE_READERS, "read", history)
        .api_post("/api/v1/vault/{account}/rotate", ADMINISTRATORS, "administer", rotate)
}

#[derive(OpenApi)]
#[openapi(paths(rotations, state, unseal, history, rotate))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Where the rotation of an account's secret stands.
#[derive(Serialize, ToSchema)]
struct Standing {
    /// The account, `login@asset`.
    id: String,
    /// `idle`, `stored`, `sent`, `unsure`, `verified` or `failed`.
    #[schema(value_type = String)]
    state: cofferdam_vault::rotation::State,
    /// Why a change was asked for that is not done yet: `schedule`, `after_use`, `break_glass`, `demand` or `drift`.
    #[schema(value_type = Option<String>)]
    reason: Option<cofferdam_vault::rotation::Reason>,
    /// When the secret was last changed and proved; RFC 3339, UTC.
    rotated_at: Option<String>,
    /// When the target last took it.
    verified_at: Option<String>,
    /// When it is looked at next; none when somebody has to ask.
    next_at: Option<String>,
    /// Since when it does not work.
    failing_since: Option<String>,
    /// What is the matter.
    trouble: Option<String>,
}

impl From<RotationStanding> for Standing {
    fn from(one: RotationStanding) -> Self {
        let text = |at: Option<cofferdam_access::clock::Timestamp>| at.map(|t| t.to_string());
        Self {
            id: one.account.to_string(),
            state: one.state,
            reason: one.reason,
            rotated_at: text(one.rotated_at),
            verified_at: text(one.verified_at),
            next_at: text(one.next_at),
            failing_since: text(one.failing_since),
            trouble: one.trouble,
        }
    }
}

/// The accounts whose secrets the vault changes.
#[utoipa::path(get, path = "/api/v1/vault", tag = "vault", responses((status = 200, body = [Standing])))]
async fn rotations(State(app): State<App>) -> Reply<Vec<Standing>> {
    Ok(Json(app.store.rotations().await?.into_iter().map(Standing::from).collect()))
}

/// Where the vault is.
#[derive(Serialize, ToSchema)]
struct VaultState {
    open: bool,
    /// The same for people.
    text: String,
    /// The generations of its keys that are in use, the oldest first.
    generations: Vec<u32>,
}

impl From<Gate> for VaultState {
    fn from(gate: Gate) -> Self {
        Self { open: gate.open, text: gate.text, generations: gate.generations }
    }
}

/// Whether the vault is open.
#[utoipa::path(get, path = "/api/v1/vault/state", tag = "vault", responses((status = 200, body = VaultState)))]
async fn state(State(app): State<App>) -> Reply<VaultState> {
    Ok(Json(app.secrets.gate().await.into()))
}

/// What opens the vault: a share of its root, or its passphrase.
#[derive(Deserialize, ToSchema)]
struct Typed {
    typed: String,
}

/// Gives the vault a share or its passphrase, where `vault.unseal_over_web` allows that.
#[utoipa::path(post, path = "/api/v1/vault/unseal", tag = "vault", request_body = Typed,
    responses((status = 200, body = VaultState), (status = 403)))]
async fn unseal(State(app): State<App>, viewer: Viewer, Body(given): Body<Typed>) -> Reply<VaultState> {
    let typed = SecretString::from(given.typed.trim());
    let gate = app.secrets.unseal(&viewer.user.name, typed).await.map_err(Failure::Forbidden)?;
    Ok(Json(gate.into()))
}

/// One change of a secret. Never the value.
#[derive(Serialize, ToSchema)]
struct Change {
    version: u64,
    /// RFC 3339, UTC.
    at: String,
    by: String,
    /// `set`, `rotated` or `removed`.
    action: String,
}

/// Who changed an account's secret when, the newest first.
#[utoipa::path(get, path = "/api/v1/vault/{account}/history", tag = "vault",
    params(("account" = String, Path, description = "`login@asset`")),
    responses((status = 200, body = [Change]), (status = 404)))]
async fn history(State(app): State<App>, Path(account): Path<String>) -> Reply<Vec<Change>> {
    let standing = vault::read(&app, &account).await?;
    let history = app.store.secret_history(&standing.account).await?;
    let change = |h: cofferdam_access::store::SecretHistory| Change {
        version: h.version,
        at: h.at.to_string(),
        by: h.by,
        action: h.action,
    };
    Ok(Json(history.into_iter().map(change).collect()))
}

/// A change that was asked for.
#[derive(Serialize, ToSchema)]
struct Wanted {
    /// Counts the requests for this account.
    request: u64,
}

/// Asks for a new secret; it is made within seconds. Takes a fresh code.
#[utoipa::path(post, path = "/api/v1/vault/{account}/rotate", tag = "vault", request_body = Code,
    params(("account" = String, Path, description = "`login@asset`")),
    responses((status = 200, body = Wanted), (status = 403), (status = 404)))]
async fn rotate(
    State(app): State<App>,
    viewer: Viewer,
    Path(account): Path<String>,
    Body(code): Body<Code>,
) -> Reply<Wanted> {
    let standing = vault::read(&app, &account).await?;
    let request = vault::rotate(&app, &viewer, &standing.account, code.proof()).await?;
    Ok(Json(Wanted { request }))
}
