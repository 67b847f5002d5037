//! Random values that prove something by being known: cookies, API tokens, single-use links. Only digests are kept.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 256 random bits as 43 characters. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// A new one from `random`, which must be a cryptographic generator.
    pub(crate) fn new(random: &mut dyn rand::RngCore) -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        random.fill_bytes(bytes.as_mut_slice());
        Self(Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice())))
    }

    /// What a peer sent, if it has the form of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let well_formed =
            text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        well_formed.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, to be given to its owner.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps: SHA-256, hexadecimal. 256 random bits need no salt.
    pub(crate) fn digest(&self) -> String {
        hex::encode(digest(&SHA256, self.0.as_bytes()).as_ref())
    }

    /// What forms carry to prove that they come from a page that this token's owner was shown. Derived, so that nothing
    /// has to be kept; it does not tell the token.
    pub(crate) fn form_proof(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        BASE64URL_NOPAD.encode(hmac::sign(&key, b"cofferdam form").as_ref())
    }

    /// Whether `given` is this token's form proof.
    pub(crate) fn proves_form(&self, given: &str) -> bool {
        self.form_proof().as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_shows_itself_nowhere() {
        let token = Token::new(&mut rand::rng());
        let again = Token::parse(token.expose()).unwrap();
        assert_eq!(token.digest(), again.digest());
        assert!(!format!("{token:?}").contains(token.expose()));
        for wrong in ["", "short", &"a".repeat(44), &format!("{}=", &token.expose()[..42])] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_form_of_one_log_in_proves_nothing_for_another() {
        let (one, other) = (Token::new(&mut rand::rng()), Token::new(&mut rand::rng()));
        assert!(one.proves_form(&one.form_proof()));
        assert!(!other.proves_form(&one.form_proof()));
        assert!(!one.proves_form(""));
    }
}
