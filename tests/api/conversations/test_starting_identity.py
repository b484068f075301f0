"""Whose run is it: the runs of other Airflows, of copies, of other iterations and of other releases, story by story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.start import Busy, Origin, Postponed, Progress, Start, Started
from airflow_provider_cml.api.conversations.starting import SETTLE, start_exactly_once
from airflow_provider_cml.api.errors import CmlSupersededError
from airflow_provider_cml.api.run_key import RunKey
from tests.api.conversations.paper import IDS, KEY, PaperJob, dag_run_age

HOST_A = replace(KEY, deployment="a.example")
HOST_B = replace(KEY, deployment="b.example", try_number=2)
LAPTOP = replace(KEY, deployment="localhost:8080")
PRODUCTION = replace(KEY, deployment="prod", is_configured=True)
COPY = replace(PRODUCTION, deployment="copy", try_number=2)
ITERATION = replace(KEY, loop_index=1, try_number=2)

STRANGERS = [
    pytest.param(replace(LAPTOP, start=KEY.start - 1), replace(LAPTOP, try_number=2), id="two laptops"),
    pytest.param(
        replace(PRODUCTION, start=KEY.start - 1), replace(COPY, start=KEY.start), id="a copy made again, both named"
    ),
    pytest.param(PRODUCTION, COPY, id="a copy, both named"),
    pytest.param(replace(ITERATION, loop_index=0, try_number=1), ITERATION, id="another iteration"),
    pytest.param(replace(ITERATION, region="9f00d1e2c3b4", try_number=1), ITERATION, id="an iteration made again"),
    pytest.param(replace(ITERATION, loop_index=-1, try_number=1), ITERATION, id="outside of the loop"),
]
"""The key of a run, and the key of a later try that has nothing to do with it."""


def begin(paper: PaperJob, key: RunKey, **settings: Any) -> Started | Busy | Postponed:
    settings.setdefault("dag_run_age", dag_run_age(paper, key))
    return paper.player.play(start_exactly_once(Start(IDS, key, waited=SETTLE, **settings)))


def started(paper: PaperJob, key: RunKey, **settings: Any) -> Started:
    outcome = begin(paper, key, **settings)
    assert isinstance(outcome, Started), outcome
    return outcome


# ------------------------------------------------------------------------------------------------ two base URLs


@pytest.mark.parametrize(("status", "origin"), [("running", Origin.CARRIED_ON), ("succeeded", Origin.SUCCEEDED_BEFORE)])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(HOST_A, HOST_B, id="two base URLs"),
        pytest.param(HOST_A, replace(HOST_B, deployment="prod", is_configured=True), id="one worker is configured"),
    ],
)
def test_workers_that_are_configured_differently(first: RunKey, second: RunKey, status: str, origin: Origin) -> None:
    """Without two names that were set, an equal start date says that it is one task: its run is carried on with."""
    paper = PaperJob()
    run_id = paper.add(status, first)

    outcome = started(paper, second)

    assert (run_id, origin, 0) == (outcome.run.id, outcome.origin, paper.posts)


def test_a_lost_start_of_the_other_worker_is_found() -> None:
    """The same try, begun again elsewhere."""
    paper = PaperJob()
    run_id = paper.add("failed", HOST_A)

    assert (run_id, Origin.FOUND) == ((found := started(paper, replace(HOST_B, try_number=1))).run.id, found.origin)


def test_another_base_url_neither_fences_nor_stops() -> None:
    """It may be a copy of the database: its newer try ends none of ours, its run of before a clear is waited for."""
    paper = PaperJob()
    paper.add("failed", replace(HOST_B, try_number=3))
    former = paper.add("running", replace(HOST_B, try_number=1), age=10)
    paper.set(former, "succeeded", after=100)

    outcome = started(paper, replace(HOST_A, try_number=2, max_tries=4))

    assert (Origin.STARTED, []) == (outcome.origin, paper.stopped)
    assert paper.started_at[0] >= 1100


def test_a_newer_try_of_another_base_url_is_not_adopted() -> None:
    """A run of a try after this one is none of its results: it is waited for like a foreign one."""
    paper = PaperJob()
    newer = paper.add("running", HOST_B)

    outcome = begin(paper, HOST_A, wait_when_busy=False)

    assert isinstance(outcome, Busy)
    assert (newer, 0, []) == (outcome.run and outcome.run.id, paper.posts, paper.stopped)


# ------------------------------------------------------------------------------------------------ strangers


@pytest.mark.parametrize(("other", "key"), STRANGERS)
@pytest.mark.parametrize("is_older", [True, False])
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_strangers_run_that_is_over(other: RunKey, key: RunKey, is_older: bool, status: str) -> None:
    """It fences nobody, whichever of the two is older, and is nobody's result."""
    paper = PaperJob()
    run_id = paper.add(status, other if is_older else key)
    mine = key if is_older else other

    outcome = started(paper, mine)

    assert (Origin.STARTED, False, 1) == (outcome.origin, outcome.run.id == run_id, paper.posts)


