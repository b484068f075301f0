"""When a watcher looks, and how it learns that Airflow has stored its events.

Airflow 3.3 tells a trigger that its events are stored only if they were made from a raw event of a shared stream. So
the raw events are moments to look: beats. The stream is not shared here.

The law: a beat that made events is followed by another as soon as these are stored, and not before the gap is over
otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.conversations.waiting import SHORTEST_SHARE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SPREAD = 10.0
"""Seconds over which the first looks of a restarted triggerer are spread."""


@dataclass(eq=False, slots=True)
class Beat:
    """A moment to look. Whoever looks sets `told` if it made events; `stored` says that Airflow has them."""

    told: bool = False
    stored: bool = False
    made_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


class Beats:
    """The producer of Airflow's shared streams (`airflow.triggers.shared_stream`, 3.3+), for one watcher.

    :param gap: the longest time between two beats, seconds.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._news = asyncio.Event()

    async def open_stream(self) -> AsyncIterator[tuple[Beat, Beat]]:
        """Beats without end, each with itself as what comes back when it is dealt with."""
        await asyncio.sleep(random.uniform(0.0, min(self._gap, SPREAD)))  # noqa: S311 - see SPREAD
        while True:
            beat = Beat()
            yield beat, beat
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), jittered(self._gap))
            self._news.clear()

    async def advance(self, batch: Sequence[Any]) -> None:
        """Airflow has stored all events of these beats, or given them up."""
        for item in batch:
            if item.outcome.is_clean:
                item.broker_payload.stored = True
                if item.broker_payload.told:
                    self._news.set()


async def beats_alone(gap: float) -> AsyncIterator[Beat]:
    """Beats for an Airflow that confirms nothing: it stores an event within a second or two, so the next beat knows."""
    await asyncio.sleep(random.uniform(0.0, min(gap, SPREAD)))  # noqa: S311 - see SPREAD
    while True:
        beat = Beat()
        yield beat
        await asyncio.sleep(jittered(gap))
        beat.stored = True


def jittered(gap: float) -> float:
    """The gap, a little shorter by chance, so that a thousand watchers do not knock at once."""
    return gap * random.uniform(SHORTEST_SHARE, 1.0)  # noqa: S311 - jitter
