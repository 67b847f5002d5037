"""Measures desktops, and prints one table. Started by `run`, which builds first."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.with_name("ssh")))
import proc  # noqa: E402
import rig  # noqa: E402
from desktops import Gnome, Screen, Seat, Shadow, Target, Way, Xrdp, direct, end, over_a_hop  # noqa: E402
from gateway import Gateway  # noqa: E402
from table import ROWS, median, percentile, row  # noqa: E402

DICE = random.Random(1)
# What an administrator types; nothing in it needs the shift key.
COMMANDS = ("ls -la /etc", "df -h", "cat /etc/services", "ps", "ls -la /usr/lib", "date", "cat /etc/fstab", "ls /bin")


def in_turns(ways: list[Way], rounds: int):
    """Each way in each round, first this one, then the other."""
    for turn in range(rounds):
        yield from ways if turn % 2 == 0 else reversed(ways)


def uncertainty(base: list[float], through: list[float]) -> float:
    """Standard error of the difference of two medians, by drawing anew from what was seen."""
    drawn = [median(DICE.choices(through, k=len(through))) - median(DICE.choices(base, k=len(base))) for _ in range(200)]
    return statistics.stdev(drawn)


def keys(target: Target, ways: list[Way], gateway: Gateway, screen: Screen, args, at_rest: bool = True) -> None:
    """Key to pixel with nothing else on the screen (`at_rest`) and under a window that moves, and what it costs."""
    idle, loaded = ({way.name: [] for way in ways} for _ in range(2))
    cpu = []
    for way in in_turns(ways, args.rounds):
        with Seat(way, target, screen) as seat:
            if at_rest:
                idle[way.name] += seat.keys(args.keys, DICE)
            with target.screen.moving():
                seat.eyes.rest(1)
                begin, before = time.monotonic(), gateway.cpu_seconds()
                loaded[way.name] += seat.keys(args.keys, DICE)
                if way.name != "direct":
                    cpu.append((gateway.cpu_seconds() - before) / (time.monotonic() - begin) * 100)
    for what, seen in [("nothing else moves", idle)] * at_rest + [("under a moving window", loaded)]:
        base, through = seen["direct"], seen["cofferdam"]
        added = {share: percentile(through, share) - percentile(base, share) for share in (0.5, 0.95)}
        wanted = target.graphics == "bitmaps"
        row(f"key to pixel, {target.name}, {what}", "p50 ≤ 1.5 ms more" if wanted else "none", added[0.5] <= 1.5 if wanted else None,
            **{"direct p50 ms": round(median(base), 1), "p95 ms": round(percentile(base, 0.95), 1),
               "added p50 ms": f"{added[0.5]:.2f} ± {uncertainty(base, through):.2f}", "p95 ms more": round(added[0.95], 2),
               "keys each way": len(base)})
    share = median(cpu)
    row(f"CPU, {target.name}, moving window, recorded", "≤ 8 % of a core" if target.security == "tls" else "none",
        share <= 8 if target.security == "tls" else None, percent=round(share, 1), most=round(max(cpu), 1))


def connecting(target: Target, ways: list[Way], screen: Screen, args) -> None:
    """From the client's start to the first pixel of the desktop."""
    ways = [ways[0], over_a_hop(), ways[1]]
    took = {way.name: [] for way in ways}
    for way in in_turns(ways, args.connections):
        with Seat(way, target, screen) as seat:
            took[way.name].append(seat.connected)
    base, hop, through = (median(seen) for seen in took.values())
    row(f"connecting to first frame, {target.name}", "≤ 250 ms more than over a hop", through - hop <= 250,
        **{"direct ms": round(base), "over a hop ms": round(hop), "cofferdam ms": round(through), "added ms": round(through - hop),
           "connections each way": args.connections})


def type_as_administrator(screen: Screen, seconds: float) -> None:
    """Commands typed by hand, each read for some seconds."""
    begin, number = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        for words in (["type", "--delay", "120", COMMANDS[number % len(COMMANDS)]], ["key", "Return"]):
            subprocess.run(["xdotool", *words], check=True, env={"DISPLAY": screen.display}, timeout=60)
        number += 1
        time.sleep(DICE.uniform(5, 15))


def size(target: Target, gateway: Gateway, screen: Screen, args) -> None:
    """What recordings of an administrator at a terminal and of a moving window take."""
    with Seat(gateway.way(), target, screen):
        begin = time.monotonic()
        terminal = target.screen.show("xterm", "-geometry", "80x24+240+20", "-e", "sh")
        time.sleep(1)
        target.screen.focus("xterm")
        type_as_administrator(screen, args.terminal)
        took = time.monotonic() - begin
    end(terminal)
    hour = gateway.last_recording() * 3600 / took / 1e6
    row("recording of an administrator's hour at a terminal", "≤ 3 MB", hour <= 3, MB=round(hour, 2), **{"seconds recorded": round(took)})
    with Seat(gateway.way(), target, screen) as seat, target.screen.moving():
        seat.eyes.rest(args.window)
    minute = gateway.last_recording() * 60 / args.window / 1e6
    row("recording of a minute of a moving window", "≤ 6 MB", minute <= 6, MB=round(minute, 2), **{"seconds recorded": args.window})


