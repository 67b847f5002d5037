//! A fresh installation: keys, configuration, database and the first administrator.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use cofferdam_access::{
    ids::Name,
    people::{Duty, Organisation, OrganisationKind, User},
    site::{Settings, Site},
    store::Store,
};
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
    setup,
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
    /// Where browsers connect
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    pub(crate) web_listen: SocketAddr,
    /// Where RDP clients connect [default: no desktops are served]
    #[arg(long, value_name = "ADDR")]
    pub(crate) rdp_listen: Option<SocketAddr>,
    /// The address that people type into their browser; its host goes into the certificate that is made
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443/")]
    pub(crate) public_url: url::Url,
    /// The user that the gateway becomes when it is started as root; gets the files that are made here (needs root)
    #[arg(long, value_name = "USER")]
    pub(crate) run_user: Option<String>,
    /// Who can read every recording (age recipient); several may be given besides the new investigators' key
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
    cofferdam_access::apply::Proposal::new(&Site::default(), site.clone())?;
    for text in &args.recipients {
        text.parse::<cofferdam_recorder::Recipient>().map_err(|e| {
            CliError::failed(format!("--recipient {text:?}: {e}; write an age recipient, \"age1…\""))
        })?;
    }
    let host =
        args.public_url.host_str().filter(|_| args.public_url.scheme() == "https").ok_or_else(|| {
            CliError::failed(format!(
                "--public-url {}: write https://HOST or https://HOST:PORT",
                args.public_url
            ))
        })?;
    let hosts = [host.trim_matches(['[', ']']).to_owned()];
    let made = setup::make_keys(&args.dir).map_err(|e| CliError::failed(e.to_string()))?;
    let now = cofferdam_access::clock::Clock::now(&cofferdam_access::clock::SystemClock);
    setup::make_web_certificate(&args.dir, &args.name, &hosts, now)
        .map_err(|e| CliError::failed(e.to_string()))?;
    let mut recipients = vec![made.investigator_recipient];
    recipients.extend(args.recipients.iter().cloned());
    let template = Template {
        name: args.name.clone(),
        ssh_listen: args.listen,
        web_listen: args.web_listen,
        public_url: args.public_url.to_string(),
        rdp_listen: args.rdp_listen,
        store_url: args.store.clone(),
        password_file: args.store_password_file.clone().map(absolute).transpose()?,
        recipients,
        replay_identity_file: Some("keys/replay_identity".into()),
        user: args.run_user.clone(),
        group: None,
        allow_loopback_targets: false,
    };
    setup::write_new(&config_file, template.render().as_bytes(), 0o600)
        .map_err(|e| CliError::failed(e.to_string()))?;
    let context = Context::new(Config::load(&config_file)?);
    Store::migrate(&context.database()?, context.now()).await?;
    let desk = Desk::with(context).await?;
    let reply = first_administrator(&desk, &args, site, &config_file).await;
    desk.close().await;
    if let Some(user) = &args.run_user {
        crate::privileges::give_to(&args.dir, user).map_err(|e| CliError::failed(e.to_string()))?;
    }
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
) -> Result<Reply, CliError> {
    let file = config_file.display();
    let keys = args.dir.join("keys");
    let keys = keys.display();
    let ca = args.dir.join("web_ca.pem");
    let ca = ca.display();
    let next = format!(
        "next:\n  1. keep a copy of {keys} in a safe: what they seal is lost without them\n  2. move \
         {keys}/investigator_identity away from this machine, to those who may read recordings with everything in them\n  \
         3. describe the site: cofferdam export --config {file} > site.toml, edit it, cofferdam apply site.toml --config \
         {file}\n  4. look it over: cofferdam doctor --config {file}\n  5. let browsers trust {ca}, or put the site's own \
         certificate in its place\n  6. start: cofferdam serve --config {file}",
    );
    if !desk.site.users.is_empty() {
        let text =
            format!("{file} is written; the database holds a site already, which stays as it is\n{next}");
        return Ok(Reply::new(text, json!({"config": file.to_string(), "admin": null})));
    }
    let act = desk.own_act();
    desk.change_site(&act, site).await?;
    // 32 letters to choose from: 120 random bits.
    let password = Zeroizing::new(setup::random_text(24));
    desk.store.set_password(&act, &args.admin, hashed(&password)?.as_phc()).await?;
    let (secret, sealed) = new_totp(desk, &args.admin)?;
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
