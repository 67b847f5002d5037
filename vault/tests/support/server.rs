//! What tests with private servers share: certificates, ports, waiting, ending processes that they started.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cofferdam_vault::rotation::{Address, Direct, TlsTrust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

/// A certificate for 127.0.0.1 by an authority made for this test.
pub(crate) struct Certificate {
    pub(crate) authority: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Certificate {
    pub(crate) fn make() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        leaf.subject_alt_names.push(SanType::DnsName("dc1.plant.example".try_into().unwrap()));
        let chain = leaf.signed_by(&key, &issuer).unwrap().pem();
        Self { authority, chain, key: key.serialize_pem() }
    }

    pub(crate) fn trust(&self) -> TlsTrust {
        TlsTrust { authorities: self.authority.clone(), name: None }
    }

    /// Writes `server.crt`, `server.key` and `ca.crt`, the key for its owner alone.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, text) in
            [("server.crt", &self.chain), ("server.key", &self.key), ("ca.crt", &self.authority)]
        {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

pub(crate) fn address(at: SocketAddr) -> Address {
    Address { host: at.ip().to_string(), port: at.port(), dial: Arc::new(Direct) }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// `program`, as the user `user` where the tests run as root: databases refuse to run as root.
pub(crate) fn as_user(user: &str, program: &Path) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", user, "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

pub(crate) fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    output
}

/// Hands a folder to the user that a server runs as.
pub(crate) fn give(folder: &Path, user: &str) {
    if nix::unistd::geteuid().is_root() {
        done(Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(folder));
    }
}

pub(crate) fn wait_for<T>(what: &str, seconds: u64, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a server by the process that its pid file names, and waits for the one that was started.
pub(crate) fn end(process: &mut Child, pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap_or_default();
    let pid = pid.lines().next().unwrap_or_default().trim().to_owned();
    if !pid.is_empty() {
        drop(Command::new("kill").args(["-KILL", &pid]).output());
    }
    drop(process.kill());
    drop(process.wait());
}
