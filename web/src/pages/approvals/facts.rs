//! What somebody should know before they decide on a request, worst first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, SessionId, WindowId},
    site::{Criticality, PlantState},
    snapshot::Snapshot,
    store::{FindingFilter, PlantStateRecord, SessionFilter, Store, StoreError},
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

/// What the store knows of several requests, asked for all at once.
#[derive(Debug)]
pub(super) struct Past {
    plant: Vec<PlantStateRecord>,
    /// Who has been on which machine.
    been: BTreeSet<(Name, Name)>,
    asked_from: BTreeMap<WindowId, IpAddr>,
    /// Addresses that sessions of their requesters came from, with the first time.
    seen: BTreeMap<(Name, IpAddr), Timestamp>,
}

impl Past {
    /// Of these requests.
    pub(super) async fn of(store: &Store, windows: &[&Window]) -> Result<Self, StoreError> {
        let pairs = windows
            .iter()
            .flat_map(|w| assets(w).into_iter().map(|a| (w.request.requested_by.clone(), a.clone())))
            .collect();
        let ids: Vec<WindowId> = windows.iter().map(|w| w.id()).collect();
        let asked_from = store.asked_from(&ids).await?;
        let origins = windows
            .iter()
            .filter_map(|w| Some((w.request.requested_by.clone(), *asked_from.get(&w.id())?)))
            .collect();
        Ok(Self {
            plant: store.plant_states().await?,
            been: store.been_there(&pairs).await?,
            seen: store.seen_from(&origins).await?,
            asked_from,
        })
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
    let past = Past::of(store, &[window]).await?;
    let mut facts = at_a_glance(frame, snapshot, window, &past);
    facts.extend(visits(store, frame, window, &past, replays).await?);
    facts.sort_by_key(|f| f.weight);
    Ok(facts)
}

/// What needs no look at single sessions; enough for the marks of the queue.
pub(super) fn at_a_glance(frame: &Frame, snapshot: &Snapshot, window: &Window, past: &Past) -> Vec<Fact> {
    let mut facts = machines(snapshot, window);
    facts.extend(plant(frame, snapshot, window, &past.plant));
    facts.extend(overlaps(frame, snapshot, window));
    facts.extend(first_times(window, past));
    facts.extend(origin(frame, snapshot, window, past));
    facts.extend(words(snapshot, window));
    facts.sort_by_key(|f| f.weight);
    facts
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
        w.request.start < window.effective_end()
            && window.request.start < w.effective_end()
            && w.id() != window.id()
            && Some(w.id()) != window.request.extends
            && assets(w).iter().any(|a| ours.contains(a))
            // Last, because its approvals are proven anew for this.
            && matches!(w.phase(frame.now), Phase::Requested | Phase::Upcoming | Phase::Open)
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

/// Machines that the requester has not been on.
fn first_times(window: &Window, past: &Past) -> Vec<Fact> {
    let who = &window.request.requested_by;
    let new = assets(window).into_iter().filter(|a| !past.been.contains(&(who.clone(), (*a).clone())));
    new.map(|asset| {
        let text = format!("{who} has had no session on {asset} before.");
        fact(Weight::Warn, format!("First time on {asset}"), text).marked("first time")
    })
    .collect()
}

/// What the requester did on these machines before.
async fn visits(
    store: &Store,
    frame: &Frame,
    window: &Window,
    past: &Past,
    replays: bool,
) -> Result<Vec<Fact>, StoreError> {
    let mut facts = Vec::new();
    let who = &window.request.requested_by;
    for asset in assets(window).into_iter().filter(|a| past.been.contains(&(who.clone(), (*a).clone()))) {
        let filter = SessionFilter {
            person: Some(who.clone()),
            asset: Some(asset.clone()),
            limit: COUNTED,
            ..SessionFilter::default()
        };
        let sessions = store.sessions(&filter).await?;
        let Some(last) = sessions.first() else { continue };
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
fn origin(frame: &Frame, snapshot: &Snapshot, window: &Window, past: &Past) -> Option<Fact> {
    let source = *past.asked_from.get(&window.id())?;
    let zone = snapshot.site.zone_of(source).map(|z| zone_title(&snapshot.site, z));
    let from = format!("It was asked for from {source} ({})", zone.as_deref().unwrap_or("no known zone"));
    let who = &window.request.requested_by;
    Some(match past.seen.get(&(who.clone(), source)) {
        None => {
            let text = format!("{from}. No session of {who} came from there before.");
            fact(Weight::Warn, "New origin", text).marked("new origin")
        }
        Some(first) => {
            let text =
                format!("{from}, where sessions of {who} have come from since {}.", frame.at(first).site);
            fact(Weight::Fine, "Known origin", text)
        }
    })
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
