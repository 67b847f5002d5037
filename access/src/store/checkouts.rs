//! Check-outs as kept. The rules are in [`crate::checkout`] and policy; here they are asked in the transaction that writes,
//! with people, account and machine as the site has them at that moment.

use cofferdam_vault::{MAX_STEP_UP_SECONDS, rotation::Reason};

use super::{
    Store,
    change::Change,
    db::{Row, args},
    error::StoreError,
    filter::Select,
    notifications::{put, told},
    recordings::{actor, person_of},
    rotation,
    secrets::{self, SealedSecret},
    seen, sessions, site,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    checkout::{Checkout, CheckoutRequest, CheckoutStanding, Followed, OTHERS, Shown},
    clock::Timestamp,
    ids::{CheckoutId, Name},
    notice,
    people::{Duty, User},
    policy::ViewPermit,
    site::{Account, AccountRef, Asset, Credential},
    window::RequestDigest,
};

/// Which check-outs to list.
#[derive(Debug, Clone, Default)]
pub struct CheckoutFilter {
    /// Only in this state (`waiting`, `open`, `returned`, `expired`, `refused`), apart from the clock.
    pub state: Option<&'static str>,
    /// Only of this person.
    pub person: Option<Name>,
    /// Most rows; 0 for [`super::MAX_ROWS`].
    pub limit: u32,
}

/// A check-out that is open, with what the vault needs to show the secret.
#[derive(Debug)]
pub struct ShownSecret {
    /// The check-out.
    pub checkout: Checkout,
    /// The sealed secret.
    pub secret: SealedSecret,
    /// Of which kind it is.
    pub credential: Credential,
    /// Nobody else may have the account meanwhile.
    pub exclusive: bool,
    /// Whether it is on a crown jewel.
    pub crown_jewel: bool,
}

/// An account and the machine it is on.
struct Described {
    account: Account,
    asset: Asset,
}

