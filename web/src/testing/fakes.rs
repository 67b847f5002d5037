//! Parts of the program that the interface only sees from outside.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use cofferdam_access::{
    audit::{Act, AuditSigner},
    clock::Timestamp,
    ids::{DesktopTokenId, Name, SessionId},
    prover::SecondFactors,
    store::{DESKTOP_TOKEN_SECONDS, DesktopToken, ShownSecret, Store},
    totp::TotpSecret,
};
use cofferdam_vault::{SecretBytes, SecretString};
use zeroize::Zeroizing;

use crate::{
    DesktopPass, DesktopRequest, Desktops, Export, Exporting, Found, Gate, Health, HealthItem, LiveSession,
    LiveSessions, OpenDesktop, RecordedLines, Recordings, RecordingsError, Search, Secrets, Terminal,
    TerminalRequest, Terminals, Verified, Watching,
};

/// Signs the audit log with a key that everybody knows.
pub(super) struct TestSigner(Ed25519KeyPair);

impl TestSigner {
    pub(super) fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap())
    }
}

impl fmt::Debug for TestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestSigner")
    }
}

impl AuditSigner for TestSigner {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
    fn key_id(&self) -> &str {
        "test"
    }
    fn public_key(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}

/// Binds secrets to people as the vault does, and hides nothing.
#[derive(Debug)]
pub(super) struct FakeFactors;

impl SecondFactors for FakeFactors {
    fn step_of(
        &self,
        person: &Name,
        sealed: &[u8],
        code: &str,
        now: Timestamp,
        last_used: Option<u64>,
    ) -> Option<u64> {
        self.take_up(person, sealed)?.check(code, now, last_used)
    }
    fn set_aside(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>> {
        self.seal(person, secret)
    }
    fn take_up(&self, person: &Name, sealed: &[u8]) -> Option<TotpSecret> {
        let bytes = sealed.strip_prefix(format!("{person}:").as_bytes())?;
        TotpSecret::from_bytes(Zeroizing::new(bytes.to_vec())).ok()
    }
    fn seal(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>> {
        Some([format!("{person}:").as_bytes(), secret.expose()].concat())
    }
}

/// Sessions that pretend to live on this node.
#[derive(Debug, Default)]
pub(crate) struct FakeLive(Mutex<Vec<LiveSession>>);

impl FakeLive {
    /// Adds one, in place of another of the same id.
    pub(crate) fn put(&self, session: LiveSession) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|s| s.id != session.id);
        all.push(session);
    }
}

#[async_trait]
impl LiveSessions for FakeLive {
    fn list(&self) -> Vec<LiveSession> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn get(&self, id: SessionId) -> Option<LiveSession> {
        self.list().into_iter().find(|s| s.id == id)
    }
    async fn watch(&self, _: &Act, _: &Name, _: SessionId) -> Result<Watching, String> {
        Err("nothing is carried here".into())
    }
}

/// Opens no terminal.
#[derive(Debug)]
pub(super) struct NoTerminals;

#[async_trait]
impl Terminals for NoTerminals {
    async fn open(&self, _: TerminalRequest) -> Result<Terminal, String> {
        Err("nothing is carried here".into())
    }
}

/// Keeps tokens for desktops in the store, sealed by nothing.
#[derive(Debug)]
pub(super) struct FakeDesktops(pub(super) Store);

#[async_trait]
impl Desktops for FakeDesktops {
    fn address(&self) -> &str {
        "gw.example:3389"
    }
    fn certificate(&self) -> Vec<u8> {
        b"a certificate".to_vec()
    }
    async fn issue(&self, act: &Act, request: DesktopRequest) -> Result<DesktopPass, String> {
        let token = DesktopToken {
            id: DesktopTokenId::new(act.at, &mut rand::rng()),
            person: request.user,
            account: request.account,
            window: request.window,
            factors: request.factors,
            source: request.source,
            created_at: act.at,
            expires_at: act.at.plus_seconds(DESKTOP_TOKEN_SECONDS),
        };
        self.0.issue_desktop_token(act, &token, b"fake-token").await.map_err(|e| e.to_string())?;
        Ok(DesktopPass {
            user_name: token.person.to_string(),
            token: Zeroizing::new("fake-token".into()),
            expires_at: token.expires_at,
        })
    }
    fn open(&self, _: Name, _: SocketAddr, _: Option<u32>) -> Result<OpenDesktop, String> {
        Err("nothing is behind this desktop".into())
    }
}

fn nothing() -> RecordingsError {
    RecordingsError::NotFound
}

/// Holds no recording.
#[derive(Debug)]
pub(super) struct NoRecordings;

#[async_trait]
impl Recordings for NoRecordings {
    async fn search(&self, _: &Act, _: &Search) -> Result<Found, RecordingsError> {
        Err(nothing())
    }
    async fn transcript(&self, _: &Act, _: SessionId, _: usize) -> Result<RecordedLines, RecordingsError> {
        Err(nothing())
    }
    async fn export(&self, _: &Act, _: SessionId, _: Export) -> Result<Exporting, RecordingsError> {
        Err(nothing())
    }
    async fn verify(&self, _: SessionId) -> Result<Verified, RecordingsError> {
        Err(nothing())
    }
    async fn hold(&self, _: &Act, _: SessionId, _: &str) -> Result<(), RecordingsError> {
        Err(nothing())
    }
    async fn lift_hold(&self, _: &Act, _: SessionId, _: &str) -> Result<(), RecordingsError> {
        Err(nothing())
    }
}

/// What a vault that knows one secret shows.
pub(crate) const SECRET: &str = "hunter2-of-the-panel";

/// See [`SECRET`].
#[derive(Debug)]
pub(super) struct OneSecret;

#[async_trait]
impl Secrets for OneSecret {
    async fn show(&self, _: &Act, _: &ShownSecret) -> Result<SecretBytes, String> {
        Ok(SecretBytes::from(SECRET.as_bytes().to_vec()))
    }

    async fn gate(&self) -> Gate {
        Gate {
            open: false,
            text: "1 of 2 shares is there".into(),
            generations: Vec::new(),
            takes: Some("share"),
        }
    }

    async fn unseal(&self, by: &Name, typed: SecretString) -> Result<Gate, String> {
        match typed.expose() {
            SHARE => Ok(Gate { open: true, text: format!("open (by {by})"), ..Gate::default() }),
            _ => Err("that is no share of this vault".into()),
        }
    }
}

/// The share that opens the pretended vault.
pub(crate) const SHARE: &str = "share-4711";

/// One part is well, one is not.
#[derive(Debug)]
pub(super) struct FakeHealth;

#[async_trait]
impl Health for FakeHealth {
    async fn look(&self) -> Vec<HealthItem> {
        let item = |name, well, text: &str| HealthItem { name, well, text: text.to_owned() };
        vec![item("store", true, "answers"), item("recorder", false, "the disk is full: make room")]
    }
    fn certificate_ends(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}
