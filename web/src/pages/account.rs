//! A person's own log-ins, passkeys and tokens.

use askama::Template;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    clock::Timestamp,
    ids::{ApiTokenId, WebSessionId},
    store::ApiToken,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    api::SCOPES,
    error::{Failure, Problem},
    form::Form,
    frame::{self, Frame, Moment},
    passkeys::{Answer, Question},
    routes::{Routes, Rule},
    services::App,
    step_up::{self, Proof, Purpose},
    streams,
    token::Token,
    viewer::{Credential, Viewer},
};

/// Longest life of a token, days.
const LONGEST_DAYS: i64 = 366;
/// What a passkey is made for here.
const PURPOSE: &str = "account";

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/account", Rule::LoggedIn, show)
        .post("/account/sessions/end", Rule::LoggedIn, end_session)
        .post("/account/passkeys/options", Rule::LoggedIn, passkey_options)
        .post("/account/passkeys/add", Rule::LoggedIn, add_passkey)
        .post("/account/passkeys/remove", Rule::LoggedIn, remove_passkey)
        .post("/account/tokens/make", Rule::LoggedIn, make_token)
        .post("/account/tokens/revoke", Rule::LoggedIn, revoke_token)
}

struct SessionRow {
    id: String,
    client: String,
    source: String,
    since: Moment,
    seen: Moment,
    ends: Moment,
    this: bool,
}

struct PasskeyRow {
    id: String,
    name: String,
    made: Moment,
    used: Option<Moment>,
    digest: String,
}

struct TokenRow {
    id: String,
    name: String,
    scopes: String,
    ends: Moment,
    used: Option<Moment>,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    sessions: Vec<SessionRow>,
    passkeys: Vec<PasskeyRow>,
    keys: Vec<String>,
    recovery_left: u64,
    has_codes: bool,
    tokens: Vec<TokenRow>,
    scopes: &'static [(&'static str, &'static str)],
    token_digest: String,
    /// A token that was just made: shown once.
    fresh: Option<Zeroizing<String>>,
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    page(&app, &viewer, None).await
}

async fn page(app: &App, viewer: &Viewer, fresh: Option<Zeroizing<String>>) -> Result<Response, Failure> {
    let (now, name) = (app.now(), &viewer.user.name);
    let frame = Frame::new(app, viewer, "/account");
    let own = match &viewer.credential {
        Credential::Session { id, .. } => Some(*id),
        Credential::Token { .. } => None,
    };
    let sessions = app.store.web_sessions(name, now).await?;
    let passkeys = app.store.passkeys(name).await?;
    let tokens = app.store.tokens(name, now).await?;
    let kept = app.store.credentials(name).await?;
    let page = AccountPage {
        sessions: sessions
            .into_iter()
            .map(|s| SessionRow {
                this: Some(s.id) == own,
                id: s.id.to_string(),
                client: s.client,
                source: s.source,
                since: frame.at(&s.created_at),
                seen: frame.at(&s.seen_at),
                ends: frame.at(&s.expires_at),
            })
            .collect(),
        passkeys: passkeys
            .into_iter()
            .map(|p| PasskeyRow {
                digest: remove_purpose(&p.id).digest,
                id: p.id,
                name: p.name,
                made: frame.at(&p.created_at),
                used: frame.zone.maybe(p.used_at),
            })
            .collect(),
        keys: viewer.user.ssh_keys.iter().map(|k| shortened(k)).collect(),
        recovery_left: kept.as_ref().map_or(0, |k| k.recovery_codes_left),
        has_codes: kept.is_some_and(|k| k.totp_sealed.is_some()),
        tokens: tokens
            .into_iter()
            .map(|t| TokenRow {
                id: t.id.to_string(),
                name: t.name,
                scopes: t.scopes.join(", "),
                ends: frame.at(&t.expires_at),
                used: frame.zone.maybe(t.used_at),
            })
            .collect(),
        scopes: SCOPES,
        token_digest: token_purpose(viewer).digest,
        fresh,
        frame,
    };
    frame::page(&page)
}

