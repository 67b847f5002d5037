//! Proof without any secret: the chain, the signatures, the seal and the audit log's anchors.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fs::File, path::Path};

use crate::{
    chain::{self, Found, Walker},
    error::ReadError,
    header::{Hash, Header},
    segment::{FOOTER_LEN, FROM_JOURNAL, Footer, kind, signature_holds},
    sign::VerifyingKey,
    storage::Source,
    writer::SealInfo,
};

/// Most problems that a report lists.
const MAX_PROBLEMS: usize = 1000;

/// A checkpoint as the audit log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The segment's number.
    pub seq: u32,
    /// The chain's value there.
    #[serde(with = "hex_hash")]
    pub hash: Hash,
}

/// A hash as 64 hexadecimal digits.
mod hex_hash {
    use crate::header::Hash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Hash, D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash).map_err(D::Error::custom)?;
        Ok(hash)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The header does not carry the server's signature.
    Header,
    /// Bytes that are no segment.
    Unreadable(String),
    /// The segment was changed after it was written: the chain's next value does not fit it.
    Altered,
    /// Segments are missing, doubled or out of order here.
    Order {
        /// The number that should stand here.
        expected: u32,
        /// The number that stands here.
        found: u32,
    },
    /// The signature at this segment does not fit it.
    Signature,
    /// There is no seal: cut off, broken off, or still being written.
    NotSealed,
    /// The seal's own count does not fit the file.
    Seal(String),
    /// Bytes behind the end, or a wrong footer.
    Footer,
    /// The audit log knows another value for this segment.
    Anchor,
    /// The audit log knows a segment that is not in the file.
    Truncated,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header was altered or signed by another key"),
            Self::Unreadable(what) => write!(f, "unreadable bytes: {what}"),
            Self::Altered => f.write_str("the segment was altered"),
            Self::Order { expected, found } => {
                write!(f, "segment {expected} should stand here but {found} does: missing, doubled or moved")
            }
            Self::Signature => f.write_str("the signature does not fit the segment"),
            Self::NotSealed => f.write_str("there is no seal: cut off, broken off or still being written"),
            Self::Seal(what) => write!(f, "the seal does not fit the file: {what}"),
            Self::Footer => f.write_str("the end of the file was altered"),
            Self::Anchor => f.write_str("the audit log holds another value for this segment"),
            Self::Truncated => {
                f.write_str("the audit log knows of this segment but the file does not hold it")
            }
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The segment's number, where it is known.
    pub seq: Option<u32>,
    /// Byte offset in the file.
    pub offset: u64,
    /// The time from which on the content is not to be trusted: microseconds since 1970, UTC.
    pub from: Option<i64>,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the recording says it is about.
    pub header: Header,
    /// Everything that is wrong, in the order of the file; at most 1000 entries.
    pub problems: Vec<Problem>,
    /// The seal, where there is one.
    pub seal: Option<SealInfo>,
    /// The chain's last value.
    pub digest: Hash,
    /// Segments read.
    pub segments: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Signatures that hold.
    pub signatures: u32,
    /// Anchors of the audit log that fit.
    pub anchors: u32,
    /// Up to here a signature covers the content: microseconds since 1970, UTC.
    pub proven_until: Option<i64>,
    /// From here to the end of the recovery the content was signed only after a crash.
    pub recovered_from: Option<i64>,
}

impl Report {
    /// Whether the recording is whole, sealed and unaltered.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first time that is not to be trusted: microseconds since 1970, UTC.
    pub fn untrusted_from(&self) -> Option<i64> {
        self.problems.iter().filter_map(|problem| problem.from).min()
    }
}

/// Verifies a recording with the server's public key alone, and against what the audit log knows.
///
/// # Errors
/// When the file cannot be read or is no recording at all; anything else is in the report.
pub fn verify(path: &Path, key: &VerifyingKey, anchors: &[Anchor]) -> Result<Report, ReadError> {
    verify_source(&File::open(path)?, key, anchors)
}

pub(crate) fn verify_source(
    source: &impl Source,
    key: &VerifyingKey,
    anchors: &[Anchor],
) -> Result<Report, ReadError> {
    let preamble = chain::read_preamble(source)?;
    let report = Report {
        header: preamble.preamble.header.clone(),
        problems: Vec::new(),
        seal: None,
        digest: preamble.digest,
        segments: 0,
        bytes: source.size()?,
        signatures: 0,
        anchors: 0,
        proven_until: None,
        recovered_from: None,
    };
    let started = preamble.preamble.header.started;
    let mut check = Check {
        key,
        header: preamble.digest,
        report,
        seq: 0,
        prev: preamble.digest,
        last: None,
        time: started,
        stream: 0,
        index: 0,
        seal: None,
        anchors: anchors.iter().map(|anchor| (anchor.seq, anchor.hash)).collect(),
    };
    if !preamble.signed_by(key) {
        check.problem(None, 0, Some(started), ProblemKind::Header);
    }
    check.walk(source, preamble.len)?;
    Ok(check.finish())
}

struct Check<'k> {
    key: &'k VerifyingKey,
    header: Hash,
    report: Report,
    seq: u32,
    prev: Hash,
    /// The segment before.
    last: Option<(u32, u64, i64)>,
    time: i64,
    stream: u64,
    index: u64,
    /// Byte offset of the seal, once it was seen.
    seal: Option<u64>,
    anchors: BTreeMap<u32, Hash>,
}

