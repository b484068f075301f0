"""What all triggers of one event loop share: connections as last read, pools, and lines before busy jobs.

The law: shared is only what one and the same credential may see (`Endpoint.identity`), and what nobody uses any more
is closed. Everything lives in one event loop; a triggerer has one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import DEEPEST, Listing, read_list
from airflow_provider_cml.api.conversations.line import Line
from airflow_provider_cml.api.conversations.starting import BUSY_GAP
from airflow_provider_cml.api.conversations.waiting import AGE_SHARE, POLL_PATIENCE
from airflow_provider_cml.api.errors import CmlInputError, CmlUnauthorizedError, CmlWaitTimeoutError
from airflow_provider_cml.api.transports import AsyncTransport
from airflow_provider_cml.hooks.cml import CmlHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.conversations.line import Place
    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.transports import Tell
    from airflow_provider_cml.api.wire import Exchange

T = TypeVar("T")

CONNECTION_AGE = 60.0
"""Seconds a connection is believed before it is read again."""
NEWEST = 25
"""Entries of a job's history one look of a line reads: the active run is the newest but for a few refusals."""


async def perform(conn_id: str, exchange: Callable[[], Exchange[T]], tell: Tell) -> T:
    """Run a conversation on the shared pool of a connection; anew whenever a 401 shows that its key was changed."""

    async def converse(endpoint: Endpoint) -> T:
        async with _shared().transport(endpoint) as transport:
            return await transport.perform(exchange(), tell)

    return await _whatever_the_key(conn_id, converse)


async def _whatever_the_key(conn_id: str, act: Callable[[Endpoint], Awaitable[T]]) -> T:
    """`act` where the connection points; again as long as each 401 finds a key in it that CML has not refused yet."""
    shared = _shared()
    endpoint = await shared.endpoint(conn_id)
    refused = set()
    while True:
        try:
            return await act(endpoint)
        except CmlUnauthorizedError:
            refused.add(endpoint.identity)
            endpoint = await shared.endpoint(conn_id, refused=endpoint)
            if endpoint.identity in refused:
                raise


