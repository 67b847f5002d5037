//! Sessions: what they are, why they were allowed, and orders to live ones.

use std::time::Duration;

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::Act,
    control,
    decision::DecisionRecord,
    ids::{Name, OrderId, SessionId},
    store::{OrderKind, SessionFilter, SessionRecord},
};
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, bytes, clean, joined, shown, unwritten},
    play,
    proof::Proof,
};
use crate::forms::{self, SessionInFull};

/// How long a command waits for the gateway to carry an order out.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(25);

/// `cofferdam session …`
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Sessions, the newest first
    List(ListArgs),
    /// One session: the decision with its five answers, orders, findings
    Show {
        /// The session's id
        id: SessionId,
    },
    /// Watch a live session in this terminal, less than a second behind
    Watch {
        /// The session's id
        id: SessionId,
        #[command(flatten)]
        on_behalf: OnBehalf,
    },
    /// Freeze a session both ways
    Suspend(OrderArgs),
    /// Let a suspended session go on (password and code of somebody with an approving duty)
    Resume(ResumeArgs),
    /// End a session now
    Kill(OrderArgs),
    /// Show a text to the person
    Message(MessageArgs),
}

/// Which sessions.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only of this person
    #[arg(long, value_name = "PERSON")]
    user: Option<Name>,
    /// Only to this asset
    #[arg(long)]
    asset: Option<Name>,
    /// Only those that have not ended
    #[arg(long)]
    open: bool,
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
}

/// An order to a session.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// The session's id
    id: SessionId,
    /// Why; the person concerned reads it
    #[arg(long, default_value = "")]
    reason: String,
    /// Give the order and do not wait until it is carried out
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Letting a session go on.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The session's id
    id: SessionId,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    /// Give the order and do not wait until it is carried out
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    proof: Proof,
}

/// A text for the person.
#[derive(Debug, Args)]
pub(crate) struct MessageArgs {
    /// The session's id
    id: SessionId,
    /// What to say
    text: String,
    /// Give the order and do not wait until it is carried out
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: SessionCommand) -> Result<Reply, CliError> {
    match command {
        SessionCommand::List(args) => list(desk, &args).await,
        SessionCommand::Show { id } => show(desk, id).await,
        SessionCommand::Watch { id, on_behalf } => watch(desk, id, &on_behalf).await,
        SessionCommand::Suspend(args) => {
            let act = desk.act(&args.on_behalf)?;
            order(desk, &act, args.id, OrderKind::Suspend, &args.reason, !args.no_wait).await
        }
        SessionCommand::Kill(args) => {
            let act = desk.act(&args.on_behalf)?;
            order(desk, &act, args.id, OrderKind::End, &args.reason, !args.no_wait).await
        }
        SessionCommand::Message(args) => {
            let act = desk.act(&args.on_behalf)?;
            order(desk, &act, args.id, OrderKind::Message, &args.text, !args.no_wait).await
        }
        SessionCommand::Resume(args) => {
            let session = desk.store.session(args.id).await?;
            control::may_resume(desk.person(&args.proof.person)?, &session, desk.now())?;
            let act = args.proof.demand(desk, "session resume", args.proof.prompt().as_mut()).await?;
            order(desk, &act, args.id, OrderKind::Resume, &args.reason, !args.no_wait).await
        }
    }
}

async fn order(
    desk: &Desk,
    act: &Act,
    session: SessionId,
    kind: OrderKind,
    reason: &str,
    wait: bool,
) -> Result<Reply, CliError> {
    let reason = control::text_of(kind, reason)?;
    let id = OrderId::new(act.at, &mut rand::rng());
    desk.store.order(act, id, session, kind, &reason).await?;
    let outcome = if wait { outcome_of(desk, session, id).await? } else { None };
    let text = match &outcome {
        Some(done) => format!("{}: {done}", kind.as_str()),
        None => format!("the order to {} is given; the gateway has not confirmed it yet", kind.as_str()),
    };
    Ok(Reply::new(
        text,
        json!({"id": id.to_string(), "session": session.to_string(), "order": kind.as_str(), "outcome": outcome}),
    ))
}

