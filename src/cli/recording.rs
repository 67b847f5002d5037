//! Recordings: listed, proved whole, read, searched, exported.

use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::{AuditEvent, AuditKind},
    clock::Timestamp,
    ids::SessionId,
    local_time::parse_duration,
    store::{AuditFilter, Deleted, KeptRecording, RecordingFilter, StoreError},
};
use cofferdam_recorder::{
    Anchor, Hit, Identity, LineKind, Query, Recording, RecordingId, Searched, search as search_folder,
    search_recording,
};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    export::{self, ExportArgs},
    output::{Reply, Table, bytes, clean, clean_line, shown, to_json, utc, utc_or_null},
    play,
    retention::{self, DeleteCommand, HoldArgs, deleted_row, deleted_words, hold_row},
    shelf::{Known, Shelf, Shelved},
    usage, verify,
};

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
            let recording = open(desk, &args.id).await?;
            note(desk, &args.on_behalf, AuditEvent::new(AuditKind::RecordingPlayed, &args.id)).await?;
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
    }
}

/// A factor as percent.
fn speed(text: &str) -> Result<u32, String> {
    let factor = text.parse::<f64>().ok().filter(|f| (0.1..=100.0).contains(f));
    factor.map(|f| (f * 100.0).round() as u32).ok_or_else(|| "use a factor from 0.1 to 100".into())
}

/// Reading is noted before anything is shown; what cannot be noted is not read.
pub(crate) async fn note(desk: &Desk, on_behalf: &OnBehalf, event: AuditEvent) -> Result<(), CliError> {
    let act = desk.act(on_behalf)?;
    desk.store.record(&act, event).await?;
    Ok(())
}

/// Opens and unlocks a recording.
pub(crate) async fn open(desk: &Desk, id: &RecordingId) -> Result<Recording, CliError> {
    if let Some(deleted) = kept(desk, id).await?.and_then(|r| r.deleted) {
        return Err(CliError::failed(format!("the recording {id} was {}", deleted_words(desk, &deleted))));
    }
    unlocked(desk, id).await
}

/// As [`open`], for those who know already that it was not deleted.
async fn unlocked(desk: &Desk, id: &RecordingId) -> Result<Recording, CliError> {
    let identity = desk.context.replay_identity()?;
    let path = Shelf::of(&desk.context)?.find(id).await?;
    Ok(play::unlocked(&path, &identity)?)
}

