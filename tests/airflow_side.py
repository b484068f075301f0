"""What the tests of the Airflow side share: a workspace, a connection to it, and a task without a scheduler.

The law: whatever crosses a process in Airflow crosses JSON here too, and a task that was deferred goes on in a new
object. Times are small values of the package's own constants; no sleep is patched.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import retry, v1
from airflow_provider_cml.api.conversations import history, line, posting, starting, waiting, watching
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace

try:  # 3.2+
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred  # type: ignore[no-redef,unused-ignore]

PASSWORD = "project-hunter2"
"""What the project of tests/conftest.py keeps in its environment; CML echoes it in every run's."""
MOMENT = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


@dataclass
class DagRun:
    """As much of a dag run as the package reads."""

    run_id: str = "scheduled__2026-11-21"
    logical_date: datetime | None = datetime(2026, 11, 20, tzinfo=UTC)
    run_after: datetime | None = datetime(2026, 11, 21, tzinfo=UTC)
    start_date: datetime | None = MOMENT


@dataclass
class TaskInstance:
    """As much of a task instance as the package and Airflow's sensors read; `pushed` keeps the XComs in order."""

    task_id: str = "value_at_risk"
    dag_id: str = "risk"
    run_id: str = "scheduled__2026-11-21"
    map_index: int | None = -1
    try_number: int = 1
    max_tries: int = 0
    first_poke: datetime | None = None
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, -1 if self.map_index is None else self.map_index)
        return self.pushed.get(key)

    def get_first_reschedule_date(self, context: Mapping[str, Any]) -> datetime | None:
        return self.first_poke


def context_of(task: Any, dag_run: DagRun | None = None, **facts: Any) -> Any:
    """The context of a try of `task`; `facts` are fields of its `TaskInstance`."""
    ti = TaskInstance(**{"task_id": task.task_id, "max_tries": task.retries or 0, **facts})
    return {"ti": ti, "task_instance": ti, "task": task, "dag_run": dag_run or DagRun(), "params": {}}


def fire(deferral: TaskDeferred) -> dict[str, Any]:
    """The payload of the one event of a deferred task's trigger, run from its serialized form, as in a triggerer."""
    path, arguments = deferral.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    payloads = asyncio.run(events())
    assert len(payloads) == 1
    return dict(json.loads(json.dumps(payloads[0])))


@dataclass
class Ran:
    """A task that came to its end: what it returned, and how often it slept on the way."""

    value: Any
    deferrals: list[TaskDeferred]


def run_task(make: Callable[[], Any], context: Any, asleep: Callable[[], object] | None = None) -> Ran:
    """Execute a task to its end; each time it was deferred it goes on in a new object, as in another worker.

    :param asleep: what happens each time the task has gone to sleep.
    """
    deferrals: list[TaskDeferred] = []
    task = make()
    task.render_template_fields(context)

    def step() -> Any:
        if not deferrals:
            return task.execute(context)
        event = fire(deferrals[-1])
        return task.resume_execution(deferrals[-1].method_name, {"event": event}, context)

    while True:
        try:
            return Ran(step(), deferrals)
        except TaskDeferred as deferral:
            assert len(deferrals) < 5, "this task is deferred again and again"
            deferrals.append(deferral)
            if asleep is not None:
                asleep()
            task = make()
            task.render_template_fields(context)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps and patience of hundredths of what they are."""
    monkeypatch.setattr(waiting, "SHORTEST_GAP", 0.05)
    monkeypatch.setattr(waiting, "STOP_GAP", 0.05)
    monkeypatch.setattr(waiting, "STOP_PATIENCE", 0.5)
    monkeypatch.setattr(waiting, "POLL_PATIENCE", 0.4)
    monkeypatch.setattr(watching, "POLL_PATIENCE", 0.4)
    monkeypatch.setattr(history, "UNREACHABLE_PATIENCE", 0.2)
    monkeypatch.setattr(history, "OUTAGE_PATIENCE", 0.2)
    monkeypatch.setattr(retry, "FIRST_GAP", 0.01)
    monkeypatch.setattr(starting, "BUSY_GAP", 0.05)
    monkeypatch.setattr(starting, "FORMER_GAP", 0.05)
    monkeypatch.setattr(starting, "SETTLE", 0.1)
    monkeypatch.setattr(posting, "LOSS_GAPS", (0.05,))
    monkeypatch.setattr(v1, "UNSENT_PATIENCE", 0.2)
    monkeypatch.setattr(posting, "REFUSAL_GAPS", (0.05,))
    monkeypatch.setattr(sharing, "BUSY_GAP", 0.05)
    monkeypatch.setattr(sharing, "POLL_PATIENCE", 0.4)
    monkeypatch.setattr(line, "QUIET", 0.02)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged, at the level of the talkative; Airflow 3.1+ logs past the standard library otherwise."""
    for talker in (CmlHook, CmlRunJobOperator, CmlJobRunSensor, CmlJobRunTrigger, CmlJobFreeTrigger):
        monkeypatch.setattr(talker, "log", logging.getLogger(f"test.{talker.__name__}"))
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def job(workspace: Workspace, project: Project) -> Job:
    """A job whose runs succeed soon, but not at once."""
    return workspace.add_job(project, "nightly VaR", number=208, life=Life(running=0.15))


def set_connection(monkeypatch: pytest.MonkeyPatch, conn_id: str = "cml_default", **fields: Any) -> None:
    """Give Airflow a connection, through its environment."""
    text = json.dumps({"conn_type": "cml", **fields})
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)


@contextmanager
def execution_timeout_when(condition: Callable[[], object]) -> Iterator[None]:
    """The context in which Airflow's task runner executes a task with an execution_timeout, which strikes then.

    Not after so many seconds: on a slow machine they are over while a library is still being imported.
    """
    try:
        module = import_module("airflow.sdk.execution_time.timeout")  # 3.1+
    except ImportError:
        module = import_module("airflow.utils.timeout")
    is_over = threading.Event()

    def strike() -> None:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline and not is_over.is_set():
            time.sleep(0.01)
        is_over.wait(0.1)  # into whatever comes next
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGALRM)

    striker = threading.Thread(target=strike)
    with module.timeout(60):
        striker.start()
        try:
            yield
        finally:
            is_over.set()
            striker.join()


def end_active_run(workspace: Workspace, job: Job) -> None:
    """Let the job's active run succeed now."""
    run = workspace.active_run(job)
    assert run is not None
    workspace.set_status(run, "succeeded")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, cml: Emulator) -> Emulator:
    """`cml_default` and `cml_v1`: the emulator by its two keys."""
    set_connection(monkeypatch, host=cml.url, password=cml.api_key)
    set_connection(monkeypatch, "cml_v1", host=cml.url, password=cml.legacy_key, extra={"api_version": "v1"})
    return cml
