//! What the tests of this crate stand on: the whole interface over a fresh store with the demo's people and site, a clock
//! that they move, and browsers that keep their cookies. Everything goes through the router as it is served.
//!
//! ```ignore
//! let site = Site::new().await;
//! let window = site.ask(|_| ()).await;
//! let olga = site.log_in("olga").await;
//! let code = site.code("olga");
//! let done = olga.post(&format!("/windows/{window}/approve"), &[("code", &code)]).await;
//! assert_eq!(done.status, 303, "{}", done.text);
//! ```

mod browser;
mod fakes;
mod soft_key;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{Router, middleware};
use cofferdam_access::{
    apply::CheckedSite,
    audit::{Act, AuditEvent, AuditKind},
    clock::{ManualClock, Timestamp},
    ids::{ApiTokenId, Name, WindowId},
    password::{Costs, StoredPassword},
    policy::CompiledPolicies,
    prover::Prover,
    site::{AccountRef, Site as Described},
    snapshot::Snapshot,
    store::{ApiToken, AuditFilter, Database, Store, invitation_digest, new_invitation},
    totp::{STEP_SECONDS, TotpSecret},
    window::{Limits, Operation, Window, WindowRequest},
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::fakes::{FakeDesktops, FakeFactors, FakeHealth, NoRecordings, NoTerminals, OneSecret, TestSigner};
pub(crate) use self::{
    browser::{Answer, Browser},
    fakes::{FakeLive, SECRET, SHARE},
    soft_key::SoftKey,
};
use crate::{Services, Settings, headers, routes, services::App, token::Token};

/// The moment at which every test begins: 2026-11-25 09:46:40 UTC, a Wednesday.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_795_600_000);
/// Where the interface is reached.
pub(crate) const HOST: &str = "localhost:8443";
/// The demo's people, one for each duty.
pub(crate) const PEOPLE: [&str; 6] = ["vera", "emil", "olga", "sam", "ivan", "ada"];

const SITE: &str = r#"
settings = { time_zone = "Europe/Berlin" }
organisations = [
    { name = "plant", title = "The plant", kind = "plant" },
    { name = "acme-pumps", title = "Acme Pumps", kind = "vendor" },
]
users = [
    { name = "vera", full_name = "Vera Vendor", organisation = "acme-pumps", duties = ["vendor"] },
    { name = "emil", full_name = "Emil Engineer", organisation = "plant", duties = ["engineer"] },
    { name = "olga", full_name = "Olga Operations", organisation = "plant", duties = ["operations"] },
    { name = "sam", full_name = "Sam Security", organisation = "plant", duties = ["security"] },
    { name = "ivan", full_name = "Ivan Investigator", organisation = "plant", duties = ["investigator"] },
    { name = "ada", full_name = "Ada Administrator", organisation = "plant", duties = ["administrator"] },
]
zones = [
    { name = "remote", title = "People on this machine", networks = ["127.0.0.0/8", "::1/128"] },
    { name = "cell-1", title = "Pumping cell 1", critical = true },
]
conduits = [{ name = "remote-to-cell-1", from = "remote", to = "cell-1", protocols = ["ssh", "modbus", "tcp"] }]
assets = [
    { name = "pump-hmi", title = "Operator panel of pump P-101", zone = "cell-1", address = "127.0.0.1", criticality = "high", endpoints = [{ protocol = "ssh", port = 22, dial_port = 2022 }], host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"] },
    { name = "plc-7", title = "Controller of pump P-101", zone = "cell-1", address = "127.0.0.7", crown_jewel = true, endpoints = [{ protocol = "modbus", port = 502 }] },
]
accounts = [
    { asset = "pump-hmi", login = "operator", credential = "password", default = true },
    { asset = "pump-hmi", login = "root", credential = "certificate" },
    { asset = "plc-7", login = "none", credential = "none" },
]
"#;

/// See the module. Clones are the same site.
#[derive(Clone)]
pub(crate) struct Site(Arc<Inner>);

struct Inner {
    clock: Arc<ManualClock>,
    live: Arc<FakeLive>,
    services: Arc<Services>,
    pictures: watch::Sender<Arc<Snapshot>>,
    router: Router,
    used: Mutex<HashMap<String, u64>>,
    ports: AtomicU16,
    _folder: tempfile::TempDir,
}

/// A name that has the form of one.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// `login@asset`.
pub(crate) fn account(text: &str) -> AccountRef {
    AccountRef::try_from(text.to_owned()).unwrap()
}

/// The password of one of the demo's people.
pub(crate) fn password(person: &str) -> String {
    format!("correct horse {person}")
}

fn secret(person: &str) -> TotpSecret {
    let bytes = person.bytes().cycle().take(20).collect();
    TotpSecret::from_bytes(Zeroizing::new(bytes)).unwrap()
}

impl Site {
    /// A site as the demo's, everybody enrolled, nobody logged in.
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// The same, described a little differently.
    pub(crate) async fn with(change: impl FnOnce(&mut Described)) -> Self {
        let mut described: Described = toml::from_str(SITE).unwrap();
        change(&mut described);
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("store.db"));
        Store::migrate(&database, NOW).await.unwrap();
        let store = Store::open(&database, Arc::new(TestSigner::new()), None).await.unwrap();
        apply(&store, NOW, described).await;
        let prover = Arc::new(Prover::new(store.clone(), Arc::new(FakeFactors)));
        for person in PEOPLE {
            enrol(&store, &prover, person).await;
        }
        let clock = Arc::new(ManualClock::new(NOW));
        let live = Arc::new(FakeLive::default());
        let (pictures, snapshots) = watch::channel(Arc::new(picture(&store, NOW).await));
        let services = Arc::new(Services {
            site: "Waterworks North".into(),
            node: "gw-1".into(),
            version: "0.0.0",
            public_url: format!("https://{HOST}").parse().unwrap(),
            ssh_address: "gw.example:2222".into(),
            clock: clock.clone(),
            store: store.clone(),
            snapshots,
            prover,
            live: live.clone(),
            terminals: Arc::new(NoTerminals),
            desktops: Some(Arc::new(FakeDesktops(store.clone()))),
            recordings: Arc::new(NoRecordings),
            secrets: Arc::new(OneSecret),
            health: Arc::new(FakeHealth),
            settings: Settings::default(),
        });
        let app = crate::serve::app(services.clone()).unwrap();
        let router = routes::router(app).layer(middleware::from_fn(headers::secure));
        let (used, ports) = (Mutex::default(), AtomicU16::new(20_000));
        Self(Arc::new(Inner { clock, live, services, pictures, router, used, ports, _folder: folder }))
    }

    /// What handlers are given.
    pub(crate) fn app(&self) -> App {
        crate::serve::app(self.0.services.clone()).unwrap()
    }

    /// The services behind the pages.
    pub(crate) fn services(&self) -> Arc<Services> {
        self.0.services.clone()
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.0.services.store
    }

    /// The clock, to be moved.
    pub(crate) fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.services.clock.now()
    }

    /// The sessions that pretend to live on this node.
    pub(crate) fn live(&self) -> &FakeLive {
        &self.0.live
    }

    /// Takes a new picture of the store. Every request does so before it is asked, as the program does on its own.
    pub(crate) async fn refresh(&self) {
        let picture = picture(self.store(), self.now()).await;
        self.0.pictures.send_replace(Arc::new(picture));
    }

    /// Describes the site anew, as an administrator does from a file.
    pub(crate) async fn describe(&self, change: impl FnOnce(&mut Described)) {
        let mut described = self.store().site().await.unwrap();
        change(&mut described);
        apply(self.store(), self.now(), described).await;
        self.refresh().await;
    }

    /// Disables a person.
    pub(crate) async fn disable(&self, person: &str) {
        let person = name(person);
        self.describe(|site| {
            site.users.iter_mut().filter(|u| u.name == person).for_each(|u| u.disabled = true)
        })
        .await;
    }

    /// The person's next code: one that was not used before. Moves the clock on where that is needed.
    pub(crate) fn code(&self, person: &str) -> String {
        let mut used = self.0.used.lock().unwrap();
        let present = || u64::try_from(self.now().seconds()).unwrap() / STEP_SECONDS;
        if used.get(person).is_some_and(|last| *last >= present()) {
            self.0.clock.advance(i64::try_from(STEP_SECONDS).unwrap());
        }
        used.insert(person.to_owned(), present());
        secret(person).code_at(self.now())
    }

    /// An act of the person, now.
    pub(crate) fn act(&self, person: &str) -> Act {
        Act::person(&name(person), self.now())
    }

    /// What the audit log holds of that kind, the newest first: subject and details.
    pub(crate) async fn audited(&self, kind: &str) -> Vec<String> {
        let entries = self.store().audit(&AuditFilter::default()).await.unwrap();
        entries.into_iter().filter(|e| e.kind == kind).map(|e| format!("{} {}", e.subject, e.body)).collect()
    }

    /// A browser that has not been here, at an address of its own.
    pub(crate) fn browser(&self) -> Browser {
        let number = self.0.ports.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        self.browser_at(SocketAddr::from(([127, 1, high, low], 40_000)))
    }

    /// A browser that has not been here, at that address.
    pub(crate) fn browser_at(&self, source: SocketAddr) -> Browser {
        Browser::new(self.clone(), source)
    }

    /// A browser in which the person has logged in with password and code.
    pub(crate) async fn log_in(&self, person: &str) -> Browser {
        let browser = self.browser();
        let done = browser.log_in(person, &password(person), &self.code(person)).await;
        assert_eq!(done.status, 303, "{person} cannot log in: {}", done.text);
        let shown = browser.get("/account").await;
        assert_eq!(shown.status, 200, "{person} has no account page: {}", shown.text);
        browser
    }

    /// A token of the person with these scopes, good for a day.
    pub(crate) async fn token(&self, person: &str, scopes: &[&str]) -> String {
        let secret = Token::new(&mut rand::rng());
        let token = ApiToken {
            id: ApiTokenId::new(self.now(), &mut rand::rng()),
            person: name(person),
            name: "test".into(),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            created_at: self.now(),
            expires_at: self.now().plus_seconds(86_400),
            used_at: None,
        };
        self.store().add_token(&self.act(person), &secret.digest(), &token).await.unwrap();
        secret.expose().to_owned()
    }

    /// What a program gets from `path` with `token`.
    pub(crate) async fn api_get(&self, token: &str, path: &str) -> Answer {
        self.browser().api("GET", token, path, None).await
    }

    /// What a program gets when it sends `body`.
    pub(crate) async fn api_post(&self, token: &str, path: &str, body: &serde_json::Value) -> Answer {
        self.browser().api("POST", token, path, Some(body)).await
    }

    /// An invitation for the person, good for an hour: its code.
    pub(crate) async fn invite(&self, person: &str) -> String {
        let code = new_invitation(&mut rand::rng());
        let until = self.now().plus_seconds(3600);
        self.store().invite(&self.act("ada"), &name(person), &invitation_digest(&code), until).await.unwrap();
        code.to_string()
    }

    /// A window that vera asked for: operator@pump-hmi for the next two hours, if `change` does not say otherwise.
    pub(crate) async fn ask(&self, change: impl FnOnce(&mut WindowRequest)) -> WindowId {
        let now = self.now();
        let mut request = WindowRequest {
            id: WindowId::new(now, &mut rand::rng()),
            requested_by: name("vera"),
            requested_at: now,
            users: BTreeSet::from([name("vera")]),
            accounts: BTreeSet::from([account("operator@pump-hmi")]),
            forwards: BTreeSet::new(),
            operations: BTreeSet::from([Operation::View, Operation::Operate]),
            purpose: "Yearly service of pump P-101".into(),
            work_order: "WO-4711".into(),
            start: now,
            end: now.plus_seconds(2 * 3600),
            plant_states: BTreeSet::new(),
            limits: Limits::default(),
            extends: None,
        };
        change(&mut request);
        let (id, act) = (request.id, Act::person(&request.requested_by, now));
        self.store().insert_window(&act, &Window::requested(request)).await.unwrap();
        self.refresh().await;
        id
    }

    /// The same, approved by olga and sam.
    pub(crate) async fn approved(&self, change: impl FnOnce(&mut WindowRequest)) -> WindowId {
        let id = self.ask(change).await;
        let site = self.store().site().await.unwrap();
        for person in ["olga", "sam"] {
            let stored = self.store().window(id).await.unwrap();
            let mut window = stored.window.clone();
            let user = site.user(&name(person)).unwrap();
            let duty = *user.duties.first().unwrap();
            let digest = window.request.digest();
            let _step = window.approve(user, duty, digest, self.now()).unwrap();
            let event = AuditEvent::new(AuditKind::WindowApproved, id).with("duty", duty.as_str());
            self.store().update_window(&self.act(person), stored.version, &window, event).await.unwrap();
        }
        self.refresh().await;
        id
    }
}

