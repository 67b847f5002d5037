//! After a crash: closes the recordings that an earlier run left open.

use serde::Serialize;
use std::{collections::HashMap, io, sync::Arc};

use super::{
    INDEX, RECORDING,
    journal::{self, Record},
    queue::lock,
    service::Core,
    trailer::{self, Place, SealInfo},
};
use crate::{
    chain::{self, Walker},
    error::ReadError,
    event::End,
    header::{Hash, RecordingId},
    segment::{FOOTER_LEN, FROM_JOURNAL, Footer, Head, MAX_BODY, kind, link, push_plain},
    storage::{SpoolFile, Storage},
};

/// The most that a crash can tear off a recording: one batch of one session.
const MAX_TORN: u64 = 64 << 20;
/// The longest journal that is read; the writer keeps it far shorter.
const MAX_JOURNAL: u64 = 2 << 30;
/// What stands in the seal of a recording that a crash cut.
const REASON: &str = "recovered";

/// A recording that an earlier run left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The recording, or the file's name where that is not one.
    pub name: String,
    /// What was done.
    pub outcome: RecoveryOutcome,
}

/// What was done with a recording left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryOutcome {
    /// It is closed with a "recovered" mark and a seal.
    Closed {
        /// The seal's hash, for the audit log.
        digest: Hash,
        /// Time of the last event kept: microseconds since 1970, UTC.
        ended: i64,
        /// Stretches taken from the journal.
        from_journal: u32,
        /// Torn bytes cut off the end; they were never reported as durable.
        cut: u64,
    },
    /// It is damaged and was left as it is.
    Damaged {
        /// What is wrong.
        what: String,
    },
}

/// The "recovered" mark, in clear text.
#[derive(Serialize)]
struct Mark {
    reason: &'static str,
    at: i64,
    from_journal: u32,
    cut: u64,
}

/// Closes every open recording of earlier runs, then drops their journals.
pub(crate) fn recover(core: &Arc<Core>, journals: &[String]) -> Vec<Recovered> {
    let storage = &*core.storage;
    let mut trouble = false;
    let mut bytes = Vec::new();
    for name in journals {
        match storage.open(name).and_then(|file| journal::read_all(&*file, MAX_JOURNAL)) {
            Ok(content) => bytes.push(content),
            Err(error) => {
                tracing::error!(journal = name, %error, "a recording journal could not be read");
                trouble = true;
            }
        }
    }
    let records = group(&bytes);
    let names = storage.list().unwrap_or_else(|error| {
        tracing::error!(%error, "the recording folder could not be listed");
        trouble = true;
        Vec::new()
    });
    let mut done = Vec::new();
    for name in &names {
        let Some(stem) = name.strip_suffix(RECORDING) else { continue };
        let id = stem.parse::<RecordingId>();
        if id.as_ref().is_ok_and(|id| lock(&core.sessions).contains_key(id)) {
            continue;
        }
        let known = id.ok().and_then(|id| records.get(&id)).map_or(&[][..], Vec::as_slice);
        let outcome = match close(core, name, known) {
            Ok(None) => continue,
            Ok(Some(outcome)) => outcome,
            Err(e) => {
                trouble |= matches!(e, ReadError::Io(_)) || keep(storage, stem, known).is_err();
                RecoveryOutcome::Damaged { what: e.to_string() }
            }
        };
        done.push(Recovered { name: stem.to_owned(), outcome });
    }
    if !trouble {
        for name in journals {
            // One that stays is read again at the next start and adds nothing.
            storage.remove(name).ok();
        }
    }
    done
}

fn group(journals: &[Vec<u8>]) -> HashMap<RecordingId, Vec<Record<'_>>> {
    let mut records: HashMap<RecordingId, Vec<Record<'_>>> = HashMap::new();
    for bytes in journals {
        let mut rest = bytes.as_slice();
        while let Some(record) = journal::next(&mut rest) {
            records.entry(record.id.clone()).or_default().push(record);
        }
    }
    records
}

