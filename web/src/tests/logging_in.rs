//! Password and code.

use futures::future::join_all;

use crate::testing::{HOST, Site, password};

#[tokio::test]
async fn a_wrong_name_password_or_code_and_a_disabled_person_look_the_same() {
    let site = Site::new().await;
    site.disable("emil").await;
    let browser = site.browser();
    let mut answers = Vec::new();
    for (person, pass, code) in [
        ("nobody", password("vera"), site.code("vera")),
        ("vera", "wrong horse".to_owned(), site.code("vera")),
        ("vera", password("vera"), "000000".to_owned()),
        ("emil", password("emil"), site.code("emil")),
        ("../vera", password("vera"), site.code("vera")),
        ("vera", String::new(), String::new()),
    ] {
        let now = site.now();
        let answer = browser.log_in(person, &pass, &code).await;
        assert_eq!(site.now(), now);
        assert!(browser.cookie("__Host-cofferdam").is_none());
        let mut text = answer.text.replace(&format!("value=\"{person}\""), "");
        // The clock moves between the codes, and the page shows it.
        text.retain(|c| !c.is_ascii_digit());
        answers.push((answer.status, answer.headers.len(), text));
    }
    assert_eq!(answers[0].0, 403);
    assert!(answers[0].2.contains("Name, password or code is wrong"));
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
}

#[tokio::test]
async fn a_code_logs_in_once() {
    let site = Site::new().await;
    let (one, two) = (site.browser(), site.browser());
    let code = site.code("vera");
    assert_eq!(one.log_in("vera", &password("vera"), &code).await.status, 303);
    assert_eq!(two.log_in("vera", &password("vera"), &code).await.status, 403);
    let again = site.code("vera");
    assert_eq!(two.log_in("vera", &password("vera"), &again).await.status, 303);
}

#[tokio::test]
async fn of_many_log_ins_at_once_with_one_code_one_gets_in() {
    let site = Site::new().await;
    let code = site.code("vera");
    let attempts = (0..8).map(|_| {
        let (browser, code) = (site.browser(), code.clone());
        async move { browser.log_in("vera", &password("vera"), &code).await.status }
    });
    let got_in = join_all(attempts).await.into_iter().filter(|s| *s == 303).count();
    assert_eq!(got_in, 1);
}

#[tokio::test]
async fn guesses_beyond_the_limit_are_not_looked_at_and_lock_nobody_out() {
    let site = Site::new().await;
    let known = site.browser();
    assert_eq!(known.log_in("vera", &password("vera"), &site.code("vera")).await.status, 303);
    known.post("/logout", &[]).await;
    // Taken now: the clock that moves for a code would bring an attempt back.
    let code = site.code("vera");
    let guesses = (0..12).map(|_| {
        let browser = site.browser();
        async move { browser.log_in("vera", "wrong horse battery", "123456").await }
    });
    let answers = join_all(guesses).await;
    let slowed: Vec<_> = answers.iter().filter(|a| a.status == 429).collect();
    assert!(slowed.len() >= 2, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    assert_eq!(slowed[0].header("retry-after"), "60");
    // Not even the right password counts now from a place where vera never was…
    let fresh = site.browser();
    assert_eq!(fresh.log_in("vera", &password("vera"), &code).await.status, 429);
    // …but vera herself gets in from where she was before, and others from anywhere.
    let again = site.browser_at(known.source());
    assert_eq!(again.log_in("vera", &password("vera"), &code).await.status, 303);
    site.log_in("olga").await;
    site.clock().advance(600);
    assert_eq!(fresh.log_in("vera", &password("vera"), &site.code("vera")).await.status, 303);
}

#[tokio::test]
async fn many_guesses_from_one_place_are_slowed_down_whoever_they_are_for() {
    let site = Site::new().await;
    let browser = site.browser();
    browser.get("/login").await;
    let guesses = (0..40).map(|n| {
        let browser = &browser;
        let person = format!("person-{n}");
        async move {
            browser
                .post("/login", &[("user", &person), ("password", "wrong horse"), ("code", "1")])
                .await
                .status
        }
    });
    let slowed = join_all(guesses).await.into_iter().filter(|s| *s == 429).count();
    assert!((5..=15).contains(&slowed), "{slowed}");
}

#[tokio::test]
async fn where_a_request_says_it_comes_from_does_not_count() {
    let site = Site::new().await;
    let browser = site.browser();
    browser.get("/login").await;
    let fields = [
        ("form", browser.proof()),
        ("user", "vera".into()),
        ("password", password("vera")),
        ("code", site.code("vera")),
    ];
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let own = format!("https://{HOST}");
    let lies = [
        ("origin", own.as_str()),
        ("x-forwarded-for", "10.66.66.66"),
        ("forwarded", "for=10.66.66.66"),
        ("x-real-ip", "10.66.66.66"),
    ];
    assert_eq!(browser.post_raw("/login", &fields, &lies).await.status, 303);
    let account = browser.get("/account").await;
    assert!(account.text.contains(&browser.source().ip().to_string()), "{}", account.text);
    assert!(!account.text.contains("10.66.66.66"));
}

#[tokio::test]
async fn a_log_in_leads_to_the_page_that_was_asked_for_and_to_no_other_site() {
    let site = Site::new().await;
    for (next, leads_to) in [
        ("/account", "/account"),
        ("/windows?state=open", "/windows?state=open"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/\tevil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/logout", "/"),
    ] {
        let browser = site.browser();
        let shown = browser
            .get(&format!(
                "/login?next={}",
                url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>()
            ))
            .await;
        assert_eq!(shown.field("next").unwrap(), leads_to, "{next:?}");
        let code = site.code("olga");
        let fields = [("user", "olga"), ("password", &password("olga")), ("code", &code), ("next", next)];
        assert_eq!(browser.post("/login", &fields).await.location(), leads_to, "{next:?}");
    }
    let asked = site.browser().get("/account").await;
    assert_eq!(asked.location(), "/login?next=%2Faccount");
}

#[tokio::test]
async fn what_was_typed_comes_back_escaped() {
    let site = Site::new().await;
    let answer = site.browser().log_in("\"><script>alert(1)</script>", "x", "1").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.text.contains("<script>alert"), "{}", answer.text);
}
