//! Break-glass envelopes: made for the recipients that the configuration names, and opened loudly.

use std::{
    fs::OpenOptions,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::EnvelopeId,
    local_time::parse_duration,
    people::Duty,
    site::AccountRef,
    store::EnvelopeLabel,
};
use cofferdam_vault::{
    MAX_VIEW_SECONDS, Root, SecretBytes,
    envelope::{Envelope, EnvelopeError, Label},
    keyfile,
};
use serde_json::json;

use super::{
    account::reference,
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, clean, shown, utc_or_null},
    prompt::Prompt,
    proof::Proof,
    vault_checkout::Screen,
};
use crate::context::account_binding;

/// Longest file that is read as an envelope.
const LONGEST: u64 = 1 << 20;

/// `cofferdam vault envelope …`
#[derive(Debug, Subcommand)]
pub(crate) enum EnvelopeCommand {
    /// Seal an account's secret for the day on which nothing of this runs (password and code of an administrator)
    Make(MakeArgs),
    /// Open one: everybody is told at once, and the secret is changed afterwards
    Open(OpenArgs),
    /// Say that one was opened elsewhere, as from paper with `age -d`: the secret is changed
    Opened(OpenedArgs),
    /// Envelopes that exist, and which of them open nothing any more
    List,
}

/// Making.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// The account, LOGIN@ASSET
    #[arg(value_parser = reference)]
    account: AccountRef,
    /// Only for this recipient among vault.break_glass_recipients; several may be given [default: all of them]
    #[arg(long = "recipient", value_name = "age1…")]
    recipients: Vec<String>,
    /// A new file for the envelope [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    proof: Proof,
}

/// Opening.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The envelope
    file: PathBuf,
    /// The identity of one of its recipients, as `age-keygen` writes it; only its owner may read it
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// When the secret is changed, from now; at most 8h
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    duration: String,
    /// Write the secret to standard output although that is no terminal
    #[arg(long)]
    to_pipe: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Opened elsewhere.
