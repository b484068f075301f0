"""One API call, without a server: what was asked, what is answered, what is refused.

Law: routes are functions from a Call to an Answer. They know nothing of sockets, so that an effect can take
place without an answer, before it, or long after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.faults import Fault, Kind
    from airflow_provider_cml.emulator.workspace import Workspace

Json: TypeAlias = dict[str, object]

#: gRPC codes and what grpc-gateway v1 makes of them (INFER from the library; 9 -> 400 is LIVE).
HTTP_OF_CODE = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 12: 501, 13: 500, 14: 503, 16: 401}

INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, UNAUTHENTICATED = 3, 5, 7, 9, 16


class RefusalError(Exception):
    """The call is answered with an error."""

    def __init__(self, code: int, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.status = HTTP_OF_CODE[code] if status is None else status


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, document (None: empty body), headers. A `text` is sent instead of the document, as it is."""

    document: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    text: str | None = None

    def body(self) -> str:
        """The body as it goes over the wire."""
        return json.dumps(self.document, separators=(",", ":")) if self.text is None else self.text


@dataclass(frozen=True, slots=True)
class Call:
    """One request that found its operation. Query and body names are snake_case here, whatever was sent."""

    workspace: Workspace
    operation: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = b""
    content_type: str = ""
    #: The standing faults that hold for this call.
    behaviours: Mapping[Kind, Fault] = field(default_factory=dict)
    #: Where the workspace is served, for links.
    address: str = ""

    def behaviour(self, kind: Kind) -> Fault | None:
        """The standing fault of this kind, if it holds for this call."""
        return self.behaviours.get(kind)

    def document(self) -> Json:
        """The body as an object; an empty one counts as {} (an old client sends none, and it works)."""
        if not self.body.strip():
            return {}
        try:
            document = json.loads(self.body)
        except ValueError as error:
            raise RefusalError(INVALID_ARGUMENT, f"invalid JSON: {error}") from None
        if not isinstance(document, dict):
            raise unfit(document, "object")
        # Both spellings of a field are taken: `jobId` and `job_id` (INFER: grpc-gateway's JSON reader does).
        return {snake_case(name): value for name, value in document.items()}


Operation: TypeAlias = Callable[[Call], Answer]


def snake_case(name: str) -> str:
    """The proto name of a field or parameter given in lowerCamelCase."""
    return re.sub(r"[A-Z]", lambda letter: "_" + letter.group().lower(), name)


def kind_of(value: object) -> str:
    """Go's word for the type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def unfit(value: object, wanted: str) -> RefusalError:
    """The refusal of a value of the wrong type, in Go's words (LIVE for an object in place of a string)."""
    message = f"json: cannot unmarshal {kind_of(value)} into Go value of type {wanted}"
    return RefusalError(INVALID_ARGUMENT, message)


def error_document(code: int, message: str) -> Json:
    """The body of every v2 error: runtimeError (SPEC); `error` and `message` are the same text (INFER)."""
    return {"error": message, "code": code, "message": message, "details": []}
