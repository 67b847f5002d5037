//! A recording in other forms: for other programs, and as evidence.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use cofferdam_access::{
    audit::{AuditEvent, AuditKind},
    ids::SessionId,
    store::AuditFilter,
};
use cofferdam_recorder::{
    BundleParts, CastOptions, CastVersion, Event, ReadError, Recording, RecordingId, export_asciicast,
    export_files, export_jsonl, export_transcript, write_bundle,
};
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, bytes, clean, to_json},
    recording::{anchors, note, open},
    session, window,
};

/// A form of export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// What the terminal showed, as text
    Text,
    /// For asciinema's player, version 2
    AsciicastV2,
    /// For asciinema's player, version 3
    AsciicastV3,
    /// Every event, one JSON object a line
    Jsonl,
    /// The files that moved, as far as they were kept, into a folder
    Files,
    /// An evidence bundle (tar): recording, keys, decision, approvals and audit entries, under one signature
    Bundle,
}

impl Format {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::AsciicastV2 => "asciicast-v2",
            Self::AsciicastV3 => "asciicast-v3",
            Self::Jsonl => "jsonl",
            Self::Files => "files",
            Self::Bundle => "bundle",
        }
    }
}

/// What to export, and where to.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The recording's id: its session's
    id: RecordingId,
    /// The form
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The new file, or the new folder for files [default: standard output]
    #[arg(long, short, value_name = "PATH", required_if_eq("format", "files"))]
    output: Option<PathBuf>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// `cofferdam recording export`
pub(crate) async fn run(desk: &Desk, args: &ExportArgs) -> Result<Reply, CliError> {
    let recording = open(desk, &args.id).await?;
    let event = AuditEvent::new(AuditKind::RecordingExported, &args.id).with("format", args.format.as_str());
    note(desk, &args.on_behalf, event).await?;
    let parts = match args.format {
        Format::Files => return files(&recording, args),
        Format::Bundle => Some(parts(desk, &args.id, &recording).await?),
        _ => None,
    };
    let write = |out: &mut BufWriter<Box<dyn Write>>| match &parts {
        Some(parts) => Ok(write_bundle(parts, &desk.context.recording_signer()?, out)?),
        None => write_form(&recording, args.format, out),
    };
    match &args.output {
        Some(path) => {
            let what = path.display().to_string();
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            write(&mut BufWriter::new(Box::new(file.map_err(CliError::io(what.clone()))?)))?;
            Ok(Reply::new(format!("written to {what}"), json!({"id": args.id.to_string(), "path": what})))
        }
        None => {
            write(&mut BufWriter::new(Box::new(std::io::stdout().lock())))?;
            Ok(Reply::nothing())
        }
    }
}

fn write_form(recording: &Recording, format: Format, out: &mut impl Write) -> Result<(), CliError> {
    let cast = |version| CastOptions { version, channel: None, input: false };
    let done = match format {
        Format::AsciicastV2 => export_asciicast(recording, cast(CastVersion::V2), out),
        Format::AsciicastV3 => export_asciicast(recording, cast(CastVersion::V3), out),
        Format::Jsonl => export_jsonl(recording, out),
        // Files and bundles have their own ways.
        Format::Text | Format::Files | Format::Bundle => match export_transcript(recording, None, out) {
            Err(ReadError::Missing(_)) => return plain_text(recording, out),
            done => done,
        },
    };
    match done {
        Err(ReadError::Export(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::Quiet),
        other => Ok(other?),
    }
}

/// What came back on channels without a terminal, as text without anything that could steer one.
fn plain_text(recording: &Recording, out: &mut impl Write) -> Result<(), CliError> {
    for event in recording.events()? {
        if let Event::Output { data, .. } | Event::Stderr { data, .. } = event?.event {
            let text = clean(&String::from_utf8_lossy(&data));
            out.write_all(text.as_bytes()).map_err(CliError::io("the export"))?;
        }
    }
    out.flush().map_err(CliError::io("the export"))
}

fn files(recording: &Recording, args: &ExportArgs) -> Result<Reply, CliError> {
    let folder = args.output.as_deref().unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(CliError::io(folder.display().to_string()))?;
    let mut table = Table::new(&["file", "was", "way", "size", "sha-256", "as recorded"]);
    let mut rows = Vec::new();
    let mut differ = false;
    for f in export_files(recording, folder, u64::MAX)? {
        let way = to_json(&f.direction)?;
        let matches = match f.matches {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "unknown",
        };
        differ |= f.matches == Some(false);
        let size = bytes(f.bytes);
        let path = f.path.display().to_string();
        table.row([path.as_str(), &f.source, way.as_str().unwrap_or("-"), &size, &f.sha256, matches]);
        rows.push(json!({
            "id": path, "source": f.source, "direction": way, "bytes": f.bytes, "sha256": f.sha256, "matches": f.matches,
        }));
    }
    Ok(Reply::list(&table, rows).judged(!differ))
}

/// What goes into a bundle beside the recording: the session with its decision, its window, and the audit entries of both.
async fn parts(desk: &Desk, id: &RecordingId, recording: &Recording) -> Result<BundleParts, CliError> {
    let session: SessionId = id.as_str().parse()?;
    let pretty = |value: &serde_json::Value| format!("{value:#}\n").into_bytes();
    let mut documents = vec![("session.json".to_owned(), pretty(&session::show(desk, session).await?.json))];
    let mut subjects = vec![session.to_string()];
    if let Some(id) = desk.store.session(session).await?.window {
        let kept = desk.store.window(id).await?.window;
        documents.push(("window.json".to_owned(), pretty(&window::row(desk, &kept)?)));
        documents.push(("request.txt".to_owned(), kept.request.canonical_text().into_bytes()));
        subjects.push(id.to_string());
    }
    let mut entries = Vec::new();
    for subject in subjects {
        entries.extend(
            desk.store.audit(&AuditFilter { subject: Some(subject), ..AuditFilter::default() }).await?,
        );
    }
    entries.sort_by_key(|e| e.seq);
    let mut log = Vec::new();
    for entry in &entries {
        serde_json::to_writer(&mut log, entry)
            .map_err(|e| CliError::failed(format!("an audit entry cannot be written: {e}")))?;
        log.push(b'\n');
    }
    documents.push(("audit.jsonl".to_owned(), log));
    let mut unreadable = Vec::new();
    let anchors = anchors(desk, id, &mut unreadable).await?;
    if let Some(problem) = unreadable.first() {
        return Err(CliError::failed(format!("{problem}: verify the audit log first")));
    }
    Ok(BundleParts {
        recording: recording.path().to_owned(),
        documents,
        anchors,
        created: desk.now().micros(),
    })
}
