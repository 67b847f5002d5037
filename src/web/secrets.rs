//! Secrets that people see, for the web interface: the vault shows one that the store has opened.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam_access::{audit::Act, ids::Name, store::ShownSecret};
use cofferdam_vault::{
    SecretBytes, SecretString,
    agent::{Client, ClientError},
    unseal::Phase,
};
use cofferdam_web::{Gate, Secrets};

use crate::{checkouts, config::settings::Unseal, gateway::Gateway, keys::OVER_WEB};

/// See the module.
#[derive(Debug)]
pub(super) struct Shown {
    /// Whose vault it is.
    pub(super) gateway: Arc<Gateway>,
    /// What opens it.
    pub(super) unseal: Unseal,
    /// Whether that may be typed in a browser.
    pub(super) over_web: bool,
}

impl Shown {
    /// Asks the vault process; it may take a second.
    async fn asked<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, String> {
        let keys = self.gateway.keys.clone();
        let done = tokio::task::spawn_blocking(move || ask(&keys)).await;
        done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    fn takes(&self) -> Option<&'static str> {
        match self.unseal {
            Unseal::Shares if self.over_web => Some("share"),
            Unseal::Passphrase if self.over_web => Some("passphrase"),
            _ => None,
        }
    }
}

#[async_trait]
impl Secrets for Shown {
    async fn show(&self, act: &Act, shown: &ShownSecret) -> Result<SecretBytes, String> {
        let gateway = &self.gateway;
        let opener = checkouts::Opener::Running(gateway.keys.clone());
        checkouts::show(opener, &gateway.store, act, shown).await.map_err(|e| e.to_string())
    }

    async fn gate(&self) -> Gate {
        match self.asked(|keys| keys.status()).await {
            Ok(status) => {
                let open = status.is_open();
                let text = match Phase::from(status.phase) {
                    Phase::Sealed => "Nobody has opened it yet".to_owned(),
                    Phase::Waiting(p) => format!("{} of {} shares are there", p.given.len(), p.needed),
                    Phase::Open { people, .. } => format!("opened by {}", people.join(", ")),
                };
                let generations = status.generations.iter().map(|(number, ..)| *number).collect::<Vec<_>>();
                Gate { open, text, generations, takes: self.takes() }
            }
            Err(text) => Gate { text, ..Gate::default() },
        }
    }

    async fn unseal(&self, by: &Name, typed: SecretString) -> Result<Gate, String> {
        let by = format!("{OVER_WEB}{by}");
        match self.takes() {
            Some("share") => self.asked(move |keys| keys.give_share(&typed, &by)).await?,
            Some(_) => self.asked(move |keys| keys.give_passphrase(&typed, &by)).await?,
            None => return Err("this vault is not opened in a browser: run `cofferdam vault unseal`".into()),
        };
        Ok(self.gate().await)
    }
}