impl Store {
    /// Keeps a request of the person who acts. Nothing is shown yet. `waits`: others have to agree first, and are told.
    pub async fn request_checkout(
        &self,
        act: &Act,
        request: &CheckoutRequest,
        waits: bool,
    ) -> Result<Checkout, StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        request.validate(&person, act.at).map_err(refused)?;
        described(&mut change, &request.account).await?;
        let checkout = Checkout::requested(request.clone());
        let account = &request.account;
        change
            .execute(
                "INSERT INTO checkout (id, asset, login, person, state, requested_at, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                args![
                    request.id.to_string(),
                    &account.asset,
                    &account.login,
                    &request.person,
                    checkout.standing.as_str(),
                    act.at,
                    json(&checkout)?,
                ],
            )
            .await?;
        let event = about(AuditKind::CheckoutRequested, &checkout)
            .with("reason", request.reason.as_str())
            .with("seconds", request.seconds)
            .with("digest", request.digest().to_string());
        tell(&mut change, act, event.kind(), &checkout, waits).await?;
        change.commit(event).await?;
        Ok(checkout)
    }

    /// The check-out of that id.
    pub async fn checkout(&self, id: CheckoutId) -> Result<Checkout, StoreError> {
        let row = self.0.pools.row("SELECT body FROM checkout WHERE id = $1", args![id.to_string()]).await?;
        row.ok_or_else(|| StoreError::not_found("check-out", id))?.json("body")
    }

    /// Lists check-outs, the newest first.
    pub async fn checkouts(&self, filter: &CheckoutFilter) -> Result<Vec<Checkout>, StoreError> {
        let (sql, values) = Select::new("SELECT body FROM checkout")
            .and_some("state = ?", filter.state)
            .and_some("person = ?", filter.person.as_ref())
            .finish("id DESC", filter.limit);
        self.0.pools.rows(sql, values).await?.iter().map(|r| r.json("body")).collect()
    }

    /// An open check-out with its secret as it is now, for whoever shows it or puts it back after a restart.
    pub async fn shown_secret(&self, id: CheckoutId) -> Result<ShownSecret, StoreError> {
        let checkout = self.checkout(id).await?;
        if checkout.standing != CheckoutStanding::Open {
            return Err(StoreError::Refused(format!("check-out {id} is not open: ask for a new one")));
        }
        let name = &checkout.request.account;
        let site = self.site().await?;
        let found = site.account(name).zip(site.asset(&name.asset));
        let (account, asset) = found.ok_or_else(|| StoreError::not_found("account", name))?;
        let secret = self.secret(name).await?.ok_or_else(|| StoreError::not_found("secret of", name))?;
        Ok(ShownSecret {
            secret,
            credential: account.credential,
            exclusive: account.exclusive,
            crown_jewel: asset.crown_jewel,
            checkout,
        })
    }

    /// The person who acts, and proved to be there, agrees to exactly what `digest` stands for.
    pub async fn agree_to_checkout(
        &self,
        act: &Act,
        id: CheckoutId,
        duty: Duty,
        digest: RequestDigest,
        remark: &str,
    ) -> Result<Checkout, StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        let mut checkout = current(&mut change, id).await?;
        checkout.agree(&person, duty, digest, remark, act.at).map_err(refused)?;
        write(&mut change, &checkout).await?;
        let remark = checkout.agreements.last().and_then(|a| a.remark.clone());
        let event = about(AuditKind::CheckoutAgreed, &checkout)
            .with("duty", duty.as_str())
            .with("digest", digest.to_string())
            .with_some("remark", remark);
        tell(&mut change, act, event.kind(), &checkout, true).await?;
        change.commit(event).await?;
        Ok(checkout)
    }

    /// `who` says no, or takes their own request back.
    pub async fn refuse_checkout(
        &self,
        act: &Act,
        id: CheckoutId,
        who: &Name,
        reason: &str,
    ) -> Result<Checkout, StoreError> {
        let mut change = self.change(act).await?;
        let person = person_of(&mut change, who.as_str()).await?;
        let mut checkout = current(&mut change, id).await?;
        checkout.refuse(&person, reason, act.at).map_err(refused)?;
        write(&mut change, &checkout).await?;
        let event = about(AuditKind::CheckoutRefused, &checkout)
            .with("by", who.as_str())
            .with("refusal", reason.trim());
        change.commit(event).await?;
        Ok(checkout)
    }

    /// Opens a check-out for the person who acts: after this, and never before it, the vault may show the secret. People,
    /// agreements, account, machine and who else has it are looked at in this very transaction.
    pub async fn open_checkout(
        &self,
        act: &Act,
        id: CheckoutId,
        permit: ViewPermit,
    ) -> Result<ShownSecret, StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        let mut checkout = current(&mut change, id).await?;
        checkout.waits(act.at).map_err(refused)?;
        fits(&permit, &checkout.request, &person, act.at)?;
        let found = described(&mut change, &checkout.request.account).await?;
        proved(&mut change, &checkout, &permit, &found).await?;
        let secret = secrets::read(&mut change, &checkout.request.account).await?;
        is_free(&mut change, &checkout.request, &found.account).await?;
        let end = act.at.plus_seconds(checkout.request.seconds);
        let until = person.valid_until.map_or(end, |last| last.min(end));
        checkout.shown = Some(Shown { at: act.at, until, version: secret.version });
        checkout.standing = CheckoutStanding::Open;
        write(&mut change, &checkout).await?;
        let event = about(AuditKind::CheckoutOpened, &checkout)
            .with("reason", checkout.request.reason.as_str())
            .with("version", secret.version)
            .with("until", until.to_string())
            .with("agreed", checkout.agreements.iter().map(|a| a.by.to_string()).collect::<Vec<_>>())
            .with("policies", permit.policies);
        tell(&mut change, act, event.kind(), &checkout, false).await?;
        change.commit(event).await?;
        Ok(ShownSecret {
            secret,
            credential: found.account.credential,
            exclusive: found.account.exclusive,
            crown_jewel: found.asset.crown_jewel,
            checkout,
        })
    }

    /// Ends an open check-out. What makes the secret worthless is asked for in the same transaction.
    pub async fn return_checkout(&self, act: &Act, id: CheckoutId) -> Result<Checkout, StoreError> {
        let standing = CheckoutStanding::Returned { by: act.actor.as_str().to_owned(), at: act.at };
        let mut change = self.change(act).await?;
        let checkout = current(&mut change, id).await?;
        if checkout.standing != CheckoutStanding::Open {
            let phase = checkout.phase(act.at);
            return Err(StoreError::Refused(format!(
                "check-out {id} is not open ({phase}): nothing to return"
            )));
        }
        end(change, act, checkout, standing, AuditKind::CheckoutReturned).await
    }

    /// Ends the check-outs whose end has come; answers them.
    pub async fn expire_checkouts(&self, act: &Act) -> Result<Vec<Checkout>, StoreError> {
        let open = CheckoutFilter { state: Some("open"), ..CheckoutFilter::default() };
        let mut expired = Vec::new();
        for checkout in self.checkouts(&open).await?.iter().filter(|c| c.is_over(act.at)) {
            let mut change = self.change(act).await?;
            let now = current(&mut change, checkout.id()).await?;
            // Somebody may have returned it meanwhile.
            if now.standing != CheckoutStanding::Open {
                change.abandon().await?;
                continue;
            }
            let standing = CheckoutStanding::Expired { at: act.at };
            expired.push(end(change, act, now, standing, AuditKind::CheckoutExpired).await?);
        }
        Ok(expired)
    }
}

