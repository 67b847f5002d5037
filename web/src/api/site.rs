//! The described site: its parts, changes of it, the plant's state, and questions to its policies.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Path, State},
};
use cofferdam_access::{
    apply::{Edit, PlanStep, Proposal},
    decision::DecisionRecord,
    site::{PlantState, Site},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{OpenApi, ToSchema};

use super::body::{Body, Code, Query, Reply};
use crate::{
    admin::{
        change, plant,
        policies::{self, Asked},
    },
    error::Failure,
    routes::{ADMINISTRATORS, PROCESS, Routes, SITE_READERS},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/site", ADMINISTRATORS, "read", site)
        .api_post("/api/v1/site/plan", ADMINISTRATORS, "administer", plan)
        .api_post("/api/v1/site/apply", ADMINISTRATORS, "administer", apply)
        .api_get("/api/v1/zones", SITE_READERS, "read", zones)
        .api_get("/api/v1/conduits", SITE_READERS, "read", conduits)
        .api_get("/api/v1/assets", SITE_READERS, "read", assets)
        .api_get("/api/v1/accounts", SITE_READERS, "read", accounts)
        .api_get("/api/v1/plant-state", SITE_READERS, "read", plant_states)
        .api_post("/api/v1/plant-state/{zone}", PROCESS, "administer", set_plant_state)
        .api_get("/api/v1/policies", SITE_READERS, "read", policy_list)
        .api_get("/api/v1/policies/what-if", SITE_READERS, "read", what_if)
}

#[derive(OpenApi)]
#[openapi(paths(
    site,
    plan,
    apply,
    zones,
    conduits,
    assets,
    accounts,
    plant_states,
    set_plant_state,
    policy_list,
    what_if
))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The whole site, as a site file holds it.
#[utoipa::path(get, path = "/api/v1/site", tag = "site", responses((status = 200, body = Value)))]
async fn site(State(app): State<App>) -> Reply<Site> {
    Ok(Json(app.store.site().await?))
}

/// A change of the site: `site` (the whole), `user`, `remove_user`, `disable`, `enable`, `organisation`,
/// `remove_organisation`, or `supervision` (`{"asset": "pump-hmi", "on": true}`: its sessions need somebody who watches).
#[derive(Deserialize, ToSchema)]
struct Wanted {
    #[schema(value_type = Value, example = json!({"disable": "vera"}))]
    edit: Edit,
}

/// What a change comes to.
#[derive(Serialize, ToSchema)]
struct Plan {
    /// What to send with `apply`.
    digest: String,
    /// Live sessions may end by it.
    may_cut_sessions: bool,
    /// Why the asker cannot do this.
    refusal: Option<String>,
    #[schema(value_type = Vec<Value>)]
    steps: Vec<PlanStep>,
}

fn shown(viewer: &Viewer, proposal: &Proposal) -> Plan {
    Plan {
        digest: proposal.digest(),
        may_cut_sessions: proposal.plan().may_cut_sessions(),
        refusal: proposal.refusal_for(&viewer.user.name),
        steps: proposal.plan().steps.clone(),
    }
}

/// Says what a change would come to. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/site/plan", tag = "site", request_body = Wanted,
    responses((status = 200, body = Plan), (status = 422)))]
async fn plan(State(app): State<App>, viewer: Viewer, Body(wanted): Body<Wanted>) -> Reply<Plan> {
    let proposal = change::propose(&app, wanted.edit).await?;
    Ok(Json(shown(&viewer, &proposal)))
}

/// A change that was shown, with a fresh code.
#[derive(Deserialize, ToSchema)]
struct Agreed {
    #[schema(value_type = Value)]
    edit: Edit,
    /// Of the plan that was shown.
    digest: String,
    #[serde(flatten)]
    code: Code,
}

/// Makes exactly the change that was shown.
#[utoipa::path(post, path = "/api/v1/site/apply", tag = "site", request_body = Agreed,
    responses((status = 200, body = Plan), (status = 403), (status = 409), (status = 422)))]
async fn apply(State(app): State<App>, viewer: Viewer, Body(agreed): Body<Agreed>) -> Reply<Plan> {
    let done = change::carry_out(&app, &viewer, agreed.edit, &agreed.digest, agreed.code.proof()).await?;
    Ok(Json(shown(&viewer, &done)))
}