class Stay:
    """A place in the shared pool of a connection between conversations: a pool that nobody uses is closed.

    :param conn_id: the Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._identity: object = None
        self._place = AsyncExitStack()

    async def renew(self) -> Endpoint:
        """Where the connection points now; the place is in the pool of that endpoint."""
        shared = _shared()
        endpoint = await shared.endpoint(self._conn_id)
        if endpoint.identity != self._identity:
            await self.leave()
            await self._place.enter_async_context(shared.transport(endpoint))
            self._identity = endpoint.identity
        return endpoint

    async def leave(self) -> None:
        """Make the place free."""
        self._identity = None
        await self._place.aclose()


async def stand_in_line(
    conn_id: str, ids: JobIds, place: Place, poll_interval: float, patience: float | None, tell: Tell
) -> None:
    """Wait until it is this task's turn at a busy job.

    :raises CmlWaitTimeoutError: `patience` seconds are over; carries the run that occupies the job.
    :raises CmlError: CML could not be asked, or refused.
    """
    deadline = None if patience is None else asyncio.get_running_loop().time() + patience

    async def stand(endpoint: Endpoint) -> None:
        await _shared().queue(endpoint, ids).wait(place, poll_interval, deadline, tell)

    await _whatever_the_key(conn_id, stand)


class _Shared:
    """The common property of one event loop."""

    def __init__(self) -> None:
        self._queues: dict[tuple[object, JobIds], _Queue] = {}
        self._connections: dict[str, _Connection] = {}
        self._transports: dict[object, AsyncTransport] = {}
        self._users: dict[object, int] = {}

    async def endpoint(self, conn_id: str, *, refused: Endpoint | None = None) -> Endpoint:
        """Where a connection points; looked up once for all triggers that ask within `CONNECTION_AGE`.

        :param refused: what CML has answered with a 401: looked up at once, unless somebody has seen a change already.
        """
        connection = self._connections.get(conn_id)
        if connection is None:
            connection = self._connections[conn_id] = _Connection(conn_id)
        return await connection.endpoint(refused)

    @asynccontextmanager
    async def transport(self, endpoint: Endpoint) -> AsyncIterator[AsyncTransport]:
        """The one pool of connections for this endpoint; closed when its last user leaves."""
        key = endpoint.identity
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = AsyncTransport(endpoint)
        self._users[key] = self._users.get(key, 0) + 1
        try:
            yield transport
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._transports[key]
                await transport.close()

    def queue(self, endpoint: Endpoint, ids: JobIds) -> _Queue:
        """The one line before a job."""
        key = (endpoint.identity, ids)
        if key not in self._queues:
            self._queues[key] = _Queue(self, endpoint, ids, lambda: self._queues.pop(key, None))
        return self._queues[key]


class _Connection:
    """A connection as last read; one look-up serves all who ask before it has come to its end, however it ends."""

    def __init__(self, conn_id: str) -> None:
        self._hook = CmlHook(conn_id)
        self._reading = asyncio.Lock()
        self._known: Endpoint | None = None
        self._read_at = self._good_until = 0.0
        self._failure: Exception | None = None
        self._failed_at = 0.0

    async def endpoint(self, refused: Endpoint | None) -> Endpoint:
        """As `_Shared.endpoint`."""
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        async with self._reading:
            known = self._known
            is_refused = known is not None and refused is not None and known.identity == refused.identity
            if known is not None and (self._read_at > asked_at or (not is_refused and self._good_until > asked_at)):
                return known
            if self._failure is not None and self._failed_at > asked_at:
                raise self._failure.with_traceback(None)
            try:
                self._known = known = await self._read(known)
            except Exception as error:
                said, self._failure, self._failed_at = self._failure, error, clock()
                # Airflow has no other word for a secrets backend that is away than for a connection that is gone.
                if known is None or is_refused or isinstance(error, CmlInputError):
                    raise
                if said is None:
                    what = f"{type(error).__name__}: {error}"
                    text = "Connection %s cannot be looked up, so what it said before is used. %s"
                    self._hook.log.warning(text, self._hook.cml_conn_id, what)
            else:
                self._failure, self._read_at = None, clock()
            self._good_until = clock() + CONNECTION_AGE
            return known

    async def _read(self, known: Endpoint | None) -> Endpoint:
        """Look it up. Its warnings are said at the first time, and again where it has changed: not each minute."""
        endpoint = await self._hook.aread_endpoint(warn=known is None)
        if known is not None and endpoint.identity != known.identity:
            endpoint = await self._hook.aread_endpoint()
        return endpoint


class _Queue:
    """The tasks of this event loop that wait for one job, and the one look in each gap that serves them all."""

    def __init__(self, shared: _Shared, endpoint: Endpoint, ids: JobIds, close: Callable[[], object]) -> None:
        self._shared = shared
        self._endpoint = endpoint
        self._ids = ids
        self._close = close
        self._line = Line()
        self._turns: dict[Place, asyncio.Future[None]] = {}
        self._gaps: dict[Place, float] = {}
        self._occupant: JobRun | None = None
        self._occupied_since = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._waits = itertools.count(1)

    async def wait(self, place: Place, poll_interval: float, deadline: float | None, tell: Tell) -> None:
        """Stand in line until let go, or until this moment of the loop's clock."""
        place = replace(place, wait=next(self._waits))
        turn = self._turns[place] = asyncio.get_running_loop().create_future()
        self._gaps[place] = poll_interval
        self._line.enter(place)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(tell))
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except TimeoutError:
            who = f"run {self._occupant.id} is {self._occupant.status}" if self._occupant else "CML takes no start"
            message = f"The job was busy for all of the time given to wait for it: {who}."
            raise CmlWaitTimeoutError(message, self._occupant) from None
        finally:
            self._line.leave(place)
            del self._turns[place], self._gaps[place]
            if not self._turns:
                self._looking.cancel()
                self._close()

    async def _look(self, tell: Tell) -> None:
        try:
            async with self._shared.transport(self._endpoint) as transport:
                while True:
                    await asyncio.sleep(self._gap())
                    listing = await transport.perform(self._list_newest(), tell)
                    self._see(listing.items)
                    place = self._line.let_go(listing.items, asyncio.get_running_loop().time())
                    if place is not None and not self._turns[place].done():
                        self._turns[place].set_result(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody must wait for a look that never comes
            for turn in self._turns.values():
                if not turn.done():
                    turn.set_exception(error)

    def _list_newest(self) -> Exchange[Listing[JobRun]]:
        """The newest runs, down to one that was executed at least: an active one is the newest of those."""
        return read_list(
            lambda token, size: v2.list_job_runs(
                self._ids.project_id, self._ids.job_id, page_size=size, page_token=token, patience=POLL_PATIENCE
            ),
            lambda runs: len(runs) >= DEEPEST or any(run.status.is_executed for run in runs),
            NEWEST,
        )

    def _see(self, runs: list[JobRun]) -> None:
        active = next((run for run in runs if run.is_active), None)
        if active is not None and (self._occupant is None or active.id != self._occupant.id):
            self._occupied_since = asyncio.get_running_loop().time()
        self._occupant = active

    def _gap(self) -> float:
        """A tenth of the occupying run's age, as far as it was watched: 5 s at least, the shortest wish at most."""
        age = asyncio.get_running_loop().time() - self._occupied_since if self._occupant else 0.0
        longest = max(min(self._gaps.values(), default=BUSY_GAP), 1.0)
        return min(max(age * AGE_SHARE, BUSY_GAP), longest) * random.uniform(0.8, 1.0)  # noqa: S311 - jitter


_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def _shared() -> _Shared:
    return _LOOPS.setdefault(asyncio.get_running_loop(), _Shared())
