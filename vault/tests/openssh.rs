//! The certificates of the built-in authority, judged by OpenSSH itself: `ssh-keygen -L` reads them and a
//! real `sshd` lets a real `ssh` in with them, or does not.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use cofferdam_vault::{
    AuthorityKey, CertificateTerms, HostTerms, Krl, Purpose, RevokedCertificates, SecretBytes, SshCa,
    SystemEntropy, Warrant, keyfile,
};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Certificate, PrivateKey};

const MINUTE: i64 = 60_000_000;

struct Paper {
    login: String,
    not_after: i64,
}

impl Warrant for Paper {
    fn account_id(&self) -> &str {
        "acc-1"
    }
    fn session_id(&self) -> &str {
        "s-17"
    }
    fn user_name(&self) -> &str {
        "vera"
    }
    fn login_name(&self) -> &str {
        &self.login
    }
    fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// An sshd for one connection, started by `ssh` itself as its proxy command: no port, nothing to stop.
struct Sshd {
    dir: tempfile::TempDir,
    authority: SshCa,
    login: String,
}

impl Sshd {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let authority = SshCa::create(&path("user_ca"), &path("host_ca"), Arc::new(SystemEntropy)).unwrap();
        fs::write(path("user_ca.pub"), authority.user_public_key().to_openssh().unwrap()).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path("host")));
        let host: PrivateKey = fs::read_to_string(path("host")).unwrap().parse().unwrap();
        let terms = HostTerms { principals: vec!["pump-hmi".into()], seconds: 600 };
        let certificate = authority.issue_host(host.public_key(), &terms, now()).unwrap();
        fs::write(path("host-cert.pub"), certificate.to_openssh().unwrap()).unwrap();
        let known = format!("@cert-authority * {}\n", authority.host_public_key().to_openssh().unwrap());
        fs::write(path("known_hosts"), known).unwrap();
        let config = format!(
            "HostKey {host}\nHostCertificate {host}-cert.pub\nTrustedUserCAKeys {ca}\n\
             AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nPidFile none\nLogLevel VERBOSE\nRevokedKeys {krl}\n",
            krl = path("krl").display(),
            host = path("host").display(),
            ca = path("user_ca.pub").display(),
        );
        fs::write(path("sshd_config"), config).unwrap();
        fs::write(path("krl"), Krl::default().to_bytes().unwrap()).unwrap();
        let login = String::from_utf8(run(Command::new("id").arg("-un")).stdout).unwrap().trim().to_owned();
        if login == "root" {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        Self { dir, authority, login }
    }

    /// Runs `id -un` through `ssh` with a certificate made for these arguments.
    fn log_in(&self, principal: &str, issued: i64, lasts: i64, terms: &CertificateTerms) -> Output {
        let paper = Paper { login: principal.to_owned(), not_after: issued + lasts };
        let (key, certificate) = self.authority.issue_user(&paper, terms, issued).unwrap();
        self.log_in_with(&key, &certificate)
    }

    /// The same with a certificate that is there.
    fn log_in_with(&self, key: &PrivateKey, certificate: &Certificate) -> Output {
        let identity = store(self.dir.path(), key, certificate);
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let out = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "IdentityAgent=none",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                &format!("UserKnownHostsFile={}", path("known_hosts")),
            ])
            .args(["-o", "GlobalKnownHostsFile=none"])
            .args(["-o", &format!("ProxyCommand=/usr/sbin/sshd -i -e -f {}", path("sshd_config"))])
            .arg("-i")
            .arg(&identity)
            .args(["-l", &self.login, "pump-hmi", "id -un"])
            .output()
            .unwrap();
        fs::remove_file(&identity).unwrap();
        out
    }
}

fn store(dir: &Path, key: &PrivateKey, certificate: &Certificate) -> PathBuf {
    let identity = dir.join("identity");
    let text = key.to_openssh(LineEnding::LF).unwrap();
    keyfile::create(&identity, &SecretBytes::new(text.as_bytes().to_vec())).unwrap();
    fs::write(dir.join("identity-cert.pub"), certificate.to_openssh().unwrap()).unwrap();
    identity
}

