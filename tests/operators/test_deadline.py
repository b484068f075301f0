"""What becomes of a run when the time of its try is over: in the worker, deferred, and where Airflow is late itself."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import waiting
from airflow_provider_cml.compat import AirflowFailException
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlJobBusyFailError, CmlTimeoutError, CmlUnansweredError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.airflow_side import TaskDeferred, context_of, end_active_run, execution_timeout_when, fire, run_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

    Make: TypeAlias = Callable[..., CmlRunJobOperator]

LATE = {"error": "Trigger timeout"}
"""What Airflow 3 says of a trigger that is past its timeout; 2.11 says "Trigger/execution timeout"."""


@pytest.fixture
def make(job: Job, connections: Emulator) -> Make:
    """Operators whose run does not end by itself."""
    job.life = Life(running=None)

    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


def limit(way: str, seconds: float) -> dict[str, Any]:
    """The arguments that make a try's time that short: its own timeout or Airflow's, in the worker or deferred."""
    clock = {"timeout": seconds} if "own" in way else {"execution_timeout": timedelta(seconds=seconds)}
    return {**clock, "deferrable": "deferred" in way}


def run_in_time(make: Callable[[], Any], context: Any, way: str, cml: Emulator, operation: str = "GetJobRun") -> Any:
    """The task run as Airflow's task runner does it: it keeps a clock of its own in the worker."""
    if way == "execution_timeout":
        with execution_timeout_when(lambda: cml.ledger.count(operation)):
            return run_task(make, context).value
    return run_task(make, context).value


WAYS = ["own timeout", "own timeout, deferred", "execution_timeout", "execution_timeout, deferred"]


# ---------------------------------------------------------------- the run is stopped, and the error says so


@pytest.mark.parametrize("way", WAYS)
def test_run_is_stopped_and_named(make: Make, connections: Emulator, job: Job, way: str) -> None:
    """Whichever clock strikes, wherever: one stop, confirmed; which run, its last status, its age, where to look."""
    operator = partial(make, **limit(way, 0.4))
    context = context_of(operator())
    with pytest.raises(CmlTimeoutError) as caught:
        run_in_time(operator, context, way, connections)
    (run,) = connections.ledger.runs()
    text, error = str(caught.value), caught.value
    url = f"{connections.url}/alice/risk-analysis/jobs"

    assert (run.status, run.stop_requests) == ("ENGINE_STOPPED", 1)
    assert f"Run {run.id} of job {job.id} was still ENGINE_RUNNING when" in text
    assert "it was 0:00:0" in text
    assert f"It was stopped. Look at it in CML: {url}" in text
    assert (error.run_id, error.job_id, error.project_id) == (run.id, job.id, job.project_id)
    assert (error.status, error.run_url) == ("ENGINE_RUNNING", url)
    assert not isinstance(error, AirflowFailException)
    assert context["ti"].pushed["status"] == "stopped"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("link", [True, False])
def test_stop_that_fails_says_where_to_look(make: Make, connections: Emulator, job: Job, way: str, link: bool) -> None:
    """A run that could not be stopped may still be active: the error says so, and gives the link or the workspace."""
    connections.fault("StopJobRun", "refused", status=401)
    if not link:
        connections.fault("GetProject", "error_before", status=500)
    operator = partial(make, **limit(way, 0.4))
    with pytest.raises(CmlTimeoutError, match="could not be stopped and may still be active in CML") as caught:
        run_in_time(operator, context_of(operator()), way, connections)
    place = "/alice/risk-analysis/jobs" if link else f", project {job.project_id}"

    assert f"Look at it in CML: {connections.url}{place}" in str(caught.value)
    assert connections.ledger.runs()[0].status == "ENGINE_RUNNING"


