//! One question in Cedar's terms: only the entities that it needs, checked against the schema.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};

use super::{
    compiled::Vocabulary,
    facts::{Act, Question},
};
use crate::{
    local_time::SiteZone,
    people::OrganisationKind,
    site::{AccountRef, Criticality},
    window::Operation,
};

/// Cedar's refusal of what was built: never expected, always a refusal.
pub(crate) type BuildError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn build(
    q: &Question<'_>,
    words: &Vocabulary,
    zone: &SiteZone,
) -> Result<(Request, Entities), BuildError> {
    let action = words.actions.get(q.act.action()).ok_or("the action is not in the schema")?.clone();
    let user = uid(&words.user, q.person.user.name.as_str());
    let asset = uid(&words.asset, q.thing.asset.name.as_str());
    let mut entities = person(q, words, &user)?;
    let (asset_entities, resource) = resource(q, words, asset)?;
    entities.extend(asset_entities);
    let entities = Entities::from_entities(entities, Some(&words.schema))?;
    let context = context(q, zone)?;
    Ok((Request::new(user, action, resource, context, Some(&words.schema))?, entities))
}

fn person(q: &Question<'_>, words: &Vocabulary, user: &EntityUid) -> Result<Vec<Entity>, BuildError> {
    let p = &q.person;
    let organisation = uid(&words.organisation, p.user.organisation.as_str());
    let kind = p.organisation.map_or(OrganisationKind::Vendor, |o| o.kind);
    let duties: Vec<EntityUid> = p.user.duties.iter().map(|d| uid(&words.duty, d.as_str())).collect();
    let mut parents: HashSet<EntityUid> = duties.iter().cloned().collect();
    parents.insert(organisation.clone());
    let mut all: Vec<Entity> = duties.into_iter().map(|d| Entity::new_no_attrs(d, HashSet::new())).collect();
    let kind_text = match kind {
        OrganisationKind::Plant => "plant",
        OrganisationKind::Vendor => "vendor",
    };
    all.push(Entity::new(organisation, attributes([("kind", text(kind_text))]), HashSet::new())?);
    let own = attributes([
        ("name", text(p.user.name.as_str())),
        ("active", Value::new_bool(p.active)),
        ("outside", Value::new_bool(kind == OrganisationKind::Vendor)),
    ]);
    all.push(Entity::new(user.clone(), own, parents)?);
    Ok(all)
}

fn resource(
    q: &Question<'_>,
    words: &Vocabulary,
    asset: EntityUid,
) -> Result<(Vec<Entity>, EntityUid), BuildError> {
    let t = &q.thing;
    let zone = uid(&words.zone, t.asset.zone.as_str());
    let zone_attributes =
        attributes([("critical", Value::new_bool(t.critical_zone)), ("state", text(t.plant.as_str()))]);
    let mut all = vec![Entity::new(zone.clone(), zone_attributes, HashSet::new())?];
    let criticality = match t.asset.criticality {
        Criticality::Low => "low",
        Criticality::Medium => "medium",
        Criticality::High => "high",
    };
    let asset_attributes = attributes([
        ("name", text(t.asset.name.as_str())),
        ("enabled", Value::new_bool(!t.asset.disabled)),
        ("criticality", text(criticality)),
        ("crown_jewel", Value::new_bool(t.asset.crown_jewel)),
    ]);
    all.push(Entity::new(asset.clone(), asset_attributes, HashSet::from([zone]))?);
    let account = match (q.act, t.account) {
        (Act::Forward { .. }, _) => return Ok((all, asset)),
        (_, Some(account)) => account,
        (_, None) => return Err("there is no account to use".into()),
    };
    let reference = AccountRef { asset: t.asset.name.clone(), login: account.login.clone() };
    let account_uid = uid(&words.account, &reference.to_string());
    let account_attributes = attributes([
        ("login", text(account.login.as_str())),
        ("enabled", Value::new_bool(t.enabled())),
        ("criticality", text(criticality)),
        ("crown_jewel", Value::new_bool(t.asset.crown_jewel)),
        ("credential", text(super::reasons::credential(account.credential))),
        ("exclusive", Value::new_bool(account.exclusive)),
        ("checkout", Value::new_bool(account.checkout)),
    ]);
    all.push(Entity::new(account_uid.clone(), account_attributes, HashSet::from([asset]))?);
    Ok((all, account_uid))
}

