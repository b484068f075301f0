"""What can go wrong, on purpose.

Law: a fault says which operation it hits, how often, and how. Per request at most one fault on the wire comes
true (the first in line that fires); faults of behaviour hold beside it and beside each other.
"""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


class Kind(StrEnum):
    """The kinds of faults. First those on the wire, then those of behaviour."""

    #: The connection is closed; nothing took effect.
    DROP_BEFORE = "drop_before"
    #: It took effect; the connection is closed instead of answering.
    DROP_AFTER = "drop_after"
    #: It takes effect after `seconds`; the answer is lost now (or is an error, if `status` says so).
    LATE_EFFECT = "late_effect"
    #: It takes effect now; the right answer comes after `seconds`.
    DELAY_ANSWER = "delay_answer"
    #: 429, nothing took effect; `retry_after`: seconds, "date+N" for a date N seconds ahead, junk, or None.
    TOO_MANY_REQUESTS = "too_many_requests"
    #: An error (`status`, default 503), before or after it took effect.
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    #: A page instead of JSON (`status`: 200, 302 to a login page, 502); nothing took effect.
    HTML = "html"
    #: It took effect; the answer is JSON that ends in the middle.
    BROKEN_JSON = "broken_json"
    #: It took effect; the answer is right but is called text/plain.
    WRONG_CONTENT_TYPE = "wrong_content_type"
    #: 401 or 403 (`status`, default 401).
    REFUSED = "refused"
    #: 409 "out of quota: CPU request limit reached" (ONE).
    OUT_OF_QUOTA = "out_of_quota"

    #: What a start is answered when the job is busy (`status`: 400, 409, 412, or 200 with a SKIPPED run);
    #: `forced`: also when it is not.
    BUSY = "busy"
    #: `seconds` from STOPPING to STOPPED.
    SLOW_STOPPING = "slow_stopping"
    #: `environment` comes back empty.
    NO_ECHO = "no_echo"
    #: Runs are missing from lists until they are `seconds` old.
    LIST_LAG = "list_lag"
    #: `environment` is a JSON object instead of a string that holds one.
    ENVIRONMENT_OBJECT = "environment_object"
    #: A start ignores its `arguments`; the job's are used (LIVE on two workspaces, denied by a third).
    ARGUMENTS_IGNORED = "arguments_ignored"


BEHAVIOURS = frozenset(
    {
        Kind.BUSY,
        Kind.SLOW_STOPPING,
        Kind.NO_ECHO,
        Kind.LIST_LAG,
        Kind.ENVIRONMENT_OBJECT,
        Kind.ARGUMENTS_IGNORED,
    }
)

ANY = "*"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `count` None: every time until it is removed."""

    operation: str
    kind: Kind
    count: int | None = None
    #: Let this many matching requests pass first.
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    #: Only requests whose path, query or body contain this.
    match: str = ""
    seconds: float = 0.0
    status: int | None = None
    retry_after: int | str | None = None
    forced: bool = False
    id: int = 0


@dataclass(slots=True)
class _Entry:
    fault: Fault
    dice: random.Random
    seen: int = 0
    fired: int = 0


class FaultError(ValueError):
    """This fault cannot be set, and why."""


class Faults:
    """The faults that are set, in order."""

    def __init__(self, operations: Collection[str]) -> None:
        self._operations = frozenset(operations) | {ANY}
        self._entries: list[_Entry] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, operation: str, kind: str, **settings: object) -> Fault:
        """Set a fault; the settings are the fields of `Fault`."""
        if operation not in self._operations:
            raise FaultError(f"operation: {operation!r} is none of {', '.join(sorted(self._operations))}")
        if kind not in set(Kind):
            raise FaultError(f"kind: {kind!r} is none of {', '.join(Kind)}")
        for name, value in settings.items():
            if name not in _FITS:
                raise FaultError(f"{name}: a fault has no such setting; there are {', '.join(_FITS)}")
            if not _FITS[name](value):
                raise FaultError(f"{name}: {value!r} does not fit")
        fault = Fault(operation, Kind(kind), id=next(self._ids), **settings)  # type: ignore[arg-type]
        with self._lock:
            self._entries.append(_Entry(fault, random.Random(fault.seed)))
        return fault

    def remove(self, fault: Fault | int) -> bool:
        """Take a fault back; False: there was none."""
        number = fault if isinstance(fault, int) else fault.id
        with self._lock:
            before = len(self._entries)
            self._entries = [entry for entry in self._entries if entry.fault.id != number]
            return len(self._entries) < before

    def clear(self) -> None:
        """Take all faults back."""
        with self._lock:
            self._entries.clear()

    def listing(self) -> list[dict[str, object]]:
        """What is set, and how often each was seen and fired."""
        with self._lock:
            return [{**asdict(entry.fault), "fired": entry.fired} for entry in self._entries]

    def take(self, operation: str, text: str) -> tuple[Fault | None, Mapping[Kind, Fault]]:
        """What befalls one request: at most one fault on the wire, and the behaviours that hold for it."""
        wire: Fault | None = None
        behaviours: dict[Kind, Fault] = {}
        with self._lock:
            for entry in self._entries:
                fault = entry.fault
                is_behaviour = fault.kind in BEHAVIOURS
                if fault.operation not in (operation, ANY) or fault.match not in text:
                    continue
                if (fault.kind in behaviours) if is_behaviour else (wire is not None):
                    continue
                if not self._fires(entry):
                    continue
                if is_behaviour:
                    behaviours[fault.kind] = fault
                else:
                    wire = fault
        return wire, behaviours

    @staticmethod
    def _fires(entry: _Entry) -> bool:
        entry.seen += 1
        if entry.seen <= entry.fault.after:
            return False
        if entry.fault.count is not None and entry.fired >= entry.fault.count:
            return False
        if entry.dice.random() >= entry.fault.probability:
            return False
        entry.fired += 1
        return True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_FITS: dict[str, Callable[[object], bool]] = {
    "count": lambda value: value is None or _is_count(value),
    "after": _is_count,
    "probability": lambda value: _is_seconds(value) and float(str(value)) <= 1,
    "seed": _is_count,
    "match": lambda value: isinstance(value, str),
    "seconds": _is_seconds,
    "status": lambda value: value is None or (isinstance(value, int) and value in set(HTTPStatus)),
    "retry_after": lambda value: value is None or _is_count(value) or isinstance(value, str),
    "forced": lambda value: isinstance(value, bool),
}
