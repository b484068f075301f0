"""CmlRunJobOperator against a workspace: how a run is started, waited for, found again and stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import errors, retry
from airflow_provider_cml.api.conversations import posting, starting, waiting, watching
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.compat import AirflowFailException, AirflowSkipException
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import (
    CmlJobBusyFailError,
    CmlRefusedFailError,
    CmlRunFailedError,
    CmlRunStoppedError,
    CmlRunUnclearError,
    CmlStartFailError,
    CmlTaskError,
    CmlTimeoutError,
    CmlUnansweredError,
)
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.triggers import sharing
from tests.airflow_side import PASSWORD, context_of, end_active_run, run_task, set_connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

    Make: TypeAlias = Callable[..., CmlRunJobOperator]


@pytest.fixture(params=[False, True], ids=["in the worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make(job: Job, connections: Emulator, deferrable: bool) -> Make:
    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "deferrable": deferrable, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


@pytest.fixture
def make_in_worker(job: Job, connections: Emulator) -> Make:
    """For what is the same wherever the waiting happens."""

    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


def outcome_of(make: Callable[[], CmlRunJobOperator], context: Any, expected: type[Exception]) -> Exception:
    """The error a task ends in."""
    with pytest.raises(expected) as caught:
        run_task(make, context)
    return caught.value


# ---------------------------------------------------------------- a run that succeeds


def test_success_returns_the_run_and_tells_xcom(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, deferrable: bool
) -> None:
    """The task returns the run's id, and XCom holds all that is promised, the result last."""
    job.life = Life(running=None if deferrable else 0.15)
    context = context_of(make())
    ran = run_task(make, context, asleep=lambda: end_active_run(workspace, job))
    (run,) = connections.ledger.executed()
    pushed = context["ti"].pushed
    times = {"created_at", "scheduling_at", "starting_at", "running_at", "finished_at"}

    assert ran.value == run.id
    assert len(ran.deferrals) == (1 if deferrable else 0)
    assert list(pushed)[:5] == ["return_value", "run_key", "project_id", "job_id", "run_url"]
    assert set(pushed) - set(list(pushed)[:5]) == {"status"} | times
    assert pushed["return_value"] == run.id
    assert (pushed["project_id"], pushed["job_id"]) == (job.project_id, job.id)
    assert pushed["run_url"] == f"{connections.url}/alice/risk-analysis/jobs"
    assert pushed["status"] == "succeeded"


