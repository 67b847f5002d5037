//! People: who they are comes from the site file; their passwords and second factors are set here.

use clap::{Args, Subcommand};
use cofferdam_access::{
    apply::Edit,
    ids::Name,
    local_time::parse_duration,
    password::{Costs, StoredPassword},
    people::User,
    recovery,
    store::{Credentials, Enrolment, EnrolmentOutcome, SecondFactorSetUp, invitation_digest, new_invitation},
    totp::TotpSecret,
};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, joined, shown, utc_or_null},
    prompt::{Prompt, StandardInput, Terminal},
};

/// `cofferdam user …`
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// All people
    List,
    /// One person
    Show {
        /// Their name
        name: Name,
    },
    /// Let nobody in by that name, and cut their sessions
    Disable(Whom),
    /// Let a disabled person act again
    Enable(Whom),
    /// Set a person's password
    SetPassword {
        #[command(flatten)]
        whom: Whom,
        /// Read it from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a person a new second factor; shown once
    EnrolTotp(Whom),
    /// Give a person new recovery codes; shown once, the old ones stop working
    RecoveryCodes(Whom),
    /// Invite a person to set up password and second factor themselves
    Invite {
        #[command(flatten)]
        whom: Whom,
        /// How long the invitation works
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        valid: String,
    },
    /// Set up password and second factor by an invitation, as the invited person
    Enrol {
        /// Read invitation and password from standard input, a line each; the second factor then counts unconfirmed
        #[arg(long)]
        stdin: bool,
    },
}

/// Which person, and for whom.
#[derive(Debug, Args)]
pub(crate) struct Whom {
    /// The person's name
    name: Name,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: UserCommand) -> Result<Reply, CliError> {
    match command {
        UserCommand::List => list(desk).await,
        UserCommand::Show { name } => show(desk, &name).await,
        UserCommand::Disable(whom) => set_disabled(desk, &whom, true).await,
        UserCommand::Enable(whom) => set_disabled(desk, &whom, false).await,
        UserCommand::SetPassword { whom, password_stdin } => {
            desk.person(&whom.name)?;
            let password = super::prompt::new_password(password_stdin)?;
            let act = desk.act(&whom.on_behalf)?;
            desk.store.set_password(&act, &whom.name, hashed(&password)?.as_phc()).await?;
            Ok(Reply::new(format!("the password of {} is set", whom.name), json!({"id": whom.name})))
        }
        UserCommand::EnrolTotp(whom) => enrol_totp(desk, &whom).await,
        UserCommand::RecoveryCodes(whom) => recovery_codes(desk, &whom).await,
        UserCommand::Invite { whom, valid } => invite(desk, &whom, &valid).await,
        UserCommand::Enrol { stdin: true } => enrol(desk, &mut StandardInput::new(), false).await,
        UserCommand::Enrol { stdin: false } => enrol(desk, &mut Terminal, true).await,
    }
}

/// A new password's hash.
pub(crate) fn hashed(password: &str) -> Result<StoredPassword, CliError> {
    StoredPassword::new(password, Costs::OWASP, &mut rand::rng()).map_err(|e| CliError::failed(e.to_string()))
}

/// A new second factor and its sealed form.
pub(crate) fn new_totp(desk: &Desk, person: &Name) -> Result<(TotpSecret, Vec<u8>), CliError> {
    let secret = TotpSecret::generate(&mut rand::rng());
    let sealed = desk.context.factors()?.seal(person, &secret);
    let sealed = sealed.ok_or_else(|| CliError::failed("the vault cannot seal a second factor"))?;
    Ok((secret, sealed))
}

