"""What a trigger does when Airflow ends it: it stops its run only if a user has ended the task, and then whole."""

from __future__ import annotations

import asyncio
import threading
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_cml import events
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.triggers import cml as triggers
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Run, Workspace

TOLD = tuple(int(part) for part in version("apache-airflow").split(".")[:2]) >= (3, 3)
"""Whether this Airflow tells a trigger that its task was ended."""
where_told = pytest.mark.skipif(not TOLD, reason="only 3.3 and newer tell a trigger")
ENDED = ["failed", "success", "skipped", "removed", "scheduled", "queued", "running", None]
"""States in which a trigger may find its task when a user has marked or cleared it; None is "cleared" itself."""


class Triggerer:
    """The supervisor of a triggerer, as far as it answers for the state of a task."""

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.asked: list[Any] = []

    async def asend(self, question: Any) -> Any:
        self.asked.append(question)
        (task_id,), (run_id,) = question.task_ids, question.run_ids
        name = task_id if question.map_index < 0 else f"{task_id}_{question.map_index}"
        return SimpleNamespace(task_states={run_id: {name: self.state}})


@pytest.fixture
def run(connections: Emulator, workspace: Workspace, job: Job) -> Run:
    """A run that goes on."""
    job.life = Life(running=None)
    return workspace.start(job)


@pytest.fixture
def supervise(monkeypatch: pytest.MonkeyPatch) -> Any:
    def answer(state: str | None) -> Triggerer:
        triggerer = Triggerer(state)
        runner = import_module("airflow.sdk.execution_time.task_runner")
        monkeypatch.setattr(runner, "SUPERVISOR_COMMS", triggerer, raising=False)
        return triggerer

    return answer


def trigger_of(run: Run, *, map_index: int = -1, cancel_on_kill: bool = True) -> CmlJobRunTrigger:
    watched = events.Watched(run.project_id, run.job_id, run.id)
    trigger = CmlJobRunTrigger("cml_default", watched.to_json(), 0.05, cancel_on_kill=cancel_on_kill)
    trigger.task_instance = SimpleNamespace(dag_id="risk", task_id="var", run_id="today", map_index=map_index)
    return trigger


@where_told
@pytest.mark.parametrize("map_index", [-1, 3])
@pytest.mark.parametrize("state", ENDED)
def test_user_ends_the_task(connections: Emulator, run: Run, supervise: Any, state: str | None, map_index: int) -> None:
    """A task that was marked or cleared has its run stopped, by one request."""
    supervise(state)
    asyncio.run(trigger_of(run, map_index=map_index).on_kill())

    assert connections.ledger.runs()[0].stop_requests == 1


@where_told
@pytest.mark.parametrize("state", ["deferred", "up_for_retry"])
def test_triggerer_that_loses_its_triggers_stops_nothing(
    connections: Emulator, run: Run, supervise: Any, state: str, log: pytest.LogCaptureFixture
) -> None:
    """Airflow 3.3 calls on_kill, too, when a stalled triggerer has lost its triggers to another one."""
    supervise(state)
    asyncio.run(trigger_of(run).on_kill())

    assert connections.ledger.requests() == []
    assert "nobody has killed it" in log.text


@where_told
def test_iteration_of_a_loop_is_not_judged_by_another_one(connections: Emulator, run: Run, supervise: Any) -> None:
    """Airflow 3.4 gives the state of the newest iteration, and calls on_kill only where a user has ended the task."""
    supervise("deferred")
    trigger = trigger_of(run)
    trigger.task_instance.region_id = UUID(int=7)
    asyncio.run(trigger.on_kill())

    assert connections.ledger.runs()[0].stop_requests == 1


