//! Databases, a signer and sample values for the suite.

use std::{
    fs::{self, File, OpenOptions},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use cofferdam_access::{
    apply::CheckedSite,
    audit::{Act, AuditKeys, AuditSigner, CheckpointFile},
    clock::Timestamp,
    ids::{DecisionId, Name, SessionId},
    site::{AccountRef, Protocol, Site},
    store::{Database, NewSession, SessionState, Store},
};
use rand::SeedableRng;
use sqlx::{Connection, PgConnection, SqliteConnection};

/// The moment most tests stand at.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

pub(crate) struct Signer {
    key: Ed25519KeyPair,
    id: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

impl AuditSigner for Signer {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).as_ref().to_vec()
    }
    fn key_id(&self) -> &str {
        &self.id
    }
    fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }
}

pub(crate) fn signer(seed: u8) -> Arc<Signer> {
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    Arc::new(Signer { key, id: format!("test-{seed}") })
}

pub(crate) fn keys() -> AuditKeys {
    AuditKeys::of(&*signer(1))
}

/// A fresh database, and a folder for what lies beside it.
pub(crate) struct TestDb {
    pub(crate) database: Database,
    pub(crate) dir: tempfile::TempDir,
}

impl TestDb {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { database: Database::Sqlite(dir.path().join("store.db")), dir }
    }

    pub(crate) async fn postgres() -> Self {
        let server = server();
        let name = format!("t{}", uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple());
        let mut admin = PgConnection::connect(&server.replace("/DB?", "/postgres?")).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut admin)
            .await
            .unwrap();
        admin.close().await.unwrap();
        Self {
            database: Database::Postgres(server.replace("/DB?", &format!("/{name}?"))),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn checkpoints(&self) -> CheckpointFile {
        CheckpointFile::new(self.dir.path().join("checkpoints.jsonl"))
    }

    /// A store on it, migrated.
    pub(crate) async fn store(&self) -> Store {
        Store::migrate(&self.database, NOW).await.unwrap();
        self.another().await
    }

    /// Another store on the same database, as another process or node has.
    pub(crate) async fn another(&self) -> Store {
        Store::open(&self.database, signer(1), Some(self.checkpoints())).await.unwrap()
    }

    /// Runs SQL behind the store's back; answers the rows touched.
    pub(crate) async fn tamper(&self, sql: &str) -> u64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Sqlite(path) => {
                let mut c = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
                sqlx::query(sql).execute(&mut c).await.unwrap().rows_affected()
            }
            Database::Postgres(url) => {
                let mut c = PgConnection::connect(url).await.unwrap();
                sqlx::query(sql).execute(&mut c).await.unwrap().rows_affected()
            }
        }
    }

    /// The number that a query gives.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Sqlite(path) => {
                let mut c = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut c).await.unwrap()
            }
            Database::Postgres(url) => {
                let mut c = PgConnection::connect(url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut c).await.unwrap()
            }
        }
    }
}

/// The server's address with `DB` for the database: `COFFERDAM_TEST_POSTGRES`, or one shared server that the first test
/// starts and that ends by itself when no test has used it for a while. No server is a failure.
fn server() -> &'static str {
    static SERVER: OnceLock<(String, Option<File>)> = OnceLock::new();
    &SERVER
        .get_or_init(|| match std::env::var("COFFERDAM_TEST_POSTGRES") {
            Ok(url) => {
                assert!(url.contains("/DB?"), "COFFERDAM_TEST_POSTGRES: write the database as DB, then '?'");
                (url, None)
            }
            Err(_) => shared_server(),
        })
        .0
}

fn shared_server() -> (String, Option<File>) {
    let tag = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, tag.as_os_str().as_encoded_bytes());
    let base = PathBuf::from(format!("/tmp/cofferdam-pg-{}", &hex::encode(hash.as_ref())[..12]));
    let open = |suffix: &str| {
        let path = base.with_extension(suffix);
        OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap()
    };
    // Held as long as this process lives: the server stays while anybody holds it.
    let users = open("users");
    users.lock_shared().unwrap();
    let starting = open("starting");
    starting.lock().unwrap();
    if std::os::unix::net::UnixStream::connect(base.join(".s.PGSQL.5432")).is_err() {
        start(&base);
    }
    drop(starting);
    (format!("postgres://postgres@localhost/DB?host={}", base.display()), Some(users))
}

