//! The recorder of a process: starts recordings, owns the commit thread, knows its health.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

use super::{
    Backlog, Clock, Health, JOURNAL, KEYS, RECORDING, RecorderConfig, Recovered, SessionRecorder, Status,
    commit,
    disk::Disk,
    indexer::Indexer,
    lane::Lane,
    queue::{Queue, Shared, lock},
    recover,
};
use crate::{
    crypt::Sealer,
    error::{RecordError, storage as storage_error},
    header::{self, Header, Preamble, RecordingId},
    keys::{Key, KeyFile, Keys, commitment},
    sign::CheckpointSigner,
    storage::{LocalFolder, Storage},
    wire::{Mask, Masking},
};

/// However it is configured, an accepted event waits no longer than this for its flush.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// What the service, the sessions and the commit thread share.
pub(crate) struct Core {
    pub(crate) config: RecorderConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) signer: Arc<CheckpointSigner>,
    pub(crate) clock: Clock,
    pub(crate) indexer: Indexer,
    /// Bytes accepted and not yet durable, of all sessions.
    pub(crate) waiting: AtomicUsize,
    pub(crate) sessions: Mutex<HashMap<RecordingId, Arc<Shared>>>,
    frozen: AtomicBool,
    trouble: Mutex<Trouble>,
    schedule: Mutex<Schedule>,
    wakeup: Condvar,
}

#[derive(Default)]
struct Trouble {
    /// The disk refuses data.
    frozen: Option<(String, i64)>,
    /// The disk takes data, and still no more may come: too much waits for the object store.
    held: Option<(String, i64)>,
    backlog: Option<Backlog>,
    last_error: Option<(String, i64)>,
}

#[derive(Default)]
struct Schedule {
    dirty: Vec<Arc<Shared>>,
    first_dirty: Option<Instant>,
    urgent: bool,
    merges: VecDeque<(Instant, Arc<Shared>)>,
    squeeze: bool,
    stop: bool,
}

/// Where the sessions are that stand still for the object store.
enum Standing {
    Begins,
    Since(i64),
    Over,
}

/// What the commit thread does next.
pub(crate) struct Work {
    pub(crate) dirty: Vec<Arc<Shared>>,
    /// Sessions whose journal stretches move into their own file now.
    pub(crate) due: Vec<Arc<Shared>>,
    /// Nothing goes to the journal this time, so that it can be emptied.
    pub(crate) squeeze: bool,
}

impl Core {
    /// Puts a session on the commit thread's list, or asks it to start at once.
    pub(crate) fn wake(&self, session: Option<&Arc<Shared>>, urgent: bool) {
        let mut schedule = lock(&self.schedule);
        schedule.dirty.extend(session.cloned());
        schedule.first_dirty.get_or_insert_with(Instant::now);
        schedule.urgent |= urgent;
        drop(schedule);
        self.wakeup.notify_one();
    }

    pub(crate) fn merge_later(&self, sessions: impl Iterator<Item = Arc<Shared>>) {
        let due = Instant::now() + self.config.checkpoint_interval;
        lock(&self.schedule).merges.extend(sessions.map(|session| (due, session)));
    }

