//! What the vault holds, never the values; and changing them.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::Act,
    authority::{Authority, Stage},
    clock::SystemClock,
    policy::DestinationRules,
    site::{Account, AccountRef, Credential},
};
use cofferdam_vault::{
    Purpose,
    rotation::{Outcome, Reason},
};
use serde_json::json;

use super::{
    account::reference,
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, joined, shown, utc_or_null},
    vault_ca, vault_checkout, vault_discover, vault_envelope, vault_import, vault_keys,
};
use crate::rotation::{Means, Rotations, is_rotated};

/// How long a rotation that another process does is waited for.
const ROTATION_LOOK: Duration = Duration::from_millis(300);
const ROTATION_LOOKS: usize = 200;

/// `cofferdam vault …`
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// The vault's public keys, which secrets it holds or misses, and where rotations stand
    Status,
    /// Change an account's secret on its target now, and prove the new one
    Rotate(Which),
    /// Ask targets whether they still take the vault's secrets
    Verify(Several),
    /// Look for privileged accounts on machines that the site does not describe
    Discover(vault_discover::DiscoverArgs),
    /// Take secrets over from a CSV file, a KeePass database or HashiCorp Vault
    Import(vault_import::ImportArgs),
    /// Unseal the running vault, with whatever the configuration says opens it
    Unseal(vault_keys::Asked),
    /// Seal the running vault: nothing that needs its keys starts until it is unsealed
    Seal,
    /// Seal with a new key from now on, and wrap everything anew for it
    Rekey,
    /// Wrap anew what an earlier `rekey` had to leave
    Rewrap,
    /// Take an old key out of use, once nothing is sealed under it
    Retire {
        /// Its number, as `vault status` shows it
        generation: u32,
    },
    /// Exchange what opens the vault: a file, a passphrase, a token, or shares of several people
    Root {
        #[command(subcommand)]
        wanted: vault_keys::NewRoot,
        #[command(flatten)]
        asked: vault_keys::Asked,
    },
    /// The SSH authorities: their rotation and the revocation list
    #[command(subcommand)]
    Ca(vault_ca::CaCommand),
    /// See an account's secret for a while, where policy lets the person (their password and code)
    Checkout(vault_checkout::CheckoutArgs),
    /// Return a secret that was seen; the vault changes it, or says that people have to
    Checkin(vault_checkout::CheckinArgs),
    /// Who asked to see which secret, and who has one
    Checkouts(vault_checkout::CheckoutsArgs),
    /// Agree that somebody else sees a secret (password and code of whoever agrees)
    Agree(vault_checkout::AgreeArgs),
    /// Refuse a request to see a secret, or take one's own back
    Refuse(vault_checkout::RefuseArgs),
    /// Secrets sealed for the day on which nothing of this runs
    #[command(subcommand)]
    Envelope(vault_envelope::EnvelopeCommand),
    /// Who changed an account's secret, and when; never the value
    History {
        /// The account, LOGIN@ASSET
        #[arg(value_parser = reference)]
        account: AccountRef,
    },
}

/// One account.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The account, LOGIN@ASSET
    #[arg(value_parser = reference)]
    account: AccountRef,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// One account or all.
#[derive(Debug, Args)]
pub(crate) struct Several {
    /// The account, LOGIN@ASSET; without it all that the site wants rotated
    #[arg(value_parser = reference)]
    account: Option<AccountRef>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: &VaultCommand) -> Result<Reply, CliError> {
    match command {
        VaultCommand::Status => status(desk).await,
        VaultCommand::Rotate(which) => rotate(desk, which).await,
        VaultCommand::Discover(args) => vault_discover::run(desk, args).await,
        VaultCommand::Import(args) => vault_import::run(desk, args).await,
        VaultCommand::Ca(command) => vault_ca::run(desk, command).await,
        VaultCommand::Verify(several) => verify(desk, several).await,
        VaultCommand::Unseal(asked) => vault_keys::unseal(desk, asked),
        VaultCommand::Seal => vault_keys::seal(desk),
        VaultCommand::Rekey => vault_keys::rekey(desk).await,
        VaultCommand::Rewrap => vault_keys::rewrap_rest(desk).await,
        VaultCommand::Retire { generation } => vault_keys::retire(desk, *generation).await,
        VaultCommand::Root { wanted, asked } => vault_keys::reroot(desk, wanted, asked).await,
        VaultCommand::Checkout(args) => vault_checkout::checkout(desk, args).await,
        VaultCommand::Checkin(args) => vault_checkout::checkin(desk, args).await,
        VaultCommand::Checkouts(args) => vault_checkout::list(desk, args).await,
        VaultCommand::Agree(args) => vault_checkout::agree(desk, args).await,
        VaultCommand::Refuse(args) => vault_checkout::refuse(desk, args).await,
        VaultCommand::Envelope(command) => vault_envelope::run(desk, command).await,
        VaultCommand::History { account } => history(desk, account).await,
    }
}

