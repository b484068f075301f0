"""`follow_retries` of the sensor: the same run decides in every mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import succession
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import context_of, run_task

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace
    from airflow_provider_cml.emulator.objects import Run

FAILED = Life(running=0.1, ending="failed")
RUN_KEY = "v1;production;risk;scheduled__2026-11-21;value_at_risk;-1;start=1;max_tries=0;retries=0;try=1;post=1.abcd"
KEY = {"AIRFLOW_RUN_KEY": RUN_KEY}


@pytest.fixture(autouse=True)
def quick_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "LATENESS", 0.5)


@pytest.fixture
def retried(workspace: Workspace, project: Project) -> Job:
    """A job that CML runs again, twice at most."""
    settings = {"retry_enabled": True, "max_retry": 2, "retry_for_script_failure": True}
    return workspace.add_job(project, "retried", number=3, life=[FAILED, Life(running=0.3)], **settings)


def sensor(run: Run, mode: str, **arguments: Any) -> CmlJobRunSensor:
    given = {"run_id": run.id} if not {"run_key", "since"} & set(arguments) else {}
    return CmlJobRunSensor(
        task_id="wait",
        project=run.project_id,
        job=run.job_id,
        deferrable=mode == "deferred",
        poke_interval=0.05,
        timeout=30,
        **{**given, "follow_retries": True, **arguments},
    )


@pytest.mark.parametrize("mode", ["poke", "deferred"])
@pytest.mark.parametrize("by", ["run_id", "run_key"])
def test_the_run_that_succeeds_decides(
    connections: Emulator, workspace: Workspace, retried: Job, mode: str, by: str
) -> None:
    """The run that was named fails, CML's retry succeeds: green, with the id of the second."""
    retried.life = [FAILED, Life(running=3.0)]  # not over before the first look of a slow machine
    first = workspace.start(retried, KEY)
    named = {"run_key": RUN_KEY} if by == "run_key" else {}
    ran = run_task(lambda: sensor(first, mode, **named), context_of(sensor(first, mode)))

    assert ran.value == connections.ledger.executed(retried.id)[1].id
    assert len(ran.deferrals) == (mode == "deferred")


def test_each_look_finds_the_last_run_anew(connections: Emulator, workspace: Workspace, retried: Job) -> None:
    """Rescheduled, each look is of a new process, which remembers nothing: the chain is followed again."""
    retried.life = [FAILED, Life(running=None)]
    first = workspace.start(retried, KEY)

    def look() -> Any:
        task = sensor(first, "poke")
        return task.poke(context_of(task))

    for _ in range(1000):
        assert not look().is_done
        if len(connections.ledger.executed(retried.id)) == 2:
            break
    assert not look().is_done
    second = connections.ledger.executed(retried.id)[1]
    workspace.set_status(second.id, "succeeded")
    found = look()

    assert (found.is_done, found.xcom_value) == (True, second.id)


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_the_last_failure_decides(connections: Emulator, workspace: Workspace, retried: Job, mode: str) -> None:
    """When CML gives up, so does the sensor, and names the last run."""
    retried.life = FAILED
    first = workspace.start(retried, KEY)
    with pytest.raises(CmlRunFailedError) as caught:
        run_task(lambda: sensor(first, mode), context_of(sensor(first, mode)))
    runs = connections.ledger.executed(retried.id)

    assert (len(runs), caught.value.run_id) == (3, runs[-1].id)


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_a_run_without_a_key_is_not_followed(
    connections: Emulator, workspace: Workspace, retried: Job, mode: str, log: pytest.LogCaptureFixture
) -> None:
    """A run somebody started by hand carries no key, so no run can be told to be its successor."""
    first = workspace.start(retried)
    with pytest.raises(CmlRunFailedError) as caught:
        run_task(lambda: sensor(first, mode), context_of(sensor(first, mode)))

    assert caught.value.run_id == first.id
    assert "carries no key" in log.text


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_nobody_follows_unasked(connections: Emulator, workspace: Workspace, retried: Job, mode: str) -> None:
    """By default the run that was named decides."""
    first = workspace.start(retried, KEY)
    with pytest.raises(CmlRunFailedError) as caught:
        run_task(lambda: sensor(first, mode, follow_retries=False), context_of(sensor(first, mode)))

    assert caught.value.run_id == first.id
    assert connections.ledger.count("GetJob") == 0
