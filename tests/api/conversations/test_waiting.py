"""Seeing a run to its end, or stopping it and seeing that, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.conversations.waiting import (
    AGE_SHARE,
    NEWEST,
    POLL_PATIENCE,
    SHORTEST_GAP,
    STILL_THERE,
    STOP_PATIENCE,
    UNKNOWN_BOUND,
    Wait,
    gap_after,
    look_for_doubles,
    stop_and_confirm,
    stop_in_passing,
    wait_for_job_run,
)
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlNotFoundError,
    CmlServerError,
    CmlUnauthorizedError,
    CmlUnavailableError,
    CmlUnknownStatusError,
    CmlWaitTimeoutError,
)
from airflow_provider_cml.api.models import JobRun
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Request, Response
from tests.api.conversations.paper import IDS, KEY, PaperJob, try_number
from tests.api.playing import Outcome, document, grpc_error, html, lost, unsent

BAD_POLLS = [
    pytest.param(Response(429), id="429"),
    pytest.param(document({}, 429, {"retry-after": "3"}), id="429 with Retry-After"),
    pytest.param(Response(500), id="500"),
    pytest.param(html("Bad Gateway", 502), id="502 with a page"),
    pytest.param(Response(503), id="503"),
    pytest.param(Response(504), id="504"),
    pytest.param(html("Sign in"), id="200 with a page"),
    pytest.param(Response(302), id="302"),
    pytest.param(Response(200, {}, b'{"id": "x"'), id="cut JSON"),
    pytest.param(Response(200), id="empty"),
    pytest.param(document({"status": "ENGINE_SUCCEEDED"}), id="a run without an id"),
    pytest.param(document([]), id="a list"),
    pytest.param(lost(), id="lost"),
    pytest.param(unsent(), id="unsent"),
]


def wait(paper: PaperJob, run_id: str, **settings: Any) -> JobRun:
    return paper.player.play(wait_for_job_run(Wait(IDS, run_id, **settings)))


# ------------------------------------------------------------------------------------------------ gaps


@given(age=st.floats(0, 1e7), interval=st.floats(0, 3600))
def test_gap_law(age: float, interval: float) -> None:
    """A tenth of the run's age, at least a second, at most the poll interval, jittered by a fifth downward."""
    whole = min(max(age * AGE_SHARE, SHORTEST_GAP), max(interval, SHORTEST_GAP))

    gap = gap_after(age, interval)

    assert 0.8 * whole <= gap <= whole


def test_gaps_are_jittered() -> None:
    """A restarted triggerer resumes ten thousand waits at once; they do not knock at once."""
    gaps = {gap_after(1000, 30) for _ in range(50)}

    assert len(gaps) > 40


def test_gaps_grow_with_the_age() -> None:
    """A young run is looked at every second, an old one every poll interval."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, "succeeded", after=2000)

    wait(paper, run_id, poll_interval=30.0)

    assert 0.8 <= paper.player.pauses[0] <= 1.0
    assert [] == [gap for gap in paper.player.pauses[-20:] if not 24 <= gap <= 30]
    assert len(paper.player.requests) < 130


def test_an_old_run_is_not_young_again() -> None:
    """The age a resumed wait is told counts."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, "succeeded", after=100)

    wait(paper, run_id, poll_interval=30.0, age=10_000.0)

    assert [] == [gap for gap in paper.player.pauses if not 24 <= gap <= 30]


def test_first_gap() -> None:
    """A wait that has just looked pauses before it looks again."""
    paper = PaperJob()
    run_id = paper.add("succeeded")

    wait(paper, run_id, first_gap=7.0)

    assert ([7.0], [1007.0]) == (paper.player.pauses, paper.player.sent_at)


# ------------------------------------------------------------------------------------------------ endings


@pytest.mark.parametrize("status", ["succeeded", "failed", "timedout", "stopped", "skipped"])
def test_every_ending_is_returned(status: str) -> None:
    """How a run ended is for the caller to judge; the wait saw its end."""
    paper = PaperJob()
    run_id = paper.add("scheduling")
    for seconds, word in ((10, "starting"), (20, "running"), (70, status)):
        paper.set(run_id, word, after=seconds)

    run = wait(paper, run_id)

    assert (status, run_id, True) == (run.status, run.id, 1070 <= paper.player.now <= 1080)


