//! Access windows: asked for, approved, refused, withdrawn, revoked, shortened, extended.

use std::io::Write as _;

use clap::{Args, Subcommand};
use cofferdam_access::{
    audit::Act,
    ids::{Name, WindowId},
    local_time::time_left,
    people::{Duty, User},
    site::{AccountRef, PlantState},
    store::{StoredWindow, WindowFilter},
    window::{ApprovalStep, Limits, Operation, RequestDigest, Window, WindowRequest},
    windowing,
};
use serde_json::Value;

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, Table, clean, joined, unwritten},
    prompt::{Prompt, Terminal},
    proof::Proof,
};
use crate::forms;

/// `cofferdam window …`
#[derive(Debug, Subcommand)]
pub(crate) enum WindowCommand {
    /// Ask for a window (password and code of the person who asks)
    Request(RequestArgs),
    /// Approve exactly the request that is shown (password and code of the approver)
    Approve(ApproveArgs),
    /// Refuse a request, for good
    Refuse(RefuseArgs),
    /// Take one's own request back
    Withdraw(PersonArgs),
    /// End an approved window for good; its sessions are cut
    Revoke(ReasonArgs),
    /// Bring the end of an approved window forward
    Shorten(ShortenArgs),
    /// Ask for more time: the same work, with fresh approvals (password and code of the person who asks)
    Extend(ExtendArgs),
    /// Windows, the newest first
    List(ListArgs),
    /// One window: the text that is approved, and its digest
    Show {
        /// The window's id
        id: WindowId,
    },
}

/// What is asked for. Times are in the site's zone: `22:00`, `tomorrow 06:00`, `2026-11-23 22:00`, `+4h`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    proof: Proof,
    /// Who may use it [default: the person who asks]
    #[arg(long = "user", value_name = "PERSON")]
    users: Vec<Name>,
    /// An account that may be used; several may be given
    #[arg(long = "account", value_name = "LOGIN@ASSET", required = true, value_parser = account)]
    accounts: Vec<AccountRef>,
    /// A further asset whose endpoints may be reached through forwards
    #[arg(long = "forward", value_name = "ASSET")]
    forwards: Vec<Name>,
    /// What may be done: view, operate, program
    #[arg(long = "operation", value_name = "OPERATION", required = true, value_parser = operation)]
    operations: Vec<Operation>,
    /// Why, in plain words
    #[arg(long)]
    purpose: String,
    /// The work order's number
    #[arg(long, default_value = "")]
    work_order: String,
    /// First moment
    #[arg(long, value_name = "TIME", default_value = "now")]
    start: String,
    /// First moment that is no longer inside; `+4h` counts from the start
    #[arg(long, value_name = "TIME")]
    end: String,
    /// A state of the plant in which it may be used [default: any but emergency]
    #[arg(long = "plant-state", value_name = "STATE", value_parser = super::plant::state)]
    plant_states: Vec<PlantState>,
    /// Most bytes of files, all sessions together
    #[arg(long, value_name = "N")]
    file_bytes: Option<u64>,
    /// A path that file transfer may touch (`*` within a name, `**` across folders) [default: any]
    #[arg(long = "path", value_name = "PATTERN")]
    paths: Vec<String>,
    /// Files may be read but not written
    #[arg(long)]
    read_only_files: bool,
}

/// Approving.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The window's id
    id: WindowId,
    #[command(flatten)]
    proof: Proof,
    /// As what: operations or security
    #[arg(long, value_parser = approving_duty)]
    duty: Duty,
    /// A remark; the second approver and whoever asked read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    remark: String,
    /// Only if the request has this digest (for scripts that showed the text elsewhere)
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<RequestDigest>,
}

/// Refusing.
#[derive(Debug, Args)]
pub(crate) struct RefuseArgs {
    #[command(flatten)]
    common: ReasonArgs,
    /// As what [default: the approving duty that the person holds]
    #[arg(long, value_parser = approving_duty)]
    duty: Option<Duty>,
}

