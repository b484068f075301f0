"""What must hold in every schedule, checked at the moment it could break.

    I1  a run of a series starts only after every earlier one of it was seen, by whoever starts it, ended without
        success; so two are never active at once, and at most one succeeds
    I2  a task that ends green has exactly one succeeded run, and it is of its own series; no task is lost to its own
        former worker, nor by a run it neither started nor saw alive; the newest try is never taken for a leftover
    I3  no stranger's run is taken for ours, none is stopped
    I4  a try that ends cleanly leaves no run of its own behind, and none comes later
    I5  every flow ends; "a run may exist" is said only where too many answers were lost, where CML has refused a look
        or a start after one was, or where a run that may be this task's cannot be read; an outage is never final; CML's
        refusal is final only where it refused
    I6  one try is refused at most three times for one cause, and loses three answers to its starts at most
    I7  no run of a former series starts after one of a newer series, and none goes on beside the wish for a new one;
        nobody stops a run that is newer than himself

The law: invariants know the truth (who sent which start, in which series), never the run keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.api.conversations.starting import FRESH
from tests.api.exactly_once.one_try import Ending
from tests.api.exactly_once.world import executed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_cml.api.conversations.start import Started
    from tests.api.exactly_once.schedules import Story
    from tests.api.exactly_once.worker import Worker
    from tests.api.exactly_once.world import Run

REFUSALS = 3
LOSSES = 3
MARGIN = 15 * 60.0
DAY = 24 * 3600.0
SLACK = 60.0
"""Seconds by which the moments of a flow and of this model may be apart."""


class Violation(AssertionError):  # noqa: N818 - what is violated is an invariant
    """An invariant is broken."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Ledger:
    """Who did what, as it truly was."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.starts = 0
        self.green: list[int] = []

    def start_sent(self, worker: Worker) -> None:
        self.starts += 1

    def start_lost(self, worker: Worker) -> None:
        worker.losses += 1
        _hold("I6", worker.losses <= LOSSES, f"{worker} loses the answers to {worker.losses} starts")

    def start_refused(self, worker: Worker, cause: str) -> None:
        count = worker.refusals[cause] = worker.refusals.get(cause, 0) + 1
        _hold("I6", count <= REFUSALS, f"{worker} was refused {count} times because of {cause}")

    def took_effect(self, run: Run, known_red: frozenset[Run]) -> None:
        """A start became a run. `known_red`: what its sender had seen ended without success when it sent."""
        if not run.executed or run.series is None or run.worker is None:
            return
        moment = self.story.timeline.now
        for other in self.story.cml.runs:
            if other is run or not other.executed or other.series is None:
                continue
            if other.series > run.series:
                _hold("I7", False, f"{run.id} of series {run.series} starts after {other.id} of {other.series}")
            if other.series == run.series:
                _hold("I1", not other.is_active(moment), f"{run.id} starts beside {other.id}")
                _hold("I1", other.ending != "SUCCEEDED", f"{run.id} starts although {other.id} succeeded")
                _hold("I1", other in known_red, f"{run.id} starts and nobody had seen the end of {other.id}")
        ending = run.worker.ending
        _hold("I4", ending is None or not ending.is_clean, f"{run.id} starts after its try had ended: {ending}")

    def stop_sent(self, worker: Worker, run: Run) -> None:
        if run.series is None or run.worker is None:
            _hold("I3", False, f"{worker} stops {run.id} of somebody else")
        elif run.worker.order > worker.order:
            _hold("I7", False, f"{worker} stops {run.id} of the newer {run.worker}")
        elif run.series != worker.series:
            _hold(
                "I3", worker.start.stop_former and worker.start.durable, f"{worker} stops {run.id} of before the clear"
            )
        if worker not in run.stopped_by:
            run.stopped_by.append(worker)

    def listed(self, worker: Worker, runs: Iterable[Run], *, begins: bool) -> None:
        """A third look shows a run of a former series active, and nobody has asked it to stop."""
        worker.looks += begins
        if not (worker.start.stop_former and worker.start.durable) or self.story.is_blind:
            return
        if not self.story.airflow.names_one_airflow:
            return
        moment = self.story.timeline.now
        for run in runs:
            former = run.series is not None and run.series < worker.series
            # The run of an iteration that was made again is waited for: nothing tells which of the two is newer.
            is_same_region = run.worker is None or run.worker.start.key.region == worker.start.key.region
            if former and is_same_region and run.is_active(moment) and run.executed and not run.stopped_by:
                looks = worker.passed_over.setdefault(run.id, set())
                looks.add(worker.looks)
                _hold("I7", len(looks) <= 2, f"{run.id} of a former series goes on beside {worker}")

    def took_for_own(self, worker: Worker, found: Started) -> None:
        run = self.story.cml.find(found.run.id)
        assert run is not None
        _hold("I3", run.series == worker.series, f"{worker} takes {run.id} of series {run.series} for its own")

    def try_ended(self, worker: Worker, ending: Ending) -> None:
        if not worker.is_stale and worker.found is not None and ending in {Ending.STOPPED, Ending.RED}:
            run = self.story.cml.find(worker.found.run.id)
            assert run is not None
            other_hands = [by for by in run.stopped_by if by is not None and by is not worker]
            _hold("I2", ending is not Ending.STOPPED or not other_hands, f"{worker} is lost to its own former worker")
            begun_over = run.worker is not worker and worker.found.run.status.is_over
            _hold("I2", not begun_over, f"{worker} fails by {run.id}, which had ended before")
        if ending is Ending.SUPERSEDED:
            _hold("I2", worker.is_stale, f"{worker} is the newest, and ended as a leftover")
        if ending is Ending.MAY_EXIST:
            is_lost = worker.losses >= LOSSES or (worker.losses > 0 and worker.was_refused)
            why = is_lost or self._cannot_be_read(worker) or self.story.options.is_cut
            _hold("I5", why, f"{worker} says that a run may exist, and can know better")
        _hold("I5", ending is not Ending.LOST_IN_OUTAGE, f"{worker} is lost in an outage")
        if ending is Ending.REFUSED:
            _hold("I5", worker.was_refused, f"{worker} ends as refused, and CML has not")
        self._nothing_left(worker, ending)

    def _cannot_be_read(self, worker: Worker) -> bool:
        """Whether no run of the job shows an environment, and one may be this task's or the lost start's."""
        cml = self.story.cml
        ran = [run for run in cml.runs if run.ending != "SKIPPED" or run.is_active(self.story.timeline.now)]
        if not self.story.is_blind and any(
            run.shown != '""' and run.listed_at <= self.story.timeline.now - FRESH for run in cml.runs
        ):
            return False
        margin = MARGIN if cml.habits.has_date else DAY + abs(cml.habits.clock)
        since = worker.dag_run_began - margin - SLACK if worker.start.key.try_number > 1 else worker.began - SLACK
        return any(run.created_at >= since for run in ran)

    def task_green(self, series: int) -> None:
        self.green.append(series)

    def over(self) -> None:
        """All is quiet: nothing will happen any more."""
        airflow = self.story.airflow
        _hold("I5", airflow.final is not None, "the task never ends")
        for worker in airflow.workers:
            _hold("I5", not worker.is_alive, f"{worker} never ends")
        runs = self.story.cml.runs
        for series in self.green:
            succeeded = [run.id for run in executed(runs, series) if run.ending == "SUCCEEDED"]
            _hold("I2", len(succeeded) == 1, f"series {series} is green with {succeeded or 'no succeeded run'}")

    def _nothing_left(self, worker: Worker, ending: Ending) -> None:
        if not ending.is_clean or self.story.is_blind or (ending is Ending.UNAVAILABLE and worker.losses):
            return
        moment = self.story.timeline.now
        of_its_own = ending in {Ending.UNAVAILABLE, Ending.REFUSED}
        for run in executed(self.story.cml.runs, worker.series):
            is_left = run.is_active(moment) and not worker.is_stale and (run.worker is worker or not of_its_own)
            _hold("I4", not is_left, f"{worker} ends ({ending}) and leaves {run.id} active")


def _hold(invariant: str, holds: bool, text: str) -> None:
    if not holds:
        raise Violation(invariant, text)
