//! Machines, and whom we take them for: `asset trust` pins a host key after its fingerprint was compared.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::{AuditEvent, AuditKind},
    ids::Name,
    site::{Asset, Endpoint, Protocol},
};
use russh::{
    client,
    keys::{HashAlg, PublicKey, PublicKeyOrCertificate},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, clean, joined},
    prompt::{Prompt, Terminal},
};
use crate::ssh::algorithms::toward_target;

/// How long a machine may take to show its key.
const PATIENCE: Duration = Duration::from_secs(20);

/// `cofferdam asset …`
#[derive(Debug, Subcommand)]
pub(crate) enum AssetCommand {
    /// All machines
    List,
    /// One machine
    Show {
        /// Its name
        name: Name,
    },
    /// Pin the host key, or the key of the desktop, that a machine shows now, after its fingerprint was compared
    Trust(TrustArgs),
}

/// Which machine, and which key.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Its name
    name: Name,
    /// The fingerprint that the key must have (`SHA256:…`, for a desktop `sha256:…`), read on the machine itself; without
    /// it, you are asked
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Option<String>,
    /// Keep the keys that are pinned already [default: the new key takes their place]
    #[arg(long)]
    keep: bool,
    /// The public key of its desktop, not the SSH host key
    #[arg(long)]
    rdp: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: AssetCommand) -> Result<Reply, CliError> {
    match command {
        AssetCommand::List => Ok(list(desk)),
        AssetCommand::Show { name } => {
            let asset = find(desk, &name)?;
            Ok(Reply::new(page(asset), row(asset)))
        }
        AssetCommand::Trust(args) => {
            let asset = find(desk, &args.name)?;
            let shown = if args.rdp {
                desktop_key_of(asset).await?
            } else {
                Shown::host(&key_shown_by(asset).await?)?
            };
            trust(desk, &args, shown, &mut Terminal).await
        }
    }
}

fn find<'d>(desk: &'d Desk, name: &Name) -> Result<&'d Asset, CliError> {
    desk.site.asset(name).ok_or_else(|| {
        CliError::failed(format!("there is no asset {:?}: `cofferdam asset list` names them", name.as_str()))
    })
}

fn endpoint(e: &Endpoint) -> String {
    format!("{}:{}", e.protocol.as_str(), e.port)
}

fn list(desk: &Desk) -> Reply {
    let mut table =
        Table::new(&["name", "zone", "address", "endpoints", "criticality", "host keys", "flags"]);
    let mut rows = Vec::new();
    for asset in &desk.site.assets {
        let mut flags = Vec::new();
        for (is, flag) in [
            (asset.crown_jewel, "crown jewel"),
            (asset.supervised, "supervised"),
            (asset.disabled, "disabled"),
        ] {
            flags.extend(is.then(|| flag.to_owned()));
        }
        if !asset.dangers().is_empty() {
            flags.push(format!("DANGEROUS: {}", joined(asset.dangers())));
        }
        let ssh = asset.endpoints.iter().any(|e| e.protocol == Protocol::Ssh);
        let keys = match (ssh, asset.host_keys.len()) {
            (false, _) => "-".to_owned(),
            (true, 0) => "none pinned".to_owned(),
            (true, n) => n.to_string(),
        };
        table.row([
            asset.name.as_str(),
            asset.zone.as_str(),
            &asset.address,
            &joined(asset.endpoints.iter().map(endpoint)),
            asset.criticality.as_str(),
            &keys,
            &flags.join(", "),
        ]);
        rows.push(row(asset));
    }
    Reply::list(&table, rows)
}

fn page(asset: &Asset) -> String {
    let or_none = |s: String| if s.is_empty() { "none".to_owned() } else { s };
    clean(&format!(
        "name         {}\ntitle        {}\nzone         {}\naddress      {}\nendpoints    {}\ncriticality  {}\ncrown jewel  {}\n\
         supervised   {}\ndisabled     {}\nhost keys    {}\ndesktop keys {}\ndangerous    {}",
        asset.name,
        asset.title,
        asset.zone,
        asset.address,
        joined(asset.endpoints.iter().map(endpoint)),
        asset.criticality.as_str(),
        asset.crown_jewel,
        asset.supervised,
        asset.disabled,
        or_none(asset.host_key_fingerprints().join("\n             ")),
        or_none(asset.desktop_keys().join("\n             ")),
        or_none(asset.dangers().join(", ")),
    ))
}

fn row(asset: &Asset) -> Value {
    json!({
        "id": asset.name,
        "name": asset.name,
        "title": asset.title,
        "zone": asset.zone,
        "address": asset.address,
        "endpoints": asset.endpoints,
        "criticality": asset.criticality.as_str(),
        "crown_jewel": asset.crown_jewel,
        "supervised": asset.supervised,
        "disabled": asset.disabled,
        "host_keys": asset.host_keys,
        "host_key_fingerprints": asset.host_key_fingerprints(),
        "rdp": asset.rdp,
        "dangerous_ssh_algorithms": asset.dangerous_ssh_algorithms,
        "dangerous_own_loopback": asset.dangerous_own_loopback,
    })
}

/// A key that a machine showed.
struct Shown {
    /// What it is, for the person.
    kind: String,
    /// `SHA256:…`
    print: String,
    /// What the site file keeps.
    line: String,
    desktop: bool,
}