/// A window and the person for whom something is done to it.
#[derive(Debug, Args)]
pub(crate) struct PersonArgs {
    /// The window's id
    id: WindowId,
    /// The person on whose behalf
    #[arg(long = "as", value_name = "PERSON")]
    person: Name,
}

/// The same with a reason.
#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    #[command(flatten)]
    which: PersonArgs,
    /// Why; the people concerned read it
    #[arg(long)]
    reason: String,
}

/// Shortening.
#[derive(Debug, Args)]
pub(crate) struct ShortenArgs {
    #[command(flatten)]
    which: PersonArgs,
    /// The new end, in the site's zone
    #[arg(long, value_name = "TIME")]
    end: String,
}

/// Extending.
#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// The id of the window to extend
    id: WindowId,
    #[command(flatten)]
    proof: Proof,
    /// The new end, in the site's zone; `+2h` counts from the present end
    #[arg(long, value_name = "TIME")]
    end: String,
    /// Why more time is needed
    #[arg(long)]
    purpose: String,
}

/// Which windows.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that this person asked for or may use
    #[arg(long, value_name = "PERSON")]
    user: Option<Name>,
    /// Only those that lead to this asset
    #[arg(long)]
    asset: Option<Name>,
    /// Only those that are not over
    #[arg(long)]
    open: bool,
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
}

fn account(text: &str) -> Result<AccountRef, String> {
    AccountRef::try_from(text.to_owned())
        .map_err(|_| "write LOGIN@ASSET, as `cofferdam account list` does".into())
}

fn operation(text: &str) -> Result<Operation, String> {
    let known = Operation::ALL.into_iter().find(|o| o.as_str() == text);
    known.ok_or_else(|| "use view, operate or program".into())
}

/// A duty that approves, as an argument.
pub(crate) fn approving_duty(text: &str) -> Result<Duty, String> {
    let known = Duty::ALL.into_iter().find(|d| d.approves() && d.as_str() == text);
    known.ok_or_else(|| "use operations or security".into())
}

/// A digest as shown, as an argument.
pub(crate) fn digest(text: &str) -> Result<RequestDigest, String> {
    let mut bytes = [0; 32];
    let form = hex::decode_to_slice(text, &mut bytes);
    form.map(|()| RequestDigest(bytes)).map_err(|_| "a digest has 64 hexadecimal digits".into())
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: WindowCommand) -> Result<Reply, CliError> {
    let proof = match &command {
        WindowCommand::Request(args) => Some(&args.proof),
        WindowCommand::Approve(args) => Some(&args.proof),
        WindowCommand::Extend(args) => Some(&args.proof),
        _ => None,
    };
    // What asks for no proof never reads from it.
    let mut prompt = proof.map_or_else(|| Box::new(Terminal) as Box<dyn Prompt>, Proof::prompt);
    act(desk, command, prompt.as_mut()).await
}

/// The same, with proofs from `prompt`.
pub(crate) async fn act(
    desk: &Desk,
    command: WindowCommand,
    prompt: &mut dyn Prompt,
) -> Result<Reply, CliError> {
    match command {
        WindowCommand::Request(args) => request(desk, args, prompt).await,
        WindowCommand::Approve(args) => approve(desk, &args, prompt).await,
        WindowCommand::Refuse(args) => refuse(desk, &args).await,
        WindowCommand::Withdraw(args) => withdraw(desk, &args).await,
        WindowCommand::Revoke(args) => revoke(desk, &args).await,
        WindowCommand::Shorten(args) => shorten(desk, &args).await,
        WindowCommand::Extend(args) => extend(desk, args, prompt).await,
        WindowCommand::List(args) => list(desk, &args).await,
        WindowCommand::Show { id } => {
            let window = desk.store.window(id).await?.window;
            Ok(Reply::new(page(desk, &window), row(desk, &window)?))
        }
    }
}