/// How an enrolment is shown, once.
pub(crate) fn totp_text(issuer: &str, person: &Name, secret: &TotpSecret) -> String {
    format!(
        "second factor of {person}, shown this once; enter it in an authenticator:\n  {}\n  secret {}",
        secret.otpauth_uri(issuer, person).as_str(),
        secret.to_base32().as_str()
    )
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let mut table = Table::new(&[
        "name",
        "full name",
        "organisation",
        "duties",
        "state",
        "password",
        "second factor",
        "keys",
    ]);
    let mut rows = Vec::new();
    for user in &desk.site.users {
        let kept = desk.store.credentials(&user.name).await?;
        let (password, totp) = has(kept.as_ref());
        table.row([
            user.name.as_str(),
            &user.full_name,
            user.organisation.as_str(),
            &joined(user.duties.iter().map(|d| d.as_str())),
            user.state(desk.now()),
            if password { "yes" } else { "no" },
            if totp { "yes" } else { "no" },
            &user.ssh_keys.len().to_string(),
        ]);
        rows.push(row(desk, user, kept.as_ref()));
    }
    Ok(Reply::list(&table, rows))
}

async fn show(desk: &Desk, name: &Name) -> Result<Reply, CliError> {
    let user = desk.person(name)?;
    let kept = desk.store.credentials(name).await?;
    let (password, totp) = has(kept.as_ref());
    let yes = |b: bool| if b { "set" } else { "none" };
    let text = format!(
        "name            {name}\nfull name       {}\nemail           {}\norganisation    {}\nduties          {}\nstate           {}\n\
         valid until     {}\npassword        {}\nsecond factor   {}\nrecovery codes  {} left\nkeys            {}",
        user.full_name,
        user.email,
        user.organisation,
        joined(user.duties.iter().map(|d| d.as_str())),
        user.state(desk.now()),
        shown(&desk.zone, user.valid_until),
        yes(password),
        yes(totp),
        kept.as_ref().map_or(0, |k| k.recovery_codes_left),
        user.ssh_keys.join("\n                "),
    );
    Ok(Reply::new(super::output::clean(&text), row(desk, user, kept.as_ref())))
}

fn has(kept: Option<&Credentials>) -> (bool, bool) {
    (kept.is_some_and(|k| k.password_hash.is_some()), kept.is_some_and(|k| k.totp_sealed.is_some()))
}

fn row(desk: &Desk, user: &User, kept: Option<&Credentials>) -> Value {
    let (password, totp) = has(kept);
    json!({
        "id": user.name,
        "name": user.name,
        "full_name": user.full_name,
        "email": user.email,
        "organisation": user.organisation,
        "duties": user.duties,
        "state": user.state(desk.now()),
        "disabled": user.disabled,
        "valid_until": utc_or_null(user.valid_until),
        "ssh_keys": user.ssh_keys,
        "has_password": password,
        "has_second_factor": totp,
        "recovery_codes_left": kept.map_or(0, |k| k.recovery_codes_left),
        "enrolled_at": utc_or_null(kept.and_then(|k| k.enrolled_at)),
    })
}

async fn set_disabled(desk: &Desk, whom: &Whom, disabled: bool) -> Result<Reply, CliError> {
    desk.person(&whom.name)?;
    let edit = if disabled { Edit::Disable(whom.name.clone()) } else { Edit::Enable(whom.name.clone()) };
    let site = edit.applied_to(&desk.site)?;
    let act = desk.act(&whom.on_behalf)?;
    let plan = desk.change_site(&act, site).await?;
    let word = if disabled { "disabled" } else { "enabled" };
    let text = if plan.is_empty() {
        format!("{} was {word} already", whom.name)
    } else {
        format!("{} is {word}; say the same in the site file, or the next `apply` undoes it", whom.name)
    };
    Ok(Reply::new(text, json!({"id": whom.name, "disabled": disabled})))
}

async fn enrol_totp(desk: &Desk, whom: &Whom) -> Result<Reply, CliError> {
    desk.person(&whom.name)?;
    let (secret, sealed) = new_totp(desk, &whom.name)?;
    desk.store.set_totp(&desk.act(&whom.on_behalf)?, &whom.name, &sealed).await?;
    let issuer = &desk.context.config.site.name;
    let json = json!({
        "id": whom.name,
        "otpauth_uri": secret.otpauth_uri(issuer, &whom.name).as_str(),
        "totp_secret": secret.to_base32().as_str(),
    });
    Ok(Reply::new(totp_text(issuer, &whom.name, &secret), json))
}

