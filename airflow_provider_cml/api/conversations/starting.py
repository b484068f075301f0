"""Starting a run exactly once, on an API that has no idempotency key.

Three facts replace the key: a run echoes its environment, so ours carries a `RunKey`; runs can be listed newest
first; a job has at most one active run. One turn is run over and over, the same on every occasion, until a run is
ours or the job is busy:

    look      at the job's runs
    fence     a newer try of this task has been here: end, touch nothing
    own       a run of this series is active, succeeded, or is this try's result: it is ours
    former    what a clear left behind is still active: stop it first
    loss      an answer was lost: look until it is found, or until it may be sent again
    busy      another run is active, or CML rejected the start: wait, or say so
    settle    the earlier try may have a start in flight: give it time to show, once
    fresh     the look is too old: look again
    post      once; and back to the top with whatever came of it

Invariants: no start request without a fresh look that found nothing, and none twice unless the first one's fate is
known or its time is over. An outage is never final: not at a first try, and not while a start is lost. Each rule is
here because without it a short schedule of faults runs a job twice, adopts or stops a foreign run, loses one, or ends
a task that could go on; the tests find that schedule when the rule is taken out.

What is assumed of CML: a start takes effect at most GRACE after it was sent, and a created run is listed within SETTLE.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.history import History
from airflow_provider_cml.api.conversations.posting import Posting
from airflow_provider_cml.api.conversations.start import Busy, Origin, Postponed, Start, Started
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlRefusedError,
    CmlRunMayExistError,
    CmlSupersededError,
    CmlUnavailableError,
)
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey, has_landed, same_series
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from typing import TypeAlias

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

SETTLE = 90.0
"""Seconds within which a created run shows in the list."""
FRESH = 5.0
"""Seconds a look is good for. Between it and the start request nothing else may happen."""
RELOOKS = 3
"""Looks repeated for being too old; a workspace that needs longer for one answer is believed after that."""
FORMER_GAP = 5.0
"""Seconds between looks while a run of a former series stops."""
BUSY_GAP = 5.0
"""Seconds before the second look at a busy job; the gaps grow to the poll interval."""


class _Then(Enum):
    """What follows a step that settles nothing: the next step, or a new turn."""

    NEXT_STEP = auto()
    NEXT_TURN = auto()


_Step: TypeAlias = "Started | Busy | Postponed | _Then"


def start_exactly_once(start: Start) -> Exchange[Started | Busy | Postponed]:
    """Start the run, or find the one that is ours already.

    :returns: `Started`; `Busy` where waiting is not wanted, or `busy_timeout` is over; `Postponed` where the caller can
        wait itself.
    :raises CmlRefusedError: CML refuses the start; nothing runs.
    :raises CmlUnavailableError: CML could not be asked. A start may be out; then the next try looks for it.
    :raises CmlRunMayExistError: a start was sent and its fate cannot be settled; not to be tried again.
    :raises CmlSupersededError: a newer try of this task is at work.
    """
    starting = _Starting(start)
    while True:
        outcome = yield from starting.turn()
        if isinstance(outcome, Started | Busy | Postponed):
            return outcome


class _Starting:
    """What one process knows between two turns."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.history = History(start)
        self.posting = Posting(start, self.history)
        self.settled = start.key.try_number <= 1
        self.stopped: set[str] = set()
        self.relooks = 0
        self.waiting_since: float | None = None
        self.waiting_for = ""
        self.waits = 0

    def turn(self) -> Exchange[_Step]:
        """One turn, from look to post."""
        yield from self._look()
        for step in (self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh):
            outcome = yield from step()
            if outcome is not _Then.NEXT_STEP:
                return outcome
        return (yield from self.posting.post()) or _Then.NEXT_TURN

    def _look(self) -> Exchange[None]:
        try:
            yield from self.history.look(for_active=self.posting.progress.rejections > 0)
        except CmlUnavailableError as error:
            if not self.posting.is_pending:
                raise
            message = (
                f"A start was sent and its answer lost, and CML cannot be asked whether it took effect. The next try "
                f"looks for its run; if there is none, look in CML for a run with {RUN_KEY_VARIABLE}="
                f"{self.start.sent[-1]}. {error}"
            )
            raise CmlUnavailableError(message) from error
        except CmlRefusedError as error:
            if self.posting.is_pending:
                raise self.posting.may_exist(f"it could not be looked for: {error}") from error
            raise

    def _fence(self) -> Exchange[_Step]:
        yield from ()
        for key, run in self.history.keyed:
            is_newer = self.start.is_of_my_task(key) and key.order > self.start.key.order
            if is_newer and self.start.key.is_same_airflow(key):
                message = (
                    f"Try {self.start.key.try_number} of this task is not the newest any more: run {run.id} was "
                    f"started by try {key.try_number}. This process is a leftover; it starts and stops nothing."
                )
                raise CmlSupersededError(message)
        return _Then.NEXT_STEP

    def _own(self) -> Exchange[_Step]:
        """The run of this series that decides the matter: an active one, else a green one, else this try's red one."""
        mine = [
            (key, run)
            for key, run in self.history.keyed
            if run.status.is_executed and run.id not in self.start.excluded and self._is_of_my_series(key)
        ]
        active = [found for found in mine if found[1].is_active and not self._is_on_its_way_out(*found)]
        green = [found for found in mine if found[1].status.is_success]
        red = [found for found in mine if self.start.is_of_my_try(found[0]) and found[1].status.is_over]
        for key, run in (active or green or red)[:1]:
            if self.start.is_of_my_try(key):
                origin = Origin.FOUND
                text = f"Run {run.id} is this try's own: its start took effect although the answer was lost."
            elif run.status.is_success:
                origin = Origin.SUCCEEDED_BEFORE
                text = f"Run {run.id}, started by try {key.try_number}, succeeded meanwhile; nothing is started."
            else:
                origin = Origin.CARRIED_ON
                text = f"Carrying on with run {run.id}, started by try {key.try_number} and still {run.status}."
            yield from note(text)
            return Started(run, origin, key, self.posting.losses)
        return _Then.NEXT_STEP

    def _former(self) -> Exchange[_Step]:
        """Stop what a clear left behind. Played on every turn: a start of the former series may land late."""
        if not (self.start.durable and self.start.stop_former):
            return _Then.NEXT_STEP
        former = [
            (key, run)
            for key, run in self.history.keyed
            if run.is_active
            and self.start.is_of_my_task(key)
            and self.start.key.is_same_airflow(key)
            and key.order < self.start.key.order
            and not same_series(key, self.start.key)
        ]
        for key, run in former:
            if run.status.can_be_stopped and run.id not in self.stopped:
                self.stopped.add(run.id)
                yield from note(
                    f"Run {run.id}, started by try {key.try_number} before the task was cleared, is still {run.status}"
                    f": stopping it first."
                )
                try:
                    yield from v2.stop_job_run(self.start.ids.project_id, self.start.ids.job_id, run.id)
                except CmlError as error:
                    yield from note(f"Run {run.id} was asked to stop. {error}", warning=True)
        if not former:
            return _Then.NEXT_STEP
        run = former[0][1]
        return (yield from self._wait(f"run {run.id} of before the clear has to stop", run, FORMER_GAP))

    def _loss(self) -> Exchange[_Step]:
        return _Then.NEXT_TURN if (yield from self.posting.settle_loss()) else _Then.NEXT_STEP

    def _busy(self) -> Exchange[_Step]:
        """Another run is active; or CML refused a start, and no look has shown why."""
        for run in self.history.active:
            self.posting.explain_rejection()
            key = RunKey.parse(run.run_key)
            reason = f"run {run.id} of this job is {run.status}"
            # Our own run on its way out is not a foreign one: it is waited for even where busy means fail or skip.
            # So is a run that may be ours, and carries a key of another release.
            is_own = key is not None and (
                (self._is_of_my_series(key) and self._is_on_its_way_out(key, run)) or self.start.may_be_of_my_task(key)
            )
            if not (self.start.wait_when_busy or is_own):
                return Busy(reason, run)
            return (yield from self._wait(reason, run))
        if self.posting.rejection is None:
            return _Then.NEXT_STEP
        reason, conflict = self.posting.rejection, self.posting.conflict
        if not (self.start.wait_when_busy or self.posting.is_capacity or conflict):
            return Busy(reason)
        return (yield from self._wait(reason, None, (yield from self.posting.take_backoff()), is_busy=conflict is None))

    def _settle(self) -> Exchange[_Step]:
        """Before the first start of a later try: the earlier one may have died with a start in flight.

        What this try has waited already, for a busy job say, counts: the earlier one sent nothing since this one began.
        The task's `retry_delay` does not: Airflow begins the next try of a task at once if its scheduler died.
        """
        if self.settled:
            return _Then.NEXT_STEP
        self.settled = True
        if has_landed(((key, run.status.is_executed) for key, run in self.history.keyed), self.start.key):
            return _Then.NEXT_STEP
        left = SETTLE - (self.start.waited + self.history.looked_at - self.history.began)
        if left <= 0:
            return _Then.NEXT_STEP
        reason = (
            f"try {self.start.key.try_number - 1} of this task may have sent a start that does not show in CML's list "
            f"of runs yet"
        )
        if self.start.can_defer:
            return Postponed(reason, left, for_job=False, progress=self.posting.progress)
        yield from note(f"Waiting {left:.0f} s: {reason}.")
        yield from pause(left)
        return _Then.NEXT_TURN

    def _fresh(self) -> Exchange[_Step]:
        """The last check before the start; nothing else stands between the two."""
        moment = yield from now()
        is_believed = self.relooks >= RELOOKS and moment - self.history.seen_at <= FRESH
        if moment - self.history.looked_at > FRESH and not is_believed:
            self.relooks += 1
            return _Then.NEXT_TURN
        self.relooks = 0
        unseen = ""
        unreadable = [run.id for run in self.history.unreadable if not self.history.is_before_dag_run(run)]
        if unreadable:
            unseen = f"No run of this job shows its environment, and run {unreadable[0]} may be one of this task"
        elif self.history.is_cut:
            unseen = "This job has more runs since the dag run began than can be read"
        if self.history.reads_back and unseen:
            message = (
                f"{unseen}, so try {self.start.key.try_number} cannot tell whether an earlier try started one. A run "
                f"may exist: look for it in CML. With durable=False the task starts a new run without looking for an "
                f"earlier one."
            )
            raise CmlRunMayExistError(message)
        return _Then.NEXT_STEP

    def _is_of_my_series(self, key: RunKey) -> bool:
        if not self.start.is_of_my_task(key) or key.order > self.start.key.order:
            return False
        return self.start.is_of_my_try(key) or (self.start.durable and same_series(key, self.start.key))

    def _is_on_its_way_out(self, key: RunKey, run: JobRun) -> bool:
        """STOPPING, and begun by an earlier try: waited for, not carried on with."""
        return run.status is JobRunStatus.STOPPING and not self.start.is_of_my_try(key)

    def _wait(
        self, reason: str, run: JobRun | None, gap: float | None = None, *, is_busy: bool = True
    ) -> Exchange[_Step]:
        """Pause before the next turn; `Busy` when the time given for waiting is over.

        :param is_busy: it is the job that is waited for; without, `busy_timeout` does not count.
        """
        # While a start is lost it is looked for here: what the next flow would need to know of it is not carried on.
        if self.start.can_defer and not self.posting.is_pending:
            return Postponed(reason, gap or BUSY_GAP, is_busy and self.start.wait_when_busy, self.posting.progress)
        moment = yield from now()
        if reason != self.waiting_for:
            self.waiting_for = reason
            yield from note(f"Waiting: {reason}.")
        if gap is None:
            gap = min(BUSY_GAP * 1.5**self.waits, max(self.start.poll_interval, 1.0))
            self.waits = min(self.waits + 1, 20)
        if is_busy:
            gap *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter: many waiters must not start at the same moment
        if is_busy and self.start.busy_timeout is not None:
            self.waiting_since = moment if self.waiting_since is None else self.waiting_since
            left = self.waiting_since + self.start.busy_timeout - moment
            if left <= 0:
                return Busy(reason, run, timed_out=True)
            gap = min(gap, left)
        yield from pause(gap)
        return _Then.NEXT_TURN
