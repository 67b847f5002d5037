//! The audit log: what is written, the bytes under hash and signature, and how a reader checks them.
//!
//! Entries are numbered from 1 without gaps. Each holds the hash of the one before and is signed, so an entry's number,
//! time, hash and signature together are a [`Checkpoint`]: whoever keeps one can later prove that the log was longer.
//! `docs/audit-log.md` gives the format for other implementations.

mod checkpoint;
mod kind;
mod verify;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use aws_lc_rs::{digest, signature};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{clock::Timestamp, ids::Name};

pub use checkpoint::{Checkpoint, CheckpointFile};
pub use kind::{AuditKind, UnknownKind};
pub use verify::{AuditReport, BadEntry, ChainVerifier, Problem};

/// Longest body of an entry, bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Longest subject of an entry, characters.
const MAX_SUBJECT: usize = 256;

/// Who did it, as the log writes it: a person's name, `system:PART`, `operator:OS-USER` (somebody on the gateway's own
/// command line), or `anonymous`. Names hold no colon, so none can be taken for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(String);

impl Actor {
    /// A person who has proved who they are.
    pub fn person(name: &Name) -> Self {
        Self(name.as_str().to_owned())
    }
    /// A part of this program acting by itself.
    pub fn system(part: &str) -> Self {
        Self(format!("system:{}", printable(part, 64)))
    }
    /// Somebody with a shell on the gateway, by the name the operating system gives.
    pub fn operator(os_user: &str) -> Self {
        Self(format!("operator:{}", printable(os_user, 64)))
    }
    /// Somebody who has not (yet) proved who they are.
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acts, when, and from where: goes with every change.
#[derive(Debug, Clone)]
pub struct Act {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// The address they came from, where there is one.
    pub source: Option<IpAddr>,
    /// The person on whose behalf somebody else acts: named, but not proved to be there.
    pub on_behalf_of: Option<Name>,
}

impl Act {
    /// Somebody acts now.
    pub fn new(actor: Actor, at: Timestamp) -> Self {
        Self { actor, at, source: None, on_behalf_of: None }
    }
    /// A person acts now.
    pub fn person(name: &Name, at: Timestamp) -> Self {
        Self::new(Actor::person(name), at)
    }
    /// A part of this program acts now.
    pub fn system(part: &str, at: Timestamp) -> Self {
        Self::new(Actor::system(part), at)
    }
    /// On whose behalf; stands in the event as `for`.
    #[must_use]
    pub fn on_behalf_of(mut self, person: Option<&Name>) -> Self {
        self.on_behalf_of = person.cloned();
        self
    }
    /// The address they came from.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }
}

/// An event about to be written; actor, time and source come from the [`Act`].
#[derive(Debug, Clone)]
pub struct AuditEvent {
    kind: AuditKind,
    subject: String,
    body: Map<String, Value>,
}

impl AuditEvent {
    /// Something happened to `subject` (a session id, a window id, a person, `login@asset` …). Text that a peer chose
    /// may be given: control characters are replaced and the length is bounded.
    pub fn new(kind: AuditKind, subject: impl fmt::Display) -> Self {
        Self { kind, subject: printable(&subject.to_string(), MAX_SUBJECT), body: Map::new() }
    }

    /// Adds a detail. Never a secret, a code or a keystroke.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a detail if there is one.
    #[must_use]
    pub fn with_some(self, field: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(v) => self.with(field, v),
            None => self,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> AuditKind {
        self.kind
    }

    /// The JSON text of the body, with the source address, and bounded: a body that is too long is replaced by its
    /// length and digest, because an event must not be lost for being long.
    pub(crate) fn body_text(&self, act: &Act) -> String {
        let mut body = self.body.clone();
        if let Some(source) = act.source {
            body.insert("source".to_owned(), source.to_canonical().to_string().into());
        }
        if let Some(person) = &act.on_behalf_of {
            body.insert("for".to_owned(), person.as_str().into());
        }
        let text = Value::Object(body).to_string();
        if text.len() <= MAX_BODY {
            return text;
        }
        let digest = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        serde_json::json!({"too_long": text.len(), "sha256": digest}).to_string()
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

/// Replaces what a terminal or a database would stumble over, and bounds the length.
fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An entry of the log, exactly as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When, microseconds since 1970, UTC.
    pub at: Timestamp,
    /// What happened: a fixed name. Text, because a newer program may have written it.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// What it happened to.
    pub subject: String,
    /// Details: the JSON text as it was hashed.
    pub body: String,
    /// Hash of the entry before, lower-case hexadecimal; 64 zeros for the first.
    pub prev_hash: String,
    /// SHA-256 over [`AuditEntry::canonical`], lower-case hexadecimal.
    pub hash: String,
    /// Which key signed.
    pub key_id: String,
    /// Ed25519 signature over [`signed_bytes`], lower-case hexadecimal.
    pub signature: String,
}

/// The `prev_hash` of the first entry.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl AuditEntry {
    /// The bytes under the hash: `"cofferdam audit v1\0"`, then `seq` and `at` as 8 bytes each (big-endian), then kind,
    /// actor, subject, body and previous hash (hexadecimal text), each after its length in bytes (8 bytes, big-endian).
    pub fn canonical(&self) -> Vec<u8> {
        let texts = [&self.kind, &self.actor, &self.subject, &self.body, &self.prev_hash];
        let mut out = Vec::with_capacity(80 + texts.iter().map(|t| t.len() + 8).sum::<usize>());
        out.extend_from_slice(b"cofferdam audit v1\0");
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.at.micros().to_be_bytes());
        for text in texts {
            push_text(&mut out, text);
        }
        out
    }

