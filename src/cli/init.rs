//! A fresh installation: keys, configuration, database and the first administrator.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use cofferdam_access::{
    ids::Name,
    people::{Duty, Organisation, OrganisationKind, User},
    site::{Settings, Site},
    store::Store,
};
use cofferdam_recorder::Identity;
use cofferdam_vault::{Entropy, Sealer, SecretBytes, SigningKey, SshCa, SystemEntropy, keyfile};
use data_encoding::BASE32_NOPAD;
use russh::keys::{PrivateKey, ssh_key};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    desk::Desk,
    error::CliError,
    output::Reply,
    user::{hashed, new_totp, totp_text},
};
use crate::{
    config::{Config, StoreUrl, Template},
    context::Context,
};

/// `cofferdam init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to set up; must be empty or not there
    #[arg(long, value_name = "DIR", default_value = "/etc/cofferdam")]
    pub(crate) dir: PathBuf,
    /// The site's name
    #[arg(long, default_value = "plant")]
    pub(crate) name: String,
    /// The site's time zone (IANA name)
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) time_zone: String,
    /// The first administrator
    #[arg(long, value_name = "PERSON", default_value = "admin")]
    pub(crate) admin: Name,
    /// The organisation that the first administrator belongs to: the plant itself
    #[arg(long, value_name = "NAME", default_value = "plant")]
    pub(crate) organisation: Name,
    /// The database: sqlite:PATH, or postgres://USER@HOST/NAME
    #[arg(long, value_name = "URL", default_value = "sqlite:cofferdam.sqlite", value_parser = store_url)]
    pub(crate) store: StoreUrl,
    /// A file with PostgreSQL's password; only its owner may read it
    #[arg(long, value_name = "FILE")]
    pub(crate) store_password_file: Option<PathBuf>,
    /// Where people connect by SSH
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:2222")]
    pub(crate) listen: SocketAddr,
    /// Who can read every recording (age recipient); several may be given [default: a new investigators' key]
    #[arg(long = "recipient", value_name = "AGE1…")]
    pub(crate) recipients: Vec<String>,
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    StoreUrl::try_from(text.to_owned()).map_err(|e| e.to_string())
}

/// `cofferdam init`
pub(crate) async fn run(args: InitArgs) -> Result<Reply, CliError> {
    let config_file = args.dir.join("cofferdam.toml");
    let keys = args.dir.join("keys");
    for path in [&config_file, &keys] {
        if path.exists() {
            return Err(CliError::failed(format!(
                "{} exists already: nothing was changed; choose another --dir, or move it away",
                path.display()
            )));
        }
    }
    // Everything that can be wrong is looked at before the first file is made.
    let site = first_site(&args)?;
    super::desk::checked(site.clone())?;
    let own_recipients: Vec<String> = args.recipients.clone();
    for text in &own_recipients {
        text.parse::<cofferdam_recorder::Recipient>().map_err(|e| {
            CliError::failed(format!("--recipient {text:?}: {e}; write an age recipient, \"age1…\""))
        })?;
    }
    private_folder(&args.dir)?;
    private_folder(&keys)?;
    let investigators = make_keys(&keys, own_recipients.is_empty())?;
    let recipients = investigators.clone().map_or(own_recipients, |r| vec![r]);
    let template = Template {
        name: args.name.clone(),
        ssh_listen: args.listen,
        store_url: args.store.clone(),
        password_file: args.store_password_file.clone().map(absolute).transpose()?,
        recipients,
        replay_identity_file: Some("keys/replay_identity".into()),
        user: None,
        group: None,
        allow_loopback_targets: false,
    };
    write_new(&config_file, &template.render())?;
    let context = Context::new(Config::load(&config_file)?);
    Store::migrate(&context.database()?, context.now()).await?;
    let desk = Desk::with(context).await?;
    let reply = first_administrator(&desk, &args, site, &config_file, investigators.is_some()).await;
    desk.close().await;
    reply
}

fn first_site(args: &InitArgs) -> Result<Site, CliError> {
    if args.name.trim().is_empty() || args.name.chars().any(char::is_control) {
        return Err(CliError::failed("--name: give the site a name in plain characters"));
    }
    Ok(Site {
        settings: Settings { time_zone: args.time_zone.clone(), ..Settings::default() },
        organisations: vec![Organisation {
            name: args.organisation.clone(),
            title: String::new(),
            kind: OrganisationKind::Plant,
        }],
        users: vec![User {
            name: args.admin.clone(),
            full_name: String::new(),
            email: String::new(),
            organisation: args.organisation.clone(),
            duties: BTreeSet::from([Duty::Administrator]),
            ssh_keys: Vec::new(),
            disabled: false,
            valid_until: None,
        }],
        ..Site::default()
    })
}

