//! Log-in and log-out.

use std::{net::IpAddr, time::Duration};

use askama::Template;
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    decision::{DeviceKind, Factors, SecondFactor, SecondFactorKind},
    ids::{Name, WebSessionId},
    login::{LoggedIn, LoginMachine, LoginRules, safe_to_show},
    store::WebSession,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    cookies,
    error::{Failure, Problem},
    form::{Form, VisitForm},
    frame::{self, Frame},
    passkeys::{Answer, Question},
    routes::{Routes, Rule},
    services::App,
    streams,
    token::Token,
    viewer::{Credential, Peer, Viewer},
};

/// Every refusal takes at least so long, whatever it took to find out.
const REFUSAL: Duration = Duration::from_millis(400);
/// What everybody hears whose log-in failed.
const REFUSED: &str =
    "Name, password or code is wrong, or the code was used before. Wait for the next code and try again.";
/// Longest address to return to, bytes.
const LONGEST_NEXT: usize = 512;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/login", Rule::Public, show)
        .post("/login", Rule::Public, submit)
        .post("/login/passkey/options", Rule::Public, passkey_options)
        .post("/login/passkey", Rule::Public, passkey)
        .post("/logout", Rule::LoggedIn, logout)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    problem: Option<String>,
    passkeys: bool,
    sealed: bool,
    user: String,
    next: String,
}

/// The address of the log-in that leads back to `asked`.
pub(crate) fn address_for(asked: &str) -> String {
    match local(asked) {
        Some(path) if path != "/" => {
            let next: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("next", path).finish();
            format!("/login?{next}")
        }
        _ => "/login".to_owned(),
    }
}

/// `text` if it is a path of this interface and nothing else: what another host could be read into is not.
fn local(text: &str) -> Option<&str> {
    let fits = text.len() <= LONGEST_NEXT
        && text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && !text.starts_with("/login")
        && !text.starts_with("/logout");
    fits.then_some(text)
}

/// A page whose forms are bound to this browser, by a cookie that it gets with the page if it has none.
pub(crate) fn visit(app: &App, headers: &HeaderMap, here: &'static str) -> (Frame, Option<HeaderValue>) {
    match cookies::read(headers, cookies::VISIT) {
        Some(token) => (Frame::nobody(app, here, token.form_proof()), None),
        None => {
            let token = Token::new(&mut rand::rng());
            let frame = Frame::nobody(app, here, token.form_proof());
            (frame, Some(cookies::set_visit(&token)))
        }
    }
}

