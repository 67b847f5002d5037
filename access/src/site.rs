//! The site as described: zones, conduits, assets, endpoints, accounts. Pure data and look-ups.

mod desktop;
mod rotation;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use serde::{Deserialize, Serialize};

use crate::{
    grant::Dial,
    ids::{Login, Name},
    people::{Organisation, User, is_false},
};

pub use desktop::{Desktop, DesktopGraphics, DesktopRealm, DesktopSecurity, KdcAddress, PublicKeyPin};
pub use rotation::{Rotation, RotationBy, RotationDependent, RotationPlugin, RotationServer};

/// The plant's state, per zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum PlantState {
    /// The process runs.
    #[default]
    Production,
    /// Planned work.
    Maintenance,
    /// The process stands.
    Shutdown,
    /// Something is wrong now.
    Emergency,
}

impl PlantState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Production, Self::Maintenance, Self::Shutdown, Self::Emergency];
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Maintenance => "maintenance",
            Self::Shutdown => "shutdown",
            Self::Emergency => "emergency",
        }
    }
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the protocol's own name")]
pub enum Protocol {
    Ssh,
    Rdp,
    Modbus,
    S7comm,
    Enip,
    Opcua,
    Tcp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 7] =
        [Self::Ssh, Self::Rdp, Self::Modbus, Self::S7comm, Self::Enip, Self::Opcua, Self::Tcp];
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Rdp => "rdp",
            Self::Modbus => "modbus",
            Self::S7comm => "s7comm",
            Self::Enip => "enip",
            Self::Opcua => "opcua",
            Self::Tcp => "tcp",
        }
    }
}

/// A zone (IEC 62443-3-2): assets with one security requirement. People's networks are zones too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its unique name.
    pub name: Name,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Networks (CIDR) whose hosts are in this zone; tells where a person comes from. The longest match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Whether the zone counts as critical in the metrics.
    #[serde(default, skip_serializing_if = "is_false")]
    pub critical: bool,
    /// How long recordings of its assets are kept, days; 0: for ever. None: as the site says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_days: Option<u32>,
}

/// An approved path (IEC 62443-3-2): from zone, to zone, protocols, and, where narrower, the endpoints.
/// What no conduit names does not exist for anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conduit {
    /// Its unique name.
    pub name: Name,
    /// The zone that people come from.
    pub from: Name,
    /// The zone that holds the assets.
    pub to: Name,
    /// Protocols that may pass.
    pub protocols: BTreeSet<Protocol>,
    /// Only these assets, if any are named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub assets: BTreeSet<Name>,
    /// Direction in which data may be carried by files: to the plant, from it, or both.
    #[serde(default)]
    pub direction: Direction,
}

/// Which way files and data may move through a conduit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Either way.
    #[default]
    Both,
    /// Toward the asset only (uploads).
    In,
    /// From the asset only (downloads).
    Out,
}

/// One reachable port of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What it speaks.
    pub protocol: Protocol,
    /// The port that people name (`ssh -L 1502:plc-7:502`), 1 to 65535.
    pub port: u16,
    /// The host to dial, if not the asset's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_host: Option<String>,
    /// The port to dial, if not `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_port: Option<u16>,
}

/// How much harm the asset can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "levels")]
pub enum Criticality {
    Low,
    #[default]
    Medium,
    High,
}

/// A machine in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Its unique name, which people use to reach it.
    pub name: Name,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The zone it is in.
    pub zone: Name,
    /// Host name or IP address to dial.
    pub address: String,
    /// Ports that exist for people; any other port does not.
    pub endpoints: Vec<Endpoint>,
    /// How much harm it can do.
    #[serde(default)]
    pub criticality: Criticality,
    /// A crown jewel.
    #[serde(default, skip_serializing_if = "is_false")]
    pub crown_jewel: bool,
    /// Sessions wait until an approver watches them, and stand still while none does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub supervised: bool,
    /// Disabled assets cannot be reached; live sessions are cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Pinned SSH host keys, OpenSSH one-line form. None pinned: nobody connects until an administrator trusts one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// Old SSH algorithms that this device needs (`diffie-hellman-group14-sha1`, `ssh-rsa`, `aes128-cbc` …): weak on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangerous_ssh_algorithms: Vec<String>,
    /// Whoever may have a shell may also forward to ports of the machine's own loopback, carried by its SSH server (VS
    /// Code's Remote-SSH needs that). What passes there is recorded and not understood.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dangerous_own_loopback: bool,
    /// How its desktop is reached, where it has an `rdp` endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdp: Option<Desktop>,
    /// How much of a channel without a terminal is kept in full, bytes; the rest by digest. None: the site's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_full_bytes: Option<u64>,
}

