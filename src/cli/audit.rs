//! The signed log.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::{AuditEntry, AuditEvent, AuditKind},
    store::AuditFilter,
};
use serde_json::{Value, json};

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, clean_line, to_json, utc},
};

/// How often `--follow` looks.
const FOLLOW: Duration = Duration::from_millis(300);

/// `cofferdam audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The newest entries, oldest first
    Tail(TailArgs),
    /// Check every entry, the signatures and the checkpoints; exit code 1 names the first bad entry
    Verify,
    /// All entries exactly as signed, one JSON object a line
    Export {
        /// Write to this new file [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    lines: u32,
    /// Only of this kind, such as session.opened
    #[arg(long)]
    kind: Option<AuditKind>,
    /// Only by this actor
    #[arg(long)]
    actor: Option<String>,
    /// Only about this subject
    #[arg(long)]
    subject: Option<String>,
    /// Go on with what comes (until interrupted)
    #[arg(long, short)]
    follow: bool,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: AuditCommand) -> Result<Reply, CliError> {
    match command {
        AuditCommand::Tail(args) => tail(desk, &args).await,
        AuditCommand::Verify => verify(desk).await,
        AuditCommand::Export { output } => export(desk, output).await,
    }
}

async fn tail(desk: &Desk, args: &TailArgs) -> Result<Reply, CliError> {
    let filter = AuditFilter {
        kind: args.kind,
        actor: args.actor.clone(),
        subject: args.subject.clone(),
        limit: args.lines,
        ..AuditFilter::default()
    };
    let mut entries = desk.store.audit(&filter).await?;
    entries.reverse();
    if !args.follow {
        let text: Vec<String> = entries.iter().map(|e| line(desk, e)).collect();
        return Ok(Reply::new(text.join("\n"), Value::Array(entries.iter().map(row).collect())));
    }
    // The number to go on from is that of the log, not of the last entry that fits the filter.
    let mut after = desk.store.head().await?.map_or(0, |h| h.seq);
    if let Some(last) = entries.last() {
        after = after.max(last.seq);
    }
    loop {
        let mut out = std::io::stdout().lock();
        for entry in &entries {
            writeln!(out, "{}", line(desk, entry)).map_err(CliError::io("standard output"))?;
        }
        out.flush().map_err(CliError::io("standard output"))?;
        drop(out);
        tokio::time::sleep(FOLLOW).await;
        entries = desk.store.audit(&AuditFilter { after: Some(after), limit: 0, ..filter.clone() }).await?;
        after = entries.last().map_or(after, |e| e.seq);
    }
}

fn line(desk: &Desk, e: &AuditEntry) -> String {
    clean_line(&format!(
        "{:>6}  {}  {:<24} {:<20} {}  {}",
        e.seq,
        desk.zone.show(e.at),
        e.kind,
        e.actor,
        e.subject,
        e.body
    ))
}

fn row(e: &AuditEntry) -> Value {
    // A body is JSON text; one that is not was edited, and is shown as the text that it is.
    let body = serde_json::from_str(&e.body).unwrap_or_else(|_| Value::String(e.body.clone()));
    json!({
        "id": e.seq.to_string(), "seq": e.seq, "at": utc(e.at), "kind": e.kind, "actor": e.actor, "subject": e.subject,
        "body": body, "hash": e.hash,
    })
}

async fn verify(desk: &Desk) -> Result<Reply, CliError> {
    let file = desk.context.checkpoints();
    let (report, not_noted) = desk.store.verify_own_audit(&desk.own_act()).await?;
    let whole = report.is_whole();
    let mut text = format!(
        "{} entries are good{}; {} checkpoints of {} compared",
        report.entries,
        report.last.as_ref().map(|l| format!(", the newest of {}", desk.zone.show(l.at))).unwrap_or_default(),
        report.checkpoints,
        file.path().display(),
    );
    if let Some(bad) = &report.first_bad {
        text = format!("the log is NOT whole\nfirst bad: {bad}\n{text}");
    }
    for problem in &report.checkpoint_problems {
        text.push_str(&format!("\ncheckpoint file: {problem}"));
    }
    if !report.clock_went_back.is_empty() {
        text.push_str(&format!("\nthe clock went back at entries {:?}", report.clock_went_back));
    }
    // The finding counts whether or not it can be noted in the log that it is about.
    if let Some(e) = not_noted {
        eprintln!("cofferdam: the verification could not be noted in the log: {e}");
    }
    let mut json = to_json(&report)?;
    if let Some(object) = json.as_object_mut() {
        object.insert("whole".to_owned(), whole.into());
    }
    Ok(Reply::new(text, json).judged(whole))
}

async fn export(desk: &Desk, output: Option<PathBuf>) -> Result<Reply, CliError> {
    let what = output.as_ref().map_or("standard output".to_owned(), |p| p.display().to_string());
    let mut out: Box<dyn Write> = match &output {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(BufWriter::new(file.map_err(CliError::io(what.clone()))?))
        }
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    let (mut after, mut count) = (0, 0u64);
    loop {
        let page = desk.store.audit(&AuditFilter { after: Some(after), ..AuditFilter::default() }).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        count += page.len() as u64;
        for entry in &page {
            let line = serde_json::to_string(entry)
                .map_err(|e| CliError::failed(format!("entry {} cannot be written: {e}", entry.seq)))?;
            writeln!(out, "{line}").map_err(CliError::io(what.clone()))?;
        }
    }
    out.flush().map_err(CliError::io(what.clone()))?;
    drop(out);
    let event = AuditEvent::new(AuditKind::AuditExported, "audit").with("entries", count).with("last", after);
    desk.store.record(&desk.own_act(), event).await?;
    Ok(match output {
        Some(_) => {
            Reply::new(format!("{count} entries are in {what}"), json!({"file": what, "entries": count}))
        }
        None => Reply::nothing(),
    })
}
