//! Secrets that the vault changes: where each stands, who changed it when, and asking for a change. Never a value.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    authority::Stage,
    people::Duty,
    store::{KeptEnvelope, RotationStanding},
};
use cofferdam_vault::{Purpose, SecretString, rotation::State as Rotating};
use serde::Deserialize;

use crate::{
    admin::vault,
    checkouts::Gate,
    error::Failure,
    form::Form,
    frame::{self, Clock, Frame, Moment},
    routes::{ADMINISTRATORS, Routes, SITE_READERS},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/vault", SITE_READERS, list)
        .post("/vault/unseal", SITE_READERS, unseal)
        .get("/vault/{account}", SITE_READERS, show)
        .post("/vault/{account}/rotate", ADMINISTRATORS, rotate)
}

/// Where one account stands, for people.
struct Row {
    account: String,
    state: &'static str,
    /// The class of the mark that shows the state.
    mark: &'static str,
    rotated: Option<Moment>,
    verified: Option<Moment>,
    next: Option<Moment>,
    failing: Option<Moment>,
    trouble: String,
}

impl Row {
    fn of(one: &RotationStanding, zone: &Clock) -> Self {
        let waits = one.reason.is_some();
        let given_up = one.state == Rotating::Failed && !waits;
        let (state, mark) = match (given_up, one.trouble.is_some(), waits) {
            _ if !one.on => ("turned off on the way", "t-bad"),
            (true, ..) => ("given up", "t-bad"),
            (_, true, _) => ("in trouble", "t-warn"),
            (_, _, true) => ("being changed", "t-info"),
            _ => ("well", "t-ok"),
        };
        Self {
            account: one.account.to_string(),
            state,
            mark,
            rotated: zone.maybe(one.rotated_at),
            verified: zone.maybe(one.verified_at),
            next: zone.maybe(one.next_at),
            failing: zone.maybe(one.failing_since),
            trouble: one.trouble.clone().unwrap_or_default(),
        }
    }
}

#[derive(Template)]
#[template(path = "vault.html")]
struct ListPage {
    frame: Frame,
    gate: Gate,
    /// What was typed did not open it.
    problem: Option<String>,
    rows: Vec<Row>,
    authorities: Vec<AuthorityRow>,
    envelopes: Vec<Envelope>,
}

/// An SSH authority that is to be trusted.
struct AuthorityRow {
    id: String,
    purpose: &'static str,
    stage: &'static str,
    /// The class of the mark that shows the stage.
    mark: &'static str,
    signs_from: Option<Moment>,
    trusted_until: Option<Moment>,
    line: String,
}

async fn authorities(app: &App, zone: &Clock) -> Result<Vec<AuthorityRow>, Failure> {
    let (all, now) = (app.store.authorities().await?, app.now());
    let rows = Purpose::ALL.into_iter().flat_map(|p| all.published(p, now)).map(|one| {
        let stage = all.stage(one, now);
        AuthorityRow {
            id: one.id.clone(),
            purpose: match one.purpose {
                Purpose::User => "user, for targets",
                Purpose::Host => "host, for clients",
            },
            stage: stage.as_str(),
            mark: if stage == Stage::Signing { "t-ok" } else { "t-info" },
            // The first one has signed since before the store knew it.
            signs_from: zone.maybe(one.signs_from.filter(|from| from.micros() > 0)),
            trusted_until: zone.maybe(one.trusted_until),
            line: match one.purpose {
                Purpose::User => one.public_key.clone(),
                Purpose::Host => format!("@cert-authority * {}", one.public_key),
            },
        }
    });
    Ok(rows.collect())
}

/// A break-glass envelope that exists.
struct Envelope {
    account: String,
    version: u64,
    made: Moment,
    by: String,
    opened: Option<Moment>,
    outdated: bool,
}

async fn list(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    page(&app, &viewer, None).await
}

#[derive(Deserialize)]
struct Typed {
    typed: String,
}

/// What somebody holds opens the vault, and nothing else does: a second factor could not be checked while it is sealed.
async fn unseal(
    State(app): State<App>,
    viewer: Viewer,
    Form(given): Form<Typed>,
) -> Result<Response, Failure> {
    let typed = SecretString::from(given.typed.trim());
    match app.secrets.unseal(&viewer.user.name, typed).await {
        Ok(_) => Ok(Redirect::to("/vault").into_response()),
        Err(problem) => page(&app, &viewer, Some(problem)).await,
    }
}

async fn page(app: &App, viewer: &Viewer, problem: Option<String>) -> Result<Response, Failure> {
    let frame = Frame::new(app, viewer, "/vault");
    let rows = app.store.rotations().await?.iter().map(|one| Row::of(one, &frame.zone)).collect();
    let authorities = authorities(app, &frame.zone).await?;
    let envelope = |e: KeptEnvelope| Envelope {
        account: e.account.to_string(),
        version: e.version,
        made: frame.zone.at(e.made_at),
        by: e.made_by,
        opened: frame.zone.maybe(e.opened_at),
        outdated: e.outdated,
    };
    let envelopes = app.store.envelopes().await?.into_iter().map(envelope).collect();
    let gate = app.secrets.gate().await;
    frame::page(&ListPage { gate, problem, rows, authorities, envelopes, frame })
}

/// One change of a secret.
struct Change {
    version: u64,
    at: Moment,
    by: String,
    action: String,
}

