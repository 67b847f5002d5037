//! Signs the audit log of a store that is only measured.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use cofferdam_access::audit::AuditSigner;

#[derive(Debug)]
pub(crate) struct Signer(pub(crate) Ed25519KeyPair);

impl AuditSigner for Signer {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
    fn key_id(&self) -> &str {
        "figures"
    }
    fn public_key(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}
