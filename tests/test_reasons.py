"""Why a run ended: in the error and its fields where CML tells, and never a change of what becomes of the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.compat import AirflowTaskTimeout
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError, CmlRunStoppedError, CmlTimeoutError
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import connections, context_of, job, log, quick, run_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

__all__ = ["connections", "job", "log", "quick"]

KILLED = Life(running=0.1, ending="failed", message="Engine exited with status 137.", oom_killed=True)


@pytest.fixture(params=[False, True], ids=["in the worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make(job: Job, connections: Emulator, deferrable: bool) -> Callable[..., CmlRunJobOperator]:
    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "deferrable": deferrable, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


def failure_of(make: Callable[[], Any], kind: type[Exception] = CmlRunFailedError) -> Any:
    with pytest.raises(kind) as caught:
        run_task(make, context_of(make()))
    return caught.value


@pytest.mark.parametrize(
    ("life", "reason"),
    [
        (KILLED, "out of memory (Engine exited with status 137)"),
        (Life(running=0.1, ending="failed", oom_killed=True), "out of memory"),
        (Life(running=0.1, ending="timedout", message="too \n long"), "too long"),
        (Life(running=0.1, ending="failed", message="x" * 1000), "x" * 200 + "..."),
    ],
)
def test_the_reason_is_in_the_error(
    make: Callable[..., Any], connections: Emulator, job: Job, life: Life, reason: str
) -> None:
    """Its text and its `reason`, with CML's link; what it said without one still stands before it."""
    job.life = life
    error = failure_of(make)
    plain = failure_of(lambda: make(explain_failure=False))

    assert error.reason == reason.rstrip(".")
    assert f"gives as the reason: {error.reason}. {connections.url}/alice/risk-analysis/jobs/208" in str(error)
    assert str(error).partition(" CML's list")[0].replace(error.run_id, "") == str(plain).replace(plain.run_id, "")
    assert (plain.reason, connections.ledger.count("ListUsage")) == ("", 1)


def test_no_reason_is_no_text(make: Callable[..., Any], connections: Emulator, job: Job) -> None:
    """Where CML has none to give, the error is as it was."""
    job.life = Life(running=0.1, ending="failed")
    error = failure_of(make)

    assert (error.reason, "list of workloads" in str(error)) == ("", False)
    assert connections.ledger.count("ListUsage") == 1


def test_a_stop_by_somebody_is_asked_about(make: Callable[..., Any], connections: Emulator, job: Job) -> None:
    """A stopped run may have been evicted: for good, with the reason."""
    job.life = Life(running=0.1, ending="stopped", message="evicted")

    assert failure_of(make, CmlRunStoppedError).reason == "evicted"


def test_our_own_stop_needs_no_reason(make: Callable[..., Any], connections: Emulator, job: Job) -> None:
    """When the time was over the reason is known."""
    job.life = Life(running=None)
    failure_of(lambda: make(timeout=0.5), CmlTimeoutError)

    assert connections.ledger.count("ListUsage") == 0


@pytest.mark.parametrize(
    "trouble",
    [
        ("refused", {"status": 403}),
        ("error_before", {"status": 404}),
        ("error_before", {"status": 500}),
        ("drop_before", {}),
        ("html", {"status": 200}),
        ("broken_json", {}),
        ("delay_answer", {"seconds": 30}),
    ],
    ids=lambda trouble: trouble[0],
)
def test_no_trouble_changes_the_outcome(
    make: Callable[..., Any],
    connections: Emulator,
    job: Job,
    log: pytest.LogCaptureFixture,
    trouble: tuple[str, dict[str, Any]],
) -> None:
    """Forbidden, absent, broken, lost or slow: the same error, after one request, and a line in the log."""
    job.life = KILLED
    kind, settings = trouble
    connections.fault("ListUsage", kind, **settings)
    error = failure_of(make)

    assert (error.reason, error.status) == ("", "ENGINE_FAILED")
    assert "asked for the reason" in log.text
    assert connections.ledger.count("ListUsage") == 1


@pytest.mark.parametrize("struck", [AirflowTaskTimeout("execution_timeout"), RuntimeError("a defect")], ids=repr)
def test_not_even_airflow_changes_the_outcome(
    make: Callable[..., Any], job: Job, monkeypatch: pytest.MonkeyPatch, struck: BaseException
) -> None:
    """The run has ended: an execution_timeout, or a defect of ours, in those seconds is too late to matter."""

    def strike(hook: CmlTaskHook, run: object) -> None:
        raise struck

    job.life = KILLED
    monkeypatch.setattr(CmlTaskHook, "find_usage", strike)

    assert failure_of(make).reason == ""


def test_a_success_is_not_asked_about(make: Callable[..., Any], connections: Emulator, job: Job) -> None:
    """A green run costs what it cost."""
    job.life = Life(running=0.1, oom_killed=True)
    run_task(make, context_of(make()))

    assert connections.ledger.count("ListUsage") == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_the_sensor_tells_it_too(
    connections: Emulator, workspace: Workspace, job: Job, deferrable: bool, wanted: bool
) -> None:
    """In every mode, unless it is told not to ask."""
    job.life = KILLED
    run = workspace.start(job)

    def make() -> CmlJobRunSensor:
        return CmlJobRunSensor(
            task_id="wait",
            project=job.project_id,
            job=job.id,
            run_id=run.id,
            deferrable=deferrable,
            poke_interval=0.05,
            explain_failure=wanted,
        )

    error = failure_of(make)

    assert error.reason == ("out of memory (Engine exited with status 137)" if wanted else "")
    assert connections.ledger.count("ListUsage") == wanted
