"""A start through API v1, by the operator: once, blind, and found again by its key."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import v1
from airflow_provider_cml.api.conversations import starting_v1
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.compat import AirflowFailException, AirflowSkipException
from airflow_provider_cml.failures import CmlJobBusyFailError, CmlStartFailError, CmlUnansweredError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import connections, context_of, job, log, quick, run_task, set_connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

    Make: TypeAlias = Callable[..., CmlRunJobOperator]

__all__ = ["connections", "job", "log", "quick"]  # fixtures


@pytest.fixture
def make(connections: Emulator, job: Job) -> Make:
    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": "alice/risk-analysis", "job": "208", "wait_for_completion": False, "cml_conn_id": "cml_v1"}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


@pytest.mark.parametrize("deferrable", [False, True])
def test_start_tells_what_v1_tells(make: Make, connections: Emulator, deferrable: bool) -> None:
    """One POST; the engine id is returned, and XCom holds it with the key and the job's own page."""
    context = context_of(make())
    ran = run_task(partial(make, deferrable=deferrable, environment={"A": 1}), context)
    (run,) = connections.ledger.runs()

    assert [entry.operation for entry in connections.ledger.requests()] == ["v1.StartJob"]
    assert ran.value == run.engine_id
    assert context["ti"].pushed == {
        "run_key": run.environment["AIRFLOW_RUN_KEY"],
        "return_value": run.engine_id,
        "run_url": f"{connections.url}/alice/risk-analysis/jobs/208",
    }
    assert run.environment["A"] == "1"
    assert RunKey.parse(run.environment["AIRFLOW_RUN_KEY"]) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"wait_for_completion": True}, "wait_for_completion: .*CmlJobRunSensor"),
        ({"arguments": "--x"}, "arguments: API v1 takes none"),
        ({"project": "risk-analysis"}, "project: .*owner/slug"),
        ({"project": "a/b/c"}, "project: .*owner/slug"),
        ({"project": "../admin"}, "project: "),
        ({"environment": {"AIRFLOW_RUN_KEY": "x"}}, "AIRFLOW_RUN_KEY is set by the provider"),
    ],
)
def test_what_v1_cannot_is_refused_before_any_request(
    make: Make,
    connections: Emulator,
    arguments: dict[str, Any],
    words: str,
) -> None:
    """What cannot be used fails without retry, and says what would work."""
    with pytest.raises(AirflowFailException, match=words):
        run_task(partial(make, **arguments), context_of(make()))

    assert connections.ledger.requests() == []


def test_unknown_job_is_refused(make: Make, connections: Emulator) -> None:
    """A number no job has is CML's own no: one request, no retry."""
    with pytest.raises(AirflowFailException, match="404"):
        run_task(partial(make, job="999"), context_of(make()))

    assert connections.ledger.count("v1.StartJob") == 1


@pytest.mark.parametrize("fault", ["drop_after", "error_after", "broken_json", "html"])
def test_lost_answer_is_not_sent_again(make: Make, connections: Emulator, fault: str) -> None:
    """A start whose fate is unknown fails for good, with the key by which a sensor finds the run, as in XCom."""
    connections.fault("v1.StartJob", fault, count=1)
    context = context_of(make())
    with pytest.raises(CmlStartFailError, match="A run may exist") as caught:
        run_task(make, context)

    assert connections.ledger.count("v1.StartJob") == 1
    assert context["ti"].pushed["run_key"] in str(caught.value)
    assert "return_value" not in context["ti"].pushed


def test_start_that_never_left_may_be_tried_again(
    make: Make,
    connections: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unreachable workspace has started nothing, so Airflow may retry; the error says to check the address."""
    fields = {"host": "http://127.0.0.1:9", "password": "a-legacy-key-of-some-length", "extra": {"api_version": "v1"}}
    set_connection(monkeypatch, "cml_v1", **fields)
    monkeypatch.setattr(v1, "UNSENT_PATIENCE", 0.2)
    for number, durable in ((1, True), (2, False)):
        with pytest.raises(CmlUnansweredError, match=r"refused the connection.*Check Host and port"):
            run_task(partial(make, durable=durable), context_of(make(), try_number=number, max_tries=1))


def test_retry_does_not_start_again(make: Make, connections: Emulator) -> None:
    """v1 cannot tell whether the earlier try started the job, so a retry does not; a clear does, and durable=False."""
    first = context_of(make(retries=1))
    run_task(partial(make, retries=1), first)
    with pytest.raises(CmlStartFailError, match="clear the task") as caught:
        run_task(partial(make, retries=1), context_of(make(retries=1), try_number=2))

    assert first["ti"].pushed["run_key"] in str(caught.value)
    assert connections.ledger.count("v1.StartJob") == 1


@pytest.mark.parametrize(("durable", "max_tries"), [(True, 2), (False, 1)], ids=["cleared", "not durable"])
def test_clear_starts_again(
    make: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    durable: bool,
    max_tries: int,
) -> None:
    """A task that was cleared starts the job once more, as one does that asks for no durability."""
    run_task(partial(make, retries=1, durable=durable), context_of(make(retries=1)))
    workspace.set_status(workspace.runs_of(job)[0], "succeeded")
    run_task(
        partial(make, retries=1, durable=durable),
        context_of(make(retries=1), try_number=2, max_tries=max_tries),
    )

    assert connections.ledger.count("v1.StartJob") == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"on_busy": "fail"}, CmlJobBusyFailError),
        ({"on_busy": "skip"}, AirflowSkipException),
        ({"busy_timeout": 0.2}, CmlJobBusyFailError),
    ],
    ids=str,
)
def test_busy_job_may_end_the_task(
    make: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    expected: type[Exception],
) -> None:
    """v1 tells a busy job by its refusal only; what follows is what the author said, and nothing was started."""
    monkeypatch.setattr(starting_v1, "REFUSAL_GAPS", (0.05,))
    workspace.add_run(job)
    with pytest.raises(expected):
        run_task(partial(make, **arguments), context_of(make()))

    assert [run.api for run in connections.ledger.executed() if run.api != "hand"] == []


def test_busy_job_is_waited_for(
    make: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default the start is tried again, which a refusal allows, until CML takes it."""
    monkeypatch.setattr(starting_v1, "REFUSAL_GAPS", (0.05,))
    workspace.start(job)
    ran = run_task(make, context_of(make()))

    assert ran.value == connections.ledger.runs()[-1].engine_id
    assert [run.api for run in connections.ledger.executed()] == ["hand", "v1"]
