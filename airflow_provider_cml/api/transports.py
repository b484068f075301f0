"""The only I/O: two drivers of the same conversations, requests with `time.sleep`, aiohttp with `asyncio.sleep`.

The law: a driver knows nothing of CML. It adds credential and address, sends, waits, tells the time, hands on notes,
and throws what failed into the conversation as a `CmlConnectionError` that says whether the request can have left.
Both check certificates, choose proxies and name failures by the same rules (`network`). Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from airflow_provider_cml.api.alarm import Alarm, Limits
from airflow_provider_cml.api.errors import CmlError, CmlInterruptedError, CmlResponseTooLargeError
from airflow_provider_cml.api.network import connection_error, proxy_url
from airflow_provider_cml.api.sessions import as_it_comes, async_failures, headers, open_async_session, open_session
from airflow_provider_cml.api.wire import Now, Pause, Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import aiohttp
    import requests

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.errors import CmlConnectionError
    from airflow_provider_cml.api.sessions import AsyncSession
    from airflow_provider_cml.api.wire import Answer, Exchange, Note

T = TypeVar("T")

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of an answer that are read. A page of 100 runs with long environments is far below."""
CONNECTIONS = 20
"""Connections one asynchronous transport keeps to its workspace at most."""
KEY_LENGTH = 16
"""Characters from which on a secret cannot be part of anything else by chance. Keys of CML have 32 and more."""

_UNAUTHORIZED = 401
_SLICE = 0.5
"""Seconds after which an interrupted sleep ends at the latest."""
_INTERRUPTED = "The task was told to end while it was waiting."

Tell: TypeAlias = "Callable[[Note], None]"
"""Who hears the notes of a conversation."""


class Transport:
    """Runs conversations on requests, in the thread that calls. Not for an event loop."""

    def __init__(self, endpoint: Endpoint, renew: Callable[[], Endpoint] | None = None) -> None:
        """Set out for `endpoint`; `renew` gives it anew after a 401, in case the key was changed meanwhile."""
        self.endpoint = endpoint
        self._renew = renew
        self._reached = False
        self._interrupted = False
        self._session: requests.Session | None = None

    def perform(self, exchange: Exchange[T], tell: Tell | None = None) -> T:
        """Run a conversation to its end and return its value, or raise its error. Its notes go to `tell`."""
        try:
            wish = next(exchange)
            while True:
                # A note is heard to the end: it may be the last word of a conversation that has its value already.
                if self._interrupted and isinstance(wish, Request | Pause):
                    raise CmlInterruptedError(_INTERRUPTED)
                if isinstance(wish, Request):
                    try:
                        answer: Answer = self._send(wish)
                    except CmlError as error:
                        wish = exchange.throw(error)
                        continue
                elif isinstance(wish, Pause):
                    self._sleep(wish.seconds)
                    answer = None
                else:
                    answer = _at_once(wish, tell)
                wish = exchange.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # the exchange's own T

    def interrupt(self) -> None:
        """End the conversation: a pause at once, a request after its answer. For a signal handler."""
        self._interrupted = True

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _sleep(self, seconds: float) -> None:
        # In slices: a sleep goes on after a signal's handler, and an Event's own lock would deadlock inside one.
        end = time.monotonic() + seconds
        while not self._interrupted and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    def _send(self, request: Request) -> Response:
        asked = self.endpoint
        response = self._send_once(request)
        if response.status == _UNAUTHORIZED and self._renew is not None:
            endpoint = self._renew()
            # Not with `self.endpoint`: another thread may have renewed that meanwhile.
            if endpoint.identity != asked.identity:
                self.close()
                self.endpoint = endpoint
                return self._send_once(request)
        return response

    def _send_once(self, request: Request) -> Response:
        import requests  # noqa: PLC0415 - half a second at DAG parse time otherwise
        import urllib3  # noqa: PLC0415 - as requests, which it comes with

        carried = headers(self.endpoint, request.scheme)
        session = self._session = self._session or open_session(self.endpoint)
        read_timeout = request.read_timeout or self.endpoint.read_timeout
        proxy = proxy_url(self.endpoint)
        try:
            with session.request(
                request.method,
                self.endpoint.base_url + request.path,
                params=request.query,
                json=request.json,
                headers=carried,
                allow_redirects=False,
                stream=True,
                timeout=(min(self.endpoint.connect_timeout, read_timeout), read_timeout),
                proxies={"http": proxy, "https": proxy} if proxy else None,
            ) as answer:
                body = bytearray()
                for chunk in as_it_comes(answer):
                    body += chunk
                    _check_size(body, request)
                self._reached = True
                return _response(self.endpoint, answer.status_code, answer.headers.items(), bytes(body))
        # A chunk's size may be a number beyond all bounds, which http.client hands to the socket.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError, OverflowError) as error:
            failure = self._failure(request, error)
        # Not above: raised there it would carry the library's error, whose text may hold a proxy's password.
        raise failure

    def _failure(self, request: Request, error: Exception) -> CmlConnectionError:
        found = connection_error(self.endpoint, request, error)
        # Where somebody has answered, or at least listened, the address is no mistake: it is CML that is away.
        found.unreachable = found.unreachable and not self._reached
        self._reached = self._reached or found.sent
        return found


