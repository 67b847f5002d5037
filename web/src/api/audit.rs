//! The audit log.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use cofferdam_access::{audit::AuditEntry, store::MAX_ROWS};
use serde::Serialize;
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use super::body::{Body, Query, Reply};
use crate::{
    admin::{
        Background,
        audit::{self, Wanted},
    },
    error::Problem,
    routes::{AUDITORS, Routes},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/audit", AUDITORS, "investigate", list)
        .api_get("/api/v1/audit/export", AUDITORS, "investigate", export)
        .api_get("/api/v1/audit/chain", AUDITORS, "investigate", chain)
        .api_post("/api/v1/audit/verify", AUDITORS, "investigate", verify)
}

#[derive(OpenApi)]
#[openapi(paths(list, export, chain, verify))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// An entry.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// Its number.
    id: String,
    seq: u64,
    /// RFC 3339, UTC.
    at: String,
    kind: String,
    actor: String,
    subject: String,
    /// Details; text where the entry was edited and is no JSON any more.
    body: Value,
    hash: String,
}

fn entry(e: AuditEntry) -> Entry {
    Entry {
        id: e.seq.to_string(),
        seq: e.seq,
        at: e.at.to_string(),
        kind: e.kind,
        actor: e.actor,
        subject: e.subject,
        body: serde_json::from_str(&e.body).unwrap_or(Value::String(e.body)),
        hash: e.hash,
    }
}

/// Entries, the newest first; at most 1000, more by `before`.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Wanted),
    responses((status = 200, body = [Entry]), (status = 422)))]
async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Reply<Vec<Entry>> {
    let entries = audit::page(&app, &wanted, MAX_ROWS).await?;
    Ok(Json(entries.into_iter().map(entry).collect()))
}

/// Entries exactly as signed, one JSON object a line, the oldest first.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(Wanted),
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 503)))]
async fn export(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let body = audit::export(&app, &viewer, &wanted).await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response())
}

/// What is known about the chain.
#[derive(Serialize, ToSchema)]
struct Chain {
    id: &'static str,
    /// A verification is under way since then; RFC 3339, UTC.
    running_since: Option<String>,
    /// What the last verification of this node found.
    #[schema(value_type = Option<Value>)]
    report: Option<Value>,
    /// Why the last verification could not be done.
    problem: Option<String>,
    /// The newest entry, signed: number, time, hash, key and signature.
    #[schema(value_type = Option<Value>)]
    head: Option<Value>,
}

async fn state(app: &App) -> Result<Chain, Problem> {
    let verification = app.background.verification();
    let (report, problem) = match verification.last {
        Some((_, Ok(report))) => (serde_json::to_value(report).ok(), None),
        Some((_, Err(text))) => (None, Some(text)),
        None => (None, None),
    };
    Ok(Chain {
        id: "audit",
        running_since: verification.running.map(|t| t.to_string()),
        report,
        problem,
        head: app.store.head().await?.and_then(|h| serde_json::to_value(h).ok()),
    })
}

/// The state of the chain as this node knows it.
#[utoipa::path(get, path = "/api/v1/audit/chain", tag = "audit", responses((status = 200, body = Chain)))]
async fn chain(State(app): State<App>) -> Reply<Chain> {
    Ok(Json(state(&app).await?))
}

/// Verifies the whole log, in the background; one verification at a time.
#[utoipa::path(post, path = "/api/v1/audit/verify", tag = "audit", request_body = Value,
    responses((status = 200, body = Chain)))]
async fn verify(State(app): State<App>, viewer: Viewer, Body(_): Body<Value>) -> Reply<Chain> {
    Background::verify(&app, viewer.act(app.now()));
    Ok(Json(state(&app).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Site;

    #[tokio::test]
    async fn entries_come_with_their_details_and_only_to_auditors() {
        let site = Site::new().await;
        site.ask(|_| ()).await;
        let token = site.token("ivan", &["investigate"]).await;
        let found = site.api_get(&token, "/api/v1/audit?kind=window.requested").await.json();
        assert_eq!(found[0]["body"]["request"]["purpose"], "Yearly service of pump P-101");
        let wrong = site.api_get(&token, "/api/v1/audit?kind=nonsense").await;
        assert_eq!(wrong.status, 422);
        assert_eq!(site.api_get(&token, "/api/v1/audit?before=x").await.status, 422);
        let olga = site.token("olga", &["investigate"]).await;
        assert_eq!(site.api_get(&olga, "/api/v1/audit").await.status, 403);
    }

    #[tokio::test]
    async fn a_verification_runs_in_the_background_and_its_report_is_kept() {
        let site = Site::new().await;
        let token = site.token("ivan", &["investigate"]).await;
        let begun = site.api_post(&token, "/api/v1/audit/verify", &json!({})).await;
        assert_eq!(begun.status, 200, "{}", begun.text);
        for _ in 0..200 {
            let chain = site.api_get(&token, "/api/v1/audit/chain").await.json();
            if chain["report"]["first_bad"].is_null() && chain["report"]["entries"].as_u64() > Some(0) {
                assert!(chain["head"]["signature"].is_string());
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the verification never ended");
    }
}
