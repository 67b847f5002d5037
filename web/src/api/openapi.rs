//! What the API says of itself: an OpenAPI 3.1 document, put together from its parts.

use axum::{Json, extract::State};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use crate::{
    routes::{Routes, Rule},
    services::App,
};

/// The parts. A module of the API that serves routes adds its own here; a test compares the document with the routes.
const PARTS: &[fn() -> utoipa::openapi::OpenApi] = &[
    super::windows::document,
    super::sessions::document,
    super::desktops::document,
    super::recordings::document,
    super::people::document,
    super::site::document,
    super::vault::document,
    super::checkouts::document,
    super::audit::document,
    super::metrics::document,
];
/// The name of the one way to prove who asks.
const TOKEN: &str = "token";

pub(crate) fn routes(routes: Routes) -> Routes {
    // No secret stands in it, and whoever writes a program reads it before they have a token.
    routes.get("/api/v1/openapi.json", Rule::Public, serve)
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cofferdam",
        description = "What the pages do, for programs. Tokens have a scope and an end; the person's duties bind a token as they bind the person. What approves, ends, reveals or changes policy takes a fresh `code` of the person's authenticator.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(serve),
    modifiers(&Tokens)
)]
struct Whole;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme(TOKEN, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        document.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    }
}

/// The whole document.
fn document(version: &str) -> utoipa::openapi::OpenApi {
    let mut whole = Whole::openapi();
    for part in PARTS {
        whole.merge(part());
    }
    version.clone_into(&mut whole.info.version);
    whole
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "api", security(()),
    responses((status = 200, body = serde_json::Value)))]
async fn serve(State(app): State<App>) -> Json<utoipa::openapi::OpenApi> {
    Json(document(app.version))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::testing::Site;

    #[tokio::test]
    async fn every_route_of_the_api_is_in_the_document_and_nothing_else_is() {
        let site = Site::new().await;
        let served: BTreeSet<(String, String)> = crate::listing(site.services())
            .unwrap()
            .into_iter()
            .filter(|r| r.path.starts_with("/api/"))
            .map(|r| (r.method.to_lowercase(), r.path.to_owned()))
            .collect();
        let answer = site.browser().get("/api/v1/openapi.json").await;
        let document = answer.json();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|m| (m.clone(), path.clone())).collect::<Vec<_>>()
            })
            .collect();
        let missing: Vec<_> = served.difference(&described).collect();
        let too_much: Vec<_> = described.difference(&served).collect();
        assert!(missing.is_empty() && too_much.is_empty(), "missing {missing:?}, too much {too_much:?}");
    }

    #[tokio::test]
    async fn what_the_document_refers_to_is_in_it() {
        let site = Site::new().await;
        let text = site.browser().get("/api/v1/openapi.json").await.text;
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