def test_run_carries_its_key_and_airflows_variables(
    make: Make, connections: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is told who started it; the key in XCom is the key it carries."""
    monkeypatch.setenv("AIRFLOW__CML__DEPLOYMENT", "production")
    context = context_of(make(), map_index=3)
    run_task(make, context)
    (run,) = connections.ledger.executed()
    key = RunKey.parse(run.environment["AIRFLOW_RUN_KEY"])

    assert run.environment["AIRFLOW_CTX_DAG_ID"] == "risk"
    assert run.environment["AIRFLOW_CTX_TASK_ID"] == "value_at_risk"
    assert not {"AIRFLOW_CTX_DAG_OWNER", "AIRFLOW_CTX_DAG_EMAIL"} & set(run.environment)
    assert key is not None
    assert (key.deployment, key.dag_id, key.run_id) == ("production", "risk", "scheduled__2026-11-21")
    assert (key.task_id, key.map_index) == ("value_at_risk", 3)
    assert context["ti"].pushed["run_key"] == run.environment["AIRFLOW_RUN_KEY"]


def test_ids_cost_one_look_one_start_one_link(make_in_worker: Make, connections: Emulator) -> None:
    """With ids a start is one look at the runs, one POST, and one GET of the project after it."""
    run_task(lambda: make_in_worker(wait_for_completion=False), context_of(make_in_worker()))

    assert [entry.operation for entry in connections.ledger.requests()] == ["ListJobRuns", "CreateJobRun", "GetProject"]


def test_names_are_found(make_in_worker: Make, connections: Emulator) -> None:
    """Project and job may be given by name; both are templates."""
    context = context_of(make_in_worker()) | {"who": "alice", "what": "VaR"}
    ran = run_task(lambda: make_in_worker(project="{{ who }}/risk-analysis", job="nightly {{ what }}"), context)

    assert ran.value == connections.ledger.executed()[0].id


def test_not_waiting_ends_with_the_start(make: Make, connections: Emulator, workspace: Workspace, job: Job) -> None:
    """wait_for_completion=False neither waits nor defers, and still tells XCom everything but the end."""
    job.life = Life(running=None)
    context = context_of(make())
    ran = run_task(lambda: make(wait_for_completion=False), context)

    assert ran.deferrals == []
    assert list(context["ti"].pushed) == ["return_value", "run_key", "project_id", "job_id", "run_url"]
    assert connections.ledger.runs()[0].status == "ENGINE_RUNNING"


def test_run_that_is_over_never_defers(make: Make, connections: Emulator, job: Job) -> None:
    """A run that ends while its link is fetched costs no deferral."""
    job.life = Life(running=0.0)
    ran = run_task(make, context_of(make()))

    assert ran.deferrals == []


def test_no_worker_is_kept_by_a_workspace_that_fails(
    make_in_worker: Make, connections: Emulator, workspace: Workspace, job: Job
) -> None:
    """The one look before a task goes to sleep is not repeated: the triggerer has the patience, and all the time."""
    job.life = Life(running=None)
    connections.fault("GetJobRun", "error_before", status=500, count=2)
    looks: list[int] = []

    def asleep() -> None:
        looks.append(connections.ledger.count("GetJobRun"))
        end_active_run(workspace, job)

    make = partial(make_in_worker, deferrable=True)
    run_task(make, context_of(make()), asleep)

    assert looks == [1]
    assert connections.ledger.count("GetJobRun") == 3


def test_link_that_cannot_be_made_is_only_warned_about(
    make_in_worker: Make, connections: Emulator, log: pytest.LogCaptureFixture
) -> None:
    """The project behind the link is asked for once; its failure fails no task."""
    connections.fault("GetProject", "error_before", status=500)
    context = context_of(make_in_worker())
    run_task(make_in_worker, context)

    assert context["ti"].pushed["run_url"] == ""
    assert "The link to CML is missing" in log.text
    assert connections.ledger.count("GetProject") == 1


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("ending", "expected", "may_retry", "words"),
    [
        ("failed", CmlRunFailedError, True, "failed (ENGINE_FAILED)"),
        ("timedout", CmlRunFailedError, True, "longer than the job's timeout"),
        ("stopped", CmlRunStoppedError, False, "not by this task"),
    ],
)
def test_bad_ending(
    make: Make, connections: Emulator, job: Job, ending: str, expected: type[Exception], may_retry: bool, words: str
) -> None:
    """Each bad ending is an error of its own, with the run in it; what was told to XCom stays."""
    job.life = Life(running=0.1, ending=ending)
    context = context_of(make())
    error: Any = outcome_of(make, context, expected)
    (run,) = connections.ledger.executed()

    assert words in str(error)
    assert isinstance(error, AirflowFailException) is not may_retry
    assert (error.run_id, error.job_id, error.project_id) == (run.id, job.id, job.project_id)
    assert error.run_url in str(error)
    assert context["ti"].pushed["return_value"] == run.id
    assert context["ti"].pushed["status"] == ending


def test_word_nobody_knows_is_bounded_and_never_green(
    make: Make, connections: Emulator, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status that is not in the table ends the wait after its bound, and leaves the run alone."""
    monkeypatch.setattr(waiting, "UNKNOWN_BOUND", 0.1)
    job.life = lambda _run: Life(running=0.0, ending="ENGINE_DREAMING")
    error = outcome_of(make, context_of(make()), CmlRunUnclearError)

    assert "ENGINE_DREAMING" in str(error)
    assert connections.ledger.count("StopJobRun") == 0


def test_run_that_turns_skipped_is_started_again(
    make: Make, connections: Emulator, workspace: Workspace, job: Job
) -> None:
    """A started run that CML skips later never ran: the task takes part again and gets another."""
    lives = iter([Life(scheduling=0.1, ending="skipped", running=0.0), Life(running=0.0)])
    job.life = lambda _run: next(lives)
    ran = run_task(make, context_of(make()))

    assert connections.ledger.count("CreateJobRun") == 2
    assert ran.value == connections.ledger.runs()[-1].id


BAD_POLLS: dict[str, tuple[str, dict[str, Any]]] = {
    "503": ("error_before", {}),
    "429, seconds": ("too_many_requests", {"retry_after": 1}),
    "429, a date": ("too_many_requests", {"retry_after": "date+1"}),
    "429, nothing": ("too_many_requests", {}),
    "429, negative": ("too_many_requests", {"retry_after": "-30"}),
    "429, absurd": ("too_many_requests", {"retry_after": 99_999_999}),
    "429, no number": ("too_many_requests", {"retry_after": "soon"}),
    "500": ("error_before", {"status": 500}),
    "502 with a page": ("html", {"status": 502}),
    "504": ("error_before", {"status": 504}),
    "cut off before": ("drop_before", {}),
    "cut off after": ("drop_after", {}),
    "login page": ("html", {}),
    "login elsewhere": ("html", {"status": 302}),
    "broken JSON": ("broken_json", {}),
    "too late": ("delay_answer", {"seconds": 3.0}),
}
"""What a look at a run may be answered with, none of which says anything about the run."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, connections: Emulator) -> None:
    """Patience for many bad polls in a row, short waits when told to wait, and one second to answer."""
    for module in (waiting, watching, sharing):
        monkeypatch.setattr(module, "POLL_PATIENCE", 60.0)
    monkeypatch.setattr(errors, "RETRY_AFTER_CAP", 0.1)
    monkeypatch.setattr(retry, "LONGEST_GAP", 0.1)
    set_connection(monkeypatch, host=connections.url, password=connections.api_key, extra={"timeout": 1})


@pytest.mark.usefixtures("patient")
def test_polls_survive_what_passes(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, deferrable: bool
) -> None:
    """Each kind of bad poll, one after the other, by requests in the worker and by aiohttp in the trigger: green."""
    job.life = Life(running=None)
    kinds = list(BAD_POLLS.values())
    # Where the task goes to sleep, the look before it is the first to be answered badly.
    for kind, settings in [*kinds[: int(deferrable)], *kinds]:
        connections.fault("GetJobRun", kind, count=1, **settings)

    def end_when_all_have_passed(entry: Any) -> None:
        if entry.operation == "GetJobRun" and all(fault["fired"] for fault in connections.faults.listing()):
            workspace.set_status(workspace.runs_of(job)[0], "succeeded")

    connections.ledger.listeners.append(end_when_all_have_passed)
    ran = run_task(make, context_of(make()))

    assert ran.value == connections.ledger.executed()[0].id
    assert len(ran.deferrals) == int(deferrable)
    assert [fault["fired"] for fault in connections.faults.listing()] == [1] * (len(kinds) + int(deferrable))
    assert connections.ledger.count("CreateJobRun") == 1
    assert connections.ledger.count("StopJobRun") == 0


def test_workspace_that_answers_no_more_leaves_the_run_alone(make: Make, connections: Emulator, job: Job) -> None:
    """When the patience for failed looks is over the task fails, may be retried, and stops nothing."""
    job.life = Life(running=None)
    connections.fault("GetJobRun", "error_before", status=503)
    error = outcome_of(make, context_of(make()), CmlUnansweredError)

    assert not isinstance(error, AirflowFailException)
    assert connections.ledger.count("StopJobRun") == 0
    assert connections.ledger.runs()[0].status == "ENGINE_RUNNING"


def test_key_that_expires_meanwhile_fails_for_good(make: Make, connections: Emulator, job: Job) -> None:
    """401 while waiting is told as such, without retry, and the run is left alone."""
    job.life = Life(running=None)
    connections.fault("GetJobRun", "refused", status=401)
    error = outcome_of(make, context_of(make()), CmlRefusedFailError)

    assert "API key" in str(error)
    assert connections.ledger.count("StopJobRun") == 0


# ---------------------------------------------------------------- time


def test_timeout_stops_the_run_then_fails(make: Make, connections: Emulator, job: Job) -> None:
    """When this try's time is over the run is stopped, once, and the error says both."""
    job.life = Life(running=None)
    error = outcome_of(lambda: make(timeout=0.3), context_of(make()), CmlTimeoutError)
    (run,) = connections.ledger.runs()

    assert "It was stopped." in str(error)
    assert (run.status, run.stop_requests) == ("ENGINE_STOPPED", 1)


def test_execution_timeout_holds_while_deferred(make_in_worker: Make, connections: Emulator, job: Job) -> None:
    """Airflow 3 does not watch execution_timeout of a deferred task, so the wait itself does."""
    job.life = Life(running=None)
    make = partial(make_in_worker, deferrable=True, execution_timeout=timedelta(seconds=0.3))
    outcome_of(make, context_of(make()), CmlTimeoutError)

    assert connections.ledger.runs()[0].status == "ENGINE_STOPPED"


def test_stop_that_fails_is_told(make: Make, connections: Emulator, job: Job) -> None:
    """A timeout whose stop CML refuses says that the run may still be active."""
    job.life = Life(running=None)
    connections.fault("StopJobRun", "refused", status=401)
    error = outcome_of(lambda: make(timeout=0.2), context_of(make()), CmlTimeoutError)

    assert "may still be active" in str(error)


def test_event_that_never_came_is_named(make: Make) -> None:
    """A deferral that outlived its deadlines is reported by Airflow without an event; the error says it in words."""
    task = make()
    with pytest.raises(CmlTimeoutError, match="triggerer did not report in time"):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context_of(task))


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"version": 99, "ending": "over"}, "over"])
def test_event_that_cannot_be_read_is_no_success(make_in_worker: Make, connections: Emulator, event: Any) -> None:
    """An event that is not whole, or not ours, fails the task, starts nothing and stops nothing."""
    task = make_in_worker()
    with pytest.raises(CmlRefusedFailError, match="left alone"):
        task.execute_complete(context_of(task), event)

    assert connections.ledger.requests() == []


