//! Decisions, and everything that must not become one: on the page and for programs.

use axum::http::StatusCode;
use cofferdam_access::{
    clock::Timestamp,
    ids::WindowId,
    people::Duty,
    window::{Phase, Standing},
};
use serde_json::json;

use crate::testing::{Answer, Site, name};

async fn digest(site: &Site, id: WindowId) -> String {
    site.store().window(id).await.unwrap().window.request.digest().to_string()
}

async fn phase(site: &Site, id: WindowId) -> Phase {
    site.store().window(id).await.unwrap().window.phase(site.now())
}

/// `who` approves on the page, with a fresh code.
async fn approve(site: &Site, who: &str, id: WindowId, digest: &str) -> Answer {
    let browser = site.log_in(who).await;
    browser.get("/account").await;
    let code = site.code(who);
    browser.post(&format!("/approvals/{id}/approve"), &[("digest", digest), ("code", &code)]).await
}

/// The same through the API.
async fn approve_by_token(site: &Site, who: &str, id: WindowId, digest: &str) -> Answer {
    let token = site.token(who, &["decide"]).await;
    let body = json!({"digest": digest, "code": site.code(who)});
    site.api_post(&token, &format!("/api/v1/windows/{id}/approve"), &body).await
}

#[tokio::test]
async fn two_people_of_two_duties_open_a_window() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    let first = approve(&site, "olga", id, &shown).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER, "{}", first.text);
    assert_eq!(phase(&site, id).await, Phase::Requested);
    let sam = site.log_in("sam").await;
    let page = sam.get(&format!("/approvals/{id}")).await;
    assert!(page.text.contains("Olga Operations approved first"), "{}", page.text);
    let second = approve(&site, "sam", id, &shown).await;
    assert_eq!(second.status, StatusCode::SEE_OTHER, "{}", second.text);
    assert_eq!(phase(&site, id).await, Phase::Open);
    let kept = site.store().window(id).await.unwrap().window;
    assert!(kept.approvals.iter().all(|a| a.digest == shown), "the digest that was shown is kept");
}

#[tokio::test]
async fn programs_approve_by_the_same_rules_and_hear_whose_approval_is_missing() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    let first = approve_by_token(&site, "sam", id, &shown).await;
    assert_eq!((first.status, first.json()["missing"].clone()), (StatusCode::OK, "operations".into()));
    let second = approve_by_token(&site, "olga", id, &shown).await;
    assert_eq!(second.json()["missing"], serde_json::Value::Null, "{}", second.text);
    assert_eq!(second.json()["window"]["phase"], "open");
}

#[tokio::test]
async fn a_remark_is_read_by_the_second_approver_and_by_who_asked_and_stands_in_the_audit_log() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    let olga = site.log_in("olga").await;
    let path = format!("/approvals/{id}/approve");
    let long = "x".repeat(501);
    let code = site.code("olga");
    let refused = olga.post(&path, &[("digest", &shown), ("remark", &long), ("code", &code)]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);
    assert!(refused.text.contains(&long), "what was typed is kept");
    // The code was not spent on it.
    let said = "mind <b>valve 7</b>";
    let done = olga.post(&path, &[("digest", &shown), ("remark", said), ("code", &code)]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    for (who, page) in [("sam", format!("/approvals/{id}")), ("vera", format!("/windows/{id}"))] {
        let page = site.log_in(who).await.get(&page).await.text;
        assert!(page.contains("mind &#60;b&#62;valve 7"), "{who}: {page}");
    }
    assert!(site.audited("window.approved").await.iter().any(|e| e.contains(said)));
    let token = site.token("sam", &["decide", "read"]).await;
    let body = json!({"digest": shown, "code": site.code("sam"), "remark": "until noon"});
    let second = site.api_post(&token, &format!("/api/v1/windows/{id}/approve"), &body).await.json();
    assert_eq!(second["window"]["approvals"][0]["remark"], said);
    assert_eq!(second["window"]["approvals"][1]["remark"], "until noon");
}

#[tokio::test]
async fn a_second_approval_by_the_same_person_or_duty_is_refused_on_page_and_api() {
    let site = Site::with(|s| {
        s.users.iter_mut().filter(|u| u.name == name("ivan")).for_each(|u| {
            u.duties.insert(Duty::Operations);
        });
        s.users.iter_mut().filter(|u| u.name == name("olga")).for_each(|u| {
            u.duties.insert(Duty::Security);
        });
    })
    .await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    assert_eq!(approve(&site, "olga", id, &shown).await.status, StatusCode::SEE_OTHER);
    for answer in
        [approve(&site, "olga", id, &shown).await, approve_by_token(&site, "olga", id, &shown).await]
    {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
        // A page writes it as a sentence.
        assert!(answer.text.contains("lga approved this window already"), "{}", answer.text);
    }
    for answer in
        [approve(&site, "ivan", id, &shown).await, approve_by_token(&site, "ivan", id, &shown).await]
    {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
        assert!(answer.text.contains("perations has approved already"), "{}", answer.text);
    }
    assert_eq!(phase(&site, id).await, Phase::Requested);
}

