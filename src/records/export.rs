//! A recording in other forms: for other programs, and as evidence.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    ids::SessionId,
    store::AuditFilter,
};
use cofferdam_recorder::{
    BundleParts, CastOptions, CastVersion, ExtractedFile, ReadError, RecordingId, VideoOptions,
    export_asciicast, export_files, export_jsonl, export_still, export_transcript, export_video,
    write_bundle,
};

use super::{Records, RecordsError, blocking};
use crate::forms::{self, SessionInFull};

/// A form that is one stream of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// What the terminal showed, as text.
    Text,
    /// For asciinema's player.
    Asciicast(CastOptions),
    /// Every event, one JSON object a line.
    Jsonl,
    /// The desktop's picture so many microseconds after the start, as PNG; with none, the last.
    Still(Option<i64>),
}

impl Form {
    /// Its name, in the audit log and on the command line.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Asciicast(CastOptions { version: CastVersion::V2, .. }) => "asciicast-v2",
            Self::Asciicast(_) => "asciicast-v3",
            Self::Jsonl => "jsonl",
            Self::Still(_) => "png",
        }
    }
}

impl Records {
    /// Writes a recording in another form.
    ///
    /// # Errors
    /// As [`Self::open`]; [`ReadError::Export`] when `out` takes no more.
    pub(crate) async fn export(
        &self,
        reader: &Act,
        id: &RecordingId,
        form: Form,
        mut out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let recording = self.open_noting(reader, id, exported(id, form.as_str())).await?;
        let done = blocking(move || match form {
            Form::Text => export_transcript(&recording, None, &mut out),
            Form::Asciicast(options) => export_asciicast(&recording, options, &mut out),
            Form::Jsonl => export_jsonl(&recording, &mut out),
            Form::Still(after) => {
                let time = after.map_or(i64::MAX, |after| recording.header().started.saturating_add(after));
                export_still(&recording, time, &mut out)
            }
        });
        Ok(done.await??)
    }

    /// Makes a film of a desktop's recording, of the kind that the file's ending says.
    ///
    /// # Errors
    /// As [`Self::open`]; and when ffmpeg is not there or fails.
    pub(crate) async fn export_film(
        &self,
        reader: &Act,
        id: &RecordingId,
        options: VideoOptions,
        file: &Path,
    ) -> Result<(), RecordsError> {
        let kind = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        let recording = self.open_noting(reader, id, exported(id, &kind)).await?;
        let file = file.to_owned();
        Ok(blocking(move || export_video(&recording, &options, &file)).await??)
    }

    /// Writes the files that moved, as far as they were kept, into a folder.
    ///
    /// # Errors
    /// As [`Self::open`]; and when a file cannot be written.
    pub(crate) async fn export_files(
        &self,
        reader: &Act,
        id: &RecordingId,
        folder: PathBuf,
    ) -> Result<Vec<ExtractedFile>, RecordsError> {
        let recording = self.open_noting(reader, id, exported(id, "files")).await?;
        Ok(blocking(move || export_files(&recording, &folder, u64::MAX)).await??)
    }

    /// Writes the evidence bundle of a recording: it, its keys, and everything that it is judged by, under one signature.
    ///
    /// # Errors
    /// As [`Self::open`]; and when the audit log's checkpoints of it cannot be read.
    pub(crate) async fn bundle(
        &self,
        reader: &Act,
        id: &RecordingId,
        mut out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let recording = self.open_noting(reader, id, exported(id, "bundle")).await?;
        let signer = self.context.recording_signer()?;
        let parts = self.parts(id, recording.path().to_owned()).await?;
        Ok(blocking(move || write_bundle(&parts, &signer, &mut out)).await??)
    }

    /// What goes into a bundle beside the recording: the session with its decision, its window, and the audit entries of
    /// both.
    async fn parts(&self, id: &RecordingId, recording: PathBuf) -> Result<BundleParts, RecordsError> {
        let session: SessionId = id.as_str().parse()?;
        let pretty = |value: &serde_json::Value| format!("{value:#}\n").into_bytes();
        let now = self.context.now();
        let full = SessionInFull::read(&self.store, session).await?;
        let mut documents =
            vec![("session.json".to_owned(), pretty(&full.json(&self.context).map_err(unwritten)?))];
        let mut subjects = vec![session.to_string()];
        if let Some(id) = full.session.window {
            let kept = self.store.window(id).await?.window;
            let form = forms::window(&kept, now).map_err(unwritten)?;
            documents.push(("window.json".to_owned(), pretty(&form)));
            documents.push(("request.txt".to_owned(), kept.request.canonical_text().into_bytes()));
            subjects.push(id.to_string());
        }
        documents.push(("audit.jsonl".to_owned(), self.log_of(subjects).await?));
        let (anchors, unreadable) = self.anchors(id).await?;
        if let Some(problem) = unreadable.into_iter().next() {
            return Err(RecordsError::Audit(problem));
        }
        Ok(BundleParts { recording, documents, anchors, created: now.micros() })
    }

    /// The audit entries about these, in their order, one JSON object a line.
    async fn log_of(&self, subjects: Vec<String>) -> Result<Vec<u8>, RecordsError> {
        let mut entries = Vec::new();
        for subject in subjects {
            let filter = AuditFilter { subject: Some(subject), ..AuditFilter::default() };
            entries.extend(self.store.audit(&filter).await?);
        }
        entries.sort_by_key(|entry| entry.seq);
        let mut log = Vec::new();
        for entry in &entries {
            serde_json::to_writer(&mut log, entry).map_err(unwritten)?;
            log.push(b'\n');
        }
        Ok(log)
    }
}

/// What an export in that form writes into the audit log.
pub(super) fn exported(id: &RecordingId, format: &str) -> AuditEvent {
    AuditEvent::new(AuditKind::RecordingExported, id).with("format", format)
}

fn unwritten(e: serde_json::Error) -> RecordsError {
    ReadError::Export(e.into()).into()
}
