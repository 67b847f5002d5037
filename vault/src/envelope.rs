//! Break-glass envelopes: one secret, encrypted to a few recipients, on paper or in a file, for the day on which nothing
//! of this program runs.
//!
//! The text says in clear whose secret it is, when it was made and of which version, and then holds an ordinary age file
//! (armored), so that `age -d` opens it without us. What the clear part says stands inside once more: an envelope whose
//! label was exchanged is found when it is opened. Opening is loud, which is the caller's affair, and a
//! [`RotationDue`] follows.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519::Recipient;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::checkout::{Because, RotationDue};
use crate::root::Root;
use crate::seal::MAX_SECRET_BYTES;
use crate::secret::SecretBytes;

/// The most recipients of one envelope.
pub const MAX_RECIPIENTS: usize = 16;

const TITLE: &str = "COFFERDAM BREAK-GLASS ENVELOPE";
const HOW: &str =
    "open with `cofferdam vault envelope open`, or with `age -d -i IDENTITY` from the line BEGIN on";
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// The longest text that is read: the largest secret in base 64, and its label.
const MAX_TEXT: usize = 2 * MAX_SECRET_BYTES + 8192;
const MAX_NAME: usize = 255;

/// Why an envelope is not made or opened. No text holds any part of the secret.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Nobody could open it, or too many.
    #[error("an envelope is for 1 to {MAX_RECIPIENTS} recipients; name them in the configuration")]
    Recipients,
    /// A recipient that is none.
    #[error("{0:?} is no age recipient; write the public half, \"age1…\"")]
    Recipient(String),
    /// A name that would forge a line of the label.
    #[error("the {0} cannot stand on an envelope; use 1 to {MAX_NAME} printable characters")]
    Name(&'static str),
    /// The text is no envelope.
    #[error("this is no break-glass envelope: {0}; give the whole text, from the line \"{TITLE}\" on")]
    Form(&'static str),
    /// It was altered or mistyped.
    #[error(
        "the checksum of the envelope of account {0} does not match: it was mistyped or altered; compare it with the paper"
    )]
    Checksum(String),
    /// The identity is none of its recipients.
    #[error("the identity does not open the envelope of account {0}; it is for: {1}")]
    NotYours(String, String),
    /// The label is not the one that was sealed.
    #[error(
        "the envelope is not what its label says: inside it is of account {inside}, outside of {outside}; do not use it, and find out who exchanged the label"
    )]
    Exchanged {
        /// What is sealed.
        inside: String,
        /// What the label says.
        outside: String,
    },
    /// The cryptographic library refused a valid request.
    #[error("the cryptographic library could not {action}; this is a fault of the program, report it")]
    Library {
        /// What was being done.
        action: &'static str,
    },
}

/// What stands on an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The envelope's id, for the audit log.
    pub id: String,
    /// The account's name.
    pub account: String,
    /// When it was made, in UTC microseconds; whole seconds are kept.
    pub made_at: i64,
    /// The version of the secret: once the account has a later one, the envelope is worth nothing.
    pub version: u64,
    /// Who can open it (`age1…`).
    pub recipients: Vec<String>,
}

/// A sealed envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    label: Label,
    armored: String,
}