async fn apply(store: &Store, now: Timestamp, described: Described) {
    let wanted = CheckedSite::new(described, &|_| Ok(())).unwrap();
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&Act::system("test", now), &wanted, &plan).await.unwrap();
}

/// With a password hash that is cheap to check.
async fn enrol(store: &Store, prover: &Prover, person: &str) {
    let act = Act::system("test", NOW);
    let cheap = Costs { memory_kib: 8, passes: 1, lanes: 1 };
    let hash = StoredPassword::new(&password(person), cheap, &mut rand::rng()).unwrap();
    let person_name = name(person);
    store.set_password(&act, &person_name, hash.as_phc()).await.unwrap();
    let sealed = prover.seal(&person_name, &secret(person)).unwrap();
    store.set_totp(&act, &person_name, &sealed).await.unwrap();
}

async fn picture(store: &Store, now: Timestamp) -> Snapshot {
    let view = store.policy_view(now).await.unwrap();
    let policies = CompiledPolicies::compile(&view.site);
    assert!(policies.problem().is_none(), "{:?}", policies.problem());
    Snapshot {
        site: Arc::new(view.site),
        plant: view.plant_states,
        windows: Snapshot::relevant(view.windows, now),
        policies: Arc::new(policies),
        revision: view.revision,
        taken_at: now,
    }
}
