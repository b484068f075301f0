"""The one question for the reason of an end: as the published document has it, and no more than one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.usage import READ_TIMEOUT, find_usage
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.api.models import JobRun, Usage
from airflow_provider_cml.api.states import JobRunStatus
from tests.api.playing import Player, document, grpc_error, html, lost
from tests.api.published import described

RUN = JobRun(
    "lzwh60yx5d1984jm", "p", "j", JobRunStatus.FAILED, created_at=datetime(2026, 11, 21, 6, 0, 30, 5, tzinfo=UTC)
)
ROW = {"id": RUN.id, "message": "Engine exited", "oom_killed": True, "workload_url": "https://cml/engines/1"}


def asked(*rows: dict[str, Any]) -> tuple[Usage | None, Player]:
    player = Player(document({"usage_response": [*rows], "total_count": str(len(rows)), "next_page_token": "more"}))
    return player.play(find_usage(RUN)), player


def test_the_question_is_the_documents() -> None:
    """Operation and parameters are published, and the range of times is written as there."""
    _, player = asked()
    (request,) = player.requests
    _, operation = described(request.method, request.path)
    query = dict(request.query)

    assert operation["operationId"] == "ListUsage"
    assert set(query) <= {parameter["name"] for parameter in operation["parameters"]}
    assert json.loads(query["time_range_search_filter"]) == {
        "created_time": {"min": "2026-11-21 05:58:30", "max": "2026-11-21 06:02:30"}
    }
    assert "-created_at" == query["sort"]


def test_the_question_is_bounded() -> None:
    """One request that is not repeated, and has three seconds in all."""
    _, player = asked(ROW)

    assert [(request.patience, request.read_timeout) for request in player.requests] == [(0, READ_TIMEOUT)]
    assert READ_TIMEOUT * 2 == 3
    assert player.pauses == []


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (ROW, True),
        ({**ROW, "id": "4711", "workload_url": f"https://cml/alice/risk/engines/{RUN.id}"}, True),
        ({**ROW, "id": "another"}, False),
        ({**ROW, "id": ""}, False),
        ({"id": RUN.id}, True),
        ({"id": RUN.id, "message": 7, "oom_killed": "true", "workload_url": None}, True),
    ],
)
def test_a_row_is_the_runs_by_its_id_only(row: dict[str, Any], found: bool) -> None:
    """By id, or by its id in the link; a row that has neither is another workload's, however near its time."""
    usage, _ = asked({"id": "another", "message": "not this"}, row)

    assert (usage is not None) == found
    if usage is not None:
        assert usage.message in {"Engine exited", ""}
        assert usage.oom_killed == (row.get("oom_killed") is True)


def test_a_run_without_a_date_is_not_asked_about() -> None:
    """Without it the list cannot be narrowed to where the run is."""
    player = Player()

    assert player.play(find_usage(replace(RUN, created_at=None))) is None


@pytest.mark.parametrize(
    "answer",
    [
        lost(),
        grpc_error(403, "no"),
        grpc_error(404, "Not Found", 5),
        grpc_error(500, "oops"),
        html("Login"),
        document([]),
    ],
)
def test_whatever_else_comes_is_an_error(answer: Any) -> None:
    """Refused, absent, broken or lost: after one request."""
    player = Player(answer)
    with pytest.raises(CmlError):
        player.play(find_usage(RUN))

    assert len(player.requests) == 1
