"""Asking until CML answers, in virtual time."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlError,
    CmlNotFoundError,
    CmlProtocolError,
    CmlResponseTooLargeError,
    CmlServerError,
    CmlUnavailableError,
)
from airflow_provider_cml.api.retry import FIRST_GAP, LONGEST_GAP, THROTTLE_BUDGET, answered
from airflow_provider_cml.api.wire import Exchange, Now, Request, Response, Scheme
from tests.api.playing import Outcome, Player, document, grpc_error, html, lost, unsent

GET = Request("GET", "/api/v2/projects", Scheme.BEARER)
NOT_FOUND = grpc_error(404, "project not found", 5)
POST = Request("POST", "/api/v2/projects/p/jobs", Scheme.BEARER, idempotent=False)


def status(_request: Request, response: Response) -> int:
    return response.status


def picky(_request: Request, response: Response) -> bytes:
    if response.body != b"good":
        message = "not good"
        raise CmlProtocolError(message)
    return response.body


def ask_for(request: Request, give_up_at: float | None = None) -> Exchange[int]:
    return answered(request, status, give_up_at)


def throttled(seconds: object, status: int = 429) -> Response:
    return document({"message": "too many requests"}, status, {"retry-after": str(seconds)})


def test_a_good_answer_is_one_request_and_nothing_else() -> None:
    """On the happy path there is one wish: the request. Not even the time is asked."""
    exchange = ask_for(GET)

    wishes = [next(exchange)]
    with pytest.raises(StopIteration) as end:
        exchange.send(Response(204))

    assert ([GET], 204) == (wishes, end.value.value)


@pytest.mark.parametrize(
    "failure",
    [
        *(lost(), unsent(), Response(500), Response(502), Response(504), Response(429), Response(302), Response(408)),
        *(Response(403), Response(404), html("404 Not Found", 404), html("Bad Request", 400)),
    ],
)
def test_asks_again_after_any_failure_to_ask(failure: Outcome) -> None:
    """Connection errors, 5xx, 429 and answers that are not CML's: none is a verdict."""
    player = Player(failure, failure, Response(200))

    assert 200 == player.play(ask_for(GET))
    assert 3 == len(player.requests)


def test_asks_again_after_an_answer_that_cannot_be_read() -> None:
    """A page where JSON belongs is met like an error: the next answer may be CML's."""
    player = Player(Response(200, {}, b"<html>"), Response(200, {}, b"good"))

    assert b"good" == player.play(answered(GET, picky))


def test_a_refusal_is_not_asked_again() -> None:
    """CML said no, and would say so again."""
    player = Player(NOT_FOUND)

    with pytest.raises(CmlNotFoundError):
        player.play(ask_for(GET))

    assert (1, []) == (len(player.requests), player.pauses)


def test_a_refusal_ends_the_asking() -> None:
    """Also in the middle of failures."""
    player = Player(Response(503), NOT_FOUND)

    with pytest.raises(CmlNotFoundError):
        player.play(ask_for(GET))


@pytest.mark.parametrize("patience", [0.0, 5.0, 30.0, 600.0])
def test_patience_bounds_the_failures(patience: float) -> None:
    """The last attempt is made when the patience is over, and not before."""
    player = Player(lambda _request: Response(503))

    with pytest.raises(CmlServerError, match="503"):
        player.play(ask_for(replace(GET, patience=patience)))

    assert sum(player.pauses) == pytest.approx(patience)
    assert (len(player.requests) == 1) == (patience == 0)


def test_gaps_double_and_are_jittered() -> None:
    """About 1, 2, 4 ... 30 seconds, never more, never less than half of it; the last is what is left of it all."""
    player = Player(lambda _request: lost())

    with pytest.raises(CmlConnectionError):
        player.play(ask_for(replace(GET, patience=600)))

    longest = [min(LONGEST_GAP, FIRST_GAP * 2**number) for number in range(len(player.pauses))]
    gaps = list(zip(player.pauses, longest, strict=True))[:-1]
    assert [] == [(gap, most) for gap, most in gaps if not most / 2 <= gap <= most]
    assert len(set(player.pauses)) == len(player.pauses)


def test_slow_failures_spend_the_patience_too() -> None:
    """Sixty seconds of waiting for no answer are sixty seconds; the patience counts from the first failure."""
    player = Player(lambda _request: lost(), latency=60.0)

    with pytest.raises(CmlConnectionError):
        player.play(ask_for(replace(GET, patience=200)))

    assert 5 == len(player.requests)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("seconds", [0, 3, 120])
