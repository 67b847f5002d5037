"""The rig: a target `sshd`, a second one to jump through, and a gateway whose site has the target as its assets."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import time

CODE = pathlib.Path(__file__).parents[2] / "tests/peers/code"
ASKPASS = CODE.with_name("askpass")
# What the gateway says, in the folder of a measurement.
LOG = "gateway.log"
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until(what: str, probe, seconds: float = 60.0):
    """Asks `probe` until it gives something true."""
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Sshd:
    """Debian's sshd on loopback, for the present user by key."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.port = folder / name, free_port()
        self.folder.mkdir()
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        (self.folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/user_key.pub\nStrictModes no\nUsePAM no\nUseDNS no\nPrintMotd no\n"
            "PermitRootLogin yes\nMaxStartups 1000\nMaxSessions 1000\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", self.folder / "config"], **QUIET)
        wait_until(f"{name} to listen", lambda: listening(self.port))

    @property
    def host_key(self) -> str:
        return (self.folder / "host_key.pub").read_text().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Gateway:
    """The gateway under measurement."""

    def __init__(self, process: subprocess.Popen, port: int, config: pathlib.Path, binary: str, vera: dict, folder: pathlib.Path):
        self.process, self.port, self.config, self.binary, self.vera = process, port, config, binary, vera
        self.environment, self.log = person_environment(vera, folder), folder / LOG

    def cli(self, *arguments: str) -> str:
        return cofferdam(self.binary, self.config, *arguments)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cofferdam(binary: str, config: pathlib.Path, *arguments: str, proof: str = "") -> str:
    done = subprocess.run([binary, *arguments, "--config", config], input=proof, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"cofferdam {shlex.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def person_environment(person: dict, folder: pathlib.Path) -> dict:
    return {
        **{k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"},
        "SSH_ASKPASS": str(ASKPASS),
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": "none",
        "COFFERDAM_PASSWORD": person["password"],
        "COFFERDAM_TOTP_SECRET": person["totp_secret"],
        "COFFERDAM_TOTP_STATE": str(folder / "codes"),
    }


def proof_of(people: dict, name: str, folder: pathlib.Path) -> str:
    """Password and a code that was not used before, as `--proof-stdin` takes them."""
    environment = {**person_environment(people[name], folder), "COFFERDAM_TOTP_STATE": str(folder / f"codes-of-{name}")}
    code = subprocess.check_output([ASKPASS.parent / "code"], env=environment, text=True).strip()
    return f"{people[name]['password']}\n{code}\n"


def set_up_site(binary: str, folder: pathlib.Path, target: Sshd, forward_port: int) -> Gateway:
    """A gateway with three assets on the one target: `by-digest`, `in-full` and `usual` differ in how much is kept.

    The demo makes people, keys and database; then the site gets the assets, the limits are raised to what the
    measurements need, and `serve` runs on the same folder, so that no built-in target shares the process.
    """
    with demo(binary, folder) as told:
        config = pathlib.Path(told["config"])
        describe_assets(binary, config, folder, target, forward_port, told["users"])
    port = free_port()
    raise_limits(config, port)
    return Gateway(serve(binary, folder, config, port), port, config, binary, told["users"]["vera"], folder)


@contextlib.contextmanager
def demo(binary: str, folder: pathlib.Path):
    """A running demo in a folder in `folder`; gives what it says of itself."""
    own = folder / "demo"
    own.mkdir()
    command = [binary, "demo", "--dir", own, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--rdp", "127.0.0.1:0"]
    process = subprocess.Popen(command, **QUIET)
    ready = own / "demo.json"
    try:
        wait_until("the demo", lambda: process.poll() is not None or (ready.exists() and ready.read_text().rstrip().endswith("}")))
        yield json.loads(ready.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def serve(binary: str, folder: pathlib.Path, config: pathlib.Path, port: int) -> subprocess.Popen:
    """`serve` with that configuration, once it listens on `port`."""
    if os.geteuid() == 0:
        # Root does not serve: the gateway becomes a user without privileges, as in a plant.
        text = config.read_text()
        config.write_text(re.sub(r'(?ms)(^\[run\]$.*?)^# user = [^\n]*$', r'\1user = "nobody"', text))
        os.chmod(folder, 0o711)
        subprocess.run(["chown", "-R", "nobody:", config.parent], check=True)
    log = open(folder / LOG, "wb")
    environment = {**os.environ, "RUST_LOG": "warn,cofferdam::gateway=debug"}
    process = subprocess.Popen(
        [binary, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
    )
    wait_until("the gateway to listen", lambda: process.poll() is not None or listening(port))
    if process.poll() is not None:
        raise RuntimeError("serve ended: " + (folder / LOG).read_text())
    return process


def describe_assets(
    binary: str, config: pathlib.Path, folder: pathlib.Path, target: Sshd, forward_port: int, people: dict
) -> None:
    site = cofferdam(binary, config, "export")
    login = subprocess.check_output(["id", "-un"], text=True).strip()
    zone = re.search(r'name = "pump-hmi".*?zone = "([^"]+)"', site, re.S) or re.search(r'zone = "([^"]+)"', site)
    more = ""
    kept = {"by-digest": "keep_full_bytes = 0\n", "in-full": f"keep_full_bytes = {1 << 50}\n", "usual": ""}
    for name, keep in kept.items():
        more += (
            f'\n[[assets]]\nname = "{name}"\nzone = "{zone[1]}"\naddress = "127.0.0.1"\nhost_keys = ["{target.host_key}"]\n{keep}'
            f'[[assets.endpoints]]\nprotocol = "ssh"\nport = 22\ndial_port = {target.port}\n'
            f'[[assets.endpoints]]\nprotocol = "tcp"\nport = 7000\ndial_port = {forward_port}\n'
            f'\n[[accounts]]\nasset = "{name}"\nlogin = "{login}"\ncredential = "key"\ndefault = true\n'
        )
    # Every conduit that leads to the zone may carry both protocols to every asset of it.
    site = re.sub(r"(?m)^protocols = \[[^\]]*\]", 'protocols = ["ssh", "rdp", "modbus", "s7comm", "tcp"]', site)
    site = re.sub(r"(?ms)(^\[\[conduits\]\].*?)^assets = \[[^\]]*\]\n", r"\1", site)
    site = with_settings(site, idle_seconds=86400, second_factor_remember_seconds=86400)
    file = folder / "site.toml"
    file.write_text(site + more)
    cofferdam(binary, config, "apply", "--yes", str(file))
    accounts = [f"{login}@{name}" for name in kept]
    for account in accounts:
        cofferdam(binary, config, "account", "set-secret", account, "--key-file", str(target.folder / "user_key"))
    open_window(binary, config, folder, people, accounts)


def with_settings(site: str, **wanted: int) -> str:
    """The site file with other values in `[settings]`."""
    for key, value in wanted.items():
        line = f"{key} = {value}"
        site, found = re.subn(rf"(?m)^{key} = \d+", line, site)
        if not found:
            site = site.replace("[settings]\n", f"[settings]\n{line}\n", 1) if "[settings]" in site else f"[settings]\n{line}\n{site}"
    return site


def open_window(
    binary: str, config: pathlib.Path, folder: pathlib.Path, people: dict, accounts: list[str], users: tuple[str, ...] = ()
) -> None:
    """A window of twelve hours on `accounts`, for `users` or for vera, who asks."""
    asked = ["window", "request", "--as", "vera", "--operation", "operate", "--purpose", "measurement", "--end", "+12h", "--json", "--proof-stdin"]
    for option, names in (("--account", accounts), ("--user", users)):
        for name in names:
            asked += [option, name]
    window = json.loads(cofferdam(binary, config, *asked, proof=proof_of(people, "vera", folder)))["id"]
    for person, duty in (("olga", "operations"), ("sam", "security")):
        approve = ["window", "approve", window, "--as", person, "--duty", duty, "--proof-stdin"]
        cofferdam(binary, config, *approve, proof=proof_of(people, person, folder))


def listen_on(config: pathlib.Path, *ports: int) -> None:
    """Fixed ports for SSH, the web and desktops, whose addresses stand in this order."""
    left = iter(ports)
    text, found = re.subn(r"(?m)^listen = .*$", lambda _: f'listen = "127.0.0.1:{next(left)}"', config.read_text(), count=len(ports))
    if found != len(ports):
        raise RuntimeError(f"{config}: no {len(ports)} addresses to listen on")
    config.write_text(text)


def raise_limits(config: pathlib.Path, port: int) -> None:
    listen_on(config, port, free_port())
    text = config.read_text()
    wanted = {
        "max_connections": "2000",
        "max_connections_per_source": "1000",
        "max_sessions": "1000",
        "max_sessions_per_user": "1000",
        "min_free_bytes": "268435456",
    }
    for key, value in wanted.items():
        # The web has bounds of the same names, further down.
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
        if found != 1:
            raise RuntimeError(f"{config}: {key} does not stand there")
    config.write_text(text)


class Path:
    """One way to the target: a name, the `ssh` command that takes it, and whose CPU it costs."""

    def __init__(self, name: str, command: list, environment: dict, pid: int | None):
        self.name, self.command, self.environment, self.pid = name, command, environment, pid

    def ssh(self, *arguments: str) -> list:
        """The command line; options go before the destination, which is the last of `command`."""
        options = [a for a in arguments if a.startswith("-")]
        rest = [a for a in arguments if not a.startswith("-")]
        return [*self.command[:-1], *options, self.command[-1], *rest]


def paths(folder: pathlib.Path, target: Sshd, jump: Sshd, gateway: Gateway, asset: str) -> list[Path]:
    """Direct, through OpenSSH's ProxyJump, through the gateway."""
    common = ["-F", "/dev/null", "-oIdentityAgent=none", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=accept-new"]
    common += [f"-oUserKnownHostsFile={folder}/known_hosts", "-oLogLevel=ERROR", "-oConnectTimeout=60"]
    common += ["-oIgnoreUnknown=ObscureKeystrokeTiming", "-oObscureKeystrokeTiming=no"]
    login = subprocess.check_output(["id", "-un"], text=True).strip()
    own = {k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"}
    to_target = [*common, "-i", str(target.folder / "user_key"), "-p", str(target.port)]
    through = shlex.join(["ssh", *common, "-i", str(jump.folder / "user_key"), "-p", str(jump.port), "-W", "%h:%p", f"{login}@127.0.0.1"])
    to_gateway = [*common, "-i", gateway.vera["ssh_key"], "-p", str(gateway.port)]
    return [
        Path("direct", ["ssh", *to_target, f"{login}@127.0.0.1"], own, None),
        Path("ProxyJump", ["ssh", *to_target, f"-oProxyCommand={through}", f"{login}@127.0.0.1"], own, jump.process.pid),
        Path("cofferdam", ["ssh", *to_gateway, f"vera+{asset}@127.0.0.1"], gateway.environment, gateway.process.pid),
    ]
