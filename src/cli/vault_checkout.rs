//! Check-outs: a person sees a secret for a while. It is shown on the terminal, once, and never a part of what a command
//! answers.

use std::io::{IsTerminal as _, Write};

use clap::Args;
use cofferdam_access::{
    checking_out::{self, CheckingOutError, Coming},
    checkout::{Checkout, CheckoutRefusal, CheckoutRequest, CheckoutStanding, Followed},
    decision::{DeviceKind, SecondFactor, SecondFactorKind},
    ids::{CheckoutId, Name},
    local_time::parse_duration,
    people::Duty,
    site::AccountRef,
    store::CheckoutFilter,
    window::RequestDigest,
};
use cofferdam_vault::{SecretBytes, Vault};
use serde_json::{Value, json};

use super::{
    account::reference,
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, clean, joined, shown, utc, utc_or_null},
    prompt::Prompt,
    proof::Proof,
    window::{approving_duty, digest},
};
use crate::checkouts;

/// Which secret, why and for how long; or a request that others have agreed to.
#[derive(Debug, Args)]
pub(crate) struct CheckoutArgs {
    /// The account, LOGIN@ASSET
    #[arg(value_parser = reference, required_unless_present = "request", conflicts_with = "request")]
    account: Option<AccountRef>,
    /// Why, in plain words; those who agree read it, and it is kept
    #[arg(long, required_unless_present = "request", conflicts_with = "request")]
    reason: Option<String>,
    /// For how long, up to 8h
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", conflicts_with = "request")]
    duration: String,
    /// See the secret of one's own request, to which two others have agreed
    #[arg(long, value_name = "ID")]
    request: Option<CheckoutId>,
    /// Write the secret to standard output although that is no terminal
    #[arg(long)]
    to_pipe: bool,
    #[command(flatten)]
    proof: Proof,
}

/// Returning.
#[derive(Debug, Args)]
pub(crate) struct CheckinArgs {
    /// The check-out's id, or the account, LOGIN@ASSET
    #[arg(value_name = "ID|LOGIN@ASSET")]
    which: String,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Which check-outs.
#[derive(Debug, Args)]
pub(crate) struct CheckoutsArgs {
    /// Only those that are waited for or open
    #[arg(long)]
    open: bool,
    /// Only of this person
    #[arg(long, value_name = "PERSON")]
    user: Option<Name>,
}

/// Agreeing.
#[derive(Debug, Args)]
pub(crate) struct AgreeArgs {
    /// The request's id
    id: CheckoutId,
    /// As what: operations or security [default: the one that the person holds and is missing]
    #[arg(long, value_parser = approving_duty)]
    duty: Option<Duty>,
    /// A remark; whoever asked reads it
    #[arg(long, value_name = "TEXT", default_value = "")]
    remark: String,
    /// Only if the request has this digest (for scripts that showed the text elsewhere)
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<RequestDigest>,
    #[command(flatten)]
    proof: Proof,
}

/// Refusing.
#[derive(Debug, Args)]
pub(crate) struct RefuseArgs {
    /// The request's id
    id: CheckoutId,
    /// The person on whose behalf
    #[arg(long = "as", value_name = "PERSON")]
    person: Name,
    /// Why; whoever asked reads it
    #[arg(long)]
    reason: String,
}

impl From<CheckingOutError> for CliError {
    fn from(e: CheckingOutError) -> Self {
        match e {
            CheckingOutError::Store(e) => e.into(),
            e => Self::failed(e.to_string()),
        }
    }
}

impl From<CheckoutRefusal> for CliError {
    fn from(e: CheckoutRefusal) -> Self {
        Self::failed(e.to_string())
    }
}

/// Where a secret is shown.
pub(crate) struct Screen<'w> {
    out: &'w mut dyn Write,
    terminal: bool,
}

impl<'w> Screen<'w> {
    /// Writes to `out`, which is a terminal or not.
    pub(crate) fn new(out: &'w mut dyn Write, terminal: bool) -> Self {
        Self { out, terminal }
    }

