//! The SSH authorities: replacing one without locking anybody out, and saying what counts no more.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use cofferdam_access::{
    authority::{Authority, Stage, Which},
    ids::SessionId,
    local_time::parse_duration,
    store::NewAuthority,
};
use cofferdam_vault::{AuthorityKey, Purpose, authority_id};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, shown, utc, utc_or_null},
};
use crate::authorities::{authority_binding, know};

/// `cofferdam vault ca …`
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// The authorities, where each stands, and what of them is revoked
    Status,
    /// Publish a new authority beside the present one, which goes on signing
    Rotate(RotateArgs),
    /// Say that everything trusts the new authority: from then on it signs
    Switch(SwitchArgs),
    /// End the trust in the old authority now, and put it on the revocation list
    Finish(FinishArgs),
    /// Put a certificate, or an authority that does not sign, on the revocation list
    Revoke(RevokeArgs),
    /// Write the revocation list for sshd's RevokedKeys and ssh's RevokedHostKeys; replaces the file
    Krl {
        /// The file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Which authority, and how it goes over.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// user (trusted by targets) or host (trusted by people's clients)
    purpose: Purpose,
    /// How long both are trusted
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    overlap: i64,
    /// When the new one begins to sign by itself; without it `switch` says so
    #[arg(long, value_name = "TIME")]
    switch_at: Option<String>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// When the new authority begins to sign.
#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    /// user or host
    purpose: Purpose,
    /// From when on
    #[arg(long, value_name = "TIME", default_value = "now")]
    at: String,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Whose predecessor ends.
#[derive(Debug, Args)]
pub(crate) struct FinishArgs {
    /// user or host
    purpose: Purpose,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// What counts no more.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// user or host
    purpose: Purpose,
    /// The certificate with that serial number
    #[arg(long, value_name = "N", group = "which", required = true)]
    serial: Option<u64>,
    /// The certificates with that key id, as sshd logs it
    #[arg(long, value_name = "ID", group = "which")]
    key_id: Option<String>,
    /// The certificate that was made for that session
    #[arg(long, value_name = "ID", group = "which")]
    session: Option<SessionId>,
    /// All that the authority with that fingerprint ever signed
    #[arg(long, value_name = "SHA256:…", group = "which")]
    authority: Option<String>,
    /// Why, for the audit log
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

/// Does what `command` says.
pub(super) async fn run(desk: &Desk, command: &CaCommand) -> Result<Reply, CliError> {
    match command {
        CaCommand::Status => status(desk).await,
        CaCommand::Rotate(args) => rotate(desk, args).await,
        CaCommand::Switch(args) => switch(desk, args).await,
        CaCommand::Finish(args) => finish(desk, args).await,
        CaCommand::Revoke(args) => revoke(desk, args).await,
        CaCommand::Krl { out } => krl(desk, out).await,
    }
}

/// What to do with a public key, as it is done.
pub(super) fn trusted_as(one: &Authority) -> String {
    match one.purpose {
        Purpose::User => one.public_key.clone(),
        Purpose::Host => format!("@cert-authority * {}", one.public_key),
    }
}

/// Those to be trusted now; those in the configured files where the store has heard of none yet.
pub(super) async fn published(desk: &Desk) -> Result<Vec<(Authority, Stage)>, CliError> {
    let (all, now) = (desk.store.authorities().await?, desk.now());
    let known = Purpose::ALL.into_iter().flat_map(|p| all.published(p, now));
    let mut list: Vec<(Authority, Stage)> = known.map(|a| (a.clone(), all.stage(a, now))).collect();
    let ca = desk.context.ssh_ca()?;
    for purpose in Purpose::ALL {
        if list.iter().any(|(a, _)| a.purpose == purpose) {
            continue;
        }
        let key = ca.public_key(purpose);
        let line = key.to_openssh();
        let line =
            line.map_err(|e| CliError::failed(format!("the authority's key cannot be written: {e}")))?;
        let one = Authority {
            id: authority_id(&key),
            purpose,
            public_key: line.trim().to_owned(),
            sealed: None,
            made_at: now,
            made_by: String::new(),
            signs_from: Some(now),
            trusted_until: None,
            finished_at: None,
        };
        list.push((one, Stage::Signing));
    }
    Ok(list)
}

async fn status(desk: &Desk) -> Result<Reply, CliError> {
    let (all, now) = (desk.store.authorities().await?, desk.now());
    let mut list = published(desk).await?;
    list.extend(
        all.0.iter().filter(|a| all.stage(a, now) == Stage::Finished).map(|a| (a.clone(), Stage::Finished)),
    );
    let mut table = Table::new(&["purpose", "authority", "stage", "signs from", "trusted until"]);
    let (mut rows, mut lines) = (Vec::new(), String::new());
    for (one, stage) in &list {
        let since = one.signs_from.filter(|from| from.micros() > 0);
        table.row([
            one.purpose.as_str(),
            &one.id,
            stage.as_str(),
            &shown(&desk.zone, since),
            &shown(&desk.zone, one.finished_at.or(one.trusted_until)),
        ]);
        if *stage != Stage::Finished {
            let place = match one.purpose {
                Purpose::User => "TrustedUserCAKeys on targets",
                Purpose::Host => "known_hosts of people",
            };
            lines.push_str(&format!("\n{place}: {}", trusted_as(one)));
        }
        rows.push(row(one, *stage));
    }
    let mut text = format!("{table}\n{lines}");
    let revoked = desk.store.revoked_certificates(now).await?;
    if !revoked.is_empty() {
        let mut table = Table::new(&["purpose", "revoked", "when", "who", "why"]);
        for one in &revoked {
            let which = match &one.which {
                Which::Serial(serial) => format!("serial {serial}"),
                Which::KeyId(id) => id.clone(),
            };
            table.row([one.purpose.as_str(), &which, &desk.zone.show(one.at), &one.by, &one.reason]);
        }
        text.push_str(&format!("\n\nrevoked certificates, listed while they could live\n{table}"));
    }
    Ok(Reply::new(text, Value::Array(rows)))
}

fn row(one: &Authority, stage: Stage) -> Value {
    json!({
        "id": one.id, "purpose": one.purpose.as_str(), "stage": stage.as_str(), "public_key": one.public_key,
        "line": trusted_as(one), "signs_from": utc_or_null(one.signs_from), "trusted_until": utc_or_null(one.trusted_until),
        "finished_at": utc_or_null(one.finished_at),
    })
}

async fn rotate(desk: &Desk, args: &RotateArgs) -> Result<Reply, CliError> {
    let act = desk.act(&args.on_behalf)?;
    let purpose = args.purpose;
    let signs_from = args.switch_at.as_ref().map(|at| desk.zone.parse(at, act.at)).transpose()?;
    know(&desk.store, &act, &desk.context.ssh_ca()?).await.map_err(CliError::failed)?;
    let failed = |e: cofferdam_vault::CaError| CliError::failed(e.to_string());
    let key = AuthorityKey::generate(desk.context.entropy.as_ref(), purpose).map_err(failed)?;
    let id = authority_id(key.public_key());
    let public_key = key.public_key().to_openssh().map_err(|e| CliError::failed(e.to_string()))?;
    let sealed = desk.context.sealer()?.seal(&authority_binding(&id), &key.to_secret().map_err(failed)?)?;
    let public_key = public_key.trim().to_owned();
    let new = NewAuthority { purpose, id, public_key, sealed, overlap_seconds: args.overlap, signs_from };
    desk.store.rotate_authority(&act, &new).await?;
    let all = desk.store.authorities().await?;
    let made = all.0.iter().find(|a| a.id == new.id);
    let made =
        made.ok_or_else(|| CliError::failed("the new authority is gone again: look at the audit log"))?;
    let then = match (signs_from, purpose) {
        (Some(at), _) => format!("it signs from {} on", desk.zone.show(at)),
        (None, Purpose::User) => {
            "when every target with certificate accounts trusts it: cofferdam vault ca switch user".to_owned()
        }
        (None, Purpose::Host) => {
            "when everybody who uses ssh -J trusts it: cofferdam vault ca switch host".to_owned()
        }
    };
    let text = format!(
        "the new {purpose} authority {} is published and does not sign yet\nadd this line beside the one that is there:\n{}\n\
         {then}",
        made.id,
        trusted_as(made)
    );
    Ok(Reply::new(text, row(made, Stage::Next)))
}

async fn switch(desk: &Desk, args: &SwitchArgs) -> Result<Reply, CliError> {
    let act = desk.act(&args.on_behalf)?;
    let from = desk.zone.parse(&args.at, act.at)?;
    let until = desk.store.switch_authority(&act, args.purpose, from).await?;
    let text = format!(
        "the new {} authority signs from {} on; the old one is trusted until {}",
        args.purpose,
        desk.zone.show(from),
        desk.zone.show(until)
    );
    let json = json!({"id": args.purpose.as_str(), "signs_from": utc(from), "trusted_until": utc(until)});
    Ok(Reply::new(text, json))
}

async fn finish(desk: &Desk, args: &FinishArgs) -> Result<Reply, CliError> {
    let act = desk.act(&args.on_behalf)?;
    let id = desk.store.finish_authority(&act, args.purpose).await?;
    let text = format!(
        "the {} authority {id} counts no more: take its line away where it is trusted, and give out the revocation list \
         (cofferdam vault ca krl)",
        args.purpose
    );
    Ok(Reply::new(text, json!({"id": id, "stage": Stage::Finished.as_str()})))
}

async fn revoke(desk: &Desk, args: &RevokeArgs) -> Result<Reply, CliError> {
    let act = desk.act(&args.on_behalf)?;
    know(&desk.store, &act, &desk.context.ssh_ca()?).await.map_err(CliError::failed)?;
    let what = match (&args.authority, args.serial, &args.key_id, &args.session) {
        (Some(id), ..) => {
            desk.store.revoke_authority(&act, args.purpose, id, &args.reason).await?;
            format!("the authority {id}")
        }
        (_, Some(serial), ..) => certificate(desk, &act, args, Which::Serial(serial)).await?,
        (_, _, Some(id), _) => certificate(desk, &act, args, Which::KeyId(id.clone())).await?,
        (_, _, _, Some(session)) => {
            if args.purpose == Purpose::Host {
                return Err(CliError::failed(
                    "a session has no host certificate of its own: name its key id",
                ));
            }
            let found = desk.store.session(*session).await?;
            let id = format!("cofferdam:{session}:{}", found.person);
            certificate(desk, &act, args, Which::KeyId(id)).await?
        }
        _ => return Err(CliError::failed("say which: --serial, --key-id, --session or --authority")),
    };
    let text = format!(
        "{what} is on the revocation list; give it out: cofferdam vault ca krl --out FILE, or /ca/krl"
    );
    Ok(Reply::new(text, json!({"id": what, "purpose": args.purpose.as_str()})))
}

async fn certificate(
    desk: &Desk,
    act: &cofferdam_access::audit::Act,
    args: &RevokeArgs,
    which: Which,
) -> Result<String, CliError> {
    desk.store.revoke_certificate(act, args.purpose, &which, &args.reason).await?;
    Ok(match which {
        Which::Serial(serial) => format!("the {} certificate with the serial number {serial}", args.purpose),
        Which::KeyId(id) => format!("the {} certificate {id}", args.purpose),
    })
}

async fn krl(desk: &Desk, out: &Path) -> Result<Reply, CliError> {
    let now = desk.now();
    let (all, revoked) = (desk.store.authorities().await?, desk.store.revoked_certificates(now).await?);
    let krl = all.krl(&revoked, now);
    let content = krl.to_bytes().map_err(|e| CliError::failed(e.to_string()))?;
    let shown = out.display().to_string();
    replace(out, &content).map_err(CliError::io(shown.clone()))?;
    let singles = revoked.len();
    let text =
        format!("{shown}: {} authorities and {singles} certificates are revoked", krl.authorities.len());
    let json = json!({
        "id": shown, "generated_at": utc(now), "authorities": krl.authorities.len(), "certificates": singles,
    });
    Ok(Reply::new(text, json))
}

/// Whole or not at all: an sshd that found half a list would let nobody in.
fn replace(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&draft)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&draft, file)
}
