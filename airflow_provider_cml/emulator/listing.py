"""Filters, sorting and pages of v2 lists.

Law: what SPEC lists as filter and sort keys is accepted and nothing else; matching is by case-sensitive
substring (LIVE); without `sort` the order is nobody's promise, and here it is never newest first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from airflow_provider_cml.emulator.calls import INVALID_ARGUMENT, Call, RefusalError, kind_of
from airflow_provider_cml.emulator.objects import Status

T = TypeVar("T")
#: The values of one item by which lists filter and sort it. Times are numbers, all else is text.
Facts = Mapping[str, object]

#: LIVE: 10 when nothing is asked for.
DEFAULT_PAGE_SIZE = 10

PROJECT_FILTER = frozenset(
    [
        "creator.email",
        "creator.name",
        "creator.username",
        "description",
        "name",
        "owner.email",
        "owner.name",
        "owner.username",
    ]
)
JOB_FILTER = frozenset(
    [
        "creator.email",
        "creator.name",
        "creator.username",
        "description",
        "kernel",
        "name",
        "paused",
        "script",
        "type",
    ]
)
RUN_FILTER = JOB_FILTER | {"status", "id"}
USAGE_FILTER = frozenset(["name", "creator", "group", "project_name", "workload_type", "status"])

PROJECT_SORT = PROJECT_FILTER | {"created_at", "updated_at"}
JOB_SORT = JOB_FILTER | {"created_at", "updated_at"}
USAGE_SORT = USAGE_FILTER | frozenset(["cpu", "memory", "nvidia_gpu", "created_at"])

#: What decides, beside the page size, which items are listed and in which order.
LISTED_BY = (
    "search_filter",
    "time_range_search_filter",
    "sort",
    "include_public_projects",
    "include_all_projects",
)

#: SPEC: the only words of the status filter of runs; there is none for starting, skipped or unknown.
STATUS_WORDS = {
    word: Status[word.upper()]
    for word in ("scheduling", "running", "stopping", "stopped", "succeeded", "failed", "timedout")
}


def pages_of(
    call: Call,
    items: Sequence[T],
    facts: Callable[[T], Facts],
    filters: frozenset[str],
    sorts: frozenset[str] = frozenset(),
) -> tuple[list[T], str, int]:
    """One page of the items, as the query asks for it; the token of the next page; the number of all."""
    facts_of = {id(item): facts(item) for item in items}
    wanted = _filter(call, filters)
    chosen = [item for item in items if all(_fits(facts_of[id(item)], *want) for want in wanted.items())]
    order = _sort(call, sorts)
    if order:
        # Stable, so the least important key goes first.
        for key, descending in reversed(order):
            chosen.sort(key=lambda item: facts_of[id(item)][key], reverse=descending)  # type: ignore[arg-type,return-value]
    else:
        chosen = _in_no_order(chosen, lambda item: facts_of[id(item)])
    size = _page_size(call)
    start = _start(call, size)
    following = start + size
    token = _token(call, size, following) if following < len(chosen) else ""
    return chosen[start:following], token, len(chosen)


def time_range(call: Call, name: str) -> tuple[float, float]:
    """The bounds that a list's time_range_search_filter sets for `name`, in seconds since the epoch (SPEC).

    SPEC shows times without a zone; that they are UTC is INFER.
    """
    text = call.query.get("time_range_search_filter", "")
    if not text:
        return -math.inf, math.inf
    try:
        document = json.loads(text)
        unknown = set(document) - {name} or set(document[name]) - {"min", "max"}
        bounds = {key: datetime.fromisoformat(value).replace(tzinfo=UTC) for key, value in document[name].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        unknown = {text}
    if unknown:
        raise RefusalError(INVALID_ARGUMENT, f"invalid time_range_search_filter: {text}")
    found = {key: moment.timestamp() for key, moment in bounds.items()}
    return found.get("min", -math.inf), found.get("max", math.inf)


def _filter(call: Call, known: frozenset[str]) -> dict[str, str]:
    text = call.query.get("search_filter", "")
    if not text:
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    # Old pages of the documentation show a bare word here; whether that still works is not known.
    if not isinstance(document, dict):
        raise RefusalError(INVALID_ARGUMENT, f"invalid search_filter: {text}")
    for key, value in document.items():
        if key not in known:
            raise RefusalError(INVALID_ARGUMENT, f"invalid search_filter key: {key}")
        if not isinstance(value, str):
            raise RefusalError(INVALID_ARGUMENT, f"invalid search_filter value for {key}: {kind_of(value)}")
        if key == "status" and "script" in known and value not in STATUS_WORDS:
            raise RefusalError(INVALID_ARGUMENT, f"invalid search_filter status: {value}")
    return document


def _fits(facts: Facts, key: str, value: str) -> bool:
    if key == "status" and value in STATUS_WORDS:
        return facts[key] in (STATUS_WORDS[value], value)
    return value in str(facts[key])


def _sort(call: Call, known: frozenset[str]) -> list[tuple[str, bool]]:
    if not known:
        return []  # ListAllJobs has no sort (SPEC); grpc-gateway passes over what it does not know (INFER)
    order = []
    for part in filter(None, call.query.get("sort", "").split(",")):
        key = part.removeprefix("-") if part.startswith("-") else part.removeprefix("+")
        if key not in known:
            # A bare + in a query string is a space, and " name" is not a key.
            raise RefusalError(INVALID_ARGUMENT, f"invalid sort key: {key}")
        order.append((key, part.startswith("-")))
    return order


def _in_no_order(items: list[T], facts: Callable[[T], Facts]) -> list[T]:
    """The same order each time, and never with the newest first when there is a choice."""
    items = sorted(items, key=lambda item: hashlib.sha256(str(facts(item)["id"]).encode()).digest())
    if len(items) > 1 and items[0] is max(items, key=lambda item: float(str(facts(item)["created_at"]))):
        items.append(items.pop(0))
    return items


def _page_size(call: Call) -> int:
    text = call.query.get("page_size", "") or "0"
    try:
        size = int(text)
    except ValueError:
        cause = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        message = f"type mismatch, parameter: page_size, error: {cause}"
        raise RefusalError(INVALID_ARGUMENT, message) from None
    if not 0 <= size < 2**31:
        raise RefusalError(INVALID_ARGUMENT, f"invalid page_size: {size}")
    size = size or DEFAULT_PAGE_SIZE
    cap = call.workspace.page_size_cap
    return size if cap is None else min(size, cap)


def _question(call: Call, size: int) -> str:
    """What a token is good for. SPEC: page_size must be given again with it; filter and sort too (S8)."""
    parts = [call.operation, *sorted(call.path.items()), size]
    parts += [call.query.get(name, "") for name in LISTED_BY]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _token(call: Call, size: int, start: int) -> str:
    return base64.urlsafe_b64encode(f"{_question(call, size)}:{start}".encode()).decode()


def _start(call: Call, size: int) -> int:
    """Where the asked page begins. An offset: what is made between two pages shifts the rest (INFER)."""
    token = call.query.get("page_token", "")
    if not token:
        return 0
    try:
        question, _, start = base64.urlsafe_b64decode(token).decode().partition(":")
        position = int(start)
    except ValueError:
        raise RefusalError(INVALID_ARGUMENT, "invalid page_token") from None
    if question != _question(call, size):
        raise RefusalError(INVALID_ARGUMENT, "page_token does not belong to this query")
    return position
