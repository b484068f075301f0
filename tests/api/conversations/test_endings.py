"""Which runs of a job have ended since somebody last looked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_cml.api.conversations import endings
from airflow_provider_cml.api.conversations.endings import Cursor, CursorError, Endings, look_for_endings
from airflow_provider_cml.api.conversations.history import LISTED_WITHIN
from airflow_provider_cml.api.errors import CmlProtocolError, CmlServerError
from tests.api.conversations.paper import EPOCH, IDS, PaperJob
from tests.api.playing import Player, document, grpc_error


def looked(paper: PaperJob, cursor: Cursor | None = None) -> Endings:
    """One look; the cursor crosses JSON on its way, as it does between two processes."""
    if cursor is not None:
        cursor = Cursor.from_json(json.loads(json.dumps(cursor.to_json())))
    paper.player.requests.clear()
    return paper.player.play(look_for_endings(IDS, cursor))


def told(found: Endings) -> list[str]:
    return [run.id for run in found.runs]


def test_first_look_tells_nothing() -> None:
    """What is over when the watch begins is no news; what is active will be."""
    paper = PaperJob()
    paper.add("succeeded", age=300)
    active = paper.add("running", age=20)

    first = looked(paper)
    paper.set(active, "failed")
    second = looked(paper, first.cursor)

    assert ([], [active], []) == (told(first), told(second), told(looked(paper, second.cursor)))
    assert ["failed"] == [run.status for run in second.runs]


def test_first_run_of_a_job_is_news() -> None:
    """A job that had never run when the watch began."""
    paper = PaperJob()
    first = looked(paper)
    run = paper.add("succeeded", age=0)

    assert Cursor() == first.cursor
    assert [run] == told(looked(paper, first.cursor))


@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_all_that_ended_while_nobody_looked(page_size: int) -> None:
    """Sixty runs later: each is told, in the order of their ends, whatever the size of a page."""
    paper = PaperJob(page_size=page_size)
    paper.add("succeeded", age=9000)
    cursor = looked(paper).cursor
    those = [paper.add("succeeded", age=8000 - 100 * number) for number in range(60)]

    found = looked(paper, cursor)

    assert those == told(found)
    assert [] == told(looked(paper, found.cursor))
    assert len(paper.player.requests) == (2 if page_size == 1 else 1)


def test_run_that_went_deep_is_asked_for_alone() -> None:
    """An active run below two hundred refusals costs one request more, and so does its end."""
    paper = PaperJob()
    active = paper.add("running", age=50_000)
    cursor = looked(paper).cursor
    for number in range(200):
        paper.add("skipped", age=40_000 - 100 * number)
    cursor = looked(paper, cursor).cursor

    found = looked(paper, cursor)
    assert (f"/runs/{active}", 2) == (paper.player.requests[-1].path[-len(active) - 6 :], len(paper.player.requests))
    paper.set(active, "succeeded")
    assert ([], [active]) == (told(found), told(looked(paper, found.cursor)))


def test_first_look_finds_the_active_run_below_refusals() -> None:
    """However many starts CML has refused since."""
    paper = PaperJob()
    paper.add("succeeded", age=60_000)
    active = paper.add("running", age=50_000)
    for number in range(70):
        paper.add("skipped", age=40_000 - 100 * number)

    assert (active,) == looked(paper).cursor.active


def test_run_that_is_listed_late() -> None:
    """It stands below newer entries then, and is told all the same; what was told before is not told again."""
    paper = PaperJob()
    paper.add("succeeded", age=900)
    cursor = looked(paper).cursor
    newer = paper.add("succeeded", age=10)
    found = looked(paper, cursor)
    late = paper.add("succeeded", age=10 + LISTED_WITHIN.total_seconds() - 1)

    assert ([newer], [late]) == (told(found), told(looked(paper, found.cursor)))


def test_run_that_is_gone_is_said() -> None:
    """A run that was deleted before anybody saw its end is no event, and no reason to ask for it for ever."""
    paper = PaperJob()
    paper.add("running", age=5000)
    cursor = looked(paper).cursor
    paper.runs.clear()

    found = looked(paper, cursor)

    assert ([], ()) == (told(found), found.cursor.active)
    assert "is gone from CML" in paper.player.said
    assert len(looked(paper, found.cursor).runs) + len(paper.player.requests) == 1


def test_look_that_fails_moves_nothing() -> None:
    """A failure is thrown; the next look from the same cursor tells what this one did not."""
    paper = PaperJob()
    active = paper.add("running", age=20)
    cursor = looked(paper).cursor
    paper.set(active, "succeeded")
    paper.failing = [grpc_error(500, "down")] * 50

    with pytest.raises(CmlServerError):
        looked(paper, cursor)
    paper.failing = []
    assert [active] == told(looked(paper, cursor))


def test_list_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time nobody can read through, the oldest are left out, and that is said."""
    monkeypatch.setattr(endings, "DEEPEST", 50)
    paper = PaperJob()
    cursor = looked(paper).cursor
    for number in range(120):
        paper.add("succeeded", age=50_000 - 100 * number)

    assert len(looked(paper, cursor).runs) == 50
    assert "older ones are left out" in paper.player.said


