//! What looks for privileged accounts found.

use cofferdam_vault::rotation::Look;

use super::{Store, db::args, error::StoreError};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    discovery::Discovery,
    ids::Name,
};

impl Store {
    /// Keeps what a look at an asset found, in place of what the one before did; `unknown` are those that the site does not
    /// describe. Answers which of them the look before did not find.
    pub async fn keep_discovery(
        &self,
        act: &Act,
        asset: &Name,
        look: &Look,
        unknown: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let mut change = self.change(act).await?;
        let before: Option<Look> = change
            .row("SELECT found FROM discovery WHERE asset = $1", args![asset])
            .await?
            .map(|row| row.json("found"))
            .transpose()?;
        let known = |login: &String| before.iter().flat_map(|l| &l.found).any(|f| &f.login == login);
        let new: Vec<String> = unknown.iter().filter(|login| !known(login)).cloned().collect();
        let text = serde_json::to_string(look).map_err(|e| StoreError::damaged("look", e))?;
        change
            .execute(
                "INSERT INTO discovery (asset, at, found) VALUES ($1, $2, $3) \
                 ON CONFLICT (asset) DO UPDATE SET at = excluded.at, found = excluded.found",
                args![asset, act.at, text],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::AccountsDiscovered, asset)
            .with("found", look.found.len())
            .with("unknown", unknown.to_vec())
            .with("gaps", look.gaps.len());
        change.commit(event).await?;
        Ok(new)
    }

    /// What the last looks found, by asset.
    pub async fn discoveries(&self) -> Result<Vec<Discovery>, StoreError> {
        let rows = self.0.pools.rows("SELECT asset, at, found FROM discovery ORDER BY asset", vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(Discovery { asset: row.parsed("asset")?, at: row.time("at")?, look: row.json("found")? })
            })
            .collect()
    }
}