impl Check<'_> {
    fn problem(&mut self, seq: Option<u32>, offset: u64, from: Option<i64>, kind: ProblemKind) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(Problem { seq, offset, from, kind });
        }
    }

    fn walk(&mut self, source: &impl Source, start: u64) -> Result<(), ReadError> {
        let size = self.report.bytes;
        let mut walker = Walker::new(source, start);
        while walker.offset < size {
            if let Some(seal) = self.seal {
                self.footer(source, walker.offset, seal)?;
                return Ok(());
            }
            let offset = walker.offset;
            match walker.read() {
                Ok(found) => self.segment(&found, &walker.body),
                Err(ReadError::Damaged { what, .. }) => {
                    self.problem(Some(self.seq), offset, Some(self.time), ProblemKind::Unreadable(what));
                    walker.offset = offset;
                    if !walker.resync()? {
                        break;
                    }
                    // What stands in the gap cannot be known: go on from what comes next.
                    let head = walker.peek()?;
                    (self.seq, self.prev, self.stream) = (head.seq, head.prev, head.stream);
                    self.last = None;
                }
                Err(e) => return Err(e),
            }
        }
        match self.seal {
            Some(offset) => self.problem(None, offset, None, ProblemKind::Footer),
            None => {
                let from = self.report.proven_until.unwrap_or(self.report.header.started);
                self.problem(None, size, Some(from), ProblemKind::NotSealed);
            }
        }
        Ok(())
    }

    fn segment(&mut self, found: &Found, body: &[u8]) {
        let head = &found.head;
        let (seq, offset, from) = (head.seq, found.offset, Some(head.first.min(self.time.max(head.first))));
        if seq != self.seq {
            let kind = ProblemKind::Order { expected: self.seq, found: seq };
            self.problem(Some(seq), offset, Some(self.time.min(head.first)), kind);
        } else if head.prev != self.prev {
            // This one names the value that its forerunner had when it was written.
            match self.last {
                Some((before, at, time)) => self.problem(Some(before), at, Some(time), ProblemKind::Altered),
                None => {
                    self.problem(Some(seq), offset, Some(self.report.header.started), ProblemKind::Altered)
                }
            }
        } else if head.stream != self.stream {
            self.problem(Some(seq), offset, from, ProblemKind::Altered);
        }
        if let Some(signature) = &found.signature {
            if signature_holds(self.key, &self.header, seq, &found.hash, signature) {
                self.report.signatures += 1;
                self.report.proven_until = Some(head.last());
            } else {
                self.problem(Some(seq), offset, from, ProblemKind::Signature);
            }
        }
        if let Some(known) = self.anchors.remove(&seq) {
            if known == found.hash {
                self.report.anchors += 1;
            } else {
                self.problem(Some(seq), offset, from, ProblemKind::Anchor);
            }
        }
        if head.flags & FROM_JOURNAL != 0 {
            self.report.recovered_from.get_or_insert(head.first);
        }
        match head.kind {
            kind::EVENTS => self.time = self.time.max(head.last()),
            kind::RECOVERED => {
                self.report.recovered_from.get_or_insert(self.time);
            }
            kind::INDEX => self.index = offset,
            kind::SEAL => self.sealed(found, body),
            _ => {}
        }
        self.last = Some((seq, offset, head.first));
        self.report.segments += 1;
        self.report.digest = found.hash;
        self.seq = seq.wrapping_add(1);
        self.prev = found.hash;
        if head.has_events() {
            self.stream = head.stream.saturating_add(u64::from(head.plain_len));
        }
    }

    fn sealed(&mut self, found: &Found, body: &[u8]) {
        let (seq, offset) = (found.head.seq, found.offset);
        self.seal = Some(offset);
        let time = Some(self.time);
        if found.signature.is_none() {
            self.problem(Some(seq), offset, time, ProblemKind::Signature);
        }
        let info = match serde_json::from_slice::<SealInfo>(body) {
            Ok(info) => info,
            Err(e) => return self.problem(Some(seq), offset, time, ProblemKind::Seal(e.to_string())),
        };
        if info.segments != seq {
            let what = format!("it counts {} segments before it and has number {seq}", info.segments);
            self.problem(Some(seq), offset, time, ProblemKind::Seal(what));
        }
        if info.plain_bytes != self.stream {
            let what = format!("it counts {} bytes of events, there are {}", info.plain_bytes, self.stream);
            self.problem(Some(seq), offset, time, ProblemKind::Seal(what));
        }
        self.report.seal = Some(info);
    }

    fn footer(&mut self, source: &impl Source, at: u64, seal: u64) -> Result<(), ReadError> {
        let mut bytes = [0; FOOTER_LEN];
        let got = source.read_at(&mut bytes, at)?;
        let expected = Footer { index: self.index, seal };
        let fits = got == FOOTER_LEN && Footer::parse(&bytes) == Some(expected);
        if !fits || self.report.bytes != at + FOOTER_LEN as u64 {
            self.problem(None, at, None, ProblemKind::Footer);
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        let missing: Vec<u32> = self.anchors.keys().copied().collect();
        for seq in missing {
            let (size, time) = (self.report.bytes, self.time);
            self.problem(Some(seq), size, Some(time), ProblemKind::Truncated);
        }
        self.report
    }
}
