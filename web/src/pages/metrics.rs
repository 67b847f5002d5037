//! The six metrics, and how they went over the last days.

use askama::Template;
use axum::{extract::State, response::Response};
use cofferdam_access::metrics::{Checked, Metric, Trend, six};

use crate::{
    admin::{Background, METRICS_DAYS},
    error::Failure,
    frame::{self, Frame, Moment},
    routes::{Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

/// Width and height of a trend's picture.
const SPARK: (f64, f64) = (120.0, 32.0);

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/metrics", SITE_READERS, show)
}

struct Tile {
    title: &'static str,
    value: String,
    unit: &'static str,
    before: String,
    basis: String,
    /// The line of the trend, and the area below it; empty where there is nothing to draw.
    line: String,
    area: String,
    goal: Goal,
}

struct Goal {
    tone: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "metrics.html")]
struct MetricsPage {
    frame: Frame,
    at: Moment,
    days: u16,
    tiles: Vec<Tile>,
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let looked = Background::metrics(&app).await?;
    let frame = Frame::new(&app, &viewer, "/metrics");
    let metrics =
        six(&app.snapshot().site, &app.store.discoveries().await?, &looked.trend.sum(), Checked::BySeal);
    let tiles = metrics.into_iter().map(|m| tile(m, &looked.trend)).collect();
    frame::page(&MetricsPage { at: frame.at(&looked.at), days: METRICS_DAYS, tiles, frame })
}

fn tile(metric: Metric, trend: &Trend) -> Tile {
    let values = trend.of(metric.id);
    let first = values.iter().flatten().next().copied();
    let (line, area) = spark(&values);
    Tile {
        title: metric.title,
        value: shown(metric.value),
        unit: metric.unit,
        before: shown(first),
        goal: goal(&metric),
        basis: metric.basis,
        line,
        area,
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(v) if v.fract().abs() < 0.05 => format!("{v:.0}"),
        Some(v) => format!("{v:.1}"),
    }
}

/// Where a good site stands.
fn goal(metric: &Metric) -> Goal {
    let Some(value) = metric.value else {
        return Goal { tone: "t-off", text: "nothing to measure yet".to_owned() };
    };
    let met = |is: bool, text: &str| Goal {
        tone: if is { "t-ok" } else { "t-warn" },
        text: format!("goal {text}: {}", if is { "met" } else { "not met" }),
    };
    match metric.id {
        "sessions_proven" | "guarded_assets" => met(value >= 100.0, "100 %"),
        "shared_accounts" => met(value <= 0.0, "0"),
        "detection_time" => met(value <= 60.0, "under 60 s"),
        _ => Goal { tone: "t-info", text: "to watch".to_owned() },
    }
}

/// The trend as paths. Days without a number are passed over.
fn spark(values: &[Option<f64>]) -> (String, String) {
    let known: Vec<(usize, f64)> = values.iter().enumerate().filter_map(|(n, v)| v.map(|v| (n, v))).collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return Default::default() };
    if known.len() < 2 {
        return Default::default();
    }
    let top = known.iter().map(|(_, v)| *v).fold(f64::MIN_POSITIVE, f64::max);
    let step = SPARK.0 / (values.len().saturating_sub(1).max(1) as f64);
    let x = |n: usize| n as f64 * step;
    let y = |v: f64| SPARK.1 - 3.0 - v / top * (SPARK.1 - 6.0);
    let mut points = String::new();
    for (n, v) in &known {
        points.push_str(&format!("L{:.1} {:.1}", x(*n), y(*v)));
    }
    let line = points.replacen('L', "M", 1);
    let area = format!("M{:.1} {}{points}L{:.1} {}z", x(first.0), SPARK.1, x(last.0), SPARK.1);
    (line, area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Site;

    #[tokio::test]
    async fn the_page_shows_all_six_to_those_who_read_the_site() {
        let site = Site::new().await;
        let olga = site.log_in("olga").await;
        let shown = olga.get("/metrics").await;
        assert_eq!(shown.status, 200, "{}", shown.text);
        assert_eq!(shown.text.matches("card tile").count(), 6);
        assert!(shown.text.contains("shared and unknown accounts left in critical zones"));
        assert_eq!(site.log_in("vera").await.get("/metrics").await.status, 403);
    }

    #[test]
    fn a_trend_is_drawn_inside_its_picture() {
        let (line, area) = spark(&[Some(0.0), None, Some(10.0), Some(5.0)]);
        assert_eq!(line, "M0.0 29.0L80.0 3.0L120.0 16.0");
        assert!(area.ends_with("L120.0 32z"), "{area}");
        assert_eq!(spark(&[None, Some(1.0)]), Default::default());
        assert!(!spark(&[Some(0.0), Some(0.0)]).0.contains("NaN"));
    }

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/metrics");
        let metric = six(&Default::default(), &[], &Default::default(), Checked::BySeal)[0].clone();
        let page = MetricsPage {
            at: frame.at(&frame.now),
            days: 30,
            tiles: vec![tile(metric, &Trend::default())],
            frame,
        };
        assert!(page.render().unwrap().contains("nothing to measure yet"));
    }
}
