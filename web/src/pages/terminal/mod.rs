//! A terminal in the browser. Opening one takes a fresh second factor, bound to the account; what that gives is a ticket that
//! opens one WebSocket, once, within a minute, for the log-in that proved it.

#[cfg(test)]
mod duties;
mod socket;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use cofferdam_access::{
    clock::Timestamp,
    decision::SecondFactor,
    ids::{Login, Name, WindowId},
    policy::{MenuEntry, MenuState, reachable},
    site::Protocol,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    error::Failure,
    form::Form,
    frame::{self, Frame, Moment, WORKERS},
    routes::Routes,
    services::App,
    step_up::{self, Proof, Purpose},
    token::Token,
    viewer::{Credential, Viewer},
};

/// How long a ticket works, seconds.
const TICKET: i64 = 60;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/terminal/{asset}/{login}", WORKERS, confirm)
        .post("/terminal/{asset}/{login}", WORKERS, open)
        .get("/terminal/socket", WORKERS, socket::connect)
}

/// What a ticket opens. Kept in the store under the ticket's digest.
#[derive(Debug, Serialize, Deserialize)]
struct Ticket {
    asset: Name,
    login: Login,
    second: SecondFactor,
}

/// A ticket works for the log-in that proved it, and no other.
fn purpose_of_ticket(viewer: &Viewer) -> Result<String, Failure> {
    match &viewer.credential {
        Credential::Session { id, .. } => Ok(format!("terminal {id}")),
        Credential::Token { .. } => Err(Failure::LogIn),
    }
}

fn purpose(asset: &Name, login: &Login) -> Purpose {
    Purpose::new("terminal open", &[asset.as_str(), login.as_str()])
}

#[derive(Template)]
#[template(path = "terminal_confirm.html")]
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
#[template(path = "terminal.html")]
struct TerminalPage {
    frame: Frame,
    asset: String,
    login: String,
    window: String,
    until: Moment,
    ticket: Zeroizing<String>,
    idle_minutes: u32,
}

/// An account with a terminal, or a desktop, that is open to the viewer now.
pub(super) struct Reachable {
    pub(super) entry: MenuEntry,
    pub(super) window: WindowId,
    pub(super) until: Timestamp,
    pub(super) idle_minutes: u32,
}

/// Only a courtesy, so that no code is spent for nothing: the session itself decides again.
pub(super) fn open_to(
    app: &App,
    viewer: &Viewer,
    asset: &str,
    login: &str,
    protocol: Protocol,
) -> Result<Reachable, Failure> {
    let snapshot = app.snapshot();
    let entry = reachable(&snapshot, &viewer.user.name, viewer.address(), app.now())
        .into_iter()
        .find(|e| e.asset.as_str() == asset && e.login.as_str() == login && e.protocol == protocol)
        .ok_or(Failure::NotFound)?;
    match entry.state {
        MenuState::Open { window, until } => Ok(Reachable {
            idle_minutes: snapshot.site.settings.idle_seconds / 60,
            window,
            entry,
            until,
        }),
        MenuState::Upcoming { .. } | MenuState::Waiting { .. } => Err(Failure::Conflict(
            "the window for this is not open yet: follow it on the page of your windows".into(),
        )),
        MenuState::MayAsk => Err(Failure::Conflict("there is no window for this: ask for one first".into())),
        MenuState::Blocked { .. } => Err(Failure::Conflict(
            "something else than the window stands in the way now, such as the plant's state: ask the site's operations".into(),
        )),
    }
}

async fn confirm(
    State(app): State<App>,
    viewer: Viewer,
    Path((asset, login)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let open = open_to(&app, &viewer, &asset, &login, Protocol::Ssh)?;
    let frame = Frame::new(&app, &viewer, "/");
    frame::page(&ConfirmPage {
        asset,
        login,
        title: open.entry.title.clone(),
        window: open.window.to_string(),
        until: frame.at(&open.until),
        digest: purpose(&open.entry.asset, &open.entry.login).digest,
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
    let open = open_to(&app, &viewer, &asset, &login, Protocol::Ssh)?;
    let proof = Proof { code: &given.code, challenge: &given.challenge, credential: &given.credential };
    let purpose = purpose(&open.entry.asset, &open.entry.login);
    let proved = step_up::prove(&app, &viewer, &purpose, proof).await?;
    let ticket = Token::new(&mut rand::rng());
    let opens = Ticket { asset: open.entry.asset, login: open.entry.login, second: proved.second };
    let body = serde_json::to_string(&opens).map_err(|e| Failure::internal("ticket", e))?;
    let until = proved.act.at.plus_seconds(TICKET);
    app.store
        .put_challenge(proved.act.at, &ticket.digest(), &purpose_of_ticket(&viewer)?, &body, until)
        .await?;
    let frame = Frame::new(&app, &viewer, "/");
    frame::page(&TerminalPage {
        asset,
        login,
        window: open.window.to_string(),
        until: frame.at(&open.until),
        ticket: Zeroizing::new(ticket.expose().to_owned()),
        idle_minutes: open.idle_minutes,
        frame,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_render() {
        let frame = Frame::sample("/");
        let until = frame.at(&frame.now);
        let confirm = ConfirmPage {
            asset: "pump-hmi".into(),
            login: "operator".into(),
            title: "<script>pump</script>".into(),
            window: "w".into(),
            until: until.clone(),
            digest: "0".repeat(64),
            idle_minutes: 15,
            frame: frame.clone(),
        };
        let html = confirm.render().unwrap();
        assert!(html.contains("terminal open") && !html.contains("<script>pump"));
        let page = TerminalPage {
            asset: "pump-hmi".into(),
            login: "<script>".into(),
            window: "w".into(),
            until,
            ticket: Zeroizing::new("ticket-once".into()),
            idle_minutes: 0,
            frame,
        };
        let html = page.render().unwrap();
        assert!(html.contains("ticket-once") && !html.contains("<strong><script>"));
    }

    #[test]
    fn a_step_up_for_one_account_opens_no_other() {
        let name = |n: &str| Name::new(n).unwrap();
        let login = |n: &str| Login::new(n).unwrap();
        let one = purpose(&name("pump-hmi"), &login("operator"));
        assert_ne!(one, purpose(&name("pump-hmi"), &login("root")));
        assert_ne!(one, purpose(&name("eng-ws"), &login("operator")));
    }
}
