//! Real targets and displays, each on a port or display of its own, gone with the test.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A child process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| panic!("{command:?}: {e}; ./test installs it")),
        )
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A folder of a test, and a log file in it for each process.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command whose output goes to a log, at home in the folder.
    pub(crate) fn command(&self, program: &str, log: &str) -> Command {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let mut command = Command::new(program);
        command.env("HOME", self.0.path()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Where xrdp shows the drives of its client, a folder for each.
    pub(crate) fn drives(&self) -> PathBuf {
        self.path("thinclient_drives")
    }

    pub(crate) fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Asks again and again, for at most `seconds`.
pub(crate) fn wait_for<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A display with one colour.
pub(crate) struct Display {
    _server: Running,
    pub(crate) name: String,
}

impl Display {
    /// An X server in memory.
    pub(crate) fn xvfb(folder: &Folder, log: &str) -> Self {
        let mut command = Command::new("Xvfb");
        // Without the last, what was drawn is gone with the program that drew it.
        command.args(["-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"]);
        Self::start(folder, command, log)
    }

    /// An X server that VNC shows on `port`, to who knows the password in a file.
    pub(crate) fn xvnc(folder: &Folder, port: u16, password: &Path) -> Self {
        let mut command = Command::new("Xvnc");
        command.args(["-geometry", "1024x768", "-depth", "24", "-localhost", "-SecurityTypes", "VncAuth"]);
        command.arg("-rfbport").arg(port.to_string()).arg("-PasswordFile").arg(password);
        Self::start(folder, command, "xvnc")
    }

    fn start(folder: &Folder, mut command: Command, log: &str) -> Self {
        let number = folder.path(&format!("{log}.display"));
        command.args(["-displayfd", "1"]).stdout(std::fs::File::create(&number).unwrap());
        command.stderr(std::fs::File::create(folder.path(log)).unwrap());
        let server = Running::start(&mut command);
        let number = wait_for("a display", 20, || {
            let text = std::fs::read_to_string(&number).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        });
        Self { _server: server, name: format!(":{number}") }
    }

    pub(crate) fn fill(&self, colour: &str) {
        self.draw(&["-solid", colour]);
    }

    /// Draws what the arguments of `xsetroot` say.
    pub(crate) fn draw(&self, what: &[&str]) {
        assert!(Command::new("xsetroot").args(what).env("DISPLAY", &self.name).status().unwrap().success());
    }

    /// A picture of all of it, as a PNG file.
    pub(crate) fn picture(&self, file: &Path) {
        let mut import = Command::new("import");
        import.args(["-silent", "-window", "root"]).arg(file).env("DISPLAY", &self.name);
        assert!(import.status().unwrap().success());
    }

    /// All of it: red, green and blue, row by row.
    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn rgb(&self) -> Vec<u8> {
        let mut import = Command::new("import");
        import.args(["-silent", "-window", "root", "-depth", "8", "rgb:-"]).env("DISPLAY", &self.name);
        import.output().unwrap().stdout
    }

    /// The colour of one pixel.
    pub(crate) fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        let at = format!("1x1+{x}+{y}");
        let out = Command::new("import")
            .args(["-silent", "-window", "root", "-crop", &at, "-depth", "8", "rgb:-"])
            .env("DISPLAY", &self.name)
            .output()
            .unwrap();
        out.stdout.first_chunk().copied()
    }

    /// Presses and releases a key.
    pub(crate) fn press(&self, key: &str) {
        let done = Command::new("xdotool").args(["key", key]).env("DISPLAY", &self.name).status().unwrap();
        assert!(done.success());
    }
}

/// The colour of the targets' desktops.
pub(crate) const COLOUR: &str = "#335577";
/// The same as a pixel.
pub(crate) const PIXEL: [u8; 3] = [0x33, 0x55, 0x77];

/// xrdp in front of a VNC desktop: TLS, and the log-in in the Client Info PDU.
pub(crate) struct Xrdp {
    _xrdp: Running,
    _channels: Option<Channels>,
    pub(crate) desktop: Display,
    pub(crate) address: SocketAddr,
}

/// What xrdp carries for a display besides its picture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Clipboard,
    Drives,
}

