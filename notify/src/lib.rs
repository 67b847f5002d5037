//! Messages about windows on their way to people and programs: taken out of the store, sent, tried again, given up.
//!
//! Invariant: a message tells and decides nothing. Its link opens a page, where whoever opens it logs in and decides.
//!
//! Invariant: what cannot be sent in time is given up, and the audit log says so; nothing waits for ever, and nothing
//! else waits for it.

mod mail;
mod sender;
mod webhook;

use std::{fmt, path::PathBuf};

use url::Url;
use zeroize::Zeroizing;

pub use mail::Mailer;
pub use sender::{Sender, run};
pub use webhook::{Hook, SIGNATURE, TIMESTAMP, signature};

/// How a connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// TLS from the first byte (RFC 8314 §3.3).
    Tls,
    /// TLS by STARTTLS, or nothing is sent (RFC 3207).
    StartTls,
    /// None: only to this machine itself.
    None,
}

/// A value that is shown nowhere and wiped when dropped.
#[derive(Clone)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Takes the value over.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Where e-mail goes out.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The server's host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub protection: Protection,
    /// The sender's address, as `Cofferdam <gateway@plant.example>` or the address alone.
    pub from: String,
    /// Name and password at the server, where it asks for them.
    pub log_in: Option<(String, Hidden)>,
    /// PEM file of the CA that signed the server's certificate; none: the usual ones.
    pub ca_file: Option<PathBuf>,
}

/// Which program is told.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// Where to: `https://`, or `http://` on this machine itself.
    pub url: Url,
    /// The key of the signature, at least 32 characters.
    pub secret: Hidden,
    /// PEM file of the CA that signed the receiver's certificate; none: the usual ones.
    pub ca_file: Option<PathBuf>,
}

/// Why messages cannot be sent as configured. The fault is the operator's; each text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// The sender is no address.
    #[error("mail.from {0:?} is no address: write it as gateway@plant.example")]
    From(String),
    /// A connection that is not protected, to another machine.
    #[error("{0} is not on this machine, so the connection to it has to be protected: use TLS")]
    Unprotected(String),
    /// A CA file that cannot be used.
    #[error("{path}: {reason}; give the CA's certificate as PEM")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The key of the signature is too short to keep anybody out.
    #[error(
        "the webhook's secret has fewer than 32 characters: make a longer one, for instance by `openssl rand -hex 32`"
    )]
    ShortSecret,
}

/// Whether the host is this machine itself, by name or address.
fn on_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn read_ca(path: &std::path::Path) -> Result<Vec<u8>, NotifyError> {
    std::fs::read(path)
        .map_err(|e| NotifyError::Ca { path: path.display().to_string(), reason: e.to_string() })
}

#[cfg(test)]
mod tests;
