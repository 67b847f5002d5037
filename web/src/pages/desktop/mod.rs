//! Opening a desktop. It takes a fresh second factor, bound to the account; what that gives is a token that a client of the
//! person's own, or the page itself, logs in with, once, within a minute.

#[cfg(test)]
mod duties;
mod socket;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use cofferdam_access::{
    decision::DeviceKind,
    site::{AccountRef, Asset, Desktop, Protocol},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::terminal::{Reachable, open_to};
use crate::{
    desktops::{DesktopPass, DesktopRequest, Desktops, KEYBOARDS, settings_file},
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment, WORKERS},
    headers::With,
    routes::Routes,
    services::App,
    step_up::{self, Proof, Purpose, with_second},
    viewer::{Credential, Viewer},
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/desktop/{asset}/{login}", WORKERS, confirm)
        .post("/desktop/{asset}/{login}", WORKERS, open)
        .get("/desktop/{asset}/{login}/settings.rdp", WORKERS, settings)
        .get("/desktop/socket", WORKERS, socket::connect)
}

fn purpose(account: &AccountRef) -> Purpose {
    Purpose::new("desktop open", &[account.asset.as_str(), account.login.as_str()])
}

/// The name to type in a client; the account is left out where it is the asset's default.
fn user_name(viewer: &Viewer, open: &Reachable) -> String {
    let (person, asset) = (&viewer.user.name, &open.entry.asset);
    if open.entry.default {
        format!("{person}+{asset}")
    } else {
        format!("{person}+{asset}+{}", open.entry.login)
    }
}

#[derive(Template)]
#[template(path = "desktop_confirm.html")]
struct ConfirmPage {
    frame: Frame,
    asset: String,
    login: String,
    title: String,
    window: String,
    until: Moment,
    digest: String,
    idle_minutes: u32,
}

#[derive(Template)]
#[template(path = "desktop.html")]
struct DesktopPage {
    frame: Frame,
    asset: String,
    login: String,
    window: String,
    until: Moment,
    address: String,
    user_name: String,
    token: Zeroizing<String>,
    expires: Moment,
    idle_minutes: u32,
    allowed: Desktop,
    /// Nothing begins before somebody watches.
    supervised: bool,
    /// SHA-256 of the certificate that clients are shown, as they show it: bytes in hexadecimal with colons between.
    fingerprint: String,
    keyboards: &'static [(u32, &'static str, &'static str)],
}

fn desktops(app: &App) -> Result<&dyn Desktops, Failure> {
    app.services.desktops.as_deref().ok_or_else(|| {
        Failure::Conflict("this gateway serves no desktops: an administrator has to set [rdp] up".into())
    })
}

async fn confirm(
    State(app): State<App>,
    viewer: Viewer,
    Path((asset, login)): Path<(String, String)>,
) -> Result<Response, Failure> {
    desktops(&app)?;
    let open = open_to(&app, &viewer, &asset, &login, Protocol::Rdp)?;
    let frame = Frame::new(&app, &viewer, "/");
    let account = AccountRef { asset: open.entry.asset.clone(), login: open.entry.login.clone() };
    frame::page(&ConfirmPage {
        asset,
        login,
        title: open.entry.title.clone(),
        window: open.window.to_string(),
        until: frame.at(&open.until),
        digest: purpose(&account).digest,
        idle_minutes: open.idle_minutes,
        frame,
    })
}

