//! Requests to a program of the operator's, signed.

use std::time::Duration;

use aws_lc_rs::hmac;
use cofferdam_access::clock::Timestamp;
use reqwest::{Certificate, Client, StatusCode, redirect::Policy};

use crate::{Hidden, HookSettings, NotifyError, on_this_machine, read_ca, sender::Undelivered};

/// How long the receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Fewest characters of the key.
const SHORTEST_SECRET: usize = 32;
/// The header with the moment of sending, whole seconds since 1970: a receiver refuses what is old.
pub const TIMESTAMP: &str = "cofferdam-timestamp";
/// The header with the signature: `v1=` and HMAC-SHA-256, hexadecimal, over the timestamp, a full stop and the body.
pub const SIGNATURE: &str = "cofferdam-signature";
/// The header with the message's id, the same when it is sent again.
const ID: &str = "cofferdam-id";

/// See the module.
#[derive(Debug)]
pub struct Hook {
    client: Client,
    settings: HookSettings,
}

/// The value of [`SIGNATURE`] for that moment and body.
pub fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    format!("v1={}", hex::encode(tag.as_ref()))
}

impl Hook {
    /// With these settings; nothing is connected yet.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn new(settings: &HookSettings) -> Result<Self, NotifyError> {
        let host = settings.url.host_str().unwrap_or_default();
        if settings.url.scheme() != "https" && !on_this_machine(host) {
            return Err(NotifyError::Unprotected(settings.url.to_string()));
        }
        if settings.secret.expose().chars().count() < SHORTEST_SECRET {
            return Err(NotifyError::ShortSecret);
        }
        // A redirect would carry the message to where nobody configured it.
        let mut builder = Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy();
        if let Some(path) = &settings.ca_file {
            let ca = |reason: String| NotifyError::Ca { path: path.display().to_string(), reason };
            let certificate = Certificate::from_pem(&read_ca(path)?).map_err(|e| ca(e.to_string()))?;
            builder = builder.tls_certs_only([certificate]);
        }
        let client = builder.build().map_err(|e| NotifyError::Tls(e.to_string()))?;
        Ok(Self { client, settings: settings.clone() })
    }

    pub(crate) async fn send(&self, now: Timestamp, id: &str, body: &str) -> Result<(), Undelivered> {
        let timestamp = now.seconds().to_string();
        let signed = signature(self.secret(), &timestamp, body);
        let request = self
            .client
            .post(self.settings.url.clone())
            .header("content-type", "application/json")
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, signed)
            .header(ID, id)
            .body(body.to_owned());
        let answer = request.send().await.map_err(|e| Undelivered::for_now(e.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // What the receiver will never take is not sent again; too fast and too slow pass.
            status
                if status.is_client_error()
                    && ![StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status) =>
            {
                Err(Undelivered::for_good(format!("the receiver answered {status}")))
            }
            status => Err(Undelivered::for_now(format!("the receiver answered {status}"))),
        }
    }

    fn secret(&self) -> &str {
        Hidden::expose(&self.settings.secret)
    }
}
