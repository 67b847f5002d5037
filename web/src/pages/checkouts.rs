//! Secrets that people see: asking, agreeing, seeing one once, and returning it.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    checking_out,
    checkout::{Checkout, CheckoutStanding, Followed},
};
use cofferdam_vault::SecretString;
use serde::Deserialize;

use crate::{
    checkouts::{self, INSIDE},
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment},
    pages::windows::act::approving_duty,
    routes::Routes,
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/checkouts", INSIDE, list)
        .post("/checkouts", INSIDE, ask)
        .get("/checkouts/{id}", INSIDE, show)
        .post("/checkouts/{id}/agree", INSIDE, agree)
        .post("/checkouts/{id}/refuse", INSIDE, refuse)
        .post("/checkouts/{id}/see", INSIDE, see)
        .post("/checkouts/{id}/return", INSIDE, give_back)
}

/// One check-out in the listing.
struct Row {
    id: String,
    account: String,
    person: String,
    state: &'static str,
    pill: &'static str,
    asked: Moment,
    until: Option<Moment>,
    reason: String,
}

impl Row {
    fn of(one: &Checkout, frame: &Frame) -> Self {
        let state = one.phase(frame.now);
        Self {
            id: one.id().to_string(),
            account: one.request.account.to_string(),
            person: one.request.person.to_string(),
            state,
            pill: match state {
                "open" => "t-warn",
                "waiting" | "agreed" => "t-info",
                "refused" => "t-bad",
                _ => "t-ok",
            },
            asked: frame.zone.at(one.request.requested_at),
            until: frame.zone.maybe(one.shown.as_ref().map(|s| s.until)),
            reason: one.request.reason.clone(),
        }
    }
}

#[derive(Template)]
#[template(path = "checkouts.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Row>,
    choices: Vec<String>,
}

async fn list(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/checkouts");
    let all = checkouts::list(&app, &viewer).await?;
    let rows = all.iter().map(|one| Row::of(one, &frame)).collect();
    let choices = checkouts::choices(&app, &viewer).iter().map(ToString::to_string).collect();
    frame::page(&ListPage { rows, choices, frame })
}

#[derive(Deserialize)]
struct Asking {
    account: String,
    reason: String,
    duration: String,
}

async fn ask(State(app): State<App>, viewer: Viewer, Form(form): Form<Asking>) -> Result<Response, Failure> {
    let asked = checkouts::ask(&app, &viewer, &form.account, &form.reason, &form.duration).await?;
    Ok(to(&asked))
}

fn to(checkout: &Checkout) -> Response {
    Redirect::to(&format!("/checkouts/{}", checkout.id())).into_response()
}

/// One person's yes.
struct Agreed {
    by: String,
    duty: &'static str,
    at: Moment,
    remark: String,
}

#[derive(Template)]
#[template(path = "checkout.html")]
struct ShowPage {
    frame: Frame,
    row: Row,
    text: String,
    digest: String,
    groups: Vec<String>,
    agreed: Vec<Agreed>,
    /// What became of it, as a sentence.
    outcome: String,
    /// The viewer may see the secret now.
    may_see: bool,
    /// The viewer asked, and others have to agree first.
    waits_for_others: bool,
    may_agree: bool,
    may_refuse: bool,
    may_return: bool,
    agree_action: &'static str,
    see_action: &'static str,
}

async fn show(State(app): State<App>, viewer: Viewer, Path(id): Path<String>) -> Result<Response, Failure> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let frame = Frame::new(&app, &viewer, "/checkouts");
    let (request, now) = (&checkout.request, frame.now);
    let waits = checkout.waits(now).is_ok();
    let own = waits && checkouts::owns(&viewer, &checkout);
    let digest = request.digest();
    let coming = checkouts::coming(&viewer);
    let needs_others = own
        && checkout.phase(now) != "agreed"
        && checking_out::needs_others(&app.snapshot(), &coming, request, now);
    let may_agree = checkout
        .open_duty(&viewer.user)
        .is_some_and(|duty| checkout.clone().agree(&viewer.user, duty, digest, "", now).is_ok());
    let page = ShowPage {
        row: Row::of(&checkout, &frame),
        text: request.canonical_text(),
        groups: frame::grouped(&digest.to_string()),
        digest: digest.to_string(),
        agreed: checkout
            .agreements
            .iter()
            .map(|a| Agreed {
                by: a.by.to_string(),
                duty: a.duty.as_str(),
                at: frame.zone.at(a.at),
                remark: a.remark.clone().unwrap_or_default(),
            })
            .collect(),
        outcome: outcome(&checkout),
        may_see: own && !needs_others,
        waits_for_others: needs_others,
        may_agree,
        may_refuse: checkout.clone().refuse(&viewer.user, "a question", now).is_ok(),
        may_return: checkouts::may_return(&viewer, &checkout),
        agree_action: checkouts::AGREE,
        see_action: checkouts::SEE,
        frame,
    };
    frame::page(&page)
}