class AsyncTransport:
    """Runs conversations on aiohttp, in the event loop it was made in."""

    def __init__(
        self,
        endpoint: Endpoint,
        renew: Callable[[], Awaitable[Endpoint]] | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        """Set out for `endpoint`; `renew` gives it anew after a 401, in case the key was changed meanwhile."""
        self.endpoint = endpoint
        self._renew = renew
        self._connections = connections
        self._session: AsyncSession | None = None
        self._opening = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._alarm = Alarm()
        self._limits = Limits()
        # Whoever waits for a free connection waits here, where it is not charged to the time CML takes to answer.
        self._free = asyncio.Semaphore(connections)

    async def perform(self, exchange: Exchange[T], tell: Tell | None = None) -> T:
        """Run a conversation to its end and return its value, or raise its error. Its notes go to `tell`."""
        try:
            wish = next(exchange)
            while True:
                if isinstance(wish, Request):
                    try:
                        answer: Answer = await self._send(wish)
                    except CmlError as error:
                        wish = exchange.throw(error)
                        continue
                elif isinstance(wish, Pause):
                    await self._alarm.after(wish.seconds)
                    answer = None
                else:
                    answer = _at_once(wish, tell)
                wish = exchange.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # the exchange's own T

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _send(self, request: Request) -> Response:
        asked = self.endpoint
        response = await self._send_once(request)
        if response.status == _UNAUTHORIZED and self._renew is not None and await self._has_changed(asked):
            return await self._send_once(request)
        return response

    async def _has_changed(self, asked: Endpoint) -> bool:
        """Whether the endpoint is another one than was `asked`. Read anew once, whoever else was refused with it."""
        async with self._renewing:
            if self.endpoint is asked and self._renew is not None:
                endpoint = await self._renew()
                if endpoint.identity == asked.identity:
                    return False
                former, self._session, self.endpoint = self._session, None, endpoint
                if former is not None:
                    await former.leave()
            return True

    async def _send_once(self, request: Request) -> Response:
        async with self._free:
            # Not before there is room: while others wait here, the key may be changed, and the session with it.
            session = self._session or await self._open(request)
            session.under_way += 1
            try:
                return await self._send_on(session, request)
            finally:
                session.under_way -= 1
                if session.is_left:
                    await session.leave()

    async def _send_on(self, session: AsyncSession, request: Request) -> Response:
        endpoint = session.endpoint
        options = session.options(request)
        read_timeout = request.read_timeout or endpoint.read_timeout
        try:
            async with asyncio.timeout(None) as limit:
                self._limits.begin(limit, min(endpoint.connect_timeout, read_timeout) + read_timeout)
                try:
                    url = session.address(request.path)
                    async with session.request(request.method, url, allow_redirects=False, **options) as answer:
                        if "Content-Encoding" in answer.headers or (answer.content_length or BODY_LIMIT) >= BODY_LIMIT:
                            body = await _read_to_the_limit(answer, request)
                        else:
                            body = await answer.read()
                        return _response(endpoint, answer.status, answer.headers.items(), body)
                finally:
                    self._limits.end(limit)
        except async_failures() as error:
            failure = connection_error(endpoint, request, error)
        raise failure  # not above, see `Transport`

    async def _open(self, request: Request) -> AsyncSession:
        async with self._opening:
            if self._session is None:
                self._session = await open_async_session(self.endpoint, request.scheme, self._connections)
            return self._session


async def _read_to_the_limit(answer: aiohttp.ClientResponse, request: Request) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        _check_size(body, request)
    return bytes(body)


def _at_once(wish: Now | Note, tell: Tell | None) -> float | None:
    if isinstance(wish, Now):
        return time.monotonic()
    if tell is not None:
        tell(wish)
    return None


def _response(endpoint: Endpoint, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
    # An error text may reach a log, and a careless gateway may quote the request in it: with any status. In an answer
    # that may be a document, a short password could be part of any word.
    for secret in endpoint.secrets:
        if status >= 300 or len(secret) >= KEY_LENGTH:
            body = body.replace(secret.encode(), b"***")
    return Response(status, {name.lower(): value for name, value in headers}, body)


def _check_size(body: bytearray, request: Request) -> None:
    if len(body) > BODY_LIMIT:
        message = (
            f"{request.method} {request.path}: the answer is larger than {BODY_LIMIT >> 20} MiB, more than is read."
        )
        raise CmlResponseTooLargeError(message)
