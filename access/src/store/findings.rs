//! Findings: what the triggers saw.

use serde::Serialize;

use super::{
    Store,
    change::{Change, to_i64},
    db::{Row, args},
    error::StoreError,
    filter::Select,
    notifications::{put, told},
};
use crate::{
    audit::{Act, AuditEvent, AuditKind, Checkpoint},
    clock::Timestamp,
    ids::{FindingId, SessionId},
    notice::{self, Bound},
};

/// The same trigger in the same session is mailed about once in so long, seconds.
const MAIL_AGAIN: i64 = 600;
/// Findings mailed about in an hour; the last of them says so.
const MAILS_AN_HOUR: u64 = 20;
/// Findings that a program is told of in an hour; the last of them says so.
const EVENTS_AN_HOUR: u64 = 1000;
const HOUR: i64 = 3600;

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
    /// Keeps a finding, and the messages about it: to a program, and by mail where it matters to those who watch sessions.
    /// Neither more often than people and programs can take: the listing has every one.
    pub async fn record_finding(&self, act: &Act, finding: &FindingRecord) -> Result<Checkpoint, StoreError> {
        let mut change = self.change(act).await?;
        let event = put_finding(&mut change, act, finding).await?;
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

/// Keeps a finding, and the messages about it, in the transaction of what it tells of; answers its event.
pub(super) async fn put_finding(
    change: &mut Change<'_>,
    act: &Act,
    finding: &FindingRecord,
) -> Result<AuditEvent, StoreError> {
    let session = finding.session.map(|s| s.to_string());
    let mail = mail_bound(change, finding).await?;
    let event = event_bound(change, finding).await?;
    tell(change, act, finding, mail, event).await?;
    change
        .execute(
            "INSERT INTO finding (id, session, at, trigger_name, severity, message, response, mailed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            args![
                finding.id.to_string(),
                session.clone(),
                finding.at,
                &finding.trigger,
                &finding.severity,
                finding.text.replace('\0', "\u{fffd}"),
                &finding.response,
                i64::from(mail != Bound::Reached),
            ],
        )
        .await?;
    let subject = session.unwrap_or_else(|| finding.id.to_string());
    Ok(AuditEvent::new(AuditKind::Finding, subject)
        .with("finding", finding.id.to_string())
        .with("trigger", finding.trigger.as_str())
        .with("severity", finding.severity.as_str())
        .with("text", finding.text.as_str())
        .with("response", finding.response.as_str()))
}

/// Whether people are told of it by mail: it matters, they were not told the same a moment ago, and not too often.
async fn mail_bound(change: &mut Change<'_>, finding: &FindingRecord) -> Result<Bound, StoreError> {
    if !notice::matters(&finding.severity, &finding.response) {
        return Ok(Bound::Reached);
    }
    let again = change
        .row(
            "SELECT id FROM finding WHERE session = $1 AND at > $2 AND trigger_name = $3 AND mailed = 1 LIMIT 1",
            args![
                finding.session.map(|s| s.to_string()),
                finding.at.plus_seconds(-MAIL_AGAIN),
                &finding.trigger
            ],
        )
        .await?;
    if again.is_some() {
        return Ok(Bound::Reached);
    }
    let mailed = change
        .row(
            "SELECT COUNT(*) AS n FROM finding WHERE mailed = 1 AND at > $1",
            args![finding.at.plus_seconds(-HOUR)],
        )
        .await?;
    Ok(Bound::after(mailed.map_or(Ok(0), |r| r.count("n"))?, MAILS_AN_HOUR))
}

async fn event_bound(change: &mut Change<'_>, finding: &FindingRecord) -> Result<Bound, StoreError> {
    let told = change
        .row(
            "SELECT COUNT(*) AS n FROM (SELECT id FROM finding WHERE at > $1 LIMIT $2) AS lately",
            args![finding.at.plus_seconds(-HOUR), to_i64(EVENTS_AN_HOUR)],
        )
        .await?;
    Ok(Bound::after(told.map_or(Ok(0), |r| r.count("n"))?, EVENTS_AN_HOUR))
}

async fn tell(
    change: &mut Change<'_>,
    act: &Act,
    finding: &FindingRecord,
    mail: Bound,
    event: Bound,
) -> Result<(), StoreError> {
    if mail == Bound::Reached && event == Bound::Reached {
        return Ok(());
    }
    let session = match finding.session {
        Some(id) => {
            let sql = "SELECT person, asset, login FROM session WHERE id = $1";
            change.row(sql, args![id.to_string()]).await?
        }
        None => None,
    };
    let session = match &session {
        Some(row) => {
            let account = format!("{}@{}", row.text("login")?, row.text("asset")?);
            Some((row.parsed("person")?, account))
        }
        None => None,
    };
    let (people, _) = told(change).await?;
    for message in notice::of_finding(act, finding, session.as_ref(), &people, mail, event) {
        put(change, &message).await?;
    }
    Ok(())
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
