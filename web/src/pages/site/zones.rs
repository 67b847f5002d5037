//! Zones and conduits: a picture, and the table that says the same in words.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use cofferdam_access::{
    clock::Timestamp,
    ids::Name,
    site::{Conduit, Site},
    snapshot::Snapshot,
    window::{Phase, Target},
};
use serde::Deserialize;

use super::map::Map;
use crate::{
    error::Failure,
    frame::{self, Frame, Moment},
    routes::{Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/zones", SITE_READERS, show)
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    who: String,
    when: String,
}

struct ConduitRow {
    name: String,
    from: String,
    to: String,
    protocols: String,
    endpoints: String,
    files: &'static str,
    open: Vec<OpenTo>,
}

struct OpenTo {
    person: String,
    until: Moment,
}

struct ZoneRow {
    name: String,
    title: String,
    state: &'static str,
    critical: bool,
    networks: String,
    assets: usize,
}

#[derive(Template)]
#[template(path = "zones.html")]
struct ZonesPage {
    frame: Frame,
    asked: Asked,
    problem: Option<String>,
    at: Moment,
    people: Vec<String>,
    map: Map,
    words: String,
    conduits: Vec<ConduitRow>,
    zones: Vec<ZoneRow>,
    administrator: bool,
}

async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/zones");
    let snapshot = app.snapshot();
    let (at, problem) = match asked.when.trim() {
        "" => (frame.now, None),
        text => match frame.zone.zone()?.parse(text, frame.now) {
            Ok(at) => (at, None),
            Err(e) => (frame.now, Some(e.to_string())),
        },
    };
    let open: BTreeMap<&Name, Vec<(Name, Timestamp)>> = snapshot
        .site
        .conduits
        .iter()
        .map(|c| (&c.name, open_through(&snapshot, c, &asked.who, at)))
        .collect();
    let is_open = |c: &Conduit| open.get(&c.name).is_some_and(|o| !o.is_empty());
    let map = Map::of(&snapshot.site, &snapshot.plant, &is_open);
    let conduits = snapshot
        .site
        .conduits
        .iter()
        .map(|c| conduit_row(&frame, &snapshot.site, c, open.get(&c.name)))
        .collect();
    let zone_row = |z: &cofferdam_access::site::Zone| ZoneRow {
        name: z.name.to_string(),
        title: z.title.clone(),
        state: snapshot.plant_state(&z.name).as_str(),
        critical: z.critical,
        networks: z.networks.join(", "),
        assets: snapshot.site.assets.iter().filter(|a| a.zone == z.name).count(),
    };
    let page = ZonesPage {
        at: frame.at(&at),
        people: snapshot.site.users.iter().filter(|u| u.is_active(at)).map(|u| u.name.to_string()).collect(),
        words: words(&snapshot.site),
        map,
        conduits,
        zones: snapshot.site.zones.iter().map(zone_row).collect(),
        administrator: viewer.holds(cofferdam_access::people::Duty::Administrator),
        problem,
        asked,
        frame,
    };
    frame::page(&page)
}

/// Who has a window that is open at `at` and reaches an asset behind the conduit; `who` narrows it to one person.
fn open_through(snapshot: &Snapshot, conduit: &Conduit, who: &str, at: Timestamp) -> Vec<(Name, Timestamp)> {
    let behind: Vec<&Name> = snapshot
        .site
        .assets
        .iter()
        .filter(|a| !a.disabled && a.zone == conduit.to)
        .filter(|a| conduit.assets.is_empty() || conduit.assets.contains(&a.name))
        .filter(|a| a.endpoints.iter().any(|e| conduit.protocols.contains(&e.protocol)))
        .map(|a| &a.name)
        .collect();
    let mut found: BTreeMap<Name, Timestamp> = BTreeMap::new();
    for window in snapshot.windows.iter().filter(|w| w.phase(at) == Phase::Open) {
        let people = window.request.users.iter().filter(|u| who.is_empty() || u.as_str() == who);
        for person in people {
            let active = snapshot.site.user(person).is_some_and(|u| u.is_active(at));
            if active && behind.iter().any(|a| window.names(person, Target::Asset(a))) {
                let end = found.entry(person.clone()).or_insert(window.effective_end());
                *end = (*end).max(window.effective_end());
            }
        }
    }
    found.into_iter().collect()
}

fn conduit_row(
    frame: &Frame,
    site: &Site,
    conduit: &Conduit,
    open: Option<&Vec<(Name, Timestamp)>>,
) -> ConduitRow {
    let endpoints: Vec<String> = site
        .assets
        .iter()
        .filter(|a| a.zone == conduit.to && (conduit.assets.is_empty() || conduit.assets.contains(&a.name)))
        .flat_map(|a| a.endpoints.iter().map(move |e| (a, e)))
        .filter(|(_, e)| conduit.protocols.contains(&e.protocol))
        .map(|(a, e)| format!("{}:{}", a.name, e.port))
        .collect();
    let shown = 12;
    let more = endpoints.len().saturating_sub(shown);
    let mut text = endpoints.into_iter().take(shown).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    let protocols: Vec<&str> = conduit.protocols.iter().map(|p| p.as_str()).collect();
    ConduitRow {
        name: conduit.name.to_string(),
        from: conduit.from.to_string(),
        to: conduit.to.to_string(),
        protocols: protocols.join(", "),
        endpoints: if text.is_empty() { "none".to_owned() } else { text },
        files: match conduit.direction.as_str() {
            "in" => "to the asset only",
            "out" => "from the asset only",
            _ => "both ways",
        },
        open: open
            .into_iter()
            .flatten()
            .map(|(person, until)| OpenTo { person: person.to_string(), until: frame.at(until) })
            .collect(),
    }
}

/// The picture in words.
fn words(site: &Site) -> String {
    let lead = |c: &Conduit| {
        let protocols: Vec<&str> = c.protocols.iter().map(|p| p.as_str()).collect();
        format!("from {} to {} by {}", c.from, c.to, protocols.join(", "))
    };
    let all: Vec<String> = site.conduits.iter().take(20).map(lead).collect();
    let rest = if site.conduits.len() > all.len() { ", and others" } else { "" };
    format!("{} zones. Conduits: {}{rest}. The table below says the same.", site.zones.len(), all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders_with_what_people_typed_escaped() {
        let frame = Frame::sample("/zones");
        let at = frame.at(&frame.now);
        let text = "zones = [{ name = \"a\", title = \"<script>\" }, { name = \"b\" }]\n\
             conduits = [{ name = \"c\", from = \"a\", to = \"b\", protocols = [\"ssh\"] }]\n\
             assets = [{ name = \"m\", zone = \"b\", address = \"h\", crown_jewel = true, \
             endpoints = [{ protocol = \"ssh\", port = 22 }] }]";
        let site = Site::from_toml(text).unwrap();
        let page = ZonesPage {
            asked: Asked { who: "vera".into(), when: "\"><script>".into() },
            problem: Some("<script>".into()),
            people: vec!["vera".into()],
            map: Map::of(&site, &Default::default(), &|_| true),
            words: words(&site),
            conduits: vec![conduit_row(&frame, &site, &site.conduits[0], None)],
            zones: vec![ZoneRow {
                name: "a".into(),
                title: "<script>".into(),
                state: "production",
                critical: true,
                networks: String::new(),
                assets: 0,
            }],
            administrator: true,
            at,
            frame,
        };
        let html = page.render().unwrap();
        assert!(
            !html.contains("<script>") && html.contains("conduit open") && html.contains("m:22"),
            "{html}"
        );
        assert!(!html.contains("style="));
    }
}
