"""What a job's list of runs has shown to one process."""

from __future__ import annotations

import pytest

from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS
from airflow_provider_cml.api.conversations.history import (
    DEEPEST,
    DEEPEST_EXECUTED,
    FIRST_PATIENCE,
    LATER_PATIENCE,
    LISTED_WITHIN,
    History,
)
from airflow_provider_cml.api.errors import CmlProtocolError, CmlServerError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Response
from tests.api.conversations.paper import IDS, KEY, PaperJob, try_number
from tests.api.playing import Player, document


def looked(paper: PaperJob, history: History | None = None) -> History:
    history = history or History(IDS)
    paper.player.requests.clear()
    paper.player.play(history.look())
    return history


def ids(history: History) -> list[str]:
    return [run.id for run in history]


def test_an_empty_list() -> None:
    """Nothing is there, and nothing speaks against echoes."""
    history = looked(PaperJob())

    assert ([], [], [], True) == (ids(history), history.active, history.keyed, history.echoes)


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_runs_are_in_the_lists_order(page_size: int) -> None:
    """Newest first, whatever the size of a page; active ones and those with a key are told."""
    paper = PaperJob(page_size=page_size)
    oldest, middle, newest = (
        paper.add("succeeded", KEY, age=30),
        paper.add("running", age=20),
        paper.add("failed", age=10),
    )

    history = looked(paper)

    assert [newest, middle, oldest] == ids(history)
    assert [middle] == [run.id for run in history.active]
    assert [(KEY.with_post("1.aaaa"), oldest)] == [(key, run.id) for key, run in history.keyed]


def test_the_times_of_a_look() -> None:
    """When it was sent, and when it was answered."""
    paper = PaperJob(latency=4.0)
    history = looked(paper)

    assert (1000.0, 1004.0) == (history.looked_at, history.seen_at)


def test_a_later_look_reads_one_page() -> None:
    """The first look goes deep; a later one to where no new entry can appear."""
    paper = PaperJob(page_size=10)
    for number in range(50):
        paper.add("succeeded", age=10_000 - 200 * number)
    history = looked(paper)
    first = len(paper.player.requests)

    new = paper.add("running", age=0)
    looked(paper, history)

    assert (5, 1, new, 51) == (first, len(paper.player.requests), ids(history)[0], len(ids(history)))


def test_a_run_listed_late_is_seen() -> None:
    """It stands below entries that are newer than itself, perhaps not on the first page."""
    paper = PaperJob(page_size=2)
    for age in (1000, 300, 4, 3, 2, 1):
        paper.add("skipped", age=age)
    history = looked(paper)

    late = paper.add("running", KEY, age=LISTED_WITHIN - 5)
    looked(paper, history)

    assert [late] == [run.id for run in history.active]


def test_a_later_look_reads_on_to_what_was_active() -> None:
    """A run that was active is followed down the list, however many refusals have pushed it there."""
    paper = PaperJob(page_size=10)
    for age in (5000, 4000):
        paper.add("succeeded", age=age)
    active = paper.add("running", age=3000)
    history = looked(paper)
    for number in range(35):
        paper.add("skipped", age=100 - number)
    paper.set(active, "succeeded")

    looked(paper, history)

    assert ([], 4) == (history.active, len(paper.player.requests))


