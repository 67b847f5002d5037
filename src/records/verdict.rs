//! Whether recordings are whole, and whether a hole in the archive is explained.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use cofferdam_access::{
    ids::SessionId,
    store::{Deleted, KeptRecording, RecordingFilter, SessionState, StoreError},
};
use cofferdam_recorder::{
    BundleReport, Problem, RecordingId, RemoteError, Report, verify as verify_file, verify_bundle,
};

use super::{Records, RecordsError, all_kept, at, blocking};

/// Something that is wrong with a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// In its file.
    File(Problem),
    /// Around it, in words.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(p) => {
                write!(f, "at byte {}: {}", p.offset, p.kind)?;
                p.from.map_or(Ok(()), |from| write!(f, ", not to be trusted from {}", at(from)))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What was proved.
#[derive(Debug)]
pub(crate) enum Proof {
    /// There is a file: what is in it. Absent: it cannot even be read.
    File(Option<Box<Report>>),
    /// Two people deleted it.
    Deleted(Deleted),
    /// It is gone, and that has not been explained.
    Gone,
}

/// What is to be said of one recording.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Its id.
    pub(crate) id: RecordingId,
    /// What was proved.
    pub(crate) proof: Proof,
    /// Everything that is wrong.
    pub(crate) faults: Vec<Fault>,
    /// The digest that the store has of it.
    pub(crate) digest: Option<String>,
}

impl Records {
    /// Proves one recording: its file by the public key alone, against what the audit log and the store have of it.
    ///
    /// # Errors
    /// When the store cannot be asked; what is wrong with the recording is in the verdict.
    pub(crate) async fn verify(&self, id: &RecordingId) -> Result<Verdict, RecordsError> {
        let known = self.kept(id).await?;
        let found = match &known {
            Some(kept) if kept.deleted.is_some() && !self.context.recording_path(id).exists() => Ok(None),
            _ => self.shelf.look(id).await,
        };
        if let (Ok(None), Some(known)) = (&found, known) {
            return self.hole(id, known).await;
        }
        let (anchors, problems) = self.anchors(id).await?;
        let mut faults: Vec<Fault> = problems.into_iter().map(Fault::Other).collect();
        let key = self.context.recording_signer()?.public_key();
        let path = found.map(|path| path.unwrap_or_else(|| self.context.recording_path(id)));
        let report = match path {
            Ok(path) => {
                blocking(move || verify_file(&path, &key, &anchors)).await?.map_err(|e| e.to_string())
            }
            Err(e) => Err(e.to_string()),
        };
        let report = report.map_err(|why| faults.push(Fault::Other(why))).ok();
        let mut digest = None;
        if let Some(report) = &report {
            faults.extend(report.problems.iter().cloned().map(Fault::File));
            digest = self.against_store(id, report, &mut faults).await?;
        }
        Ok(Verdict { id: id.clone(), proof: Proof::File(report.map(Box::new)), faults, digest })
    }

    /// The recordings that there are and those that should be there; and why those of the object store are left out,
    /// where they are.
    ///
    /// # Errors
    /// When the folder or the store cannot be read.
    pub(crate) async fn to_verify(&self) -> Result<(Vec<RecordingId>, Option<RemoteError>), RecordsError> {
        let listing = self.list().await?;
        // By name and not by header: a recording whose header is damaged must not be passed over.
        let mut ids: Vec<RecordingId> =
            listing.recordings.iter().filter_map(|shelved| shelved.id.parse().ok()).collect();
        let there: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        let node = Some(self.context.config.site.node.clone());
        let known =
            RecordingFilter { node, ended_before: Some(self.context.now()), ..RecordingFilter::default() };
        for kept in all_kept(&self.store, known).await? {
            let Ok(id) = kept.session.to_string().parse::<RecordingId>() else { continue };
            if there.contains(id.as_str()) {
                continue;
            }
            // A session that ended before its recording began has none, and nothing ever said that it had.
            let was_there =
                kept.digest.is_some() || kept.deleted.is_some() || !self.anchors(&id).await?.0.is_empty();
            if was_there {
                ids.push(id);
            }
        }
        Ok((ids, listing.incomplete))
    }

    /// Whether a recording's file proves itself with the public key alone, byte by byte.
    ///
    /// # Errors
    /// When it cannot be found or read.
    pub(crate) async fn is_whole(&self, id: &RecordingId) -> Result<bool, RecordsError> {
        let key = self.context.recording_signer()?.public_key();
        let path = self.shelf.find(id).await?;
        Ok(blocking(move || verify_file(&path, &key, &[])).await??.is_whole())
    }

    /// Proves an evidence bundle with the public key alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn verify_bundle(&self, path: PathBuf) -> Result<BundleReport, RecordsError> {
        let key = self.context.recording_signer()?.public_key();
        Ok(blocking(move || verify_bundle(&path, &key)).await??)
    }

    /// A recording whose file is gone: deleted by two people, as the audit log says too, or vanished.
    async fn hole(&self, id: &RecordingId, kept: KeptRecording) -> Result<Verdict, RecordsError> {
        let mut faults = Vec::new();
        match &kept.deleted {
            Some(_) if self.store.deletion_is_proven(kept.session).await? => {}
            Some(_) => faults.push(
                "the store says that two people deleted it, and the audit log knows nothing of that".to_owned(),
            ),
            None => faults.push(
                "it has vanished: its file is gone, and nobody deleted it by the rules; restore it from a backup"
                    .to_owned(),
            ),
        }
        let proof = kept.deleted.map_or(Proof::Gone, Proof::Deleted);
        let faults = faults.into_iter().map(Fault::Other).collect();
        Ok(Verdict { id: id.clone(), proof, faults, digest: kept.digest })
    }

    /// The digest that the store has of the sealed recording has to be that of the file.
    async fn against_store(
        &self,
        id: &RecordingId,
        report: &Report,
        faults: &mut Vec<Fault>,
    ) -> Result<Option<String>, RecordsError> {
        let Ok(session) = id.as_str().parse::<SessionId>() else { return Ok(None) };
        let mut fault = |text: &str| faults.push(Fault::Other(text.to_owned()));
        match self.store.session(session).await {
            Ok(s) => {
                let ours = hex::encode(report.digest);
                if s.recording_digest.as_ref().is_some_and(|kept| *kept != ours) {
                    fault("the store has another digest of this recording");
                }
                if s.state != SessionState::Ended {
                    fault("its session is still open: verify it again after the end");
                }
                Ok(s.recording_digest)
            }
            Err(StoreError::NotFound { .. }) => {
                fault("the store knows no session of this recording");
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}
