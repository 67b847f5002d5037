"""The table that a measurement prints: one row for each figure that is to be reached."""

import statistics

ROWS: list[dict] = []


def row(what: str, target: str, good: bool | None, **figures) -> None:
    """Adds a row to the table and shows it at once, since a whole run takes minutes."""
    ROWS.append({"what": what, "to reach": target, "reached": good, **figures})
    shown = "; ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
    mark = {True: "yes", False: "NO", None: "-"}[good]
    print(f"| {what} | {shown} | {target} | {mark} |", flush=True)


def median(values) -> float:
    return statistics.median(values)


def percentile(values, share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
