"""The sensor that follows the newest run since a moment, and keeps to it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.airflow_side import TaskDeferred, context_of, fire
from tests.sensors.test_cml import MODES, sense

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Emulator, Job, Workspace


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return MODES[request.param]


@pytest.fixture
def make(job: Job, connections: Emulator) -> Any:
    given = {"project": job.project_id, "job": job.id, "poke_interval": 0.05, "timeout": 10}
    return partial(CmlJobRunSensor, task_id="watch", **given)


@contextmanager
def after_the_first_look(cml: Emulator, change: Callable[[], None]) -> Iterator[None]:
    """Let something happen as soon as somebody has seen the job's runs."""

    def wait() -> None:
        for _ in range(1000):
            if any(request.status for request in cml.ledger.requests("ListJobRuns")):
                return change()
            time.sleep(0.01)
        raise AssertionError

    later = threading.Thread(target=wait)
    later.start()
    yield
    later.join()


def test_later_run_does_not_change_the_answer(
    make: Any,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run is looked at; it fails, and the next one that is started at once is not what the sensor waits for."""
    job.life = Life(running=None)
    run = workspace.start(job)

    def change() -> None:
        job.life = Life(running=0.1)
        workspace.set_status(run, "failed")
        workspace.start(job)

    with after_the_first_look(connections, change), pytest.raises(CmlRunFailedError, match=run.id):
        sense(partial(make, since=datetime.now(UTC) - timedelta(minutes=1), **mode), monkeypatch)


def test_first_of_those_that_come_later(
    make: Any,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there was none at the first look, it is the first one after that, whoever else starts some."""
    since = datetime.now(UTC)
    started: list[str] = []

    def change() -> None:
        for ending in ("succeeded", "failed"):
            run = workspace.start(job)
            workspace.set_status(run, ending)
            started.append(run.id)

    with after_the_first_look(connections, change):
        found = sense(partial(make, since=since, **mode), monkeypatch)

    assert found == started[0]


def test_end_of_the_data_interval(
    make: Any, workspace: Workspace, job: Job, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow writes it into a template, and as a moment of another zone."""
    workspace.add_run(job, "failed", created_at=datetime(2026, 11, 21, 5, 59, tzinfo=UTC).timestamp())
    run = workspace.add_run(job, "succeeded", created_at=datetime(2026, 11, 21, 6, 0, tzinfo=UTC).timestamp())
    end = datetime(2026, 11, 21, 7, 0, tzinfo=UTC).astimezone() - timedelta(hours=1)

    sensor = partial(make, since="{{ data_interval_end }}", **mode)
    assert sense(sensor, monkeypatch, data_interval_end=end) == run.id
    assert sense(partial(make, since=end.isoformat(), **mode), monkeypatch) == run.id


def test_triggerer_that_is_restarted_keeps_to_it(make: Any, workspace: Workspace, job: Job) -> None:
    """The trigger that goes on elsewhere knows when the task looked first, so it finds the same run."""
    job.life = Life(running=None)
    run = workspace.start(job)
    task = make(since=datetime.now(UTC) - timedelta(minutes=1), deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context_of(task))
    assert isinstance(caught.value.trigger, CmlJobRunTrigger)
    workspace.set_status(run, "failed")
    workspace.set_status(workspace.start(job), "succeeded")

    assert fire(caught.value)["run"]["id"] == run.id
