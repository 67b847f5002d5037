//! What stands in the store for one recording, and how its objects are named.

use serde::{Deserialize, Serialize};

use super::error::RemoteError;
use crate::{
    header::{Hash, Header, RecordingId},
    writer::SealInfo,
};

/// The manifest: its being there says that the recording is complete.
pub(super) const MANIFEST: &str = "manifest.json";
/// The wrapped keys; replaced as a whole to change who may read.
pub(super) const KEYS: &str = "keys";
/// Why the recording is held; absent where it is not.
pub(super) const HOLD: &str = "hold";
/// The recording itself, in the manifest and in its parts' names.
pub(super) const RECORDING: &str = "recording";
/// Longest manifest that a reader accepts, in bytes.
pub(super) const MAX_MANIFEST: u64 = 64 << 20;
/// Longest part that a reader accepts, in bytes.
pub(super) const MAX_PART: u64 = 256 << 20;
const VERSION: u32 = 1;
/// Most parts of a file; their numbers have six digits.
const MAX_PARTS: usize = 999_999;
/// Most files of a recording.
const MAX_FILES: usize = 16;

/// A stretch of a file, stored as one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Bytes.
    pub(super) bytes: u64,
    /// SHA-256, hexadecimal.
    pub(super) sha256: String,
}

/// A file that belongs to the recording, cut into parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    /// `recording`, or the ending of a side file: `cofidx`, `cofocr`, `torn`.
    pub(super) name: String,
    /// Bytes of the whole.
    pub(super) bytes: u64,
    /// SHA-256 of the whole, hexadecimal.
    pub(super) sha256: String,
    /// Its parts in order.
    pub(super) parts: Vec<Part>,
}

/// All that makes a recording in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// The recording's id, also the name of its folder.
    pub(super) recording: RecordingId,
    /// A copy of the recording's header, so that listings need not fetch it.
    pub(super) header: Header,
    /// A copy of its seal.
    pub(super) seal: SealInfo,
    /// Its files; the recording is the first.
    pub(super) files: Vec<StoredFile>,
}

impl Manifest {
    pub(super) fn new(header: Header, seal: SealInfo, files: Vec<StoredFile>) -> Self {
        Self { version: VERSION, recording: header.id.clone(), header, seal, files }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, RemoteError> {
        serde_json::to_vec(self).map_err(|_| altered(&self.recording, "it cannot be written"))
    }

    /// Reads what the store returned for `id`; it is not taken for true before [`Self::check`].
    pub(super) fn parse(id: &RecordingId, bytes: &[u8]) -> Result<Self, RemoteError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|_| altered(id, "it is no manifest"))?;
        manifest.check(id).map_err(|what| altered(id, what))?;
        Ok(manifest)
    }

    fn check(&self, id: &RecordingId) -> Result<(), &'static str> {
        if self.version != VERSION {
            return Err("it has another version; use a newer cofferdam");
        }
        if self.recording != *id || self.header.id != *id {
            return Err("it belongs to another recording");
        }
        if self.files.len() > MAX_FILES || self.files.first().is_none_or(|f| f.name != RECORDING) {
            return Err("it does not begin with the recording");
        }
        for (index, file) in self.files.iter().enumerate() {
            let letters = file.name.bytes().all(|b| b.is_ascii_lowercase());
            let twice = self.files.iter().take(index).any(|other| other.name == file.name);
            if !letters || !(1..=16).contains(&file.name.len()) || twice {
                return Err("a file has a name that no recording has");
            }
            let sum = file.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.bytes));
            let sane = file.parts.iter().all(|part| (1..=MAX_PART).contains(&part.bytes));
            if file.parts.len() > MAX_PARTS || !sane || sum != Some(file.bytes) {
                return Err("a file's parts do not add up");
            }
        }
        Ok(())
    }

    /// Bytes of the recording itself.
    pub(super) fn bytes(&self) -> u64 {
        self.files.first().map_or(0, |file| file.bytes)
    }
}

impl Part {
    pub(super) fn new(bytes: u64, digest: &Hash) -> Self {
        Self { bytes, sha256: hex::encode(digest) }
    }

    /// Whether an object of that length and digest is this part.
    pub(super) fn is(&self, (bytes, digest): &(u64, Hash)) -> bool {
        *bytes == self.bytes && hex::encode(digest) == self.sha256
    }
}

fn altered(id: &RecordingId, what: &'static str) -> RemoteError {
    RemoteError::Altered { name: object(id, MANIFEST), what }
}

/// The name of an object of a recording.
pub(super) fn object(id: &RecordingId, name: &str) -> String {
    format!("{id}/{name}")
}

/// The name of a part, counted from 1, without the folder.
pub(super) fn part_name(file: &str, number: usize) -> String {
    format!("{file}-{number:06}.part")
}

/// The number of a part of `file`, from its name.
pub(super) fn part_number(file: &str, name: &str) -> Option<usize> {
    let digits = name.strip_prefix(file)?.strip_prefix('-')?.strip_suffix(".part")?;
    let plain = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number > 0)
}

/// Reads arbitrary bytes as a manifest; for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_manifest(bytes: &[u8]) {
    let Ok(id) = "r1".parse::<RecordingId>() else { return };
    if let Ok(manifest) = Manifest::parse(&id, bytes) {
        std::hint::black_box(manifest.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        let part = |bytes: u64| json!({"bytes": bytes, "sha256": "00"});
        let end = json!({"reason": "closed", "by": "", "note": ""});
        json!({
            "version": 1,
            "recording": "r1",
            "header": {"id": "r1", "session": "s", "protocol": "ssh", "user": "u", "asset": "a", "started": 0},
            "seal": {"end": end, "ended": 0, "segments": 1, "plain_bytes": 0},
            "files": [
                {"name": "recording", "bytes": 30, "sha256": "00", "parts": [part(10), part(20)]},
                {"name": "cofidx", "bytes": 0, "sha256": "00", "parts": []},
            ],
        })
    }

    fn read(value: &Value) -> Result<Manifest, RemoteError> {
        Manifest::parse(&"r1".parse().unwrap(), value.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_that_does_not_add_up_is_refused() {
        assert_eq!(read(&good()).unwrap().bytes(), 30);
        let wrong = [
            ("/version", json!(2)),
            ("/recording", json!("r2")),
            ("/header/id", json!("r2")),
            ("/files", json!([])),
            ("/files/0/name", json!("cofidx")),
            ("/files/1/name", json!("recording")),
            ("/files/1/name", json!("../keys")),
            ("/files/1/name", json!("")),
            ("/files/0/bytes", json!(31)),
            ("/files/0/parts/0/bytes", json!(0)),
            ("/files/0/parts/0/bytes", json!(u64::MAX)),
            ("/files/0/parts/0/bytes", json!(-1)),
        ];
        for (place, value) in wrong {
            let mut manifest = good();
            *manifest.pointer_mut(place).unwrap() = value.clone();
            assert!(matches!(read(&manifest), Err(RemoteError::Altered { .. })), "{place} = {value}");
        }
    }

    #[test]
    fn part_numbers_are_exact() {
        for number in [1, 42, 999_999] {
            assert_eq!(part_number("recording", &part_name("recording", number)), Some(number));
        }
        for name in [
            "recording-0.part",
            "recording-000000.part",
            "recording-+00001.part",
            "cofidx-000001.part",
            "keys",
        ] {
            assert_eq!(part_number("recording", name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..600, byte: u8) {
            fuzz_manifest(&bytes);
            let mut near = good().to_string().into_bytes();
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
            fuzz_manifest(&near);
        }
    }
}
