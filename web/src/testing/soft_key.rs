//! An authenticator in software: makes passkeys and answers for them as a browser hands it on (WebAuthn Level 2 §6).

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::HOST;

/// The user was present, was verified (§6.1).
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
/// The data hold a new credential.
const ATTESTED: u8 = 0x40;

/// Holds one passkey.
pub(crate) struct SoftKey {
    pair: EcdsaKeyPair,
    id: [u8; 16],
    handle: Mutex<String>,
    count: AtomicU32,
    /// Where the browser says that it is.
    pub(crate) origin: String,
    /// Whether it verifies its user before it answers.
    pub(crate) verifies: bool,
}

impl SoftKey {
    /// One with a new key.
    pub(crate) fn new() -> Self {
        Self {
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            id: rand::random(),
            handle: Mutex::default(),
            count: AtomicU32::new(1),
            origin: format!("https://{HOST}"),
            verifies: true,
        }
    }

    /// The credential's id as the interface writes it.
    pub(crate) fn id(&self) -> String {
        BASE64URL_NOPAD.encode(&self.id)
    }

    /// Sets its counter of uses back, as a copy made earlier has it.
    pub(crate) fn set_back(&self) {
        self.count.store(1, Ordering::Relaxed);
    }

    /// Answers a question that asks for a new passkey.
    pub(crate) fn make(&self, question: &Value) -> String {
        let options = &question["options"]["publicKey"];
        *self.handle.lock().unwrap() = options["user"]["id"].as_str().unwrap().to_owned();
        let mut data = self.data(options["rp"]["id"].as_str().unwrap(), ATTESTED);
        data.extend([0; 16]);
        data.extend([0, 16]);
        data.extend(self.id);
        // A COSE key (RFC 9053 §7.1.1): EC2, ES256, P-256, x, y.
        let point = self.pair.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..]);
        // {"fmt": "none", "attStmt": {}, "authData": bytes}
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
        object.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend(data);
        let client = self.client("webauthn.create", options);
        self.credential(json!({
            "attestationObject": BASE64URL_NOPAD.encode(&object),
            "clientDataJSON": BASE64URL_NOPAD.encode(client.as_bytes()),
            "transports": ["internal"],
        }))
    }

    /// Answers a question that asks for a proof.
    pub(crate) fn prove(&self, question: &Value) -> String {
        let options = &question["options"]["publicKey"];
        let data = self.data(options["rpId"].as_str().unwrap(), 0);
        let client = self.client("webauthn.get", options);
        let signed = [data.as_slice(), digest(&SHA256, client.as_bytes()).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        self.credential(json!({
            "authenticatorData": BASE64URL_NOPAD.encode(&data),
            "clientDataJSON": BASE64URL_NOPAD.encode(client.as_bytes()),
            "signature": BASE64URL_NOPAD.encode(signature.as_ref()),
            "userHandle": *self.handle.lock().unwrap(),
        }))
    }

    /// Authenticator data up to the counter (§6.1).
    fn data(&self, host: &str, more: u8) -> Vec<u8> {
        let mut data = digest(&SHA256, host.as_bytes()).as_ref().to_vec();
        data.push(PRESENT | more | if self.verifies { VERIFIED } else { 0 });
        data.extend(self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        data
    }

    fn client(&self, kind: &str, options: &Value) -> String {
        let (challenge, origin) = (&options["challenge"], &self.origin);
        json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string()
    }

    fn credential(&self, response: Value) -> String {
        let id = self.id();
        json!({ "id": id, "rawId": id, "type": "public-key", "extensions": {}, "response": response })
            .to_string()
    }
}
