"""Measures, and prints one table. Started by `run`, which builds first."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import proc
import rig
from table import ROWS, median, percentile, row

GIB = 1 << 30


@contextlib.contextmanager
def master(path: rig.Path, folder: pathlib.Path, *options: str):
    """One logged-in connection; gives the start of an `ssh` command that opens channels on it, so that log-in is not measured."""
    control = folder / f"control-{path.name}"
    process = subprocess.Popen(
        path.ssh("-oControlMaster=yes", f"-oControlPath={control}", "-N", *options), env=path.environment, **rig.QUIET
    )
    try:
        rig.wait_until(f"{path.name} to log in", lambda: process.poll() is not None or control.exists())
        if process.poll() is not None:
            raise RuntimeError(f"{path.name}: could not log in")
        yield path.ssh(f"-oControlPath={control}")
    finally:
        process.terminate()
        process.wait()


def timed(command: list, path: rig.Path, stdin) -> tuple[float, float]:
    """Wall seconds of a command, and CPU seconds of what stands between."""
    before = proc.cpu_seconds(path.pid) if path.pid else 0.0
    start = time.monotonic()
    # No `timeout`: with one, Python looks only every 50 ms whether the command has ended.
    subprocess.run(command, check=True, env=path.environment, stdin=stdin, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    return took, (proc.cpu_seconds(path.pid) if path.pid else 0.0) - before


def bulk(label: str, ways: list, args, cipher: str, source: str | None, least: float, most_cpu: float) -> None:
    """Down and up, `source` (a file) or zeros, interleaved."""
    size = args.size if source is None else os.path.getsize(source)
    down = f"head -c {size} /dev/zero" if source is None else f"cat {source}"
    seen: dict = {(way.name, d): [] for way in ways for d in ("down", "up")}
    with contextlib.ExitStack() as stack:
        masters = {way.name: stack.enter_context(master(way, args.folder, f"-oCiphers={cipher}")) for way in ways}
        for turn in range(args.rounds + 1):
            for way in ways:
                run_down = timed([*masters[way.name], down], way, subprocess.DEVNULL)
                with (subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) if source is None
                      else contextlib.nullcontext(None)) as zeros:
                    stdin = zeros.stdout if zeros else open(source, "rb")
                    run_up = timed([*masters[way.name], "cat >/dev/null"], way, stdin)
                    stdin.close()
                if turn > 0:  # the first turn warms caches and TCP's windows
                    seen[way.name, "down"].append(run_down)
                    seen[way.name, "up"].append(run_up)
    for direction in ("down", "up"):
        times = {way.name: median(t for t, _ in seen[way.name, direction]) for way in ways}
        figures = {f"{name} MB/s": round(size / t / 1e6) for name, t in times.items()}
        for way in ways[1:]:
            figures[f"{way.name} ratio"] = round(times["direct"] / times[way.name], 3)
            figures[f"{way.name} CPU s/GiB"] = round(median(c for _, c in seen[way.name, direction]) * GIB / size, 2)
        good = figures["cofferdam ratio"] >= least and figures["cofferdam CPU s/GiB"] <= most_cpu
        row(f"bulk {direction}, {label}", f"≥ {least}, ≤ {most_cpu} CPU s/GiB", good, **figures)


class Source:
    """A TCP server: each connection asks for a number of zero bytes, as eight bytes, and gets them."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        zeros = bytes(1 << 20)
        with connection, contextlib.suppress(OSError):
            asked = connection.recv(8, socket.MSG_WAITALL)
            left = int.from_bytes(asked, "big") if len(asked) == 8 else 0
            while left > 0:
                left -= connection.send(zeros[: min(left, len(zeros))])


