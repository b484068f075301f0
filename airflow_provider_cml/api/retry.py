"""Asking until CML answers: the only module that knows tenacity.

`answered` sends a request and reads its answer. If CML could not be asked it asks again, as long as the request's
patience lasts and repeating it is harmless; the gaps double, with jitter, and are never below CML's Retry-After.
It is a conversation like any other, so it runs on either transport and in virtual time.

The law: a good first answer never enters tenacity (one call of it costs as much as the rest of a poll), and a request
that is not idempotent is repeated only if it cannot have left this machine. Time that CML itself asked us to wait is
not charged to the patience, but to a budget of its own, ten times as large: throttling is no failure. What we wait
beyond is charged to the patience, so that a Retry-After of 0 changes nothing.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlProtocolError,
    CmlResponseTooLargeError,
    CmlUnavailableError,
    refusal,
)
from airflow_provider_cml.api.wire import ask, note, now, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from airflow_provider_cml.api.wire import Exchange, Request, Response

T = TypeVar("T")

FIRST_GAP = 1.0
"""Seconds before the second attempt; then twice as long each time."""
LONGEST_GAP = 30.0
THROTTLE_BUDGET = 10
"""Times the request's patience: how long, in all, CML's Retry-After is obeyed for one request."""


def answered(request: Request, read: Callable[[Request, Response], T], give_up_at: float | None = None) -> Exchange[T]:
    """The value `read` finds in the answer to `request`.

    :param request: what to ask; its `patience` bounds the failures, in seconds.
    :param read: from a 2xx answer to a value; raises `CmlProtocolError` where that cannot be.
    :param give_up_at: a moment of `wire.now`, after which no further attempt is begun.
    :raises CmlUnavailableError: CML could not be asked within the patience.
    :raises CmlRefusedError: CML said no.
    """
    try:
        return (yield from _once(request, read))
    except CmlUnavailableError as error:
        if not _repeatable(request, error):
            raise
        failure = error
    return (yield from _again(request, read, failure, give_up_at))


def _once(request: Request, read: Callable[[Request, Response], T]) -> Exchange[T]:
    response = yield from ask(request)
    if not 200 <= response.status < 300:
        raise refusal(request, response)
    return read(request, response)


def _repeatable(request: Request, error: BaseException) -> bool:
    if not isinstance(error, CmlUnavailableError) or isinstance(error, CmlResponseTooLargeError):
        return False
    return _patience(request, error) > 0 and (request.idempotent or not error.sent)


def _patience(request: Request, error: BaseException | None) -> float:
    """Seconds of failures like this one that the request survives. No CML at the address may be a wrong address."""
    if request.unreachable_patience is not None and _is_no_cml(error):
        return request.unreachable_patience
    return request.patience


def _is_no_cml(error: BaseException | None) -> bool:
    return isinstance(error, CmlProtocolError) or (isinstance(error, CmlConnectionError) and error.unreachable)


def _again(
    request: Request,
    read: Callable[[Request, Response], T],
    failure: CmlUnavailableError,
    give_up_at: float | None,
) -> Exchange[T]:
    import tenacity  # noqa: PLC0415 - not needed until something fails

    began = moment = yield from now()
    unreachable_since = began if _is_no_cml(failure) else None
    throttled = 0.0
    patience = _patience(request, failure)
    yield from note(f"CML could not be asked, which is tried again for {patience:g} s. {failure}", warning=True)

    def seconds_left(state: RetryCallState) -> float:
        """What is left of the patience for failures like the last one; CML's own gaps are not charged to it."""
        patience = _patience(request, state.outcome.exception() if state.outcome else None)
        since = began if unreachable_since is None or patience == request.patience else unreachable_since
        return patience - (moment - since - throttled)

    def gap(state: RetryCallState) -> float:
        """The last attempt is made when the patience is over, and not before."""
        ordered, left = _ordered_gap(state), seconds_left(state)
        return _gap(state) if ordered or left <= 0 else min(_gap(state), left)

    def is_enough(state: RetryCallState) -> bool:
        upcoming, ordered = state.upcoming_sleep, _ordered_gap(state)
        if give_up_at is not None and moment + upcoming > give_up_at:
            return True
        if throttled + ordered > THROTTLE_BUDGET * request.patience:
            return True
        return upcoming - ordered > seconds_left(state)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: _repeatable(request, error)),
        wait=gap,
        stop=is_enough,
        reraise=True,
    )
    retrying.begin()
    state = tenacity.RetryCallState(retrying, fn=None, args=(), kwargs={})
    state.set_exception((type(failure), failure, failure.__traceback__))
    while True:
        step = retrying.iter(state)
        if isinstance(step, tenacity.DoSleep):
            throttled += _ordered_gap(state)
            state.prepare_for_next_attempt()
            yield from pause(step)
            continue
        if not isinstance(step, tenacity.DoAttempt):
            yield from note(f"CML answers again after {moment - began:.0f} s.")
            return step  # type: ignore[no-any-return]  # what set_result was given
        try:
            value = yield from _once(request, read)
        except Exception as error:  # noqa: BLE001 - tenacity raises it again, or decides to go on
            state.set_exception((type(error), error, error.__traceback__))
        else:
            state.set_result(value)
        moment = yield from now()
        is_unreachable = state.outcome is not None and _is_no_cml(state.outcome.exception())
        unreachable_since = (unreachable_since or moment) if is_unreachable else None


def _ordered_gap(state: RetryCallState) -> float:
    """The gap CML asked for in its last answer; 0 where it asked for none."""
    error = state.outcome.exception() if state.outcome else None
    return (error.retry_after or 0.0) if isinstance(error, CmlUnavailableError) else 0.0


def _gap(state: RetryCallState) -> float:
    ordered = _ordered_gap(state)
    longest = min(LONGEST_GAP, FIRST_GAP * 2.0 ** min(state.attempt_number - 1, 10))
    # Never below what CML asked for, and never below our own: a Retry-After of 0 must not become a busy loop.
    spread = random.uniform(0.5, 1.0) * longest  # noqa: S311 - jitter, not a secret
    return max(spread, ordered + random.uniform(0.1, 1.0)) if ordered else spread  # noqa: S311