/// Makes every key under the names that the configuration's template has. Answers the recipient of a new investigators'
/// key, where one is made.
fn make_keys(keys: &Path, investigators: bool) -> Result<Option<String>, CliError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    SigningKey::create(&keys.join("audit_signing"), entropy.as_ref())?;
    Sealer::create(&keys.join("vault_identity"), Arc::clone(&entropy))?;
    SshCa::create(&keys.join("ssh_user_ca"), &keys.join("ssh_host_ca"), entropy)
        .map_err(|e| CliError::failed(e.to_string()))?;
    host_key(&keys.join("ssh_host_ed25519"))?;
    age_identity(&keys.join("replay_identity"))?;
    investigators.then(|| age_identity(&keys.join("investigators_identity"))).transpose()
}

/// A new SSH host key in OpenSSH's form.
fn host_key(path: &Path) -> Result<(), CliError> {
    let failed = |e: ssh_key::Error| CliError::failed(format!("the host key cannot be made: {e}"));
    let mut seed = Zeroizing::new([0u8; 32]);
    SystemEntropy.fill(seed.as_mut_slice()).map_err(|e| CliError::failed(e.to_string()))?;
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let key = PrivateKey::new(pair.into(), "cofferdam").map_err(failed)?;
    let text = key.to_openssh(ssh_key::LineEnding::LF).map_err(failed)?;
    Ok(keyfile::create(path, &SecretBytes::new(text.as_bytes().to_vec()))?)
}

/// A new age identity in the form of `age-keygen`; answers its recipient.
fn age_identity(path: &Path) -> Result<String, CliError> {
    let identity = Identity::generate();
    let recipient = identity.recipient().to_string();
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", identity.expose().as_str()));
    keyfile::create(path, &SecretBytes::new(text.as_bytes().to_vec()))?;
    Ok(recipient)
}

fn private_folder(path: &Path) -> Result<(), CliError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(CliError::io(path.display().to_string()))
}

fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
        .map_err(CliError::io(path.display().to_string()))
}

fn absolute(path: PathBuf) -> Result<PathBuf, CliError> {
    std::path::absolute(&path).map_err(CliError::io(path.display().to_string()))
}

/// Puts the first administrator in, with a password and a second factor that are shown once. A database that holds a
/// site already (a second node) keeps it as it is.
async fn first_administrator(
    desk: &Desk,
    args: &InitArgs,
    site: Site,
    config_file: &Path,
    new_investigators: bool,
) -> Result<Reply, CliError> {
    let file = config_file.display();
    let next = format!(
        "next:\n  1. keep a copy of {}/keys in a safe: what they seal is lost without them\n{}  3. describe the site: \
         cofferdam export --config {file} > site.toml, edit it, cofferdam apply site.toml --config {file}\n  4. look it over: \
         cofferdam doctor --config {file}\n  5. start: cofferdam serve --config {file}",
        args.dir.display(),
        if new_investigators {
            format!(
                "  2. move {}/keys/investigators_identity away from this machine, to those who may read recordings with \
                 everything in them\n",
                args.dir.display()
            )
        } else {
            String::new()
        },
    );
    if !desk.site.users.is_empty() {
        let text =
            format!("{file} is written; the database holds a site already, which stays as it is\n{next}");
        return Ok(Reply::new(text, json!({"config": file.to_string(), "admin": null})));
    }
    let act = desk.own_act();
    desk.change_site(&act, site).await?;
    let password = new_secret_text();
    desk.store.set_password(&act, &args.admin, hashed(&password)?.as_phc()).await?;
    let (secret, sealed) = new_totp(&desk.context.sealer()?, &args.admin)?;
    desk.store.set_totp(&act, &args.admin, &sealed).await?;
    let text = format!(
        "{file} is written, the database is ready\nfirst administrator {}, shown this once:\n  password {}\n\
         change it with: cofferdam user set-password {} --config {file}\n{}\n{next}",
        args.admin,
        password.as_str(),
        args.admin,
        totp_text(&args.name, &args.admin, &secret),
    );
    let json = json!({
        "config": file.to_string(), "admin": args.admin, "password": password.as_str(),
        "totp_secret": secret.to_base32().as_str(),
    });
    Ok(Reply::new(text, json))
}

/// 120 random bits that can be typed.
fn new_secret_text() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; 15]);
    rand::RngCore::fill_bytes(&mut rand::rng(), bytes.as_mut_slice());
    Zeroizing::new(BASE32_NOPAD.encode(bytes.as_slice()).to_ascii_lowercase())
}
