"""From the bytes of an answer to fields: the only place where JSON's `Any` is handled.

The law: whatever a server sends, the outcome is a value or a `CmlProtocolError`. A missing optional field is its
empty value (CML emits defaults, but gateways and older builds differ); a missing id is an error, because nothing
can be done with a nameless thing. No text leaves here that could not be shown, stored or sent on.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.errors import CmlProtocolError, not_json
from airflow_provider_cml.api.models import Job, JobRun, KeyOwner, Page, Project, Usage
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.states import JobRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from airflow_provider_cml.api.wire import Request, Response

    T = TypeVar("T")

_ID = re.compile(r"[!-~]{1,200}")
"""What an id is made of. CML's have 16 to 19 letters, digits and hyphens; ids go into addresses, logs and XCom."""
_UNTOLD = re.compile(r"[\x00\ud800-\udfff]")
"""Characters that JSON can write but nobody can encode (halves of a pair), or PostgreSQL cannot store (NUL)."""


def document(request: Request, response: Response) -> dict[str, Any]:
    """The JSON object in an answer."""
    found: object = None
    try:
        found = json.loads(response.body)
        why = f"a JSON {type(found).__name__}, not an object"
    except RecursionError:
        why = "nested too deeply"
    except ValueError:
        why = "empty body" if not response.body.strip() else "not readable as JSON"
    if isinstance(found, dict):
        return found
    # Raised out here so that json's own error, which carries the whole body, does not travel along as its cause.
    raise not_json(request, response, why)


def project(fields: dict[str, Any]) -> Project:
    """A Project of the v2 document."""
    return Project(
        id=_identifier(fields, "Project"),
        name=_text(fields, "name"),
        slug=_text(fields, "slug"),
        owner=_text(_object(fields, "owner"), "username"),
        created_at=_moment(fields, "created_at"),
    )


def job(fields: dict[str, Any]) -> Job:
    """A Job of the v2 document. `timeout` is an int64 there, which travels as a string."""
    return Job(
        id=_identifier(fields, "Job"),
        name=_text(fields, "name"),
        project_id=_text(_object(fields, "project"), "public_identifier"),
        script=_text(fields, "script"),
        parent_id=_text(fields, "parent_id"),
        paused=fields.get("paused") is True,
        retry_enabled=fields.get("retry_enabled") is True,
        kill_on_timeout=fields.get("kill_on_timeout") is True,
        timeout=_whole_number(fields, "timeout") or None,
    )


def job_run(fields: dict[str, Any]) -> JobRun:
    """A JobRun of the v2 document, its environment reduced to our key."""
    word = _text(fields, "status")
    environment = _environment(fields.get("environment"))
    key = environment.get(RUN_KEY_VARIABLE) if environment is not None else None
    return JobRun(
        id=_identifier(fields, "JobRun"),
        project_id=_text(fields, "project_id"),
        job_id=_text(fields, "job_id"),
        status=JobRunStatus.read(word),
        word=word,
        created_at=_moment(fields, "created_at"),
        scheduling_at=_moment(fields, "scheduling_at"),
        starting_at=_moment(fields, "starting_at"),
        running_at=_moment(fields, "running_at"),
        finished_at=_moment(fields, "finished_at"),
        arguments=_text(fields, "arguments"),
        creator=_text(_object(fields, "creator"), "username"),
        run_key=_readable(key) if isinstance(key, str) else None,
        echoes=environment is not None,
    )


def key_owner(fields: dict[str, Any]) -> KeyOwner:
    """A ValidateAPIKeyResponse of the v2 document."""
    return KeyOwner(_text(fields, "username"), fields.get("valid") is True, _text(fields, "message"))


def usage(fields: dict[str, Any]) -> Usage:
    """A UsageResponse of the v2 document. A row without an id is nobody's, and no error: the list has all workloads."""
    return Usage(
        _text(fields, "id"), _text(fields, "workload_url"), _text(fields, "message"), fields.get("oom_killed") is True
    )


def page(
    fields: dict[str, Any], name: str, read: Callable[[dict[str, Any]], T], date: datetime | None = None
) -> Page[T]:
    """A page of the list called `name`. A list that is absent or null is empty: proto3 leaves empty lists out."""
    found = fields.get(name)
    if found is None:
        found = []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        message = f"CML answered a list whose {name!r} is not a list of objects."
        raise CmlProtocolError(message)
    return Page(tuple(read(item) for item in found), _text(fields, "next_page_token"), date)


def engine_id(fields: dict[str, Any]) -> str:
    """The engine id in v1's answer to a start."""
    found = fields.get("engine_id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        message = "CML answered a start on API v1 without an engine_id."
        raise CmlProtocolError(message)
    return found


def _environment(value: object) -> dict[str, Any] | None:
    """The echoed environment, or None where none can be read.

    A JSON string in the answers to create and get (seen on live workspaces), by inference in lists too; an object
    is read as well. An empty string is no evidence that this workspace echoes.
    """
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _identifier(fields: dict[str, Any], noun: str) -> str:
    found = fields.get("id")
    if not isinstance(found, str) or not found:
        message = f"CML answered a {noun} without an id."
        raise CmlProtocolError(message)
    if not _ID.fullmatch(found) or ".." in found or found == ".":
        message = f"CML answered a {noun} whose id cannot be one: {found[:50]!r}."
        raise CmlProtocolError(message)
    return found


def _text(fields: dict[str, Any], name: str) -> str:
    found = fields.get(name)
    return _readable(found) if isinstance(found, str) else ""


def _readable(text: str) -> str:
    return text if text.isascii() and "\x00" not in text else _UNTOLD.sub("\ufffd", text)


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def _whole_number(fields: dict[str, Any], name: str) -> int | None:
    found = fields.get(name)
    if isinstance(found, bool):
        return None
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 20:
        return int(found)
    return found if isinstance(found, int) else None


def _moment(fields: dict[str, Any], name: str) -> datetime | None:
    """An RFC 3339 time with any number of fractional digits, or None. A bad time never spoils a good run."""
    found = fields.get(name)
    if not isinstance(found, str) or not found:
        return None
    try:
        moment = datetime.fromisoformat(found)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # 0001-01-01 is what Go, in which CML is written, shows for a time that is not set; and nobody can reckon there.
    return moment if 1970 <= moment.year < 9000 else None
