//! One recording as the commit thread sees it: its file, its chain, and what is not yet in the file.

use std::sync::Arc;

use super::{Checkpoint, journal};
use crate::{
    crypt::{ALONE, Sealer, Tools, last, push_history},
    error::RecordError,
    header::{Hash, RecordingId},
    keys::Key,
    segment::{self, HEAD_LEN, Head, KEY_FRAME, SIGNED, kind},
    sign::CheckpointSigner,
    storage::SpoolFile,
    wire::next_raw,
};

/// Longest plain text of one segment.
pub(crate) const SEGMENT: usize = 256 * 1024;
/// From this many bytes on, a stretch goes straight into the recording's own file.
pub(crate) const DIRECT: usize = 64 * 1024;
/// A segment at least this often can be opened without those before it.
const FRESH_EVERY: u32 = 128;
/// What a stretch of the journal, soon replaced, is compressed against at most.
const JOURNAL_HISTORY: usize = 8 * 1024;

/// Where the recording stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Events may still come.
    Open,
    /// All events are in; index and seal are next.
    Closing,
    /// Sealed, or failed.
    Done,
}

/// A recording being written.
pub(crate) struct Lane {
    pub(crate) id: RecordingId,
    pub(crate) header: Hash,
    pub(crate) file: Box<dyn SpoolFile>,
    pub(crate) phase: Phase,
    /// Bytes made for the file and not yet durable there.
    pub(crate) out: Vec<u8>,
    /// Checkpoints inside `out`.
    pub(crate) announce: Vec<Checkpoint>,
    pub(crate) seq: u32,
    pub(crate) prev: Hash,
    /// Time of the last event that the file's segments hold.
    pub(crate) time: i64,
    /// Plain bytes that the file's segments hold.
    pub(crate) stream: u64,
    pub(crate) events: u64,
    pub(crate) started: i64,
    /// Whether the commit thread counts this session among those with text in the journal only.
    pub(crate) counted_unmerged: bool,
    /// Byte offset of the first segment.
    pub(crate) first_segment: u64,
    /// The data key, for the index that is made after the seal.
    pub(crate) data: Option<Key>,
    sealer: Sealer,
    signer: Arc<CheckpointSigner>,
    nonce: u32,
    signed_at: i64,
    /// The last plain text in the file, since the last fresh segment.
    history: Vec<u8>,
    /// How much of it is kept, in bytes.
    pub(crate) keep: usize,
    since_fresh: u32,
    /// Plain text that the journal holds and the file does not.
    unmerged: Vec<u8>,
    /// Where in `unmerged` the last stretch starts that opens without those before it.
    unmerged_fresh: usize,
    /// Time of the last event in `unmerged`.
    unmerged_time: i64,
}

/// What a stretch of plain text holds.
struct Stretch {
    len: usize,
    events: u64,
    first: i64,
    last: i64,
    /// It begins with a desktop's key frame.
    key_frame: bool,
}

impl Lane {
    pub(crate) fn new(
        id: RecordingId,
        header: Hash,
        started: i64,
        sealer: Sealer,
        signer: Arc<CheckpointSigner>,
        file: Box<dyn SpoolFile>,
    ) -> Self {
        Self {
            id,
            header,
            first_segment: file.len(),
            file,
            phase: Phase::Open,
            out: Vec::new(),
            announce: Vec::new(),
            seq: 0,
            prev: header,
            time: started,
            stream: 0,
            events: 0,
            started,
            counted_unmerged: false,
            data: None,
            sealer,
            signer,
            nonce: 0,
            signed_at: started,
            history: Vec::new(),
            keep: JOURNAL_HISTORY,
            since_fresh: FRESH_EVERY,
            unmerged: Vec::new(),
            unmerged_fresh: 0,
            unmerged_time: started,
        }
    }

    pub(crate) fn has_unmerged(&self) -> bool {
        !self.unmerged.is_empty()
    }

    /// Forgets all text; the recording failed.
    pub(crate) fn drop_text(&mut self) {
        self.out = Vec::new();
        self.unmerged = Vec::new();
        self.history = Vec::new();
        self.announce.clear();
        self.data = None;
    }

    /// Whether `more` bytes are enough to go straight into the file.
    pub(crate) fn is_direct(&self, more: usize) -> bool {
        self.unmerged.len() + more >= DIRECT
    }

    /// Seals `plain` into the journal's next batch; the file gets it with the next merge.
    pub(crate) fn add_to_journal(
        &mut self,
        tools: &mut Tools,
        plain: &[u8],
        batch: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let mut rest = plain;
        while !rest.is_empty() {
            let stretch = measure(rest, self.unmerged_time, SEGMENT)?;
            let (part, after) = rest.split_at(stretch.len);
            let mut head = self.head(&stretch, self.stream + self.unmerged.len() as u64)?;
            let history = self.journal_history();
            let body = self.sealer.seal(tools, &mut head, part, history.as_deref(), false)?;
            journal::push(batch, &self.id, &head, body);
            if head.is_fresh() {
                self.unmerged_fresh = self.unmerged.len();
            }
            self.unmerged.extend_from_slice(part);
            self.unmerged_time = stretch.last;
            rest = after;
        }
        Ok(())
    }

