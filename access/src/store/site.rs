//! The described site, and the one view that decisions are made from.

use serde_json::Value;

use super::{
    Store,
    change::Change,
    db::{DbTx, Row, args},
    error::StoreError,
    people::delete_credentials,
    plant, windows,
};
use crate::{
    apply::{CheckedSite, Item, ItemKind, Plan, Verb, items},
    audit::{Act, AuditEvent, AuditKind, Checkpoint},
    clock::Timestamp,
    ids::Name,
    site::{PlantStates, Site},
    window::Window,
};

/// All that a decision depends on besides the request, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyView {
    /// The revision it was read at.
    pub revision: u64,
    /// The site.
    pub site: Site,
    /// Plant state per zone.
    pub plant_states: PlantStates,
    /// Windows whose requested end is still to come, whatever their standing.
    pub windows: Vec<Window>,
}

/// What applying a plan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The site was as wanted already; nothing was written.
    Nothing,
    /// It is now.
    Done(Checkpoint),
}

impl Store {
    /// The site as it is, items by name.
    pub async fn site(&self) -> Result<Site, StoreError> {
        let rows = self.0.pools.rows(ALL, vec![]).await?;
        assemble(&rows)
    }

    /// Site, plant state and windows as of one moment.
    pub async fn policy_view(&self, now: Timestamp) -> Result<PolicyView, StoreError> {
        let mut tx = self.0.pools.begin_read().await?;
        let view = read_view(&mut tx, now).await?;
        tx.rollback().await?;
        Ok(view)
    }

    /// What has to change to get to `wanted`.
    pub async fn plan_site(&self, wanted: &CheckedSite) -> Result<Plan, StoreError> {
        Plan::between(&self.site().await?, wanted).map_err(|e| StoreError::damaged("site", e))
    }

    /// Carries out `plan`, which was shown and agreed to. Fails with [`StoreError::Changed`] if the site has changed since,
    /// so that nothing happens that was not shown. People who are removed lose their credentials.
    pub async fn apply_site(
        &self,
        act: &Act,
        wanted: &CheckedSite,
        plan: &Plan,
    ) -> Result<Applied, StoreError> {
        if plan.is_empty() && self.plan_site(wanted).await?.is_empty() {
            return Ok(Applied::Nothing);
        }
        let bad = |e: serde_json::Error| StoreError::damaged("site", e);
        let mut change = self.change(act).await?;
        let current = assemble(&change.rows(ALL, vec![]).await?)?;
        if &Plan::between(&current, wanted).map_err(bad)? != plan {
            return Err(StoreError::Changed { what: "site" });
        }
        let wanted = items(wanted.site()).map_err(bad)?;
        for step in &plan.steps {
            change
                .execute(
                    "DELETE FROM site_item WHERE kind = $1 AND name = $2",
                    args![step.kind.as_str(), &step.name],
                )
                .await?;
            if let Some(item) = wanted.iter().find(|i| i.kind == step.kind && i.name == step.name) {
                change
                    .execute(
                        "INSERT INTO site_item (kind, name, body) VALUES ($1, $2, $3)",
                        args![item.kind.as_str(), &item.name, item.body.to_string()],
                    )
                    .await?;
            } else if step.kind == ItemKind::User {
                let person: Name = step.name.parse().map_err(|e| StoreError::damaged("site", e))?;
                delete_credentials(&mut change, &person).await?;
            }
        }
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::SiteApplied, "site")
            .with("added", count(plan, Verb::Add))
            .with("changed", count(plan, Verb::Change))
            .with("removed", count(plan, Verb::Remove))
            .with("steps", serde_json::to_value(&plan.steps).map_err(bad)?);
        change.commit(event).await.map(Applied::Done)
    }
}

const ALL: &str = "SELECT kind, name, body FROM site_item ORDER BY kind, name";

/// One described thing as it is in this transaction, if it is there.
pub(super) async fn item<T: serde::de::DeserializeOwned>(
    change: &mut Change<'_>,
    kind: &'static str,
    name: impl std::fmt::Display,
) -> Result<Option<T>, StoreError> {
    let sql = "SELECT body FROM site_item WHERE kind = $1 AND name = $2";
    change.row(sql, args![kind, name.to_string()]).await?.map(|r| r.json("body")).transpose()
}

fn count(plan: &Plan, verb: Verb) -> u64 {
    plan.steps.iter().filter(|s| s.verb == verb).count() as u64
}

async fn read_view(tx: &mut DbTx, now: Timestamp) -> Result<PolicyView, StoreError> {
    let revision = tx
        .row("SELECT value FROM counter WHERE name = 'revision'", vec![])
        .await?
        .ok_or_else(|| StoreError::damaged("counter", "no revision"))?
        .count("value")?;
    let site = assemble(&tx.rows(ALL, vec![]).await?)?;
    let plant_states = plant::states(tx).await?;
    let windows = windows::unfinished(tx, now).await?;
    Ok(PolicyView { revision, site, plant_states, windows })
}

fn assemble(rows: &[Row]) -> Result<Site, StoreError> {
    let mut site = Site::default();
    for row in rows {
        let kind = row.text("kind")?;
        let kind = ItemKind::parse(&kind)
            .ok_or_else(|| StoreError::damaged("site", format!("unknown kind {kind:?}")))?;
        let item = Item { kind, name: row.text("name")?, body: row.json::<Value>("body")? };
        put(&mut site, item)?;
    }
    Ok(site)
}

fn put(site: &mut Site, item: Item) -> Result<(), StoreError> {
    fn read<T: serde::de::DeserializeOwned>(item: Item) -> Result<T, StoreError> {
        serde_json::from_value(item.body)
            .map_err(|e| StoreError::damaged("site", format!("{} {:?}: {e}", item.kind.as_str(), item.name)))
    }
    match item.kind {
        ItemKind::Settings => site.settings = read(item)?,
        ItemKind::Organisation => site.organisations.push(read(item)?),
        ItemKind::User => site.users.push(read(item)?),
        ItemKind::Zone => site.zones.push(read(item)?),
        ItemKind::Conduit => site.conduits.push(read(item)?),
        ItemKind::Asset => site.assets.push(read(item)?),
        ItemKind::Account => site.accounts.push(read(item)?),
        ItemKind::Policy => site.policies.push(read(item)?),
    }
    Ok(())
}