def test_notes_are_told_on_change() -> None:
    """One line per status, and one per ten minutes without a change."""
    paper = PaperJob()
    run_id = paper.add("scheduling")
    paper.set(run_id, "running", after=60)
    paper.set(run_id, "succeeded", after=60 + 2 * STILL_THERE + 100)

    wait(paper, run_id)

    assert [
        f"Run {run_id} is scheduling.",
        f"Run {run_id} is running.",
        f"Run {run_id} is still running.",
        f"Run {run_id} is still running.",
        f"Run {run_id} is succeeded.",
    ] == [note.text for note in paper.player.notes]


# ------------------------------------------------------------------------------------------------ timeout


@pytest.mark.parametrize("timeout", [0.0, 0.5, 100.0, 1000.0])
def test_timeout(timeout: float) -> None:
    """Kept to the second, with a look at its very end; the error carries the run as last seen."""
    paper = PaperJob()
    run_id = paper.add()

    with pytest.raises(CmlWaitTimeoutError, match=f"Run {run_id} was still running when") as caught:
        wait(paper, run_id, timeout=timeout)

    assert caught.value.run is not None
    assert run_id == caught.value.run.id
    assert paper.player.now == pytest.approx(1000 + timeout)
    assert paper.player.sent_at[-1] == pytest.approx(paper.player.now)


def test_an_end_at_the_last_moment_counts() -> None:
    """The look at the end of the time sees it."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, "succeeded", after=99.99)

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id, timeout=100.0).status


@pytest.mark.parametrize("timeout", [-5.0, 3.0])
def test_a_timeout_shorter_than_the_first_gap(timeout: float) -> None:
    """The first look is not later than the end of the time; there is always one."""
    paper = PaperJob()
    run_id = paper.add()

    with pytest.raises(CmlWaitTimeoutError):
        wait(paper, run_id, timeout=timeout, first_gap=60.0)

    assert (1, 1000 + max(timeout, 0)) == (len(paper.player.requests), paper.player.now)


# ------------------------------------------------------------------------------------------------ bad polls


@pytest.mark.parametrize("bad", BAD_POLLS)
def test_bad_polls_are_survived(bad: Outcome) -> None:
    """One after the other, for minutes: the run goes on, and so does the wait."""
    paper = PaperJob()
    run_id = paper.add()
    paper.failing = [bad] * 15
    paper.set(run_id, "succeeded", after=200)

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id).status


def test_all_kinds_of_bad_polls_in_a_row() -> None:
    """Each is "could not ask"; no mixture of them is a verdict about the run."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, "succeeded", after=100)
    paper.failing = [param.values[0] for param in BAD_POLLS]  # type: ignore[misc]

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id).status


def test_failures_are_forgotten_at_a_good_answer() -> None:
    """Ten minutes are ten minutes in a row: many short outages end nothing."""
    paper = PaperJob()
    run_id = paper.add()
    good = document({"id": run_id, "status": "ENGINE_RUNNING"})
    paper.failing = [*[*[Response(503)] * 15, good] * 10]
    paper.set(run_id, "succeeded", after=5000)

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id).status


