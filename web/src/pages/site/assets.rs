//! Machines: what they offer, how much harm they can do, and whether their accounts have a secret. Never the secret.

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use cofferdam_access::{
    apply::Edit,
    clock::Timestamp,
    ids::Name,
    site::{AccountRef, Asset, Protocol, Site},
    store::{SessionFilter, WindowFilter},
};
use serde::Deserialize;

use crate::{
    error::Failure,
    frame::{self, Frame, Moment},
    routes::{ADMINISTRATORS, Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

/// Assets on one page.
const PAGE: usize = 100;
/// How much of what happened on an asset is shown.
const SHOWN: u32 = 10;

/// Accounts that have a secret, with its version and last change.
type Secrets = Vec<(AccountRef, u64, Timestamp)>;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/assets", SITE_READERS, list).get("/assets/{asset}", SITE_READERS, show).get(
        "/assets/{asset}/plan/{what}",
        ADMINISTRATORS,
        plan,
    )
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    q: String,
    zone: String,
    skip: usize,
}

struct AccountRow {
    login: String,
    credential: &'static str,
    flags: String,
    secret: &'static str,
    changed: Option<Moment>,
}

struct AssetRow {
    name: String,
    title: String,
    zone: String,
    address: String,
    endpoints: String,
    criticality: &'static str,
    crown: bool,
    disabled: bool,
    supervised: bool,
    dangerous: String,
    /// `none pinned`, or how many; empty for an asset without SSH and desktop.
    host_keys: String,
    accounts: Vec<AccountRow>,
}

struct WindowRow {
    id: String,
    state: &'static str,
    people: String,
    until: Moment,
}

struct SessionRow {
    id: String,
    person: String,
    login: String,
    state: &'static str,
    since: Moment,
}

#[derive(Template)]
#[template(path = "assets.html")]
struct AssetsPage {
    frame: Frame,
    asked: Asked,
    zones: Vec<String>,
    assets: Vec<AssetRow>,
    found: usize,
    newer: Option<String>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "asset.html")]
struct AssetPage {
    frame: Frame,
    asset: AssetRow,
    prints: Vec<String>,
    conduits: Vec<String>,
    windows: Vec<WindowRow>,
    sessions: Vec<SessionRow>,
    /// The viewer describes the site.
    may_change: bool,
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/assets");
    let snapshot = app.snapshot();
    let secrets = app.store.secrets().await?;
    let fitting: Vec<&Asset> = snapshot.site.assets.iter().filter(|a| asked.fits(a)).collect();
    let found = fitting.len();
    let shown = fitting.into_iter().skip(asked.skip).take(PAGE);
    let page = AssetsPage {
        assets: shown.map(|a| row(&frame, &snapshot.site, a, &secrets)).collect(),
        zones: snapshot.site.zones.iter().map(|z| z.name.to_string()).collect(),
        found,
        newer: (asked.skip > 0).then(|| asked.at(asked.skip.saturating_sub(PAGE))),
        older: (asked.skip + PAGE < found).then(|| asked.at(asked.skip + PAGE)),
        asked,
        frame,
    };
    frame::page(&page)
}

impl Asked {
    fn fits(&self, asset: &Asset) -> bool {
        let words = self.q.trim().to_lowercase();
        (words.is_empty()
            || asset.name.as_str().contains(&words)
            || asset.title.to_lowercase().contains(&words)
            || asset.address.contains(&words))
            && (self.zone.is_empty() || asset.zone.as_str() == self.zone)
    }

    fn at(&self, skip: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("q", &self.q)
            .append_pair("zone", &self.zone)
            .append_pair("skip", &skip.to_string());
        format!("/assets?{}", query.finish())
    }
}

fn row(frame: &Frame, site: &Site, asset: &Asset, secrets: &Secrets) -> AssetRow {
    let endpoints: Vec<String> =
        asset.endpoints.iter().map(|e| format!("{}:{}", e.protocol.as_str(), e.port)).collect();
    let shows_keys = asset.speaks(Protocol::Ssh) || asset.speaks(Protocol::Rdp);
    let pinned = asset.host_keys.len() + asset.desktop_keys().len();
    AssetRow {
        name: asset.name.to_string(),
        title: asset.title.clone(),
        zone: asset.zone.to_string(),
        address: asset.address.clone(),
        endpoints: endpoints.join(", "),
        criticality: asset.criticality.as_str(),
        crown: asset.crown_jewel,
        disabled: asset.disabled,
        supervised: asset.supervised,
        dangerous: asset.dangerous_ssh_algorithms.join(" "),
        host_keys: match (shows_keys, pinned) {
            (false, _) => String::new(),
            (true, 0) => "none pinned".to_owned(),
            (true, n) => format!("{n} pinned"),
        },
        accounts: accounts(frame, site, asset, secrets),
    }
}

