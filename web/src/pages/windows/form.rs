//! The form of a request: what may be asked for, what was typed, and what is wrong with it, field by field.

use std::collections::BTreeSet;

use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, WindowId},
    local_time::SiteZone,
    policy::reachable,
    site::{AccountRef, PlantState, Protocol},
    snapshot::Snapshot,
    window::{Limits, Operation, RequestError, Standing, Window, WindowRequest},
};
use serde::Deserialize;

use super::{
    act::{Asked, Step, among, plain},
    view,
};
use crate::{services::App, viewer::Viewer};

/// A machine that may be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    /// Its name.
    pub(crate) asset: Name,
    /// What people call it; may be empty.
    pub(crate) title: String,
    /// Its zone and the plant's state there.
    pub(crate) zone: String,
    /// How much harm it can do.
    pub(crate) criticality: &'static str,
    /// Whether it is a crown jewel.
    pub(crate) jewel: bool,
    /// Its accounts, as `login@asset` and as the login.
    pub(crate) accounts: Vec<(String, String)>,
    /// The protocols by which a conduit leads to it.
    pub(crate) protocols: BTreeSet<Protocol>,
}

/// What the viewer may ask for, from where they are now.
pub(crate) fn offered(app: &App, viewer: &Viewer) -> Vec<Offered> {
    let snapshot = app.snapshot();
    let mut found: Vec<Offered> = Vec::new();
    let mut entries = reachable(&snapshot, &viewer.user.name, viewer.address(), app.now());
    entries.sort_by(|a, b| (&a.asset, !a.default, &a.login).cmp(&(&b.asset, !b.default, &b.login)));
    for entry in entries {
        let account = AccountRef { asset: entry.asset.clone(), login: entry.login.clone() }.to_string();
        if found.last().is_none_or(|o| o.asset != entry.asset) {
            found.extend(machine(&snapshot, &entry.asset));
        }
        let Some(last) = found.last_mut().filter(|o| o.asset == entry.asset) else { continue };
        last.protocols.insert(entry.protocol);
        if !last.accounts.iter().any(|(known, _)| *known == account) {
            last.accounts.push((account, entry.login.to_string()));
        }
    }
    found
}

fn machine(snapshot: &Snapshot, name: &Name) -> Option<Offered> {
    let asset = snapshot.site.asset(name)?;
    Some(Offered {
        asset: name.clone(),
        title: asset.title.clone(),
        zone: format!(
            "{}, in {}",
            view::zone_title(&snapshot.site, &asset.zone),
            snapshot.plant_state(&asset.zone).as_str()
        ),
        criticality: view::criticality(asset.criticality),
        jewel: asset.crown_jewel,
        accounts: Vec::new(),
        protocols: BTreeSet::new(),
    })
}

/// What is kept of a session by that protocol.
pub(crate) const fn recorded(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ssh => "screen, keys typed, commands, files moved with their digests, forwards",
        Protocol::Rdp => "screen, keys and pointer, clipboard, files moved",
        Protocol::Modbus | Protocol::S7comm | Protocol::Enip | Protocol::Opcua => {
            "every request and answer through the tunnel"
        }
        Protocol::Tcp => "that it was used, when, and how many bytes went each way, with their digest",
    }
}

/// The form as typed. Sent on as it is, so that nothing typed is lost.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Typed {
    /// Accounts, `login@asset`.
    pub(crate) accounts: Vec<String>,
    /// Assets for forwards.
    pub(crate) forwards: Vec<String>,
    /// `view`, `operate`, `program`.
    pub(crate) operations: Vec<String>,
    /// Why.
    pub(crate) purpose: String,
    /// The work order's number.
    pub(crate) work_order: String,
    /// First moment, in the site's zone.
    pub(crate) start: String,
    /// End, in the site's zone.
    pub(crate) end: String,
    /// Plant states in which it shall hold; none: any but emergency.
    pub(crate) plant_states: Vec<String>,
    /// Most megabytes of files; empty for no limit.
    pub(crate) file_mb: String,
    /// Path patterns, one a line.
    pub(crate) paths: String,
    /// Files may be read only: `yes` or nothing.
    pub(crate) read_only: String,
    /// Back to the form: anything or nothing.
    pub(crate) change: String,
    /// The fresh factor. Not flattened: what can be repeated is not read well beside flattened fields.
    pub(crate) code: String,
    /// Which question the passkey answers.
    pub(crate) challenge: String,
    /// The passkey's answer.
    pub(crate) credential: String,
}

