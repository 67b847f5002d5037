//! The plant's state, per zone: everybody who reads the site sees it, who runs the process sets it.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{people::Duty, site::PlantState};
use serde::Deserialize;

use crate::{
    admin::plant::{self, Touched, Wanted},
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    routes::{PROCESS, Routes, SITE_READERS},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/plant", SITE_READERS, show).post("/plant/preview", PROCESS, preview).post(
        "/plant/set",
        PROCESS,
        set,
    )
}

struct ZoneCard {
    name: String,
    title: String,
    state: &'static str,
    since: Option<Moment>,
    by: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "plant.html")]
struct PlantPage {
    frame: Frame,
    zones: Vec<ZoneCard>,
    states: Vec<&'static str>,
    may_set: bool,
}

#[derive(Template)]
#[template(path = "plant-preview.html")]
struct PreviewPage {
    frame: Frame,
    zone: String,
    state: &'static str,
    before: &'static str,
    reason: String,
    cut: Vec<Touched>,
    stay: usize,
    action: &'static str,
    digest: String,
    digest_parts: Vec<String>,
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/plant");
    let set = app.store.plant_states().await?;
    let snapshot = app.snapshot();
    // Zones that people come from have no process; they are shown last.
    let has_assets =
        |zone: &cofferdam_access::site::Zone| snapshot.site.assets.iter().any(|a| a.zone == zone.name);
    let mut zones: Vec<_> = snapshot.site.zones.iter().collect();
    zones.sort_by_key(|z| !has_assets(z));
    let card = |zone: &&cofferdam_access::site::Zone| {
        let record = set.iter().find(|r| r.zone == zone.name);
        ZoneCard {
            name: zone.name.to_string(),
            title: if zone.title.is_empty() { zone.name.to_string() } else { zone.title.clone() },
            state: record.map_or(PlantState::default(), |r| r.state).as_str(),
            since: frame.zone.maybe(record.map(|r| r.since)),
            by: record.map(|r| r.by.clone()).unwrap_or_default(),
            reason: record.map(|r| r.reason.clone()).unwrap_or_default(),
        }
    };
    let page = PlantPage {
        zones: zones.iter().map(card).collect(),
        states: PlantState::ALL.map(PlantState::as_str).to_vec(),
        may_set: viewer.holds(Duty::Operations),
        frame,
    };
    frame::page(&page)
}

#[derive(Deserialize)]
struct Asked {
    zone: String,
    state: String,
    reason: String,
}

async fn preview(
    State(app): State<App>,
    viewer: Viewer,
    Form(asked): Form<Asked>,
) -> Result<Response, Failure> {
    let wanted = Wanted::read(&app, &asked.zone, &asked.state, &asked.reason)?;
    let (cut, stay): (Vec<_>, Vec<_>) = plant::touched(&app, &wanted).await?.into_iter().partition(|t| t.cut);
    let digest = wanted.purpose().digest;
    let page = PreviewPage {
        frame: Frame::new(&app, &viewer, "/plant"),
        zone: wanted.zone.to_string(),
        state: wanted.state.as_str(),
        before: app.snapshot().plant_state(&wanted.zone).as_str(),
        reason: wanted.reason,
        cut,
        stay: stay.len(),
        action: plant::ACTION,
        digest_parts: frame::grouped(&digest),
        digest,
    };
    frame::page(&page)
}

#[derive(Deserialize)]
struct Set {
    zone: String,
    state: String,
    reason: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn set(State(app): State<App>, viewer: Viewer, Form(asked): Form<Set>) -> Result<Response, Failure> {
    let wanted = Wanted::read(&app, &asked.zone, &asked.state, &asked.reason)?;
    let proof = Proof { code: &asked.code, challenge: &asked.challenge, credential: &asked.credential };
    plant::set(&app, &viewer, &wanted, proof).await?;
    Ok(Redirect::to("/plant").into_response())
}

#[cfg(test)]
mod tests {
    use cofferdam_access::ids::SessionId;

    use super::*;
    use crate::testing::{Site, name};

    async fn state_of(site: &Site, zone: &str) -> String {
        let all = site.store().plant_states().await.unwrap();
        all.iter().find(|r| r.zone.as_str() == zone).map_or("production", |r| r.state.as_str()).to_owned()
    }

    #[tokio::test]
    async fn operations_sets_the_state_with_a_reason_and_a_fresh_code() {
        let site = Site::new().await;
        let olga = site.log_in("olga").await;
        let fields = [("zone", "cell-1"), ("state", "maintenance"), ("reason", "pump service")];
        let shown = olga.post("/plant/preview", &fields).await;
        assert_eq!(shown.status, 200, "{}", shown.text);
        let without = olga.post("/plant/set", &fields).await;
        assert_eq!(without.status, 403);
        assert_eq!(state_of(&site, "cell-1").await, "production");
        let code = site.code("olga");
        let done = olga.post("/plant/set", &[&fields[..], &[("code", &code)]].concat()).await;
        assert_eq!(done.status, 303, "{}", done.text);
        assert_eq!(state_of(&site, "cell-1").await, "maintenance");
        assert!(olga.get("/plant").await.text.contains("pump service"));
    }

    #[tokio::test]
    async fn nobody_else_sets_it_and_nobody_without_a_reason() {
        let site = Site::new().await;
        for person in ["vera", "sam", "ada", "ivan"] {
            let browser = site.log_in(person).await;
            let code = site.code(person);
            let fields = [("zone", "cell-1"), ("state", "shutdown"), ("reason", "x"), ("code", &code)];
            assert_eq!(browser.post("/plant/set", &fields).await.status, 403, "{person}");
        }
        let olga = site.log_in("olga").await;
        let fields = [("zone", "cell-1"), ("state", "shutdown"), ("reason", " ")];
        assert_eq!(olga.post("/plant/preview", &fields).await.status, 422);
        assert_eq!(state_of(&site, "cell-1").await, "production");
    }

    #[tokio::test]
    async fn a_zone_or_state_that_does_not_exist_is_refused() {
        let site = Site::new().await;
        let olga = site.log_in("olga").await;
        let nowhere = [("zone", "cell-99"), ("state", "shutdown"), ("reason", "x")];
        assert_eq!(olga.post("/plant/preview", &nowhere).await.status, 404);
        let never = [("zone", "cell-1"), ("state", "party"), ("reason", "x")];
        assert_eq!(olga.post("/plant/preview", &never).await.status, 422);
    }

    #[test]
    fn the_pages_render_with_what_people_typed_escaped() {
        let frame = Frame::sample("/plant");
        let at = frame.at(&frame.now);
        let page = PlantPage {
            zones: vec![ZoneCard {
                name: "cell-1".into(),
                title: "<script>".into(),
                state: "production",
                since: Some(at),
                by: "<script>".into(),
                reason: "<script>".into(),
            }],
            states: vec!["production"],
            may_set: true,
            frame: frame.clone(),
        };
        assert!(!page.render().unwrap().contains("<script>"));
        let session = SessionId::new(frame.now, &mut rand::rng());
        let page = PreviewPage {
            zone: "cell-1".into(),
            state: "emergency",
            before: "production",
            reason: "\"><script>".into(),
            cut: vec![Touched { id: session, person: name("vera"), asset: name("plc-7"), cut: true }],
            stay: 1,
            action: plant::ACTION,
            digest: String::new(),
            digest_parts: vec![],
            frame,
        };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
