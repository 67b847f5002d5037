//! The site as it was: each applied plan stands in the audit log with every field before and after, so it can be undone on
//! paper.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ItemKind, items};
use crate::site::Site;

/// The site before the plan whose steps an audit entry holds; `steps` is the JSON of [`super::Plan::steps`]. None when
/// they do not lead to a site that can be read.
pub fn before(site: &Site, steps: &Value) -> Option<Site> {
    let mut now: BTreeMap<(ItemKind, String), Value> =
        items(site).ok()?.into_iter().map(|i| ((i.kind, i.name), i.body)).collect();
    for step in steps.as_array()? {
        let kind = ItemKind::parse(step.get("kind")?.as_str()?)?;
        let name = step.get("name")?.as_str()?.to_owned();
        let added = step.get("verb")?.as_str()? == "add";
        let mut body = match now.remove(&(kind, name.clone())) {
            Some(Value::Object(body)) => body,
            _ => Map::new(),
        };
        for change in step.get("fields")?.as_array()? {
            let field = change.get("field")?.as_str()?;
            match change.get("before") {
                None | Some(Value::Null) => body.remove(field),
                Some(value) => body.insert(field.to_owned(), value.clone()),
            };
        }
        if !added {
            now.insert((kind, name), Value::Object(body));
        }
    }
    assembled(now)
}

fn assembled(items: BTreeMap<(ItemKind, String), Value>) -> Option<Site> {
    let mut document = Map::new();
    for ((kind, _), body) in items {
        let list = match kind {
            ItemKind::Settings => {
                document.insert("settings".to_owned(), body);
                continue;
            }
            ItemKind::Organisation => "organisations",
            ItemKind::User => "users",
            ItemKind::Zone => "zones",
            ItemKind::Conduit => "conduits",
            ItemKind::Asset => "assets",
            ItemKind::Account => "accounts",
            ItemKind::Policy => "policies",
        };
        if let Value::Array(list) = document.entry(list).or_insert_with(|| Value::Array(Vec::new())) {
            list.push(body);
        }
    }
    serde_json::from_value(Value::Object(document)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply::Proposal, fixture};

    #[test]
    fn a_plan_undone_gives_the_site_before_it() {
        let old = fixture::site();
        let mut new = old.clone();
        new.users.retain(|u| u.name != old.users[0].name);
        new.assets[0].title = "renamed".into();
        new.zones.push(crate::site::Zone {
            name: "added".parse().unwrap(),
            title: String::new(),
            networks: vec![],
            critical: true,
            recording_days: Some(3),
        });
        let proposal = Proposal::new(&old, new.clone()).unwrap();
        let steps = serde_json::to_value(&proposal.plan().steps).unwrap();
        let undone = before(&new, &steps).unwrap();
        assert!(Proposal::new(&undone, old).unwrap().plan().is_empty());
    }
}