/// What is wrong, by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) Vec<(&'static str, String)>);

impl Wrong {
    fn say(&mut self, field: &'static str, text: impl ToString) {
        self.0.push((field, text.to_string()));
    }

    /// What is wrong with that field.
    pub(crate) fn at(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(f, _)| *f == field).map(|(_, text)| text.as_str())
    }

    fn of_request(&mut self, e: &RequestError, start: Timestamp, now: Timestamp) {
        let field = match e {
            RequestError::EndsBeforeStart { .. } | RequestError::TooLong { .. } => "end",
            RequestError::InThePast { .. } if start < now => "start",
            RequestError::InThePast { .. } => "end",
            RequestError::Text { field: "purpose", .. } => "purpose",
            RequestError::Text { field: "work order", .. } => "work_order",
            RequestError::Text { .. } | RequestError::TooMany { what: "path patterns", .. } => "paths",
            RequestError::Empty("operation") => "operations",
            _ => "accounts",
        };
        self.say(field, e);
    }
}

/// One megabyte as the form counts it, bytes.
const MB: u64 = 1_000_000;

impl Typed {
    /// Reads it: everything that is wrong at once, or what is asked for.
    pub(crate) fn read(
        &self,
        app: &App,
        viewer: &Viewer,
        zone: &SiteZone,
        offered: &[Offered],
    ) -> Result<Asked, Wrong> {
        let now = app.now();
        let mut wrong = Wrong::default();
        let accounts = self.accounts(offered, &mut wrong);
        let forwards = self.forwards(offered, &mut wrong);
        let operations = among(Operation::ALL, Operation::as_str, &self.operations).unwrap_or_default();
        if operations.is_empty() {
            wrong.say("operations", "choose what you will do: view, operate or program");
        }
        if self.purpose.trim().is_empty() {
            wrong.say("purpose", "say what you will do, in a sentence");
        }
        let start = zone.parse(&self.start, now).map_err(|e| wrong.say("start", e));
        let base = start.unwrap_or(now);
        let end = zone.parse(&self.end, base).map_err(|e| wrong.say("end", e));
        let plant_states = among(PlantState::ALL, PlantState::as_str, &self.plant_states);
        if plant_states.is_none() {
            wrong.say("plant_states", "choose among the plant states that are listed");
        }
        let limits = self.limits(&mut wrong);
        let (Ok(start), Ok(end)) = (start, end) else { return Err(wrong) };
        let request = WindowRequest {
            id: WindowId::new(now, &mut rand::rng()),
            requested_by: viewer.user.name.clone(),
            requested_at: now,
            users: BTreeSet::from([viewer.user.name.clone()]),
            accounts,
            forwards,
            operations,
            purpose: plain(&self.purpose),
            work_order: self.work_order.trim().to_owned(),
            start,
            end,
            plant_states: plant_states.unwrap_or_default(),
            limits,
            extends: None,
        };
        if wrong.0.is_empty()
            && let Err(e) = request.validate(&app.snapshot().site, now)
        {
            wrong.of_request(&e, start, now);
        }
        if wrong.0.is_empty() { Ok(Asked(request)) } else { Err(wrong) }
    }

    fn accounts(&self, offered: &[Offered], wrong: &mut Wrong) -> BTreeSet<AccountRef> {
        let known = |text: &str| offered.iter().flat_map(|o| &o.accounts).any(|(account, _)| account == text);
        if let Some(other) = self.accounts.iter().find(|a| !known(a)) {
            let shown: String = other.chars().take(80).collect();
            wrong.say(
                "accounts",
                format!("{shown:?} is not open to you from here: choose among those listed"),
            );
        } else if self.accounts.is_empty() {
            wrong.say("accounts", "choose at least one account");
        }
        self.accounts.iter().filter_map(|a| AccountRef::try_from(a.clone()).ok()).collect()
    }

