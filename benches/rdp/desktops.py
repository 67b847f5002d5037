"""Real targets on loopback, displays in memory, and xfreerdp as the client."""

import contextlib
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from eyes import Eyes
from rig import QUIET, free_port, wait_until

SCENE = pathlib.Path(__file__).with_name("scene.py")


def start(command: list, log: pathlib.Path, **environment: str) -> subprocess.Popen:
    """A program in a group of its own, so that what it forks ends with it."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env={**os.environ, **environment}, start_new_session=True,
        )


def end(process: subprocess.Popen) -> None:
    for order in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, order)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def listens(port: int) -> bool:
    """Looked up in the kernel's table: a connection that only asks would be a session to some servers."""
    tables = (pathlib.Path(f"/proc/net/{table}").read_text(encoding="ascii") for table in ("tcp", "tcp6"))
    rows = (row.split() for table in tables for row in table.splitlines())
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Screen:
    """An X server in memory, and what is started on it."""

    def __init__(self, folder: pathlib.Path, name: str, command: list):
        self.folder, self.name = folder, name
        number = folder / f"{name}.display"
        with open(number, "wb") as file:
            self.server = subprocess.Popen(
                [*map(str, command), "-displayfd", "1"], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.shown: list[subprocess.Popen] = []
        self.environment: dict[str, str] = {}
        wait_until(f"{name} to be a display", lambda: number.read_text().endswith("\n"))
        self.display = f":{number.read_text().strip()}"

    @classmethod
    def xvfb(cls, folder: pathlib.Path, name: str, size: str = "1280x800"):
        return cls(folder, name, ["Xvfb", "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset"])

    def show(self, *command) -> subprocess.Popen:
        """Starts a program that shows itself here."""
        log = self.folder / f"{self.name}-{len(self.shown)}.log"
        self.shown.append(start(list(command), log, DISPLAY=self.display, HOME=str(self.folder), **self.environment))
        return self.shown[-1]

    def scene(self, *arguments) -> subprocess.Popen:
        return self.show(sys.executable, "-B", SCENE, *arguments)

    @contextlib.contextmanager
    def moving(self, *arguments):
        """A window that moves, 25 times a second."""
        scene = self.scene("window", 25, *(arguments or (400, 300)))
        try:
            yield
        finally:
            end(scene)

    def focus(self, window_class: str) -> None:
        """Keys go to the first window of that class from now on."""
        environment = {"DISPLAY": self.display}
        found = subprocess.check_output(
            ["xdotool", "search", "--sync", "--onlyvisible", "--class", window_class], env=environment, text=True, timeout=20
        )
        subprocess.run(["xdotool", "windowfocus", found.split()[0]], check=True, env=environment, timeout=20)

    def close(self) -> None:
        for process in (*self.shown, self.server):
            end(process)


class Compositor(Screen):
    """The X server of a Wayland desktop without a screen, started with a session of its own. Its windows are the compositor's."""

    def __init__(self, folder: pathlib.Path, name: str, script: str, **environment: str):
        self.folder, self.name, self.shown = folder, name, []
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        known = {**environment, "XDG_RUNTIME_DIR": str(runtime), "XDG_SESSION_TYPE": "wayland", "HOME": str(folder)}
        for unwanted in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
            os.environ.pop(unwanted, None)
        self.server = start(["dbus-run-session", "--", "bash", "-euc", script], folder / f"{name}.log", **known)
        log = folder / f"{name}-compositor.log"
        wait_until("the compositor", lambda: log.exists() and "public X11 display" in log.read_text(), 20)
        self.display = re.search(r"public X11 display (:\d+)", log.read_text())[1]
        self.environment = {"XAUTHORITY": str(next(runtime.glob(".mutter-Xwaylandauth.*")))}

    def scene(self, what, *arguments) -> subprocess.Popen:
        # It gives keys only to windows that it manages.
        return super().scene("managed" if what == "keys" else what, *arguments)


class Target:
    """A desktop that can be logged in to on `port`, and the public key that it shows."""

    login = "operator"
    # How the gateway logs in, and how it lets the target draw.
    security = "tls"
    graphics = "bitmaps"
    # The first key of a log-in only makes it a keyboard, and is lost.
    loses_first_key = False

    def __init__(self, folder: pathlib.Path, name: str, screen: Screen, port: int, server: subprocess.Popen):
        self.folder, self.name, self.screen, self.port, self.server = folder, name, screen, port, server
        wait_until(f"{name} to listen", lambda: listens(port), 20)

    def certificate(self) -> pathlib.Path:
        raise NotImplementedError

    def pin(self) -> str:
        """SHA-256 over the certificate's SubjectPublicKeyInfo, as the site file has it."""
        script = (
            f"openssl x509 -in {shlex.quote(str(self.certificate()))} -noout -pubkey"
            " | openssl pkey -pubin -outform der | sha256sum"
        )
        return "sha256:" + subprocess.check_output(["bash", "-euo", "pipefail", "-c", script], text=True).split()[0]

    def close(self) -> None:
        end(self.server)
        self.screen.close()


class Xrdp(Target):
    """xrdp in front of a VNC desktop: TLS, and the log-in inside it. Each connection is a process of its own."""

    password = "VncPass1"

    def __init__(self, folder: pathlib.Path, name: str, size: str = "1280x800"):
        port, vnc = free_port(), free_port()
        own = folder / name
        own.mkdir()
        known = subprocess.check_output(["vncpasswd", "-f"], input=self.password.encode())
        (own / "vncpasswd").write_bytes(known)
        screen = Screen(
            own, "xvnc",
            ["Xvnc", "-geometry", size, "-depth", "24", "-localhost", "-AlwaysShared", "-SecurityTypes", "VncAuth",
             "-rfbport", vnc, "-PasswordFile", own / "vncpasswd"],
        )
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", "/CN=eng-ws", "-keyout", own / "key.pem", "-out", own / "cert.pem"], check=True, **QUIET,
        )
        (own / "xrdp.ini").write_text(
            f"[Globals]\nini_version=1\nfork=true\nport=tcp://127.0.0.1:{port}\ntcp_nodelay=true\nsecurity_layer=negotiate\n"
            f"certificate={own}/cert.pem\nkey_file={own}/key.pem\nssl_protocols=TLSv1.2, TLSv1.3\nautorun=vnc\n"
            "allow_channels=true\nbitmap_cache=true\nbitmap_compression=true\nbulk_compression=false\nmax_bpp=32\n"
            f"new_cursors=true\nuse_fastpath=both\n[Logging]\nLogFile={own}/xrdp.log\nLogLevel=WARNING\nEnableSyslog=false\n"
            f"[Channels]\ndrdynvc=true\n[vnc]\nname=vnc\nlib=libvnc.so\nusername=na\npassword=ask\nip=127.0.0.1\nport={vnc}\n"
        )
        server = start(["xrdp", "-n", "-c", own / "xrdp.ini"], own / "output", HOME=str(own))
        super().__init__(own, name, screen, port, server)

    def certificate(self) -> pathlib.Path:
        return self.folder / "cert.pem"


