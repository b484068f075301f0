"""An event loop whose clock jumps to the next moment at which something is due, so that hours pass in no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting for I/O that nobody does, moves the clock on."""

    moment = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout:
            self.moment += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop itself."""

    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.moment


def run_in_virtual_time(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine on a clock that starts at zero."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