/// The person who has an exclusive account checked out, and until when.
pub(super) async fn holder(
    change: &mut Change<'_>,
    asset: &Name,
    login: &crate::ids::Login,
) -> Result<Option<Checkout>, StoreError> {
    let row = change
        .row(
            "SELECT body FROM checkout WHERE asset = $1 AND login = $2 AND state = 'open' LIMIT 1",
            args![asset, login],
        )
        .await?;
    row.map(|r| r.json("body")).transpose()
}

async fn end(
    mut change: Change<'_>,
    act: &Act,
    mut checkout: Checkout,
    standing: CheckoutStanding,
    kind: AuditKind,
) -> Result<Checkout, StoreError> {
    let CheckoutRequest { person, account, .. } = &checkout.request;
    let what = format!("{person} has seen the secret of {account} (check-out {})", checkout.id());
    let (followed, follows) = seen::follow(&mut change, act, account, Reason::CheckedOut, &what).await?;
    let event = about(kind, &checkout);
    let event = match &followed {
        Followed::Rotation(number) => event.with("rotation", *number),
        Followed::ByHand => event.with("rotation", "by hand"),
    };
    checkout.followed = Some(followed);
    checkout.standing = standing;
    write(&mut change, &checkout).await?;
    tell(&mut change, act, kind, &checkout, false).await?;
    change.commit_all(event, [follows]).await?;
    Ok(checkout)
}

/// The account, where its secret may be seen at all.
async fn described(change: &mut Change<'_>, name: &AccountRef) -> Result<Described, StoreError> {
    let account: Option<Account> = site::item(change, "account", name).await?;
    let asset: Option<Asset> = site::item(change, "asset", &name.asset).await?;
    let found = account.zip(asset).ok_or_else(|| StoreError::not_found("account", name))?;
    let (account, asset) = found;
    if !account.checkout || !account.needs_secret() || account.disabled || asset.disabled {
        return Err(StoreError::Refused(format!("the secret of {name} may not be seen: connect instead")));
    }
    Ok(Described { account, asset })
}

/// Whether the permit is for this request of this person, and of a moment ago.
fn fits(
    permit: &ViewPermit,
    request: &CheckoutRequest,
    person: &User,
    now: Timestamp,
) -> Result<(), StoreError> {
    let age = now.since(permit.proved_at);
    let fresh = (0..=MAX_STEP_UP_SECONDS * 1_000_000).contains(&age);
    let same = permit.person == request.person
        && permit.account == request.account
        && permit.seconds == request.seconds
        && person.name == request.person;
    if same && fresh && person.is_active(now) {
        return Ok(());
    }
    Err(StoreError::Refused(
        "only the person who asked sees the secret, with a second factor given now".into(),
    ))
}

