//! Fills a store for measuring: people, machines, a year of windows, sessions, findings and audit entries, and log-ins to the
//! web interface. `fill DATABASE OUT [SESSIONS] [ENTRIES]` writes the cookies of the log-ins to the file OUT, as JSON.
//!
//! Everything goes in by the store's own calls, but that the audit entries are signed by a key of this program's: what reads
//! the log by pages does not look at signatures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a tool that cannot go on has nothing to save")]

#[path = "parts/signer.rs"]
mod signer;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::Ed25519KeyPair,
};
use cofferdam_access::{
    apply::CheckedSite,
    audit::{Act, AuditEvent, AuditKind},
    clock::{Clock as _, SystemClock, Timestamp},
    decision::{DeviceKind, Factors},
    ids::{DecisionId, FindingId, Login, Name, SessionId, WebSessionId, WindowId},
    people::{Duty, User},
    site::{Account, AccountRef, Asset, Credential, Protocol, Site},
    store::{
        Database, DecisionRecord, FindingRecord, NewSession, OpenOutcome, Opening, SessionEnd, SessionState,
        Store, WebSession,
    },
    window::{Limits, Operation, Window, WindowRequest},
    windowing,
};
use data_encoding::BASE64URL_NOPAD;
use rand::Rng as _;
use signer::Signer;

/// People who work, people who approve, machines.
const WORKERS: i64 = 60;
const APPROVERS: i64 = 60;
const MACHINES: i64 = 200;
/// Windows that are over, that wait, and that are open.
const OVER: i64 = 3000;
const WAITING: i64 = 40;
const OPEN: i64 = 60;
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

struct Fill {
    store: Store,
    site: Site,
    now: Timestamp,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, usual: i64| arguments.get(at).map_or(usual, |n| n.parse().unwrap());
    let (database, out) = (Database::parse(&arguments[1]).unwrap(), &arguments[2]);
    let (sessions, entries) = (number(3, 100_000), number(4, 1_000_000));
    let now = SystemClock.now();
    Store::migrate(&database, now).await.unwrap();
    let signer = Arc::new(Signer(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()));
    let store = Store::open(&database, signer, None).await.unwrap();
    let site = describe(&store, now).await;
    let fill = Fill { store, site, now };
    let say = |what: &str| eprintln!("{what} after {} s", SystemClock.now().since(now) / 1_000_000);
    let windows = fill.windows().await;
    say("windows");
    for n in 0..sessions {
        let at = now.plus_seconds(-YEAR + n * (YEAR - DAY) / sessions);
        fill.session(n, at, &windows).await;
    }
    say("sessions");
    fill.entries(entries).await;
    say("audit entries");
    let cookies = fill.log_ins().await;
    std::fs::write(out, serde_json::to_vec_pretty(&cookies).unwrap()).unwrap();
    fill.store.close().await;
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn worker(n: i64) -> Name {
    name(&format!("worker-{:03}", n % WORKERS))
}

fn approver(n: i64) -> Name {
    name(&format!("approver-{:03}", n % APPROVERS))
}

/// Steps through all of them.
fn machine(n: i64) -> Name {
    name(&format!("machine-{:03}", n * 7 % MACHINES))
}

fn address(n: i64) -> IpAddr {
    IpAddr::from([10, 9, 0, u8::try_from(n % 200).unwrap()])
}

fn operator() -> Login {
    Login::new("operator").unwrap()
}

/// Adds people and machines to what the site is.
async fn describe(store: &Store, now: Timestamp) -> Site {
    let mut site = store.site().await.unwrap();
    let mut person = |who: Name, organisation: &str, duty: Duty| {
        site.users.retain(|u| u.name != who);
        site.users.push(User {
            full_name: format!("Person {who}"),
            name: who,
            email: String::new(),
            organisation: name(organisation),
            duties: BTreeSet::from([duty]),
            ssh_keys: Vec::new(),
            disabled: false,
            valid_until: None,
        });
    };
    (0..WORKERS).for_each(|n| person(worker(n), "acme-pumps", Duty::Vendor));
    for n in 0..APPROVERS {
        person(approver(n), "plant", if n % 2 == 0 { Duty::Operations } else { Duty::Security });
    }
    let model = site.assets.first().unwrap().clone();
    for n in (0..MACHINES).filter(|n| site.assets.iter().all(|a| a.name != machine(*n))).collect::<Vec<_>>() {
        site.assets.push(Asset {
            name: machine(n),
            title: format!("Machine number {n}"),
            address: format!("10.1.{}.{}", n / 200, n % 200 + 1),
            crown_jewel: n % 10 == 0,
            ..model.clone()
        });
        site.accounts.push(Account {
            asset: machine(n),
            login: operator(),
            credential: Credential::Password,
            default: true,
            exclusive: false,
            disabled: false,
            checkout: false,
            rotation: None,
        });
    }
    let wanted = CheckedSite::new(site, &|_| Ok(())).unwrap();
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&Act::system("figures", now), &wanted, &plan).await.unwrap();
    store.site().await.unwrap()
}

