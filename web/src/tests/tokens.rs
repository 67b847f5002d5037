//! Tokens of the API: made once, shown once, with a scope and an end.

use crate::testing::{Answer, Browser, Site};

/// What a token with the scope `read` may ask.
const READABLE: &str = "/api/v1/windows";

async fn make(site: &Site, browser: &Browser, person: &str, more: &[(&str, &str)]) -> Answer {
    let code = site.code(person);
    let fields: Vec<_> = [("code", code.as_str())].iter().chain(more).copied().collect();
    browser.post("/account/tokens/make", &fields).await
}

fn shown(page: &Answer) -> String {
    let (_, rest) = page.text.split_once("aria-label=\"the new token\"><code>").unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_its_end() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    let page = make(&site, &browser, "vera", &[("name", "ci"), ("scopes", "read"), ("days", "2")]).await;
    let token = shown(&page);
    assert!(!browser.get("/account").await.text.contains(&token));
    assert_eq!(site.api_get(&token, READABLE).await.status, 200);
    site.clock().advance(2 * 86_400 - 120);
    assert_eq!(site.api_get(&token, READABLE).await.status, 200);
    site.clock().advance(121);
    assert_eq!(site.api_get(&token, READABLE).await.status, 401);
}

#[tokio::test]
async fn a_token_without_the_scope_is_told_which_one_is_needed() {
    let site = Site::new().await;
    let token = site.token("vera", &["request"]).await;
    let answer = site.api_get(&token, READABLE).await;
    assert_eq!(answer.status, 403);
    assert!(answer.json()["detail"].as_str().unwrap().contains("\"read\""), "{}", answer.text);
}

#[tokio::test]
async fn a_revoked_token_is_dead_and_only_its_owner_revokes_it() {
    let site = Site::new().await;
    let (vera, emil) = (site.log_in("vera").await, site.log_in("emil").await);
    let token = site.token("vera", &["read"]).await;
    let id = site.store().tokens(&crate::testing::name("vera"), site.now()).await.unwrap()[0].id.to_string();
    assert_eq!(emil.post("/account/tokens/revoke", &[("id", &id)]).await.status, 404);
    assert_eq!(site.api_get(&token, READABLE).await.status, 200);
    assert_eq!(vera.post("/account/tokens/revoke", &[("id", &id)]).await.status, 303);
    assert_eq!(site.api_get(&token, READABLE).await.status, 401);
}

#[tokio::test]
async fn a_token_needs_a_name_a_known_scope_and_an_end_within_a_year() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    let wrong: [&[(&str, &str)]; 6] = [
        &[("name", " "), ("scopes", "read"), ("days", "7")],
        &[("name", "ci"), ("days", "7")],
        &[("name", "ci"), ("scopes", "everything"), ("days", "7")],
        &[("name", "ci"), ("scopes", "read"), ("scopes", "root"), ("days", "7")],
        &[("name", "ci"), ("scopes", "read"), ("days", "0")],
        &[("name", "ci"), ("scopes", "read"), ("days", "367")],
    ];
    for fields in wrong {
        let answer = make(&site, &browser, "vera", fields).await;
        assert_eq!(answer.status, 422, "{fields:?}: {}", answer.text);
    }
    assert!(site.store().tokens(&crate::testing::name("vera"), site.now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_in_the_address_opens_nothing() {
    let site = Site::new().await;
    let token = site.token("vera", &["read"]).await;
    for name in ["token", "access_token", "authorization"] {
        assert_eq!(site.api_get("", &format!("{READABLE}?{name}={token}")).await.status, 401);
    }
}
