//! Debian's own `sshd` as a target: what the built-in one cannot show (rsync, scp's old protocol, Ansible's modules).

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{Gateway, run, run_with_input, wait_for};

/// A running `sshd` on a loopback port, with an account that lives as long as it does.
pub(crate) struct RealSshd {
    folder: TempDir,
    process: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The account's name on this machine.
    pub(crate) login: String,
    /// Its password; none when the tests have no way to root and so use the present user.
    pub(crate) password: Option<String>,
    /// A folder that the account may write.
    pub(crate) home: PathBuf,
    made_account: bool,
}

impl RealSshd {
    /// Starts one. With root, or sudo without a password, it makes an account and removes it again; else the account is
    /// the present user's.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-sshd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // sshd walks this path to authorized_keys and to the home; others may pass, not look.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        for key in ["host_key", "account_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(at(key));
            run(keygen).ok();
        }
        let home = at("home");
        fs::create_dir(&home).unwrap();
        let root = has_root();
        let (login, password) = if root { make_account(&home) } else { (present_user(), None) };
        fs::copy(at("account_key.pub"), at("authorized_keys")).unwrap();
        fs::set_permissions(at("authorized_keys"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(at("user_ca.pub"), "").unwrap();
        fs::write(at("krl"), "").unwrap();

        let address = free_port();
        fs::write(at("sshd_config"), configuration(folder.path(), address)).unwrap();
        if root {
            let mut mkdir = as_root("mkdir");
            mkdir.args(["-p", "/run/sshd"]);
            run(mkdir).ok();
        }
        let mut sshd = if root { as_root("/usr/sbin/sshd") } else { Command::new("/usr/sbin/sshd") };
        let process = sshd
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let mut sshd = Self { folder, process, address, login, password, home, made_account: root };
        wait_for("sshd to listen", Duration::from_secs(20), || {
            assert!(sshd.process.try_wait().unwrap().is_none(), "sshd ended: {}", sshd.log());
            TcpStream::connect(address).ok()
        });
        sshd
    }

    /// Its public host key, one line.
    pub(crate) fn host_key(&self) -> String {
        fs::read_to_string(self.folder.path().join("host_key.pub")).unwrap().trim().to_owned()
    }

    /// The private key that the account takes.
    pub(crate) fn account_key(&self) -> PathBuf {
        self.folder.path().join("account_key")
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// From now on it takes user certificates of `ca` (a public key, one line); sshd reads the file at each log-in.
    pub(crate) fn trust_user_ca(&self, ca: &str) {
        fs::write(self.folder.path().join("user_ca.pub"), format!("{ca}\n")).unwrap();
    }

    /// Where its revocation list is; sshd reads the file at each log-in.
    pub(crate) fn revocations(&self) -> PathBuf {
        self.folder.path().join("krl")
    }

    /// Sets the account's password at the target itself, as somebody with root there would.
    pub(crate) fn set_password(&self, password: &str) {
        run_with_input(as_root("chpasswd"), format!("{}:{password}\n", self.login).as_bytes()).ok();
    }

    /// Stops it answering without closing anything: a target that hangs.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Signals the daemon itself, which may run as root under sudo.
    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        if pid.trim().is_empty() {
            return;
        }
        let mut kill = if self.made_account { as_root("kill") } else { Command::new("kill") };
        kill.args([signal, pid.trim()]);
        drop(run(kill));
    }

    /// Adds this target to the gateway's site as the asset `workshop`, trusts its host key, gives the vault the
    /// account's private key, and opens a window for vera on it.
    pub(crate) fn join(&self, gateway: &Gateway) {
        self.join_by(gateway, "key");
    }

    /// As [`Self::join`], with the account's credential of that kind: `key`, `password` or `certificate`.
    pub(crate) fn join_by(&self, gateway: &Gateway, credential: &str) {
        let mut site: toml::Table = gateway.cofferdam(["export"]).ok().out().parse().unwrap();
        let list =
            |site: &mut toml::Table, name: &str| site[name].as_array_mut().map(std::mem::take).unwrap();
        let mut assets = list(&mut site, "assets");
        let pump = assets.iter().find(|a| a["name"].as_str() == Some("pump-hmi")).unwrap();
        let mut asset: toml::Table = toml::toml! {
            name = "workshop"
            address = "127.0.0.1"
        };
        let port = i64::from(self.address.port());
        let endpoint = toml::Table::from_iter([
            ("protocol".to_owned(), "ssh".into()),
            ("port".to_owned(), 22.into()),
            ("dial_port".to_owned(), port.into()),
        ]);
        asset.insert("zone".to_owned(), pump["zone"].clone());
        asset.insert("endpoints".to_owned(), vec![endpoint].into());
        asset.insert("host_keys".to_owned(), vec![self.host_key()].into());
        assets.push(asset.into());
        site.insert("assets".to_owned(), assets.into());

        let mut accounts = list(&mut site, "accounts");
        let mut account: toml::Table = toml::toml! {
            asset = "workshop"
            default = true
        };
        account.insert("login".to_owned(), self.login.clone().into());
        account.insert("credential".to_owned(), credential.into());
        accounts.push(account.into());
        site.insert("accounts".to_owned(), accounts.into());

        // A conduit that names its assets would leave the new one out.
        for conduit in site["conduits"].as_array_mut().unwrap() {
            if let Some(assets) = conduit.get_mut("assets").and_then(toml::Value::as_array_mut) {
                assets.push("workshop".into());
            }
        }
        let file = gateway.scratch("site.toml");
        fs::write(&file, site.to_string()).unwrap();
        gateway.cofferdam(["apply", "--yes", &file.to_string_lossy()]).ok();

        let account = format!("{}@workshop", self.login);
        match credential {
            "key" => {
                let key = self.account_key();
                gateway
                    .cofferdam(["account", "set-secret", &account, "--key-file", &key.to_string_lossy()])
                    .ok();
            }
            "password" => {
                let file = gateway.scratch("target-password");
                fs::write(&file, self.password.as_deref().expect("a password account needs root")).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                gateway
                    .cofferdam([
                        "account",
                        "set-secret",
                        &account,
                        "--password-file",
                        &file.to_string_lossy(),
                    ])
                    .ok();
                fs::remove_file(&file).unwrap();
            }
            _ => self.trust_user_ca(&gateway.ssh_user_ca()),
        }
        gateway.open_window(&[&account], 4);
    }
}

