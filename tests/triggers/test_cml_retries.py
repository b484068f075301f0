"""A trigger that follows CML's own retries: its event tells of the run that decided, and a kill stops that one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import succession
from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.triggers import cml as triggers
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace
    from airflow_provider_cml.emulator.objects import Run

KEY = {"AIRFLOW_RUN_KEY": "the task's"}
RETRIED = {"retry_enabled": True, "max_retry": 1, "retry_for_script_failure": True}


@pytest.fixture(autouse=True)
def quick_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "LATENESS", 0.3)


@pytest.fixture
def retried(workspace: Workspace, project: Project) -> Job:
    """A job whose first run fails, and which CML runs again."""
    lives = [Life(running=0.05, ending="failed"), Life(running=None)]
    return workspace.add_job(project, "retried", number=3, life=lives, **RETRIED)


def trigger_for(run: Run, *, follow: bool = True, deadline: float | None = None) -> CmlJobRunTrigger:
    """A trigger as it comes out of Airflow's database."""
    watched = events.Watched(run.project_id, run.job_id, run_id=run.id, deadline=deadline)
    made = CmlJobRunTrigger(
        "cml_default", watched.to_json(), poll_interval=0.05, cancel_on_kill=True, follow_retries=follow
    )
    path, arguments = made.serialize()
    assert path == "airflow_provider_cml.triggers.cml.CmlJobRunTrigger"
    return CmlJobRunTrigger(**json.loads(json.dumps(arguments)))


def told(trigger: CmlJobRunTrigger) -> tuple[Any, events.Watched]:
    async def event() -> Any:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(event())
    return events.read(json.loads(json.dumps(payload)))


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_the_event_tells_of_the_run_that_decided(
    connections: Emulator, workspace: Workspace, retried: Job, ending: str
) -> None:
    """The run that was watched failed; the event's run, and the one the task is to know, is the last."""
    retried.life = [Life(running=0.05, ending="failed"), Life(running=0.05, ending=ending)]
    first = workspace.start(retried, KEY)

    outcome, watched = told(trigger_for(first))
    second = connections.ledger.executed(retried.id)[1]

    assert outcome.ending is Ending.OVER
    assert (outcome.run.id, str(outcome.run.status)) == (second.id, ending)
    assert watched.run_id == second.id


def test_without_the_wish_the_first_run_decides(connections: Emulator, workspace: Workspace, retried: Job) -> None:
    """Nothing is followed that nobody asked for, and not one request is spent on it."""
    first = workspace.start(retried, KEY)

    outcome, watched = told(trigger_for(first, follow=False))

    assert (outcome.run.id, str(outcome.run.status), watched.run_id) == (first.id, "failed", first.id)
    assert {request.operation for request in connections.ledger.requests()} == {"GetJobRun"}


def test_out_of_time_tells_which_run_to_stop(connections: Emulator, workspace: Workspace, retried: Job) -> None:
    """The time given is over while CML's retry goes on: the task is told of that one."""
    first = workspace.start(retried, KEY)

    outcome, watched = told(trigger_for(first, deadline=events.moment_after(1.0)))
    second = connections.ledger.executed(retried.id)[1]

    assert outcome.ending is Ending.TIMED_OUT
    assert (outcome.run.id, watched.run_id) == (second.id, second.id)


def test_a_kill_stops_the_run_that_is_followed(
    connections: Emulator, workspace: Workspace, retried: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user marks the deferred task while CML's retry goes on: that run gets the one stop."""

    async def state(ti: Any) -> str:
        return "failed"

    monkeypatch.setattr(triggers, "task_state", state)
    first = workspace.start(retried, KEY)
    trigger = trigger_for(first)
    trigger.task_instance = None

    async def killed() -> None:
        watching = asyncio.create_task(anext(aiter(trigger.run())))
        while not trigger._run_id:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)
        watching.cancel()
        await trigger.on_kill()

    asyncio.run(asyncio.wait_for(killed(), 30))
    runs = connections.ledger.executed(retried.id)

    assert [run.stop_requests for run in runs] == [0, 1]