/// A public key as people know it again: its kind, its last characters, its comment.
fn shortened(key: &str) -> String {
    let mut parts = key.split_whitespace();
    let kind = parts.next().unwrap_or_default();
    let body = parts.next().unwrap_or_default();
    let tail = body.get(body.len().saturating_sub(12)..).unwrap_or(body);
    let comment: Vec<&str> = parts.collect();
    format!("{kind} …{tail} {}", comment.join(" ")).trim().to_owned()
}

fn add_purpose(viewer: &Viewer) -> Purpose {
    Purpose::new("passkey add", &[viewer.user.name.as_str()])
}

fn remove_purpose(id: &str) -> Purpose {
    Purpose::new("passkey remove", &[id])
}

fn token_purpose(viewer: &Viewer) -> Purpose {
    Purpose::new("token make", &[viewer.user.name.as_str()])
}

fn back() -> Response {
    Redirect::to("/account").into_response()
}

#[derive(Debug, Deserialize)]
struct Which {
    id: String,
}

async fn end_session(
    State(app): State<App>,
    viewer: Viewer,
    Form(which): Form<Which>,
) -> Result<Response, Failure> {
    let (now, name) = (app.now(), &viewer.user.name);
    let act = viewer.act(now);
    if which.id == "others" {
        for session in app.store.web_sessions(name, now).await? {
            let own = matches!(&viewer.credential, Credential::Session { id, .. } if *id == session.id);
            if !own {
                streams::end_log_in(&app, &act, name, session.id).await?;
            }
        }
        return Ok(back());
    }
    let id: WebSessionId = which.id.parse().map_err(|_| Failure::NotFound)?;
    if streams::end_log_in(&app, &act, name, id).await? { Ok(back()) } else { Err(Failure::NotFound) }
}

#[derive(Debug, Deserialize)]
struct Nothing {}