def test_retry_after_is_obeyed(code: int, seconds: int) -> None:
    """The gap is what CML asked for, and a little more; never less, and never none."""
    player = Player(throttled(seconds, code), Response(200))

    assert 200 == player.play(ask_for(replace(GET, patience=30)))
    assert seconds + 0.1 <= player.pauses[0] <= seconds + 1


def test_retry_after_has_a_budget_of_its_own() -> None:
    """Time CML asked for is not charged to the patience, but it is not endless either."""
    player = Player(lambda _request: throttled(50))

    with pytest.raises(CmlServerError, match="429"):
        player.play(ask_for(replace(GET, patience=30)))

    assert THROTTLE_BUDGET * 30 / 50 == len(player.pauses)


@pytest.mark.parametrize(("seconds", "most"), [(0, 46), (1, 49), (10, 127), (120, 51)])
def test_gaps_grow_while_throttled(seconds: int, most: int) -> None:
    """A Retry-After that asks for next to nothing is no leave to ask every second, nor to go on for ever."""
    player = Player(lambda _request: throttled(seconds))

    with pytest.raises(CmlServerError, match="429"):
        player.play(ask_for(replace(GET, patience=600)))

    assert len(player.requests) <= most
    assert sum(player.pauses) - seconds * len(player.pauses) <= 600 + 1e-6
    assert seconds * len(player.pauses) <= THROTTLE_BUDGET * 600
    assert min(player.pauses) >= seconds
    assert min(player.pauses[6:-1]) >= LONGEST_GAP / 2


def test_throttling_leaves_the_patience_whole() -> None:
    """After minutes of throttling, an error still has its full patience."""
    player = Player(throttled(100), throttled(100), *[lost()] * 3, Response(200))

    assert 200 == player.play(ask_for(replace(GET, patience=60)))


def test_an_absurd_retry_after_is_capped() -> None:
    """A year is asked for; ten minutes are obeyed, if the budget has them."""
    player = Player(throttled(365 * 86400), Response(200))

    assert 200 == player.play(ask_for(replace(GET, patience=600)))
    assert 600 <= sum(player.pauses) <= 601


def test_junk_in_retry_after_falls_back_to_the_usual_gaps() -> None:
    """A word that means nothing is no word."""
    player = Player(throttled("soon"), Response(200))

    assert 200 == player.play(ask_for(GET))
    assert FIRST_GAP / 2 <= player.pauses[0] <= FIRST_GAP


@pytest.mark.parametrize("failure", [Response(503), throttled(5), lost()])
def test_give_up_at_ends_the_asking(failure: Outcome) -> None:
    """No further attempt is begun after this moment, whatever patience is left."""
    player = Player(lambda _request: failure)
    moment = player.now + 20

    with pytest.raises(CmlUnavailableError):
        player.play(ask_for(replace(GET, patience=600), moment))

    assert 20 - 17 <= sum(player.pauses) <= 20
    assert max(player.sent_at) <= moment


def test_give_up_at_leaves_the_first_attempt() -> None:
    """Once is always asked."""
    player = Player(Response(200))

    assert 200 == player.play(ask_for(GET, player.now - 100))


@pytest.mark.parametrize("failure", [lost(), Response(503), throttled(1), Response(302)])
def test_what_may_have_had_an_effect_is_never_repeated(failure: Outcome) -> None:
    """A request that is not idempotent is sent once, if it can have left this machine."""
    player = Player(failure)

    with pytest.raises(CmlUnavailableError):
        player.play(ask_for(POST))

    assert (1, []) == (len(player.requests), player.pauses)


def test_what_cannot_have_left_is_repeated() -> None:
    """A refused port or an unknown host let nothing out; the first request that may have left ends it."""
    player = Player(unsent(), unsent(), lost("the second"))

    with pytest.raises(CmlConnectionError, match="the second"):
        player.play(ask_for(POST))

    assert 3 == len(player.requests)


def test_unsent_requests_have_a_patience_too() -> None:
    """Nothing listens there: that is said within the patience."""
    player = Player(lambda _request: unsent())

    with pytest.raises(CmlConnectionError):
        player.play(ask_for(replace(POST, patience=10)))

    assert 0 < sum(player.pauses) <= 10 + 1e-6


def test_an_answer_too_large_is_not_asked_for_again() -> None:
    """The same request gets the same answer; whoever asked for a list asks for less."""
    player = Player(CmlResponseTooLargeError("too much"))

    with pytest.raises(CmlResponseTooLargeError):
        player.play(ask_for(replace(GET, patience=600)))

    assert (1, []) == (len(player.requests), player.pauses)


NO_CML = [unsent(), html("Sign in", 404), Response(302), CmlProtocolError("not JSON")]


