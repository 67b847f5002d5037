//! The vault's keyring, opaque here, and what is sealed under it: found, counted and wrapped anew.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Store, change::Change, db::args, error::StoreError};
use crate::audit::{Act, AuditEvent, AuditKind};

/// Rows that are wrapped anew in one transaction.
const BATCH: usize = 100;

/// What is sealed under the keyring, by what it belongs to. The bytes say nothing without the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// `account`, `totp` or `ssh-authority`: what the vault's context of it is for.
    pub purpose: &'static str,
    /// Which one: an account as LOGIN@ASSET, a person's name, or an authority's.
    pub id: String,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Secret {
        asset: String,
        login: String,
    },
    Totp,
    Authority,
    /// One of the secrets that a rotation keeps: within its JSON, as base64.
    Rotation {
        asset: String,
        login: String,
        version: i64,
    },
}

impl Store {
    /// The keyring, where the vault has one.
    pub async fn keyring(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.0.pools.row("SELECT document FROM vault_keyring WHERE id = 1", vec![]).await?;
        row.map(|r| r.bytes("document")).transpose()
    }

    /// Puts `new` in the place of `old`; answers `false`, and changes nothing, if another is there.
    pub async fn replace_keyring(
        &self,
        act: &Act,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let at = change.at();
        let changed = match old {
            None => {
                change
                    .execute(
                        "INSERT INTO vault_keyring (id, document, updated_at) VALUES (1, $1, $2) \
                         ON CONFLICT (id) DO NOTHING",
                        args![new, at],
                    )
                    .await?
            }
            Some(old) => change
                .execute(
                    "UPDATE vault_keyring SET document = $2, updated_at = $3 WHERE id = 1 AND document = $1",
                    args![old, new, at],
                )
                .await?,
        };
        if changed != 1 {
            change.abandon().await?;
            return Ok(false);
        }
        change.commit(AuditEvent::new(AuditKind::KeyringChanged, "keyring")).await?;
        Ok(true)
    }

    /// Everything that is sealed under the keyring.
    pub async fn sealed_rows(&self) -> Result<Vec<SealedRow>, StoreError> {
        let mut all = Vec::new();
        let pools = &self.0.pools;
        for row in pools.rows("SELECT asset, login, sealed FROM account_secret", vec![]).await? {
            let (asset, login) = (row.text("asset")?, row.text("login")?);
            let id = format!("{login}@{asset}");
            all.push(SealedRow {
                purpose: "account",
                id,
                sealed: row.bytes("sealed")?,
                place: Place::Secret { asset, login },
            });
        }
        let totp = "SELECT person, totp_sealed FROM credential WHERE totp_sealed IS NOT NULL";
        for row in pools.rows(totp, vec![]).await? {
            all.push(SealedRow {
                purpose: "totp",
                id: row.text("person")?,
                sealed: row.bytes("totp_sealed")?,
                place: Place::Totp,
            });
        }
        let authorities = "SELECT id, sealed FROM authority WHERE sealed IS NOT NULL";
        for row in pools.rows(authorities, vec![]).await? {
            let (id, sealed) = (row.text("id")?, row.bytes("sealed")?);
            all.push(SealedRow { purpose: "ssh-authority", id, sealed, place: Place::Authority });
        }
        for row in pools.rows("SELECT asset, login, version, progress FROM rotation", vec![]).await? {
            let (asset, login, version) = (row.text("asset")?, row.text("login")?, row.int("version")?);
            let progress: cofferdam_vault::rotation::Progress = row.json("progress")?;
            for sealed in progress.secrets.all() {
                let place = Place::Rotation { asset: asset.clone(), login: login.clone(), version };
                let id = format!("{login}@{asset}");
                all.push(SealedRow { purpose: "account", id, sealed: sealed.0.clone(), place });
            }
        }
        Ok(all)
    }

    /// Puts what was wrapped anew in the place of what it was made of; answers how many rows still held that. A row that
    /// changed meanwhile, or whose rotation is being worked on, stays as it is: it is found the next time.
    pub async fn replace_sealed(&self, act: &Act, rows: &[(SealedRow, Vec<u8>)]) -> Result<u64, StoreError> {
        let mut replaced = 0;
        for some in rows.chunks(BATCH) {
            let mut change = self.change(act).await?;
            let mut here = 0;
            for (row, new) in some {
                here += replace(&mut change, row, new).await?;
            }
            if here == 0 {
                change.abandon().await?;
                continue;
            }
            change.commit(AuditEvent::new(AuditKind::SecretsRewrapped, "keyring").with("rows", here)).await?;
            replaced += here;
        }
        Ok(replaced)
    }
}

async fn replace(change: &mut Change<'_>, row: &SealedRow, new: &[u8]) -> Result<u64, StoreError> {
    match &row.place {
        Place::Secret { asset, login } => {
            change
                .execute(
                    "UPDATE account_secret SET sealed = $4 WHERE asset = $1 AND login = $2 AND sealed = $3",
                    args![asset, login, row.sealed.as_slice(), new],
                )
                .await
        }
        Place::Totp => {
            change
                .execute(
                    "UPDATE credential SET totp_sealed = $3 WHERE person = $1 AND totp_sealed = $2",
                    args![&row.id, row.sealed.as_slice(), new],
                )
                .await
        }
        Place::Authority => {
            change
                .execute(
                    "UPDATE authority SET sealed = $3 WHERE id = $1 AND sealed = $2",
                    args![&row.id, row.sealed.as_slice(), new],
                )
                .await
        }
        Place::Rotation { asset, login, version } => {
            // The version stays: who works on the record holds a claim, and then this does nothing.
            change
                .execute(
                    "UPDATE rotation SET progress = REPLACE(progress, $4, $5) \
                     WHERE asset = $1 AND login = $2 AND version = $3 AND claim_holder IS NULL",
                    args![asset, login, *version, STANDARD.encode(&row.sealed), STANDARD.encode(new)],
                )
                .await
        }
    }
}