async fn outcome_of(desk: &Desk, session: SessionId, id: OrderId) -> Result<Option<String>, CliError> {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        let orders = desk.store.orders_of(session).await?;
        if let Some(done) = orders.into_iter().find(|o| o.id == id && o.done_at.is_some()) {
            return Ok(Some(done.outcome.unwrap_or_default()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

async fn list(desk: &Desk, args: &ListArgs) -> Result<Reply, CliError> {
    let filter = SessionFilter {
        person: args.user.clone(),
        asset: args.asset.clone(),
        open_only: args.open,
        limit: args.limit,
        ..SessionFilter::default()
    };
    let mut table =
        Table::new(&["id", "state", "person", "account", "protocol", "from", "started", "ended", "reason"]);
    let mut rows = Vec::new();
    for s in desk.store.sessions(&filter).await? {
        table.row([
            s.id.to_string(),
            s.state.as_str().to_owned(),
            s.person.to_string(),
            format!("{}@{}", s.login, s.asset),
            s.protocol.as_str().to_owned(),
            s.source.to_string(),
            desk.zone.show(s.started_at),
            shown(&desk.zone, s.ended_at),
            s.end_reason.clone().unwrap_or_default(),
        ]);
        rows.push(forms::session(&desk.context, &s));
    }
    Ok(Reply::list(&table, rows))
}

/// One session with all that is kept of why it was allowed.
async fn show(desk: &Desk, id: SessionId) -> Result<Reply, CliError> {
    let full = SessionInFull::read(&desk.store, id).await?;
    let json = full.json(&desk.context).map_err(unwritten)?;
    let SessionInFull { session, decisions, orders, findings } = full;
    let mut text = head(desk, &session);
    for d in &decisions {
        text.push_str(&match serde_json::from_str::<DecisionRecord>(&d.body) {
            Ok(record) => answers(desk, &record),
            Err(_) => format!("\n\ndecision {} is kept in a form that this program does not know", d.id),
        });
    }
    for o in &orders {
        let done = o.outcome.as_deref().unwrap_or("not yet carried out");
        let at = desk.zone.show(o.at);
        text.push_str(&format!(
            "\n\norder       {} by {}, {at}: {} ({done})",
            o.kind.as_str(),
            o.by,
            o.reason
        ));
    }
    for f in &findings {
        let at = desk.zone.show(f.at);
        text.push_str(&format!(
            "\n\nfinding     {} ({}), {at}: {}; {}",
            f.trigger, f.severity, f.text, f.response
        ));
    }
    Ok(Reply::new(clean(&text), json))
}

fn head(desk: &Desk, s: &SessionRecord) -> String {
    let or_dash = |o: Option<&str>| o.unwrap_or("-").to_owned();
    format!(
        "session     {}\nstate       {}\nperson      {}\naccount     {}@{} by {}\nfrom        {}, key {}\nstarted     {}\n\
         ended       {} {}\nnode        {}\nrecording   {}, digest {}\nbytes       {} up, {} down",
        s.id,
        s.state.as_str(),
        s.person,
        s.login,
        s.asset,
        s.protocol.as_str(),
        s.source,
        or_dash(s.device_key.as_deref()),
        desk.zone.show(s.started_at),
        shown(&desk.zone, s.ended_at),
        s.end_reason.as_deref().unwrap_or_default(),
        s.node,
        or_dash(s.recording.as_deref()),
        or_dash(s.recording_digest.as_deref()),
        bytes(s.bytes_up),
        bytes(s.bytes_down),
    )
}

/// The five answers in words.
fn answers(desk: &Desk, r: &DecisionRecord) -> String {
    let second = match &r.who.factors.second {
        Some(s) => format!("{} at {}", s.kind.as_str(), desk.zone.show(s.at)),
        None => "none".to_owned(),
    };
    let name = |n: Option<&Name>| n.map_or("unknown", Name::as_str).to_owned();
    let approvals = joined(r.context.approvals.iter().map(|a| format!("{} as {}", a.by, a.duty.as_str())));
    let dash = |t: &str| if t.is_empty() { "-".to_owned() } else { t.to_owned() };
    let limits = &r.resource.limits;
    format!(
        "\n\ndecision    {} for {:?}, {}\n\
         1 who       {} {} of {}, as {}; factors: {} and {second}{}\n\
         2 device    {} from {} in zone {}; key {}; says it is {:?}\n\
         3 resource  {} by {} in zone {}{}; allowed: {}; limits: {}{}{}\n\
         4 context   plant {}; window {} until {}, approved by {approvals}; conduit {}; {}; purpose: {}; work order: {}\n\
         5 behaviour {}{}\n\
         policies    {}\n\
         reasons     {}",
        r.outcome.as_str(),
        r.action,
        desk.zone.show(r.at),
        r.who.user,
        if r.who.full_name.is_empty() { String::new() } else { format!("({})", r.who.full_name) },
        name(r.who.organisation.as_ref()),
        joined(r.who.duties.iter().map(|d| d.as_str())),
        r.who.factors.first.as_str(),
        if r.who.second_factor_fresh { "" } else { ", which no longer counts" },
        r.device.device.kind.as_str(),
        r.device.source,
        name(r.device.zone.as_ref()),
        r.device.device.key_fingerprint.as_deref().unwrap_or("none"),
        r.device.device.client_version,
        r.resource.account.as_ref().map_or_else(|| r.resource.asset.to_string(), ToString::to_string),
        r.resource.protocol.as_str(),
        name(r.resource.zone.as_ref()),
        if r.resource.crown_jewel { ", a crown jewel" } else { "" },
        joined(r.resource.operations.iter().map(|o| o.as_str())),
        limits.file_bytes.map_or("any amount of files".to_owned(), |n| format!("{} of files", bytes(n))),
        if limits.paths.is_empty() { String::new() } else { format!(", only {}", limits.paths.join(" ")) },
        if limits.read_only_files { ", read only" } else { "" },
        r.context.plant_state.map_or("unknown", |s| s.as_str()),
        r.context.window.map_or("none".to_owned(), |w| w.to_string()),
        shown(&desk.zone, r.context.window_end),
        name(r.context.conduit.as_ref()),
        r.context.local_time,
        dash(&r.context.purpose),
        dash(&r.context.work_order),
        if r.behaviour.fits { "fits" } else { "does NOT fit" },
        r.behaviour.notes.iter().map(|n| format!("; {n}")).collect::<String>(),
        joined(&r.policies),
        r.reasons.join("; "),
    )
}

async fn watch(desk: &Desk, id: SessionId, on_behalf: &OnBehalf) -> Result<Reply, CliError> {
    // Nobody watches unseen: without the entry there is no picture.
    let followed = desk.records()?.follow(&desk.act(on_behalf)?, id, None).await?;
    play::watch(followed)?;
    Ok(Reply::nothing())
}
