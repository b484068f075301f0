"""Answers that many wait for: who asks the same at the same time is told together, and asks once.

The law: an answer is shared only among users of one transport, which has one credential, and only while each of them
would take one that old (`Request.max_age`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_cml.api.alarm import wake
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.transports import AsyncTransport

if TYPE_CHECKING:
    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Request, Response

SWEEP_GAP = 60.0
"""Seconds between two looks for answers that nobody may use any more."""

_Key: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]


class SharingTransport(AsyncTransport):
    """A pool of connections whose users share answers: equal requests within `Request.max_age` are one.

    Who sleeps after such a request is woken when somebody else's answer to it brings news.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._answers: dict[_Key, _Shareable] = {}
        self._sleepers: dict[_Key, set[asyncio.Future[None]]] = {}
        self._swept_at = 0.0

    async def _send(self, request: Request) -> Response:
        if request.max_age <= 0.0:
            return await super()._send(request)
        key = _key(request)
        while True:
            known = self._answers.get(key)
            now = asyncio.get_running_loop().time()
            if known is None or now - known.sent_at > request.max_age:
                return await self._ask(request, key, now)
            if known.response is not None:
                return known.response
            cancelled = _cancellations()
            try:
                return await asyncio.shield(known.expected())
            except asyncio.CancelledError:
                # The one who asked is cancelled, so somebody else asks; unless it is this user, too or alone.
                if _cancellations() > cancelled or not known.expected().cancelled():
                    raise

    async def _ask(self, request: Request, key: _Key, now: float) -> Response:
        self._sweep(now)
        former = self._answers.get(key)
        mine = self._answers[key] = _Shareable(now, now + request.max_age)
        try:
            response = await super()._send(request)
        except BaseException as error:
            mine.fail(error)
            if self._answers.get(key) is mine:
                del self._answers[key]
            raise
        mine.come(response)
        sleepers = self._sleepers.get(key)
        if sleepers and (former is None or former.response is None or former.response.body != response.body):
            for sleeper in sleepers:
                wake(sleeper)
        return response

    async def _sleep(self, seconds: float, asked: Request | None) -> None:
        if asked is None or asked.max_age <= 0.0:
            return await super()._sleep(seconds, asked)
        key = _key(asked)
        woken = self.alarm.after(seconds)
        sleepers = self._sleepers.get(key)
        if sleepers is None:
            sleepers = self._sleepers[key] = set()
        sleepers.add(woken)
        try:
            await woken
        finally:
            sleepers.discard(woken)
            if not sleepers and self._sleepers.get(key) is sleepers:
                del self._sleepers[key]
        return None

    def _sweep(self, now: float) -> None:
        """Once in a while, drop what nobody may use any more: a timer for each answer costs more."""
        if now - self._swept_at > SWEEP_GAP:
            self._swept_at = now
            self._answers = {
                key: known for key, known in self._answers.items() if known.good_until >= now or known.response is None
            }


class _Shareable:
    """An answer, or the expectation of one."""

    __slots__ = ("_expected", "good_until", "response", "sent_at")

    def __init__(self, sent_at: float, good_until: float) -> None:
        self.sent_at = sent_at
        self.good_until = good_until
        self.response: Response | None = None
        self._expected: asyncio.Future[Response] | None = None

    def expected(self) -> asyncio.Future[Response]:
        """For whoever waits for it; mostly nobody does."""
        if self._expected is None:
            self._expected = asyncio.get_running_loop().create_future()
        return self._expected

    def come(self, response: Response) -> None:
        """It is there."""
        self.response = response
        if self._expected is not None:
            self._expected.set_result(response)

    def fail(self, error: BaseException) -> None:
        """It will not come: CML could not be asked, or the one who asked is gone."""
        if self._expected is None:
            return
        if isinstance(error, CmlError):
            self._expected.set_exception(error)
            self._expected.exception()  # they may have gone meanwhile
        else:
            self._expected.cancel()


def _cancellations() -> int:
    """How often the current task has been asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _key(request: Request) -> _Key:
    return (request.method, request.path, request.query)
