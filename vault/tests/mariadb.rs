//! Users of a real MariaDB, over TLS with a pinned authority.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/rotating.rs"]
mod rotating;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use cofferdam_vault::SecretBytes;
use cofferdam_vault::rotation::mariadb::{MariaDbUser, UserHelper};
use cofferdam_vault::rotation::password::PasswordPolicy;
use cofferdam_vault::rotation::{Fault, FindingKind, OnDrift, Reason, Rotator as _, State, Verdict};
use rotating::{Fixed, Rotating};
use server::{Certificate, address, as_user, done, end, free_port, give, wait_for};
use tempfile::TempDir;

const FIRST: &str = "Known-to-the-server-1";
const ADMIN: &str = "The-admins-own-1";

struct MariaDb {
    folder: TempDir,
    process: Child,
    address: SocketAddr,
    certificate: Certificate,
}

impl MariaDb {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-vault-maria-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let certificate = Certificate::make();
        certificate.write(folder.path());
        give(folder.path(), "mysql");
        let at = folder.path().display().to_string();
        done(
            as_user("mysql", Path::new("/usr/bin/mariadb-install-db"))
                .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
                .arg(format!("--datadir={at}/data")),
        );
        let address = free_port();
        let process = as_user("mysql", Path::new("/usr/sbin/mariadbd"))
            .arg("--no-defaults")
            .arg(format!("--datadir={at}/data"))
            .arg(format!("--socket={at}/socket"))
            .arg(format!("--pid-file={at}/pid"))
            .args(["--bind-address=127.0.0.1", &format!("--port={}", address.port())])
            .args(["--general-log=1", &format!("--general-log-file={at}/statements")])
            .args([format!("--ssl-cert={at}/server.crt"), format!("--ssl-key={at}/server.key")])
            .args(["--require-secure-transport=ON", "--innodb-flush-log-at-trx-commit=0"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { folder, process, address, certificate };
        wait_for("MariaDB", 60, || server.try_sql("SELECT 1").then_some(()));
        server.sql(&format!(
            "CREATE USER admin@'%' IDENTIFIED BY '{ADMIN}'; GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION"
        ));
        server
    }

    fn try_sql(&self, statement: &str) -> bool {
        let output = as_user("mysql", Path::new("/usr/bin/mariadb"))
            .args(["--no-defaults", "-u", "root"])
            .arg(format!("--socket={}/socket", self.folder.path().display()))
            .args(["-e", statement])
            .output()
            .unwrap();
        output.status.success()
    }

    fn sql(&self, statement: &str) {
        assert!(self.try_sql(statement), "{statement}: {}", self.read("log"));
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join(name)).unwrap_or_default()).into_owned()
    }

    fn user(&self, user: &str) -> MariaDbUser {
        self.sql(&format!("CREATE USER '{user}'@'127.0.0.%' IDENTIFIED BY '{FIRST}'"));
        MariaDbUser {
            address: address(self.address),
            tls: Some(self.certificate.trust()),
            user: user.into(),
            host: "127.0.0.%".into(),
            policy: PasswordPolicy::mariadb(),
            helper: None,
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- MariaDB\n{}", self.read("log"));
        }
        end(&mut self.process, &self.folder.path().join("pid"));
    }
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_user_changes_its_own_password_and_the_servers_log_never_has_it() {
    let server = MariaDb::start();
    let user = server.user("app user");
    let rotating = Rotating::new(user.clone(), FIRST);
    for _ in 0..2 {
        let outcome = rotating.rotate(Reason::AfterUse).await;
        assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::AfterUse)), "{outcome:?}");
    }
    let current = rotating.current();
    assert_eq!(user.verify(&current).await, Ok(Verdict::Opens));
    assert_eq!(user.verify(&secret(FIRST)).await, Ok(Verdict::Refused));
    let log = server.read("statements");
    assert!(log.contains("SET PASSWORD"), "the log would show it: {log}");
    assert!(!log.contains(current.to_text().unwrap().expose()));
}

#[tokio::test]
async fn a_password_changed_behind_the_vaults_back_is_set_anew_by_another_user() {
    let server = MariaDb::start();
    let helper = UserHelper { user: "admin".into(), secret: Fixed::new(ADMIN.into()) };
    let user = MariaDbUser { helper: Some(helper), ..server.user("app") };
    server.sql("SET PASSWORD FOR 'app'@'127.0.0.%' = PASSWORD('somebody-else')");
    let rotating = Rotating::new(user.clone(), FIRST).plan(|plan| {
        plan.on_drift = OnDrift::Mend;
        plan.rotate_every = None;
    });
    let outcome = rotating.verify().await;
    assert_eq!(outcome.rotated, Some(Reason::Drift), "{outcome:?}");
    assert_eq!(outcome.findings[0].kind, FindingKind::Drift);
    assert_eq!(user.verify(&rotating.current()).await, Ok(Verdict::Opens));
    assert!(!server.read("statements").contains(rotating.current().to_text().unwrap().expose()));
}

#[tokio::test]
async fn a_locked_user_and_another_certificate_are_told_apart_from_a_wrong_password() {
    let server = MariaDb::start();
    let user = server.user("app");
    let other = MariaDbUser { tls: Some(Certificate::make().trust()), ..user.clone() };
    let fault = other.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(fault, Fault::Impostor(_)), "{fault:?}");
    server.sql("ALTER USER 'app'@'127.0.0.%' ACCOUNT LOCK");
    let fault = user.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(fault, Fault::Denied(_)), "{fault:?}");
}