class Shadow(Target):
    """FreeRDP's shadow of a display: NLA against a SAM file."""

    login = "rdptest"
    password = "Vault-Secret-1"
    security = "nla"

    def __init__(self, folder: pathlib.Path, name: str):
        own, port = folder / name, free_port()
        own.mkdir()
        screen = Screen.xvfb(own, "xvfb")
        sam = subprocess.check_output(["winpr-hash", "-u", self.login, "-p", self.password, "-f", "sam"])
        (own / "sam").write_bytes(sam)
        server = start(
            ["freerdp-shadow-cli", f"/port:{port}", "/bind-address:127.0.0.1", "/sec:nla", "+auth", f"/sam-file:{own}/sam"],
            own / "output", HOME=str(own), DISPLAY=screen.display,
        )
        super().__init__(own, name, screen, port, server)

    def certificate(self) -> pathlib.Path:
        return next(self.folder.glob(".config/freerdp/**/*.crt"))


class Gnome(Target):
    """GNOME Remote Desktop over a mutter without a screen: NLA, and the graphics pipeline by RemoteFX."""

    login = "eng"
    password = "Vault-Secret-1"
    security = "nla"
    graphics = "pipeline"
    loses_first_key = True
    SESSION = """
        cd "$HOME"
        until_there() { for _ in $(seq 400); do [ -e "$1" ] && return; sleep 0.05; done; exit 1; }
        pipewire >pipewire.log 2>&1 &
        until_there "$XDG_RUNTIME_DIR/pipewire-0"
        wireplumber >wireplumber.log 2>&1 &
        mutter --headless --wayland --virtual-monitor 1280x800 --wayland-display wayland-target >mutter-compositor.log 2>&1 &
        until_there "$XDG_RUNTIME_DIR/wayland-target"
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=eng-ws -days 30 -keyout key.pem -out cert.pem 2>/dev/null
        grdctl --headless rdp set-tls-key "$HOME/key.pem"
        grdctl --headless rdp set-tls-cert "$HOME/cert.pem"
        grdctl --headless rdp set-credentials "$LOGIN" "$KNOWN"
        grdctl --headless rdp disable-view-only
        grdctl --headless rdp enable
        exec /usr/libexec/gnome-remote-desktop-daemon --headless --rdp-port "$PORT"
    """

    def __init__(self, folder: pathlib.Path, name: str):
        own, port = folder / name, free_port()
        own.mkdir()
        screen = Compositor(
            own, "mutter", self.SESSION, LOGIN=self.login, KNOWN=self.password, PORT=str(port),
            GSETTINGS_BACKEND="keyfile", LIBGL_ALWAYS_SOFTWARE="1", NO_AT_BRIDGE="1",
        )
        super().__init__(own, name, screen, port, screen.server)

    def certificate(self) -> pathlib.Path:
        return self.folder / "cert.pem"


