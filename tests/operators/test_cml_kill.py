"""A task that is killed in its worker: what it has started is stopped, and nothing more is started."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import posting, starting, waiting
from airflow_provider_cml.compat import AirflowFailException
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlTaskError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import context_of, run_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

OFF_AND_ON = pytest.mark.parametrize("cancel", [True, False], ids=["stopped", "cancel_on_kill=False"])
EVERYWHERE = pytest.mark.parametrize(
    "way",
    [{}, {"deferrable": True}, {"wait_for_completion": False}],
    ids=["in the worker", "deferrable", "not waiting"],
)


@pytest.fixture
def kill_when(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Executes a task and kills it once `condition` holds, as Airflow 3 does: by a signal whose handler returns.

    From the signal on the connection cannot be looked up: in Airflow 3 that takes a lock the interrupted code may hold.
    """

    def execute(condition: Callable[[], object], task: CmlRunJobOperator, context: Any) -> Any:
        def kill(_number: int, _frame: object) -> None:
            monkeypatch.delenv("AIRFLOW_CONN_CML_DEFAULT")
            task.on_kill()

        def send() -> None:
            deadline = time.monotonic() + 10
            while not condition() and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)

        former = signal.signal(signal.SIGUSR1, kill)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            return task.execute(context)
        finally:
            sender.join()
            signal.signal(signal.SIGUSR1, former)

    return execute


@pytest.fixture
def make(job: Job, connections: Emulator) -> Callable[..., CmlRunJobOperator]:
    job.life = Life(running=None)

    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


def ending(kill_when: Any, condition: Callable[[], object], task: CmlRunJobOperator, context: Any = None) -> Exception:
    """A killed task ends in an error that lets Airflow try again; it neither returns nor goes to sleep."""
    with pytest.raises(CmlTaskError, match="told to end") as caught:
        kill_when(condition, task, context or context_of(task))
    assert not isinstance(caught.value, AirflowFailException)
    return caught.value


def fired(cml: Emulator) -> bool:
    """Whether a fault has come true already."""
    return any(fault["fired"] for fault in cml.faults.listing())


@OFF_AND_ON
@EVERYWHERE
def test_answer_to_the_start_is_out(
    make: Any, kill_when: Any, connections: Emulator, job: Job, way: dict[str, Any], cancel: bool
) -> None:
    """The run is looked for by its key, once, and stopped by one request before its answer has come."""
    connections.fault("CreateJobRun", "delay_answer", seconds=1.0)
    ending(kill_when, lambda: connections.workspace.active_run(job), make(cancel_on_kill=cancel, **way))
    (run,) = connections.ledger.runs()

    assert run.stop_requests == int(cancel)
    assert run.status in ({"ENGINE_STOPPING", "ENGINE_STOPPED"} if cancel else {"ENGINE_RUNNING"})


@OFF_AND_ON
@EVERYWHERE
def test_run_shows_only_in_the_answer(
    make: Any, kill_when: Any, connections: Emulator, job: Job, way: dict[str, Any], cancel: bool
) -> None:
    """A run that lists do not show yet at the kill is stopped when the answer to its start has told its id."""
    connections.fault("CreateJobRun", "delay_answer", seconds=1.0)
    connections.fault("ListJobRuns", "list_lag", seconds=60)
    task = make(cancel_on_kill=cancel, **way)
    context = context_of(task)
    ending(kill_when, lambda: connections.workspace.active_run(job), task, context)
    (run,) = connections.ledger.runs()

    assert run.stop_requests == int(cancel)
    assert context["ti"].pushed["return_value"] == run.id


@OFF_AND_ON
def test_run_that_nobody_sees(
    make: Any, kill_when: Any, connections: Emulator, job: Job, cancel: bool, log: pytest.LogCaptureFixture
) -> None:
    """Where the look by key finds nothing, the log says that a run may exist, and gives the key."""
    connections.fault("CreateJobRun", "late_effect", seconds=3, status=504)
    ending(kill_when, lambda: fired(connections), make(cancel_on_kill=cancel))

    assert ("A run may exist: look in CML for a run with AIRFLOW_RUN_KEY=" in log.text) is cancel
    assert connections.ledger.count("StopJobRun") == 0


