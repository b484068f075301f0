"""What a trigger tells the task it wakes.

An event crosses processes through Airflow's database: it may be of another version, or half of one, and `airflow dags
test` drops what `defer(kwargs=...)` was given. So the event carries everything the resume needs.

Only this module knows an event's keys; JSON primitives only. Fields are read tolerantly, because task and
triggerer may be of two releases: unknown ones are ignored, missing ones have their defaults. Values are read strictly:
what is not understood is an error, never a success.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.start import Progress
from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

VERSION = 1
"""Of what the fields mean. A field that is new, with a default, or gone is no new version."""
BACKSTOP = 120.0
"""Seconds Airflow waits for an event after the trigger's own deadline. It resumes a task that has no event without
calling our code, and without telling which run it was."""
_TIMES = ("created_at", "scheduling_at", "starting_at", "running_at", "finished_at")


class EventError(ValueError):
    """An event that is not one of ours, or not whole."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a task knows about its run when it goes to sleep, and must know again when it wakes.

    :param run_key: the key the run carries.
    :param began: seconds since 1970 when this try first had its run; the gaps between looks grow from there.
    :param losses: answers to starts this try lost.
    :param deadline: seconds since 1970 when this try gives up waiting; None is never.
    :param busy_deadline: the same for waiting until the job is free.
    :param refusals: starts CML has rejected this try because the job was busy.
    :param conflict_since: seconds of this try after which CML first answered a start with an unexplained conflict.
    :param excluded: runs whose end is not this try's result.
    :param waited: seconds this try has taken at least: each process counts its own, on a clock that nobody sets.
    """

    project_id: str
    job_id: str
    run_id: str = ""
    run_key: str = ""
    run_url: str = ""
    began: float = 0.0
    losses: int = 0
    deadline: float | None = None
    busy_deadline: float | None = None
    refusals: int = 0
    conflict_since: float | None = None
    excluded: tuple[str, ...] = ()
    waited: float = 0.0

    @property
    def free_deadline(self) -> float | None:
        """When a wait for the job to be free has to end: by its own deadline, or because the whole try's is over."""
        return min((moment for moment in (self.busy_deadline, self.deadline) if moment is not None), default=None)

    @property
    def progress(self) -> Progress:
        """What the try has been through with its starts."""
        return Progress(self.losses, self.refusals, self.conflict_since)

    def with_progress(self, progress: Progress) -> Watched:
        """The same, with what the last flow has added."""
        return replace(
            self,
            losses=progress.losses,
            refusals=progress.rejections,
            conflict_since=progress.conflict_since,
        )

    @property
    def ids(self) -> JobIds:
        """The job."""
        return JobIds(self.project_id, self.job_id)

    def to_json(self) -> dict[str, Any]:
        """As JSON primitives, for a trigger's arguments."""
        return {**asdict(self), "excluded": list(self.excluded)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Watched:
        """Back from `to_json`, of this release or another.

        :raises EventError: the job is missing, or a field has a value of another kind.
        """
        try:
            return _read(cls, given)
        except (TypeError, ValueError) as error:
            message = f"a task's memory of its run cannot be read: {error}"
            raise EventError(message) from error


def write(outcome: Outcome, watched: Watched) -> dict[str, Any]:
    """The payload of the event that ends a wait."""
    return {
        "version": VERSION,
        "ending": outcome.ending.value,
        "message": outcome.message,
        "run": None if outcome.run is None else _run_to_json(outcome.run),
        "watched": watched.to_json(),
    }


def read(event: object) -> tuple[Outcome, Watched]:
    """What an event says, of this release or another.

    :raises EventError: it is of another version, or does not say how the wait ended.
    """
    if not isinstance(event, dict) or event.get("version") != VERSION:
        version = event.get("version") if isinstance(event, dict) else None
        message = f"the trigger's event cannot be read (version {version!r})"
        raise EventError(message)
    try:
        outcome = _read(Outcome, event)
        watched = Watched.from_json(event.get("watched", {}))
    except (TypeError, ValueError) as error:
        message = f"the trigger's event cannot be read: {error}"
        raise EventError(message) from error
    if outcome.ending is Ending.OVER and (outcome.run is None or not outcome.run.status.is_over):
        message = "the trigger's event says that the run is over, but not how"
        raise EventError(message)
    return outcome, watched


def moment_after(seconds: float | None) -> float | None:
    """The moment that many seconds from now, on the wall clock: it has to mean the same in another process."""
    return None if seconds is None else time.time() + seconds


def seconds_to(moment: float | None) -> float | None:
    """The seconds to such a moment; 0 if it is past."""
    return None if moment is None else max(moment - time.time(), 0.0)


def backstop(seconds: float | None) -> timedelta | None:
    """How long Airflow may let the trigger run: its own deadline, and time to report it."""
    return None if seconds is None else timedelta(seconds=seconds + BACKSTOP)


def run_times(run: JobRun) -> dict[str, str]:
    """The times CML has set for a run, in ISO 8601."""
    found = {name: getattr(run, name) for name in _TIMES}
    return {name: moment.isoformat() for name, moment in found.items() if moment is not None}


def _run_to_json(run: JobRun) -> dict[str, Any]:
    known = {name: value for name, value in asdict(run).items() if name not in _TIMES}
    return {**known, "status": run.status.value, **run_times(run)}


def _read(kind: type[T], given: object) -> T:
    """Read tolerantly: a dataclass of those of the given fields that it knows; where one is missing, by its default.

    :raises ValueError: a field that is known has a value of another kind, or none of those that are known.
    :raises TypeError: a field without a default is missing.
    """
    if not isinstance(given, dict):
        message = f"it must be fields of {kind.__name__}, not {type(given).__name__}"
        raise TypeError(message)
    known = {}
    for field in fields(kind):
        if field.name in given:
            try:
                known[field.name] = _value(str(field.type), given[field.name])
            except (TypeError, ValueError) as error:
                message = f"{field.name}: {error}"
                raise ValueError(message) from error
    return kind(**known)


def _value(annotation: str, given: object) -> Any:
    kind, _, otherwise = annotation.partition(" | ")
    if given is None and otherwise == "None":
        return None
    primitive, read_value = _KINDS[kind]
    if not isinstance(given, primitive):
        message = f"must be {annotation}, not {type(given).__name__}"
        raise TypeError(message)
    return read_value(given) if read_value else given


_KINDS: dict[str, tuple[Any, Callable[[Any], Any] | None]] = {
    "str": (str, None),
    "bool": (bool, None),
    "int": (int, None),
    "float": (int | float, None),
    "tuple[str, ...]": (list, lambda given: tuple(_value("str", value) for value in given)),
    "datetime": (str, datetime.fromisoformat),
    "JobRunStatus": (str, JobRunStatus.read),
    "JobRun": (dict, lambda given: _read(JobRun, given)),
    "Ending": (str, Ending),
}
"""Fields by their annotations: what they are in JSON, and how that is read."""
