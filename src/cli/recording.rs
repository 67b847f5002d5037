//! Recordings: listed, proved whole, read, searched, exported.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use cofferdam_access::{
    clock::Timestamp,
    local_time::parse_duration,
    store::{Deleted, KeptRecording, RecordingFilter},
};
use cofferdam_recorder::{LineKind, Lines, Query, RecordingId, RemoteError, TextLine, marks};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    export::{self, ExportArgs},
    output::{Reply, Table, bytes, clean, clean_line, shown, to_json, utc, utc_or_null},
    play,
    retention::{self, DeleteCommand, HoldArgs, deleted_row, deleted_words, hold_row},
    usage, verify,
};
use crate::records::{InOne, Known, Most, RecordsError, Shelved, all_kept, at};

/// Most lines of events that `show` prints.
const MOST_LINES: usize = 1000;
/// Most hits that a search gives for one recording.
const MOST_HITS: usize = 100;

/// `cofferdam recording …`
#[derive(Debug, Subcommand)]
pub(crate) enum RecordingCommand {
    /// Recordings on this machine and in the object store, the oldest first
    List,
    /// What a recording is about, its commands, files, forwards and findings
    Show {
        /// The recording's id: its session's
        id: RecordingId,
        #[command(flatten)]
        on_behalf: OnBehalf,
    },
    /// Replay in this terminal; space pauses, + and - change the speed, arrows go 5 s, n and p go to the next and the
    /// previous command or other event, . goes to what is shown next, q leaves
    Play(PlayArgs),
    /// Prove recordings or evidence bundles whole with the public key alone; exit code 1 if one is not
    Verify {
        /// Recordings' ids or files of bundles; without any, all recordings
        #[arg(value_name = "ID|FILE")]
        which: Vec<String>,
    },
    /// Write a recording in another form
    Export(ExportArgs),
    /// Find text in what was shown, typed, or done
    Search(SearchArgs),
    /// Make missing search indexes of this machine's recordings, and the search catalogue anew
    Reindex {
        /// All indexes, also those that fit
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        on_behalf: OnBehalf,
    },
    /// Keep a recording whatever retention says, or stop doing so
    Hold(HoldArgs),
    /// Recordings that have been kept as long as the site says; nothing deletes them by itself
    Due,
    /// Delete recordings: one person asks, a second one of another duty agrees
    #[command(subcommand)]
    Delete(DeleteCommand),
    /// The room that recordings take, what is left, and for how long
    Usage,
}

/// Which recording, from where.
#[derive(Debug, Args)]
pub(crate) struct PlayArgs {
    /// The recording's id: its session's
    id: RecordingId,
    /// Start so far in (`1h2m3s`)
    #[arg(long, value_name = "DURATION")]
    from: Option<String>,
    /// Shorten pauses to this
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    skip_idle: String,
    /// How much faster than it happened: 0.1 to 100
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: u32,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// What to look for.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// The text; upper and lower case are alike
    text: String,
    /// Only in sessions of this person
    #[arg(long, value_name = "PERSON")]
    user: Option<String>,
    /// Only in sessions on this asset
    #[arg(long)]
    asset: Option<String>,
    /// Only from this time on, in the site's zone
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time, in the site's zone
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: RecordingCommand) -> Result<Reply, CliError> {
    match command {
        RecordingCommand::List => list(desk).await,
        RecordingCommand::Show { id, on_behalf } => show(desk, &id, &on_behalf).await,
        RecordingCommand::Play(args) => {
            let micros = |text: &str| Ok::<_, CliError>(parse_duration(text)?.saturating_mul(1_000_000));
            let start = args.from.as_deref().map(micros).transpose()?.unwrap_or(0);
            let skip = micros(&args.skip_idle)?;
            let opened = desk.records()?.open(&desk.act(&args.on_behalf)?, &args.id, "terminal").await;
            let recording = opened.map_err(told(desk))?;
            play::play(&recording, start, Some(skip), args.speed)?;
            Ok(Reply::nothing())
        }
        RecordingCommand::Verify { which } => verify::run(desk, which).await,
        RecordingCommand::Hold(args) => retention::hold(desk, &args).await,
        RecordingCommand::Due => retention::due(desk).await,
        RecordingCommand::Delete(command) => retention::delete(desk, command).await,
        RecordingCommand::Usage => usage::run(&desk.context.config.recordings, desk.now()),
        RecordingCommand::Export(args) => export::run(desk, &args).await,
        RecordingCommand::Search(args) => search(desk, args).await,
        RecordingCommand::Reindex { all, on_behalf } => reindex(desk, all, &on_behalf).await,
    }
}

/// A factor as percent.
fn speed(text: &str) -> Result<u32, String> {
    let factor = text.parse::<f64>().ok().filter(|f| (0.1..=100.0).contains(f));
    factor.map(|f| (f * 100.0).round() as u32).ok_or_else(|| "use a factor from 0.1 to 100".into())
}

/// What went wrong, with times in the site's zone.
pub(crate) fn told(desk: &Desk) -> impl Fn(RecordsError) -> CliError + '_ {
    |error| match error {
        RecordsError::Deleted { id, deleted } => {
            CliError::failed(format!("the recording {id} was {}", deleted_words(desk, &deleted)))
        }
        other => other.into(),
    }
}

