"""A line of tasks that wait for one job: who is let go, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.conversations.line import SHOW_UP, Line, Place
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus


def run(status: str, name: str = "r") -> JobRun:
    return JobRun(name, "p", "j", JobRunStatus(status))


def place(date: str, map_index: int = -1, not_before: float = 0.0) -> Place:
    return Place(date, map_index, f"{date} {map_index}", not_before)


def line_of(*places: Place) -> Line:
    line = Line()
    for found in places:
        line.enter(found)
    return line


@given(st.permutations([place(date, index) for date in ("01", "02", "03") for index in (-1, 0, 1)]))
def test_the_line_is_in_order_whoever_comes_first(places: list[Place]) -> None:
    """By date, then by map index."""
    line = line_of(*places)
    order = []
    moment = 0.0
    while len(order) < len(places):
        moment += SHOW_UP
        order.append(line.let_go([], moment))

    assert sorted(places) == order


@pytest.mark.parametrize("status", ["scheduling", "running", "stopping", "unknown"])
def test_nobody_goes_while_a_run_is_active(status: str) -> None:
    """The slot is taken."""
    line = line_of(place("01"))

    assert line.let_go([run("succeeded"), run(status)], 100) is None
    assert place("01") == line.let_go([run("succeeded")], 101)


@pytest.mark.parametrize("runs", [[], [run("succeeded")], [run("skipped"), run("failed")]])
def test_one_goes_per_free_slot(runs: list[JobRun]) -> None:
    """The next only when the runs show that the one before has used it, or did not come in time."""
    line = line_of(place("01"), place("02"), place("03"))

    first = line.let_go(runs, 100)
    at_once = line.let_go(runs, 101)
    late = line.let_go(runs, 100 + SHOW_UP)
    later = line.let_go(runs, 100 + 2 * SHOW_UP)

    assert (place("01"), None, place("02"), place("03")) == (first, at_once, late, later)


def test_a_run_that_came_and_went_frees_the_slot() -> None:
    """Seen active, or only its record: the next one goes at once."""
    line = line_of(place("01"), place("02"), place("03"))
    line.let_go([], 100)

    seen_after = line.let_go([run("succeeded", "new")], 101)
    seen_active = line.let_go([run("running", "newer"), run("succeeded", "new")], 102)
    afterwards = line.let_go([run("succeeded", "newer"), run("succeeded", "new")], 103)

    assert (place("02"), None, place("03")) == (seen_after, seen_active, afterwards)


def test_refusals_are_no_runs() -> None:
    """A SKIPPED entry neither takes the slot nor shows that it was used."""
    line = line_of(place("01"), place("02"))
    line.let_go([run("succeeded", "old")], 100)

    assert line.let_go([run("skipped", "new"), run("succeeded", "old")], 101) is None


def test_not_before() -> None:
    """Who has just come waits a moment; the next in line may go meanwhile."""
    line = line_of(place("01", not_before=200), place("02"))

    assert place("02") == line.let_go([], 100)
    assert line.let_go([run("succeeded", "new")], 150) is None
    assert place("01") == line.let_go([run("succeeded", "new")], 200)


def test_leaving() -> None:
    """Whoever leaves is not let go; leaving twice is fine, and nobody else's place is touched."""
    line = line_of(place("01"), place("02"))
    line.leave(place("01"))
    line.leave(place("01"))
    line.leave(place("03"))

    assert [place("02"), None] == [line.let_go([], moment) for moment in (100, 100 + SHOW_UP)]


def test_two_waits_of_one_task() -> None:
    """The one leaves, the other stays: a task that was cleared and deferred again stands in line twice for a moment."""
    old, new = (replace(place("01"), wait=number) for number in (1, 2))
    line = line_of(new, old)
    line.leave(old)

    assert [new, None] == [line.let_go([], moment) for moment in (100, 100 + SHOW_UP)]


def test_an_empty_line() -> None:
    """Nobody is let go, and the slot is not counted as used."""
    line = line_of()

    assert line.let_go([], 100) is None
    line.enter(place("01"))
    assert place("01") == line.let_go([], 101)
