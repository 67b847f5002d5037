//! One recording, opened for somebody who reads it.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use cofferdam_access::audit::{Act, AuditEvent, AuditKind};
use cofferdam_recorder::{
    CastOptions, DesktopStream, Identity, Lines, Query, ReadError, Recording, RecordingId, export_asciicast,
    lines,
};

use super::{Records, RecordsError, blocking};

/// A stretch of a desktop's recording is at most so long, in microseconds and in bytes: five minutes, 8 MiB. Whoever replays
/// asks for the next in time.
const STRETCH: (i64, usize) = (300_000_000, 8 << 20);

/// Small pictures of a desktop may take so long; those that are not made by then are left out.
const STILLS: Duration = Duration::from_secs(5);

impl Records {
    /// Opens and unlocks a recording wherever it stands; `what` says in the audit log which part of it is read
    /// (`terminal`, `events`, `marks` …). The recorder's functions give out what is in it: they read files, so call them
    /// where that may take time.
    ///
    /// # Errors
    /// When it is nowhere, was deleted, or cannot be read here; and when the reading cannot be noted.
    pub(crate) async fn open(
        &self,
        reader: &Act,
        id: &RecordingId,
        what: &str,
    ) -> Result<Recording, RecordsError> {
        let event = AuditEvent::new(AuditKind::RecordingPlayed, id).with("as", what);
        self.open_noting(reader, id, event).await
    }

    /// The text of a recording with its times, as far as `query` asks for it; at most `most` lines.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn transcript(
        &self,
        reader: &Act,
        id: &RecordingId,
        query: Query,
        most: usize,
    ) -> Result<Lines, RecordsError> {
        let recording = self.open(reader, id, "transcript").await?;
        Ok(blocking(move || lines(&recording, &query, most)).await??)
    }

    /// Replays a recording for a player that takes an asciicast; with `options.from` it begins there.
    ///
    /// # Errors
    /// As [`Self::open`]; [`ReadError::Export`] when `out` takes no more.
    pub(crate) async fn replay(
        &self,
        reader: &Act,
        id: &RecordingId,
        options: CastOptions,
        mut out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let recording = self.open(reader, id, "terminal").await?;
        Ok(blocking(move || export_asciicast(&recording, options, &mut out)).await??)
    }

    /// A stretch of a desktop's recording for a browser, from so many milliseconds after its start on; what was read of it
    /// stands in the audit log.
    ///
    /// # Errors
    /// As [`Self::replay`].
    pub(crate) async fn desktop(
        &self,
        reader: &Act,
        id: &RecordingId,
        from_millis: u32,
        mut out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let event = AuditEvent::new(AuditKind::RecordingPlayed, id).with("as", "desktop");
        let recording = self.open_noting(reader, id, event.with("from_second", from_millis / 1000)).await?;
        Ok(blocking(move || {
            let started = recording.header().started;
            let from = started.saturating_add(i64::from(from_millis) * 1000);
            DesktopStream::new(started).write_stretch(&recording, from, STRETCH, &mut out)
        })
        .await??)
    }

    /// Small pictures along a desktop's recording, for a browser.
    ///
    /// # Errors
    /// As [`Self::replay`].
    pub(crate) async fn stills(
        &self,
        reader: &Act,
        id: &RecordingId,
        mut out: Box<dyn Write + Send>,
    ) -> Result<(), RecordsError> {
        let recording = self.open(reader, id, "stills").await?;
        Ok(blocking(move || {
            let begun = Instant::now();
            let enough = || begun.elapsed() > STILLS;
            DesktopStream::new(recording.header().started).write_stills(&recording, enough, &mut out)
        })
        .await??)
    }

    /// The order matters: a recording that cannot be opened here was not read, and one that is shown was noted first.
    pub(super) async fn open_noting(
        &self,
        reader: &Act,
        id: &RecordingId,
        event: AuditEvent,
    ) -> Result<Recording, RecordsError> {
        if let Some(deleted) = self.kept(id).await?.and_then(|kept| kept.deleted) {
            return Err(RecordsError::Deleted { id: id.clone(), deleted: Box::new(deleted) });
        }
        let identity = self.context.replay_identity()?;
        let path = self.shelf.find(id).await?;
        self.note(reader, event).await?;
        Ok(blocking(move || unlocked(path, &identity)).await??)
    }
}

/// Opens and unlocks a recording's file.
pub(super) fn unlocked(path: PathBuf, identity: &Identity) -> Result<Recording, ReadError> {
    let mut recording = Recording::open(path)?;
    recording.unlock(identity)?;
    Ok(recording)
}