@contextlib.contextmanager
def crowd(way: Way, target: Target, screen: Screen, count: int, dimensions: str):
    """That many clients at one target."""
    port = target.port
    clients = []
    try:
        for _ in range(count):
            clients.append(screen.show(*way.client(target, dimensions)))
            rig.wait_until("a desktop of the crowd", lambda: proc.connections_to(port) >= len(clients), 30)
        time.sleep(5)
        if left := [client for client in clients if client.poll() is not None]:
            raise RuntimeError(f"{way.name} to {target.name}: {len(left)} of the crowd have left")
        yield
    finally:
        for client in clients:
            end(client)
        rig.wait_until("the crowd to leave", lambda: proc.connections_to(port) == 0, 60)


def probe(way: Way, target: Target, screen: Screen, args) -> list[float]:
    """Key to pixel of one session."""
    seen = []
    for _ in range(args.probes):
        with Seat(way, target, screen) as seat:
            seen += seat.keys(args.keys, DICE)
    return seen


def busy_cores(seconds: float) -> float:
    """How many of the machine's cores are at work."""
    def look() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    begin = look()
    time.sleep(seconds)
    total, free = (after - before for before, after in zip(begin, look()))
    return (1 - free / total) * os.cpu_count()


def many(target: Target, quiet: Target, lively: Target, ways: list[Way], gateway: Gateway, screen: Screen, args) -> None:
    """One session alone, and among a crowd that takes the same way: what the others' clients and targets cost shows on the
    direct way. Memory and CPU are the gateway's, which is the last."""
    slower, figures = {}, {}
    for way in ways:
        alone = probe(way, target, screen, args)
        before = gateway.resident_kib()
        with contextlib.ExitStack() as stack:
            hall = Screen.xvfb(args.folder, f"hall-{way.name}")
            stack.callback(hall.close)
            stack.enter_context(crowd(way, quiet, hall, args.idle, "1280x800"))
            each = (gateway.resident_kib() - before) / args.idle / 1024
            stack.enter_context(lively.screen.moving(240, 180))
            stack.enter_context(crowd(way, lively, hall, args.busy, "640x480"))
            both = (gateway.resident_kib() - before) / (args.idle + args.busy) / 1024
            cpu, begin = gateway.cpu_seconds(), time.monotonic()
            cores = busy_cores(10)
            share = (gateway.cpu_seconds() - cpu) / (time.monotonic() - begin) * 100
            among = probe(way, target, screen, args)
        slower[way.name] = median(among) - median(alone)
        figures |= {
            f"{way.name} alone p50 ms": round(median(alone), 1), f"{way.name} among them p50 ms": round(median(among), 1),
            f"{way.name} machine's busy cores": round(cores, 2),
        }
    row(f"one of {args.idle} idle and {args.busy} busy desktops, slowed", "p50 ≤ 10 ms", slower["cofferdam"] <= 10,
        **{"slowed ms": round(slower["cofferdam"], 1), "slowed without the gateway ms": round(slower["direct"], 1)}, **figures)
    row(f"memory of an idle desktop, {args.idle} of them at 1280x800", "≤ 12 MiB", each <= 12,
        **{"MiB each": round(each, 2), "with the busy ones at 640x480": round(both, 2)})
    row(f"CPU of the gateway, {args.idle} idle and {args.busy} busy at 640x480", "none", None, percent=round(share, 1))


def main() -> int:
    names = ["keys", "connect", "size", "crowd", "pipeline"]
    # Only where it is asked for: so many keys that a difference of a millisecond shows.
    alone = ["moving"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cofferdam", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="log-ins of each way for keys and connecting")
    parser.add_argument("--crowd", metavar="IDLE,BUSY", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--only", type=lambda text: text.split(","), default=names)
    parser.add_argument("--json")
    args = parser.parse_args()
    if unknown := set(args.only) - {*names, *alone}:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    rounds, args.keys, args.probes = (2, 20, 1) if args.quick else (8, 40, 3)
    args.rounds = args.rounds or rounds
    args.connections = 3 if args.quick else 8
    args.terminal, args.window = (30, 15) if args.quick else (300, 60)
    args.idle, args.busy = args.crowd or ((6, 2) if args.quick else (50, 10))
    args.folder = pathlib.Path(tempfile.mkdtemp(prefix="cofferdam-bench-"))
    args.folder.chmod(0o755)
    # Told to stop, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, args.folder, ignore_errors=True)

        def opened(made):
            stack.callback(made.close)
            return made

        xrdp, shadow = opened(Xrdp(args.folder, "xrdp")), opened(Shadow(args.folder, "shadow"))
        gnome = opened(Gnome(args.folder, "gnome"))
        quiet, lively = opened(Xrdp(args.folder, "quiet")), opened(Xrdp(args.folder, "lively", "640x480"))
        screen = opened(Screen.xvfb(args.folder, "person"))
        for target in (xrdp, shadow, gnome):
            target.screen.scene("keys")
        gateway = opened(Gateway(args.cofferdam, args.folder, [xrdp, shadow, gnome, quiet, lively]))
        ways = [direct(), gateway.way()]
        print("| what | figures | to reach | reached |\n|---|---|---|---|")
        if "keys" in args.only:
            keys(xrdp, ways, gateway, screen, args)
            keys(shadow, ways, gateway, screen, args)
        if "moving" in args.only:
            args.keys = 100
            keys(xrdp, ways, gateway, screen, args, at_rest=False)
        if "pipeline" in args.only:
            keys(gnome, ways, gateway, screen, args)
        if "connect" in args.only:
            connecting(xrdp, ways, screen, args)
            connecting(shadow, ways, screen, args)
        if "size" in args.only:
            size(xrdp, gateway, screen, args)
        if "crowd" in args.only:
            many(xrdp, quiet, lively, ways, gateway, screen, args)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(ROWS, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(r["reached"] is not False for r in ROWS) else 1


sys.exit(main())
