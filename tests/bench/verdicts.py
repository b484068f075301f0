"""What was measured, what it should be at most, and whether it is.

The law: only arithmetic; nothing here measures, and a target is named once.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS, BARE, DATABRICKS, DBT = "cml", "bare", "databricks", "dbt"
NAMES = {OURS: "this provider", BARE: "bare aiohttp loop", DATABRICKS: "Databricks", DBT: "dbt Cloud"}

CPU_OF_BARE = 1.25
CPU_OF_DATABRICKS = 0.6
CONNECTIONS = 20
BYTES = 24 * 1024
LAG_OF_BARE = 3.0
STEADY = 1.25
DELAY_SHARE, DELAY_MORE = 0.06, 1.0

Found = dict[str, dict[str, list[dict[str, Any]]]]
"""By measurement and client: what each run of it found."""


@dataclass(frozen=True)
class Verdict:
    """One target: what was found, and what it may be at most."""

    what: str
    found: float
    bound: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether what was found is within the bound."""
        return self.found <= self.bound


def middle(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    """The median of one number over several runs."""
    return float(median(run[name] for run in runs))


def ratio(found: Found, measurement: str, name: str, over: str) -> float:
    """Ours over another's: the median over the rounds, each of which ran both one after the other."""
    pairs = zip(found[measurement][OURS], found[measurement][over], strict=True)
    return float(median(ours[name] / theirs[name] for ours, theirs in pairs))


def per_thousand(cpu: float, requests: int) -> float:
    """Milliseconds of CPU per 1,000 requests."""
    return cpu * 1e6 / requests if requests else float("nan")


def busiest(by_second: Sequence[int], begin: int, end: int, width: int = 5) -> float:
    """Requests in the busiest `width` seconds between two seconds, over what so many seconds have on average."""
    window = by_second[begin:end]
    most = max(sum(window[at : at + width]) for at in range(len(window) - width + 1))
    return most / (mean(window) * width)


def verdicts(found: Found, interval: float, count: int) -> list[Verdict]:
    """All targets. `interval` and `count` are those of the crowd."""
    polling, crowd = found["polling"][OURS], found["crowd"][OURS]
    told = min(run["told"] for run in crowd)
    delays = found["delays in virtual time"][OURS][0]["mean"]
    errors = sum(run["errors"] for runs in found.values() for run in runs.get(OURS, []) if "errors" in run)
    worst_share = max((delay - DELAY_MORE) / float(length) for length, delay in delays.items())
    return [
        Verdict(
            "CPU per 1,000 polls, of the bare loop's", ratio(found, "polling", "cpu_per_thousand", BARE), CPU_OF_BARE
        ),
        Verdict(
            "CPU per 1,000 polls, of Databricks'",
            ratio(found, "polling", "cpu_per_thousand", DATABRICKS),
            CPU_OF_DATABRICKS,
        ),
        Verdict("connections, 300 runs", max(run["most_open"] for run in polling), CONNECTIONS),
        Verdict("connections, crowd", max(run["most_open"] for run in crowd), CONNECTIONS),
        Verdict("memory per trigger", middle(found["memory"][OURS], "bytes") / 1024, BYTES / 1024, "KiB"),
        Verdict("errors", errors, 0),
        Verdict(
            f"worst loop lag of {count:,} triggers, of the bare loop's",
            ratio(found, "crowd", "worst_lag", BARE),
            LAG_OF_BARE,
        ),
        Verdict(f"events of {count:,} that did not come", count - told, 0),
        Verdict("busiest 5 s of the crowd, of the mean", middle(crowd, "busiest"), STEADY),
        Verdict("mean delay less 1 s, of the run's length", worst_share, DELAY_SHARE),
        Verdict("longest mean delay", max(delays.values()), interval / 2 + DELAY_MORE, "s"),
        Verdict(
            "callbacks over 10 ms, 1,000 triggers, more than bare's",
            max(middle(found["bursts"][OURS], "bursts") - middle(found["bursts"][BARE], "bursts"), 0),
            0,
        ),
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def verdict_table(found: Sequence[Verdict]) -> str:
    """The targets, and whether they hold."""
    rows = [["target", "found", "at most", "holds"]]
    for verdict in found:
        unit = f" {verdict.unit}" if verdict.unit else ""
        word = "yes" if verdict.holds else "NO"
        rows.append([verdict.what, f"{verdict.found:.3g}{unit}", f"{verdict.bound:.3g}{unit}", word])
    return table(rows)


def comparison(found: Found) -> str:
    """What was measured of whom; a dash where it was not."""
    lines = [
        ("CPU per 1,000 polls, ms", "polling", "cpu_per_thousand", 1.0, 0),
        ("connections, 300 runs each second", "polling", "most_open", 1.0, 0),
        ("connections opened in 10 s of it", "polling", "opened", 1.0, 0),
        ("requests of 300 runs in a second", "polling", "rate", 1.0, 0),
        ("worst loop lag of it, ms", "polling", "worst_lag", 1000.0, 0),
        ("memory per trigger, KiB", "memory", "bytes", 1 / 1024, 1),
        ("crowd: worst loop lag, ms", "crowd", "worst_lag", 1000.0, 0),
        ("crowd: CPU, s", "crowd", "cpu", 1.0, 1),
        ("crowd: busiest 5 s, of the mean", "crowd", "busiest", 1.0, 2),
        ("callbacks over 10 ms, 1,000 triggers", "bursts", "bursts", 1.0, 0),
        ("start: time to the POST, ms", "start", "seconds", 1000.0, 1),
        ("start: CPU to the POST, ms", "start", "cpu", 1000.0, 1),
        ("import of the operator, CPU ms", "import", "cpu", 1000.0, 0),
    ]
    rows = [["", *NAMES.values()]]
    for title, measurement, name, factor, digits in lines:
        runs = found.get(measurement, {})
        rows.append(
            [title, *(f"{middle(runs[who], name) * factor:.{digits}f}" if runs.get(who) else "-" for who in NAMES)]
        )
    for kind in ("delays in virtual time", "delays in real time"):
        means = {who: runs[0]["mean"] for who, runs in found.get(kind, {}).items()}
        for length in means.get(OURS, {}):
            cells = (f"{means[who][length]:.1f}" if who in means else "-" for who in NAMES)
            rows.append([f"{kind}: run of {length} s, mean s", *cells])
    return table(rows)
