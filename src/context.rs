//! What every command and the gateway itself open from a configuration: the store with its signer, the vault's keys, the
//! recorder's keys, and the sources of time and randomness.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use aws_lc_rs::{
    encoding::{AsBigEndian, Curve25519SeedBin},
    signature::Ed25519KeyPair,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cofferdam_access::{
    audit::{AuditSigner, CheckpointFile},
    clock::{SharedClock, SystemClock, Timestamp},
    ids::Name,
    prover::SecondFactors,
    site::AccountRef,
    store::{Database, Store, StoreError},
    totp::TotpSecret,
};
use cofferdam_recorder::{
    Archive, CheckpointSigner, DesktopReader, Identity, OcrLimits, Recipient, Recipients, RecordError,
    RecordingId, RemoteError, RemoteStore, S3Settings,
};
use cofferdam_vault::{
    CaError, Context as Sealed, Entropy, KeyFileError, KeyringDocument, SealError, Sealer, SecretBytes,
    SigningError, SigningKey, SshCa, SystemEntropy,
    agent::{Client, ClientError},
    keyfile,
};
use zeroize::Zeroizing;

use crate::{
    config::{Config, Ocr, StoreUrl},
    keys::{KnownGate, RemoteFactors, RemoteSigner, recording_signer, root_of},
};

/// Why something that a configuration names could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of the audit log.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The vault's identity.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Where the vault's root should come from.
    #[error("{0}")]
    Root(String),
    /// The process that holds the keys.
    #[error(transparent)]
    Keys(#[from] ClientError),
    /// There is no running vault, or not for us.
    #[error(
        "the running vault is not reached at {} ({reason}): start the gateway first, and act as root or as the vault's user",
        path.display()
    )]
    NotRunning {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The built-in SSH authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A key file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The recorder's keys.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The object store's settings.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A file of certificates.
    #[error("{}: {source}; name a readable file in s3.ca_file, or leave it out", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key file whose content is something else.
    #[error("{} holds no {what}: restore it from a backup", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A recipient that is none.
    #[error("recordings.recipients: {0}; write an age recipient, \"age1…\"")]
    Recipient(String),
    /// Recordings cannot be read on this machine.
    #[error(
        "this gateway holds no replay identity, so recordings stay closed here: take them to a machine that has one, or \
         set recordings.replay_identity_file"
    )]
    NoReplayIdentity,
}

/// The audit log's key in the form that the store signs with.
pub(crate) struct AuditKeyAdapter {
    key: SigningKey,
    id: String,
}

impl AuditKeyAdapter {
    /// Signs with `key`.
    pub(crate) fn new(key: SigningKey) -> Self {
        let id = key.key_id().to_string();
        Self { key, id }
    }
}

impl fmt::Debug for AuditKeyAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKeyAdapter({})", self.id)
    }
}

impl AuditSigner for AuditKeyAdapter {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message)
    }
    fn key_id(&self) -> &str {
        &self.id
    }
    fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_bytes().to_vec()
    }
}

