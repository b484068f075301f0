"""The one Airflow of all scenarios: what is started in it, what it says about it, and its processes.

The law: whoever waits says for what and how long, and when it does not come, sees the task's logs.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import psutil
from processes import DemoError, Process, running, wait_until
from results import readable
from standalone import Airflow, HttpError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OVER = {"success", "failed", "skipped", "upstream_failed", "removed"}
PATIENCE = 240.0
"""Seconds a scenario waits for its next step: a bound for slow machines, not an expectation."""


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none if it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@dataclass(frozen=True, slots=True)
class Standalone(Process):
    """An `airflow standalone`: it lives on when its scheduler has ended, and then nothing ever happens."""

    def check(self) -> None:
        Process.check(self)
        if not any("scheduler" in words_of(child) for child in psutil.Process(self.popen.pid).children()):
            told = [line for line in self.output().splitlines() if line.startswith("scheduler")]
            raise DemoError("\n".join(["the scheduler has ended:", *told[-80:]]))


class Deployment(Airflow):
    """A running `airflow standalone`, with its home and its processes."""

    def __init__(self, port: int, home: Path, environment: dict[str, str], process: Process) -> None:
        super().__init__(port)
        self.home = home
        self.environment = environment
        self.process = process
        self.triggerers: list[Triggerer] = []
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """End what was started beside `airflow standalone`."""
        for triggerer in self.triggerers:
            triggerer.thaw()
        self._stack.close()

    def get(self, path: str) -> Any:
        """Ask; once more where the server could not answer in time, or found SQLite locked."""
        for _ in range(5):
            try:
                return super().get(path)
            except TimeoutError:
                continue
            except HttpError as error:
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
            time.sleep(1)
        return super().get(path)

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Look every second until the condition holds."""
        wait_until(condition, what, seconds, self.process)

    def trigger(self, dag_id: str, run_id: str, logical_date: str | None = None) -> DagRun:
        """Start a dag run."""
        self.post(f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": logical_date})
        return DagRun(self, dag_id, run_id)

    def end_dag_runs(self) -> None:
        """Mark failed what is not over; Airflow ends its tasks, and these their runs."""
        for run in self.get("dags/~/dagRuns?state=running&state=queued&limit=100")["dag_runs"]:
            self.patch(f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}", {"state": "failed"})

    # ---------------------------------------------------------------- triggerers

    def triggerer_jobs(self) -> set[int]:
        """The ids of all triggerers that ever reported."""
        return {job["id"] for job in self.get("jobs?job_type=TriggererJob&limit=100")["jobs"]}

    def adopt_parts(self) -> None:
        """Know the triggerer that `airflow standalone` started, and from now on expect its scheduler to live."""
        self.process = Standalone(self.process.popen, self.process.log)
        (job,) = self.triggerer_jobs()
        (root,) = [
            child for child in psutil.Process(self.process.popen.pid).children() if "triggerer" in words_of(child)
        ]
        self.triggerers = [Triggerer(job, root)]

    def start_triggerer(self) -> Triggerer:
        """Start one more; it is there once it has reported."""
        before = self.triggerer_jobs()
        command = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
        log = self.home.parent / f"triggerer-{len(before)}.log"
        process = self._stack.enter_context(running(command, self.environment, log))
        wait_until(lambda: self.triggerer_jobs() > before, "another triggerer", PATIENCE, process)
        (job,) = self.triggerer_jobs() - before
        triggerer = Triggerer(job, psutil.Process(process.popen.pid))
        self.triggerers.append(triggerer)
        return triggerer

    def kill_triggerer(self, triggerer: Triggerer) -> None:
        """SIGKILL, with all of its processes."""
        triggerer.kill()
        self.triggerers.remove(triggerer)


@dataclass
class Triggerer:
    """A triggerer: the id under which it reports, and its processes."""

    job_id: int
    root: psutil.Process

    def kill(self) -> None:
        for process in self._tree():
            process.kill()
        psutil.wait_procs(self._tree(), timeout=10)

    def freeze(self) -> None:
        for process in self._tree():
            process.suspend()

    def thaw(self) -> None:
        for process in self._tree():
            process.resume()

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@dataclass(frozen=True)
class DagRun:
    """A dag run, found by its ids."""

    airflow: Deployment
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}"

    def task(self, task_id: str, map_index: int = -1, iteration: int | None = None) -> Task:
        return Task(self, task_id, map_index, iteration)

    def state(self) -> str:
        return str(self.airflow.get(self.path)["state"])

    def tasks(self) -> list[dict[str, Any]]:
        """All task instances, as Airflow tells them."""
        listed: list[dict[str, Any]] = self.airflow.get(f"{self.path}/taskInstances?limit=100")["task_instances"]
        return listed

    def wait_for_success(self, seconds: float = PATIENCE) -> None:
        """Wait until it is over, and it must be green."""
        try:
            self.airflow.wait(f"the end of {self.dag_id}", lambda: self.state() in OVER, seconds)
        except DemoError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None
        assert self.state() == "success", self.report()

    def clear(self, *task_ids: str) -> None:
        self._clear({"task_ids": list(task_ids)})

    def clear_exactly(self, *tasks: Task) -> None:
        """Clear these iterations or map indexes alone (3.4)."""
        self._clear({"task_instance_ids": [task.record()["id"] for task in tasks]})

    def clear_all(self) -> None:
        self.airflow.post(f"{self.path}/clear", {"only_failed": False, "dry_run": False})

    def _clear(self, what: dict[str, Any]) -> None:
        body = {"dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True, "dry_run": False}
        self.airflow.post(f"dags/{self.dag_id}/clearTaskInstances", {**body, **what})

    def delete(self) -> None:
        self.airflow.delete(self.path)

    def report(self) -> str:
        """State and last words of every task that is not green."""
        tasks = [(Task(self, ti["task_id"], ti["map_index"], iteration_of(ti)), ti) for ti in self.tasks()]
        return "\n".join(
            f"--- {self.dag_id} {task}: {ti['state']}, try {ti['try_number']}\n" + "\n".join(task.log()[-60:])
            for task, ti in tasks
            if ti["state"] != "success"
        )


def iteration_of(ti: dict[str, Any]) -> int | None:
    """The iteration of a loop that this task instance belongs to (3.4)."""
    found: dict[str, Any] = ti.get("loop_iteration") or {}
    return found.get("iteration")


@dataclass(frozen=True)
class Task:
    """A task of a dag run, in all its tries.

    :param iteration: of its loop (3.4), as it is now: a clear may have made it anew.
    """

    dag_run: DagRun
    task_id: str
    map_index: int = -1
    iteration: int | None = None

    def __str__(self) -> str:
        iteration = "" if self.iteration is None else f" of iteration {self.iteration}"
        return self.task_id + (f"[{self.map_index}]" if self.map_index >= 0 else "") + iteration

    @property
    def airflow(self) -> Deployment:
        return self.dag_run.airflow

    @property
    def path(self) -> str:
        return f"{self.dag_run.path}/taskInstances/{self.task_id}"

    @property
    def indexed(self) -> str:
        """The path of a mapped one goes one step further."""
        return self.path if self.map_index < 0 else f"{self.path}/{self.map_index}"

    def record(self) -> dict[str, Any]:
        """The task instance as Airflow tells it."""
        if self.iteration is None:
            only: dict[str, Any] = self.airflow.get(self.indexed)
            return only
        wanted = (self.task_id, self.map_index, self.iteration)
        found = [ti for ti in self.dag_run.tasks() if (ti["task_id"], ti["map_index"], iteration_of(ti)) == wanted]
        # One that was cleared while it ran is told beside the new one until its worker is gone; ids count up with time.
        return max(found, key=lambda ti: ti["region_id"])

    def state(self) -> str:
        return str(self.record()["state"])

    def wait_for(self, *states: str, seconds: float = PATIENCE) -> None:
        """Wait for one of these states; another end fails at once."""
        seen: list[str] = []

        def is_there() -> bool:
            seen.append(self.state())
            if seen[-1] in OVER and seen[-1] not in states:
                raise DemoError(f"{self} is {seen[-1]}, not {' or '.join(states)}")
            return seen[-1] in states

        self.wait_until(is_there, f"{self}: {' or '.join(states)}", seconds)

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for anything that has to do with this task."""
        try:
            self.airflow.wait(what, condition, seconds)
        except DemoError as error:
            raise AssertionError(f"{error}\n{self.dag_run.report()}") from None

    def mark(self, state: str) -> None:
        self.airflow.patch(self.indexed, {"new_state": state})

    def query(self) -> str:
        """What tells this task instance from others of its task."""
        query = f"map_index={self.map_index}"
        if self.iteration is None:
            return query
        record = self.record()
        return f"{query}&region_id={record['region_id']}&region_index={record['region_index']}"

    def xcoms(self) -> dict[str, Any]:
        entries, query = f"{self.path}/xcomEntries", self.query()
        keys = [entry["key"] for entry in self.airflow.get(f"{entries}?{query}")["xcom_entries"]]
        return {key: self.airflow.get(f"{entries}/{key}?{query}")["value"] for key in keys}

    def links(self) -> dict[str, str]:
        found: dict[str, str] = self.airflow.get(f"{self.path}/links?{self.query()}")["extra_links"]
        return found

    def log(self, try_number: int | None = None) -> list[str]:
        """The lines of worker and triggerer about this task, of one try or all."""
        folder = self.airflow.home / "logs" / f"dag_id={self.dag_run.dag_id}" / f"run_id={self.dag_run.run_id}"
        folder = folder / f"task_id={self.task_id}" / (f"map_index={self.map_index}" if self.map_index >= 0 else "")
        name = f"attempt={'*' if try_number is None else try_number}.log*"
        if self.iteration is not None:
            # One that a clear has made anew has a number behind its own: pass=1.2.
            name = f"pass={self.iteration}*/**/{name}"
        files = sorted(folder.glob(name))
        return [readable(line) for file in files for line in file.read_text(errors="replace").splitlines()]

    def process(self) -> psutil.Process | None:
        """The process that runs this try, if there is one."""
        title = f"airflow worker -- {self.record()['id']}"
        for process in psutil.Process(self.airflow.process.popen.pid).children(recursive=True):
            if " ".join(words_of(process)).strip() == title:
                return process
        return None

    def kill_process(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        process = self.process()
        assert process is not None, f"{self} has no process"
        process.kill()

    def triggerer(self) -> int | None:
        """Which triggerer holds this task's trigger."""
        try:
            trigger = self.record()["trigger"]
        except HttpError:
            return None
        return trigger["triggerer_id"] if trigger else None
