//! Brings the spool to the object store: parts while a session lives, the rest and the manifest once it is sealed. Only
//! what was read back and found whole is removed here.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    buried::Buried,
    error::{RemoteError, local},
    manifest::{self, HOLD, MANIFEST, MAX_PART, Manifest, Part, StoredFile, object, part_name, part_number},
    spool::{self, Spooled},
    store::{Put, RemoteStore},
};
use crate::{
    desktop::DesktopPlayer,
    header::{Header, RecordingId, sha256_one},
    keys::MAX_KEY_FILE,
    retention::{GONE, HOLD as HELD},
    writer::{Backlog, Core, INDEX, KEYS, OCR, RECORDING, RecorderService, lock},
};

/// The side files that are cut into parts like the recording.
const SIDES: [&str; 3] = [INDEX, OCR, ".torn"];
/// Everything beside a recording that goes with it.
const ALL_SIDES: [&str; 6] = [KEYS, INDEX, OCR, ".torn", ".lost", HELD];
/// How long the index of a sealed recording is waited for, in microseconds.
const INDEX_PATIENCE: i64 = 120_000_000;
/// How long what is read off a desktop's pictures is waited for. Nothing else waits: every byte of the recording is stored.
const OCR_PATIENCE: i64 = 3_600_000_000;
/// The pause after a round in which everything went well; also how often the backlog is measured.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// The longest pause after rounds that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A number anywhere between 0 and 1, so that many gateways do not come back at the same moment.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// How recordings go to the object store.
#[derive(Debug, Clone)]
pub struct UploadConfig {
    /// A part is stored once it has so many bytes.
    pub part_bytes: u64,
    /// A shorter part is stored once so much time has passed since the last.
    pub part_interval: Duration,
    /// Beyond so many bytes that the store does not have yet, sessions stand still.
    pub spool_bytes: u64,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self { part_bytes: 4 << 20, part_interval: Duration::from_secs(60), spool_bytes: 10 << 30 }
    }
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Parts stored.
    pub parts: usize,
    /// Recordings that the store has whole, and that are gone from here.
    pub finished: Vec<RecordingId>,
    /// What failed; the recording's name where it is its own trouble.
    pub failures: Vec<(Option<RecordingId>, RemoteError)>,
}

/// What is known of one recording on its way.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Whether the store was asked what it has already.
    resumed: bool,
    /// Where each stored part ends in the file.
    ends: Vec<u64>,
    /// How far the file was seen to hold whole segments.
    whole: u64,
    /// When the last part was stored, or the recording first seen.
    last: i64,
    /// When it was first seen sealed.
    sealed: Option<i64>,
    /// The file's length when it was last looked at.
    looked: u64,
    /// What the store returned was not what it was given.
    doubted: bool,
    /// Nobody writes it and it has no seal: it stays here as it is until the next start closes it.
    left: bool,
}

