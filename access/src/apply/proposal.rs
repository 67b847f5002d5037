//! A change of the site on its way: what is wanted, what that changes, and whether this person may do it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::{CheckedSite, ItemKind, Plan, SiteFault, Verb};
use crate::{
    audit::Act,
    ids::Name,
    policy::{CompiledPolicies, PolicyError},
    site::Site,
    store::{Applied, Store, StoreError},
};

/// Why a site cannot become so. The fault is that of whoever described it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The description does not make sense; all that is wrong.
    #[error("{}", Lines(.0))]
    Faults(Vec<SiteFault>),
    /// Its policies do not compile together.
    #[error(transparent)]
    Policies(#[from] PolicyError),
    /// The two sites cannot be compared.
    #[error("the site cannot be compared: {0}")]
    Compare(String),
    /// There is no such item.
    #[error("there is no {kind} \"{name}\": it may have been removed meanwhile")]
    NoSuch {
        /// What kind of item.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

struct Lines<'a>(&'a [SiteFault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl CheckedSite {
    /// Checks a site, and that its policies compile together with the shipped ones.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn compiled(site: Site) -> Result<Self, ProposalError> {
        let policies = CompiledPolicies::compile(&site);
        // The policies are judged together below: one file alone may well need another.
        let checked = Self::new(site, &|_| Ok(())).map_err(ProposalError::Faults)?;
        match policies.problem() {
            Some(problem) => Err(problem.clone().into()),
            None => Ok(checked),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    wanted: CheckedSite,
    plan: Plan,
}

impl Proposal {
    /// From the site as it is to the site as wanted.
    ///
    /// # Errors
    /// When the wanted site does not make sense.
    pub fn new(current: &Site, wanted: Site) -> Result<Self, ProposalError> {
        let wanted = CheckedSite::compiled(wanted)?;
        let plan = Plan::between(current, &wanted).map_err(|e| ProposalError::Compare(e.to_string()))?;
        Ok(Self { wanted, plan })
    }

    /// What changes.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// SHA-256 of the plan (its JSON: every field before and after), lower-case hexadecimal: what somebody agrees to.
    pub fn digest(&self) -> String {
        // A plan is plain data: its JSON cannot fail. An empty text would only make a digest that matches nothing.
        let json = serde_json::to_vec(&self.plan).unwrap_or_default();
        hex::encode(digest(&SHA256, &json).as_ref())
    }

    /// Why `person` may not do this themselves. Somebody who describes the site must not reach more by describing
    /// themselves: not their own duties, and not whether they may act.
    pub fn refusal_for(&self, person: &Name) -> Option<String> {
        let own = self.plan.steps.iter().find(|s| s.kind == ItemKind::User && s.name == person.as_str())?;
        let guarded = ["duties", "disabled", "valid_until", "organisation"];
        let field = own.fields.iter().find(|f| guarded.contains(&f.field.as_str()));
        match (own.verb, field) {
            (Verb::Change, None) => None,
            (Verb::Change, Some(field)) => {
                let field = field.field.replace('_', " ");
                Some(format!("nobody changes their own {field}: ask another administrator"))
            }
            (Verb::Add | Verb::Remove, _) => {
                Some("nobody adds or removes themselves: ask another administrator".to_owned())
            }
        }
    }

    /// Makes the site so, in one transaction; refused if it changed since the proposal was made.
    ///
    /// # Errors
    /// When the store refuses or does not answer.
    pub async fn apply(&self, store: &Store, act: &Act) -> Result<Applied, StoreError> {
        store.apply_site(act, &self.wanted, &self.plan).await
    }
}
