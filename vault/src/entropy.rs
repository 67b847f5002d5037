//! Where random bytes come from, so that a test can decide them.

use std::fmt;

/// The source of random bytes failed; nothing may be generated from what it left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes; check that the kernel's random source is available")]
pub struct EntropyError;

/// A source of cryptographically secure random bytes.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills all of `out`.
    ///
    /// # Errors
    /// [`EntropyError`] when the source fails; `out` must then not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's random source, by way of aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        aws_lc_rs::rand::fill(out).map_err(|_| EntropyError)
    }
}

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>(source: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut out = [0; N];
    source.fill(&mut out)?;
    Ok(out)
}
