//! Data keys, the people they are wrapped to, and the side file that holds the wrapped keys.

use age::{Decryptor, Encryptor};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{Read, Write},
    str::FromStr,
};
use zeroize::Zeroizing;

use crate::{
    error::{ReadError, RecordError},
    header::{Hash, RecordingId, sha256},
};

/// Longest key file, in bytes: room for hundreds of recipients.
pub(crate) const MAX_KEY_FILE: u64 = 256 * 1024;
const DATA: &[u8] = b"cofferdam data key v1\0";
const REVEAL: &[u8] = b"cofferdam reveal key v1\0";

/// Somebody who may read recordings: an age X25519 public key (`age1…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

impl FromStr for Recipient {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.trim().parse().map(Self).map_err(|e| format!("not an age recipient ({e}); it starts with age1"))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The secret half of a [`Recipient`] (`AGE-SECRET-KEY-1…`).
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A fresh identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// The secret as text, for the file that its owner keeps.
    pub fn expose(&self) -> Zeroizing<String> {
        use age::secrecy::ExposeSecret;
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// The first identity in an age key file: lines that start with `#` are notes.
    ///
    /// # Errors
    /// When no line holds an identity.
    pub fn from_key_file(text: &str) -> Result<Self, String> {
        let line = text.lines().map(str::trim).find(|l| l.starts_with("AGE-SECRET-KEY-1"));
        line.ok_or("the file holds no line that starts with AGE-SECRET-KEY-1")?.parse()
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.trim().parse().map(Self).map_err(|e: &str| format!("not an age identity ({e})"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.0.to_public())
    }
}

/// 32 secret bytes; wiped when dropped.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    pub(crate) fn generate() -> Result<Self, RecordError> {
        let mut raw = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(raw.as_mut_slice()).map_err(|_| RecordError::Crypto("making a data key"))?;
        Ok(Self(raw))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for another purpose, from this one and a salt (HKDF-SHA-256, RFC 5869).
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[u8]) -> Result<Self, ReadError> {
        let [key] = self.derive_each(salt, [purpose])?;
        Ok(key)
    }

    /// A key for each of several purposes: as [`derive`](Self::derive) for each, with less work.
    pub(crate) fn derive_each<const N: usize>(
        &self,
        salt: &[u8],
        purposes: [&[u8]; N],
    ) -> Result<[Self; N], ReadError> {
        use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
        let prk = Salt::new(HKDF_SHA256, salt).extract(self.bytes());
        let mut keys = std::array::from_fn(|_| Self(Zeroizing::new([0; 32])));
        for (key, purpose) in keys.iter_mut().zip(purposes) {
            prk.expand(&[purpose], HKDF_SHA256)
                .and_then(|okm| okm.fill(key.0.as_mut_slice()))
                .map_err(|_| ReadError::Limit("key derivation"))?;
        }
        Ok(keys)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The keys of one recording. Whoever holds a reveal key may also read masked input.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) data: Key,
    pub(crate) reveal: Option<Key>,
}

/// What the header says about the keys without giving them away.
pub(crate) fn commitment(id: &RecordingId, key: &Key, reveal: bool) -> Hash {
    let label = if reveal { REVEAL } else { DATA };
    sha256(&[b"cofferdam key commitment v1\0", label, id.as_str().as_bytes(), b"\0", key.bytes()])
}

/// Who may read a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Read everything but masked input.
    pub read: Vec<Recipient>,
    /// May also read masked input (a password typed at a prompt). Empty: masked input keeps only its
    /// length and time, for nobody could ever read it.
    pub reveal: Vec<Recipient>,
}

/// The side file: both keys, each wrapped by age to its recipients. Rewriting it changes who can
/// read; the recording itself, its chain and its signatures stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyFile {
    version: u32,
    recording: RecordingId,
    recipients: Vec<String>,
    data: String,
    #[serde(default)]
    reveal_recipients: Vec<String>,
    #[serde(default)]
    reveal: Option<String>,
}

