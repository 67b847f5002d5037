//! The log-in of one connection, as a machine without input or output: what happened goes in, what to do comes out.
//!
//! A key, certificate or password first, then a code. An unknown name walks the same way as a known one with a wrong
//! password: the same methods are offered, the same texts come back, the same number of attempts is allowed, and the
//! caller does the same work ([`crate::password::verify_or_dummy`]). A key that is only *offered* proves nothing and
//! leaves the machine where it is.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    clock::Timestamp,
    decision::{Device, DeviceKind, Factors, SecondFactor, SecondFactorKind},
    ids::{Name, WindowId},
    site::Network,
    window::text::unsafe_to_show,
};

/// The prompt for a code, the same for everybody.
pub const CODE_PROMPT: &str = "Code from your authenticator (or a recovery code): ";
/// What somebody hears who has used up their attempts, the same for everybody.
pub const TOO_MANY: &str = "too many attempts on this connection: connect again";
/// What somebody hears who has proved the first factor and has no second.
pub const NO_SECOND_FACTOR: &str =
    "you have no second factor yet: ask an administrator for an invitation, and enrol one";
/// Longest client version that is kept, characters.
const LONGEST_CLIENT: usize = 128;

/// How much one connection may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRules {
    /// Failed attempts, of all kinds together.
    pub attempts: u8,
    /// Keys that may be offered without proof.
    pub offers: u8,
    /// For how long a second factor may be remembered, seconds; 0: not at all.
    pub remember_seconds: u32,
}

impl Default for LoginRules {
    fn default() -> Self {
        Self { attempts: 6, offers: 32, remember_seconds: 0 }
    }
}

/// An earlier second factor of this person, as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// When it was proved.
    pub at: Timestamp,
    /// Fingerprint of the device key that was used with it.
    pub key_fingerprint: String,
    /// The address that it came from.
    pub source: IpAddr,
    /// The window for which it counts.
    pub window: WindowId,
}

/// What is known of a person who exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who it is.
    pub user: Name,
    /// Whether they may act now. One who may not walks the way of an unknown one.
    pub active: bool,
    /// Fingerprints (`SHA256:…`) of their keys.
    pub keys: BTreeSet<String>,
    /// Whether they have a time-based code or a recovery code left.
    pub has_second_factor: bool,
    /// Second factors that may still count.
    pub remembered: Vec<Remembered>,
}

/// A user certificate of the configured CA. Signature, CA and critical options were verified by the caller, who
/// refuses options that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCertificate {
    /// Fingerprint of the certified key.
    pub key_fingerprint: String,
    /// The names it is for.
    pub principals: BTreeSet<String>,
    /// First moment at which it is valid.
    pub valid_after: Timestamp,
    /// First moment at which it is no longer.
    pub valid_before: Timestamp,
    /// Networks of the critical option `source-address`; empty: any.
    pub source_addresses: Vec<String>,
    /// For a certified security key that signed: whether it verified its user.
    pub user_verified: Option<bool>,
}

/// What a check of a code came to. The caller checks it and marks it used in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeCheck {
    /// A time-based code, used now for the first time.
    Totp,
    /// A recovery code, used up now.
    Recovery,
    /// None of these, or used before.
    Wrong,
}

/// What happened on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A public key was offered, without proof.
    Offered {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// A signature by a key was verified.
    Key {
        /// Its fingerprint.
        fingerprint: String,
        /// For a security key: whether it verified its user (flag UV). None: a plain key.
        user_verified: Option<bool>,
    },
    /// A signature by a certified key was verified.
    Certificate(VerifiedCertificate),
    /// A password came and was checked, or for somebody without one the same work was done.
    Password {
        /// Whether it is theirs.
        ok: bool,
    },
    /// The client is ready to be asked for a code.
    ReadyForCode,
    /// A code came and was checked.
    Code(CodeCheck),
}

/// A way to prove something, in SSH's words (RFC 4252, RFC 4256).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `publickey`.
    PublicKey,
    /// `password`.
    Password,
    /// `keyboard-interactive`.
    KeyboardInteractive,
}

/// Somebody who has proved both factors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Who.
    pub user: Name,
    /// With which device.
    pub device: Device,
    /// With which factors.
    pub factors: Factors,
}

/// What to do next.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell the client that a signature by the offered key would help.
    Prove,
    /// Tell the client which methods can go on.
    Continue {
        /// These.
        methods: &'static [Method],
        /// The last one succeeded, and more is needed.
        partial: bool,
    },
    /// Ask for a code.
    AskCode {
        /// With this text.
        prompt: &'static str,
    },
    /// Both factors are proved.
    Accept(Box<LoggedIn>),
    /// End the connection with this text.
    Reject {
        /// The text.
        message: &'static str,
    },
}

