//! Messages on their way out. They are written in the transaction of what they tell of, so that none is lost and none
//! tells of what did not happen; a sender takes them one by one, on one node at a time.

use super::{
    Store,
    change::{Change, Quiet, to_i64},
    db::{Row, args},
    error::StoreError,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::NotificationId,
    notice::{self, Channel, Message},
    people::User,
    site::Settings,
    window::Window,
};

/// A message that was sent or given up is kept for so long, seconds.
const KEPT: i64 = 7 * 86_400;
/// Longest outcome that is kept, characters: it quotes what a server said.
const OUTCOME: usize = 256;

/// A message as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id, by which a receiver can tell that it comes a second time.
    pub id: NotificationId,
    /// How it goes out.
    pub channel: Channel,
    /// The message, JSON: [`notice::Mail`] or [`notice::Event`].
    pub body: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// How often it was taken, this time included.
    pub attempts: u64,
}

impl Store {
    /// Takes messages that are due, at most `limit`: nobody else gets them before `until`. Ask again for those that were
    /// neither sent nor put off by then.
    pub async fn take_notifications(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        // Mostly there is none, and a reader is cheaper than a place in the line of writers.
        let waiting = "SELECT id FROM notification WHERE done_at IS NULL AND next_at <= $1 LIMIT 1";
        if self.0.pools.row(waiting, args![now]).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut change = self.change(&Act::system("notify", now)).await?;
        let taken = change
            .rows(
                "UPDATE notification SET next_at = $2, attempts = attempts + 1 WHERE id IN \
                 (SELECT id FROM notification WHERE done_at IS NULL AND next_at <= $1 ORDER BY next_at LIMIT $3) \
                 RETURNING id, channel, body, created_at, attempts",
                args![now, until, i64::from(limit)],
            )
            .await?;
        let taken = taken.iter().map(notification).collect::<Result<_, _>>()?;
        change.commit_quietly(Quiet::Outbox).await?;
        Ok(taken)
    }

    /// The message was taken over by its receiver, or there is nobody to take it: `outcome` says which.
    pub async fn notification_done(
        &self,
        now: Timestamp,
        id: NotificationId,
        outcome: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(&Act::system("notify", now)).await?;
        finish(&mut change, id, outcome).await?;
        change.execute("DELETE FROM notification WHERE done_at < $1", args![now.plus_seconds(-KEPT)]).await?;
        change.commit_quietly(Quiet::Outbox).await
    }

    /// Sending failed: tried again at `next`.
    pub async fn notification_put_off(
        &self,
        now: Timestamp,
        id: NotificationId,
        next: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(&Act::system("notify", now)).await?;
        change
            .execute(
                "UPDATE notification SET next_at = $2, outcome = $3 WHERE id = $1 AND done_at IS NULL",
                args![id.to_string(), next, bounded(why)],
            )
            .await?;
        change.commit_quietly(Quiet::Outbox).await
    }

    /// Sending failed for good; the audit log says so.
    pub async fn notification_given_up(
        &self,
        now: Timestamp,
        given: &Notification,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut change = self.change(&Act::system("notify", now)).await?;
        finish(&mut change, given.id, why).await?;
        let event = AuditEvent::new(AuditKind::NotificationFailed, given.id)
            .with("channel", given.channel.as_str())
            .with("attempts", given.attempts)
            .with("reason", bounded(why));
        change.commit(event).await.map(drop)
    }

    /// How many messages wait to be sent.
    pub async fn notifications_waiting(&self) -> Result<u64, StoreError> {
        let row =
            self.0.pools.row("SELECT COUNT(*) AS n FROM notification WHERE done_at IS NULL", vec![]).await?;
        row.map_or(Ok(0), |r| r.count("n"))
    }
}

/// Writes the messages about what happens to a window in the transaction in which it happens.
pub(super) async fn tell_of_window(
    change: &mut Change<'_>,
    act: &Act,
    kind: AuditKind,
    window: &Window,
) -> Result<(), StoreError> {
    let (people, settings) = told(change).await?;
    for message in notice::of_window(kind, act, window, &people, &settings) {
        put(change, &message).await?;
    }
    Ok(())
}

/// The people who may be told, and how the site writes times.
pub(super) async fn told(change: &mut Change<'_>) -> Result<(Vec<User>, Settings), StoreError> {
    let rows = change.rows("SELECT body FROM site_item WHERE kind = 'user' ORDER BY name", vec![]).await?;
    let people: Vec<User> = rows.iter().map(|r| r.json("body")).collect::<Result<_, _>>()?;
    let settings = change.row("SELECT body FROM site_item WHERE kind = 'settings'", vec![]).await?;
    let settings = settings.map(|r| r.json("body")).transpose()?.unwrap_or_default();
    Ok((people, settings))
}

pub(super) async fn put(change: &mut Change<'_>, message: &Message) -> Result<(), StoreError> {
    let at = change.at();
    let body = match message {
        Message::Mail(mail) => serde_json::to_string(mail),
        Message::Webhook(event) => serde_json::to_string(event),
    };
    let body = body.map_err(|e| StoreError::damaged("notification", e))?;
    let id = NotificationId::new(at, &mut rand::rng()).to_string();
    change
        .execute(
            "INSERT INTO notification (id, channel, body, created_at, next_at, attempts) \
             VALUES ($1, $2, $3, $4, $4, $5)",
            args![id, message.channel().as_str(), body, at, to_i64(0)],
        )
        .await
        .map(drop)
}

async fn finish(change: &mut Change<'_>, id: NotificationId, outcome: &str) -> Result<(), StoreError> {
    let at = change.at();
    change
        .execute(
            "UPDATE notification SET done_at = $2, outcome = $3 WHERE id = $1 AND done_at IS NULL",
            args![id.to_string(), at, bounded(outcome)],
        )
        .await
        .map(drop)
}

fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(OUTCOME).collect()
}

fn notification(row: &Row) -> Result<Notification, StoreError> {
    Ok(Notification {
        id: row.parsed("id")?,
        channel: row.parsed("channel")?,
        body: row.text("body")?,
        created_at: row.time("created_at")?,
        attempts: row.count("attempts")?,
    })
}
