//! Where recordings stand: in this machine's folder, in the object store, or in both while they are on their way. The one
//! place that turns an id into a file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use cofferdam_recorder::{
    Archive, Header, Listed, RecordingId, RemoteError, SealInfo, hold, lift_hold, list as list_folder,
};

use super::{RecordsError, blocking};
use crate::context::recording_path;

/// Recordings of this machine and of its object store.
#[derive(Clone)]
pub(crate) struct Shelf {
    folder: PathBuf,
    archive: Option<Archive>,
}

/// A recording as a listing shows it.
pub(crate) struct Shelved {
    /// Its id, or its file's name where that is none.
    pub(crate) id: String,
    /// Its file; absent where only the object store has it.
    pub(crate) path: Option<PathBuf>,
    /// What it is, or why it cannot be read.
    pub(crate) found: Result<Known, String>,
}

/// What a listing knows of a recording.
pub(crate) struct Known {
    /// What it is about.
    pub(crate) header: Header,
    /// Its seal; absent while it grows, or where it broke off.
    pub(crate) seal: Option<SealInfo>,
    /// Its bytes.
    pub(crate) bytes: u64,
}

/// A listing; without the object store's part where that does not answer.
pub(crate) struct Listing {
    /// Recordings, in order of their ids.
    pub(crate) recordings: Vec<Shelved>,
    /// Why the object store's part is missing.
    pub(crate) incomplete: Option<RemoteError>,
}

impl Shelf {
    /// The recordings of a folder, and of an object store where there is one.
    pub(crate) fn new(folder: PathBuf, archive: Option<Archive>) -> Self {
        Self { folder, archive }
    }

    /// This machine's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a recording; one that only the object store has is fetched and proven to be what was stored. None: it
    /// is nowhere.
    pub(crate) async fn look(&self, id: &RecordingId) -> Result<Option<PathBuf>, RecordsError> {
        let here = recording_path(&self.folder, id);
        if here.exists() {
            return Ok(Some(here));
        }
        let Some(archive) = &self.archive else { return Ok(None) };
        match archive.fetch(id).await {
            Ok(path) => Ok(Some(path)),
            Err(RemoteError::Unknown(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// As [`Self::look`]; one that is nowhere is an error.
    pub(crate) async fn find(&self, id: &RecordingId) -> Result<PathBuf, RecordsError> {
        let nowhere = || RecordsError::Nowhere {
            id: id.clone(),
            folder: self.folder.clone(),
            archive: self.archive.is_some(),
        };
        self.look(id).await?.ok_or_else(nowhere)
    }

    /// All recordings, each once.
    pub(crate) async fn list(&self) -> Result<Listing, RecordsError> {
        let mut all: BTreeMap<String, Shelved> = BTreeMap::new();
        let mut incomplete = None;
        // The store first: what leaves this machine meanwhile is seen twice rather than not at all.
        if let Some(archive) = &self.archive {
            match archive.list().await {
                Ok(archived) => all.extend(archived.into_iter().map(|(id, found)| {
                    let found = found.map_err(|e| e.to_string()).map(|a| Known {
                        header: a.header,
                        seal: Some(a.seal),
                        bytes: a.bytes,
                    });
                    (id.to_string(), Shelved { id: id.to_string(), path: None, found })
                })),
                Err(e) => incomplete = Some(e),
            }
        }
        let folder = self.folder.clone();
        // A gateway that has never recorded has no folder yet.
        let here =
            blocking(move || if folder.exists() { list_folder(&folder) } else { Ok(Vec::new()) }).await??;
        for file in here {
            let name = file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // It may have left since the folder was read.
            if all.contains_key(&name) && !file.path.exists() {
                continue;
            }
            let known = |l: Listed| Known { header: l.header, seal: l.seal, bytes: l.bytes };
            let found = file.listed.map(known).map_err(|e| e.to_string());
            all.insert(name.clone(), Shelved { id: name, path: Some(file.path), found });
        }
        Ok(Listing { recordings: all.into_values().collect(), incomplete })
    }

    /// Puts a recording on hold wherever it stands; the mark of one that is on its way goes along.
    pub(crate) async fn hold(&self, id: &RecordingId, reason: &str) -> Result<(), RecordsError> {
        let here = recording_path(&self.folder, id);
        match &self.archive {
            Some(archive) if here.exists() => {
                // One that the store does not take now goes there with the recording.
                archive.hold(id, reason).await.or_else(|e| here.exists().then_some(()).ok_or(e))?;
            }
            Some(archive) => archive.hold(id, reason).await?,
            None => {}
        }
        if here.exists() {
            hold(&here, reason).map_err(RecordsError::io(&here))?;
        }
        Ok(())
    }

    /// Lifts a hold wherever it stands.
    pub(crate) async fn lift_hold(&self, id: &RecordingId) -> Result<(), RecordsError> {
        let here = recording_path(&self.folder, id);
        lift_hold(&here).map_err(RecordsError::io(&here))?;
        if let Some(archive) = &self.archive {
            archive.lift_hold(id).await?;
        }
        Ok(())
    }
}
