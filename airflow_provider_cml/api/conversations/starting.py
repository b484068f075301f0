"""Starting a run exactly once, on an API that has no idempotency key.

Three facts replace the key: a run echoes its environment, so ours carries a `RunKey`; runs can be listed newest
first; a job has at most one active run. One turn is played over and over, the same on every occasion, until a run is
ours or the job is busy:

    look      at the job's runs
    fence     a newer try of this task has been here: end, touch nothing
    own       a run of this series is active, succeeded, or is this try's result: it is ours
    former    what a clear left behind is still active: stop it first
    loss      an answer was lost: look until it is found, or until it may be sent again
    busy      another run is active, or CML refused: wait, or say so
    settle    the earlier try may have a start in flight: give it time to show, once
    fresh     the look is too old: look again
    post      once; and back to the top with whatever came of it

The law: no start request without a fresh look that found nothing, and none twice unless the first one's fate is known
or its time is over. Each rule is here because without it a short schedule of faults runs a job twice, adopts or stops
a stranger's run, or loses one; the tests find that schedule when the rule is taken out.

What is assumed of CML: a start takes effect at most GRACE after it was sent, and a created run is listed within SETTLE.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import began
from airflow_provider_cml.api.conversations.history import History
from airflow_provider_cml.api.conversations.posting import Posting
from airflow_provider_cml.api.conversations.start import Busy, Origin, Start, Started
from airflow_provider_cml.api.errors import CmlError, CmlRunMayExistError, CmlSupersededError
from airflow_provider_cml.api.run_key import RunKey, same_series
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
CLOCKS_APART = timedelta(days=1)
"""By how much CML's clock may be behind Airflow's without hiding a run of an earlier try from a later one."""
_EVER = datetime.min.replace(tzinfo=UTC)
FORMER_GAP = 5.0
"""Seconds between looks while a run of a former series stops."""
BUSY_GAP = 5.0
"""Seconds before the second look at a busy job; the gaps grow to the poll interval."""


class _Then(Enum):
    """What follows a step that settles nothing: the next step, or a new turn."""

    NEXT_STEP = auto()
    NEXT_TURN = auto()


_Step: TypeAlias = "Started | Busy | _Then"


def start_exactly_once(start: Start) -> Exchange[Started | Busy]:
    """Start the run, or find the one that is ours already.

    :returns: `Started`; or `Busy` where waiting is not wanted, or `busy_timeout` is over.
    :raises CmlRefusedError: CML rejects the start; nothing runs.
    :raises CmlUnavailableError: CML could not be asked; no start is pending.
    :raises CmlRunMayExistError: a start was sent and its fate cannot be settled; not to be tried again.
    :raises CmlSupersededError: a newer try of this task is at work.
    """
    starting = _Starting(start)
    while True:
        outcome = yield from starting.turn()
        if isinstance(outcome, Started | Busy):
            return outcome


class _Starting:
    """What one process knows between two turns."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.carries_on = start.durable and start.key.try_number > 1
        """An earlier try may have started a run that is this one's, any time since the dag run began."""
        since = (began(start.key, CLOCKS_APART) or _EVER) if self.carries_on else None
        self.history = History(start.ids, since, start.contact)
        self.posting = Posting(start, self.history)
        self.settled = start.key.try_number <= 1
        self.began: float | None = None
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
            yield from self.history.look()
        except CmlError as error:
            if self.posting.is_pending:
                raise self.posting.may_exist(f"it could not be looked for: {error}") from error
            raise
        if self.began is None:
            self.began = self.history.looked_at

    def _fence(self) -> Exchange[_Step]:
        yield from ()
        for key, run in self.history.keyed:
            if self.start.is_of_my_task(key) and key.order > self.start.key.order:
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
            self.posting.refusal = None
            key = RunKey.parse(run.run_key)
            reason = f"run {run.id} of this job is {run.status}"
            # Our own run on its way out is not somebody else's: it is waited for even where busy means fail or skip.
            is_own = key is not None and self._is_of_my_series(key) and self._is_on_its_way_out(key, run)
            if not (self.start.wait_when_busy or is_own):
                return self._say_busy(reason, run)
            return (yield from self._wait(reason, run))
        if self.posting.refusal is None:
            return _Then.NEXT_STEP
        reason = self.posting.refusal
        if not (self.start.wait_when_busy or self.posting.is_capacity):
            return self._say_busy(reason, None)
        return (yield from self._wait(reason, None, self.posting.refusal_gap()))

    def _settle(self) -> Exchange[_Step]:
        """Before the first start of a later try: the earlier one may have died with a start in flight.

        Not if a run of the try just before this one is in the list: a try starts one run. A refusal proves nothing.
        What this try has waited already, for a busy job say, counts: the earlier one sent nothing since this one began.
        The task's `retry_delay` does not: Airflow begins the next try of a task at once if its scheduler died.
        """
        if self.settled:
            return _Then.NEXT_STEP
        self.settled = True
        mine = self.start.key
        before = (mine.start, mine.nonce, mine.try_number - 1)
        for key, run in self.history.keyed:
            if (
                self.start.is_of_my_task(key)
                and (key.start, key.nonce, key.try_number) == before
                and run.status.is_executed
            ):
                return _Then.NEXT_STEP
        waited = self.start.waited + self.history.looked_at - (self.began or 0.0)
        if waited >= SETTLE:
            return _Then.NEXT_STEP
        yield from note(f"Waiting {SETTLE - waited:.0f} s: a start of the earlier try may still be on its way.")
        yield from pause(SETTLE - waited)
        return _Then.NEXT_TURN

    def _fresh(self) -> Exchange[_Step]:
        """The last check before the start; nothing else stands between the two."""
        unseen = ""
        if not self.history.echoes:
            unseen = "This workspace does not show the environment of runs"
        elif self.history.is_cut:
            unseen = "This job has more runs since the dag run began than can be read"
        if self.carries_on and unseen:
            message = (
                f"{unseen}, so try {self.start.key.try_number} cannot tell whether an earlier try started one. A run "
                f"may exist: look for it in CML. With durable=False the task starts a new run without looking for an "
                f"earlier one."
            )
            raise CmlRunMayExistError(message)
        moment = yield from now()
        is_believed = self.relooks >= RELOOKS and moment - self.history.seen_at <= FRESH
        if moment - self.history.looked_at > FRESH and not is_believed:
            self.relooks += 1
            return _Then.NEXT_TURN
        self.relooks = 0
        return _Then.NEXT_STEP

    def _is_of_my_series(self, key: RunKey) -> bool:
        if not self.start.is_of_my_task(key):
            return False
        return self.start.is_of_my_try(key) or (self.start.durable and same_series(key, self.start.key))

    def _is_on_its_way_out(self, key: RunKey, run: JobRun) -> bool:
        """STOPPING, and begun by an earlier try: waited for, not carried on with."""
        return run.status is JobRunStatus.STOPPING and not self.start.is_of_my_try(key)

    def _wait(self, reason: str, run: JobRun | None, gap: float | None = None) -> Exchange[_Step]:
        """Pause before the next turn; `Busy` when the time given for waiting is over."""
        moment = yield from now()
        if self.waiting_since is None:
            self.waiting_since = moment
        if reason != self.waiting_for:
            self.waiting_for = reason
            yield from note(f"Waiting: {reason}.")
        if self.start.wait_elsewhere:
            return self._say_busy(reason, run, gap or BUSY_GAP)
        if gap is None:
            gap = min(BUSY_GAP * 1.5**self.waits, max(self.start.poll_interval, 1.0))
            self.waits = min(self.waits + 1, 20)
        gap *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter: many waiters must not knock together
        if self.start.busy_timeout is not None:
            left = self.waiting_since + self.start.busy_timeout - moment
            if left <= 0:
                return self._say_busy(reason, run, timed_out=True)
            gap = min(gap, left)
        yield from pause(gap)
        return _Then.NEXT_TURN

    def _say_busy(self, reason: str, run: JobRun | None, gap: float = 0.0, *, timed_out: bool = False) -> Busy:
        return Busy(reason, run, timed_out, gap, self.posting.refusals)
