"""What a task raises: one table from ending to error, each with its own words, and whether Airflow retries."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from airflow_provider_cml import failures
from airflow_provider_cml.api import errors
from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlError,
    CmlInputError,
    CmlInterruptedError,
    CmlProtocolError,
    CmlRunMayExistError,
    CmlServerError,
    CmlSupersededError,
    CmlUnauthorizedError,
)
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Request, Response, Scheme
from airflow_provider_cml.compat import AirflowException, AirflowFailException
from airflow_provider_cml.events import Watched

WATCHED = Watched("project", "job", run_id="run", run_url="https://ml/alice/risk/jobs")
ASKED = Request("GET", "/api/v2/projects", Scheme.BEARER)


def run(status: JobRunStatus) -> JobRun:
    return JobRun("run", "project", "job", status, f"ENGINE_{status.upper()}")


@pytest.mark.parametrize(
    ("outcome", "kind", "may_retry", "words"),
    [
        (Outcome(Ending.OVER, run(JobRunStatus.FAILED)), failures.CmlRunFailedError, True, "failed"),
        (Outcome(Ending.OVER, run(JobRunStatus.TIMEDOUT)), failures.CmlRunFailedError, True, "timeout in CML"),
        (Outcome(Ending.OVER, run(JobRunStatus.STOPPED)), failures.CmlRunStoppedError, False, "was stopped"),
        (Outcome(Ending.OVER, run(JobRunStatus.SKIPPED)), failures.CmlRunSkippedError, False, "never ran"),
        (Outcome(Ending.TIMED_OUT, run(JobRunStatus.RUNNING), "late"), failures.CmlTimeoutError, True, "late"),
        (Outcome(Ending.UNANSWERED, None, "silence"), failures.CmlUnansweredError, True, "silence"),
        (Outcome(Ending.REFUSED, None, "no"), failures.CmlRefusedFailError, False, "no"),
        (
            Outcome(Ending.UNKNOWN_STATUS, run(JobRunStatus.UNKNOWN), "dreaming"),
            failures.CmlRunUnclearError,
            True,
            "dreaming",
        ),
    ],
    ids=lambda value: value.ending.value if isinstance(value, Outcome) else None,
)
def test_every_ending_has_its_error(outcome: Outcome, kind: type[Exception], may_retry: bool, words: str) -> None:
    """An ending gives one kind of error, with its reason, the link and the facts of the run."""
    error = failures.failure(outcome, WATCHED)

    assert type(error) is kind
    assert words in str(error)
    assert WATCHED.run_url in str(error)
    assert isinstance(error, AirflowException)
    assert isinstance(error, AirflowFailException) is not may_retry
    assert (error.run_id, error.job_id, error.project_id) == ("run", "job", "project")
    assert error.status == (outcome.run.word if outcome.run else "")


def test_only_one_status_is_green() -> None:
    """Of all endings and statuses only a run seen as succeeded raises nothing."""
    green = [
        (ending, status)
        for ending in Ending
        for status in JobRunStatus
        if failures.failure(Outcome(ending, run(status)), WATCHED) is None
    ]

    assert green == [(Ending.OVER, JobRunStatus.SUCCEEDED)]


@pytest.mark.parametrize("ending", list(Ending))
def test_no_run_is_never_green(ending: Ending) -> None:
    """An ending without a run is an error, whichever it is."""
    assert failures.failure(Outcome(ending), WATCHED) is not None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CmlInputError("x"), failures.CmlRefusedFailError),
        (CmlUnauthorizedError(ASKED, Response(401)), failures.CmlRefusedFailError),
        (CmlRunMayExistError("x"), failures.CmlStartFailError),
        (CmlSupersededError("x"), failures.CmlStartFailError),
        (CmlServerError(ASKED, Response(503)), failures.CmlUnansweredError),
        (CmlConnectionError("x", sent=True), failures.CmlUnansweredError),
        (CmlConnectionError("x", sent=False, unreachable=True), failures.CmlUnansweredError),
        (CmlProtocolError("x"), failures.CmlUnansweredError),
        (CmlInterruptedError("x"), failures.CmlTaskError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CmlError) else "",
)
def test_failure_before_there_was_a_run(error: CmlError, kind: type[Exception]) -> None:
    """An outage is never final, not even at a first try; what CML refuses, and a start that may have run, is."""
    assert type(failures.failure_of(error)) is kind
    assert str(failures.failure_of(error)) == str(error)


def below(kind: type) -> set[type]:
    """A class and all of its descendants."""
    return {kind}.union(*(below(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize(
    "families",
    [
        (errors.CmlUnavailableError, errors.CmlRefusedError, errors.CmlJobRunError),
        (
            (failures.CmlUnansweredError,),
            (failures.CmlRefusedFailError, failures.CmlJobBusyFailError, failures.CmlStartFailError),
            (failures.CmlRunFailedError, failures.CmlRunStoppedError, failures.CmlRunSkippedError),
        ),
    ],
    ids=["api", "tasks"],
)
def test_three_families_never_meet(families: Any) -> None:
    """We could not ask, CML refused, the run ended badly: no error is two of these."""
    trees = [set().union(*map(below, kinds if isinstance(kinds, tuple) else (kinds,))) for kinds in families]

    assert [one & other for one, other in itertools.combinations(trees, 2)] == [set()] * 3


def test_permanent_errors_are_those_airflow_does_not_retry() -> None:
    """Every error below CmlTaskFailError is Airflow's own kind that is never tried again, and no other is."""
    permanent = below(failures.CmlTaskFailError)

    assert all(issubclass(kind, AirflowFailException) for kind in permanent)
    assert not any(issubclass(kind, AirflowFailException) for kind in below(failures.CmlTaskError))
    assert len(permanent) > 5