    /// Empties the journal with the next work.
    pub(crate) fn squeeze(&self) {
        let mut schedule = lock(&self.schedule);
        schedule.squeeze = true;
        schedule.urgent = true;
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.schedule).stop
    }

    /// Waits for work. `None`: the service was dropped and everything is written.
    pub(crate) fn next_work(&self) -> Option<Work> {
        let mut schedule = lock(&self.schedule);
        loop {
            let now = Instant::now();
            let pace = self.config.flush_interval.min(LONGEST_FLUSH);
            let flush = schedule.first_dirty.map(|first| first + pace);
            // Merges wait for one another: with thousands of sessions one is due at any moment.
            let merge = schedule.merges.front().map(|(due, _)| *due + pace);
            let next = flush.into_iter().chain(merge).min();
            if schedule.urgent || schedule.stop || next.is_some_and(|due| due <= now) {
                let idle = schedule.dirty.is_empty() && schedule.merges.is_empty();
                if schedule.stop && idle {
                    return None;
                }
                return Some(schedule.take(now));
            }
            schedule = match next {
                Some(due) => {
                    self.wakeup
                        .wait_timeout(schedule, due.saturating_duration_since(now))
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0
                }
                None => self.wakeup.wait(schedule).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    /// Waits before the disk is tried again; shorter when the service stops.
    pub(crate) fn pause(&self, time: Duration) {
        let schedule = lock(&self.schedule);
        let until = Instant::now() + time;
        let mut schedule = schedule;
        while !schedule.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            schedule =
                self.wakeup.wait_timeout(schedule, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Tells every session that nothing can be written for now.
    pub(crate) fn freeze(&self, why: &str) {
        let now = (self.clock)();
        {
            let mut trouble = lock(&self.trouble);
            trouble.last_error = Some((why.to_owned(), now));
            if trouble.frozen.is_some() {
                return;
            }
            trouble.frozen = Some((why.to_owned(), now));
            self.frozen.store(true, Ordering::Release);
        }
        self.stand_still(why, now);
    }

    fn stand_still(&self, why: &str, since: i64) {
        tracing::error!(reason = why, "recording is frozen");
        for session in self.live() {
            session.status.send_if_modified(|status| {
                let goes = !matches!(status, Status::Failed { .. });
                if goes {
                    *status = Status::Frozen { why: why.to_owned(), since };
                }
                goes
            });
        }
    }

    /// The disk takes data again.
    pub(crate) fn thaw(&self) {
        {
            let mut trouble = lock(&self.trouble);
            if trouble.frozen.take().is_none() || trouble.held.is_some() {
                return;
            }
            self.frozen.store(false, Ordering::Release);
        }
        self.go_on();
    }

    fn go_on(&self) {
        tracing::info!("recording goes on");
        for session in self.live() {
            session.status.send_if_modified(|status| {
                let frozen = matches!(status, Status::Frozen { .. });
                if frozen {
                    *status = Status::Healthy;
                }
                frozen
            });
            session.space.notify_waiters();
        }
    }

    /// Stops every recording: the disk did not come back in time.
    pub(crate) fn fail_all(&self, why: &str) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        tracing::error!(reason = why, sessions = sessions.len(), "recording failed");
        for session in sessions.values() {
            session.fail(self, why);
        }
        // A new session may try again: it is refused while its own header cannot be written.
        let mut trouble = lock(&self.trouble);
        trouble.frozen = None;
        self.frozen.store(trouble.held.is_some(), Ordering::Release);
    }

    /// How much waits for the object store. Beyond the bound every session stands still, with everything accepted before
    /// on the disk; `why` says what keeps the store from taking it. Sessions that stood still for the configured time are
    /// ended, and still sealed.
    pub(crate) fn set_backlog(&self, backlog: Backlog, why: &str) {
        let now = (self.clock)();
        let standing = {
            let mut trouble = lock(&self.trouble);
            trouble.backlog = Some(backlog);
            match (backlog.is_beyond(), trouble.held.take()) {
                (false, None) => return,
                (false, Some(_)) => {
                    self.frozen.store(trouble.frozen.is_some(), Ordering::Release);
                    trouble.frozen.is_none().then_some(Standing::Over)
                }
                (true, None) => {
                    trouble.held = Some((why.to_owned(), now));
                    trouble.last_error = trouble.held.clone();
                    self.frozen.store(true, Ordering::Release);
                    Some(Standing::Begins)
                }
                (true, Some((first, since))) => {
                    trouble.held = Some((first, since));
                    Some(Standing::Since(since))
                }
            }
        };
        match standing {
            Some(Standing::Begins) => self.stand_still(why, now),
            Some(Standing::Since(since)) => {
                let patience = i64::try_from(self.config.fail_after.as_micros()).unwrap_or(i64::MAX);
                if now.saturating_sub(since) >= patience {
                    self.live().iter().for_each(|session| session.shut(why));
                }
            }
            Some(Standing::Over) => self.go_on(),
            None => {}
        }
    }

    pub(crate) fn is_live(&self, id: &RecordingId) -> bool {
        lock(&self.sessions).contains_key(id)
    }

    pub(crate) fn note_error(&self, why: &str) {
        lock(&self.trouble).last_error = Some((why.to_owned(), (self.clock)()));
    }

    fn live(&self) -> Vec<Arc<Shared>> {
        lock(&self.sessions).values().cloned().collect()
    }

    fn stop(&self) {
        lock(&self.schedule).stop = true;
        self.wakeup.notify_all();
    }
}

impl Schedule {
    fn take(&mut self, now: Instant) -> Work {
        let squeeze = std::mem::take(&mut self.squeeze) || self.stop;
        let mut due = Vec::new();
        while self.merges.front().is_some_and(|(at, _)| squeeze || *at <= now) {
            due.extend(self.merges.pop_front().map(|(_, session)| session));
        }
        self.first_dirty = None;
        self.urgent = false;
        Work { dirty: std::mem::take(&mut self.dirty), due, squeeze }
    }
}

/// The recorder of a process; clones are the same recorder. When the last one and every
/// [`SessionRecorder`] are gone, everything accepted is written and the commit thread ends.
#[derive(Clone)]
pub struct RecorderService {
    inner: Arc<Inner>,
}

/// The service itself; sessions hold it too, so that it outlives them.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    /// The journals of earlier runs.
    old_journals: Vec<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there was reported when it happened.
            thread.join().ok();
        }
        self.core.indexer.end();
    }
}