/// How the account's secret is presented to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Credential {
    /// A password kept in the vault.
    Password,
    /// A private key kept in the vault.
    Key,
    /// A user certificate of the built-in SSH CA, made for one session.
    Certificate,
    /// None needed (a tunnel to a device that has no log-in of its own).
    None,
}

/// A privileged account on an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The asset it is on.
    pub asset: Name,
    /// Its login there.
    pub login: Login,
    /// How its secret is presented.
    pub credential: Credential,
    /// Used when a person names none; at most one per asset.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// One session at a time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// Disabled accounts cannot be used; live sessions are cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// People may check its secret out to see it, those whom policy lets. Without this nobody may.
    #[serde(default, skip_serializing_if = "is_false")]
    pub checkout: bool,
    /// How the vault changes its secret; absent: people do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// An account on an asset, written `login@asset`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountRef {
    /// The asset.
    pub asset: Name,
    /// The login on it.
    pub login: Login,
}

impl fmt::Display for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.login, self.asset)
    }
}
impl fmt::Debug for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
impl TryFrom<String> for AccountRef {
    type Error = crate::ids::IdError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let (login, asset) =
            s.rsplit_once('@').ok_or_else(|| crate::ids::IdError::NotAName(s.chars().take(64).collect()))?;
        Ok(Self { asset: Name::new(asset)?, login: Login::new(login)? })
    }
}
impl From<AccountRef> for String {
    fn from(a: AccountRef) -> Self {
        a.to_string()
    }
}

/// A policy file of the site: Cedar text under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Its unique name.
    pub name: Name,
    /// Cedar policies.
    pub text: String,
}

/// Site-wide settings that policy needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// IANA name of the site's time zone, in which windows are asked for and shown.
    pub time_zone: String,
    /// The zone of people whose address is in no zone's networks; none: such people reach nothing.
    pub default_zone: Option<Name>,
    /// Idle time without human input after which a session ends, seconds.
    pub idle_seconds: u32,
    /// For how long one second factor counts for the same person, device key, source address and window, seconds; 0: never.
    pub second_factor_remember_seconds: u32,
    /// Longest window, seconds.
    pub longest_window_seconds: u32,
    /// How much of a channel without a terminal is kept in full, bytes.
    pub keep_full_bytes: u64,
    /// Environment variables that may reach a target; a trailing `*` matches any rest.
    pub environment: Vec<String>,
    /// How long recordings are kept before they are due to be deleted, days; 0: for ever.
    pub recording_days: u32,
    /// The same for crown jewels, where that is longer; 0: for ever. None: as any other.
    pub crown_jewel_recording_days: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_zone: "UTC".to_owned(),
            default_zone: None,
            idle_seconds: 900,
            second_factor_remember_seconds: 0,
            longest_window_seconds: 7 * 24 * 3600,
            keep_full_bytes: 64 << 20,
            environment: ["LANG", "LC_*", "TERM", "COLORTERM"].map(str::to_owned).to_vec(),
            recording_days: 365,
            crown_jewel_recording_days: None,
        }
    }
}

/// The whole described site: what `cofferdam apply` takes and `cofferdam export` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Site-wide settings.
    pub settings: Settings,
    /// Companies.
    pub organisations: Vec<Organisation>,
    /// People.
    pub users: Vec<User>,
    /// Zones.
    pub zones: Vec<Zone>,
    /// Conduits.
    pub conduits: Vec<Conduit>,
    /// Assets.
    pub assets: Vec<Asset>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// The site's own policies, besides the shipped ones.
    pub policies: Vec<PolicyFile>,
}

impl Direction {
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl Criticality {
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Credential {
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Key => "key",
            Self::Certificate => "certificate",
            Self::None => "none",
        }
    }
}

impl Account {
    /// Whether it needs a secret in the vault.
    pub const fn needs_secret(&self) -> bool {
        matches!(self.credential, Credential::Password | Credential::Key)
    }

    /// How other things name it.
    pub fn reference(&self) -> AccountRef {
        AccountRef { asset: self.asset.clone(), login: self.login.clone() }
    }
}

