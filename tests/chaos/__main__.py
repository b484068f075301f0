"""A backfill on a distributed Airflow whose parts are killed meanwhile: `make chaos`.

Everything is made below one temporary folder and ends with this process. It exits with 0 only if every task is green,
every task has exactly one run of its own that succeeded, nothing was doubled, lost, stopped or taken from others, and
every task process that was killed is followed by a try that says what it found and did.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from processes import DemoError
from standalone import HttpError

from tests.chaos.deployment import DAG, Deployment, Try, redis_server
from tests.chaos.parts import SETTINGS
from tests.chaos.postgres import postgres
from tests.chaos.troubles import Troubles
from tests.chaos.verdict import Verdict, judge, tally, told
from tests.chaos.workspace import Workspace

if TYPE_CHECKING:
    pass

FIRST = datetime(2025, 6, 1, tzinfo=UTC)
LAST = 0.03
"""The share of tasks that end in peace: the last ones would be hit by everything, and again by the wait for it."""


def say(text: str) -> None:
    print(text, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--executor", choices=["local", "celery"], default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a few tasks, every kind of trouble once")
    parser.add_argument("--keep", action="store_true", help="leave the folder with all logs")
    options = parser.parse_args()
    sizes = (4, 4, 4, 5.0, 900.0) if options.short else (10, 20, 5, 16.0, 5400.0)
    options.jobs, options.dates, options.at_once, options.gap, options.budget = sizes
    return options


def create_backfill(deployment: Deployment, dates: int, at_once: int) -> None:
    """All dates at once, so many dag runs active at a time."""
    last = FIRST + timedelta(days=dates - 1)
    body = {
        "dag_id": DAG,
        "from_date": FIRST.isoformat(),
        "to_date": last.isoformat(),
        "max_active_runs": at_once,
        "reprocess_behavior": "none",
        "run_backwards": False,
        "dag_run_conf": {},
    }
    deployment.rest.backfill(body)


def rage(deployment: Deployment, workspace: Workspace, troubles: Troubles, options: argparse.Namespace) -> float:
    """Make trouble until all tasks are over, or time is; the seconds it took."""
    began = shown = time.monotonic()
    expected = options.jobs * options.dates
    over = 0
    while True:
        elapsed = time.monotonic() - began
        for line in troubles.step(calm=over >= (1 - LAST) * expected):
            say(f"{elapsed:5.0f} s  ! {line}")
        states = Counter(state for state, _ in deployment.states().values())
        over = sum(states[state] for state in ("success", "failed", "upstream_failed"))
        is_over = over == expected
        if is_over or time.monotonic() - shown > 10:
            shown = time.monotonic()
            counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            say(f"{elapsed:5.0f} s  {counts}; troubles {troubles.counts.total()}")
        if is_over or elapsed > options.budget:
            troubles.end()
            return elapsed
        time.sleep(0.5)


def last_words(deployment: Deployment, killed: list[Try]) -> tuple[list[str], list[str]]:
    """For each killed process what the next living try said; and who said nothing."""
    states = deployment.states()
    dead = {(each.run_id, each.task_id, each.number) for each in killed}
    kinds, silent = [], []
    for each in killed:
        state, last = states[each.run_id, each.task_id]
        following = [
            number for number in range(each.number + 1, last + 1) if (each.run_id, each.task_id, number) not in dead
        ]
        if not following and state == "success" and last == each.number:
            say(f"  {each}: its work was done, it was green")
            kinds.append("it was green already")
            continue
        lines = deployment.log(each.run_id, each.task_id, following[0]) if following else []
        found = told(lines)
        if found is None:
            silent.append(f"{each}: {f'try {following[0]} says nothing' if following else 'no later try'}")
            silent += [f"    {line}" for line in lines[-12:]]
            continue
        kinds.append(found[0])
        say(f"  {each}: {found[1][:110]}")
    return kinds, silent


def report(
    options: argparse.Namespace,
    verdict: Verdict,
    troubles: Troubles,
    kinds: list[str],
    requests: dict[str, int],
    seconds: float,
    tries: int,
) -> str:
    """The report that the README shows."""
    asked = sum(requests.values())
    rows = {
        "executor, seed": f"{options.executor}, {options.seed}",
        "tasks": f"{options.jobs} jobs by {options.dates} dates",
        "green": f"{verdict.green} of {verdict.tasks}, in {tries} tries",
        "runs": f"{verdict.executed} executed for tasks, {verdict.succeeded} succeeded; "
        f"{verdict.foreign} of somebody else, {verdict.skipped} refused (SKIPPED)",
        "doubled, lost": f"{len(verdict.doubled)}, {len(verdict.lost)}",
        "adopted of others, stopped": f"{len(verdict.adopted_foreign)}, {len(verdict.stopped)}",
        "troubles": tally(kind for kind, count in troubles.counts.items() for _ in range(count)),
        "killed task processes": f"{len(troubles.killed)}; the next try: {tally(kinds)}",
        "requests to the workspace": f"{asked} ({asked / verdict.tasks:.1f} per task)",
        "time": f"{seconds:.0f} s",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def chaos(options: argparse.Namespace, folder: Path) -> int:
    """Run all of it; the exit status."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres(folder))
        broker = None
        if options.executor == "celery":
            server, broker = redis_server(folder)
            stack.enter_context(server)
        workspace = Workspace(folder, options.jobs)
        stack.callback(workspace.part.close)
        workspace.start()
        deployment = stack.enter_context(Deployment(folder, database, options.executor, options.jobs, broker))
        deployment.start()
        connection = {"conn_type": "cml", "host": workspace.url, "password": workspace.key}
        deployment.rest.post("connections", {"connection_id": "cml_default", **connection})
        say(f"Airflow is up. Settings: {SETTINGS}")
        create_backfill(deployment, options.dates, options.at_once)
        troubles = Troubles(deployment, workspace, options.jobs, options.seed, options.gap, grave=not options.short)
        seconds = rage(deployment, workspace, troubles, options)
        return conclude(options, deployment, workspace, troubles, seconds)


def conclude(
    options: argparse.Namespace, deployment: Deployment, workspace: Workspace, troubles: Troubles, seconds: float
) -> int:
    ledger = workspace.ledger()
    states = deployment.states()
    names = {name: state for name, (state, _) in states.items()}
    verdict = judge(options.jobs * options.dates, names, deployment.returned(), ledger["runs"])
    say("\nkilled task processes, and what the next try said:")
    kinds, silent = last_words(deployment, troubles.killed)
    tries = sum(number for _, number in states.values())
    say("\n" + report(options, verdict, troubles, kinds, ledger["counts"], seconds, tries))
    faults = verdict.faults() + silent
    faults += [f"there was no trouble of the kind {kind!r}" for kind in troubles.missing]
    for (run_id, task_id), (state, number) in states.items():
        if state != "success":
            faults += [f"--- {task_id} of {run_id}: {state}", *deployment.log(run_id, task_id, number)[-15:]]
    say("\n" + ("\n".join(["NOT AS IT MUST BE:", *faults]) if faults else "all as it must be"))
    return 1 if faults else 0


def interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        return chaos(options, folder)
    except (DemoError, HttpError) as error:
        say(f"error: {error}")
        return 1
    finally:
        if options.keep:
            say(f"logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
