"""How far a watcher has told what it saw, kept where it survives a triggerer: in the state store of the watched asset.

Airflow stores an event in one transaction and this mark in another, so a triggerer that is killed between the two
leaves a doubt. The law: the doubt is written down before the event leaves. Whoever goes on tells such an event once
more, and says so in it; every other event is told exactly once. Nothing is lost: the mark moves on only when Airflow
has confirmed that it has stored all events up to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.conversations.endings import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1


class MovedError(Exception):
    """The mark is not as this watcher left it: another one is at work, or somebody has removed it."""


class Watermark:
    """One watcher's mark.

    :param accessors: what Airflow 3.3+ gives a trigger for the assets it watches; None before, and then the mark lives
        as long as this object.
    :param key: under which it is kept.
    """

    def __init__(self, accessors: Any, key: str) -> None:
        self.cursor: Cursor | None = None
        """Where the next look goes on. None: nothing is known, so that what is over now is no news."""
        self.doubtful: frozenset[str] = frozenset()
        """Runs whose end another process may have told, and may not."""
        self._stores = _stores(accessors)
        self._key = key
        self._kept: Any = None
        self._confirmed: Cursor | None = None
        self._told: set[str] = set()

    @property
    def survives(self) -> bool:
        """Whether the mark outlives this process."""
        return bool(self._stores)

    @property
    def is_settled(self) -> bool:
        """Whether Airflow has stored all that was told."""
        return not self._told

    async def read(self) -> None:
        """Go on where the last watcher stopped.

        :raises CursorError: what is kept cannot be read.
        """
        self._kept = await self._read()
        if self._kept is None:
            self.cursor, self.doubtful = None, frozenset()
        else:
            fields = self._kept if isinstance(self._kept, dict) and self._kept.get("version") == VERSION else {}
            self.cursor = Cursor.from_json(fields.get("cursor"))
            self.doubtful = frozenset(map(str, fields.get("told") or ()))
        self._confirmed = self.cursor
        self._told = set()

    def forget(self) -> None:
        """Begin anew: what is kept is of no use."""
        self.cursor = self._confirmed = None
        self.doubtful = frozenset()

    async def advance(self, cursor: Cursor, told: Iterable[str]) -> None:
        """Move on to `cursor`; `told` are the runs of the events that are about to leave.

        :raises MovedError: they must not: read again.
        """
        told = set(told)
        if told:
            await self._write(self._confirmed, self._told | told)
            self._told |= told
        elif self.is_settled and cursor != self._confirmed:
            await self._write(cursor, set())
            self._confirmed = cursor
        self.cursor = cursor

    async def settle(self) -> None:
        """Airflow has stored all events: nothing is doubtful any more."""
        await self._write(self.cursor, set())
        self._confirmed = self.cursor
        self._told = set()
        self.doubtful = frozenset()

    async def _read(self) -> Any:
        for store in self._stores:
            found = await store.aget(self._key)
            if found is not None:
                return found
        return None

    async def _write(self, cursor: Cursor | None, told: set[str]) -> None:
        if not self._stores:
            return
        fields = {"version": VERSION, "cursor": cursor.to_json() if cursor else None, "told": sorted(told)}
        if await self._read() != self._kept:
            raise MovedError
        for store in self._stores:
            await store.aset(self._key, fields)
        self._kept = fields


def _stores(accessors: Any) -> list[Any]:
    """The store of each watched asset, in the order of their names.

    Airflow keeps one trigger for equal watchers of several assets and sends its events to all; its accessors name one
    store only where there is but one asset. The mark is kept in all, so that it stays when an asset goes.
    """
    if accessors is None:
        return []
    named: dict[str, Any] = getattr(accessors, "_by_name", {})
    return [named[name] for name in sorted(named)] or [accessors]
