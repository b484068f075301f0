"""What a job's list of runs has shown to one process."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS
from airflow_provider_cml.api.conversations.history import (
    DEEPEST,
    DEEPEST_EXECUTED,
    FARTHEST,
    FIRST_PATIENCE,
    LATER_PATIENCE,
    LISTED_WITHIN,
    SINGLE_LOOKS_AT_MOST,
    History,
)
from airflow_provider_cml.api.errors import CmlProtocolError, CmlServerError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Request, Response
from tests.api.conversations.paper import EPOCH, IDS, KEY, PaperJob, try_number
from tests.api.playing import Player, document

if TYPE_CHECKING:
    from tests.api.playing import Outcome


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


def filled(**counts: int) -> PaperJob:
    """A job with so many runs since a moment, and before it, in the order in which they are named."""
    paper = PaperJob()
    for name, count in counts.items():
        status, _, when = name.partition("_")
        age = {"since": 50_000.0, "before": 150_000.0}[when]
        begin = len(paper.runs)
        paper.runs += [
            {"id": f"run{n}", "created": paper.player.now - age - n, "status": status, "environment": {"A": "b"}}
            for n in range(begin, begin + count)
        ]
    return paper


def moment(paper: PaperJob) -> datetime:
    """The moment that `filled` means."""
    return EPOCH + timedelta(seconds=paper.player.now - 100_000)


@pytest.mark.parametrize("status", ["succeeded", "skipped"])
@pytest.mark.parametrize(
    ("since", "pages", "is_cut"),
    [(0, 10, False), (1234, 13, False), (FARTHEST - 1, 100, False), (FARTHEST, 100, True)],
)
def test_a_look_since_a_moment(status: str, since: int, pages: int, is_cut: bool) -> None:
    """It reads on to the first entry that is older, as far as any first look at least; where it cannot it says so."""
    paper = filled(**{f"{status}_since": since, "skipped_before": 1200})

    history = looked(paper, History(IDS, moment(paper)))

    assert (pages, is_cut) == (len(paper.player.requests), history.is_cut)


def test_a_later_look_since_a_moment_reads_one_page() -> None:
    """What the first look has seen it need not see again; and what it could not see stays unseen."""
    paper = filled(succeeded_since=FARTHEST + 1)
    history = looked(paper, History(IDS, moment(paper)))

    looked(paper, history)

    assert (1, True) == (len(paper.player.requests), history.is_cut)


@pytest.mark.parametrize(("entries", "is_cut"), [(1999, False), (2001, True)])
def test_entries_without_a_date_may_be_of_any_time(entries: int, is_cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only the end of the list is an end."""
    monkeypatch.setattr("airflow_provider_cml.api.conversations.history.FARTHEST", 2000)
    paper = filled(succeeded_before=entries)
    paper.is_dated = False

    history = looked(paper, History(IDS, moment(paper)))

    assert (20, is_cut) == (len(paper.player.requests), history.is_cut)


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


@pytest.mark.parametrize(
    ("counts", "singles", "is_cut"),
    [
        pytest.param({"succeeded_since": 3, "succeeded_before": 40}, SINGLE_LOOKS, False, id="few since"),
        pytest.param({"succeeded_since": 40, "succeeded_before": 40}, 40, False, id="many since"),
        pytest.param({"skipped_since": 40, "succeeded_since": 3}, SINGLE_LOOKS + 3, False, id="many refusals"),
        pytest.param({"succeeded_since": SINGLE_LOOKS_AT_MOST}, SINGLE_LOOKS_AT_MOST, False, id="as many as can be"),
        pytest.param({"succeeded_since": SINGLE_LOOKS_AT_MOST + 1}, SINGLE_LOOKS_AT_MOST, True, id="too many"),
    ],
)
def test_runs_since_a_moment_in_lists_without_environments(counts: dict[str, int], singles: int, is_cut: bool) -> None:
    """Each run that ran since then is asked for; where they are too many it says so. Refusals are no runs."""
    paper = filled(**counts)
    paper.list_echoes = False

    history = looked(paper, History(IDS, moment(paper)))

    asked = [request for request in paper.player.asked if not request.endswith("/runs")]
    assert (singles, is_cut) == (len(asked), history.is_cut)


def test_a_workspace_that_shows_nothing_is_not_asked_for_all() -> None:
    """A few runs that show no environment when asked for are enough; what the others are stays unknown."""
    paper = filled(succeeded_since=40)
    paper.echoes = False

    history = looked(paper, History(IDS, moment(paper)))

    assert (1 + SINGLE_LOOKS, False, True) == (len(paper.player.requests), history.echoes, history.is_cut)


def test_a_list_that_shows_environments_shows_ours() -> None:
    """Runs that have none, of jobs and projects without variables, are not taken for ours that are not shown."""
    paper = filled(succeeded_since=40)
    for run in paper.runs[1:]:
        run["environment"] = None

    history = looked(paper, History(IDS, moment(paper)))

    assert (1 + SINGLE_LOOKS, False) == (len(paper.player.requests), history.is_cut)


def test_all_that_ran_since_the_last_look_is_asked_for() -> None:
    """In lists without environments, too: after an outage our own run may stand below a dozen others."""
    paper = PaperJob()
    paper.list_echoes = False
    history = looked(paper)
    mine = paper.add("running", KEY, age=500)
    for number in range(SINGLE_LOOKS + 5):
        paper.add("succeeded", age=400 - number)

    assert [mine] == [run.id for _, run in looked(paper, history).keyed]


@pytest.mark.parametrize("is_deep", [True, False])
def test_patience_with_single_runs(is_deep: bool) -> None:
    """A later look that asks for a run by itself, because lists do not show it, outlasts as much as the list."""
    paper = PaperJob()
    paper.list_echoes = is_deep
    run_id = paper.add("running", KEY, age=90_000)
    history = looked(paper, History(IDS) if is_deep else None)
    if is_deep:
        paper.runs += filled(skipped_since=DEEPEST + 50).runs
        paper.runs.sort(key=lambda run: float(run["created"]), reverse=True)
    else:
        run_id = paper.add("running", KEY, age=1)
    answering, until = paper.player.script[0], paper.player.now + LATER_PATIENCE / 2
    assert callable(answering)

    def away(request: Request) -> Outcome:
        return Response(503) if request.path.endswith(run_id) and paper.player.now < until else answering(request)

    paper.player.script = [away]

    assert run_id in [run.id for _, run in looked(paper, history).keyed]


def test_no_echo_anywhere() -> None:
    """Neither list nor run shows an environment: nothing can be found by key."""
    paper = PaperJob()
    paper.echoes = False
    paper.add("succeeded", KEY)

    history = looked(paper)

    assert ([], False) == (history.keyed, history.echoes)