class Way:
    """One way to desktops: a name, and for each target the port, the user name and the password that lead there."""

    def __init__(self, name: str, pass_for):
        self.name, self.pass_for = name, pass_for

    def client(self, target: Target, size: str = "1280x800") -> list[str]:
        """The command of one log-in."""
        port, user, password = self.pass_for(target)
        return [
            "xfreerdp", f"/v:127.0.0.1:{port}", f"/u:{user}", f"/p:{password}", "/cert:ignore", f"/size:{size}", "-decorations",
            "/log-level:WARN", "-gfx" if target.graphics == "bitmaps" else "/gfx",
        ]


class Hop:
    """Something between client and target that passes bytes on and does nothing else, as every network has: FreeRDP 2 waits
    100 ms for an answer that has not come within some 0.1 ms, which only happens on a loopback without one."""

    def __init__(self):
        self.servers: dict[int, socket.socket] = {}

    def to(self, target: Target) -> int:
        """The port that leads there."""
        if target.port not in self.servers:
            self.servers[target.port] = server = socket.create_server(("127.0.0.1", 0))
            threading.Thread(target=self._accept, args=(server, target.port), daemon=True).start()
        return self.servers[target.port].getsockname()[1]

    def _accept(self, server: socket.socket, port: int) -> None:
        # Ends with the program.
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


def over_a_hop() -> Way:
    hop = Hop()
    return Way("direct over a hop", lambda target: (hop.to(target), target.login, target.password))


def direct() -> Way:
    return Way("direct", lambda target: (target.port, target.login, target.password))


class Seat:
    """Somebody in front of a client that shows one target. Their log-in was timed: `connected`, milliseconds."""

    def __init__(self, way: Way, target: Target, screen: Screen):
        self.eyes = Eyes(screen.display)
        self.way, self.target = way, target
        try:
            wait_until("the display to be empty", lambda: self.eyes.colour() is None, 10)
            command = way.client(target)
            begin = time.perf_counter()
            self.client = screen.show(*command)
            seen = self.eyes.sees((0, 1), 30)
            if seen is None:
                end(self.client)
                raise RuntimeError(f"{way.name} to {target.name}: no desktop within 30 s")
        except BaseException:
            self.eyes.close()
            raise
        self.connected = (seen - begin) * 1000
        self.eyes.point()
        self.eyes.rest(1.5)
        if target.loses_first_key:
            self.eyes.key_to_pixel()

    def keys(self, count: int, dice) -> list[float]:
        """Milliseconds from key to pixel, some seven times a second but in no step with anything."""
        seen = []
        for _ in range(count):
            took = self.eyes.key_to_pixel()
            if took is None:
                raise RuntimeError(f"{self.way.name} to {self.target.name}: a key changed nothing")
            seen.append(took)
            self.eyes.rest(0.1 + 0.08 * dice.random())
        return seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.client)
        self.eyes.close()
