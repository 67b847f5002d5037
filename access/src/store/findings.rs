//! Findings: what the triggers saw.

use serde::Serialize;

use super::{
    Store,
    db::{Row, args},
    error::StoreError,
    filter::Select,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind, Checkpoint},
    clock::Timestamp,
    ids::{FindingId, SessionId},
};

/// A finding as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingRecord {
    /// Its id.
    pub id: FindingId,
    /// The session it was seen in, if in one.
    pub session: Option<SessionId>,
    /// When.
    pub at: Timestamp,
    /// The trigger's name.
    pub trigger: String,
    /// How bad: `info`, `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// What was seen, for people.
    pub text: String,
    /// What was done about it (`notify`, `suspend`, `end` …).
    pub response: String,
}

/// Which findings to list.
#[derive(Debug, Clone, Default)]
pub struct FindingFilter {
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only by this trigger.
    pub trigger: Option<String>,
    /// Only of this severity.
    pub severity: Option<String>,
    /// Only from this moment on.
    pub from: Option<Timestamp>,
    /// Only ids before this one, which are older (for paging).
    pub before: Option<FindingId>,
    /// Most findings; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

impl Store {
    /// Keeps a finding.
    pub async fn record_finding(&self, act: &Act, finding: &FindingRecord) -> Result<Checkpoint, StoreError> {
        let session = finding.session.map(|s| s.to_string());
        let mut change = self.change(act).await?;
        change
            .execute(
                "INSERT INTO finding (id, session, at, trigger_name, severity, message, response) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                args![
                    finding.id.to_string(),
                    session.clone(),
                    finding.at,
                    &finding.trigger,
                    &finding.severity,
                    finding.text.replace('\0', "\u{fffd}"),
                    &finding.response,
                ],
            )
            .await?;
        let subject = session.unwrap_or_else(|| finding.id.to_string());
        let event = AuditEvent::new(AuditKind::Finding, subject)
            .with("finding", finding.id.to_string())
            .with("trigger", finding.trigger.as_str())
            .with("severity", finding.severity.as_str())
            .with("text", finding.text.as_str())
            .with("response", finding.response.as_str());
        change.commit(event).await
    }

    /// Lists findings, the newest first.
    pub async fn findings(&self, filter: &FindingFilter) -> Result<Vec<FindingRecord>, StoreError> {
        let (sql, values) =
            Select::new("SELECT id, session, at, trigger_name, severity, message, response FROM finding")
                .and_some("session = ?", filter.session.map(|s| s.to_string()))
                .and_some("trigger_name = ?", filter.trigger.as_ref())
                .and_some("severity = ?", filter.severity.as_ref())
                .and_some("at >= ?", filter.from)
                .and_some("id < ?", filter.before.map(|id| id.to_string()))
                .finish("id DESC", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(record).collect()
    }
}

fn record(row: &Row) -> Result<FindingRecord, StoreError> {
    Ok(FindingRecord {
        id: row.parsed("id")?,
        session: row.opt_parsed("session")?,
        at: row.time("at")?,
        trigger: row.text("trigger_name")?,
        severity: row.text("severity")?,
        text: row.text("message")?,
        response: row.text("response")?,
    })
}