/// Why an attempt failed: for the audit, never for the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No such person.
    UnknownUser,
    /// The person is disabled or past their last day.
    Inactive,
    /// The password is wrong.
    WrongPassword,
    /// The key is none of theirs.
    UnknownKey,
    /// The certificate is for somebody else, for another time, or for other addresses.
    CertificateRefused,
    /// The code is wrong or was used before.
    WrongCode,
    /// They have no second factor.
    NoSecondFactor,
    /// Something came that was not asked for.
    OutOfTurn,
    /// More keys were offered than anybody has.
    TooManyOffers,
}

impl Failure {
    /// Stable name for audit and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::Inactive => "inactive",
            Self::WrongPassword => "wrong_password",
            Self::UnknownKey => "unknown_key",
            Self::CertificateRefused => "certificate_refused",
            Self::WrongCode => "wrong_code",
            Self::NoSecondFactor => "no_second_factor",
            Self::OutOfTurn => "out_of_turn",
            Self::TooManyOffers => "too_many_offers",
        }
    }
}

const FIRST: &[Method] = &[Method::PublicKey, Method::Password];
const SECOND: &[Method] = &[Method::KeyboardInteractive];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Nothing is proved.
    First,
    /// The first factor is proved by this device.
    Second(Device),
    /// Accepted or rejected: nothing more happens.
    Over,
}

/// The log-in of one connection for one name. A client that changes the name starts another, with what is left of the
/// attempts ([`LoginMachine::attempts_left`]).
#[derive(Debug)]
pub struct LoginMachine {
    rules: LoginRules,
    enrolled: Option<Enrolled>,
    source: IpAddr,
    client_version: String,
    stage: Stage,
    failed: u8,
    offered: u8,
    last_failure: Option<Failure>,
}

impl LoginMachine {
    /// A log-in that begins. `enrolled` is none for a name that nobody has.
    pub fn new(enrolled: Option<Enrolled>, source: IpAddr, client_version: &str, rules: LoginRules) -> Self {
        Self {
            rules,
            enrolled,
            source,
            client_version: safe_to_show(client_version, LONGEST_CLIENT),
            stage: Stage::First,
            failed: 0,
            offered: 0,
            last_failure: None,
        }
    }