impl Envelope {
    /// Seals `secret` for the label's recipients.
    ///
    /// # Errors
    /// [`EnvelopeError::Recipients`], [`EnvelopeError::Recipient`], [`EnvelopeError::Name`].
    pub fn seal(label: Label, secret: &SecretBytes) -> Result<Self, EnvelopeError> {
        for (name, what) in [(&label.id, "id"), (&label.account, "account's name")] {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(EnvelopeError::Name(what));
            }
        }
        if label.recipients.is_empty() || label.recipients.len() > MAX_RECIPIENTS {
            return Err(EnvelopeError::Recipients);
        }
        let parse =
            |text: &String| text.parse::<Recipient>().map_err(|_| EnvelopeError::Recipient(text.clone()));
        let recipients = label.recipients.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let facts = facts(&label)?;
        let mut inside = Zeroizing::new(Vec::with_capacity(facts.len() + 1 + secret.len()));
        inside.extend_from_slice(facts.as_bytes());
        inside.push(b'\n');
        inside.extend_from_slice(secret.expose());
        let armored =
            encrypt(&recipients, &inside).ok_or(EnvelopeError::Library { action: "encrypt an envelope" })?;
        Ok(Self { label, armored })
    }

    /// What stands on it. Not proven until it is opened.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The text, to be printed or exported.
    ///
    /// # Errors
    /// Never for an envelope that was sealed or read.
    pub fn to_text(&self) -> Result<String, EnvelopeError> {
        let mut text = format!("{TITLE}\n{HOW}\n\n{}", facts(&self.label)?);
        for recipient in &self.label.recipients {
            line(&mut text, "recipient", recipient)?;
        }
        line(&mut text, "checksum", &self.checksum()?)?;
        text.push('\n');
        text.push_str(&self.armored);
        Ok(text)
    }

    /// Reads the text again, as it was printed or typed.
    ///
    /// # Errors
    /// [`EnvelopeError::Form`], [`EnvelopeError::Checksum`].
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        if text.len() > MAX_TEXT {
            return Err(EnvelopeError::Form("it is too long"));
        }
        let (head, body) = text.split_once(BEGIN).ok_or(EnvelopeError::Form("the age file is missing"))?;
        let mut lines = head.lines().map(str::trim).skip_while(|l| *l != TITLE);
        lines.next().ok_or(EnvelopeError::Form("the title is missing"))?;
        let (mut label, mut checksum) = (Found::default(), None);
        for line in lines {
            match line.split_once(": ") {
                Some(("checksum", value)) => checksum = Some(value.to_owned()),
                Some((key, value)) => label.take(key, value),
                None => {}
            }
        }
        let label = label.whole().ok_or(EnvelopeError::Form("a line of its label is missing"))?;
        let mut armored = BEGIN.to_owned();
        for line in body.lines().map(str::trim).filter(|l| !l.is_empty()) {
            armored.push('\n');
            armored.push_str(line);
        }
        armored.push('\n');
        let envelope = Self { label, armored };
        if checksum != Some(envelope.checksum()?) {
            return Err(EnvelopeError::Checksum(envelope.label.account));
        }
        Ok(envelope)
    }

    /// Opens it. The caller has audited that before, and sees to the rotation that follows.
    ///
    /// # Errors
    /// [`EnvelopeError::NotYours`], [`EnvelopeError::Exchanged`].
    pub fn open(&self, identity: &Root) -> Result<(SecretBytes, RotationDue), EnvelopeError> {
        let not_yours =
            || EnvelopeError::NotYours(self.label.account.clone(), self.label.recipients.join(", "));
        let inside = decrypt(identity, &self.armored).ok_or_else(not_yours)?;
        let split = inside.windows(2).position(|w| w == b"\n\n").ok_or_else(not_yours)?;
        let (facts_inside, secret) = inside.split_at(split + 1);
        if facts_inside != facts(&self.label)?.as_bytes() {
            let text = String::from_utf8_lossy(facts_inside);
            let account = text.lines().find_map(|l| l.strip_prefix("account: "));
            return Err(EnvelopeError::Exchanged {
                inside: account.unwrap_or("another").to_owned(),
                outside: self.label.account.clone(),
            });
        }
        let secret = secret.get(1..).unwrap_or_default();
        let because = Because::EnvelopeOpened(self.label.id.clone());
        let due = RotationDue { account_id: self.label.account.clone(), because };
        Ok((SecretBytes::new(secret.to_vec()), due))
    }

    /// Against slips of whoever types it in; what protects it is inside.
    fn checksum(&self) -> Result<String, EnvelopeError> {
        let mut text = facts(&self.label)?;
        for recipient in &self.label.recipients {
            text.push_str(recipient);
        }
        text.push_str(&self.armored);
        let sum = digest(&SHA256, text.as_bytes());
        Ok(hex::encode(sum.as_ref().get(..8).unwrap_or_default()))
    }
}

/// What stands outside and inside alike.
fn facts(label: &Label) -> Result<String, EnvelopeError> {
    let made = Timestamp::from_second(label.made_at.div_euclid(1_000_000))
        .map_err(|_| EnvelopeError::Name("time"))?;
    let mut text = String::new();
    line(&mut text, "account", &label.account)?;
    line(&mut text, "envelope", &label.id)?;
    line(&mut text, "made", &made.to_string())?;
    line(&mut text, "version", &label.version.to_string())?;
    Ok(text)
}

fn line(text: &mut String, key: &str, value: &str) -> Result<(), EnvelopeError> {
    writeln!(text, "{key}: {value}").map_err(|_| EnvelopeError::Library { action: "write a label" })
}

#[derive(Default)]
struct Found {
    account: Option<String>,
    id: Option<String>,
    made_at: Option<i64>,
    version: Option<u64>,
    recipients: Vec<String>,
}

impl Found {
    fn take(&mut self, key: &str, value: &str) {
        match key {
            "account" => self.account = Some(value.to_owned()),
            "envelope" => self.id = Some(value.to_owned()),
            "made" => self.made_at = value.parse::<Timestamp>().ok().map(|t| t.as_microsecond()),
            "version" => self.version = value.parse().ok(),
            "recipient" if self.recipients.len() < MAX_RECIPIENTS => self.recipients.push(value.to_owned()),
            _ => {}
        }
    }

