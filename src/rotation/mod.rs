//! Secrets that change: the vault's engine over the store's ledger, for the accounts that the site wants rotated.
//!
//! The one place besides a session's leg that connects to a target. It dials what the site describes, shows a secret only to
//! a pinned host key, and no person's word goes into it.

mod fleet;
mod look;
mod report;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::{SharedClock, Timestamp},
    policy::DestinationRules,
    site::{Account, AccountRef, Site},
    store::{Store, StoreError},
};
use cofferdam_vault::{
    Entropy, Sealer, SystemEntropy,
    rotation::{Engine, EngineError, Fleet, Limits, Outcome, Reason, Reporter, Scheduler},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub(crate) use fleet::PLUGIN_COMMAND;
use fleet::SiteFleet;
pub(crate) use look::can_be_looked_at;
use report::LogReporter;

/// How often it is looked for what is due. A session's secret changes within this time of its end.
const ROUND: Duration = Duration::from_secs(2);
/// How often the store is told which accounts the site wants rotated, in rounds: one may have got its secret since. At once
/// when the site has changed.
const ENROL: u32 = 15;
/// New accounts are asked for the first time spread over so many seconds.
const SPREAD: u64 = 600;

/// Whether the vault opens anything; may wait.
pub(crate) type Ready = Arc<dyn Fn() -> bool + Send + Sync>;
/// Gives the site as it is now.
pub(crate) type SiteNow = Arc<dyn Fn() -> Arc<Site> + Send + Sync>;

/// What rotation is made of.
pub(crate) struct Means {
    /// This node's name.
    pub(crate) node: String,
    /// Where everything is kept.
    pub(crate) store: Store,
    /// Opens and seals the secrets.
    pub(crate) sealer: Sealer,
    /// The time.
    pub(crate) clock: SharedClock,
    /// What may not be dialled.
    pub(crate) destinations: DestinationRules,
    /// The site.
    pub(crate) site: SiteNow,
    /// Where plug-ins are.
    pub(crate) plugins: Option<PathBuf>,
}

/// Rotates accounts of the site.
pub(crate) struct Rotations {
    store: Store,
    clock: SharedClock,
    site: SiteNow,
    engine: Arc<Engine>,
    fleet: Arc<SiteFleet>,
    reporter: Arc<LogReporter>,
}

/// Whether the site wants the account's secret changed by the vault, and it can be reached at all.
pub(crate) fn is_rotated(site: &Site, account: &Account) -> bool {
    account.rotation.is_some()
        && !account.disabled
        && site.asset(&account.asset).is_some_and(|asset| !asset.disabled)
}

/// Why an account was not worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// The site does not say how, or something that it takes is missing.
    #[error("{account} cannot be rotated: {why}")]
    Unmanaged {
        /// The account.
        account: AccountRef,
        /// A plain clause.
        why: String,
    },
    /// An asset could not be looked at.
    #[error("{asset} cannot be looked at: {why}")]
    Unseen {
        /// The asset.
        asset: cofferdam_access::ids::Name,
        /// A plain clause.
        why: String,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Rotations {
    /// Starts nothing by itself.
    ///
    /// # Errors
    /// When there is no folder for what plug-ins write.
    pub(crate) fn new(means: Means) -> std::io::Result<Self> {
        let Means { node, store, sealer, clock, destinations, site, plugins } = means;
        let now = clock.clone();
        let engine = Engine::new(
            node,
            Arc::new(store.rotation_ledger(clock.clone())),
            Arc::new(sealer.clone()),
            Arc::new(SystemEntropy),
            Arc::new(move || now.now().micros()),
        );
        let fleet = SiteFleet::new(site.clone(), store.clone(), sealer, destinations, plugins)?;
        let reporter = Arc::new(LogReporter::new(clock.clone()));
        Ok(Self { store, clock, site, engine: Arc::new(engine), fleet: Arc::new(fleet), reporter })
    }

    /// Changes the account's secret now, and proves the new one.
    pub(crate) async fn rotate(&self, act: &Act, account: &AccountRef) -> Result<Outcome, RotationError> {
        self.enrol(act).await?;
        let managed = self.managed(account).await?;
        self.store.want_rotation(act, account, Reason::Demand).await?;
        let outcome = self.engine.advance(&account.to_string(), &managed).await?;
        self.reporter.report(&account.to_string(), Ok(outcome.clone())).await;
        Ok(outcome)
    }

    /// Asks the target now whether it takes the account's secret.
    pub(crate) async fn verify(&self, act: &Act, account: &AccountRef) -> Result<Outcome, RotationError> {
        self.enrol(act).await?;
        let managed = self.managed(account).await?;
        // Asking may go on with a change that is under way: who asked stands in the log.
        let event = AuditEvent::new(AuditKind::RotationWanted, account).with("reason", "verify");
        self.store.record(act, event).await?;
        let outcome = self.engine.verify(&account.to_string(), &managed).await?;
        self.reporter.report(&account.to_string(), Ok(outcome.clone())).await;
        Ok(outcome)
    }

    async fn managed(
        &self,
        account: &AccountRef,
    ) -> Result<cofferdam_vault::rotation::Managed, RotationError> {
        let why = |why| RotationError::Unmanaged { account: account.clone(), why };
        self.fleet.managed(&account.to_string()).await.map_err(why)
    }

    /// Tells the store which accounts the site wants rotated.
    async fn enrol(&self, act: &Act) -> Result<(), StoreError> {
        let site = (self.site)();
        let mut managed = BTreeMap::new();
        for account in site.accounts.iter().filter(|a| is_rotated(&site, a)) {
            let name = account.reference();
            managed.insert(name, self.first_look(act.at));
        }
        self.store.manage_rotations(act, &managed).await.map(drop)
    }

    /// A thousand accounts that are new at once are not all asked in the same second.
    fn first_look(&self, now: Timestamp) -> Timestamp {
        let mut byte = [0; 2];
        // Without randomness they all come at once, which is no more than unkind.
        SystemEntropy.fill(&mut byte).unwrap_or_default();
        let seconds = u64::from(u16::from_le_bytes(byte)) % SPREAD;
        now.plus_seconds(i64::try_from(seconds).unwrap_or_default())
    }

    /// Works on what is due until `quit`, whenever the vault is `ready`.
    pub(crate) async fn run(self, ready: Ready, quit: CancellationToken) {
        let (engine, fleet) = (self.engine.clone(), self.fleet.clone());
        let scheduler = Scheduler::new(engine, fleet, self.reporter.clone(), Limits::default());
        let mut enrolled: Option<Arc<Site>> = None;
        let mut round = 0u32;
        loop {
            let site = (self.site)();
            if round.is_multiple_of(ENROL) || enrolled.as_ref().is_none_or(|e| !Arc::ptr_eq(e, &site)) {
                match self.enrol(&Act::system("rotation", self.clock.now())).await {
                    Ok(()) => enrolled = Some(site),
                    Err(e) => warn!(error = %e, "accounts cannot be entered for rotation; it is tried again"),
                }
            }
            round = round.wrapping_add(1);
            let asked = ready.clone();
            let open = tokio::task::spawn_blocking(move || asked()).await.unwrap_or(false);
            // A pass that is dropped leaves accounts where the ledger says; the next start goes on from there.
            if open {
                tokio::select! {
                    biased;
                    () = quit.cancelled() => return,
                    pass = scheduler.pass() => if let Err(e) = pass {
                        error!(error = %e, "rotation stands still; it is tried again");
                    },
                }
            }
            tokio::select! {
                biased;
                () = quit.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }
}
