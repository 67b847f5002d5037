//! The immutable start of a recording: magic, version, header and the server's signature over them.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    codec::Cursor,
    error::{ReadError, RecordError},
    sign::{CheckpointSigner, SIGNATURE_LEN, VerifyingKey},
};

/// First bytes of every recording.
pub(crate) const MAGIC: [u8; 8] = *b"COFFREC\0";
/// The major version that this program writes and the newest it reads.
pub(crate) const MAJOR: u16 = 1;
/// The minor version that this program writes; readers ignore it.
pub(crate) const MINOR: u16 = 0;
/// Longest header, in bytes of JSON.
pub(crate) const MAX_HEADER: usize = 64 * 1024;
/// Bytes before the JSON: magic, major, minor, length.
pub(crate) const FIXED: usize = 16;
/// Longest text of one header field or label, in bytes.
const MAX_FIELD: usize = 1024;
/// Most labels.
const MAX_LABELS: usize = 64;
const SIGN_CONTEXT: &[u8] = b"cofferdam recording header v1\0";

/// A SHA-256 value.
pub type Hash = [u8; 32];

pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = aws_lc_rs::digest::Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    to_hash(context.finish().as_ref())
}

pub(crate) fn sha256_one(bytes: &[u8]) -> Hash {
    to_hash(digest(&SHA256, bytes).as_ref())
}

pub(crate) fn to_hash(bytes: &[u8]) -> Hash {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// The name of a recording, also its file name: 1 to 64 of `A–Z a–z 0–9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordingId(String);

impl RecordingId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordingId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if (1..=64).contains(&s.len()) && s.bytes().all(fits) {
            Ok(Self(s.to_owned()))
        } else {
            Err("a recording id has 1 to 64 letters, digits, '_' or '-'".to_owned())
        }
    }
}

impl TryFrom<String> for RecordingId {
    type Error = String;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<RecordingId> for String {
    fn from(id: RecordingId) -> Self {
        id.0
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a recording is about. Stands in clear text, so that recordings can be listed and filtered
/// without anybody's key; put nothing secret here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The recording's name.
    pub id: RecordingId,
    /// The session's id.
    pub session: String,
    /// `ssh`, `rdp`, `modbus`, …
    pub protocol: String,
    /// The person's log-in name.
    pub user: String,
    /// The person's organisation.
    #[serde(default)]
    pub organisation: String,
    /// The asset's name.
    pub asset: String,
    /// The asset's zone.
    #[serde(default)]
    pub zone: String,
    /// The account on the asset.
    #[serde(default)]
    pub account: String,
    /// The gateway node that recorded.
    #[serde(default)]
    pub node: String,
    /// When it began: microseconds since 1970, UTC.
    pub started: i64,
    /// SHA-256 of the decision record, hexadecimal.
    #[serde(default)]
    pub decision_sha256: String,
    /// Anything else worth finding later: window id, work order, origin address.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Header {
    fn check(&self) -> Result<(), String> {
        let fields = [
            &self.session,
            &self.protocol,
            &self.user,
            &self.organisation,
            &self.asset,
            &self.zone,
            &self.account,
            &self.node,
            &self.decision_sha256,
        ];
        let labels = self.labels.iter().flat_map(|(k, v)| [k, v]);
        if self.labels.len() > MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        if fields.into_iter().chain(labels).any(|f| f.len() > MAX_FIELD) {
            return Err(format!("a field has more than {MAX_FIELD} bytes"));
        }
        Ok(())
    }
}

/// The header as it stands in the file: the caller's part and what the recorder adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preamble {
    /// The caller's part.
    #[serde(flatten)]
    pub header: Header,
    /// SHA-256 commitment to the data key, hexadecimal.
    pub data_key: String,
    /// SHA-256 commitment to the reveal key, hexadecimal; absent where masked input is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reveal_key: Option<String>,
    /// The public key that signs this recording, hexadecimal. A hint only: verify with your own copy.
    pub signer: String,
}

/// A preamble read from a file.
#[derive(Debug, Clone)]
pub(crate) struct ReadPreamble {
    pub(crate) preamble: Preamble,
    /// SHA-256 over everything before the signature; the first link of the chain.
    pub(crate) digest: Hash,
    pub(crate) signature: [u8; SIGNATURE_LEN],
    /// Bytes in the file, signature included: where the first segment starts.
    pub(crate) len: u64,
}

impl ReadPreamble {
    pub(crate) fn signed_by(&self, key: &VerifyingKey) -> bool {
        key.verify(&sign_message(&self.digest), &self.signature)
    }
}

fn sign_message(digest: &Hash) -> Vec<u8> {
    [SIGN_CONTEXT, digest].concat()
}

/// The bytes of a preamble and their digest.
pub(crate) fn encode(preamble: &Preamble, signer: &CheckpointSigner) -> Result<(Vec<u8>, Hash), RecordError> {
    preamble.header.check().map_err(RecordError::Header)?;
    let json = serde_json::to_vec(preamble).map_err(|e| RecordError::Header(e.to_string()))?;
    if json.len() > MAX_HEADER {
        return Err(RecordError::Header(format!("it has more than {MAX_HEADER} bytes")));
    }
    let mut out = Vec::with_capacity(FIXED + json.len() + SIGNATURE_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&MAJOR.to_le_bytes());
    out.extend_from_slice(&MINOR.to_le_bytes());
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&json);
    let digest = sha256_one(&out);
    out.extend_from_slice(&signer.sign(&sign_message(&digest))?);
    Ok((out, digest))
}

/// How many bytes the whole preamble has, from its first [`FIXED`] bytes.
pub(crate) fn preamble_len(fixed: &[u8]) -> Result<usize, ReadError> {
    let mut c = Cursor::new(fixed);
    let short = ReadError::NotARecording("it is too short");
    if c.array::<8>().ok_or(short)? != MAGIC {
        return Err(ReadError::NotARecording("its first bytes are wrong"));
    }
    let major = c.u16().ok_or(ReadError::NotARecording("it is too short"))?;
    if major > MAJOR {
        return Err(ReadError::NewerVersion(major));
    }
    if major == 0 {
        return Err(ReadError::NotARecording("its version is 0"));
    }
    c.u16();
    let json = c.u32().ok_or(ReadError::NotARecording("it is too short"))? as usize;
    if json > MAX_HEADER {
        return Err(ReadError::Limit("the header is too long"));
    }
    Ok(FIXED + json + SIGNATURE_LEN)
}

/// Reads a whole preamble; `bytes` may go on behind it.
pub(crate) fn decode(bytes: &[u8]) -> Result<ReadPreamble, ReadError> {
    let len = preamble_len(bytes)?;
    let short = || ReadError::NotARecording("its header is cut off");
    let signed = bytes.get(..len - SIGNATURE_LEN).ok_or_else(short)?;
    let signature =
        Cursor::new(bytes.get(len - SIGNATURE_LEN..).ok_or_else(short)?).array().ok_or_else(short)?;
    let json = signed.get(FIXED..).ok_or_else(short)?;
    let preamble: Preamble =
        serde_json::from_slice(json).map_err(|e| ReadError::damaged(FIXED as u64, format!("header: {e}")))?;
    Ok(ReadPreamble { preamble, digest: sha256_one(signed), signature, len: len as u64 })
}
