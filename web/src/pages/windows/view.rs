//! How a window is shown: in a listing, on its own page, on the page of who decides on it.

use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, WindowId},
    local_time::SiteZone,
    people::Duty,
    site::{Criticality, Site},
    snapshot::Snapshot,
    window::{Phase, Standing, Window},
};

use crate::frame::{Frame, Moment};

/// What people call a window: the end of its id, which differs even between two of the same second.
pub(crate) fn short(id: WindowId) -> String {
    let text = id.to_string();
    format!("W-{}", text.get(text.len().saturating_sub(6)..).unwrap_or(&text))
}

/// The class of the mark of a phase.
pub(crate) fn pill(phase: Phase) -> &'static str {
    match phase {
        Phase::Requested => "p-requested",
        Phase::Upcoming => "p-upcoming",
        Phase::Open => "p-open",
        Phase::Ended => "p-ended",
        Phase::Lapsed => "p-expired",
        Phase::Refused => "p-refused",
        Phase::Withdrawn => "p-withdrawn",
        Phase::Revoked => "p-revoked",
        Phase::Unproven => "p-failed",
    }
}

/// The full name of a person of the site, or the name that they log in with.
pub(crate) fn full_name(site: &Site, name: &Name) -> String {
    let known = site.user(name).map(|u| u.full_name.as_str()).filter(|n| !n.is_empty());
    known.unwrap_or(name.as_str()).to_owned()
}

/// What people call the organisation of a person.
pub(crate) fn organisation(site: &Site, name: &Name) -> String {
    let Some(user) = site.user(name) else { return String::new() };
    let known = site.organisations.iter().find(|o| o.name == user.organisation).map(|o| o.title.as_str());
    known.filter(|t| !t.is_empty()).unwrap_or(user.organisation.as_str()).to_owned()
}

/// What people call a zone.
pub(crate) fn zone_title(site: &Site, name: &Name) -> String {
    let known = site.zones.iter().find(|z| &z.name == name).map(|z| z.title.as_str());
    known.filter(|t| !t.is_empty()).unwrap_or(name.as_str()).to_owned()
}

/// As pages and listings write it.
pub(crate) fn criticality(c: Criticality) -> &'static str {
    match c {
        Criticality::Low => "low",
        Criticality::Medium => "medium",
        Criticality::High => "high",
    }
}

/// The assets that a window leads to, each once.
pub(crate) fn assets(window: &Window) -> Vec<&Name> {
    let request = &window.request;
    let mut assets: Vec<&Name> = request.accounts.iter().map(|a| &a.asset).chain(&request.forwards).collect();
    assets.sort();
    assets.dedup();
    assets
}

/// Texts with commas between.
pub(crate) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

/// What the window waits for, or why it is over.
pub(crate) fn waiting(site: &Site, window: &Window, now: Timestamp) -> String {
    match (&window.standing, window.phase(now)) {
        (Standing::Refused { by, reason, .. } | Standing::Revoked { by, reason, .. }, _) => {
            format!("{}: {reason}", full_name(site, by))
        }
        (_, Phase::Requested) => match window.approvals.first() {
            None => "operations and security".to_owned(),
            Some(first) => {
                format!("{} ({} approved)", other(first.duty).as_str(), full_name(site, &first.by))
            }
        },
        _ => "–".to_owned(),
    }
}

/// The other of the two duties that approve.
fn other(duty: Duty) -> Duty {
    if duty == Duty::Operations { Duty::Security } else { Duty::Operations }
}

/// A window in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its id.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) short: String,
    /// Where it stands.
    pub(crate) phase: &'static str,
    /// The class of its mark.
    pub(crate) pill: &'static str,
    /// Who asked, in full.
    pub(crate) asker: String,
    /// Of which organisation.
    pub(crate) organisation: String,
    /// Where it leads.
    pub(crate) assets: String,
    /// What may be done.
    pub(crate) operations: String,
    /// First moment.
    pub(crate) from: Moment,
    /// End as it stands.
    pub(crate) until: Moment,
    /// What it waits for, or why it is over.
    pub(crate) waiting: String,
}

impl Line {
    /// Of that window.
    pub(crate) fn new(frame: &Frame, site: &Site, window: &Window) -> Self {
        let request = &window.request;
        Self {
            id: request.id.to_string(),
            short: short(request.id),
            phase: window.phase(frame.now).as_str(),
            pill: pill(window.phase(frame.now)),
            asker: full_name(site, &request.requested_by),
            organisation: organisation(site, &request.requested_by),
            assets: joined(assets(window)),
            operations: joined(request.operations.iter().map(|o| o.as_str())),
            from: frame.at(&request.start),
            until: frame.at(&window.effective_end()),
            waiting: waiting(site, window, frame.now),
        }
    }
}

