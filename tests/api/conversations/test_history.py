"""What a job's list of runs has shown to one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS
from airflow_provider_cml.api.conversations.history import (
    AGE_MARGIN,
    CLOCK_MARGIN,
    DEEPEST,
    FARTHEST,
    FIRST_ENTRIES,
    LISTED_WITHIN,
    OUTAGE_PATIENCE,
    SINGLE_LOOKS_AT_MOST,
    UNREACHABLE_PATIENCE,
    History,
)
from airflow_provider_cml.api.conversations.start import Start
from airflow_provider_cml.api.errors import CmlProtocolError, CmlResponseTooLargeError, CmlUnavailableError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Request, Response
from tests.api.conversations.paper import IDS, KEY, PaperJob, dag_run_age, of_dag_run, try_number
from tests.api.playing import Player, document, grpc_error, html, lost, unsent

if TYPE_CHECKING:
    from tests.api.playing import Outcome

BEGAN = 100_000.0
"""Seconds ago when the dag run of `filled` jobs began."""


def history_of(paper: PaperJob, key: RunKey = KEY, **settings: Any) -> History:
    return History(Start(IDS, key, dag_run_age=dag_run_age(paper, key), **settings))


def history_since(paper: PaperJob) -> History:
    """Of a later try, of a dag run that began in the midst of what `filled` has entered."""
    return history_of(paper, of_dag_run(paper, BEGAN, try_number=2))


def looked(paper: PaperJob, history: History | None = None, *, for_active: bool = False) -> History:
    history = history or history_of(paper)
    paper.player.requests.clear()
    paper.player.play(history.look(for_active=for_active))
    return history


def ids(history: History) -> list[str]:
    return [run.id for run in history]


def test_an_empty_list() -> None:
    """Nothing is there, and nothing is hidden."""
    history = looked(PaperJob())

    assert ([], [], [], []) == (ids(history), history.active, history.keyed, history.unreadable)


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
    """The first look reads what it needs; a later one down to where no new entry can appear."""
    paper = PaperJob(page_size=10)
    for number in range(50):
        paper.add("succeeded", age=10_000 - 200 * number)
    history = looked(paper)
    first = len(paper.player.requests)

    new = paper.add("running", age=0)
    looked(paper, history)

    assert (FIRST_ENTRIES // 10, 1, new, FIRST_ENTRIES + 1) == (
        first,
        len(paper.player.requests),
        ids(history)[0],
        len(ids(history)),
    )


def test_a_run_listed_late_is_seen() -> None:
    """It stands below entries that are newer than itself, perhaps not on the first page."""
    paper = PaperJob(page_size=2)
    for age in (1000, 300, 4, 3, 2, 1):
        paper.add("skipped", age=age)
    history = looked(paper)

    late = paper.add("running", KEY, age=LISTED_WITHIN.total_seconds() - 5)
    looked(paper, history)

    assert [late] == [run.id for run in history.active]


@pytest.mark.parametrize("status", ["running", "succeeded"])
def test_what_was_active_is_followed(status: str) -> None:
    """However many rejected starts have pushed it down: it is asked for by itself where the look does not reach it."""
    paper = PaperJob(page_size=2)
    active = paper.add("running", age=3000)
    for age in (1000, 990, 980, 500):
        paper.add("skipped", age=age)
    history = looked(paper)
    for number in range(35):
        paper.add("skipped", age=100 - number)
    paper.set(active, status)

    looked(paper, history)

    assert [active] * (status == "running") == [run.id for run in history.active]
    assert paper.player.asked[-1].endswith(f"/runs/{active}")


def test_an_active_run_that_lies_too_deep_is_asked_for() -> None:
    """Below a thousand entries a list is not read; the run itself can be."""
    paper = PaperJob()
    active = paper.add("running", KEY, age=90_000)
    history = looked(paper)
    for number in range(DEEPEST + 50):
        paper.add("skipped", age=50_000 - number)
    paper.set(active, "failed")

    looked(paper, history)

    assert ([], DEEPEST // FIRST_ENTRIES + 1) == (history.active, len(paper.player.requests))
    assert [active] == [run.id for key, run in history.keyed if run.status is JobRunStatus.FAILED]


def test_an_active_run_that_is_gone_is_forgotten() -> None:
    """Deleted with its job, or by hand."""
    paper = PaperJob()
    paper.add("running")
    history = looked(paper)
    paper.runs.clear()

    looked(paper, history)

    assert [] == ids(history)


@pytest.mark.parametrize(("page_size", "requests"), [(1, FIRST_ENTRIES), (10, 2), (100, 1)])
@pytest.mark.parametrize("status", ["succeeded", "skipped"])
def test_a_first_try_reads_twenty_entries(status: str, page_size: int, requests: int) -> None:
    """It needs what is active, and nothing of its own is further back; entries may be large, so it asks for no more."""
    paper = PaperJob(page_size=page_size)
    for number in range(150):
        paper.add(status, age=10_000 - number)

    history = looked(paper)

    assert (requests, FIRST_ENTRIES, False) == (len(paper.player.requests), len(ids(history)), history.is_cut)
    assert {str(FIRST_ENTRIES)} == {dict(request.query)["page_size"] for request in paper.player.requests}


@pytest.mark.parametrize("number", [1, 2])
def test_a_look_for_what_is_active_reads_on(number: int) -> None:
    """A rejected start has told that there is an active run: below the records of rejected starts, however many."""
    paper = PaperJob(page_size=10)
    active = paper.add("running", age=5000)
    for entry in range(130):
        paper.add("skipped", age=1000 - entry)
    history = looked(paper, history_of(paper, of_dag_run(paper, 2000, try_number=1)))
    before = history.active

    for _ in range(number):
        looked(paper, history, for_active=True)

    assert ([], [active]) == (before, [run.id for run in history.active])
    assert (14, {str(FIRST_ENTRIES)}) == (
        len(paper.player.requests),
        {dict(request.query)["page_size"] for request in paper.player.requests},
    )


def test_a_look_for_what_is_active_has_a_bottom() -> None:
    """A thousand entries."""
    paper = filled(skipped_since=DEEPEST + 50)

    history = looked(paper, for_active=True)

    assert (DEEPEST // FIRST_ENTRIES, DEEPEST) == (len(paper.player.requests), len(ids(history)))


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


@pytest.mark.parametrize("status", ["succeeded", "skipped"])
@pytest.mark.parametrize(
    ("since", "pages", "is_cut"),
    [
        (0, 1, False),
        (99, 1, False),
        (100, 2, False),
        (1234, 13, False),
        (FARTHEST - 1, 100, False),
        (FARTHEST, 100, True),
    ],
)
def test_a_later_try_reads_back_to_its_dag_run(status: str, since: int, pages: int, is_cut: bool) -> None:
    """The first look reads on to the first entry that is older; where it cannot it says so."""
    paper = filled(**{f"{status}_since": since, "skipped_before": 1200})

    history = looked(paper, history_since(paper))

    assert (pages, is_cut) == (len(paper.player.requests), history.is_cut)


def test_a_later_look_of_a_later_try_reads_one_page() -> None:
    """What the first look has seen it need not see again; and what it could not see stays unseen."""
    paper = filled(succeeded_since=FARTHEST + 1)
    history = looked(paper, history_since(paper))

    looked(paper, history)

    assert (1, True) == (len(paper.player.requests), history.is_cut)


@pytest.mark.parametrize(("entries", "is_cut"), [(1999, False), (2001, True)])
def test_entries_without_a_date_may_be_of_any_time(entries: int, is_cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only the end of the list is an end."""
    monkeypatch.setattr("airflow_provider_cml.api.conversations.history.FARTHEST", 2000)
    paper = filled(succeeded_before=entries)
    paper.is_dated = False

    history = looked(paper, history_since(paper))

    assert (20, is_cut) == (len(paper.player.requests), history.is_cut)


