//! How long recordings stay: what is due, legal holds, and deletion by two people.

use std::{collections::BTreeMap, io::Write as _};

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::{Act, Actor},
    clock::Timestamp,
    ids::{DeletionId, Name, SessionId},
    people::{Duty, User},
    retention::{DELETION_SECONDS, Deletion, DeletionRequest, DeletionStanding, MOST_RECORDINGS, kept_until},
    store::{Deleted, KeptRecording, RecordingFilter},
    window::RequestDigest,
};
use cofferdam_recorder::{RecordingId, hold_of};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, clean, shown, utc, utc_or_null},
    proof::Proof,
    window::digest,
};
use crate::{
    erasure::{Places, erase_deleted},
    records::all_kept,
};

/// What to hold.
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The recording's id: its session's
    id: SessionId,
    /// Why it has to be kept, or why no longer
    #[arg(long)]
    reason: String,
    /// Lift the hold (password and code of an investigator or of security, who then take no part in deleting it)
    #[arg(long, requires = "person")]
    lift: bool,
    /// The person who lifts the hold, or on whose behalf it is placed
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<Name>,
    /// Read password and code from standard input, a line each, instead of asking on the terminal
    #[arg(long, requires = "lift")]
    proof_stdin: bool,
}

/// `cofferdam recording delete …`
#[derive(Debug, Subcommand)]
pub(crate) enum DeleteCommand {
    /// Ask to delete recordings (password and code of an investigator or an administrator)
    Request(RequestArgs),
    /// Agree to exactly the list that is shown, and delete (password and code of a second person, of the other duty)
    Approve(ApproveArgs),
    /// Refuse a request, or take one's own back, for good
    Refuse(RefuseArgs),
    /// Requests to delete, the newest first
    List,
    /// One request: the list that is agreed to, and its digest
    Show {
        /// The request's id
        request: DeletionId,
    },
}

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The recordings' ids
    #[arg(value_name = "ID", required_unless_present = "due")]
    ids: Vec<SessionId>,
    /// All that are due and not held, the oldest first, up to what one request may name
    #[arg(long, conflicts_with = "ids")]
    due: bool,
    /// Why, in plain words
    #[arg(long)]
    reason: String,
    /// As what: investigator or administrator [default: the one that the person holds]
    #[arg(long, value_parser = deleting_duty)]
    duty: Option<Duty>,
    #[command(flatten)]
    proof: Proof,
}

/// Agreeing.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The request's id
    request: DeletionId,
    /// As what: investigator or administrator [default: the one that the person holds]
    #[arg(long, value_parser = deleting_duty)]
    duty: Option<Duty>,
    /// Only if the request has this digest (for scripts that showed the list elsewhere)
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<RequestDigest>,
    #[command(flatten)]
    proof: Proof,
}

/// Refusing.
#[derive(Debug, Args)]
pub(crate) struct RefuseArgs {
    /// The request's id
    request: DeletionId,
    /// The person on whose behalf
    #[arg(long = "as", value_name = "PERSON")]
    person: Name,
    /// Why; the requester reads it
    #[arg(long)]
    reason: String,
}

fn deleting_duty(text: &str) -> Result<Duty, String> {
    let known = Duty::ALL.into_iter().find(|d| d.deletes() && d.as_str() == text);
    known.ok_or_else(|| "use investigator or administrator".into())
}

/// Does what `command` says.
pub(crate) async fn delete(desk: &Desk, command: DeleteCommand) -> Result<Reply, CliError> {
    match command {
        DeleteCommand::Request(args) => request(desk, args).await,
        DeleteCommand::Approve(args) => approve(desk, &args).await,
        DeleteCommand::Refuse(args) => refuse(desk, &args).await,
        DeleteCommand::List => list(desk).await,
        DeleteCommand::Show { request } => {
            let deletion = desk.store.deletion(request).await?;
            Ok(Reply::new(page(desk, &deletion).await?, row(desk, &deletion)))
        }
    }
}

/// Until when a recording is kept; none: for ever, or its session has not ended.
pub(crate) fn until(desk: &Desk, r: &KeptRecording) -> Option<Timestamp> {
    kept_until(&desk.site, &r.asset, r.zone.as_ref(), r.crown_jewel, r.ended_at?)
}

