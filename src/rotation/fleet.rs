//! How each account of the site is rotated.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_access::{
    policy::DestinationRules,
    site::{
        Account, AccountRef, Asset, Credential, Protocol, Rotation, RotationBy, RotationDependent,
        RotationPlugin, RotationServer,
    },
    store::Store,
};
use cofferdam_vault::{
    Sealer, SecretBytes,
    rotation::{
        Address, Dependent, Dial, Fault, Fleet, Managed, OnDrift, Plan, Rotator, SecretSource, TlsTrust,
        directory::{DirectoryAccount, DirectoryHelper},
        mariadb::{MariaDbUser, UserHelper},
        password::PasswordPolicy,
        plugin::{Described, Launcher, Plugin, PluginDependent, PluginHelper, PluginRotator},
        postgres::{PostgresRole, RoleHelper},
        ssh::{KeyHelper, PasswordHelper, PasswordWay, SshKeys, SshPassword, SshTarget},
    },
};
use russh::keys::PublicKey;
use tempfile::TempDir;

use super::SiteNow;
use crate::{context::account_binding, ssh::target};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The command of this program that starts a plug-in in its sandbox.
pub(crate) const PLUGIN_COMMAND: &str = "vault-plugin";
/// Most memory of a plug-in, bytes.
const PLUGIN_MEMORY: u64 = 1 << 30;
/// How long a plug-in may take; shorter than the plan's own patience.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(25);

/// The site's accounts, for the vault's engine.
pub(super) struct SiteFleet {
    site: SiteNow,
    store: Store,
    sealer: Sealer,
    dial: Arc<Allowed>,
    /// Where plug-ins are, if there may be any.
    plugins: Option<PathBuf>,
    /// Where each may write; gone with the process.
    scratch: TempDir,
}

impl SiteFleet {
    pub(super) fn new(
        site: SiteNow,
        store: Store,
        sealer: Sealer,
        destinations: DestinationRules,
        plugins: Option<PathBuf>,
    ) -> std::io::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("cofferdam-plugins-").tempdir()?;
        Ok(Self { site, store, sealer, dial: Arc::new(Allowed(destinations)), plugins, scratch })
    }

    pub(super) fn target(&self, asset: &Asset) -> Result<SshTarget, String> {
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

    pub(super) fn secret_of(
        &self,
        asset: &Asset,
        login: &cofferdam_access::ids::Login,
    ) -> Arc<dyn SecretSource> {
        let account = AccountRef { asset: asset.name.clone(), login: login.clone() };
        Arc::new(StoredSecret { store: self.store.clone(), sealer: self.sealer.clone(), account })
    }

    fn rotator(&self, asset: &Asset, account: &Account, how: &Rotation) -> Result<Arc<dyn Rotator>, String> {
        match (how.by, account.credential) {
            (_, Credential::Certificate | Credential::None) => Err("it has no stored secret".to_owned()),
            (RotationBy::Ssh, Credential::Password) => self.ssh_password(asset, account, how),
            (RotationBy::Ssh, Credential::Key) => self.ssh_keys(asset, account, how),
            (_, Credential::Key) => Err("only a password can be changed there".to_owned()),
            (RotationBy::Postgresql, _) => self.postgresql(asset, account, how),
            (RotationBy::Mariadb, _) => self.mariadb(asset, account, how),
            (RotationBy::ActiveDirectory, _) => Ok(Arc::new(self.member(asset, account, how)?)),
            (RotationBy::Plugin, _) => self.by_plugin(asset, account, how),
        }
    }

    fn ssh_password(
        &self,
        asset: &Asset,
        account: &Account,
        how: &Rotation,
    ) -> Result<Arc<dyn Rotator>, String> {
        Ok(Arc::new(SshPassword {
            target: self.target(asset)?,
            login: account.login.to_string(),
            policy: policy(how, PasswordPolicy::unix),
            way: if how.by_helper { PasswordWay::Helper } else { PasswordWay::Itself },
            helper: how.helper.as_ref().map(|helper| PasswordHelper {
                login: helper.to_string(),
                secret: self.secret_of(asset, helper),
                sudo: how.helper_sudo,
            }),
        }))
    }

    fn ssh_keys(&self, asset: &Asset, account: &Account, how: &Rotation) -> Result<Arc<dyn Rotator>, String> {
        let login = account.login.to_string();
        Ok(Arc::new(SshKeys {
            target: self.target(asset)?,
            mark: format!("{login}@{}", asset.name),
            login,
            file: how.authorized_keys.clone().filter(|_| how.helper.is_none()),
            helper: how.helper.as_ref().zip(how.authorized_keys.as_ref()).map(|(helper, file)| KeyHelper {
                login: helper.to_string(),
                secret: self.secret_of(asset, helper),
                sudo: how.helper_sudo,
                file: file.clone(),
            }),
        }))
    }

    fn postgresql(
        &self,
        asset: &Asset,
        account: &Account,
        how: &Rotation,
    ) -> Result<Arc<dyn Rotator>, String> {
        let server = how.server.clone().unwrap_or_default();
        Ok(Arc::new(PostgresRole {
            address: self.address(asset, how),
            tls: tls(&server)?,
            database: server.database.unwrap_or_else(|| "postgres".to_owned()),
            role: account.login.to_string(),
            policy: policy(how, PasswordPolicy::postgresql),
            helper: how
                .helper
                .as_ref()
                .map(|helper| RoleHelper { role: helper.to_string(), secret: self.secret_of(asset, helper) }),
        }))
    }

    fn mariadb(&self, asset: &Asset, account: &Account, how: &Rotation) -> Result<Arc<dyn Rotator>, String> {
        let server = how.server.clone().unwrap_or_default();
        Ok(Arc::new(MariaDbUser {
            address: self.address(asset, how),
            tls: tls(&server)?,
            user: account.login.to_string(),
            host: server.user_host.unwrap_or_else(|| "%".to_owned()),
            policy: policy(how, PasswordPolicy::mariadb),
            helper: how
                .helper
                .as_ref()
                .map(|helper| UserHelper { user: helper.to_string(), secret: self.secret_of(asset, helper) }),
        }))
    }

    /// An account of a directory.
    pub(super) fn member(
        &self,
        asset: &Asset,
        account: &Account,
        how: &Rotation,
    ) -> Result<DirectoryAccount, String> {
        let server = how.server.clone().unwrap_or_default();
        let missing = |what| format!("server.{what} of {} is not given", account.login);
        Ok(DirectoryAccount {
            address: self.address(asset, how),
            tls: tls(&server)?.ok_or_else(|| missing("authority"))?,
            dn: server.dn.ok_or_else(|| missing("dn"))?,
            bind_name: server.bind_name.ok_or_else(|| missing("bind_name"))?,
            policy: policy(how, PasswordPolicy::windows),
            helper: how.helper.as_ref().zip(server.helper_bind_name).map(|(helper, bind_name)| {
                DirectoryHelper { bind_name, secret: self.secret_of(asset, helper) }
            }),
        })
    }

    fn by_plugin(
        &self,
        asset: &Asset,
        account: &Account,
        how: &Rotation,
    ) -> Result<Arc<dyn Rotator>, String> {
        let server = how.server.clone().unwrap_or_default();
        let plugin = server.plugin.as_ref().ok_or("server.plugin is not given")?;
        Ok(Arc::new(PluginRotator {
            plugin: self.plugin(plugin)?,
            described: described(asset, account, &server, plugin),
            policy: policy(how, PasswordPolicy::unix),
            helper: how.helper.as_ref().map(|helper| PluginHelper {
                login: helper.to_string(),
                secret: self.secret_of(asset, helper),
            }),
        }))
    }

    fn dependents(
        &self,
        asset: &Asset,
        account: &Account,
        how: &Rotation,
    ) -> Result<Vec<Arc<dyn Dependent>>, String> {
        let server = how.server.clone().unwrap_or_default();
        let one = |d: &RotationDependent| {
            Ok(Arc::new(PluginDependent {
                name: d.name.clone(),
                plugin: self.plugin(&d.plugin)?,
                described: described(asset, account, &server, &d.plugin),
            }) as Arc<dyn Dependent>)
        };
        how.dependents.iter().map(one).collect()
    }

    /// An executable of the folder that the configuration names. Only who may change the gateway itself may change it.
    fn plugin(&self, wanted: &RotationPlugin) -> Result<Plugin, String> {
        let folder = self.plugins.as_ref().ok_or("the configuration names no vault.plugins_dir")?;
        let executable = folder.join(wanted.name.as_str());
        crate::config::trusted(&executable).map_err(|e| format!("plug-in {}: {e}", wanted.name))?;
        let scratch = self.scratch.path().join(wanted.name.as_str());
        std::fs::create_dir_all(&scratch).map_err(|e| format!("plug-in {}: its folder: {e}", wanted.name))?;
        Ok(Plugin {
            launcher: Launcher {
                program: std::env::current_exe().map_err(|e| e.to_string())?,
                arguments: vec![PLUGIN_COMMAND.into()],
            },
            executable,
            folder: scratch,
            network: wanted.network,
            readable: Vec::new(),
            memory: PLUGIN_MEMORY,
            patience: PLUGIN_PATIENCE,
            identity: None,
        })
    }

    fn address(&self, asset: &Asset, how: &Rotation) -> Address {
        let server = how.server.clone().unwrap_or_default();
        Address {
            host: server.host.unwrap_or_else(|| asset.address.clone()),
            port: server.port.unwrap_or(how.by.port()),
            dial: self.dial.clone(),
        }
    }
}

