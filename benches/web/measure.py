"""Figures of the web interface over a filled store. See `run`."""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "ssh"))
from proc import cpu_seconds, memory_kib  # noqa: E402

ROUNDS = 200
STREAMS = 1000
# Streams that one person may hold open.
EACH = 24
LISTEN = 30
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Postgres:
    """A server of its own, as the tests have one, but one that waits for its disk."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder / "postgres"
        known = self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        shutil.chown(self.folder, "postgres")
        initdb = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        self.bin = initdb.parent
        data = self.folder / "data"
        if not known:
            self.by_postgres(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {self.folder} -c listen_addresses="
        self.by_postgres(self.bin / "pg_ctl", "-D", data, "-l", self.folder / "log", "-w", "-s", "-o", options, "start")
        if not known:
            self.by_postgres(self.bin / "createdb", "-h", self.folder, "-U", "postgres", "figures")
        self.url = f"postgres://postgres@localhost/figures?host={self.folder}"

    def by_postgres(self, *command) -> None:
        command = [str(word) for word in command]
        subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, cwd="/", **QUIET)

    def settle(self) -> None:
        """What a server does by itself over a year of writing."""
        self.by_postgres(self.bin / "vacuumdb", "-h", self.folder, "-U", "postgres", "-z", "figures")

    def close(self) -> None:
        self.by_postgres(self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "fast", "-s", "stop")


class Gateway:
    def __init__(self, binary: str, folder: pathlib.Path):
        self.binary, self.folder = binary, folder
        self.ssh, self.web = free_port(), free_port()
        self.process = None

    def start(self) -> None:
        ready = self.folder / "demo.json"
        ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self.binary, "demo", "--dir", self.folder, "--ssh", f"127.0.0.1:{self.ssh}", "--web", f"127.0.0.1:{self.web}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        end = time.monotonic() + 120
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the gateway did not start: {self.folder / 'log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def cli(self, *arguments: str) -> str:
        command = [self.binary, *arguments, "--config", str(self.folder / "cofferdam.toml")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def prepared(options, folder: pathlib.Path, postgres) -> tuple[Gateway, dict]:
    """A gateway whose store is filled, and the cookies of its people."""
    gateway = Gateway(options.cofferdam, folder)
    if (folder / "cookies.json").exists():
        gateway.start()
        return gateway, json.loads((folder / "cookies.json").read_text())
    gateway.start()
    gateway.stop()
    config = folder / "cofferdam.toml"
    text = config.read_text()
    database = f"sqlite:{folder / 'cofferdam.sqlite'}"
    if postgres:
        line = next(line for line in text.splitlines() if line.startswith("url = ") and "sqlite" in line)
        config.write_text(text.replace(line, f"url = {json.dumps(postgres.url)}", 1))
        for made in ("audit.checkpoints", "cofferdam.sqlite"):
            (folder / made).unlink()
        # The demo describes its people there, too.
        gateway.start()
        gateway.stop()
        database = postgres.url
    cookies = folder / "cookies.json"
    subprocess.run([options.fill, database, cookies, str(options.sessions), str(options.entries)], check=True)
    if postgres:
        postgres.settle()
    gateway.start()
    return gateway, json.loads(cookies.read_text())


def context(gateway: Gateway) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=gateway.folder / "web_ca.pem")
    made.check_hostname = False
    return made


class Person:
    """One browser with one connection that is kept."""

    def __init__(self, gateway: Gateway, cookie: str):
        self.connection = http.client.HTTPSConnection("127.0.0.1", gateway.web, context=context(gateway))
        self.headers = {"Cookie": f"__Host-cofferdam={cookie}", "Host": f"localhost:{gateway.web}", "Sec-Fetch-Site": "same-origin"}

    def get(self, path: str) -> tuple[float, bytes]:
        begin = time.perf_counter()
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - begin) * 1000
        if answer.status != 200:
            sys.exit(f"{path}: {answer.status}")
        return took, body


def first_link(body: bytes, before: str) -> str:
    text = body.decode()
    at = text.index(f'href="{before}') + 6
    return text[at : text.index('"', at)]


def pages(gateway: Gateway, cookies: dict) -> list[dict]:
    people = {}

    def person(name: str) -> Person:
        return people.setdefault(name, Person(gateway, cookies[name]))

    queue = person("olga").get("/approvals")[1]
    windows = person("olga").get("/windows")[1]
    recordings = person("ivan").get("/recordings")[1]
    listed = [
        ("worker-007", "/"),
        ("worker-007", "/windows"),
        ("olga", "/windows"),
        ("olga", "/windows?person=worker-003"),
        ("olga", first_link(windows, "/windows/0")),
        ("olga", "/approvals"),
        ("olga", "/approvals?tab=decided"),
        ("olga", first_link(queue, "/approvals/0")),
        ("olga", "/live"),
        ("ivan", "/recordings"),
        ("ivan", "/recordings?who=worker-003&asset=machine-021"),
        ("ivan", first_link(recordings, "/recordings?").replace("&amp;", "&").replace("&#38;", "&")),
        ("sam", "/audit"),
        ("sam", "/audit?kind=session.opened"),
        ("sam", "/audit?actor=worker-003"),
        ("ada", "/people"),
        ("ada", "/people/worker-003"),
        ("ada", "/assets"),
        ("ada", "/assets/machine-021"),
        ("sam", "/zones"),
        ("sam", "/metrics"),
        ("ada", "/health"),
        ("vera", "/account"),
    ]
    rows = []
    for who, path in listed:
        browser = person(who)
        # What stood idle meanwhile the gateway has closed.
        browser.connection.close()
        first, body = browser.get(path)
        took = [browser.get(path)[0] for _ in range(ROUNDS)]
        shown = path if len(path) < 44 else f"{path[:24]}…"
        rows.append(
            {
                "what": f"{shown} as {who}",
                "p50": percentile(took, 0.5),
                "p99": percentile(took, 0.99),
                "first": first,
                "bytes": len(body),
            }
        )
        show(rows[-1:])
    return rows


async def listen(gateway: Gateway, cookie: str, path: str, tls: ssl.SSLContext, seen: dict) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.web, ssl=tls)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost:{gateway.web}\r\nCookie: __Host-cofferdam={cookie}\r\n"
        "Sec-Fetch-Site: same-origin\r\nAccept: text/event-stream\r\n\r\n"
    )
    writer.write(request.encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            sys.exit(f"{path}: {head.decode()}")
        seen["open"] += 1
        while part := await reader.read(1 << 16):
            seen["bytes"] += len(part)
            seen["events"] += part.count(b"data:") > 0
        seen["lost"] += 1
    except asyncio.CancelledError:
        writer.close()
        raise


async def live(gateway: Gateway, cookies: dict) -> list[dict]:
    """Half of the streams follow the queue, half the live sessions."""
    approvers = [name for name in cookies if name.startswith("approver-")]
    tls, seen = context(gateway), {"open": 0, "bytes": 0, "events": 0, "lost": 0}
    before = memory_kib(gateway.process.pid)
    tasks = []
    for n in range(STREAMS):
        who = approvers[n // EACH]
        path = "/approvals/stream" if n % 2 else "/live/events"
        tasks.append(asyncio.create_task(listen(gateway, cookies[who], path, tls, seen)))
        # Not a hundred handshakes at once.
        await asyncio.sleep(0.01)
    while seen["open"] < STREAMS:
        await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    memory = (memory_kib(gateway.process.pid) - before) / STREAMS

    async def during(what: str, act) -> dict:
        cpu, begin = cpu_seconds(gateway.process.pid), time.monotonic()
        events, size = seen["events"], seen["bytes"]
        changes = await act()
        seconds = time.monotonic() - begin
        return {
            "what": what,
            "cpu": 100 * (cpu_seconds(gateway.process.pid) - cpu) / seconds,
            "events": seen["events"] - events,
            "bytes": seen["bytes"] - size,
            "changes": changes,
            "kib": memory,
        }

    async def quiet() -> int:
        await asyncio.sleep(LISTEN)
        return 0

    async def changing() -> int:
        states = ["maintenance", "production"]
        for n in range(LISTEN):
            due = time.monotonic() + 1
            command = [gateway.binary, "plant-state", "set", "cell-1", states[n % 2], "--as", "olga"]
            child = await asyncio.create_subprocess_exec(*command, "--config", str(gateway.folder / "cofferdam.toml"), **QUIET)
            if await child.wait() != 0:
                sys.exit("the plant's state could not be set")
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return LISTEN

    rows = [
        await during(f"{STREAMS} live pages, nothing happens", quiet),
        await during(f"{STREAMS} live pages, a change a second", changing),
    ]
    if seen["lost"]:
        sys.exit(f"{seen['lost']} streams were lost")
    show(rows)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return rows


def paint(gateway: Gateway, cookies: dict, modules: str) -> dict:
    environment = {
        **os.environ,
        "COFFERDAM_DEMO": str(gateway.folder / "demo.json"),
        "COFFERDAM_WEB_MODULES": modules,
        "COFFERDAM_SCRATCH": str(gateway.folder),
        "COFFERDAM_COOKIE": cookies["olga"],
        "NODE_EXTRA_CA_CERTS": str(gateway.folder / "web_ca.pem"),
    }
    done = subprocess.run(["node", HERE / "paint.mjs"], env=environment, check=True, capture_output=True, text=True)
    took = json.loads(done.stdout.splitlines()[-1])
    row = {"what": "first paint of /approvals", "p50": percentile(took, 0.5), "worst": max(took), "rounds": len(took)}
    show([row])
    return row


def show(rows: list[dict]) -> None:
    for row in rows:
        if "cpu" in row:
            print(
                f"{row['what']:<48} CPU {row['cpu']:5.1f} % of a core   {row['events']:>7} events, {row['bytes'] / 1e6:6.1f} MB"
                f"   {row['kib']:4.0f} KiB each"
            )
        elif "worst" in row:
            print(f"{row['what']:<48} p50 {row['p50']:6.0f} ms  worst {row['worst']:6.0f} ms of {row['rounds']}")
        else:
            print(
                f"{row['what']:<48} p50 {row['p50']:6.1f} ms  p99 {row['p99']:6.1f} ms  first {row['first']:6.1f} ms"
                f"  {row['bytes'] / 1024:6.0f} KiB"
            )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cofferdam", required=True)
    parser.add_argument("--fill", required=True)
    parser.add_argument("--modules", required=True)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--only", default="pages,live,paint")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--folder", help="where the store lies; on a disk in memory it fills sooner")
    parser.add_argument("--keep", help="a folder in which everything stays; one that is filled is used as it is")
    parser.add_argument("--json")
    options = parser.parse_args()
    wanted = options.only.split(",")
    with contextlib.ExitStack() as stack:
        if options.keep:
            folder = pathlib.Path(options.keep)
            folder.mkdir(exist_ok=True)
        else:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cofferdam-web-", dir=options.folder)))
        folder.chmod(0o755)
        postgres = None
        if options.postgres:
            postgres = Postgres(folder)
            stack.callback(postgres.close)
        (folder / "gateway").mkdir(mode=0o700, exist_ok=True)
        gateway, cookies = prepared(options, folder / "gateway", postgres)
        stack.callback(gateway.stop)
        rows = []
        print(f"{'PostgreSQL' if postgres else 'SQLite'}, {options.sessions} sessions, {options.entries} audit entries")
        for part, measure in (
            ("pages", lambda: pages(gateway, cookies)),
            ("live", lambda: asyncio.run(live(gateway, cookies))),
            ("paint", lambda: [paint(gateway, cookies, options.modules)]),
        ):
            if part in wanted:
                rows.extend(measure())
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(rows, indent=2))


main()