def forward(ways: list, args, source_port: int) -> None:
    """Bulk through -L, against OpenSSH's own -L."""
    seen: dict = {way.name: [] for way in ways}
    buffer = bytearray(1 << 20)
    with contextlib.ExitStack() as stack:
        ports = {}
        for way in ways:
            ports[way.name] = rig.free_port()
            place = "by-digest:7000" if way.name == "cofferdam" else f"127.0.0.1:{source_port}"
            stack.enter_context(master(way, args.folder, f"-L127.0.0.1:{ports[way.name]}:{place}"))
        for turn in range(args.rounds + 1):
            for way in ways:
                before = proc.cpu_seconds(way.pid) if way.pid else 0.0
                with socket.create_connection(("127.0.0.1", ports[way.name])) as connection:
                    start = time.monotonic()
                    connection.sendall(args.size.to_bytes(8, "big"))
                    left = args.size
                    while left > 0:
                        count = connection.recv_into(buffer)
                        if count == 0:
                            raise RuntimeError(f"{way.name}: the forward ended {left} bytes early")
                        left -= count
                    took = time.monotonic() - start
                if turn > 0:
                    seen[way.name].append((took, (proc.cpu_seconds(way.pid) if way.pid else 0.0) - before))
    times = {way.name: median(t for t, _ in seen[way.name]) for way in ways}
    figures = {f"{name} MB/s": round(args.size / t / 1e6) for name, t in times.items()}
    for way in ways[1:]:
        figures[f"{way.name} ratio"] = round(times["direct"] / times[way.name], 3)
        figures[f"{way.name} CPU s/GiB"] = round(median(c for _, c in seen[way.name]) * GIB / args.size, 2)
    row("-L forward, down", "≥ 0.85 of OpenSSH's own -L", figures["cofferdam ratio"] >= 0.85, **figures)


def shell(way: rig.Path, command: str, stderr=subprocess.DEVNULL) -> subprocess.Popen:
    return subprocess.Popen(
        way.ssh("-tt", command), env=way.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
    )


def ready_shell(way: rig.Path) -> subprocess.Popen:
    """A shell whose terminal echoes each key, and nothing else speaks."""
    process = shell(way, "stty -icanon echo; echo ready; cat >/dev/null")
    heard = b""
    while b"ready" not in heard:
        part = process.stdout.read(4096)
        if not part:
            raise RuntimeError(f"{way.name}: no shell: {heard!r}")
        heard += part
    time.sleep(0.05)
    os.set_blocking(process.stdout.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        process.stdout.read(4096)
    os.set_blocking(process.stdout.fileno(), True)
    return process


def echo(ways: list, args) -> None:
    """Key to echo, in blocks of fifty keys that take turns."""
    shells = {way.name: ready_shell(way) for way in ways}
    seen: dict = {way.name: [] for way in ways}
    for block in range(args.keys // 50 + 1):
        for way in ways:
            process = shells[way.name]
            for _ in range(50):
                start = time.perf_counter()
                process.stdin.write(b"x")
                process.stdout.read(1)
                took = time.perf_counter() - start
                if block > 0:
                    seen[way.name].append(took * 1000)
                time.sleep(0.004)
    for process in shells.values():
        process.kill()
        process.wait()
    added = {share: {n: percentile(v, share) - percentile(seen["direct"], share) for n, v in seen.items()} for share in (0.5, 0.99)}
    figures = {"direct p50 ms": round(median(seen["direct"]), 3)}
    for way in ways[1:]:
        figures[f"{way.name} adds p50 ms"] = round(added[0.5][way.name], 3)
        figures[f"{way.name} adds p99 ms"] = round(added[0.99][way.name], 3)
    row("key to echo, added", "p50 ≤ 0.2 ms, p99 ≤ 2 ms", added[0.5]["cofferdam"] <= 0.2 and added[0.99]["cofferdam"] <= 2, **figures)


def setup(ways: list, args) -> None:
    """`ssh … true`, the second factor remembered."""
    seen: dict = {way.name: [] for way in ways}
    for turn in range(args.setups + 1):
        for way in ways:
            took, _ = timed(way.ssh("true"), way, subprocess.DEVNULL)
            if turn > 0:
                seen[way.name].append(took * 1000)
    base = median(seen["direct"])
    figures = {"direct ms": round(base, 1)} | {f"{way.name} adds ms": round(median(seen[way.name]) - base, 1) for way in ways[1:]}
    row("session set-up, added", "≤ 25 ms", figures["cofferdam adds ms"] <= 25, **figures)


def leases(gateway: rig.Gateway, count: int) -> None:
    """How long the gateway waited for each lease of the sessions that were opened one after the other: the vault process looks
    up what was granted, and opens the secret. Of sessions that open ten at a time on two cores, most of it is waiting for a core."""
    said = re.findall(r"answered about a lease.*?micros=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", gateway.log.read_text(errors="replace")))
    took = [int(micros) / 1000 for micros in said[-count:]]
    row("lease of a secret", "p99 ≤ 5 ms", percentile(took, 0.99) <= 5,
        **{"p50 ms": round(median(took), 2), "p99 ms": round(percentile(took, 0.99), 2), "leases": len(took)})


def fsyncs(ways: list, args, gateway: rig.Gateway) -> None:
    """Syncs of the database per session, as strace sees them; those of recordings are counted apart."""
    trace = args.folder / "strace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-o", trace, "-p", str(gateway.process.pid)], **rig.QUIET
    )
    time.sleep(1)
    if tracer.poll() is not None:
        row("syncs per session", "1 to 4 of the database", None, note="strace cannot attach here")
        return
    count = 10
    for _ in range(count):
        timed(ways[-1].ssh("true"), ways[-1], subprocess.DEVNULL)
    time.sleep(2)
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    lines = [line for line in trace.read_text().splitlines() if "sync(" in line]
    database = sum(".sqlite" in line for line in lines)
    # None at all would mean that the audit is not durable, or that the trace missed it: that is no success either.
    row("syncs per session", "1 to 4 of the database", 1 <= database / count <= 4,
        database=round(database / count, 1), other=round((len(lines) - database) / count, 1))