pub(crate) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[derive(Debug, Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

async fn show(
    State(app): State<App>,
    viewer: Option<Viewer>,
    headers: HeaderMap,
    Query(Next { next }): Query<Next>,
) -> Result<Response, Failure> {
    if viewer.is_some() {
        return Ok(Redirect::to(local(&next).unwrap_or("/")).into_response());
    }
    page(&app, &headers, None, String::new(), &next).await
}

async fn page(
    app: &App,
    headers: &HeaderMap,
    problem: Option<String>,
    user: String,
    next: &str,
) -> Result<Response, Failure> {
    let (frame, cookie) = visit(app, headers, "/login");
    let next = local(next).unwrap_or("/").to_owned();
    let failed = problem.is_some();
    let page = LoginPage {
        frame,
        problem,
        passkeys: app.passkeys.usable(),
        sealed: !app.prover.ready(),
        user,
        next,
    };
    let mut response = with_cookie(frame::page(&page)?, cookie);
    if failed {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Given {
    user: String,
    password: String,
    code: String,
    #[serde(default)]
    next: String,
}

async fn submit(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    VisitForm(given): VisitForm<Given>,
) -> Result<Response, Failure> {
    let floor = tokio::time::Instant::now() + REFUSAL;
    let Given { user, password, code, next } = given;
    let (password, code) = (Zeroizing::new(password), Zeroizing::new(code));
    let client = client_of(&headers);
    match log_in(&app, peer, &client, &user, &password, &code).await {
        Ok(person) => enter(&app, peer, &client, person, &next).await,
        Err(failure @ (Failure::TooMany | Failure::Unavailable(_))) => Err(failure),
        Err(_) => {
            tokio::time::sleep_until(floor).await;
            let user = user.chars().take(63).collect();
            page(&app, &headers, Some(REFUSED.into()), user, &next).await
        }
    }
}

/// The log-in machine of SSH, fed with what the form holds.
async fn log_in(
    app: &App,
    peer: Peer,
    client: &str,
    user: &str,
    password: &Zeroizing<String>,
    code: &Zeroizing<String>,
) -> Result<LoggedIn, Failure> {
    let now = app.now();
    let source = peer.0.ip().to_canonical();
    let name = Name::new(user.trim()).ok();
    if !app.prover.may_guess(name.as_ref(), source, now) {
        return Err(Failure::TooMany);
    }
    let enrolled = match &name {
        Some(name) => app.prover.enrolled(&app.snapshot().site, name, now).await?,
        None => None,
    };
    let mut machine = LoginMachine::new(enrolled, source, client, LoginRules::default());
    let given = (Zeroizing::new(password.as_bytes().to_vec()), code.as_str());
    match app.prover.both(&mut machine, name.as_ref(), (source, now), given, "web").await {
        Some(person) => Ok(person),
        None => Err(refuse(app, name.as_ref(), source, now, &machine).await),
    }
}

async fn refuse(
    app: &App,
    name: Option<&Name>,
    source: IpAddr,
    now: Timestamp,
    machine: &LoginMachine,
) -> Failure {
    let why = machine.last_failure().map_or("refused", |f| f.as_str());
    if let Err(e) = app.prover.refused(name, source, now, why).await {
        tracing::warn!(error = %e, "a failed log-in could not be audited");
    }
    Failure::NotProved(REFUSED.into())
}

/// Opens the log-in's session and leads to where the person wanted to go.
async fn enter(
    app: &App,
    peer: Peer,
    client: &str,
    person: LoggedIn,
    next: &str,
) -> Result<Response, Failure> {
    let now = app.now();
    let source = peer.0.ip().to_canonical();
    let token = Token::new(&mut rand::rng());
    let session = WebSession {
        id: WebSessionId::new(now, &mut rand::rng()),
        person: person.user.clone(),
        factors: person.factors,
        source: source.to_string(),
        client: client.to_owned(),
        created_at: now,
        seen_at: now,
        expires_at: now.plus_seconds(app.settings.session_seconds.into()),
    };
    app.store
        .open_web_session(&Act::person(&person.user, now).from(source), &token.digest(), &session)
        .await?;
    app.prover.succeeded(&person.user, source, now);
    let mut response = Redirect::to(local(next).unwrap_or("/")).into_response();
    for cookie in [cookies::set_session(&token), cookies::forget(cookies::VISIT)] {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn client_of(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    safe_to_show(text, 160)
}

#[derive(Debug, Deserialize)]
struct Nothing {}

async fn passkey_options(
    State(app): State<App>,
    peer: Peer,
    VisitForm(Nothing {}): VisitForm<Nothing>,
) -> Result<Json<Question>, Problem> {
    let now = app.now();
    if !app.prover.may_guess(None, peer.0.ip(), now) {
        return Err(Failure::TooMany.into());
    }
    Ok(Json(app.passkeys.ask_who(&app.store, now, "login").await?))
}

#[derive(Debug, Deserialize)]
struct PasskeyGiven {
    challenge: String,
    credential: String,
    #[serde(default)]
    next: String,
}

async fn passkey(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    VisitForm(given): VisitForm<PasskeyGiven>,
) -> Result<Response, Failure> {
    let now = app.now();
    let source = peer.0.ip().to_canonical();
    if !app.prover.may_guess(None, source, now) {
        return Err(Failure::TooMany);
    }
    let snapshot = app.snapshot();
    let act = |name: &Name| {
        snapshot.site.user(name).filter(|u| u.is_active(now))?;
        let event = AuditEvent::new(AuditKind::LoginSucceeded, name)
            .with("second_factor", SecondFactorKind::Passkey.as_str())
            .with("at", "web");
        Some((Act::person(name, now).from(source), event))
    };
    let answer = Answer { challenge: &given.challenge, credential: &given.credential };
    let client = client_of(&headers);
    let who = app.passkeys.who(&app.store, &act, now, "login", &answer).await;
    match who {
        Ok(name) => {
            let second =
                SecondFactor { kind: SecondFactorKind::Passkey, at: now, windows: Default::default() };
            let factors = Factors { first: DeviceKind::Passkey, second: Some(second) };
            let device = cofferdam_access::decision::Device {
                key_fingerprint: None,
                kind: DeviceKind::Passkey,
                user_verified: true,
                client_version: client.clone(),
            };
            enter(&app, peer, &client, LoggedIn { user: name, device, factors }, &given.next).await
        }
        Err(Failure::NotProved(_) | Failure::Invalid(_)) => {
            if let Err(e) = app.prover.refused(None, source, now, "passkey_refused").await {
                tracing::warn!(error = %e, "a failed log-in could not be audited");
            }
            let text = "The passkey opens nothing here. Use another, or your password and a code.";
            page(&app, &headers, Some(text.into()), String::new(), &given.next).await
        }
        Err(failure) => Err(failure),
    }
}

async fn logout(
    State(app): State<App>,
    viewer: Viewer,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response, Failure> {
    if let Credential::Session { id, .. } = &viewer.credential {
        streams::end_log_in(&app, &viewer.act(app.now()), &viewer.user.name, *id).await?;
    }
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().append(header::SET_COOKIE, cookies::forget(cookies::SESSION));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_leads_back_to_pages_of_ours_only() {
        assert_eq!(local("/windows?x=1"), Some("/windows?x=1"));
        for elsewhere in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "",
            "/a b",
            "/a\r\nset-cookie: x",
            "/login?next=/login",
            "/logout",
            &format!("/{}", "a".repeat(600)),
        ] {
            assert_eq!(local(elsewhere), None, "{elsewhere:?}");
        }
        assert_eq!(address_for("/windows/1?a=b&c"), "/login?next=%2Fwindows%2F1%3Fa%3Db%26c");
        assert_eq!(address_for("//evil"), "/login");
    }

    #[test]
    fn the_page_renders_with_what_people_typed_escaped() {
        let page = LoginPage {
            frame: Frame::sample("/login"),
            problem: Some(REFUSED.into()),
            sealed: false,
            passkeys: true,
            user: "\"><script>".into(),
            next: "/".into(),
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("data-passkey-login"));
    }
}
