"""One worker process of Airflow: one try of the task, running the real conversations.

It starts the run exactly once, waits for its end, and says how the try ended, as the operator does. It can be killed,
with or without the chance to stop its run, frozen, or given up by Airflow and live on.

The law: a worker knows nothing of the world but the answers it was sent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations import starting, waiting
from airflow_provider_cml.api.conversations.start import Started
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlRefusedError,
    CmlStartError,
    CmlSupersededError,
    CmlUnavailableError,
    CmlUnknownStatusError,
)
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Note, Now, Pause, Request, Response, pause

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.start import Start
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange
    from tests.api.exactly_once.schedules import Story
    from tests.api.exactly_once.world import Run

LONG = 20.0
"""Seconds of a pause in whose middle something may happen, too."""
TAKES_PART_AGAIN = 1
"""Times a try takes part again because the run it carried on with was stopped."""
AGE = 60.0
"""Seconds a run is taken to be old when the wait begins: fewer polls, the same rules."""


class Ending(StrEnum):
    """How a try ended, and so what Airflow does next."""

    GREEN = "green"
    RED = "its run failed"
    STOPPED = "its run was stopped by somebody"
    BUSY = "the job is busy"
    REFUSED = "CML refuses the start"
    UNSEEN = "CML refuses to show the run"
    UNAVAILABLE = "CML could not be asked before a start"
    UNWATCHED = "CML could not be asked about the run"
    MAY_EXIST = "a run may exist"
    SUPERSEDED = "a newer try is at work"
    KILLED = "killed"

    @property
    def is_retried(self) -> bool:
        """Airflow tries again, if there are tries left; everything else is for good."""
        return self in _RETRIED

    @property
    def is_clean(self) -> bool:
        """Nothing of this try is left behind: no start on its way, no run unwatched."""
        return self not in {Ending.MAY_EXIST, Ending.SUPERSEDED, Ending.KILLED, Ending.UNWATCHED, Ending.UNSEEN}


_RETRIED = frozenset({Ending.RED, Ending.UNAVAILABLE, Ending.UNWATCHED, Ending.KILLED})


class Worker:
    """The process of one try."""

    def __init__(self, story: Story, series: int, start: Start) -> None:
        self.story = story
        self.series = series
        self.start = start
        self.life = 0
        """Counts up when what was on its way to this process must not reach it any more."""
        self.is_alive = True
        self.is_dying = False
        self.is_stale = False
        """Airflow has given it up."""
        self.frozen_until = float("-inf")
        self.found: Started | None = None
        self.ending: Ending | None = None
        self.losses = 0
        self.seen_red: set[Run] = set()
        self.refusals: dict[str, int] = {}
        self.passed_over: dict[str, set[int]] = {}
        self.looks = 0
        self.exchange: Exchange[Ending | None] = self._one_try()

    def __str__(self) -> str:
        return f"try {self.start.key.try_number} of series {self.series}"

    @property
    def order(self) -> tuple[int, int]:
        return self.start.key.order

    def resume(self, life: int, what: Response | Exception | None = None, red: list[Run] | None = None) -> None:
        """Go on, with an answer, an error, or after a pause."""
        if life != self.life or not self.is_alive:
            return
        timeline = self.story.timeline
        if timeline.now < self.frozen_until:
            timeline.after(self.frozen_until - timeline.now, partial(self.resume, life, what, red))
            return
        if red:
            self.seen_red.update(red)
        try:
            wish = self._next_wish(what)
        except StopIteration as end:
            self._end(end.value)
            return
        self.story.airflow.visit(self, life)
        if life != self.life or not self.is_alive:
            return
        if isinstance(wish, Request):
            self.story.network.send(self, wish)
            return
        timeline.after(wish.seconds, partial(self.resume, life))
        if wish.seconds > LONG:
            timeline.after(wish.seconds / 2, partial(self.story.airflow.visit, self, life))

    def _next_wish(self, what: Response | Exception | None) -> Request | Pause:
        """What the conversation wants next of the world; clock and log are answered here."""
        wish = self.exchange.throw(what) if isinstance(what, Exception) else self.exchange.send(what)
        while not isinstance(wish, Request | Pause):
            if isinstance(wish, Note):
                self.story.tell(f"{self} says: {wish.text}")
            wish = self.exchange.send(self.story.timeline.now if isinstance(wish, Now) else None)
        return wish

    def kill(self, *, may_stop: bool) -> None:
        """End this process; with `may_stop` it is told, and stops the run it knows of."""
        self.life += 1
        self.exchange.close()
        if may_stop and self.found is not None:
            self.is_dying = True
            self.exchange = self._on_kill(self.found.run)
            self.resume(self.life)
        else:
            self.is_alive = False
            self.ending = Ending.KILLED

    def _end(self, ending: Ending | None) -> None:
        self.is_alive = False
        self.ending = ending or Ending.KILLED
        if not self.is_dying:
            self.story.tell(f"{self} ends: {self.ending}")
            self.story.ledger.try_ended(self, self.ending)
            self.story.airflow.ended(self, self.ending)

    def _on_kill(self, run: JobRun) -> Exchange[Ending | None]:
        with suppress(CmlError):
            yield from v2.stop_job_run(self.start.ids.project_id, self.start.ids.job_id, run.id)
        return Ending.KILLED

    def _one_try(self) -> Exchange[Ending | None]:
        """What the operator does with the conversations."""
        given_up: frozenset[str] = frozenset()
        losses = 0
        while True:
            found = yield from self._start_or_find(given_up)
            if isinstance(found, Ending):
                return found
            losses = max(losses, found.losses)
            run = yield from self._wait(found)
            if isinstance(run, Ending):
                return run
            is_stopped = run.status is JobRunStatus.STOPPED
            is_of_earlier = found.key.try_number < self.start.key.try_number
            if is_stopped and is_of_earlier and len(given_up) < TAKES_PART_AGAIN:
                given_up |= {run.id}
            elif run.status is not JobRunStatus.SKIPPED:
                break
            self.found = None
        if losses:
            with suppress(CmlError):
                yield from waiting.look_for_doubles(self.start.ids, found.key, run.id)
        if run.status.is_success:
            return Ending.GREEN
        return Ending.STOPPED if is_stopped else Ending.RED

    def _start_or_find(self, given_up: frozenset[str]) -> Exchange[Started | Ending]:
        start = replace(self.start, excluded=given_up)
        while True:
            try:
                found = yield from starting.start_exactly_once(start)
            except CmlStartError as error:
                self.story.tell(str(error))
                return Ending.SUPERSEDED if isinstance(error, CmlSupersededError) else Ending.MAY_EXIST
            except CmlUnavailableError:
                return Ending.UNAVAILABLE
            except CmlRefusedError:
                return Ending.REFUSED
            if isinstance(found, Started):
                break
            if found.timed_out or not start.wait_elsewhere:
                return Ending.BUSY
            # The triggerer waits, and then a worker takes part from the beginning.
            yield from pause(max(found.gap, starting.BUSY_GAP))
            start = replace(start, refusals=found.refusals)
        self.found = found
        self.story.ledger.took_for_own(self, found)
        return found

    def _wait(self, found: Started) -> Exchange[JobRun | Ending]:
        if found.run.status.is_over:
            return found.run
        try:
            return (yield from waiting.wait_for_job_run(waiting.Wait(self.start.ids, found.run.id, age=AGE)))
        except (CmlUnavailableError, CmlUnknownStatusError):
            return Ending.UNWATCHED
        except CmlRefusedError:
            return Ending.UNSEEN
