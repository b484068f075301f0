"""A month of dates at once: every date runs, one at a time, without storming CML or holding a worker."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil

from airflow_provider_cml.emulator import Life
from tests.airflow.backfills import create_backfill
from tests.airflow.conftest import SCENARIO
from tests.airflow.deployment import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment

pytestmark = SCENARIO

FIRST, DATES, AT_ONCE = datetime(2025, 6, 1, tzinfo=UTC), 30, 16
BUDGET = 900.0
"""Seconds for all of it: a bound for slow machines."""
LONGEST_PROCESS = 20.0
TASK_PROCESS = re.compile(r"airflow worker -- [0-9a-f-]{36}\s*")


def test_backfill_of_thirty_dates(
    airflow: Deployment, cml: Emulator, declare: Callable[..., Job], say: Callable[[str], None]
) -> None:
    """30 of 30 green, each date run once with its own days, few refusals and requests, no worker held while waiting."""
    job = declare("daily report", Life(running=3.0))
    before = Counter(cml.ledger.counts())
    begin = time.monotonic()
    create_backfill(airflow, "daily", FIRST, DATES, "--max-active-runs", str(AT_ONCE))
    ages = watch(airflow, say, begin)

    instances = airflow.get("dags/daily/dagRuns/~/taskInstances?limit=100")["task_instances"]
    assert Counter(ti["state"] for ti in instances) == {"success": DATES}, Counter(ti["state"] for ti in instances)
    runs, executed = cml.ledger.runs(job.id), cml.ledger.executed(job.id)
    days = [FIRST + timedelta(days=number) for number in range(DATES)]
    expected = [(day.date().isoformat(), (day + timedelta(days=1)).date().isoformat()) for day in days]
    assert sorted((run.environment["START_DATE"], run.environment["END_DATE"]) for run in executed) == expected
    assert {run.status for run in executed} == {"ENGINE_SUCCEEDED"}

    requests = Counter(cml.ledger.counts()) - before
    skipped = len(runs) - len(executed)
    gaps = [later.created_at - earlier.finished_at for earlier, later in itertools.pairwise(executed)]
    starts = list(own_starts(airflow))
    say(
        f"backfill: {DATES} dates in {time.monotonic() - begin:.0f} s; "
        f"from one run's end to the next one's start {told(gaps)}; "
        f"Airflow's own time from an event to its task {told(starts)}; "
        f"skipped runs {skipped}, requests per run {requests.total() / DATES:.1f} {dict(requests)}, "
        f"oldest of {len(ages)} task processes {max(ages):.0f} s\n"
    )
    assert min(gaps) >= 0
    assert skipped <= 6
    assert requests.total() <= 20 * DATES
    assert max(ages) <= LONGEST_PROCESS


def watch(airflow: Deployment, say: Callable[[str], None], begin: float) -> list[float]:
    """Tell how it goes until all is over; returns the greatest age in which each task process was seen."""
    ages: dict[int, float] = {}
    asked_at = told_at = -60.0
    while True:
        airflow.process.check()
        for process in psutil.Process(airflow.process.popen.pid).children(recursive=True):
            if TASK_PROCESS.fullmatch(" ".join(words_of(process))):
                ages[process.pid] = max(ages.get(process.pid, 0.0), time.time() - process.create_time())
        elapsed = time.monotonic() - begin
        if elapsed > asked_at + 5:
            asked_at = elapsed
            runs = airflow.get("dags/daily/dagRuns?limit=100")["dag_runs"]
            tasks = airflow.get("dags/daily/dagRuns/~/taskInstances?limit=100")["task_instances"]
            states = Counter(ti["state"] or "to come" for ti in tasks)
            is_over = len(runs) == DATES and all(run["state"] in {"success", "failed"} for run in runs)
            if is_over or elapsed > told_at + 15:
                told_at = elapsed
                say(f"backfill: {elapsed:4.0f} s  " + ", ".join(f"{states[state]} {state}" for state in sorted(states)))
            if is_over:
                return list(ages.values())
        assert elapsed < BUDGET, "the backfill is not over"
        time.sleep(0.5)


def own_starts(airflow: Deployment) -> Iterator[float]:
    """Seconds from each event of a trigger to the first line of the task it woke."""
    for folder in (airflow.home / "logs" / "dag_id=daily").glob("*/task_id=report"):
        moments = []
        for file in folder.glob("attempt=*.log*"):
            for line in file.read_text(errors="replace").splitlines():
                entry = json.loads(line)
                if entry["event"] in {"Trigger fired event", "::group::Pre Execute"}:
                    moments.append((datetime.fromisoformat(entry["timestamp"]), entry["event"]))
        for (fired, event), (woken, then) in itertools.pairwise(sorted(moments)):
            if event != then and event == "Trigger fired event":
                yield (woken - fired).total_seconds()


def told(seconds: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(seconds):.1f} s (worst {max(seconds):.1f} s)"