/// Recordings that have been kept long enough, held ones among them.
async fn all_due(desk: &Desk) -> Result<Vec<KeptRecording>, CliError> {
    let now = desk.now();
    let filter =
        RecordingFilter { ended_before: Some(now), deleted: Some(false), ..RecordingFilter::default() };
    let mut found = all_kept(&desk.store, filter).await?;
    found.retain(|r| until(desk, r).is_some_and(|until| until <= now));
    Ok(found)
}

/// `cofferdam recording due`
pub(crate) async fn due(desk: &Desk) -> Result<Reply, CliError> {
    let mut table = Table::new(&["id", "person", "account", "ended", "kept until", "held for"]);
    let mut rows = Vec::new();
    for r in all_due(desk).await? {
        let held = r.hold.as_ref().map_or("", |h| h.reason.as_str());
        table.row([
            r.session.to_string(),
            r.person.to_string(),
            format!("{}@{}", r.login, r.asset),
            shown(&desk.zone, r.ended_at),
            shown(&desk.zone, until(desk, &r)),
            held.to_owned(),
        ]);
        rows.push(json!({
            "id": r.session.to_string(), "user": r.person, "asset": r.asset, "node": r.node,
            "ended": utc_or_null(r.ended_at), "kept_until": utc_or_null(until(desk, &r)), "hold": hold_row(&r),
            "digest": r.digest,
        }));
    }
    Ok(Reply::list(&table, rows))
}

/// A hold for programs.
pub(crate) fn hold_row(r: &KeptRecording) -> Value {
    r.hold.as_ref().map_or(Value::Null, |h| json!({"by": h.by, "at": utc(h.at), "reason": h.reason}))
}

/// A deletion for programs.
pub(crate) fn deleted_row(d: &Deleted) -> Value {
    json!({
        "at": utc(d.at), "requested_by": d.requested_by, "approved_by": d.approved_by,
        "request": d.request.to_string(), "erased_at": utc_or_null(d.erased_at),
    })
}

/// A deletion in words.
pub(crate) fn deleted_words(desk: &Desk, d: &Deleted) -> String {
    let left = if d.erased_at.is_none() { "; its files are still to be erased" } else { "" };
    format!("deleted on {} by {} and {}{left}", desk.zone.show(d.at), d.requested_by, d.approved_by)
}

/// The hold stands in the store; a mark beside the file keeps it where the file goes.
pub(crate) async fn hold(desk: &Desk, args: &HoldArgs) -> Result<Reply, CliError> {
    let records = desk.records()?;
    let shelf = records.shelf();
    let file = args.id.to_string().parse::<RecordingId>().map_err(CliError::failed)?;
    let text = match (&args.person, args.lift) {
        (Some(person), true) => {
            let proof = Proof { person: person.clone(), proof_stdin: args.proof_stdin };
            may_lift(desk, person)?;
            let act = proof.demand(desk, "recording hold --lift", proof.prompt().as_mut()).await?;
            desk.store.lift_hold(&act, args.id, &args.reason).await?;
            shelf.lift_hold(&file).await?;
            format!("{} is held no longer", args.id)
        }
        _ => {
            let act = desk.act(&OnBehalf { person: args.person.clone() })?;
            desk.store.hold_recording(&act, args.id, &args.reason).await?;
            shelf.hold(&file, &args.reason).await?;
            format!("{} is held: nothing deletes it until the hold is lifted", args.id)
        }
    };
    Ok(Reply::new(text, json!({"id": args.id.to_string(), "held": !args.lift, "reason": args.reason})))
}

/// Asked before a code is spent; the store asks again.
fn may_lift(desk: &Desk, who: &Name) -> Result<(), CliError> {
    let person = desk.person(who)?;
    if person.is_active(desk.now()) && person.duties.iter().any(|d| d.lifts_holds()) {
        return Ok(());
    }
    Err(CliError::failed(format!("{who} may not lift a hold: investigators and security can")))
}

