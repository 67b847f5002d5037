//! The commit thread: takes what all sessions have waiting and makes it durable, together.
//!
//! A batch is prepared (compressed, encrypted, chained) once. Writing it is then repeated, with the
//! very same bytes, until the disk took it or the time to wait is over: nothing that was accepted
//! is lost by a disk that was full for a while, and no nonce is used for two texts.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

use super::{
    RECORDING, Status,
    disk::Disk,
    lane::{Lane, Phase},
    queue::{Shared, lock},
    service::{Core, Work},
    trailer::{self, Sealed},
};
use crate::{
    crypt::{HISTORY_LEN, Tools},
    error::{RecordError, RecorderStopped},
    event::{End, Event},
    wire,
};

/// From this many files on, one sync of the whole file system is cheaper than one for each.
const MANY_FILES: usize = 16;
/// From this many sessions or bytes on, several threads prepare a batch.
const MANY_SESSIONS: usize = 64;
const MANY_BYTES: usize = 1 << 20;
/// Memory for what all sessions' segments are compressed against.
const HISTORY_MEMORY: usize = 64 << 20;

/// One session's part of a batch.
struct Entry {
    shared: Arc<Shared>,
    merge: bool,
    plain: Vec<u8>,
    taken: usize,
    end: Option<End>,
    flushed: Vec<oneshot::Sender<Result<(), RecorderStopped>>>,
    /// Length of the file before this batch, once the batch is written there.
    written: Option<u64>,
    journaled: bool,
    became_unmerged: bool,
    failed: bool,
}

pub(crate) fn spawn(core: Arc<Core>, disk: Disk) -> Result<JoinHandle<()>, RecordError> {
    let tools = (0..core.config.threads.max(1)).map(|_| Tools::new()).collect::<Result<_, _>>()?;
    let thread = Committer { core, disk, tools, unmerged: 0 };
    thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || thread.run())
        .map_err(|source| RecordError::Storage { what: "starting the commit thread", source })
}

struct Committer {
    core: Arc<Core>,
    disk: Disk,
    tools: Vec<Tools>,
    /// Sessions of which the journal holds something that their own file does not.
    unmerged: usize,
}

impl Committer {
    fn run(mut self) {
        while let Some(work) = self.core.next_work() {
            self.work(work);
        }
        if self.unmerged == 0 {
            self.disk.close();
        }
    }

    fn work(&mut self, work: Work) {
        let mut entries = collect(&work);
        let journal = self.prepare(&mut entries, work.squeeze);
        self.count_unmerged(&entries);
        if !self.commit(&mut entries, &journal) {
            return;
        }
        let merge_later = entries.iter().filter(|e| e.became_unmerged && !e.failed);
        self.core.merge_later(merge_later.map(|e| Arc::clone(&e.shared)));
        let mut closing = Vec::new();
        for mut entry in entries {
            self.release(&mut entry);
            if entry.end.is_some() && !entry.failed {
                closing.push(entry);
            }
        }
        if !closing.is_empty() {
            self.seal(closing);
        }
        self.tidy_journal();
    }

    /// Takes what waits and makes the bytes to be written; returns the journal's batch.
    fn prepare(&mut self, entries: &mut [Entry], squeeze: bool) -> Vec<u8> {
        let core = &self.core;
        let bytes: usize = entries.iter_mut().map(|entry| take(core, entry)).sum();
        let many = entries.len() >= MANY_SESSIONS || (bytes >= MANY_BYTES && entries.len() > 1);
        let threads = if many { self.tools.len() } else { 1 };
        let chunk = entries.len().div_ceil(threads).max(1);
        let mut batches: Vec<Vec<u8>> = Vec::new();
        thread::scope(|scope| {
            let mut parts = entries.chunks_mut(chunk).zip(&mut self.tools);
            let first = parts.next();
            let others: Vec<_> = parts
                .map(|(part, tools)| scope.spawn(move || prepare_all(core, part, tools, squeeze)))
                .collect();
            batches.extend(first.map(|(part, tools)| prepare_all(core, part, tools, squeeze)));
            for other in others {
                // A panic is a fault of this program: its sessions have nothing journaled and fail.
                batches.extend(other.join().ok());
            }
        });
        batches.concat()
    }

