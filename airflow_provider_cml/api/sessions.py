"""The sessions of both HTTP libraries, made for an endpoint: what every request carries, and by which way it goes.

The law: all that is the same for every request of an endpoint is settled here, once. Redirects are never followed,
nothing is taken from the environment but by the rules of `network`, and neither library loads before it is needed.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_cml.api.network import ca_file, check_files, ssl_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import aiohttp
    import requests
    import yarl

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Scheme

USER_AGENT = "airflow-provider-cml"
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


async def open_async_session(endpoint: Endpoint, scheme: Scheme, connections: int) -> aiohttp.ClientSession:
    """A session of aiohttp with at most so many connections, for the running event loop.

    :raises CmlInputError: as `open_session`, and `headers`.
    """
    carried = headers(endpoint, scheme)
    # Loading the library and reading a bundle of authorities take up to half a second: not on the loop.
    context = await asyncio.to_thread(_load, endpoint)
    import aiohttp  # noqa: PLC0415 - see `_load`

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context, ttl_dns_cache=60),
        headers=carried,
        cookie_jar=aiohttp.DummyCookieJar(),
        # What a request may take in all is bounded by `alarm.Limits`.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=endpoint.connect_timeout),
        trust_env=False,
    )


def async_failures() -> tuple[type[Exception], ...]:
    """What a request on such a session may raise."""
    import aiohttp  # noqa: PLC0415 - see `_load`

    return (aiohttp.ClientError, OSError, UnicodeError, TimeoutError)


def addresses(endpoint: Endpoint) -> Callable[[str], yarl.URL]:
    """From paths, which are encoded already, to aiohttp's own addresses; those of late are remembered."""
    import yarl  # noqa: PLC0415 - see `_load`

    return lru_cache(ADDRESSES)(lambda path: yarl.URL(endpoint.base_url + path, encoded=True))


def _load(endpoint: Endpoint) -> ssl.SSLContext:
    import aiohttp  # noqa: F401, PLC0415 - for whoever imports it next; not at DAG parse time

    return ssl_context(endpoint.tls)