@pytest.mark.parametrize("bad", [Response(503), lost(), html("Sign in"), unsent()])
def test_patience_has_an_end(bad: Outcome) -> None:
    """Ten minutes in a row end the wait, not the run: it gets no stop, and the error is no verdict."""
    paper = PaperJob()
    run_id = paper.add()
    paper.failing = [bad] * 10_000

    with pytest.raises(CmlUnavailableError):
        wait(paper, run_id)

    assert POLL_PATIENCE - 30 <= paper.player.now - 1000 <= POLL_PATIENCE
    assert ([], "running") == (paper.stopped, paper.run(run_id)["status"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [(grpc_error(404, "job run not found", 5), CmlNotFoundError), (grpc_error(401, "no", 16), CmlUnauthorizedError)],
)
def test_a_refusal_ends_the_wait_at_once(answer: Response, error: type[Exception]) -> None:
    """The run cannot be seen any more, and asking again would not help."""
    paper = PaperJob()
    run_id = paper.add()
    paper.failing = [Response(503), answer]

    with pytest.raises(error):
        wait(paper, run_id)

    assert 2 == len(paper.player.requests)


def answer_then(paper: PaperJob, bad: Outcome, begin: float, end: float) -> None:
    """Let every request fail between these moments."""
    answering = paper.player.script[0]

    def fail(request: Request) -> Outcome:
        assert callable(answering)
        return bad if begin <= paper.player.now - 1000 < end else answering(request)

    paper.player.script = [fail]


@pytest.mark.parametrize("bad", [Response(503), lost(), document({}, 429, {"retry-after": "60"})])
def test_failures_at_the_end_of_the_time(bad: Outcome) -> None:
    """The time given ends as such, at its end, not half a minute before as "could not ask"."""
    paper = PaperJob()
    run_id = paper.add()
    answer_then(paper, bad, 70, 1e9)

    with pytest.raises(CmlWaitTimeoutError) as caught:
        wait(paper, run_id, timeout=100.0)

    assert JobRunStatus.RUNNING == (caught.value.run and caught.value.run.status)
    assert paper.player.now == pytest.approx(1100)


def test_an_end_behind_failures_at_the_end_of_the_time() -> None:
    """The last look is made when the time is over, and may be the good one."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, "succeeded", after=80)
    answer_then(paper, Response(503), 70, 99)

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id, timeout=100.0).status


def test_failures_before_the_run_was_ever_seen() -> None:
    """A time that ends without a single good look ends as such too: a trigger's last good look was its worker's."""
    paper = PaperJob()
    paper.failing = [Response(503)] * 1000

    with pytest.raises(CmlWaitTimeoutError, match="Run unseen could not be looked at when") as caught:
        wait(paper, "unseen", timeout=100.0)

    assert caught.value.run is None
    assert paper.player.now == pytest.approx(1100)


def test_a_long_outage_beats_a_far_deadline() -> None:
    """Ten minutes in a row are the bound, however much time is left."""
    paper = PaperJob()
    run_id = paper.add()
    answer_then(paper, lost(), 100, 1e9)

    with pytest.raises(CmlConnectionError):
        wait(paper, run_id, timeout=5000.0)

    assert paper.player.now < 1100 + POLL_PATIENCE + 30


# ------------------------------------------------------------------------------------------------ unknown


@pytest.mark.parametrize("word", ["unknown", "restarting", ""])
def test_an_unknown_status_is_bounded(word: str) -> None:
    """Half an hour of a word nobody knows ends the wait, never green, and leaves the run alone."""
    paper = PaperJob()
    run_id = paper.add()
    paper.set(run_id, word, after=100)

    with pytest.raises(
        CmlUnknownStatusError, match="which says neither that it is active nor that it is over"
    ) as caught:
        wait(paper, run_id)

    assert UNKNOWN_BOUND + 100 <= paper.player.now - 1000 <= UNKNOWN_BOUND + 200
    assert (JobRunStatus.UNKNOWN, []) == (caught.value.run and caught.value.run.status, paper.stopped)
    assert f"(ENGINE_{word.upper()!r})".replace("ENGINE_'", "'ENGINE_") in str(caught.value)


def test_an_unknown_status_may_pass() -> None:
    """A word that is known again starts the bound anew."""
    paper = PaperJob()
    run_id = paper.add()
    for number in range(4):
        paper.set(run_id, "unknown", after=100 + number * 1800)
        paper.set(run_id, "running", after=100 + number * 1800 + 1700)
    paper.set(run_id, "succeeded", after=8000)

    assert JobRunStatus.SUCCEEDED is wait(paper, run_id).status


# ------------------------------------------------------------------------------------------------ stop_and_confirm


def stop(paper: PaperJob, run_id: str, **settings: Any) -> JobRun:
    return paper.player.play(stop_and_confirm(IDS, run_id, **settings))


@pytest.mark.parametrize("status", ["scheduling", "starting", "running", "unknown"])
def test_stop_and_confirm(status: str) -> None:
    """A look, one stop, and looks until it is over."""
    paper = PaperJob()
    run_id = paper.add(status)

    assert JobRunStatus.STOPPED is stop(paper, run_id).status
    assert [run_id] == paper.stopped
    assert ["GET", "POST"] == [request.method for request in paper.player.requests][:2]


@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped", "skipped"])
def test_what_is_over_is_not_stopped(status: str) -> None:
    """Already over is fine."""
    paper = PaperJob()
    run_id = paper.add(status)

    assert (status, []) == (stop(paper, run_id).status, paper.stopped)
    assert 1 == len(paper.player.requests)


def test_what_is_stopping_is_only_watched() -> None:
    """A second stop would only be an error."""
    paper = PaperJob()
    run_id = paper.add("stopping")
    paper.set(run_id, "stopped", after=20)

    assert (JobRunStatus.STOPPED, []) == (stop(paper, run_id).status, paper.stopped)


def test_a_stop_that_takes_too_long() -> None:
    """The run as last seen is returned: the caller says that it is still on its way."""
    paper = PaperJob()
    run_id = paper.add()
    paper.stop_takes = 10_000

    assert JobRunStatus.STOPPING is stop(paper, run_id).status
    assert STOP_PATIENCE <= paper.player.now - 1000 <= STOP_PATIENCE + 3


def stop_answering(paper: PaperJob, answer: Outcome, *, takes_effect: bool) -> None:
    """Let the answer to a stop be this, whether it took effect or not."""
    answering = paper.player.script[0]

    def answer_stop(request: Request) -> Outcome:
        assert callable(answering)
        if request.path.endswith(":stop"):
            if takes_effect:
                answering(request)
            return answer
        return answering(request)

    paper.player.script = [answer_stop]


@pytest.mark.parametrize("answer", [lost(), Response(503), html("Sign in"), Response(429)])
def test_a_lost_stop_is_looked_after(answer: Outcome) -> None:
    """It may have had its effect; the looks tell, and no second one is sent."""
    paper = PaperJob()
    run_id = paper.add()
    stop_answering(paper, answer, takes_effect=True)

    assert JobRunStatus.STOPPED is stop(paper, run_id).status
    assert (1, f"The answer to stopping run {run_id} was lost." in paper.player.said) == (len(paper.stopped), True)


def test_a_run_that_ended_before_its_stop_arrived() -> None:
    """CML refuses to stop what is over; how it ended is what counts."""
    paper = PaperJob()
    run_id = paper.add()
    stop_answering(paper, grpc_error(400, "job run is not active", 9), takes_effect=False)
    paper.set(run_id, "succeeded", after=1)

    assert JobRunStatus.SUCCEEDED is stop(paper, run_id).status
    assert "CML answered the stop" in paper.player.said


def test_a_stop_without_a_key_is_an_error() -> None:
    """With a bad key nothing can be confirmed."""
    paper = PaperJob()
    run_id = paper.add()
    stop_answering(paper, grpc_error(401, "no", 16), takes_effect=False)

    with pytest.raises(CmlUnauthorizedError):
        stop(paper, run_id)


# ------------------------------------------------------------------------------------------------ stop_in_passing


def pass_by(paper: PaperJob, run_id: str = "") -> None:
    paper.player.play(stop_in_passing(IDS, KEY, run_id, 3.0))


def test_stop_in_passing() -> None:
    """One look and one stop, not repeated; nothing is confirmed."""
    paper = PaperJob()
    run_id = paper.add()

    pass_by(paper, run_id)

    assert ([run_id], ["GET", "POST"]) == (paper.stopped, [request.method for request in paper.player.requests])
    assert [0, 0] == [request.patience for request in paper.player.requests]
    assert f"Run {run_id} was asked to stop and is stopping." == paper.player.said


@pytest.mark.parametrize("latency", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("is_known", [True, False])
def test_stop_in_passing_takes_three_seconds_in_all(latency: float, is_known: bool) -> None:
    """However slow the look was, the stop has its share of the time and ends within it.

    A transport allows a request its `read_timeout` to connect, and once more to be answered.
    """
    paper = PaperJob(latency=latency)
    run_id = paper.add("running", KEY)

    pass_by(paper, run_id if is_known else "")

    look, stop = (request.read_timeout or 1e9 for request in paper.player.requests)
    assert 2 * look <= 2.0
    assert 0.5 <= stop
    assert latency + 2 * stop <= 3.0


@pytest.mark.parametrize("status", ["stopping", "succeeded", "failed"])
def test_stop_in_passing_leaves_what_is_over(status: str) -> None:
    """A look, and no stop."""
    paper = PaperJob()
    run_id = paper.add(status)

    pass_by(paper, run_id)

    assert ([], 1) == (paper.stopped, len(paper.player.requests))


def test_stop_in_passing_by_key() -> None:
    """While the answer to the start is out, the run of this very try is looked for; nobody else's is stopped."""
    paper = PaperJob()
    mine = paper.add("running", KEY, age=50)
    paper.add("running", try_number(2), age=40)
    paper.add("running", None, age=30)
    paper.add("skipped", KEY, age=20)

    pass_by(paper)

    assert [mine] == paper.stopped
    assert str(NEWEST) == dict(paper.player.requests[0].query)["page_size"]


def test_stop_in_passing_finds_nothing() -> None:
    """Then a run may exist, and the log says how to find it."""
    paper = PaperJob()
    paper.add("running", None)

    pass_by(paper)

    assert ([], True) == (
        paper.stopped,
        f"A run may exist: look in CML for a run with AIRFLOW_RUN_KEY={KEY}" in paper.player.said,
    )


def test_stop_in_passing_is_not_repeated() -> None:
    """A kill has seconds: a failure ends it."""
    paper = PaperJob()
    run_id = paper.add()
    paper.failing = [Response(503)]

    with pytest.raises(CmlServerError):
        pass_by(paper, run_id)

    assert (1, []) == (len(paper.player.requests), paper.player.pauses)


# ------------------------------------------------------------------------------------------------ doubles


def test_an_active_double_is_stopped() -> None:
    """A start took effect after its time, beside ours: it is stopped, and told."""
    paper = PaperJob()
    mine = paper.add("succeeded", KEY, "2.bbbb", age=100)
    double = paper.add("running", KEY, "1.aaaa", age=50)

    paper.player.play(look_for_doubles(IDS, KEY, mine))

    assert ([double], f"Run {double} is a second run of this try" in paper.player.said) == (paper.stopped, True)
    assert all(note.warning for note in paper.player.notes)


@pytest.mark.parametrize("status", ["succeeded", "failed", "stopped", "stopping"])
def test_a_finished_double_is_told(status: str) -> None:
    """It cannot be undone."""
    paper = PaperJob()
    mine = paper.add("succeeded", KEY, "2.bbbb", age=100)
    paper.add(status, KEY, "1.aaaa", age=50)

    paper.player.play(look_for_doubles(IDS, KEY, mine))

    assert ([], True) == (paper.stopped, "The job has run twice for this task." in paper.player.said)


def test_a_copy_by_cmls_job_retry_is_left_alone() -> None:
    """It has the very key of our run: the log tells of it, and nothing is wrong."""
    paper = PaperJob()
    mine = paper.add("failed", KEY, "2.bbbb", age=100)
    copy = paper.add("running", KEY, "2.bbbb", age=50)

    paper.player.play(look_for_doubles(IDS, KEY.with_post("2.bbbb"), mine))

    (told,) = paper.player.notes
    assert ([], False) == (paper.stopped, told.warning)
    assert f"Run {copy} has the key of run {mine}" in told.text


def test_what_is_no_double() -> None:
    """Our own run, refusals, other tries, other tasks and strangers."""
    paper = PaperJob()
    mine = paper.add("running", KEY, "2.bbbb", age=100)
    paper.add("skipped", KEY, "1.aaaa")
    paper.add("running", try_number(2))
    paper.add("running", replace(KEY, map_index=3))
    paper.add("running", replace(KEY, loop_index=3))
    paper.add("running", replace(KEY, start=KEY.start - 1))
    paper.add("running", None)

    paper.player.play(look_for_doubles(IDS, KEY, mine))

    assert ([], []) == (paper.stopped, paper.player.notes)


@pytest.mark.parametrize("answer", [lost(), grpc_error(403, "no", 7)])
def test_a_double_that_cannot_be_stopped_is_told(answer: Outcome) -> None:
    """The task's own ending is not spoilt by it."""
    paper = PaperJob()
    double = paper.add("running", KEY, "1.aaaa")
    stop_answering(paper, answer, takes_effect=False)

    paper.player.play(look_for_doubles(IDS, KEY, "mine"))

    assert f"Run {double} could not be stopped." in paper.player.said
