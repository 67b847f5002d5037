//! Sums for the metrics. Each looks at one span of time by index; what they mean stands in [`crate::metrics`].

use super::{
    Store,
    db::{Row, Value, args},
    error::StoreError,
};
use crate::{audit::AuditKind, clock::Timestamp};

/// What is counted of a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Sessions that ended in it.
    pub sessions: u64,
    /// Of these, those that began with a fresh second factor and whose recording was sealed.
    pub proven: u64,
    /// Blocked lateral movements.
    pub blocked: u64,
    /// Sessions whose first finding was in it.
    pub detections: u64,
    /// Sum of the times from their starts to these findings, microseconds.
    pub detection_micros: i64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.proven += other.proven;
        self.blocked += other.blocked;
        self.detections += other.detections;
        self.detection_micros = self.detection_micros.saturating_add(other.detection_micros);
    }
}

impl Store {
    /// Counts what happened from `from` on and before `until`.
    pub async fn figures(&self, from: Timestamp, until: Timestamp) -> Result<Figures, StoreError> {
        // The text is how our own JSON writes the field; inside a string its quotes would be escaped.
        let sessions = self
            .figure(
                "SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN s.recording_digest IS NOT NULL \
                 AND d.body LIKE '%\"second_factor_fresh\":true%' THEN 1 ELSE 0 END), 0) AS m \
                 FROM session s LEFT JOIN decision d ON d.id = s.decision \
                 WHERE s.ended_at >= $1 AND s.ended_at < $2",
                args![from, until],
            )
            .await?;
        let (after, before) = self.audit_span(Some(from), Some(until)).await?;
        let blocked = self
            .figure(
                "SELECT COUNT(*) AS n FROM audit WHERE kind = $1 AND seq > $2 AND seq < $3 AND at >= $4 AND at < $5 \
                 AND body LIKE '%\"lateral_movement\":true%'",
                args![AuditKind::ForwardRefused.as_str(), after, before, from, until],
            )
            .await?;
        let detections = self
            .figure(
                "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(one.at - s.started_at), 0) AS BIGINT) AS m \
                 FROM (SELECT f.session AS session, MIN(f.at) AS at FROM finding f \
                 WHERE f.session IS NOT NULL AND f.at >= $1 AND f.at < $2 \
                 AND NOT EXISTS (SELECT 1 FROM finding e WHERE e.session = f.session AND e.at < $1) \
                 GROUP BY f.session) one JOIN session s ON s.id = one.session",
                args![from, until],
            )
            .await?;
        Ok(Figures {
            sessions: sessions.count("n")?,
            proven: sessions.count("m")?,
            blocked: blocked.count("n")?,
            detections: detections.count("n")?,
            detection_micros: detections.int("m")?,
        })
    }

    async fn figure(&self, sql: &'static str, values: Vec<Value>) -> Result<Row, StoreError> {
        let row = self.0.pools.row(sql, values).await?;
        row.ok_or_else(|| StoreError::damaged("figures", "a sum has no row"))
    }
}