def test_an_active_run_that_lies_too_deep_is_asked_for() -> None:
    """Below a thousand entries a list is not read; the run itself can be."""
    paper = PaperJob()
    active = paper.add("running", KEY, age=90_000)
    history = looked(paper)
    for number in range(DEEPEST + 50):
        paper.add("skipped", age=50_000 - number)
    paper.set(active, "failed")

    looked(paper, history)

    assert ([], DEEPEST // 100 + 1) == (history.active, len(paper.player.requests))
    assert [active] == [run.id for key, run in history.keyed if run.status is JobRunStatus.FAILED]


def test_an_active_run_that_is_gone_is_forgotten() -> None:
    """Deleted with its job, or by hand."""
    paper = PaperJob()
    paper.add("running")
    history = looked(paper)
    paper.runs.clear()

    looked(paper, history)

    assert [] == ids(history)


@pytest.mark.parametrize(
    ("status", "entries", "requests"), [("succeeded", 350, DEEPEST_EXECUTED // 10), ("skipped", 1500, DEEPEST // 10)]
)
def test_the_first_look_has_a_bottom(status: str, entries: int, requests: int) -> None:
    """A hundred runs that ran, or a thousand entries."""
    paper = PaperJob(page_size=10)
    for number in range(entries):
        paper.add(status, age=10_000 - number)

    looked(paper)

    assert requests == len(paper.player.requests)


def test_own_runs_below_a_thousand_waiters_refusals() -> None:
    """Refusals do not count as depth: our own run below hundreds of them is found."""
    paper = PaperJob()
    mine = paper.add("succeeded", KEY, age=90_000)
    for number in range(900):
        paper.add("skipped", age=50_000 - number)

    assert [mine] == [run.id for _, run in looked(paper).keyed]


@pytest.mark.parametrize("tokens", [["x", "x"], ["x", "y", "x"]])
def test_pages_that_repeat_are_an_error(tokens: list[str]) -> None:
    """A list that never ends is "could not ask", never "not found"."""
    entry = {"id": "r", "status": "ENGINE_SUCCEEDED", "environment": "{}"}
    player = Player(*[document({"job_runs": [entry], "next_page_token": token}) for token in tokens])

    with pytest.raises(CmlProtocolError, match="same page token came twice"):
        player.play(History(IDS).look())


def test_an_entry_shifted_to_the_next_page_counts_once() -> None:
    """An entry made between two pages shifts the rest: the last one of a page is the first of the next again."""
    entries = [{"id": name, "status": "ENGINE_RUNNING", "environment": "{}"} for name in "abc"]
    again = {**entries[1], "status": "ENGINE_FAILED"}
    history = History(IDS)

    Player(
        document({"job_runs": entries[:2], "next_page_token": "x"}),
        document({"job_runs": [again, entries[2]], "next_page_token": ""}),
    ).play(history.look())

    assert (["a", "b", "c"], ["a", "c"]) == (ids(history), [run.id for run in history.active])


@pytest.mark.parametrize(("looks", "patience"), [(0, FIRST_PATIENCE), (1, LATER_PATIENCE)])
def test_patience(looks: int, patience: float) -> None:
    """A wrong address is told soon; somebody who waits for hours outlasts ten minutes of failures."""
    paper = PaperJob()
    history = History(IDS)
    for _ in range(looks):
        looked(paper, history)
    began = paper.player.now
    paper.failing = [Response(503)] * 500

    with pytest.raises(CmlServerError):
        looked(paper, history)

    assert patience - 30 <= paper.player.now - began <= patience


def test_a_failed_look_forgets_nothing() -> None:
    """What was seen stays seen, and the next look is a first look only if none succeeded."""
    paper = PaperJob()
    run_id = paper.add("running")
    history = looked(paper)
    paper.failing = [Response(404)]

    with pytest.raises(Exception, match="404"):
        looked(paper, history)

    assert [run_id] == ids(history)


# ------------------------------------------------------------------------------------------------ echoes


def test_lists_without_environments() -> None:
    """The newest are asked one by one, once each, a few at most."""
    paper = PaperJob()
    paper.list_echoes = False
    for number in range(SINGLE_LOOKS + 5):
        paper.add("succeeded", try_number(number), age=1000 - number)

    history = looked(paper)
    first = len(paper.player.requests)
    looked(paper, history)

    assert (SINGLE_LOOKS + 1, 1) == (first, len(paper.player.requests))
    assert (SINGLE_LOOKS, True) == (len(history.keyed), history.echoes)


def test_a_new_entry_of_a_list_without_environments() -> None:
    """Only the new one is asked for, and its later status comes from the list."""
    paper = PaperJob()
    paper.list_echoes = False
    paper.add("succeeded", age=100)
    history = looked(paper)
    mine = paper.add("running", KEY, age=1)

    looked(paper, history)
    asked = len(paper.player.requests)
    paper.set(mine, "succeeded")
    looked(paper, history)

    assert (2, 1) == (asked, len(paper.player.requests))
    assert [(KEY.with_post("1.aaaa"), JobRunStatus.SUCCEEDED)] == [(key, run.status) for key, run in history.keyed]


def test_no_echo_anywhere() -> None:
    """Neither list nor run shows an environment: nothing can be found by key."""
    paper = PaperJob()
    paper.echoes = False
    paper.add("succeeded", KEY)

    history = looked(paper)

    assert ([], False) == (history.keyed, history.echoes)
