//! What is known of the past of several requests, each asked for all of them at once: a queue of a hundred is read with
//! as many statements as one of two.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Store,
    db::{Row, Sql, Value},
    error::StoreError,
    filter::Select,
};
use crate::{
    audit::AuditKind,
    clock::Timestamp,
    ids::{Name, WindowId},
};

/// Pairs in one statement; each is two values, and the databases take some ten thousand.
const PAIRS: usize = 500;
/// Windows in one statement: a window has some entries in the audit log, and a listing has its bound.
const WINDOWS: usize = 50;

impl Store {
    /// Of these people and assets, those pairs where the person has had a session on the asset.
    pub async fn been_there(
        &self,
        pairs: &BTreeSet<(Name, Name)>,
    ) -> Result<BTreeSet<(Name, Name)>, StoreError> {
        let pairs = pairs.iter().map(|(person, asset)| [Value::from(person), Value::from(asset)]);
        let found = self
            .of_pairs(
                "SELECT a, b FROM pair \
                 WHERE EXISTS (SELECT id FROM session s WHERE s.person = pair.a AND s.asset = pair.b)",
                pairs,
            )
            .await?;
        found.iter().map(|row| Ok((row.parsed("a")?, row.parsed("b")?))).collect()
    }

    /// Of these people and addresses, those that sessions of the person came from before, with the first time.
    pub async fn seen_from(
        &self,
        pairs: &BTreeSet<(Name, IpAddr)>,
    ) -> Result<BTreeMap<(Name, IpAddr), Timestamp>, StoreError> {
        let pairs = pairs
            .iter()
            .map(|(person, source)| [Value::from(person), Value::from(source.to_canonical().to_string())]);
        let found = self
            .of_pairs(
                "SELECT a, b, s.first_at AS first_at FROM pair \
                 JOIN source_seen s ON s.person = pair.a AND s.source = pair.b",
                pairs,
            )
            .await?;
        found.iter().map(|row| Ok(((row.parsed("a")?, row.parsed("b")?), row.time("first_at")?))).collect()
    }

    /// From where these windows were asked for, as far as the audit log says.
    pub async fn asked_from(&self, windows: &[WindowId]) -> Result<BTreeMap<WindowId, IpAddr>, StoreError> {
        let mut found = BTreeMap::new();
        for some in windows.chunks(WINDOWS) {
            // By subject alone: of one window there are few entries, of one kind there are many.
            let (sql, values) = Select::new("SELECT kind, subject, body FROM audit")
                .and_in("subject", some.iter().map(ToString::to_string))
                .finish("subject, seq", 0);
            for row in self.0.pools.rows(sql, values).await? {
                if row.text("kind")? != AuditKind::WindowRequested.as_str() {
                    continue;
                }
                let body: serde_json::Value = row.json("body")?;
                let source = body.get("source").and_then(|s| s.as_str()).and_then(|s| s.parse().ok());
                if let Some(source) = source {
                    found.insert(row.parsed("subject")?, source);
                }
            }
        }
        Ok(found)
    }

    /// Rows of `select` over a table `pair` with columns `a` and `b`.
    async fn of_pairs(
        &self,
        select: &'static str,
        pairs: impl Iterator<Item = [Value; 2]>,
    ) -> Result<Vec<Row>, StoreError> {
        let pairs: Vec<[Value; 2]> = pairs.collect();
        let mut found = Vec::new();
        for some in pairs.chunks(PAIRS) {
            let places: Vec<String> =
                (0..some.len()).map(|n| format!("(${}, ${})", 2 * n + 1, 2 * n + 2)).collect();
            let sql = format!("WITH pair (a, b) AS (VALUES {}) {select}", places.join(", "));
            found.extend(self.0.pools.rows(Sql::from(sql), some.iter().flatten().cloned().collect()).await?);
        }
        Ok(found)
    }
}