#[derive(Debug, Args)]
pub(crate) struct OpenedArgs {
    /// The account, LOGIN@ASSET
    #[arg(value_parser = reference)]
    account: AccountRef,
    /// When the secret is changed, from now; at most 8h [default: now]
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(super) async fn run(desk: &Desk, command: &EnvelopeCommand) -> Result<Reply, CliError> {
    match command {
        EnvelopeCommand::Make(args) => make(desk, args, args.proof.prompt().as_mut()).await,
        EnvelopeCommand::Open(args) => {
            let mut out = std::io::stdout().lock();
            let terminal = out.is_terminal();
            open(desk, args, &mut Screen::new(&mut out, terminal)).await
        }
        EnvelopeCommand::Opened(args) => opened(desk, args).await,
        EnvelopeCommand::List => list(desk).await,
    }
}

fn failed(e: EnvelopeError) -> CliError {
    CliError::failed(e.to_string())
}

/// Makes one.
pub(crate) async fn make(desk: &Desk, args: &MakeArgs, prompt: &mut dyn Prompt) -> Result<Reply, CliError> {
    let recipients = recipients(desk, &args.recipients)?;
    if let Some(out) = args.out.as_deref().filter(|out| out.exists()) {
        return Err(CliError::failed(format!("{} exists already: name a new file", out.display())));
    }
    // Asked before a code is spent; the store asks again.
    let person = desk.person(&args.proof.person)?;
    if !person.duties.contains(&Duty::Administrator) {
        return Err(CliError::failed(format!("{} may not make envelopes: administrators can", person.name)));
    }
    let account = &args.account;
    let kept = desk.store.secret(account).await?.ok_or_else(|| {
        CliError::failed(format!(
            "{account} has no secret in the vault: `cofferdam vault status` says who has"
        ))
    })?;
    let act = args.proof.demand(desk, "vault envelope make", prompt).await?;
    let label = EnvelopeLabel {
        id: EnvelopeId::new(act.at, &mut rand::rng()),
        account: account.clone(),
        version: kept.version,
        made_at: act.at,
        recipients,
    };
    let text = if desk.context.config.vault.unseal().needs_a_person() {
        sealed_by_the_running_vault(desk, &label, &kept.sealed)?
    } else {
        seal(&label, &desk.context.sealer()?.open(&account_binding(account), &kept.sealed)?)?
    };
    // Written down before anybody has it.
    desk.store.make_envelope(&act, &label).await?;
    let id = label.id;
    let json = json!({
        "id": id.to_string(), "account": account, "version": label.version, "recipients": label.recipients, "text": text,
    });
    let Some(out) = &args.out else { return Ok(Reply::new(text.trim_end(), json)) };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(CliError::io(out.display().to_string()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(CliError::io("the envelope"))?;
    Ok(Reply::new(
        format!("envelope {id} of {account} is in {}: keep it where its recipients find it", out.display()),
        json,
    ))
}

/// The vault process knows the recipients itself, and makes an envelope for all of them.
fn sealed_by_the_running_vault(
    desk: &Desk,
    label: &EnvelopeLabel,
    sealed: &[u8],
) -> Result<String, CliError> {
    if label.recipients != desk.context.config.vault.break_glass_recipients {
        return Err(CliError::failed(
            "the running vault makes envelopes for all of vault.break_glass_recipients: name none of them",
        ));
    }
    let client = desk.context.running_vault()?;
    client
        .envelope(&label.id.to_string(), &label.account.to_string(), label.version, sealed)
        .map_err(|e| CliError::failed(e.to_string()))
}

fn seal(label: &EnvelopeLabel, secret: &SecretBytes) -> Result<String, CliError> {
    let outside = Label {
        id: label.id.to_string(),
        account: label.account.to_string(),
        made_at: label.made_at.micros(),
        version: label.version,
        recipients: label.recipients.clone(),
    };
    Envelope::seal(outside, secret).and_then(|e| e.to_text()).map_err(failed)
}

/// Those of the configuration that were named, or all.
fn recipients(desk: &Desk, named: &[String]) -> Result<Vec<String>, CliError> {
    let known = &desk.context.config.vault.break_glass_recipients;
    if known.is_empty() {
        return Err(CliError::failed(
            "nobody could open an envelope: name recipients in vault.break_glass_recipients of the configuration",
        ));
    }
    if let Some(other) = named.iter().find(|r| !known.contains(r)) {
        return Err(CliError::failed(format!(
            "{other} is none of vault.break_glass_recipients: add it there, or name one of them"
        )));
    }
    Ok(if named.is_empty() { known.clone() } else { named.to_vec() })
}

/// Opens one. Everybody is told before anybody is shown anything.
pub(crate) async fn open(desk: &Desk, args: &OpenArgs, screen: &mut Screen<'_>) -> Result<Reply, CliError> {
    screen.admits(args.to_pipe)?;
    let change_at = change_at(desk, Some(&args.duration))?;
    let envelope = Envelope::parse(&read(&args.file)?).map_err(failed)?;
    let label = label_of(envelope.label())?;
    let identity = Root::from_content(&keyfile::load(&args.identity)?).map_err(|_| {
        CliError::failed(format!("{} holds no age identity: name the right file", args.identity.display()))
    })?;
    let act = desk.act(&args.on_behalf)?;
    let secret = match envelope.open(&identity) {
        // What follows is asked for by the store, in the transaction that says that it was opened.
        Ok((secret, _due)) => secret,
        Err(e) => return Err(not_opened(desk, &act, &label, e).await),
    };
    desk.store.open_envelope(&act, &label, change_at).await?;
    eprintln!(
        "cofferdam: envelope {} of {}, version {}; everybody is told, and the secret is changed at {}",
        label.id,
        label.account,
        label.version,
        shown(&desk.zone, Some(change_at)),
    );
    screen.show(&secret)?;
    Ok(Reply::nothing())
}

/// An envelope that does not open stands in the audit log, too.
async fn not_opened(desk: &Desk, act: &Act, label: &EnvelopeLabel, error: EnvelopeError) -> CliError {
    let event = AuditEvent::new(AuditKind::EnvelopeRefused, label.id)
        .with("account", label.account.to_string())
        .with("reason", error.to_string());
    match desk.store.record(act, event).await {
        Ok(_) => failed(error),
        Err(e) => e.into(),
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    let what = || path.display().to_string();
    let size = std::fs::metadata(path).map_err(CliError::io(what()))?.len();
    if size > LONGEST {
        return Err(CliError::failed(format!("{} is no envelope: it is too long", what())));
    }
    std::fs::read_to_string(path).map_err(CliError::io(what()))
}

/// What stands outside, in this program's own types.
fn label_of(label: &Label) -> Result<EnvelopeLabel, CliError> {
    let foreign =
        || CliError::failed("the envelope is not of this vault: its label names no account of ours");
    Ok(EnvelopeLabel {
        id: label.id.parse().map_err(|_| foreign())?,
        account: reference(&label.account).map_err(|_| foreign())?,
        version: label.version,
        made_at: Timestamp(label.made_at),
        recipients: label.recipients.clone(),
    })
}

/// The moment so far from now.
fn change_at(desk: &Desk, duration: Option<&str>) -> Result<Timestamp, CliError> {
    let seconds = duration.map_or(Ok(0), parse_duration)?;
    if seconds > MAX_VIEW_SECONDS {
        return Err(CliError::failed("the secret is changed within 8h: give at most that"));
    }
    Ok(desk.now().plus_seconds(seconds))
}

async fn opened(desk: &Desk, args: &OpenedArgs) -> Result<Reply, CliError> {
    let at = change_at(desk, args.duration.as_deref())?;
    let act = desk.act(&args.on_behalf)?;
    let count = desk.store.envelope_was_opened(&act, &args.account, at).await?;
    let account = &args.account;
    let text = format!(
        "{count} envelopes of {account} count as opened; everybody is told, and the secret is asked to be changed at {}",
        shown(&desk.zone, Some(at))
    );
    Ok(Reply::new(text, json!({"id": account, "envelopes": count, "change_at": utc_or_null(Some(at))})))
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let mut table = Table::new(&["id", "account", "version", "made", "by", "opened", "opens the target"]);
    let mut rows = Vec::new();
    for one in desk.store.envelopes().await? {
        table.row([
            one.id.to_string(),
            one.account.to_string(),
            one.version.to_string(),
            shown(&desk.zone, Some(one.made_at)),
            one.made_by.clone(),
            shown(&desk.zone, one.opened_at),
            if one.outdated { "no: outdated" } else { "yes" }.to_owned(),
        ]);
        rows.push(json!({
            "id": one.id.to_string(), "account": one.account, "version": one.version, "made_at": utc_or_null(Some(one.made_at)),
            "made_by": clean(&one.made_by), "recipients": one.recipients, "opened_at": utc_or_null(one.opened_at),
            "opened_by": one.opened_by, "change_at": utc_or_null(one.change_at), "outdated": one.outdated,
        }));
    }
    Ok(Reply::list(&table, rows))
}