/// One step of the way of a request.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// `done`, `now`, `fail` or nothing.
    pub(crate) mark: &'static str,
    /// Which.
    pub(crate) name: &'static str,
    /// By whom, as what.
    pub(crate) text: String,
    /// When.
    pub(crate) at: Option<Moment>,
}

/// The way of a request so far, and what comes.
pub(crate) fn progress(frame: &Frame, site: &Site, window: &Window) -> Vec<Progress> {
    let step =
        |mark, name, text, at: Option<Timestamp>| Progress { mark, name, text, at: frame.zone.maybe(at) };
    let request = &window.request;
    let mut steps = vec![step("done", "Requested", String::new(), Some(request.requested_at))];
    for (approval, name) in window.approvals.iter().zip(["First approval", "Second approval"]) {
        let text = format!("{}, {}", full_name(site, &approval.by), approval.duty.as_str());
        steps.push(step("done", name, text, Some(approval.at)));
    }
    let missing = ["First approval", "Second approval"].into_iter().skip(window.approvals.len());
    let phase = window.phase(frame.now);
    match (&window.standing, phase) {
        (Standing::Refused { by, at, .. }, _) => {
            steps.push(step("fail", "Refused", full_name(site, by), Some(*at)));
        }
        (Standing::Withdrawn { at }, _) => {
            steps.push(step("fail", "Withdrawn", full_name(site, &request.requested_by), Some(*at)));
        }
        (Standing::Revoked { by, at, .. }, _) => {
            steps.push(step("fail", "Revoked", full_name(site, by), Some(*at)));
        }
        (_, Phase::Requested) => {
            for (i, name) in missing.enumerate() {
                let text = match window.approvals.first() {
                    Some(first) => format!("waiting for {}", other(first.duty).as_str()),
                    None => "waiting for operations and security".to_owned(),
                };
                let (mark, text) = if i == 0 { ("now", text) } else { ("", String::new()) };
                steps.push(step(mark, name, text, None));
            }
            steps.push(step("", "Open", "from".to_owned(), Some(request.start)));
        }
        (_, Phase::Lapsed) => {
            steps.push(step(
                "fail",
                "Lapsed",
                "its end came before its approvals".to_owned(),
                Some(request.end),
            ));
        }
        (_, Phase::Upcoming) => steps.push(step("now", "Open", "from".to_owned(), Some(request.start))),
        (_, Phase::Open) => steps.push(step("now", "Open", "until".to_owned(), Some(window.effective_end()))),
        (_, Phase::Ended) => steps.push(step("done", "Ended", String::new(), Some(window.effective_end()))),
        (_, Phase::Unproven) => {
            let text = "its approvals do not prove it: tell an administrator".to_owned();
            steps.push(step("fail", "Not proven", text, None));
        }
        // The standings above have said it.
        (_, Phase::Refused | Phase::Withdrawn | Phase::Revoked) => {}
    }
    steps
}

/// One machine of a request.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    /// Its name.
    pub(crate) asset: String,
    /// What people call it; may be empty.
    pub(crate) title: String,
    /// As which accounts, or that it is for forwards.
    pub(crate) accounts: String,
    /// Its zone and the plant's state there.
    pub(crate) zone: String,
    /// How much harm it can do.
    pub(crate) criticality: &'static str,
    /// Whether it is a crown jewel.
    pub(crate) jewel: bool,
}

/// The text that was asked for, for people.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Who asked, in full, and of which organisation.
    pub(crate) who: String,
    /// The others who may use it.
    pub(crate) users: String,
    /// Where to.
    pub(crate) places: Vec<Where>,
    /// What may be done.
    pub(crate) operations: Vec<&'static str>,
    /// First moment.
    pub(crate) from: Moment,
    /// End as asked for.
    pub(crate) until: Moment,
    /// How long, in words.
    pub(crate) long: String,
    /// An earlier end that somebody set.
    pub(crate) shortened: Option<Moment>,
    /// Why.
    pub(crate) purpose: String,
    /// The work order; may be empty.
    pub(crate) work_order: String,
    /// Plant states in which it holds.
    pub(crate) states: String,
    /// Limits on files; may be empty.
    pub(crate) limits: Vec<String>,
    /// The window that it extends.
    pub(crate) extends: Option<(String, String)>,
    /// The digest in groups.
    pub(crate) digest: Vec<String>,
}

