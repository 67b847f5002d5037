//! Who may look into recordings, and what a hold takes.

use serde_json::json;

use crate::{pages::live::duties::session_of, testing::Site};

#[tokio::test]
async fn only_investigators_and_security_look_into_recordings() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let paths = [
        "/recordings".to_owned(),
        format!("/recordings/{id}"),
        format!("/recordings/{id}/cast"),
        format!("/recordings/{id}/desktop?from=0"),
        format!("/recordings/{id}/stills"),
        format!("/recordings/{id}/download/bundle"),
        format!("/recordings/{id}/download/files"),
    ];
    for person in ["vera", "emil", "olga", "ada"] {
        let browser = site.log_in(person).await;
        for path in &paths {
            assert_eq!(browser.get(path).await.status, 403, "{person} {path}");
        }
        for action in ["verify", "hold", "lift"] {
            let sent = browser.post(&format!("/recordings/{id}/{action}"), &[("reason", "case 7")]).await;
            assert_eq!(sent.status, 403, "{person} {action}");
        }
    }
    for person in ["ivan", "sam"] {
        let browser = site.log_in(person).await;
        let listing = browser.get("/recordings").await;
        assert!(listing.status == 200 && listing.text.contains(&id.to_string()), "{}", listing.text);
        // Nothing is kept here: the page says so and shows the rest.
        let shown = browser.get(&format!("/recordings/{id}")).await;
        assert!(shown.status == 200 && shown.text.contains("It cannot be replayed here"), "{}", shown.text);
    }
}

#[tokio::test]
async fn another_site_cannot_make_an_investigator_read_a_recording() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let ivan = site.log_in("ivan").await;
    for part in ["download/text", "desktop?from=0", "stills"] {
        let request = ivan
            .request(axum::http::Method::GET, &format!("/recordings/{id}/{part}"))
            .header("sec-fetch-site", "cross-site");
        let answer = ivan.send(request.body(axum::body::Body::empty()).unwrap()).await;
        assert!(answer.status == 403 && answer.text.contains("another site"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_hold_is_lifted_only_with_a_fresh_code() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    site.store().hold_recording(&site.act("sam"), id, "case 7").await.unwrap();
    let ivan = site.log_in("ivan").await;
    let path = format!("/recordings/{id}/lift");
    assert_eq!(ivan.post(&path, &[("reason", "closed")]).await.status, 403, "no code");
    let code = site.code("ivan");
    assert_eq!(ivan.post(&path, &[("reason", " "), ("code", &code)]).await.status, 422, "no reason");
    let held = site.store().recording(id).await.unwrap().hold;
    assert_eq!(held.map(|h| h.reason), Some("case 7".into()));
}

#[tokio::test]
async fn programs_read_recordings_only_with_the_scope_for_it() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let reads = site.token("ivan", &["read"]).await;
    let investigates = site.token("ivan", &["investigate"]).await;
    assert_eq!(site.api_get(&reads, "/api/v1/recordings").await.status, 403);
    let listed = site.api_get(&investigates, "/api/v1/recordings?who=vera").await;
    assert_eq!(listed.json()[0]["id"], id.to_string());
    let wrong = site.api_get(&investigates, "/api/v1/recordings?who=no%20name").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    let gone = site.api_get(&investigates, &format!("/api/v1/recordings/{id}/transcript")).await;
    assert_eq!(gone.status, 404);
    let reason = json!({"reason": "x", "strange": 1});
    let path = format!("/api/v1/recordings/{id}/hold");
    assert_eq!(site.api_post(&investigates, &path, &reason).await.status, 422);
    let olga = site.token("olga", &["investigate"]).await;
    assert_eq!(site.api_get(&olga, "/api/v1/recordings").await.status, 403);
}
