//! Privileged accounts on machines, and their secrets in the vault. A secret goes in here and never comes out.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cofferdam_access::site::{AccountRef, Credential};
use cofferdam_vault::{SecretBytes, keyfile};
use russh::keys::PrivateKey;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, shown, utc_or_null},
    prompt::{Prompt, StandardInput, Terminal},
};
use crate::context::account_binding;

/// `cofferdam account …`
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// All accounts, and whether the vault has their secret
    List,
    /// Put an account's secret into the vault
    SetSecret(SetSecretArgs),
    /// Remove an account's secret from the vault, for good
    RemoveSecret {
        /// The account, LOGIN@ASSET
        #[arg(value_parser = reference)]
        account: AccountRef,
        #[command(flatten)]
        on_behalf: OnBehalf,
    },
}

/// Where the secret comes from. Without an option it is asked for on the terminal.
#[derive(Debug, Args)]
pub(crate) struct SetSecretArgs {
    /// The account, LOGIN@ASSET
    #[arg(value_parser = reference)]
    account: AccountRef,
    /// A password, one line of standard input
    #[arg(long, group = "source")]
    password_stdin: bool,
    /// A file with the password; only its owner may read it
    #[arg(long, value_name = "FILE", group = "source")]
    password_file: Option<PathBuf>,
    /// A file with an OpenSSH private key without passphrase; only its owner may read it
    #[arg(long, value_name = "FILE", group = "source")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// An account as people write it.
pub(super) fn reference(text: &str) -> Result<AccountRef, String> {
    AccountRef::try_from(text.to_owned())
        .map_err(|_| "write LOGIN@ASSET, as `cofferdam account list` does".into())
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: AccountCommand) -> Result<Reply, CliError> {
    match command {
        AccountCommand::List => list(desk).await,
        AccountCommand::SetSecret(args) => set_secret(desk, &args).await,
        AccountCommand::RemoveSecret { account, on_behalf } => {
            desk.store.remove_secret(&desk.act(&on_behalf)?, &account).await?;
            Ok(Reply::new(format!("the secret of {account} is removed"), json!({"id": account})))
        }
    }
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let secrets = desk.store.secrets().await?;
    let mut table = Table::new(&["account", "credential", "secret", "changed", "flags"]);
    let mut rows = Vec::new();
    for account in &desk.site.accounts {
        let name = account.reference();
        let kept = secrets.iter().find(|(a, _, _)| a == &name);
        let secret = match (account.needs_secret(), kept) {
            (_, Some((_, version, _))) => format!("version {version}"),
            (true, None) => "missing".to_owned(),
            (false, None) => "-".to_owned(),
        };
        let flags: Vec<&str> =
            [(account.default, "default"), (account.exclusive, "exclusive"), (account.disabled, "disabled")]
                .into_iter()
                .filter_map(|(is, name)| is.then_some(name))
                .collect();
        table.row([
            name.to_string().as_str(),
            account.credential.as_str(),
            &secret,
            &shown(&desk.zone, kept.map(|k| k.2)),
            &flags.join(", "),
        ]);
        rows.push(json!({
            "id": name,
            "asset": account.asset,
            "login": account.login,
            "credential": account.credential.as_str(),
            "default": account.default,
            "exclusive": account.exclusive,
            "disabled": account.disabled,
            "secret_version": kept.map(|k| k.1),
            "secret_changed": utc_or_null(kept.map(|k| k.2)),
        }));
    }
    Ok(Reply::list(&table, rows))
}

async fn set_secret(desk: &Desk, args: &SetSecretArgs) -> Result<Reply, CliError> {
    let name = &args.account;
    let account = desk.site.account(name).ok_or_else(|| {
        CliError::failed(format!("there is no account {name}: describe it in the site file and apply that"))
    })?;
    let secret = match account.credential {
        Credential::Password => password(args)?,
        Credential::Key => key(args)?,
        Credential::Certificate | Credential::None => {
            return Err(CliError::failed(format!(
                "{name} has credential {} and needs no secret",
                account.credential.as_str()
            )));
        }
    };
    let sealed = desk.context.sealer()?.seal(&account_binding(name), &secret)?;
    let version = desk.store.set_secret(&desk.act(&args.on_behalf)?, name, &sealed).await?;
    Ok(Reply::new(
        format!("the secret of {name} is set, version {version}"),
        json!({"id": name, "version": version}),
    ))
}

fn password(args: &SetSecretArgs) -> Result<SecretBytes, CliError> {
    if args.key_file.is_some() {
        return Err(CliError::failed(format!("{} has credential password: give a password", args.account)));
    }
    let text = if let Some(path) = &args.password_file {
        let text = keyfile::load(path)?.to_text().map_err(|_| not_text(path))?;
        Zeroizing::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())
    } else if args.password_stdin {
        StandardInput::new().secret("password")?
    } else {
        Terminal.secret(&format!("password of {}", args.account))?
    };
    if text.is_empty() {
        return Err(CliError::failed("the password is empty: give one"));
    }
    Ok(SecretBytes::new(text.as_bytes().to_vec()))
}

fn key(args: &SetSecretArgs) -> Result<SecretBytes, CliError> {
    let path = args.key_file.as_ref().ok_or_else(|| {
        CliError::failed(format!("{} has credential key: give its private key with --key-file", args.account))
    })?;
    let secret = keyfile::load(path)?;
    let text = secret.to_text().map_err(|_| not_text(path))?;
    let shown = path.display();
    let key = PrivateKey::from_openssh(text.expose()).map_err(|_| {
        CliError::failed(format!("{shown} holds no OpenSSH private key: convert it with ssh-keygen -p"))
    })?;
    if key.is_encrypted() {
        return Err(CliError::failed(format!(
            "{shown} has a passphrase: remove it with ssh-keygen -p, the vault seals it"
        )));
    }
    Ok(secret)
}

fn not_text(path: &Path) -> CliError {
    CliError::failed(format!("{} is not text: name the right file", path.display()))
}
