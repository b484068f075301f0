"""When a watcher looks, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from airflow_provider_cml.triggers import beats
from airflow_provider_cml.triggers.beats import Beat, Beats, beats_alone
from tests.triggers.virtual_time import run_in_virtual_time

GAP = 60.0


def dealt_with(beat: Beat, *, clean: bool = True) -> list[SimpleNamespace]:
    """What Airflow hands over when it has stored the events of a beat, or given them up."""
    return [SimpleNamespace(broker_payload=beat, outcome=SimpleNamespace(is_clean=clean))]


def test_first_looks_are_spread() -> None:
    """A thousand watchers of a restarted triggerer do not knock at once, nor are they late."""

    async def story() -> list[float]:
        async def first() -> float:
            async for _ in beats_alone(GAP):
                return asyncio.get_running_loop().time()
            raise AssertionError

        return await asyncio.gather(*(first() for _ in range(1000)))

    moments = run_in_virtual_time(story())
    assert max(moments) <= beats.SPREAD
    assert min(moments) < 0.1 * beats.SPREAD < 0.9 * beats.SPREAD < max(moments)


def test_gaps_are_jittered() -> None:
    """Never longer than asked for, and never the same."""

    async def story() -> list[float]:
        moments: list[float] = []
        async for _, _ in Beats(GAP).open_stream():
            moments.append(asyncio.get_running_loop().time())
            if len(moments) > 100:
                return moments
        raise AssertionError

    moments = run_in_virtual_time(story())
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert 0.8 * GAP <= min(gaps) < 0.85 * GAP < 0.95 * GAP < max(gaps) <= GAP


@pytest.mark.parametrize(
    ("told", "clean", "expected"), [(True, True, 5.0), (False, True, GAP), (True, False, GAP), (False, False, GAP)]
)
def test_stored_events_bring_the_next_beat(told: bool, clean: bool, expected: float) -> None:
    """A beat that made events is followed at once when they are stored; another one does not hurry anything."""

    async def story() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        producer = Beats(GAP)
        stream = producer.open_stream()
        beat, _ = await anext(stream)
        beat.told = told
        began = loop.time()
        loop.call_later(5.0, lambda: loop.create_task(producer.advance(dealt_with(beat, clean=clean))))
        await anext(stream)
        return loop.time() - began, beat.stored

    waited, stored = run_in_virtual_time(story())
    assert stored == clean
    assert 0.8 * expected <= round(waited, 6) <= expected


def test_unconfirmed_beat_counts_as_stored_a_gap_later() -> None:
    """Where Airflow confirms nothing."""

    async def story() -> list[bool]:
        stream = beats_alone(GAP)
        first = await anext(stream)
        before = first.stored
        await anext(stream)
        return [before, first.stored]

    assert run_in_virtual_time(story()) == [False, True]
