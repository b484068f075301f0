"""What a conversation with CML is made of: the seam between knowing the API and doing I/O.

An API call is a generator, an `Exchange[T]`. It yields what it needs from the outside world, is sent what the
world answered, and returns a value; what went wrong outside is thrown into it at the very line that asked.
It never sends, sleeps or looks at a clock itself. Two drivers of a few lines run it (`transports`): one on
requests and `time.sleep`, one on aiohttp and `asyncio.sleep`. So a conversation of many requests is written
once, runs in worker and triggerer alike, and a test plays the world by hand, in virtual time.

The law of this module: it imports the standard library only, and the helpers below are the only place where
the type of an answer is asserted.

>>> def greet() -> Exchange[int]:
...     response = yield from ask(Request("GET", "/api/v2/projects", Scheme.BEARER))
...     yield from pause(1.5)
...     return response.status
>>> exchange = greet()
>>> next(exchange).path
'/api/v2/projects'
>>> exchange.send(Response(200)).seconds
1.5
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar, cast

T = TypeVar("T")


class Scheme(StrEnum):
    """How a request proves who sends it: the legacy Jobs API takes Basic, API v2 takes Bearer."""

    BASIC = "Basic"
    BEARER = "Bearer"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without host and credential: those belong to the endpoint.

    `idempotent` is a fact about the request: whether sending it twice may do twice what it does once.
    `patience` is how long, in seconds, failures to get an answer are met by asking again (`retry`);
    `unreachable_patience` the same where no workspace is found at the address, None for no difference. `read_timeout`
    overrides the endpoint's, in seconds. The body is kept out of `repr`: it carries environment values.
    """

    method: str
    path: str
    scheme: Scheme
    query: tuple[tuple[str, str], ...] = ()
    json: Mapping[str, object] | None = field(default=None, repr=False)
    idempotent: bool = True
    patience: float = 30.0
    unreachable_patience: float | None = None
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, header names in lower case. The body stays out of `repr`: CML echoes passwords in it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """A wish to go on `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """A wish to know the time: seconds on a clock that only moves forward and means nothing elsewhere."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log of whoever runs the conversation. Never holds a key or an environment value."""

    text: str
    warning: bool = False


Wish: TypeAlias = Request | Pause | Now | Note
Answer: TypeAlias = Response | float | None
Exchange: TypeAlias = Generator[Wish, Answer, T]


def ask(request: Request) -> Exchange[Response]:
    """Send one request, once, and return its answer whatever its status."""
    return cast("Response", (yield request))


def pause(seconds: float) -> Exchange[None]:
    """Go on `seconds` later; at once if that is not above zero."""
    if seconds > 0:
        yield Pause(seconds)


def now() -> Exchange[float]:
    """Seconds on the driver's monotonic clock."""
    return cast("float", (yield Now()))


def note(text: str, *, warning: bool = False) -> Exchange[None]:
    """Say one line to whoever runs this conversation."""
    yield Note(text, warning)
