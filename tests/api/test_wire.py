"""The seam: wishes, answers, and the helpers that put a type to an answer."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

from airflow_provider_cml.api import wire
from airflow_provider_cml.api.errors import CmlConnectionError
from airflow_provider_cml.api.wire import Exchange, Note, Now, Pause, Request, Response, Scheme, ask, note, now, pause
from tests.api.playing import Player, lost

REQUEST = Request("GET", "/api/v2/projects", Scheme.BEARER)


def test_ask_yields_the_request_and_returns_the_response() -> None:
    """`ask` hands out the very request and gives back the very answer."""
    exchange = ask(REQUEST)
    response = Response(503)

    wish = next(exchange)
    with pytest.raises(StopIteration) as end:
        exchange.send(response)

    assert (REQUEST, response) == (wish, end.value.value)


def test_a_failure_is_thrown_at_the_line_that_asked() -> None:
    """A conversation can catch what went wrong outside where it asked."""
    error = lost()

    def careful() -> Exchange[str]:
        try:
            yield from ask(REQUEST)
        except CmlConnectionError as found:
            return f"caught {found}"
        return "answered"

    caught = Player(error).play(careful())

    assert f"caught {error}" == caught


@pytest.mark.parametrize(("seconds", "wishes"), [(1.5, [Pause(1.5)]), (0, []), (-3, [])])
def test_pause_is_a_wish_only_above_zero(seconds: float, wishes: list[Pause]) -> None:
    """A pause of nothing, or of less, is no wish at all."""
    assert wishes == list(pause(seconds))


def test_now_returns_the_drivers_clock() -> None:
    """`now` is a wish, answered with seconds."""
    exchange = now()

    wish = next(exchange)
    with pytest.raises(StopIteration) as end:
        exchange.send(12.5)

    assert (Now(), 12.5) == (wish, end.value.value)


@pytest.mark.parametrize("warning", [True, False])
def test_note_is_one_line(warning: bool) -> None:
    """A note carries its text and whether it is a warning."""
    assert [Note("hello", warning)] == list(note("hello", warning=warning))


def test_repr_shows_no_body() -> None:
    """Bodies carry environment values, so no `repr` shows one."""
    request = Request("POST", "/p", Scheme.BEARER, json={"environment": {"A": "hunter2"}})
    response = Response(200, {}, b"hunter2")

    assert "hunter2" not in repr(request) + repr(response)


def test_the_example_of_the_docstring() -> None:
    """The example that explains the idea is true."""
    result = doctest.testmod(wire)

    assert (0, True) == (result.failed, result.attempted > 0)


def test_imports_the_standard_library_only() -> None:
    """Everybody may import the seam, so it brings nothing along."""
    program = (
        "import sys; before = set(sys.modules); import airflow_provider_cml.api.wire;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "airflow_provider_cml" == done.stdout.strip()
