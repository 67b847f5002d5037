//! What came of attempts, for people: findings in the store, the rest in the log. The ledger's own writes have their audit
//! entries.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use cofferdam_access::{
    audit::Act,
    clock::{SharedClock, Timestamp},
    ids::FindingId,
    store::{FindingRecord, Store},
};
use cofferdam_vault::rotation::{EngineError, Finding, FindingKind, LedgerError, Outcome, Reporter, Trouble};
use tracing::{error, info, warn};

/// An account that cannot be tried is spoken of once in so long, seconds.
const AGAIN: i64 = 3600;

/// Writes findings and log lines.
pub(super) struct AuditReporter {
    store: Store,
    clock: SharedClock,
    /// When an account that could not even be tried was last spoken of: what is due is tried every few seconds. As many as
    /// the site has accounts.
    said: Mutex<HashMap<String, Timestamp>>,
}

impl AuditReporter {
    pub(super) fn new(store: Store, clock: SharedClock) -> Self {
        Self { store, clock, said: Mutex::default() }
    }

    /// Whether it was not spoken of within the hour.
    fn is_news(&self, account: &str) -> bool {
        let now = self.clock.now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.get(account).is_none_or(|at| *at > now || now >= at.plus_seconds(AGAIN));
        if news {
            said.insert(account.to_owned(), now);
        }
        news
    }

    async fn finding(&self, finding: &Finding) {
        let now = self.clock.now();
        let record = FindingRecord {
            id: FindingId::new(now, &mut rand::rng()),
            session: None,
            at: Timestamp(finding.at),
            trigger: format!("rotation_{}", finding.kind),
            severity: severity(finding.kind).to_owned(),
            text: finding.sentence.clone(),
            response: "notify".to_owned(),
        };
        if let Err(e) = self.store.record_finding(&Act::system("rotation", now), &record).await {
            error!(error = %e, finding = %finding.sentence, "a finding could not be written");
        }
    }
}

/// What nobody can open, and what was changed behind the vault's back, comes first.
fn severity(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Lost | FindingKind::Impostor => "critical",
        FindingKind::Drift | FindingKind::GaveUp => "high",
        FindingKind::Restored | FindingKind::Offline | FindingKind::Unfinished => "medium",
    }
}

#[async_trait]
impl Reporter for AuditReporter {
    async fn report(&self, account: &str, result: Result<Outcome, Trouble>) {
        match result {
            Ok(outcome) => {
                for finding in &outcome.findings {
                    self.finding(finding).await;
                }
                if let Some(reason) = outcome.rotated {
                    info!(account, %reason, "the secret was changed and the new one proved");
                } else if let Some(trouble) = &outcome.trouble {
                    warn!(account, %trouble, state = %outcome.state, "rotation did not come to its end");
                }
            }
            // Another node works on it: it says what comes of it.
            Err(Trouble::Engine(EngineError::Ledger(LedgerError::Held { .. }))) => {}
            Err(trouble) if self.is_news(account) => {
                warn!(account, error = %trouble, "rotation was not tried; it is tried on");
            }
            Err(_) => {}
        }
    }
}
