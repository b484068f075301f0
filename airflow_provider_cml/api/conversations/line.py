"""A line of tasks that wait for one job, and the discipline by which they are let go.

The law: one is let go per free slot, the first in line first; the next only when the job's runs show that the one
before has used its slot, or has not come for it in time. "Free" is a hint, never a permission: whoever is let go plays
its whole turn, so a line that is wrong costs a request, not a run.

Nothing here waits or asks; whoever holds the line tells it what it saw and what time it is.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_cml.api.models import JobRun

SHOW_UP = 120.0
"""Seconds a task that was let go has to start its run: Airflow has to find a worker for it first."""
QUIET = 5.0
"""Seconds a task stays in line at least: Airflow fails tasks whose trigger fires right after the deferral."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A task's place in line: by date, then by map index; `name` and `wait` make it the only one."""

    date: str
    map_index: int
    name: str
    not_before: float = field(default=0.0, compare=False)
    """The moment from which it may be let go."""
    wait: int = 0
    """Tells two waits of one task apart: cleared and deferred again, it stands in line twice for a moment."""


class Line:
    """Who waits for one job, in order."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._let_go_at: float | None = None
        self._newest_then = ""

    def enter(self, place: Place) -> None:
        """Stand in line."""
        bisect.insort(self._places, place)

    def leave(self, place: Place) -> None:
        """Leave the line, let go or not."""
        at = bisect.bisect_left(self._places, place)
        if at < len(self._places) and self._places[at] == place:
            del self._places[at]

    def let_go(self, runs: Iterable[JobRun], moment: float) -> Place | None:
        """The one whose turn it is, after a look at the job's newest runs; None if it is nobody's.

        :param runs: newest first.
        :param moment: of the look, on the clock of `Place.not_before`.
        """
        executed = [run for run in runs if run.status.is_executed]
        newest = executed[0].id if executed else ""
        if any(run.is_active for run in executed):
            # Whoever was let go has shown up, or somebody else came first; either way the next look decides.
            self._let_go_at = None
            return None
        if self._let_go_at is not None and newest == self._newest_then and moment - self._let_go_at < SHOW_UP:
            return None
        for place in self._places:
            if place.not_before <= moment:
                self._let_go_at, self._newest_then = moment, newest
                self.leave(place)
                return place
        return None
