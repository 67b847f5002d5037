//! The two secret types: wiped when dropped, redacted in `Debug`, neither `Display` nor `Serialize`.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes were not UTF-8 where a text was expected. Carries nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not UTF-8 text; store it again as text")]
pub struct NotText;

/// A secret text, such as a password.
///
/// Deliberately not `Clone`: who needs it in two places shares it by `Arc`, so that it is wiped once for all.
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes the text over; the caller's buffer is the one that will be wiped.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Named so that every use can be found by a search.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for SecretString {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Compares in a time that depends on the lengths only.
impl PartialEq for SecretString {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretString {}

/// A secret that is not necessarily text, such as a key.
///
/// Deliberately not `Clone`, for the reason given at [`SecretString`].
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the caller's buffer is the one that will be wiped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Named so that every use can be found by a search.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same secret as text.
    ///
    /// # Errors
    /// [`NotText`] when the bytes are not UTF-8.
    pub fn to_text(&self) -> Result<SecretString, NotText> {
        std::str::from_utf8(&self.0).map(SecretString::from).map_err(|_| NotText)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&SecretString> for SecretBytes {
    fn from(text: &SecretString) -> Self {
        Self::new(text.expose().as_bytes().to_vec())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Compares in a time that depends on the lengths only.
impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_holds_the_value() {
        assert_eq!(format!("{:?}", SecretString::from("hunter2")), "[redacted]");
        assert_eq!(
            format!("{:#?}", Some(SecretBytes::from(b"hunter2".to_vec()))),
            "Some(\n    [redacted],\n)"
        );
    }

    #[test]
    fn equality_is_by_value() {
        assert_eq!(SecretString::from("a"), SecretString::from("a"));
        assert_ne!(SecretString::from("a"), SecretString::from("b"));
        assert_ne!(SecretBytes::from(vec![1, 2]), SecretBytes::from(vec![1]));
    }

    #[test]
    fn bytes_that_are_not_text_say_so_without_showing_themselves() {
        let error = SecretBytes::from(vec![0xff, b'p', b'w']).to_text().unwrap_err();
        assert!(!error.to_string().contains("pw"));
    }
}
