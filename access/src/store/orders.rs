//! Orders to live sessions. Any process may give one; the node that holds the session carries it out.

use std::str::FromStr;

use serde::Serialize;

use super::{
    Store,
    db::{Row, args},
    error::StoreError,
    sessions::not_open,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{OrderId, SessionId},
};

/// What a session is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// Freeze both ways.
    Suspend,
    /// Go on after a suspension.
    Resume,
    /// End now.
    End,
    /// Show the reason's text to the person.
    Message,
}

impl OrderKind {
    /// As written in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::End => "end",
            Self::Message => "message",
        }
    }
}

impl FromStr for OrderKind {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Suspend, Self::Resume, Self::End, Self::Message]
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| format!("{s:?} is not an order: use suspend, resume, end or message"))
    }
}

/// An order as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The session it is for.
    pub session: SessionId,
    /// What to do.
    pub kind: OrderKind,
    /// Who gave it, as the audit log writes it.
    pub by: String,
    /// Why, or the message.
    pub reason: String,
    /// When it was given.
    pub at: Timestamp,
    /// When it was carried out.
    pub done_at: Option<Timestamp>,
    /// What came of it.
    pub outcome: Option<String>,
}

const ALL: &str = "SELECT id, session, kind, actor, reason, at, done_at, outcome FROM session_order";

impl Store {
    /// Gives an order to an open session and moves the revision, so that its node looks.
    pub async fn order(
        &self,
        act: &Act,
        id: OrderId,
        session: SessionId,
        kind: OrderKind,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let given = change
            .execute(
                "INSERT INTO session_order (id, session, node, kind, actor, reason, at) \
                 SELECT $1, id, node, $3, $4, $5, $6 FROM session WHERE id = $2 AND ended_at IS NULL",
                args![id.to_string(), session.to_string(), kind.as_str(), act.actor.as_str(), reason, act.at],
            )
            .await?;
        if given == 0 {
            return Err(not_open(&mut change, &session.to_string()).await?);
        }
        change.policy_sees_it();
        let event = AuditEvent::new(AuditKind::SessionOrdered, session)
            .with("order", kind.as_str())
            .with("reason", reason);
        change.commit(event).await.map(drop)
    }

    /// Orders for sessions of this node that are not carried out, the oldest first.
    pub async fn pending_orders(&self, node: &str) -> Result<Vec<Order>, StoreError> {
        let sql = format!("{ALL} WHERE node = $1 AND done_at IS NULL ORDER BY at, id LIMIT 1000");
        self.0.pools.rows(sql, args![node]).await?.iter().map(order).collect()
    }

    /// Orders given to a session, the oldest first.
    pub async fn orders_of(&self, session: SessionId) -> Result<Vec<Order>, StoreError> {
        let sql = format!("{ALL} WHERE session = $1 ORDER BY at, id LIMIT 1000");
        self.0.pools.rows(sql, args![session.to_string()]).await?.iter().map(order).collect()
    }

    /// Notes that an order was carried out, or why not. Answers whether this was the first to say so.
    pub async fn order_done(&self, act: &Act, id: OrderId, outcome: &str) -> Result<bool, StoreError> {
        let mut change = self.change(act).await?;
        let row = change
            .row(
                "UPDATE session_order SET done_at = $2, outcome = $3 WHERE id = $1 AND done_at IS NULL \
                 RETURNING session, kind",
                args![id.to_string(), act.at, outcome],
            )
            .await?;
        let Some(row) = row else {
            change.abandon().await?;
            return Ok(false);
        };
        let event = AuditEvent::new(AuditKind::SessionOrdered, row.text("session")?)
            .with("order", row.text("kind")?)
            .with("outcome", outcome);
        change.commit(event).await?;
        Ok(true)
    }
}

fn order(row: &Row) -> Result<Order, StoreError> {
    Ok(Order {
        id: row.parsed("id")?,
        session: row.parsed("session")?,
        kind: row.parsed("kind")?,
        by: row.text("actor")?,
        reason: row.text("reason")?,
        at: row.time("at")?,
        done_at: row.opt_time("done_at")?,
        outcome: row.opt_text("outcome")?,
    })
}
