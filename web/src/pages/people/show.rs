//! One person: how they stand, what they can do and did, and how they get in.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    audit::AuditKind,
    ids::Name,
    people::User,
    site::key_fingerprint,
    store::{AuditFilter, Enrolled, SessionFilter, WindowFilter},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::factors;
use crate::{
    admin::people::{self, INVITE, LONGEST_HOURS, REMOVE},
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment, named},
    routes::{ADMINISTRATORS, Routes},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

/// How much of what a person did is shown.
const SHOWN: u32 = 10;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/people/{person}", ADMINISTRATORS, show)
        .post("/people/{person}/invite", ADMINISTRATORS, invite)
        .post("/people/{person}/credentials/remove", ADMINISTRATORS, remove_credentials)
}

struct KeyRow {
    print: String,
    comment: String,
}

struct PasskeyRow {
    name: String,
    made: Moment,
    used: Option<Moment>,
}

struct WindowRow {
    id: String,
    state: &'static str,
    assets: String,
    until: Moment,
}

struct SessionRow {
    id: String,
    asset: String,
    login: String,
    state: &'static str,
    since: Moment,
}

struct LogInRow {
    at: Moment,
    source: String,
}

struct WebRow {
    client: String,
    source: String,
    seen: Moment,
    ends: Moment,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    frame: Frame,
    name: String,
    title: String,
    email: String,
    organisation: String,
    duties: String,
    state: &'static str,
    disabled: bool,
    own: bool,
    valid_until: Option<Moment>,
    factors: String,
    codes_left: u64,
    enrolled: bool,
    invited_until: Option<Moment>,
    keys: Vec<KeyRow>,
    passkeys: Vec<PasskeyRow>,
    windows: Vec<WindowRow>,
    sessions: Vec<SessionRow>,
    log_ins: Vec<LogInRow>,
    web: Vec<WebRow>,
    longest_hours: i64,
    invite_action: &'static str,
    invite_digest: String,
    remove_action: &'static str,
    remove_digest: String,
}

#[derive(Template)]
#[template(path = "invited.html")]
struct InvitedPage {
    frame: Frame,
    name: String,
    link: Zeroizing<String>,
    until: Moment,
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(person): Path<String>,
) -> Result<Response, Failure> {
    let user = people::known(&app, &person)?;
    let frame = Frame::new(&app, &viewer, "/people");
    let enrolled = app.store.enrolled(app.now()).await?.into_iter().find(|e| e.person == user.name);
    let page = PersonPage {
        windows: windows(&app, &frame, &user.name).await?,
        sessions: sessions(&app, &frame, &user.name).await?,
        log_ins: log_ins(&app, &frame, &user.name).await?,
        web: web(&app, &frame, &user.name).await?,
        passkeys: passkeys(&app, &frame, &user.name).await?,
        ..about(&viewer, frame, &user, enrolled.as_ref())
    };
    frame::page(&page)
}

fn about(viewer: &Viewer, frame: Frame, user: &User, kept: Option<&Enrolled>) -> PersonPage {
    let title = if user.full_name.is_empty() { user.name.to_string() } else { user.full_name.clone() };
    PersonPage {
        name: user.name.to_string(),
        title,
        email: user.email.clone(),
        organisation: user.organisation.to_string(),
        duties: named(&user.duties),
        state: user.state(frame.now),
        disabled: user.disabled,
        own: viewer.user.name == user.name,
        valid_until: frame.zone.maybe(user.valid_until),
        factors: factors(kept),
        codes_left: kept.map_or(0, |k| k.recovery_codes_left),
        enrolled: kept.is_some_and(|k| k.password || k.totp || k.passkeys > 0),
        invited_until: frame.zone.maybe(kept.and_then(|k| k.invited_until)),
        keys: user.ssh_keys.iter().map(|k| key(k)).collect(),
        passkeys: Vec::new(),
        windows: Vec::new(),
        sessions: Vec::new(),
        log_ins: Vec::new(),
        web: Vec::new(),
        longest_hours: LONGEST_HOURS,
        invite_action: INVITE,
        invite_digest: people::invite_purpose(&user.name).digest,
        remove_action: REMOVE,
        remove_digest: people::remove_purpose(&user.name).digest,
        frame,
    }
}

fn key(line: &str) -> KeyRow {
    let comment: Vec<&str> = line.split_whitespace().skip(2).collect();
    KeyRow {
        print: key_fingerprint(line).unwrap_or_else(|| "unreadable".to_owned()),
        comment: comment.join(" "),
    }
}

async fn passkeys(app: &App, frame: &Frame, name: &Name) -> Result<Vec<PasskeyRow>, Failure> {
    let all = app.store.passkeys(name).await?;
    let row = |p: cofferdam_access::store::StoredPasskey| PasskeyRow {
        name: p.name,
        made: frame.at(&p.created_at),
        used: frame.zone.maybe(p.used_at),
    };
    Ok(all.into_iter().map(row).collect())
}

async fn windows(app: &App, frame: &Frame, name: &Name) -> Result<Vec<WindowRow>, Failure> {
    let filter = WindowFilter { person: Some(name.clone()), limit: SHOWN, ..WindowFilter::default() };
    let all = app.store.windows(&filter).await?;
    let row = |stored: cofferdam_access::store::StoredWindow| {
        let window = stored.window;
        let mut assets: Vec<&str> = window.request.accounts.iter().map(|a| a.asset.as_str()).collect();
        assets.extend(window.request.forwards.iter().map(Name::as_str));
        assets.dedup();
        WindowRow {
            id: window.id().to_string(),
            state: window.phase(frame.now).as_str(),
            assets: assets.join(", "),
            until: frame.at(&window.effective_end()),
        }
    };
    Ok(all.into_iter().map(row).collect())
}

