//! Where rotations of secrets stand: the vault's [`Ledger`] in the database.
//!
//! The secret that sessions get stands in `account_secret`; it changes in the transaction that makes a candidate the current
//! one, with its audit entry. A claim is no change of state and has none.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use cofferdam_vault::rotation::{
    Claim, FORMER_SECRETS, Finding, FindingKind, Ledger, LedgerError, Progress, Reason, Record, SealedBytes,
    State, Want,
};

use super::{
    Store,
    change::{Change, Quiet, to_i64},
    db::{Row, args},
    error::StoreError,
    findings::{FindingRecord, put_finding},
    secrets,
};
use crate::{
    audit::{Act, Actor, AuditEvent, AuditKind},
    clock::{Clock, Timestamp},
    ids::FindingId,
    site::AccountRef,
};

/// The columns of a record.
const COLUMNS: &str =
    "asset, login, enabled, version, want_number, want_reason, answered, claim_holder, claim_until, progress";

/// Where one account's rotation stands. No secret, not even a sealed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStanding {
    /// The account.
    pub account: AccountRef,
    /// Whether the site wants it rotated. If not, it is listed as long as its target may take another secret than sessions
    /// are given.
    pub on: bool,
    /// Where it stands.
    pub state: State,
    /// A rotation that was asked for and not begun, or that runs, and why.
    pub reason: Option<Reason>,
    /// When the current secret was proved after a change.
    pub rotated_at: Option<Timestamp>,
    /// When the target last took the current secret.
    pub verified_at: Option<Timestamp>,
    /// Since when it does not work.
    pub failing_since: Option<Timestamp>,
    /// What was the matter last, as a plain sentence.
    pub trouble: Option<String>,
    /// When it is looked at next; absent when a person has to ask.
    pub next_at: Option<Timestamp>,
    /// Dependents that have not been given the current secret.
    pub stale: Vec<String>,
}

impl RotationStanding {
    /// Whether a target may take either of two secrets just now, so that a session should wait.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Sent | State::Unsure)
    }

    /// Whether people have to know of it: it is on, or was turned off before it came to an end.
    fn concerns(&self) -> bool {
        self.on || !matches!(self.state, State::Idle | State::Verified)
    }
}

impl Store {
    /// The ledger of rotations, as the vault's engine takes it. What it writes is done by the system's rotation.
    pub fn rotation_ledger(&self, clock: Arc<dyn Clock>) -> RotationLedger {
        RotationLedger { store: self.clone(), clock }
    }

    /// Enters the accounts that are to be rotated and have a secret, each to be looked at first at `first_at`, and leaves
    /// alone those that are not named (their rows stay). Answers how many are new.
    pub async fn manage_rotations(
        &self,
        act: &Act,
        managed: &BTreeMap<AccountRef, Timestamp>,
    ) -> Result<usize, StoreError> {
        let rows = self.0.pools.rows("SELECT asset, login, enabled FROM rotation", vec![]).await?;
        let mut known = BTreeMap::new();
        for row in &rows {
            known.insert(secrets::account(row)?, row.int("enabled")? != 0);
        }
        let with_secret = self.secrets().await?;
        let new: Vec<&AccountRef> = with_secret
            .iter()
            .map(|(account, ..)| account)
            .filter(|a| managed.contains_key(a) && !known.contains_key(a))
            .collect();
        let turned: Vec<(&AccountRef, bool)> = known
            .iter()
            .map(|(account, enabled)| (account, *enabled, managed.contains_key(account)))
            .filter_map(|(account, was, is)| (was != is).then_some((account, is)))
            .collect();
        if new.is_empty() && turned.is_empty() {
            return Ok(0);
        }
        let mut change = self.change(act).await?;
        for (account, enabled) in &turned {
            change
                .execute(
                    "UPDATE rotation SET enabled = $3 WHERE asset = $1 AND login = $2",
                    args![&account.asset, &account.login, i64::from(*enabled)],
                )
                .await?;
        }
        let mut entered = Vec::new();
        for account in new {
            let first_at = managed.get(account).copied().unwrap_or(act.at);
            if enter(&mut change, account, first_at).await? {
                entered.push(account);
            }
        }
        let events =
            turned.iter().map(|(account, on)| (*account, *on)).chain(entered.iter().map(|a| (*a, true)));
        let mut events = events
            .map(|(account, on)| AuditEvent::new(AuditKind::RotationManaged, account).with("managed", on));
        let Some(first) = events.next() else { return change.abandon().await.map(|()| 0) };
        let count = entered.len();
        change.commit_all(first, events.collect::<Vec<_>>()).await?;
        Ok(count)
    }

