//! Proof that a person is there: their password and a code that was never used.

use clap::Args;
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::Name,
    password::{Costs, StoredPassword, verify_or_dummy},
    people::User,
    store::{CodeUse, TallyKey},
};
use zeroize::Zeroizing;

use super::{
    desk::Desk,
    error::CliError,
    prompt::{Prompt, StandardInput, Terminal},
};

/// Failures of one operator for one person before the next attempt has to wait …
const FREE_ATTEMPTS: u64 = 5;
/// … for so long after the last, seconds. The person's other ways in are not touched: nobody is locked out by this.
const PAUSE_SECONDS: i64 = 60;

/// Who opens something, and how they prove to be there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Proof {
    /// The person who does this, and who proves it with password and code
    #[arg(long = "as", value_name = "PERSON")]
    pub(crate) person: Name,
    /// Read password and code from standard input, a line each, instead of asking on the terminal
    #[arg(long)]
    pub(crate) proof_stdin: bool,
}

impl Proof {
    /// Where password and code come from.
    pub(crate) fn prompt(&self) -> Box<dyn Prompt> {
        if self.proof_stdin { Box::new(StandardInput::new()) } else { Box::new(Terminal) }
    }

    /// Asks for password and code, and answers the person's own act.
    pub(crate) async fn demand(
        &self,
        desk: &Desk,
        what: &str,
        prompt: &mut dyn Prompt,
    ) -> Result<Act, CliError> {
        prove(desk, &self.person, what, prompt).await
    }
}

/// Checks password and code of `who`, uses the code up, and answers an act in their name.
pub(crate) async fn prove(
    desk: &Desk,
    who: &Name,
    what: &str,
    prompt: &mut dyn Prompt,
) -> Result<Act, CliError> {
    let person = desk.person(who)?;
    let tally = TallyKey::Source(format!("command:{}:{who}", desk.operator()));
    throttle(desk, &tally).await?;
    let password = prompt.secret(&format!("password of {who}"))?;
    let code = prompt.secret(&format!("code of {who}"))?;
    // The code is checked against the moment at which it was given, not at which the question was asked.
    let now = desk.now();
    if let Some(step) = checks_out(desk, person, &password, &code, now).await? {
        let event =
            AuditEvent::new(AuditKind::SecondFactorUsed, who).with("for", what).with("at", "command line");
        let act = desk.act_of(who, now);
        if desk.store.use_totp_step(&act, who, step, std::slice::from_ref(&tally), event).await?
            == CodeUse::Accepted
        {
            return Ok(act);
        }
    }
    let event = AuditEvent::new(AuditKind::LoginFailed, who).with("for", what).with("at", "command line");
    desk.store.note_failure(&desk.own_act(), &[tally], 15 * 60, event).await?;
    Err(CliError::NotProved(format!(
        "password or code of {who} is wrong, or the code was used before: wait for the next code and try again"
    )))
}

async fn throttle(desk: &Desk, tally: &TallyKey) -> Result<(), CliError> {
    let tallies = desk.store.tallies(std::slice::from_ref(tally)).await?;
    let Some(Some(tally)) = tallies.first() else { return Ok(()) };
    let left = tally.last_at.plus_seconds(PAUSE_SECONDS).since(desk.now()) / 1_000_000;
    // A clock that went back must not make the pause longer than it is.
    if tally.failures >= FREE_ATTEMPTS && (1..=PAUSE_SECONDS).contains(&left) {
        return Err(CliError::NotProved(format!("too many attempts failed: try again in {left} s")));
    }
    Ok(())
}

/// The step of the code, if everything fits. The same work is done for people who have no password.
async fn checks_out(
    desk: &Desk,
    person: &User,
    password: &Zeroizing<String>,
    code: &Zeroizing<String>,
    now: Timestamp,
) -> Result<Option<u64>, CliError> {
    let kept = desk.store.credentials(&person.name).await?;
    let hash = kept.as_ref().and_then(|k| k.password_hash.as_ref());
    let stored = hash.and_then(|h| StoredPassword::from_phc(h.to_string()).ok());
    let known = verify_or_dummy(stored.as_ref(), password.as_bytes(), Costs::OWASP);
    let Some(kept) = kept else { return Ok(None) };
    let Some(sealed) = &kept.totp_sealed else { return Ok(None) };
    let step = desk.context.factors()?.step_of(&person.name, sealed, code, now, Some(kept.totp_step));
    Ok(step.filter(|_| known && person.is_active(now)))
}
