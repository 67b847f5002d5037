//! A fresh second factor is for one action on one thing, once.

use super::passkeys;
use crate::{
    step_up::Purpose,
    testing::{Answer, Browser, Site, SoftKey, name},
};

/// Asks for a token, with this proof.
async fn make_token(browser: &Browser, proof: &[(&str, &str)]) -> Answer {
    let fields = [("name", "ci"), ("scopes", "read"), ("days", "7")];
    let fields: Vec<_> = fields.iter().chain(proof).copied().collect();
    browser.post("/account/tokens/make", &fields).await
}

async fn tokens(site: &Site, person: &str) -> usize {
    site.store().tokens(&name(person), site.now()).await.unwrap().len()
}

#[tokio::test]
async fn a_code_proves_one_action_once() {
    let site = Site::new().await;
    let browser = site.log_in("olga").await;
    assert_eq!(make_token(&browser, &[]).await.status, 403);
    assert_eq!(make_token(&browser, &[("code", "000000")]).await.status, 403);
    let code = site.code("olga");
    assert_eq!(make_token(&browser, &[("code", &code)]).await.status, 200);
    assert_eq!(make_token(&browser, &[("code", &code)]).await.status, 403);
    assert_eq!(tokens(&site, "olga").await, 1);
}

#[tokio::test]
async fn the_code_of_the_log_in_proves_nothing_more() {
    let site = Site::new().await;
    let (browser, code) = (site.browser(), site.code("olga"));
    browser.log_in("olga", &crate::testing::password("olga"), &code).await;
    browser.get("/account").await;
    assert_eq!(make_token(&browser, &[("code", &code)]).await.status, 403);
}

#[tokio::test]
async fn somebody_elses_code_proves_nothing() {
    let site = Site::new().await;
    let browser = site.log_in("olga").await;
    site.log_in("sam").await;
    assert_eq!(make_token(&browser, &[("code", &site.code("sam"))]).await.status, 403);
}

#[tokio::test]
async fn a_passkey_asked_for_one_action_proves_no_other_and_none_on_another_thing() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    passkeys::add(&site, &browser, "olga", &key).await;
    browser.get("/account").await;
    let right = Purpose::new("token make", &["olga"]);
    for wrong in [
        ("passkey remove", right.digest.clone()),
        ("token make", Purpose::new("token make", &["sam"]).digest),
        ("token make", Purpose::new("passkey remove", &["olga"]).digest),
        ("window approve", right.digest.clone()),
    ] {
        let (challenge, credential) = browser.step_up(&key, wrong.0, &wrong.1).await;
        let answer = make_token(&browser, &[("challenge", &challenge), ("credential", &credential)]).await;
        assert_eq!(answer.status, 403, "{wrong:?}: {}", answer.text);
    }
    assert_eq!(tokens(&site, "olga").await, 0);
    let (challenge, credential) = browser.step_up(&key, right.action, &right.digest).await;
    let proof = [("challenge", challenge.as_str()), ("credential", credential.as_str())];
    let answer = make_token(&browser, &proof).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(make_token(&browser, &proof).await.status, 403, "an answer works once");
    assert_eq!(tokens(&site, "olga").await, 1);
}

#[tokio::test]
async fn a_log_in_by_passkey_is_no_step_up_and_a_step_up_no_log_in() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    passkeys::add(&site, &browser, "olga", &key).await;
    browser.get("/account").await;
    let other = site.browser();
    let (challenge, credential) = other.answer_to_log_in(&key).await;
    let for_log_in = [("challenge", challenge.as_str()), ("credential", credential.as_str())];
    assert_eq!(make_token(&browser, &for_log_in).await.status, 403);
    let digest = Purpose::new("token make", &["olga"]).digest;
    let (challenge, credential) = browser.step_up(&key, "token make", &digest).await;
    let fields = [("challenge", challenge.as_str()), ("credential", credential.as_str())];
    assert_eq!(other.post("/login/passkey", &fields).await.status, 403);
}

#[tokio::test]
async fn a_question_put_to_one_person_is_not_answered_by_another() {
    let site = Site::new().await;
    let (olga, key) = (site.log_in("olga").await, SoftKey::new());
    let (sam, other) = (site.log_in("sam").await, SoftKey::new());
    passkeys::add(&site, &olga, "olga", &key).await;
    passkeys::add(&site, &sam, "sam", &other).await;
    olga.get("/account").await;
    let purpose = Purpose::new("token make", &["olga"]);
    let question = olga.question(purpose.action, &purpose.digest).await;
    let challenge = question["challenge"].as_str().unwrap();
    let answer =
        make_token(&olga, &[("challenge", challenge), ("credential", &other.prove(&question))]).await;
    assert_eq!(answer.status, 403);
    assert_eq!(tokens(&site, "olga").await, 0);
}

#[tokio::test]
async fn what_a_step_up_was_for_stands_in_the_audit_log() {
    let site = Site::new().await;
    let browser = site.log_in("olga").await;
    make_token(&browser, &[("code", &site.code("olga"))]).await;
    let used = site.audited("second_factor.used").await;
    let digest = Purpose::new("token make", &["olga"]).digest;
    let entry = used.iter().find(|e| e.contains(&digest)).unwrap_or_else(|| panic!("{used:?}"));
    assert!(entry.contains("token make") && entry.contains("totp"), "{entry}");
}

#[tokio::test]
async fn only_an_action_with_a_digest_is_asked_about() {
    let site = Site::new().await;
    let (browser, key) = (site.log_in("olga").await, SoftKey::new());
    passkeys::add(&site, &browser, "olga", &key).await;
    browser.get("/account").await;
    for (action, digest) in
        [("", ""), ("token make", "short"), (&*"a".repeat(65), &*"0".repeat(64)), ("x", &*"g".repeat(64))]
    {
        let answer = browser.post("/step-up", &[("action", action), ("digest", digest)]).await;
        assert_eq!(answer.status, 422, "{action:?} {digest:?}");
    }
    let without = site.log_in("sam").await;
    let answer = without.post("/step-up", &[("action", "token make"), ("digest", &"0".repeat(64))]).await;
    assert_eq!(answer.status, 409, "sam has no passkey");
}

#[tokio::test]
async fn guesses_at_codes_are_bounded() {
    let site = Site::new().await;
    let browser = site.log_in("olga").await;
    let (code, mut last) = (site.code("olga"), 0);
    for _ in 0..12 {
        last = make_token(&browser, &[("code", "123456")]).await.status.as_u16();
    }
    assert_eq!(last, 429);
    assert_eq!(make_token(&browser, &[("code", &code)]).await.status, 429);
    assert_eq!(tokens(&site, "olga").await, 0);
}
