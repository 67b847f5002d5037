//! Recovery codes: for the day when the authenticator is lost. Each works once.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::ids::Name;

/// How many codes a person gets.
pub const COUNT: usize = 10;
/// Characters of one code, in groups of four; five random bits each: 80 bits.
const CHARACTERS: usize = 16;
/// Crockford's alphabet: without letters that look like digits or like each other.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A code as the person gets it, once. Wiped when dropped.
pub struct RecoveryCode(Zeroizing<String>);

impl RecoveryCode {
    /// The text, `abcd-efgh-jkmn-pqrs`: to be shown once and never stored.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

/// What the store keeps of a code: SHA-256 over the person's name and the code. A slow hash would add nothing: 80
/// random bits cannot be tried out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecoveryHash(pub [u8; 32]);

impl fmt::Debug for RecoveryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryHash(…)")
    }
}

/// New codes for `user` from `random`, which must be a cryptographic generator, and what to store of them.
pub fn generate(user: &Name, random: &mut dyn rand::RngCore) -> Vec<(RecoveryCode, RecoveryHash)> {
    (0..COUNT)
        .map(|_| {
            let mut bytes = Zeroizing::new([0u8; CHARACTERS]);
            random.fill_bytes(bytes.as_mut_slice());
            let plain: Zeroizing<String> = Zeroizing::new(
                bytes
                    .iter()
                    .filter_map(|b| ALPHABET.get(usize::from(b & 31)))
                    .map(|c| char::from(*c))
                    .collect(),
            );
            let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + 3));
            for (i, c) in plain.chars().enumerate() {
                if i > 0 && i % 4 == 0 {
                    text.push('-');
                }
                text.push(c);
            }
            let stored = hash(user, &plain);
            (RecoveryCode(text), stored)
        })
        .collect()
}

/// Which of `stored` the text is, however it is spaced or capitalised. Remove that one in the same transaction that
/// counts the log-in: a code works once.
pub fn find(stored: &[RecoveryHash], user: &Name, given: &str) -> Option<usize> {
    let mut plain = Zeroizing::new(String::with_capacity(CHARACTERS));
    for c in given.chars().take(64).filter(|c| !matches!(c, '-' | ' ')) {
        match c.to_ascii_lowercase() {
            'o' => plain.push('0'),
            'i' | 'l' => plain.push('1'),
            c if c.is_ascii_alphanumeric() => plain.push(c),
            _ => return None,
        }
    }
    if plain.len() != CHARACTERS {
        return None;
    }
    let mut given = hash(user, &plain);
    let mut found = None;
    // All are compared, so that the time taken does not tell which one it is.
    for (i, s) in stored.iter().enumerate() {
        if bool::from(s.0.ct_eq(&given.0)) {
            found = Some(i);
        }
    }
    given.0.zeroize();
    found
}

fn hash(user: &Name, plain: &str) -> RecoveryHash {
    let mut sha = Context::new(&SHA256);
    sha.update(b"cofferdam recovery code 1\0");
    sha.update(user.as_str().as_bytes());
    sha.update(b"\0");
    sha.update(plain.as_bytes());
    let mut out = [0u8; 32];
    out.iter_mut().zip(sha.finish().as_ref()).for_each(|(o, b)| *o = *b);
    RecoveryHash(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{name, rng};

    #[test]
    fn a_code_is_found_however_it_is_typed_and_only_for_its_person() {
        let codes = generate(&name("vera"), &mut rng(1));
        let stored: Vec<RecoveryHash> = codes.iter().map(|(_, h)| *h).collect();
        assert_eq!(codes.len(), COUNT);
        for (i, (code, _)) in codes.iter().enumerate() {
            let text = code.expose();
            assert_eq!(text.len(), 19);
            assert_eq!(find(&stored, &name("vera"), text), Some(i));
            assert_eq!(find(&stored, &name("vera"), &text.to_uppercase().replace('-', " ")), Some(i));
            assert_eq!(find(&stored, &name("emil"), text), None);
        }
        let text = codes[0].0.expose().replace('0', "O").replace('1', "l");
        assert_eq!(find(&stored, &name("vera"), &text), Some(0));
        assert_eq!(find(&stored[1..], &name("vera"), codes[0].0.expose()), None, "a used code is gone");
    }

    #[test]
    fn what_is_no_code_is_not_found() {
        let stored: Vec<RecoveryHash> =
            generate(&name("vera"), &mut rng(1)).iter().map(|(_, h)| *h).collect();
        for bad in ["", "abcd", "abcd-efgh-jkmn-pqr", "abcd-efgh-jkmn-pqr\0", &"x".repeat(1000)] {
            assert_eq!(find(&stored, &name("vera"), bad), None);
        }
        assert!(format!("{:?}", generate(&name("vera"), &mut rng(1))[0]).contains('…'));
    }
}
