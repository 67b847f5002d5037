//! Break-glass envelopes: that they exist, which are worth nothing any more, and what opening one sets going. Never what is
//! inside.

use cofferdam_vault::rotation::Reason;
use serde::Serialize;

use super::{
    Store,
    change::{Change, to_i64},
    db::{Row, args},
    error::StoreError,
    recordings::actor,
    secrets, seen,
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::EnvelopeId,
    people::Duty,
    site::AccountRef,
};

/// An envelope was opened.
const OPENED: &str = "envelope_opened";

/// An envelope about to be handed out, or one whose label was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeLabel {
    /// Its id.
    pub id: EnvelopeId,
    /// Whose secret.
    pub account: AccountRef,
    /// The version of the secret.
    pub version: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Who can open it (`age1…`).
    pub recipients: Vec<String>,
}

/// An envelope as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptEnvelope {
    /// Its id.
    pub id: EnvelopeId,
    /// Whose secret.
    pub account: AccountRef,
    /// The version of the secret.
    pub version: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom, as the audit log writes it.
    pub made_by: String,
    /// Who can open it (`age1…`).
    pub recipients: Vec<String>,
    /// When it was opened.
    pub opened_at: Option<Timestamp>,
    /// By whom, as the audit log writes it.
    pub opened_by: Option<String>,
    /// When the secret of an opened one is asked to be changed.
    pub change_at: Option<Timestamp>,
    /// The secret was changed since, or is gone: nobody gets in with what is inside.
    pub outdated: bool,
}

impl Store {
    /// Keeps that an envelope exists, before anybody is handed it. The actor is an administrator who proved to be there.
    pub async fn make_envelope(&self, act: &Act, label: &EnvelopeLabel) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        let person = actor(&mut change).await?;
        if !person.is_active(act.at) || !person.duties.contains(&Duty::Administrator) {
            return Err(StoreError::Refused(format!(
                "{} may not make envelopes: administrators can",
                person.name
            )));
        }
        let current = secrets::read(&mut change, &label.account).await?.version;
        if current != label.version {
            return Err(StoreError::Changed { what: "secret" });
        }
        insert(&mut change, label).await?;
        let event = AuditEvent::new(AuditKind::EnvelopeMade, label.id)
            .with("account", label.account.to_string())
            .with("version", label.version)
            .with("recipients", label.recipients.clone());
        change.commit(event).await.map(drop)
    }

    /// Keeps that an envelope was opened, before anybody is shown what is inside: a finding tells everybody at once, and the
    /// secret is asked to be changed at `change_at`. The envelope may be one that this store has never heard of.
    pub async fn open_envelope(
        &self,
        act: &Act,
        label: &EnvelopeLabel,
        change_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        insert(&mut change, label).await?;
        let id = label.id.to_string();
        change
            .execute(
                "UPDATE envelope SET opened_at = $2, opened_by = $3, change_at = $4, changed_at = NULL WHERE id = $1",
                args![id, act.at, by(act), change_at],
            )
            .await?;
        let changes = opened(&mut change, act, &label.account, change_at).await?;
        let event = AuditEvent::new(AuditKind::EnvelopeOpened, label.id)
            .with("account", label.account.to_string())
            .with("version", label.version)
            .with("change_at", change_at.to_string());
        change.commit_all(event, changes).await.map(drop)
    }

    /// Keeps that an envelope of this account was opened elsewhere, as from paper. All that exist of it count as opened.
    /// Answers how many there were.
    pub async fn envelope_was_opened(
        &self,
        act: &Act,
        account: &AccountRef,
        change_at: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut change = self.change(act).await?;
        secrets::read(&mut change, account).await?;
        let count = change
            .execute(
                "UPDATE envelope SET opened_at = $3, opened_by = $4, change_at = $5 \
                 WHERE asset = $1 AND login = $2 AND opened_at IS NULL",
                args![&account.asset, &account.login, act.at, by(act), change_at],
            )
            .await?;
        let changes = opened(&mut change, act, account, change_at).await?;
        let event = AuditEvent::new(AuditKind::EnvelopeOpened, account)
            .with("account", account.to_string())
            .with("elsewhere", true)
            .with("envelopes", count)
            .with("change_at", change_at.to_string());
        change.commit_all(event, changes).await?;
        Ok(count)
    }

    /// Asks for the change of secrets whose opened envelope has come to that; answers the accounts.
    pub async fn change_opened_envelopes(&self, act: &Act) -> Result<Vec<AccountRef>, StoreError> {
        let due = "SELECT id, asset, login FROM envelope WHERE change_at <= $1 AND changed_at IS NULL ORDER BY id \
                   LIMIT 100";
        let mut done = Vec::new();
        for row in self.0.pools.rows(due, args![act.at]).await? {
            let (id, account) = (row.text("id")?, secrets::account(&row)?);
            let mut change = self.change(act).await?;
            let marked = change
                .execute(
                    "UPDATE envelope SET changed_at = $2 WHERE id = $1 AND changed_at IS NULL",
                    args![&id, act.at],
                )
                .await?;
            if marked == 0 {
                change.abandon().await?;
                continue;
            }
            let what = format!("the envelope {id} of {account} was opened");
            let (_, event) = seen::follow(&mut change, act, &account, Reason::BreakGlass, &what).await?;
            change.commit(event).await?;
            done.push(account);
        }
        Ok(done)
    }

    /// All envelopes that exist, the newest first.
    pub async fn envelopes(&self) -> Result<Vec<KeptEnvelope>, StoreError> {
        let rows = self
            .0
            .pools
            .rows(
                "SELECT e.id, e.asset, e.login, e.version, e.made_at, e.made_by, e.recipients, e.opened_at, e.opened_by, \
                 e.change_at, COALESCE(s.version, 0) AS latest FROM envelope e \
                 LEFT JOIN account_secret s ON s.asset = e.asset AND s.login = e.login ORDER BY e.id DESC LIMIT 1000",
                vec![],
            )
            .await?;
        rows.iter().map(kept).collect()
    }
}

