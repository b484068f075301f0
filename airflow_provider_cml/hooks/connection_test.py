"""What the Test button says: one harmless request, and words for each way it can go.

The law: nothing is started or changed, and the answer comes before Airflow gives up: 8 s to connect, 8 s to answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.endpoint import ApiVersion
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlNotFoundError,
    CmlProtocolError,
    CmlRefusedError,
    CmlUnauthorizedError,
)
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.transports import Transport
from airflow_provider_cml.api.wire import Request, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Exchange

SECONDS = 8.0


def test_connection(read_endpoint: Callable[[], Endpoint]) -> tuple[bool, str]:
    """Whether the workspace answers and takes the key, and otherwise what is wrong."""
    try:
        endpoint = replace(read_endpoint(), connect_timeout=SECONDS, read_timeout=SECONDS)
    except CmlError as error:
        return False, str(error)
    transport = Transport(endpoint)
    try:
        check = _check_v1 if endpoint.api_version is ApiVersion.V1 else _check_v2
        return transport.perform(check())
    except CmlError as error:
        return False, str(error)
    finally:
        transport.close()


def _check_v2() -> Exchange[tuple[bool, str]]:
    try:
        owner = yield from v2.validate_api_key()
    except CmlUnauthorizedError as error:
        return False, str(error)
    except (CmlNotFoundError, CmlProtocolError):
        # Workspaces of before 2025 or so have no validate_key; any list proves the key as well (seen on live ones).
        page = yield from _first_project()
        return True, f"Connected to API v2: the key is good ({page} of its projects on the first page)."
    if not owner.valid:
        return False, f"CML says that the key is not valid for API v2: {owner.message or 'no reason given'}."
    return True, f"Connected to API v2 as {owner.username}."


def _first_project() -> Exchange[int]:
    request = Request(
        "GET", f"{v2.API}/projects", Scheme.BEARER, query=(("page_size", "1"),), patience=0, read_timeout=SECONDS
    )
    try:
        found = yield from answered(request, v2.read_project_count)
    except CmlNotFoundError as error:
        message = (
            "The workspace answers, but has no API v2: it is older than v2, or Host is not the workspace's own. "
            "With a legacy API key, set API version to v1."
        )
        raise CmlError(message) from error
    return found


def _check_v1() -> Exchange[tuple[bool, str]]:
    """API v1 documents one call only, the start of a job, so what is known is less; the message says how much.

    `GET /api/v1/projects` is not documented. Without a key it answers 401 (seen on a live workspace), so a 401 is taken
    for a wrong key, and any other answer of CML for a workspace that is there.
    """
    request = Request("GET", "/api/v1/projects", Scheme.BASIC, patience=0, read_timeout=SECONDS)
    try:
        yield from answered(request, lambda _request, _response: None)
    except CmlUnauthorizedError as error:
        return False, str(error)
    except CmlRefusedError:
        pass
    return True, (
        "The workspace answers. API v1 documents no call that proves a key without starting a job, "
        "so a wrong key may show only at the first start."
    )