fn accounts(frame: &Frame, site: &Site, asset: &Asset, secrets: &Secrets) -> Vec<AccountRow> {
    let of_asset = site.accounts.iter().filter(|a| a.asset == asset.name);
    let all = of_asset.map(|account| {
        let kept = secrets.iter().find(|(r, ..)| r == &account.reference());
        let flags =
            [(account.default, "default"), (account.exclusive, "exclusive"), (account.disabled, "disabled")];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        AccountRow {
            login: account.login.to_string(),
            credential: account.credential.as_str(),
            flags: flags.join(", "),
            secret: match (account.needs_secret(), kept) {
                (false, _) => "not needed",
                (true, Some(_)) => "kept",
                (true, None) => "missing",
            },
            changed: frame.zone.maybe(kept.map(|k| k.2)),
        }
    });
    all.collect()
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(asset): Path<String>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/assets");
    // From the store: whoever is led here after changing it sees it changed.
    let site = app.store.site().await?;
    let name = Name::new(&asset).map_err(|_| Failure::NotFound)?;
    let asset = site.asset(&name).ok_or(Failure::NotFound)?;
    let secrets = app.store.secrets().await?;
    let lead_there = site
        .conduits
        .iter()
        .filter(|c| c.to == asset.zone && (c.assets.is_empty() || c.assets.contains(&name)))
        .map(|c| {
            let protocols: Vec<&str> = c.protocols.iter().map(|p| p.as_str()).collect();
            format!("{} from {} ({})", c.name, c.from, protocols.join(", "))
        });
    let desktop_prints = asset.desktop_keys().iter().map(|k| format!("{k} (desktop)"));
    let page = AssetPage {
        asset: row(&frame, &site, asset, &secrets),
        prints: asset.host_key_fingerprints().into_iter().chain(desktop_prints).collect(),
        conduits: lead_there.collect(),
        windows: windows(&app, &frame, &name).await?,
        sessions: sessions(&app, &frame, &name).await?,
        may_change: ADMINISTRATORS.admits(&viewer.user),
        frame,
    };
    frame::page(&page)
}

/// What marking an asset, or taking the mark away, would change.
async fn plan(
    State(app): State<App>,
    viewer: Viewer,
    Path((asset, what)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let name = Name::new(&asset).map_err(|_| Failure::NotFound)?;
    let asset = app.snapshot().site.asset(&name).ok_or(Failure::NotFound)?.name.clone();
    let on = match what.as_str() {
        "supervise" => true,
        "unsupervise" => false,
        _ => return Err(Failure::NotFound),
    };
    super::plan_page(&app, &viewer, Edit::Supervision { asset, on }).await
}

async fn windows(app: &App, frame: &Frame, asset: &Name) -> Result<Vec<WindowRow>, Failure> {
    let filter = WindowFilter { asset: Some(asset.clone()), limit: SHOWN, ..WindowFilter::default() };
    let row = |stored: cofferdam_access::store::StoredWindow| {
        let people: Vec<&str> = stored.window.request.users.iter().map(Name::as_str).collect();
        WindowRow {
            id: stored.window.id().to_string(),
            state: stored.window.phase(frame.now).as_str(),
            people: people.join(", "),
            until: frame.at(&stored.window.effective_end()),
        }
    };
    Ok(app.store.windows(&filter).await?.into_iter().map(row).collect())
}

async fn sessions(app: &App, frame: &Frame, asset: &Name) -> Result<Vec<SessionRow>, Failure> {
    let filter = SessionFilter { asset: Some(asset.clone()), limit: SHOWN, ..SessionFilter::default() };
    let row = |s: cofferdam_access::store::SessionRecord| SessionRow {
        id: s.id.to_string(),
        person: s.person.to_string(),
        login: s.login.to_string(),
        state: s.state.as_str(),
        since: frame.at(&s.started_at),
    };
    Ok(app.store.sessions(&filter).await?.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_render_with_what_people_typed_escaped() {
        let frame = Frame::sample("/assets");
        let at = frame.at(&frame.now);
        let row = || AssetRow {
            name: "plc-7".into(),
            title: "<script>".into(),
            zone: "cell-1".into(),
            address: "10.0.0.1".into(),
            endpoints: "modbus:502".into(),
            criticality: "high",
            crown: true,
            disabled: true,
            supervised: true,
            dangerous: "ssh-rsa".into(),
            host_keys: "none pinned".into(),
            accounts: vec![AccountRow {
                login: "<script>".into(),
                credential: "password",
                flags: "default".into(),
                secret: "missing",
                changed: Some(at.clone()),
            }],
        };
        let list = AssetsPage {
            asked: Asked { q: "\"><script>".into(), ..Asked::default() },
            zones: vec!["cell-1".into()],
            assets: vec![row()],
            found: 1,
            newer: None,
            older: None,
            frame: frame.clone(),
        };
        let html = list.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("crown jewel") && html.contains("ssh-rsa"));
        let one = AssetPage {
            asset: row(),
            prints: vec!["SHA256:x".into()],
            conduits: vec!["<script>".into()],
            windows: vec![WindowRow {
                id: "1".into(),
                state: "open",
                people: "vera".into(),
                until: at.clone(),
            }],
            sessions: vec![SessionRow {
                id: "2".into(),
                person: "vera".into(),
                login: "<script>".into(),
                state: "active",
                since: at.clone(),
            }],
            may_change: true,
            frame,
        };
        let html = one.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("missing"));
        assert!(html.contains("/assets/plc-7/plan/unsupervise"));
    }
}