async fn sessions(app: &App, frame: &Frame, name: &Name) -> Result<Vec<SessionRow>, Failure> {
    let filter = SessionFilter { person: Some(name.clone()), limit: SHOWN, ..SessionFilter::default() };
    let all = app.store.sessions(&filter).await?;
    let row = |s: cofferdam_access::store::SessionRecord| SessionRow {
        id: s.id.to_string(),
        asset: s.asset.to_string(),
        login: s.login.to_string(),
        state: s.state.as_str(),
        since: frame.at(&s.started_at),
    };
    Ok(all.into_iter().map(row).collect())
}

async fn log_ins(app: &App, frame: &Frame, name: &Name) -> Result<Vec<LogInRow>, Failure> {
    let filter = AuditFilter {
        kind: Some(AuditKind::LoginSucceeded),
        actor: Some(name.to_string()),
        limit: SHOWN,
        ..AuditFilter::default()
    };
    let row = |e: cofferdam_access::audit::AuditEntry| {
        let body: serde_json::Value = serde_json::from_str(&e.body).unwrap_or_default();
        let source = body.get("source").and_then(|s| s.as_str()).unwrap_or("–").to_owned();
        LogInRow { at: frame.at(&e.at), source }
    };
    Ok(app.store.audit(&filter).await?.into_iter().map(row).collect())
}

async fn web(app: &App, frame: &Frame, name: &Name) -> Result<Vec<WebRow>, Failure> {
    let all = app.store.web_sessions(name, app.now()).await?;
    let row = |s: cofferdam_access::store::WebSession| WebRow {
        client: s.client,
        source: s.source,
        seen: frame.at(&s.seen_at),
        ends: frame.at(&s.expires_at),
    };
    Ok(all.into_iter().take(SHOWN as usize).map(row).collect())
}

#[derive(Deserialize)]
struct Invite {
    hours: i64,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn invite(
    State(app): State<App>,
    viewer: Viewer,
    Path(person): Path<String>,
    Form(asked): Form<Invite>,
) -> Result<Response, Failure> {
    let user = people::known(&app, &person)?;
    let proof = Proof { code: &asked.code, challenge: &asked.challenge, credential: &asked.credential };
    let invited = people::invite(&app, &viewer, &user, asked.hours, proof).await?;
    let frame = Frame::new(&app, &viewer, "/people");
    let until = frame.at(&invited.until);
    frame::page(&InvitedPage { frame, name: user.name.to_string(), link: invited.link, until })
}

#[derive(Deserialize)]
struct Proved {
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn remove_credentials(
    State(app): State<App>,
    viewer: Viewer,
    Path(person): Path<String>,
    Form(proved): Form<Proved>,
) -> Result<Response, Failure> {
    let user = people::known(&app, &person)?;
    let proof = Proof { code: &proved.code, challenge: &proved.challenge, credential: &proved.credential };
    people::remove_credentials(&app, &viewer, &user, proof).await?;
    Ok(Redirect::to(&format!("/people/{}", user.name)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_by_its_fingerprint_and_never_whole() {
        let row = key(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g a <b>laptop</b>",
        );
        assert!(row.print.starts_with("SHA256:") && row.comment == "a <b>laptop</b>");
        assert_eq!(key("nonsense").print, "unreadable");
    }

    #[test]
    fn the_pages_render_with_what_people_typed_escaped() {
        let frame = Frame::sample("/people");
        let at = frame.at(&frame.now);
        let page = PersonPage {
            name: "vera".into(),
            title: "<script>".into(),
            email: "<script>".into(),
            organisation: "acme".into(),
            duties: "vendor".into(),
            state: "active",
            disabled: false,
            own: false,
            valid_until: Some(at.clone()),
            factors: "TOTP".into(),
            codes_left: 3,
            enrolled: false,
            invited_until: Some(at.clone()),
            keys: vec![KeyRow { print: "SHA256:x".into(), comment: "<script>".into() }],
            passkeys: vec![PasskeyRow { name: "<script>".into(), made: at.clone(), used: None }],
            windows: vec![WindowRow {
                id: "1".into(),
                state: "open",
                assets: "plc-7".into(),
                until: at.clone(),
            }],
            sessions: vec![SessionRow {
                id: "2".into(),
                asset: "plc-7".into(),
                login: "<script>".into(),
                state: "active",
                since: at.clone(),
            }],
            log_ins: vec![LogInRow { at: at.clone(), source: "<script>".into() }],
            web: vec![WebRow {
                client: "<script>".into(),
                source: "192.0.2.1".into(),
                seen: at.clone(),
                ends: at.clone(),
            }],
            longest_hours: 10,
            invite_action: INVITE,
            invite_digest: String::new(),
            remove_action: REMOVE,
            remove_digest: String::new(),
            frame: frame.clone(),
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("/people/vera/invite"));
        let invited = InvitedPage {
            frame,
            name: "vera".into(),
            link: Zeroizing::new("https://once".into()),
            until: at,
        };
        assert!(invited.render().unwrap().contains("https://once"));
    }
}
