//! A running `cofferdam demo` in a folder of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Live, Person, disk::Disk, postgres, run, wait_for};

/// A gateway with the demo's targets, people and window; killed when dropped.
pub(crate) struct Gateway {
    process: Live,
    demo: Value,
    /// Where its recordings are, if not in its folder.
    disk: Option<Disk>,
    pub(super) folder: TempDir,
}

impl Gateway {
    /// Starts one and waits until it can be used.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-e2e-").tempdir().unwrap();
        let (process, demo) = launch(folder.path());
        Self { process, demo, disk: None, folder }
    }

    /// The same with a disk for its recordings that can be filled.
    pub(crate) fn start_with_a_disk() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-e2e-").tempdir().unwrap();
        let disk = Some(Disk::mount(&folder.path().join("recordings")));
        let (process, demo) = launch(folder.path());
        Self { process, demo, disk, folder }
    }

    /// The disk that its recordings are on.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was started with a disk")
    }

    /// The same on a PostgreSQL database of its own.
    pub(crate) fn start_on_postgres() -> Self {
        let mut gateway = Self::start();
        gateway.process.kill();
        // A start on SQLite made the keys and the configuration; what belongs to that database goes, the rest stays.
        let config = fs::read_to_string(gateway.config()).unwrap();
        let sqlite = toml::from_str::<toml::Table>(&config).unwrap()["store"]["url"].to_string();
        let url = toml::Value::String(postgres::new_database()).to_string();
        fs::write(gateway.config(), config.replacen(&sqlite, &url, 1)).unwrap();
        for made in ["audit.checkpoints", "cofferdam.sqlite", "demo.json"] {
            fs::remove_file(gateway.folder.path().join(made)).unwrap();
        }
        (gateway.process, gateway.demo) = launch(gateway.folder.path());
        gateway
    }

    /// A second gateway on the same database: its own process, address, folder, recordings and checkpoints; the same
    /// keys and people. The demo's host moves to it, with the key and the password that it has.
    pub(crate) fn another_node(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-e2e-").tempdir().unwrap();
        // Codes that were handed out are remembered for both.
        std::os::unix::fs::symlink(self.scratch("of-both").parent().unwrap(), folder.path().join("scratch"))
            .unwrap();
        fs::create_dir(folder.path().join("pump-hmi")).unwrap();
        for part in [
            "keys",
            "people.json",
            "cofferdam.toml",
            "web_ca.pem",
            "web_chain.pem",
            "pump-hmi/host_key",
            "pump-hmi/password",
        ] {
            let mut copy = Command::new("cp");
            copy.arg("-a").args([self.folder.path().join(part), folder.path().join(part)]);
            run(copy).ok();
        }
        let file = folder.path().join("cofferdam.toml");
        let config = fs::read_to_string(&file).unwrap();
        let named = config.replacen("node = \"gateway\"", "node = \"gateway-2\"", 1);
        assert_ne!(named, config, "the demo's node has another name");
        fs::write(&file, named).unwrap();
        let (process, demo) = launch(folder.path());
        Self { process, demo, disk: None, folder }
    }

    /// A gateway in a folder that `restore` makes, run as a service; its people have what they had.
    pub(crate) fn restored(&self, restore: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-e2e-").tempdir().unwrap();
        // The service's user has to get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink(self.scratch("of-both").parent().unwrap(), folder.path().join("scratch"))
            .unwrap();
        let to = folder.path().join("gateway");
        restore(&to);
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let file = to.join("cofferdam.toml");
        let config = fs::read_to_string(&file).unwrap();
        // The first address in it is that of SSH.
        fs::write(&file, config.replacen("\"127.0.0.1:0\"", &format!("\"{address}\""), 1)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("serve").arg("--config").arg(&file).env("RUST_LOG", "debug");
        let mut process = Live::start(command);
        // Not that its port takes connections: that is bound while it still is root.
        wait_for("the restored gateway to serve", Duration::from_secs(60), || {
            assert!(process.is_running(), "`cofferdam serve` ended:\n{}", process.transcript());
            process.transcript().contains("cofferdam serves SSH on").then_some(())
        });
        let mut demo = self.demo.clone();
        demo["ssh"] = address.to_string().into();
        demo["config"] = file.to_str().unwrap().into();
        Self { process, demo, disk: None, folder }
    }

    /// A text of `demo.json`.
    pub(super) fn demo_value(&self, key: &str) -> String {
        self.demo[key].as_str().unwrap_or_else(|| panic!("demo.json has no {key}")).to_owned()
    }

    /// Where it listens for SSH.
    pub(crate) fn ssh_address(&self) -> SocketAddr {
        self.demo["ssh"].as_str().unwrap().parse().unwrap()
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.demo["config"].as_str().unwrap().into()
    }

    /// The public half of its CA for user certificates, one line.
    pub(crate) fn ssh_user_ca(&self) -> String {
        let config: toml::Table = fs::read_to_string(self.config()).unwrap().parse().unwrap();
        let file = config["vault"]["ssh_user_ca_file"].as_str().unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-y").arg("-f").arg(self.config().parent().unwrap().join(file));
        run(keygen).ok().out().trim().to_owned()
    }

    /// One of the demo's people.
    pub(crate) fn person(&self, name: &str) -> Person<'_> {
        let given = &self.demo["users"][name];
        let text = |key: &str| {
            given[key].as_str().unwrap_or_else(|| panic!("demo.json: {name} has no {key}")).to_owned()
        };
        Person::new(self, name, text("password"), text("totp_secret"), text("ssh_key").into())
    }

    /// The vendor of the demo's window.
    pub(crate) fn vera(&self) -> Person<'_> {
        self.person("vera")
    }

    /// A path in the gateway's folder for a test's own files.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("scratch");
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory, KiB (`VmRSS` of /proc/PID/status).
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Ends it as a power cut would (SIGKILL), and starts it again on the same folder.
    pub(crate) fn crash_and_restart(&mut self) {
        self.process.kill();
        fs::remove_file(self.folder.path().join("demo.json")).unwrap();
        (self.process, self.demo) = launch(self.folder.path());
    }

    /// Ends it as a power cut would, changes its configuration, and starts it again.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(String) -> String) {
        let config = self.config();
        fs::write(&config, change(fs::read_to_string(&config).unwrap())).unwrap();
        self.crash_and_restart();
    }

    /// Names a user for `serve`, which never stays root, where the tests are root.
    pub(crate) fn runs_as_a_service(&mut self) {
        if nix::unistd::geteuid().is_root() {
            self.restart_with(|text| text.replacen("# user = \"cofferdam\"", "user = \"nobody\"", 1));
        }
    }

    /// No file it writes may grow beyond `bytes` from now on; none lifts the limit again.
    pub(crate) fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut prlimit = Command::new("prlimit");
        // Only the soft limit: the hard one could not be raised again without root.
        prlimit.args(["--pid", &self.pid().to_string(), &format!("--fsize={limit}:")]);
        run(prlimit).ok();
    }

    /// Asks it to stop in order (SIGTERM).
    pub(crate) fn ask_to_stop(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn stopped_within(&mut self, longest: Duration) {
        self.process.ended_within(longest);
    }

    /// Ends it as a power cut would, and leaves it so.
    pub(crate) fn crash(&mut self) {
        self.process.kill();
    }

    /// What it wrote on its own output and error streams: where secrets must never stand.
    pub(crate) fn log(&self) -> String {
        self.process.transcript()
    }
}

/// The configuration of SoftHSM, in a gateway's folder.
pub(crate) const TOKENS: &str = "softhsm2.conf";

fn launch(folder: &Path) -> (Live, Value) {
    // A write beyond a file-size limit is to fail (EFBIG) as one to a full disk does, rather than to raise a signal;
    // what is ignored stays ignored in the program that the shell becomes.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cofferdam")]);
    command
        .args(["demo", "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--rdp", "127.0.0.1:0", "--dir"])
        .arg(folder)
        .env("RUST_LOG", "debug")
        // Where a software token, of the tests that make one, has its keys.
        .env("SOFTHSM2_CONF", folder.join(TOKENS));
    let mut process = Live::start(command);
    let ready = folder.join("demo.json");
    let (demo, _) = wait_for("demo.json", Duration::from_secs(60), || {
        assert!(process.is_running(), "`cofferdam demo` ended:\n{}", process.transcript());
        fs::read(&ready).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok())
    });
    (process, demo)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the gateway's last lines");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
