//! What the emulated host remembers: its disk, its services, its accounts and when it was started.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam_vault::SecretString;
use russh::keys::Certificate;
use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::certificate::CertType;

use super::vfs::Vfs;
use super::{Auth, Clock};

/// The host's name, in the prompt and in its answers.
pub(super) const HOSTNAME: &str = "pump-hmi";

/// The state that all connections share.
pub(super) struct Host {
    pub(super) vfs: Vfs,
    pub(super) clock: Clock,
    /// When it "booted", in UTC microseconds.
    pub(super) booted: i64,
    accounts: Mutex<Vec<(String, Arc<Auth>)>>,
    units: Mutex<BTreeMap<&'static str, Unit>>,
}

/// A service, for `systemctl`.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) description: &'static str,
    pub(super) command: &'static str,
    pub(super) pid: u32,
    pub(super) active: bool,
    /// Since when, in UTC microseconds.
    pub(super) since: i64,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("vfs", &self.vfs).finish_non_exhaustive()
    }
}

impl Host {
    pub(super) fn new(vfs: Vfs, clock: Clock, accounts: Vec<(String, Auth)>) -> Self {
        let now = clock();
        // Up for 41 days and some hours, as such hosts are.
        let booted = now - 3_560_400_000_000;
        let unit =
            |description, command, pid| Unit { description, command, pid, active: true, since: booted };
        let units = BTreeMap::from([
            (
                "hmi.service",
                unit("Pump station HMI", "/opt/hmi/bin/hmi-server --config /opt/hmi/config.toml", 612),
            ),
            ("historian.service", unit("Process value historian", "/opt/hmi/bin/historian", 640)),
            (
                "modbus-poller.service",
                unit("Modbus poller for plc-7", "/opt/hmi/bin/poller --plc plc-7", 655),
            ),
            ("ssh.service", unit("OpenBSD Secure Shell server", "/usr/sbin/sshd -D", 498)),
        ]);
        let accounts = accounts.into_iter().map(|(login, auth)| (login, Arc::new(auth))).collect();
        Self { vfs, clock, booted, accounts: Mutex::new(accounts), units: Mutex::new(units) }
    }

    /// Whether this password is one of the login's. Takes as long for a login that does not exist.
    pub(super) fn password_fits(&self, login: &str, password: &str) -> bool {
        let offered = SecretString::from(password);
        let mut fits = false;
        for (name, auth) in self.lock_accounts().iter() {
            if let Auth::Password(expected) = auth.as_ref() {
                fits |= *expected == offered && name == login;
            }
        }
        fits
    }

    /// Whether the login trusts some authority.
    pub(super) fn trusts_authority(&self, login: &str) -> bool {
        self.lock_accounts()
            .iter()
            .any(|(name, auth)| name == login && matches!(auth.as_ref(), Auth::TrustedCa(_)))
    }

    /// Whether an authority that the login trusts made this certificate for it, for now and for `peer`.
    pub(super) fn certificate_fits(
        &self,
        login: &str,
        certificate: &Certificate,
        peer: Option<IpAddr>,
    ) -> bool {
        let now = u64::try_from((self.clock)() / 1_000_000).unwrap_or(0);
        let trusted = self.lock_accounts().iter().any(|(name, auth)| match auth.as_ref() {
            Auth::TrustedCa(ca) if name == login => {
                certificate.validate_at(now, &[ca.fingerprint(HashAlg::Sha256)]).is_ok()
            }
            _ => false,
        });
        trusted
            && certificate.cert_type() == CertType::User
            && certificate.valid_principals().iter().any(|principal| principal == login)
            && certificate.critical_options().iter().all(|(name, value)| {
                // An option that is not known means no, as the standard wants it.
                name == "source-address" && peer.is_some_and(|peer| address_listed(value, peer))
            })
    }

    /// Gives a login a new password in place of its old one; false when it has none.
    pub(super) fn set_password(&self, login: &str, password: SecretString) -> bool {
        let mut accounts = self.lock_accounts();
        let own = accounts
            .iter_mut()
            .find(|(name, auth)| name == login && matches!(auth.as_ref(), Auth::Password(_)));
        match own {
            Some((_, auth)) => {
                *auth = Arc::new(Auth::Password(password));
                true
            }
            None => false,
        }
    }

    /// The services, to read or to change.
    pub(super) fn units(&self) -> MutexGuard<'_, BTreeMap<&'static str, Unit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_accounts(&self) -> MutexGuard<'_, Vec<(String, Arc<Auth>)>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder a login starts in.
pub(super) fn home(login: &str) -> String {
    if login == "root" { "/root".to_owned() } else { format!("/home/{login}") }
}

/// Whether a comma-separated list of CIDR blocks has this address.
fn address_listed(list: &str, peer: IpAddr) -> bool {
    list.split(',').any(|block| {
        let (address, length) = match block.split_once('/') {
            Some((address, length)) => (address, length.parse::<u32>().ok()),
            None => (block, Some(u32::MAX)),
        };
        let (Ok(address), Some(length)) = (address.parse::<IpAddr>(), length) else { return false };
        match (address.to_canonical(), peer.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same_prefix(u32::from(a).into(), u32::from(b).into(), 32, length)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same_prefix(u128::from(a), u128::from(b), 128, length),
            _ => false,
        }
    })
}

fn same_prefix(a: u128, b: u128, width: u32, length: u32) -> bool {
    let ignored = width - length.min(width);
    a.checked_shr(ignored).unwrap_or(0) == b.checked_shr(ignored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_matched_by_prefix() {
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        for (list, fits) in [
            ("127.0.0.1/32", true),
            ("127.0.0.1", true),
            ("10.0.0.0/8,127.0.0.0/8", true),
            ("0.0.0.0/0", true),
            ("127.0.0.2/32", false),
            ("::1/128", false),
            ("", false),
            ("127.0.0.1/x", false),
        ] {
            assert_eq!(address_listed(list, peer), fits, "{list}");
        }
    }
}
