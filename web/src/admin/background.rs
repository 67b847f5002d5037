//! What the administration's pages keep in memory, because it takes longer than a page may: the metrics, and a verification
//! of the audit log under way.

use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_access::{
    audit::{Act, AuditReport},
    clock::Timestamp,
    local_time::SiteZone,
    metrics::Trend,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};

use crate::{error::Failure, services::App};

/// Metrics are looked at again when they are this old, seconds.
const METRICS_AGE: i64 = 60;
/// Days that the metrics go back.
pub(crate) const METRICS_DAYS: u16 = 30;
/// Downloads of the audit log at once.
const DOWNLOADS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Background {
    looked: Mutex<Option<Arc<Looked>>>,
    looking: AsyncMutex<()>,
    verification: Mutex<Verification>,
    downloads: Arc<Semaphore>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            looked: Mutex::default(),
            looking: AsyncMutex::default(),
            verification: Mutex::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        }
    }
}

/// The metrics as last computed.
#[derive(Debug)]
pub(crate) struct Looked {
    /// When.
    pub(crate) at: Timestamp,
    /// Day by day.
    pub(crate) trend: Trend,
}

/// Where the verification of the audit log stands in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verification {
    /// One is under way since then.
    pub(crate) running: Option<Timestamp>,
    /// What the last one of this process said, or why it could not be done.
    pub(crate) last: Option<(Timestamp, Result<AuditReport, String>)>,
}

impl Background {
    fn looked(&self) -> Option<Arc<Looked>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The metrics; nobody waits for a newer look but the very first who asks.
    pub(crate) async fn metrics(app: &App) -> Result<Arc<Looked>, Failure> {
        let now = app.now();
        match app.background.looked() {
            Some(looked) if now.since(looked.at) < METRICS_AGE * 1_000_000 => Ok(looked),
            Some(looked) => {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Err(e) = Self::look(&app).await {
                        tracing::warn!(error = %e, "the metrics could not be computed anew");
                    }
                });
                Ok(looked)
            }
            None => Self::look(app).await,
        }
    }

    async fn look(app: &App) -> Result<Arc<Looked>, Failure> {
        let background = &app.background;
        let _alone = background.looking.lock().await;
        let (now, known) = (app.now(), background.looked());
        if let Some(looked) = &known
            && now.since(looked.at) < METRICS_AGE * 1_000_000
        {
            return Ok(looked.clone());
        }
        let zone = SiteZone::new(&app.snapshot().site.settings.time_zone).map_err(Failure::invalid)?;
        let before = known.map(|k| k.trend.clone()).unwrap_or_default();
        let trend = Trend::look(&app.store, &zone, now, METRICS_DAYS, &before).await?;
        let looked = Arc::new(Looked { at: now, trend });
        *background.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked.clone());
        Ok(looked)
    }

    /// Where the verification of the audit log stands.
    pub(crate) fn verification(&self) -> Verification {
        self.verification.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Verifies the audit log, one at a time; says whether it begins now. The outcome is noted in the log itself.
    pub(crate) fn verify(app: &App, act: Act) -> bool {
        {
            let mut state = app.background.verification.lock().unwrap_or_else(PoisonError::into_inner);
            if state.running.is_some() {
                return false;
            }
            state.running = Some(act.at);
        }
        let running = Running(app.clone());
        tokio::spawn(async move {
            let outcome = running.0.store.verify_own_audit(&act).await;
            let last = match outcome {
                Ok((report, not_noted)) => {
                    if let Some(e) = not_noted {
                        tracing::error!(error = %e, "the verification could not be noted in the audit log");
                    }
                    Ok(report)
                }
                Err(e) => {
                    tracing::error!(error = %e, "the audit log could not be verified");
                    Err("the audit log could not be read to its end: see the gateway's log".to_owned())
                }
            };
            let at = running.0.now();
            let mut state = running.0.background.verification.lock().unwrap_or_else(PoisonError::into_inner);
            state.last = Some((at, last));
        });
        true
    }

    /// A place to download the audit log, if there is one.
    pub(crate) fn download(&self) -> Option<OwnedSemaphorePermit> {
        self.downloads.clone().try_acquire_owned().ok()
    }
}

/// Another verification may begin when this is gone, however it went.
struct Running(App);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.background.verification.lock().unwrap_or_else(PoisonError::into_inner).running = None;
    }
}
