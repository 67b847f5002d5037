//! A session that is allowed, audited and recorded: what the relay, the timers, the triggers and people with orders
//! share. Nothing in here knows the protocol.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    clock::{SharedClock, Timestamp},
    grant::Grant,
    ids::SessionId,
};
use cofferdam_recorder::{Event, SessionRecorder};
use cofferdam_vault::agent::RemoteLease;
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::TaskTracker;

use super::{
    control::{Control, Ended},
    end::{End, Frozen},
    orders::Order,
};
use crate::{
    detect::triggers::{Finding, Observation, Response, Triggers},
    transfer::FileNumbers,
};

/// Messages to the person that wait for a slow screen.
const NOTICES: usize = 16;
/// How long the watch over a session may wait for the recorder to take an event of its own.
const SOON: Duration = Duration::from_millis(250);

/// How the session reaches the person, apart from its channels.
#[async_trait]
pub(crate) trait PersonLeg: Send + Sync + fmt::Debug {
    /// Closes the person's connection in order, saying why where the protocol can. Bounded in time by the caller.
    async fn close(&self, why: Option<&str>);
    /// Closes the person's socket at once.
    fn cut(&self);
}

/// What a session needs from the program around it, besides its own parts.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The proof that policy allowed it.
    pub(crate) grant: Grant,
    /// SHA-256 of the decision record, hexadecimal: what the vault looks for.
    pub(crate) decision_sha256: String,
    /// Where everything is recorded.
    pub(crate) recorder: SessionRecorder,
    /// The time.
    pub(crate) clock: SharedClock,
    /// What is looked out for, over all sessions of this process.
    pub(crate) triggers: Arc<Mutex<Triggers>>,
    /// Where findings go to be audited.
    pub(crate) findings: mpsc::Sender<(SessionId, Finding)>,
    /// It stands still while no approver watches.
    pub(crate) supervised: bool,
}

