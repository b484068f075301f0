"""Sleeps and time limits in an event loop, by a few timers for all; a timer for each costs a fifth of a look at a run.

The law: nobody is woken before time, and nobody more than a beat after it: who wakes together shares a turn of the
loop. No request outlives its limit by more than a second, nor by a fifth of it.
"""

from __future__ import annotations

import asyncio
import math

BEAT = 0.05
"""Seconds between the moments at which long sleeps end."""
SHORT = 0.5
"""Seconds below which a sleep ends in time instead: a beat would be too large a part of it."""
ROUND = 1.0
"""Seconds between two looks for what has outlived its limit."""
EXACT = 5.0
"""Seconds below which a limit has a timer of its own: a second more would be too large a part of it."""


class Alarm:
    """The clock of one transport. Short sleeps end in time, others at the next beat."""

    def __init__(self) -> None:
        self._sleepers: dict[int, list[asyncio.Future[None]]] = {}

    def after(self, seconds: float) -> asyncio.Future[None]:
        """What to wait for, to sleep so long in the running event loop."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        if seconds < SHORT:
            loop.call_later(seconds, _wake, sleeper)
            return sleeper
        beat = math.ceil((loop.time() + seconds) / BEAT)
        together = self._sleepers.get(beat)
        if together is None:
            together = self._sleepers[beat] = []
            loop.call_at(beat * BEAT, self._strike, beat)
        together.append(sleeper)
        return sleeper

    def _strike(self, beat: int) -> None:
        for sleeper in self._sleepers.pop(beat):
            _wake(sleeper)


class Limits:
    """Time limits of many requests under way."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Timeout, float] = {}
        self._is_watching = False

    def begin(self, limit: asyncio.Timeout, seconds: float) -> None:
        """From now on `limit`, which was made without end, has one."""
        loop = asyncio.get_running_loop()
        if seconds < EXACT:
            limit.reschedule(loop.time() + seconds)
            return
        self._ends[limit] = loop.time() + seconds
        if not self._is_watching:
            self._is_watching = True
            loop.call_later(ROUND, self._look)

    def end(self, limit: asyncio.Timeout) -> None:
        """What was limited is over."""
        self._ends.pop(limit, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        over = [limit for limit, end in self._ends.items() if end <= now]
        # Out first, and the next look before anything can go wrong: a turn of the loop may last longer than a round,
        # so that the next look comes before those have left, and who is told twice to end says RuntimeError.
        for limit in over:
            del self._ends[limit]
        self._is_watching = bool(self._ends)
        if self._is_watching:
            loop.call_later(ROUND, self._look)
        for limit in over:
            limit.reschedule(now)


def _wake(sleeper: asyncio.Future[None]) -> None:
    """End a sleep, if it has not been given up."""
    if not sleeper.done():
        sleeper.set_result(None)
