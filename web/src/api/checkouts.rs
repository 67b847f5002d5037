//! Check-outs for programs: the same rules as the pages. A secret stands in one answer only.

use axum::{
    Json,
    extract::{Path, State},
};
use cofferdam_access::{checkout::Checkout, store::KeptEnvelope};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::body::{Body, Code, Reply};
use crate::{
    checkouts::{self, INSIDE},
    pages::windows::act::approving_duty,
    routes::{APPROVERS, Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/checkouts", INSIDE, "read", list)
        .api_post("/api/v1/checkouts", INSIDE, "request", ask)
        .api_get("/api/v1/checkouts/{id}", INSIDE, "read", show)
        .api_post("/api/v1/checkouts/{id}/agree", APPROVERS, "decide", agree)
        .api_post("/api/v1/checkouts/{id}/refuse", INSIDE, ["decide", "request"], refuse)
        .api_post("/api/v1/checkouts/{id}/see", INSIDE, "request", see)
        .api_post("/api/v1/checkouts/{id}/return", INSIDE, ["decide", "request"], give_back)
        .api_get("/api/v1/envelopes", SITE_READERS, "read", envelopes)
}

#[derive(OpenApi)]
#[openapi(paths(list, ask, show, agree, refuse, see, give_back, envelopes))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// A check-out: what was asked for and what became of it. The names are those of `cofferdam vault checkouts --json`.
#[derive(Serialize, ToSchema)]
struct CheckoutBody {
    id: String,
    /// `waiting`, `agreed`, `lapsed`, `open`, `returned`, `expired` or `refused`.
    state: &'static str,
    /// `login@asset`.
    account: String,
    user: String,
    reason: String,
    /// For how long, from when it is seen.
    seconds: i64,
    /// RFC 3339, UTC.
    requested_at: String,
    /// Until when it waits.
    expires: String,
    /// SHA-256 of `text`: what others agree to.
    digest: String,
    text: String,
    /// Who agreed.
    agreed: Vec<String>,
    /// When it was seen.
    shown_at: Option<String>,
    /// When it ends, once it was seen.
    until: Option<String>,
}

impl CheckoutBody {
    fn of(app: &App, checkout: &Checkout) -> Self {
        let request = &checkout.request;
        Self {
            id: request.id.to_string(),
            state: checkout.phase(app.now()),
            account: request.account.to_string(),
            user: request.person.to_string(),
            reason: request.reason.clone(),
            seconds: request.seconds,
            requested_at: request.requested_at.to_string(),
            expires: request.expires.to_string(),
            digest: request.digest().to_string(),
            text: request.canonical_text(),
            agreed: checkout.agreements.iter().map(|a| a.by.to_string()).collect(),
            shown_at: checkout.shown.as_ref().map(|s| s.at.to_string()),
            until: checkout.shown.as_ref().map(|s| s.until.to_string()),
        }
    }
}

/// Check-outs that the person may see, the newest first.
#[utoipa::path(get, path = "/api/v1/checkouts", tag = "vault", operation_id = "checkouts",
    responses((status = 200, body = [CheckoutBody])))]
async fn list(State(app): State<App>, viewer: Viewer) -> Reply<Vec<CheckoutBody>> {
    let all = checkouts::list(&app, &viewer).await?;
    Ok(Json(all.iter().map(|one| CheckoutBody::of(&app, one)).collect()))
}

/// One check-out.
#[utoipa::path(get, path = "/api/v1/checkouts/{id}", tag = "vault", operation_id = "checkout",
    params(("id" = String, Path)), responses((status = 200, body = CheckoutBody), (status = 404)))]
async fn show(State(app): State<App>, viewer: Viewer, Path(id): Path<String>) -> Reply<CheckoutBody> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    Ok(Json(CheckoutBody::of(&app, &checkout)))
}

/// What somebody wants to see.
#[derive(Deserialize, ToSchema)]
struct AskBody {
    /// `login@asset`.
    account: String,
    reason: String,
    /// Up to `8h`.
    duration: String,
}

/// Asks to see a secret. On a crown jewel two others agree first.
#[utoipa::path(post, path = "/api/v1/checkouts", tag = "vault", operation_id = "ask_for_checkout",
    request_body = AskBody, responses((status = 200, body = CheckoutBody), (status = 403), (status = 422)))]
async fn ask(State(app): State<App>, viewer: Viewer, Body(body): Body<AskBody>) -> Reply<CheckoutBody> {
    let asked = checkouts::ask(&app, &viewer, &body.account, &body.reason, &body.duration).await?;
    Ok(Json(CheckoutBody::of(&app, &asked)))
}

