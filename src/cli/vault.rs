//! What the vault holds, never the values.

use clap::Subcommand;
use cofferdam_access::site::{AccountRef, Credential};
use russh::keys::HashAlg;
use serde_json::json;

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, joined},
};

/// `cofferdam vault …`
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// The vault's public keys, and which secrets it holds or misses
    Status,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: &VaultCommand) -> Result<Reply, CliError> {
    let VaultCommand::Status = command;
    let recipient = desk.context.sealer()?.recipient();
    let ca = desk.context.ssh_ca()?;
    let line = |key: &russh::keys::PublicKey| {
        let text = key
            .to_openssh()
            .map_err(|e| CliError::failed(format!("the authority's key cannot be written: {e}")))?;
        Ok::<_, CliError>((text.trim().to_owned(), key.fingerprint(HashAlg::Sha256).to_string()))
    };
    let (user, user_print) = line(ca.user_public_key())?;
    let (host, host_print) = line(ca.host_public_key())?;
    let kept = desk.store.secrets().await?;
    let missing: Vec<String> = desk
        .site
        .accounts
        .iter()
        .filter(|a| a.needs_secret())
        .map(|a| AccountRef { asset: a.asset.clone(), login: a.login.clone() })
        .filter(|a| !kept.iter().any(|(k, _, _)| k == a))
        .map(|a| a.to_string())
        .collect();
    let orphaned: Vec<String> = kept
        .iter()
        .filter(|(a, _, _)| desk.site.account(a).is_none())
        .map(|(a, _, _)| a.to_string())
        .collect();
    let certificates = desk.site.accounts.iter().filter(|a| a.credential == Credential::Certificate).count();
    let text = format!(
        "sealed for       {recipient}\nsecrets          {}\nmissing          {}\nwithout account  {}\n\
         certificates     {certificates} accounts\nuser authority   {user_print}\n  for TrustedUserCAKeys on targets: {user}\n\
         host authority   {host_print}\n  for known_hosts of people: @cert-authority * {host}",
        kept.len(),
        joined(&missing),
        joined(&orphaned),
    );
    let json = json!({
        "id": "vault", "recipient": recipient, "secrets": kept.len(), "missing": missing, "without_account": orphaned,
        "certificate_accounts": certificates, "ssh_user_ca": user, "ssh_host_ca": host,
    });
    Ok(Reply::new(text, json))
}