/// Items of the site as the site file writes them, each with an `id`.
fn with_id<T: Serialize>(items: impl IntoIterator<Item = (String, T)>) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    for (id, item) in items {
        let mut value = serde_json::to_value(item).map_err(|e| Failure::internal("site", e))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("id".to_owned(), id.into());
        }
        all.push(value);
    }
    Ok(all)
}

/// Zones, with the plant's state.
#[utoipa::path(get, path = "/api/v1/zones", tag = "site", responses((status = 200, body = [Value])))]
async fn zones(State(app): State<App>) -> Reply<Vec<Value>> {
    let snapshot = app.snapshot();
    let mut all = with_id(snapshot.site.zones.iter().map(|z| (z.name.to_string(), z)))?;
    for (value, zone) in all.iter_mut().zip(&snapshot.site.zones) {
        if let Some(object) = value.as_object_mut() {
            object.insert("state".to_owned(), snapshot.plant_state(&zone.name).as_str().into());
        }
    }
    Ok(Json(all))
}

/// Conduits.
#[utoipa::path(get, path = "/api/v1/conduits", tag = "site", responses((status = 200, body = [Value])))]
async fn conduits(State(app): State<App>) -> Reply<Vec<Value>> {
    Ok(Json(with_id(app.snapshot().site.conduits.iter().map(|c| (c.name.to_string(), c)))?))
}

/// Assets.
#[utoipa::path(get, path = "/api/v1/assets", tag = "site", responses((status = 200, body = [Value])))]
async fn assets(State(app): State<App>) -> Reply<Vec<Value>> {
    Ok(Json(with_id(app.snapshot().site.assets.iter().map(|a| (a.name.to_string(), a)))?))
}

/// Accounts, and whether the vault has their secret. Never the secret.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "site", responses((status = 200, body = [Value])))]
async fn accounts(State(app): State<App>) -> Reply<Vec<Value>> {
    let kept: BTreeSet<_> = app.store.secrets().await?.into_iter().map(|(account, ..)| account).collect();
    let snapshot = app.snapshot();
    let mut all = with_id(snapshot.site.accounts.iter().map(|a| (a.reference().to_string(), a)))?;
    for (value, account) in all.iter_mut().zip(&snapshot.site.accounts) {
        if let Some(object) = value.as_object_mut() {
            object.insert("needs_secret".to_owned(), account.needs_secret().into());
            object.insert("has_secret".to_owned(), kept.contains(&account.reference()).into());
        }
    }
    Ok(Json(all))
}

/// The state of a zone.
#[derive(Serialize, ToSchema)]
struct ZoneState {
    /// The zone.
    id: String,
    state: &'static str,
    /// RFC 3339, UTC; none: it was never set.
    since: Option<String>,
    by: String,
    reason: String,
}

/// The plant's state, per zone.
#[utoipa::path(get, path = "/api/v1/plant-state", tag = "site", responses((status = 200, body = [ZoneState])))]
async fn plant_states(State(app): State<App>) -> Reply<Vec<ZoneState>> {
    let set = app.store.plant_states().await?;
    let snapshot = app.snapshot();
    let state = |zone: &cofferdam_access::site::Zone| {
        let record = set.iter().find(|r| r.zone == zone.name);
        ZoneState {
            id: zone.name.to_string(),
            state: record.map_or(PlantState::default(), |r| r.state).as_str(),
            since: record.map(|r| r.since.to_string()),
            by: record.map(|r| r.by.clone()).unwrap_or_default(),
            reason: record.map(|r| r.reason.clone()).unwrap_or_default(),
        }
    };
    Ok(Json(snapshot.site.zones.iter().map(state).collect()))
}

/// The state that a zone is to be in.
#[derive(Deserialize, ToSchema)]
struct SetState {
    /// `production`, `maintenance`, `shutdown` or `emergency`.
    state: String,
    reason: String,
    #[serde(flatten)]
    code: Code,
}

