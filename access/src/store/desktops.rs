//! Single-use tokens for desktops: made by somebody who has just proved a second factor, worth one log-in within a minute.

use std::{fmt, net::IpAddr};

use zeroize::Zeroizing;

use super::{
    Store,
    db::{Row, args},
    error::StoreError,
    secrets,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    decision::Factors,
    ids::{DesktopTokenId, Name, WindowId},
    site::AccountRef,
};

/// How long a token may live at most, seconds.
pub const DESKTOP_TOKEN_SECONDS: i64 = 60;
/// Tokens of one person at a time; a newer one drops the oldest.
const MOST: u32 = 8;

/// What a token is worth: one session of this person, on this account, by this window. The token itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopToken {
    /// Its id; knowing it gives nothing.
    pub id: DesktopTokenId,
    /// For whom.
    pub person: Name,
    /// On which account.
    pub account: AccountRef,
    /// By which window.
    pub window: WindowId,
    /// What the person proved for it.
    pub factors: Factors,
    /// The address from which it was asked for.
    pub source: IpAddr,
    /// When it was made.
    pub created_at: Timestamp,
    /// First moment at which it no longer works.
    pub expires_at: Timestamp,
}

/// A token that has not been used yet, with its sealed text.
pub struct StandingToken {
    /// What it is worth.
    pub token: DesktopToken,
    /// Sealed by the vault.
    pub sealed: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for StandingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandingToken").field("token", &self.token).finish_non_exhaustive()
    }
}

const TOKEN: &str = "SELECT id, person, asset, login, window_id, factors, source, sealed, created_at, expires_at \
                     FROM desktop_token";

impl Store {
    /// Keeps a token. An earlier one of the same person for the same account works no longer.
    pub async fn issue_desktop_token(
        &self,
        act: &Act,
        token: &DesktopToken,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        if token.expires_at > act.at.plus_seconds(DESKTOP_TOKEN_SECONDS) {
            return Err(StoreError::Refused(format!(
                "a token for a desktop works for {DESKTOP_TOKEN_SECONDS} s at most"
            )));
        }
        let mut change = self.change(act).await?;
        change.execute("DELETE FROM desktop_token WHERE expires_at <= $1", args![act.at]).await?;
        let (asset, login) = (&token.account.asset, &token.account.login);
        change
            .execute(
                "DELETE FROM desktop_token WHERE person = $1 AND asset = $2 AND login = $3",
                args![&token.person, asset, login],
            )
            .await?;
        let sql = format!(
            "DELETE FROM desktop_token WHERE person = $1 AND id NOT IN \
             (SELECT id FROM desktop_token WHERE person = $1 ORDER BY created_at DESC, id DESC LIMIT {})",
            MOST - 1
        );
        change.execute(sql, args![&token.person]).await?;
        let factors =
            serde_json::to_string(&token.factors).map_err(|e| StoreError::damaged("desktop token", e))?;
        change
            .execute(
                "INSERT INTO desktop_token (id, person, asset, login, window_id, factors, source, sealed, created_at, \
                 expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                args![
                    token.id.to_string(),
                    &token.person,
                    asset,
                    login,
                    token.window.to_string(),
                    factors,
                    token.source.to_canonical().to_string(),
                    sealed,
                    token.created_at,
                    token.expires_at,
                ],
            )
            .await?;
        let second = token.factors.second.as_ref().map(|s| s.kind.as_str());
        let event = about(AuditKind::DesktopTokenIssued, token)
            .with("expires_at", token.expires_at.micros())
            .with_some("second_factor", second);
        change.commit(event).await.map(drop)
    }

    /// The person's tokens that are neither used nor over at `now`.
    pub async fn standing_desktop_tokens(
        &self,
        person: &Name,
        now: Timestamp,
    ) -> Result<Vec<StandingToken>, StoreError> {
        let sql =
            format!("{TOKEN} WHERE person = $1 AND expires_at > $2 ORDER BY created_at DESC LIMIT {MOST}");
        self.0.pools.rows(sql, args![person, now]).await?.iter().map(standing).collect()
    }

    /// Uses a token up: of all who try at once, on whatever node, one is answered what it is worth. None: it is used,
    /// over or was never made.
    pub async fn use_desktop_token(
        &self,
        act: &Act,
        id: DesktopTokenId,
    ) -> Result<Option<DesktopToken>, StoreError> {
        let mut change = self.change(act).await?;
        let sql = "DELETE FROM desktop_token WHERE id = $1 RETURNING id, person, asset, login, window_id, factors, \
                   source, sealed, created_at, expires_at";
        let row = change.row(sql, args![id.to_string()]).await?;
        let token = row.as_ref().map(standing).transpose()?.map(|s| s.token);
        let Some(token) = token.filter(|t| act.at < t.expires_at) else {
            let event = AuditEvent::new(AuditKind::DesktopTokenRefused, id).with("reason", "used_or_expired");
            change.commit(event).await?;
            return Ok(None);
        };
        change.commit(about(AuditKind::DesktopTokenUsed, &token)).await?;
        Ok(Some(token))
    }
}

fn about(kind: AuditKind, token: &DesktopToken) -> AuditEvent {
    AuditEvent::new(kind, token.id)
        .with("person", token.person.as_str())
        .with("account", token.account.to_string())
        .with("window", token.window.to_string())
        .with("asked_from", token.source.to_string())
}

fn standing(row: &Row) -> Result<StandingToken, StoreError> {
    Ok(StandingToken {
        token: DesktopToken {
            id: row.parsed("id")?,
            person: row.parsed("person")?,
            account: secrets::account(row)?,
            window: row.parsed("window_id")?,
            factors: row.json("factors")?,
            source: row.parsed("source")?,
            created_at: row.time("created_at")?,
            expires_at: row.time("expires_at")?,
        },
        sealed: Zeroizing::new(row.bytes("sealed")?),
    })
}
