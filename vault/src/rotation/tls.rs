//! TLS toward targets: only certificates of the authorities that are pinned for the target.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use super::rotator::Fault;

/// Whom a target's certificate must be from, and for.
#[derive(Debug, Clone)]
pub struct TlsTrust {
    /// The authorities, PEM: the site's own, or the target's certificate where it is its own authority.
    pub authorities: String,
    /// The name in the certificate, where it is not the one that is dialled.
    pub name: Option<String>,
}

impl TlsTrust {
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.authorities.as_bytes()).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(Fault::Denied("no authority is pinned for its certificate; give one in PEM".into())),
        }
    }

    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        let broken = |e: rustls::Error| Fault::Denied(format!("the pinned authority cannot be used: {e}"));
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(broken)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// The name that the certificate must be for.
    pub(super) fn expected<'a>(&'a self, dialled: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(dialled)
    }

    pub(super) fn server_name(&self, dialled: &str) -> Result<ServerName<'static>, Fault> {
        let name = self.expected(dialled).to_owned();
        ServerName::try_from(name.clone())
            .map_err(|_| Fault::Denied(format!("{name:?} is no name that a certificate can be for")))
    }
}

/// Whether an error is a certificate that does not prove the target.
pub(super) fn is_impostor(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref::<rustls::Error>() {
            return true;
        }
        // An I/O error shows what it carries only by this.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && is_impostor(inner)
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// What people read then.
pub(super) fn impostor() -> Fault {
    Fault::Impostor("its certificate is not by the pinned authority, or for another name".into())
}