def test_stop_that_is_not_confirmed_is_no_stop(make: Make, connections: Emulator) -> None:
    """A run that takes its time to stop is told as that, not as stopped."""
    connections.fault("StopJobRun", "slow_stopping", seconds=60)
    operator = partial(make, timeout=0.2)
    with pytest.raises(CmlTimeoutError, match="It was asked to stop, is stopping, and may still be active in CML"):
        run_task(operator, context_of(operator()))

    assert connections.ledger.runs()[0].stop_requests == 1


def test_adopted_run_is_as_old_as_it_is(make: Make, workspace: Workspace, connections: Emulator, job: Job) -> None:
    """A retry that carries on names the age of the run, not of its own wait."""
    patient = {"retries": 1, "retry_delay": timedelta(minutes=5)}
    first = partial(make, wait_for_completion=False, **patient)
    run_task(first, context_of(first()))
    workspace.runs_of(job)[0].created_at -= 7200
    later = partial(make, timeout=0.2, **patient)
    with pytest.raises(CmlTimeoutError, match="it was 2:00:0"):
        run_task(later, context_of(later(), try_number=2))


def test_run_that_succeeds_at_the_last_moment_is_green(
    make: Make, workspace: Workspace, connections: Emulator, job: Job
) -> None:
    """Where the look before the stop sees that the run has succeeded, nothing is stopped and nothing has failed."""
    operator = partial(make, timeout=0.2, deferrable=True)
    context = context_of(operator())
    with pytest.raises(TaskDeferred) as deferral:
        operator().execute(context)
    event = fire(deferral.value)
    end_active_run(workspace, job)

    assert event["ending"] == "timed out"
    assert operator().execute_complete(context, event) == connections.ledger.runs()[0].id
    assert context["ti"].pushed["status"] == "succeeded"
    assert connections.ledger.count("StopJobRun") == 0


# ---------------------------------------------------------------- before there is a run


@pytest.mark.parametrize("way", ["execution_timeout", "execution_timeout, deferred"])
def test_execution_timeout_before_a_busy_job(
    make: Make, workspace: Workspace, connections: Emulator, job: Job, way: str
) -> None:
    """Airflow's clock ends the wait for somebody else's run too, deferred or not: nothing is started or stopped."""
    workspace.add_run(job)
    operator = partial(make, **limit(way, 0.4), busy_timeout=60)
    with pytest.raises(CmlTimeoutError, match="before a run was started"):
        run_in_time(operator, context_of(operator()), way, connections, "ListJobRuns")

    assert connections.ledger.count("CreateJobRun") == 0
    assert connections.ledger.count("StopJobRun") == 0


@pytest.mark.parametrize("deferrable", [False, True])
def test_busy_timeout_is_another_ending(
    make: Make, workspace: Workspace, connections: Emulator, job: Job, deferrable: bool
) -> None:
    """The time to wait for the job is not the time of the try: that ends for good, and says which it was."""
    workspace.add_run(job)
    operator = partial(make, busy_timeout=0.2, deferrable=deferrable, execution_timeout=timedelta(seconds=60))
    with pytest.raises(CmlJobBusyFailError, match="busy_timeout"):
        run_task(operator, context_of(operator()))


def test_execution_timeout_while_the_answer_is_out(make: Make, connections: Emulator, job: Job) -> None:
    """The run whose start was not answered yet is found by its key, stopped, and named."""
    connections.fault("CreateJobRun", "delay_answer", seconds=2)
    context = context_of(make())
    with (
        pytest.raises(CmlTimeoutError) as caught,
        execution_timeout_when(lambda: connections.workspace.active_run(job)),
    ):
        make().execute(context)
    (run,) = connections.ledger.runs()

    assert f"Run {run.id} of job" in str(caught.value)
    assert "It was stopped." in str(caught.value)
    assert run.status == "ENGINE_STOPPED"
    assert context["ti"].pushed["return_value"] == run.id


