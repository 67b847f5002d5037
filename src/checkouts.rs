//! Secrets that people see. The store says who has which, on every node; here the vault shows one, its ledger of what is out
//! is kept as the store has it, and what nobody returns is ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cofferdam_access::{
    audit::Act,
    checkout::Checkout,
    clock::Timestamp,
    site::{Credential, Site},
    store::{CheckoutFilter, ShownSecret, Store, StoreError},
};
use cofferdam_vault::{
    HeldCheckOut, SealedSecret, SecretBytes, Sharing, Vault, ViewError, ViewTerms, ViewWarrant,
    agent::{Client, ClientError},
};
use tracing::{debug, info};

/// Why a secret that the store has opened is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    /// The vault here.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The running vault.
    #[error(transparent)]
    Running(#[from] ClientError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who opens it.
pub(crate) enum Opener {
    /// The vault process.
    Running(Arc<Client>),
    /// This command, for itself.
    Here(Box<Vault>),
}

/// Shows the secret of a check-out that the store has opened just now. One that the vault does not show is over at once.
pub(crate) async fn show(
    opener: Opener,
    store: &Store,
    act: &Act,
    shown: &ShownSecret,
) -> Result<SecretBytes, ShowError> {
    let id = shown.checkout.id();
    let seen: Result<SecretBytes, ShowError> = match opener {
        Opener::Here(vault) => view(&vault, shown, act.at).map_err(Into::into),
        Opener::Running(client) => {
            let asked = id.to_string();
            match tokio::task::spawn_blocking(move || client.check_out(&asked)).await {
                Ok(seen) => seen.map_err(Into::into),
                Err(e) => Err(ClientError::Gone(e.to_string()).into()),
            }
        }
    };
    if seen.is_err() {
        store.return_checkout(&Act::system("vault", act.at), id).await?;
    }
    seen
}

fn view(vault: &Vault, shown: &ShownSecret, now: Timestamp) -> Result<SecretBytes, ViewError> {
    let warrant = ViewWarrant::new(terms(shown), now.micros())?;
    vault.check_out(&warrant, &sealed(shown), now.micros())
}

/// The sealed secret, as the vault takes it.
pub(crate) fn sealed(shown: &ShownSecret) -> SealedSecret {
    let sealed = shown.secret.sealed.clone();
    match shown.credential {
        Credential::Key => SealedSecret::private_key(sealed, sharing(shown.exclusive)),
        _ => SealedSecret::password(sealed, sharing(shown.exclusive)),
    }
}

fn sharing(exclusive: bool) -> Sharing {
    if exclusive { Sharing::Exclusive } else { Sharing::Shared }
}

/// What was decided, as the vault asks for it.
pub(crate) fn terms(shown: &ShownSecret) -> ViewTerms {
    let (request, moments) = (&shown.checkout.request, shown.checkout.shown.as_ref());
    ViewTerms {
        checkout_id: request.id.to_string(),
        account_id: request.account.to_string(),
        user_name: request.person.to_string(),
        crown_jewel: shown.crown_jewel,
        agreed: shown.checkout.agreements.iter().map(|a| a.by.to_string()).collect(),
        // The second factor was proved for it at the moment at which it was opened.
        stepped_up_at: moments.map_or(0, |s| s.at.micros()),
        not_after: moments.map_or(0, |s| s.until.micros()),
    }
}

/// One look, of the vault process: what is over is ended, opened envelopes are followed, and the vault's ledger holds what
/// the store says. What people had before a restart they still have.
pub(crate) async fn pass(store: &Store, vault: &Vault, now: Timestamp) -> Result<(), StoreError> {
    let act = Act::system("vault", now);
    for over in store.expire_checkouts(&act).await? {
        info!(checkout = %over.id(), account = %over.request.account, "a check-out came to its end");
    }
    for account in store.change_opened_envelopes(&act).await? {
        info!(%account, "the secret of an opened envelope is asked to be changed");
    }
    let filter = CheckoutFilter { state: Some("open"), ..CheckoutFilter::default() };
    let open = store.checkouts(&filter).await?;
    let held: BTreeSet<String> = vault.checked_out().into_iter().map(|h| h.checkout_id).collect();
    if open.is_empty() && held.is_empty() {
        return Ok(());
    }
    reconcile(vault, &store.site().await?, &open, &held);
    Ok(())
}

/// Puts into the vault's ledger what was opened elsewhere or before a restart, and takes out what was returned.
fn reconcile(vault: &Vault, site: &Site, open: &[Checkout], held: &BTreeSet<String>) {
    let open: BTreeMap<String, &Checkout> = open.iter().map(|c| (c.id().to_string(), c)).collect();
    for id in held.iter().filter(|id| !open.contains_key(*id)) {
        // The store has asked for the rotation already, with the end.
        let _asked = vault.give_back(id);
    }
    for (id, checkout) in open.iter().filter(|(id, _)| !held.contains(*id)) {
        let (request, moments) = (&checkout.request, checkout.shown.as_ref());
        let exclusive = site.account(&request.account).is_some_and(|a| a.exclusive);
        let since = moments.map_or(0, |s| s.at.micros());
        let held = HeldCheckOut {
            checkout_id: id.clone(),
            account_id: request.account.to_string(),
            user_name: request.person.to_string(),
            since,
            not_after: moments.map_or(0, |s| s.until.micros()),
            sharing: sharing(exclusive),
        };
        if let Err(e) = vault.restore(held) {
            // Whoever has the account meanwhile is known to the store, which decides.
            debug!(checkout = %id, error = %e, "an open check-out is not in the vault's ledger yet");
        }
    }
}
