"""The sessions of both HTTP libraries, made for an endpoint: what every request carries, and by which way it goes.

The law: all that is the same for every request of an endpoint is settled here, once. Redirects are never followed,
nothing is taken from the environment but by the rules of `network`, and neither library loads before it is needed.
"""

from __future__ import annotations

import asyncio
import io
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.network import ca_file, check_files, proxy_url, ssl_context

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    import aiohttp
    import requests
    import yarl

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Request, Scheme

USER_AGENT = "airflow-provider-cml"
READ_TIMEOUTS = 2
"""Read timeouts that one answer may take on requests, from its first line to its end."""
ADDRESSES = 4096
"""Addresses a transport remembers: of so many runs none is taken apart twice."""


def headers(endpoint: Endpoint, scheme: Scheme) -> dict[str, str]:
    """What every request says of itself.

    :raises CmlInputError: the endpoint is for the other API, or its key cannot stand in a header.
    """
    return {
        "Authorization": endpoint.authorization(scheme),
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }


def open_session(endpoint: Endpoint) -> requests.Session:
    """A session of requests.

    :raises CmlInputError: a file the connection names does not hold what it should.
    """
    import requests  # noqa: PLC0415 - half a second at DAG parse time otherwise

    class Straight(requests.Session):
        """Knows no redirects: told not to follow one, requests still reads its address, and its whole body."""

        def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - requests names it
            return None

    session = Straight()
    adapter = _ending_adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.trust_env = False
    tls = endpoint.tls
    check_files(tls)
    session.verify = ca_file(tls) if tls.verify else False
    if tls.client_cert:
        session.cert = tls.client_cert
    if not tls.verify:
        import urllib3  # noqa: PLC0415 - as requests, which it comes with

        # Said once by the hook, in words; urllib3 would say it at every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return session


class _Ending(io.RawIOBase):
    """What comes in on a socket, up to a moment: requests bounds each read, so drop by drop an answer never ends.

    :param incoming: the socket's own file.
    """

    def __init__(self, incoming: io.RawIOBase, connection: socket.socket, end: float) -> None:
        self._incoming = incoming
        self._connection = connection
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        timeout = self._connection.gettimeout()
        left = self._end - time.monotonic()
        if timeout is None or left >= timeout:
            return self._incoming.readinto(buffer)
        if left <= 0:
            message = "the answer did not end"
            raise TimeoutError(message)
        self._connection.settimeout(left)
        try:
            return self._incoming.readinto(buffer)
        finally:
            self._connection.settimeout(timeout)

    def close(self) -> None:
        self._incoming.close()
        super().close()


def _ending_adapter() -> requests.adapters.HTTPAdapter:
    """Of requests' own, with answers that have an end: headers, the body, and whatever comes before them."""
    import http.client  # noqa: PLC0415 - as requests

    import requests  # noqa: PLC0415 - half a second at DAG parse time otherwise
    import urllib3  # noqa: PLC0415 - as requests, which it comes with

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            # urllib3 has set it to what a read may take, before it asks for the answer.
            timeout = sock.gettimeout()
            if timeout is not None:
                end = time.monotonic() + READ_TIMEOUTS * timeout
                self.fp = io.BufferedReader(_Ending(self.fp.detach(), sock, end))

    class Plain(urllib3.connection.HTTPConnection):
        response_class = Answer

    class Encrypted(urllib3.connection.HTTPSConnection):
        response_class = Answer

    class Adapter(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
            pool.ConnectionCls = Encrypted if pool.scheme == "https" else Plain
            return pool

    return Adapter()


def as_it_comes(answer: requests.Response) -> Iterator[bytes]:
    """The body, piece by piece as it arrives; `iter_content` waits until each piece is full, however slow the drip."""
    if not hasattr(answer.raw, "read1"):  # urllib3 before 2.2
        yield from answer.iter_content(1024)
        return
    while chunk := answer.raw.read1(65536, decode_content=True):
        yield chunk


class AsyncSession:
    """A session of aiohttp in the running event loop, and what is the same for all its requests.

    It may be left while requests are under way, when the key was changed: the last of them closes it.
    """

    def __init__(self, endpoint: Endpoint, scheme: Scheme, session: aiohttp.ClientSession) -> None:
        self.endpoint = endpoint
        self.request = session.request
        self.close = session.close
        self.address = _addresses(endpoint)
        self.under_way = 0
        self.is_left = False
        self._scheme = scheme
        # Once for all requests: looking through the environment takes half as long as a poll.
        self._proxy = proxy_url(endpoint)

    def options(self, request: Request) -> dict[str, Any]:
        """What this request needs beyond the session's own headers."""
        found: dict[str, Any] = {}
        if request.query:
            found["params"] = request.query
        if request.json is not None:
            found["json"] = request.json
        if self._proxy:
            found["proxy"] = self._proxy
        if request.scheme is not self._scheme:
            found["headers"] = headers(self.endpoint, request.scheme)
        return found

    async def leave(self) -> None:
        """Begin no more requests on it."""
        self.is_left = True
        if not self.under_way:
            await self.close()


async def open_async_session(endpoint: Endpoint, scheme: Scheme, connections: int) -> AsyncSession:
    """A session of aiohttp with at most so many connections, for the running event loop.

    :raises CmlInputError: as `open_session`, and `headers`.
    """
    carried = headers(endpoint, scheme)
    # Loading the library and reading a bundle of authorities take up to half a second: not on the loop.
    context = await asyncio.to_thread(_load, endpoint)
    import aiohttp  # noqa: PLC0415 - see `_load`

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context, ttl_dns_cache=60),
        headers=carried,
        cookie_jar=aiohttp.DummyCookieJar(),
        # What a request may take in all is bounded by `alarm.Limits`.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=endpoint.connect_timeout),
        trust_env=False,
    )
    return AsyncSession(endpoint, scheme, session)


def async_failures() -> tuple[type[Exception], ...]:
    """What a request on such a session may raise."""
    import aiohttp  # noqa: PLC0415 - see `_load`

    return (aiohttp.ClientError, OSError, ValueError)


def _addresses(endpoint: Endpoint) -> Callable[[str], yarl.URL]:
    """From paths, which are encoded already, to aiohttp's own addresses; those of late are remembered."""
    import aiohttp  # noqa: PLC0415 - see `_load`
    import yarl  # noqa: PLC0415 - see `_load`

    def address(path: str) -> yarl.URL:
        try:
            return yarl.URL(endpoint.base_url + path, encoded=True)
        except ValueError:
            raise aiohttp.InvalidURL(endpoint.base_url) from None

    return lru_cache(ADDRESSES)(address)


def _load(endpoint: Endpoint) -> ssl.SSLContext:
    import aiohttp  # noqa: F401, PLC0415 - for whoever imports it next; not at DAG parse time

    return ssl_context(endpoint.tls)