async fn request(desk: &Desk, args: RequestArgs, prompt: &mut dyn Prompt) -> Result<Reply, CliError> {
    let now = desk.now();
    let start = desk.zone.parse(&args.start, now)?;
    let end = desk.zone.parse(&args.end, start)?;
    let who = &args.proof.person;
    let users = if args.users.is_empty() { vec![who.clone()] } else { args.users };
    let wanted = WindowRequest {
        id: WindowId::new(now, &mut rand::rng()),
        requested_by: who.clone(),
        requested_at: now,
        users: users.into_iter().collect(),
        accounts: args.accounts.into_iter().collect(),
        forwards: args.forwards.into_iter().collect(),
        operations: args.operations.into_iter().collect(),
        purpose: args.purpose.trim().to_owned(),
        work_order: args.work_order.trim().to_owned(),
        start,
        end,
        plant_states: args.plant_states.into_iter().collect(),
        limits: Limits {
            file_bytes: args.file_bytes,
            paths: args.paths,
            read_only_files: args.read_only_files,
        },
        extends: None,
    };
    // Checked before anybody is asked for a code, which would be spent for nothing.
    windowing::check(&desk.store, &desk.site, &wanted, now).await?;
    let act = args.proof.demand(desk, "window request", prompt).await?;
    keep_request(desk, &act, wanted).await
}

async fn extend(desk: &Desk, args: ExtendArgs, prompt: &mut dyn Prompt) -> Result<Reply, CliError> {
    let before = desk.store.window(args.id).await?.window;
    let end = desk.zone.parse(&args.end, before.effective_end())?;
    let (person, purpose) = (&args.proof.person, args.purpose.as_str());
    let make =
        async |now| windowing::extension(&desk.store, &desk.site, args.id, person, end, purpose, now).await;
    make(desk.now()).await?;
    let act = args.proof.demand(desk, "window extend", prompt).await?;
    keep_request(desk, &act, make(act.at).await?).await
}

async fn keep_request(desk: &Desk, act: &Act, request: WindowRequest) -> Result<Reply, CliError> {
    let window = windowing::request(&desk.store, act, &desk.site, request).await?;
    let text = format!(
        "{}\nIt opens when operations and security have each approved this text, by two people who neither asked for it nor \
         may use it:\n  cofferdam window approve {} --as PERSON --duty operations|security",
        page(desk, &window),
        window.id()
    );
    Ok(Reply::new(text, row(desk, &window)?))
}

async fn approve(desk: &Desk, args: &ApproveArgs, prompt: &mut dyn Prompt) -> Result<Reply, CliError> {
    let window = desk.store.window(args.id).await?.window;
    let shown = window.request.digest();
    if args.digest.is_some_and(|d| d != shown) {
        return Err(CliError::failed(format!(
            "the request has digest {shown}, not the one given: read it again with `cofferdam window show {}`",
            args.id
        )));
    }
    let person = desk.person(&args.proof.person)?;
    // Tried on a copy first: a code is not spent on what the rules refuse anyway.
    let _step: ApprovalStep =
        window.clone().approve_saying(person, args.duty, shown, &args.remark, desk.now())?;
    if !args.proof.proof_stdin {
        writeln!(std::io::stderr(), "{}", page(desk, &window)).map_err(CliError::io("standard error"))?;
    }
    let act = args.proof.demand(desk, "window approve", prompt).await?;
    let (window, step) =
        windowing::approve(&desk.store, &act, person, args.id, args.duty, shown, &args.remark).await?;
    let next = match step {
        ApprovalStep::Approved => {
            format!(
                "approved: open from {} to {}",
                desk.zone.show(window.request.start),
                desk.zone.show(window.effective_end())
            )
        }
        ApprovalStep::Waits { missing } => {
            format!("approved as {}; {} is still missing", args.duty.as_str(), missing.as_str())
        }
    };
    Ok(Reply::new(next, row(desk, &window)?))
}

