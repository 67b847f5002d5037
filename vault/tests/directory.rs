//! Accounts of a real Active Directory: a Samba domain controller, provisioned for the test in a folder of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/rotating.rs"]
mod rotating;
#[path = "support/server.rs"]
#[allow(dead_code, reason = "shared with servers that do not run as root")]
mod server;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use cofferdam_vault::rotation::directory::{DirectoryAccount, DirectoryHelper};
use cofferdam_vault::rotation::password::PasswordPolicy;
use cofferdam_vault::rotation::{
    Fault, FindingKind, OnDrift, Reason, Rotator as _, State, TlsTrust, Verdict,
};
use cofferdam_vault::{SecretBytes, SystemEntropy};
use rotating::{Fixed, Rotating};
use server::{Certificate, address, done, end, wait_for};
use tempfile::TempDir;

const FIRST: &str = "Known-to-the-directory-1";
const ADMIN: &str = "The-admins-own-1";

/// Ports of a domain controller are fixed, so it gets an address of its own.
struct Directory {
    folder: TempDir,
    process: Child,
    address: SocketAddr,
    certificate: Certificate,
}

impl Directory {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-vault-ad-").tempdir().unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 77, high, low.clamp(1, 254));
        let certificate = Certificate::make();
        certificate.write(folder.path());
        let at = folder.path().display().to_string();
        // `samba-tool` reads it, so that nothing of the machine's own configuration comes in.
        fs::write(folder.path().join("empty.conf"), "").unwrap();
        done(
            root("samba-tool")
                .args(["domain", "provision", "--realm=PLANT.EXAMPLE", "--domain=PLANT", "--server-role=dc"])
                .args(["--dns-backend=NONE", "--host-name=dc1", &format!("--host-ip={ip}")])
                .args([format!("--adminpass={ADMIN}"), format!("--targetdir={at}/dc")])
                .args(["-s", &format!("{at}/empty.conf")]),
        );
        fs::write(folder.path().join("smb.conf"), configuration(&at, ip)).unwrap();
        let process = root("samba")
            .args(["-F", "-M", "single", "--debug-stdout", "-s", &format!("{at}/smb.conf")])
            .stdout(fs::File::create(folder.path().join("out")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let directory = Self { folder, process, address: SocketAddr::new(ip.into(), 636), certificate };
        wait_for("the domain controller", 60, || TcpStream::connect(directory.address).ok());
        directory
    }

    /// Works on the directory's database itself.
    fn tool(&self, arguments: &[&str]) {
        let at = self.folder.path().display();
        done(root("samba-tool").args(arguments).args([
            "-s",
            &format!("{at}/smb.conf"),
            "-H",
            &format!("{at}/dc/private/sam.ldb"),
        ]));
    }

    fn account(&self, login: &str) -> DirectoryAccount {
        self.tool(&["user", "create", login, FIRST]);
        DirectoryAccount {
            address: address(self.address),
            tls: TlsTrust { name: Some("dc1.plant.example".into()), ..self.certificate.trust() },
            dn: format!("CN={login},CN=Users,DC=plant,DC=example"),
            bind_name: format!("{login}@plant.example"),
            policy: PasswordPolicy::windows(),
            helper: None,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- samba\n{}", self.log());
        }
        end(&mut self.process, &self.folder.path().join("samba.pid"));
    }
}

fn configuration(at: &str, ip: Ipv4Addr) -> String {
    format!(
        "[global]\nnetbios name = DC1\nrealm = PLANT.EXAMPLE\nworkgroup = PLANT\n\
         server role = active directory domain controller\nserver services = ldap\ndcerpc endpoint servers =\n\
         interfaces = {ip}/8\nbind interfaces only = yes\nprivate dir = {at}/dc/private\nlock directory = {at}/dc\n\
         state directory = {at}/dc/state\ncache directory = {at}/dc/cache\npid directory = {at}\n\
         ncalrpc dir = {at}/ncalrpc\nbinddns dir = {at}/bind-dns\nntp signd socket directory = {at}/ntp\n\
         winbindd socket directory = {at}/wb\nlog file = {at}/log\nlogging = file\ntls enabled = yes\n\
         tls keyfile = {at}/server.key\ntls certfile = {at}/server.crt\ntls cafile = {at}/ca.crt\n"
    )
}

fn root(program: &str) -> Command {
    let mut command = Command::new("sudo");
    if nix::unistd::geteuid().is_root() {
        command = Command::new(program);
    } else {
        command.args(["-n", program]);
    }
    command.stdin(Stdio::null());
    command
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

/// One test, because provisioning a domain takes longer than all that it does.
#[tokio::test]
async fn an_account_of_a_directory_is_changed_rejected_mended_and_told_apart_when_it_is_locked() {
    let directory = Directory::start();
    let account = directory.account("hmi-operator");

    // Too young to be changed by its user, says the domain's policy: the password is rejected, and nothing is lost.
    let candidate = account.candidate(&SystemEntropy).unwrap();
    let fault = account.change(&secret(FIRST), &candidate).await.unwrap_err();
    assert!(matches!(fault, Fault::Rejected(_)), "{fault:?}");
    assert_eq!(account.verify(&secret(FIRST)).await, Ok(Verdict::Opens));
    directory.tool(&["domain", "passwordsettings", "set", "--min-pwd-age=0"]);

    let rotating = Rotating::new(account.clone(), FIRST);
    for _ in 0..2 {
        let outcome = rotating.rotate(Reason::AfterUse).await;
        assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::AfterUse)), "{outcome:?}");
    }
    assert_eq!(account.verify(&rotating.current()).await, Ok(Verdict::Opens));
    assert_eq!(account.verify(&secret(FIRST)).await, Ok(Verdict::Refused));

    // Behind the vault's back; an administrator mends it.
    directory.tool(&["user", "setpassword", "hmi-operator", "--newpassword=Somebody-Else-99"]);
    let helper =
        DirectoryHelper { bind_name: "Administrator@plant.example".into(), secret: Fixed::new(ADMIN.into()) };
    let mended = DirectoryAccount { helper: Some(helper), ..account.clone() };
    let rotating = Rotating::new(mended, FIRST).plan(|plan| {
        plan.on_drift = OnDrift::Mend;
        plan.rotate_every = None;
    });
    let outcome = rotating.verify().await;
    assert_eq!(outcome.rotated, Some(Reason::Drift), "{outcome:?}");
    assert_eq!(outcome.findings[0].kind, FindingKind::Drift);
    let current = rotating.current();
    assert_eq!(account.verify(&current).await, Ok(Verdict::Opens));

    // Who may not set it says so; a disabled account has not refused its password.
    directory.tool(&["user", "create", "nobody-special", FIRST]);
    let helper = DirectoryHelper {
        bind_name: "nobody-special@plant.example".into(),
        secret: Fixed::new(FIRST.into()),
    };
    let powerless = DirectoryAccount { helper: Some(helper), ..account.clone() };
    let fault = powerless.reconcile(&candidate).await.unwrap_err();
    assert!(matches!(fault, Fault::Denied(_)), "{fault:?}");
    directory.tool(&["user", "disable", "hmi-operator"]);
    let fault = account.verify(&current).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("disabled")), "{fault:?}");

    // Who may do everything in the domain, also as a member of a member; who is disabled counts no more.
    directory.tool(&["group", "add", "plant-admins"]);
    directory.tool(&["group", "addmembers", "Domain Admins", "plant-admins"]);
    directory.tool(&["group", "addmembers", "plant-admins", "nobody-special"]);
    directory.tool(&["user", "create", "was-special", FIRST]);
    directory.tool(&["group", "addmembers", "Domain Admins", "was-special"]);
    directory.tool(&["user", "disable", "was-special"]);
    directory.tool(&["user", "create", "plain-operator", FIRST]);
    let looking = DirectoryAccount { bind_name: "plain-operator@plant.example".into(), ..account.clone() };
    let look = looking.look(&secret(FIRST)).await.unwrap();
    let found: Vec<&str> = look.found.iter().map(|f| f.login.as_str()).collect();
    assert_eq!(found, ["Administrator", "nobody-special"], "{look:?}");
    let because = &look.found[1].because;
    assert!(because.contains(&"Domain Admins".to_owned()), "{look:?}");

    // Another authority's certificate, or one for another name, gets no password.
    let other = TlsTrust { name: account.tls.name.clone(), ..Certificate::make().trust() };
    let fault = DirectoryAccount { tls: other, ..account.clone() }.verify(&current).await.unwrap_err();
    assert!(matches!(fault, Fault::Impostor(_)), "{fault:?}");
    let misnamed = TlsTrust { name: Some("dc2.plant.example".into()), ..account.tls.clone() };
    let fault = DirectoryAccount { tls: misnamed, ..account.clone() }.verify(&current).await.unwrap_err();
    assert!(matches!(fault, Fault::Impostor(_)), "{fault:?}");
    assert!(!directory.log().contains(current.to_text().unwrap().expose()));
}