/// Everybody hears of it at once; what the account's secret needs is said with it.
async fn opened(
    change: &mut Change<'_>,
    act: &Act,
    account: &AccountRef,
    change_at: Timestamp,
) -> Result<Vec<AuditEvent>, StoreError> {
    let wanted =
        if change_at <= act.at { seen::wanted(change, account, Reason::BreakGlass).await? } else { None };
    let next = match (&wanted, change_at > act.at) {
        (Some(_), _) => "its secret is changed now".to_owned(),
        (None, true) => format!("its secret is asked to be changed at {change_at}"),
        (None, false) => seen::by_hand(account),
    };
    if change_at <= act.at {
        change
            .execute(
                "UPDATE envelope SET changed_at = $3 WHERE asset = $1 AND login = $2 AND change_at <= $3",
                args![&account.asset, &account.login, act.at],
            )
            .await?;
    }
    let text = format!("{} opened a break-glass envelope of {account}: {next}", by(act));
    let finding = seen::finding(change, act, OPENED, "critical", text).await?;
    Ok(wanted.map(|(_, event)| event).into_iter().chain([finding]).collect())
}

/// Who acts, and for whom.
fn by(act: &Act) -> String {
    let actor = act.actor.as_str();
    act.on_behalf_of.as_ref().map_or_else(|| actor.to_owned(), |person| format!("{actor} for {person}"))
}

async fn insert(change: &mut Change<'_>, label: &EnvelopeLabel) -> Result<(), StoreError> {
    let actor = change.actor().to_owned();
    let recipients =
        serde_json::to_string(&label.recipients).map_err(|e| StoreError::damaged("envelope", e))?;
    change
        .execute(
            "INSERT INTO envelope (id, asset, login, version, made_at, made_by, recipients) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            args![
                label.id.to_string(),
                &label.account.asset,
                &label.account.login,
                to_i64(label.version),
                label.made_at,
                actor,
                recipients,
            ],
        )
        .await
        .map(drop)
}

fn kept(row: &Row) -> Result<KeptEnvelope, StoreError> {
    let version = row.count("version")?;
    Ok(KeptEnvelope {
        id: row.parsed("id")?,
        account: secrets::account(row)?,
        version,
        made_at: row.time("made_at")?,
        made_by: row.text("made_by")?,
        recipients: row.json("recipients")?,
        opened_at: row.opt_time("opened_at")?,
        opened_by: row.opt_text("opened_by")?,
        change_at: row.opt_time("change_at")?,
        outdated: row.count("latest")? != version,
    })
}
