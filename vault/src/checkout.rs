//! Check-outs: a person sees a secret, because policy says so, and it is changed afterwards.
//!
//! The decision is made elsewhere and arrives as a [`ViewWarrant`], which cannot be built without a fresh second factor
//! and, for a crown jewel, two other people. A check-out ends by return or by its end, whichever is first; either way the
//! answer is a [`RotationDue`], which the caller must not lose: the check-outs that are open are kept by the store and put
//! back with [`Vault::restore`] after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lease::{SealedSecret, Source, Vault};
use crate::ledger::{Entry, HeldLease, Ledger, Sharing};
use crate::seal::{Context, SealError};
use crate::secret::SecretBytes;

/// The longest check-out, in seconds.
pub const MAX_VIEW_SECONDS: i64 = 8 * 3600;
/// How old the second factor may be that a check-out is asked with, in seconds.
pub const MAX_STEP_UP_SECONDS: i64 = 300;
/// How many other people have to agree to show the secret of a crown jewel.
pub const CROWN_JEWEL_PEOPLE: usize = 2;

const MICROSECONDS: i64 = 1_000_000;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// There is no end, or it has passed, or it is too far.
    #[error(
        "the check-out of account {account_id} ends at no time that is allowed; ask for at most {} hours from now", MAX_VIEW_SECONDS / 3600
    )]
    End {
        /// The account.
        account_id: String,
    },
    /// The second factor is too old, or from the future.
    #[error(
        "seeing a secret takes a fresh second factor; prove it again and retry within {MAX_STEP_UP_SECONDS} s"
    )]
    StepUp,
    /// Too few other people agreed.
    #[error(
        "account {account_id} is on a crown jewel: {CROWN_JEWEL_PEOPLE} people other than {user_name} have to agree, and {agreed} did"
    )]
    People {
        /// The account.
        account_id: String,
        /// Who wants to see it.
        user_name: String,
        /// How many agreed.
        agreed: usize,
    },
    /// Somebody has it.
    #[error(
        "account {account_id} is checked out by {user_name} ({holder}); wait until it is returned, or end that"
    )]
    InUse {
        /// The account.
        account_id: String,
        /// Who has it.
        user_name: String,
        /// The session or check-out.
        holder: String,
    },
    /// There is nothing to see.
    #[error(
        "account {account_id} uses certificates: there is no secret that anybody could see; connect instead"
    )]
    Certificate {
        /// The account.
        account_id: String,
    },
    /// No such check-out.
    #[error("there is no check-out {0}; it was returned or has ended, see `cofferdam vault status`")]
    Unknown(String),
    /// It is there already.
    #[error("check-out {0} is open already; return it first")]
    Twice(String),
    /// The sealed secret does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What was decided, by whom, about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewTerms {
    /// The id of this check-out.
    pub checkout_id: String,
    /// The account.
    pub account_id: String,
    /// Who sees it.
    pub user_name: String,
    /// Whether the account is on a crown jewel.
    pub crown_jewel: bool,
    /// Who agreed. The person themselves does not count, nor does anybody twice.
    pub agreed: Vec<String>,
    /// When the person proved their second factor for this, in UTC microseconds.
    pub stepped_up_at: i64,
    /// When it ends, in UTC microseconds.
    pub not_after: i64,
}

/// The proof that a person may see one secret for a while.
#[derive(Debug)]
pub struct ViewWarrant(ViewTerms);

impl ViewWarrant {
    /// Checks the rules that hold whatever a site's policy says. `now` is in UTC microseconds.
    ///
    /// # Errors
    /// [`ViewError::End`], [`ViewError::StepUp`], [`ViewError::People`].
    pub fn new(terms: ViewTerms, now: i64) -> Result<Self, ViewError> {
        let longest = now.saturating_add(MAX_VIEW_SECONDS.saturating_mul(MICROSECONDS));
        if terms.not_after <= now || terms.not_after > longest {
            return Err(ViewError::End { account_id: terms.account_id });
        }
        let age = now.saturating_sub(terms.stepped_up_at);
        if !(0..=MAX_STEP_UP_SECONDS.saturating_mul(MICROSECONDS)).contains(&age) {
            return Err(ViewError::StepUp);
        }
        let others: BTreeSet<&String> = terms.agreed.iter().filter(|p| **p != terms.user_name).collect();
        if terms.crown_jewel && others.len() < CROWN_JEWEL_PEOPLE {
            let agreed = others.len();
            return Err(ViewError::People {
                account_id: terms.account_id,
                user_name: terms.user_name,
                agreed,
            });
        }
        Ok(Self(terms))
    }

    /// What it says.
    #[must_use]
    pub fn terms(&self) -> &ViewTerms {
        &self.0
    }
}

