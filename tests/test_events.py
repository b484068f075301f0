"""Events: of this release or another, but understood, or not read at all."""

from __future__ import annotations

import json
from dataclasses import make_dataclass
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
        *(without(name) for name in ("version", "ending", "run", "watched")),
        *(without("run", name) for name in ("id", "project_id", "job_id", "status")),
        without("watched", "project_id"),
        without("watched", "job_id"),
        with_(2, "version"),
        with_("succeeded", "ending"),
        with_("dreaming", "run", "status"),
        with_("running", "run", "status"),
        with_("unknown", "run", "status"),
        with_(None, "run"),
        with_("a run", "run"),
        with_(None, "ending"),
        with_({}, "ending"),
    ],
    ids=lambda event: None,
)
def test_anything_else_is_an_error(event: object) -> None:
    """A lost, foreign or half event, or one of another version, is an EventError: never a success."""
    with pytest.raises(events.EventError):
        events.read(event)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({}, ("message",)),
        ("a run", ("run",)),
        ({}, ("run", "status")),
        ({}, ("run", "arguments")),
        ({}, ("run", "run_key")),
        ("yes", ("run", "echoes")),
        ("soon", ("run", "finished_at")),
        (1_790_000_000, ("run", "finished_at")),
        ({}, ("watched", "project_id")),
        (None, ("watched", "run_id")),
        ("soon", ("watched", "deadline")),
        (1.5, ("watched", "losses")),
        (None, ("watched", "excluded")),
        ("a", ("watched", "excluded")),
        (["a", {}], ("watched", "excluded")),
    ],
)
def test_value_of_another_kind_is_named(value: object, path: tuple[str, ...]) -> None:
    """The error says which field it was."""
    with pytest.raises(events.EventError, match=rf"{path[-1]}: "):
        events.read(with_(value, *path))


def test_missing_job_is_named() -> None:
    """Whoever does not know its job knows nothing."""
    with pytest.raises(events.EventError, match="job_id"):
        events.Watched.from_json({"project_id": "p"})


@pytest.mark.parametrize("path", [(), ("run",), ("watched",)])
@pytest.mark.parametrize("value", ["text", 1, None, {"a": [1]}], ids=str)
def test_unknown_fields_are_ignored(path: tuple[str, ...], value: object) -> None:
    """A triggerer of a later release may tell more."""
    assert events.read(with_(value, *path, "of_a_later_release")) == events.read(GOOD)


def test_missing_fields_have_their_defaults() -> None:
    """A triggerer of an earlier release may tell less: the least that can be understood."""
    job = {"project_id": "p", "job_id": "j"}
    event = {"version": 1, "ending": "over", "run": {"id": "r", **job, "status": "succeeded"}, "watched": job}

    assert events.read(event) == (
        Outcome(Ending.OVER, JobRun("r", "p", "j", JobRunStatus.SUCCEEDED)),
        events.Watched("p", "j"),
    )
    assert events.read({"version": 1, "ending": "free", "watched": job})[0] == Outcome(Ending.FREE)


def test_status_that_is_not_known() -> None:
    """It reads as unknown, as CML's own words do; a run that is said to be over is not over by it (above)."""
    event = with_("dreaming", "run", "status") | {"ending": "timed out"}
    outcome, _ = events.read(event)

    assert outcome.run is not None
    assert outcome.run.status is JobRunStatus.UNKNOWN


def test_later_release_tells_an_earlier_one_and_the_reverse() -> None:
    """Values with a field more are written and read as those without; those without as ones with a default."""
    more = [("mood", "str", "calm")]
    later_watched: Any = make_dataclass("Watched", more, bases=(events.Watched,), frozen=True)
    later_run: Any = make_dataclass("JobRun", more, bases=(JobRun,), frozen=True)
    known = {**WATCHED.to_json(), "excluded": WATCHED.excluded}
    seen = later_run("r", "p", "j", JobRunStatus.FAILED, mood="sad")
    told = json.loads(json.dumps(events.write(Outcome(Ending.OVER, seen), later_watched(**known, mood="sad"))))

    assert (told["run"]["mood"], told["watched"]["mood"]) == ("sad", "sad")
    assert events.read(told) == (Outcome(Ending.OVER, JobRun("r", "p", "j", JobRunStatus.FAILED)), WATCHED)
    assert later_watched.from_json(told["watched"]) == later_watched(**known, mood="sad")
    assert later_watched.from_json(WATCHED.to_json()) == later_watched(**known)


# As 0.1.0 writes it. It stays as it is, and must be readable for ever: a task may sleep through any upgrade.
SAMPLE = """
{
  "version": 1,
  "ending": "over",
  "message": "",
  "run": {
    "id": "1dfqjbrb1c3o6256",
    "project_id": "m6qy-tt5n-n1dz-srf0",
    "job_id": "27y1-ht44-z4m4-3zw9",
    "status": "succeeded",
    "word": "ENGINE_SUCCEEDED",
    "created_at": "2026-11-21T06:00:00+00:00",
    "scheduling_at": "2026-11-21T06:00:01+00:00",
    "starting_at": "2026-11-21T06:00:02+00:00",
    "running_at": "2026-11-21T06:00:03+00:00",
    "finished_at": "2026-11-21T06:10:00.250000+00:00",
    "arguments": "--fast",
    "creator": "alice",
    "run_key": "v1;a",
    "echoes": true
  },
  "watched": {
    "project_id": "m6qy-tt5n-n1dz-srf0",
    "job_id": "27y1-ht44-z4m4-3zw9",
    "run_id": "1dfqjbrb1c3o6256",
    "run_key": "v1;a",
    "run_url": "https://ml/alice/risk/jobs",
    "began": 1790000000.5,
    "losses": 1,
    "deadline": 1790000600.0,
    "busy_deadline": 1790000300.0,
    "refusals": 0,
    "excluded": ["a", "b"],
    "waited": 12.5
  }
}
"""


def test_sample_is_readable_for_ever() -> None:
    """What the first release wrote, word for word; and what is written today tells those releases as much."""
    sample = json.loads(SAMPLE)
    outcome, watched = events.read(sample)
    today = events.write(outcome, watched)

    assert watched == WATCHED
    assert outcome == Outcome(
        Ending.OVER,
        run(
            JobRunStatus.SUCCEEDED,
            created_at=datetime(2026, 11, 21, 6, 0, 0, tzinfo=UTC),
            scheduling_at=datetime(2026, 11, 21, 6, 0, 1, tzinfo=UTC),
            starting_at=datetime(2026, 11, 21, 6, 0, 2, tzinfo=UTC),
            running_at=datetime(2026, 11, 21, 6, 0, 3, tzinfo=UTC),
            finished_at=datetime(2026, 11, 21, 6, 10, 0, 250_000, tzinfo=UTC),
            arguments="--fast",
            creator="alice",
            run_key="v1;a",
            echoes=True,
        ),
    )
    merged = {**sample, **{part: today[part] | sample[part] for part in ("run", "watched")}}
    assert today | merged == today


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
