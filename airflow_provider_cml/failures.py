"""What a task raises, and whether Airflow may try again.

    CmlTaskError (AirflowException)             Airflow may retry
    ├── CmlRunFailedError                       the run failed or timed out in CML
    ├── CmlTimeoutError                         not over in the time given; the run was stopped
    ├── CmlUnansweredError                      we could not ask; the run was left alone
    └── CmlRunUnclearError                      CML itself does not know; the run was left alone
    CmlTaskFailError (AirflowFailException)     a retry would end the same, or do harm
    ├── CmlRunStoppedError                      somebody stopped the run
    ├── CmlRunSkippedError                      CML never ran it
    ├── CmlJobBusyFailError                     the job is busy, and the DAG author said not to wait
    ├── CmlStartFailError                       a start whose fate is unknown, or a newer try is at work
    └── CmlRefusedFailError                     CML refused, or what was given cannot be used
    CmlSensorTimeout (AirflowSensorTimeout)     a sensor's own timeout; Airflow does not try again, as with all sensors

The law: one table for operator and sensor in every mode. Each ending has words of its own, and the same words reach log
and callbacks.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.api.errors import CmlInterruptedError, CmlStartError, CmlUnavailableError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowException, AirflowFailException, AirflowSensorTimeout

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.watching import Outcome
    from airflow_provider_cml.api.errors import CmlError
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.events import Watched


TRIGGER_FAILURE = "Trigger failure"
"""Airflow's word for a trigger that ended in an exception; its words for one that is late differ by version."""


class _Facts:
    """Which run an error is about. Fields are "" where they are not known."""

    run_id = ""
    job_id = ""
    project_id = ""
    status = ""
    run_url = ""
    reason = ""


class CmlTaskError(AirflowException, _Facts):
    """The task failed; Airflow may try again."""


class CmlRunFailedError(CmlTaskError):
    """The run failed, or CML called it timed out."""


class CmlTimeoutError(CmlTaskError):
    """The run was not over in the time given for it."""


class CmlUnansweredError(CmlTaskError):
    """CML could not be asked; nothing is known about the run, and it was left alone."""


class CmlRunUnclearError(CmlTaskError):
    """CML gives the run a status that says nothing; it was left alone."""


class CmlTaskFailError(AirflowFailException, _Facts):
    """The task failed for good; Airflow does not try again."""


class CmlRunStoppedError(CmlTaskFailError):
    """Somebody stopped the run, and not this task."""


class CmlRunSkippedError(CmlTaskFailError):
    """CML never ran the run, because another one of the job was active."""


class CmlJobBusyFailError(CmlTaskFailError):
    """Another run of the job is active, and the task was told not to wait, or waited long enough."""


class CmlStartFailError(CmlTaskFailError):
    """A start was sent and its fate is unknown, or a newer try of this task is at work."""


class CmlRefusedFailError(CmlTaskFailError):
    """CML refused, or what the task was given cannot be used."""


class CmlSensorTimeout(AirflowSensorTimeout, _Facts):
    """The run was not over within the sensor's `timeout`, or was not there."""


_Failure = TypeVar("_Failure", bound=CmlTaskError | CmlTaskFailError | CmlSensorTimeout)

_KINDS: dict[Ending, type[CmlTaskError | CmlTaskFailError]] = {
    Ending.TIMED_OUT: CmlTimeoutError,
    Ending.UNANSWERED: CmlUnansweredError,
    Ending.REFUSED: CmlRefusedFailError,
    Ending.UNKNOWN_STATUS: CmlRunUnclearError,
}


def failure(outcome: Outcome, watched: Watched) -> CmlTaskError | CmlTaskFailError | None:
    """The error a wait ended in; None for the one good ending."""
    run = outcome.run
    where = f" Look at it in CML: {watched.run_url}" if watched.run_url else ""
    name = f"Run {run.id if run else watched.run_id} of job {watched.job_id}"
    error: CmlTaskError | CmlTaskFailError
    if outcome.ending is not Ending.OVER or run is None:
        error = _KINDS.get(outcome.ending, CmlTaskError)(f"{outcome.message}{where}")
    elif run.status.is_success:
        return None
    elif run.status is JobRunStatus.STOPPED:
        error = CmlRunStoppedError(f"{name} was stopped in CML, and not by this task ({run.word}).{where}")
    elif run.status is JobRunStatus.SKIPPED:
        error = CmlRunSkippedError(
            f"{name} was skipped ({run.word}): CML never ran it, because another run of the job was active.{where}"
        )
    elif run.status is JobRunStatus.TIMEDOUT:
        error = CmlRunFailedError(f"{name} ran longer than the job's timeout in CML ({run.word}).{where}")
    else:
        error = CmlRunFailedError(f"{name} failed ({run.word}); its log is in CML.{where}")
    return with_facts(error, watched, outcome)


def failure_of(error: CmlError) -> CmlTaskError | CmlTaskFailError:
    """The error of a task whose flow failed before there was a run to wait for.

    An outage is never final: a wrong address costs a few cheap retries, an outage that is final costs a night of runs.
    """
    if isinstance(error, CmlStartError):
        return CmlStartFailError(str(error))
    if isinstance(error, CmlUnavailableError):
        return CmlUnansweredError(str(error))
    if isinstance(error, CmlInterruptedError):
        return CmlTaskError(str(error))
    return CmlRefusedFailError(str(error))


def read_event(event: object) -> tuple[Outcome, Watched]:
    """What a trigger told the task it woke.

    :raises CmlRefusedFailError: it cannot be understood.
    """
    try:
        return events.read(event)
    except events.EventError as error:
        message = f"The task was woken, but {error}. Its run, if it has one, was left alone."
        raise CmlRefusedFailError(message) from error


def still(run: JobRun | None, watched: Watched, when: str) -> str:
    """That a run was not over when its time was: which, its last status, its age.

    The age is by CML's own word where there is one: an adopted run is older than this try.
    """
    was = f"still {run.word or run.status}" if run else "not known to be over"
    created = run.created_at if run else None
    seconds = (datetime.now(UTC) - created).total_seconds() if created else time.time() - watched.began
    age = f"; it was {timedelta(seconds=max(round(seconds), 0))} old" if created or watched.began else ""
    return f"Run {run.id if run else watched.run_id} of job {watched.job_id} was {was} {when}{age}."


def with_facts(error: _Failure, watched: Watched, outcome: Outcome | None = None) -> _Failure:
    """The error, with what is known about its run."""
    run = outcome.run if outcome else None
    error.run_id = run.id if run else watched.run_id
    error.job_id, error.project_id, error.run_url = watched.job_id, watched.project_id, watched.run_url
    error.status = run.word if run else ""
    return error
