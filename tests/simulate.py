"""Many schedules of the exactly-once model, with live progress: `make simulate N=1000000 SEED=7`.

    python -m tests.simulate [N] [SEED]       N schedules by chance, from SEED on (100,000 from 0)
    python -m tests.simulate few K            all schedules with at most K departures from the quiet course
    python -m tests.simulate worlds [N]       N schedules in worlds beyond the bounds: what the promise does not cover
    python -m tests.simulate story SEED       what happens in one schedule, line by line
    python -m tests.simulate focused [N]      N schedules of each search for what one rule is there for
    python -m tests.simulate mutations [N]    each rule taken out in turn: whether the model notices

The law: it ends with 1 if, and only if, an invariant broke where it has to hold.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from typing import TYPE_CHECKING

from tests.api.exactly_once import mutations
from tests.api.exactly_once.schedules import Options, by_chance, given, play, retell, shrink, up_to

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 500
WORLDS = {
    "bounded (75 s late, 5 s unlisted)": Options(),
    "bounded, no process outlives its try": Options(stale=False),
    "processes outlive their try while starts are late": Options(stale_and_late=True),
    "the same, and no environment is shown": Options(stale_and_late=True, stale_and_blind=True),
    "starts up to 400 s late": Options(late=400.0),
    "runs up to 400 s unlisted": Options(lag=400.0),
}


def main(words: list[str]) -> int:
    match words:
        case ["few", most]:
            return _tell_breaks(_all_up_to(int(most)))
        case ["worlds", *count]:
            return _compare(*map(int, count))
        case ["story", seed]:
            print("\n".join(retell(_departures(int(seed)))))
            return 0
        case ["focused", *count]:
            return _focused(*map(int, count))
        case ["mutations", *count]:
            return mutations.main(*map(int, count))
        case _:
            return _tell_breaks(_broken(*map(int, words)))


def _tell_breaks(broken: list[dict[int, int]]) -> int:
    """The shortest of the schedules that broke something, as a story."""
    if not broken:
        return 0
    print("\nThe shortest schedule that breaks an invariant:")
    shortest = min((shrink(departures) for departures in broken[:20]), key=len)
    print(shortest, play(given(shortest))[0].words, *retell(shortest), sep="\n")
    return 1


def _broken(count: int = 100_000, seed: int = 0) -> list[dict[int, int]]:
    """The departures of the schedules that broke an invariant."""
    chunks = [(first, min(CHUNK, seed + count - first), Options()) for first in range(seed, seed + count, CHUNK)]
    progress = _Progress(count)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for (_, played, _), found in zip(chunks, pool.map(_play_chunk, chunks), strict=True):
            progress.add(played, found)
    return progress.end()


def _all_up_to(most: int) -> list[dict[int, int]]:
    progress = _Progress(None)
    schedules: Iterator[dict[int, int] | None] = (
        choices.departures if violation else None for choices, violation in up_to(most)
    )
    while chunk := list(islice(schedules, CHUNK)):
        progress.add(len(chunk), [departures for departures in chunk if departures is not None])
    return progress.end()


def _compare(count: int = 20_000) -> int:
    """How often what breaks in which world. Only the bounded ones have to be free of it."""
    status = 0
    for name, options in WORLDS.items():
        kinds: Counter[str] = Counter()
        for seed in range(count):
            violation = play(by_chance(seed), options)[1]
            if violation is not None:
                kinds[violation.invariant] += 1
        print(f"{name:<52} {count:>8}  {dict(sorted(kinds.items())) or 'none'}", flush=True)
        status |= name.startswith("bounded") and bool(kinds)
    return int(status)


def _focused(count: int = 20_000) -> int:
    """How many schedules of each search break something: none has to."""
    status = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        numbers = range(len(mutations.SEARCHES))
        for search, broken in zip(mutations.SEARCHES, pool.map(_play_search, numbers, repeat(count)), strict=True):
            print(f"{search.__name__:<32} {count:>8}  {len(broken)} broke an invariant  {broken[:3]}", flush=True)
            status |= bool(broken)
    return status


def _play_search(number: int, count: int) -> list[int]:
    return [seed for seed in range(count) if play(mutations.SEARCHES[number](seed))[1] is not None]


def _play_chunk(chunk: tuple[int, int, Options]) -> list[dict[int, int]]:
    first, count, options = chunk
    played = (play(by_chance(seed), options) for seed in range(first, first + count))
    return [choices.departures for choices, violation in played if violation is not None]


def _departures(seed: int) -> dict[int, int]:
    return play(by_chance(seed))[0].departures


class _Progress:
    """A line that says how far it is."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._began = self._said = time.monotonic()
        self._played = 0
        self._broken: list[dict[int, int]] = []

    def add(self, played: int, broken: list[dict[int, int]]) -> None:
        self._played += played
        self._broken += broken
        if time.monotonic() - self._said >= 1.0:
            self._say("\r" if sys.stdout.isatty() else "\n")

    def end(self) -> list[dict[int, int]]:
        self._say("\n")
        return self._broken

    def _say(self, end: str) -> None:
        self._said = time.monotonic()
        pace = self._played / max(self._said - self._began, 0.001)
        share = f" of {self._count:,}" if self._count else ""
        left = (
            f", {(self._count - self._played) / pace:.0f} s left" if self._count and self._count > self._played else ""
        )
        broken = f"{len(self._broken)} broke an invariant"
        print(f"{self._played:,}{share} schedules, {broken}, {pace:.0f} per second{left}   ", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
