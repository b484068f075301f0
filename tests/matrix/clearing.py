"""The clear scenarios of a row: one start of Airflow, all tasks at once, judged by the emulator's ledger.

The law: a scenario expects what the README says, of every version the same.
"""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from tests.matrix.deployments import deployed
from tests.matrix.trying import connections, environment_of

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_cml.emulator import Job
    from airflow_provider_cml.emulator.ledger import RunRecord
    from tests.airflow.deployment import DagRun, Deployment, Task
    from tests.matrix.rows import Row

UNTIL_TOLD = Life(running=None)
DATE = "2026-11-20"
ENDED = {"succeeded": "ENGINE_SUCCEEDED", "failed": "ENGINE_FAILED"}
RUNNING = ("running", "running_last", "running_unstopped")
"""With a retry left; with none; and with a retry left and a worker that does not stop the run."""
UNSTOPPED = "running_unstopped"
"""To 2.11 its clear is a retry; 3.1 and newer count it as a clear if its worker went quietly (max_tries)."""
STUCK = "3.0"
"""Leaves a task cleared while it ran in `restarting` for ever (apache/airflow#55045); cleared once more, it runs."""
NAMES = (*ENDED, "deferred", *RUNNING)


@dataclass
class Scenarios:
    """The scenarios of one row, and what they found."""

    cml: Emulator
    jobs: dict[str, Job]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def runs(self, name: str) -> list[RunRecord]:
        return self.cml.ledger.executed(self.jobs[name].id)

    def expect(self, what: str, *, holds: bool) -> None:
        if not holds:
            self.faults.append(what)

    # ---------------------------------------------------------------- clear

    def start(self, dag_run: DagRun) -> None:
        """Bring every task to where it is cleared."""
        for name in NAMES:
            task = dag_run.task(name)
            task.wait_until(lambda name=name: len(self.runs(name)) == 1, f"the run of {name}")
        for name in ENDED:
            self.cml.workspace.set_status(self.runs(name)[0].id, name)
        dag_run.task("succeeded").wait_for("success")
        dag_run.task("failed").wait_for("failed")
        dag_run.task("deferred").wait_for("deferred")
        for name in RUNNING:
            task = dag_run.task(name)
            task.wait_until(lambda task=task: "run_url" in task.xcoms(), f"{name} waits")

    def clear(self, dag_run: DagRun, row: Row) -> None:
        """Clear them all at once, and let whatever they run now succeed."""
        tasks = {name: dag_run.task(name) for name in NAMES}
        before = {name: _tries(task) for name, task in tasks.items()}
        first = {name: self.runs(name)[0].id for name in NAMES}
        dag_run.clear(*NAMES)
        if row.series == STUCK:
            self._clear_again(dag_run)
        unstopped = tasks[UNSTOPPED]
        carried_on, waiting = f"Carrying on with run {first[UNSTOPPED]}", f"Waiting: run {first[UNSTOPPED]}"
        unstopped.wait_until(lambda: _says(unstopped, carried_on) or _says(unstopped, waiting), carried_on)
        self.cml.workspace.set_status(first[UNSTOPPED], "succeeded")
        for name, task in tasks.items():
            if name != UNSTOPPED or _says(unstopped, waiting):
                task.wait_until(lambda name=name: len(self.runs(name)) > 1, f"the second run of {name}")
                self.cml.workspace.set_status(self.runs(name)[-1].id, "succeeded")
        dag_run.wait_for_success()
        for name, task in tasks.items():
            self.notes.append(f"{name}: tries {before[name]} before the clear, {_tries(task)} after")
            self._judge(name, task, is_retry=name == UNSTOPPED and not _says(unstopped, waiting))

    def _clear_again(self, dag_run: DagRun) -> None:
        for name in RUNNING:
            task = dag_run.task(name)
            task.wait_until(lambda task=task: _says(task, "Task killed!"), f"the end of the worker of {name}")
            self.expect(f"{name} is {task.state()}, not restarting", holds=task.state() == "restarting")
        dag_run.clear(*RUNNING)

    def _judge(self, name: str, task: Task, *, is_retry: bool) -> None:
        old, *new = runs = self.runs(name)
        told = f"{name}: {[(run.status, run.stop_requests) for run in runs]}"
        self.notes.append(told)
        end, stops = (
            ("ENGINE_SUCCEEDED", 0) if name == UNSTOPPED else (ENDED.get(name, "ENGINE_STOPPED"), name not in ENDED)
        )
        self.expect(f"{told}, the old one", holds=(old.status, old.stop_requests) == (end, stops))
        wanted = [] if is_retry else ["ENGINE_SUCCEEDED"]
        self.expect(f"{told}, not {len(wanted)} new", holds=[run.status for run in new] == wanted)
        if new:
            self.expect(f"{told}, side by side", holds=(old.finished_at or 0) <= new[0].created_at)
            self.expect(f"{told}, returned", holds=task.xcoms().get("return_value") == new[-1].id)

    # ---------------------------------------------------------------- the same id again

    def make_again(self, airflow: Deployment) -> None:
        """Delete a dag run and create it again under its id."""
        for _ in range(2):
            dag_run = airflow.trigger("again", "same", f"{DATE}T00:00:00Z")
            dag_run.wait_for_success()
            dag_run.delete()
        self._expect_two("again")

    def test_twice(self, row: Row, home: Path, dags: Path) -> None:
        """`airflow dags test` with one date, twice."""
        environment = environment_of(row, home, dags, [0, 0, 0]) | connections(self.cml)
        with (row.folder / "dags-test.log").open("wb") as log:
            for _ in range(2):
                command = [str(row.executable), "-m", "airflow", "dags", "test", "twice", DATE]
                done = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=300, check=False)
                self.expect(f"dags test ended with {done.returncode}, see {log.name}", holds=done.returncode == 0)
        self._expect_two("twice")

    def _expect_two(self, name: str) -> None:
        states = [run.status for run in self.runs(name)]
        self.expect(f"{name}: the runs are {states}", holds=states == ["ENGINE_SUCCEEDED"] * 2)


def _tries(task: Task) -> str:
    record = task.record()
    return f"{record['try_number']} of {record['max_tries'] + 1}"


def _says(task: Task, text: str) -> bool:
    return any(text in line for line in task.log())


def clear_scenarios(row: Row, stage: Path) -> tuple[list[str], list[str]]:
    """What is not as the README says, and notes of what was seen. `dags test` uses the database of the probe."""
    dags, home = stage / "tests" / "matrix" / "dags", row.folder / "deployment"
    shutil.rmtree(home, ignore_errors=True)
    with Emulator(Workspace(stopping=1.0)) as cml, ThreadPoolExecutor(1) as beside:
        project = cml.workspace.add_project("alice", "Risk Analysis")
        lives = {f"cleared {name}": UNTIL_TOLD for name in NAMES}
        lives |= dict.fromkeys(("again sync", "twice sync"), Life(running=1.0))
        jobs = {name: cml.workspace.add_job(project, name, life=life) for name, life in lives.items()}
        short = {name.removeprefix("cleared ").removesuffix(" sync"): job for name, job in jobs.items()}
        found = Scenarios(cml, short)
        tested = beside.submit(found.test_twice, row, row.folder / "home", dags)
        with deployed(row, home, dags, connections(cml)) as airflow:
            dag_run = airflow.trigger("cleared", "one")
            found.start(dag_run)
            found.clear(dag_run, row)
            found.make_again(airflow)
        tested.result()
    return found.faults, found.notes