/// What the store knows of a recording, if anything.
pub(crate) async fn kept(desk: &Desk, id: &RecordingId) -> Result<Option<KeptRecording>, CliError> {
    let Ok(session) = id.as_str().parse::<SessionId>() else { return Ok(None) };
    match desk.store.recording(session).await {
        Ok(kept) => Ok(Some(kept)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A moment as the recorder writes it.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp(micros)
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let mut table =
        Table::new(&["id", "person", "account", "started", "ended", "end", "size", "where", "kept"]);
    let mut rows = Vec::new();
    let known = retention::all(desk, RecordingFilter::default()).await?;
    let mut known: BTreeMap<String, KeptRecording> =
        known.into_iter().map(|r| (r.session.to_string(), r)).collect();
    let listing = Shelf::of(&desk.context)?.list().await?;
    let complete = listing.is_complete();
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
    if let Some(gone) = kept(desk, id).await?
        && let Some(deleted) = &gone.deleted
    {
        return Ok(hole(desk, &gone, deleted));
    }
    let recording = unlocked(desk, id).await?;
    note(desk, on_behalf, AuditEvent::new(AuditKind::RecordingPlayed, id).with("as", "events")).await?;
    let header = recording.header().clone();
    let mut lines = Vec::new();
    let mut more = false;
    for kind in [LineKind::Command, LineKind::Event] {
        let query = Query { kind: Some(kind), ..Query::default() };
        search_recording(&recording, &query, |line| {
            more = lines.len() >= MOST_LINES;
            if more {
                return ControlFlow::Break(());
            }
            lines.push(line);
            ControlFlow::Continue(())
        })?;
    }
    lines.sort_by_key(|l| l.at);
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
    let events: Vec<Value> = lines
        .iter()
        .map(
            |l| json!({"at": utc(at(l.at)), "kind": kind_name(l.kind), "channel": l.channel, "text": l.text}),
        )
        .collect();
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

fn kind_name(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Screen => "screen",
        LineKind::Command => "command",
        LineKind::Event => "event",
    }
}

/// How far into the recording: `00:01:02`.
fn offset(at: i64, started: i64) -> String {
    let seconds = at.saturating_sub(started).max(0) / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What the audit log keeps of the recording's chain: entries `recording.checkpoint` with `seq` and `hash`.
pub(crate) async fn anchors(
    desk: &Desk,
    id: &RecordingId,
    problems: &mut Vec<String>,
) -> Result<Vec<Anchor>, CliError> {
    let filter = AuditFilter {
        kind: Some(AuditKind::RecordingCheckpoint),
        subject: Some(id.to_string()),
        after: Some(0),
        ..AuditFilter::default()
    };
    let mut all = Vec::new();
    for entry in desk.store.audit(&filter).await? {
        match serde_json::from_str(&entry.body) {
            Ok(anchor) => all.push(anchor),
            Err(_) => {
                problems.push(format!("audit entry {} holds no checkpoint that can be read", entry.seq))
            }
        }
    }
    Ok(all)
}

async fn search(desk: &Desk, args: SearchArgs) -> Result<Reply, CliError> {
    if args.text.trim().is_empty() {
        return Err(CliError::failed("the text to look for is empty: give some"));
    }
    let now = desk.now();
    let time = |text: &Option<String>| text.as_deref().map(|t| desk.zone.parse(t, now)).transpose();
    let (from, until) = (time(&args.from)?, time(&args.until)?);
    let identity = desk.context.replay_identity()?;
    let event = AuditEvent::new(AuditKind::RecordingPlayed, "search").with("text", args.text.as_str());
    note(desk, &args.on_behalf, event).await?;
    let query = Query {
        text: args.text,
        kind: None,
        user: args.user,
        asset: args.asset,
        organisation: None,
        from: from.map(Timestamp::micros),
        until: until.map(Timestamp::micros),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut found: std::collections::BTreeMap<RecordingId, Vec<Hit>> = std::collections::BTreeMap::new();
    let mut keep = |hit: Hit| {
        let hits = found.entry(hit.header.id.clone()).or_default();
        if hits.len() < MOST_HITS {
            hits.push(hit);
        }
        ControlFlow::Continue(())
    };
    let folder = &desk.context.config.recordings.dir;
    let shelf = Shelf::of(&desk.context)?;
    // What leaves the folder while it is searched may be searched twice, but never not at all.
    let listing = shelf.list().await?;
    let complete = listing.is_complete();
    let mut searched = match folder.exists() {
        true => search_folder(folder, &identity, &query, threads, &mut keep)?,
        false => Searched::default(),
    };
    let gone = |shelved: &&Shelved| shelved.path.as_ref().is_none_or(|path| !path.exists());
    for shelved in listing.recordings.iter().filter(gone) {
        if let Err(why) = search_archived(&shelf, shelved, &identity, &query, &mut keep).await {
            searched.skipped.push((PathBuf::from(&shelved.id), why.to_string()));
        }
    }
    let mut table = Table::new(&["recording", "person", "account", "at", "into", "kind", "text"]);
    let mut rows = Vec::new();
    for (id, mut hits) in found {
        hits.sort_by_key(|h| h.line.at);
        for hit in &hits {
            table.row([
                id.to_string(),
                hit.header.user.clone(),
                format!("{}@{}", hit.header.account, hit.header.asset),
                desk.zone.show(at(hit.line.at)),
                offset(hit.line.at, hit.header.started),
                kind_name(hit.line.kind).to_owned(),
                hit.line.text.chars().take(160).collect(),
            ]);
        }
        let lines: Vec<Value> = hits
            .iter()
            .map(|h| json!({"at": utc(at(h.line.at)), "kind": kind_name(h.line.kind), "channel": h.line.channel, "text": h.line.text}))
            .collect();
        let header = hits.first().map(|h| &h.header);
        rows.push(json!({
            "id": id.to_string(), "user": header.map(|h| &h.user), "asset": header.map(|h| &h.asset), "hits": lines,
        }));
    }
    for (path, why) in &searched.skipped {
        eprintln!("cofferdam: {} was not searched: {}", path.display(), clean_line(why));
    }
    Ok(Reply::list(&table, rows).judged(complete))
}

/// Searches a recording that only the object store has; one that the filters leave out is not fetched.
async fn search_archived(
    shelf: &Shelf<'_>,
    shelved: &Shelved,
    identity: &Identity,
    query: &Query,
    keep: &mut impl FnMut(Hit) -> ControlFlow<()>,
) -> Result<(), CliError> {
    let known = shelved.found.as_ref().map_err(CliError::failed)?;
    let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|w| w == have);
    let in_time = query.until.is_none_or(|until| known.header.started < until)
        && known.seal.as_ref().zip(query.from).is_none_or(|(seal, from)| seal.ended >= from);
    if !is(&query.user, &known.header.user) || !is(&query.asset, &known.header.asset) || !in_time {
        return Ok(());
    }
    let path = shelf.find(&known.header.id).await?;
    let recording = play::unlocked(&path, identity)?;
    Ok(search_recording(&recording, query, |line| {
        keep(Hit { path: path.clone(), header: recording.header().clone(), line })
    })?)
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