fn context(q: &Question<'_>, zone: &SiteZone) -> Result<Context, BuildError> {
    let (hour, weekday) = zone.hour_and_weekday(q.now);
    let (command, bytes, port) = match q.act {
        Act::Exec { command } => (command, 0, 0),
        Act::FileWrite { size, .. } => ("", size, 0),
        Act::Forward { port } => ("", 0, port),
        _ => ("", 0, 0),
    };
    let (protocol, agreed, minutes) = match q.act {
        Act::ViewSecret { agreed, seconds } => ("", agreed, seconds.saturating_add(59).div_euclid(60)),
        _ => (q.thing.protocol.as_str(), 0, 0),
    };
    let conduit = record([
        ("exists", Value::new_bool(q.thing.path.conduit.is_some())),
        ("uploads", Value::new_bool(q.thing.path.uploads)),
        ("downloads", Value::new_bool(q.thing.path.downloads)),
    ])?;
    let factor = record([
        ("present", Value::new_bool(q.factor.present)),
        ("fresh", Value::new_bool(q.factor.fresh)),
        ("kind", text(q.person.factors.second.as_ref().map_or("", |s| s.kind.as_str()))),
        ("age_seconds", Value::new_long(q.factor.age_seconds)),
    ])?;
    let observed = record([
        ("new_source", Value::new_bool(q.person.observed.new_source)),
        ("elsewhere", Value::new_bool(q.person.observed.elsewhere)),
        ("recent_refusals", Value::new_long(q.person.observed.recent_refusals.into())),
    ])?;
    let pairs = [
        ("now", Value::new_datetime(q.now.to_string())),
        ("local_hour", Value::new_long(hour)),
        ("local_weekday", Value::new_long(weekday)),
        ("protocol", text(protocol)),
        ("plant_state", text(q.thing.plant.as_str())),
        ("window", window(q)?),
        ("device", device(q)?),
        ("second_factor", factor),
        ("conduit", conduit),
        ("observed", observed),
        ("command", text(command)),
        ("path", text(q.act.path().unwrap_or(""))),
        ("bytes", Value::new_long(i64::try_from(bytes).unwrap_or(i64::MAX))),
        ("port", Value::new_long(port.into())),
        ("agreed", Value::new_long(i64::try_from(agreed).unwrap_or(0))),
        ("view_minutes", Value::new_long(minutes)),
    ];
    Ok(Context::from_pairs(pairs.map(|(k, v)| (k.to_owned(), v)))?)
}

fn window(q: &Question<'_>) -> Result<Value, BuildError> {
    let s = &q.scope;
    let limits = s.window.map(|w| &w.request.limits);
    let operations = Operation::ALL.into_iter().filter(|o| s.allows(*o)).map(|o| text(o.as_str()));
    let path_allowed = match (q.act.path(), limits) {
        (Some(path), Some(limits)) => super::channel::path_is_listed(path, &limits.paths),
        _ => true,
    };
    let size_allowed = match (q.act, limits.and_then(|l| l.file_bytes)) {
        (Act::FileWrite { size, .. }, Some(most)) => size <= most,
        _ => true,
    };
    record([
        ("open", Value::new_bool(s.open)),
        ("covers", Value::new_bool(s.covers)),
        ("state_allowed", Value::new_bool(s.state_allowed)),
        ("operations", Value::new_set(operations)),
        ("read_only_files", Value::new_bool(limits.is_some_and(|l| l.read_only_files))),
        ("path_allowed", Value::new_bool(path_allowed)),
        ("size_allowed", Value::new_bool(size_allowed)),
        ("seconds_left", Value::new_long(if s.open { s.end.since(q.now).div_euclid(1_000_000) } else { 0 })),
        ("work_order", text(s.window.map_or("", |w| &w.request.work_order))),
    ])
}

fn device(q: &Question<'_>) -> Result<Value, BuildError> {
    let p = &q.person;
    record([
        ("kind", text(p.device.kind.as_str())),
        ("key", text(p.device.key_fingerprint.as_deref().unwrap_or(""))),
        ("user_verified", Value::new_bool(p.device.user_verified)),
        ("client", text(&p.device.client_version)),
        ("source", Value::new_ip(p.source.to_canonical().to_string())),
        ("zone", text(p.zone.map_or("", |z| z.as_str()))),
    ])
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(s: &str) -> Value {
    Value::new_string(s.to_owned())
}

fn attributes<const N: usize>(pairs: [(&str, Value); N]) -> HashMap<String, Value> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn record<const N: usize>(pairs: [(&str, Value); N]) -> Result<Value, BuildError> {
    Ok(Value::new_record(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)))?)
}
