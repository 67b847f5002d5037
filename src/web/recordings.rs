//! Recordings, for the web interface.

use std::{
    fmt,
    io::{self, BufWriter, Write},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    audit::Act,
    ids::SessionId,
    store::{Store, StoreError},
};
use cofferdam_recorder::{CastOptions, CastVersion, Kinds, LineKind, Query, RecordingId, TextLine};
use cofferdam_web::{
    Export, Exporting, Found, RecordedLine, RecordedLines, Recordings, RecordingsError, Search, Verified,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::error;

use crate::{
    context::ContextError,
    records::{Form, Most, Proof, Records, RecordsError, at},
};

/// Recordings that are read at once for the web; sessions come first.
const AT_ONCE: usize = 4;
/// Besides, recordings of which small pictures are made, which nobody asks for by name.
const STILLS_AT_ONCE: usize = 1;
/// Bytes that an export hands over in one piece.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for the browser.
const PIECES: usize = 4;
/// Hits of a search.
const MOST: Most = Most { each: 20, all: 500 };

/// See the module.
pub(super) struct Archive {
    records: Records,
    store: Store,
    places: Arc<Semaphore>,
    stills: Arc<Semaphore>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

impl Archive {
    /// What `records` can read and `store` knows.
    pub(super) fn new(records: Records, store: Store) -> Self {
        Self {
            records,
            store,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            stills: Arc::new(Semaphore::new(STILLS_AT_ONCE)),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, RecordingsError> {
        self.places.clone().try_acquire_owned().map_err(|_| RecordingsError::Busy)
    }
}

#[async_trait]
impl Recordings for Archive {
    async fn search(&self, act: &Act, search: &Search) -> Result<Found, RecordingsError> {
        let _place = self.place()?;
        let query = Query {
            text: search.text.clone(),
            kinds: kinds(search.kind),
            user: search.person.as_ref().map(ToString::to_string),
            asset: search.asset.as_ref().map(ToString::to_string),
            from: search.from.map(|t| t.micros()),
            until: search.until.map(|t| t.micros()),
            ..Query::default()
        };
        let found = self.records.search(act, query, MOST).await.map_err(refused)?;
        let incomplete = found.incomplete.map(|e| {
            error!(error = %e, "recordings in the object store were left out of a search");
            "those in the object store were left out: it does not answer".to_owned()
        });
        let ids = found.recordings.into_iter().rev();
        let one = |(id, one): (RecordingId, crate::records::InOne)| {
            let lines = one.lines.into_iter().map(line).collect();
            Some((id.as_str().parse().ok()?, lines))
        };
        Ok(Found {
            recordings: ids.filter_map(one).collect(),
            more: found.more,
            skipped: found.skipped.len(),
            incomplete,
        })
    }

    async fn transcript(
        &self,
        act: &Act,
        id: SessionId,
        most: usize,
    ) -> Result<RecordedLines, RecordingsError> {
        let _place = self.place()?;
        let read = self.records.transcript(act, &named(id)?, Query::default(), most).await;
        let read = read.map_err(refused)?;
        Ok(RecordedLines { lines: read.lines.into_iter().map(line).collect(), more: read.more })
    }

    async fn export(&self, act: &Act, id: SessionId, form: Export) -> Result<Exporting, RecordingsError> {
        // Small pictures wait for their one place, and leave the others to what people ask for.
        let at_once = match form {
            Export::Stills => None,
            _ => Some(self.place()?),
        };
        let stills = self.stills.clone();
        let (to, bytes) = mpsc::channel(PIECES);
        let out = Box::new(BufWriter::with_capacity(PIECE, Pipe(to.clone())));
        let (records, act, id) = (self.records.clone(), act.clone(), named(id)?);
        tokio::spawn(async move {
            // Waited for, and given up by who goes away.
            let place = match at_once {
                Some(place) => Ok(place),
                None => tokio::select! {
                    place = stills.acquire_owned() => place,
                    () = to.closed() => return,
                },
            };
            let cast = CastOptions::of(CastVersion::V2);
            let done = match form {
                Export::Replay => records.replay(&act, &id, cast, out).await,
                Export::Desktop { from } => records.desktop(&act, &id, from, out).await,
                Export::Stills => records.stills(&act, &id, out).await,
                Export::Asciicast => records.export(&act, &id, Form::Asciicast(cast), out).await,
                Export::Text => records.export(&act, &id, Form::Text, out).await,
                Export::Events => records.export(&act, &id, Form::Jsonl, out).await,
                Export::Bundle => records.bundle(&act, &id, out).await,
                Export::Files => records.files(&act, &id, out).await,
            };
            if let Err(e) = done
                && !to.is_closed()
            {
                to.send(Err(refused(e).to_string())).await.unwrap_or_default();
            }
            drop(place);
        });
        Ok(bytes)
    }

    async fn verify(&self, id: SessionId) -> Result<Verified, RecordingsError> {
        let _place = self.place()?;
        let verdict = self.records.verify(&named(id)?).await.map_err(refused)?;
        let mut verified = Verified {
            faults: verdict.faults.iter().map(ToString::to_string).collect(),
            digest: verdict.digest,
            ..Verified::default()
        };
        match verdict.proof {
            Proof::File(Some(report)) => {
                verified.segments = report.segments;
                verified.signatures = report.signatures;
                verified.anchors = report.anchors;
                verified.digest = Some(hex::encode(report.digest));
                verified.proven_until = report.proven_until.map(at);
            }
            Proof::File(None) | Proof::Gone => {}
            Proof::Deleted(deleted) => verified.faults.push(format!(
                "deleted on {} by {} and {}, so there is nothing to prove",
                deleted.at, deleted.requested_by, deleted.approved_by
            )),
        }
        verified.whole = verified.faults.is_empty();
        Ok(verified)
    }

    async fn hold(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), RecordingsError> {
        let file = named(id)?;
        self.store.hold_recording(act, id, reason).await.map_err(|e| refused(e.into()))?;
        self.records.shelf().hold(&file, reason).await.map_err(refused)
    }

    async fn lift_hold(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), RecordingsError> {
        let file = named(id)?;
        self.store.lift_hold(act, id, reason).await.map_err(|e| refused(e.into()))?;
        self.records.shelf().lift_hold(&file).await.map_err(refused)
    }
}

fn named(id: SessionId) -> Result<RecordingId, RecordingsError> {
    id.to_string().parse().map_err(|_| RecordingsError::NotFound)
}

fn kinds(name: Option<&str>) -> Kinds {
    match name {
        Some("file") => Kinds::Only(LineKind::File),
        Some("finding") => Kinds::Only(LineKind::Finding),
        _ => Kinds::All,
    }
}

fn line(line: TextLine) -> RecordedLine {
    RecordedLine { at: at(line.at), kind: line.kind.as_str(), mark: line.kind.is_mark(), text: line.text }
}

/// What the person reads; what only the operator can mend goes to the log.
fn refused(e: RecordsError) -> RecordingsError {
    match e {
        RecordsError::Nowhere { .. } | RecordsError::Store(StoreError::NotFound { .. }) => {
            RecordingsError::NotFound
        }
        RecordsError::Deleted { .. } => RecordingsError::Gone(e.to_string()),
        RecordsError::NoRoom { .. } => RecordingsError::Unreadable(e.to_string()),
        RecordsError::Store(StoreError::Refused(why)) => RecordingsError::Gone(why),
        RecordsError::Context(ContextError::NoReplayIdentity) => RecordingsError::Unreadable(e.to_string()),
        other => {
            error!(error = %other, "a recording could not be read");
            RecordingsError::Unreadable(
                "the recording cannot be read at the moment; the gateway's log says why".into(),
            )
        }
    }
}

/// Hands bytes from a thread that reads to a browser, and waits for it.
struct Pipe(mpsc::Sender<Result<Bytes, String>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_went_away_stops_the_reading() {
        let (to, bytes) = mpsc::channel(1);
        let mut out = BufWriter::with_capacity(4, Pipe(to));
        drop(bytes);
        assert_eq!(out.write_all(b"more than fits").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