impl Fill {
    /// A window of worker `n`, with so many approvals.
    async fn window(&self, n: i64, start: Timestamp, seconds: i64, approvals: usize) -> WindowId {
        let (who, at) = (worker(n), start.plus_seconds(-3600).min(self.now));
        let request = WindowRequest {
            id: WindowId::new(at, &mut rand::rng()),
            requested_by: who.clone(),
            requested_at: at,
            users: BTreeSet::from([who.clone()]),
            accounts: BTreeSet::from([AccountRef { asset: machine(n), login: operator() }]),
            forwards: BTreeSet::new(),
            operations: BTreeSet::from([Operation::View, Operation::Operate]),
            purpose: format!("Service number {n} of the machine, with a look at what it does"),
            work_order: format!("WO-{n}"),
            start,
            end: start.plus_seconds(seconds),
            plant_states: BTreeSet::new(),
            limits: Limits::default(),
            extends: None,
        };
        let (id, digest) = (request.id, request.digest());
        let act = Act::person(&who, at).from(address(n));
        self.store.insert_window(&act, &Window::requested(request)).await.unwrap();
        let both = [(approver(2 * n), Duty::Operations), (approver(2 * n + 1), Duty::Security)];
        for (who, duty) in both.into_iter().take(approvals) {
            let (act, user) = (Act::person(&who, at.plus_seconds(60)), self.site.user(&who).unwrap());
            let _step = windowing::approve(&self.store, &act, user, id, duty, digest, "").await.unwrap();
        }
        id
    }

    /// Answers those that are over.
    async fn windows(&self) -> Vec<WindowId> {
        let mut over = Vec::new();
        for n in 0..OVER {
            let start = self.now.plus_seconds(-YEAR + n * (YEAR - 2 * DAY) / OVER);
            over.push(self.window(n, start, 4 * 3600, 2).await);
        }
        for n in 0..WAITING {
            let approvals = usize::from(n % 2 == 0);
            self.window(n, self.now.plus_seconds(3600 + n * 600), 7200, approvals).await;
        }
        for n in 0..OPEN {
            self.window(n + 7, self.now, 8 * 3600, 2).await;
        }
        over
    }

    async fn session(&self, n: i64, at: Timestamp, windows: &[WindowId]) {
        let (who, asset) = (worker(n), machine(n / 3));
        let id = SessionId::new(at, &mut rand::rng());
        let decision = DecisionRecord {
            id: DecisionId::new(at, &mut rand::rng()),
            at,
            person: who.clone(),
            asset: asset.to_string(),
            session: Some(id),
            outcome: "permit".into(),
            body: format!("{{\"second_factor_fresh\":true,\"n\":{n},\"notes\":\"{}\"}}", "x".repeat(600)),
        };
        let new = NewSession {
            id,
            person: who.clone(),
            asset,
            login: operator(),
            protocol: Protocol::Ssh,
            source: address(n),
            device_key: Some("SHA256:figures".into()),
            window: windows.get(usize::try_from(n).unwrap() % windows.len()).copied(),
            decision: decision.id,
            node: "gw-1".into(),
            state: SessionState::Active,
            recording: Some(id.to_string()),
        };
        let opening = Opening { decisions: vec![decision], ..Opening::default() };
        let opened = self.store.open_session(&Act::person(&who, at), &new, &opening).await.unwrap();
        assert!(matches!(opened, OpenOutcome::Opened { .. }));
        if n % 20 == 0 {
            let finding = FindingRecord {
                id: FindingId::new(at, &mut rand::rng()),
                session: Some(id),
                at: at.plus_seconds(30),
                trigger: "command_pattern".into(),
                severity: if n % 60 == 0 { "high" } else { "low" }.into(),
                text: "stops a service".into(),
                response: "notify".into(),
            };
            self.store.record_finding(&Act::system("detect", finding.at), &finding).await.unwrap();
        }
        let end = SessionEnd {
            reason: "closed".into(),
            recording_digest: Some("0".repeat(64)),
            bytes_up: 1000,
            bytes_down: 100_000,
            ..SessionEnd::default()
        };
        self.store.close_session(&Act::system("gateway", at.plus_seconds(900)), id, &end).await.unwrap();
    }

    /// Fills the audit log up to so many entries: what happens beside sessions.
    async fn entries(&self, count: i64) {
        let kinds = [
            AuditKind::LoginSucceeded,
            AuditKind::SecondFactorUsed,
            AuditKind::RecordingCheckpoint,
            AuditKind::RecordingSealed,
            AuditKind::LoginFailed,
            AuditKind::ForwardRefused,
        ];
        let there = self.store.head().await.unwrap().map_or(0, |head| i64::try_from(head.seq).unwrap());
        let missing = count - there;
        let mut written = 0;
        while written < missing {
            let at = self.now.plus_seconds(-DAY + written * 80_000 / missing);
            let who = worker(written / 1000);
            let events = kinds.iter().cycle().zip(0..(missing - written).min(1000)).map(|(kind, n)| {
                AuditEvent::new(*kind, &who).with("n", written + n).with("detail", "d".repeat(120))
            });
            self.store.record_all(&Act::person(&who, at), events.collect()).await.unwrap();
            written += 1000;
        }
    }

    /// One log-in for each person: name to cookie.
    async fn log_ins(&self) -> BTreeMap<String, String> {
        let mut cookies = BTreeMap::new();
        for user in &self.site.users {
            let mut bytes = [0u8; 32];
            rand::rng().fill(&mut bytes);
            let cookie = BASE64URL_NOPAD.encode(&bytes);
            let now = SystemClock.now();
            let session = WebSession {
                id: WebSessionId::new(now, &mut rand::rng()),
                person: user.name.clone(),
                factors: Factors { first: DeviceKind::Password, second: None },
                source: "127.0.0.1".into(),
                client: "figures".into(),
                created_at: now,
                seen_at: now,
                expires_at: now.plus_seconds(10 * 3600),
            };
            let kept = hex::encode(digest(&SHA256, cookie.as_bytes()).as_ref());
            self.store.open_web_session(&Act::person(&user.name, now), &kept, &session).await.unwrap();
            cookies.insert(user.name.to_string(), cookie);
        }
        cookies
    }
}
