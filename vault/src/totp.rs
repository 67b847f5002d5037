//! The second factor's check, where the seed is: inside the vault. What goes out is the step whose code it was.
//!
//! RFC 6238: SHA-1, six digits, thirty seconds, one step either way, each step once.

use subtle::ConstantTimeEq as _;
use totp_rs::{Algorithm, Builder, Secret};

use crate::secret::{SecretBytes, SecretString};

/// Length of a seed, bytes (RFC 4226 §4 recommends 160 bits).
pub const SEED_BYTES: usize = 20;
/// Length of a step, seconds.
pub const STEP_SECONDS: u64 = 30;
const DIGITS: u8 = 6;
/// Steps that a device's clock may be off, either way.
const SKEW: u64 = 1;
/// The longest text that is looked at.
const MAX_CODE: usize = 16;

/// The step whose code `code` is, if it is one of the step at `seconds` (UTC) and its neighbours and lies after
/// `last_used`. None for a seed of another length, too.
#[must_use]
pub fn check_code(
    seed: &SecretBytes,
    code: &SecretString,
    seconds: u64,
    last_used: Option<u64>,
) -> Option<u64> {
    let given: Vec<u8> = code.expose().bytes().filter(|b| *b != b' ').take(MAX_CODE).collect();
    if given.len() != usize::from(DIGITS) || !given.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seed: [u8; SEED_BYTES] = seed.expose().try_into().ok()?;
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_step_duration(STEP_SECONDS)
        .with_secret(Secret::new_stack(seed))
        .build()
        .ok()?;
    let present = seconds / STEP_SECONDS;
    let mut found = None;
    // All steps are tried whatever matches, so that the time taken does not tell which one did.
    for step in present.saturating_sub(SKEW)..=present.saturating_add(SKEW) {
        let expected = totp.generate(step.saturating_mul(STEP_SECONDS)).to_string();
        let matches = bool::from(expected.as_bytes().ct_eq(&given));
        if matches && last_used.is_none_or(|used| step > used) {
            found = found.or(Some(step));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, seconds: u64, last_used: Option<u64>) -> Option<u64> {
        let seed = SecretBytes::new(b"12345678901234567890".to_vec());
        check_code(&seed, &SecretString::from(code), seconds, last_used)
    }

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        // Appendix B, the last six of the eight digits.
        for (at, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(check(code, at, None), Some(at / 30));
            assert_eq!(check(&format!("{} {}", &code[..3], &code[3..]), at, None), Some(at / 30));
            assert_eq!(check(code, at + 30, None), Some(at / 30));
            assert_eq!(check(code, at + 60, None), None);
            assert_eq!(check(code, at, Some(at / 30)), None, "a code works once");
        }
    }

    #[test]
    fn odd_texts_and_seeds_are_refused() {
        for bad in ["", "12345", "1234567", "abcdef", "１２３４５６", "-28708", "287082287082"] {
            assert_eq!(check(bad, 59, None), None);
        }
        let short = SecretBytes::new(b"1234567890".to_vec());
        assert_eq!(check_code(&short, &SecretString::from("287082"), 59, None), None);
    }
}
