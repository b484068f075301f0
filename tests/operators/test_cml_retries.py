"""`follow_retries`: a run that CML's own Job Retry makes again is gone on with, up to the one that decides."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import succession
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError, CmlRunStoppedError, CmlTaskError, CmlTimeoutError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import TaskDeferred, context_of, run_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace

    Make: TypeAlias = Callable[..., CmlRunJobOperator]

FAILED = Life(running=0.1, ending="failed")
SUCCEEDED = Life(running=0.1)
UNTIL_TOLD = Life(running=None)
RETRIED = {
    "retry_enabled": True,
    "max_retry": 2,
    "retry_for_script_failure": True,
    "retry_for_timedout_runs": True,
}


@pytest.fixture(autouse=True)
def quick_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "LATENESS", 0.5)


@pytest.fixture(params=[False, True], ids=["in the worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def retried(workspace: Workspace, project: Project) -> Job:
    """A job that CML runs again."""
    return workspace.add_job(project, "retried", number=3, life=[FAILED, SUCCEEDED], **RETRIED)


@pytest.fixture
def make(retried: Job, connections: Emulator, deferrable: bool) -> Make:
    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": retried.project_id, "job": retried.id, "deferrable": deferrable, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, "follow_retries": True, **arguments})

    return operator


def lives(*those: Life) -> Sequence[Life]:
    return those


@pytest.mark.parametrize("first", ["failed", "timedout"])
def test_the_run_that_succeeds_decides(
    make: Make, connections: Emulator, retried: Job, log: pytest.LogCaptureFixture, first: str
) -> None:
    """Green, with the second run's id, status and times in XCom under the one key; the log tells of both."""
    retried.life = lives(Life(running=0.1, ending=first), SUCCEEDED)
    context = context_of(make())
    ran = run_task(make, context)
    one, two = connections.ledger.executed(retried.id)
    pushed = context["ti"].pushed

    assert (ran.value, pushed["return_value"], pushed["status"]) == (two.id, two.id, "succeeded")
    assert pushed["run_key"] == one.environment["AIRFLOW_RUN_KEY"] == two.environment["AIRFLOW_RUN_KEY"]
    assert connections.ledger.count("CreateJobRun") == 1
    assert f"CML's Job Retry has made run {two.id} of run {one.id} ({first}): following it." in log.text


def test_the_last_failure_decides(make: Make, connections: Emulator, retried: Job) -> None:
    """When CML gives up, the task fails with the last run, and Airflow may retry."""
    retried.life = FAILED
    context = context_of(make())
    with pytest.raises(CmlRunFailedError) as caught:
        run_task(make, context)
    runs = connections.ledger.executed(retried.id)

    assert len(runs) == 3
    assert caught.value.run_id == context["ti"].pushed["return_value"] == runs[-1].id
    assert runs[-1].id in str(caught.value)


def test_a_run_that_somebody_stops_is_not_followed(
    make: Make, connections: Emulator, workspace: Workspace, retried: Job
) -> None:
    """CML makes no stopped run again: the retry that was stopped decides, for good."""
    retried.life = lives(FAILED, Life(running=0.1, ending="stopped"))
    with pytest.raises(CmlRunStoppedError):
        run_task(make, context_of(make()))

    assert len(connections.ledger.executed(retried.id)) == 2


def test_nobody_follows_unasked(make: Make, connections: Emulator, retried: Job) -> None:
    """By default the first failure is the task's, and not one look is spent on more."""
    with pytest.raises(CmlRunFailedError) as caught:
        run_task(lambda: make(follow_retries=False), context_of(make()))

    assert caught.value.run_id == connections.ledger.executed(retried.id)[0].id
    assert connections.ledger.count("GetJob") == 0


def test_timeout_stops_the_run_that_is_followed(make: Make, connections: Emulator, retried: Job) -> None:
    """The time counts from the first run on; what is stopped is the run that goes on."""
    retried.life = lives(FAILED, UNTIL_TOLD)
    context = context_of(make())
    with pytest.raises(CmlTimeoutError) as caught:
        run_task(lambda: make(timeout=1.5), context)
    one, two = connections.ledger.executed(retried.id)

    assert (one.stop_requests, two.stop_requests, two.status) == (0, 1, "ENGINE_STOPPED")
    assert caught.value.run_id == context["ti"].pushed["return_value"] == two.id


