//! Plant state, per zone.

use serde::Serialize;

use super::{
    Store,
    db::{DbTx, Row, args},
    error::StoreError,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::Name,
    site::{PlantState, PlantStates},
};

/// The state of a zone, with who set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlantStateRecord {
    /// The zone.
    pub zone: Name,
    /// Its state.
    pub state: PlantState,
    /// Since when.
    pub since: Timestamp,
    /// Who set it, as the audit log writes it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Store {
    /// Sets the state of a zone that the site describes.
    pub async fn set_plant_state(
        &self,
        act: &Act,
        zone: &Name,
        state: PlantState,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let known =
            change.row("SELECT name FROM site_item WHERE kind = 'zone' AND name = $1", args![zone]).await?;
        if known.is_none() {
            return Err(StoreError::not_found("zone", zone));
        }
        let before = change.row("SELECT state FROM plant_state WHERE zone = $1", args![zone]).await?;
        let before = before.map(|r| state_of(&r)).transpose()?.unwrap_or_default();
        change
            .execute(
                "INSERT INTO plant_state (zone, state, since, actor, reason) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (zone) DO UPDATE SET state = excluded.state, since = excluded.since, \
                 actor = excluded.actor, reason = excluded.reason",
                args![zone, state.as_str(), act.at, act.actor.as_str(), reason],
            )
            .await?;
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::PlantStateChanged, zone)
            .with("before", before.as_str())
            .with("state", state.as_str())
            .with("reason", reason);
        change.commit(event).await.map(drop)
    }

    /// The zones whose state was ever set; any other is in production.
    pub async fn plant_states(&self) -> Result<Vec<PlantStateRecord>, StoreError> {
        let rows = self
            .0
            .pools
            .rows("SELECT zone, state, since, actor, reason FROM plant_state ORDER BY zone", vec![])
            .await?;
        rows.iter()
            .map(|r| {
                Ok(PlantStateRecord {
                    zone: r.parsed("zone")?,
                    state: state_of(r)?,
                    since: r.time("since")?,
                    by: r.text("actor")?,
                    reason: r.text("reason")?,
                })
            })
            .collect()
    }
}

pub(super) async fn states(tx: &mut DbTx) -> Result<PlantStates, StoreError> {
    let rows = tx.rows("SELECT zone, state FROM plant_state", vec![]).await?;
    rows.iter().map(|r| Ok((r.parsed("zone")?, state_of(r)?))).collect()
}

fn state_of(row: &Row) -> Result<PlantState, StoreError> {
    let text = row.text("state")?;
    PlantState::ALL
        .into_iter()
        .find(|s| s.as_str() == text)
        .ok_or_else(|| StoreError::damaged("plant state", format!("{text:?} is none")))
}
