//! What commands work with: the open store, the site, its time zone, and who acts.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use cofferdam_access::{
    apply::{Plan, Proposal},
    audit::{Act, Actor},
    clock::Timestamp,
    ids::Name,
    local_time::SiteZone,
    people::User,
    policy::CompiledPolicies,
    site::Site,
    snapshot::Snapshot,
    store::Store,
};

use super::error::CliError;
use crate::{
    config::Config,
    context::{Context, os_user},
    records::Records,
};

/// On whose behalf an operator restricts something.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OnBehalf {
    /// The person on whose behalf; the audit log names them beside the operator
    #[arg(long = "as", value_name = "PERSON")]
    pub(crate) person: Option<Name>,
}

/// See the module.
pub(crate) struct Desk {
    /// What the configuration names.
    pub(crate) context: Arc<Context>,
    /// The store.
    pub(crate) store: Store,
    /// The site as it is.
    pub(crate) site: Site,
    /// Its time zone.
    pub(crate) zone: SiteZone,
    /// Whoever started this process.
    operator: String,
    /// Somebody was about to change something: there may be a new end of the log to hold on to.
    acted: AtomicBool,
}

impl Desk {
    /// Opens what the configuration at `path` names.
    pub(crate) async fn open(path: &Path) -> Result<Self, CliError> {
        Self::with(Context::new(Config::load(path)?)).await
    }

    /// Opens the store of `context`.
    pub(crate) async fn with(context: Context) -> Result<Self, CliError> {
        let store = context.open_store().await?;
        let site = store.site().await?;
        let zone = SiteZone::new(&site.settings.time_zone)?;
        Ok(Self {
            context: Arc::new(context),
            store,
            site,
            zone,
            operator: os_user(),
            acted: AtomicBool::new(false),
        })
    }

    /// Puts the last checkpoint into its file and lets go of the database. A checkpoint that cannot be written is said and
    /// no failure of the command, whose change is committed.
    pub(crate) async fn close(&self) {
        if self.acted.load(Ordering::Relaxed)
            && let Err(e) = self.store.checkpoint().await
        {
            eprintln!("cofferdam: {e}");
        }
        self.store.close().await;
    }

    /// The recordings that the configuration names.
    pub(crate) fn records(&self) -> Result<Records, CliError> {
        let archive = self.context.archive()?;
        Ok(Records::new(Arc::clone(&self.context), self.store.clone(), archive))
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// The operating system's name for whoever started this process.
    pub(crate) fn operator(&self) -> &str {
        &self.operator
    }

    /// The operator acts now, for somebody or by themselves.
    pub(crate) fn act(&self, on_behalf: &OnBehalf) -> Result<Act, CliError> {
        if let Some(person) = &on_behalf.person {
            self.person(person)?;
        }
        Ok(self.own_act().on_behalf_of(on_behalf.person.as_ref()))
    }

    /// The operator acts now, by themselves.
    pub(crate) fn own_act(&self) -> Act {
        self.acted.store(true, Ordering::Relaxed);
        Act::new(Actor::operator(&self.operator), self.now())
    }

    /// A person who has proved to be there acts at `at`.
    pub(crate) fn act_of(&self, person: &Name, at: Timestamp) -> Act {
        self.acted.store(true, Ordering::Relaxed);
        Act::person(person, at)
    }

    /// A person of the site.
    pub(crate) fn person(&self, name: &Name) -> Result<&User, CliError> {
        self.site.user(name).ok_or_else(|| {
            CliError::failed(format!(
                "there is no person {:?}: `cofferdam user list` names them",
                name.as_str()
            ))
        })
    }

    /// The picture that policy decides from, as of now.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CliError> {
        let now = self.now();
        let view = self.store.policy_view(now).await?;
        let policies = CompiledPolicies::compile(&view.site);
        Ok(Snapshot {
            site: view.site.into(),
            plant: view.plant_states,
            windows: Snapshot::relevant(view.windows, now),
            policies: policies.into(),
            revision: view.revision,
            taken_at: now,
        })
    }

    /// Makes the site so, in one transaction; refused if it changed since this desk read it. Answers the plan that was
    /// carried out.
    pub(crate) async fn change_site(&self, act: &Act, wanted: Site) -> Result<Plan, CliError> {
        let proposal = Proposal::new(&self.site, wanted)?;
        proposal.apply(&self.store, act).await?;
        Ok(proposal.plan().clone())
    }
}