fn start(base: &Path) {
    let bin = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is needed: apt-get install postgresql")
        .filter_map(|e| Some(e.ok()?.path().join("bin")))
        .filter(|p| p.join("initdb").exists())
        .max()
        .expect("PostgreSQL is needed: apt-get install postgresql");
    let script = format!(
        "set -e; umask 077; rm -rf {base}/data; \
         {bin}/initdb -D {base}/data -U postgres -A trust --no-sync >{base}/log 2>&1; \
         {bin}/pg_ctl -D {base}/data -l {base}/log -w -t 60 \
           -o \"-k {base} -h '' -F -c max_connections=300 -c shared_buffers=32MB\" start >>{base}/log 2>&1; \
         (n=0; while :; do sleep 5; \
            if flock -n -x {users} true; then n=$((n+1)); else n=0; fi; \
            if [ $n -ge 6 ] && flock -n -x {users} sh -c \
              '{bin}/pg_ctl -D {base}/data -m immediate stop; rm -rf {base}'; then exit; fi; \
          done) >/dev/null 2>&1 </dev/null &",
        base = base.display(),
        bin = bin.display(),
        users = base.with_extension("users").display(),
    );
    let _existing = fs::create_dir(base);
    let root = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap_or(1) == 0;
    let mut command = if root {
        // PostgreSQL refuses to run as root.
        let done = Command::new("chown").arg("postgres").arg(base).status().unwrap();
        assert!(done.success(), "chown {}", base.display());
        let done = Command::new("chmod").arg("666").arg(base.with_extension("users")).status().unwrap();
        assert!(done.success());
        let mut c = Command::new("setpriv");
        c.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
        c
    } else {
        Command::new("sh")
    };
    let status = command
        .args(["-c", &script])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let log = fs::read_to_string(base.join("log")).unwrap_or_default();
    assert!(status.success(), "PostgreSQL does not start: {log}");
}

pub(crate) fn rng() -> rand::rngs::StdRng {
    rand::rngs::StdRng::from_os_rng()
}

pub(crate) fn name(s: &str) -> Name {
    Name::new(s).unwrap()
}

pub(crate) fn account(s: &str) -> AccountRef {
    AccountRef::try_from(s.to_owned()).unwrap()
}

pub(crate) fn by(person: &str) -> Act {
    Act::person(&name(person), NOW)
}

pub(crate) fn system() -> Act {
    Act::system("test", NOW)
}

pub(crate) fn at(seconds: i64) -> Act {
    Act::system("test", NOW.plus_seconds(seconds))
}

pub(crate) const SITE: &str = r#"
[[organisations]]
name = "works"
kind = "plant"
[[organisations]]
name = "pumpco"
kind = "vendor"
[[users]]
name = "vera"
organisation = "pumpco"
duties = ["vendor"]
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g vera"]
[[users]]
name = "olga"
organisation = "works"
duties = ["operations"]
[[zones]]
name = "office"
networks = ["127.0.0.0/8", "::1"]
[[zones]]
name = "pumps"
critical = true
[[conduits]]
name = "service"
from = "office"
to = "pumps"
protocols = ["ssh", "modbus"]
[[assets]]
name = "pump-hmi"
zone = "pumps"
address = "127.0.0.1"
endpoints = [{ protocol = "ssh", port = 22 }]
[[accounts]]
asset = "pump-hmi"
login = "root"
credential = "password"
default = true
[[accounts]]
asset = "pump-hmi"
login = "operator"
credential = "password"
[[policies]]
name = "extra"
text = "permit(principal, action, resource);"
"#;

pub(crate) fn site() -> Site {
    toml::from_str(SITE).unwrap()
}

pub(crate) fn checked(site: Site) -> CheckedSite {
    CheckedSite::new(site, &|_| Ok(())).unwrap()
}

/// A store with the sample site applied.
pub(crate) async fn with_site(db: &TestDb) -> Store {
    let store = db.store().await;
    let wanted = checked(site());
    let plan = store.plan_site(&wanted).await.unwrap();
    store.apply_site(&by("ada"), &wanted, &plan).await.unwrap();
    store
}

pub(crate) fn session(node: &str) -> NewSession {
    NewSession {
        id: SessionId::new(NOW, &mut rng()),
        person: name("vera"),
        asset: name("pump-hmi"),
        login: account("root@pump-hmi").login,
        protocol: Protocol::Ssh,
        source: IpAddr::from([192, 0, 2, 7]),
        device_key: Some("SHA256:abc".into()),
        window: None,
        decision: DecisionId::new(NOW, &mut rng()),
        node: node.to_owned(),
        state: SessionState::Active,
        recording: Some("2027/01/x.cfd".into()),
    }
}