def test_execution_timeout_with_a_start_nobody_sees(make: Make, connections: Emulator) -> None:
    """Where no run shows the key, the error says that one may exist, and gives the key."""
    connections.fault("CreateJobRun", "drop_before")
    words = "A run may exist: look in CML for a run with AIRFLOW_RUN_KEY="
    with (
        pytest.raises(CmlTimeoutError, match=words) as caught,
        execution_timeout_when(lambda: connections.ledger.count("CreateJobRun")),
    ):
        make().execute(context_of(make()))

    assert "dag=risk;run=scheduled__2026-11-21;task=value_at_risk" in str(caught.value)
    assert connections.ledger.count("StopJobRun") == 0


# ---------------------------------------------------------------- deadlines cross processes


def test_deadline_survives_a_trigger_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a moment, not a span: what a restarted triggerer makes of the stored arguments has what is left of it."""
    clock = SimpleNamespace(now=1_790_000_000.0)
    monkeypatch.setattr(events, "time", SimpleNamespace(time=lambda: clock.now))
    deadline = events.moment_after(100.0)
    trigger = CmlJobRunTrigger("cml_default", events.Watched("p", "j", run_id="r", deadline=deadline).to_json(), 5.0)
    left = []
    for _ in range(3):
        _, arguments = trigger.serialize()
        trigger = CmlJobRunTrigger(**json.loads(json.dumps(arguments)))
        left.append(trigger._pace(events.Watched.from_json(trigger.watched)).timeout)
        clock.now += 60.0

    assert left == [100.0, 40.0, 0.0]


@pytest.mark.parametrize("clock", ["own timeout, deferred", "execution_timeout, deferred"])
def test_each_try_has_its_own_deadline(make: Make, connections: Emulator, monkeypatch: Any, clock: str) -> None:
    """A retry has all of its time again, also where it carries on with the run of the earlier try."""
    wall = SimpleNamespace(now=time.time())
    monkeypatch.setattr(events, "time", SimpleNamespace(time=lambda: wall.now))
    operator = partial(make, retries=1, retry_delay=timedelta(minutes=5), **limit(clock, 300.0))
    deadlines = []
    for number in (1, 2):
        with pytest.raises(TaskDeferred) as deferral:
            operator().execute(context_of(operator(), try_number=number))
        deadlines.append(deferral.value.trigger.watched["deadline"] - wall.now)
        assert deferral.value.timeout == timedelta(seconds=300 + events.BACKSTOP)
        wall.now += 1000.0

    assert deadlines == [300.0, 300.0]
    assert connections.ledger.count("CreateJobRun") == 1


# ---------------------------------------------------------------- Airflow wakes the task without an event


def asleep(operator: Callable[[], CmlRunJobOperator], context: Any) -> None:
    """Execute until the task is deferred."""
    with pytest.raises(TaskDeferred):
        operator().execute(context)


@pytest.mark.parametrize("map_index", [-1, 3])
def test_triggerer_that_does_not_report_stops_nothing_less(make: Make, connections: Emulator, map_index: int) -> None:
    """Airflow wakes a deferred task past its timeout without event, kwargs or call of ours: its run is stopped.

    What is known of the run then comes from XCom, where it was put before the task went to sleep.
    """
    operator = partial(make, timeout=60, deferrable=True)
    context = context_of(operator(), map_index=map_index)
    asleep(operator, context)
    with pytest.raises(CmlTimeoutError, match=r"triggerer had not reported in time .*It was stopped\.") as caught:
        operator().resume_execution("__fail__", LATE, context)
    (run,) = connections.ledger.runs()

    assert (run.status, run.stop_requests) == ("ENGINE_STOPPED", 1)
    assert f"Run {run.id} of job" in str(caught.value)
    assert f"{connections.url}/alice/risk-analysis/jobs" in str(caught.value)


def test_late_triggerer_and_a_run_that_succeeded(
    make: Make, workspace: Workspace, connections: Emulator, job: Job
) -> None:
    """The run has succeeded, only nobody told: the task is green."""
    operator = partial(make, timeout=60, deferrable=True)
    context = context_of(operator())
    asleep(operator, context)
    end_active_run(workspace, job)

    assert operator().resume_execution("__fail__", LATE, context) == connections.ledger.runs()[0].id


def test_late_triggerer_before_a_busy_job(make: Make, workspace: Workspace, connections: Emulator, job: Job) -> None:
    """A task that has no run yet has none to stop, and says so."""
    workspace.add_run(job)
    operator = partial(make, busy_timeout=60, deferrable=True)
    context = context_of(operator())
    asleep(operator, context)
    with pytest.raises(CmlTimeoutError, match="it knows of no run of its own"):
        operator().resume_execution("__fail__", LATE, context)

    assert connections.ledger.count("StopJobRun") == 0


def test_trigger_that_could_not_run_leaves_the_run(make: Make, connections: Emulator) -> None:
    """A triggerer without this package says nothing about the run: it goes on, and a retry finds it."""
    operator = partial(make, deferrable=True)
    context = context_of(operator())
    asleep(operator, context)
    with pytest.raises(CmlUnansweredError, match="could not run the wait") as caught:
        operator().resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["..."]}, context)
    (run,) = connections.ledger.runs()

    assert run.id in str(caught.value)
    assert (run.status, run.stop_requests) == ("ENGINE_RUNNING", 0)


def resumed_by_airflow(task: CmlRunJobOperator, context: Any, event: dict[str, Any]) -> Any:
    """A deferred task resumed by the very function of this Airflow that keeps its execution_timeout."""
    task.pre_execute(context)
    try:
        runner = import_module("airflow.sdk.execution_time.task_runner")
    except ImportError:
        return import_module("airflow.models.taskinstance")._execute_task(context["ti"], context, task)
    if not hasattr(runner, "_run_execute_callable"):
        pytest.skip("3.0 to 3.2 keep execution_timeout in a function that asks the supervisor, too")
    resume = partial(task.resume_execution, "execute_complete", {"event": event})
    return runner._run_execute_callable(context, resume, task)


def test_airflow_does_not_end_a_task_that_wakes_late(make: Make, connections: Emulator) -> None:
    """2.11 counts execution_timeout from the task's start, and ends who wakes after it before a line of ours is run."""
    seconds = 0.5
    operator = partial(make, deferrable=True, execution_timeout=timedelta(seconds=seconds))
    context = context_of(operator())
    with pytest.raises(TaskDeferred) as deferral:
        operator().execute(context)
    event = fire(deferral.value)
    task = operator()
    ti: Any = context["ti"]
    ti.task, ti.next_method, ti.next_kwargs = task, "execute_complete", {"event": event}
    ti.start_date = datetime.now(UTC) - timedelta(seconds=seconds + 30)
    with pytest.raises(CmlTimeoutError, match=r"It was stopped\."):
        resumed_by_airflow(task, context, event)

    assert connections.ledger.runs()[0].status == "ENGINE_STOPPED"


def test_stop_that_outlasts_execution_timeout(make: Make, connections: Emulator, monkeypatch: Any) -> None:
    """A task that has woken to stop its run, and is itself out of time by then, ends in the same words."""
    monkeypatch.setattr(waiting, "STOP_PATIENCE", 5.0)
    connections.fault("StopJobRun", "slow_stopping", seconds=1.0)
    operator = partial(make, deferrable=True, timeout=0.2)
    context = context_of(operator())
    with pytest.raises(TaskDeferred) as deferral:
        operator().execute(context)
    event = fire(deferral.value)
    with (
        pytest.raises(CmlTimeoutError, match="when execution_timeout struck"),
        execution_timeout_when(lambda: connections.ledger.count("StopJobRun")),
    ):
        operator().execute_complete(context, event)

    assert connections.ledger.runs()[0].stop_requests == 1
