"""A process in which one client waits for many runs, and is measured.

    python -m tests.bench.subject MEASUREMENT CLIENT PORT AUTHORITY [NAME=NUMBER...]

It writes one JSON object a line: `{"mark": ...}` where whoever started it should ask the server for its counts, at last
`{"found": {...}}`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.bench.answers import NEVER, run_number
from tests.bench.clients import client, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.clients import Client

TICK = 0.02
"""Seconds between two looks at how late the loop is."""


class Lag:
    """How late the loop wakes a task that asked for a moment."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self.worst = max(self.worst, loop.time() - due)


class Waiting:
    """The waits of one client."""

    def __init__(self, chosen: Client) -> None:
        self._client = chosen
        self._tasks: list[asyncio.Task[None]] = []
        self._serial = 0
        self.lag = Lag()

    async def begin(self, count: int, interval: float, age: float, end: Callable[[int], float]) -> None:
        """Wait for `count` more runs. Like a triggerer, give others a chance between one and the next."""
        for _ in range(count):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            serial = self._serial
            self._serial += 1
            number = run_number(end(serial), serial)
            self._tasks.append(asyncio.create_task(self._client.wait(number, interval, age)))

    @property
    def over(self) -> int:
        """Waits that are over, well or not."""
        return sum(task.done() for task in self._tasks)

    async def finish(self, patience: float = 0.0) -> dict[str, int]:
        """Wait for the rest at most so long; how many ended well, and how many in an error."""
        if patience:
            await asyncio.wait(self._tasks, timeout=patience)
        done = [task for task in self._tasks if task.done()]
        errors = [task.exception() for task in done if task.exception() is not None]
        for error in errors[:3]:
            print(repr(error), file=sys.stderr)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()
        return {"told": len(done) - len(errors), "errors": len(errors)}


async def polling(chosen: Client, count: int, interval: float, warm: float, seconds: float) -> dict[str, Any]:
    """CPU, requests and connections of runs that never end, in a window of steady polling."""
    waiting = Waiting(chosen)
    await waiting.begin(count, interval, 0.0, lambda _: NEVER)
    await asyncio.sleep(warm)
    _mark("begin")
    waiting.lag.worst = 0.0
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    _mark("end")
    worst = waiting.lag.worst
    return {"cpu": cpu, "seconds": took, "worst_lag": worst, **(await waiting.finish())}


async def memory(chosen: Client, count: int, interval: float, settle: float) -> dict[str, Any]:
    """Memory for each of `count` more triggers, where as many are waiting already."""
    import psutil

    process = psutil.Process()
    waiting = Waiting(chosen)
    sizes = []
    for _ in range(2):
        await waiting.begin(count, interval, 3600.0, lambda _: NEVER)
        await asyncio.sleep(settle)
        gc.collect()
        sizes.append(process.memory_info().rss)
    return {"bytes": (sizes[1] - sizes[0]) / count, **(await waiting.finish())}


async def crowd(chosen: Client, count: int, interval: float) -> dict[str, Any]:
    """A restarted triggerer: so many old runs at once, each of which ends at some moment of the next interval."""
    ends_from = time.time() + interval / 3
    waiting = Waiting(chosen)
    _mark("begin")
    began, cpu = time.monotonic(), time.process_time()
    await waiting.begin(count, interval, 3600.0, lambda _: ends_from + random.uniform(0.0, interval))
    created = time.monotonic() - began
    # Everybody looks at least once in each interval, so all have been told after two and a third; some air above.
    patience = interval * 2.5 + 20
    while waiting.over < count and time.monotonic() - began < patience:  # noqa: ASYNC110
        await asyncio.sleep(0.25)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    _mark("end")
    worst = waiting.lag.worst
    return {"cpu": cpu, "seconds": took, "created": created, "worst_lag": worst, **(await waiting.finish())}


async def sharing(chosen: Client, count: int, distinct: int, interval: float, seconds: float) -> dict[str, Any]:
    """Requests of so many waits for so few runs."""
    waiting = Waiting(chosen)
    for _ in range(count // distinct):
        waiting._serial = 0
        await waiting.begin(distinct, interval, 3600.0, lambda _: NEVER)
    await asyncio.sleep(5.0 + interval)
    _mark("begin")
    await asyncio.sleep(seconds)
    _mark("end")
    return {"seconds": seconds, **(await waiting.finish())}


def _mark(name: str) -> None:
    print(json.dumps({"mark": name}), flush=True)


def main() -> None:
    """One measurement."""
    measurement, name, port, authority, *rest = sys.argv[1:]
    connect(int(port), authority)
    numbers = {key: float(value) for key, _, value in (text.partition("=") for text in rest)}
    for key in ("count", "distinct"):
        if key in numbers:
            numbers[key] = int(numbers[key])
    chosen = client(name)
    # As long-lived processes do: what is there before the work begins is not looked through again and again.
    gc.collect()
    gc.freeze()
    measure: Any = {"polling": polling, "memory": memory, "crowd": crowd, "sharing": sharing}[measurement]
    print(json.dumps({"found": asyncio.run(measure(chosen, **numbers))}), flush=True)


if __name__ == "__main__":
    main()
