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
    let sealed = sealed(shown);
    let first = vault.check_out(&warrant, &sealed, now.micros());
    if let Err(ViewError::Twice(id)) = &first {
        // The ledger was brought to the store's state in this very moment; nothing has been shown.
        let _entered = vault.give_back(id);
        return vault.check_out(&warrant, &sealed, now.micros());
    }
    first
}

/// The sealed secret, as the vault takes it.
pub(crate) fn sealed(shown: &ShownSecret) -> SealedSecret {
    let sealed = shown.secret.sealed.clone();
    match shown.credential {
        Credential::Key => SealedSecret::private_key(sealed, sharing(shown.exclusive)),
        _ => SealedSecret::password(sealed, sharing(shown.exclusive)),
    }
}

/// How many may have an account at a time.
pub(crate) fn sharing(exclusive: bool) -> Sharing {
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
        let exclusive = site.account(&checkout.request.account).is_some_and(|a| a.exclusive);
        if let Err(e) = vault.restore(entry(checkout, exclusive)) {
            // Whoever has the account meanwhile is known to the store, which decides.
            debug!(checkout = %id, error = %e, "an open check-out is not in the vault's ledger yet");
        }
    }
}

/// An open check-out as the vault's ledger has it.
fn entry(checkout: &Checkout, exclusive: bool) -> HeldCheckOut {
    let (request, moments) = (&checkout.request, checkout.shown.as_ref());
    HeldCheckOut {
        checkout_id: request.id.to_string(),
        account_id: request.account.to_string(),
        user_name: request.person.to_string(),
        since: moments.map_or(0, |s| s.at.micros()),
        not_after: moments.map_or(0, |s| s.until.micros()),
        sharing: sharing(exclusive),
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_access::{
        checkout::{CheckoutRequest, CheckoutStanding, Shown},
        ids::Name,
        site::AccountRef,
        store::SealedSecret as Kept,
    };
    use cofferdam_vault::{Sealer, SystemEntropy};

    use super::*;

    const NOON: Timestamp = Timestamp::from_seconds(1_800_014_400);

    #[test]
    fn what_came_into_the_ledger_a_moment_before_is_shown_once_all_the_same() {
        let vault = Vault::new(Sealer::ephemeral(Arc::new(SystemEntropy)), None);
        let account = AccountRef::try_from("root@pump-hmi".to_owned()).unwrap();
        let sealed = vault.seal(&account.to_string(), &SecretBytes::from(b"hunter2".to_vec())).unwrap();
        let emil = Name::new("emil").unwrap();
        let request = CheckoutRequest::new(&account, &emil, 3600, "it hangs", NOON, &mut rand::rng());
        let mut checkout = Checkout::requested(request);
        checkout.standing = CheckoutStanding::Open;
        checkout.shown = Some(Shown { at: NOON, until: NOON.plus_seconds(3600), version: 1 });
        vault.restore(entry(&checkout, true)).unwrap();
        let secret = Kept { sealed, version: 1, updated_at: NOON, updated_by: "ada".to_owned() };
        let (credential, exclusive, crown_jewel) = (Credential::Password, true, false);
        let shown = ShownSecret { checkout, secret, credential, exclusive, crown_jewel };
        assert_eq!(view(&vault, &shown, NOON).unwrap().expose(), b"hunter2");
        assert_eq!(vault.checked_out().len(), 1);
        let late = view(&vault, &shown, NOON.plus_seconds(301)).unwrap_err();
        assert!(matches!(late, ViewError::StepUp), "{late}");
    }
}