impl RecorderService {
    /// Opens the recording folder and starts the commit thread. Call [`Self::recover`] next.
    ///
    /// # Errors
    /// When the folder cannot be used, another process records there, or nobody could read the
    /// recordings.
    pub fn open(
        config: RecorderConfig,
        signer: Arc<CheckpointSigner>,
        clock: Clock,
    ) -> Result<Self, RecordError> {
        let folder = LocalFolder::open(&config.folder).map_err(storage_error("opening the folder"))?;
        Self::open_on(Arc::new(folder), config, signer, clock)
    }

    /// Like [`Self::open`], on another kind of storage; `config.folder` is not used.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        config: RecorderConfig,
        signer: Arc<CheckpointSigner>,
        clock: Clock,
    ) -> Result<Self, RecordError> {
        if config.recipients.read.is_empty() && config.recipients.reveal.is_empty() {
            return Err(RecordError::NoRecipients);
        }
        let names = storage.list().map_err(storage_error("listing the folder"))?;
        let old_journals: Vec<String> = names.into_iter().filter(|n| n.ends_with(JOURNAL)).collect();
        let disk = Disk::new(Arc::clone(&storage), &old_journals)?;
        let indexer = Indexer::start(config.recipients.clone())?;
        let core = Arc::new(Core {
            config,
            storage,
            signer,
            clock,
            indexer,
            waiting: AtomicUsize::new(0),
            sessions: Mutex::default(),
            frozen: AtomicBool::new(false),
            trouble: Mutex::default(),
            schedule: Mutex::default(),
            wakeup: Condvar::new(),
        });
        let thread = commit::spawn(Arc::clone(&core), disk)?;
        let inner = Inner { core, old_journals, thread: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The state of recording now.
    pub fn health(&self) -> Health {
        let core = &self.inner.core;
        let trouble = lock(&core.trouble);
        Health {
            free: core.storage.free().ok(),
            needed: core.config.low_space,
            frozen: trouble.frozen.clone().or_else(|| trouble.held.clone()),
            last_error: trouble.last_error.clone(),
            live: lock(&core.sessions).len(),
            waiting: core.waiting.load(Ordering::Relaxed),
            backlog: trouble.backlog,
        }
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.inner.core)
    }

    /// Begins a recording. Its header and wrapped keys are durable when this returns.
    ///
    /// # Errors
    /// When recording is frozen, space is low, the id is taken, the header does not fit, or the
    /// disk refuses. The session must not start then.
    pub async fn start(&self, header: Header) -> Result<SessionRecorder, RecordError> {
        let inner = Arc::clone(&self.inner);
        let started = tokio::task::spawn_blocking(move || start(inner, header)).await;
        started.map_err(|_| RecordError::Crypto("starting a recording"))?
    }

    /// Closes what an earlier run left open: call once, before the first session starts. A recording
    /// that is damaged is reported and left as it is; it keeps no other from being closed.
    pub fn recover(&self) -> Vec<Recovered> {
        recover::recover(&self.inner.core, &self.inner.old_journals)
    }
}

