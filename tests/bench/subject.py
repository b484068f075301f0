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
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

from tests.bench.answers import NEVER, run_number
from tests.bench.clients import client, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.clients import Client

TICK = 0.02
"""Seconds between two looks at how late the loop is."""
BURST = 0.01
"""Seconds a callback may keep the loop."""
LENGTHS = (5, 20, 60)
"""Seconds the runs last whose delay is measured in real time."""


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
        self.delays: list[tuple[float, float]] = []
        self.lag = Lag()

    async def begin(self, count: int, interval: float, age: float, end: Callable[[int], float]) -> None:
        """Wait for `count` more runs. Like a triggerer, give others a chance between one and the next."""
        for _ in range(count):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            serial = self._serial
            self._serial += 1
            self._tasks.append(asyncio.create_task(self._wait(end(serial), serial, interval, age)))

    async def _wait(self, end: float, serial: int, interval: float, age: float) -> None:
        await self._client.wait(run_number(end, serial), interval, age)
        self.delays.append((end, time.time() - end))

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
    """A restarted triggerer: so many old runs at once, each of which ends somewhere in the next interval but one."""
    ends_from = time.time() + interval * 1.2
    waiting = Waiting(chosen)
    _mark("begin")
    began, cpu = time.monotonic(), time.process_time()
    await waiting.begin(count, interval, 3600.0, lambda _: ends_from + random.uniform(0.0, interval))
    created = time.monotonic() - began
    # Everybody looks at least once in each interval, so all have been told after three and a fifth; some air above.
    patience = interval * 3.2 + 20
    while waiting.over < count and time.monotonic() - began < patience:  # noqa: ASYNC110 - seen from outside the waits
        await asyncio.sleep(0.25)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    _mark("end")
    worst = waiting.lag.worst
    return {"cpu": cpu, "seconds": took, "created": created, "worst_lag": worst, **(await waiting.finish())}


async def bursts(chosen: Client, count: int, interval: float, seconds: float) -> dict[str, Any]:
    """How often a callback kept the loop for more than 10 ms, in asyncio's debug mode, the beginning included.

    Debug mode itself goes by the wall clock, and so counts whatever else runs on the machine: here the CPU time of the
    callback's own thread counts, without what Python's garbage collection took of it, which looks through the
    tracebacks that debug mode keeps.
    """
    slow: list[str] = []
    run = asyncio.Handle._run
    collecting = [0.0]

    def collected(phase: str, _info: dict[str, int]) -> None:
        collecting[0] += time.thread_time() * (1 if phase == "stop" else -1)

    def measured(handle: asyncio.Handle) -> None:
        before = time.thread_time() - collecting[0]
        run(handle)
        took = time.thread_time() - collecting[0] - before
        if took > BURST:
            slow.append(f"{took * 1000:.0f} ms: {handle!r}")

    asyncio.Handle._run = measured  # type: ignore[method-assign]  # there is no other way to see each callback
    asyncio.TimerHandle._run = measured  # type: ignore[method-assign]  # as above
    gc.callbacks.append(collected)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = BURST
    waiting = Waiting(chosen)
    await waiting.begin(count, interval, 3600.0, lambda _: NEVER)
    await asyncio.sleep(seconds)
    loop.set_debug(False)
    for message in slow[:5]:
        print(message[:300], file=sys.stderr)
    return {"bursts": len(slow), **(await waiting.finish())}


async def delays(chosen: Client, count: int, longest: float) -> dict[str, Any]:
    """How long after its end a run is told, with everybody's default interval; `count` runs of each length."""
    waiting = Waiting(chosen)
    begun = time.time()
    lengths = [length for length in LENGTHS if length <= longest]
    for length in lengths:
        spread = [begun + length * (0.9 + 0.2 * at / count) for at in range(count)]
        await waiting.begin(count, chosen.interval, 0.0, partial(_end_of, spread))
    # `finish` returns as soon as all are told.
    found = await waiting.finish(patience=longest * 1.1 + 2 * chosen.interval)
    by_length = {
        str(length): [delay for end, delay in waiting.delays if 0.85 < (end - begun) / length < 1.15]
        for length in lengths
    }
    means = {length: mean(some) for length, some in by_length.items() if some}
    worst = {length: max(some) for length, some in by_length.items() if some}
    return {"mean": means, "worst": worst, **found}


def _end_of(ends: list[float], serial: int) -> float:
    return ends[serial % len(ends)]


def _mark(name: str) -> None:
    print(json.dumps({"mark": name}), flush=True)


def main() -> None:
    """One measurement."""
    measurement, name, port, authority, *rest = sys.argv[1:]
    connect(int(port), authority)
    numbers = {key: float(value) for key, _, value in (text.partition("=") for text in rest)}
    if "count" in numbers:
        numbers["count"] = int(numbers["count"])
    chosen = client(name)
    # As long-lived processes do: what is there before the work begins is not looked through again and again.
    gc.collect()
    gc.freeze()
    measure: Any = {
        "polling": polling,
        "memory": memory,
        "crowd": crowd,
        "bursts": bursts,
        "delays": delays,
    }[measurement]
    print(json.dumps({"found": asyncio.run(measure(chosen, **numbers))}), flush=True)


if __name__ == "__main__":
    main()