pub(super) fn rotations(desk: &Desk) -> Result<Rotations, CliError> {
    let site = Arc::new(desk.site.clone());
    let config = &desk.context.config;
    Rotations::new(Means {
        node: format!("{} (command line)", config.site.node),
        store: desk.store.clone(),
        sealer: desk.context.sealer()?,
        clock: Arc::new(SystemClock),
        destinations: DestinationRules {
            own: std::iter::once(config.ssh.listen)
                .chain(config.web.as_ref().map(|web| web.listen))
                .collect(),
            allow_loopback: config.dangerous.allow_loopback_targets,
        },
        site: Arc::new(move || site.clone()),
        plugins: config.vault.plugins_dir.clone(),
    })
    .map_err(|e| CliError::failed(e.to_string()))
}

/// Has the running vault's rotation process do it, where no command may open the vault for itself.
async fn have_rotated(desk: &Desk, act: &Act, account: &AccountRef) -> Result<Reply, CliError> {
    desk.context.running_vault()?;
    desk.store.want_rotation(act, account, Reason::Demand).await?;
    let mut last = String::new();
    for _ in 0..ROTATION_LOOKS {
        tokio::time::sleep(ROTATION_LOOK).await;
        let Some(standing) = desk.store.rotation(account).await? else { break };
        if standing.reason.is_none() && standing.rotated_at.is_some_and(|at| at >= act.at) {
            let text = format!("the secret of {account} is changed, and its target takes the new one");
            return Ok(Reply::new(text, json!({"id": account, "rotated": true, "state": standing.state})));
        }
        last = standing.trouble.unwrap_or_else(|| format!("it stands at: {}", standing.state));
    }
    let text =
        format!("the secret of {account} is not changed yet: {last}; `vault status` says how it goes on");
    Ok(Reply::new(text, json!({"id": account, "rotated": false, "trouble": last})).judged(false))
}

async fn rotate(desk: &Desk, which: &Which) -> Result<Reply, CliError> {
    let act = desk.act(&which.on_behalf)?;
    if desk.context.config.vault.unseal().needs_a_person() {
        return have_rotated(desk, &act, &which.account).await;
    }
    let outcome =
        rotations(desk)?.rotate(&act, &which.account).await.map_err(|e| CliError::failed(e.to_string()))?;
    let account = &which.account;
    let text = match (&outcome.rotated, &outcome.trouble) {
        (Some(_), None) => format!("the secret of {account} is changed, and its target takes the new one"),
        (Some(_), Some(trouble)) => format!("the secret of {account} is changed, but {trouble}"),
        (None, Some(trouble)) => format!(
            "the secret of {account} is not changed: {trouble}; every secret that may be valid is kept ({})",
            outcome.state
        ),
        (None, None) => format!("the secret of {account} is not changed yet: {}", outcome.state),
    };
    let ok = outcome.rotated.is_some() && outcome.trouble.is_none();
    Ok(Reply::new(text, result(account, &outcome)).judged(ok))
}

async fn verify(desk: &Desk, several: &Several) -> Result<Reply, CliError> {
    let act = desk.act(&several.on_behalf)?;
    let rotations = rotations(desk)?;
    let all = desk.site.accounts.iter().filter(|a| is_rotated(&desk.site, a));
    let all = all.map(Account::reference);
    let accounts: Vec<AccountRef> = match &several.account {
        Some(one) => vec![one.clone()],
        None => all.collect(),
    };
    let mut table = Table::new(&["account", "taken", "state", "trouble"]);
    let (mut rows, mut ok) = (Vec::new(), true);
    for account in accounts {
        let (taken, state, trouble, row) = match rotations.verify(&act, &account).await {
            Ok(outcome) => (
                outcome.verified,
                outcome.state.to_string(),
                outcome.trouble.clone().unwrap_or_default(),
                result(&account, &outcome),
            ),
            Err(e) => {
                let row = json!({"id": account, "verified": false, "trouble": e.to_string()});
                (false, "-".to_owned(), e.to_string(), row)
            }
        };
        ok &= taken;
        let name = account.to_string();
        table.row([name.as_str(), if taken { "yes" } else { "NO" }, &state, &trouble]);
        rows.push(row);
    }
    Ok(Reply::list(&table, rows).judged(ok))
}

