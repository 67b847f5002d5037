//! The start: what the viewer may reach now and until when, for those who reach machines; for others, their first page.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    local_time::time_left,
    policy::{MenuEntry, MenuState, reachable},
    site::Protocol,
    snapshot::Snapshot,
    store::{SessionFilter, WindowFilter},
};

use super::{
    lines::{self, Gateway},
    windows::view::{self, Line},
};
use crate::{
    error::Failure,
    frame::{self, Frame, Moment, WORKERS},
    routes::{Routes, Rule},
    services::App,
    viewer::Viewer,
};

/// Requests and sessions that the page lists.
const MOST: u32 = 10;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/", Rule::LoggedIn, show)
}

/// A machine that a window leads to.
struct Reach {
    asset: String,
    title: String,
    login: String,
    protocol: &'static str,
    window: String,
    short: String,
    operations: String,
    zone: String,
    criticality: &'static str,
    jewel: bool,
    until: Option<Moment>,
    left: String,
    from: Option<Moment>,
    state: &'static str,
    pill: &'static str,
    lines: Vec<lines::Line>,
    terminal: bool,
    desktop: bool,
}

struct Session {
    id: String,
    account: String,
    protocol: &'static str,
    state: &'static str,
    since: Moment,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    open: Vec<Reach>,
    /// Approved for later, waiting, or blocked.
    coming: Vec<Reach>,
    /// Accounts that may be asked for.
    askable: usize,
    requests: Vec<Line>,
    sessions: Vec<Session>,
}

async fn show(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/");
    if !WORKERS.admits(&viewer.user) {
        let first = frame.ways.first().map_or("/account", |w| w.path);
        return Ok(Redirect::to(first).into_response());
    }
    let (snapshot, name) = (app.snapshot(), &viewer.user.name);
    let gateway = Gateway::parse(&app.ssh_address);
    let entries = reachable(&snapshot, name, viewer.address(), app.now());
    let desktops = app.services.desktops.is_some();
    let askable = entries.iter().filter(|e| e.state == MenuState::MayAsk).count();
    let (open, coming) = entries
        .iter()
        .filter(|e| e.state != MenuState::MayAsk)
        .map(|e| reach(&frame, &snapshot, &gateway, desktops, e))
        .partition(|r: &Reach| r.state == "open");
    let mine = WindowFilter { person: Some(name.clone()), limit: MOST, ..WindowFilter::default() };
    let running = SessionFilter {
        person: Some(name.clone()),
        open_only: true,
        limit: MOST,
        ..SessionFilter::default()
    };
    let windows = app.store.windows(&mine).await?;
    let sessions = app.store.sessions(&running).await?;
    let page = HomePage {
        requests: windows.iter().map(|w| Line::new(&frame, &snapshot.site, &w.window)).collect(),
        sessions: sessions
            .iter()
            .map(|s| Session {
                id: s.id.to_string(),
                account: format!("{}@{}", s.login, s.asset),
                protocol: s.protocol.as_str(),
                state: s.state.as_str(),
                since: frame.at(&s.started_at),
            })
            .collect(),
        frame,
        open,
        coming,
        askable,
    };
    frame::page(&page)
}

fn reach(frame: &Frame, snapshot: &Snapshot, gateway: &Gateway, desktops: bool, entry: &MenuEntry) -> Reach {
    let (state, pill, window, from, until) = match entry.state {
        MenuState::Open { window, until } => ("open", "p-open", Some(window), None, Some(until)),
        MenuState::Upcoming { window, from, until } => {
            ("upcoming", "p-upcoming", Some(window), Some(from), Some(until))
        }
        MenuState::Waiting { window } => ("requested", "p-requested", Some(window), None, None),
        MenuState::Blocked { window } => ("blocked", "t-warn", Some(window), None, None),
        MenuState::MayAsk => ("ask", "t-off", None, None, None),
    };
    let asset = snapshot.site.asset(&entry.asset);
    let port =
        asset.and_then(|a| a.endpoints.iter().find(|e| e.protocol == entry.protocol)).map_or(0, |e| e.port);
    let operations = window.and_then(|w| snapshot.window(w)).map(|w| &w.request.operations);
    Reach {
        asset: entry.asset.to_string(),
        title: entry.title.clone(),
        login: entry.login.to_string(),
        protocol: entry.protocol.as_str(),
        window: window.map(|w| w.to_string()).unwrap_or_default(),
        short: window.map(view::short).unwrap_or_default(),
        operations: operations.map(|o| view::joined(o.iter().map(|o| o.as_str()))).unwrap_or_default(),
        zone: asset.map_or_else(String::new, |a| {
            let state = snapshot.plant_state(&a.zone).as_str();
            format!("{}, in {state}", view::zone_title(&snapshot.site, &a.zone))
        }),
        criticality: asset.map_or("medium", |a| view::criticality(a.criticality)),
        jewel: asset.is_some_and(|a| a.crown_jewel),
        until: frame.zone.maybe(until),
        left: until.map(|u| time_left(frame.now, u)).unwrap_or_default(),
        from: frame.zone.maybe(from),
        lines: if state == "open" {
            let (asset, login) = (entry.asset.as_str(), entry.login.as_str());
            gateway.lines(&frame.person, asset, login, entry.default, entry.protocol, port)
        } else {
            Vec::new()
        },
        terminal: state == "open" && entry.protocol == Protocol::Ssh,
        desktop: state == "open" && entry.protocol == Protocol::Rdp && desktops,
        state,
        pill,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders_names_as_text() {
        let frame = Frame::sample("/");
        let at = frame.at(&frame.now);
        let reach = |state| Reach {
            asset: "pump-hmi".into(),
            title: "<script>".into(),
            login: "PLANT\\eng".into(),
            protocol: "ssh",
            window: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
            short: "W-9a8057".into(),
            operations: "view".into(),
            zone: "<b>cell</b>".into(),
            criticality: "high",
            jewel: true,
            until: Some(at.clone()),
            left: "1 h".into(),
            from: Some(at.clone()),
            state,
            pill: "p-open",
            lines: vec![lines::Line { name: "ssh", text: "ssh vera@gw".into(), then: "then".into() }],
            terminal: true,
            desktop: true,
        };
        let page = HomePage {
            open: vec![reach("open")],
            coming: vec![reach("upcoming")],
            askable: 3,
            requests: Vec::new(),
            sessions: vec![Session {
                id: "1".into(),
                account: "a@b".into(),
                protocol: "ssh",
                state: "active",
                since: at.clone(),
            }],
            frame,
        };
        let html = page.render().unwrap();
        assert!(html.contains("ssh vera@gw") && !html.contains("<script>") && !html.contains("<b>cell"));
        assert!(html.contains("/terminal/pump-hmi/PLANT%5Ceng"), "{html}");
        assert!(html.contains("/desktop/pump-hmi/PLANT%5Ceng"), "{html}");
    }
}
