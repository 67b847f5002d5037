//! Passkeys on the account page and at the log-in, with an authenticator in software.

use crate::testing::{Answer, Browser, Site, SoftKey, name};

/// Adds a passkey as its owner does, with a code.
pub(super) async fn add(site: &Site, browser: &Browser, person: &str, key: &SoftKey) -> Answer {
    let code = site.code(person);
    add_with(browser, key, &code).await
}

async fn add_with(browser: &Browser, key: &SoftKey, code: &str) -> Answer {
    let question = browser.post("/account/passkeys/options", &[]).await.json();
    let challenge = question["challenge"].as_str().unwrap().to_owned();
    let fields =
        [("name", "phone"), ("challenge", &challenge), ("credential", &key.make(&question)), ("code", code)];
    browser.post("/account/passkeys/add", &fields).await
}

#[tokio::test]
async fn a_passkey_is_added_with_a_code_and_logs_in_alone() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    assert_eq!(add(&site, &browser, "olga", &key).await.status, 303);
    assert!(browser.get("/account").await.text.contains("phone"));
    let other = site.browser();
    assert_eq!(other.log_in_with(&key).await.status, 303);
    assert!(other.get("/account").await.text.contains("Olga Operations"));
}

#[tokio::test]
async fn no_passkey_is_added_without_proof() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    for code in ["", "000000"] {
        let answer = add_with(&browser, &key, code).await;
        assert_eq!(answer.status, 403, "{code:?}: {}", answer.text);
    }
    assert!(site.store().passkeys(&name("olga")).await.unwrap().is_empty());
    assert_eq!(site.browser().log_in_with(&key).await.status, 403);
}

#[tokio::test]
async fn right_after_a_log_in_by_passkey_another_is_added_without_a_code_and_later_not() {
    let site = Site::new().await;
    let (first, second, third) = (SoftKey::new(), SoftKey::new(), SoftKey::new());
    add(&site, &site.log_in("olga").await, "olga", &first).await;
    let browser = site.browser();
    browser.log_in_with(&first).await;
    browser.get("/account").await;
    assert_eq!(add_with(&browser, &second, "").await.status, 303);
    site.clock().advance(301);
    browser.get("/account").await;
    assert_eq!(add_with(&browser, &third, "").await.status, 403);
}

#[tokio::test]
async fn an_authenticator_that_does_not_verify_its_user_opens_nothing() {
    let site = Site::new().await;
    let (browser, mut key) = (site.log_in("olga").await, SoftKey::new());
    key.verifies = false;
    assert_eq!(add(&site, &browser, "olga", &key).await.status, 403);
    key.verifies = true;
    assert_eq!(add(&site, &browser, "olga", &key).await.status, 303);
    key.verifies = false;
    assert_eq!(site.browser().log_in_with(&key).await.status, 403);
}

#[tokio::test]
async fn a_passkey_used_on_another_site_opens_nothing_here() {
    let site = Site::new().await;
    let (browser, mut key) = (site.log_in("olga").await, SoftKey::new());
    add(&site, &browser, "olga", &key).await;
    for elsewhere in ["https://evil.example", "https://localhost:9443", "http://localhost:8443"] {
        elsewhere.clone_into(&mut key.origin);
        assert_eq!(site.browser().log_in_with(&key).await.status, 403, "{elsewhere}");
    }
}

#[tokio::test]
async fn an_answer_works_once_and_a_copied_authenticator_is_found_out() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    add(&site, &browser, "olga", &key).await;
    let (one, two) = (site.browser(), site.browser());
    let (question, answer) = one.answer_to_log_in(&key).await;
    let fields = [("challenge", question.as_str()), ("credential", answer.as_str())];
    assert_eq!(one.post("/login/passkey", &fields).await.status, 303);
    two.get("/login").await;
    assert_eq!(two.post("/login/passkey", &fields).await.status, 403);
    key.set_back();
    assert_eq!(two.log_in_with(&key).await.status, 403, "its counter went back");
}

#[tokio::test]
async fn a_question_is_forgotten_after_five_minutes() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    add(&site, &browser, "olga", &key).await;
    let late = site.browser();
    let (question, answer) = late.answer_to_log_in(&key).await;
    site.clock().advance(301);
    let fields = [("challenge", question.as_str()), ("credential", answer.as_str())];
    assert_eq!(late.post("/login/passkey", &fields).await.status, 403);
}

#[tokio::test]
async fn a_disabled_persons_passkey_opens_nothing() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    add(&site, &browser, "olga", &key).await;
    site.disable("olga").await;
    assert_eq!(site.browser().log_in_with(&key).await.status, 403);
}

#[tokio::test]
async fn a_passkey_is_removed_with_a_proof_by_its_owner_and_its_log_ins_end() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    add(&site, &browser, "olga", &key).await;
    let by_key = site.browser();
    by_key.log_in_with(&key).await;

    let emil = site.log_in("emil").await;
    let stolen =
        emil.post("/account/passkeys/remove", &[("id", &key.id()), ("code", &site.code("emil"))]).await;
    assert_eq!(stolen.status, 404);
    let unproved = browser.post("/account/passkeys/remove", &[("id", &key.id())]).await;
    assert_eq!(unproved.status, 403);
    assert_eq!(site.store().passkeys(&name("olga")).await.unwrap().len(), 1);

    let done =
        browser.post("/account/passkeys/remove", &[("id", &key.id()), ("code", &site.code("olga"))]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(site.browser().log_in_with(&key).await.status, 403);
    assert_eq!(by_key.get("/account").await.status, 303, "a log-in that the passkey opened goes on");
}

#[tokio::test]
async fn the_only_second_factor_cannot_be_removed() {
    let site = Site::new().await;
    let key = SoftKey::new();
    super::enrolling::by_passkey(&site, "olga", &key).await;
    let browser = site.browser();
    assert_eq!(browser.log_in_with(&key).await.status, 303);
    browser.get("/account").await;
    let digest = crate::step_up::Purpose::new("passkey remove", &[&key.id()]).digest;
    let (challenge, credential) = browser.step_up(&key, "passkey remove", &digest).await;
    let fields = [("id", key.id()), ("challenge", challenge), ("credential", credential)];
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = browser.post("/account/passkeys/remove", &fields).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
    assert_eq!(site.store().passkeys(&name("olga")).await.unwrap().len(), 1);
}
