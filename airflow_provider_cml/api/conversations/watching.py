"""What somebody waits for, and how the wait ended: the same values in worker and triggerer, for operator and sensor.

The law: every wait ends in an `Outcome`, never in an exception of the API, so no mode can tell an ending differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import JobIds, find_job_run_by_key, find_newest_job_run
from airflow_provider_cml.api.conversations.waiting import POLL_PATIENCE, Wait, gap_after, wait_for_job_run, within
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlUnavailableError,
    CmlUnknownStatusError,
    CmlWaitTimeoutError,
)
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange


class Ending(StrEnum):
    """How a wait ended. OVER says how the run ended, FREE that the job can take one; the others that we do not know."""

    OVER = "over"
    FREE = "free"
    TIMED_OUT = "timed out"
    UNANSWERED = "unanswered"
    REFUSED = "refused"
    UNKNOWN_STATUS = "unknown status"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a wait. `run` is the run as last seen; `message` the reason, where the run's status is not it."""

    ending: Ending
    run: JobRun | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The run somebody means: by id, by the key it carries, or the newest one created at or after a moment."""

    ids: JobIds
    run_id: str | None = None
    run_key: str | None = None
    since: datetime | None = None
    looked_at: datetime | None = None
    """With `since`: when this was asked first; a run that came later does not change the answer."""

    def __str__(self) -> str:
        """The target in words, for messages."""
        if self.run_id is not None:
            return f"run {self.run_id}"
        if self.run_key is not None:
            return f"the run with the key {self.run_key}"
        return f"a run created at or after {self.since.isoformat() if self.since else None}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How to wait. Seconds; `timeout` counts from the beginning of this wait, None is without limit."""

    poll_interval: float = 30.0
    timeout: float | None = None
    age: float = 0.0
    first_gap: float = 0.0


def look(target: Target) -> Exchange[JobRun | None]:
    """The run as it is now; None if there is none yet."""
    if target.run_id is not None:
        return (
            yield from v2.get_job_run(target.ids.project_id, target.ids.job_id, target.run_id, patience=POLL_PATIENCE)
        )
    if target.run_key is not None:
        return (yield from find_job_run_by_key(target.ids, target.run_key, POLL_PATIENCE))
    if target.since is not None:
        return (yield from find_newest_job_run(target.ids, target.since, POLL_PATIENCE, target.looked_at))
    return None


def follow(target: Target, pace: Pace) -> Exchange[JobRun]:
    """Wait until the run that is meant is there, and over.

    :raises CmlError: as `wait_for_job_run`; `outcome_of` makes an `Outcome` of it.
    """
    began = yield from now()
    yield from pause(within(pace.first_gap, pace.timeout))
    run_id = target.run_id
    while run_id is None:
        run = yield from look(target)
        moment = yield from now()
        left = None if pace.timeout is None else began + pace.timeout - moment
        if run is not None:
            run_id = run.id
            yield from note(f"Found {target}: run {run.id}.")
        elif left is not None and left <= 0:
            raise CmlWaitTimeoutError(missing(target), None)
        else:
            yield from pause(within(gap_after(max(moment - began, pace.age), pace.poll_interval), left))
    elapsed = (yield from now()) - began
    timeout = None if pace.timeout is None else pace.timeout - elapsed
    return (yield from wait_for_job_run(Wait(target.ids, run_id, pace.poll_interval, timeout, pace.age + elapsed)))


def watch(target: Target, pace: Pace) -> Exchange[Outcome]:
    """Wait until the run that is meant is there, and over; every ending is a value."""
    try:
        return Outcome(Ending.OVER, (yield from follow(target, pace)))
    except CmlError as error:
        return outcome_of(error)


def missing(target: Target) -> str:
    """The reason where the time is over and there is no run to tell of."""
    return f"There was not {target} when the time given to wait was over."


def outcome_of(error: CmlError) -> Outcome:
    """The outcome of a wait that ended in an error: time is over, nobody knows, we could not ask, or CML said no."""
    if isinstance(error, CmlWaitTimeoutError):
        return Outcome(Ending.TIMED_OUT, error.run, str(error))
    if isinstance(error, CmlUnknownStatusError):
        return Outcome(Ending.UNKNOWN_STATUS, error.run, str(error))
    ending = Ending.UNANSWERED if isinstance(error, CmlUnavailableError) else Ending.REFUSED
    return Outcome(ending, None, str(error))