#[derive(Template)]
#[template(path = "vault-account.html")]
struct ShowPage {
    frame: Frame,
    row: Row,
    history: Vec<Change>,
    may_rotate: bool,
    action: &'static str,
    digest: String,
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(account): Path<String>,
) -> Result<Response, Failure> {
    let standing = vault::read(&app, &account).await?;
    let frame = Frame::new(&app, &viewer, "/vault");
    let history = app.store.secret_history(&standing.account).await?;
    let page = ShowPage {
        row: Row::of(&standing, &frame.zone),
        history: history
            .into_iter()
            .map(|h| Change { version: h.version, at: frame.zone.at(h.at), by: h.by, action: h.action })
            .collect(),
        may_rotate: viewer.holds(Duty::Administrator),
        action: vault::ACTION,
        digest: vault::purpose(&standing.account).digest,
        frame,
    };
    frame::page(&page)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn rotate(
    State(app): State<App>,
    viewer: Viewer,
    Path(account): Path<String>,
    Form(asked): Form<Asked>,
) -> Result<Response, Failure> {
    let standing = vault::read(&app, &account).await?;
    let proof = Proof { code: &asked.code, challenge: &asked.challenge, credential: &asked.credential };
    vault::rotate(&app, &viewer, &standing.account, proof).await?;
    Ok(Redirect::to(&format!("/vault/{}", standing.account)).into_response())
}

#[cfg(test)]
mod tests {
    use cofferdam_vault::rotation::Reason;

    use crate::testing::{SHARE, Site, account};

    async fn rotated() -> Site {
        let site = Site::new().await;
        let operator = account("operator@pump-hmi");
        site.store().set_secret(&site.act("ada"), &operator, b"sealed-hunter2").await.unwrap();
        let managed = std::collections::BTreeMap::from([(operator, site.now().plus_seconds(60))]);
        site.store().manage_rotations(&site.act("ada"), &managed).await.unwrap();
        site
    }

    #[tokio::test]
    async fn a_change_of_a_secret_takes_an_administrator_and_a_fresh_code_for_that_account() {
        let site = rotated().await;
        let ada = site.log_in("ada").await;
        let page = ada.get("/vault").await;
        assert!(page.text.contains("operator@pump-hmi") && page.text.contains("well"), "{}", page.text);
        let shown = ada.get("/vault/operator@pump-hmi").await;
        assert!(shown.text.contains("Change it now") && !shown.text.contains("hunter2"), "{}", shown.text);
        let refused = ada.post("/vault/operator@pump-hmi/rotate", &[]).await;
        assert_ne!(refused.status, 303, "without a code: {}", refused.text);
        let done = ada.post("/vault/operator@pump-hmi/rotate", &[("code", &site.code("ada"))]).await;
        assert_eq!(done.status, 303, "{}", done.text);
        let standing = site.store().rotation(&account("operator@pump-hmi")).await.unwrap().unwrap();
        assert_eq!(standing.reason, Some(Reason::Demand));
        let sam = site.log_in("sam").await;
        let read = sam.get("/vault/operator@pump-hmi").await;
        assert!(read.text.contains("being changed") && !read.text.contains("Change it now"), "{}", read.text);
        let none = ada.get("/vault/root@pump-hmi").await;
        assert_eq!(none.status, 404, "it is not rotated");
    }

    #[tokio::test]
    async fn a_share_is_given_in_the_browser_and_a_wrong_one_is_not_repeated() {
        let site = Site::new().await;
        let ada = site.log_in("ada").await;
        let page = ada.get("/vault").await;
        assert!(
            page.text.contains("1 of 2 shares is there") && page.text.contains("Your share"),
            "{}",
            page.text
        );
        let wrong = ada.post("/vault/unseal", &[("typed", "share-0815")]).await;
        assert!(
            wrong.text.contains("no share of this vault") && !wrong.text.contains("0815"),
            "{}",
            wrong.text
        );
        assert_eq!(ada.post("/vault/unseal", &[("typed", SHARE)]).await.status, 303);
        let token = site.token("ada", &["administer", "read"]).await;
        let state = site.api_get(&token, "/api/v1/vault/state").await.json();
        assert_eq!(state["open"], false);
        let given = site.api_post(&token, "/api/v1/vault/unseal", &serde_json::json!({"typed": SHARE})).await;
        assert_eq!(given.json()["open"], true, "{}", given.text);
    }

    #[tokio::test]
    async fn programs_read_and_ask_the_same() {
        let site = rotated().await;
        let token = site.token("ada", &["administer", "read"]).await;
        let all = site.api_get(&token, "/api/v1/vault").await.json();
        assert_eq!(all[0]["id"], "operator@pump-hmi");
        assert_eq!(all[0]["state"], "idle");
        let path = "/api/v1/vault/operator@pump-hmi/rotate";
        assert_eq!(site.api_post(&token, path, &serde_json::json!({})).await.status, 403, "without a code");
        let asked = site.api_post(&token, path, &serde_json::json!({"code": site.code("ada")})).await;
        assert_eq!(asked.json()["request"], 1, "{}", asked.text);
        let history = site.api_get(&token, "/api/v1/vault/operator@pump-hmi/history").await;
        assert_eq!(history.json()[0]["action"], "set");
        assert!(!history.text.contains("hunter2"));
    }
}