    /// The hash that the entry should have.
    pub fn computed_hash(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.canonical()).as_ref())
    }

    /// What to keep elsewhere as proof that the log reached this entry.
    /// Whether one of `keys` signed exactly this entry. That it stands in an unbroken chain is another question.
    pub fn is_signed_by(&self, keys: &AuditKeys) -> bool {
        self.computed_hash() == self.hash && keys.check(&self.checkpoint()).is_ok()
    }
    /// The proof of it that somebody else may keep.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            seq: self.seq,
            at: self.at,
            hash: self.hash.clone(),
            key_id: self.key_id.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// The bytes under a signature: `"cofferdam audit entry v1\0"`, `seq` and `at` as 8 bytes each (big-endian), then key id
/// and hash (hexadecimal text), each after its length in bytes (8 bytes, big-endian).
pub fn signed_bytes(seq: u64, at: Timestamp, key_id: &str, hash: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(b"cofferdam audit entry v1\0");
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&at.micros().to_be_bytes());
    push_text(&mut out, key_id);
    push_text(&mut out, hash);
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Signs entries with Ed25519 (RFC 8032).
pub trait AuditSigner: Send + Sync + fmt::Debug {
    /// The 64-byte signature over `message`. Any other length counts as a failure, and nothing is written.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
    /// A short name of the key, written into every entry.
    fn key_id(&self) -> &str;
    /// The 32-byte public key.
    fn public_key(&self) -> Vec<u8>;
}

#[derive(Debug, Clone)]
struct AuditKey {
    public_key: Vec<u8>,
    last_seq: Option<u64>,
}

/// The public keys that entries may be signed with. A retired key stays valid for the entries it signed.
#[derive(Debug, Clone, Default)]
pub struct AuditKeys(BTreeMap<String, AuditKey>);

impl AuditKeys {
    /// The key in use by `signer`.
    pub fn of(signer: &dyn AuditSigner) -> Self {
        Self::default().with(signer.key_id(), &signer.public_key())
    }
    /// Adds a key (32 bytes) that may sign any entry.
    #[must_use]
    pub fn with(mut self, key_id: &str, public_key: &[u8]) -> Self {
        self.0.insert(key_id.to_owned(), AuditKey { public_key: public_key.to_vec(), last_seq: None });
        self
    }
    /// Adds a retired key (32 bytes); what it signed after `last_seq`, if that is known, is not believed.
    #[must_use]
    pub fn with_retired(mut self, key_id: &str, public_key: &[u8], last_seq: Option<u64>) -> Self {
        self.0.insert(key_id.to_owned(), AuditKey { public_key: public_key.to_vec(), last_seq });
        self
    }

    /// Checks the signature of an entry or checkpoint.
    pub(crate) fn check(&self, c: &Checkpoint) -> Result<(), Problem> {
        let key = self.0.get(&c.key_id).ok_or_else(|| Problem::UnknownKey(c.key_id.clone()))?;
        if key.last_seq.is_some_and(|last| c.seq > last) {
            return Err(Problem::RetiredKey(c.key_id.clone()));
        }
        let signature = hex::decode(&c.signature).map_err(|_| Problem::BadSignature)?;
        signature::UnparsedPublicKey::new(&signature::ED25519, &key.public_key)
            .verify(&signed_bytes(c.seq, c.at, &c.key_id, &c.hash), &signature)
            .map_err(|_| Problem::BadSignature)
    }
}