impl Text {
    /// Of that window.
    pub(crate) fn new(frame: &Frame, snapshot: &Snapshot, window: &Window) -> Self {
        let (site, request) = (&snapshot.site, &window.request);
        let others = request.users.iter().filter(|u| **u != request.requested_by);
        let states = if request.plant_states.is_empty() {
            "any but emergency".to_owned()
        } else {
            joined(request.plant_states.iter().map(|s| s.as_str()))
        };
        Self {
            who: format!(
                "{}, {}",
                full_name(site, &request.requested_by),
                organisation(site, &request.requested_by)
            ),
            users: joined(others.map(|u| full_name(site, u))),
            places: assets(window).into_iter().map(|a| place(snapshot, window, a)).collect(),
            operations: request.operations.iter().map(|o| o.as_str()).collect(),
            from: frame.at(&request.start),
            until: frame.at(&request.end),
            long: length(request.start, request.end),
            shortened: frame.zone.maybe(window.shortened_to),
            purpose: request.purpose.clone(),
            work_order: request.work_order.clone(),
            states,
            limits: limits(window),
            extends: request.extends.map(|id| (id.to_string(), short(id))),
            digest: groups(&request.digest().to_string()),
        }
    }
}

/// How long from one moment to another.
pub(crate) fn length(start: Timestamp, end: Timestamp) -> String {
    cofferdam_access::local_time::time_left(start, end)
}

/// A moment as a field for local time takes it; with its offset where the clock shows that time twice, so that what is
/// read back is the same moment.
pub(crate) fn typed(zone: &SiteZone, at: Timestamp) -> String {
    let shown = zone.show(at);
    let (local, offset) = (shown.get(..16).unwrap_or_default().replacen(' ', "T", 1), shown.get(17..));
    let minute = Timestamp::from_seconds(at.seconds() - at.seconds().rem_euclid(60));
    if zone.parse(&local, at) == Ok(minute) { local } else { local + offset.unwrap_or_default() }
}

/// A digest in groups of eight.
pub(crate) fn groups(digest: &str) -> Vec<String> {
    digest.as_bytes().chunks(8).map(|c| String::from_utf8_lossy(c).into_owned()).collect()
}

fn place(snapshot: &Snapshot, window: &Window, name: &Name) -> Where {
    let site = &snapshot.site;
    let asset = site.asset(name);
    let logins: Vec<&str> =
        window.request.accounts.iter().filter(|a| &a.asset == name).map(|a| a.login.as_str()).collect();
    let accounts = match (logins.is_empty(), window.request.forwards.contains(name)) {
        (true, _) => "through forwards".to_owned(),
        (false, true) => format!("as {}, and through forwards", logins.join(", ")),
        (false, false) => format!("as {}", logins.join(", ")),
    };
    Where {
        asset: name.to_string(),
        title: asset.map(|a| a.title.clone()).unwrap_or_default(),
        accounts,
        zone: asset.map_or_else(
            || "no longer part of the site".to_owned(),
            |a| format!("{}, in {}", zone_title(site, &a.zone), snapshot.plant_state(&a.zone).as_str()),
        ),
        criticality: asset.map_or("medium", |a| criticality(a.criticality)),
        jewel: asset.is_some_and(|a| a.crown_jewel),
    }
}

fn limits(window: &Window) -> Vec<String> {
    let limits = &window.request.limits;
    let mut texts = Vec::new();
    if let Some(bytes) = limits.file_bytes {
        texts.push(format!("files: {bytes} bytes at most"));
    }
    if limits.read_only_files {
        texts.push("files may be read, not written".to_owned());
    }
    if !limits.paths.is_empty() {
        texts.push(format!("files only under {}", limits.paths.join(", ")));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_shown_in_groups_that_copy_as_one() {
        let digest = "0123456789abcdef".repeat(4);
        let groups = groups(&digest);
        assert_eq!(groups.len(), 8);
        assert_eq!(groups.concat(), digest);
    }

    #[test]
    fn a_moment_is_typed_so_that_it_is_read_back_as_itself() {
        let zone = SiteZone::new("Europe/Berlin").unwrap();
        let day = zone.parse("2026-11-25T22:05", Timestamp(0)).unwrap();
        assert_eq!(typed(&zone, day), "2026-11-25T22:05");
        for hour in ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"] {
            let at = zone.parse(hour, Timestamp(0)).unwrap();
            assert_eq!(typed(&zone, at), hour);
        }
    }

    #[test]
    fn windows_of_the_same_second_have_different_short_names() {
        let at = Timestamp::from_seconds(1);
        let one = short(WindowId::new(at, &mut rand::rng()));
        assert_eq!(one.len(), 8);
        assert_ne!(one, short(WindowId::new(at, &mut rand::rng())));
    }
}