def test_own_runs_below_the_records_of_a_thousand_waiters() -> None:
    """A later try finds its own run below hundreds of rejected starts."""
    paper = PaperJob()
    mine = paper.add("succeeded", of_dag_run(paper, BEGAN), age=90_000)
    for number in range(900):
        paper.add("skipped", age=50_000 - number)

    assert [mine] == [run.id for _, run in looked(paper, history_since(paper)).keyed]


AGE, CLOCK = AGE_MARGIN.total_seconds(), CLOCK_MARGIN.total_seconds()


@pytest.mark.parametrize(
    ("has_date", "clock", "older_by", "is_before"),
    [
        # Ages are compared: neither clock matters, however far they are apart.
        *((True, clock, AGE - 5, False) for clock in (0.0, 600.0, -600.0, 1e6, -1e6)),
        *((True, clock, AGE + 5, True) for clock in (0.0, 600.0, -600.0, 1e6, -1e6)),
        # Without CML's clock its dates are compared with Airflow's, within a day.
        *((False, clock, AGE + 5, False) for clock in (0.0, 600.0, -600.0)),
        *((False, clock, CLOCK - 700, False) for clock in (0.0, 600.0, -600.0)),
        *((False, clock, CLOCK + 700, True) for clock in (0.0, 600.0, -600.0)),
    ],
)
@pytest.mark.parametrize("passed", [0.0, 7200.0])
def test_what_is_older_than_the_dag_run(
    has_date: bool, clock: float, older_by: float, is_before: bool, passed: float
) -> None:
    """A run is none of the dag run's if it is older by more than what the clocks may be mistaken; at any later look."""
    paper = PaperJob()
    paper.has_date, paper.clock = has_date, clock
    run_id = paper.add_by_hand(age=5000 + older_by)
    paper.add_by_hand(age=4999)
    history = looked(paper, history_of(paper, of_dag_run(paper, 5000, try_number=2)))
    paper.player.now += passed
    looked(paper, history)

    assert [is_before, False] == [history.is_before_dag_run(run) for run in sorted(history, key=lambda run: run.id)]
    assert run_id in ids(history)