    /// Whether a secret may be shown there; asked before anybody gives a code.
    pub(super) fn admits(&self, to_pipe: bool) -> Result<(), CliError> {
        if self.terminal || to_pipe {
            return Ok(());
        }
        Err(CliError::failed(
            "a secret is shown on a terminal only, and standard output is none: run this on one, or give --to-pipe",
        ))
    }

    /// Shows the secret. A terminal is not steered by what was once typed into a vault.
    pub(super) fn show(&mut self, secret: &SecretBytes) -> Result<(), CliError> {
        let failed = CliError::io("standard output");
        if !self.terminal {
            return self.out.write_all(secret.expose()).and_then(|()| self.out.flush()).map_err(failed);
        }
        let text = secret.to_text().ok().filter(|text| clean(text.expose()) == text.expose());
        let Some(text) = text else {
            return Err(CliError::failed(
                "it holds characters that a terminal cannot show: return it, and see it with --to-pipe",
            ));
        };
        let line = text.expose().trim_end_matches('\n').as_bytes();
        self.out
            .write_all(line)
            .and_then(|()| self.out.write_all(b"\n"))
            .and_then(|()| self.out.flush())
            .map_err(failed)
    }
}

/// Checks out, and shows the secret on standard output.
pub(super) async fn checkout(desk: &Desk, args: &CheckoutArgs) -> Result<Reply, CliError> {
    let mut out = std::io::stdout().lock();
    let terminal = out.is_terminal();
    checkout_on(desk, args, args.proof.prompt().as_mut(), &mut Screen::new(&mut out, terminal)).await
}

/// The same, with proofs from `prompt`, on that screen.
pub(crate) async fn checkout_on(
    desk: &Desk,
    args: &CheckoutArgs,
    prompt: &mut dyn Prompt,
    screen: &mut Screen<'_>,
) -> Result<Reply, CliError> {
    if let Some(id) = args.request {
        screen.admits(args.to_pipe)?;
        // A code is not spent on what is over anyway.
        desk.store.checkout(id).await?.waits(desk.now())?;
        let act = args.proof.demand(desk, "vault checkout", prompt).await?;
        return see(desk, &act, id, screen).await;
    }
    let (Some(account), Some(reason)) = (&args.account, &args.reason) else {
        return Err(CliError::failed("name an account, and say why"));
    };
    let who = &args.proof.person;
    let person = desk.person(who)?;
    let seconds = parse_duration(&args.duration)?;
    let make = |now| CheckoutRequest::new(account, who, seconds, reason, now, &mut rand::rng());
    let snapshot = desk.snapshot().await?;
    let (coming, now) = (coming(), desk.now());
    let waits = checking_out::check(&snapshot, &coming, person, &make(now), now)?;
    if !waits {
        screen.admits(args.to_pipe)?;
    }
    let act = args.proof.demand(desk, "vault checkout", prompt).await?;
    let asked = checking_out::ask(&desk.store, &snapshot, &act, &coming, person, &make(act.at)).await?;
    if !waits {
        return see(desk, &act, asked.id(), screen).await;
    }
    let id = asked.id();
    let text = format!(
        "{}\nNothing is shown yet. Two other people, one of operations and one of security, agree to exactly this text:\n  \
         cofferdam vault agree {id} --as PERSON\nThen, within a day: cofferdam vault checkout --request {id} --as {who}",
        page(desk, &asked),
    );
    Ok(Reply::new(text, row(desk, &asked)))
}

/// Nobody's address: this is the gateway's own command line.
const fn coming() -> Coming {
    Coming { source: None, first: DeviceKind::Password }
}