#[tokio::test]
async fn nobody_decides_on_their_own_request_nor_without_the_duty() {
    let site = Site::new().await;
    let own = site
        .ask(|r| {
            r.requested_by = name("olga");
            r.users = [name("olga")].into();
        })
        .await;
    let used = site
        .ask(|r| {
            r.users.insert(name("sam"));
        })
        .await;
    for (who, id) in [("olga", own), ("sam", used)] {
        let shown = digest(&site, id).await;
        let page = site.log_in(who).await.get(&format!("/approvals/{id}")).await;
        assert!(page.text.contains("Not yours to decide") && !page.text.contains("Approve this window"));
        for answer in [approve(&site, who, id, &shown).await, approve_by_token(&site, who, id, &shown).await]
        {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
            assert!(answer.text.contains("somebody else has to decide"), "{}", answer.text);
        }
    }
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    for who in ["vera", "emil", "ivan", "ada"] {
        for answer in [approve(&site, who, id, &shown).await, approve_by_token(&site, who, id, &shown).await]
        {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who}: {}", answer.text);
        }
    }
    // A duty that they do not hold.
    let token = site.token("olga", &["decide"]).await;
    let body = json!({"digest": shown, "duty": "security", "code": site.code("olga")});
    let answer = site.api_post(&token, &format!("/api/v1/windows/{id}/approve"), &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text.contains("does not hold the duty security"), "{}", answer.text);
    assert!(site.store().window(id).await.unwrap().window.approvals.is_empty());
}

#[tokio::test]
async fn a_request_that_is_another_than_the_one_read_is_not_approved() {
    let site = Site::new().await;
    let (one, other) = (site.ask(|_| ()).await, site.ask(|r| r.purpose = "something else".into()).await);
    let shown = digest(&site, one).await;
    for answer in
        [approve(&site, "olga", other, &shown).await, approve_by_token(&site, "olga", other, &shown).await]
    {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
        assert!(answer.text.contains("another text than this request"), "{}", answer.text);
    }
    let nonsense = approve(&site, "olga", one, "abc").await;
    assert_eq!(nonsense.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(site.store().window(other).await.unwrap().window.approvals.is_empty());
}

#[tokio::test]
async fn an_approval_takes_a_code_that_was_never_used() {
    let site = Site::new().await;
    let (one, two) = (site.ask(|_| ()).await, site.ask(|_| ()).await);
    let olga = site.log_in("olga").await;
    let code = site.code("olga");
    for (id, given, status) in [
        (one, "", StatusCode::FORBIDDEN),
        (one, "000000", StatusCode::FORBIDDEN),
        (one, code.as_str(), StatusCode::SEE_OTHER),
        (two, code.as_str(), StatusCode::FORBIDDEN),
    ] {
        let fields = [("digest", digest(&site, id).await), ("code", given.to_owned())];
        let fields = fields.each_ref().map(|(n, v)| (*n, v.as_str()));
        let answer = olga.post(&format!("/approvals/{id}/approve"), &fields).await;
        assert_eq!(answer.status, status, "{given:?}: {}", answer.text);
    }
    assert!(site.store().window(two).await.unwrap().window.approvals.is_empty());
}

#[tokio::test]
async fn what_is_decided_or_over_is_not_decided_again() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    let olga = site.log_in("olga").await;
    let path = format!("/approvals/{id}/refuse");
    let empty = olga.post(&path, &[("reason", " ")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", empty.text);
    assert_eq!(olga.post(&path, &[("reason", "filling <b>")]).await.status, StatusCode::SEE_OTHER);
    let page = olga.get(&format!("/approvals/{id}")).await;
    assert!(page.text.contains("filling &#60;b&#62;"), "{}", page.text);
    for answer in [approve(&site, "sam", id, &shown).await, approve_by_token(&site, "sam", id, &shown).await]
    {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
        assert!(answer.text.contains("no longer waits"), "{}", answer.text);
    }
    let late = site.ask(|_| ()).await;
    site.clock().advance(3 * 3600);
    let shown = digest(&site, late).await;
    let answer = approve(&site, "sam", late, &shown).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    assert!(answer.text.contains("has ended"), "{}", answer.text);
}

#[tokio::test]
async fn a_refusal_may_carry_times_that_would_suit() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let sam = site.log_in("sam").await;
    let path = format!("/approvals/{id}/suggest");
    let turned = [("reason", "after the shift"), ("start", "2026-11-26T10:00"), ("end", "2026-11-26T09:00")];
    let wrong = sam.post(&path, &turned).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.text);
    assert!(wrong.text.contains("value=\"after the shift\""), "what was typed is kept: {}", wrong.text);
    let fields = [("reason", "after the shift"), ("start", "2026-11-26T10:00"), ("end", "2026-11-26T12:00")];
    assert_eq!(sam.post(&path, &fields).await.status, StatusCode::SEE_OTHER);
    let Standing::Refused { suggested: Some(times), .. } =
        site.store().window(id).await.unwrap().window.standing
    else {
        panic!("no times were kept");
    };
    assert_eq!(times.start, Timestamp::from_seconds(1_795_683_600), "10:00 in Berlin is 09:00 UTC");
    let token = site.token("vera", &["read"]).await;
    let body = site.api_get(&token, &format!("/api/v1/windows/{id}")).await.json();
    assert_eq!(body["suggested"]["end"], "2026-11-26T11:00:00Z");
}

