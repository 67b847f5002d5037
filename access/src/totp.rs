//! Time-based codes (RFC 6238): SHA-1, six digits, thirty seconds, one step either way, each step once.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

use crate::{clock::Timestamp, ids::Name};

/// Length of a secret, bytes (RFC 4226 §4 recommends 160 bits).
pub const SECRET_BYTES: usize = 20;
/// Length of a step, seconds.
pub const STEP_SECONDS: u64 = 30;
/// Digits of a code.
const DIGITS: u8 = 6;
/// Steps that a device's clock may be off, either way.
const SKEW: u64 = 1;

/// Why a secret cannot be used. The fault is that of whoever entered or stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    /// Not 20 bytes.
    #[error("the second factor's secret is not {SECRET_BYTES} bytes long: enrol it again")]
    Length,
    /// Not base 32.
    #[error("the second factor's secret is not base 32: enrol it again")]
    NotBase32,
}

/// The secret shared with a person's authenticator. Wiped when dropped; never shown but in the enrolment.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// A new secret from `random`, which must be a cryptographic generator.
    pub fn generate(random: &mut dyn rand::RngCore) -> Self {
        let mut bytes = Zeroizing::new(vec![0u8; SECRET_BYTES]);
        random.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Takes a stored secret.
    ///
    /// # Errors
    /// When it is not 20 bytes long.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Result<Self, TotpError> {
        if bytes.len() == SECRET_BYTES { Ok(Self(bytes)) } else { Err(TotpError::Length) }
    }

    /// Takes a secret in base 32 without padding, as an enrolment shows it.
    ///
    /// # Errors
    /// When it is not base 32, or not 20 bytes long.
    pub fn from_base32(text: &str) -> Result<Self, TotpError> {
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| TotpError::NotBase32)?;
        Self::from_bytes(Zeroizing::new(bytes))
    }

    /// The bytes, to be sealed and stored.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Base 32 without padding, for people who type it into their authenticator.
    pub fn to_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&self.0))
    }

    /// The URI that an authenticator reads from a QR code (`otpauth://totp/…`).
    pub fn otpauth_uri(&self, issuer: &str, user: &Name) -> Zeroizing<String> {
        let issuer = percent_encoded(issuer);
        let secret = self.to_base32();
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.as_str()
        ))
    }

    /// The code of the step at `now`: for the demo's printed commands and for tests.
    pub fn code_at(&self, now: Timestamp) -> String {
        self.totp().map_or_else(String::new, |t| t.generate(seconds(now)).to_string())
    }

    /// The step whose code `given` is, if it is one of the step at `now` and its neighbours and lies after
    /// `last_used`. Store the step as used, in the same transaction that counts the log-in: a code works once.
    pub fn check(&self, given: &str, now: Timestamp, last_used: Option<u64>) -> Option<u64> {
        let given: String = given.chars().filter(|c| *c != ' ').take(16).collect();
        if given.len() != usize::from(DIGITS) || !given.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let totp = self.totp()?;
        let present = seconds(now) / STEP_SECONDS;
        let mut found = None;
        // All steps are tried whatever matches, so that the time taken does not tell which one did.
        for step in present.saturating_sub(SKEW)..=present.saturating_add(SKEW) {
            let code = totp.generate(step.saturating_mul(STEP_SECONDS)).to_string();
            let matches = bool::from(code.as_bytes().ct_eq(given.as_bytes()));
            if matches && last_used.is_none_or(|used| step > used) {
                found = found.or(Some(step));
            }
        }
        found
    }

    fn totp(&self) -> Option<Totp> {
        let bytes: [u8; SECRET_BYTES] = self.0.as_slice().try_into().ok()?;
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_SECONDS)
            .with_secret(Secret::new_stack(bytes))
            .build()
            .ok()
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.seconds()).unwrap_or(0)
}

fn percent_encoded(s: &str) -> String {
    s.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{NOON, name, rng};

    fn rfc() -> TotpSecret {
        TotpSecret::from_bytes(Zeroizing::new(b"12345678901234567890".to_vec())).unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        // Appendix B, the last six of the eight digits.
        for (at, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(rfc().code_at(Timestamp::from_seconds(at)), code);
            let step = u64::try_from(at).unwrap() / STEP_SECONDS;
            assert_eq!(rfc().check(code, Timestamp::from_seconds(at), None), Some(step));
        }
    }

    #[test]
    fn a_code_works_once_and_never_after_a_later_one() {
        let secret = rfc();
        let code = secret.code_at(NOON);
        let step = secret.check(&code, NOON, None).unwrap();
        assert_eq!(secret.check(&code, NOON, Some(step)), None);
        let earlier = secret.code_at(NOON.plus_seconds(-30));
        assert_eq!(secret.check(&earlier, NOON, Some(step)), None);
        let next = secret.code_at(NOON.plus_seconds(30));
        assert_eq!(secret.check(&next, NOON, Some(step)), Some(step + 1));
    }

    #[test]
    fn odd_texts_are_no_codes() {
        let code = rfc().code_at(NOON);
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        assert!(rfc().check(&spaced, NOON, None).is_some());
        for bad in ["", "12345", "1234567", "abcdef", "１２３４５６", "-12345"] {
            assert_eq!(rfc().check(bad, NOON, None), None);
        }
    }

    #[test]
    fn enrolment_shows_what_the_authenticator_needs_and_debug_shows_nothing() {
        let secret = rfc();
        assert_eq!(
            secret.otpauth_uri("Plant 1", &name("vera")).as_str(),
            "otpauth://totp/Plant%201:vera?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Plant%201&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(TotpSecret::from_base32(&secret.to_base32()).unwrap().expose(), secret.expose());
        assert_eq!(format!("{secret:?}"), "TotpSecret(…)");
        assert_ne!(TotpSecret::generate(&mut rng(1)).expose(), TotpSecret::generate(&mut rng(2)).expose());
    }

    proptest! {
        #[test]
        fn codes_count_within_one_step_and_not_beyond(at in 0i64..4_000_000_000, off in -5i64..=5) {
            let secret = rfc();
            let now = Timestamp::from_seconds(at);
            let theirs = Timestamp::from_seconds((at + off * 30).max(0));
            let steps = (theirs.seconds() / 30 - at / 30).abs();
            let found = secret.check(&secret.code_at(theirs), now, None);
            if steps <= 1 { prop_assert!(found.is_some()); }
            if let Some(step) = found {
                prop_assert!((i64::try_from(step).unwrap() - at / 30).abs() <= 1);
            }
        }
    }
}