/// A live session.
pub(crate) struct Session {
    parts: Parts,
    control: Control,
    last_input: AtomicI64,
    not_after: AtomicI64,
    notices: broadcast::Sender<Arc<str>>,
    channels: AtomicU32,
    moved: AtomicU64,
    files: FileNumbers,
    up: AtomicU64,
    down: AtomicU64,
    lease: Mutex<Option<RemoteLease>>,
    /// Approvers who watch. Held while a change of it takes effect, so that coming and going cannot overtake each other.
    watchers: tokio::sync::Mutex<u32>,
    /// The same, to be asked without waiting.
    watched_by: AtomicU32,
    /// Tasks that still have last words for the person; the end waits for them a moment.
    pub(crate) tasks: TaskTracker,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

impl Session {
    /// A session that starts now.
    pub(crate) fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        Self {
            control: Control::default(),
            last_input: AtomicI64::new(now.micros()),
            not_after: AtomicI64::new(parts.grant.not_after().micros()),
            notices: broadcast::Sender::new(NOTICES),
            channels: AtomicU32::new(0),
            moved: AtomicU64::new(0),
            files: FileNumbers::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            lease: Mutex::new(None),
            watchers: tokio::sync::Mutex::new(0),
            watched_by: AtomicU32::new(0),
            tasks: TaskTracker::new(),
            parts,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> SessionId {
        self.parts.grant.session()
    }
    /// The proof that it may exist.
    pub(crate) fn grant(&self) -> &Grant {
        &self.parts.grant
    }
    /// SHA-256 of the decision record that permitted it, hexadecimal.
    pub(crate) fn decision_sha256(&self) -> &str {
        &self.parts.decision_sha256
    }
    /// Its switch.
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }
    /// Its recorder.
    pub(crate) fn recorder(&self) -> &SessionRecorder {
        &self.parts.recorder
    }
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
    /// Bytes arrived from the person: human input.
    pub(crate) fn heard_person(&self, bytes: usize) {
        self.heard_client(bytes);
        self.touch();
    }
    /// Bytes arrived that the person's client sent by itself: no human input.
    pub(crate) fn heard_client(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// Bytes arrived from the target.
    pub(crate) fn heard_target(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// Bytes from the person and from the target so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
    /// Human input arrived.
    pub(crate) fn touch(&self) {
        self.last_input.store(self.now().micros(), Ordering::Relaxed);
    }
    /// When the last human input arrived.
    pub(crate) fn last_input(&self) -> Timestamp {
        Timestamp(self.last_input.load(Ordering::Relaxed))
    }
    /// The absolute end as it stands.
    pub(crate) fn not_after(&self) -> Timestamp {
        Timestamp(self.not_after.load(Ordering::Relaxed))
    }
    /// Moves the absolute end: only what policy said goes in here.
    pub(super) fn set_not_after(&self, at: Timestamp) {
        self.not_after.store(at.micros(), Ordering::Relaxed);
    }
    /// A number for a new channel, unique in the session.
    pub(crate) fn next_channel(&self) -> u32 {
        self.channels.fetch_add(1, Ordering::Relaxed)
    }
    /// Numbers for files, unique in the session.
    pub(crate) fn file_numbers(&self) -> FileNumbers {
        self.files.clone()
    }
    /// Bytes of files were moved.
    pub(crate) fn add_moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }
    /// Bytes of files moved since this was last asked.
    pub(crate) fn take_moved(&self) -> u64 {
        self.moved.swap(0, Ordering::Relaxed)
    }
    /// Keeps the lease until the session ends.
    pub(crate) fn hold(&self, lease: RemoteLease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }
    /// Whether a secret was leased, and so may have been used.
    pub(super) fn holds_lease(&self) -> bool {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
    /// Returns the lease.
    pub(super) fn release(&self) {
        drop(self.lease.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
    /// Messages for the person, for each of their screens.
    pub(crate) fn notices(&self) -> broadcast::Receiver<Arc<str>> {
        self.notices.subscribe()
    }

    /// Hands an event to the recorder. When it is not accepted the session ends: no record, no session.
    pub(crate) async fn record(&self, event: Event) -> Result<(), Ended> {
        match self.parts.recorder.record(event).await {
            Ok(()) => Ok(()),
            Err(stopped) => {
                self.control.end(End::RecorderFailed { why: stopped.to_string() });
                Err(Ended)
            }
        }
    }

    /// Tells the person something; it is recorded first.
    pub(crate) async fn say(&self, text: &str) -> Result<(), Ended> {
        self.record(Event::Notice { text: text.to_owned() }).await?;
        self.show(text);
        Ok(())
    }

    /// Tells the person something from where nobody may wait: when the recorder does not take it at once, it is shown
    /// all the same. For messages of the gateway's own, never for content.
    pub(super) async fn announce(&self, text: &str) {
        self.record_soon(Event::Notice { text: text.to_owned() }).await;
        self.show(text);
    }

    async fn record_soon(&self, event: Event) {
        if tokio::time::timeout(SOON, self.record(event)).await.is_err() {
            tracing::warn!(session = %self.id(), "the recorder did not take an event of the gateway's own in time");
        }
    }

    /// Shows without recording: for what has to be said while the recorder itself is in trouble.
    pub(super) fn show(&self, text: &str) {
        // No receiver: there is no screen yet, and the reason stands in the recording.
        self.notices.send(Arc::from(text)).map(drop).unwrap_or_default();
    }

    /// Freezes the session and says so.
    pub(crate) async fn freeze(&self, why: Frozen) {
        let (sentence, by) = (
            why.sentence(),
            match &why {
                Frozen::Suspended { by, .. } => by.clone(),
                Frozen::Finding { trigger } => trigger.clone(),
                Frozen::Unwatched => "supervision".to_owned(),
            },
        );
        if self.control.freeze(why) {
            self.record_soon(Event::Suspend { by }).await;
            self.announce(&sentence).await;
        }
    }

    /// A person lets a frozen session go on. A supervised one still waits for somebody who watches.
    pub(crate) async fn thaw(&self, by: &str) {
        let watchers = self.watchers.lock().await;
        if !self.parts.supervised || *watchers > 0 {
            self.let_go(by).await;
        } else if self.control.frozen().is_some_and(|why| why != Frozen::Unwatched) {
            self.control.freeze(Frozen::Unwatched);
            self.announce(&Frozen::Unwatched.sentence()).await;
        }
    }

    /// Before anything is relayed: a session that has to be watched waits.
    pub(crate) async fn wait_for_watcher(&self) {
        if self.parts.supervised {
            self.freeze(Frozen::Unwatched).await;
        }
    }

    /// Whether it stands still while nobody watches.
    pub(crate) fn is_supervised(&self) -> bool {
        self.parts.supervised
    }

    /// Approvers who watch.
    pub(crate) fn watchers(&self) -> u32 {
        self.watched_by.load(Ordering::Relaxed)
    }

    /// An approver watches from now on: a session that only waited for that goes on, which is answered.
    pub(crate) async fn watched(&self, by: &str) -> bool {
        let mut watchers = self.watchers.lock().await;
        *watchers = watchers.saturating_add(1);
        self.watched_by.store(*watchers, Ordering::Relaxed);
        let goes_on = self.control.frozen() == Some(Frozen::Unwatched);
        if goes_on {
            self.let_go(by).await;
        }
        goes_on
    }

    /// An approver watches no longer: a supervised session that nobody watches stands still, which is answered.
    pub(crate) async fn unwatched(&self) -> bool {
        let mut watchers = self.watchers.lock().await;
        *watchers = watchers.saturating_sub(1);
        self.watched_by.store(*watchers, Ordering::Relaxed);
        let waits = self.parts.supervised
            && *watchers == 0
            && self.control.frozen().is_none()
            && !self.control.is_ended();
        if waits {
            self.freeze(Frozen::Unwatched).await;
        }
        waits
    }

    /// Lets it go on and says so.
    async fn let_go(&self, by: &str) {
        if self.control.frozen().is_some() {
            self.record_soon(Event::Resume { by: by.to_owned() }).await;
            self.touch();
            self.control.thaw();
            self.announce(&format!("session resumed by {by}")).await;
        }
    }

    /// Looks at something that happened; what does not fit is recorded, answered and audited before this returns. A
    /// caller who forwards afterwards asks [`Control::running`] first, and so forwards nothing after a finding that ends
    /// or suspends.
    pub(crate) async fn observe(&self, observation: Observation<'_>) -> Result<(), Ended> {
        let id = self.id().to_string();
        let found = self.parts.triggers.lock().unwrap_or_else(PoisonError::into_inner).observe(
            &id,
            observation,
            self.now().micros(),
        );
        for finding in found {
            self.answer(finding).await?;
        }
        Ok(())
    }

    /// The triggers need not remember this session any longer.
    pub(super) async fn forget(&self) {
        self.observe(Observation::Closed).await.unwrap_or_default();
    }

    async fn answer(&self, finding: Finding) -> Result<(), Ended> {
        self.record(Event::Finding(Box::new(cofferdam_recorder::Finding {
            trigger: finding.trigger.as_str().to_owned(),
            severity: finding.severity.as_str().to_owned(),
            text: finding.text.clone(),
            response: finding.response.as_str().to_owned(),
        })))
        .await?;
        let (trigger, response) = (finding.trigger.as_str().to_owned(), finding.response);
        // The switch first: other channels of the session must not run on while the audit is slow.
        match response {
            Response::Notify => {}
            Response::Suspend => self.freeze(Frozen::Finding { trigger }).await,
            Response::End => {
                self.control.end(End::Finding { trigger });
            }
        }
        if self.parts.findings.send((self.id(), finding)).await.is_err() {
            // Nobody audits any more: a session must not go on unaudited.
            self.control.end(End::Internal { why: "the audit of findings stopped".into() });
        }
        if self.control.is_ended() { Err(Ended) } else { Ok(()) }
    }

    /// Carries out a person's order.
    pub(super) async fn obey(&self, order: Order) {
        match order {
            Order::Suspend { by, reason } => self.freeze(Frozen::Suspended { by, reason }).await,
            Order::Resume { by } => self.thaw(&by).await,
            Order::End { by, reason } => {
                self.control.end(End::Killed { by, reason });
            }
            Order::Message { by, text } => {
                self.announce(&format!("message from {by}: {text}")).await;
            }
        }
    }
}

/// Text for a terminal in raw mode: on lines of its own, marked as the gateway's.
pub(crate) fn on_screen(text: &str) -> Bytes {
    Bytes::from(format!("\r\n[cofferdam] {text}\r\n"))
}
