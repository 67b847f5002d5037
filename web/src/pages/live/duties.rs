//! What each person may do to a live session, on the pages and by the API.

use cofferdam_access::{
    ids::{DecisionId, Login, SessionId},
    site::Protocol,
    store::{DecisionRecord, NewSession, OpenOutcome, Opening, OrderKind, SessionEnd, SessionState},
};
use serde_json::json;

use super::control::purpose;
use crate::{
    testing::{Site, name},
    watching::LiveSession,
};

/// A session of `person` on pump-hmi, through a window that was approved.
pub(crate) async fn session_of(site: &Site, person: &str) -> SessionId {
    let window = site.approved(|_| ()).await;
    let now = site.now();
    let (id, decision) = (SessionId::new(now, &mut rand::rng()), DecisionId::new(now, &mut rand::rng()));
    let record = DecisionRecord {
        id: decision,
        at: now,
        person: name(person),
        asset: "pump-hmi".into(),
        session: Some(id),
        outcome: "permit".into(),
        body: "{}".into(),
    };
    let new = NewSession {
        id,
        person: name(person),
        asset: name("pump-hmi"),
        login: Login::new("operator").unwrap(),
        protocol: Protocol::Ssh,
        source: "127.0.0.1".parse().unwrap(),
        device_key: None,
        window: Some(window),
        decision,
        node: "gw-1".into(),
        state: SessionState::Active,
        recording: Some(id.to_string()),
    };
    let opening = Opening { decisions: vec![record], ..Opening::default() };
    let opened = site.store().open_session(&site.act(person), &new, &opening).await.unwrap();
    assert!(matches!(opened, OpenOutcome::Opened { .. }));
    id
}

async fn orders(site: &Site, id: SessionId) -> Vec<OrderKind> {
    site.store().orders_of(id).await.unwrap().into_iter().map(|o| o.kind).collect()
}

#[tokio::test]
async fn an_approver_sees_who_is_connected_and_suspends_with_one_click() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let olga = site.log_in("olga").await;
    let listing = olga.get("/live").await;
    assert!(listing.status == 200 && listing.text.contains("Vera Vendor"), "{}", listing.text);
    let shown = olga.get(&format!("/live/{id}")).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let done = olga.post(&format!("/live/{id}/suspend"), &[("text", "alarm in hall 2")]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(orders(&site, id).await, [OrderKind::Suspend]);
    let audited = site.audited("session.ordered").await;
    assert!(audited.iter().any(|e| e.contains("alarm in hall 2")), "{audited:?}");
}

#[tokio::test]
async fn ending_and_resuming_take_a_fresh_code_each() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let sam = site.log_in("sam").await;
    for action in ["end", "resume"] {
        let path = format!("/live/{id}/{action}");
        assert_eq!(sam.post(&path, &[("text", "")]).await.status, 403, "{action} without a code");
        assert_eq!(sam.post(&path, &[("code", "000000")]).await.status, 403, "{action} with a wrong one");
        let code = site.code("sam");
        assert_eq!(sam.post(&path, &[("code", &code)]).await.status, 303, "{action}");
        assert_eq!(
            sam.post(&path, &[("code", &code)]).await.status,
            403,
            "{action} with a code that was used"
        );
    }
    assert_eq!(orders(&site, id).await, [OrderKind::End, OrderKind::Resume]);
}

