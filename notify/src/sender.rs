//! Takes messages out of the store and sends them, a few at a time.

use std::{fmt, time::Duration};

use cofferdam_access::{
    clock::{SharedClock, Timestamp},
    notice::{Channel, Event, Mail},
    store::{Notification, Store, StoreError},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{Hook, Mailer};

/// Messages taken at a time.
const BATCH: u32 = 8;
/// A message that was taken and not heard of again (its node died) is taken again after so long, seconds. Longer than a
/// whole batch may take.
const LEASE: i64 = 900;
/// Attempts before a message is given up.
const ATTEMPTS: u64 = 8;
/// A message is given up after so long, seconds: what it tells of is decided by then, or too late.
const TOO_OLD: i64 = 24 * 3600;
/// Between looks into the store where nothing of this process says that there is more.
const LOOK: Duration = Duration::from_secs(5);

/// A message that did not arrive.
#[derive(Debug)]
pub(crate) struct Undelivered {
    /// Whether trying again can help.
    again: bool,
    why: String,
}

impl Undelivered {
    /// Trying again can help.
    pub(crate) fn for_now(why: impl fmt::Display) -> Self {
        Self { again: true, why: why.to_string() }
    }

    /// It cannot.
    pub(crate) fn for_good(why: impl fmt::Display) -> Self {
        Self { again: false, why: why.to_string() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sender {
    /// The store.
    pub store: Store,
    /// The time.
    pub clock: SharedClock,
    /// The interface's own address, which links begin with.
    pub public_url: Url,
    /// Sends e-mail, where it is configured.
    pub mail: Option<Mailer>,
    /// Tells a program, where one is configured.
    pub hook: Option<Hook>,
}

/// Sends until `stop`. To be run on every node, also where no channel is configured: what nobody takes is put away.
pub async fn run(sender: Sender, stop: CancellationToken) {
    let mut changes = sender.store.watch_revision();
    loop {
        // All that is due, then a pause.
        while let Ok(1..) = sender.pass().await.inspect_err(|e| {
            tracing::warn!(error = %e, "messages could not be taken out of the store");
        }) {
            if stop.is_cancelled() {
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Sender {
    /// Sends what is due now, at most a few; answers how many were taken.
    ///
    /// # Errors
    /// When the store does not answer. What was taken then comes again later, under the same id.
    pub async fn pass(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let taken = self.store.take_notifications(now, now.plus_seconds(LEASE), BATCH).await?;
        for message in &taken {
            self.one(message).await?;
        }
        Ok(taken.len())
    }

    async fn one(&self, message: &Notification) -> Result<(), StoreError> {
        let sent = match self.too_old(message) {
            true => Err(Undelivered::for_good("it could not be sent for a day")),
            false => self.send(message).await,
        };
        let now = self.clock.now();
        match sent {
            Ok(outcome) => self.store.notification_done(now, message.id, outcome).await,
            Err(Undelivered { again: true, why }) if message.attempts < ATTEMPTS => {
                tracing::info!(id = %message.id, attempt = message.attempts, why, "a message is put off");
                self.store.notification_put_off(now, message.id, next(now, message.attempts), &why).await
            }
            Err(Undelivered { why, .. }) => {
                tracing::warn!(id = %message.id, channel = message.channel.as_str(), why, "a message is given up");
                self.store.notification_given_up(now, message, &why).await
            }
        }
    }

    fn too_old(&self, message: &Notification) -> bool {
        self.clock.now().since(message.created_at) > TOO_OLD * 1_000_000
    }

    /// Answers what became of it.
    async fn send(&self, message: &Notification) -> Result<&'static str, Undelivered> {
        let id = message.id.to_string();
        match (message.channel, &self.mail, &self.hook) {
            (Channel::Mail, Some(mailer), _) => {
                let mail: Mail = serde_json::from_str(&message.body).map_err(Undelivered::for_good)?;
                mailer.send(&self.public_url, &id, &mail).await?;
                Ok("sent")
            }
            (Channel::Webhook, _, Some(hook)) => {
                hook.send(self.clock.now(), &id, &self.linked(&id, &message.body)?).await?;
                Ok("sent")
            }
            (Channel::Mail, None, _) | (Channel::Webhook, _, None) => Ok("not configured"),
        }
    }

    /// The event with its id and the address of its page.
    fn linked(&self, id: &str, body: &str) -> Result<String, Undelivered> {
        let event: Event = serde_json::from_str(body).map_err(Undelivered::for_good)?;
        let url = self.public_url.join(&event.path).map_err(Undelivered::for_good)?;
        let mut value = serde_json::to_value(&event).map_err(Undelivered::for_good)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("path");
            fields.insert("id".into(), id.into());
            fields.insert("url".into(), url.as_str().into());
        }
        Ok(value.to_string())
    }
}

/// When it is tried again: after 30 s, then twice as long each time, an hour at most.
fn next(now: Timestamp, attempts: u64) -> Timestamp {
    let doubled = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(7);
    now.plus_seconds((30i64 << doubled).min(3600))
}