/// What does that. It mounts the client's drives in its home folder.
struct Channels {
    process: Running,
    sockets: [PathBuf; 2],
    mounted: Option<PathBuf>,
}

impl Channels {
    fn start(folder: &Folder, display: &Display, carried: Carried) -> Self {
        let mut command = folder.command("xrdp-chansrv", "chansrv");
        command.env("CHANSRV_LOG_PATH", folder.path("")).env("DISPLAY", &display.name);
        let mounted = (carried == Carried::Drives).then(|| folder.drives());
        if mounted.is_none() {
            // Nowhere to mount drives: a mount would outlive the test.
            command.env("HOME", "/proc");
        }
        let number = display.name.trim_start_matches(':');
        let socket = |name| PathBuf::from(format!("/run/xrdp/sockdir/{name}_{number}"));
        let sockets = [socket("xrdp_chansrv_socket"), socket("xrdpapi")];
        // Of somebody who had this display before and did not come to its end.
        sockets.iter().for_each(|socket| std::fs::remove_file(socket).unwrap_or_default());
        let process = Running::start(&mut command);
        wait_for("the socket of xrdp-chansrv", 20, || sockets.iter().all(|s| s.exists()).then_some(()));
        Self { process, sockets, mounted }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.process.0.kill().ok();
        self.process.0.wait().ok();
        if let Some(mounted) = &self.mounted {
            // A mount that nobody serves would stay.
            Command::new("fusermount").args(["-u", "-z"]).arg(mounted).status().ok();
        }
        for socket in &self.sockets {
            std::fs::remove_file(socket).ok();
        }
    }
}

impl Xrdp {
    pub(crate) const PASSWORD: &str = "VncPass1";

    pub(crate) fn start(folder: &Folder) -> Self {
        Self::start_with(folder, None)
    }

    /// One that also carries the clipboard of its desktop.
    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn with_clipboard(folder: &Folder) -> Self {
        Self::start_with(folder, Some(Carried::Clipboard))
    }

    /// One that also serves devices: what the client shares lies in [`Folder::drives`].
    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn with_drives(folder: &Folder) -> Self {
        Self::start_with(folder, Some(Carried::Drives))
    }