fn result(account: &AccountRef, outcome: &Outcome) -> serde_json::Value {
    let findings: Vec<_> = outcome.findings.iter().map(|f| f.sentence.as_str()).collect();
    json!({
        "id": account,
        "rotated": outcome.rotated.is_some(),
        "verified": outcome.verified,
        "state": outcome.state,
        "trouble": outcome.trouble,
        "findings": findings,
    })
}

async fn history(desk: &Desk, account: &AccountRef) -> Result<Reply, CliError> {
    let mut table = Table::new(&["version", "when", "who", "what"]);
    let mut rows = Vec::new();
    for one in desk.store.secret_history(account).await? {
        let version = one.version.to_string();
        table.row([version.as_str(), &shown(&desk.zone, Some(one.at)), &one.by, &one.action]);
        rows.push(json!({
            "id": version, "account": account, "version": one.version, "at": utc_or_null(Some(one.at)), "by": one.by,
            "action": one.action,
        }));
    }
    Ok(Reply::list(&table, rows))
}

async fn status(desk: &Desk) -> Result<Reply, CliError> {
    let running = vault_keys::running(desk);
    let recipient = desk.context.sealer().map(|s| s.recipient()).unwrap_or_default();
    let authorities = vault_ca::published(desk).await?;
    let lines = |purpose: Purpose| {
        authorities.iter().filter(move |(a, _)| a.purpose == purpose).fold(
            String::new(),
            |text, (a, stage)| {
                format!(
                    "{text}{:<16} {} ({})\n  {}\n",
                    format!("{purpose} authority"),
                    a.id,
                    stage.as_str(),
                    vault_ca::trusted_as(a)
                )
            },
        )
    };
    let keys = |purpose: Purpose| {
        let keys =
            authorities.iter().filter(|(a, _)| a.purpose == purpose).map(|(a, _)| a.public_key.clone());
        keys.collect::<Vec<_>>()
    };
    let signing = |purpose: Purpose| {
        let signs = |(a, stage): &&(Authority, Stage)| a.purpose == purpose && *stage == Stage::Signing;
        authorities.iter().find(signs).map(|(a, _)| a.public_key.clone())
    };
    let kept = desk.store.secrets().await?;
    let missing: Vec<String> = desk
        .site
        .accounts
        .iter()
        .filter(|a| a.needs_secret())
        .map(Account::reference)
        .filter(|a| !kept.iter().any(|(k, _, _)| k == a))
        .map(|a| a.to_string())
        .collect();
    let orphaned: Vec<String> = kept
        .iter()
        .filter(|(a, _, _)| desk.site.account(a).is_none())
        .map(|(a, _, _)| a.to_string())
        .collect();
    let certificates = desk.site.accounts.iter().filter(|a| a.credential == Credential::Certificate).count();
    let standings = desk.store.rotations().await?;
    let mut rotating = Table::new(&["account", "state", "changed", "taken", "next", "trouble"]);
    for one in &standings {
        rotating.row([
            one.account.to_string().as_str(),
            &if one.on { one.state.to_string() } else { format!("{}, turned off", one.state) },
            &shown(&desk.zone, one.rotated_at),
            &shown(&desk.zone, one.verified_at),
            &shown(&desk.zone, one.next_at),
            one.trouble.as_deref().unwrap_or_default(),
        ]);
    }
    let rotated: Vec<_> = standings
        .iter()
        .map(|one| {
            json!({
                "id": one.account, "on": one.on, "state": one.state, "reason": one.reason, "rotated_at": utc_or_null(one.rotated_at),
                "verified_at": utc_or_null(one.verified_at), "failing_since": utc_or_null(one.failing_since),
                "trouble": one.trouble, "next_at": utc_or_null(one.next_at), "not_told": one.stale,
            })
        })
        .collect();
    let text = format!(
        "{}sealed for       {recipient}\nsecrets          {}\nmissing          {}\nwithout account  {}\n\
         certificates     {certificates} accounts\n{}{}\nfor TrustedUserCAKeys on targets, and known_hosts of people; more: \
         cofferdam vault ca status\n\nrotated by the vault\n{rotating}",
        running.text,
        kept.len(),
        joined(&missing),
        joined(&orphaned),
        lines(Purpose::User),
        lines(Purpose::Host),
    );
    let json = json!({
        "id": "vault", "running": running.json, "recipient": recipient, "secrets": kept.len(), "missing": missing,
        "without_account": orphaned, "certificate_accounts": certificates, "ssh_user_ca": signing(Purpose::User),
        "ssh_host_ca": signing(Purpose::Host), "ssh_user_cas": keys(Purpose::User), "ssh_host_cas": keys(Purpose::Host),
        "rotations": rotated,
    });
    Ok(Reply::new(text, json))
}