fn run(command: &mut Command) -> Output {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

#[expect(clippy::disallowed_methods, reason = "the sshd of this test reads the machine's clock")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

#[test]
fn ssh_keygen_reads_the_certificate_as_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = SshCa::generate(Arc::new(SystemEntropy)).unwrap();
    let terms =
        CertificateTerms { port_forwarding: true, source_addresses: vec!["192.0.2.7".parse().unwrap()] };
    let issued = 1_795_413_600_000_000; // 2026-11-23 06:00:00 UTC
    let paper = Paper { login: "operator".into(), not_after: issued + 30 * MINUTE };
    let (key, certificate) = authority.issue_user(&paper, &terms, issued).unwrap();
    store(dir.path(), &key, &certificate);
    let file = dir.path().join("identity-cert.pub");
    let out = run(Command::new("ssh-keygen").env("TZ", "UTC").arg("-L").arg("-f").arg(file));
    let text = String::from_utf8(out.stdout).unwrap();
    for line in [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        "Key ID: \"cofferdam:s-17:vera\"",
        "Valid: from 2026-11-23T05:59:00 to 2026-11-23T06:30:00",
        "operator",
        "source-address 192.0.2.7/32",
        "permit-port-forwarding",
        "permit-pty",
    ] {
        assert!(text.contains(line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("permit-agent") && !text.contains("permit-X11"), "{text}");
}

#[test]
fn a_real_sshd_admits_the_session_certificate_and_no_other_one() {
    let sshd = Sshd::new();
    let plain = CertificateTerms::default();

    let out = sshd.log_in(&sshd.login, now(), 5 * MINUTE, &plain);
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{log}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), sshd.login);
    assert!(log.contains("cofferdam:s-17:vera"), "sshd's log should name session and person:\n{log}");

    let another = sshd.log_in("somebody-else", now(), 5 * MINUTE, &plain);
    assert!(!another.status.success(), "a certificate for another login was accepted");

    let over = sshd.log_in(&sshd.login, now() - 10 * MINUTE, 5 * MINUTE, &plain);
    assert!(!over.status.success(), "a certificate whose end has passed was accepted");
}

/// What `ssh-keygen -Q` says of a key or certificate: whether the list revokes it.
fn is_revoked(dir: &Path, what: &str) -> bool {
    let (krl, file) = (dir.join("krl"), dir.join("asked.pub"));
    fs::write(&file, what).unwrap();
    let out = Command::new("ssh-keygen").arg("-Q").arg("-f").arg(krl).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_ne!(
        said.contains(": ok"),
        said.contains("REVOKED"),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(out.status.success(), said.contains(": ok"), "{said}");
    said.contains("REVOKED")
}

#[test]
fn what_the_revocation_list_names_is_refused_by_ssh_keygen_and_by_sshd_and_nothing_else() {
    let sshd = Sshd::new();
    let dir = sshd.dir.path();
    let plain = CertificateTerms::default();
    let made = |session: i64| {
        let paper = Paper { login: sshd.login.clone(), not_after: now() + session * MINUTE };
        sshd.authority.issue_user(&paper, &plain, now()).unwrap()
    };
    let ((first_key, first), (second_key, second)) = (made(5), made(6));
    let ca = sshd.authority.user_public_key().to_openssh().unwrap();
    let other = AuthorityKey::generate(&SystemEntropy, Purpose::User).unwrap();
    let of = |serials: Vec<u64>, key_ids: Vec<String>| Krl {
        generated_at: now(),
        comment: "cofferdam".into(),
        authorities: vec![other.public_key().to_openssh().unwrap()],
        certificates: vec![RevokedCertificates { authority: ca.clone(), serials, key_ids }],
    };
    let publish = |krl: &Krl| fs::write(dir.join("krl"), krl.to_bytes().unwrap()).unwrap();
    let enters = |key, certificate| sshd.log_in_with(key, certificate).status.success();
    let text = |certificate: &Certificate| certificate.to_openssh().unwrap();

    publish(&of(vec![], vec![]));
    assert!(!is_revoked(dir, &text(&first)) && enters(&first_key, &first));
    assert!(is_revoked(dir, &other.public_key().to_openssh().unwrap()));

    publish(&of(vec![first.serial(), 7], vec![]));
    assert!(is_revoked(dir, &text(&first)) && !enters(&first_key, &first), "by serial");
    assert!(!is_revoked(dir, &text(&second)) && enters(&second_key, &second));

    publish(&of(vec![7], vec![first.key_id().to_owned(), "cofferdam:another:vera".into()]));
    assert!(is_revoked(dir, &text(&first)) && !enters(&first_key, &first), "by key id");

    // An authority that is finished ends with all that it signed.
    let gone = Krl { authorities: vec![ca], ..Krl::default() };
    publish(&gone);
    assert!(is_revoked(dir, &text(&second)) && !enters(&second_key, &second), "by authority");
    sshd.authority.adopt(Purpose::User, other);
    let both =
        format!("{}\n{}\n", gone.authorities[0], sshd.authority.user_public_key().to_openssh().unwrap());
    fs::write(dir.join("user_ca.pub"), both).unwrap();
    let (key, certificate) = made(5);
    assert!(!is_revoked(dir, &text(&certificate)) && enters(&key, &certificate), "the new one goes on");
}