/// Opens what a configuration names, each when it is asked for: a command reads no key that it does not need.
pub(crate) struct Context {
    /// The configuration.
    pub(crate) config: Config,
    /// The vault process, which holds the keys; a command, and that process itself, reads them.
    keys: Option<Arc<Client>>,
    /// The vault's keyring, as the store had it when it was opened.
    keyring: OnceLock<Option<KeyringDocument>>,
    /// The time.
    pub(crate) clock: SharedClock,
    /// Randomness for keys.
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Context {
    /// With the system's clock and randomness.
    pub(crate) fn new(config: Config) -> Self {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Self { config, keys: None, keyring: OnceLock::new(), clock, entropy }
    }

    /// One that reads no key of the vault, and asks the process that holds them.
    pub(crate) fn asking(config: Config, keys: Arc<Client>) -> Self {
        Self { keys: Some(keys), ..Self::new(config) }
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the database is; for PostgreSQL with the password of `store.password_file`.
    ///
    /// # Errors
    /// When the password's file cannot be used.
    pub(crate) fn database(&self) -> Result<Database, ContextError> {
        let store = &self.config.store;
        match (&store.url, &store.password_file) {
            (StoreUrl::Sqlite(path), _) => Ok(Database::Sqlite(path.clone())),
            (StoreUrl::Postgres(url), None) => Ok(Database::Postgres(url.clone())),
            (StoreUrl::Postgres(url), Some(file)) => {
                let text = keyfile::load(file)?
                    .to_text()
                    .map_err(|_| ContextError::NotAKey { path: file.clone(), what: "password" })?;
                let password = text.expose().trim_end_matches(['\r', '\n']);
                Ok(Database::Postgres(with_password(url, password)))
            }
        }
    }

    /// The key of the audit log.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub(crate) fn audit_signer(&self) -> Result<Arc<dyn AuditSigner>, ContextError> {
        if let Some(keys) = &self.keys {
            return Ok(Arc::new(RemoteSigner::new(Arc::clone(keys))?));
        }
        Ok(Arc::new(AuditKeyAdapter::new(SigningKey::load(&self.config.audit.signing_key_file)?)))
    }

    /// The file of checkpoints beside the database.
    pub(crate) fn checkpoints(&self) -> CheckpointFile {
        CheckpointFile::new(&self.config.audit.checkpoint_file)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When the key or the database cannot be used, or its schema is another.
    pub(crate) async fn open_store(&self) -> Result<Store, ContextError> {
        let signer = self.audit_signer()?;
        let store = Store::open(&self.database()?, signer, Some(self.checkpoints())).await?;
        if self.keys.is_none() {
            let keyring = store.keyring().await?.map(KeyringDocument::from_bytes);
            // Opened before: the first look counts, as for everything else of this context.
            self.keyring.set(keyring).unwrap_or_default();
        }
        Ok(store)
    }

    /// What seals secrets. A command opens the vault for itself where nobody has to be there for that; else it asks the
    /// running vault. Open the store first: the keyring is in it.
    ///
    /// # Errors
    /// When the root cannot be brought, or the running vault cannot be reached.
    pub(crate) fn sealer(&self) -> Result<Sealer, ContextError> {
        let entropy = Arc::clone(&self.entropy);
        if let Some(keys) = &self.keys {
            return Ok(Sealer::elsewhere(Arc::clone(keys) as Arc<_>, entropy));
        }
        let vault = &self.config.vault;
        if vault.unseal().needs_a_person() {
            return Ok(Sealer::elsewhere(self.running_vault()? as Arc<_>, entropy));
        }
        let root = root_of(vault, None).map_err(ContextError::Root)?;
        match self.keyring.get() {
            Some(Some(document)) => Ok(Sealer::open_keyring(&root, document, entropy)?),
            _ => Ok(Sealer::from_root(&root, entropy)?),
        }
    }

    /// The vault's keyring, where it has one, as it was when the store was opened.
    pub(crate) fn keyring(&self) -> Option<&KeyringDocument> {
        self.keyring.get().and_then(Option::as_ref)
    }

    /// The running vault, as an operator reaches it.
    ///
    /// # Errors
    /// When there is none, or it is another user's.
    pub(crate) fn running_vault(&self) -> Result<Arc<Client>, ContextError> {
        let socket = self.config.vault.operator_socket();
        Client::connect(socket)
            .map(Arc::new)
            .map_err(|e| ContextError::NotRunning { path: socket.to_owned(), reason: e.to_string() })
    }

    /// The running vault, where there is one; none where there is not and a command may open the vault for itself.
    ///
    /// # Errors
    /// When there is none, and a person has to open it.
    pub(crate) fn running_vault_if_any(&self) -> Result<Option<Arc<Client>>, ContextError> {
        match self.running_vault() {
            Ok(client) => Ok(Some(client)),
            Err(e) if self.config.vault.unseal().needs_a_person() => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// What opens and seals people's second factors, for a command.
    ///
    /// # Errors
    /// As [`Self::sealer`].
    pub(crate) fn factors(&self) -> Result<Arc<dyn SecondFactors>, ContextError> {
        if self.config.vault.unseal().needs_a_person() {
            // Whether it is open shows when it is asked.
            let client = self.running_vault()?;
            let gate = Arc::new(KnownGate::new(client.clone(), true));
            return Ok(Arc::new(RemoteFactors::new(client, gate)));
        }
        Ok(Arc::new(SealedFactors(self.sealer()?)))
    }

    /// The built-in SSH authority.
    ///
    /// # Errors
    /// When a key file cannot be used.
    pub(crate) fn ssh_ca(&self) -> Result<SshCa, ContextError> {
        let vault = &self.config.vault;
        Ok(SshCa::load(&vault.ssh_user_ca_file, &vault.ssh_host_ca_file, Arc::clone(&self.entropy))?)
    }

    /// What signs recordings: the same Ed25519 key as the audit log's, under the recorder's own contexts.
    ///
    /// # Errors
    /// When the key's file cannot be used.
    pub(crate) fn recording_signer(&self) -> Result<CheckpointSigner, ContextError> {
        if let Some(keys) = &self.keys {
            return Ok(recording_signer(Arc::clone(keys))?);
        }
        let path = &self.config.audit.signing_key_file;
        let content = keyfile::load(path)?;
        let seed = seed_of(&content)
            .ok_or_else(|| ContextError::NotAKey { path: path.clone(), what: "Ed25519 private key" })?;
        Ok(CheckpointSigner::from_seed(&seed)?)
    }

    /// Who can read new recordings: those configured, and this process where it holds a replay identity. Masked input is
    /// never for this process, only for the others.
    ///
    /// # Errors
    /// When a recipient does not parse or the identity's file cannot be used.
    pub(crate) fn recipients(&self) -> Result<Recipients, ContextError> {
        let mut read = Vec::new();
        for text in &self.config.recordings.recipients {
            read.push(text.parse::<Recipient>().map_err(|e| ContextError::Recipient(e.to_string()))?);
        }
        let mut reveal = read.clone();
        if let Some(identity) = self.replay_identity_if_any()? {
            let own = identity.recipient();
            reveal.retain(|r| r.to_string() != own.to_string());
            if reveal.len() == read.len() {
                read.push(own);
            }
        }
        Ok(Recipients { read, reveal })
    }

    /// What this process reads recordings with.
    ///
    /// # Errors
    /// [`ContextError::NoReplayIdentity`] when it may not read any.
    pub(crate) fn replay_identity(&self) -> Result<Identity, ContextError> {
        self.replay_identity_if_any()?.ok_or(ContextError::NoReplayIdentity)
    }

    fn replay_identity_if_any(&self) -> Result<Option<Identity>, ContextError> {
        let Some(path) = &self.config.recordings.replay_identity_file else { return Ok(None) };
        let not_one = || ContextError::NotAKey { path: path.clone(), what: "age identity" };
        let text = keyfile::load(path)?.to_text().map_err(|_| not_one())?;
        Identity::from_key_file(text.expose()).map(Some).map_err(|_| not_one())
    }

    /// What has the text on recorded desktops read.
    ///
    /// # Errors
    /// [`ContextError::NoReplayIdentity`] when this process may not read recordings.
    pub(crate) fn desktop_reader(&self, ocr: &Ocr) -> Result<DesktopReader, ContextError> {
        let limits = OcrLimits { every: i64::from(ocr.every_seconds) * 1_000_000, most: ocr.max_pictures };
        let folder = self.config.recordings.dir.clone();
        Ok(DesktopReader::new(folder, self.replay_identity()?, self.recipients()?, limits))
    }

    /// The object store that recordings go to, where there is one.
    ///
    /// # Errors
    /// When a file that it names cannot be used.
    pub(crate) fn remote_store(&self) -> Result<Option<RemoteStore>, ContextError> {
        let Some(s3) = &self.config.s3 else { return Ok(None) };
        let line = |path: &PathBuf| {
            let text = keyfile::load(path)?
                .to_text()
                .map_err(|_| ContextError::NotAKey { path: path.clone(), what: "access key" })?;
            Ok::<_, ContextError>(Zeroizing::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
        };
        let ca = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| ContextError::Certificates { path: path.clone(), source })
        };
        let settings = S3Settings {
            bucket: s3.bucket.clone(),
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            prefix: s3.prefix.clone(),
            access_key: line(&s3.access_key_file)?,
            secret_key: line(&s3.secret_key_file)?,
            ca_pem: s3.ca_file.as_ref().map(ca).transpose()?,
            timeout: std::time::Duration::from_secs(s3.timeout_seconds.into()),
        };
        Ok(Some(RemoteStore::s3(&settings)?))
    }

    /// Recordings that are in the object store, where there is one.
    ///
    /// # Errors
    /// As [`Self::remote_store`].
    pub(crate) fn archive(&self) -> Result<Option<Archive>, ContextError> {
        let bound = self.config.s3.as_ref().map_or(0, |s3| s3.cache_bytes);
        let cache = self.config.recordings.dir.join("cache");
        Ok(self.remote_store()?.map(|store| Archive::new(store, cache, bound)))
    }

    /// Stores, lists, reads and deletes a small object in the object store, where there is one; `false` where there is none.
    ///
    /// # Errors
    /// What failed first, with what to do about it.
    pub(crate) async fn probe_remote_store(&self) -> Result<bool, ContextError> {
        let Some(store) = self.remote_store()? else { return Ok(false) };
        store.probe(&format!("{:016x}", rand::random::<u64>())).await?;
        Ok(true)
    }

    /// Where the recording of that name lies.
    pub(crate) fn recording_path(&self, id: &RecordingId) -> PathBuf {
        recording_path(&self.config.recordings.dir, id)
    }
}

/// Where the recording of that name lies in a folder.
pub(crate) fn recording_path(folder: &Path, id: &RecordingId) -> PathBuf {
    folder.join(format!("{id}.cofrec"))
}

/// What a person's sealed TOTP secret is bound to: it opens for nobody else.
pub(crate) fn totp_binding(person: &Name) -> Sealed {
    Sealed::new("totp", person.as_str())
}

/// People's second factors, sealed by the vault's identity.
#[derive(Debug, Clone)]
pub(crate) struct SealedFactors(pub(crate) Sealer);

impl SecondFactors for SealedFactors {
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
        let secret = self.0.open(&totp_binding(person), sealed).ok()?;
        TotpSecret::from_bytes(Zeroizing::new(secret.expose().to_vec())).ok()
    }

    fn seal(&self, person: &Name, secret: &TotpSecret) -> Option<Vec<u8>> {
        self.0.seal(&totp_binding(person), &SecretBytes::new(secret.expose().to_vec())).ok()
    }
}

/// What an account's sealed secret is bound to.
pub(crate) fn account_binding(account: &AccountRef) -> Sealed {
    Sealed::account(account.to_string())
}

/// The name of whoever started this process, as the operating system knows them.
pub(crate) fn os_user() -> String {
    let uid = nix::unistd::getuid();
    // A user id without an entry acts under its number: the log has to name somebody.
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid-{uid}"), |u| u.name)
}

/// The address with the password as a query parameter, percent-encoded.
fn with_password(url: &str, password: &str) -> String {
    let mut out = url.to_owned();
    out.push(if url.contains('?') { '&' } else { '?' });
    out.push_str("password=");
    for byte in password.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The 32-byte seed of an Ed25519 key in PKCS#8 PEM.
fn seed_of(pem: &SecretBytes) -> Option<Zeroizing<Vec<u8>>> {
    let text = pem.to_text().ok()?;
    let body: Zeroizing<String> =
        Zeroizing::new(text.expose().lines().filter(|l| !l.starts_with("-----")).map(str::trim).collect());
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
    let seed: Curve25519SeedBin<'_> = pair.seed().ok()?.as_be_bytes().ok()?;
    Some(Zeroizing::new(seed.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_encoded_so_that_it_cannot_become_another_parameter() {
        assert_eq!(
            with_password("postgres://a@h/d", "p&host=x 1"),
            "postgres://a@h/d?password=p%26host%3Dx%201"
        );
        assert_eq!(with_password("postgres://a@h/d?x=1", "p"), "postgres://a@h/d?x=1&password=p");
    }

    #[test]
    fn recordings_are_signed_with_the_audit_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let key = SigningKey::create(&path, &SystemEntropy).unwrap();
        let seed = seed_of(&keyfile::load(&path).unwrap()).unwrap();
        let signer = CheckpointSigner::from_seed(&seed).unwrap();
        assert_eq!(&signer.public_key().0, key.public_key().as_bytes());
    }
}
