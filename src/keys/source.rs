//! Where the configuration says that the vault's root comes from.

use cofferdam_vault::{
    Root, SecretString,
    agent::RootSource,
    unseal::{Token, WrappedRoot, credentials_folder, from_credential, from_file, from_passphrase},
};

use crate::config::settings::{Unseal, Vault};

/// The root, without a person where the configuration allows it, or with the passphrase that one has typed.
///
/// # Errors
/// What is wrong and what to do, and nothing of the root or the passphrase.
pub(crate) fn root_of(vault: &Vault, passphrase: Option<&SecretString>) -> Result<Root, String> {
    let text = |e: cofferdam_vault::unseal::UnsealError| e.to_string();
    match vault.unseal() {
        Unseal::File => from_file(&vault.identity_file).map_err(text),
        Unseal::Credential => {
            let name = vault.identity_credential.as_deref().unwrap_or_default();
            from_credential(credentials_folder().as_deref(), name).map_err(text)
        }
        Unseal::Token => {
            let token = vault.token.as_ref().ok_or("vault.token is not configured")?;
            let token = Token {
                module: token.module.clone(),
                token: token.label.clone(),
                key: token.key.clone(),
                pin_file: token.pin_file.clone(),
            };
            let wrapped = WrappedRoot::load(&vault.identity_file).map_err(text)?;
            token.unwrap(&wrapped).map_err(text)
        }
        Unseal::Passphrase => {
            let given = passphrase.ok_or("a passphrase opens this vault: run `cofferdam vault unseal`")?;
            from_passphrase(&vault.identity_file, given).map_err(text)
        }
        Unseal::Shares => Err("shares open this vault: each holder runs `cofferdam vault unseal`".into()),
    }
}

/// The same for the vault process.
pub(super) struct Configured(pub(super) Vault);

impl RootSource for Configured {
    fn root(&self, passphrase: Option<&SecretString>) -> Result<Root, String> {
        root_of(&self.0, passphrase)
    }
}