@where_told
def test_stop_outlives_repeated_cancellations(connections: Emulator, run: Run, supervise: Any) -> None:
    """Airflow 3.3 cancels a trigger again at each of its turns, a second apart, while its on_kill is at work."""
    supervise("failed")
    connections.fault("GetJobRun", "delay_answer", seconds=0.5)
    connections.fault("StopJobRun", "delay_answer", seconds=0.3)

    async def live() -> int:
        killing = asyncio.ensure_future(trigger_of(run).on_kill())
        cancelled = 0
        while not killing.done():
            await asyncio.sleep(0.05)
            cancelled += killing.cancel()
        assert not killing.cancelled()
        return cancelled

    assert asyncio.run(live()) > 3
    assert connections.ledger.runs()[0].stop_requests == 1


@where_told
@pytest.mark.parametrize("status", ["stopping", "stopped", "succeeded", "failed", "timedout", "skipped"])
def test_run_that_is_over_or_stopping_is_left(
    connections: Emulator, workspace: Workspace, run: Run, supervise: Any, status: str
) -> None:
    """A look comes first: a second stop request would meet a run that needs none."""
    workspace.set_status(run, status)
    supervise("failed")
    asyncio.run(trigger_of(run).on_kill())

    assert connections.ledger.count("StopJobRun") == 0


@where_told
def test_cancel_on_kill_switches_it_off(connections: Emulator, run: Run, supervise: Any) -> None:
    """Then nothing is asked, neither Airflow nor CML."""
    triggerer = supervise("failed")
    asyncio.run(trigger_of(run, cancel_on_kill=False).on_kill())

    assert triggerer.asked == []
    assert connections.ledger.requests() == []


@where_told
@pytest.mark.parametrize(
    ("operation", "kind", "settings", "said"),
    [
        ("GetJobRun", "refused", {"status": 401}, "may still be active in CML: GET /api/v2/"),
        ("GetJobRun", "delay_answer", {"seconds": 20}, "may still be active in CML: not stopped within 0.5 seconds."),
        ("StopJobRun", "refused", {"status": 403}, "with a refusal"),
    ],
)
def test_stop_that_fails_is_told(
    connections: Emulator,
    run: Run,
    supervise: Any,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    operation: str,
    kind: str,
    settings: dict[str, Any],
    said: str,
) -> None:
    """A stop that is refused, or takes too long, raises nothing into the triggerer and is in the log, with why."""
    if kind == "delay_answer":
        monkeypatch.setattr(triggers, "KILL_SECONDS", 0.5)
    connections.fault(operation, kind, **settings)
    supervise("failed")
    asyncio.run(trigger_of(run).on_kill())

    assert run.id in log.text
    assert said in log.text


@where_told
def test_state_that_cannot_be_asked_stops_nothing(
    connections: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Who cannot know that a user has ended the task does not stop its run, and says so."""

    class Mute:
        async def asend(self, _question: object) -> None:
            raise RuntimeError("the supervisor is gone")

    runner = import_module("airflow.sdk.execution_time.task_runner")
    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", Mute(), raising=False)
    asyncio.run(trigger_of(run).on_kill())

    assert connections.ledger.count("StopJobRun") == 0
    assert "may still be active" in log.text


@pytest.mark.parametrize("kind", ["run", "free"])
def test_cancelled_trigger_stops_nothing(connections: Emulator, run: Run, kind: str) -> None:
    """Restarts and redistributions cancel triggers on every version, and that is no kill: the run goes on."""
    watched = events.Watched(run.project_id, run.job_id, run.id).to_json()
    trigger: Any = trigger_of(run) if kind == "run" else CmlJobFreeTrigger("cml_default", watched, 0.05, "d", -1, "n")

    asked = threading.Event()
    connections.ledger.listeners.append(lambda _entry: asked.set())

    async def live() -> None:
        waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
        await asyncio.to_thread(asked.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await trigger.cleanup()

    asyncio.run(live())

    assert connections.ledger.runs()[0].stop_requests == 0


def test_only_new_airflow_tells_a_trigger() -> None:
    """Before 3.3 Airflow has no word for a trigger whose task a user has ended: its run goes on, as documented."""
    assert hasattr(BaseTrigger, "on_kill") is TOLD
