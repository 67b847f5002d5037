//! What a kind of account can do: change its secret, prove one, mend it by another account.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::password::{PasswordPolicy, PolicyError};
use crate::entropy::Entropy;
use crate::secret::{SecretBytes, SecretString};

/// Why a target did not do what was asked. Each text is a plain clause for people (`the host key is another one`), holds
/// no secret, and nothing of what the target said that could hold one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not answer, and certainly nothing was sent that could change it.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, but is not the target that was expected. Nothing was sent.
    #[error("{0}")]
    Impostor(String),
    /// It does not take the secret that was to open it.
    #[error("{0}")]
    Refused(String),
    /// It does not take the new secret: its own policy is stricter.
    #[error("{0}")]
    Rejected(String),
    /// The account may not do this, or something is set up wrong.
    #[error("{0}")]
    Denied(String),
    /// The answer did not come or made no sense: it may have done it.
    #[error("{0}")]
    Unsure(String),
}

/// What a target says to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It opens.
    Opens,
    /// It does not, and the target said so.
    Refused,
}

/// Rotates one account. Made for that account: it knows the address, the login and what proves the target's identity.
///
/// Whatever a method answers, the engine believes only [`verify`](Self::verify). A method may be dropped at any await.
#[async_trait]
pub trait Rotator: fmt::Debug + Send + Sync {
    /// A new secret that the target should take.
    ///
    /// # Errors
    /// [`PolicyError`] when the account's policy makes none.
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError>;

    /// Makes `candidate` the account's secret. Called again with the same two when the outcome is not known.
    ///
    /// # Errors
    /// [`Fault`]; [`Fault::Unreachable`] only when nothing was sent.
    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault>;

    /// Asks the target whether it takes `secret`, without changing anything.
    ///
    /// # Errors
    /// [`Fault`] when the target did not say yes or no.
    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault>;

    /// Whether [`finish`](Self::finish) has something to do.
    fn finishes(&self) -> bool {
        false
    }

    /// Removes from the target what `current` replaced, where old and new are valid side by side (SSH keys).
    ///
    /// # Errors
    /// [`Fault`]; it is called again.
    async fn finish(&self, _current: &SecretBytes, _former: &[SecretBytes]) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether another account can set this one's secret.
    fn reconciles(&self) -> bool {
        false
    }

    /// Makes `candidate` the account's secret by way of another account.
    ///
    /// # Errors
    /// [`Fault`], as for [`change`](Self::change).
    async fn reconcile(&self, _candidate: &SecretBytes) -> Result<(), Fault> {
        Err(no_helper())
    }
}

/// What uses an account's password besides people, such as a service or a scheduled task, and has to be told.
#[async_trait]
pub trait Dependent: fmt::Debug + Send + Sync {
    /// Its name, unique for the account: `historian service on srv-4`.
    fn name(&self) -> &str;

    /// Gives it the new secret. Called again until it has succeeded once.
    ///
    /// # Errors
    /// [`Fault`].
    async fn update(&self, current: &SecretBytes) -> Result<(), Fault>;
}

/// What is done when a target does not take the secret that the vault has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrift {
    /// People are told.
    Report,
    /// People are told, and a new secret is set by the other account, where there is one.
    Mend,
}

/// How long to wait after a failure: doubled each time up to a ceiling, and spread, so that a thousand accounts behind one
/// dead switch do not come back in the same second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub ceiling: Duration,
}

impl Backoff {
    /// The wait after failure number `failures` (from 1), in microseconds; `chance` picks from its upper half.
    #[must_use]
    pub fn wait(&self, failures: u32, chance: u8) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4);
        let doubled = micros(self.first).saturating_mul(1 << failures.saturating_sub(1).min(30));
        let full = doubled.min(micros(self.ceiling)).max(2);
        full / 2 + (full / 2 / 255).saturating_mul(i64::from(chance))
    }
}

/// When and how persistently an account is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How old a secret may become; none: only when asked.
    pub rotate_every: Option<Duration>,
    /// How often the target is asked whether it still takes the secret; none: never unasked.
    pub verify_every: Option<Duration>,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Attempts after which a finding is raised. With a target that answers, they end there; one that does not answer is
    /// tried on, at the ceiling's pace.
    pub attempts: u32,
    /// How long the target may take for one step.
    pub patience: Duration,
    /// What is done about drift.
    pub on_drift: OnDrift,
}

impl Default for Plan {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            rotate_every: Some(30 * DAY),
            verify_every: Some(DAY),
            backoff: Backoff { first: Duration::from_secs(30), ceiling: Duration::from_secs(6 * 60 * 60) },
            attempts: 6,
            patience: Duration::from_secs(30),
            on_drift: OnDrift::Report,
        }
    }
}

/// All that the engine needs to rotate one account.
#[derive(Debug, Clone)]
pub struct Managed {
    /// The machine that it is on: only so many accounts of one are worked on at a time.
    pub target: String,
    /// How its kind does it.
    pub rotator: Arc<dyn Rotator>,
    /// When, and how persistently.
    pub plan: Plan,
    /// Who has to be told.
    pub dependents: Vec<Arc<dyn Dependent>>,
}

/// The secret as text.
pub(super) fn text(secret: &SecretBytes) -> Result<SecretString, Fault> {
    secret.to_text().map_err(|_| Fault::Denied("the stored secret is no text; set it again".into()))
}

/// The candidate as text, if it keeps the policy: one that a program on the way would read as something else is not sent.
pub(super) fn fitting(
    policy: &PasswordPolicy,
    candidate: &SecretBytes,
    login: &str,
) -> Result<SecretString, Fault> {
    let text = text(candidate)?;
    match policy.check(&text, login).first() {
        None => Ok(text),
        Some(rule) => Err(Fault::Rejected(format!("the new password {rule}"))),
    }
}

/// What is the matter with the account that helps says nothing about the secret of the one that it helps.
pub(super) fn of_helper(fault: Fault) -> Fault {
    match fault {
        Fault::Refused(why) => Fault::Denied(format!("{why}, the account that sets this one's secret")),
        other => other,
    }
}

/// No helper is named.
pub(super) fn no_helper() -> Fault {
    Fault::Denied("no other account is named that could set this one's secret".into())
}