    /// Seals what the journal holds, and `plain` behind it, into the file's next bytes.
    pub(crate) fn add_to_file(
        &mut self,
        tools: &mut Tools,
        plain: &[u8],
        now: i64,
        sign_every: i64,
    ) -> Result<(), RecordError> {
        let mut text = std::mem::take(&mut self.unmerged);
        text.extend_from_slice(plain);
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let stretch = measure(rest, self.time, SEGMENT)?;
            let (part, after) = rest.split_at(stretch.len);
            let sign = now.saturating_sub(self.signed_at) >= sign_every;
            self.segment(tools, part, &stretch, sign.then_some(now))?;
            rest = after;
        }
        self.unmerged_time = self.time;
        self.unmerged_fresh = 0;
        Ok(())
    }

    fn segment(
        &mut self,
        tools: &mut Tools,
        plain: &[u8],
        stretch: &Stretch,
        sign_at: Option<i64>,
    ) -> Result<(), RecordError> {
        let mut head = self.head(stretch, self.stream)?;
        if sign_at.is_some() {
            head.flags |= SIGNED;
        }
        if stretch.key_frame {
            head.flags |= KEY_FRAME;
        }
        let fresh = stretch.key_frame || self.since_fresh >= FRESH_EVERY || plain.len() >= ALONE;
        if fresh {
            self.history.clear();
            self.since_fresh = 0;
        }
        let history = (!fresh).then_some(self.history.as_slice());
        let body = self.sealer.seal(tools, &mut head, plain, history, true)?;
        let head_bytes = head.encode();
        let hash = segment::link(&head_bytes, body);
        self.out.reserve(HEAD_LEN + body.len());
        self.out.extend_from_slice(&head_bytes);
        self.out.extend_from_slice(body);
        if let Some(at) = sign_at {
            self.sign(hash, at)?;
        }
        if head.is_fresh() {
            // Also where it did not shrink: a reader may start there, with nothing before it.
            self.history.clear();
        }
        push_history(&mut self.history, plain, self.keep);
        self.since_fresh += 1;
        self.seq += 1;
        self.prev = hash;
        self.stream += plain.len() as u64;
        self.time = stretch.last;
        self.events += stretch.events;
        Ok(())
    }

    fn sign(&mut self, hash: Hash, at: i64) -> Result<(), RecordError> {
        let signature = segment::sign(&self.signer, &self.header, self.seq, &hash)?;
        self.out.extend_from_slice(&signature);
        self.signed_at = at;
        self.announce.push(Checkpoint { recording: self.id.clone(), seq: self.seq, hash, at, signature });
        Ok(())
    }

    fn head(&mut self, stretch: &Stretch, stream: u64) -> Result<Head, RecordError> {
        let full = RecordError::Crypto("counting segments; the recording is too long");
        self.nonce = self.nonce.checked_add(1).ok_or(full)?;
        Ok(Head {
            kind: kind::EVENTS,
            flags: 0,
            history: 0,
            body_len: 0,
            plain_len: 0,
            stream,
            first: stretch.first,
            span: u32::try_from(stretch.last.saturating_sub(stretch.first)).unwrap_or(u32::MAX),
            nonce: self.nonce,
            seq: self.seq,
            prev: self.prev,
        })
    }

    /// What a journal stretch is compressed against: only those before it in the journal, so that
    /// it can be opened behind whatever part of the file a crash leaves.
    fn journal_history(&self) -> Option<Vec<u8>> {
        if self.unmerged.is_empty() {
            return None;
        }
        let known = self.unmerged.get(self.unmerged_fresh..).unwrap_or_default();
        Some(last(known, JOURNAL_HISTORY).to_vec())
    }
}

/// The longest stretch of whole events that fits, and its times; a desktop's key frame begins another, so that a reader can
/// start there.
fn measure(text: &[u8], before: i64, max: usize) -> Result<Stretch, RecordError> {
    let mut rest = text;
    let mut stretch = Stretch { len: 0, events: 0, first: before, last: before, key_frame: false };
    // The bytes are the encoder's own; a frame that does not parse is a fault of this program.
    while let Some(raw) = next_raw(&mut rest).map_err(|_| RecordError::Crypto("framing events"))? {
        if stretch.events > 0 && (stretch.len + raw.len > max || raw.is_key_frame()) {
            break;
        }
        stretch.last = stretch.last.saturating_add_unsigned(raw.delta);
        if stretch.events == 0 {
            stretch.key_frame = raw.is_key_frame();
            stretch.first = stretch.last;
        }
        stretch.len += raw.len;
        stretch.events += 1;
    }
    Ok(stretch)
}