    fn forwards(&self, offered: &[Offered], wrong: &mut Wrong) -> BTreeSet<Name> {
        let known = |text: &str| offered.iter().find(|o| o.asset.as_str() == text).map(|o| o.asset.clone());
        if self.forwards.iter().any(|f| known(f).is_none()) {
            wrong.say("forwards", "choose forwards among the machines that are listed");
        }
        self.forwards.iter().filter_map(|f| known(f)).collect()
    }

    fn limits(&self, wrong: &mut Wrong) -> Limits {
        let file_bytes = match self.file_mb.trim() {
            "" => None,
            text => match text.parse::<u64>().ok().and_then(|n| n.checked_mul(MB)) {
                Some(bytes) => Some(bytes),
                None => {
                    wrong.say("file_mb", "write whole megabytes, or leave it empty for no limit");
                    None
                }
            },
        };
        let paths = self.paths.lines().map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect();
        Limits { file_bytes, paths, read_only_files: !self.read_only.is_empty() }
    }

    /// What an earlier request said, to be asked for again; with the times that were suggested, or none.
    pub(crate) fn again(window: &Window, zone: &SiteZone) -> Self {
        let request = &window.request;
        let times = match &window.standing {
            Standing::Refused { suggested: Some(times), .. } => {
                (view::typed(zone, times.start), view::typed(zone, times.end))
            }
            _ => (String::new(), String::new()),
        };
        Self {
            accounts: request.accounts.iter().map(ToString::to_string).collect(),
            forwards: request.forwards.iter().map(ToString::to_string).collect(),
            operations: request.operations.iter().map(|o| o.as_str().to_owned()).collect(),
            purpose: request.purpose.clone(),
            work_order: request.work_order.clone(),
            start: times.0,
            end: times.1,
            plant_states: request.plant_states.iter().map(|s| s.as_str().to_owned()).collect(),
            file_mb: request.limits.file_bytes.map(|b| (b / MB).to_string()).unwrap_or_default(),
            paths: request.limits.paths.join("\n"),
            read_only: if request.limits.read_only_files { "yes".into() } else { String::new() },
            ..Self::default()
        }
    }

    /// The fresh factor that came with it.
    pub(crate) fn step(&self) -> Step {
        Step {
            code: self.code.clone(),
            challenge: self.challenge.clone(),
            credential: self.credential.clone(),
        }
    }

    /// The fields as they are sent on, one by one.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let many = |name, values: &[String]| {
            values.iter().map(|v| (name, v.clone())).collect::<Vec<(&'static str, String)>>()
        };
        let mut fields = many("accounts", &self.accounts);
        fields.extend(many("forwards", &self.forwards));
        fields.extend(many("operations", &self.operations));
        fields.extend(many("plant_states", &self.plant_states));
        for (name, value) in [
            ("purpose", &self.purpose),
            ("work_order", &self.work_order),
            ("start", &self.start),
            ("end", &self.end),
            ("file_mb", &self.file_mb),
            ("paths", &self.paths),
            ("read_only", &self.read_only),
        ] {
            fields.push((name, value.clone()));
        }
        fields
    }

    /// The kind of the field for that time: a browser's own for local time, unless what was typed does not fit into one
    /// (an offset, in the night when the clock changes).
    pub(crate) fn kind(&self, text: &str, wrong: bool) -> &'static str {
        let local = text.is_empty() || (text.len() == 16 && text.as_bytes().get(10) == Some(&b'T'));
        if local && !wrong { "datetime-local" } else { "text" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_with_an_offset_keeps_a_field_that_can_hold_it() {
        let typed = Typed::default();
        assert_eq!(typed.kind("2026-11-25T22:00", false), "datetime-local");
        assert_eq!(typed.kind("2026-10-25T02:30", true), "text");
        assert_eq!(typed.kind("2026-10-25T02:30+01:00", false), "text");
        assert_eq!(typed.kind("", false), "datetime-local");
    }

    #[test]
    fn every_field_is_sent_on() {
        let typed =
            Typed { accounts: vec!["a@b".into(), "c@d".into()], purpose: "why".into(), ..Typed::default() };
        let sent = serde_html_form::to_string(typed.fields()).unwrap();
        let back: Typed = serde_html_form::from_str(&sent).unwrap();
        assert_eq!(back.accounts, typed.accounts);
        assert_eq!(back.purpose, "why");
    }
}