@pytest.mark.parametrize("has_date", [True, False])
def test_what_may_be_of_any_time(has_date: bool) -> None:
    """Under a nonce no run is too old, because the dag run's date is the logical one; nor one that has no date."""
    paper = PaperJob()
    paper.has_date = has_date
    paper.add("succeeded", age=1e7)
    under_nonce = looked(paper, history_of(paper, of_dag_run(paper, 10, nonce="0a1b", try_number=2)))
    paper.is_dated = False
    undated = looked(paper, history_since(paper))

    assert [False, False] == [history.is_before_dag_run(run) for history in (under_nonce, undated) for run in history]


@pytest.mark.parametrize(("late", "may_be_new"), [(-5.0, True), (5.0, False)])
def test_what_may_have_begun_since_the_first_look(late: float, may_be_new: bool) -> None:
    """A run is listed late by so much at most, measured by CML's own clock; an older one that is seen now is old."""
    paper = PaperJob()
    paper.clock = 1e6
    paper.add("succeeded", age=100)
    history = looked(paper)
    paper.add("succeeded", age=100 + LISTED_WITHIN.total_seconds() + late)
    looked(paper, history)

    assert [True, may_be_new] == [history.may_be_new(run) for run in history]


# ------------------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize("tokens", [["x", "x"], ["x", "y", "x"]])
def test_pages_that_repeat_are_an_error(tokens: list[str]) -> None:
    """A list that never ends is "could not ask", never "not found"."""
    entry = {"id": "r", "status": "ENGINE_SUCCEEDED", "environment": "{}"}
    player = Player(*[document({"job_runs": [entry], "next_page_token": token}) for token in tokens])

    with pytest.raises(CmlProtocolError, match="same page token came twice"):
        player.play(History(Start(IDS, KEY)).look())


def test_an_entry_shifted_to_the_next_page_counts_once() -> None:
    """An entry made between two pages shifts the rest: the last one of a page is the first of the next again."""
    entries = [{"id": name, "status": "ENGINE_RUNNING", "environment": "{}"} for name in "abc"]
    again = {**entries[1], "status": "ENGINE_FAILED"}
    history = History(Start(IDS, KEY))

    Player(
        document({"job_runs": entries[:2], "next_page_token": "x"}),
        document({"job_runs": [again, entries[2]], "next_page_token": ""}),
    ).play(history.look())

    assert (["a", "b", "c"], ["a", "c"]) == (ids(history), [run.id for run in history.active])