    fn count_unmerged(&mut self, entries: &[Entry]) {
        for entry in entries {
            let mut lane = lock(&entry.shared.lane);
            let now = lane.has_unmerged() && lane.phase == Phase::Open;
            let before = std::mem::replace(&mut lane.counted_unmerged, now);
            if entry.failed && before {
                self.disk.pin();
            }
            self.unmerged = self.unmerged + usize::from(now) - usize::from(before);
        }
    }

    /// Writes until it worked; `false`: the disk did not come back and every session failed.
    fn commit(&mut self, entries: &mut [Entry], journal: &[u8]) -> bool {
        let started = Instant::now();
        loop {
            let error = match self.write(entries, journal) {
                Ok(()) => {
                    self.core.thaw();
                    return true;
                }
                Err(e) => e,
            };
            let why = format!("the recording folder refuses data: {error}");
            self.core.freeze(&why);
            if started.elapsed() >= self.core.config.fail_after || self.core.is_stopping() {
                self.fail(entries, &why);
                return false;
            }
            self.core.pause(self.core.config.retry_interval);
        }
    }

    fn write(&mut self, entries: &mut [Entry], journal: &[u8]) -> io::Result<()> {
        let mut fresh = 0;
        for entry in entries.iter_mut().filter(|e| !e.failed && e.written.is_none()) {
            let mut lane = lock(&entry.shared.lane);
            if lane.out.is_empty() {
                continue;
            }
            let before = lane.file.len();
            let Lane { file, out, .. } = &mut *lane;
            match file.append(out) {
                Ok(()) => {
                    entry.written = Some(before);
                    fresh += 1;
                }
                Err(e) if concerns_all(&e) => return Err(e),
                Err(e) => {
                    drop(lane);
                    self.fail_one(entry, &e);
                }
            }
        }
        if fresh > 0 || entries.iter().any(|e| e.written.is_some()) {
            self.sync_files(entries)?;
        }
        if !journal.is_empty() && entries.iter().any(|e| !e.journaled) {
            self.disk.append(journal)?;
            entries.iter_mut().for_each(|e| e.journaled = true);
        }
        Ok(())
    }

    fn sync_files(&mut self, entries: &mut [Entry]) -> io::Result<()> {
        let open = entries.iter().filter(|e| e.written.is_some() && !e.failed).count();
        if open > MANY_FILES {
            return self.core.storage.sync_everything().inspect_err(|_| rewind_all(entries));
        }
        for entry in entries.iter_mut().filter(|e| !e.failed) {
            if entry.written.is_none() {
                continue;
            }
            let synced = lock(&entry.shared.lane).file.sync();
            match synced {
                Ok(()) => {}
                Err(e) if concerns_all(&e) => {
                    rewind(entry);
                    return Err(e);
                }
                Err(e) => self.fail_one(entry, &e),
            }
        }
        Ok(())
    }

    /// Tells the session that its part is durable.
    fn release(&self, entry: &mut Entry) {
        if entry.failed {
            return;
        }
        let announce = {
            let mut lane = lock(&entry.shared.lane);
            lane.out = Vec::new();
            std::mem::take(&mut lane.announce)
        };
        if let Some(hook) = &self.core.config.on_checkpoint {
            announce.iter().for_each(|checkpoint| hook(checkpoint));
        }
        entry.written = None;
        self.give_back(entry);
        let held = self.core.is_frozen();
        entry.shared.status.send_if_modified(|status| {
            let frozen = !held && matches!(status, Status::Frozen { .. });
            if frozen {
                *status = Status::Healthy;
            }
            frozen
        });
        for tell in entry.flushed.drain(..) {
            // Whoever asked may have gone away.
            tell.send(Ok(())).ok();
        }
        entry.shared.space.notify_waiters();
    }