#[derive(Deserialize)]
struct Proving {
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn open(
    State(app): State<App>,
    viewer: Viewer,
    Path((asset, login)): Path<(String, String)>,
    Form(given): Form<Proving>,
) -> Result<Response, Failure> {
    let proof = Proof { code: &given.code, challenge: &given.challenge, credential: &given.credential };
    let opened = pass(&app, &viewer, &asset, &login, proof).await?;
    let frame = Frame::new(&app, &viewer, "/");
    let snapshot = app.snapshot();
    let known = snapshot.site.asset(&opened.reachable.entry.asset);
    let mut response = frame::page(&DesktopPage {
        asset,
        login,
        window: opened.reachable.window.to_string(),
        until: frame.at(&opened.reachable.until),
        address: desktops(&app)?.address().to_owned(),
        user_name: opened.pass.user_name,
        token: opened.pass.token,
        expires: frame.at(&opened.pass.expires_at),
        idle_minutes: opened.reachable.idle_minutes,
        allowed: allowed(known),
        supervised: known.is_none_or(|asset| asset.supervised),
        fingerprint: fingerprint(&desktops(&app)?.certificate()),
        keyboards: &KEYBOARDS,
        frame,
    })?;
    response.extensions_mut().insert(With::Desktop);
    Ok(response)
}

fn fingerprint(certificate: &[u8]) -> String {
    let bytes: Vec<String> =
        digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// What the asset lets through besides screen, keys and pointer, so that nothing else is offered. The session itself holds to
/// it, and to the conduits.
fn allowed(asset: Option<&Asset>) -> Desktop {
    asset.and_then(|asset| asset.rdp.clone()).unwrap_or_default()
}

/// A pass, with what it opens.
pub(crate) struct Opened {
    pub(crate) pass: DesktopPass,
    reachable: Reachable,
}

/// Checks the proof and gives a pass for that desktop. The session itself decides again.
pub(crate) async fn pass(
    app: &App,
    viewer: &Viewer,
    asset: &str,
    login: &str,
    proof: Proof<'_>,
) -> Result<Opened, Failure> {
    let desktops = desktops(app)?;
    let reachable = open_to(app, viewer, asset, login, Protocol::Rdp)?;
    let account = AccountRef { asset: reachable.entry.asset.clone(), login: reachable.entry.login.clone() };
    let proved = step_up::prove(app, viewer, &purpose(&account), proof).await?;
    let first = match &viewer.credential {
        Credential::Session { factors, .. } => factors.first,
        // A token of the API is a secret that is sent, as a password is.
        Credential::Token { .. } => DeviceKind::Password,
    };
    let request = DesktopRequest {
        user: viewer.user.name.clone(),
        account,
        window: reachable.window,
        factors: with_second(first, proved.second),
        source: viewer.address(),
    };
    let mut pass = desktops.issue(&proved.act, request).await.map_err(Failure::Conflict)?;
    pass.user_name = user_name(viewer, &reachable);
    Ok(Opened { pass, reachable })
}

/// The settings for a client, without the token: it would be old before the file is opened.
async fn settings(
    State(app): State<App>,
    viewer: Viewer,
    Path((asset, login)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let desktops = desktops(&app)?;
    let open = open_to(&app, &viewer, &asset, &login, Protocol::Rdp)?;
    let allowed = allowed(app.snapshot().site.asset(&open.entry.asset));
    let text = settings_file(desktops.address(), &user_name(&viewer, &open), &allowed);
    // A name of an asset has no character that could end the quotes.
    let name = format!("attachment; filename=\"{}.rdp\"", open.entry.asset);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-rdp"));
    if let Ok(value) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok((headers, text).into_response())
}

#[cfg(test)]
mod tests {
    use cofferdam_access::ids::{Login, Name};

    use super::*;

    #[test]
    fn the_pages_render() {
        let frame = Frame::sample("/");
        let until = frame.at(&frame.now);
        let confirm = ConfirmPage {
            asset: "eng-ws".into(),
            login: "eng".into(),
            title: "<script>ws</script>".into(),
            window: "w".into(),
            until: until.clone(),
            digest: "0".repeat(64),
            idle_minutes: 15,
            frame: frame.clone(),
        };
        let html = confirm.render().unwrap();
        assert!(html.contains("desktop open") && !html.contains("<script>ws"));
        let page = DesktopPage {
            asset: "eng-ws".into(),
            login: "PLANT\\eng".into(),
            window: "w".into(),
            until: until.clone(),
            address: "gw.example:3389".into(),
            user_name: "vera+eng-ws+<b>".into(),
            token: Zeroizing::new("token-once".into()),
            expires: until,
            idle_minutes: 0,
            allowed: Desktop {
                clipboard_to_person: true,
                drives_to_target: true,
                drives_paths: vec!["/out/<b>".into()],
                ..Desktop::default()
            },
            supervised: true,
            fingerprint: fingerprint(b"a certificate"),
            keyboards: &KEYBOARDS,
            frame,
        };
        let html = page.render().unwrap();
        assert!(html.contains("is supervised"), "{html}");
        assert!(html.contains("<code>81:ac:d7:62:"), "{html}");
        assert!(html.contains("token-once") && !html.contains("<b>"));
        assert!(html.contains("data-copy-out") && !html.contains("data-paste-in"), "only what is allowed");
        assert!(html.contains("may read files of drives") && html.contains("/drive:"), "{html}");
        assert!(!html.contains("may write files") && !html.contains("printers"), "only what is allowed");
        assert!(html.contains("/desktop/eng-ws/PLANT%5Ceng/settings.rdp"), "{html}");
    }

    #[test]
    fn a_step_up_for_one_account_opens_no_other_and_no_terminal() {
        let account = |login: &str| AccountRef {
            asset: Name::new("eng-ws").unwrap(),
            login: Login::new(login).unwrap(),
        };
        assert_ne!(purpose(&account("eng")), purpose(&account("admin")));
        assert_ne!(purpose(&account("eng")).digest, Purpose::new("terminal open", &["eng-ws", "eng"]).digest);
    }
}