impl Shown {
    fn host(key: &PublicKey) -> Result<Self, CliError> {
        let mut pinned = PublicKey::from(key.key_data().clone());
        pinned.set_comment("");
        let line =
            pinned.to_openssh().map_err(|e| CliError::failed(format!("the key cannot be written: {e}")))?;
        Ok(Self {
            kind: key.algorithm().to_string(),
            print: key.fingerprint(HashAlg::Sha256).to_string(),
            line: line.trim().to_owned(),
            desktop: false,
        })
    }

    fn desktop(print: String) -> Self {
        Self { kind: "the public key of its desktop".to_owned(), line: print.clone(), print, desktop: true }
    }

    /// Where the site file keeps such keys.
    fn pinned<'a>(&self, asset: &'a mut Asset) -> &'a mut Vec<String> {
        if self.desktop { &mut asset.rdp.get_or_insert_default().public_keys } else { &mut asset.host_keys }
    }
}

/// Pins what was shown if the fingerprint is the expected one or somebody agrees to it.
async fn trust(
    desk: &Desk,
    args: &TrustArgs,
    shown: Shown,
    prompt: &mut dyn Prompt,
) -> Result<Reply, CliError> {
    let asset = find(desk, &args.name)?;
    let print = &shown.print;
    match &args.fingerprint {
        Some(expected) if expected.trim_end_matches('=') == *print => {}
        Some(_) => {
            return Err(CliError::failed(format!(
                "{} shows another key, {print}: nothing was pinned; find out why before you trust it",
                asset.name
            )));
        }
        None => {
            let before = if shown.desktop {
                asset.desktop_keys().join(" ")
            } else {
                asset.host_key_fingerprints().join(" ")
            };
            let before = if before.is_empty() { "nothing".to_owned() } else { before };
            eprintln!("{} shows {} {print}\npinned so far: {before}", asset.name, shown.kind);
            if !prompt
                .agreed("does the machine's own console show this fingerprint, and is it to be pinned?")?
            {
                return Err(CliError::failed("nothing was pinned"));
            }
        }
    }
    let line = &shown.line;
    let mut site = desk.site.clone();
    for asset in site.assets.iter_mut().filter(|a| a.name == args.name) {
        let pinned = shown.pinned(asset);
        if !args.keep {
            pinned.clear();
        }
        if !pinned.contains(line) {
            pinned.push(line.clone());
        }
    }
    let act = desk.act(&args.on_behalf)?;
    let plan = desk.change_site(&act, site).await?;
    if !plan.is_empty() {
        let event = AuditEvent::new(AuditKind::HostKeyTrusted, &args.name)
            .with("fingerprint", print.as_str())
            .with_some("protocol", shown.desktop.then_some("rdp"));
        desk.store.record(&act, event).await?;
    }
    let text = format!(
        "{} is pinned to {print}; put this into the site file, or the next `apply` undoes it:\n  {line}",
        args.name
    );
    let key = if shown.desktop { "public_key" } else { "host_key" };
    Ok(Reply::new(text, json!({"id": args.name, "fingerprint": print, key: line})))
}

/// Looks at the desktop's certificate and goes away: nothing is sent to the machine.
async fn desktop_key_of(asset: &Asset) -> Result<Shown, CliError> {
    let failed = |why: String| CliError::failed(format!("{}: {why}", asset.name));
    let rdp = asset.endpoints.iter().find(|e| e.protocol == Protocol::Rdp);
    let rdp = rdp.ok_or_else(|| failed("has no rdp endpoint: there is no key to pin".into()))?;
    let dial = asset.dial(rdp);
    let look = async {
        let stream = TcpStream::connect((dial.host.as_str(), dial.port)).await.map_err(|e| e.to_string())?;
        cofferdam_rdp::learn_key(stream).await.map_err(|e| e.to_string())
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(pin)) => Ok(Shown::desktop(pin.to_string())),
        Ok(Err(why)) => Err(failed(format!("{dial} does not answer as an RDP server with TLS: {why}"))),
        Err(_) => Err(failed(format!("{dial} did not answer within 20 s: check address and network"))),
    }
}

/// Looks at the key and goes away: nothing is sent to the machine.
struct Glance(Option<oneshot::Sender<PublicKey>>);

impl client::Handler for Glance {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        if let Some(answer) = self.0.take() {
            // Whoever asked may have given up meanwhile; there is nobody else to tell.
            drop(answer.send(key.public_key().clone()));
        }
        Ok(false)
    }
}

async fn key_shown_by(asset: &Asset) -> Result<PublicKey, CliError> {
    let failed = |why: String| CliError::failed(format!("{}: {why}", asset.name));
    let ssh = asset.endpoints.iter().find(|e| e.protocol == Protocol::Ssh);
    let ssh = ssh.ok_or_else(|| failed("has no ssh endpoint: there is no host key to pin".into()))?;
    let host = ssh.dial_host.as_deref().unwrap_or(&asset.address);
    let port = ssh.dial_port.unwrap_or(ssh.port);
    let preferred = toward_target(&[], &asset.dangerous_ssh_algorithms).map_err(failed)?;
    let config = Arc::new(client::Config { preferred, ..client::Config::default() });
    let (answer, key) = oneshot::channel();
    let look = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
        let met = client::connect_stream(config, stream, Glance(Some(answer))).await;
        match (key.await, met) {
            (Ok(key), _) => Ok(key),
            (Err(_), Err(e)) => Err(e.to_string()),
            (Err(_), Ok(_)) => Err("it showed no key".to_owned()),
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(why)) => Err(failed(format!("{host}:{port} does not answer as an SSH server: {why}"))),
        Err(_) => Err(failed(format!("{host}:{port} did not answer within 20 s: check address and network"))),
    }
}
