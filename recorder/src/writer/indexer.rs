//! Makes the index of each finished recording and its entry in the catalogue, while its key is still
//! known, on one quiet thread.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::queue::lock;
use crate::{
    catalogue,
    error::{ReadError, RecordError},
    index::build_index_and_filter,
    keys::{Key, Keys, Recipients},
    read::Recording,
};

/// Recordings that may wait; one more goes without an index, which its readers can make.
const WAITING: usize = 1024;

struct Job {
    path: PathBuf,
    data: Key,
}

/// The indexing thread's end at the recorder.
pub(crate) struct Indexer {
    jobs: Mutex<Option<SyncSender<Job>>>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Indexer {
    pub(crate) fn start(recipients: Recipients) -> Result<Self, RecordError> {
        let (jobs, todo) = sync_channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("recorder-index".to_owned())
            .spawn(move || run(&todo, &stopped, &recipients))
            .map_err(|source| RecordError::Storage { what: "starting the indexing thread", source })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), stop, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn add(&self, path: PathBuf, data: Key) {
        let jobs = lock(&self.jobs).clone();
        if let Some(Err(TrySendError::Full(job))) = jobs.map(|jobs| jobs.try_send(Job { path, data })) {
            tracing::warn!(path = %job.path.display(), "no index was made: too many recordings wait for theirs");
        }
    }

    /// Ends the thread after the recording that it is at.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Release);
        lock(&self.jobs).take();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there was reported when it happened.
            thread.join().ok();
        }
    }
}

fn run(todo: &Receiver<Job>, stop: &AtomicBool, recipients: &Recipients) {
    let mut catalogue = None;
    for job in todo {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let path = job.path.clone();
        if let Err(error) = index(job, &mut catalogue, recipients) {
            // What an error left behind in the catalogue is its end: the next recording starts another.
            catalogue = None;
            tracing::warn!(path = %path.display(), %error, "the index of a recording could not be made");
        }
    }
}

fn index(
    job: Job,
    catalogue: &mut Option<catalogue::Writer>,
    recipients: &Recipients,
) -> Result<(), ReadError> {
    let mut recording = Recording::open(&job.path)?;
    recording.use_keys(Keys { data: job.data, reveal: None })?;
    let filter = build_index_and_filter(&recording)?;
    let folder = job.path.parent().unwrap_or(Path::new("."));
    let open = match catalogue.take().filter(catalogue::Writer::is_there) {
        Some(open) => open,
        None => catalogue::Writer::create(folder, recipients)
            .map_err(|e| ReadError::Export(std::io::Error::other(e)))?,
    };
    catalogue.insert(open).add(&recording.header().id, filter)
}