    /// Where all rotations stand that are on, or were turned off before they came to an end, by account.
    pub async fn rotations(&self) -> Result<Vec<RotationStanding>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM rotation ORDER BY asset, login");
        let rows = self.0.pools.rows(sql, vec![]).await?;
        let all: Result<Vec<RotationStanding>, _> = rows.iter().map(standing).collect();
        Ok(all?.into_iter().filter(RotationStanding::concerns).collect())
    }

    /// Where one account's rotation stands, if it is rotated, or was until it stopped on the way.
    pub async fn rotation(&self, account: &AccountRef) -> Result<Option<RotationStanding>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM rotation WHERE asset = $1 AND login = $2");
        let row = self.0.pools.row(sql, args![&account.asset, &account.login]).await?;
        let found = row.as_ref().map(standing).transpose()?;
        Ok(found.filter(RotationStanding::concerns))
    }

    /// Asks for a rotation of an account that the site wants rotated; it is due at once. Answers the request's number.
    pub async fn want_rotation(
        &self,
        act: &Act,
        account: &AccountRef,
        reason: Reason,
    ) -> Result<u64, StoreError> {
        let mut change = self.change(act).await?;
        let wanted = want(&mut change, account, reason, false).await?;
        let (number, event) = wanted.ok_or_else(|| StoreError::not_found("rotation of", account))?;
        change.commit(event).await?;
        Ok(number)
    }
}

