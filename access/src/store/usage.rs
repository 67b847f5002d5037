//! Counters that go with work done: bytes of files per window, and where people come from.

use std::net::IpAddr;

use super::{
    Store,
    change::{Change, Quiet},
    db::args,
    error::StoreError,
};
use crate::{
    audit::Act,
    clock::Timestamp,
    ids::{Name, WindowId},
};

pub(super) async fn add(store: &Store, act: &Act, window: WindowId, bytes: i64) -> Result<u64, StoreError> {
    let mut change = store.change(act).await?;
    let row = change
        .row(
            "INSERT INTO access_window_usage (window_id, file_bytes) VALUES ($1, $2) \
             ON CONFLICT (window_id) DO UPDATE SET file_bytes = access_window_usage.file_bytes + excluded.file_bytes \
             RETURNING file_bytes",
            args![window.to_string(), bytes],
        )
        .await?;
    let sum =
        row.ok_or_else(|| StoreError::damaged("window", "no sum of file bytes"))?.count("file_bytes")?;
    change.commit_quietly(Quiet::FileBytes).await?;
    Ok(sum)
}

impl Store {
    /// Bytes of files moved under a window so far.
    pub async fn file_bytes(&self, window: WindowId) -> Result<u64, StoreError> {
        let row = self
            .0
            .pools
            .row("SELECT file_bytes FROM access_window_usage WHERE window_id = $1", args![window.to_string()])
            .await?;
        row.map_or(Ok(0), |r| r.count("file_bytes"))
    }

    /// When sessions of the person first and last came from this address.
    pub async fn source_seen(
        &self,
        person: &Name,
        source: IpAddr,
    ) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        let row = self
            .0
            .pools
            .row(
                "SELECT first_at, last_at FROM source_seen WHERE person = $1 AND source = $2",
                args![person, source.to_canonical().to_string()],
            )
            .await?;
        row.map(|r| Ok((r.time("first_at")?, r.time("last_at")?))).transpose()
    }
}

/// Notes the address a session came from; answers whether it is new for the person.
pub(super) async fn note_source(
    change: &mut Change<'_>,
    person: &Name,
    source: IpAddr,
) -> Result<bool, StoreError> {
    let (source, at) = (source.to_canonical().to_string(), change.at());
    let known = change
        .execute(
            "UPDATE source_seen SET last_at = $3 WHERE person = $1 AND source = $2",
            args![person, &source, at],
        )
        .await?;
    if known == 0 {
        change
            .execute(
                "INSERT INTO source_seen (person, source, first_at, last_at) VALUES ($1, $2, $3, $3)",
                args![person, &source, at],
            )
            .await?;
    }
    Ok(known == 0)
}
