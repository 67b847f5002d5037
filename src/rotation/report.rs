//! What came of attempts, for whoever reads the log. The ledger keeps the findings, and its writes have their audit entries.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use cofferdam_access::clock::{SharedClock, Timestamp};
use cofferdam_vault::rotation::{EngineError, LedgerError, Outcome, Reporter, Trouble};
use tracing::{info, warn};

/// An account that cannot be tried is spoken of once in so long, seconds.
const AGAIN: i64 = 3600;

/// Writes log lines.
pub(super) struct LogReporter {
    clock: SharedClock,
    /// When an account that could not even be tried was last spoken of: what is due is tried every few seconds. As many as
    /// the site has accounts.
    said: Mutex<HashMap<String, Timestamp>>,
}

impl LogReporter {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, said: Mutex::default() }
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
}

#[async_trait]
impl Reporter for LogReporter {
    async fn report(&self, account: &str, result: Result<Outcome, Trouble>) {
        match result {
            Ok(outcome) => {
                // The ledger keeps them; this is for whoever reads the log.
                for finding in &outcome.findings {
                    warn!(account, kind = %finding.kind, "{}", finding.sentence);
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
