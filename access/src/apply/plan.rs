//! What has to change to get from one site to another, down to fields.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use super::check::CheckedSite;
use crate::site::Site;

/// The kinds of item that make up a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the kind's own name")]
pub enum ItemKind {
    Settings,
    Organisation,
    User,
    Zone,
    Conduit,
    Asset,
    Account,
    Policy,
}

impl ItemKind {
    /// As written in plans and kept in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Organisation => "organisation",
            Self::User => "user",
            Self::Zone => "zone",
            Self::Conduit => "conduit",
            Self::Asset => "asset",
            Self::Account => "account",
            Self::Policy => "policy",
        }
    }

    pub(crate) fn parse(s: &str) -> Option<Self> {
        [
            Self::Settings,
            Self::Organisation,
            Self::User,
            Self::Zone,
            Self::Conduit,
            Self::Asset,
            Self::Account,
            Self::Policy,
        ]
        .into_iter()
        .find(|k| k.as_str() == s)
    }

    /// Fields whose change never ends a live session. Any other may: a false alarm is better than a surprise.
    const fn harmless(self) -> &'static [&'static str] {
        match self {
            Self::Settings => &[
                "longest_window_seconds",
                "keep_full_bytes",
                "environment",
                "time_zone",
                "recording_days",
                "crown_jewel_recording_days",
            ],
            Self::Organisation => &["title"],
            Self::User => &["full_name", "email"],
            Self::Zone => &["title", "critical", "recording_days"],
            Self::Conduit => &[],
            Self::Asset => &["title", "keep_full_bytes", "dangerous_ssh_algorithms", "supervised"],
            Self::Account => &["default", "rotation"],
            Self::Policy => &[],
        }
    }
}

/// One item of a site: the key it is known by, and its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    pub(crate) name: String,
    pub(crate) body: Value,
}

/// A site as items. Documents leave out what is at its default, so equal sites give equal documents.
pub(crate) fn items(site: &Site) -> Result<Vec<Item>, serde_json::Error> {
    fn all<'a, T: Serialize + 'a>(
        out: &mut Vec<Item>,
        kind: ItemKind,
        list: impl IntoIterator<Item = &'a T>,
        name: impl Fn(&T) -> String,
    ) -> Result<(), serde_json::Error> {
        for item in list {
            out.push(Item { kind, name: name(item), body: serde_json::to_value(item)? });
        }
        Ok(())
    }
    let mut out = Vec::new();
    all(&mut out, ItemKind::Settings, [&site.settings], |_| "site".to_owned())?;
    all(&mut out, ItemKind::Organisation, &site.organisations, |o| o.name.to_string())?;
    all(&mut out, ItemKind::User, &site.users, |u| u.name.to_string())?;
    all(&mut out, ItemKind::Zone, &site.zones, |z| z.name.to_string())?;
    all(&mut out, ItemKind::Conduit, &site.conduits, |c| c.name.to_string())?;
    all(&mut out, ItemKind::Asset, &site.assets, |a| a.name.to_string())?;
    all(&mut out, ItemKind::Account, &site.accounts, |a| format!("{}@{}", a.login, a.asset))?;
    all(&mut out, ItemKind::Policy, &site.policies, |p| p.name.to_string())?;
    Ok(out)
}

/// What happens to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It goes.
    Remove,
}

/// One field that changes. Absent: not there, which means its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The field's name in the site file.
    pub field: String,
    /// Its value before.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Option<Value>,
}

/// One item that is added, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStep {
    /// What happens.
    pub verb: Verb,
    /// To what kind of item.
    pub kind: ItemKind,
    /// Its name.
    pub name: String,
    /// The fields that change; for an added or removed item, all it has.
    pub fields: Vec<FieldChange>,
    /// Live sessions may end by it.
    pub may_cut_sessions: bool,
}

/// The way from the site as it is to the site as described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Plan {
    /// The steps, by kind and name.
    pub steps: Vec<PlanStep>,
}

