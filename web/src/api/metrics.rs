//! The six metrics, as JSON and as Prometheus takes them; and how the process is.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use cofferdam_access::{
    clock::Timestamp,
    metrics::{Checked, Metric, six},
    store::CheckoutFilter,
};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::body::Reply;
use crate::{
    admin::Background,
    error::Problem,
    routes::{ADMINISTRATORS, Routes, SITE_READERS},
    services::App,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/metrics", SITE_READERS, "read", metrics)
        .api_get("/api/v1/metrics/prometheus", SITE_READERS, "read", prometheus)
        .api_get("/api/v1/health", ADMINISTRATORS, "read", health)
}

#[derive(OpenApi)]
#[openapi(paths(metrics, prometheus, health))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// A metric with its trend.
#[derive(Serialize, ToSchema)]
struct Shown {
    id: &'static str,
    title: &'static str,
    /// None: it cannot be computed (yet).
    value: Option<f64>,
    unit: &'static str,
    /// What it was computed from.
    basis: String,
    /// Day by day, the newest last.
    days: Vec<Day>,
}

/// One day of a metric.
#[derive(Serialize, ToSchema)]
struct Day {
    /// The day's first moment in the site's zone; RFC 3339, UTC.
    from: String,
    value: Option<f64>,
}

/// The six metrics of the last 30 days.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "metrics", responses((status = 200, body = [Shown])))]
async fn metrics(State(app): State<App>) -> Reply<Vec<Shown>> {
    let looked = Background::metrics(&app).await?;
    let all =
        six(&app.snapshot().site, &app.store.discoveries().await?, &looked.trend.sum(), Checked::BySeal);
    let shown = all.into_iter().map(|m| Shown {
        days: looked
            .trend
            .days
            .iter()
            .zip(looked.trend.of(m.id))
            .map(|(day, value)| Day { from: day.from.to_string(), value })
            .collect(),
        id: m.id,
        title: m.title,
        value: m.value,
        unit: m.unit,
        basis: m.basis,
    });
    Ok(Json(shown.collect()))
}

/// The six metrics, the live sessions of this node, the secrets that people see and the end of its certificate in Prometheus'
/// text format.
#[utoipa::path(get, path = "/api/v1/metrics/prometheus", tag = "metrics",
    responses((status = 200, content_type = "text/plain", body = String)))]
async fn prometheus(State(app): State<App>) -> Result<Response, Problem> {
    let looked = Background::metrics(&app).await?;
    let all =
        six(&app.snapshot().site, &app.store.discoveries().await?, &looked.trend.sum(), Checked::BySeal);
    let open = CheckoutFilter { state: Some("open"), ..CheckoutFilter::default() };
    let seen = app.store.checkouts(&open).await?.len();
    let body = exposition(&all, app.live.list().len(), seen, app.health.certificate_ends());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Prometheus' text format 0.0.4. A metric that cannot be computed is left out. Names and texts are ours alone, so nothing
/// needs to be escaped.
fn exposition(metrics: &[Metric], live: usize, seen: usize, certificate_ends: Timestamp) -> String {
    let mut text = String::new();
    for (metric, value) in metrics.iter().filter_map(|m| Some((m, m.value?))) {
        let name = match metric.id {
            "sessions_proven" => "cofferdam_sessions_proven_percent",
            "shared_accounts" => "cofferdam_shared_accounts",
            "guarded_assets" => "cofferdam_guarded_assets_percent",
            "exception_close_time" => "cofferdam_exception_close_seconds",
            "blocked_lateral_movements" => "cofferdam_blocked_lateral_movements",
            "detection_time" => "cofferdam_detection_seconds",
            _ => continue,
        };
        text.push_str(&format!("# HELP {name} {}\n# TYPE {name} gauge\n{name} {value}\n", metric.title));
    }
    let name = "cofferdam_live_sessions";
    text.push_str(&format!("# HELP {name} live sessions of this node\n# TYPE {name} gauge\n{name} {live}\n"));
    let (name, help) = ("cofferdam_open_checkouts", "secrets that people have checked out, on all nodes");
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {seen}\n"));
    let (name, ends) = ("cofferdam_web_certificate_end_seconds", certificate_ends.seconds());
    let help = "when the web interface's certificate ends, seconds since 1970";
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {ends}\n"));
    text
}

/// A part of the process.
#[derive(Serialize, ToSchema)]
struct Part {
    id: &'static str,
    well: bool,
    /// In plain words, with what to do where it is not well.
    text: String,
}

/// How the process is, part by part.
#[utoipa::path(get, path = "/api/v1/health", tag = "metrics", responses((status = 200, body = [Part])))]
async fn health(State(app): State<App>) -> Reply<Vec<Part>> {
    let parts = app.health.look().await;
    Ok(Json(parts.into_iter().map(|p| Part { id: p.name, well: p.well, text: p.text }).collect()))
}

#[cfg(test)]
mod tests {
    use crate::testing::Site;

    #[tokio::test]
    async fn the_six_come_with_thirty_days_each() {
        let site = Site::new().await;
        let token = site.token("sam", &["read"]).await;
        let all = site.api_get(&token, "/api/v1/metrics").await.json();
        assert_eq!(all.as_array().unwrap().len(), 6);
        assert_eq!(all[1]["days"].as_array().unwrap().len(), 30);
        assert_eq!(all[1]["value"], 1.0, "operator@pump-hmi has a standing password");
        let days = all[1]["days"].as_array().unwrap();
        assert_eq!(days.last().unwrap()["value"], 1.0);
        assert_eq!(days[0]["value"], 0.0, "the site was not described yet a month ago");
    }

    #[tokio::test]
    async fn prometheus_is_told_what_can_be_computed() {
        let site = Site::new().await;
        let token = site.token("sam", &["read"]).await;
        let answer = site.api_get(&token, "/api/v1/metrics/prometheus").await;
        assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
        assert!(answer.text.contains("\ncofferdam_shared_accounts 1\n"), "{}", answer.text);
        assert!(answer.text.contains("\ncofferdam_open_checkouts 0\n"), "{}", answer.text);
        assert!(!answer.text.contains("cofferdam_exception_close_seconds"), "no number is no zero");
        let vera = site.token("vera", &["read"]).await;
        assert_eq!(site.api_get(&vera, "/api/v1/metrics/prometheus").await.status, 403);
    }
}