/// Opens the check-out and shows its secret.
async fn see(
    desk: &Desk,
    act: &cofferdam_access::audit::Act,
    id: CheckoutId,
    screen: &mut Screen<'_>,
) -> Result<Reply, CliError> {
    desk.store.expire_checkouts(&desk.own_act()).await?;
    let second = SecondFactor { kind: SecondFactorKind::Totp, at: act.at, windows: Default::default() };
    let snapshot = desk.snapshot().await?;
    // Opened before the store says that it is shown: a vault that is shut leaves nothing behind.
    let opener = match desk.context.running_vault_if_any()? {
        Some(client) => checkouts::Opener::Running(client),
        None => checkouts::Opener::Here(Box::new(Vault::new(desk.context.sealer()?, None))),
    };
    let opened = checking_out::open(&desk.store, &snapshot, act, &coming(), second, id).await?;
    let secret = checkouts::show(opener, &desk.store, act, &opened)
        .await
        .map_err(|e| CliError::failed(e.to_string()))?;
    let request = &opened.checkout.request;
    eprintln!(
        "cofferdam: the secret of {} until {}; return it with `cofferdam vault checkin {id}`",
        request.account,
        shown(&desk.zone, opened.checkout.shown.as_ref().map(|s| s.until)),
    );
    screen.show(&secret)?;
    Ok(Reply::nothing())
}

/// Returns a check-out.
pub(super) async fn checkin(desk: &Desk, args: &CheckinArgs) -> Result<Reply, CliError> {
    let act = desk.act(&args.on_behalf)?;
    let id = match args.which.parse::<CheckoutId>() {
        Ok(id) => id,
        Err(_) => open_one(desk, &args.which, args.on_behalf.person.as_ref()).await?,
    };
    let done = desk.store.return_checkout(&act, id).await?;
    let account = &done.request.account;
    let next = match &done.followed {
        Some(Followed::Rotation(_)) => "the vault changes it now".to_owned(),
        _ => format!(
            "the vault does not change it by itself: change it on the target by hand, then run `cofferdam account \
             set-secret {account}`"
        ),
    };
    Ok(Reply::new(format!("the secret of {account} is returned; {next}"), row(desk, &done)))
}

/// The one open check-out of an account.
async fn open_one(desk: &Desk, text: &str, person: Option<&Name>) -> Result<CheckoutId, CliError> {
    let account = reference(text).map_err(|_| CliError::failed("name a check-out's id, or LOGIN@ASSET"))?;
    let filter = CheckoutFilter { state: Some("open"), person: person.cloned(), ..CheckoutFilter::default() };
    let open = desk.store.checkouts(&filter).await?;
    let ids: Vec<CheckoutId> =
        open.iter().filter(|c| c.request.account == account).map(Checkout::id).collect();
    match ids.as_slice() {
        [one] => Ok(*one),
        [] => Err(CliError::failed(format!(
            "{account} is not checked out: `cofferdam vault checkouts --open` says what is"
        ))),
        several => Err(CliError::failed(format!(
            "{account} is checked out {} times ({}): say which, or of whom with --as",
            several.len(),
            joined(several)
        ))),
    }
}

/// Another person agrees.
pub(super) async fn agree(desk: &Desk, args: &AgreeArgs) -> Result<Reply, CliError> {
    agree_by(desk, args, args.proof.prompt().as_mut()).await
}

/// The same, with proofs from `prompt`.
pub(crate) async fn agree_by(
    desk: &Desk,
    args: &AgreeArgs,
    prompt: &mut dyn Prompt,
) -> Result<Reply, CliError> {
    let checkout = desk.store.checkout(args.id).await?;
    let digest = checkout.request.digest();
    if args.digest.is_some_and(|d| d != digest) {
        return Err(CliError::failed(format!(
            "the request has digest {digest}, not the one given: read it again with `cofferdam vault checkouts --json`"
        )));
    }
    let person = desk.person(&args.proof.person)?;
    let held = || person.duties.iter().copied().find(|d| d.approves());
    let duty = args.duty.or_else(|| checkout.open_duty(person)).or_else(held).ok_or_else(|| {
        CliError::failed(format!(
            "{} holds no duty that agrees to check-outs: operations and security do",
            person.name
        ))
    })?;
    // Tried on a copy first: a code is not spent on what the rules refuse anyway.
    checkout.clone().agree(person, duty, digest, &args.remark, desk.now())?;
    if !args.proof.proof_stdin {
        writeln!(std::io::stderr(), "{}", page(desk, &checkout)).map_err(CliError::io("standard error"))?;
    }
    let act = args.proof.demand(desk, "vault agree", prompt).await?;
    let done = desk.store.agree_to_checkout(&act, args.id, duty, digest, &args.remark).await?;
    let text = match done.phase(act.at) {
        "agreed" => format!("agreed to by two: {} may see it within a day", done.request.person),
        _ => format!("agreed as {}; the other duty is still missing", duty.as_str()),
    };
    Ok(Reply::new(text, row(desk, &done)))
}

