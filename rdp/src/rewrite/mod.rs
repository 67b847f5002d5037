//! What is changed on the way through, as functions of bytes. Each keeps what it knows and lets nothing else through.

pub(crate) mod capabilities;
pub(crate) mod connect;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod licence;
pub(crate) mod output;
pub(crate) mod session_info;

/// A peer sent what is no RDP, or what RDP does not allow at this point. Names the part; carries nothing of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed or forbidden: {0}")]
pub struct Broken(pub(crate) &'static str);

impl Broken {
    /// A Server Redirection PDU (MS-RDPBCGR 2.2.13).
    pub(crate) const REDIRECTION: Self = Self("redirection to another machine");

    /// Whether the target sends its people on to another machine.
    #[must_use]
    pub fn is_redirection(&self) -> bool {
        *self == Self::REDIRECTION
    }
}
