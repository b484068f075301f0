"""How far a watcher has told what it saw, over restarts and in doubt."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.endings import Cursor, CursorError
from airflow_provider_cml.triggers.watermark import MovedError, Watermark

KEY = "cml-job-run-events-0123456789abcdef"
EARLY, LATE, LATER = (Cursor(floor=datetime(2026, 11, day, tzinfo=UTC)) for day in (20, 21, 22))


class Store:
    """The state of one asset, as Airflow keeps it: JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.writes = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    async def aset(self, key: str, value: Any) -> None:
        self.writes += 1
        self.kept[key] = json.dumps(value)


class Accessors:
    """What Airflow gives a trigger: the stores of the assets it watches, by name."""

    def __init__(self, **stores: Store) -> None:
        self._by_name = stores


def on(*stores: Store) -> Watermark:
    """A mark as a new process finds it, in the stores of assets that are called a, b, c."""
    mark = Watermark(Accessors(**dict(zip("abc", stores, strict=False))), KEY)
    asyncio.run(mark.read())
    return mark


def do(*steps: Any) -> None:
    for step in steps:
        asyncio.run(step)


def test_nothing_is_known_at_first() -> None:
    """No cursor, no doubt."""
    mark = on(Store())

    assert (None, frozenset(), True, True) == (mark.cursor, mark.doubtful, mark.is_settled, mark.survives)


def test_what_was_confirmed_is_never_in_doubt() -> None:
    """The next process goes on behind it."""
    store = Store()
    mark = on(store)
    do(mark.advance(EARLY, []), mark.advance(LATE, ["one"]), mark.settle())

    again = on(store)
    assert (LATE, frozenset()) == (again.cursor, again.doubtful)


def test_doubt_is_written_before_the_event_leaves() -> None:
    """The next process looks from before it again, and knows which runs may have been told."""
    store = Store()
    mark = on(store)
    do(mark.advance(EARLY, []), mark.advance(LATE, ["one"]), mark.advance(LATER, ["two"]))

    again = on(store)
    assert (EARLY, {"one", "two"}) == (again.cursor, again.doubtful)
    assert LATER == mark.cursor
    assert not mark.is_settled


def test_unconfirmed_events_hold_the_mark() -> None:
    """A look without news does not move it past them."""
    store = Store()
    mark = on(store)
    do(mark.advance(EARLY, []), mark.advance(LATE, ["one"]), mark.advance(LATER, []))

    assert EARLY == on(store).cursor
    do(mark.settle())
    assert LATER == on(store).cursor


def test_nothing_new_is_not_written() -> None:
    """An idle job costs the database nothing."""
    store = Store()
    mark = on(store)
    do(mark.advance(EARLY, []))
    writes = store.writes
    do(*(mark.advance(EARLY, []) for _ in range(5)))

    assert store.writes == writes


@pytest.mark.parametrize("told", [[], ["one"]])
def test_mark_of_another_watcher_is_respected(told: list[str]) -> None:
    """Two processes with one watch, for a moment: the second to write learns that it has been overtaken."""
    store = Store()
    first = on(store)
    do(first.advance(EARLY, []))
    second = on(store)
    do(second.advance(LATE, ["one"]), second.settle())

    with pytest.raises(MovedError):
        do(first.advance(LATER, told))
    do(first.read())
    assert LATE == first.cursor


def test_mark_that_was_removed_is_noticed() -> None:
    """Somebody has cleared the asset's state: the watcher must not go on as if nothing had been."""
    store = Store()
    mark = on(store)
    do(mark.advance(EARLY, []))
    store.kept.clear()

    with pytest.raises(MovedError):
        do(mark.advance(LATE, []))


@pytest.mark.parametrize("kept", ["text", 7, {}, {"version": 2, "cursor": {}}, {"version": 1, "cursor": "x"}])
def test_what_cannot_be_read_is_an_error_and_can_be_overwritten(kept: object) -> None:
    """The watcher says so, and begins anew."""
    store = Store()
    store.kept[KEY] = json.dumps(kept)
    mark = Watermark(Accessors(a=store), KEY)

    with pytest.raises(CursorError):
        do(mark.read())
    mark.forget()
    do(mark.advance(EARLY, []))
    assert EARLY == on(store).cursor


def test_mark_stays_when_an_asset_goes() -> None:
    """Equal watchers of several assets are one trigger: each asset keeps the mark, and any of them is enough."""
    first, second, third = Store(), Store(), Store()
    mark = on(first, second)
    do(mark.advance(EARLY, []), mark.advance(LATE, ["one"]), mark.settle())

    assert LATE == on(second).cursor
    both = on(third, first)
    do(both.advance(LATER, []))
    assert [LATER, LATER] == [on(third).cursor, on(first).cursor]


def test_without_a_store_the_mark_lives_as_long_as_its_process() -> None:
    """Airflow before 3.3."""
    mark = Watermark(None, KEY)
    do(mark.read(), mark.advance(EARLY, []), mark.advance(LATE, ["one"]), mark.settle())

    assert (LATE, False) == (mark.cursor, mark.survives)
