//! The way to a target: which addresses may be dialled, and what of its words may be shown.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::rotator::Fault;
use crate::secret::SecretBytes;

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
/// How long one address may take to answer at all. A firewall that drops what is sent to it says nothing, ever; and as long
/// as there is no connection, it is certain that nothing was changed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(6);
/// Most characters of a target's words that are shown.
const WORDS: usize = 200;

/// Says which addresses may be dialled for a name: where rules about destinations are kept.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync {
    /// The addresses of `host`, those that must not be dialled left out.
    ///
    /// # Errors
    /// A plain clause that says why there is none.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String>;
}

/// Asks the system's resolver and forbids nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

#[async_trait]
impl Dial for Direct {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|e| format!("{host}: {e}"))?;
        Ok(found.collect())
    }
}

/// Where a target listens.
#[derive(Debug, Clone)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What may be dialled for it.
    pub dial: Arc<dyn Dial>,
}

impl Address {
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, Fault> {
        let mut found = self.dial.addresses(&self.host, self.port).await.map_err(Fault::Unreachable)?;
        found.truncate(ADDRESSES);
        Ok(found)
    }

    /// A connection to the first address that answers.
    pub(super) async fn connect(&self) -> Result<TcpStream, Fault> {
        let mut last = "the name has no address that may be dialled".to_owned();
        for address in self.resolve().await? {
            match tokio::time::timeout(ANSWERS_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(e)) => last = e.to_string(),
                Err(_) => last = format!("nothing came back within {} s", ANSWERS_WITHIN.as_secs()),
            }
        }
        Err(Fault::Unreachable(format!("{}:{} does not answer: {last}", self.host, self.port)))
    }
}

/// The secret of another account, asked for at the moment of its use.
#[async_trait]
pub trait SecretSource: fmt::Debug + Send + Sync {
    /// The secret.
    ///
    /// # Errors
    /// [`Fault::Unreachable`] when it cannot be had now; nothing has been sent then.
    async fn secret(&self) -> Result<SecretBytes, Fault>;
}

/// What a target said, fit to be shown: one line, no control characters, not long, none of `secrets` in it.
pub(super) fn words(said: &[u8], secrets: &[&SecretBytes]) -> String {
    let mut text = String::from_utf8_lossy(said).into_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if let Ok(secret) = std::str::from_utf8(secret.expose()) {
            text = text.replace(secret, "[redacted]");
        }
    }
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(WORDS).collect();
    if shown.is_empty() { "it gave no reason".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_target_says_is_shown_without_secrets_and_escapes() {
        let secret = SecretBytes::from(b"hunter2".to_vec());
        assert_eq!(
            words(b"noise\n\x1b[2Jno: hunter2 is too short\r\n\n", &[&secret]),
            "[2Jno: [redacted] is too short"
        );
        assert_eq!(words(b" \n", &[]), "it gave no reason");
        assert_eq!(words(&[b'x'; 5000], &[]).len(), WORDS);
    }

    proptest! {
        #[test]
        fn no_words_whatever_hold_the_secret(before in ".{0,40}", secret in "[a-zA-Z0-9._-]{8,20}", after in ".{0,40}") {
            let said = format!("{before}{secret}{after}");
            let shown = words(said.as_bytes(), &[&SecretBytes::from(secret.clone().into_bytes())]);
            prop_assert!(!shown.contains(&secret));
        }
    }
}
