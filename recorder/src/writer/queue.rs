//! The session's end of the recorder: a queue bounded in bytes, filled by the relay, emptied by
//! the commit thread.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{Notify, broadcast, oneshot, oneshot::error::RecvError, watch};

use super::{
    Sealed, Status,
    lane::Lane,
    service::{Core, Inner},
};
use crate::{
    error::{RecordError, RecorderStopped},
    event::{End, Event, TimedEvent},
    header::RecordingId,
    wire::{self, MAX_DATA, Masking, OVERHEAD},
};

/// So many waiting bytes make the commit thread start at once.
const KICK: usize = 256 * 1024;
/// What a session may still have waiting when all together have too much.
const SCARCE: usize = 64 * 1024;
/// Events that a live viewer may lag behind before it loses some.
const LIVE: usize = 1024;

/// What the session and the commit thread share.
pub(crate) struct Shared {
    pub(crate) id: RecordingId,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) lane: Mutex<Lane>,
    pub(crate) space: Notify,
    pub(crate) status: watch::Sender<Status>,
}

pub(crate) struct Queue {
    /// Encoded events.
    pub(crate) buf: Vec<u8>,
    /// Bytes taken by the commit thread and not yet durable.
    pub(crate) in_flight: usize,
    /// Time of the last event.
    pub(crate) time: i64,
    /// When the oldest event in `buf` was accepted.
    pub(crate) oldest: Option<i64>,
    /// The same, for what is in flight.
    pub(crate) oldest_in_flight: Option<i64>,
    /// Whether the commit thread has this session on its list.
    pub(crate) dirty: bool,
    /// Whether the commit thread was asked to start at once.
    pub(crate) kicked: bool,
    pub(crate) masking: Masking,
    pub(crate) stopped: Option<RecorderStopped>,
    /// Nothing more is accepted, and what was accepted is written and sealed.
    pub(crate) shut: Option<RecorderStopped>,
    /// Set once the session asked for the end.
    pub(crate) end: Option<End>,
    pub(crate) on_sealed: Option<oneshot::Sender<Result<Sealed, RecordError>>>,
    pub(crate) on_flushed: Vec<oneshot::Sender<Result<(), RecorderStopped>>>,
    pub(crate) live: Option<broadcast::Sender<TimedEvent>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not stop the recording of other sessions.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(crate) fn new(started: i64, masking: Masking) -> Self {
        Self {
            buf: Vec::new(),
            in_flight: 0,
            time: started,
            oldest: None,
            oldest_in_flight: None,
            dirty: false,
            kicked: false,
            masking,
            stopped: None,
            shut: None,
            end: None,
            on_sealed: None,
            on_flushed: Vec::new(),
            live: None,
        }
    }
}

impl Shared {
    /// Stops the recording of this session; whoever waits is told.
    pub(crate) fn fail(&self, core: &Core, why: &str) {
        let stopped = RecorderStopped { why: why.to_owned() };
        lock(&core.sessions).remove(&self.id);
        let (sealed, flushed) = {
            let mut queue = lock(&self.queue);
            queue.stopped.get_or_insert_with(|| stopped.clone());
            core.waiting.fetch_sub(queue.buf.len(), Ordering::Relaxed);
            queue.buf = Vec::new();
            queue.live = None;
            (queue.on_sealed.take(), std::mem::take(&mut queue.on_flushed))
        };
        // A receiver that has gone away needs no answer.
        if let Some(tell) = sealed {
            tell.send(Err(stopped.clone().into())).ok();
        }
        for tell in flushed {
            tell.send(Err(stopped.clone())).ok();
        }
        self.status.send_replace(Status::Failed { why: why.to_owned() });
        self.space.notify_waiters();
    }

    /// Ends the session, and leaves it its seal: the disk takes data, but no more may come.
    pub(crate) fn shut(&self, why: &str) {
        {
            let mut queue = lock(&self.queue);
            if queue.shut.is_some() || queue.stopped.is_some() {
                return;
            }
            queue.shut = Some(RecorderStopped { why: why.to_owned() });
        }
        tracing::error!(recording = %self.id, reason = why, "a session is ended: it cannot be recorded");
        self.status.send_replace(Status::Failed { why: why.to_owned() });
        self.space.notify_waiters();
    }
}

/// Asks for the end when the last handle goes away without having asked.
struct Handle {
    // Keeps the commit thread alive until this session is sealed.
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        if queue.end.is_none() && queue.stopped.is_none() {
            queue.end = Some(End::because("the gateway dropped the session without an end"));
            queue.kicked = true;
            let dirty = std::mem::replace(&mut queue.dirty, true);
            drop(queue);
            self.inner.core.wake((!dirty).then_some(&self.shared), true);
        }
    }
}