/// Asks for a rotation in a change; answers the request's number and its event, or nothing where the account is not rotated.
/// `also_off`: also where it is not on (yet), so that the request stands when it is.
pub(super) async fn want(
    change: &mut Change<'_>,
    account: &AccountRef,
    reason: Reason,
    also_off: bool,
) -> Result<Option<(u64, AuditEvent)>, StoreError> {
    // An account that the site has wanted rotated for a moment only is not entered yet: the request is not lost.
    if locked(change, account).await?.is_none() {
        let now = change.at();
        enter(change, account, now).await?;
    }
    let row = change
        .row(
            "UPDATE rotation SET want_number = want_number + 1, want_reason = $3 \
             WHERE asset = $1 AND login = $2 AND (enabled = 1 OR $4 = 1) RETURNING want_number",
            args![&account.asset, &account.login, name_of(reason), i64::from(also_off)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let number = row.count("want_number")?;
    let event = AuditEvent::new(AuditKind::RotationWanted, account).with("reason", reason.to_string());
    Ok(Some((number, event.with("number", number))))
}

/// Where one account's rotation stands, in a change.
pub(super) async fn standing_in(
    change: &mut Change<'_>,
    account: &AccountRef,
) -> Result<Option<RotationStanding>, StoreError> {
    locked(change, account).await?.as_ref().map(standing).transpose()
}

/// A person's new secret begins an account's rotation anew: what was known of the old one says nothing of it.
pub(super) async fn secret_was_set(
    change: &mut Change<'_>,
    account: &AccountRef,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let Some(row) = locked(change, account).await? else { return Ok(()) };
    let now = change.at();
    let stood = record(&row)?.progress;
    let before = stood.secrets.clone();
    let mut progress = Progress::new(SealedBytes(sealed.to_vec()), now.micros(), now.micros());
    // A rotation may have been under way: what it sent, and what once opened the target, is not forgotten, should the person
    // be wrong. What no target ever took is: a row of wrong values would push out the right one.
    let proved = stood.rotated_at.is_some() || stood.verified_at.is_some();
    let current = proved.then_some(before.current);
    let older = before.candidate.into_iter().chain(current).chain(before.former);
    progress.secrets.former = older.filter(|s| *s != progress.secrets.current).take(FORMER_SECRETS).collect();
    change
        .execute(
            "UPDATE rotation SET version = version + 1, answered = 0, want_number = 0, want_reason = NULL, \
             next_at = $3, touched_at = $3, claim_holder = NULL, claim_until = NULL, progress = $4 \
             WHERE asset = $1 AND login = $2",
            args![&account.asset, &account.login, now, to_json(&progress)?],
        )
        .await
        .map(drop)
}

/// Without a secret there is nothing to rotate.
pub(super) async fn secret_was_removed(
    change: &mut Change<'_>,
    account: &AccountRef,
) -> Result<(), StoreError> {
    if let Some(row) = locked(change, account).await?
        && record(&row)?.progress.secrets.candidate.is_some()
    {
        // The target may have the candidate already, and nobody else knows it.
        return Err(StoreError::Refused(format!(
            "the secret of {account} is being changed just now: wait until that is done, or mend it with `vault rotate`, \
             then remove it"
        )));
    }
    change
        .execute(
            "DELETE FROM rotation WHERE asset = $1 AND login = $2",
            args![&account.asset, &account.login],
        )
        .await
        .map(drop)
}

/// Whether it is new: another node may have been first, or the secret is gone.
async fn enter(
    change: &mut Change<'_>,
    account: &AccountRef,
    first_at: Timestamp,
) -> Result<bool, StoreError> {
    let row = change
        .row(
            "SELECT sealed FROM account_secret WHERE asset = $1 AND login = $2",
            args![&account.asset, &account.login],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let now = change.at();
    let progress = Progress::new(SealedBytes(row.bytes("sealed")?), first_at.micros(), now.micros());
    change
        .execute(
            "INSERT INTO rotation (asset, login, enabled, version, want_number, want_reason, answered, next_at, \
             touched_at, progress) VALUES ($1, $2, 1, 1, 0, NULL, 0, $3, $4, $5) ON CONFLICT (asset, login) DO NOTHING",
            args![&account.asset, &account.login, first_at, now, to_json(&progress)?],
        )
        .await
        .map(|rows| rows == 1)
}

/// The store's side of the vault's engine.
#[derive(Clone)]
pub struct RotationLedger {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for RotationLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotationLedger").finish_non_exhaustive()
    }
}

impl RotationLedger {
    fn act(&self) -> Act {
        Act::new(Actor::system("rotation"), self.clock.now())
    }

    async fn claimed(
        &self,
        name: &str,
        claim: &Claim,
        now: i64,
    ) -> Result<Result<Record, LedgerError>, StoreError> {
        let Some(account) = parsed(name) else { return Ok(Err(unknown(name))) };
        let mut change = self.store.change(&self.act()).await?;
        let Some(row) = locked(&mut change, &account).await? else {
            return Ok(Err(unknown(name)));
        };
        if let Some(other) = claim_of(&row)?.filter(|other| other.holds(now)) {
            return Ok(Err(LedgerError::Held { account: name.to_owned(), holder: other.holder }));
        }
        set_claim(&mut change, &account, Some(claim)).await?;
        change.commit_quietly(Quiet::Claim).await?;
        Ok(Ok(record(&row)?))
    }

    async fn written(
        &self,
        new: &Record,
        findings: &[Finding],
        claim: &Claim,
        release: bool,
    ) -> Result<Result<Record, LedgerError>, StoreError> {
        let Some(account) = parsed(&new.account) else { return Ok(Err(unknown(&new.account))) };
        let mut change = self.store.change(&self.act()).await?;
        let Some(row) = locked(&mut change, &account).await? else {
            return Ok(Err(unknown(&new.account)));
        };
        let before = record(&row)?;
        let mine = claim_of(&row)?.is_some_and(|held| held.holder == claim.holder);
        if !mine || before.version != new.version {
            return Ok(Err(LedgerError::Conflict { account: new.account.clone() }));
        }
        let progress = &new.progress;
        change
            .execute(
                "UPDATE rotation SET version = version + 1, answered = $3, next_at = $4, touched_at = $5, progress = $6 \
                 WHERE asset = $1 AND login = $2",
                args![
                    &account.asset,
                    &account.login,
                    to_i64(progress.answered),
                    progress.next_at,
                    progress.touched_at,
                    to_json(progress)?,
                ],
            )
            .await?;
        set_claim(&mut change, &account, (!release).then_some(claim)).await?;
        if findings.is_empty() && says_nothing_new(&before.progress, progress) {
            change.commit_quietly(Quiet::Claim).await?;
            return Ok(Ok(Record { version: before.version + 1, want: before.want, ..new.clone() }));
        }
        let mut events = Vec::new();
        for finding in findings {
            events.push(put_finding(&mut change, &self.act(), &kept_as(finding)).await?);
        }
        if before.progress.secrets.current != progress.secrets.current {
            let version =
                secrets::replace_rotated(&mut change, &account, &progress.secrets.current.0).await?;
            events.push(AuditEvent::new(AuditKind::SecretRotated, &account).with("version", version));
        }
        let mut event =
            AuditEvent::new(AuditKind::RotationStep, &account).with("state", progress.state.to_string());
        if let Some(reason) = progress.reason {
            event = event.with("reason", reason.to_string());
        }
        if let Some(trouble) = &progress.trouble {
            event = event.with("trouble", trouble.as_str());
        }
        change.commit_all(event, events).await?;
        Ok(Ok(Record { version: before.version + 1, want: before.want, ..new.clone() }))
    }

    async fn released(&self, name: &str, claim: &Claim) -> Result<(), StoreError> {
        let Some(account) = parsed(name) else { return Ok(()) };
        let mut change = self.store.change(&self.act()).await?;
        let held = match locked(&mut change, &account).await? {
            Some(row) => claim_of(&row)?,
            None => None,
        };
        if held.is_none_or(|held| held.holder != claim.holder) {
            return change.abandon().await;
        }
        set_claim(&mut change, &account, None).await?;
        change.commit_quietly(Quiet::Claim).await
    }

    async fn due_now(&self, now: i64, limit: usize) -> Result<Vec<String>, StoreError> {
        // A claim that ends later than any is made does not hold; a record from the future is looked at now.
        let rows = self
            .store
            .0
            .pools
            .rows(
                "SELECT asset, login FROM rotation WHERE enabled = 1 \
                 AND (next_at <= $1 OR touched_at > $1 OR want_number > answered) \
                 AND (claim_until IS NULL OR claim_until <= $1 OR claim_until > $2) \
                 ORDER BY next_at, asset, login LIMIT $3",
                args![
                    now,
                    now.saturating_add(cofferdam_vault::rotation::LONGEST_CLAIM),
                    i64::try_from(limit).unwrap_or(i64::MAX),
                ],
            )
            .await?;
        rows.iter().map(|row| secrets::account(row).map(|account| account.to_string())).collect()
    }
}

/// The same trouble as before, at another time: the first entry says it, and a target that is away for a year does not fill
/// the audit log.
fn says_nothing_new(before: &Progress, now: &Progress) -> bool {
    before.state == now.state
        && before.reason == now.reason
        && before.trouble == now.trouble
        && before.secrets == now.secrets
        && before.raised == now.raised
        && before.stale == now.stale
}

/// A finding of the engine as all findings are kept.
fn kept_as(finding: &Finding) -> FindingRecord {
    let at = Timestamp(finding.at);
    // What nobody can open, and what was changed behind the vault's back, comes first.
    let severity = match finding.kind {
        FindingKind::Lost | FindingKind::Impostor => "critical",
        FindingKind::Drift | FindingKind::GaveUp => "high",
        FindingKind::Restored | FindingKind::Offline | FindingKind::Unfinished => "medium",
    };
    FindingRecord {
        id: FindingId::new(at, &mut rand::rng()),
        session: None,
        at,
        trigger: format!("rotation_{}", finding.kind),
        severity: severity.to_owned(),
        text: finding.sentence.clone(),
        response: "notify".to_owned(),
    }
}

fn away(error: StoreError) -> LedgerError {
    LedgerError::Store(error.to_string())
}

#[async_trait]
impl Ledger for RotationLedger {
    async fn want(&self, account: &str, reason: Reason) -> Result<u64, LedgerError> {
        let known = parsed(account).ok_or_else(|| unknown(account))?;
        match self.store.want_rotation(&self.act(), &known, reason).await {
            Err(StoreError::NotFound { .. }) => Err(unknown(account)),
            answer => answer.map_err(away),
        }
    }

    async fn due(&self, now: i64, limit: usize) -> Result<Vec<String>, LedgerError> {
        self.due_now(now, limit).await.map_err(away)
    }

    async fn claim(&self, account: &str, claim: &Claim, now: i64) -> Result<Record, LedgerError> {
        self.claimed(account, claim, now).await.map_err(away)?
    }

    async fn write(
        &self,
        record: &Record,
        findings: &[Finding],
        claim: &Claim,
        release: bool,
    ) -> Result<Record, LedgerError> {
        self.written(record, findings, claim, release).await.map_err(away)?
    }

    async fn release(&self, account: &str, claim: &Claim) -> Result<(), LedgerError> {
        self.released(account, claim).await.map_err(away)
    }
}

/// A name that is none is no account in here.
fn parsed(account: &str) -> Option<AccountRef> {
    AccountRef::try_from(account.to_owned()).ok()
}

fn unknown(account: &str) -> LedgerError {
    LedgerError::Unknown { account: account.to_owned() }
}

/// The row, kept from other writers until the change ends.
async fn locked(change: &mut Change<'_>, account: &AccountRef) -> Result<Option<Row>, StoreError> {
    // A change locks the head of the audit log, so that no other writer is here.
    let sql = format!("SELECT {COLUMNS} FROM rotation WHERE asset = $1 AND login = $2");
    change.row(sql, args![&account.asset, &account.login]).await
}

async fn set_claim(
    change: &mut Change<'_>,
    account: &AccountRef,
    claim: Option<&Claim>,
) -> Result<(), StoreError> {
    change
        .execute(
            "UPDATE rotation SET claim_holder = $3, claim_until = $4 WHERE asset = $1 AND login = $2",
            args![
                &account.asset,
                &account.login,
                claim.map(|claim| claim.holder.clone()),
                claim.map(|claim| claim.until),
            ],
        )
        .await
        .map(drop)
}

fn claim_of(row: &Row) -> Result<Option<Claim>, StoreError> {
    let claim = row.opt_text("claim_holder")?.zip(row.opt_int("claim_until")?);
    Ok(claim.map(|(holder, until)| Claim { holder, until }))
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let number = row.count("want_number")?;
    let reason = row.opt_text("want_reason")?.map(|name| reason_of(&name)).transpose()?;
    Ok(Record {
        account: secrets::account(row)?.to_string(),
        version: row.count("version")?,
        want: reason.filter(|_| number > 0).map(|reason| Want { number, reason }),
        progress: row.json("progress")?,
    })
}

fn standing(row: &Row) -> Result<RotationStanding, StoreError> {
    let account = secrets::account(row)?;
    let record = record(row)?;
    let reason = record.progress.reason.or_else(|| record.open_request());
    let progress = record.progress;
    Ok(RotationStanding {
        account,
        on: row.int("enabled")? != 0,
        state: progress.state,
        reason,
        rotated_at: progress.rotated_at.map(Timestamp),
        verified_at: progress.verified_at.map(Timestamp),
        failing_since: progress.failing_since.map(Timestamp),
        trouble: progress.trouble,
        next_at: Some(Timestamp(progress.next_at)).filter(|at| at.micros() < i64::MAX / 2),
        stale: progress.stale,
    })
}

fn to_json(progress: &Progress) -> Result<String, StoreError> {
    serde_json::to_string(progress).map_err(|e| StoreError::damaged("rotation", e))
}

/// A reason's name in a column: as its own JSON has it.
fn name_of(reason: Reason) -> String {
    serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn reason_of(name: &str) -> Result<Reason, StoreError> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|e| StoreError::damaged("want_reason", e))
}