fn outcome(checkout: &Checkout) -> String {
    let account = &checkout.request.account;
    let next = match &checkout.followed {
        Some(Followed::Rotation(_)) => "The vault changes the secret.".to_owned(),
        Some(Followed::ByHand) => format!(
            "The vault does not change this secret by itself: change it on the target by hand, then run cofferdam \
             account set-secret {account}."
        ),
        None => String::new(),
    };
    match &checkout.standing {
        CheckoutStanding::Waiting | CheckoutStanding::Open => String::new(),
        CheckoutStanding::Returned { by, .. } => format!("Returned by {by}. {next}"),
        CheckoutStanding::Expired { .. } => format!("Its end came. {next}"),
        CheckoutStanding::Refused { by, reason, .. } => format!("{by} refused it: {reason}"),
    }
}

/// A step-up, and what some of the forms ask besides.
#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    digest: String,
    #[serde(default)]
    duty: String,
    #[serde(default)]
    remark: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

impl Step {
    fn proof(&self) -> Proof<'_> {
        Proof { code: &self.code, challenge: &self.challenge, credential: &self.credential }
    }
}

async fn agree(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(step): Form<Step>,
) -> Result<Response, Failure> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let duty = approving_duty(&step.duty)?;
    let done =
        checkouts::agree(&app, &viewer, &checkout, duty, &step.digest, &step.remark, step.proof()).await?;
    Ok(to(&done))
}

#[derive(Deserialize)]
struct Refusing {
    reason: String,
}

async fn refuse(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(form): Form<Refusing>,
) -> Result<Response, Failure> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    Ok(to(&checkouts::refuse(&app, &viewer, &checkout, &form.reason).await?))
}

#[derive(Template)]
#[template(path = "checkout-secret.html")]
struct SecretPage<'s> {
    frame: Frame,
    row: Row,
    secret: &'s str,
}

async fn see(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(step): Form<Step>,
) -> Result<Response, Failure> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    let (opened, secret): (Checkout, SecretString) =
        checkouts::see(&app, &viewer, &checkout, step.proof()).await?;
    let frame = Frame::new(&app, &viewer, "/checkouts");
    frame::page(&SecretPage { row: Row::of(&opened, &frame), secret: secret.expose(), frame })
}

async fn give_back(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(_): Form<Step>,
) -> Result<Response, Failure> {
    let checkout = checkouts::visible(&app, &viewer, &id).await?;
    Ok(to(&checkouts::give_back(&app, &viewer, &checkout).await?))
}

#[cfg(test)]
mod tests {
    use crate::testing::{SECRET, Site, account};

    /// The demo's site, whose `operator@pump-hmi` people of the plant may see.
    async fn seen(jewel: bool) -> Site {
        let site = Site::with(|site| {
            site.accounts.iter_mut().filter(|a| a.needs_secret()).for_each(|a| a.checkout = true);
            site.assets.iter_mut().for_each(|a| a.crown_jewel = jewel);
        })
        .await;
        let operator = account("operator@pump-hmi");
        site.store().set_secret(&site.act("ada"), &operator, b"sealed").await.unwrap();
        site
    }

    const ASKED: [(&str, &str); 3] =
        [("account", "operator@pump-hmi"), ("reason", "the panel hangs"), ("duration", "1h")];