/// Somebody says no.
pub(super) async fn refuse(desk: &Desk, args: &RefuseArgs) -> Result<Reply, CliError> {
    let act = desk.act(&OnBehalf { person: Some(args.person.clone()) })?;
    let done = desk.store.refuse_checkout(&act, args.id, &args.person, &args.reason).await?;
    Ok(Reply::new("refused", row(desk, &done)))
}

/// Check-outs, the newest first.
pub(super) async fn list(desk: &Desk, args: &CheckoutsArgs) -> Result<Reply, CliError> {
    let now = desk.now();
    let filter = CheckoutFilter { person: args.user.clone(), ..CheckoutFilter::default() };
    let mut table = Table::new(&["id", "state", "account", "person", "asked", "until", "agreed", "reason"]);
    let mut rows = Vec::new();
    for one in desk.store.checkouts(&filter).await? {
        let phase = one.phase(now);
        let waits = matches!(one.standing, CheckoutStanding::Waiting | CheckoutStanding::Open);
        if args.open && (!waits || phase == "lapsed") {
            continue;
        }
        let request = &one.request;
        table.row([
            request.id.to_string(),
            phase.to_owned(),
            request.account.to_string(),
            request.person.to_string(),
            desk.zone.show(request.requested_at),
            shown(&desk.zone, one.shown.as_ref().map(|s| s.until)),
            joined(one.agreements.iter().map(|a| &a.by)),
            request.reason.chars().take(48).collect(),
        ]);
        rows.push(row(desk, &one));
    }
    Ok(Reply::list(&table, rows))
}

/// A request for people: exactly the text that is agreed to, then what became of it.
fn page(desk: &Desk, checkout: &Checkout) -> String {
    let request = &checkout.request;
    let mut text = request.canonical_text();
    text.push_str(&format!("\ndigest      {}\nstate       {}", request.digest(), checkout.phase(desk.now())));
    for a in &checkout.agreements {
        text.push_str(&format!("\nagreed      by {} as {}, {}", a.by, a.duty.as_str(), desk.zone.show(a.at)));
        if let Some(remark) = &a.remark {
            text.push_str(&format!(": {remark}"));
        }
    }
    clean(&text)
}

/// A check-out for programs. Never the secret.
fn row(desk: &Desk, checkout: &Checkout) -> Value {
    let request = &checkout.request;
    let agreed: Vec<Value> = checkout
        .agreements
        .iter()
        .map(|a| json!({"by": a.by, "duty": a.duty.as_str(), "at": utc(a.at), "remark": a.remark}))
        .collect();
    json!({
        "id": request.id.to_string(),
        "state": checkout.phase(desk.now()),
        "account": request.account,
        "user": request.person,
        "reason": request.reason,
        "seconds": request.seconds,
        "requested_at": utc(request.requested_at),
        "expires": utc(request.expires),
        "digest": request.digest().to_string(),
        "text": request.canonical_text(),
        "agreed": agreed,
        "shown_at": utc_or_null(checkout.shown.as_ref().map(|s| s.at)),
        "until": utc_or_null(checkout.shown.as_ref().map(|s| s.until)),
        "version": checkout.shown.as_ref().map(|s| s.version),
        "rotated": checkout.followed.as_ref().map(|f| matches!(f, Followed::Rotation(_))),
    })
}
