"""A task that is woken: another process, in which the variables, the connection and CML may not be what they were."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import history, starting
from airflow_provider_cml.api.conversations.history import OUTAGE_PATIENCE, UNREACHABLE_PATIENCE
from airflow_provider_cml.api.conversations.posting import GRACE
from airflow_provider_cml.api.conversations.starting import SETTLE
from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.api.errors import CmlInterruptedError
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowFailException, AirflowNotFoundException
from airflow_provider_cml.failures import (
    CmlRefusedFailError,
    CmlStartFailError,
    CmlTaskError,
    CmlTimeoutError,
    CmlUnansweredError,
)
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.operators import attempt
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.airflow_side import TaskDeferred, context_of, set_connection
from tests.api.conversations.paper import IDS, KEY, PaperJob
from tests.api.playing import document, grpc_error, html

if TYPE_CHECKING:
    from airflow_provider_cml.api.wire import Exchange, Request
    from airflow_provider_cml.emulator import Emulator, Job
    from tests.api.playing import Outcome as Answer

WATCHED = events.Watched(IDS.project_id, IDS.job_id, run_id="run0000000000001", run_key=str(KEY.with_post("1.aaaa")))
IN_LINE = events.Watched(IDS.project_id, IDS.job_id)


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace that is away: nobody listens there."""
    set_connection(monkeypatch, host="http://127.0.0.1:9", password="a-key-of-some-length")


def operator(**arguments: Any) -> CmlRunJobOperator:
    return CmlRunJobOperator(task_id="value_at_risk", project=IDS.project_id, job=IDS.job_id, **arguments)


def seen(status: JobRunStatus) -> Outcome:
    """What the triggerer saw of the run."""
    ending = Ending.OVER if status.is_over else Ending.TIMED_OUT
    return Outcome(ending, JobRun(WATCHED.run_id, IDS.project_id, IDS.job_id, status, f"ENGINE_{status.upper()}"))


def wake(task: CmlRunJobOperator, watched: events.Watched, outcome: Outcome, **facts: Any) -> Any:
    """Go on as Airflow does, with what the triggerer told."""
    event = json.loads(json.dumps(events.write(outcome, watched)))
    method = "execute_when_free" if outcome.ending is Ending.FREE else "execute_complete"
    return task.resume_execution(method, {"event": event}, context_of(task, **facts))


FREE = Outcome(Ending.FREE)
WAYS = [(IN_LINE, FREE), (WATCHED, seen(JobRunStatus.SKIPPED))]
"""The two ways in which a woken task comes to a start: the job is free; or its run never ran."""


# ---------------------------------------------------------------- what it was given


@pytest.mark.parametrize(("watched", "outcome"), WAYS, ids=["free", "skipped"])
def test_variables_that_cannot_be_used_any_more(watched: events.Watched, outcome: Outcome) -> None:
    """They fail the woken task as they would have failed it before the start: for good, and telling the job."""
    task = operator(environment={"DAY": None})
    with pytest.raises(CmlRefusedFailError, match="DAY") as caught:
        wake(task, watched, outcome)

    assert (caught.value.project_id, caught.value.job_id) == (IDS.project_id, IDS.job_id)


def test_lost_starts_count_for_the_whole_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try that has lost two answers before it was deferred ends for good with the third."""
    paper = AwayJob(0.0, 0.0)
    paper.fates = ["vanished"]
    serve(monkeypatch, paper)
    with pytest.raises(CmlStartFailError, match="answers to 3 starts of this try were lost"):
        wake(operator(deferrable=True), replace(IN_LINE, losses=2), FREE)


def test_progress_of_a_try_goes_to_sleep_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that were lost, rejections and the first conflict are in the state of the trigger."""
    paper = AwayJob(0.0, 0.0)
    paper.fates = ["vanished", grpc_error(409, "not now", 10)]
    serve(monkeypatch, paper)
    task = operator(deferrable=True)
    with pytest.raises(TaskDeferred) as asleep:
        task.execute(context_of(task))
    state = events.Watched.from_json(asleep.value.trigger.watched)

    assert (state.losses, state.refusals, asleep.value.trigger.only_gap) == (1, 1, True)
    assert state.conflict_since is not None
    assert state.conflict_since >= GRACE


