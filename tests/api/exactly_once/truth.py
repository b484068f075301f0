"""What must hold when all is quiet, by the server's own ledger.

    two runs of one series are never active at once, at most one succeeds, and none starts after one that succeeded
    a task that ended green has exactly one succeeded run, of its own series; it took no other run for its own
    nobody stops or takes a stranger's run, and no run of a former series starts after one of a newer one
    starts are bounded: one for each try, and one more for each that was lost, or refused for a reason

The law: whose a run is is known by who sent the start, not by what its key means; and a schedule in which the machine
was too slow for the bounds that are assumed (`was_in_time`) is not judged. That is measured, not guessed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import combinations

from airflow_provider_cml.api.conversations.starting import SETTLE
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.emulator import Emulator, Kind, RunRecord, Status
from tests.api.exactly_once.one_try import Ending
from tests.api.exactly_once.socket_stories import Story

REFUSED_BY_ONE = 3
"""Times a try may be refused because of one and the same run of somebody else."""


class Truth:
    """One story, and the runs of its job."""

    def __init__(self, story: Story, runs: Iterable[RunRecord], emulator: Emulator) -> None:
        self.story = story
        self.series_of = {sent.key: tried.series for tried in story.tried for sent in tried.process.sent}
        entries = sorted(runs, key=lambda run: run.created_at)
        self.own = [run for run in entries if run.environment.get(RUN_KEY_VARIABLE) in self.series_of]
        self.runs = [run for run in self.own if run.status != Status.SKIPPED]
        self.strange = [run for run in entries if run not in self.own]
        self._epoch = emulator.workspace.clock() - time.monotonic()
        self._path = f"/jobs/{story.job.id}/runs"

    def was_in_time(self) -> bool:
        """Whether every start took effect, and was listed, as soon as is assumed."""
        sent_at = {sent.key: sent.at for tried in self.story.tried for sent in tried.process.sent}
        delays = (run.created_at - self._epoch - sent_at[run.environment[RUN_KEY_VARIABLE]] for run in self.own)
        return max(delays, default=0.0) * self.story.pace + self.story.lag < SETTLE

    def broken(self, posts: int) -> Iterator[str]:
        """What does not hold. `posts` is how many starts of this job reached the server."""
        for earlier, later in combinations(self.runs, 2):
            if self._series(earlier) > self._series(later):
                yield f"{later.id}, of a former series, starts after {earlier.id}"
            if self._series(earlier) != self._series(later):
                continue
            if later.created_at < (math.inf if earlier.finished_at is None else earlier.finished_at):
                yield f"{later.id} starts beside {earlier.id}"
            if earlier.status == Status.SUCCEEDED:
                yield f"{later.id} starts although {earlier.id} succeeded"
        for tried in self.story.tried:
            mine = {run.id: run.status for run in self.runs if self._series(run) == tried.series}
            if tried.ending is Ending.GREEN and list(mine.values()).count(Status.SUCCEEDED) != 1:
                yield f"try {tried.number} is green with {mine}"
            for found in tried.taken:
                if found.run.id not in mine:
                    yield f"try {tried.number} takes {found.run.id}, which is not of its series"
        for run in self.strange:
            if run.stop_requests:
                yield f"{run.id} of a stranger was stopped"
        if posts > self._starts_at_most():
            yield f"{posts} starts were sent where {self._starts_at_most()} are explained"

    def _series(self, run: RunRecord) -> int:
        return self.series_of[run.environment[RUN_KEY_VARIABLE]]

    def _starts_at_most(self) -> int:
        story = self.story
        sent = [sent for tried in story.tried for sent in tried.process.sent]
        unanswered = sum(not start.is_answered for start in sent)
        fired = sum(
            times
            for fault, times in story.spent
            if fault.operation == "CreateJobRun" and (fault.forced or fault.kind != Kind.BUSY)
        )
        return len(story.tried) * (1 + REFUSED_BY_ONE * story.strangers) + unanswered + fired

    def told(self) -> str:
        """The story, for whoever has to find out why."""
        story = self.story
        faults = [
            f"{fault.operation} {fault.kind} {fault.seconds * story.pace:g} x{times}" for fault, times in story.spent
        ]
        runs = [
            f"{run.id} {run.status} {(run.created_at - self._epoch):.3f}..{(run.finished_at or 0) - self._epoch:.3f} "
            f"{run.environment.get(RUN_KEY_VARIABLE)}"
            for run in sorted((*self.own, *self.strange), key=lambda run: run.created_at)
        ]
        return "\n".join([f"seed {story.seed}, {story.mode}, lag {story.lag:.1f}", *faults, *story.notes, *runs])
