//! Text found in many recordings.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_access::audit::{Act, AuditEvent, AuditKind};
use cofferdam_recorder::{
    Header, Hit, Identity, Query, RecordingId, Reindexed, RemoteError, TextLine, reindex,
    search as search_folder, search_recording,
};

use super::{Records, RecordsError, Shelved, blocking, open::unlocked};

/// How much is given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Hits of one recording.
    pub(crate) each: usize,
    /// Hits of all together; the search ends there.
    pub(crate) all: usize,
}

/// What was found in one recording.
#[derive(Debug)]
pub(crate) struct InOne {
    /// What it is about.
    pub(crate) header: Header,
    /// The lines, in the order of their times.
    pub(crate) lines: Vec<TextLine>,
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In each recording, in the order of their ids.
    pub(crate) recordings: BTreeMap<RecordingId, InOne>,
    /// What could not be searched, and why.
    pub(crate) skipped: Vec<(PathBuf, String)>,
    /// The search ended early: there may be more.
    pub(crate) more: bool,
    /// Why those that only the object store has are left out.
    pub(crate) incomplete: Option<RemoteError>,
}

/// Takes hits until there are enough.
struct Hits {
    most: Most,
    taken: usize,
    found: BTreeMap<RecordingId, InOne>,
}

impl Hits {
    fn take(&mut self, hit: Hit) -> ControlFlow<()> {
        if self.taken >= self.most.all {
            return ControlFlow::Break(());
        }
        let here = self
            .found
            .entry(hit.header.id.clone())
            .or_insert_with(|| InOne { header: hit.header, lines: Vec::new() });
        if here.lines.len() < self.most.each {
            here.lines.push(hit.line);
            self.taken += 1;
        }
        ControlFlow::Continue(())
    }
}

impl Records {
    /// Searches every recording of this machine and of its object store; the audit log says for what, and who did.
    ///
    /// # Errors
    /// When recordings cannot be read here, the folder cannot, or the search cannot be noted.
    pub(crate) async fn search(&self, reader: &Act, query: Query, most: Most) -> Result<Found, RecordsError> {
        let identity = self.context.replay_identity()?;
        let event = AuditEvent::new(AuditKind::RecordingPlayed, "search").with("text", query.text.as_str());
        self.note(reader, event).await?;
        let hits = Arc::new(Mutex::new(Hits { most, taken: 0, found: BTreeMap::new() }));
        // What leaves the folder while it is searched may be searched twice, but never not at all.
        let listing = self.shelf.list().await?;
        let mut found = Found { incomplete: listing.incomplete, ..Found::default() };
        let folder = self.shelf.folder().to_owned();
        if folder.exists() {
            let (query, identity, hits) = (query.clone(), identity.clone(), Arc::clone(&hits));
            let searched = blocking(move || {
                let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                search_folder(&folder, &identity, &query, threads, |hit| taken(&hits, hit))
            });
            found.skipped = searched.await??.skipped;
        }
        let gone = |shelved: &&Shelved| shelved.path.as_ref().is_none_or(|path| !path.exists());
        for shelved in listing.recordings.iter().filter(gone) {
            if let Err(why) = self.search_archived(shelved, &identity, &query, &hits).await {
                found.skipped.push((PathBuf::from(&shelved.id), why));
            }
        }
        let mut hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
        found.more = hits.taken >= most.all;
        found.recordings = std::mem::take(&mut hits.found);
        found.recordings.values_mut().for_each(|one| one.lines.sort_by_key(|line| line.at));
        Ok(found)
    }

    /// Makes the indexes that are missing (with `anew`: all of them) of the recordings of this machine, and the search
    /// catalogue from them. Nothing is shown, but everything is decrypted for it.
    ///
    /// # Errors
    /// When recordings cannot be read here, a catalogue cannot be written, or the reading cannot be noted.
    pub(crate) async fn reindex(&self, reader: &Act, anew: bool) -> Result<Reindexed, RecordsError> {
        let identity = self.context.replay_identity()?;
        let to = self.context.recipients()?;
        self.note(reader, AuditEvent::new(AuditKind::RecordingPlayed, "all").with("as", "index")).await?;
        let folder = self.shelf.folder().to_owned();
        Ok(blocking(move || reindex(&folder, &identity, &to, anew)).await??)
    }

    /// Searches a recording that only the object store has; one that the query leaves out is not fetched.
    async fn search_archived(
        &self,
        shelved: &Shelved,
        identity: &Identity,
        query: &Query,
        hits: &Arc<Mutex<Hits>>,
    ) -> Result<(), String> {
        let known = shelved.found.as_ref().map_err(Clone::clone)?;
        let enough = {
            let hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
            hits.taken >= hits.most.all
        };
        if enough || !query.may_concern(&known.header, known.seal.as_ref().map(|seal| seal.ended)) {
            return Ok(());
        }
        let path = self.shelf.find(&known.header.id).await.map_err(|e| e.to_string())?;
        let (identity, query, hits) = (identity.clone(), query.clone(), Arc::clone(hits));
        let searched = blocking(move || {
            let recording = unlocked(path.clone(), &identity)?;
            search_recording(&recording, &query, |line| {
                taken(&hits, Hit { path: path.clone(), header: recording.header().clone(), line })
            })
        });
        searched.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

fn taken(hits: &Mutex<Hits>, hit: Hit) -> ControlFlow<()> {
    hits.lock().unwrap_or_else(PoisonError::into_inner).take(hit)
}