/// Whether as many others agreed as policy counted, each still active and of that duty; two for a crown jewel.
async fn proved(
    change: &mut Change<'_>,
    checkout: &Checkout,
    permit: &ViewPermit,
    found: &Described,
) -> Result<(), StoreError> {
    let now = change.at();
    let mut others = Vec::new();
    for agreement in &checkout.agreements {
        if let Some(user) = site::item::<User>(change, "user", &agreement.by).await? {
            others.push(user);
        }
    }
    let agreed = checkout.agreed(|who, duty| {
        others.iter().any(|u| u.name == *who && u.is_active(now) && u.duties.contains(&duty))
    });
    if agreed < permit.agreed || (found.asset.crown_jewel && agreed < OTHERS) {
        return Err(StoreError::Refused(format!(
            "{OTHERS} other people of as many duties have to agree to exactly this request, and {agreed} did: have it \
             agreed to with `cofferdam vault agree {}`",
            checkout.id()
        )));
    }
    Ok(())
}

/// Whether nobody has the account who keeps this person from it.
async fn is_free(
    change: &mut Change<'_>,
    request: &CheckoutRequest,
    account: &Account,
) -> Result<(), StoreError> {
    let name = &request.account;
    if let Some(standing) = rotation::standing_in(change, name).await?
        && standing.is_between()
    {
        return Err(StoreError::Refused(format!(
            "the secret of {name} is being changed just now: try again in a minute"
        )));
    }
    let rows = change
        .rows(
            "SELECT body FROM checkout WHERE asset = $1 AND login = $2 AND state = 'open'",
            args![&name.asset, &name.login],
        )
        .await?;
    for row in &rows {
        let other: Checkout = row.json("body")?;
        if other.request.person == request.person {
            return Err(StoreError::Refused(format!(
                "{} has {name} checked out already ({}): return that first",
                request.person,
                other.id()
            )));
        }
        if account.exclusive {
            return Err(StoreError::Refused(in_use(&other)));
        }
    }
    if account.exclusive
        && let Some(session) = sessions::session_on(change, &name.asset, &name.login).await?
    {
        return Err(StoreError::Refused(format!(
            "{name} is in use by session {session} and takes one at a time: wait until it ends, or end it"
        )));
    }
    Ok(())
}

/// Why an exclusive account cannot be had.
pub(super) fn in_use(by: &Checkout) -> String {
    let until = by.shown.as_ref().map_or_else(String::new, |s| format!(" until {}", s.until));
    let CheckoutRequest { id, account, person, .. } = &by.request;
    format!("{account} is checked out by {person}{until} ({id}): wait until it is returned, or return it")
}

fn about(kind: AuditKind, checkout: &Checkout) -> AuditEvent {
    AuditEvent::new(kind, checkout.id())
        .with("account", checkout.request.account.to_string())
        .with("person", checkout.request.person.as_str())
}

/// Writes the messages about it in the transaction in which it happens.
async fn tell(
    change: &mut Change<'_>,
    act: &Act,
    kind: AuditKind,
    checkout: &Checkout,
    waits: bool,
) -> Result<(), StoreError> {
    let (people, _) = told(change).await?;
    for message in notice::of_checkout(kind, act, checkout, waits, &people) {
        put(change, &message).await?;
    }
    Ok(())
}

async fn current(change: &mut Change<'_>, id: CheckoutId) -> Result<Checkout, StoreError> {
    let row: Option<Row> =
        change.row("SELECT body FROM checkout WHERE id = $1", args![id.to_string()]).await?;
    row.ok_or_else(|| StoreError::not_found("check-out", id))?.json("body")
}

async fn write(change: &mut Change<'_>, checkout: &Checkout) -> Result<(), StoreError> {
    change
        .execute(
            "UPDATE checkout SET state = $2, until_at = $3, body = $4 WHERE id = $1",
            args![
                checkout.id().to_string(),
                checkout.standing.as_str(),
                checkout.shown.as_ref().map(|s| s.until),
                json(checkout)?,
            ],
        )
        .await
        .map(drop)
}

fn json(checkout: &Checkout) -> Result<String, StoreError> {
    serde_json::to_string(checkout).map_err(|e| StoreError::damaged("check-out", e))
}

fn refused(why: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(why.to_string())
}
