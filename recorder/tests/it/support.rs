//! A folder, a clock under the test's control, and people with keys.

use cofferdam_recorder::*;
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

pub(crate) const T0: i64 = 1_790_000_000_000_000;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) signer: Arc<CheckpointSigner>,
    pub(crate) reader: Identity,
    pub(crate) revealer: Identity,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) checkpoints: Arc<Mutex<Vec<Checkpoint>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            signer: Arc::new(CheckpointSigner::generate().unwrap()),
            reader: Identity::generate(),
            revealer: Identity::generate(),
            now: Arc::new(AtomicI64::new(T0)),
            checkpoints: Arc::default(),
        }
    }

    pub(crate) fn config(&self) -> RecorderConfig {
        let recipients =
            Recipients { read: vec![self.reader.recipient()], reveal: vec![self.revealer.recipient()] };
        let mut config = RecorderConfig::new(self.dir.path().join("rec"), recipients);
        config.flush_interval = Duration::from_millis(20);
        config.low_space = 0;
        config.index = false;
        let seen = Arc::clone(&self.checkpoints);
        config.on_checkpoint = Some(Arc::new(move |c| seen.lock().unwrap().push(c.clone())));
        config
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Arc::new(move || now.load(Ordering::SeqCst))
    }

    pub(crate) fn service(&self) -> RecorderService {
        self.service_with(self.config())
    }

    pub(crate) fn service_with(&self, config: RecorderConfig) -> RecorderService {
        RecorderService::open(config, Arc::clone(&self.signer), self.clock()).unwrap()
    }

    pub(crate) fn pass(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::SeqCst);
    }

    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.dir.path().join("rec").join(format!("{id}.cofrec"))
    }

    pub(crate) fn open(&self, id: &str) -> Recording {
        let mut recording = Recording::open(self.path(id)).unwrap();
        recording.unlock(&self.reader).unwrap();
        recording
    }

    pub(crate) fn events(&self, id: &str) -> Vec<TimedEvent> {
        self.open(id).events().unwrap().map(Result::unwrap).collect()
    }

    pub(crate) fn verify(&self, id: &str) -> Report {
        verify(&self.path(id), &self.signer.public_key(), &self.anchors()).unwrap()
    }

    pub(crate) fn anchors(&self) -> Vec<Anchor> {
        let seen = self.checkpoints.lock().unwrap();
        seen.iter().map(|c| Anchor { seq: c.seq, hash: c.hash }).collect()
    }
}

pub(crate) fn header(id: &str) -> Header {
    Header {
        id: id.parse().unwrap(),
        session: format!("session-{id}"),
        protocol: "ssh".into(),
        user: "vera".into(),
        organisation: "Pumps Ltd".into(),
        asset: "pump-hmi".into(),
        zone: "cell-1".into(),
        account: "root".into(),
        node: "gw-1".into(),
        started: T0,
        decision_sha256: String::new(),
        labels: Default::default(),
    }
}

pub(crate) fn output(text: &str) -> Event {
    Event::Output { channel: 0, data: text.to_owned().into() }
}

pub(crate) fn all_output(events: &[TimedEvent]) -> Vec<u8> {
    let data = events.iter().filter_map(|e| match &e.event {
        Event::Output { data, .. } => Some(data.as_ref()),
        _ => None,
    });
    data.flatten().copied().collect()
}