def test_the_next_try_carries_on_with_cmls_retry(
    make: Make, connections: Emulator, workspace: Workspace, retried: Job
) -> None:
    """A worker that dies while CML's retry goes on leaves it to the next try, which starts nothing."""
    retried.life = lives(FAILED, UNTIL_TOLD)
    run_task(lambda: make(wait_for_completion=False, retries=1), context_of(make(retries=1)))
    deadline = time.monotonic() + 20
    while len(connections.ledger.executed(retried.id)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    two = connections.ledger.executed(retried.id)[1]
    threading.Timer(0.5, lambda: workspace.set_status(two.id, "succeeded")).start()
    ran = run_task(lambda: make(retries=1), context_of(make(retries=1), try_number=2))

    assert ran.value == two.id
    assert connections.ledger.count("CreateJobRun") == 1


def test_a_lost_answer_makes_no_double_of_a_retry(
    make: Make, connections: Emulator, retried: Job, log: pytest.LogCaptureFixture
) -> None:
    """After a lost answer the task looks for a second run of its try: CML's own retry is none."""
    connections.fault("CreateJobRun", "drop_after", count=1)
    ran = run_task(make, context_of(make()))
    two = connections.ledger.executed(retried.id)[-1]

    assert (ran.value, two.stop_requests) == (two.id, 0)
    assert "second run of this try" not in log.text


def test_one_engine_is_not_warned_of(make: Make, connections: Emulator, log: pytest.LogCaptureFixture) -> None:
    """Airflow's retry begins only after CML's have ended: the two are one after the other."""
    run_task(lambda: make(retries=1), context_of(make(retries=1)))

    assert "use one of them" not in log.text


def test_a_kill_stops_the_run_that_is_followed(
    connections: Emulator, retried: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the worker: the signal comes while CML's retry goes on, and that run is stopped."""
    retried.life = lives(FAILED, UNTIL_TOLD)
    task = CmlRunJobOperator(
        task_id="value_at_risk",
        project=retried.project_id,
        job=retried.id,
        poll_interval=0.05,
        deferrable=False,
        follow_retries=True,
    )
    context = context_of(task)

    def send_signal() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            runs = connections.ledger.executed(retried.id)
            if len(runs) == 2 and context["ti"].pushed.get("return_value") == runs[1].id:
                break
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, lambda _number, _frame: task.on_kill())
    sender = threading.Thread(target=send_signal)
    sender.start()
    try:
        with pytest.raises(CmlTaskError, match="told to end"):
            task.execute(context)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, former)

    assert [run.stop_requests for run in connections.ledger.executed(retried.id)] == [0, 1]


# ---------------------------------------------------------------- Airflow wakes the task without an event


@pytest.fixture
def make_deferred(retried: Job, connections: Emulator) -> Make:
    return lambda: CmlRunJobOperator(
        task_id="value_at_risk",
        project=retried.project_id,
        job=retried.id,
        poll_interval=0.05,
        timeout=60,
        deferrable=True,
        follow_retries=True,
    )


def wake_late(make: Make, cml: Emulator, job: Job, context: Any, last: str) -> Any:
    """What a task comes to that Airflow wakes without an event, when the last of two runs has this status."""
    with pytest.raises(TaskDeferred):
        make().execute(context)
    deadline = time.monotonic() + 20
    while [run.status for run in cml.ledger.executed(job.id)] != ["ENGINE_FAILED", last]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return make().resume_execution("__fail__", {"error": "Trigger timeout"}, context)


def test_a_late_triggerer_stops_the_run_that_goes_on(make_deferred: Make, connections: Emulator, retried: Job) -> None:
    """XCom knows the first run only; the one CML has made of it is looked for, stopped, and named."""
    retried.life = lives(FAILED, UNTIL_TOLD)
    context = context_of(make_deferred())
    with pytest.raises(CmlTimeoutError, match=r"triggerer had not reported in time .*It was stopped\.") as caught:
        wake_late(make_deferred, connections, retried, context, "ENGINE_RUNNING")
    one, two = connections.ledger.executed(retried.id)

    assert (one.stop_requests, two.stop_requests, two.status) == (0, 1, "ENGINE_STOPPED")
    assert caught.value.run_id == context["ti"].pushed["return_value"] == two.id
    assert f"Run {two.id} of job" in str(caught.value)


def test_a_late_triggerer_and_a_retry_that_succeeded(make_deferred: Make, connections: Emulator, retried: Job) -> None:
    """The last run decides, though nobody has told of it: green, and nothing is stopped."""
    context = context_of(make_deferred())
    value = wake_late(make_deferred, connections, retried, context, "ENGINE_SUCCEEDED")
    two = connections.ledger.executed(retried.id)[1]

    assert value == context["ti"].pushed["return_value"] == two.id
    assert context["ti"].pushed["status"] == "succeeded"
    assert connections.ledger.count("StopJobRun") == 0


def test_a_late_triggerer_and_a_look_that_fails(
    make_deferred: Make,
    connections: Emulator,
    retried: Job,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """Where the look for a retry gets no answer, the task ends with the run it knows, and the log says so."""
    monkeypatch.setattr(succession, "POLL_PATIENCE", 0.2)
    retried.life = lives(FAILED, UNTIL_TOLD)
    connections.fault("GetJob", "error_before", status=503)
    context = context_of(make_deferred())
    with pytest.raises(CmlTimeoutError, match="It is over: failed") as caught:
        wake_late(make_deferred, connections, retried, context, "ENGINE_RUNNING")
    one = connections.ledger.executed(retried.id)[0]

    assert caught.value.run_id == one.id
    assert f"Could not look for a run that CML has made of run {one.id}" in log.text
