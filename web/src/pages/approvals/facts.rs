//! What somebody should know before they decide on a request, worst first.

use std::{collections::BTreeSet, net::IpAddr};

use cofferdam_access::{
    audit::AuditKind,
    ids::{Name, SessionId},
    site::{Criticality, PlantState},
    snapshot::Snapshot,
    store::{AuditFilter, FindingFilter, PlantStateRecord, SessionFilter, Store, StoreError},
    window::{Operation, Phase, Window},
};

use crate::{
    frame::Frame,
    pages::windows::view::{assets, full_name, joined, short, zone_title},
};

/// Sessions that are counted; more are "so many or more".
const COUNTED: u32 = 20;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Think twice.
    Bad,
    /// Look closer.
    Warn,
    /// Good to know.
    Info,
    /// As it should be.
    Fine,
}

impl Weight {
    /// The class of its mark.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Bad => "t-bad",
            Self::Warn => "t-warn",
            Self::Info => "t-info",
            Self::Fine => "t-ok",
        }
    }
}

/// One fact.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// How much it matters.
    pub(super) weight: Weight,
    /// In a few words.
    pub(super) title: String,
    /// In a sentence.
    pub(super) text: String,
    /// Where to read more: path and words.
    pub(super) link: Option<(String, String)>,
    /// In two words, for the queue; only for what to look out for.
    pub(super) mark: Option<&'static str>,
}

fn fact(weight: Weight, title: impl Into<String>, text: impl Into<String>) -> Fact {
    Fact { weight, title: title.into(), text: text.into(), link: None, mark: None }
}

impl Fact {
    fn marked(mut self, mark: &'static str) -> Self {
        self.mark = Some(mark);
        self
    }

    fn leading(mut self, path: String, words: impl Into<String>) -> Self {
        self.link = Some((path, words.into()));
        self
    }
}

/// All there is to know. `replays`: whether the reader may see recordings.
pub(super) async fn gather(
    store: &Store,
    frame: &Frame,
    snapshot: &Snapshot,
    window: &Window,
    replays: bool,
) -> Result<Vec<Fact>, StoreError> {
    let mut facts = machines(snapshot, window);
    facts.extend(plant(frame, snapshot, window, &store.plant_states().await?));
    facts.extend(overlaps(frame, snapshot, window));
    facts.extend(history(store, frame, window, replays).await?);
    facts.extend(origin(store, frame, snapshot, window).await?);
    facts.extend(words(snapshot, window));
    facts.sort_by_key(|f| f.weight);
    Ok(facts)
}

fn machines(snapshot: &Snapshot, window: &Window) -> Vec<Fact> {
    let mut facts = Vec::new();
    for asset in assets(window).into_iter().filter_map(|a| snapshot.site.asset(a)) {
        let harm = match asset.criticality {
            Criticality::High => "It can do much harm",
            Criticality::Medium => "It can do harm",
            Criticality::Low => "It can do little harm by itself",
        };
        let what = if asset.title.is_empty() { asset.name.as_str() } else { &asset.title };
        if asset.crown_jewel {
            let title = format!("{} is a crown jewel", asset.name);
            facts.push(fact(Weight::Bad, title, format!("{what}. {harm}.")).marked("crown jewel"));
        } else if asset.criticality == Criticality::High {
            let title = format!("{} has high criticality", asset.name);
            facts.push(fact(Weight::Warn, title, format!("{what}. {harm}.")).marked("high criticality"));
        }
    }
    facts
}

fn plant(frame: &Frame, snapshot: &Snapshot, window: &Window, set: &[PlantStateRecord]) -> Vec<Fact> {
    let zones: BTreeSet<&Name> =
        assets(window).into_iter().filter_map(|a| snapshot.site.asset(a)).map(|a| &a.zone).collect();
    zones.into_iter().map(|zone| plant_in(frame, snapshot, window, set, zone)).collect()
}

fn plant_in(
    frame: &Frame,
    snapshot: &Snapshot,
    window: &Window,
    set: &[PlantStateRecord],
    zone: &Name,
) -> Fact {
    let state = snapshot.plant_state(zone);
    let title = zone_title(&snapshot.site, zone);
    let since = set.iter().find(|r| &r.zone == zone).map_or_else(String::new, |r| {
        let by = Name::new(&r.by).map_or_else(|_| r.by.clone(), |n| full_name(&snapshot.site, &n));
        format!(" since {}, set by {by}", frame.at(&r.since).site)
    });
    let now = format!("{title} is in {}{since}", state.as_str());
    if !window.allows_plant_state(state) {
        let text = format!("{now}. The window asks for another state, and opens nothing until it comes.");
        return fact(Weight::Warn, "Plant state does not fit now", text).marked("plant state");
    }
    let changes = window.request.operations.iter().any(|o| *o != Operation::View);
    match state {
        PlantState::Emergency => {
            fact(Weight::Bad, format!("{title} is in emergency"), format!("{now}.")).marked("emergency")
        }
        PlantState::Production if changes => {
            let text = format!("{now}. The process runs while this work is done.");
            fact(Weight::Warn, format!("{title} is in production"), text).marked("zone in production")
        }
        _ => fact(Weight::Fine, "Plant state fits", format!("{now}.")),
    }
}

