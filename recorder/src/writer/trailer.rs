//! The end of a recording: its index and its seal.

use serde::{Deserialize, Serialize};

use super::lane::Lane;
use crate::{
    codec::{Cursor, put_varint},
    error::ReadError,
    event::End,
    header::{Hash, RecordingId},
    segment::{Footer, HEAD_LEN, Head, kind, push_plain},
    sign::CheckpointSigner,
    storage::SpoolFile,
};

/// Most entries of an index; a longer recording's index keeps every second, fourth, … entry.
const MAX_ENTRIES: usize = 50_000;

/// What a finished recording amounts to; its digest goes into the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The recording.
    pub id: RecordingId,
    /// The chain's last value: SHA-256 that stands for the whole file.
    pub digest: Hash,
    /// The seal's segment number.
    pub seq: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Segments, those of index and seal included.
    pub segments: u32,
    /// Events recorded.
    pub events: u64,
    /// Bytes of events before compression.
    pub plain_bytes: u64,
    /// Time of the first moment: microseconds since 1970, UTC.
    pub started: i64,
    /// Time of the last event: microseconds since 1970, UTC.
    pub ended: i64,
}

/// What the seal says, in clear text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealInfo {
    /// How the session ended.
    pub end: End,
    /// Time of the last event: microseconds since 1970, UTC.
    pub ended: i64,
    /// Segments before the seal.
    pub segments: u32,
    /// Events; absent where a crash kept them from being counted.
    #[serde(default)]
    pub events: Option<u64>,
    /// Bytes of events before compression.
    pub plain_bytes: u64,
    /// Whether a later start closed the recording after a crash.
    #[serde(default)]
    pub recovered: bool,
}

/// Where a segment with events stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Byte offset of its head in the file.
    pub(crate) offset: u64,
    /// Time of its first event.
    pub(crate) first: i64,
    /// Where its text starts in the stream.
    pub(crate) stream: u64,
    /// Whether reading can start there.
    pub(crate) fresh: bool,
    /// Whether a desktop's key frame stands there.
    pub(crate) key_frame: bool,
}

/// The place in the chain where the trailer goes on.
pub(crate) struct Place {
    pub(crate) seq: u32,
    pub(crate) prev: Hash,
    pub(crate) stream: u64,
    pub(crate) time: i64,
    /// Byte offset in the file where the next segment goes.
    pub(crate) offset: u64,
}

/// Finds the segments by their heads; the file is the writer's own.
pub(crate) fn scan_entries(file: &dyn SpoolFile, from: u64) -> std::io::Result<Vec<IndexEntry>> {
    let mut entries = Vec::new();
    let mut offset = from;
    let mut buf = [0; HEAD_LEN];
    while offset < file.len() {
        if file.read_at(&mut buf, offset)? < HEAD_LEN {
            break;
        }
        let Ok(head) = Head::parse(&buf, offset) else { break };
        if head.has_events() {
            entries.push(IndexEntry {
                offset,
                first: head.first,
                stream: head.stream,
                fresh: head.is_fresh(),
                key_frame: head.is_key_frame(),
            });
        }
        offset += head.total_len();
    }
    Ok(entries)
}

fn encode_index(mut entries: Vec<IndexEntry>) -> Vec<u8> {
    while entries.len() > MAX_ENTRIES {
        // A reader walks from an entry to the segment it wants; the entries must be good starts.
        let mut n = 0;
        entries.retain(|e| {
            n += usize::from(e.fresh);
            e.fresh && n % 2 == 1
        });
    }
    let mut out = Vec::new();
    put_varint(&mut out, entries.len() as u64);
    let mut before = IndexEntry { offset: 0, first: 0, stream: 0, fresh: true, key_frame: false };
    for entry in entries {
        put_varint(&mut out, entry.offset.saturating_sub(before.offset));
        put_varint(&mut out, entry.first.wrapping_sub(before.first).cast_unsigned());
        put_varint(&mut out, entry.stream.saturating_sub(before.stream));
        out.push(u8::from(entry.fresh) | u8::from(entry.key_frame) << 1);
        before = entry;
    }
    out
}