def test_pages_that_repeat_are_no_answer() -> None:
    """A list that would never end is an error, not an ending."""
    player = Player(lambda _: document({"job_runs": [], "next_page_token": "again"}))

    with pytest.raises(CmlProtocolError, match="repeat"):
        player.play(look_for_endings(IDS, Cursor()))


def test_run_without_a_date_is_told_once() -> None:
    """CML dates every run; one that came without is not lost for that."""

    def answer(_: object) -> Any:
        return document({"job_runs": [{"id": "undated", "status": "ENGINE_SUCCEEDED"}]})

    first = Player(answer).play(look_for_endings(IDS, Cursor(floor=EPOCH)))
    second = Player(answer).play(look_for_endings(IDS, first.cursor))

    assert (["undated"], []) == (told(first), told(second))


@pytest.mark.parametrize(
    "fields", [None, "text", {}, {"floor": None, "active": 3, "over": {}}, {"floor": "x", "active": [], "over": {}}]
)
def test_cursor_is_read_strictly(fields: object) -> None:
    """What is not a whole cursor is an error: a guess would tell twice, or not at all."""
    with pytest.raises(CursorError, match="cannot be read"):
        Cursor.from_json(fields)


def test_cursor_stays_small() -> None:
    """A year of hourly runs leaves no more in it than the last minutes do."""
    paper = PaperJob()
    cursor = looked(paper).cursor
    for number in range(24 * 30):
        paper.add("succeeded", age=3600.0 * (24 * 30 - number))
    found = looked(paper, cursor)

    assert len(found.runs) == 24 * 30
    assert len(json.dumps(found.cursor.to_json())) < 200


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(1, 400)),
    st.tuples(st.just("start"), st.sampled_from(["succeeded", "failed", "stopped"]), st.floats(0, 300)),
    st.tuples(st.just("refuse"), st.integers(1, 40)),
    st.tuples(st.just("look"), st.booleans()),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40), st.sampled_from([2, 25, 100]))
def test_each_ending_is_told_once(steps: list[tuple[Any, ...]], page_size: int) -> None:
    """Whatever happens between the looks, and however often a watcher dies before it could keep what it had told."""
    paper = PaperJob(page_size=page_size)
    paper.add("succeeded", age=100)
    cursor = looked(paper).cursor
    started: list[str] = []
    heard: list[str] = []
    for step in steps:
        match step:
            case ("wait", seconds):
                paper.player._pass(seconds)
            case ("start", ending, seconds):
                if all(run["status"] != "running" for run in paper.runs):
                    started.append(paper.add("running", age=0))
                    paper.set(started[-1], ending, after=seconds)
            case ("refuse", count):
                for _ in range(count):
                    paper.add("skipped", age=0)
            case ("look", is_kept):
                found = looked(paper, cursor)
                if is_kept:
                    heard += [run.id for run in found.runs if run.status.is_executed]
                    cursor = found.cursor
    paper.player._pass(1000)
    heard += [run.id for run in looked(paper, cursor).runs if run.status.is_executed]

    assert sorted(started) == sorted(heard)


def test_order_is_that_of_the_ends() -> None:
    """By the moment of the end where CML gives it, not by that of the start."""

    def entry(name: str, created: float, finished: float) -> dict[str, str]:
        moments = {"created_at": created, "finished_at": finished}
        return {"id": name, "status": "ENGINE_SUCCEEDED"} | {
            field: (datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=moment)).isoformat()
            for field, moment in moments.items()
        }

    answer = document({"job_runs": [entry("retry", 20, 30), entry("long", 10, 90), entry("short", 0, 10)]})

    assert ["short", "retry", "long"] == told(Player(answer).play(look_for_endings(IDS, Cursor())))
