"""Time that runs faster: a conversation whose seconds pass in a fraction of one, on transports that know nothing of it.

All the numbers of the conversations stay as they are. What they wish for is shortened on its way out (pauses and
time-outs), the time they are told is lengthened on its way back: their proportions hold, whatever is added later.

The law: besides that this only watches. It notes which starts were sent, when, and whether their answer came; and it
ends the process at a wish that was chosen before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TypeVar

from airflow_provider_cml.api.endpoint import READ_TIMEOUT
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.wire import Answer, Exchange, Now, Pause, Request, Wish

T = TypeVar("T")

PACE = 200.0
"""Seconds of a conversation in one second of ours."""

WISHES_AT_MOST = 400
"""Requests and pauses of one process; who wishes for more is taken never to end. Most need twenty."""


class KilledError(Exception):
    """The process ends here."""


@dataclass(slots=True)
class Sent:
    """A start that left. `at` is a moment of this machine's own monotonic clock."""

    key: str
    at: float
    is_answered: bool = False


@dataclass(slots=True)
class Process:
    """What befalls one process of a try, and what it does.

    :param last_wish: the number of the request or pause at which it ends; None is never.
    :param is_heard: that last one is sent still, and only its answer comes to nobody.
    """

    pace: float = PACE
    last_wish: int | None = None
    is_heard: bool = False
    sent: list[Sent] = field(default_factory=list)
    wishes: int = 0


def quickened(exchange: Exchange[T], process: Process) -> Exchange[T]:
    """The conversation at the pace of `process`."""
    try:
        wish = next(exchange)
        while True:
            try:
                answer = yield from _meet(wish, process)
            except CmlError as error:
                wish = exchange.throw(error)
            else:
                wish = exchange.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # the exchange's own T
    finally:
        exchange.close()


def _meet(wish: Wish, process: Process) -> Exchange[Answer]:
    if isinstance(wish, Now):
        moment = yield wish
        assert isinstance(moment, float)
        return moment * process.pace
    if not isinstance(wish, Request | Pause):
        return (yield wish)
    process.wishes += 1
    assert process.wishes <= WISHES_AT_MOST, "this conversation does not end"
    is_last = process.wishes == process.last_wish
    if is_last and not process.is_heard:
        raise KilledError
    try:
        if isinstance(wish, Pause):
            answer = yield Pause(wish.seconds / process.pace)
        else:
            answer = yield from _send(wish, process)
    except CmlError:
        if is_last:
            raise KilledError from None
        raise
    if is_last:
        raise KilledError
    return answer


def _send(request: Request, process: Process) -> Exchange[Answer]:
    quick = replace(request, read_timeout=(request.read_timeout or READ_TIMEOUT) / process.pace)
    environment = (request.json or {}).get("environment")
    if not isinstance(environment, dict) or RUN_KEY_VARIABLE not in environment:
        return (yield quick)
    sent = Sent(environment[RUN_KEY_VARIABLE], time.monotonic())
    process.sent.append(sent)
    answer = yield quick
    sent.is_answered = True
    return answer
