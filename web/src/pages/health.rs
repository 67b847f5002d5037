//! How the process is, part by part.

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    error::Failure,
    frame::{self, Frame},
    routes::{ADMINISTRATORS, Routes},
    services::{App, HealthItem},
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/health", ADMINISTRATORS, show)
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: Frame,
    node: String,
    version: &'static str,
    public_url: String,
    shared: bool,
    unwell: usize,
    items: Vec<HealthItem>,
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let items = app.health.look().await;
    let page = HealthPage {
        frame: Frame::new(&app, &viewer, "/health"),
        node: app.node.clone(),
        version: app.version,
        public_url: app.public_url.to_string(),
        shared: app.store.is_shared(),
        unwell: items.iter().filter(|i| !i.well).count(),
        items,
    };
    frame::page(&page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Site;

    #[tokio::test]
    async fn an_administrator_sees_what_is_not_well_and_others_see_nothing() {
        let site = Site::new().await;
        let shown = site.log_in("ada").await.get("/health").await;
        assert!(shown.text.contains("the disk is full: make room") && shown.text.contains("gw-1"));
        for person in ["vera", "olga", "sam", "ivan"] {
            assert_eq!(site.log_in(person).await.get("/health").await.status, 403, "{person}");
        }
    }

    #[test]
    fn the_page_renders_with_what_the_system_said_escaped() {
        let page = HealthPage {
            frame: Frame::sample("/health"),
            node: "<script>".into(),
            version: "0",
            public_url: "https://gw".into(),
            shared: false,
            unwell: 1,
            items: vec![HealthItem { name: "store", well: false, text: "<script>".into() }],
        };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