    fn whole(self) -> Option<Label> {
        Some(Label {
            id: self.id?,
            account: self.account?,
            made_at: self.made_at?,
            version: self.version?,
            recipients: self.recipients,
        })
    }
}

fn encrypt(recipients: &[Recipient], plain: &[u8]) -> Option<String> {
    let encryptor =
        age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient)).ok()?;
    let mut out = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut out, Format::AsciiArmor).ok()?;
    let mut writer = encryptor.wrap_output(armor).ok()?;
    writer.write_all(plain).ok()?;
    writer.finish().and_then(ArmoredWriter::finish).ok()?;
    String::from_utf8(out).ok()
}

fn decrypt(identity: &Root, armored: &str) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = age::Decryptor::new(ArmoredReader::new(armored.as_bytes())).ok()?;
    let mut reader = decryptor.decrypt(std::iter::once(identity.identity() as &dyn age::Identity)).ok()?;
    // Room for the whole of it, so that growing leaves no copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(armored.len()));
    reader.read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    fn people(n: usize) -> Vec<Root> {
        (0..n).map(|_| Root::generate(&SystemEntropy).unwrap()).collect()
    }

    fn label(recipients: &[Root]) -> Label {
        Label {
            id: "e-1".into(),
            account: "pump-hmi/root".into(),
            made_at: 1_795_413_600_000_000,
            version: 7,
            recipients: recipients.iter().map(Root::recipient).collect(),
        }
    }

    fn secret() -> SecretBytes {
        SecretBytes::from(b"hunter2\n\nwith: odd lines\n".to_vec())
    }

    #[test]
    fn each_recipient_opens_it_from_paper_and_a_rotation_is_due() {
        let both = people(2);
        let text = Envelope::seal(label(&both), &secret()).unwrap().to_text().unwrap();
        assert!(text.contains("account: pump-hmi/root\n") && text.contains("made: 2026-11-23T06:00:00Z"));
        assert!(!text.contains("hunter2"));
        let typed = format!("  {}\n\n", text.replace('\n', " \r\n"));
        for person in &both {
            let (opened, due) = Envelope::parse(&typed).unwrap().open(person).unwrap();
            assert_eq!(opened, secret());
            assert_eq!(due.because, Because::EnvelopeOpened("e-1".into()));
        }
    }

    #[test]
    fn another_identity_does_not_open_it_and_learns_who_could() {
        let both = people(2);
        let envelope = Envelope::seal(label(&both[..1]), &secret()).unwrap();
        let text = envelope.open(&both[1]).unwrap_err().to_string();
        assert!(text.contains(&both[0].recipient()), "{text}");
    }

    #[test]
    fn a_slip_of_the_pen_and_an_exchanged_label_are_told_apart() {
        let one = people(1);
        let envelope = Envelope::seal(label(&one), &secret()).unwrap();
        let text = envelope.to_text().unwrap();
        let slipped = text.replace("version: 7", "version: 8");
        assert!(matches!(Envelope::parse(&slipped), Err(EnvelopeError::Checksum(_))));
        let mut other = label(&one);
        other.account = "eng-ws/Administrator".into();
        let exchanged = Envelope { label: other, armored: envelope.armored }.to_text().unwrap();
        let error = Envelope::parse(&exchanged).unwrap().open(&one[0]).unwrap_err().to_string();
        assert!(error.contains("pump-hmi/root") && error.contains("eng-ws"), "{error}");
    }

    #[test]
    fn what_nobody_could_open_or_would_forge_a_line_is_not_sealed() {
        let one = people(1);
        let seal = |change: fn(&mut Label)| {
            let mut label = label(&one);
            change(&mut label);
            Envelope::seal(label, &secret()).unwrap_err()
        };
        assert!(matches!(seal(|l| l.recipients.clear()), EnvelopeError::Recipients));
        assert!(matches!(seal(|l| l.recipients = vec!["age1x".into()]), EnvelopeError::Recipient(_)));
        assert!(matches!(seal(|l| l.account = "a\nchecksum: 0".into()), EnvelopeError::Name(_)));
    }

    #[test]
    fn cut_texts_are_refused_whole() {
        let text = Envelope::seal(label(&people(1)), &secret()).unwrap().to_text().unwrap();
        for length in 0..text.len() - 1 {
            if text.is_char_boundary(length) {
                assert!(Envelope::parse(&text[..length]).is_err(), "cut to {length}");
            }
        }
    }
}