    fn give_back(&self, entry: &mut Entry) {
        let taken = std::mem::take(&mut entry.taken);
        self.core.waiting.fetch_sub(taken, Ordering::Relaxed);
        let mut queue = lock(&entry.shared.queue);
        queue.in_flight = queue.in_flight.saturating_sub(taken);
        queue.oldest_in_flight = None;
    }

    /// Index, seal, footer: a second batch, for the sessions that end.
    fn seal(&mut self, mut entries: Vec<Entry>) {
        let mut sealed: Vec<Option<Sealed>> = Vec::new();
        for entry in &mut entries {
            let made = {
                let mut lane = lock(&entry.shared.lane);
                let end = entry.end.take().unwrap_or_else(|| End::because("closed"));
                trailer::of_lane(&lane, end, &self.core.signer).map(|(bytes, sealed)| {
                    lane.out = bytes;
                    sealed
                })
            };
            sealed.push(match made {
                Ok(made) => Some(made),
                Err(e) => {
                    self.fail_one(entry, &e);
                    None
                }
            });
        }
        if !self.commit(&mut entries, &[]) {
            return;
        }
        for (mut entry, sealed) in entries.into_iter().zip(sealed) {
            let Some(sealed) = sealed.filter(|_| !entry.failed) else { continue };
            let data = {
                let mut lane = lock(&entry.shared.lane);
                lane.phase = Phase::Done;
                lane.data.take()
            };
            let path = self.core.storage.path(&format!("{}{RECORDING}", entry.shared.id));
            if let (Some(data), Some(path)) = (data, path) {
                self.core.indexer.add(path, data);
            }
            lock(&self.core.sessions).remove(&entry.shared.id);
            self.release(&mut entry);
            let mut queue = lock(&entry.shared.queue);
            queue.live = None;
            let stopped = RecorderStopped { why: "the recording was already finished".to_owned() };
            queue.stopped.get_or_insert(stopped);
            if let Some(tell) = queue.on_sealed.take() {
                // Whoever asked may have gone away; the seal stands.
                tell.send(Ok(sealed)).ok();
            }
        }
    }

    fn fail_one(&mut self, entry: &mut Entry, error: &io::Error) {
        let why = format!("its recording file failed: {error}");
        tracing::error!(recording = %entry.shared.id, %error, "a recording failed");
        self.core.note_error(&why);
        entry.failed = true;
        self.abandon(&entry.shared);
        self.give_back(entry);
        entry.shared.fail(&self.core, &why);
    }

    fn fail(&mut self, entries: &mut [Entry], why: &str) {
        let all: Vec<_> = lock(&self.core.sessions).values().cloned().collect();
        for shared in &all {
            self.abandon(shared);
        }
        for entry in entries {
            rewind(entry);
            self.give_back(entry);
            for tell in entry.flushed.drain(..) {
                tell.send(Err(RecorderStopped { why: why.to_owned() })).ok();
            }
        }
        self.core.fail_all(why);
    }

    /// A failed session keeps what the journal holds of it for the next start.
    fn abandon(&mut self, shared: &Shared) {
        let mut lane = lock(&shared.lane);
        if std::mem::take(&mut lane.counted_unmerged) {
            self.unmerged = self.unmerged.saturating_sub(1);
            self.disk.pin();
        }
        lane.phase = Phase::Done;
        lane.drop_text();
    }

    fn tidy_journal(&mut self) {
        if self.disk.len() == 0 {
            return;
        }
        if self.unmerged == 0 {
            if let Err(error) = self.disk.clear() {
                // It only grows; the next batch tries again.
                tracing::warn!(%error, "the recording journal could not be emptied");
            }
        } else if self.disk.len() > self.core.config.journal_bytes {
            self.core.squeeze();
        }
    }
}

fn collect(work: &Work) -> Vec<Entry> {
    let entry = |shared: &Arc<Shared>, merge: bool| Entry {
        shared: Arc::clone(shared),
        merge,
        plain: Vec::new(),
        taken: 0,
        end: None,
        flushed: Vec::new(),
        written: None,
        journaled: false,
        became_unmerged: false,
        failed: false,
    };
    let mut entries: Vec<Entry> = work.due.iter().map(|shared| entry(shared, true)).collect();
    entries.extend(work.dirty.iter().map(|shared| entry(shared, false)));
    // A session stands in a batch once: two parts of it could be prepared out of order.
    entries.sort_by_key(|e| (Arc::as_ptr(&e.shared), !e.merge));
    entries.dedup_by_key(|e| Arc::as_ptr(&e.shared));
    entries
}

