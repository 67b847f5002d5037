//! All routes, asked by everybody.

use crate::{
    routes::{Listed, Rule, listing},
    testing::{Answer, Browser, HOST, PEOPLE, Site, name},
};

/// What the gate says to duties that its rule does not name.
const BY_RULE: &str = "for other duties than yours";
/// All scopes of tokens.
const SCOPES: [&str; 7] = ["read", "connect", "request", "decide", "control", "investigate", "administer"];

/// A route with its parameters filled in.
struct Asked {
    listed: Listed,
    path: String,
}

impl Asked {
    fn is_page(&self) -> bool {
        self.listed.scope.is_none()
    }
    fn posts(&self) -> bool {
        self.listed.method == "POST"
    }
    fn what(&self) -> String {
        format!("{} {}", self.listed.method, self.path)
    }
}

/// Every route, about a window and machines that exist.
async fn everything(site: &Site) -> Vec<Asked> {
    let window = site.ask(|_| ()).await.to_string();
    let listed = listing(site.services()).unwrap();
    assert!(listed.len() > 60, "{listed:?}");
    listed.into_iter().map(|listed| Asked { path: filled(listed.path, &window), listed }).collect()
}

fn filled(path: &str, window: &str) -> String {
    let mut before = "";
    let segments = path.split('/').map(|segment| {
        let known = match (segment.starts_with('{'), before) {
            (false, _) => segment,
            (true, "windows" | "approvals") => window,
            (true, "assets") => "pump-hmi",
            (true, "people") => "vera",
            (true, "zones" | "plant") => "cell-1",
            (true, _) => "0197d2a0-0000-7000-8000-000000000001",
        };
        before = segment;
        known.to_owned()
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn ask(browser: &Browser, asked: &Asked) -> Answer {
    let answer =
        if asked.posts() { browser.post(&asked.path, &[]).await } else { browser.get(&asked.path).await };
    is_secure(&answer, asked);
    answer
}

async fn ask_api(site: &Site, token: &str, asked: &Asked) -> Answer {
    let answer = if asked.posts() {
        site.api_post(token, &asked.path, &serde_json::json!({})).await
    } else {
        site.api_get(token, &asked.path).await
    };
    is_secure(&answer, asked);
    answer
}

fn is_secure(answer: &Answer, asked: &Asked) {
    let what = asked.what();
    let policy = answer.header("content-security-policy");
    for part in ["default-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{what}: {part} is missing in {policy:?}");
    }
    for part in ["'unsafe-inline'", "'unsafe-eval'", "http:", "*"] {
        assert!(!policy.contains(part), "{what}: {part} in {policy:?}");
    }
    assert!(answer.header("strict-transport-security").starts_with("max-age="), "{what}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(answer.header("x-frame-options"), "DENY", "{what}");
    if !(asked.path.starts_with("/assets/") && answer.status == 200) {
        assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    }
    for cookie in answer.headers.get_all("set-cookie") {
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{what}: {cookie}");
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite="), "{what}: {cookie}");
    }
    if answer.header("content-type").starts_with("text/html") {
        has_nothing_inline(&answer.text, &what);
    }
}

/// No script or style in a page: the policy would stop them, and a page that relies on them would be broken.
fn has_nothing_inline(html: &str, what: &str) {
    for script in html.split("<script").skip(1) {
        assert!(script.starts_with(" src=\"/assets/"), "{what}: an inline script");
    }
    for inline in ["<style", " style=\"", " onclick=", " onsubmit=", " onload=", " hx-on", "javascript:"] {
        assert!(!html.contains(inline), "{what}: {inline}");
    }
}

fn was_refused_by_rule(answer: &Answer) -> bool {
    answer.status == 403 && answer.text.contains(BY_RULE)
}

fn led_to_log_in(answer: &Answer) -> bool {
    answer.status == 401 || (answer.status == 303 && answer.location().starts_with("/login"))
}

#[tokio::test]
async fn what_is_open_to_everybody_is_written_down_here() {
    let site = Site::new().await;
    let open: Vec<String> = listing(site.services())
        .unwrap()
        .iter()
        .filter(|l| l.rule == Rule::Public)
        .map(|l| format!("{} {}", l.method, l.path))
        .collect();
    let known = [
        "GET /assets/{print}/{name}",
        "GET /ca/krl",
        "GET /ca/user",
        "GET /ca/known_hosts",
        "GET /login",
        "POST /login",
        "POST /login/passkey/options",
        "POST /login/passkey",
        "GET /enrol/{invitation}",
        "POST /enrol/{invitation}",
        "POST /enrol/{invitation}/passkey",
        "GET /api/v1/openapi.json",
    ];
    assert_eq!(open, known);
}

#[tokio::test]
async fn nobody_is_led_to_the_log_in_and_a_program_is_told() {
    let site = Site::new().await;
    for asked in everything(&site).await {
        let what = asked.what();
        if !asked.is_page() {
            for token in ["", "no-token", &"a".repeat(43)] {
                let answer = ask_api(&site, token, &asked).await;
                assert_eq!(answer.status, 401, "{what}");
                assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
                assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
            }
            continue;
        }
        let browser = site.browser();
        browser.get("/login").await;
        let answer = ask(&browser, &asked).await;
        match (asked.listed.rule, asked.posts()) {
            (Rule::Public, _) => assert!(!led_to_log_in(&answer), "{what}: {}", answer.status),
            (_, true) => assert_eq!(answer.status, 401, "{what}"),
            (_, false) => {
                assert_eq!(answer.status, 303, "{what}");
                assert!(answer.location().starts_with("/login"), "{what}: {}", answer.location());
            }
        }
    }
}

#[tokio::test]
async fn each_duty_gets_what_its_rule_says_and_nothing_else() {
    let site = Site::new().await;
    let all = everything(&site).await;
    for person in PEOPLE {
        let user = site.services().snapshots.borrow().site.user(&name(person)).unwrap().clone();
        let mut browser = site.log_in(person).await;
        for asked in all.iter().filter(|a| a.is_page()) {
            let what = format!("{} as {person}", asked.what());
            let answer = ask(&browser, asked).await;
            if asked.listed.rule.admits(&user) {
                assert!(!was_refused_by_rule(&answer), "{what}");
                let forgets = answer.header("set-cookie").contains("Max-Age=0");
                assert!(
                    forgets || !led_to_log_in(&answer),
                    "{what}: {} {}",
                    answer.status,
                    answer.location()
                );
                assert_ne!(answer.status, 500, "{what}: {}", answer.text);
            } else {
                assert!(was_refused_by_rule(&answer), "{what}: {} {}", answer.status, answer.text);
            }
            if browser.cookie("__Host-cofferdam").is_none() {
                browser = site.log_in(person).await;
            }
        }
    }
}

#[tokio::test]
async fn a_token_opens_what_its_scope_and_its_persons_duties_both_allow() {
    let site = Site::new().await;
    let all = everything(&site).await;
    for person in PEOPLE {
        let user = site.services().snapshots.borrow().site.user(&name(person)).unwrap().clone();
        for scope in SCOPES {
            let token = site.token(person, &[scope]).await;
            for asked in all.iter().filter(|a| !a.is_page()) {
                let what = format!("{} as {person} with {scope:?}", asked.what());
                let answer = ask_api(&site, &token, asked).await;
                if !asked.listed.scope.is_some_and(|s| s.has(scope)) {
                    assert_eq!(answer.status, 403, "{what}: {}", answer.text);
                    assert!(answer.text.contains("this token may not do that"), "{what}: {}", answer.text);
                } else if asked.listed.rule.admits(&user) {
                    assert!(!was_refused_by_rule(&answer) && answer.status != 401, "{what}: {}", answer.text);
                    assert_ne!(answer.status, 500, "{what}: {}", answer.text);
                } else {
                    assert!(was_refused_by_rule(&answer), "{what}: {} {}", answer.status, answer.text);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_cookie_opens_no_api_and_a_token_no_page() {
    let site = Site::new().await;
    let all = everything(&site).await;
    for person in PEOPLE {
        let browser = site.log_in(person).await;
        let token = site.token(person, &SCOPES).await;
        for asked in &all {
            let what = format!("{} as {person}", asked.what());
            if asked.is_page() {
                if asked.listed.rule != Rule::Public {
                    assert!(led_to_log_in(&ask_api(&site, &token, asked).await), "{what}");
                }
            } else {
                assert_eq!(ask(&browser, asked).await.status, 401, "{what}");
            }
        }
    }
}

/// Ways to send a form that is not ours, or not from our page: what is sent as proof, and with which headers.
fn forgeries(proof: &str) -> Vec<(String, Vec<(&'static str, String)>)> {
    let (own, site) = (format!("https://{HOST}"), "sec-fetch-site");
    let no_proofs =
        ["", "wrong"].map(|p| (p.to_owned(), vec![("origin", own.clone()), (site, "same-origin".into())]));
    let elsewhere = [
        vec![("origin", "https://evil.example".to_owned()), (site, "cross-site".to_owned())],
        vec![("origin", "https://evil.example".to_owned())],
        vec![("origin", "null".to_owned())],
        vec![("origin", format!("http://{HOST}"))],
        vec![("origin", own.clone()), (site, "same-site".to_owned())],
        vec![(site, "cross-site".to_owned())],
    ]
    .map(|headers| (proof.to_owned(), headers));
    no_proofs.into_iter().chain(elsewhere).collect()
}

#[tokio::test]
async fn a_form_without_proof_or_from_another_site_does_nothing() {
    let site = Site::new().await;
    let all = everything(&site).await;
    for asked in all.iter().filter(|a| a.is_page() && a.posts()) {
        let browser = match PEOPLE.into_iter().find(|p| {
            let picture = site.services().snapshots.borrow().clone();
            asked.listed.rule.admits(picture.site.user(&name(p)).unwrap())
        }) {
            Some(person) if asked.listed.rule != Rule::Public => site.log_in(person).await,
            _ => {
                let browser = site.browser();
                browser.get("/login").await;
                browser
            }
        };
        let before = site.store().revision().await.unwrap();
        for (proof, headers) in forgeries(&browser.proof()) {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = browser.post_raw(&asked.path, &[("form", &proof)], &headers).await;
            let refused = answer.status == 403 && answer.text.contains("came from another site")
                || answer.status == 422 && answer.text.contains("was open for too long");
            assert!(refused, "{} {headers:?}: {} {}", asked.what(), answer.status, answer.text);
            is_secure(&answer, asked);
        }
        let own = format!("https://{HOST}");
        let another = site.log_in("vera").await;
        let answer = browser.post_raw(&asked.path, &[("form", &another.proof())], &[("origin", &own)]).await;
        assert_eq!(answer.status, 422, "{}: the proof of another log-in", asked.what());
        assert_eq!(site.store().revision().await.unwrap(), before, "{}: something changed", asked.what());
    }
}

#[tokio::test]
async fn a_path_that_is_none_answers_as_securely_as_any() {
    let site = Site::new().await;
    let nothing = Asked {
        listed: Listed { method: "GET", path: "/nothing", rule: Rule::Public, scope: None },
        path: "/nothing/<script>alert(1)</script>".replace(['<', '>'], "%3C"),
    };
    let answer = ask(&site.browser(), &nothing).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.text.contains("alert(1)"));
}
