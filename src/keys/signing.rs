//! What the gateway's process has the vault process do in its stead: sign, and check second factors.

use std::{fmt, sync::Arc};

use cofferdam_access::{
    audit::AuditSigner, clock::Timestamp, ids::Name, prover::SecondFactors, totp::TotpSecret,
};
use cofferdam_recorder::CheckpointSigner;
use cofferdam_vault::{
    Sealer, SecretString, SystemEntropy, VerifyingKey,
    agent::{Client, ClientError},
};
use tracing::error;

use super::KnownGate;
use crate::context::{SealedFactors, totp_binding};

/// The audit log's key, in the vault process.
pub(crate) struct RemoteSigner {
    client: Arc<Client>,
    key: VerifyingKey,
    id: String,
}

impl RemoteSigner {
    /// Asks for the key once.
    ///
    /// # Errors
    /// When the vault process does not answer, or has no such key.
    pub(crate) fn new(client: Arc<Client>) -> Result<Self, ClientError> {
        let key = public_key(&client)?;
        let id = key.key_id().to_string();
        Ok(Self { client, key, id })
    }
}

fn public_key(client: &Client) -> Result<VerifyingKey, ClientError> {
    let text = client.public_keys()?.signing.ok_or(ClientError::Protocol)?;
    text.parse().map_err(|_| ClientError::Protocol)
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteSigner({})", self.id)
    }
}

impl AuditSigner for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        // No signature is a failure to the store: nothing is written, and what was to be done is not done.
        self.client
            .sign(message)
            .inspect_err(|e| error!(error = %e, "the audit log is not signed"))
            .unwrap_or_default()
    }
    fn key_id(&self) -> &str {
        &self.id
    }
    fn public_key(&self) -> Vec<u8> {
        self.key.as_bytes().to_vec()
    }
}

/// What signs recordings: the same key, in the vault process.
///
/// # Errors
/// When the vault process does not answer, or has no such key.
pub(crate) fn recording_signer(client: Arc<Client>) -> Result<CheckpointSigner, ClientError> {
    let key = cofferdam_recorder::VerifyingKey(*public_key(&client)?.as_bytes());
    let sign = move |message: &[u8]| {
        let signed = client.sign(message);
        signed.inspect_err(|e| error!(error = %e, "a recording is not signed")).ok()
    };
    Ok(CheckpointSigner::elsewhere(key, Arc::new(sign)))
}

/// People's second factors, whose seeds the vault process alone opens.
#[derive(Debug)]
pub(crate) struct RemoteFactors {
    client: Arc<Client>,
    gate: Arc<KnownGate>,
    /// For what somebody is being shown just now: it never leaves this process, and ends with it.
    aside: SealedFactors,
}

impl RemoteFactors {
    /// Through `client`, whose vault is open as `gate` says.
    pub(crate) fn new(client: Arc<Client>, gate: Arc<KnownGate>) -> Self {
        Self { client, gate, aside: SealedFactors(Sealer::ephemeral(Arc::new(SystemEntropy))) }
    }
}

impl SecondFactors for RemoteFactors {
    fn step_of(
        &self,
        person: &Name,
        sealed: &[u8],
        code: &str,
        _: Timestamp,
        last_used: Option<u64>,
    ) -> Option<u64> {
        let code: String = code.chars().filter(|c| *c != ' ').take(16).collect();
        let asked =
            self.client.check_code(person.as_str(), sealed, &SecretString::from(code.as_str()), last_used);
        asked
            .inspect_err(|e| error!(%person, error = %e, "a second factor could not be checked"))
            .ok()
            .flatten()
    }

    fn ready(&self) -> bool {
        self.gate.was_open()
    }

    fn seal(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>> {
        let secret = cofferdam_vault::SecretBytes::new(secret.expose().to_vec());
        self.client.seal_secret(&totp_binding(person), &secret).ok()
    }

    fn set_aside(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>> {
        self.aside.seal(person, secret)
    }

    fn take_up(&self, person: &Name, sealed: &[u8]) -> Option<TotpSecret> {
        self.aside.take_up(person, sealed)
    }
}