/// The duty that was named, else the one that the person holds, if it is one.
fn duty_of(person: &User, named: Option<Duty>) -> Result<Duty, CliError> {
    let mut held = person.duties.iter().copied().filter(|d| d.deletes());
    match (named, held.next(), held.next()) {
        (Some(duty), ..) | (None, Some(duty), None) => Ok(duty),
        (None, None, _) => Err(CliError::failed(format!(
            "{} holds no duty that deletes recordings: investigators and administrators do",
            person.name
        ))),
        _ => Err(CliError::failed(format!("{} holds both duties: say which with --duty", person.name))),
    }
}

async fn request(desk: &Desk, args: RequestArgs) -> Result<Reply, CliError> {
    let who = &args.proof.person;
    let person = desk.person(who)?;
    let duty = duty_of(person, args.duty)?;
    let mut wanted = Vec::new();
    if args.due {
        wanted = all_due(desk).await?;
        wanted.retain(|r| !is_held(desk, r) && r.person != *who && !r.lifters.contains(who));
        wanted.truncate(MOST_RECORDINGS);
        if wanted.is_empty() {
            return Err(CliError::failed(format!("nothing is due that {who} could ask to delete")));
        }
    }
    for id in args.ids {
        wanted.push(desk.store.recording(id).await?);
    }
    if let Some(held) = wanted.iter().find(|r| is_held(desk, r)) {
        return Err(CliError::failed(format!(
            "{} is held: leave it out, or have the hold lifted",
            held.session
        )));
    }
    let recordings: BTreeMap<_, _> = wanted.into_iter().map(|r| (r.session, r.digest)).collect();
    let make = |now: Timestamp| DeletionRequest {
        id: DeletionId::new(now, &mut rand::rng()),
        requested_by: who.clone(),
        duty,
        requested_at: now,
        expires: now.plus_seconds(DELETION_SECONDS),
        reason: args.reason.trim().to_owned(),
        recordings: recordings.clone(),
    };
    // Checked before anybody is asked for a code, which would be spent for nothing.
    let now = desk.now();
    make(now).validate(person, now)?;
    let act = args.proof.demand(desk, "recording delete request", args.proof.prompt().as_mut()).await?;
    let request = make(act.at);
    desk.store.request_deletion(&act, &request).await?;
    let deletion = Deletion { request, standing: DeletionStanding::Waiting };
    let text = format!(
        "{}\nNothing is deleted yet. A second person, of the other duty, agrees to exactly this list:\n  \
         cofferdam recording delete approve {} --as PERSON",
        page(desk, &deletion).await?,
        deletion.request.id
    );
    Ok(Reply::new(text, row(desk, &deletion)))
}

/// Held in the store, or by a mark beside the file (from before the store knew of holds, or brought with the file).
fn is_held(desk: &Desk, r: &KeptRecording) -> bool {
    let mark = |id: RecordingId| hold_of(&desk.context.recording_path(&id));
    // A mark that cannot be read holds.
    r.hold.is_some() || !matches!(r.session.to_string().parse().map(mark), Ok(Ok(None)))
}

async fn approve(desk: &Desk, args: &ApproveArgs) -> Result<Reply, CliError> {
    let deletion = desk.store.deletion(args.request).await?;
    let shown = deletion.request.digest();
    if args.digest.is_some_and(|d| d != shown) {
        return Err(CliError::failed(format!(
            "the request has digest {shown}, not the one given: read it again with `cofferdam recording delete show {}`",
            args.request
        )));
    }
    let person = desk.person(&args.proof.person)?;
    let duty = duty_of(person, args.duty)?;
    // Tried on a copy first: a code is not spent on what the rules refuse anyway.
    deletion.clone().approve(person, duty, shown, desk.now())?;
    if !args.proof.proof_stdin {
        let page = page(desk, &deletion).await?;
        writeln!(std::io::stderr(), "{page}").map_err(CliError::io("standard error"))?;
    }
    let act = args.proof.demand(desk, "recording delete approve", args.proof.prompt().as_mut()).await?;
    let done = desk.store.approve_deletion(&act, args.request, duty, shown).await?;
    let mut text = format!("{} recordings are deleted", done.request.recordings.len());
    text.push_str(&erase(desk).await?);
    Ok(Reply::new(text, row(desk, &done)))
}

