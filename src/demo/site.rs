//! The demo's site and its one window, made by the same rules as any other.

use std::collections::BTreeSet;

use cofferdam_access::{
    apply::CheckedSite,
    audit::Act,
    ids::{Login, Name, WindowId},
    people::{Duty, Organisation, OrganisationKind, User},
    policy::CompiledPolicies,
    site::{
        Account, AccountRef, Asset, Conduit, Credential, Criticality, Desktop, Direction, Endpoint, Protocol,
        Settings, Site, Zone,
    },
    store::{Store, WindowFilter},
    window::{Limits, Operation, Phase, WindowRequest},
    windowing,
};

use super::people::{PEOPLE, People};
use crate::context::Context;

/// How long the demo's window lasts, seconds.
const WINDOW: i64 = 12 * 3600;

fn name(s: &str) -> Result<Name, String> {
    Name::new(s).map_err(|e| e.to_string())
}

/// How the built-in machines are reached and known.
pub(super) struct Machines<'a> {
    /// The SSH host's key, OpenSSH one-line form.
    pub(super) host_key: &'a str,
    /// Its port.
    pub(super) ssh: u16,
    /// The pin of the desktop's key.
    pub(super) desktop_key: &'a str,
    /// Its port.
    pub(super) rdp: u16,
}

/// Describes the site in the store. Started again, only what belongs to the demo is renewed: what was added stays.
pub(super) async fn describe(
    context: &Context,
    store: &Store,
    people: &People,
    machines: &Machines<'_>,
) -> Result<(), String> {
    let mut site = store.site().await.map_err(|e| e.to_string())?;
    if site.assets.is_empty() {
        site = fresh(people)?;
    }
    for machine in [pump(machines)?, workstation(machines)?] {
        site.assets.retain(|a| a.name != machine.name);
        site.assets.push(machine);
    }
    if let Some(problem) = CompiledPolicies::compile(&site).problem() {
        return Err(problem.to_string());
    }
    let wanted = CheckedSite::new(site, &|_| Ok(()))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let plan = store.plan_site(&wanted).await.map_err(|e| e.to_string())?;
    let act = Act::system("demo", context.now());
    store.apply_site(&act, &wanted, &plan).await.map_err(|e| e.to_string())?;
    Ok(())
}

fn pump(machines: &Machines<'_>) -> Result<Asset, String> {
    let endpoint =
        Endpoint { protocol: Protocol::Ssh, port: 22, dial_host: None, dial_port: Some(machines.ssh) };
    let mut asset = machine("pump-hmi", "Operator panel of pump P-101", endpoint)?;
    asset.host_keys.push(machines.host_key.to_owned());
    Ok(asset)
}

fn workstation(machines: &Machines<'_>) -> Result<Asset, String> {
    let endpoint =
        Endpoint { protocol: Protocol::Rdp, port: 3389, dial_host: None, dial_port: Some(machines.rdp) };
    let mut asset = machine("eng-ws", "Engineering workstation", endpoint)?;
    asset.rdp = Some(Desktop { public_keys: vec![machines.desktop_key.to_owned()], ..Desktop::default() });
    Ok(asset)
}

fn machine(asset: &str, title: &str, endpoint: Endpoint) -> Result<Asset, String> {
    Ok(Asset {
        name: name(asset)?,
        title: title.into(),
        zone: name("cell-1")?,
        address: "127.0.0.1".into(),
        endpoints: vec![endpoint],
        criticality: Criticality::High,
        crown_jewel: false,
        supervised: false,
        disabled: false,
        host_keys: Vec::new(),
        dangerous_ssh_algorithms: Vec::new(),
        dangerous_own_loopback: false,
        rdp: None,
        keep_full_bytes: None,
    })
}

fn account(asset: &str, login: &str, credential: Credential, default: bool) -> Result<Account, String> {
    let login = Login::new(login).map_err(|e| e.to_string())?;
    Ok(Account {
        asset: name(asset)?,
        login,
        credential,
        default,
        exclusive: false,
        disabled: false,
        checkout: false,
        rotation: None,
    })
}