/// Takes what the session has waiting; returns how many bytes.
fn take(core: &Core, entry: &mut Entry) -> usize {
    let mut queue = lock(&entry.shared.queue);
    let now = (core.clock)();
    if let (Some(end), None) = (queue.end.clone(), &queue.stopped) {
        let delta = now.max(queue.time).abs_diff(queue.time);
        let before = queue.buf.len();
        let event = Event::End(Box::new(end.clone()));
        let super::queue::Queue { buf, masking, .. } = &mut *queue;
        // An end that cannot be written still stands in the seal.
        if wire::encode(buf, delta, &event, masking).is_err() {
            buf.truncate(before);
        } else {
            let added = queue.buf.len() - before;
            queue.time = now.max(queue.time);
            core.waiting.fetch_add(added, Ordering::Relaxed);
        }
        entry.end = Some(end);
    }
    entry.plain = std::mem::take(&mut queue.buf);
    entry.taken = entry.plain.len();
    entry.flushed = std::mem::take(&mut queue.on_flushed);
    queue.in_flight += entry.taken;
    queue.oldest_in_flight = queue.oldest.take();
    queue.dirty = false;
    queue.kicked = false;
    entry.taken
}

fn prepare_all(core: &Core, entries: &mut [Entry], tools: &mut Tools, squeeze: bool) -> Vec<u8> {
    let mut journal = Vec::new();
    let now = (core.clock)();
    let keep = history_for(lock(&core.sessions).len());
    for entry in entries {
        lock(&entry.shared.lane).keep = keep;
        let plain = std::mem::take(&mut entry.plain);
        if let Err(error) = prepare_one(core, entry, &plain, tools, squeeze, now, &mut journal) {
            tracing::error!(recording = %entry.shared.id, %error, "a recording failed");
            entry.failed = true;
            core.waiting.fetch_sub(std::mem::take(&mut entry.taken), Ordering::Relaxed);
            lock(&entry.shared.lane).phase = Phase::Done;
            entry.shared.fail(core, &error.to_string());
        }
    }
    journal
}

/// How much text before a segment each session keeps: a lot while there are few sessions.
fn history_for(sessions: usize) -> usize {
    (HISTORY_MEMORY / sessions.max(1)).clamp(HISTORY_LEN / 8, HISTORY_LEN)
}

fn prepare_one(
    core: &Core,
    entry: &mut Entry,
    plain: &[u8],
    tools: &mut Tools,
    squeeze: bool,
    now: i64,
    journal: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let mut lane = lock(&entry.shared.lane);
    if lane.phase != Phase::Open {
        entry.end = None;
        return Ok(());
    }
    let every = micros(core.config.checkpoint_interval);
    if entry.end.is_some() {
        lane.phase = Phase::Closing;
        return lane.add_to_file(tools, plain, now, every);
    }
    if squeeze || lane.is_direct(plain.len()) {
        return lane.add_to_file(tools, plain, now, every);
    }
    if entry.merge && lane.has_unmerged() {
        lane.add_to_file(tools, &[], now, 0)?;
    }
    let had = lane.has_unmerged();
    lane.add_to_journal(tools, plain, journal)?;
    entry.became_unmerged = !had && lane.has_unmerged();
    Ok(())
}

/// Undoes the writing of a part, so that it is written again.
fn rewind(entry: &mut Entry) {
    if let Some(before) = entry.written.take() {
        // Where even that fails, appending goes on from the recorder's own count of bytes.
        lock(&entry.shared.lane).file.truncate(before).ok();
    }
}

fn rewind_all(entries: &mut [Entry]) {
    entries.iter_mut().for_each(rewind);
}

/// Whether an error is the whole disk's rather than one file's.
fn concerns_all(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
            | ErrorKind::StaleNetworkFileHandle
    )
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
