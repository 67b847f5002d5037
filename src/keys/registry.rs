//! The store as the vault process's registry of who is entitled to what. It looks for itself: nothing that the process
//! that faces the network says is believed but where to look.

use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_access::{
    audit::{Act, AuditEntry, AuditKeys, AuditKind},
    clock::{SharedClock, Timestamp},
    decision::DecisionRecord,
    ids::{CheckoutId, SessionId},
    site::{Account, AccountRef, Credential, Site},
    store::{AuditFilter, SessionRecord, SessionState, Store, StoreError},
};
use cofferdam_vault::{
    KeyringDocument, KeyringStore, KeyringStoreError, SealedSecret, ViewTerms,
    agent::{Claim, Credentialed, Entitlement, Refusal, Registry},
};
use tokio::runtime::Handle;

use crate::{checkouts, rotation::is_rotated};

/// See the module.
pub(super) struct StoreRegistry {
    store: Store,
    /// The key of this vault process: an opening that it did not sign does not count.
    keys: AuditKeys,
    runtime: Handle,
    /// As it was at a revision of the store.
    site: Mutex<Option<(u64, Arc<Site>)>>,
}

impl StoreRegistry {
    /// Over `store`, asked on `runtime`; only for threads that may wait.
    pub(super) fn new(store: Store, keys: AuditKeys, runtime: Handle) -> Self {
        Self { store, keys, runtime, site: Mutex::new(None) }
    }

    async fn entitlement(&self, claim: &Claim, now: Timestamp) -> Result<Entitlement, Refusal> {
        let id: SessionId =
            claim.session_id.parse().map_err(|_| no(format!("{} is no session", claim.session_id)))?;
        let session = self.store.session(id).await.map_err(asked)?;
        if session.ended_at.is_some() || session.state == SessionState::Ended {
            return Err(no(format!("session {id} has ended")));
        }
        let account = session.account();
        if account.to_string() != claim.account_id {
            return Err(no(format!("session {id} is not about account {}", claim.account_id)));
        }
        // Asked at the same time, for the sake of the person who waits; judged in this order.
        let (decided, opened, until, site, secret) = tokio::join!(
            self.decided(claim, &session, &account),
            self.signed_opening(&session),
            self.approved_until(&session, &account, now),
            self.site(),
            self.store.secret(&account),
        );
        decided?;
        opened?;
        let not_after = until?;
        let site = site.map_err(asked)?;
        let described = usable(&site, &account)?;
        let credential = match described.credential {
            Credential::Certificate => {
                Credentialed::Certificate { port_forwarding: false, source_addresses: Vec::new() }
            }
            Credential::None => return Err(no(format!("{account} has credential none"))),
            kind @ (Credential::Password | Credential::Key) => {
                let sealed = secret
                    .map_err(asked)?
                    .ok_or_else(|| {
                        no(format!(
                            "{account} has no secret yet: run `cofferdam account set-secret {account}`"
                        ))
                    })?
                    .sealed
                    .clone();
                match kind {
                    Credential::Password => Credentialed::Password(sealed),
                    _ => Credentialed::PrivateKey(sealed),
                }
            }
        };
        Ok(Entitlement {
            user_name: session.person.to_string(),
            login_name: account.login.to_string(),
            not_after: not_after.micros(),
            sharing: checkouts::sharing(described.exclusive),
            credential,
        })
    }

