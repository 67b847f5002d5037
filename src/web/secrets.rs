//! Secrets that people see, for the web interface: the vault shows one that the store has opened.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam_access::{audit::Act, store::ShownSecret};
use cofferdam_vault::SecretBytes;
use cofferdam_web::Secrets;

use crate::{checkouts, gateway::Gateway};

/// See the module.
#[derive(Debug)]
pub(super) struct Shown {
    /// Whose vault it is.
    pub(super) gateway: Arc<Gateway>,
}

#[async_trait]
impl Secrets for Shown {
    async fn show(&self, act: &Act, shown: &ShownSecret) -> Result<SecretBytes, String> {
        let gateway = &self.gateway;
        let opener = checkouts::Opener::Running(gateway.keys.clone());
        checkouts::show(opener, &gateway.store, act, shown).await.map_err(|e| e.to_string())
    }
}
