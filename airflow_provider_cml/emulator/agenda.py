"""Time in a workspace: one clock, and what is to happen when.

Law: everything that happens later is an entry here, and happens at its due time, not at the time somebody
looked. So a clock that jumps (a test's) gives the same history as one that runs.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
Action: TypeAlias = Callable[[float], None]


def steady_clock() -> Clock:
    """Seconds since the epoch that never step back: the wall clock of now, advanced by the monotonic."""
    origin = time.time() - time.monotonic()
    return lambda: origin + time.monotonic()


class Agenda:
    """Entries in order of due time, each with an owner by which they can be struck out together."""

    def __init__(self, clock: Clock, lock: threading.RLock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Hashable, Action]] = []
        self._order = itertools.count()
        self._changed = threading.Condition(lock)

    def at(self, due: float, owner: Hashable, action: Action) -> None:
        """Enter an action; it is called with its due time."""
        with self._changed:
            heapq.heappush(self._heap, (due, next(self._order), owner, action))
            self._changed.notify_all()

    def strike(self, owner: Hashable) -> None:
        """Take out everything entered by this owner."""
        with self._changed:
            self._heap = [entry for entry in self._heap if entry[2] != owner]
            heapq.heapify(self._heap)

    def advance(self) -> None:
        """Do what is due, and what becomes due by doing it."""
        with self._changed:
            while self._heap and self._heap[0][0] <= self.clock():
                due, _, _, action = heapq.heappop(self._heap)
                action(due)

    def keep(self, over: threading.Event) -> None:
        """Advance as time goes by, until `over` is set and `wake` was called."""
        with self._changed:
            while not over.is_set():
                self.advance()
                pause = self._heap[0][0] - self.clock() if self._heap else None
                self._changed.wait(None if pause is None else max(pause, 0.0))

    def wake(self) -> None:
        """Make `keep` look again."""
        with self._changed:
            self._changed.notify_all()