    /// The methods with which a log-in begins.
    pub const fn first_methods() -> &'static [Method] {
        FIRST
    }

    /// Attempts left on this connection.
    pub fn attempts_left(&self) -> u8 {
        self.rules.attempts.saturating_sub(self.failed)
    }

    /// Whether the first factor is proved and a code is awaited.
    pub fn awaits_code(&self) -> bool {
        matches!(self.stage, Stage::Second(_))
    }

    /// Why the last attempt failed.
    pub fn last_failure(&self) -> Option<Failure> {
        self.last_failure
    }

    /// Takes in what happened at `now` and says what to do.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Step {
        match (std::mem::replace(&mut self.stage, Stage::Over), event) {
            (Stage::Over, _) => Step::Reject { message: TOO_MANY },
            (stage, Event::Offered { fingerprint }) => self.offer(stage, &fingerprint),
            (Stage::First, Event::Key { fingerprint, user_verified }) => {
                let theirs = self.active_person().map(|e| e.keys.contains(&fingerprint));
                match theirs {
                    Ok(true) => self.first_proved(key_device(fingerprint, user_verified), now),
                    Ok(false) => self.fail(Stage::First, Failure::UnknownKey),
                    Err(failure) => self.fail(Stage::First, failure),
                }
            }
            (Stage::First, Event::Certificate(certificate)) => {
                let fits = self.active_person().map(|e| self.certificate_fits(&certificate, e, now));
                match fits {
                    Ok(true) => self.first_proved(certificate_device(certificate), now),
                    Ok(false) => self.fail(Stage::First, Failure::CertificateRefused),
                    Err(failure) => self.fail(Stage::First, failure),
                }
            }
            (Stage::First, Event::Password { ok }) => match self.active_person().map(|_| ok) {
                Ok(true) => self.first_proved(password_device(), now),
                Ok(false) => self.fail(Stage::First, Failure::WrongPassword),
                Err(failure) => self.fail(Stage::First, failure),
            },
            (Stage::Second(device), Event::ReadyForCode) => {
                self.stage = Stage::Second(device);
                Step::AskCode { prompt: CODE_PROMPT }
            }
            (Stage::Second(device), Event::Code(check)) => match check {
                CodeCheck::Totp => self.accept(device, SecondFactorKind::Totp, now),
                CodeCheck::Recovery => self.accept(device, SecondFactorKind::Recovery, now),
                CodeCheck::Wrong => self.fail(Stage::Second(device), Failure::WrongCode),
            },
            (stage, _) => self.fail(stage, Failure::OutOfTurn),
        }
    }

    /// An offered key gets the same answer from an unknown name as from a known one with other keys. That it is a
    /// known person's own key can be learnt only by who has its public half.
    fn offer(&mut self, stage: Stage, fingerprint: &str) -> Step {
        self.offered = self.offered.saturating_add(1);
        if self.offered > self.rules.offers {
            self.last_failure = Some(Failure::TooManyOffers);
            return Step::Reject { message: TOO_MANY };
        }
        let methods = methods_of(&stage);
        let wanted =
            stage == Stage::First && self.active_person().is_ok_and(|e| e.keys.contains(fingerprint));
        self.stage = stage;
        if wanted { Step::Prove } else { Step::Continue { methods, partial: false } }
    }

    fn active_person(&self) -> Result<&Enrolled, Failure> {
        match &self.enrolled {
            None => Err(Failure::UnknownUser),
            Some(e) if !e.active => Err(Failure::Inactive),
            Some(e) => Ok(e),
        }
    }

    fn certificate_fits(&self, c: &VerifiedCertificate, person: &Enrolled, now: Timestamp) -> bool {
        let from_here = c.source_addresses.is_empty()
            || c.source_addresses
                .iter()
                .filter_map(|n| Network::parse(n))
                .any(|n| n.contains(self.source.to_canonical()));
        // No principals would mean anybody in OpenSSH's old reading: here it means nobody.
        c.principals.contains(person.user.as_str())
            && c.valid_after <= now
            && now < c.valid_before
            && from_here
    }

    fn first_proved(&mut self, mut device: Device, now: Timestamp) -> Step {
        device.client_version.clone_from(&self.client_version);
        if device.user_verified {
            return self.accept(device, SecondFactorKind::SkUserVerified, now);
        }
        let remembered = self.remembered(&device, now);
        if let Some(second) = remembered {
            return self.accepted(device, second);
        }
        if self.enrolled.as_ref().is_none_or(|e| !e.has_second_factor) {
            self.last_failure = Some(Failure::NoSecondFactor);
            return Step::Reject { message: NO_SECOND_FACTOR };
        }
        self.stage = Stage::Second(device);
        Step::Continue { methods: SECOND, partial: true }
    }

    /// The remembered second factors that count for this key and address, as one: the oldest of their moments, all of
    /// their windows.
    fn remembered(&self, device: &Device, now: Timestamp) -> Option<SecondFactor> {
        let key = device.key_fingerprint.as_deref()?;
        let limit = i64::from(self.rules.remember_seconds).saturating_mul(1_000_000);
        let counting = self.enrolled.iter().flat_map(|e| &e.remembered).filter(|r| {
            let age = now.since(r.at);
            r.key_fingerprint == key
                && r.source.to_canonical() == self.source.to_canonical()
                && age >= 0
                && age < limit
        });
        let mut second: Option<SecondFactor> = None;
        for r in counting {
            let so_far = second.get_or_insert(SecondFactor {
                kind: SecondFactorKind::Remembered,
                at: r.at,
                windows: BTreeSet::new(),
            });
            so_far.at = so_far.at.min(r.at);
            so_far.windows.insert(r.window);
        }
        second
    }

    fn accept(&mut self, device: Device, kind: SecondFactorKind, now: Timestamp) -> Step {
        self.accepted(device, SecondFactor { kind, at: now, windows: BTreeSet::new() })
    }

    fn accepted(&mut self, device: Device, second: SecondFactor) -> Step {
        let Ok(person) = self.active_person() else {
            return Step::Reject { message: TOO_MANY };
        };
        let factors = Factors { first: device.kind, second: Some(second) };
        let user = person.user.clone();
        self.stage = Stage::Over;
        Step::Accept(Box::new(LoggedIn { user, device, factors }))
    }

    fn fail(&mut self, stage: Stage, failure: Failure) -> Step {
        self.last_failure = Some(failure);
        self.failed = self.failed.saturating_add(1);
        if self.failed >= self.rules.attempts {
            return Step::Reject { message: TOO_MANY };
        }
        let methods = methods_of(&stage);
        self.stage = stage;
        Step::Continue { methods, partial: false }
    }
}

fn methods_of(stage: &Stage) -> &'static [Method] {
    match stage {
        Stage::Second(_) => SECOND,
        Stage::First | Stage::Over => FIRST,
    }
}

fn key_device(fingerprint: String, user_verified: Option<bool>) -> Device {
    let kind = if user_verified.is_some() { DeviceKind::SkKey } else { DeviceKind::Key };
    device(Some(fingerprint), kind, user_verified.unwrap_or(false))
}

fn certificate_device(c: VerifiedCertificate) -> Device {
    device(Some(c.key_fingerprint), DeviceKind::Certificate, c.user_verified.unwrap_or(false))
}

fn password_device() -> Device {
    device(None, DeviceKind::Password, false)
}

fn device(key_fingerprint: Option<String>, kind: DeviceKind, user_verified: bool) -> Device {
    Device { key_fingerprint, kind, user_verified, client_version: String::new() }
}

/// A text of a peer as it may be shown: at most `most` characters, control, direction and invisible characters
/// replaced by U+FFFD.
pub fn safe_to_show(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if unsafe_to_show(c) { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
