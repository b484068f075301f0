"""What the Test button says: a harmless request or two, and words for each way it can go.

The law: nothing is started or changed; green is said only of what was seen; and the answer comes before Airflow gives
up: 8 s to connect, 8 s to answer, no repetition.
"""

from __future__ import annotations

import json
import re
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
    not_json,
)
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.transports import Transport
from airflow_provider_cml.api.wire import Request, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.wire import Exchange, Response
    from airflow_provider_cml.connection import Configuration

SECONDS = 8.0

_NOT_THERE = {404, 405, 501}
_LEGACY_KEY = re.compile(r"[0-9a-z]{32}")
"""As Cloudera's pages show one. Only for a hint after a 401: no key is refused for its looks."""
_API_KEY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}")
"""As public clients of v2 show one."""


def test_connection(configure: Callable[[], Configuration]) -> tuple[bool, str]:
    """Whether the workspace answers and takes the key, and otherwise what is wrong."""
    try:
        configuration = configure()
    except CmlError as error:
        return False, str(error)
    endpoint = replace(configuration.endpoint, connect_timeout=SECONDS, read_timeout=SECONDS)
    check = _check_v1 if endpoint.api_version is ApiVersion.V1 else _check_v2
    transport = Transport(endpoint)
    try:
        verdict, words = True, transport.perform(check())
    except CmlUnauthorizedError as error:
        verdict, words = False, f"{_hint(endpoint, error)}{error}"
    except CmlError as error:
        verdict, words = False, str(error)
    finally:
        transport.close()
    return verdict, " ".join([words, *configuration.warnings])


def _check_v2() -> Exchange[str]:
    try:
        owner = yield from v2.validate_api_key()
    except CmlRefusedError as error:
        if error.status not in _NOT_THERE:
            raise
    except CmlProtocolError:
        pass
    else:
        if not owner.valid:
            message = (
                f"CML says that the key is not valid for API v2: {owner.message or 'no reason given'}. "
                f"Make a new key in CML under User Settings > API Keys."
            )
            raise CmlError(message)
        return f"Connected to API v2 as {owner.username}."
    # Workspaces of before 2025 or so have no validate_key; any list proves the key as well (seen on live ones).
    number = yield from _first_project()
    return f"Connected to API v2: the key is good ({number} of its projects on the first page)."


def _first_project() -> Exchange[int]:
    request = Request("GET", f"{v2.API}/projects", Scheme.BEARER, query=(("page_size", "1"),), patience=0)
    try:
        return (yield from answered(request, v2.read_project_count))
    except CmlNotFoundError as error:
        message = (
            "Something answers, but has no API v2: the workspace is older than v2, or Host is not the workspace's own. "
            "With a legacy API key, set API version to v1."
        )
        raise CmlError(message) from error


def _check_v1() -> Exchange[str]:
    """API v1 documents one call only, the start of a job, so what is known is less; the message says how much.

    `GET /api/v1/projects` is not documented. Without a key it answers 401 (seen on a live workspace), so JSON is taken
    for a key that is good, a 401 for a wrong one, and anything else for an address that may not be a workspace's.
    """
    request = Request("GET", "/api/v1/projects", Scheme.BASIC, patience=0)
    try:
        yield from answered(request, _read_json)
    except CmlUnauthorizedError:
        raise
    except CmlRefusedError as error:
        message = (
            f"Something answers, but the key could not be tried: API v1 documents no call but the start of a job, and "
            f"the one that workspaces are known to answer was refused with {error.status} ({request.path}). "
            f"Check Host; if it is the workspace's, the first start of a job shows whether the key is good."
        )
        raise CmlError(message) from error
    return (
        "API v1 answers, and took the key. It documents no call but the start of a job, so this was tried with one "
        "that is not documented; whether the key may start a job shows only at the first start."
    )


def _read_json(request: Request, response: Response) -> None:
    try:
        json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise not_json(request, response, "not readable as JSON") from error


def _hint(endpoint: Endpoint, error: CmlUnauthorizedError) -> str:
    """What the key itself, or CML's words, tell beyond a 401."""
    if endpoint.api_version is ApiVersion.V2 and _LEGACY_KEY.fullmatch(endpoint.key):
        return "The key looks like a legacy API key: make an API key for API v2, or set API version to v1. "
    if endpoint.api_version is ApiVersion.V1 and _API_KEY.fullmatch(endpoint.key):
        return "The key looks like an API key of API v2: set API version to v2. "
    said = error.said.casefold()
    if "expired" in said and "invalid" not in said:
        return "The key has expired: make a new one. "
    return "CML does not take the key. "
