"""Events: whole and of this version, or not read at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus

WATCHED = events.Watched(
    "m6qy-tt5n-n1dz-srf0",
    "27y1-ht44-z4m4-3zw9",
    run_id="1dfqjbrb1c3o6256",
    run_key="v1;a",
    run_url="https://ml/alice/risk/jobs",
    began=1_790_000_000.5,
    losses=1,
    deadline=1_790_000_600.0,
    busy_deadline=1_790_000_300.0,
    waited=12.5,
    excluded=("a", "b"),
)


def run(status: JobRunStatus, **fields: Any) -> JobRun:
    return JobRun("1dfqjbrb1c3o6256", WATCHED.project_id, WATCHED.job_id, status, f"ENGINE_{status.upper()}", **fields)


@pytest.mark.parametrize("status", [status for status in JobRunStatus if status.is_over])
def test_run_that_is_over_survives_the_database(status: JobRunStatus) -> None:
    """What is written and read again is the same, times and all, and JSON in between."""
    outcome = Outcome(
        Ending.OVER,
        run(status, created_at=datetime(2026, 11, 21, tzinfo=UTC), finished_at=datetime(2026, 11, 21, 0, 1, 2, 3, UTC)),
        "words",
    )

    assert events.read(json.loads(json.dumps(events.write(outcome, WATCHED)))) == (outcome, WATCHED)


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.OVER])
@pytest.mark.parametrize("seen", [None, run(JobRunStatus.RUNNING)])
def test_wait_without_an_end_survives_the_database(ending: Ending, seen: JobRun | None) -> None:
    """Every other ending is told with or without the run as last seen."""
    outcome = Outcome(ending, seen, "we could not ask")

    assert events.read(json.loads(json.dumps(events.write(outcome, WATCHED)))) == (outcome, WATCHED)


@pytest.mark.parametrize("watched", [WATCHED, events.Watched("p", "j")])
def test_memory_of_a_task_survives_the_database(watched: events.Watched) -> None:
    """What a task knows of its run is JSON primitives, and comes back whole."""
    stored = watched.to_json()

    assert json.loads(json.dumps(stored)) == stored
    assert events.Watched.from_json(json.loads(json.dumps(stored))) == watched
    assert watched.ids == JobIds(watched.project_id, watched.job_id)


GOOD = events.write(Outcome(Ending.OVER, run(JobRunStatus.SUCCEEDED)), WATCHED)


def without(*path: str) -> dict[str, Any]:
    """The good event with one thing missing."""
    event: dict[str, Any] = json.loads(json.dumps(GOOD))
    place = event
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return event


def with_(value: object, *path: str) -> dict[str, Any]:
    """The good event with one thing changed."""
    event: dict[str, Any] = json.loads(json.dumps(GOOD))
    place = event
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return event


@pytest.mark.parametrize(
    "event",
    [
        None,
        "over",
        [],
        {},
        {"status": "success"},
        *(without(name) for name in ("version", "ending", "message", "run", "watched")),
        without("run", "id"),
        without("run", "status"),
        without("watched", "project_id"),
        without("watched", "excluded"),
        with_(2, "version"),
        with_("succeeded", "ending"),
        with_("dreaming", "run", "status"),
        with_("running", "run", "status"),
        with_("unknown", "run", "status"),
        with_(None, "run"),
        with_("a run", "run"),
        with_("soon", "run", "finished_at"),
        with_(1, "run", "of_a_later_version"),
        with_(1, "watched", "of_a_later_version"),
        with_(None, "watched", "excluded"),
    ],
    ids=lambda event: None,
)
def test_anything_else_is_an_error(event: object) -> None:
    """A lost, foreign or half event, or one of another version, is an EventError: never a success."""
    with pytest.raises(events.EventError):
        events.read(event)


def test_good_event_is_read() -> None:
    """The event the ones above were made of is good, so that each of them fails for its own reason."""
    outcome, watched = events.read(json.loads(json.dumps(GOOD)))

    assert outcome.run is not None
    assert outcome.run.status.is_success
    assert watched == WATCHED


def test_backstop_is_later_than_the_deadline() -> None:
    """Airflow's own timeout leaves the trigger time to report; without a limit there is none."""
    assert events.backstop(None) is None
    assert events.backstop(60) == timedelta(seconds=180)


def test_times_of_a_run() -> None:
    """Only the times CML has set are told."""
    assert events.run_times(run(JobRunStatus.FAILED, running_at=datetime(2026, 11, 21, tzinfo=UTC))) == {
        "running_at": "2026-11-21T00:00:00+00:00"
    }