def test_start_that_was_refused_is_not_told_of(
    make: Any, kill_when: Any, connections: Emulator, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """After a refusal no run can exist: a kill before the next start neither looks for one nor says that one may."""
    monkeypatch.setattr(posting, "REFUSAL_GAPS", (60.0,))
    connections.fault("CreateJobRun", "out_of_quota")

    def has_looked_since() -> bool:
        asked = [entry.operation for entry in connections.ledger.requests()]
        return "CreateJobRun" in asked and asked[-1] == "ListJobRuns"

    ending(kill_when, has_looked_since, make())

    assert connections.ledger.count("CreateJobRun") == 1
    assert connections.ledger.requests()[-1].operation == "ListJobRuns"
    assert "may exist" not in log.text


@OFF_AND_ON
@pytest.mark.parametrize("operation", ["ListProjects", "ListJobs", "ListJobRuns"])
def test_nothing_is_started_after_a_kill(
    make: Any, kill_when: Any, connections: Emulator, operation: str, cancel: bool
) -> None:
    """Airflow 3 lets a killed task go on for five seconds: it does not start a run in them."""
    connections.fault(operation, "delay_answer", seconds=0.5)
    names = {"project": "alice/risk-analysis", "job": "nightly VaR"}
    ending(kill_when, lambda: fired(connections), make(cancel_on_kill=cancel, **names))

    assert connections.ledger.count("CreateJobRun") == 0


@OFF_AND_ON
def test_busy_job_is_waited_for_no_longer(
    make: Any, kill_when: Any, workspace: Workspace, connections: Emulator, job: Job, cancel: bool, monkeypatch: Any
) -> None:
    """A task killed while somebody else's run is in its way ends, however long its gap, and leaves that run alone."""
    monkeypatch.setattr(starting, "BUSY_GAP", 60.0)
    workspace.add_run(job)
    task = make(cancel_on_kill=cancel, poll_interval=60)
    ending(kill_when, lambda: connections.ledger.count("ListJobRuns") > 0, task)

    assert connections.ledger.count("StopJobRun") == 0
    assert connections.ledger.count("CreateJobRun") == 0


@OFF_AND_ON
def test_kill_takes_three_seconds_in_all(
    make: Any, kill_when: Any, connections: Emulator, cancel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace that answers slowly, or no more, does not hold up a kill, nor the end of the wait."""
    monkeypatch.setattr(waiting, "SHORTEST_GAP", 60.0)
    task = make(cancel_on_kill=cancel)
    told: list[float] = []

    def is_waiting() -> bool:
        if connections.ledger.count("GetJobRun") == 0:
            return False
        connections.fault("*", "delay_answer", seconds=20)
        told.append(time.monotonic())
        return True

    ending(kill_when, is_waiting, task)

    assert time.monotonic() - told[0] < 3.5


@pytest.mark.parametrize("cancel", [True, False])
def test_clear_stops_the_former_run_unless_told_not_to(
    make: Any, connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    """What a kill should have stopped is stopped by the next series; with cancel_on_kill=False it is waited for."""
    monkeypatch.setenv("AIRFLOW__CML__DEPLOYMENT", "production")
    run_task(partial(make, wait_for_completion=False), context_of(make()))
    former = workspace.runs_of(job)[0]
    job.life = Life()
    cleared = partial(make, cancel_on_kill=cancel, deferrable=True)
    ran = run_task(
        cleared,
        context_of(cleared(), try_number=2, max_tries=1),
        asleep=lambda: None if cancel or former.is_over else workspace.set_status(former, "succeeded"),
    )
    first, second = connections.ledger.runs()

    assert first.stop_requests == int(cancel)
    assert first.status == ("ENGINE_STOPPED" if cancel else "ENGINE_SUCCEEDED")
    assert ran.value == second.id