# ---------------------------------------------------------------- refused, and nothing started


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"project": "aaaa-bbbb-cccc-dddd"}, "404"),
        ({"job": "aaaa-bbbb-cccc-dddd"}, "404"),
        ({"project": "alice/nothing"}, "no project is called 'alice/nothing'.*alice/risk-analysis"),
        ({"job": "nightly var"}, "no job is called 'nightly var'.*nightly VaR"),
        ({"job": "208"}, "for API v1 only"),
        ({"on_busy": "hope"}, "on_busy: 'hope'"),
        ({"poll_interval": 0}, "poll_interval: 0"),
        ({"timeout": -1}, "timeout: -1"),
        ({"busy_timeout": "soon"}, "busy_timeout: 'soon'"),
        (
            {"poll_interval": float("inf")},
            "poll_interval: inf is not a number of seconds above zero and below ten years",
        ),
        ({"timeout": float("inf"), "deferrable": True}, "timeout: inf"),
        ({"timeout": 1e13}, "timeout: 10000000000000.0"),
        ({"timeout": float("nan")}, "timeout: nan"),
        ({"busy_timeout": 10**400}, "busy_timeout: 1000.* is not a number"),
        ({"arguments": ["a"]}, "arguments: must be one string"),
    ],
)
def test_what_cannot_be_used_is_refused(
    make_in_worker: Make, connections: Emulator, arguments: dict[str, Any], words: str
) -> None:
    """What the DAG author got wrong fails without retry, says what it is, and starts nothing."""
    make = partial(make_in_worker, **arguments)
    with pytest.raises(AirflowFailException, match=words):
        run_task(make, context_of(make()))

    assert connections.ledger.runs() == []
    assert connections.ledger.count("CreateJobRun") == 0


