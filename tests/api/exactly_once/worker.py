"""One worker process of Airflow: one try of the task, running the real conversations.

It starts the run exactly once, waits for its end, and says how the try ended, as the operator does. It can be killed,
with or without the chance to stop its run, frozen, or given up by Airflow and live on.

The law: a worker knows nothing of the world but the answers it was sent.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.wire import Note, Now, Pause, Request, Response
from tests.api.exactly_once.one_try import Ending, OneTry

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.start import Start, Started
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange
    from tests.api.exactly_once.schedules import Story
    from tests.api.exactly_once.world import Run

LONG = 20.0
"""Seconds of a pause in whose middle something may happen, too."""


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
        self.ending: Ending | None = None
        self.losses = 0
        self.was_refused = False
        """CML has refused it something for good: a look, or a start."""
        self.began = story.timeline.now
        self.dag_run_began = story.airflow.started_at
        self.dag_run_life = story.airflow.lives
        self.seen_red: set[Run] = set()
        self.refusals: dict[str, int] = {}
        self.passed_over: dict[str, set[int]] = {}
        self.looks = 0
        self.one_try = OneTry(start, partial(story.ledger.took_for_own, self), story.tell, story.airflow.resumed)
        self.exchange: Exchange[Ending] = self.one_try.play()

    def __str__(self) -> str:
        return f"try {self.start.key.try_number} of series {self.series}"

    @property
    def found(self) -> Started | None:
        """The run it takes for its own."""
        return self.one_try.found

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

    def _end(self, ending: Ending) -> None:
        self.is_alive = False
        self.ending = ending
        if not self.is_dying:
            self.story.tell(f"{self} ends: {ending}")
            self.story.ledger.try_ended(self, ending)
            self.story.airflow.ended(self, ending)

    def _on_kill(self, run: JobRun) -> Exchange[Ending]:
        with suppress(CmlError):
            yield from v2.stop_job_run(self.start.ids.project_id, self.start.ids.job_id, run.id)
        return Ending.KILLED