/// What the journal knows of a damaged recording is kept beside it.
fn keep(storage: &dyn Storage, stem: &str, records: &[Record<'_>]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let bytes: Vec<u8> = records.iter().flat_map(|r| r.bytes).copied().collect();
    storage.replace(&format!("{stem}.lost"), &bytes)
}

/// Closes one recording; `None` where it was closed already.
fn close(core: &Core, name: &str, records: &[Record<'_>]) -> Result<Option<RecoveryOutcome>, ReadError> {
    let mut file = core.storage.open(name)?;
    if is_sealed(&*file)? {
        return Ok(None);
    }
    let preamble = chain::read_preamble(&*file)?;
    let mut place = Place {
        seq: 0,
        prev: preamble.digest,
        stream: 0,
        time: preamble.preamble.header.started,
        offset: preamble.len,
    };
    walk(&*file, &mut place)?;
    let cut = file.len() - place.offset;
    if cut > MAX_TORN {
        return Err(ReadError::damaged(place.offset, "more is unreadable than a crash can tear off"));
    }
    if cut > 0 {
        set_aside(&*core.storage, name, &*file, place.offset)?;
    }
    file.truncate(place.offset)?;
    let mut out = Vec::new();
    let from_journal = append_journal(&mut out, &mut place, records);
    let now = (core.clock)();
    let mark = Mark { reason: REASON, at: now, from_journal, cut };
    let mark = serde_json::to_vec(&mark).map_err(|_| ReadError::Limit("the mark could not be written"))?;
    let head = plain_head(kind::RECOVERED, &place);
    place.prev = push_plain(&mut out, head, &mark, Some((&core.signer, &preamble.digest)))?;
    place.seq += 1;
    file.append(&out)?;
    place.offset = file.len();
    let digest = seal(core, &mut file, &place, &preamble.digest, preamble.len)?;
    file.sync()?;
    // An index made before the crash cannot know the whole recording.
    core.storage.remove(&name.replace(RECORDING, INDEX)).ok();
    Ok(Some(RecoveryOutcome::Closed { digest, ended: place.time, from_journal, cut }))
}

/// Keeps what is cut off: it may be a torn write, and it may be what somebody damaged.
fn set_aside(storage: &dyn Storage, name: &str, file: &dyn SpoolFile, from: u64) -> io::Result<()> {
    let len = usize::try_from(file.len() - from).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, from)?;
    bytes.truncate(got);
    storage.replace(&name.replace(RECORDING, ".torn"), &bytes)
}

fn is_sealed(file: &dyn SpoolFile) -> Result<bool, ReadError> {
    let Some(at) = file.len().checked_sub(FOOTER_LEN as u64) else { return Ok(false) };
    let mut bytes = [0; FOOTER_LEN];
    file.read_at(&mut bytes, at)?;
    let Some(footer) = Footer::parse(&bytes) else { return Ok(false) };
    let walker = Walker::new(file, footer.seal);
    Ok(walker.peek().is_ok_and(|head| head.kind == kind::SEAL && footer.seal + head.total_len() == at))
}

/// Follows the chain as far as it holds.
fn walk(file: &dyn SpoolFile, place: &mut Place) -> Result<(), ReadError> {
    let mut walker = Walker::new(file, place.offset);
    loop {
        let found = match walker.read() {
            Ok(found) => found,
            Err(ReadError::Io(e)) => return Err(ReadError::Io(e)),
            Err(_) => return Ok(()),
        };
        // Index and seal of a closing that the crash cut are made anew.
        let mine = matches!(found.head.kind, kind::INDEX | kind::SEAL | kind::RECOVERED);
        if mine || found.head.seq != place.seq || found.head.prev != place.prev {
            return Ok(());
        }
        place.seq += 1;
        place.prev = found.hash;
        place.offset = walker.offset;
        place.stream = found.head.stream + u64::from(found.head.plain_len);
        place.time = place.time.max(found.head.last());
    }
}

/// Appends the journal's stretches that the file does not hold.
fn append_journal(out: &mut Vec<u8>, place: &mut Place, records: &[Record<'_>]) -> u32 {
    let mut taken = 0;
    let mut records: Vec<_> = records.iter().collect();
    records.sort_by_key(|record| record.head.stream);
    for record in records {
        if record.head.stream != place.stream || record.body.len() > MAX_BODY {
            continue;
        }
        let head =
            Head { flags: record.head.flags | FROM_JOURNAL, seq: place.seq, prev: place.prev, ..record.head };
        let bytes = head.encode();
        place.prev = link(&bytes, record.body);
        place.seq += 1;
        place.stream += u64::from(head.plain_len);
        place.time = place.time.max(head.last());
        out.extend_from_slice(&bytes);
        out.extend_from_slice(record.body);
        taken += 1;
    }
    taken
}

fn plain_head(kind: u8, place: &Place) -> Head {
    Head {
        kind,
        flags: 0,
        history: 0,
        body_len: 0,
        plain_len: 0,
        stream: place.stream,
        first: place.time,
        span: 0,
        nonce: 0,
        seq: place.seq,
        prev: place.prev,
    }
}

fn seal(
    core: &Core,
    file: &mut Box<dyn SpoolFile>,
    place: &Place,
    header: &Hash,
    first: u64,
) -> Result<Hash, ReadError> {
    let info = SealInfo {
        end: End::because(REASON),
        ended: place.time,
        segments: place.seq + 1,
        events: None,
        plain_bytes: place.stream,
        recovered: true,
    };
    let entries = trailer::scan_entries(&**file, first)?;
    let (bytes, digest) = trailer::build(place, header, entries, &info, &core.signer)?;
    file.append(&bytes)?;
    Ok(digest)
}
