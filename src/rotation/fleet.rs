//! How each account of the site is rotated.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_access::{
    policy::DestinationRules,
    site::{Account, AccountRef, Asset, Credential, Protocol, Rotation},
    store::Store,
};
use cofferdam_vault::{
    Sealer, SecretBytes,
    rotation::{
        Address, Dial, Fault, Fleet, Managed, OnDrift, Plan, Rotator, SecretSource,
        password::PasswordPolicy,
        ssh::{KeyHelper, PasswordHelper, PasswordWay, SshKeys, SshPassword, SshTarget},
    },
};
use russh::keys::PublicKey;

use super::SiteNow;
use crate::context::account_binding;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The site's accounts, for the vault's engine.
pub(super) struct SiteFleet {
    site: SiteNow,
    store: Store,
    sealer: Sealer,
    dial: Arc<Allowed>,
}

impl SiteFleet {
    pub(super) fn new(site: SiteNow, store: Store, sealer: Sealer, destinations: DestinationRules) -> Self {
        Self { site, store, sealer, dial: Arc::new(Allowed(destinations)) }
    }

    fn target(&self, asset: &Asset) -> Result<SshTarget, String> {
        let endpoint = asset.endpoints.iter().find(|e| e.protocol == Protocol::Ssh);
        let endpoint = endpoint.ok_or_else(|| format!("{} has no ssh endpoint", asset.name))?;
        let host_keys: Vec<PublicKey> =
            asset.host_keys.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).collect();
        if host_keys.is_empty() {
            return Err(format!("no host key of {0} is pinned; run `cofferdam asset trust {0}`", asset.name));
        }
        let to = asset.dial(endpoint);
        Ok(SshTarget {
            address: Address { host: to.host, port: to.port, dial: self.dial.clone() },
            host_keys,
        })
    }

    fn secret_of(&self, asset: &Asset, login: &cofferdam_access::ids::Login) -> Arc<dyn SecretSource> {
        let account = AccountRef { asset: asset.name.clone(), login: login.clone() };
        Arc::new(StoredSecret { store: self.store.clone(), sealer: self.sealer.clone(), account })
    }

    fn rotator(&self, asset: &Asset, account: &Account, how: &Rotation) -> Result<Arc<dyn Rotator>, String> {
        let target = self.target(asset)?;
        let login = account.login.to_string();
        match account.credential {
            Credential::Password => Ok(Arc::new(SshPassword {
                target,
                login,
                policy: match how.longest_password {
                    Some(longest) => PasswordPolicy::old_device(longest as usize),
                    None => PasswordPolicy::unix(),
                },
                way: if how.by_helper { PasswordWay::Helper } else { PasswordWay::Itself },
                helper: how.helper.as_ref().map(|helper| PasswordHelper {
                    login: helper.to_string(),
                    secret: self.secret_of(asset, helper),
                    sudo: how.helper_sudo,
                }),
            })),
            Credential::Key => Ok(Arc::new(SshKeys {
                target,
                mark: format!("{login}@{}", asset.name),
                login,
                file: how.authorized_keys.clone().filter(|_| how.helper.is_none()),
                helper: how.helper.as_ref().zip(how.authorized_keys.as_ref()).map(|(helper, file)| {
                    KeyHelper {
                        login: helper.to_string(),
                        secret: self.secret_of(asset, helper),
                        sudo: how.helper_sudo,
                        file: file.clone(),
                    }
                }),
            })),
            Credential::Certificate | Credential::None => Err("it has no stored secret".to_owned()),
        }
    }
}

#[async_trait]
impl Fleet for SiteFleet {
    async fn managed(&self, account: &str) -> Result<Managed, String> {
        let site = (self.site)();
        let name = AccountRef::try_from(account.to_owned()).map_err(|e| e.to_string())?;
        let account = site.account(&name).ok_or("the site does not describe it")?;
        let asset = site.asset(&account.asset).ok_or("the site does not describe its asset")?;
        let how = account.rotation.as_ref().ok_or("its description in the site file has no rotation")?;
        if account.disabled || asset.disabled {
            return Err("it is disabled".to_owned());
        }
        let every = |count: u32, unit: Duration| (count > 0).then(|| unit * count);
        Ok(Managed {
            rotator: self.rotator(asset, account, how)?,
            plan: Plan {
                rotate_every: every(how.every_days, DAY),
                verify_every: every(how.verify_hours, HOUR),
                on_drift: if how.mend_drift { OnDrift::Mend } else { OnDrift::Report },
                ..Plan::default()
            },
            dependents: Vec::new(),
        })
    }
}

/// The addresses of a name that the gateway may dial.
#[derive(Debug)]
struct Allowed(DestinationRules);

#[async_trait]
impl Dial for Allowed {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|e| format!("{host}: {e}"))?;
        let mut last = format!("{host} has no address");
        let mut allowed = Vec::new();
        for address in found {
            match self.0.check(address) {
                Ok(()) => allowed.push(address),
                Err(forbidden) => last = forbidden.to_string(),
            }
        }
        if allowed.is_empty() { Err(last) } else { Ok(allowed) }
    }
}

/// The secret of a helping account, read when it is needed.
struct StoredSecret {
    store: Store,
    sealer: Sealer,
    account: AccountRef,
}

impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StoredSecret").field(&self.account).finish()
    }
}

#[async_trait]
impl SecretSource for StoredSecret {
    async fn secret(&self) -> Result<SecretBytes, Fault> {
        let away = |e: &dyn std::fmt::Display| Fault::Unreachable(e.to_string());
        let stored = self.store.secret(&self.account).await.map_err(|e| away(&e))?;
        let stored =
            stored.ok_or_else(|| Fault::Unreachable(format!("the helper {} has no secret", self.account)))?;
        self.sealer.open(&account_binding(&self.account), &stored.sealed).map_err(|e| away(&e))
    }
}
