//! A log-in's life: its cookie, its ends, and who may end it.

use crate::testing::{Site, password};

const COOKIE: &str = "__Host-cofferdam";

fn is_over(answer: &crate::testing::Answer) -> bool {
    answer.status == 303 && answer.location().starts_with("/login")
}

#[tokio::test]
async fn the_cookie_is_bound_to_this_host_hidden_from_scripts_and_gone_with_the_browser() {
    let site = Site::new().await;
    let answer = site.browser().log_in("vera", &password("vera"), &site.code("vera")).await;
    let set = answer.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap());
    let session = set.into_iter().find(|v| v.starts_with("__Host-cofferdam=")).unwrap();
    for part in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(session.contains(part), "{session}");
    }
    for part in ["Domain", "Max-Age", "Expires"] {
        assert!(!session.contains(part), "{session}");
    }
}

#[tokio::test]
async fn a_cookie_from_before_the_log_in_is_not_taken_over() {
    let site = Site::new().await;
    let browser = site.browser();
    browser.set_cookie(COOKIE, &"A".repeat(43));
    assert_eq!(browser.log_in("vera", &password("vera"), &site.code("vera")).await.status, 303);
    let first = browser.cookie(COOKIE).unwrap();
    assert_ne!(first, "A".repeat(43));
    let other = site.log_in("vera").await;
    assert_ne!(other.cookie(COOKIE).unwrap(), first);
}

#[tokio::test]
async fn a_log_in_that_nobody_uses_ends() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    for _ in 0..3 {
        site.clock().advance(29 * 60);
        assert_eq!(browser.get("/account").await.status, 200);
    }
    site.clock().advance(30 * 60 + 1);
    assert!(is_over(&browser.get("/account").await));
}

#[tokio::test]
async fn a_log_in_ends_after_ten_hours_however_busy() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    for _ in 0..29 {
        site.clock().advance(20 * 60);
        assert_eq!(browser.get("/account").await.status, 200);
    }
    site.clock().advance(20 * 60 + 60);
    assert!(is_over(&browser.get("/account").await));
}

#[tokio::test]
async fn a_person_who_is_disabled_is_out_at_once() {
    let site = Site::new().await;
    let browser = site.log_in("olga").await;
    let token = site.token("olga", &["read"]).await;
    site.disable("olga").await;
    assert!(is_over(&browser.get("/account").await));
    assert_eq!(browser.post("/account/sessions/end", &[("id", "others")]).await.status, 401);
    assert_eq!(site.api_get(&token, "/api/v1/windows").await.status, 401);
}

#[tokio::test]
async fn after_the_last_day_of_a_person_their_log_in_is_over() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    let last = site.now().plus_seconds(60);
    site.describe(|s| s.users.iter_mut().for_each(|u| u.valid_until = Some(last))).await;
    assert_eq!(browser.get("/account").await.status, 200);
    site.clock().advance(61);
    assert!(is_over(&browser.get("/account").await));
}

#[tokio::test]
async fn log_out_ends_the_log_in_on_the_server_too() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    let thief = browser.stolen();
    assert_eq!(thief.get("/account").await.status, 200);
    let done = browser.post("/logout", &[]).await;
    assert_eq!((done.status.as_u16(), done.location()), (303, "/login"));
    assert!(browser.cookie(COOKIE).is_none());
    assert!(is_over(&thief.get("/account").await));
}

#[tokio::test]
async fn a_person_ends_their_other_log_ins_and_nobody_elses() {
    let site = Site::new().await;
    let (here, there, other) =
        (site.log_in("vera").await, site.log_in("vera").await, site.log_in("olga").await);
    let others_id = other.get("/account").await;
    let id = session_id(&others_id.text);
    assert_eq!(id, None, "olga has one log-in, which she cannot end by its id");
    let store_ids = site.store().web_sessions(&crate::testing::name("olga"), site.now()).await.unwrap();
    let id = store_ids[0].id.to_string();
    assert_eq!(here.post("/account/sessions/end", &[("id", &id)]).await.status, 404);
    assert_eq!(other.get("/account").await.status, 200);

    let mine = here.get("/account").await;
    let id = session_id(&mine.text).unwrap();
    assert_eq!(here.post("/account/sessions/end", &[("id", &id)]).await.status, 303);
    assert!(is_over(&there.get("/account").await));
    assert_eq!(here.get("/account").await.status, 200);

    let third = site.log_in("vera").await;
    assert_eq!(here.post("/account/sessions/end", &[("id", "others")]).await.status, 303);
    assert!(is_over(&third.get("/account").await));
    assert_eq!(here.get("/account").await.status, 200);
}

/// The id behind the first button that ends one log-in.
fn session_id(html: &str) -> Option<String> {
    html.split("name=\"id\" value=\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(id, _)| id))
        .find(|id| *id != "others" && id.len() == 36)
        .map(str::to_owned)
}

#[tokio::test]
async fn a_new_password_ends_every_log_in() {
    let site = Site::new().await;
    let browser = site.log_in("vera").await;
    let hash = cofferdam_access::password::StoredPassword::new(
        "another long password",
        cofferdam_access::password::Costs { memory_kib: 8, passes: 1, lanes: 1 },
        &mut rand::rng(),
    )
    .unwrap();
    site.store().set_password(&site.act("ada"), &crate::testing::name("vera"), hash.as_phc()).await.unwrap();
    assert!(is_over(&browser.get("/account").await));
}