async fn recovery_codes(desk: &Desk, whom: &Whom) -> Result<Reply, CliError> {
    desk.person(&whom.name)?;
    let codes = recovery::generate(&whom.name, &mut rand::rng());
    let digests: Vec<String> = codes.iter().map(|(_, hash)| hex::encode(hash.0)).collect();
    desk.store.set_recovery_codes(&desk.act(&whom.on_behalf)?, &whom.name, &digests).await?;
    let shown: Vec<&str> = codes.iter().map(|(code, _)| code.expose()).collect();
    let text = format!(
        "recovery codes of {}, shown this once; each works once in place of a code, earlier ones no longer work:\n  {}",
        whom.name,
        shown.join("\n  ")
    );
    Ok(Reply::new(text, json!({"id": whom.name, "recovery_codes": shown})))
}

async fn invite(desk: &Desk, whom: &Whom, valid: &str) -> Result<Reply, CliError> {
    desk.person(&whom.name)?;
    let act = desk.act(&whom.on_behalf)?;
    let expires = act.at.plus_seconds(parse_duration(valid)?);
    let code = new_invitation(&mut rand::rng());
    desk.store.invite(&act, &whom.name, &invitation_digest(&code), expires).await?;
    let text = format!(
        "invitation for {}, shown this once; it works once, until {}:\n  {}\nthe person sets up password and second factor \
         with `cofferdam user enrol` at the gateway",
        whom.name,
        desk.zone.show(expires),
        code.as_str()
    );
    Ok(Reply::new(
        text,
        json!({"id": whom.name, "invitation": code.as_str(), "expires": super::output::utc(expires)}),
    ))
}

async fn enrol(desk: &Desk, prompt: &mut dyn Prompt, confirm: bool) -> Result<Reply, CliError> {
    let refused = || CliError::NotProved("the invitation is unknown, used or over: ask for a new one".into());
    let code = prompt.secret("invitation")?;
    let digest = invitation_digest(&code);
    let invitation = desk.store.invitation(&digest).await?.ok_or_else(refused)?;
    if invitation.used_at.is_some() || invitation.expires_at <= desk.now() {
        return Err(refused());
    }
    let person = invitation.person;
    let password = if confirm { super::prompt::new_password(false)? } else { prompt.secret("password")? };
    let hash = hashed(&password)?;
    let (secret, sealed) = new_totp(desk, &person)?;
    let shown_now = totp_text(&desk.context.config.site.name, &person, &secret);
    let mut step = 0;
    if confirm {
        eprintln!("{shown_now}");
        let typed = prompt.secret("the code that the authenticator shows now")?;
        step = secret.check(&typed, desk.now(), None).ok_or_else(|| {
            CliError::NotProved("the code does not fit: check the clock and start again".into())
        })?;
    }
    let codes = recovery::generate(&person, &mut rand::rng());
    let digests: Vec<String> = codes.iter().map(|(_, hash)| hex::encode(hash.0)).collect();
    let enrolment = Enrolment {
        password_hash: hash.as_phc(),
        second: SecondFactorSetUp::Totp { sealed: &sealed, step },
        recovery_digests: &digests,
    };
    match desk.store.enrol(&desk.own_act(), &digest, &enrolment).await? {
        EnrolmentOutcome::Enrolled(_) => {}
        EnrolmentOutcome::InvitationRefused => return Err(refused()),
    }
    let codes: Vec<&str> = codes.iter().map(|(code, _)| code.expose()).collect();
    let mut text =
        format!("{person} is enrolled\nrecovery codes, shown this once:\n  {}", codes.join("\n  "));
    if !confirm {
        text = format!("{shown_now}\n{text}");
    }
    Ok(Reply::new(
        text,
        json!({"id": person, "totp_secret": secret.to_base32().as_str(), "recovery_codes": codes}),
    ))
}