/// Reads an index; its entries are only hints, for a reader checks each head it finds there.
pub(crate) fn parse_index(body: &[u8]) -> Option<Vec<IndexEntry>> {
    let mut c = Cursor::new(body);
    let count = usize::try_from(c.varint()?).ok()?;
    // Each entry takes at least four bytes.
    if count > body.len() / 4 {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    let mut at = IndexEntry { offset: 0, first: 0, stream: 0, fresh: true, key_frame: false };
    for _ in 0..count {
        at.offset = at.offset.checked_add(c.varint()?)?;
        at.first = at.first.wrapping_add(c.varint()?.cast_signed());
        at.stream = at.stream.checked_add(c.varint()?)?;
        let start = c.u8()?;
        (at.fresh, at.key_frame) = (start & 1 != 0, start & 2 != 0);
        entries.push(at);
    }
    Some(entries)
}

/// Makes index, seal and footer. Returns the bytes and the seal's hash.
pub(crate) fn build(
    place: &Place,
    header: &Hash,
    entries: Vec<IndexEntry>,
    info: &SealInfo,
    signer: &CheckpointSigner,
) -> Result<(Vec<u8>, Hash), ReadError> {
    let mut head = Head {
        kind: kind::INDEX,
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
    };
    let mut out = Vec::new();
    let index_hash = push_plain(&mut out, head, &encode_index(entries), None)?;
    let seal = place.offset + out.len() as u64;
    head.kind = kind::SEAL;
    head.seq += 1;
    head.prev = index_hash;
    let json = serde_json::to_vec(info).map_err(|_| ReadError::Limit("the seal could not be written"))?;
    let digest = push_plain(&mut out, head, &json, Some((signer, header)))?;
    out.extend_from_slice(&Footer { index: place.offset, seal }.encode());
    Ok((out, digest))
}

/// The trailer of a lane whose events are all in its file.
pub(crate) fn of_lane(
    lane: &Lane,
    end: End,
    signer: &CheckpointSigner,
) -> std::io::Result<(Vec<u8>, Sealed)> {
    let entries = scan_entries(&*lane.file, lane.first_segment)?;
    let place = Place {
        seq: lane.seq,
        prev: lane.prev,
        stream: lane.stream,
        time: lane.time,
        offset: lane.file.len(),
    };
    let info = SealInfo {
        end,
        ended: lane.time,
        segments: lane.seq + 1,
        events: Some(lane.events),
        plain_bytes: lane.stream,
        recovered: false,
    };
    let (bytes, digest) =
        build(&place, &lane.header, entries, &info, signer).map_err(std::io::Error::other)?;
    let sealed = Sealed {
        id: lane.id.clone(),
        digest,
        seq: lane.seq + 1,
        bytes: place.offset + bytes.len() as u64,
        segments: lane.seq + 2,
        events: lane.events,
        plain_bytes: lane.stream,
        started: lane.started,
        ended: lane.time,
    };
    Ok((bytes, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_an_unknown_kind_is_skipped_but_counts_in_the_chain() {
        let signer = CheckpointSigner::generate().unwrap();
        let header = crate::header::Header {
            id: "r1".parse().unwrap(),
            session: "s".into(),
            protocol: "ssh".into(),
            user: "vera".into(),
            organisation: String::new(),
            asset: "pump-hmi".into(),
            zone: String::new(),
            account: String::new(),
            node: String::new(),
            started: 5,
            decision_sha256: String::new(),
            labels: Default::default(),
        };
        let preamble = crate::header::Preamble {
            header,
            data_key: String::new(),
            reveal_key: None,
            signer: signer.public_key().to_string(),
        };
        let (mut file, digest) = crate::header::encode(&preamble, &signer).unwrap();
        let head = Head {
            kind: 200,
            flags: 0,
            history: 0,
            body_len: 0,
            plain_len: 0,
            stream: 0,
            first: 5,
            span: 0,
            nonce: 0,
            seq: 0,
            prev: digest,
        };
        let prev = push_plain(&mut file, head, b"from the future", None).unwrap();
        let place = Place { seq: 1, prev, stream: 0, time: 5, offset: file.len() as u64 };
        let info = SealInfo {
            end: End::because("closed"),
            ended: 5,
            segments: 2,
            events: Some(0),
            plain_bytes: 0,
            recovered: false,
        };
        let (end, _) = build(&place, &digest, Vec::new(), &info, &signer).unwrap();
        file.extend_from_slice(&end);
        let verify = |file: &[u8]| crate::verify::verify_source(&file, &signer.public_key(), &[]).unwrap();
        assert!(verify(&file).is_whole(), "{:?}", verify(&file).problems);
        let at = place.offset as usize - 3;
        file[at] ^= 1;
        assert!(!verify(&file).is_whole());
    }

    #[test]
    fn an_index_comes_back_and_a_long_one_is_thinned() {
        let entry = |n: u64| IndexEntry {
            offset: n * 100,
            first: n as i64 - 5,
            stream: n * 7,
            fresh: n.is_multiple_of(3),
            key_frame: n.is_multiple_of(6),
        };
        let few: Vec<_> = (0..10).map(entry).collect();
        assert_eq!(parse_index(&encode_index(few.clone())).unwrap(), few);
        let many: Vec<_> = (0..400_000).map(entry).collect();
        let thin = parse_index(&encode_index(many)).unwrap();
        assert!(thin.len() <= MAX_ENTRIES && thin.iter().all(|e| e.fresh));
        assert!(parse_index(&[0xff, 0xff, 0xff, 0x7f]).is_none());
    }
}