@pytest.mark.parametrize(("other", "key"), STRANGERS)
@pytest.mark.parametrize("is_older", [True, False])
def test_a_strangers_run_that_is_active(other: RunKey, key: RunKey, is_older: bool) -> None:
    """It is neither adopted nor stopped."""
    paper = PaperJob()
    run_id = paper.add("running", other if is_older else key)

    outcome = begin(paper, key if is_older else other, wait_when_busy=False)

    assert isinstance(outcome, Busy)
    assert (run_id, 0, []) == (outcome.run and outcome.run.id, paper.posts, paper.stopped)


@pytest.mark.parametrize(("other", "key"), STRANGERS)
def test_a_stranger_proves_nothing_about_the_earlier_try(other: RunKey, key: RunKey) -> None:
    """The try before may have a start in flight all the same."""
    paper = PaperJob()
    paper.add("failed", other)

    outcome = paper.player.play(start_exactly_once(Start(IDS, key, can_defer=True)))

    assert isinstance(outcome, Postponed)
    assert (SETTLE, False) == (outcome.seconds, outcome.for_job)


@pytest.mark.parametrize("key", [LAPTOP, replace(LAPTOP, deployment="a.example"), PRODUCTION])
def test_one_airflow_fences_and_stops(key: RunKey) -> None:
    """Equal names and an equal start date: one laptop, too, is a newer try of itself."""
    paper = PaperJob()
    paper.add("skipped", replace(key, try_number=2))
    with pytest.raises(CmlSupersededError):
        begin(paper, key)
    left = paper.add("running", replace(key, try_number=2), age=0)

    assert Origin.STARTED is started(paper, replace(key, try_number=3, max_tries=5)).origin
    assert [left] == paper.stopped


# ------------------------------------------------------------------------------------------------ other releases


def of_next_release(key: RunKey) -> str:
    """The text of a key with a fact that this release does not know."""
    return str(replace(key, version="v3", post="1.aaaa")) + ";cluster=eu"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("wait_when_busy", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_active_run_of_another_release_is_waited_for(durable: bool, wait_when_busy: bool, number: int) -> None:
    """It may be ours, so it is no reason to fail or skip; nor is it adopted, stopped or a fence."""
    paper = PaperJob()
    run_id = paper.add_with(of_next_release(replace(KEY, try_number=2)))
    paper.set(run_id, "succeeded", after=100)

    outcome = started(paper, replace(KEY, try_number=number), wait_when_busy=wait_when_busy, durable=durable)

    assert (Origin.STARTED, False, []) == (outcome.origin, outcome.run.id == run_id, paper.stopped)
    assert paper.started_at[0] >= 1100


def test_waiting_for_another_release_can_be_left_to_the_caller() -> None:
    """Where busy means fail or skip, it is time that has to pass, not the job that is waited for."""
    paper = PaperJob()
    run_id = paper.add_with(of_next_release(KEY))

    outcome = begin(paper, KEY, wait_when_busy=False, can_defer=True)

    assert isinstance(outcome, Postponed)
    assert (f"run {run_id} of this job is running", False, Progress()) == (
        outcome.reason,
        outcome.for_job,
        outcome.progress,
    )


def test_another_tasks_run_of_another_release_is_foreign() -> None:
    """Its ids are known."""
    paper = PaperJob()
    paper.add_with(of_next_release(replace(KEY, dag_id="other")))

    assert isinstance(begin(paper, KEY, wait_when_busy=False), Busy)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_clear_does_not_stop_a_run_of_another_release(number: int) -> None:
    """The fact that is not known may tell that it is another task's."""
    paper = PaperJob()
    run_id = paper.add_with(of_next_release(replace(KEY, start=KEY.start - 1)))
    paper.set(run_id, "succeeded", after=50)

    assert Origin.STARTED is started(paper, replace(KEY, try_number=number, max_tries=9)).origin
    assert [] == paper.stopped


@pytest.mark.parametrize("text", ["", "v1;prod;daily;run 1", "v3;dag=daily", "{}"])
def test_what_is_no_key_is_foreign(text: str) -> None:
    """A variable that another program wrote under this name."""
    paper = PaperJob()
    paper.add_with(text)

    assert isinstance(begin(paper, KEY, wait_when_busy=False), Busy)
