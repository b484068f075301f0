"""Which runs of a job have ended since somebody last looked: each is told once, however long nobody looked.

The law: an ending is known by its run's id and never by the moment of a look, so that a look may come late, be
repeated by another process, or fail. What has to be remembered between two looks is a `Cursor`, and it stays small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import read_list
from airflow_provider_cml.api.conversations.history import LISTED_WITHIN
from airflow_provider_cml.api.errors import CmlNotFoundError
from airflow_provider_cml.api.wire import note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

PAGE_SIZE = 25
"""Entries one look reads, as a rule: one active run, the last that ended, and a few refusals."""
DEEPEST = 10_000
"""Entries one look reads at most, after a long time in which nobody looked."""
_MARGIN = LISTED_WITHIN


class CursorError(ValueError):
    """What was remembered cannot be read."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What of a job's history has been dealt with.

    :param floor: no run created before this moment is of interest, unless it is in `active`. None: there was no run.
    :param active: runs that were not over when last seen.
    :param over: the ended runs from `floor` on, with the moment of their creation.
    """

    floor: datetime | None = None
    active: tuple[str, ...] = ()
    over: Mapping[str, datetime | None] = field(default_factory=dict)

    def is_above(self, run: JobRun) -> bool:
        """Whether the run is new enough to be of interest. One without a date is."""
        return _is_from(run.created_at, self.floor)

    def to_json(self) -> dict[str, Any]:
        """As JSON primitives."""
        return {
            "floor": _text(self.floor),
            "active": list(self.active),
            "over": {run_id: _text(created) for run_id, created in self.over.items()},
        }

    @classmethod
    def from_json(cls, fields: Any) -> Cursor:
        """Back from `to_json`.

        :raises CursorError: a field is missing, or of another kind.
        """
        try:
            over = {str(run_id): _moment(created) for run_id, created in fields["over"].items()}
            return cls(_moment(fields["floor"]), tuple(str(run_id) for run_id in fields["active"]), over)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"the cursor cannot be read: {type(error).__name__} {error}"
            raise CursorError(message) from error


@dataclass(frozen=True, slots=True)
class Endings:
    """One look: the runs that have ended since the last one, in the order of their ends, and where to go on."""

    runs: tuple[JobRun, ...]
    cursor: Cursor


def look_for_endings(ids: JobIds, cursor: Cursor | None, patience: float = 30.0) -> Exchange[Endings]:
    """The runs that ended since `cursor`. Without one nothing is news: what is over now ended before anybody asked.

    One request, and one for each run that was active and lies deeper than the first page now. SKIPPED entries are told
    too; whoever does not want to hear of refusals leaves them out.
    """
    seen = {run.id: run for run in (yield from _entries(ids, cursor, patience))}
    for run_id in cursor.active if cursor else ():
        if run_id not in seen:
            try:
                seen[run_id] = yield from v2.get_job_run(ids.project_id, ids.job_id, run_id, patience=patience)
            except CmlNotFoundError:
                yield from note(f"Run {run_id} is gone from CML: nobody can tell how it ended.", warning=True)
    before = cursor or Cursor()
    concerned = [run for run in seen.values() if before.is_above(run) or run.id in before.active]
    ended = [run for run in concerned if run.status.is_over and run.id not in before.over] if cursor else []
    ended.sort(key=lambda run: (_text(run.finished_at or run.created_at) or "", run.id))
    return Endings(tuple(ended), _moved(before, concerned))


def _moved(before: Cursor, concerned: list[JobRun]) -> Cursor:
    """Where to go on: the floor rises to where no run can appear in the list any more."""
    created = [run.created_at for run in concerned if run.created_at]
    floor = before.floor
    if created:
        risen = max(created) - _MARGIN
        floor = risen if floor is None else max(floor, risen)
    over = {run_id: moment for run_id, moment in before.over.items() if _is_from(moment, floor)}
    over |= {run.id: run.created_at for run in concerned if run.status.is_over and _is_from(run.created_at, floor)}
    return Cursor(floor, tuple(run.id for run in concerned if not run.status.is_over), over)


def _entries(ids: JobIds, cursor: Cursor | None, patience: float) -> Exchange[list[JobRun]]:
    """The list, from the newest entry down to the floor; without a cursor, down to the last run that is over."""
    listing = yield from read_list(
        lambda token, size: v2.list_job_runs(
            ids.project_id,
            ids.job_id,
            page_size=size,
            page_token=token,
            patience=patience,
        ),
        lambda entries: len(entries) >= DEEPEST or _is_deep_enough(entries, cursor),
        PAGE_SIZE,
    )
    if not listing.is_complete and not _is_deep_enough(listing.items, cursor):
        yield from note(
            f"Job {ids.job_id} has more than {DEEPEST} entries since the last look: older ones are left out.",
            warning=True,
        )
    return listing.items


def _is_deep_enough(entries: list[JobRun], cursor: Cursor | None) -> bool:
    dated = [run for run in entries if run.created_at]
    if not dated:
        return False
    if cursor is not None:
        return not cursor.is_above(dated[-1])
    # CML allows one active run at a time, so below the newest that is over there is none, but for those of its own
    # Job Retry, which begin soon after each other.
    newest = max(run.created_at for run in dated if run.created_at)
    return any(
        run.status.is_over and run.status.is_executed and not _is_from(run.created_at, newest - _MARGIN)
        for run in dated
    )


def _is_from(moment: datetime | None, floor: datetime | None) -> bool:
    return floor is None or moment is None or moment >= floor


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