fn fresh(people: &People) -> Result<Site, String> {
    let organisation = |n: &str, title: &str, kind| {
        Ok::<_, String>(Organisation { name: name(n)?, title: title.into(), kind })
    };
    let zone = |n: &str, title: &str, networks: &[&str], critical| {
        Ok::<_, String>(Zone {
            name: name(n)?,
            title: title.into(),
            networks: networks.iter().map(|s| (*s).to_owned()).collect(),
            critical,
            recording_days: None,
        })
    };
    let mut users = Vec::new();
    for (user, full_name, org, duties) in PEOPLE {
        let duties: BTreeSet<Duty> = Duty::ALL.into_iter().filter(|d| duties.contains(&d.as_str())).collect();
        let key = people.get(user).map(|p| p.ssh_public_key.clone());
        users.push(User {
            name: name(user)?,
            full_name: full_name.into(),
            email: String::new(),
            organisation: name(org)?,
            duties,
            ssh_keys: key.into_iter().collect(),
            disabled: false,
            valid_until: None,
        });
    }
    Ok(Site {
        settings: Settings {
            default_zone: None,
            second_factor_remember_seconds: 8 * 3600,
            ..Settings::default()
        },
        organisations: vec![
            organisation("plant", "The plant", OrganisationKind::Plant)?,
            organisation("acme-pumps", "Acme Pumps", OrganisationKind::Vendor)?,
        ],
        users,
        zones: vec![
            zone("remote", "People on this machine", &["127.0.0.0/8", "::1/128"], false)?,
            zone("cell-1", "Pumping cell 1", &[], true)?,
        ],
        conduits: vec![Conduit {
            name: name("remote-to-cell-1")?,
            from: name("remote")?,
            to: name("cell-1")?,
            protocols: BTreeSet::from([Protocol::Ssh, Protocol::Tcp, Protocol::Rdp]),
            assets: BTreeSet::new(),
            direction: Direction::Both,
        }],
        assets: Vec::new(),
        accounts: vec![
            account("pump-hmi", super::LOGIN, Credential::Password, true)?,
            account("pump-hmi", super::SERVICE, Credential::Certificate, false)?,
            account("eng-ws", super::ENGINEER, Credential::Password, true)?,
        ],
        policies: Vec::new(),
    })
}

/// Vera asks, olga and sam approve: a window from now on, unless one is open already.
pub(super) async fn open_window(context: &Context, store: &Store) -> Result<(), String> {
    let now = context.now();
    let stored = store.windows(&WindowFilter::default()).await.map_err(|e| e.to_string())?;
    if !stored.is_empty() && !stored.iter().all(|w| w.window.phase(now) == Phase::Ended) {
        return Ok(());
    }
    let site = store.site().await.map_err(|e| e.to_string())?;
    let vera = name("vera")?;
    let mut accounts = BTreeSet::new();
    for (asset, login) in
        [("pump-hmi", super::LOGIN), ("pump-hmi", super::SERVICE), ("eng-ws", super::ENGINEER)]
    {
        accounts
            .insert(AccountRef { asset: name(asset)?, login: Login::new(login).map_err(|e| e.to_string())? });
    }
    let request = WindowRequest {
        id: WindowId::new(now, &mut rand::rng()),
        requested_by: vera.clone(),
        requested_at: now,
        users: BTreeSet::from([vera.clone()]),
        accounts,
        forwards: BTreeSet::new(),
        operations: BTreeSet::from([Operation::View, Operation::Operate]),
        purpose: "Yearly service of pump P-101".into(),
        work_order: "WO-4711".into(),
        start: now,
        end: now.plus_seconds(WINDOW),
        plant_states: BTreeSet::new(),
        limits: Limits::default(),
        extends: None,
    };
    let (id, digest) = (request.id, request.digest());
    windowing::request(store, &Act::person(&vera, now), &site, request).await.map_err(|e| e.to_string())?;
    for (who, duty) in [("olga", Duty::Operations), ("sam", Duty::Security)] {
        let person = site.user(&name(who)?).ok_or("the demo's people are not there")?;
        let act = Act::person(&person.name, now);
        let (_window, _step) =
            windowing::approve(store, &act, person, id, duty, digest, "").await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