    fn start_with(folder: &Folder, carried: Option<Carried>) -> Self {
        let (port, vnc) = (free_port(), free_port());
        let password = folder.path("vncpasswd");
        let script = format!("echo {} | vncpasswd -f > '{}'", Self::PASSWORD, password.display());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let desktop = Display::xvnc(folder, vnc, &password);
        desktop.fill(COLOUR);
        let chansrv = carried.map_or_else(String::new, |_| {
            format!("chansrvport=DISPLAY({})\n", desktop.name.trim_start_matches(':'))
        });
        let channels = carried.map(|carried| Channels::start(folder, &desktop, carried));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["eng-ws".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path("xrdp.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path("xrdp.crt"), certificate.pem()).unwrap();
        let ini = format!(
            "[Globals]\nini_version=1\nfork=false\nport=tcp://127.0.0.1:{port}\ntcp_nodelay=true\n\
             security_layer=negotiate\ncertificate={cert}\nkey_file={key}\nssl_protocols=TLSv1.2, TLSv1.3\n\
             autorun=vnc\nallow_channels=true\nbitmap_cache=true\nbitmap_compression=true\nbulk_compression=false\n\
             max_bpp=32\nnew_cursors=true\nuse_fastpath=both\n[Logging]\nLogFile={log}\nLogLevel=INFO\n\
             EnableSyslog=false\n[Channels]\nrdpdr=true\nrdpsnd=true\ndrdynvc=true\ncliprdr=true\n\
             [vnc]\nname=vnc\nlib=libvnc.so\nusername=na\npassword=ask\nip=127.0.0.1\nport={vnc}\n{chansrv}",
            cert = folder.path("xrdp.crt").display(),
            key = folder.path("xrdp.key").display(),
            log = folder.path("xrdp-file").display(),
        );
        std::fs::write(folder.path("xrdp.ini"), ini).unwrap();
        let xrdp =
            Running::start(folder.command("xrdp", "xrdp").arg("-n").arg("-c").arg(folder.path("xrdp.ini")));
        let address = listening(port);
        Self { _xrdp: xrdp, _channels: channels, desktop, address }
    }
}

/// FreeRDP's shadow of a display: NLA against a SAM file.
pub(crate) struct Shadow {
    _server: Running,
    pub(crate) desktop: Display,
    pub(crate) address: SocketAddr,
}

impl Shadow {
    pub(crate) const USER: &str = "rdptest";
    /// Another user with the same password.
    pub(crate) const ENGINEER: &str = "eng";
    pub(crate) const PASSWORD: &str = "Vault-Secret-1";

    pub(crate) fn start(folder: &Folder) -> Self {
        let desktop = Display::xvfb(folder, "shadow-display");
        desktop.fill(COLOUR);
        let hash = |user| {
            let hash = ["-u", user, "-p", Self::PASSWORD, "-f", "sam"];
            Command::new("winpr-hash").args(hash).output().unwrap().stdout
        };
        std::fs::write(folder.path("sam"), [hash(Self::USER), hash(Self::ENGINEER)].concat()).unwrap();
        let port = free_port();
        let mut command = folder.command("freerdp-shadow-cli", "shadow");
        command.arg(format!("/port:{port}")).arg("/bind-address:127.0.0.1").args(["/sec:nla", "+auth"]);
        command.arg(format!("/sam-file:{}", folder.path("sam").display())).env("DISPLAY", &desktop.name);
        let server = Running::start(&mut command);
        let address = listening(port);
        Self { _server: server, desktop, address }
    }
}

/// Weston, a Wayland desktop with RDP of its own: TLS, and no log-in at all.
pub(crate) struct Weston {
    _server: Running,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Weston {
    const SOCKET: &str = "wayland-target";

    pub(crate) fn start(folder: &Folder) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["eng-ws".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path("weston.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path("weston.crt"), certificate.pem()).unwrap();
        let ini = format!("[core]\nidle-time=0\n[shell]\nbackground-color=0xff{}\n", &COLOUR[1..]);
        std::fs::write(folder.path("weston.ini"), ini).unwrap();
        let runtime = folder.path("wayland");
        std::fs::create_dir(&runtime).unwrap();
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
        let port = free_port();
        let mut command = folder.command("weston", "weston");
        command.args(["--backend=rdp-backend.so", "--shell=kiosk-shell.so", "--address=127.0.0.1"]);
        command.args(["--no-clients-resize", "--width=1024", "--height=768"]);
        command.arg(format!("--socket={}", Self::SOCKET)).arg(format!("--port={port}"));
        command.arg(format!("--config={}", folder.path("weston.ini").display()));
        command.arg(format!("--rdp-tls-key={}", folder.path("weston.key").display()));
        command.arg(format!("--rdp-tls-cert={}", folder.path("weston.crt").display()));
        let server = Running::start(command.env("XDG_RUNTIME_DIR", &runtime));
        Self { _server: server, folder: runtime, address: listening(port) }
    }

    /// A terminal on it, in which a script runs.
    pub(crate) fn terminal(&self, folder: &Folder, script: &Path) -> Running {
        let mut command = folder.command("weston-terminal", "weston-terminal");
        command.arg(format!("--shell={}", script.display()));
        command.env("XDG_RUNTIME_DIR", &self.folder).env("WAYLAND_DISPLAY", Self::SOCKET);
        Running::start(&mut command)
    }
}

/// A GNOME desktop without a screen: NLA, and it draws by the graphics pipeline where it may.
pub(crate) struct Gnome {
    /// A group of its own: the session bus, and all that is on it.
    session: Child,
    folder: PathBuf,
    /// The pin of its key. It takes one connection at a time, and nobody should have to ask for it.
    pub(crate) pin: String,
    pub(crate) address: SocketAddr,
}

impl Gnome {
    pub(crate) const USER: &str = "eng";
    pub(crate) const PASSWORD: &str = "Vault-Secret-1";
    const SOCKET: &str = "wayland-target";
    const SESSION: &str = r#"
        cd "$HOME"
        until_there() { for _ in $(seq 400); do [ -e "$1" ] && return; sleep 0.05; done; echo "no $1" >&2; exit 1; }
        pipewire >pipewire 2>&1 &
        until_there "$XDG_RUNTIME_DIR/pipewire-0"
        wireplumber >wireplumber 2>&1 &
        mutter --headless --wayland --no-x11 --virtual-monitor 1024x768 --wayland-display "$SOCKET" >mutter 2>&1 &
        until_there "$XDG_RUNTIME_DIR/$SOCKET"
        # A key on an elliptic curve it does not take.
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=eng-ws -days 2 -keyout gnome.key -out gnome.crt 2>/dev/null
        openssl x509 -in gnome.crt -noout -pubkey | openssl pkey -pubin -outform der | sha256sum >gnome.pin
        grdctl --headless rdp set-tls-key "$HOME/gnome.key"
        grdctl --headless rdp set-tls-cert "$HOME/gnome.crt"
        grdctl --headless rdp set-credentials "$USER" "$PASSWORD"
        grdctl --headless rdp disable-view-only
        grdctl --headless rdp enable
        exec /usr/libexec/gnome-remote-desktop-daemon --headless --rdp-port "$PORT"
    "#;

    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn start(folder: &Folder) -> Self {
        let runtime = folder.path("gnome-runtime");
        std::fs::create_dir(&runtime).unwrap();
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
        let port = free_port();
        let mut command = folder.command("dbus-run-session", "gnome");
        command.args(["--", "bash", "-ec", Self::SESSION]).stdin(Stdio::null()).process_group(0);
        command.env("XDG_RUNTIME_DIR", &runtime).env("XDG_SESSION_TYPE", "wayland");
        command
            .env("GSETTINGS_BACKEND", "keyfile")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("NO_AT_BRIDGE", "1");
        command.env("SOCKET", Self::SOCKET).env("PORT", port.to_string());
        command.env("USER", Self::USER).env("PASSWORD", Self::PASSWORD);
        for name in
            ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"]
        {
            command.env_remove(name);
        }
        let session = command.spawn().unwrap_or_else(|e| panic!("dbus-run-session: {e}; ./test installs it"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut started = Self { session, folder: runtime, pin: String::new(), address };
        listening(port);
        let digest = std::fs::read_to_string(folder.path("gnome.pin")).unwrap();
        started.pin = format!("sha256:{}", digest.split_whitespace().next().unwrap());
        started
    }

    /// A terminal on it, in which a script runs.
    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn terminal(&self, folder: &Folder, script: &Path) -> Running {
        let mut command = folder.command("weston-terminal", "weston-terminal");
        command.arg(format!("--shell={}", script.display()));
        command.env("XDG_RUNTIME_DIR", &self.folder).env("WAYLAND_DISPLAY", Self::SOCKET);
        Running::start(&mut command)
    }

    /// A program of its sound, as of somebody who is logged in there.
    #[allow(dead_code, reason = "this rig serves two suites, and one has no use for it")]
    pub(crate) fn pipewire(&self, folder: &Folder, program: &str) -> Command {
        let mut command = folder.command(program, program);
        command.env("XDG_RUNTIME_DIR", &self.folder);
        command
    }
}

impl Drop for Gnome {
    fn drop(&mut self) {
        Command::new("kill").args(["-9", "--", &format!("-{}", self.session.id())]).status().ok();
        self.session.wait().ok();
    }
}

pub(crate) fn listening(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Looked up in the kernel's table: a connection that only asks would be a session to some servers.
    let wanted = format!(":{port:04X} ");
    wait_for("a target's port", 20, || {
        let read = |table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let table = read("tcp") + &read("tcp6");
        table.lines().any(|line| line.contains(&wanted) && line.contains(" 0A ")).then_some(address)
    })
}
