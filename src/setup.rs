//! What a new gateway needs before it can start: folders, keys and files that only their owner reads.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use cofferdam_access::clock::Timestamp;
use cofferdam_recorder::Identity;
use cofferdam_vault::{Sealer, SecretBytes, SigningKey, SshCa, SystemEntropy, keyfile};
use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use zeroize::Zeroizing;

/// What kept a gateway from being set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// A file or folder.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A key.
    #[error("a key could not be made: {0}")]
    Key(String),
}

/// The public halves of what was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Who can read recordings: the investigator's key, to be taken off this machine.
    pub(crate) investigator_recipient: String,
}

fn key_fault(e: impl std::fmt::Display) -> SetupError {
    SetupError::Key(e.to_string())
}

/// Makes every key that the example configuration names, in `folder/keys`. Existing files are never replaced.
pub(crate) fn make_keys(folder: &Path) -> Result<Made, SetupError> {
    private_folder(folder)?;
    let keys = folder.join("keys");
    private_folder(&keys)?;
    let host = new_ssh_key();
    let text = host.to_openssh(LineEnding::LF).map_err(key_fault)?;
    let entropy = Arc::new(SystemEntropy);
    keyfile::create(&keys.join("ssh_host_ed25519"), &SecretBytes::new(text.as_bytes().to_vec()))
        .map_err(key_fault)?;
    SigningKey::create(&keys.join("audit_signing"), &SystemEntropy).map_err(key_fault)?;
    Sealer::create(&keys.join("vault_identity"), entropy.clone()).map_err(key_fault)?;
    SshCa::create(&keys.join("ssh_user_ca"), &keys.join("ssh_host_ca"), entropy).map_err(key_fault)?;
    identity(&keys.join("replay_identity"))?;
    let investigator_recipient = identity(&keys.join("investigator_identity"))?;
    Ok(Made { investigator_recipient })
}

/// Makes the web interface's authority and its certificate for `hosts`, as the example configuration names them.
pub(crate) fn make_web_certificate(
    folder: &Path,
    site: &str,
    hosts: &[String],
    now: Timestamp,
) -> Result<(), SetupError> {
    let (ca, chain, key) = cofferdam_web::make_authority(site, hosts, now.seconds()).map_err(key_fault)?;
    write_new(&folder.join("web_ca.pem"), ca.as_bytes(), 0o644)?;
    write_new(&folder.join("web_chain.pem"), chain.as_bytes(), 0o644)?;
    keyfile::create(&folder.join("keys/web_key"), &SecretBytes::new(key.as_bytes().to_vec()))
        .map_err(key_fault)
}

/// A new age identity in a file; gives its recipient.
fn identity(path: &Path) -> Result<String, SetupError> {
    let identity = Identity::generate();
    keyfile::create(path, &SecretBytes::new(format!("{}\n", identity.expose().as_str()).into_bytes()))
        .map_err(key_fault)?;
    Ok(identity.recipient().to_string())
}

/// Makes a folder that only its owner enters, unless it is there.
pub(crate) fn private_folder(path: &Path) -> Result<(), SetupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| file_fault(path, &e))
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), SetupError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| file_fault(path, &e))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| file_fault(path, &e))
}

fn file_fault(path: &Path, e: &std::io::Error) -> SetupError {
    SetupError::File { path: path.display().to_string(), reason: e.to_string() }
}

/// Random bytes.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

/// Random text of that length: letters and digits that nobody confuses.
pub(crate) fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    random_source(length)
        .into_iter()
        .filter_map(|b| LETTERS.get(usize::from(b % 32)).map(|c| char::from(*c)))
        .collect()
}

fn random_source(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

/// A new Ed25519 key for SSH.
pub(crate) fn new_ssh_key() -> PrivateKey {
    let seed = Zeroizing::new(random_bytes::<32>());
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}
