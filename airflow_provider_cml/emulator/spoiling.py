"""What a fault makes of an answer.

Law: the fault and the right answer in, what goes over the wire out. Whether the effect took place before is
the server's business, by `BEFORE_EFFECT`.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.calls import HTTP_OF_CODE, Answer, error_document
from airflow_provider_cml.emulator.faults import Kind

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.faults import Fault


class Api(Enum):
    """Which key opens a path, and how its errors look."""

    V1 = "v1"
    V2 = "v2"
    CONTROL = "control"


BEFORE_EFFECT = frozenset(
    {
        Kind.DROP_BEFORE,
        Kind.LATE_EFFECT,
        Kind.TOO_MANY_REQUESTS,
        Kind.ERROR_BEFORE,
        Kind.HTML,
        Kind.REFUSED,
        Kind.OUT_OF_QUOTA,
    }
)

#: The errors that are answered instead: status, unless the fault says another, and text.
_INSTEAD = {
    Kind.LATE_EFFECT: (HTTPStatus.GATEWAY_TIMEOUT, "gateway timeout"),
    Kind.TOO_MANY_REQUESTS: (HTTPStatus.TOO_MANY_REQUESTS, "too many requests"),
    Kind.ERROR_BEFORE: (HTTPStatus.SERVICE_UNAVAILABLE, "service unavailable"),
    Kind.ERROR_AFTER: (HTTPStatus.SERVICE_UNAVAILABLE, "service unavailable"),
    Kind.REFUSED: (HTTPStatus.UNAUTHORIZED, "API key is invalid or expired"),
    # The words of a comment in one public client (ONE).
    Kind.OUT_OF_QUOTA: (HTTPStatus.CONFLICT, "out of quota: CPU request limit reached"),
}

#: gRPC codes of statuses that are given without one.
_CODE_OF_HTTP = {status: code for code, status in HTTP_OF_CODE.items()} | {
    400: 3,
    409: 10,
    412: 9,
    500: 13,
    502: 14,
}

# INFER from one client's report that some gateways answer with a login page.
PAGE = """\
<!DOCTYPE html>
<html><head><title>Sign in</title></head><body><h1>Cloudera Machine Learning</h1><form></form></body></html>
"""


def error_answer(api: Api, status: int, message: str, code: int | None = None) -> Answer:
    """An error as the API in question words it."""
    if api is Api.V1:
        return Answer({"message": message}, status, content_type="application/json; charset=utf-8")
    return Answer(error_document(_CODE_OF_HTTP.get(status, 2) if code is None else code, message), status)


def retry_after(fault: Fault) -> dict[str, str]:
    """The Retry-After header of a fault: seconds, a date, junk, or none at all."""
    value = fault.retry_after
    if value is None:
        return {}
    if isinstance(value, str) and (ahead := re.fullmatch(r"date\+(\d+)", value)):
        value = formatdate(time.time() + int(ahead[1]), usegmt=True)
    return {"Retry-After": str(value)}


def spoilt(fault: Fault, api: Api, address: str, right: Answer) -> Answer | None:
    """What is sent instead of the right answer, which is empty when nothing took effect. None: nothing is."""
    match fault.kind:
        case Kind.DROP_BEFORE | Kind.DROP_AFTER:
            return None
        case Kind.LATE_EFFECT if fault.status is None:
            return None
        case Kind.HTML:
            status = HTTPStatus(fault.status or HTTPStatus.OK)
            headers = {"Location": f"{address}/login"} if status == HTTPStatus.FOUND else {}
            return Answer(None, status, headers, "text/html; charset=utf-8", PAGE)
        case Kind.BROKEN_JSON:
            text = right.body()
            return replace(right, text=text[: len(text) // 2])
        case Kind.WRONG_CONTENT_TYPE:
            return replace(right, content_type="text/plain; charset=utf-8")
    if fault.kind in _INSTEAD:
        status, message = _INSTEAD[fault.kind]
        right = replace(error_answer(api, fault.status or status, message), headers=retry_after(fault))
    return right