def idle(ways: list, args, gateway: rig.Gateway, target: rig.Sshd) -> None:
    """Memory and CPU of many sessions in which nobody types; then kills of some of them; then what is given back."""
    pid, way = gateway.process.pid, ways[-1]
    timed(way.ssh("true"), way, subprocess.DEVNULL)
    before, files_before = proc.memory_kib(pid), proc.descriptors(pid)
    sessions = []
    try:
        while len(sessions) < args.sessions:
            batch = [shell(way, "cat >/dev/null") for _ in range(min(10, args.sessions - len(sessions)))]
            sessions += batch
            rig.wait_until("sessions to open", lambda: proc.connections_to(target.port) >= len(sessions), 120)
        # Until the last checkpoint of what was recorded while they opened is signed, which takes 10 s and some.
        time.sleep(20)
        during, cpu = proc.memory_kib(pid), proc.cpu_seconds(pid)
        time.sleep(20)
        cpu_share = (proc.cpu_seconds(pid) - cpu) * 5
        if "kill" in args.only:
            kills(gateway, target, args)
    finally:
        for process in sessions:
            process.kill()
        for process in sessions:
            process.wait()
    rig.wait_until("the sessions to end", lambda: proc.connections_to(target.port) == 0, 60)
    time.sleep(5)
    after, files_after = proc.memory_kib(pid), proc.descriptors(pid)
    each = (during - before) / args.sessions
    row(f"memory per idle session, {args.sessions} of them", "≤ 150 KiB", each <= 150, **{"KiB each": round(each, 1)})
    row("process before any of them", "≤ 40 MiB", before <= 40 * 1024, MiB=round(before / 1024, 1))
    row("CPU while all are idle", "none (≤ 0.3%)", cpu_share <= 0.3, percent=round(cpu_share, 2))
    given_back = after <= before + 10 * 1024 and files_after <= files_before + 4
    row("given back after they end", "≤ 10 MiB and 4 descriptors kept", given_back,
        **{"MiB kept": round((after - before) / 1024, 1), "descriptors kept": files_after - files_before})


def kills(gateway: rig.Gateway, target: rig.Sshd, args) -> None:
    """From giving the order (the command line's own start-up included) to the target's socket closed."""
    rows = json.loads(gateway.cli("session", "list", "--json"))
    live = [s["id"] for s in rows if not s["state"].startswith("ended")][: args.kills]
    seen = []
    for one in live:
        wanted = proc.connections_to(target.port) - 1
        start = time.monotonic()
        gateway.cli("session", "kill", one, "--as", "olga", "--reason", "measurement")
        rig.wait_until("the cut", lambda: proc.connections_to(target.port) <= wanted, 20)
        seen.append((time.monotonic() - start) * 1000)
    row(f"kill to socket closed, {args.sessions} sessions", "p99 ≤ 250 ms", percentile(seen, 0.99) <= 250,
        **{"p50 ms": round(median(seen)), "p99 ms": round(percentile(seen, 0.99)), "kills": len(seen)})


