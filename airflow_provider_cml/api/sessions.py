"""The sessions of both HTTP libraries, made for an endpoint: what every request carries, and by which way it goes.

The law: all that is the same for every request of an endpoint is settled here, once. Redirects are never followed,
nothing is taken from the environment but by the rules of `network`, and neither library loads before it is needed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_cml.api.network import ca_file, check_files, ssl_context

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import requests

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Scheme

USER_AGENT = "airflow-provider-cml"


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
        # One timer for the whole: another for each read (`sock_read`) costs a tenth of a poll, and bounds no more.
        timeout=async_timeout(endpoint, endpoint.read_timeout),
        trust_env=False,
    )


def async_timeout(endpoint: Endpoint, read_timeout: float) -> aiohttp.ClientTimeout:
    """How long a request may take: to connect, and in all."""
    import aiohttp  # noqa: PLC0415 - see `_load`

    connect_timeout = min(endpoint.connect_timeout, read_timeout)
    return aiohttp.ClientTimeout(total=connect_timeout + read_timeout, sock_connect=connect_timeout)


def _load(endpoint: Endpoint) -> ssl.SSLContext:
    import aiohttp  # noqa: F401, PLC0415 - for whoever imports it next; not at DAG parse time

    return ssl_context(endpoint.tls)
