//! The demo's people and what they know. Their secrets lie in the demo's folder in plain text: they open nothing else.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cofferdam_access::{
    audit::Act,
    ids::Name,
    password::{Costs, StoredPassword},
    store::Store,
    totp::TotpSecret,
};
use data_encoding::BASE32_NOPAD;
use russh::keys::ssh_key::LineEnding;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{context::Context, setup};

/// Names, full names, organisations and duties.
pub(super) const PEOPLE: [(&str, &str, &str, &[&str]); 6] = [
    ("vera", "Vera Vendor", "acme-pumps", &["vendor"]),
    ("emil", "Emil Engineer", "plant", &["engineer"]),
    ("olga", "Olga Operations", "plant", &["operations"]),
    ("sam", "Sam Security", "plant", &["security"]),
    ("ivan", "Ivan Investigator", "plant", &["investigator"]),
    ("ada", "Ada Administrator", "plant", &["administrator"]),
];

/// What one of them knows and has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Person {
    /// Password at the gateway.
    pub(super) password: String,
    /// TOTP secret, base 32.
    pub(super) totp_secret: String,
    /// Private SSH key.
    pub(super) ssh_key: PathBuf,
    /// Its public half, OpenSSH one-line form.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(super) ssh_public_key: String,
}

/// All of them, by name.
pub(super) type People = BTreeMap<String, Person>;

/// The people of this folder; made when it is new.
pub(super) fn load_or_make(folder: &Path) -> Result<People, String> {
    let file = folder.join("people.json");
    if file.exists() {
        let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        return serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()));
    }
    let keys = folder.join("people");
    setup::private_folder(&keys).map_err(|e| e.to_string())?;
    let mut people = People::new();
    for (name, ..) in PEOPLE {
        let key = setup::new_ssh_key();
        let path = keys.join(format!("{name}_ed25519"));
        let text = key.to_openssh(LineEnding::LF).map_err(|e| e.to_string())?;
        setup::write_new(&path, text.as_bytes(), 0o600).map_err(|e| e.to_string())?;
        let public = key.public_key().to_openssh().map_err(|e| e.to_string())?;
        let public_file = path.with_extension("pub");
        setup::write_new(&public_file, format!("{public} {name}\n").as_bytes(), 0o644)
            .map_err(|e| e.to_string())?;
        let person = Person {
            password: setup::random_text(16),
            totp_secret: BASE32_NOPAD.encode(&setup::random_bytes::<20>()),
            ssh_key: path,
            ssh_public_key: public,
        };
        people.insert(name.to_owned(), person);
    }
    let text = serde_json::to_vec_pretty(&people).map_err(|e| e.to_string())?;
    setup::write_new(&file, &text, 0o600).map_err(|e| e.to_string())?;
    Ok(people)
}

/// Gives each their password and second factor, once.
pub(super) async fn enrol(context: &Context, store: &Store, people: &People) -> Result<(), String> {
    for (name, person) in people {
        let name = Name::new(name).map_err(|e| e.to_string())?;
        let known = store.credentials(&name).await.map_err(|e| e.to_string())?;
        if known.is_some_and(|c| c.password_hash.is_some() && c.totp_sealed.is_some()) {
            continue;
        }
        let act = Act::system("demo", context.now());
        let hash = StoredPassword::new(&person.password, Costs::OWASP, &mut rand::rng())
            .map_err(|e| e.to_string())?;
        store.set_password(&act, &name, hash.as_phc()).await.map_err(|e| e.to_string())?;
        let secret = BASE32_NOPAD.decode(person.totp_secret.as_bytes()).map_err(|e| e.to_string())?;
        let secret = TotpSecret::from_bytes(Zeroizing::new(secret)).map_err(|e| e.to_string())?;
        // Asked for when it is needed: a vault that a person has to unseal gives none before it runs.
        let factors = context.factors().map_err(|e| e.to_string())?;
        let sealed = factors.seal(&name, &secret).ok_or("the vault cannot seal a second factor")?;
        store.set_totp(&act, &name, &sealed).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Where a running demo is reached.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    /// SSH.
    pub(super) ssh: SocketAddr,
    /// The web interface.
    pub(super) web: String,
    /// Desktops, where they are served.
    pub(super) rdp: Option<SocketAddr>,
    /// The authority that browsers have to trust.
    pub(super) ca_cert: &'a Path,
    /// The configuration file.
    pub(super) config: &'a Path,
}

/// `demo.json`, whole or not at all: who waits for it may read it at once.
pub(super) fn write_ready(file: &Path, people: &People, reach: &Reach<'_>) -> Result<(), String> {
    let users: BTreeMap<_, _> = people
        .iter()
        .map(|(name, p)| {
            (name, serde_json::json!({ "password": p.password, "totp_secret": p.totp_secret, "ssh_key": p.ssh_key }))
        })
        .collect();
    let ready = serde_json::json!({
        "ssh": reach.ssh.to_string(),
        "web": reach.web,
        "rdp": reach.rdp.map(|a| a.to_string()),
        "ca_cert": reach.ca_cert,
        "config": reach.config,
        "users": users,
        "assets": { "pump-hmi": { "protocol": "ssh" }, "eng-ws": { "protocol": "rdp" } },
    });
    let text = serde_json::to_vec_pretty(&ready).map_err(|e| e.to_string())?;
    let part = file.with_extension("part");
    std::fs::remove_file(&part)
        .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        .map_err(|e| e.to_string())?;
    setup::write_new(&part, &text, 0o600).map_err(|e| e.to_string())?;
    std::fs::rename(&part, file).map_err(|e| e.to_string())
}
