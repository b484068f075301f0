"""A start that CML accepts, and skips later: the face of a busy job that no answer to a start shows."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import posting
from airflow_provider_cml.api.conversations.posting import REFUSAL_GAPS
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowSkipException
from airflow_provider_cml.failures import CmlJobBusyFailError, CmlTimeoutError
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import TaskDeferred, context_of, set_connection
from tests.api.conversations.paper import IDS, PaperJob
from tests.api.playing import document

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.wire import Exchange, Request
    from tests.api.playing import Outcome as Answer

LATE = {"error": "Trigger timeout"}


class LateJob(PaperJob):
    """A paper job whose next runs are skipped a second after they were accepted; those that follow succeed."""

    def __init__(self, skips: int) -> None:
        super().__init__()
        self.skips = skips

    def _answer(self, request: Request) -> Answer:
        if request.path.endswith(f"/projects/{IDS.project_id}"):
            return document({"id": IDS.project_id, "slug": "risk", "owner": {"username": "alice"}})
        if request.path.endswith(f"/jobs/{IDS.job_id}"):
            return document({"id": IDS.job_id})
        return super()._answer(request)

    def _enter(self, variables: dict[str, str], status: str, created: float) -> str:
        run_id = super()._enter(variables, status, created)
        self.set(run_id, "skipped" if self.posts <= self.skips else "succeeded", after=1.0)
        return run_id


@pytest.fixture(autouse=True)
def gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real gaps: time is virtual here."""
    monkeypatch.setattr(posting, "REFUSAL_GAPS", REFUSAL_GAPS)
    set_connection(monkeypatch, host="http://127.0.0.1:9", password="a-key-of-some-length")


def serve(monkeypatch: pytest.MonkeyPatch, skips: int) -> LateJob:
    """A job to which every hook talks, on the clock by which deadlines are told."""
    paper = LateJob(skips)

    def perform(_hook: CmlTaskHook, exchange: Exchange[Any]) -> Any:
        return paper.player.play(exchange)

    monkeypatch.setattr(CmlTaskHook, "_perform", perform)
    monkeypatch.setattr(events, "time", SimpleNamespace(time=lambda: paper.player.now))
    return paper


def operator(**arguments: Any) -> CmlRunJobOperator:
    return CmlRunJobOperator(task_id="value_at_risk", project=IDS.project_id, job=IDS.job_id, **arguments)


def test_each_late_skip_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start comes after a gap that grows as after any refusal; the run that is not skipped is the task's."""
    paper = serve(monkeypatch, skips=7)
    task = operator()
    context = context_of(task)

    assert task.execute(context) == paper.runs[0]["id"]
    gaps_taken = [later - earlier for earlier, later in itertools.pairwise(paper.started_at)]
    bounds = [(0.8 * gap, 1.2 * gap + 5.0) for gap in (*REFUSAL_GAPS, REFUSAL_GAPS[-1])]
    assert len(gaps_taken) == 7
    assert all(least <= taken <= most for taken, (least, most) in zip(gaps_taken, bounds, strict=True)), gaps_taken
    assert context["ti"].pushed["return_value"] == paper.runs[0]["id"]


@pytest.mark.parametrize("limit", ["busy_timeout", "timeout"])
def test_late_skips_are_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """The time to wait for a busy job, or for the whole try, ends it, after a handful of starts."""
    paper = serve(monkeypatch, skips=1000)
    began = paper.player.now
    task = operator(**{limit: 600.0})
    with pytest.raises(CmlJobBusyFailError if limit == "busy_timeout" else CmlTimeoutError):
        task.execute(context_of(task))

    assert 4 <= paper.posts <= 8
    assert 600 <= paper.player.now - began < 620


@pytest.mark.parametrize(("on_busy", "expected"), [("fail", CmlJobBusyFailError), ("skip", AirflowSkipException)])
def test_late_skip_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, on_busy: str, expected: type[Exception]) -> None:
    """Where busy means fail or skip, one start is sent, and XCom does not call the run that never ran the task's."""
    paper = serve(monkeypatch, skips=1000)
    task = operator(on_busy=on_busy)
    context = context_of(task)
    with pytest.raises(expected, match="CML skipped run run0000000000001"):
        task.execute(context)

    assert paper.posts == 1
    assert (context["ti"].pushed["return_value"], context["ti"].pushed["run_key"]) == ("", "")


def deferred(step: Callable[[], object]) -> TaskDeferred:
    """What a task goes to sleep with."""
    with pytest.raises(TaskDeferred) as caught:
        step()
    return caught.value


def wake(deferral: TaskDeferred, context: Any, outcome: Outcome) -> TaskDeferred:
    """What the task goes to sleep with next, after the triggerer has told it this."""
    watched = events.Watched.from_json(json.loads(json.dumps(deferral.trigger.watched)))
    event = json.loads(json.dumps(events.write(outcome, watched)))
    task = operator(deferrable=True)
    return deferred(lambda: task.resume_execution(deferral.method_name, {"event": event}, context))


def skipped(paper: LateJob) -> Outcome:
    """What the triggerer sees of the newest run, a while later."""
    watched = CmlTaskHook().watch_job_run(Target(IDS, run_id=paper.runs[0]["id"]), Pace())
    assert watched.run is not None
    assert watched.run.status is JobRunStatus.SKIPPED
    return watched


def test_late_skip_of_a_deferred_task_stands_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer tells of the skip: the task takes the gap there, too, and counts on from one to the next."""
    paper = serve(monkeypatch, skips=2)
    context = context_of(operator())
    asleep = deferred(lambda: operator(deferrable=True).execute(context))
    told = []
    for _ in range(2):
        in_line = wake(asleep, context, skipped(paper))
        told.append((in_line.method_name, in_line.trigger.gap))
        asleep = wake(in_line, context, Outcome(Ending.FREE))

    assert told == [("execute_when_free", REFUSAL_GAPS[0]), ("execute_when_free", REFUSAL_GAPS[1])]
    assert paper.posts == 3
    assert context["ti"].pushed["return_value"] == paper.runs[0]["id"]


def test_late_triggerer_after_a_late_skip_names_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Woken without an event while it stands in line, the task knows of no run: the skipped one never ran."""
    paper = serve(monkeypatch, skips=1)
    context = context_of(operator())
    wake(deferred(lambda: operator(deferrable=True).execute(context)), context, skipped(paper))
    with pytest.raises(CmlTimeoutError, match="it knows of no run of its own"):
        operator(deferrable=True).resume_execution("__fail__", LATE, context)

    assert paper.stopped == []
