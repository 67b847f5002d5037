"""What /proc says about processes and sockets."""

import os

TICK = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, parent, …"""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents.setdefault(int(_stat(int(name))[1]), []).append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        queue.extend(parents.get(one, []))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the process, its living descendants, and those descendants that were waited for."""
    ticks = 0
    for one in tree(pid):
        try:
            ticks += sum(int(field) for field in _stat(one)[11:15])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / TICK


def memory_kib(pid: int) -> int:
    """Memory of the process and its living descendants: what is theirs alone, and their shares of what several use (the
    program itself, for one)."""
    found = 0
    for one in tree(pid):
        with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as file:
            found += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return found


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def connections_to(port: int) -> int:
    """Established TCP connections of this machine whose far end is `port` on loopback."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(1 for row in rows if row[2] == wanted and row[3] == "01")