    /// The site as it is now. Read whole only where something has changed since it last was.
    async fn site(&self) -> Result<Arc<Site>, StoreError> {
        let revision = self.store.revision().await?;
        let known = self.site.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, site)) = known.filter(|(at, _)| *at == revision) {
            return Ok(site);
        }
        // What changes in between has a later revision, and is read again.
        let site = Arc::new(self.store.site().await?);
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, Arc::clone(&site)));
        Ok(site)
    }

    /// The decision permitted this session to use this account.
    async fn decided(
        &self,
        claim: &Claim,
        session: &SessionRecord,
        account: &AccountRef,
    ) -> Result<(), Refusal> {
        let kept = self.store.decision(session.decision).await.map_err(asked)?;
        let record: DecisionRecord = serde_json::from_str(&kept.body)
            .map_err(|_| no(format!("decision {} cannot be read", session.decision)))?;
        let fits = kept.digest() == claim.decision_sha256
            && kept.outcome == "permit"
            && record.session == session.id
            && record.who.user == session.person
            && record.resource.account.as_ref() == Some(account);
        if fits { Ok(()) } else { Err(no(format!("decision {} did not permit this", session.decision))) }
    }

    /// The audit log says that the session was opened, under this process's own signature: a row that somebody put into the
    /// database is worth nothing.
    async fn signed_opening(&self, session: &SessionRecord) -> Result<(), Refusal> {
        let filter = AuditFilter {
            kind: Some(AuditKind::SessionOpened),
            subject: Some(session.id.to_string()),
            limit: 1,
            ..AuditFilter::default()
        };
        let found = self.store.audit(&filter).await.map_err(asked)?;
        let holds = |entry: &AuditEntry| entry.is_signed_by(&self.keys) && names(entry, session);
        match found.first() {
            Some(entry) if holds(entry) => Ok(()),
            _ => Err(no(format!("the audit log has no signed opening of session {}", session.id))),
        }
    }

    /// The end of its window, which is open as its approvals prove.
    async fn approved_until(
        &self,
        session: &SessionRecord,
        account: &AccountRef,
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
        let id = session.window.ok_or_else(|| no(format!("session {} has no window", session.id)))?;
        let window = self.store.window(id).await.map_err(asked)?.window;
        let request = &window.request;
        let open = window.is_proven()
            && request.start <= now
            && now < window.effective_end()
            && request.users.contains(&session.person)
            && request.accounts.contains(account);
        if open { Ok(window.effective_end()) } else { Err(no(format!("window {id} is not open for this"))) }
    }

    /// What the store has opened for a person just now, as the signed audit log says, too.
    async fn shown(&self, checkout_id: &str) -> Result<(ViewTerms, SealedSecret), Refusal> {
        let id: CheckoutId =
            checkout_id.parse().map_err(|_| no(format!("there is no check-out {checkout_id}")))?;
        let shown = self.store.shown_secret(id).await.map_err(asked)?;
        let filter = AuditFilter {
            kind: Some(AuditKind::CheckoutOpened),
            subject: Some(id.to_string()),
            limit: 1,
            ..AuditFilter::default()
        };
        let found = self.store.audit(&filter).await.map_err(asked)?;
        if !found.first().is_some_and(|entry| entry.is_signed_by(&self.keys)) {
            return Err(no(format!("the audit log has no signed opening of check-out {id}")));
        }
        let sealed = checkouts::sealed(&shown);
        Ok((checkouts::terms(&shown), sealed))
    }

    async fn wanted(&self, account_id: &str) -> Result<(), Refusal> {
        let site = self.site().await.map_err(asked)?;
        let named = AccountRef::try_from(account_id.to_owned()).ok();
        match named.and_then(|name| site.account(&name)) {
            Some(account) if is_rotated(&site, account) => Ok(()),
            _ => Err(no(format!("the site does not want the secret of {account_id} changed"))),
        }
    }
}

impl Registry for StoreRegistry {
    fn session(&self, claim: &Claim, now: i64) -> Result<Entitlement, Refusal> {
        self.runtime.block_on(self.entitlement(claim, Timestamp(now)))
    }

    fn view(&self, checkout_id: &str, _: i64) -> Result<(ViewTerms, SealedSecret), Refusal> {
        self.runtime.block_on(self.shown(checkout_id))
    }

    fn rotated(&self, account_id: &str) -> Result<(), Refusal> {
        self.runtime.block_on(self.wanted(account_id))
    }
}

fn usable<'s>(site: &'s Site, account: &AccountRef) -> Result<&'s Account, Refusal> {
    let described = site.account(account).filter(|a| !a.disabled);
    let there = site.asset(&account.asset).is_some_and(|asset| !asset.disabled);
    described.filter(|_| there).ok_or_else(|| no(format!("the site has no usable account {account}")))
}

/// Whether the entry is about this person on this account, by its signed words.
fn names(entry: &AuditEntry, session: &SessionRecord) -> bool {
    let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or_default();
    let says = |field: &str, value: &str| body.get(field).and_then(|v| v.as_str()) == Some(value);
    entry.actor == session.person.as_str()
        && says("account", &session.account().to_string())
        && says("decision", &session.decision.to_string())
}

fn no(why: String) -> Refusal {
    Refusal(why)
}

fn asked(e: StoreError) -> Refusal {
    Refusal(format!("the store does not bear it out: {e}"))
}

/// The keyring in the database: one for all gateways that share it.
pub(super) struct StoreKeyring {
    store: Store,
    clock: SharedClock,
    runtime: Handle,
}

impl StoreKeyring {
    /// Over `store`, asked on `runtime`; only for threads that may wait.
    pub(super) fn new(store: Store, clock: SharedClock, runtime: Handle) -> Self {
        Self { store, clock, runtime }
    }
}

impl KeyringStore for StoreKeyring {
    fn load(&self) -> Result<Option<KeyringDocument>, KeyringStoreError> {
        let found = self.runtime.block_on(self.store.keyring()).map_err(place)?;
        Ok(found.map(KeyringDocument::from_bytes))
    }

    fn replace(&self, old: Option<&KeyringDocument>, new: &KeyringDocument) -> Result<(), KeyringStoreError> {
        let act = Act::system("vault", self.clock.now());
        let old = old.map(KeyringDocument::as_bytes);
        let replaced = self.runtime.block_on(self.store.replace_keyring(&act, old, new.as_bytes()));
        if replaced.map_err(place)? { Ok(()) } else { Err(KeyringStoreError::Changed) }
    }
}

fn place(e: StoreError) -> KeyringStoreError {
    KeyringStoreError::Place { place: "in the database".into(), reason: e.to_string() }
}
