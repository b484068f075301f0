"""Answers that many wait for: who asks the same at the same time is told together, and asks once.

The law: an answer is shared only among users of one transport, which has one credential, and only while each of them
would take one that old (`Request.max_age`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.transports import AsyncTransport, to_the_beat

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
            try:
                return await asyncio.shield(known.answer)
            except asyncio.CancelledError:
                if not known.answer.cancelled():
                    raise  # it is this user who is cancelled, not the one who asked

    async def _ask(self, request: Request, key: _Key, now: float) -> Response:
        self._sweep(now)
        former = self._answers.get(key)
        mine = self._answers[key] = _Shareable(now, now + request.max_age)
        try:
            response = await super()._send(request)
        except CmlError as error:
            mine.answer.set_exception(error)
            mine.answer.exception()  # nobody else may be waiting for it
            self._forget(key, mine)
            raise
        except BaseException:
            mine.answer.cancel()
            self._forget(key, mine)
            raise
        mine.answer.set_result(response)
        sleepers = self._sleepers.get(key)
        if sleepers and (former is None or former.body != response.body):
            for sleeper in sleepers:
                _wake(sleeper)
        return response

    async def _sleep(self, seconds: float, asked: Request | None) -> None:
        if asked is None or asked.max_age <= 0.0:
            return await super()._sleep(seconds, asked)
        key = _key(asked)
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        alarm = loop.call_later(to_the_beat(seconds, loop), _wake, woken)
        sleepers = self._sleepers.setdefault(key, set())
        sleepers.add(woken)
        try:
            await woken
        finally:
            alarm.cancel()
            sleepers.discard(woken)
            if not sleepers:
                self._sleepers.pop(key, None)
        return None

    def _forget(self, key: _Key, answer: _Shareable) -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]

    def _sweep(self, now: float) -> None:
        """Once in a while, drop what nobody may use any more: a timer for each answer costs more."""
        if now - self._swept_at > SWEEP_GAP:
            self._swept_at = now
            self._answers = {
                key: known for key, known in self._answers.items() if known.good_until >= now or not known.answer.done()
            }


class _Shareable:
    """An answer, or the expectation of one."""

    __slots__ = ("answer", "good_until", "sent_at")

    def __init__(self, sent_at: float, good_until: float) -> None:
        self.sent_at = sent_at
        self.good_until = good_until
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    @property
    def body(self) -> bytes | None:
        """What was answered; None where nothing is known."""
        answer = self.answer
        return answer.result().body if answer.done() and not answer.cancelled() and not answer.exception() else None


def _key(request: Request) -> _Key:
    return (request.method, request.path, request.query)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
