"""Plays the world for a conversation by hand: answers its wishes from a script, in virtual time.

No thread, no socket, no sleep: a pause moves the clock, and whatever is due meanwhile happens on the way.
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from airflow_provider_cml.api.errors import CmlConnectionError, CmlError
from airflow_provider_cml.api.wire import Note, Now, Pause, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_cml.api.wire import Answer, Exchange

T = TypeVar("T")

Outcome: TypeAlias = "Response | CmlError"
"""What comes of one request: an answer, or the error that a transport would throw."""

WISHES_AT_MOST = 50_000


class Player:
    """A world of one clock and one other party.

    `answers` is the script: what comes of the requests, in turn; or a function of the request.
    Each request takes `latency` seconds. What the conversation did stands in `requests`, `pauses` and `notes`.
    """

    def __init__(self, *answers: Outcome | Callable[[Request], Outcome], latency: float = 0.0) -> None:
        self.script = list(answers)
        self.latency = latency
        self.now = 1000.0
        self.requests: list[Request] = []
        self.sent_at: list[float] = []
        self.pauses: list[float] = []
        self.notes: list[Note] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def play(self, exchange: Exchange[T]) -> T:
        """Run a conversation to its end; its value, or its error."""
        try:
            wish = next(exchange)
            for _ in range(WISHES_AT_MOST):
                if isinstance(wish, Request):
                    found = self._answer(wish)
                    if isinstance(found, CmlError):
                        wish = exchange.throw(found)
                        continue
                    answer: Answer = found
                elif isinstance(wish, Pause):
                    self.pauses.append(wish.seconds)
                    self._pass(wish.seconds)
                    answer = None
                elif isinstance(wish, Now):
                    answer = self.now
                else:
                    self.notes.append(wish)
                    answer = None
                wish = exchange.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # the exchange's own T
        message = f"this conversation does not end; its last wish: {wish}"
        raise AssertionError(message)

    def at(self, seconds: float, happening: Callable[[], object]) -> None:
        """Let something happen, this long after now."""
        self._count += 1
        heapq.heappush(self._due, (self.now + seconds, self._count, happening))

    @property
    def asked(self) -> list[str]:
        """The requests so far, as `METHOD /path`."""
        return [f"{request.method} {request.path}" for request in self.requests]

    @property
    def said(self) -> str:
        """The notes so far, a line each."""
        return "\n".join(note.text for note in self.notes)

    def _answer(self, request: Request) -> Outcome:
        self.requests.append(request)
        self.sent_at.append(self.now)
        assert self.script, f"nothing is prepared for {request.method} {request.path}"
        following = self.script[0]
        if isinstance(following, Response | CmlError):
            del self.script[0]
            self._pass(self.latency)
            return following
        found = following(request)
        self._pass(self.latency)
        return found

    def _pass(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, happening = heapq.heappop(self._due)
            happening()
        self.now = end


def document(fields: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(fields).encode())


def grpc_error(status: int, message: str, code: int = 2) -> Response:
    """An error as CML's gateway writes it."""
    return document({"error": message, "code": code, "message": message, "details": []}, status)


def html(title: str, status: int = 200, body: str = "") -> Response:
    """A page where JSON belongs."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>"
    return Response(status, {"content-type": "text/html; charset=utf-8"}, page.encode())


def lost(message: str = "the line broke") -> CmlConnectionError:
    """No answer came; the request may have had its effect."""
    return CmlConnectionError(message, sent=True)


def unsent(message: str = "nothing listens there") -> CmlConnectionError:
    """The request cannot have left."""
    return CmlConnectionError(message, sent=False, unreachable=True)