impl std::fmt::Debug for RecorderService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecorderService({:?})", self.inner.core.config.folder)
    }
}

fn start(inner: Arc<Inner>, header: Header) -> Result<SessionRecorder, RecordError> {
    let core = &inner.core;
    {
        let trouble = lock(&core.trouble);
        if let Some((why, _)) = trouble.frozen.as_ref().or(trouble.held.as_ref()) {
            return Err(RecordError::Frozen { why: why.clone() });
        }
        if let Some(Backlog { bytes, bound }) = trouble.backlog.filter(Backlog::is_high) {
            return Err(RecordError::Backlog { bytes, bound });
        }
    }
    let free = core.storage.free().map_err(storage_error("asking for free space"))?;
    if free < core.config.low_space {
        return Err(RecordError::LowSpace { free, needed: core.config.low_space });
    }
    let made = create(core, header);
    if let Err(e @ RecordError::Storage { .. }) = &made {
        core.note_error(&e.to_string());
    }
    let shared = made?;
    lock(&core.sessions).insert(shared.id.clone(), Arc::clone(&shared));
    Ok(SessionRecorder::new(inner, shared))
}

fn create(core: &Core, header: Header) -> Result<Arc<Shared>, RecordError> {
    let reveal = !core.config.recipients.reveal.is_empty();
    let keys = Keys { data: Key::generate()?, reveal: reveal.then(Key::generate).transpose()? };
    let (id, started) = (header.id.clone(), header.started);
    let preamble = Preamble {
        data_key: hex::encode(commitment(&id, &keys.data, false)),
        reveal_key: keys.reveal.as_ref().map(|key| hex::encode(commitment(&id, key, true))),
        signer: core.signer.public_key().to_string(),
        header,
    };
    let (bytes, digest) = header::encode(&preamble, &core.signer)?;
    let key_file = KeyFile::wrap(&id, &keys, &core.config.recipients)?.to_bytes()?;
    let crypto = || RecordError::Crypto("preparing a data key");
    let sealer = Sealer::new(&keys.data, digest).ok_or_else(crypto)?;
    let mask = keys.reveal.as_ref().and_then(|key| Mask::new(key, digest));

    let name = format!("{id}{RECORDING}");
    let mut file = core.storage.create(&name).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => RecordError::Exists(id.to_string()),
        _ => storage_error("creating a recording")(e),
    })?;
    let durable = (|| {
        core.storage.replace(&format!("{id}{KEYS}"), &key_file)?;
        file.append(&bytes)?;
        file.sync()?;
        core.storage.sync_names()
    })();
    if let Err(e) = durable {
        // Nothing was recorded yet: what is left of the two files says nothing.
        core.storage.remove(&name).ok();
        core.storage.remove(&format!("{id}{KEYS}")).ok();
        return Err(storage_error("writing a recording's header")(e));
    }
    let mut lane = Lane::new(id.clone(), digest, started, sealer, Arc::clone(&core.signer), file);
    lane.data = core.config.index.then_some(keys.data);
    Ok(Arc::new(Shared {
        id,
        queue: Mutex::new(Queue::new(started, Masking { mask, count: 0 })),
        lane: Mutex::new(lane),
        space: Notify::new(),
        status: watch::Sender::new(Status::Healthy),
    }))
}
