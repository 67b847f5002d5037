//! A small site for the tests of this crate.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    clock::Timestamp,
    decision::{AccessRequest, Device, DeviceKind, Factors, Observed, SecondFactor, SecondFactorKind},
    ids::{Name, SessionId, WindowId},
    people::{Duty, User},
    policy::CompiledPolicies,
    site::{AccountRef, PlantStates, Protocol, Site},
    snapshot::Snapshot,
    window::{ApprovalStep, Limits, Operation, Window, WindowRequest},
};

/// 2026-11-23 12:00 UTC, a Monday.
pub(crate) const NOON: Timestamp = Timestamp::from_seconds(1_795_435_200);

pub(crate) const SITE: &str = r#"
[settings]
time_zone = "Europe/Berlin"
[[organisations]]
name = "plant"
kind = "plant"
[[organisations]]
name = "pumps-gmbh"
kind = "vendor"
[[users]]
name = "vera"
full_name = "Vera Vendor"
organisation = "pumps-gmbh"
duties = ["vendor"]
[[users]]
name = "emil"
organisation = "plant"
duties = ["engineer"]
[[users]]
name = "olga"
organisation = "plant"
duties = ["operations"]
[[users]]
name = "otto"
organisation = "plant"
duties = ["operations"]
[[users]]
name = "sam"
organisation = "plant"
duties = ["security"]
[[users]]
name = "both"
organisation = "plant"
duties = ["operations", "security"]
[[users]]
name = "ada"
organisation = "plant"
duties = ["administrator"]
[[zones]]
name = "vendors"
networks = ["10.9.0.0/16"]
[[zones]]
name = "cell-1"
critical = true
[[zones]]
name = "cell-2"
[[conduits]]
name = "vendors-to-cell-1"
from = "vendors"
to = "cell-1"
protocols = ["ssh", "rdp", "modbus", "tcp"]
[[assets]]
name = "pump-hmi"
title = "Pump station"
zone = "cell-1"
address = "10.1.0.5"
criticality = "high"
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOnSUo6ay9xv6m0anKMbkmYK+K3KRV9A1LdjLa9TjwZa"]
endpoints = [{ protocol = "ssh", port = 22, dial_port = 2022 }, { protocol = "tcp", port = 5432 }]
[[assets]]
name = "plc-7"
zone = "cell-1"
address = "10.1.0.7"
endpoints = [{ protocol = "modbus", port = 502 }, { protocol = "ssh", port = 22 }]
[[assets]]
name = "eng-ws"
zone = "cell-1"
address = "10.1.0.9"
endpoints = [{ protocol = "rdp", port = 3389 }]
[[assets]]
name = "plc-9"
zone = "cell-2"
address = "10.2.0.9"
endpoints = [{ protocol = "modbus", port = 502 }]
[[accounts]]
asset = "pump-hmi"
login = "root"
credential = "key"
[[accounts]]
asset = "pump-hmi"
login = "operator"
credential = "password"
default = true
[[accounts]]
asset = "plc-7"
login = "none"
credential = "none"
[[accounts]]
asset = "eng-ws"
login = "eng"
credential = "password"
[[accounts]]
asset = "plc-9"
login = "none"
credential = "none"
"#;

pub(crate) fn name(s: &str) -> Name {
    Name::new(s).unwrap()
}

pub(crate) fn account(s: &str) -> AccountRef {
    AccountRef::try_from(s.to_owned()).unwrap()
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn site() -> Site {
    toml::from_str(SITE).unwrap()
}

pub(crate) fn person(s: &str) -> User {
    site().user(&name(s)).unwrap().clone()
}

/// Vera asks at noon for operator@pump-hmi, with plc-7 and plc-9 as forwards, from 13:00 to 15:00 UTC.
pub(crate) fn asked() -> WindowRequest {
    WindowRequest {
        id: WindowId::new(NOON, &mut rng(1)),
        requested_by: name("vera"),
        requested_at: NOON,
        users: BTreeSet::from([name("vera")]),
        accounts: BTreeSet::from([account("operator@pump-hmi")]),
        forwards: BTreeSet::from([name("plc-7"), name("plc-9")]),
        operations: BTreeSet::from([Operation::Operate]),
        purpose: "replace the pump's drive".to_owned(),
        work_order: "WO-17".to_owned(),
        start: NOON.plus_seconds(3600),
        end: NOON.plus_seconds(3 * 3600),
        plant_states: BTreeSet::new(),
        limits: Limits::default(),
        extends: None,
    }
}

/// Approved by Olga and Sam.
pub(crate) fn approved(request: WindowRequest, at: Timestamp) -> Window {
    let mut window = Window::requested(request);
    let digest = window.request.digest();
    let first = window.approve(&person("olga"), Duty::Operations, digest, at).unwrap();
    assert_eq!(first, ApprovalStep::Waits { missing: Duty::Security });
    let second = window.approve(&person("sam"), Duty::Security, digest, at).unwrap();
    assert_eq!(second, ApprovalStep::Approved);
    window
}

pub(crate) fn snapshot(site: Site, windows: Vec<Window>) -> Snapshot {
    let policies = Arc::new(CompiledPolicies::compile(&site));
    Snapshot {
        site: Arc::new(site),
        plant: PlantStates::new(),
        windows,
        policies,
        revision: 1,
        taken_at: NOON,
    }
}

/// Vera at her own machine, with a key and a code given at `at`.
pub(crate) fn access(asset: &str, at: Timestamp) -> AccessRequest {
    AccessRequest {
        session: SessionId::new(at, &mut rng(2)),
        user: name("vera"),
        asset: name(asset),
        login: None,
        protocol: Protocol::Ssh,
        source: SocketAddr::from(([10, 9, 1, 1], 40000)),
        device: Device {
            key_fingerprint: Some("SHA256:abc".to_owned()),
            kind: DeviceKind::Key,
            user_verified: false,
            client_version: "SSH-2.0-OpenSSH_10.0".to_owned(),
        },
        factors: Factors {
            first: DeviceKind::Key,
            second: Some(SecondFactor { kind: SecondFactorKind::Totp, at, windows: BTreeSet::new() }),
        },
        observed: Observed::default(),
    }
}
