//! Kinds that the vault does not know itself: an executable of the site's own, in a sandbox.
//!
//! What it is asked and what it answers is in `docs/rotation-plugin.md`. It is started by [`launcher_main`], which the
//! program's own binary offers as a command: that process locks itself in and then becomes the plug-in.

mod confined;
mod launcher;
mod protocol;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use confined::Confined;
pub use launcher::{Identity, launcher_main};
use protocol::{Answer, Operation, Request};
pub use run::{Launcher, Plugin};

use super::password::{PasswordPolicy, PolicyError};
use super::reach::SecretSource;
use super::rotator::{Dependent, Fault, Rotator, Verdict, fitting, no_helper, text};
use crate::entropy::Entropy;
use crate::secret::{SecretBytes, SecretString};

/// What a plug-in is told of an account. None of it is secret.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The account's id.
    pub account: String,
    /// The target's host name or address.
    pub host: String,
    /// Its port, where there is one.
    pub port: Option<u16>,
    /// The account's login.
    pub login: String,
    /// Whatever else the plug-in wants to know, from the site's description.
    pub settings: BTreeMap<String, String>,
}

/// The account that the plug-in may use to set another one's secret.
#[derive(Debug, Clone)]
pub struct PluginHelper {
    /// Its login.
    pub login: String,
    /// Its secret.
    pub secret: Arc<dyn SecretSource>,
}

/// Rotates one account by a plug-in.
#[derive(Debug, Clone)]
pub struct PluginRotator {
    /// The plug-in.
    pub plugin: Plugin,
    /// What it is told.
    pub described: Described,
    /// What the account's passwords are made of.
    pub policy: PasswordPolicy,
    /// Who can set it when nothing opens it any more.
    pub helper: Option<PluginHelper>,
}

/// Gives the new secret of an account to what depends on it, by a plug-in.
#[derive(Debug, Clone)]
pub struct PluginDependent {
    /// The dependent's name: `historian service on srv-4`.
    pub name: String,
    /// The plug-in.
    pub plugin: Plugin,
    /// What it is told.
    pub described: Described,
}

impl PluginRotator {
    async fn ask(
        &self,
        operation: Operation,
        current: Option<&SecretString>,
        candidate: Option<&SecretString>,
        helper: Option<(&str, &SecretString)>,
    ) -> Result<Answer, Fault> {
        let request = Request::new(operation, &self.described, current, candidate, helper);
        self.plugin.ask(&request).await
    }
}

#[async_trait]
impl Rotator for PluginRotator {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        Ok(SecretBytes::from(&self.policy.generate(&self.described.login, entropy)?))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        let old = text(current)?;
        let new = fitting(&self.policy, candidate, &self.described.login)?;
        self.ask(Operation::Change, Some(&old), Some(&new), None).await?.done()
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        self.ask(Operation::Verify, Some(&text(secret)?), None, None).await?.verdict()
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        let new = fitting(&self.policy, candidate, &self.described.login)?;
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let secret = text(&helper.secret.secret().await?)?;
        let helper = (helper.login.as_str(), &secret);
        self.ask(Operation::Reconcile, None, Some(&new), Some(helper)).await?.done()
    }
}

#[async_trait]
impl Dependent for PluginDependent {
    fn name(&self) -> &str {
        &self.name
    }

    async fn update(&self, current: &SecretBytes) -> Result<(), Fault> {
        let secret = text(current)?;
        let request = Request::new(Operation::Update, &self.described, Some(&secret), None, None);
        self.plugin.ask(&request).await?.done()
    }
}