/// Erases the files of this machine; what could not be erased is said and tried again by the gateway.
async fn erase(desk: &Desk) -> Result<String, CliError> {
    let config = &desk.context.config;
    let actor = Actor::operator(desk.operator());
    let archive = desk.context.archive()?;
    let places = Places { folder: &config.recordings.dir, archive: archive.as_ref() };
    let erased = erase_deleted(&desk.store, places, &config.site.node, &actor, &desk.context.clock).await?;
    let mut text = format!("; files of {} erased on this machine", erased.done);
    for (id, why) in &erased.left {
        text.push_str(&format!("\nthe files of {id} are left and will be tried again: {why}"));
    }
    Ok(text)
}

async fn refuse(desk: &Desk, args: &RefuseArgs) -> Result<Reply, CliError> {
    let act: Act = desk.own_act().on_behalf_of(Some(&args.person));
    let done = desk.store.refuse_deletion(&act, args.request, &args.person, &args.reason).await?;
    Ok(Reply::new("refused", row(desk, &done)))
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let mut table = Table::new(&[
        "id",
        "state",
        "requested by",
        "as",
        "at",
        "until",
        "recordings",
        "decided by",
        "reason",
    ]);
    let mut rows = Vec::new();
    for d in desk.store.deletions(0).await? {
        let (by, _) = decided(&d);
        table.row([
            d.request.id.to_string(),
            d.phase(desk.now()).to_owned(),
            d.request.requested_by.to_string(),
            d.request.duty.as_str().to_owned(),
            desk.zone.show(d.request.requested_at),
            desk.zone.show(d.request.expires),
            d.request.recordings.len().to_string(),
            by.map_or("-".to_owned(), ToString::to_string),
            d.request.reason.chars().take(48).collect(),
        ]);
        rows.push(row(desk, &d));
    }
    Ok(Reply::list(&table, rows))
}

fn decided(d: &Deletion) -> (Option<&Name>, Option<Timestamp>) {
    match &d.standing {
        DeletionStanding::Waiting => (None, None),
        DeletionStanding::CarriedOut { by, at, .. } | DeletionStanding::Refused { by, at, .. } => {
            (Some(by), Some(*at))
        }
    }
}

/// A request for people: exactly the text that is agreed to, then what each recording is and what became of it all.
async fn page(desk: &Desk, d: &Deletion) -> Result<String, CliError> {
    let now = desk.now();
    let mut text = d.request.canonical_text();
    text.push_str(&format!("\ndigest      {}\nstate       {}", d.request.digest(), d.phase(now)));
    if let (Some(by), Some(at)) = decided(d) {
        text.push_str(&format!("\ndecided     by {by}, {}", desk.zone.show(at)));
    }
    if let DeletionStanding::Refused { reason, .. } = &d.standing {
        text.push_str(&format!("\nrefused     {reason}"));
    }
    for id in d.request.recordings.keys() {
        let r = desk.store.recording(*id).await?;
        let kept = match until(desk, &r) {
            Some(until) if until <= now => format!("due since {}", desk.zone.show(until)),
            Some(until) => format!("NOT DUE until {}", desk.zone.show(until)),
            None => "NEVER DUE".to_owned(),
        };
        let state = match (&r.deleted, &r.hold) {
            (Some(deleted), _) => deleted_words(desk, deleted),
            (None, Some(hold)) => format!("HELD for {}", hold.reason),
            (None, None) => kept,
        };
        text.push_str(&format!(
            "\n{id}  {} as {}@{}, ended {}: {state}",
            r.person,
            r.login,
            r.asset,
            shown(&desk.zone, r.ended_at)
        ));
    }
    Ok(clean(&text))
}

fn row(desk: &Desk, d: &Deletion) -> Value {
    let request = &d.request;
    let recordings: Vec<Value> = request
        .recordings
        .iter()
        .map(|(id, digest)| json!({"id": id.to_string(), "digest": digest}))
        .collect();
    let (by, at) = decided(d);
    json!({
        "id": request.id.to_string(),
        "state": d.phase(desk.now()),
        "requested_by": request.requested_by,
        "duty": request.duty.as_str(),
        "requested_at": utc(request.requested_at),
        "expires": utc(request.expires),
        "reason": request.reason,
        "recordings": recordings,
        "digest": request.digest().to_string(),
        "decided_by": by,
        "decided_at": utc_or_null(at),
    })
}
