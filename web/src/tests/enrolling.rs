//! From an invitation to an account.

use cofferdam_access::totp::TotpSecret;

use crate::testing::{Answer, Browser, Site, SoftKey, name};

const PASSWORD: &str = "a few plain words";

/// The form's fields as somebody with an authenticator app fills them in.
fn filled(site: &Site, page: &Answer, password: &str) -> Vec<(&'static str, String)> {
    let code = app_of(page).code_at(site.now());
    vec![
        ("password", password.to_owned()),
        ("again", password.to_owned()),
        ("pending", page.field("pending").unwrap()),
        ("code", code),
    ]
}

/// What the app holds after it has scanned the page.
fn app_of(page: &Answer) -> TotpSecret {
    let (_, rest) = page.text.split_once("<code class=\"wrap\">").unwrap();
    TotpSecret::from_base32(rest.split_once('<').unwrap().0).unwrap()
}

async fn send(browser: &Browser, path: &str, fields: &[(&'static str, String)]) -> Answer {
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    browser.post(path, &fields).await
}

fn recovery_codes(page: &Answer) -> Vec<String> {
    page.text
        .split("<li>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</li>").map(|(code, _)| code.to_owned()))
        .filter(|code| !code.contains('<'))
        .collect()
}

#[tokio::test]
async fn an_invitation_sets_password_and_app_and_shows_recovery_codes_once() {
    let site = Site::new().await;
    let path = format!("/enrol/{}", site.invite("vera").await);
    let browser = site.browser();
    let page = browser.get(&path).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Vera Vendor") && page.text.contains("data:image/svg+xml;base64,"));
    let done = send(&browser, &path, &filled(&site, &page, PASSWORD)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let codes = recovery_codes(&done);
    assert!(codes.len() >= 8, "{}", done.text);

    let used_up = app_of(&page).code_at(site.now());
    assert_eq!(
        site.browser().log_in("vera", PASSWORD, &used_up).await.status,
        403,
        "the code proved the app"
    );
    site.clock().advance(30);
    let code = app_of(&page).code_at(site.now());
    assert_eq!(site.browser().log_in("vera", PASSWORD, &code).await.status, 303);
    assert_eq!(site.browser().log_in("vera", PASSWORD, &codes[0]).await.status, 303);
    assert_eq!(
        site.browser().log_in("vera", PASSWORD, &codes[0]).await.status,
        403,
        "a recovery code works once"
    );
    assert_eq!(site.browser().log_in("vera", &crate::testing::password("vera"), &codes[1]).await.status, 403);
}

#[tokio::test]
async fn an_invitation_that_is_used_over_unknown_or_for_nobody_says_the_same() {
    let site = Site::new().await;
    let (used, over, disabled) =
        (site.invite("vera").await, site.invite("emil").await, site.invite("ivan").await);
    let browser = site.browser();
    let path = format!("/enrol/{used}");
    let page = browser.get(&path).await;
    assert_eq!(send(&browser, &path, &filled(&site, &page, PASSWORD)).await.status, 200);
    let open_elsewhere = site.browser();
    let over_page = open_elsewhere.get(&format!("/enrol/{over}")).await;
    assert_eq!(over_page.status, 200);
    site.disable("ivan").await;
    let fields = filled(&site, &over_page, PASSWORD);
    site.clock().advance(3601);

    let mut seen = Vec::new();
    for code in [&used, &over, &disabled, "not-an-invitation", &"a".repeat(32)] {
        let answer = site.browser().get(&format!("/enrol/{code}")).await;
        seen.push((answer.status.as_u16(), answer.text));
    }
    assert_eq!(seen[0].0, 422);
    assert!(seen.iter().all(|s| s == &seen[0]), "{seen:#?}");
    assert_eq!(send(&open_elsewhere, &format!("/enrol/{over}"), &fields).await.status, 422);
    let fields = filled(&site, &page, PASSWORD);
    assert_eq!(send(&browser, &path, &fields).await.status, 422);
}

#[tokio::test]
async fn of_two_browsers_with_one_invitation_the_first_wins() {
    let site = Site::new().await;
    let path = format!("/enrol/{}", site.invite("vera").await);
    let (one, two) = (site.browser(), site.browser());
    let (first, second) = (one.get(&path).await, two.get(&path).await);
    let (first, second) =
        (filled(&site, &first, "the first one wins"), filled(&site, &second, "the second one wins"));
    let answers = futures::join!(send(&one, &path, &first), send(&two, &path, &second));
    let mut all = [answers.0.status.as_u16(), answers.1.status.as_u16()];
    all.sort_unstable();
    assert!(all == [200, 409] || all == [200, 422], "{all:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_invitation_stays_good() {
    let site = Site::new().await;
    let path = format!("/enrol/{}", site.invite("vera").await);
    let browser = site.browser();
    for (wrong, says) in [
        (("again", "something else"), "the two passwords differ"),
        (("password", "short"), "the two passwords differ"),
        (("code", "000000"), "the code does not fit"),
    ] {
        let page = browser.get(&path).await;
        let mut fields = filled(&site, &page, PASSWORD);
        fields.iter_mut().filter(|(n, _)| *n == wrong.0).for_each(|(_, v)| *v = wrong.1.to_owned());
        let answer = send(&browser, &path, &fields).await;
        assert!(answer.text.contains(says), "{}", answer.text);
        let again = app_of(&answer).to_base32();
        assert!(*again == *app_of(&page).to_base32(), "the app that scanned the page still fits");
    }
    let page = browser.get(&path).await;
    let short = send(&browser, &path, &filled(&site, &page, "short")).await;
    assert!(short.text.contains("shorter than 12"), "{}", short.text);
    let page = browser.get(&path).await;
    assert_eq!(send(&browser, &path, &filled(&site, &page, PASSWORD)).await.status, 200);
}

#[tokio::test]
async fn a_secret_shown_for_one_invitation_serves_for_no_other() {
    let site = Site::new().await;
    let (vera, emil) = (site.invite("vera").await, site.invite("emil").await);
    let browser = site.browser();
    let page = browser.get(&format!("/enrol/{vera}")).await;
    let answer = send(&browser, &format!("/enrol/{emil}"), &filled(&site, &page, PASSWORD)).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("open the invitation again"));
}

#[tokio::test]
async fn a_new_invitation_ends_the_one_before_and_log_ins() {
    let site = Site::new().await;
    let logged_in = site.log_in("vera").await;
    let (old, new) = (site.invite("vera").await, site.invite("vera").await);
    assert_eq!(site.browser().get(&format!("/enrol/{old}")).await.status, 422);
    let (browser, path) = (site.browser(), format!("/enrol/{new}"));
    let page = browser.get(&path).await;
    assert_eq!(send(&browser, &path, &filled(&site, &page, PASSWORD)).await.status, 200);
    assert_eq!(logged_in.get("/account").await.status, 303, "who enrols anew is logged in nowhere");
}

/// Enrols the person anew, with a passkey and no app.
pub(super) async fn by_passkey(site: &Site, person: &str, key: &SoftKey) -> Answer {
    site.store().remove_credentials(&site.act("ada"), &name(person)).await.unwrap();
    let path = format!("/enrol/{}", site.invite(person).await);
    let browser = site.browser();
    let page = browser.get(&path).await;
    let question = browser.post(&format!("{path}/passkey"), &[]).await.json();
    let mut fields = filled(site, &page, PASSWORD);
    fields.retain(|(n, _)| *n != "code");
    fields.push(("challenge", question["challenge"].as_str().unwrap().to_owned()));
    fields.push(("credential", key.make(&question)));
    send(&browser, &path, &fields).await
}

#[tokio::test]
async fn a_passkey_enrols_and_logs_in_without_a_password() {
    let (site, key) = (Site::new().await, SoftKey::new());
    let done = by_passkey(&site, "vera", &key).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(site.browser().log_in_with(&key).await.status, 303);
    let kept = site.store().credentials(&name("vera")).await.unwrap().unwrap();
    assert!(kept.totp_sealed.is_none(), "the secret that was shown but not scanned is not kept");
}

#[tokio::test]
async fn a_passkey_made_for_one_invitation_enrols_nobody_else() {
    let site = Site::new().await;
    let (vera, emil) = (site.invite("vera").await, site.invite("emil").await);
    let (browser, key) = (site.browser(), SoftKey::new());
    browser.get(&format!("/enrol/{vera}")).await;
    let question = browser.post(&format!("/enrol/{vera}/passkey"), &[]).await.json();
    let page = browser.get(&format!("/enrol/{emil}")).await;
    let mut fields = filled(&site, &page, PASSWORD);
    fields.push(("challenge", question["challenge"].as_str().unwrap().to_owned()));
    fields.push(("credential", key.make(&question)));
    assert_eq!(send(&browser, &format!("/enrol/{emil}"), &fields).await.status, 403);
    assert_eq!(site.browser().log_in_with(&key).await.status, 403);
}
