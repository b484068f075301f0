"""The legacy Jobs API: one operation, and its repetition while CML refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cml.api import v1
from airflow_provider_cml.api.conversations.posting import CONFLICT_PATIENCE
from airflow_provider_cml.api.conversations.start import Busy
from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart, start_job_when_free
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlInputError,
    CmlNotFoundError,
    CmlProtocolError,
    CmlRefusedError,
    CmlServerError,
    CmlUnauthorizedError,
)
from airflow_provider_cml.api.wire import Exchange, Request, Response, Scheme
from tests.api.playing import Outcome, Player, document, grpc_error, html, lost, unsent


def start(environment: dict[str, str] | None = None, *, number: str = "208") -> Exchange[str]:
    return v1.start_job("alice", "risk-analysis", number, environment or {})


def started(engine_id: str = "cwg6wclmg0x482u0") -> Response:
    return document({"engine_id": engine_id}, headers={"content-type": "application/json; charset=utf-8"})


@pytest.mark.parametrize(
    ("environment", "body"), [({}, {}), ({"A": "b", "C": ""}, {"environment": {"A": "b", "C": ""}})]
)
def test_start_job(environment: dict[str, str], body: dict[str, Any]) -> None:
    """The documented call: a POST with Basic, a JSON body even if it is empty, and the engine id in the answer."""
    player = Player(started())

    assert "cwg6wclmg0x482u0" == player.play(start(environment))
    assert [
        Request(
            "POST",
            "/api/v1/projects/alice/risk-analysis/jobs/208/start",
            Scheme.BASIC,
            json=body,
            idempotent=False,
            patience=600.0,
        )
    ] == player.requests


def test_the_path_is_encoded() -> None:
    """Owner, slug and number are one segment each."""
    exchange = v1.start_job("a/b", "ü", "2 8", {})

    request = next(exchange)

    assert isinstance(request, Request)
    assert "/api/v1/projects/a%2Fb/%C3%BC/jobs/2%208/start" == request.path


@pytest.mark.parametrize(("place", "field"), [(0, "project"), (1, "project"), (2, "job")])
@pytest.mark.parametrize("text", ["", "..", "../x"])
def test_what_leads_elsewhere_is_refused(place: int, field: str, text: str) -> None:
    """Before anything is sent, naming the field."""
    given = ["alice", "risk-analysis", "208"]
    given[place] = text

    with pytest.raises(CmlInputError, match=f"^{field}: "):
        next(v1.start_job(given[0], given[1], given[2], {}))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lost(), CmlConnectionError),
        (Response(503), CmlServerError),
        (document({"message": "too many"}, 429, {"retry-after": "1"}), CmlServerError),
        (html("Sign in"), CmlProtocolError),
        (Response(302), CmlProtocolError),
        (document({}), CmlProtocolError),
        (document({"message": "Unauthorized"}, 401), CmlUnauthorizedError),
        (document({"message": "Job 9 does not exist"}, 404), CmlNotFoundError),
    ],
)
def test_a_start_that_has_left_is_never_repeated(answer: Outcome, error: type[Exception]) -> None:
    """A second POST is a second run."""
    player = Player(answer)

    with pytest.raises(error):
        player.play(start())

    assert 1 == len(player.requests)


def test_a_start_that_cannot_have_left_is_repeated() -> None:
    """A refused connection carried nothing."""
    player = Player(unsent(), unsent(), started())

    assert "cwg6wclmg0x482u0" == player.play(start())
    assert 3 == len(player.requests)


def test_a_start_that_cannot_leave_is_repeated_for_ten_minutes() -> None:
    """A later try may not start the job any more."""
    player = Player(lambda _request: unsent())

    with pytest.raises(CmlConnectionError):
        player.play(start())

    assert sum(player.pauses) == pytest.approx(600)


def test_an_error_quotes_the_message_and_no_value() -> None:
    """v1 says `message`; the variables that were sent are blotted out."""
    player = Player(document({"message": "bad variable hunter2"}, 400))

    with pytest.raises(Exception, match=r'refused with 400 \("bad variable \*\*\*"\)'):
        player.play(start({"PASSWORD": "hunter2"}))


@pytest.mark.parametrize(
    ("project", "parts"), [("alice/risk-analysis", ("alice", "risk-analysis")), ("a/ü", ("a", "ü"))]
)
def test_split_project(project: str, parts: tuple[str, str]) -> None:
    """v1 knows a project as owner and slug only."""
    assert parts == v1.split_project(project)


@pytest.mark.parametrize("project", ["", "x", "/", "/x", "x/", "a/b/c", "k9yi-cww6-iw3w-buq0"])
def test_a_project_v1_does_not_know(project: str) -> None:
    """The message says how it has to be written."""
    with pytest.raises(CmlInputError, match=r"^project: API v1 needs 'owner/slug'"):
        v1.split_project(project)


# ------------------------------------------------------------------------------------------------ when free

CONFLICT = grpc_error(409, "the project is being archived", 10)
CODE_9 = grpc_error(400, "the runtime is disabled", 9)


def when_free(**settings: Any) -> Exchange[str | Busy]:
    return start_job_when_free(LegacyStart("alice", "risk-analysis", "208", **settings))


@pytest.mark.parametrize("answer", [CONFLICT, Response(412)])
@pytest.mark.parametrize("settings", [{}, {"wait_when_busy": False}, {"busy_timeout": 60.0}], ids=str)
def test_a_conflict_is_final_after_ten_minutes(answer: Response, settings: dict[str, Any]) -> None:
    """Nothing says that the job is busy, so what busy means does not count; in the end CML's own text is told."""
    player = Player(lambda _request: answer)

    with pytest.raises(CmlRefusedError) as caught:
        player.play(when_free(**settings))

    assert CONFLICT_PATIENCE <= round(sum(player.pauses), 3) <= CONFLICT_PATIENCE + 2
    assert 5 <= len(player.requests) <= 20
    assert answer is not CONFLICT or "the project is being archived" in str(caught.value)


def test_a_conflict_may_pass() -> None:
    """Whatever forbade the start is over."""
    player = Player(CONFLICT, Response(412), started())

    assert "cwg6wclmg0x482u0" == player.play(when_free(wait_when_busy=False))


@pytest.mark.parametrize("answer", [CODE_9, grpc_error(412, "the runtime is disabled", 9)])
def test_code_9_counts_as_busy(answer: Response) -> None:
    """v1 shows no runs, so no look can tell what it means."""
    outcome = Player(answer).play(when_free(wait_when_busy=False))

    assert isinstance(outcome, Busy)
    assert "the runtime is disabled" in outcome.reason


def test_a_busy_job_ends_a_conflict() -> None:
    """Ten minutes of conflicts are counted from the first one after CML called the job busy."""
    began = 1000.0
    player = Player(lambda _request: CODE_9 if player.now < began + 500 else CONFLICT)

    with pytest.raises(CmlRefusedError):
        player.play(when_free())

    assert player.now >= began + 500 + CONFLICT_PATIENCE