impl Plan {
    /// Compares the site as it is with the site as wanted. The order of items does not matter.
    pub fn between(current: &Site, wanted: &CheckedSite) -> Result<Self, serde_json::Error> {
        Ok(Self::of_items(items(current)?, items(wanted.site())?))
    }

    pub(crate) fn of_items(current: Vec<Item>, wanted: Vec<Item>) -> Self {
        let by_key = |items: Vec<Item>| -> BTreeMap<(ItemKind, String), Value> {
            items.into_iter().map(|i| ((i.kind, i.name), i.body)).collect()
        };
        let (mut before, after) = (by_key(current), by_key(wanted));
        let mut steps = Vec::new();
        for ((kind, name), new) in after {
            match before.remove(&(kind, name.clone())) {
                None => steps.push(PlanStep::new(Verb::Add, kind, name, None, Some(&new))),
                Some(old) if old != new => {
                    steps.push(PlanStep::new(Verb::Change, kind, name, Some(&old), Some(&new)));
                }
                Some(_) => {}
            }
        }
        for ((kind, name), old) in before {
            steps.push(PlanStep::new(Verb::Remove, kind, name, Some(&old), None));
        }
        steps.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Self { steps }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether live sessions may end by it.
    pub fn may_cut_sessions(&self) -> bool {
        self.steps.iter().any(|s| s.may_cut_sessions)
    }
}

impl PlanStep {
    fn new(verb: Verb, kind: ItemKind, name: String, before: Option<&Value>, after: Option<&Value>) -> Self {
        let fields = field_changes(before, after);
        let harmful = |f: &FieldChange| {
            let enabled_again = f.field == "disabled" && f.after.is_none();
            !enabled_again && !kind.harmless().contains(&f.field.as_str())
        };
        let may_cut_sessions = match verb {
            // Something new takes nothing away; only a policy can forbid, and a zone can claim addresses.
            Verb::Add => matches!(kind, ItemKind::Policy | ItemKind::Zone),
            Verb::Change => fields.iter().any(harmful),
            Verb::Remove => true,
        };
        Self { verb, kind, name, fields, may_cut_sessions }
    }
}

fn field_changes(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let fields = |v: Option<&Value>| v.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, mut after) = (fields(before), fields(after));
    let mut out = Vec::new();
    for (field, old) in before {
        match after.remove(&field) {
            Some(new) if new == old => {}
            new => out.push(FieldChange { field, before: Some(old), after: new }),
        }
    }
    out.extend(after.into_iter().map(|(field, new)| FieldChange { field, before: None, after: Some(new) }));
    out.sort_by(|a, b| a.field.cmp(&b.field));
    out
}

impl fmt::Display for Plan {
    /// For people: one line an item, one a changed field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let mark = match step.verb {
                Verb::Add => '+',
                Verb::Change => '~',
                Verb::Remove => '-',
            };
            let cut = if step.may_cut_sessions { "  (may end live sessions)" } else { "" };
            writeln!(f, "{mark} {} {}{cut}", step.kind.as_str(), step.name)?;
            if step.verb == Verb::Change {
                for change in &step.fields {
                    let (before, after) = change.shown();
                    writeln!(f, "    {}: {before} -> {after}", change.field)?;
                }
            }
        }
        Ok(())
    }
}

impl FieldChange {
    /// Before and after for people, each bounded and on one line.
    pub fn shown(&self) -> (String, String) {
        (shown(self.before.as_ref()), shown(self.after.as_ref()))
    }
}

impl Verb {
    /// As written in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// A value for people: bounded, on one line.
fn shown(value: Option<&Value>) -> String {
    const MAX: usize = 160;
    let Some(value) = value else { return "(default)".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= MAX {
        return text;
    }
    let start: String = text.chars().take(MAX).collect();
    format!("{start}… ({} bytes)", text.len())
}
