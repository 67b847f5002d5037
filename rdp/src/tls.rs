//! TLS toward the target with its public key pinned, and what CredSSP binds itself to.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The public key of a target: SHA-256 of its SubjectPublicKeyInfo, written `sha256:` and 64 hexadecimal digits.
///
/// A certificate that is renewed over the same key keeps its pin; a new key is a new machine until somebody says otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "fuzzing"), derive(Default))]
pub struct Pin([u8; 32]);

impl Pin {
    fn of(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a target's key is written as sha256: and 64 hexadecimal digits")]
pub struct NotAPin;

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digits = text.strip_prefix("sha256:").ok_or(NotAPin)?.as_bytes();
        let mut pin = [0; 32];
        if digits.len() != 64 {
            return Err(NotAPin);
        }
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            let text = std::str::from_utf8(pair).map_err(|_| NotAPin)?;
            if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAPin);
            }
            *byte = u8::from_str_radix(text, 16).map_err(|_| NotAPin)?;
        }
        Ok(Self(pin))
    }
}

/// The SubjectPublicKey of a certificate (the content of its bit string), to which CredSSP binds itself (MS-CSSP 3.1.5).
/// `None` when the bytes are no certificate.
#[must_use]
pub fn subject_public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

fn pin_of(certificate: &[u8]) -> Option<Pin> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Pin::of(certificate.public_key().raw))
}

/// What a target showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) pin: Pin,
    pub(crate) public_key: Vec<u8>,
}

/// TLS could not be made with a target.
#[derive(Debug)]
pub(crate) enum TlsError {
    /// Another key than the pinned one.
    Key(Pin),
    /// No certificate that can be read, or the handshake failed.
    Handshake(String),
}

/// Makes TLS; with a pin, only with the target that proves to own that key. No secret may go to one that was not pinned.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    pin: Option<Pin>,
) -> Result<(TlsStream<S>, Shown), TlsError> {
    let verifier =
        Arc::new(Pinned { pin, other: Mutex::new(None), provider: Arc::new(provider::default_provider()) });
    let builder = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Handshake(e.to_string()))?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(verifier.clone()).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    // The name is in nobody's certificate and never sent: the key is what is checked.
    let name = ServerName::try_from("target.invalid").map_err(|e| TlsError::Handshake(e.to_string()))?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| {
        let other = *verifier.other.lock().unwrap_or_else(PoisonError::into_inner);
        other.map_or_else(|| TlsError::Handshake(e.to_string()), TlsError::Key)
    })?;
    // What waits there cannot be taken back when a session is suspended or ended.
    stream.get_mut().1.set_buffer_limit(Some(WAITING));
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| {
        let certificate = chain.first()?;
        Some(Shown { pin: pin_of(certificate)?, public_key: subject_public_key(certificate)? })
    });
    let shown = shown.ok_or_else(|| TlsError::Handshake("no certificate that can be read".to_owned()))?;
    Ok((stream, shown))
}

/// Bytes that wait encrypted for a target that takes nothing: one record.
const WAITING: usize = 16 * 1024;

/// Accepts one public key, whatever its certificate says about names and times; those of RDP targets say nothing useful.
#[derive(Debug)]
struct Pinned {
    /// `None` takes any key, in order to learn it.
    pin: Option<Pin>,
    other: Mutex<Option<Pin>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen =
            pin_of(end_entity).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.pin.is_none_or(|pin| pin == seen) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.other.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        let pin = Pin::of(b"a key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!("sha256:00".parse::<Pin>(), Err(NotAPin));
        assert_eq!(format!("sha256:{}", "+1".repeat(32)).parse::<Pin>(), Err(NotAPin), "a sign is no digit");
        assert_eq!("".parse::<Pin>(), Err(NotAPin));
    }
}