#[tokio::test]
async fn the_page_says_what_matters_worst_first() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    vera.get("/windows/new").await;
    let code = site.code("vera");
    let fields = [
        ("accounts", "none@plc-7"),
        ("operations", "program"),
        ("purpose", "firmware"),
        ("start", "2026-11-25T22:00"),
        ("end", "2026-11-26T02:00"),
        ("code", &code),
    ];
    let sent = vera.post("/windows/new/send", &fields).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.text);
    let id = sent.location().rsplit('/').next().unwrap().to_owned();
    site.ask(|r| {
        r.requested_by = name("emil");
        r.users = [name("emil")].into();
        r.forwards = [name("plc-7")].into();
        r.end = r.end.plus_seconds(86_400);
    })
    .await;
    let olga = site.log_in("olga").await;
    let page = olga.get(&format!("/approvals/{id}")).await.text;
    let facts = [
        "plc-7 is a crown jewel",
        "Pumping cell 1 is in production",
        "Overlaps with W-",
        "First time on plc-7",
        "New origin",
        "Allows programming",
    ];
    let places: Vec<usize> =
        facts.iter().map(|f| page.find(f).unwrap_or_else(|| panic!("no {f} in {page}"))).collect();
    assert!(places.iter().skip(1).all(|p| *p > places[0]), "the worst comes first");
    let queue = olga.get("/approvals").await.text;
    assert!(
        queue.contains("crown jewel") && queue.contains("new origin") && queue.contains("Waiting for me (2)")
    );
}

#[tokio::test]
async fn the_queue_keeps_what_waits_for_others_apart() {
    let site = Site::new().await;
    let id = site.ask(|_| ()).await;
    let shown = digest(&site, id).await;
    assert_eq!(approve(&site, "olga", id, &shown).await.status, StatusCode::SEE_OTHER);
    let olga = site.log_in("olga").await;
    let mine = olga.get("/approvals").await.text;
    assert!(mine.contains("Nothing waits for you") && mine.contains("Waiting for others (1)"), "{mine}");
    assert!(olga.get("/approvals?tab=others").await.text.contains(&id.to_string()));
    let sam = site.log_in("sam").await;
    assert!(sam.get("/approvals").await.text.contains("Olga Operations, operations"));
    assert_eq!(approve(&site, "sam", id, &shown).await.status, StatusCode::SEE_OTHER);
    assert!(sam.get("/approvals?tab=decided").await.text.contains("open"));
}

#[tokio::test]
async fn the_queue_is_sent_anew_when_a_request_comes_and_not_before() {
    let site = Site::new().await;
    let olga = site.log_in("olga").await;
    let page = olga.get("/approvals").await.text;
    let (_, rest) = page.split_once("hx-sse:connect=\"").unwrap();
    let address = rest.split_once('"').unwrap().0.replace("&amp;", "&").replace("&#38;", "&");
    let nothing = olga.get(&address).await;
    assert_eq!(nothing.header("content-type"), "text/event-stream");
    assert_eq!(nothing.text, "", "the page shows all there is");
    let id = site.ask(|_| ()).await;
    let news = olga.get(&address).await.text;
    assert!(news.starts_with("data:") && news.contains(&id.to_string()), "{news}");
}