/// The person on whose behalf the operator restricts something, and the operator's act for them.
fn behalf<'d>(desk: &'d Desk, which: &PersonArgs) -> Result<(&'d User, Act), CliError> {
    Ok((desk.person(&which.person)?, desk.own_act().on_behalf_of(Some(&which.person))))
}

async fn refuse(desk: &Desk, args: &RefuseArgs) -> Result<Reply, CliError> {
    let (which, reason) = (&args.common.which, &args.common.reason);
    let (person, act) = behalf(desk, which)?;
    let window = windowing::refuse(&desk.store, &act, person, which.id, args.duty, reason, None).await?;
    Ok(Reply::new("refused", row(desk, &window)?))
}

async fn withdraw(desk: &Desk, args: &PersonArgs) -> Result<Reply, CliError> {
    let (person, act) = behalf(desk, args)?;
    let window = windowing::withdraw(&desk.store, &act, person, args.id).await?;
    Ok(Reply::new("withdrawn", row(desk, &window)?))
}

async fn revoke(desk: &Desk, args: &ReasonArgs) -> Result<Reply, CliError> {
    let (person, act) = behalf(desk, &args.which)?;
    let window = windowing::revoke(&desk.store, &act, person, args.which.id, &args.reason).await?;
    Ok(Reply::new("revoked: its sessions are cut", row(desk, &window)?))
}

async fn shorten(desk: &Desk, args: &ShortenArgs) -> Result<Reply, CliError> {
    let end = desk.zone.parse(&args.end, desk.now())?;
    let (person, act) = behalf(desk, &args.which)?;
    let window = windowing::shorten(&desk.store, &act, person, args.which.id, end).await?;
    Ok(Reply::new(format!("it now ends {}", desk.zone.show(end)), row(desk, &window)?))
}

async fn list(desk: &Desk, args: &ListArgs) -> Result<Reply, CliError> {
    let filter = WindowFilter {
        person: args.user.clone(),
        asset: args.asset.clone(),
        limit: args.limit,
        ..WindowFilter::default()
    };
    let now = desk.now();
    let mut table =
        Table::new(&["id", "phase", "people", "accounts", "operations", "start", "end", "left", "purpose"]);
    let mut rows = Vec::new();
    for StoredWindow { window, .. } in desk.store.windows(&filter).await? {
        let phase = window.phase(now);
        if args.open && phase.is_final() {
            continue;
        }
        let request = &window.request;
        let left = if phase.is_final() { "-".to_owned() } else { time_left(now, window.effective_end()) };
        table.row([
            request.id.to_string(),
            phase.as_str().to_owned(),
            joined(&request.users),
            joined(&request.accounts),
            joined(request.operations.iter().map(|o| o.as_str())),
            desk.zone.show(request.start),
            desk.zone.show(window.effective_end()),
            left,
            request.purpose.chars().take(48).collect(),
        ]);
        rows.push(row(desk, &window)?);
    }
    Ok(Reply::list(&table, rows))
}

/// A window for people: exactly the text that is approved, then what became of it.
fn page(desk: &Desk, window: &Window) -> String {
    let now = desk.now();
    let request = &window.request;
    let mut text = clean(&request.canonical_text());
    text.push_str(&format!(
        "\ndigest      {}\nin {}: from {} to {}\nphase       {}",
        request.digest(),
        desk.zone.name(),
        desk.zone.show(request.start),
        desk.zone.show(window.effective_end()),
        window.phase(now).as_str(),
    ));
    for a in &window.approvals {
        text.push_str(&format!("\napproved    by {} as {}, {}", a.by, a.duty.as_str(), desk.zone.show(a.at)));
        if let Some(remark) = &a.remark {
            text.push_str(&clean(&format!(": {remark}")));
        }
    }
    if let Some((what, by, reason)) = forms::verdict(&window.standing) {
        text.push_str(&clean(&format!("\n{what:<11} by {by}: {reason}")));
    }
    text
}

/// A window for programs.
fn row(desk: &Desk, window: &Window) -> Result<Value, CliError> {
    forms::window(window, desk.now()).map_err(unwritten)
}