/// Why a secret has to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The session with this id used it.
    SessionEnded(String),
    /// The check-out with this id was returned.
    Returned(String),
    /// The check-out with this id came to its end.
    Expired(String),
    /// The envelope with this id was opened.
    EnvelopeOpened(String),
}

/// An account whose secret somebody has seen, or a target was given. Losing this value loses the rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the secret has to be changed"]
pub struct RotationDue {
    /// The account.
    pub account_id: String,
    /// Why.
    pub because: Because,
}

/// An open check-out, for lists and for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCheckOut {
    /// Its id.
    pub checkout_id: String,
    /// The account.
    pub account_id: String,
    /// Who sees it.
    pub user_name: String,
    /// Since when, in UTC microseconds.
    pub since: i64,
    /// Until when.
    pub not_after: i64,
    /// Whether nobody else may have the account meanwhile.
    pub sharing: Sharing,
}

/// The open check-outs.
#[derive(Debug, Default)]
pub(crate) struct CheckOuts(Mutex<BTreeMap<String, (HeldCheckOut, Entry)>>);

impl CheckOuts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (HeldCheckOut, Entry)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault {
    /// Shows a secret to a person. The check-out stays open until [`give_back`](Self::give_back) or its end.
    ///
    /// The caller has written the check-out to the store before this, so that a crash cannot make a secret seen and the
    /// rotation forgotten.
    ///
    /// # Errors
    /// [`ViewError`]; nothing is entered then.
    pub fn check_out(
        &self,
        warrant: &ViewWarrant,
        sealed: &SealedSecret,
        now: i64,
    ) -> Result<SecretBytes, ViewError> {
        let terms = warrant.terms();
        let (Source::Password(bytes) | Source::PrivateKey(bytes)) = &sealed.source else {
            return Err(ViewError::Certificate { account_id: terms.account_id.clone() });
        };
        if now >= terms.not_after {
            return Err(ViewError::End { account_id: terms.account_id.clone() });
        }
        let held = HeldCheckOut {
            checkout_id: terms.checkout_id.clone(),
            account_id: terms.account_id.clone(),
            user_name: terms.user_name.clone(),
            since: now,
            not_after: terms.not_after,
            sharing: sealed.sharing,
        };
        self.enter(held)?;
        let opened = self.sealer().open(&Context::account(&terms.account_id), bytes);
        opened.map_err(|e| {
            self.check_outs.lock().remove(&terms.checkout_id);
            e.into()
        })
    }

    /// Puts back what was open before a restart. Nothing is shown again.
    ///
    /// # Errors
    /// [`ViewError::Twice`], [`ViewError::InUse`].
    pub fn restore(&self, held: HeldCheckOut) -> Result<(), ViewError> {
        self.enter(held)
    }

    /// Returns a check-out.
    ///
    /// # Errors
    /// [`ViewError::Unknown`].
    pub fn give_back(&self, checkout_id: &str) -> Result<RotationDue, ViewError> {
        let (held, _) = self
            .check_outs
            .lock()
            .remove(checkout_id)
            .ok_or_else(|| ViewError::Unknown(checkout_id.to_owned()))?;
        Ok(RotationDue { account_id: held.account_id, because: Because::Returned(held.checkout_id) })
    }

    /// Ends the check-outs whose end has come, and says what is due to be changed.
    #[must_use]
    pub fn expire(&self, now: i64) -> Vec<RotationDue> {
        let mut table = self.check_outs.lock();
        let over = table.extract_if(.., |_, (held, _)| now >= held.not_after);
        over.map(|(id, (held, _))| RotationDue { account_id: held.account_id, because: Because::Expired(id) })
            .collect()
    }

    /// All check-outs that are open.
    #[must_use]
    pub fn checked_out(&self) -> Vec<HeldCheckOut> {
        self.check_outs.lock().values().map(|(held, _)| held.clone()).collect()
    }