async fn passkey_options(
    State(app): State<App>,
    viewer: Viewer,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Json<Question>, Problem> {
    Ok(Json(app.passkeys.ask_to_make(&app.store, app.now(), &viewer.user.name, PURPOSE).await?))
}

#[derive(Deserialize)]
struct NewPasskey {
    name: String,
    challenge: String,
    credential: String,
    #[serde(default)]
    code: String,
}

/// A new way in takes a code that proves the person first. Who has no authenticator app proves with a passkey: by
/// logging in anew right before.
async fn add_passkey(
    State(app): State<App>,
    viewer: Viewer,
    Form(new): Form<NewPasskey>,
) -> Result<Response, Failure> {
    let now = app.now();
    let proof = Proof { code: &new.code, ..Proof::default() };
    let act = if fresh_log_in(&viewer, now) && new.code.trim().is_empty() {
        viewer.act(now)
    } else {
        step_up::prove(&app, &viewer, &add_purpose(&viewer), proof).await?.act
    };
    let answer = Answer { challenge: &new.challenge, credential: &new.credential };
    let made = app.passkeys.made(&app.store, now, &viewer.user.name, PURPOSE, &answer, &new.name).await?;
    app.store.add_passkey(&act, &made).await?;
    Ok(back())
}

/// Whether the person proved a passkey at a log-in of the last minutes.
fn fresh_log_in(viewer: &Viewer, now: Timestamp) -> bool {
    match &viewer.credential {
        Credential::Session { factors, .. } => factors.second.as_ref().is_some_and(|s| {
            s.kind == cofferdam_access::decision::SecondFactorKind::Passkey
                && (0..300_000_000).contains(&now.since(s.at))
        }),
        Credential::Token { .. } => false,
    }
}

#[derive(Deserialize)]
struct OldPasskey {
    id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn remove_passkey(
    State(app): State<App>,
    viewer: Viewer,
    Form(old): Form<OldPasskey>,
) -> Result<Response, Failure> {
    let kept = app.store.credentials(&viewer.user.name).await?;
    let others = kept.is_some_and(|k| k.totp_sealed.is_some() || k.passkeys > 1);
    if !others {
        return Err(Failure::Conflict(
            "this is your only second factor: add another one first, then remove it".into(),
        ));
    }
    let proof = Proof { code: &old.code, challenge: &old.challenge, credential: &old.credential };
    let proved = step_up::prove(&app, &viewer, &remove_purpose(&old.id), proof).await?;
    if app.store.remove_passkey(&proved.act, &viewer.user.name, &old.id).await? {
        Ok(back())
    } else {
        Err(Failure::NotFound)
    }
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    days: i64,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn make_token(
    State(app): State<App>,
    viewer: Viewer,
    Form(new): Form<NewToken>,
) -> Result<Response, Failure> {
    let name: String = new.name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    if name.is_empty() {
        return Err(Failure::Invalid("give the token a name that says what uses it".into()));
    }
    if new.scopes.is_empty() || !new.scopes.iter().all(|s| SCOPES.iter().any(|(known, _)| known == s)) {
        return Err(Failure::Invalid("choose what the token may do".into()));
    }
    if !(1..=LONGEST_DAYS).contains(&new.days) {
        return Err(Failure::Invalid(format!("a token lives 1 to {LONGEST_DAYS} days: choose one of these")));
    }
    let proof = Proof { code: &new.code, challenge: &new.challenge, credential: &new.credential };
    let proved = step_up::prove(&app, &viewer, &token_purpose(&viewer), proof).await?;
    let secret = Token::new(&mut rand::rng());
    let token = ApiToken {
        id: ApiTokenId::new(proved.act.at, &mut rand::rng()),
        person: viewer.user.name.clone(),
        name,
        scopes: new.scopes,
        created_at: proved.act.at,
        expires_at: proved.act.at.plus_seconds(new.days * 86_400),
        used_at: None,
    };
    app.store.add_token(&proved.act, &secret.digest(), &token).await?;
    page(&app, &viewer, Some(Zeroizing::new(secret.expose().to_owned()))).await
}

async fn revoke_token(
    State(app): State<App>,
    viewer: Viewer,
    Form(which): Form<Which>,
) -> Result<Response, Failure> {
    let id: ApiTokenId = which.id.parse().map_err(|_| Failure::NotFound)?;
    if app.store.revoke_token(&viewer.act(app.now()), &viewer.user.name, id).await? {
        Ok(back())
    } else {
        Err(Failure::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_again_by_its_end() {
        assert_eq!(
            shortened("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKkey laptop of vera"),
            "ssh-ed25519 …TE5AAAAIKkey laptop of vera"
        );
        assert_eq!(shortened(""), "…");
    }

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/account");
        let at = frame.at(&frame.now);
        let page = AccountPage {
            sessions: vec![SessionRow {
                id: "1".into(),
                client: "<script>".into(),
                source: "192.0.2.1".into(),
                since: at.clone(),
                seen: at.clone(),
                ends: at.clone(),
                this: false,
            }],
            passkeys: vec![PasskeyRow {
                id: "k".into(),
                name: "phone".into(),
                made: at.clone(),
                used: None,
                digest: "0".repeat(64),
            }],
            keys: vec!["ssh-ed25519 …x".into()],
            recovery_left: 3,
            has_codes: true,
            tokens: vec![TokenRow {
                id: "t".into(),
                name: "ci".into(),
                scopes: "read".into(),
                ends: at,
                used: None,
            }],
            scopes: SCOPES,
            token_digest: String::new(),
            fresh: Some(Zeroizing::new("once".into())),
            frame,
        };
        let html = page.render().unwrap();
        assert!(html.contains("once") && !html.contains("<script>"));
    }
}