@pytest.mark.parametrize("number", [1, 2])
def test_too_large_pages_are_halved(number: int) -> None:
    """The list is read again from its first page, because a token belongs to its page size; all of it is seen."""
    paper = PaperJob()
    for entry in range(50):
        paper.add("succeeded", age=1000 - entry)
    paper.largest = 2500

    history = looked(paper, history_of(paper, of_dag_run(paper, 2000, try_number=number)))

    asked = [dict(request.query) for request in paper.player.requests]
    sizes = [int(query["page_size"]) for query in asked]
    assert sizes == sorted(sizes, reverse=True)
    assert [sizes[0] // 2**step for step in range(len(set(sizes)))] == list(dict.fromkeys(sizes))
    assert len(set(sizes)) > 1
    assert {""} == {query.get("page_token", "") for query in asked if int(query["page_size"]) > sizes[-1]}
    assert paper.executed[: len(ids(history))] == ids(history)
    assert len(ids(history)) >= (50 if number == 2 else FIRST_ENTRIES)


def test_an_entry_that_is_too_large_by_itself() -> None:
    """Then the list cannot be read."""
    paper = PaperJob()
    paper.add("succeeded")
    paper.largest = 10

    with pytest.raises(CmlResponseTooLargeError):
        looked(paper)


# ------------------------------------------------------------------------------------------------ outages


@pytest.mark.parametrize(
    ("before", "outage", "patience"),
    [
        *(("nothing", outage, UNREACHABLE_PATIENCE) for outage in (unsent(), html("Not Found", 404), Response(302))),
        *(("nothing", outage, OUTAGE_PATIENCE) for outage in (lost(), Response(503), html("Bad Gateway", 502))),
        *(("a look", outage, OUTAGE_PATIENCE) for outage in (unsent(), html("Not Found", 404), Response(503))),
        *(("a flow", outage, OUTAGE_PATIENCE) for outage in (unsent(), html("Not Found", 404), Response(503))),
    ],
)
def test_patience(before: str, outage: Outcome, patience: float) -> None:
    """A wrong address is told soon; where there is a workspace, or was one before, an outage is survived for long."""
    paper = PaperJob()
    history = history_of(paper, has_connected=before == "a flow")
    if before == "a look":
        looked(paper, history)
    began = paper.player.now
    paper.failing = [outage] * 500

    with pytest.raises(CmlUnavailableError):
        looked(paper, history)

    assert patience - 30 <= paper.player.now - began <= patience
    assert "CML could not be asked, which is tried again for" in paper.player.said


def test_a_failed_look_forgets_nothing() -> None:
    """What was seen stays seen, and the next look is a first look only if none succeeded."""
    paper = PaperJob()
    run_id = paper.add("running")
    history = looked(paper)
    paper.failing = [grpc_error(403, "no", 7)]

    with pytest.raises(Exception, match="403"):
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
    assert (SINGLE_LOOKS, True) == (len(history.keyed), history.shows_environments)


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
def test_a_later_try_and_lists_without_environments(counts: dict[str, int], singles: int, is_cut: bool) -> None:
    """Each run since its dag run is asked for; where they are too many it says so. Rejected starts are no runs."""
    paper = filled(**counts)
    paper.list_echoes = False

    history = looked(paper, history_since(paper))

    asked = [request for request in paper.player.asked if not request.endswith("/runs")]
    assert (singles, is_cut) == (len(asked), history.is_cut)


def test_a_workspace_that_shows_nothing_is_not_asked_for_all() -> None:
    """A few runs that show no environment when asked for are enough; what the others are stays unknown."""
    paper = filled(succeeded_since=40)
    paper.echoes = False

    history = looked(paper, history_since(paper))

    assert (1 + SINGLE_LOOKS, False, True) == (len(paper.player.requests), history.shows_environments, history.is_cut)


def test_a_list_that_shows_environments_shows_ours() -> None:
    """Runs that have none, started by hand say, are not taken for ours that are not shown; none is asked for."""
    paper = filled(succeeded_since=40)
    for run in paper.runs[1:]:
        run["environment"] = None

    history = looked(paper, history_since(paper))

    assert (1, False, []) == (len(paper.player.requests), history.is_cut, history.unreadable)


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
    history = looked(paper)
    if is_deep:
        paper.runs += filled(skipped_since=DEEPEST + 50).runs
        paper.runs.sort(key=lambda run: float(run["created"]), reverse=True)
    else:
        run_id = paper.add("running", KEY, age=1)
    answering, until = paper.player.script[0], paper.player.now + OUTAGE_PATIENCE / 2
    assert callable(answering)

    def away(request: Request) -> Outcome:
        return Response(503) if request.path.endswith(run_id) and paper.player.now < until else answering(request)

    paper.player.script = [away]

    assert run_id in [run.id for _, run in looked(paper, history).keyed]


def test_no_echo_anywhere() -> None:
    """Neither list nor run shows an environment: nothing can be found by key, and each run that ran may carry one."""
    paper = PaperJob()
    paper.echoes = False
    run_id = paper.add("succeeded", KEY)
    paper.add("skipped", KEY)

    history = looked(paper)

    assert ([], False, [run_id]) == (
        history.keyed,
        history.shows_environments,
        [run.id for run in history.unreadable],
    )


@pytest.mark.parametrize("list_echoes", [True, False])
def test_one_echo_is_enough(list_echoes: bool) -> None:
    """Where one run shows its environment, another one that shows none has none."""
    paper = PaperJob()
    paper.list_echoes = list_echoes
    paper.add_by_hand(age=10)
    before = looked(paper).unreadable
    paper.add("succeeded", age=20)

    history = looked(paper)

    assert (1, []) == (len(before), history.unreadable)