/// Whether the object store's recordings are left out; says so on standard error.
pub(crate) fn left_out(incomplete: Option<&RemoteError>) -> bool {
    if let Some(why) = incomplete {
        eprintln!("cofferdam: recordings in the object store are left out: {}", clean_line(&why.to_string()));
    }
    incomplete.is_some()
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let mut table =
        Table::new(&["id", "person", "account", "started", "ended", "end", "size", "where", "kept"]);
    let mut rows = Vec::new();
    let known = all_kept(&desk.store, RecordingFilter::default()).await?;
    let mut known: BTreeMap<String, KeptRecording> =
        known.into_iter().map(|r| (r.session.to_string(), r)).collect();
    let listing = desk.records()?.list().await?;
    let complete = !left_out(listing.incomplete.as_ref());
    for shelved in listing.recordings {
        let place = if shelved.path.is_some() { "here" } else { "object store" };
        let kept = known.remove(&shelved.id);
        let standing = kept.as_ref().map_or("-".to_owned(), |r| standing(desk, r));
        match &shelved.found {
            Ok(l) => {
                let end = l.seal.as_ref().map_or("not sealed", |s| s.end.reason.as_str());
                table.row([
                    l.header.id.to_string(),
                    l.header.user.clone(),
                    format!("{}@{}", l.header.account, l.header.asset),
                    desk.zone.show(at(l.header.started)),
                    shown(&desk.zone, l.seal.as_ref().map(|s| at(s.ended))),
                    end.to_owned(),
                    bytes(l.bytes),
                    place.to_owned(),
                    standing,
                ]);
                rows.push(row(desk, &shelved, l, kept.as_ref())?);
            }
            Err(e) => {
                let why = format!("UNREADABLE: {e}");
                table.row([shelved.id.as_str(), "?", "?", "?", "?", &why, "?", place, &standing]);
                rows.push(json!({"id": shelved.id, "path": path_of(&shelved), "error": e}));
            }
        }
    }
    for (id, r) in known.iter().filter(|(_, r)| r.deleted.is_some()) {
        table.row([
            id.clone(),
            r.person.to_string(),
            format!("{}@{}", r.login, r.asset),
            desk.zone.show(r.started_at),
            shown(&desk.zone, r.ended_at),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            standing(desk, r),
        ]);
        rows.push(json!({
            "id": id, "session": id, "user": r.person, "asset": r.asset, "account": format!("{}@{}", r.login, r.asset),
            "started": utc(r.started_at), "ended": utc_or_null(r.ended_at), "digest": r.digest, "hold": hold_row(r),
            "deleted": r.deleted.as_ref().map(deleted_row),
        }));
    }
    Ok(Reply::list(&table, rows).judged(complete))
}

/// Whether a recording is held, deleted, or until when it is kept.
fn standing(desk: &Desk, r: &KeptRecording) -> String {
    match (&r.deleted, &r.hold, retention::until(desk, r)) {
        (Some(deleted), ..) => deleted_words(desk, deleted),
        (None, Some(hold), _) => format!("held for {}", hold.reason),
        (None, None, Some(until)) => format!("until {}", desk.zone.show(until)),
        (None, None, None) => "-".to_owned(),
    }
}

fn path_of(shelved: &Shelved) -> Option<String> {
    shelved.path.as_ref().map(|path| path.display().to_string())
}

fn row(desk: &Desk, shelved: &Shelved, l: &Known, kept: Option<&KeptRecording>) -> Result<Value, CliError> {
    Ok(json!({
        "id": l.header.id.to_string(),
        "path": path_of(shelved),
        "session": l.header.session,
        "user": l.header.user,
        "asset": l.header.asset,
        "account": format!("{}@{}", l.header.account, l.header.asset),
        "protocol": l.header.protocol,
        "started": utc(at(l.header.started)),
        "ended": utc_or_null(l.seal.as_ref().map(|s| at(s.ended))),
        "sealed": l.seal.is_some(),
        "seal": to_json(&l.seal)?,
        "labels": l.header.labels,
        "bytes": l.bytes,
        "kept_until": utc_or_null(kept.and_then(|r| retention::until(desk, r))),
        "hold": kept.map_or(Value::Null, hold_row),
        "deleted": kept.and_then(|r| r.deleted.as_ref()).map(deleted_row),
    }))
}