# ---------------------------------------------------------------- CML is away


@pytest.mark.parametrize(("watched", "outcome"), WAYS, ids=["free", "skipped"])
def test_workspace_that_is_away_is_no_mistake(watched: events.Watched, outcome: Outcome) -> None:
    """CML has answered this try before it slept: an address where nobody listens now may be tried again."""
    with pytest.raises(CmlUnansweredError) as caught:
        wake(operator(), watched, outcome)

    assert not isinstance(caught.value, AirflowFailException)


class AwayJob(PaperJob):
    """A paper job behind a gateway that shows a page instead, for so many seconds after a moment."""

    def __init__(self, away_at: float, seconds: float) -> None:
        super().__init__()
        self.away = (self.player.now + away_at, self.player.now + away_at + seconds)

    def _answer(self, request: Request) -> Answer:
        if self.away[0] <= self.player.now < self.away[1]:
            return html("Maintenance")
        if request.path.endswith(f"/projects/{IDS.project_id}"):
            return document({"id": IDS.project_id, "slug": "risk", "owner": {"username": "alice"}})
        if request.path.endswith(f"/jobs/{IDS.job_id}"):
            return document({"id": IDS.job_id, "name": "nightly"})
        return super()._answer(request)


def serve(monkeypatch: pytest.MonkeyPatch, paper: PaperJob) -> None:
    """Let every hook talk to a paper job, with the patience it really has."""

    def perform(_hook: CmlTaskHook, exchange: Exchange[Any]) -> Any:
        return paper.player.play(exchange)

    monkeypatch.setattr(CmlTaskHook, "_perform", perform)
    monkeypatch.setattr(history, "UNREACHABLE_PATIENCE", UNREACHABLE_PATIENCE)
    monkeypatch.setattr(history, "OUTAGE_PATIENCE", OUTAGE_PATIENCE)


@pytest.mark.parametrize(("watched", "outcome"), WAYS, ids=["free", "skipped"])
def test_first_look_of_a_woken_task_is_patient(
    monkeypatch: pytest.MonkeyPatch, watched: events.Watched, outcome: Outcome
) -> None:
    """An outage longer than a wrong address is tried costs it no try."""
    paper = AwayJob(0.0, UNREACHABLE_PATIENCE * 4)
    serve(monkeypatch, paper)
    with pytest.raises(TaskDeferred):
        wake(operator(deferrable=True), watched, outcome)


def test_page_after_hours_in_the_worker_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """CML has answered look after look of this very try, so a page that comes then is an outage: it may be retried."""
    paper = AwayJob(7200.0, 7200.0)
    paper.add("running")
    serve(monkeypatch, paper)
    task = operator()
    with pytest.raises(CmlUnansweredError, match="text/html"):
        task.execute(context_of(task))

    assert paper.posts == 0


def test_page_after_names_were_found_is_no_mistake(connections: Emulator, job: Job) -> None:
    """Where project and job were looked up, CML has answered this try before its first look at the runs."""
    connections.fault("ListJobRuns", "html")
    names = CmlRunJobOperator(task_id="value_at_risk", project="alice/risk-analysis", job=job.name)
    with pytest.raises(CmlUnansweredError, match="text/html"):
        names.execute(context_of(names))


# ---------------------------------------------------------------- told to end, or not told where CML is


def wake_at_deadline(late: bool) -> None:
    """Wake a task whose time is over: with the triggerer's word, or `late`, without an event."""
    task = operator(deferrable=True)
    context = context_of(task)
    context["ti"].pushed |= {"project_id": IDS.project_id, "job_id": IDS.job_id, "return_value": WATCHED.run_id}
    if late:
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    wake(task, WATCHED, seen(JobRunStatus.RUNNING))


def interrupted(*_: object) -> JobRun:
    message = "told to end while it paused"
    raise CmlInterruptedError(message)


