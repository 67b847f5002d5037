//! Secrets of accounts: sealed by the vault, opaque here.

use std::fmt;

use serde::Serialize;
use zeroize::Zeroize;

use super::{
    Store,
    change::to_i64,
    db::{Row, args},
    error::StoreError,
    rotation,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::Login,
    site::AccountRef,
};

/// An account's secret.
const ONE: &str =
    "SELECT sealed, version, updated_at, updated_by FROM account_secret WHERE asset = $1 AND login = $2";

/// A sealed secret. The bytes say nothing without the vault's key; still they are neither shown nor kept longer than needed.
pub struct SealedSecret {
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// Counts the changes, from 1.
    pub version: u64,
    /// The last change.
    pub updated_at: Timestamp,
    /// Who made it, as the audit log writes it.
    pub updated_by: String,
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecret").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Drop for SealedSecret {
    fn drop(&mut self) {
        self.sealed.zeroize();
    }
}

/// One change of a secret. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretHistory {
    /// The version it made.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// Who, as the audit log writes it.
    pub by: String,
    /// `set`, `rotated` or `removed`.
    pub action: String,
}

impl Store {
    /// Keeps a sealed secret for an account that the site describes; answers its version.
    pub async fn set_secret(
        &self,
        act: &Act,
        account: &AccountRef,
        sealed: &[u8],
    ) -> Result<u64, StoreError> {
        let mut change = self.change(act).await?;
        let known = change
            .row(
                "SELECT name FROM site_item WHERE kind = 'account' AND name = $1",
                args![account.to_string()],
            )
            .await?;
        if known.is_none() {
            return Err(StoreError::not_found("account", account));
        }
        let version = last_version(&mut change, account).await? + 1;
        change
            .execute(
                "INSERT INTO account_secret (asset, login, sealed, version, updated_at, updated_by) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (asset, login) DO UPDATE SET \
                 sealed = excluded.sealed, version = excluded.version, updated_at = excluded.updated_at, \
                 updated_by = excluded.updated_by",
                args![&account.asset, &account.login, sealed, to_i64(version), act.at, act.actor.as_str()],
            )
            .await?;
        note(&mut change, account, version, "set").await?;
        rotation::secret_was_set(&mut change, account, sealed).await?;
        change.commit(AuditEvent::new(AuditKind::SecretSet, account).with("version", version)).await?;
        Ok(version)
    }

    /// Removes an account's secret for good.
    pub async fn remove_secret(&self, act: &Act, account: &AccountRef) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let row = change
            .row(
                "DELETE FROM account_secret WHERE asset = $1 AND login = $2 RETURNING version",
                args![&account.asset, &account.login],
            )
            .await?;
        let version = row.ok_or_else(|| StoreError::not_found("secret of", account))?.count("version")? + 1;
        note(&mut change, account, version, "removed").await?;
        rotation::secret_was_removed(&mut change, account).await?;
        change
            .commit(AuditEvent::new(AuditKind::SecretRemoved, account).with("version", version))
            .await
            .map(drop)
    }

    /// The sealed secret of an account, if it has one.
    pub async fn secret(&self, account: &AccountRef) -> Result<Option<SealedSecret>, StoreError> {
        let row = self.0.pools.row(ONE, args![&account.asset, &account.login]).await?;
        row.as_ref().map(sealed).transpose()
    }

    /// The accounts that have a secret, with its version and last change.
    pub async fn secrets(&self) -> Result<Vec<(AccountRef, u64, Timestamp)>, StoreError> {
        let rows = self
            .0
            .pools
            .rows(
                "SELECT asset, login, version, updated_at FROM account_secret ORDER BY asset, login",
                vec![],
            )
            .await?;
        rows.iter().map(|r| Ok((account(r)?, r.count("version")?, r.time("updated_at")?))).collect()
    }

    /// Who changed an account's secret when, the newest first.
    pub async fn secret_history(&self, account: &AccountRef) -> Result<Vec<SecretHistory>, StoreError> {
        let rows = self
            .0
            .pools
            .rows(
                "SELECT version, at, actor, action FROM account_secret_history \
                 WHERE asset = $1 AND login = $2 ORDER BY version DESC LIMIT 1000",
                args![&account.asset, &account.login],
            )
            .await?;
        rows.iter()
            .map(|r| {
                Ok(SecretHistory {
                    version: r.count("version")?,
                    at: r.time("at")?,
                    by: r.text("actor")?,
                    action: r.text("action")?,
                })
            })
            .collect()
    }
}

/// An account's secret as it is in this transaction.
pub(super) async fn read(
    change: &mut super::change::Change<'_>,
    account: &AccountRef,
) -> Result<SealedSecret, StoreError> {
    let row = change.row(ONE, args![&account.asset, &account.login]).await?;
    sealed(&row.ok_or_else(|| StoreError::not_found("secret of", account))?)
}

fn sealed(row: &Row) -> Result<SealedSecret, StoreError> {
    Ok(SealedSecret {
        sealed: row.bytes("sealed")?,
        version: row.count("version")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.text("updated_by")?,
    })
}

/// Puts what a rotation proved in the place of the secret that sessions get; answers its version.
pub(super) async fn replace_rotated(
    change: &mut super::change::Change<'_>,
    account: &AccountRef,
    sealed: &[u8],
) -> Result<u64, StoreError> {
    let (at, actor) = (change.at(), change.actor().to_owned());
    let version = last_version(change, account).await? + 1;
    let changed = change
        .execute(
            "UPDATE account_secret SET sealed = $3, version = $4, updated_at = $5, updated_by = $6 \
             WHERE asset = $1 AND login = $2",
            args![&account.asset, &account.login, sealed, to_i64(version), at, actor],
        )
        .await?;
    if changed != 1 {
        return Err(StoreError::not_found("secret of", account));
    }
    note(change, account, version, "rotated").await?;
    Ok(version)
}

async fn last_version(
    change: &mut super::change::Change<'_>,
    account: &AccountRef,
) -> Result<u64, StoreError> {
    change
        .row(
            "SELECT COALESCE(MAX(version), 0) AS version FROM account_secret_history \
             WHERE asset = $1 AND login = $2",
            args![&account.asset, &account.login],
        )
        .await?
        .map_or(Ok(0), |r| r.count("version"))
}

pub(super) fn account(row: &Row) -> Result<AccountRef, StoreError> {
    Ok(AccountRef {
        asset: row.parsed("asset")?,
        login: Login::new(&row.text("login")?).map_err(|e| StoreError::damaged("secret", e))?,
    })
}

async fn note(
    change: &mut super::change::Change<'_>,
    account: &AccountRef,
    version: u64,
    action: &'static str,
) -> Result<(), StoreError> {
    let (at, actor) = (change.at(), change.actor().to_owned());
    change
        .execute(
            "INSERT INTO account_secret_history (asset, login, version, at, actor, action) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            args![&account.asset, &account.login, to_i64(version), at, actor, action],
        )
        .await
        .map(drop)
}