async fn show(desk: &Desk, id: &RecordingId, on_behalf: &OnBehalf) -> Result<Reply, CliError> {
    let records = desk.records()?;
    if let Some(gone) = records.kept(id).await?
        && let Some(deleted) = &gone.deleted
    {
        return Ok(hole(desk, &gone, deleted));
    }
    let recording = records.open(&desk.act(on_behalf)?, id, "events").await.map_err(told(desk))?;
    let header = recording.header().clone();
    let Lines { mut lines, more } = marks(&recording, MOST_LINES)?;
    lines.retain(|line| line.kind != LineKind::Resize);
    let end = recording.seal().map_or_else(
        || "not sealed".to_owned(),
        |s| format!("{}, {} {} {}", desk.zone.show(at(s.ended)), s.end.reason, s.end.by, s.end.note),
    );
    let mut text = format!(
        "recording   {id}\nperson      {} of {}\naccount     {}@{} by {} in zone {}\nstarted     {}\nended       {end}\nfile        {}",
        header.user,
        header.organisation,
        header.account,
        header.asset,
        header.protocol,
        header.zone,
        desk.zone.show(at(header.started)),
        recording.path().display(),
    );
    for line in &lines {
        text.push_str(&format!("\n{}  {}", offset(line.at, header.started), clean_line(&line.text)));
    }
    if more {
        text.push_str("\n… and more: export it as jsonl");
    }
    let events: Vec<Value> = lines.iter().map(line_row).collect();
    let json = json!({
        "id": id.to_string(), "header": to_json(&header)?, "seal": to_json(&recording.seal())?,
        "path": recording.path().display().to_string(), "events": events, "more": more,
    });
    Ok(Reply::new(clean(&text), json))
}

/// What is left to say of a recording that two people deleted.
fn hole(desk: &Desk, r: &KeptRecording, deleted: &Deleted) -> Reply {
    let text = format!(
        "recording   {}\nperson      {}\naccount     {}@{}\nstarted     {}\nended       {}\ndigest      {}\n{}; why: cofferdam \
         recording delete show {}",
        r.session,
        r.person,
        r.login,
        r.asset,
        desk.zone.show(r.started_at),
        shown(&desk.zone, r.ended_at),
        r.digest.as_deref().unwrap_or("-"),
        deleted_words(desk, deleted),
        deleted.request,
    );
    let json = json!({
        "id": r.session.to_string(), "user": r.person, "asset": r.asset, "digest": r.digest, "events": [],
        "started": utc(r.started_at), "ended": utc_or_null(r.ended_at), "deleted": deleted_row(deleted),
    });
    Reply::new(clean(&text), json)
}

/// How far into the recording: `00:01:02`.
fn offset(at: i64, started: i64) -> String {
    let seconds = at.saturating_sub(started).max(0) / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

async fn search(desk: &Desk, args: SearchArgs) -> Result<Reply, CliError> {
    if args.text.trim().is_empty() {
        return Err(CliError::failed("the text to look for is empty: give some"));
    }
    let now = desk.now();
    let time = |text: &Option<String>| text.as_deref().map(|t| desk.zone.parse(t, now)).transpose();
    let (from, until) = (time(&args.from)?, time(&args.until)?);
    let query = Query {
        text: args.text,
        user: args.user,
        asset: args.asset,
        from: from.map(Timestamp::micros),
        until: until.map(Timestamp::micros),
        ..Query::default()
    };
    let most = Most { each: MOST_HITS, all: usize::MAX };
    let found = desk.records()?.search(&desk.act(&args.on_behalf)?, query, most).await?;
    let complete = !left_out(found.incomplete.as_ref());
    let mut table = Table::new(&["recording", "person", "account", "at", "into", "kind", "text"]);
    let mut rows = Vec::new();
    for (id, InOne { header, lines }) in &found.recordings {
        for line in lines {
            table.row([
                id.to_string(),
                header.user.clone(),
                format!("{}@{}", header.account, header.asset),
                desk.zone.show(at(line.at)),
                offset(line.at, header.started),
                line.kind.as_str().to_owned(),
                line.text.chars().take(160).collect(),
            ]);
        }
        let hits: Vec<Value> = lines.iter().map(line_row).collect();
        rows.push(json!({"id": id.to_string(), "user": header.user, "asset": header.asset, "hits": hits}));
    }
    for (path, why) in &found.skipped {
        eprintln!("cofferdam: {} was not searched: {}", path.display(), clean_line(why));
    }
    Ok(Reply::list(&table, rows).judged(complete))
}

async fn reindex(desk: &Desk, all: bool, on_behalf: &OnBehalf) -> Result<Reply, CliError> {
    let done = desk.records()?.reindex(&desk.act(on_behalf)?, all).await?;
    let mut text = format!(
        "{} indexes made, {} recordings in {} new catalogues",
        done.indexes, done.catalogued, done.catalogues
    );
    for (path, why) in &done.skipped {
        text.push_str(&format!("\n{} is left as it is: {}", path.display(), clean_line(why)));
    }
    let skipped: Vec<Value> = done
        .skipped
        .iter()
        .map(|(path, why)| json!({"path": path.display().to_string(), "error": why}))
        .collect();
    let json = json!({"indexes": done.indexes, "catalogued": done.catalogued, "skipped": skipped});
    Ok(Reply::new(text, json).judged(done.skipped.is_empty()))
}

/// A line of a recording for programs.
fn line_row(l: &TextLine) -> Value {
    json!({"at": utc(at(l.at)), "kind": l.kind.as_str(), "channel": l.channel, "text": l.text})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_from_the_start_of_its_recording() {
        assert_eq!(offset(3_723_999_999, 0), "01:02:03");
        assert_eq!(offset(0, 10), "00:00:00");
    }
}
