"""One triggerer for a long time: thousands of deferred runs that come and go, and what that does to the process.

Airflow's own `TriggerRunner` runs the triggers in its own loop; its supervisor, which would speak with the database,
is played here: it takes the events, and gives a new trigger for each that is over. The runs are the emulator's, which
is a process of its own. It exits with 0 only if every trigger told of a run that succeeded, and none failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from standalone import airflow_environment, call

from tests.chaos.workspace import Workspace

TICK = 0.05
"""Seconds between two looks at how late the loop is."""
EVERY = 10.0
"""Seconds between two samples."""
SHORTEST, LONGEST = 60, 240
"""Seconds the runs take, evenly spread over the jobs."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment, and how late its loop was since the moment before."""

    seconds: float
    megabytes: float
    files: int
    tasks: int
    waiting: int
    lag_median: float
    lag_worst: float
    events: int


class Starter(threading.Thread):
    """Starts the next run of a job, and says what a trigger has to know: in the place of the workers."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(daemon=True)
        self._url, self._key = workspace.url, workspace.key
        self._project = self._api("GET", "projects")["projects"][0]["id"]
        listed = self._api("GET", f"projects/{self._project}/jobs?page_size=10000")["jobs"]
        self.jobs = [job["id"] for job in listed]
        self.wanted: queue.Queue[str] = queue.Queue()
        self.started: queue.Queue[dict[str, Any]] = queue.Queue()

    def run(self) -> None:
        while True:
            job_id = self.wanted.get()
            body = {"project_id": self._project, "job_id": job_id}
            run = self._api("POST", f"projects/{self._project}/jobs/{job_id}/runs", body)
            self.started.put({"project_id": self._project, "job_id": job_id, "run_id": run["id"], "began": time.time()})

    def _api(self, method: str, path: str, body: object = None) -> Any:
        return call(method, f"{self._url}/api/v2/{path}", self._key, body)


def run_triggers(workspace: Workspace, minutes: float) -> tuple[list[Sample], list[str]]:
    """Let Airflow's runner have all runs, as long as asked for; the samples, and what was not right."""
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.models.trigger import Trigger

    from airflow_provider_cml import events
    from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

    starter = Starter(workspace)
    samples: list[Sample] = []
    wrong: list[str] = []
    counts = {"events": 0}

    class Comms:
        """The line to a supervisor who is here."""

        _reader_task: asyncio.Task[None]

    class Runner(TriggerRunner):
        """Airflow's, but for the line to its supervisor."""

        async def init_comms(self) -> None:
            self.comms_decoder = Comms()
            self.comms_decoder._reader_task = asyncio.create_task(asyncio.sleep(10**6))
            self._sampler = asyncio.create_task(sample(self))
            self._serial = 0
            self._last_ending = time.monotonic()
            for job_id in starter.jobs:
                starter.wanted.put(job_id)
            starter.start()

        async def sync_state_to_supervisor(self, finished_ids: list[int]) -> None:
            while self.events:
                event = self.events.popleft().event
                counts["events"] += 1
                outcome, watched = events.read(event.payload)
                if outcome.run is None or outcome.run.word != "ENGINE_SUCCEEDED":
                    wrong.append(f"an event without a good run: {outcome}")
                starter.wanted.put(watched.job_id)
            while self.failed_triggers:
                wrong.append(f"a trigger failed: {self.failed_triggers.popleft()}")
            while not starter.started.empty():
                known = starter.started.get()
                self._serial += 1
                watched = events.Watched(**known)
                path, arguments = CmlJobRunTrigger("cml_default", watched.to_json(), 30.0).serialize()
                encrypted = Trigger.encrypt_kwargs(arguments)
                self.to_create.append(RunTrigger(id=self._serial, classpath=path, encrypted_kwargs=encrypted))

    async def sample(runner: TriggerRunner) -> None:
        process = psutil.Process()
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        lags: list[float] = []
        due_sample = began + EVERY
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            lags.append(loop.time() - due)
            if (moment := time.monotonic()) < due_sample:
                continue
            due_sample += EVERY
            found = Sample(
                moment - began,
                process.memory_info().rss / 1e6,
                process.num_fds(),
                len(asyncio.all_tasks()),
                len(runner.triggers),
                statistics.median(lags) * 1000,
                max(lags) * 1000,
                counts["events"],
            )
            samples.append(found)
            lags.clear()
            if len(samples) % 6 == 0:
                print(told(found), flush=True)
            if moment - began > minutes * 60:
                runner.stop = True

    Runner().run()
    return samples, wrong


def told(found: Sample) -> str:
    return (
        f"{found.seconds:5.0f} s  {found.waiting} triggers, {found.events} runs ended, {found.megabytes:.0f} MB, "
        f"{found.files} files, {found.tasks} tasks, "
        f"loop late {found.lag_median:.1f} ms (worst {found.lag_worst:.0f} ms)"
    )


def slope(samples: list[Sample], name: str) -> float:
    """How much a value grows in an hour, by least squares."""
    times = [each.seconds / 3600 for each in samples]
    return statistics.linear_regression(times, [float(getattr(each, name)) for each in samples]).slope


def report(samples: list[Sample]) -> str:
    """Means and slopes of what was measured after the runs had all come once."""
    steady = [each for each in samples if each.seconds > LONGEST + 30] or samples
    lines = [f"{samples[-1].events} runs ended; from minute {steady[0].seconds / 60:.0f} on:"]
    names = {
        "megabytes": "memory, MB",
        "files": "open files",
        "tasks": "asyncio tasks",
        "lag_median": "loop late, median ms",
        "lag_worst": "loop late, worst ms of 10 s",
    }
    for name, title in names.items():
        values = [float(getattr(each, name)) for each in steady]
        lines.append(
            f"{title:28} mean {statistics.mean(values):8.1f}, from {min(values):8.1f} to {max(values):8.1f}, "
            f"slope {slope(steady, name):+8.1f} an hour"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    workspace = Workspace(folder, options.runs, lambda number: SHORTEST + number * 37 % (LONGEST - SHORTEST))
    try:
        workspace.start()
        connection = {"conn_type": "cml", "host": workspace.url, "password": workspace.key}
        os.environ |= airflow_environment(folder / "airflow", folder, [0, 0, 0])
        os.environ["AIRFLOW_CONN_CML_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        samples, wrong = run_triggers(workspace, options.minutes)
    finally:
        workspace.part.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(report(samples))
    print("\n".join(wrong[:20]))
    return 1 if wrong or not samples[-1].events else 0


if __name__ == "__main__":
    sys.exit(main())