@pytest.mark.parametrize("failure", NO_CML)
@pytest.mark.parametrize(("patience", "survived"), [(None, 600.0), (30.0, 30.0), (0.0, 0.0)])
def test_no_workspace_at_the_address(failure: Outcome, patience: float | None, survived: float) -> None:
    """It may be a wrong address, so it may have a patience of its own."""
    player = Player(lambda _request: failure)

    with pytest.raises(CmlUnavailableError):
        player.play(ask_for(replace(GET, patience=600, unreachable_patience=patience)))

    assert sum(player.pauses) == pytest.approx(survived)


@pytest.mark.parametrize("failure", [lost(), Response(503), throttled("soon")])
def test_a_workspace_that_does_not_answer(failure: Outcome) -> None:
    """It has the whole patience: something is at the address."""
    player = Player(lambda _request: failure)

    with pytest.raises(CmlUnavailableError):
        player.play(ask_for(replace(GET, patience=600, unreachable_patience=30)))

    assert sum(player.pauses) == pytest.approx(600)


def test_each_kind_of_failure_has_its_own_time() -> None:
    """A minute of 503 leaves the time for an unreachable address whole; that counts from the first such failure on."""
    player = Player(lambda _request: Response(503) if player.now < 1060 else unsent())

    with pytest.raises(CmlConnectionError):
        player.play(ask_for(replace(GET, patience=600, unreachable_patience=30)))

    assert 1090 <= player.now <= 1090 + LONGEST_GAP


# ------------------------------------------------------------------------------------------------ what the log says


def test_the_log_tells_an_outage_and_its_end() -> None:
    """A warning at the first failure, not at each, and a line when CML answers again."""
    player = Player(lost("the line broke"), Response(503), Response(503), Response(200))

    player.play(ask_for(replace(GET, patience=600)))

    assert [
        ("CML could not be asked, which is tried again for 600 s. the line broke", True),
        (f"CML answers again after {sum(player.pauses):.0f} s.", False),
    ] == [(note.text, note.warning) for note in player.notes]


def test_the_log_tells_how_long_an_address_is_tried() -> None:
    """The patience it names is the one for this failure."""
    player = Player(unsent("unknown host"), Response(200))

    player.play(ask_for(replace(GET, patience=600, unreachable_patience=30)))

    assert "CML could not be asked, which is tried again for 30 s. unknown host" == player.notes[0].text


@pytest.mark.parametrize(
    ("request_", "answers", "lines"),
    [
        pytest.param(GET, [Response(200)], 0, id="a good answer"),
        pytest.param(GET, [NOT_FOUND], 0, id="a refusal"),
        pytest.param(POST, [lost()], 0, id="not repeated"),
        pytest.param(replace(GET, patience=0), [lost()], 0, id="no patience"),
        pytest.param(GET, [lost(), NOT_FOUND], 1, id="ended by a refusal"),
        pytest.param(GET, [lost()] * 50, 1, id="never ended"),
    ],
)
def test_the_log_tells_no_more_than_there_is(request_: Request, answers: list[Outcome], lines: int) -> None:
    """Nothing about a request that is not repeated, and no end of what did not end."""
    player = Player(*answers)

    with suppress(CmlError):
        player.play(ask_for(request_))

    assert lines == len(player.notes)


def test_other_errors_pass_through() -> None:
    """A mistake in reading is a mistake of ours, not the network's."""

    def broken(_request: Request, _response: Response) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Player(Response(503), Response(200)).play(answered(GET, broken))


def test_two_conversations_do_not_disturb_each_other() -> None:
    """Each asking has its own count and its own time."""
    first, second = Player(lambda _request: lost()), Player(lost(), Response(200))
    exchange = ask_for(replace(GET, patience=600))
    wish = next(exchange)
    for _ in range(3):
        assert isinstance(wish, Request)
        wish = exchange.throw(lost())
        while not isinstance(wish, Request):
            wish = exchange.send(first.now if isinstance(wish, Now) else None)

    assert 200 == second.play(ask_for(GET))
    assert second.pauses[0] <= FIRST_GAP


def test_tenacity_is_not_loaded_on_the_happy_path() -> None:
    """A good answer never enters tenacity; the first failure does."""
    program = """
import sys
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.wire import Request, Response, Scheme
def ask(response):
    exchange = answered(Request("GET", "/p", Scheme.BEARER), lambda request, response: response.status)
    next(exchange)
    try:
        exchange.send(response)
    except StopIteration:
        pass
ask(Response(200))
good = "tenacity" in sys.modules
ask(Response(503))
print(good, "tenacity" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False True" == done.stdout.strip()