def slow(ways: list, args, gateway: rig.Gateway) -> None:
    """A client that reads nothing, and a target that reads nothing, while the other side has gigabytes to say."""
    pid, way = gateway.process.pid, ways[-1]
    for who, command, feeds in (("client", f"head -c {2 * GIB} /dev/zero", False), ("target", "sleep 600", True)):
        before = proc.memory_kib(pid)
        zeros = subprocess.Popen(["head", "-c", str(2 * GIB), "/dev/zero"], stdout=subprocess.PIPE) if feeds else None
        stdin = zeros.stdout if zeros else subprocess.DEVNULL
        process = subprocess.Popen(way.ssh(command), env=way.environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        peak = before
        for _ in range(100):
            time.sleep(0.1)
            peak = max(peak, proc.memory_kib(pid))
        for one in filter(None, (process, zeros)):
            one.kill()
            one.wait()
        grown = (peak - before) / 1024
        row(f"2 GiB against a stalled {who}", "≤ 32 MiB growth", grown <= 32, **{"MiB": round(grown, 1)})
        time.sleep(1)


def stalled(ways: list, args, gateway: rig.Gateway) -> None:
    """Many commands of one connection that never read, while the client has gigabytes for each."""
    pid, count = gateway.process.pid, 30
    before = proc.memory_kib(pid)
    with master(ways[-1], args.folder) as channel, open("/dev/zero", "rb") as zeros:
        processes = [
            subprocess.Popen([*channel, "sleep 600"], env=ways[-1].environment, stdin=zeros, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        peak = before
        for _ in range(100):
            time.sleep(0.1)
            peak = max(peak, proc.memory_kib(pid))
        for one in processes:
            one.kill()
            one.wait()
    row(f"{count} stalled channels of one connection", "≤ 96 MiB growth", (peak - before) / 1024 <= 96, MiB=round((peak - before) / 1024, 1))
    time.sleep(1)


def main() -> int:
    names = ["bulk", "random", "forward", "echo", "setup", "idle", "slow", "kill"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cofferdam", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=names)
    parser.add_argument("--json")
    args = parser.parse_args()
    if unknown := set(args.only) - set(names):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    args.size, args.rounds = (GIB // 8, 3) if args.quick else (GIB, 5)
    args.keys, args.setups, args.sessions, args.kills = (200, 10, 40, 10) if args.quick else (2000, 40, 200, 100)
    args.folder = pathlib.Path(tempfile.mkdtemp(prefix="cofferdam-bench-"))
    args.folder.chmod(0o755)
    source = Source()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, args.folder, ignore_errors=True)
        target, jump = rig.Sshd(args.folder, "target"), rig.Sshd(args.folder, "jump")
        stack.callback(target.close)
        stack.callback(jump.close)
        gateway = rig.set_up_site(args.cofferdam, args.folder, target, source.port)
        stack.callback(gateway.close)
        by_digest = rig.paths(args.folder, target, jump, gateway, "by-digest")
        in_full = rig.paths(args.folder, target, jump, gateway, "in-full")
        usual = rig.paths(args.folder, target, jump, gateway, "usual")
        print("| what | figures | to reach | reached |\n|---|---|---|---|")
        for way in (by_digest[-1], in_full[-1], usual[-1]):
            timed(way.ssh("true"), way, subprocess.DEVNULL)  # gives the code that the rest is remembered by
        if "idle" in args.only or "kill" in args.only:
            idle(usual, args, gateway, target)
        if "bulk" in args.only:
            bulk("aes256-gcm, kept by digest", by_digest, args, "aes256-gcm@openssh.com", None, 0.85, 2.5)
            bulk("chacha20, kept by digest", by_digest, args, "chacha20-poly1305@openssh.com", None, 0.75, 99)
        if "random" in args.only:
            noise = pathlib.Path("/dev/shm" if os.path.isdir("/dev/shm") else args.folder) / f"cofferdam-bench-{os.getpid()}"
            stack.callback(noise.unlink, missing_ok=True)
            with open(noise, "wb") as file:
                for _ in range(args.size >> 20):
                    file.write(os.urandom(1 << 20))
            bulk("random, kept in full", in_full, args, "aes256-gcm@openssh.com", str(noise), 0.65, 5)
        if "forward" in args.only:
            forward(by_digest, args, source.port)
        if "echo" in args.only:
            echo(usual, args)
        if "setup" in args.only:
            setup(usual, args)
            # Before anything is traced, which slows it.
            leases(gateway, args.setups)
            fsyncs(usual, args, gateway)
        if "slow" in args.only:
            slow(usual, args, gateway)
            stalled(usual, args, gateway)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(ROWS, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(r["reached"] is not False for r in ROWS) else 1


sys.exit(main())
