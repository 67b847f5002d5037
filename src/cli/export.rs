//! A recording in other forms: for other programs, and as evidence.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use cofferdam_access::{audit::Act, local_time::parse_duration};
use cofferdam_recorder::{CastOptions, CastVersion, RecordingId, VideoOptions};
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, bytes, to_json},
    recording::told,
};
use crate::records::{Form, Records};

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
    /// A picture of the desktop at a moment
    Png,
    /// A film of the desktop, made by ffmpeg
    Webm,
    /// A film of the desktop, made by ffmpeg
    Mp4,
    /// The files that moved, as far as they were kept, into a folder
    Files,
    /// An evidence bundle (tar): recording, keys, decision, approvals and audit entries, under one signature
    Bundle,
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
    #[arg(long, short, value_name = "PATH", required_if_eq_any([("format", "files"), ("format", "webm"), ("format", "mp4")]))]
    output: Option<PathBuf>,
    /// The moment of a picture, so far in (`1h2m3s`) [default: the end]
    #[arg(long, value_name = "DURATION")]
    at: Option<String>,
    /// Shorten times of a film in which nothing changes to this
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    skip_idle: String,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// `cofferdam recording export`
pub(crate) async fn run(desk: &Desk, args: &ExportArgs) -> Result<Reply, CliError> {
    let (records, reader) = (desk.records()?, desk.act(&args.on_behalf)?);
    let form = match args.format {
        Format::Files => return files(desk, &records, &reader, args).await,
        Format::Webm | Format::Mp4 => return film(desk, &records, &reader, args).await,
        Format::Png => Some(Form::Still(args.at.as_deref().map(micros).transpose()?)),
        Format::Bundle => None,
        Format::Text => Some(Form::Text),
        Format::AsciicastV2 => Some(Form::Asciicast(CastOptions::of(CastVersion::V2))),
        Format::AsciicastV3 => Some(Form::Asciicast(CastOptions::of(CastVersion::V3))),
        Format::Jsonl => Some(Form::Jsonl),
    };
    let out: Box<dyn Write + Send> = match &args.output {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(BufWriter::new(file.map_err(CliError::io(path.display().to_string()))?))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let done = match form {
        Some(form) => records.export(&reader, &args.id, form, out).await,
        None => records.bundle(&reader, &args.id, out).await,
    };
    if let (Err(_), Some(path)) = (&done, &args.output) {
        // A file that holds a part of it, or nothing, is no export; the first error is the one to report.
        std::fs::remove_file(path).unwrap_or_default();
    }
    done.map_err(told(desk))?;
    Ok(args.output.as_deref().map_or_else(Reply::nothing, |path| written(args, path)))
}

fn written(args: &ExportArgs, path: &Path) -> Reply {
    let what = path.display().to_string();
    Reply::new(format!("written to {what}"), json!({"id": args.id.to_string(), "path": what}))
}

fn micros(text: &str) -> Result<i64, CliError> {
    Ok(parse_duration(text)?.saturating_mul(1_000_000))
}

async fn film(desk: &Desk, records: &Records, reader: &Act, args: &ExportArgs) -> Result<Reply, CliError> {
    let ending = if args.format == Format::Mp4 { "mp4" } else { "webm" };
    let path = args.output.as_deref().unwrap_or(Path::new("."));
    if path.extension().is_none_or(|e| e != ending) {
        return Err(CliError::failed(format!(
            "name a file that ends in .{ending}: the ending says what is made"
        )));
    }
    // Made here, so that nobody else can read it from the first byte on; ffmpeg is told that it may be there.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    drop(made.map_err(CliError::io(path.display().to_string()))?);
    let options = VideoOptions { skip_idle: Some(micros(&args.skip_idle)?), ..VideoOptions::default() };
    let done = records.export_film(reader, &args.id, options, path).await;
    if done.is_err() {
        // A part of a film is no export; the first error is the one to report.
        std::fs::remove_file(path).unwrap_or_default();
    }
    done.map_err(told(desk))?;
    Ok(written(args, path))
}

async fn files(desk: &Desk, records: &Records, reader: &Act, args: &ExportArgs) -> Result<Reply, CliError> {
    let folder = args.output.as_deref().unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(CliError::io(folder.display().to_string()))?;
    let mut table = Table::new(&["file", "was", "way", "size", "sha-256", "as recorded"]);
    let mut rows = Vec::new();
    let mut differ = false;
    let written = records.export_files(reader, &args.id, folder.to_owned()).await;
    for f in written.map_err(told(desk))? {
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