fn configuration(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\nStrictModes no\n\
         AuthorizedKeysFile {folder}/authorized_keys\nTrustedUserCAKeys {folder}/user_ca.pub\nRevokedKeys {folder}/krl\n\
         PasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM no\nPrintMotd no\nUseDNS no\n\
         MaxStartups 200\nMaxSessions 200\nAcceptEnv LANG LC_*\nAllowTcpForwarding yes\n\
         Subsystem sftp /usr/lib/openssh/sftp-server\n",
        port = address.port()
    )
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn make_account(home: &Path) -> (String, Option<String>) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let login = format!("cfd{}-{number}", std::process::id());
    // Only ever on loopback, and gone with the account; distinct, so that it can be looked for in logs and recordings.
    let password = format!("known-to-the-target-only-{}", std::process::id());
    let mut useradd = as_root("useradd");
    useradd.args(["--no-create-home", "--shell", "/bin/bash", "--home-dir"]).arg(home).arg(&login);
    run(useradd).ok();
    run_with_input(as_root("chpasswd"), format!("{login}:{password}\n").as_bytes()).ok();
    let mut chown = as_root("chown");
    chown.arg(format!("{login}:")).arg(home);
    run(chown).ok();
    (login, Some(password))
}

/// Whether the tests may act as root.
fn has_root() -> bool {
    nix::unistd::geteuid().is_root()
        || Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|o| o.status.success())
}

/// `program` as root, through sudo if need be.
pub(crate) fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

fn present_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

impl Drop for RealSshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- sshd\n{}", self.log());
        }
        self.thaw();
        self.signal("-KILL");
        drop(self.process.wait());
        if self.made_account {
            // Sessions of the account end with their connections; `--force` does not wait for the last of them.
            let mut userdel = as_root("userdel");
            userdel.args(["--force", &self.login]);
            drop(run(userdel));
            let mut clear = as_root("rm");
            clear.arg("-rf").arg(&self.home);
            drop(run(clear));
        }
    }
}
