//! Roles of a real PostgreSQL, over TLS with a pinned authority.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/rotating.rs"]
mod rotating;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use cofferdam_vault::rotation::password::PasswordPolicy;
use cofferdam_vault::rotation::postgres::{PostgresRole, RoleHelper};
use cofferdam_vault::rotation::{Fault, FindingKind, OnDrift, Reason, Rotator as _, State, Verdict};
use cofferdam_vault::{SecretBytes, SystemEntropy};
use rotating::{Fixed, Rotating};
use server::{Certificate, address, as_user, done, end, free_port, give, wait_for};
use tempfile::TempDir;

const FIRST: &str = "Known-to-the-server-1";
const ADMIN: &str = "The-admins-own-1";
/// A name that ends its quotes, wherever it stands without care.
const ODD: &str = "app\"; DROP ROLE admin; --'x";

struct Postgres {
    folder: TempDir,
    process: Child,
    address: SocketAddr,
    certificate: Certificate,
    bin: PathBuf,
}

impl Postgres {
    /// Starts one with the role `admin` and this way for others to log in (`pg_hba.conf`).
    fn start(way: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-vault-pg-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let certificate = Certificate::make();
        certificate.write(folder.path());
        fs::write(folder.path().join("admin"), format!("{ADMIN}\n")).unwrap();
        give(folder.path(), "postgres");
        let (bin, data) = (bin(), folder.path().join("data"));
        done(
            as_user("postgres", &bin.join("initdb"))
                .args(["-U", "admin", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "-D"])
                .arg(&data)
                .arg(format!("--pwfile={}/admin", folder.path().display())),
        );
        let hba = format!(
            "local all all trust\nhostssl all admin 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 {way}\n"
        );
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let address = free_port();
        let at = folder.path().display();
        let process = as_user("postgres", &bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-k", &at.to_string()])
            .args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={at}/server.crt")])
            .args(["-c", &format!("ssl_key_file={at}/server.key"), "-c", "fsync=off"])
            .args(["-c", "log_statement=all", "-c", "log_min_messages=debug1"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { folder, process, address, certificate, bin };
        wait_for("PostgreSQL", 30, || server.try_sql("SELECT 1").then_some(()));
        server
    }

    fn try_sql(&self, statement: &str) -> bool {
        let output = as_user("postgres", &self.bin.join("psql"))
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-U", "admin", "-d", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-p", &self.address.port().to_string(), "-c", statement])
            .output()
            .unwrap();
        output.status.success()
    }

    fn sql(&self, statement: &str) {
        assert!(self.try_sql(statement), "{statement}: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn role(&self, role: &str) -> PostgresRole {
        let quoted = role.replace('"', "\"\"");
        self.sql(&format!("CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{FIRST}'"));
        PostgresRole {
            address: address(self.address),
            tls: Some(self.certificate.trust()),
            database: "postgres".into(),
            role: role.into(),
            policy: PasswordPolicy::postgresql(),
            helper: None,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL\n{}", self.log());
        }
        end(&mut self.process, &self.folder.path().join("data/postmaster.pid"));
    }
}

fn bin() -> PathBuf {
    let folders = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL's server is not installed");
    let found = folders.flatten().map(|folder| folder.path().join("bin"));
    found.filter(|bin| bin.join("initdb").exists()).max().expect("PostgreSQL's server is not installed")
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_role_changes_its_own_password_and_the_server_never_sees_it_in_the_clear() {
    let server = Postgres::start("scram-sha-256");
    for name in ["app", ODD] {
        let role = server.role(name);
        let rotating = Rotating::new(role.clone(), FIRST);
        for _ in 0..2 {
            let outcome = rotating.rotate(Reason::AfterUse).await;
            assert_eq!(
                (outcome.state, outcome.rotated),
                (State::Idle, Some(Reason::AfterUse)),
                "{outcome:?}"
            );
        }
        let current = rotating.current();
        assert_eq!(role.verify(&current).await, Ok(Verdict::Opens));
        assert_eq!(role.verify(&secret(FIRST)).await, Ok(Verdict::Refused));
        let log = server.log();
        assert!(log.contains("ALTER ROLE") && log.contains("SCRAM-SHA-256$4096:"), "the log would show it");
        assert!(!log.contains(current.to_text().unwrap().expose()));
    }
    server.sql("ALTER ROLE admin CREATEDB");
}

#[tokio::test]
async fn a_password_changed_behind_the_vaults_back_is_set_anew_by_another_role() {
    let server = Postgres::start("scram-sha-256");
    let helper = RoleHelper { role: "admin".into(), secret: Fixed::new(ADMIN.into()) };
    let role = PostgresRole { helper: Some(helper), ..server.role("app") };
    server.sql("ALTER ROLE app PASSWORD 'somebody-else'");
    let rotating = Rotating::new(role.clone(), FIRST).plan(|plan| {
        plan.on_drift = OnDrift::Mend;
        plan.rotate_every = None;
    });
    let outcome = rotating.verify().await;
    assert_eq!(outcome.rotated, Some(Reason::Drift), "{outcome:?}");
    assert_eq!(outcome.findings[0].kind, FindingKind::Drift);
    assert_eq!(role.verify(&rotating.current()).await, Ok(Verdict::Opens));
}

#[tokio::test]
async fn a_server_that_lets_everybody_in_is_never_called_verified() {
    let server = Postgres::start("trust");
    let role = server.role("app");
    let fault = role.verify(&secret("anything-at-all")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("pg_hba.conf")), "{fault:?}");
}

#[tokio::test]
async fn a_server_with_another_certificate_gets_no_password() {
    let server = Postgres::start("scram-sha-256");
    let role = PostgresRole { tls: Some(Certificate::make().trust()), ..server.role("app") };
    let fault = role.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(fault, Fault::Impostor(_)), "{fault:?}");
    let candidate = role.candidate(&SystemEntropy).unwrap();
    let fault = role.change(&secret(FIRST), &candidate).await.unwrap_err();
    assert!(matches!(fault, Fault::Impostor(_)), "{fault:?}");
    // And one that speaks no TLS gets none either.
    let plain = PostgresRole { tls: None, ..role };
    assert!(plain.verify(&secret(FIRST)).await.is_err(), "the server asks for TLS, too");
}

#[tokio::test]
async fn a_role_that_may_not_log_in_or_a_server_that_is_gone_has_not_refused_a_password() {
    let mut server = Postgres::start("scram-sha-256");
    let role = server.role("app");
    server.sql("ALTER ROLE app NOLOGIN");
    let fault = role.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(fault, Fault::Denied(_)), "{fault:?}");
    end(&mut server.process, &server.folder.path().join("data/postmaster.pid"));
    wait_for("its end", 10, || std::net::TcpStream::connect(server.address).err());
    let fault = role.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreachable(_)), "{fault:?}");
}
