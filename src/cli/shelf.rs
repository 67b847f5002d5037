//! Where recordings stand: in this machine's folder, in the object store, or in both while they are on their way. The one
//! place that turns an id into a file.

use std::{collections::BTreeMap, path::PathBuf};

use cofferdam_recorder::{
    Archive, Header, Listed, RecordingId, RemoteError, SealInfo, hold, lift_hold, list as list_folder,
};

use super::{error::CliError, output::clean_line};
use crate::context::Context;

/// Recordings of this machine and of its object store.
pub(crate) struct Shelf<'c> {
    context: &'c Context,
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

impl<'c> Shelf<'c> {
    /// What `context` names.
    pub(crate) fn of(context: &'c Context) -> Result<Self, CliError> {
        Ok(Self { context, archive: context.archive()? })
    }

    /// The file of a recording; one that only the object store has is fetched and proven to be what was stored. None: it
    /// is nowhere.
    pub(crate) async fn look(&self, id: &RecordingId) -> Result<Option<PathBuf>, CliError> {
        let here = self.context.recording_path(id);
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
    pub(crate) async fn find(&self, id: &RecordingId) -> Result<PathBuf, CliError> {
        let nowhere = || {
            let store = if self.archive.is_some() { " nor in the object store" } else { "" };
            CliError::failed(format!(
                "there is no recording {id} in {}{store}: `cofferdam recording list` names those there are",
                self.context.config.recordings.dir.display()
            ))
        };
        self.look(id).await?.ok_or_else(nowhere)
    }

    /// All recordings, each once.
    pub(crate) async fn list(&self) -> Result<Listing, CliError> {
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
        let folder = &self.context.config.recordings.dir;
        // A gateway that has never recorded has no folder yet.
        let here = if folder.exists() { list_folder(folder)? } else { Vec::new() };
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
    pub(crate) async fn hold(&self, id: &RecordingId, reason: &str) -> Result<(), CliError> {
        let here = self.context.recording_path(id);
        match &self.archive {
            Some(archive) if here.exists() => {
                // One that the store does not take now goes there with the recording.
                archive.hold(id, reason).await.or_else(|e| here.exists().then_some(()).ok_or(e))?;
            }
            Some(archive) => archive.hold(id, reason).await?,
            None => {}
        }
        if here.exists() {
            hold(&here, reason).map_err(CliError::io(here.display().to_string()))?;
        }
        Ok(())
    }

    /// Lifts a hold wherever it stands.
    pub(crate) async fn lift_hold(&self, id: &RecordingId) -> Result<(), CliError> {
        let here = self.context.recording_path(id);
        lift_hold(&here).map_err(CliError::io(here.display().to_string()))?;
        if let Some(archive) = &self.archive {
            archive.lift_hold(id).await?;
        }
        Ok(())
    }
}

impl Listing {
    /// Whether nothing is left out; says on standard error what is.
    pub(crate) fn is_complete(&self) -> bool {
        if let Some(why) = &self.incomplete {
            eprintln!(
                "cofferdam: recordings in the object store are left out: {}",
                clean_line(&why.to_string())
            );
        }
        self.incomplete.is_none()
    }
}