impl Progress {
    fn stored(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// Ships one recorder's folder. See [`super::UploaderThread`] for the thread that does it all the time.
pub struct Uploader {
    core: Arc<Core>,
    store: RemoteStore,
    config: UploadConfig,
    jitter: Jitter,
    known: Mutex<BTreeMap<RecordingId, Progress>>,
    /// The recording that the next round begins with.
    next: Mutex<Option<RecordingId>>,
    trouble: Mutex<Trouble>,
    buried: tokio::sync::Mutex<Buried>,
}

#[derive(Default)]
struct Trouble {
    failures: u32,
    why: Option<String>,
}

impl Uploader {
    /// Ships what `service` records. Call after [`RecorderService::recover`].
    pub fn new(service: &RecorderService, store: RemoteStore, config: UploadConfig, jitter: Jitter) -> Self {
        Self {
            core: service.core(),
            store,
            config,
            jitter,
            known: Mutex::default(),
            next: Mutex::default(),
            trouble: Mutex::default(),
            buried: tokio::sync::Mutex::default(),
        }
    }

    /// Measures what waits, and stops or releases the sessions accordingly.
    pub fn watch(&self) {
        let bytes = self.backlog();
        let backlog = Backlog { bytes, bound: self.config.spool_bytes };
        let why = lock(&self.trouble).why.clone().unwrap_or_else(|| "it takes them too slowly".to_owned());
        let why = format!("{bytes} bytes wait for the object store, more than {}: {why}", backlog.bound);
        self.core.set_backlog(backlog, &why);
    }

    /// Bytes of recordings that the store does not have, or not as they are.
    fn backlog(&self) -> u64 {
        let known = lock(&self.known);
        let sizes = self.spooled().into_iter().filter_map(|id| {
            let size = std::fs::metadata(self.path(&id, RECORDING)).ok()?.len();
            let stored = match known.get(&id) {
                Some(progress) if progress.left => size,
                Some(progress) if !progress.doubted => progress.stored(),
                _ => 0,
            };
            Some(size.saturating_sub(stored))
        });
        sizes.sum()
    }

    /// Stores everything that is due. After a failure of the store itself the round ends; the next one begins with the
    /// recording behind, so that one object that fails for ever keeps no other back.
    pub async fn round(&self) -> Round {
        let mut round = Round::default();
        let mut ids = self.spooled();
        lock(&self.known).retain(|id, _| ids.binary_search(id).is_ok());
        let first = lock(&self.next).take();
        let start = first.map_or(0, |first| ids.partition_point(|id| *id < first));
        let start = start.min(ids.len());
        ids.rotate_left(start);
        for (index, id) in ids.iter().enumerate() {
            let failed = match self.ship(id, &mut round).await {
                Ok(()) => continue,
                Err(e) => e,
            };
            let concerns_all = failed.concerns_all();
            round.failures.push(((!concerns_all).then(|| id.clone()), failed));
            if concerns_all {
                *lock(&self.next) = ids.get(index + 1).cloned();
                break;
            }
        }
        if round.failures.is_empty() {
            self.look_after_buried().await.unwrap_or_else(|e| round.failures.push((None, e)));
            self.sweep(&ids).await.unwrap_or_else(|e| round.failures.push((None, e)));
        }
        self.judge(&round);
        round
    }

    /// How long to wait after the last round.
    pub fn pause(&self) -> Duration {
        let failures = lock(&self.trouble).failures;
        if failures == 0 {
            return TICK;
        }
        let longest = TICK.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
        longest.mul_f64(0.5 + (self.jitter)().clamp(0.0, 1.0) / 2.0)
    }

    /// Tells the log when things turn bad, and when they are good again.
    fn judge(&self, round: &Round) {
        let mut trouble = lock(&self.trouble);
        let Some((id, error)) = round.failures.first() else {
            if std::mem::take(&mut trouble.failures) > 0 {
                tracing::info!("recordings go to the object store again");
            }
            trouble.why = None;
            return;
        };
        trouble.failures = trouble.failures.saturating_add(1);
        let why = error.to_string();
        if trouble.why.as_ref() != Some(&why) {
            let recording = id.as_ref().map(ToString::to_string);
            tracing::error!(
                recording,
                error = why,
                "recordings do not go to the object store; they stay on this machine"
            );
            self.core.note_error(&why);
        }
        trouble.why = Some(why);
    }

    /// The recordings of the folder, in order.
    fn spooled(&self) -> Vec<RecordingId> {
        let names = self.core.storage.list().unwrap_or_else(|error| {
            tracing::error!(%error, "the recording folder could not be listed");
            Vec::new()
        });
        let mut ids: Vec<RecordingId> =
            names.iter().filter_map(|name| name.strip_suffix(RECORDING)?.parse().ok()).collect();
        ids.sort();
        ids
    }

    fn path(&self, id: &RecordingId, ending: &str) -> PathBuf {
        self.core.config.folder.join(format!("{id}{ending}"))
    }

    /// Whether somebody deletes or has deleted it.
    fn is_buried(&self, id: &RecordingId) -> bool {
        self.path(id, GONE).exists()
    }

    async fn look_after_buried(&self) -> Result<(), RemoteError> {
        let now = (self.core.clock)();
        let names = self.core.storage.list().map_err(local("listing the folder"))?;
        let mut buried = self.buried.lock().await;
        for id in buried.due(&names, now) {
            buried.look_after(id, &self.store, self.core.storage.as_ref(), now).await?;
        }
        Ok(())
    }

    async fn ship(&self, id: &RecordingId, round: &mut Round) -> Result<(), RemoteError> {
        if self.is_buried(id) {
            return Ok(());
        }
        let now = (self.core.clock)();
        let path = self.path(id, RECORDING);
        let size = match std::fs::metadata(&path) {
            Ok(meta) => meta.len(),
            // Somebody deleted it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(local("looking at a recording")(e)),
        };
        let mut progress = {
            let mut known = lock(&self.known);
            let progress =
                known.entry(id.clone()).or_insert_with(|| Progress { last: now, ..Progress::default() });
            let interval = i64::try_from(self.config.part_interval.as_micros()).unwrap_or(i64::MAX);
            let waiting = size.saturating_sub(progress.stored());
            let due = waiting >= self.config.part_bytes
                || (waiting > 0 && now.saturating_sub(progress.last) >= interval);
            if progress.resumed
                && progress.looked == size
                && progress.sealed.is_none()
                && (!due || progress.left)
            {
                return Ok(());
            }
            progress.clone()
        };
        let done = self.advance(id, &mut progress, size, now, round).await;
        if self.is_buried(id) {
            // What was just stored is taken back, whatever became of it; a failure to do so is tried again with the mark.
            lock(&self.known).remove(id);
            return self.store.erase(id).await.map(|_| ());
        }
        match done {
            Ok(true) => {
                lock(&self.known).remove(id);
                round.finished.push(id.clone());
                return Ok(());
            }
            Ok(false) => progress.doubted = false,
            Err(RemoteError::Read(ref error)) => {
                tracing::error!(recording = %id, %error, "a damaged recording stays on this machine");
                (progress.left, progress.resumed, progress.looked) = (true, true, size);
                self.keep(id, &progress);
                return Ok(());
            }
            Err(ref e) => progress.doubted |= !e.concerns_all(),
        }
        self.keep(id, &progress);
        done.map(|_| ())
    }

    fn keep(&self, id: &RecordingId, progress: &Progress) {
        lock(&self.known).insert(id.clone(), progress.clone());
    }

    /// Goes on with one recording as far as possible; `true` once it is gone from here.
    async fn advance(
        &self,
        id: &RecordingId,
        progress: &mut Progress,
        size: u64,
        now: i64,
        round: &mut Round,
    ) -> Result<bool, RemoteError> {
        let spooled = Spooled::open(&self.path(id, RECORDING), progress.whole)?;
        progress.looked = size;
        progress.whole = spooled.end;
        let sealed = spooled.listed.seal.is_some();
        progress.left = !sealed && !self.core.is_live(id);
        if sealed {
            progress.sealed.get_or_insert(now);
        }
        if !progress.resumed {
            progress.ends = self.resume(id, spooled.end).await?;
            progress.resumed = true;
        }
        let interval = i64::try_from(self.config.part_interval.as_micros()).unwrap_or(i64::MAX);
        let overdue = sealed || now.saturating_sub(progress.last) >= interval;
        loop {
            if self.is_buried(id) {
                return Ok(false);
            }
            let from = progress.stored();
            let waiting = spooled.end.saturating_sub(from);
            if waiting == 0 || (waiting < self.config.part_bytes && !overdue) {
                break;
            }
            let to = spooled.cut(from, self.config.part_bytes)?;
            let bytes = spool::read_range(&spooled.file, from, to)?;
            let name = object(id, &part_name(manifest::RECORDING, progress.ends.len() + 1));
            self.put_part(&name, bytes.into()).await?;
            progress.ends.push(to);
            progress.last = now;
            self.keep(id, progress);
            round.parts += 1;
        }
        match progress.sealed {
            Some(since) if !self.more_may_come(&spooled.listed.header, now.saturating_sub(since)) => {
                self.finish(id, &spooled, &progress.ends).await
            }
            _ => Ok(false),
        }
    }

    /// Whether a side file is still being made.
    fn more_may_come(&self, header: &Header, waited: i64) -> bool {
        let config = &self.core.config;
        let missing = |ending| !self.path(&header.id, ending).exists();
        let read = config.ocr && DesktopPlayer::plays(header);
        (config.index && waited < INDEX_PATIENCE && missing(INDEX))
            || (read && waited < OCR_PATIENCE && missing(OCR))
    }

    /// What an earlier run has stored of a recording: where its parts end. What is in them is looked at before anything
    /// is removed here.
    async fn resume(&self, id: &RecordingId, end: u64) -> Result<Vec<u64>, RemoteError> {
        let objects = self.store.objects(id.as_str()).await?;
        let sizes: BTreeMap<usize, u64> = objects
            .iter()
            .filter_map(|(name, size)| Some((part_number(manifest::RECORDING, name)?, *size)))
            .collect();
        let mut ends = Vec::new();
        let mut at = 0u64;
        for (expected, (number, size)) in (1..).zip(sizes) {
            at = at.saturating_add(size);
            if number != expected || size == 0 || size > MAX_PART || at > end {
                break;
            }
            ends.push(at);
        }
        Ok(ends)
    }

    /// Stores a part that is new; one of that name that is there already is replaced if it is another.
    async fn put_part(&self, name: &str, bytes: Bytes) -> Result<(), RemoteError> {
        let wanted = (bytes.len() as u64, sha256_one(&bytes));
        if self.store.put_new(name, bytes.clone()).await? == Put::Stored {
            return Ok(());
        }
        if self.is_there(name, &wanted).await? {
            return Ok(());
        }
        tracing::warn!(object = name, "the object store had another part of this name; it is replaced");
        self.store.put(name, bytes).await
    }

    /// Whether the store returns exactly this.
    async fn is_there(&self, name: &str, wanted: &(u64, crate::Hash)) -> Result<bool, RemoteError> {
        match self.store.read(name, wanted.0, |_| Ok(())).await {
            Ok(got) => Ok(got == *wanted),
            Err(RemoteError::Missing(_) | RemoteError::Altered { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The last steps of a sealed recording whose parts are all stored: side files, manifest, proof, removal.
    /// `true` once it is gone from here.
    async fn finish(&self, id: &RecordingId, spooled: &Spooled, ends: &[u64]) -> Result<bool, RemoteError> {
        let mut files =
            vec![(manifest::RECORDING.to_owned(), open_again(&self.path(id, RECORDING))?, ends.to_vec())];
        for ending in SIDES {
            let path = self.path(id, ending);
            if !path.exists() {
                continue;
            }
            let file = open_again(&path)?;
            let size = file.metadata().map_err(local("looking at a side file"))?.len();
            let step = self.config.part_bytes.max(1);
            let ends: Vec<u64> = (1..=size.div_ceil(step)).map(|n| (n * step).min(size)).collect();
            files.push((ending.trim_start_matches('.').to_owned(), file, ends));
        }
        let mut stored = Vec::new();
        for (name, file, ends) in &files {
            stored.push(described(name, file, ends)?);
        }
        let manifest = Manifest::new(
            spooled.listed.header.clone(),
            spooled.listed.seal.clone().ok_or_else(unsealed)?,
            stored,
        );
        for ((_, file, _), stored) in files.iter().zip(&manifest.files) {
            self.prove(id, stored, file).await?;
        }
        self.remove_strays(id, &manifest).await?;
        let keys = read_small(&self.path(id, KEYS), MAX_KEY_FILE)?
            .ok_or_else(|| local("reading a key file")(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
        self.put_small(&object(id, manifest::KEYS), keys).await?;
        let hold = read_small(&self.path(id, HELD), MAX_KEY_FILE)?;
        if let Some(reason) = &hold {
            self.put_small(&object(id, HOLD), reason.clone()).await?;
        }
        self.put_small(&object(id, MANIFEST), manifest.to_bytes()?).await?;
        // Somebody may have put it on hold, or off, in the meantime.
        if read_small(&self.path(id, HELD), MAX_KEY_FILE)? != hold {
            return Ok(false);
        }
        self.remove_here(id).map_err(local("removing a recording that the object store has"))?;
        Ok(true)
    }

    /// Reads a file's parts back. One that is not what was given is stored again, and has to be right then.
    async fn prove(
        &self,
        id: &RecordingId,
        stored: &StoredFile,
        file: &std::fs::File,
    ) -> Result<(), RemoteError> {
        let mut from = 0;
        for (index, part) in stored.parts.iter().enumerate() {
            let to = from + part.bytes;
            let name = object(id, &part_name(&stored.name, index + 1));
            let mut digest = [0; 32];
            hex::decode_to_slice(&part.sha256, &mut digest).map_err(|_| RemoteError::Altered {
                name: name.clone(),
                what: "its digest cannot be read",
            })?;
            let wanted = (part.bytes, digest);
            if !self.is_there(&name, &wanted).await? {
                if stored.name == manifest::RECORDING {
                    tracing::warn!(
                        object = name,
                        "a part in the object store is not what was stored; it is stored again"
                    );
                }
                self.store.put(&name, spool::read_range(file, from, to)?.into()).await?;
                if !self.is_there(&name, &wanted).await? {
                    return Err(RemoteError::Altered {
                        name,
                        what: "it is not what was stored a moment ago",
                    });
                }
            }
            from = to;
        }
        Ok(())
    }

    /// Parts behind the last are of an earlier run, before a crash cut the file.
    async fn remove_strays(&self, id: &RecordingId, manifest: &Manifest) -> Result<(), RemoteError> {
        for (name, _) in self.store.objects(id.as_str()).await? {
            let belongs = manifest
                .files
                .iter()
                .any(|file| part_number(&file.name, &name).is_some_and(|number| number <= file.parts.len()));
            if name.ends_with(".part") && !belongs {
                self.store.delete(&object(id, &name)).await?;
            }
        }
        Ok(())
    }

    /// Stores a small object and reads it back.
    async fn put_small(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let wanted = (bytes.len() as u64, sha256_one(&bytes));
        self.store.put(name, bytes.into()).await?;
        match self.is_there(name, &wanted).await? {
            true => Ok(()),
            false => Err(RemoteError::Altered {
                name: name.to_owned(),
                what: "it is not what was stored a moment ago",
            }),
        }
    }

    /// The recording goes first: without it, what a crash leaves behind is known to be left behind.
    fn remove_here(&self, id: &RecordingId) -> std::io::Result<()> {
        for ending in std::iter::once(RECORDING).chain(ALL_SIDES) {
            match self.core.storage.remove(&format!("{id}{ending}")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.core.storage.sync_names()
    }

    /// Removes side files that a crash left behind a recording which the store has.
    async fn sweep(&self, here: &[RecordingId]) -> Result<(), RemoteError> {
        let names = self.core.storage.list().map_err(local("listing the folder"))?;
        let alone = names.iter().filter_map(|name| name.strip_suffix(KEYS)?.parse::<RecordingId>().ok());
        for id in alone.filter(|id| !here.contains(id) && !self.path(id, RECORDING).exists()) {
            if self.store.objects(id.as_str()).await?.iter().any(|(name, _)| name == MANIFEST) {
                self.remove_here(&id).map_err(local("removing what is left of a recording"))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Uploader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uploader({:?})", self.store)
    }
}

fn unsealed() -> RemoteError {
    RemoteError::Read(crate::ReadError::Missing("seal"))
}

fn open_again(path: &std::path::Path) -> Result<std::fs::File, RemoteError> {
    std::fs::File::open(path).map_err(local("opening a recording"))
}

fn described(name: &str, file: &std::fs::File, ends: &[u64]) -> Result<StoredFile, RemoteError> {
    let (parts, whole) = spool::digests(file, ends)?;
    let mut from = 0;
    let parts = ends
        .iter()
        .zip(&parts)
        .map(|(to, digest)| Part::new(to - std::mem::replace(&mut from, *to), digest))
        .collect();
    Ok(StoredFile { name: name.to_owned(), bytes: from, sha256: hex::encode(whole), parts })
}

/// A side file of at most `max` bytes; `None` where there is none.
fn read_small(path: &std::path::Path, max: u64) -> Result<Option<Vec<u8>>, RemoteError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(local("reading a side file")(e)),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).map_err(local("reading a side file"))?;
    Ok(Some(bytes))
}
