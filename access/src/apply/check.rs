//! Whether a described site makes sense. Everything wrong is found in one go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::plan::ItemKind;
use crate::{
    ids::{Login, Name},
    site::{
        Account, Asset, Credential, Desktop, DesktopRealm, DesktopSecurity, Endpoint, KdcAddress, Network,
        Protocol, PublicKeyPin, Rotation, RotationBy, Site,
    },
    window::text::path_pattern,
};

/// Longest text of one policy file, bytes.
const MAX_POLICY: usize = 256 * 1024;
/// Longest SSH key line, bytes.
const MAX_KEY: usize = 16 * 1024;
/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;
/// Most patterns for paths on the drives, or the clipboard, of one desktop.
const MAX_PATTERNS: usize = 256;
/// Longest time for which recordings are kept, other than for ever.
const MOST_DAYS: u32 = 36_500;
const TOO_MANY_DAYS: &str = "is more than 36500 days: give at most that, or 0 for ever";

/// What a device has to take at least for its password to be worth rotating.
const SHORTEST_PASSWORD: u32 = 8;

/// Something wrong with one field of one item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{item}: {field}: {problem}")]
pub struct SiteFault {
    /// The item, as `asset "plc-7"`.
    pub item: String,
    /// The field.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A site that was checked: the only kind that can be planned and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSite(Site);

impl CheckedSite {
    /// Checks `site`; `parse_policy` says whether Cedar text can be used. Answers everything that is wrong.
    pub fn new(
        site: Site,
        parse_policy: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Self, Vec<SiteFault>> {
        let mut check = Check { site: &site, faults: Vec::new() };
        check.settings();
        check.names();
        check.users();
        check.zones();
        check.conduits();
        check.assets();
        check.accounts();
        check.policies(parse_policy);
        let faults = check.faults;
        if faults.is_empty() { Ok(Self(site)) } else { Err(faults) }
    }

    /// The site.
    pub fn site(&self) -> &Site {
        &self.0
    }
}

struct Check<'s> {
    site: &'s Site,
    faults: Vec<SiteFault>,
}

impl Check<'_> {
    fn fault(
        &mut self,
        kind: ItemKind,
        name: impl fmt::Display,
        field: &'static str,
        problem: impl Into<String>,
    ) {
        let item = if kind == ItemKind::Settings {
            "settings".to_owned()
        } else {
            format!("{} \"{name}\"", kind.as_str())
        };
        self.faults.push(SiteFault { item, field, problem: problem.into() });
    }