/// Sets the state of a zone; sessions that it does not allow are cut.
#[utoipa::path(post, path = "/api/v1/plant-state/{zone}", tag = "site", params(("zone" = String, Path)),
    request_body = SetState, responses((status = 200, body = Value), (status = 403), (status = 404)))]
async fn set_plant_state(
    State(app): State<App>,
    viewer: Viewer,
    Path(zone): Path<String>,
    Body(asked): Body<SetState>,
) -> Reply<Value> {
    let wanted = plant::Wanted::read(&app, &zone, &asked.state, &asked.reason)?;
    plant::set(&app, &viewer, &wanted, asked.code.proof()).await?;
    Ok(Json(json!({"id": wanted.zone, "state": wanted.state.as_str()})))
}

/// A policy in force.
#[derive(Serialize, ToSchema)]
struct Policy {
    id: String,
    /// It came with the program.
    shipped: bool,
    /// `permit` or `forbid`.
    effect: &'static str,
    reason: Option<String>,
    text: String,
    /// Digest of the whole set.
    set: String,
}

/// The policies in force.
#[utoipa::path(get, path = "/api/v1/policies", tag = "site", responses((status = 200, body = [Policy])))]
async fn policy_list(State(app): State<App>) -> Reply<Vec<Policy>> {
    let snapshot = app.snapshot();
    let one = |p: cofferdam_access::policy::PolicyText| Policy {
        id: p.id,
        shipped: p.shipped,
        effect: if p.forbids { "forbid" } else { "permit" },
        reason: p.reason,
        text: p.text,
        set: snapshot.policies.digest().to_owned(),
    };
    Ok(Json(snapshot.policies.texts().into_iter().map(one).collect()))
}

/// Asks what policy would decide. Nothing is opened.
#[utoipa::path(get, path = "/api/v1/policies/what-if", tag = "site", params(Asked),
    responses((status = 200, body = Value), (status = 422)))]