@pytest.mark.parametrize("late", [False, True], ids=["told by the triggerer", "woken without an event"])
def test_kill_while_the_run_is_stopped_names_the_run(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """A task that is told to end while it stops its run ends in an error of a task, with the facts of the run."""
    monkeypatch.setattr(CmlTaskHook, "get_job_run", lambda *_: seen(JobRunStatus.RUNNING).run)
    monkeypatch.setattr(CmlTaskHook, "stop_and_confirm", interrupted)
    with pytest.raises(CmlTaskError, match="told to end") as caught:
        wake_at_deadline(late)

    assert (caught.value.run_id, caught.value.job_id) == (WATCHED.run_id, IDS.job_id)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow knows the connection no longer, or cannot be asked for it."""

    def get_connection(conn_id: str) -> Any:
        message = f"The conn_id `{conn_id}` isn't defined"
        raise AirflowNotFoundException(message)

    monkeypatch.setattr(CmlTaskHook, "get_connection", staticmethod(get_connection))


def test_success_needs_no_connection(no_connection: None, log: pytest.LogCaptureFixture) -> None:
    """A run that succeeded is a success, though no second run of a lost start can be looked for any more."""
    assert wake(operator(), replace(WATCHED, losses=1), seen(JobRunStatus.SUCCEEDED)) == WATCHED.run_id
    assert "Could not look for a second run" in log.text


@pytest.mark.parametrize("late", [False, True], ids=["told by the triggerer", "woken without an event"])
def test_timeout_without_a_connection_says_so(no_connection: None, late: bool) -> None:
    """The run could not be stopped: that is the error, with the run and why, and not only the connection's."""
    with pytest.raises(
        CmlTimeoutError, match=r"may still be active in CML.*isn't defined.*Look at it in CML"
    ) as caught:
        wake_at_deadline(late)

    assert caught.value.run_id == WATCHED.run_id


def test_link_needs_no_connection(connections: Emulator, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be read again after a 401 costs the link, and nothing else."""
    connections.fault("GetProject", "refused", status=401)
    task = CmlRunJobOperator(task_id="value_at_risk", project=job.project_id, job=job.id, wait_for_completion=False)
    context = context_of(task)
    read = CmlTaskHook.get_connection
    told: list[str] = []

    def get_connection(conn_id: str) -> Any:
        told.append(conn_id)
        if len(told) > 1:
            message = f"The conn_id `{conn_id}` isn't defined"
            raise AirflowNotFoundException(message)
        return read(conn_id)

    monkeypatch.setattr(CmlTaskHook, "get_connection", staticmethod(get_connection))

    assert task.execute(context) == connections.ledger.runs()[0].id
    assert (context["ti"].pushed["run_url"], len(told)) == ("", 2)


# ---------------------------------------------------------------- how long it has waited


@pytest.mark.parametrize("waited", [0.0, SETTLE + 1.0])
def test_clocks_of_two_workers_are_not_compared(monkeypatch: pytest.MonkeyPatch, waited: float) -> None:
    """What a later try has waited is what each process has counted itself: a clock that is ahead settles nothing."""
    paper = AwayJob(0.0, 0.0)
    foreign = paper.add("running")
    serve(monkeypatch, paper)
    monkeypatch.setattr(starting, "SETTLE", SETTLE)
    facts = {"try_number": 2, "max_tries": 2}
    later = operator(deferrable=True, retries=2)
    with pytest.raises(TaskDeferred) as asleep:
        later.execute(context_of(later, **facts))
    watched = events.Watched.from_json(asleep.value.trigger.watched)
    paper.set(foreign, "succeeded")
    ahead = SimpleNamespace(time=lambda: time.time() + 3600.0, monotonic=time.monotonic)
    monkeypatch.setattr(attempt, "time", ahead)
    with pytest.raises(TaskDeferred) as again:
        wake(later, replace(watched, waited=watched.waited + waited), FREE, **facts)
    trigger = again.value.trigger

    if waited:
        assert (paper.posts, isinstance(trigger, CmlJobRunTrigger)) == (1, True)
    else:
        assert (paper.posts, trigger.only_gap, trigger.gap > SETTLE - 10) == (0, True, True)
    assert paper.player.pauses == []