    fn settings(&mut self) {
        let s = &self.site.settings;
        let kind = ItemKind::Settings;
        if jiff::tz::TimeZone::get(&s.time_zone).is_err() {
            self.fault(
                kind,
                "",
                "time_zone",
                format!("{:?} is no IANA time zone: use a name like \"Europe/Berlin\"", s.time_zone),
            );
        }
        if let Some(zone) = &s.default_zone {
            self.zone_exists(kind, "", "default_zone", zone);
        }
        if s.idle_seconds == 0 {
            self.fault(kind, "", "idle_seconds", "0 would end every session at once: give at least 1");
        }
        if s.longest_window_seconds == 0 {
            self.fault(kind, "", "longest_window_seconds", "0 allows no window: give at least 1");
        }
        if s.recording_days > MOST_DAYS {
            self.fault(kind, "", "recording_days", TOO_MANY_DAYS);
        }
        if s.crown_jewel_recording_days.is_some_and(|days| days > MOST_DAYS) {
            self.fault(kind, "", "crown_jewel_recording_days", TOO_MANY_DAYS);
        }
        for name in &s.environment {
            let stem = name.strip_suffix('*').unwrap_or(name);
            if stem.is_empty() || !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                let problem = format!(
                    "{name:?} is no variable: use letters, digits and '_', with at most one '*' at the end"
                );
                self.fault(kind, "", "environment", problem);
            }
        }
    }

    fn names(&mut self) {
        let site = self.site;
        self.unique(ItemKind::Organisation, site.organisations.iter().map(|o| &o.name));
        self.unique(ItemKind::User, site.users.iter().map(|u| &u.name));
        self.unique(ItemKind::Zone, site.zones.iter().map(|z| &z.name));
        self.unique(ItemKind::Conduit, site.conduits.iter().map(|c| &c.name));
        self.unique(ItemKind::Asset, site.assets.iter().map(|a| &a.name));
        self.unique(ItemKind::Policy, site.policies.iter().map(|p| &p.name));
    }

    fn unique<'n>(&mut self, kind: ItemKind, names: impl Iterator<Item = &'n Name>) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                self.fault(kind, name, "name", "is there twice: rename or remove one");
            }
        }
    }

    fn users(&mut self) {
        let kind = ItemKind::User;
        let mut keys: BTreeMap<&str, &Name> = BTreeMap::new();
        for user in &self.site.users {
            if !self.site.organisations.iter().any(|o| o.name == user.organisation) {
                let problem = format!(
                    "there is no organisation \"{}\": describe it or correct the name",
                    user.organisation
                );
                self.fault(kind, &user.name, "organisation", problem);
            }
            if user.duties.is_empty() {
                self.fault(kind, &user.name, "duties", "is empty: name at least one duty");
            }
            for line in &user.ssh_keys {
                match key_blob(line) {
                    Err(problem) => self.fault(kind, &user.name, "ssh_keys", problem),
                    Ok(blob) => {
                        // A key stands for one person; shared, it would stand for none.
                        if let Some(other) = keys.insert(blob, &user.name)
                            && other != &user.name
                        {
                            let problem =
                                format!("a key is also listed for \"{other}\": each person needs their own");
                            self.fault(kind, &user.name, "ssh_keys", problem);
                        }
                    }
                }
            }
        }
    }

    fn zones(&mut self) {
        let mut seen: BTreeMap<String, &Name> = BTreeMap::new();
        for zone in &self.site.zones {
            if zone.recording_days.is_some_and(|days| days > MOST_DAYS) {
                self.fault(ItemKind::Zone, &zone.name, "recording_days", TOO_MANY_DAYS);
            }
            for network in &zone.networks {
                if Network::parse(network).is_none() {
                    let problem = format!(
                        "{network:?} is no network: write it like \"10.0.0.0/8\" or \"2001:db8::/32\""
                    );
                    self.fault(ItemKind::Zone, &zone.name, "networks", problem);
                } else if let Some(other) = seen.insert(network.to_ascii_lowercase(), &zone.name) {
                    let problem =
                        format!("{network:?} is listed for zone \"{other}\" already: a host is in one zone");
                    self.fault(ItemKind::Zone, &zone.name, "networks", problem);
                }
            }
        }
    }

    fn zone_exists(&mut self, kind: ItemKind, name: impl fmt::Display, field: &'static str, zone: &Name) {
        if !self.site.zones.iter().any(|z| &z.name == zone) {
            self.fault(
                kind,
                name,
                field,
                format!("there is no zone \"{zone}\": describe it or correct the name"),
            );
        }
    }

    fn conduits(&mut self) {
        let kind = ItemKind::Conduit;
        for conduit in &self.site.conduits {
            self.zone_exists(kind, &conduit.name, "from", &conduit.from);
            self.zone_exists(kind, &conduit.name, "to", &conduit.to);
            if conduit.protocols.is_empty() {
                self.fault(kind, &conduit.name, "protocols", "is empty: name what may pass");
            }
            for asset in &conduit.assets {
                match self.site.asset(asset) {
                    None => {
                        let problem =
                            format!("there is no asset \"{asset}\": describe it or correct the name");
                        self.fault(kind, &conduit.name, "assets", problem);
                    }
                    Some(a) if a.zone != conduit.to => {
                        let problem =
                            format!("asset \"{asset}\" is in zone \"{}\", not in \"{}\"", a.zone, conduit.to);
                        self.fault(kind, &conduit.name, "assets", problem);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn assets(&mut self) {
        for asset in &self.site.assets {
            self.zone_exists(ItemKind::Asset, &asset.name, "zone", &asset.zone);
            if let Err(problem) = host(&asset.address) {
                self.fault(ItemKind::Asset, &asset.name, "address", problem);
            }
            self.endpoints(asset);
            for line in &asset.host_keys {
                if let Err(problem) = key_blob(line) {
                    self.fault(ItemKind::Asset, &asset.name, "host_keys", problem);
                }
            }
            self.desktop(asset);
            for algorithm in &asset.dangerous_ssh_algorithms {
                if algorithm.is_empty() || !algorithm.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
                    let problem = format!("{algorithm:?} is no algorithm name");
                    self.fault(ItemKind::Asset, &asset.name, "dangerous_ssh_algorithms", problem);
                }
            }
        }
    }

    fn desktop(&mut self, asset: &Asset) {
        let Some(desktop) = &asset.rdp else { return };
        if !asset.speaks(Protocol::Rdp) {
            let problem = "describes a desktop, and the asset has no rdp endpoint: add one, or leave it out";
            self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
        }
        for key in desktop.public_keys.iter().filter(|k| PublicKeyPin::parse(k).is_none()) {
            let shown: String = key.chars().take(24).collect();
            let problem = format!(
                "{shown:?}… is no fingerprint: write it as `cofferdam asset trust --rdp` prints it, \"sha256:…\""
            );
            self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
        }
        if desktop.domain.as_deref().is_some_and(|d| host(d).is_err()) {
            let problem = "the domain is no name: write it as PLANT or plant.example, or leave it out";
            self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
        }
        if let Some(realm) = &desktop.kerberos {
            self.realm(asset, desktop, realm);
        }
        self.desktop_files(asset, desktop);
    }

    fn realm(&mut self, asset: &Asset, desktop: &Desktop, realm: &DesktopRealm) {
        let mut wrong = |problem: String| {
            self.fault(ItemKind::Asset, &asset.name, "rdp", format!("kerberos: {problem}"));
        };
        if desktop.security != DesktopSecurity::Nla {
            wrong(
                "it is a way of network level authentication: set security to \"nla\", or leave it out"
                    .into(),
            );
        }
        let name = &realm.realm;
        if host(name).is_err() || name.bytes().any(|b| b.is_ascii_lowercase()) {
            wrong(format!("{name:?} is no realm: write it in capitals, as \"PLANT.EXAMPLE\""));
        }
        if realm.kdcs.is_empty() || realm.kdcs.len() > DesktopRealm::MAX_KDCS {
            wrong(format!(
                "give one to {} KDCs, as kdcs = [\"tcp://dc1.plant.example:88\"]",
                DesktopRealm::MAX_KDCS
            ));
        }
        for kdc in &realm.kdcs {
            if KdcAddress::parse(kdc).is_none_or(|address| host(&address.host).is_err()) {
                let shown: String = kdc.chars().take(64).collect();
                wrong(format!("{shown:?} is no KDC: write it as \"tcp://dc1.plant.example:88\""));
            }
        }
        if let Some(Err(problem)) = realm.host.as_deref().map(host) {
            wrong(format!("host: {problem}"));
        }
        let dialled =
            |endpoint: &Endpoint| endpoint.dial_host.clone().unwrap_or_else(|| asset.address.clone());
        let mut desktops = asset.endpoints.iter().filter(|e| e.protocol == Protocol::Rdp).map(dialled);
        if desktops.any(|dialled| realm.host_of(&dialled).is_none()) {
            wrong(
                "a ticket is for a name and not for an address: give the machine's name in the realm as host"
                    .into(),
            );
        }
    }

    /// The limits for files on drives and on the clipboard.
    fn desktop_files(&mut self, asset: &Asset, desktop: &Desktop) {
        let drives = desktop.drives_to_target || desktop.drives_to_person;
        let clipboard = desktop.any_clipboard_files();
        for (used, paths, bytes, [paths_key, bytes_key, switches]) in [
            (
                drives,
                &desktop.drives_paths,
                desktop.drives_file_bytes,
                ["drives_paths", "drives_file_bytes", "drives_to_target or drives_to_person"],
            ),
            (
                clipboard,
                &desktop.clipboard_paths,
                desktop.clipboard_file_bytes,
                [
                    "clipboard_paths",
                    "clipboard_file_bytes",
                    "clipboard_files_to_target or clipboard_files_to_person",
                ],
            ),
        ] {
            if let Some(error) = paths.iter().find_map(|p| path_pattern(p).err()) {
                self.fault(ItemKind::Asset, &asset.name, "rdp", format!("{paths_key}: {error}"));
            }
            if paths.len() > MAX_PATTERNS {
                let problem =
                    format!("{paths_key} has more than {MAX_PATTERNS} patterns: use fewer, wider ones");
                self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
            }
            if bytes == Some(0) {
                let problem = format!("no file is that small: give {bytes_key} in bytes, or leave it out");
                self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
            }
            if !used && !paths.is_empty() {
                let problem = format!("{paths_key} limits files that nobody may use: set {switches}");
                self.fault(ItemKind::Asset, &asset.name, "rdp", problem);
            }
        }
    }

    fn endpoints(&mut self, asset: &Asset) {
        let mut ports = BTreeSet::new();
        for endpoint in &asset.endpoints {
            if endpoint.port == 0 || endpoint.dial_port == Some(0) {
                self.fault(
                    ItemKind::Asset,
                    &asset.name,
                    "endpoints",
                    "port 0 does not exist: use 1 to 65535",
                );
            }
            if !ports.insert(endpoint.port) {
                let problem = format!("port {} is there twice: keep one", endpoint.port);
                self.fault(ItemKind::Asset, &asset.name, "endpoints", problem);
            }
            if let Some(Err(problem)) = endpoint.dial_host.as_deref().map(host) {
                self.fault(ItemKind::Asset, &asset.name, "endpoints", problem);
            }
        }
    }

    fn accounts(&mut self) {
        let mut seen = BTreeSet::new();
        let mut defaults = BTreeSet::new();
        for account in &self.site.accounts {
            let name = format!("{}@{}", account.login, account.asset);
            if self.site.asset(&account.asset).is_none() {
                let problem =
                    format!("there is no asset \"{}\": describe it or correct the name", account.asset);
                self.fault(ItemKind::Account, &name, "asset", problem);
            }
            if !seen.insert((&account.asset, &account.login)) {
                self.fault(ItemKind::Account, &name, "login", "is there twice on this asset: remove one");
            }
            if account.default && !defaults.insert(&account.asset) {
                self.fault(
                    ItemKind::Account,
                    &name,
                    "default",
                    "another account of this asset is the default: keep one",
                );
            }
            if account.checkout && !account.needs_secret() {
                let problem = "there is no secret that anybody could see: leave it out";
                self.fault(ItemKind::Account, &name, "checkout", problem);
            }
            self.rotation(account, &name);
        }
    }

    fn rotation(&mut self, account: &Account, name: &str) {
        for problem in account.rotation.iter().flat_map(|r| rotation_problems(self.site, account, r)) {
            self.fault(ItemKind::Account, name, "rotation", problem);
        }
    }

    fn policies(&mut self, parse: &dyn Fn(&str) -> Result<(), String>) {
        for policy in &self.site.policies {
            if policy.text.len() > MAX_POLICY {
                let problem = format!("is longer than {MAX_POLICY} bytes: split it");
                self.fault(ItemKind::Policy, &policy.name, "text", problem);
            } else if let Err(problem) = parse(&policy.text) {
                self.fault(ItemKind::Policy, &policy.name, "text", problem);
            }
        }
    }
}

fn rotation_problems(site: &Site, account: &Account, rotation: &Rotation) -> Vec<&'static str> {
    let mut problems = Vec::new();
    let mut check = |wrong: bool, problem| problems.extend(wrong.then_some(problem));
    let asset = site.asset(&account.asset);
    let helper = |login: &Login| site.accounts.iter().find(|a| a.asset == account.asset && a.login == *login);
    check(
        !account.needs_secret(),
        "there is no stored secret to change: leave it out, or set credential to password or key",
    );
    let ssh = rotation.by == RotationBy::Ssh;
    check(
        ssh && asset.is_some_and(|a| a.endpoints.iter().all(|e| e.protocol != Protocol::Ssh)),
        "the asset has no ssh endpoint to change it by: add one, or say another kind in `by`",
    );
    check(
        ssh && rotation.server.is_some(),
        "server is for the other kinds: leave it out, or say one in `by`",
    );
    check(
        !ssh && account.credential != Credential::Password,
        "only a password can be changed there: set credential to password",
    );
    check(
        !ssh && (rotation.helper_sudo || rotation.by_helper || rotation.authorized_keys.is_some()),
        "helper_sudo, by_helper and authorized_keys are for ssh: leave them out",
    );
    let server = rotation.server.clone().unwrap_or_default();
    let plugin = rotation.by == RotationBy::Plugin;
    check(plugin && server.plugin.is_none(), "a plug-in is named by server.plugin: give it");
    let mut names = BTreeSet::new();
    check(
        rotation.dependents.iter().any(|d| d.name.trim().is_empty() || !names.insert(&d.name)),
        "each dependent needs a name of its own: correct dependents",
    );
    check(
        !ssh && !plugin && server.authority.is_none() && !server.dangerous_no_tls,
        "its server's certificate is checked against server.authority: give that in PEM",
    );
    let directory = rotation.by == RotationBy::ActiveDirectory;
    check(
        directory && server.dangerous_no_tls,
        "Active Directory changes passwords over TLS only: give authority",
    );
    check(
        directory && (server.dn.is_none() || server.bind_name.is_none()),
        "Active Directory needs server.dn and server.bind_name: give both",
    );
    check(
        directory && rotation.helper.is_some() && server.helper_bind_name.is_none(),
        "the helper logs in by server.helper_bind_name: give it",
    );
    check(
        server.host.as_deref().is_some_and(|h| host(h).is_err()) || server.port == Some(0),
        "server.host or server.port is none: correct it",
    );
    match &rotation.helper {
        None => check(
            rotation.by_helper || rotation.mend_drift || rotation.helper_sudo,
            "by_helper, mend_drift and helper_sudo need a helper: name one",
        ),
        Some(login) => {
            check(*login == account.login, "it cannot be its own helper: name another account");
            check(
                helper(login).is_none_or(|h| !h.needs_secret()),
                "the helper is no account of this asset with a secret of its own: describe it or correct the login",
            );
            check(
                ssh && account.credential == Credential::Key && rotation.authorized_keys.is_none(),
                "a helper edits the file that authorized_keys names: write its whole path",
            );
        }
    }
    check(
        rotation.longest_password.is_some_and(|n| n < SHORTEST_PASSWORD),
        "longest_password below 8 protects nothing: give at least 8",
    );
    check(
        rotation
            .authorized_keys
            .as_ref()
            .is_some_and(|f| !f.starts_with('/') || f.contains(char::is_control)),
        "authorized_keys is no whole path: begin it with a slash",
    );
    problems
}

/// Host name or IP address; a name is letters, digits, `-`, `_` and `.`.
fn host(text: &str) -> Result<(), String> {
    let name = (1..=MAX_HOST).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if name || text.parse::<std::net::IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("{text:?} is neither a host name nor an IP address"))
    }
}

/// The base64 part of an OpenSSH one-line key, after a look at its shape: a type, the blob that begins with the same type
/// (RFC 4253 §6.6), and perhaps a comment.
fn key_blob(line: &str) -> Result<&str, String> {
    const HOW: &str = "write it as in a .pub file, \"ssh-ed25519 AAAA… comment\", without options";
    let shown: String = line.chars().take(24).collect();
    let wrong = |what: &str| format!("{shown:?}… {what}: {HOW}");
    if line.len() > MAX_KEY || line.chars().any(char::is_control) {
        return Err(wrong("is not one line"));
    }
    let mut parts = line.split_whitespace();
    let (Some(kind), Some(blob)) = (parts.next(), parts.next()) else {
        return Err(wrong("is not a key"));
    };
    let bytes = STANDARD.decode(blob).map_err(|_| wrong("is not base64 in its second part"))?;
    let inner = bytes.first_chunk::<4>().and_then(|n| {
        let length = usize::try_from(u32::from_be_bytes(*n)).ok()?;
        bytes.get(4..length.checked_add(4)?)
    });
    if inner == Some(kind.as_bytes()) { Ok(blob) } else { Err(wrong("is not a key of the type it names")) }
}