impl Asset {
    /// Whether it has an endpoint of that protocol.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        self.endpoints.iter().any(|e| e.protocol == protocol)
    }

    /// Pinned public keys of its desktop.
    pub fn desktop_keys(&self) -> &[String] {
        self.rdp.as_ref().map_or(&[], |d| &d.public_keys)
    }

    /// Where a connection to one of its endpoints goes.
    pub fn dial(&self, endpoint: &Endpoint) -> Dial {
        Dial {
            host: endpoint.dial_host.clone().unwrap_or_else(|| self.address.clone()),
            port: endpoint.dial_port.unwrap_or(endpoint.port),
        }
    }

    /// What this asset allows that is weak on purpose, for lists and checks.
    pub fn dangers(&self) -> Vec<String> {
        let loopback = self.dangerous_own_loopback.then(|| "forwards to its own loopback".to_owned());
        self.dangerous_ssh_algorithms.iter().cloned().chain(loopback).collect()
    }

    /// Fingerprints of the pinned host keys, as `ssh-keygen -l` shows them; a line that is no key is shown as such.
    pub fn host_key_fingerprints(&self) -> Vec<String> {
        self.host_keys.iter().map(|k| key_fingerprint(k).unwrap_or_else(|| "unreadable".to_owned())).collect()
    }
}

/// The fingerprint of an SSH public key in OpenSSH one-line form: `SHA256:` and unpadded base64 (as OpenSSH shows it).
pub fn key_fingerprint(line: &str) -> Option<String> {
    let blob = STANDARD.decode(line.split_whitespace().nth(1)?).ok()?;
    Some(format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &blob).as_ref())))
}

impl Site {
    /// Reads a site file (TOML) whose policies stand in it as text.
    ///
    /// # Errors
    /// When it is not one: the text says where.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The site file: what [`Self::from_toml`] reads.
    ///
    /// # Errors
    /// When a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The person of that name.
    pub fn user(&self, name: &Name) -> Option<&User> {
        self.users.iter().find(|u| &u.name == name)
    }
    /// The asset of that name.
    pub fn asset(&self, name: &Name) -> Option<&Asset> {
        self.assets.iter().find(|a| &a.name == name)
    }
    /// The account, if it exists.
    pub fn account(&self, r: &AccountRef) -> Option<&Account> {
        self.accounts.iter().find(|a| a.asset == r.asset && a.login == r.login)
    }
    /// The account used when a person names none: the one marked default, or the only one.
    pub fn default_account(&self, asset: &Name) -> Option<&Account> {
        let mut of_asset = self.accounts.iter().filter(|a| &a.asset == asset);
        self.accounts.iter().find(|a| &a.asset == asset && a.default).or_else(|| {
            let first = of_asset.next();
            if of_asset.next().is_none() { first } else { None }
        })
    }
    /// The zone that `address` is in: the longest matching network, else the default zone.
    pub fn zone_of(&self, address: IpAddr) -> Option<&Name> {
        let address = address.to_canonical();
        self.zones
            .iter()
            .flat_map(|z| z.networks.iter().map(move |n| (z, n)))
            .filter_map(|(z, n)| {
                Network::parse(n).filter(|n| n.contains(address)).map(|n| (n.prefix, &z.name))
            })
            .max_by_key(|(prefix, _)| *prefix)
            .map(|(_, name)| name)
            .or(self.settings.default_zone.as_ref())
    }
    /// Conduits that lead from `from` to the asset by `protocol`.
    pub fn conduits_to<'a>(
        &'a self,
        from: &'a Name,
        asset: &'a Asset,
        protocol: Protocol,
    ) -> impl Iterator<Item = &'a Conduit> {
        self.conduits.iter().filter(move |c| {
            &c.from == from
                && c.to == asset.zone
                && c.protocols.contains(&protocol)
                && (c.assets.is_empty() || c.assets.contains(&asset.name))
        })
    }
}

/// Per-zone plant state; a zone without an entry is in production.
pub type PlantStates = BTreeMap<Name, PlantState>;

/// An IP network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, `2001:db8::/32` or a bare address.
    pub fn parse(s: &str) -> Option<Self> {
        let (addr, prefix) = match s.split_once('/') {
            Some((a, p)) => (a.parse::<IpAddr>().ok()?, p.parse::<u8>().ok()?),
            None => {
                let a = s.parse::<IpAddr>().ok()?;
                (a, if a.is_ipv4() { 32 } else { 128 })
            }
        };
        (prefix <= if addr.is_ipv4() { 32 } else { 128 }).then_some(Self { base: addr, prefix })
    }
    /// Whether `address` is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u32, prefix: u8) -> bool {
            let shift = bits - u32::from(prefix);
            shift >= bits || (a >> shift) == (b >> shift)
        }
        match (self.base, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32, self.prefix),
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                self.prefix == 0 || same(u128::from(a), u128::from(b), 128, self.prefix)
            }
            _ => false,
        }
    }
}