/// Records one session. Cheap to clone; all clones write the same recording.
#[derive(Clone)]
pub struct SessionRecorder {
    handle: Arc<Handle>,
}

enum Accept {
    Done,
    Full,
}

impl SessionRecorder {
    pub(crate) fn new(inner: Arc<Inner>, shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { inner, shared }) }
    }

    /// The recording's id.
    pub fn id(&self) -> &RecordingId {
        &self.handle.shared.id
    }

    /// Accepts an event, with the time of now. Only after this may its bytes reach the other side.
    ///
    /// Waits while the queue is full or the disk refuses. Cancel-safe for events of at most 64 KiB;
    /// of a longer one the first pieces may have been accepted.
    ///
    /// # Errors
    /// [`RecorderStopped`] when nothing more can be recorded: the session must stop.
    pub async fn record(&self, event: Event) -> Result<(), RecorderStopped> {
        self.record_at(event, None).await
    }

    /// Like [`Self::record`], for an event that happened at a known time (microseconds since 1970,
    /// UTC); one earlier than the last event's is raised to that.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn record_at(&self, event: Event, at: Option<i64>) -> Result<(), RecorderStopped> {
        let len = wire::data_of(&event).map_or(0, |data| data.len());
        if len <= MAX_DATA {
            return self.one(&event, at).await;
        }
        for start in (0..len).step_by(MAX_DATA) {
            self.one(&wire::piece(&event, start), at).await?;
        }
        Ok(())
    }

    async fn one(&self, event: &Event, at: Option<i64>) -> Result<(), RecorderStopped> {
        let Handle { inner, shared } = &*self.handle;
        let core = &inner.core;
        if matches!(self.accept(event, at)?, Accept::Done) {
            return Ok(());
        }
        loop {
            let mut room = std::pin::pin!(shared.space.notified());
            room.as_mut().enable();
            if matches!(self.accept(event, at)?, Accept::Done) {
                return Ok(());
            }
            // Commit thread and uploader end the session in time; this is for when they hang themselves.
            let patience = core.config.fail_after + Duration::from_secs(5);
            if tokio::time::timeout(patience, room).await.is_err() {
                shared.fail(core, "the disk accepted nothing for too long");
            }
        }
    }

    fn accept(&self, event: &Event, at: Option<i64>) -> Result<Accept, RecorderStopped> {
        let Handle { inner, shared } = &*self.handle;
        let core = &inner.core;
        let need = wire::data_len(event) + OVERHEAD;
        let now = (core.clock)();
        let mut queue = lock(&shared.queue);
        if let Some(stopped) = queue.stopped.as_ref().or(queue.shut.as_ref()) {
            return Err(stopped.clone());
        }
        if queue.end.is_some() {
            return Err(RecorderStopped { why: "the recording was already finished".to_owned() });
        }
        if core.is_frozen() || self.is_slow(&queue, now) {
            return Ok(Accept::Full);
        }
        let waiting = queue.buf.len() + queue.in_flight;
        let total = core.waiting.load(Ordering::Relaxed);
        let scarce = total > core.config.total_queue_bytes;
        let bound = if scarce { SCARCE } else { core.config.queue_bytes };
        if waiting > 0 && waiting + need > bound {
            return Ok(Accept::Full);
        }
        let before = queue.buf.len();
        let time = at.unwrap_or(now).max(queue.time);
        let delta = time.abs_diff(queue.time);
        let Queue { buf, masking, .. } = &mut *queue;
        if wire::encode(buf, delta, event, masking).is_err() {
            buf.truncate(before);
            return Err(RecorderStopped { why: "an event could not be encoded".to_owned() });
        }
        queue.time = time;
        queue.oldest.get_or_insert(now);
        let added = queue.buf.len() - before;
        core.waiting.fetch_add(added, Ordering::Relaxed);
        show_live(&mut queue, time, event);
        let enough = queue.buf.len() >= KICK;
        let kick = enough && !std::mem::replace(&mut queue.kicked, true);
        let was_dirty = std::mem::replace(&mut queue.dirty, true);
        drop(queue);
        if kick || !was_dirty {
            core.wake((!was_dirty).then_some(shared), kick);
        }
        Ok(Accept::Done)
    }

    /// Whether something accepted waits for the disk for too long.
    fn is_slow(&self, queue: &Queue, now: i64) -> bool {
        let Handle { inner, shared } = &*self.handle;
        let core = &inner.core;
        let patience = i64::try_from(core.config.slow_after.as_micros()).unwrap_or(i64::MAX);
        let slow = queue
            .oldest_in_flight
            .or(queue.oldest)
            .is_some_and(|oldest| now.saturating_sub(oldest) > patience);
        if slow {
            shared.status.send_if_modified(|status| {
                let healthy = *status == Status::Healthy;
                if healthy {
                    *status = Status::Frozen { why: "the disk is too slow".to_owned(), since: now };
                }
                healthy
            });
        }
        slow
    }

    /// Whether events are accepted at this moment without waiting; cheap.
    pub(crate) fn is_healthy(&self) -> bool {
        *self.handle.shared.status.borrow() == Status::Healthy
    }

    /// The state of this recording; a session watches it beside its relay. Never hold the borrowed
    /// value across an `await`: the commit thread waits for it when the state changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.handle.shared.status.subscribe()
    }

    /// The events as they are accepted, for somebody who watches live. Masked input shows its length
    /// only. A viewer that falls behind loses events (the receiver says how many), never the session.
    pub fn watch_live(&self) -> broadcast::Receiver<TimedEvent> {
        let mut queue = lock(&self.handle.shared.queue);
        queue.live.get_or_insert_with(|| broadcast::Sender::new(LIVE)).subscribe()
    }

    /// Waits until everything accepted before this call is durable.
    ///
    /// # Errors
    /// [`RecorderStopped`] when that will not happen any more.
    pub async fn flush(&self) -> Result<(), RecorderStopped> {
        let Handle { inner, shared } = &*self.handle;
        let core = &inner.core;
        let gone = || RecorderStopped { why: "the recorder was shut down".to_owned() };
        let (tell, told) = oneshot::channel();
        {
            let mut queue = lock(&shared.queue);
            if let Some(stopped) = &queue.stopped {
                return Err(stopped.clone());
            }
            if queue.buf.is_empty() && queue.in_flight == 0 {
                return Ok(());
            }
            queue.on_flushed.push(tell);
            queue.kicked = true;
            let dirty = std::mem::replace(&mut queue.dirty, true);
            drop(queue);
            core.wake((!dirty).then_some(shared), true);
        }
        self.answer(told).await?.map_err(|_| gone())?
    }

    /// Waits for the commit thread, but not for one that hangs.
    async fn answer<T>(&self, told: oneshot::Receiver<T>) -> Result<Result<T, RecvError>, RecorderStopped> {
        let Handle { inner, shared } = &*self.handle;
        // Twice the time in which it fails the session itself: data and seal are two batches.
        let patience = inner.core.config.fail_after.saturating_mul(2) + Duration::from_secs(10);
        match tokio::time::timeout(patience, told).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                let why = "the disk did not answer for too long";
                shared.fail(&inner.core, why);
                Err(RecorderStopped { why: why.to_owned() })
            }
        }
    }

    /// Ends the recording: everything is written, indexed and sealed. Later events are refused.
    ///
    /// # Errors
    /// When the recording failed before, or the seal could not be written; what was accepted before
    /// is closed at the next start in that case.
    pub async fn finish(&self, end: End) -> Result<Sealed, RecordError> {
        let Handle { inner, shared } = &*self.handle;
        let core = &inner.core;
        let (tell, told) = oneshot::channel();
        {
            let mut queue = lock(&shared.queue);
            if let Some(stopped) = &queue.stopped {
                return Err(stopped.clone().into());
            }
            if queue.end.is_some() {
                return Err(RecorderStopped { why: "the recording was already finished".to_owned() }.into());
            }
            queue.end = Some(end);
            queue.on_sealed = Some(tell);
            queue.kicked = true;
            let dirty = std::mem::replace(&mut queue.dirty, true);
            drop(queue);
            core.wake((!dirty).then_some(shared), true);
        }
        let gone = |_| RecorderStopped { why: "the recorder was shut down".to_owned() };
        self.answer(told).await?.map_err(gone)?
    }
}

impl std::fmt::Debug for SessionRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionRecorder({})", self.handle.shared.id)
    }
}

fn show_live(queue: &mut Queue, at: i64, event: &Event) {
    let Some(live) = &queue.live else { return };
    let event = match event {
        Event::Input { channel, data, masked: true } => {
            Event::MaskedInput { channel: *channel, len: data.len() as u32 }
        }
        other => other.clone(),
    };
    if live.send(TimedEvent { at, event }).is_err() {
        // The last viewer went away: the channel's memory goes too.
        queue.live = None;
    }
}