@pytest.mark.parametrize(
    ("fields", "fault", "words", "is_final"),
    [
        ({"password": "wrong-key-0123456789"}, None, "401.*wrong, has expired, or belongs to the other API", True),
        ({"host": ""}, None, "Host: is empty", True),
        ({"password": ""}, None, "API key .*is empty", True),
        ({}, {"kind": "refused", "status": 403}, "403.*may not do this", True),
        ({"host": "http://127.0.0.1:9"}, None, "refused the connection.*Host and port", False),
        ({"host": "https://nowhere.invalid"}, None, "not a known host", False),
        ({}, {"kind": "html"}, "expected JSON, got text/html", False),
        ({}, {"kind": "html", "status": 302}, "redirect", False),
        ({}, {"kind": "html", "status": 404}, "404.*not by CML.*Host", False),
        ({}, {"kind": "html", "status": 401}, "401.*wrong, has expired", True),
    ],
)
def test_connection_that_is_wrong_fails_the_first_try(
    make_in_worker: Make,
    connections: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, str],
    fault: dict[str, Any] | None,
    words: str,
    is_final: bool,
) -> None:
    """The error says what to change, and nothing is started. What may be an outage is retried by Airflow."""
    set_connection(monkeypatch, **{"host": connections.url, "password": connections.api_key, **fields})
    if fault:
        connections.fault("*", **fault)
    with pytest.raises(AirflowFailException if is_final else CmlUnansweredError, match=words):
        run_task(make_in_worker, context_of(make_in_worker()))

    assert connections.ledger.count("CreateJobRun") == 0


