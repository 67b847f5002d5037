//! Windows as people and programs ask for them and follow them.

use axum::http::StatusCode;
use cofferdam_access::{
    audit::AuditKind,
    clock::Timestamp,
    ids::WindowId,
    people::Duty,
    site::PlantState,
    store::AuditFilter,
    window::{Standing, Times},
    windowing,
};

use crate::testing::{Browser, NOW, Site, name};

/// What vera would type for an evening's work.
const TYPED: [(&str, &str); 8] = [
    ("accounts", "operator@pump-hmi"),
    ("accounts", "none@plc-7"),
    ("operations", "view"),
    ("operations", "operate"),
    ("purpose", "Change <b>the</b> dosing curve"),
    ("work_order", "WO-1"),
    ("start", "2026-11-25T22:00"),
    ("end", "2026-11-26T02:00"),
];

fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<_> =
        TYPED.iter().filter(|(n, _)| changes.iter().all(|(c, _)| c != n)).copied().collect();
    fields.extend(changes.iter().filter(|(_, v)| !v.is_empty()));
    fields
}

async fn kinds(site: &Site, id: WindowId) -> Vec<String> {
    let filter = AuditFilter { subject: Some(id.to_string()), ..AuditFilter::default() };
    site.store().audit(&filter).await.unwrap().into_iter().map(|e| e.kind).collect()
}

async fn ask(site: &Site, vera: &Browser) -> WindowId {
    vera.get("/windows/new").await;
    let shown = vera.post("/windows/new", &TYPED).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let code = site.code("vera");
    let sent = vera.post("/windows/new/send", &with(&[("code", &code)])).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.text);
    sent.location().rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_window_is_looked_over_then_sent_with_a_fresh_code() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    let form = vera.get("/windows/new").await;
    assert!(form.text.contains("operator@pump-hmi") && form.text.contains("crown jewel"), "{}", form.text);
    let shown = vera.post("/windows/new", &TYPED).await;
    assert!(shown.text.contains("every request and answer"), "what is recorded is said: {}", shown.text);
    assert!(shown.text.contains("Change &#60;b&#62;the&#60;/b&#62; dosing curve"), "{}", shown.text);
    assert!(site.store().windows(&Default::default()).await.unwrap().is_empty(), "nothing is sent yet");

    let id = ask(&site, &vera).await;
    let window = site.store().window(id).await.unwrap().window;
    assert_eq!(window.request.requested_by, name("vera"));
    assert_eq!(window.request.start, Timestamp::from_seconds(1_795_640_400), "22:00 in Berlin is 21:00 UTC");
    assert_eq!(window.request.accounts.len(), 2);
    let page = vera.get(&format!("/windows/{id}")).await;
    assert!(page.text.contains("waiting for operations and security"), "{}", page.text);
    assert!(page.text.contains("Withdraw the request") && page.text.contains("asked for this window"));
    assert!(page.text.contains(&window.request.digest().to_string()[..8]));
}

#[tokio::test]
async fn a_wrong_code_sends_nothing_and_keeps_what_was_typed() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    vera.get("/windows/new").await;
    for code in ["", "000000"] {
        let sent = vera.post("/windows/new/send", &with(&[("code", code)])).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{}", sent.text);
        assert!(
            sent.text.contains("dosing curve") && sent.text.contains("2026-11-26T02:00"),
            "{}",
            sent.text
        );
    }
    assert!(site.store().windows(&Default::default()).await.unwrap().is_empty());
}

/// What is typed otherwise, the place in the page that says it, and the words.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn what_is_wrong_is_said_at_its_field_and_all_that_was_typed_is_kept() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    vera.get("/windows/new").await;
    let cases: [Case<'_>; 8] = [
        (&[("end", "2026-11-25T20:00")], "id=\"end-e\"", "end at or before its start"),
        (&[("purpose", "")], "id=\"purpose-e\"", "in a sentence"),
        (&[("accounts", "")], "#accounts", "at least one account"),
        (&[("accounts", "root@elsewhere")], "#accounts", "not open to you from here"),
        (&[("operations", "")], "#operations", "choose what you will do"),
        (&[("start", "soon")], "id=\"start-e\"", "is not a time"),
        (&[("paths", "etc/passwd")], "id=\"paths-e\"", "is not absolute"),
        (&[("file_mb", "lots")], "id=\"file_mb-e\"", "whole megabytes"),
    ];
    for (changes, place, said) in cases {
        let answer = vera.post("/windows/new", &with(changes)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{changes:?}: {}", answer.text);
        assert!(answer.text.contains(place), "{changes:?}: no {place} in {}", answer.text);
        assert!(answer.text.contains(said), "{changes:?}: no {said} in {}", answer.text);
        assert!(answer.text.contains("value=\"WO-1\""), "{changes:?}: what was typed is lost");
    }
}