async fn what_if(State(app): State<App>, Query(asked): Query<Asked>) -> Reply<DecisionRecord> {
    let question = policies::read(&app, &asked)?;
    Ok(Json(policies::answer(&app, &question)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Site as Plant, name};

    async fn planned(site: &Plant, token: &str, edit: &Value) -> Value {
        let plan = site.api_post(token, "/api/v1/site/plan", &json!({"edit": edit})).await;
        assert_eq!(plan.status, 200, "{}", plan.text);
        plan.json()
    }

    #[tokio::test]
    async fn a_person_is_disabled_by_the_plan_that_was_shown_and_a_fresh_code() {
        let site = Plant::new().await;
        let token = site.token("ada", &["administer"]).await;
        let edit = json!({"disable": "vera"});
        let plan = planned(&site, &token, &edit).await;
        let body = json!({"edit": edit, "digest": plan["digest"]});
        assert_eq!(site.api_post(&token, "/api/v1/site/apply", &body).await.status, 403, "without a code");
        let body = json!({"edit": edit, "digest": plan["digest"], "code": site.code("ada")});
        let done = site.api_post(&token, "/api/v1/site/apply", &body).await;
        assert_eq!(done.status, 200, "{}", done.text);
        assert!(site.store().site().await.unwrap().user(&name("vera")).unwrap().disabled);
    }

    #[tokio::test]
    async fn an_asset_is_marked_as_supervised_by_the_plan_that_was_shown() {
        let site = Plant::new().await;
        let token = site.token("ada", &["administer", "read"]).await;
        let edit = json!({"supervision": {"asset": "pump-hmi", "on": true}});
        let plan = planned(&site, &token, &edit).await;
        assert_eq!(plan["may_cut_sessions"], false, "open sessions stay as they are");
        let body = json!({"edit": edit, "digest": plan["digest"], "code": site.code("ada")});
        let done = site.api_post(&token, "/api/v1/site/apply", &body).await;
        assert_eq!(done.status, 200, "{}", done.text);
        let all = site.api_get(&token, "/api/v1/assets").await.json();
        let pump = all.as_array().unwrap().iter().find(|a| a["id"] == "pump-hmi").unwrap();
        assert_eq!(pump["supervised"], true);
        let unknown = json!({"edit": {"supervision": {"asset": "none", "on": true}}});
        assert_eq!(site.api_post(&token, "/api/v1/site/plan", &unknown).await.status, 422);
    }

    #[tokio::test]
    async fn an_administrator_gives_themselves_no_duty_not_even_by_a_whole_site() {
        let site = Plant::new().await;
        let token = site.token("ada", &["administer"]).await;
        let mut wanted = serde_json::to_value(site.store().site().await.unwrap()).unwrap();
        for user in wanted["users"].as_array_mut().unwrap() {
            if user["name"] == "ada" {
                user["duties"] = json!(["administrator", "security"]);
            }
        }
        let edit = json!({"site": wanted});
        let plan = planned(&site, &token, &edit).await;
        assert!(plan["refusal"].as_str().unwrap().contains("own duties"));
        let body = json!({"edit": edit, "digest": plan["digest"], "code": site.code("ada")});
        let refused = site.api_post(&token, "/api/v1/site/apply", &body).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert_eq!(site.store().site().await.unwrap().user(&name("ada")).unwrap().duties.len(), 1);
    }

    #[tokio::test]
    async fn what_changed_meanwhile_is_not_overwritten() {
        let site = Plant::new().await;
        let token = site.token("ada", &["administer"]).await;
        let edit = json!({"site": site.store().site().await.unwrap()});
        let plan = planned(&site, &token, &edit).await;
        site.disable("emil").await;
        let body = json!({"edit": edit, "digest": plan["digest"], "code": site.code("ada")});
        let refused = site.api_post(&token, "/api/v1/site/apply", &body).await;
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert!(site.store().site().await.unwrap().user(&name("emil")).unwrap().disabled);
    }

    #[tokio::test]
    async fn a_site_that_makes_no_sense_is_told_with_all_its_faults() {
        let site = Plant::new().await;
        let token = site.token("ada", &["administer"]).await;
        let mut wanted = serde_json::to_value(site.store().site().await.unwrap()).unwrap();
        wanted["zones"] = json!([]);
        let refused = site.api_post(&token, "/api/v1/site/plan", &json!({"edit": {"site": wanted}})).await;
        assert_eq!(refused.status, 422);
        assert!(refused.text.contains("plc-7") && refused.text.contains("pump-hmi"), "{}", refused.text);
    }

    #[tokio::test]
    async fn accounts_say_whether_they_have_a_secret_and_never_what_it_is() {
        let site = Plant::new().await;
        let account = crate::testing::account("operator@pump-hmi");
        site.store().set_secret(&site.act("ada"), &account, b"sealed-hunter2").await.unwrap();
        let token = site.token("sam", &["read"]).await;
        let all = site.api_get(&token, "/api/v1/accounts").await;
        let kept = all.json().as_array().unwrap().iter().find(|a| a["id"] == "operator@pump-hmi").cloned();
        assert_eq!(kept.unwrap()["has_secret"], true);
        assert!(!all.text.contains("hunter2"));
    }

    #[tokio::test]
    async fn operations_sets_the_plants_state_and_nobody_else_does() {
        let site = Plant::new().await;
        let path = "/api/v1/plant-state/cell-1";
        let body = |code: String| json!({"state": "maintenance", "reason": "service", "code": code});
        let ada = site.token("ada", &["administer"]).await;
        assert_eq!(site.api_post(&ada, path, &body(site.code("ada"))).await.status, 403);
        let olga = site.token("olga", &["administer"]).await;
        assert_eq!(site.api_post(&olga, path, &body(String::new())).await.status, 403);
        let done = site.api_post(&olga, path, &body(site.code("olga"))).await;
        assert_eq!(done.status, 200, "{}", done.text);
        let all = site.api_get(&site.token("sam", &["read"]).await, "/api/v1/plant-state").await;
        assert!(all.text.contains("maintenance"));
    }

    #[tokio::test]
    async fn what_if_answers_with_the_five_answers() {
        let site = Plant::new().await;
        let token = site.token("sam", &["read"]).await;
        let path = "/api/v1/policies/what-if?user=vera&asset=pump-hmi&source=127.0.0.1";
        let answer = site.api_get(&token, path).await.json();
        assert_eq!(answer["outcome"], "needs_window");
        assert_eq!(answer["who"]["user"], "vera");
    }
}