def test_connection_v1_is_told_what_it_cannot(make_in_worker: Make, connections: Emulator) -> None:
    """Waiting on a connection for API v1 fails before any request and names the way out."""
    make = partial(make_in_worker, cml_conn_id="cml_v1")
    with pytest.raises(AirflowFailException, match=r"wait_for_completion=False.*CmlJobRunSensor"):
        run_task(make, context_of(make()))

    assert connections.ledger.requests() == []


# ---------------------------------------------------------------- retries and lost answers


def retry_of(make: Make, **arguments: Any) -> tuple[Callable[[], CmlRunJobOperator], Any, Any]:
    """The second of two tries, as long after the first as Airflow's default makes it, and the contexts of both."""
    patient = {"retries": 1, "retry_delay": timedelta(minutes=5), **arguments}
    first = partial(make, **patient, wait_for_completion=False)
    context = context_of(first())
    run_task(first, context)
    later = partial(make, **patient)
    return later, context, context_of(later(), try_number=2)


@pytest.mark.parametrize("seconds", [0.0, 0.2], ids=["succeeded meanwhile", "still active"])
def test_retry_takes_the_run_of_the_earlier_try(make: Make, connections: Emulator, job: Job, seconds: float) -> None:
    """A retry carries on with an active run, and is content with one that has succeeded meanwhile."""
    job.life = Life(running=seconds)
    later, first, second = retry_of(make)
    ran = run_task(later, second)

    assert ran.value == first["ti"].pushed["return_value"]
    assert connections.ledger.count("CreateJobRun") == 1
    assert second["ti"].pushed["run_key"] == first["ti"].pushed["run_key"]


def test_retry_starts_anew_after_a_failed_run(make: Make, connections: Emulator, job: Job) -> None:
    """A retry of a failed run starts another one, with the number of its own try in the key."""
    lives = iter([Life(ending="failed"), Life()])
    job.life = lambda _run: next(lives)
    later, first, second = retry_of(make)
    ran = run_task(later, second)
    key = RunKey.parse(second["ti"].pushed["run_key"])

    assert ran.value != first["ti"].pushed["return_value"]
    assert connections.ledger.count("CreateJobRun") == 2
    assert key is not None
    assert key.try_number == 2


def test_try_that_is_not_durable_starts_its_own(make: Make, connections: Emulator, job: Job) -> None:
    """With durable=False a retry waits for the earlier try's run like for anybody's, and starts one of its own."""
    later, first, second = retry_of(make, durable=False)
    ran = run_task(later, second)

    assert ran.value != first["ti"].pushed["return_value"]
    assert len(connections.ledger.executed()) == 2