fn overlaps(frame: &Frame, snapshot: &Snapshot, window: &Window) -> Vec<Fact> {
    let ours: BTreeSet<&Name> = assets(window).into_iter().collect();
    let overlapping = snapshot.windows.iter().filter(|w| {
        w.id() != window.id()
            && Some(w.id()) != window.request.extends
            && matches!(w.phase(frame.now), Phase::Requested | Phase::Upcoming | Phase::Open)
            && w.request.start < window.effective_end()
            && window.request.start < w.effective_end()
            && assets(w).iter().any(|a| ours.contains(a))
    });
    overlapping
        .take(5)
        .map(|w| {
            let shared = assets(w).into_iter().filter(|a| ours.contains(a));
            let text = format!(
                "{} on {}, {} to {} ({})",
                joined(w.request.users.iter().map(|u| full_name(&snapshot.site, u))),
                joined(shared),
                frame.at(&w.request.start).site,
                frame.at(&w.effective_end()).site,
                w.phase(frame.now).as_str(),
            );
            fact(Weight::Warn, format!("Overlaps with {}", short(w.id())), text)
                .marked("overlap")
                .leading(format!("/windows/{}", w.id()), format!("Show {}", short(w.id())))
        })
        .collect()
}

/// What the requester did on these machines before.
async fn history(
    store: &Store,
    frame: &Frame,
    window: &Window,
    replays: bool,
) -> Result<Vec<Fact>, StoreError> {
    let mut facts = Vec::new();
    for asset in assets(window) {
        let filter = SessionFilter {
            person: Some(window.request.requested_by.clone()),
            asset: Some(asset.clone()),
            limit: COUNTED,
            ..SessionFilter::default()
        };
        let sessions = store.sessions(&filter).await?;
        let Some(last) = sessions.first() else {
            let text = format!("{} has had no session on {asset} before.", window.request.requested_by);
            facts.push(fact(Weight::Warn, format!("First time on {asset}"), text).marked("first time"));
            continue;
        };
        let more = if sessions.len() >= COUNTED as usize { " or more" } else { "" };
        let seen = found(store, last.id).await?;
        let text = format!(
            "{}{more} sessions. The last: {}, as {}, by {}; {}.",
            sessions.len(),
            frame.at(&last.started_at).site,
            last.login,
            last.protocol.as_str(),
            seen.as_deref().unwrap_or("nothing was found in it"),
        );
        let weight = if seen.is_some() { Weight::Info } else { Weight::Fine };
        let fact = fact(weight, format!("Not the first time on {asset}"), text);
        facts.push(if replays {
            fact.leading(format!("/recordings/{}", last.id), "Replay it")
        } else {
            fact
        });
    }
    Ok(facts)
}

/// What the triggers saw in a session, worst first, in words.
async fn found(store: &Store, session: SessionId) -> Result<Option<String>, StoreError> {
    const WORST: [&str; 5] = ["critical", "high", "medium", "low", "info"];
    let filter = FindingFilter { session: Some(session), limit: 50, ..FindingFilter::default() };
    let findings = store.findings(&filter).await?;
    let worst = WORST.iter().find(|s| findings.iter().any(|f| f.severity == **s));
    Ok(worst.map(|worst| format!("{} findings in it, the worst {worst}", findings.len())))
}

/// Where the request came from, and whether the requester's sessions came from there before.
async fn origin(
    store: &Store,
    frame: &Frame,
    snapshot: &Snapshot,
    window: &Window,
) -> Result<Option<Fact>, StoreError> {
    let filter = AuditFilter {
        kind: Some(AuditKind::WindowRequested),
        subject: Some(window.id().to_string()),
        limit: 1,
        ..AuditFilter::default()
    };
    let asked = store.audit(&filter).await?;
    let body = asked.first().and_then(|e| serde_json::from_str::<serde_json::Value>(&e.body).ok());
    let source = body.as_ref().and_then(|b| b.get("source")).and_then(|s| s.as_str());
    let Some(source) = source.and_then(|s| s.parse::<IpAddr>().ok()) else { return Ok(None) };
    let zone = snapshot.site.zone_of(source).map(|z| zone_title(&snapshot.site, z));
    let from = format!("It was asked for from {source} ({})", zone.as_deref().unwrap_or("no known zone"));
    let who = &window.request.requested_by;
    Ok(Some(match store.source_seen(who, source).await? {
        None => {
            let text = format!("{from}. No session of {who} came from there before.");
            fact(Weight::Warn, "New origin", text).marked("new origin")
        }
        Some((first, _)) => {
            let text =
                format!("{from}, where sessions of {who} have come from since {}.", frame.at(&first).site);
            fact(Weight::Fine, "Known origin", text)
        }
    }))
}

/// What follows from the words of the request itself.
fn words(snapshot: &Snapshot, window: &Window) -> Vec<Fact> {
    let mut facts = Vec::new();
    let request = &window.request;
    if request.operations.contains(&Operation::Program) {
        let text = "Logic or firmware of a controller may be changed in it.";
        facts.push(fact(Weight::Warn, "Allows programming", text).marked("programming"));
    }
    let others: Vec<String> = request
        .users
        .iter()
        .filter(|u| **u != request.requested_by)
        .map(|u| full_name(&snapshot.site, u))
        .collect();
    if !others.is_empty() {
        facts.push(fact(Weight::Info, "For others too", format!("It may be used by {}.", others.join(", "))));
    }
    if let Some(before) = request.extends {
        let text = "The same work until a later end; nothing else differs.";
        let link = (format!("/windows/{before}"), format!("Show {}", short(before)));
        facts.push(Fact {
            link: Some(link),
            ..fact(Weight::Info, format!("More time for {}", short(before)), text)
        });
    }
    for approval in &window.approvals {
        let title = format!("{} approved first", full_name(&snapshot.site, &approval.by));
        let remark = approval.remark.as_ref().map(|r| format!(" Remark: “{r}”")).unwrap_or_default();
        facts.push(fact(Weight::Info, title, format!("As {}.{remark}", approval.duty.as_str())));
    }
    facts
}