/// What a plug-in is told.
fn described(
    asset: &Asset,
    account: &Account,
    server: &RotationServer,
    plugin: &RotationPlugin,
) -> Described {
    Described {
        account: format!("{}@{}", account.login, asset.name),
        host: server.host.clone().unwrap_or_else(|| asset.address.clone()),
        port: server.port,
        login: account.login.to_string(),
        settings: plugin.settings.clone(),
    }
}

/// What the platform takes, or an old device.
fn policy(how: &Rotation, usual: impl FnOnce() -> PasswordPolicy) -> PasswordPolicy {
    how.longest_password.map_or_else(usual, |longest| PasswordPolicy::old_device(longest as usize))
}

/// How the server's certificate is checked; none only where the site says so in so many words.
fn tls(server: &RotationServer) -> Result<Option<TlsTrust>, String> {
    match (&server.authority, server.dangerous_no_tls) {
        (Some(pem), _) => {
            Ok(Some(TlsTrust { authorities: pem.clone(), name: server.certificate_name.clone() }))
        }
        (None, true) => Ok(None),
        (None, false) => Err("no authority is given for its server's certificate".to_owned()),
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
            target: asset.name.to_string(),
            rotator: self.rotator(asset, account, how)?,
            plan: Plan {
                rotate_every: every(how.every_days, DAY),
                verify_every: every(how.verify_hours, HOUR),
                on_drift: if how.mend_drift { OnDrift::Mend } else { OnDrift::Report },
                ..Plan::default()
            },
            dependents: self.dependents(asset, account, how)?,
        })
    }
}

/// The addresses of a name that the gateway may dial.
#[derive(Debug)]
struct Allowed(DestinationRules);

#[async_trait]
impl Dial for Allowed {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        target::allowed(host, port, &self.0).await.map_err(|e| format!("{host}: {e}"))
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