/// A yes to exactly one text.
#[derive(Deserialize, ToSchema)]
struct AgreeBody {
    /// The digest of the text that was read.
    digest: String,
    /// `operations` or `security`; the one that the person holds and is missing.
    #[serde(default)]
    duty: String,
    #[serde(default)]
    remark: String,
    #[serde(flatten)]
    code: Code,
}

/// Agrees that somebody else sees a secret. Takes a fresh code.
#[utoipa::path(post, path = "/api/v1/checkouts/{id}/agree", tag = "vault", operation_id = "agree_to_checkout",
    params(("id" = String, Path)), request_body = AgreeBody,
    responses((status = 200, body = CheckoutBody), (status = 403), (status = 409)))]
async fn agree(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(body): Body<AgreeBody>,
) -> Reply<CheckoutBody> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let (duty, proof) = (approving_duty(&body.duty)?, body.code.proof());
    let done = checkouts::agree(&app, &viewer, &checkout, duty, &body.digest, &body.remark, proof).await?;
    Ok(Json(CheckoutBody::of(&app, &done)))
}

/// A no.
#[derive(Deserialize, ToSchema)]
struct RefuseCheckoutBody {
    reason: String,
}

/// Refuses a request to see a secret, or takes the person's own back.
#[utoipa::path(post, path = "/api/v1/checkouts/{id}/refuse", tag = "vault", operation_id = "refuse_checkout",
    params(("id" = String, Path)), request_body = RefuseCheckoutBody,
    responses((status = 200, body = CheckoutBody), (status = 409)))]
async fn refuse(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(body): Body<RefuseCheckoutBody>,
) -> Reply<CheckoutBody> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let done = checkouts::refuse(&app, &viewer, &checkout, &body.reason).await?;
    Ok(Json(CheckoutBody::of(&app, &done)))
}

/// A secret, once.
#[derive(Serialize, ToSchema)]
struct SeenBody {
    /// The check-out.
    checkout: CheckoutBody,
    /// The secret itself.
    #[schema(value_type = String)]
    secret: serde_json::Value,
}

/// Shows the secret of the person's own check-out, once. Takes a fresh code.
#[utoipa::path(post, path = "/api/v1/checkouts/{id}/see", tag = "vault", operation_id = "see_checkout",
    params(("id" = String, Path)), request_body = Code,
    responses((status = 200, body = SeenBody), (status = 403), (status = 409)))]
async fn see(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Body(code): Body<Code>,
) -> Reply<SeenBody> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let (opened, secret) = checkouts::see(&app, &viewer, &checkout, code.proof()).await?;
    Ok(Json(SeenBody { checkout: CheckoutBody::of(&app, &opened), secret: secret.expose().into() }))
}

/// Returns a secret that was seen.
#[utoipa::path(post, path = "/api/v1/checkouts/{id}/return", tag = "vault", operation_id = "return_checkout",
    params(("id" = String, Path)), responses((status = 200, body = CheckoutBody), (status = 409)))]
async fn give_back(State(app): State<App>, viewer: Viewer, Path(id): Path<String>) -> Reply<CheckoutBody> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let done = checkouts::give_back(&app, &viewer, &checkout).await?;
    Ok(Json(CheckoutBody::of(&app, &done)))
}

/// A break-glass envelope: that it exists, never what is inside.
#[derive(Serialize, ToSchema)]
struct EnvelopeBody {
    id: String,
    /// `login@asset`.
    account: String,
    version: u64,
    /// RFC 3339, UTC.
    made_at: String,
    made_by: String,
    /// Who can open it (`age1…`).
    recipients: Vec<String>,
    opened_at: Option<String>,
    /// The secret was changed since.
    outdated: bool,
}

impl From<KeptEnvelope> for EnvelopeBody {
    fn from(one: KeptEnvelope) -> Self {
        Self {
            id: one.id.to_string(),
            account: one.account.to_string(),
            version: one.version,
            made_at: one.made_at.to_string(),
            made_by: one.made_by,
            recipients: one.recipients,
            opened_at: one.opened_at.map(|at| at.to_string()),
            outdated: one.outdated,
        }
    }
}

/// Break-glass envelopes that exist, the newest first.
#[utoipa::path(get, path = "/api/v1/envelopes", tag = "vault", responses((status = 200, body = [EnvelopeBody])))]
async fn envelopes(State(app): State<App>) -> Reply<Vec<EnvelopeBody>> {
    Ok(Json(app.store.envelopes().await?.into_iter().map(EnvelopeBody::from).collect()))
}