#[tokio::test]
async fn a_time_that_comes_twice_or_never_is_asked_for_with_its_offset() {
    let site = Site::with(|s| s.settings.longest_window_seconds = 400 * 86_400).await;
    let vera = site.log_in("vera").await;
    vera.get("/windows/new").await;
    let twice = [("start", "2027-10-31T02:30"), ("end", "2027-10-31T12:00")];
    let answer = vera.post("/windows/new", &with(&twice)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text.contains("comes twice in Europe/Berlin"), "{}", answer.text);
    assert!(
        answer.text.contains("name=\"start\" type=\"text\""),
        "a field that can hold an offset: {}",
        answer.text
    );
    let never = [("start", "2027-03-28T02:30"), ("end", "2027-03-28T12:00")];
    let answer = vera.post("/windows/new", &with(&never)).await;
    assert!(answer.text.contains("the clock skips it"), "{}", answer.text);
    let meant = [("start", "2027-10-31T02:30+01:00"), ("end", "2027-10-31T12:00")];
    let answer = vera.post("/windows/new", &with(&meant)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_code_given_for_one_request_sends_no_other() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    let id = ask(&site, &vera).await;
    let window = site.store().window(id).await.unwrap().window;
    let filter = AuditFilter { kind: Some(AuditKind::SecondFactorUsed), limit: 1, ..AuditFilter::default() };
    let used = site.store().audit(&filter).await.unwrap().remove(0);
    let bound = super::act::Asked(window.request.clone()).purpose().digest;
    assert!(used.body.contains(&bound) && used.body.contains("window request"), "{}", used.body);
    let mut other = window.request;
    other.end = other.end.plus_seconds(60);
    assert_ne!(super::act::Asked(other).purpose().digest, bound);
}

#[tokio::test]
async fn vendors_see_their_own_windows_and_overseers_see_all() {
    let site = Site::new().await;
    let own = site.ask(|_| ()).await;
    let other = site
        .ask(|r| {
            r.requested_by = name("emil");
            r.users = [name("emil")].into();
        })
        .await;
    let vera = site.log_in("vera").await;
    let list = vera.get("/windows?person=emil").await;
    assert!(list.text.contains(&own.to_string()) && !list.text.contains(&other.to_string()));
    assert_eq!(vera.get(&format!("/windows/{other}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(vera.get(&format!("/windows/new?from={other}")).await.status, StatusCode::NOT_FOUND);
    for who in ["olga", "sam", "ivan", "ada"] {
        let browser = site.log_in(who).await;
        let list = browser.get("/windows").await;
        assert!(list.text.contains(&own.to_string()) && list.text.contains(&other.to_string()), "{who}");
        assert_eq!(browser.get(&format!("/windows/{other}")).await.status, StatusCode::OK, "{who}");
    }
}

#[tokio::test]
async fn only_the_requester_withdraws_and_only_what_waits() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let path = format!("/windows/{id}/withdraw");
    let olga = site.log_in("olga").await;
    let refused = olga.post(&path, &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text.contains("can withdraw it"), "{}", refused.text);
    let emil = site.log_in("emil").await;
    assert_eq!(emil.post(&path, &[]).await.status, StatusCode::NOT_FOUND, "not theirs to see");
    let vera = site.log_in("vera").await;
    assert_eq!(vera.post(&path, &[]).await.status, StatusCode::SEE_OTHER);
    assert!(kinds(&site, id).await.contains(&"window.withdrawn".into()));
    assert_eq!(vera.post(&path, &[]).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn more_time_is_a_new_request_with_fresh_approvals() {
    let site = Site::new().await;
    let id = site.approved(|_| ()).await;
    let vera = site.log_in("vera").await;
    let page = vera.get(&format!("/windows/{id}")).await;
    assert!(page.text.contains("More time?"), "{}", page.text);
    let fields = [("end", "2026-11-25T14:00"), ("purpose", "the seal\r\nleaks")];
    let early = [("end", "2026-11-25T11:00"), ("purpose", "the seal leaks")];
    let wrong = vera.post(&format!("/windows/{id}/extend"), &early).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.text);
    assert!(wrong.text.contains("the seal leaks"));
    let shown = vera.post(&format!("/windows/{id}/extend"), &fields).await;
    assert!(shown.status == 200 && shown.text.contains("Send to approvers"), "{}", shown.text);
    let code = site.code("vera");
    let sent = [fields[0], fields[1], ("code", &code)];
    let done = vera.post(&format!("/windows/{id}/extend/send"), &sent).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    let new: WindowId = done.location().rsplit('/').next().unwrap().parse().unwrap();
    let window = site.store().window(new).await.unwrap().window;
    assert_eq!((window.request.extends, window.approvals.len()), (Some(id), 0));
    assert_eq!(window.request.purpose, "the seal\nleaks");

    let olga = site.log_in("olga").await;
    let theirs = olga.post(&format!("/windows/{id}/extend"), &fields).await;
    assert_eq!(theirs.status, StatusCode::FORBIDDEN, "asking for more is for those who work in it");
}

#[tokio::test]
async fn shortening_is_shown_first_and_takes_a_fresh_factor_for_exactly_that_end() {
    let site = Site::new().await;
    let id = site.approved(|_| ()).await;
    let olga = site.log_in("olga").await;
    olga.get(&format!("/windows/{id}")).await;
    let (check, send) = (format!("/windows/{id}/shorten"), format!("/windows/{id}/shorten/send"));
    let ends = async || site.store().window(id).await.unwrap().window.effective_end();
    let before = ends().await;
    let later = olga.post(&check, &[("end", "2026-11-25T23:00")]).await;
    assert_eq!(later.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", later.text);
    let shown = olga.post(&check, &[("end", "+30m")]).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let exact = shown.field("end").unwrap();
    let end = site.now().plus_seconds(1800);
    assert_eq!(exact, end.to_string(), "what is sent is the moment that was shown, whenever it is sent");
    assert_eq!(ends().await, before, "nothing is done yet");
    for code in ["", "000000"] {
        let refused = olga.post(&send, &[("end", &exact), ("code", code)]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{code:?}: {}", refused.text);
    }
    let code = site.code("olga");
    let late = olga.post(&send, &[("end", "2026-11-25T23:00"), ("code", &code)]).await;
    assert_eq!(late.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", late.text);
    // The code was not spent on what the rules refuse anyway.
    let done = olga.post(&send, &[("end", &exact), ("code", &code)]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert_eq!(ends().await, end);
    let used = site.audited("second_factor.used").await;
    let bound = super::act::shortening_purpose(id, end).digest;
    assert!(used.iter().any(|e| e.contains("window shorten") && e.contains(&bound)), "{used:?}");
    assert_ne!(super::act::shortening_purpose(id, end.plus_seconds(1)).digest, bound);
}

#[tokio::test]
async fn a_token_that_asks_ends_its_own_requests_only_and_one_that_decides_ends_others() {
    let site = Site::new().await;
    let id = site.approved(|_| ()).await;
    let path = |what: &str| format!("/api/v1/windows/{id}/{what}");
    let reads = site.token("olga", &["read", "control"]).await;
    let asks = site.token("olga", &["request"]).await;
    let decides = site.token("olga", &["decide"]).await;
    let body = |code: &str| serde_json::json!({"end": "+30m", "code": code});
    let code = site.code("olga");
    for (token, why) in [(&reads, "\"decide\" or \"request\""), (&asks, "its own person asked for")] {
        let refused = site.api_post(token, &path("shorten"), &body(&code)).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        assert!(refused.json()["detail"].as_str().unwrap().contains(why), "{}", refused.text);
        let body = serde_json::json!({"reason": "leak", "code": code});
        assert_eq!(site.api_post(token, &path("revoke"), &body).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(site.api_post(&decides, &path("shorten"), &body("")).await.status, StatusCode::FORBIDDEN);
    let done = site.api_post(&decides, &path("shorten"), &body(&code)).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let own = site.token("vera", &["request"]).await;
    let body = serde_json::json!({"reason": "done early", "code": site.code("vera")});
    let done = site.api_post(&own, &path("revoke"), &body).await;
    assert_eq!((done.status, done.json()["state"].clone()), (StatusCode::OK, "revoked".into()));
}

#[tokio::test]
async fn revoking_takes_a_reason_and_a_fresh_code() {
    let site = Site::new().await;
    let id = site.approved(|_| ()).await;
    let olga = site.log_in("olga").await;
    olga.get(&format!("/windows/{id}")).await;
    let path = format!("/windows/{id}/revoke");
    let no_code = olga.post(&path, &[("reason", "pump tripped")]).await;
    assert_eq!(no_code.status, StatusCode::FORBIDDEN, "{}", no_code.text);
    let code = site.code("olga");
    let no_reason = olga.post(&path, &[("reason", " "), ("code", &code)]).await;
    assert_eq!(no_reason.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", no_reason.text);
    // The code was not spent on what the rules refuse anyway.
    let done = olga.post(&path, &[("reason", "pump <i>tripped"), ("code", &code)]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    let page = olga.get(&format!("/windows/{id}")).await;
    assert!(page.text.contains("pump &#60;i&#62;tripped") && page.text.contains("revoked"), "{}", page.text);
    let ivan = site.log_in("ivan").await;
    let other = site.approved(|_| ()).await;
    let code = site.code("ivan");
    let theirs = ivan.post(&format!("/windows/{other}/revoke"), &[("reason", "x"), ("code", &code)]).await;
    assert_eq!(theirs.status, StatusCode::FORBIDDEN, "investigators look, they do not end");
}

#[tokio::test]
async fn suggested_times_fill_a_new_request() {
    let site = Site::new().await;
    let id = site.ask(|r| r.limits.file_bytes = Some(5_000_000)).await;
    let described = site.store().site().await.unwrap();
    let olga = described.user(&name("olga")).unwrap();
    let times = Times { start: NOW.plus_seconds(86_400), end: NOW.plus_seconds(90_000) };
    let duty = Some(Duty::Operations);
    windowing::refuse(site.store(), &site.act("olga"), olga, id, duty, "not today", Some(times))
        .await
        .unwrap();
    let vera = site.log_in("vera").await;
    let page = vera.get(&format!("/windows/{id}")).await;
    assert!(page.text.contains("not today") && page.text.contains("Ask for these times"), "{}", page.text);
    let form = vera.get(&format!("/windows/new?from={id}")).await;
    assert!(form.text.contains("value=\"2026-11-26T10:46\""), "{}", form.text);
    assert!(form.text.contains("value=\"operator@pump-hmi\" checked"), "{}", form.text);
    assert_eq!(form.field("file_mb").as_deref(), None, "beside its other attributes");
    assert!(form.text.contains("Yearly service of pump P-101"));
}

#[tokio::test]
async fn the_first_page_shows_what_is_open_with_lines_to_copy() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    let nothing = vera.get("/").await;
    assert!(nothing.text.contains("Nothing is open to you now"), "{}", nothing.text);
    site.approved(|r| {
        r.accounts.insert(crate::testing::account("root@pump-hmi"));
        r.accounts.insert(crate::testing::account("none@plc-7"));
    })
    .await;
    let page = vera.get("/").await;
    for line in [
        "ssh -p 2222 vera+pump-hmi@gw.example",
        "ssh -p 2222 vera+pump-hmi+root@gw.example",
        "scp -P 2222 FILE vera+pump-hmi@gw.example:",
        "ssh -N -p 2222 -L 1502:plc-7:502 vera+plc-7@gw.example",
        "href=\"/terminal/pump-hmi/operator\"",
    ] {
        assert!(page.text.contains(line), "no {line} in {}", page.text);
    }
    site.store()
        .set_plant_state(&site.act("olga"), &name("cell-1"), PlantState::Emergency, "leak")
        .await
        .unwrap();
    let blocked = vera.get("/").await;
    assert!(!blocked.text.contains("ssh -p 2222"), "{}", blocked.text);
    assert!(blocked.text.contains("stands in the way"), "{}", blocked.text);
}

#[tokio::test]
async fn programs_ask_follow_and_withdraw_by_the_same_rules() {
    let site = Site::new().await;
    let token = site.token("vera", &["read", "request"]).await;
    let mut body = serde_json::json!({
        "accounts": ["operator@pump-hmi"], "operations": ["view"], "purpose": "look", "start": "+1h",
        "end": "+2h", "file_bytes": 1234, "code": "000000",
    });
    let refused = site.api_post(&token, "/api/v1/windows", &body).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    body["code"] = site.code("vera").into();
    let made = site.api_post(&token, "/api/v1/windows", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let id: WindowId = made["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(made["limits"]["file_bytes"], 1234);
    assert_eq!(made["phase"], "requested");
    let listed = site.api_get(&token, "/api/v1/windows?state=requested").await.json();
    assert_eq!(listed[0]["id"], id.to_string());
    body["purpose"] = "".into();
    let wrong = site.api_post(&token, "/api/v1/windows", &body).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("purpose: say what you will do"), "{}", wrong.text);
    let reader = site.token("vera", &["read"]).await;
    let path = format!("/api/v1/windows/{id}/withdraw");
    assert_eq!(site.api_post(&reader, &path, &serde_json::json!({})).await.status, StatusCode::FORBIDDEN);
    let gone = site.api_post(&token, &path, &serde_json::json!({})).await;
    assert_eq!((gone.status, gone.json()["state"].clone()), (StatusCode::OK, "withdrawn".into()));
    let window = site.store().window(id).await.unwrap().window;
    assert!(matches!(window.standing, Standing::Withdrawn { .. }));
}
