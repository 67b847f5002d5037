//! Decision records: the five answers and the policies that decided, kept with a digest.

use aws_lc_rs::digest;
use serde::Serialize;

use super::{
    Store,
    change::Change,
    db::{Row, args},
    error::StoreError,
    filter::Select,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{DecisionId, Name, SessionId},
};

/// A decision as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionRecord {
    /// Its id.
    pub id: DecisionId,
    /// When it was made.
    pub at: Timestamp,
    /// Who asked.
    pub person: Name,
    /// For what: an asset's name, or what was asked for where there is no such asset.
    pub asset: String,
    /// The session it belongs to, if there is one.
    pub session: Option<SessionId>,
    /// `permit`, or anything else for a refusal (`deny`, `needs_window` …).
    pub outcome: String,
    /// The whole decision as JSON.
    pub body: String,
}

impl DecisionRecord {
    /// SHA-256 of the body, lower-case hexadecimal. The audit entry of the decision holds it.
    pub fn digest(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, self.body.as_bytes()).as_ref())
    }
}

/// Which decisions to list.
#[derive(Debug, Clone, Default)]
pub struct DecisionFilter {
    /// Only of this person.
    pub person: Option<Name>,
    /// Only about this asset.
    pub asset: Option<String>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only with this outcome.
    pub outcome: Option<String>,
    /// Only ids before this one, which are older (for paging).
    pub before: Option<DecisionId>,
    /// Most decisions; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

const ALL: &str = "SELECT id, at, person, asset, session, outcome, body, digest FROM decision";

impl Store {
    /// Keeps decisions, each with its audit event, in one transaction; does nothing for none.
    pub async fn record_decisions(&self, act: &Act, decisions: &[DecisionRecord]) -> Result<(), StoreError> {
        if decisions.is_empty() {
            return Ok(());
        }
        let mut change = self.change(act).await?;
        let mut events = Vec::with_capacity(decisions.len());
        for decision in decisions {
            events.push(put_decision(&mut change, decision).await?);
        }
        let mut events = events.into_iter();
        match events.next() {
            Some(first) => change.commit_all(first, events).await.map(drop),
            None => Ok(()),
        }
    }

    /// The decision of that id. A body that does not match its digest is an error.
    pub async fn decision(&self, id: DecisionId) -> Result<DecisionRecord, StoreError> {
        let (sql, values) = Select::new(ALL).and("id = ?", id.to_string()).finish("id", 1);
        let row = self.0.pools.row(sql, values).await?;
        record(&row.ok_or_else(|| StoreError::not_found("decision", id))?)
    }

    /// Lists decisions, the newest first.
    pub async fn decisions(&self, filter: &DecisionFilter) -> Result<Vec<DecisionRecord>, StoreError> {
        let (sql, values) = Select::new(ALL)
            .and_some("person = ?", filter.person.as_ref())
            .and_some("asset = ?", filter.asset.as_ref())
            .and_some("session = ?", filter.session.map(|s| s.to_string()))
            .and_some("outcome = ?", filter.outcome.as_ref())
            .and_some("id < ?", filter.before.map(|id| id.to_string()))
            .finish("id DESC", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(record).collect()
    }
}

/// Keeps the decision and answers the event to write. One that is kept already is not kept twice.
pub(super) async fn put_decision(
    change: &mut Change<'_>,
    d: &DecisionRecord,
) -> Result<AuditEvent, StoreError> {
    let digest = d.digest();
    change
        .execute(
            "INSERT INTO decision (id, at, person, asset, session, outcome, body, digest) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
            args![
                d.id.to_string(),
                d.at,
                &d.person,
                &d.asset,
                d.session.map(|s| s.to_string()),
                &d.outcome,
                &d.body,
                &digest
            ],
        )
        .await?;
    let kind = if d.outcome == "permit" { AuditKind::DecisionPermitted } else { AuditKind::DecisionDenied };
    Ok(AuditEvent::new(kind, d.id)
        .with("person", d.person.as_str())
        .with("asset", d.asset.as_str())
        .with("outcome", d.outcome.as_str())
        .with("digest", digest)
        .with_some("session", d.session.map(|s| s.to_string())))
}

fn record(row: &Row) -> Result<DecisionRecord, StoreError> {
    let record = DecisionRecord {
        id: row.parsed("id")?,
        at: row.time("at")?,
        person: row.parsed("person")?,
        asset: row.text("asset")?,
        session: row.opt_parsed("session")?,
        outcome: row.text("outcome")?,
        body: row.text("body")?,
    };
    if record.digest() == row.text("digest")? {
        Ok(record)
    } else {
        Err(StoreError::damaged("decision", "its text does not match its digest"))
    }
}
