"""What the ledger says of every task: which run is whose, which are too many, which are missing.

The law: the ledger is believed, not Airflow: a run belongs to the task whose key stands in its environment.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey, same_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Record: TypeAlias = dict[str, Any]
Name: TypeAlias = tuple[str, str]
"""A task instance: run id and task id."""

SAID = {
    "carried on with the run": re.compile(r"Carrying on with run \S+, started by try \d+"),
    "found that the run had succeeded": re.compile(r"Run \S+, started by try \d+, succeeded meanwhile"),
    "found the run of a lost answer": re.compile(r"Run \S+ is this try's own: its start took effect"),
    "found none, waited, started": re.compile(r"Waiting \d+ s: a start of the earlier try may still be on its way"),
    "found none, started": re.compile(r"Run \S+ is (scheduling|starting|running|unknown)\b"),
    "found the job busy": re.compile(r"Waiting(:| in the triggerer:) "),
}
"""What a try may say that it found and did, the most telling first."""


def told(lines: Iterable[str]) -> tuple[str, str] | None:
    """What a try said that it found and did, in our words and in its own."""
    known = list(lines)
    for kind, words in SAID.items():
        for line in known:
            if words.match(line):
                return kind, line
    return None


@dataclass
class Verdict:
    """The outcome of a chaos."""

    tasks: int
    green: int
    executed: int
    succeeded: int
    foreign: int
    skipped: int
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    adopted_foreign: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """All that must not be."""
        found = [*self.red, *self.doubled, *self.lost, *self.adopted_foreign, *self.stopped]
        if self.succeeded != self.tasks:
            found.append(f"{self.succeeded} succeeded runs of {self.tasks} tasks' own")
        return found


def judge(expected: int, states: Mapping[Name, str], returned: Mapping[Name, Any], runs: list[Record]) -> Verdict:
    """Hold what Airflow believes against what the workspace did.

    :param expected: how many task instances there must be.
    :param states: of all task instances.
    :param returned: the run id each task returned.
    :param runs: the ledger's, in order of their creation.
    """
    executed = [run for run in runs if run["executed"]]
    own: dict[Name, list[tuple[RunKey, Record]]] = defaultdict(list)
    for run in executed:
        key = RunKey.parse(run["environment"].get(RUN_KEY_VARIABLE))
        if key is not None:
            own[key.run_id, key.task_id].append((key, run))
    green = {name for name, state in states.items() if state == "success"}
    ours = [run for pairs in own.values() for _, run in pairs]
    verdict = Verdict(
        expected,
        len(green),
        len(ours),
        sum(run["status"] == "ENGINE_SUCCEEDED" for run in ours),
        len(executed) - len(ours),
        len(runs) - len(executed),
    )
    if len(states) != expected:
        verdict.red.append(f"{len(states)} task instances instead of {expected}")
    verdict.red += [f"{_name(name)} is {states[name]}" for name in states if name not in green]
    for name, pairs in own.items():
        verdict.doubled += [
            f"{_name(name)}: runs {one['id']} and {other['id']} {how}"
            for (key, one), (later, other) in itertools.combinations(pairs, 2)
            if same_series(key, later) and (how := _is_double(one, other))
        ]
    by_id = {run["id"]: run for run in runs}
    for name in sorted(green):
        run = by_id.get(str(returned.get(name)))
        mine = [mine["id"] for _, mine in own[name]]
        if run is None:
            verdict.lost.append(f"{_name(name)} is green without a run ({returned.get(name)!r})")
        elif run["id"] not in mine:
            verdict.adopted_foreign.append(f"{_name(name)} took run {run['id']}, which is not its own")
        elif run["status"] != "ENGINE_SUCCEEDED":
            verdict.lost.append(f"{_name(name)} is green and its run {run['id']} is {run['status']}")
    claimed = {str(value) for value in returned.values()}
    verdict.lost += [
        f"run {run['id']} of {run['job']} is {run['status']}, and nobody knows it"
        for run in ours
        if run["id"] not in claimed or run["finished_at"] is None
    ]
    verdict.stopped += [f"run {run['id']} of {run['job']} was asked to stop" for run in runs if run["stop_requests"]]
    return verdict


def _is_double(one: Record, other: Record) -> str:
    if one["finished_at"] is None or one["finished_at"] > other["created_at"]:
        return "were active at once"
    if one["status"] == other["status"] == "ENGINE_SUCCEEDED":
        return "both succeeded"
    return ""


def _name(name: Name) -> str:
    return f"{name[1]} of {name[0].removeprefix('backfill__')[:10]}"


def tally(words: Iterable[str]) -> str:
    """`3 a, 1 b`, the most frequent first."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common()) or "none"