def test_clear_stops_what_was_left_behind(
    make_in_worker: Make, connections: Emulator, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was cleared does not carry on with its former run: it stops it and starts another."""
    monkeypatch.setenv("AIRFLOW__CML__DEPLOYMENT", "production")
    lives = iter([Life(running=None), Life()])
    job.life = lambda _run: next(lives)
    slow = {"retry_delay": timedelta(minutes=5)}
    first = partial(make_in_worker, wait_for_completion=False, **slow)
    run_task(first, context_of(first()))
    run_task(lambda: make_in_worker(**slow), context_of(first(), try_number=2, max_tries=1))

    assert [run.status for run in connections.ledger.runs()] == ["ENGINE_STOPPED", "ENGINE_SUCCEEDED"]


def test_lost_answer_finds_its_run(make: Make, connections: Emulator, log: pytest.LogCaptureFixture) -> None:
    """A start whose answer is lost is looked for by its key and not sent again."""
    connections.fault("CreateJobRun", "drop_after", count=1)
    ran = run_task(make, context_of(make()))

    assert ran.value == connections.ledger.executed()[0].id
    assert connections.ledger.count("CreateJobRun") == 1
    assert "The answer to the start was lost" in log.text


def test_start_that_cannot_be_settled_says_so(
    make_in_worker: Make, connections: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost, and the run that began since shows no environment: the task fails for good and gives the key."""
    monkeypatch.setattr(posting, "GRACE", 0.3)
    connections.fault("CreateJobRun", "drop_after", count=1)
    connections.fault("*", "no_echo")
    error = outcome_of(make_in_worker, context_of(make_in_worker()), CmlStartFailError)

    assert "A run may exist" in str(error)
    assert connections.ledger.runs()[0].environment["AIRFLOW_RUN_KEY"] in str(error)


# ---------------------------------------------------------------- a busy job


@pytest.mark.parametrize("face", [400, 200, 409, 412])
@pytest.mark.parametrize(("on_busy", "expected"), [("fail", CmlJobBusyFailError), ("skip", AirflowSkipException)])
def test_busy_job_is_not_waited_for(
    make_in_worker: Make, connections: Emulator, on_busy: str, expected: type[Exception], face: int
) -> None:
    """A start that CML refuses because the job is busy, in any of the four ways, fails or skips if told so."""
    connections.fault("CreateJobRun", "busy", status=face, forced=True)
    outcome_of(lambda: make_in_worker(on_busy=on_busy), context_of(make_in_worker()), expected)

    assert connections.ledger.executed() == []
    assert connections.ledger.count("CreateJobRun") == 1


@pytest.mark.parametrize(("on_busy", "expected"), [("fail", CmlJobBusyFailError), ("skip", AirflowSkipException)])
def test_foreign_run_is_seen_before_the_start(
    make_in_worker: Make, connections: Emulator, workspace: Workspace, job: Job, on_busy: str, expected: type[Exception]
) -> None:
    """A run of somebody else is seen by the look: no start is sent, and the run is left alone."""
    foreign = workspace.add_run(job)
    error = outcome_of(lambda: make_in_worker(on_busy=on_busy), context_of(make_in_worker()), expected)

    assert foreign.id in str(error)
    assert connections.ledger.count("CreateJobRun") == 0
    assert connections.ledger.count("StopJobRun") == 0


def test_busy_job_is_waited_for(
    make: Make, connections: Emulator, workspace: Workspace, job: Job, deferrable: bool
) -> None:
    """By default the task waits, where it waits for its run, until a foreign run is over, and then starts its own."""
    job.life = Life(running=None if deferrable else 0.5)
    foreign = workspace.start(job)
    ran = run_task(make, context_of(make()), asleep=lambda: end_active_run(workspace, job))

    assert ran.value != foreign.id
    assert [run.id for run in connections.ledger.executed()] == [foreign.id, ran.value]
    assert [deferral.method_name for deferral in ran.deferrals] == (
        ["execute_when_free", "execute_complete"] if deferrable else []
    )


def test_wait_in_the_triggerer_counts_as_settling(
    make_in_worker: Make,
    connections: Emulator,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """A later try that has waited for a busy job does not wait for a start of the earlier one on top of it."""
    monkeypatch.setattr(starting, "SETTLE", 0.3)
    foreign = connections.workspace.add_run(job)
    later = partial(make_in_worker, deferrable=True, retries=2, retry_delay=timedelta(0))

    def end_soon() -> None:
        threading.Timer(0.4, connections.workspace.set_status, (foreign.id, "succeeded")).start()

    ran = run_task(later, context_of(later(), try_number=2, max_tries=2), end_soon)

    assert ["execute_when_free", "execute_complete"] == [deferral.method_name for deferral in ran.deferrals]
    assert "may still be on its way" not in log.text


def test_wait_for_a_busy_job_is_bounded(make: Make, connections: Emulator, workspace: Workspace, job: Job) -> None:
    """busy_timeout ends the wait for somebody else's run; nothing was started or stopped."""
    workspace.add_run(job)
    bounded = partial(make, busy_timeout=0.2)
    error = outcome_of(bounded, context_of(bounded()), CmlJobBusyFailError)

    assert "busy_timeout" in str(error)
    assert connections.ledger.count("CreateJobRun") == 0
    assert connections.ledger.count("StopJobRun") == 0


# ---------------------------------------------------------------- kill


@pytest.mark.parametrize(
    ("cancel", "status"), [(True, ("ENGINE_STOPPING", "ENGINE_STOPPED")), (False, ("ENGINE_RUNNING",))]
)
def test_kill_ends_the_wait_within_three_seconds(
    make_in_worker: Make,
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    cancel: bool,
    status: tuple[str, ...],
) -> None:
    """The signal's on_kill stops the run, if it may, without the connection; the wait ends, however long its gap."""
    monkeypatch.setattr(waiting, "SHORTEST_GAP", 60.0)
    job.life = Life(running=None)
    task = make_in_worker(cancel_on_kill=cancel)
    told: list[float] = []

    def kill(_number: int, _frame: object) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_CML_DEFAULT")
        told.append(time.monotonic())
        task.on_kill()

    def send_signal() -> None:
        deadline = time.monotonic() + 10
        while connections.ledger.count("GetJobRun") == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # into the gap
        os.kill(os.getpid(), signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, kill)
    sender = threading.Thread(target=send_signal)
    sender.start()
    try:
        with pytest.raises(CmlTaskError, match="told to end") as caught:
            task.execute(context_of(task))
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, former)

    assert caught.value.run_id == connections.ledger.runs()[0].id
    assert time.monotonic() - told[0] < 3
    assert connections.ledger.runs()[0].status in status
    assert connections.ledger.count("StopJobRun") == int(cancel)


def test_kill_gives_up_on_a_workspace_that_hangs(
    make_in_worker: Make, connections: Emulator, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """A stop that gets no answer costs three seconds, raises nothing, and is told in the log."""
    job.life = Life(running=None)
    task = make_in_worker(wait_for_completion=False)
    task.execute(context_of(task))
    connections.fault("StopJobRun", "delay_answer", seconds=20)
    began = time.monotonic()
    task.on_kill()

    assert time.monotonic() - began < 4.5
    assert "may still be active" in log.text


def test_kill_before_the_start_does_nothing(make_in_worker: Make, connections: Emulator) -> None:
    """on_kill of a task that has no hook yet, or no run, sends nothing."""
    make_in_worker().on_kill()

    assert connections.ledger.requests() == []


# ---------------------------------------------------------------- what must never be seen


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        ("GetJobRun", "error_after"),
        ("GetJobRun", "broken_json"),
        ("GetJobRun", "refused"),
        ("CreateJobRun", "error_after"),
        ("CreateJobRun", "broken_json"),
        ("ListJobRuns", "broken_json"),
    ],
    ids=lambda trouble: " ".join(trouble) if trouble else "none",
)
@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_projects_passwords_are_never_seen(
    make: Make,
    connections: Emulator,
    job: Job,
    log: pytest.LogCaptureFixture,
    trouble: tuple[str, str] | None,
    ending: str,
) -> None:
    """What CML echoes of the project's environment, and the key, are in no log, XCom, event or error."""
    job.life = Life(running=0.1, ending=ending)
    if trouble:
        connections.fault(*trouble, count=3)
    context = context_of(make())
    said = ""
    try:
        said = repr(run_task(make, context).deferrals)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        causes = [error, error.__cause__, error.__context__]
        said = " ".join(f"{cause!r} {vars(cause) if cause else ''}" for cause in causes)
    seen = f"{said} {log.text} {context['ti'].pushed}"

    assert PASSWORD not in seen
    assert connections.api_key not in seen
