//! Debian's own sshd on a loopback port, with local users that live as long as a test.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use cofferdam_vault::rotation::ssh::SshTarget;
use russh::keys::{PrivateKey, PublicKey};
use tempfile::TempDir;

use crate::server::{address, done, free_port, wait_for};

const PREFIX: &str = "cdtest";

/// A running sshd.
pub(crate) struct Host {
    folder: TempDir,
    process: Child,
    pub(crate) address: SocketAddr,
}

/// A local user of this machine.
pub(crate) struct LocalUser {
    pub(crate) login: String,
    pub(crate) home: PathBuf,
}

impl Host {
    /// Starts one, with these lines in front of its configuration.
    pub(crate) fn start(more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-vault-sshd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // sshd walks this path to the homes; others may pass, not look.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        for key in ["host_key", "root_key"] {
            let file = at(key).display().to_string();
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file]));
        }
        done(as_root("mkdir").args(["-p", "/run/sshd"]));
        fs::copy(at("root_key.pub"), at("root_keys")).unwrap();
        fs::set_permissions(at("root_keys"), fs::Permissions::from_mode(0o644)).unwrap();
        let listens = free_port();
        let path = folder.path().display();
        let text = format!(
            "{more}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {path}/host_key\nPidFile {path}/pid\n\
             UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PrintMotd no\nStrictModes no\nUseDNS no\nMaxStartups 100\nLogLevel DEBUG1\n\
             Match User root\n  AuthorizedKeysFile {path}/root_keys\n",
            port = listens.port()
        );
        fs::write(at("sshd_config"), text).unwrap();
        let process = as_root("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let mut host = Self { folder, process, address: listens };
        wait_for("sshd to listen", 20, || {
            assert!(host.process.try_wait().unwrap().is_none(), "sshd ended: {}", host.log());
            TcpStream::connect(listens).ok()
        });
        host
    }

    /// As a rotator knows it.
    pub(crate) fn target(&self) -> SshTarget {
        let line = fs::read_to_string(self.folder.path().join("host_key.pub")).unwrap();
        SshTarget {
            address: address(self.address),
            host_keys: vec![PublicKey::from_openssh(line.trim()).unwrap()],
        }
    }

    /// The private key that root is let in with.
    pub(crate) fn root_key(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("root_key")).unwrap()
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends the daemon; connections that stand go on.
    pub(crate) fn stop(&self) {
        if self.signal("-KILL") {
            wait_for("sshd to be gone", 20, || TcpStream::connect(self.address).err());
        }
    }

    /// Stops it answering without closing anything: a target that hangs.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) -> bool {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        !pid.trim().is_empty() && run(as_root("kill").args([signal, pid.trim()])).status.success()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- sshd\n{}", self.log());
        }
        self.signal("-KILL");
        drop(self.process.wait());
    }
}

impl LocalUser {
    /// Makes one with that password. Users that a killed test left behind are removed first.
    pub(crate) fn make(password: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_strays();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let login = format!("{PREFIX}{}-{number}", std::process::id());
        let home = PathBuf::from(format!("/tmp/{login}"));
        done(
            as_root("useradd")
                .args(["--create-home", "--shell", "/bin/sh", "--home-dir"])
                .arg(&home)
                .arg(&login),
        );
        let user = Self { login, home };
        user.set_password(password);
        user
    }

    /// Sets the password behind the vault's back.
    pub(crate) fn set_password(&self, password: &str) {
        let mut child = as_root("chpasswd").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{}:{password}\n", self.login).as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Where its keys are.
    pub(crate) fn keys_file(&self) -> PathBuf {
        self.home.join(".ssh/authorized_keys")
    }

    /// Writes its keys as the user would have.
    pub(crate) fn set_keys(&self, text: &str, mode: u32) {
        let folder = self.home.join(".ssh");
        fs::create_dir_all(&folder).unwrap();
        fs::write(self.keys_file(), text).unwrap();
        fs::set_permissions(self.keys_file(), fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        done(as_root("chown").arg("-R").arg(format!("{0}:{0}", self.login)).arg(&folder));
    }

    /// Lets it run one program as root without a password, until the answer is dropped.
    pub(crate) fn may_sudo(&self, program: &str) -> Sudoers {
        let file = PathBuf::from(format!("/etc/sudoers.d/{}", self.login));
        fs::write(&file, format!("{} ALL=(root) NOPASSWD: {program}\n", self.login)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        Sudoers(file)
    }
}

impl Drop for LocalUser {
    fn drop(&mut self) {
        remove_user(&self.login, &self.home);
    }
}

/// A permission that ends with it.
pub(crate) struct Sudoers(PathBuf);

impl Drop for Sudoers {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn remove_user(login: &str, home: &Path) {
    run(as_root("userdel").args(["--force", login]));
    run(as_root("rm").arg("-rf").arg(home));
}

/// Users of test processes that are gone.
fn remove_strays() {
    let Ok(users) = fs::read_to_string("/etc/passwd") else { return };
    for login in users.lines().filter_map(|line| line.split(':').next()) {
        let Some(pid) = login.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            drop(fs::remove_file(format!("/etc/sudoers.d/{login}")));
            remove_user(login, Path::new(&format!("/tmp/{login}")));
        }
    }
}

/// Makes a user a member of a group of this machine.
pub(crate) fn join_group(user: &LocalUser, group: &str) {
    done(as_root("usermod").args(["-aG", group, &user.login]));
}

/// A fresh key in the OpenSSH form, and its public line.
pub(crate) fn fresh_key(comment: &str) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key").display().to_string();
    done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &file]));
    let private = fs::read(&file).unwrap();
    let public = PrivateKey::from_openssh(&private).unwrap().public_key().to_openssh().unwrap();
    (private, public)
}

/// Runs `program` as root, through sudo if need be; these tests make users.
fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
