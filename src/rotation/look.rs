//! Looking for privileged accounts on a machine of the site, over an account that the vault can use there.

use std::time::Duration;

use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    discovery::{Discovery, is_described},
    ids::{FindingId, Name},
    site::{Account, Asset, Credential, RotationBy, Site},
    store::FindingRecord,
};
use cofferdam_vault::rotation::{Look, ssh::HostLook};

use super::{RotationError, Rotations, fleet::SiteFleet};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether there is a way to look at it: an account with a stored secret, on a host or in a directory.
pub(crate) fn can_be_looked_at(site: &Site, asset: &Asset) -> bool {
    !asset.disabled && way(site, asset).is_some()
}

/// The account that is used: whoever helps others there, else root, else any; a directory's own where there is one.
fn way<'s>(site: &'s Site, asset: &Asset) -> Option<(&'s Account, bool)> {
    let here = || site.accounts.iter().filter(|a| a.asset == asset.name && !a.disabled && a.needs_secret());
    let by = |a: &Account| a.rotation.as_ref().map_or(RotationBy::Ssh, |r| r.by);
    if let Some(member) = here().find(|a| by(a) == RotationBy::ActiveDirectory) {
        return Some((member, false));
    }
    let unix = || here().filter(|a| by(a) == RotationBy::Ssh && a.credential != Credential::None);
    let helping = here().find_map(|a| {
        let rotation = a.rotation.as_ref().filter(|r| r.by == RotationBy::Ssh)?;
        let helper = unix().find(|h| Some(&h.login) == rotation.helper.as_ref())?;
        Some((helper, rotation.helper_sudo))
    });
    helping
        .or_else(|| unix().find(|a| a.login.as_str() == "root").map(|a| (a, false)))
        .or_else(|| unix().next().map(|a| (a, false)))
}

impl SiteFleet {
    async fn look(&self, site: &Site, asset: &Asset) -> Result<Look, String> {
        let (account, sudo) = way(site, asset).ok_or(
            "no account of it has a secret in the vault that a look could use: describe one, or a helper, and set its secret",
        )?;
        let secret = self.secret_of(asset, &account.login);
        let directory = account.rotation.as_ref().filter(|r| r.by == RotationBy::ActiveDirectory);
        let looking = async {
            match directory {
                Some(how) => {
                    let member = self.member(asset, account, how)?;
                    let secret = secret.secret().await.map_err(|e| e.to_string())?;
                    member.look(&secret).await.map_err(|e| e.to_string())
                }
                None => {
                    let login = account.login.to_string();
                    let host = HostLook { target: self.target(asset)?, login, secret, sudo };
                    host.look().await.map_err(|e| e.to_string())
                }
            }
        };
        let late = |_| format!("it did not answer within {} s", PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, looking).await.map_err(late)?
    }
}

impl Rotations {
    /// Looks at an asset and keeps what was found. An unknown account that was not there at the look before is a finding.
    ///
    /// # Errors
    /// A plain clause that says why nothing was found out.
    pub(crate) async fn look(&self, act: &Act, asset: &Name) -> Result<Discovery, RotationError> {
        let site = (self.site)();
        let unmanaged = |why| RotationError::Unseen { asset: asset.clone(), why };
        let described = site.asset(asset).filter(|a| !a.disabled);
        let described =
            described.ok_or_else(|| unmanaged("the site describes no such enabled asset".to_owned()))?;
        let look = self.fleet.look(&site, described).await.map_err(unmanaged)?;
        let unknown: Vec<String> = look
            .found
            .iter()
            .filter(|f| !is_described(&site, asset, &f.login))
            .map(|f| f.login.clone())
            .collect();
        let new = self.store.keep_discovery(act, asset, &look, &unknown).await?;
        if !new.is_empty() {
            self.store.record_finding(act, &finding(asset, &new, act.at)).await?;
        }
        Ok(Discovery { asset: asset.clone(), at: act.at, look })
    }
}

fn finding(asset: &Name, new: &[String], at: Timestamp) -> FindingRecord {
    FindingRecord {
        id: FindingId::new(at, &mut rand::rng()),
        session: None,
        at,
        trigger: "unknown_account".to_owned(),
        severity: "medium".to_owned(),
        text: format!(
            "{asset} has privileged accounts that the site does not describe: {}; describe them with their secrets, or remove \
             them there",
            new.join(", ")
        ),
        response: "notify".to_owned(),
    }
}