impl KeyFile {
    pub(crate) fn wrap(id: &RecordingId, keys: &Keys, to: &Recipients) -> Result<Self, RecordError> {
        // Whoever may reveal must be able to read what stands around it.
        let mut read = to.read.clone();
        read.extend(to.reveal.iter().filter(|r| !to.read.contains(r)).cloned());
        if read.is_empty() {
            return Err(RecordError::NoRecipients);
        }
        let reveal = match (&keys.reveal, to.reveal.is_empty()) {
            (Some(key), false) => Some(wrap(REVEAL, key, &to.reveal)?),
            _ => None,
        };
        Ok(Self {
            version: 1,
            recording: id.clone(),
            recipients: read.iter().map(ToString::to_string).collect(),
            data: wrap(DATA, &keys.data, &read)?,
            reveal_recipients: to.reveal.iter().map(ToString::to_string).collect(),
            reveal,
        })
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        serde_json::to_vec_pretty(self).map_err(|_| RecordError::Crypto("writing the key file"))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() as u64 > MAX_KEY_FILE {
            return Err(ReadError::Limit("the key file is too long"));
        }
        let file: Self = serde_json::from_slice(bytes).map_err(|e| ReadError::KeyFile(e.to_string()))?;
        if file.version != 1 {
            return Err(ReadError::KeyFile(format!("version {} is newer than this program", file.version)));
        }
        Ok(file)
    }

    pub(crate) fn recipients(&self) -> (&[String], &[String]) {
        (&self.recipients, &self.reveal_recipients)
    }

    /// The keys that this identity opens; the reveal key only where it may.
    pub(crate) fn unwrap(&self, identity: &Identity) -> Result<Keys, ReadError> {
        let data = unwrap(DATA, &self.data, identity)?;
        let reveal = match &self.reveal {
            Some(text) => match unwrap(REVEAL, text, identity) {
                Ok(key) => Some(key),
                Err(ReadError::NotARecipient) => None,
                Err(e) => return Err(e),
            },
            None => None,
        };
        Ok(Keys { data, reveal })
    }
}

fn wrap(label: &[u8], key: &Key, to: &[Recipient]) -> Result<String, RecordError> {
    let failed = || RecordError::Crypto("wrapping a data key");
    let recipients = to.iter().map(|r| &r.0 as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|_| failed())?;
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).map_err(|_| failed())?;
    writer.write_all(label).and_then(|()| writer.write_all(key.bytes())).map_err(|_| failed())?;
    writer.finish().map_err(|_| failed())?;
    Ok(BASE64_STANDARD.encode(out))
}

fn unwrap(label: &[u8], text: &str, identity: &Identity) -> Result<Key, ReadError> {
    let bad = |what: &str| ReadError::KeyFile(what.to_owned());
    let wrapped = BASE64_STANDARD.decode(text).map_err(|_| bad("it is not base64"))?;
    let decryptor =
        Decryptor::new_buffered(wrapped.as_slice()).map_err(|_| bad("a wrapped key is damaged"))?;
    let mut reader = match decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity)) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys) => return Err(ReadError::NotARecipient),
        Err(_) => return Err(bad("a wrapped key is damaged")),
    };
    let mut found = vec![0; label.len()];
    let mut key = Zeroizing::new([0; 32]);
    reader
        .read_exact(&mut found)
        .and_then(|()| reader.read_exact(key.as_mut_slice()))
        .map_err(|_| bad("a wrapped key is cut off"))?;
    if found != label {
        return Err(ReadError::WrongKey);
    }
    Ok(Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reveal_recipients_get_the_reveal_key() {
        let (reader, revealer, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
        let id: RecordingId = "r1".parse().unwrap();
        let keys = Keys { data: Key::generate().unwrap(), reveal: Some(Key::generate().unwrap()) };
        let to = Recipients { read: vec![reader.recipient()], reveal: vec![revealer.recipient()] };
        let bytes = KeyFile::wrap(&id, &keys, &to).unwrap().to_bytes().unwrap();
        let file = KeyFile::parse(&bytes).unwrap();
        let plain = file.unwrap(&reader).unwrap();
        assert_eq!(plain.data.bytes(), keys.data.bytes());
        assert!(plain.reveal.is_none());
        assert!(file.unwrap(&revealer).unwrap().reveal.is_some());
        assert!(matches!(file.unwrap(&stranger), Err(ReadError::NotARecipient)));
    }

    #[test]
    fn debug_of_an_identity_shows_only_the_public_half() {
        let identity = Identity::generate();
        assert!(!format!("{identity:?}").contains("SECRET"));
    }
}