    fn enter(&self, held: HeldCheckOut) -> Result<(), ViewError> {
        let mut table = self.check_outs.lock();
        if table.contains_key(&held.checkout_id) {
            return Err(ViewError::Twice(held.checkout_id));
        }
        let wanted = HeldLease {
            account_id: held.account_id.clone(),
            session_id: held.checkout_id.clone(),
            user_name: held.user_name.clone(),
            sharing: held.sharing,
            since: held.since,
        };
        let entry = Ledger::enter(&self.ledger, wanted).map_err(|other| ViewError::InUse {
            account_id: other.account_id,
            user_name: other.user_name,
            holder: other.session_id,
        })?;
        table.insert(held.checkout_id.clone(), (held, entry));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ca::tests::{NOW, Paper};
    use crate::{CertificateTerms, Sealer, SystemEntropy};

    const HOUR: i64 = 3600 * MICROSECONDS;

    fn vault() -> Vault {
        Vault::new(Sealer::ephemeral(Arc::new(SystemEntropy)), None)
    }

    fn password(vault: &Vault, sharing: Sharing) -> SealedSecret {
        SealedSecret::password(vault.seal("acc-1", &SecretBytes::from(b"hunter2".to_vec())).unwrap(), sharing)
    }

    fn terms() -> ViewTerms {
        ViewTerms {
            checkout_id: "c-1".into(),
            account_id: "acc-1".into(),
            user_name: "emil".into(),
            crown_jewel: false,
            agreed: vec![],
            stepped_up_at: NOW,
            not_after: NOW + HOUR,
        }
    }

    #[test]
    fn a_person_sees_a_secret_and_it_is_due_to_be_changed_when_they_return_it() {
        let vault = vault();
        let warrant = ViewWarrant::new(terms(), NOW).unwrap();
        let secret = vault.check_out(&warrant, &password(&vault, Sharing::Exclusive), NOW).unwrap();
        assert_eq!(secret.expose(), b"hunter2");
        let busy = vault.lease(&Paper::default(), password(&vault, Sharing::Exclusive), NOW).unwrap_err();
        assert!(busy.to_string().contains("c-1"), "{busy}");
        let due = vault.give_back("c-1").unwrap();
        assert_eq!(due, RotationDue { account_id: "acc-1".into(), because: Because::Returned("c-1".into()) });
        assert!(matches!(vault.give_back("c-1"), Err(ViewError::Unknown(_))));
        assert!(vault.held().is_empty());
    }

    #[test]
    fn what_nobody_returns_ends_by_itself_and_is_due_too() {
        let vault = vault();
        let warrant = ViewWarrant::new(terms(), NOW).unwrap();
        vault.check_out(&warrant, &password(&vault, Sharing::Shared), NOW).unwrap();
        assert!(vault.expire(NOW + HOUR - 1).is_empty());
        let due = vault.expire(NOW + HOUR);
        assert_eq!(due[0].because, Because::Expired("c-1".into()));
        assert!(vault.expire(NOW + HOUR).is_empty() && vault.checked_out().is_empty());
    }

    #[test]
    fn a_restart_forgets_no_check_out() {
        let (before, after) = (vault(), vault());
        let warrant = ViewWarrant::new(terms(), NOW).unwrap();
        before.check_out(&warrant, &password(&before, Sharing::Exclusive), NOW).unwrap();
        for held in before.checked_out() {
            after.restore(held.clone()).unwrap();
            assert!(matches!(after.restore(held), Err(ViewError::Twice(_))));
        }
        assert!(after.lease(&Paper::default(), password(&after, Sharing::Exclusive), NOW).is_err());
        assert_eq!(after.expire(NOW + HOUR).len(), 1);
    }

    #[test]
    fn a_crown_jewel_takes_two_other_people() {
        let two = ["olga".to_owned(), "sam".to_owned()];
        for (agreed, enough) in [
            (vec![], false),
            (vec!["olga".to_owned()], false),
            (vec!["olga".to_owned(), "olga".to_owned()], false),
            (vec!["olga".to_owned(), "emil".to_owned()], false),
            (two.to_vec(), true),
        ] {
            let warrant = ViewWarrant::new(ViewTerms { crown_jewel: true, agreed, ..terms() }, NOW);
            assert_eq!(warrant.is_ok(), enough, "{warrant:?}");
        }
    }

    #[test]
    fn an_old_second_factor_or_an_endless_view_is_refused() {
        for stepped_up_at in [NOW - 301 * MICROSECONDS, NOW + 1, i64::MIN] {
            let warrant = ViewWarrant::new(ViewTerms { stepped_up_at, ..terms() }, NOW);
            assert!(matches!(warrant, Err(ViewError::StepUp)));
        }
        for not_after in [NOW, NOW - 1, NOW + 9 * HOUR, i64::MAX] {
            let warrant = ViewWarrant::new(ViewTerms { not_after, ..terms() }, NOW);
            assert!(matches!(warrant, Err(ViewError::End { .. })));
        }
        let warrant = ViewWarrant::new(terms(), NOW).unwrap();
        let vault = vault();
        let late = vault.check_out(&warrant, &password(&vault, Sharing::Shared), NOW + HOUR);
        assert!(matches!(late, Err(ViewError::End { .. })));
    }

    #[test]
    fn nothing_stays_entered_when_there_is_nothing_to_see() {
        let vault = vault();
        let warrant = ViewWarrant::new(terms(), NOW).unwrap();
        let certificate = SealedSecret::certificate(CertificateTerms::default(), Sharing::Shared);
        assert!(matches!(vault.check_out(&warrant, &certificate, NOW), Err(ViewError::Certificate { .. })));
        let damaged = SealedSecret::password(vec![1, 2, 3], Sharing::Exclusive);
        assert!(matches!(vault.check_out(&warrant, &damaged, NOW), Err(ViewError::Seal(_))));
        assert!(vault.held().is_empty() && vault.checked_out().is_empty());
    }
}
