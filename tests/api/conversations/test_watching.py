"""What somebody waits for, and how the wait ended: every ending is a value."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.waiting import POLL_PATIENCE, UNKNOWN_BOUND
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target, look, watch
from airflow_provider_cml.api.wire import Response
from tests.api.conversations.paper import EPOCH, IDS, KEY, PaperJob
from tests.api.playing import grpc_error, lost

TEXT = str(KEY.with_post("1.aaaa"))


def watched(paper: PaperJob, target: Target, **pace: Any) -> Outcome:
    return paper.player.play(watch(target, Pace(**pace)))


def moment(paper: PaperJob, seconds: float) -> Any:
    return EPOCH + timedelta(seconds=paper.player.now + seconds)


@pytest.mark.parametrize("by", ["id", "key", "since"])
@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped", "timedout"])
def test_the_end_of_a_run(by: str, status: str) -> None:
    """By id, by key, or the newest since a moment: the run is seen to its end."""
    paper = PaperJob()
    run_id = paper.add("running", KEY, age=5)
    paper.set(run_id, status, after=100)
    targets = {
        "id": Target(IDS, run_id=run_id),
        "key": Target(IDS, run_key=TEXT),
        "since": Target(IDS, since=moment(paper, -10)),
    }

    outcome = watched(paper, targets[by])

    assert (Ending.OVER, run_id, status) == (
        outcome.ending,
        outcome.run and outcome.run.id,
        outcome.run and outcome.run.status,
    )


@pytest.mark.parametrize("by", ["key", "since"])
def test_a_run_that_is_not_there_yet(by: str) -> None:
    """It is waited for, then waited for to its end; both are said."""
    paper = PaperJob()
    target = Target(IDS, run_key=TEXT) if by == "key" else Target(IDS, since=moment(paper, 1))
    paper.player.at(100, lambda: paper.add("running", KEY, age=0))
    paper.player.at(150, lambda: paper.set(paper.executed[0], "succeeded"))

    outcome = watched(paper, target, poll_interval=10.0)

    assert (Ending.OVER, True) == (outcome.ending, outcome.run is not None and outcome.run.status.is_success)
    assert f"Found {target}: run {paper.executed[0]}." in paper.player.said
    assert 1150 <= paper.player.now <= 1175


@pytest.mark.parametrize("there", [True, False])
def test_the_time_given(there: bool) -> None:
    """It covers both waits; the outcome carries the run as last seen, if there was one."""
    paper = PaperJob()
    if there:
        paper.player.at(40, lambda: paper.add("running", KEY, age=0))

    outcome = watched(paper, Target(IDS, run_key=TEXT), timeout=100.0, poll_interval=5.0)

    assert (Ending.TIMED_OUT, there) == (outcome.ending, outcome.run is not None)
    assert 1100 <= paper.player.now <= 1106


@pytest.mark.parametrize("poll_interval", [60.0, 300.0, 600.0])
@pytest.mark.parametrize("first_gap", [5.0, 7200.0])
@pytest.mark.parametrize("there", [True, False])
def test_nobody_oversleeps(there: bool, first_gap: float, poll_interval: float) -> None:
    """Whoever waits for the run to be there, or for its end, looks once more when the time is over, and not later."""
    paper = PaperJob()
    target = Target(IDS, run_id=paper.add()) if there else Target(IDS, run_key=TEXT)

    outcome = watched(paper, target, timeout=3600.0, poll_interval=poll_interval, first_gap=first_gap, age=9000.0)

    assert (Ending.TIMED_OUT, 4600.0) == (outcome.ending, paper.player.now)
    assert 4600.0 == paper.player.sent_at[-1]


@pytest.mark.parametrize(
    ("bad", "ending"),
    [
        (lost(), Ending.UNANSWERED),
        (Response(503), Ending.UNANSWERED),
        (grpc_error(404, "no", 5), Ending.REFUSED),
        (grpc_error(401, "no", 16), Ending.REFUSED),
    ],
)
@pytest.mark.parametrize("by", ["id", "key"])
def test_could_not_ask_and_refused_are_apart(bad: Any, ending: Ending, by: str) -> None:
    """Neither says anything about the run."""
    paper = PaperJob()
    run_id = paper.add("running", KEY)
    paper.failing = [bad] * 1000

    outcome = watched(paper, Target(IDS, run_id=run_id) if by == "id" else Target(IDS, run_key=TEXT))

    assert (ending, None, True) == (outcome.ending, outcome.run, bool(outcome.message))
    assert (ending is Ending.UNANSWERED) == (paper.player.now > 1000 + POLL_PATIENCE - 60)


def test_an_unknown_status() -> None:
    """An outcome of its own, with the run."""
    paper = PaperJob()
    run_id = paper.add("restarting")

    outcome = watched(paper, Target(IDS, run_id=run_id))

    assert (Ending.UNKNOWN_STATUS, run_id) == (outcome.ending, outcome.run and outcome.run.id)
    assert paper.player.now >= 1000 + UNKNOWN_BOUND


def test_a_first_gap() -> None:
    """Whoever has just looked pauses first."""
    paper = PaperJob()
    run_id = paper.add("succeeded")

    watched(paper, Target(IDS, run_id=run_id), first_gap=5.0)

    assert 5.0 == paper.player.pauses[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"run_id": "abc"}, "run abc"),
        ({"run_key": "v1;x"}, "the run with the key v1;x"),
        ({"since": EPOCH}, "a run created at or after 2026-11-21T00:00:00+00:00"),
    ],
)
def test_a_target_in_words(settings: dict[str, Any], words: str) -> None:
    """For the log and for messages."""
    assert words == str(Target(IDS, **settings))


def test_a_single_look() -> None:
    """What is there now, or None; a target that names nothing is never there, and asks nothing."""
    paper = PaperJob()
    run_id = paper.add("running", KEY)
    targets = [Target(IDS, run_id=run_id), Target(IDS, run_key=TEXT), Target(IDS, run_key="other"), Target(IDS)]

    found = [paper.player.play(look(target)) for target in targets]

    assert [run_id, run_id, None, None] == [run and run.id for run in found]
    assert 3 == len(paper.player.requests)