#[tokio::test]
async fn nobody_resumes_their_own_session_and_no_code_is_spent_on_the_attempt() {
    let site = Site::with(|site| {
        let emil = site.users.iter_mut().find(|u| u.name.as_str() == "emil").unwrap();
        emil.duties.insert(cofferdam_access::people::Duty::Operations);
    })
    .await;
    let id = session_of(&site, "emil").await;
    let emil = site.log_in("emil").await;
    let code = site.code("emil");
    let refused = emil.post(&format!("/live/{id}/resume"), &[("code", &code)]).await;
    assert!(refused.status == 403 && refused.text.contains("their own session"), "{}", refused.text);
    assert!(orders(&site, id).await.is_empty());
    // Restricting one's own is no harm; the code still serves.
    let done = emil.post(&format!("/live/{id}/end"), &[("code", &code)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
}

#[tokio::test]
async fn other_duties_neither_see_nor_order_live_sessions() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    for person in ["vera", "emil", "ivan", "ada"] {
        let browser = site.log_in(person).await;
        for path in ["/live".to_owned(), format!("/live/{id}"), "/live/events".into()] {
            assert_eq!(browser.get(&path).await.status, 403, "{person} {path}");
        }
        let sent = browser.post(&format!("/live/{id}/suspend"), &[("text", "")]).await;
        assert_eq!(sent.status, 403, "{person}");
    }
    assert!(orders(&site, id).await.is_empty());
}

#[tokio::test]
async fn a_window_is_shortened_and_never_lengthened_from_here() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let olga = site.log_in("olga").await;
    let window = site.store().session(id).await.unwrap().window.unwrap();
    let page = olga.get(&format!("/live/{id}")).await.text;
    let path = format!("/windows/{window}/shorten");
    assert!(page.contains(&format!("action=\"{path}\" target=\"_blank\"")), "watching goes on: {page}");
    let ends = async || site.store().window(window).await.unwrap().window.effective_end();
    let exact = olga.post(&path, &[("end", "+30m")]).await.field("end").unwrap();
    let sent = [("end", exact.as_str()), ("code", &site.code("olga"))];
    assert_eq!(olga.post(&format!("{path}/send"), &sent).await.status, 303);
    assert_eq!(ends().await.to_string(), exact);
    let longer = olga.post(&path, &[("end", "+2h")]).await;
    assert!(longer.status.is_client_error(), "{}", longer.text);
    // Programs do it by the session.
    let token = site.token("sam", &["control"]).await;
    let path = format!("/api/v1/sessions/{id}/shorten");
    assert_eq!(site.api_post(&token, &path, &json!({"end": "+10m"})).await.status, 403, "without a code");
    let done = site.api_post(&token, &path, &json!({"end": "+10m", "code": site.code("sam")})).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.json()["ends"], ends().await.to_string());
}

#[tokio::test]
async fn a_session_that_is_over_takes_no_order() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let act = site.act("vera");
    site.store()
        .close_session(&act, id, &SessionEnd { reason: "closed".into(), ..SessionEnd::default() })
        .await
        .unwrap();
    let olga = site.log_in("olga").await;
    let late = olga.post(&format!("/live/{id}/suspend"), &[("text", "")]).await;
    assert!(late.status == 409 && late.text.contains("ended already"), "{}", late.text);
    assert!(olga.get(&format!("/live/{id}")).await.text.contains("The session is over"));
}

#[tokio::test]
async fn a_supervised_session_is_listed_as_waiting() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    site.live().put(LiveSession {
        id,
        last_input: site.now(),
        not_after: site.now().plus_seconds(60),
        idle_seconds: 0,
        frozen: Some("waits".into()),
        unwatched: true,
        watchers: 0,
        bytes: (0, 0),
    });
    let listing = site.log_in("olga").await.get("/live").await;
    assert!(listing.text.contains("waits for a watcher"), "{}", listing.text);
}

#[tokio::test]
async fn the_socket_is_opened_by_no_other_site() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let olga = site.log_in("olga").await;
    for origin in [None, Some("https://evil.example"), Some("null")] {
        let mut request = olga
            .request(axum::http::Method::GET, &format!("/live/{id}/socket"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        request =
            request.header("sec-fetch-site", if origin.is_none() { "same-origin" } else { "cross-site" });
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = olga.send(request.body(axum::body::Body::empty()).unwrap()).await;
        assert!(answer.status.is_client_error(), "{origin:?}: {}", answer.status);
    }
}

#[tokio::test]
async fn programs_order_sessions_with_the_scope_and_a_code() {
    let site = Site::new().await;
    let id = session_of(&site, "vera").await;
    let reads = site.token("sam", &["read"]).await;
    let controls = site.token("sam", &["control"]).await;
    let listed = site.api_get(&reads, "/api/v1/sessions?open=true").await;
    assert_eq!(listed.json()[0]["id"], id.to_string());
    let shown = site.api_get(&reads, &format!("/api/v1/sessions/{id}")).await;
    assert_eq!(shown.json()["user"], "vera");
    let path = |action: &str| format!("/api/v1/sessions/{id}/{action}");
    assert_eq!(site.api_post(&reads, &path("suspend"), &json!({})).await.status, 403);
    assert_eq!(site.api_post(&controls, &path("suspend"), &json!({"text": "wait"})).await.status, 200);
    assert_eq!(site.api_post(&controls, &path("end"), &json!({})).await.status, 403);
    assert_eq!(site.api_post(&controls, &path("suspend"), &json!({"reason": 1})).await.status, 422);
    let ended = site.api_post(&controls, &path("end"), &json!({"code": site.code("sam")})).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let vendor = site.token("vera", &["read", "control"]).await;
    assert_eq!(site.api_get(&vendor, "/api/v1/sessions").await.status, 403);
    assert_eq!(site.api_post(&vendor, &path("suspend"), &json!({})).await.status, 403);
    assert!(purpose(OrderKind::End, id).is_some());
}