    #[tokio::test]
    async fn a_secret_is_seen_once_by_whoever_asked_with_a_fresh_code_and_returned() {
        let site = seen(false).await;
        let emil = site.log_in("emil").await;
        assert!(emil.get("/checkouts").await.text.contains("operator@pump-hmi"), "may be asked for");
        let asked = emil.post("/checkouts", &ASKED).await;
        assert_eq!(asked.status, 303, "{}", asked.text);
        let path = asked.location().to_owned();
        let page = emil.get(&path).await;
        assert!(page.text.contains("See the secret") && !page.text.contains(SECRET), "{}", page.text);
        let see = format!("{path}/see");
        let none = emil.post(&see, &[("code", "")]).await;
        assert!(none.status == 403 && !none.text.contains(SECRET), "{}", none.text);
        let ada = site.log_in("ada").await;
        let other = ada.post(&see, &[("code", &site.code("ada"))]).await;
        assert!(
            other.status == 403 && !other.text.contains(SECRET),
            "an administrator neither: {}",
            other.text
        );
        let shown = emil.post(&see, &[("code", &site.code("emil"))]).await;
        assert!(shown.status == 200 && shown.text.contains(SECRET), "{}", shown.text);
        assert_eq!(shown.header("cache-control"), "no-store");
        let again = emil.post(&see, &[("code", &site.code("emil"))]).await;
        assert!(again.status == 409 && !again.text.contains(SECRET), "{}", again.text);
        assert!(!emil.get(&path).await.text.contains(SECRET));
        let back = emil.post(&format!("{path}/return"), &[]).await;
        assert_eq!(back.status, 303, "{}", back.text);
        assert!(emil.get(&path).await.text.contains("by hand"), "nothing rotates it in this site");
        let log = site.audited("checkout.opened").await.join("\n");
        assert!(log.contains("the panel hangs") && !log.contains(SECRET), "{log}");
    }

    #[tokio::test]
    async fn on_a_crown_jewel_two_others_agree_first_and_vendors_are_kept_out() {
        let site = seen(true).await;
        let emil = site.log_in("emil").await;
        let path = emil.post("/checkouts", &ASKED).await.location().to_owned();
        assert!(emil.get(&path).await.text.contains("Two other people"));
        let early = emil.post(&format!("{path}/see"), &[("code", &site.code("emil"))]).await;
        assert!(early.status == 403 && early.text.contains("two other people"), "{}", early.text);
        for person in ["olga", "sam"] {
            let browser = site.log_in(person).await;
            let page = browser.get(&path).await.text;
            let digest = page.split("name=\"digest\" value=\"").nth(1).unwrap().split('"').next().unwrap();
            let (wrong, code) = ("0".repeat(64), site.code(person));
            let other = [("digest", wrong.as_str()), ("code", code.as_str())];
            assert_eq!(browser.post(&format!("{path}/agree"), &other).await.status, 422);
            let code = site.code(person);
            let form = [("digest", digest), ("code", code.as_str())];
            let done = browser.post(&format!("{path}/agree"), &form).await;
            assert_eq!(done.status, 303, "{person}: {}", done.text);
        }
        let shown = emil.post(&format!("{path}/see"), &[("code", &site.code("emil"))]).await;
        assert!(shown.text.contains(SECRET), "{}", shown.text);
        let vera = site.log_in("vera").await;
        assert_eq!(vera.get(&path).await.status, 403);
        assert_eq!(vera.post("/checkouts", &ASKED).await.status, 403);
    }

    #[tokio::test]
    async fn programs_ask_agree_see_and_return_by_the_same_rules() {
        let site = seen(false).await;
        let token = site.token("emil", &["read", "request"]).await;
        let body = serde_json::json!({"account": "operator@pump-hmi", "reason": "the panel hangs", "duration": "30m"});
        let asked = site.api_post(&token, "/api/v1/checkouts", &body).await;
        let id = asked.json()["id"].as_str().unwrap_or_else(|| panic!("{}", asked.text)).to_owned();
        let see = format!("/api/v1/checkouts/{id}/see");
        assert_eq!(site.api_post(&token, &see, &serde_json::json!({})).await.status, 403, "without a code");
        let shown = site.api_post(&token, &see, &serde_json::json!({"code": site.code("emil")})).await;
        assert_eq!(shown.json()["secret"], SECRET, "{}", shown.text);
        let listed = site.api_get(&token, "/api/v1/checkouts").await;
        assert!(listed.json()[0]["state"] == "open" && !listed.text.contains(SECRET), "{}", listed.text);
        let back =
            site.api_post(&token, &format!("/api/v1/checkouts/{id}/return"), &serde_json::json!({})).await;
        assert_eq!(back.json()["state"], "returned", "{}", back.text);
        let vendor = site.token("vera", &["read", "request"]).await;
        assert_eq!(site.api_post(&vendor, "/api/v1/checkouts", &body).await.status, 403);
    }
}
